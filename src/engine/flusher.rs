//! The thread that decides when rows are written, and knows what is still being written.
//!
//! A *round* seals the tables of all shards and queues one job for each table. Rounds begin by age
//! ([`Event::Dirty`]), by bytes ([`Event::Full`]), by request and at the close. Whoever waits for
//! a round waits for all jobs queued up to then: rows accepted earlier may be among them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc as async_mpsc, oneshot};

use super::FlushReport;
use super::budget::Budget;
use super::shard::{Command, monotonic_clock};
use super::writer::{Job, Outcome, Writers};
use crate::error::{BusyReason, ServerError, WriteError};
use crate::gather::{Chunk, Registry};
use crate::persist::{SegmentRequest, Store};
use crate::stats::Stats;

/// Where a flush's result goes.
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
    /// A shard ended and left these rows.
    Left(Vec<Chunk>),
    /// A job failed and is tried again.
    Tried { number: u64, error: WriteError },
    /// A job ended.
    Done { number: u64, bytes: usize, outcome: Outcome },
    /// Write what is left and end.
    Close { reply: Reply<()> },
}

/// What the flusher is connected to.
#[derive(Debug)]
pub(super) struct Wiring {
    pub(super) registry: Arc<Registry>,
    pub(super) store: Arc<Store>,
    pub(super) stats: Arc<Stats>,
    pub(super) budget: Arc<Budget>,
    pub(super) shards: Vec<async_mpsc::UnboundedSender<Command>>,
    pub(super) events: mpsc::Sender<Event>,
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
    Remove { database: String, reply: Reply<()> },
}

/// The close, under way.
#[derive(Debug)]
struct Closing {
    reply: Reply<()>,
    deadline: Instant,
    /// Rows that were given up.
    abandoned: bool,
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
    closing: Option<Closing>,
}

impl Flusher {
    pub(super) fn new(
        wiring: Wiring,
        interval: Duration,
        close_timeout: Duration,
        writers: usize,
    ) -> Result<Self, ServerError> {
        let writers = Writers::start(writers, &wiring.store, &wiring.events)?;
        Ok(Self {
            wiring,
            writers,
            interval,
            close_timeout,
            due: None,
            next_job: 0,
            jobs: BTreeSet::new(),
            waiters: Vec::new(),
            closing: None,
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
        if let Some(Closing { reply, abandoned, .. }) = self.closing {
            let cause = "rows could not be written before the end";
            let result = if abandoned {
                Err(ServerError::Flush { cause: cause.into() }.into())
            } else {
                Ok(())
            };
            // Nobody waiting is nobody to tell.
            let _ = reply.send(result);
        }
    }

    fn is_closed(&self) -> bool {
        self.closing.is_some() && self.jobs.is_empty()
    }

    /// The next event; `None` when a deadline comes first.
    fn receive(&self, inbox: &mpsc::Receiver<Event>) -> Option<Event> {
        let deadline = match &self.closing {
            Some(closing) if !closing.abandoned => Some(closing.deadline),
            Some(_) => None,
            None => self.due,
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
            Event::Full if self.wiring.budget.is_flush_worthwhile() => self.round(None),
            Event::Full => self.wiring.budget.flush_begun(),
            Event::Flush { database, reply } => {
                self.round(database.as_deref());
                self.wait_for(Then::Answer(reply));
            }
            Event::Drop { database, reply } => {
                self.drop_rows(&database);
                self.wait_for(Then::Remove { database, reply });
            }
            Event::Left(chunks) => self.queue(chunks),
            Event::Tried { number, error } => self.tried(number, error),
            Event::Done { number, bytes, outcome } => self.done(number, bytes, outcome),
            Event::Close { reply } => {
                self.round(None);
                let deadline = monotonic_clock() + self.close_timeout;
                self.closing = Some(Closing { reply, deadline, abandoned: false });
            }
        }
    }

    /// A deadline has come.
    fn handle_time(&mut self) {
        match &mut self.closing {
            Some(closing) => {
                closing.abandoned = true;
                self.writers.abandon();
            }
            None => self.round(None),
        }
    }

    /// Seals the tables of all shards, or those of one database, and queues their rows.
    fn round(&mut self, database: Option<&str>) {
        if database.is_none() {
            self.due = None;
            self.wiring.budget.flush_begun();
        }
        let is_tight = self.wiring.budget.is_tight();
        let asked: Vec<_> = self
            .wiring
            .shards
            .iter()
            .filter_map(|shard| {
                let (reply, chunks) = oneshot::channel();
                let database = database.map(str::to_owned);
                shard.send(Command::Seal { database, is_tight, reply }).ok().map(|()| chunks)
            })
            .collect();
        // A shard that ends meanwhile answers by `Event::Left`.
        let chunks: Vec<Chunk> =
            asked.into_iter().filter_map(|chunks| chunks.blocking_recv().ok()).flatten().collect();
        self.queue(chunks);
    }

    /// Queues one job for each table.
    fn queue(&mut self, chunks: Vec<Chunk>) {
        let mut tables: BTreeMap<(Arc<str>, Arc<str>), Vec<Chunk>> = BTreeMap::new();
        for chunk in chunks {
            self.wiring.budget.seal(chunk.bytes);
            let Chunk { measurement, .. } = &chunk;
            let key = (Arc::clone(&measurement.database), Arc::clone(&measurement.name));
            tables.entry(key).or_default().push(chunk);
        }
        for ((database, name), chunks) in tables {
            let Some(measurement) = chunks.first().map(|it| Arc::clone(&it.measurement)) else {
                continue;
            };
            let bytes = chunks.iter().map(|chunk| chunk.bytes).sum();
            let number = self.next_job;
            self.next_job += 1;
            self.jobs.insert(number);
            self.writers.push(Job {
                number,
                bytes,
                request: SegmentRequest {
                    database: database.to_string(),
                    measurement: name.to_string(),
                    schema: measurement.schema(),
                    batches: chunks.into_iter().map(|chunk| chunk.batch).collect(),
                    sort_key: measurement.sort_key().to_vec(),
                    sequence: self.writers.next_sequence(),
                },
                measurement,
            });
        }
    }

    /// Has all shards forget the rows of a database.
    fn drop_rows(&mut self, database: &str) {
        let asked: Vec<_> = self
            .wiring
            .shards
            .iter()
            .filter_map(|shard| {
                let (reply, done) = oneshot::channel();
                let database = database.to_owned();
                shard.send(Command::Drop { database, reply }).ok().map(|()| done)
            })
            .collect();
        for done in asked {
            // A shard that ended has no rows left to forget.
            let _ = done.blocking_recv();
        }
        self.wiring.registry.drop_database(database);
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
                // Nobody waiting is nobody to tell.
                Then::Answer(reply) => drop(reply.send(Err(error))),
                Then::Remove { .. } => self.waiters.push(waiter),
            }
        }
    }

    fn done(&mut self, number: u64, bytes: usize, outcome: Outcome) {
        self.jobs.remove(&number);
        self.wiring.budget.release(bytes);
        match outcome {
            Outcome::Written(segments) => {
                let files = segments.len() as u64;
                let rows = segments.iter().map(|segment| segment.rows).sum();
                self.wiring.stats.files_published.add(files);
                self.wiring.stats.rows_published.add(rows);
                let bytes = segments.iter().map(|segment| segment.bytes).sum();
                self.wiring.stats.bytes_published.add(bytes);
                for waiter in self.waiters.iter_mut().filter(|waiter| number < waiter.upto) {
                    waiter.report.files += files;
                    waiter.report.rows += rows;
                }
            }
            Outcome::Abandoned => {
                if let Some(closing) = &mut self.closing {
                    closing.abandoned = true;
                }
            }
        }
        self.answer();
    }

    /// Serves those who wait for nothing any more.
    fn answer(&mut self) {
        let oldest = self.jobs.first().copied().unwrap_or(self.next_job);
        let waiters = std::mem::take(&mut self.waiters);
        for waiter in waiters {
            if waiter.upto > oldest {
                self.waiters.push(waiter);
                continue;
            }
            match waiter.then {
                // Nobody waiting is nobody to tell.
                Then::Answer(reply) => drop(reply.send(Ok(waiter.report))),
                Then::Remove { database, reply } => {
                    let removed = self.wiring.store.remove_database(&database);
                    drop(reply.send(removed.map_err(|error| ServerError::from(error).into())));
                }
            }
        }
    }
}
