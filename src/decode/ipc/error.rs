//! What is wrong with a stream of Arrow IPC, or with a row of it.

use std::fmt;

/// Why a stream cannot be read, or a row not be taken. Columns are named.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum StreamError {
    /// Numbers are big-endian.
    BigEndian,
    /// Buffers are compressed in a way that is not known.
    Codec,
    /// The values of a column are not what the metadata says.
    Column {
        /// The column.
        column: Box<str>,
        /// What is wrong with it.
        fault: Fault,
    },
    /// What was decompressed, converted or expanded exceeds `limits.inflated_bytes_max`.
    DecodedTooLarge {
        /// The limit.
        max: usize,
    },
    /// A dictionary that no column of strings has.
    Dictionary {
        /// Its number.
        id: i64,
    },
    /// A column that is there twice.
    DuplicateColumn {
        /// The column.
        column: Box<str>,
    },
    /// The file format, whose metadata stand at the end.
    FileFormat,
    /// The metadata of a message are no flatbuffer of one.
    Metadata,
    /// A parameter names a column that the stream has not got.
    MissingColumn {
        /// The parameter.
        parameter: &'static str,
        /// The column.
        column: Box<str>,
    },
    /// Neither a parameter nor the metadata of the schema name a measurement.
    MissingMeasurement,
    /// A schema without columns.
    NoColumns,
    /// A column `time` beside the one that the parameter `time` names.
    ReservedColumn,
    /// A time outside the years 0001 to 9999: a row of its own.
    TimeOutOfRange {
        /// The column.
        column: Box<str>,
    },
    /// More columns than a measurement may have.
    TooManyColumns {
        /// The limit.
        max: usize,
    },
    /// The body ends within a message.
    Truncated,
    /// A message that may not stand here.
    Unexpected {
        /// What may.
        expected: &'static str,
        /// What does.
        found: &'static str,
    },
    /// A type that a column of this use cannot have.
    UnsupportedType {
        /// The column.
        column: Box<str>,
        /// Types that it can have.
        expected: &'static str,
        /// Its type, as the format calls it.
        found: Box<str>,
    },
    /// Metadata of another version than V4 and V5.
    Version,
}

/// What is wrong with the buffers of a column.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// A buffer reaches beyond its message, or is not there.
    Bounds,
    /// A compressed buffer that is broken, or of another length than it says.
    Compressed,
    /// A key that is not in the dictionary.
    Key,
    /// Another number of values than the batch has rows.
    Length,
    /// Offsets that are not in order, or reach beyond the text.
    Offsets,
    /// Fewer bytes than the values take.
    Short,
    /// Text that is not UTF-8.
    Utf8,
    /// A view that reaches beyond its buffer, or contradicts it.
    View,
}

impl StreamError {
    /// Whether nothing behind it can be read; otherwise it is about one row.
    pub fn is_malformed(&self) -> bool {
        !matches!(self, Self::TimeOutOfRange { .. })
    }
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BigEndian => f.write_str("expected little-endian numbers, found big-endian ones"),
            Self::Codec => f.write_str("expected buffers compressed by lz4 or zstd, found others"),
            Self::Column { column, fault } => {
                write!(f, "column \"{}\": {fault}", column.escape_debug())
            }
            Self::DecodedTooLarge { max } => {
                write!(f, "expected at most {max} bytes when decompressed and converted")
            }
            Self::Dictionary { id } => {
                write!(f, "expected a dictionary of strings of a column, found dictionary {id}")
            }
            Self::DuplicateColumn { column } => {
                write!(f, "duplicate column \"{}\"", column.escape_debug())
            }
            Self::FileFormat => {
                f.write_str("expected the stream format of Arrow IPC, found the file format")
            }
            Self::Metadata => f.write_str("expected the metadata of a message, found other bytes"),
            Self::MissingColumn { parameter, column } => write!(
                f,
                "parameter \"{parameter}\": expected columns of the stream, found \"{}\"",
                column.escape_debug()
            ),
            Self::MissingMeasurement => f.write_str(
                "missing required parameter \"measurement\", and no \"peristyle.measurement\" in \
                 the metadata of the schema",
            ),
            Self::NoColumns => f.write_str("expected columns, found none"),
            Self::ReservedColumn => f.write_str(
                "expected one column of times, found \"time\" beside the one that the parameter \
                 \"time\" names",
            ),
            Self::TimeOutOfRange { column } => write!(
                f,
                "column \"{}\": expected a time in the years 0001 to 9999",
                column.escape_debug()
            ),
            Self::TooManyColumns { max } => write!(f, "too many columns: expected at most {max}"),
            Self::Truncated => f.write_str("the body ends within a message"),
            Self::Unexpected { expected, found } => {
                write!(f, "expected {expected}, found {found}")
            }
            Self::UnsupportedType { column, expected, found } => write!(
                f,
                "column \"{}\": expected {expected}, found {found}",
                column.escape_debug()
            ),
            Self::Version => f.write_str("expected metadata of version 4 or 5, found another"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bounds => "expected its buffers within the message",
            Self::Compressed => "expected a compressed buffer of the length it says",
            Self::Key => "expected keys of the dictionary, found others",
            Self::Length => "expected as many values as the batch has rows",
            Self::Offsets => "expected rising offsets within the text",
            Self::Short => "expected a buffer with room for all values, found a shorter one",
            Self::Utf8 => "expected UTF-8, found other bytes",
            Self::View => "expected views of the text, found others",
        })
    }
}
