//! Values into the open row of a table: fields and tags, by whatever shape they came.

use std::fmt::Write;

use simd_json::{Node, StaticNode};

use super::error::{Excerpt, ItemError, Key};
use super::tape::{Document, Value};
use crate::decode::Reason;
use crate::decode::cursor::Body;
use crate::gather::{AppendError, ColumnIndex, TableBuilder};

/// What the fields of an item put into the open row.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Filled {
    /// Values that are not null.
    pub(super) values: usize,
    /// Fields named `time`, which the row cannot hold.
    pub(super) dropped: u64,
}

/// Appends `value`; `false` when it is null. `name` and `at` are for the error.
///
/// # Errors
/// A container, a value that cannot be read, or what the column says.
pub(super) fn append(
    table: &mut TableBuilder,
    column: ColumnIndex,
    value: Value<'_>,
    name: &str,
    at: impl FnOnce() -> usize,
) -> Result<bool, Reason> {
    match value {
        Value::Float(value) => table.append_f64(column, value)?,
        Value::Int(value) => table.append_i64(column, value)?,
        Value::Unsigned(value) => table.append_u64(column, value)?,
        Value::Str(value) => table.append_str(column, value)?,
        Value::Bool(value) => table.append_bool(column, value)?,
        Value::Null => return Ok(false),
        _ => return Err(refusal(value, name, at()).into()),
    }
    Ok(true)
}

/// Why `value` is none that a column could hold.
#[cold]
pub(super) fn refusal(value: Value<'_>, name: &str, at: usize) -> ItemError {
    let column = Excerpt::new(name.as_bytes());
    match value {
        Value::Faulty(fault) => ItemError::Faulty { name: column, fault, at },
        _ => ItemError::UnsupportedValue { column, found: value.found(), at },
    }
}

/// Appends `value` to the row `offset` rows behind the open one, inside a run.
/// `None`: the column cannot hold it.
#[inline]
pub(super) fn append_at(
    table: &mut TableBuilder,
    column: ColumnIndex,
    offset: usize,
    value: Value<'_>,
) -> Option<()> {
    match value {
        Value::Null => return Some(()),
        Value::Bool(value) => table.append_bool_at(column, offset, value),
        Value::Int(value) => table.append_i64_at(column, offset, value),
        Value::Unsigned(value) => table.append_u64_at(column, offset, value),
        Value::Float(value) => table.append_f64_at(column, offset, value),
        Value::Str(value) => table.append_str_at(column, offset, value),
        Value::Faulty(_) | Value::Array(_) | Value::Object(_) => return None,
    }
    .ok()
}

/// The fields of one item on their way into the open row of its table.
pub(super) struct Fields<'t, 'd> {
    pub(super) document: &'d Document<'t>,
    pub(super) body: Body<'d>,
    pub(super) table: &'d mut TableBuilder,
    /// Names that are made of several keys.
    pub(super) text: &'d mut String,
    /// `limits.json_depth_max`, for the error.
    pub(super) depth_max: usize,
    pub(super) filled: Filled,
}

impl Fields<'_, '_> {
    /// Appends the fields at node `at`, an object or an array, which stand under `key` and may
    /// have so many `levels`.
    ///
    /// # Errors
    /// As [`append`], and what the names say.
    #[inline(always)]
    pub(super) fn append(&mut self, at: usize, key: Key, levels: usize) -> Result<(), Reason> {
        match self.document.value(at) {
            Value::Object(pairs) => {
                self.fits(at, levels)?;
                let mut at = at + 1;
                // Counted here and not in `filled`: a sum in memory would have every value wait
                // for the last.
                let mut count = 0;
                for _ in 0..pairs {
                    match self.append_foreseen(at) {
                        Some(true) => count += 1,
                        found => self.append_named(at, levels, found.is_none())?,
                    }
                    at = self.document.next(at + 1);
                }
                self.filled.values += count;
                Ok(())
            }
            Value::Array(values) => self.append_unnamed(at, values, levels),
            other => {
                let at = self.document.byte(at);
                Err(ItemError::WrongValue { key, found: other.found(), at }.into())
            }
        }
    }

    /// Appends the field whose key is node `at`, if the key was foreseen; whether the value is a
    /// plain one that its column takes.
    #[inline(always)]
    fn append_foreseen(&mut self, at: usize) -> Option<bool> {
        let nodes = self.document.nodes;
        let (Node::String(key), value) = (nodes.get(at)?, nodes.get(at + 1)?) else { return None };
        let window = self.body.window(self.document.offset(key) - 1)?;
        let column = self.table.predict(window)?.column;
        let appended = match value {
            Node::Static(StaticNode::F64(value)) => self.table.append_f64(column, *value),
            Node::Static(StaticNode::I64(value)) => self.table.append_i64(column, *value),
            Node::Static(StaticNode::U64(value)) => match i64::try_from(*value) {
                Ok(value) => self.table.append_i64(column, value),
                Err(_) => self.table.append_u64(column, *value),
            },
            Node::String(value) if self.document.is_flawless() => {
                self.table.append_str(column, value)
            }
            Node::Static(StaticNode::Bool(value)) => self.table.append_bool(column, *value),
            _ => return Some(false),
        };
        Some(appended.is_ok())
    }

    fn fits(&self, at: usize, levels: usize) -> Result<(), Reason> {
        if levels == 0 {
            let at = self.document.byte(at);
            return Err(ItemError::TooDeep { max: self.depth_max, at }.into());
        }
        Ok(())
    }

    /// Appends the field whose key is node `at`, or says why it cannot be. `is_new`: the key was
    /// not foreseen.
    #[inline(never)]
    fn append_named(&mut self, at: usize, levels: usize, is_new: bool) -> Result<(), Reason> {
        let name = self.document.key(at)?;
        match self.document.value(at + 1) {
            Value::Null => Ok(()),
            Value::Object(pairs) => {
                self.text.clear();
                self.text.push_str(name);
                self.append_nested(at + 1, pairs, levels - 1)
            }
            value => {
                let column = self.append_scalar(at + 1, value, name)?.filter(|_| is_new);
                let raw = column.and_then(|column| Some((column, self.document.plain(name)?)));
                if let Some((column, raw)) = raw {
                    self.table.learn(raw, column);
                }
                Ok(())
            }
        }
    }

    /// Appends the value at node `at` as field `name`; `None` when it cannot be kept.
    fn append_scalar(
        &mut self,
        at: usize,
        value: Value<'_>,
        name: &str,
    ) -> Result<Option<ColumnIndex>, Reason> {
        if matches!(value, Value::Array(_) | Value::Faulty(_)) {
            return Err(refusal(value, name, self.document.byte(at)).into());
        }
        match self.table.field(name) {
            Ok(column) => {
                append(self.table, column, value, name, || self.document.byte(at))?;
                self.filled.values += 1;
                Ok(Some(column))
            }
            Err(AppendError::ReservedName { .. }) => {
                self.filled.dropped += 1;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Appends the pairs of the object at node `at` as fields `text_key`.
    ///
    /// Recursion is bounded by `levels`.
    fn append_nested(&mut self, at: usize, pairs: usize, levels: usize) -> Result<(), Reason> {
        self.fits(at, levels)?;
        let mut at = at + 1;
        let length = self.text.len();
        for _ in 0..pairs {
            let key = self.document.key(at)?;
            self.text.push('_');
            self.text.push_str(key);
            self.append_under_text(at + 1, levels)?;
            self.text.truncate(length);
            at = self.document.next(at + 1);
        }
        Ok(())
    }

    /// Appends the value at node `at` as field `text`.
    fn append_under_text(&mut self, at: usize, levels: usize) -> Result<(), Reason> {
        match self.document.value(at) {
            Value::Null => Ok(()),
            Value::Object(pairs) => self.append_nested(at, pairs, levels - 1),
            value => {
                let name = std::mem::take(self.text);
                let result = self.append_scalar(at, value, &name);
                *self.text = name;
                result.map(drop)
            }
        }
    }

    /// Appends the values of Arc's short form: `field_0`, `field_1`, ..
    #[cold]
    fn append_unnamed(&mut self, at: usize, values: usize, levels: usize) -> Result<(), Reason> {
        self.fits(at, levels)?;
        let mut at = at + 1;
        for index in 0..values {
            self.text.clear();
            // Writing to a string does not fail.
            let _ = write!(self.text, "field_{index}");
            self.append_under_text(at, levels)?;
            at = self.document.next(at);
        }
        Ok(())
    }
}

/// The text that a tag value stands for, written to `text` unless it is a string. `None` for null.
///
/// # Errors
/// A container, or a value that cannot be read.
pub(super) fn tag_text<'t>(
    value: Value<'t>,
    name: &str,
    at: impl FnOnce() -> usize,
    text: &'t mut String,
) -> Result<Option<&'t str>, ItemError> {
    text.clear();
    // Writing to a string does not fail.
    let _ = match value {
        Value::Null => return Ok(None),
        Value::Str(value) => return Ok(Some(value)),
        Value::Bool(value) => write!(text, "{value}"),
        Value::Int(value) => write!(text, "{value}"),
        Value::Unsigned(value) => write!(text, "{value}"),
        Value::Float(value) => write!(text, "{value}"),
        Value::Faulty(_) | Value::Array(_) | Value::Object(_) => {
            return Err(refusal(value, name, at()));
        }
    };
    Ok(Some(text))
}

/// Appends the tags at node `at`. `host` is appended already; a tag `host` may repeat it.
///
/// # Errors
/// Tags that are no object, values that are no scalar, or what the names say.
pub(super) fn append_tags(
    table: &mut TableBuilder,
    document: &Document<'_>,
    at: usize,
    host: Option<&str>,
    text: &mut String,
) -> Result<(), Reason> {
    let pairs = match document.value(at) {
        Value::Object(pairs) => pairs,
        Value::Null => 0,
        other => {
            let at = document.byte(at);
            return Err(ItemError::WrongValue { key: Key::Tags, found: other.found(), at }.into());
        }
    };
    let mut at = at + 1;
    for _ in 0..pairs {
        let name = document.key(at)?;
        let value = document.value(at + 1);
        let value = tag_text(value, name, || document.byte(at + 1), text)?;
        if let Some(value) = value
            && !value.is_empty()
            && !(name == HOST && Some(value) == host)
        {
            table.append_tag(name, value)?;
        }
        at = document.next(at + 1);
    }
    Ok(())
}

/// The tag that Arc's `h` is.
pub(super) const HOST: &str = "host";
