//! What the threads of a journal share: the queue, the room, the sequences, and how it stands.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{fmt, mem};

use tokio::sync::{Notify, oneshot};

use super::body::Body;
use super::error::JournalError;
use super::record::record_bytes;
use super::segment::{self, HEADER_BYTES, Identity, Segment};
use super::{JournalStats, Options};
use crate::disk::Disk;

/// Bytes of a group; a longer record is a group of its own.
const GROUP_BYTES_MAX: u64 = 4 << 20;
/// Room that reservations leave alone, for decisions and marks.
const ALLOWANCE_BYTES_MAX: u64 = 1 << 20;

/// Called once, by the thread that fails.
pub(super) type OnFailure = Box<dyn FnOnce(JournalError) + Send>;

/// A record on its way.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) sequence: u64,
    pub(super) entry: Vec<u8>,
    pub(super) body: Body,
    pub(super) payload_crc: u32,
    pub(super) ticket: Option<oneshot::Sender<Result<Vec<u8>, JournalError>>>,
}

impl Pending {
    pub(super) fn payload_bytes(&self) -> usize {
        self.entry.len() + self.body.len()
    }

    /// Tells whoever waits, if somebody still does.
    pub(super) fn finish(self, result: Result<(), JournalError>) {
        if let Some(ticket) = self.ticket {
            ticket.send(result.map(|()| self.body.into_vec())).ok();
        }
    }
}

/// What the writer does next.
#[derive(Debug)]
pub(super) enum Next {
    /// Writes these.
    Group(Vec<Pending>),
    /// Nobody has written for a while.
    Quiet,
    /// Everything is written, and nothing comes any more.
    Closed,
}

/// A segment that holds records.
#[derive(Clone, Copy, Debug)]
pub(super) struct InUse {
    pub(super) number: u64,
    /// Highest sequence that has bytes in the segments before it.
    pub(super) before: u64,
    /// Whether it is as large as those that are made; `--wal-segment-bytes` changes with a start.
    pub(super) is_alike: bool,
}

/// How the journal stands.
#[derive(Debug, Default)]
pub(super) enum Status {
    #[default]
    Open,
    /// What is queued is still written.
    Closing,
    /// Everything is written and synced.
    Closed,
    /// For ever.
    Failed(JournalError),
}

/// Everything that changes.
#[derive(Default)]
pub(super) struct State {
    pub(super) queue: VecDeque<Pending>,
    /// Last sequence given away.
    pub(super) assigned: u64,
    /// Last sequence that is as durable as was asked for.
    pub(super) durable: u64,
    /// Everything up to here is in the Delta log.
    pub(super) published: u64,
    /// Segments that are worth keeping for the next load like the last.
    pub(super) spares_wanted: usize,
    /// Bytes of stream in the current segment and in `ready`, less those that are written, queued
    /// or reserved. Below zero only by decisions that were made on a full disk.
    pub(super) room: i64,
    /// Room that somebody waits for.
    pub(super) wanted: i64,
    /// The last try to make a segment failed.
    pub(super) is_full: bool,
    /// Somebody asked for room since the last try began.
    pub(super) is_asked: bool,
    /// The writer cannot write into room that it has.
    pub(super) is_stuck: bool,
    /// Segments prepared and not begun, in the order of their numbers.
    pub(super) ready: VecDeque<Segment>,
    /// Segments with records, oldest first; the last is written to.
    pub(super) in_use: VecDeque<InUse>,
    pub(super) status: Status,
    pub(super) on_failure: Option<OnFailure>,
    pub(super) stats: JournalStats,
}

impl State {
    pub(super) fn is_over(&self) -> bool {
        matches!(self.status, Status::Closed | Status::Failed(_))
    }

    /// Whether the oldest segment holds nothing behind the record `published`. What is written to
    /// is never recycled: the sequences go on from it.
    pub(super) fn is_recyclable(&self, published: u64) -> bool {
        self.in_use.get(1).is_some_and(|next| next.before <= published)
    }
}

/// What does not change.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) directory: PathBuf,
    pub(super) options: Options,
    pub(super) instance: [u8; 16],
}

impl Setup {
    /// Bytes of stream in a segment.
    pub(super) fn capacity(&self) -> u64 {
        self.options.segment_bytes - HEADER_BYTES
    }

    /// Room that reservations leave alone, for decisions and marks.
    pub(super) fn allowance(&self) -> i64 {
        signed(ALLOWANCE_BYTES_MAX.min(self.capacity() / 2))
    }

    /// A segment that nobody has been, of this journal.
    pub(super) fn identity(&self, number: u64) -> Identity {
        let segment_bytes = self.options.segment_bytes;
        Identity { segment_bytes, instance: self.instance, number, nonce: segment::random() }
    }
}

/// A count of bytes as room is counted.
pub(super) fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

pub(super) struct Shared {
    pub(super) setup: Setup,
    state: Mutex<State>,
    /// For the writer: there is something to write, or the journal closes.
    pub(super) queued: Condvar,
    /// For the spares thread: there is something to make or to recycle, or the journal ends.
    pub(super) asked: Condvar,
    /// For those who wait in a thread: `durable`, `ready` or `status` changed.
    pub(super) advanced: Condvar,
    /// For those who wait in a task: `room` or `status` changed.
    pub(super) room_changed: Notify,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("setup", &self.setup).finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn new(setup: Setup, state: State) -> Self {
        Self {
            setup,
            state: Mutex::new(state),
            queued: Condvar::new(),
            asked: Condvar::new(),
            advanced: Condvar::new(),
            room_changed: Notify::new(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `condition` changed, perhaps.
    pub(super) fn wait<'a>(
        condition: &Condvar,
        state: MutexGuard<'a, State>,
    ) -> MutexGuard<'a, State> {
        condition.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// The next records to write together. There is no timer: what arrives while a group is synced
    /// is the next group. `quiet_after`: wait no longer than this.
    pub(super) fn next_group(&self, quiet_after: Option<Duration>) -> Next {
        let mut state = self.lock();
        let is_idle =
            |state: &mut State| state.queue.is_empty() && matches!(state.status, Status::Open);
        state = match quiet_after {
            None => self.queued.wait_while(state, is_idle).unwrap_or_else(PoisonError::into_inner),
            Some(after) => {
                let waited = self.queued.wait_timeout_while(state, after, is_idle);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        if state.queue.is_empty() {
            let is_open = matches!(state.status, Status::Open);
            return if is_open { Next::Quiet } else { Next::Closed };
        }
        let mut bytes = 0;
        let mut records = Vec::new();
        while let Some(next) = state.queue.front() {
            let count = record_bytes(next.payload_bytes());
            if !records.is_empty() && bytes + count > GROUP_BYTES_MAX {
                break;
            }
            bytes += count;
            records.extend(state.queue.pop_front());
        }
        state.stats.queued_bytes -= bytes;
        Next::Group(records)
    }

    /// The writer's next segment; waits while it is made. On a full disk that is as long as it
    /// takes: the records are in memory, nobody was told that they are durable, and no more are
    /// let in.
    pub(super) fn take_ready(&self) -> Result<Segment, JournalError> {
        let mut state = self.lock();
        loop {
            if let Some(segment) = state.ready.pop_front() {
                self.asked.notify_one();
                return Ok(segment);
            }
            match &state.status {
                Status::Failed(error) => return Err(error.clone()),
                Status::Closing if state.is_full => {
                    return Err(JournalError::closed(&self.setup.directory));
                }
                _ => {}
            }
            state.wanted = state.wanted.max(1);
            state.is_asked = true;
            self.asked.notify_one();
            state = Self::wait(&self.advanced, state);
        }
    }

    /// Ends everything: nothing is acknowledged from here on, neither what is queued nor `group`,
    /// which was being written. Only the first error counts.
    pub(super) fn fail(&self, error: &JournalError, group: Vec<Pending>) {
        let mut state = self.lock();
        let is_first = !state.is_over();
        if is_first {
            state.status = Status::Failed(error.clone());
        }
        let queue = mem::take(&mut state.queue);
        state.stats.queued_bytes = 0;
        let on_failure = state.on_failure.take().filter(|_| is_first);
        drop(state);
        self.wake_all();
        for pending in group.into_iter().chain(queue) {
            pending.finish(Err(error.clone()));
        }
        if let Some(on_failure) = on_failure {
            on_failure(error.clone());
        }
    }

    /// Everybody looks again how the journal stands.
    pub(super) fn wake_all(&self) {
        self.queued.notify_all();
        self.asked.notify_all();
        self.advanced.notify_all();
        self.room_changed.notify_waiters();
    }
}
