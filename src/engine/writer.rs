//! The threads that write: a queue of jobs, one table each, tried again until it is on disk.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::flusher::Event;
use crate::error::{BusyReason, ServerError, WriteError};
use crate::gather::Measurement;
use crate::persist::{SegmentRequest, Store, write_segments};
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
    /// Bytes accounted for its chunks.
    pub(super) bytes: usize,
    pub(super) measurement: Arc<Measurement>,
    pub(super) request: SegmentRequest,
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
    /// No more jobs will come: threads end when the queue is empty.
    is_closed: bool,
    /// Nothing is tried again.
    is_abandoned: bool,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
    /// The sequence that the next file set is named by.
    sequence: AtomicU64,
}

impl Shared {
    fn next_sequence(&self) -> u64 {
        self.sequence.fetch_add(1, Ordering::Relaxed)
    }

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
    pub(super) fn start(
        count: usize,
        store: &Arc<Store>,
        events: &mpsc::Sender<Event>,
    ) -> Result<Self, ServerError> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            changed: Condvar::new(),
            sequence: AtomicU64::new(first_sequence()),
        });
        let threads = (0..count.max(1)).map(|index| {
            let thread = Writer {
                shared: Arc::clone(&shared),
                store: Arc::clone(store),
                events: events.clone(),
            };
            std::thread::Builder::new()
                .name(format!("writer-{index}"))
                .spawn(move || thread.run())
                .map_err(|source| ServerError::Io { action: "starting a writer thread", source })
        });
        Ok(Self { threads: threads.collect::<Result<_, _>>()?, shared })
    }

    /// A number that no other file set of this data directory is named by.
    pub(super) fn next_sequence(&self) -> u64 {
        self.shared.next_sequence()
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
    store: Arc<Store>,
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
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            if queue.is_closed {
                return None;
            }
            queue = self.shared.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Writes a job, as often as it takes.
    fn write(&self, mut job: Job) {
        let mut retry_after = RETRY_AFTER_MIN;
        loop {
            let error = match self.attempt(&job.request) {
                Ok(segments) => return self.tell(job, Outcome::Written(segments)),
                Err(error) => error,
            };
            let measurement = &job.request.measurement;
            let rows = rows(&job);
            tracing::warn!(measurement, rows, %error, "a flush failed; its rows are kept");
            let failed = Event::Tried { number: job.number, error };
            if self.events.send(failed).is_err() || self.wait(retry_after) {
                return self.tell(job, Outcome::Abandoned);
            }
            retry_after = RETRY_AFTER_MAX.min(retry_after * 2);
            // Another name: should the failure have been that this one exists, it passes.
            job.request.sequence = self.shared.next_sequence();
        }
    }

    fn attempt(&self, request: &SegmentRequest) -> Result<Vec<SegmentMeta>, WriteError> {
        match catch_unwind(AssertUnwindSafe(|| write_segments(&self.store, request))) {
            Ok(Ok(segments)) => Ok(segments),
            Ok(Err(error)) if error.is_storage_full() => Err(BusyReason::DiskFull.into()),
            Ok(Err(error)) => Err(ServerError::from(error).into()),
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
        let Job { number, bytes, measurement, request } = job;
        // The rows are freed before their bytes are.
        drop(request);
        if let Outcome::Written(segments) = &outcome {
            measurement.add_files(segments.len() as u64);
        }
        let event = Event::Done { number, bytes, outcome };
        if self.events.send(event).is_err() {
            tracing::error!("the flusher is gone before its writers");
        }
    }
}

/// Rows of a job.
fn rows(job: &Job) -> usize {
    job.request.batches.iter().map(arrow_array::RecordBatch::num_rows).sum()
}

/// A number above those of all earlier runs: microseconds since 1970, of which no run uses up
/// more than pass.
#[expect(clippy::disallowed_methods, reason = "the engine is where time comes from")]
fn first_sequence() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or_default()
}
