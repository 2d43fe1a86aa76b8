//! Streams of Arrow IPC, beside the reader of `arrow-ipc` wherever that reads them too.

use std::io::Cursor;

use arrow_buffer::Buffer;
use arrow_ipc::reader::StreamReader;
use peristyle::decode::ipc::{self, Parameters};
use peristyle::decode::{Context, Precision, Reason, Report};
use peristyle::gather::Atomicity;
use peristyle::limits::Limits;
use peristyle::schema::Unsigned;
use peristyle::timestamp::Timestamp;

use crate::heap::{bounded, tolerated};
use crate::naive;
use crate::support::Shard;

const RECEIVED: Timestamp = Timestamp { us: 1_700_000_000_123_456, ns: 0 };
/// Small enough to be reached, and to be paid for at each try.
const LIMITS: Limits = Limits {
    inflated_bytes_max: 64 << 10,
    name_bytes_max: 18,
    string_bytes_max: 20,
    columns_per_table_max: 64,
    reported_errors_max: usize::MAX,
    ..Limits::DEFAULT
};
const BASE_BYTES: usize = 4 << 20;

/// The first byte says what the request says; the rest is a body.
pub fn run(input: &[u8]) {
    let Some((control, body)) = input.split_first() else { return };
    let tags = ["", "a", "a,b", "c"][usize::from(control & 3)];
    let precision = [Precision::Auto, Precision::Millisecond][usize::from(control >> 2 & 1)];
    let measurement = (control & 8 == 0).then_some("m");
    let parameters = Parameters { measurement, time: None, tags };
    let context = Context { precision, received: RECEIVED, limits: &LIMITS };

    let mut shard = Shard::with(LIMITS, Unsigned::Decimal, Vec::new());
    let mut report = Report::default();
    let buffer = Buffer::from_vec(body.to_vec());
    bounded(BASE_BYTES, 256, input, || {
        shard.write(Atomicity::Rows, |database| {
            ipc::decode(&buffer, &parameters, &context, database, &mut report);
        });
    });
    assert_eq!(report.rejections.len() as u64, report.rejected);
    let rows = shard.rows();
    assert_eq!(rows.len() as u64, report.accepted);
    // Only streams of which every message was taken are worth another opinion: what lengths they
    // declare was checked.
    let is_whole = |it: &peristyle::decode::Rejection| match &it.reason {
        Reason::Arrow(error) => !error.is_malformed(),
        _ => true,
    };
    if !report.rejections.iter().all(is_whole) || !is_one_stream(body) || measurement.is_none() {
        return;
    }
    let mut twin = Shard::with(LIMITS, Unsigned::Decimal, Vec::new());
    let (accepted, rejections) = twin.write(Atomicity::Rows, |database| {
        naive::arrow::decode(body, &parameters, precision, RECEIVED, database)
    });
    let found: Vec<(u64, String)> =
        report.rejections.iter().map(|it| (it.line, it.reason.to_string())).collect();
    assert_eq!((report.accepted, found), (accepted, rejections));
    assert_eq!(rows, twin.rows());
}

/// Whether `arrow-ipc` reads the whole body as one stream of at least a message. It may panic: its
/// authors promise nothing of what is malformed.
fn is_one_stream(body: &[u8]) -> bool {
    let read = tolerated(|| {
        let mut reader = StreamReader::try_new(Cursor::new(body), None).ok()?;
        let mut rows = 0_usize;
        for batch in &mut reader {
            rows += batch.ok()?.num_rows();
        }
        (rows < 1 << 16).then(|| reader.get_ref().position())
    });
    read.flatten().is_some_and(|end| end == body.len() as u64)
}
