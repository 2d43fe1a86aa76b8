//! Columnar items: `{"m", "columns": {name: [values]}, "tag_keys": [names]}`.
//!
//! ```text
//! {"m": "cpu", "columns": {"time": [t0, t1, t2], "host": ["a", "b", "a"], "usage": [1, null, 2]}}
//!                      -> 3 rows; a null is a row without this field
//! ```
//!
//! A scan finds where each column's values are on the tape and of which classes they are, then
//! each column is converted in one run (`run`). When a value does not suit its column the runs are
//! undone and the item is taken row by row (`ragged`), which rejects the bad rows only.

use super::error::{Excerpt, ItemError, Key};
use super::item::{Decoder, Parts};
use super::tape::{Document, Place, Value};
use crate::decode::Reason;
use crate::gather::{AppendError, ColumnIndex};

/// The classes of the values of a column.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Classes(u8);

impl Classes {
    pub(super) const NULL: Self = Self(1);
    pub(super) const INT: Self = Self(2);
    pub(super) const FLOAT: Self = Self(4);
    pub(super) const NUMBER: Self = Self(2 | 4);
    pub(super) const STR: Self = Self(8);
    pub(super) const OTHER: Self = Self(16);

    pub(super) fn contains(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    fn of(value: Value<'_>) -> Self {
        match value {
            Value::Null => Self::NULL,
            Value::Int(_) => Self::INT,
            Value::Float(_) => Self::FLOAT,
            Value::Str(_) => Self::STR,
            _ => Self::OTHER,
        }
    }
}

/// One column of the item at hand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    /// The node of its name.
    pub(super) name: usize,
    /// The node of the next value to read.
    pub(super) at: usize,
    /// Where the last value stands that was rejected.
    pub(super) place: Place,
    /// The classes of all values.
    pub(super) classes: Classes,
    /// Whether `tag_keys` names it.
    pub(super) is_tag: bool,
    /// Where its values go, once known; and the row of the item that found it out.
    pub(super) index: Option<(ColumnIndex, usize)>,
}

/// What a scan of `columns` found.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) columns: Vec<Column>,
    /// Values of the longest column.
    pub(super) rows: usize,
}

impl Scan {
    /// Scans the value of `columns` at node `at`, and says why the item is rejected as a whole.
    fn columns(
        &mut self,
        document: &Document<'_>,
        at: usize,
        columns_max: usize,
    ) -> Option<ItemError> {
        self.columns.clear();
        self.rows = 0;
        let pairs = match document.value(at) {
            Value::Object(0) => return Some(ItemError::NoColumns { at: document.byte(at) }),
            Value::Object(pairs) => pairs,
            other => {
                let at = document.byte(at);
                return Some(ItemError::WrongValue { key: Key::Columns, found: other.found(), at });
            }
        };
        let mut at = at + 1;
        let (mut error, mut length) = (None, None);
        for _ in 0..pairs {
            let result = self.column(document, at, columns_max, &mut length);
            error = error.or_else(|| result.err());
            at = document.next(at + 1);
        }
        error
    }

    /// Scans the column whose name is node `name`; `length` is that of the columns before it.
    fn column(
        &mut self,
        document: &Document<'_>,
        name: usize,
        columns_max: usize,
        length: &mut Option<usize>,
    ) -> Result<(), ItemError> {
        let at = name + 1;
        let excerpt = || document.key(name).map(|name| Excerpt::new(name.as_bytes()));
        let Value::Array(count) = document.value(at) else {
            let found = document.value(at).found();
            return Err(ItemError::ColumnNotAnArray {
                column: excerpt()?,
                found,
                at: document.byte(at),
            });
        };
        self.rows = self.rows.max(count);
        document.key(name)?;
        let expected = *length.get_or_insert(count);
        if count != expected {
            let (column, at) = (excerpt()?, document.byte(at));
            return Err(ItemError::UnequalColumns { column, expected, found: count, at });
        }
        // `time` is not counted among the columns of a table; one more than may be is an error
        // later.
        if self.columns.len() <= columns_max + 1 {
            let is_flat = document.next(at) == at + 1 + count;
            let all = (at + 1..at + 1 + count).map(|at| Classes::of(document.value(at)).0);
            let classes = if is_flat {
                Classes(all.fold(0, |classes, class| classes | class))
            } else {
                Classes::OTHER
            };
            let (is_tag, index, place) = (false, None, Place::default());
            self.columns.push(Column { name, at: at + 1, place, classes, is_tag, index });
        }
        Ok(())
    }

    /// Marks the columns that the value of `tag_keys` at node `at` names.
    fn tag_keys(&mut self, document: &Document<'_>, at: usize) -> Result<(), ItemError> {
        let wrong = |value: Value<'_>, at| {
            let at = document.byte(at);
            Err(ItemError::WrongValue { key: Key::TagKeys, found: value.found(), at })
        };
        let count = match document.value(at) {
            Value::Array(count) => count,
            Value::Null => 0,
            other => return wrong(other, at),
        };
        let mut names = Vec::new();
        let mut at = at + 1;
        for _ in 0..count {
            match document.value(at) {
                Value::Str(name) => names.push(name),
                other => return wrong(other, at),
            }
            at = document.next(at);
        }
        names.sort_unstable();
        for column in &mut self.columns {
            column.is_tag = names.binary_search(&document.key(column.name)?).is_ok();
        }
        Ok(())
    }
}

impl Decoder<'_, '_> {
    /// Takes the columnar item at node `at`.
    pub(super) fn columnar(
        &mut self,
        document: &Document<'_>,
        at: usize,
        parts: &Parts,
        error: Option<ItemError>,
    ) {
        let columns_max = self.context.limits.columns_per_table_max;
        let columns = parts.columns.map_or(at, |given| given.at);
        let scanned = self.scan.columns(document, columns, columns_max);
        // The item, its columns, and the arrays in them.
        let deep = (self.levels() < 3).then(|| self.too_deep(document, columns));
        let result = match error.or(deep).or(scanned) {
            Some(error) => Err(error.into()),
            None => self.columnar_rows(document, at, parts),
        };
        if let Err(reason) = result {
            self.reject(document.span(at), self.scan.rows.max(1), reason);
        }
    }

    fn columnar_rows(
        &mut self,
        document: &Document<'_>,
        at: usize,
        parts: &Parts,
    ) -> Result<(), Reason> {
        let missing = || ItemError::Missing { key: Key::M, at: document.byte(at) };
        let measurement = parts.measurement.ok_or_else(missing)?;
        let max = self.context.limits.columns_per_table_max;
        if self.scan.columns.len() > max + 1 {
            return Err(AppendError::TooManyColumns { max }.into());
        }
        if let Some(given) = parts.tag_keys {
            self.scan.tag_keys(document, given.at)?;
        }
        if self.scan.rows == 0 {
            return Ok(());
        }
        let table = self.measurement(document, measurement)?;
        if self.run(document, table).is_some() {
            self.report.accepted += self.scan.rows as u64;
            self.row_count += self.scan.rows as u64;
            return Ok(());
        }
        self.database.table_mut(table).rollback_row();
        self.ragged(document, table, at);
        Ok(())
    }
}
