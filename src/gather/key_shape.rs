//! Prediction of keys: the next key is compared with the one that stood here in the last row.
//!
//! A *shape* is the keys of a row in their order, each as the raw bytes that stood on the wire,
//! delimiter or marker included. A table keeps [`SHAPES_MAX`] of them. A hit is one masked compare
//! of 32 bytes; a miss costs the decoder a hash, never more (decision 3).
//!
//! Rows that come in random order (Go maps) would relearn for ever: where more than one row in
//! five has a miss, only one in [`RELEARN_EVERY`] is learnt, and keys are found by their raw bytes,
//! wherever in a row they stand ([`KeyShapes::find`]).

use super::table_builder::ColumnIndex;
use crate::schema::ColumnKind;

/// Bytes that a predicted key may have, and that a decoder shows to
/// [`super::TableBuilder::predict`].
pub const KEY_WINDOW: usize = 32;

/// Shapes kept for each table.
const SHAPES_MAX: usize = 4;
/// What a row with a miss adds to the disorder; one without takes one away.
const MISS: u32 = 4;
/// Disorder from which on rows are taken to have no order, and the most there is.
const RANDOM: u32 = 8 * MISS;
const DISORDER_MAX: u32 = 16 * MISS;
/// Beyond that, one row in so many is learnt.
const RELEARN_EVERY: u32 = 64;
/// Keys found by their raw bytes, of a table whose rows have no order; two that fall on one place
/// take turns.
const KNOWN_MAX: usize = 256;
/// How many keys a sparse row may leave out before the prediction gives up.
const SKIP_MAX: usize = 4;

/// What stands at this place of the body, if it is what stood here last time.
#[derive(Clone, Copy, Debug)]
pub struct Predicted {
    /// The column of the key.
    pub column: ColumnIndex,
    /// Bytes of the key on the wire, delimiter or marker included.
    pub key_len: usize,
    /// The column's kind, hence what the value most likely is.
    pub kind: ColumnKind,
}

type Words = [u64; 4];

/// A window as words, so that the compare is four of them.
#[inline(always)]
fn words(window: &[u8; KEY_WINDOW]) -> Words {
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(window.as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    words
}

/// The first `len` bytes; the others are zeros.
#[inline(always)]
fn cut(window: &Words, len: usize) -> Words {
    let mut cut = *window;
    for (word, first) in cut.iter_mut().zip([0, 8, 16, 24]) {
        let bytes = len.saturating_sub(first).min(8);
        // Of a word, first bytes are low ones. A shift by all bits is none at all.
        *word &= if bytes == 0 { 0 } else { u64::MAX >> (64 - 8 * bytes) };
    }
    cut
}

/// Where a key is kept among those that are found by their bytes.
#[inline(always)]
fn place([first, second, third, fourth]: &Words) -> usize {
    // Odd multipliers with mixed bits; the high bits of a product depend on all others.
    let low = (first ^ third.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let high = (second ^ fourth.rotate_left(32)).wrapping_mul(0xc2b2_ae3d_27d4_eb4f);
    let mixed = (low ^ high.rotate_left(29)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    usize::try_from(mixed >> 56).unwrap_or_default()
}

/// Bytes that are expected at some place: one masked compare says whether they are there.
///
/// Aligned, so that a compare takes its words from memory without loading them first.
#[derive(Clone, Debug, Eq, PartialEq)]
#[repr(align(16))]
pub struct Literal {
    bytes: Words,
    /// Ones where `bytes` counts.
    mask: Words,
    len: usize,
}

impl Literal {
    /// `None` when there are more than [`KEY_WINDOW`] bytes.
    pub fn new(raw: &[u8]) -> Option<Self> {
        Self::masked(raw, [0xff; KEY_WINDOW].get(..raw.len())?)
    }

    /// As [`Self::new`], of bytes that count where `mask` has ones; the two are of one length.
    pub fn masked(raw: &[u8], mask: &[u8]) -> Option<Self> {
        let padded = |raw: &[u8]| {
            let mut bytes = [0; KEY_WINDOW];
            bytes.get_mut(..raw.len())?.copy_from_slice(raw);
            Some(words(&bytes))
        };
        Some(Self { bytes: padded(raw)?, mask: padded(mask)?, len: raw.len() })
    }

    /// How many they are.
    #[inline(always)]
    #[expect(clippy::len_without_is_empty, reason = "it is a length in a body, not a collection")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// A number below [`KNOWN_MAX`] that the bytes decide.
    fn place(&self) -> usize {
        place(&self.bytes)
    }

    /// Whether `window` begins with them.
    #[inline(always)]
    pub fn begins(&self, window: &[u8; KEY_WINDOW]) -> bool {
        self.matches(&words(window))
    }

    #[inline(always)]
    fn matches(&self, window: &Words) -> bool {
        let mut difference = 0;
        for ((window, bytes), mask) in window.iter().zip(&self.bytes).zip(&self.mask) {
            difference |= (window ^ bytes) & mask;
        }
        difference == 0
    }
}

/// One key of a shape.
#[derive(Clone, Debug)]
struct Slot {
    key: Literal,
    column: ColumnIndex,
}

impl Slot {
    fn new(raw_key: &[u8], column: ColumnIndex) -> Option<Self> {
        Literal::new(raw_key).map(|key| Self { key, column })
    }

    #[inline(always)]
    fn matches(&self, window: &Words) -> bool {
        self.key.matches(window)
    }
}

/// The shapes of one table, and where in them the open row is.
#[derive(Debug, Default)]
pub(super) struct KeyShapes {
    shapes: Vec<Vec<Slot>>,
    /// The shape that the open row follows.
    current: usize,
    /// `0 <= next <= shapes[current].len()`: the slot expected next.
    next: usize,
    /// The keys of the open row, kept from its first miss on.
    row: Vec<Slot>,
    /// Whether the open row had a miss and is being learnt.
    is_learning: bool,
    /// Whether the open row had a miss.
    has_missed: bool,
    /// How often rows had a miss lately.
    disorder: u32,
    /// Rows with a miss since one was learnt.
    unlearnt: u32,
    /// The shape that is replaced next.
    oldest: usize,
    /// Keys by their bytes; empty while rows have an order.
    known: Vec<Option<Slot>>,
}

impl KeyShapes {
    /// Whether rows come in no order that could be foreseen.
    #[inline(always)]
    pub(super) fn is_random(&self) -> bool {
        self.disorder >= RANDOM
    }

    /// The column of the key that is the first `len` bytes of `window`, when it was not foreseen
    /// and rows have no order.
    #[inline(always)]
    pub(super) fn find(&mut self, window: &[u8; KEY_WINDOW], len: usize) -> Option<ColumnIndex> {
        if !self.is_random() {
            return None;
        }
        let key = cut(&words(window), len);
        let slot = self.known.get(place(&key))?.as_ref()?;
        if slot.key.len != len || slot.key.bytes != key {
            return None;
        }
        let column = slot.column;
        if self.is_learning || !self.has_missed {
            self.learn(window.get(..len)?, column);
        }
        Some(column)
    }

    /// Keeps a key by its bytes.
    fn know(&mut self, slot: Slot) {
        if self.known.is_empty() {
            self.known.resize(KNOWN_MAX, None);
        }
        if let Some(place) = self.known.get_mut(slot.key.place()) {
            *place = Some(slot);
        }
    }

    /// The column and key length of the next key, if it was foreseen.
    #[inline(always)]
    pub(super) fn predict(&mut self, window: &[u8; KEY_WINDOW]) -> Option<(ColumnIndex, usize)> {
        let window = words(window);
        let slot = self.shapes.get(self.current).and_then(|shape| shape.get(self.next));
        match slot {
            Some(slot) if slot.matches(&window) => {
                let found = (slot.column, slot.key.len);
                if self.is_learning {
                    self.row.push(slot.clone());
                }
                self.next += 1;
                Some(found)
            }
            _ => self.predict_elsewhere(&window),
        }
    }

    /// A key left out, or another shape.
    #[inline(never)]
    fn predict_elsewhere(&mut self, window: &Words) -> Option<(ColumnIndex, usize)> {
        if self.is_random() {
            return None;
        }
        let ahead = |shape: &[Slot], from: usize| {
            let rest = shape.get(from..)?;
            rest.iter().take(SKIP_MAX + 1).position(|slot| slot.matches(window)).map(|it| from + it)
        };
        let shapes = &self.shapes;
        let in_current = shapes.get(self.current).and_then(|it| ahead(it, self.next));
        let found = match in_current {
            Some(at) => Some((self.current, at)),
            None if self.next == 0 && !self.has_missed => {
                shapes.iter().enumerate().find_map(|(i, it)| ahead(it, 0).map(|at| (i, at)))
            }
            None => None,
        };
        let (shape, at) = found?;
        let slot = shapes.get(shape)?.get(at)?.clone();
        let result = (slot.column, slot.key.len);
        if self.is_learning {
            self.row.push(slot);
        }
        self.current = shape;
        self.next = at + 1;
        Some(result)
    }

    /// Takes note of a key that was not foreseen.
    #[cold]
    pub(super) fn learn(&mut self, raw_key: &[u8], column: ColumnIndex) {
        if !self.has_missed {
            self.has_missed = true;
            self.is_learning = !self.is_random() || self.unlearnt >= RELEARN_EVERY;
            self.unlearnt = if self.is_learning { 0 } else { self.unlearnt + 1 };
            self.disorder = (self.disorder + MISS).min(DISORDER_MAX);
            self.row.clear();
            if self.is_learning {
                let shape = self.shapes.get(self.current).map(Vec::as_slice).unwrap_or_default();
                self.row.extend_from_slice(shape.get(..self.next).unwrap_or_default());
            }
        }
        if self.is_learning
            && let Some(slot) = Slot::new(raw_key, column)
        {
            self.row.push(slot);
        }
    }

    /// As [`Self::learn`], of a column that is never taken away.
    #[cold]
    pub(super) fn meet(&mut self, raw_key: &[u8], column: ColumnIndex) {
        self.learn(raw_key, column);
        if self.is_random()
            && let Some(slot) = Slot::new(raw_key, column)
        {
            self.know(slot);
        }
    }

    /// The row was committed: what it taught becomes a shape, keys that got no value left out.
    #[inline(always)]
    pub(super) fn commit(&mut self, has_value: impl Fn(ColumnIndex) -> bool) {
        if self.has_missed {
            self.row.retain(|slot| has_value(slot.column));
            self.keep();
        } else {
            self.disorder = self.disorder.saturating_sub(1);
        }
        self.next = 0;
    }

    #[cold]
    fn keep(&mut self) {
        if self.is_learning && !self.row.is_empty() {
            let row = std::mem::take(&mut self.row);
            if self.shapes.len() < SHAPES_MAX {
                self.current = self.shapes.len();
                self.shapes.push(row);
            } else {
                self.current = self.oldest;
                self.oldest = (self.oldest + 1) % SHAPES_MAX;
                if let Some(shape) = self.shapes.get_mut(self.current) {
                    self.row = std::mem::replace(shape, row);
                }
            }
        }
        self.rollback();
    }

    /// The row was undone: it taught nothing.
    pub(super) fn rollback(&mut self) {
        self.next = 0;
        self.has_missed = false;
        self.is_learning = false;
        self.row.clear();
    }

    /// Forgets everything: columns that shapes point to were taken away.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
