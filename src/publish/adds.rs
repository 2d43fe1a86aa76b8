//! Segments as add actions: path, partition, and statistics by which readers skip files.
//!
//! ```text
//! {"add":{"path":"date=2026-11-22/000000000000002a-0000.parquet","partitionValues":{"date":...},
//!         "stats":"{\"numRecords\":3,\"nullCount\":{...},\"minValues\":{...},\"maxValues\":{...}}"
//! ```
//!
//! A column that a file has not is null in all its rows. Readers take `NaN` and infinities
//! differently, and JSON has neither: such bounds are left out. Times are cut to milliseconds by
//! the kernel, which the protocol allows for.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::builder::{MapBuilder, MapFieldNames, StringBuilder};
use arrow_array::{
    Array, ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int64Array, RecordBatch,
    StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow_schema::{ArrowError, Field, Schema};

use crate::schema::{DATE, StoredType};
use crate::segment::{Bound, SegmentColumn, SegmentMeta};

/// Characters of a string bound; what Spark keeps.
const STRING_CHARS_MAX: usize = 32;
/// Appended to a cut upper bound: no string that begins with the cut is above it.
const LAST_CHAR: char = '\u{10FFFF}';
/// 0001-01-01 and the end of 9999-12-31, in microseconds: times that every reader can parse.
const TIMES: std::ops::RangeInclusive<i64> = -62_135_596_800_000_000..=253_402_300_799_999_999;

/// The add actions of `segments`, at `paths` from the table's root, with statistics of `columns`.
///
/// # Errors
/// Never with segments of ours: the arrays are made to fit each other.
pub(super) fn batch(
    segments: &[SegmentMeta],
    paths: &[String],
    columns: &[String],
) -> Result<RecordBatch, ArrowError> {
    let names = MapFieldNames {
        entry: "key_value".to_owned(),
        key: "key".to_owned(),
        value: "value".to_owned(),
    };
    let mut partitions = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
    for segment in segments {
        partitions.keys().append_value(DATE);
        partitions.values().append_value(&segment.date);
        partitions.append(true)?;
    }
    let bytes = segments.iter().map(|it| count(it.bytes));
    let modified = segments.iter().map(|it| it.modified_ms);
    of_fields(vec![
        ("path", Arc::new(StringArray::from_iter_values(paths))),
        ("partitionValues", Arc::new(partitions.finish())),
        ("size", Arc::new(Int64Array::from_iter_values(bytes))),
        ("modificationTime", Arc::new(Int64Array::from_iter_values(modified))),
        ("stats", Arc::new(statistics(segments, columns)?)),
    ])
    .map(RecordBatch::from)
}

/// What readers skip files by; nulls become keys that are not there.
fn statistics(segments: &[SegmentMeta], columns: &[String]) -> Result<StructArray, ArrowError> {
    let by_name: Vec<HashMap<&str, &SegmentColumn>> = segments
        .iter()
        .map(|segment| segment.columns.iter().map(|it| (it.name.as_str(), it)).collect())
        .collect();
    let mut nulls: Vec<(&str, ArrayRef)> = Vec::new();
    let mut minima: Vec<(&str, ArrayRef)> = Vec::new();
    let mut maxima: Vec<(&str, ArrayRef)> = Vec::new();
    for name in columns {
        let found: Vec<_> = by_name.iter().map(|it| it.get(name.as_str()).copied()).collect();
        let counts = found
            .iter()
            .zip(segments)
            .map(|(column, segment)| count(column.map_or(segment.rows, |it| it.nulls)));
        nulls.push((name, Arc::new(Int64Array::from_iter_values(counts))));
        let Some(stored) = found.iter().flatten().map(|it| it.stored).next() else { continue };
        let bounds: Vec<_> = found.iter().map(|it| it.and_then(|it| it.min.as_ref())).collect();
        minima.extend(array(stored, &bounds, first_chars)?.map(|it| (name.as_str(), it)));
        let bounds: Vec<_> = found.iter().map(|it| it.and_then(|it| it.max.as_ref())).collect();
        maxima.extend(array(stored, &bounds, last_of_first_chars)?.map(|it| (name.as_str(), it)));
    }
    let rows = segments.iter().map(|it| count(it.rows));
    let mut fields: Vec<(&str, ArrayRef)> =
        vec![("numRecords", Arc::new(Int64Array::from_iter_values(rows)))];
    for (name, columns) in [("nullCount", nulls), ("minValues", minima), ("maxValues", maxima)] {
        if !columns.is_empty() {
            fields.push((name, Arc::new(of_fields(columns)?)));
        }
    }
    let tight = vec![true; segments.len()];
    fields.push(("tightBounds", Arc::new(BooleanArray::from(tight))));
    of_fields(fields)
}

/// A struct of arrays of one length.
fn of_fields(columns: Vec<(&str, ArrayRef)>) -> Result<StructArray, ArrowError> {
    let (fields, arrays): (Vec<_>, Vec<_>) = columns
        .into_iter()
        .map(|(name, array)| {
            let is_optional = name == "stats" || array.null_count() > 0;
            (Field::new(name, array.data_type().clone(), is_optional), array)
        })
        .unzip();
    StructArray::try_new(Schema::new(fields).fields, arrays, None)
}

/// One bound of one column for each file; `None` where Delta keeps none for the type.
fn array(
    stored: StoredType,
    bounds: &[Option<&Bound>],
    cut: fn(&str) -> Option<String>,
) -> Result<Option<ArrayRef>, ArrowError> {
    let bounds = bounds.iter().copied();
    Ok(Some(match stored {
        StoredType::Boolean => return Ok(None),
        StoredType::Decimal => {
            let values = bounds.map(|it| match it {
                Some(Bound::Decimal(value)) => Some(*value),
                _ => None,
            });
            Arc::new(values.collect::<Decimal128Array>().with_precision_and_scale(20, 0)?)
        }
        StoredType::Float64 => {
            let values = bounds.map(|it| match it {
                Some(Bound::F64(value)) if value.is_finite() => Some(*value),
                _ => None,
            });
            Arc::new(values.collect::<Float64Array>())
        }
        StoredType::Int16 | StoredType::Int64 => {
            let values = bounds.map(|it| match it {
                Some(Bound::I64(value)) => Some(*value),
                _ => None,
            });
            Arc::new(values.collect::<Int64Array>())
        }
        StoredType::String => {
            let values = bounds.map(|it| match it {
                Some(Bound::String(value)) => cut(value),
                _ => None,
            });
            Arc::new(values.collect::<StringArray>())
        }
        StoredType::Timestamp => {
            let values = bounds.map(|it| match it {
                Some(Bound::Time(value)) if TIMES.contains(value) => Some(*value),
                _ => None,
            });
            Arc::new(values.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
        }
    }))
}

/// A string that is not above `value`.
#[expect(clippy::unnecessary_wraps, reason = "of one type with last_of_first_chars")]
fn first_chars(value: &str) -> Option<String> {
    Some(value.chars().take(STRING_CHARS_MAX).collect())
}

/// A string that is not below any that is not above `value`.
fn last_of_first_chars(value: &str) -> Option<String> {
    let mut chars = value.chars();
    let mut bound: String = chars.by_ref().take(STRING_CHARS_MAX).collect();
    match chars.next() {
        None => Some(bound),
        // The rest itself could be above the char that stands for it.
        Some(LAST_CHAR) => None,
        Some(_) => {
            bound.push(LAST_CHAR);
            Some(bound)
        }
    }
}

/// A count or size as Delta has it.
fn count(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
