//! Opening a journal: check all of it, hand out its records, go on behind the last.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use super::error::{JournalError, Operation};
use super::log::{Found, Log};
use super::reader::{Place, Reader, Record, Salvage, Torn, Verdict};
use super::segment::{self, Opening, Segment};
use super::shared::{InUse, Setup, Shared, State};
use super::spares::Spares;
use super::writer::Writer;
use super::{Journal, Options};
use crate::disk::{self, Disk};
use crate::durability::Durability;

/// A journal that was opened and checked, and is not written to yet. Opening changes nothing.
#[derive(Debug)]
pub struct Recovered {
    /// Made at random with the journal, and in each of its files.
    pub instance: [u8; 16],
    setup: Setup,
    log: Log,
    last: u64,
    /// The highest sequence that some record had, be it lost or not.
    taken: u64,
    /// How many segments hold the log; what is behind them is not of it.
    kept: usize,
    /// Where the records begin and end that may not be on disk.
    unsure: (Place, Place),
    /// Whether it has become so.
    is_durable: bool,
    records: u64,
    salvaged: Salvage,
    torn: Option<Torn>,
}

impl Recovered {
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        directory: &Path,
        options: &Options,
    ) -> Result<Self, JournalError> {
        let log = Log::load(&disk, directory, options.salvage)?;
        let instance = log.instance().unwrap_or_else(new_instance);
        let directory = directory.to_owned();
        let mut reader = Reader::new(&log, options.checksums);
        let (mut records, mut taken, mut salvaged) = (0, 0, Salvage::default());
        let torn = loop {
            if reader.next()? {
                reader.record()?;
                records += 1;
                continue;
            }
            match reader.judge()? {
                Verdict::Clean => break None,
                Verdict::Torn(torn) => break Some(torn),
                Verdict::Damaged { error, .. } if !options.salvage => return Err(error),
                Verdict::Damaged { known, .. } => {
                    if !reader.salvage(&mut salvaged)? {
                        salvaged.records += known.saturating_sub(reader.last);
                        taken = known;
                        break None;
                    }
                }
            }
        };
        let taken = reader.last.max(taken);
        let (last, kept, unsure) = (reader.last, reader.kept(), reader.unsure());
        let bytes = options.segment_bytes.max(segment::SEGMENT_BYTES_MIN);
        let segment_bytes = bytes.next_multiple_of(segment::HEADER_BYTES);
        let options = Options { segment_bytes, ..options.clone() };
        let setup = Setup { disk, directory, options, instance };
        let is_durable = false;
        Ok(Self {
            instance,
            setup,
            log,
            last,
            taken,
            kept,
            unsure,
            is_durable,
            records,
            salvaged,
            torn,
        })
    }

    /// The highest sequence in the journal; 0 when there is none.
    pub fn last_sequence(&self) -> u64 {
        self.last
    }

    /// The last sequence that was let go of: all above it, up to the end, are there.
    pub fn released(&self) -> u64 {
        self.in_use().front().map_or(0, |oldest| oldest.before)
    }

    /// How many records there are.
    pub fn record_count(&self) -> u64 {
        self.records
    }

    /// How many files hold them.
    pub fn segment_count(&self) -> usize {
        self.kept
    }

    /// What was passed over, when that was asked for and necessary.
    pub fn salvaged(&self) -> Option<Salvage> {
        (self.salvaged.gaps > 0).then_some(self.salvaged)
    }

    /// The unfinished record at the end, if there is a sign of one.
    pub fn torn(&self) -> Option<&Torn> {
        self.torn.as_ref()
    }

    /// Hands out all records in order; may be called again. One record is in memory at a time.
    ///
    /// # Errors
    /// What `each` returns, which ends it; or when the files are not what they were at opening.
    pub fn records<E: From<JournalError>>(
        &self,
        mut each: impl FnMut(Record<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut reader = Reader::new(&self.log, self.setup.options.checksums);
        let mut count = 0;
        while count < self.records {
            if reader.next()? {
                each(reader.record()?)?;
                count += 1;
            } else if !self.setup.options.salvage || !reader.salvage(&mut Salvage::default())? {
                return Err(reader.damage().into());
            }
        }
        Ok(())
    }

    /// Makes every record as durable as if it had just been acknowledged. To be called before
    /// anything is done that a record asks for: a power cut could take the record, and leave what
    /// was done of it.
    ///
    /// A power cut in here leaves the same records: what is part of the log is written over with
    /// the same bytes.
    ///
    /// # Errors
    /// When a file cannot be written or synced.
    pub fn make_durable(&mut self) -> Result<(), JournalError> {
        if !self.is_durable {
            self.write_again()?;
            self.is_durable = true;
        }
        Ok(())
    }

    /// Begins to write: records go on behind the last one, with `first_sequence` or above. It has
    /// to be above all that was published: files may have been taken away, and without syncs a
    /// power cut takes records whose rows are in files already.
    ///
    /// `on_failure` is called once, on a thread of the journal, when it cannot go on: nothing is
    /// acknowledged from then on, and what was not acknowledged may be on disk or not.
    ///
    /// With [`Durability::Memory`] all files are removed: what they hold must be published.
    ///
    /// A power cut in here leaves the same records: what is part of the log is made durable, and
    /// what is behind its end is taken away from the far end.
    ///
    /// # Errors
    /// When a file cannot be made or synced, or a thread cannot start.
    pub fn start(
        mut self,
        first_sequence: u64,
        on_failure: Box<dyn FnOnce(JournalError) + Send>,
    ) -> Result<Journal, JournalError> {
        let before = self.taken.max(first_sequence.saturating_sub(1));
        let mut state = State { assigned: before, durable: before, ..State::default() };
        state.on_failure = Some(on_failure);
        if self.setup.options.durability == Durability::Memory {
            self.remove_all()?;
            let setup = Setup { instance: new_instance(), ..self.setup };
            return Ok(Journal::new(Arc::new(Shared::new(setup, state))));
        }
        self.make_directory()?;
        self.make_durable()?;
        let filled = self.retire_rest()?;
        state.in_use = self.in_use();
        let next_number = match (self.kept().last(), self.log.segments.first()) {
            (Some(last), _) => last.number + 1,
            (None, Some(first)) => first.number,
            (None, None) => 1,
        };
        let next_spare = filled.len() as u64;
        let shared = Arc::new(Shared::new(self.setup, state));
        let mut spares = Spares {
            shared: Arc::clone(&shared),
            filled,
            next_number,
            next_spare,
            is_recycling_late: false,
        };
        spares.make()?;
        let mut current = shared.take_ready()?;
        current.open(&Opening {
            is_resumed: true,
            first_record: 0,
            sequence_before: before,
            durable: self.last,
        })?;
        current.sync()?;
        let number = current.identity.number;
        shared.lock().in_use.push_back(InUse { number, before: self.last, is_alike: true });
        let writer = Writer { shared: Arc::clone(&shared), current, offset: 0, synced: before };
        let journal = Journal::new(shared);
        journal.spawn("journal", move || writer.run())?;
        journal.spawn("journal-spares", move || spares.run())?;
        Ok(journal)
    }

    /// The segments that hold the log.
    fn kept(&self) -> &[Found] {
        self.log.segments.get(..self.kept).unwrap_or_default()
    }

    /// The kept segments, with what can be said of when they can be recycled.
    fn in_use(&self) -> VecDeque<InUse> {
        let mut before = 0;
        let in_use = self.kept().iter().map(|found| {
            if let Some(opening) = found.opening() {
                let resumed = opening.is_resumed.then_some(opening.durable);
                before = resumed.unwrap_or(opening.sequence_before);
            }
            InUse { number: found.number, before, is_alike: self.is_alike(found) }
        });
        in_use.collect()
    }

    /// Whether a segment is as large as those that are made.
    fn is_alike(&self, found: &Found) -> bool {
        let segment_bytes = self.setup.options.segment_bytes;
        found.identity.is_some_and(|it| it.segment_bytes == segment_bytes)
    }

    /// Makes the directory and its name durable.
    fn make_directory(&self) -> Result<(), JournalError> {
        let Setup { disk, directory, .. } = &self.setup;
        disk::create_directories(disk.as_ref(), directory).map_err(JournalError::io(
            Operation::Create,
            directory,
            0,
        ))?;
        let parent = directory.parent().unwrap_or(directory);
        disk.sync_directory(parent).map_err(JournalError::io(Operation::Sync, parent, 0))
    }

    /// Makes durable what was read and may not be, for the log will say that it is.
    ///
    /// After a kill it may be in memory only. After a sync that failed it may be in memory, taken
    /// for written, and nowhere else: a sync would do nothing. So the same bytes are written again.
    /// A power cut in between finds each of them old or new, which is the same.
    fn write_again(&self) -> Result<(), JournalError> {
        let (begin, end) = self.unsure;
        for (at, found) in self.kept().iter().enumerate().skip(begin.at) {
            let Some(identity) = found.identity else { continue };
            let (path, file) = (self.log.path(found.number), self.log.open(found.number)?);
            let mut segment = Segment { identity, path, file };
            if let Some(opening) = found.opening() {
                segment.open(opening)?;
            }
            let first = if at == begin.at { begin.offset } else { 0 };
            let last = if at == end.at { end.offset } else { identity.capacity() };
            segment.write_again(first..last)?;
            segment.sync()?;
        }
        Ok(())
    }

    /// Takes the numbers from all files behind the end of the log, from the far end, so that there
    /// never is a gap; returns those that are kept as spares. Their salts end with their numbers:
    /// what a torn group left in them is nothing to whoever gets these files next.
    fn retire_rest(&self) -> Result<Vec<u64>, JournalError> {
        let Setup { disk, directory, options, .. } = &self.setup;
        let disk = disk.as_ref();
        for spare in &self.log.spares {
            disk.remove_file(spare).map_err(JournalError::io(Operation::Remove, spare, 0))?;
        }
        let mut filled = Vec::new();
        for found in self.log.segments.iter().skip(self.kept).rev() {
            if self.is_alike(found) && filled.len() < options.spares.max(1) {
                let spare = filled.len() as u64;
                let path = segment::spare_path(directory, spare);
                segment::retire(disk, directory, found.number, &path)?;
                filled.push(spare);
            } else {
                segment::remove(disk, directory, found.number)?;
            }
        }
        Ok(filled)
    }

    /// Removes every file, the oldest first.
    fn remove_all(&self) -> Result<(), JournalError> {
        let Setup { disk, directory, .. } = &self.setup;
        for spare in &self.log.spares {
            disk.remove_file(spare).map_err(JournalError::io(Operation::Remove, spare, 0))?;
        }
        for found in &self.log.segments {
            segment::remove(disk.as_ref(), directory, found.number)?;
        }
        Ok(())
    }
}

/// What no other journal has.
fn new_instance() -> [u8; 16] {
    let halves = [segment::random(), segment::random()];
    let mut instance = [0; 16];
    let bytes = halves.into_iter().flat_map(u64::to_le_bytes);
    instance.iter_mut().zip(bytes).for_each(|(place, byte)| *place = byte);
    instance
}
