//! Reading the log: record by record, to its end, and telling a torn end from damage.
//!
//! A record is *good* when its head validates with the salt of its segment, has the next sequence,
//! and its payload matches. Reading stops at the first place `p` that holds none; `q` is the
//! sequence that was expected there. Then:
//!
//! ```text
//! a later head, or opening, says that q was durable  -> damage: refused, with file and offset
//! nobody says so                                     -> torn: the log ends at p
//! ```
//!
//! What a power cut can leave is always torn: records of the last group, which was not synced, in
//! any order and part. Each head says what was durable when its group was *written*, and a group is
//! written after the one before it was synced; so no head of the last group knows of any record of
//! the last group. What was acknowledged was durable, so damage to it is damage to something that
//! a later head knows of: a later group, or the mark that is written when there is none.

use std::io::{BufReader, Read, SeekFrom};
use std::path::PathBuf;

use super::entry::Entry;
use super::error::{Damage, JournalError, Operation};
use super::log::{Begun, Found, Log};
use super::record::{ALIGNMENT, Checksums, HEAD_BYTES, Head, padding, payload_crc};
use super::segment::{HEADER_BYTES, Opening};
use crate::disk::DiskFile;

/// Read at a time.
const READ_BYTES: usize = 1 << 16;

/// A place in the log: a segment by its index, and an offset in its stream.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Place {
    pub(super) at: usize,
    pub(super) offset: u64,
}

/// A record of the log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record<'a> {
    /// Counts up; 1 is the first of an instance.
    pub sequence: u64,
    /// What happened.
    pub entry: Entry<'a>,
    /// The body of the request as received; empty where the entry has none.
    pub body: &'a [u8],
}

/// What salvaging passed over.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Salvage {
    /// Places where the log was damaged.
    pub gaps: u64,
    /// Records that are lost there.
    pub records: u64,
}

/// Where the log ended in a record that was not finished. Nothing of it was acknowledged.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Torn {
    /// The segment.
    pub file: PathBuf,
    /// Where the unfinished record begins.
    pub offset: u64,
    /// Heads of records behind it, none of which was on disk for certain. More than zero after a
    /// power cut only, or where nothing is synced.
    pub later: u64,
}

/// Why there is no good record at some place.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Nothing was begun there.
    Clean,
    /// It was on disk, and so was everything up to `known`.
    Damaged { error: JournalError, known: u64 },
    /// It was not finished.
    Torn(Torn),
}

/// Reads records in their order.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    log: &'a Log,
    checksums: Checksums,
    place: Place,
    /// A segment that is read though its opening is broken: a good record was found in it.
    salvaged: Option<usize>,
    /// The segment of `place`, at the offset of `place`.
    file: Option<BufReader<Box<dyn DiskFile>>>,
    /// Sequence of the last good record.
    pub(super) last: u64,
    /// Highest sequence that was on disk, by what was read.
    known: u64,
    /// Where the records behind `known` begin.
    unsure: Place,
    entry_bytes: usize,
    payload: Vec<u8>,
}

impl<'a> Reader<'a> {
    /// Begins at the first record of the oldest segment. A log without one has no records.
    pub(super) fn new(log: &'a Log, checksums: Checksums) -> Self {
        let opening = log.segments.first().and_then(|oldest| oldest.opening());
        let mut place = Place { at: 0, offset: opening.map_or(0, |it| it.first_record) };
        // A record from before the oldest segment may take all of it.
        while let Some(segment) = log.segments.get(place.at) {
            if opening.is_none() || place.offset < segment.capacity() {
                break;
            }
            place = Place { at: place.at + 1, offset: place.offset - segment.capacity() };
        }
        let last = opening.map_or(0, |it| it.sequence_before);
        let known = opening.map_or(0, |it| it.durable);
        let (unsure, payload) = (place, Vec::new());
        Self {
            log,
            checksums,
            place,
            salvaged: None,
            file: None,
            last,
            known,
            unsure,
            entry_bytes: 0,
            payload,
        }
    }

    /// Goes on at another place, behind record `last`.
    fn jump(&mut self, place: Place, last: u64) {
        (self.place, self.last, self.file) = (place, last, None);
    }

    /// Reads the next record that is no mark. False where there is no good one; `self.place` is
    /// there, and the next sequence is what was expected.
    pub(super) fn next(&mut self) -> Result<bool, JournalError> {
        loop {
            if !self.begin() {
                return Ok(false);
            }
            let place = self.place;
            let Some(head) = self.read_record()? else {
                self.jump(place, self.last);
                return Ok(false);
            };
            self.last = head.sequence;
            if head.durable > self.known {
                self.known = head.durable;
                // The first record of a group, or a mark: what says so was written after the sync.
                self.unsure = place;
            }
            if !head.is_mark() {
                return Ok(true);
            }
        }
    }

    /// Steps over the border of a segment between two records; false where the log ends.
    fn begin(&mut self) -> bool {
        loop {
            let Place { at, offset } = self.place;
            let Some(segment) = self.log.segments.get(at) else { return false };
            if self.log.last_of(at) == Some(self.last) {
                let next = self.log.next_opening(at).map_or(0, |it| it.sequence_before);
                self.jump(Place { at: at + 1, offset: 0 }, next);
                (self.known, self.unsure) = (self.last, self.place);
                continue;
            }
            if offset < segment.capacity() {
                return segment.opening().is_some() || self.salvaged == Some(at);
            }
            match self.log.next_opening(at) {
                Some(next) if next.continues(0, self.last) => {
                    self.jump(Place { at: at + 1, offset: 0 }, self.last);
                }
                _ => return false,
            }
        }
    }

    /// Reads a record or mark; `None` when there is no good one.
    fn read_record(&mut self) -> Result<Option<Head>, JournalError> {
        let begin = self.place;
        let salt = self.log.segments.get(begin.at).and_then(Found::salt);
        let mut head = [0; HEAD_BYTES];
        if !self.read(&mut head)? {
            return Ok(None);
        }
        let decoded = salt.and_then(|salt| Head::decode(&head, salt, self.last, self.checksums));
        let expected = |head: &Head| self.last + u64::from(!head.is_mark());
        let Some(head) = decoded.filter(|head| head.sequence == expected(head)) else {
            return Ok(None);
        };
        let Ok(length) = usize::try_from(head.length) else { return Ok(None) };
        self.entry_bytes = usize::try_from(head.entry_bytes).unwrap_or(usize::MAX);
        self.payload.clear();
        // Piece by piece: memory is taken for what is there, not for what a head says.
        while self.payload.len() < length {
            let begin = self.payload.len();
            self.payload.resize(length.min(begin + READ_BYTES), 0);
            let mut payload = std::mem::take(&mut self.payload);
            let is_there = self.read(payload.get_mut(begin..).unwrap_or_default());
            self.payload = payload;
            if !is_there? {
                return Ok(None);
            }
        }
        let mut pad = [0; ALIGNMENT];
        let pad = pad.get_mut(..padding(length).len()).unwrap_or_default();
        if !self.read(pad)? || !self.borders_agree(begin, head.sequence) {
            return Ok(None);
        }
        let (entry, body) = self.parts();
        let is_good = head.is_mark()
            || self.checksums == Checksums::Ignored
            || payload_crc(entry, body) == head.payload_crc;
        Ok(is_good.then_some(head))
    }

    /// Whether the segments that a record ran into, from `begin` to here, say that it did.
    fn borders_agree(&self, begin: Place, sequence: u64) -> bool {
        let mut first = self.place.offset;
        for at in (begin.at..self.place.at).rev() {
            let agrees = |next: &Opening| next.continues(first, sequence);
            if !self.log.next_opening(at).is_some_and(agrees) {
                return false;
            }
            first += self.log.segments.get(at).map_or(0, Found::capacity);
        }
        true
    }

    /// Fills `bytes` from the stream; false where it ends before.
    fn read(&mut self, bytes: &mut [u8]) -> Result<bool, JournalError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let Place { at, offset } = self.place;
            let Some(segment) = self.log.segments.get(at) else { return Ok(false) };
            let left = usize::try_from(segment.capacity() - offset).unwrap_or(usize::MAX);
            if left == 0 {
                if self.log.next_opening(at).is_none_or(|next| next.is_resumed) {
                    return Ok(false);
                }
                (self.place, self.file) = (Place { at: at + 1, offset: 0 }, None);
                continue;
            }
            let path = self.log.path(segment.number);
            let failed = |error| JournalError::io(Operation::Read, &path, offset)(error);
            let file = match &mut self.file {
                Some(file) => file,
                none => {
                    let mut file = self.log.open(segment.number)?;
                    file.seek(SeekFrom::Start(HEADER_BYTES + offset)).map_err(failed)?;
                    none.insert(BufReader::with_capacity(READ_BYTES, file))
                }
            };
            let count = left.min(rest.len());
            let (part, behind) = rest.split_at_mut(count);
            file.read_exact(part).map_err(failed)?;
            self.place.offset += count as u64;
            rest = behind;
        }
        Ok(true)
    }

    /// Entry and body of the record that was read last.
    fn parts(&self) -> (&[u8], &[u8]) {
        self.payload.split_at_checked(self.entry_bytes).unwrap_or_default()
    }

    /// The record that was read last.
    pub(super) fn record(&self) -> Result<Record<'_>, JournalError> {
        let (entry, body) = self.parts();
        let sequence = self.last;
        let entry = Entry::decode(entry).ok_or_else(|| self.damaged(Damage::Entry { sequence }))?;
        Ok(Record { sequence, entry, body })
    }

    /// Damage, here.
    fn damaged(&self, damage: Damage) -> JournalError {
        let number = self.log.segments.get(self.place.at).map_or(0, |it| it.number);
        JournalError::damaged(&self.log.path(number), HEADER_BYTES + self.place.offset, damage)
    }

    /// How many segments hold what was read.
    pub(super) fn kept(&self) -> usize {
        let Place { at, .. } = self.place;
        let is_begun = self.log.segments.get(at).is_some_and(|it| it.opening().is_some());
        at + usize::from(is_begun || self.salvaged == Some(at))
    }

    /// From where to where there are records of which nobody says that they were on disk. They
    /// were in no group, or the last, or their sync has failed.
    pub(super) fn unsure(&self) -> (Place, Place) {
        (self.unsure, self.place)
    }

    /// That the next record is not good, and was on disk.
    pub(super) fn damage(&self) -> JournalError {
        self.damaged(Damage::Record { sequence: self.last + 1 })
    }

    /// Why there is no good record here.
    pub(super) fn judge(&self) -> Result<Verdict, JournalError> {
        let Place { at, offset } = self.place;
        let Some(segment) = self.log.segments.get(at) else { return Ok(Verdict::Clean) };
        // A segment that is the oldest was begun durably, whatever its opening says: each record
        // that is left of it was acknowledged.
        let expected = if segment.opening().is_some() { self.last + 1 } else { 0 };
        let (mut later, mut known) = (0, None);
        for (behind, found) in self.log.segments.iter().enumerate().skip(at) {
            let opening = found.opening().filter(|_| behind > at);
            known = known.max(opening.map(|it| it.durable));
            // What was never begun is looked at only where it would be the next.
            if behind > at + 1 && found.begun == Begun::No {
                continue;
            }
            let offset = if behind == at { offset } else { 0 };
            let salt = found.salt().unwrap_or_default();
            self.log.scan(behind, offset, |_, bytes| {
                let head = Head::decode(bytes, salt, expected, Checksums::Checked)?;
                later += 1;
                known = known.max(Some(head.durable));
                None::<()>
            })?;
        }
        if let Some(known) = known.filter(|known| *known >= expected) {
            return Ok(Verdict::Damaged { error: self.damage(), known });
        }
        let file = self.log.path(segment.number);
        let torn = Torn { file, offset: HEADER_BYTES + offset, later };
        Ok(if later > 0 { Verdict::Torn(torn) } else { Verdict::Clean })
    }

    /// Goes to the next good record behind damage; where there is none, nowhere.
    pub(super) fn salvage(&mut self, salvage: &mut Salvage) -> Result<bool, JournalError> {
        let (lost_at, begin) = (self.last, self.place);
        salvage.gaps += 1;
        let mut from = begin;
        while from.at < self.log.segments.len() {
            while let Some((place, head)) = self.candidate(from, lost_at + 1)? {
                self.jump(place, head.sequence - 1);
                if self.read_record()?.is_some() {
                    self.jump(place, head.sequence - 1);
                    self.salvaged = Some(place.at);
                    salvage.records += head.sequence - 1 - lost_at;
                    return Ok(true);
                }
                from = Place { offset: place.offset + ALIGNMENT as u64, ..place };
            }
            if let Some(resumed) = self.log.next_opening(from.at).filter(|it| it.is_resumed) {
                let (durable, before) = (resumed.durable, resumed.sequence_before);
                self.jump(Place { at: from.at + 1, offset: 0 }, before);
                salvage.records += durable.saturating_sub(lost_at);
                return Ok(true);
            }
            from = Place { at: from.at + 1, offset: 0 };
        }
        self.jump(begin, lost_at);
        Ok(false)
    }

    /// The first head of a data record in the segment of `from`, at or behind it.
    fn candidate(
        &self,
        from: Place,
        sequence_min: u64,
    ) -> Result<Option<(Place, Head)>, JournalError> {
        let Some(salt) = self.log.segments.get(from.at).and_then(Found::salt) else {
            return Ok(None);
        };
        let sequence_max = self.log.last_of(from.at).unwrap_or(u64::MAX);
        self.log.scan(from.at, from.offset, |offset, bytes| {
            let head = Head::decode(bytes, salt, sequence_min, Checksums::Checked)?;
            let is_record = !head.is_mark() && head.sequence <= sequence_max;
            is_record.then_some((Place { offset, ..from }, head))
        })
    }
}
