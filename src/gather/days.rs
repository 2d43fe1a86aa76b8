//! The days that the rows of one body are of: each of them, in each measurement, becomes a file.
//!
//! The first day of each measurement is free, so that a body of many measurements is no matter. Of
//! all others together a body may have so many; a row of one more is refused. Nothing but the body
//! and the time at which it was received decides, so that a replay refuses the same rows.
//!
//! Cost: a compare a row; for the first row of another day a look into a small set.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::ops::Range;
use std::rc::Rc;

/// Microseconds of a day.
const DAY_US: i64 = 24 * 60 * 60 * 1_000_000;

/// The days that one measurement has got in the open write.
#[derive(Debug)]
pub(super) struct Days {
    /// Further days that the open write may have, in all its measurements together.
    left: Rc<Cell<usize>>,
    /// The day that is free.
    first: Option<i64>,
    /// All others.
    further: BTreeSet<i64>,
    /// The times of the day that the row committed last is of; at first none.
    last: Range<i64>,
}

/// Rows that may be committed.
#[derive(Debug)]
pub(super) struct Looked {
    first: Option<i64>,
    /// Further days that the measurement has not got yet.
    new: BTreeSet<i64>,
    last: Range<i64>,
}

impl Days {
    pub(super) fn new(left: Rc<Cell<usize>>) -> Self {
        Self { left, first: None, further: BTreeSet::new(), last: 0..0 }
    }

    /// A write begins.
    pub(super) fn begin(&mut self) {
        self.first = None;
        self.further.clear();
        self.last = 0..0;
    }

    /// Whether a row of this time, in microseconds, is of the day that the last one was of.
    #[inline(always)]
    pub(super) fn is_last(&self, us: i64) -> bool {
        self.last.contains(&us)
    }

    /// Looks whether rows of these times may be committed; `None`: they are of too many days.
    pub(super) fn look(&self, times: &[i64]) -> Option<Looked> {
        let last = self.last.clone();
        let mut looked = Looked { first: self.first, new: BTreeSet::new(), last };
        // Usually none is outside: a sign, on either side, is found without a way out of the loop.
        let Range { start, end } = looked.last;
        let signs = |us: &i64| us.wrapping_sub(start) | (end - 1).wrapping_sub(*us);
        if times.iter().fold(0, |any, us| any | signs(us)) >= 0 {
            return Some(looked);
        }
        for us in times {
            if looked.last.contains(us) {
                continue;
            }
            let day = us.div_euclid(DAY_US);
            let is_known = *looked.first.get_or_insert(day) == day || self.further.contains(&day);
            if !is_known && looked.new.insert(day) && looked.new.len() > self.left.get() {
                return None;
            }
            looked.last = day * DAY_US..(day + 1) * DAY_US;
        }
        Some(looked)
    }

    /// They were committed.
    pub(super) fn commit(&mut self, looked: Looked) {
        self.left.set(self.left.get().saturating_sub(looked.new.len()));
        self.first = looked.first;
        self.further.extend(looked.new);
        self.last = looked.last;
    }
}
