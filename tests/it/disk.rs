//! `BlockFile` against a vector of bytes: what was written is there, and was written as a disk that
//! is not asked through a page cache wants it.

#![expect(clippy::indexing_slicing, reason = "a test stops at the first surprise")]

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::{Arc, Mutex};

use peristyle::disk::{BlockFile, Disk, DiskFile, LocalDisk};

use crate::sim_disk::Random;

const BLOCK_BYTES: usize = 4096;

/// A file in memory that takes whole blocks from aligned memory, often a part of them, and
/// sometimes none.
#[derive(Clone, Debug)]
struct Picky {
    bytes: Arc<Mutex<Vec<u8>>>,
    at: usize,
    random: Random,
}

impl Picky {
    fn new(seed: u64) -> Self {
        Self { bytes: Arc::default(), at: 0, random: Random(seed) }
    }
}

impl Read for Picky {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        assert_eq!(buffer.as_ptr().addr() % BLOCK_BYTES, 0, "memory is aligned");
        assert_eq!((self.at % BLOCK_BYTES, buffer.len() % BLOCK_BYTES), (0, 0), "whole blocks");
        let bytes = self.bytes.lock().unwrap();
        let count = bytes.get(self.at..).unwrap_or_default().read(buffer)?;
        self.at += count;
        Ok(count)
    }
}

impl Write for Picky {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        assert_eq!(buffer.as_ptr().addr() % 512, 0, "memory is aligned");
        assert_eq!((self.at % 512, buffer.len() % 512), (0, 0), "whole sectors");
        assert_eq!((self.at + buffer.len()) % BLOCK_BYTES, 0, "up to the end of a block");
        let count = match self.random.below(8) {
            0 => return Err(io::ErrorKind::StorageFull.into()),
            1 => return Err(io::ErrorKind::Interrupted.into()),
            2 | 3 => (1 + self.random.index(buffer.len() / 512)) * 512,
            _ => buffer.len(),
        };
        let mut bytes = self.bytes.lock().unwrap();
        let end = bytes.len().max(self.at + count);
        bytes.resize(end, 0);
        bytes[self.at..self.at + count].copy_from_slice(&buffer[..count]);
        self.at += count;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Picky {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let SeekFrom::Start(at) = to else { return Err(io::ErrorKind::Unsupported.into()) };
        self.at = usize::try_from(at).unwrap();
        Ok(at)
    }
}

impl DiskFile for Picky {
    fn sync_data(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn byte_count(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().unwrap().len() as u64)
    }

    fn modified_ms(&self) -> io::Result<i64> {
        Ok(0)
    }
}

/// Tries until there is space.
fn insist<T>(mut act: impl FnMut() -> io::Result<T>) -> T {
    loop {
        match act() {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {}
            result => return result.unwrap(),
        }
    }
}

#[test]
fn a_block_file_holds_what_was_written_whatever_the_disk_takes_at_a_time() {
    for seed in 0..200 {
        let mut random = Random(seed);
        let disk = Picky::new(random.next());
        let mut file = BlockFile::new(disk.clone());
        // What is known of each byte: those behind the last one written may be anything.
        let mut expected: Vec<Option<u8>> = Vec::new();
        let mut at = 0;
        for _ in 0..=random.index(20) {
            let longest = [64, 5_000, 700_000][random.index(3)];
            let written: Vec<u8> =
                (0..random.index(longest)).map(|_| random.next().to_le_bytes()[0]).collect();
            let mut rest = written.as_slice();
            while !rest.is_empty() {
                let count = insist(|| file.write(rest));
                rest = &rest[count..];
            }
            let end = at + written.len();
            expected.resize(expected.len().max(end.next_multiple_of(BLOCK_BYTES)), None);
            expected[at..end].iter_mut().zip(written).for_each(|(place, byte)| *place = Some(byte));
            expected[end..end.next_multiple_of(BLOCK_BYTES)].fill(None);
            at = end;
            if random.below(3) == 0 {
                insist(|| file.flush());
                let bytes = disk.bytes.lock().unwrap();
                for (at, (found, expected)) in bytes.iter().zip(&expected).enumerate() {
                    assert!(
                        expected.is_none_or(|it| it == *found),
                        "seed {seed}: byte {at} of {end}"
                    );
                }
                assert!(bytes.len() >= end, "seed {seed}: all of it was written");
            }
            if random.below(5) == 0 {
                at = random.index(expected.len() + 1);
                insist(|| file.seek(SeekFrom::Start(at as u64)));
            }
        }
    }
}

/// As the header of a segment is written: one part of a block, later the next.
#[test]
fn a_seek_into_a_block_keeps_all_of_it() {
    let disk = Picky::new(1);
    *disk.bytes.lock().unwrap() = vec![7; 3 * BLOCK_BYTES];
    let mut file = BlockFile::new(disk.clone());
    insist(|| file.seek(SeekFrom::Start(512)));
    assert_eq!(file.write(&[1; 512]).unwrap(), 512);
    insist(|| file.sync_data());
    let mut expected = vec![7; 3 * BLOCK_BYTES];
    expected[512..1024].fill(1);
    assert_eq!(*disk.bytes.lock().unwrap(), expected);
}

#[test]
fn a_file_opened_to_be_synced_is_a_file_like_any_other() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    drop(LocalDisk.create(&path).unwrap());
    let mut file = LocalDisk.open_synced(&path).unwrap();
    let mut random = Random(1);
    let bytes: Vec<u8> = (0..1_000_003).map(|_| random.next().to_le_bytes()[0]).collect();
    file.write_all(&bytes[..70_001]).unwrap();
    file.sync_data().unwrap();
    file.write_all(&bytes[70_001..]).unwrap();
    file.sync_all().unwrap();
    let mut found = Vec::new();
    LocalDisk.open(&path).unwrap().take(bytes.len() as u64).read_to_end(&mut found).unwrap();
    assert_eq!(found, bytes);
}
