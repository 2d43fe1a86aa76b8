//! Gzip bodies inflated as the server does it, and at once into a buffer of known length.
//!
//! | bench                  | what it does with the same body                                   |
//! |------------------------|-------------------------------------------------------------------|
//! | `peristyle`            | inflates into a buffer that grows to a cap, and checks the trailer |
//! | `libdeflater_one_shot` | is told the length, and keeps no state; the floor                 |
//!
//! Bytes per second are those of the inflated body.

#![expect(clippy::unwrap_used, reason = "a bench stops at the first surprise")]

use std::hint::black_box;
use std::io::Write;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use flate2::Compression;
use flate2::write::GzEncoder;
use libdeflater::Decompressor;
use peristyle::decode::inflate::{Encoding, Inflater};
use peristyle::limits::Limits;

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

fn inflate(criterion: &mut Criterion) {
    let bodies = [
        ("line_protocol", line_bodies::tsbs(5_000)),
        ("msgpack_columnar", msgpack_bodies::columnar_iot(10_000)),
    ];
    for (name, body) in bodies {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(&body).unwrap();
        let compressed = encoder.finish().unwrap();
        let mut group = criterion.benchmark_group(format!("inflate/gzip/{name}"));
        group.throughput(Throughput::Bytes(body.len() as u64));

        let mut inflater = Inflater::default();
        let mut output = Vec::new();
        let mut inflate = |output: &mut Vec<u8>| {
            let input = black_box(&compressed);
            inflater
                .inflate(Encoding::Gzip, input, output, &Limits::DEFAULT, &mut |_| Ok(()))
                .unwrap();
            assert_eq!(output.len(), body.len());
        };
        inflate(&mut output);
        assert!(output == body);
        group.bench_function("peristyle", |bencher| bencher.iter(|| inflate(&mut output)));

        let mut decompressor = Decompressor::new();
        let mut output = vec![0; body.len()];
        group.bench_function("libdeflater_one_shot", |bencher| {
            bencher.iter(|| {
                let input = black_box(&compressed);
                let len = decompressor.gzip_decompress(input, &mut output).unwrap();
                assert_eq!(len, body.len());
            });
        });
        assert!(output == body);
    }
}

criterion_group!(benches, inflate);
criterion_main!(benches);
