//! Parquet's hybrid of run lengths and bit packing: keys of a dictionary, and definition levels.
//!
//! ```text
//! keys    5 5 5 5 5 5 5 5 5 5 5 5 5 5 5 5 | 1 2 3 4 5 6 7 0 | 7 7 7
//! bytes   run of 16: header, value        | 1 group: header, 8 x width bits | 1 group, padded
//! ```
//!
//! Only whole groups of eight are looked at for runs, which is what lets both kinds follow one
//! another without a gap. Little-endian, the first value in the lowest bits.
//! Source: <https://parquet.apache.org/docs/file-format/data-pages/encodings/>, "RLE".

use arrow_buffer::BooleanBuffer;

/// Values of a bit-packed group.
const GROUP: usize = 8;
/// Widest key; what is wider has no dictionary.
pub(super) const WIDTH_MAX: u32 = 32;

/// The bits of the greatest of `count` keys, at least 1: no reader has to know keys of no bits.
pub(super) fn width_of(count: usize) -> u32 {
    (usize::BITS - count.saturating_sub(1).leading_zeros()).clamp(1, WIDTH_MAX)
}

/// Appends `keys`, all of them below 2 to the power of `width`.
pub(super) fn put_keys(out: &mut Vec<u8>, keys: &[u32], width: u32) {
    let (mut groups, rest) = keys.as_chunks::<GROUP>();
    while let Some([value, ..]) = groups.first() {
        let alike = groups.iter().take_while(|it| it.iter().all(|key| key == value)).count();
        if alike > 0 {
            put_run(out, alike * GROUP, *value, width);
            groups = groups.split_at(alike).1;
            continue;
        }
        let is_mixed = |group: &&[u32; GROUP]| group.iter().any(|key| *key != group[0]);
        let mixed = groups.iter().take_while(is_mixed).count();
        let (packed, behind) = groups.split_at(mixed);
        put_header(out, mixed, 1);
        for group in packed {
            pack(out, group, width);
        }
        groups = behind;
    }
    if !rest.is_empty() {
        let mut group = [0; GROUP];
        group.iter_mut().zip(rest).for_each(|(place, key)| *place = *key);
        put_header(out, 1, 1);
        pack(out, &group, width);
    }
}

/// Appends the definition levels of a flat column: 1 where a value is valid, 0 where it is null.
pub(super) fn put_levels(out: &mut Vec<u8>, validity: &BooleanBuffer) {
    // A validity bitmap is bit packing of width 1.
    let bits = validity.sliced();
    let (mut bytes, rows) = (bits.as_slice(), validity.len());
    let mut whole = rows / GROUP;
    while let (Some(&byte), 1..) = (bytes.first(), whole) {
        let is_run = byte == 0 || byte == u8::MAX;
        let alike = |it: &&u8| (**it == byte) && is_run;
        let mixed = |it: &&u8| !is_run && **it != 0 && **it != u8::MAX;
        let here = bytes.split_at(whole).0;
        let count = here.iter().take_while(|it| alike(it) || mixed(it)).count();
        let (taken, behind) = bytes.split_at(count);
        if is_run {
            put_run(out, count * GROUP, u32::from(byte & 1), 1);
        } else {
            put_header(out, count, 1);
            out.extend_from_slice(taken);
        }
        (bytes, whole) = (behind, whole - count);
    }
    let rest = rows % GROUP;
    if let (Some(&byte), 1..) = (bytes.first(), rest) {
        put_header(out, 1, 1);
        out.push(byte & ((1 << rest) - 1));
    }
}

/// Appends `count` times `value`.
pub(super) fn put_run(out: &mut Vec<u8>, count: usize, value: u32, width: u32) {
    put_header(out, count, 0);
    let bytes = width.div_ceil(u8::BITS);
    out.extend(value.to_le_bytes().iter().zip(0..bytes).map(|(byte, _)| *byte));
}

/// A count as ULEB128, the kind in its lowest bit.
fn put_header(out: &mut Vec<u8>, count: usize, kind: u64) {
    let mut rest = (count as u64) << 1 | kind;
    while rest >= 0x80 {
        out.push(rest.to_le_bytes()[0] | 0x80);
        rest >>= 7;
    }
    out.push(rest.to_le_bytes()[0]);
}

/// Appends eight keys, which are `width` bytes.
fn pack(out: &mut Vec<u8>, group: &[u32; GROUP], width: u32) {
    // Two bytes a key are enough for most dictionaries: four keys in a word, eight in two.
    if width <= 16 {
        let (low, high) = group.split_at(GROUP / 2);
        let word = |keys: &[u32]| keys.iter().rfold(0, |bits, key| bits << width | u64::from(*key));
        let bits = u128::from(word(low)) | u128::from(word(high)) << (4 * width);
        put_low(out, bits, width);
        return;
    }
    // The halves of a group are whole bytes only where the width is even.
    let (mut bits, mut filled) = (0_u128, 0);
    for key in group {
        bits |= u128::from(*key) << filled;
        filled += width;
        let bytes = filled / u8::BITS;
        put_low(out, bits, bytes);
        bits >>= bytes * u8::BITS;
        filled -= bytes * u8::BITS;
    }
}

/// Appends the lowest `count` bytes, at most 16.
fn put_low(out: &mut Vec<u8>, bits: u128, count: u32) {
    let end = out.len() + count as usize;
    out.extend_from_slice(&bits.to_le_bytes());
    out.truncate(end);
}
