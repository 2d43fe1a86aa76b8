//! Where a document ends, when its line does not say so.
//!
//! Brackets, strings and commas are followed and nothing else is read: a document whose extent is
//! known may still not be JSON, and one that breaks here never is.

use memchr::memchr3;

/// Levels of brackets that are followed; simd-json reads as many.
const DEPTH_MAX: usize = 1024;

/// How far a document reaches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Extent {
    /// To this byte, which is behind its last.
    Whole(usize),
    /// It has no end: this byte cannot be part of it.
    Broken(usize),
}

/// Finds the end of the document at `at`, which is no white space.
pub(super) fn extent(bytes: &[u8], mut at: usize) -> Extent {
    let mut open: Vec<u8> = Vec::new();
    // What stands before `at` but for white space: a bracket, a comma, a colon, or a value (0).
    let mut before = b',';
    while let Some(byte) = bytes.get(at).copied() {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => {
                at += 1;
                continue;
            }
            b'{' | b'[' => {
                let fits = match open.last() {
                    None => before == b',',
                    Some(b'[') => matches!(before, b'[' | b','),
                    Some(_) => before == b':',
                };
                if !fits || open.len() == DEPTH_MAX {
                    return Extent::Broken(at);
                }
                open.push(byte);
                before = byte;
            }
            b'}' | b']' => {
                // A closing bracket is two behind its opening one in ASCII.
                if open.pop().map(|it| it + 2) != Some(byte) {
                    return Extent::Broken(at);
                }
                before = 0;
            }
            b',' | b':' if open.is_empty() => return Extent::Broken(at),
            b',' | b':' => before = byte,
            b'"' => match string(bytes, at) {
                Ok(end) => {
                    at = end - 1;
                    before = 0;
                }
                Err(broken) => return Extent::Broken(broken),
            },
            _ => {
                at = atom(bytes, at) - 1;
                before = 0;
            }
        }
        at += 1;
        if open.is_empty() && before == 0 {
            return Extent::Whole(at);
        }
    }
    Extent::Broken(at)
}

/// The end of the string at `at`, or where it breaks: at a line feed, or at the end.
pub(super) fn string(bytes: &[u8], at: usize) -> Result<usize, usize> {
    let mut next = at + 1;
    while let Some(found) = bytes.get(next..).and_then(|rest| memchr3(b'"', b'\\', b'\n', rest)) {
        next += found;
        match bytes.get(next) {
            Some(b'"') => return Ok(next + 1),
            Some(b'\\') if bytes.get(next + 1) != Some(&b'\n') => next += 2,
            Some(b'\\') => return Err(next + 1),
            _ => return Err(next),
        }
    }
    Err(bytes.len())
}

/// The end of the number or word at `at`; at least one byte.
pub(super) fn atom(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at + 1..).unwrap_or_default();
    let ends = |byte: &u8| {
        matches!(
            byte,
            b' ' | b'\t' | b'\r' | b'\n' | b'{' | b'}' | b'[' | b']' | b',' | b':' | b'"'
        )
    };
    at + 1 + rest.iter().position(ends).unwrap_or(rest.len())
}

/// Punctuation marks and quotes of `text`, or its words where these are more: a third of its
/// tokens, at the least.
pub(super) fn marks(text: &[u8]) -> usize {
    let is_mark = |byte: &&u8| matches!(byte, b'{' | b'}' | b'[' | b']' | b',' | b':' | b'"');
    let is_white = |byte: u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    // A number or a word stands behind a mark, or else behind white space.
    let pairs = text.iter().zip(text.iter().skip(1));
    let words = pairs.filter(|(before, byte)| is_white(**before) && !is_white(**byte)).count();
    text.iter().filter(is_mark).count().max(words)
}
