//! The memory that rows and bodies may take, in bytes accounted.
//!
//! The process has more than that: itself, buffers of connections, what an encoder works in, what
//! the allocator keeps. That *surplus* is measured now and then, and bodies begin in what it leaves
//! of the limit. It takes three quarters of the limit at most, and nothing from a body that is
//! alone: what the allocator keeps it gives again, and nobody waits for ever for it to shrink.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::admission::Line;

/// Bodies in flight may have one part of so many when another one begins: more of them wait for the
/// processor, and what they have is cold when they get it.
const BODIES_PART: usize = 8;
/// One part of so many is kept for bodies in flight that grow, and for small ones.
const GROWTH_PART: usize = 8;
/// Of that, one part of so many of all is for small bodies: what large ones hold, whatever they
/// inflate to, is nothing that these wait for.
const SMALL_PART: usize = 16;

/// Rows are written at one part of so many of what they and bodies may have, if not before.
const FLUSH_PART: usize = 2;
/// All but one part of so many may be taken by the surplus.
const SURPLUS_FREE_PART: usize = 4;
/// The surplus is measured when one part of so many was asked for since the last time.
const MEASURED_PART: usize = 32;
/// What is above the last measurement is forgotten one part of so many at each.
const FORGOTTEN_PART: usize = 16;

/// Tells how many bytes the process has in memory; `None` where the system does not.
pub type Resident = fn() -> Option<u64>;

/// Gives memory that is free back to the system, which takes 50 us for each MiB.
pub type Trim = fn();

/// Has a thread (0: the one that calls) run only when no other will, or as any other.
pub type PutLast = fn(i32, bool) -> io::Result<()>;

/// What is accounted, and the two marks: flush, and refuse.
///
/// Numbers are sums that lag by a body at most. Those that a body may wait for are sequentially
/// consistent (`admission`): an exchange costs the same either way.
#[derive(Debug)]
pub(super) struct Budget {
    limit: usize,
    flush_bytes: usize,
    /// Bodies in flight, but for small ones.
    bodies: AtomicUsize,
    /// Small bodies in flight.
    small: AtomicUsize,
    /// What each shard holds.
    shards: Vec<Held>,
    /// Chunks that are being written.
    sealed: AtomicUsize,
    /// Whether a flush for bytes was asked for and has not begun.
    is_asked: AtomicBool,
    /// Where the surplus comes from; `None`: there is none.
    resident: Option<Resident>,
    surplus: AtomicUsize,
    /// Asked for by bodies since the surplus was measured.
    asked: AtomicUsize,
    /// Who waits for room.
    pub(super) line: Line,
}

/// Memory in bytes, by what it is for; all but `resident` is what is accounted.
#[derive(Clone, Copy, Debug)]
pub struct MemoryUse {
    /// The budget.
    pub limit: usize,
    /// Bodies in flight.
    pub bodies: usize,
    /// Bodies that wait for room.
    pub waiting: usize,
    /// Rows in the columns.
    pub builders: usize,
    /// Series that are known.
    pub series: usize,
    /// Rows that are being written.
    pub sealed: usize,
    /// The process, as the system counts it; `None` where it does not tell.
    pub resident: Option<u64>,
}

/// What a shard holds.
#[derive(Debug, Default)]
struct Held {
    /// Rows, which a round takes away.
    rows: AtomicUsize,
    /// Series, which stay.
    series: AtomicUsize,
}

impl Budget {
    pub(super) fn new(
        limit: usize,
        flush_bytes: usize,
        shards: usize,
        resident: Option<Resident>,
    ) -> Self {
        let this = Self {
            limit,
            flush_bytes,
            bodies: AtomicUsize::new(0),
            small: AtomicUsize::new(0),
            shards: (0..shards).map(|_| Held::default()).collect(),
            sealed: AtomicUsize::new(0),
            is_asked: AtomicBool::new(false),
            resident,
            surplus: AtomicUsize::new(0),
            asked: AtomicUsize::new(0),
            line: Line::new(),
        };
        this.measure();
        this
    }

    /// Measures the surplus, if so much was asked for that it may have changed.
    fn measure_after(&self, bytes: usize) {
        let asked = self.asked.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if self.resident.is_some() && asked >= self.limit / MEASURED_PART {
            self.asked.store(0, Ordering::Relaxed);
            self.measure();
        }
    }

    /// Measures the surplus. What is accounted before it is there hides some of it, so that the
    /// most that was found lately counts.
    fn measure(&self) {
        let Some(resident) = self.resident.and_then(|resident| resident()) else { return };
        let resident = usize::try_from(resident).unwrap_or(usize::MAX);
        let accounted = self.bodies.load(Ordering::Relaxed) + self.rest();
        let found = resident.saturating_sub(accounted);
        let last = self.surplus.load(Ordering::Relaxed);
        let kept = last - last.saturating_sub(found).div_ceil(FORGOTTEN_PART);
        let surplus = found.max(kept).min(self.limit - self.limit / SURPLUS_FREE_PART);
        self.surplus.store(surplus, Ordering::Relaxed);
    }

    /// Whether so much is resident that little is left of the limit.
    pub(super) fn is_nearly_resident(&self) -> bool {
        self.has_resident(self.limit - self.limit / GROWTH_PART)
    }

    /// Whether half of the limit is resident.
    pub(super) fn is_half_resident(&self) -> bool {
        self.has_resident(self.limit / 2)
    }

    fn has_resident(&self, bytes: usize) -> bool {
        let resident = self.resident.and_then(|resident| resident());
        resident.is_some_and(|it| usize::try_from(it).is_ok_and(|it| it >= bytes))
    }

    /// What the surplus leaves of `bytes`.
    fn besides_surplus(&self, bytes: usize) -> usize {
        bytes.saturating_sub(self.surplus.load(Ordering::Relaxed))
    }

    /// Accounts for a body that begins, if there is room: in all, and in the part that bodies may
    /// have. One that is alone may have more than that.
    pub(super) fn hold_body(&self, bytes: usize) -> bool {
        self.measure_after(bytes);
        let rest = self.rest();
        let hold = |bodies: usize| {
            let sum = bodies.checked_add(bytes)?;
            let is_alone = bodies == 0;
            let is_in_part = is_alone || sum <= self.besides_surplus(self.limit) / BODIES_PART;
            let begun_max = self.begun_max();
            let max = if is_alone { begun_max } else { self.besides_surplus(begun_max) };
            (is_in_part && sum.saturating_add(rest) <= max).then_some(sum)
        };
        self.bodies.fetch_update(Ordering::SeqCst, Ordering::SeqCst, hold).is_ok()
    }

    /// Accounts for more of a body that is in flight, if there is room beside that of small ones.
    pub(super) fn hold_more(&self, bytes: usize) -> bool {
        self.measure_after(bytes);
        self.hold_within(bytes, self.besides_surplus(self.limit - self.small_max()))
    }

    /// Accounts for a small body, if there is room among these.
    pub(super) fn hold_small(&self, bytes: usize) -> bool {
        self.measure_after(bytes);
        let others = self.bodies.load(Ordering::SeqCst) + self.rows_and_series();
        let max = self.besides_surplus(self.limit).saturating_sub(others).min(self.small_max());
        let hold = |small: usize| small.checked_add(bytes).filter(|sum| *sum <= max);
        self.small.fetch_update(Ordering::SeqCst, Ordering::SeqCst, hold).is_ok()
    }

    /// Gives back bytes of a small body; whoever waits for them is told by `give_on`.
    pub(super) fn free_small(&self, bytes: usize) {
        self.small.fetch_sub(bytes, Ordering::SeqCst);
    }

    fn small_max(&self) -> usize {
        self.limit / SMALL_PART
    }

    /// Accounts for a form, whatever the surplus is.
    pub(super) fn hold_form(&self, bytes: usize) -> bool {
        self.hold_within(bytes, self.limit)
    }

    fn hold_within(&self, bytes: usize, max: usize) -> bool {
        let rest = self.rest();
        let hold = |bodies: usize| {
            let sum = bodies.checked_add(bytes)?;
            (sum.saturating_add(rest) <= max).then_some(sum)
        };
        self.bodies.fetch_update(Ordering::SeqCst, Ordering::SeqCst, hold).is_ok()
    }

    /// Gives back bytes of bodies; whoever waits for them is told by `give_on`.
    pub(super) fn free_body(&self, bytes: usize) {
        self.bodies.fetch_sub(bytes, Ordering::SeqCst);
    }

    /// What a body of `bytes` is expected to come to, at most the part of bodies if it is not
    /// larger itself.
    pub(super) fn expected(&self, bytes: usize, price: usize) -> usize {
        bytes.saturating_mul(price).min(self.limit / BODIES_PART).max(bytes)
    }

    /// Whether a body of `bytes` fits into an empty budget.
    pub(super) fn could_hold(&self, bytes: usize) -> bool {
        bytes <= self.begun_max()
    }

    /// What may be accounted when a body begins.
    fn begun_max(&self) -> usize {
        self.limit - self.limit / GROWTH_PART
    }

    /// Everything accounted but bodies that are not small.
    fn rest(&self) -> usize {
        self.small.load(Ordering::SeqCst) + self.rows_and_series()
    }

    fn rows_and_series(&self) -> usize {
        self.sealed.load(Ordering::SeqCst) + self.rows() + self.series()
    }

    /// What is accounted, by what it is for.
    pub(super) fn parts(&self) -> MemoryUse {
        MemoryUse {
            limit: self.limit,
            bodies: self.bodies.load(Ordering::Relaxed) + self.small.load(Ordering::Relaxed),
            waiting: self.line.len(),
            builders: self.rows(),
            series: self.series(),
            sealed: self.sealed.load(Ordering::Relaxed),
            resident: None,
        }
    }

    fn rows(&self) -> usize {
        self.shards.iter().map(|it| it.rows.load(Ordering::SeqCst)).sum()
    }

    fn series(&self) -> usize {
        self.shards.iter().map(|it| it.series.load(Ordering::SeqCst)).sum()
    }

    /// Whether series take so much that the next round should have them forgotten.
    pub(super) fn is_tight(&self) -> bool {
        self.series() > self.limit / 8
    }

    /// Notes what a shard holds; true when a flush should begin and was not asked for yet.
    pub(super) fn hold(this: &Arc<Self>, shard: usize, rows: usize, series: usize) -> bool {
        if let Some(held) = this.shards.get(shard) {
            let before = held.rows.swap(rows, Ordering::SeqCst);
            let before = before.saturating_add(held.series.swap(series, Ordering::SeqCst));
            if rows.saturating_add(series) < before {
                Self::give_on(this);
            }
        }
        this.is_flush_worthwhile() && this.asks_for_flush()
    }

    /// True once between two rounds.
    pub(super) fn asks_for_flush(&self) -> bool {
        !self.is_asked.swap(true, Ordering::Relaxed)
    }

    /// Whether a round makes files worth having, or room that is needed. With fewer rows it is
    /// bodies and rows being written that take the room, and these give it back by themselves.
    pub(super) fn is_flush_worthwhile(&self) -> bool {
        let room = self.besides_surplus(self.begun_max());
        self.rows() >= self.flush_bytes.min(room / FLUSH_PART) || self.is_tight()
    }

    /// A round has begun, or was found not to be needed.
    pub(super) fn flush_begun(&self) {
        self.is_asked.store(false, Ordering::Relaxed);
    }

    /// Notes chunks that left the shards.
    pub(super) fn seal(&self, bytes: usize) {
        self.sealed.fetch_add(bytes, Ordering::SeqCst);
    }

    /// Notes chunks that are in files.
    pub(super) fn release(this: &Arc<Self>, bytes: usize) {
        this.sealed.fetch_sub(bytes, Ordering::SeqCst);
        Self::give_on(this);
    }
}
