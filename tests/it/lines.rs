//! What became of a line-protocol body, in one form for vectors, naive decoder and columns.

use peristyle::decode::cursor::Body;
use peristyle::decode::{Context, Precision, Report, line_protocol};
use peristyle::gather::Atomicity;
use peristyle::limits::Limits;
use peristyle::timestamp::Timestamp;

use crate::naive;
use crate::support::{Row, Shard, Value};

/// When bodies are received in these tests: 2020-09-13, with digits down to the nanosecond.
pub(crate) fn received() -> Timestamp {
    Timestamp::from_ns(1_600_000_000_123_456_789)
}

/// What became of a body.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// By measurement, and in body order within each.
    pub(crate) rows: Vec<Row>,
    /// Physical line and reason, in body order.
    pub(crate) rejections: Vec<(u64, String)>,
}

impl Outcome {
    /// Sorts the rows: columns keep their order within a measurement only.
    pub(crate) fn sorted(mut self) -> Self {
        self.rows.sort_by(|a, b| a.measurement.cmp(&b.measurement));
        self
    }
}

/// The row as the columns hold it: without dropped fields, and with a time.
pub(crate) fn stored(row: naive::line_protocol::Row, precision: Precision) -> Row {
    use naive::line_protocol::Value as Naive;
    let fields = row.fields.into_iter().filter(|(key, _)| key != "time");
    let fields = fields.filter_map(|(key, value)| {
        let value = match value {
            Naive::Bool(value) => Value::Bool(value),
            Naive::I64(value) => Value::Int(value),
            Naive::U64(value) => Value::Uint(value),
            Naive::F64(value) => Value::Float(value),
            Naive::String(value) => Value::Str(value),
            Naive::Dropped => return None,
        };
        Some((key, value))
    });
    Row {
        measurement: row.measurement,
        time_ns: match row.time {
            Some(ns) => ns.into(),
            None => precision.truncate(received()).as_ns(),
        },
        tags: row.tags.into_iter().collect(),
        fields: fields.collect(),
    }
}

/// What the naive decoder makes of `body`.
pub(crate) fn naive(body: &[u8], precision: Precision) -> Outcome {
    let (rows, rejections) = naive::line_protocol::decode(body, precision);
    let rejections = rejections.into_iter().map(|(line, reason)| (line, reason.to_owned()));
    let rows = rows.into_iter().map(|row| stored(row, precision)).collect();
    Outcome { rows, rejections: rejections.collect() }.sorted()
}

/// What the engine's decoder makes of `body`.
pub(crate) fn fast(body: &[u8], precision: Precision) -> Outcome {
    let mut shard = Shard::new();
    let report = write(&mut shard, body, precision);
    outcome(&mut shard, &report)
}

/// Decodes `body` into `shard` as one write.
pub(crate) fn write(shard: &mut Shard, body: &[u8], precision: Precision) -> Report {
    let limits = *shard.registry.limits();
    write_within(shard, body, precision, &limits)
}

/// As [`write`], with other limits for the decoder.
pub(crate) fn write_within(
    shard: &mut Shard,
    body: &[u8],
    precision: Precision,
    limits: &Limits,
) -> Report {
    let limits = Limits { reported_errors_max: usize::MAX, ..*limits };
    let context = Context { precision, received: received(), limits: &limits };
    let mut report = Report::default();
    let mut buffer = body.to_vec();
    shard.write(Atomicity::Rows, |database| {
        line_protocol::decode(Body::new(&mut buffer), &context, database, &mut report);
    });
    report
}

/// Decodes `body` into `shard` as one write of a client of QuestDB's.
pub(crate) fn write_questdb(shard: &mut Shard, body: &[u8], precision: Precision) -> Report {
    let limits = Limits { reported_errors_max: usize::MAX, ..*shard.registry.limits() };
    let context = Context { precision, received: received(), limits: &limits };
    let mut report = Report::default();
    let mut buffer = body.to_vec();
    shard.write(Atomicity::Rows, |database| {
        let body = Body::new(&mut buffer);
        line_protocol::decode_questdb(body, &context, database, &mut report);
    });
    report
}

/// Everything `shard` holds, with the rejections of `report`.
pub(crate) fn outcome(shard: &mut Shard, report: &Report) -> Outcome {
    let rows = shard.rows();
    assert_eq!(rows.len() as u64, report.accepted);
    assert_eq!(report.rejections.len() as u64, report.rejected);
    let rejections = report.rejections.iter();
    let rejections = rejections.map(|it| (it.line, it.reason.to_string())).collect();
    Outcome { rows, rejections }.sorted()
}
