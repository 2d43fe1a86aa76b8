//! The values that settings take: bytes, durations, and numbers that the machine may decide.

use std::error::Error;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A number of bytes: `1048576`, `64MiB`, `64M`, `1GB`.
///
/// `K M G T` and `KiB MiB GiB TiB` are powers of 1024, `KB MB GB TB` powers of 1000; case does not
/// matter.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ByteSize(pub usize);

impl ByteSize {
    /// `count` times 1024 squared.
    pub const fn mib(count: usize) -> Self {
        Self(count << 20)
    }
}

const BYTE_UNITS: [(&str, usize); 14] = [
    ("", 1),
    ("b", 1),
    ("k", 1 << 10),
    ("kib", 1 << 10),
    ("kb", 1_000),
    ("m", 1 << 20),
    ("mib", 1 << 20),
    ("mb", 1_000_000),
    ("g", 1 << 30),
    ("gib", 1 << 30),
    ("gb", 1_000_000_000),
    ("t", 1 << 40),
    ("tib", 1 << 40),
    ("tb", 1_000_000_000_000),
];

impl FromStr for ByteSize {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wrong = || ValueError::expected("bytes such as 1048576, 64MiB or 1GB", text);
        let (digits, unit) = split_unit(text);
        let unit = unit.trim_start().to_ascii_lowercase();
        let (_, factor) = BYTE_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let count: usize = digits.parse().map_err(|_| wrong())?;
        count.checked_mul(*factor).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
        for (name, shift) in units {
            if self.0 >= 1 << shift && self.0.trailing_zeros() >= shift {
                return write!(f, "{}{name}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

const DURATION_UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Reads `500ms`, `10s`, `1m30s`, `2h`: whole numbers, each with its unit (ms, s, m, h, d).
///
/// # Errors
/// When a number has no unit, a unit no number, or the sum overflows.
pub fn duration(text: &str) -> Result<Duration, ValueError> {
    let wrong = || ValueError::expected("a duration such as 500ms, 10s or 1m30s", text);
    let mut total_ms: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let (digits, tail) = split_unit(rest);
        let unit_len = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at_checked(unit_len).ok_or_else(wrong)?;
        let (_, ms) = DURATION_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let count: u64 = digits.parse().map_err(|_| wrong())?;
        let part = count.checked_mul(*ms).ok_or_else(wrong)?;
        total_ms = total_ms.checked_add(part).ok_or_else(wrong)?;
        rest = tail;
    }
    if text.is_empty() { Err(wrong()) } else { Ok(Duration::from_millis(total_ms)) }
}

/// The leading ASCII digits of `text`, and what follows them.
fn split_unit(text: &str) -> (&str, &str) {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    text.split_at_checked(digits).unwrap_or((text, ""))
}

/// `value`, unless it is below `min`, which a message shows as `shown`.
///
/// # Errors
/// [`ValueError::BelowMinimum`].
pub fn at_least<T: PartialOrd>(value: T, min: &T, shown: &'static str) -> Result<T, ValueError> {
    if value < *min { Err(ValueError::BelowMinimum { min: shown }) } else { Ok(value) }
}

/// A value, or `auto`: decided from the machine when the server starts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Automatic<T> {
    /// `auto`.
    Auto,
    /// A value that was given.
    Fixed(T),
}

impl<T> Automatic<T> {
    /// The given value, or what `decide` says.
    pub fn unwrap_or_else(self, decide: impl FnOnce() -> T) -> T {
        match self {
            Self::Auto => decide(),
            Self::Fixed(value) => value,
        }
    }

    /// Reads `auto`, or a value by `read`.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn read(
        text: &str,
        read: impl FnOnce(&str) -> Result<T, ValueError>,
    ) -> Result<Self, ValueError> {
        if text == "auto" { Ok(Self::Auto) } else { read(text).map(Self::Fixed) }
    }
}

/// Why a setting's value is refused; the setting and the value stand before it in the message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ValueError {
    /// A value below the least one that works.
    BelowMinimum {
        /// The least value, as a user writes it.
        min: &'static str,
    },
    /// A value of another form.
    Expected {
        /// The form.
        expected: &'static str,
        /// The value.
        found: Box<str>,
    },
}

impl ValueError {
    /// `found` is not of the form `expected`.
    pub fn expected(expected: &'static str, found: &str) -> Self {
        Self::Expected { expected, found: found.into() }
    }
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BelowMinimum { min } => write!(f, "expected at least {min}"),
            Self::Expected { expected, found } => {
                write!(f, "expected {expected}, found \"{}\"", found.escape_debug())
            }
        }
    }
}

impl Error for ValueError {}
