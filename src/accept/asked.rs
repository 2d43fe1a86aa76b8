//! A write as it was asked for, which is what goes to another thread with its body.

use super::body;
use super::bulk::Bulk;
use super::refusals;
use super::response::Answer;
use super::route::{Dialect, Target};
use crate::engine::{Encoding, Place, ReceivedBody, Report, WriteRequest, Written};
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
        self.target.request(self.dialect, self.path, self.sender, self.key)
    }

    /// Has the bulk thread decode a body, which is in `inflated` if it was compressed.
    pub(super) async fn write_in_bulk(
        self,
        bulk: &Bulk,
        place: Place,
        received: Vec<u8>,
        encoding: Encoding,
        inflated: &mut Vec<u8>,
    ) -> Result<Written<(Answer, Report)>, WriteError> {
        let Self { dialect, sender, .. } = self;
        let (target, path, id) = (self.target.clone(), self.path.to_owned(), self.id.to_owned());
        let key = self.key.map(<[u8]>::to_vec);
        let mut text = std::mem::take(inflated);
        let job = bulk.run(move |shard| {
            let request = target.request(dialect, &path, sender, key.as_deref());
            let body = ReceivedBody { received, encoding, inflated: &mut text };
            let written = shard.write(&request, place, body, |report, text| {
                let answer = refusals::written(dialect, target.atomic, report, text, &id);
                (answer, report.clone())
            });
            // To free a large buffer takes milliseconds.
            (written, body::poolable(text))
        });
        let (written, text) = job.await?;
        *inflated = text;
        written
    }
}
