//! Compressed bodies whose times can be changed without compressing them again.
//!
//! A compressor writes the prefix of the first row's time as literals, and that of every other row
//! as a copy of an earlier one. So the first prefix is put where it is stored as it is: change it
//! there, and every row of the body follows.
//!
//! ```text
//! gzip  | header | deflate: before | stored: prefix | deflate: the other rows | CRC32, length |
//! zstd  | header | blocks: before | raw block(s): prefix | blocks: the other rows |
//! ```
//!
//! Whether every row follows is checked when a body is made, by inflating it at another slot; where
//! one does not, its prefix is stored as well. But for these breaks the stream is what the
//! compressor makes of the rows. The CRC32 is a sum of what each bit of the prefix contributes.

use std::collections::BTreeSet;
use std::io;

use clap::ValueEnum;
use flate2::{Compress, Compression, FlushCompress, Status};
use zstd::stream::raw::{Encoder, Operation};

use crate::clock::{Clock, PREFIX_BYTES_MAX};

/// `Content-Encoding` of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Encoding {
    /// None.
    Plain,
    /// gzip, level 6.
    Gzip,
    /// zstd, level 6.
    Zstd,
}

/// Where a body's time stands.
#[derive(Clone, Debug)]
pub struct Patch {
    parts: Vec<Part>,
    /// What makes the checksum, which stands in the last four bytes but four.
    crc: Option<Crc>,
}

/// A piece of the prefix.
#[derive(Clone, Copy, Debug)]
struct Part {
    /// Where it stands in the body.
    at: usize,
    /// Where it begins in the prefix.
    from: usize,
    /// `length <= PREFIX_BYTES_MAX`.
    length: usize,
}

/// The CRC32 of a text as a function of the prefix that stands in many places of it.
#[derive(Clone, Debug)]
struct Crc {
    zero: u32,
    /// What each bit of the prefix adds, lowest bit of the first byte first.
    bits: Vec<u32>,
}

/// Deflate, no name, no time, unknown system.
const GZIP_HEADER: [u8; 10] = *b"\x1f\x8b\x08\0\0\0\0\0\0\xff";
/// Bytes that stand for the prefix while a body is compressed, for the first try.
const STAND_IN: [u8; PREFIX_BYTES_MAX] = *b"\x81\x92\xa3\xb4\xc5\xd6\xe7\xf8\x89\x9a\xab\xbc";
/// Tries with stand-ins that are so much higher, because rows may hold these bytes themselves.
const TURNS: [u8; 3] = [0, 29, 71];
/// Prefixes of a body that may have to be stored.
const STORED_MAX: usize = 32;
/// zstd keeps blocks of up to this many bytes as they are.
const RAW_BLOCK_BYTES: usize = 6;
/// The level of both compressors: gzip's usual one. zstd's usual one, 3, looks for copies in fewer
/// places and does not find every prefix.
const LEVEL: u8 = 6;

/// Compresses `text`, in which a prefix of `clock` stands at `places`. Returns the bytes, in which
/// the prefix is anything, and where it goes.
///
/// # Errors
/// What the compressor says, or that it does not copy prefixes.
pub fn compress(
    encoding: Encoding,
    text: &[u8],
    places: &[usize],
    clock: Clock,
) -> io::Result<(Vec<u8>, Patch)> {
    let length = clock.prefix_bytes();
    if encoding == Encoding::Plain {
        let parts = places.iter().map(|at| Part { at: *at, from: 0, length }).collect();
        return Ok((text.to_vec(), Patch { parts, crc: None }));
    }
    for turn in TURNS {
        let prefix = STAND_IN.map(|byte| byte.wrapping_add(turn));
        let prefix = prefix.get(..length).unwrap_or_default();
        let filled = fill(text, places, prefix);
        let other: Vec<u8> = prefix.iter().map(|byte| byte ^ 0x0f).collect();
        let expected = fill(text, places, &other);
        let mut stored: BTreeSet<usize> = places.first().into_iter().copied().collect();
        while stored.len() <= STORED_MAX {
            let pieces = pieces(&filled, &stored, length);
            let (mut bytes, patch) = match encoding {
                Encoding::Zstd => zstd(&pieces)?,
                _ => gzip(&pieces, Crc::of(&filled, places, length))?,
            };
            patch.apply(&mut bytes, &other);
            let found = inflate(encoding, &bytes)?;
            if found == expected {
                return Ok((bytes, patch));
            }
            let is_wrong =
                |at: &usize| found.get(*at..*at + length) != expected.get(*at..*at + length);
            // Where every prefix is right, a row holds what stands in for it.
            let Some(wrong) = places.iter().copied().find(is_wrong) else { break };
            stored.insert(wrong);
        }
    }
    Err(io::Error::other("the compressor does not copy the time of one row into the others"))
}

/// What is compressed and what is stored, in turn, beginning with what is compressed.
fn pieces<'a>(text: &'a [u8], stored: &BTreeSet<usize>, length: usize) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    let mut rest = 0;
    for at in stored {
        pieces.extend([text.get(rest..*at), text.get(*at..*at + length)]);
        rest = *at + length;
    }
    pieces.push(text.get(rest..));
    pieces.into_iter().map(Option::unwrap_or_default).collect()
}

/// The text with another prefix.
pub(crate) fn fill(text: &[u8], places: &[usize], prefix: &[u8]) -> Vec<u8> {
    let mut text = text.to_vec();
    for place in places {
        if let Some(into) = text.get_mut(*place..*place + prefix.len()) {
            into.copy_from_slice(prefix);
        }
    }
    text
}

fn inflate(encoding: Encoding, bytes: &[u8]) -> io::Result<Vec<u8>> {
    if encoding == Encoding::Zstd {
        return zstd::stream::decode_all(bytes);
    }
    // The checksum is of rows that all follow; whoever asks sees for himself whether they do.
    let inside = bytes.get(GZIP_HEADER.len()..).unwrap_or_default();
    let mut text = Vec::new();
    io::Read::read_to_end(&mut flate2::read::DeflateDecoder::new(inside), &mut text)?;
    Ok(text)
}

impl Patch {
    /// Writes another prefix into a body.
    pub fn apply(&self, body: &mut [u8], prefix: &[u8]) {
        for Part { at, from, length } in &self.parts {
            let Some(part) = prefix.get(*from..*from + *length) else { continue };
            if let Some(into) = body.get_mut(*at..*at + *length) {
                into.copy_from_slice(part);
            }
        }
        if let Some(crc) = &self.crc {
            let end = body.len();
            if let Some(into) = body.get_mut(end.saturating_sub(8)..end.saturating_sub(4)) {
                into.copy_from_slice(&crc.of_prefix(prefix));
            }
        }
    }
}

impl Crc {
    /// Of a text with a prefix of `length` bytes at `places`.
    fn of(text: &[u8], places: &[usize], length: usize) -> Self {
        let zero = crc32fast::hash(&fill(text, places, &vec![0; length]));
        let mut flipped = vec![0; text.len()];
        let none = crc32fast::hash(&flipped);
        let mut bits = Vec::with_capacity(length * 8);
        for bit in 0..length * 8 {
            let mut set = |value: u8| {
                for place in places {
                    if let Some(byte) = flipped.get_mut(place + bit / 8) {
                        *byte = value;
                    }
                }
                crc32fast::hash(&flipped)
            };
            bits.push(set(1 << (bit % 8)) ^ none);
            set(0);
        }
        Self { zero, bits }
    }

    fn of_prefix(&self, prefix: &[u8]) -> [u8; 4] {
        let is_set = |bit: usize| prefix.get(bit / 8).is_some_and(|it| it >> (bit % 8) & 1 == 1);
        let bits = self.bits.iter().enumerate().filter(|(bit, _)| is_set(*bit));
        bits.fold(self.zero, |crc, (_, bit)| crc ^ bit).to_le_bytes()
    }
}

/// One gzip member of pieces that are compressed and stored in turn.
fn gzip(pieces: &[&[u8]], crc: Crc) -> io::Result<(Vec<u8>, Patch)> {
    let mut bytes = GZIP_HEADER.to_vec();
    let mut parts = Vec::new();
    let mut deflate = Compress::new(Compression::new(u32::from(LEVEL)), false);
    for (index, piece) in pieces.iter().enumerate() {
        if index + 1 == pieces.len() {
            deflated(&mut deflate, piece, FlushCompress::Finish, &mut bytes)?;
        } else if index % 2 == 0 {
            deflated(&mut deflate, piece, FlushCompress::Sync, &mut bytes)?;
        } else {
            // The compressor is told of the prefix, whose block is then written by hand.
            deflated(&mut deflate, piece, FlushCompress::Sync, &mut Vec::new())?;
            let length = u16::try_from(piece.len()).map_err(io::Error::other)?;
            bytes.push(0);
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(&(!length).to_le_bytes());
            parts.push(Part { at: bytes.len(), from: 0, length: piece.len() });
            bytes.extend_from_slice(piece);
        }
    }
    // The checksum comes with the prefix; the length is modulo 2^32, by the format.
    bytes.extend_from_slice(&[0; 4]);
    let length = pieces.iter().map(|piece| piece.len()).sum::<usize>() & 0xffff_ffff;
    bytes.extend_from_slice(&u32::try_from(length).map_err(io::Error::other)?.to_le_bytes());
    Ok((bytes, Patch { parts, crc: Some(crc) }))
}

fn deflated(
    deflate: &mut Compress,
    mut text: &[u8],
    flush: FlushCompress,
    into: &mut Vec<u8>,
) -> io::Result<()> {
    loop {
        into.reserve(text.len() / 2 + 64);
        let read = deflate.total_in();
        let status = deflate.compress_vec(text, into, flush).map_err(io::Error::other)?;
        let read = usize::try_from(deflate.total_in() - read).unwrap_or(usize::MAX);
        text = text.get(read..).unwrap_or_default();
        let is_flushed = text.is_empty() && into.len() < into.capacity();
        if status == Status::StreamEnd || (is_flushed && flush != FlushCompress::Finish) {
            return Ok(());
        }
    }
}

/// One zstd frame of pieces that are compressed and stored in turn.
fn zstd(pieces: &[&[u8]]) -> io::Result<(Vec<u8>, Patch)> {
    let mut encoder = Encoder::new(i32::from(LEVEL))?;
    let (mut bytes, mut parts) = (Vec::new(), Vec::new());
    for (index, piece) in pieces.iter().enumerate() {
        if index % 2 == 0 {
            flushed(&mut encoder, piece, &mut bytes)?;
            continue;
        }
        for (block, part) in piece.chunks(RAW_BLOCK_BYTES).enumerate() {
            let header = bytes.len();
            flushed(&mut encoder, part, &mut bytes)?;
            // Three bytes of header: the type in bits 1 and 2, 0 for raw.
            let is_raw = bytes.get(header).is_some_and(|it| (it >> 1) % 4 == 0);
            if bytes.len() != header + 3 + part.len() || !is_raw {
                return Err(io::Error::other("expected a raw block for the time, found another"));
            }
            parts.push(Part { at: header + 3, from: block * RAW_BLOCK_BYTES, length: part.len() });
        }
    }
    drained(&mut bytes, |into| encoder.finish(into, true))?;
    Ok((bytes, Patch { parts, crc: None }))
}

/// Passes a text to the compressor and takes all that it makes of it.
fn flushed(encoder: &mut Encoder<'_>, mut text: &[u8], bytes: &mut Vec<u8>) -> io::Result<()> {
    while !text.is_empty() {
        let mut piece = vec![0; 1 << 17];
        let status = encoder.run_on_buffers(text, &mut piece)?;
        text = text.get(status.bytes_read..).unwrap_or_default();
        bytes.extend(piece.iter().take(status.bytes_written));
    }
    drained(bytes, |into| encoder.flush(into))
}

/// Takes what is left until `step` says that nothing is.
fn drained(
    bytes: &mut Vec<u8>,
    mut step: impl FnMut(&mut zstd::stream::raw::OutBuffer<'_, [u8]>) -> io::Result<usize>,
) -> io::Result<()> {
    loop {
        let mut piece = [0; 1 << 14];
        let mut into = zstd::stream::raw::OutBuffer::around(&mut piece[..]);
        let left = step(&mut into)?;
        bytes.extend_from_slice(into.as_slice());
        if left == 0 {
            return Ok(());
        }
    }
}
