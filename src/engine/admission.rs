//! Admission: room for a body before it is read, at once or after a short wait for it.
//!
//! ```text
//! Engine::admit -- nobody waits, and it fits --> Admission        atomics, nothing else
//!      |  else
//!      +--> FairQueue --- bytes are given back ---> Admission     `WAIT_MAX` at most
//!                     \-- they are not -----------> 503, Retry-After
//! ```
//!
//! Whoever gives bytes back looks whether anybody waits, and then gives the room on itself: there
//! is no thread and no timer for it. One that begins to wait says so before it looks a last time
//! whether there is room; both sides are sequentially consistent, so that one of them sees the
//! other, and no room is left lying while somebody waits for it.
//!
//! A guard is in the channel to whoever waits, or with them, or dropped: bytes are neither lost nor
//! given twice, whoever goes away when.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::Engine;
use super::budget::Budget;
use super::flusher::Event;
use super::queue::{FairQueue, QueueTicket, Tenant};
use super::shard::monotonic_clock;
use crate::error::{BusyReason, WriteError};

/// How long a body waits for room.
const WAIT_MAX: Duration = Duration::from_secs(4);
/// Bodies that wait at once.
const WAITING_MAX: usize = 1024;
/// Bounds of the wait that a refused client is asked for, in seconds.
const RETRY_AFTER_S_MIN: u16 = 1;
const RETRY_AFTER_S_MAX: u16 = 30;

/// The bytes of a body in flight; given back when dropped.
#[derive(Debug)]
pub struct Admission {
    budget: Arc<Budget>,
    bytes: usize,
    /// Whether they are of the room for small bodies.
    is_small: bool,
}

impl Admission {
    /// Bytes accounted.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Accounts for `bytes` in all: the body turned out to be larger. Room is kept for bodies in
    /// flight that grow, so that this does not wait.
    ///
    /// # Errors
    /// `Busy(MemoryFull)`; it stays as it is then.
    pub fn grow(&mut self, bytes: usize) -> Result<(), WriteError> {
        if bytes <= self.bytes {
            return Ok(());
        }
        let more = if self.is_small { bytes } else { bytes - self.bytes };
        if !self.budget.hold_more(more) {
            return Err(self.budget.line.refusal());
        }
        if std::mem::take(&mut self.is_small) {
            Budget::give_back_small(&self.budget, self.bytes);
        }
        self.bytes = bytes;
        Ok(())
    }

    /// Gives back all but `bytes`.
    pub fn shrink(&mut self, bytes: usize) {
        let less = self.bytes.saturating_sub(bytes);
        self.bytes -= less;
        self.give_back(less);
    }

    fn give_back(&self, bytes: usize) {
        if self.is_small {
            Budget::give_back_small(&self.budget, bytes);
        } else {
            Budget::give_back(&self.budget, bytes);
        }
    }

    /// The bytes, for whoever gives them back instead.
    fn into_bytes(mut self) -> usize {
        std::mem::take(&mut self.bytes)
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.give_back(self.bytes);
        }
    }
}

/// Who waits for room of a budget.
#[derive(Debug)]
pub(super) struct Line {
    /// Places taken in `queue`, or about to be.
    waiting: AtomicUsize,
    queue: Mutex<Waiters>,
}

#[derive(Debug)]
struct Waiters {
    queue: FairQueue<oneshot::Sender<Admission>>,
    /// Since when anybody waits, and the bytes given on since then.
    since: Option<Instant>,
    given: u64,
}

/// One that waits; its drop leaves the queue.
struct Place {
    budget: Arc<Budget>,
    ticket: QueueTicket,
    room: oneshot::Receiver<Admission>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let line = &self.budget.line;
        let left = line.lock().queue.remove(self.ticket);
        if left.is_some() {
            line.waiting.fetch_sub(1, Ordering::SeqCst);
            // It may have stood before others that fit.
            Budget::give_on(&self.budget);
        }
    }
}

impl Line {
    pub(super) fn new() -> Self {
        let queue = FairQueue::new(WAITING_MAX);
        let waiters = Waiters { queue, since: None, given: 0 };
        Self { waiting: AtomicUsize::new(0), queue: Mutex::new(waiters) }
    }

    /// Bodies that wait for room.
    pub(super) fn len(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    fn lock(&self) -> MutexGuard<'_, Waiters> {
        // Nothing panics while it is held; were it so, counts would still be whole.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// "Try again", with an estimate of when those who wait will have been served: as fast as it
    /// went since anybody waits. Where nothing was given on yet, as long again as it has lasted.
    fn refusal(&self) -> WriteError {
        let waiters = self.lock();
        let lasted = waiters.since.map_or(0, |since| {
            u64::try_from(monotonic_clock().saturating_duration_since(since).as_millis())
                .unwrap_or(u64::MAX)
        });
        let left_ms = match waiters.given {
            0 => lasted,
            given => lasted.saturating_mul(waiters.queue.bytes() as u64) / given,
        };
        let seconds = u16::try_from(left_ms.div_ceil(1000)).unwrap_or(RETRY_AFTER_S_MAX);
        let retry_after_s = seconds.clamp(RETRY_AFTER_S_MIN, RETRY_AFTER_S_MAX);
        BusyReason::MemoryFull { retry_after_s }.into()
    }
}

impl Budget {
    /// Accounts for a body, if there is room and nobody waits for it.
    pub(super) fn admit(this: &Arc<Self>, bytes: usize) -> Option<Admission> {
        let is_free = this.line.len() == 0 && this.hold_body(bytes);
        is_free.then(|| Admission { budget: Arc::clone(this), bytes, is_small: false })
    }

    /// Gives back bytes of bodies.
    fn give_back(this: &Arc<Self>, bytes: usize) {
        this.free_body(bytes);
        Self::give_on(this);
    }

    /// Gives back bytes of small bodies.
    fn give_back_small(this: &Arc<Self>, bytes: usize) {
        this.free_small(bytes);
        Self::give_on(this);
    }

    /// Gives room to those who wait, in their turn. To be called wherever bytes are given back.
    pub(super) fn give_on(this: &Arc<Self>) {
        while this.line.len() > 0 {
            let mut waiters = this.line.lock();
            let Some((bytes, waiter)) = waiters.queue.pop(|bytes| this.hold_body(bytes)) else {
                return;
            };
            waiters.given += bytes as u64;
            drop(waiters);
            this.line.waiting.fetch_sub(1, Ordering::SeqCst);
            let admission = Admission { budget: Arc::clone(this), bytes, is_small: false };
            if let Err(admission) = waiter.send(admission) {
                // Whoever waited has gone; the loop gives its bytes to the next one.
                this.free_body(admission.into_bytes());
            }
        }
    }

    /// Takes a place in the queue.
    fn wait(this: &Arc<Self>, tenant: Tenant<'_>, bytes: usize) -> Place {
        let (waiter, room) = oneshot::channel();
        this.line.waiting.fetch_add(1, Ordering::SeqCst);
        let mut waiters = this.line.lock();
        if waiters.queue.is_empty() {
            waiters.since = Some(monotonic_clock());
            waiters.given = 0;
        }
        let (ticket, gave_way) = waiters.queue.push(tenant, bytes, waiter);
        drop(waiters);
        if gave_way.is_some() {
            this.line.waiting.fetch_sub(1, Ordering::SeqCst);
        }
        Self::give_on(this);
        Place { budget: Arc::clone(this), ticket, room }
    }
}

impl Engine {
    /// Accounts for a body of `bytes` that is expected to come to `price` times as many, until the
    /// guard is dropped. Where there is no room it waits for some, a few seconds at most; see
    /// `queue` for whose turn it is. What is expected is never more than bodies may have.
    ///
    /// # Errors
    /// `Busy(MemoryFull)`: rows not yet written fill the budget, and a flush is under way.
    pub async fn admit(
        &self,
        tenant: Tenant<'_>,
        bytes: usize,
        price: usize,
    ) -> Result<Admission, WriteError> {
        let bytes = self.budget.expected(bytes, price);
        let admitted = Budget::admit(&self.budget, bytes);
        if let Some(admission) = admitted {
            return Ok(admission);
        }
        self.ask_for_flush();
        if !self.budget.could_hold(bytes) {
            return Err(self.budget.line.refusal());
        }
        let begun = monotonic_clock();
        let mut place = Budget::wait(&self.budget, tenant, bytes);
        let waited = timeout(WAIT_MAX, &mut place.room).await;
        self.stats.admission_waits.observe(monotonic_clock().saturating_duration_since(begun));
        match waited {
            Ok(Ok(admission)) => Ok(admission),
            // It had to give way, or has waited for too long.
            Ok(Err(_)) | Err(_) => Err(self.budget.line.refusal()),
        }
    }

    /// As [`Self::admit`] where the sender is not to wait: a form, of at most some kilobytes. It
    /// may use the room that is kept for bodies that grow.
    ///
    /// # Errors
    /// `Busy(MemoryFull)`.
    pub fn admit_form(&self, bytes: usize) -> Result<Admission, WriteError> {
        if !self.budget.hold_form(bytes) {
            return Err(self.budget.line.refusal());
        }
        Ok(Admission { budget: Arc::clone(&self.budget), bytes, is_small: false })
    }

    /// Accounts for a small body in the room that only these have, past those that wait, and
    /// without a wait. `None`: there is none left, and it is to be admitted as any other.
    pub fn admit_small(&self, bytes: usize) -> Option<Admission> {
        let is_held = self.budget.hold_small(bytes);
        is_held.then(|| Admission { budget: Arc::clone(&self.budget), bytes, is_small: true })
    }

    /// Asks for a flush, if none was asked for yet.
    fn ask_for_flush(&self) {
        if self.budget.asks_for_flush() {
            // The flusher ends only with the engine; then bodies are refused.
            let _ = self.events.send(Event::Full);
        }
    }
}
