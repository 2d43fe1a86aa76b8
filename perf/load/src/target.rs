//! The servers that can be loaded: where a body goes, with which headers.

use std::fmt::Write as _;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use clap::ValueEnum;

use crate::body::Body;
use crate::client::{Client, head};
use crate::compress::Encoding;
use crate::encode::Format;

/// A kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// This project's.
    Peristyle,
    /// `InfluxDB` 1, `/write`; its database is made at the start.
    Influxdb1,
    /// `InfluxDB` 2, `/api/v2/write`; its bucket exists.
    Influxdb2,
    /// `VictoriaMetrics`, `/write`.
    Victoriametrics,
    /// `QuestDB`, `/write`.
    Questdb,
    /// Arc.
    Arc,
}

/// A server.
#[derive(Clone, Debug)]
pub struct Target {
    /// What it is.
    pub kind: Kind,
    /// Where it listens.
    pub address: SocketAddr,
    /// Database or bucket.
    pub database: String,
    /// `InfluxDB` 2's organisation.
    pub organisation: String,
    /// What it asks for, if anything.
    pub token: Option<String>,
}

/// The address in a URL of HTTP, which has nothing else.
///
/// # Errors
/// When it has, or the name is unknown.
pub fn address(url: &str) -> io::Result<SocketAddr> {
    let rest = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
    let text = if rest.contains(':') { rest.to_owned() } else { format!("{rest}:80") };
    let mut found = text.to_socket_addrs()?;
    found.next().ok_or_else(|| io::Error::other(format!("expected an address, found {url}")))
}

impl Target {
    /// Path and parameters of a body, or none where the server does not take the format.
    fn path(&self, format: Format, body: &Body) -> Option<String> {
        let database = &self.database;
        let path = match (self.kind, format) {
            (Kind::Peristyle, Format::LineProtocol) => format!("/write?db={database}&precision=n"),
            (Kind::Influxdb1 | Kind::Victoriametrics, Format::LineProtocol) => {
                format!("/write?db={database}&precision=ns")
            }
            (Kind::Questdb, Format::LineProtocol) => "/write?precision=n".to_owned(),
            (Kind::Influxdb2, Format::LineProtocol) => {
                let organisation = &self.organisation;
                format!("/api/v2/write?bucket={database}&org={organisation}&precision=ns")
            }
            (Kind::Arc, Format::LineProtocol) => "/api/v1/write/line-protocol".to_owned(),
            (Kind::Arc, Format::MsgpackRows | Format::MsgpackColumns) => {
                "/api/v1/write/msgpack".to_owned()
            }
            (Kind::Peristyle, Format::MsgpackRows | Format::MsgpackColumns) => {
                format!("/api/v1/write/msgpack?db={database}")
            }
            (Kind::Peristyle, Format::Json) => format!("/api/v1/write/json?db={database}"),
            (Kind::Peristyle, Format::Arrow) => {
                let (measurement, tags) = body.about.as_ref()?;
                let tags = tags.join(",");
                format!("/api/v1/write/arrow?db={database}&measurement={measurement}&tags={tags}")
            }
            _ => return None,
        };
        Some(path)
    }

    /// The head of a request with a body; the same for all times of the body.
    ///
    /// # Errors
    /// When the server does not take the format.
    pub fn head(&self, format: Format, encoding: Encoding, body: &Body) -> io::Result<String> {
        let Some(path) = self.path(format, body) else {
            let kind = self.kind;
            return Err(io::Error::other(format!("{kind:?} does not take {format:?}")));
        };
        let mut headers = self.access();
        if self.kind == Kind::Arc {
            // Writing to a string does not fail.
            let _ = write!(headers, "x-arc-database: {}\r\n", self.database);
        }
        headers.push_str(match encoding {
            Encoding::Plain => "",
            Encoding::Gzip => "Content-Encoding: gzip\r\n",
            Encoding::Zstd => "Content-Encoding: zstd\r\n",
        });
        Ok(head("POST", &path, &headers, body.bytes.len()))
    }

    /// The header of the token, a whole line, or nothing.
    pub fn access(&self) -> String {
        let scheme = if self.kind == Kind::Influxdb2 { "Token" } else { "Bearer" };
        let line = |token: &String| format!("Authorization: {scheme} {token}\r\n");
        self.token.as_ref().map(line).unwrap_or_default()
    }

    /// What a server needs before the first body.
    ///
    /// # Errors
    /// When it does not answer, or refuses.
    pub fn prepare(&self) -> io::Result<()> {
        let mut client = Client::connect(self.address)?;
        if self.kind == Kind::Influxdb1 {
            let target = format!("/query?q=CREATE+DATABASE+%22{}%22", self.database);
            let answer = client.request("POST", &target, &self.access(), b"")?;
            if !answer.is_success() {
                return Err(io::Error::other(answer.describe()));
            }
        }
        Ok(())
    }
}
