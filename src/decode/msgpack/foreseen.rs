//! Rows like one before: the bytes between the values are compared, not read.
//!
//! Every row is first compared with the template that followed the last one before. Where all
//! values stand in holes, the rows that are alike are compared first and appended together, column
//! by column; whatever differs is undone, and read in full.

use super::error::Key;
use super::item::Decoder;
use super::skip::Nesting;
use super::template::{Clock, Hole, Part, Stretch, Template, foresee};
use super::time;
use super::token::Reader;
use super::value::{Filled, append_fields, append_next};
use crate::decode::cursor::Body;
use crate::decode::precision;
use crate::gather::{ColumnIndex, Literal, SeriesIndex, TableBuilder, TableIndex};
use crate::timestamp::Timestamp;

/// Rows that are appended together, at most: their bytes are still in the nearest cache then.
const RUN_ROWS_MAX: usize = 128;

/// Rows that are appended together, at least: it costs a look at every column of the table.
const RUN_ROWS_MIN: usize = 16;

/// A row that was compared with a template.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    start: usize,
    /// Where the stretch with the holes begins.
    holes_at: usize,
    time: Timestamp,
    series: SeriesIndex,
}

/// Appends `rows`, whose values stand in `holes`, and says how many they were: less than all when
/// a column cannot hold a value of the next one.
#[inline(never)]
fn append_rows(table: &mut TableBuilder, holes: &[Hole], rows: &[Row], bytes: &[u8]) -> usize {
    if rows.len() >= RUN_ROWS_MIN {
        if append_run(table, holes, rows, bytes).is_some() {
            return rows.len();
        }
        table.rollback_row();
    }
    for (taken, row) in rows.iter().enumerate() {
        if append_row(table, holes, row, bytes).is_none() {
            table.rollback_row();
            return taken;
        }
    }
    rows.len()
}

/// The eight bytes of `hole` in `row`.
#[inline(always)]
fn value(bytes: &[u8], row: &Row, hole: &Hole) -> Option<[u8; 8]> {
    bytes.get(row.holes_at + hole.at..)?.first_chunk::<8>().copied()
}

/// Appends `rows` column by column. `None`: a column cannot hold a value, or has another kind than
/// it; what was appended is for the caller to undo.
fn append_run(table: &mut TableBuilder, holes: &[Hole], rows: &[Row], bytes: &[u8]) -> Option<()> {
    for hole in holes {
        // They were compared, so they are there.
        let values = rows.iter().map(|row| value(bytes, row, hole).unwrap_or_default());
        if hole.is_float {
            table.run_f64(hole.column)?.extend(values.map(f64::from_be_bytes));
        } else {
            table.run_i64(hole.column)?.extend(values.map(i64::from_be_bytes));
        }
    }
    let times = table.run_times();
    for row in rows {
        times.push(row.time);
    }
    if rows.iter().any(|row| row.series != SeriesIndex::NONE) {
        table.run_series().extend(rows.iter().map(|row| row.series));
    }
    table.commit_rows(rows.len()).ok()
}

/// Appends one row; `None` as for [`append_run`].
fn append_row(table: &mut TableBuilder, holes: &[Hole], row: &Row, bytes: &[u8]) -> Option<()> {
    for hole in holes {
        let value = value(bytes, row, hole)?;
        let appended = if hole.is_float {
            table.append_f64(hole.column, f64::from_be_bytes(value))
        } else {
            table.append_i64(hole.column, i64::from_be_bytes(value))
        };
        appended.is_ok().then_some(())?;
    }
    table.set_series(row.series);
    table.commit_row(row.time).ok()?;
    Some(())
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

impl<'a> Decoder<'a, '_> {
    /// Takes the rows at `it`, at most `most`, as long as each is like the one that is foreseen,
    /// and says how many they were.
    ///
    /// Not inlined: the loop is the whole function, and has all registers.
    #[inline(never)]
    pub(super) fn foreseen_rows(&mut self, it: &mut Reader<'a>, most: usize) -> usize {
        if !self.templates.are_worth_a_look() {
            return 0;
        }
        let mut templates = std::mem::take(&mut self.templates.all);
        let mut last = self.templates.last;
        let mut taken = 0;
        while taken < most
            && let Some(at) = foresee(&mut templates, last, self.body, it)
            && let Some(template) = templates.get(at)
        {
            let most = if template.next == at { most - taken } else { 1 };
            let (rows, is_refused) = match &template.holes {
                Some(holes) => self.rows_like(template, holes, it, most),
                None => (self.row_like(template, it), false),
            };
            if is_refused && let Some(template) = templates.get_mut(at) {
                // Or the rows behind the next refused one would be compared in vain again.
                template.loosen();
            }
            if rows == 0 {
                break;
            }
            last = at;
            taken += rows;
        }
        self.templates.all = templates;
        self.templates.last = last;
        if taken > 0 {
            self.templates.hit(taken);
        }
        self.row_count += taken as u64;
        self.report.accepted += taken as u64;
        taken
    }

    /// Takes rows at `it`, at most `most`, whose values stand in `holes`, and says how many, and
    /// whether the next one was refused by a column.
    #[inline(always)]
    fn rows_like(
        &mut self,
        template: &Template,
        holes: &[Hole],
        it: &mut Reader<'a>,
        most: usize,
    ) -> (usize, bool) {
        let mut rows = std::mem::take(&mut self.rows);
        rows.clear();
        while rows.len() < most.min(RUN_ROWS_MAX)
            && let Some((row, end)) = self.compare(template, *it)
        {
            rows.push(row);
            it.at = end;
        }
        let table = self.database.table_mut(template.table);
        let taken = append_rows(table, holes, &rows, it.bytes);
        let refused = rows.get(taken).map(|row| row.start);
        it.at = refused.unwrap_or(it.at);
        if let Some(row) = rows.get(..taken).and_then(<[Row]>::last) {
            self.item_at = row.start;
        }
        self.rows = rows;
        (taken, refused.is_some())
    }

    /// The row at `it`, if it is like `template`, and its end.
    #[inline(always)]
    fn compare(&mut self, template: &Template, mut it: Reader<'a>) -> Option<(Row, usize)> {
        let mut row = self.unread(&it);
        for stretch in &template.stretches {
            self.read(template.table, stretch, &mut it, &mut row)?;
        }
        Some((row, it.at))
    }

    /// A row at `it` of which nothing was read.
    #[inline(always)]
    fn unread(&self, it: &Reader<'a>) -> Row {
        let time = self.context.received;
        Row { start: it.at, holes_at: it.at, time, series: SeriesIndex::NONE }
    }

    /// Moves behind `stretch` and the time or the tags that follow. `None`: it is not there.
    #[inline(always)]
    fn read(
        &mut self,
        table: TableIndex,
        stretch: &Stretch,
        it: &mut Reader<'a>,
        row: &mut Row,
    ) -> Option<()> {
        if !stretch.is_at(self.body, it) {
            return None;
        }
        if let Some((at, clock)) = stretch.time {
            let value = it.bytes.get(it.at + at..)?.first_chunk::<8>()?;
            row.time = match clock {
                Clock::Integer => precision::from_magnitude(i64::from_be_bytes(*value))?,
                Clock::Extension => time::from_extension(value)?,
            };
        }
        if stretch.has_holes {
            row.holes_at = it.at;
        }
        it.at += stretch.len;
        match stretch.behind {
            Some(Part::Tags) => row.series = self.series_of(table, it)?,
            Some(Part::Time(key)) => row.time = self.rare_time(key, it)?,
            _ => {}
        }
        Some(())
    }

    /// Takes the row at `it`, if it is like `template`, and says how many that is: one or none.
    #[inline(never)]
    fn row_like(&mut self, template: &Template, it: &mut Reader<'a>) -> usize {
        let start = it.at;
        let is_taken = self.append_like(template, it).is_some();
        if is_taken {
            self.item_at = start;
        } else {
            it.at = start;
            self.database.table_mut(template.table).rollback_row();
        }
        usize::from(is_taken)
    }

    /// Appends the row at `it`, like `template`, and moves behind it. `None`: it is not; what was
    /// appended is for the caller to undo.
    #[inline(always)]
    fn append_like(&mut self, template: &Template, it: &mut Reader<'a>) -> Option<()> {
        let body = self.body;
        let mut row = self.unread(it);
        let mut filled = Filled::default();
        for stretch in &template.stretches {
            self.read(template.table, stretch, it, &mut row)?;
            match stretch.behind {
                Some(Part::KnownFields) => {
                    let table = self.database.table_mut(template.table);
                    filled.values = append_known(table, &template.fields, body, it)?;
                }
                Some(Part::Fields(key)) => {
                    let table = self.database.table_mut(template.table);
                    append_fields(table, body, it, key, &mut self.memo.text, &mut filled).ok()?;
                }
                _ => {}
            }
        }
        if filled.values == 0 {
            return None;
        }
        let table = self.database.table_mut(template.table);
        table.set_series(row.series);
        table.commit_row(row.time).ok()?;
        self.report.dropped_fields += filled.dropped;
        Some(())
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
