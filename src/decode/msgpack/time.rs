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
use crate::decode::precision::{self, Precision};
use crate::timestamp::Timestamp;

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
        Token::Unsigned(value) => Some(precision::from_unsigned_ns(value)),
        Token::Float(value) => precision::from_float(value, Precision::Auto),
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
