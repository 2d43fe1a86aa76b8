//! JSON to row structs: a reader by recursion, and then rows as those of the MessagePack they mean.

#![expect(
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "slow and obvious: it is the tests that hold it to the decoder"
)]

use std::collections::BTreeMap;

use chrono::DateTime;
use peristyle::timestamp::Timestamp;
use rmpv::Value as Tree;

use super::msgpack::{Kinds, Naive, Outcome, Taken, bytes, parts};

const DEPTH_MAX: usize = 16;

/// The document is not JSON.
#[derive(Debug)]
struct Broken;

type Read<T> = Result<T, Broken>;

/// What stands for a value that JSON or 64 bits cannot express: nothing takes it.
fn faulty() -> Tree {
    Tree::Ext(99, Vec::new())
}

/// Decodes `body` as if the tables had been empty. Says how many documents were broken, too.
pub fn decode(body: &[u8], received: Timestamp) -> (Outcome, usize) {
    let rows = Naive { received, kinds: Kinds::new(), outcome: Outcome::default() };
    let mut naive = Documents { rows, broken: 0 };
    let mut at = if body.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    while at < body.len() {
        if body[at].is_ascii_whitespace() && body[at] != 0x0c {
            at += 1;
            continue;
        }
        let end = match extent(body, at) {
            Ok(end) => end,
            Err(broken) => resumption(body, at, broken),
        };
        let mut reader = Reader { bytes: &body[at..end], at: 0 };
        if naive.item(&mut reader, DEPTH_MAX).is_err() || reader.peek().is_some() {
            naive.broken += 1;
            naive.rows.outcome.rejected += 1;
        }
        at = end;
    }
    (naive.rows.outcome, naive.broken)
}

/// The end of the document at `at`, by its brackets and strings; or the byte that breaks it.
fn extent(body: &[u8], mut at: usize) -> Result<usize, usize> {
    let mut open = Vec::new();
    let mut before = ',';
    while at < body.len() {
        let char = char::from(body[at]);
        let inside = open.last().copied();
        match (char, inside) {
            (' ' | '\t' | '\r' | '\n', _) => {
                at += 1;
                continue;
            }
            ('[' | '{', None) if before == ',' => open.push(char),
            ('[' | '{', Some('[')) if before == '[' || before == ',' => open.push(char),
            ('[' | '{', Some('{')) if before == ':' => open.push(char),
            (']', Some('[')) | ('}', Some('{')) => _ = open.pop(),
            (',' | ':', Some(_)) => {}
            ('[' | '{' | ']' | '}' | ',' | ':', _) => return Err(at),
            ('"', _) => {
                at += 1;
                while at < body.len() && body[at] != b'"' {
                    at += usize::from(body[at] == b'\\');
                    if body.get(at) == Some(&b'\n') {
                        return Err(at);
                    }
                    at += 1;
                }
                if at >= body.len() {
                    return Err(body.len());
                }
            }
            _ => at = word(body, at) - 1,
        }
        before = char;
        at += 1;
        if open.is_empty() {
            return Ok(at);
        }
    }
    Err(body.len())
}

fn word(body: &[u8], mut at: usize) -> usize {
    while at < body.len() && !b" \t\r\n[]{},:\"".contains(&body[at]) {
        at += 1;
    }
    at
}

/// The next line; or, where the document at `at` breaks behind its first one, the next line that
/// begins with a bracket.
fn resumption(body: &[u8], at: usize, broken: usize) -> usize {
    let lines = (1..body.len()).filter(|at| body[at - 1] == b'\n');
    let first = (at..body.len()).find(|at| body[*at] == b'\n').unwrap_or(body.len());
    if broken <= first {
        return first;
    }
    let mut next = lines.filter(|at| *at >= broken && matches!(body[*at], b'[' | b'{'));
    next.next().unwrap_or(body.len())
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    /// The next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
        self.bytes.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> Read<()> {
        if self.peek() == Some(byte) {
            self.at += 1;
            return Ok(());
        }
        Err(Broken)
    }

    /// Goes through what is between two brackets.
    fn list(
        &mut self,
        (open, close): (u8, u8),
        mut element: impl FnMut(&mut Self) -> Read<()>,
    ) -> Read<()> {
        self.take(open)?;
        if self.peek() == Some(close) {
            return self.take(close);
        }
        loop {
            element(self)?;
            if self.take(b',').is_err() {
                return self.take(close);
            }
        }
    }

    fn key(&mut self) -> Read<Tree> {
        let key = if self.peek() == Some(b'"') { self.string()? } else { return Err(Broken) };
        self.take(b':')?;
        Ok(key)
    }

    fn tree(&mut self) -> Read<Tree> {
        match self.peek().ok_or(Broken)? {
            b'[' => {
                let mut values = Vec::new();
                self.list((b'[', b']'), |it| {
                    values.push(it.tree()?);
                    Ok(())
                })?;
                Ok(Tree::Array(values))
            }
            b'{' => {
                let mut pairs = Vec::new();
                self.list((b'{', b'}'), |it| {
                    pairs.push((it.key()?, it.tree()?));
                    Ok(())
                })?;
                Ok(Tree::Map(pairs))
            }
            b'"' => self.string(),
            _ => {
                let end = word(self.bytes, self.at);
                let word = std::str::from_utf8(&self.bytes[self.at..end]).map_err(|_| Broken)?;
                self.at = end;
                if self.bytes.get(end) == Some(&b'"') { Err(Broken) } else { scalar(word) }
            }
        }
    }

    fn string(&mut self) -> Read<Tree> {
        let start = self.at + 1;
        let mut end = start;
        while *self.bytes.get(end).ok_or(Broken)? != b'"' {
            end += if self.bytes[end] == b'\\' { 2 } else { 1 };
        }
        self.at = end + 1;
        let raw = &self.bytes[start..end];
        if raw.contains(&b'\n') {
            return Err(Broken);
        }
        Ok(unescaped(raw).map_or_else(faulty, Tree::from))
    }
}

fn unescaped(raw: &[u8]) -> Option<String> {
    let mut chars = std::str::from_utf8(raw).ok()?.chars();
    let mut units = Vec::new();
    while let Some(char) = chars.next() {
        let char = match char {
            '\\' => match chars.next()? {
                char @ ('"' | '\\' | '/') => char,
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'u' => {
                    let digits: String = chars.by_ref().take(4).collect();
                    let is_hex = digits.chars().all(|it| it.is_ascii_hexdigit());
                    (is_hex && digits.len() == 4).then_some(())?;
                    units.push(u16::from_str_radix(&digits, 16).ok()?);
                    continue;
                }
                _ => return None,
            },
            ..' ' => return None,
            other => other,
        };
        units.extend_from_slice(char.encode_utf16(&mut [0; 2]));
    }
    String::from_utf16(&units).ok()
}

fn scalar(word: &str) -> Read<Tree> {
    match word {
        "true" => return Ok(true.into()),
        "false" => return Ok(false.into()),
        "null" => return Ok(Tree::Nil),
        "NaN" | "Infinity" | "-Infinity" => return Ok(faulty()),
        _ => {}
    }
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
    let (number, exponent) = match word.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, Some(exponent)),
        None => (word, None),
    };
    let (whole, fraction) = match number.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (number, None),
    };
    let whole = whole.strip_prefix('-').unwrap_or(whole);
    let exponent_digits = exponent.map(|it| it.strip_prefix(['+', '-']).unwrap_or(it));
    let is_number = digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent_digits.is_none_or(digits);
    if !is_number {
        return Err(Broken);
    }
    if fraction.is_some() || exponent.is_some() {
        let value: f64 = word.parse().unwrap();
        return Ok(if value.is_finite() { Tree::F64(value) } else { faulty() });
    }
    let signed = word.parse::<i64>().map(Tree::from);
    Ok(signed.or_else(|_| word.parse::<u64>().map(Tree::from)).unwrap_or_else(|_| faulty()))
}

struct Documents {
    rows: Naive,
    broken: usize,
}

impl Documents {
    /// Takes the item at `reader`, which may be nested so deep.
    fn item(&mut self, reader: &mut Reader<'_>, levels: usize) -> Read<()> {
        match reader.peek() {
            Some(b'[') if levels > 0 => reader.list((b'[', b']'), |it| self.item(it, levels - 1)),
            Some(b'{') if levels > 0 => self.object(reader, levels),
            _ => {
                reader.tree()?;
                self.rows.outcome.rejected += 1;
                Ok(())
            }
        }
    }

    fn object(&mut self, reader: &mut Reader<'_>, levels: usize) -> Read<()> {
        let (mut pairs, mut is_batch, mut is_bad) = (Vec::new(), false, false);
        reader.list((b'{', b'}'), |it| {
            let key = it.key()?;
            if is_bad || !matches!(bytes(&key), Some(b"batch" | b"metrics")) {
                let value = it.tree()?;
                pairs.push((key, value));
            } else {
                is_batch = true;
                if levels > 1 && it.peek() == Some(b'[') {
                    return it.list((b'[', b']'), |it| self.item(it, levels - 2));
                }
                it.tree()?;
                // Of the keys behind a bad batch none counts.
                is_bad = true;
            }
            Ok(())
        })?;
        if is_bad {
            self.rows.outcome.rejected += 1;
        } else if !is_batch {
            self.row_or_columns(pairs, levels);
        }
        Ok(())
    }

    fn row_or_columns(&mut self, pairs: Vec<(Tree, Tree)>, levels: usize) {
        let pairs: Vec<_> = pairs.into_iter().map(|(key, value)| meant(key, value)).collect();
        let columns = pairs.iter().find(|(key, _)| bytes(key) == Some(b"columns"));
        let rows = columns.map_or(1, |(_, columns)| rows_in(columns));
        let taken = parts(&pairs).and_then(|parts| {
            if parts.contains_key("columns") {
                if levels < 3 { Err(()) } else { self.columns(&parts) }
            } else {
                self.row(&parts, levels - 1)
            }
        });
        if taken.is_err() {
            self.rows.outcome.rejected += rows;
        }
    }

    fn row(&mut self, parts: &BTreeMap<&str, &Tree>, levels: usize) -> Taken<()> {
        let fields = flat(parts.get("fields").ok_or(())?, levels)?;
        let mut parts = parts.clone();
        parts.insert("fields", &fields);
        self.rows.row(&parts)
    }

    fn columns(&mut self, parts: &BTreeMap<&str, &Tree>) -> Taken<()> {
        let Tree::Map(columns) = parts["columns"] else { return Err(()) };
        let times = |(name, values): &(Tree, Tree)| match values {
            Tree::Array(values) if bytes(name) == Some(b"time") => {
                (name.clone(), Tree::Array(values.iter().map(time).collect()))
            }
            _ => (name.clone(), values.clone()),
        };
        let columns = Tree::Map(columns.iter().map(times).collect());
        let mut parts = parts.clone();
        parts.insert("columns", &columns);
        self.rows.columns(&parts)
    }
}

fn rows_in(columns: &Tree) -> usize {
    let Tree::Map(columns) = columns else { return 1 };
    let counts = columns.iter().map(|(_, values)| values.as_array().map_or(0, Vec::len));
    counts.max().unwrap_or(0).max(1)
}

/// The pair as MessagePack has it.
fn meant(key: Tree, value: Tree) -> (Tree, Tree) {
    match bytes(&key) {
        Some(b"t" | b"time" | b"timestamp") => ("t".into(), time(&value)),
        _ => (key, value),
    }
}

/// A time of RFC 3339 as a timestamp of MessagePack.
fn time(value: &Tree) -> Tree {
    let text = value.as_str().filter(|text| text.len() >= 20);
    let Some(time) = text.and_then(|text| DateTime::parse_from_rfc3339(text).ok()) else {
        return value.clone();
    };
    let ns = time.timestamp_subsec_nanos().to_be_bytes();
    Tree::Ext(-1, [&ns[..], &time.timestamp().to_be_bytes()].concat())
}

/// Fields without objects in them.
fn flat(fields: &Tree, levels: usize) -> Taken<Tree> {
    let mut pairs = Vec::new();
    match fields {
        Tree::Map(_) => flatten(None, fields, levels, &mut pairs)?,
        Tree::Array(values) => {
            (levels > 0).then_some(()).ok_or(())?;
            for (index, value) in values.iter().enumerate() {
                flatten(Some(&format!("field_{index}")), value, levels - 1, &mut pairs)?;
            }
        }
        other => return Ok(other.clone()),
    }
    Ok(Tree::Map(pairs))
}

fn flatten(
    name: Option<&str>,
    value: &Tree,
    levels: usize,
    to: &mut Vec<(Tree, Tree)>,
) -> Taken<()> {
    let Tree::Map(pairs) = value else {
        if *value == faulty() {
            return Err(());
        }
        to.push((name.unwrap_or_default().into(), value.clone()));
        return Ok(());
    };
    (levels > 0).then_some(()).ok_or(())?;
    for (key, value) in pairs {
        let key = std::str::from_utf8(bytes(key).ok_or(())?).unwrap();
        let name = name.map_or_else(|| key.to_owned(), |name| format!("{name}_{key}"));
        flatten(Some(&name), value, levels - 1, to)?;
    }
    Ok(())
}
