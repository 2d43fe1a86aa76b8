//! Where a line ends.
//!
//! A line feed ends a line unless it is escaped or stands in a string. A quote opens a string only
//! in a field's value, and a value is where there are more `=` than `,` behind the head: the rule
//! of every InfluxDB, kept so that a broken line costs the same lines everywhere.

/// After so many strings without an end, no string of the body may span lines. Each of them costs
/// a look at the whole rest of the body; this bounds it.
pub(super) const UNTERMINATED_MAX: usize = 16;

/// Why a line has no end.
pub(super) struct Unterminated;

/// Position of the line feed that ends the physical line at `start`, or the end of the body.
pub(super) fn physical(bytes: &[u8], start: usize) -> usize {
    let rest = bytes.get(start..).unwrap_or_default();
    start + memchr::memchr(b'\n', rest).unwrap_or(rest.len())
}

/// Position of the line feed that ends the line at `start`, or the end of the body.
///
/// `unterminated` counts the strings of the body that do not end.
pub(super) fn logical(
    bytes: &[u8],
    start: usize,
    unterminated: &mut usize,
) -> Result<usize, Unterminated> {
    let is_multi_line = *unterminated < UNTERMINATED_MAX;
    let (mut in_fields, mut equals, mut commas) = (false, 0_usize, 0_usize);
    let mut at = start;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 1,
            b'\n' => return Ok(at),
            b' ' => in_fields = true,
            b'=' if in_fields => equals += 1,
            b',' if in_fields => commas += 1,
            b'"' if in_fields && equals > commas => {
                if let Some(quote) = string_end(bytes, at + 1, is_multi_line) {
                    at = quote;
                } else {
                    *unterminated += usize::from(is_multi_line);
                    return Err(Unterminated);
                }
            }
            _ => {}
        }
        at += 1;
    }
    Ok(bytes.len())
}

/// Position of the quote that ends the string whose first byte is at `start`.
pub(super) fn string_end(bytes: &[u8], start: usize, is_multi_line: bool) -> Option<usize> {
    let mut at = start;
    loop {
        let rest = bytes.get(at..)?;
        let found = if is_multi_line {
            memchr::memchr2(b'"', b'\\', rest)?
        } else {
            memchr::memchr3(b'"', b'\\', b'\n', rest)?
        };
        at += found;
        match bytes.get(at)? {
            b'"' => return Some(at),
            b'\\' if is_multi_line || bytes.get(at + 1) != Some(&b'\n') => at += 2,
            _ => return None,
        }
    }
}
