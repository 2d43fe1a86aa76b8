//! Bodies to columns, and the same bytes through the parser others use.
//!
//! `decode/line_protocol/<shape>` decodes one body into warm builders and drops their rows outside
//! the measurement. `decode/line_protocol/influxdb_line_protocol_parse` only parses the `tsbs`
//! body, with the `influxdb-line-protocol` crate, and stores nothing.

use std::fmt::Write as _;
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

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Lines of every body.
const LINES: u64 = 5_000;
const FIELDS: [&str; 10] = [
    "usage_user",
    "usage_system",
    "usage_idle",
    "usage_nice",
    "usage_iowait",
    "usage_irq",
    "usage_softirq",
    "usage_steal",
    "usage_guest",
    "usage_guest_nice",
];

/// Seeded numbers (`SplitMix64`).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut it = self.0;
        it = (it ^ (it >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        it = (it ^ (it >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        it ^ (it >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// Ten tags, as the Time Series Benchmark Suite gives its `cpu` rows.
fn head(host: u64) -> String {
    format!(
        "cpu,hostname=host_{host},region=eu-central-1,datacenter=eu-central-1a,rack={},\
         os=Ubuntu15.10,arch=x86,team=SF,service={},service_version={},\
         service_environment=production",
        host % 100,
        host % 20,
        host % 2
    )
}

/// A body of [`LINES`] lines: ten tags, ten fields whose values and order `field` decides.
fn body(
    mut host: impl FnMut(u64, &mut Random) -> String,
    mut value: impl FnMut(&mut Random) -> String,
    shuffled: bool,
) -> Vec<u8> {
    let mut random = Random(1);
    let mut body = String::new();
    for line in 0..LINES {
        body.push_str(&host(line, &mut random));
        let mut fields = FIELDS;
        if shuffled {
            for place in 1..fields.len() {
                let other = random.below(place as u64 + 1);
                fields.swap(place, usize::try_from(other).unwrap());
            }
        }
        for (place, field) in fields.iter().enumerate() {
            let separator = if place == 0 { ' ' } else { ',' };
            let _ = write!(body, "{separator}{field}={}", value(&mut random));
        }
        let _ = writeln!(body, " {}", 1_451_606_400_000_000_000 + (line / 4_000) * 10_000_000_000);
    }
    body.into_bytes()
}

fn integer(random: &mut Random) -> String {
    format!("{}i", random.below(101))
}

#[expect(clippy::cast_precision_loss, reason = "any float will do")]
fn float(random: &mut Random) -> String {
    format!("{:.2}", random.below(10_000) as f64 / 100.0)
}

#[expect(clippy::cast_precision_loss, reason = "any float will do")]
fn long_float(random: &mut Random) -> String {
    (random.next() as f64 / u64::MAX as f64 * 100.0).to_string()
}

fn string(random: &mut Random) -> String {
    format!("\"say \\\"{}\\\", twice\"", random.below(1_000))
}

fn shapes() -> Vec<(&'static str, Vec<u8>)> {
    let of_4000 = |line: u64, _: &mut Random| head(line % 4_000);
    let escaped = |line: u64, _: &mut Random| head(line % 4_000).replace("eu-", "eu\\ ");
    let unseen = |_: u64, random: &mut Random| head(random.next());
    vec![
        ("tsbs", body(of_4000, integer, false)),
        ("floats", body(of_4000, float, false)),
        ("long_floats", body(of_4000, long_float, false)),
        ("escapes", body(escaped, string, false)),
        ("random_order", body(of_4000, integer, true)),
        ("new_series", body(unseen, integer, false)),
    ]
}

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
    for (shape, body) in shapes() {
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
                    let lines = influxdb_line_protocol::parse_lines(&text);
                    assert_eq!(lines.map(|line| black_box(line.unwrap())).count() as u64, LINES);
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, line_protocol);
criterion_main!(benches);
