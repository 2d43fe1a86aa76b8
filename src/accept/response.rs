//! Errors to answers, and all that answers share: status codes are here, and for refused rows in
//! `refusals`.
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
use crate::error::{BusyReason, ClientError, WriteError};

/// An answer, complete but for the headers that all answers have.
pub(super) type Answer = Response<Full<Bytes>>;

/// Bytes of a request's own id in the log and in `/api/v1/rejects`.
const SHOWN_ID_BYTES_MAX: usize = 128;

/// Characters of an error in `X-Influxdb-Error`, as in InfluxDB 1.
const ERROR_HEADER_CHARS_MAX: usize = 1024;

/// The InfluxDB that clients are told they speak to: some of them, as ntopng, ask for 1.5 or later.
const INFLUXDB_VERSION: HeaderValue = HeaderValue::from_static("1.8.10");

const ERROR_CODE: HeaderName = HeaderName::from_static("x-platform-error-code");
const ERROR_TEXT: HeaderName = HeaderName::from_static("x-influxdb-error");
const BUILD: HeaderName = HeaderName::from_static("x-influxdb-build");
const VERSION: HeaderName = HeaderName::from_static("x-influxdb-version");
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const DURABILITY: HeaderName = HeaderName::from_static("x-peristyle-durability");

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

/// 200 with a page that is part of the binary.
pub(super) fn html(text: &'static str) -> Answer {
    let mut answer = Answer::new(Full::new(Bytes::from_static(text.as_bytes())));
    let content_type = HeaderValue::from_static("text/html; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, content_type);
    answer
}

/// 503 with JSON that has no key `error`: not ready yet.
pub(super) fn not_ready(text: String) -> Answer {
    let mut answer = with_body(StatusCode::SERVICE_UNAVAILABLE, "application/json", text);
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}

/// 200 with the numbers of the server.
pub(super) fn measured(content_type: &'static str, text: String) -> Answer {
    with_body(StatusCode::OK, content_type, text)
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
        | ClientError::RatioTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
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
        BusyReason::BodyTimeout => 1,
        BusyReason::MemoryFull { retry_after_s } => retry_after_s,
        BusyReason::JournalFailed | BusyReason::ShuttingDown => 5,
        BusyReason::DiskFull => 10,
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

/// The id that an answer carries, as the log shows it: what is not printable ASCII is escaped, and
/// a long one is cut.
pub(super) fn shown_id(request: &HeaderMap, id: &str) -> String {
    let given = request.get(X_REQUEST_ID).or_else(|| request.get(REQUEST_ID));
    given.map_or_else(
        || id.to_owned(),
        |given| {
            let bytes = given.as_bytes();
            let bytes = bytes.get(..SHOWN_ID_BYTES_MAX).unwrap_or(bytes);
            bytes.escape_ascii().to_string()
        },
    )
}

/// At most `chars_max` characters of `text` as a header value, what is not printable ASCII escaped.
pub(super) fn ascii(text: &str, chars_max: usize) -> HeaderValue {
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
