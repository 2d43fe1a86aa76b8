//! One Parquet file: how each kind of column is encoded, and what the footer says.
//!
//! | column          | encoding                                   | statistics  |
//! |-----------------|--------------------------------------------|-------------|
//! | `time`          | `DELTA_BINARY_PACKED`                      | page, chunk |
//! | integers, times | `DELTA_BINARY_PACKED`                      | chunk       |
//! | floats          | `PLAIN`                                    | chunk       |
//! | strings, tags   | `RLE_DICTIONARY`, `PLAIN` beyond 1 MiB     | chunk       |
//! | booleans        | `PLAIN`, one bit each                      | chunk       |
//! | DECIMAL(20,0)   | `PLAIN`                                    | chunk       |
//!
//! Hashing floats for a dictionary costs three times the encoding and rarely pays
//! (`benches/persist.rs`); tags are dictionaries already (`tag_chunk.rs`), and are plain strings to
//! a reader.
//! Pages are of version 1, which every reader has. Footer, names and order: `schemas/segment.md`.

use std::io::Write;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::add_encoded_arrow_schema_to_metadata;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

use super::checksum::{self, Summed};
use super::columns;
use super::row_groups::RowGroups;
use super::{sort_key, statistics};
use crate::schema::{METADATA_DATABASE, METADATA_MEASUREMENT, TIME};
use crate::segment::SegmentColumn;

/// Values encoded at a time; 5 to 10 % faster than the writer's 1,024.
const WRITE_BATCH_ROWS: usize = 8_192;

/// Footer key of the sequence, in decimal.
pub const METADATA_SEQUENCE: &str = "peristyle.sequence";
/// Footer key of the first record of the journal that may have rows of the file, in decimal.
pub const METADATA_JOURNAL: &str = "peristyle.journal";

/// What the footer says about where the rows belong and how they are sorted.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// The database, as clients call it.
    pub database: &'a str,
    /// The measurement, as clients call it.
    pub measurement: &'a str,
    /// The order of the rows, by names of columns; see [`super::SegmentRequest::sort_key`].
    pub sort_key: &'a [String],
    /// The request that the file is a part of.
    pub sequence: u64,
    /// No row is in a record of the journal before this one.
    pub journal: u64,
}

/// The rows of a file, which are read a column at a time.
pub trait RowSource {
    /// How many they are.
    fn row_count(&self) -> usize;

    /// About the bytes of a row in memory.
    fn row_bytes(&self) -> usize;

    /// Hands on the values that the rows of `rows` have in one column, in pieces of any length.
    ///
    /// # Errors
    /// Those of `take`, and when there is no such column.
    fn read(
        &self,
        column: usize,
        rows: Range<usize>,
        take: &mut dyn FnMut(ArrayRef) -> Result<(), ParquetError>,
    ) -> Result<(), ParquetError>;
}

/// All rows of batches that have the same columns, one batch after the other.
impl RowSource for [RecordBatch] {
    fn row_count(&self) -> usize {
        self.iter().map(RecordBatch::num_rows).sum()
    }

    fn row_bytes(&self) -> usize {
        let bytes: usize = self.iter().flat_map(RecordBatch::columns).map(columns::bytes).sum();
        bytes.checked_div(self.row_count()).unwrap_or(0)
    }

    fn read(
        &self,
        column: usize,
        rows: Range<usize>,
        take: &mut dyn FnMut(ArrayRef) -> Result<(), ParquetError>,
    ) -> Result<(), ParquetError> {
        let mut first = 0;
        for batch in self {
            let end = first + batch.num_rows();
            let own = rows.start.max(first)..rows.end.min(end);
            if !own.is_empty() {
                let array = batch.columns().get(column).ok_or_else(|| {
                    ParquetError::General(format!("expected {} columns", column + 1))
                })?;
                take(array.slice(own.start - first, own.len()))?;
            }
            first = end;
        }
        Ok(())
    }
}

/// Encodes `rows`, which have the columns of `schema` and are in the order of `about.sort_key`, as
/// one Parquet file into `sink`. Returns what the footer says about its columns.
///
/// # Errors
/// When `sink` or `rows` refuse, or when a column is not that of the schema.
pub fn encode(
    sink: impl Write + Send,
    schema: &SchemaRef,
    about: &About<'_>,
    rows: &(impl RowSource + ?Sized),
) -> Result<Vec<SegmentColumn>, ParquetError> {
    encode_compressed(sink, schema, about, compression(), rows)
}

/// [`encode`] with another compression than the one that was chosen, for the bench that chose it.
///
/// # Errors
/// As [`encode`].
pub fn encode_compressed(
    sink: impl Write + Send,
    schema: &SchemaRef,
    about: &About<'_>,
    compression: Compression,
    rows: &(impl RowSource + ?Sized),
) -> Result<Vec<SegmentColumn>, ParquetError> {
    let properties = properties(schema, about, compression);
    let mut groups = RowGroups::new(Summed::new(sink), schema, properties)?;
    let mut nans = statistics::Nans::default();
    groups.write(rows, &mut nans)?;
    // All row groups are out; what follows is written once their sum is known.
    let mut file = groups.into_file();
    file.flush()?;
    file.inner_mut().hold();
    file.append_key_value_metadata(checksum::blank());
    let footer = file.finish()?;
    file.flush()?;
    file.inner_mut().release()?;
    statistics::of_columns(&footer, schema, &nans)
}

/// The compression of every column.
fn compression() -> Compression {
    Compression::ZSTD(ZstdLevel::default())
}

/// All choices that the table above states.
fn properties(schema: &Schema, about: &About<'_>, compression: Compression) -> WriterProperties {
    let pair = |key: &str, value: String| KeyValue::new(key.to_owned(), value);
    let mut builder = WriterProperties::builder()
        .set_compression(compression)
        .set_write_batch_size(WRITE_BATCH_ROWS)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_dictionary_enabled(false)
        .set_sorting_columns(sorting_columns(schema, about.sort_key))
        .set_created_by(concat!("peristyle ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_key_value_metadata(Some(vec![
            pair(METADATA_DATABASE, about.database.to_owned()),
            pair(METADATA_MEASUREMENT, about.measurement.to_owned()),
            pair(METADATA_SEQUENCE, about.sequence.to_string()),
            pair(METADATA_JOURNAL, about.journal.to_string()),
        ]));
    for field in schema.fields() {
        builder = with_column(builder, field);
    }
    let mut properties = builder.build();
    add_encoded_arrow_schema_to_metadata(&as_read(schema), &mut properties);
    properties
}

/// The choices for one column.
fn with_column(builder: WriterPropertiesBuilder, field: &Field) -> WriterPropertiesBuilder {
    // One part, not split at dots: a column named `a.b` is one column.
    let path = ColumnPath::new(vec![field.name().clone()]);
    let builder = if field.name() == TIME {
        builder.set_column_statistics_enabled(path.clone(), EnabledStatistics::Page)
    } else {
        builder
    };
    match field.data_type() {
        DataType::Int16 | DataType::Int64 | DataType::Timestamp(..) => {
            builder.set_column_encoding(path, Encoding::DELTA_BINARY_PACKED)
        }
        // A tag's own writer encodes and compresses; the crate's, which nobody asks, stays small.
        DataType::Dictionary(..) => builder.set_column_compression(path, Compression::UNCOMPRESSED),
        DataType::Utf8 => builder.set_column_dictionary_enabled(path, true),
        _ => builder.set_column_encoding(path, Encoding::PLAIN),
    }
}

/// The columns of the key that the file has, then `time`; all ascending.
fn sorting_columns(schema: &Schema, sort_key: &[String]) -> Option<Vec<SortingColumn>> {
    let places = sort_key::stated(schema, sort_key).into_iter();
    places
        .map(|place| {
            let column_idx = i32::try_from(place).ok()?;
            let nulls_first = schema.fields().get(place)?.name() != TIME;
            Some(SortingColumn { column_idx, descending: false, nulls_first })
        })
        .collect()
}

/// The schema as a reader that honours `ARROW:schema` shall see it: with the metadata of every
/// field, and tags as the plain strings that they are in Parquet. Readers would otherwise build
/// dictionaries of 32-bit keys that pyarrow cannot unify across files.
fn as_read(schema: &Schema) -> Schema {
    let fields: Vec<_> = schema
        .fields()
        .iter()
        .map(|field| match field.data_type() {
            DataType::Dictionary(_, values) => {
                Arc::new(field.as_ref().clone().with_data_type(values.as_ref().clone()))
            }
            _ => Arc::clone(field),
        })
        .collect();
    Schema::new(fields)
}
