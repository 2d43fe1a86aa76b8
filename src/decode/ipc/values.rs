//! The values of a column as they were read, and what reading them may cost.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt32Type;
use arrow_array::{
    Array, ArrayRef, BooleanArray, DictionaryArray, Float64Array, Int64Array, StringArray,
    UInt32Array, UInt64Array,
};
use arrow_buffer::{ArrowNativeType, Buffer, NullBuffer};

use super::error::StreamError;
use super::times::Unit;

/// The values of a column, all of one kind.
#[derive(Clone, Debug)]
pub(super) enum Values {
    /// Nothing but nulls.
    Null,
    Bool(BooleanArray),
    Int(Int64Array),
    Uint(UInt64Array),
    Float(Float64Array),
    Text(StringArray),
    /// Keys that are null or in the dictionary, whose values are never null.
    Dictionary(UInt32Array, StringArray),
    Time(Unit, Int64Array),
}

impl Values {
    fn array(&self) -> Option<&dyn Array> {
        Some(match self {
            Self::Null => return None,
            Self::Bool(values) => values,
            Self::Int(values) | Self::Time(_, values) => values,
            Self::Uint(values) => values,
            Self::Float(values) => values,
            Self::Text(values) => values,
            Self::Dictionary(keys, _) => keys,
        })
    }

    /// Whether the value of a row is null.
    #[inline]
    pub(super) fn is_null(&self, row: usize) -> bool {
        self.array().is_none_or(|array| array.is_null(row))
    }

    /// Which values are not null; `None` when all are.
    pub(super) fn nulls(&self) -> Option<&NullBuffer> {
        self.array().and_then(Array::nulls).filter(|nulls| nulls.null_count() > 0)
    }

    /// The text of a row; empty when it is null or something else.
    #[inline]
    pub(super) fn text(&self, row: usize) -> &str {
        match self {
            Self::Text(values) if row < values.len() => values.value(row),
            Self::Dictionary(keys, values) => {
                let key = keys.values().get(row).map_or(0, |key| key.as_usize());
                if key < values.len() { values.value(key) } else { "" }
            }
            _ => "",
        }
    }

    /// Some of the rows; nothing is copied.
    pub(super) fn slice(&self, start: usize, rows: usize) -> Self {
        self.cut(start, rows).or_null()
    }

    /// A column of nothing but nulls has no kind.
    pub(super) fn or_null(self) -> Self {
        let is_null = self.array().is_some_and(|it| it.null_count() == it.len() && !it.is_empty());
        if is_null { Self::Null } else { self }
    }

    fn cut(&self, start: usize, rows: usize) -> Self {
        match self {
            Self::Null => Self::Null,
            Self::Bool(values) => Self::Bool(values.slice(start, rows)),
            Self::Int(values) => Self::Int(values.slice(start, rows)),
            Self::Uint(values) => Self::Uint(values.slice(start, rows)),
            Self::Float(values) => Self::Float(values.slice(start, rows)),
            Self::Text(values) => Self::Text(values.slice(start, rows)),
            Self::Dictionary(keys, values) => {
                Self::Dictionary(keys.slice(start, rows), values.clone())
            }
            Self::Time(unit, values) => Self::Time(*unit, values.slice(start, rows)),
        }
    }
}

/// Bytes that may still be copied.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    max: usize,
    left: usize,
}

impl Allowance {
    /// At most `max` bytes, and no more than offsets of 32 bits can tell.
    pub(super) fn new(max: usize) -> Self {
        let max = max.min(1 << 30);
        Self { max, left: max }
    }

    /// Takes `count` values of `size` bytes.
    ///
    /// # Errors
    /// `DecodedTooLarge`.
    pub(super) fn take(&mut self, count: usize, size: usize) -> Result<(), StreamError> {
        let left = count.checked_mul(size).and_then(|bytes| self.left.checked_sub(bytes));
        self.left = left.ok_or(StreamError::DecodedTooLarge { max: self.max })?;
        Ok(())
    }
}

/// The text of all keys, which has to fit the allowance.
pub(super) fn expanded(
    keys: &UInt32Array,
    values: &StringArray,
    allowance: &mut Allowance,
) -> Result<StringArray, StreamError> {
    let text = |key: Option<u32>| key.map(|key| values.value(key.as_usize()));
    let bytes: usize = keys.iter().map(|key| text(key).map_or(0, str::len)).sum();
    allowance.take(bytes, 1)?;
    allowance.take(keys.len(), size_of::<i32>())?;
    Ok(keys.iter().map(text).collect())
}

/// Memory that arrays keep alive.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Held {
    /// Bytes of their own.
    pub(super) own: usize,
    /// Whether they use bytes of the body.
    pub(super) is_of_body: bool,
}

impl Held {
    /// Adds an array.
    pub(super) fn add(&mut self, array: &dyn Array, body: &Buffer) {
        let data = array.to_data();
        for buffer in data.buffers().iter().chain(data.nulls().map(NullBuffer::buffer)) {
            if buffer.data_ptr() == body.data_ptr() {
                self.is_of_body = true;
            } else {
                self.own += buffer.capacity().max(buffer.len());
            }
        }
        if let Some(dictionary) = array.as_any_dictionary_opt() {
            self.add(dictionary.values(), body);
        }
    }
}

/// The keys as the dictionary array that a tag column is.
pub(super) fn tag_array(keys: &UInt32Array, values: &StringArray) -> Option<ArrayRef> {
    let values = Arc::new(values.clone());
    let array = DictionaryArray::<UInt32Type>::try_new(keys.clone(), values);
    array.ok().map(|array| Arc::new(array) as ArrayRef)
}
