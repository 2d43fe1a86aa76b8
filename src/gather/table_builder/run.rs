//! Runs: many rows of a columnar body at once (decision 4).

use super::{ColumnIndex, TableBuilder};
use crate::gather::AppendError;
use crate::gather::column_builder::Values;
use crate::gather::series::{SeriesIndex, TagKey};
use crate::gather::values::{StringValues, TimeValues};

impl TableBuilder {
    fn begin_run(&mut self, index: ColumnIndex, values: Values) -> Option<&mut Values> {
        let column = self.columns.get_mut(index.as_usize())?;
        let was_unset = matches!(column.values, Values::Unset);
        if !column.begin_run(self.rows, values) {
            return None;
        }
        if was_unset {
            self.pending.push(index);
        }
        Some(&mut column.values)
    }

    /// Where the floats of a run are pushed, one for every row of it.
    /// `None`: the column has another kind, or has got values of this run already.
    pub fn run_f64(&mut self, column: ColumnIndex) -> Option<&mut Vec<f64>> {
        match self.begin_run(column, Values::F64(Vec::new()))? {
            Values::F64(values) => Some(values),
            _ => None,
        }
    }

    /// Where the integers of a run are pushed; see [`Self::run_f64`].
    pub fn run_i64(&mut self, column: ColumnIndex) -> Option<&mut Vec<i64>> {
        match self.begin_run(column, Values::I64(Vec::new()))? {
            Values::I64(values) => Some(values),
            _ => None,
        }
    }

    /// Where the strings of a run are pushed; see [`Self::run_f64`]. None may be longer than
    /// `limits.string_bytes_max`.
    pub fn run_str(&mut self, column: ColumnIndex) -> Option<&mut StringValues> {
        match self.begin_run(column, Values::String(StringValues::new()))? {
            Values::String(values) => Some(values),
            _ => None,
        }
    }

    /// Where the times of a run are pushed, one for every row of it.
    pub fn run_times(&mut self) -> &mut TimeValues {
        &mut self.times
    }

    /// Where the series of a run are pushed, one for every row of it, or none at all.
    pub fn run_series(&mut self) -> &mut Vec<SeriesIndex> {
        self.series_rows.resize(self.rows, SeriesIndex::NONE);
        &mut self.series_rows
    }

    /// The key of a tag value in the dictionary of a tag column.
    #[inline]
    pub fn intern_tag(&mut self, column: ColumnIndex, value: &str) -> TagKey {
        match self.columns.get_mut(column.as_usize()).map(|it| &mut it.values) {
            Some(Values::Tag(values)) => {
                let before = values.byte_len();
                let key = values.intern(value);
                self.dictionary_bytes += values.byte_len() - before;
                key
            }
            _ => TagKey(0),
        }
    }

    /// The series with exactly these tags, which get sorted; each column at most once.
    pub fn series_of(&mut self, tags: &mut [(ColumnIndex, TagKey)]) -> SeriesIndex {
        tags.sort_unstable();
        self.series.intern(tags)
    }

    /// Commits a run of `count` rows.
    ///
    /// # Errors
    /// As [`Self::commit_row`], of which one row is enough.
    ///
    /// # Panics
    /// When a column was given more than `count` values, or the times are not `count`: a bug of
    /// the decoder.
    pub fn commit_rows(&mut self, count: usize) -> Result<(), AppendError> {
        let rows = self.rows + count;
        for column in &self.columns {
            assert!(column.len() <= rows, "a run of {count} rows gave a column more values");
        }
        assert!(self.times.len() == rows, "a run of {count} rows gave another number of times");
        assert!(self.series_rows.len() <= rows, "a run of {count} rows gave more series");
        let Some(looked) = self.days.look(self.times.since(self.rows)) else {
            self.rollback_row();
            return Err(self.too_many_days());
        };
        if !self.pending.is_empty() || !self.is_adopted {
            self.commit_pending()?;
        }
        self.days.commit(looked);
        self.rows = rows;
        self.shapes.rollback();
        Ok(())
    }
}
