//! Why the columns refused a row. Always the sender's fault; the row left no trace.

use std::fmt;

use crate::schema::{ColumnKind, Role};

/// Why the columns refused a row.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AppendError {
    /// A column was given twice in one row.
    DuplicateColumn {
        /// The column.
        column: Box<str>,
        /// Its role in the row.
        role: Role,
    },
    /// A name of no bytes.
    EmptyName,
    /// A value that the column's kind cannot hold without loss.
    KindConflict {
        /// The measurement.
        measurement: Box<str>,
        /// The column.
        column: Box<str>,
        /// The kind fixed by the first accepted value.
        expected: ColumnKind,
        /// The kind of the refused value.
        found: ColumnKind,
    },
    /// A name or a tag value longer than `limits.name_bytes_max`.
    NameTooLong {
        /// Its length.
        bytes: usize,
    },
    /// The schema of the measurement is closed and does not have this column.
    NotInSchema {
        /// The measurement.
        measurement: Box<str>,
        /// The column.
        column: Box<str>,
    },
    /// A column named `time`, which is the row's own time.
    ReservedName {
        /// The role it was given.
        role: Role,
    },
    /// A row without any field.
    NoFields,
    /// A name that is a tag here and a field there.
    RoleConflict {
        /// The measurement.
        measurement: Box<str>,
        /// The column.
        column: Box<str>,
        /// The role fixed by the first accepted row.
        expected: Role,
        /// The role it was given.
        found: Role,
    },
    /// A string field longer than `limits.string_bytes_max`.
    StringTooLong {
        /// Its length.
        bytes: usize,
    },
    /// The table has `limits.columns_per_table_max` columns.
    TooManyColumns {
        /// The limit.
        max: usize,
    },
    /// The body has rows of `limits.days_per_body_max` days beside the first of each measurement.
    TooManyDays {
        /// The limit.
        max: usize,
    },
    /// The database has `limits.tables_per_database_max` measurements.
    TooManyTables {
        /// The limit.
        max: usize,
    },
    /// An unsigned value above `i64::MAX` while unsigned columns are written as INT64.
    UnsignedTooLarge {
        /// The column.
        column: Box<str>,
        /// The value.
        value: u64,
    },
}

impl AppendError {
    /// The measurement, where the error knows it.
    pub fn measurement(&self) -> Option<&str> {
        match self {
            Self::KindConflict { measurement, .. }
            | Self::NotInSchema { measurement, .. }
            | Self::RoleConflict { measurement, .. } => Some(measurement),
            _ => None,
        }
    }
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DuplicateColumn { column, role } => {
                write!(f, "duplicate {role} \"{}\"", column.escape_debug())
            }
            Self::EmptyName => f.write_str("expected a name, found an empty one"),
            Self::KindConflict { measurement, column, expected, found } => write!(
                f,
                "field type conflict: input field \"{}\" on measurement \"{}\" is type {found}, \
                 already exists as type {expected}",
                column.escape_debug(),
                measurement.escape_debug(),
            ),
            Self::NameTooLong { bytes } => write!(f, "name or tag value too long: {bytes} bytes"),
            Self::NotInSchema { measurement, column } => write!(
                f,
                "the schema of measurement \"{}\" is closed and has no column \"{}\"",
                measurement.escape_debug(),
                column.escape_debug()
            ),
            Self::ReservedName { role } => write!(f, "reserved {role} key \"time\""),
            Self::NoFields => f.write_str("no usable field left"),
            Self::RoleConflict { measurement, column, expected, found } => write!(
                f,
                "column \"{}\" on measurement \"{}\" is given as a {found}, already exists as a \
                 {expected}",
                column.escape_debug(),
                measurement.escape_debug(),
            ),
            Self::StringTooLong { bytes } => write!(f, "string field too long: {bytes} bytes"),
            Self::TooManyColumns { max } => {
                write!(f, "too many columns: the measurement has {max}")
            }
            Self::TooManyDays { max } => write!(
                f,
                "too many days: expected rows of at most {max} in one body, beside the first day \
                 of each measurement"
            ),
            Self::TooManyTables { max } => {
                write!(f, "too many measurements: the database has {max}")
            }
            Self::UnsignedTooLarge { column, value } => write!(
                f,
                "unsigned value {value} of column \"{}\" is larger than INT64 holds \
                 (unsigned = \"decimal\" takes it)",
                column.escape_debug()
            ),
        }
    }
}

impl std::error::Error for AppendError {}
