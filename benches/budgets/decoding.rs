//! Bodies to columns, and what each format is measured by.

use std::io::Write;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use libdeflater::Decompressor;
use peristyle::decode::cursor::Body;
use peristyle::decode::inflate::{Encoding, Inflater};
use peristyle::decode::json::{self, Scratch};
use peristyle::decode::{Context, Precision, Report, line_protocol, msgpack};
use peristyle::gather::{Atomicity, Registry, Tables};
use peristyle::limits::Limits;
use peristyle::schema::Unsigned;
use peristyle::timestamp::Timestamp;
use rmp::Marker;
use rmp::decode::{RmpRead, read_marker};
use simd_json::{Buffers, Tape};

use crate::rounds::{Comparison, Pair, Work, timed, work};
use crate::{json_bodies, line_bodies, msgpack_bodies};

/// Lines of a body of line protocol.
const LINES: u64 = 5_000;
/// Rows of a body of another format.
const ROWS: u64 = 1_000;
/// Rows after which the chunks are taken and dropped.
const ROWS_PER_TAKE: u64 = 60_000;

#[derive(Clone, Copy)]
enum Format {
    Json,
    Lines,
    MessagePack,
}

/// A shard's tables, and room for a body.
struct Shard {
    tables: Tables,
    scratch: Scratch,
    buffer: Vec<u8>,
    rows: u64,
}

impl Shard {
    fn new() -> Self {
        let registry = Registry::new(Limits::DEFAULT, Unsigned::Int64, Vec::new());
        let tables = Tables::new(Arc::new(registry));
        Self { tables, scratch: Scratch::default(), buffer: Vec::new(), rows: 0 }
    }

    /// Decodes a body of so many rows; copying it before and taking rows away are not in the time.
    fn decode(&mut self, format: Format, body: &[u8], rows: u64) -> Duration {
        self.buffer.clear();
        self.buffer.reserve(body.len() + 128);
        self.buffer.extend_from_slice(body);
        let precision = match format {
            Format::Lines => Precision::Nanosecond,
            _ => Precision::Auto,
        };
        let received = Timestamp::from_ns(0);
        let context = Context { precision, received, limits: &Limits::DEFAULT };
        let mut report = Report::default();
        let database = self.tables.database("db").unwrap();
        database.begin_write(Atomicity::Rows);
        let body = Body::new(&mut self.buffer);
        let ((), time) = timed(|| match format {
            Format::Json => {
                json::decode(body, &context, &mut self.scratch, database, &mut report);
            }
            Format::Lines => line_protocol::decode(body, &context, database, &mut report),
            Format::MessagePack => msgpack::decode(body, &context, database, &mut report),
        });
        database.end_write().unwrap();
        assert_eq!((report.accepted, report.rejected), (rows, 0));
        self.rows += rows;
        if self.rows >= ROWS_PER_TAKE {
            self.tables.take_chunks(None, false);
            self.rows = 0;
        }
        time
    }
}

fn decode(format: Format, body: &Rc<[u8]>, rows: u64) -> Work {
    let (mut shard, body) = (Shard::new(), Rc::clone(body));
    Box::new(move || shard.decode(format, &body, rows))
}

/// Everything from bytes to columns.
pub(crate) fn comparisons() -> Vec<Comparison> {
    let inflate_of =
        |shape, body: fn() -> Vec<u8>| Comparison::new("inflate", shape, move || inflate(&body()));
    let lines_of = |shape, name: &'static str| {
        Comparison::new("line protocol", shape, move || {
            let mut shapes = line_bodies::shapes(LINES).into_iter();
            lines(shapes.find(|(it, _)| *it == name).unwrap().1)
        })
    };
    let rows_of = |shape, body: fn(usize) -> Vec<u8>| {
        Comparison::new("MessagePack", shape, move || message_pack_rows(body(1_000)))
    };
    let json_of = |shape, body: fn(u64) -> Vec<u8>, is_lines| {
        Comparison::new("JSON", shape, move || json(body(ROWS), is_lines))
    };
    vec![
        inflate_of("10 tags, 10 integers", || line_bodies::tsbs(LINES)),
        inflate_of("columns of MessagePack", || msgpack_bodies::columnar_iot(10_000)),
        lines_of("10 tags, 10 integers", "tsbs"),
        lines_of("10 tags, 10 floats of 2 decimals", "floats"),
        lines_of("10 tags, 10 floats of 17 digits", "long_floats"),
        lines_of("fields in random order", "random_order"),
        lines_of("escapes everywhere", "escapes"),
        lines_of("2 of 100 fields", "sparse"),
        lines_of("5 of 10 fields in turn", "alternating"),
        lines_of("1,000 measurements in turn", "measurements"),
        Comparison::new("line protocol", "a new series every line", new_series),
        rows_of("rows, stable keys", msgpack_bodies::row_arc),
        rows_of("rows, keys in random order", msgpack_bodies::row_shuffled),
        Comparison::new("MessagePack", "columns, iot", message_pack_columns),
        json_of("rows, one document", json_bodies::telegraf_batch, false),
        json_of("rows, one a line", json_bodies::telegraf_lines, true),
        json_of("columns", json_bodies::columnar_iot, false),
    ]
}

fn inflate(body: &[u8]) -> Pair {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).unwrap();
    let compressed: Rc<[u8]> = encoder.finish().unwrap().into();
    let bytes = body.len();
    let (mut inflater, mut output, input) =
        (Inflater::default(), Vec::new(), Rc::clone(&compressed));
    let ours = work(move || {
        let limits = &Limits::DEFAULT;
        inflater.inflate(Encoding::Gzip, &input, &mut output, limits, &mut |_| Ok(())).unwrap();
        assert_eq!(output.len(), bytes);
    });
    let (mut decompressor, mut output) = (Decompressor::new(), vec![0; bytes]);
    let floor = work(move || {
        assert_eq!(decompressor.gzip_decompress(&compressed, &mut output).unwrap(), bytes);
    });
    Pair { bytes, rows: 1, ours, floor }
}

fn lines(body: Vec<u8>) -> Pair {
    let (bytes, body) = (body.len(), body.into());
    let ours = decode(Format::Lines, &body, LINES);
    let floor = work(move || parse(&body));
    Pair { bytes, rows: LINES, ours, floor }
}

/// Lines of series that were never met, in each body others.
fn new_series() -> Pair {
    let body = line_bodies::unseen(LINES, 0);
    let bytes = body.len();
    let (mut shard, mut first) = (Shard::new(), 0);
    let ours: Work = Box::new(move || {
        first += LINES;
        shard.decode(Format::Lines, &line_bodies::unseen(LINES, first), LINES)
    });
    let floor = work(move || parse(&body));
    Pair { bytes, rows: LINES, ours, floor }
}

/// By the parser others use, which stores nothing.
fn parse(body: &[u8]) {
    let text = std::str::from_utf8(body).unwrap();
    let lines = influxdb_line_protocol::parse_lines(text);
    let count = lines.fold(0, |count, line| {
        std::hint::black_box(line.unwrap());
        count + 1
    });
    assert_eq!(count, LINES);
}

fn message_pack_rows(body: Vec<u8>) -> Pair {
    let (bytes, body): (usize, Rc<[u8]>) = (body.len(), body.into());
    let ours = decode(Format::MessagePack, &body, ROWS);
    let floor = work(move || {
        let (mut rest, mut sum, mut rows) = (&body[..], 0, 0);
        while !rest.is_empty() {
            walk(&mut rest, &mut sum);
            rows += 1;
        }
        assert_eq!(rows, ROWS);
        sum
    });
    Pair { bytes, rows: ROWS, ours, floor }
}

/// Reads a value by the functions of `rmp`, and keeps nothing of it but a sum.
fn walk(rest: &mut &[u8], sum: &mut u64) {
    let skip = |rest: &mut &[u8], len: usize, sum: &mut u64| {
        let (text, behind) = rest.split_at(len);
        *sum += u64::from(text.first().copied().unwrap_or_default());
        *rest = behind;
    };
    match read_marker(rest).unwrap() {
        Marker::FixMap(pairs) => (0..pairs * 2).for_each(|_| walk(rest, sum)),
        Marker::FixStr(len) => skip(rest, len.into(), sum),
        Marker::FixPos(value) => *sum += u64::from(value),
        Marker::F64 => *sum ^= rest.read_data_f64().unwrap().to_bits(),
        Marker::I64 => *sum ^= rest.read_data_i64().unwrap().cast_unsigned(),
        other => panic!("expected what the bodies have, found {other:?}"),
    }
}

fn message_pack_columns() -> Pair {
    let body: Rc<[u8]> = msgpack_bodies::columnar_iot(1_000).into();
    let bytes = body.len();
    let ours = decode(Format::MessagePack, &body, ROWS);
    let mut copy = vec![0; bytes];
    let floor = work(move || std::hint::black_box(&mut copy).copy_from_slice(&body));
    Pair { bytes, rows: ROWS, ours, floor }
}

fn json(body: Vec<u8>, is_lines: bool) -> Pair {
    let (bytes, body): (usize, Rc<[u8]>) = (body.len(), body.into());
    let ours = decode(Format::Json, &body, ROWS);
    let (mut text, mut buffers) = (Vec::new(), Buffers::default());
    let floor = work(move || {
        let lines = body.split(|byte| *byte == b'\n' && is_lines);
        tape(lines.filter(|line| !line.is_empty()), &mut text, &mut buffers)
    });
    Pair { bytes, rows: ROWS, ours, floor }
}

/// Nodes of the documents' tapes. `simd-json` writes into what it reads, so that is copied first.
fn tape<'a>(
    documents: impl Iterator<Item = &'a [u8]>,
    text: &mut Vec<u8>,
    buffers: &mut Buffers,
) -> usize {
    let mut nodes = 0;
    let mut room = Tape(Vec::new());
    for document in documents {
        text.clear();
        text.extend_from_slice(document);
        text.resize(document.len() + simd_json::INPUT_PADDING, 0);
        let mut tape = room.reset();
        simd_json::fill_tape_padded(text, document.len(), buffers, &mut tape).unwrap();
        nodes += std::hint::black_box(tape.0.len());
        room = tape.reset();
    }
    nodes
}
