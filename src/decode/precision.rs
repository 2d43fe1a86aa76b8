//! Unit of the timestamps in a body, and the way from such a number to a [`Timestamp`].
//!
//! | precision   | names (a plural `s` may follow a long one)        | one unit         |
//! |-------------|---------------------------------------------------|------------------|
//! | Auto        | `auto`                                            | by the magnitude |
//! | Nanosecond  | `n`, `ns`, `nanosecond`                           | 1 ns             |
//! | Microsecond | `u`, `us`, `microsecond`, micro sign with or      | 1000 ns          |
//! |             | without `s`                                       |                  |
//! | Millisecond | `ms`, `millisecond`                               | 10^6 ns          |
//! | Second      | `s`, `second`                                     | 10^9 ns          |
//! | Minute      | `m`, `minute`                                     | 60 * 10^9 ns     |
//! | Hour        | `h`, `hour`                                       | 3600 * 10^9 ns   |
//!
//! Two rules guess a unit from a magnitude, because two servers do: InfluxDB 3's for line protocol
//! ([`Precision::Auto`]) and Arc's for `MessagePack` ([`from_magnitude`]).

use std::ops::Range;

use crate::timestamp::Timestamp;

/// 2^64 and 2^84, which scale a fraction to an integer without rounding it.
const TWO_POW_64: f64 = 18_446_744_073_709_551_616.0;
const TWO_POW_84: f64 = TWO_POW_64 * 1_048_576.0;

/// Unit of the timestamps in a body.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Precision {
    /// Guessed per value from its magnitude: `|t|/1e9 < 5` s, `< 5e3` ms, `< 5e6` us, else ns.
    Auto,
    /// Nanoseconds.
    #[default]
    Nanosecond,
    /// Microseconds.
    Microsecond,
    /// Milliseconds.
    Millisecond,
    /// Seconds.
    Second,
    /// Minutes, InfluxDB 1.x only.
    Minute,
    /// Hours, InfluxDB 1.x only.
    Hour,
}

impl Precision {
    /// The precision of that name; every spelling of InfluxDB 1, 2 and 3 on every endpoint.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "auto" => Self::Auto,
            "n" | "ns" | "nanosecond" | "nanoseconds" => Self::Nanosecond,
            // Both characters that look like a micro sign: U+00B5 and the Greek letter U+03BC.
            "u" | "us" | "microsecond" | "microseconds" | "\u{b5}" | "\u{b5}s" | "\u{3bc}"
            | "\u{3bc}s" => Self::Microsecond,
            "ms" | "millisecond" | "milliseconds" => Self::Millisecond,
            "s" | "second" | "seconds" => Self::Second,
            "m" | "minute" | "minutes" => Self::Minute,
            "h" | "hour" | "hours" => Self::Hour,
            _ => return None,
        })
    }

    /// The time that the number `value` of a body in this precision means.
    ///
    /// `None` when it is outside `i64` nanoseconds (the years 1677 to 2262), which is what the line
    /// protocol of every InfluxDB can express; it never wraps.
    #[inline]
    pub fn timestamp(self, value: i64) -> Option<Timestamp> {
        match self {
            Self::Nanosecond => Some(Timestamp::from_ns(value)),
            _ => value.checked_mul(self.unit_ns(value)).map(Timestamp::from_ns),
        }
    }

    /// `time` without the digits this precision cannot express; `Auto` expresses all of them.
    pub fn truncate(self, time: Timestamp) -> Timestamp {
        match self {
            Self::Auto | Self::Nanosecond => time,
            _ => {
                let unit_us = self.unit_ns(0) / 1_000;
                Timestamp { us: time.us - time.us.rem_euclid(unit_us), ns: 0 }
            }
        }
    }

    /// Nanoseconds in the unit of `value`.
    pub(super) fn unit_ns(self, value: i64) -> i64 {
        match self {
            Self::Auto => match value.unsigned_abs() / 1_000_000_000 {
                0..5 => 1_000_000_000,
                5..5_000 => 1_000_000,
                5_000..5_000_000 => 1_000,
                _ => 1,
            },
            Self::Nanosecond => 1,
            Self::Microsecond => 1_000,
            Self::Millisecond => 1_000_000,
            Self::Second => 1_000_000_000,
            Self::Minute => 60_000_000_000,
            Self::Hour => 3_600_000_000_000,
        }
    }
}

/// A unit that is a whole number of microseconds, and the magnitudes that are taken for it.
#[derive(Clone, Debug)]
pub struct WholeUnit {
    /// Microseconds in the unit.
    pub us: i64,
    /// Absolute values that mean it; times `us` they are within the years 0001 to 9999.
    pub magnitudes: Range<u64>,
}

/// The unit a bare integer has in Arc's `MessagePack`: below 10^10 seconds, below 10^13
/// milliseconds, below 10^16 microseconds; `None` beyond, which is nanoseconds.
///
/// The magnitude decides, so times before 1970 follow the same rule (Arc takes every negative
/// number for seconds and stores garbage for the other units).
#[inline]
pub fn whole_unit(value: i64) -> Option<WholeUnit> {
    const SECONDS: u64 = 10_000_000_000;
    let (us, magnitudes) = match value.unsigned_abs() {
        ..SECONDS => (1_000_000, 0..SECONDS),
        it if it < SECONDS * 1_000 => (1_000, SECONDS..SECONDS * 1_000),
        it if it < SECONDS * 1_000_000 => (1, SECONDS * 1_000..SECONDS * 1_000_000),
        _ => return None,
    };
    Some(WholeUnit { us, magnitudes })
}

/// The time a bare integer means in Arc's `MessagePack`; see [`whole_unit`].
/// `None` outside the years 0001 to 9999.
#[inline]
pub fn from_magnitude(value: i64) -> Option<Timestamp> {
    match whole_unit(value) {
        Some(unit) => Timestamp::from_us(value.checked_mul(unit.us)?),
        None => Some(Timestamp::from_ns(value)),
    }
}

/// The time of nanoseconds above `i64::MAX`.
pub fn from_unsigned_ns(ns: u64) -> Timestamp {
    let us = i64::try_from(ns / 1_000).unwrap_or(i64::MAX);
    Timestamp { us, ns: u16::try_from(ns % 1_000).unwrap_or_default() }
}

/// The time a float means in `unit`, rounded down to a nanosecond; by `Auto`, in the unit that its
/// magnitude says (see [`whole_unit`]). No digit of the float is lost on the way: 1700000000.5 is
/// exact, and so is a whole number of nanoseconds.
///
/// `None` for NaN, and outside the years 0001 to 9999.
pub fn from_float(value: f64, unit: Precision) -> Option<Timestamp> {
    if !value.is_finite() {
        return None;
    }
    let magnitude = value.abs();
    let unit_ns = match (unit, magnitude) {
        (Precision::Auto, ..1e10) => 1_000_000_000,
        (Precision::Auto, ..1e13) => 1_000_000,
        (Precision::Auto, ..1e16) => 1_000,
        (Precision::Auto, _) => 1,
        _ => unit.unit_ns(0),
    };
    let scaled = magnitude.fract() * TWO_POW_84;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "rounded towards zero on purpose; `rest` says whether anything was lost"
    )]
    let (whole, fraction) = (magnitude as i128, scaled as u128);
    // Below 2^84 times below 2^42.
    let below = fraction * u128::from(unit_ns.unsigned_abs());
    let rest = scaled.fract() != 0.0 || below << 44 != 0;
    let below = i128::try_from(below >> 84).ok()?;
    let ns = whole.checked_mul(i128::from(unit_ns))?.checked_add(below)?;
    let ns = if value < 0.0 { -ns - i128::from(rest) } else { ns };
    let us = i64::try_from(ns.div_euclid(1_000)).ok()?;
    let below = u16::try_from(ns.rem_euclid(1_000)).ok()?;
    Timestamp::from_us(us).map(|it| Timestamp { ns: below, ..it })
}
