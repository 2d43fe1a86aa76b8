//! What is told to who may not: 401 for nobody known, 403 for somebody who lacks a permission.
//!
//! | like               | 401, no secret                               | 401, no good secret      |
//! |--------------------|----------------------------------------------|--------------------------|
//! | InfluxDB 1         | `unable to parse authentication credentials` | `authorization failed`   |
//! | InfluxDB 2, others | `the request was not authenticated`          | the same                 |
//! | Arc                | `Authentication required`                    | `Invalid or expired token` |
//!
//! InfluxDB 2's outputs keep a body that is answered so, InfluxDB 1's drop it.

use hyper::StatusCode;
use hyper::header::{self, HeaderValue};

use super::questdb;
use super::response::{Answer, error};
use super::route::Dialect;
use crate::access::Denied;
use crate::error::ClientError;

/// The scheme that every client of InfluxDB 1 knows; the others do not look.
const CHALLENGE: HeaderValue = HeaderValue::from_static("Basic realm=\"InfluxDB\"");

/// The answer, when `cause` is that the sender may not do what it asked for.
pub(super) fn answer(dialect: Option<Dialect>, cause: &ClientError, id: &str) -> Option<Answer> {
    let (status, text) = match cause {
        ClientError::Forbidden { .. } => (StatusCode::FORBIDDEN, cause.to_string()),
        ClientError::Unauthenticated(denied) => {
            (StatusCode::UNAUTHORIZED, unauthenticated(dialect, *denied, cause))
        }
        _ => return None,
    };
    let is_arc = dialect.is_some_and(Dialect::is_arc);
    let mut answer = match dialect {
        Some(Dialect::QuestDb) => questdb::failed(status, &text, id),
        _ if is_arc => error(status, dialect, &text, &[("success", "false")]),
        _ => error(status, dialect, &text, &[]),
    };
    if status == StatusCode::UNAUTHORIZED {
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, CHALLENGE);
    }
    Some(answer)
}

fn unauthenticated(dialect: Option<Dialect>, denied: Denied, cause: &ClientError) -> String {
    let text = match (dialect, denied) {
        (Some(Dialect::V1), Denied::Missing) => "unable to parse authentication credentials",
        (Some(Dialect::V1), Denied::Invalid) => "authorization failed",
        (Some(dialect), Denied::Missing) if dialect.is_arc() => "Authentication required",
        (Some(dialect), Denied::Invalid) if dialect.is_arc() => "Invalid or expired token",
        _ => return cause.to_string(),
    };
    text.to_owned()
}
