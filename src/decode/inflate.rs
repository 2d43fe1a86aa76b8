//! Compressed body to body: gzip, deflate (zlib or raw) and zstd, under a cap.
//!
//! ```text
//! gzip body   = member+
//! member      = 1f 8b 08 flags mtime(4) xfl os [extra] [name 00] [comment 00] [crc16]
//!               deflate-data crc32(4) size(4)
//! zstd body   = frame+               (skippable frames too)
//! deflate     = zlib stream, or raw deflate data when there is no zlib header
//! ```
//!
//! Gzip is taken apart here and its data inflated raw, with the checksum of `crc32fast`: faster
//! than a gzip decoder (`perf/LOG.md`), and the error can say which byte broke. A body of one
//! member, whose trailer says how long it is, is inflated in one piece, a quarter faster than by
//! parts; these read all others, and what did not become whole.
//!
//! The output begins with what the body declares, as far as that is allowed, and grows by
//! doubling, never beyond the cap plus one byte. Past a beginning that is free it may not be more
//! than so many times larger than what was read for it; that is looked at whenever the output is
//! full, and at the end.
//!
//! Cost: one copy of the body, the inflation itself; where it is broken, twice.

use std::fmt;

use flate2::{Decompress, FlushDecompress, Status};
use libdeflater::Decompressor;
use memchr::memmem;
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use crate::error::{Broken, ClientError, WriteError, cut};
use crate::limits::Limits;

/// First allocation of an output.
const OUTPUT_BYTES_MIN: usize = 64 << 10;

const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
/// Every member begins so: deflate is the only method that there is.
const MEMBER: &[u8] = &[0x1f, 0x8b, 8];
/// Checksum and length.
const TRAILER_BYTES: usize = 8;
const ZSTD_MAGIC: u32 = 0xfd2f_b528;
/// Sixteen magic numbers, which differ in the last four bits.
const ZSTD_SKIPPABLE_MAGIC: u32 = 0x184d_2a50;

/// How a body is compressed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Encoding {
    /// Zlib, or raw deflate, which some clients send under the same name.
    Deflate,
    /// Gzip, any number of members.
    Gzip,
    /// Not at all.
    Identity,
    /// Zstandard, any number of frames.
    Zstd,
}

impl Encoding {
    /// The encoding a `Content-Encoding` header names.
    ///
    /// # Errors
    /// [`ClientError::UnsupportedEncoding`].
    pub fn from_header(value: &str) -> Result<Self, WriteError> {
        match value.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Ok(Self::Identity),
            "deflate" | "zlib" => Ok(Self::Deflate),
            "gzip" | "x-gzip" => Ok(Self::Gzip),
            "zstd" => Ok(Self::Zstd),
            _ => Err(ClientError::UnsupportedEncoding { found: cut(value, 32).into() }.into()),
        }
    }

    /// The encoding of a body that came without a header, by its first bytes.
    ///
    /// No body of ours can begin like gzip or zstd. A line can begin like zlib (`x^2,host=a`), so
    /// that is believed only of a body that is not text.
    pub fn sniff(body: &[u8]) -> Self {
        if body.starts_with(GZIP_MAGIC) {
            Self::Gzip
        } else if is_zstd_frame(body) {
            Self::Zstd
        } else if body.first() == Some(&0x78) && is_zlib(body) && str::from_utf8(body).is_err() {
            Self::Deflate
        } else {
            Self::Identity
        }
    }

    /// What a body says that it comes to, which nobody has checked; `None` where it does not, or
    /// is of several members of gzip. Of several frames of zstd it is the first one's length.
    ///
    /// Costs a search through a gzip body.
    pub fn declared(self, body: &[u8]) -> Option<usize> {
        match self {
            Self::Identity => Some(body.len()),
            Self::Deflate => None,
            // Modulo 2^32. Source: RFC 1952, section 2.3.1.
            Self::Gzip => {
                let size = u32::from_le_bytes(*body.last_chunk()?);
                let is_one = memmem::find(body.get(MEMBER.len()..)?, MEMBER).is_none();
                usize::try_from(size).ok().filter(|_| is_one)
            }
            Self::Zstd => {
                let size = zstd::zstd_safe::get_frame_content_size(body).ok().flatten();
                size.and_then(|it| usize::try_from(it).ok())
            }
        }
    }
}

/// Called with the bytes that the output is about to hold; an error ends the inflation.
pub type Reserve<'a> = dyn FnMut(usize) -> Result<(), WriteError> + 'a;

/// Decoders, kept from body to body.
pub struct Inflater {
    whole: Decompressor,
    raw: Decompress,
    zlib: Decompress,
    /// Made when the first zstd body arrives.
    zstd: Option<Decoder<'static>>,
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflater").finish_non_exhaustive()
    }
}

impl Default for Inflater {
    fn default() -> Self {
        Self {
            whole: Decompressor::new(),
            raw: Decompress::new(false),
            zlib: Decompress::new(true),
            zstd: None,
        }
    }
}

impl Inflater {
    /// Inflates `input` to `output`, in place of what that holds.
    ///
    /// What it holds need not be zeroed first, so that a buffer that is used again costs less.
    /// `reserve` is asked before the output grows and told what it holds after every step.
    ///
    /// # Errors
    /// [`ClientError::BrokenEncoding`], [`ClientError::InflatedTooLarge`],
    /// [`ClientError::RatioTooLarge`], and what `reserve` returns. The output is then of no use.
    pub fn inflate(
        &mut self,
        encoding: Encoding,
        input: &[u8],
        output: &mut Vec<u8>,
        limits: &Limits,
        reserve: &mut Reserve<'_>,
    ) -> Result<(), WriteError> {
        let ratio_max = match encoding {
            Encoding::Identity => usize::MAX,
            Encoding::Deflate | Encoding::Gzip => limits.inflate_ratio_max,
            Encoding::Zstd => limits.zstd_ratio_max,
        };
        let (max, free) = (limits.inflated_bytes_max, limits.inflate_free_bytes);
        let mut target = Target { output, max, free, ratio_max, reserve };
        let declared = encoding.declared(input);
        target.expect(declared, input.len())?;
        let is_gzip = encoding == Encoding::Gzip;
        if is_gzip && gzip_whole(&mut self.whole, input, declared, &mut target) {
            return target.check(input.len());
        }
        target.output.clear();
        match encoding {
            Encoding::Identity => {
                target.output.extend_from_slice(input);
                target.check(input.len())
            }
            Encoding::Gzip => gzip(&mut self.raw, input, &mut target),
            Encoding::Deflate => self.deflate(input, &mut target),
            Encoding::Zstd => {
                let decoder = match &mut self.zstd {
                    Some(decoder) => decoder,
                    empty => empty.insert(new_decoder(limits)?),
                };
                zstd(decoder, input, &mut target)
            }
        }
    }

    fn deflate(&mut self, input: &[u8], target: &mut Target<'_, '_>) -> Result<(), WriteError> {
        let with_header = is_zlib(input);
        let decompress = if with_header { &mut self.zlib } else { &mut self.raw };
        decompress.reset(with_header);
        let at = inflate_stream(decompress, Source { encoding: "deflate", input, at: 0 }, target)?;
        if at == input.len() { Ok(()) } else { Err(broken("deflate", Broken::Garbage, at)) }
    }
}

/// Where inflated bytes go, and how many may.
struct Target<'a, 'r> {
    output: &'a mut Vec<u8>,
    max: usize,
    /// Bytes from which on the ratio counts.
    free: usize,
    ratio_max: usize,
    reserve: &'a mut Reserve<'r>,
}

impl Target<'_, '_> {
    /// Makes room for what `input` bytes are said to come to, if they may, and for the byte behind
    /// it, without which the end of the data would not be read.
    fn expect(&mut self, declared: Option<usize>, input: usize) -> Result<(), WriteError> {
        match declared {
            Some(bytes) if self.allows(bytes, input) && bytes >= self.output.capacity() => {
                self.output.clear();
                self.reserve_for(bytes.saturating_add(1).max(OUTPUT_BYTES_MIN))
            }
            _ => Ok(()),
        }
    }

    /// Whether `consumed` bytes may come to so many.
    fn allows(&self, bytes: usize, consumed: usize) -> bool {
        bytes <= self.free || bytes <= consumed.saturating_mul(self.ratio_max)
    }

    /// Makes room when there is none.
    fn make_room(&mut self) -> Result<(), WriteError> {
        if self.output.len() < self.output.capacity() {
            return Ok(());
        }
        let doubled = self.output.len().saturating_mul(2).max(OUTPUT_BYTES_MIN);
        self.reserve_for(doubled)
    }

    /// Room for `bytes` in all, or for one byte above the cap, by which an excess is seen.
    fn reserve_for(&mut self, bytes: usize) -> Result<(), WriteError> {
        let bytes = bytes.min(self.max.saturating_add(1));
        (self.reserve)(bytes)?;
        self.output.reserve_exact(bytes.saturating_sub(self.output.len()).max(1));
        Ok(())
    }

    /// Looks at what the output holds after a step that ended at byte `consumed` of the body.
    fn check(&mut self, consumed: usize) -> Result<(), WriteError> {
        let len = self.output.len();
        if len > self.max {
            return Err(ClientError::InflatedTooLarge { max: self.max }.into());
        }
        if !self.allows(len, consumed) {
            return Err(ClientError::RatioTooLarge { max: self.ratio_max }.into());
        }
        (self.reserve)(len)
    }
}

/// Compressed data that begin at `at` of the body.
#[derive(Clone, Copy)]
struct Source<'a> {
    encoding: &'static str,
    input: &'a [u8],
    at: usize,
}

fn broken(encoding: &'static str, what: Broken, byte: usize) -> WriteError {
    ClientError::BrokenEncoding { encoding, what, byte }.into()
}

/// Inflates one stream; returns the offset behind it.
fn inflate_stream(
    decompress: &mut Decompress,
    source: Source<'_>,
    target: &mut Target<'_, '_>,
) -> Result<usize, WriteError> {
    let Source { encoding, input, at: start } = source;
    let mut at = start;
    loop {
        target.make_room()?;
        let len_before = target.output.len();
        let rest = input.get(at..).unwrap_or_default();
        let consumed_before = decompress.total_in();
        let status = decompress.decompress_vec(rest, target.output, FlushDecompress::None);
        let consumed = decompress.total_in() - consumed_before;
        at += usize::try_from(consumed).unwrap_or(rest.len());
        match status {
            Err(_) => return Err(broken(encoding, Broken::Data, at)),
            Ok(Status::StreamEnd) => {
                target.check(at)?;
                return Ok(at);
            }
            Ok(Status::Ok | Status::BufError) => target.check(at)?,
        }
        if consumed == 0 && target.output.len() == len_before {
            let what = if at == input.len() { Broken::Truncated } else { Broken::Data };
            return Err(broken(encoding, what, at));
        }
    }
}

/// Inflates a body of one member, which comes to what it declares, in one piece. False, and an
/// output of no use, where it does not, or may not: by parts it is found out what is wrong.
///
/// What stands between the data and a trailer that fits them is not looked at; no encoder writes
/// anything there, and nothing of the data can be missing.
fn gzip_whole(
    whole: &mut Decompressor,
    input: &[u8],
    declared: Option<usize>,
    target: &mut Target<'_, '_>,
) -> bool {
    let end = input.len().saturating_sub(TRAILER_BYTES);
    let (Some(len), Ok(start)) = (declared, gzip_header(input, 0)) else { return false };
    let Some(data) = input.get(start..end) else { return false };
    if len > target.max || !target.allows(len, end) {
        return false;
    }
    target.output.resize(len, 0);
    let inflated = whole.deflate_decompress(data, target.output);
    inflated == Ok(len) && gzip_trailer(input, end, target.output).is_ok()
}

fn gzip(raw: &mut Decompress, input: &[u8], target: &mut Target<'_, '_>) -> Result<(), WriteError> {
    let mut at = 0;
    while at < input.len() {
        if at > 0 && !input.get(at..).unwrap_or_default().starts_with(GZIP_MAGIC) {
            return Err(broken("gzip", Broken::Garbage, at));
        }
        let start = target.output.len();
        at = gzip_header(input, at)?;
        raw.reset(false);
        at = inflate_stream(raw, Source { encoding: "gzip", input, at }, target)?;
        let member = target.output.get(start..).unwrap_or_default();
        gzip_trailer(input, at, member)?;
        at += TRAILER_BYTES;
    }
    Ok(())
}

/// Reads a member's header; returns the offset behind it. Source: RFC 1952, section 2.3.
fn gzip_header(input: &[u8], start: usize) -> Result<usize, WriteError> {
    let truncated = || broken("gzip", Broken::Truncated, input.len());
    let fixed: &[u8; 10] = input.get(start..).and_then(<[u8]>::first_chunk).ok_or_else(|| {
        let rest = input.get(start..).unwrap_or_default();
        let begins = GZIP_MAGIC.iter().zip(rest).all(|(magic, found)| magic == found);
        if begins { truncated() } else { broken("gzip", Broken::Header, start) }
    })?;
    let [0x1f, 0x8b, 8, flags, ..] = *fixed else {
        return Err(broken("gzip", Broken::Header, start));
    };
    let (has_crc, has_extra, has_name, has_comment) =
        (flags & 2 != 0, flags & 4 != 0, flags & 8 != 0, flags & 16 != 0);
    if flags & 0b1110_0000 != 0 {
        return Err(broken("gzip", Broken::Header, start + 3));
    }
    let mut at = start + fixed.len();
    if has_extra {
        at += 2 + usize::from(u16_at(input, at).ok_or_else(truncated)?);
    }
    for _ in 0..u8::from(has_name) + u8::from(has_comment) {
        let text = input.get(at..).ok_or_else(truncated)?;
        at += text.iter().position(|&byte| byte == 0).ok_or_else(truncated)? + 1;
    }
    if has_crc {
        let header = input.get(start..at).ok_or_else(truncated)?;
        let expected = u16_at(input, at).ok_or_else(truncated)?;
        if crc32fast::hash(header) & 0xffff != u32::from(expected) {
            return Err(broken("gzip", Broken::Checksum, at));
        }
        at += 2;
    }
    if at > input.len() { Err(truncated()) } else { Ok(at) }
}

/// Compares a member with the checksum and the length behind it.
fn gzip_trailer(input: &[u8], at: usize, member: &[u8]) -> Result<(), WriteError> {
    let (Some(crc), Some(size)) = (u32_at(input, at), u32_at(input, at + 4)) else {
        return Err(broken("gzip", Broken::Truncated, input.len()));
    };
    if crc32fast::hash(member) != crc {
        return Err(broken("gzip", Broken::Checksum, at));
    }
    // The length is stored modulo 2^32.
    if member.len() as u64 & 0xffff_ffff != u64::from(size) {
        return Err(broken("gzip", Broken::Length, at + 4));
    }
    Ok(())
}

fn new_decoder(limits: &Limits) -> Result<Decoder<'static>, WriteError> {
    let mut decoder = Decoder::new().map_err(|_| broken("zstd", Broken::Data, 0))?;
    decoder
        .set_parameter(DParameter::WindowLogMax(limits.zstd_window_log_max))
        .map_err(|_| broken("zstd", Broken::Window, 0))?;
    Ok(decoder)
}

fn zstd(
    decoder: &mut Decoder<'_>,
    input: &[u8],
    target: &mut Target<'_, '_>,
) -> Result<(), WriteError> {
    let data_broken = |at| broken("zstd", Broken::Data, at);
    decoder.reinit().map_err(|_| data_broken(0))?;
    let mut source = InBuffer::around(input);
    let (mut is_between_frames, mut frame) = (true, 0);
    while !(is_between_frames && source.pos() == input.len()) {
        let at = source.pos();
        if is_between_frames {
            frame = at;
            if !is_zstd_frame(input.get(at..).unwrap_or_default()) {
                return Err(broken("zstd", not_a_frame(input, at), at));
            }
        }
        target.make_room()?;
        let len_before = target.output.len();
        let mut sink = OutBuffer::around_pos(&mut *target.output, len_before);
        let remaining = decoder.run(&mut source, &mut sink);
        let produced = sink.pos() - len_before;
        // How far it got depends on the room that there was.
        let remaining = remaining.map_err(|error| broken("zstd", zstd_cause(&error), frame))?;
        target.check(source.pos())?;
        is_between_frames = remaining == 0;
        if source.pos() == at && produced == 0 && !is_between_frames {
            return Err(broken("zstd", Broken::Truncated, at));
        }
    }
    Ok(())
}

/// Which fault of a frame libzstd complains of; it says so in words only.
fn zstd_cause(error: &std::io::Error) -> Broken {
    let text = error.to_string();
    if text.contains("checksum") {
        Broken::Checksum
    } else if text.contains("too much memory") {
        Broken::Window
    } else {
        Broken::Data
    }
}

fn not_a_frame(input: &[u8], at: usize) -> Broken {
    match at {
        _ if input.len() - at < 4 => Broken::Truncated,
        0 => Broken::Header,
        _ => Broken::Garbage,
    }
}

fn is_zstd_frame(body: &[u8]) -> bool {
    u32_at(body, 0).is_some_and(|magic| magic == ZSTD_MAGIC || magic & !0xf == ZSTD_SKIPPABLE_MAGIC)
}

/// Says whether `body` begins with a zlib header. Source: RFC 1950, section 2.2.
fn is_zlib(body: &[u8]) -> bool {
    let [method, flags, ..] = *body else { return false };
    method & 0x0f == 8
        && method >> 4 <= 7
        && flags & 0x20 == 0
        && (u16::from(method) << 8 | u16::from(flags)) % 31 == 0
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|it| u16::from_le_bytes(*it))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|it| u32::from_le_bytes(*it))
}
