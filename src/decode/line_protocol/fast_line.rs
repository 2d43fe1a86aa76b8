//! A line as it was expected: known head, foreseen keys, values of the columns' kinds.
//!
//! `None` anywhere means "not expected"; [`Decoder::fast_line`] undoes the row then and the line is
//! read by the whole grammar. Accepting must therefore be right, declining need not be.
//!
//! The end of the line is not looked for: a line that is accepted ends at the first line feed
//! behind its last value, because every backslash was read by the rule of InfluxDB 3 and every
//! quote opened or closed a string, which is what `line_end` goes by.

use super::escape::{Dialect, Place, is_escaped};
use super::names::Names;
use super::token::{Span, boolean, ends_key, ends_value, first_comma, name_end};
use super::{Decoder, line_end};
use crate::decode::number;
use crate::gather::{ColumnIndex, Database, SeriesIndex, TableBuilder, TableIndex};
use crate::schema::ColumnKind;
use crate::timestamp::Timestamp;

impl Decoder<'_> {
    /// Appends the line at `start` and returns where the next one starts.
    #[inline]
    pub(super) fn fast_line(&mut self, start: usize, database: &mut Database) -> Option<usize> {
        let foreseen = self.foreseen_head(start, database);
        let (head_end, known) = if let Some((end, table, series)) = foreseen {
            (end, Ok((table, series)))
        } else {
            let end = self.head_end(start)?;
            (end, database.series(self.bytes.get(start..end)?))
        };
        let table = match known {
            Ok((table, _)) => table,
            Err(_) => self.known_table(start, head_end, database)?,
        };
        let builder = database.table_mut(table);
        let tagged = match known {
            Ok((_, series)) => {
                builder.set_series(series);
                Some(())
            }
            Err(_) => self.tags(start, head_end, builder),
        };
        let read = tagged.and_then(|()| self.fields(head_end, builder));
        let end = read.and_then(|at| self.line_end(start, at));
        let Some((time, next)) = end else {
            builder.rollback_row();
            return None;
        };
        self.report.has_received_times |= time.is_none();
        let series = builder.commit_row(time.unwrap_or(self.received)).ok()?;
        if let Err(unknown) = known {
            database.remember_series(self.bytes.get(start..head_end)?, unknown, table, series);
        }
        if self.may_span_lines {
            self.count_lines(start, next.min(self.bytes.len()));
            self.may_span_lines = self.has_backslash;
        } else {
            self.line += 1;
        }
        Some(next)
    }

    /// The head that followed the one before, the last time, if it is there again: where it ends,
    /// and what it means. The same bytes were read as a head before, up to a space that ended it.
    #[inline]
    fn foreseen_head(
        &self,
        start: usize,
        database: &mut Database,
    ) -> Option<(usize, TableIndex, SeriesIndex)> {
        let (table, series, len) = database.foresee_series(self.bytes.get(start..)?)?;
        let end = start + len;
        (self.bytes.get(end) == Some(&b' ')).then_some((end, table, series))
    }

    /// Position of the space behind measurement and tags.
    #[inline]
    fn head_end(&self, start: usize) -> Option<usize> {
        let mut from = start;
        loop {
            let at = from + memchr::memchr2(b' ', b'\n', self.bytes.get(from..)?)?;
            if !self.has_backslash || !is_escaped(self.bytes, start, at) {
                return (self.bytes.get(at) == Some(&b' ')).then_some(at);
            }
            from = at + 1;
        }
    }

    /// The table of a head that was not met before, if there is one.
    #[inline(never)]
    fn known_table(&mut self, start: usize, end: usize, database: &Database) -> Option<TableIndex> {
        let head = self.bytes.get(..end)?;
        let name = Span { start, end: name_end(head, start, Dialect::V3, ends_value) };
        self.text(start, end)?;
        database.known_table(self.names().plain(name, Place::Measurement))
    }

    /// Appends the tags of the head `start..end`; all of them have values.
    #[inline(never)]
    fn tags(&mut self, start: usize, end: usize, builder: &mut TableBuilder) -> Option<()> {
        let head = self.bytes.get(..end)?;
        let mut at = name_end(head, start, Dialect::V3, ends_value);
        let mut place = 0;
        while at < end {
            let raw = head.get(at..)?.strip_prefix(b",")?;
            // What stood there before had no backslash: a comma behind it is not protected.
            let ends = |rest: &[u8]| rest.first().is_none_or(|byte| *byte == b',');
            if let Some(len) = builder.repeat_tag(place, raw, ends) {
                at += 1 + len;
                place += 1;
                continue;
            }
            if let Some(value_end) = self.foreseen_tag(at, end, place, builder) {
                at = value_end;
                place += 1;
                continue;
            }
            let key = Span { start: at + 1, end: name_end(head, at + 1, Dialect::V3, ends_key) };
            let value_start = key.end + 1;
            let value_end = name_end(head, value_start, Dialect::V3, ends_value);
            let value = Span { start: value_start, end: value_end };
            let is_tag = head.get(at) == Some(&b',') && head.get(key.end) == Some(&b'=');
            if !is_tag || key.is_empty() || value.is_empty() {
                return None;
            }
            let mut names = self.names();
            let (name, value) = names.tag(key, value);
            let column = builder.append_tag(name, value).ok()?;
            builder.learn_tag(place, head.get(key.start..value_start)?, column);
            at = value_end;
            place += 1;
        }
        Some(())
    }

    /// Appends the tag whose comma is at `at`, if its key is the one that is foreseen at `place`,
    /// and returns where its value ends. `None`: nothing was appended.
    fn foreseen_tag(
        &mut self,
        at: usize,
        end: usize,
        place: usize,
        builder: &mut TableBuilder,
    ) -> Option<usize> {
        let (column, key_len) = builder.foresee_tag(place, self.body.window(at + 1)?)?;
        let value_start = at + 1 + key_len;
        if value_start >= end {
            return None;
        }
        let value_end = self.tag_value_end(value_start, end)?;
        let value = Span { start: value_start, end: value_end };
        if value.is_empty() {
            return None;
        }
        let raw = self.bytes.get(at + 1..value_end)?;
        let is_plain = !self.has_backslash || memchr::memchr(b'\\', raw).is_none();
        let raw = is_plain.then_some(raw);
        let mut names = self.names();
        builder.append_foreseen_tag(place, column, raw, names.plain(value, Place::Key)).ok()?;
        Some(value_end)
    }

    /// Where the tag value at `start` ends, in a head that ends at `end`.
    #[inline]
    fn tag_value_end(&self, start: usize, end: usize) -> Option<usize> {
        if self.has_backslash {
            return Some(name_end(self.bytes.get(..end)?, start, Dialect::V3, ends_value));
        }
        // Nothing is escaped, so the head has no space, and a comma ends the value.
        Some(first_comma(self.body.padded(), start).min(end))
    }

    fn names(&mut self) -> Names<'_, '_> {
        let Self { text, text_start, scratch, has_backslash, .. } = self;
        let (text_start, has_backslash) = (*text_start, *has_backslash);
        Names { text, text_start, scratch, dialect: Dialect::V3, has_backslash }
    }

    /// Appends the fields behind `head_end` and returns the position behind the last one.
    #[inline]
    fn fields(&mut self, head_end: usize, builder: &mut TableBuilder) -> Option<usize> {
        let mut at = self.skip_spaces(head_end);
        loop {
            let window = self.body.window(at)?;
            let mut foreseen = builder.predict(window);
            if foreseen.is_none()
                && let Some(equals) = memchr::memchr(b'=', window)
            {
                foreseen = builder.find_key(window, equals + 1);
            }
            let value_end = if let Some(key) = foreseen {
                self.foreseen_value(at + key.key_len, key.column, key.kind, builder)?
            } else {
                let (column, value_at) = self.key(at, builder)?;
                self.value(value_at, column, builder)?
            };
            if self.byte(value_end) != Some(b',') {
                return Some(value_end);
            }
            at = value_end + 1;
        }
    }

    /// The column of a key that was not foreseen, and the position of its value.
    #[inline(never)]
    fn key(&mut self, at: usize, builder: &mut TableBuilder) -> Option<(ColumnIndex, usize)> {
        let end = name_end(self.bytes, at, Dialect::V3, ends_key);
        let raw = self.bytes.get(at..=end)?;
        if end == at || self.byte(end) != Some(b'=') {
            return None;
        }
        self.text(at, end)?;
        let column = builder.field(self.names().plain(Span { start: at, end }, Place::Key)).ok()?;
        builder.learn(raw, column);
        Some((column, end + 1))
    }

    /// Appends the value at `at`, which most likely is of the column's `kind`.
    #[inline]
    fn foreseen_value(
        &mut self,
        at: usize,
        column: ColumnIndex,
        kind: ColumnKind,
        builder: &mut TableBuilder,
    ) -> Option<usize> {
        let padded = self.body.padded();
        match kind {
            ColumnKind::I64 => {
                if let Some((value, next)) = number::short_integer(padded, at, b'i') {
                    builder.append_i64(column, value).ok()?;
                    return Some(next);
                }
                if let Ok((value, next)) = number::signed(padded, at)
                    && self.byte(next) == Some(b'i')
                {
                    builder.append_i64(column, value).ok()?;
                    return Some(next + 1);
                }
            }
            ColumnKind::F64 => {
                if let Ok((value, next)) = number::float(padded, at)
                    && !matches!(self.byte(next), Some(b'i' | b'u'))
                {
                    builder.append_f64(column, value).ok()?;
                    return Some(next);
                }
            }
            _ => {}
        }
        self.value(at, column, builder)
    }

    /// Appends the value at `at`, whatever it is, and returns the position behind it.
    #[inline(never)]
    fn value(
        &mut self,
        at: usize,
        column: ColumnIndex,
        builder: &mut TableBuilder,
    ) -> Option<usize> {
        let padded = self.body.padded();
        match self.byte(at)? {
            b'"' => self.string(at + 1, column, builder),
            b'0'..=b'9' | b'-' | b'.' => {
                if let Ok((value, next)) = number::signed(padded, at)
                    && self.byte(next) == Some(b'i')
                {
                    builder.append_i64(column, value).ok()?;
                    return Some(next + 1);
                }
                if let Ok((value, next)) = number::unsigned(padded, at)
                    && self.byte(next) == Some(b'u')
                {
                    builder.append_u64(column, value).ok()?;
                    return Some(next + 1);
                }
                let (value, next) = number::float(padded, at).ok()?;
                builder.append_f64(column, value).ok()?;
                Some(next)
            }
            b't' | b'T' | b'f' | b'F' => {
                let rest = self.bytes.get(at..)?;
                let len = rest.iter().take(6).take_while(|it| it.is_ascii_alphabetic()).count();
                builder.append_bool(column, boolean(rest.get(..len)?)?).ok()?;
                Some(at + len)
            }
            _ => None,
        }
    }

    /// Appends the string that starts at `at`, and returns the position behind its quote.
    #[inline]
    fn string(
        &mut self,
        at: usize,
        column: ColumnIndex,
        builder: &mut TableBuilder,
    ) -> Option<usize> {
        let end = line_end::string_end(self.bytes, at, self.may_strings_span_lines())?;
        self.may_span_lines = true;
        self.text(at, end)?;
        let string = Span { start: at, end };
        builder.append_str(column, self.names().plain(string, Place::String)).ok()?;
        Some(end + 1)
    }

    /// The time behind the fields, if any, and where the next line starts; nothing else may be
    /// there.
    #[inline]
    fn line_end(&self, start: usize, fields_end: usize) -> Option<(Option<Timestamp>, usize)> {
        let mut at = fields_end;
        let mut time = None;
        if self.byte(at) == Some(b' ') {
            at = self.skip_spaces(at);
            if matches!(self.byte(at), Some(b'0'..=b'9' | b'-')) {
                let (value, next) = number::signed(self.body.padded(), at).ok()?;
                time = Some(self.context.precision.timestamp(value)?);
                at = self.skip_spaces(next);
            }
        }
        let next = match self.byte(at) {
            Some(b'\n') => at + 1,
            Some(b'\r') if matches!(self.bytes.get(at + 1), None | Some(b'\n')) => at + 2,
            _ if at == self.bytes.len() => at,
            _ => return None,
        };
        (at - start <= self.context.limits.line_bytes_max).then_some((time, next))
    }

    #[inline]
    fn byte(&self, at: usize) -> Option<u8> {
        self.body.padded().get(at).copied()
    }

    #[inline]
    fn skip_spaces(&self, mut at: usize) -> usize {
        while self.byte(at) == Some(b' ') {
            at += 1;
        }
        at
    }
}
