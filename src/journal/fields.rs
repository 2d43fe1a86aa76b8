//! Little-endian fields, one behind the other.

/// Reads fields from bytes; `None` where they end too early.
#[derive(Debug)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    pub(super) fn u128(&mut self) -> Option<u128> {
        self.array().map(u128::from_le_bytes)
    }

    /// A string behind its length.
    pub(super) fn string(&mut self) -> Option<&'a str> {
        let count = usize::try_from(self.u32()?).ok()?;
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        str::from_utf8(head).ok()
    }

    /// A count of things of at least `bytes` bytes each, all of which must follow: memory is never
    /// reserved for more than is there.
    pub(super) fn count(&mut self, bytes: usize) -> Option<usize> {
        let count = usize::try_from(self.u32()?).ok()?;
        (count.checked_mul(bytes)? <= self.0.len()).then_some(count)
    }
}

/// A length or a count as it is written. What is journaled came from bodies, whose bound is far
/// below 4 GiB.
pub(super) fn count(count: usize) -> [u8; 4] {
    debug_assert!(u32::try_from(count).is_ok(), "expected a count below 2^32, found {count}");
    u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes()
}

/// Appends a string behind its length.
pub(super) fn push_string(bytes: &mut Vec<u8>, string: &str) {
    bytes.extend(count(string.len()));
    bytes.extend(string.as_bytes());
}
