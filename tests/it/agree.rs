//! What a fast decoder and its naive twin make of a body has to be the same; here they meet, for
//! the property tests and for `tests/fuzz`.

use std::collections::HashMap;

use peristyle::decode::cursor::Body;
use peristyle::decode::json::{self, Scratch};
use peristyle::decode::{Context, Precision, Reason, Rejection, Report, msgpack};
use peristyle::gather::Atomicity;
use peristyle::limits::Limits;
use peristyle::timestamp::Timestamp;

use crate::lines::{Outcome, outcome, stored, write, write_questdb};
use crate::naive;
use crate::support::{Row, Shard, Value};

// Line protocol.

/// What the columns would be: the kind of every field, `None` for a tag.
#[derive(Clone, Debug, Default)]
pub(crate) struct Columns(HashMap<(String, String), Option<Value>>);

impl Columns {
    /// What the naive decoder and these columns make of `body`. Refusals by the columns have no
    /// reason here.
    fn write(&mut self, body: &[u8], precision: Precision) -> Outcome {
        let (rows, rejections) = naive::line_protocol::decode(body, precision);
        let rows = rows.into_iter().map(|row| (row.line, stored(row, precision)));
        self.take_all(rows, rejections)
    }

    /// What these columns make of `rows`, each with its line, beside what was refused before.
    fn take_all(
        &mut self,
        rows: impl Iterator<Item = (u64, Row)>,
        rejections: Vec<(u64, &'static str)>,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        for (line, reason) in rejections {
            outcome.rejections.push((line, reason.to_owned()));
        }
        for (line, row) in rows {
            match self.take(row) {
                Some(row) => outcome.rows.push(row),
                None => outcome.rejections.push((line, String::new())),
            }
        }
        outcome.rejections.sort();
        outcome.sorted()
    }

    pub(crate) fn take(&mut self, mut row: Row) -> Option<Row> {
        let mut widened = self.clone();
        let mut tags = std::mem::take(&mut row.tags);
        tags.retain(|name, value| {
            let column = widened.0.entry((row.measurement.clone(), name.clone()));
            let is_tag = column.or_insert(None).is_none();
            if !is_tag {
                row.fields.insert(name.clone(), Value::Str(value.clone()));
            }
            is_tag
        });
        row.tags = tags;
        for (name, value) in &mut row.fields {
            let column = widened.0.entry((row.measurement.clone(), name.clone()));
            *value = coerce(value, column.or_insert_with(|| Some(value.clone())).as_ref()?)?;
        }
        *self = widened;
        Some(row)
    }
}

/// `value` in the kind of `column`, if that loses nothing (decision 5).
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "the result is converted back and compared"
)]
fn coerce(value: &Value, column: &Value) -> Option<Value> {
    let wide = match (value, column) {
        (Value::Int(value), _) => i128::from(*value),
        (Value::Uint(value), _) => i128::from(*value),
        (Value::Float(value), Value::Int(_) | Value::Uint(_)) if value.fract() == 0.0 => {
            *value as i128
        }
        _ if std::mem::discriminant(value) == std::mem::discriminant(column) => {
            return Some(value.clone());
        }
        _ => return None,
    };
    match column {
        Value::Int(_) => Some(Value::Int(wide.try_into().ok()?)),
        Value::Uint(_) => Some(Value::Uint(wide.try_into().ok()?)),
        Value::Float(_) => {
            let is_exact = i64::try_from(wide).is_ok() && wide as f64 as i128 == wide;
            is_exact.then_some(Value::Float(wide as f64))
        }
        _ => None,
    }
}

/// The bodies, in either dialect (true for QuestDB's), one after the other into one shard, give
/// what the naive decoders say: what one dialect made the tables learn does not mislead the other.
pub(crate) fn lines(bodies: &[(Vec<u8>, bool)], precision: Precision) {
    let (mut shard, mut columns) = (Shard::new(), Columns::default());
    for (body, is_questdb) in bodies {
        let shown = format!("{is_questdb} {}", String::from_utf8_lossy(body));
        let (report, expected) = if *is_questdb {
            let (rows, rejections) = naive::questdb::decode(body, precision);
            let expected = columns.take_all(rows.into_iter(), rejections);
            (write_questdb(&mut shard, body, precision), expected)
        } else {
            (write(&mut shard, body, precision), columns.write(body, precision))
        };
        let found = outcome(&mut shard, &report);
        compare(&found, &expected, &shown);
    }
}

/// Panics unless both are the same but for the reasons that the columns give.
fn compare(found: &Outcome, expected: &Outcome, shown: &str) {
    assert_eq!(found.rows, expected.rows, "{shown:?}");
    let lines = |outcome: &Outcome| outcome.rejections.iter().map(|it| it.0).collect::<Vec<_>>();
    assert_eq!(lines(found), lines(expected), "{shown:?}\n{found:?}\n{expected:?}");
    for ((_, found), (_, expected)) in found.rejections.iter().zip(&expected.rejections) {
        assert!(found.starts_with(expected.as_str()), "{found}, not {expected}: {shown:?}");
    }
}

// MessagePack and JSON.

/// 2023-11-14T22:13:20.123456789Z, the time of receipt.
const RECEIVED: Timestamp = Timestamp { us: 1_700_000_000_123_456, ns: 789 };
const LIMITS: Limits = Limits { reported_errors_max: usize::MAX, ..Limits::DEFAULT };
const CONTEXT: Context<'_> =
    Context { precision: Precision::Auto, received: RECEIVED, limits: &LIMITS };

/// By measurement, in row order.
fn by_measurement(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_by(|a, b| a.measurement.cmp(&b.measurement));
    rows
}

/// Places of rejections are in order and inside the body.
fn check_places(rejections: &[Rejection], body: &[u8]) {
    let places = rejections.iter().map(|it| (it.line, it.start));
    assert!(places.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{rejections:?}");
    for rejection in rejections {
        assert!(rejection.start <= rejection.end && rejection.end <= body.len(), "{rejection:?}");
    }
}

/// Decodes a body of MessagePack.
pub(crate) fn write_msgpack(shard: &mut Shard, body: &[u8]) -> Report {
    let mut report = Report::default();
    let mut buffer = body.to_vec();
    shard.write(Atomicity::Rows, |database| {
        msgpack::decode(Body::new(&mut buffer), &CONTEXT, database, &mut report);
    });
    report
}

/// The body gives what the naive decoder says.
pub(crate) fn msgpack(body: &[u8]) {
    let twin = naive::msgpack::decode(body, RECEIVED);
    let mut shard = Shard::new();
    let report = write_msgpack(&mut shard, body);
    let shown = || format!("{report:?}\n{body:02x?}");
    let rows = shard.rows();
    assert_eq!(rows.len() as u64, report.accepted, "{}", shown());
    assert_eq!(by_measurement(rows), by_measurement(twin.rows), "{}", shown());
    assert_eq!(report.rejected, twin.rejected as u64, "{}", shown());
    assert_eq!(report.dropped_fields, twin.dropped_fields as u64, "{}", shown());
    let is_malformed =
        |it: &Rejection| matches!(it.reason, Reason::MessagePack(msgpack::ItemError::Malformed(_)));
    let last = report.rejections.last();
    assert_eq!(last.is_some_and(is_malformed), twin.is_malformed, "{}", shown());
    check_places(&report.rejections, body);
}

/// Decodes a body of JSON.
pub(crate) fn write_json(shard: &mut Shard, body: &[u8]) -> Report {
    let mut report = Report::default();
    let mut buffer = body.to_vec();
    shard.write(Atomicity::Rows, |database| {
        let scratch = &mut Scratch::default();
        json::decode(Body::new(&mut buffer), &CONTEXT, scratch, database, &mut report);
    });
    buffer.truncate(body.len());
    assert_eq!(buffer, body, "the journal keeps the body as received");
    report
}

/// The body gives what the naive decoder says.
pub(crate) fn json(body: &[u8]) {
    let (twin, broken) = naive::json::decode(body, RECEIVED);
    let mut shard = Shard::new();
    let report = write_json(&mut shard, body);
    let shown = || format!("{report:?}\n{}", body.escape_ascii());
    let rows = shard.rows();
    assert_eq!(rows.len() as u64, report.accepted, "{}", shown());
    assert_eq!(by_measurement(rows), by_measurement(twin.rows), "{}", shown());
    assert_eq!(report.rejected, twin.rejected as u64, "{}", shown());
    assert_eq!(report.dropped_fields, twin.dropped_fields as u64, "{}", shown());
    let is_broken =
        |it: &&Rejection| matches!(it.reason, Reason::Json(json::ItemError::Malformed { .. }));
    assert_eq!(report.rejections.iter().filter(is_broken).count(), broken, "{}", shown());
    check_places(&report.rejections, body);
    for rejection in &report.rejections {
        let reason = rejection.reason.to_string();
        if let Some((_, at)) = reason.rsplit_once(" at byte ") {
            let at: usize = at.parse().expect("a number");
            assert!((rejection.start..=rejection.end).contains(&at), "{}", shown());
        }
    }
}
