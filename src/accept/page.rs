//! The page at `/`: one file, embedded, that reads `/metrics`, `/api/v1/tables` and
//! `/api/v1/rejects` in the browser and needs nothing from anywhere else.

use hyper::header::{self, HeaderValue};

use super::response::{self, Answer};

/// The page.
pub const PAGE: &str = include_str!("page.html");

/// What it may do: run its own script, known by its digest, and ask this server. A test tells the
/// digest of another script.
pub const POLICY: &str = "default-src 'none'; \
    script-src 'sha256-QCxzgQ9RUXQeQ4SvfJLoOrHnRUK0rbKsNHML2Neq38U='; \
    style-src 'unsafe-inline'; img-src data:; connect-src 'self'; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'none'";

/// 200 with the page.
pub(super) fn answer() -> Answer {
    let mut answer = response::html(PAGE);
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    answer
}
