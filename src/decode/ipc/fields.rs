//! The schema of a stream: which columns there are, of which types, and what they are for.
//!
//! | of a column        | taken from                                                              |
//! |--------------------|-------------------------------------------------------------------------|
//! | time               | parameter `time`; else the column `time`                                |
//! | tag                | parameter `tags`; metadata `peristyle.role` = `tag`, or                 |
//! |                    | `iox::column::type` = `iox::column_type::tag`                           |
//! | field              | all others                                                              |
//! | measurement        | parameter `measurement`; metadata of the schema `peristyle.measurement`,|
//! |                    | or `iox::measurement::name`                                             |
//!
//! A type that cannot be taken refuses the stream: leaving a column out would lose its values.

use arrow_ipc::{DateUnit, Endianness, Field, KeyValue, Precision as FloatWidth, TimeUnit, Type};

use super::Parameters;
use super::error::StreamError;
use super::times::Unit;
use crate::limits::Limits;
use crate::schema::{METADATA_MEASUREMENT, METADATA_ROLE, Role, TIME};

/// How the values of a column are laid out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Layout {
    /// No values at all.
    Null,
    Bool,
    /// Integers of so many bytes.
    Int(usize),
    Uint(usize),
    /// Floats of so many bytes.
    Float(usize),
    Text(Text),
    /// Points in time of so many bytes.
    Time(Unit, usize),
    /// Keys of so many bytes into a dictionary of text.
    Dictionary {
        id: i64,
        key_bytes: usize,
        is_signed: bool,
    },
}

/// The three layouts of text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Text {
    Utf8,
    LargeUtf8,
    Utf8View,
}

/// What a column is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Purpose {
    Time,
    /// A tag, as the sender says.
    Tag,
    /// A field; a string is a tag where the measurement has a tag of that name.
    Field,
}

/// One column of a stream.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) name: Box<str>,
    pub(super) layout: Layout,
    pub(super) purpose: Purpose,
}

/// What a stream says before its rows.
#[derive(Debug)]
pub(super) struct Schema {
    pub(super) measurement: Box<str>,
    pub(super) columns: Vec<Column>,
    /// The dictionaries of its columns, and the layout of their text.
    pub(super) dictionaries: Vec<(i64, Text)>,
}

impl Schema {
    /// Reads a schema as `parameters` want it.
    ///
    /// # Errors
    /// Whatever keeps the rows from being taken: see [`StreamError`].
    pub(super) fn new(
        schema: arrow_ipc::Schema<'_>,
        parameters: &Parameters<'_>,
        limits: &Limits,
    ) -> Result<Self, StreamError> {
        if schema.endianness() == Endianness::Big {
            return Err(StreamError::BigEndian);
        }
        let metadata = schema.custom_metadata();
        let of_schema = |key| value_of(metadata.into_iter().flatten(), key);
        let measurement = parameters
            .measurement
            .filter(|name| !name.is_empty())
            .or_else(|| of_schema(METADATA_MEASUREMENT))
            .or_else(|| of_schema("iox::measurement::name"))
            .ok_or(StreamError::MissingMeasurement)?;
        let fields = schema.fields().ok_or(StreamError::NoColumns)?;
        let max = limits.columns_per_table_max;
        // `time` is not counted among the columns of a table.
        if fields.len() > max + 1 {
            return Err(StreamError::TooManyColumns { max });
        }
        let mut this =
            Self { measurement: measurement.into(), columns: Vec::new(), dictionaries: Vec::new() };
        for field in fields {
            this.push(field, parameters)?;
        }
        this.check(parameters)?;
        Ok(this)
    }

    fn push(&mut self, field: Field<'_>, parameters: &Parameters<'_>) -> Result<(), StreamError> {
        let name = field.name().unwrap_or_default();
        let purpose = purpose(field, parameters);
        let layout = self.layout(field);
        let fits = |layout: &Layout| match purpose {
            Purpose::Time => {
                matches!(layout, Layout::Null | Layout::Int(_) | Layout::Uint(_) | Layout::Time(..))
            }
            Purpose::Tag => !matches!(layout, Layout::Time(..)),
            Purpose::Field => true,
        };
        let layout = layout.filter(fits).ok_or_else(|| StreamError::UnsupportedType {
            column: name.into(),
            expected: match purpose {
                Purpose::Time => "timestamps, dates or integers for the time",
                Purpose::Tag => "strings, numbers or booleans for a tag",
                Purpose::Field => "booleans, numbers, strings, timestamps, dates or null",
            },
            found: type_name(field),
        })?;
        self.columns.push(Column { name: name.into(), layout, purpose });
        Ok(())
    }

    /// The layout of a field; `None` for a type that cannot be taken.
    fn layout(&mut self, field: Field<'_>) -> Option<Layout> {
        let values = layout_of_values(field)?;
        let Some(dictionary) = field.dictionary() else { return Some(values) };
        let Layout::Text(text) = values else { return None };
        let id = dictionary.id();
        match self.dictionaries.iter().find(|(known, _)| *known == id) {
            Some((_, known)) if *known != text => return None,
            Some(_) => {}
            None => self.dictionaries.push((id, text)),
        }
        // Without an index type, keys are signed and have 4 bytes.
        let index = dictionary.indexType();
        let key_bytes = index.map_or(Some(4), |index| int_bytes(index.bitWidth()))?;
        let is_signed = index.is_none_or(|index| index.is_signed());
        Some(Layout::Dictionary { id, key_bytes, is_signed })
    }

    /// What only all columns together can tell.
    fn check(&self, parameters: &Parameters<'_>) -> Result<(), StreamError> {
        if self.columns.is_empty() {
            return Err(StreamError::NoColumns);
        }
        let mut names: Vec<&str> = self.columns.iter().map(|column| &*column.name).collect();
        names.sort_unstable();
        for pair in names.windows(2) {
            if let [first, second] = pair
                && first == second
            {
                return Err(StreamError::DuplicateColumn { column: (*first).into() });
            }
        }
        let is_there = |name: &str| names.binary_search(&name).is_ok();
        if let Some(time) = parameters.time {
            if !is_there(time) {
                return Err(StreamError::MissingColumn { parameter: "time", column: time.into() });
            }
            if time != TIME && is_there(TIME) {
                return Err(StreamError::ReservedColumn);
            }
        }
        match parameters.tag_names().find(|name| !is_there(name)) {
            Some(tag) => Err(StreamError::MissingColumn { parameter: "tags", column: tag.into() }),
            None => Ok(()),
        }
    }
}

/// The value of a key among pairs.
fn value_of<'a>(mut pairs: impl Iterator<Item = KeyValue<'a>>, key: &str) -> Option<&'a str> {
    pairs.find(|pair| pair.key() == Some(key)).and_then(|pair| pair.value())
}

fn purpose(field: Field<'_>, parameters: &Parameters<'_>) -> Purpose {
    let name = field.name().unwrap_or_default();
    if name == parameters.time.unwrap_or(TIME) {
        return Purpose::Time;
    }
    let metadata = field.custom_metadata();
    let says = |key, expected| {
        let value = value_of(metadata.into_iter().flatten(), key);
        value == Some(expected)
    };
    let is_tag = parameters.tag_names().any(|tag| tag == name)
        || says(METADATA_ROLE, Role::Tag.name())
        || says("iox::column::type", "iox::column_type::tag");
    if is_tag { Purpose::Tag } else { Purpose::Field }
}

/// Bytes of an integer of so many bits.
fn int_bytes(bits: i32) -> Option<usize> {
    match bits {
        8 => Some(1),
        16 => Some(2),
        32 => Some(4),
        64 => Some(8),
        _ => None,
    }
}

fn layout_of_values(field: Field<'_>) -> Option<Layout> {
    Some(match field.type_type() {
        Type::Null => Layout::Null,
        Type::Bool => Layout::Bool,
        Type::Int => {
            let int = field.type_as_int()?;
            let bytes = int_bytes(int.bitWidth())?;
            if int.is_signed() { Layout::Int(bytes) } else { Layout::Uint(bytes) }
        }
        Type::FloatingPoint => match field.type_as_floating_point()?.precision() {
            FloatWidth::HALF => Layout::Float(2),
            FloatWidth::SINGLE => Layout::Float(4),
            FloatWidth::DOUBLE => Layout::Float(8),
            _ => return None,
        },
        Type::Utf8 => Layout::Text(Text::Utf8),
        Type::LargeUtf8 => Layout::Text(Text::LargeUtf8),
        Type::Utf8View => Layout::Text(Text::Utf8View),
        Type::Timestamp => match field.type_as_timestamp()?.unit() {
            TimeUnit::SECOND => Layout::Time(Unit::Us(1_000_000), 8),
            TimeUnit::MILLISECOND => Layout::Time(Unit::Us(1_000), 8),
            TimeUnit::MICROSECOND => Layout::Time(Unit::Us(1), 8),
            TimeUnit::NANOSECOND => Layout::Time(Unit::Ns, 8),
            _ => return None,
        },
        Type::Date => match field.type_as_date()?.unit() {
            DateUnit::DAY => Layout::Time(Unit::Us(86_400_000_000), 4),
            DateUnit::MILLISECOND => Layout::Time(Unit::Us(1_000), 8),
            _ => return None,
        },
        _ => return None,
    })
}

/// The type of a field as the format calls it.
fn type_name(field: Field<'_>) -> Box<str> {
    let name = field.type_type().variant_name().unwrap_or("an unknown type");
    let name = name.trim_end_matches('_');
    if field.dictionary().is_some() { format!("Dictionary of {name}").into() } else { name.into() }
}
