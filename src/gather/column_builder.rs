//! One column being filled: values of one kind, and which slots are null.
//!
//! ```text
//! row_count = 5    values  [1.5, 0.0, 2.5, 3.0]     <- the last row has no value yet
//!                  nulls   [ 1 ,  0 ]               <- row 1 had none: back-filled when row 2 came
//! ```
//!
//! Values behind the last null are not in `nulls`: a row of a column without nulls is one push.
//! A column may be shorter than its table: the missing tail is null and is filled in when the
//! column is next touched, or when the chunk is finished. Widening a table costs nothing.
//!
//! Unlike Arrow's builders these can be truncated, which is how a row is undone (decision 2).
//! `values` and `nulls` become Arrow's buffers without a copy.

use std::sync::Arc;

use arrow_array::types::{Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{ArrayRef, BooleanArray, PrimitiveArray};
use arrow_buffer::{BooleanBufferBuilder, NullBuffer, NullBufferBuilder};

use super::series::TagValues;
use super::values::StringValues;
use crate::schema::{ColumnKind, Role, Unsigned};

/// Why a column refused a value; the table builder adds the names.
#[derive(Clone, Copy, Debug)]
pub(super) enum Refusal {
    /// The row has a value in this column already.
    Duplicate,
    /// The value's kind, which the column's cannot hold without loss.
    Kind(ColumnKind),
}

/// The values of one column, by kind.
#[derive(Debug)]
pub(super) enum Values {
    /// No value yet, hence no kind.
    Unset,
    Bool(BooleanBufferBuilder),
    I64(Vec<i64>),
    U64(Vec<u64>),
    F64(Vec<f64>),
    String(StringValues),
    /// Microseconds.
    Time(Vec<i64>),
    /// A tag: its rows are the table's series numbers, only the dictionary is here.
    Tag(Box<TagValues>),
}

/// One column of one table on one shard.
///
/// What an append needs is in the first of its cache lines: where rows are of a thousand tables in
/// turn, none of them is in a cache.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct ColumnBuilder {
    pub(super) values: Values,
    /// The name on the wire.
    pub(super) name: Arc<str>,
    pub(super) role: Role,
    /// Index in [`super::Measurement`]; `None` until a row with this column is committed.
    pub(super) slot: Option<usize>,
    /// `nulls.len() <= values.len()`; all behind it are valid.
    nulls: NullBufferBuilder,
    /// Rows and string bytes of the last chunk: what the next one will likely need.
    expected: (usize, usize),
}

/// Pushes the value of row `row`, back-filling the rows that had none.
fn push<T: Copy + Default>(
    values: &mut Vec<T>,
    nulls: &mut NullBufferBuilder,
    row: usize,
    value: T,
) -> Result<(), Refusal> {
    if values.len() != row {
        backfill(values, nulls, row)?;
    }
    values.push(value);
    Ok(())
}

/// Fills a column up to `row` with nulls.
#[cold]
fn backfill<T: Copy + Default>(
    values: &mut Vec<T>,
    nulls: &mut NullBufferBuilder,
    row: usize,
) -> Result<(), Refusal> {
    let missing = row.checked_sub(values.len()).ok_or(Refusal::Duplicate)?;
    if values.is_empty() {
        // It may be the only value of the chunk: growing by doubling would take twice as much.
        values.reserve_exact(row + 1);
    }
    append_nulls(nulls, values.len(), missing);
    values.resize(row, T::default());
    Ok(())
}

/// Takes note of `missing` nulls behind `len` slots. Without any there is nothing to note: even of
/// none the builder would make bits, for every column at its seal.
fn append_nulls(nulls: &mut NullBufferBuilder, len: usize, missing: usize) {
    nulls.append_n_non_nulls(len.saturating_sub(nulls.len()));
    if missing > 0 {
        nulls.append_n_nulls(missing);
    }
}

/// Fills a column up to its `rows` at the seal, and takes no more memory than that.
fn fill<T: Copy + Default>(values: &mut Vec<T>, rows: usize) {
    values.reserve_exact(rows.saturating_sub(values.len()));
    values.resize(rows, T::default());
}

/// `value` as a float, if it is exactly one.
#[inline]
fn exact_f64(value: i64) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "the next line checks that none was lost")]
    let float = value as f64;
    // 2^63 itself is no i64, but i64::MAX rounds up to it.
    (exact_i64(float) == Some(value)).then_some(float)
}

/// `value` as an integer, if it is exactly one.
#[inline]
fn exact_i64(value: f64) -> Option<i64> {
    const TWO_POW_63: f64 = 9_223_372_036_854_775_808.0;
    let in_range = (-TWO_POW_63..TWO_POW_63).contains(&value) && value.fract() == 0.0;
    #[expect(clippy::cast_possible_truncation, reason = "integral and in range")]
    in_range.then_some(value as i64)
}

/// `value` as an unsigned integer, if it is exactly one.
#[inline]
fn exact_u64(value: f64) -> Option<u64> {
    const TWO_POW_64: f64 = 18_446_744_073_709_551_616.0;
    let in_range = (0.0..TWO_POW_64).contains(&value) && value.fract() == 0.0;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "integral and in range"
    )]
    in_range.then_some(value as u64)
}

impl ColumnBuilder {
    pub(super) fn new(name: Arc<str>, role: Role, slot: Option<usize>, values: Values) -> Self {
        Self { values, name, role, slot, nulls: NullBufferBuilder::new(0), expected: (0, 0) }
    }

    /// The kind, once a value has fixed it.
    #[inline]
    pub(super) fn kind(&self) -> Option<ColumnKind> {
        match self.values {
            Values::Unset => None,
            Values::Bool(_) => Some(ColumnKind::Bool),
            Values::I64(_) => Some(ColumnKind::I64),
            Values::U64(_) => Some(ColumnKind::U64),
            Values::F64(_) => Some(ColumnKind::F64),
            Values::String(_) | Values::Tag(_) => Some(ColumnKind::String),
            Values::Time(_) => Some(ColumnKind::Time),
        }
    }

    /// Rows that this column has slots for. Tags have none of their own.
    pub(super) fn len(&self) -> usize {
        match &self.values {
            Values::Unset | Values::Tag(_) => 0,
            Values::Bool(values) => values.len(),
            Values::I64(values) | Values::Time(values) => values.len(),
            Values::U64(values) => values.len(),
            Values::F64(values) => values.len(),
            Values::String(values) => values.len(),
        }
    }

    /// Bytes of values, without spare capacity, as a seal at `rows` rows leaves them: a column with
    /// any value gets a slot for each row then, and a bit that says whether it is null. A tag's
    /// dictionary is not among them, nor are the keys that its rows become.
    pub(super) fn byte_len(&self, rows: usize) -> usize {
        let len = self.len();
        if len == 0 {
            return 0;
        }
        let slots = len.max(rows);
        let (width, bytes) = match &self.values {
            Values::Unset | Values::Tag(_) | Values::Bool(_) => (0, slots / 8),
            Values::I64(_) | Values::Time(_) | Values::U64(_) | Values::F64(_) => (8, 0),
            Values::String(values) => (4, values.byte_len()),
        };
        slots * width + slots / 8 + bytes
    }

    /// Pushes the value of row `row` if that is the next one of a column of floats: the case that
    /// every append tries first. `false`: nothing happened.
    #[inline(always)]
    pub(super) fn push_f64(&mut self, row: usize, value: f64) -> bool {
        match &mut self.values {
            Values::F64(values) if values.len() == row => {
                values.push(value);
                true
            }
            _ => false,
        }
    }

    /// As [`Self::push_f64`], for a column of integers.
    #[inline(always)]
    pub(super) fn push_i64(&mut self, row: usize, value: i64) -> bool {
        match &mut self.values {
            Values::I64(values) if values.len() == row => {
                values.push(value);
                true
            }
            _ => false,
        }
    }

    /// As [`Self::push_f64`], for a column of strings.
    #[inline(always)]
    pub(super) fn push_str(&mut self, row: usize, value: &str) -> bool {
        match &mut self.values {
            Values::String(values) if values.len() == row => {
                values.push(value);
                true
            }
            _ => false,
        }
    }

    pub(super) fn append_f64(&mut self, row: usize, value: f64) -> Result<(), Refusal> {
        let refusal = Refusal::Kind(ColumnKind::F64);
        match &mut self.values {
            Values::F64(values) => push(values, &mut self.nulls, row, value),
            Values::I64(values) => {
                push(values, &mut self.nulls, row, exact_i64(value).ok_or(refusal)?)
            }
            Values::U64(values) => {
                push(values, &mut self.nulls, row, exact_u64(value).ok_or(refusal)?)
            }
            Values::Unset => {
                self.values = Values::F64(Vec::new());
                self.append_f64(row, value)
            }
            _ => Err(refusal),
        }
    }

    pub(super) fn append_i64(&mut self, row: usize, value: i64) -> Result<(), Refusal> {
        let refusal = Refusal::Kind(ColumnKind::I64);
        match &mut self.values {
            Values::I64(values) => push(values, &mut self.nulls, row, value),
            Values::F64(values) => {
                push(values, &mut self.nulls, row, exact_f64(value).ok_or(refusal)?)
            }
            Values::U64(values) => {
                let value = u64::try_from(value).map_err(|_| refusal)?;
                push(values, &mut self.nulls, row, value)
            }
            Values::Unset => {
                self.values = Values::I64(Vec::new());
                self.append_i64(row, value)
            }
            _ => Err(refusal),
        }
    }

    pub(super) fn append_u64(&mut self, row: usize, value: u64) -> Result<(), Refusal> {
        let refusal = Refusal::Kind(ColumnKind::U64);
        match &mut self.values {
            Values::U64(values) => push(values, &mut self.nulls, row, value),
            Values::Unset => {
                self.values = Values::U64(Vec::new());
                self.append_u64(row, value)
            }
            Values::F64(values) => {
                let value = i64::try_from(value).ok().and_then(exact_f64).ok_or(refusal)?;
                push(values, &mut self.nulls, row, value)
            }
            Values::I64(values) => {
                let value = i64::try_from(value).map_err(|_| refusal)?;
                push(values, &mut self.nulls, row, value)
            }
            _ => Err(refusal),
        }
    }

    pub(super) fn append_time(&mut self, row: usize, us: i64) -> Result<(), Refusal> {
        match &mut self.values {
            Values::Time(values) => push(values, &mut self.nulls, row, us),
            Values::Unset => {
                self.values = Values::Time(Vec::new());
                self.append_time(row, us)
            }
            _ => Err(Refusal::Kind(ColumnKind::Time)),
        }
    }

    pub(super) fn append_bool(&mut self, row: usize, value: bool) -> Result<(), Refusal> {
        match &mut self.values {
            Values::Bool(values) => {
                if values.len() != row {
                    let missing = row.checked_sub(values.len()).ok_or(Refusal::Duplicate)?;
                    append_nulls(&mut self.nulls, values.len(), missing);
                    values.append_n(missing, false);
                }
                values.append(value);
                Ok(())
            }
            Values::Unset => {
                self.values = Values::Bool(BooleanBufferBuilder::new(0));
                self.append_bool(row, value)
            }
            _ => Err(Refusal::Kind(ColumnKind::Bool)),
        }
    }

    pub(super) fn append_str(&mut self, row: usize, value: &str) -> Result<(), Refusal> {
        match &mut self.values {
            Values::String(values) => {
                if values.len() != row {
                    let missing = row.checked_sub(values.len()).ok_or(Refusal::Duplicate)?;
                    append_nulls(&mut self.nulls, values.len(), missing);
                    values.resize(row);
                }
                values.push(value);
                Ok(())
            }
            Values::Unset => {
                self.values = Values::String(StringValues::new());
                self.append_str(row, value)
            }
            _ => Err(Refusal::Kind(ColumnKind::String)),
        }
    }

    /// Makes room for what the last chunk needed.
    pub(super) fn reserve(&mut self) {
        let (rows, bytes) = self.expected;
        match &mut self.values {
            Values::I64(values) | Values::Time(values) => values.reserve(rows),
            Values::U64(values) => values.reserve(rows),
            Values::F64(values) => values.reserve(rows),
            Values::String(values) => values.reserve(rows, bytes),
            Values::Unset | Values::Bool(_) | Values::Tag(_) => {}
        }
    }

    /// Opens a run: gives an unset column the kind of `empty` and back-fills up to `row`.
    /// `false` when the row `row` has a value already.
    pub(super) fn begin_run(&mut self, row: usize, empty: Values) -> bool {
        if matches!(self.values, Values::Unset) {
            self.values = empty;
        }
        let len = self.len();
        let Some(missing) = row.checked_sub(len) else { return false };
        append_nulls(&mut self.nulls, len, missing);
        match &mut self.values {
            Values::Unset | Values::Tag(_) => return false,
            Values::Bool(values) => values.append_n(missing, false),
            Values::I64(values) | Values::Time(values) => values.resize(row, 0),
            Values::U64(values) => values.resize(row, 0),
            Values::F64(values) => values.resize(row, 0.0),
            Values::String(values) => values.resize(row),
        }
        true
    }

    /// Undoes everything behind the first `rows` rows.
    pub(super) fn truncate(&mut self, rows: usize) {
        if self.len() > rows {
            match &mut self.values {
                Values::Unset | Values::Tag(_) => {}
                Values::Bool(values) => values.truncate(rows),
                Values::I64(values) | Values::Time(values) => values.truncate(rows),
                Values::U64(values) => values.truncate(rows),
                Values::F64(values) => values.truncate(rows),
                Values::String(values) => values.truncate(rows),
            }
        }
        if self.nulls.len() > rows {
            self.nulls.truncate(rows);
        }
    }

    /// Takes the kind and the values away: the column was never committed.
    pub(super) fn unset(&mut self) {
        self.values = Values::Unset;
        self.nulls = NullBufferBuilder::new(0);
    }

    /// Changes a column that is not registered yet to `kind`, if every value survives.
    /// Returns its own kind otherwise.
    pub(super) fn convert(&mut self, kind: ColumnKind) -> Result<(), ColumnKind> {
        let Some(own) = self.kind() else { return Ok(()) };
        if own == kind {
            return Ok(());
        }
        let row_count = self.len();
        let mut other = Self::new(Arc::clone(&self.name), self.role, None, empty(kind, self.role));
        let (nulls, noted) = (self.nulls.finish_cloned(), self.nulls.len());
        let is_null = |row| row < noted && nulls.as_ref().is_some_and(|it| it.is_null(row));
        for row in (0..row_count).filter(|row| !is_null(*row)) {
            let appended = match &self.values {
                Values::I64(values) => values.get(row).map(|it| other.append_i64(row, *it)),
                Values::U64(values) => values.get(row).map(|it| other.append_u64(row, *it)),
                Values::F64(values) => values.get(row).map(|it| other.append_f64(row, *it)),
                _ => return Err(own),
            };
            if !matches!(appended, Some(Ok(()))) {
                return Err(own);
            }
        }
        self.values = other.values;
        self.nulls = other.nulls;
        Ok(())
    }

    /// The column as an array of `rows` slots; `None` when all of them would be null.
    ///
    /// Buffers move; `U64` written as DECIMAL is the one kind that is converted. The column keeps
    /// its kind and starts empty.
    pub(super) fn finish(&mut self, rows: usize, unsigned: Unsigned) -> Option<ArrayRef> {
        let len = self.len();
        if len == 0 {
            return None;
        }
        append_nulls(&mut self.nulls, len, rows.saturating_sub(len));
        let nulls = std::mem::replace(&mut self.nulls, NullBufferBuilder::new(0)).finish();
        let all_null = nulls.as_ref().is_some_and(|it| it.null_count() == rows);
        self.expected =
            (rows, if let Values::String(it) = &self.values { it.byte_len() } else { 0 });
        let next = empty(self.kind()?, self.role);
        let array: ArrayRef = match std::mem::replace(&mut self.values, next) {
            Values::Unset | Values::Tag(_) => return None,
            Values::Bool(mut values) => {
                values.append_n(rows - values.len(), false);
                Arc::new(BooleanArray::new(values.finish(), nulls))
            }
            Values::I64(mut values) => {
                fill(&mut values, rows);
                Arc::new(PrimitiveArray::<Int64Type>::new(values.into(), nulls))
            }
            Values::U64(mut values) => {
                fill(&mut values, rows);
                unsigned_array(values, nulls, unsigned)
            }
            Values::F64(mut values) => {
                fill(&mut values, rows);
                Arc::new(PrimitiveArray::<Float64Type>::new(values.into(), nulls))
            }
            Values::String(mut values) => {
                values.resize(rows);
                Arc::new(values.finish(nulls))
            }
            Values::Time(mut values) => {
                fill(&mut values, rows);
                let array = PrimitiveArray::<TimestampMicrosecondType>::new(values.into(), nulls);
                Arc::new(array.with_timezone("UTC"))
            }
        };
        (!all_null).then_some(array)
    }
}

/// Unsigned values as the table writes them.
pub(super) fn unsigned_array(
    values: Vec<u64>,
    nulls: Option<NullBuffer>,
    unsigned: Unsigned,
) -> ArrayRef {
    match unsigned {
        Unsigned::Int64 => {
            // `TableBuilder` refuses larger values while columns are written as INT64.
            let values: Vec<i64> = values.into_iter().map(u64::cast_signed).collect();
            Arc::new(PrimitiveArray::<Int64Type>::new(values.into(), nulls))
        }
        Unsigned::Decimal => {
            let values: Vec<i128> = values.into_iter().map(i128::from).collect();
            let array = PrimitiveArray::<Decimal128Type>::new(values.into(), nulls);
            Arc::new(array.with_data_type(arrow_schema::DataType::Decimal128(20, 0)))
        }
    }
}

/// No values of `kind`.
pub(super) fn empty(kind: ColumnKind, role: Role) -> Values {
    match kind {
        ColumnKind::Bool => Values::Bool(BooleanBufferBuilder::new(0)),
        ColumnKind::I64 => Values::I64(Vec::new()),
        ColumnKind::U64 => Values::U64(Vec::new()),
        ColumnKind::F64 => Values::F64(Vec::new()),
        ColumnKind::String if role == Role::Tag => Values::Tag(Box::default()),
        ColumnKind::String => Values::String(StringValues::new()),
        ColumnKind::Time => Values::Time(Vec::new()),
    }
}
