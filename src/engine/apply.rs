//! One body into tables: what a shard does with a request, and recovery with the record of one.
//!
//! The same body, request, time and decisions give the same rows: a record keeps all of these, and
//! nothing else decides here.

use super::rejected;
use crate::decode::cursor::Body;
use crate::decode::{Context, Format, Precision, Reason, Rejection, Report};
use crate::decode::{line_protocol, msgpack};
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
    /// Unit of its timestamps, for line protocol.
    pub precision: Precision,
    /// Whether one refused row refuses all of them.
    pub atomic: bool,
}

/// What a request does not say and a record does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Circumstances {
    /// The time of rows that carry none.
    pub(super) received: Timestamp,
    /// How many refused rows are kept in `_rejected` at most.
    pub(super) rejected_kept_max: usize,
}

/// What became of a body.
#[derive(Debug)]
pub(super) struct Applied {
    pub(super) report: Report,
    /// Refused rows that are in `_rejected`.
    pub(super) rejected_kept: usize,
}

/// Decodes `body`, which is inflated, into `tables`. Slack is appended to it and taken off again.
///
/// # Errors
/// `TooManyDatabases`. A refused row is no error.
pub(super) fn apply(
    tables: &mut Tables,
    registry: &Registry,
    request: &WriteRequest<'_>,
    circumstances: Circumstances,
    body: &mut Vec<u8>,
) -> Result<Applied, ClientError> {
    let limits = registry.limits();
    let max = limits.databases_max;
    let database = tables.database(request.database);
    let database = database.ok_or(ClientError::TooManyDatabases { max })?;
    database.begin_write(if request.atomic { Atomicity::Body } else { Atomicity::Rows });
    let received = circumstances.received;
    let context = Context { precision: request.precision, received, limits };
    let mut report = Report::default();
    let len = body.len();
    let bytes = Body::new(body);
    match request.format {
        Format::LineProtocol => line_protocol::decode(bytes, &context, database, &mut report),
        Format::MessagePack => msgpack::decode(bytes, &context, database, &mut report),
    }
    if request.atomic && report.rejected > 0 {
        database.abort_write();
        report.accepted = 0;
    } else if let Err(error) = database.end_write() {
        report.accepted = 0;
        report.reject(
            limits,
            Rejection { line: 1, start: 0, end: len, reason: Reason::Append(error) },
        );
    }
    body.truncate(len);
    let kept = circumstances.rejected_kept_max.min(report.rejections.len());
    let refused = report.rejections.get(..kept).unwrap_or_default();
    let rejected_kept = rejected::keep(database, request, received, refused, body);
    Ok(Applied { report, rejected_kept })
}
