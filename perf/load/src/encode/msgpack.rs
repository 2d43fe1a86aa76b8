//! `MessagePack` in Arc's two forms, with microseconds in nine bytes, as Go's encoder writes them.

use rmp::encode::{
    ByteBuf, write_array_len, write_bool, write_f64, write_i64, write_map_len, write_nil,
    write_sint, write_str,
};

use super::{Encoded, Table, counts, tables};
use crate::clock::Clock;
use crate::shape::{Name, Row, Value};

/// Appends to a body; a body in memory takes everything.
macro_rules! put {
    ($write:ident, $body:expr $(, $value:expr)?) => {
        // `ByteBuf` cannot fail; its error type has no values.
        let _ = $write($body $(, $value)?);
    };
}

fn length(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn value(body: &mut ByteBuf, value: &Value) {
    match value {
        Value::Float(value) => {
            put!(write_f64, body, *value);
        }
        Value::Integer(value) => {
            put!(write_sint, body, *value);
        }
        Value::Bool(value) => {
            put!(write_bool, body, *value);
        }
        Value::Text(value) => {
            put!(write_str, body, value);
        }
    }
}

/// A time in nine bytes, whose prefix begins behind the marker.
fn time(body: &mut ByteBuf, places: &mut Vec<usize>, start_us: u64, row: &Row) {
    places.push(body.as_slice().len() + 1);
    let time_us = start_us + u64::from(row.offset_us);
    put!(write_i64, body, i64::try_from(time_us).unwrap_or(i64::MAX));
}

fn encoded(body: ByteBuf, places: Vec<usize>, rows: &[Row]) -> Encoded {
    Encoded {
        bytes: body.into_vec(),
        places,
        clock: Clock::BigEndian,
        measurement: None,
        tags: Vec::new(),
        counts: counts(rows),
    }
}

/// An array of `{m, t, tags, fields}`, as Arc's client sends rows.
pub(super) fn rows(rows: &[Row], start_us: u64) -> Encoded {
    let (mut body, mut places) = (ByteBuf::new(), Vec::with_capacity(rows.len()));
    put!(write_array_len, &mut body, length(rows.len()));
    for row in rows {
        put!(write_map_len, &mut body, 4);
        put!(write_str, &mut body, "m");
        put!(write_str, &mut body, &row.measurement);
        put!(write_str, &mut body, "t");
        time(&mut body, &mut places, start_us, row);
        put!(write_str, &mut body, "tags");
        put!(write_map_len, &mut body, length(row.tags.len()));
        for (name, text) in &row.tags {
            put!(write_str, &mut body, name);
            put!(write_str, &mut body, text);
        }
        put!(write_str, &mut body, "fields");
        put!(write_map_len, &mut body, length(row.fields.len()));
        for (name, it) in &row.fields {
            put!(write_str, &mut body, name);
            value(&mut body, it);
        }
    }
    encoded(body, places, rows)
}

/// `{m, columns, tag_keys}`, or an array of them where there are several measurements.
pub(super) fn columns(rows: &[Row], start_us: u64, names_tags: bool) -> Encoded {
    let (mut body, mut places) = (ByteBuf::new(), Vec::with_capacity(rows.len()));
    let tables = tables(rows);
    if tables.len() > 1 {
        put!(write_array_len, &mut body, length(tables.len()));
    }
    for table in &tables {
        item(&mut body, &mut places, table, start_us, names_tags);
    }
    encoded(body, places, rows)
}

fn item(
    body: &mut ByteBuf,
    places: &mut Vec<usize>,
    table: &Table<'_>,
    start_us: u64,
    names_tags: bool,
) {
    let (tags, fields) = (table.tags(), table.fields());
    put!(write_map_len, body, if names_tags { 3 } else { 2 });
    put!(write_str, body, "m");
    put!(write_str, body, table.measurement);
    put!(write_str, body, "columns");
    put!(write_map_len, body, length(1 + tags.len() + fields.len()));
    let rows = length(table.rows.len());
    let column = |body: &mut ByteBuf, name: &str| {
        put!(write_str, body, name);
        put!(write_array_len, body, rows);
    };
    column(body, "time");
    for row in &table.rows {
        time(body, places, start_us, row);
    }
    for (name, texts) in &tags {
        column(body, name);
        for text in texts {
            match text {
                Some(text) => {
                    put!(write_str, body, text);
                }
                None => {
                    put!(write_nil, body);
                }
            }
        }
    }
    for (name, values) in &fields {
        column(body, name);
        for it in values {
            match it {
                Some(it) => value(body, it),
                None => {
                    put!(write_nil, body);
                }
            }
        }
    }
    if names_tags {
        put!(write_str, body, "tag_keys");
        let names: Vec<&Name> = tags.iter().map(|(name, _)| *name).collect();
        put!(write_array_len, body, length(names.len()));
        for name in names {
            put!(write_str, body, name);
        }
    }
}
