//! What a column is: its kind, its role, and the name it is written under.
//!
//! | kind   | taken from the wire           | Arrow                         | Parquet                  |
//! |--------|-------------------------------|-------------------------------|--------------------------|
//! | Bool   | booleans                      | `Boolean`                     | BOOLEAN                  |
//! | I64    | integers                      | `Int64`                       | INT64                    |
//! | U64    | unsigned integers             | `Int64` or `Decimal128(20,0)` | INT64 or DECIMAL(20,0)   |
//! | F64    | floats                        | `Float64`                     | DOUBLE                   |
//! | String | strings                       | `Utf8`, tags a dictionary     | BYTE_ARRAY, STRING       |
//! | Time   | timestamps                    | `Timestamp(us, UTC)`          | INT64, TIMESTAMP(MICROS) |

pub mod pinned;

use std::fmt;

use arrow_schema::{DataType, TimeUnit};

/// Kind of a column's values, fixed by the first accepted one (decision 5).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ColumnKind {
    /// `true` or `false`.
    Bool,
    /// 64-bit signed integer.
    I64,
    /// 64-bit unsigned integer; see [`Unsigned`] for how it is written.
    U64,
    /// 64-bit float.
    F64,
    /// UTF-8 text.
    String,
    /// Microseconds since 1970-01-01 UTC.
    Time,
}

impl ColumnKind {
    /// The name users see in errors and in `/api/v1/tables`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bool => "boolean",
            Self::I64 => "integer",
            Self::U64 => "unsigned",
            Self::F64 => "float",
            Self::String => "string",
            Self::Time => "timestamp",
        }
    }

    /// The kind of that name, as pinned schemas spell it.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Bool, Self::I64, Self::U64, Self::F64, Self::String, Self::Time]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}

impl fmt::Display for ColumnKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a column is to its rows.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Role {
    /// Part of the series: a string that identifies what was measured.
    Tag,
    /// A measured value.
    Field,
    /// The row's time (`time`, `time_ns`).
    Time,
}

impl Role {
    /// The name users see in errors, in `/api/v1/tables` and in column metadata.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tag => "tag",
            Self::Field => "field",
            Self::Time => "time",
        }
    }
}

impl Role {
    /// The role of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Tag, Self::Field, Self::Time].into_iter().find(|role| role.name() == name)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How U64 columns are written; Delta has no unsigned integer (decision 5).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Unsigned {
    /// As INT64; a row with a larger value is rejected by name.
    #[default]
    Int64,
    /// As DECIMAL(20,0), which holds every value.
    Decimal,
}

/// How the values of a column are written: its type in Parquet and in Delta.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum StoredType {
    /// BOOLEAN.
    Boolean,
    /// DECIMAL(20,0).
    Decimal,
    /// DOUBLE.
    Float64,
    /// INT32, INTEGER(16, signed).
    Int16,
    /// INT64.
    Int64,
    /// `BYTE_ARRAY`, STRING.
    String,
    /// INT64, TIMESTAMP(MICROS, UTC).
    Timestamp,
}

impl StoredType {
    /// How arrays of that type are written; `None` for a type that no column has.
    pub fn of(data_type: &DataType) -> Option<Self> {
        Some(match data_type {
            DataType::Boolean => Self::Boolean,
            DataType::Decimal128(20, 0) => Self::Decimal,
            DataType::Dictionary(_, values) if **values == DataType::Utf8 => Self::String,
            DataType::Float64 => Self::Float64,
            DataType::Int16 => Self::Int16,
            DataType::Int64 => Self::Int64,
            DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => Self::Timestamp,
            DataType::Utf8 => Self::String,
            _ => return None,
        })
    }
}

/// Name of the time column, reserved.
pub const TIME: &str = "time";
/// Name of the column with the nanoseconds below a microsecond, reserved.
pub const TIME_NS: &str = "time_ns";

/// Name of the partition column, reserved in files: a reader takes it from the path, and would hide
/// a column of this name behind it.
pub const DATE: &str = "date";

/// Key of the database: in a segment's footer and in the properties of a table.
pub const METADATA_DATABASE: &str = "peristyle.database";
/// Key of the measurement: in a segment's footer and in the properties of a table.
pub const METADATA_MEASUREMENT: &str = "peristyle.measurement";

/// Field metadata key of a column's role ([`Role::name`]).
pub const METADATA_ROLE: &str = "peristyle.role";
/// Field metadata key of the name a column had on the wire.
pub const METADATA_NAME: &str = "peristyle.name";
/// Field metadata key of a column's kind ([`ColumnKind::name`]).
pub const METADATA_KIND: &str = "peristyle.kind";
/// Field metadata key of the unit of a column's values, where a pin states it.
pub const METADATA_UNIT: &str = "peristyle.unit";

/// The name a column is written under: `name` with what Delta cannot hold as `%XX`
/// (space, `,;{}()=`, control characters, and `%` and `~` themselves, so that it can be read back).
///
/// `twins` is how many columns of the table already have a name that is equal but for case; it is
/// appended as `~n`, because Delta and Spark compare names without case.
pub fn physical_name(name: &str, twins: usize) -> String {
    let mut physical = String::with_capacity(name.len());
    for char in name.chars() {
        if char.is_control() || " ,;{}()=%~".contains(char) {
            let mut utf8 = [0; 4];
            for byte in char.encode_utf8(&mut utf8).bytes() {
                let hex = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or('0');
                physical.push('%');
                physical.push(hex(byte >> 4).to_ascii_uppercase());
                physical.push(hex(byte & 15).to_ascii_uppercase());
            }
        } else {
            physical.push(char);
        }
    }
    if twins > 0 {
        physical.push('~');
        physical.push_str(&twins.to_string());
    }
    physical
}
