//! What the tests share: one shard's tables without a server, and rows read back from chunks.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Decimal128Type, Float64Type, Int16Type, Int64Type, TimestampMicrosecondType, UInt32Type,
};
use arrow_array::{Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field};
use peristyle::gather::{Atomicity, Chunk, Database, Registry, Tables};
use peristyle::limits::Limits;
use peristyle::schema::pinned::PinnedSchema;
use peristyle::schema::{METADATA_NAME, METADATA_ROLE, TIME, TIME_NS, Unsigned};

/// A value as a test states it. Floats compare by bits, so that -0.0 and NaN mean themselves.
#[derive(Clone, Debug)]
pub enum Value {
    Bool(bool),
    Int(i64),
    /// U64 columns that hold more than INT64; [`Shard::new`] writes them as DECIMAL.
    Uint(u64),
    Float(f64),
    Str(String),
    /// Microseconds.
    Time(i64),
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Int(a), Self::Int(b)) | (Self::Time(a), Self::Time(b)) => a == b,
            (Self::Uint(a), Self::Uint(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => a.to_bits() == b.to_bits(),
            (Self::Str(a), Self::Str(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Value {}

/// A row as a test states it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    pub measurement: String,
    /// Nanoseconds since 1970-01-01 UTC.
    pub time_ns: i128,
    pub tags: BTreeMap<String, String>,
    pub fields: BTreeMap<String, Value>,
}

/// One shard's tables, without engine or server.
pub struct Shard {
    pub registry: Arc<Registry>,
    pub tables: Tables,
}

impl Shard {
    /// Unsigned columns are DECIMAL, so that every vector's values can be stored.
    pub fn new() -> Self {
        Self::with(Limits::DEFAULT, Unsigned::Decimal, Vec::new())
    }

    pub fn with(limits: Limits, unsigned: Unsigned, pins: Vec<PinnedSchema>) -> Self {
        Self::of(Arc::new(Registry::new(limits, unsigned, pins)))
    }

    /// Another shard of the same registry.
    pub fn of(registry: Arc<Registry>) -> Self {
        Self { tables: Tables::new(Arc::clone(&registry)), registry }
    }

    /// One write: `append` is what a decoder does with the database.
    pub fn write<T>(&mut self, atomicity: Atomicity, append: impl FnOnce(&mut Database) -> T) -> T {
        let database = self.tables.database("db").expect("room for a database");
        database.begin_write(atomicity);
        let result = append(database);
        database.end_write().expect("no other shard");
        result
    }

    /// Seals everything and gives the chunks away.
    pub fn chunks(&mut self) -> Vec<Chunk> {
        self.tables.take_chunks(None, false)
    }

    /// Seals everything and reads it back, chunk by chunk in row order.
    pub fn rows(&mut self) -> Vec<Row> {
        self.chunks().iter().flat_map(|it| rows_of(&it.measurement.name, &it.batch)).collect()
    }
}

/// The rows of one batch.
pub fn rows_of(measurement: &str, batch: &RecordBatch) -> Vec<Row> {
    let schema = batch.schema();
    let mut rows =
        vec![Row { measurement: measurement.to_owned(), ..Row::default() }; batch.num_rows()];
    for (field, array) in schema.fields().iter().zip(batch.columns()) {
        for (index, row) in rows.iter_mut().enumerate().filter(|(index, _)| array.is_valid(*index))
        {
            read_cell(row, field, array, index);
        }
    }
    rows
}

fn read_cell(row: &mut Row, field: &Field, array: &dyn Array, index: usize) {
    match field.name().as_str() {
        TIME => {
            let us = array.as_primitive::<TimestampMicrosecondType>().value(index);
            row.time_ns += i128::from(us) * 1_000;
            return;
        }
        TIME_NS => {
            row.time_ns += i128::from(array.as_primitive::<Int16Type>().value(index));
            return;
        }
        _ => {}
    }
    let name = field.metadata().get(METADATA_NAME).expect("every column keeps its name").clone();
    let value = value_at(array, index);
    if field.metadata().get(METADATA_ROLE).is_some_and(|role| role == "tag") {
        let Value::Str(value) = value else { panic!("tag {name} is no string") };
        row.tags.insert(name, value);
    } else {
        row.fields.insert(name, value);
    }
}

fn value_at(array: &dyn Array, index: usize) -> Value {
    match array.data_type() {
        DataType::Boolean => Value::Bool(array.as_boolean().value(index)),
        DataType::Int64 => Value::Int(array.as_primitive::<Int64Type>().value(index)),
        DataType::Float64 => Value::Float(array.as_primitive::<Float64Type>().value(index)),
        DataType::Utf8 => Value::Str(array.as_string::<i32>().value(index).to_owned()),
        DataType::Decimal128(20, 0) => {
            let value = array.as_primitive::<Decimal128Type>().value(index);
            Value::Uint(value.try_into().expect("a u64"))
        }
        DataType::Timestamp(..) => {
            Value::Time(array.as_primitive::<TimestampMicrosecondType>().value(index))
        }
        DataType::Dictionary(..) => {
            let dictionary = array.as_dictionary::<UInt32Type>();
            let values: &StringArray = dictionary.values().as_string();
            let key = dictionary.keys().value(index);
            Value::Str(values.value(usize::try_from(key).expect("a key")).to_owned())
        }
        other => panic!("unexpected column type {other}"),
    }
}
