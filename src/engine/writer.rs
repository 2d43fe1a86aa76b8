//! The threads that write: a queue of jobs, one table each, tried again until it is published.
//!
//! ```text
//! wait until the journal is durable up to the job's rows -> Parquet files -> one Delta commit
//! ```
//!
//! The commit names, for each shard, the last sequence that its rows include, and the sequence of
//! the files: a restart replays what is above the one and removes files above the other.
//! Jobs of one table are done one after the other, so both only grow. Rows that come while one
//! waits join it: writers that are behind write larger files, not more. One that fails waits aside
//! and keeps its table, not its thread: somebody's damage to one table is not that of the others.

use std::cell::Cell;
use std::collections::{HashMap, HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::budget::{Budget, Trim};
use super::flusher::{Event, Wiring};
use super::publisher::{Publisher, TableRows};
use super::shard::monotonic_clock;
use crate::error::{ServerError, WriteError};
use crate::gather::Measurement;
use crate::journal::Journal;
use crate::segment::SegmentMeta;

/// Wait before the second try; doubled for each further one.
const RETRY_AFTER_MIN: Duration = Duration::from_millis(100);
/// Longest wait between two tries.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(5);
/// Bytes of rows that a writer frees before it has memory given back: at once where half of the
/// memory limit is resident; else when it has had nothing to write for so long. Until then the next
/// rows take it, and no page of it is made twice.
const TRIMMED_BYTES_MIN: usize = 4 << 20;
const TRIM_IDLE: Duration = Duration::from_secs(1);

/// One table's rows of one round, and of those that came before a writer was free.
#[derive(Debug)]
pub(super) struct Job {
    /// Counts up with the jobs.
    pub(super) number: u64,
    pub(super) rows: TableRows,
    /// When the first of its rows left the shards.
    sealed: Instant,
    /// What became of the last try.
    failure: Option<Failure>,
}

/// A try that failed.
#[derive(Debug)]
struct Failure {
    what: String,
    /// How long it was to be until the next one.
    wait: Duration,
}

/// A database and a measurement.
type Table = (Arc<str>, Arc<str>);

impl Job {
    fn table(&self) -> Table {
        let measurement = &self.rows.measurement;
        (Arc::clone(&measurement.database), Arc::clone(&measurement.name))
    }
}

/// What became of a job.
#[derive(Debug)]
pub(super) enum Outcome {
    /// On disk and visible.
    Written(Vec<SegmentMeta>),
    /// Never: the engine was closed and the time for it is over, or the journal has failed.
    Abandoned,
    /// Never: its database was dropped.
    Dropped,
}

#[derive(Debug, Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// Jobs that failed, and when each is tried again.
    failed: Vec<(Instant, Job)>,
    /// Tables of jobs that are begun and not done, with their numbers: those behind them wait.
    busy: HashMap<Table, u64>,
    /// Jobs of these that are not tried again: their database was dropped.
    last_tries: HashSet<u64>,
    /// No more jobs will come: threads end when the queue is empty.
    is_closed: bool,
    /// Nothing is tried again.
    is_abandoned: bool,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // No code panics while it holds the lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The threads that write.
#[derive(Debug)]
pub(super) struct Writers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Writers {
    /// Starts `count` threads; each tells `events` what becomes of its jobs.
    pub(super) fn start(count: usize, wiring: &Wiring) -> Result<Self, ServerError> {
        let shared = Arc::new(Shared { queue: Mutex::default(), changed: Condvar::new() });
        let threads = (0..count.max(1)).map(|index| {
            let thread = Writer {
                shared: Arc::clone(&shared),
                publisher: Arc::clone(&wiring.publisher),
                journal: Arc::clone(&wiring.journal),
                events: wiring.events.clone(),
                budget: Arc::clone(&wiring.budget),
                trim: wiring.trim,
                freed: Cell::new(0),
            };
            std::thread::Builder::new()
                .name(format!("writer-{index}"))
                .spawn(move || thread.run())
                .map_err(|source| ServerError::Io { action: "starting a writer thread", source })
        });
        Ok(Self { threads: threads.collect::<Result<_, _>>()?, shared })
    }

    /// Queues the rows of tables, each as a job of its own, numbered from `first` on; but those of
    /// a table with a job that nobody has begun join it. Returns how many jobs these are.
    pub(super) fn push(&self, tables: Vec<TableRows>, first: u64) -> u64 {
        let mut queue = self.shared.lock();
        let jobs = &mut queue.jobs;
        let place = |(at, job): (usize, &Job)| (Arc::as_ptr(&job.rows.measurement), at);
        let waiting: HashMap<_, usize> = jobs.iter().enumerate().map(place).collect();
        let (mut number, sealed) = (first, monotonic_clock());
        for rows in tables {
            let at = waiting.get(&Arc::as_ptr(&rows.measurement));
            let job = at.and_then(|at| jobs.get_mut(*at)).filter(|job| job.rows.takes(&rows));
            if let Some(job) = job {
                job.rows.join(rows);
            } else {
                jobs.push_back(Job { number, rows, sealed, failure: None });
                number += 1;
            }
        }
        drop(queue);
        self.shared.changed.notify_all();
        number - first
    }

    /// Takes out the jobs of a database that nobody is at; those that somebody is at are not tried
    /// again. Returns their numbers and bytes. The drop has to be durable: rows of a job may be the
    /// last that a restart would have.
    pub(super) fn discard(&self, database: &str) -> Vec<(u64, usize)> {
        let is_of_it = |job: &Job| *job.rows.measurement.database == *database;
        let mut queue = self.shared.lock();
        let jobs = std::mem::take(&mut queue.jobs);
        let (mut discarded, kept): (Vec<_>, Vec<_>) = jobs.into_iter().partition(is_of_it);
        queue.jobs = kept.into();
        for (due, job) in std::mem::take(&mut queue.failed) {
            if is_of_it(&job) {
                queue.busy.remove(&job.table());
                discarded.push(job);
            } else {
                queue.failed.push((due, job));
            }
        }
        let Queue { busy, last_tries, .. } = &mut *queue;
        let begun = busy.iter().filter(|((it, _), _)| **it == *database);
        last_tries.extend(begun.map(|(_, number)| *number));
        drop(queue);
        self.shared.changed.notify_all();
        discarded.into_iter().map(|job| (job.number, job.rows.bytes)).collect()
    }

    /// Gives up what fails from here on.
    pub(super) fn abandon(&self) {
        self.shared.lock().is_abandoned = true;
        self.shared.changed.notify_all();
    }

    /// Ends the threads once the queue is empty.
    pub(super) fn close(self) {
        self.shared.lock().is_closed = true;
        self.shared.changed.notify_all();
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a writer thread ended by a panic");
            }
        }
    }
}

#[derive(Debug)]
struct Writer {
    shared: Arc<Shared>,
    publisher: Arc<Publisher>,
    journal: Arc<Journal>,
    events: mpsc::Sender<Event>,
    budget: Arc<Budget>,
    trim: Option<Trim>,
    /// Bytes of rows since memory was given back.
    freed: Cell<usize>,
}

impl Writer {
    fn run(&self) {
        while let Some(job) = self.next() {
            self.write(job);
        }
    }

    /// The next job whose table nobody is at, or whose wait is over; `None` at the end.
    fn next(&self) -> Option<Job> {
        let mut queue = self.shared.lock();
        loop {
            let now = monotonic_clock();
            let is_abandoned = queue.is_abandoned;
            let is_due = |job: &(Instant, Job)| is_abandoned || job.0 <= now;
            if let Some(at) = queue.failed.iter().position(is_due) {
                return Some(queue.failed.swap_remove(at).1);
            }
            let free = queue.jobs.iter().position(|job| !queue.busy.contains_key(&job.table()));
            if let Some(job) = free.and_then(|at| queue.jobs.remove(at)) {
                queue.busy.insert(job.table(), job.number);
                return Some(job);
            }
            if queue.is_closed && queue.jobs.is_empty() && queue.failed.is_empty() {
                return None;
            }
            let due = queue.failed.iter().map(|(due, _)| due.saturating_duration_since(now)).min();
            let idle = self.has_freed().then_some(TRIM_IDLE);
            let changed = &self.shared.changed;
            let Some(wait) = due.into_iter().chain(idle).min() else {
                queue = changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let waited = changed.wait_timeout(queue, wait);
            let over;
            (queue, over) = waited.unwrap_or_else(PoisonError::into_inner);
            if over.timed_out() && self.has_freed() {
                drop(queue);
                self.trim();
                queue = self.shared.lock();
            }
        }
    }

    /// Writes a job, or has it tried again later: other tables go on meanwhile.
    fn write(&self, mut job: Job) {
        if job.failure.is_some() && self.shared.lock().is_abandoned {
            return self.tell(job, Outcome::Abandoned);
        }
        if let Err(error) = self.journal.wait_durable(job.rows.upto()) {
            // It never will be: the process is about to end.
            self.events.send(Event::Tried { number: job.number, error: error.into() }).ok();
            return self.tell(job, Outcome::Abandoned);
        }
        let error = match self.attempt(&mut job.rows) {
            Ok(segments) => return self.tell(job, Outcome::Written(segments)),
            Err(error) => error,
        };
        let mut failure = Failure { what: error.to_string(), wait: RETRY_AFTER_MIN };
        match job.failure.take() {
            // Said once.
            Some(last) if last.what == failure.what => {
                failure.wait = RETRY_AFTER_MAX.min(last.wait * 2);
            }
            _ => {
                let Measurement { database, name, .. } = &*job.rows.measurement;
                let rows = job.rows.count();
                tracing::warn!(
                    %database, measurement = %name, rows, %error,
                    "a flush failed; its rows are kept, and tried again until it passes"
                );
            }
        }
        let failed = Event::Tried { number: job.number, error };
        if self.events.send(failed).is_err() || self.shared.lock().is_abandoned {
            return self.tell(job, Outcome::Abandoned);
        }
        let due = monotonic_clock() + failure.wait;
        job.failure = Some(failure);
        let mut queue = self.shared.lock();
        if queue.last_tries.contains(&job.number) {
            drop(queue);
            return self.tell(job, Outcome::Dropped);
        }
        queue.failed.push((due, job));
        drop(queue);
        self.shared.changed.notify_one();
    }

    fn attempt(&self, rows: &mut TableRows) -> Result<Vec<SegmentMeta>, WriteError> {
        match catch_unwind(AssertUnwindSafe(|| self.publisher.publish(rows))) {
            Ok(published) => published,
            // The encoder's bug must not take the rows of other tables with it.
            Err(_) => Err(ServerError::Flush { cause: "the encoder panicked".into() }.into()),
        }
    }

    /// Whether enough memory was freed for giving it back.
    fn has_freed(&self) -> bool {
        self.freed.get() >= TRIMMED_BYTES_MIN
    }

    /// Notes freed memory, and has it given back if that is due.
    fn trim_after(&self, bytes: usize) {
        self.freed.set(self.freed.get() + bytes);
        if self.has_freed() && self.budget.is_half_resident() {
            self.trim();
        }
    }

    fn trim(&self) {
        self.freed.set(0);
        if let Some(trim) = self.trim {
            trim();
        }
    }

    fn tell(&self, job: Job, outcome: Outcome) {
        let table = job.table();
        let Job { number, rows, sealed, .. } = job;
        let bytes = rows.bytes;
        if matches!(outcome, Outcome::Written(_)) {
            self.publisher.stats.flush_durations.observe(sealed.elapsed());
        }
        // The rows are freed before their bytes are.
        drop(rows);
        self.trim_after(bytes);
        let mut queue = self.shared.lock();
        queue.busy.remove(&table);
        queue.last_tries.remove(&number);
        drop(queue);
        // Both a job of this table and the end of the queue may be waited for.
        self.shared.changed.notify_all();
        let event = Event::Done { number, bytes, outcome };
        if self.events.send(event).is_err() {
            tracing::error!("the flusher is gone before its writers");
        }
    }
}
