//! What the whole server takes for a row, beside the sum of what its stages take alone.
//!
//! ```text
//! cargo bench -p peristyle-load --bench floors -- --serve target/release/peristyle
//!     --seconds S      of load on each server, 5 where nothing is said
//!     --rounds N       of server and floors in turn, 3; the table has the median ratio's
//!     --only TEXT      the lines with this text
//!     --scratch DIR    where the server and the floor of writing have their files
//! ```
//!
//! | floor   | what does the least that has to be done with the same bodies                    |
//! |---------|---------------------------------------------------------------------------------|
//! | receive | a hyper on one thread that drops each frame and answers 204, same connections    |
//! | inflate | libdeflate, one shot                                                             |
//! | decode  | our decoder in a warm shard on its own; `budgets` holds it to those of others    |
//! | encode  | our Parquet, a file for each table; `budgets` holds it to `ArrowWriter`          |
//! | write   | the bodies over a file written before, past the page cache, a sync for each eight; those files |
//!
//! All are microseconds of processor time a row. Floors are their thread's; the server's is its
//! process's until it has nothing left to do, all rows published, every answer synced.

#![expect(clippy::unwrap_used, reason = "a bench stops at the first surprise")]
#![expect(clippy::print_stdout, reason = "its result")]

use std::convert::Infallible;
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use clap::Parser;
use cpu_time::ThreadTime;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request as HttpRequest, Response, StatusCode};
use hyper_util::rt::TokioIo;
use libdeflater::Decompressor;
use peristyle::decode::cursor::Body;
use peristyle::decode::{Context, Precision, Report, line_protocol, msgpack};
use peristyle::gather::{Atomicity, Chunk, Registry, Tables};
use peristyle::limits::Limits;
use peristyle::persist::parquet_file::{About, encode};
use peristyle::schema::Unsigned;
use peristyle::timestamp::Timestamp;
use peristyle_load::compress::Encoding;
use peristyle_load::encode::Format;
use peristyle_load::measure::{Server, measure, requests};
use peristyle_load::options::Options;
use peristyle_load::process::machine;
use peristyle_load::report::{float, per};
use peristyle_load::run::{Plan, Request, run};
use peristyle_load::shape::Shape;
use peristyle_load::target::Target;
use tokio::sync::oneshot;
use tokio::task::{LocalSet, spawn_local};

/// The allocator of the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What is required of the server: so many times the sum; and what would be better still.
const REQUIRED: f64 = 1.6;
const AIM: f64 = 1.25;
/// How often the bodies are decoded for one file.
const ROUNDS: u64 = 8;
/// How long hyper is loaded.
const RECEIVING: Duration = Duration::from_secs(2);
/// Bodies of a group of the journal: one for each connection.
const GROUP: usize = 8;
/// What is written past the page cache begins and ends at a multiple of this.
const PAGE: usize = 4096;
/// The file that groups are written over.
const JOURNAL_BYTES: usize = 64 << 20;

#[derive(Debug, Parser)]
struct Arguments {
    #[arg(long)]
    serve: PathBuf,
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    #[arg(long, default_value = "")]
    only: String,
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    scratch: PathBuf,
    /// Cargo says so.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Microseconds of processor time a row.
#[derive(Debug, Default)]
struct Floors {
    receive: f64,
    inflate: f64,
    decode: f64,
    encode: f64,
    write: f64,
}

impl Floors {
    fn sum(&self) -> f64 {
        self.receive + self.inflate + self.decode + self.encode + self.write
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    println!("{}\n", machine());
    println!(
        "| load | server | receive | inflate | decode | encode | write | sum | times | of | |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    let mut holds = true;
    for (shape, format) in [
        (Shape::Tsbs, Format::LineProtocol),
        (Shape::Telegraf, Format::LineProtocol),
        (Shape::Iot, Format::MsgpackColumns),
    ] {
        for encoding in [Encoding::Plain, Encoding::Gzip] {
            let name = format!("{shape:?}, {encoding:?}").to_lowercase();
            if name.contains(&arguments.only) {
                let options = load(&arguments, shape, format, encoding);
                holds &= compare(&name, &options, arguments.rounds);
            }
        }
    }
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The options of one load.
fn load(arguments: &Arguments, shape: Shape, format: Format, encoding: Encoding) -> Options {
    let Arguments { serve, seconds, scratch, .. } = arguments;
    Options {
        serve: Some(serve.clone()),
        scratch: scratch.clone(),
        seconds: *seconds,
        quiet: true,
        shape,
        format,
        encoding,
        ..Options::parse_from(["floors"])
    }
}

/// Measures one load and prints its line; whether it is as required.
fn compare(name: &str, options: &Options, rounds: usize) -> bool {
    let mut measured: Vec<(f64, f64, Floors)> = (0..rounds)
        .map(|_| {
            let (server, floors) = round(options);
            (server / floors.sum(), server, floors)
        })
        .collect();
    measured.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (least, most) = (measured.first().unwrap().0, measured.last().unwrap().0);
    let (times, server, floors) = measured.get(rounds / 2).unwrap();
    let verdict = match *times {
        times if times <= AIM => "aim",
        times if times <= REQUIRED => "holds",
        _ => "open",
    };
    let Floors { receive, inflate, decode, encode, write } = floors;
    println!(
        "| {name} | {server:.3} | {receive:.3} | {inflate:.3} | {decode:.3} | {encode:.3} | \
         {write:.3} | {:.3} | {times:.2} | {least:.2} to {most:.2} | {verdict} |",
        floors.sum()
    );
    *times <= REQUIRED
}

/// Microseconds a row of the server, and what its stages take alone.
fn round(options: &Options) -> (f64, Floors) {
    let server = Server::of(options).unwrap();
    let report = measure(options, &server).unwrap();
    let target = server.target.clone();
    server.stop().unwrap();
    assert_eq!(report.totals.failed, 0);
    (report.totals.server.unwrap().settled_cpu_us_per_row, floors(options, &target))
}

fn floors(options: &Options, target: &Target) -> Floors {
    let sent = requests(options, target).unwrap();
    let plain_options = Options { encoding: Encoding::Plain, ..options.clone() };
    let plain = requests(&plain_options, target).unwrap();
    let rows: u64 = plain.iter().map(|it| it.body.rows()).sum();
    let us = |time: Duration, rows: u64| per(time.as_secs_f64() * 1e6, float(rows));
    let (chunks, decoding) = decode(options.format, plain, rows);
    let (files, encoding) = encode_all(&chunks);
    let chunk_rows = rows * ROUNDS;
    let writing_bodies = write_bodies(&options.scratch, &sent);
    let writing_files = write_files(&options.scratch, &files);
    let inflating =
        if options.encoding == Encoding::Gzip { inflate(&sent) } else { Duration::ZERO };
    Floors {
        receive: receive(options, &sent),
        inflate: us(inflating, rows),
        decode: us(decoding, chunk_rows),
        encode: us(encoding, chunk_rows),
        write: us(writing_bodies, rows) + us(writing_files, chunk_rows),
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = ThreadTime::now();
    let done = work();
    (done, start.elapsed())
}

/// Microseconds a row that hyper takes to read the bodies and to answer.
fn receive(options: &Options, requests: &[Request]) -> f64 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    let (end, ended) = oneshot::channel();
    let server = thread::spawn(move || timed(|| drop_bodies(listener, ended)).1);
    let plan = Plan {
        connections: usize::try_from(options.connections).unwrap(),
        duration: Some(RECEIVING),
        requests: None,
        rate: None,
        first_slot: 0,
    };
    let outcome = run(requests, address, &plan, None, &mut |_, _| {}).unwrap();
    assert_eq!(outcome.tally.failed(), 0);
    end.send(()).unwrap();
    let time = server.join().unwrap();
    per(time.as_secs_f64() * 1e6, float(outcome.tally.rows))
}

/// Answers 204 to whatever comes, until it is told to end.
fn drop_bodies(listener: TcpListener, mut ended: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        loop {
            let stream = tokio::select! {
                _ = &mut ended => break,
                accepted = listener.accept() => accepted.unwrap().0,
            };
            let answer = service_fn(|mut request: HttpRequest<Incoming>| async move {
                while let Some(frame) = request.body_mut().frame().await {
                    frame.unwrap();
                }
                let mut response = Response::new(Empty::<Bytes>::new());
                *response.status_mut() = StatusCode::NO_CONTENT;
                Ok::<_, Infallible>(response)
            });
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
            spawn_local(connection);
        }
    });
}

fn inflate(requests: &[Request]) -> Duration {
    let mut decompressor = Decompressor::new();
    let mut all = || {
        for Request { body, .. } in requests {
            let mut output = vec![0; usize::try_from(body.raw_bytes).unwrap()];
            decompressor.gzip_decompress(&body.bytes, &mut output).unwrap();
        }
    };
    // Once for what is made once.
    all();
    timed(all).1
}

/// The chunks of all bodies, at [`ROUNDS`] times, and what the decoder took for them.
fn decode(format: Format, mut requests: Vec<Request>, rows: u64) -> (Vec<Chunk>, Duration) {
    let registry = Registry::new(Limits::DEFAULT, Unsigned::Int64, Vec::new());
    let mut tables = Tables::new(Arc::new(registry));
    // Columns and series are made in the first pass.
    let mut pass = |first: u64| {
        let mut time = Duration::ZERO;
        for round in 0..ROUNDS {
            let mut report = Report::default();
            for Request { body, .. } in &mut requests {
                body.move_to(first + round);
                let mut buffer = Vec::with_capacity(body.bytes.len() + 128);
                buffer.extend_from_slice(&body.bytes);
                time += decode_one(format, &mut tables, &mut buffer, &mut report);
            }
            assert_eq!((report.accepted, report.rejected), (rows, 0));
        }
        let (chunks, sealing) = timed(|| tables.take_chunks(None, false));
        (chunks, time + sealing)
    };
    drop(pass(0));
    pass(ROUNDS)
}

fn decode_one(
    format: Format,
    tables: &mut Tables,
    buffer: &mut Vec<u8>,
    report: &mut Report,
) -> Duration {
    let is_lines = format == Format::LineProtocol;
    let precision = if is_lines { Precision::Nanosecond } else { Precision::Auto };
    let received = Timestamp::from_ns(0);
    let context = Context { precision, received, limits: &Limits::DEFAULT };
    timed(|| {
        let database = tables.database("db").unwrap();
        database.begin_write(Atomicity::Rows);
        if is_lines {
            line_protocol::decode(Body::new(buffer), &context, database, report);
        } else {
            msgpack::decode(Body::new(buffer), &context, database, report);
        }
        database.end_write().unwrap();
    })
    .1
}

/// A file for each table of the chunks.
fn encode_all(chunks: &[Chunk]) -> (Vec<Vec<u8>>, Duration) {
    let mut names: Vec<&str> = chunks.iter().map(|it| &*it.measurement.name).collect();
    names.sort_unstable();
    names.dedup();
    let files = || names.iter().map(|name| encode_one(name, chunks)).collect();
    timed(files)
}

fn encode_one(measurement: &str, chunks: &[Chunk]) -> Vec<u8> {
    let mut own = chunks.iter().filter(|it| &*it.measurement.name == measurement);
    let schema = own.clone().next().unwrap().batch.schema();
    let about = About { database: "db", measurement, sort_key: &[], sequence: 1, journal: 1 };
    let mut file = Vec::new();
    let batches: Vec<_> = own.by_ref().map(|it| it.batch.clone()).collect();
    encode(&mut file, &schema, &about, &batches[..]).unwrap();
    file
}

/// Each group of bodies written over what was there, and synced.
fn write_bodies(scratch: &Path, requests: &[Request]) -> Duration {
    let path = scratch.join(format!("peristyle-floors-{}", std::process::id()));
    File::create(&path).unwrap().write_all(&vec![0; JOURNAL_BYTES]).unwrap();
    let mut options = OpenOptions::new();
    let mut file = options.write(true).custom_flags(libc::O_DIRECT).open(&path).unwrap();
    file.sync_all().unwrap();
    let groups: Vec<usize> = requests
        .chunks(GROUP)
        .map(|group| group.iter().map(|it| it.body.bytes.len()).sum::<usize>())
        .map(|bytes| bytes.next_multiple_of(PAGE))
        .collect();
    let mut buffer = vec![1; groups.iter().max().unwrap() + PAGE];
    let start = buffer.as_ptr().align_offset(PAGE);
    let mut at = 0;
    let ((), time) = timed(|| {
        for (group, bytes) in requests.chunks(GROUP).zip(&groups) {
            let mut rest = buffer.get_mut(start..).unwrap();
            for Request { body, .. } in group {
                rest.write_all(&body.bytes).unwrap();
            }
            at = if at + bytes > JOURNAL_BYTES { 0 } else { at };
            file.seek(SeekFrom::Start(at as u64)).unwrap();
            file.write_all(buffer.get(start..start + bytes).unwrap()).unwrap();
            file.sync_data().unwrap();
            at += bytes;
        }
    });
    std::fs::remove_file(path).unwrap();
    time
}

fn write_files(scratch: &Path, files: &[Vec<u8>]) -> Duration {
    let path = scratch.join(format!("peristyle-floors-{}.parquet", std::process::id()));
    let ((), time) = timed(|| {
        for bytes in files {
            let mut file = File::create(&path).unwrap();
            file.write_all(bytes).unwrap();
            file.sync_all().unwrap();
        }
    });
    std::fs::remove_file(path).unwrap();
    time
}
