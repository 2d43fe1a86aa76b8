//! A value as a point in time.
//!
//! | in a document          | means                                                              |
//! |------------------------|--------------------------------------------------------------------|
//! | integer                | in the unit of the request, or by its magnitude                    |
//! | unsigned above `i64`   | nanoseconds (the years 2262 to 2554)                               |
//! | float                  | the same units, rounded down to a whole nanosecond                 |
//! | string                 | RFC 3339, rounded down to a whole nanosecond                       |
//!
//! ```text
//! rfc3339 = 4DIGIT "-" 2DIGIT "-" 2DIGIT ("T" / "t" / " ") 2DIGIT ":" 2DIGIT ":" 2DIGIT
//!           ["." 1*DIGIT] ("Z" / "z" / ("+" / "-") 2DIGIT ":" 2DIGIT)
//! ```

use super::error::{ItemError, Key};
use super::tape::Value;
use crate::decode::Precision;
use crate::decode::precision;
use crate::timestamp::Timestamp;

/// The time that `value`, which stands under `key`, means in `unit`; null is `received`. `at` says
/// where the value stands, should it be no time.
///
/// # Errors
/// Another kind of value, or a time outside the years 0001 to 9999.
#[inline]
pub(super) fn from_value(
    value: Value<'_>,
    unit: Precision,
    key: Key,
    at: impl FnOnce() -> usize,
    received: Timestamp,
) -> Result<Timestamp, ItemError> {
    let time = match value {
        Value::Int(value) => from_integer(value, unit),
        Value::Unsigned(value) => match unit {
            Precision::Auto | Precision::Nanosecond => Some(precision::from_unsigned_ns(value)),
            _ => None,
        },
        Value::Float(value) => precision::from_float(value, unit),
        Value::Null => Some(received),
        Value::Str(text) => match rfc3339(text.as_bytes()) {
            Some((seconds, ns)) => Timestamp::from_seconds(seconds, ns),
            None => return Err(ItemError::WrongValue { key, found: value.found(), at: at() }),
        },
        Value::Faulty(fault) => {
            let name = super::Excerpt::new(key.name().as_bytes());
            return Err(ItemError::Faulty { name, fault, at: at() });
        }
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
            return Err(ItemError::WrongValue { key, found: value.found(), at: at() });
        }
    };
    time.ok_or_else(|| ItemError::TimeOutOfRange { at: at() })
}

/// The time that an integer means in `unit`; `None` outside the years 0001 to 9999.
#[inline(always)]
pub(super) fn from_integer(value: i64, unit: Precision) -> Option<Timestamp> {
    match unit {
        Precision::Auto => precision::from_magnitude(value),
        Precision::Nanosecond => Some(Timestamp::from_ns(value)),
        _ => Timestamp::from_us(value.checked_mul(unit.unit_ns(0) / 1_000)?),
    }
}

/// Seconds since 1970-01-01 UTC and the nanoseconds above them of a time in the years 0 to 9999;
/// `None` when it is not RFC 3339.
pub(super) fn rfc3339(text: &[u8]) -> Option<(i64, u32)> {
    let (year, rest) = digits::<4>(text)?;
    let (month, rest) = digits::<2>(rest.strip_prefix(b"-")?)?;
    let (day, rest) = digits::<2>(rest.strip_prefix(b"-")?)?;
    let [b'T' | b't' | b' ', rest @ ..] = rest else { return None };
    let (hour, rest) = digits::<2>(rest)?;
    let (minute, rest) = digits::<2>(rest.strip_prefix(b":")?)?;
    let (second, rest) = digits::<2>(rest.strip_prefix(b":")?)?;
    let (ns, rest) = fraction(rest)?;
    let offset = match rest {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), rest @ ..] => {
            let (hours, rest) = digits::<2>(rest)?;
            let (minutes, rest) = digits::<2>(rest.strip_prefix(b":")?)?;
            (rest.is_empty() && hours < 24 && minutes < 60).then_some(())?;
            let seconds = hours * 3_600 + minutes * 60;
            if *sign == b'+' { seconds } else { -seconds }
        }
        _ => return None,
    };
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    ((1..=days).contains(&day) && hour < 24 && minute < 60 && second < 60).then_some(())?;
    let seconds = (days_before(year, month) + day - 1) * 86_400;
    let seconds = seconds + hour * 3_600 + minute * 60 + second - offset;
    Some((seconds, ns))
}

/// Days from 1970-01-01 to the first of a month. The year begins in March, so that its leap day is
/// its last.
fn days_before(year: i64, month: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leaps = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leaps + (month * 153 + 2) / 5 - 719_468
}

/// `N` digits, and what is behind them.
fn digits<const N: usize>(text: &[u8]) -> Option<(i64, &[u8])> {
    let (digits, rest) = text.split_first_chunk::<N>()?;
    let next =
        |value: i64, byte: &u8| byte.is_ascii_digit().then(|| value * 10 + i64::from(*byte - b'0'));
    Some((digits.iter().try_fold(0, next)?, rest))
}

/// Nanoseconds of a fraction that may be absent, and what is behind it.
fn fraction(text: &[u8]) -> Option<(u32, &[u8])> {
    let Some(rest) = text.strip_prefix(b".") else { return Some((0, text)) };
    let end = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
    let (digits, rest) = rest.split_at_checked(end).filter(|(digits, _)| !digits.is_empty())?;
    let padded = digits.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    Some((padded.fold(0, |ns, byte| ns * 10 + u32::from(byte - b'0')), rest))
}
