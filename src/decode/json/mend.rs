//! Values that simd-json cannot read, replaced by strings that it can.
//!
//! A number beyond 64 bits or half of a surrogate pair ends the tape of a document. That should
//! cost its row and not those behind it, so the text is gone over once, slowly: each value of that
//! kind is overwritten, byte for byte, by a string of `x`, and remembered as a [`Flaw`] by its
//! place. Whoever meets a string at that place refuses it by name.
//!
//! ```text
//! {"a":1e400,"b":"\ud800"}      ->      {"a":"xxx","b":"xxxxxx"}
//! ```

use super::error::Fault;
use super::extent::{atom, string};

/// A value that cannot be read, and that is a string on the tape.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Flaw {
    /// First byte of the value, in the document.
    pub(super) at: usize,
    pub(super) fault: Fault,
}

/// What is known of a text that was mended.
#[derive(Debug, Default)]
pub(super) struct Mended {
    /// Its flaws in their order.
    pub(super) flaws: Vec<Flaw>,
    /// Where nothing more can be told apart, if not at the end, and what had to stand there.
    pub(super) broken: Option<(&'static str, usize)>,
}

/// Mends `text`: all of it, or what is before a string that does not end, or before bytes that
/// may stand in strings only.
pub(super) fn mend(text: &mut [u8]) -> Mended {
    let mut flaws = Vec::new();
    let mut at = 0;
    // Brackets that are open, and the last byte that is no white space.
    let (mut open, mut before) = (Vec::new(), b',');
    while let Some(byte) = text.get(at).copied() {
        let is_key = open.last() == Some(&b'{') && matches!(before, b'{' | b',');
        if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
            before = byte;
        }
        let (end, fault) = match byte {
            b' ' | b'\t' | b'\r' | b'\n' | b'{' | b'}' | b'[' | b']' | b',' | b':' => {
                match byte {
                    b'{' | b'[' => open.push(byte),
                    b'}' | b']' => _ = open.pop(),
                    _ => {}
                }
                at += 1;
                continue;
            }
            b'"' => {
                let Ok(end) = string(text, at) else {
                    return Mended { flaws, broken: Some(("an end of the string", at)) };
                };
                (end, string_fault(text.get(at + 1..end - 1).unwrap_or_default()))
            }
            _ => {
                let end = atom(text, at);
                let word = std::str::from_utf8(text.get(at..end).unwrap_or_default());
                match word {
                    Ok(word) if !word.contains('\\') && text.get(end) != Some(&b'"') => {
                        // Where a key has to stand, a string would be one.
                        (end, if is_key { None } else { atom_fault(word) })
                    }
                    _ => return Mended { flaws, broken: Some(("a value", at)) },
                }
            }
        };
        if let Some(fault) = fault
            && let Some([first, middle @ .., last]) = text.get_mut(at..end)
        {
            flaws.push(Flaw { at, fault });
            middle.fill(b'x');
            (*first, *last) = (b'"', b'"');
        }
        at = end;
    }
    Mended { flaws, broken: None }
}

/// What is wrong with the inside of a string.
fn string_fault(inside: &[u8]) -> Option<Fault> {
    if std::str::from_utf8(inside).is_err() {
        return Some(Fault::NotUtf8);
    }
    if inside.iter().any(|byte| *byte < 0x20) {
        return Some(Fault::ControlCharacter);
    }
    let mut rest = inside;
    while let Some(found) = memchr::memchr(b'\\', rest) {
        match escape(rest.get(found..).unwrap_or_default()) {
            Some(behind) => rest = behind,
            None => return Some(Fault::Escape),
        }
    }
    None
}

/// What stands behind the escape that `text` begins with.
fn escape(text: &[u8]) -> Option<&[u8]> {
    let [_, kind, behind @ ..] = text else { return None };
    match kind {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(behind),
        b'u' => {
            let (unit, behind) = code_unit(behind)?;
            match unit {
                0xd800..0xdc00 => {
                    let (low, behind) = code_unit(behind.strip_prefix(b"\\u")?)?;
                    (0xdc00..0xe000).contains(&low).then_some(behind)
                }
                0xdc00..0xe000 => None,
                _ => Some(behind),
            }
        }
        _ => None,
    }
}

fn code_unit(text: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, behind) = text.split_first_chunk::<4>()?;
    let digit = |value: u32, byte: &u8| Some(value << 4 | char::from(*byte).to_digit(16)?);
    Some((digits.iter().try_fold(0, digit)?, behind))
}

/// What keeps a number from being a value; `None` too for what is no number at all.
fn atom_fault(word: &str) -> Option<Fault> {
    if matches!(word, "NaN" | "Infinity" | "-Infinity") {
        return Some(Fault::NotANumber);
    }
    if !is_number(word.as_bytes()) {
        return None;
    }
    if word.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit()) {
        let fits = word.parse::<i64>().is_ok() || word.parse::<u64>().is_ok();
        return (!fits).then_some(Fault::IntegerTooLarge);
    }
    word.parse::<f64>().is_ok_and(f64::is_infinite).then_some(Fault::FloatTooLarge)
}

/// Whether `text` is a number of RFC 8259.
fn is_number(text: &[u8]) -> bool {
    fn digits(text: &[u8]) -> Option<&[u8]> {
        let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
        if end == 0 { None } else { text.get(end..) }
    }
    fn number(text: &[u8]) -> Option<&[u8]> {
        let text = text.strip_prefix(b"-").unwrap_or(text);
        let mut rest = match text {
            [b'0', rest @ ..] => rest,
            _ => digits(text)?,
        };
        if let [b'.', fraction @ ..] = rest {
            rest = digits(fraction)?;
        }
        if let [b'e' | b'E', exponent @ ..] = rest {
            rest = match exponent {
                [b'+' | b'-', exponent @ ..] => digits(exponent)?,
                _ => digits(exponent)?,
            };
        }
        Some(rest)
    }
    number(text).is_some_and(<[u8]>::is_empty)
}
