//! Rows: `{"m", "t", "h", "tags", "fields"}` and Telegraf's `{"name", "timestamp", ..}`.

use std::fmt::Write;

use super::error::{Excerpt, ItemError, Key};
use super::item::{Decoder, Given, Parts};
use super::tape::{Document, Value};
use super::time;
use super::value::{Fields, Filled, HOST, append_tags};
use crate::decode::Reason;
use crate::gather::{AppendError, SeriesIndex, TableBuilder, TableIndex};
use crate::timestamp::Timestamp;

/// Begins the raw bytes of a series with a host: no tags in JSON begin with it, and none in
/// `MessagePack`.
const HAS_HOST: u8 = 0xf5;

/// What is kept from row to row of one body.
#[derive(Debug, Default)]
pub(super) struct Memo {
    /// The measurement of the last row, and its table if there was one.
    measurement: String,
    table: Option<TableIndex>,
    /// The raw bytes of host and tags, where a row has a host.
    series: Vec<u8>,
    /// Names and tag values made of others.
    pub(super) text: String,
}

/// The tags of a row, as far as they are known before they are read.
enum Tags {
    /// There are none, or this series has them.
    Known(SeriesIndex),
    /// To be read, and then kept under the raw bytes in [`Memo::series`] or under these.
    New(Option<(usize, usize)>),
    /// To be read. They are not told by their raw bytes.
    Rare,
}

impl Decoder<'_, '_> {
    /// Takes the row at node `at` whose parts stand where `parts` says.
    ///
    /// # Errors
    /// Why it is not a row; it left no trace.
    #[inline(always)]
    pub(super) fn row(
        &mut self,
        document: &Document<'_>,
        at: usize,
        parts: &Parts,
    ) -> Result<(), Reason> {
        let missing = |key| ItemError::Missing { key, at: document.byte(at) };
        let measurement = parts.measurement.ok_or_else(|| missing(Key::M))?;
        let fields = parts.fields.ok_or_else(|| missing(Key::Fields))?;
        let time = self.time(document, parts.time)?;
        let table = self.measurement(document, measurement)?;
        let tags = self.tags(document, table, parts);
        let (filled, series) = self.append_row(document, table, parts, &tags, fields, time)?;
        if let Tags::New(span) = tags {
            let raw = span.and_then(|(start, end)| document.body.get(start..end));
            let raw = raw.unwrap_or(&self.memo.series);
            self.database.remember_series_in(table, raw, series);
        }
        self.row_count += 1;
        self.report.accepted += 1;
        self.report.dropped_fields += filled.dropped;
        Ok(())
    }

    /// Appends and commits a row of `table`.
    #[inline(always)]
    fn append_row(
        &mut self,
        document: &Document<'_>,
        table: TableIndex,
        parts: &Parts,
        tags: &Tags,
        fields: Given,
        time: Timestamp,
    ) -> Result<(Filled, SeriesIndex), Reason> {
        let levels = self.levels().saturating_sub(1);
        let (body, depth_max) = (self.body, self.context.limits.json_depth_max);
        let table = self.database.table_mut(table);
        let text = &mut self.memo.text;
        let tagged = match tags {
            Tags::Known(series) => {
                table.set_series(*series);
                Ok(())
            }
            Tags::New(_) | Tags::Rare => append_host_and_tags(table, document, parts, text),
        };
        let filled = tagged.and_then(|()| {
            let filled = Filled::default();
            let mut into = Fields { document, body, table, text, depth_max, filled };
            into.append(fields.at, fields.key, levels)?;
            Ok(into.filled)
        });
        match filled {
            Ok(filled) if filled.values > 0 => Ok((filled, table.commit_row(time)?)),
            result => {
                table.rollback_row();
                result?;
                Err(AppendError::NoFields.into())
            }
        }
    }

    /// Looks the tags of a row up by their raw bytes.
    #[inline(always)]
    fn tags(&mut self, document: &Document<'_>, table: TableIndex, parts: &Parts) -> Tags {
        if !document.is_flawless() {
            return Tags::Rare;
        }
        let Some(given) = parts.tags else {
            return self.host_series(document, table, parts, &[]);
        };
        let Value::Object(pairs) = document.value(given.at) else { return Tags::Rare };
        if pairs == 0 {
            return self.host_series(document, table, parts, &[]);
        }
        let Ok(first) = document.key(given.at + 1) else { return Tags::Rare };
        let start = document.offset(first) - 1;
        if parts.host.is_none()
            && let Some(rest) = document.body.get(start..)
            && let Some((series, len)) = self.database.foresee_series_in(table, rest)
            && rest.get(len) == Some(&b'}')
        {
            return Tags::Known(series);
        }
        // Where the last value is no string without escapes, it is not known where it ends.
        let Value::Str(last) = document.value(document.next(given.at) - 1) else {
            return Tags::Rare;
        };
        let end = document.offset(last) + last.len() + 1;
        let raw = document.plain(last).and_then(|_| document.body.get(start..end));
        let Some(raw) = raw else { return Tags::Rare };
        if parts.host.is_some() {
            return self.host_series(document, table, parts, raw);
        }
        match self.database.series_in(table, raw) {
            Some(series) => Tags::Known(series),
            None => Tags::New(Some((start, end))),
        }
    }

    /// Looks up a host with the raw `tags`.
    #[inline(never)]
    fn host_series(
        &mut self,
        document: &Document<'_>,
        table: TableIndex,
        parts: &Parts,
        tags: &[u8],
    ) -> Tags {
        let Some(given) = parts.host else { return Tags::Known(SeriesIndex::NONE) };
        let Value::Str(host) = document.value(given.at) else { return Tags::Rare };
        let raw = &mut self.memo.series;
        raw.clear();
        raw.push(HAS_HOST);
        raw.extend_from_slice(&host.len().to_be_bytes());
        raw.extend_from_slice(host.as_bytes());
        raw.extend_from_slice(tags);
        match self.database.series_in(table, raw) {
            Some(series) => Tags::Known(series),
            None => Tags::New(None),
        }
    }

    #[inline(always)]
    fn time(&self, document: &Document<'_>, given: Option<Given>) -> Result<Timestamp, ItemError> {
        let received = self.context.received;
        let Some(Given { key, at }) = given else { return Ok(received) };
        let byte = || document.byte(at);
        time::from_value(document.value(at), self.context.precision, key, byte, received)
    }

    /// The table of the measurement at `given`; the same as before is not looked up.
    ///
    /// # Errors
    /// No measurement, or a name that tables cannot have.
    #[inline(always)]
    pub(super) fn measurement(
        &mut self,
        document: &Document<'_>,
        given: Given,
    ) -> Result<TableIndex, Reason> {
        if let Value::Str(name) = document.value(given.at) {
            if let Some(table) = self.memo.table
                && self.memo.measurement == name
            {
                return Ok(table);
            }
            let table = self.database.table(name)?;
            self.memo.measurement.clear();
            self.memo.measurement.push_str(name);
            self.memo.table = Some(table);
            return Ok(table);
        }
        Ok(self.database.table(&measurement_text(document, given)?)?)
    }
}

/// Appends the tags of the open row by their names.
#[inline(never)]
fn append_host_and_tags(
    table: &mut TableBuilder,
    document: &Document<'_>,
    parts: &Parts,
    text: &mut String,
) -> Result<(), Reason> {
    let mut host = String::new();
    if let Some(given) = parts.host {
        host_text(document, given, &mut host)?;
    }
    let host = (!host.is_empty()).then_some(&*host);
    if let Some(host) = host {
        table.append_tag(HOST, host)?;
    }
    match parts.tags {
        Some(given) => append_tags(table, document, given.at, host, text),
        None => Ok(()),
    }
}

/// The name of a measurement that is no string: an integer `n` is `measurement_n`, as in Arc.
#[cold]
fn measurement_text(document: &Document<'_>, given: Given) -> Result<String, ItemError> {
    let mut text = "measurement_".to_owned();
    if numbered(document, given, &mut text)? {
        return Ok(text);
    }
    Err(ItemError::Missing { key: given.key, at: document.byte(given.at) })
}

/// Writes the value of tag `host`; nothing for null. An integer `n` is `host_n`, as in Arc.
fn host_text(document: &Document<'_>, given: Given, text: &mut String) -> Result<(), ItemError> {
    if let Value::Str(name) = document.value(given.at) {
        text.push_str(name);
        return Ok(());
    }
    text.push_str("host_");
    if !numbered(document, given, text)? {
        text.clear();
    }
    Ok(())
}

/// Appends the integer at `given` to `text`; `false` for null.
fn numbered(document: &Document<'_>, given: Given, text: &mut String) -> Result<bool, ItemError> {
    let Given { key, at } = given;
    // Writing to a string does not fail.
    let _ = match document.value(at) {
        Value::Int(number) => write!(text, "{number}"),
        Value::Unsigned(number) => write!(text, "{number}"),
        Value::Null => return Ok(false),
        Value::Faulty(fault) => {
            let name = Excerpt::new(key.name().as_bytes());
            return Err(ItemError::Faulty { name, fault, at: document.byte(at) });
        }
        other => {
            let at = document.byte(at);
            return Err(ItemError::WrongValue { key, found: other.found(), at });
        }
    };
    Ok(true)
}
