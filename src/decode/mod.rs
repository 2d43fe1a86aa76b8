//! Bytes to appends: the wire formats, each decoded straight into the columns of `gather`.
//!
//! A body is inflated (`inflate`), then decoded. A decoder sees an inflated body and a
//! [`Database`](crate::gather::Database), never a request, a socket or a clock: the same bytes
//! give the same columns. No row objects: a value is converted once and written once, into the
//! buffer that the record batch will own.
//!
//! A row is appended whole or not at all. A row that cannot be taken becomes a [`Rejection`] and
//! costs its neighbours nothing.

pub mod cursor;

pub mod inflate;

pub mod number;

pub mod precision;

pub mod ipc;

pub mod line_protocol;

pub mod msgpack;

pub mod json;

mod runs;

use std::fmt;

use crate::gather::AppendError;
use crate::limits::Limits;
use crate::timestamp::Timestamp;

pub use precision::Precision;

/// A wire format.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// Streams of Arrow IPC; `schemas/wire/arrow.md`.
    Arrow,
    /// InfluxDB line protocol; `schemas/wire/line_protocol.ebnf`.
    LineProtocol,
    /// Telegraf's JSON, and the shapes of MessagePack in it; `schemas/wire/json.md`.
    Json,
    /// Arc's and Telegraf's MessagePack shapes; `schemas/wire/msgpack.md`.
    MessagePack,
    /// Line protocol as QuestDB's clients write it; see [`line_protocol::decode_questdb`].
    QuestDb,
}

/// What a decoder knows besides the body; nothing of it changes while a body is decoded.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Unit of the timestamps in a body of line protocol or JSON.
    pub precision: Precision,
    /// Time of rows that carry none; one for the whole body.
    pub received: Timestamp,
    /// The bounds in force.
    pub limits: &'a Limits,
}

/// What became of a body's rows.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Rows that are in the columns.
    pub accepted: u64,
    /// Rows that are not.
    pub rejected: u64,
    /// Fields left out of accepted rows: `NaN` and `Inf` in line protocol, fields named `time`.
    pub dropped_fields: u64,
    /// Whether a row was accepted with the time at which the body was received.
    pub has_received_times: bool,
    /// The first rejections, at most `limits.reported_errors_max`, in body order.
    pub rejections: Vec<Rejection>,
    /// What stood in these rows, where the body has no bytes that are one row; else empty.
    pub texts: Vec<Box<str>>,
    /// Which rows were rejected, folded into one number.
    digest: u64,
}

impl Report {
    /// Counts a rejected row and keeps its description while there is room.
    #[cold]
    pub fn reject(&mut self, limits: &Limits, rejection: Rejection) {
        self.rejected += 1;
        // Any odd multiplier with mixed bits does; this one is of the golden ratio.
        let place = self.digest ^ rejection.line ^ ((rejection.start as u64) << 32);
        self.digest = place.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        if self.rejections.len() < limits.reported_errors_max {
            self.rejections.push(rejection);
        }
    }

    /// Stands for which rows of the body were accepted: two decodes of one body with the same
    /// digest, and the same counts, took the same rows.
    pub fn digest(&self) -> u64 {
        self.digest
    }
}

/// One row that was not taken: where it stands and why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rejection {
    /// Line protocol: physical line, from 1. Other formats: row of the body, from 1; of an Arrow
    /// stream that cannot be read on, its message.
    pub line: u64,
    /// First byte of the row, or of its Arrow message, in the inflated body.
    pub start: usize,
    /// Byte after the row's last, or after the last one that could be read.
    pub end: usize,
    /// Why.
    pub reason: Reason,
}

/// Why a row was not taken; the texts are golden-tested.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reason {
    /// The columns refused it.
    Append(AppendError),
    /// The body is no Arrow stream that can be taken, or a row has no time that can.
    Arrow(ipc::StreamError),
    /// The item is not a row of JSON.
    Json(json::ItemError),
    /// The line is not line protocol.
    LineProtocol(line_protocol::LineError),
    /// The item is not a row of MessagePack.
    MessagePack(msgpack::ItemError),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Append(error) => error.fmt(f),
            Self::Arrow(error) => error.fmt(f),
            Self::Json(error) => error.fmt(f),
            Self::LineProtocol(error) => error.fmt(f),
            Self::MessagePack(error) => error.fmt(f),
        }
    }
}
