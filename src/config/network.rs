//! The settings of connections: how many, and how long the server waits for them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::machine::file_descriptors;
use super::value::{Automatic, ByteSize, ValueError, at_least, duration};
use crate::limits::{ConnectionLimits, Timeouts};

/// Memory that a connection may take before its body is accounted for.
const CONNECTION_BYTES: usize = ConnectionLimits::DEFAULT.head_bytes_max;
/// Fewer connections than this are no server.
const CONNECTIONS_MIN: usize = 16;

/// What the server takes from whom, and how long it waits.
#[derive(Args, Clone, Debug, Eq, PartialEq)]
pub struct Network {
    /// Connections at once
    ///
    /// A number, or `auto`: 16384, or less where memory or file descriptors are short: a quarter of
    /// the memory limit at 64 KiB each, three quarters of the descriptors (`ulimit -n`). Default
    /// `auto`, minimum 16. Beyond it the connection that has waited longest for its client ends.
    #[arg(long, hide_short_help = true, env = "PERISTYLE_MAX_CONNECTIONS", value_name = "COUNT")]
    #[arg(default_value = "auto", value_parser = connections)]
    pub max_connections: Automatic<usize>,

    /// Connections at once from one address, or one /64 network of IPv6
    ///
    /// A number, or `auto`: half of `max-connections`, so that one address cannot take all and a
    /// proxy has enough. Default `auto`, minimum 1. Beyond it as above, among those of the address.
    #[arg(long, hide_short_help = true)]
    #[arg(env = "PERISTYLE_MAX_CONNECTIONS_PER_ADDRESS", value_name = "COUNT")]
    #[arg(default_value = "auto", value_parser = connections_per_address)]
    pub max_connections_per_address: Automatic<usize>,

    /// Certificate to speak TLS with, and those between it and its root
    ///
    /// A file in PEM; default none: no TLS. Needs `tls-key`. Read again for the next connection
    /// when it changes, and on SIGHUP; one that cannot be used changes nothing but the log.
    #[arg(long, env = "PERISTYLE_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// Private key of the certificate
    ///
    /// A file in PEM, as PKCS #8, PKCS #1 or SEC 1; default none. Read again like the certificate.
    #[arg(long, env = "PERISTYLE_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// Roots of the certificates that clients must have
    ///
    /// A file in PEM; default none: clients need no certificate. They need a token beside it. Read
    /// again like the certificate.
    #[arg(long, hide_short_help = true)]
    #[arg(env = "PERISTYLE_TLS_CLIENT_CA", value_name = "FILE", requires = "tls_cert")]
    pub tls_client_ca: Option<PathBuf>,

    /// Longest time for a TLS handshake
    ///
    /// A duration; default `10s`, minimum `1s`. Then the connection ends. Far longer than the few
    /// round trips that it takes.
    #[arg(long, hide_short_help = true)]
    #[arg(env = "PERISTYLE_HANDSHAKE_TIMEOUT", value_name = "DURATION")]
    #[arg(default_value = "10s", value_parser = timeout)]
    pub handshake_timeout: Duration,

    /// Longest wait for the head of a request, and for the next request of a connection
    ///
    /// A duration; default `30s`, minimum `1s`. Then the connection ends. Longer than the 10 s at
    /// which agents send, so that they keep their connections.
    #[arg(long, hide_short_help = true, env = "PERISTYLE_HEAD_TIMEOUT", value_name = "DURATION")]
    #[arg(default_value = "30s", value_parser = timeout)]
    pub head_timeout: Duration,

    /// Longest wait for the next bytes of a body
    ///
    /// A duration; default `10s`, minimum `1s`. Then the answer is 503: a client that stalls so
    /// long has most often gone, and its body takes memory.
    #[arg(long, hide_short_help = true)]
    #[arg(env = "PERISTYLE_BODY_IDLE_TIMEOUT", value_name = "DURATION")]
    #[arg(default_value = "10s", value_parser = timeout)]
    pub body_idle_timeout: Duration,

    /// Longest time for a whole body
    ///
    /// A duration; default `5m`, minimum `1s`. Then the answer is 503. Enough for the largest body
    /// over a line of 1 Mbit/s.
    #[arg(long, hide_short_help = true, env = "PERISTYLE_BODY_TIMEOUT", value_name = "DURATION")]
    #[arg(default_value = "5m", value_parser = timeout)]
    pub body_timeout: Duration,

    /// Bytes that a body must bring in a second, on average, after its first 10 seconds
    ///
    /// Bytes; default `1KiB`, minimum 1. Below it the answer is 503: a body sent byte by byte holds
    /// a connection and memory as a large one does.
    #[arg(long, hide_short_help = true, env = "PERISTYLE_MIN_BODY_RATE", value_name = "BYTES")]
    #[arg(default_value = "1KiB", value_parser = body_rate)]
    pub min_body_rate: ByteSize,
}

impl Network {
    /// The bounds in force, with `memory_limit` bytes for everything.
    pub fn limits(&self, memory_limit: usize) -> ConnectionLimits {
        let auto = || {
            let descriptors = file_descriptors(Path::new("/")).map_or(usize::MAX, |it| it / 4 * 3);
            let of_memory = memory_limit / 4 / CONNECTION_BYTES;
            let max = ConnectionLimits::DEFAULT.connections_max.min(of_memory).min(descriptors);
            max.max(CONNECTIONS_MIN)
        };
        let connections_max = self.max_connections.unwrap_or_else(auto);
        let of_address = self.max_connections_per_address.unwrap_or_else(|| connections_max / 2);
        ConnectionLimits {
            connections_max,
            connections_per_address_max: of_address,
            ..ConnectionLimits::DEFAULT
        }
    }

    /// The times in force.
    pub fn timeouts(&self) -> Timeouts {
        Timeouts {
            handshake: self.handshake_timeout,
            head: self.head_timeout,
            body_idle: self.body_idle_timeout,
            body: self.body_timeout,
            body_rate_min: u32::try_from(self.min_body_rate.0).unwrap_or(u32::MAX),
            ..Timeouts::DEFAULT
        }
    }
}

fn connections(text: &str) -> Result<Automatic<usize>, ValueError> {
    count(text, CONNECTIONS_MIN, "16")
}

fn connections_per_address(text: &str) -> Result<Automatic<usize>, ValueError> {
    count(text, 1, "1")
}

fn count(text: &str, min: usize, shown: &'static str) -> Result<Automatic<usize>, ValueError> {
    let wrong = |_| ValueError::expected("auto or a number of connections", text);
    Automatic::read(text, |text| at_least(text.parse().map_err(wrong)?, &min, shown))
}

fn timeout(text: &str) -> Result<Duration, ValueError> {
    at_least(duration(text)?, &Duration::from_secs(1), "1s")
}

fn body_rate(text: &str) -> Result<ByteSize, ValueError> {
    at_least(text.parse()?, &ByteSize(1), "1")
}
