//! Where files are: names of databases and measurements as path components, days as partitions.
//!
//! ```text
//! <data-dir>/tables/<database>/<measurement>/date=<day>/<instance>-<sequence>-<part>.parquet
//!   mydb@2Fautogen/@43@50@55/date=2026-11-22/9b1c03de-000000000000002a-0000.parquet
//! ```
//!
//! A name from a client becomes exactly one component, by [`encode_name`]. The mapping is
//! injective, also on file systems that ignore case, and can be read back by [`decode_name`] while
//! the component has no `@@`; the real name is in the file's metadata in any case.
//! `schemas/segment.md` states the rules for readers.

use std::path::PathBuf;

use chrono::DateTime;
use twox_hash::XxHash3_128;

/// Directory under the data directory that holds every table.
pub const TABLES: &str = "tables";
/// Directory of the Delta log, below that of a measurement.
pub const LOG: &str = "_delta_log";

/// Longest component that is written whole; a longer one is cut and hashed.
const COMPONENT_BYTES_MAX: usize = 180;
/// What is kept of a component that is cut.
const KEPT_BYTES_MAX: usize = 100;
/// Before the two digits of a byte that does not stand for itself. Not `%`: `DuckDB`, delta-rs and
/// `ClickHouse` decode the path of a Delta table once too often, and find none below a `%41`. Nor
/// `~`, which object stores advise against.
const ESCAPE: char = '@';
/// Component of the empty name; no other name gives a lone escape.
const EMPTY: &str = "@";
/// Names that Windows gives to devices, whatever their extension.
const DEVICES: [&str; 4] = ["con", "prn", "aux", "nul"];
/// Devices that are followed by one digit.
const NUMBERED_DEVICES: [&str; 2] = ["com", "lpt"];

/// `name` as one path component of at most 255 bytes.
///
/// `[a-z0-9_-]` and `.` stand for themselves, every other byte is `@XX`. A component never begins
/// with `.`, `_` or `-` (hidden files, files that Spark skips, options), never ends with `.` and is
/// never a device of Windows: the byte that would make it so is `@XX` too.
/// Beyond 180 bytes it is its first 100, `@@`, and the 128-bit xxHash3 of `name` in hex.
pub fn encode_name(name: &str) -> String {
    if name.is_empty() {
        return EMPTY.to_owned();
    }
    let last = name.len() - 1;
    let device = is_device(name);
    let mut component = String::with_capacity(name.len());
    for (at, byte) in name.bytes().enumerate() {
        let verbatim = match byte {
            b'a'..=b'z' | b'0'..=b'9' => !(device && at == 0),
            b'_' | b'-' => at != 0,
            b'.' => at != 0 && at != last,
            _ => false,
        };
        if verbatim {
            component.push(char::from(byte));
        } else {
            component.push(ESCAPE);
            for digit in [byte >> 4, byte & 15] {
                let digit = char::from_digit(digit.into(), 16);
                component.extend(digit.map(|it| it.to_ascii_uppercase()));
            }
        }
    }
    if component.len() > COMPONENT_BYTES_MAX {
        component.truncate(KEPT_BYTES_MAX);
        let hash = format!("@@{:032x}", XxHash3_128::oneshot(name.as_bytes()));
        component.push_str(&hash);
    }
    component
}

/// The name that [`encode_name`] turned into `component`; `None` when it was hashed or when no name
/// gives this component.
pub fn decode_name(component: &str) -> Option<String> {
    if component == EMPTY {
        return Some(String::new());
    }
    let mut bytes = Vec::with_capacity(component.len());
    let mut rest = component.bytes();
    while let Some(byte) = rest.next() {
        if char::from(byte) == ESCAPE {
            let high = char::from(rest.next()?).to_digit(16)?;
            let low = char::from(rest.next()?).to_digit(16)?;
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    let name = String::from_utf8(bytes).ok()?;
    (encode_name(&name) == component).then_some(name)
}

/// Whether Windows would open a device instead of a file of this name: `nul`, `com1.txt`.
/// Upper case does not matter here, because it is encoded.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default();
    DEVICES.contains(&stem)
        || NUMBERED_DEVICES.iter().any(|device| {
            stem.strip_prefix(device)
                .is_some_and(|number| matches!(number.as_bytes(), [b'0'..=b'9']))
        })
}

/// Directory of a database, relative to the data directory.
pub fn database_directory(database: &str) -> PathBuf {
    PathBuf::from(TABLES).join(encode_name(database))
}

/// Directory of a measurement, relative to the data directory: the root of its table.
pub fn table_directory(database: &str, measurement: &str) -> PathBuf {
    database_directory(database).join(encode_name(measurement))
}

/// A day since 1970-01-01 UTC as `YYYY-MM-DD`; `None` outside the years 0001 to 9999.
pub fn date_of(day: i64) -> Option<String> {
    let date = DateTime::from_timestamp(day.checked_mul(24 * 60 * 60)?, 0)?.date_naive();
    let years = chrono::Datelike::year(&date);
    (1..=9999).contains(&years).then(|| date.format("%Y-%m-%d").to_string())
}

/// Path of a segment, relative to the data directory. Unique when `sequence` is within its
/// `instance`, 8 hex digits, for the days of one request are its `part`s.
pub fn segment_path(
    database: &str,
    measurement: &str,
    date: &str,
    instance: &str,
    sequence: u64,
    part: usize,
) -> PathBuf {
    table_directory(database, measurement)
        .join(format!("date={date}"))
        .join(format!("{instance}-{sequence:016x}-{part:04}.parquet"))
}

/// Instance and sequence of a file that [`segment_path`] named; `None` for other names.
pub fn parse_segment_name(name: &str) -> Option<(&str, u64)> {
    let (instance, rest) = name.strip_suffix(".parquet")?.split_once('-')?;
    let (sequence, part) = rest.split_once('-')?;
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_ours = instance.len() == 8 && is_hex(instance) && sequence.len() == 16;
    let is_part = part.len() >= 4 && part.bytes().all(|byte| byte.is_ascii_digit());
    let sequence = u64::from_str_radix(sequence, 16).ok()?;
    (is_ours && is_part).then_some((instance, sequence))
}
