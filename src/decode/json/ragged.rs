//! The slow, obvious way through a columnar item: one cursor per column, row by row.
//!
//! Taken when a run met a value that its column cannot hold, a tag that is no plain string, or rows
//! that may have no field at all. Bad rows are rejected one by one, their neighbours are kept.

use super::columnar::Column;
use super::error::{ItemError, Key};
use super::item::Decoder;
use super::tape::{Document, Value};
use super::time;
use super::value::{Filled, append, refusal, tag_text};
use crate::decode::{Context, Reason};
use crate::gather::{AppendError, TableBuilder, TableIndex};
use crate::schema::{Role, TIME};
use crate::timestamp::Timestamp;

/// The open row while its columns are visited.
struct Open<'t> {
    table: &'t mut TableBuilder,
    document: &'t Document<'t>,
    context: &'t Context<'t>,
    /// Row of the item.
    row: usize,
    time: Option<Timestamp>,
    filled: Filled,
    text: &'t mut String,
}

impl Decoder<'_, '_> {
    /// Takes the scanned item at node `at` row by row.
    pub(super) fn ragged(&mut self, document: &Document<'_>, table: TableIndex, at: usize) {
        let mut span = None;
        for row in 0..self.scan.rows {
            match self.ragged_row(document, table, row) {
                Ok(filled) => {
                    self.row_count += 1;
                    self.report.accepted += 1;
                    self.report.dropped_fields += filled.dropped;
                }
                Err(reason) => {
                    let span = *span.get_or_insert_with(|| document.span(at));
                    self.reject(span, 1, reason);
                    // Columns that the row would have added are gone with it.
                    for column in &mut self.scan.columns {
                        column.index = column.index.filter(|(_, since)| *since != row);
                    }
                }
            }
        }
    }

    /// Appends the next value of every column as one row, and moves all cursors whatever comes.
    fn ragged_row(
        &mut self,
        document: &Document<'_>,
        table: TableIndex,
        row: usize,
    ) -> Result<Filled, Reason> {
        let Self { database, scan, memo, context, .. } = self;
        let table = database.table_mut(table);
        let filled = Filled::default();
        let text = &mut memo.text;
        let mut open = Open { table, document, context, row, time: None, filled, text };
        let mut result = Ok(());
        for column in &mut scan.columns {
            let at = column.at;
            column.at = document.next(at);
            if result.is_ok() {
                result = open.append(column, at);
            }
        }
        let Open { table, time, filled, .. } = open;
        match result {
            Ok(()) if filled.values > 0 => table.commit_row(time.unwrap_or(context.received))?,
            Ok(()) => {
                table.rollback_row();
                return Err(AppendError::NoFields.into());
            }
            Err(reason) => {
                table.rollback_row();
                return Err(reason);
            }
        };
        Ok(filled)
    }
}

impl Open<'_> {
    /// Appends the value of `column` at node `at`.
    fn append(&mut self, column: &mut Column, at: usize) -> Result<(), Reason> {
        let document = self.document;
        let name = document.key(column.name)?;
        let value = document.value(at);
        if value == Value::Null {
            return Ok(());
        }
        if name == TIME {
            return self.append_time(column, value, at);
        }
        let is_tag = column.is_tag
            || column.index.is_none()
                && matches!(value, Value::Str(_))
                && self.table.role_of(name) == Some(Role::Tag);
        let place = &mut column.place;
        if is_tag {
            let byte = || document.byte_from(place, at);
            return match tag_text(value, name, byte, self.text)? {
                Some(value) if !value.is_empty() => {
                    Ok(self.table.append_tag(name, value).map(drop)?)
                }
                _ => Ok(()),
            };
        }
        if matches!(value, Value::Array(_) | Value::Object(_) | Value::Faulty(_)) {
            return Err(refusal(value, name, document.byte_from(place, at)).into());
        }
        let index = match column.index {
            Some((index, _)) => index,
            None => match self.table.field(name) {
                Ok(index) => index,
                Err(AppendError::ReservedName { .. }) => {
                    self.filled.dropped += 1;
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            },
        };
        column.index = column.index.or(Some((index, self.row)));
        append(self.table, index, value, name, || document.byte_from(&mut column.place, at))?;
        self.filled.values += 1;
        Ok(())
    }

    fn append_time(
        &mut self,
        column: &mut Column,
        value: Value<'_>,
        at: usize,
    ) -> Result<(), Reason> {
        let Context { precision, received, .. } = *self.context;
        let byte = || self.document.byte_from(&mut column.place, at);
        let time: Result<_, ItemError> =
            time::from_value(value, precision, Key::Time, byte, received);
        if self.time.replace(time?).is_some() {
            let column = TIME.into();
            return Err(AppendError::DuplicateColumn { column, role: Role::Time }.into());
        }
        Ok(())
    }
}
