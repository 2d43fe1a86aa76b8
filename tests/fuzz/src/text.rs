//! The formats of rows, each decoder beside its naive twin.

use peristyle::decode::Precision;

use crate::agree;
use crate::heap::bounded;
use crate::support::Shard;

const PRECISIONS: [Precision; 7] = [
    Precision::Auto,
    Precision::Nanosecond,
    Precision::Microsecond,
    Precision::Millisecond,
    Precision::Second,
    Precision::Minute,
    Precision::Hour,
];
/// What stands between two bodies: ASCII's record separator.
const SEPARATOR: u8 = 0x1e;
/// What a decoder may allocate, tables and all.
const BASE_BYTES: usize = 256 << 10;

/// The first byte says precision and dialects; bodies follow, all into the same tables.
pub fn line_protocol(input: &[u8]) {
    let Some((control, rest)) = input.split_first() else { return };
    let precision = PRECISIONS[usize::from(control & 7) % PRECISIONS.len()];
    let bodies: Vec<(Vec<u8>, bool)> = rest
        .split(|byte| *byte == SEPARATOR)
        .take(4)
        .zip([control & 8, control & 16, control & 32, control & 64])
        .map(|(body, is_questdb)| (body.to_vec(), is_questdb > 0))
        .collect();
    agree::lines(&bodies, precision);
}

/// A body of MessagePack.
pub fn msgpack(input: &[u8]) {
    bounded(BASE_BYTES, 64, input, || agree::write_msgpack(&mut Shard::new(), input));
    agree::msgpack(input);
}

/// A body of JSON.
pub fn json(input: &[u8]) {
    bounded(BASE_BYTES, 64, input, || agree::write_json(&mut Shard::new(), input));
    agree::json(input);
}
