//! The one table of endpoints, and what a request's path, query and headers ask for.
//!
//! A format is decided by the path alone: Telegraf's `outputs.http` sends MessagePack as
//! `text/plain`. `schemas/http.md` describes every endpoint; a test holds the two together.

use std::borrow::Cow;

use hyper::Method;
use hyper::header::{self, HeaderMap, HeaderValue};

use crate::engine::{Format, Parameters as StreamParameters, Precision};
use crate::error::{ClientError, WriteError, cut};

/// Longest database name, in bytes.
pub const DATABASE_BYTES_MAX: usize = 255;

/// The database of a write that names none.
pub const DATABASE_DEFAULT: &str = "default";

/// What a path is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Endpoint {
    /// List, make and drop databases, as InfluxDB 3 does.
    Databases,
    /// Make everything accepted durable, published Parquet.
    Flush,
    /// Alive, with the version, as InfluxDB 2 answers it.
    Health,
    /// Counters for Prometheus.
    Metrics,
    /// What is going on, for people.
    Page,
    /// Alive, as InfluxDB 1 answers it.
    Ping,
    /// The statements of `InfluxQL` that clients need to start.
    Query,
    /// Ready to take writes.
    Ready,
    /// The last requests with refusals.
    Rejects,
    /// Databases, measurements and columns.
    Tables,
    /// Rows to take.
    Write(Dialect),
}

impl Endpoint {
    /// What the endpoint is to the sender of `headers`: QuestDB's clients write to InfluxDB 1's.
    pub(super) fn of_client(self, headers: &HeaderMap) -> Self {
        let agent = headers.get(header::USER_AGENT).map(HeaderValue::as_bytes);
        match self {
            Self::Write(Dialect::V1) if agent.is_some_and(|it| it.starts_with(b"questdb/")) => {
                Self::Write(Dialect::QuestDb)
            }
            _ => self,
        }
    }

    /// Whose errors are answered: those of a write, and InfluxDB 1's for its statements.
    pub(super) fn dialect(self) -> Option<Dialect> {
        match self {
            Self::Write(dialect) => Some(dialect),
            Self::Query => Some(Dialect::V1),
            _ => None,
        }
    }

    /// Whether it is answered to anybody. Of all others the sender is known before the body is
    /// read, and asked for a permission before anything is done.
    pub(super) fn is_public(self) -> bool {
        match self {
            Self::Health | Self::Metrics | Self::Page | Self::Ping | Self::Ready => true,
            Self::Databases
            | Self::Flush
            | Self::Query
            | Self::Rejects
            | Self::Tables
            | Self::Write(_) => false,
        }
    }
}

/// Whose write endpoint it is: the format of the body and the shape of the answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Dialect {
    /// The Arrow endpoint, which answers like Arc's.
    Arrow,
    /// JSON, answered as Arc answers.
    Json,
    /// Arc's line-protocol endpoints.
    ArcLineProtocol,
    /// Arc's MessagePack endpoints.
    ArcMessagePack,
    /// QuestDB, to which InfluxDB 1's endpoint turns when the client says that it is QuestDB's.
    QuestDb,
    /// InfluxDB 1.
    V1,
    /// InfluxDB 2.
    V2,
    /// InfluxDB 3.
    V3,
}

impl Dialect {
    /// Whether its endpoints are Arc's, or answer as they do.
    pub(super) fn is_arc(self) -> bool {
        match self {
            Self::Arrow | Self::ArcLineProtocol | Self::ArcMessagePack | Self::Json => true,
            Self::QuestDb | Self::V1 | Self::V2 | Self::V3 => false,
        }
    }

    /// The wire format of the bodies.
    pub fn format(self) -> Format {
        match self {
            Self::Arrow => Format::Arrow,
            Self::Json => Format::Json,
            Self::ArcMessagePack => Format::MessagePack,
            Self::QuestDb => Format::QuestDb,
            Self::ArcLineProtocol | Self::V1 | Self::V2 | Self::V3 => Format::LineProtocol,
        }
    }

    /// The unit of timestamps when the request names none.
    fn precision_default(self) -> Precision {
        match self {
            Self::ArcLineProtocol | Self::QuestDb | Self::V1 | Self::V2 => Precision::Nanosecond,
            Self::Arrow | Self::Json | Self::ArcMessagePack | Self::V3 => Precision::Auto,
        }
    }
}

/// One line of the table. `HEAD` is allowed where `GET` is, `OPTIONS` everywhere.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// Path without a trailing slash; a request may have one.
    pub path: &'static str,
    /// Methods, as the `Allow` header lists them.
    pub allow: &'static str,
    /// What the path is for.
    pub endpoint: Endpoint,
}

const fn route(path: &'static str, allow: &'static str, endpoint: Endpoint) -> Route {
    Route { path, allow, endpoint }
}

const fn write(path: &'static str, dialect: Dialect) -> Route {
    Route { path, allow: "POST, OPTIONS", endpoint: Endpoint::Write(dialect) }
}

/// Every endpoint.
pub const ROUTES: &[Route] = &[
    write("/write", Dialect::V1),
    write("/api/v2/write", Dialect::V2),
    write("/api/v3/write_lp", Dialect::V3),
    write("/api/v1/write", Dialect::ArcLineProtocol),
    write("/api/v1/write/influxdb", Dialect::ArcLineProtocol),
    write("/api/v1/write/line-protocol", Dialect::ArcLineProtocol),
    write("/api/v1/write/arrow", Dialect::Arrow),
    write("/api/v1/write/msgpack", Dialect::ArcMessagePack),
    write("/write/v2/msgpack", Dialect::ArcMessagePack),
    write("/api/v2/msgpack", Dialect::ArcMessagePack),
    write("/write/v1/msgpack", Dialect::ArcMessagePack),
    write("/api/v1/msgpack", Dialect::ArcMessagePack),
    write("/api/v1/write/json", Dialect::Json),
    route("/api/v1/flush", "POST, OPTIONS", Endpoint::Flush),
    route("/api/v1/tables", "GET, HEAD, OPTIONS", Endpoint::Tables),
    route("/api/v1/rejects", "GET, HEAD, OPTIONS", Endpoint::Rejects),
    route("/api/v3/configure/database", "DELETE, GET, HEAD, POST, OPTIONS", Endpoint::Databases),
    route("/", "GET, HEAD, OPTIONS", Endpoint::Page),
    route("/health", "GET, HEAD, OPTIONS", Endpoint::Health),
    route("/api/v1/health", "GET, HEAD, OPTIONS", Endpoint::Health),
    route("/ready", "GET, HEAD, OPTIONS", Endpoint::Ready),
    route("/ping", "GET, HEAD, POST, OPTIONS", Endpoint::Ping),
    route("/metrics", "GET, HEAD, OPTIONS", Endpoint::Metrics),
    route("/query", "GET, HEAD, POST, OPTIONS", Endpoint::Query),
];

/// What the table says about a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Match {
    /// An endpoint that takes the method.
    Endpoint {
        /// Its place in [`ROUTES`].
        at: usize,
        /// What the path is for.
        endpoint: Endpoint,
    },
    /// The path is known, the method is not one of `allow`.
    MethodNotAllowed {
        /// The place of the path in [`ROUTES`].
        at: usize,
        /// The methods, for the `Allow` header.
        allow: &'static str,
    },
    /// No such path.
    NotFound,
    /// A browser asking beforehand what it may send.
    Options,
}

impl Match {
    /// The place of the path in [`ROUTES`], if it has one.
    pub fn place(self) -> Option<usize> {
        match self {
            Self::Endpoint { at, .. } | Self::MethodNotAllowed { at, .. } => Some(at),
            Self::NotFound | Self::Options => None,
        }
    }
}

/// Looks a request up in [`ROUTES`].
pub fn find(method: &Method, path: &str) -> Match {
    if method == Method::OPTIONS {
        return Match::Options;
    }
    let path = path.strip_suffix('/').filter(|path| !path.is_empty()).unwrap_or(path);
    let found = ROUTES.iter().enumerate().find(|(_, route)| route.path == path);
    let Some((at, route)) = found else { return Match::NotFound };
    if route.allow.split(", ").any(|allowed| allowed == method.as_str()) {
        Match::Endpoint { at, endpoint: route.endpoint }
    } else {
        Match::MethodNotAllowed { at, allow: route.allow }
    }
}

/// Values of the parameters that endpoints read; others are ignored. The first value of a name
/// counts.
#[derive(Debug, Default)]
pub(super) struct Parameters<'a> {
    pub(super) accept_partial: Option<Cow<'a, str>>,
    pub(super) bucket: Option<Cow<'a, str>>,
    pub(super) db: Option<Cow<'a, str>>,
    pub(super) format: Option<Cow<'a, str>>,
    pub(super) measurement: Option<Cow<'a, str>>,
    pub(super) no_sync: Option<Cow<'a, str>>,
    pub(super) p: Option<Cow<'a, str>>,
    pub(super) precision: Option<Cow<'a, str>>,
    pub(super) q: Option<Cow<'a, str>>,
    pub(super) rp: Option<Cow<'a, str>>,
    pub(super) tags: Option<Cow<'a, str>>,
    pub(super) time: Option<Cow<'a, str>>,
    pub(super) verbose: Option<Cow<'a, str>>,
}

impl<'a> Parameters<'a> {
    /// Reads the query of a URL.
    pub(super) fn from_query(query: Option<&'a str>) -> Self {
        let mut parameters = Self::default();
        parameters.read(query.unwrap_or_default().as_bytes());
        parameters
    }

    /// Adds what a query or a form holds; a name that has a value keeps it.
    pub(super) fn read(&mut self, encoded: &'a [u8]) {
        for (name, value) in form_urlencoded::parse(encoded) {
            let place = match name.as_ref() {
                "accept_partial" => &mut self.accept_partial,
                "bucket" => &mut self.bucket,
                "db" => &mut self.db,
                "format" => &mut self.format,
                "measurement" => &mut self.measurement,
                "no_sync" => &mut self.no_sync,
                "p" => &mut self.p,
                "precision" => &mut self.precision,
                "q" => &mut self.q,
                "rp" => &mut self.rp,
                "tags" => &mut self.tags,
                "time" => &mut self.time,
                "verbose" => &mut self.verbose,
                _ => continue,
            };
            place.get_or_insert(value);
        }
    }

    /// The database a request names: header `x-arc-database`, else `db` (or `bucket`) and `rp`,
    /// else header `x-database`, for QuestDB's clients, which name none. `None` when it names none.
    ///
    /// # Errors
    /// [`ClientError::InvalidDatabase`].
    pub(super) fn database(&self, headers: &HeaderMap) -> Result<Option<String>, WriteError> {
        let name = match database_header(headers, "x-arc-database")? {
            Some(name) => Some(name),
            None => match self.db_and_rp() {
                Some(name) => Some(name),
                None => database_header(headers, "x-database")?,
            },
        };
        if let Some(name) = &name {
            check_database(name)?;
        }
        Ok(name)
    }

    /// `db` or `bucket`, with the retention policy behind a slash unless it is the default one.
    fn db_and_rp(&self) -> Option<String> {
        let given = |value: &'_ Option<Cow<'a, str>>| {
            value.as_deref().filter(|value| !value.is_empty()).map(str::to_owned)
        };
        if let Some(bucket) = given(&self.bucket) {
            return Some(match bucket.split_once('/') {
                Some((db, rp)) if is_default_policy(rp) && !db.is_empty() => db.to_owned(),
                _ => bucket,
            });
        }
        let db = given(&self.db)?;
        Some(match given(&self.rp) {
            Some(rp) if !is_default_policy(&rp) => format!("{db}/{rp}"),
            _ => db,
        })
    }
}

/// The name in a header; `None` when it is not there, or empty.
fn database_header(headers: &HeaderMap, name: &str) -> Result<Option<String>, WriteError> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let value = str::from_utf8(value.as_bytes()).map_err(|_| ClientError::InvalidDatabase)?;
    Ok((!value.is_empty()).then(|| value.to_owned()))
}

fn is_default_policy(rp: &str) -> bool {
    matches!(rp, "" | "autogen" | "default")
}

/// Says whether a database may have this name.
pub(super) fn check_database(name: &str) -> Result<(), WriteError> {
    let fits = (1..=DATABASE_BYTES_MAX).contains(&name.len());
    if fits && !name.contains(char::is_control) {
        Ok(())
    } else {
        Err(ClientError::InvalidDatabase.into())
    }
}

/// What a write asks for, besides its body.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) database: String,
    pub(super) precision: Precision,
    /// `accept_partial=false`: all rows or none.
    pub(super) atomic: bool,
    /// `no_sync=true`: answered before the rows are as durable as those of others.
    pub(super) no_sync: bool,
    /// What an Arrow stream is told about its columns; the parameters not given are empty.
    pub(super) measurement: String,
    pub(super) time: String,
    pub(super) tags: String,
}

impl Target {
    /// What an Arrow stream is told about its columns.
    pub(super) fn stream_parameters(&self) -> StreamParameters<'_> {
        let given = |value: &'_ str| !value.is_empty();
        StreamParameters {
            measurement: Some(&*self.measurement).filter(|it| given(it)),
            time: Some(&*self.time).filter(|it| given(it)),
            tags: &self.tags,
        }
    }

    /// Reads the parameters of a write.
    pub(super) fn new(
        dialect: Dialect,
        query: Option<&str>,
        headers: &HeaderMap,
    ) -> Result<Self, WriteError> {
        let parameters = Parameters::from_query(query);
        let database = parameters.database(headers)?;
        // Elsewhere they mean nothing, and are not kept.
        let of_arrow = |value: Option<Cow<'_, str>>| {
            let value = value.filter(|_| dialect == Dialect::Arrow);
            value.map(Cow::into_owned).unwrap_or_default()
        };
        Ok(Self {
            database: database.unwrap_or_else(|| DATABASE_DEFAULT.to_owned()),
            precision: precision(dialect, parameters.precision.as_deref())?,
            // A request of QuestDB's clients is one transaction.
            atomic: dialect == Dialect::QuestDb
                || !flag("accept_partial", parameters.accept_partial.as_deref(), true)?,
            no_sync: flag("no_sync", parameters.no_sync.as_deref(), false)?,
            measurement: of_arrow(parameters.measurement),
            time: of_arrow(parameters.time),
            tags: of_arrow(parameters.tags),
        })
    }
}

/// The union of what InfluxDB 1, 2 and 3 take, on every endpoint.
fn precision(dialect: Dialect, name: Option<&str>) -> Result<Precision, WriteError> {
    let name = name.unwrap_or_default();
    if name.is_empty() {
        return Ok(dialect.precision_default());
    }
    let expected = "one of n, ns, u, us, ms, s, m, h, auto";
    Precision::from_name(name).ok_or_else(|| invalid("precision", expected, name))
}

/// A parameter that is true or false; `absent` when it is not there.
fn flag(name: &'static str, value: Option<&str>, absent: bool) -> Result<bool, WriteError> {
    match value.unwrap_or_default() {
        "" => Ok(absent),
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        found => Err(invalid(name, "true or false", found)),
    }
}

/// The error of a parameter that has none of its values.
pub(super) fn invalid(name: &'static str, expected: &'static str, found: &str) -> WriteError {
    ClientError::InvalidParameter { name, expected, found: cut(found, 32).into() }.into()
}
