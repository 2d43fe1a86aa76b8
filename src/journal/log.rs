//! The segments that are there, and what their headers say.

use std::fmt::{self, Debug};
use std::io::{Read, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{io, mem};

use super::error::{Damage, JournalError, Operation};
use super::record::{ALIGNMENT, HEAD_BYTES};
use super::segment::{self, BLOCK_BYTES, HEADER_BYTES, Identity, Name, OPENING_OFFSET, Opening};
use crate::disk::{Disk, DiskFile};

/// Zeros that are looked for as a whole.
const ZEROS: [u8; 4096] = [0; 4096];
/// How many of them are passed: no head that begins in these has a byte of its sequence elsewhere.
const PASSED_BYTES: usize = ZEROS.len() - HEAD_BYTES;

/// The files of a journal, oldest segment first.
#[derive(Clone)]
pub(super) struct Log {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) directory: PathBuf,
    pub(super) segments: Vec<Found>,
    /// Files without a number.
    pub(super) spares: Vec<PathBuf>,
}

/// A segment as it was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) number: u64,
    /// `None` when it is damaged, which is only gone on with when salvaging.
    pub(super) identity: Option<Identity>,
    pub(super) begun: Begun,
}

/// What the place of the opening holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Begun {
    /// Something else: a torn opening, or a damaged one.
    Broken,
    /// Zeros.
    No,
    Yes(Opening),
}

impl Found {
    pub(super) fn salt(&self) -> Option<u32> {
        self.identity.map(|identity| identity.salt())
    }

    pub(super) fn capacity(&self) -> u64 {
        self.identity.map_or(0, |identity| identity.capacity())
    }

    pub(super) fn opening(&self) -> Option<&Opening> {
        match &self.begun {
            Begun::Yes(opening) => Some(opening),
            Begun::Broken | Begun::No => None,
        }
    }
}

impl Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { directory, segments, .. } = self;
        f.debug_struct("Log").field("directory", directory).field("segments", segments).finish()
    }
}

impl Log {
    /// Looks at the headers of all segments. A directory that is missing is an empty one.
    ///
    /// A name that a segment has, it has from before it was begun to when all of it was published;
    /// so a file that is missing between two others, or is not what its name says, was damaged.
    pub(super) fn load(
        disk: &Arc<dyn Disk>,
        directory: &Path,
        is_salvage: bool,
    ) -> Result<Self, JournalError> {
        let mut log = Self {
            disk: Arc::clone(disk),
            directory: directory.to_owned(),
            segments: Vec::new(),
            spares: Vec::new(),
        };
        let entries = match disk.list(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(log),
            entries => entries.map_err(JournalError::io(Operation::List, directory, 0))?,
        };
        let mut numbers = Vec::new();
        for entry in entries {
            match entry.name.to_str().and_then(Name::parse) {
                Some(Name::Segment(number)) => numbers.push(number),
                Some(Name::Spare) => log.spares.push(directory.join(entry.name)),
                None => {}
            }
        }
        numbers.sort_unstable();
        for number in numbers {
            let after = log.segments.last().map(|last| last.number + 1);
            if let Some(missing) = after.filter(|after| *after != number && !is_salvage) {
                let path = segment::path(directory, missing);
                return Err(JournalError::damaged(&path, 0, Damage::Missing));
            }
            let found = match log.look_at(number)? {
                Err(error) if !is_salvage => return Err(error),
                Err(_) => Found { number, identity: None, begun: Begun::Broken },
                Ok(found) => found,
            };
            log.segments.push(found);
        }
        Ok(log)
    }

    /// Reads one header. The outer error is one of reading, the inner one of what was read.
    fn look_at(&self, number: u64) -> Result<Result<Found, JournalError>, JournalError> {
        let path = segment::path(&self.directory, number);
        let file = self.open(number)?;
        let found = file.byte_count().map_err(JournalError::io(Operation::Read, &path, 0))?;
        let mut header = Vec::new();
        file.take(HEADER_BYTES).read_to_end(&mut header).map_err(JournalError::io(
            Operation::Read,
            &path,
            0,
        ))?;
        let block = |offset: usize| header.get(offset..offset + BLOCK_BYTES).unwrap_or_default();
        let identity = match Identity::decode(block(0)) {
            Err(damage) => return Ok(Err(JournalError::damaged(&path, 0, damage))),
            Ok(identity) => identity,
        };
        let expected = identity.segment_bytes;
        let instance = self.instance().unwrap_or(identity.instance);
        let damage = if identity.number != number {
            Some(Damage::Identity)
        } else if identity.instance != instance {
            Some(Damage::Instance)
        } else {
            (found != expected).then_some(Damage::Size { expected, found })
        };
        if let Some(damage) = damage {
            return Ok(Err(JournalError::damaged(&path, 0, damage)));
        }
        let block = block(usize::try_from(OPENING_OFFSET).unwrap_or_default());
        let begun = match Opening::decode(block, identity.salt()) {
            Some(opening) => Begun::Yes(opening),
            None if block.iter().all(|byte| *byte == 0) => Begun::No,
            None => Begun::Broken,
        };
        Ok(Ok(Found { number, identity: Some(identity), begun }))
    }

    /// The instance of all segments; `None` when there are none.
    pub(super) fn instance(&self) -> Option<[u8; 16]> {
        self.segments.iter().find_map(|found| found.identity).map(|it| it.instance)
    }

    pub(super) fn path(&self, number: u64) -> PathBuf {
        segment::path(&self.directory, number)
    }

    /// Opens a segment.
    pub(super) fn open(&self, number: u64) -> Result<Box<dyn DiskFile>, JournalError> {
        let path = self.path(number);
        self.disk.open(&path).map_err(JournalError::io(Operation::Open, &path, 0))
    }

    /// The opening of the segment behind `at`, when it is there and was begun.
    pub(super) fn next_opening(&self, at: usize) -> Option<&Opening> {
        let (this, next) = (self.segments.get(at)?, self.segments.get(at + 1)?);
        next.opening().filter(|_| next.number == this.number + 1)
    }

    /// The record that the log ends with in segment `at`, because it was resumed behind it.
    pub(super) fn last_of(&self, at: usize) -> Option<u64> {
        self.next_opening(at).filter(|next| next.is_resumed).map(|next| next.durable)
    }

    /// The bytes of the stream in segment `at` that may be the end of a head in the one before.
    fn beginning(&self, at: usize) -> Result<Vec<u8>, JournalError> {
        let mut bytes = Vec::new();
        if let Some(found) = self.segments.get(at).filter(|it| it.identity.is_some()) {
            let path = self.path(found.number);
            let failed = |error| JournalError::io(Operation::Read, &path, HEADER_BYTES)(error);
            let mut file = self.open(found.number)?;
            file.seek(SeekFrom::Start(HEADER_BYTES)).map_err(failed)?;
            bytes.resize(HEAD_BYTES - ALIGNMENT, 0);
            file.read_exact(&mut bytes).map_err(failed)?;
        }
        Ok(bytes)
    }

    /// Gives `visit` every aligned place of the stream of segment `at` from `offset` on, with the
    /// bytes that would be a head, until it returns something.
    pub(super) fn scan<T>(
        &self,
        at: usize,
        offset: u64,
        mut visit: impl FnMut(u64, &[u8; HEAD_BYTES]) -> Option<T>,
    ) -> Result<Option<T>, JournalError> {
        const CHUNK_BYTES: usize = 1 << 20;
        let Some(found) = self.segments.get(at).filter(|it| it.identity.is_some()) else {
            return Ok(None);
        };
        let path = self.path(found.number);
        let failed = |error| JournalError::io(Operation::Read, &path, HEADER_BYTES)(error);
        let mut file = self.open(found.number)?;
        file.seek(SeekFrom::Start(HEADER_BYTES + offset)).map_err(failed)?;
        let mut offset = offset;
        let mut window = Vec::new();
        let mut is_complete = false;
        loop {
            let kept = window.len();
            let chunk = file.by_ref().take(CHUNK_BYTES as u64);
            let read = { chunk }.read_to_end(&mut window).map_err(failed)?;
            debug_assert_eq!(window.len(), kept + read, "what was read is appended");
            if read == 0 {
                if is_complete {
                    return Ok(None);
                }
                window.extend(self.beginning(at + 1)?);
                is_complete = true;
            }
            let mut rest = window.as_slice();
            while let Some(head) = rest.first_chunk() {
                // A head that begins in zeros has no sequence: most of a segment is passed so.
                if let Some((_, behind)) = rest.split_at_checked(PASSED_BYTES)
                    && rest.starts_with(&ZEROS)
                {
                    rest = behind;
                    offset += PASSED_BYTES as u64;
                    continue;
                }
                if let Some(result) = visit(offset, head) {
                    return Ok(Some(result));
                }
                let (_, behind) = rest.split_at(ALIGNMENT);
                rest = behind;
                offset += ALIGNMENT as u64;
            }
            let rest = rest.to_vec();
            drop(mem::replace(&mut window, rest));
        }
    }
}
