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

use arrow_array::RecordBatch;
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

#[path = "support/tables.rs"]
mod tables;

use tables::{BATCHES, ROWS, Table, narrow, tags, wide};

fn encode(table: &Table, compression: Compression) -> Vec<u8> {
    let about =
        About { database: "db", measurement: table.name, sort_key: &[], sequence: 1, journal: 1 };
    let mut file = Vec::new();
    encode_compressed(&mut file, &table.schema, &about, compression, &table.batches[..]).unwrap();
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
