//! Why a request was not served; whose fault it is comes first.
//!
//! | variant  | whose fault             | what the client should do             |
//! |----------|-------------------------|---------------------------------------|
//! | `Client` | the sender of the body  | not send the same request again       |
//! | `Busy`   | nobody's: out of room   | send the same request again, later    |
//! | `Server` | ours                    | send the same request again, and tell |
//!
//! Rows that were refused one by one are not errors: they are in the report of the write. The
//! status codes are chosen in `accept::response` only.

use std::{fmt, io};

use crate::access::{Denied, Permission};

/// Why a request was not served.
#[derive(Debug)]
pub enum WriteError {
    /// The request cannot succeed, now or later.
    Client(ClientError),
    /// The request would succeed at another time.
    Busy(BusyReason),
    /// The request should have succeeded.
    Server(ServerError),
}

/// What is wrong with a request. No row of it was stored.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ClientError {
    /// The connection ended, or its framing broke, inside the body.
    BodyIncomplete,
    /// More than `limits.body_bytes_max` bytes on the wire.
    BodyTooLarge {
        /// The limit.
        max: usize,
    },
    /// The body is not what its encoding asks for.
    BrokenEncoding {
        /// `gzip`, `deflate` or `zstd`.
        encoding: &'static str,
        /// What broke.
        what: Broken,
        /// Offset of the first byte, in the body as received, that could not be used; of zstd
        /// where the frame begins that could not.
        byte: usize,
    },
    /// A database that is to be made and is there already.
    DatabaseExists {
        /// Its name.
        name: Box<str>,
    },
    /// No bytes where the endpoint asks for some.
    EmptyBody,
    /// More than `limits.inflated_bytes_max` bytes after inflation.
    InflatedTooLarge {
        /// The limit.
        max: usize,
    },
    /// A database name of no bytes, of too many, or with control characters.
    InvalidDatabase,
    /// A body that is not the JSON that the endpoint asks for.
    InvalidJson {
        /// What it asks for.
        expected: &'static str,
    },
    /// A parameter with a value that is not one of its values.
    InvalidParameter {
        /// Name of the parameter.
        name: &'static str,
        /// The values it takes.
        expected: &'static str,
        /// The value found, cut.
        found: Box<str>,
    },
    /// The sender may not do this.
    Forbidden {
        /// What its token would have to permit.
        permission: Permission,
        /// To which database; `None`: to all.
        database: Option<Box<str>>,
    },
    /// A parameter that is not there.
    MissingParameter {
        /// Name of the parameter.
        name: &'static str,
    },
    /// A body that grows more than `limits.inflate_ratio_max` or `limits.zstd_ratio_max` times.
    RatioTooLarge {
        /// The limit.
        max: usize,
    },
    /// `limits.databases_max` databases exist.
    TooManyDatabases {
        /// The limit.
        max: usize,
    },
    /// Nobody who may send requests.
    Unauthenticated(Denied),
    /// A database that does not exist where none is made.
    UnknownDatabase {
        /// Its name.
        name: Box<str>,
    },
    /// A `Content-Encoding` that is none of gzip, deflate, zstd and identity.
    UnsupportedEncoding {
        /// The encoding, cut.
        found: Box<str>,
    },
}

/// What broke in a compressed body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Broken {
    /// The checksum behind the data is not that of the data.
    Checksum,
    /// The compressed data themselves.
    Data,
    /// Bytes behind the last member or frame that begin no other.
    Garbage,
    /// The header.
    Header,
    /// The length behind the data is not that of the data.
    Length,
    /// The body ends too early.
    Truncated,
    /// A zstd window above `limits.zstd_window_log_max`.
    Window,
}

/// What there is too little of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BusyReason {
    /// The body did not arrive in time.
    BodyTimeout,
    /// The disk takes no more.
    DiskFull,
    /// The journal could not be written or synced: what was on its way may be stored or not, and
    /// the server stops.
    JournalFailed,
    /// Bodies in flight and rows not yet written fill the memory budget.
    MemoryFull {
        /// When there may be room again, in seconds: an estimate, at least 1.
        retry_after_s: u16,
    },
    /// The server is stopping.
    ShuttingDown,
}

/// What of ours failed.
#[derive(Debug)]
pub enum ServerError {
    /// Rows could not be written to files; they are kept and tried again.
    Flush {
        /// The first failure.
        cause: Box<str>,
    },
    /// A file or directory operation failed.
    Io {
        /// What was attempted.
        action: &'static str,
        /// How it failed.
        source: io::Error,
    },
    /// The journal could not be opened, written or synced.
    Journal {
        /// File, place and cause.
        cause: Box<str>,
    },
    /// What the journal or a Delta log holds cannot be brought back as it was.
    Recovery {
        /// What and why.
        cause: Box<str>,
    },
    /// A shard's thread has ended.
    ShardGone,
}

impl From<ClientError> for WriteError {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

impl From<BusyReason> for WriteError {
    fn from(reason: BusyReason) -> Self {
        Self::Busy(reason)
    }
}

impl From<ServerError> for WriteError {
    fn from(error: ServerError) -> Self {
        Self::Server(error)
    }
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(error) => error.fmt(f),
            Self::Busy(reason) => reason.fmt(f),
            Self::Server(error) => error.fmt(f),
        }
    }
}

impl fmt::Display for ClientError {
    /// Begins with `unable to parse` where the answer is a 400 to a write: Telegraf before 1.19
    /// sends a body again for ever unless it finds these words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BodyIncomplete => {
                f.write_str("unable to parse the request: the body ended before its end")
            }
            Self::BodyTooLarge { max } => {
                write!(f, "request entity too large: expected at most {max} bytes")
            }
            Self::BrokenEncoding { encoding, what, byte } => {
                write!(f, "unable to parse the {encoding} body: {what} at byte {byte}")
            }
            Self::DatabaseExists { name } => {
                write!(f, "database already exists: \"{}\"", name.escape_debug())
            }
            Self::EmptyBody => f.write_str("incoming write was empty"),
            Self::Forbidden { permission, database } => {
                write!(f, "forbidden: the token does not permit {} ", permission.name())?;
                match database {
                    Some(name) => write!(f, "for database \"{}\"", name.escape_debug()),
                    None => f.write_str("for all databases"),
                }
            }
            Self::InflatedTooLarge { max } => {
                write!(f, "request entity too large: expected at most {max} bytes when inflated")
            }
            Self::InvalidDatabase => f.write_str(
                "unable to parse the database name: expected 1 to 255 bytes of UTF-8 without \
                 control characters",
            ),
            Self::InvalidJson { expected } => {
                write!(f, "unable to parse the body: expected JSON like {expected}")
            }
            Self::InvalidParameter { name, expected, found } => write!(
                f,
                "unable to parse the parameter \"{name}\": expected {expected}, found \"{}\"",
                found.escape_debug()
            ),
            Self::MissingParameter { name } => {
                write!(f, "missing required parameter \"{name}\"")
            }
            Self::RatioTooLarge { max } => write!(
                f,
                "request entity too large: expected a body that grows at most {max} times when \
                 inflated"
            ),
            Self::TooManyDatabases { max } => {
                write!(f, "too many databases: expected at most {max}")
            }
            Self::Unauthenticated(_) => f.write_str("the request was not authenticated"),
            Self::UnknownDatabase { name } => {
                write!(f, "database not found: \"{}\"", name.escape_debug())
            }
            Self::UnsupportedEncoding { found } => write!(
                f,
                "unsupported content encoding: expected gzip, deflate, zstd or identity, found \
                 \"{}\"",
                found.escape_debug()
            ),
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Checksum => "wrong checksum",
            Self::Data => "broken data",
            Self::Garbage => "expected the end, found other bytes",
            Self::Header => "broken header",
            Self::Length => "wrong length",
            Self::Truncated => "unexpected end",
            Self::Window => "window too large",
        })
    }
}

impl fmt::Display for BusyReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BodyTimeout => "the body did not arrive in time",
            Self::DiskFull => "the disk is full: the server is read-only until there is room",
            Self::JournalFailed => "the journal failed: the rows may be stored or not",
            Self::MemoryFull { .. } => "the memory budget is used up: try again later",
            Self::ShuttingDown => "the server is shutting down",
        })
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flush { cause } => {
                write!(f, "rows could not be written to files and are kept: {cause}")
            }
            Self::Io { action, source } => write!(f, "{action} failed: {source}"),
            Self::Journal { cause } => write!(f, "the journal failed: {cause}"),
            Self::Recovery { cause } => write!(f, "recovery stopped: {cause}"),
            Self::ShardGone => f.write_str("a shard of the server has ended"),
        }
    }
}

impl std::error::Error for WriteError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Server(ServerError::Io { source, .. }) => Some(source),
            _ => None,
        }
    }
}

impl std::error::Error for ClientError {}

impl std::error::Error for ServerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// The longest beginning of `text` that is whole characters in at most `bytes_max` bytes.
pub fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}
