//! The `peristyle` binary: settings and logging, then a command; everything else is in the library.

mod inspect;

mod serve;

mod tokens;

use std::io::{self, Write};
use std::process::ExitCode;

use peristyle::config::{self, Command, CommandLine, CommandLineError, Config, LogFormat, Setting};
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::prelude::*;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit status where the settings are at fault.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let CommandLine { command, settings } = match CommandLine::read(std::env::args_os()) {
        Ok(read) => read,
        Err(CommandLineError::Usage(error)) => error.exit(),
        Err(error) => return refuse(&error),
    };
    match command {
        Command::Config(config) => show(&config, &settings),
        Command::Inspect(arguments) => {
            log_to_stderr(LogFormat::Text);
            inspect::inspect(&arguments)
        }
        Command::Token(command) => {
            log_to_stderr(LogFormat::Text);
            tokens::run(&command)
        }
        Command::Serve(config) => {
            log_to_stderr(config.log_format);
            match serve::serve(&config) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    tracing::error!("{error}");
                    ExitCode::FAILURE
                }
            }
        }
    }
}

/// Prints the settings in force; the status tells whether the server would start with them.
fn show(config: &Config, settings: &[Setting]) -> ExitCode {
    // Who closes the pipe has seen enough; the status is the same.
    let _ = io::stdout().lock().write_all(config::to_toml(config, settings).as_bytes());
    match config.check() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(&error),
    }
}

fn refuse(error: &dyn std::error::Error) -> ExitCode {
    // Nobody to tell is nobody to tell.
    let _ = writeln!(io::stderr(), "error: {error}");
    USAGE.into()
}

fn log_to_stderr(format: LogFormat) {
    // The kernel tells of each commit.
    let levels = Targets::new().with_default(Level::INFO).with_target("delta_kernel", Level::WARN);
    let levels = levels.with_target("delta_kernel_default_engine", Level::WARN);
    let log = fmt::layer().with_writer(io::stderr).with_target(false);
    let log = match format {
        LogFormat::Json => log.json().boxed(),
        LogFormat::Text => log.with_ansi(false).boxed(),
    };
    tracing_subscriber::registry().with(log.with_filter(levels)).init();
}
