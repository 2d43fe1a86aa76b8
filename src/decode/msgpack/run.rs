//! Runs: whole columns of a columnar item at once.
//!
//! | values                       | how                                                        |
//! |------------------------------|------------------------------------------------------------|
//! | all `cb`, `cf` or `d3`       | 9-byte strides, a byte swap each                           |
//! | floats, integers, mixed width | one token each, pushed                                    |
//! | strings of one length        | copied by a loop for that length                           |
//! | other strings                | copied one by one; tags are interned                       |
//! | with nils, booleans, times   | one token each, appended by position                       |
//!
//! A run that meets a value its column cannot take gives up; the caller undoes it.

use std::ops::Range;

use super::columnar::Column;
use super::item::Decoder;
use super::skip::Classes;
use super::token::{Reader, Token};
use super::value;
use crate::decode::precision;
use crate::decode::runs::{Runs, exact_float};
use crate::gather::{ColumnIndex, TableBuilder, TableIndex};
use crate::limits::Limits;
use crate::schema::{Role, TIME};

impl Decoder<'_, '_> {
    /// Appends the scanned item to `table` in runs. `None`: not every value suits its column.
    pub(super) fn run(&mut self, table: TableIndex) -> Option<()> {
        let Self { database, scan, runs, context, body, .. } = self;
        let table = database.table_mut(table);
        runs.begin(scan.rows);
        for column in &scan.columns {
            let it = Reader::new(body.bytes(), column.at);
            run_column(table, column, it, scan.rows, runs, context.limits)?;
        }
        runs.finish(table, context.received)
    }
}

fn run_column(
    table: &mut TableBuilder,
    column: &Column<'_>,
    it: Reader<'_>,
    rows: usize,
    runs: &mut Runs,
    limits: &Limits,
) -> Option<()> {
    let Column { name, classes, .. } = *column;
    if classes == Classes::NIL {
        return Some(());
    }
    if name == TIME {
        let is_first = runs.begin_time();
        return (is_first && classes == Classes::INT)
            .then(|| run_times(table, column, it, rows))
            .flatten();
    }
    let is_tag = column.is_tag || classes == Classes::STR && table.role_of(name) == Some(Role::Tag);
    if is_tag {
        let mut it = it;
        let texts = (0..rows).map(|_| string(&mut it));
        return runs.run_tags(table, name, texts, |text| std::str::from_utf8(text).ok(), limits);
    }
    let index = table.field(name).ok()?;
    runs.note_field(classes.contains(Classes::NIL));
    match classes {
        Classes::FLOAT => run_floats(table.run_f64(index)?, column, it, rows),
        Classes::INT => match table.run_i64(index) {
            Some(values) => run_integers(values, column, it, rows),
            None => run_floats(table.run_f64(index)?, column, it, rows),
        },
        Classes::STR => match column.marker {
            Some(marker) if usize::from(marker & 0x1f) <= limits.string_bytes_max => {
                let len = usize::from(marker & 0x1f);
                let source = it.until(it.at + rows * (len + 1));
                table.run_str(index)?.push_strides(source, len, rows)
            }
            _ => run_strings(table, index, it, rows, limits),
        },
        _ => run_positions(table, index, it, rows),
    }
}

/// The values of a column whose markers are all the same, one of 8 bytes.
fn strides(it: Reader<'_>, rows: usize) -> &[[u8; 9]] {
    it.until(it.at + rows * 9).as_chunks::<9>().0
}

fn run_floats(
    values: &mut Vec<f64>,
    column: &Column<'_>,
    mut it: Reader<'_>,
    rows: usize,
) -> Option<()> {
    if column.marker == Some(0xcb) {
        values.extend(strides(it, rows).iter().map(|[_, value @ ..]| f64::from_be_bytes(*value)));
        return Some(());
    }
    values.reserve(rows);
    for _ in 0..rows {
        values.push(match it.token().ok()? {
            Token::Float(value) => value,
            Token::Int(value) => exact_float(value)?,
            _ => return None,
        });
    }
    Some(())
}

fn run_integers(
    values: &mut Vec<i64>,
    column: &Column<'_>,
    mut it: Reader<'_>,
    rows: usize,
) -> Option<()> {
    match column.marker {
        Some(0xd3) => {
            values
                .extend(strides(it, rows).iter().map(|[_, value @ ..]| i64::from_be_bytes(*value)));
            Some(())
        }
        Some(0xcf) => {
            let mut signs = 0;
            values.extend(strides(it, rows).iter().map(|[_, value @ ..]| {
                let value = i64::from_be_bytes(*value);
                signs |= value;
                value
            }));
            (signs >= 0).then_some(())
        }
        _ => {
            values.reserve(rows);
            for _ in 0..rows {
                values.push(match it.common_integer() {
                    Some(value) => value,
                    None => integer(&mut it)?,
                });
            }
            Some(())
        }
    }
}

#[inline(never)]
fn integer(it: &mut Reader<'_>) -> Option<i64> {
    match it.token().ok()? {
        Token::Int(value) => Some(value),
        _ => None,
    }
}

#[inline(always)]
fn string<'a>(it: &mut Reader<'a>) -> Option<&'a [u8]> {
    if let Some(text) = it.fixstr() {
        return Some(text);
    }
    match it.token().ok()? {
        Token::Str(text) => Some(text),
        _ => None,
    }
}

/// Integer times. Arc's rule is applied value by value; that all have one unit is only the rule.
fn run_times(
    table: &mut TableBuilder,
    column: &Column<'_>,
    mut it: Reader<'_>,
    rows: usize,
) -> Option<()> {
    let us = table.run_times().run_us();
    let start = us.len();
    let unit = it.moved(it.at).common_integer().and_then(precision::whole_unit);
    if let (Some(unit), Some(marker @ (0xcf | 0xd3))) = (unit, column.marker) {
        let is_unsigned = marker == 0xcf;
        let Range { start: low, end: high } = unit.magnitudes;
        let mut is_other = false;
        us.extend(strides(it, rows).iter().map(|[_, value @ ..]| {
            let value = i64::from_be_bytes(*value);
            is_other |= value.unsigned_abs().wrapping_sub(low) >= high - low;
            #[expect(clippy::needless_bitwise_bool, reason = "no branch among the strides")]
            let is_above_i64 = is_unsigned & (value < 0);
            is_other |= is_above_i64;
            value.wrapping_mul(unit.us)
        }));
        if !is_other {
            return Some(());
        }
        us.truncate(start);
    }
    let times = table.run_times();
    for _ in 0..rows {
        let value = match it.common_integer() {
            Some(value) => value,
            None => integer(&mut it)?,
        };
        times.push(precision::from_magnitude(value)?);
    }
    Some(())
}

fn run_strings(
    table: &mut TableBuilder,
    index: ColumnIndex,
    mut it: Reader<'_>,
    rows: usize,
    limits: &Limits,
) -> Option<()> {
    let max = limits.string_bytes_max;
    let next = |_| string(&mut it).filter(|bytes| bytes.len() <= max);
    table.run_str(index)?.push_all((0..rows).map(next))
}

/// Values with nils among them, booleans, binary, timestamps.
fn run_positions(
    table: &mut TableBuilder,
    index: ColumnIndex,
    mut it: Reader<'_>,
    rows: usize,
) -> Option<()> {
    for row in 0..rows {
        let token = it.token().ok()?;
        value::append_at(table, index, row, &token)?;
    }
    Some(())
}
