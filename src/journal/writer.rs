//! The thread that writes: take what is queued, write it, sync it, tell those who wait, repeat.

use std::io::{self, IoSlice};
use std::mem;
use std::sync::Arc;
use std::time::Instant;

use super::Options;
use super::error::{JournalError, Operation};
use super::record::{HEAD_BYTES, Head, padding, record_bytes};
use super::segment::{HEADER_BYTES, Opening, Segment};
use super::shared::{InUse, Next, Pending, Shared, State, Status, signed};
use crate::disk;
use crate::durability::Durability;

/// Slices of one system call; more is an error of `writev`.
const SLICES_MAX: usize = 1024;

#[derive(Debug)]
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    /// The segment that is written to.
    pub(super) current: Segment,
    /// Where in its stream the next record begins; `offset <= capacity`.
    pub(super) offset: u64,
    /// Last sequence that was synced.
    pub(super) synced: u64,
}

/// A group as it will be in the files.
#[derive(Debug)]
struct Plan {
    heads: Vec<[u8; HEAD_BYTES]>,
    /// Bytes of all records.
    bytes: u64,
    /// The segments behind the current one that the group runs into, with their openings.
    further: Vec<(Segment, Opening)>,
}

impl Writer {
    pub(super) fn run(mut self) {
        let result = self.write_groups().and_then(|()| self.close());
        if let Err(error) = result {
            self.shared.fail(&error, Vec::new());
        }
    }

    fn write_groups(&mut self) -> Result<(), JournalError> {
        let is_synced = self.options().durability == Durability::Fsync;
        let mark_after = is_synced.then_some(self.options().mark_after);
        let mut quiet_after = None;
        loop {
            match self.shared.next_group(quiet_after) {
                Next::Group(records) => {
                    self.store(records)?;
                    quiet_after = mark_after;
                }
                Next::Quiet => {
                    self.mark(false)?;
                    quiet_after = None;
                }
                Next::Closed => return Ok(()),
            }
        }
    }

    /// Writes a group and tells who waits for it.
    fn store(&mut self, records: Vec<Pending>) -> Result<(), JournalError> {
        if let Err(error) = self.write_group(&records) {
            // What became of these is not known: the process ends, and they are replayed or they
            // are not there.
            self.shared.fail(&error, records);
            return Err(error);
        }
        let last = records.last().map_or(self.synced, |it| it.sequence);
        if self.options().durability == Durability::Fsync {
            self.synced = last;
        }
        let mut state = self.shared.lock();
        state.durable = last;
        let is_spare_due = state.is_recyclable(state.published.min(last))
            || state.room < self.shared.setup.allowance();
        drop(state);
        self.shared.advanced.notify_all();
        if is_spare_due {
            self.shared.asked.notify_one();
        }
        for record in records {
            record.finish(Ok(()));
        }
        Ok(())
    }

    fn options(&self) -> &Options {
        &self.shared.setup.options
    }

    /// Everything is written: one more mark, this one synced, so that the end is known to be one.
    fn close(&mut self) -> Result<(), JournalError> {
        self.mark(true)?;
        if self.options().durability == Durability::Fsync {
            self.current.sync()?;
        }
        self.shared.lock().status = Status::Closed;
        self.shared.wake_all();
        Ok(())
    }

    /// Says in the log that its last record is on disk, when nothing else was written for a while
    /// that would: damage to that record is told from a torn one by it. It is synced with the next
    /// group, or not at all: it is there after a kill, and perhaps after a power cut.
    ///
    /// A mark stays within its segment, so that it never begins one; the last record of a segment
    /// that is full to the last bytes goes without. Where nothing is synced it could say nothing.
    fn mark(&mut self, is_last: bool) -> Result<(), JournalError> {
        let left = self.shared.setup.capacity() - self.offset;
        if left < HEAD_BYTES as u64 || self.options().durability != Durability::Fsync {
            return Ok(());
        }
        let mut state = self.shared.lock();
        let bytes = signed(HEAD_BYTES as u64);
        let is_room = is_last || state.room >= self.shared.setup.allowance() / 2;
        if !state.queue.is_empty() || !is_room {
            return Ok(());
        }
        state.room -= bytes;
        drop(state);
        let sequence = self.synced;
        let mark = Head { length: 0, sequence, durable: sequence, entry_bytes: 0, payload_crc: 0 };
        let head = mark.encode(self.current.identity.salt());
        self.current.seek(HEADER_BYTES + self.offset)?;
        write_all(&self.shared, &mut self.current, self.offset, &mut [IoSlice::new(&head)])?;
        self.offset += HEAD_BYTES as u64;
        Ok(())
    }

    /// Writes records behind each other, from the buffers that they came in, and syncs them.
    ///
    /// Crash points: before the sync returned, any sectors of what was written may be on disk;
    /// the heads among them know of nothing in this group, so that recovery ends the log at the
    /// first record that is not whole. Records behind that one are not acknowledged, and are not
    /// looked at again: what goes on behind them is a new segment.
    fn write_group(&mut self, records: &[Pending]) -> Result<(), JournalError> {
        let plan = self.plan(records)?;
        let slices = records.iter().zip(&plan.heads).flat_map(|(record, head)| {
            let pad = padding(record.payload_bytes());
            [head.as_slice(), &record.entry, &record.body, pad]
        });
        let mut rest = slices.filter(|slice| !slice.is_empty()).collect::<Vec<_>>();
        let capacity = self.shared.setup.capacity();
        let mut left = plan.bytes;
        let count = left.min(capacity - self.offset);
        self.write_part(&mut rest, count)?;
        left -= count;
        let mut written = Vec::new();
        for (mut segment, opening) in plan.further {
            segment.open(&opening)?;
            written.push(mem::replace(&mut self.current, segment));
            self.offset = 0;
            let count = left.min(capacity);
            self.write_part(&mut rest, count)?;
            left -= count;
            let number = self.current.identity.number;
            let mut state = self.shared.lock();
            let before = opening.sequence_before;
            state.in_use.push_back(InUse { number, before, is_alike: true });
            state.stats.segments_begun += 1;
        }
        self.shared.lock().stats.written_bytes += plan.bytes;
        if self.options().durability == Durability::Fsync {
            for segment in written.iter_mut().chain([&mut self.current]) {
                sync(&self.shared, segment)?;
            }
        }
        Ok(())
    }

    /// Decides where each record will be; takes the segments for it.
    fn plan(&self, records: &[Pending]) -> Result<Plan, JournalError> {
        let capacity = self.shared.setup.capacity();
        let bytes = records.iter().map(|it| record_bytes(it.payload_bytes())).sum::<u64>();
        let end = self.offset + bytes;
        let mut further: Vec<(Segment, Opening)> = Vec::new();
        while end > capacity * (further.len() as u64 + 1) {
            let none =
                Opening { is_resumed: false, first_record: 0, sequence_before: 0, durable: 0 };
            further.push((self.shared.take_ready()?, none));
        }
        let mut begins = Vec::with_capacity(records.len());
        let mut heads = Vec::with_capacity(records.len());
        let mut begin = self.offset;
        for record in records {
            let index = usize::try_from(begin / capacity).unwrap_or(usize::MAX);
            let segment = match index.checked_sub(1) {
                None => &self.current,
                Some(index) => further.get(index).map_or(&self.current, |(segment, _)| segment),
            };
            let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
            let head = Head {
                length: length(record.payload_bytes()),
                sequence: record.sequence,
                durable: self.synced,
                entry_bytes: length(record.entry.len()),
                payload_crc: record.payload_crc,
            };
            heads.push(head.encode(segment.identity.salt()));
            begins.push((begin, record.sequence));
            begin += record_bytes(record.payload_bytes());
        }
        for (index, (_, opening)) in further.iter_mut().enumerate() {
            let border = capacity * (index as u64 + 1);
            let behind = begins.partition_point(|(begin, _)| *begin < border);
            let first = begins.get(behind).map_or(end, |(begin, _)| *begin);
            let before = behind.checked_sub(1).and_then(|it| begins.get(it));
            let sequence_before = match before {
                Some((_, sequence)) => *sequence,
                None => records.first().map_or(self.synced, |it| it.sequence - 1),
            };
            *opening = Opening {
                is_resumed: false,
                first_record: first - border,
                sequence_before,
                durable: self.synced,
            };
        }
        Ok(Plan { heads, bytes, further })
    }

    /// Writes the next `count` bytes of `rest` into the current segment.
    fn write_part(&mut self, rest: &mut Vec<&[u8]>, count: u64) -> Result<(), JournalError> {
        let mut left = usize::try_from(count).unwrap_or(usize::MAX);
        let mut slices = Vec::new();
        let mut taken = 0;
        for slice in rest.iter_mut() {
            let Some((head, behind)) = slice.split_at_checked(left) else {
                slices.push(IoSlice::new(slice));
                left -= slice.len();
                taken += 1;
                continue;
            };
            slices.push(IoSlice::new(head));
            *slice = behind;
            break;
        }
        self.current.seek(HEADER_BYTES + self.offset)?;
        write_all(&self.shared, &mut self.current, self.offset, &mut slices)?;
        rest.drain(..taken);
        self.offset += count;
        Ok(())
    }
}

/// Writes all slices, at the position of the file, which is `offset` in its stream.
///
/// A file system that copies on write can be out of space in room that was written before. Nothing
/// was promised about these bytes, so the same write is tried until there is space; meanwhile no
/// reservation is given.
fn write_all(
    shared: &Shared,
    segment: &mut Segment,
    offset: u64,
    mut slices: &mut [IoSlice<'_>],
) -> Result<(), JournalError> {
    let mut offset = HEADER_BYTES + offset;
    IoSlice::advance_slices(&mut slices, 0);
    loop {
        let group = slices.get(..slices.len().min(SLICES_MAX)).unwrap_or_default();
        let result = match group {
            [] => segment.file.flush().map(|()| 0),
            group => match segment.file.write_vectored(group) {
                Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                result => result,
            },
        };
        match result {
            Ok(0) => break,
            Ok(count) => {
                IoSlice::advance_slices(&mut slices, count);
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                let is_full = disk::is_full(&error);
                let error = JournalError::io(Operation::Write, &segment.path, offset)(error);
                if !is_full {
                    return Err(error);
                }
                wait_for_space(shared, error)?;
                // A write that failed may have moved the position, or not.
                segment.seek(offset)?;
            }
        }
    }
    let mut state = shared.lock();
    if mem::take(&mut state.is_stuck) {
        shared.room_changed.notify_waiters();
    }
    Ok(())
}

/// Waits before the next try; gives up when the journal closes.
fn wait_for_space(shared: &Shared, error: JournalError) -> Result<(), JournalError> {
    let mut state = shared.lock();
    if !state.is_stuck {
        tracing::warn!(%error, "the disk is full: writes are refused until there is room");
    }
    state.is_stuck = true;
    shared.room_changed.notify_waiters();
    if !matches!(state.status, Status::Open) {
        return Err(error);
    }
    let retry_after = shared.setup.options.retry_after;
    let is_open = |state: &mut State| matches!(state.status, Status::Open);
    drop(shared.queued.wait_timeout_while(state, retry_after, is_open));
    Ok(())
}

/// Syncs, and counts how long that took.
#[expect(clippy::disallowed_methods, reason = "a measurement that nothing depends on")]
fn sync(shared: &Shared, segment: &mut Segment) -> Result<(), JournalError> {
    let begin = Instant::now();
    let result = segment.sync();
    let took = u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let mut state = shared.lock();
    state.stats.syncs += 1;
    state.stats.sync_ns_sum = state.stats.sync_ns_sum.saturating_add(took);
    state.stats.sync_ns_max = state.stats.sync_ns_max.max(took);
    result
}
