//! What a write is answered when rows were refused, in the words of each client.
//!
//! Source of the texts: as in `response`, which has the table of all answers.

use std::fmt::Write;

use hyper::StatusCode;
use hyper::header::{HeaderName, HeaderValue};

use super::questdb;
use super::response::{Answer, ascii, error, json, no_content, quote};
use super::route::Dialect;
use crate::engine::{AppendError, Format, Reason, Rejection, Report};
use crate::error::cut;

/// Bytes of a line that an error text quotes.
const QUOTED_BYTES_MAX: usize = 64;
/// Bytes of a line that InfluxDB 3's `original_line` quotes.
const ORIGINAL_LINE_BYTES_MAX: usize = 20;
/// Characters of a reason in `X-Peristyle-Reject-Reason`.
const REASON_HEADER_CHARS_MAX: usize = 200;

const REJECTED: HeaderName = HeaderName::from_static("x-peristyle-rejected");
const REJECT_REASON: HeaderName = HeaderName::from_static("x-peristyle-reject-reason");

/// The answer to a write that the engine took. `body` is the inflated body, for quotations; `id` is
/// the request's.
pub(super) fn written(
    dialect: Dialect,
    atomic: bool,
    report: &Report,
    body: &[u8],
    id: &str,
) -> Answer {
    if report.rejected == 0 {
        return no_content();
    }
    let is_text = !matches!(dialect.format(), Format::Arrow | Format::MessagePack);
    let refusals = Refusals { report, body, is_text, atomic };
    match dialect {
        Dialect::Arrow | Dialect::ArcLineProtocol | Dialect::ArcMessagePack | Dialect::Json => {
            arc(dialect, &refusals)
        }
        Dialect::QuestDb => questdb::refused(report, id),
        Dialect::V1 | Dialect::V2 => refusals.influx_1_and_2(dialect),
        Dialect::V3 => refusals.influx_3(),
    }
}

/// Arc's clients send a body again for ever on any status but 2xx. So what is readable is taken and
/// the rest told in a body of 200; only a body of which nothing could be read is an error.
fn arc(dialect: Dialect, refusals: &Refusals<'_>) -> Answer {
    let report = refusals.report;
    if refusals.atomic || (report.accepted == 0 && report.rejections.iter().all(is_malformed)) {
        if dialect == Dialect::ArcLineProtocol {
            return refusals.influx_1_and_2(dialect);
        }
        let reason = report.rejections.first().map(refusal).unwrap_or_default();
        let format = match dialect {
            Dialect::Arrow => "Arrow IPC",
            Dialect::Json => "JSON",
            _ => "MessagePack",
        };
        let text = format!("Invalid {format} payload: {reason}");
        return error(StatusCode::BAD_REQUEST, Some(dialect), &text, &[]);
    }
    let first = report.rejections.first().map(refusal).unwrap_or_default();
    let mut body = String::from("{\"error\":");
    quote(&mut body, &format!("partial write: {first} dropped={}", report.rejected));
    // Writing to a string cannot fail.
    let _ = write!(body, ",\"accepted\":{},\"rejected\":{}", report.accepted, report.rejected);
    let _ = write!(body, ",\"data\":{}}}", refusals.data(false));
    let mut answer = json(body);
    let headers = answer.headers_mut();
    headers.insert(REJECTED, HeaderValue::from(report.rejected));
    headers.insert(REJECT_REASON, ascii(&first, REASON_HEADER_CHARS_MAX));
    answer
}

/// Says whether the bytes could not be read, as opposed to a row that could but did not fit.
fn is_malformed(rejection: &Rejection) -> bool {
    match &rejection.reason {
        Reason::Append(_) => false,
        Reason::Arrow(error) => error.is_malformed(),
        Reason::LineProtocol(error) => error.is_malformed(),
        Reason::Json(error) => error.is_malformed(),
        Reason::MessagePack(error) => error.is_malformed(),
    }
}

fn is_kind_conflict(rejection: &Rejection) -> bool {
    matches!(rejection.reason, Reason::Append(AppendError::KindConflict { .. }))
}

fn is_limit(rejection: &Rejection) -> bool {
    use AppendError::{TooManyColumns, TooManyTables};
    matches!(rejection.reason, Reason::Append(TooManyColumns { .. } | TooManyTables { .. }))
}

/// A refusal with its place: `row 3: field type conflict: ...`.
fn refusal(rejection: &Rejection) -> String {
    let what = match &rejection.reason {
        Reason::Arrow(error) if error.is_malformed() => "message",
        Reason::LineProtocol(_) => "line",
        Reason::Append(_) | Reason::Arrow(_) | Reason::Json(_) | Reason::MessagePack(_) => "row",
    };
    format!("{what} {}: {}", rejection.line, rejection.reason)
}

/// What was refused of a body.
struct Refusals<'a> {
    report: &'a Report,
    body: &'a [u8],
    /// Whether a row can be quoted.
    is_text: bool,
    atomic: bool,
}

impl Refusals<'_> {
    /// `partial write: unable to parse '...': why` and so on, one line each, then `dropped=n`.
    ///
    /// Telegraf looks for `partial write` or `unable to parse`, other clients also for `field type
    /// conflict`.
    fn influx_1_and_2(&self, dialect: Dialect) -> Answer {
        let report = self.report;
        let all_conflicts = report.rejections.iter().all(is_kind_conflict) && !self.atomic;
        let is_partial =
            !self.atomic && (report.accepted > 0 || report.rejections.iter().any(is_kind_conflict));
        let mut text = String::new();
        if all_conflicts && dialect == Dialect::V2 {
            text.push_str("failure writing points to database: ");
        }
        if is_partial {
            text.push_str("partial write: ");
        }
        for (index, rejection) in report.rejections.iter().enumerate() {
            if index > 0 {
                text.push('\n');
            }
            self.describe(&mut text, rejection);
        }
        let described = report.rejections.len() as u64;
        // Writing to a string cannot fail, here and below.
        if report.rejected > described {
            let _ = write!(text, "\nand {} more", report.rejected - described);
        }
        if is_partial {
            let _ = write!(text, " dropped={}", report.rejected);
        }
        let status = if all_conflicts && dialect == Dialect::V2 {
            StatusCode::UNPROCESSABLE_ENTITY
        } else {
            StatusCode::BAD_REQUEST
        };
        let line = report.rejections.first().map(|it| it.line.to_string()).unwrap_or_default();
        error(status, Some(dialect), &text, &[("line", &line), ("data", &self.data(false))])
    }

    fn describe(&self, text: &mut String, rejection: &Rejection) {
        if is_kind_conflict(rejection) && !self.atomic {
            let _ = write!(text, "{}", rejection.reason);
        } else {
            let line = self.quote(rejection, QUOTED_BYTES_MAX);
            let _ = write!(text, "unable to parse '{line}': {}", rejection.reason);
        }
    }

    /// InfluxDB 3: every refused line by number, or the first one when all or none was asked for.
    fn influx_3(&self) -> Answer {
        let is_limit = self.report.rejections.iter().any(is_limit);
        let status =
            if is_limit { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::BAD_REQUEST };
        if self.atomic {
            let mut data = String::new();
            match self.report.rejections.first() {
                Some(first) => self.push_datum(&mut data, first, true),
                None => data.push_str("null"),
            }
            let text = "line protocol parsing error";
            return error(status, Some(Dialect::V3), text, &[("data", &data)]);
        }
        let text = "partial write of line protocol occurred";
        error(status, Some(Dialect::V3), text, &[("data", &self.data(true))])
    }

    fn data(&self, is_influx_3: bool) -> String {
        let mut data = String::from("[");
        for (index, rejection) in self.report.rejections.iter().enumerate() {
            if index > 0 {
                data.push(',');
            }
            self.push_datum(&mut data, rejection, is_influx_3);
        }
        data.push(']');
        data
    }

    fn push_datum(&self, to: &mut String, rejection: &Rejection, is_influx_3: bool) {
        to.push_str("{\"error_message\":");
        if is_influx_3 {
            quote(to, &influx_3_message(&rejection.reason));
        } else {
            quote(to, &rejection.reason.to_string());
        }
        let _ = write!(to, ",\"line_number\":{}", rejection.line);
        if self.is_text {
            to.push_str(",\"original_line\":");
            quote(to, &self.quote(rejection, ORIGINAL_LINE_BYTES_MAX));
        }
        to.push('}');
    }

    /// The first `bytes_max` bytes of the refused row, made UTF-8.
    fn quote(&self, rejection: &Rejection, bytes_max: usize) -> String {
        let row = self.body.get(rejection.start..rejection.end).unwrap_or_default();
        let row = row.get(..bytes_max * 2).unwrap_or(row);
        let text = String::from_utf8_lossy(row);
        cut(text.trim_end_matches(['\r', '\n']), bytes_max).to_owned()
    }
}

/// A kind conflict in InfluxDB 3's words, with the measurement, which it does not name.
fn influx_3_message(reason: &Reason) -> String {
    match reason {
        Reason::Append(AppendError::KindConflict { measurement, column, expected, found }) => {
            format!(
                "invalid column type for column '{}', expected \
                 iox::column_type::field::{expected}, got iox::column_type::field::{found} \
                 (measurement '{}')",
                column.escape_debug(),
                measurement.escape_debug()
            )
        }
        _ => reason.to_string(),
    }
}
