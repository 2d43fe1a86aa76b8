//! The slow, obvious way through a columnar item: one cursor per column, row by row.
//!
//! Taken when a run met a value that its column cannot hold, a tag that is no plain string, or rows
//! that may have no field at all. Bad rows are rejected one by one, their neighbours are kept.

use super::columnar::Column;
use super::error::{Excerpt, Key};
use super::item::{Decoder, Stop};
use super::time;
use super::token::{Reader, Token};
use super::value::{Filled, append, tag_text};
use crate::gather::{AppendError, TableBuilder, TableIndex};
use crate::schema::{Role, TIME};
use crate::timestamp::Timestamp;

/// The open row while its columns are visited.
struct Open<'t> {
    table: &'t mut TableBuilder,
    /// Row of the item.
    row: usize,
    time: Option<Timestamp>,
    filled: Filled,
    text: &'t mut String,
}

impl Decoder<'_, '_> {
    /// Takes the scanned item row by row.
    ///
    /// # Errors
    /// Where the body breaks, which the scan would have found.
    pub(super) fn ragged(
        &mut self,
        table: TableIndex,
        start: usize,
        end: usize,
    ) -> Result<(), Stop> {
        for row in 0..self.scan.rows {
            match self.ragged_row(table, row) {
                Ok(filled) => {
                    self.row_count += 1;
                    self.report.accepted += 1;
                    self.report.dropped_fields += filled.dropped;
                }
                Err(Stop::Rejected(reason)) => {
                    self.reject(start, end, 1, reason);
                    // Columns that the row would have added are gone with it.
                    for column in &mut self.scan.columns {
                        column.index = column.index.filter(|(_, since)| *since != row);
                    }
                }
                Err(stop) => return Err(stop),
            }
        }
        Ok(())
    }

    /// Appends the next value of every column as one row, and moves all cursors whatever comes.
    fn ragged_row(&mut self, table: TableIndex, row: usize) -> Result<Filled, Stop> {
        let Self { database, scan, memo, context, body, .. } = self;
        let table = database.table_mut(table);
        let filled = Filled::default();
        let mut open = Open { table, row, time: None, filled, text: &mut memo.text };
        let mut result = Ok(());
        for column in &mut scan.columns {
            let at = column.at;
            let mut it = Reader::new(body.bytes(), at);
            let token = it.token()?;
            if matches!(token, Token::Array(_) | Token::Map(_)) {
                it = it.moved(at);
                it.skip(0)?;
            }
            column.at = it.at;
            if result.is_ok() {
                result = open.append(column, &token, at, context.received);
            }
        }
        let Open { table, time, filled, .. } = open;
        match result {
            Ok(()) if filled.values > 0 => table.commit_row(time.unwrap_or(context.received))?,
            Ok(()) => {
                table.rollback_row();
                return Err(AppendError::NoFields.into());
            }
            Err(stop) => {
                table.rollback_row();
                return Err(stop);
            }
        };
        Ok(filled)
    }
}

impl Open<'_> {
    fn append(
        &mut self,
        column: &mut Column<'_>,
        token: &Token<'_>,
        at: usize,
        received: Timestamp,
    ) -> Result<(), Stop> {
        let name = column.name;
        if *token == Token::Nil {
            return Ok(());
        }
        if name == TIME {
            let time = time::from_token(token, Key::Time, at, received)?;
            if self.time.replace(time).is_some() {
                let column = name.into();
                return Err(AppendError::DuplicateColumn { column, role: Role::Time }.into());
            }
            return Ok(());
        }
        let is_tag = column.is_tag
            || column.index.is_none()
                && matches!(token, Token::Str(_))
                && self.table.role_of(name) == Some(Role::Tag);
        if is_tag {
            return match tag_text(token, name.as_bytes(), at, self.text)? {
                Some(value) if !value.is_empty() => {
                    Ok(self.table.append_tag(name, value).map(drop)?)
                }
                _ => Ok(()),
            };
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
        append(self.table, index, token, || Excerpt::new(name.as_bytes()), at)?;
        self.filled.values += 1;
        Ok(())
    }
}
