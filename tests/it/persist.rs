//! Record batches to Parquet files and back: nothing lost, nothing half-visible.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow_array::builder::StringDictionaryBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::types::{Decimal128Type, Float64Type, Int16Type, Int64Type, UInt32Type};
use arrow_array::{
    Array, ArrayRef, BooleanArray, Decimal128Array, DictionaryArray, Float64Array, Int16Array,
    Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Encoding, LogicalType};
use peristyle::disk::LocalDisk;
use peristyle::persist::{Operation, SegmentRequest, Store, is_intact, layout, write_segments};
use peristyle::schema::{METADATA_KIND, METADATA_NAME, METADATA_ROLE};
use peristyle::segment::SegmentMeta;
use peristyle::timestamp::{Timestamp, US_PER_DAY};
use proptest::prelude::*;

use crate::live::Live;
use crate::processes;

/// A value of any kind, as it went in or came out.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Bool(bool),
    I64(i64),
    Decimal(i128),
    F64(f64),
    String(String),
    Tag(String),
    Time(i64),
    Ns(i16),
}

/// Columns by name, without nulls.
type Row = BTreeMap<String, Value>;

fn utc(name: &str) -> Field {
    Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true)
}

fn tag_type() -> DataType {
    DataType::Dictionary(Box::new(DataType::UInt32), Box::new(DataType::Utf8))
}

/// One column of every kind.
fn schema() -> SchemaRef {
    let described = |field: Field, role: &str, kind: &str| {
        let name = field.name().clone();
        field.with_metadata(
            [(METADATA_ROLE, role), (METADATA_KIND, kind), (METADATA_NAME, &name)]
                .map(|(key, value)| (key.to_owned(), value.to_owned())),
        )
    };
    Arc::new(Schema::new(vec![
        described(utc("time").with_nullable(false), "time", "timestamp"),
        described(Field::new("time_ns", DataType::Int16, true), "time", "integer"),
        described(Field::new("host", tag_type(), true), "tag", "string"),
        described(Field::new("usage", DataType::Float64, true), "field", "float"),
        described(Field::new("count", DataType::Int64, true), "field", "integer"),
        described(Field::new("big", DataType::Decimal128(20, 0), true), "field", "unsigned"),
        described(Field::new("ok", DataType::Boolean, true), "field", "boolean"),
        described(Field::new("a.b c", DataType::Utf8, true), "field", "string"),
        described(utc("seen"), "field", "timestamp"),
        described(Field::new("never", DataType::Float64, true), "field", "float"),
    ]))
}

/// The column `name` of `rows`.
fn column(name: &str, rows: &[Row]) -> ArrayRef {
    macro_rules! values {
        ($variant:ident) => {
            rows.iter().map(|row| match row.get(name) {
                Some(Value::$variant(value)) => Some(value.clone()),
                None => None,
                Some(other) => panic!("{name}: {other:?}"),
            })
        };
    }
    match name {
        "time" | "seen" => {
            Arc::new(values!(Time).collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
        }
        "time_ns" => Arc::new(values!(Ns).collect::<Int16Array>()),
        "host" => {
            let mut tags = StringDictionaryBuilder::<UInt32Type>::new();
            tags.extend(values!(Tag));
            Arc::new(tags.finish())
        }
        "usage" | "never" => Arc::new(values!(F64).collect::<Float64Array>()),
        "count" => Arc::new(values!(I64).collect::<Int64Array>()),
        "big" => Arc::new(
            values!(Decimal).collect::<Decimal128Array>().with_precision_and_scale(20, 0).unwrap(),
        ),
        "ok" => Arc::new(values!(Bool).collect::<BooleanArray>()),
        "a.b c" => Arc::new(values!(String).collect::<StringArray>()),
        _ => panic!("{name}"),
    }
}

/// `rows` with only the columns that one of them has, so that batches differ; and in another
/// order when `reversed`.
fn batch(rows: &[Row], reversed: bool) -> RecordBatch {
    let schema = schema();
    let mut fields: Vec<_> = schema
        .fields()
        .iter()
        .filter(|field| rows.iter().any(|row| row.contains_key(field.name())))
        .cloned()
        .collect();
    if reversed {
        fields.reverse();
    }
    let columns = fields.iter().map(|field| column(field.name(), rows)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

fn request(batches: Vec<RecordBatch>, sequence: u64) -> SegmentRequest {
    SegmentRequest {
        database: "db/rp".to_owned(),
        measurement: "CPU load".to_owned(),
        schema: schema(),
        batches,
        sort_key: vec!["time".to_owned()],
        instance: "9b1c03de".to_owned(),
        sequence,
        journal: 1,
    }
}

/// The value in `row` of `array`, whatever its type in the file.
fn value(array: &ArrayRef, row: usize) -> Option<Value> {
    if array.is_null(row) {
        return None;
    }
    Some(match array.data_type() {
        DataType::Boolean => Value::Bool(array.as_boolean().value(row)),
        DataType::Int16 => Value::Ns(array.as_primitive::<Int16Type>().value(row)),
        DataType::Int64 => Value::I64(array.as_primitive::<Int64Type>().value(row)),
        DataType::Float64 => Value::F64(array.as_primitive::<Float64Type>().value(row)),
        DataType::Decimal128(20, 0) => {
            Value::Decimal(array.as_primitive::<Decimal128Type>().value(row))
        }
        DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) if zone.as_ref() == "UTC" => {
            Value::Time(array.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        DataType::Utf8 => Value::String(array.as_string::<i32>().value(row).to_owned()),
        other => panic!("{other}"),
    })
}

/// The rows of a file, in its order. Tags come back as plain strings, and are told by their name.
fn read(path: &Path) -> Vec<Row> {
    let file = File::open(path).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    let mut rows = Vec::new();
    for batch in reader {
        let batch = batch.unwrap();
        for at in 0..batch.num_rows() {
            let cells = batch.schema_ref().fields().iter().zip(batch.columns());
            let present = cells.filter_map(|(field, array)| {
                let value = match value(array, at)? {
                    Value::String(value) if field.name() == "host" => Value::Tag(value),
                    value => value,
                };
                Some((field.name().clone(), value))
            });
            rows.push(present.collect());
        }
    }
    rows
}

fn read_all(store: &Store, segments: &[SegmentMeta]) -> Vec<Row> {
    segments.iter().flat_map(|it| read(&store.data_dir().join(&it.path))).collect()
}

fn time_of(row: &Row) -> (i64, i16) {
    let Some(Value::Time(us)) = row.get("time") else { panic!("{row:?}") };
    match row.get("time_ns") {
        Some(Value::Ns(ns)) => (*us, *ns),
        _ => (*us, 0),
    }
}

/// All files below `directory`.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn tables(store: &Store) -> PathBuf {
    store.data_dir().join(layout::TABLES)
}

fn row(us: i64, values: &[(&str, Value)]) -> Row {
    let time = ("time".to_owned(), Value::Time(us));
    values.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).chain([time]).collect()
}

fn open() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(Arc::new(LocalDisk), directory.path()).unwrap();
    (directory, store)
}

#[test]
fn every_kind_comes_back() {
    let (_directory, store) = open();
    let string = |value: &str| Value::String(value.to_owned());
    let tag = |value: &str| Value::Tag(value.to_owned());
    let rows = [
        row(1, &[("host", tag("a")), ("usage", Value::F64(-0.0)), ("a.b c", string(""))]),
        row(2, &[("host", tag("")), ("count", Value::I64(i64::MIN)), ("ok", Value::Bool(true))]),
        row(3, &[("big", Value::Decimal(i128::from(u64::MAX))), ("seen", Value::Time(-1))]),
        row(4, &[("time_ns", Value::Ns(999)), ("a.b c", string("\u{1f3db} \"\\\n\0"))]),
        row(5, &[("host", tag(&"x".repeat(64 << 10))), ("usage", Value::F64(f64::MAX))]),
        row(6, &[("count", Value::I64(i64::MAX)), ("ok", Value::Bool(false))]),
    ];
    let segments = write_segments(&store, &request(vec![batch(&rows, false)], 7)).unwrap();
    assert_eq!(read_all(&store, &segments), rows);
    let path =
        "tables/db@2Frp/@43@50@55@20load/date=1970-01-01/9b1c03de-0000000000000007-0000.parquet";
    let bytes = fs::metadata(store.data_dir().join(path)).unwrap().len();
    let columns = segments[0].columns.clone();
    let names: Vec<_> = columns.iter().map(|it| it.name.as_str()).collect();
    let all: Vec<_> = schema().fields().iter().map(|it| it.name().clone()).collect();
    assert_eq!([&names[..], &["never"]].concat(), all);
    let expected = SegmentMeta {
        path: path.into(),
        database: "db/rp".to_owned(),
        measurement: "CPU load".to_owned(),
        date: "1970-01-01".to_owned(),
        rows: 6,
        bytes,
        modified_ms: segments[0].modified_ms,
        time_us_min: 1,
        time_us_max: 6,
        columns,
    };
    assert_eq!(segments, [expected]);
}

#[test]
fn the_footer_describes_the_file() {
    let (_directory, store) = open();
    let rows = [row(5, &[("host", Value::Tag("a".into())), ("usage", Value::F64(1.5))])];
    let segments = write_segments(&store, &request(vec![batch(&rows, false)], 42)).unwrap();
    let file = File::open(store.data_dir().join(&segments[0].path)).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let metadata = reader.metadata().file_metadata();
    let pairs = metadata.key_value_metadata().unwrap();
    let pair = |key: &str| pairs.iter().find(|it| it.key == key).unwrap().value.clone().unwrap();
    assert_eq!(pair("peristyle.database"), "db/rp");
    assert_eq!(pair("peristyle.measurement"), "CPU load");
    assert_eq!(pair("peristyle.sequence"), "42");
    let sorted = reader.metadata().row_group(0).sorting_columns().unwrap();
    assert_eq!((sorted[0].column_idx, sorted[0].descending), (0, false));
    let names: Vec<_> = reader.schema().fields().iter().map(|it| it.name().clone()).collect();
    assert_eq!(names, ["time", "host", "usage"], "columns without a value are left out");
    let host = reader.schema().field(1);
    assert_eq!(host.data_type(), &DataType::Utf8, "a tag is a plain string to readers");
    assert_eq!(host.metadata(), schema().field(2).metadata());
}

#[test]
fn a_bit_that_is_flipped_anywhere_in_a_file_is_found() {
    let (_directory, store) = open();
    let rows = [row(5, &[("host", Value::Tag("a".into())), ("usage", Value::F64(1.5))])];
    let segments = write_segments(&store, &request(vec![batch(&rows, false)], 42)).unwrap();
    let path = store.data_dir().join(&segments[0].path);
    let whole = fs::read(&path).unwrap();
    assert_eq!(is_intact(&LocalDisk, &path).unwrap(), Some(true));
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(&path, &bytes).unwrap();
        assert!(!matches!(is_intact(&LocalDisk, &path), Ok(Some(true))), "byte {at}");
        fs::write(&path, &whole[..at]).unwrap();
        assert!(!matches!(is_intact(&LocalDisk, &path), Ok(Some(true))), "cut at {at}");
    }
}

/// The rows of the table in `schemas/segment.md` that begins with `heading`, cut into cells.
fn contract(heading: &str) -> Vec<Vec<&'static str>> {
    include_str!("../../schemas/segment.md")
        .lines()
        .skip_while(|it| !it.starts_with(heading))
        .skip(2)
        .take_while(|it| it.starts_with('|'))
        .map(|it| it.trim_matches('|').split(" | ").map(|it| it.trim_matches([' ', '`'])).collect())
        .collect()
}

#[test]
fn columns_and_footer_are_as_the_contract_says() {
    let (_directory, store) = open();
    let all = [
        ("time_ns", Value::Ns(1)),
        ("host", Value::Tag("a".into())),
        ("usage", Value::F64(1.0)),
        ("count", Value::I64(1)),
        ("big", Value::Decimal(1)),
        ("ok", Value::Bool(true)),
        ("a.b c", Value::String("b".into())),
        ("seen", Value::Time(1)),
    ];
    let rows: Vec<_> = (0..3).map(|us| row(us, &all)).collect();
    let segments = write_segments(&store, &request(vec![batch(&rows, false)], 1)).unwrap();
    let file = File::open(store.data_dir().join(&segments[0].path)).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let metadata = reader.metadata();
    let names = [
        ("time", "time"),
        ("time_ns", "time_ns"),
        ("tag", "host"),
        ("string", "a.b c"),
        ("float", "usage"),
        ("integer", "count"),
        ("unsigned", "count"),
        ("unsigned as decimal", "big"),
        ("boolean", "ok"),
        ("timestamp", "seen"),
    ];
    let expected = contract("| column |");
    assert_eq!(expected.len(), names.len());
    for (row, (kind, name)) in expected.iter().zip(names) {
        let group = metadata.row_group(0);
        let at = group.columns().iter().position(|it| it.column_path().parts() == [name]).unwrap();
        let column = group.column(at);
        let logical = match column.column_descr().logical_type_ref() {
            None => String::new(),
            Some(LogicalType::String) => ", STRING".to_owned(),
            Some(LogicalType::Timestamp(it)) if it.is_adjusted_to_u_t_c => {
                format!(", TIMESTAMP({:?}, UTC)", it.unit)
            }
            Some(LogicalType::Integer(it)) if it.is_signed => {
                format!(", INTEGER({}, signed)", it.bit_width)
            }
            Some(LogicalType::Decimal(it)) => format!(", DECIMAL({}, {})", it.precision, it.scale),
            Some(other) => format!(", {other:?}"),
        };
        // A dictionary itself is PLAIN, and levels are RLE.
        let has_dictionary = column.dictionary_page_offset().is_some();
        let is_of_values = |it| it != Encoding::RLE && !(it == Encoding::PLAIN && has_dictionary);
        let encodings: Vec<_> =
            column.encodings().filter(|it| is_of_values(*it)).map(|it| it.to_string()).collect();
        let statistics = match (column.statistics(), column.column_index_offset()) {
            (None, _) => "none",
            (Some(_), None) => "chunk",
            (Some(_), Some(_)) => "page, chunk",
        };
        let found = [
            kind.to_owned(),
            format!("{}{logical}", column.column_type()),
            encodings.join(", "),
            statistics.to_owned(),
        ];
        assert_eq!(found, row.as_slice());
    }
    let pairs = metadata.file_metadata().key_value_metadata().unwrap();
    let keys: Vec<_> = pairs.iter().map(|it| it.key.as_str()).collect();
    assert_eq!(keys, contract("| key |").iter().map(|it| it[0]).collect::<Vec<_>>());
}

#[test]
fn rows_are_cut_at_midnight_before_1970_too() {
    let (_directory, store) = open();
    let times = [
        Timestamp::MIN.us,
        -US_PER_DAY - 1,
        -US_PER_DAY,
        -1,
        0,
        US_PER_DAY - 1,
        US_PER_DAY,
        Timestamp::MAX.us,
    ];
    let rows = times.map(|us| row(us, &[("count", Value::I64(us))]));
    let segments = write_segments(&store, &request(vec![batch(&rows, false)], 1)).unwrap();
    let dates: Vec<_> = segments.iter().map(|it| (it.date.as_str(), it.rows)).collect();
    assert_eq!(
        dates,
        [
            ("0001-01-01", 1),
            ("1969-12-30", 1),
            ("1969-12-31", 2),
            ("1970-01-01", 2),
            ("1970-01-02", 1),
            ("9999-12-31", 1)
        ]
    );
    assert_eq!(read_all(&store, &segments), rows);
    assert_eq!((segments[2].time_us_min, segments[2].time_us_max), (-US_PER_DAY, -1));
}

#[test]
fn nothing_in_nothing_out() {
    let (_directory, store) = open();
    let empty = batch(&[row(1, &[])], false).slice(0, 0);
    assert_eq!(write_segments(&store, &request(vec![empty], 1)).unwrap(), []);
    assert_eq!(files(&tables(&store)), [] as [PathBuf; 0]);
}

#[test]
fn a_column_of_another_type_is_an_error() {
    let (_directory, store) = open();
    let fields = vec![utc("time").with_nullable(false), Field::new("usage", DataType::Int64, true)];
    let times = TimestampMicrosecondArray::from(vec![1]).with_timezone("UTC");
    let columns: Vec<ArrayRef> = vec![Arc::new(times), Arc::new(Int64Array::from(vec![1]))];
    let wrong = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    let error = write_segments(&store, &request(vec![wrong], 1)).unwrap_err();
    let message = std::error::Error::source(&error).unwrap().to_string();
    assert!(message.contains("column usage: expected Float64, found Int64"), "{message}");
    assert_eq!(error.operation, Operation::Sort);
}

#[test]
fn more_rows_than_are_gathered_at_a_time_come_back() {
    let (_directory, store) = open();
    let rows: Vec<_> = (0..70_000_i64)
        .map(|at| {
            let host = Value::Tag(format!("host_{}", at % 4_001));
            row(at.reverse_bits() >> 20, &[("count", Value::I64(at)), ("host", host)])
        })
        .collect();
    let batches = rows.chunks(30_000).map(|it| batch(it, false)).collect();
    let segments = write_segments(&store, &request(batches, 1)).unwrap();
    let mut expected = rows;
    expected.sort_by_key(time_of);
    assert!(read_all(&store, &segments) == expected);
}

/// Values given to an encoder at a time.
const PIECE: i64 = 16 << 10;

#[test]
fn values_come_back_where_the_pieces_of_a_column_end() {
    let (_directory, store) = open();
    for count in [PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 1] {
        // In order, then all over two batches.
        for (part, time) in [(0, 1), (1, 7)] {
            let rows: Vec<_> =
                (0..count)
                    .map(|at| {
                        let text = Value::String(at.to_string());
                        let mut values = vec![("count", Value::I64(-at)), ("a.b c", text)];
                        values.extend((at % 3 > 0).then_some((
                            "usage",
                            Value::F64(f64::from(i32::try_from(at).unwrap())),
                        )));
                        row(at * time % count, &values)
                    })
                    .collect();
            let batches = rows.chunks(10_000).map(|it| batch(it, false)).collect();
            let sequence = 2 * u64::try_from(count).unwrap() + part;
            let segments = write_segments(&store, &request(batches, sequence)).unwrap();
            let mut expected = rows;
            expected.sort_by_key(time_of);
            assert!(read_all(&store, &segments) == expected, "{count} rows, {part}");
        }
    }
}

/// Any row; few times, so that many are equal, over three days around 1970.
fn any_row() -> impl Strategy<Value = Row> {
    let time = (-2..4_i64, 0..3_i64).prop_map(|(half_days, us)| half_days * US_PER_DAY / 2 + us);
    let ns = prop::option::weighted(0.2, (0..3_i16).prop_map(Value::Ns));
    let host = prop::option::of("[ab]?|\u{e9}".prop_map(Value::Tag));
    let usage = prop::option::of((-1e9..1e9).prop_map(Value::F64));
    let count = prop::option::weighted(0.3, any::<i64>().prop_map(Value::I64));
    let text = prop::option::weighted(0.3, ".{0,4}".prop_map(Value::String));
    let ok = prop::option::weighted(0.1, any::<bool>().prop_map(Value::Bool));
    (time, ns, host, usage, count, text, ok).prop_map(|(us, ns, host, usage, count, text, ok)| {
        let names = ["time_ns", "host", "usage", "count", "a.b c", "ok"];
        let values = [ns, host, usage, count, text, ok];
        let present: Vec<_> = names.into_iter().zip(values).collect();
        let present: Vec<_> =
            present.into_iter().filter_map(|(name, it)| Some((name, it?))).collect();
        row(us, &present)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn files_are_a_stable_sort_of_all_batches(
        parts in prop::collection::vec(
            (prop::collection::vec(any_row(), 0..12), any::<bool>(), any::<bool>()), 0..6),
    ) {
        let (_directory, store) = open();
        let mut arrived = Vec::new();
        let mut batches = Vec::new();
        for (mut rows, sorted, reversed) in parts {
            if sorted {
                rows.sort_by_key(time_of);
            }
            if !rows.is_empty() {
                batches.push(batch(&rows, reversed));
            }
            arrived.extend(rows);
        }
        let segments = write_segments(&store, &request(batches, 1)).unwrap();
        arrived.sort_by_key(time_of);
        prop_assert_eq!(read_all(&store, &segments), arrived);
        for segment in &segments {
            let rows = read(&store.data_dir().join(&segment.path));
            let times: Vec<_> = rows.iter().map(|it| time_of(it).0).collect();
            prop_assert_eq!(rows.len() as u64, segment.rows);
            prop_assert_eq!(times.first(), Some(&segment.time_us_min));
            prop_assert_eq!(times.last(), Some(&segment.time_us_max));
            let days = times.iter().map(|it| layout::date_of(it.div_euclid(US_PER_DAY)).unwrap());
            prop_assert!(days.into_iter().all(|it| it == segment.date));
        }
    }
}

/// Rows as a body has them: alike, numbered, and at one time, or at times that go on or back.
fn any_body() -> impl Strategy<Value = Vec<Row>> {
    // A run of 4,096 rows is a slice, shorter ones are copied together.
    let counts = prop_oneof![8 => 1..40_i64, 4 => 500..530_i64, 1 => 4_090..4_100_i64];
    (any_row(), counts, -1..8_i64).prop_map(|(first, count, step)| {
        let (us, ns) = time_of(&first);
        let numbered = (0..count).map(|at| {
            let mut row = row(us + at * step.min(2), &[("count", Value::I64(at))]);
            // Only the nanoseconds go on, once past the end of the microsecond.
            if step == 7 {
                let ns = (i64::from(ns) + at) % 1_000;
                row.insert("time_ns".to_owned(), Value::Ns(i16::try_from(ns).unwrap()));
            }
            let is_free = |name: &str| !["time", "time_ns", "count"].contains(&name);
            let others = first.iter().filter(|(name, _)| is_free(name) && at % 5 < step.max(4));
            row.extend(others.map(|(name, it)| (name.clone(), it.clone())));
            row
        });
        numbered.collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Long runs of rows are not gathered: they are slices of batches, that follow one another as
    /// a sort has them.
    #[test]
    fn bodies_of_several_batches_are_in_the_order_of_time(
        parts in prop::collection::vec(prop::collection::vec(any_body(), 0..6), 0..5),
    ) {
        let (_directory, store) = open();
        let batches = parts.iter().map(|bodies| bodies.concat()).filter(|it| !it.is_empty());
        let segments =
            write_segments(&store, &request(batches.map(|it| batch(&it, false)).collect(), 1));
        let mut expected: Vec<Row> = parts.concat().concat();
        expected.sort_by_key(time_of);
        prop_assert!(read_all(&store, &segments.unwrap()) == expected);
    }
}

#[test]
fn a_tag_column_with_a_shared_dictionary_is_not_decoded() {
    let (_directory, store) = open();
    let one = batch(&[row(2, &[("host", Value::Tag("a".into()))])], false);
    let tags = one.column_by_name("host").unwrap().as_dictionary::<UInt32Type>().clone();
    let other = RecordBatch::try_new(
        one.schema(),
        vec![
            column("time", &[row(1, &[])]),
            Arc::new(DictionaryArray::new(tags.keys().clone(), Arc::clone(tags.values()))),
        ],
    )
    .unwrap();
    let segments = write_segments(&store, &request(vec![one.clone(), other, one], 1)).unwrap();
    assert_eq!(segments[0].rows, 3);
}

// What follows is about the order of a sort key.

/// Null first, then by value: the order that `schemas/segment.md` states, said slowly.
fn compare(left: Option<&Value>, right: Option<&Value>) -> std::cmp::Ordering {
    match (left, right) {
        (Some(Value::Bool(left)), Some(Value::Bool(right))) => left.cmp(right),
        (Some(Value::I64(left)), Some(Value::I64(right)))
        | (Some(Value::Time(left)), Some(Value::Time(right))) => left.cmp(right),
        (Some(Value::Decimal(left)), Some(Value::Decimal(right))) => left.cmp(right),
        (Some(Value::F64(left)), Some(Value::F64(right))) => left.total_cmp(right),
        (Some(Value::String(left)), Some(Value::String(right)))
        | (Some(Value::Tag(left)), Some(Value::Tag(right))) => {
            left.as_bytes().cmp(right.as_bytes())
        }
        (Some(_), Some(_)) => panic!("{left:?} and {right:?}"),
        (left, right) => left.is_some().cmp(&right.is_some()),
    }
}

/// A stable sort by day, key, time.
fn sort_by_key(rows: &mut [Row], sort_key: &[String]) {
    let day = |row: &Row| time_of(row).0.div_euclid(US_PER_DAY);
    rows.sort_by(|left, right| {
        let by_key = sort_key.iter().map(|name| compare(left.get(name), right.get(name)));
        let by_key = by_key.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then);
        day(left).cmp(&day(right)).then(by_key).then(time_of(left).cmp(&time_of(right)))
    });
}

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|it| (*it).to_owned()).collect()
}

/// The names of the columns that every row group of a file says it is sorted by.
fn sorting_columns(path: &Path) -> Vec<String> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    let group = reader.metadata().row_group(0);
    let sorting = group.sorting_columns().unwrap();
    for other in reader.metadata().row_groups() {
        assert_eq!(other.sorting_columns(), Some(sorting));
    }
    let name = |at: i32| group.column(usize::try_from(at).unwrap()).column_path().parts().concat();
    let names = sorting.iter().map(|it| {
        let name = name(it.column_idx);
        assert_eq!((it.descending, it.nulls_first), (false, name != "time"), "{name}");
        name
    });
    names.collect()
}

#[test]
fn rows_of_a_day_are_in_the_order_of_the_key_and_then_of_time() {
    let (_directory, store) = open();
    let at = |us: i64, host: Option<&str>, count: i64| {
        let host = host.map(|it| ("host", Value::Tag(it.to_owned())));
        row(us, &host.into_iter().chain([("count", Value::I64(count))]).collect::<Vec<_>>())
    };
    // The dictionary of the first batch is b, a; that of the second a, c.
    let first = [at(1, Some("b"), 0), at(2, Some("a"), 1), at(US_PER_DAY, Some("b"), 2)];
    let second = [at(0, None, 3), at(1, Some("a"), 4), at(3, Some("c"), 5), at(2, Some("a"), 6)];
    let third = [at(US_PER_DAY + 1, Some("a"), 7)];
    let batches = vec![batch(&first, false), batch(&second, true), batch(&third, false)];
    let mut request = request(batches, 1);
    request.sort_key = strings(&["host", "never", "time"]);
    let segments = write_segments(&store, &request).unwrap();
    let counts: Vec<_> =
        read_all(&store, &segments).iter().map(|it| it.get("count").cloned().unwrap()).collect();
    assert_eq!(counts, [3, 4, 1, 6, 0, 5, 7, 2].map(Value::I64));
    let days: Vec<_> =
        segments.iter().map(|it| (it.rows, it.time_us_min, it.time_us_max)).collect();
    assert_eq!(days, [(6, 0, 3), (2, US_PER_DAY, US_PER_DAY + 1)]);
    for segment in &segments {
        assert_eq!(sorting_columns(&store.data_dir().join(&segment.path)), ["host", "time"]);
    }
}

#[test]
fn more_rows_than_are_gathered_at_a_time_come_back_in_the_order_of_the_key() {
    let (_directory, store) = open();
    let mut rows: Vec<_> = (0..70_000_i64)
        .map(|at| {
            let host = Value::Tag(format!("host_{}", at % 401));
            row(at.reverse_bits() >> 20, &[("count", Value::I64(at % 7)), ("host", host)])
        })
        .collect();
    let batches = rows.chunks(30_000).map(|it| batch(it, false)).collect();
    let mut request = request(batches, 1);
    request.sort_key = strings(&["count", "host"]);
    let segments = write_segments(&store, &request).unwrap();
    sort_by_key(&mut rows, &request.sort_key);
    assert!(read_all(&store, &segments) == rows);
}

#[test]
fn a_key_of_absent_columns_is_the_order_of_time() {
    let (_directory, store) = open();
    let rows = [2, 1].map(|us| row(us, &[("count", Value::I64(us))]));
    for (sequence, names) in (1..).zip([&["never"][..], &["never", "time"], &[]]) {
        let mut request = request(vec![batch(&rows, false)], sequence);
        request.sort_key = strings(names);
        let segments = write_segments(&store, &request).unwrap();
        assert_eq!(read_all(&store, &segments), [rows[1].clone(), rows[0].clone()]);
        assert_eq!(sorting_columns(&store.data_dir().join(&segments[0].path)), ["time"]);
    }
}

/// Any order of any columns; `never` is in no batch.
fn any_sort_key() -> impl Strategy<Value = Vec<String>> {
    let names = strings(&["time", "host", "usage", "count", "a.b c", "ok", "never"]);
    prop::sample::subsequence(names, 1..=4).prop_shuffle()
}

/// [`any_row`] with few values in `count`, so that what follows in a key decides.
fn any_row_of_few_values() -> impl Strategy<Value = Row> {
    (any_row(), -1..2_i64).prop_map(|(mut row, count)| {
        if let Some(value) = row.get_mut("count") {
            *value = Value::I64(count);
        }
        row
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn files_are_a_stable_sort_by_any_key(
        parts in prop::collection::vec(
            (prop::collection::vec(any_row_of_few_values(), 1..12), any::<bool>(), any::<bool>()),
            0..6),
        sort_key in any_sort_key(),
    ) {
        let (_directory, store) = open();
        let mut arrived = Vec::new();
        let mut batches = Vec::new();
        for (mut rows, sorted, reversed) in parts {
            if sorted {
                rows.sort_by_key(time_of);
            }
            batches.push(batch(&rows, reversed));
            arrived.extend(rows);
        }
        let mut request = request(batches, 1);
        request.sort_key.clone_from(&sort_key);
        let segments = write_segments(&store, &request).unwrap();
        sort_by_key(&mut arrived, &sort_key);
        prop_assert_eq!(read_all(&store, &segments), arrived.clone());

        let is_there = |name: &String| arrived.iter().any(|row| row.contains_key(name));
        let mut stated: Vec<_> = sort_key.iter().filter(|it| is_there(it)).cloned().collect();
        if !stated.contains(&"time".to_owned()) {
            stated.push("time".to_owned());
        }
        for segment in &segments {
            let path = store.data_dir().join(&segment.path);
            prop_assert_eq!(&sorting_columns(&path), &stated);
            let times: Vec<_> = read(&path).iter().map(|it| time_of(it).0).collect();
            prop_assert_eq!(times.len() as u64, segment.rows);
            prop_assert_eq!(times.iter().min(), Some(&segment.time_us_min));
            prop_assert_eq!(times.iter().max(), Some(&segment.time_us_max));
            let days = times.iter().map(|it| layout::date_of(it.div_euclid(US_PER_DAY)).unwrap());
            prop_assert!(days.into_iter().all(|it| it == segment.date));
        }
    }
}

#[test]
fn a_pin_decides_the_order_of_rows_through_the_whole_server() {
    // `room` comes second, so its name in files is another than on the wire.
    let pin = r#"{"measurement": "door", "sort_key": ["room", "opened", "time"], "columns": [
        {"name": "Room", "role": "field", "kind": "integer"},
        {"name": "room", "role": "tag"},
        {"name": "opened", "role": "field", "kind": "integer"}]}"#;
    let pin = peristyle::schema::pinned::parse("door.json", pin).unwrap();
    let live = Live::start_with(|options| options.pins = vec![pin]);
    let bodies = [
        "door,room=b opened=2i,Room=1i 5\ndoor,room=a opened=2i 4\nhall opened=2i 2\n",
        "door opened=9i 3\ndoor,room=b opened=1i 9\nhall opened=1i 1\n",
        "door,room=a opened=2i,Room=2i 1\ndoor,room=a opened=1i 86400\ndoor,room=a opened=1i 8\n",
    ];
    for body in bodies {
        assert_eq!(live.post("/write?db=db&precision=s", body).status, 204);
    }
    assert_eq!(live.rows("db").len(), 9);
    let integer = |row: &Row, name: &str| match row.get(name) {
        Some(Value::I64(value)) => *value,
        other => panic!("{name}: {other:?}"),
    };
    let found: Vec<_> = crate::live::files(live.directory.path())
        .iter()
        .map(|path| {
            let seconds = |row: &Row| time_of(row).0 / 1_000_000;
            let rows = read(path);
            let rows = rows.iter().map(|it| (integer(it, "opened"), seconds(it)));
            (sorting_columns(path), rows.collect::<Vec<_>>())
        })
        .collect();
    let key = strings(&["room~1", "opened", "time"]);
    let expected = [
        (key.clone(), vec![(9, 3), (1, 8), (2, 1), (2, 4), (1, 9), (2, 5)]),
        (key, vec![(1, 86_400)]),
        (strings(&["time"]), vec![(1, 1), (2, 2)]),
    ];
    assert_eq!(found, expected);
}

// What follows is about failures.

/// Two days, so two files.
fn two_days(sequence: u64) -> SegmentRequest {
    let rows = [0, US_PER_DAY].map(|us| row(us, &[("count", Value::I64(us))]));
    request(vec![batch(&rows, false)], sequence)
}

#[test]
fn nothing_is_overwritten_and_a_late_failure_takes_all_back() {
    let (_directory, store) = open();
    let segments = write_segments(&store, &two_days(1)).unwrap();
    let second = store.data_dir().join(&segments[1].path);
    fs::remove_file(store.data_dir().join(&segments[0].path)).unwrap();
    fs::write(&second, "somebody else's").unwrap();
    let error = write_segments(&store, &two_days(1)).unwrap_err();
    assert_eq!((error.operation, error.path.as_path()), (Operation::Publish, second.as_path()));
    assert_eq!(files(&tables(&store)), std::slice::from_ref(&second));
    assert_eq!(fs::read_to_string(second).unwrap(), "somebody else's");
}

#[test]
fn a_file_in_the_place_of_a_directory_fails_and_leaves_nothing() {
    let (_directory, store) = open();
    let table = store.data_dir().join(layout::table_directory("db/rp", "CPU load"));
    fs::create_dir_all(&table).unwrap();
    let stranger = table.join("date=1970-01-02");
    fs::write(&stranger, "").unwrap();
    let error = write_segments(&store, &two_days(1)).unwrap_err();
    let date = stranger.to_string_lossy().into_owned();
    assert!(error.to_string().contains(&date), "{error}");
    assert_eq!(files(&tables(&store)), std::slice::from_ref(&stranger));
    fs::remove_file(&stranger).unwrap();
    assert_eq!(write_segments(&store, &two_days(1)).unwrap().len(), 2, "the retry succeeds");
}

#[test]
fn a_removed_directory_is_made_again() {
    let (_directory, store) = open();
    write_segments(&store, &two_days(1)).unwrap();
    fs::remove_dir_all(store.data_dir().join(layout::database_directory("db/rp"))).unwrap();
    let segments = write_segments(&store, &two_days(2)).unwrap();
    assert_eq!(read_all(&store, &segments).len(), 2);
    // Another measurement, whose directory below the removed one was never made.
    fs::remove_dir_all(store.data_dir().join(layout::database_directory("db/rp"))).unwrap();
    let request = SegmentRequest { measurement: "new".to_owned(), ..two_days(2) };
    assert_eq!(write_segments(&store, &request).unwrap().len(), 2);
    store.remove_database("db/rp").unwrap();
    store.remove_database("db/rp").unwrap();
    assert_eq!(files(&tables(&store)), [] as [PathBuf; 0]);
    write_segments(&store, &two_days(3)).unwrap();
}

#[test]
fn a_data_directory_has_one_owner() {
    let (directory, store) = open();
    let error = Store::open(Arc::new(LocalDisk), directory.path()).unwrap_err();
    assert_eq!(error.operation, Operation::Lock);
    drop(store);
    let _alone = processes::none_starts();
    Store::open(Arc::new(LocalDisk), directory.path()).unwrap();
}

/// Rows that do not compress, so that the file is larger than the limits below.
fn large(sequence: u64) -> SegmentRequest {
    let rows: Vec<_> = (0..20_000_i64)
        .map(|at| {
            let noise = at.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64.cast_signed());
            row(at * US_PER_DAY / 10_000, &[("count", Value::I64(noise ^ (noise >> 29)))])
        })
        .collect();
    request(vec![batch(&rows, false)], sequence)
}

/// Run by the two tests below, in a process of its own with a limit on the size of files.
#[test]
fn child_writes_more_than_it_may() {
    let Some(directory) = std::env::var_os("PERISTYLE_TEST_LIMITED") else { return };
    let store = Store::open(Arc::new(LocalDisk), Path::new(&directory)).unwrap();
    let error = write_segments(&store, &large(1)).unwrap_err();
    assert!(matches!(error.cause, peristyle::persist::Cause::Io(_)), "{error:?}");
    assert_eq!(files(&tables(&store)), [] as [PathBuf; 0]);
}

fn run_limited(directory: &Path, before: &str) -> bool {
    let test = std::env::current_exe().unwrap();
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            &format!("{before} ulimit -f 16; exec \"$0\" \"$@\""),
            &test.to_string_lossy(),
        ])
        .args(["--exact", "persist::child_writes_more_than_it_may"])
        .env("PERISTYLE_TEST_LIMITED", directory);
    processes::output(&mut command).status.success()
}

#[test]
fn a_write_that_fails_halfway_leaves_no_file() {
    let directory = tempfile::tempdir().unwrap();
    // An ignored SIGXFSZ turns the limit into an error of `write`.
    assert!(run_limited(directory.path(), "trap '' XFSZ;"));
}

#[test]
fn a_process_killed_halfway_leaves_no_parquet_and_the_next_start_cleans_up() {
    let directory = tempfile::tempdir().unwrap();
    assert!(!run_limited(directory.path(), ""), "SIGXFSZ kills the child");
    let left = files(&directory.path().join(layout::TABLES));
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(left.iter().all(|it| it.extension() != Some("parquet".as_ref())), "{left:?}");
    let store = Store::open(Arc::new(LocalDisk), directory.path()).unwrap();
    assert_eq!(files(&tables(&store)), [] as [PathBuf; 0]);
    assert_eq!(write_segments(&store, &large(1)).unwrap().len(), 2);
}

#[test]
fn a_reader_never_sees_an_incomplete_file() {
    let (_directory, store) = open();
    let done = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = 0;
            while !done.load(Ordering::Acquire) {
                for path in files(&tables(&store)) {
                    if path.extension() == Some("parquet".as_ref()) {
                        let file = File::open(&path).unwrap();
                        ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
                        seen += 1;
                    }
                }
            }
            seen
        });
        for sequence in 0..50 {
            write_segments(&store, &two_days(sequence)).unwrap();
        }
        done.store(true, Ordering::Release);
        reader.join().unwrap()
    });
    assert!(seen > 0);
    assert_eq!(files(&tables(&store)).len(), 100);
}
