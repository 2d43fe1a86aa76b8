//! What columnar items of every format share: their tags, their times and their end.

use std::mem;

use crate::gather::{ColumnIndex, SeriesIndex, TableBuilder, TagKey};
use crate::limits::Limits;
use crate::timestamp::Timestamp;

/// Rows whose room is kept for the next item; that of more is worth giving back.
const KEPT_ROWS_MAX: usize = 16 << 10;

/// Integers that a float holds exactly, whatever their digits: up to 2^53.
const EXACT_MAX: u64 = 1 << 53;

/// Whether a float holds `value` exactly, as it does every integer up to 2^53.
#[inline(always)]
pub(super) fn is_exact(value: i64) -> bool {
    value.unsigned_abs() <= EXACT_MAX
}

/// The float equal to `value`; `None` beyond 2^53.
#[inline(always)]
pub(super) fn exact_float(value: i64) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "none is lost up to 2^53")]
    is_exact(value).then_some(value as f64)
}

/// What the runs of one item have put into its table besides field columns, and room that the next
/// item reuses.
#[derive(Debug, Default)]
pub(super) struct Runs {
    rows: usize,
    has_time: bool,
    /// Whether there is a field without nulls: then every row has one.
    has_field: bool,
    /// The tag columns.
    columns: Vec<ColumnIndex>,
    /// Keys of their values; those behind are room.
    keys: Vec<Vec<TagKey>>,
    /// The tags of one row.
    tags: Vec<(ColumnIndex, TagKey)>,
    /// The series of all rows.
    series: Vec<SeriesIndex>,
}

impl Runs {
    /// Begins an item of `rows` rows.
    pub(super) fn begin(&mut self, rows: usize) {
        self.rows = rows;
        (self.has_time, self.has_field) = (false, false);
        self.columns.clear();
    }

    /// The item has a column of times; false when it had one already.
    pub(super) fn begin_time(&mut self) -> bool {
        !mem::replace(&mut self.has_time, true)
    }

    /// The item has a column of fields; `has_nulls` where a value is none.
    pub(super) fn note_field(&mut self, has_nulls: bool) {
        self.has_field |= !has_nulls;
    }

    /// Interns the values of a tag column; a value that repeats the one before costs a compare.
    ///
    /// `None`: a value is no text, empty, or too long, or the column was there before.
    pub(super) fn run_tags<'t, V: Copy + PartialEq>(
        &mut self,
        table: &mut TableBuilder,
        name: &str,
        values: impl Iterator<Item = Option<V>>,
        text: impl Fn(V) -> Option<&'t str>,
        limits: &Limits,
    ) -> Option<()> {
        let index = table.tag(name).ok()?;
        if self.columns.contains(&index) {
            return None;
        }
        let at = self.columns.len();
        self.columns.push(index);
        if self.keys.len() == at {
            self.keys.push(Vec::new());
        }
        let keys = self.keys.get_mut(at)?;
        keys.clear();
        keys.reserve_exact(self.rows);
        let mut last: Option<(V, TagKey)> = None;
        for value in values {
            let value = value?;
            let key = match last {
                Some((before, key)) if before == value => key,
                _ => {
                    let text = text(value)?;
                    if text.is_empty() || text.len() > limits.name_bytes_max {
                        return None;
                    }
                    table.intern_tag(index, text)
                }
            };
            last = Some((value, key));
            keys.push(key);
        }
        last.map(drop)
    }

    /// Ends the item: rows without times are of `received`. `None`: a row may be without fields, or
    /// a column does not have all rows.
    pub(super) fn finish(&mut self, table: &mut TableBuilder, received: Timestamp) -> Option<()> {
        if !self.has_field {
            return None;
        }
        if !self.has_time {
            let times = table.run_times();
            for _ in 0..self.rows {
                times.push(received);
            }
        }
        if !self.columns.is_empty() {
            self.run_series(table);
        }
        if self.rows > KEPT_ROWS_MAX {
            (self.keys, self.series) = (Vec::new(), Vec::new());
        }
        table.commit_rows(self.rows).ok()
    }

    /// Turns the keys of each row's tags into its series.
    fn run_series(&mut self, table: &mut TableBuilder) {
        let Self { rows, columns, keys, tags, series: all, .. } = self;
        let keys = keys.get(..columns.len()).unwrap_or_default();
        let row_keys = |row: usize| keys.iter().filter_map(move |column| column.get(row).copied());
        let mut last: Option<(usize, SeriesIndex)> = None;
        all.clear();
        all.reserve_exact(*rows);
        for row in 0..*rows {
            let series = match last {
                Some((other, series)) if row_keys(other).eq(row_keys(row)) => series,
                _ => {
                    tags.clear();
                    tags.extend(columns.iter().copied().zip(row_keys(row)));
                    table.series_of(tags)
                }
            };
            last = Some((row, series));
            all.push(series);
        }
        table.run_series().extend_from_slice(all);
    }
}
