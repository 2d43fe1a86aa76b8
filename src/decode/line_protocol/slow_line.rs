//! A line by the whole grammar: for what the fast path did not expect, and for what is wrong.

use super::escape::{Dialect, Place};
use super::token::{FieldValue, Line, Tokens};
use super::{Decoder, LineError, line_end, questdb};
use crate::decode::Reason;
use crate::gather::{AppendError, Database, SeriesIndex, TableBuilder};
use crate::schema::{Role, TIME};
use crate::timestamp::Timestamp;

use super::names::{Names, Refusal, check_names, check_repeated};

impl Decoder<'_> {
    /// Takes or refuses the line at `start` and returns where the next one starts.
    #[inline(never)]
    pub(super) fn slow_line(&mut self, start: usize, database: &mut Database) -> usize {
        let logical = line_end::logical(self.bytes, start, &mut self.unterminated);
        let end = match logical {
            Ok(end) => end,
            Err(_) => line_end::physical(self.bytes, start),
        };
        let has_return = self.bytes.get(start..end).is_some_and(|it| it.ends_with(b"\r"));
        let trimmed = end - usize::from(has_return && logical.is_ok());
        let taken = match logical {
            Ok(_) => self.take_line(start, trimmed, database),
            Err(_) => Err(LineError::UnbalancedQuotes.into()),
        };
        match taken {
            Ok(dropped) => {
                self.report.accepted += 1;
                self.report.has_received_times |= self.tokens.time.is_none();
                self.report.dropped_fields += dropped;
            }
            Err(Refusal::Line(_)) if self.is_binary(start) => {
                self.reject(start, trimmed, Reason::LineProtocol(LineError::BinaryValue));
                // Line feeds may be part of values from here on.
                return self.bytes.len();
            }
            Err(Refusal::Line(reason)) => self.reject(start, trimmed, reason),
            Err(Refusal::Columns(error)) => self.reject(start, trimmed, Reason::Append(error)),
        }
        self.next_line(start, end)
    }

    fn is_binary(&mut self, start: usize) -> bool {
        // Once is enough: one refused line refuses the whole body, for clients of this dialect.
        let is_first = !std::mem::replace(&mut self.was_looked_for_binary, true);
        is_first && self.dialect == Dialect::QuestDb && questdb::has_binary_value(self.bytes, start)
    }

    /// Takes the line `start..end` and returns how many of its fields were left out.
    fn take_line(
        &mut self,
        start: usize,
        end: usize,
        database: &mut Database,
    ) -> Result<u64, Refusal> {
        let bytes = end - start;
        if bytes > self.context.limits.line_bytes_max {
            return Err(LineError::LineTooLong { bytes }.into());
        }
        let text = self.text(start, end).ok_or(LineError::InvalidUtf8)?;
        match self.read(start, end, self.dialect, database) {
            // Telegraf writes `a\ b` as `a\\ b`, which ends the name by the rule of InfluxDB 3.
            Err(Refusal::Line(_)) if self.dialect == Dialect::V3 && text.contains("\\\\") => {
                self.read(start, end, Dialect::V1, database)
            }
            taken => taken,
        }
    }

    /// Reads the line by one backslash rule and appends it.
    fn read(
        &mut self,
        start: usize,
        end: usize,
        dialect: Dialect,
        database: &mut Database,
    ) -> Result<u64, Refusal> {
        let precision = self.context.precision;
        let line = Line { padded: self.body.padded(), start, end, dialect, precision };
        let Self { tokens, scratch, text, text_start, bytes, has_backslash, .. } = self;
        let read = tokens.read(&line);
        let (text_start, has_backslash) = (*text_start, *has_backslash);
        let mut names = Names { text, text_start, scratch, dialect, has_backslash };
        if let Err(error) = read {
            // A name given twice stands before the error.
            check_repeated(tokens, &mut names)?;
            return Err(error.into());
        }
        if tokens.has_empty_tag || tokens.has_left_out_field {
            check_names(tokens, &mut names)?;
        }
        // The fast path reads heads by the rule of InfluxDB 3, and an empty tag is not in a series.
        let has_its_rule = match dialect {
            Dialect::V1 => false,
            Dialect::V3 => true,
            Dialect::QuestDb => !has_backslash,
        };
        let is_cacheable = has_its_rule && !tokens.has_empty_tag;
        let head = bytes.get(start..tokens.head_end).filter(|_| is_cacheable);
        append(tokens, &mut names, head, self.received, database).map_err(|error| {
            // What is wrong with the line by itself comes first, wherever it stands.
            match check_names(tokens, &mut names) {
                Err(refusal) => refusal,
                Ok(()) => Refusal::Columns(error),
            }
        })
    }
}

/// Appends a line and returns how many of its fields were left out. `head` is what its series is
/// known by.
fn append(
    tokens: &Tokens,
    names: &mut Names<'_, '_>,
    head: Option<&[u8]>,
    received: Timestamp,
    database: &mut Database,
) -> Result<u64, AppendError> {
    let known = head.map(|head| (head, database.series(head)));
    let (table, known, unknown) = match known {
        Some((_, Ok((table, series)))) => (table, Some(series), None),
        other => {
            let unknown = other.and_then(|(head, known)| Some((head, known.err()?)));
            let measurement = names.plain(tokens.measurement, Place::Measurement);
            (database.table(measurement)?, None, unknown)
        }
    };
    let builder = database.table_mut(table);
    let row = append_row(tokens, names, known, builder);
    let time = tokens.time.unwrap_or(received);
    match row.and_then(|dropped| Ok((dropped, builder.commit_row(time)?))) {
        Ok((dropped, series)) => {
            if let Some((head, unknown)) = unknown {
                database.remember_series(head, unknown, table, series);
            }
            Ok(dropped)
        }
        Err(error) => {
            builder.rollback_row();
            Err(error)
        }
    }
}

/// Appends tags, unless their series is known, and fields.
fn append_row(
    tokens: &Tokens,
    names: &mut Names<'_, '_>,
    series: Option<SeriesIndex>,
    builder: &mut TableBuilder,
) -> Result<u64, AppendError> {
    if let Some(series) = series {
        builder.set_series(series);
    } else {
        for (name, value) in tokens.tags.iter().filter(|(_, value)| !value.is_empty()) {
            let (name, value) = names.tag(*name, *value);
            builder.append_tag(name, value)?;
        }
    }
    let (mut dropped, mut nulls) = (0, 0);
    for (name, value) in &tokens.fields {
        if names.dialect == Dialect::QuestDb && names.plain(*name, Place::Key) == TIME {
            return Err(AppendError::ReservedName { role: Role::Field });
        }
        match value {
            FieldValue::Null => {
                nulls += 1;
                continue;
            }
            FieldValue::Dropped => {
                dropped += 1;
                continue;
            }
            _ if names.plain(*name, Place::Key) == TIME => {
                dropped += 1;
                continue;
            }
            _ => {}
        }
        let column = builder.field(names.plain(*name, Place::Key))?;
        match *value {
            FieldValue::Bool(value) => builder.append_bool(column, value)?,
            FieldValue::I64(value) => builder.append_i64(column, value)?,
            FieldValue::U64(value) => builder.append_u64(column, value)?,
            FieldValue::F64(value) => builder.append_f64(column, value)?,
            FieldValue::String(span) => {
                builder.append_str(column, names.plain(span, Place::String))?;
            }
            FieldValue::Time(value) => builder.append_time(column, value)?,
            FieldValue::Dropped | FieldValue::Null => {}
        }
    }
    let has_tag = || tokens.tags.iter().any(|(_, value)| !value.is_empty());
    let may_be_tags = names.dialect == Dialect::QuestDb && has_tag();
    if dropped + nulls == tokens.fields.len() && !may_be_tags {
        return Err(AppendError::NoFields);
    }
    Ok(dropped as u64)
}
