//! Schemas pinned before the first body: `schemas/measurements/*.json` (decision 8).
//!
//! ```text
//! {
//!   "measurement": "disk",
//!   "closed": false,                                     optional: true refuses unknown columns
//!   "sort_key": ["time"],                                optional: order of rows in files
//!   "columns": [
//!     {"name": "path", "role": "tag"},                   a tag is a string
//!     {"name": "used", "role": "field", "kind": "integer", "unit": "bytes"}   unit: optional
//!   ]
//! }
//! ```
//!
//! A pin fixes kinds and roles that the first accepted value would fix otherwise, so that a float
//! that happens to start with `0i` is a float for ever. The shipped ones ([`SHIPPED`]) are the
//! common inputs of Telegraf. Nothing is pinned unless the user asks for it, because a pin decides
//! over the first accepted value ([`Source`]). Unknown keys, kinds and roles are errors that name
//! the file and the key.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{error, fmt, fs, io};

use simd_json::BorrowedValue;
use simd_json::prelude::*;

use super::{ColumnKind, Role, TIME, TIME_NS};

/// The shipped pins, file name and text, sorted by name.
pub const SHIPPED: &[(&str, &str)] = &[
    ("cpu.json", include_str!("../../schemas/measurements/cpu.json")),
    ("disk.json", include_str!("../../schemas/measurements/disk.json")),
    ("diskio.json", include_str!("../../schemas/measurements/diskio.json")),
    ("kernel.json", include_str!("../../schemas/measurements/kernel.json")),
    ("mem.json", include_str!("../../schemas/measurements/mem.json")),
    ("net.json", include_str!("../../schemas/measurements/net.json")),
    ("netstat.json", include_str!("../../schemas/measurements/netstat.json")),
    ("processes.json", include_str!("../../schemas/measurements/processes.json")),
    ("swap.json", include_str!("../../schemas/measurements/swap.json")),
    ("system.json", include_str!("../../schemas/measurements/system.json")),
];

/// What a measurement looks like before its first row.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PinnedSchema {
    /// The measurement, not empty.
    pub measurement: String,
    /// Whether columns that are not listed are refused instead of widening the table.
    pub closed: bool,
    /// The columns in the order they are written, `time` not among them; names are unique.
    pub columns: Vec<PinnedColumn>,
    /// Order of the rows in a file: names of `columns` or `time`, each once, at least one. Rows
    /// that are equal in all of them are in order of `time`.
    pub sort_key: Vec<String>,
}

/// One column of a [`PinnedSchema`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PinnedColumn {
    /// The name on the wire, not empty.
    pub name: String,
    /// [`Role::Tag`] or [`Role::Field`].
    pub role: Role,
    /// The kind of its values; [`ColumnKind::String`] for a tag.
    pub kind: ColumnKind,
    /// The unit, for readers of the schema; nothing is converted.
    pub unit: Option<String>,
}

/// Where pins come from.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Source {
    /// Nowhere: the first accepted value of a column fixes its kind.
    #[default]
    Nothing,
    /// [`SHIPPED`].
    Shipped,
    /// The `*.json` files of a directory.
    Directory(PathBuf),
}

/// The pins of `source`, sorted by measurement.
///
/// # Errors
/// When a directory or file cannot be read, a file is no pin, or two files pin the same
/// measurement.
pub fn load(source: &Source) -> Result<Vec<PinnedSchema>, PinnedError> {
    let texts = match source {
        Source::Nothing => Vec::new(),
        Source::Shipped => {
            SHIPPED.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect()
        }
        Source::Directory(path) => read_all(path)?,
    };
    let mut schemas = BTreeMap::new();
    for (file, text) in texts {
        let schema = parse(&file, &text)?;
        let at = Place { file: &file, key: "measurement".into() };
        if let Some(twin) = schemas.insert(schema.measurement.clone(), schema) {
            return Err(at.fault(Fault::Duplicate(twin.measurement.into())));
        }
    }
    Ok(schemas.into_values().collect())
}

/// Reads one pin; `file` is its name in errors.
///
/// # Errors
/// [`PinnedError`] with the key at fault.
pub fn parse(file: &str, text: &str) -> Result<PinnedSchema, PinnedError> {
    let at = Place { file, key: String::new() };
    let mut bytes = text.as_bytes().to_vec();
    let value = simd_json::to_borrowed_value(&mut bytes)
        .map_err(|error| at.fault(Fault::Json(error.to_string().into())))?;
    let keys = at.keys(&value, &["measurement", "closed", "sort_key", "columns"])?;

    let measurement = at.required(&keys, "measurement", Place::name)?;
    let closed = at.optional(&keys, "closed", Place::boolean)?.unwrap_or(false);
    let columns = at.required(&keys, "columns", columns)?;
    let sort_key = at.optional(&keys, "sort_key", |at, value| sort_key(at, value, &columns))?;
    let sort_key = sort_key.unwrap_or_else(|| vec![TIME.to_owned()]);
    Ok(PinnedSchema { measurement, closed, columns, sort_key })
}

fn columns(at: &Place<'_>, value: &BorrowedValue<'_>) -> Result<Vec<PinnedColumn>, PinnedError> {
    let mut columns: Vec<PinnedColumn> = Vec::new();
    for (at, value) in at.items(value)? {
        let found = column(&at, value)?;
        if columns.iter().any(|column| column.name == found.name) {
            return Err(at.key("name").fault(Fault::Duplicate(found.name.into())));
        }
        columns.push(found);
    }
    Ok(columns)
}

fn column(at: &Place<'_>, value: &BorrowedValue<'_>) -> Result<PinnedColumn, PinnedError> {
    let keys = at.keys(value, &["name", "role", "kind", "unit"])?;
    let name = at.required(&keys, "name", Place::name)?;
    if name == TIME || name == TIME_NS {
        return Err(at.key("name").expected("a name that is not reserved", &name));
    }
    let role = at.required(&keys, "role", |at, value| match at.text(value)? {
        "tag" => Ok(Role::Tag),
        "field" => Ok(Role::Field),
        other => Err(at.expected("tag or field", other)),
    })?;
    let kind = |at: &Place<'_>, value: &BorrowedValue<'_>| {
        let name = at.text(value)?;
        ColumnKind::from_name(name).ok_or_else(|| {
            at.expected("boolean, integer, unsigned, float, string or timestamp", name)
        })
    };
    let kind = match role {
        Role::Tag => at.optional(&keys, "kind", kind)?.unwrap_or(ColumnKind::String),
        _ => at.required(&keys, "kind", kind)?,
    };
    if role == Role::Tag && kind != ColumnKind::String {
        return Err(at.key("kind").expected("string, as every tag is", kind.name()));
    }
    let unit = at.optional(&keys, "unit", |at, value| at.text(value).map(str::to_owned))?;
    Ok(PinnedColumn { name, role, kind, unit })
}

fn sort_key(
    at: &Place<'_>,
    value: &BorrowedValue<'_>,
    columns: &[PinnedColumn],
) -> Result<Vec<String>, PinnedError> {
    let mut names: Vec<String> = Vec::new();
    for (at, value) in at.items(value)? {
        let name = at.name(value)?;
        if name != TIME && !columns.iter().any(|column| column.name == name) {
            return Err(at.expected("time or the name of a column", &name));
        }
        if names.contains(&name) {
            return Err(at.fault(Fault::Duplicate(name.into())));
        }
        names.push(name);
    }
    if names.is_empty() { Err(at.expected("at least one name", "none")) } else { Ok(names) }
}

/// The `*.json` files of `dir`, name and text, sorted by name.
fn read_all(dir: &Path) -> Result<Vec<(String, String)>, PinnedError> {
    let fault = |path: &Path, error: io::Error| PinnedError {
        file: path.display().to_string().into(),
        key: "".into(),
        fault: Fault::Read(error),
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(|error| fault(dir, error))? {
        let path = entry.map_err(|error| fault(dir, error))?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let text = fs::read_to_string(&path).map_err(|error| fault(&path, error))?;
            files.push((path.display().to_string(), text));
        }
    }
    files.sort();
    Ok(files)
}

/// Where in a file a value stands; turns faults into errors.
struct Place<'a> {
    file: &'a str,
    /// Path of keys, as in `columns[3].kind`; empty for the whole file.
    key: String,
}

type Keys<'a> = BTreeMap<&'a str, &'a BorrowedValue<'a>>;

impl<'a> Place<'a> {
    fn key(&self, key: &str) -> Self {
        let dot = if self.key.is_empty() { "" } else { "." };
        Self { file: self.file, key: format!("{}{dot}{key}", self.key) }
    }

    #[cold]
    fn fault(&self, fault: Fault) -> PinnedError {
        PinnedError { file: self.file.into(), key: self.key.as_str().into(), fault }
    }

    #[cold]
    fn expected(&self, expected: &'static str, found: &str) -> PinnedError {
        self.fault(Fault::Expected { expected, found: found.into() })
    }

    /// The entries of an object that has no key twice and none but `known`.
    fn keys<'v>(
        &self,
        value: &'v BorrowedValue<'v>,
        known: &[&str],
    ) -> Result<Keys<'v>, PinnedError> {
        let object = value.as_object().ok_or_else(|| self.wrong("an object", value))?;
        let mut keys = Keys::new();
        for (key, value) in object {
            if !known.contains(&key.as_ref()) {
                return Err(self.key(key).fault(Fault::UnknownKey));
            }
            if keys.insert(key.as_ref(), value).is_some() {
                return Err(self.fault(Fault::Duplicate(key.as_ref().into())));
            }
        }
        Ok(keys)
    }

    fn required<T>(
        &self,
        keys: &Keys<'_>,
        key: &str,
        read: impl FnOnce(&Self, &BorrowedValue<'_>) -> Result<T, PinnedError>,
    ) -> Result<T, PinnedError> {
        self.optional(keys, key, read)?.ok_or_else(|| self.key(key).fault(Fault::Missing))
    }

    fn optional<T>(
        &self,
        keys: &Keys<'_>,
        key: &str,
        read: impl FnOnce(&Self, &BorrowedValue<'_>) -> Result<T, PinnedError>,
    ) -> Result<Option<T>, PinnedError> {
        keys.get(key).map(|value| read(&self.key(key), value)).transpose()
    }

    fn items<'v>(
        &self,
        value: &'v BorrowedValue<'v>,
    ) -> Result<Vec<(Place<'a>, &'v BorrowedValue<'v>)>, PinnedError> {
        let array = value.as_array().ok_or_else(|| self.wrong("an array", value))?;
        let place = |index| Place { file: self.file, key: format!("{}[{index}]", self.key) };
        Ok(array.iter().enumerate().map(|(index, value)| (place(index), value)).collect())
    }

    fn text<'v>(&self, value: &'v BorrowedValue<'_>) -> Result<&'v str, PinnedError> {
        value.as_str().ok_or_else(|| self.wrong("a string", value))
    }

    fn name(&self, value: &BorrowedValue<'_>) -> Result<String, PinnedError> {
        match self.text(value)? {
            "" => Err(self.expected("a name", "an empty one")),
            name => Ok(name.to_owned()),
        }
    }

    fn boolean(&self, value: &BorrowedValue<'_>) -> Result<bool, PinnedError> {
        value.as_bool().ok_or_else(|| self.wrong("true or false", value))
    }

    #[cold]
    fn wrong(&self, expected: &'static str, value: &BorrowedValue<'_>) -> PinnedError {
        self.expected(expected, &value.encode())
    }
}

/// A pin that cannot be used: which file, which key, why.
#[derive(Debug)]
pub struct PinnedError {
    file: Box<str>,
    key: Box<str>,
    fault: Fault,
}

#[derive(Debug)]
enum Fault {
    Duplicate(Box<str>),
    Expected { expected: &'static str, found: Box<str> },
    Json(Box<str>),
    Missing,
    Read(io::Error),
    UnknownKey,
}

/// Most characters of a found value that a message quotes.
const FOUND_CHARS_MAX: usize = 32;

impl fmt::Display for PinnedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pinned schema {}: ", self.file.escape_debug())?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key.escape_debug())?;
        }
        match &self.fault {
            Fault::Duplicate(name) => write!(f, "\"{}\" is there twice", name.escape_debug()),
            Fault::Expected { expected, found } => {
                let found: String = found.chars().take(FOUND_CHARS_MAX).collect();
                write!(f, "expected {expected}, found {}", found.escape_debug())
            }
            Fault::Json(error) => write!(f, "not JSON: {error}"),
            Fault::Missing => f.write_str("missing"),
            Fault::Read(_) => f.write_str("cannot be read"),
            Fault::UnknownKey => f.write_str("no such key"),
        }
    }
}

impl error::Error for PinnedError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match &self.fault {
            Fault::Read(error) => Some(error),
            _ => None,
        }
    }
}
