//! Raw wire bytes of tags, to series: a row whose tags were met before is not parsed for them.
//!
//! Clients send their series in one order, time after time. Each entry therefore remembers which
//! one came next, and the next row is compared with that before anything is hashed.
//!
//! Invariant: every index in `index`, `next` and `last` is one of `entries`, or `entries` is empty.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::blocks::{Blocks, Run};
use super::database::TableIndex;
use super::series::SeriesIndex;

#[derive(Debug)]
struct Entry {
    key: Run,
    table: TableIndex,
    series: SeriesIndex,
    /// Whether the key is of the tags alone, and means this series in this table only.
    is_tags: bool,
    /// The entry that was found after this one, the last time.
    next: usize,
    /// Where the index has it; of a key of tags with its table.
    hash: u64,
}

impl Entry {
    /// Bytes of its key.
    #[inline(always)]
    fn len(&self) -> usize {
        self.key.len as usize
    }

    /// Whether this is its key, `table` as in [`SeriesCache::foresee`].
    #[inline(always)]
    fn is(&self, raw: &[u8], table: Option<TableIndex>, keys: &Blocks<u8>) -> bool {
        match table {
            Some(table) => self.is_tags && self.table == table && is_same(raw, keys.get(self.key)),
            None => !self.is_tags && raw == keys.get(self.key),
        }
    }
}

/// What was found, and the bytes of its key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) table: TableIndex,
    pub(super) series: SeriesIndex,
    pub(super) len: usize,
}

/// A key that was not found: what it would be found by.
#[derive(Clone, Copy, Debug)]
pub struct UnknownKey {
    hash: u64,
}

/// Entries that are found by one compare, without the index; a power of two.
const RECENT: usize = 1 << 12;

/// Raw keys of one database on one shard.
#[derive(Debug, Default)]
pub(super) struct SeriesCache {
    entries: Vec<Entry>,
    index: HashTable<usize>,
    /// The entry found last for each value of [`place`]; empty, or [`RECENT`] long.
    recent: Vec<usize>,
    /// The raw keys.
    keys: Blocks<u8>,
    /// The entry found last, and whether it was the one that came next before.
    last: usize,
    is_in_order: bool,
    hasher: RandomState,
}

impl SeriesCache {
    /// The entry that came after the last one, if `rest` begins with its key. `table`: a key of
    /// tags in that table; `None`: one with the measurement.
    #[inline(always)]
    pub(super) fn foresee(&mut self, rest: &[u8], table: Option<TableIndex>) -> Option<Found> {
        if !std::mem::take(&mut self.is_in_order) {
            return None;
        }
        let next = self.entries.get(self.last)?.next;
        let entry = self.entries.get(next)?;
        if !entry.is(rest.get(..entry.len())?, table, &self.keys) {
            return None;
        }
        self.last = next;
        self.is_in_order = true;
        Some(Found { table: entry.table, series: entry.series, len: entry.len() })
    }

    /// The entry with exactly this key; `table` as in [`Self::foresee`].
    ///
    /// # Errors
    /// When there is none; [`Self::insert`] takes it.
    #[inline(always)]
    pub(super) fn find(
        &mut self,
        raw: &[u8],
        table: Option<TableIndex>,
    ) -> Result<Found, UnknownKey> {
        let place = place(raw);
        let recent = self.recent.get(place).copied();
        let (at, found) = match recent.and_then(|at| Some((at, self.entry_is(at, raw, table)?))) {
            Some(hit) => hit,
            None => self.find_by_hash(raw, table, place)?,
        };
        if let Some(before) = self.entries.get_mut(self.last) {
            self.is_in_order = before.next == at;
            before.next = at;
        }
        self.last = at;
        Ok(found)
    }

    /// What entry `at` means, if it has exactly this key.
    #[inline(always)]
    fn entry_is(&self, at: usize, raw: &[u8], table: Option<TableIndex>) -> Option<Found> {
        let entry = self.entries.get(at)?;
        let is_it = entry.len() == raw.len() && entry.is(raw, table, &self.keys);
        is_it.then_some(Found { table: entry.table, series: entry.series, len: entry.len() })
    }

    #[inline(never)]
    fn find_by_hash(
        &mut self,
        raw: &[u8],
        table: Option<TableIndex>,
        place: usize,
    ) -> Result<(usize, Found), UnknownKey> {
        let hash = hash_of(&self.hasher, raw) ^ table.map_or(0, scatter);
        let is_it = |at: &usize| self.entry_is(*at, raw, table).is_some();
        let unknown = UnknownKey { hash };
        let at = *self.index.find(hash, is_it).ok_or(unknown)?;
        self.recent.resize(RECENT, at);
        if let Some(recent) = self.recent.get_mut(place) {
            *recent = at;
        }
        self.entry_is(at, raw, table).map(|found| (at, found)).ok_or(unknown)
    }

    /// Adds a key that was not found.
    pub(super) fn insert(
        &mut self,
        raw: &[u8],
        UnknownKey { hash }: UnknownKey,
        table: TableIndex,
        series: SeriesIndex,
        is_tags: bool,
    ) {
        let Self { entries, index, keys, last, .. } = self;
        let at = entries.len();
        if let Some(before) = entries.get_mut(*last) {
            before.next = at;
        }
        *last = at;
        // The first row of the next body most likely is that of the first one.
        let key = keys.push(raw);
        entries.push(Entry { key, table, series, is_tags, next: 0, hash });
        index.insert_unique(hash, at, |at| entries.get(*at).map_or(0, |it| it.hash));
    }

    /// Bytes held: keys, entries, and the index by its usual load.
    pub(super) fn byte_len(&self) -> usize {
        self.keys.len() + self.entries.len() * (size_of::<Entry>() + 10)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Whether both are the same bytes, whose number is the same. Those of a usual key are compared
/// without a call, from both ends, which may overlap.
#[inline(always)]
fn is_same(left: &[u8], right: &[u8]) -> bool {
    #[inline(always)]
    fn ends<const N: usize>(left: &[u8], right: &[u8]) -> bool {
        left.first_chunk::<N>() == right.first_chunk()
            && left.last_chunk::<N>() == right.last_chunk()
    }
    match left.len() {
        16..=32 => ends::<16>(left, right),
        33..=64 => ends::<32>(left, right),
        _ => left == right,
    }
}

/// Where a key stands in [`SeriesCache::recent`]: all its bytes mixed, cheaply. Keys that meet
/// there cost each other a look into the index, no more.
#[inline(always)]
fn place(raw: &[u8]) -> usize {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    const ODD_TOO: u64 = 0xbf58_476d_1ce4_e5b9;
    let mut mixed = raw.len() as u64;
    let mut mix = |chunk: &[u8; 16]| {
        if let [low, high] = chunk.as_chunks::<8>().0 {
            let low = u64::from_le_bytes(*low) ^ ODD;
            let high = u64::from_le_bytes(*high) ^ ODD_TOO;
            mixed = mixed.rotate_left(29).wrapping_add(low.wrapping_mul(high));
        }
    };
    let (chunks, rest) = raw.as_chunks::<16>();
    chunks.iter().for_each(&mut mix);
    match raw.last_chunk::<16>() {
        // Some bytes twice, in one step instead of several.
        Some(last) => mix(last),
        None => {
            for byte in rest {
                mixed = (mixed ^ u64::from(*byte)).wrapping_mul(ODD);
            }
        }
    }
    ((mixed ^ mixed >> 32).wrapping_mul(ODD) >> 52) as usize
}

/// The hash of the bytes alone: `Hash` for slices would mix in their length, one step more for
/// every row.
#[inline(always)]
pub(super) fn hash_of(hasher: &RandomState, raw: &[u8]) -> u64 {
    let mut hasher = hasher.build_hasher();
    hasher.write(raw);
    hasher.finish()
}

/// Bits that differ from table to table, so that equal tags of many tables do not collide.
#[inline]
fn scatter(table: TableIndex) -> u64 {
    (table.as_usize() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
