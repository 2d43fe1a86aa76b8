//! Record batches to Parquet files.
//!
//! ```text
//! SegmentRequest -> partition     one order over all batches, cut at midnight UTC
//!                -> parquet_file  one file per day
//!                -> store         temporary names, synced, then visible together
//!                -> SegmentMeta   what the catalog needs
//! ```
//!
//! Where files are and what is in them is a contract with readers: `schemas/segment.md`.
//! Not here: when to flush (`engine`), how batches came to be (`gather`), the Delta log.
//! Everything blocks: callers are threads of their own, never a shard.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;

use arrow_array::RecordBatch;
use arrow_schema::{ArrowError, SchemaRef};
use parquet::errors::ParquetError;

use crate::disk;
use crate::segment::SegmentMeta;

pub mod layout;

pub mod parquet_file;

mod checksum;

mod columns;

mod dictionary;

mod footer;

mod hybrid;

mod inventory;

mod partition;

mod row_groups;

mod sort_key;

mod statistics;

mod tag_chunk;

pub mod store;

pub use checksum::METADATA_CRC32C;
pub use footer::{Footer, FooterColumn, is_intact};
pub use inventory::{FoundSegment, Inventory};
pub use store::Store;

/// Everything that one flush writes of one measurement.
#[derive(Clone, Debug)]
pub struct SegmentRequest {
    /// The database, as clients call it.
    pub database: String,
    /// The measurement, as clients call it.
    pub measurement: String,
    /// The columns of the measurement in their order, `time` among them.
    pub schema: SchemaRef,
    /// The rows, in order of arrival. The columns of each are some of `schema`'s, found by name,
    /// with the same type; `time` is in all of them and has no nulls.
    pub batches: Vec<RecordBatch>,
    /// The order of the rows in a file, by names of `schema`, each once; `["time"]` where nothing
    /// else is asked for. Columns without a single value are ignored. Rows of one key are in order
    /// of `time`.
    pub sort_key: Vec<String>,
    /// Whose sequences they are: 8 hex digits.
    pub instance: String,
    /// Names the files: no two requests to one data directory may share it, whatever the restarts.
    pub sequence: u64,
    /// Where the rows are in the journal: none is in a record before this one.
    pub journal: u64,
}

/// Writes the rows of `request`, sorted by its key, as one Parquet file for each day, and returns
/// what was written in order of days. No rows, no files.
///
/// When this returns, the files are on disk and visible. A row is in exactly one of them; rows of
/// one key and time keep the order of arrival. Columns without a single value are left out.
/// Cost: rows that arrive in order of time, and are wanted so, are encoded from where they are;
/// others are copied once, 16 Ki values of a column at a time, and need 40 bytes of memory a row
/// while they are sorted, then 16. A key other than time needs 8 bytes more and those of the key: 5
/// for a tag, 9 for a number, a little more than its length for a string.
///
/// # Errors
/// [`PersistError`]; then none of the files exists, and the call can be repeated.
pub fn write_segments(
    store: &Store,
    request: &SegmentRequest,
) -> Result<Vec<SegmentMeta>, PersistError> {
    let failed = |cause| PersistError {
        operation: Operation::Sort,
        path: layout::table_directory(&request.database, &request.measurement),
        cause,
    };
    let rows = partition::OrderedRows::new(&request.schema, &request.batches, &request.sort_key)
        .map_err(|error| failed(Cause::Arrow(error)))?;
    let mut staged = store.stage();
    let mut segments = Vec::new();
    for (part, day) in rows.days().iter().enumerate() {
        let date = layout::date_of(day.number).ok_or_else(|| failed(Cause::Day(day.number)))?;
        let SegmentRequest { database, measurement, sort_key, instance, .. } = request;
        let SegmentRequest { sequence, journal, .. } = *request;
        let path = layout::segment_path(database, measurement, &date, instance, sequence, part);
        let about = parquet_file::About { database, measurement, sort_key, sequence, journal };
        let mut columns = Vec::new();
        let written = staged.write(&path, |file| {
            columns = parquet_file::encode(file, rows.schema(), &about, &rows.of_day(day))?;
            Ok(())
        })?;
        segments.push(SegmentMeta {
            path,
            database: database.clone(),
            measurement: measurement.clone(),
            date,
            rows: day.rows,
            bytes: written.bytes,
            modified_ms: written.modified_ms,
            time_us_min: day.time_us_min,
            time_us_max: day.time_us_max,
            columns,
        });
    }
    staged.publish()?;
    Ok(segments)
}

/// Why something could not be persisted. It is never the fault of the client who sent the rows.
#[derive(Debug)]
pub struct PersistError {
    /// What was being done.
    pub operation: Operation,
    /// To which file or directory.
    pub path: PathBuf,
    /// What stood in the way.
    pub cause: Cause,
}

impl PersistError {
    /// Whether the disk, or the quota, is full: the one cause that passes by itself.
    pub fn is_storage_full(&self) -> bool {
        let Cause::Io(error) = &self.cause else { return false };
        disk::is_full(error)
    }
}

impl fmt::Display for PersistError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}", self.operation.name(), self.path.display())
    }
}

impl Error for PersistError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.cause {
            Cause::Arrow(error) => Some(error),
            Cause::Day(_) => Some(&self.cause),
            Cause::Io(error) => Some(error),
            Cause::Parquet(error) => Some(error),
        }
    }
}

/// What was being done when it failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Operation {
    /// Create a file.
    Create,
    /// Create a directory.
    CreateDirectory,
    /// List a directory.
    List,
    /// Lock the data directory.
    Lock,
    /// Give a file its final name.
    Publish,
    /// Remove a file or a directory.
    Remove,
    /// Read a file.
    Read,
    /// Put the rows of a measurement in order.
    Sort,
    /// Sync a file or a directory.
    Sync,
    /// Encode and write a file.
    Write,
}

impl Operation {
    /// As messages say it, after "cannot".
    fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::CreateDirectory => "create directory",
            Self::List => "list",
            Self::Lock => "lock",
            Self::Publish => "publish",
            Self::Remove => "remove",
            Self::Read => "read",
            Self::Sort => "sort the rows of",
            Self::Sync => "sync",
            Self::Write => "write",
        }
    }
}

/// What stood in the way.
#[derive(Debug)]
pub enum Cause {
    /// Batches that do not fit the request's schema: a mistake of ours.
    Arrow(ArrowError),
    /// A day outside the years 0001 to 9999: a mistake of ours.
    Day(i64),
    /// The operating system refused.
    Io(io::Error),
    /// The encoder refused: a mistake of ours. Or the decoder, what is no Parquet file.
    Parquet(ParquetError),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Arrow(error) => error.fmt(f),
            Self::Day(day) => write!(
                f,
                "expected a day in the years 0001 to 9999, found day {day} since 1970-01-01"
            ),
            Self::Io(error) => error.fmt(f),
            Self::Parquet(error) => error.fmt(f),
        }
    }
}

impl Error for Cause {}

impl From<ParquetError> for Cause {
    /// The encoder wraps what its sink said; it is taken out again, for [`Cause::Io`].
    fn from(error: ParquetError) -> Self {
        match error {
            ParquetError::External(error) => match error.downcast::<io::Error>() {
                Ok(error) => Self::Io(*error),
                Err(error) => Self::Parquet(ParquetError::External(error)),
            },
            error => Self::Parquet(error),
        }
    }
}
