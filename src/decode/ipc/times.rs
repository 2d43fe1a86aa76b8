//! Numbers as points in time.

use arrow_array::{Array, Int64Array};
use arrow_buffer::ScalarBuffer;

use super::values::Values;
use crate::decode::precision::{Precision, from_magnitude};
use crate::gather::{TimeValues, WholeTimes};
use crate::timestamp::Timestamp;

/// What one unit of a number is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Unit {
    /// By the magnitude of each number, as in `MessagePack`.
    Auto,
    /// Nanoseconds.
    Ns,
    /// So many microseconds.
    Us(i64),
}

impl Unit {
    /// The unit of bare integers in a body of this precision.
    pub(super) fn of(precision: Precision) -> Self {
        match precision {
            Precision::Auto => Self::Auto,
            Precision::Nanosecond => Self::Ns,
            Precision::Microsecond => Self::Us(1),
            Precision::Millisecond => Self::Us(1_000),
            Precision::Second => Self::Us(1_000_000),
            Precision::Minute => Self::Us(60_000_000),
            Precision::Hour => Self::Us(3_600_000_000),
        }
    }

    /// The time that `value` means; `None` outside the years 0001 to 9999.
    #[inline]
    pub(super) fn timestamp(self, value: i64) -> Option<Timestamp> {
        match self {
            Self::Auto => from_magnitude(value),
            Self::Ns => Some(Timestamp::from_ns(value)),
            Self::Us(us) => Timestamp::from_us(value.checked_mul(us)?),
        }
    }

    /// As [`Self::timestamp`], for a number that may be above `i64::MAX`.
    pub(super) fn unsigned_timestamp(self, value: u64) -> Option<Timestamp> {
        if let Ok(value) = i64::try_from(value) {
            return self.timestamp(value);
        }
        match self {
            Self::Auto | Self::Ns => {
                let below = u16::try_from(value % 1_000).ok()?;
                let us = i64::try_from(value / 1_000).ok()?;
                Timestamp::from_us(us).map(|it| Timestamp { ns: below, ..it })
            }
            Self::Us(_) => None,
        }
    }
}

/// The time in row `row` of a column of times; a null, or no column, is `received`.
/// `None` outside the years 0001 to 9999.
pub(super) fn time_at(
    values: &Values,
    precision: Unit,
    received: Timestamp,
    row: usize,
) -> Option<Timestamp> {
    if values.is_null(row) {
        return Some(received);
    }
    match values {
        Values::Int(values) => precision.timestamp(*values.values().get(row)?),
        Values::Uint(values) => precision.unsigned_timestamp(*values.values().get(row)?),
        Values::Time(unit, values) => unit.timestamp(*values.values().get(row)?),
        _ => None,
    }
}

/// Appends the times of all `rows` rows; `None` when one is out of range.
pub(super) fn append(
    to: &mut TimeValues,
    values: &Values,
    precision: Unit,
    received: Timestamp,
    rows: usize,
) -> Option<()> {
    match plain(values, precision) {
        // Without branches, for the units whose numbers can be checked as they are.
        Some((Unit::Us(us), values)) => {
            let (low, high) = (Timestamp::MIN.us / us, Timestamp::MAX.us / us);
            let is_within = |value: &i64| (low..=high).contains(value);
            values.iter().all(is_within).then_some(())?;
            to.run_us().extend(values.iter().map(|value| value * us));
        }
        _ => {
            for row in 0..rows {
                to.push(time_at(values, precision, received, row)?);
            }
        }
    }
    Some(())
}

/// The times of all `rows` rows, from where they are if they are microseconds.
pub(super) fn whole(
    values: &Values,
    precision: Unit,
    received: Timestamp,
    rows: usize,
) -> Option<WholeTimes> {
    if let Some((Unit::Us(1), values)) = plain(values, precision) {
        return in_range(values).then(|| WholeTimes::Us(values.clone()));
    }
    let mut times = TimeValues::default();
    append(&mut times, values, precision, received, rows)?;
    Some(WholeTimes::Values(times))
}

/// The numbers of a column without nulls, and what they mean.
fn plain(values: &Values, precision: Unit) -> Option<(Unit, &ScalarBuffer<i64>)> {
    let no_nulls = |values: &Int64Array| values.null_count() == 0;
    match values {
        Values::Time(unit, values) if no_nulls(values) => Some((*unit, values.values())),
        Values::Int(values) if no_nulls(values) => {
            let values = values.values();
            let unit = match precision {
                // One unit if all magnitudes mean the same.
                Unit::Auto => {
                    let unit = crate::decode::precision::whole_unit(*values.first()?)?;
                    let is_same = |value: &i64| unit.magnitudes.contains(&value.unsigned_abs());
                    values.iter().all(is_same).then_some(Unit::Us(unit.us))?
                }
                unit => unit,
            };
            Some((unit, values))
        }
        _ => None,
    }
}

/// Whether all values are microseconds of the years 0001 to 9999.
pub(super) fn in_range(values: &[i64]) -> bool {
    values.iter().all(|us| (Timestamp::MIN.us..=Timestamp::MAX.us).contains(us))
}
