//! Compressed bodies: what other encoders write is read, what is broken is named, caps hold.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use peristyle::decode::inflate::{Encoding, Inflater};
use peristyle::error::{Broken, BusyReason, ClientError, WriteError};
use peristyle::limits::Limits;
use proptest::prelude::*;

use crate::http::gzip;

fn zlib(data: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(data).expect("a vector takes all");
    encoder.finish().expect("a vector takes all")
}

fn deflate(data: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(data).expect("a vector takes all");
    encoder.finish().expect("a vector takes all")
}

fn zstd(data: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).expect("level 3 exists");
    encoder.include_checksum(true).expect("the option exists");
    encoder.write_all(data).expect("a vector takes all");
    encoder.finish().expect("a vector takes all")
}

fn inflate_with(limits: &Limits, encoding: Encoding, input: &[u8]) -> Result<Vec<u8>, ClientError> {
    let mut inflater = Inflater::default();
    let mut inflate_to = |mut output| match inflater.inflate(
        encoding,
        input,
        &mut output,
        limits,
        &mut |_| Ok(()),
    ) {
        Ok(()) => Ok(output),
        Err(WriteError::Client(error)) => Err(error),
        Err(other) => panic!("unexpected: {other}"),
    };
    // What a buffer held before is not seen, be it shorter or longer than what comes.
    let [fresh, short, long] = [0, 3, 70_000].map(|len| inflate_to(vec![0xaa; len]));
    assert_eq!((&fresh, &fresh), (&short, &long), "{encoding:?}");
    fresh
}

fn inflate(encoding: Encoding, input: &[u8]) -> Result<Vec<u8>, ClientError> {
    inflate_with(&Limits::DEFAULT, encoding, input)
}

#[track_caller]
fn check_broken(encoding: Encoding, input: &[u8], expect: Broken, at: usize) {
    match inflate(encoding, input) {
        Err(ClientError::BrokenEncoding { what, byte, .. }) => {
            assert_eq!((what, byte), (expect, at));
        }
        other => panic!("expected {expect:?} at {at}, found {other:?}"),
    }
}

/// Bytes that do not compress to nothing: a linear congruence, the high bits of it.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 1_u32;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0] & 0x3f
    })
    .take(count)
    .collect()
}

type Codec = (Encoding, fn(&[u8]) -> Vec<u8>);

const CODECS: [Codec; 4] = [
    (Encoding::Gzip, gzip),
    (Encoding::Deflate, zlib),
    (Encoding::Deflate, deflate),
    (Encoding::Zstd, zstd),
];

#[test]
fn each_encoding_is_read_back() {
    for (encoding, encode) in CODECS {
        for data in [&b""[..], b"cpu v=1\n", &noise(300_000), &vec![b'a'; 300_000]] {
            assert_eq!(inflate(encoding, &encode(data)).as_deref(), Ok(data), "{encoding:?}");
        }
    }
}

#[test]
fn an_inflater_is_of_use_after_a_broken_body() {
    let mut inflater = Inflater::default();
    let data = noise(100_000);
    for (encoding, encode) in CODECS {
        let whole = encode(&data);
        let mut output = Vec::new();
        let half = &whole[..whole.len() / 2];
        let broken =
            inflater.inflate(encoding, half, &mut output, &Limits::DEFAULT, &mut |_| Ok(()));
        assert!(broken.is_err());
        output.clear();
        inflater
            .inflate(encoding, &whole, &mut output, &Limits::DEFAULT, &mut |_| Ok(()))
            .expect("the second body is whole");
        assert_eq!(output, data);
    }
}

#[test]
fn members_and_frames_follow_each_other() {
    for (encoding, encode) in [CODECS[0], CODECS[3]] {
        let body = [encode(b"a v=1\n"), encode(b""), encode(b"b v=2\n")].concat();
        assert_eq!(inflate(encoding, &body).as_deref(), Ok(&b"a v=1\nb v=2\n"[..]));
    }
}

#[test]
fn a_zstd_body_may_hold_skippable_frames() {
    let skippable = [0x53, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 9, 9, 9];
    let body = [&skippable[..], &zstd(b"a v=1\n"), &skippable].concat();
    assert_eq!(inflate(Encoding::Zstd, &body).as_deref(), Ok(&b"a v=1\n"[..]));
}

#[test]
fn every_part_of_a_gzip_header_is_read() {
    let plain = gzip(b"a v=1\n");
    let parts: [(u8, &[u8]); 3] = [(4, &[2, 0, b'x', b'y']), (8, b"name\0"), (16, b"comment\0")];
    for set in 0..8_usize {
        for has_crc in [false, true] {
            let mut body = plain[..10].to_vec();
            for (_, (flag, bytes)) in parts.iter().enumerate().filter(|(at, _)| set >> at & 1 == 1)
            {
                body[3] |= flag;
                body.extend_from_slice(bytes);
            }
            if has_crc {
                body[3] |= 2;
                let crc = crc32fast::hash(&body).to_le_bytes();
                body.extend_from_slice(&crc[..2]);
            }
            let header = body.len();
            body.extend_from_slice(&plain[10..]);
            assert_eq!(inflate(Encoding::Gzip, &body).as_deref(), Ok(&b"a v=1\n"[..]));
            if has_crc {
                body[header - 1] ^= 1;
                check_broken(Encoding::Gzip, &body, Broken::Checksum, header - 2);
            }
        }
    }
}

#[test]
fn a_body_cut_anywhere_is_truncated() {
    let data = noise(200);
    for (encoding, encode) in CODECS {
        let body = encode(&data);
        for end in 1..body.len() {
            match inflate(encoding, &body[..end]) {
                Err(ClientError::BrokenEncoding { what: Broken::Truncated, byte, .. }) => {
                    assert!(byte <= end, "{encoding:?} cut at {end}: byte {byte}");
                }
                // One byte of zlib is not yet a header, so it is taken for raw deflate.
                Err(ClientError::BrokenEncoding { .. }) if end < 2 => {}
                other => panic!("{encoding:?} cut at {end}: {other:?}"),
            }
        }
    }
}

/// A body in one piece ends where its trailer begins, whatever its decoder has read of it; so does
/// a body by parts whose data end there.
#[test]
fn what_stands_between_data_and_a_trailer_that_fits_is_not_looked_at() {
    let body = gzip(b"a v=1\n");
    let (data, trailer) = body.split_at(body.len() - 8);
    let filled = [data, b"no encoder writes this", trailer].concat();
    assert_eq!(inflate(Encoding::Gzip, &filled).as_deref(), Ok(&b"a v=1\n"[..]));
    // It does not fit: another body's, or the same one's behind another member.
    let other = gzip(b"a v=2\n");
    let unfit = [data, &other[other.len() - 8..]].concat();
    check_broken(Encoding::Gzip, &unfit, Broken::Checksum, data.len());
    let twice = [&body[..], &body].concat();
    assert_eq!(inflate(Encoding::Gzip, &twice).as_deref(), Ok(&b"a v=1\na v=1\n"[..]));
    let garbage = [&body[..], b"x", &body].concat();
    check_broken(Encoding::Gzip, &garbage, Broken::Garbage, body.len());
}

#[test]
fn what_broke_is_named_with_its_byte() {
    let body = gzip(b"a v=1\n");
    let end = body.len();
    let changed = |at: usize| {
        let mut body = body.clone();
        body[at] ^= 0xff;
        body
    };
    check_broken(Encoding::Gzip, b"plain text, not gzip", Broken::Header, 0);
    check_broken(Encoding::Gzip, &changed(2), Broken::Header, 0);
    check_broken(Encoding::Gzip, &changed(3), Broken::Header, 3);
    check_broken(Encoding::Gzip, &changed(end - 8), Broken::Checksum, end - 8);
    check_broken(Encoding::Gzip, &changed(end - 4), Broken::Length, end - 4);
    check_broken(Encoding::Zstd, b"plain text, not zstd", Broken::Header, 0);
    let mut checksum = zstd(b"a v=1\n");
    *checksum.last_mut().expect("not empty") ^= 1;
    match inflate(Encoding::Zstd, &checksum) {
        Err(ClientError::BrokenEncoding { what: Broken::Checksum, .. }) => {}
        other => panic!("expected a wrong checksum, found {other:?}"),
    }
}

#[test]
fn bytes_behind_the_end_are_refused() {
    for (encoding, encode) in CODECS {
        let body = encode(b"a v=1\n");
        let end = body.len();
        check_broken(encoding, &[&body[..], b"garbage"].concat(), Broken::Garbage, end);
    }
}

#[test]
fn the_cap_holds_to_the_byte() {
    let limits = Limits { inflated_bytes_max: 100_000, ..Limits::DEFAULT };
    for (encoding, encode) in CODECS {
        for (bytes, fits) in [(99_999, true), (100_000, true), (100_001, false)] {
            let result = inflate_with(&limits, encoding, &encode(&noise(bytes)));
            if fits {
                assert_eq!(result.map(|it| it.len()), Ok(bytes));
            } else {
                assert_eq!(result, Err(ClientError::InflatedTooLarge { max: 100_000 }));
            }
        }
    }
}

/// Zeros that are exactly so many times larger than what they are encoded to, as are one fewer and
/// one more; with that ratio. A gzip body's checksum and length are read behind its data.
fn zeros_of_a_ratio(encoding: Encoding, encode: fn(&[u8]) -> Vec<u8>) -> (usize, usize) {
    let trailer = if encoding == Encoding::Gzip { 8 } else { 0 };
    let len = |count: usize| encode(&vec![0; count]).len() - trailer;
    let is_it = |count: &usize| {
        let bytes = len(*count);
        count.is_multiple_of(bytes) && len(count - 1) == bytes && len(count + 1) == bytes
    };
    let count = (1_000..20_000).find(is_it).expect("the ratio grows with the zeros");
    (count, count / len(count))
}

#[test]
fn the_ratio_holds_to_the_byte() {
    for (encoding, encode) in CODECS {
        let (count, ratio) = zeros_of_a_ratio(encoding, encode);
        let others = Limits { inflate_free_bytes: 0, ..Limits::DEFAULT };
        let limits = if encoding == Encoding::Zstd {
            Limits { zstd_ratio_max: ratio, inflate_ratio_max: 1, ..others }
        } else {
            Limits { inflate_ratio_max: ratio, zstd_ratio_max: 1, ..others }
        };
        for (bytes, fits) in [(count - 1, true), (count, true), (count + 1, false)] {
            let result = inflate_with(&limits, encoding, &encode(&vec![0; bytes]));
            if fits {
                assert_eq!(result.map(|it| it.len()), Ok(bytes), "{encoding:?} {ratio}");
            } else {
                assert_eq!(result, Err(ClientError::RatioTooLarge { max: ratio }));
            }
        }
    }
}

#[test]
fn a_small_body_may_have_any_ratio() {
    let limits = Limits {
        inflate_free_bytes: 100_000,
        inflate_ratio_max: 1,
        zstd_ratio_max: 1,
        ..Limits::DEFAULT
    };
    for (encoding, encode) in CODECS {
        for (bytes, fits) in [(99_999, true), (100_000, true), (100_001, false)] {
            let result = inflate_with(&limits, encoding, &encode(&vec![0; bytes]));
            if fits {
                assert_eq!(result.map(|it| it.len()), Ok(bytes), "{encoding:?}");
            } else {
                assert_eq!(result, Err(ClientError::RatioTooLarge { max: 1 }), "{encoding:?}");
            }
        }
    }
}

/// Lines of many fields that are all zero, ten seconds apart: nothing compresses better and is
/// still worth being sent.
fn idle_lines(fields: usize, bytes: usize) -> Vec<u8> {
    let fields: Vec<String> = (0..fields).map(|at| format!("f{at}=0")).collect();
    let fields = fields.join(",");
    let line = |at: usize| format!("m,host=a {fields} {}0000000000\n", 170_000_000 + at);
    (0..bytes / fields.len()).map(line).collect::<String>().into()
}

#[test]
fn bodies_of_an_idle_machine_are_no_bombs() {
    for fields in [1_000, 4_096] {
        let data = idle_lines(fields, 8 << 20);
        for (encoding, encode) in CODECS {
            let body = encode(&data);
            let ratio = data.len() / body.len();
            let result = inflate(encoding, &body);
            assert_eq!(result.map(|it| it.len()), Ok(data.len()), "{encoding:?} at {ratio}");
        }
    }
}

#[test]
fn a_bomb_is_refused_early() {
    let zeros = vec![0; 64 << 20];
    let limits = Limits::DEFAULT;
    for (encoding, encode) in [CODECS[0], CODECS[3]] {
        let body = encode(&zeros);
        let mut held = 0;
        let mut output = Vec::new();
        let result =
            Inflater::default().inflate(encoding, &body, &mut output, &limits, &mut |bytes| {
                held = held.max(bytes);
                Ok(())
            });
        match result {
            Err(WriteError::Client(ClientError::RatioTooLarge { .. })) => {
                assert!(held <= 16 << 20, "{encoding:?} held {held}");
            }
            other => panic!("{encoding:?}: {other:?} for {} bytes", body.len()),
        }
    }
}

#[test]
fn a_window_above_the_limit_is_refused() {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).expect("level 1 exists");
    encoder.window_log(24).expect("the option exists");
    encoder.write_all(&noise(20 << 20)).expect("a vector takes all");
    let body = encoder.finish().expect("a vector takes all");
    match inflate(Encoding::Zstd, &body) {
        Err(ClientError::BrokenEncoding { what: Broken::Window, .. }) => {}
        other => panic!("expected a window too large, found {:?}", other.map(|it| it.len())),
    }
}

#[test]
fn a_refused_reservation_ends_the_inflation() {
    let full = BusyReason::MemoryFull { retry_after_s: 7 };
    let body = gzip(&noise(1 << 20));
    let mut output = Vec::new();
    let result = Inflater::default().inflate(
        Encoding::Gzip,
        &body,
        &mut output,
        &Limits::DEFAULT,
        &mut |bytes| if bytes > 200_000 { Err(full.into()) } else { Ok(()) },
    );
    assert!(matches!(result, Err(WriteError::Busy(BusyReason::MemoryFull { retry_after_s: 7 }))));
    assert!(output.len() <= 200_000);
}

/// What is asked for while a body is inflated, and what comes of it.
fn reserved(encoding: Encoding, body: &[u8]) -> (Vec<usize>, usize, Result<(), WriteError>) {
    let (mut told, mut output) = (Vec::new(), Vec::new());
    let limits = Limits { inflate_free_bytes: 300_000, inflate_ratio_max: 2, ..Limits::DEFAULT };
    let result = Inflater::default().inflate(encoding, body, &mut output, &limits, &mut |bytes| {
        told.push(bytes);
        Ok(())
    });
    (told, output.capacity(), result)
}

#[test]
fn a_body_that_says_its_length_has_room_at_once() {
    for len in [0, 1, 65_535, 65_536, 65_537, 200_000, 299_999, 300_000] {
        let data = noise(len);
        for (encoding, body) in [
            (Encoding::Gzip, gzip(&data)),
            (Encoding::Zstd, zstd::bulk::compress(&data, 3).expect("level 3 exists")),
        ] {
            assert_eq!(encoding.declared(&body), Some(len));
            let (told, capacity, result) = reserved(encoding, &body);
            result.expect("a whole body");
            let room = (len + 1).max(65_536);
            assert!(told.iter().all(|it| *it == room || *it == len), "{encoding:?}: {told:?}");
            assert_eq!(capacity, room, "{encoding:?}");
        }
    }
}

#[test]
fn a_length_that_is_not_so_is_refused_and_reserves_nothing_that_truth_would_not() {
    let (len, honest) = (200_000, gzip(&noise(200_000)));
    let trailer = honest.len() - 4;
    for lie in [0, len - 1, len + 1, 299_999, 300_000, 1 << 20, u32::MAX] {
        let mut body = honest.clone();
        body[trailer..].copy_from_slice(&lie.to_le_bytes());
        let (told, capacity, result) = reserved(Encoding::Gzip, &body);
        match result {
            Err(WriteError::Client(ClientError::BrokenEncoding { what, byte, .. })) => {
                assert_eq!((what, byte), (Broken::Length, trailer), "{lie}");
            }
            other => panic!("{lie}: {other:?}"),
        }
        // By doubling it comes to this, too.
        let may = 2 * body.len().max(262_144);
        assert!(capacity <= may && told.iter().all(|it| *it <= may), "{lie}: {told:?}");
    }
    // Several members: the last one's length is not the body's.
    let body = [honest.clone(), gzip(b"m v=1\n"), honest].concat();
    assert_eq!(Encoding::Gzip.declared(&body), None);
    // A megabyte of empty members declared to come to nothing, and a shard took 5 ms for it.
    assert_eq!(Encoding::Gzip.declared(&gzip(b"").repeat(50_000)), None);
    let (.., result) = reserved(Encoding::Gzip, &body);
    result.expect("three whole members");
}

#[test]
fn a_body_without_a_header_is_known_by_its_first_bytes() {
    assert_eq!(Encoding::sniff(&gzip(b"a v=1")), Encoding::Gzip);
    assert_eq!(Encoding::sniff(&zstd(b"a v=1")), Encoding::Zstd);
    assert_eq!(Encoding::sniff(&zlib(b"a v=1")), Encoding::Deflate);
    assert_eq!(Encoding::sniff(b"cpu v=1"), Encoding::Identity);
    // 78 5e is a zlib header, too.
    assert_eq!(Encoding::sniff(b"x^2,host=a v=1"), Encoding::Identity);
    assert_eq!(Encoding::sniff(b""), Encoding::Identity);
}

proptest! {
    #[test]
    fn gzip_agrees_with_another_decoder(
        data in proptest::collection::vec(0_u8..8, 0..20_000),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..5),
        level in 0_u32..10,
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|it| it.index(data.len() + 1)).collect();
        cuts.extend([0, data.len()]);
        cuts.sort_unstable();
        let mut body = Vec::new();
        for pair in cuts.windows(2) {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
            encoder.write_all(&data[pair[0]..pair[1]]).expect("a vector takes all");
            body.extend(encoder.finish().expect("a vector takes all"));
        }
        let mut expect = Vec::new();
        MultiGzDecoder::new(&body[..]).read_to_end(&mut expect).expect("the body is whole");
        prop_assert_eq!(&expect, &data);
        prop_assert_eq!(inflate(Encoding::Gzip, &body), Ok(data));
    }

    #[test]
    fn broken_bytes_never_panic(
        data in proptest::collection::vec(0_u8..8, 0..2_000),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        for (encoding, encode) in CODECS {
            let mut body = encode(&data);
            for (at, byte) in &changes {
                let at = at.index(body.len());
                body[at] = *byte;
            }
            // Gzip and zlib carry checksums: what is read is what was sent, or an error.
            let result = inflate(encoding, &body);
            if encoding == Encoding::Gzip && let Ok(read) = result {
                prop_assert_eq!(&read, &data);
            }
        }
    }
}
