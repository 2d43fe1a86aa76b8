//! The `peristyle-load` binary: a load, a scenario or a comparison; everything is in the library.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use peristyle_load::compare::compare;
use peristyle_load::html::page;
use peristyle_load::measure::{Server, measure};
use peristyle_load::options::Options;
use peristyle_load::report::Report;
use peristyle_load::scenario;

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Standard error is where this was to go; there is nowhere else.
            let _ = writeln!(io::stderr(), "peristyle-load: {error}");
            ExitCode::from(2)
        }
    }
}

/// Does what the options say; whether it went well.
fn run(options: &Options) -> io::Result<bool> {
    if let Some([a, b]) = options.compare.as_deref() {
        write!(io::stdout(), "{}", compare(&read(a)?, &read(b)?))?;
        return Ok(true);
    }
    let report = if let Some(scenario) = options.scenario {
        scenario::run(scenario, options)?
    } else {
        let server = Server::of(options)?;
        let report = measure(options, &server)?;
        server.stop()?;
        report
    };
    write!(io::stdout(), "{report}")?;
    if let Some(file) = &options.json {
        fs::write(file, serde_json::to_string_pretty(&report)? + "\n")?;
    }
    if let Some(file) = &options.html {
        fs::write(file, page(&report))?;
    }
    Ok(report.is_clean())
}

fn read(file: &Path) -> io::Result<Report> {
    let text = fs::read_to_string(file)
        .map_err(|error| io::Error::other(format!("{}: {error}", file.display())))?;
    serde_json::from_str(&text)
        .map_err(|error| io::Error::other(format!("{}: {error}", file.display())))
}
