//! Where settings come from: options, the environment, a file, the defaults; the first wins.
//!
//! The command line is read twice. The first time tells which settings an option or a variable
//! gives; what the file says of the others becomes options of the second time, so that a value is
//! read and checked in one way wherever it stands.

use std::ffi::{OsStr, OsString};
use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};
use std::{fs, io};

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser};
use toml::de::{DeTable, DeValue};

use super::{ByteSize, Cli, Command, Config};

/// Arguments of `serve` that are no settings.
const OTHERS: [&str; 4] = ["config", "help", "help_all", "version"];
/// How alike two names must be for one to be suggested, from 0 to 1; clap's own bound.
const LIKENESS_MIN: f64 = 0.7;

/// What the command line asks for, with the file and the environment taken in.
#[derive(Clone, Debug)]
pub struct CommandLine {
    /// The command.
    pub command: Command,
    /// Of `serve` and `config`: every setting, in the order of the help.
    pub settings: Vec<Setting>,
}

/// A setting in force.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Setting {
    /// Its key in the file.
    pub name: String,
    /// Its value as it was given; `None` where it has none.
    pub value: Option<String>,
    /// Where the value comes from.
    pub origin: Origin,
}

/// Where the value of a setting comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Origin {
    /// Nobody gave one.
    Default,
    /// The variable of this name.
    Environment(String),
    /// The file `--config` names.
    File(PathBuf),
    /// An option.
    Option,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Environment(variable) => write!(f, "environment {variable}"),
            Self::File(path) => write!(f, "file {}", path.display().to_string().escape_debug()),
            Self::Option => f.write_str("option"),
        }
    }
}

impl CommandLine {
    /// Reads `arguments`, of which the first is the name of the program, the environment, and the
    /// file that either names.
    ///
    /// # Errors
    /// [`CommandLineError`].
    pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, CommandLineError> {
        let mut arguments: Vec<OsString> = arguments.into_iter().collect();
        let mut matches = Cli::command().try_get_matches_from(&arguments)?;
        // Options of the server stand behind its command, or behind the program's name.
        let at = match matches.subcommand_name() {
            Some("serve" | "config") => 2,
            Some(_) => return Self::of(&matches, &[], None),
            None => 1,
        };
        let path = of_server(&matches).get_one::<PathBuf>("config").cloned();
        let mut of_file = Vec::new();
        if let Some(path) = &path {
            let of_server = of_server(&matches);
            let is_open = |name: &str| {
                matches!(of_server.value_source(name), None | Some(ValueSource::DefaultValue))
            };
            of_file = read_file(path)?;
            of_file.retain(|(name, _)| is_open(name));
            let options = of_file.iter().map(|(name, value)| option(name, value).into());
            arguments.splice(at..at, options.collect::<Vec<OsString>>());
            matches = Cli::command().try_get_matches_from(&arguments)?;
        }
        Self::of(&matches, &of_file, path.as_deref())
    }

    fn of(
        matches: &ArgMatches,
        of_file: &[(String, String)],
        path: Option<&Path>,
    ) -> Result<Self, CommandLineError> {
        let command = Cli::from_arg_matches(matches)?.into_command();
        if !matches!(command, Command::Serve(_) | Command::Config(_)) {
            return Ok(Self { command, settings: Vec::new() });
        }
        let matches = of_server(matches);
        let setting = |(name, variable): (String, Option<String>)| {
            let origin = match (matches.value_source(&name), path) {
                (_, Some(path)) if of_file.iter().any(|(given, _)| *given == name) => {
                    Origin::File(path.to_owned())
                }
                (Some(ValueSource::CommandLine), _) => Origin::Option,
                (Some(ValueSource::EnvVariable), _) => {
                    Origin::Environment(variable.unwrap_or_default())
                }
                _ => Origin::Default,
            };
            let values = matches.get_raw(&name).into_iter().flatten();
            let values: Vec<_> = values.map(|value| value.to_string_lossy()).collect();
            let value = (!values.is_empty()).then(|| values.join(","));
            Setting { name, value, origin }
        };
        Ok(Self { command, settings: settings().into_iter().map(setting).collect() })
    }
}

/// The matches that hold the settings of the server.
fn of_server(matches: &ArgMatches) -> &ArgMatches {
    matches.subcommand().map_or(matches, |(_, matches)| matches)
}

/// The settings, in the order of the help, with their variables.
fn settings() -> Vec<(String, Option<String>)> {
    let command = Cli::command();
    let serve = command.find_subcommand("serve").unwrap_or(&command);
    let arguments = serve.get_arguments().filter(|it| !OTHERS.contains(&it.get_id().as_str()));
    let variable = |name: &OsStr| name.to_string_lossy().into_owned();
    arguments.map(|it| (it.get_id().to_string(), it.get_env().map(variable))).collect()
}

fn option(name: &str, value: &str) -> String {
    format!("--{}={value}", name.replace('_', "-"))
}

/// The settings of a file, each read by itself once: an error tells the line.
fn read_file(path: &Path) -> Result<Vec<(String, String)>, CommandLineError> {
    let unreadable = |source| CommandLineError::Unreadable { path: path.to_owned(), source };
    let text = fs::read_to_string(path).map_err(unreadable)?;
    let wrong = |byte: usize, cause: String| {
        let before = text.get(..byte).unwrap_or(&text);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        CommandLineError::File { path: path.to_owned(), line, cause: cause.into() }
    };
    let table = DeTable::parse(&text).map_err(|error| {
        wrong(error.span().map_or(0, |span| span.start), error.message().to_owned())
    })?;
    let known = settings();
    let mut found = Vec::new();
    for (key, value) in table.get_ref() {
        let name = key.get_ref().to_string();
        let at = key.span().start;
        if !known.iter().any(|(known, _)| *known == name) {
            return Err(wrong(at, unknown(&name, known.iter().map(|(known, _)| known.as_str()))));
        }
        let value = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(number) if number.radix() == 10 => number.as_str().to_owned(),
            DeValue::Boolean(value) => value.to_string(),
            other => {
                let found = other.type_str();
                let expected = "expected a string, a decimal integer or a boolean";
                return Err(wrong(at, format!("{name}: {expected}, found {found}")));
            }
        };
        if let Some(cause) = refusal(&name, &value) {
            return Err(wrong(at, format!("{name}: {cause}")));
        }
        found.push((name, value));
    }
    Ok(found)
}

/// Why a value is refused, if it is, by whoever reads the option.
fn refusal(name: &str, value: &str) -> Option<String> {
    let error = Cli::try_parse_from(["peristyle", &option(name, value)]).err()?;
    match error.kind() {
        // The cause is one of `ValueError`.
        ErrorKind::ValueValidation => std::error::Error::source(&error).map(ToString::to_string),
        ErrorKind::InvalidValue => {
            let text = error.to_string();
            Some(text.lines().take(2).map(str::trim).collect::<Vec<_>>().join(" "))
        }
        // What settings want of each other is seen when all of them are there.
        _ => None,
    }
}

/// What is said of a key that is none of `known`.
fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let likeness = |known: &&str| strsim::jaro(name, known);
    let nearest = known.max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    let name = name.escape_debug();
    match nearest.filter(|nearest| likeness(nearest) > LIKENESS_MIN) {
        Some(nearest) => format!("unknown key \"{name}\": did you mean \"{nearest}\"?"),
        None => format!("unknown key \"{name}\": `peristyle --help-all` has all of them"),
    }
}

/// The settings as a file, with the origin of each; what the machine decides stands beside it.
pub fn to_toml(config: &Config, settings: &[Setting]) -> String {
    let mut text = String::new();
    for Setting { name, value, origin } in settings {
        let line = match value {
            Some(value) => format!("{name} = {}", quoted(value)),
            None => format!("# {name} is not set"),
        };
        let decided = match (name.as_str(), value.as_deref()) {
            ("memory_limit", Some("auto")) => ByteSize(config.memory_limit_bytes()).to_string(),
            ("flush_bytes", _) if config.flush_bytes_max() != config.flush_bytes.0 => {
                ByteSize(config.flush_bytes_max()).to_string()
            }
            ("shards", Some("auto")) => config.shard_count().to_string(),
            _ => String::new(),
        };
        let decided = if decided.is_empty() { decided } else { format!(": {decided} here") };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{line:<40} # {origin}{decided}");
    }
    text
}

/// A basic string of TOML.
fn quoted(value: &str) -> String {
    let mut text = String::from("\"");
    for char in value.chars() {
        match char {
            '"' | '\\' => text.extend(['\\', char]),
            control if control.is_control() => {
                let _ = write!(text, "\\u{:04X}", u32::from(control));
            }
            char => text.push(char),
        }
    }
    text.push('"');
    text
}

/// Why the settings cannot be read.
#[derive(Debug)]
pub enum CommandLineError {
    /// An option or a variable; or what was asked for is a text, as `--help`.
    Usage(clap::Error),
    /// A line of the file.
    File {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong.
        cause: Box<str>,
    },
    /// The file itself.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl From<clap::Error> for CommandLineError {
    fn from(error: clap::Error) -> Self {
        Self::Usage(error)
    }
}

impl fmt::Display for CommandLineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(error) => error.fmt(f),
            Self::File { path, line, cause } => write!(f, "{}:{line}: {cause}", path.display()),
            Self::Unreadable { path, source } => {
                write!(f, "--config: cannot read {}: {source}", path.display())
            }
        }
    }
}

impl std::error::Error for CommandLineError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable { source, .. } => Some(source),
            Self::Usage(error) => Some(error),
            Self::File { .. } => None,
        }
    }
}
