//! The dictionary of a tag's column chunk.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

/// Bytes of a dictionary, exceeded by less than a value: the limit of other writers.
const BYTES_MAX: usize = 1 << 20;
/// Bytes of the length before a PLAIN value, and before levels.
const LENGTH_BYTES: usize = 4;

/// The values of a chunk, each once, in the order of their first rows.
#[derive(Debug, Default)]
pub(super) struct Dictionary {
    /// As PLAIN has them: the dictionary page.
    pub(super) plain: Vec<u8>,
    /// Where each ends in `plain`.
    ends: Vec<usize>,
    keys: HashTable<u32>,
    hasher: RandomState,
}

impl Dictionary {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The key of a value, which is added if it is new; `None` when it is, and there is no room.
    pub(super) fn key_of(&mut self, value: &str) -> Option<u32> {
        let Self { plain, ends, keys, hasher } = self;
        let hash = hasher.hash_one(value.as_bytes());
        if let Some(key) = keys.find(hash, |key| value_of(plain, ends, *key) == value.as_bytes()) {
            return Some(*key);
        }
        let key = u32::try_from(ends.len()).ok().filter(|_| plain.len() < BYTES_MAX)?;
        put_plain(plain, value);
        ends.push(plain.len());
        keys.insert_unique(hash, key, |key| hasher.hash_one(value_of(plain, ends, *key)));
        Some(key)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &[u8]> {
        let keys = (0_u32..).zip(&self.ends);
        keys.map(|(key, _)| value_of(&self.plain, &self.ends, key))
    }
}

/// The value of a key in a dictionary page.
fn value_of<'a>(plain: &'a [u8], ends: &[usize], key: u32) -> &'a [u8] {
    let key = key as usize;
    let start = key.checked_sub(1).and_then(|before| ends.get(before)).copied().unwrap_or(0);
    let end = ends.get(key).copied().unwrap_or(start);
    plain.get(start + LENGTH_BYTES..end).unwrap_or_default()
}

/// Appends a value as PLAIN has it: its length, then its bytes.
pub(super) fn put_plain(out: &mut Vec<u8>, value: &str) {
    put_with_length(out, |out| out.extend_from_slice(value.as_bytes()));
}

/// Appends how many bytes `put` appends, then these.
pub(super) fn put_with_length(out: &mut Vec<u8>, put: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    put(out);
    let bytes = u32::try_from(out.len() - start - LENGTH_BYTES).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(start..start + LENGTH_BYTES) {
        place.copy_from_slice(&bytes.to_le_bytes());
    }
}
