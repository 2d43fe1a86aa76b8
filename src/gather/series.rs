//! Tag sets as numbers: a row stores one series number, its tag columns are gathered at the seal.
//!
//! ```text
//! rows        series 1, 2, 1, 1                 one u32 a row
//! SeriesSet   1 = {host: 0, cpu: 0}             each set once, sorted by column
//!             2 = {host: 0, cpu: 1}
//! TagValues   host: 0 = "a"   cpu: 0 = "cpu0", 1 = "cpu1"
//! ```

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use arrow_array::types::UInt32Type;
use arrow_array::{Array, ArrayRef, DictionaryArray, PrimitiveArray, StringArray};
use arrow_buffer::{NullBuffer, NullBufferBuilder};
use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::blocks::{Blocks, Run};
use super::series_cache::hash_of;
use super::table_builder::ColumnIndex;
use super::values::StringValues;

/// A tag set of one table on one shard.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SeriesIndex(pub(super) u32);

impl SeriesIndex {
    /// The series of a row without tags.
    pub const NONE: Self = Self(0);
}

/// A value in the dictionary of one tag column on one shard.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TagKey(pub(super) u32);

/// Stands for "no value" in look-up tables; no dictionary grows that large.
const ABSENT: u32 = u32::MAX;

/// `index` as a number that fits the tables' 32 bits.
fn narrow(index: usize) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "dictionaries and series sets are cleared long before 2^32 entries: every entry \
                  took at least one byte of a body, and `Database::end_write` resets them at \
                  `limits.series_per_table_max`"
    )]
    {
        index as u32
    }
}

/// A `u32` as an index; lossless on the 64-bit targets the crate builds for.
fn wide(index: u32) -> usize {
    index as usize
}

/// An entry of an index that grows for as long as new series come: with its hash, so that growing
/// reads nothing but the index itself.
#[derive(Clone, Copy, Debug)]
struct Indexed {
    at: u32,
    hash: u32,
}

impl Indexed {
    /// The hash that an index places it by, out of the 32 bits kept of it.
    #[inline(always)]
    fn placed(self) -> u64 {
        spread(self.hash)
    }
}

/// Bits of a hash that are kept.
#[inline(always)]
fn kept(hash: u64) -> u32 {
    (hash >> 32) as u32
}

/// A hash of 64 bits again: an index looks at the lowest and at the highest.
#[inline(always)]
fn spread(kept: u32) -> u64 {
    u64::from(kept) << 32 | u64::from(kept)
}

/// The dictionary of one tag column.
#[derive(Debug)]
pub(super) struct TagValues {
    values: StringValues,
    index: HashTable<Indexed>,
    hasher: RandomState,
    /// What was asked for last: most tags of a new series are those of the one before.
    last: u32,
    /// How many values there were at the last seal.
    sealed: usize,
    /// All of them, for chunks that bring no new one: each would copy its own, and its writer look
    /// each of them up. And their bytes.
    shared: Option<(ArrayRef, usize)>,
}

/// Values of a shared dictionary for each row of a chunk that takes it, at most.
const SHARED_VALUES_MAX: usize = 32;

impl Default for TagValues {
    fn default() -> Self {
        Self {
            values: StringValues::new(),
            index: HashTable::new(),
            hasher: RandomState::default(),
            last: 0,
            sealed: 0,
            shared: None,
        }
    }
}

impl TagValues {
    /// The key of `value`, which is added when it is new.
    pub(super) fn intern(&mut self, value: &str) -> TagKey {
        let Self { values, index, hasher, last, .. } = self;
        if wide(*last) < values.len() && values.value(wide(*last)) == value.as_bytes() {
            return TagKey(*last);
        }
        let hash = kept(hash_of(hasher, value.as_bytes()));
        let is_it = |it: &Indexed| it.hash == hash && values.value(wide(it.at)) == value.as_bytes();
        if let Some(found) = index.find(spread(hash), is_it) {
            *last = found.at;
            return TagKey(found.at);
        }
        let at = narrow(values.len());
        values.push(value);
        index.insert_unique(spread(hash), Indexed { at, hash }, |it| it.placed());
        *last = at;
        TagKey(at)
    }

    pub(super) fn byte_len(&self) -> usize {
        if self.values.len() == 0 {
            return 0;
        }
        self.values.byte_len() + self.values.len() * 16 + self.shared_bytes()
    }

    fn shared_bytes(&self) -> usize {
        self.shared.as_ref().map_or(0, |(_, bytes)| *bytes)
    }

    /// The dictionary of a chunk of so many rows, if it is to be that of all values: none is new
    /// since the chunk before. Also its bytes, if a chunk before took it, which accounts for them.
    fn share(&mut self, rows: usize) -> Option<(ArrayRef, usize)> {
        let len = self.values.len();
        if std::mem::replace(&mut self.sealed, len) != len {
            self.shared = None;
            return None;
        }
        if len / SHARED_VALUES_MAX > rows {
            return None;
        }
        let taken_bytes = self.shared_bytes();
        let (shared, _) = self.shared.get_or_insert_with(|| {
            let all = self.values.clone().finish(None);
            let bytes = all.get_array_memory_size();
            (Arc::new(all), bytes)
        });
        Some((Arc::clone(shared), taken_bytes))
    }
}

/// All tag sets that a table has met.
#[derive(Debug)]
pub(super) struct SeriesSet {
    /// The tags of all series, each set sorted by column.
    tags: Blocks<(ColumnIndex, TagKey)>,
    /// Where those of series `i` are; series 0 is the empty set.
    runs: Vec<Run>,
    index: HashTable<Indexed>,
    hasher: RandomState,
}

impl Default for SeriesSet {
    fn default() -> Self {
        Self {
            tags: Blocks::default(),
            runs: vec![Run::default()],
            index: HashTable::new(),
            hasher: RandomState::default(),
        }
    }
}

impl SeriesSet {
    /// Number of series, the empty one included.
    pub(super) fn len(&self) -> usize {
        self.runs.len()
    }

    pub(super) fn byte_len(&self) -> usize {
        self.tags.len() * 8 + self.runs.len() * 24
    }

    fn tags_of(&self, series: u32) -> &[(ColumnIndex, TagKey)] {
        self.runs.get(wide(series)).map_or(&[], |run| self.tags.get(*run))
    }

    /// The series with exactly these tags, sorted by column; each column at most once.
    pub(super) fn intern(&mut self, tags: &[(ColumnIndex, TagKey)]) -> SeriesIndex {
        debug_assert!(tags.is_sorted_by(|(left, _), (right, _)| left < right), "{tags:?}");
        if tags.is_empty() {
            return SeriesIndex::NONE;
        }
        let hash = self.hash_of(tags);
        let is_it = |it: &Indexed| it.hash == hash && self.tags_of(it.at) == tags;
        if let Some(found) = self.index.find(spread(hash), is_it) {
            return SeriesIndex(found.at);
        }
        let at = narrow(self.runs.len());
        self.runs.push(self.tags.push(tags));
        self.index.insert_unique(spread(hash), Indexed { at, hash }, |it| it.placed());
        SeriesIndex(at)
    }

    /// A tag at a time is one number to mix in.
    fn hash_of(&self, tags: &[(ColumnIndex, TagKey)]) -> u32 {
        let mut hasher = self.hasher.build_hasher();
        for (column, key) in tags {
            hasher.write_u64((column.as_usize() as u64) << 32 | u64::from(key.0));
        }
        kept(hasher.finish())
    }

    /// Forgets the series behind the first `len`: a write was undone.
    pub(super) fn truncate(&mut self, len: usize) {
        for series in (len..self.runs.len()).map(narrow) {
            let hash = self.hash_of(self.tags_of(series));
            if let Ok(entry) = self.index.find_entry(spread(hash), |it| it.at == series) {
                entry.remove();
            }
        }
        self.runs.truncate(len.max(1));
        self.tags.truncate(self.runs.last().copied().unwrap_or_default());
    }
}

/// The rows of a chunk by series, each series numbered by first appearance.
#[derive(Debug)]
pub(super) struct SeriesRows {
    /// For each row an index into `used`; empty when no row has tags.
    rows: Vec<u32>,
    /// The series that occur.
    used: Vec<u32>,
}

impl SeriesRows {
    /// Numbers the series of a chunk of `row_count` rows; rows behind `series` have no tags.
    pub(super) fn new(set: &SeriesSet, series: &[SeriesIndex], row_count: usize) -> Self {
        if series.is_empty() {
            return Self { rows: Vec::new(), used: Vec::new() };
        }
        let mut dense = vec![ABSENT; set.len()];
        let mut used = Vec::new();
        let mut rows = Vec::with_capacity(row_count);
        let untagged = row_count.saturating_sub(series.len());
        let tail = std::iter::repeat_n(SeriesIndex::NONE, untagged);
        for series in series.iter().copied().chain(tail) {
            if let Some(number) = dense.get_mut(wide(series.0)) {
                if *number == ABSENT {
                    *number = narrow(used.len());
                    used.push(series.0);
                }
                rows.push(*number);
            }
        }
        Self { rows, used }
    }

    /// For each of `columns` that has a value here a look-up table: series number to tag key, or
    /// [`ABSENT`].
    pub(super) fn keys(&self, set: &SeriesSet, columns: usize) -> Vec<Option<Vec<u32>>> {
        let mut keys: Vec<Option<Vec<u32>>> = vec![None; columns];
        for (number, series) in self.used.iter().enumerate() {
            for (column, key) in set.tags_of(*series) {
                let Some(of_column) = keys.get_mut(column.as_usize()) else { continue };
                let of_column = of_column.get_or_insert_with(|| vec![ABSENT; self.used.len()]);
                if let Some(slot) = of_column.get_mut(number) {
                    *slot = key.0;
                }
            }
        }
        keys
    }

    /// The tag column whose `keys` these are, with the dictionary that chunks share, or one of the
    /// values that occur. Also how many of its bytes a chunk before accounts for.
    pub(super) fn finish(&self, mut keys: Vec<u32>, values: &mut TagValues) -> (ArrayRef, usize) {
        let shared = values.share(self.rows.len());
        let (dictionary, taken_bytes) =
            shared.unwrap_or_else(|| (Arc::new(own_dictionary(&mut keys, values)), 0));
        let key_of = |row: &u32| keys.get(wide(*row)).copied().unwrap_or(ABSENT);
        let has_nulls = keys.contains(&ABSENT);
        let nulls = has_nulls
            .then(|| self.rows.iter().map(|row| key_of(row) != ABSENT).collect::<NullBuffer>());
        // A null slot's key is never read, but it has to be one that exists.
        let or_first = |key: u32| if key == ABSENT { 0 } else { key };
        let rows: Vec<u32> = self.rows.iter().map(|row| or_first(key_of(row))).collect();
        let rows = PrimitiveArray::<UInt32Type>::new(rows.into(), nulls);
        (Arc::new(DictionaryArray::new(rows, dictionary)), taken_bytes)
    }
}

/// A dictionary of the values that `keys` mean, which become keys of it.
fn own_dictionary(keys: &mut [u32], values: &TagValues) -> StringArray {
    let mut own = vec![ABSENT; values.values.len()];
    let mut dictionary = StringValues::new();
    for key in keys.iter_mut().filter(|key| **key != ABSENT) {
        let Some(renumbered) = own.get_mut(wide(*key)) else { continue };
        if *renumbered == ABSENT {
            *renumbered = narrow(dictionary.len());
            dictionary.push_of(&values.values, wide(*key));
        }
        *key = *renumbered;
    }
    dictionary.finish(None)
}

/// The tag column of rows that come whole, made of plain strings.
#[derive(Debug)]
pub struct TagArray {
    values: TagValues,
    keys: Vec<u32>,
    nulls: NullBufferBuilder,
}

impl TagArray {
    /// No rows; room for `rows`.
    pub fn new(rows: usize) -> Self {
        Self {
            values: TagValues::default(),
            keys: Vec::with_capacity(rows),
            nulls: NullBufferBuilder::new(rows),
        }
    }

    /// Appends the value of the next row, if it has one. One that repeats the last costs a compare.
    pub fn push(&mut self, value: Option<&str>) {
        let last = self.keys.last().copied().unwrap_or_default();
        let Some(value) = value else {
            self.keys.push(last);
            self.nulls.append_null();
            return;
        };
        let is_last = self.values.values.len() > 0
            && self.values.values.value(wide(last)) == value.as_bytes();
        let key = if is_last { last } else { self.values.intern(value).0 };
        self.keys.push(key);
        self.nulls.append_non_null();
    }

    /// The column, with a dictionary of the values that occur.
    pub fn finish(mut self) -> ArrayRef {
        let keys = PrimitiveArray::<UInt32Type>::new(self.keys.into(), self.nulls.finish());
        Arc::new(DictionaryArray::new(keys, Arc::new(self.values.values.finish(None))))
    }
}
