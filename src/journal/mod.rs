//! The write-ahead log: bodies as they were received, on disk before they are acknowledged.
//!
//! ```text
//!  shards                  writer thread                 spares thread
//!  reserve room  <- - - - - - - - - - - - - - - - - - -  make segments ahead
//!  append -> queue ------> write, sync, write, sync ...  recycle what is published
//!            ticket <----- durable
//!
//!  <dir>/0000000000000001.wal   ...0002.wal   ...0003.wal   ...0004.wal
//!        in use                 in use        current       ready: zeros, synced
//!
//!  | head | record 1 | record 2 | reco || head | rd 3 | record 4 | mark | zeros ... |
//!          <------ stream of segment 1 -->      <------ stream of segment 2 ------->
//! ```
//!
//! A record is a head of 32 bytes, an entry that says what happened, and the raw body (`record`).
//! Records stand behind each other in one stream, which runs on from segment to segment
//! (`segment`), so that room is exact: what was reserved can be written.
//!
//! **Acknowledged** is what a [`Ticket`] says: with [`Durability::Fsync`] the record and all
//! before it are on disk; with [`Durability::Os`] the operating system has them, and they survive
//! a kill but not a power cut; with [`Durability::Memory`] nothing is kept. Whatever happens,
//! recovery finds every acknowledged record once, in order, whole; what was appended and not
//! acknowledged it finds or not, and records that are found are a prefix of those appended.
//!
//! | what happens | then |
//! |---|---|
//! | power cut before a group's sync | the log ends before its first record that is not whole |
//! | power cut while a segment is made | a spare, or a segment that was never begun: no records |
//! | power cut while one is recycled | it is there or not; it is the oldest, all of it published |
//! | power cut in recovery | the log is as it was: it is written over with its own bytes |
//! | a sync fails, a write fails | [`JournalError`] to all, for ever; the process has to end |
//! | start after a failed sync | what was read may be in memory only: it is written again |
//! | no space for a new segment | no reservations, until there is; what has room is written |
//! | no space in room that there was | the write is tried until it succeeds |
//! | damage to what was acknowledged | not opened: file and offset; or salvaged, and counted |
//!
//! Damage is told from a torn end by what later records say was durable (`reader`). It is not told
//! from it where nothing was written later: after a power cut or a kill in a moment of quiet, and
//! under [`Durability::Os`], where nothing is known to be durable. That the oldest file was taken
//! away looks like recycling; whoever knows what was published can tell.
//!
//! Not here: what codes in entries mean, what is replayed and what is published already (`engine`).

mod body;

mod entry;

mod error;

mod fields;

mod log;

mod reader;

mod record;

mod recover;

mod segment;

mod shared;

mod spares;

mod writer;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{fmt, mem};

use tokio::sync::oneshot;

pub use self::body::Body;
pub use self::entry::{Column, Columns, Entry, Write};
pub use self::error::{Cause, Damage, JournalError, Operation};
pub use self::reader::{Record, Salvage, Torn};
pub use self::record::Checksums;
use self::record::{PAYLOAD_BYTES_MAX, payload_crc, record_bytes};
pub use self::recover::Recovered;
use self::shared::{Pending, Shared, Status, signed};
use crate::disk::Disk;
use crate::durability::Durability;

/// How a journal is kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// When a write is acknowledged.
    pub durability: Durability,
    /// Size of a file; rounded up to a multiple of 4096, and to 8192 at least.
    pub segment_bytes: u64,
    /// Files kept for later use, at least; a busy journal keeps up to 64.
    pub spares: usize,
    /// Go on behind damage.
    pub salvage: bool,
    /// Wait between two tries of what failed for want of space.
    pub retry_after: Duration,
    /// How long nothing is written until the log says that its last record is on disk, which it
    /// says sooner with every record that follows: damage is told from a torn end by it.
    pub mark_after: Duration,
    /// For the test that shows that the tests need checksums.
    #[doc(hidden)]
    pub checksums: Checksums,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            durability: Durability::Fsync,
            segment_bytes: 64 << 20,
            spares: 4,
            salvage: false,
            retry_after: Duration::from_secs(1),
            mark_after: Duration::from_millis(50),
            checksums: Checksums::Checked,
        }
    }
}

/// Counts since the start, and how it stands.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct JournalStats {
    /// Bytes of records written, heads and padding included, marks not.
    pub written_bytes: u64,
    /// Syncs of records.
    pub syncs: u64,
    /// Time of all these syncs, in nanoseconds.
    pub sync_ns_sum: u64,
    /// Time of the longest, in nanoseconds.
    pub sync_ns_max: u64,
    /// Bytes of records that wait to be written.
    pub queued_bytes: u64,
    /// Segments begun, the first not counted.
    pub segments_begun: u64,
    /// Segments whose records are all published.
    pub segments_recycled: u64,
    /// Segments that hold records.
    pub segments_in_use: u64,
    /// Segments made ahead.
    pub segments_ready: u64,
    /// Bytes that could be reserved at once; 0 when there is less than what is set aside.
    pub room_bytes: u64,
    /// Everything up to here was said to be in the Delta log.
    pub published: u64,
    /// Tries to make or recycle a segment that failed.
    pub spare_failures: u64,
    /// Whether no room could be made, or used, when that was last tried.
    pub is_full: bool,
}

/// Why there is no room.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// The journal is closed, or about to be.
    Closed,
    /// The disk takes no more.
    DiskFull,
    /// The journal has failed.
    Failed,
    /// More than any record may be.
    TooLarge,
}

/// Opens the journal in `directory` and checks all of it. A directory that is missing is an empty
/// journal. Nothing is changed before [`Recovered::start`].
///
/// # Errors
/// [`Cause::Damaged`] when something that was on disk for certain is not what was written; with
/// [`Options::salvage`] that is passed over and counted. Otherwise what the file system says.
pub fn open(
    disk: Arc<dyn Disk>,
    directory: &Path,
    options: &Options,
) -> Result<Recovered, JournalError> {
    Recovered::open(disk, directory, options)
}

/// A journal that is written to.
#[derive(Debug)]
pub struct Journal {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// Room for one record; given back when it is dropped.
#[derive(Debug)]
pub struct Reservation {
    shared: Arc<Shared>,
    bytes: i64,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.shared.lock().room += mem::take(&mut self.bytes);
            self.shared.room_changed.notify_waiters();
        }
    }
}

impl Journal {
    fn new(shared: Arc<Shared>) -> Self {
        Self { shared, threads: Mutex::default() }
    }

    /// Starts a thread that ends when the journal is closed or fails.
    fn spawn(&self, name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), JournalError> {
        let shared = Arc::clone(&self.shared);
        let spawned = thread::Builder::new().name(name.to_owned()).spawn(move || {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
                shared.fail(&JournalError::closed(&shared.setup.directory), Vec::new());
                resume_unwind(panic);
            }
        });
        let directory = &self.shared.setup.directory;
        let thread = spawned.map_err(JournalError::io(Operation::Start, directory, 0))?;
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        Ok(())
    }

    /// What is in each file of this journal, and in no other journal.
    pub fn instance(&self) -> [u8; 16] {
        self.shared.setup.instance
    }

    /// When a write is acknowledged.
    pub fn durability(&self) -> Durability {
        self.shared.setup.options.durability
    }

    /// Reserves room for a record with a body of up to `body_bytes`, so that [`Journal::append`]
    /// cannot fail for want of it. Waits while room is being made; does not wait for a full disk.
    ///
    /// # Errors
    /// [`Refusal`]; a later call may succeed after [`Refusal::DiskFull`], and makes the journal
    /// try again to find room.
    pub async fn reserve(&self, body_bytes: usize) -> Result<Reservation, Refusal> {
        loop {
            let mut changed = pin!(self.shared.room_changed.notified());
            // Before the look at the state, so that no change in between is missed.
            changed.as_mut().enable();
            if let Some(reservation) = self.try_reserve(body_bytes)? {
                return Ok(reservation);
            }
            changed.await;
        }
    }

    /// [`Journal::reserve`] without waiting: `None` while room is being made.
    fn try_reserve(&self, body_bytes: usize) -> Result<Option<Reservation>, Refusal> {
        let entry_bytes = entry::FIXED_BYTES_MAX + entry::NAME_BYTES_MAX;
        let payload_bytes = body_bytes.saturating_add(entry_bytes);
        if u32::try_from(payload_bytes).map_or(true, |it| it > PAYLOAD_BYTES_MAX) {
            return Err(Refusal::TooLarge);
        }
        let bytes = signed(record_bytes(payload_bytes));
        let reservation = |bytes| Reservation { shared: Arc::clone(&self.shared), bytes };
        let mut state = self.shared.lock();
        match state.status {
            Status::Open => {}
            Status::Closing | Status::Closed => return Err(Refusal::Closed),
            Status::Failed(_) => return Err(Refusal::Failed),
        }
        if self.durability() == Durability::Memory {
            return Ok(Some(reservation(0)));
        }
        if state.is_stuck {
            return Err(Refusal::DiskFull);
        }
        if state.room - self.shared.setup.allowance() >= bytes {
            state.room -= bytes;
            return Ok(Some(reservation(bytes)));
        }
        state.wanted = state.wanted.max(bytes);
        state.is_asked = true;
        self.shared.asked.notify_one();
        if state.is_full { Err(Refusal::DiskFull) } else { Ok(None) }
    }

    /// Appends a record, behind all that were appended before. Never waits for a disk: room was
    /// reserved, and what `entry` needs beyond that comes from what is set aside.
    ///
    /// The ticket tells when the record is durable, and gives the body's buffer back, empty if it
    /// is shared. Dropping it does not take the record back.
    pub fn append(
        &self,
        reservation: Reservation,
        entry: &Entry<'_>,
        body: impl Into<Body>,
    ) -> Ticket {
        let (sender, receiver) = oneshot::channel();
        let sequence = self.push(reservation, entry.encode_whole(), body.into(), Some(sender));
        Ticket { sequence, receiver }
    }

    /// Appends what has no body and nobody waits for: decisions of columns, drops, keys. They
    /// cannot be refused, so that room is set aside for them; a very long one becomes several
    /// records. Returns the sequence of the last; see [`Journal::wait_durable`].
    pub fn append_decision(&self, entry: &Entry<'_>) -> u64 {
        let mut sequence = 0;
        for piece in entry.encode() {
            let none = Reservation { shared: Arc::clone(&self.shared), bytes: 0 };
            sequence = self.push(none, piece, Vec::new().into(), None);
        }
        sequence
    }

    fn push(
        &self,
        mut reservation: Reservation,
        entry: Vec<u8>,
        body: Body,
        ticket: Option<oneshot::Sender<Result<Vec<u8>, JournalError>>>,
    ) -> u64 {
        let payload_crc = match self.durability() {
            Durability::Memory => 0,
            Durability::Fsync | Durability::Os => payload_crc(&entry, &body),
        };
        let mut pending = Pending { sequence: 0, entry, body, payload_crc, ticket };
        let bytes = record_bytes(pending.payload_bytes());
        let mut state = self.shared.lock();
        state.assigned += 1;
        pending.sequence = state.assigned;
        let sequence = pending.sequence;
        state.room += mem::take(&mut reservation.bytes);
        let result = match &state.status {
            Status::Failed(error) => Err(error.clone()),
            Status::Closing | Status::Closed => {
                Err(JournalError::closed(&self.shared.setup.directory))
            }
            Status::Open if self.durability() == Durability::Memory => {
                state.durable = sequence;
                Ok(())
            }
            Status::Open => {
                state.room -= signed(bytes);
                state.stats.queued_bytes += bytes;
                state.queue.push_back(pending);
                // What was reserved beyond the record is room again, perhaps for who waits.
                let is_waited_for = state.wanted > 0;
                drop(state);
                self.shared.queued.notify_one();
                if is_waited_for {
                    self.shared.room_changed.notify_waiters();
                }
                return sequence;
            }
        };
        drop(state);
        pending.finish(result);
        sequence
    }

    /// The last sequence that was given to a record.
    pub fn last_sequence(&self) -> u64 {
        self.shared.lock().assigned
    }

    /// The last sequence that is durable, and all before it.
    pub fn durable(&self) -> u64 {
        self.shared.lock().durable
    }

    /// Blocks until `sequence` is durable.
    ///
    /// # Errors
    /// When the journal failed or was closed before.
    pub fn wait_durable(&self, sequence: u64) -> Result<(), JournalError> {
        let mut state = self.shared.lock();
        loop {
            if state.durable >= sequence {
                return Ok(());
            }
            match &state.status {
                Status::Failed(error) => return Err(error.clone()),
                Status::Closed => return Err(JournalError::closed(&self.shared.setup.directory)),
                Status::Open | Status::Closing => {}
            }
            state = Shared::wait(&self.shared.advanced, state);
        }
    }

    /// Says that everything up to `published` is in the Delta log: its segments are used again.
    /// As many as are let go at once are kept, within bounds: so many will be wanted again.
    pub fn recycle(&self, published: u64) {
        let mut state = self.shared.lock();
        state.published = state.published.max(published);
        let freed = state.in_use.iter().skip(1).filter(|next| next.before <= published).count();
        state.spares_wanted = freed.max(state.spares_wanted / 2);
        self.shared.asked.notify_one();
    }

    /// Whether [`Journal::recycle`] with this would let go of a segment.
    pub fn is_recyclable(&self, published: u64) -> bool {
        self.shared.lock().is_recyclable(published)
    }

    /// Counts, and how it stands.
    pub fn stats(&self) -> JournalStats {
        let state = self.shared.lock();
        let room = state.room - self.shared.setup.allowance();
        JournalStats {
            segments_in_use: state.in_use.len() as u64,
            segments_ready: state.ready.len() as u64,
            room_bytes: u64::try_from(room).unwrap_or(0),
            published: state.published,
            is_full: state.is_full || state.is_stuck,
            ..state.stats
        }
    }

    /// Writes and syncs what is queued, and ends the threads. What is appended later is refused.
    /// On a disk that is full in room that there was, what is queued fails.
    pub fn close(&self) {
        let mut state = self.shared.lock();
        if matches!(state.status, Status::Open) {
            let is_memory = self.durability() == Durability::Memory;
            state.status = if is_memory { Status::Closed } else { Status::Closing };
        }
        drop(state);
        self.shared.wake_all();
        let threads = {
            let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
            mem::take(&mut *threads)
        };
        for thread in threads {
            if thread.thread().id() != thread::current().id() && thread.join().is_err() {
                tracing::error!("a thread of the journal has panicked");
            }
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.close();
    }
}

/// A record on its way to the disk.
#[must_use = "what is not waited for may not be durable"]
pub struct Ticket {
    sequence: u64,
    receiver: oneshot::Receiver<Result<Vec<u8>, JournalError>>,
}

impl Ticket {
    /// The sequence of the record.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }
}

impl Future for Ticket {
    /// The body's buffer, when the record is durable. After an error it is durable or not.
    type Output = Result<Vec<u8>, JournalError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // The sender is dropped without a word only when the writer has panicked.
        let closed = |_| Err(JournalError::closed(Path::new("")));
        Pin::new(&mut self.receiver).poll(context).map(|result| result.unwrap_or_else(closed))
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}
