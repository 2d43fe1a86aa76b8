//! One body into tables: what a shard does with a request, and recovery with the record of one.
//!
//! The same body, request, time and decisions give the same rows: a record keeps all of these, and
//! nothing else decides here.

use arrow_buffer::Buffer;

use super::rejected;
use crate::decode::cursor::Body;
use crate::decode::ipc::{self, Parameters};
use crate::decode::{Context, Format, Precision, Reason, Rejection, Report};
use crate::decode::{json, line_protocol, msgpack};
use crate::error::ClientError;
use crate::gather::{Atomicity, Registry, Tables};
use crate::timestamp::Timestamp;

/// What a body is, besides its bytes.
#[derive(Clone, Copy, Debug)]
pub struct WriteRequest<'a> {
    /// The path it was sent to, for `_rejected`.
    pub endpoint: &'a str,
    /// Where its rows go; made when it is new.
    pub database: &'a str,
    /// Its format.
    pub format: Format,
    /// Unit of its timestamps, for line protocol and JSON.
    pub precision: Precision,
    /// Whether one refused row refuses all of them.
    pub atomic: bool,
    /// Who sent it: the number of a token, 0 where nobody had to say.
    pub sender: u64,
    /// What it says about its columns, for Arrow.
    pub parameters: Parameters<'a>,
    /// What the client calls it, so that it can be sent again.
    pub idempotency_key: Option<&'a [u8]>,
}

/// What a request does not say and a record does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Circumstances {
    /// The time of rows that carry none, in nanoseconds since 1970-01-01 UTC.
    pub(super) received_ns: i64,
    /// How many refused rows are kept in `_rejected` at most.
    pub(super) rejected_kept_max: usize,
    /// Whether the rows are stored already: then only the report is wanted.
    pub(super) is_stored: bool,
}

/// What became of a body.
#[derive(Debug)]
pub(super) struct Applied {
    pub(super) report: Report,
    /// Refused rows that are in `_rejected`.
    pub(super) rejected_kept: usize,
    /// The inflated body, if rows go on to use its bytes.
    pub(super) shared: Option<Buffer>,
}

impl Applied {
    /// The inflated body, which is in `buffer` unless it is shared.
    pub(super) fn body<'a>(&'a self, buffer: &'a [u8]) -> &'a [u8] {
        self.shared.as_ref().map_or(buffer, Buffer::as_slice)
    }

    /// Whether the tables are as they were.
    pub(super) fn is_nothing(&self) -> bool {
        self.report.accepted == 0 && self.rejected_kept == 0
    }

    /// Whether the same bytes would mean the same rows again.
    pub(super) fn is_repeatable(&self, request: &WriteRequest<'_>) -> bool {
        request.idempotency_key.is_some() || !self.report.has_received_times
    }
}

/// Decodes `body`, which is inflated, into `tables`; JSON is read in `scratch`. Slack is appended
/// to the body and taken off again. Arrow takes the body away if its rows go on to use it.
///
/// # Errors
/// `TooManyDatabases`. A refused row is no error.
pub(super) fn apply(
    tables: &mut Tables,
    scratch: &mut json::Scratch,
    registry: &Registry,
    request: &WriteRequest<'_>,
    circumstances: Circumstances,
    body: &mut Vec<u8>,
) -> Result<Applied, ClientError> {
    let limits = registry.limits();
    let max = limits.databases_max;
    let database = tables.database(request.database);
    let database = database.ok_or(ClientError::TooManyDatabases { max })?;
    let is_atomic = request.atomic || circumstances.is_stored;
    database.begin_write(if is_atomic { Atomicity::Body } else { Atomicity::Rows });
    let received = Timestamp::from_ns(circumstances.received_ns);
    let context = Context { precision: request.precision, received, limits };
    let mut report = Report::default();
    let len = body.len();
    let mut shared = None;
    match request.format {
        Format::Arrow => {
            let bytes = Buffer::from_vec(std::mem::take(body));
            ipc::decode(&bytes, &request.parameters, &context, database, &mut report);
            shared = Some(bytes);
        }
        Format::Json => {
            json::decode(Body::new(body), &context, scratch, database, &mut report);
        }
        Format::LineProtocol => {
            line_protocol::decode(Body::new(body), &context, database, &mut report);
        }
        Format::MessagePack => msgpack::decode(Body::new(body), &context, database, &mut report),
        Format::QuestDb => {
            line_protocol::decode_questdb(Body::new(body), &context, database, &mut report);
        }
    }
    if circumstances.is_stored {
        database.abort_write();
    } else if request.atomic && report.rejected > 0 {
        database.abort_write();
        report.accepted = 0;
    } else if let Err(error) = database.end_write() {
        report.accepted = 0;
        report.reject(
            limits,
            Rejection { line: 1, start: 0, end: len, reason: Reason::Append(error) },
        );
    }
    let shared = match shared.map(Buffer::into_vec) {
        Some(Err(bytes)) => Some(bytes),
        // No row uses it.
        Some(Ok(bytes)) => {
            *body = bytes;
            None
        }
        None => {
            body.truncate(len);
            None
        }
    };
    let kept = if circumstances.is_stored { 0 } else { circumstances.rejected_kept_max };
    let kept = kept.min(report.rejections.len());
    let refused = report.rejections.get(..kept).unwrap_or_default();
    let body = shared.as_ref().map_or(body.as_slice(), Buffer::as_slice);
    let rejected_kept = rejected::keep(database, request, received, refused, &report.texts, body);
    Ok(Applied { report, rejected_kept, shared })
}
