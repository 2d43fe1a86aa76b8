//! The time of rows, which moves, and the clock of the machine.
//!
//! A body is encoded once and sent many times, each time at another *slot* of time. What a slot
//! changes are the same few bytes in every row, the *prefix*; the rest of a time is the row's own:
//!
//! ```text
//! Decimal        1700000000 12 | 0000000   nanoseconds as text; a slot is 10 ms
//! BigEndian      00 06 0a 24 18 1e | 00 00 microseconds, 8 bytes; a slot is 65.536 ms
//! LittleEndian   00 00 | 1e 18 24 0a 06 00 the same, lowest byte first
//! ```
//!
//! All rows of a body lie in one slot: a row's offset is below [`SLOT_US`].

#![expect(clippy::disallowed_methods, reason = "a load tester measures time")]

use std::time::{Duration, Instant, SystemTime};

/// The shortest slot, in microseconds; offsets of rows are below it.
pub const SLOT_US: u32 = 10_000;
/// Bits of a binary time that are the row's own.
const BINARY_BITS: u32 = 16;
/// First times are multiples of this, so that all clocks agree about slot 0.
pub const ALIGNMENT_US: u64 = 625 << BINARY_BITS;
/// Bytes of the longest prefix.
pub const PREFIX_BYTES_MAX: usize = 12;

/// How a format writes times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Nanoseconds in 19 decimal digits, of which the first 12 are the prefix.
    Decimal,
    /// Microseconds in 8 bytes, highest first, of which the first 6 are the prefix.
    BigEndian,
    /// Microseconds in 8 bytes, lowest first, of which the last 6 are the prefix.
    LittleEndian,
}

impl Clock {
    /// Bytes of its prefix.
    pub fn prefix_bytes(self) -> usize {
        if self == Self::Decimal { PREFIX_BYTES_MAX } else { 6 }
    }

    /// Microseconds from the first time to that of `slot`.
    pub fn slot_us(self, slot: u64) -> u64 {
        if self == Self::Decimal { slot * u64::from(SLOT_US) } else { slot << BINARY_BITS }
    }

    /// The prefix of a slot, whose first time is `start_us` past 1970, a multiple of
    /// [`ALIGNMENT_US`] between the years 2001 and 2286. Its bytes beyond the clock's are 0.
    pub fn prefix(self, start_us: u64, slot: u64) -> [u8; PREFIX_BYTES_MAX] {
        let time_us = start_us + self.slot_us(slot);
        let mut prefix = [0; PREFIX_BYTES_MAX];
        if self == Self::Decimal {
            let mut rest = time_us / u64::from(SLOT_US);
            for digit in prefix.iter_mut().rev() {
                *digit = b'0' + u8::try_from(rest % 10).unwrap_or_default();
                rest /= 10;
            }
        } else {
            let bytes = (time_us >> BINARY_BITS).to_be_bytes();
            for (into, byte) in prefix.iter_mut().zip(bytes.iter().skip(2)) {
                *into = *byte;
            }
            if self == Self::LittleEndian {
                prefix.iter_mut().take(6).rev().zip(bytes.iter().skip(2)).for_each(|(into, it)| {
                    *into = *it;
                });
            }
        }
        prefix
    }
}

/// The monotonic clock.
pub fn now() -> Instant {
    Instant::now()
}

/// Time since 1970.
pub fn since_1970() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// The present, in microseconds, as a first time.
pub fn start_us() -> u64 {
    let us = since_1970().as_secs() * 1_000_000;
    us - us % ALIGNMENT_US
}
