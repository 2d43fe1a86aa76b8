//! Line protocol to row structs, one body at a time: no speed, no state between lines.

#![expect(clippy::indexing_slicing, reason = "the obvious way, with positions just found")]
#![expect(clippy::naive_bytecount, reason = "naive")]

use peristyle::decode::Precision;

pub(crate) const UNTERMINATED_MAX: usize = 16;
const NO_FIELDS: &str = "no usable field left";

/// A field's value; floats are equal when their bits are, `Dropped` is `NaN` or an infinity.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Bool(bool),
    I64(i64),
    U64(u64),
    F64(f64),
    String(String),
    Dropped,
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        format!("{self:?}") == format!("{other:?}")
    }
}

/// A row, or why there is none, of the line that begins on physical line `line`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) line: u64,
    pub(crate) measurement: String,
    pub(crate) tags: Vec<(String, String)>,
    pub(crate) fields: Vec<(String, Value)>,
    /// Nanoseconds; absent when the line carries no time.
    pub(crate) time: Option<i64>,
}

/// The lines of `body` that are points, and the others with their reasons.
pub(crate) fn decode(body: &[u8], precision: Precision) -> (Vec<Row>, Vec<(u64, &'static str)>) {
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
            let parsed = match (logical, std::str::from_utf8(text)) {
                (None, _) => Err("unbalanced quotes"),
                (_, Err(_)) => Err("invalid UTF-8"),
                (_, Ok(text)) => point(text, precision, false).or_else(|error| {
                    // A line without a usable field is line protocol, by either rule.
                    let may_be_v1 = text.contains("\\\\") && error != NO_FIELDS;
                    let v1 = may_be_v1.then(|| point(text, precision, true));
                    v1.unwrap_or(Err(error))
                }),
            };
            match parsed {
                Ok(row) => rows.push(Row { line, ..row }),
                Err(reason) => rejections.push((line, reason)),
            }
        }
        let next = (end + 1).min(rest.len());
        line += rest[..next].iter().filter(|&&byte| byte == b'\n').count() as u64;
        rest = &rest[next..];
    }
    (rows, rejections)
}

/// Length of the line with the line feeds inside its strings; `None` when a string does not end.
/// A quote counts only in a field's value, which is where there are more `=` than `,`.
/// After `UNTERMINATED_MAX` strings without an end no string of the body may span lines: that
/// bounds the search.
pub(crate) fn logical_line(rest: &[u8], multi_line: bool) -> Option<usize> {
    let (mut quoted, mut in_fields, mut equals, mut commas, mut at) = (false, false, 0, 0, 0);
    while at < rest.len() {
        match rest[at] {
            b'\\' if multi_line || !quoted || rest.get(at + 1) != Some(&b'\n') => at += 1,
            b'\n' if !quoted => return Some(at),
            b'\n' if !multi_line => return None,
            b' ' => in_fields = true,
            b'=' if in_fields && !quoted => equals += 1,
            b',' if in_fields && !quoted => commas += 1,
            b'"' if in_fields && (quoted || equals > commas) => quoted = !quoted,
            _ => {}
        }
        at += 1;
    }
    (!quoted).then_some(rest.len())
}

fn point(text: &str, precision: Precision, v1: bool) -> Result<Row, &'static str> {
    let (measurement, mut rest) = word(text, ", \n", v1);
    if measurement.is_empty() {
        return Err("missing measurement");
    }
    if measurement.contains('\0') {
        return Err("NUL in measurement");
    }
    let mut tags = Vec::new();
    while let Some(tag) = rest.strip_prefix(',') {
        let (key, after) = word(tag, ",= \n", v1);
        if key.is_empty() {
            return Err("missing tag key");
        }
        let value = after.strip_prefix('=').ok_or("missing tag value")?;
        let value = word(value, ", \n", v1);
        rest = value.1;
        let key = unescape(key, if v1 { ",= " } else { ",= \\" });
        if tags.iter().any(|(other, _)| *other == key) {
            return Err("duplicate tag");
        }
        tags.push((key, unescape(value.0, if v1 { ",= " } else { ",= \\" })));
    }
    rest = rest.trim_start_matches(' ');
    if rest.is_empty() {
        return Err("missing fields");
    }
    let mut fields: Vec<(String, Value)> = Vec::new();
    loop {
        let (key, after) = word(rest, ",= \n", v1);
        if key.is_empty() {
            return Err("missing field key");
        }
        let text = after.strip_prefix('=').ok_or("missing field value")?;
        if text.is_empty() {
            return Err("missing field value");
        }
        let key = unescape(key, if v1 { ",= " } else { ",= \\" });
        if fields.iter().any(|(other, _)| *other == key) {
            return Err("duplicate field");
        }
        if tags.iter().any(|(other, _)| *other == key) {
            return Err("tag and field with the same name");
        }
        let (value, after) = field_value(text)?;
        fields.push((key, value));
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None => break rest = after,
        }
    }
    let time = timestamp(rest.trim_matches(' '), precision)?;
    if tags.iter().any(|(key, _)| key == "time") {
        return Err("reserved tag key");
    }
    if fields.iter().all(|(key, value)| key == "time" || *value == Value::Dropped) {
        return Err(NO_FIELDS);
    }
    tags.retain(|(_, value)| !value.is_empty());
    Ok(Row {
        line: 0,
        measurement: unescape(measurement, if v1 { ", " } else { ", \\" }),
        tags,
        fields,
        time,
    })
}

/// Everything before the first unescaped byte of `stops`, and the rest.
fn word<'a>(text: &'a str, stops: &str, v1: bool) -> (&'a str, &'a str) {
    let mut escaped = false;
    for (at, char) in text.char_indices() {
        if escaped && (!v1 || ",= \n".contains(char)) {
            escaped = false;
        } else if stops.contains(char) {
            return text.split_at(at);
        } else {
            escaped = char == '\\';
        }
    }
    (text, "")
}

/// `word` without the backslashes before characters of `specials`; other backslashes stay.
fn unescape(word: &str, specials: &str) -> String {
    let (mut plain, mut chars) = (String::new(), word.chars().peekable());
    while let Some(char) = chars.next() {
        let escaped = chars.next_if(|next| char == '\\' && specials.contains(*next));
        plain.push(escaped.unwrap_or(char));
    }
    plain
}

pub(crate) fn field_value(text: &str) -> Result<(Value, &str), &'static str> {
    if let Some(string) = text.strip_prefix('"') {
        let end = word(string, "\"", false).0.len();
        let after = string.get(end + 1..).ok_or("unbalanced quotes")?;
        if !after.is_empty() && !after.starts_with([',', ' ']) {
            return Err("unexpected character after field value");
        }
        return Ok((Value::String(unescape(&string[..end], "\"\\")), after));
    }
    let (word, after) = text.split_at(text.find([',', ' ']).unwrap_or(text.len()));
    let unsigned = word.strip_prefix('-').unwrap_or(word);
    let is_integer = |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
    let value = match word {
        "t" | "T" | "true" | "True" | "TRUE" => Value::Bool(true),
        "f" | "F" | "false" | "False" | "FALSE" => Value::Bool(false),
        _ if unsigned.strip_suffix('i').is_some_and(is_integer) => {
            Value::I64(word.trim_end_matches('i').parse().map_err(|_| "integer out of range")?)
        }
        _ if word.strip_suffix('u').is_some_and(is_integer) => {
            Value::U64(word.trim_end_matches('u').parse().map_err(|_| "unsigned out of range")?)
        }
        _ if unsigned.starts_with(|char: char| char.is_ascii_digit() || char == '.') => {
            let value: f64 = word.parse().map_err(|_| "invalid field value")?;
            if value.is_infinite() {
                return Err("float out of range");
            }
            Value::F64(value)
        }
        _ => match word.to_ascii_lowercase().as_str() {
            "nan" | "inf" | "+inf" | "-inf" | "infinity" | "+infinity" | "-infinity" => {
                Value::Dropped
            }
            _ => return Err("invalid field value"),
        },
    };
    Ok((value, after))
}

pub(crate) fn timestamp(text: &str, precision: Precision) -> Result<Option<i64>, &'static str> {
    if text.is_empty() {
        return Ok(None);
    }
    let (text, trailing) = text.split_at(text.find(' ').unwrap_or(text.len()));
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|it| it.is_ascii_digit()) {
        return Err("invalid timestamp");
    }
    let value: i64 = text.parse().map_err(|_| "timestamp out of range")?;
    let unit = match precision {
        Precision::Auto if value.unsigned_abs() < 5_000_000_000 => 1_000_000_000,
        Precision::Auto if value.unsigned_abs() < 5_000_000_000_000 => 1_000_000,
        Precision::Auto if value.unsigned_abs() < 5_000_000_000_000_000 => 1_000,
        Precision::Auto | Precision::Nanosecond => 1,
        Precision::Microsecond => 1_000,
        Precision::Millisecond => 1_000_000,
        Precision::Second => 1_000_000_000,
        Precision::Minute => 60_000_000_000,
        Precision::Hour => 3_600_000_000_000,
    };
    let time = value.checked_mul(unit).ok_or("timestamp out of range for precision")?;
    if trailing.is_empty() { Ok(Some(time)) } else { Err("trailing content after timestamp") }
}
