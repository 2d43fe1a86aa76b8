//! The order of rows that a `sort_key` asks for, where it is another than that of time.
//!
//! ```text
//! sort_key  [host, rack, time]       (rack has no value in any batch: ignored)
//! batch 0   host  b a .   time 1 2 3   ->   b1 a2 .3     one comparable run of bytes for each row
//! batch 1   host  a . b   time 1 2 3   ->   a1 .2 b3
//! ```
//!
//! Nulls are first, strings go by their bytes, floats by IEEE 754's total order. A tag is compared
//! by its rank among the values of all batches, 5 bytes instead of a string in every row.
//!
//! Invariant: the order that a footer states ([`stated`]) is the one in which rows are written.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt32Type;
use arrow_array::{ArrayRef, StringArray};
use arrow_row::{Row, RowConverter, Rows, SortField};
use arrow_schema::{ArrowError, DataType, Schema};

use super::columns::{self, Column};
use crate::schema::TIME;

/// Comparable keys of all rows.
#[derive(Debug)]
pub(super) struct Keys {
    /// One for each batch, in the order of its rows.
    batches: Vec<Rows>,
}

impl Keys {
    /// The keys of the rows of `columns`, which are those of `schema`, by the names of `sort_key`.
    /// `None` when they ask for nothing but the order of time.
    ///
    /// # Errors
    /// When the dictionary of a tag holds anything but strings: a mistake of ours.
    pub(super) fn new(
        schema: &Schema,
        columns: &[Column],
        sort_key: &[String],
    ) -> Result<Option<Self>, ArrowError> {
        let places = present(schema, sort_key);
        if places.is_empty() || places == present(schema, &[TIME]) {
            return Ok(None);
        }
        let mut fields = Vec::with_capacity(places.len());
        let mut parts = Vec::with_capacity(places.len());
        for place in places {
            let Some((column, field)) = columns.get(place).zip(schema.fields().get(place)) else {
                continue;
            };
            let is_tag = matches!(field.data_type(), DataType::Dictionary(..));
            let data_type = if is_tag { &DataType::UInt32 } else { field.data_type() };
            // The default order is ascending with nulls first.
            fields.push(SortField::new(data_type.clone()));
            parts.push(if is_tag { ranks(column.arrays())? } else { column.arrays().to_vec() });
        }
        // Only rows of one converter can be compared.
        let converter = RowConverter::new(fields)?;
        let batch_count = parts.first().map_or(0, Vec::len);
        let batches = (0..batch_count).map(|batch| {
            let arrays: Vec<_> = parts.iter().filter_map(|it| it.get(batch).cloned()).collect();
            converter.convert_columns(&arrays)
        });
        Ok(Some(Self { batches: batches.collect::<Result<_, _>>()? }))
    }

    /// Puts `rows` in the order of their keys; equal ones stay as they are. `place` tells the batch
    /// and the row in it.
    pub(super) fn sort<T>(&self, rows: &mut [T], place: impl Fn(&T) -> (usize, usize)) {
        rows.sort_by_key(|it| self.key(place(it)));
    }

    fn key(&self, (batch, row): (usize, usize)) -> Option<Row<'_>> {
        self.batches.get(batch).map(|it| it.row(row))
    }
}

/// Places in `schema` of the columns that order the rows of a file, the first one first.
///
/// Rows of one key are in order of `time`. What follows `time_ns` adds to that cannot be stated:
/// its nulls are zeros, which Parquet has no word for.
pub(super) fn stated(schema: &Schema, sort_key: &[String]) -> Vec<usize> {
    let mut places = present(schema, sort_key);
    if !sort_key.iter().any(|it| it == TIME) {
        places.extend(present(schema, &[TIME]));
    }
    places
}

/// Places in `schema` of those of `names` that are there.
fn present(schema: &Schema, names: &[impl AsRef<str>]) -> Vec<usize> {
    let place = |name: &str| schema.column_with_name(name).map(|(place, _)| place);
    names.iter().filter_map(|name| place(name.as_ref())).collect()
}

/// For each row of a tag column the rank of its value among all values of all batches.
fn ranks(arrays: &[ArrayRef]) -> Result<Vec<ArrayRef>, ArrowError> {
    let wrong = || ArrowError::SchemaError("expected a column of tags".to_owned());
    let tags = arrays.iter().map(|it| it.as_dictionary_opt::<UInt32Type>());
    let tags: Vec<_> = tags.collect::<Option<_>>().ok_or_else(wrong)?;
    let (dictionaries, places) = columns::dictionaries(&tags)?;
    let strings = |dictionary| StringArray::iter(dictionary).map(Option::unwrap_or_default);
    let mut values: Vec<&str> = dictionaries.iter().flat_map(|it| strings(it)).collect();
    values.sort_unstable();
    values.dedup();
    let rank = |value: &str| {
        let rank = values.binary_search(&value).unwrap_or_else(|place| place);
        u32::try_from(rank)
            .map_err(|_| ArrowError::SchemaError("expected fewer than 4 Gi tag values".to_owned()))
    };
    let ranks = dictionaries.iter().map(|it| strings(it).map(rank).collect());
    let ranks: Vec<Vec<u32>> = ranks.collect::<Result<_, _>>()?;
    let of_rows = tags.into_iter().zip(places).map(|(tag, place)| {
        let ranks = ranks.get(place).map(Vec::as_slice).unwrap_or_default();
        Ok(Arc::new(columns::keys_in(tag, ranks)?) as ArrayRef)
    });
    of_rows.collect()
}
