//! Compressed bodies: bounded by the budget, and what other decoders make of them.

use std::cell::RefCell;
use std::io::Read;

use flate2::Crc;
use flate2::bufread::{DeflateDecoder, GzDecoder, MultiGzDecoder, ZlibDecoder};
use peristyle::decode::inflate::{Encoding, Inflater};
use peristyle::error::{Broken, ClientError, WriteError};
use peristyle::limits::Limits;

const OUTPUT_BYTES_MAX: usize = 256 << 10;
const LIMITS: Limits =
    Limits { inflated_bytes_max: OUTPUT_BYTES_MAX, zstd_window_log_max: 20, ..Limits::DEFAULT };

thread_local! {
    static INFLATER: RefCell<Inflater> = RefCell::default();
}

/// The first byte says how the rest is compressed.
pub fn run(input: &[u8]) {
    let Some((control, body)) = input.split_first() else { return };
    if body.is_empty() {
        // A request without a body is answered before anybody asks how it is compressed.
        return;
    }
    let encoding = match control % 4 {
        0 => Encoding::Gzip,
        1 => Encoding::Deflate,
        2 => Encoding::Zstd,
        _ => Encoding::sniff(body),
    };
    let mut output = Vec::new();
    let mut told = 0;
    let inflated = INFLATER.with_borrow_mut(|inflater| {
        inflater.inflate(encoding, body, &mut output, &LIMITS, &mut |bytes| {
            told = told.max(bytes);
            Ok(())
        })
    });
    assert!(output.capacity() <= OUTPUT_BYTES_MAX + 1, "{} bytes", output.capacity());
    assert!(output.capacity() <= told, "{} bytes, {told} told", output.capacity());
    match inflated {
        Ok(()) => {
            assert!(output.len() <= OUTPUT_BYTES_MAX);
            let expected = reference(encoding, body);
            if encoding == Encoding::Gzip && expected.is_none() {
                assert_eq!(with_bytes_before_the_trailer(body).as_deref(), Some(&*output));
                return;
            }
            assert_eq!(expected.as_deref(), Some(&*output), "{encoding:?}");
        }
        Err(WriteError::Client(ClientError::InflatedTooLarge { .. })) => {
            let expected = reference(encoding, body);
            assert!(expected.is_none_or(|it| it.len() > OUTPUT_BYTES_MAX), "{encoding:?}");
        }
        // Whether there is something behind the end is not asked by every decoder.
        Err(WriteError::Client(ClientError::BrokenEncoding { what: Broken::Garbage, .. })) => {}
        Err(WriteError::Client(ClientError::BrokenEncoding { what, byte, .. })) => {
            assert!(byte <= body.len());
            let expected = reference(encoding, body);
            if encoding == Encoding::Zstd && expected.is_some() {
                // By parts libzstd forgives a frame that ends in an empty block and is shorter than
                // it says; in one piece it does not.
                let whole = zstd::bulk::decompress(body, OUTPUT_BYTES_MAX + 1);
                assert!(whole.is_err(), "{what:?} at {byte}");
                return;
            }
            assert_eq!(expected, None, "{encoding:?}, {what:?} at {byte}");
        }
        Err(other) => panic!("{other}"),
    }
}

/// The data of a first member, if the last eight bytes of the body fit them: what stands between is
/// not looked at.
fn with_bytes_before_the_trailer(body: &[u8]) -> Option<Vec<u8>> {
    let mut output = Vec::new();
    // It fails where the trailer is not behind the data; what came before is read.
    GzDecoder::new(body).take(OUTPUT_BYTES_MAX as u64 + 1).read_to_end(&mut output).ok();
    let mut crc = Crc::new();
    crc.update(&output);
    let trailer = [crc.sum().to_le_bytes(), crc.amount().to_le_bytes()].concat();
    body.ends_with(&trailer).then_some(output)
}

/// What the streams of other crates make of it: up to a byte more than is allowed.
fn reference(encoding: Encoding, body: &[u8]) -> Option<Vec<u8>> {
    let mut output = Vec::new();
    let max = OUTPUT_BYTES_MAX as u64 + 1;
    let read = match encoding {
        Encoding::Identity => return Some(body.to_vec()),
        Encoding::Gzip => MultiGzDecoder::new(body).take(max).read_to_end(&mut output),
        Encoding::Deflate => {
            let zlib = ZlibDecoder::new(body).take(max).read_to_end(&mut output);
            zlib.or_else(|_| {
                output.clear();
                DeflateDecoder::new(body).take(max).read_to_end(&mut output)
            })
        }
        Encoding::Zstd => zstd::Decoder::with_buffer(body).and_then(|mut decoder| {
            decoder.window_log_max(LIMITS.zstd_window_log_max)?;
            decoder.take(max).read_to_end(&mut output)
        }),
    };
    read.is_ok().then_some(output)
}
