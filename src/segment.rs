//! A segment: one immutable Parquet file of one measurement and one day, described.
//!
//! `persist` makes these, `publish` and the engine read them. How the file itself is laid out is
//! in `schemas/segment.md`.

use std::path::PathBuf;

/// What is known of a published Parquet file without opening it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SegmentMeta {
    /// Relative to the data directory; its components are encoded names (`schemas/segment.md`).
    pub path: PathBuf,
    /// The database, as clients call it.
    pub database: String,
    /// The measurement, as clients call it.
    pub measurement: String,
    /// The day of all its rows in UTC, `YYYY-MM-DD`.
    pub date: String,
    /// Rows in the file, at least 1.
    pub rows: u64,
    /// Size of the file.
    pub bytes: u64,
    /// Smallest `time`, in microseconds since 1970-01-01 UTC.
    pub time_us_min: i64,
    /// Largest `time`, in microseconds since 1970-01-01 UTC; `time_us_min <= time_us_max`.
    pub time_us_max: i64,
}
