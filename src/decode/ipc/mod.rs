//! Arrow IPC to columns: a stream of record batches, whose buffers move where they can.
//!
//! A body is one stream or several, one behind the other (`schemas/wire/arrow.md`); all their rows
//! are of one measurement, or of one for each stream.
//!
//! | rows of a batch                           | how they are taken                               |
//! |-------------------------------------------|--------------------------------------------------|
//! | [`WHOLE_ROWS_MIN`] or more, all suitable  | `whole`: their arrays become a chunk             |
//! | all suitable                              | `run`: columns are copied into the open chunk    |
//! | others                                    | `rows`: one by one; a bad one is rejected alone  |
//!
//! All three give the same rows. A body from which arrays were taken is shared with the chunk and
//! lives until the chunk is written.
//!
//! A stream that is broken, or has a type that cannot be taken, loses what stands behind; rows
//! before it stay.
//!
//! Invariants:
//! - every length, offset, key and view is checked before it is used, and nothing is allocated from
//!   a declared length alone;
//! - what is decompressed, converted and expanded is at most `limits.inflated_bytes_max` in all.
//!
//! Not here: what a column takes (`gather`), what an answer looks like (`accept`).

mod arrays;

mod error;

mod fields;

mod message;

mod rows;

mod run;

mod text;

mod times;

mod values;

mod whole;

use std::collections::HashMap;
use std::ops::Range;

use arrow_array::{Array, StringArray};
use arrow_buffer::Buffer;

use self::arrays::{Arrays, Broken};
pub use self::error::{Fault, StreamError};
use self::fields::{Layout, Purpose, Schema};
use self::message::{Message, Messages, Next};
use self::values::{Allowance, Values};
use super::{Context, Reason, Rejection, Report};
use crate::gather::{Database, TableIndex};

/// Rows from which on a batch becomes a chunk of its own: a smaller one is cheaper to copy than to
/// carry as a chunk (perf/LOG.md).
pub const WHOLE_ROWS_MIN: usize = 8 << 10;

/// What a request says about a stream, besides its bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Parameters<'a> {
    /// The measurement; else the metadata of the schema have to name it.
    pub measurement: Option<&'a str>,
    /// The column of times; else `time`.
    pub time: Option<&'a str>,
    /// Names of tags, commas between them.
    pub tags: &'a str,
}

impl<'a> Parameters<'a> {
    fn tag_names(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.tags.split(',').filter(|name| !name.is_empty())
    }
}

/// Decodes a body and appends its rows to `database`. Arrays may go on to use the bytes of `body`;
/// whoever wants them back asks whether the buffer is still shared.
///
/// Bare integers in the column of times have the precision of `context`; `Auto` is the unit that
/// their magnitude says, as in `MessagePack`. Rows that were not taken are in `report`, in order.
pub fn decode(
    body: &Buffer,
    parameters: &Parameters<'_>,
    context: &Context<'_>,
    database: &mut Database,
    report: &mut Report,
) {
    let allowance = Allowance::new(context.limits.inflated_bytes_max);
    let messages = Messages::new(body);
    let mut decoder = Decoder {
        body,
        parameters,
        context,
        database,
        report,
        allowance,
        row_count: 0,
        dictionaries: HashMap::new(),
        schema: None,
        is_body_counted: false,
        place: 0..0,
    };
    decoder.run_all(messages);
}

/// A body being decoded.
#[derive(Debug)]
struct Decoder<'a, 'd> {
    body: &'a Buffer,
    parameters: &'a Parameters<'a>,
    context: &'a Context<'a>,
    database: &'d mut Database,
    report: &'d mut Report,
    allowance: Allowance,
    /// Rows met, accepted or not.
    row_count: u64,
    dictionaries: HashMap<i64, StringArray>,
    /// That of the open stream.
    schema: Option<Schema>,
    /// Whether a chunk is accounted for the bytes of the body.
    is_body_counted: bool,
    /// Where the message at hand stands.
    place: Range<usize>,
}

/// Rows of one batch.
#[derive(Clone, Debug)]
struct Batch {
    rows: usize,
    /// In the order of the schema.
    columns: Vec<Values>,
}

impl Batch {
    fn slice(&self, start: usize, rows: usize) -> Self {
        let columns = self.columns.iter().map(|values| values.slice(start, rows)).collect();
        Self { rows, columns }
    }
}

/// The kind of a message in words.
fn kind_of(message: &Message<'_>) -> &'static str {
    let head = message.head;
    if head.header_as_schema().is_some() {
        "a schema"
    } else if head.header_as_record_batch().is_some() {
        "a record batch"
    } else if head.header_as_dictionary_batch().is_some() {
        "a dictionary"
    } else {
        "another message"
    }
}

impl Decoder<'_, '_> {
    fn run_all(&mut self, mut messages: Messages<'_>) {
        loop {
            let start = messages.at;
            let next = messages.next();
            let end = messages.at;
            self.place = start..end;
            let result = match next {
                Ok(Next::EndOfBody) => return,
                Ok(Next::EndOfStream) => {
                    self.schema = None;
                    Ok(())
                }
                Ok(Next::Message(message)) => self.message(&message),
                Err(error) => Err(error),
            };
            if let Err(error) = result {
                let reason = Reason::Arrow(error);
                let rejection = Rejection { line: messages.count.max(1), start, end, reason };
                self.report.reject(self.context.limits, rejection);
                return;
            }
        }
    }

    fn message(&mut self, message: &Message<'_>) -> Result<(), StreamError> {
        let limits = self.context.limits;
        let Some(schema) = self.schema.take() else {
            let unexpected =
                || StreamError::Unexpected { expected: "a schema", found: kind_of(message) };
            let schema = message.head.header_as_schema().ok_or_else(unexpected)?;
            self.schema = Some(Schema::new(schema, self.parameters, limits)?);
            self.dictionaries.clear();
            return Ok(());
        };
        if let Some(batch) = message.head.header_as_record_batch() {
            let arrays = Arrays::new(self.body, message, batch, &mut self.allowance, limits)?;
            let batch = read(arrays, &schema, &self.dictionaries)?;
            self.batch(&schema, &batch)?;
        } else if let Some(batch) = message.head.header_as_dictionary_batch() {
            self.dictionary(message, batch, &schema)?;
        } else {
            let expected = "a record batch or a dictionary";
            return Err(StreamError::Unexpected { expected, found: kind_of(message) });
        }
        self.schema = Some(schema);
        Ok(())
    }

    /// Takes a dictionary, or what is added to one.
    fn dictionary(
        &mut self,
        message: &Message<'_>,
        batch: arrow_ipc::DictionaryBatch<'_>,
        schema: &Schema,
    ) -> Result<(), StreamError> {
        let id = batch.id();
        let text = schema.dictionaries.iter().find(|(known, _)| *known == id);
        let (_, text) = text.ok_or(StreamError::Dictionary { id })?;
        let data = batch.data().ok_or(StreamError::Metadata)?;
        let limits = self.context.limits;
        let mut arrays = Arrays::new(self.body, message, data, &mut self.allowance, limits)?;
        let rows = arrays.rows;
        let values = arrays.column(Layout::Text(*text), &self.dictionaries);
        let name = || {
            let is_it =
                |layout: Layout| matches!(layout, Layout::Dictionary { id: it, .. } if it == id);
            let column = schema.columns.iter().find(|column| is_it(column.layout));
            column.map_or("", |column| &*column.name)
        };
        let values = match values.map_err(|broken| named(broken, name()))? {
            Values::Text(values) => values,
            // Nothing but nulls: at most as many as there are bits of them in the message.
            _ => StringArray::new_null(rows),
        };
        let values = match self.dictionaries.get(&id) {
            Some(known) if batch.isDelta() => joined(known, &values, &mut self.allowance)?,
            _ => values,
        };
        self.dictionaries.insert(id, values);
        Ok(())
    }

    /// Takes the rows of a batch.
    fn batch(&mut self, schema: &Schema, batch: &Batch) -> Result<(), StreamError> {
        if batch.rows == 0 {
            return Ok(());
        }
        let is_time = |purpose: Purpose| purpose == Purpose::Time;
        let times = schema.columns.iter().zip(&batch.columns).find(|(it, _)| is_time(it.purpose));
        if times.is_none_or(|(_, values)| matches!(values, Values::Null)) {
            // Rows that take no bytes of the body could be any number.
            self.allowance.take(batch.rows, size_of::<i64>())?;
        }
        match self.database.table(&schema.measurement) {
            Ok(table) => self.take(schema, table, batch, true),
            Err(error) => {
                for row in 0..batch.rows {
                    self.reject(schema, batch, row, Reason::Append(error.clone()));
                }
                Ok(())
            }
        }
    }

    /// Takes rows in the cheapest way that they suit; many are tried again in parts, so that a bad
    /// one costs only its neighbours time.
    fn take(
        &mut self,
        schema: &Schema,
        table: TableIndex,
        batch: &Batch,
        is_all: bool,
    ) -> Result<(), StreamError> {
        let before = self.allowance;
        let rows_max = self.context.limits.rows_per_chunk.max(1);
        let is_long = is_all && batch.rows > rows_max;
        let is_taken = (batch.rows >= WHOLE_ROWS_MIN && self.whole(schema, table, batch).is_some())
            || {
                self.undo(table, before);
                !is_long && self.run(schema, table, batch).is_some()
            };
        if is_taken {
            self.row_count += batch.rows as u64;
            self.report.accepted += batch.rows as u64;
            return Ok(());
        }
        self.undo(table, before);
        if !is_long {
            return self.rows(schema, table, batch);
        }
        for start in (0..batch.rows).step_by(rows_max) {
            let part = batch.slice(start, rows_max.min(batch.rows - start));
            self.take(schema, table, &part, false)?;
        }
        Ok(())
    }

    /// Takes back what an attempt appended and counted.
    fn undo(&mut self, table: TableIndex, before: Allowance) {
        self.database.table_mut(table).rollback_row();
        self.allowance = before;
    }

    /// Counts a row that is not taken, and keeps it in words while there is room.
    #[cold]
    fn reject(&mut self, schema: &Schema, batch: &Batch, row: usize, reason: Reason) {
        self.row_count += 1;
        if self.report.rejections.len() < self.context.limits.reported_errors_max {
            self.report.texts.push(text::of_row(schema, batch, row));
        }
        let Range { start, end } = self.place;
        let rejection = Rejection { line: self.row_count, start, end, reason };
        self.report.reject(self.context.limits, rejection);
    }
}

/// A dictionary and what is added to it. That is a copy of both.
fn joined(
    known: &StringArray,
    more: &StringArray,
    allowance: &mut Allowance,
) -> Result<StringArray, StreamError> {
    allowance.take(known.value_data().len() + more.value_data().len(), 1)?;
    allowance.take(known.len() + more.len(), size_of::<i32>())?;
    Ok(known.iter().chain(more.iter()).collect())
}

/// Reads all columns of a batch.
fn read(
    mut arrays: Arrays<'_>,
    schema: &Schema,
    dictionaries: &HashMap<i64, StringArray>,
) -> Result<Batch, StreamError> {
    let rows = arrays.rows;
    let columns = schema.columns.iter().map(|column| {
        let values = arrays.column(column.layout, dictionaries);
        values.map_err(|broken| named(broken, &column.name))
    });
    Ok(Batch { rows, columns: columns.collect::<Result<_, _>>()? })
}

/// What is wrong with a column, with its name.
fn named(broken: Broken, column: &str) -> StreamError {
    match broken {
        Broken::Fault(fault) => StreamError::Column { column: column.into(), fault },
        Broken::Stream(error) => error,
    }
}
