//! What became of requests: counted by endpoint and outcome, by reason, and the last refusals.
//!
//! A good request costs one addition here. Refused ones take a lock, are described while there is
//! room, and make a line of the log, so many in a second; none of it holds a body, a token or a
//! row.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::StatusCode;

use super::response::quote;
use super::route::ROUTES;
use crate::engine::{AppendError, Reason, Report};
use crate::error::{BusyReason, ClientError, WriteError};
use crate::stats::Counter;

/// Requests with refusals that are kept for `/api/v1/rejects`.
const RECENT_MAX: usize = 200;
/// Rows of one request that are described there.
const ROWS_MAX: usize = 5;
/// Bytes of a reason there.
const REASON_BYTES_MAX: usize = 300;
/// Lines that a shard logs about requests in a second; the others are counted.
const LINES_PER_SECOND_MAX: u32 = 10;

/// What requests end as, in the order of [`Observed::requests`].
pub(super) const OUTCOMES: [&str; 4] = ["success", "client_error", "busy", "server_error"];

/// Paths that are no endpoint.
pub(super) const OTHER: &str = "other";

/// Why rows are refused.
pub const ROW_REASONS: &[&str] = &[
    "closed_schema",
    "duplicate_column",
    "empty_name",
    "kind_conflict",
    "name_too_long",
    "no_fields",
    "not_described",
    "reserved_name",
    "role_conflict",
    "string_too_long",
    "syntax",
    "too_many_columns",
    "too_many_days",
    "too_many_measurements",
    "unsigned_too_large",
    "value",
];

/// Why requests are refused as a whole.
pub const REQUEST_REASONS: &[&str] = &[
    "body_incomplete",
    "body_timeout",
    "body_too_large",
    "broken_encoding",
    "database_exists",
    "disk_full",
    "empty_body",
    "flush_failed",
    "forbidden",
    "inflated_too_large",
    "invalid_database",
    "invalid_json",
    "invalid_parameter",
    "io_failed",
    "journal_failed",
    "memory_full",
    "missing_parameter",
    "ratio_too_large",
    "recovery_failed",
    "shard_gone",
    "shutting_down",
    "too_many_databases",
    "unauthenticated",
    "unknown_database",
    "unsupported_encoding",
];

/// The path of the endpoint at a place of [`ROUTES`].
pub(super) fn endpoint(place: Option<usize>) -> &'static str {
    place.and_then(|at| ROUTES.get(at)).map_or(OTHER, |route| route.path)
}

/// Why a row was refused: one of [`ROW_REASONS`].
fn row_reason(reason: &Reason) -> &'static str {
    let is_malformed = match reason {
        Reason::Append(error) => return append_reason(error),
        Reason::Arrow(error) => error.is_malformed(),
        Reason::Json(error) => error.is_malformed(),
        Reason::LineProtocol(error) => error.is_malformed(),
        Reason::MessagePack(error) => error.is_malformed(),
    };
    if is_malformed { "syntax" } else { "value" }
}

fn append_reason(error: &AppendError) -> &'static str {
    match error {
        AppendError::DuplicateColumn { .. } => "duplicate_column",
        AppendError::EmptyName => "empty_name",
        AppendError::KindConflict { .. } => "kind_conflict",
        AppendError::NameTooLong { .. } => "name_too_long",
        AppendError::NoFields => "no_fields",
        AppendError::NotInSchema { .. } => "closed_schema",
        AppendError::ReservedName { .. } => "reserved_name",
        AppendError::RoleConflict { .. } => "role_conflict",
        AppendError::StringTooLong { .. } => "string_too_long",
        AppendError::TooManyColumns { .. } => "too_many_columns",
        AppendError::TooManyDays { .. } => "too_many_days",
        AppendError::TooManyTables { .. } => "too_many_measurements",
        AppendError::UnsignedTooLarge { .. } => "unsigned_too_large",
    }
}

/// Why a request was refused: one of [`REQUEST_REASONS`].
pub(super) fn request_reason(error: &WriteError) -> &'static str {
    use crate::error::ServerError::{Flush, Io, Journal, Recovery, ShardGone};
    match error {
        WriteError::Client(error) => client_reason(error),
        WriteError::Busy(reason) => match reason {
            BusyReason::BodyTimeout => "body_timeout",
            BusyReason::DiskFull => "disk_full",
            BusyReason::JournalFailed => "journal_failed",
            BusyReason::MemoryFull { .. } => "memory_full",
            BusyReason::ShuttingDown => "shutting_down",
        },
        WriteError::Server(error) => match error {
            Flush { .. } => "flush_failed",
            Io { .. } => "io_failed",
            Journal { .. } => "journal_failed",
            Recovery { .. } => "recovery_failed",
            ShardGone => "shard_gone",
        },
    }
}

fn client_reason(error: &ClientError) -> &'static str {
    match error {
        ClientError::BodyIncomplete => "body_incomplete",
        ClientError::BodyTooLarge { .. } => "body_too_large",
        ClientError::BrokenEncoding { .. } => "broken_encoding",
        ClientError::DatabaseExists { .. } => "database_exists",
        ClientError::EmptyBody => "empty_body",
        ClientError::Forbidden { .. } => "forbidden",
        ClientError::InflatedTooLarge { .. } => "inflated_too_large",
        ClientError::InvalidDatabase => "invalid_database",
        ClientError::InvalidJson { .. } => "invalid_json",
        ClientError::InvalidParameter { .. } => "invalid_parameter",
        ClientError::MissingParameter { .. } => "missing_parameter",
        ClientError::RatioTooLarge { .. } => "ratio_too_large",
        ClientError::TooManyDatabases { .. } => "too_many_databases",
        ClientError::Unauthenticated(_) => "unauthenticated",
        ClientError::UnknownDatabase { .. } => "unknown_database",
        ClientError::UnsupportedEncoding { .. } => "unsupported_encoding",
    }
}

/// A request with refusals, as `/api/v1/rejects` shows it.
#[derive(Clone, Debug)]
pub(super) struct Refused {
    /// Milliseconds since 1970 in UTC.
    pub(super) time_ms: u64,
    /// The id that its answer carried.
    pub(super) id: Box<str>,
    pub(super) endpoint: &'static str,
    /// `None` where the request was refused before it was known.
    pub(super) database: Option<Box<str>>,
    pub(super) status: u16,
    /// Rows taken and refused; both 0 for a request that was refused as a whole.
    pub(super) accepted: u64,
    pub(super) rejected: u64,
    /// The first refused rows by number and reason; of a whole request row 0.
    pub(super) rows: Vec<(u64, &'static str, Box<str>)>,
}

impl Refused {
    fn push_json(&self, json: &mut String) {
        // Writing to a string cannot fail, here and below.
        let _ = write!(json, "{{\"time_ms\":{},\"request_id\":", self.time_ms);
        quote(json, &self.id);
        json.push_str(",\"endpoint\":");
        quote(json, self.endpoint);
        json.push_str(",\"database\":");
        match &self.database {
            Some(name) => quote(json, name),
            None => json.push_str("null"),
        }
        let Self { status, accepted, rejected, .. } = self;
        let _ = write!(json, ",\"status\":{status},\"accepted\":{accepted}");
        let _ = write!(json, ",\"rejected\":{rejected},\"rows\":[");
        for (index, (line, reason, text)) in self.rows.iter().enumerate() {
            json.push_str(if index > 0 { "," } else { "" });
            let _ = write!(json, "{{\"line\":{line},\"reason\":\"{reason}\",\"error\":");
            quote(json, text);
            json.push('}');
        }
        json.push_str("]}");
    }
}

/// Requests by endpoint and outcome, refusals by reason, and the last of them; shared by all
/// shards.
#[derive(Debug)]
pub(super) struct Observed {
    /// By the place of the endpoint in [`ROUTES`], the last for all other paths; by outcome.
    requests: [[Counter; OUTCOMES.len()]; ROUTES.len() + 1],
    refusals: Mutex<Refusals>,
}

#[derive(Debug)]
struct Refusals {
    rows: BTreeMap<&'static str, u64>,
    requests: BTreeMap<&'static str, u64>,
    recent: VecDeque<Refused>,
}

impl Default for Observed {
    fn default() -> Self {
        // All of them from the start: a rate needs the value before the first one.
        let zeros = |reasons: &[&'static str]| reasons.iter().map(|it| (*it, 0)).collect();
        let refusals = Refusals {
            rows: zeros(ROW_REASONS),
            requests: zeros(REQUEST_REASONS),
            recent: VecDeque::new(),
        };
        let requests = std::array::from_fn(|_| std::array::from_fn(|_| Counter::default()));
        Self { requests, refusals: Mutex::new(refusals) }
    }
}

impl Observed {
    fn lock(&self) -> MutexGuard<'_, Refusals> {
        // No code panics while it holds the lock.
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an answer; `route` is the place of its endpoint in [`ROUTES`].
    pub(super) fn answered(&self, route: Option<usize>, status: StatusCode) {
        let outcome = match status {
            StatusCode::SERVICE_UNAVAILABLE => 2,
            other if other.is_server_error() => 3,
            other if other.is_client_error() => 1,
            _ => 0,
        };
        let row = self.requests.get(route.unwrap_or(ROUTES.len()));
        if let Some(counter) = row.and_then(|row| row.get(outcome)) {
            counter.add(1);
        }
    }

    /// Notes a request that was refused as a whole, for one of [`REQUEST_REASONS`].
    pub(super) fn refused(&self, mut refused: Refused, reason: &'static str, error: &WriteError) {
        refused.rows.push((0, reason, described(error)));
        let mut refusals = self.lock();
        *refusals.requests.entry(reason).or_default() += 1;
        refusals.keep(refused);
    }

    /// Notes a request of which rows were refused; returns the reason of the first.
    pub(super) fn rejected(&self, mut refused: Refused, report: &Report) -> &'static str {
        refused.accepted = report.accepted;
        refused.rejected = report.rejected;
        let described =
            |(line, reason): (u64, &Reason)| (line, row_reason(reason), described(reason));
        let rows = report.rejections.iter().map(|it| (it.line, &it.reason));
        refused.rows = rows.clone().take(ROWS_MAX).map(described).collect();
        let first = refused.rows.first().map_or("not_described", |(_, reason, _)| *reason);
        let mut refusals = self.lock();
        let mut left = report.rejected;
        for (_, reason) in rows {
            *refusals.rows.entry(row_reason(reason)).or_default() += 1;
            left = left.saturating_sub(1);
        }
        *refusals.rows.entry("not_described").or_default() += left;
        refusals.keep(refused);
        first
    }

    /// Requests by endpoint and outcome.
    pub(super) fn requests(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let paths = ROUTES.iter().map(|route| route.path).chain([OTHER]);
        paths.zip(&self.requests).flat_map(|(path, row)| {
            OUTCOMES.iter().zip(row).map(move |(outcome, count)| (path, *outcome, count.get()))
        })
    }

    /// Refused rows, and refused requests, by reason.
    pub(super) fn reasons(&self) -> [BTreeMap<&'static str, u64>; 2] {
        let refusals = self.lock();
        [refusals.rows.clone(), refusals.requests.clone()]
    }

    /// The last refusals, the newest first, as JSON; of the databases that `is_shown` says.
    pub(super) fn recent(&self, is_shown: impl Fn(Option<&str>) -> bool) -> String {
        let recent: Vec<Refused> = self.lock().recent.iter().rev().cloned().collect();
        let mut json = String::from("{\"rejects\":[");
        let shown = recent.iter().filter(|it| is_shown(it.database.as_deref()));
        for (index, refused) in shown.enumerate() {
            json.push_str(if index > 0 { "," } else { "" });
            refused.push_json(&mut json);
        }
        json.push_str("]}");
        json
    }
}

impl Refusals {
    fn keep(&mut self, refused: Refused) {
        if self.recent.len() >= RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(refused);
    }
}

fn described(error: &dyn std::fmt::Display) -> Box<str> {
    crate::error::cut(&error.to_string(), REASON_BYTES_MAX).into()
}

/// How many lines a shard may log about its requests.
#[derive(Debug, Default)]
pub(super) struct Lines {
    since: Option<Instant>,
    count: u32,
    left_out: u64,
}

impl Lines {
    /// Whether there may be one at `now`; then with the number of those left out before.
    pub(super) fn take(&mut self, now: Instant) -> Option<u64> {
        let is_over =
            |since: Instant| now.saturating_duration_since(since) >= Duration::from_secs(1);
        if self.since.is_none_or(is_over) {
            self.since = Some(now);
            self.count = 0;
        }
        if self.count >= LINES_PER_SECOND_MAX {
            self.left_out += 1;
            return None;
        }
        self.count += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Instant, LINES_PER_SECOND_MAX, Lines};

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a beginning for made-up times")]
    fn lines_beyond_so_many_in_a_second_are_counted() {
        let begin = Instant::now();
        let mut lines = Lines::default();
        for _ in 0..LINES_PER_SECOND_MAX {
            assert_eq!(lines.take(begin), Some(0));
        }
        assert_eq!(lines.take(begin), None);
        assert_eq!(lines.take(begin + Duration::from_millis(999)), None);
        assert_eq!(lines.take(begin + Duration::from_secs(1)), Some(2));
        assert_eq!(lines.take(begin + Duration::from_secs(1)), Some(0));
    }
}
