//! What QuestDB's clients are told: `{"code":..,"message":..,"line":n,"errorId":..}`.
//!
//! Source: `LineHttpProcessorState.java` of QuestDB, and `parse_http_error` of c-questdb-client,
//! which reads `code`, `message`, `errorId` and `line`, and compares the content type.

use std::fmt::Write;

use hyper::StatusCode;

use super::response::{self, Answer, quote};
use crate::engine::{Rejection, Report};

/// Refused lines that an answer describes; QuestDB's own describes some, too.
const LINES_MAX: usize = 10;

/// The error of a request that failed as a whole.
pub(super) fn failed(status: StatusCode, text: &str, id: &str) -> Answer {
    error(status, text, None, id)
}

/// The error of a request with refused lines: none of its rows is stored.
pub(super) fn refused(report: &Report, id: &str) -> Answer {
    let mut text = String::from("failed to parse line protocol:errors encountered on line(s):");
    for Rejection { line, reason, .. } in report.rejections.iter().take(LINES_MAX) {
        // Writing to a string cannot fail.
        let _ = write!(text, "\nerror in line {line}: {reason}");
    }
    let told = report.rejections.len().min(LINES_MAX) as u64;
    if report.rejected > told {
        let _ = write!(text, "\nand {} more", report.rejected - told);
    }
    let line = report.rejections.first().map(|it| it.line);
    error(StatusCode::BAD_REQUEST, &text, line, id)
}

fn error(status: StatusCode, text: &str, line: Option<u64>, id: &str) -> Answer {
    let mut body = format!("{{\"code\":\"{}\",\"message\":", code(status));
    quote(&mut body, text);
    if let Some(line) = line {
        let _ = write!(body, ",\"line\":{line}");
    }
    body.push_str(",\"errorId\":");
    quote(&mut body, id);
    // As every error of this server.
    body.push_str(",\"error\":");
    quote(&mut body, text);
    body.push('}');
    response::error_body(status, text, body)
}

/// QuestDB's word for a status.
fn code(status: StatusCode) -> &'static str {
    match status {
        StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => "unauthorised",
        StatusCode::PAYLOAD_TOO_LARGE => "request too large",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "not supported",
        status if status.is_server_error() => "internal error",
        _ => "invalid",
    }
}
