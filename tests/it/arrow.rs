//! Arrow IPC: every type gives its rows, fast and slow agree, and nothing hostile panics.

#![expect(clippy::indexing_slicing, reason = "a test stops at the first surprise")]

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, TimestampMicrosecondType, TimestampNanosecondType};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Decimal128Array, DictionaryArray, Float64Array,
    Int32Array, Int64Array, ListArray, NullArray, PrimitiveArray, RecordBatch, StringArray,
    StringViewArray, StructArray, UInt8Array, UInt64Array,
};
use arrow_buffer::{Buffer, NullBuffer};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{DictionaryHandling, FileWriter, IpcWriteOptions, StreamWriter};
use arrow_schema::{DataType, Field, Schema};
use peristyle::decode::ipc::{self, Parameters, WHOLE_ROWS_MIN};
use peristyle::decode::{Context, Precision, Rejection, Report};
use peristyle::gather::Atomicity;
use peristyle::limits::Limits;
use peristyle::persist::parquet_file::{About, encode};
use peristyle::schema::{ColumnKind, Role, Unsigned};
use peristyle::timestamp::Timestamp;

use crate::arrow_bodies::{Column, Mood, Random, TYPES, array, batch, column, stream, times};
use crate::lines;
use crate::live::{Live, read_all_rows};
use crate::naive;
use crate::support::{Row, Shard, Value};

const RECEIVED: Timestamp = Timestamp { us: 1_700_000_000_123_456, ns: 0 };

/// What a test says about its bodies.
#[derive(Clone, Copy)]
struct Setup<'a> {
    parameters: Parameters<'a>,
    precision: Precision,
    limits: Limits,
    unsigned: Unsigned,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self {
            parameters: Parameters { measurement: Some("m"), ..Parameters::default() },
            precision: Precision::Auto,
            limits: Limits::DEFAULT,
            unsigned: Unsigned::Decimal,
        }
    }
}

/// Writes a body, and says what became of it.
fn write(shard: &mut Shard, setup: &Setup<'_>, body: Vec<u8>) -> Report {
    let limits = setup.limits;
    let context = Context { precision: setup.precision, received: RECEIVED, limits: &limits };
    let mut report = Report::default();
    let body = Buffer::from_vec(body);
    shard.write(Atomicity::Rows, |database| {
        ipc::decode(&body, &setup.parameters, &context, database, &mut report);
    });
    report
}

fn outcome(report: &Report) -> naive::arrow::Outcome {
    let rejections = report.rejections.iter();
    (report.accepted, rejections.map(|it| (it.line, it.reason.to_string())).collect())
}

/// Bodies for one table, at random.
fn bodies(random: &mut Random, rows_max: usize, wild: usize) -> (Vec<Vec<u8>>, &'static str) {
    let names = ["a", "b", "c", "d", "e", "f"];
    let tags = ["", "a", "a,b", "c"][random.below(4)];
    let types: Vec<&str> = names.iter().map(|_| TYPES[random.below(TYPES.len())]).collect();
    let bodies = (0..=random.below(3)).map(|_| {
        let count = 1 + random.below(names.len());
        let mut types = types.clone();
        if random.one_in(3) {
            // Another type for the same name.
            types[random.below(count)] = TYPES[random.below(TYPES.len())];
        }
        for (name, kind) in names.iter().zip(&mut types) {
            let is_time = ["s", "ms", "us", "ns", "date32", "date64"].contains(kind);
            if tags.split(',').any(|tag| tag == *name) && is_time {
                *kind = "utf8";
            }
        }
        let count = count.max(
            tags.split(',')
                .map(|tag| names.iter().position(|it| *it == tag).map_or(0, |at| at + 1))
                .max()
                .unwrap(),
        );
        let has_time = !random.one_in(4);
        let time_kind = random.next();
        let nulls: Vec<usize> = (0..=count).map(|_| [0, 0, 3, 1][random.below(4)]).collect();
        let batches: Vec<RecordBatch> = (0..=random.below(3))
            .map(|_| {
                let rows = random.below(rows_max);
                let mut columns = Vec::new();
                if has_time {
                    let mood = Mood { nulls: nulls[count], wild };
                    let mut kind = Random::new(time_kind);
                    columns.push(Column {
                        name: "time".into(),
                        metadata: Vec::new(),
                        array: times(&mut kind, mood, rows),
                    });
                }
                for at in 0..count {
                    let mood = Mood { nulls: nulls[at], wild };
                    let array =
                        array(random, types[at], mood, rows + 3).slice(random.below(3), rows);
                    let name = names[at].to_owned();
                    columns.push(Column { name, metadata: Vec::new(), array });
                }
                batch(columns)
            })
            .collect();
        let compression = [None, Some(CompressionType::LZ4_FRAME), Some(CompressionType::ZSTD)];
        stream(&batches, compression[random.below(3)])
    });
    (bodies.collect(), tags)
}

fn fast_and_naive_agree(seed: u64, rows_max: usize, wild: usize) {
    let mut random = Random::new(seed);
    let precisions =
        [Precision::Auto, Precision::Nanosecond, Precision::Microsecond, Precision::Second];
    let (bodies, tags) = bodies(&mut random, rows_max, wild);
    let limits = Limits {
        string_bytes_max: 20,
        name_bytes_max: 18,
        reported_errors_max: usize::MAX,
        rows_per_chunk: [1_000, 9_000, 64 << 10][random.below(3)],
        ..Limits::DEFAULT
    };
    let setup = Setup {
        parameters: Parameters { measurement: Some("m"), time: None, tags },
        precision: precisions[random.below(precisions.len())],
        limits,
        unsigned: [Unsigned::Decimal, Unsigned::Int64][random.below(2)],
    };
    let mut fast = Shard::with(limits, setup.unsigned, Vec::new());
    let mut slow = Shard::with(limits, setup.unsigned, Vec::new());
    for body in bodies {
        let expected = slow.write(Atomicity::Rows, |database| {
            let Setup { parameters, precision, .. } = &setup;
            naive::arrow::decode(&body, parameters, *precision, RECEIVED, database)
        });
        let report = write(&mut fast, &setup, body);
        assert_eq!(outcome(&report), expected, "seed {seed}");
        assert_eq!(report.texts.len(), report.rejections.len(), "seed {seed}");
    }
    let (fast_rows, slow_rows) = (fast.rows(), slow.rows());
    assert_eq!(fast_rows.len(), slow_rows.len(), "seed {seed}");
    for (at, (fast, slow)) in fast_rows.iter().zip(&slow_rows).enumerate() {
        assert_eq!(fast, slow, "seed {seed}, row {at}");
    }
    let columns = |shard: &Shard| {
        let all = shard.registry.measurements(None);
        let mut columns: Vec<_> = all
            .iter()
            .flat_map(|it| it.columns())
            .map(|column| (column.name.to_string(), column.kind, column.role))
            .collect();
        columns.sort_by(|a, b| a.0.cmp(&b.0));
        columns
    };
    assert_eq!(columns(&fast), columns(&slow), "seed {seed}");
}

#[test]
fn small_batches_give_what_the_naive_decoder_gives() {
    for seed in 0..400 {
        let wild = [0, 0, 50, 5][usize::try_from(seed % 4).unwrap()];
        fast_and_naive_agree(seed, 40, wild);
    }
}

#[test]
fn large_batches_give_what_the_naive_decoder_gives() {
    for seed in 1_000..1_008 {
        let wild = [0, 0, 20_000, 300][usize::try_from(seed % 4).unwrap()];
        fast_and_naive_agree(seed, 2 * WHOLE_ROWS_MIN + 2_000, wild);
    }
}

const CALM: Mood = Mood { nulls: 0, wild: 0 };

/// Rows of the table of types in `arrow.md`: names of types, and the kind that they make.
fn documented_types() -> Vec<(Vec<String>, Option<ColumnKind>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/wire/arrow.md");
    let text = fs::read_to_string(path).unwrap();
    let (_, table) = text.split_once("| type | kind | copies |\n").unwrap();
    let rows = table.lines().skip(1).take_while(|line| line.starts_with('|'));
    let cells = rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>());
    cells
        .map(|cells| {
            let types = cells[1].split(' ').map(|name| name.trim_matches('`').to_owned());
            (types.collect(), ColumnKind::from_name(cells[2]))
        })
        .collect()
}

#[test]
fn arrow_md_holds_every_type_with_its_kind() {
    let mut random = Random::new(7);
    let mut documented: Vec<String> = Vec::new();
    for (types, kind) in documented_types() {
        for name in types {
            for rows in [10, WHOLE_ROWS_MIN] {
                let mut shard = Shard::new();
                let a = array(&mut random, &name, CALM, rows);
                let body = stream(&[batch(vec![column("a", a), filler(rows)])], None);
                let report = write(&mut shard, &Setup::default(), body);
                assert_eq!((report.accepted, report.rejected), (rows as u64, 0), "{name}");
                let columns = shard.registry.measurements(None)[0].columns();
                let found = columns.iter().find(|it| &*it.name == "a").map(|it| it.kind);
                assert_eq!(found, kind, "{name}");
            }
            documented.push(name);
        }
    }
    documented.sort();
    let mut types = TYPES.to_vec();
    types.sort_unstable();
    assert_eq!(documented, types);
}

/// A field that every row has.
fn filler(rows: usize) -> Column {
    column("filler", Arc::new(Int64Array::from(vec![1; rows])))
}

fn us(rows: usize) -> ArrayRef {
    let us = (0..rows).map(|row| 1_690_000_000_000_000 + i64::try_from(row).unwrap());
    Arc::new(PrimitiveArray::<TimestampMicrosecondType>::from_iter_values(us))
}

/// Ten columns in the types that need no copy, with their nulls.
fn whole_columns(rows: usize) -> Vec<Column> {
    let is_there = |row: usize| !row.is_multiple_of(7);
    let numbers = || (0..rows).map(|row| i64::try_from(row).unwrap());
    let keys: Int32Array =
        (0..rows).map(|row| is_there(row).then(|| i32::try_from(row % 3).unwrap())).collect();
    let values: StringArray = ["x", "y", "z"].into_iter().map(Some).collect();
    let text: StringArray = (0..rows).map(|row| Some(format!("text {row}"))).collect();
    let mut tag = column("tag", Arc::new(DictionaryArray::new(keys, Arc::new(values))));
    tag.metadata.push(("peristyle.role", "tag"));
    vec![
        column("time", us(rows)),
        tag,
        column(
            "bool",
            Arc::new((0..rows).map(|row| Some(is_there(row))).collect::<BooleanArray>()),
        ),
        column("i64", Arc::new(Int64Array::from_iter_values(numbers()))),
        column(
            "nulls",
            Arc::new(numbers().map(|it| (it % 3 > 0).then_some(it)).collect::<Int64Array>()),
        ),
        column("u64", Arc::new(UInt64Array::from_iter_values((0..rows).map(|row| row as u64)))),
        column(
            "f64",
            Arc::new(Float64Array::from_iter_values((0_u32..).take(rows).map(f64::from))),
        ),
        column("utf8", Arc::new(text)),
        column("us", us(rows)),
    ]
}

#[test]
fn buffers_of_a_large_batch_become_a_chunk_where_they_are() {
    let rows = WHOLE_ROWS_MIN;
    let mut shard = Shard::with(Limits::DEFAULT, Unsigned::Int64, Vec::new());
    let body = Buffer::from_vec(stream(&[batch(whole_columns(rows))], None));
    let context =
        Context { precision: Precision::Auto, received: RECEIVED, limits: &Limits::DEFAULT };
    let mut report = Report::default();
    shard.write(Atomicity::Rows, |database| {
        ipc::decode(&body, &Setup::default().parameters, &context, database, &mut report);
    });
    assert_eq!(report.accepted, rows as u64);
    assert_eq!(shard.tables.row_bytes(), body.capacity(), "the body is accounted once");
    let chunks = shard.chunks();
    assert_eq!(chunks.len(), 1);
    let batch = &chunks[0].batch;
    assert_eq!(batch.num_columns(), 9);
    for (field, array) in batch.schema().fields().iter().zip(batch.columns()) {
        let array = match array.as_any_dictionary_opt() {
            Some(dictionary) => Arc::new(dictionary.keys().slice(0, rows)) as ArrayRef,
            None => Arc::clone(array),
        };
        let data = array.to_data();
        for buffer in data.buffers().iter().chain(data.nulls().map(NullBuffer::buffer)) {
            assert_eq!(buffer.data_ptr(), body.data_ptr(), "{field} was copied");
        }
    }
    assert!(body.into_vec::<u8>().is_err(), "the chunk shares the body");
}

#[test]
fn one_row_less_than_a_chunk_is_copied_and_the_body_is_free() {
    let body = Buffer::from_vec(stream(&[batch(whole_columns(WHOLE_ROWS_MIN - 1))], None));
    let mut shard = Shard::with(Limits::DEFAULT, Unsigned::Int64, Vec::new());
    let context =
        Context { precision: Precision::Auto, received: RECEIVED, limits: &Limits::DEFAULT };
    let mut report = Report::default();
    shard.write(Atomicity::Rows, |database| {
        ipc::decode(&body, &Setup::default().parameters, &context, database, &mut report);
    });
    assert_eq!(report.accepted, WHOLE_ROWS_MIN as u64 - 1);
    assert!(body.into_vec::<u8>().is_ok());
}

#[test]
fn a_body_with_room_to_spare_is_copied() {
    let mut body = stream(&[batch(whole_columns(WHOLE_ROWS_MIN))], None);
    body.reserve_exact(2 * body.len());
    let body = Buffer::from_vec(body);
    let mut shard = Shard::with(Limits::DEFAULT, Unsigned::Int64, Vec::new());
    let context =
        Context { precision: Precision::Auto, received: RECEIVED, limits: &Limits::DEFAULT };
    let mut report = Report::default();
    shard.write(Atomicity::Rows, |database| {
        ipc::decode(&body, &Setup::default().parameters, &context, database, &mut report);
    });
    assert_eq!(report.accepted, WHOLE_ROWS_MIN as u64);
    assert!(body.into_vec::<u8>().is_ok());
}

/// A body whose bytes start at an odd address gives the same rows.
#[test]
fn buffers_that_are_not_aligned_are_copied_and_the_same() {
    let plain = stream(&[batch(whole_columns(WHOLE_ROWS_MIN))], None);
    let mut expected = Shard::new();
    write(&mut expected, &Setup::default(), plain.clone());
    for shift in [1, 4] {
        let shifted = Buffer::from_vec([vec![0; shift], plain.clone()].concat()).slice(shift);
        let mut shard = Shard::new();
        let context =
            Context { precision: Precision::Auto, received: RECEIVED, limits: &Limits::DEFAULT };
        let mut report = Report::default();
        shard.write(Atomicity::Rows, |database| {
            ipc::decode(&shifted, &Setup::default().parameters, &context, database, &mut report);
        });
        assert_eq!(report.rejected, 0, "{:?}", report.rejections);
        let rows = shard.rows();
        assert_eq!(rows.len(), WHOLE_ROWS_MIN);
        if shift == 1 {
            assert_eq!(rows, expected.rows());
        }
    }
}

fn values_of(shard: &mut Shard) -> Vec<i64> {
    let values = shard.rows().into_iter().map(|row| match row.fields.get("v") {
        Some(Value::Int(value)) => *value,
        other => panic!("no integer: {other:?}"),
    });
    values.collect()
}

fn numbers(from: i64, count: usize) -> RecordBatch {
    let values = Int64Array::from_iter_values(from..from + i64::try_from(count).unwrap());
    batch(vec![column("time", us(count)), column("v", Arc::new(values))])
}

#[test]
fn rows_keep_their_order_whatever_way_they_are_taken() {
    let mut shard = Shard::new();
    let many = WHOLE_ROWS_MIN;
    let next = i64::try_from(many).unwrap();
    lines::write(&mut shard, b"m v=0i 1\nm v=1i 1", Precision::Nanosecond);
    let body = stream(
        &[numbers(2, 10), numbers(12, many), numbers(12 + next, 1), numbers(13 + next, many)],
        None,
    );
    let report = write(&mut shard, &Setup::default(), body);
    assert_eq!(report.rejected, 0, "{:?}", report.rejections);
    let last = 13 + 2 * next;
    let line = format!("m v={last}i 1");
    lines::write(&mut shard, line.as_bytes(), Precision::Nanosecond);
    let chunks = shard.registry.measurements(None)[0].rows();
    assert_eq!(chunks, u64::try_from(last).unwrap() + 1);
    assert_eq!(values_of(&mut shard), (0..=last).collect::<Vec<_>>());
}

/// Rows that come whole, as a run and one by one: days are counted in all of them.
#[test]
fn days_of_whole_rows_are_counted() {
    let limits = Limits { days_per_body_max: 2, ..Limits::DEFAULT };
    for rows in [24, 4 * WHOLE_ROWS_MIN] {
        for (days, rejected) in [(2, 0), (3, 0), (4, rows / 4)] {
            let day_us = 24 * 60 * 60 * 1_000_000;
            let us = (0..rows).map(|row| i64::try_from(row * days / rows).unwrap() * day_us);
            let times = PrimitiveArray::<TimestampMicrosecondType>::from_iter_values(us);
            let columns = || vec![column("time", Arc::new(times.clone())), filler(rows)];
            let mut shard = Shard::with(limits, Unsigned::Int64, Vec::new());
            let setup = Setup { limits, ..Setup::default() };
            for _ in 0..2 {
                let report = write(&mut shard, &setup, stream(&[batch(columns())], None));
                let expected = (rows as u64 - rejected as u64, rejected as u64);
                assert_eq!((report.accepted, report.rejected), expected, "{days} days");
                let last = |it: &Rejection| it.line > expected.0;
                assert!(report.rejections.iter().all(last), "the last day is refused");
            }
            assert_eq!(shard.rows().len(), 2 * (rows - rejected));
        }
    }
}

#[test]
fn a_write_that_is_undone_leaves_no_whole_rows() {
    let mut shard = Shard::new();
    let setup = Setup::default();
    let context = Context { precision: Precision::Auto, received: RECEIVED, limits: &setup.limits };
    for atomicity in [Atomicity::Rows, Atomicity::Body] {
        let database = shard.tables.database("db").unwrap();
        database.begin_write(atomicity);
        let body = Buffer::from_vec(stream(&[numbers(0, 5), numbers(5, 2 * WHOLE_ROWS_MIN)], None));
        let mut report = Report::default();
        ipc::decode(&body, &setup.parameters, &context, database, &mut report);
        assert_eq!(report.accepted, 5 + 2 * WHOLE_ROWS_MIN as u64);
        database.abort_write();
        assert_eq!(shard.rows(), []);
        assert!(body.into_vec::<u8>().is_ok(), "a row still uses the body");
    }
    assert_eq!(shard.tables.row_bytes(), 0);
}

/// One bad row in a million must not have the others looked at one by one, nor lose them.
#[test]
fn a_bad_row_in_a_large_batch_is_rejected_alone_by_its_number() {
    let rows = 3 * 64 * 1_024;
    let mut values: Vec<u64> = (0..rows).collect();
    values[70_000] = u64::MAX;
    let count = values.len();
    let columns = || {
        vec![column("time", us(count)), column("v", Arc::new(UInt64Array::from(values.clone())))]
    };
    let mut shard = Shard::with(Limits::DEFAULT, Unsigned::Int64, Vec::new());
    let report = write(&mut shard, &Setup::default(), stream(&[batch(columns())], None));
    assert_eq!((report.accepted, report.rejected), (rows - 1, 1));
    let rejection = &report.rejections[0];
    assert_eq!(rejection.line, 70_001);
    assert!(rejection.reason.to_string().contains("larger than INT64"), "{}", rejection.reason);
    let expected = format!("{{\"time\":{},\"v\":{}}}", 1_690_000_000_070_000_u64, u64::MAX);
    assert_eq!(*report.texts[0], *expected);
    // The parts around the bad one are chunks of their own.
    assert_eq!(shard.chunks().iter().map(|it| it.batch.num_rows()).collect::<Vec<_>>().len(), 3);
}

#[test]
fn tags_are_what_the_request_or_the_metadata_say_and_what_the_measurement_has() {
    let text = |values: &[&str]| -> ArrayRef { Arc::new(StringArray::from(values.to_vec())) };
    for rows in [2, WHOLE_ROWS_MIN] {
        let repeat = |first: &str, second: &str| {
            let values: Vec<&str> = [first, second].into_iter().cycle().take(rows).collect();
            text(&values)
        };
        let mut iox = column("iox", repeat("i", "j"));
        iox.metadata.push(("iox::column::type", "iox::column_type::tag"));
        let mut own = column("own", repeat("o", "o"));
        own.metadata.push(("peristyle.role", "tag"));
        let known = column("known", repeat("k", "k"));
        let stated = column("stated", repeat("s", ""));
        let other = column("other", repeat("f", "g"));
        let body = stream(&[batch(vec![iox, own, known, stated, other])], None);
        let mut shard = Shard::new();
        lines::write(&mut shard, b"m,known=a v=1 1", Precision::Nanosecond);
        let parameters = Parameters { measurement: Some("m"), time: None, tags: ",stated," };
        let report = write(&mut shard, &Setup { parameters, ..Setup::default() }, body);
        assert_eq!((report.accepted, report.rejected), (rows as u64, 0));
        assert!(report.has_received_times);
        let roles: Vec<(String, Role)> = shard.registry.measurements(None)[0]
            .columns()
            .iter()
            .map(|it| (it.name.to_string(), it.role))
            .collect();
        for name in ["iox", "own", "known", "stated"] {
            assert!(roles.contains(&(name.to_owned(), Role::Tag)), "{name} in {roles:?}");
        }
        assert!(roles.contains(&("other".to_owned(), Role::Field)));
        let last = shard.rows().pop().unwrap();
        assert_eq!(last.tags.get("stated"), None, "an empty tag is absent");
        assert_eq!(last.tags["iox"], "j");
        assert_eq!(last.time_ns, RECEIVED.as_ns());
    }
}

#[test]
fn nanoseconds_below_a_microsecond_are_kept() {
    for rows in [3, WHOLE_ROWS_MIN] {
        let ns = (0..rows).map(|row| 1_690_000_000_000_000_000 + i64::try_from(row).unwrap());
        let time = PrimitiveArray::<TimestampNanosecondType>::from_iter_values(ns);
        let body = stream(&[batch(vec![column("t", Arc::new(time)), filler(rows)])], None);
        let parameters = Parameters { measurement: Some("m"), time: Some("t"), tags: "" };
        let mut shard = Shard::new();
        let report = write(&mut shard, &Setup { parameters, ..Setup::default() }, body);
        assert_eq!(report.rejected, 0);
        assert!(!report.has_received_times);
        let rows = shard.rows();
        assert!((0..).zip(&rows).all(|(at, row)| row.time_ns == 1_690_000_000_000_000_000 + at));
    }
}

/// Streams whose dictionaries are added to, batch by batch.
#[test]
fn delta_dictionaries_are_added_to() {
    let values = ["a", "b", "c", "d"];
    let dictionary = |count: usize| -> RecordBatch {
        let keys = Int32Array::from_iter_values(0..i32::try_from(count).unwrap());
        let values: StringArray = values[..count].iter().map(|it| Some(*it)).collect();
        batch(vec![
            column("d", Arc::new(DictionaryArray::<Int32Type>::new(keys, Arc::new(values)))),
            filler(count),
        ])
    };
    let options = IpcWriteOptions::default().with_dictionary_handling(DictionaryHandling::Delta);
    let mut body = Vec::new();
    let schema = dictionary(1).schema();
    let mut writer = StreamWriter::try_new_with_options(&mut body, &schema, options).unwrap();
    for count in 1..=4 {
        writer.write(&dictionary(count)).unwrap();
    }
    writer.finish().unwrap();
    drop(writer);
    let mut shard = Shard::new();
    let report = write(&mut shard, &Setup::default(), body);
    assert_eq!((report.accepted, report.rejected), (10, 0), "{:?}", report.rejections);
    let rows = shard.rows();
    let found: Vec<&Value> = rows.iter().map(|row| &row.fields["d"]).collect();
    let expected: Vec<Value> = (1..=4)
        .flat_map(|count| values[..count].iter().map(|it| Value::Str((*it).to_owned())))
        .collect();
    assert_eq!(found, expected.iter().collect::<Vec<_>>());
}

#[test]
fn streams_behind_each_other_are_all_read() {
    let named = |name: &str| {
        let schema = Schema::new(vec![Field::new("v", DataType::Int64, true)])
            .with_metadata(HashMap::from([("peristyle.measurement".to_owned(), name.to_owned())]));
        let values: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        RecordBatch::try_new(Arc::new(schema), vec![values]).unwrap()
    };
    let body = [stream(&[named("one")], None), stream(&[named("two")], None)].concat();
    let mut shard = Shard::new();
    let setup = Setup { parameters: Parameters::default(), ..Setup::default() };
    let report = write(&mut shard, &setup, body);
    assert_eq!((report.accepted, report.rejected), (4, 0), "{:?}", report.rejections);
    let measurements: Vec<String> = shard.rows().into_iter().map(|it| it.measurement).collect();
    assert_eq!(measurements, ["one", "one", "two", "two"]);
}

/// The only rejection of a body of which nothing can be taken.
#[track_caller]
fn refused(setup: &Setup<'_>, body: Vec<u8>) -> String {
    let mut shard = Shard::with(setup.limits, setup.unsigned, Vec::new());
    let report = write(&mut shard, setup, body);
    assert_eq!((report.accepted, report.rejected), (0, 1));
    assert_eq!(shard.rows(), []);
    report.rejections[0].reason.to_string()
}

#[test]
fn types_that_cannot_be_taken_are_refused_by_name() {
    let list: ListArray = ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1)])]);
    let values: ArrayRef = Arc::new(Int32Array::from(vec![1]));
    let item = Arc::new(Field::new("x", DataType::Int32, true));
    let numbers = DictionaryArray::<Int32Type>::new(Int32Array::from(vec![0]), Arc::clone(&values));
    let cases: [(ArrayRef, &str); 5] = [
        (Arc::new(list), "List"),
        (Arc::new(StructArray::from(vec![(item, values)])), "Struct"),
        (Arc::new(BinaryArray::from_vec(vec![b"x"])), "Binary"),
        (Arc::new(Decimal128Array::from(vec![1])), "Decimal"),
        (Arc::new(numbers), "Dictionary of Int"),
    ];
    for (array, name) in cases {
        let body = stream(&[batch(vec![filler(1), column("a\"b", array)])], None);
        let expected = format!(
            "column \"a\\\"b\": expected booleans, numbers, strings, timestamps, dates or null, \
             found {name}"
        );
        assert_eq!(refused(&Setup::default(), body), expected);
    }
    let text: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
    let body = stream(&[batch(vec![column("time", text), filler(1)])], None);
    let expected =
        "column \"time\": expected timestamps, dates or integers for the time, found Utf8";
    assert_eq!(refused(&Setup::default(), body), expected);
    let body = stream(&[batch(vec![column("t", us(1)), filler(1)])], None);
    let parameters = Parameters { measurement: Some("m"), time: None, tags: "t" };
    let expected = "column \"t\": expected strings, numbers or booleans for a tag, found Timestamp";
    assert_eq!(refused(&Setup { parameters, ..Setup::default() }, body), expected);
}

#[test]
fn what_is_wrong_with_a_stream_is_named() {
    let good = || stream(&[batch(vec![column("t", us(1)), filler(1)])], None);
    let with = |time, tags| Setup {
        parameters: Parameters { measurement: Some("m"), time, tags },
        ..Setup::default()
    };
    let plain = Setup::default();
    let nameless = Setup { parameters: Parameters::default(), ..Setup::default() };
    let few = Limits { columns_per_table_max: 0, ..Limits::DEFAULT };
    let twice = batch(vec![filler(1), filler(1)]);
    let both = batch(vec![column("t", us(1)), column("time", us(1)), filler(1)]);
    let mut file = Vec::new();
    let mut writer = FileWriter::try_new(&mut file, &twice.schema()).unwrap();
    writer.finish().unwrap();
    drop(writer);
    let none = RecordBatch::new_empty(Arc::new(Schema::empty()));
    let second = [good().strip_suffix(&[0, 0, 0, 0]).unwrap()[..good().len() - 8].to_vec(), good()];
    assert!(second.concat().len() > good().len());
    let cases = [
        (nameless, good(), "missing required parameter \"measurement\", and no \"peristyle.measu"),
        (
            with(Some("x"), ""),
            good(),
            "parameter \"time\": expected columns of the stream, found \"x\"",
        ),
        (
            with(None, "t,x"),
            good(),
            "column \"t\": expected strings, numbers or booleans for a tag",
        ),
        (
            with(None, "x"),
            good(),
            "parameter \"tags\": expected columns of the stream, found \"x\"",
        ),
        (
            with(Some("t"), ""),
            stream(&[both], None),
            "expected one column of times, found \"time\" b",
        ),
        (plain, stream(&[twice], None), "duplicate column \"filler\""),
        (Setup { limits: few, ..plain }, good(), "too many columns: expected at most 0"),
        (plain, file, "expected the stream format of Arrow IPC, found the file format"),
        (plain, stream(&[none], None), "expected columns, found none"),
        (plain, b"m v=1 1\n".to_vec(), "expected the metadata of a message, found other bytes"),
        (plain, good()[..20].to_vec(), "the body ends within a message"),
        (plain, vec![0xff; 4], "the body ends within a message"),
    ];
    for (setup, body, expected) in cases {
        let reason = refused(&setup, body);
        assert!(reason.starts_with(expected), "{reason}\n{expected}");
    }
}

/// Found by fuzzing: a count of nulls below zero was some nulls to this decoder and none to the one
/// of `arrow-ipc`, so that a reader could find values where another found nulls.
#[test]
fn a_count_of_nulls_below_zero_is_refused() {
    let values: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(3)]));
    let mut body = stream(&[batch(vec![column("v", values)])], None);
    let node = [3_i64.to_le_bytes(), 1_i64.to_le_bytes()].concat();
    let at = body.windows(16).position(|it| it == node).unwrap();
    body[at + 8..at + 16].copy_from_slice(&(-1_i64).to_le_bytes());
    let reason = refused(&Setup::default(), body);
    assert!(reason.starts_with("column \"v\": "), "{reason}");
}

#[test]
fn a_second_schema_without_an_end_and_rows_without_a_schema_are_refused() {
    let body = stream(&[numbers(0, 2)], None);
    let open = body[..body.len() - 8].to_vec();
    let mut shard = Shard::new();
    let report = write(&mut shard, &Setup::default(), [open, body.clone()].concat());
    assert_eq!((report.accepted, report.rejected), (2, 1), "rows before stay");
    let rejection = &report.rejections[0];
    assert_eq!(rejection.line, 3, "the number of the message");
    assert_eq!(
        rejection.reason.to_string(),
        "expected a record batch or a dictionary, found a schema"
    );
    // The batch alone, behind the length and the metadata of the schema.
    let schema_length =
        8 + usize::try_from(i32::from_le_bytes(body[4..8].try_into().unwrap())).unwrap();
    let reason = refused(&Setup::default(), body[schema_length..].to_vec());
    assert_eq!(reason, "expected a schema, found a record batch");
}

/// A few bytes that say they are many: of compressed buffers, of keys to one long text, of views.
#[test]
fn what_grows_beyond_the_limit_is_refused() {
    let limits = Limits { inflated_bytes_max: 1 << 20, ..Limits::DEFAULT };
    let setup = Setup { limits, ..Setup::default() };
    let expected = "expected at most 1048576 bytes when decompressed and converted";
    let zeros = |rows: usize| -> Vec<Column> {
        vec![column("v", Arc::new(Int64Array::from(vec![0; rows]))), column("time", us(rows))]
    };
    for compression in [CompressionType::ZSTD, CompressionType::LZ4_FRAME] {
        let body = stream(&[batch(zeros(200_000))], Some(compression));
        assert!(body.len() < 2_000_000);
        assert_eq!(refused(&setup, body), expected);
    }
    let long = "x".repeat(100_000);
    for rows in [100, WHOLE_ROWS_MIN] {
        let keys = Int32Array::from(vec![0; rows]);
        let text: ArrayRef = Arc::new(StringArray::from(vec![long.as_str()]));
        let keys = DictionaryArray::<Int32Type>::new(keys, text);
        let body =
            stream(&[batch(vec![column("d", Arc::new(keys)), column("time", us(rows))])], None);
        let mut shard = Shard::with(limits, Unsigned::Int64, Vec::new());
        let report = write(&mut shard, &setup, body);
        // Row by row there is room for the first ten.
        assert_eq!((report.accepted, report.rejected), (10, 1));
        assert_eq!(report.rejections[0].reason.to_string(), expected);
    }
    let views: StringViewArray = std::iter::repeat_n(Some(long.as_str()), 1).collect();
    let view = views.views()[0];
    let views = StringViewArray::new(vec![view; 1_000].into(), views.data_buffers().to_vec(), None);
    let body = stream(&[batch(vec![column("v", Arc::new(views))])], None);
    assert_eq!(refused(&setup, body), expected);
    // Bytes that hold rows of no bytes.
    let nothing: ArrayRef = Arc::new(NullArray::new(1 << 40));
    let body = stream(&[batch(vec![column("n", nothing)])], None);
    assert_eq!(refused(&setup, body), expected);
    let narrow: ArrayRef = Arc::new(UInt8Array::from(vec![1; 131_073]));
    let body = stream(&[batch(vec![column("n", narrow)])], None);
    assert_eq!(refused(&setup, body), expected);
}

/// A writer may leave anything below a null: rows are sorted and written whatever that is.
#[test]
fn what_is_below_nulls_does_not_matter() {
    let live = Live::start();
    let rows = WHOLE_ROWS_MIN;
    let nulls = || (0..rows).map(|row| row.is_multiple_of(2)).collect::<NullBuffer>();
    let below =
        |good: i32, bad: i32| (0..rows).map(move |row| if row % 2 == 0 { good } else { bad });
    let dictionary = |bad: i32| -> ArrayRef {
        let keys = Int32Array::new(below(0, bad).collect::<Vec<_>>().into(), Some(nulls()));
        Arc::new(DictionaryArray::new(keys, Arc::new(StringArray::from(vec!["x"]))))
    };
    let times = (0..rows).rev().map(|row| i64::try_from(row).unwrap() * 1_000_000);
    let times = PrimitiveArray::<TimestampMicrosecondType>::from_iter_values(times);
    let field_times = below(1, 0).map(|it| if it == 1 { 5 } else { i64::MAX });
    let field_times = PrimitiveArray::<TimestampMicrosecondType>::new(
        field_times.collect::<Vec<_>>().into(),
        Some(nulls()),
    );
    let large = below(7, -1).map(|it| if it == 7 { 7 } else { u64::MAX });
    let large = UInt64Array::new(large.collect::<Vec<_>>().into(), Some(nulls()));
    let columns = vec![
        column("time", Arc::new(times)),
        column("tag", dictionary(-1)),
        column("field", dictionary(1)),
        column("when", Arc::new(field_times)),
        column("large", Arc::new(large)),
        filler(rows),
    ];
    let body = stream(&[batch(columns)], None);
    let answer = live.post("/api/v1/write/arrow?db=a&measurement=m&tags=tag", body);
    assert_eq!((answer.status, answer.header("x-peristyle-rejected")), (204, None));
    let stored = live.rows("a");
    assert_eq!(stored.len(), rows);
    for row in stored {
        let is_null = row.time_ns % 2_000_000_000 == 0;
        assert_eq!(row.tags.is_empty(), is_null, "{row:?}");
        assert_eq!(row.fields.len(), if is_null { 1 } else { 4 }, "{row:?}");
    }
}

/// Valid streams with bits flipped, words replaced, bytes cut out: no panic, and what is taken can
/// be sealed. Whether it is right cannot be known.
#[test]
fn no_damage_to_a_stream_panics() {
    let mut seeds: Vec<Vec<u8>> = Vec::new();
    let mut random = Random::new(1);
    for index in 0..60 {
        let rows_max = if index % 6 == 0 { WHOLE_ROWS_MIN + 200 } else { 30 };
        seeds.extend(bodies(&mut random, rows_max, 50).0);
    }
    seeds.push(stream(&[batch(whole_columns(WHOLE_ROWS_MIN))], None));
    let limits = Limits { inflated_bytes_max: 4 << 20, ..Limits::DEFAULT };
    let setup = Setup { limits, ..Setup::default() };
    for round in 0..3_000_u64 {
        let mut random = Random::new(round);
        let mut body = seeds[random.below(seeds.len())].clone();
        for _ in 0..=random.below(4) {
            // Most damage goes to the metadata, which stand in front.
            let reach = if random.one_in(4) { body.len() } else { body.len().min(2_000) };
            let at = random.below(reach.max(1));
            match random.below(5) {
                0 => body.truncate(at),
                1 => drop(body.drain(at..(at + 8).min(body.len()))),
                2 => {
                    let word =
                        [0_u64, u64::MAX, 1 << 31, 1 << 62, 7][random.below(5)].to_le_bytes();
                    let end = (at + 8).min(body.len());
                    let length = end - at.min(end);
                    body[at.min(end)..end].copy_from_slice(&word[..length]);
                }
                _ => {
                    if let Some(byte) = body.get_mut(at) {
                        *byte ^= 1 << random.below(8);
                    }
                }
            }
            if body.is_empty() {
                break;
            }
        }
        let seed = format!("seed {round}");
        let taken = std::panic::catch_unwind(|| {
            let mut shard = Shard::with(setup.limits, setup.unsigned, Vec::new());
            let report = write(&mut shard, &setup, body);
            let chunks = shard.chunks();
            let rows: usize = chunks.iter().map(|chunk| chunk.batch.num_rows()).sum();
            assert_eq!(rows as u64, report.accepted);
            // What was damaged can be written all the same.
            for chunk in chunks.iter().filter(|_| rows < 1_000 || round.is_multiple_of(8)) {
                let measurement = &*chunk.measurement.name;
                let about =
                    About { database: "db", measurement, sequence: 1, sort_key: &[], journal: 1 };
                let batches = std::slice::from_ref(&chunk.batch);
                encode(Vec::new(), &chunk.batch.schema(), &about, batches).unwrap();
            }
        });
        assert!(taken.is_ok(), "{seed}");
    }
}

fn int_rows(rows: &[Row]) -> Vec<(i128, Value)> {
    rows.iter().map(|row| (row.time_ns, row.fields["v"].clone())).collect()
}

#[test]
fn a_stream_over_http_is_answered_like_arc_and_its_refused_rows_are_kept() {
    let live = Live::start();
    let answer = live.post("/write?db=a", "cpu v=1i 1");
    assert_eq!(answer.status, 204);
    let values: ArrayRef = Arc::new(Float64Array::from(vec![2.0, 2.5, 3.0]));
    let host: ArrayRef = Arc::new(StringArray::from(vec!["x", "y", "z"]));
    let ts: ArrayRef = Arc::new(Int64Array::from(vec![5, 6, 7]));
    let columns = vec![column("ts", ts), column("host", host), column("v", values)];
    let body = stream(&[batch(columns)], None);
    let target = "/api/v1/write/arrow?db=a&measurement=cpu&time=ts&tags=host&precision=ms";
    let answer = live.post(target, &body);
    assert_eq!((answer.status, answer.header("x-peristyle-rejected")), (200, Some("1")));
    assert!(answer.body.contains("\"accepted\":2,\"rejected\":1"), "{}", answer.body);
    let reason = answer.header("x-peristyle-reject-reason").unwrap();
    assert!(reason.starts_with("row 2: field type conflict"), "{reason}");
    let rows = live.rows("a");
    let expected = [(1, Value::Int(1)), (5_000_000, Value::Int(2)), (7_000_000, Value::Int(3))];
    assert_eq!(int_rows(&rows), expected);
    assert_eq!(rows[1].tags["host"], "x");
    let all = read_all_rows(live.directory.path(), "a");
    let kept = all.iter().find(|row| row.measurement == "_rejected").unwrap();
    assert_eq!(kept.tags["measurement"], "cpu");
    assert_eq!(kept.tags["endpoint"], "/api/v1/write/arrow");
    let row = Value::Str("{\"ts\":6,\"host\":\"y\",\"v\":2.5}".to_owned());
    assert_eq!(kept.fields["row"], row);

    for (target, body, expected) in [
        ("/api/v1/write/arrow", &body[..], "message 1: missing required parameter \\\"measurement"),
        ("/api/v1/write/arrow?measurement=cpu", b"cpu v=1", "message 1: expected the metadata"),
        ("/api/v1/write/arrow?measurement=cpu", b"", "Empty payload"),
        ("/api/v1/write/arrow?measurement=cpu&tags=no", &body, "parameter \\\"tags\\\": expected"),
    ] {
        let answer = live.post(target, body);
        assert_eq!(answer.status, 400, "{}", answer.body);
        assert!(answer.body.contains(expected), "{}", answer.body);
    }
    let atomic = format!("{target}&accept_partial=false");
    assert_eq!(live.post(&atomic, &body).status, 400);
    assert_eq!(live.rows("a").len(), 3);
}

/// Rows that came whole share the body with the journal: both have to have all of it.
#[test]
fn a_replay_gives_the_rows_with_the_parameters_of_their_request() {
    let live = Live::start();
    let rows = WHOLE_ROWS_MIN + 10;
    let columns = |first: i64| {
        let ts =
            Int64Array::from_iter_values((0..rows).map(|row| first + i64::try_from(row).unwrap()));
        let host = StringArray::from_iter_values((0..rows).map(|row| format!("h{}", row % 5)));
        let ts = column("ts", Arc::new(ts));
        vec![ts, column("host", Arc::new(host)), filler(rows)]
    };
    let target = "/api/v1/write/arrow?db=a&measurement=cpu&time=ts&tags=host&precision=s";
    for (first, rows, headers) in [(0, rows, ""), (1_000_000, 10, ""), (2_000_000, rows, "zstd")] {
        let all = batch(columns(first)).slice(0, rows);
        let mut body = stream(&[all], None);
        let mut sent = String::new();
        if !headers.is_empty() {
            body = zstd::encode_all(&body[..], 1).unwrap();
            sent = format!("Content-Encoding: {headers}\r\n");
        }
        let answer = live.client().request("POST", target, &sent, &body);
        assert_eq!((answer.status, answer.header("x-peristyle-rejected")), (204, None));
    }
    let copy = crate::restart::killed(&live);
    crate::restart::recover(&copy, |_| {});
    let replayed = crate::live::read_rows(copy.path(), "a");
    assert_eq!(replayed.len(), 2 * rows + 10);
    assert!(replayed.iter().all(|row| row.tags.contains_key("host")));
    assert_eq!(replayed, live.rows("a"));
}

#[test]
fn the_same_bytes_for_another_measurement_are_another_request() {
    let live = Live::start_with(|options| options.retries.knows_bodies = true);
    let body = stream(&[numbers(0, 3)], None);
    for measurement in ["a", "b", "a"] {
        let target = format!("/api/v1/write/arrow?db=a&measurement={measurement}");
        assert_eq!(live.post(&target, &body).status, 204);
    }
    let measurements: Vec<String> = live.rows("a").into_iter().map(|it| it.measurement).collect();
    assert_eq!(measurements, ["a", "a", "a", "b", "b", "b"]);
}
