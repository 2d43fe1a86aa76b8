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
    met: BTreeSet<i64>,
    /// The times of the day that the row committed last is of; at first none.
    last: Range<i64>,
}

/// Rows that may be committed.
#[derive(Debug)]
pub(super) struct Looked {
    /// Days that the measurement has not got yet.
    new: BTreeSet<i64>,
    last: Range<i64>,
}

impl Days {
    pub(super) fn new(left: Rc<Cell<usize>>) -> Self {
        Self { left, met: BTreeSet::new(), last: 0..0 }
    }

    /// A write begins.
    pub(super) fn begin(&mut self) {
        self.met.clear();
        self.last = 0..0;
    }

    /// Whether a row of this time, in microseconds, is of the day that the last one was of.
    #[inline(always)]
    pub(super) fn is_last(&self, us: i64) -> bool {
        self.last.contains(&us)
    }

    /// Looks whether rows of these times may be committed; `None`: they are of too many days.
    pub(super) fn look(&self, times: &[i64]) -> Option<Looked> {
        let mut looked = Looked { new: BTreeSet::new(), last: self.last.clone() };
        // Usually none is outside: a sign, on either side, is found without a way out of the loop.
        let Range { start, end } = looked.last;
        let signs = |us: &i64| us.wrapping_sub(start) | (end - 1).wrapping_sub(*us);
        if times.iter().fold(0, |any, us| any | signs(us)) >= 0 {
            return Some(looked);
        }
        let new_max = self.left.get() + usize::from(self.met.is_empty());
        for us in times {
            if looked.last.contains(us) {
                continue;
            }
            let day = us.div_euclid(DAY_US);
            if !self.met.contains(&day) && looked.new.insert(day) && looked.new.len() > new_max {
                return None;
            }
            looked.last = day * DAY_US..(day + 1) * DAY_US;
        }
        Some(looked)
    }

    /// They were committed.
    pub(super) fn commit(&mut self, looked: Looked) {
        let free = usize::from(self.met.is_empty());
        let further = looked.new.len().saturating_sub(free);
        self.left.set(self.left.get().saturating_sub(further));
        self.met.extend(looked.new);
        self.last = looked.last;
    }
}
