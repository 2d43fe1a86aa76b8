//! Backslashes: which byte they protect, and how they are taken away.

/// Which backslashes escape.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Dialect {
    /// InfluxDB 1 and 2, and what Telegraf and their clients write: a backslash protects `,`, `=`
    /// and space; a second backslash before it is a backslash.
    V1,
    /// InfluxDB 3: a backslash protects every byte, itself included.
    V3,
    /// QuestDB: as InfluxDB 3, and it is taken away from every byte.
    QuestDb,
}

/// What a backslash is taken away from, besides another backslash.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Place {
    /// `,` and space.
    Measurement,
    /// `,`, `=` and space.
    Key,
    /// `"`.
    String,
}

impl Place {
    fn is_special(self, byte: u8, dialect: Dialect) -> bool {
        match byte {
            _ if dialect == Dialect::QuestDb => true,
            b'\\' => dialect == Dialect::V3 || self == Self::String,
            b',' | b' ' => self != Self::String,
            b'=' => self == Self::Key,
            b'"' => self == Self::String,
            _ => false,
        }
    }
}

/// Whether the byte at `at` is protected by backslashes, none of them before `start` (V3).
pub(super) fn is_escaped(bytes: &[u8], start: usize, at: usize) -> bool {
    let before = bytes.get(start..at).unwrap_or_default();
    before.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

/// Room for one name or value without its escapes.
#[derive(Debug, Default)]
pub(super) struct Scratch(String);

impl Scratch {
    /// `text` without the backslashes that protect something at `place`; the others stay.
    pub(super) fn unescape(&mut self, text: &str, place: Place, dialect: Dialect) -> &str {
        self.0.clear();
        let mut rest = text;
        while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
            let protected = rest.as_bytes().get(at + 1);
            let is_escape = protected.is_some_and(|byte| place.is_special(*byte, dialect));
            // An escape leaves the byte behind it, another backslash leaves itself.
            let (kept, next) = if is_escape { (at, at + 1) } else { (at + 1, at + 1) };
            self.0.push_str(rest.get(..kept).unwrap_or_default());
            rest = rest.get(next..).unwrap_or_default();
            if is_escape && let Some(protected) = rest.get(..1) {
                // It starts no escape itself; a character of several bytes could not.
                self.0.push_str(protected);
                rest = rest.get(1..).unwrap_or_default();
            }
        }
        self.0.push_str(rest);
        &self.0
    }
}
