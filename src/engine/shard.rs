//! One shard: the tables of one thread, and what the flusher may ask of them.
//!
//! ```text
//! reservation -> apply (rows in the columns) -> journal.append -> ticket -> 204
//! ```
//!
//! The record follows the rows without a pause in between, on one thread: the records of a shard
//! are in the order of its rows, and whoever seals its tables seals whole records.

use std::borrow::Cow;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, PoisonError, mpsc};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tokio::runtime;
use tokio::sync::{mpsc as async_mpsc, oneshot};

use super::Engine;
use super::apply::{Applied, Circumstances, WriteRequest, apply};
use super::budget::Budget;
use super::codes;
use super::flusher::Event;
use super::rejected::Allowance;
use super::retries::{Claim, Open};
use crate::decode::inflate::Encoding;
use crate::decode::{Report, json};
use crate::error::{BusyReason, WriteError};
use crate::gather::{Chunk, Registry, Tables};
use crate::journal::{Body, Entry, Journal, Reservation, Ticket, Write};

/// What the flusher asks of a shard.
#[derive(Debug)]
pub(super) enum Command {
    /// Seal all tables, or those of one database.
    Seal {
        /// The database, or all.
        database: Option<String>,
        /// Whether series are to be forgotten.
        is_tight: bool,
        /// Where the chunks go.
        reply: oneshot::Sender<Sealed>,
    },
    /// Forget a database and its rows.
    Drop {
        /// The database.
        database: String,
        /// Told when it is done.
        reply: oneshot::Sender<()>,
        /// Until the other end says more, or is gone, the shard stands still.
        resumed: mpsc::Receiver<()>,
    },
}

/// What `shard` answers to a command; `None`: it has ended.
///
/// A command that is sent just as its shard ends can stay in the channel for as long as that has a
/// sender: neither seen nor dropped, it would be waited for in vain.
pub(super) fn answer<T>(
    shard: &async_mpsc::UnboundedSender<Command>,
    mut reply: oneshot::Receiver<T>,
) -> Option<T> {
    #[expect(clippy::expect_used, reason = "without drivers there is nothing that could fail")]
    let waiting = runtime::Builder::new_current_thread().build().expect("a runtime of nothing");
    waiting.block_on(async {
        tokio::select! {
            biased;
            answer = &mut reply => answer.ok(),
            () = shard.closed() => reply.try_recv().ok(),
        }
    })
}

/// What a shard gave away: all rows of its records up to `upto`, or those of one database.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) shard: u16,
    /// No row is in a record before this one.
    pub(super) since: u64,
    /// The last sequence that was given out before the seal.
    pub(super) upto: u64,
    pub(super) chunks: Vec<Chunk>,
}

/// What a body needs before it is decoded: room for its record, and to be new or known.
#[derive(Debug)]
pub struct Place {
    pub(super) reservation: Reservation,
    pub(super) claim: Claim,
}

/// The bytes of a body.
#[derive(Debug)]
pub struct ReceivedBody<'a> {
    /// As received; the journal keeps it until it is on disk.
    pub received: Vec<u8>,
    /// How that is compressed.
    pub encoding: Encoding,
    /// Inflated; empty for [`Encoding::Identity`], which is decoded from `received`.
    pub inflated: &'a mut Vec<u8>,
}

/// A write whose rows are in the columns and whose record is on its way to the disk.
#[derive(Debug)]
#[must_use = "rows are acknowledged when they are stored"]
pub struct Written<A> {
    answer: A,
    record: Storing,
}

/// Where the record of a write is.
#[derive(Debug)]
enum Storing {
    /// There is nothing to wait for: the buffer of the received body.
    Done(Vec<u8>),
    /// On its way.
    Underway(Ticket),
}

impl<A> Written<A> {
    /// Makes something else of the answer.
    pub fn map<B>(self, to: impl FnOnce(A) -> B) -> Written<B> {
        Written { answer: to(self.answer), record: self.record }
    }

    /// Gives back the answer without waiting: the rows are in memory, and their record is on its
    /// way. The next request that waits waits for it too.
    pub fn in_memory(self) -> A {
        self.answer
    }

    /// Waits until the rows are as durable as the server was told to make them; gives back the
    /// answer and the buffer of the received body.
    ///
    /// # Errors
    /// `Busy(JournalFailed)`: the rows may be stored or not, and the server stops.
    pub async fn stored(self) -> Result<(A, Vec<u8>), WriteError> {
        let received = match self.record {
            Storing::Done(received) => received,
            Storing::Underway(ticket) => {
                ticket.await.map_err(|_| WriteError::Busy(BusyReason::JournalFailed))?
            }
        };
        Ok((self.answer, received))
    }
}

/// The tables of one thread. Lives on that thread, in an `Rc<RefCell<_>>`.
///
/// When it is dropped, the rows it holds go to the flusher.
#[derive(Debug)]
pub struct Shard {
    index: usize,
    registry: Arc<Registry>,
    journal: Arc<Journal>,
    tables: Tables,
    budget: Arc<Budget>,
    events: mpsc::Sender<Event>,
    commands: Option<async_mpsc::UnboundedReceiver<Command>>,
    /// What JSON is read in.
    scratch: json::Scratch,
    /// For rows that are refused.
    allowance: Allowance,
    /// Whether rows came since the last seal.
    is_dirty: bool,
    /// The first record appended since all tables were sealed.
    since: Option<u64>,
}

impl Shard {
    /// The shard `index` of `engine`.
    pub fn new(engine: &Engine, index: usize) -> Self {
        let mut commands = engine.commands.lock().unwrap_or_else(PoisonError::into_inner);
        Self {
            index,
            registry: Arc::clone(&engine.registry),
            journal: Arc::clone(&engine.journal),
            tables: Tables::new(Arc::clone(&engine.registry)),
            budget: Arc::clone(&engine.budget),
            events: engine.events.clone(),
            commands: commands.get_mut(index).and_then(Option::take),
            scratch: json::Scratch::default(),
            allowance: Allowance::new(engine.limits().rejected_per_second_max, monotonic_clock()),
            is_dirty: false,
            since: None,
        }
    }

    /// Does what the flusher asks, until the engine is gone. A task of the shard's thread.
    pub async fn commands(shard: Rc<RefCell<Self>>) {
        let commands = shard.borrow_mut().commands.take();
        let Some(mut commands) = commands else { return };
        while let Some(command) = commands.recv().await {
            shard.borrow_mut().obey(command);
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Seal { database, is_tight, reply } => {
                let sealed = self.seal(database.as_deref(), is_tight);
                self.is_dirty = database.is_some() && self.is_dirty;
                self.account();
                if let Err(sealed) = reply.send(sealed) {
                    // The round was given up; the rows are not.
                    self.tell(Event::Left(sealed));
                }
            }
            Command::Drop { database, reply, resumed } => {
                self.tables.drop_database(&database);
                self.account();
                // Nobody waiting is nobody to tell.
                let _ = reply.send(());
                let _ = resumed.recv();
            }
        }
    }

    /// Decodes a body into the tables and appends it to the journal. `answer` is made of what
    /// became of its rows and of the inflated body.
    ///
    /// Rows are taken one by one unless the request is atomic; what was refused is in the report.
    /// A request that was stored before gets its answer, and no second rows; see `retries`.
    /// Cost: one pass over the body; see the copy ledger in ARCHITECTURE.md.
    ///
    /// # Errors
    /// `TooManyDatabases`. A refused row is no error.
    pub fn write<A>(
        &mut self,
        request: &WriteRequest<'_>,
        place: Place,
        body: ReceivedBody<'_>,
        answer: impl FnOnce(&Report, &[u8]) -> A,
    ) -> Result<Written<A>, WriteError> {
        let ReceivedBody { mut received, encoding, inflated } = body;
        let Place { reservation, claim } = place;
        let (open, stored_at) = match claim {
            Claim::New(open) => (open, None),
            Claim::Stored(sequence) => (None, Some(sequence)),
        };
        let circumstances = Circumstances {
            received_ns: wall_clock(),
            rejected_kept_max: self.allowance.left(monotonic_clock()),
            is_stored: stored_at.is_some(),
        };
        let bytes = if encoding == Encoding::Identity { &mut received } else { inflated };
        let Self { tables, scratch, registry, .. } = self;
        let applied = apply(tables, scratch, registry, request, circumstances, bytes)?;
        self.allowance.take(applied.rejected_kept);
        let answer = answer(&applied.report, applied.body(bytes));
        let shared = applied.shared.clone().filter(|_| encoding == Encoding::Identity);
        let record = match stored_at {
            Some(sequence) => self.wait_for(sequence, reservation, received),
            None if applied.is_nothing() => Storing::Done(received),
            None => {
                let open = open.filter(|_| applied.is_repeatable(request));
                let key = open.as_ref().map_or(0, Open::key);
                let write = self.record(request, circumstances, encoding, &applied, key);
                let body = match shared {
                    Some(shared) => Body::Shared(Arc::new(shared)),
                    None => Body::Lent(received),
                };
                let ticket = self.journal.append(reservation, &Entry::Write(write), body);
                self.since = self.since.or_else(|| Some(ticket.sequence()));
                if let Some(open) = open {
                    open.store(ticket.sequence());
                }
                Storing::Underway(ticket)
            }
        };
        if !self.is_dirty && self.tables.row_bytes() > 0 {
            self.is_dirty = true;
            self.tell(Event::Dirty(monotonic_clock()));
        }
        self.account();
        Ok(Written { answer, record })
    }

    /// What the journal keeps beside the body.
    fn record<'a>(
        &self,
        request: &WriteRequest<'a>,
        circumstances: Circumstances,
        encoding: Encoding,
        applied: &Applied,
        request_key: u128,
    ) -> Write<'a> {
        let Applied { report, rejected_kept, .. } = applied;
        Write {
            shard: codes::shard(self.index),
            database: request.database,
            endpoint: request.endpoint,
            measurement: request.parameters.measurement.unwrap_or_default(),
            time: request.parameters.time.unwrap_or_default(),
            tags: request.parameters.tags,
            format: codes::of_format(request.format),
            precision: codes::of_precision(request.precision),
            encoding: codes::of_encoding(encoding),
            flags: if request.atomic { codes::ATOMIC } else { 0 },
            received_ns: circumstances.received_ns,
            accepted: saturated(report.accepted),
            rejected: saturated(report.rejected),
            rejected_kept: u16::try_from(*rejected_kept).unwrap_or(u16::MAX),
            digest: report.digest(),
            request_key,
        }
    }

    /// Waits for a record that was appended before, by any shard.
    fn wait_for(&self, sequence: u64, reservation: Reservation, received: Vec<u8>) -> Storing {
        if sequence <= self.journal.durable() {
            return Storing::Done(received);
        }
        // What is appended behind it is durable no sooner.
        let nothing = Entry::Keys(Cow::Borrowed(&[]));
        Storing::Underway(self.journal.append(reservation, &nothing, received))
    }

    /// Takes all rows, or those of one database.
    fn seal(&mut self, database: Option<&str>, is_tight: bool) -> Sealed {
        let chunks = self.tables.take_chunks(database, is_tight);
        let upto = self.journal.last_sequence();
        let since = self.since.unwrap_or(upto);
        if database.is_none() {
            self.since = None;
        }
        Sealed { shard: codes::shard(self.index), since, upto, chunks }
    }

    /// Publishes what this shard holds, and asks for a flush when that is too much.
    fn account(&self) {
        let (rows, series) = (self.tables.row_bytes(), self.tables.series_bytes());
        if Budget::hold(&self.budget, self.index, rows, series) {
            self.tell(Event::Full);
        }
    }

    /// Sends an event. The flusher outlives the shards: `Engine::close` comes after them.
    fn tell(&self, event: Event) {
        if self.events.send(event).is_err() {
            tracing::error!("the flusher is gone before its shards");
        }
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        let sealed = self.seal(None, true);
        if !sealed.chunks.is_empty() {
            self.tell(Event::Left(sealed));
        }
        self.account();
    }
}

/// A count of rows of one body, which has fewer than this holds.
pub(super) fn saturated(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Nanoseconds since 1970-01-01 UTC: the time of rows that carry none.
#[expect(clippy::disallowed_methods, reason = "the engine is where time comes from")]
pub(super) fn wall_clock() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// For ages and deadlines.
#[expect(clippy::disallowed_methods, reason = "the engine is where time comes from")]
pub(super) fn monotonic_clock() -> Instant {
    Instant::now()
}
