//! What a footer says about the values of each column, put together over the row groups.
//!
//! Floats need a look of their own: Parquet's bounds leave NaN out, and a reader to whom NaN is the
//! largest value would skip the file for them.

use std::collections::HashSet;

use arrow_array::ArrayRef;
use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use arrow_schema::Schema;
use parquet::data_type::{ByteArray, FixedLenByteArray};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::statistics::Statistics;

use crate::schema::StoredType;
use crate::segment::{Bound, SegmentColumn};

/// Bytes that a bound of a string may have: the limit of other writers.
const STRING_BYTES_MAX: usize = 64;

/// The columns with a NaN.
#[derive(Debug, Default)]
pub(super) struct Nans {
    places: HashSet<usize>,
}

impl Nans {
    /// Looks at values of the column at `place`. What is below a null counts too, which costs a
    /// bound only.
    pub(super) fn look(&mut self, place: usize, array: &ArrayRef) {
        let floats = array.as_primitive_opt::<Float64Type>();
        if floats.is_some_and(|it| it.values().iter().any(|value| value.is_nan())) {
            self.places.insert(place);
        }
    }
}

/// What the footer of a file of `schema` says of its columns, in their order.
///
/// # Errors
/// When a column has a type that no column has: a mistake of ours.
pub(super) fn of_columns(
    footer: &ParquetMetaData,
    schema: &Schema,
    nans: &Nans,
) -> Result<Vec<SegmentColumn>, ParquetError> {
    let columns = schema.fields().iter().enumerate().map(|(place, field)| {
        let stored = StoredType::of(field.data_type()).ok_or_else(|| {
            let (name, data_type) = (field.name(), field.data_type());
            ParquetError::General(format!(
                "column {name}: expected a type of ours, found {data_type}"
            ))
        })?;
        let name = field.name().clone();
        let mut column = SegmentColumn { name, stored, nulls: 0, min: None, max: None };
        let mut has_bounds = !nans.places.contains(&place);
        for chunk in footer.row_groups().iter().filter_map(|it| it.columns().get(place)) {
            let nulls = chunk.statistics().and_then(Statistics::null_count_opt).unwrap_or(0);
            column.nulls += nulls;
            match chunk.statistics().and_then(|it| bounds(it, stored)) {
                Some((min, max)) => {
                    column.min = column.min.filter(|it| is_below(it, &min)).or(Some(min));
                    column.max = column.max.filter(|it| is_below(&max, it)).or(Some(max));
                }
                // A group of nothing but nulls has no bounds, and none is missing.
                None => has_bounds &= u64::try_from(chunk.num_values()) == Ok(nulls),
            }
        }
        if !has_bounds {
            (column.min, column.max) = (None, None);
        }
        Ok(column)
    });
    columns.collect()
}

/// The bounds of one row group.
fn bounds(group: &Statistics, stored: StoredType) -> Option<(Bound, Bound)> {
    Some(match (group, stored) {
        (Statistics::Int32(it), StoredType::Int16) => {
            (Bound::I64((*it.min_opt()?).into()), Bound::I64((*it.max_opt()?).into()))
        }
        (Statistics::Int64(it), StoredType::Int64) => {
            (Bound::I64(*it.min_opt()?), Bound::I64(*it.max_opt()?))
        }
        (Statistics::Int64(it), StoredType::Timestamp) => {
            (Bound::Time(*it.min_opt()?), Bound::Time(*it.max_opt()?))
        }
        (Statistics::Double(it), StoredType::Float64) => {
            (Bound::F64(*it.min_opt()?), Bound::F64(*it.max_opt()?))
        }
        (Statistics::ByteArray(it), StoredType::String) => {
            (string(it.min_opt()?)?, string(it.max_opt()?)?)
        }
        (Statistics::FixedLenByteArray(it), StoredType::Decimal) => {
            (decimal(it.min_opt()?), decimal(it.max_opt()?))
        }
        _ => return None,
    })
}

fn string(bytes: &ByteArray) -> Option<Bound> {
    bytes.as_utf8().ok().map(|it| Bound::String(it.to_owned()))
}

/// Big-endian two's complement.
fn decimal(bytes: &FixedLenByteArray) -> Bound {
    let bytes = bytes.data();
    let sign = if bytes.first().is_some_and(|it| it & 0x80 != 0) { -1 } else { 0 };
    Bound::Decimal(bytes.iter().fold(sign, |value: i128, byte| (value << 8) | i128::from(*byte)))
}

/// Whether one bound of a column is below another of the same.
fn is_below(left: &Bound, right: &Bound) -> bool {
    match (left, right) {
        (Bound::Decimal(left), Bound::Decimal(right)) => left < right,
        (Bound::F64(left), Bound::F64(right)) => left.total_cmp(right).is_lt(),
        (Bound::I64(left), Bound::I64(right)) | (Bound::Time(left), Bound::Time(right)) => {
            left < right
        }
        (Bound::String(left), Bound::String(right)) => left < right,
        _ => false,
    }
}

/// A bound of the footer that is not above `value`.
pub(super) fn bound_below(value: &str) -> &str {
    let ends = value.char_indices().map(|(at, char)| at + char.len_utf8());
    let end = ends.take_while(|end| *end <= STRING_BYTES_MAX).last();
    value.get(..end.unwrap_or(0)).unwrap_or(value)
}

/// A bound of the footer that is not below `value`.
pub(super) fn bound_above(value: &str) -> String {
    let short = bound_below(value);
    if short.len() == value.len() {
        return value.to_owned();
    }
    // The next string of that length or less; what follows in `value` is below it.
    for (at, last) in short.char_indices().rev() {
        let mut greater = (last..=char::MAX).skip(1);
        if let (Some(next), Some(head)) = (greater.next(), short.get(..at)) {
            return format!("{head}{next}");
        }
    }
    value.to_owned()
}
