//! Tables of record batches as a flush hands them to the encoder: the same rows in every run.

#![expect(clippy::indexing_slicing, reason = "a bench stops at the first surprise")]

use std::sync::Arc;

use arrow_array::{
    ArrayRef, DictionaryArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, UInt32Array,
};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};

use super::random::Random;

/// Rows of a batch.
pub(crate) const BATCH_ROWS: usize = 64 << 10;
/// Batches of a table.
pub(crate) const BATCHES: usize = 4;
/// Rows of a table.
pub(crate) const ROWS: usize = BATCHES * BATCH_ROWS;

/// A table of `BATCHES` batches.
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) schema: SchemaRef,
    pub(crate) batches: Vec<RecordBatch>,
}

/// A number below `bound`.
fn below(random: &mut Random, bound: u32) -> u32 {
    u32::try_from(random.next() % u64::from(bound)).unwrap()
}

/// In `0.0..1.0`.
fn fraction(random: &mut Random) -> f64 {
    f64::from(below(random, u32::MAX)) / f64::from(u32::MAX)
}

fn tag(rows: usize, values: u32, mut key: impl FnMut(usize) -> u32) -> ArrayRef {
    let keys = UInt32Array::from_iter_values((0..rows).map(&mut key));
    let values = StringArray::from_iter_values((0..values).map(|it| format!("host_{it}")));
    Arc::new(DictionaryArray::new(keys, Arc::new(values)))
}

/// A table with `time`, and columns that `columns` makes for a batch, by its first row.
fn table(
    name: &'static str,
    hosts: usize,
    mut columns: impl FnMut(&mut Random, usize) -> Vec<(String, ArrayRef)>,
) -> Table {
    let mut random = Random(1);
    let mut batches = Vec::new();
    for first in (0..ROWS).step_by(BATCH_ROWS) {
        let times = (first..first + BATCH_ROWS).map(|row| {
            let seconds = i64::try_from(row / hosts).unwrap();
            1_750_000_000_000_000 + seconds * 10_000_000
        });
        let time = TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC");
        let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let mut fields = vec![Field::new("time", utc, false)];
        let mut arrays: Vec<ArrayRef> = vec![Arc::new(time)];
        for (name, array) in columns(&mut random, first) {
            fields.push(Field::new(name, array.data_type().clone(), true));
            arrays.push(array);
        }
        let schema = Arc::new(Schema::new(fields));
        batches.push(RecordBatch::try_new(schema, arrays).unwrap());
    }
    Table { name, schema: batches[0].schema(), batches }
}

/// TSBS cpu-only: 10 tags, 10 integer fields, 4,000 hosts.
pub(crate) fn wide() -> Table {
    table("wide", 4_000, |random, first| {
        let mut columns = Vec::new();
        for (at, distinct) in [4_000, 9, 30, 100, 3, 4, 10, 20, 2, 4].into_iter().enumerate() {
            let key = |row| u32::try_from((first + row) % 4_000).unwrap() % distinct;
            columns.push((format!("tag_{at}"), tag(BATCH_ROWS, distinct, key)));
        }
        for at in 0..10 {
            let values = (0..BATCH_ROWS).map(|_| i64::from(below(random, 101)));
            let values: ArrayRef = Arc::new(Int64Array::from_iter_values(values));
            columns.push((format!("usage_{at}"), values));
        }
        columns
    })
}

/// The ten tags of [`wide`] and `time`, by series in order or at random.
pub(crate) fn tags(name: &'static str, is_random: bool) -> Table {
    let distinct = [4_000, 9, 30, 100, 3, 4, 10, 20, 2, 4];
    table(name, 4_000, |random, first| {
        let series: Vec<u32> =
            (first..first + BATCH_ROWS)
                .map(|row| {
                    if is_random { below(random, 4_000) } else { (row % 4_000).try_into().unwrap() }
                })
                .collect();
        let column = |(at, distinct): (usize, u32)| {
            (format!("tag_{at}"), tag(BATCH_ROWS, distinct, |row| series[row] % distinct))
        };
        distinct.into_iter().enumerate().map(column).collect()
    })
}

/// Time, one tag, and three floats: 17 digits, 2 digits, and mostly zero.
pub(crate) fn narrow(name: &'static str, hosts: u32) -> Table {
    table(name, hosts as usize, |random, first| {
        let mut float = |value: fn(&mut Random) -> f64| -> ArrayRef {
            Arc::new(Float64Array::from_iter_values((0..BATCH_ROWS).map(|_| value(random))))
        };
        let noise = float(|it| fraction(it) * 100.0);
        let cents = float(|it| f64::from(below(it, 10_001)) / 100.0);
        let rare = float(|it| if below(it, 10) == 0 { fraction(it) } else { 0.0 });
        let key = |row| u32::try_from(first + row).unwrap() % hosts;
        vec![
            ("host".to_owned(), tag(BATCH_ROWS, hosts, key)),
            ("noise".to_owned(), noise),
            ("cents".to_owned(), cents),
            ("rare".to_owned(), rare),
        ]
    })
}
