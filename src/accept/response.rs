//! Reports and errors to answers: the only place with status codes.
//!
//! | case                | InfluxDB 1         | InfluxDB 2          | InfluxDB 3 | Arc               |
//! |---------------------|--------------------|---------------------|------------|-------------------|
//! | all rows taken      | 204                | 204                 | 204        | 204               |
//! | some rows refused   | 400 partial write  | 400                 | 400 `data` | 200 `data`        |
//! | only kind conflicts | 400 partial write  | 422                 | 400 `data` | 200 `data`        |
//! | a limit was reached | 400                | 400                 | 422 `data` | 200 `data`        |
//! | nothing readable    | 400                | 400                 | 400 `data` | 400               |
//! | empty body          | 204                | 204                 | 400        | 204; or 400: MessagePack, JSON |
//! | out of room         | 503, `Retry-After` | same                | same       | same              |
//!
//! Success has an empty body, because clients compare with 204; Arc's own, and Telegraf's outputs
//! for it, take 200 as well, so that refused rows can be told there. Every other body is JSON with
//! the key `error`, because Telegraf retries for ever what it cannot read. Never 429, which
//! Telegraf's `outputs.influxdb` takes for a refusal; a refusal of rows is never 5xx.
//!
//! Source of the texts: InfluxDB 1.8 `services/httpd`, 2.9 `http`, 3 `iox_http`; golden tests in
//! `tests/it/http.rs`.

use std::fmt::Write;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

use super::route::Dialect;
use super::{denied, questdb};
use crate::durability::Durability;
use crate::engine::{AppendError, Format, Reason, Rejection, Report};
use crate::error::{BusyReason, ClientError, WriteError, cut};
use crate::stats::Stats;

/// An answer, complete but for the headers that all answers have.
pub(super) type Answer = Response<Full<Bytes>>;

/// Bytes of a line that an error text quotes.
const QUOTED_BYTES_MAX: usize = 64;
/// Bytes of a line that InfluxDB 3's `original_line` quotes.
const ORIGINAL_LINE_BYTES_MAX: usize = 20;
/// Characters of an error in `X-Influxdb-Error`, as in InfluxDB 1.
const ERROR_HEADER_CHARS_MAX: usize = 1024;
/// Characters of a reason in `X-Peristyle-Reject-Reason`.
const REASON_HEADER_CHARS_MAX: usize = 200;

/// The InfluxDB that clients are told they speak to: some of them, as ntopng, ask for 1.5 or later.
const INFLUXDB_VERSION: HeaderValue = HeaderValue::from_static("1.8.10");

const ERROR_CODE: HeaderName = HeaderName::from_static("x-platform-error-code");
const ERROR_TEXT: HeaderName = HeaderName::from_static("x-influxdb-error");
const BUILD: HeaderName = HeaderName::from_static("x-influxdb-build");
const VERSION: HeaderName = HeaderName::from_static("x-influxdb-version");
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const DURABILITY: HeaderName = HeaderName::from_static("x-peristyle-durability");
const REJECTED: HeaderName = HeaderName::from_static("x-peristyle-rejected");
const REJECT_REASON: HeaderName = HeaderName::from_static("x-peristyle-reject-reason");

/// 200, nothing else.
pub(super) fn ok() -> Answer {
    Answer::default()
}

/// 204, nothing else.
pub(super) fn no_content() -> Answer {
    let mut answer = Answer::default();
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer
}

/// The answer to a write, with what its rows have survived.
pub(super) fn with_durability(mut answer: Answer, durability: Durability) -> Answer {
    answer.headers_mut().insert(DURABILITY, HeaderValue::from_static(durability.name()));
    answer
}

/// 200 with JSON.
pub(super) fn json(text: String) -> Answer {
    with_body(StatusCode::OK, "application/json", text)
}

/// 503 with JSON that has no key `error`: not ready yet.
pub(super) fn not_ready(text: String) -> Answer {
    let mut answer = with_body(StatusCode::SERVICE_UNAVAILABLE, "application/json", text);
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}

/// 200 with text in Prometheus' format.
pub(super) fn prometheus(text: String) -> Answer {
    with_body(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
}

/// 204 with what a browser wants to know before it sends a request to another origin.
pub(super) fn options() -> Answer {
    let mut answer = no_content();
    let headers = answer.headers_mut();
    // The star does not stand for `Authorization`.
    let any = HeaderValue::from_static("*, Authorization");
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, any);
    let methods = HeaderValue::from_static("DELETE, GET, HEAD, POST, OPTIONS");
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("3600"));
    answer
}

/// 404 for a path that is no endpoint.
pub(super) fn not_found() -> Answer {
    error(StatusCode::NOT_FOUND, None, "not found: no such endpoint", &[])
}

/// 405 with the methods the path takes.
pub(super) fn method_not_allowed(allow: &'static str) -> Answer {
    let text = format!("method not allowed: expected {allow}");
    let mut answer = error(StatusCode::METHOD_NOT_ALLOWED, None, &text, &[]);
    answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    answer
}

/// The answer to a request that failed as a whole. `dialect`: that of a write, if it was one; `id`:
/// the request's.
pub(super) fn failed(dialect: Option<Dialect>, cause: &WriteError, id: &str) -> Answer {
    if let WriteError::Client(cause) = cause
        && let Some(answer) = denied::answer(dialect, cause, id)
    {
        return answer;
    }
    let status = match cause {
        WriteError::Client(cause) => client_status(dialect, cause),
        WriteError::Busy(_) => StatusCode::SERVICE_UNAVAILABLE,
        WriteError::Server(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let text = match cause {
        WriteError::Client(ClientError::EmptyBody)
            if matches!(
                dialect,
                Some(Dialect::Arrow | Dialect::Json | Dialect::ArcMessagePack)
            ) =>
        {
            "Empty payload".to_owned()
        }
        _ => cause.to_string(),
    };
    let more = match (dialect, cause) {
        (Some(Dialect::V2), WriteError::Client(ClientError::BodyTooLarge { max })) => {
            max.to_string()
        }
        _ => String::new(),
    };
    let mut answer = match dialect {
        Some(Dialect::QuestDb) => questdb::failed(status, &text, id),
        _ => error(status, dialect, &text, &[("maxLength", &more)]),
    };
    if let WriteError::Busy(reason) = cause {
        let seconds = HeaderValue::from(retry_after_seconds(*reason));
        answer.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    answer
}

fn client_status(dialect: Option<Dialect>, cause: &ClientError) -> StatusCode {
    match cause {
        ClientError::BodyTooLarge { .. }
        | ClientError::InflatedTooLarge { .. }
        | ClientError::RatioTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ClientError::UnsupportedEncoding { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ClientError::DatabaseExists { .. } => StatusCode::CONFLICT,
        ClientError::Forbidden { .. } => StatusCode::FORBIDDEN,
        ClientError::Unauthenticated(_) => StatusCode::UNAUTHORIZED,
        ClientError::UnknownDatabase { .. } => StatusCode::NOT_FOUND,
        ClientError::TooManyDatabases { .. } if dialect == Some(Dialect::V3) => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        ClientError::BodyIncomplete
        | ClientError::BrokenEncoding { .. }
        | ClientError::EmptyBody
        | ClientError::InvalidDatabase
        | ClientError::InvalidJson { .. }
        | ClientError::InvalidParameter { .. }
        | ClientError::MissingParameter { .. }
        | ClientError::TooManyDatabases { .. } => StatusCode::BAD_REQUEST,
    }
}

fn retry_after_seconds(reason: BusyReason) -> u16 {
    match reason {
        BusyReason::BodyTimeout | BusyReason::MemoryFull => 1,
        BusyReason::JournalFailed | BusyReason::ShuttingDown => 5,
        BusyReason::DiskFull => 10,
    }
}

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

/// An error body: `error`, the `code` and `message` of InfluxDB 2, then `more`, which is JSON.
pub(super) fn error(
    status: StatusCode,
    dialect: Option<Dialect>,
    text: &str,
    more: &[(&str, &str)],
) -> Answer {
    let mut body = String::from("{\"error\":");
    quote(&mut body, text);
    if dialect == Some(Dialect::V2) {
        let _ = write!(body, ",\"code\":\"{}\",\"message\":", influx_2_code(status));
        quote(&mut body, text);
    }
    for (key, value) in more.iter().filter(|(_, value)| !value.is_empty()) {
        let _ = write!(body, ",\"{key}\":{value}");
    }
    body.push('}');
    let mut answer = error_body(status, text, body);
    if dialect == Some(Dialect::V2) {
        let code = HeaderValue::from_static(influx_2_code(status));
        answer.headers_mut().insert(ERROR_CODE, code);
    }
    answer
}

/// An error whose JSON is made.
pub(super) fn error_body(status: StatusCode, text: &str, body: String) -> Answer {
    let mut answer = with_body(status, "application/json", body);
    answer.headers_mut().insert(ERROR_TEXT, ascii(text, ERROR_HEADER_CHARS_MAX));
    answer
}

fn influx_2_code(status: StatusCode) -> &'static str {
    match status {
        StatusCode::FORBIDDEN => "forbidden",
        StatusCode::NOT_FOUND => "not found",
        StatusCode::PAYLOAD_TOO_LARGE => "request too large",
        StatusCode::SERVICE_UNAVAILABLE => "unavailable",
        StatusCode::UNAUTHORIZED => "unauthorized",
        StatusCode::UNPROCESSABLE_ENTITY => "unprocessable entity",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "unsupported media type",
        status if status.is_server_error() => "internal error",
        _ => "invalid",
    }
}

fn with_body(status: StatusCode, content_type: &'static str, text: String) -> Answer {
    let mut answer = Answer::new(Full::new(Bytes::from(text)));
    *answer.status_mut() = status;
    // Exactly this, without a charset: QuestDB's clients compare.
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// Adds the headers that every answer has. The request's own id is echoed.
pub(super) fn finish(answer: &mut Answer, request: &HeaderMap, id: &str) {
    let given = request.get(X_REQUEST_ID).or_else(|| request.get(REQUEST_ID)).cloned();
    let id = given.unwrap_or_else(|| ascii(id, 64));
    let headers = answer.headers_mut();
    headers.insert(X_REQUEST_ID, id.clone());
    headers.insert(REQUEST_ID, id);
    headers.insert(VERSION, INFLUXDB_VERSION);
    headers.insert(BUILD, HeaderValue::from_static(env!("CARGO_PKG_NAME")));
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("*"));
}

/// Counts an answer by the class of its status.
pub(super) fn count(stats: &Stats, answer: &Answer) {
    let counter = match answer.status() {
        StatusCode::SERVICE_UNAVAILABLE => &stats.answers_busy,
        other if other.is_server_error() => &stats.answers_server_error,
        other if other.is_client_error() => &stats.answers_client_error,
        _ => &stats.answers_success,
    };
    counter.add(1);
}

/// At most `chars_max` characters of `text` as a header value, what is not printable ASCII escaped.
fn ascii(text: &str, chars_max: usize) -> HeaderValue {
    let escaped = text.escape_default().to_string().replace("\\'", "'").replace("\\\"", "\"");
    let escaped = escaped.get(..chars_max).unwrap_or(&escaped);
    HeaderValue::from_str(escaped).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Appends `text` as a JSON string. Source: RFC 8259, section 7.
pub(super) fn quote(to: &mut String, text: &str) {
    to.push('"');
    for char in text.chars() {
        match char {
            '"' => to.push_str("\\\""),
            '\\' => to.push_str("\\\\"),
            '\n' => to.push_str("\\n"),
            '\r' => to.push_str("\\r"),
            '\t' => to.push_str("\\t"),
            control if u32::from(control) < 0x20 => {
                let _ = write!(to, "\\u{:04x}", u32::from(control));
            }
            char => to.push(char),
        }
    }
    to.push('"');
}
