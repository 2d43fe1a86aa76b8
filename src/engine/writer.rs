//! The threads that write: a queue of jobs, one table each, tried again until it is published.
//!
//! ```text
//! wait until the journal is durable up to the job's rows -> Parquet files -> one Delta commit
//! ```
//!
//! The commit names, for each shard, the last sequence that its rows include, and the sequence of
//! the files: a restart replays what is above the one and removes files above the other.
//! Jobs of one table are done one after the other, so both only grow.

use std::collections::{HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use super::flusher::{Event, Wiring};
use super::publisher::{Publisher, TableRows};
use crate::error::{ServerError, WriteError};
use crate::journal::Journal;
use crate::segment::SegmentMeta;

/// Wait before the second try; doubled for each further one.
const RETRY_AFTER_MIN: Duration = Duration::from_millis(100);
/// Longest wait between two tries.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(5);

/// One table's rows of one round.
#[derive(Debug)]
pub(super) struct Job {
    /// Counts up with the jobs.
    pub(super) number: u64,
    pub(super) rows: TableRows,
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
    /// Never: the engine was closed and the time for it is over.
    Abandoned,
}

#[derive(Debug, Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// Tables that a thread is at.
    busy: HashSet<Table>,
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
            };
            std::thread::Builder::new()
                .name(format!("writer-{index}"))
                .spawn(move || thread.run())
                .map_err(|source| ServerError::Io { action: "starting a writer thread", source })
        });
        Ok(Self { threads: threads.collect::<Result<_, _>>()?, shared })
    }

    /// Queues a job.
    pub(super) fn push(&self, job: Job) {
        self.shared.lock().jobs.push_back(job);
        self.shared.changed.notify_one();
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
}

impl Writer {
    fn run(&self) {
        while let Some(job) = self.next() {
            self.write(job);
        }
    }

    fn next(&self) -> Option<Job> {
        let mut queue = self.shared.lock();
        loop {
            let free = queue.jobs.iter().position(|job| !queue.busy.contains(&job.table()));
            if let Some(job) = free.and_then(|at| queue.jobs.remove(at)) {
                queue.busy.insert(job.table());
                return Some(job);
            }
            if queue.is_closed && queue.jobs.is_empty() {
                return None;
            }
            queue = self.shared.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Writes a job, as often as it takes.
    fn write(&self, mut job: Job) {
        let mut retry_after = RETRY_AFTER_MIN;
        loop {
            let error = match self.attempt(&mut job.rows) {
                Ok(segments) => return self.tell(job, Outcome::Written(segments)),
                Err(error) => error,
            };
            let measurement = &*job.rows.measurement.name;
            let rows = job.rows.count();
            tracing::warn!(measurement, rows, %error, "a flush failed; its rows are kept");
            let failed = Event::Tried { number: job.number, error };
            if self.events.send(failed).is_err() || self.wait(retry_after) {
                return self.tell(job, Outcome::Abandoned);
            }
            retry_after = RETRY_AFTER_MAX.min(retry_after * 2);
        }
    }

    fn attempt(&self, rows: &mut TableRows) -> Result<Vec<SegmentMeta>, WriteError> {
        self.journal.wait_durable(rows.upto())?;
        match catch_unwind(AssertUnwindSafe(|| self.publisher.publish(rows))) {
            Ok(published) => published,
            // The encoder's bug must not take the rows of other tables with it.
            Err(_) => Err(ServerError::Flush { cause: "the encoder panicked".into() }.into()),
        }
    }

    /// Waits before another try; true when there shall be none.
    fn wait(&self, time: Duration) -> bool {
        let queue = self.shared.lock();
        let (queue, _) = self
            .shared
            .changed
            .wait_timeout_while(queue, time, |queue| !queue.is_abandoned)
            .unwrap_or_else(PoisonError::into_inner);
        queue.is_abandoned
    }

    fn tell(&self, job: Job, outcome: Outcome) {
        let table = job.table();
        let Job { number, rows } = job;
        let bytes = rows.bytes;
        // The rows are freed before their bytes are.
        drop(rows);
        self.shared.lock().busy.remove(&table);
        // Both a job of this table and the end of the queue may be waited for.
        self.shared.changed.notify_all();
        let event = Event::Done { number, bytes, outcome };
        if self.events.send(event).is_err() {
            tracing::error!("the flusher is gone before its writers");
        }
    }
}
