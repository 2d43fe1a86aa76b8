//! Why a line is not line protocol.

use std::fmt;

/// Why a line is not line protocol. The text is what the client sees.
///
/// Names that a line gives twice and rows the columns refuse are
/// [`AppendError`](crate::gather::AppendError)s.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LineError {
    /// A value of a later version of QuestDB's protocol, where text was expected.
    BinaryValue,
    /// A float that no `f64` holds.
    FloatOutOfRange,
    /// An integer below `i64::MIN` or above `i64::MAX`.
    IntegerOutOfRange,
    /// A field value that is no number, boolean or string.
    InvalidFieldValue,
    /// A timestamp that is not a decimal integer.
    InvalidTimestamp,
    /// Bytes that are not UTF-8.
    InvalidUtf8,
    /// A line longer than `limits.line_bytes_max`.
    LineTooLong {
        /// Its length.
        bytes: usize,
    },
    /// Nothing before the first `=` of a field.
    MissingFieldKey,
    /// A field without `=`, or with nothing behind it.
    MissingFieldValue,
    /// The line ends after measurement and tags.
    MissingFields,
    /// The line begins with a comma.
    MissingMeasurement,
    /// Nothing before the `=` of a tag.
    MissingTagKey,
    /// A tag without `=`.
    MissingTagValue,
    /// A NUL in the name of the measurement.
    NulInMeasurement,
    /// A tag and a field of one line have the same name.
    SameName,
    /// A timestamp that is no `i64`.
    TimestampOutOfRange,
    /// A timestamp that is no `i64` of nanoseconds.
    TimestampOutOfRangeForPrecision,
    /// Something behind the timestamp.
    TrailingContent,
    /// A string that does not end.
    UnbalancedQuotes,
    /// Something behind the closing quote of a string.
    UnexpectedCharacter,
    /// An unsigned integer above `u64::MAX`.
    UnsignedOutOfRange,
}

impl LineError {
    /// Whether the line is not line protocol, as opposed to a line that a client may well make and
    /// that cannot be stored.
    pub fn is_malformed(self) -> bool {
        use LineError::{
            FloatOutOfRange, IntegerOutOfRange, InvalidUtf8, LineTooLong, NulInMeasurement,
            SameName, TimestampOutOfRange, TimestampOutOfRangeForPrecision, UnsignedOutOfRange,
        };
        !matches!(
            self,
            FloatOutOfRange
                | IntegerOutOfRange
                | InvalidUtf8
                | LineTooLong { .. }
                | NulInMeasurement
                | SameName
                | TimestampOutOfRange
                | TimestampOutOfRangeForPrecision
                | UnsignedOutOfRange
        )
    }
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BinaryValue => {
                "expected text, found a binary value (set the client's protocol_version to 1)"
            }
            Self::FloatOutOfRange => "float out of range",
            Self::IntegerOutOfRange => "integer out of range",
            Self::InvalidFieldValue => "invalid field value",
            Self::InvalidTimestamp => "invalid timestamp",
            Self::InvalidUtf8 => "invalid UTF-8",
            Self::LineTooLong { bytes } => return write!(f, "line too long: {bytes} bytes"),
            Self::MissingFieldKey => "missing field key",
            Self::MissingFieldValue => "missing field value",
            Self::MissingFields => "missing fields",
            Self::MissingMeasurement => "missing measurement",
            Self::MissingTagKey => "missing tag key",
            Self::MissingTagValue => "missing tag value",
            Self::NulInMeasurement => "NUL in measurement",
            Self::SameName => "tag and field with the same name",
            Self::TimestampOutOfRange => "timestamp out of range",
            Self::TimestampOutOfRangeForPrecision => "timestamp out of range for precision",
            Self::TrailingContent => "trailing content after timestamp",
            Self::UnbalancedQuotes => "unbalanced quotes",
            Self::UnexpectedCharacter => "unexpected character after field value",
            Self::UnsignedOutOfRange => "unsigned out of range",
        })
    }
}

impl std::error::Error for LineError {}
