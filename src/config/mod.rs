//! Every setting of the server: one struct, read from options, the environment and a file, checked
//! once.
//!
//! An option wins over its environment variable, which wins over the file, which wins over the
//! default. The settings are listed with their defaults in `schemas/config.toml`; a test proves
//! that the two agree. Stages never see this struct: they are given the few numbers they need.

mod command_line;

mod machine;

mod network;

mod printed;

mod token;

mod value;

use std::error::Error;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

pub use clap_complete::Shell;
pub use command_line::{CommandLine, CommandLineError, Origin, Setting, to_toml};
pub use machine::{core_count, file_descriptors, memory_bytes};
pub use network::Network;
pub use printed::{completions, man};
pub use token::{CreateToken, ListTokens, RevokeToken, TokenCommand};
pub use value::{Automatic, ByteSize, ValueError, at_least, duration};

use crate::durability::Durability;
use crate::limits::Limits;
use crate::schema::Unsigned;
use crate::schema::pinned::Source;

/// What stands below the help that fits on a page.
const HELP_FOOT: &str = "Each setting is an option, a variable PERISTYLE_<KEY> and a key of the \
    file that --config names; the first wins.\n--help-all explains every setting, `peristyle \
    config` shows those in force.";

/// The command line, before a file is taken in; [`CommandLine`] is what there is to it.
#[derive(Debug, Parser)]
#[command(name = "peristyle", version, about, args_conflicts_with_subcommands = true)]
#[command(disable_help_flag = true, after_help = HELP_FOOT)]
pub struct Cli {
    /// Print the help that fits on a page
    #[arg(short = 'h', long = "help", action = ArgAction::HelpShort, global = true)]
    help: Option<bool>,
    /// Print all that there is to say of every setting
    #[arg(long, action = ArgAction::HelpLong, global = true)]
    help_all: Option<bool>,
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Config,
}

impl Cli {
    /// The command that was given; `peristyle` alone serves.
    pub fn into_command(self) -> Command {
        self.command.unwrap_or_else(|| Command::Serve(Box::new(self.serve)))
    }
}

/// What the binary can do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Run the server (what `peristyle` alone does)
    Serve(Box<Config>),
    /// Show the settings in force, and where each comes from
    ///
    /// Takes what `serve` takes, and prints a file that `--config` takes. Exit status: 0, or 2 when
    /// the server would not start with these settings.
    Config(Box<Config>),
    /// Print completions for a shell
    ///
    /// For bash: `peristyle completions bash > /etc/bash_completion.d/peristyle`.
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the man page
    Man,
    /// Say what a data directory holds, and whether it is consistent
    ///
    /// Changes nothing; a server may run on the directory meanwhile. Exit status: 0 consistent, 1
    /// inconsistent, 2 not to be read at all.
    Inspect(Inspect),
    /// Make, list and revoke access tokens
    ///
    /// A server that runs on the data directory knows of it at its next request. Where no token is
    /// defined, everybody may do everything.
    #[command(subcommand)]
    Token(TokenCommand),
}

/// The arguments of `peristyle inspect`.
#[derive(Args, Clone, Debug, Eq, PartialEq)]
pub struct Inspect {
    /// The data directory
    ///
    /// A path; default `./peristyle-data`, as for the server.
    #[arg(env = "PERISTYLE_DATA_DIR", value_name = "DIR", default_value = "./peristyle-data")]
    pub data_dir: PathBuf,

    /// Print JSON: one object, for machines
    #[arg(long)]
    pub json: bool,
}

/// The settings of `peristyle serve`.
///
/// Each says what it is, its unit, its default, its minimum, and why that default.
#[derive(Args, Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// File of settings
    ///
    /// A path to a file of TOML; default none: a first run needs nothing. Its keys are these
    /// options with `_` for `-`; an unknown one is an error. `schemas/config.toml` is one with
    /// every default.
    #[arg(long, env = "PERISTYLE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Directory that holds everything the server writes
    ///
    /// A path; default `./peristyle-data`, so that a first run needs no rights and leaves nothing
    /// elsewhere. Created when it does not exist.
    #[arg(long, env = "PERISTYLE_DATA_DIR", value_name = "DIR")]
    #[arg(default_value = "./peristyle-data")]
    pub data_dir: PathBuf,

    /// Address and port to listen on
    ///
    /// Default `127.0.0.1:8086`: the port that clients of InfluxDB try first, and loopback only,
    /// where a server without access tokens is safe. Port 0 takes a free one, which is printed.
    #[arg(long, env = "PERISTYLE_LISTEN", value_name = "ADDRESS:PORT", value_parser = listen)]
    #[arg(default_value = "127.0.0.1:8086")]
    pub listen: SocketAddr,

    /// Listen beyond loopback although there is no TLS
    ///
    /// `false` or `true`; default `false`: rows and tokens would pass in clear, and without tokens
    /// everybody may write. Say `true` behind a proxy that speaks TLS, or in a network to trust.
    #[arg(long, env = "PERISTYLE_INSECURE_HTTP", value_name = "BOOLEAN")]
    #[arg(default_value = "false", num_args = 0..=1, default_missing_value = "true")]
    #[arg(action = ArgAction::Set)]
    pub insecure_http: bool,

    /// What an acknowledged row has survived
    ///
    /// `fsync`: its record is synced to the disk, so that it survives the loss of power; `os`: the
    /// record is handed to the operating system, and survives the end of the process; `memory`:
    /// nothing, until the next flush. Default `fsync`: an acknowledgement should be worth having.
    #[arg(long, env = "PERISTYLE_DURABILITY", value_name = "LEVEL")]
    #[arg(default_value = "fsync", value_parser = durability)]
    pub durability: Durability,

    /// Size of a journal file
    ///
    /// Bytes; default `64MiB`, minimum `64KiB`, maximum `1GiB`. Files are written in advance and
    /// used again; a smaller one is given back sooner, a larger one is changed less often.
    #[arg(long, hide_short_help = true, env = "PERISTYLE_WAL_SEGMENT_BYTES", value_name = "BYTES")]
    #[arg(default_value = "64MiB", value_parser = wal_segment_bytes)]
    pub wal_segment_bytes: ByteSize,

    /// Start although the journal is corrupt, without the records that are
    ///
    /// `false` or `true`; default `false`: a server that finds acknowledged rows unreadable says
    /// where and does not start. With `true` it goes on with what can be read, and counts the rest.
    #[arg(long, hide_short_help = true, env = "PERISTYLE_WAL_SALVAGE", value_name = "BOOLEAN")]
    #[arg(default_value = "false", num_args = 0..=1, default_missing_value = "true")]
    #[arg(action = ArgAction::Set)]
    pub wal_salvage: bool,

    /// Requests that are answered, and not stored, when they come a second time
    ///
    /// `bodies`: the same bytes whose rows all carry their own time, and requests with the same
    /// `Idempotency-Key`; `keys`: only the latter; `off`: none. Default `bodies`: clients that saw
    /// no answer send again, and one hash of each body is what it costs to know.
    #[arg(long, hide_short_help = true, env = "PERISTYLE_RETRIES", value_name = "WHICH")]
    #[arg(default_value = "bodies")]
    pub retries: KnownRetries,

    /// How long such a request is known again
    ///
    /// A duration; default `5m`, minimum `1s`; at most the last 262144 requests. Longer than the
    /// clients of the field go on trying within one outage of the network.
    #[arg(long, hide_short_help = true, env = "PERISTYLE_RETRY_WINDOW", value_name = "DURATION")]
    #[arg(default_value = "5m", value_parser = retry_window)]
    pub retry_window: Duration,

    /// Longest time that an accepted row waits to be written
    ///
    /// A duration (`500ms`, `10s`, `1m30s`); default `10s`, minimum `100ms`. It bounds how old a
    /// reader's view is and how much a start has to replay; every flush adds at least one file for
    /// each measurement that got rows, which is why it is not shorter.
    #[arg(long, env = "PERISTYLE_FLUSH_INTERVAL", value_name = "DURATION")]
    #[arg(default_value = "10s", value_parser = flush_interval)]
    pub flush_interval: Duration,

    /// Unwritten column bytes, of all measurements together, that start a flush at once
    ///
    /// Bytes (`256MiB`, `1GB`); default `256MiB`, minimum `1MiB`. Large enough that a busy server
    /// writes files of tens of megabytes. A quarter of the memory limit where that is less.
    #[arg(long, hide_short_help = true, env = "PERISTYLE_FLUSH_BYTES", value_name = "BYTES")]
    #[arg(default_value = "256MiB", value_parser = flush_bytes)]
    pub flush_bytes: ByteSize,

    /// Memory for bodies in flight, unwritten columns and the writing of files
    ///
    /// Bytes, or `auto`: half of the physical memory or of the control group's limit, whichever is
    /// lower. Default `auto`, minimum `64MiB`. Beyond it requests are answered 503 with
    /// `Retry-After` until files are written. Half, because the allocator, the page cache and other
    /// processes need memory too.
    #[arg(long, env = "PERISTYLE_MEMORY_LIMIT", value_name = "BYTES")]
    #[arg(default_value = "auto", value_parser = memory_limit)]
    pub memory_limit: Automatic<ByteSize>,

    /// Largest request body as received, before it is inflated
    ///
    /// Bytes; default `32MiB`, minimum `1KiB`, at most half of the memory limit. Larger bodies are
    /// answered 413. The default is what peers take, and far above the 5,000 lines that clients
    /// send. Inflated, a body may have 128 MiB, or this if that is more.
    #[arg(long, env = "PERISTYLE_MAX_BODY_BYTES", value_name = "BYTES")]
    #[arg(default_value = "32MiB", value_parser = max_body_bytes)]
    pub max_body_bytes: ByteSize,

    /// Connections and how long they are waited for.
    #[command(flatten)]
    pub network: Network,

    /// Threads that receive and decode, each with columns of its own
    ///
    /// A number from 1 to 1024, or `auto`: one for each core this process may use. Default `auto`:
    /// fewer leave cores idle, more only cost memory. Each has one beside it for large bodies.
    #[arg(long, hide_short_help = true, env = "PERISTYLE_SHARDS", value_name = "COUNT")]
    #[arg(default_value = "auto", value_parser = shards)]
    pub shards: Automatic<usize>,

    /// Form of the log lines on standard error
    ///
    /// `text` for people, `json` for collectors; default `text`.
    #[arg(long, env = "PERISTYLE_LOG_FORMAT", value_name = "FORMAT")]
    #[arg(default_value = "text")]
    pub log_format: LogFormat,

    /// How long a request may take before the log tells of it
    ///
    /// A duration; default `1s`, minimum `1ms`. The line has the id that the answer carried. Longer
    /// than any healthy write takes, with its sync, and short enough to be felt by who waits.
    #[arg(long, hide_short_help = true, env = "PERISTYLE_SLOW_REQUEST", value_name = "DURATION")]
    #[arg(default_value = "1s", value_parser = slow_request)]
    pub slow_request: Duration,

    /// How unsigned integers are written; Delta and Spark have none
    ///
    /// `int64` rejects rows with values above 9223372036854775807, `decimal` writes DECIMAL(20,0).
    /// Default `int64`: every reader is faster with it, and such values are rare.
    #[arg(long, hide_short_help = true, env = "PERISTYLE_UNSIGNED", value_name = "FORM")]
    #[arg(default_value = "int64", value_parser = unsigned)]
    pub unsigned: Unsigned,

    /// Schemas that are pinned before the first row
    ///
    /// `none`, `shipped` (Telegraf's common inputs), or a directory of `*.json` files in the form
    /// of `schemas/measurements`. Default `none`: the first accepted value fixes a column's kind,
    /// and a pin would decide over it.
    #[arg(long, env = "PERISTYLE_SCHEMAS", value_name = "SOURCE")]
    #[arg(default_value = "none", value_parser = schemas)]
    pub schemas: Source,
}

/// Form of the log lines.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Which requests are known when they come again.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum KnownRetries {
    /// Bodies of rows with their own times, and requests with an `Idempotency-Key`.
    Bodies,
    /// Requests with an `Idempotency-Key`.
    Keys,
    /// None.
    Off,
}

const MEMORY_LIMIT_MIN: ByteSize = ByteSize::mib(64);

impl Config {
    /// Checks what no value shows alone.
    ///
    /// # Errors
    /// When the largest body could never be admitted, and when the server would be open to a
    /// network that nobody said to trust.
    pub fn check(&self) -> Result<(), ConfigError> {
        let memory_limit = ByteSize(self.memory_limit_bytes());
        if self.max_body_bytes.0 > memory_limit.0 / 2 {
            let max_body = self.max_body_bytes;
            return Err(ConfigError::BodyAboveMemory { max_body, memory_limit });
        }
        if self.is_exposed() && self.network.tls_cert.is_none() && !self.insecure_http {
            return Err(ConfigError::Exposed { listen: self.listen });
        }
        Ok(())
    }

    /// Whether more than this machine can reach the server.
    pub fn is_exposed(&self) -> bool {
        !self.listen.ip().to_canonical().is_loopback()
    }

    /// The memory budget, decided from the machine when it is `auto`.
    pub fn memory_limit_bytes(&self) -> usize {
        let half = || ByteSize(memory_bytes(Path::new("/")) / 2).max(MEMORY_LIMIT_MIN);
        self.memory_limit.unwrap_or_else(half).0
    }

    /// Unwritten bytes that start a flush: `flush_bytes`, or a quarter of the memory limit.
    pub fn flush_bytes_max(&self) -> usize {
        self.flush_bytes.0.min(self.memory_limit_bytes() / 4)
    }

    /// The number of shards, decided from the machine when it is `auto`.
    pub fn shard_count(&self) -> usize {
        self.shards.unwrap_or_else(core_count)
    }

    /// The bounds in force: the defaults, with those that settings move.
    pub fn limits(&self) -> Limits {
        let body_bytes_max = self.max_body_bytes.0;
        let inflated_bytes_max = Limits::DEFAULT.inflated_bytes_max.max(body_bytes_max);
        let inflated_bytes_max = inflated_bytes_max.min(self.memory_limit_bytes() / 2);
        Limits { body_bytes_max, inflated_bytes_max, ..Limits::DEFAULT }
    }
}

fn listen(text: &str) -> Result<SocketAddr, ValueError> {
    let wrong = |_| ValueError::expected("an address and a port such as 127.0.0.1:8086", text);
    text.parse().map_err(wrong)
}

fn retry_window(text: &str) -> Result<Duration, ValueError> {
    at_least(duration(text)?, &Duration::from_secs(1), "1s")
}

fn flush_interval(text: &str) -> Result<Duration, ValueError> {
    at_least(duration(text)?, &Duration::from_millis(100), "100ms")
}

fn slow_request(text: &str) -> Result<Duration, ValueError> {
    at_least(duration(text)?, &Duration::from_millis(1), "1ms")
}

fn durability(text: &str) -> Result<Durability, ValueError> {
    Durability::from_name(text).ok_or_else(|| ValueError::expected("fsync, os or memory", text))
}

fn wal_segment_bytes(text: &str) -> Result<ByteSize, ValueError> {
    let bytes = at_least(text.parse()?, &ByteSize(64 << 10), "64KiB")?;
    if bytes <= ByteSize::mib(1024) {
        Ok(bytes)
    } else {
        Err(ValueError::expected("at most 1GiB", text))
    }
}

fn flush_bytes(text: &str) -> Result<ByteSize, ValueError> {
    at_least(text.parse()?, &ByteSize::mib(1), "1MiB")
}

fn memory_limit(text: &str) -> Result<Automatic<ByteSize>, ValueError> {
    Automatic::read(text, |text| at_least(text.parse()?, &MEMORY_LIMIT_MIN, "64MiB"))
}

fn max_body_bytes(text: &str) -> Result<ByteSize, ValueError> {
    at_least(text.parse()?, &ByteSize(1024), "1KiB")
}

fn shards(text: &str) -> Result<Automatic<usize>, ValueError> {
    Automatic::read(text, |text| match text.parse() {
        Ok(count @ 1..=1024) => Ok(count),
        _ => Err(ValueError::expected("auto or a number from 1 to 1024", text)),
    })
}

#[expect(clippy::unnecessary_wraps, reason = "clap asks for a parser that may fail")]
fn schemas(text: &str) -> Result<Source, ValueError> {
    Ok(match text {
        "none" => Source::Nothing,
        "shipped" => Source::Shipped,
        path => Source::Directory(path.into()),
    })
}

fn unsigned(text: &str) -> Result<Unsigned, ValueError> {
    match text {
        "int64" => Ok(Unsigned::Int64),
        "decimal" => Ok(Unsigned::Decimal),
        _ => Err(ValueError::expected("int64 or decimal", text)),
    }
}

/// Settings that do not go together.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ConfigError {
    /// The largest body does not fit into half of the memory limit.
    BodyAboveMemory {
        /// `--max-body-bytes`.
        max_body: ByteSize,
        /// `--memory-limit`, or what it was decided to be.
        memory_limit: ByteSize,
    },
    /// An address beyond loopback, without TLS.
    Exposed {
        /// `--listen`.
        listen: SocketAddr,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BodyAboveMemory { max_body, memory_limit } => write!(
                f,
                "--max-body-bytes: expected at most half of --memory-limit ({memory_limit}), \
                 found {max_body}"
            ),
            Self::Exposed { listen } => write!(
                f,
                "--listen: expected an address of loopback, found {listen}: without TLS rows and \
                 tokens would pass in clear (give it a --tls-cert, or say --insecure-http)"
            ),
        }
    }
}

impl Error for ConfigError {}
