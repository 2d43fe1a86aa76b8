//! Arrow IPC streams: one batch of one measurement, tags as dictionaries, times in microseconds.

use std::sync::Arc;

use arrow_array::types::{Int32Type, TimestampMicrosecondType};
use arrow_array::{
    ArrayRef, BooleanArray, DictionaryArray, Float64Array, Int64Array, PrimitiveArray, RecordBatch,
    StringArray,
};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::ArrowError;

use super::{Encoded, Table};
use crate::clock::Clock;
use crate::shape::{Name, Value};

/// Bytes of a time.
const TIME_BYTES: usize = 8;

/// A stream of one batch.
pub(super) fn encode(table: &Table<'_>, start_us: u64) -> Result<Encoded, ArrowError> {
    let tags = table.tags();
    let times: Vec<i64> = table
        .rows
        .iter()
        .map(|row| i64::try_from(start_us + u64::from(row.offset_us)).unwrap_or(i64::MAX))
        .collect();
    let bytes: Vec<u8> = times.iter().flat_map(|it| it.to_le_bytes()).collect();
    let time = PrimitiveArray::<TimestampMicrosecondType>::from(times);
    let mut columns: Vec<(&str, ArrayRef, bool)> = vec![("time", Arc::new(time), false)];
    for (name, texts) in &tags {
        let texts: DictionaryArray<Int32Type> = texts.iter().copied().collect();
        columns.push((name, Arc::new(texts), true));
    }
    for (name, values) in table.fields() {
        columns.push((name, array(&values), true));
    }
    let batch = RecordBatch::try_from_iter_with_nullable(columns)?;
    let mut body = Vec::new();
    let mut writer = StreamWriter::try_new(&mut body, &batch.schema())?;
    writer.write(&batch)?;
    writer.finish()?;
    drop(writer);
    // The buffer of times is where its bytes are: nothing else in a stream is like them.
    let mut found = body.windows(bytes.len()).enumerate().filter(|(_, it)| *it == bytes);
    let (Some((first, _)), None) = (found.next(), found.next()) else {
        return Err(ArrowError::IpcError("expected the times once in the stream".to_owned()));
    };
    let places = (0..table.rows.len()).map(|row| first + row * TIME_BYTES + 2).collect();
    Ok(Encoded {
        bytes: body,
        places,
        clock: Clock::LittleEndian,
        measurement: Some(table.measurement.clone()),
        tags: tags.into_iter().map(|(name, _)| name.clone()).collect::<Vec<Name>>(),
        counts: vec![(table.measurement.clone(), table.rows.len() as u64)],
    })
}

/// A column of values, whose kind is that of the first.
fn array(values: &[Option<&Value>]) -> ArrayRef {
    match values.iter().flatten().next() {
        Some(Value::Integer(_)) => Arc::new(Int64Array::from(of(values, |it| match it {
            Value::Integer(value) => Some(*value),
            _ => None,
        }))),
        Some(Value::Bool(_)) => Arc::new(BooleanArray::from(of(values, |it| match it {
            Value::Bool(value) => Some(*value),
            _ => None,
        }))),
        Some(Value::Text(_)) => Arc::new(StringArray::from(of(values, |it| match it {
            Value::Text(value) => Some(value.as_str()),
            _ => None,
        }))),
        _ => Arc::new(Float64Array::from(of(values, |it| match it {
            Value::Float(value) => Some(*value),
            _ => None,
        }))),
    }
}

fn of<'a, T>(values: &[Option<&'a Value>], kind: fn(&'a Value) -> Option<T>) -> Vec<Option<T>> {
    values.iter().map(|it| it.and_then(kind)).collect()
}
