//! A checksum of a whole file, in its own footer.
//!
//! Parquet has none: a flipped bit is a wrong value, or an error far away. The checksum is the
//! CRC32C of all bytes of the file, with zeros where its own eight digits are:
//!
//! ```text
//! PAR1  row groups  [ indexes, footer ... peristyle.crc32c = 00000000 ... length  PAR1 ]
//!       on their way to disk           held back until the sum of all is known
//! ```

use std::io::{self, Read, Write};

use parquet::file::metadata::KeyValue;

/// Footer key of the checksum: 8 hex digits.
pub const METADATA_CRC32C: &str = "peristyle.crc32c";
/// What stands in for the digits while they are unknown.
const BLANK: &str = "00000000";
/// Between a key and a value of eight bytes, in the compact form of Thrift.
const BETWEEN: [u8; 2] = [0x18, 8];
/// Bytes read at a time.
const READ_BYTES: usize = 1 << 20;

/// The pair to be filled in; the last one of its footer.
pub(super) fn blank() -> KeyValue {
    KeyValue::new(METADATA_CRC32C.to_owned(), BLANK.to_owned())
}

/// Writes to another sink, and sums up.
#[derive(Debug)]
pub(super) struct Summed<W> {
    sink: W,
    sum: u32,
    /// What is written once the sum is known.
    held: Option<Vec<u8>>,
}

impl<W: Write> Summed<W> {
    pub(super) fn new(sink: W) -> Self {
        Self { sink, sum: 0, held: None }
    }

    /// Holds back what is written from here on: indexes and the footer.
    pub(super) fn hold(&mut self) {
        self.held.get_or_insert_default();
    }

    /// Fills the sum into what was held back, and lets it go.
    ///
    /// # Errors
    /// What the sink says; when there is no [`blank`] to be filled in, a mistake of ours.
    pub(super) fn release(&mut self) -> io::Result<()> {
        let mut held = self.held.take().unwrap_or_default();
        let sum = format!("{:08x}", crc32c::crc32c_append(self.sum, &held));
        let digits = digits(&mut held).filter(|it| *it == BLANK.as_bytes());
        let digits = digits.ok_or_else(|| io::Error::other("expected a blank checksum"))?;
        digits.copy_from_slice(sum.as_bytes());
        self.sink.write_all(&held)
    }
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(held) = &mut self.held {
            held.extend_from_slice(bytes);
            return Ok(bytes.len());
        }
        let count = self.sink.write(bytes)?;
        let written = bytes.get(..count).unwrap_or(bytes);
        self.sum = crc32c::crc32c_append(self.sum, written);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

/// Whether a file has the checksum that it states: `None` where it states none. `body` is the file
/// up to its footer, `end` the rest.
///
/// # Errors
/// What `body` says.
pub(super) fn is_intact(body: &mut dyn Read, mut end: Vec<u8>) -> io::Result<Option<bool>> {
    let Some(digits) = digits(&mut end) else { return Ok(None) };
    let stated = digits.to_vec();
    digits.copy_from_slice(BLANK.as_bytes());
    let mut sum = 0;
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let count = body.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        sum = crc32c::crc32c_append(sum, buffer.get(..count).unwrap_or_default());
    }
    let found = format!("{:08x}", crc32c::crc32c_append(sum, &end));
    Ok(Some(found.as_bytes() == stated))
}

/// The digits in the end of a file.
fn digits(end: &mut [u8]) -> Option<&mut [u8]> {
    let key = [METADATA_CRC32C.as_bytes(), &BETWEEN].concat();
    let at = end.windows(key.len()).rposition(|it| it == key)? + key.len();
    end.get_mut(at..at + BLANK.len())
}
