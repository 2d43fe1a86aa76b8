//! Streams of Arrow IPC as clients write them.

use std::sync::Arc;

use arrow_array::types::{Int32Type, TimestampMicrosecondType};
use arrow_array::{
    ArrayRef, DictionaryArray, Float64Array, Int32Array, Int64Array, PrimitiveArray, RecordBatch,
    StringArray,
};
use arrow_ipc::writer::StreamWriter;

/// Columns of a row: a time, two tags, four floats, two integers, a text.
pub(crate) const COLUMNS: usize = 10;

/// A stream of one batch of `rows` rows of [`COLUMNS`] columns, whose tags are `host` and `rack`.
pub(crate) fn stream(rows: usize) -> Vec<u8> {
    let number = |row: usize| i64::try_from(row).unwrap();
    let float = |row: usize| f64::from(u32::try_from(row).unwrap());
    let tag = |count: usize| -> ArrayRef {
        let keys = (0..rows).map(|row| i32::try_from(row % count).unwrap());
        let values = StringArray::from_iter_values((0..count).map(|it| format!("host-{it}")));
        let keys = Int32Array::from_iter_values(keys);
        Arc::new(DictionaryArray::<Int32Type>::new(keys, Arc::new(values)))
    };
    let floats = |step: f64| -> ArrayRef {
        Arc::new(Float64Array::from_iter_values((0..rows).map(|row| float(row) * step)))
    };
    let times = (0..rows).map(|row| 1_700_000_000_000_000 + number(row) * 1_000);
    let integers = || Arc::new(Int64Array::from_iter_values((0..rows).map(number)));
    let text = StringArray::from_iter_values((0..rows).map(|row| format!("text {row}")));
    let columns: [(&str, ArrayRef); COLUMNS] = [
        ("time", Arc::new(PrimitiveArray::<TimestampMicrosecondType>::from_iter_values(times))),
        ("host", tag(100)),
        ("rack", tag(7)),
        ("a", floats(0.5)),
        ("b", floats(0.25)),
        ("c", floats(1.5)),
        ("d", floats(3.0)),
        ("count", integers()),
        ("total", integers()),
        ("text", Arc::new(text)),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut body = Vec::new();
    let mut writer = StreamWriter::try_new(&mut body, &batch.schema()).unwrap();
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
    drop(writer);
    body.shrink_to_fit();
    body
}
