//! What the footer of a Parquet file says, read without the values.

use std::io::{self, Read, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::errors::ParquetError;
use parquet::file::metadata::{FooterTail, ParquetMetaDataReader};

use super::checksum;
use super::parquet_file::METADATA_JOURNAL;
use super::store::at;
use super::{Cause, Operation, PersistError};
use crate::disk::{Disk, DiskFile};
use crate::schema::{
    ColumnKind, METADATA_DATABASE, METADATA_KIND, METADATA_MEASUREMENT, METADATA_ROLE, Role,
    StoredType,
};

/// What every Parquet file begins with.
const MAGIC: [u8; 4] = *b"PAR1";
/// The length of the footer, and the same again.
const TAIL_BYTES: usize = 8;

/// What the footer of a Parquet file says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Footer {
    /// Size of the file.
    pub bytes: u64,
    /// Rows of the file.
    pub rows: u64,
    /// Rows of its row groups, added up.
    pub group_rows: u64,
    /// The database; files of others name none.
    pub database: Option<String>,
    /// The measurement; files of others name none.
    pub measurement: Option<String>,
    /// No row is in a record of the journal before this one; files of others name none.
    pub journal: Option<u64>,
    /// The columns in their order.
    pub columns: Vec<FooterColumn>,
}

/// A column as a footer describes it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FooterColumn {
    /// Its name in the file.
    pub name: String,
    /// How it is written; `None` for a type that no column of ours has.
    pub stored: Option<StoredType>,
    /// The kind that its metadata names.
    pub kind: Option<ColumnKind>,
    /// The role that its metadata names.
    pub role: Option<Role>,
}

impl Footer {
    /// Reads the footer of the file at `path`.
    ///
    /// # Errors
    /// What the file system says; [`Cause::Parquet`] when it is no Parquet file.
    pub fn read(disk: &dyn Disk, path: &Path) -> Result<Self, PersistError> {
        let mut file = disk.open(path).map_err(at(Operation::Read, path))?;
        decode(file.as_mut()).map_err(|cause| PersistError {
            operation: Operation::Read,
            path: path.to_owned(),
            cause,
        })
    }
}

/// Whether the file at `path` has the checksum that it states: `None` where it states none. All of
/// it is read.
///
/// # Errors
/// As [`Footer::read`].
pub fn is_intact(disk: &dyn Disk, path: &Path) -> Result<Option<bool>, PersistError> {
    let mut file = disk.open(path).map_err(at(Operation::Read, path))?;
    check(file.as_mut()).map_err(|cause| PersistError {
        operation: Operation::Read,
        path: path.to_owned(),
        cause,
    })
}

fn check(file: &mut dyn DiskFile) -> Result<Option<bool>, Cause> {
    let (begin, mut end) = end_of(file)?;
    let mut tail = [0; TAIL_BYTES];
    read_at(file, SeekFrom::End(-8), &mut tail)?;
    end.extend(tail);
    file.seek(SeekFrom::Start(0)).map_err(Cause::Io)?;
    checksum::is_intact(&mut Read::take(file, begin), end).map_err(Cause::Io)
}

/// Where the footer begins, and its bytes.
fn end_of(file: &mut dyn DiskFile) -> Result<(u64, Vec<u8>), Cause> {
    let bytes = file.byte_count().map_err(Cause::Io)?;
    let mut magic = [0; MAGIC.len()];
    read_at(file, SeekFrom::Start(0), &mut magic)?;
    if magic != MAGIC {
        return Err(broken("expected PAR1 at the beginning, found other bytes"));
    }
    let mut tail = [0; TAIL_BYTES];
    read_at(file, SeekFrom::End(-8), &mut tail)?;
    let length = FooterTail::try_new(&tail)?.metadata_length();
    let behind = (length + TAIL_BYTES) as u64;
    let begin = bytes.checked_sub(behind).filter(|it| *it >= MAGIC.len() as u64);
    let begin = begin.ok_or_else(|| broken("expected a footer, found less than its length"))?;
    let mut footer = vec![0; length];
    read_at(file, SeekFrom::Start(begin), &mut footer)?;
    Ok((begin, footer))
}

fn decode(file: &mut dyn DiskFile) -> Result<Footer, Cause> {
    let bytes = file.byte_count().map_err(Cause::Io)?;
    let (_, footer) = end_of(file)?;
    let metadata = Arc::new(ParquetMetaDataReader::decode_metadata(&footer)?);
    let file_metadata = metadata.file_metadata();
    let text = |key: &str| {
        let pair = file_metadata.key_value_metadata()?.iter().find(|it| it.key == key);
        pair.and_then(|it| it.value.clone())
    };
    let count = |rows: i64| u64::try_from(rows).unwrap_or_default();
    let schema = ArrowReaderMetadata::try_new(Arc::clone(&metadata), ArrowReaderOptions::new())?;
    let columns = schema.schema().fields().iter().map(|field| FooterColumn {
        name: field.name().clone(),
        stored: StoredType::of(field.data_type()),
        kind: field.metadata().get(METADATA_KIND).and_then(|it| ColumnKind::from_name(it)),
        role: field.metadata().get(METADATA_ROLE).and_then(|it| Role::from_name(it)),
    });
    Ok(Footer {
        bytes,
        rows: count(file_metadata.num_rows()),
        group_rows: metadata.row_groups().iter().map(|it| count(it.num_rows())).sum(),
        database: text(METADATA_DATABASE),
        measurement: text(METADATA_MEASUREMENT),
        journal: text(METADATA_JOURNAL).and_then(|it| it.parse().ok()),
        columns: columns.collect(),
    })
}

fn broken(what: &str) -> Cause {
    Cause::Parquet(ParquetError::General(what.to_owned()))
}

/// Fills `bytes` from a place; a file that ends before is no Parquet file.
fn read_at(file: &mut dyn DiskFile, from: SeekFrom, bytes: &mut [u8]) -> Result<(), Cause> {
    let read = file.seek(from).and_then(|_| file.read_exact(bytes));
    read.map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput => {
            broken("expected a Parquet file, found a shorter one")
        }
        _ => Cause::Io(error),
    })
}
