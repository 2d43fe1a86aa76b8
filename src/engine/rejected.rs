//! Refused rows, kept: the measurement `_rejected` of their database (decision 9).
//!
//! | column        | role  | kind    | holds                                                     |
//! |---------------|-------|---------|-----------------------------------------------------------|
//! | `time`        | time  |         | when the body was received                                |
//! | `endpoint`    | tag   | string  | the path it was sent to                                   |
//! | `measurement` | tag   | string  | what the row was meant for, where that can be told        |
//! | `line`        | field | integer | line protocol: physical line; others: row of the body     |
//! | `reason`      | field | string  | why, as the answer says it                                |
//! | `row`         | field | string  | line protocol, JSON: the line or row; Arrow: the row as   |
//! |               |       |         | JSON; cut at 4 KiB                                        |
//! | `row_hex`     | field | string  | MessagePack: the bytes of the row, cut at 4 KiB, in hex;  |
//! |               |       |         | Arrow: those of a message that cannot be read             |

use std::fmt::Write as _;
use std::time::Instant;

use super::apply::WriteRequest;
use crate::decode::{Format, Reason, Rejection};
use crate::error::cut;
use crate::gather::{AppendError, Atomicity, Database, TableBuilder};
use crate::timestamp::Timestamp;

/// The measurement.
pub const REJECTED: &str = "_rejected";
/// Bytes of a refused row that are kept.
const ROW_BYTES_MAX: usize = 4 << 10;
/// Kept of the measurement of a refused row.
const MEASUREMENT_BYTES_MAX: usize = 255;

/// How many rows a shard may keep: so many in a second, and those of a second that was quiet.
#[derive(Debug)]
pub(super) struct Allowance {
    per_second: usize,
    left: usize,
    since: Instant,
}

impl Allowance {
    pub(super) fn new(per_second: usize, now: Instant) -> Self {
        Self { per_second, left: per_second, since: now }
    }

    /// What may be kept now.
    pub(super) fn left(&mut self, now: Instant) -> usize {
        let elapsed = now.saturating_duration_since(self.since);
        let millis = usize::try_from(elapsed.as_millis()).unwrap_or(usize::MAX);
        let earned = millis.saturating_mul(self.per_second) / 1_000;
        if earned > 0 {
            self.left = self.left.saturating_add(earned).min(self.per_second);
            self.since = now;
        }
        self.left
    }

    /// So many were kept.
    pub(super) fn take(&mut self, count: usize) {
        self.left = self.left.saturating_sub(count);
    }
}

/// Appends `refused` rows of `body`, or what `texts` say of them, to `_rejected` of `database`, and
/// returns how many it took: a table or column of that name that a client made otherwise takes
/// none.
pub(super) fn keep(
    database: &mut Database,
    request: &WriteRequest<'_>,
    received: Timestamp,
    refused: &[Rejection],
    texts: &[Box<str>],
    body: &[u8],
) -> usize {
    if refused.is_empty() {
        return 0;
    }
    database.begin_write(Atomicity::Rows);
    let taken = database.table(REJECTED).map_or(0, |table| {
        let rows = refused.iter().enumerate().filter(|(index, rejection)| {
            let row = match texts.get(*index) {
                Some(text) => text.as_bytes(),
                None => body.get(rejection.start..rejection.end).unwrap_or_default(),
            };
            let is_text = texts.len() > *index;
            let table = database.table_mut(table);
            let kept = keep_row(table, request, received, rejection, (row, is_text));
            if kept.is_err() {
                table.rollback_row();
            }
            kept.is_ok()
        });
        rows.count()
    });
    // Rows were committed one by one: nothing is left to be refused.
    let closed = database.end_write();
    if closed.is_ok() { taken } else { 0 }
}

fn keep_row(
    table: &mut TableBuilder,
    request: &WriteRequest<'_>,
    received: Timestamp,
    rejection: &Rejection,
    (row, is_text): (&[u8], bool),
) -> Result<(), AppendError> {
    // Before anything reads it: a row may be one name of a hundred megabytes.
    let row = row.get(..ROW_BYTES_MAX).unwrap_or(row);
    table.append_tag("endpoint", request.endpoint)?;
    let named = request.parameters.measurement;
    let named = named.map(|name| cut(name, MEASUREMENT_BYTES_MAX).to_owned());
    if let Some(measurement) = named.or_else(|| measurement_of(request.format, rejection, row)) {
        table.append_tag("measurement", &measurement)?;
    }
    let line = table.field("line")?;
    table.append_i64(line, i64::try_from(rejection.line).unwrap_or(i64::MAX))?;
    let reason = table.field("reason")?;
    table.append_str(reason, &rejection.reason.to_string())?;
    let (name, text) = match request.format {
        Format::Json | Format::LineProtocol | Format::QuestDb => {
            ("row", String::from_utf8_lossy(row).into_owned())
        }
        Format::Arrow if is_text => ("row", String::from_utf8_lossy(row).into_owned()),
        Format::Arrow | Format::MessagePack => ("row_hex", hex(row)),
    };
    let column = table.field(name)?;
    table.append_str(column, &text)?;
    table.commit_row(received).map(drop)
}

/// The measurement, from the reason or from the beginning of the line.
fn measurement_of(format: Format, rejection: &Rejection, row: &[u8]) -> Option<String> {
    if let Reason::Append(error) = &rejection.reason
        && let Some(measurement) = error.measurement()
    {
        return Some(measurement.to_owned());
    }
    if !matches!(format, Format::LineProtocol | Format::QuestDb) {
        return None;
    }
    let mut name = Vec::new();
    let mut bytes = row.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b',' | b' ' | b'\n' => break,
            b'\\' => name.extend(bytes.next()),
            byte => name.push(byte),
        }
    }
    let name = String::from_utf8(name).ok()?;
    (!name.is_empty()).then(|| cut(&name, MEASUREMENT_BYTES_MAX).to_owned())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Allowance, Instant};

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a beginning for made-up times")]
    fn an_allowance_is_used_up_and_comes_back() {
        let begin = Instant::now();
        let mut allowance = Allowance::new(100, begin);
        let at = |ms| begin + Duration::from_millis(ms);
        assert_eq!(allowance.left(at(0)), 100);
        allowance.take(99);
        assert_eq!(allowance.left(at(0)), 1);
        allowance.take(1);
        assert_eq!(allowance.left(at(9)), 0);
        assert_eq!(allowance.left(at(10)), 1);
        assert_eq!(allowance.left(at(1_000)), 100);
        assert_eq!(allowance.left(at(100_000)), 100);
        // A clock that stands still, or goes back, gives nothing.
        allowance.take(100);
        assert_eq!(allowance.left(at(5)), 0);
    }
}
