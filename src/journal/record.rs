//! The head of a record, and its checksums.
//!
//! ```text
//!  0     4        8          16        24      28        32
//! +-----+--------+----------+---------+-------+---------+=======+======+-----+
//! | crc | length | sequence | durable | entry | payload | entry | body | pad |
//! |     |        |          |         | bytes | crc     |       |      |     |
//! +-----+--------+----------+---------+-------+---------+=======+======+-----+
//!       <------------- crc, seeded ------------------->  <--payload--->
//! ```
//!
//! Little-endian. `length` is that of entry and body together; zeros pad the record to 8 bytes, so
//! that heads are found by looking at every eighth byte. `crc` covers the head with the checksum
//! of the payload in it, so that one number vouches for all, and is seeded by the salt of the
//! segment where the record begins: bytes that were there before the segment was begun never
//! validate. The payload's own checksum does not depend on where the record will be, and is
//! computed on the thread that appends.
//!
//! A record without payload is a *mark*: it carries the sequence of the record before it and says
//! only what `durable` says.

use super::fields::Fields;

/// Bytes of a head.
pub(super) const HEAD_BYTES: usize = 32;
/// Records begin at multiples of this.
pub(super) const ALIGNMENT: usize = 8;
/// Longest entry and body together that is ever read or written; the bound of a body is far below.
pub(super) const PAYLOAD_BYTES_MAX: u32 = 1 << 30;
/// Sequences jump by less than this.
const SEQUENCE_JUMP_MAX: u64 = 1 << 40;

/// What stands before a payload.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Head {
    /// Bytes of entry and body; 0 for a mark.
    pub(super) length: u32,
    /// Counts up by one with each record that is no mark.
    pub(super) sequence: u64,
    /// Highest sequence that was known to be on disk when this was written.
    pub(super) durable: u64,
    /// Bytes of the entry; `entry_bytes <= length`.
    pub(super) entry_bytes: u32,
    /// Checksum of entry and body.
    pub(super) payload_crc: u32,
}

impl Head {
    pub(super) fn is_mark(&self) -> bool {
        self.length == 0
    }

    pub(super) fn encode(&self, salt: u32) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        let fields = self
            .length
            .to_le_bytes()
            .into_iter()
            .chain(self.sequence.to_le_bytes())
            .chain(self.durable.to_le_bytes())
            .chain(self.entry_bytes.to_le_bytes())
            .chain(self.payload_crc.to_le_bytes());
        let (crc, rest) = bytes.split_at_mut(4);
        rest.iter_mut().zip(fields).for_each(|(place, byte)| *place = byte);
        crc.copy_from_slice(&crc32c::crc32c_append(salt, rest).to_le_bytes());
        bytes
    }

    /// The head in `bytes`; `None` when they are none of a segment with this salt, or one that
    /// could not be of a record with a sequence of `sequence_min` or above. What costs least is
    /// looked at first, because recovery asks this of every eighth byte.
    pub(super) fn decode(
        bytes: &[u8; HEAD_BYTES],
        salt: u32,
        sequence_min: u64,
        checksums: Checksums,
    ) -> Option<Self> {
        let mut fields = Fields(bytes.as_slice());
        let crc = fields.u32()?;
        let covered = fields.0;
        let (length, sequence) = (fields.u32()?, fields.u64()?);
        if sequence.checked_sub(sequence_min)? >= SEQUENCE_JUMP_MAX {
            return None;
        }
        let (durable, entry_bytes) = (fields.u64()?, fields.u32()?);
        let head = Self { length, sequence, durable, entry_bytes, payload_crc: fields.u32()? };
        let durable_max = if head.is_mark() { sequence } else { sequence.checked_sub(1)? };
        let is_possible =
            durable <= durable_max && length <= PAYLOAD_BYTES_MAX && entry_bytes <= length;
        let is_whole =
            || checksums == Checksums::Ignored || crc32c::crc32c_append(salt, covered) == crc;
        (is_possible && is_whole()).then_some(head)
    }
}

/// Whether checksums are looked at.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Checksums {
    /// Always, but in the test that shows that tests would see it.
    #[default]
    Checked,
    /// Never.
    Ignored,
}

/// The checksum of a payload in two parts.
pub(super) fn payload_crc(entry: &[u8], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(entry), body)
}

/// What a record with this payload takes.
pub(super) fn record_bytes(payload_bytes: usize) -> u64 {
    (HEAD_BYTES + payload_bytes.next_multiple_of(ALIGNMENT)) as u64
}

/// Zeros behind a payload.
pub(super) fn padding(payload_bytes: usize) -> &'static [u8] {
    const ZEROS: [u8; ALIGNMENT] = [0; ALIGNMENT];
    let count = payload_bytes.next_multiple_of(ALIGNMENT) - payload_bytes;
    ZEROS.get(..count).unwrap_or_default()
}
