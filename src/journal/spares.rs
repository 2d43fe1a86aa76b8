//! The thread that makes segments ahead of the writer, and makes old ones new.
//!
//! A thread of its own, because pre-writing 64 MiB takes as long as hundreds of groups: what an
//! acknowledgement can wait for is the slice that the disk is busy with.
//!
//! ```text
//!            fill             name             begin           all published
//! (nothing) ------> spare-n -------> <n>.wal --------> in use ---------------> spare-n, or removed
//!                                    ready                        retire
//! ```

use std::io;
use std::sync::Arc;

use super::Durability;
use super::error::{Cause, JournalError, Operation};
use super::segment::{self, Segment};
use super::shared::{Shared, State, Status, signed};
use crate::disk;

/// Files kept by a busy journal: as many as a flush interval of 400 MB a second takes.
const SPARES_MAX: usize = 64;

#[derive(Debug)]
pub(super) struct Spares {
    pub(super) shared: Arc<Shared>,
    /// Numbers of files that are filled and have no segment's name.
    pub(super) filled: Vec<u64>,
    /// Number of the next segment.
    pub(super) next_number: u64,
    /// Number of the next spare.
    pub(super) next_spare: u64,
    /// The last try to recycle failed: others go first.
    pub(super) is_recycling_late: bool,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Task {
    Make,
    /// The oldest segment holds nothing that is not published.
    Recycle {
        number: u64,
        next: u64,
        is_kept: bool,
    },
}

impl Spares {
    pub(super) fn run(mut self) {
        while let Some(task) = self.next_task() {
            let result = match task {
                Task::Make => self.make(),
                Task::Recycle { number, next, is_kept } => self.recycle(number, next, is_kept),
            };
            self.is_recycling_late = task != Task::Make && result.is_err();
            match result {
                Ok(()) => {}
                // What a failed sync left on disk is not known.
                Err(error) if is_final(&error) => return self.shared.fail(&error, Vec::new()),
                Err(error) => self.pause(task, &error),
            }
        }
    }

    /// Waits for something to do; `None` when the journal is over.
    fn next_task(&self) -> Option<Task> {
        let mut state = self.shared.lock();
        loop {
            if state.is_over() {
                return None;
            }
            if let Some(task) = self.task(&state) {
                return Some(task);
            }
            state = Shared::wait(&self.shared.asked, state);
        }
    }

    fn task(&self, state: &State) -> Option<Task> {
        let setup = &self.shared.setup;
        let is_short = state.ready.is_empty() || state.room - setup.allowance() < state.wanted;
        let is_tried = !state.is_full || state.is_asked;
        let make = (!self.filled.is_empty() || (is_short && is_tried)).then_some(Task::Make);

        let is_recyclable = state.is_recyclable(state.published.min(state.durable));
        let next = state.in_use.get(1).filter(|_| is_recyclable);
        let recycle = next.zip(state.in_use.front()).map(|(next, oldest)| {
            let spares = state.ready.len() + self.filled.len();
            let wanted = setup.options.spares.max(state.spares_wanted.min(SPARES_MAX));
            let is_kept = oldest.is_alike && spares < wanted;
            Task::Recycle { number: oldest.number, next: next.number, is_kept }
        });
        if self.is_recycling_late { make.or(recycle) } else { recycle.or(make) }
    }

    /// One more segment is ready.
    pub(super) fn make(&mut self) -> Result<(), JournalError> {
        self.shared.lock().is_asked = false;
        let setup = &self.shared.setup;
        let (disk, directory) = (setup.disk.as_ref(), setup.directory.as_path());
        let (number, is_new) = match self.filled.pop() {
            Some(number) => (number, false),
            None => (self.next_spare, true),
        };
        let path = segment::spare_path(directory, number);
        let identity = setup.identity(self.next_number);
        let durability = setup.options.durability;
        let filled = if is_new {
            self.next_spare += 1;
            segment::fill(disk, &path, setup.options.segment_bytes, durability)
        } else {
            Ok(())
        };
        let prepare = || segment::prepare(disk, directory, &path, identity, durability);
        let made = filled.and_then(|()| prepare());
        match made {
            Ok(segment) => self.offer(segment),
            Err(error) => {
                // Not a word of it was used. Its place matters on a full disk.
                disk.remove_file(&path).ok();
                return Err(error);
            }
        }
        self.next_number += 1;
        Ok(())
    }

    fn offer(&self, segment: Segment) {
        let mut state = self.shared.lock();
        state.room = state.room.saturating_add(signed(self.shared.setup.capacity()));
        if state.room - self.shared.setup.allowance() >= state.wanted {
            state.wanted = 0;
        }
        state.ready.push_back(segment);
        state.is_full = false;
        drop(state);
        self.shared.advanced.notify_all();
        self.shared.room_changed.notify_waiters();
    }

    /// Crash points: before the directory is synced the segment is there or not; it is the oldest
    /// one, and all its records are in the Delta log, which drops them when they are replayed.
    fn recycle(&mut self, number: u64, next: u64, is_kept: bool) -> Result<(), JournalError> {
        let setup = &self.shared.setup;
        let (disk, directory) = (setup.disk.as_ref(), setup.directory.as_path());
        if setup.options.durability == Durability::Os {
            // Nobody has synced the opening of what is the oldest segment then.
            let path = segment::path(directory, next);
            let mut file = disk.open(&path).map_err(JournalError::io(Operation::Open, &path, 0))?;
            file.sync_data().map_err(JournalError::io(Operation::Sync, &path, 0))?;
        }
        if is_kept {
            let spare = self.next_spare;
            self.next_spare += 1;
            segment::retire(disk, directory, number, &segment::spare_path(directory, spare))?;
            self.filled.push(spare);
        } else {
            segment::remove(disk, directory, number)?;
        }
        let mut state = self.shared.lock();
        state.in_use.pop_front();
        state.stats.segments_recycled += 1;
        // What was removed made room on the disk.
        state.is_full = false;
        Ok(())
    }

    /// After a failure that may pass: tells those who wait, and does nothing for a while.
    fn pause(&self, task: Task, error: &JournalError) {
        tracing::warn!(%error, cause = %error.cause, "no room was made for the journal");
        let mut state = self.shared.lock();
        state.stats.spare_failures += 1;
        if task == Task::Make {
            state.is_full = true;
            state.wanted = 0;
        }
        self.shared.advanced.notify_all();
        self.shared.room_changed.notify_waiters();
        // Who closes the journal does not wait for this.
        let is_open = |state: &mut State| matches!(state.status, Status::Open);
        let retry_after = self.shared.setup.options.retry_after;
        drop(self.shared.asked.wait_timeout_while(state, retry_after, is_open));
    }
}

/// Whether nobody can know what is on disk after this.
fn is_final(error: &JournalError) -> bool {
    let is_passing = matches!(&error.cause, Cause::Io(cause)
        if disk::is_full(cause) || cause.kind() == io::ErrorKind::Interrupted);
    error.operation == Operation::Sync && !is_passing
}
