//! One line cut into spans by the whole grammar; nothing is copied, nothing is stored.

use super::escape::Dialect;
use super::{LineError, questdb};
use crate::decode::Precision;
use crate::decode::number::{self, NumberError};
use crate::timestamp::Timestamp;

/// The bytes `start..end` of the body, escapes included.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Span {
    pub(super) fn is_empty(self) -> bool {
        self.start == self.end
    }
}

/// A field's value.
#[derive(Clone, Copy, Debug)]
pub(super) enum FieldValue {
    Bool(bool),
    I64(i64),
    U64(u64),
    F64(f64),
    /// What stands between the quotes.
    String(Span),
    /// A time, in QuestDB's dialect.
    Time(Timestamp),
    /// `NaN` or an infinity: the field is left out.
    Dropped,
    /// Nothing, in QuestDB's dialect: the field is null.
    Null,
}

/// The parts of one line. Reused from line to line.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    pub(super) measurement: Span,
    /// Name and value; the value may be empty.
    pub(super) tags: Vec<(Span, Span)>,
    pub(super) fields: Vec<(Span, FieldValue)>,
    /// End of measurement and tags.
    pub(super) head_end: usize,
    pub(super) time: Option<Timestamp>,
    /// Whether a tag has no value: the columns do not see its name.
    pub(super) has_empty_tag: bool,
    /// Whether a field is left out: the columns do not see its name.
    pub(super) has_left_out_field: bool,
}

/// A line to cut: `start..end` without its line end, and how to read it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'a> {
    pub(super) padded: &'a [u8],
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) dialect: Dialect,
    pub(super) precision: Precision,
}

impl Line<'_> {
    fn byte(&self, at: usize) -> Option<u8> {
        self.padded.get(at).copied().filter(|_| at < self.end)
    }

    fn bytes(&self, span: Span) -> &[u8] {
        self.padded.get(span.start..span.end).unwrap_or_default()
    }

    /// From `start` to the first byte that ends a name.
    fn name(&self, start: usize, ends: impl Fn(u8) -> bool) -> Span {
        let bytes = self.padded.get(..self.end).unwrap_or_default();
        Span { start, end: name_end(bytes, start, self.dialect, ends) }
    }

    fn skip_spaces(&self, mut at: usize) -> usize {
        while self.byte(at) == Some(b' ') {
            at += 1;
        }
        at
    }
}

/// The bytes that end a measurement or a tag value.
#[inline]
pub(super) fn ends_value(byte: u8) -> bool {
    matches!(byte, b',' | b' ' | b'\n')
}

/// The bytes that end the key of a tag or a field.
#[inline]
pub(super) fn ends_key(byte: u8) -> bool {
    matches!(byte, b',' | b'=' | b' ' | b'\n')
}

/// Position of the first unprotected byte from `at` on that `ends` a name, or the end of `bytes`.
#[inline]
pub(super) fn name_end(
    bytes: &[u8],
    mut at: usize,
    dialect: Dialect,
    ends: impl Fn(u8) -> bool,
) -> usize {
    while let Some(byte) = bytes.get(at) {
        if *byte == b'\\' {
            let is_protected = match (dialect, bytes.get(at + 1)) {
                (_, None) => false,
                (Dialect::V3 | Dialect::QuestDb, Some(_)) => true,
                (Dialect::V1, Some(byte)) => ends_key(*byte),
            };
            at += 1 + usize::from(is_protected);
        } else if ends(*byte) {
            break;
        } else {
            at += 1;
        }
    }
    at.min(bytes.len())
}

/// Position of the first comma from `at` on, or the end of `bytes`. Names are short: eight bytes at
/// a time cost less than a call.
#[inline]
pub(super) fn first_comma(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const COMMAS: u64 = ONES * b',' as u64;
    while let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let others = u64::from_le_bytes(*word) ^ COMMAS;
        // The high bit of each byte that is zero; above the lowest one there may be false ones.
        let commas = others.wrapping_sub(ONES) & !others & (ONES << 7);
        if commas != 0 {
            return at + (commas.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    at + bytes.iter().skip(at).take_while(|byte| **byte != b',').count()
}

impl Tokens {
    /// Cuts `line`. After an error the tokens before it are there, and the name at which a field's
    /// value is wrong.
    pub(super) fn read(&mut self, line: &Line<'_>) -> Result<(), LineError> {
        self.tags.clear();
        self.fields.clear();
        self.has_empty_tag = false;
        self.has_left_out_field = false;
        self.time = None;
        self.measurement = line.name(line.start, ends_value);
        if self.measurement.is_empty() {
            return Err(LineError::MissingMeasurement);
        }
        if line.bytes(self.measurement).contains(&0) {
            return Err(LineError::NulInMeasurement);
        }
        self.head_end = self.read_tags(line)?;
        let mut at = line.skip_spaces(self.head_end);
        if !self.is_without_fields(line, at) {
            if at == line.end {
                return Err(LineError::MissingFields);
            }
            at = self.read_fields(line, at)?;
        }
        self.time = read_time(line, at)?;
        Ok(())
    }

    /// Reads all tags and returns the position behind them.
    fn read_tags(&mut self, line: &Line<'_>) -> Result<usize, LineError> {
        let mut at = self.measurement.end;
        while line.byte(at) == Some(b',') {
            let key = line.name(at + 1, ends_key);
            if key.is_empty() {
                return Err(LineError::MissingTagKey);
            }
            if line.byte(key.end) != Some(b'=') {
                return Err(LineError::MissingTagValue);
            }
            let value = line.name(key.end + 1, ends_value);
            self.has_empty_tag |= value.is_empty();
            self.tags.push((key, value));
            at = value.end;
        }
        Ok(at)
    }

    /// Whether the line ends at `at`, or has a time there, and may do so: tags alone are a row of
    /// QuestDB's.
    fn is_without_fields(&self, line: &Line<'_>, at: usize) -> bool {
        if line.dialect != Dialect::QuestDb || self.tags.is_empty() {
            return false;
        }
        let is_number = line.byte(at).is_some_and(|it| it == b'-' || it.is_ascii_digit());
        let word = line.name(at, ends_key);
        at == line.end || (is_number && line.byte(word.end) != Some(b'='))
    }

    /// Reads all fields from `at` on and returns the position behind them.
    fn read_fields(&mut self, line: &Line<'_>, mut at: usize) -> Result<usize, LineError> {
        loop {
            let key = line.name(at, ends_key);
            if key.is_empty() {
                return Err(LineError::MissingFieldKey);
            }
            let may_be_null = line.dialect == Dialect::QuestDb;
            if line.byte(key.end) != Some(b'=') || (key.end + 1 == line.end && !may_be_null) {
                return Err(LineError::MissingFieldValue);
            }
            self.fields.push((key, FieldValue::Dropped));
            let (value, next) = read_value(line, key.end + 1)?;
            let is_left_out = matches!(value, FieldValue::Dropped | FieldValue::Null)
                || line.bytes(key) == b"time";
            self.has_left_out_field |= is_left_out;
            if let Some(field) = self.fields.last_mut() {
                field.1 = value;
            }
            match line.byte(next) {
                Some(b',') => at = next + 1,
                _ => return Ok(next),
            }
        }
    }
}

/// Reads the value at `at` and returns the position behind it: a comma, a space, or the end.
fn read_value(line: &Line<'_>, at: usize) -> Result<(FieldValue, usize), LineError> {
    if line.byte(at) == Some(b'"') {
        let bytes = line.padded.get(..line.end).unwrap_or_default();
        let quote = super::line_end::string_end(bytes, at + 1, true);
        let quote = quote.ok_or(LineError::UnbalancedQuotes)?;
        return match line.byte(quote + 1) {
            None | Some(b',' | b' ') => {
                Ok((FieldValue::String(Span { start: at + 1, end: quote }), quote + 1))
            }
            Some(_) => Err(LineError::UnexpectedCharacter),
        };
    }
    let mut end = at;
    while line.byte(end).is_some_and(|byte| byte != b',' && byte != b' ') {
        end += 1;
    }
    let word = Span { start: at, end };
    let special = match line.dialect {
        Dialect::QuestDb => questdb::value(line.padded, at, line.bytes(word)),
        Dialect::V1 | Dialect::V3 => None,
    };
    match special {
        Some(value) => Ok((value, end)),
        None => Ok((plain_value(line.padded, word)?, end)),
    }
}

/// The value that the unquoted `word` is.
fn plain_value(padded: &[u8], word: Span) -> Result<FieldValue, LineError> {
    use LineError::{FloatOutOfRange, IntegerOutOfRange, UnsignedOutOfRange};
    let bytes = padded.get(word.start..word.end).unwrap_or_default();
    if let Some(value) = boolean(bytes) {
        return Ok(FieldValue::Bool(value));
    }
    let number = match bytes.last() {
        Some(b'i') => {
            let number =
                number::signed(padded, word.start).map(|(v, end)| (FieldValue::I64(v), end));
            (number, word.end - 1, IntegerOutOfRange)
        }
        Some(b'u') => {
            let number =
                number::unsigned(padded, word.start).map(|(v, end)| (FieldValue::U64(v), end));
            (number, word.end - 1, UnsignedOutOfRange)
        }
        _ => {
            let number =
                number::float(padded, word.start).map(|(v, end)| (FieldValue::F64(v), end));
            (number, word.end, FloatOutOfRange)
        }
    };
    match number {
        (Ok((value, next)), end, _) if next == end => Ok(value),
        (Err(NumberError::OutOfRange { next }), end, error) if next == end => Err(error),
        _ if is_not_finite(bytes) => Ok(FieldValue::Dropped),
        _ => Err(LineError::InvalidFieldValue),
    }
}

/// The spellings of a boolean.
pub(super) fn boolean(word: &[u8]) -> Option<bool> {
    match word {
        b"t" | b"T" | b"true" | b"True" | b"TRUE" => Some(true),
        b"f" | b"F" | b"false" | b"False" | b"FALSE" => Some(false),
        _ => None,
    }
}

/// `NaN`, `Inf` or `Infinity` in any case; infinities may have a sign.
fn is_not_finite(word: &[u8]) -> bool {
    let unsigned = word.strip_prefix(b"-").or_else(|| word.strip_prefix(b"+")).unwrap_or(word);
    let is = |name: &[u8]| unsigned.eq_ignore_ascii_case(name);
    word.eq_ignore_ascii_case(b"nan") || is(b"inf") || is(b"infinity")
}

/// Reads what stands behind the fields: at most a time, and spaces.
fn read_time(line: &Line<'_>, at: usize) -> Result<Option<Timestamp>, LineError> {
    let start = line.skip_spaces(at);
    if start == line.end {
        return Ok(None);
    }
    let mut end = start;
    while line.byte(end).is_some_and(|byte| byte != b' ') {
        end += 1;
    }
    let with_unit = match line.dialect {
        Dialect::QuestDb => questdb::time(line.padded, start, end),
        Dialect::V1 | Dialect::V3 => None,
    };
    let time = match with_unit {
        Some(time) => time?,
        None => plain_time(line, start, end)?,
    };
    if line.skip_spaces(end) == line.end { Ok(Some(time)) } else { Err(LineError::TrailingContent) }
}

/// The time in the word `start..end`, in the precision of the body.
fn plain_time(line: &Line<'_>, start: usize, end: usize) -> Result<Timestamp, LineError> {
    let value = match number::signed(line.padded, start) {
        Ok((value, next)) if next == end => value,
        Err(NumberError::OutOfRange { next }) if next == end => {
            return Err(LineError::TimestampOutOfRange);
        }
        _ => return Err(LineError::InvalidTimestamp),
    };
    line.precision.timestamp(value).ok_or(LineError::TimestampOutOfRangeForPrecision)
}
