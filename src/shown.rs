//! What commands print that only tell: the settings, texts of the command line, what is wrong.

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use peristyle::config::{self, Config, Setting};

/// Exit status where the settings are at fault.
const USAGE: u8 = 2;

/// Prints the settings in force; the status tells whether the server would start with them.
pub(crate) fn settings(config: &Config, settings: &[Setting]) -> ExitCode {
    let shown = text(config::to_toml(config, settings).as_bytes());
    config.check().map_or_else(|error| refusal(&error), |()| shown)
}

/// Prints a text.
pub(crate) fn text(text: &[u8]) -> ExitCode {
    // Who closes the pipe has seen enough; the status is the same.
    let _ = io::stdout().lock().write_all(text);
    ExitCode::SUCCESS
}

/// Tells why nothing was done.
pub(crate) fn refusal(error: &dyn Error) -> ExitCode {
    // Nobody to tell is nobody to tell.
    let _ = writeln!(io::stderr(), "error: {error}");
    USAGE.into()
}
