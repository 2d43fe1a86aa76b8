//! From the bytes of bodies to the bytes of a Parquet file, on one thread and without a disk.
//!
//! | bench          | what it does                                                              |
//! |----------------|---------------------------------------------------------------------------|
//! | `peristyle`    | decodes the bodies into a warm shard, seals it, encodes its chunks        |
//! | `decode`       | decodes the bodies and seals: the share of the columns                    |
//! | `arrow_writer` | writes the chunks with an `ArrowWriter` that nobody has tuned; the floor  |
//!
//! The bodies' rows are in order of time, so nothing is sorted; `benches/persist.rs` measures that.

#![expect(clippy::unwrap_used, reason = "a bench stops at the first surprise")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use parquet::arrow::ArrowWriter;
use parquet::file::reader::FileReader;
use parquet::file::serialized_reader::SerializedFileReader;
use peristyle::decode::cursor::Body;
use peristyle::decode::{Context, Precision, Report, line_protocol, msgpack};
use peristyle::gather::{Atomicity, Chunk, Database, Registry, Tables};
use peristyle::limits::Limits;
use peristyle::persist::parquet_file::{About, encode};
use peristyle::schema::Unsigned;
use peristyle::timestamp::Timestamp;

#[path = "support/random.rs"]
mod random;

#[path = "support/line_bodies.rs"]
#[expect(dead_code, reason = "shared with other benches")]
mod line_bodies;

#[path = "support/msgpack_bodies.rs"]
#[expect(dead_code, reason = "shared with other benches")]
mod msgpack_bodies;

/// The allocator of the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rows of all bodies of one format, hence of one file.
const ROWS: usize = 60_000;

/// Bodies of one format, all of one measurement.
struct Load {
    name: &'static str,
    decode: fn(Body<'_>, &Context<'_>, &mut Database, &mut Report),
    precision: Precision,
    bodies: Vec<Vec<u8>>,
}

/// Bodies of 5,000 lines: ten tags, ten integers.
fn lines() -> Load {
    let body = line_bodies::tsbs(ROWS as u64);
    let lines: Vec<&[u8]> = body.split_inclusive(|byte| *byte == b'\n').collect();
    let bodies = lines.chunks(5_000).map(<[_]>::concat).collect();
    Load {
        name: "line_protocol",
        decode: line_protocol::decode,
        precision: Precision::Nanosecond,
        bodies,
    }
}

/// Bodies of 1,000 rows: one string, three floats.
fn columns() -> Load {
    let firsts = (0..ROWS).step_by(1_000);
    Load {
        name: "msgpack_columnar",
        decode: msgpack::decode,
        precision: Precision::Auto,
        bodies: firsts.map(|first| msgpack_bodies::columnar_iot_after(first, 1_000)).collect(),
    }
}

/// Decodes all bodies, each as one write, and seals. `buffers` hold the bodies, with room behind.
fn decode(tables: &mut Tables, load: &Load, buffers: &mut [Vec<u8>]) -> Vec<Chunk> {
    let limits = Limits::DEFAULT;
    let received = Timestamp::from_ns(0);
    let context = Context { precision: load.precision, received, limits: &limits };
    let mut report = Report::default();
    for buffer in buffers {
        let database = tables.database("bench").unwrap();
        database.begin_write(Atomicity::Rows);
        let body = Body::new(buffer);
        (load.decode)(body, &context, database, &mut report);
        database.end_write().unwrap();
    }
    assert_eq!((report.accepted, report.rejected), (ROWS as u64, 0));
    tables.take_chunks(None, false)
}

/// The file of all chunks, which are of one measurement and hold all its columns.
fn file(chunks: &[Chunk]) -> Vec<u8> {
    let first = chunks.first().unwrap();
    let about = About {
        database: "bench",
        measurement: &first.measurement.name,
        sequence: 1,
        journal: 1,
        sort_key: &[],
    };
    let mut file = Vec::new();
    let batches: Vec<_> = chunks.iter().map(|it| it.batch.clone()).collect();
    encode(&mut file, &first.batch.schema(), &about, &batches[..]).unwrap();
    file
}

/// The same rows by a writer with the defaults of its library.
fn untuned_file(chunks: &[Chunk]) -> Vec<u8> {
    let mut file = Vec::new();
    let schema = chunks.first().unwrap().batch.schema();
    let mut writer = ArrowWriter::try_new(&mut file, schema, None).unwrap();
    for chunk in chunks {
        writer.write(&chunk.batch).unwrap();
    }
    writer.close().unwrap();
    file
}

#[track_caller]
fn check(file: Vec<u8>) {
    let reader = SerializedFileReader::new(Bytes::from(file)).unwrap();
    let rows = reader.metadata().file_metadata().num_rows();
    assert_eq!(usize::try_from(rows), Ok(ROWS));
}

/// The time of `rounds` calls; copying the bodies, checking and dropping are not in it.
fn time<T>(
    rounds: u64,
    bodies: &[Vec<u8>],
    mut run: impl FnMut(&mut [Vec<u8>]) -> T,
    check: fn(T),
) -> Duration {
    let mut total = Duration::ZERO;
    for _ in 0..rounds {
        let mut buffers: Vec<Vec<u8>> = bodies.iter().map(|body| with_room(body)).collect();
        #[expect(clippy::disallowed_methods, reason = "a bench is what clocks are for")]
        let start = Instant::now();
        let result = black_box(run(&mut buffers));
        total += start.elapsed();
        check(result);
    }
    total
}

/// A copy with room for the slack behind a body, as the server's buffers have it.
fn with_room(body: &[u8]) -> Vec<u8> {
    let mut buffer = Vec::with_capacity(body.len() + 64);
    buffer.extend_from_slice(body);
    buffer
}

fn write_path(criterion: &mut Criterion) {
    for load in [lines(), columns()] {
        let registry = Registry::new(Limits::DEFAULT, Unsigned::Int64, Vec::new());
        let mut tables = Tables::new(Arc::new(registry));
        let mut buffers: Vec<_> = load.bodies.iter().map(|body| with_room(body)).collect();
        let chunks = decode(&mut tables, &load, &mut buffers);
        print_sizes(load.name, &chunks);

        let bytes = load.bodies.iter().map(|body| body.len() as u64).sum();
        let mut group = criterion.benchmark_group(format!("write_path/{}", load.name));
        group
            .sample_size(10)
            .throughput(Throughput::ElementsAndBytes { elements: ROWS as u64, bytes });
        group.bench_function("peristyle", |bencher| {
            bencher.iter_custom(|rounds| {
                let run = |buffers: &mut [Vec<u8>]| file(&decode(&mut tables, &load, buffers));
                time(rounds, &load.bodies, run, check)
            });
        });
        group.bench_function("decode", |bencher| {
            bencher.iter_custom(|rounds| {
                let run = |buffers: &mut [Vec<u8>]| decode(&mut tables, &load, buffers);
                time(rounds, &load.bodies, run, drop)
            });
        });
        group.bench_function("arrow_writer", |bencher| {
            bencher.iter_custom(|rounds| time(rounds, &[], |_| untuned_file(&chunks), check));
        });
    }
}

/// What each writer makes of the rows, in bytes.
#[expect(clippy::print_stdout, reason = "a size is a result of the bench")]
fn print_sizes(name: &str, chunks: &[Chunk]) {
    let (tuned, untuned) = (file(chunks).len(), untuned_file(chunks).len());
    println!("write_path/{name}: {ROWS} rows, {tuned} bytes of Parquet, arrow_writer {untuned}");
}

criterion_group!(benches, write_path);
criterion_main!(benches);
