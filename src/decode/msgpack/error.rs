//! Why an item of a body is not a row, and where a body breaks.
//!
//! Errors are data: kind, key and byte offset, formatted late. Names from the body are kept as an
//! [`Excerpt`] so that a rejected row allocates nothing.

use std::fmt;

/// Bytes of a foreign name that an error keeps.
const EXCERPT_BYTES: usize = 30;

/// The beginning of a name from the body.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Excerpt {
    bytes: [u8; EXCERPT_BYTES],
    /// `len <= EXCERPT_BYTES`.
    len: u8,
    is_cut: bool,
}

impl Excerpt {
    /// The first bytes of `name`.
    pub(in crate::decode) fn new(name: &[u8]) -> Self {
        let kept = name.get(..EXCERPT_BYTES).unwrap_or(name);
        let mut bytes = [0; EXCERPT_BYTES];
        for (to, from) in bytes.iter_mut().zip(kept) {
            *to = *from;
        }
        let len = u8::try_from(kept.len()).unwrap_or_default();
        Self { bytes, len, is_cut: kept.len() < name.len() }
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.bytes.get(..usize::from(self.len)).unwrap_or_default();
        write!(f, "\"{}{}\"", name.escape_ascii(), if self.is_cut { "..." } else { "" })
    }
}

impl fmt::Debug for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A key of an item that means something, as it is spelled.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Key {
    /// `batch`.
    Batch,
    /// `columns`.
    Columns,
    /// `f`: Arc's short form of `fields`.
    F,
    /// `fields`.
    Fields,
    /// `h`: Arc's host.
    H,
    /// `m`: Arc's measurement.
    M,
    /// `measurement`.
    Measurement,
    /// `name`: Telegraf's measurement.
    Name,
    /// `t`: Arc's time.
    T,
    /// `tag_keys`.
    TagKeys,
    /// `tags`.
    Tags,
    /// `time`: Telegraf's time, and the time column of a columnar item.
    Time,
}

impl Key {
    /// The key with these bytes.
    pub(super) fn from_bytes(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"batch" => Self::Batch,
            b"columns" => Self::Columns,
            b"f" => Self::F,
            b"fields" => Self::Fields,
            b"h" => Self::H,
            b"m" => Self::M,
            b"measurement" => Self::Measurement,
            b"name" => Self::Name,
            b"t" => Self::T,
            b"tag_keys" => Self::TagKeys,
            b"tags" => Self::Tags,
            b"time" => Self::Time,
            _ => return None,
        })
    }

    /// The key as it stands in a body.
    pub fn name(self) -> &'static str {
        match self {
            Self::Batch => "batch",
            Self::Columns => "columns",
            Self::F => "f",
            Self::Fields => "fields",
            Self::H => "h",
            Self::M => "m",
            Self::Measurement => "measurement",
            Self::Name => "name",
            Self::T => "t",
            Self::TagKeys => "tag_keys",
            Self::Tags => "tags",
            Self::Time => "time",
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.name())
    }
}

/// What a value is, in the words of the `MessagePack` specification.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Found {
    /// An array.
    Array,
    /// `bin 8` to `bin 32`.
    Binary,
    /// A boolean.
    Boolean,
    /// An extension other than a timestamp, or a timestamp of another length than 4, 8 or 12.
    Extension,
    /// `float 32` or `float 64`.
    Float,
    /// An integer of any width.
    Integer,
    /// A map.
    Map,
    /// Nil.
    Nil,
    /// A string.
    String,
    /// Extension -1.
    Timestamp,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Array => "an array",
            Self::Binary => "binary",
            Self::Boolean => "a boolean",
            Self::Extension => "an extension",
            Self::Float => "a float",
            Self::Integer => "an integer",
            Self::Map => "a map",
            Self::Nil => "nil",
            Self::String => "a string",
            Self::Timestamp => "a timestamp",
        })
    }
}

/// Where a body stops being `MessagePack`; nothing behind it can be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Break {
    /// The body ends inside a value.
    End {
        /// Its length.
        at: usize,
    },
    /// A string, array or map that the rest of the body cannot hold.
    Length {
        /// Its first byte.
        at: usize,
        /// Bytes of a string, or values of a container, each of at least one byte.
        declared: u64,
        /// Bytes behind its header.
        rest: u64,
    },
    /// The marker 0xc1, which the specification never assigns.
    Reserved {
        /// Where it stands.
        at: usize,
    },
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::End { at } => {
                write!(f, "expected a value, found the end of the body at byte {at}")
            }
            Self::Length { at, declared, rest } => write!(
                f,
                "expected a length of at most {rest}, found {declared} at byte {at}: the body is \
                 cut short or corrupt"
            ),
            Self::Reserved { at } => {
                write!(f, "expected a value, found the unassigned marker 0xc1 at byte {at}")
            }
        }
    }
}

/// Why an item is not a row; `at` is a byte offset in the inflated body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ItemError {
    /// A column of a columnar item that is not an array.
    ColumnNotAnArray {
        /// The column.
        column: Excerpt,
        /// What it is.
        found: Found,
        /// Where its value stands.
        at: usize,
    },
    /// Two keys of which an item may have one.
    Conflict {
        /// The first in the item.
        first: Key,
        /// The other one; the same, when a key is given twice.
        second: Key,
        /// Where the other one's value stands.
        at: usize,
    },
    /// The body is not `MessagePack`: everything behind it is lost.
    Malformed(Break),
    /// An item without a key it needs.
    Missing {
        /// The key.
        key: Key,
        /// Where the item stands.
        at: usize,
    },
    /// A measurement, column or tag whose name is no string.
    NameNotAString {
        /// What it is.
        found: Found,
        /// Where it stands.
        at: usize,
    },
    /// A columnar item with an empty `columns`.
    NoColumns {
        /// Where it stands.
        at: usize,
    },
    /// Neither a map nor an array.
    NotAnItem {
        /// What it is.
        found: Found,
        /// Where it stands.
        at: usize,
    },
    /// A string that is not UTF-8.
    NotUtf8 {
        /// The column or key whose name or value it is.
        name: Excerpt,
        /// Where it stands.
        at: usize,
    },
    /// A time outside the years 0001 to 9999, or NaN.
    TimeOutOfRange {
        /// Where it stands.
        at: usize,
    },
    /// More nesting than `limits.msgpack_depth_max`.
    TooDeep {
        /// The limit.
        max: usize,
        /// Where the item stands.
        at: usize,
    },
    /// Columns of one item with different lengths.
    UnequalColumns {
        /// The first column whose length differs from that of the columns before it.
        column: Excerpt,
        /// Their length.
        expected: usize,
        /// Its length.
        found: usize,
        /// Where its value stands.
        at: usize,
    },
    /// A field or tag value that no column can hold.
    UnsupportedValue {
        /// The column.
        column: Excerpt,
        /// What the value is.
        found: Found,
        /// Where it stands.
        at: usize,
    },
    /// The value of a key is not what the key asks for.
    WrongValue {
        /// The key.
        key: Key,
        /// What its value is.
        found: Found,
        /// Where the value stands.
        at: usize,
    },
}

impl ItemError {
    /// Whether the item does not have the shape of a row, as opposed to a row with a value that
    /// cannot be stored.
    pub fn is_malformed(&self) -> bool {
        use ItemError::{NotUtf8, TimeOutOfRange, UnsupportedValue};
        !matches!(self, NotUtf8 { .. } | TimeOutOfRange { .. } | UnsupportedValue { .. })
    }
}

/// What the value of `key` has to be.
fn expected(key: Key) -> &'static str {
    match key {
        Key::Batch => "an array of rows",
        Key::Columns => "a map of arrays",
        Key::F | Key::Fields => "a map or an array",
        Key::H | Key::M | Key::Measurement | Key::Name => "a string or an integer",
        Key::T | Key::Time => "a number or a timestamp",
        Key::TagKeys => "an array of strings",
        Key::Tags => "a map",
    }
}

impl fmt::Display for ItemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ColumnNotAnArray { column, found, at } => {
                write!(f, "expected an array for column {column}, found {found} at byte {at}")
            }
            Self::Conflict { first, second, at } if first == second => {
                write!(f, "expected one key {first}, found a second one at byte {at}")
            }
            Self::Conflict { first, second, at } => {
                write!(f, "expected either {first} or {second}, found both at byte {at}")
            }
            Self::Malformed(broken) => broken.fmt(f),
            Self::Missing { key, at } => write!(f, "expected key {key}, found none at byte {at}"),
            Self::NameNotAString { found, at } => {
                write!(f, "expected a string for a name, found {found} at byte {at}")
            }
            Self::NoColumns { at } => {
                write!(f, "expected a column in \"columns\", found none at byte {at}")
            }
            Self::NotAnItem { found, at } => {
                write!(f, "expected a map or an array, found {found} at byte {at}")
            }
            Self::NotUtf8 { name, at } => {
                write!(f, "expected UTF-8 for {name}, found other bytes at byte {at}")
            }
            Self::TimeOutOfRange { at } => {
                write!(f, "expected a time in the years 1 to 9999, found another at byte {at}")
            }
            Self::TooDeep { max, at } => {
                write!(f, "expected at most {max} levels of nesting, found more at byte {at}")
            }
            Self::UnequalColumns { column, expected, found, at } => write!(
                f,
                "expected {expected} values in column {column}, found {found} at byte {at}"
            ),
            Self::UnsupportedValue { column, found, at } => {
                write!(f, "expected a scalar for {column}, found {found} at byte {at}")
            }
            Self::WrongValue { key, found, at } => {
                write!(f, "expected {} for {key}, found {found} at byte {at}", expected(*key))
            }
        }
    }
}

impl std::error::Error for ItemError {}
