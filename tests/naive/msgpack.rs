//! MessagePack to row structs: trees first, then rows, with a model of what columns take.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::float_cmp,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "slow and obvious: it is the tests that hold it to the decoder"
)]

use std::collections::{BTreeMap, HashMap};

use peristyle::timestamp::Timestamp;
use rmp::Marker;
use rmpv::{Utf8String, Value as Tree};

use crate::support::{Row, Value};

const DEPTH_MAX: usize = 8;

/// What became of a body.
#[derive(Debug, Default)]
pub struct Outcome {
    pub rows: Vec<Row>,
    pub rejected: usize,
    pub dropped_fields: usize,
    pub is_malformed: bool,
}

/// What a column of a measurement is, once a row with it was taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Tag,
    Bool,
    Int,
    Uint,
    Float,
    Str,
    Time,
}

pub(super) type Kinds = HashMap<(String, String), Kind>;

/// Reads one value; `None` when the body breaks in it.
fn tree(rest: &mut &[u8]) -> Option<Tree> {
    fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
        let (taken, left) = rest.split_at_checked(len)?;
        *rest = left;
        Some(taken)
    }
    fn number(rest: &mut &[u8], len: usize) -> Option<u64> {
        Some(take(rest, len)?.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }
    let marker = Marker::from_u8(take(rest, 1)?[0]);
    let len = match marker {
        Marker::FixStr(len) | Marker::FixArray(len) | Marker::FixMap(len) => usize::from(len),
        Marker::Str8 | Marker::Bin8 | Marker::Ext8 => number(rest, 1)? as usize,
        Marker::Str16 | Marker::Bin16 | Marker::Ext16 | Marker::Array16 | Marker::Map16 => {
            number(rest, 2)? as usize
        }
        Marker::Str32 | Marker::Bin32 | Marker::Ext32 | Marker::Array32 | Marker::Map32 => {
            number(rest, 4)? as usize
        }
        Marker::FixExt1 => 1,
        Marker::FixExt2 => 2,
        Marker::FixExt4 => 4,
        Marker::FixExt8 => 8,
        Marker::FixExt16 => 16,
        _ => 0,
    };
    Some(match marker {
        Marker::Reserved => return None,
        Marker::Null => Tree::Nil,
        Marker::False => false.into(),
        Marker::True => true.into(),
        Marker::FixPos(value) => value.into(),
        Marker::FixNeg(value) => value.into(),
        Marker::U8 => number(rest, 1)?.into(),
        Marker::U16 => number(rest, 2)?.into(),
        Marker::U32 => number(rest, 4)?.into(),
        Marker::U64 => number(rest, 8)?.into(),
        Marker::I8 => i64::from(number(rest, 1)? as i8).into(),
        Marker::I16 => i64::from(number(rest, 2)? as i16).into(),
        Marker::I32 => i64::from(number(rest, 4)? as i32).into(),
        Marker::I64 => (number(rest, 8)? as i64).into(),
        Marker::F32 => f64::from(f32::from_bits(number(rest, 4)? as u32)).into(),
        Marker::F64 => f64::from_bits(number(rest, 8)?).into(),
        Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32 => {
            let bytes = take(rest, len)?.to_vec();
            Tree::String(match String::from_utf8(bytes) {
                Ok(text) => text.into(),
                Err(error) => match rmpv::decode::read_value(&mut &str8(error.as_bytes())[..]) {
                    Ok(Tree::String(text)) => text,
                    other => panic!("{other:?}"),
                },
            })
        }
        Marker::Bin8 | Marker::Bin16 | Marker::Bin32 => Tree::Binary(take(rest, len)?.to_vec()),
        Marker::FixArray(_) | Marker::Array16 | Marker::Array32 => {
            (len <= rest.len()).then_some(())?;
            Tree::Array((0..len).map(|_| tree(rest)).collect::<Option<_>>()?)
        }
        Marker::FixMap(_) | Marker::Map16 | Marker::Map32 => {
            (len * 2 <= rest.len()).then_some(())?;
            let pair = |_| Some((tree(rest)?, tree(rest)?));
            Tree::Map((0..len).map(pair).collect::<Option<_>>()?)
        }
        _ => {
            let kind = number(rest, 1)? as i8;
            Tree::Ext(kind, take(rest, len)?.to_vec())
        }
    })
}

fn str8(bytes: &[u8]) -> Vec<u8> {
    [&[0xdb], &u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

/// Reads the header of an array or map, for items whose rows count even if the body breaks later.
fn header(rest: &mut &[u8]) -> Option<usize> {
    let marker = Marker::from_u8(*rest.first()?);
    let (len, size, width) = match marker {
        Marker::FixArray(len) => (usize::from(len), 1, 1),
        Marker::FixMap(len) => (usize::from(len), 1, 2),
        Marker::Array16 | Marker::Map16 => {
            let len = rest.get(1..3)?.try_into().map(u16::from_be_bytes).unwrap();
            (usize::from(len), 3, if marker == Marker::Map16 { 2 } else { 1 })
        }
        _ => {
            let len = rest.get(1..5)?.try_into().map(u32::from_be_bytes).unwrap();
            (len as usize, 5, if marker == Marker::Map32 { 2 } else { 1 })
        }
    };
    *rest = &rest[size..];
    (len * width <= rest.len()).then_some(len)
}

fn depth(tree: &Tree) -> usize {
    match tree {
        Tree::Array(values) => 1 + values.iter().map(depth).max().unwrap_or(0),
        Tree::Map(pairs) => {
            1 + pairs.iter().map(|(key, value)| depth(key).max(depth(value))).max().unwrap_or(0)
        }
        _ => 0,
    }
}

/// The bytes of a string or of binary.
pub(super) fn bytes(tree: &Tree) -> Option<&[u8]> {
    match tree {
        Tree::String(text) => Some(Utf8String::as_bytes(text)),
        Tree::Binary(bytes) => Some(bytes),
        _ => None,
    }
}

/// `Err` is a row that is not taken.
pub(super) type Taken<T> = Result<T, ()>;

fn text(tree: &Tree) -> Taken<String> {
    String::from_utf8(bytes(tree).ok_or(())?.to_vec()).map_err(|_| ())
}

fn text_or_number(tree: &Tree, prefix: &str) -> Taken<String> {
    match tree {
        Tree::Integer(number) => Ok(format!("{prefix}_{number}")),
        _ => text(tree),
    }
}

fn extension(data: &[u8]) -> Taken<i128> {
    let number = |bytes: &[u8]| bytes.iter().fold(0_i128, |it, byte| it << 8 | i128::from(*byte));
    let (seconds, ns) = match data.len() {
        4 => (number(data), 0),
        8 => (number(data) & 0x3_ffff_ffff, number(data) >> 34),
        12 => (i128::from(number(&data[4..]) as u64 as i64), number(&data[..4])),
        _ => return Err(()),
    };
    if ns > 999_999_999 { Err(()) } else { in_range(seconds * 1_000_000_000 + ns) }
}

fn in_range(ns: i128) -> Taken<i128> {
    let range = Timestamp::MIN.as_ns()..=Timestamp::MAX.as_ns();
    if range.contains(&ns) { Ok(ns) } else { Err(()) }
}

fn time(tree: &Tree, received: Timestamp) -> Taken<i128> {
    let unit = |magnitude: f64| match magnitude {
        ..1e10 => 1_000_000_000,
        ..1e13 => 1_000_000,
        ..1e16 => 1_000,
        _ => 1,
    };
    in_range(match tree {
        Tree::Nil => received.as_ns(),
        Tree::Integer(value) => {
            let value = value.as_i64().map_or_else(|| value.as_u64().unwrap().into(), i128::from);
            value * unit(value.unsigned_abs() as f64)
        }
        Tree::F64(value) if value.is_finite() => {
            // mantissa * 2^exponent, times the unit, rounded down.
            let (bits, unit) = (value.to_bits(), unit(value.abs()));
            let biased = (bits >> 52 & 0x7ff) as i32;
            let fraction = i128::from(bits & ((1 << 52) - 1));
            let mantissa = if biased == 0 { fraction } else { fraction | 1 << 52 };
            let scaled = mantissa * unit * if *value < 0.0 { -1 } else { 1 };
            match biased.max(1) - 1075 {
                shift @ 0..=44 => scaled << shift,
                shift @ -126..0 => scaled >> -shift,
                shift if shift > 0 => return Err(()),
                _ => -i128::from(scaled < 0),
            }
        }
        Tree::Ext(-1, data) => extension(data)?,
        _ => return Err(()),
    })
}

/// `value` as a column of `kind` holds it.
fn coerce(kind: Kind, value: Value) -> Taken<Value> {
    let exact = |float: f64| float as i128 as f64 == float && float.fract() == 0.0;
    Ok(match (kind, value) {
        (Kind::Bool, Value::Bool(it)) => Value::Bool(it),
        (Kind::Str, Value::Str(it)) => Value::Str(it),
        (Kind::Time, Value::Time(it)) => Value::Time(it),
        (Kind::Float, Value::Float(it)) => Value::Float(it),
        (Kind::Float, Value::Int(it)) if it as f64 as i128 == i128::from(it) => {
            Value::Float(it as f64)
        }
        (Kind::Int, Value::Int(it)) => Value::Int(it),
        (Kind::Int, Value::Float(it)) if exact(it) && (it as i64) as f64 == it && it < 9.3e18 => {
            Value::Int(i64::try_from(it as i128).map_err(|_| ())?)
        }
        (Kind::Uint, Value::Uint(it)) => Value::Uint(it),
        (Kind::Uint, Value::Int(it)) => Value::Uint(u64::try_from(it).map_err(|_| ())?),
        (Kind::Uint, Value::Float(it)) if exact(it) => {
            Value::Uint(u64::try_from(it as i128).map_err(|_| ())?)
        }
        _ => return Err(()),
    })
}

/// A row being made; the kinds it fixes count once it is taken.
struct Draft<'a> {
    row: Row,
    kinds: &'a Kinds,
    fixed: Kinds,
    field_count: usize,
    dropped: usize,
}

impl<'a> Draft<'a> {
    fn new(measurement: &str, kinds: &'a Kinds) -> Self {
        let row = Row { measurement: measurement.to_owned(), ..Row::default() };
        Self { row, kinds, fixed: Kinds::new(), field_count: 0, dropped: 0 }
    }

    fn key(&self, name: &str) -> (String, String) {
        (self.row.measurement.clone(), name.to_owned())
    }

    fn kind(&self, name: &str) -> Option<Kind> {
        let key = self.key(name);
        self.kinds.get(&key).or_else(|| self.fixed.get(&key)).copied()
    }

    fn tag(&mut self, name: &str, value: &Tree) -> Taken<()> {
        let value = match value {
            Tree::Nil => return Ok(()),
            Tree::Boolean(it) => it.to_string(),
            Tree::Integer(it) => it.to_string(),
            Tree::F64(it) => it.to_string(),
            other => text(other)?,
        };
        if value.is_empty() {
            return Ok(());
        }
        if name.is_empty() || name == "time" {
            return Err(());
        }
        match self.kind(name) {
            None => _ = self.fixed.insert(self.key(name), Kind::Tag),
            Some(Kind::Tag) => {}
            Some(Kind::Str) => return self.value(name, Value::Str(value)),
            Some(_) => return Err(()),
        }
        self.row.tags.insert(name.to_owned(), value).map_or(Ok(()), |_| Err(()))
    }

    fn field(&mut self, name: &Tree, value: &Tree) -> Taken<()> {
        bytes(name).ok_or(())?;
        let value = match value {
            Tree::Nil => return Ok(()),
            Tree::Boolean(it) => Value::Bool(*it),
            Tree::Integer(it) => {
                it.as_i64().map_or_else(|| Value::Uint(it.as_u64().unwrap()), Value::Int)
            }
            Tree::F64(it) => Value::Float(*it),
            Tree::String(_) | Tree::Binary(_) if text(name)? != "time" => Value::Str(text(value)?),
            Tree::Ext(-1, data) if text(name)? != "time" => match extension(data)? {
                ns if ns % 1_000 == 0 => Value::Time(i64::try_from(ns / 1_000).unwrap()),
                _ => return Err(()),
            },
            Tree::Array(_) | Tree::Map(_) => return Err(()),
            _ if text(name)? == "time" => Value::Bool(true),
            _ => return Err(()),
        };
        let name = text(name)?;
        if name == "time" {
            self.dropped += 1;
            return Ok(());
        }
        self.field_count += 1;
        self.value(&name, value)
    }

    fn value(&mut self, name: &str, value: Value) -> Taken<()> {
        if name.is_empty() {
            return Err(());
        }
        let kind = self.kind(name).unwrap_or(match value {
            Value::Bool(_) => Kind::Bool,
            Value::Int(_) => Kind::Int,
            Value::Uint(_) => Kind::Uint,
            Value::Float(_) => Kind::Float,
            Value::Str(_) => Kind::Str,
            Value::Time(_) => Kind::Time,
        });
        let value = coerce(kind, value)?;
        self.fixed.insert(self.key(name), kind);
        self.row.fields.insert(name.to_owned(), value).map_or(Ok(()), |_| Err(()))
    }
}

/// The values of the keys of a map that mean something; `Err` when one is given twice.
pub(super) fn parts(pairs: &[(Tree, Tree)]) -> Taken<BTreeMap<&'static str, &Tree>> {
    let mut parts = BTreeMap::new();
    for (key, value) in pairs {
        let part = match bytes(key) {
            Some(b"m" | b"measurement" | b"name") => "m",
            Some(b"t" | b"time") => "t",
            Some(b"h") => "h",
            Some(b"tags") => "tags",
            Some(b"fields" | b"f") => "fields",
            Some(b"columns") => "columns",
            Some(b"tag_keys") => "tag_keys",
            _ => continue,
        };
        if parts.insert(part, value).is_some() {
            return Err(());
        }
    }
    Ok(parts)
}

/// Decodes `body` as if the tables had been empty.
pub fn decode(body: &[u8], received: Timestamp) -> Outcome {
    let mut naive = Naive { received, kinds: Kinds::new(), outcome: Outcome::default() };
    let mut rest = body;
    while !rest.is_empty() {
        if naive.item(&mut rest, DEPTH_MAX).is_none() {
            naive.outcome.is_malformed = true;
            naive.outcome.rejected += 1;
            break;
        }
    }
    naive.outcome
}

pub(super) struct Naive {
    pub(super) received: Timestamp,
    pub(super) kinds: Kinds,
    pub(super) outcome: Outcome,
}

impl Naive {
    /// Takes the item at `rest`; `None` when the body breaks in it.
    fn item(&mut self, rest: &mut &[u8], levels: usize) -> Option<()> {
        match Marker::from_u8(*rest.first()?) {
            Marker::FixArray(_) | Marker::Array16 | Marker::Array32 if levels > 0 => {
                (0..header(rest)?).try_for_each(|_| self.item(rest, levels - 1))
            }
            Marker::FixMap(_) | Marker::Map16 | Marker::Map32 if levels > 0 => {
                let count = header(rest)?;
                self.map(rest, count, levels)
            }
            _ => {
                tree(rest)?;
                self.outcome.rejected += 1;
                Some(())
            }
        }
    }

    fn map(&mut self, rest: &mut &[u8], count: usize, levels: usize) -> Option<()> {
        let (mut pairs, mut is_batch) = (Vec::new(), false);
        for behind in (0..count).rev() {
            let key = tree(rest)?;
            if bytes(&key) != Some(b"batch") {
                pairs.push((key, tree(rest)?));
                continue;
            }
            is_batch = true;
            let marker = Marker::from_u8(*rest.first()?);
            if levels > 1
                && matches!(marker, Marker::FixArray(_) | Marker::Array16 | Marker::Array32)
            {
                (0..header(rest)?).try_for_each(|_| self.item(rest, levels - 2))?;
            } else {
                // Of the keys behind a bad batch none counts, and it is one item, broken or not.
                (0..=2 * behind).try_for_each(|_| tree(rest).map(drop))?;
                self.outcome.rejected += 1;
                return Some(());
            }
        }
        if !is_batch {
            self.row_or_columns(&pairs, levels);
        }
        Some(())
    }

    fn row_or_columns(&mut self, pairs: &[(Tree, Tree)], levels: usize) {
        let columns = pairs.iter().find(|(key, _)| bytes(key) == Some(b"columns"));
        let rows = match columns {
            Some((_, Tree::Map(columns))) => {
                let count = |(_, values): &(Tree, Tree)| values.as_array().map_or(0, Vec::len);
                columns.iter().map(count).max().unwrap_or(0).max(1)
            }
            _ => 1,
        };
        let is_columnar = columns.is_some();
        let parts = parts(pairs);
        let taken = parts.and_then(|parts| {
            if depth(&Tree::Map(pairs.to_vec())) > levels {
                Err(())
            } else if is_columnar {
                self.columns(&parts)
            } else {
                self.row(&parts)
            }
        });
        if taken.is_err() {
            self.outcome.rejected += rows;
        }
    }

    fn take(&mut self, draft: Draft<'_>) -> Kinds {
        let Draft { row, fixed, dropped, .. } = draft;
        self.outcome.dropped_fields += dropped;
        self.outcome.rows.push(row);
        fixed
    }

    pub(super) fn row(&mut self, parts: &BTreeMap<&str, &Tree>) -> Taken<()> {
        let measurement = text_or_number(parts.get("m").ok_or(())?, "measurement")?;
        let kinds = std::mem::take(&mut self.kinds);
        let draft = self.draft(&measurement, parts, &kinds);
        let fixed = draft.map(|draft| self.take(draft));
        self.kinds = kinds;
        self.kinds.extend(fixed?);
        Ok(())
    }

    fn draft<'k>(
        &self,
        measurement: &str,
        parts: &BTreeMap<&str, &Tree>,
        kinds: &'k Kinds,
    ) -> Taken<Draft<'k>> {
        let mut draft = Draft::new(measurement, kinds);
        if measurement.is_empty() {
            return Err(());
        }
        draft.row.time_ns = time(parts.get("t").unwrap_or(&&Tree::Nil), self.received)?;
        let host = match parts.get("h") {
            None | Some(Tree::Nil) => String::new(),
            Some(host) => text_or_number(host, "host")?,
        };
        draft.tag("host", &host.as_str().into())?;
        match parts.get("tags") {
            None | Some(Tree::Nil) => {}
            Some(Tree::Map(tags)) => {
                for (name, value) in tags {
                    bytes(name).ok_or(())?;
                    let is_host = bytes(name) == Some(b"host") && !host.is_empty();
                    let repeats = is_host && text(value).is_ok_and(|it| it == host);
                    let is_absent =
                        *value == Tree::Nil || bytes(value).is_some_and(<[u8]>::is_empty);
                    if !repeats && !is_absent {
                        draft.tag(&text(name)?, value)?;
                    }
                }
            }
            Some(_) => return Err(()),
        }
        match parts.get("fields").ok_or(())? {
            Tree::Map(fields) => {
                fields.iter().try_for_each(|(name, value)| draft.field(name, value))?;
            }
            Tree::Array(values) => {
                for (index, value) in values.iter().enumerate() {
                    draft.field(&format!("field_{index}").into(), value)?;
                }
            }
            _ => return Err(()),
        }
        if draft.field_count == 0 { Err(()) } else { Ok(draft) }
    }

    pub(super) fn columns(&mut self, parts: &BTreeMap<&str, &Tree>) -> Taken<()> {
        if ["t", "h", "tags", "fields"].iter().any(|key| parts.contains_key(key)) {
            return Err(());
        }
        let columns = parts["columns"].as_map().filter(|it| !it.is_empty()).ok_or(())?;
        let names: Vec<String> =
            columns.iter().map(|(name, _)| text(name)).collect::<Taken<_>>()?;
        let values: Vec<&Vec<Tree>> =
            columns.iter().map(|(_, it)| it.as_array().ok_or(())).collect::<Taken<_>>()?;
        let rows = values[0].len();
        let measurement = parts.get("m").ok_or(())?;
        let tag_keys: Vec<&[u8]> = match parts.get("tag_keys") {
            None | Some(Tree::Nil) => Vec::new(),
            Some(keys) => {
                let keys = keys.as_array().ok_or(())?;
                keys.iter().map(|it| bytes(it).ok_or(())).collect::<Taken<_>>()?
            }
        };
        if values.iter().any(|it| it.len() != rows) {
            return Err(());
        }
        if rows == 0 {
            return Ok(());
        }
        let measurement = text_or_number(measurement, "measurement")?;
        if measurement.is_empty() {
            return Err(());
        }
        for row in 0..rows {
            let kinds = std::mem::take(&mut self.kinds);
            let mut draft = Draft::new(&measurement, &kinds);
            let cells = names.iter().zip(values.iter().map(|it| &it[row]));
            let taken = columnar_row(&mut draft, cells, &tag_keys, self.received);
            let fixed = taken.map(|()| self.take(draft));
            self.kinds = kinds;
            match fixed {
                Ok(fixed) => self.kinds.extend(fixed),
                Err(()) => self.outcome.rejected += 1,
            }
        }
        Ok(())
    }
}

fn columnar_row<'t>(
    draft: &mut Draft<'_>,
    cells: impl Iterator<Item = (&'t String, &'t Tree)>,
    tag_keys: &[&[u8]],
    received: Timestamp,
) -> Taken<()> {
    let mut own_time = None;
    for (name, value) in cells.filter(|(_, value)| **value != Tree::Nil) {
        let is_tag = draft.kinds.get(&draft.key(name)) == Some(&Kind::Tag);
        if name == "time" {
            if own_time.replace(time(value, received)?).is_some() {
                return Err(());
            }
        } else if tag_keys.contains(&name.as_bytes()) || is_tag && matches!(value, Tree::String(_))
        {
            draft.tag(name, value)?;
        } else {
            draft.field(&name.as_str().into(), value)?;
        }
    }
    draft.row.time_ns = own_time.unwrap_or(received.as_ns());
    if draft.field_count == 0 { Err(()) } else { Ok(()) }
}
