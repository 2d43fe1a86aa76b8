//! Runs: the columns of a batch copied into the open chunk, each at once.
//!
//! A run that meets a value its column cannot take gives up; the caller undoes it.

use arrow_array::{Array, ArrowPrimitiveType, PrimitiveArray, StringArray};
use arrow_buffer::{ArrowNativeType, BooleanBuffer};

use super::fields::{Column, Purpose, Schema};
use super::times::{self, Unit};
use super::values::Values;
use super::{Batch, Decoder};
use crate::gather::{ColumnIndex, SeriesIndex, TableBuilder, TableIndex, TagKey};
use crate::limits::Limits;
use crate::schema::Role;

/// A tag column, and the keys of its values: one for each row.
type Tags = (ColumnIndex, Vec<Option<TagKey>>);

/// Whether a column is a tag: the sender says so, or the measurement has a tag of that name.
pub(super) fn is_tag(table: &mut TableBuilder, column: &Column, values: &Values) -> bool {
    let is_text = matches!(values, Values::Text(_) | Values::Dictionary(..));
    column.purpose == Purpose::Tag || is_text && table.role_of(&column.name) == Some(Role::Tag)
}

/// Whether each row has a field, once all columns were added.
#[derive(Debug, Default)]
pub(super) struct Filled {
    is_full: bool,
    rows: Option<BooleanBuffer>,
}

impl Filled {
    pub(super) fn add(&mut self, values: &Values) {
        match (values.nulls(), self.rows.take()) {
            (None, _) => self.is_full = true,
            (Some(nulls), None) => self.rows = Some(nulls.inner().clone()),
            (Some(nulls), Some(rows)) => self.rows = Some(&rows | nulls.inner()),
        }
    }

    pub(super) fn is_everywhere(&self, rows: usize) -> bool {
        self.is_full || self.rows.as_ref().is_some_and(|filled| filled.count_set_bits() == rows)
    }
}

impl Decoder<'_, '_> {
    /// Appends the rows of a batch in runs. `None`: not every value suits its column.
    pub(super) fn run(&mut self, schema: &Schema, table: TableIndex, batch: &Batch) -> Option<()> {
        let (context, limits) = (self.context, self.context.limits);
        let table = self.database.table_mut(table);
        let mut filled = Filled::default();
        let mut tags: Vec<Tags> = Vec::new();
        let mut times = &Values::Null;
        for (column, values) in schema.columns.iter().zip(&batch.columns) {
            if matches!(values, Values::Null) {
                continue;
            }
            if column.purpose == Purpose::Time {
                times = values;
            } else if is_tag(table, column, values) {
                tags.push(run_tags(table, &column.name, values, batch.rows, limits)?);
            } else {
                filled.add(values);
                let index = table.field(&column.name).ok()?;
                if let Values::Dictionary(keys, text) = values {
                    let text = super::values::expanded(keys, text, &mut self.allowance).ok()?;
                    run_strings(table, index, &text, limits)?;
                } else {
                    run_field(table, index, values, limits)?;
                }
            }
        }
        filled.is_everywhere(batch.rows).then_some(())?;
        let precision = Unit::of(context.precision);
        times::append(table.run_times(), times, precision, context.received, batch.rows)?;
        run_series(table, &tags, batch.rows);
        table.commit_rows(batch.rows).ok()?;
        self.report.has_received_times |= has_received(times);
        Some(())
    }
}

/// Whether a row without a time of its own is among these.
pub(super) fn has_received(times: &Values) -> bool {
    matches!(times, Values::Null) || times.nulls().is_some()
}

fn run_field(
    table: &mut TableBuilder,
    index: ColumnIndex,
    values: &Values,
    limits: &Limits,
) -> Option<()> {
    match values {
        Values::Null | Values::Dictionary(..) => None,
        Values::Bool(values) => {
            let all = values.iter().enumerate();
            each(all, |row, value| table.append_bool_at(index, row, value).ok())
        }
        Values::Int(values) => {
            if let (0, Some(to)) = (values.null_count(), table.run_i64(index)) {
                to.extend_from_slice(values.values());
                return Some(());
            }
            each_of(values, |row, value| table.append_i64_at(index, row, value).ok())
        }
        Values::Uint(values) => {
            each_of(values, |row, value| table.append_u64_at(index, row, value).ok())
        }
        Values::Float(values) => {
            if let (0, Some(to)) = (values.null_count(), table.run_f64(index)) {
                to.extend_from_slice(values.values());
                return Some(());
            }
            each_of(values, |row, value| table.append_f64_at(index, row, value).ok())
        }
        Values::Time(unit, values) => each_of(values, |row, value| {
            table.append_time_at(index, row, unit.timestamp(value)?).ok()
        }),
        Values::Text(values) => run_strings(table, index, values, limits),
    }
}

fn each_of<T: ArrowPrimitiveType>(
    values: &PrimitiveArray<T>,
    append: impl FnMut(usize, T::Native) -> Option<()>,
) -> Option<()> {
    each(values.iter().enumerate(), append)
}

/// Appends all values that are not null.
fn each<T>(
    values: impl Iterator<Item = (usize, Option<T>)>,
    mut append: impl FnMut(usize, T) -> Option<()>,
) -> Option<()> {
    for (row, value) in values {
        if let Some(value) = value {
            append(row, value)?;
        }
    }
    Some(())
}

fn run_strings(
    table: &mut TableBuilder,
    index: ColumnIndex,
    values: &StringArray,
    limits: &Limits,
) -> Option<()> {
    if values.null_count() == 0
        && let Some(to) = table.run_str(index)
    {
        for value in values.iter().flatten() {
            (value.len() <= limits.string_bytes_max).then(|| to.push(value))?;
        }
        return Some(());
    }
    each(values.iter().enumerate(), |row, value| table.append_str_at(index, row, value).ok())
}

/// Interns the values of a tag column: each of a dictionary once, and of plain text where it is
/// another than in the row before.
fn run_tags(
    table: &mut TableBuilder,
    name: &str,
    values: &Values,
    rows: usize,
    limits: &Limits,
) -> Option<Tags> {
    let is_good = |value: &str| (1..=limits.name_bytes_max).contains(&value.len());
    let index = table.tag(name).ok()?;
    let mut keys = Vec::with_capacity(rows);
    match values {
        Values::Dictionary(of_rows, values) => {
            let mut interned: Vec<Option<TagKey>> = vec![None; values.len()];
            for key in of_rows {
                let Some(key) = key.map(ArrowNativeType::as_usize) else {
                    keys.push(None);
                    continue;
                };
                let slot = interned.get_mut(key)?;
                if slot.is_none() {
                    let value = Some(values.value(key)).filter(|value| is_good(value))?;
                    *slot = Some(table.intern_tag(index, value));
                }
                keys.push(*slot);
            }
        }
        Values::Text(values) => {
            let mut last: Option<(&str, TagKey)> = None;
            for value in values {
                let Some(value) = value else {
                    keys.push(None);
                    continue;
                };
                let key = match last {
                    Some((known, key)) if known == value => key,
                    _ => {
                        is_good(value).then_some(())?;
                        table.intern_tag(index, value)
                    }
                };
                last = Some((value, key));
                keys.push(Some(key));
            }
        }
        _ => return None,
    }
    Some((index, keys))
}

/// Turns the keys of each row's tags into its series.
fn run_series(table: &mut TableBuilder, tags: &[Tags], rows: usize) {
    if tags.is_empty() {
        return;
    }
    let key_of = |keys: &[Option<TagKey>], row: usize| keys.get(row).copied().flatten();
    let mut of_row: Vec<(ColumnIndex, TagKey)> = Vec::with_capacity(tags.len());
    let mut all: Vec<SeriesIndex> = Vec::with_capacity(rows);
    for row in 0..rows {
        let is_last = |(_, keys): &Tags| row > 0 && key_of(keys, row) == key_of(keys, row - 1);
        if let (Some(last), true) = (all.last().copied(), tags.iter().all(is_last)) {
            all.push(last);
            continue;
        }
        of_row.clear();
        of_row.extend(tags.iter().filter_map(|(index, keys)| Some((*index, key_of(keys, row)?))));
        all.push(table.series_of(&mut of_row));
    }
    table.run_series().extend_from_slice(&all);
}
