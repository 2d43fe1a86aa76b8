//! Rows: `{m, t, h, tags, fields}` and Telegraf's `{name, time, tags, fields}`.
//!
//! Two ways lead into the columns. [`Decoder::stream_row`] is one pass over a map whose keys come
//! in a usual order and whose tags were met before; it takes a row or leaves no trace. Whatever it
//! declines goes to [`Decoder::row`], which has been told where each part stands, and which alone
//! decides why a row is rejected.

use std::fmt::Write;

use super::error::{ItemError, Key};
use super::item::{Decoder, Given, Parts, Stop, utf8};
use super::skip::Nesting;
use super::template::{MARKS_MAX, Mark, Part};
use super::time;
use super::token::{Reader, Token};
use super::value::{Filled, HOST, append_fields, append_tags};
use crate::decode::cursor::Body;
use crate::decode::precision;
use crate::gather::{AppendError, SeriesIndex, TableBuilder, TableIndex};
use crate::timestamp::Timestamp;

/// Begins the raw bytes of a series with a host: the one marker that no value has.
const HAS_HOST: u8 = 0xc1;

/// What is kept from row to row of one body.
#[derive(Debug, Default)]
pub(super) struct Memo<'a> {
    /// The measurement of the last row as on the wire, and its table.
    measurement: Option<(&'a [u8], TableIndex)>,
    /// The raw bytes of tags and host, where a row has both.
    series: Vec<u8>,
    /// Names and tag values made of numbers.
    pub(super) text: String,
}

/// The parts of a row that are kept as they stand on the wire; empty when absent.
#[derive(Clone, Copy, Debug, Default)]
struct Raw<'a> {
    measurement: &'a [u8],
    host: &'a [u8],
    tags: &'a [u8],
}

impl Raw<'_> {
    fn has_tags(&self) -> bool {
        !(self.tags.is_empty() && self.host.is_empty())
    }

    /// The raw bytes that tell the series from others of its table.
    ///
    /// Tags alone are kept as they stand, so such a key is a whole value wherever its bytes stand
    /// again. Tags with a host, or a host alone, begin with [`HAS_HOST`], which begins no value.
    #[inline(always)]
    fn series<'s>(&'s self, scratch: &'s mut Vec<u8>) -> &'s [u8] {
        if self.host.is_empty() {
            return self.tags;
        }
        scratch.clear();
        scratch.push(HAS_HOST);
        scratch.extend_from_slice(self.tags);
        scratch.extend_from_slice(self.host);
        scratch
    }
}

/// The first `N` bytes of a word as [`short_key`] loads it.
const fn word<const N: usize>(key: &[u8; N]) -> u64 {
    let mut word = 0;
    let mut at = N;
    while at > 0 {
        at -= 1;
        #[expect(clippy::indexing_slicing, reason = "at < N, and evaluated at compile time")]
        let byte = key[at];
        word = word << 8 | byte as u64;
    }
    word
}

/// Reads a key that a row may have, or nothing at all.
///
/// A key of up to seven bytes is one load, one mask and a few compares. No such key has a zero
/// byte, so one that matches does not reach into the slack.
#[inline(always)]
fn short_key(body: Body<'_>, it: &mut Reader<'_>) -> Option<Key> {
    const M: u64 = word(b"\xa1m");
    const T: u64 = word(b"\xa1t");
    const H: u64 = word(b"\xa1h");
    const F: u64 = word(b"\xa1f");
    const NAME: u64 = word(b"\xa4name");
    const TIME: u64 = word(b"\xa4time");
    const TAGS: u64 = word(b"\xa4tags");
    const FIELDS: u64 = word(b"\xa6fields");
    let load = body.padded().get(it.at..)?.first_chunk::<8>()?;
    let load = u64::from_le_bytes(*load);
    let len = 1 + (load & 0x1f);
    let key = match load & (u64::MAX >> (64 - 8 * len.min(8))) {
        M => Key::M,
        T => Key::T,
        H => Key::H,
        F => Key::F,
        NAME => Key::Name,
        TIME => Key::Time,
        TAGS => Key::Tags,
        FIELDS => Key::Fields,
        _ => return None,
    };
    it.at += usize::try_from(len).ok()?;
    Some(key)
}

/// A row on its way through [`Decoder::stream_row`].
#[derive(Debug, Default)]
struct Streamed<'a> {
    raw: Raw<'a>,
    time: Option<Timestamp>,
    /// Where the fields went.
    table: Option<TableIndex>,
    /// The fields that came before the measurement.
    early_fields: Option<Given>,
    filled: Filled,
    /// The parts that are no keys and no measurement, in their order.
    marks: [Option<Mark>; MARKS_MAX],
    mark_count: usize,
}

impl Streamed<'_> {
    /// Notes that `part` stands at `start..end`.
    #[inline(always)]
    fn mark(&mut self, part: Part, start: usize, end: usize) {
        if let Some(slot) = self.marks.get_mut(self.mark_count) {
            *slot = Some(Mark { part, start, end });
        }
        self.mark_count += 1;
    }
}

impl<'a> Decoder<'a, '_> {
    /// Takes the row from `start` on, whose `pairs` pairs are at `it`, in one pass and returns its
    /// end, or declines and leaves no trace.
    #[inline]
    pub(super) fn stream_row(
        &mut self,
        start: usize,
        mut it: Reader<'a>,
        pairs: usize,
        levels: usize,
    ) -> Option<usize> {
        if levels < 2 {
            return None;
        }
        let mut row = Streamed::default();
        let is_read = (0..pairs).all(|_| self.stream_part(&mut it, &mut row).is_some());
        if !is_read
            || self.stream_early_fields(&mut row).is_none()
            || self.stream_commit(&row).is_none()
        {
            self.undo(&row);
            return None;
        }
        self.row_count += 1;
        self.report.accepted += 1;
        self.report.dropped_fields += row.filled.dropped;
        let is_learnt = self.templates.are_worth_a_look();
        self.templates.miss();
        if let (true, Some(index), []) = (is_learnt, row.table, row.raw.host) {
            let table = self.database.table_mut(index);
            if table.has_order() {
                // Without a template the next row takes this way again.
                let table = (index, table);
                let _ = self.templates.learn(self.body, table, start..it.at, &row.marks);
            }
        }
        Some(it.at)
    }

    #[cold]
    fn undo(&mut self, row: &Streamed<'a>) {
        if let Some(table) = row.table {
            self.database.table_mut(table).rollback_row();
        }
    }

    #[inline(always)]
    fn stream_part(&mut self, it: &mut Reader<'a>, row: &mut Streamed<'a>) -> Option<()> {
        let key = short_key(self.body, it)?;
        let at = it.at;
        match key {
            Key::M | Key::Name if row.raw.measurement.is_empty() => {
                if it.fixstr().is_none() {
                    it.token().ok()?;
                }
                row.raw.measurement = it.since(at);
            }
            Key::T | Key::Time if row.time.is_none() => {
                row.time = Some(match it.common_integer() {
                    Some(value) => precision::from_magnitude(value)?,
                    None => self.stream_time(it)?,
                });
                row.mark(Part::Time(key), at, it.at);
            }
            Key::H if row.raw.host.is_empty() => {
                if it.fixstr().is_none() {
                    it.token().ok()?;
                }
                row.raw.host = it.since(at);
            }
            Key::Tags if row.raw.tags.is_empty() => {
                if it.skip_fixstr_map().is_none() && it.skip(1).ok()? == Nesting::TooDeep {
                    return None;
                }
                row.raw.tags = it.since(at);
                row.mark(Part::Tags, at, it.at);
            }
            Key::Fields | Key::F if row.table.is_none() && row.early_fields.is_none() => {
                if row.raw.measurement.is_empty() {
                    row.early_fields = Some(Given { key, at });
                    if it.skip(1).ok()? == Nesting::TooDeep {
                        return None;
                    }
                } else {
                    self.stream_fields(it, key, row)?;
                }
                row.mark(Part::Fields(key), at, it.at);
            }
            _ => return None,
        }
        Some(())
    }

    /// Appends the fields at `it` to the table of the measurement, which came before them.
    #[inline(always)]
    fn stream_fields(
        &mut self,
        it: &mut Reader<'a>,
        key: Key,
        row: &mut Streamed<'a>,
    ) -> Option<()> {
        let table = self.stream_table(row.raw.measurement)?;
        row.table = Some(table);
        let table = self.database.table_mut(table);
        append_fields(table, self.body, it, key, &mut self.memo.text, &mut row.filled).ok()
    }

    /// Appends the fields that came before the measurement, if there were such.
    #[inline(always)]
    fn stream_early_fields(&mut self, row: &mut Streamed<'a>) -> Option<()> {
        let Some(Given { key, at }) = row.early_fields else { return Some(()) };
        if row.raw.measurement.is_empty() {
            return None;
        }
        self.stream_fields(&mut self.reader(at), key, row)
    }

    /// A time that is no common integer.
    #[inline(never)]
    fn stream_time(&self, it: &mut Reader<'a>) -> Option<Timestamp> {
        let at = it.at;
        let token = it.token().ok()?;
        time::from_token(&token, Key::T, at, self.context.received).ok()
    }

    /// The table of a row; the same measurement as before is not looked up.
    #[inline(always)]
    fn stream_table(&mut self, raw: &'a [u8]) -> Option<TableIndex> {
        match self.memo.measurement {
            Some((last, table)) if last == raw => Some(table),
            _ => self.stream_measurement(raw),
        }
    }

    #[inline(never)]
    fn stream_measurement(&mut self, raw: &'a [u8]) -> Option<TableIndex> {
        let token = Reader::new(raw, 0).token().ok()?;
        let given = Given { key: Key::M, at: 0 };
        let name = measurement_text(&token, given, &mut self.memo.text).ok()?;
        let table = self.database.table(name).ok()?;
        self.memo.measurement = Some((raw, table));
        Some(table)
    }

    #[inline(always)]
    fn stream_commit(&mut self, row: &Streamed<'a>) -> Option<()> {
        let table = row.table?;
        if row.filled.values == 0 {
            return None;
        }
        let mut series = SeriesIndex::NONE;
        if row.raw.has_tags() {
            let raw = row.raw.series(&mut self.memo.series);
            series = self.database.series_in(table, raw)?;
        }
        let table = self.database.table_mut(table);
        table.set_series(series);
        table.commit_row(row.time.unwrap_or(self.context.received)).ok()?;
        Some(())
    }

    /// Takes the row whose parts stand where `parts` says; `start` is its first byte.
    ///
    /// # Errors
    /// Why it is not a row; it left no trace.
    pub(super) fn row(&mut self, start: usize, parts: &Parts) -> Result<(), Stop> {
        let missing = |key| ItemError::Missing { key, at: start };
        let measurement = parts.measurement.ok_or_else(|| missing(Key::M))?;
        let fields = parts.fields.ok_or_else(|| missing(Key::Fields))?;
        let time = self.time(parts.time)?;
        let table = self.measurement(measurement)?;
        let raw =
            Raw { measurement: &[], host: self.raw(parts.host)?, tags: self.raw(parts.tags)? };
        let (filled, series) = self.append_row(table, parts, fields, time)?;
        if raw.has_tags() {
            let raw = raw.series(&mut self.memo.series);
            self.database.remember_series_in(table, raw, series);
        }
        self.row_count += 1;
        self.report.accepted += 1;
        self.report.dropped_fields += filled.dropped;
        Ok(())
    }

    /// Appends and commits a row of `table`.
    fn append_row(
        &mut self,
        table: TableIndex,
        parts: &Parts,
        fields: Given,
        time: Timestamp,
    ) -> Result<(Filled, SeriesIndex), Stop> {
        let table = self.database.table_mut(table);
        match fill(table, self.body, parts, fields, &mut self.memo.text) {
            Ok(filled) if filled.values > 0 => Ok((filled, table.commit_row(time)?)),
            result => {
                table.rollback_row();
                result?;
                Err(AppendError::NoFields.into())
            }
        }
    }

    /// The bytes of a part as on the wire.
    fn raw(&self, given: Option<Given>) -> Result<&'a [u8], Stop> {
        let Some(given) = given else { return Ok(&[]) };
        let mut it = self.reader(given.at);
        it.skip(0)?;
        Ok(it.since(given.at))
    }

    fn time(&self, given: Option<Given>) -> Result<Timestamp, Stop> {
        let received = self.context.received;
        let Some(given) = given else { return Ok(received) };
        let token = self.reader(given.at).token()?;
        Ok(time::from_token(&token, given.key, given.at, received)?)
    }

    /// The table of the measurement at `given`.
    ///
    /// # Errors
    /// No measurement, or a name that tables cannot have.
    pub(super) fn measurement(&mut self, given: Given) -> Result<TableIndex, Stop> {
        let token = self.reader(given.at).token()?;
        let name = measurement_text(&token, given, &mut self.memo.text)?;
        Ok(self.database.table(name)?)
    }
}

/// Appends tags and fields to the open row of `table`.
fn fill(
    table: &mut TableBuilder,
    body: Body<'_>,
    parts: &Parts,
    fields: Given,
    text: &mut String,
) -> Result<Filled, Stop> {
    let reader = |given: Given| Reader::new(body.bytes(), given.at);
    let mut host = String::new();
    if let Some(given) = parts.host {
        host_text(&reader(given).token()?, given, &mut host)?;
    }
    let host = (!host.is_empty()).then_some(&*host);
    if let Some(host) = host {
        table.append_tag(HOST, host)?;
    }
    if let Some(given) = parts.tags {
        append_tags(table, &mut reader(given), host, text)?;
    }
    let mut filled = Filled::default();
    append_fields(table, body, &mut reader(fields), fields.key, text, &mut filled)?;
    Ok(filled)
}

/// The name of a measurement; an integer `n` is `measurement_n`, as in Arc.
fn measurement_text<'t>(
    token: &Token<'t>,
    given: Given,
    text: &'t mut String,
) -> Result<&'t str, ItemError> {
    let Given { key, at } = given;
    text.clear();
    // Writing to a string does not fail.
    let _ = match *token {
        Token::Str(name) | Token::Bin(name) => return utf8(name, key.name().as_bytes(), at),
        Token::Int(number) => write!(text, "measurement_{number}"),
        Token::Unsigned(number) => write!(text, "measurement_{number}"),
        Token::Nil => return Err(ItemError::Missing { key, at }),
        _ => return Err(ItemError::WrongValue { key, found: token.found(), at }),
    };
    Ok(text)
}

/// Writes the value of tag `host`; nothing for nil. An integer `n` is `host_n`, as in Arc.
fn host_text(token: &Token<'_>, given: Given, text: &mut String) -> Result<(), ItemError> {
    let Given { key, at } = given;
    // Writing to a string does not fail.
    let _ = match *token {
        Token::Str(name) | Token::Bin(name) => {
            text.push_str(utf8(name, key.name().as_bytes(), at)?);
            Ok(())
        }
        Token::Int(number) => write!(text, "host_{number}"),
        Token::Unsigned(number) => write!(text, "host_{number}"),
        Token::Nil => Ok(()),
        _ => return Err(ItemError::WrongValue { key, found: token.found(), at }),
    };
    Ok(())
}
