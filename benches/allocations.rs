//! Bytes that the whole server allocates: for a byte of body over HTTP, to its answer; and for a
//! flush that makes a checkpoint of its table's log.
//!
//! Arrow IPC of a million rows by ten columns has to enter with at most one copy of any buffer: the
//! frames of the socket, gathered into the body. The body goes to the journal and becomes the chunk
//! where it is. The flush afterwards is not counted.
//!
//! A checkpoint reads every commit since the last one. Readers of all of them at once, as was, took
//! 290 MB of a server of 256 MiB, which are accounted nowhere.
//!
//! Prints what was allocated as lines of CSV, and fails above a bound.

#![expect(clippy::unwrap_used, reason = "a bench stops at the first surprise")]
#![expect(clippy::print_stdout, reason = "its result")]

use std::alloc::System;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use peristyle::accept::Server;
use peristyle::disk::LocalDisk;
use peristyle::durability::Durability;
use peristyle::engine::{Engine, Options, RetryOptions};
use peristyle::limits::Limits;
use peristyle::schema::Unsigned;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[path = "support/arrow_bodies.rs"]
mod arrow_bodies;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Allocated for a byte of body; what is above one are the first 4 MiB, which are taken before the
/// rest of the length is believed, and what a request costs whatever its size.
const BOUND: f64 = 1.1;
/// Flushes until every table has had a checkpoint (`publish::Options`).
const FLUSHES: usize = 100;
/// Allocated by a flush that makes a checkpoint, one piece after the other: 0.6 MB a commit.
const CHECKPOINT_BOUND: usize = 80 << 20;

fn options(data_dir: &std::path::Path) -> Options {
    Options {
        data_dir: data_dir.to_owned(),
        disk: Arc::new(LocalDisk),
        log_store: None,
        durability: Durability::Fsync,
        wal_segment_bytes: 64 << 20,
        wal_salvage: false,
        retries: RetryOptions {
            knows_bodies: true,
            knows_keys: true,
            window: Duration::from_secs(300),
        },
        shards: 2,
        flush_interval: Duration::from_secs(3600),
        flush_bytes: 1 << 30,
        memory_limit: 4 << 30,
        resident: None,
        trim: None,
        put_last: None,
        close_timeout: Duration::from_secs(30),
        limits: Limits { body_bytes_max: 256 << 20, ..Limits::DEFAULT },
        unsigned: Unsigned::Int64,
        pins: Vec::new(),
        sabotage: None,
    }
}

/// Posts a body and returns the beginning of the answer.
fn post(stream: &mut TcpStream, target: &str, body: &[u8]) -> [u8; 12] {
    let head = format!(
        "POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut answer = [0; 4096];
    let count = stream.read(&mut answer).unwrap();
    assert!(count > 12, "an answer");
    answer[..12].try_into().unwrap()
}

/// Writes a row and has it published; what that allocated.
fn flush(stream: &mut TcpStream) -> usize {
    let line = b"flushed,host=a value=1";
    assert_eq!(post(stream, "/write", line), *b"HTTP/1.1 204");
    let region = Region::new(ALLOCATOR);
    assert_eq!(post(stream, "/api/v1/flush", b""), *b"HTTP/1.1 200");
    region.change().bytes_allocated
}

#[expect(clippy::cast_precision_loss, reason = "a ratio")]
#[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
fn main() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(directory.path());
    let bound = Server::bind(SocketAddr::from(([127, 0, 0, 1], 0)), 1).unwrap();
    let engine = Engine::open(&options).unwrap();
    let server = bound.run(&engine).unwrap();
    let mut stream = TcpStream::connect(server.local_addr()).unwrap();
    println!("format,rows,columns,body bytes,allocated bytes,allocated for each,ms");
    // The first request pays for the table and the connection.
    for rows in [10, 100_000, 1_000_000] {
        let body = arrow_bodies::stream(rows);
        let region = Region::new(ALLOCATOR);
        let begin = Instant::now();
        let target = "/api/v1/write/arrow?measurement=bench&tags=host,rack";
        let answer = post(&mut stream, target, &body);
        let ms = begin.elapsed().as_millis();
        let allocated = region.change().bytes_allocated;
        assert_eq!(answer, *b"HTTP/1.1 204", "{}", String::from_utf8_lossy(&answer));
        let ratio = allocated as f64 / body.len() as f64;
        let columns = arrow_bodies::COLUMNS;
        println!("arrow,{rows},{columns},{},{allocated},{ratio:.3},{ms}", body.len());
        assert!(rows < 1_000_000 || ratio <= BOUND, "more than {BOUND} bytes for each of the body");
    }
    // What came by Arrow is published first.
    flush(&mut stream);
    let most = (0..FLUSHES).map(|_| flush(&mut stream)).max().unwrap();
    println!("flushes,{FLUSHES},allocated by the largest,{most}");
    let log = directory.path().join("tables/default/flushed/_delta_log/_last_checkpoint");
    assert!(log.exists(), "no checkpoint");
    assert!(most <= CHECKPOINT_BOUND, "more than {CHECKPOINT_BOUND} bytes for a checkpoint");
    drop(stream);
    server.shutdown();
    server.join().unwrap();
    engine.close().unwrap();
}
