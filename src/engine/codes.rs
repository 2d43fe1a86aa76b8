//! What the journal keeps as a number: the engine's words in records, for good.
//!
//! A number is never given to another meaning: records outlive the version that wrote them.

use crate::decode::inflate::Encoding;
use crate::decode::{Format, Precision};
use crate::gather;
use crate::journal;
use crate::schema::{ColumnKind, Role};

const FORMATS: &[(u8, Format)] = &[
    (1, Format::LineProtocol),
    (2, Format::MessagePack),
    (3, Format::Json),
    (4, Format::Arrow),
    (5, Format::QuestDb),
];

const PRECISIONS: &[(u8, Precision)] = &[
    (1, Precision::Auto),
    (2, Precision::Nanosecond),
    (3, Precision::Microsecond),
    (4, Precision::Millisecond),
    (5, Precision::Second),
    (6, Precision::Minute),
    (7, Precision::Hour),
];

const ENCODINGS: &[(u8, Encoding)] =
    &[(1, Encoding::Identity), (2, Encoding::Gzip), (3, Encoding::Zstd), (4, Encoding::Deflate)];

const KINDS: &[(u8, ColumnKind)] = &[
    (1, ColumnKind::Bool),
    (2, ColumnKind::I64),
    (3, ColumnKind::U64),
    (4, ColumnKind::F64),
    (5, ColumnKind::String),
    (6, ColumnKind::Time),
];

const ROLES: &[(u8, Role)] = &[(1, Role::Tag), (2, Role::Field), (3, Role::Time)];

/// Flag of a write: one refused row refuses all.
pub(super) const ATOMIC: u8 = 1;

/// 0, which stands for nothing, if the table misses `value`; a test says that none does.
fn code<T: PartialEq>(table: &[(u8, T)], value: &T) -> u8 {
    table.iter().find(|(_, it)| it == value).map_or(0, |(code, _)| *code)
}

fn value<T: Copy>(table: &[(u8, T)], code: u8) -> Option<T> {
    table.iter().find(|(it, _)| *it == code).map(|(_, value)| *value)
}

pub(super) fn of_format(format: Format) -> u8 {
    code(FORMATS, &format)
}

pub(super) fn to_format(code: u8) -> Option<Format> {
    value(FORMATS, code)
}

pub(super) fn of_precision(precision: Precision) -> u8 {
    code(PRECISIONS, &precision)
}

pub(super) fn to_precision(code: u8) -> Option<Precision> {
    value(PRECISIONS, code)
}

pub(super) fn of_encoding(encoding: Encoding) -> u8 {
    code(ENCODINGS, &encoding)
}

pub(super) fn to_encoding(code: u8) -> Option<Encoding> {
    value(ENCODINGS, code)
}

/// A column as the journal keeps it.
pub(super) fn of_column(column: &gather::Column) -> journal::Column<'_> {
    journal::Column {
        name: &column.name,
        physical: &column.physical,
        kind: code(KINDS, &column.kind),
        role: code(ROLES, &column.role),
        unit: column.unit.as_deref().unwrap_or_default(),
    }
}

/// The column that the journal kept.
pub(super) fn to_column(column: &journal::Column<'_>) -> Option<gather::Column> {
    Some(gather::Column {
        name: column.name.into(),
        physical: column.physical.into(),
        kind: value(KINDS, column.kind)?,
        role: value(ROLES, column.role)?,
        unit: (!column.unit.is_empty()).then(|| column.unit.into()),
    })
}

/// The number of a shard; there are never as many as this holds.
pub(super) fn shard(index: usize) -> u16 {
    u16::try_from(index).unwrap_or(u16::MAX)
}
