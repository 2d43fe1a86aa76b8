//! Runs: whole columns of a columnar item at once.
//!
//! | values                          | how                                                     |
//! |---------------------------------|---------------------------------------------------------|
//! | all floats, or all integers     | pushed one behind the other                             |
//! | floats, then also integers      | pushed as floats                                        |
//! | strings                         | copied one by one; tags are interned                    |
//! | with nulls, booleans, unsigned  | appended by position                                    |
//!
//! A run that meets a value its column cannot take gives up; the caller undoes it.

use super::columnar::{Classes, Column, Scan};
use super::item::Decoder;
use super::tape::{Document, Value};
use super::{time, value};
use crate::decode::Context;
use crate::gather::{ColumnIndex, SeriesIndex, TableBuilder, TableIndex, TagKey};
use crate::limits::Limits;
use crate::schema::{Role, TIME};
use crate::timestamp::Timestamp;

/// Integers that a float holds exactly, whatever their digits: up to 2^53.
const EXACT_MAX: u64 = 1 << 53;

/// What a run has put into the table besides field columns.
#[derive(Debug, Default)]
struct Progress {
    has_time: bool,
    /// Whether there is a field without nulls: then every row has one.
    has_field: bool,
    tag_columns: usize,
}

impl Decoder<'_, '_> {
    /// Appends the scanned item to `table` in runs. `None`: not every value suits its column.
    pub(super) fn run(&mut self, document: &Document<'_>, table: TableIndex) -> Option<()> {
        let Self { database, scan, context, .. } = self;
        let table = database.table_mut(table);
        let rows = scan.rows;
        let mut progress = Progress::default();
        scan.keys.clear();
        scan.tags.clear();
        let columns = std::mem::take(&mut scan.columns);
        let done = columns.iter().try_for_each(|column| {
            run_column(table, document, column, scan, &mut progress, context)
        });
        scan.columns = columns;
        done?;
        if !progress.has_field {
            return None;
        }
        if !progress.has_time {
            run_received(table, context.received, rows);
        }
        if progress.tag_columns > 0 {
            run_series(table, scan, rows);
        }
        table.commit_rows(rows).ok()
    }
}

fn run_column(
    table: &mut TableBuilder,
    document: &Document<'_>,
    column: &Column,
    scan: &mut Scan,
    progress: &mut Progress,
    context: &Context<'_>,
) -> Option<()> {
    let Column { classes, at, is_tag, .. } = *column;
    let name = document.key(column.name).ok()?;
    if classes == Classes::NULL {
        return Some(());
    }
    if classes.contains(Classes::OTHER) && document.next(at - 1) != at + scan.rows {
        return None;
    }
    let values = (at..at + scan.rows).map(|at| document.value(at));
    if name == TIME {
        let is_first = !std::mem::replace(&mut progress.has_time, true);
        let is_plain = classes == Classes::INT || classes == Classes::STR;
        return (is_first && is_plain).then(|| run_times(table, values, context)).flatten();
    }
    let is_tag = is_tag || classes == Classes::STR && table.role_of(name) == Some(Role::Tag);
    if is_tag {
        progress.tag_columns += 1;
        return (classes == Classes::STR)
            .then(|| run_tags(table, name, values, scan, context.limits))
            .flatten();
    }
    let index = table.field(name).ok()?;
    progress.has_field |= !classes.contains(Classes::NULL);
    let begins_with_float = matches!(document.value(at), Value::Float(_));
    match classes {
        Classes::INT => match table.run_i64(index) {
            Some(integers) => run_all(integers, values, |value| match value {
                Value::Int(value) => Some(value),
                _ => None,
            }),
            None => run_all(table.run_f64(index)?, values, exact),
        },
        Classes::FLOAT => run_all(table.run_f64(index)?, values, exact),
        // The kind of a new column is that of its first value.
        Classes::NUMBER if begins_with_float => run_all(table.run_f64(index)?, values, exact),
        Classes::STR => {
            let max = context.limits.string_bytes_max;
            let text = |value| match value {
                Value::Str(text) if str::len(text) <= max => Some(text.as_bytes()),
                _ => None,
            };
            table.run_str(index)?.push_all(values.map(text))
        }
        _ => run_positions(table, index, values),
    }
}

/// The float equal to a number.
#[inline(always)]
fn exact(value: Value<'_>) -> Option<f64> {
    match value {
        Value::Float(value) => Some(value),
        #[expect(clippy::cast_precision_loss, reason = "none is lost up to 2^53")]
        Value::Int(value) if value.unsigned_abs() <= EXACT_MAX => Some(value as f64),
        _ => None,
    }
}

fn run_all<'t, T>(
    to: &mut Vec<T>,
    values: impl ExactSizeIterator<Item = Value<'t>>,
    convert: impl Fn(Value<'t>) -> Option<T>,
) -> Option<()> {
    to.reserve(values.len());
    for value in values {
        to.push(convert(value)?);
    }
    Some(())
}

fn run_times<'t>(
    table: &mut TableBuilder,
    values: impl Iterator<Item = Value<'t>>,
    context: &Context<'_>,
) -> Option<()> {
    let times = table.run_times();
    for value in values {
        times.push(match value {
            Value::Int(value) => time::from_integer(value, context.precision)?,
            Value::Str(text) => {
                let (seconds, ns) = time::rfc3339(text.as_bytes())?;
                Timestamp::from_seconds(seconds, ns)?
            }
            _ => return None,
        });
    }
    Some(())
}

fn run_received(table: &mut TableBuilder, received: Timestamp, rows: usize) {
    let times = table.run_times();
    for _ in 0..rows {
        times.push(received);
    }
}

/// Values with nulls among them, booleans, unsigned integers, numbers of both kinds.
fn run_positions<'t>(
    table: &mut TableBuilder,
    index: ColumnIndex,
    values: impl Iterator<Item = Value<'t>>,
) -> Option<()> {
    for (row, value) in values.enumerate() {
        value::append_at(table, index, row, value)?;
    }
    Some(())
}

/// Interns the values of a tag column; a value that repeats the one before costs a compare.
fn run_tags<'t>(
    table: &mut TableBuilder,
    name: &str,
    values: impl Iterator<Item = Value<'t>>,
    scan: &mut Scan,
    limits: &Limits,
) -> Option<()> {
    let index = table.tag(name).ok()?;
    if scan.tags.iter().any(|(column, _)| *column == index) {
        return None;
    }
    let mut last: Option<(&str, TagKey)> = None;
    for value in values {
        let Value::Str(text) = value else { return None };
        let key = match last {
            Some((value, key)) if value == text => key,
            _ if text.is_empty() || text.len() > limits.name_bytes_max => return None,
            _ => table.intern_tag(index, text),
        };
        last = Some((text, key));
        scan.keys.push(key);
    }
    let (_, key) = last?;
    scan.tags.push((index, key));
    Some(())
}

/// Turns the keys of each row's tags into its series.
fn run_series(table: &mut TableBuilder, scan: &mut Scan, rows: usize) {
    let Scan { keys, tags, series: all, .. } = scan;
    let columns: Vec<ColumnIndex> = tags.iter().map(|(column, _)| *column).collect();
    let row_keys = |row: usize| keys.iter().skip(row).step_by(rows);
    let mut last: Option<(usize, SeriesIndex)> = None;
    all.clear();
    for row in 0..rows {
        let series = match last {
            Some((other, series)) if row_keys(other).eq(row_keys(row)) => series,
            _ => {
                tags.clear();
                tags.extend(columns.iter().copied().zip(row_keys(row).copied()));
                table.series_of(tags)
            }
        };
        last = Some((row, series));
        all.push(series);
    }
    table.run_series().extend_from_slice(all);
}
