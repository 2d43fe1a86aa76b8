//! A write as it was asked for, which is what goes to another thread with its body.

use std::sync::Arc;

use super::body::{self, Account};
use super::connection::Context;
use super::refusals;
use super::response::Answer;
use super::route::{Dialect, Target};
use crate::engine::{Encoding, Engine, Place, ReceivedBody, Report, WriteRequest, Written};
use crate::error::WriteError;

/// A write as it was asked for.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) dialect: Dialect,
    pub(super) target: &'a Target,
    pub(super) path: &'a str,
    /// The number of a token.
    pub(super) sender: u64,
    /// What the client calls it.
    pub(super) key: Option<&'a [u8]>,
    /// What we call it.
    pub(super) id: &'a str,
}

impl Asked<'_> {
    pub(super) fn request(&self) -> WriteRequest<'_> {
        WriteRequest {
            endpoint: self.path,
            database: &self.target.database,
            format: self.dialect.format(),
            precision: self.target.precision,
            atomic: self.target.atomic,
            sender: self.sender,
            parameters: self.target.stream_parameters(),
            idempotency_key: self.key,
        }
    }

    /// Counts what became of its rows, and says what it is answered; `text` is the inflated body.
    pub(super) fn conclude(
        &self,
        engine: &Engine,
        report: &Report,
        text: &[u8],
    ) -> (Answer, Report) {
        let stats = engine.format_stats(self.dialect.format());
        stats.rows_accepted.add(report.accepted);
        stats.rows_rejected.add(report.rejected);
        stats.fields_dropped.add(report.dropped_fields);
        let atomic = self.target.atomic;
        (refusals::written(self.dialect, atomic, report, text, self.id), report.clone())
    }

    /// Has the bulk thread decode a body, which is in `inflated` if it was compressed. It goes on
    /// there when the client goes away, with what it holds.
    pub(super) async fn write_in_bulk(
        self,
        context: &Context,
        account: &mut Account<'_>,
        place: Place,
        received: Vec<u8>,
        encoding: Encoding,
        inflated: &mut Vec<u8>,
    ) -> Result<Written<(Answer, Report)>, WriteError> {
        let Self { dialect, sender, .. } = self;
        let (target, path, id) = (self.target.clone(), self.path.to_owned(), self.id.to_owned());
        let (key, engine) = (self.key.map(<[u8]>::to_vec), Arc::clone(&context.engine));
        let mut text = std::mem::take(inflated);
        let admission = account.admission().take();
        let job = context.bulk.run(move |shard| {
            let key = key.as_deref();
            let asked = Asked { dialect, target: &target, path: &path, sender, key, id: &id };
            let body = ReceivedBody { received, encoding, inflated: &mut text };
            let written = shard.write(&asked.request(), place, body, |report, text| {
                asked.conclude(&engine, report, text)
            });
            // To free a large buffer takes milliseconds.
            (written, body::poolable(text), admission)
        });
        let (written, text, admission) = job.await?;
        *inflated = text;
        *account.admission() = admission;
        written
    }
}
