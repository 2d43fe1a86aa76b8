//! Turns on a shard, which is one thread; and inflation, on another one where it is long.
//!
//! ```text
//! small ---------------------------------------------------------------> decode
//! other -- turn, by tenant -- inflated: a little here, else on a thread --> decode, the next turn
//! ```
//!
//! Bodies that have arrived are decoded in the order of [`FairQueue`], not of their connections: a
//! tenant with a hundred connections gets what one with a single connection gets, if both ask for
//! it. Whoever waits for a turn is not in the thread's queue of what is ready to run, so that a
//! small body waits for one of these at most, however many there are; and the thread that inflates
//! a large one has the scheduler of the system to share the processor.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tokio::sync::oneshot;
use tokio::task::{spawn_blocking, yield_now};

use super::body::{self, Account, Pooled};
use super::connection::Context;
use crate::engine::{Encoding, FairQueue, Inflater, QueueTicket, Tenant};
use crate::error::{BusyReason, ClientError, WriteError};
use crate::limits::Limits;

/// Bodies of more bytes take turns, and so do compressed ones.
const TURN_BYTES_MIN: usize = 4 << 10;
/// Inflated by the shard, for each byte received: more than agents compress by. What comes to more
/// begins again on a thread, and so does what comes to more than the largest of these.
const INFLATED_HERE_RATIO: usize = 16;
const INFLATED_HERE_MIN: usize = 256 << 10;
const INFLATED_HERE_MAX: usize = 1 << 20;

/// The turns of one shard. A body has one until its rows are in the columns.
#[derive(Debug)]
pub(super) struct Turns {
    /// Admission bounds how many there can be.
    queue: RefCell<FairQueue<oneshot::Sender<Turn>>>,
    is_taken: Cell<bool>,
}

/// The turn of one body; its drop gives the next one.
#[derive(Debug)]
pub(super) struct Turn(Rc<Turns>);

/// One that waits for its turn; its drop leaves the queue.
struct Place<'a> {
    turns: &'a Turns,
    ticket: QueueTicket,
    turn: oneshot::Receiver<Turn>,
}

impl Default for Turns {
    fn default() -> Self {
        Self { queue: RefCell::new(FairQueue::new(usize::MAX)), is_taken: Cell::new(false) }
    }
}

impl Turns {
    /// Waits for the turn of a body of `bytes`; `None`: it needs none.
    pub(super) async fn take(
        self: &Rc<Self>,
        tenant: Tenant<'_>,
        encoding: Encoding,
        bytes: usize,
    ) -> Option<Turn> {
        if encoding == Encoding::Identity && bytes <= TURN_BYTES_MIN {
            return None;
        }
        let (next, turn) = oneshot::channel();
        let (ticket, _) = self.queue.borrow_mut().push(tenant, bytes, next);
        let mut place = Place { turns: self, ticket, turn };
        // Whoever is ready, too, comes into the queue before one of them is chosen.
        yield_now().await;
        if !self.is_taken.get() {
            self.give();
        }
        // It is never refused: the queue has no end.
        (&mut place.turn).await.ok()
    }

    /// Gives the turn to whoever is next.
    fn give(self: &Rc<Self>) {
        self.is_taken.set(false);
        let next = self.queue.borrow_mut().pop(|_| true);
        if let Some((_, next)) = next {
            self.is_taken.set(true);
            // The turn of one that has gone comes back by its drop.
            drop(next.send(Turn(Rc::clone(self))));
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.turns.queue.borrow_mut().remove(self.ticket);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.give();
    }
}

/// A body that may be decoded.
pub(super) struct Ready {
    /// How it was compressed.
    pub(super) encoding: Encoding,
    /// Empty where it was not.
    pub(super) inflated: Pooled,
    /// Its turn among those of its tenant and of others.
    pub(super) turn: Option<Turn>,
}

/// Inflates what was received, if its head, by `named`, or its first bytes ask for it, in its turn
/// among those of `tenant` and of others.
///
/// # Errors
/// As [`Inflater::inflate`].
pub(super) async fn inflate(
    context: &Context,
    tenant: Tenant<'_>,
    named: Option<Encoding>,
    received: &mut Pooled,
    account: &mut Account<'_>,
) -> Result<Ready, WriteError> {
    let encoding = match named.unwrap_or_else(|| Encoding::sniff(&received.bytes)) {
        _ if received.bytes.is_empty() => Encoding::Identity,
        encoding => encoding,
    };
    let held = received.bytes.len();
    let turn = context.turns.take(tenant, encoding, held).await;
    if encoding == Encoding::Identity {
        return Ok(Ready { encoding, inflated: context.pool.take(0), turn });
    }
    let limits = context.engine.limits();
    let here_max = held.saturating_mul(INFLATED_HERE_RATIO);
    let here_max = here_max.clamp(INFLATED_HERE_MIN, INFLATED_HERE_MAX);
    let mut inflated = context.pool.take(here_max as u64);
    let here = Limits { inflated_bytes_max: here_max.min(limits.inflated_bytes_max), ..*limits };
    let done = context.inflater.borrow_mut().inflate(
        encoding,
        &received.bytes,
        &mut inflated.bytes,
        &here,
        &mut |bytes| account.hold(held + bytes),
    );
    let is_larger = matches!(done, Err(WriteError::Client(ClientError::InflatedTooLarge { .. })));
    if is_larger && here.inflated_bytes_max < limits.inflated_bytes_max {
        inflated.bytes.clear();
        beside(*limits, encoding, received, &mut inflated, account).await?;
    } else {
        done?;
    }
    Ok(Ready { encoding, inflated, turn })
}

/// Inflates on a thread. It goes on there when the client goes away, with what it holds.
async fn beside(
    limits: Limits,
    encoding: Encoding,
    received: &mut Pooled,
    inflated: &mut Pooled,
    account: &mut Account<'_>,
) -> Result<(), WriteError> {
    let input = std::mem::take(&mut received.bytes);
    let mut output = std::mem::take(&mut inflated.bytes);
    let mut admission = account.admission().take();
    let work = spawn_blocking(move || {
        let done =
            Inflater::default().inflate(encoding, &input, &mut output, &limits, &mut |bytes| {
                // While it grows there are two of it, the other half as large.
                body::hold(&mut admission, input.len() + bytes + bytes / 2)
            });
        (done, input, output, admission)
    });
    match work.await {
        Ok((done, input, output, admission)) => {
            *account.admission() = admission;
            received.bytes = input;
            inflated.bytes = output;
            done
        }
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(BusyReason::ShuttingDown.into()),
        },
    }
}
