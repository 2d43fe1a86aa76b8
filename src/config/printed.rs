//! What the command line says of itself to shells and to `man`.

use std::io;

use clap::CommandFactory;
use clap_complete::Shell;

use super::Cli;

/// Completions for a shell.
pub fn completions(shell: Shell) -> Vec<u8> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), env!("CARGO_PKG_NAME"), &mut text);
    text
}

/// The man page: one for all commands, in roff.
///
/// # Errors
/// None: memory takes what is written.
pub fn man() -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut text)?;
    let mut commands = Cli::command();
    commands.build();
    for command in commands.get_subcommands_mut().filter(|it| it.get_name() != "help") {
        // What all commands share stands in the first part.
        if !["serve", "config"].contains(&command.get_name()) {
            let man = clap_mangen::Man::new(command.clone());
            man.render_name_section(&mut text)?;
            man.render_synopsis_section(&mut text)?;
            man.render_options_section(&mut text)?;
        }
    }
    Ok(text)
}
