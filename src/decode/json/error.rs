//! Why an item of a body is not a row, and where a document stops being JSON.
//!
//! Errors are data: kind, key and byte offset, formatted late. Names from the body are kept as an
//! [`Excerpt`] so that a rejected row allocates nothing.

use std::fmt;

pub use crate::decode::msgpack::Excerpt;

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
    /// `metrics`: Telegraf's batch.
    Metrics,
    /// `name`: Telegraf's measurement.
    Name,
    /// `t`: Arc's time.
    T,
    /// `tag_keys`.
    TagKeys,
    /// `tags`.
    Tags,
    /// `time`, and the time column of a columnar item.
    Time,
    /// `timestamp`: Telegraf's time.
    Timestamp,
}

impl Key {
    /// The key of this name.
    #[inline]
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Some(match name.as_bytes() {
            b"batch" => Self::Batch,
            b"columns" => Self::Columns,
            b"f" => Self::F,
            b"fields" => Self::Fields,
            b"h" => Self::H,
            b"m" => Self::M,
            b"measurement" => Self::Measurement,
            b"metrics" => Self::Metrics,
            b"name" => Self::Name,
            b"t" => Self::T,
            b"tag_keys" => Self::TagKeys,
            b"tags" => Self::Tags,
            b"time" => Self::Time,
            b"timestamp" => Self::Timestamp,
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
            Self::Metrics => "metrics",
            Self::Name => "name",
            Self::T => "t",
            Self::TagKeys => "tag_keys",
            Self::Tags => "tags",
            Self::Time => "time",
            Self::Timestamp => "timestamp",
        }
    }

    /// What its value has to be.
    fn expected(self) -> &'static str {
        match self {
            Self::Batch | Self::Metrics => "an array of rows",
            Self::Columns => "an object of arrays",
            Self::F | Self::Fields => "an object or an array",
            Self::H | Self::M | Self::Measurement | Self::Name => "a string or an integer",
            Self::T | Self::Time | Self::Timestamp => "a number or an RFC 3339 time",
            Self::TagKeys => "an array of strings",
            Self::Tags => "an object",
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.name())
    }
}

/// What a value is, in the words of RFC 8259.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Found {
    /// An array.
    Array,
    /// `true` or `false`.
    Boolean,
    /// A number with a fraction or an exponent.
    Float,
    /// A number without either.
    Integer,
    /// `null`.
    Null,
    /// An object.
    Object,
    /// A string.
    String,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Array => "an array",
            Self::Boolean => "a boolean",
            Self::Float => "a float",
            Self::Integer => "an integer",
            Self::Null => "null",
            Self::Object => "an object",
            Self::String => "a string",
        })
    }
}

/// What keeps a value from being read while the document around it can be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// A control character that stands in a string unescaped.
    ControlCharacter,
    /// An escape that RFC 8259 does not have, or half of a surrogate pair.
    Escape,
    /// An integer outside `i64` and `u64`.
    IntegerTooLarge,
    /// A float beyond the largest `f64`.
    FloatTooLarge,
    /// `NaN`, `Infinity` or `-Infinity`, which JSON does not have.
    NotANumber,
    /// A string that is not UTF-8.
    NotUtf8,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (expected, found) = match self {
            Self::ControlCharacter => ("an escaped control character", "a bare one"),
            Self::Escape => ("an escape of RFC 8259", "another"),
            Self::IntegerTooLarge => ("an integer of 64 bits", "a larger one"),
            Self::FloatTooLarge => ("a float of 64 bits", "a larger one"),
            Self::NotANumber => ("a number", "NaN or an infinity"),
            Self::NotUtf8 => ("UTF-8", "other bytes"),
        };
        write!(f, "expected {expected}, found {found}")
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
    /// A value that cannot be read.
    Faulty {
        /// The column or key whose name or value it is.
        name: Excerpt,
        /// What is wrong with it.
        fault: Fault,
        /// Where it stands.
        at: usize,
    },
    /// The document is not JSON: what stands behind this byte of it is lost.
    Malformed {
        /// What had to stand there.
        expected: &'static str,
        /// What does; `None` at the end of the document.
        found: Option<u8>,
        /// Where.
        at: usize,
    },
    /// An item without a key it needs.
    Missing {
        /// The key.
        key: Key,
        /// Where the item stands.
        at: usize,
    },
    /// A columnar item with an empty `columns`.
    NoColumns {
        /// Where it stands.
        at: usize,
    },
    /// Neither an object nor an array.
    NotAnItem {
        /// What it is.
        found: Found,
        /// Where it stands.
        at: usize,
    },
    /// A time outside the years 0001 to 9999.
    TimeOutOfRange {
        /// Where it stands.
        at: usize,
    },
    /// More nesting than `limits.json_depth_max`.
    TooDeep {
        /// The limit.
        max: usize,
        /// Where what is too deep stands.
        at: usize,
    },
    /// A document with more punctuation marks than `limits.json_marks_max`.
    TooManyMarks {
        /// The limit.
        max: usize,
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
        use ItemError::{Faulty, TimeOutOfRange, UnsupportedValue};
        !matches!(self, Faulty { .. } | TimeOutOfRange { .. } | UnsupportedValue { .. })
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
            Self::Faulty { name, fault, at } => write!(f, "{fault} for {name} at byte {at}"),
            Self::Malformed { expected, found: Some(found), at } => {
                let found = found.escape_ascii();
                write!(f, "not JSON: expected {expected}, found '{found}' at byte {at}")
            }
            Self::Malformed { expected, found: None, at } => {
                write!(f, "not JSON: expected {expected}, found the end at byte {at}")
            }
            Self::Missing { key, at } => write!(f, "expected key {key}, found none at byte {at}"),
            Self::NoColumns { at } => {
                write!(f, "expected a column in \"columns\", found none at byte {at}")
            }
            Self::NotAnItem { found, at } => {
                write!(f, "expected an object or an array, found {found} at byte {at}")
            }
            Self::TimeOutOfRange { at } => {
                write!(f, "expected a time in the years 1 to 9999, found another at byte {at}")
            }
            Self::TooDeep { max, at } => {
                write!(f, "expected at most {max} levels of nesting, found more at byte {at}")
            }
            Self::TooManyMarks { max } => {
                write!(f, "expected at most {max} punctuation marks in one document, found more")
            }
            Self::UnequalColumns { column, expected, found, at } => write!(
                f,
                "expected {expected} values in column {column}, found {found} at byte {at}"
            ),
            Self::UnsupportedValue { column, found, at } => {
                write!(f, "expected a scalar for {column}, found {found} at byte {at}")
            }
            Self::WrongValue { key, found, at } => {
                let expected = key.expected();
                write!(f, "expected {expected} for {key}, found {found} at byte {at}")
            }
        }
    }
}

impl std::error::Error for ItemError {}
