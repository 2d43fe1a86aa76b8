//! Rows to the bytes of a body, which times of slot 0 stand in, and where they stand.

mod arrow;
mod json;
mod line_protocol;
mod msgpack;

use std::collections::BTreeMap;

use clap::ValueEnum;

use crate::clock::Clock;
use crate::shape::{Name, Row, Value};

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Line protocol with nanoseconds.
    LineProtocol,
    /// `MessagePack`, a map for each row.
    MsgpackRows,
    /// `MessagePack`, an array for each column.
    MsgpackColumns,
    /// JSON as Telegraf's serializer writes it.
    Json,
    /// An Arrow IPC stream; bodies of several measurements become several bodies.
    Arrow,
}

/// A body before compression.
#[derive(Debug)]
pub struct Encoded {
    /// The body, at slot 0.
    pub bytes: Vec<u8>,
    /// Where the prefixes of times begin, ascending.
    pub places: Vec<usize>,
    /// How times are written.
    pub clock: Clock,
    /// The measurement, where the format has no place for it.
    pub measurement: Option<Name>,
    /// The tags, where the format has no place for them.
    pub tags: Vec<Name>,
    /// Rows of each measurement.
    pub counts: Vec<(Name, u64)>,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::LineProtocol, Self::MsgpackRows, Self::MsgpackColumns, Self::Json, Self::Arrow];

    /// Encodes rows whose slot begins at `start_us`. `names_tags`: columnar bodies say which
    /// columns are tags.
    ///
    /// # Errors
    /// What the Arrow writer says.
    pub fn encode(
        self,
        rows: &[Row],
        start_us: u64,
        names_tags: bool,
    ) -> Result<Vec<Encoded>, arrow_schema::ArrowError> {
        Ok(match self {
            Self::LineProtocol => vec![line_protocol::encode(rows, start_us)],
            Self::MsgpackRows => vec![msgpack::rows(rows, start_us)],
            Self::MsgpackColumns => vec![msgpack::columns(rows, start_us, names_tags)],
            Self::Json => vec![json::encode(rows, start_us)],
            Self::Arrow => {
                let tables = tables(rows);
                tables.iter().map(|it| arrow::encode(it, start_us)).collect::<Result<_, _>>()?
            }
        })
    }
}

/// Rows of each measurement, in the order in which these come first.
fn counts(rows: &[Row]) -> Vec<(Name, u64)> {
    let count = |table: &Table<'_>| (table.measurement.clone(), table.rows.len() as u64);
    tables(rows).iter().map(count).collect()
}

/// The rows of one measurement and its columns.
struct Table<'a> {
    measurement: &'a Name,
    rows: Vec<&'a Row>,
}

fn tables(rows: &[Row]) -> Vec<Table<'_>> {
    let mut tables: Vec<Table<'_>> = Vec::new();
    let mut places = BTreeMap::new();
    for row in rows {
        let place = *places.entry(&row.measurement).or_insert(tables.len());
        if place == tables.len() {
            tables.push(Table { measurement: &row.measurement, rows: Vec::new() });
        }
        if let Some(table) = tables.get_mut(place) {
            table.rows.push(row);
        }
    }
    tables
}

impl<'a> Table<'a> {
    /// Names of the tags, in the order in which they come first, with a value or none for each row.
    fn tags(&self) -> Vec<(&'a Name, Vec<Option<&'a str>>)> {
        columns(&self.rows, |row| &row.tags)
            .into_iter()
            .map(|(name, values)| {
                (name, values.into_iter().map(|it| it.map(String::as_str)).collect())
            })
            .collect()
    }

    /// Names of the fields, likewise.
    fn fields(&self) -> Vec<(&'a Name, Vec<Option<&'a Value>>)> {
        columns(&self.rows, |row| &row.fields)
    }
}

/// A column: its name, and a value or none for each row.
type Column<'a, T> = (&'a Name, Vec<Option<&'a T>>);

fn columns<'a, T>(rows: &[&'a Row], of: fn(&'a Row) -> &'a Vec<(Name, T)>) -> Vec<Column<'a, T>> {
    let mut columns: Vec<Column<'a, T>> = Vec::new();
    let mut places = BTreeMap::new();
    for (index, row) in rows.iter().enumerate() {
        for (name, value) in of(row) {
            let place = *places.entry(name).or_insert(columns.len());
            if place == columns.len() {
                columns.push((name, vec![None; rows.len()]));
            }
            let column = columns.get_mut(place);
            if let Some(cell) = column.and_then(|(_, values)| values.get_mut(index)) {
                *cell = Some(value);
            }
        }
    }
    columns
}
