//! Record batches to Parquet: what each compression costs and saves, and what sorting costs.
//!
//! `persist/parquet_file/<table>/<compression>` encodes into memory; the size of the file is
//! printed once for each. `persist/tags_*` are tag columns beside an `ArrowWriter` of dictionaries.
//! `persist/write_segments/<order>` writes and syncs files. The floors: `plain` is an `ArrowWriter`
//! that encodes nothing, `defaults` one that nobody has tuned.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a bench stops at the first surprise"
)]

use std::hint::black_box;
use std::sync::Arc;

use arrow_array::{
    ArrayRef, DictionaryArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, UInt32Array,
};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use peristyle::disk::LocalDisk;
use peristyle::persist::parquet_file::{About, encode_compressed};
use peristyle::persist::{SegmentRequest, Store, write_segments};

#[path = "support/random.rs"]
mod random;

use random::Random;

const BATCH_ROWS: usize = 64 << 10;
const BATCHES: usize = 4;
const ROWS: usize = BATCHES * BATCH_ROWS;

/// A table of `BATCHES` batches.
struct Table {
    name: &'static str,
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
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
fn wide() -> Table {
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
fn tags(name: &'static str, is_random: bool) -> Table {
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
fn narrow(name: &'static str, hosts: u32) -> Table {
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

fn encode(table: &Table, compression: Compression) -> Vec<u8> {
    let about =
        About { database: "db", measurement: table.name, sort_key: &[], sequence: 1, journal: 1 };
    let mut file = Vec::new();
    let batches = table.batches.iter().cloned().map(Ok);
    encode_compressed(&mut file, &table.schema, &about, compression, batches).unwrap();
    file
}

fn encode_untuned(table: &Table, properties: WriterProperties) -> Vec<u8> {
    let mut file = Vec::new();
    let schema = Arc::clone(&table.schema);
    let mut writer = ArrowWriter::try_new(&mut file, schema, Some(properties)).unwrap();
    table.batches.iter().for_each(|it| writer.write(it).unwrap());
    writer.close().unwrap();
    file
}

/// Asserts the rows of a file, and prints its size.
#[expect(clippy::print_stderr, reason = "the size is half of the result")]
fn check(name: &str, file: Vec<u8>) {
    let bytes = file.len();
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(file)).unwrap();
    assert_eq!(usize::try_from(reader.metadata().file_metadata().num_rows()).unwrap(), ROWS);
    eprintln!("{name}: {} bytes for 100 rows", bytes * 100 / ROWS);
}

fn parquet_file(criterion: &mut Criterion) {
    let tables = [wide(), narrow("narrow", 100), narrow("high_cardinality", 100_000)];
    for table in &tables {
        let mut group = criterion.benchmark_group(format!("persist/parquet_file/{}", table.name));
        group.throughput(Throughput::Elements(ROWS as u64)).sample_size(10);
        let compressions = [
            ("none", Compression::UNCOMPRESSED),
            ("zstd_1", Compression::ZSTD(ZstdLevel::default())),
        ];
        for (name, compression) in compressions {
            check(&format!("{}/{name}", table.name), encode(table, compression));
            group.bench_function(name, |it| it.iter(|| black_box(encode(table, compression))));
        }
        let plain = WriterProperties::builder()
            .set_dictionary_enabled(false)
            .set_encoding(Encoding::PLAIN)
            .build();
        for (name, properties) in [("plain", plain), ("defaults", WriterProperties::default())] {
            check(&format!("{}/{name}", table.name), encode_untuned(table, properties.clone()));
            group.bench_function(name, |it| {
                it.iter(|| black_box(encode_untuned(table, properties.clone())));
            });
        }
    }
}

/// Ten tags and `time`, beside `time` alone and an `ArrowWriter` of the same pages and compression.
fn tag_columns(criterion: &mut Criterion) {
    for table in [tags("tags_in_order", false), tags("tags_at_random", true)] {
        let mut group = criterion.benchmark_group(format!("persist/{}", table.name));
        group.throughput(Throughput::Elements(ROWS as u64)).sample_size(10);
        let time = Table {
            name: "time",
            schema: Arc::new(table.schema.project(&[0]).unwrap()),
            batches: table.batches.iter().map(|it| it.project(&[0]).unwrap()).collect(),
        };
        let zstd = Compression::ZSTD(ZstdLevel::default());
        check(table.name, encode(&table, zstd));
        group.bench_function("ours", |it| it.iter(|| black_box(encode(&table, zstd))));
        group.bench_function("time", |it| it.iter(|| black_box(encode(&time, zstd))));
        let properties = WriterProperties::builder()
            .set_compression(zstd)
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_write_batch_size(8_192)
            .build();
        check("arrow_writer", encode_untuned(&table, properties.clone()));
        group.bench_function("arrow_writer", |it| {
            it.iter(|| black_box(encode_untuned(&table, properties.clone())));
        });
    }
}

fn whole_segments(criterion: &mut Criterion) {
    let table = wide();
    // Two shards that wrote at the same time: every second batch has the times of the one before.
    let mut overlapping = table.batches.clone();
    for at in (1..BATCHES).step_by(2) {
        let mut columns = table.batches[at].columns().to_vec();
        columns[0] = Arc::clone(table.batches[at - 1].column(0));
        overlapping[at] = RecordBatch::try_new(Arc::clone(&table.schema), columns).unwrap();
    }
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(Arc::new(LocalDisk), directory.path()).unwrap();
    let mut group = criterion.benchmark_group("persist/write_segments");
    group.throughput(Throughput::Elements(ROWS as u64)).sample_size(10);
    let mut sequence = 0;
    for (name, batches) in [("in_order", table.batches.clone()), ("overlapping", overlapping)] {
        group.bench_function(name, |it| {
            it.iter_batched(
                || {
                    sequence += 1;
                    store.remove_database("db").unwrap();
                    SegmentRequest {
                        database: "db".to_owned(),
                        measurement: "cpu".to_owned(),
                        schema: Arc::clone(&table.schema),
                        batches: batches.clone(),
                        sort_key: vec!["time".to_owned()],
                        instance: "00000000".to_owned(),
                        sequence,
                        journal: 1,
                    }
                },
                |request| {
                    let segments = write_segments(&store, &request).unwrap();
                    assert_eq!(segments.iter().map(|it| it.rows).sum::<u64>(), ROWS as u64);
                },
                BatchSize::PerIteration,
            );
        });
    }
}

criterion_group!(benches, parquet_file, tag_columns, whole_segments);
criterion_main!(benches);
