//! The memory that rows and bodies may take, in bytes accounted, not in bytes of the allocator.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// What is accounted, and the two marks: flush, and refuse.
///
/// The counters are relaxed: they are sums that lag by a body at most, and order nothing.
#[derive(Debug)]
pub(super) struct Budget {
    limit: usize,
    flush_bytes: usize,
    /// Bodies in flight.
    bodies: AtomicUsize,
    /// What each shard holds.
    shards: Vec<Held>,
    /// Chunks that are being written.
    sealed: AtomicUsize,
    /// Whether a flush for bytes was asked for and has not begun.
    is_asked: AtomicBool,
}

/// Memory in bytes, by what it is for; all but `resident` is what is accounted.
#[derive(Clone, Copy, Debug)]
pub struct MemoryUse {
    /// The budget.
    pub limit: usize,
    /// Bodies in flight.
    pub bodies: usize,
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

/// The bytes of a body in flight; given back when dropped.
#[derive(Debug)]
pub struct Admission {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Admission {
    /// Accounts for `bytes` instead: the body turned out to be of another size.
    pub fn resize(&mut self, bytes: usize) {
        self.budget.bodies.fetch_add(bytes, Ordering::Relaxed);
        self.budget.bodies.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = bytes;
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.budget.bodies.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Budget {
    pub(super) fn new(limit: usize, flush_bytes: usize, shards: usize) -> Self {
        Self {
            limit,
            flush_bytes,
            bodies: AtomicUsize::new(0),
            shards: (0..shards).map(|_| Held::default()).collect(),
            sealed: AtomicUsize::new(0),
            is_asked: AtomicBool::new(false),
        }
    }

    /// Accounts for a body, if there is room.
    pub(super) fn admit(this: &Arc<Self>, bytes: usize) -> Option<Admission> {
        if this.used().saturating_add(bytes) > this.limit {
            return None;
        }
        this.bodies.fetch_add(bytes, Ordering::Relaxed);
        Some(Admission { budget: Arc::clone(this), bytes })
    }

    /// Everything accounted.
    pub(super) fn used(&self) -> usize {
        self.bodies.load(Ordering::Relaxed)
            + self.sealed.load(Ordering::Relaxed)
            + self.rows()
            + self.series()
    }

    /// What is accounted, by what it is for.
    pub(super) fn parts(&self) -> MemoryUse {
        MemoryUse {
            limit: self.limit,
            bodies: self.bodies.load(Ordering::Relaxed),
            builders: self.rows(),
            series: self.series(),
            sealed: self.sealed.load(Ordering::Relaxed),
            resident: None,
        }
    }

    fn rows(&self) -> usize {
        self.shards.iter().map(|it| it.rows.load(Ordering::Relaxed)).sum()
    }

    fn series(&self) -> usize {
        self.shards.iter().map(|it| it.series.load(Ordering::Relaxed)).sum()
    }

    /// Whether series take so much that the next round should have them forgotten.
    pub(super) fn is_tight(&self) -> bool {
        self.series() > self.limit / 8
    }

    /// Notes what a shard holds; true when a flush should begin and was not asked for yet.
    pub(super) fn hold(&self, shard: usize, rows: usize, series: usize) -> bool {
        if let Some(held) = self.shards.get(shard) {
            held.rows.store(rows, Ordering::Relaxed);
            held.series.store(series, Ordering::Relaxed);
        }
        (self.rows() >= self.flush_bytes || self.is_tight()) && self.asks_for_flush()
    }

    /// True once between two rounds.
    pub(super) fn asks_for_flush(&self) -> bool {
        !self.is_asked.swap(true, Ordering::Relaxed)
    }

    /// Whether a round makes files worth having, or room that is needed.
    pub(super) fn is_flush_worthwhile(&self) -> bool {
        self.rows() >= self.flush_bytes / 2 || self.is_tight()
    }

    /// A round has begun, or was found not to be needed.
    pub(super) fn flush_begun(&self) {
        self.is_asked.store(false, Ordering::Relaxed);
    }

    /// Notes chunks that left the shards.
    pub(super) fn seal(&self, bytes: usize) {
        self.sealed.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Notes chunks that are in files.
    pub(super) fn release(&self, bytes: usize) {
        self.sealed.fetch_sub(bytes, Ordering::Relaxed);
    }
}
