//! What QuestDB's clients write otherwise, when they write text (version 1 of their protocol).
//!
//! ```text
//! point  = head [ 1*SP field *( "," field ) ] [ 1*SP time ] *SP   ; a tag or a field at least
//! field  = key "=" [ value ]                     ; an empty value: the field is null
//! value  = float / NaN / [sign] Infinity, in any case, as they are / ["-"] 1*DIGIT "i"
//!        / 1*DIGIT "u" / boolean in any case / string
//!        / ["-"] 1*DIGIT ( "t" / "n" / "m" )     ; a time in us, ns or ms
//! time   = ["-"] 1*DIGIT [ "t" / "n" / "m" ]     ; without a unit: in the body's precision
//! escape = "\" any                               ; stands for the byte behind it, LF and CR too
//! ```
//!
//! Everything else is as for all. Values that their server takes and this one does not: the binary
//! doubles, arrays and decimals of later versions, which clients send only to a server that asks
//! for them, and integers of more than 64 bits. A column named `time` is refused, because it is the
//! row's own time; for other clients a field of that name is left out.
//!
//! The grammar beside ours is at the end of `schemas/wire/line_protocol.ebnf`. Source:
//! `questdb-rs/src/ingress/buffer/ilp.rs` of c-questdb-client, `LineTcpParser.java` of QuestDB.

use super::LineError;
use super::token::FieldValue;
use crate::decode::number::{self, NumberError};
use crate::timestamp::Timestamp;

/// The byte behind `==` by which a binary value tells its type: array, double, decimals.
const BINARY_TYPES: [u8; 5] = [0x0e, 0x10, 0x11, 0x16, 0x17];

/// Whether the line at `start` holds a binary value: `==` and a type, which no text has there.
pub(super) fn has_binary_value(bytes: &[u8], start: usize) -> bool {
    let rest = bytes.get(start..).unwrap_or_default();
    let mut end = 0;
    let line = loop {
        let tail = rest.get(end..).unwrap_or_default();
        match memchr::memchr(b'\n', tail) {
            Some(at) if rest.get(end + at - usize::from(end + at > 0)) == Some(&b'\\') => {
                end += at + 1;
            }
            Some(at) => break rest.get(..end + at),
            None => break Some(rest),
        }
    };
    line.unwrap_or_default().windows(3).any(|window| match window {
        [b'=', b'=', kind] => BINARY_TYPES.contains(kind),
        _ => false,
    })
}

/// The value that the unquoted `word` is, if it is one only here.
pub(super) fn value(padded: &[u8], start: usize, word: &[u8]) -> Option<FieldValue> {
    if word.is_empty() {
        return Some(FieldValue::Null);
    }
    for (name, value) in [("t", true), ("true", true), ("f", false), ("false", false)] {
        if word.eq_ignore_ascii_case(name.as_bytes()) {
            return Some(FieldValue::Bool(value));
        }
    }
    let unsigned = word.strip_prefix(b"-").or_else(|| word.strip_prefix(b"+")).unwrap_or(word);
    if matches!(unsigned.first(), Some(b'I' | b'i' | b'N' | b'n')) {
        // Of what begins so, the standard library takes the names of infinity and NaN, in any case.
        return str::from_utf8(word).ok()?.parse().ok().map(FieldValue::F64);
    }
    let unit = Unit::of(*word.last()?)?;
    let (value, next) = number::signed(padded, start).ok()?;
    (next + 1 == start + word.len()).then_some(())?;
    unit.time(value).map(FieldValue::Time)
}

/// The time in the word `start..end`, when its unit stands behind it; `None` when none does.
pub(super) fn time(
    padded: &[u8],
    start: usize,
    end: usize,
) -> Option<Result<Timestamp, LineError>> {
    let unit = Unit::of(*padded.get(end.checked_sub(1)?)?)?;
    Some(match number::signed(padded, start) {
        Ok((value, next)) if next + 1 == end => {
            unit.time(value).ok_or(LineError::TimestampOutOfRangeForPrecision)
        }
        Err(NumberError::OutOfRange { next }) if next + 1 == end => {
            Err(LineError::TimestampOutOfRange)
        }
        _ => Err(LineError::InvalidTimestamp),
    })
}

/// The unit of a time, by its letter.
#[derive(Clone, Copy)]
enum Unit {
    Microseconds,
    Milliseconds,
    Nanoseconds,
}

impl Unit {
    fn of(letter: u8) -> Option<Self> {
        match letter {
            b't' => Some(Self::Microseconds),
            b'm' => Some(Self::Milliseconds),
            b'n' => Some(Self::Nanoseconds),
            _ => None,
        }
    }

    /// `None` outside the years 0001 to 9999.
    fn time(self, value: i64) -> Option<Timestamp> {
        match self {
            Self::Microseconds => Timestamp::from_us(value),
            Self::Milliseconds => Timestamp::from_us(value.checked_mul(1_000)?),
            Self::Nanoseconds => Some(Timestamp::from_ns(value)),
        }
    }
}
