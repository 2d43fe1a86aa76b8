//! JSON into columns, beside what one would write first, and the floor.
//!
//! | bench        | what it does with the same body                                             |
//! |--------------|-----------------------------------------------------------------------------|
//! | `peristyle`  | decodes it into table builders, seals are not in the time                   |
//! | `tape`       | `simd_json`'s tape of each document, in buffers that are kept: no columns   |
//! | `serde_json` | `serde_json::Value`, and then into vectors found in a hash map              |

#![expect(clippy::unwrap_used, reason = "a bench stops at the first surprise")]

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use foldhash::fast::RandomState;
use peristyle::decode::cursor::Body;
use peristyle::decode::json::{self, Scratch};
use peristyle::decode::{Context, Precision, Report};
use peristyle::gather::{Atomicity, Registry, Tables};
use peristyle::limits::Limits;
use peristyle::schema::Unsigned;
use peristyle::timestamp::Timestamp;
use serde_json::Value;
use simd_json::{Buffers, Tape};

#[path = "support/random.rs"]
mod random;

#[path = "support/json_bodies.rs"]
mod bodies;

/// The allocator of the server; with the system's the page faults of fresh columns are measured.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Bodies after which the chunks are taken and dropped.
const BODIES_PER_TAKE: usize = 60;

/// A shard's tables that bodies are decoded into.
struct Shard {
    tables: Tables,
    scratch: Scratch,
    bodies: usize,
}

impl Shard {
    fn new() -> Self {
        let registry = Registry::new(Limits::DEFAULT, Unsigned::Int64, Vec::new());
        let tables = Tables::new(Arc::new(registry));
        Self { tables, scratch: Scratch::default(), bodies: 0 }
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
        let body = Body::new(buffer);
        json::decode(body, &context, &mut self.scratch, database, &mut report);
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

/// Makes a tape of each document, and counts their nodes. simd-json writes into what it reads, so
/// each is copied first.
fn tape(documents: &[&[u8]], text: &mut Vec<u8>, buffers: &mut Buffers) -> usize {
    let mut nodes = 0;
    let mut room = Tape(Vec::new());
    for document in documents {
        text.clear();
        text.extend_from_slice(document);
        text.resize(document.len() + simd_json::INPUT_PADDING, 0);
        let mut tape = room.reset();
        simd_json::fill_tape_padded(text, document.len(), buffers, &mut tape).unwrap();
        nodes += black_box(tape.0.len());
        room = tape.reset();
    }
    nodes
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

    fn push(&mut self, name: &str, value: &Value) {
        if !self.columns.contains_key(name) {
            self.columns.insert(name.to_owned(), Column::default());
        }
        let column = self.columns.get_mut(name).unwrap();
        if let Some(text) = value.as_str() {
            column.bytes.extend_from_slice(text.as_bytes());
            column.ends.push(column.bytes.len());
        } else if let Some(number) = value.as_i64() {
            column.integers.push(number);
        } else {
            column.floats.push(value.as_f64().unwrap());
        }
    }

    fn row(&mut self, row: &Value) {
        self.rows += 1;
        self.push("measurement", row.get("name").unwrap());
        self.push("time", row.get("timestamp").unwrap());
        for part in ["tags", "fields"] {
            for (name, value) in row.get(part).unwrap().as_object().unwrap() {
                self.push(name, value);
            }
        }
    }
}

/// The bodies of this bench, whatever their shape, by way of values.
fn serde_json(documents: &[&[u8]], columns: &mut Columns) {
    columns.clear();
    for document in documents {
        let document: Value = serde_json::from_slice(document).unwrap();
        if let Some(rows) = document.get("metrics") {
            for row in rows.as_array().unwrap() {
                columns.row(row);
            }
        } else if let Some(values) = document.get("columns") {
            let mut rows = 0;
            for (name, values) in values.as_object().unwrap() {
                let values = values.as_array().unwrap();
                rows = values.len() as u64;
                for value in values {
                    columns.push(name, value);
                }
            }
            columns.rows += rows;
        } else {
            columns.row(&document);
        }
    }
}

fn decode(criterion: &mut Criterion) {
    for (shape, rows, body) in [
        ("telegraf_batch", 1_000, bodies::telegraf_batch(1_000)),
        ("telegraf_lines", 1_000, bodies::telegraf_lines(1_000)),
        ("telegraf_indented", 1_000, bodies::telegraf_indented(1_000)),
        ("columnar_iot", 1_000, bodies::columnar_iot(1_000)),
    ] {
        let lines = || body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let is_lines = lines().all(|line| line.starts_with(b"{\"") && line.ends_with(b"}"));
        let documents: Vec<&[u8]> = if is_lines { lines().collect() } else { vec![&body] };
        let mut group = criterion.benchmark_group(format!("decode/json/{shape}"));
        let bytes = body.len() as u64;
        group.throughput(Throughput::ElementsAndBytes { elements: rows, bytes });
        group.warm_up_time(Duration::from_millis(500));
        group.measurement_time(Duration::from_secs(2));
        group.bench_function("peristyle", |bench| {
            let mut shard = Shard::new();
            bench.iter_custom(|rounds| shard.time(rounds, &body, rows));
        });
        group.bench_function("tape", |bench| {
            let (mut text, mut buffers) = (Vec::new(), Buffers::default());
            bench.iter(|| assert!(tape(black_box(&documents), &mut text, &mut buffers) > 5_000));
        });
        group.bench_function("serde_json", |bench| {
            let mut columns = Columns::default();
            bench.iter(|| {
                serde_json(black_box(&documents), &mut columns);
                assert_eq!(columns.rows, rows);
            });
        });
        group.finish();
    }
}

criterion_group!(benches, decode);
criterion_main!(benches);
