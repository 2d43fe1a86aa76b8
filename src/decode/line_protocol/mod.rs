//! Line protocol: one point a line, straight into columns.
//!
//! ```text
//! body   = [BOM] { line LF }   ; CR before LF or end is dropped; LF inside "..." is data
//! line   = ws* ( "" | "#" any* | point )  ; ws = SP / TAB / CR
//! point  = head 1*SP field *( "," field ) [ 1*SP ["-"] 1*DIGIT ] *SP
//! head   = name *( "," key "=" [ tagval ] )      ; an empty tag value: the tag is absent
//! field  = key "=" value
//! name   = 1*( any but , SP LF NUL ; escapes \, \SP \\ )
//! key    = 1*( any but , = SP LF ; escapes \, \= \SP \\ )
//! tagval = 1*( any but , SP LF ; escapes \, \= \SP \\ )
//! value  = float / ["-"] 1*DIGIT "i" / 1*DIGIT "u" / boolean / string / NaN / Inf
//! ```
//!
//! The whole grammar with our departures is `schemas/wire/line_protocol.ebnf`.
//!
//! Every line first takes the fast path (`fast_line`): the head is looked up as it stands on the
//! wire, every key is compared with the one foreseen, every value is converted where it stands.
//! Whatever that path did not expect undoes the row, and the line is read again with the whole
//! grammar (`slow_line`), which also says what is wrong with it. The fast path accepts only what
//! the whole grammar accepts, with the same result; `tests/it/line_protocol.rs` compares both with
//! a naive twin.
//!
//! A line that is refused costs its neighbours nothing: the next line starts after its line feed
//! (after its first one, when a string does not end).
//!
//! Cost: two passes over the body (UTF-8, escapes) and one over its values; nothing is allocated
//! per line once the columns exist. `decode/line_protocol/*` has the figures.

mod error;

mod escape;

mod fast_line;

mod line_end;

mod names;

mod questdb;

mod slow_line;

mod token;

use super::cursor::Body;
use super::{Context, Reason, Rejection, Report};
use crate::gather::Database;
use crate::timestamp::Timestamp;

use escape::Dialect;

pub use error::LineError;

/// UTF-8's byte order mark, which Windows tools put in front.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Decodes a line-protocol body and appends its rows to `database`.
///
/// Every line is counted in `report`, accepted or rejected with its physical line number. Lines
/// that carry no time get `context.received`, cut to the precision of the body.
///
/// Cost: see the module.
pub fn decode(body: Body<'_>, context: &Context<'_>, database: &mut Database, report: &mut Report) {
    Decoder::new(body, context, report).run::<true>(database);
}

/// [`decode`], in the dialect of QuestDB's clients (`questdb`).
pub fn decode_questdb(
    body: Body<'_>,
    context: &Context<'_>,
    database: &mut Database,
    report: &mut Report,
) {
    let mut decoder = Decoder::new(body, context, report);
    decoder.dialect = Dialect::QuestDb;
    // Without a backslash, what the fast path takes means the same in both dialects.
    if decoder.has_backslash {
        decoder.run::<false>(database);
    } else {
        decoder.run::<true>(database);
    }
}

/// The way through one body.
struct Decoder<'a> {
    body: Body<'a>,
    /// The body's bytes, without slack.
    bytes: &'a [u8],
    /// The longest valid UTF-8 from `text_start` on; lines that reach beyond it are refused.
    text: &'a str,
    text_start: usize,
    /// By whose rule backslashes are read: InfluxDB 3's, with a second try, or QuestDB's.
    dialect: Dialect,
    /// Whether a line was looked at for binary values.
    was_looked_for_binary: bool,
    /// Whether there is any backslash in the body: without one nothing is escaped.
    has_backslash: bool,
    /// Whether the line being read may hold line feeds, protected or in a string.
    may_span_lines: bool,
    /// Physical line that is being read, from 1.
    line: u64,
    /// Strings without an end so far.
    unterminated: usize,
    /// Time of lines that carry none.
    received: Timestamp,
    tokens: token::Tokens,
    /// Names and values without their escapes.
    scratch: [escape::Scratch; 2],
    context: &'a Context<'a>,
    report: &'a mut Report,
}

impl<'a> Decoder<'a> {
    fn new(body: Body<'a>, context: &'a Context<'a>, report: &'a mut Report) -> Self {
        let has_backslash = memchr::memchr(b'\\', body.bytes()).is_some();
        let mut decoder = Self {
            body,
            bytes: body.bytes(),
            text: "",
            text_start: 0,
            dialect: Dialect::V3,
            was_looked_for_binary: false,
            has_backslash,
            may_span_lines: has_backslash,
            line: 1,
            unterminated: 0,
            received: context.precision.truncate(context.received),
            tokens: token::Tokens::default(),
            scratch: <[escape::Scratch; 2]>::default(),
            context,
            report,
        };
        decoder.validate_from(0);
        decoder
    }

    /// Reads all lines; `IS_FAST` says whether each first takes the fast path.
    fn run<const IS_FAST: bool>(&mut self, database: &mut Database) {
        let mut at =
            if self.bytes.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
        while let Some(byte) = self.bytes.get(at) {
            at = match byte {
                b' ' | b'\t' | b'\r' => at + 1,
                b'\n' => {
                    self.line += 1;
                    at + 1
                }
                b'#' => self.next_line(at, line_end::physical(self.bytes, at)),
                _ if IS_FAST => match self.fast_line(at, database) {
                    Some(next) => {
                        self.report.accepted += 1;
                        next
                    }
                    None => self.slow_line(at, database),
                },
                _ => self.slow_line(at, database),
            };
        }
    }

    /// Leaves the line `start..end`, whatever became of it, and returns where the next one starts.
    fn next_line(&mut self, start: usize, end: usize) -> usize {
        let next = (end + 1).min(self.bytes.len());
        self.count_lines(start, next);
        if self.text_start + self.text.len() < next {
            self.validate_from(next);
        }
        next
    }

    /// Finds the longest valid UTF-8 from `start` on. Called again only behind a line that was
    /// not valid, so that the body is read once.
    fn validate_from(&mut self, start: usize) {
        let bytes = self.bytes.get(start..).unwrap_or_default();
        let valid = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
                std::str::from_utf8(valid).unwrap_or_default()
            }
        };
        self.text = valid;
        self.text_start = start;
    }

    /// The text `start..end`; `None` when it is not valid UTF-8.
    #[inline]
    fn text(&self, start: usize, end: usize) -> Option<&'a str> {
        self.text.get(start.checked_sub(self.text_start)?..end.checked_sub(self.text_start)?)
    }

    /// Refuses the line `start..end`, which began on the current physical line.
    #[cold]
    fn reject(&mut self, start: usize, end: usize, reason: Reason) {
        let rejection = Rejection { line: self.line, start, end, reason };
        self.report.reject(self.context.limits, rejection);
    }

    /// Whether a line feed may stand in a string.
    fn may_strings_span_lines(&self) -> bool {
        self.unterminated < line_end::UNTERMINATED_MAX
    }

    /// Counts the physical lines that end within `start..end`.
    fn count_lines(&mut self, start: usize, end: usize) {
        let bytes = self.bytes.get(start..end).unwrap_or_default();
        self.line += memchr::memchr_iter(b'\n', bytes).count() as u64;
    }
}
