//! Values into the open row of a table: fields and tags, by whatever shape they came.

use std::fmt::Write;

use super::error::{Excerpt, ItemError, Key};
use super::item::{Stop, name, utf8};
use super::time;
use super::token::{Reader, Token};
use crate::decode::cursor::Body;
use crate::gather::{AppendError, ColumnIndex, KEY_WINDOW, Predicted, TableBuilder};

/// What the fields of an item put into the open row.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Filled {
    /// Values that are not nil.
    pub(super) values: usize,
    /// Fields named `time`, which the row cannot hold.
    pub(super) dropped: u64,
}

/// Appends `token`, which stands behind the key at `key_at`; `false` when it is nil.
///
/// # Errors
/// A container or an unknown extension, a string that is not UTF-8, or what the column says.
#[inline(always)]
pub(super) fn append(
    table: &mut TableBuilder,
    column: ColumnIndex,
    token: &Token<'_>,
    name: impl Fn() -> Excerpt,
    at: usize,
) -> Result<bool, Stop> {
    match *token {
        Token::Float(value) => table.append_f64(column, value)?,
        Token::Int(value) => table.append_i64(column, value)?,
        Token::Str(bytes) | Token::Bin(bytes) => {
            let Ok(value) = std::str::from_utf8(bytes) else {
                return Err(ItemError::NotUtf8 { name: name(), at }.into());
            };
            table.append_str(column, value)?;
        }
        Token::Bool(value) => table.append_bool(column, value)?,
        Token::Nil => return Ok(false),
        _ => append_rare(table, column, token, name(), at)?,
    }
    Ok(true)
}

#[cold]
fn append_rare(
    table: &mut TableBuilder,
    column: ColumnIndex,
    token: &Token<'_>,
    name: Excerpt,
    at: usize,
) -> Result<(), Stop> {
    match *token {
        Token::Unsigned(value) => table.append_u64(column, value)?,
        Token::Ext(-1, data) if matches!(data.len(), 4 | 8 | 12) => {
            let value = time::from_extension(data).ok_or(ItemError::TimeOutOfRange { at })?;
            table.append_time(column, value)?;
        }
        _ => {
            let found = token.found();
            return Err(ItemError::UnsupportedValue { column: name, found, at }.into());
        }
    }
    Ok(())
}

/// Appends `token` to the row `offset` rows behind the open one, inside a run.
/// `None`: the column cannot hold it.
#[inline]
pub(super) fn append_at(
    table: &mut TableBuilder,
    column: ColumnIndex,
    offset: usize,
    token: &Token<'_>,
) -> Option<()> {
    match *token {
        Token::Nil => return Some(()),
        Token::Bool(value) => table.append_bool_at(column, offset, value),
        Token::Int(value) => table.append_i64_at(column, offset, value),
        Token::Unsigned(value) => table.append_u64_at(column, offset, value),
        Token::Float(value) => table.append_f64_at(column, offset, value),
        Token::Str(bytes) | Token::Bin(bytes) => {
            table.append_str_at(column, offset, std::str::from_utf8(bytes).ok()?)
        }
        Token::Ext(-1, data) => table.append_time_at(column, offset, time::from_extension(data)?),
        Token::Ext(..) | Token::Array(_) | Token::Map(_) => return None,
    }
    .ok()
}

/// Appends the fields at `it`, a map or an array, which stand under `key`.
///
/// # Errors
/// As [`append`], and what the names say.
#[inline(always)]
pub(super) fn append_fields(
    table: &mut TableBuilder,
    body: Body<'_>,
    it: &mut Reader<'_>,
    key: Key,
    text: &mut String,
    filled: &mut Filled,
) -> Result<(), Stop> {
    let at = it.at;
    // Counted here and not in `filled`: a sum in memory would have every value wait for the last.
    let mut count = 0;
    match it.token()? {
        Token::Map(pairs) => {
            for _ in 0..pairs {
                let key_at = it.at;
                // Without a closure, so that the prediction is part of this loop.
                let found = match body.window(key_at) {
                    Some(window) => match table.predict(window) {
                        None => found_key(table, window),
                        foreseen => foreseen,
                    },
                    None => None,
                };
                let Some(found) = found else {
                    append_named(table, it, filled)?;
                    continue;
                };
                it.at += found.key_len;
                if let Some(value) = it.float_64() {
                    table.append_f64(found.column, value)?;
                    count += 1;
                } else if let Some(value) = it.common_integer() {
                    table.append_i64(found.column, value)?;
                    count += 1;
                } else {
                    let is_value = append_next(table, found.column, it, body, key_at)?;
                    count += usize::from(is_value);
                }
            }
        }
        Token::Array(values) => append_unnamed(table, it, values, text, filled)?,
        other => return Err(ItemError::WrongValue { key, found: other.found(), at }.into()),
    }
    filled.values += count;
    Ok(())
}

/// The short key that `window` begins with, where keys come in no order and it was met before.
#[inline(always)]
fn found_key(table: &mut TableBuilder, window: &[u8; KEY_WINDOW]) -> Option<Predicted> {
    let [marker, ..] = *window;
    let len = 1 + usize::from(marker & 0x1f);
    if marker & 0xe0 == 0xa0 { table.find_key(window, len) } else { None }
}

/// Appends the value at `it`, which is another than the commonest.
#[inline(never)]
pub(super) fn append_next(
    table: &mut TableBuilder,
    column: ColumnIndex,
    it: &mut Reader<'_>,
    body: Body<'_>,
    key_at: usize,
) -> Result<bool, Stop> {
    let at = it.at;
    let token = it.token()?;
    append(table, column, &token, || excerpt_at(body, key_at), at)
}

/// The name at `key_at`, which was read before.
#[cold]
fn excerpt_at(body: Body<'_>, key_at: usize) -> Excerpt {
    let mut it = Reader::new(body.bytes(), key_at);
    Excerpt::new(name(&mut it).unwrap_or_default())
}

/// Appends a field whose key was not predicted.
#[inline(never)]
fn append_named(
    table: &mut TableBuilder,
    it: &mut Reader<'_>,
    filled: &mut Filled,
) -> Result<(), Stop> {
    let key_at = it.at;
    let name = name(it)?;
    let raw_key = it.since(key_at);
    let value_at = it.at;
    let token = it.token()?;
    match token {
        Token::Nil => return Ok(()),
        // Its values are still to come, so it cannot be passed over, whatever its name.
        Token::Array(_) | Token::Map(_) => {
            let (column, found) = (Excerpt::new(name), token.found());
            return Err(ItemError::UnsupportedValue { column, found, at: value_at }.into());
        }
        _ => {}
    }
    match table.field(utf8(name, name, key_at)?) {
        Ok(column) => {
            append(table, column, &token, || Excerpt::new(name), value_at)?;
            filled.values += 1;
            table.learn(raw_key, column);
        }
        Err(AppendError::ReservedName { .. }) => filled.dropped += 1,
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// Appends the values of Arc's short form: `field_0`, `field_1`, ..
#[cold]
fn append_unnamed(
    table: &mut TableBuilder,
    it: &mut Reader<'_>,
    values: usize,
    text: &mut String,
    filled: &mut Filled,
) -> Result<(), Stop> {
    for index in 0..values {
        let at = it.at;
        let token = it.token()?;
        if token == Token::Nil {
            continue;
        }
        text.clear();
        // Writing to a string does not fail.
        let _ = write!(text, "field_{index}");
        let column = table.field(text)?;
        append(table, column, &token, || Excerpt::new(text.as_bytes()), at)?;
        filled.values += 1;
    }
    Ok(())
}

/// The text that a tag or measurement value stands for, written to `text` unless it is a string.
/// `None` for nil.
///
/// # Errors
/// A container, an extension, or a string that is not UTF-8.
pub(super) fn tag_text<'t>(
    token: &Token<'t>,
    name: &[u8],
    at: usize,
    text: &'t mut String,
) -> Result<Option<&'t str>, Stop> {
    text.clear();
    // Writing to a string does not fail.
    let _ = match *token {
        Token::Nil => return Ok(None),
        Token::Str(bytes) | Token::Bin(bytes) => return Ok(Some(utf8(bytes, name, at)?)),
        Token::Bool(value) => write!(text, "{value}"),
        Token::Int(value) => write!(text, "{value}"),
        Token::Unsigned(value) => write!(text, "{value}"),
        Token::Float(value) => write!(text, "{value}"),
        Token::Array(_) | Token::Map(_) | Token::Ext(..) => {
            let error = ItemError::UnsupportedValue {
                column: Excerpt::new(name),
                found: token.found(),
                at,
            };
            return Err(error.into());
        }
    };
    Ok(Some(text))
}

/// Appends the tags at `it`. `host` is appended already; a tag `host` may repeat it.
///
/// # Errors
/// Tags that are not a map, values that are no scalar, or what the names say.
pub(super) fn append_tags(
    table: &mut TableBuilder,
    it: &mut Reader<'_>,
    host: Option<&str>,
    text: &mut String,
) -> Result<(), Stop> {
    let at = it.at;
    let pairs = match it.token()? {
        Token::Map(pairs) => pairs,
        Token::Nil => 0,
        other => {
            return Err(ItemError::WrongValue { key: Key::Tags, found: other.found(), at }.into());
        }
    };
    for _ in 0..pairs {
        let key_at = it.at;
        let name = name(it)?;
        let value_at = it.at;
        let token = it.token()?;
        let Some(value) = tag_text(&token, name, value_at, text)? else { continue };
        if value.is_empty() || (name == HOST.as_bytes() && Some(value) == host) {
            continue;
        }
        table.append_tag(utf8(name, name, key_at)?, value)?;
    }
    Ok(())
}

/// The tag that Arc's `h` is.
pub(super) const HOST: &str = "host";
