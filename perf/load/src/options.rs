//! Options of the command.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::compress::Encoding;
use crate::encode::Format;
use crate::scenario::Scenario;
use crate::shape::{Grid, Shape};
use crate::target::Kind;

/// Loads a server that takes rows over HTTP, and says what came of it.
///
/// Ends with 0 when every request was acknowledged and, with --verify, every row is stored.
#[derive(Clone, Debug, Parser)]
#[command(name = "peristyle-load", version)]
pub struct Options {
    /// Where the server listens, as http://ADDRESS:PORT.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8086")]
    pub url: String,

    /// Which server it is.
    #[arg(long, value_enum, default_value = "peristyle")]
    pub target: Kind,

    /// Starts this `peristyle` binary for the run, on a new directory and a free port.
    #[arg(long, value_name = "BINARY", conflicts_with = "url")]
    pub serve: Option<PathBuf>,

    /// Where --serve makes its directory.
    #[arg(long, value_name = "DIR", default_value_os_t = std::env::temp_dir())]
    pub scratch: PathBuf,

    /// What --serve's server promises by an answer: fsync, os or memory.
    #[arg(long, value_name = "LEVEL", default_value = "fsync")]
    pub durability: String,

    /// A scenario by its name instead of a load of one's own; the options of the load are its own.
    #[arg(long, value_enum)]
    pub scenario: Option<Scenario>,

    /// What rows look like.
    #[arg(long, value_enum, default_value = "tsbs")]
    pub shape: Shape,

    /// Instead of a shape: so many measurements, series of one tag, and fields of integers.
    #[arg(long, value_name = "M,S,F", conflicts_with = "shape")]
    pub grid: Option<Grid>,

    /// How bodies are written.
    #[arg(long, value_enum, default_value = "line-protocol")]
    pub format: Format,

    /// How bodies are compressed.
    #[arg(long, value_enum, default_value = "plain")]
    pub encoding: Encoding,

    /// Rows of a body; else what suits the shape.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rows: Option<u32>,

    /// Bodies that differ. Each connection has its own share of them.
    #[arg(long, value_name = "N", default_value_t = 32)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub bodies: u32,

    /// Connections, each with a request at a time.
    #[arg(long, value_name = "N", default_value_t = 8)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub connections: u32,

    /// How long to send, in seconds.
    #[arg(long, value_name = "S", default_value_t = 10.0)]
    pub seconds: f64,

    /// Seconds of load before it, which do not count.
    #[arg(long, value_name = "S", default_value_t = 2.0)]
    pub warm_up: f64,

    /// Rows a second of all connections together; else as many as are taken. Latencies then count
    /// from when a request was due.
    #[arg(long, value_name = "ROWS")]
    pub rate: Option<f64>,

    /// Ends after so many requests of each connection instead of after a time.
    #[arg(long, value_name = "N")]
    pub requests: Option<u64>,

    /// The same seed makes the same rows.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,

    /// Database or bucket.
    #[arg(long, value_name = "NAME", default_value = "load")]
    pub database: String,

    /// Organisation, for `InfluxDB` 2.
    #[arg(long, value_name = "NAME", default_value = "load")]
    pub organisation: String,

    /// Access token.
    #[arg(long, value_name = "TOKEN", env = "PERISTYLE_LOAD_TOKEN", hide_env_values = true)]
    pub token: Option<String>,

    /// The server's process, for its CPU and memory; else whoever listens on the port.
    #[arg(long, value_name = "PID")]
    pub pid: Option<u32>,

    /// Counts afterwards whether every acknowledged row is stored (Peristyle only).
    #[arg(long)]
    pub verify: bool,

    /// Writes the report here, as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Writes the report here, as a page with plots.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,

    /// Shows nothing while it runs.
    #[arg(long)]
    pub quiet: bool,

    /// Sends nothing, and compares two reports.
    #[arg(long, value_names = ["A.json", "B.json"], num_args = 2)]
    pub compare: Option<Vec<PathBuf>>,
}

impl Options {
    /// What rows look like.
    pub fn shape(&self) -> Shape {
        self.grid.map_or(self.shape, Shape::Grid)
    }

    /// Rows of a body.
    pub fn rows_per_body(&self) -> usize {
        let rows = self.rows.and_then(|rows| usize::try_from(rows).ok());
        rows.unwrap_or_else(|| self.shape().rows_per_body())
    }

    /// What tells one load from another, by name.
    pub fn describe(&self) -> BTreeMap<String, String> {
        let name = |it: Option<clap::builder::PossibleValue>| {
            it.map_or_else(String::new, |it| it.get_name().to_owned())
        };
        let mut options: BTreeMap<String, String> = [
            ("target", name(self.target.to_possible_value())),
            ("shape", self.shape().to_string()),
            ("format", name(self.format.to_possible_value())),
            ("encoding", name(self.encoding.to_possible_value())),
            ("rows", self.rows_per_body().to_string()),
            ("bodies", self.bodies.to_string()),
            ("connections", self.connections.to_string()),
            ("warm_up", self.warm_up.to_string()),
            ("seed", self.seed.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        let mut add = |name: &str, value: Option<String>| {
            options.extend(value.map(|it| (name.to_owned(), it)));
        };
        add("rate", self.rate.map(|it| it.to_string()));
        add("requests", self.requests.map(|it| it.to_string()));
        add("seconds", self.requests.is_none().then(|| self.seconds.to_string()));
        add("durability", self.serve.is_some().then(|| self.durability.clone()));
        options
    }

    /// The load in a few words.
    pub fn title(&self) -> String {
        let options = self.describe();
        let word = |name: &str| options.get(name).cloned().unwrap_or_default();
        let rate = self.rate.map_or_else(|| "full speed".to_owned(), |it| format!("{it} rows/s"));
        format!(
            "{}: {} as {} {}, {} connections, {rate}",
            word("target"),
            word("shape"),
            word("encoding"),
            word("format"),
            self.connections
        )
    }
}
