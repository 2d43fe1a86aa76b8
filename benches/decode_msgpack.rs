//! MessagePack into columns, beside what one would write first, and the floor.
//!
//! | bench           | what it does with the same body                                          |
//! |-----------------|--------------------------------------------------------------------------|
//! | `peristyle`     | decodes it into table builders, seals are not in the time                |
//! | `rmp_streaming` | `rmp::decode::read_*` into vectors found in a hash map, kept and cleared |
//! | `rmpv_tree`     | `rmpv::decode::read_value`: trees, no columns                            |
//! | `memcpy`        | copies it                                                                |

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a bench stops at the first surprise"
)]

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use foldhash::fast::RandomState;
use peristyle::decode::cursor::Body;
use peristyle::decode::{Context, Precision, Report, msgpack};
use peristyle::gather::{Atomicity, Registry, Tables};
use peristyle::limits::Limits;
use peristyle::schema::Unsigned;
use peristyle::timestamp::Timestamp;
use rmp::Marker;
use rmp::decode::{
    RmpRead, read_array_len, read_f64, read_int, read_map_len, read_marker, read_str_from_slice,
};

#[path = "support/random.rs"]
mod random;

#[path = "support/msgpack_bodies.rs"]
mod bodies;

/// The allocator of the server; with the system's the page faults of fresh columns are measured.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Bodies after which the chunks are taken and dropped.
const BODIES_PER_TAKE: usize = 60;

/// A shard's tables that bodies are decoded into.
struct Shard {
    tables: Tables,
    bodies: usize,
}

impl Shard {
    fn new() -> Self {
        let registry = Registry::new(Limits::DEFAULT, Unsigned::Int64, Vec::new());
        Self { tables: Tables::new(Arc::new(registry)), bodies: 0 }
    }

    /// Decodes `buffer`, whose body is its first `len` bytes, and returns the rows accepted.
    fn decode(&mut self, buffer: &mut Vec<u8>, len: usize) -> u64 {
        buffer.truncate(len);
        let limits = Limits::DEFAULT;
        let received = Timestamp::from_ns(0);
        let context = Context { precision: Precision::Auto, received, limits: &limits };
        let mut report = Report::default();
        let database = self.tables.database("db").unwrap();
        database.begin_write(Atomicity::Rows);
        msgpack::decode(Body::new(buffer), &context, database, &mut report);
        database.end_write().unwrap();
        assert_eq!(report.rejected, 0);
        report.accepted
    }

    /// Decodes the body `rounds` times; the seals between, which `gather/seal` measures, are not
    /// in the time.
    fn time(&mut self, rounds: u64, body: &[u8], rows: u64) -> Duration {
        let mut buffer = body.to_vec();
        let mut time = Duration::ZERO;
        for _ in 0..rounds {
            #[expect(clippy::disallowed_methods, reason = "a bench is what clocks are for")]
            let start = Instant::now();
            let accepted = black_box(self.decode(&mut buffer, body.len()));
            time += start.elapsed();
            assert_eq!(accepted, rows);
            self.bodies += 1;
            if self.bodies.is_multiple_of(BODIES_PER_TAKE) {
                black_box(self.tables.take_chunks(None, false));
            }
        }
        time
    }
}

#[derive(Default)]
struct Column {
    floats: Vec<f64>,
    integers: Vec<i64>,
    ends: Vec<usize>,
    bytes: Vec<u8>,
}

/// Vectors by column name, as a straightforward decoder keeps them.
#[derive(Default)]
struct Columns {
    columns: HashMap<String, Column, RandomState>,
    rows: u64,
}

impl Columns {
    fn clear(&mut self) {
        self.rows = 0;
        for column in self.columns.values_mut() {
            column.floats.clear();
            column.integers.clear();
            column.ends.clear();
            column.bytes.clear();
        }
    }

    fn column(&mut self, name: &str) -> &mut Column {
        if !self.columns.contains_key(name) {
            self.columns.insert(name.to_owned(), Column::default());
        }
        self.columns.get_mut(name).unwrap()
    }
}

fn text<'a>(rest: &mut &'a [u8]) -> &'a str {
    let (text, left) = read_str_from_slice(*rest).unwrap();
    *rest = left;
    text
}

fn push_text(column: &mut Column, rest: &mut &[u8]) {
    column.bytes.extend_from_slice(text(rest).as_bytes());
    column.ends.push(column.bytes.len());
}

fn timestamp(rest: &mut &[u8]) -> i64 {
    if rest[0] != 0xd7 {
        return read_int(rest).unwrap();
    }
    assert_eq!(read_marker(rest).unwrap(), Marker::FixExt8);
    assert_eq!(rest.read_u8().unwrap(), 0xff);
    let mut data = [0; 8];
    rest.read_exact_buf(&mut data).unwrap();
    let both = u64::from_be_bytes(data);
    (both & 0x3_ffff_ffff).cast_signed() * 1_000_000 + (both >> 34).cast_signed() / 1_000
}

/// The bodies of this bench, whatever their shape, by the functions of `rmp`.
fn rmp_streaming(mut rest: &[u8], columns: &mut Columns) {
    columns.clear();
    while !rest.is_empty() {
        let mut rows = 1;
        for _ in 0..read_map_len(&mut rest).unwrap() {
            match text(&mut rest) {
                "m" | "name" => push_text(columns.column("measurement"), &mut rest),
                "t" | "time" => {
                    let time = timestamp(&mut rest);
                    columns.column("time").integers.push(time);
                }
                "tags" => {
                    for _ in 0..read_map_len(&mut rest).unwrap() {
                        let name = text(&mut rest);
                        push_text(columns.column(name), &mut rest);
                    }
                }
                "fields" => {
                    for _ in 0..read_map_len(&mut rest).unwrap() {
                        let name = text(&mut rest);
                        let value = read_f64(&mut rest).unwrap();
                        columns.column(name).floats.push(value);
                    }
                }
                _ => rows = rmp_columns(&mut rest, columns),
            }
        }
        columns.rows += rows;
    }
}

fn rmp_columns(rest: &mut &[u8], columns: &mut Columns) -> u64 {
    let mut rows = 0;
    for _ in 0..read_map_len(rest).unwrap() {
        let name = text(rest);
        let column = columns.column(name);
        rows = read_array_len(rest).unwrap();
        for _ in 0..rows {
            match name {
                "time" => column.integers.push(read_int(rest).unwrap()),
                "host" => push_text(column, rest),
                _ => column.floats.push(read_f64(rest).unwrap()),
            }
        }
    }
    u64::from(rows)
}

/// Rows in the trees of a body of this bench.
fn rmpv_tree(mut rest: &[u8]) -> u64 {
    let mut rows = 0;
    while !rest.is_empty() {
        let tree = black_box(rmpv::decode::read_value(&mut rest).unwrap());
        let columns =
            tree.as_map().unwrap().iter().find(|(key, _)| key.as_str() == Some("columns"));
        let length = |columns: &rmpv::Value| columns.as_map()?.first()?.1.as_array().map(Vec::len);
        rows += columns.map_or(1, |(_, columns)| length(columns).unwrap() as u64);
    }
    rows
}

fn decode(criterion: &mut Criterion) {
    for (shape, rows, body) in [
        ("row_arc", 1_000, bodies::row_arc(1_000)),
        ("row_shuffled", 1_000, bodies::row_shuffled(1_000)),
        ("row_telegraf", 1_000, bodies::row_telegraf(1_000)),
        ("columnar_iot", 1_000, bodies::columnar_iot(1_000)),
    ] {
        let mut group = criterion.benchmark_group(format!("decode/msgpack/{shape}"));
        let bytes = body.len() as u64;
        group.throughput(Throughput::ElementsAndBytes { elements: rows, bytes });
        group.warm_up_time(Duration::from_millis(500));
        group.measurement_time(Duration::from_secs(2));
        group.bench_function("peristyle", |bench| {
            let mut shard = Shard::new();
            bench.iter_custom(|rounds| shard.time(rounds, &body, rows));
        });
        group.bench_function("rmp_streaming", |bench| {
            let mut columns = Columns::default();
            bench.iter(|| {
                rmp_streaming(black_box(&body), &mut columns);
                assert_eq!(columns.rows, rows);
            });
        });
        group.bench_function("rmpv_tree", |bench| {
            bench.iter(|| assert_eq!(rmpv_tree(black_box(&body)), rows));
        });
        group.bench_function("memcpy", |bench| {
            let mut copy = vec![0; body.len()];
            bench.iter(|| black_box(&mut copy).copy_from_slice(black_box(&body)));
        });
        group.finish();
    }
}

criterion_group!(benches, decode);
criterion_main!(benches);
