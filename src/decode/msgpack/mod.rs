//! `MessagePack` to columns: every shape that Arc's and Telegraf's clients send, freely mixed.
//!
//! A body is any number of *items*, one behind the other (`schemas/wire/msgpack.md` draws them):
//!
//! | item      | shape                                                                            |
//! |-----------|----------------------------------------------------------------------------------|
//! | row       | `{m, t, h, tags: {..}, fields: {..}}`, Telegraf's `{name, time, tags, fields}`     |
//! | columnar  | `{m, columns: {time: [..], usage: [..]}, tag_keys: [..]}`                          |
//! | batch     | `{batch: [item, ..]}`                                                            |
//! | array     | `[item, ..]`                                                                     |
//!
//! | key       | spellings                  | value                                              |
//! |-----------|----------------------------|----------------------------------------------------|
//! | `m`       | `m`, `measurement`, `name` | string; an integer `n` is `measurement_n`          |
//! | `t`       | `t`, `time`                | see `time`; nil or absent is the time of receipt   |
//! | `h`       | `h`                        | tag `host`: string; an integer `n` is `host_n`     |
//! | `tags`    | `tags`                     | map; numbers and booleans in their text form       |
//! | `fields`  | `fields`, `f`              | map, or array: `field_0`, `field_1`, ..            |
//!
//! Keys come in any order, as `str` or `bin`; keys that mean nothing here are skipped. Each may be
//! given once, in one spelling. A map with `batch` is a batch whatever else it has.
//!
//! What is wrong is rejected alone: an item, or one row of a columnar item. Only a body that is not
//! `MessagePack` any more (cut short, 0xc1, a length beyond its end) loses what stands behind the
//! break; the rows before it stay.
//!
//! Invariants:
//! - no recursion on input, and at most `limits.msgpack_depth_max` levels are entered;
//! - nothing is allocated from a declared length;
//! - every byte is read a bounded number of times, whatever the nesting.
//!
//! Cost: a row whose keys come in the order `m`, .., `fields` is one pass. `perf/LOG.md` has times.
//! Not here: what a column takes (`gather`), what an answer looks like (`accept`).

mod columnar;

mod error;

mod foreseen;

mod item;

mod ragged;

mod row;

mod run;

mod skip;

mod template;

mod time;

mod token;

mod value;

pub use self::error::{Break, Excerpt, Found, ItemError, Key};
use self::item::Decoder;
use super::cursor::Body;
use super::{Context, Report};
use crate::gather::Database;

/// Decodes a body and appends its rows to `database`.
///
/// Bare integer times have the unit that their magnitude says, value by value; the precision of
/// `context` is not used. Rows that were not taken are in `report`, in body order.
///
/// Cost: no allocation per row once the columns exist.
pub fn decode(body: Body<'_>, context: &Context<'_>, database: &mut Database, report: &mut Report) {
    let mut decoder = Decoder::new(body, context, database, report);
    if let Err(broken) = decoder.items() {
        decoder.broken(broken);
    }
    // No client's time is that of its body's arrival, to the microsecond.
    report.has_received_times |= database.has_written(context.received);
}
