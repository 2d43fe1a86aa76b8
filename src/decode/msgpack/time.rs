//! A value as a point in time.
//!
//! | on the wire             | means                                                             |
//! |-------------------------|-------------------------------------------------------------------|
//! | integer                 | unit by its magnitude: `decode::precision::from_magnitude`        |
//! | unsigned above `i64`    | nanoseconds (the years 2262 to 2554)                              |
//! | float                   | unit by the same magnitudes, rounded down to a whole nanosecond   |
//! | extension -1, 4 bytes   | `u32` seconds                                                     |
//! | extension -1, 8 bytes   | 30 bits of nanoseconds, 34 bits of seconds                        |
//! | extension -1, 12 bytes  | `u32` nanoseconds, `i64` seconds                                  |

use super::error::{ItemError, Key};
use super::token::Token;
use crate::decode::precision;
use crate::timestamp::Timestamp;

/// 2^64 and 2^96, which scale a fraction to an integer without rounding it.
const TWO_POW_64: f64 = 18_446_744_073_709_551_616.0;
const TWO_POW_96: f64 = TWO_POW_64 * 4_294_967_296.0;

/// The time that `token`, which stands at byte `at` under `key`, means; nil is `received`.
///
/// # Errors
/// Another kind of value, NaN, or a time outside the years 0001 to 9999.
#[inline]
pub(super) fn from_token(
    token: &Token<'_>,
    key: Key,
    at: usize,
    received: Timestamp,
) -> Result<Timestamp, ItemError> {
    let time = match *token {
        Token::Int(value) => precision::from_magnitude(value),
        Token::Unsigned(value) => Some(from_unsigned_ns(value)),
        Token::Float(value) => from_float(value),
        Token::Nil => Some(received),
        Token::Ext(-1, data) if matches!(data.len(), 4 | 8 | 12) => from_extension(data),
        _ => return Err(ItemError::WrongValue { key, found: token.found(), at }),
    };
    time.ok_or(ItemError::TimeOutOfRange { at })
}

/// The time in the data of extension -1; `None` for another length than 4, 8 and 12 bytes, or a
/// time outside the years 0001 to 9999.
pub(super) fn from_extension(data: &[u8]) -> Option<Timestamp> {
    let (seconds, ns) = if let Ok(data) = <[u8; 4]>::try_from(data) {
        (i64::from(u32::from_be_bytes(data)), 0)
    } else if let Ok(data) = <[u8; 8]>::try_from(data) {
        let both = u64::from_be_bytes(data);
        (i64::try_from(both & 0x3_ffff_ffff).ok()?, u32::try_from(both >> 34).ok()?)
    } else {
        let (ns, seconds) = data.split_first_chunk::<4>()?;
        (i64::from_be_bytes(seconds.try_into().ok()?), u32::from_be_bytes(*ns))
    };
    Timestamp::from_seconds(seconds, ns)
}

/// Nanoseconds above `i64::MAX`.
fn from_unsigned_ns(ns: u64) -> Timestamp {
    let us = i64::try_from(ns / 1_000).unwrap_or(i64::MAX);
    Timestamp { us, ns: u16::try_from(ns % 1_000).unwrap_or_default() }
}

/// A float in the unit its magnitude says, rounded down to a nanosecond. No digit of the float is
/// lost on the way: 1700000000.5 is exact, and so is a whole number of nanoseconds.
fn from_float(value: f64) -> Option<Timestamp> {
    if !value.is_finite() {
        return None;
    }
    let unit_ns: u32 = match value.abs() {
        ..1e10 => 1_000_000_000,
        ..1e13 => 1_000_000,
        ..1e16 => 1_000,
        _ => 1,
    };
    let magnitude = value.abs();
    let scaled = magnitude.fract() * TWO_POW_96;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "rounded towards zero on purpose; `rest` says whether anything was lost"
    )]
    let (whole, fraction) = (magnitude as i128, scaled as u128);
    let below = fraction * u128::from(unit_ns);
    let rest = scaled.fract() != 0.0 || below << 32 != 0;
    let below = i128::try_from(below >> 96).ok()?;
    let ns = whole.checked_mul(i128::from(unit_ns))?.checked_add(below)?;
    let ns = if value < 0.0 { -ns - i128::from(rest) } else { ns };
    let us = i64::try_from(ns.div_euclid(1_000)).ok()?;
    let below = u16::try_from(ns.rem_euclid(1_000)).ok()?;
    Timestamp::from_us(us).map(|it| Timestamp { ns: below, ..it })
}
