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

use super::columnar::{Classes, Column};
use super::item::Decoder;
use super::tape::{Document, Value};
use super::{time, value};
use crate::decode::Context;
use crate::decode::runs::{Runs, exact_float};
use crate::gather::{ColumnIndex, TableBuilder, TableIndex};
use crate::schema::{Role, TIME};
use crate::timestamp::Timestamp;

impl Decoder<'_, '_> {
    /// Appends the scanned item to `table` in runs. `None`: not every value suits its column.
    pub(super) fn run(&mut self, document: &Document<'_>, table: TableIndex) -> Option<()> {
        let Self { database, scan, runs, context, .. } = self;
        let table = database.table_mut(table);
        runs.begin(scan.rows);
        for column in &scan.columns {
            run_column(table, document, column, scan.rows, runs, context)?;
        }
        runs.finish(table, context.received)
    }
}

fn run_column(
    table: &mut TableBuilder,
    document: &Document<'_>,
    column: &Column,
    rows: usize,
    runs: &mut Runs,
    context: &Context<'_>,
) -> Option<()> {
    let Column { classes, at, is_tag, .. } = *column;
    let name = document.key(column.name).ok()?;
    if classes == Classes::NULL {
        return Some(());
    }
    if classes.contains(Classes::OTHER) && document.next(at - 1) != at + rows {
        return None;
    }
    let values = (at..at + rows).map(|at| document.value(at));
    if name == TIME {
        let is_first = runs.begin_time();
        let is_plain = classes == Classes::INT || classes == Classes::STR;
        return (is_first && is_plain).then(|| run_times(table, values, context)).flatten();
    }
    let is_tag = is_tag || classes == Classes::STR && table.role_of(name) == Some(Role::Tag);
    if is_tag {
        let texts = values.map(|value| match value {
            Value::Str(text) => Some(text),
            _ => None,
        });
        return runs.run_tags(table, name, texts, Some, context.limits);
    }
    let index = table.field(name).ok()?;
    runs.note_field(classes.contains(Classes::NULL));
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
        Value::Int(value) => exact_float(value),
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
