//! The thread that decides when rows are written, and knows what is still being written.
//!
//! A *round* seals the tables of all shards and queues one job for each table. Rounds begin by age
//! ([`Event::Dirty`]), by bytes ([`Event::Full`]), by request and at the close. Whoever waits for
//! a round waits for all jobs queued up to then: rows accepted earlier may be among them.
//!
//! A round over all shards also says how far the journal will have been published when its jobs,
//! and all before them, are done: only then is what lies below recycled.
//!
//! A dropped database is forgotten by all shards at one place of the journal: they stand still
//! until its record is appended there. Until its files are gone, its new rows are parked.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc as async_mpsc, oneshot};

use super::budget::{Budget, Trim};
use super::publisher::{Publisher, by_table};
use super::rejected::REJECTED;
use super::retries::{Retries, recycle};
use super::shard::{Command, Sealed, answer, monotonic_clock};
use super::writer::{Outcome, Writers};
use super::{FlushReport, Sabotage};
use crate::error::{BusyReason, ServerError, WriteError};
use crate::gather::{Chunk, Registry};
use crate::journal::{Entry, Journal};
use crate::stats::Stats;

/// Wait before another try to remove the files of a dropped database.
const REMOVE_AGAIN: Duration = Duration::from_millis(500);

/// Where a result goes. Nobody waiting is nobody to tell.
type Reply<T> = oneshot::Sender<Result<T, WriteError>>;

/// What the flusher is told.
#[derive(Debug)]
pub(super) enum Event {
    /// A shard got its first rows since the last seal.
    Dirty(Instant),
    /// The builders hold enough to be written.
    Full,
    /// A client asks for a flush.
    Flush { database: Option<String>, reply: Reply<FlushReport> },
    /// A client drops a database.
    Drop { database: String, reply: Reply<()> },
    /// Rows outside a round: of a shard that ended, or of a replay.
    Left(Sealed),
    /// A job failed and is tried again.
    Tried { number: u64, error: WriteError },
    /// A job ended.
    Done { number: u64, bytes: usize, outcome: Outcome },
    /// Somebody asks whether this thread, and the shards that it waits for, get on.
    Ask { reply: mpsc::Sender<()> },
    /// Write what is left and end.
    Close { reply: Reply<()> },
}

/// What the flusher is connected to.
#[derive(Debug)]
pub(super) struct Wiring {
    pub(super) registry: Arc<Registry>,
    pub(super) publisher: Arc<Publisher>,
    pub(super) sabotage: Option<Sabotage>,
    pub(super) journal: Arc<Journal>,
    pub(super) retries: Arc<Retries>,
    pub(super) stats: Arc<Stats>,
    pub(super) budget: Arc<Budget>,
    pub(super) shards: Vec<async_mpsc::UnboundedSender<Command>>,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) trim: Option<Trim>,
}

/// Somebody who waits for the jobs below `upto`.
#[derive(Debug)]
struct Waiter {
    upto: u64,
    report: FlushReport,
    then: Then,
}

/// What happens when the wait is over.
#[derive(Debug)]
enum Then {
    Answer(Reply<FlushReport>),
    Remove(Removal),
}

/// A database on its way out.
#[derive(Debug)]
struct Removal {
    dropped: Dropped,
    reply: Reply<()>,
}

/// A database that was dropped.
#[derive(Clone, Debug)]
struct Dropped {
    database: String,
    /// Where the journal says so.
    sequence: u64,
}

/// What the journal gains when the jobs below `jobs_upto` are done.
#[derive(Debug)]
struct Round {
    jobs_upto: u64,
    /// Everything up to this sequence is published then.
    published: u64,
}

/// The close, under way.
#[derive(Debug)]
struct Closing {
    reply: Reply<()>,
    deadline: Instant,
    /// The deadline has passed.
    is_overdue: bool,
}

/// The state of the flusher's thread.
#[derive(Debug)]
pub(super) struct Flusher {
    wiring: Wiring,
    writers: Writers,
    interval: Duration,
    close_timeout: Duration,
    /// When the oldest unwritten row will be as old as `interval`.
    due: Option<Instant>,
    /// Number of the next job.
    next_job: u64,
    /// Jobs that are not done.
    jobs: BTreeSet<u64>,
    waiters: Vec<Waiter>,
    /// Rounds with jobs that are not done, in order.
    rounds: VecDeque<Round>,
    /// Databases whose files are about to be removed.
    removing: Vec<String>,
    /// Those of them whose removal failed, and when it is tried again.
    undone: Vec<(Instant, Dropped)>,
    /// Rows of such a database that came after it was dropped.
    parked: Vec<Sealed>,
    closing: Option<Closing>,
    /// Rows were given up: only the journal has them.
    has_abandoned: bool,
}

impl Flusher {
    pub(super) fn new(
        wiring: Wiring,
        interval: Duration,
        close_timeout: Duration,
        writers: usize,
    ) -> Result<Self, ServerError> {
        let writers = Writers::start(writers, &wiring)?;
        Ok(Self {
            wiring,
            writers,
            interval,
            close_timeout,
            due: None,
            next_job: 0,
            jobs: BTreeSet::new(),
            waiters: Vec::new(),
            rounds: VecDeque::new(),
            removing: Vec::new(),
            undone: Vec::new(),
            parked: Vec::new(),
            closing: None,
            has_abandoned: false,
        })
    }

    /// Runs until it is closed.
    pub(super) fn run(mut self, inbox: &mpsc::Receiver<Event>) {
        while !self.is_closed() {
            match self.receive(inbox) {
                Some(event) => self.handle(event),
                None => self.handle_time(),
            }
        }
        self.writers.close();
        if let Some(Closing { reply, .. }) = self.closing {
            let cause = "not before the end; the next start replays them from the journal";
            let result = if self.has_abandoned || !self.parked.is_empty() {
                Err(ServerError::Flush { cause: cause.into() }.into())
            } else {
                Ok(())
            };
            drop(reply.send(result));
        }
    }

    fn is_closed(&self) -> bool {
        self.closing.is_some() && self.jobs.is_empty()
    }

    /// The next event; `None` when a deadline comes first.
    fn receive(&self, inbox: &mpsc::Receiver<Event>) -> Option<Event> {
        let deadline = match &self.closing {
            Some(closing) if !closing.is_overdue => Some(closing.deadline),
            Some(_) => None,
            None => self.undone.iter().map(|(at, _)| *at).chain(self.due).min(),
        };
        match deadline {
            Some(deadline) => {
                inbox.recv_timeout(deadline.saturating_duration_since(monotonic_clock())).ok()
            }
            None => inbox.recv().ok(),
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Dirty(since) => {
                self.due.get_or_insert(since + self.interval);
            }
            // A round for another reason may have come first.
            Event::Full if self.wiring.budget.is_flush_worthwhile() => drop(self.round(None)),
            Event::Full => self.wiring.budget.flush_begun(),
            Event::Flush { database, reply } => {
                self.round(database.as_deref());
                self.wait_for(Then::Answer(reply));
            }
            Event::Drop { database, reply } => {
                let sequence = self.drop_rows(&database);
                self.discard(&database, sequence);
                self.removing.push(database.clone());
                let dropped = Dropped { database, sequence };
                self.wait_for(Then::Remove(Removal { dropped, reply }));
            }
            Event::Ask { reply } => drop(reply.send(())),
            Event::Left(sealed) => self.queue(vec![sealed]),
            Event::Tried { number, error } => self.tried(number, error),
            Event::Done { number, bytes, outcome } => self.done(number, bytes, outcome),
            Event::Close { reply } => {
                if !self.round(None) {
                    // The shards are gone, and all they left is queued.
                    self.end_round(self.wiring.journal.last_sequence());
                }
                let deadline = monotonic_clock() + self.close_timeout;
                self.closing = Some(Closing { reply, deadline, is_overdue: false });
            }
        }
    }

    /// A deadline has come.
    fn handle_time(&mut self) {
        if let Some(closing) = &mut self.closing {
            closing.is_overdue = true;
            self.writers.abandon();
            return;
        }
        let now = monotonic_clock();
        if self.due.is_some_and(|due| due <= now) {
            self.round(None);
        }
        let undone = std::mem::take(&mut self.undone);
        let (again, undone): (Vec<_>, Vec<_>) = undone.into_iter().partition(|(at, _)| *at <= now);
        self.undone = undone;
        for (_, dropped) in again {
            // Whoever dropped it was told when it failed first.
            self.remove(dropped).ok();
        }
    }

    /// Seals the tables of all shards, or those of one database, and queues their rows; `false`
    /// when there is no shard.
    fn round(&mut self, database: Option<&str>) -> bool {
        if database.is_none() {
            self.due = None;
            self.wiring.budget.flush_begun();
        }
        let is_tight = self.wiring.budget.is_tight();
        let shards = self.wiring.shards.iter();
        let asked = shards.filter_map(|shard| {
            let (reply, chunks) = oneshot::channel();
            let database = database.map(str::to_owned);
            shard.send(Command::Seal { database, is_tight, reply }).ok()?;
            Some((shard, chunks))
        });
        let asked: Vec<_> = asked.collect();
        // A shard that ends meanwhile answers by `Event::Left`.
        let has_shards = !asked.is_empty();
        let sealed: Vec<Sealed> =
            asked.into_iter().filter_map(|(shard, sealed)| answer(shard, sealed)).collect();
        let is_whole = database.is_none() && sealed.len() == self.wiring.shards.len();
        let published = sealed.iter().map(|sealed| sealed.upto).min().filter(|_| is_whole);
        self.queue(sealed);
        if let Some(published) = published {
            self.end_round(published);
        }
        has_shards
    }

    /// Notes that all rows of the records up to `published` are in jobs, or parked.
    fn end_round(&mut self, published: u64) {
        if self.wiring.sabotage == Some(Sabotage::RecycleEarly) {
            self.wiring.journal.recycle(published);
        }
        if self.removing.is_empty() {
            self.rounds.push_back(Round { jobs_upto: self.next_job, published });
            self.recycle();
        }
    }

    /// Tells the journal how far everything is published.
    fn recycle(&mut self) {
        let oldest = self.oldest_job();
        let done = self.rounds.iter().take_while(|round| round.jobs_upto <= oldest).count();
        // The last one says it for all.
        let last = self.rounds.drain(..done).next_back();
        if let Some(round) = last.filter(|_| !self.has_abandoned) {
            let Wiring { journal, retries, .. } = &self.wiring;
            // A journal that failed has said so, and ends the process.
            recycle(journal, retries, round.published).ok();
        }
    }

    fn oldest_job(&self) -> u64 {
        self.jobs.first().copied().unwrap_or(self.next_job)
    }

    /// Queues one job for each table that has none that waits.
    fn queue(&mut self, sealed: Vec<Sealed>) {
        let mut free = Vec::new();
        for Sealed { shard, since, upto, chunks } in sealed {
            self.wiring.budget.seal(chunks.iter().map(|chunk| chunk.bytes).sum());
            let is_parked = |chunk: &Chunk| {
                self.removing.iter().any(|database| *database == *chunk.measurement.database)
            };
            let (parked, chunks): (Vec<_>, Vec<_>) = chunks.into_iter().partition(is_parked);
            self.parked.push(Sealed { shard, since, upto, chunks: parked });
            free.push(Sealed { shard, since, upto, chunks });
        }
        self.parked.retain(|sealed| !sealed.chunks.is_empty());
        let first = self.next_job;
        self.next_job += self.writers.push(by_table(free), first);
        self.jobs.extend(first..self.next_job);
    }

    /// Has all shards forget the rows of a database, at one place of the journal; returns that.
    fn drop_rows(&mut self, database: &str) -> u64 {
        let asked: Vec<_> = self
            .wiring
            .shards
            .iter()
            .filter_map(|shard| {
                let (reply, done) = oneshot::channel();
                let (resume, resumed) = mpsc::channel();
                let database = database.to_owned();
                let command = Command::Drop { database, reply, resumed };
                shard.send(command).ok().map(|()| (shard, done, resume))
            })
            .collect();
        let standing: Vec<mpsc::Sender<()>> = asked
            .into_iter()
            // A shard that ended has no rows left to forget.
            .filter_map(|(shard, done, resume)| answer(shard, done).map(|()| resume))
            .collect();
        self.wiring.registry.drop_database(database);
        self.drop_parked(database);
        let sequence = self.wiring.journal.append_decision(&Entry::Drop { database });
        // The shards go on when the senders are gone.
        drop(standing);
        sequence
    }

    /// Has rows of a dropped database not written that nobody is at.
    fn discard(&mut self, database: &str, dropped_at: u64) {
        // A journal that failed ends the process; the next start needs them then.
        if self.wiring.journal.wait_durable(dropped_at).is_ok() {
            for (number, bytes) in self.writers.discard(database) {
                self.jobs.remove(&number);
                Budget::release(&self.wiring.budget, bytes);
            }
        }
    }

    /// Drops parked rows of a database: it was dropped once more.
    fn drop_parked(&mut self, database: &str) {
        for sealed in &mut self.parked {
            sealed.chunks.retain(|chunk| {
                let is_kept = &*chunk.measurement.database != database;
                Budget::release(&self.wiring.budget, if is_kept { 0 } else { chunk.bytes });
                is_kept
            });
        }
    }

    /// Removes the files of a dropped database, whose jobs are done; what fails is tried again.
    fn remove(&mut self, dropped: Dropped) -> Result<(), WriteError> {
        let removed = self.try_remove(&dropped);
        if removed.is_err() {
            // Until its files are gone, nothing new of that name can be written.
            self.undone.push((monotonic_clock() + REMOVE_AGAIN, dropped));
            return removed;
        }
        if let Some(at) = self.removing.iter().position(|it| *it == dropped.database) {
            self.removing.swap_remove(at);
        }
        let parked = std::mem::take(&mut self.parked);
        let bytes = parked.iter().flat_map(|sealed| &sealed.chunks).map(|chunk| chunk.bytes).sum();
        Budget::release(&self.wiring.budget, bytes);
        self.queue(parked);
        removed
    }

    fn try_remove(&self, dropped: &Dropped) -> Result<(), WriteError> {
        let Dropped { database, sequence } = dropped;
        let journal = &self.wiring.journal;
        journal.wait_durable(*sequence)?;
        self.wiring.publisher.remove_database(database)?;
        let dropped = Entry::Dropped { database, sequence: *sequence };
        journal.wait_durable(journal.append_decision(&dropped))?;
        Ok(())
    }

    fn wait_for(&mut self, then: Then) {
        let report = FlushReport::default();
        self.waiters.push(Waiter { upto: self.next_job, report, then });
        self.answer();
    }

    /// A job failed: those who wait for it are told, and it goes on.
    fn tried(&mut self, number: u64, error: WriteError) {
        self.wiring.stats.flush_errors.add(1);
        let is_full = matches!(error, WriteError::Busy(BusyReason::DiskFull));
        let cause: Box<str> = match error {
            WriteError::Server(ServerError::Flush { cause }) => cause,
            error => error.to_string().into(),
        };
        let waiters = std::mem::take(&mut self.waiters);
        for waiter in waiters {
            if waiter.upto <= number {
                self.waiters.push(waiter);
                continue;
            }
            let error = if is_full {
                WriteError::Busy(BusyReason::DiskFull)
            } else {
                ServerError::Flush { cause: cause.clone() }.into()
            };
            match waiter.then {
                Then::Answer(reply) => drop(reply.send(Err(error))),
                Then::Remove(_) => self.waiters.push(waiter),
            }
        }
    }

    fn done(&mut self, number: u64, bytes: usize, outcome: Outcome) {
        self.jobs.remove(&number);
        Budget::release(&self.wiring.budget, bytes);
        match outcome {
            Outcome::Written(segments) => {
                let files = segments.len() as u64;
                let rows = segments.iter().map(|segment| segment.rows).sum();
                self.wiring.stats.files_published.add(files);
                self.wiring.stats.rows_published.add(rows);
                let bytes = segments.iter().map(|segment| segment.bytes).sum();
                self.wiring.stats.bytes_published.add(bytes);
                // A client counts the rows that it was told were accepted.
                let is_rejected = segments.iter().any(|it| it.measurement == REJECTED);
                let is_counted = |waiter: &&mut Waiter| number < waiter.upto && !is_rejected;
                for waiter in self.waiters.iter_mut().filter(is_counted) {
                    waiter.report.files += files;
                    waiter.report.rows += rows;
                }
            }
            Outcome::Abandoned => self.has_abandoned = true,
            Outcome::Dropped => {}
        }
        self.answer();
    }

    /// Serves those who wait for nothing any more.
    fn answer(&mut self) {
        self.recycle();
        let oldest = self.oldest_job();
        let waiters = std::mem::take(&mut self.waiters);
        let (due, waiting) = waiters.into_iter().partition(|waiter: &Waiter| waiter.upto <= oldest);
        self.waiters = waiting;
        for waiter in due {
            match waiter.then {
                Then::Answer(reply) => drop(reply.send(Ok(waiter.report))),
                Then::Remove(Removal { dropped, reply }) => {
                    let database = dropped.database.clone();
                    let removed = self.remove(dropped);
                    if let Err(error) = &removed {
                        tracing::warn!(database, %error, "a dropped database is removed later");
                    }
                    drop(reply.send(removed));
                }
            }
        }
    }
}
