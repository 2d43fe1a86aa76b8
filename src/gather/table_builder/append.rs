//! One value into one slot, and what a refusal is called.

use super::{ColumnIndex, TableBuilder};
use crate::gather::AppendError;
use crate::gather::column_builder::{ColumnBuilder, Refusal, Values};
use crate::schema::{ColumnKind, Unsigned};
use crate::timestamp::Timestamp;

impl TableBuilder {
    /// Appends a float to the open row.
    ///
    /// # Errors
    /// `DuplicateColumn`, or `KindConflict` when the column cannot hold it without loss.
    #[inline(always)]
    pub fn append_f64(&mut self, column: ColumnIndex, value: f64) -> Result<(), AppendError> {
        self.append_f64_at(column, 0, value)
    }

    /// Appends an integer to the open row.
    ///
    /// # Errors
    /// As [`Self::append_f64`].
    #[inline(always)]
    pub fn append_i64(&mut self, column: ColumnIndex, value: i64) -> Result<(), AppendError> {
        self.append_i64_at(column, 0, value)
    }

    /// Appends an unsigned integer to the open row.
    ///
    /// # Errors
    /// As [`Self::append_f64`], and `UnsignedTooLarge` while columns are written as INT64.
    #[inline]
    pub fn append_u64(&mut self, column: ColumnIndex, value: u64) -> Result<(), AppendError> {
        self.append_u64_at(column, 0, value)
    }

    /// Appends a boolean to the open row.
    ///
    /// # Errors
    /// As [`Self::append_f64`].
    #[inline]
    pub fn append_bool(&mut self, column: ColumnIndex, value: bool) -> Result<(), AppendError> {
        self.append_bool_at(column, 0, value)
    }

    /// Appends a string to the open row.
    ///
    /// # Errors
    /// As [`Self::append_f64`], and `StringTooLong`.
    #[inline]
    pub fn append_str(&mut self, column: ColumnIndex, value: &str) -> Result<(), AppendError> {
        self.append_str_at(column, 0, value)
    }

    /// Appends a timestamp, as a value, to the open row.
    ///
    /// # Errors
    /// As [`Self::append_f64`]; digits below a microsecond are a `KindConflict`, because the
    /// column could not hold them.
    #[inline]
    pub fn append_time(
        &mut self,
        column: ColumnIndex,
        value: Timestamp,
    ) -> Result<(), AppendError> {
        self.append_time_at(column, 0, value)
    }

    /// Appends to the row `offset` rows behind the open one, inside a run.
    ///
    /// # Errors
    /// As [`Self::append_f64`].
    #[inline(always)]
    pub fn append_f64_at(
        &mut self,
        column: ColumnIndex,
        offset: usize,
        value: f64,
    ) -> Result<(), AppendError> {
        let row = self.rows + offset;
        let next = self.columns.get_mut(column.as_usize());
        if next.is_some_and(|column| column.push_f64(row, value)) {
            return Ok(());
        }
        self.append(column, row, |column| column.append_f64(row, value))
    }

    /// Appends to the row `offset` rows behind the open one, inside a run.
    ///
    /// # Errors
    /// As [`Self::append_i64`].
    #[inline(always)]
    pub fn append_i64_at(
        &mut self,
        column: ColumnIndex,
        offset: usize,
        value: i64,
    ) -> Result<(), AppendError> {
        let row = self.rows + offset;
        let next = self.columns.get_mut(column.as_usize());
        if next.is_some_and(|column| column.push_i64(row, value)) {
            return Ok(());
        }
        self.append(column, row, |column| column.append_i64(row, value))
    }

    /// Appends to the row `offset` rows behind the open one, inside a run.
    ///
    /// # Errors
    /// As [`Self::append_u64`].
    #[inline]
    pub fn append_u64_at(
        &mut self,
        column: ColumnIndex,
        offset: usize,
        value: u64,
    ) -> Result<(), AppendError> {
        if i64::try_from(value).is_err() && self.measurement.unsigned() == Unsigned::Int64 {
            let column = self.column(column).map(|it| (&*it.name).into()).unwrap_or_default();
            return Err(AppendError::UnsignedTooLarge { column, value });
        }
        let row = self.rows + offset;
        self.append(column, row, |column| column.append_u64(row, value))
    }

    /// Appends to the row `offset` rows behind the open one, inside a run.
    ///
    /// # Errors
    /// As [`Self::append_bool`].
    #[inline]
    pub fn append_bool_at(
        &mut self,
        column: ColumnIndex,
        offset: usize,
        value: bool,
    ) -> Result<(), AppendError> {
        let row = self.rows + offset;
        self.append(column, row, |column| column.append_bool(row, value))
    }

    /// Appends to the row `offset` rows behind the open one, inside a run.
    ///
    /// # Errors
    /// As [`Self::append_str`].
    #[inline]
    pub fn append_str_at(
        &mut self,
        column: ColumnIndex,
        offset: usize,
        value: &str,
    ) -> Result<(), AppendError> {
        if value.len() > self.registry.limits().string_bytes_max {
            return Err(AppendError::StringTooLong { bytes: value.len() });
        }
        let row = self.rows + offset;
        let next = self.columns.get_mut(column.as_usize());
        if next.is_some_and(|column| column.push_str(row, value)) {
            return Ok(());
        }
        self.append(column, row, |column| column.append_str(row, value))
    }

    /// Appends to the row `offset` rows behind the open one, inside a run.
    ///
    /// # Errors
    /// As [`Self::append_time`].
    #[inline]
    pub fn append_time_at(
        &mut self,
        column: ColumnIndex,
        offset: usize,
        value: Timestamp,
    ) -> Result<(), AppendError> {
        let row = self.rows + offset;
        self.append(column, row, |column| match value.ns {
            0 => column.append_time(row, value.us),
            _ => Err(Refusal::Kind(ColumnKind::Time)),
        })
    }

    /// One append, with the column's first value noted and a refusal given its names.
    #[inline(never)]
    fn append(
        &mut self,
        index: ColumnIndex,
        row: usize,
        value: impl FnOnce(&mut ColumnBuilder) -> Result<(), Refusal>,
    ) -> Result<(), AppendError> {
        debug_assert!(row >= self.rows, "row {row} is committed");
        let Some(column) = self.columns.get_mut(index.as_usize()) else {
            return Err(AppendError::EmptyName);
        };
        let was_unset = matches!(column.values, Values::Unset);
        match value(column) {
            Ok(()) => {
                if was_unset {
                    self.pending.push(index);
                }
                Ok(())
            }
            Err(refusal) => Err(self.refuse(index, refusal)),
        }
    }

    #[cold]
    fn refuse(&mut self, index: ColumnIndex, refusal: Refusal) -> AppendError {
        let Some(column) = self.columns.get_mut(index.as_usize()) else {
            return AppendError::EmptyName;
        };
        let name = (&*column.name).into();
        match refusal {
            Refusal::Duplicate => AppendError::DuplicateColumn { column: name, role: column.role },
            Refusal::Kind(found) => {
                // The refused value may have been the one that gave the column its kind.
                let expected = column.kind().unwrap_or(found);
                if column.slot.is_none() && column.len() == 0 {
                    column.unset();
                }
                AppendError::KindConflict {
                    measurement: (&*self.measurement.name).into(),
                    column: name,
                    expected,
                    found,
                }
            }
        }
    }
}
