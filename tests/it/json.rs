//! JSON bodies into rows: shapes, the naive twin, and whatever is no JSON.

use peristyle::decode::cursor::Body;
use peristyle::decode::json::{self, ItemError, Scratch};
use peristyle::decode::{Context, Precision, Reason, Report};
use peristyle::gather::Atomicity;
use peristyle::limits::Limits;
use peristyle::timestamp::Timestamp;
use proptest::prelude::*;

use crate::json_bodies as bodies;
use crate::msgpack_bodies::Random;
use crate::naive::json as naive;
use crate::support::{Row, Shard, Value};

/// 2023-11-14T22:13:20.123456789Z, the time of receipt in all tests.
const RECEIVED: Timestamp = Timestamp { us: 1_700_000_000_123_456, ns: 789 };
/// `1_700_000_000` seconds, in nanoseconds.
const T0: i128 = 1_700_000_000_000_000_000;

struct Decoded {
    rows: Vec<Row>,
    report: Report,
    chunk_count: usize,
}

impl Decoded {
    fn reasons(&self) -> Vec<String> {
        self.report.rejections.iter().map(|it| it.reason.to_string()).collect()
    }

    /// The rejected pieces of `body`.
    fn quotes<'b>(&self, body: &'b [u8]) -> Vec<&'b str> {
        let quote = |it: &peristyle::decode::Rejection| {
            std::str::from_utf8(&body[it.start..it.end]).unwrap()
        };
        self.report.rejections.iter().map(quote).collect()
    }
}

fn decode_with(body: &[u8], limits: &Limits, precision: Precision) -> Decoded {
    let mut shard = Shard::new();
    let mut report = Report::default();
    let context = Context { precision, received: RECEIVED, limits };
    let mut buffer = body.to_vec();
    shard.write(Atomicity::Rows, |database| {
        let scratch = &mut Scratch::default();
        json::decode(Body::new(&mut buffer), &context, scratch, database, &mut report);
    });
    buffer.truncate(body.len());
    assert_eq!(buffer, body, "the journal keeps the body as received");
    let chunks = shard.chunks();
    let rows = chunks
        .iter()
        .flat_map(|it| crate::support::rows_of(&it.measurement.name, &it.batch))
        .collect();
    let decoded = Decoded { rows, report, chunk_count: chunks.len() };
    assert_eq!(decoded.rows.len() as u64, decoded.report.accepted);
    decoded
}

fn decode(body: impl AsRef<[u8]>) -> Decoded {
    decode_with(body.as_ref(), &Limits::DEFAULT, Precision::Auto)
}

// The naive twin.

/// Measurement by measurement, in row order.
fn by_measurement(rows: Vec<Row>) -> Vec<String> {
    let mut rows = rows;
    rows.sort_by_key(|row| row.measurement.clone());
    rows.iter().map(|row| format!("{row:?}")).collect()
}

fn agrees_with_naive(body: &[u8]) -> Result<(), TestCaseError> {
    let (twin, broken) = naive::decode(body, RECEIVED);
    let limits = Limits { reported_errors_max: usize::MAX, ..Limits::DEFAULT };
    let decoded = decode_with(body, &limits, Precision::Auto);
    let rejections = &decoded.report.rejections;
    let shown = || format!("{:?}\n{}", decoded.report, body.escape_ascii());
    prop_assert_eq!(by_measurement(decoded.rows.clone()), by_measurement(twin.rows), "{}", shown());
    prop_assert_eq!(decoded.report.rejected, twin.rejected as u64, "{}", shown());
    prop_assert_eq!(decoded.report.dropped_fields, twin.dropped_fields as u64, "{}", shown());
    let is_broken = |it: &&peristyle::decode::Rejection| {
        matches!(it.reason, Reason::Json(ItemError::Malformed { .. }))
    };
    prop_assert_eq!(rejections.iter().filter(is_broken).count(), broken, "{}", shown());
    let places = rejections.iter().map(|it| (it.line, it.start));
    prop_assert!(places.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{}", shown());
    for rejection in rejections {
        prop_assert!(rejection.start <= rejection.end && rejection.end <= body.len());
        let reason = rejection.reason.to_string();
        if let Some((_, at)) = reason.rsplit_once(" at byte ") {
            let at: usize = at.parse().unwrap();
            prop_assert!((rejection.start..=rejection.end).contains(&at), "{}", shown());
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn any_body_gives_the_rows_of_the_naive_decoder(seed: u64) {
        agrees_with_naive(&bodies::body(&mut Random::new(seed)))?;
    }

    #[test]
    fn a_damaged_body_gives_the_rows_of_the_naive_decoder(seed: u64) {
        let mut random = Random::new(seed);
        let mut body = bodies::body(&mut random);
        bodies::damage(&mut body, &mut random);
        agrees_with_naive(&body)?;
    }

    #[test]
    fn noise_gives_the_rows_of_the_naive_decoder(body: Vec<u8>) {
        agrees_with_naive(&body)?;
    }

    #[test]
    fn noise_of_brackets_gives_the_rows_of_the_naive_decoder(
        body in "[\\[\\]{}:,\"\\\\nul1e.m \n-]{0,60}"
    ) {
        agrees_with_naive(body.as_bytes())?;
    }
}
