//! Bodies to columns, and the same bytes through the parser others use.
//!
//! `decode/line_protocol/<shape>` decodes one body into warm builders and drops their rows outside
//! the measurement. `decode/line_protocol/influxdb_line_protocol_parse` only parses the `tsbs`
//! body, with the `influxdb-line-protocol` crate, and stores nothing.

#![expect(clippy::unwrap_used, reason = "a bench stops at the first surprise")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use peristyle::decode::cursor::Body;
use peristyle::decode::{Context, Precision, Report, line_protocol};
use peristyle::gather::{Atomicity, Registry, Tables};
use peristyle::limits::Limits;
use peristyle::schema::Unsigned;
use peristyle::timestamp::Timestamp;

#[path = "support/random.rs"]
mod random;

#[path = "support/line_bodies.rs"]
#[expect(dead_code, reason = "shared with other benches")]
mod bodies;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Lines of every body.
const LINES: u64 = 5_000;

/// One shard's tables, and what decodes into them.
struct Shard {
    tables: Tables,
}

impl Shard {
    fn new() -> Self {
        let registry = Registry::new(Limits::DEFAULT, Unsigned::Int64, Vec::new());
        Self { tables: Tables::new(Arc::new(registry)) }
    }

    /// Decodes `body` and returns how long it took, sealing not counted.
    fn decode(&mut self, body: &[u8]) -> Duration {
        let mut buffer = Vec::with_capacity(body.len() + 64);
        buffer.extend_from_slice(body);
        let database = self.tables.database("bench").unwrap();
        database.begin_write(Atomicity::Rows);
        let limits = Limits::DEFAULT;
        let received = Timestamp::from_ns(0);
        let context = Context { precision: Precision::Nanosecond, received, limits: &limits };
        let mut report = Report::default();
        let start = started();
        line_protocol::decode(Body::new(&mut buffer), &context, database, &mut report);
        let elapsed = start.elapsed();
        assert_eq!((report.accepted, report.rejected), (LINES, 0));
        database.end_write().unwrap();
        elapsed
    }

    fn clear(&mut self) {
        let chunks = self.tables.take_chunks(None, false);
        black_box(chunks);
    }
}

#[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
fn started() -> Instant {
    Instant::now()
}

fn line_protocol(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode/line_protocol");
    group.sample_size(20);
    for (shape, body) in bodies::shapes(LINES) {
        group
            .throughput(Throughput::ElementsAndBytes { elements: LINES, bytes: body.len() as u64 });
        group.bench_function(shape, |bencher| {
            let mut shard = Shard::new();
            shard.decode(&body);
            bencher.iter_custom(|times| {
                let mut total = Duration::ZERO;
                for time in 0..times {
                    if shape == "new_series" {
                        shard = Shard::new();
                    } else if time % 12 == 0 {
                        shard.clear();
                    }
                    total += shard.decode(&body);
                }
                total
            });
        });
        if shape == "tsbs" {
            let text = String::from_utf8(body).unwrap();
            group.bench_function("influxdb_line_protocol_parse", |bencher| {
                bencher.iter(|| {
                    let mut count = 0;
                    for line in influxdb_line_protocol::parse_lines(&text) {
                        black_box(line.unwrap());
                        count += 1;
                    }
                    assert_eq!(count, LINES);
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, line_protocol);
criterion_main!(benches);
