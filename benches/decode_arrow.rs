//! Arrow IPC into columns, by the size of its batches, and the floor.
//!
//! | bench       | what it does with the same body                                               |
//! |-------------|-------------------------------------------------------------------------------|
//! | `peristyle` | decodes it into table builders or chunks; chunks are dropped in the time      |
//! | `reader`    | reads it with `arrow-ipc`'s own reader, which copies every message once       |
//! | `memcpy`    | copies it                                                                     |

#![expect(clippy::unwrap_used, reason = "a bench stops at the first surprise")]

use std::hint::black_box;
use std::sync::Arc;

use arrow_buffer::Buffer;
use arrow_ipc::reader::StreamReader;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use peristyle::decode::ipc::{self, Parameters, WHOLE_ROWS_MIN};
use peristyle::decode::{Context, Precision, Report};
use peristyle::gather::{Atomicity, Registry, Tables};
use peristyle::limits::Limits;
use peristyle::schema::Unsigned;
use peristyle::timestamp::Timestamp;

#[path = "support/arrow_bodies.rs"]
mod bodies;

/// The allocator of the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rows of a batch: below, at and above those of a chunk.
const ROWS: [usize; 4] = [1_000, WHOLE_ROWS_MIN - 1, WHOLE_ROWS_MIN, 100_000];

/// Decodes `body` and gives its bytes back, if no row uses them.
fn decode(tables: &mut Tables, body: Vec<u8>) -> (u64, Buffer) {
    let context = Context {
        precision: Precision::Auto,
        received: Timestamp::default(),
        limits: &Limits::DEFAULT,
    };
    let parameters = Parameters { measurement: Some("m"), time: None, tags: "host,rack" };
    let mut report = Report::default();
    let body = Buffer::from_vec(body);
    let database = tables.database("db").unwrap();
    database.begin_write(Atomicity::Rows);
    ipc::decode(&body, &parameters, &context, database, &mut report);
    database.end_write().unwrap();
    (report.accepted, body)
}

fn decode_arrow(c: &mut Criterion) {
    for rows in ROWS {
        let body = bodies::stream(rows);
        let mut group = c.benchmark_group(format!("decode_arrow/{rows}"));
        group.throughput(Throughput::Bytes(body.len() as u64));
        let registry = Registry::new(Limits::DEFAULT, Unsigned::Int64, Vec::new());
        let mut tables = Tables::new(Arc::new(registry));
        group.bench_function("peristyle", |bencher| {
            let mut spare = Some(body.clone());
            bencher.iter(|| {
                let (accepted, shared) = decode(&mut tables, spare.take().unwrap());
                assert_eq!(accepted, rows as u64);
                if tables.row_bytes() > 64 << 20 || rows >= WHOLE_ROWS_MIN {
                    drop(tables.take_chunks(None, false));
                }
                spare = Some(shared.into_vec().unwrap());
            });
        });
        group.bench_function("reader", |bencher| {
            bencher.iter(|| {
                let reader = StreamReader::try_new(&body[..], None).unwrap();
                reader.map(|batch| black_box(batch.unwrap()).num_rows()).sum::<usize>()
            });
        });
        group.bench_function("memcpy", |bencher| bencher.iter(|| black_box(body.clone())));
        group.finish();
    }
}

criterion_group!(benches, decode_arrow);
criterion_main!(benches);
