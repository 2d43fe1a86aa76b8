//! Turns: bodies that have arrived are decoded in the order of [`FairQueue`], not of connections.
//!
//! A tenant with a hundred connections gets what one with a single connection gets, if both ask for
//! it. Whoever waits for a turn is not in the thread's queue of what is ready to run, so that a
//! small body waits for one of these at most, however many there are.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tokio::sync::oneshot;
use tokio::task::yield_now;

use crate::engine::{Encoding, FairQueue, QueueTicket, Tenant};

/// Bodies of more bytes take turns, and so do compressed ones.
const TURN_BYTES_MIN: usize = 4 << 10;

/// The turns of one thread. A body has one until its rows are in the columns.
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
        let turn = (&mut place.turn).await.ok();
        // Turns that follow each other would leave sockets alone for dozens of tasks: what has
        // arrived meanwhile goes first.
        yield_now().await;
        turn
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
