//! Rows into columns, to Parquet, and back, beside a model of what columns take.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use peristyle::gather::{AppendError, Atomicity, Chunk, Database, TableBuilder};
use peristyle::persist::{SegmentRequest, Store, write_segments};
use peristyle::timestamp::Timestamp;

use crate::agree::Columns;
use crate::sim_disk::SimDisk;
use crate::support::{Row, Shard, Value, rows_of};

const MEASUREMENTS: [&str; 3] = ["cpu", "CPU", "disk io"];
const NAMES: [&str; 8] = ["a", "A", "b", "host", "Date", "time_ns", "\u{e9} =", "x~1"];
const TEXTS: [&str; 6] = ["", "a", "b", "\u{4e16}\"\n", "a value longer than twelve", "0"];
/// Edges of what the kinds hold.
const NUMBERS: [i64; 8] = [0, 1, -1, 1 << 53, (1 << 53) + 1, i64::MAX, i64::MIN, 86_400_000_000];

/// A course of writes and seals; then everything is written to files and read again.
pub fn run(input: &[u8]) {
    let mut course = Unstructured::new(input);
    let (mut shard, mut model) = (Shard::new(), Columns::default());
    let (mut expected, mut chunks) = (Vec::new(), Vec::new());
    // An input that is used up ends it.
    while !course.is_empty() && step(&mut course, &mut shard, &mut model, &mut expected).is_ok() {
        if course.ratio(1, 8).unwrap_or(false) {
            chunks.append(&mut shard.chunks());
        }
    }
    chunks.append(&mut shard.chunks());
    let of = |row: &Row| (row.measurement.clone(), row.time_ns);
    let mut found = read_again(&shard, chunks);
    // What came in one order and has one time is in that order in its file.
    expected.sort_by_key(of);
    found.sort_by_key(of);
    assert_eq!(found, expected);
}

/// One write of a few rows.
fn step(
    course: &mut Unstructured<'_>,
    shard: &mut Shard,
    model: &mut Columns,
    expected: &mut Vec<Row>,
) -> Result<()> {
    let is_atomic = course.ratio(1, 4)?;
    let count = course.int_in_range(1..=6)?;
    let rows = (0..count).map(|_| row(course)).collect::<Result<Vec<Row>>>()?;
    let mut changed = model.clone();
    let taken: Vec<Option<Row>> = rows.iter().map(|row| changed.take(row.clone())).collect();
    let is_undone = is_atomic && taken.iter().any(Option::is_none);
    let atomicity = if is_atomic { Atomicity::Body } else { Atomicity::Rows };
    let database = shard.tables.database("db").expect("room for a database");
    database.begin_write(atomicity);
    for (row, taken) in rows.iter().zip(&taken) {
        let appended = append_row(database, row);
        assert_eq!(appended.is_ok(), taken.is_some(), "{row:?} {appended:?}");
    }
    if is_undone {
        database.abort_write();
    } else {
        database.end_write().expect("no other shard");
        *model = changed;
        expected.extend(taken.into_iter().flatten());
    }
    Ok(())
}

fn row(course: &mut Unstructured<'_>) -> Result<Row> {
    let mut row =
        Row { measurement: (*course.choose(&MEASUREMENTS)?).to_owned(), ..Row::default() };
    row.time_ns = match course.int_in_range(0..=3)? {
        0 => i128::from(*course.choose(&NUMBERS)?),
        1 => i128::from(course.arbitrary::<i64>()?),
        // Around a midnight, in and out of order.
        _ => 86_400_000_000_000 * 20_000 + i128::from(course.arbitrary::<i8>()?) * 500,
    };
    for name in NAMES {
        match course.int_in_range(0..=11)? {
            0..=5 => {}
            6 | 7 => {
                _ = row.tags.insert(name.to_owned(), (*course.choose(&TEXTS[1..])?).to_owned());
            }
            _ => _ = row.fields.insert(name.to_owned(), value(course)?),
        }
    }
    if row.fields.is_empty() {
        row.fields.insert("only".to_owned(), value(course)?);
    }
    Ok(row)
}

fn value(course: &mut Unstructured<'_>) -> Result<Value> {
    let number = if course.ratio(1, 2)? {
        *course.choose(&NUMBERS)?
    } else {
        i64::from(course.arbitrary::<i8>()?)
    };
    Ok(match course.int_in_range(0..=7)? {
        0 => Value::Bool(number % 2 == 0),
        1 | 2 => Value::Int(number),
        3 => Value::Uint(number.cast_unsigned()),
        4 => Value::Float(course.arbitrary()?),
        5 => Value::Float(f64::from(course.arbitrary::<i16>()?) / 2.0),
        6 => Value::Str((*course.choose(&TEXTS)?).to_owned()),
        _ => Value::Time(number % 1_000_000_000_000_000),
    })
}

fn append_row(database: &mut Database, row: &Row) -> std::result::Result<(), AppendError> {
    let table = database.table(&row.measurement)?;
    let table = database.table_mut(table);
    let appended = append_values(table, row);
    if appended.is_err() {
        table.rollback_row();
    }
    appended
}

fn append_values(table: &mut TableBuilder, row: &Row) -> std::result::Result<(), AppendError> {
    for (name, text) in &row.tags {
        table.append_tag(name, text)?;
    }
    for (name, value) in &row.fields {
        let column = table.field(name)?;
        match value {
            Value::Bool(value) => table.append_bool(column, *value)?,
            Value::Int(value) => table.append_i64(column, *value)?,
            Value::Uint(value) => table.append_u64(column, *value)?,
            Value::Float(value) => table.append_f64(column, *value)?,
            Value::Str(value) => table.append_str(column, value)?,
            Value::Time(us) => {
                let time = Timestamp::from_us(*us).expect("a time in range");
                table.append_time(column, time)?;
            }
        }
    }
    let us = i64::try_from(row.time_ns.div_euclid(1_000)).expect("a time in range");
    let ns = row.time_ns.rem_euclid(1_000).try_into().expect("below a thousand");
    table.commit_row(Timestamp { us, ns }).map(drop)
}

/// Writes the chunks of each table as a flush does, and reads the files.
fn read_again(shard: &Shard, mut chunks: Vec<Chunk>) -> Vec<Row> {
    let disk = SimDisk::new();
    let store = Store::open(disk.shared(), Path::new("/data")).expect("a store");
    let mut rows = Vec::new();
    for (sequence, measurement) in (1..).zip(shard.registry.measurements(None)) {
        let is_of = |chunk: &mut Chunk| Arc::ptr_eq(&chunk.measurement, &measurement);
        let request = SegmentRequest {
            database: measurement.database.to_string(),
            measurement: measurement.name.to_string(),
            schema: measurement.schema(),
            batches: chunks.extract_if(.., is_of).map(|chunk| chunk.batch).collect(),
            sort_key: measurement.sort_key().to_vec(),
            instance: "00000000".to_owned(),
            sequence,
            journal: 1,
        };
        for segment in write_segments(&store, &request).expect("a disk without faults") {
            let bytes = Bytes::from(disk.bytes(&Path::new("/data").join(&segment.path)));
            let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).expect("a Parquet file");
            let before = rows.len();
            for batch in reader.build().expect("a reader") {
                rows.extend(rows_of(&measurement.name, &batch.expect("a batch")));
            }
            assert_eq!((rows.len() - before) as u64, segment.rows);
        }
    }
    assert!(chunks.is_empty());
    rows
}
