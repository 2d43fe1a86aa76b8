//! Line protocol as QuestDB's clients write it, to row structs, the obvious way.

#![expect(clippy::indexing_slicing, reason = "the obvious way, with positions just found")]
#![expect(clippy::naive_bytecount, reason = "naive")]

use peristyle::decode::Precision;

use super::line_protocol::{self, UNTERMINATED_MAX, logical_line};
use crate::lines::received;
use crate::support::{Row, Value};

/// Stands for what the columns say.
const COLUMNS: &str = "";
const BINARY: &str = "expected text, found a binary value";

/// Rows with the lines they begin on.
type Rows = Vec<(u64, Row)>;
/// Lines with the reasons why they are none.
type Rejections = Vec<(u64, &'static str)>;

/// The lines of `body` that are rows, with their numbers, and the others with their reasons.
pub(crate) fn decode(body: &[u8], precision: Precision) -> (Rows, Rejections) {
    let (mut rows, mut rejections) = (Vec::new(), Vec::new());
    let mut rest = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let (mut line, mut unterminated) = (1, 0);
    while !rest.is_empty() {
        let blanks = rest.iter().take_while(|byte| b" \t\r".contains(byte)).count();
        rest = &rest[blanks..];
        let physical = rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
        let mut end = physical;
        if !rest.starts_with(b"#") && physical > 0 {
            let logical = logical_line(rest, unterminated < UNTERMINATED_MAX);
            unterminated += usize::from(logical.is_none() && unterminated < UNTERMINATED_MAX);
            end = logical.unwrap_or(physical);
            let text = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
            let row = match (logical, std::str::from_utf8(text)) {
                (None, _) => Err("unbalanced quotes"),
                (_, Err(_)) => Err("invalid UTF-8"),
                (_, Ok(text)) => point(text, precision),
            };
            match row {
                Ok(row) => rows.push((line, row)),
                Err(COLUMNS) => rejections.push((line, COLUMNS)),
                // Looked for in the first line that is none by itself.
                Err(_) if is_first_fault(&rejections) && has_binary(rest) => {
                    rejections.push((line, BINARY));
                    return (rows, rejections);
                }
                Err(reason) => rejections.push((line, reason)),
            }
        }
        let next = (end + 1).min(rest.len());
        line += rest[..next].iter().filter(|&&byte| byte == b'\n').count() as u64;
        rest = &rest[next..];
    }
    (rows, rejections)
}

fn is_first_fault(rejections: &Rejections) -> bool {
    rejections.iter().all(|(_, reason)| *reason == COLUMNS)
}

fn has_binary(rest: &[u8]) -> bool {
    let is_end = |at: &usize| rest[*at] == b'\n' && (*at == 0 || rest[at - 1] != b'\\');
    let end = (0..rest.len()).find(is_end).unwrap_or(rest.len());
    let has = |kind: u8| rest[..end].windows(3).any(|it| it == [b'=', b'=', kind]);
    [0x0e, 0x10, 0x11, 0x16, 0x17].into_iter().any(has)
}

fn point(text: &str, precision: Precision) -> Result<Row, &'static str> {
    let (measurement, mut rest) = word(text, ", \n");
    if measurement.is_empty() {
        return Err("missing measurement");
    }
    if measurement.contains('\0') {
        return Err("NUL in measurement");
    }
    let mut names: Vec<String> = Vec::new();
    let mut row = Row { measurement: plain(measurement), ..Row::default() };
    let mut has_tag_time = false;
    while let Some(tag) = rest.strip_prefix(',') {
        let (key, after) = word(tag, ",= \n");
        if key.is_empty() {
            return Err("missing tag key");
        }
        let value = after.strip_prefix('=').ok_or("missing tag value")?;
        let (value, after) = word(value, ", \n");
        rest = after;
        let key = plain(key);
        if names.contains(&key) {
            return Err("duplicate tag");
        }
        has_tag_time |= key == "time";
        names.push(key.clone());
        if !value.is_empty() {
            row.tags.insert(key, plain(value));
        }
    }
    let tag_count = names.len();
    rest = rest.trim_start_matches(' ');
    let mut is_refused = false;
    if tag_count == 0 || !is_time_alone(rest) {
        if rest.is_empty() {
            return Err("missing fields");
        }
        loop {
            let (key, after) = word(rest, ",= \n");
            if key.is_empty() {
                return Err("missing field key");
            }
            let text = after.strip_prefix('=').ok_or("missing field value")?;
            let key = plain(key);
            match names.iter().position(|name| *name == key) {
                Some(at) if at < tag_count => return Err("tag and field with the same name"),
                Some(_) => return Err("duplicate field"),
                None => names.push(key.clone()),
            }
            let (value, after) = value(text)?;
            is_refused |= key == "time";
            match value {
                // Digits that the column cannot hold.
                Some(Err(())) => is_refused = true,
                Some(Ok(value)) => drop(row.fields.insert(key, value)),
                None => {}
            }
            match after.strip_prefix(',') {
                Some(next) => rest = next,
                None => break rest = after,
            }
        }
    }
    let time = time(rest.trim_matches(' '), precision)?;
    row.time_ns = time.unwrap_or_else(|| precision.truncate(received()).as_ns());
    if has_tag_time {
        return Err("reserved tag key");
    }
    if is_refused || (row.fields.is_empty() && row.tags.is_empty()) {
        return Err(COLUMNS);
    }
    Ok(row)
}

fn is_time_alone(rest: &str) -> bool {
    let is_number = rest.starts_with(|it: char| it == '-' || it.is_ascii_digit());
    rest.is_empty() || (is_number && !word(rest, ",= \n").1.starts_with('='))
}

/// Everything before the first unescaped character of `stops`, and the rest.
fn word<'a>(text: &'a str, stops: &str) -> (&'a str, &'a str) {
    let mut escaped = false;
    for (at, char) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if stops.contains(char) {
            return text.split_at(at);
        } else {
            escaped = char == '\\';
        }
    }
    (text, "")
}

/// `word` without the backslashes that stand before something.
fn plain(word: &str) -> String {
    let (mut plain, mut chars) = (String::new(), word.chars());
    while let Some(char) = chars.next() {
        plain.push(if char == '\\' { chars.next().unwrap_or('\\') } else { char });
    }
    plain
}

type Found<'a> = (Option<Result<Value, ()>>, &'a str);

/// A value, `None` when it is null, and what is behind it.
fn value(text: &str) -> Result<Found<'_>, &'static str> {
    if let Some(string) = text.strip_prefix('"') {
        let end = word(string, "\"").0.len();
        let after = string.get(end + 1..).ok_or("unbalanced quotes")?;
        if !after.is_empty() && !after.starts_with([',', ' ']) {
            return Err("unexpected character after field value");
        }
        return Ok((Some(Ok(Value::Str(plain(&string[..end])))), after));
    }
    let (word, after) = text.split_at(text.find([',', ' ']).unwrap_or(text.len()));
    let lower = word.to_ascii_lowercase();
    let value = match lower.as_str() {
        "" => return Ok((None, after)),
        "t" | "true" => Value::Bool(true),
        "f" | "false" => Value::Bool(false),
        "nan" | "+nan" | "-nan" => Value::Float(word.parse().unwrap()),
        "inf" | "+inf" | "infinity" | "+infinity" => Value::Float(f64::INFINITY),
        "-inf" | "-infinity" => Value::Float(f64::NEG_INFINITY),
        _ => match time_with_unit(word) {
            Some(Ok(ns)) if ns % 1_000 == 0 => {
                Value::Time(i64::try_from(ns / 1_000).expect("it is in range"))
            }
            Some(Ok(_)) => return Ok((Some(Err(())), after)),
            Some(Err(())) | None => {
                use line_protocol::Value as Naive;
                match line_protocol::field_value(word)?.0 {
                    Naive::Bool(value) => Value::Bool(value),
                    Naive::I64(value) => Value::Int(value),
                    Naive::U64(value) => Value::Uint(value),
                    Naive::F64(value) => Value::Float(value),
                    other => panic!("{other:?} of {word}"),
                }
            }
        },
    };
    Ok((Some(Ok(value)), after))
}

/// Nanoseconds of a number with a unit, an error when that is out of range.
fn time_with_unit(word: &str) -> Option<Result<i128, ()>> {
    let (number, unit) = word.split_at_checked(word.len().checked_sub(1)?)?;
    let unit_ns = match unit {
        "t" => 1_000,
        "m" => 1_000_000,
        "n" => 1,
        _ => return None,
    };
    let digits = number.strip_prefix('-').unwrap_or(number);
    if digits.is_empty() || !digits.bytes().all(|it| it.is_ascii_digit()) {
        return None;
    }
    let Ok(value) = number.parse::<i64>() else { return Some(Err(())) };
    let ns = i128::from(value) * unit_ns;
    let years = -62_135_596_800_000_000_000_i128..=253_402_300_799_999_999_999;
    Some(years.contains(&ns).then_some(ns).ok_or(()))
}

fn time(text: &str, precision: Precision) -> Result<Option<i128>, &'static str> {
    let (word, trailing) = text.split_at(text.find(' ').unwrap_or(text.len()));
    let time = match time_with_unit(word) {
        Some(Ok(ns)) => Some(ns),
        Some(Err(())) => return Err("timestamp out of range"),
        None => line_protocol::timestamp(word, precision)?.map(i128::from),
    };
    if trailing.is_empty() { Ok(time) } else { Err("trailing content after timestamp") }
}
