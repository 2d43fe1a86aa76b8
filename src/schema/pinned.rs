//! Measurements pinned in advance.

use super::{ColumnKind, Role};

/// A measurement whose columns are known in advance.
#[derive(Clone, Debug)]
pub struct PinnedSchema {
    /// The measurement.
    pub measurement: String,
    /// Whether unknown columns are refused.
    pub closed: bool,
    /// Its columns.
    pub columns: Vec<PinnedColumn>,
}

/// A column known in advance.
#[derive(Clone, Debug)]
pub struct PinnedColumn {
    /// The name on the wire.
    pub name: String,
    /// Tag or field.
    pub role: Role,
    /// What it holds.
    pub kind: ColumnKind,
}
