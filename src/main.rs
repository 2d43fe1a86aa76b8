//! The `peristyle` binary: settings and logging, then a command; everything else is in the library.

mod serve;

use std::process::ExitCode;

use clap::Parser;
use peristyle::config::{Cli, Command, LogFormat};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let Command::Serve(config) = Cli::parse().into_command();
    log_to_stderr(config.log_format);
    match serve::serve(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn log_to_stderr(format: LogFormat) {
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr).with_target(false);
    match format {
        LogFormat::Json => log.json().init(),
        LogFormat::Text => log.with_ansi(false).init(),
    }
}
