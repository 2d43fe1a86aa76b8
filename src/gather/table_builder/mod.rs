//! One measurement being filled on one shard: its builder set.
//!
//! ```text
//!          time   host (tag)   usage (field)   temp (field, first seen in row 2)
//! row 0    1000   series 1     0.5             null    <- back-filled when `temp` appeared
//! row 1    2000   series 2     0.7             null
//! row 2    3000   series 1     null            41.5
//! ```
//!
//! A row counts only after [`TableBuilder::commit_row`]; a row rolled back leaves no trace. A name
//! seen for the first time *widens* the table; its kind and role become known to the other shards
//! with the first committed row (or, when a write is atomic, with the whole body).
//!
//! Invariants, between rows:
//! - `times.len() == rows`; every column has at most `rows` slots, a missing tail is null;
//! - `series_rows.len() <= rows`; rows behind it have no tags;
//! - `pending` is empty unless the write is atomic.
//!
//! Cost: a value for a predicted column is one compare and one push; nothing is allocated per row.
//! Not here: wire formats (`decode`), when to seal (`engine`), files (`persist`).

mod append;

mod names;

mod run;

mod seal;

mod tags;

mod whole;

pub use whole::{WholeRows, WholeTimes};

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::column_builder::{ColumnBuilder, Values};
use super::database::Held;
use super::days::Days;
use super::key_shape::{KEY_WINDOW, KeyShapes, Predicted};
use super::registry::{Measurement, Registry};
use super::series::{SeriesIndex, SeriesSet, TagKey};
use super::values::TimeValues;
use super::{AppendError, Atomicity};
use crate::timestamp::Timestamp;
use tags::TagOrder;
use whole::Whole;

/// A column of one table on one shard.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ColumnIndex(u32);

impl ColumnIndex {
    pub(super) fn as_usize(self) -> usize {
        self.0 as usize
    }
}

/// The builders of one measurement on one shard.
#[derive(Debug)]
pub struct TableBuilder {
    registry: Arc<Registry>,
    measurement: Arc<Measurement>,
    /// Whether `measurement` is known to the other shards.
    is_adopted: bool,
    columns: Vec<ColumnBuilder>,
    /// Column indices by name.
    names: HashTable<u32>,
    hasher: RandomState,
    /// Columns that have got values but no slot yet; those of the open row from `row_pending` on.
    pending: Vec<ColumnIndex>,
    row_pending: usize,
    rows: usize,
    times: TimeValues,
    series: SeriesSet,
    /// [`Self::count_dictionary_bytes`], kept: counting costs a line of cache for each tag column.
    dictionary_bytes: usize,
    series_rows: Vec<SeriesIndex>,
    row_series: SeriesIndex,
    /// Sorted by column, each at most once.
    row_tags: Vec<(ColumnIndex, TagKey)>,
    /// Whether the open row has a tag that is stored in a field column; its series number alone
    /// would not bring it back.
    has_tag_in_field: bool,
    shapes: KeyShapes,
    /// The tags that lines have, in their order.
    tag_order: TagOrder,
    /// Rows of the open write that came whole, in order; each stands before the row it names.
    wholes: Vec<Whole>,
    /// Of the open write.
    days: Days,
    pub(super) atomicity: Atomicity,
    /// What the database accounts for it.
    pub(super) held: Held,
}

impl TableBuilder {
    pub(super) fn new(registry: Arc<Registry>, measurement: Arc<Measurement>, days: Days) -> Self {
        Self {
            registry,
            measurement,
            is_adopted: false,
            columns: Vec::new(),
            names: HashTable::new(),
            hasher: RandomState::default(),
            pending: Vec::new(),
            row_pending: 0,
            rows: 0,
            times: TimeValues::default(),
            series: SeriesSet::default(),
            dictionary_bytes: 0,
            series_rows: Vec::new(),
            row_series: SeriesIndex::NONE,
            row_tags: Vec::new(),
            has_tag_in_field: false,
            shapes: KeyShapes::default(),
            tag_order: TagOrder::default(),
            wholes: Vec::new(),
            days,
            atomicity: Atomicity::Rows,
            held: Held::default(),
        }
    }

    /// Whether a row from `start` on has this time, to the microsecond.
    pub(super) fn has_time(&self, start: usize, us: i64) -> bool {
        self.times.has(start, us)
    }

    /// Rows committed since the last seal, those that came whole not counted.
    pub fn row_count(&self) -> usize {
        self.rows
    }

    /// Whether any row of this shard ever made it known.
    pub(super) fn is_adopted(&self) -> bool {
        self.is_adopted
    }

    pub(super) fn measurement(&self) -> &Arc<Measurement> {
        &self.measurement
    }

    /// Whether the row committed last is told by its series number alone.
    pub(super) fn is_cacheable(&self) -> bool {
        !self.has_tag_in_field && self.atomicity == Atomicity::Rows
    }

    pub(super) fn series_count(&self) -> usize {
        self.series.len()
    }

    /// Makes room for what the last chunk needed: growing step by step would copy every value once
    /// more. Only a table that gets rows does so; an idle one holds nothing.
    pub(super) fn reserve(&mut self) {
        self.columns.iter_mut().for_each(ColumnBuilder::reserve);
        self.times.reserve();
    }

    /// Bytes that a seal takes away, spare capacity not counted, but the null slots that it makes:
    /// a column with one value gets a slot for every row. Tags are counted as if all of them were
    /// used.
    pub(super) fn row_bytes(&self) -> usize {
        let is_tag = |column: &&ColumnBuilder| matches!(column.values, Values::Tag(_));
        let has_tags = !self.series_rows.is_empty();
        let tags = if has_tags { self.columns.iter().filter(is_tag).count() } else { 0 };
        self.columns.iter().map(|column| column.byte_len(self.rows)).sum::<usize>()
            + self.times.byte_len()
            + self.series_rows.len() * 4
            + self.rows * 4 * tags
            + self.wholes.iter().map(|whole| whole.bytes).sum::<usize>()
    }

    /// Bytes of series and tag values, which outlive a seal.
    pub(super) fn series_bytes(&self) -> usize {
        debug_assert_eq!(self.dictionary_bytes, self.count_dictionary_bytes());
        self.series.byte_len() + self.dictionary_bytes
    }

    /// Bytes of the values of all tag columns.
    fn count_dictionary_bytes(&self) -> usize {
        let dictionary = |column: &ColumnBuilder| match &column.values {
            Values::Tag(values) => values.byte_len(),
            _ => 0,
        };
        self.columns.iter().map(dictionary).sum()
    }

    /// Foresees the next key of the open row from the `window` of bytes at its place.
    #[inline(always)]
    pub fn predict(&mut self, window: &[u8; KEY_WINDOW]) -> Option<Predicted> {
        let (column, key_len) = self.shapes.predict(window)?;
        let kind = self.column(column)?.kind()?;
        Some(Predicted { column, key_len, kind })
    }

    /// Whether the keys of rows come in orders that can be foreseen.
    pub fn has_order(&self) -> bool {
        !self.shapes.is_random()
    }

    /// Finds the key that is the first `len` bytes of `window`, and was not foreseen, where keys
    /// come in no order.
    #[inline(always)]
    pub fn find_key(&mut self, window: &[u8; KEY_WINDOW], len: usize) -> Option<Predicted> {
        let column = self.shapes.find(window, len)?;
        let kind = self.column(column)?.kind()?;
        Some(Predicted { column, key_len: len, kind })
    }

    /// Takes note of a key that was neither foreseen nor found, and led to `column`.
    pub fn learn(&mut self, raw_key: &[u8], column: ColumnIndex) {
        if self.column(column).is_some_and(|it| it.slot.is_some()) {
            self.shapes.meet(raw_key, column);
        } else {
            self.shapes.learn(raw_key, column);
        }
    }

    /// Sets the tags of the open row by the series number a committed row had.
    #[inline]
    pub fn set_series(&mut self, series: SeriesIndex) {
        self.row_series = series;
    }

    /// Commits the open row and returns its series.
    ///
    /// # Errors
    /// `KindConflict` or `RoleConflict` when another shard met a name of this row first,
    /// `TooManyTables`, `TooManyDays`; the row is rolled back then.
    #[inline(always)]
    pub fn commit_row(&mut self, time: Timestamp) -> Result<SeriesIndex, AppendError> {
        if self.pending.len() != self.row_pending || !self.is_adopted || !self.days.is_last(time.us)
        {
            self.commit_first(time)?;
        }
        let series = if self.row_tags.is_empty() {
            self.row_series
        } else {
            self.series.intern(&self.row_tags)
        };
        if series != SeriesIndex::NONE {
            if self.series_rows.len() != self.rows {
                self.series_rows.resize(self.rows, SeriesIndex::NONE);
            }
            self.series_rows.push(series);
        }
        self.times.push(time);
        self.rows += 1;
        self.row_tags.clear();
        self.row_series = SeriesIndex::NONE;
        let columns = &self.columns;
        self.shapes
            .commit(|column| columns.get(column.as_usize()).is_some_and(|it| it.kind().is_some()));
        Ok(series)
    }

    /// What a row does at its commit that widened the table, or is the first of its day.
    #[cold]
    fn commit_first(&mut self, time: Timestamp) -> Result<(), AppendError> {
        let Some(looked) = self.days.look(&[time.us]) else {
            self.rollback_row();
            return Err(self.too_many_days());
        };
        if self.pending.len() != self.row_pending || !self.is_adopted {
            self.commit_pending()?;
        }
        self.days.commit(looked);
        Ok(())
    }

    fn too_many_days(&self) -> AppendError {
        AppendError::TooManyDays { max: self.registry.limits().days_per_body_max }
    }

    /// What a row that widened the table does at its commit.
    #[cold]
    fn commit_pending(&mut self) -> Result<(), AppendError> {
        match self.atomicity {
            Atomicity::Rows => {
                if let Err(error) = self.register() {
                    self.rollback_row();
                    return Err(error);
                }
            }
            Atomicity::Body => self.row_pending = self.pending.len(),
        }
        Ok(())
    }

    /// Makes the measurement and its pending columns known to the other shards.
    pub(super) fn register(&mut self) -> Result<(), AppendError> {
        if !self.is_adopted {
            self.measurement = self.registry.adopt(&self.measurement)?;
            self.is_adopted = true;
        }
        let Self { columns, pending, measurement, .. } = self;
        let mut builders: Vec<&mut ColumnBuilder> = columns
            .iter_mut()
            .filter(|column| column.slot.is_none() && column.kind().is_some())
            .collect();
        measurement.register(&mut builders, &self.registry)?;
        pending.clear();
        self.row_pending = 0;
        Ok(())
    }

    /// Undoes the open row, or the open run.
    pub fn rollback_row(&mut self) {
        for column in &mut self.columns {
            column.truncate(self.rows);
        }
        self.times.truncate(self.rows);
        self.series_rows.truncate(self.rows);
        for index in self.pending.drain(self.row_pending..) {
            if let Some(column) = self.columns.get_mut(index.as_usize()) {
                if let Values::Tag(values) = &column.values {
                    self.dictionary_bytes -= values.byte_len();
                }
                column.unset();
            }
        }
        self.remove_unset();
        self.row_tags.clear();
        self.row_series = SeriesIndex::NONE;
        self.has_tag_in_field = false;
        self.shapes.rollback();
    }

    /// Starts what is counted for one body.
    pub(super) fn begin_write(&mut self, atomicity: Atomicity) {
        self.atomicity = atomicity;
        self.days.begin();
    }

    /// Starts a row's bookkeeping that outlives its commit.
    pub(super) fn begin_row(&mut self) {
        self.has_tag_in_field = false;
    }

    /// Undoes every row behind `rows` and every series behind `series_count`: an atomic write.
    pub(super) fn abort(&mut self, rows: usize, series_count: usize) {
        self.rows = rows;
        self.wholes.clear();
        self.row_pending = 0;
        self.rollback_row();
        self.series.truncate(series_count);
        self.shapes.clear();
    }
}
