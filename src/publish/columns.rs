//! Columns as Delta knows them, and what is ours in their metadata.
//!
//! | stored    | Delta           | kinds                      |
//! |-----------|-----------------|----------------------------|
//! | Boolean   | `boolean`       | Bool                       |
//! | Int16     | `short`         | I64, `time_ns` only        |
//! | Int64     | `long`          | I64, U64                   |
//! | Decimal   | `decimal(20,0)` | U64                        |
//! | Float64   | `double`        | F64                        |
//! | String    | `string`        | String                     |
//! | Timestamp | `timestamp`     | Time                       |
//!
//! All columns may be null in Delta, `time` too: a table with a column that may not be needs a
//! feature (`invariants`) that fewer readers have.

use arrow_schema::Field;
use delta_kernel::schema::{DataType, MetadataValue, PrimitiveType, StructField};

use crate::schema::{
    ColumnKind, METADATA_KIND, METADATA_NAME, METADATA_ROLE, METADATA_UNIT, Role, StoredType, TIME,
    TIME_NS,
};

/// Metadata of a field that is kept in the table.
const KEPT: [&str; 4] = [METADATA_KIND, METADATA_NAME, METADATA_ROLE, METADATA_UNIT];

/// A column of a table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Column {
    /// The name in files.
    pub physical: String,
    /// The name as clients call it.
    pub name: String,
    /// The kind of its values.
    pub kind: ColumnKind,
    /// What it is to its rows.
    pub role: Role,
    /// The unit of its values, where one is stated.
    pub unit: Option<String>,
    /// How it is written.
    pub stored: StoredType,
}

/// The column as the log describes it; `None` for a type that no column of ours has.
pub(super) fn of_delta(field: &StructField) -> Option<Column> {
    let stored = stored(field.data_type())?;
    let text = |key: &str| match field.metadata.get(key) {
        Some(MetadataValue::String(text)) => Some(text.clone()),
        _ => None,
    };
    let reserved = [TIME, TIME_NS].contains(&field.name().as_str());
    let implied = if reserved { Role::Time } else { Role::Field };
    Some(Column {
        physical: field.name().clone(),
        name: text(METADATA_NAME).unwrap_or_else(|| field.name().clone()),
        kind: stated_kind(field).unwrap_or_else(|| implied_kind(stored)),
        role: text(METADATA_ROLE).and_then(|it| Role::from_name(&it)).unwrap_or(implied),
        unit: text(METADATA_UNIT),
        stored,
    })
}

/// The kind that the metadata of a column names.
pub(super) fn stated_kind(field: &StructField) -> Option<ColumnKind> {
    match field.metadata.get(METADATA_KIND) {
        Some(MetadataValue::String(name)) => ColumnKind::from_name(name),
        _ => None,
    }
}

/// The field of the log for a column of files; `None` for a type that no column of ours has.
pub(super) fn to_delta(field: &Field) -> Option<StructField> {
    let data_type = delta_type(StoredType::of(field.data_type())?)?;
    let metadata = KEPT.iter().filter_map(|key| {
        let value = field.metadata().get(key)?;
        Some((*key, MetadataValue::String(value.clone())))
    });
    Some(StructField::nullable(field.name(), data_type).with_metadata(metadata))
}

/// How a type of Delta's is written by us.
pub(super) fn stored(data_type: &DataType) -> Option<StoredType> {
    let DataType::Primitive(primitive) = data_type else { return None };
    Some(match primitive {
        PrimitiveType::Boolean => StoredType::Boolean,
        PrimitiveType::Double => StoredType::Float64,
        PrimitiveType::Long => StoredType::Int64,
        PrimitiveType::Short => StoredType::Int16,
        PrimitiveType::String => StoredType::String,
        PrimitiveType::Timestamp => StoredType::Timestamp,
        PrimitiveType::Decimal(it) if (it.precision(), it.scale()) == (20, 0) => {
            StoredType::Decimal
        }
        _ => return None,
    })
}

/// The type that Delta has for what we write.
fn delta_type(stored: StoredType) -> Option<DataType> {
    Some(match stored {
        StoredType::Boolean => DataType::BOOLEAN,
        StoredType::Decimal => DataType::Primitive(PrimitiveType::decimal(20, 0).ok()?),
        StoredType::Float64 => DataType::DOUBLE,
        StoredType::Int16 => DataType::SHORT,
        StoredType::Int64 => DataType::LONG,
        StoredType::String => DataType::STRING,
        StoredType::Timestamp => DataType::TIMESTAMP,
    })
}

/// The kind of a column that does not state one.
fn implied_kind(stored: StoredType) -> ColumnKind {
    match stored {
        StoredType::Boolean => ColumnKind::Bool,
        StoredType::Decimal => ColumnKind::U64,
        StoredType::Float64 => ColumnKind::F64,
        StoredType::Int16 | StoredType::Int64 => ColumnKind::I64,
        StoredType::String => ColumnKind::String,
        StoredType::Timestamp => ColumnKind::Time,
    }
}

/// The type of a column, and its kind where it states one, for messages.
pub(super) fn describe(field: &StructField) -> String {
    match stated_kind(field) {
        Some(kind) => format!("{} ({kind})", field.data_type()),
        None => field.data_type().to_string(),
    }
}
