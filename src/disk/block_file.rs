//! A file written front to back in whole blocks, from memory that is aligned to them: what a file
//! opened past the page cache takes.

use std::io::{self, Read, Seek, SeekFrom, Write};

use super::DiskFile;

/// Alignment of memory, offsets and lengths; no disk wants more.
const BLOCK_BYTES: usize = 4096;
/// What a disk writes whole; a short write ends at a multiple of this.
const SECTOR_BYTES: usize = 512;
/// Bytes collected before they are written. Half of a core's second cache, because what is copied
/// here is read again at once.
const BUFFER_BYTES: usize = 512 << 10;

/// Collects what is written and gives it to `F` in multiples of 4096 bytes.
///
/// Bytes are in the file after [`Write::flush`], [`DiskFile::sync_data`] or a seek elsewhere.
/// Those between the last byte written and the next multiple of 4096 become zeros, unless they
/// are in the block that a seek went to: that one is read first. The last block is kept, and
/// written again, with the same bytes before the new ones, when more follows.
///
/// Cost: one copy of what is written; 516 KiB of memory.
#[derive(Debug)]
pub struct BlockFile<F> {
    file: F,
    /// One block more than is used, so that an aligned place can be found in it.
    memory: Vec<u8>,
    /// Where the aligned place begins.
    aligned_at: usize,
    /// Where in the file the buffer begins: a multiple of a block.
    begin: u64,
    /// Bytes of the buffer that were written to it, or read before them.
    len: usize,
    /// Whether some of them are not in the file.
    is_dirty: bool,
}

impl<F: DiskFile> BlockFile<F> {
    /// `file`, at its beginning.
    pub fn new(file: F) -> Self {
        let memory = vec![0; BUFFER_BYTES + BLOCK_BYTES];
        let aligned_at = memory.as_ptr().align_offset(BLOCK_BYTES).min(BLOCK_BYTES);
        Self { file, memory, aligned_at, begin: 0, len: 0, is_dirty: false }
    }

    /// Whether the file can be read this way: where it cannot, it cannot be written so either.
    pub(super) fn is_possible(&mut self) -> bool {
        let block = self.memory.get_mut(self.aligned_at..self.aligned_at + BLOCK_BYTES);
        let result = self.file.read(block.unwrap_or_default());
        self.buffer().fill(0);
        result.is_ok()
    }

    fn buffer(&mut self) -> &mut [u8] {
        let end = self.aligned_at + BUFFER_BYTES;
        self.memory.get_mut(self.aligned_at..end).unwrap_or_default()
    }

    /// Where the next byte is written.
    fn position(&self) -> u64 {
        self.begin + self.len as u64
    }

    /// Writes what was collected, and goes on behind it: with the last block, if it is not full.
    ///
    /// After an error the same call tries the same again.
    fn write_out(&mut self) -> io::Result<()> {
        let whole = self.len.next_multiple_of(BLOCK_BYTES);
        let begin = self.begin;
        let mut at = 0;
        while at < whole {
            self.file.seek(SeekFrom::Start(begin + at as u64))?;
            let end = self.aligned_at + whole;
            let rest = self.memory.get(self.aligned_at + at..end).unwrap_or_default();
            match self.file.write(rest) {
                Ok(count) if count < SECTOR_BYTES => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => at += count.min(whole - at) / SECTOR_BYTES * SECTOR_BYTES,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let kept = self.len % BLOCK_BYTES;
        let full = self.len - kept;
        self.buffer().copy_within(full..whole, 0);
        self.begin += full as u64;
        self.len = kept;
        self.is_dirty = false;
        Ok(())
    }
}

impl<F: DiskFile> Read for BlockFile<F> {
    /// Not for reading.
    fn read(&mut self, _buffer: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl<F: DiskFile> Write for BlockFile<F> {
    /// Takes what fits; an error means that nothing was taken.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.len == BUFFER_BYTES {
            self.write_out()?;
        }
        let begin = self.len;
        let count = bytes.len().min(BUFFER_BYTES - begin);
        let (end, kept) = (begin + count, begin.next_multiple_of(BLOCK_BYTES));
        let buffer = self.buffer();
        if let (Some(room), Some(bytes)) = (buffer.get_mut(begin..end), bytes.get(..count)) {
            room.copy_from_slice(bytes);
        }
        // Behind the block that was begun before there are bytes of an earlier round.
        if end > kept {
            buffer.get_mut(end..end.next_multiple_of(BLOCK_BYTES)).unwrap_or_default().fill(0);
        }
        self.len = end;
        self.is_dirty |= count > 0;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.is_dirty { self.write_out() } else { Ok(()) }
    }
}

impl<F: DiskFile> Seek for BlockFile<F> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let SeekFrom::Start(position) = to else { return Err(io::ErrorKind::Unsupported.into()) };
        if position == self.position() {
            return Ok(position);
        }
        self.flush()?;
        let behind = position % BLOCK_BYTES as u64;
        self.begin = position - behind;
        self.len = 0;
        self.buffer().fill(0);
        if behind > 0 {
            self.file.seek(SeekFrom::Start(self.begin))?;
            let block = self.memory.get_mut(self.aligned_at..self.aligned_at + BLOCK_BYTES);
            self.file.read_exact(block.unwrap_or_default())?;
            self.len = usize::try_from(behind).unwrap_or_default();
        }
        Ok(position)
    }
}

impl<F: DiskFile> DiskFile for BlockFile<F> {
    fn sync_data(&mut self) -> io::Result<()> {
        self.flush()?;
        self.file.sync_data()
    }

    fn sync_all(&mut self) -> io::Result<()> {
        self.flush()?;
        self.file.sync_all()
    }

    fn byte_count(&self) -> io::Result<u64> {
        self.file.byte_count()
    }

    fn modified_ms(&self) -> io::Result<i64> {
        self.file.modified_ms()
    }
}
