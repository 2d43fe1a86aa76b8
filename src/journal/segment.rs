//! Segments: files of one size, the room of the stream of records.
//!
//! ```text
//!  0          512       1024            4096                        segment_bytes
//! +----------+---------+---------------+---------------------------+
//! | identity | opening | zeros         | stream ...                |
//! +----------+---------+---------------+---------------------------+
//!
//! identity  magic[8] | version u32 | segment_bytes u64 | instance[16] | number u64 | nonce u64
//!           | crc
//! opening   how u32 | first_record u64 | sequence_before u64 | durable u64 | crc
//! ```
//!
//! The *identity* is written and synced before a file gets its name `<number>.wal`: under such a
//! name a file is whole, has its size and says what it is, or it is damaged. The *opening* is
//! written with the first bytes of the stream and synced with them, before any of its records is
//! acknowledged; a segment that was never begun has zeros there. The blocks are sectors of their
//! own, so that no power cut tears one while the other is written.
//!
//! The *salt* of a segment comes from its identity, whose nonce is new each time a file gets a
//! number: what a recycled file held before never validates, and a segment whose opening is broken
//! can still be read well enough to tell that it was begun.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::error::{Damage, JournalError, Operation};
use super::fields::Fields;
use crate::disk::{Disk, DiskFile};
use crate::durability::Durability;

/// Format of the files.
pub(super) const VERSION: u32 = 2;
/// Where the stream begins in a segment.
pub(super) const HEADER_BYTES: u64 = 4096;
/// Smallest segment.
pub(super) const SEGMENT_BYTES_MIN: u64 = 2 * HEADER_BYTES;
/// A block of the header: what a disk writes whole or not at all.
pub(super) const BLOCK_BYTES: usize = 512;
/// Where the opening stands.
pub(super) const OPENING_OFFSET: u64 = 512;
const MAGIC: [u8; 8] = *b"PERISTYL";
const EXTENSION: &str = ".wal";
const SPARE: &str = "spare-";
/// Written at a time when a file is filled; synced each time, so that an acknowledgement waits for
/// one slice of a spare at most, and not for all that a file system has put off.
const FILL_BYTES: usize = 1 << 20;

/// One block of a header, or less.
type Block = [u8; BLOCK_BYTES];

/// Which segment a file is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Identity {
    pub(super) segment_bytes: u64,
    pub(super) instance: [u8; 16],
    pub(super) number: u64,
    pub(super) nonce: u64,
}

impl Identity {
    pub(super) fn encode(&self) -> Block {
        block(
            &MAGIC
                .into_iter()
                .chain(VERSION.to_le_bytes())
                .chain(self.segment_bytes.to_le_bytes())
                .chain(self.instance)
                .chain(self.number.to_le_bytes())
                .chain(self.nonce.to_le_bytes())
                .collect::<Vec<u8>>(),
            0,
        )
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        let read = || {
            let mut fields = Fields(bytes);
            let is_magic = fields.array()? == MAGIC;
            let version = fields.u32()?;
            let segment_bytes = fields.u64()?;
            let instance = fields.array()?;
            let identity =
                Self { segment_bytes, instance, number: fields.u64()?, nonce: fields.u64()? };
            let is_whole = fields.u32()? == crc_of(bytes, fields.0.len() + 4, 0)?;
            let is_sound = segment_bytes >= SEGMENT_BYTES_MIN && segment_bytes % 8 == 0;
            (is_magic && is_whole && is_sound).then_some((version, identity))
        };
        match read() {
            None => Err(Damage::Identity),
            Some((VERSION, identity)) => Ok(identity),
            Some((found, _)) => Err(Damage::Version { found }),
        }
    }

    /// Seed of the checksums of everything in the segment but this block.
    pub(super) fn salt(&self) -> u32 {
        let salt = crc32c::crc32c(&self.instance);
        let salt = crc32c::crc32c_append(salt, &self.number.to_le_bytes());
        crc32c::crc32c_append(salt, &self.nonce.to_le_bytes())
    }

    /// Bytes of the stream that a segment holds.
    pub(super) fn capacity(&self) -> u64 {
        self.segment_bytes - HEADER_BYTES
    }
}

/// How a segment was begun.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Opening {
    /// The stream begins afresh: the log before it ends with the record `durable`, whatever
    /// follows that record there.
    pub(super) is_resumed: bool,
    /// Where the first record that begins at or behind this segment begins, from the beginning of
    /// its stream; at or beyond its capacity when one record takes the whole segment.
    pub(super) first_record: u64,
    /// The sequence of the first record, less one.
    pub(super) sequence_before: u64,
    /// Highest sequence that was known to be on disk when this was written.
    pub(super) durable: u64,
}

impl Opening {
    /// Whether this is what a segment says into which record `sequence` runs, up to `first`.
    pub(super) fn continues(&self, first: u64, sequence: u64) -> bool {
        !self.is_resumed && self.first_record == first && self.sequence_before == sequence
    }

    pub(super) fn encode(&self, salt: u32) -> Block {
        let how: u32 = if self.is_resumed { 2 } else { 1 };
        block(
            &how.to_le_bytes()
                .into_iter()
                .chain(self.first_record.to_le_bytes())
                .chain(self.sequence_before.to_le_bytes())
                .chain(self.durable.to_le_bytes())
                .collect::<Vec<u8>>(),
            salt,
        )
    }

    /// `None` when the block is broken, or was never written.
    pub(super) fn decode(bytes: &[u8], salt: u32) -> Option<Self> {
        let mut fields = Fields(bytes);
        let how = fields.u32()?;
        let opening = Self {
            is_resumed: how == 2,
            first_record: fields.u64()?,
            sequence_before: fields.u64()?,
            durable: fields.u64()?,
        };
        let is_whole = fields.u32()? == crc_of(bytes, fields.0.len() + 4, salt)?;
        (is_whole && matches!(how, 1 | 2)).then_some(opening)
    }
}

/// Fields, their checksum, and zeros.
fn block(fields: &[u8], salt: u32) -> Block {
    let mut block = [0; BLOCK_BYTES];
    let crc = crc32c::crc32c_append(salt, fields).to_le_bytes();
    let bytes = fields.iter().chain(&crc);
    block.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
    block
}

/// The checksum of all but the last `behind` bytes.
fn crc_of(bytes: &[u8], behind: usize, salt: u32) -> Option<u32> {
    let covered = bytes.get(..bytes.len().checked_sub(behind)?)?;
    Some(crc32c::crc32c_append(salt, covered))
}

/// The name of a segment.
pub(super) fn path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:016x}{EXTENSION}"))
}

/// The name of a file that is made into a segment, or that was one.
pub(super) fn spare_path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{SPARE}{number:016x}{EXTENSION}"))
}

/// What a name in the directory of the journal says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Name {
    Segment(u64),
    Spare,
}

impl Name {
    /// `None` for what is not the journal's.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let stem = name.strip_suffix(EXTENSION)?;
        if stem.starts_with(SPARE) {
            return Some(Self::Spare);
        }
        let number = u64::from_str_radix(stem, 16).ok()?;
        (format!("{number:016x}") == stem).then_some(Self::Segment(number))
    }
}

/// A number that nobody has had, nor can guess.
pub(super) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// A segment that is written to, or will be.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) identity: Identity,
    pub(super) path: PathBuf,
    pub(super) file: Box<dyn DiskFile>,
}

/// Opens a file as it will be written.
fn open(
    disk: &dyn Disk,
    path: &Path,
    durability: Durability,
) -> Result<Box<dyn DiskFile>, JournalError> {
    let opened = match durability {
        Durability::Fsync => disk.open_synced(path),
        Durability::Os | Durability::Memory => disk.open(path),
    };
    opened.map_err(JournalError::io(Operation::Open, path, 0))
}

/// Makes a file of zeros: every byte is written once, so that writing it again touches no metadata
/// and `fdatasync` writes nothing but data.
pub(super) fn fill(
    disk: &dyn Disk,
    path: &Path,
    bytes: u64,
    durability: Durability,
) -> Result<(), JournalError> {
    drop(disk.create(path).map_err(JournalError::io(Operation::Create, path, 0))?);
    let mut file = open(disk, path, durability)?;
    let zeros = vec![0; FILL_BYTES];
    let mut offset = 0;
    while offset < bytes {
        let count = usize::try_from(bytes - offset).unwrap_or(FILL_BYTES).min(FILL_BYTES);
        file.write_all(zeros.get(..count).unwrap_or_default()).map_err(JournalError::io(
            Operation::Write,
            path,
            offset,
        ))?;
        file.sync_data().map_err(JournalError::io(Operation::Sync, path, offset))?;
        offset += count as u64;
    }
    Ok(())
}

/// Makes a filled file the segment `identity`, ready to be begun. When this returns, the file is
/// there under its name whatever happens.
///
/// A power cut before the name is durable leaves a spare, and one in the rename a spare or a
/// segment that was not begun: both hold nothing.
pub(super) fn prepare(
    disk: &dyn Disk,
    directory: &Path,
    spare: &Path,
    identity: Identity,
    durability: Durability,
) -> Result<Segment, JournalError> {
    let mut file = open(disk, spare, durability)?;
    let mut header = identity.encode().to_vec();
    header.resize(usize::try_from(HEADER_BYTES).unwrap_or_default(), 0);
    file.write_all(&header).map_err(JournalError::io(Operation::Write, spare, 0))?;
    file.sync_all().map_err(JournalError::io(Operation::Sync, spare, 0))?;
    let path = path(directory, identity.number);
    disk.rename(spare, &path).map_err(JournalError::io(Operation::Rename, spare, 0))?;
    disk.sync_directory(directory).map_err(JournalError::io(Operation::Sync, directory, 0))?;
    Ok(Segment { identity, path, file })
}

/// Takes its number from a segment, durably: the file is a spare then. Segments are retired from
/// an end of the log only, one after the other, so that there never is a gap.
pub(super) fn retire(
    disk: &dyn Disk,
    directory: &Path,
    number: u64,
    spare: &Path,
) -> Result<(), JournalError> {
    let path = path(directory, number);
    disk.rename(&path, spare).map_err(JournalError::io(Operation::Rename, &path, 0))?;
    disk.sync_directory(directory).map_err(JournalError::io(Operation::Sync, directory, 0))
}

/// Removes a segment, durably; as [`retire`], from an end of the log only.
pub(super) fn remove(disk: &dyn Disk, directory: &Path, number: u64) -> Result<(), JournalError> {
    let path = path(directory, number);
    match disk.remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(JournalError::io(Operation::Remove, &path, 0)(error))
        }
        _ => {
            disk.sync_directory(directory).map_err(JournalError::io(Operation::Sync, directory, 0))
        }
    }
}

impl Segment {
    /// Goes to an offset of the file.
    pub(super) fn seek(&mut self, offset: u64) -> Result<(), JournalError> {
        self.file.seek(SeekFrom::Start(offset)).map(drop).map_err(JournalError::io(
            Operation::Write,
            &self.path,
            offset,
        ))
    }

    /// Writes the opening; it is synced with what follows it.
    pub(super) fn open(&mut self, opening: &Opening) -> Result<(), JournalError> {
        let block = opening.encode(self.identity.salt());
        self.seek(OPENING_OFFSET)?;
        self.file.write_all(&block).map_err(JournalError::io(
            Operation::Write,
            &self.path,
            OPENING_OFFSET,
        ))
    }

    /// Writes a part of the stream again as it is.
    pub(super) fn write_again(&mut self, part: Range<u64>) -> Result<(), JournalError> {
        let mut bytes = vec![0; FILL_BYTES];
        let mut offset = HEADER_BYTES + part.start;
        while offset < HEADER_BYTES + part.end {
            let left = usize::try_from(HEADER_BYTES + part.end - offset).unwrap_or(FILL_BYTES);
            let bytes = bytes.get_mut(..left.min(FILL_BYTES)).unwrap_or_default();
            self.seek(offset)?;
            self.file.read_exact(bytes).map_err(JournalError::io(
                Operation::Read,
                &self.path,
                offset,
            ))?;
            self.seek(offset)?;
            self.file.write_all(bytes).map_err(JournalError::io(
                Operation::Write,
                &self.path,
                offset,
            ))?;
            offset += bytes.len() as u64;
        }
        Ok(())
    }

    /// Syncs what was written. After an error nobody may do it again.
    pub(super) fn sync(&mut self) -> Result<(), JournalError> {
        self.file.sync_data().map_err(JournalError::io(Operation::Sync, &self.path, 0))
    }
}
