//! Streams of Arrow IPC for the tests: from columns, and at random.

#![expect(clippy::indexing_slicing, reason = "a test stops at the first surprise")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow_array::types::{
    ArrowDictionaryKeyType, Date64Type, Float16Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{
    ArrayRef, ArrowPrimitiveType, BooleanArray, Date32Array, DictionaryArray, Float32Array,
    Float64Array, Int8Array, Int16Array, Int32Array, Int64Array, LargeStringArray, NullArray,
    PrimitiveArray, RecordBatch, StringArray, StringViewArray, UInt8Array, UInt16Array,
    UInt32Array, UInt64Array,
};
use arrow_buffer::{ArrowNativeType, Buffer, NullBuffer};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{IpcWriteOptions, StreamWriter};
use arrow_schema::{DataType, Field, Schema};

use crate::support::{Row, Value};

/// Numbers at random, the same for the same seed.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Splitmix64.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    /// True once in `count` times; never for 0.
    pub fn one_in(&mut self, count: usize) -> bool {
        count > 0 && self.below(count) == 0
    }
}

/// One column: its name, its metadata, its values.
pub struct Column {
    pub name: String,
    pub metadata: Vec<(&'static str, &'static str)>,
    pub array: ArrayRef,
}

pub fn column(name: &str, array: ArrayRef) -> Column {
    Column { name: name.to_owned(), metadata: Vec::new(), array }
}

/// A batch of these columns.
pub fn batch(columns: Vec<Column>) -> RecordBatch {
    let field = |column: &Column| {
        let metadata: HashMap<_, _> = column
            .metadata
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect();
        Field::new(&column.name, column.array.data_type().clone(), true).with_metadata(metadata)
    };
    let schema = Schema::new(columns.iter().map(field).collect::<Vec<_>>());
    let arrays = columns.into_iter().map(|column| column.array).collect();
    RecordBatch::try_new(Arc::new(schema), arrays).unwrap()
}

/// A stream of batches of one schema. No byte of the buffer is to spare.
pub fn stream(batches: &[RecordBatch], compression: Option<CompressionType>) -> Vec<u8> {
    let options = IpcWriteOptions::default().try_with_compression(compression).unwrap();
    let mut body = Vec::new();
    let schema = batches[0].schema();
    let mut writer = StreamWriter::try_new_with_options(&mut body, &schema, options).unwrap();
    for batch in batches {
        writer.write(batch).unwrap();
    }
    writer.finish().unwrap();
    drop(writer);
    body.shrink_to_fit();
    body
}

/// A stream of one column of floats, whose schema names the measurement.
pub fn floats(measurement: &str, name: &str, values: &[f64]) -> Vec<u8> {
    let metadata = HashMap::from([("peristyle.measurement".to_owned(), measurement.to_owned())]);
    let field = Field::new(name, DataType::Float64, true);
    let schema = Schema::new(vec![field]).with_metadata(metadata);
    let values: ArrayRef = Arc::new(Float64Array::from(values.to_vec()));
    stream(&[RecordBatch::try_new(Arc::new(schema), vec![values]).unwrap()], None)
}

/// A stream for each measurement of these rows, one behind the other.
pub fn streams(rows: &[Row]) -> Vec<u8> {
    let names: BTreeSet<&str> = rows.iter().map(|row| row.measurement.as_str()).collect();
    let of = |name: &str| {
        let rows = rows.iter().filter(|row| row.measurement == name).collect::<Vec<_>>();
        let all = batch(columns_of(&rows));
        let metadata = [("peristyle.measurement".to_owned(), name.to_owned())];
        let schema = all.schema().as_ref().clone().with_metadata(HashMap::from(metadata));
        stream(&[all.with_schema(Arc::new(schema)).unwrap()], None)
    };
    names.into_iter().flat_map(of).collect()
}

/// The columns of rows, whose fields have one kind for each name.
fn columns_of(rows: &[&Row]) -> Vec<Column> {
    let times = rows.iter().map(|row| i64::try_from(row.time_ns).unwrap());
    let times = PrimitiveArray::<TimestampNanosecondType>::from_iter_values(times);
    let mut columns = vec![column("time", Arc::new(times))];
    let tags: BTreeSet<&String> = rows.iter().flat_map(|row| row.tags.keys()).collect();
    for name in tags {
        let values: StringArray = rows.iter().map(|row| row.tags.get(name)).collect();
        let mut tag = column(name, Arc::new(values));
        tag.metadata.push(("peristyle.role", "tag"));
        columns.push(tag);
    }
    let fields: BTreeMap<&String, &Value> = rows.iter().flat_map(|row| &row.fields).collect();
    for (name, value) in fields {
        macro_rules! array {
            ($array:ty, $kind:ident) => {{
                let value = |row: &&Row| match row.fields.get(name) {
                    None => None,
                    Some(Value::$kind(value)) => Some(value.clone()),
                    Some(other) => panic!("{other:?} in {name}"),
                };
                Arc::new(rows.iter().map(value).collect::<$array>())
            }};
        }
        let array: ArrayRef = match value {
            Value::Bool(_) => array!(BooleanArray, Bool),
            Value::Int(_) => array!(Int64Array, Int),
            Value::Uint(_) => array!(UInt64Array, Uint),
            Value::Float(_) => array!(Float64Array, Float),
            Value::Str(_) => array!(StringArray, Str),
            Value::Time(_) => array!(PrimitiveArray<TimestampMicrosecondType>, Time),
        };
        columns.push(column(name, array));
    }
    columns
}

/// Names of types that [`array`] makes for fields.
pub const TYPES: &[&str] = &[
    "bool",
    "i8",
    "i16",
    "i32",
    "i64",
    "u8",
    "u16",
    "u32",
    "u64",
    "f16",
    "f32",
    "f64",
    "utf8",
    "large_utf8",
    "utf8_view",
    "dict_i8",
    "dict_u8",
    "dict_i16",
    "dict_u16",
    "dict_i32",
    "dict_u32",
    "dict_i64",
    "dict_u64",
    "s",
    "ms",
    "us",
    "ns",
    "date32",
    "date64",
    "null",
];

/// How the values of a column are chosen.
#[derive(Clone, Copy)]
pub struct Mood {
    /// One in so many is null; 0 for none.
    pub nulls: usize,
    /// One in so many is at the edge of what can be taken, or beyond it.
    pub wild: usize,
}

fn text(random: &mut Random, mood: Mood) -> String {
    if random.one_in(mood.wild) {
        return ["", "far beyond what a string may be here", "\u{e9}\u{4e16}\""][random.below(3)]
            .to_owned();
    }
    format!("v{}", random.below(50))
}

fn integer(random: &mut Random, mood: Mood) -> i64 {
    if random.one_in(mood.wild) {
        let edges = [i64::MIN, i64::MAX, -1, 1 << 53, (1 << 53) + 1, 0];
        return edges[random.below(edges.len())];
    }
    i64::try_from(random.below(1_000)).unwrap()
}

fn float(random: &mut Random, mood: Mood) -> f64 {
    if random.one_in(mood.wild) {
        let edges = [f64::NAN, f64::INFINITY, -0.0, 1e300, 0.5];
        return edges[random.below(edges.len())];
    }
    f64::from(u32::try_from(random.below(1_000)).unwrap())
}

/// Keys into a dictionary of 20 values.
fn dictionary<K: ArrowDictionaryKeyType>(random: &mut Random, mood: Mood, rows: usize) -> ArrayRef {
    let keys: PrimitiveArray<K> = (0..rows)
        .map(|_| (!random.one_in(mood.nulls)).then(|| K::Native::usize_as(random.below(20))))
        .collect();
    let value = |random: &mut Random, index: usize| {
        if random.one_in(mood.wild) { text(random, mood) } else { format!("d{index}") }
    };
    let values: StringArray =
        (0..20).map(|index| (!random.one_in(mood.wild)).then(|| value(random, index))).collect();
    Arc::new(DictionaryArray::new(keys, Arc::new(values)))
}

/// Points in time of the middle of 2023, in units of so many nanoseconds.
fn times_of<T: ArrowPrimitiveType<Native = i64>>(
    random: &mut Random,
    mood: Mood,
    rows: usize,
    unit_ns: i64,
) -> PrimitiveArray<T> {
    let time = |random: &mut Random| {
        let ns = 1_690_000_000_000_000_000 + i64::try_from(random.below(1_000_000_000)).unwrap();
        if random.one_in(mood.wild) { integer(random, mood) } else { ns / unit_ns }
    };
    (0..rows).map(|_| (!random.one_in(mood.nulls)).then(|| time(random))).collect()
}

/// An array of that type.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "any value will do")]
pub fn array(random: &mut Random, name: &str, mood: Mood, rows: usize) -> ArrayRef {
    macro_rules! values {
        ($value:expr) => {
            (0..rows).map(|_| (!random.one_in(mood.nulls)).then(|| $value)).collect::<Vec<_>>()
        };
    }
    match name {
        "bool" => Arc::new(BooleanArray::from(values!(random.one_in(2)))),
        "i8" => Arc::new(Int8Array::from(values!(integer(random, mood) as i8))),
        "i16" => Arc::new(Int16Array::from(values!(integer(random, mood) as i16))),
        "i32" => Arc::new(Int32Array::from(values!(integer(random, mood) as i32))),
        "i64" => Arc::new(Int64Array::from(values!(integer(random, mood)))),
        "u8" => Arc::new(UInt8Array::from(values!(integer(random, mood) as u8))),
        "u16" => Arc::new(UInt16Array::from(values!(integer(random, mood) as u16))),
        "u32" => Arc::new(UInt32Array::from(values!(integer(random, mood) as u32))),
        "u64" => Arc::new(UInt64Array::from(values!(integer(random, mood) as u64))),
        "f16" => {
            let bits: Vec<u16> = (0..rows).map(|_| random.next() as u16).collect();
            let nulls: NullBuffer = (0..rows).map(|_| !random.one_in(mood.nulls)).collect();
            let bits = Buffer::from_vec(bits).into();
            Arc::new(PrimitiveArray::<Float16Type>::new(bits, Some(nulls)))
        }
        "f32" => Arc::new(Float32Array::from(values!(float(random, mood) as f32))),
        "f64" => Arc::new(Float64Array::from(values!(float(random, mood)))),
        "utf8" => Arc::new(StringArray::from(values!(text(random, mood)))),
        "large_utf8" => Arc::new(LargeStringArray::from(values!(text(random, mood)))),
        "utf8_view" => {
            Arc::new(values!(text(random, mood)).into_iter().collect::<StringViewArray>())
        }
        "dict_i8" => dictionary::<Int8Type>(random, mood, rows),
        "dict_u8" => dictionary::<UInt8Type>(random, mood, rows),
        "dict_i16" => dictionary::<Int16Type>(random, mood, rows),
        "dict_u16" => dictionary::<UInt16Type>(random, mood, rows),
        "dict_i32" => dictionary::<Int32Type>(random, mood, rows),
        "dict_u32" => dictionary::<UInt32Type>(random, mood, rows),
        "dict_i64" => dictionary::<Int64Type>(random, mood, rows),
        "dict_u64" => dictionary::<UInt64Type>(random, mood, rows),
        "s" => Arc::new(times_of::<TimestampSecondType>(random, mood, rows, 1_000_000_000)),
        "ms" => Arc::new(times_of::<TimestampMillisecondType>(random, mood, rows, 1_000_000)),
        "us" => {
            let us = times_of::<TimestampMicrosecondType>(random, mood, rows, 1_000);
            Arc::new(us.with_timezone("Europe/Berlin"))
        }
        // A field cannot hold digits below a microsecond; a time can.
        "ns" => {
            let ns = times_of::<TimestampNanosecondType>(random, mood, rows, 1);
            let whole: PrimitiveArray<TimestampNanosecondType> = ns.unary(|ns| ns / 1_000 * 1_000);
            Arc::new(whole)
        }
        "all_ns" => Arc::new(times_of::<TimestampNanosecondType>(random, mood, rows, 1)),
        "date32" => Arc::new(Date32Array::from(values!(integer(random, mood) as i32))),
        "date64" => Arc::new(times_of::<Date64Type>(random, mood, rows, 1_000_000)),
        "null" => Arc::new(NullArray::new(rows)),
        other => panic!("no type {other}"),
    }
}

/// A column of times: timestamps, integers of any magnitude, or dates.
pub fn times(random: &mut Random, mood: Mood, rows: usize) -> ArrayRef {
    let types = ["s", "ms", "us", "all_ns", "i64", "u64", "i32", "date32", "date64", "null"];
    let name = types[random.below(types.len())];
    array(random, name, mood, rows)
}
