//! A batch as a chunk: arrays that their columns can hold as they are change hands.
//!
//! Gives up where a decision for each row is needed; the caller undoes it.

use std::sync::Arc;

use arrow_array::types::{Float64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, Int64Array, PrimitiveArray, StringArray};
use arrow_buffer::ScalarBuffer;

use super::fields::{Purpose, Schema};
use super::run::{Filled, has_received, is_tag};
use super::times::{self, Unit};
use super::values::{Allowance, Held, Values, expanded, tag_array};
use super::{Batch, Decoder};
use crate::decode::runs::is_exact;
use crate::gather::{TableIndex, TagArray, WholeRows, WholeTimes};
use crate::limits::Limits;
use crate::schema::ColumnKind;

impl Decoder<'_, '_> {
    /// Makes a batch a chunk. `None`: not every value suits its column, or the body has too much
    /// room to spare to be kept.
    pub(super) fn whole(
        &mut self,
        schema: &Schema,
        table: TableIndex,
        batch: &Batch,
    ) -> Option<()> {
        let (context, limits) = (self.context, self.context.limits);
        let table = self.database.table_mut(table);
        let is_tight = self.body.capacity() / 2 <= self.body.len();
        (is_tight && table.takes_whole_rows()).then_some(())?;
        let mut filled = Filled::default();
        let mut columns: Vec<_> = Vec::with_capacity(batch.columns.len());
        let mut times = &Values::Null;
        for (column, values) in schema.columns.iter().zip(&batch.columns) {
            if matches!(values, Values::Null) {
                continue;
            }
            if column.purpose == Purpose::Time {
                times = values;
            } else if is_tag(table, column, values) {
                let array = tag(values, batch.rows, limits, &mut self.allowance)?;
                columns.push((table.tag(&column.name).ok()?, array));
            } else {
                filled.add(values);
                let index = table.field(&column.name).ok()?;
                let kind = table.kind(index);
                columns.push((index, field(values, kind, limits, &mut self.allowance)?));
            }
        }
        filled.is_everywhere(batch.rows).then_some(())?;
        let precision = Unit::of(context.precision);
        let of_rows = times::whole(times, precision, context.received, batch.rows)?;
        let mut held = Held::default();
        for (_, array) in &columns {
            held.add(array, self.body);
        }
        match &of_rows {
            WholeTimes::Us(us) => held.add(&Int64Array::new(us.clone(), None), self.body),
            WholeTimes::Values(_) => held.own += batch.rows * size_of::<i64>(),
        }
        let is_first = held.is_of_body && !self.is_body_counted;
        let bytes = held.own + if is_first { self.body.capacity() } else { 0 };
        table.append_whole(WholeRows { times: of_rows, columns, bytes })?;
        self.is_body_counted |= held.is_of_body;
        self.report.has_received_times |= has_received(times);
        Some(())
    }
}

/// The values of a field as an array of its column's kind.
fn field(
    values: &Values,
    kind: Option<ColumnKind>,
    limits: &Limits,
    allowance: &mut Allowance,
) -> Option<ArrayRef> {
    Some(match values {
        Values::Null => return None,
        Values::Bool(values) => Arc::new(values.clone()),
        Values::Int(values) if kind == Some(ColumnKind::F64) => {
            allowance.take(values.len(), size_of::<f64>()).ok()?;
            Arc::new(floats(values)?)
        }
        Values::Int(values) => Arc::new(values.clone()),
        Values::Uint(values) if kind == Some(ColumnKind::I64) => {
            let all = values.values().iter().fold(0, |all, value| all | value);
            i64::try_from(all).ok()?;
            let same = ScalarBuffer::from(values.values().inner().clone());
            Arc::new(Int64Array::new(same, values.nulls().cloned()))
        }
        Values::Uint(values) => Arc::new(values.clone()),
        Values::Float(values) => Arc::new(values.clone()),
        Values::Text(values) => Arc::new(short(values, limits)?.clone()),
        Values::Dictionary(keys, text) => {
            let text = expanded(keys, text, allowance).ok()?;
            Arc::new(short(&text, limits)?.clone())
        }
        Values::Time(Unit::Us(1), values) => {
            times::in_range(values.values()).then_some(())?;
            let us = values.values().clone();
            let array =
                PrimitiveArray::<TimestampMicrosecondType>::new(us, values.nulls().cloned());
            Arc::new(array.with_timezone("UTC"))
        }
        Values::Time(unit, values) => {
            allowance.take(values.len(), size_of::<i64>()).ok()?;
            let us = values.iter().map(|value| match value {
                None => Some(0),
                Some(value) => unit.timestamp(value).filter(|it| it.ns == 0).map(|it| it.us),
            });
            let us: Vec<i64> = us.collect::<Option<_>>()?;
            let array =
                PrimitiveArray::<TimestampMicrosecondType>::new(us.into(), values.nulls().cloned());
            Arc::new(array.with_timezone("UTC"))
        }
    })
}

/// Integers as floats, if all of them are exactly that.
fn floats(values: &Int64Array) -> Option<PrimitiveArray<Float64Type>> {
    let is_exact = values.values().iter().all(|value| is_exact(*value));
    is_exact.then(|| {
        #[expect(clippy::cast_precision_loss, reason = "none is lost up to 2^53")]
        values.unary(|value| value as f64)
    })
}

/// `values`, if none is longer than a string may be.
fn short<'v>(values: &'v StringArray, limits: &Limits) -> Option<&'v StringArray> {
    let is_short = |length: usize| length <= limits.string_bytes_max;
    values.offsets().lengths().all(is_short).then_some(values)
}

/// The values of a tag as a dictionary.
fn tag(
    values: &Values,
    rows: usize,
    limits: &Limits,
    allowance: &mut Allowance,
) -> Option<ArrayRef> {
    let is_good = |value: &str| (1..=limits.name_bytes_max).contains(&value.len());
    match values {
        Values::Dictionary(keys, values) => {
            let is_good = |value: Option<&str>| value.is_some_and(is_good);
            values.iter().all(is_good).then(|| tag_array(keys, values)).flatten()
        }
        Values::Text(values) => {
            allowance.take(rows, size_of::<u32>()).ok()?;
            let mut array = TagArray::new(rows);
            for value in values {
                value.is_none_or(is_good).then(|| array.push(value))?;
            }
            Some(array.finish())
        }
        _ => None,
    }
}
