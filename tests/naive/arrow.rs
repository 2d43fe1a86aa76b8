//! Arrow IPC, row by row: the reader of the `arrow-ipc` crate and one append for each value.

#![expect(clippy::indexing_slicing, reason = "a test stops at the first surprise")]

use std::io::Cursor;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Date64Type, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_ipc::reader::StreamReader;
use arrow_schema::{DataType, TimeUnit};
use peristyle::decode::Precision;
use peristyle::decode::ipc::Parameters;
use peristyle::decode::precision::from_magnitude;
use peristyle::gather::{Database, TableBuilder};
use peristyle::schema::Role;
use peristyle::timestamp::Timestamp;

/// A value of any type.
enum Value {
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    Text(String),
    /// Nanoseconds since 1970-01-01 UTC.
    Time(i128),
}

/// The value in a row that is not null.
fn value(array: &ArrayRef, row: usize) -> Value {
    use DataType::{
        Boolean, Date32, Date64, Dictionary, Float16, Float32, Float64, Int8, Int16, Int32, Int64,
        LargeUtf8, Timestamp, UInt8, UInt16, UInt32, UInt64, Utf8, Utf8View,
    };
    macro_rules! get {
        ($type:ty) => {
            array.as_primitive::<$type>().value(row)
        };
    }
    match array.data_type() {
        Boolean => Value::Bool(array.as_boolean().value(row)),
        Int8 => Value::Int(get!(Int8Type).into()),
        Int16 => Value::Int(get!(Int16Type).into()),
        Int32 => Value::Int(get!(Int32Type).into()),
        Int64 => Value::Int(get!(Int64Type)),
        UInt8 => Value::Uint(get!(UInt8Type).into()),
        UInt16 => Value::Uint(get!(UInt16Type).into()),
        UInt32 => Value::Uint(get!(UInt32Type).into()),
        UInt64 => Value::Uint(get!(UInt64Type)),
        Float16 => Value::Float(get!(Float16Type).into()),
        Float32 => Value::Float(get!(Float32Type).into()),
        Float64 => Value::Float(get!(Float64Type)),
        Utf8 => Value::Text(array.as_string::<i32>().value(row).to_owned()),
        LargeUtf8 => Value::Text(array.as_string::<i64>().value(row).to_owned()),
        Utf8View => Value::Text(array.as_string_view().value(row).to_owned()),
        Date32 => Value::Time(i128::from(get!(Date32Type)) * 86_400_000_000_000),
        Date64 => Value::Time(i128::from(get!(Date64Type)) * 1_000_000),
        Timestamp(unit, _) => Value::Time(match unit {
            TimeUnit::Second => i128::from(get!(TimestampSecondType)) * 1_000_000_000,
            TimeUnit::Millisecond => i128::from(get!(TimestampMillisecondType)) * 1_000_000,
            TimeUnit::Microsecond => i128::from(get!(TimestampMicrosecondType)) * 1_000,
            TimeUnit::Nanosecond => get!(TimestampNanosecondType).into(),
        }),
        Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            value(dictionary.values(), dictionary.normalized_keys()[row])
        }
        other => panic!("{other} is not generated"),
    }
}

/// A point in time, if it is in the years 0001 to 9999.
fn timestamp(ns: i128) -> Option<Timestamp> {
    let us = Timestamp::from_us(ns.div_euclid(1_000).try_into().ok()?)?;
    Some(Timestamp { ns: ns.rem_euclid(1_000).try_into().unwrap(), ..us })
}

/// The time that a value of the column of times means.
fn time_of(value: &Value, precision: Precision) -> Option<Timestamp> {
    let number = match value {
        Value::Time(ns) => return timestamp(*ns),
        Value::Int(value) => i128::from(*value),
        Value::Uint(value) => i128::from(*value),
        _ => panic!("not generated as a time"),
    };
    let unit_ns = match precision {
        Precision::Auto => match i64::try_from(number) {
            Ok(number) => return from_magnitude(number),
            Err(_) => 1,
        },
        Precision::Nanosecond => 1,
        Precision::Microsecond => 1_000,
        Precision::Millisecond => 1_000_000,
        Precision::Second => 1_000_000_000,
        Precision::Minute => 60_000_000_000,
        Precision::Hour => 3_600_000_000_000,
    };
    timestamp(number * unit_ns)
}

/// What became of the rows: how many were taken, and which were not, from 1, and why.
pub(crate) type Outcome = (u64, Vec<(u64, String)>);

/// Decodes one stream of nothing but supported types.
pub(crate) fn decode(
    body: &[u8],
    parameters: &Parameters<'_>,
    precision: Precision,
    received: Timestamp,
    database: &mut Database,
) -> Outcome {
    let table = database.table(parameters.measurement.unwrap()).unwrap();
    let (mut row_count, mut outcome) = (0, Outcome::default());
    for batch in StreamReader::try_new(Cursor::new(body), None).unwrap() {
        let batch = batch.unwrap();
        for row in 0..batch.num_rows() {
            row_count += 1;
            let table = database.table_mut(table);
            match append(table, &batch, row, parameters, precision, received) {
                Ok(()) => outcome.0 += 1,
                Err(reason) => {
                    table.rollback_row();
                    outcome.1.push((row_count, reason));
                }
            }
        }
    }
    outcome
}

fn append(
    table: &mut TableBuilder,
    batch: &RecordBatch,
    row: usize,
    parameters: &Parameters<'_>,
    precision: Precision,
    received: Timestamp,
) -> Result<(), String> {
    let (mut time, mut fields) = (received, 0);
    let beyond = |name: &str| {
        format!("column \"{}\": expected a time in the years 0001 to 9999", name.escape_debug())
    };
    for (field, array) in batch.schema().fields().iter().zip(batch.columns()) {
        if array.logical_nulls().is_some_and(|nulls| nulls.is_null(row)) {
            continue;
        }
        let (name, value) = (field.name(), value(array, row));
        if name == parameters.time.unwrap_or("time") {
            time = time_of(&value, precision).ok_or_else(|| beyond(name))?;
            continue;
        }
        let is_stated = parameters.tags.split(',').any(|tag| !tag.is_empty() && tag == name)
            || field.metadata().get("peristyle.role").is_some_and(|role| role == "tag");
        let is_known = matches!(value, Value::Text(_)) && table.role_of(name) == Some(Role::Tag);
        if is_stated || is_known {
            let text = match value {
                Value::Bool(value) => value.to_string(),
                Value::Int(value) => value.to_string(),
                Value::Uint(value) => value.to_string(),
                Value::Float(value) => value.to_string(),
                Value::Text(value) => value,
                Value::Time(_) => panic!("not generated as a tag"),
            };
            if !text.is_empty() {
                table.append_tag(name, &text).map_err(|error| error.to_string())?;
            }
            continue;
        }
        let column = table.field(name).map_err(|error| error.to_string())?;
        let appended = match value {
            Value::Bool(value) => table.append_bool(column, value),
            Value::Int(value) => table.append_i64(column, value),
            Value::Uint(value) => table.append_u64(column, value),
            Value::Float(value) => table.append_f64(column, value),
            Value::Text(value) => table.append_str(column, &value),
            Value::Time(ns) => {
                table.append_time(column, timestamp(ns).ok_or_else(|| beyond(name))?)
            }
        };
        appended.map_err(|error| error.to_string())?;
        fields += 1;
    }
    if fields == 0 {
        return Err("no usable field left".to_owned());
    }
    table.commit_row(time).map(drop).map_err(|error| error.to_string())
}
