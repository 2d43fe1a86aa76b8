//! Rows of one request in one order, cut into days.
//!
//! ```text
//! batches, as they arrived    [08:00 .. 09:00] [23:00 .. 01:00]    long runs: slices, no copies
//! days                        |-- slice --------- slice ||slice|
//!
//! batches, as they arrived    [8 9 8 9 8 9 ..] [8 9 8 9 8 9 ..]    short: an order of all rows,
//! days                        |-- gathered, a column and 16 Ki rows at a time --|
//!
//! a sort key other than time  an order of all rows by time, cut, then each day by the key
//! ```
//!
//! A run is of rows that follow one another in a batch and in the order of all: mostly those that
//! came in one body.
//!
//! The order is by (`time`, `time_ns`), and by arrival where these are equal. A null in `time_ns`
//! is a zero. A day whose measurement has another sort key ([`Keys`]) is in the order of that, and
//! in the one of time where keys are equal. Days end at midnight UTC, before 1970 too.
//!
//! Invariants: every row of the request is in exactly one piece of one day; all days have the
//! columns of [`OrderedRows::schema`]: those of the request that have a value at all.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int16Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, Int16Array, RecordBatch, TimestampMicrosecondArray};
use arrow_schema::{ArrowError, Schema, SchemaRef};
use parquet::errors::ParquetError;

use super::columns::{self, Column};
use super::parquet_file::RowSource;
use super::sort_key::Keys;
use crate::schema::{TIME, TIME_NS};
use crate::timestamp::US_PER_DAY;

/// Rows of a run, on average, below which an order of all rows costs less.
const RUN_ROWS_MIN: usize = 64;
/// Rows gathered at a time.
const GATHERED_ROWS_MAX: usize = 16 << 10;
/// Rows gathered at a time when the strings of a column could be more than an array holds: an
/// array holds 2 GiB, and `limits.string_bytes_max` is 1 MiB.
const GATHERED_ROWS_OF_LONG_STRINGS_MAX: usize = 1 << 10;

/// The rows of a request, in order.
#[derive(Debug)]
pub(super) struct OrderedRows {
    schema: SchemaRef,
    columns: Vec<Column>,
    /// The order of all rows, as pairs of batch and row; `None`: they are in runs.
    places: Option<Vec<(usize, usize)>>,
    days: Vec<Day>,
}

/// One day with rows.
#[derive(Debug)]
pub(super) struct Day {
    /// Which day, since 1970-01-01.
    pub(super) number: i64,
    /// Its rows, in order.
    pieces: Vec<Piece>,
    /// How many they are.
    pub(super) rows: u64,
    /// The least time.
    pub(super) time_us_min: i64,
    /// The greatest time.
    pub(super) time_us_max: i64,
}

/// Consecutive rows.
#[derive(Debug)]
pub(super) struct Piece {
    /// Which batch; always 0 where there are places, of which a day is one piece.
    batch: usize,
    /// Rows of this batch, or a part of the places.
    range: Range<usize>,
}

/// The rows of one day, for the encoder.
#[derive(Debug)]
pub(super) enum DayRows<'a> {
    /// A run after the other.
    Runs { columns: &'a [Column], runs: &'a [Piece] },
    /// From these places.
    Gathered { columns: &'a [Column], places: &'a [(usize, usize)] },
}

/// A row and its time.
#[derive(Clone, Copy, Debug)]
struct RowAt {
    us: i64,
    ns: i16,
    batch: u32,
    row: u32,
}

impl RowAt {
    /// Its day, since 1970-01-01.
    fn day(&self) -> i64 {
        self.us.div_euclid(US_PER_DAY)
    }

    /// Its batch, and its row there.
    fn place(&self) -> (usize, usize) {
        (self.batch as usize, self.row as usize)
    }
}

impl OrderedRows {
    /// Puts the rows of `batches` in the order of `sort_key`; `schema` has all columns that a batch
    /// may have. Columns of the key that have no value are ignored.
    ///
    /// # Errors
    /// When a batch has a column that `schema` has not, or has with another type, or has no time.
    pub(super) fn new(
        schema: &Schema,
        batches: &[RecordBatch],
        sort_key: &[String],
    ) -> Result<Self, ArrowError> {
        let batches: Vec<_> = batches.iter().filter(|it| it.num_rows() > 0).collect();
        let times: Vec<_> = batches.iter().map(|it| Times::of(it)).collect::<Result<_, _>>()?;
        let (schema, mut columns) = columns::align(schema, &batches)?;
        let keys = Keys::new(&schema, &columns, sort_key)?;
        let runs = if keys.is_none() { runs_of(&times) } else { None };
        let mut days = Vec::new();
        let places = if let Some(runs) = runs {
            for Piece { batch, range } in runs {
                let us = times.get(batch).and_then(|it| it.us().get(range.clone()));
                cut(&mut days, batch, range.start, us.unwrap_or_default(), |&us| us);
            }
            None
        } else {
            let mut order = row_order(&times)?;
            columns.iter_mut().try_for_each(Column::share_dictionary)?;
            cut(&mut days, 0, 0, &order, |it| it.us);
            if let Some(keys) = keys {
                // Stable, so that the order of time stays where keys are equal.
                for day in order.chunk_by_mut(|left, right| left.day() == right.day()) {
                    keys.sort(day, RowAt::place);
                }
            }
            Some(order.iter().map(RowAt::place).collect())
        };
        Ok(Self { schema, columns, places, days })
    }

    /// The columns of every piece.
    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The days that have rows, in order.
    pub(super) fn days(&self) -> &[Day] {
        &self.days
    }

    /// The rows of a day, which is one of [`Self::days`].
    pub(super) fn of_day<'a>(&'a self, day: &'a Day) -> DayRows<'a> {
        let columns = &self.columns;
        let Some(places) = &self.places else {
            return DayRows::Runs { columns, runs: &day.pieces };
        };
        let range = day.pieces.first().map(|piece| piece.range.clone());
        let places = range.and_then(|range| places.get(range)).unwrap_or_default();
        DayRows::Gathered { columns, places }
    }
}

impl DayRows<'_> {
    fn columns(&self) -> &[Column] {
        match self {
            Self::Runs { columns, .. } | Self::Gathered { columns, .. } => columns,
        }
    }
}

impl RowSource for DayRows<'_> {
    fn row_count(&self) -> usize {
        match self {
            Self::Runs { runs, .. } => runs.iter().map(|run| run.range.len()).sum(),
            Self::Gathered { places, .. } => places.len(),
        }
    }

    fn row_bytes(&self) -> usize {
        // Those of all days.
        self.columns().iter().map(Column::row_bytes).sum()
    }

    fn read(
        &self,
        column: usize,
        rows: Range<usize>,
        take: &mut dyn FnMut(ArrayRef) -> Result<(), ParquetError>,
    ) -> Result<(), ParquetError> {
        let foreign = || mismatch("expected a column and rows of this day");
        let column = self.columns().get(column).ok_or_else(foreign)?;
        let rows_max = gathered_rows_max(column);
        match self {
            Self::Runs { runs, .. } => {
                let mut first = 0;
                let runs = runs.iter().filter_map(|Piece { batch, range }| {
                    let skipped = rows.start.saturating_sub(first).min(range.len());
                    let end = rows.end.saturating_sub(first).min(range.len());
                    first += range.len();
                    (skipped < end).then_some((*batch, range.start + skipped..range.start + end))
                });
                column.join(runs, rows_max, take)
            }
            Self::Gathered { places, .. } => {
                let places = places.get(rows).ok_or_else(foreign)?;
                places.chunks(rows_max).try_for_each(|places| take(column.gather(places)?))
            }
        }
    }
}

/// The runs that, one after the other, are all rows in order; `None` when they are short.
///
/// Cost: a compare a row, and a search in each run for where the next one begins.
fn runs_of(times: &[Times]) -> Option<Vec<Piece>> {
    let rows: usize = times.iter().map(|it| it.us.len()).sum();
    let max = times.len() + rows / RUN_ROWS_MIN;
    let rest = |batch: usize, range: Range<usize>| {
        let (us, ns) = times.get(batch)?.key(range.start)?;
        Some(Reverse((us, ns, batch, range.start, range.end)))
    };
    let mut heap = BinaryHeap::new();
    for (batch, times) in times.iter().enumerate() {
        let mut start = 0;
        while start < times.us.len() {
            let end = times.sorted_until(start);
            heap.extend(rest(batch, start..end));
            start = end;
            if heap.len() > max {
                return None;
            }
        }
    }
    let mut runs: Vec<Piece> = Vec::new();
    while let Some(Reverse((.., batch, start, end))) = heap.pop() {
        let of_batch = times.get(batch)?;
        // Behind `start`: the first row comes before all else, as it is the least of the heap.
        let upto = match heap.peek() {
            Some(Reverse((us, ns, other, first, _))) if (batch, start) < (*other, *first) => {
                of_batch.partition_point(start..end, |key| key <= (*us, *ns))
            }
            Some(Reverse((us, ns, ..))) => {
                of_batch.partition_point(start..end, |key| key < (*us, *ns))
            }
            None => end,
        };
        match runs.last_mut() {
            Some(run) if run.batch == batch && run.range.end == start => run.range.end = upto,
            _ => runs.push(Piece { batch, range: start..upto }),
        }
        if upto < end {
            heap.extend(rest(batch, upto..end));
        }
        if runs.len() > max {
            return None;
        }
    }
    Some(runs)
}

/// All rows, by time and then by arrival.
fn row_order(times: &[Times]) -> Result<Vec<RowAt>, ArrowError> {
    let mut order = Vec::with_capacity(times.iter().map(|it| it.us.len()).sum());
    for (batch, times) in (0_u32..).zip(times) {
        if u32::try_from(times.us.len()).is_err() {
            return Err(mismatch("expected fewer than 4 Gi rows in a batch"));
        }
        let rows = (0_u32..).zip(times.keys());
        order.extend(rows.map(|(row, (us, ns))| RowAt { us, ns, batch, row }));
    }
    // Stable, so equal times keep the order of arrival; and it finds the runs that batches are.
    order.sort_by_key(|it| (it.us, it.ns));
    Ok(order)
}

/// How many rows to gather at a time so that no string array overflows.
fn gathered_rows_max(column: &Column) -> usize {
    let is_long = i32::try_from(column.bytes()).is_err();
    if is_long { GATHERED_ROWS_OF_LONG_STRINGS_MAX } else { GATHERED_ROWS_MAX }
}

/// Adds rows, `sorted` by time and the first of them `row` of a batch, to `days`, as pieces that do
/// not cross midnight.
fn cut<T>(days: &mut Vec<Day>, batch: usize, row: usize, sorted: &[T], us: impl Fn(&T) -> i64) {
    let mut start = 0;
    while let Some(rest) = sorted.get(start..)
        && let Some(first) = rest.first()
    {
        let day = us(first).div_euclid(US_PER_DAY);
        let rows = rest.partition_point(|it| us(it).div_euclid(US_PER_DAY) == day);
        let last = rest.get(rows - 1).map_or_else(|| us(first), &us);
        let piece = Piece { batch, range: row + start..row + start + rows };
        match days.last_mut() {
            Some(open) if open.number == day => {
                open.pieces.push(piece);
                open.rows += rows as u64;
                open.time_us_max = last;
            }
            _ => days.push(Day {
                number: day,
                pieces: vec![piece],
                rows: rows as u64,
                time_us_min: us(first),
                time_us_max: last,
            }),
        }
        start += rows;
    }
}

/// The columns that order the rows of one batch.
#[derive(Clone, Debug)]
struct Times {
    us: TimestampMicrosecondArray,
    ns: Option<Int16Array>,
}

impl Times {
    fn of(batch: &RecordBatch) -> Result<Self, ArrowError> {
        let us = batch
            .column_by_name(TIME)
            .and_then(|it| it.as_primitive_opt::<TimestampMicrosecondType>())
            .filter(|it| it.null_count() == 0)
            .ok_or_else(|| mismatch("expected time as microseconds without nulls"))?
            .clone();
        let ns = match batch.column_by_name(TIME_NS) {
            None => None,
            Some(column) => column
                .as_primitive_opt::<Int16Type>()
                .map(|it| Some(it.clone()))
                .ok_or_else(|| mismatch("expected time_ns as 16-bit integers"))?,
        };
        Ok(Self { us, ns })
    }

    fn us(&self) -> &[i64] {
        self.us.values()
    }

    /// Nanoseconds below the microsecond, zero when they are not known.
    fn ns(&self, row: usize) -> i16 {
        match &self.ns {
            Some(ns) if ns.is_valid(row) => ns.value(row),
            _ => 0,
        }
    }

    fn keys(&self) -> impl ExactSizeIterator<Item = (i64, i16)> {
        self.us().iter().enumerate().map(|(row, &us)| (us, self.ns(row)))
    }

    fn key(&self, row: usize) -> Option<(i64, i16)> {
        self.us().get(row).map(|&us| (us, self.ns(row)))
    }

    /// The first row behind `start` that comes before the one before it, or the end.
    fn sorted_until(&self, start: usize) -> usize {
        let us = self.us().get(start..).unwrap_or_default();
        let is_behind = |&(row, pair): &(usize, &[i64])| match pair {
            [left, right] if left == right && self.ns.is_some() => self.ns(row + 1) < self.ns(row),
            [left, right] => right < left,
            _ => false,
        };
        let behind = (start..).zip(us.windows(2)).find(is_behind);
        behind.map_or(self.us.len(), |(row, _)| row + 1)
    }

    /// Where, in sorted `rows`, the keys begin that `is_before` is false for.
    fn partition_point(&self, rows: Range<usize>, is_before: impl Fn((i64, i16)) -> bool) -> usize {
        let (mut low, mut high) = (rows.start, rows.end);
        while low < high {
            let middle = low.midpoint(high);
            if self.key(middle).is_some_and(&is_before) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

/// A request that breaks the contract of `SegmentRequest`.
fn mismatch(message: &str) -> ArrowError {
    ArrowError::SchemaError(message.to_owned())
}
