//! The `peristyle` binary: settings and logging, then a command; everything else is in the library.

mod inspect;

mod serve;

mod shown;

mod supervised;

mod system;

mod tokens;

use std::io;
use std::process::ExitCode;

use peristyle::config::{self, Command, CommandLine, CommandLineError, LogFormat};
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::prelude::*;

fn main() -> ExitCode {
    let CommandLine { command, settings } = match CommandLine::read(std::env::args_os()) {
        Ok(read) => read,
        Err(CommandLineError::Usage(error)) => error.exit(),
        Err(error) => return shown::refusal(&error),
    };
    match command {
        Command::Config(config) => shown::settings(&config, &settings),
        Command::Completions { shell } => shown::text(&config::completions(shell)),
        Command::Man => {
            config::man().map_or_else(|error| shown::refusal(&error), |page| shown::text(&page))
        }
        Command::Inspect(arguments) => {
            log_to_stderr(LogFormat::Text);
            inspect::inspect(&arguments)
        }
        Command::Token(command) => {
            log_to_stderr(LogFormat::Text);
            tokens::run(&command)
        }
        Command::Serve(config) => {
            system::keep_free_memory();
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
