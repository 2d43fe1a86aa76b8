//! The messages of a stream: metadata, and the bytes behind them.
//!
//! ```text
//! stream  = message* end?                    end = ff ff ff ff 00 00 00 00, or the end of the body
//! message = ff ff ff ff | length i32 | metadata, a flatbuffer | bytes of buffers
//! ```
//!
//! Little-endian. Before version 0.15 of the format the four `ff` were not there. A flatbuffer is
//! verified before anything is read from it.

use std::ops::Range;

use arrow_ipc::{MetadataVersion, root_as_message};

use super::error::StreamError;

/// Stands before a length.
const CONTINUATION: [u8; 4] = [0xff; 4];
/// Begins the file format.
const FILE_MAGIC: &[u8] = b"ARROW1";

/// One message.
#[derive(Debug)]
pub(super) struct Message<'a> {
    /// What it says.
    pub(super) head: arrow_ipc::Message<'a>,
    /// Where its buffers are in the body of the request.
    pub(super) buffers: Range<usize>,
}

/// What stands next.
#[derive(Debug)]
pub(super) enum Next<'a> {
    /// A message.
    Message(Message<'a>),
    /// The mark that ends a stream; another one may follow.
    EndOfStream,
    /// The end of the body.
    EndOfBody,
}

/// The messages of a body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Messages<'a> {
    bytes: &'a [u8],
    /// The next byte to read.
    pub(super) at: usize,
    /// Messages read, marks not counted.
    pub(super) count: u64,
}

impl<'a> Messages<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, count: 0 }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], StreamError> {
        let end = self.at.checked_add(count).ok_or(StreamError::Truncated)?;
        let taken = self.bytes.get(self.at..end).ok_or(StreamError::Truncated)?;
        self.at = end;
        Ok(taken)
    }

    fn four(&mut self) -> Result<[u8; 4], StreamError> {
        self.take(4)?.try_into().map_err(|_| StreamError::Truncated)
    }

    /// Reads what stands next and moves behind it.
    ///
    /// # Errors
    /// `Truncated`, `Metadata`, `Version`, `FileFormat`.
    pub(super) fn next(&mut self) -> Result<Next<'a>, StreamError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(Next::EndOfBody);
        }
        if rest.starts_with(FILE_MAGIC) {
            return Err(StreamError::FileFormat);
        }
        let first = self.four()?;
        let word = if first == CONTINUATION { self.four()? } else { first };
        let length = i32::from_le_bytes(word);
        if length == 0 {
            return Ok(Next::EndOfStream);
        }
        self.count += 1;
        let length = usize::try_from(length).map_err(|_| StreamError::Metadata)?;
        if first != CONTINUATION && length > rest.len() {
            // Rather something else than an old stream cut short.
            return Err(StreamError::Metadata);
        }
        let head = root_as_message(self.take(length)?).map_err(|_| StreamError::Metadata)?;
        if !matches!(head.version(), MetadataVersion::V4 | MetadataVersion::V5) {
            return Err(StreamError::Version);
        }
        let length = usize::try_from(head.bodyLength()).map_err(|_| StreamError::Metadata)?;
        let start = self.at;
        self.take(length)?;
        Ok(Next::Message(Message { head, buffers: start..self.at }))
    }
}
