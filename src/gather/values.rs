//! Buffers whose values are not fixed words: strings, and the rows' times.

use std::sync::Arc;

use arrow_array::types::{Int16Type, TimestampMicrosecondType};
use arrow_array::{ArrayRef, PrimitiveArray, StringArray};
use arrow_buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};

use crate::timestamp::Timestamp;

/// Copies values of `LEN` bytes, each with a byte before it, to where they stand end to end. That
/// the length is known makes a copy a few instructions, where it would be a call.
fn copy_strides<const LEN: usize>(source: &[u8], to: &mut [u8]) {
    for (stride, to) in source.chunks_exact(LEN + 1).zip(to.as_chunks_mut::<LEN>().0) {
        if let Some(value) = stride.last_chunk() {
            *to = *value;
        }
    }
}

/// A [`copy_strides`].
type CopyStrides = fn(&[u8], &mut [u8]);

/// [`copy_strides`] for values of one byte and more.
const COPY_STRIDES: [CopyStrides; StringValues::STRIDE_LEN_MAX] = [
    copy_strides::<1>,
    copy_strides::<2>,
    copy_strides::<3>,
    copy_strides::<4>,
    copy_strides::<5>,
    copy_strides::<6>,
    copy_strides::<7>,
    copy_strides::<8>,
    copy_strides::<9>,
    copy_strides::<10>,
    copy_strides::<11>,
    copy_strides::<12>,
    copy_strides::<13>,
    copy_strides::<14>,
    copy_strides::<15>,
    copy_strides::<16>,
    copy_strides::<17>,
    copy_strides::<18>,
    copy_strides::<19>,
    copy_strides::<20>,
    copy_strides::<21>,
    copy_strides::<22>,
    copy_strides::<23>,
    copy_strides::<24>,
    copy_strides::<25>,
    copy_strides::<26>,
    copy_strides::<27>,
    copy_strides::<28>,
    copy_strides::<29>,
    copy_strides::<30>,
    copy_strides::<31>,
];

/// A length as Arrow's offsets have it.
#[inline]
fn offset_of(len: usize) -> i32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        reason = "`Database::end_write` seals a chunk before a column holds 2 GiB: \
                  CHUNK_BYTES_MAX plus one body (`limits.inflated_bytes_max`) is far below"
    )]
    {
        len as i32
    }
}

/// Strings end to end, with the offsets that cut them: Arrow's `Utf8` layout.
#[derive(Clone, Debug)]
pub struct StringValues {
    /// `offsets[i]..offsets[i + 1]` is value `i`; never empty.
    offsets: Vec<i32>,
    bytes: Vec<u8>,
}

impl StringValues {
    /// The longest values that [`Self::push_strides`] takes.
    pub const STRIDE_LEN_MAX: usize = 31;

    pub(super) fn new() -> Self {
        Self { offsets: vec![0], bytes: Vec::new() }
    }

    /// Appends one value.
    #[inline]
    pub fn push(&mut self, value: &str) {
        self.bytes.extend_from_slice(value.as_bytes());
        self.close();
    }

    /// Appends value `index` of others.
    pub(super) fn push_of(&mut self, others: &Self, index: usize) {
        self.bytes.extend_from_slice(others.value(index));
        self.close();
    }

    /// Appends all of `values`, each of which has to be UTF-8; `None` when one is not, and then
    /// the values pushed are for the caller to undo.
    ///
    /// One check of all bytes is several times cheaper than one for each value: together they are
    /// UTF-8, and each starts where a character does.
    pub fn push_all<'v>(
        &mut self,
        values: impl IntoIterator<Item = Option<&'v [u8]>>,
    ) -> Option<()> {
        let start = self.bytes.len();
        let mut continuations = false;
        for value in values {
            let value = value?;
            continuations |= value.first().is_some_and(|byte| byte & 0xc0 == 0x80);
            self.bytes.extend_from_slice(value);
            self.close();
        }
        let is_utf8 = self.bytes.get(start..).is_some_and(|it| std::str::from_utf8(it).is_ok());
        (is_utf8 && !continuations).then_some(())
    }

    /// Appends `count` values of `len` bytes each, which stand in `source` with one byte before
    /// each of them; `None` when they are not UTF-8, or longer than [`Self::STRIDE_LEN_MAX`], and
    /// then the values pushed are for the caller to undo.
    pub fn push_strides(&mut self, source: &[u8], len: usize, count: usize) -> Option<()> {
        let start = self.bytes.len();
        self.bytes.resize(start + len * count, 0);
        if let Some(of_len) = len.checked_sub(1) {
            let copy = COPY_STRIDES.get(of_len)?;
            copy(source.get(..count * (len + 1))?, self.bytes.get_mut(start..)?);
        }
        let mut offset = offset_of(start);
        self.offsets.extend((0..count).map(|_| {
            offset += offset_of(len);
            offset
        }));
        let pushed = self.bytes.get(start..)?;
        let is_boundary = |text: &str| (0..count).all(|at| text.is_char_boundary(at * len));
        (pushed.is_ascii() || std::str::from_utf8(pushed).is_ok_and(is_boundary)).then_some(())
    }

    #[inline]
    fn close(&mut self) {
        self.offsets.push(offset_of(self.bytes.len()));
    }

    pub(super) fn reserve(&mut self, values: usize, bytes: usize) {
        self.offsets.reserve(values);
        self.bytes.reserve(bytes);
    }

    pub(super) fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    pub(super) fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn resize(&mut self, len: usize) {
        let end = self.offsets.last().copied().unwrap_or_default();
        if self.bytes.is_empty() {
            // As other columns do, for what may be the only value of the chunk.
            self.offsets.reserve_exact((len + 2).saturating_sub(self.offsets.len()));
        }
        self.offsets.resize(len + 1, end);
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.offsets.truncate(len + 1);
        let end = self.offsets.last().copied().unwrap_or_default();
        self.bytes.truncate(usize::try_from(end).unwrap_or_default());
    }

    /// The bytes of value `index`; empty when there is none.
    pub(super) fn value(&self, index: usize) -> &[u8] {
        let cut = |i: usize| self.offsets.get(i).and_then(|it| usize::try_from(*it).ok());
        match (cut(index), cut(index + 1)) {
            (Some(start), Some(end)) => self.bytes.get(start..end).unwrap_or_default(),
            _ => &[],
        }
    }

    pub(super) fn finish(self, nulls: Option<NullBuffer>) -> StringArray {
        let offsets = OffsetBuffer::new(ScalarBuffer::from(self.offsets));
        // Only `&str` was ever pushed; the check costs 0.03 ns a byte and keeps this file safe.
        StringArray::new(offsets, Buffer::from_vec(self.bytes), nulls)
    }
}

/// The rows' times: `time` and, once one has digits below a microsecond, `time_ns`.
#[derive(Debug, Default)]
pub struct TimeValues {
    /// Microseconds since 1970-01-01 UTC, one for each row.
    us: Vec<i64>,
    /// Empty, or nanoseconds below a microsecond for the first `ns.len() <= us.len()` rows.
    ns: Vec<i16>,
    /// Rows of the last chunk: what the next one will likely have.
    expected: usize,
}

impl TimeValues {
    /// Appends one row's time.
    #[inline]
    pub fn push(&mut self, time: Timestamp) {
        if time.ns != 0 {
            self.push_ns(time.ns);
        }
        self.us.push(time.us);
    }

    fn push_ns(&mut self, ns: u16) {
        self.ns.resize(self.us.len(), 0);
        self.ns.push(i16::try_from(ns).unwrap_or_default());
    }

    /// Where whole microseconds are appended in bulk; every one must be within
    /// [`Timestamp::MIN`] and [`Timestamp::MAX`].
    pub fn run_us(&mut self) -> &mut Vec<i64> {
        &mut self.us
    }

    /// Makes room for as many rows as the last chunk had.
    pub(super) fn reserve(&mut self) {
        self.us.reserve(self.expected);
    }

    /// Microseconds of the rows from `start` on.
    pub(super) fn since(&self, start: usize) -> &[i64] {
        self.us.get(start..).unwrap_or_default()
    }

    /// Whether a row from `start` on has this time, to the microsecond.
    pub(super) fn has(&self, start: usize, us: i64) -> bool {
        self.us.get(start..).is_some_and(|times| times.contains(&us))
    }

    pub(super) fn len(&self) -> usize {
        self.us.len()
    }

    pub(super) fn byte_len(&self) -> usize {
        self.us.len() * 8 + self.ns.len() * 2
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.us.truncate(len);
        self.ns.truncate(len);
    }

    /// `time`, and `time_ns` unless all its values are zero.
    pub(super) fn finish(&mut self) -> (ArrayRef, Option<ArrayRef>) {
        let us = std::mem::take(&mut self.us);
        self.expected = us.len();
        let mut ns = std::mem::take(&mut self.ns);
        let time_ns: Option<ArrayRef> = ns.iter().any(|it| *it != 0).then(|| {
            ns.resize(us.len(), 0);
            Arc::new(PrimitiveArray::<Int16Type>::new(ns.into(), None)) as _
        });
        let time = PrimitiveArray::<TimestampMicrosecondType>::new(us.into(), None);
        (Arc::new(time.with_timezone("UTC")), time_ns)
    }
}
