//! Rows like one before: the bytes between the values are compared, not read.
//!
//! ```text
//! 84 a1 'm' a3 'cpu' a1 't' d3 | 00 05 .. | a4 'tags' | 82 a4 'host' .. | a6 'fields' | 83 ..
//! literal                        time       literal     tags              literal       fields
//! ```
//!
//! A template is learnt from a row that [`Decoder::stream_row`] took. The literals hold the map
//! header, the measurement and the keys, so where they match again, the row has the same pairs and
//! belongs to the same table. Every row of a body is first compared with the template that
//! followed the last one before; whatever differs undoes the row and is read in full.

use std::ops::Range;

use super::error::Key;
use super::item::Decoder;
use super::skip::Nesting;
use super::time;
use super::token::{Reader, Token};
use super::value::{Filled, append_fields, append_next};
use crate::decode::cursor::Body;
use crate::decode::precision;
use crate::gather::{ColumnIndex, Literal, SeriesIndex, TableBuilder, TableIndex};

/// Templates kept for a body: measurements, times the shapes they come in.
const TEMPLATES_MAX: usize = 16;

/// Parts a row can have: time, tags and fields.
pub(super) const MARKS_MAX: usize = 3;

/// What stands behind a literal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Part {
    /// The fields, under this key; read one by one by [`append_fields`].
    Fields(Key),
    /// The fields as the template knows them: keys to columns.
    KnownFields,
    /// The map of tags.
    Tags,
    /// The eight bytes of a timestamp of 30 bits of nanoseconds and 34 bits of seconds.
    TimeExtension,
    /// The eight bytes of a signed integer.
    TimeSigned,
}

/// A part of a row, and where it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    part: Part,
    start: usize,
    end: usize,
}

impl Mark {
    /// The part that ends at `end`; `start` is its first byte, the marker of a number included.
    /// `None` for a time of no fixed width.
    pub(super) fn new(part: Key, body: Body<'_>, start: usize, end: usize) -> Option<Self> {
        let (part, start) = match (part, body.bytes().get(start..start + 2)?) {
            (Key::Tags, _) => (Part::Tags, start),
            (Key::T | Key::Time, [0xd3, _]) => (Part::TimeSigned, start + 1),
            (Key::T | Key::Time, [0xd7, 0xff]) => (Part::TimeExtension, start + 2),
            (Key::Fields | Key::F, _) => (Part::Fields(part), start),
            _ => return None,
        };
        Some(Self { part, start, end })
    }
}

/// A row's literals and parts in their order.
#[derive(Debug)]
struct Template {
    table: TableIndex,
    steps: Vec<(Literal, Part)>,
    /// The keys of [`Part::KnownFields`] in their order, and where their values go.
    fields: Vec<(Literal, ColumnIndex)>,
    /// The template of the row after this one, the last time.
    next: usize,
}

/// The templates of a body.
#[derive(Debug, Default)]
pub(super) struct Templates {
    all: Vec<Template>,
    /// The template of the last row.
    last: usize,
    /// Bytes of the tags that were not foreseen last, and whether those before had as many.
    tags_len: usize,
    is_length_kept: bool,
}

impl Templates {
    /// Learns from the row of `table` that stands at `row`. `None`: it is like none that a
    /// template can describe, or there is no room for another.
    #[cold]
    pub(super) fn learn(
        &mut self,
        body: Body<'_>,
        table: (TableIndex, &mut TableBuilder),
        row: Range<usize>,
        marks: &[Option<Mark>],
    ) -> Option<()> {
        let (table, builder) = table;
        let mut from = row.start;
        let mut steps = Vec::with_capacity(marks.len());
        let mut fields = Vec::new();
        for mark in marks.iter().flatten() {
            let mut part = mark.part;
            let mut start = mark.start;
            if let Part::Fields(_) = part
                && let Some((known, first)) = known_fields(body, builder, start..mark.end)
            {
                (part, fields, start) = (Part::KnownFields, known, first);
            }
            steps.push((Literal::new(body.bytes().get(from..start)?)?, part));
            from = mark.end;
        }
        if from != row.end {
            return None;
        }
        let known = self
            .all
            .iter()
            .position(|it| it.table == table && it.steps == steps && it.fields == fields);
        let at = match known {
            Some(at) => at,
            None if self.all.len() < TEMPLATES_MAX => {
                self.all.push(Template { table, steps, fields, next: 0 });
                self.all.len() - 1
            }
            None => return None,
        };
        if let Some(before) = self.all.get_mut(self.last) {
            before.next = at;
        }
        self.last = at;
        Some(())
    }
}

/// Appends the values behind the keys of `fields`, and says how many are not nil. `None`: another
/// key, or a value that its column cannot hold.
///
/// The commonest values go straight to their columns: an error is large, and carrying one through
/// the loop costs more than the value.
#[inline(always)]
fn append_known(
    table: &mut TableBuilder,
    fields: &[(Literal, ColumnIndex)],
    body: Body<'_>,
    it: &mut Reader<'_>,
) -> Option<usize> {
    let mut count = 0;
    for (key, column) in fields {
        let key_at = it.at;
        if !key.begins(body.window(key_at)?) {
            return None;
        }
        it.at += key.len();
        if let Some(value) = it.float_64() {
            table.append_f64(*column, value).is_ok().then_some(())?;
            count += 1;
        } else if let Some(value) = it.common_integer() {
            table.append_i64(*column, value).is_ok().then_some(())?;
            count += 1;
        } else {
            count += usize::from(append_next(table, *column, it, body, key_at).ok()?);
        }
    }
    Some(count)
}

/// The keys and columns of the map of fields at `at`, and the position of its first key. `None`
/// when a key is too long, or a field was not stored.
fn known_fields(
    body: Body<'_>,
    table: &mut TableBuilder,
    at: Range<usize>,
) -> Option<(Vec<(Literal, ColumnIndex)>, usize)> {
    let mut it = Reader::new(body.bytes().get(..at.end)?, at.start);
    let Token::Map(pairs) = it.token().ok()? else { return None };
    let first = it.at;
    let mut fields = Vec::with_capacity(pairs);
    for _ in 0..pairs {
        let start = it.at;
        let (Token::Str(name) | Token::Bin(name)) = it.token().ok()? else { return None };
        let key = Literal::new(it.since(start))?;
        if it.token().ok()? == Token::Nil {
            return None;
        }
        fields.push((key, table.field(std::str::from_utf8(name).ok()?).ok()?));
    }
    Some((fields, first))
}

impl<'a> Decoder<'a, '_> {
    /// Takes the row at `start` if it is like the one that is foreseen, and returns its end.
    /// `None`: it is not, and left no trace.
    #[inline(always)]
    pub(super) fn foreseen_row(&mut self, start: usize) -> Option<usize> {
        let next = self.templates.all.get(self.templates.last)?.next;
        let first = &self.templates.all.get(next)?.steps.first()?.0;
        if !first.begins(self.body.window(start)?) {
            return None;
        }
        let templates = std::mem::take(&mut self.templates.all);
        let end = templates.get(next).and_then(|template| {
            let end = self.row_like(template, start);
            if end.is_none() {
                self.database.table_mut(template.table).rollback_row();
            }
            end
        });
        self.templates.all = templates;
        self.templates.last = next;
        end
    }

    #[inline(always)]
    fn row_like(&mut self, template: &Template, start: usize) -> Option<usize> {
        let table = template.table;
        let mut it = Reader::new(self.body.bytes(), start);
        let mut time = self.context.received;
        let mut series = SeriesIndex::NONE;
        let mut filled = Filled::default();
        for (index, (literal, part)) in template.steps.iter().enumerate() {
            // The first literal is how the template was foreseen.
            if index > 0 && !literal.begins(self.body.window(it.at)?) {
                return None;
            }
            it.at += literal.len();
            match *part {
                Part::TimeSigned => {
                    time = precision::from_magnitude(i64::from_be_bytes(it.eight()?))?;
                }
                Part::TimeExtension => time = time::from_extension(&it.eight()?)?,
                Part::Tags => series = self.series_of(table, &mut it)?,
                Part::KnownFields => {
                    let table = self.database.table_mut(table);
                    let body = self.body;
                    filled.values = append_known(table, &template.fields, body, &mut it)?;
                }
                Part::Fields(key) => {
                    let table = self.database.table_mut(table);
                    let text = &mut self.memo.text;
                    append_fields(table, self.body, &mut it, key, text, &mut filled).ok()?;
                }
            }
        }
        if filled.values == 0 {
            return None;
        }
        let table = self.database.table_mut(table);
        table.set_series(series);
        table.commit_row(time).ok()?;
        self.row_count += 1;
        self.report.accepted += 1;
        self.report.dropped_fields += filled.dropped;
        Some(it.at)
    }

    /// The series of the tags at `it`, met before in `table`.
    #[inline(always)]
    fn series_of(&mut self, table: TableIndex, it: &mut Reader<'a>) -> Option<SeriesIndex> {
        let rest = self.body.bytes().get(it.at..)?;
        if let Some((series, len)) = self.database.foresee_series_in(table, rest) {
            it.at += len;
            return Some(series);
        }
        // Maps of one length are the rule where hosts have numbers. Bytes that were a whole map
        // once are one wherever they stand, so a hit makes sure of the length.
        let length = self.templates.tags_len;
        let same_length = rest.get(..length).filter(|_| self.templates.is_length_kept);
        if let Some(series) = same_length.and_then(|tags| self.database.series_in(table, tags)) {
            it.at += length;
            return Some(series);
        }
        let start = it.at;
        if it.skip_fixstr_map().is_none() && it.skip(1).ok()? == Nesting::TooDeep {
            return None;
        }
        self.templates.is_length_kept = length == it.at - start;
        self.templates.tags_len = it.at - start;
        self.database.series_in(table, it.since(start))
    }
}
