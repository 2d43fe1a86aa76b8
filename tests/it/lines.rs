//! Rows of a line-protocol body in a form that vectors, the naive decoder and columns all take.

use std::collections::BTreeMap;

use peristyle::decode::Precision;
use peristyle::timestamp::Timestamp;

use crate::naive::line_protocol::{self, Row, Value};

/// When bodies are received in these tests: 2020-09-13, with digits down to the nanosecond.
pub fn received() -> Timestamp {
    Timestamp::from_ns(1_600_000_000_123_456_789)
}

/// One row without its measurement.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    pub tags: BTreeMap<String, String>,
    pub fields: BTreeMap<String, Value>,
    pub time_ns: i128,
}

/// What became of a body: rows by measurement in body order, rejections by line.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    pub rows: BTreeMap<String, Vec<Line>>,
    pub rejections: Vec<(u64, String)>,
}

impl Outcome {
    /// Adds `row` as the columns hold it: without dropped fields, and with a time.
    pub fn push(&mut self, row: Row, precision: Precision) {
        let fields = row.fields.into_iter();
        let line = Line {
            tags: row.tags.into_iter().collect(),
            fields: fields
                .filter(|(key, value)| key != "time" && *value != Value::Dropped)
                .collect(),
            time_ns: match row.time {
                Some(ns) => ns.into(),
                None => precision.truncate(received()).as_ns(),
            },
        };
        self.rows.entry(row.measurement).or_default().push(line);
    }
}

/// What the naive decoder makes of `body`.
pub fn naive(body: &[u8], precision: Precision) -> Outcome {
    let (rows, rejections) = line_protocol::decode(body, precision);
    let mut outcome = Outcome::default();
    for row in rows {
        outcome.push(row, precision);
    }
    outcome.rejections =
        rejections.into_iter().map(|(line, reason)| (line, reason.to_owned())).collect();
    outcome
}
