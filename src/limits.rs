//! Every bound of the engine in one place; reaching one is an answer, never a silent cut.
//!
//! A limit that a client can reach is tested one below, at, and one above (`tests/it/limits.rs`).

use std::time::Duration;

/// Bounds of bodies, names, values and tables. Bytes are bytes after inflation unless said.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Body as received, still compressed. Beyond: 413 before it is read further.
    pub body_bytes_max: usize,
    /// Body after inflation. Beyond: 413, and inflation stops at this byte.
    pub inflated_bytes_max: usize,
    /// Bytes to which any body may be inflated, whatever its ratio.
    pub inflate_free_bytes: usize,
    /// Inflated bytes for each byte received, by gzip and deflate. Beyond: 413.
    pub inflate_ratio_max: usize,
    /// Inflated bytes for each byte received, by zstd. Beyond: 413.
    pub zstd_ratio_max: usize,
    /// Largest zstd window a body may ask for, as a power of two.
    pub zstd_window_log_max: u32,
    /// Measurement name, column name or tag value.
    pub name_bytes_max: usize,
    /// One string field.
    pub string_bytes_max: usize,
    /// One line of line protocol, line feed not counted.
    pub line_bytes_max: usize,
    /// Columns of one measurement, `time` not counted.
    pub columns_per_table_max: usize,
    /// Measurements of one database.
    pub tables_per_database_max: usize,
    /// Days that the rows of one body may be of, the first of each measurement not counted: each
    /// day of each measurement becomes a file.
    pub days_per_body_max: usize,
    /// Databases of one server.
    pub databases_max: usize,
    /// Nesting of MessagePack containers, the outermost being 1.
    pub msgpack_depth_max: usize,
    /// Nesting of JSON arrays and objects that are read, the outermost of a document being 1.
    pub json_depth_max: usize,
    /// Brackets, commas, colons and quotes in one JSON document.
    pub json_marks_max: usize,
    /// Rejected rows that an answer describes; the others are counted.
    pub reported_errors_max: usize,
    /// Rejected rows that a shard keeps in `_rejected` in a second; the others are counted.
    pub rejected_per_second_max: usize,
    /// Series a table keeps in its cache; beyond it the cache starts afresh at the next chunk.
    pub series_per_table_max: usize,
    /// Bytes that the series of one table, and the raw keys of one database, may take on one shard;
    /// beyond it they start afresh.
    pub series_cache_bytes_max: usize,
    /// Rows after which the open chunk of a table is sealed, at the end of a body.
    pub rows_per_chunk: usize,
}

impl Limits {
    /// The defaults, with the peers' values beside them in `schemas/limits.md`.
    pub const DEFAULT: Self = Self {
        body_bytes_max: 32 << 20,
        inflated_bytes_max: 128 << 20,
        inflate_free_bytes: 4 << 20,
        inflate_ratio_max: 1_000,
        zstd_ratio_max: 4_000,
        zstd_window_log_max: 23,
        name_bytes_max: 64 << 10,
        string_bytes_max: 1 << 20,
        line_bytes_max: 4 << 20,
        columns_per_table_max: 4096,
        tables_per_database_max: 10_000,
        days_per_body_max: 1_000,
        databases_max: 1_000,
        msgpack_depth_max: 8,
        json_depth_max: 16,
        json_marks_max: 2 << 20,
        reported_errors_max: 100,
        rejected_per_second_max: 1_000,
        series_per_table_max: 1 << 20,
        series_cache_bytes_max: 64 << 20,
        rows_per_chunk: 64 << 10,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Bounds of connections and of what stands before a body. Bytes are bytes on the wire.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Connections of the server. Beyond: the one that has waited longest for its client gives way.
    pub connections_max: usize,
    /// Connections of one address; the /64 network in IPv6. Beyond: as above, among its own.
    pub connections_per_address_max: usize,
    /// Head of an HTTP/1 request. Beyond: 431, and the end of the connection.
    pub head_bytes_max: usize,
    /// Header fields of an HTTP/2 request, names and values with 32 bytes each. Beyond: 431.
    pub header_list_bytes_max: u32,
    /// Requests at once on one HTTP/2 connection. Beyond: the stream is refused.
    pub streams_max: u32,
    /// Streams that a client opened and reset and that were not looked at yet, and streams reset
    /// for a fault of the client. Beyond: the end of the connection.
    pub resets_max: usize,
}

impl ConnectionLimits {
    /// The defaults, with their reasons in `schemas/limits.md`.
    pub const DEFAULT: Self = Self {
        connections_max: 16_384,
        connections_per_address_max: 8_192,
        head_bytes_max: 64 << 10,
        header_list_bytes_max: 16 << 10,
        streams_max: 200,
        resets_max: 20,
    };
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// How long the server waits for clients.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For a TLS handshake. Beyond: the end of the connection.
    pub handshake: Duration,
    /// For the first request of a connection, the head of every request, and between two of them.
    /// Beyond: the end of the connection.
    pub head: Duration,
    /// For the next bytes of a body. Beyond: 503.
    pub body_idle: Duration,
    /// From then on a body must have arrived at `body_rate_min`.
    pub body_grace: Duration,
    /// Bytes a second, on average since the body began. Below: 503.
    pub body_rate_min: u32,
    /// For a whole body. Beyond: 503.
    pub body: Duration,
    /// For the client to take what was sent to it. Beyond: the end of the connection.
    pub answer: Duration,
    /// For requests in flight when the server stops.
    pub drain: Duration,
}

impl Timeouts {
    /// The defaults, with their reasons in `schemas/limits.md`.
    pub const DEFAULT: Self = Self {
        handshake: Duration::from_secs(10),
        head: Duration::from_secs(30),
        body_idle: Duration::from_secs(10),
        body_grace: Duration::from_secs(10),
        body_rate_min: 1 << 10,
        body: Duration::from_secs(300),
        answer: Duration::from_secs(30),
        drain: Duration::from_secs(30),
    };
}

impl Default for Timeouts {
    fn default() -> Self {
        Self::DEFAULT
    }
}
