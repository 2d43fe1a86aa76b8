//! Every bound of the engine in one place; reaching one is an answer, never a silent cut.
//!
//! A limit that a body can reach is tested one below, at, and one above (`tests/it/limits.rs`).

/// Bounds of bodies, names, values and tables. Bytes are bytes after inflation unless said.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Body as received, still compressed. Beyond: 413 before it is read further.
    pub body_bytes_max: usize,
    /// Body after inflation. Beyond: 413, and inflation stops at this byte.
    pub inflated_bytes_max: usize,
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
        zstd_window_log_max: 23,
        name_bytes_max: 64 << 10,
        string_bytes_max: 1 << 20,
        line_bytes_max: 4 << 20,
        columns_per_table_max: 4096,
        tables_per_database_max: 10_000,
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
