//! JSON to columns: what Telegraf's serializer sends, and every shape of `MessagePack`, mixed.
//!
//! A body is any number of *documents*: one on each line, or one behind the other, or one over many
//! lines (`schemas/wire/json.md` shows them). A document is an *item*:
//!
//! | item      | shape                                                                            |
//! |-----------|----------------------------------------------------------------------------------|
//! | row       | `{"m", "t", "h", "tags": {}, "fields": {}}`, Telegraf's `{"name", "timestamp", ..}` |
//! | columnar  | `{"m", "columns": {"time": [], "usage": []}, "tag_keys": []}`                      |
//! | batch     | `{"batch": [item, ..]}`, Telegraf's `{"metrics": [item, ..]}`                      |
//! | array     | `[item, ..]`                                                                     |
//!
//! Keys and values mean what they mean in `MessagePack` (`decode::msgpack`). Beyond that, fields
//! that are objects are flattened with `_`, and a time may be a string of RFC 3339.
//!
//! simd-json makes a document a tape of values (`tape`), from which they go to their columns.
//!
//! What is wrong is rejected alone: an item, a row of a columnar item, a row with a value that
//! JSON or 64 bits cannot express (`mend`). Where a document stops being JSON, the items before
//! that stay, and reading goes on at the next line that can be the beginning of a document
//! (`extent`).
//!
//! Invariants:
//! - at most `limits.json_depth_max` levels are entered;
//! - memory is bounded by the bytes of one document; see `tape`;
//! - every byte is read a bounded number of times, whatever the nesting and wherever it breaks.
//!
//! Cost: `benches/decode_json.rs`, beside simd-json's tape alone.
//! Not here: what a column takes (`gather`), what an answer looks like (`accept`).

mod columnar;

mod error;

mod extent;

mod item;

mod mend;

mod ragged;

mod row;

mod run;

mod tape;

mod time;

mod value;

pub use self::error::{Excerpt, Fault, Found, ItemError, Key};
use self::extent::{Extent, extent, marks};
use self::item::Decoder;
pub use self::tape::Scratch;
use super::cursor::Body;
use super::{Context, Report};
use crate::gather::Database;

/// Decodes a body and appends its rows to `database`; documents are read in `scratch`.
///
/// Integer times have the unit of the context's precision; by `Auto`, the one that their magnitude
/// says, value by value. Rows that were not taken are in `report`, in body order.
///
/// Cost: no allocation per row once the columns exist.
pub fn decode(
    body: Body<'_>,
    context: &Context<'_>,
    scratch: &mut Scratch,
    database: &mut Database,
    report: &mut Report,
) {
    let mut documents =
        Documents { body, scratch, decoder: Decoder::new(body, context, database, report) };
    documents.all();
    scratch.shrink();
    // No client's time is that of its body's arrival, to the microsecond.
    report.has_received_times |= database.has_written(context.received);
}

/// The documents of one body on their way into one database.
struct Documents<'a, 'd> {
    body: Body<'a>,
    scratch: &'d mut Scratch,
    decoder: Decoder<'a, 'd>,
}

impl Documents<'_, '_> {
    /// Reads them all.
    fn all(&mut self) {
        let bytes = self.body.bytes();
        let mut at = if bytes.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        // Documents that begin before this byte share a line with the end of another.
        let mut shared = 0;
        // Whether the rest of the body may be one document of many lines.
        let mut is_last = true;
        while let Some(found) =
            bytes.get(at..).and_then(|it| it.iter().position(|byte| is_dark(*byte)))
        {
            at += found;
            let line_end = line_end(bytes, at);
            if at >= shared && self.fits(at, line_end) && self.is_read(at, line_end) {
                at = line_end;
                continue;
            }
            if std::mem::take(&mut is_last)
                && line_end < bytes.len()
                && self.fits(at, bytes.len())
                && self.is_read(at, bytes.len())
            {
                return;
            }
            at = match extent(bytes, at) {
                Extent::Whole(end) => {
                    shared = self::line_end(bytes, end);
                    self.document(at, end);
                    end
                }
                Extent::Broken(broken) => {
                    let next = resumption(bytes, line_end, broken);
                    self.document(at, next);
                    next
                }
            };
        }
    }

    /// Whether there are few enough punctuation marks at `start..end` for one document.
    fn fits(&self, start: usize, end: usize) -> bool {
        let max = self.decoder.context.limits.json_marks_max;
        end - start <= max || marks(self.body.bytes().get(start..end).unwrap_or_default()) <= max
    }

    /// Takes what can be read of `start..end`, which is one document, or a broken one.
    fn document(&mut self, start: usize, end: usize) {
        if !self.fits(start, end) {
            let max = self.decoder.context.limits.json_marks_max;
            self.decoder.reject((start, end), 1, ItemError::TooManyMarks { max }.into());
        } else if !self.is_read(start, end) {
            self.mended(start, end);
        }
    }

    /// Takes the items of the document at `start..end`. `false`: it is none.
    fn is_read(&mut self, start: usize, end: usize) -> bool {
        let Self { body, decoder, .. } = self;
        let body = *body;
        self.scratch.read(body, start, end, |document| decoder.items(document))
    }

    /// Takes what can be read of `start..end`, which is no document.
    #[cold]
    fn mended(&mut self, start: usize, end: usize) {
        let Self { body, decoder, .. } = self;
        self.scratch.read_mended(*body, start, end, |document, broken| {
            decoder.items_before(document, broken);
        });
    }
}

/// Whether a byte is no white space.
fn is_dark(byte: u8) -> bool {
    !matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// The line feed behind `at`, or the end.
fn line_end(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    memchr::memchr(b'\n', rest).map_or(bytes.len(), |found| at + found)
}

/// Where to go on behind a document that breaks at byte `broken` and whose first line ends at
/// `line_end`: at the next line; beyond the first, at one that begins as a document does.
fn resumption(bytes: &[u8], line_end: usize, broken: usize) -> usize {
    if broken <= line_end {
        return line_end;
    }
    let mut at = broken;
    loop {
        let is_line = at.checked_sub(1).and_then(|before| bytes.get(before)) == Some(&b'\n');
        if is_line && matches!(bytes.get(at), Some(b'{' | b'[')) {
            return at;
        }
        at = self::line_end(bytes, at) + 1;
        if at >= bytes.len() {
            return bytes.len();
        }
    }
}
