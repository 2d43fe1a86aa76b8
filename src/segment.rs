//! A segment: one immutable Parquet file of one measurement and one day, described.
//!
//! `persist` makes these, `publish` and the engine read them. How the file itself is laid out is
//! in `schemas/segment.md`.

use std::path::PathBuf;

use crate::schema::StoredType;

/// What is known of a published Parquet file without opening it.
#[derive(Clone, Debug, PartialEq)]
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
    /// When the file was last written, in milliseconds since 1970-01-01 UTC.
    pub modified_ms: i64,
    /// Smallest `time`, in microseconds since 1970-01-01 UTC.
    pub time_us_min: i64,
    /// Largest `time`, in microseconds since 1970-01-01 UTC; `time_us_min <= time_us_max`.
    pub time_us_max: i64,
    /// Its columns, in their order; `date`, which is not in the file, is not among them.
    pub columns: Vec<SegmentColumn>,
}

/// A column of a segment, and what its footer says about the values.
#[derive(Clone, Debug, PartialEq)]
pub struct SegmentColumn {
    /// Its name in the file.
    pub name: String,
    /// How it is written.
    pub stored: StoredType,
    /// Rows without a value.
    pub nulls: u64,
    /// A value that none is below; `None` where none is known.
    pub min: Option<Bound>,
    /// A value that none is above; `None` where none is known.
    pub max: Option<Bound>,
}

/// A bound of a column's values. Exact, but for strings beyond 64 bytes, which are cut.
#[derive(Clone, Debug, PartialEq)]
pub enum Bound {
    /// Of a DECIMAL(20,0).
    Decimal(i128),
    /// Of floats, none of which is NaN.
    F64(f64),
    /// Of integers.
    I64(i64),
    /// Of strings, in the order of their bytes.
    String(String),
    /// Microseconds since 1970-01-01 UTC.
    Time(i64),
}
