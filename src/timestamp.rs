//! A point in time as columns hold it: whole microseconds and the nanoseconds below them.
//!
//! `TIMESTAMP(MICROS, UTC)` is what every engine reads (decision 6), so this is the form in which a
//! time is kept from the wire on: nothing is converted at flush. `time_ns` is a column of its own
//! that appears by widening when a row has digits below a microsecond.

/// Nanoseconds in a microsecond.
const NS_PER_US: i64 = 1_000;
/// Microseconds in a day.
pub const US_PER_DAY: i64 = 86_400_000_000;

/// Microseconds since 1970-01-01 UTC plus `0 <= ns < 1000` nanoseconds.
///
/// Range: the years 0001 to 9999 ([`Timestamp::MIN`], [`Timestamp::MAX`]), which is what Delta,
/// Spark and the partition name `date=YYYY-MM-DD` can express.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Timestamp {
    /// Microseconds since 1970-01-01 UTC, rounded down.
    pub us: i64,
    /// Nanoseconds above `us`, `0 <= ns < 1000`.
    pub ns: u16,
}

impl Timestamp {
    /// 0001-01-01T00:00:00Z.
    pub const MIN: Self = Self { us: -62_135_596_800_000_000, ns: 0 };
    /// 9999-12-31T23:59:59.999999999Z.
    pub const MAX: Self = Self { us: 253_402_300_799_999_999, ns: 999 };

    /// From nanoseconds since 1970-01-01 UTC; every `i64` is in range (1677 to 2262).
    #[inline]
    pub fn from_ns(ns: i64) -> Self {
        let us = ns.div_euclid(NS_PER_US);
        #[expect(clippy::cast_possible_truncation, reason = "a remainder of 1000 is in 0..1000")]
        let ns = ns.rem_euclid(NS_PER_US).unsigned_abs() as u16;
        Self { us, ns }
    }

    /// From whole microseconds; `None` outside the years 0001 to 9999.
    #[inline]
    pub fn from_us(us: i64) -> Option<Self> {
        (Self::MIN.us..=Self::MAX.us).contains(&us).then_some(Self { us, ns: 0 })
    }

    /// From seconds and the nanoseconds above them, as a MessagePack timestamp carries them;
    /// `None` outside the years 0001 to 9999 or when `ns` is not below a second.
    pub fn from_seconds(seconds: i64, ns: u32) -> Option<Self> {
        if ns >= 1_000_000_000 {
            return None;
        }
        let us = seconds.checked_mul(1_000_000)?.checked_add(i64::from(ns / 1_000))?;
        let below = u16::try_from(ns % 1_000).ok()?;
        Self::from_us(us).map(|it| Self { ns: below, ..it })
    }

    /// The day since 1970-01-01 UTC that holds this time.
    pub fn day(self) -> i64 {
        self.us.div_euclid(US_PER_DAY)
    }

    /// Nanoseconds since 1970-01-01 UTC; wider than `i64` because the range is.
    pub fn as_ns(self) -> i128 {
        i128::from(self.us) * i128::from(NS_PER_US) + i128::from(self.ns)
    }
}
