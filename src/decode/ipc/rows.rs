//! The slow, obvious way through a batch: row by row. Bad rows are rejected one by one.

use std::fmt::Write;

use super::error::StreamError;
use super::fields::{Purpose, Schema};
use super::times::{self, Unit};
use super::values::{Allowance, Values};
use super::{Batch, Decoder};
use crate::decode::Reason;
use crate::gather::{AppendError, TableBuilder, TableIndex};
use crate::schema::Role;
use crate::timestamp::Timestamp;

/// Why a row is not taken.
#[derive(Debug)]
enum Stop {
    /// It is rejected.
    Rejected(Reason),
    /// Nothing behind it is read either.
    Broken(StreamError),
}

impl From<AppendError> for Stop {
    fn from(error: AppendError) -> Self {
        Self::Rejected(Reason::Append(error))
    }
}

impl Decoder<'_, '_> {
    /// Takes the rows of a batch one by one.
    ///
    /// # Errors
    /// `DecodedTooLarge`.
    pub(super) fn rows(
        &mut self,
        schema: &Schema,
        table: TableIndex,
        batch: &Batch,
    ) -> Result<(), StreamError> {
        let mut text = String::new();
        for row in 0..batch.rows {
            let table = self.database.table_mut(table);
            let mut open = Open {
                table,
                precision: Unit::of(self.context.precision),
                received: self.context.received,
                allowance: &mut self.allowance,
                text: &mut text,
            };
            match open.append(schema, batch, row) {
                Ok(is_received) => {
                    self.row_count += 1;
                    self.report.accepted += 1;
                    self.report.has_received_times |= is_received;
                }
                Err(stop) => {
                    open.table.rollback_row();
                    match stop {
                        Stop::Rejected(reason) => self.reject(schema, batch, row, reason),
                        Stop::Broken(error) => return Err(error),
                    }
                }
            }
        }
        Ok(())
    }
}

/// A row being appended.
struct Open<'a> {
    table: &'a mut TableBuilder,
    precision: Unit,
    received: Timestamp,
    allowance: &'a mut Allowance,
    text: &'a mut String,
}

impl Open<'_> {
    /// Appends one row, and says whether its time is that of receipt.
    fn append(&mut self, schema: &Schema, batch: &Batch, row: usize) -> Result<bool, Stop> {
        let (mut time, mut is_received) = (self.received, true);
        let mut fields = 0;
        for (column, values) in schema.columns.iter().zip(&batch.columns) {
            if values.is_null(row) {
                continue;
            }
            let name = &*column.name;
            let is_text = matches!(values, Values::Text(_) | Values::Dictionary(..));
            match column.purpose {
                Purpose::Time => {
                    is_received = false;
                    time = times::time_at(values, self.precision, self.received, row)
                        .ok_or_else(|| out_of_range(name))?;
                }
                Purpose::Tag => self.tag(name, values, row)?,
                Purpose::Field if is_text && self.table.role_of(name) == Some(Role::Tag) => {
                    self.tag(name, values, row)?;
                }
                Purpose::Field => {
                    self.field(name, values, row)?;
                    fields += 1;
                }
            }
        }
        if fields == 0 {
            return Err(AppendError::NoFields.into());
        }
        self.table.commit_row(time)?;
        Ok(is_received)
    }

    fn tag(&mut self, name: &str, values: &Values, row: usize) -> Result<(), Stop> {
        self.text.clear();
        // Writing to a string does not fail.
        let _ = match values {
            Values::Bool(values) => write!(self.text, "{}", values.value(row)),
            Values::Int(values) => write!(self.text, "{}", values.value(row)),
            Values::Uint(values) => write!(self.text, "{}", values.value(row)),
            Values::Float(values) => write!(self.text, "{}", values.value(row)),
            _ => {
                self.count_expanded(values, row)?;
                self.text.write_str(values.text(row))
            }
        };
        if !self.text.is_empty() {
            self.table.append_tag(name, self.text)?;
        }
        Ok(())
    }

    fn field(&mut self, name: &str, values: &Values, row: usize) -> Result<(), Stop> {
        let column = self.table.field(name)?;
        match values {
            Values::Null => {}
            Values::Bool(values) => self.table.append_bool(column, values.value(row))?,
            Values::Int(values) => self.table.append_i64(column, values.value(row))?,
            Values::Uint(values) => self.table.append_u64(column, values.value(row))?,
            Values::Float(values) => self.table.append_f64(column, values.value(row))?,
            Values::Time(unit, values) => {
                let time = unit.timestamp(values.value(row)).ok_or_else(|| out_of_range(name))?;
                self.table.append_time(column, time)?;
            }
            Values::Text(_) | Values::Dictionary(..) => {
                self.count_expanded(values, row)?;
                self.table.append_str(column, values.text(row))?;
            }
        }
        Ok(())
    }

    /// Text of a dictionary is copied for each key.
    fn count_expanded(&mut self, values: &Values, row: usize) -> Result<(), Stop> {
        if matches!(values, Values::Dictionary(..)) {
            self.allowance.take(values.text(row).len(), 1).map_err(Stop::Broken)?;
        }
        Ok(())
    }
}

fn out_of_range(column: &str) -> Stop {
    Stop::Rejected(Reason::Arrow(StreamError::TimeOutOfRange { column: column.into() }))
}
