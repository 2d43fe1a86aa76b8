//! The tables of one shard, by database and measurement, and the undoing of a whole body.

use std::cell::Cell;
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::rc::Rc;
use std::sync::Arc;

use arrow_array::RecordBatch;
use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::days::Days;
use super::registry::{Measurement, Registry};
use super::series::SeriesIndex;
use super::series_cache::{SeriesCache, UnknownKey};
use super::{AppendError, TableBuilder};
use crate::timestamp::Timestamp;

/// Bytes after which the open chunk of a table is sealed, at the end of a body.
const CHUNK_BYTES_MAX: usize = 64 << 20;

/// What is undone when a row is refused.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Atomicity {
    /// The row.
    #[default]
    Rows,
    /// The whole body (`accept_partial=false`).
    Body,
}

/// A table of one [`Database`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TableIndex(usize);

impl TableIndex {
    pub(super) fn as_usize(self) -> usize {
        self.0
    }
}

/// Sealed rows of one table: what crosses to `persist`.
#[derive(Debug)]
pub struct Chunk {
    /// What they are rows of.
    pub measurement: Arc<Measurement>,
    /// The rows.
    pub batch: RecordBatch,
    /// Bytes accounted for them.
    pub bytes: usize,
}

/// What a table held when the open write first touched it.
#[derive(Debug)]
struct Touched {
    table: TableIndex,
    rows: usize,
    series_count: usize,
}

/// What is accounted for a table: as much as it held when the last write to it ended.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Held {
    row_bytes: usize,
    series_bytes: usize,
}

/// One shard's tables of one database.
#[derive(Debug)]
pub struct Database {
    name: Arc<str>,
    registry: Arc<Registry>,
    tables: Vec<TableBuilder>,
    /// Table indices by measurement name.
    names: HashTable<usize>,
    hasher: RandomState,
    /// Tables that no row was ever committed to, free for another name.
    spare: Vec<TableIndex>,
    cache: SeriesCache,
    /// Further days that the rows of the open write may be of.
    days_left: Rc<Cell<usize>>,
    atomicity: Atomicity,
    /// The tables of the open write; `is_touched[i]` says whether table `i` is among them.
    touched: Vec<Touched>,
    is_touched: Vec<bool>,
    chunks: Vec<Chunk>,
    /// Bytes of the rows in builders and chunks.
    row_bytes: usize,
    /// Bytes of series and tag values.
    series_bytes: usize,
}

impl Database {
    fn new(name: &str, registry: Arc<Registry>) -> Self {
        Self {
            name: name.into(),
            registry,
            tables: Vec::new(),
            names: HashTable::new(),
            hasher: RandomState::default(),
            spare: Vec::new(),
            cache: SeriesCache::default(),
            days_left: Rc::default(),
            atomicity: Atomicity::Rows,
            touched: Vec::new(),
            is_touched: Vec::new(),
            chunks: Vec::new(),
            row_bytes: 0,
            series_bytes: 0,
        }
    }

    /// Bytes that [`Self::take_chunks`] gives away.
    pub fn row_bytes(&self) -> usize {
        self.row_bytes
    }

    /// Bytes of series, tag values and raw keys, which outlive a seal.
    pub fn series_bytes(&self) -> usize {
        self.series_bytes + self.cache.byte_len()
    }

    // What decoders use.

    /// The table of a measurement, made when it is new.
    ///
    /// # Errors
    /// `EmptyName`, `NameTooLong`, `TooManyTables`.
    pub fn table(&mut self, measurement: &str) -> Result<TableIndex, AppendError> {
        match self.known_table(measurement) {
            Some(table) => Ok(table),
            None => self.add(self.hasher.hash_one(measurement), measurement),
        }
    }

    /// The table of a measurement that this shard has met.
    pub fn known_table(&self, measurement: &str) -> Option<TableIndex> {
        let hash = self.hasher.hash_one(measurement);
        let name_of = |at: usize| self.tables.get(at).map_or("", |it| &it.measurement().name);
        self.names.find(hash, |at| name_of(*at) == measurement).copied().map(TableIndex)
    }

    #[cold]
    fn add(&mut self, hash: u64, measurement: &str) -> Result<TableIndex, AppendError> {
        let limits = *self.registry.limits();
        if measurement.is_empty() {
            return Err(AppendError::EmptyName);
        }
        if measurement.len() > limits.name_bytes_max {
            return Err(AppendError::NameTooLong { bytes: measurement.len() });
        }
        let max = limits.tables_per_database_max;
        let (measurement, is_known) = self.registry.open(&self.name, measurement);
        if !is_known && self.tables.len() >= max && self.spare.is_empty() {
            return Err(AppendError::TooManyTables { max });
        }
        let table = TableBuilder::new(
            Arc::clone(&self.registry),
            measurement,
            Days::new(Rc::clone(&self.days_left)),
        );
        let at = match self.spare.pop() {
            Some(TableIndex(at)) => at,
            None => self.tables.len(),
        };
        if let Some(slot) = self.tables.get_mut(at) {
            *slot = table;
        } else {
            self.tables.push(table);
            self.is_touched.push(false);
        }
        let Self { tables, names, hasher, .. } = self;
        let name_of = |at: usize| tables.get(at).map_or("", |table| &table.measurement().name);
        names.insert_unique(hash, at, |at| hasher.hash_one(name_of(*at)));
        Ok(TableIndex(at))
    }

    /// The builders of a table, for the next row.
    ///
    /// # Panics
    /// When `table` is of another database: a bug of the decoder.
    #[inline]
    pub fn table_mut(&mut self, table: TableIndex) -> &mut TableBuilder {
        if self.is_touched.get(table.0) == Some(&false) {
            self.touch(table);
        }
        #[expect(clippy::indexing_slicing, reason = "a `TableIndex` comes from `table` only")]
        let builder = &mut self.tables[table.0];
        builder.begin_row();
        builder
    }

    #[cold]
    fn touch(&mut self, table: TableIndex) {
        let Some(builder) = self.tables.get_mut(table.0) else { return };
        builder.begin_write(self.atomicity);
        if builder.row_count() == 0 {
            builder.reserve();
        }
        self.touched.push(Touched {
            table,
            rows: builder.row_count(),
            series_count: builder.series_count(),
        });
        if let Some(is_touched) = self.is_touched.get_mut(table.0) {
            *is_touched = true;
        }
    }

    /// Table and series of a row whose raw measurement and tags were met before.
    ///
    /// # Errors
    /// When they were not; [`Self::remember_series`] takes it.
    #[inline]
    pub fn series(&mut self, raw: &[u8]) -> Result<(TableIndex, SeriesIndex), UnknownKey> {
        self.cache.find(raw, None).map(|found| (found.table, found.series))
    }

    /// As [`Self::series`], if `rest` begins with the series that came next the last time; also
    /// the length of its raw bytes. Whether they end there is for the caller to see.
    #[inline]
    pub fn foresee_series(&mut self, rest: &[u8]) -> Option<(TableIndex, SeriesIndex, usize)> {
        self.cache.foresee(rest, None).map(|found| (found.table, found.series, found.len))
    }

    /// Series of a row of `table` whose raw tags were met before in that table.
    #[inline]
    pub fn series_in(&mut self, table: TableIndex, tags: &[u8]) -> Option<SeriesIndex> {
        self.cache.find(tags, Some(table)).ok().map(|found| found.series)
    }

    /// As [`Self::series_in`], if `rest` begins with the tags that came next the last time; also
    /// the length of their raw bytes.
    #[inline]
    pub fn foresee_series_in(
        &mut self,
        table: TableIndex,
        rest: &[u8],
    ) -> Option<(SeriesIndex, usize)> {
        self.cache.foresee(rest, Some(table)).map(|found| (found.series, found.len))
    }

    /// Keeps the series that the row committed last to `table` got, under its raw measurement and
    /// tags, which are `unknown`. Not kept when the cache is full or when the write may still be
    /// undone.
    pub fn remember_series(
        &mut self,
        raw: &[u8],
        unknown: UnknownKey,
        table: TableIndex,
        series: SeriesIndex,
    ) {
        if self.is_cacheable(table) {
            self.cache.insert(raw, unknown, table, series, false);
        }
    }

    /// As [`Self::remember_series`], under the raw tags alone.
    pub fn remember_series_in(&mut self, table: TableIndex, tags: &[u8], series: SeriesIndex) {
        if self.is_cacheable(table)
            && let Err(unknown) = self.cache.find(tags, Some(table))
        {
            self.cache.insert(tags, unknown, table, series, true);
        }
    }

    /// Whether a row of the open write has this time, to the microsecond. Cost: a compare a row.
    pub fn has_written(&self, time: Timestamp) -> bool {
        self.touched.iter().any(|touched| {
            let table = self.tables.get(touched.table.0);
            table.is_some_and(|table| table.has_time(touched.rows, time.us))
        })
    }

    fn is_cacheable(&self, table: TableIndex) -> bool {
        self.tables.get(table.0).is_some_and(TableBuilder::is_cacheable)
            && self.cache.byte_len() < self.registry.limits().series_cache_bytes_max
    }

    // What the shard uses.

    /// Opens a write: one body. One that was never closed, because its decoder panicked, is undone:
    /// nobody was told that it succeeded.
    pub fn begin_write(&mut self, atomicity: Atomicity) {
        self.undo_open_write();
        self.atomicity = atomicity;
        self.days_left.set(self.registry.limits().days_per_body_max);
    }

    fn undo_open_write(&mut self) {
        if !self.touched.is_empty() {
            self.abort_write();
            // Its rows were committed one by one, so raw keys may lead to series that are gone.
            self.cache.clear();
        }
    }

    /// Closes a write: its rows stay. Chunks that are large enough are sealed.
    ///
    /// # Errors
    /// When the write was atomic and another shard met one of its names first; nothing of the
    /// write stays then.
    pub fn end_write(&mut self) -> Result<(), AppendError> {
        if self.atomicity == Atomicity::Body {
            let registered = self.touched.iter().try_for_each(|touched| {
                match self.tables.get_mut(touched.table.0) {
                    Some(table) if table.row_count() > touched.rows => table.register(),
                    _ => Ok(()),
                }
            });
            if let Err(error) = registered {
                self.abort_write();
                return Err(error);
            }
        }
        for touched in std::mem::take(&mut self.touched) {
            self.close(&touched);
        }
        if self.cache.byte_len() >= self.registry.limits().series_cache_bytes_max {
            self.cache.clear();
        }
        Ok(())
    }

    /// Undoes a write.
    pub fn abort_write(&mut self) {
        for touched in std::mem::take(&mut self.touched) {
            if let Some(table) = self.tables.get_mut(touched.table.0) {
                table.abort(touched.rows, touched.series_count);
            }
            self.close(&touched);
        }
    }

    /// Ends a write in one table.
    fn close(&mut self, touched: &Touched) {
        let at = touched.table.0;
        if let Some(is_touched) = self.is_touched.get_mut(at) {
            *is_touched = false;
        }
        self.account_series(at);
        let limits = *self.registry.limits();
        let Some(table) = self.tables.get_mut(at) else { return };
        table.atomicity = Atomicity::Rows;
        let added = table.row_count() - touched.rows + table.whole_count();
        table.measurement().add_rows(added as u64);
        let bytes = table.row_bytes();
        let before = std::mem::replace(&mut table.held.row_bytes, bytes);
        self.row_bytes = (self.row_bytes + bytes).saturating_sub(before);
        if !table.is_adopted() {
            self.release(touched.table);
        } else if table.row_count() >= limits.rows_per_chunk
            || bytes >= CHUNK_BYTES_MAX
            || table.whole_count() > 0
        {
            self.seal_table(at);
        }
    }

    /// Frees a table that no row was committed to.
    fn release(&mut self, table: TableIndex) {
        let Some(builder) = self.tables.get_mut(table.0) else { return };
        let held = std::mem::take(&mut builder.held);
        self.row_bytes = self.row_bytes.saturating_sub(held.row_bytes);
        self.series_bytes = self.series_bytes.saturating_sub(held.series_bytes);
        let hash = self.hasher.hash_one(&*builder.measurement().name);
        if let Ok(entry) = self.names.find_entry(hash, |at| *at == table.0) {
            entry.remove();
        }
        self.spare.push(table);
    }

    /// Seals the open chunk of one table.
    fn seal_table(&mut self, at: usize) {
        let limits = *self.registry.limits();
        let Some(table) = self.tables.get_mut(at) else { return };
        let before = std::mem::take(&mut table.held.row_bytes);
        let chunks = table.seal();
        let is_full = table.series_count() >= limits.series_per_table_max
            || table.series_bytes() >= limits.series_cache_bytes_max;
        let bytes: usize = chunks.iter().map(|chunk| chunk.bytes).sum();
        self.row_bytes = (self.row_bytes + bytes).saturating_sub(before);
        self.chunks.extend(chunks);
        if is_full {
            self.forget_series(at);
        } else {
            self.account_series(at);
        }
    }

    /// Forgets the series of a table without rows, and the raw keys that lead to them.
    fn forget_series(&mut self, at: usize) {
        let Some(table) = self.tables.get_mut(at) else { return };
        table.forget_series();
        self.cache.clear();
        self.account_series(at);
    }

    fn account_series(&mut self, at: usize) {
        let Some(table) = self.tables.get_mut(at) else { return };
        let after = table.series_bytes();
        let before = std::mem::replace(&mut table.held.series_bytes, after);
        self.series_bytes = (self.series_bytes + after).saturating_sub(before);
    }

    /// Drops the rows of the tables that `is_stored`: a replay met rows that are in files.
    pub fn discard(&mut self, is_stored: &mut dyn FnMut(&Measurement) -> bool) {
        for at in 0..self.tables.len() {
            let Some(table) = self.tables.get(at) else { continue };
            if table.row_count() > 0 && is_stored(table.measurement()) {
                self.seal_table(at);
            }
        }
        for chunk in std::mem::take(&mut self.chunks) {
            if is_stored(&chunk.measurement) {
                self.row_bytes = self.row_bytes.saturating_sub(chunk.bytes);
                chunk.measurement.remove_rows(chunk.batch.num_rows() as u64);
            } else {
                self.chunks.push(chunk);
            }
        }
    }

    /// Seals every table that has rows and gives all chunks away, in the order of their rows.
    /// `is_tight`: memory is short, series are not kept for the next rows.
    ///
    /// A write that is still open is undone first; see [`Self::begin_write`].
    pub fn take_chunks(&mut self, is_tight: bool) -> Vec<Chunk> {
        self.undo_open_write();
        for at in 0..self.tables.len() {
            if self.tables.get(at).is_some_and(|table| table.row_count() > 0) {
                self.seal_table(at);
            }
            if is_tight {
                self.forget_series(at);
            }
        }
        self.row_bytes = 0;
        std::mem::take(&mut self.chunks)
    }
}

/// One shard's databases.
#[derive(Debug)]
pub struct Tables {
    registry: Arc<Registry>,
    databases: HashMap<Arc<str>, Database>,
}

impl Tables {
    /// No databases.
    pub fn new(registry: Arc<Registry>) -> Self {
        Self { registry, databases: HashMap::new() }
    }

    /// The database of that name, made when it is new; `None` when there are too many.
    pub fn database(&mut self, name: &str) -> Option<&mut Database> {
        if !self.databases.contains_key(name) {
            if !self.registry.create_database(name) {
                return None;
            }
            let database = Database::new(name, Arc::clone(&self.registry));
            self.databases.insert(Arc::clone(&database.name), database);
        }
        self.databases.get_mut(name)
    }

    /// Bytes that [`Self::take_chunks`] gives away.
    pub fn row_bytes(&self) -> usize {
        self.databases.values().map(Database::row_bytes).sum()
    }

    /// Bytes that outlive it, unless memory is tight.
    pub fn series_bytes(&self) -> usize {
        self.databases.values().map(Database::series_bytes).sum()
    }

    /// Seals all tables, or those of one database; see [`Database::take_chunks`].
    pub fn take_chunks(&mut self, database: Option<&str>, is_tight: bool) -> Vec<Chunk> {
        let of_it = |name: &Arc<str>| database.is_none_or(|it| it == &**name);
        self.databases
            .iter_mut()
            .filter(|(name, _)| of_it(name))
            .flat_map(|(_, database)| database.take_chunks(is_tight))
            .collect()
    }

    /// See [`Database::discard`].
    pub fn discard(&mut self, database: &str, is_stored: &mut dyn FnMut(&Measurement) -> bool) {
        if let Some(database) = self.databases.get_mut(database) {
            database.discard(is_stored);
        }
    }

    /// Forgets a database and its rows: a client dropped it.
    pub fn drop_database(&mut self, name: &str) {
        self.databases.remove(name);
    }
}
