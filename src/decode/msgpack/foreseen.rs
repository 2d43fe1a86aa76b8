//! Rows like one before: the bytes between the values are compared, not read.
//!
//! Every row is first compared with the template that followed the last one before; whatever
//! differs undoes the row, and it is read in full.

use super::error::Key;
use super::item::Decoder;
use super::skip::Nesting;
use super::template::{Clock, Hole, Part, Template, foresee};
use super::time;
use super::token::Reader;
use super::value::{Filled, append_fields, append_next};
use crate::decode::cursor::Body;
use crate::decode::precision;
use crate::gather::{ColumnIndex, Literal, SeriesIndex, TableBuilder, TableIndex};
use crate::timestamp::Timestamp;

/// Appends the values of `holes` to the open row of `table`; `None`: a column cannot hold one.
#[inline(never)]
fn append_holes(table: &mut TableBuilder, holes: &[Hole], stretch: &[u8]) -> Option<()> {
    for Hole { at, column, is_float } in holes {
        let value = *stretch.get(*at..)?.first_chunk::<8>()?;
        let appended = if *is_float {
            table.append_f64(*column, f64::from_be_bytes(value))
        } else {
            table.append_i64(*column, i64::from_be_bytes(value))
        };
        appended.is_ok().then_some(())?;
    }
    Some(())
}

/// Appends the values behind the keys of `fields`, and says how many are not nil. `None`: another
/// key, or a value that its column cannot hold.
///
/// The commonest values go straight to their columns: an error is large, and carrying one through
/// the loop costs more than the value.
#[inline(never)]
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

/// Appends the fields at `it`, which stand under `key`.
#[inline(never)]
fn append_rest(
    table: &mut TableBuilder,
    body: Body<'_>,
    it: &mut Reader<'_>,
    key: Key,
    text: &mut String,
) -> Option<Filled> {
    let mut filled = Filled::default();
    append_fields(table, body, it, key, text, &mut filled).ok()?;
    Some(filled)
}

impl<'a> Decoder<'a, '_> {
    /// Takes the rows at `it`, at most `most`, as long as each is like the one that is foreseen,
    /// and says how many they were.
    ///
    /// Not inlined: the loop is the whole function, and has all registers.
    #[inline(never)]
    pub(super) fn foreseen_rows(&mut self, it: &mut Reader<'a>, most: usize) -> usize {
        let mut templates = std::mem::take(&mut self.templates.all);
        let mut last = self.templates.last;
        let mut taken = 0;
        while taken < most
            && let Some(at) = foresee(&mut templates, last, self.body, it)
            && let Some(template) = templates.get(at)
        {
            let Some(end) = self.row_like(template, *it) else {
                self.database.table_mut(template.table).rollback_row();
                break;
            };
            self.item_at = it.at;
            it.at = end;
            last = at;
            taken += 1;
        }
        self.templates.all = templates;
        self.templates.last = last;
        self.row_count += taken as u64;
        self.report.accepted += taken as u64;
        taken
    }

    /// Takes the row at `it`, which begins like `template`, and returns its end. `None`: it does
    /// not go on like that; what was appended is for the caller to undo.
    #[inline(always)]
    fn row_like(&mut self, template: &Template, mut it: Reader<'a>) -> Option<usize> {
        let body = self.body;
        let mut time = self.context.received;
        let mut series = SeriesIndex::NONE;
        let mut filled = Filled::default();
        let mut stretches = template.stretches.iter();
        let mut next = stretches.next();
        while let Some(stretch) = next {
            let bytes = it.bytes.get(it.at..it.at + stretch.len)?;
            if let Some((at, clock)) = stretch.time {
                let value = bytes.get(at..)?.first_chunk::<8>()?;
                time = match clock {
                    Clock::Integer => precision::from_magnitude(i64::from_be_bytes(*value))?,
                    Clock::Extension => time::from_extension(value)?,
                };
            }
            if !stretch.holes.is_empty() {
                let table = self.database.table_mut(template.table);
                append_holes(table, &stretch.holes, bytes)?;
                filled.values += stretch.holes.len();
            }
            it.at += stretch.len;
            match stretch.behind {
                None => {}
                Some(Part::Tags) => series = self.series_of(template.table, &mut it)?,
                Some(Part::Time(key)) => time = self.rare_time(key, &mut it)?,
                Some(Part::KnownFields) => {
                    let table = self.database.table_mut(template.table);
                    filled.values = append_known(table, &template.fields, body, &mut it)?;
                }
                Some(Part::Fields(key)) => {
                    let table = self.database.table_mut(template.table);
                    filled = append_rest(table, body, &mut it, key, &mut self.memo.text)?;
                }
            }
            next = stretches.next();
            if next.is_some_and(|stretch| !stretch.is_at(body, &it)) {
                return None;
            }
        }
        if filled.values == 0 {
            return None;
        }
        let table = self.database.table_mut(template.table);
        table.set_series(series);
        table.commit_row(time).ok()?;
        self.report.dropped_fields += filled.dropped;
        Some(it.at)
    }

    /// The time at `it`, under `key`, of any width.
    #[cold]
    fn rare_time(&self, key: Key, it: &mut Reader<'a>) -> Option<Timestamp> {
        let at = it.at;
        let token = it.token().ok()?;
        time::from_token(&token, key, at, self.context.received).ok()
    }

    /// The series of the tags at `it`, met before in `table`.
    #[inline(always)]
    fn series_of(&mut self, table: TableIndex, it: &mut Reader<'a>) -> Option<SeriesIndex> {
        let rest = it.bytes.get(it.at..)?;
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
        self.series_of_any_length(table, it)
    }

    /// As [`Self::series_of`], of tags whose end is to be found.
    #[inline(never)]
    fn series_of_any_length(
        &mut self,
        table: TableIndex,
        it: &mut Reader<'a>,
    ) -> Option<SeriesIndex> {
        let start = it.at;
        if it.skip_fixstr_map().is_none() && it.skip(1).ok()? == Nesting::TooDeep {
            return None;
        }
        let length = it.at - start;
        self.templates.is_length_kept = length == self.templates.tags_len;
        self.templates.tags_len = length;
        self.database.series_in(table, it.since(start))
    }
}
