//! The walk over the items of a body, and what the keys of a map make of it.
//!
//! Arrays and batches are entered, not collected: their rows are appended one by one, so that those
//! before a break stay. The containers that are open are a stack of counters, at most
//! `limits.msgpack_depth_max` high.

use super::columnar::Scan;
use super::error::{Break, Excerpt, ItemError, Key};
use super::foreseen::Row;
use super::row::Memo;
use super::skip::Nesting;
use super::template::Templates;
use super::token::{Reader, Token};
use crate::decode::cursor::Body;
use crate::decode::runs::Runs;
use crate::decode::{Context, Reason, Rejection, Report};
use crate::gather::{AppendError, Database};

/// Why an item, or a row of one, was not taken.
pub(super) enum Stop {
    /// The body ends here.
    Malformed(Break),
    /// Its neighbours are not affected.
    Rejected(Reason),
}

impl From<Break> for Stop {
    fn from(broken: Break) -> Self {
        Self::Malformed(broken)
    }
}

impl From<ItemError> for Reason {
    fn from(error: ItemError) -> Self {
        Self::MessagePack(error)
    }
}

impl From<ItemError> for Stop {
    #[cold]
    fn from(error: ItemError) -> Self {
        Self::Rejected(error.into())
    }
}

impl From<AppendError> for Stop {
    #[cold]
    fn from(error: AppendError) -> Self {
        Self::Rejected(Reason::Append(error))
    }
}

/// Where the value of a key stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given {
    pub(super) key: Key,
    /// First byte of the value.
    pub(super) at: usize,
}

/// The keys that a row or a columnar item has.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) measurement: Option<Given>,
    pub(super) time: Option<Given>,
    pub(super) host: Option<Given>,
    pub(super) tags: Option<Given>,
    pub(super) fields: Option<Given>,
    pub(super) columns: Option<Given>,
    pub(super) tag_keys: Option<Given>,
}

impl Parts {
    fn slot(&mut self, key: Key) -> Option<&mut Option<Given>> {
        Some(match key {
            Key::M | Key::Measurement | Key::Name => &mut self.measurement,
            Key::T | Key::Time => &mut self.time,
            Key::H => &mut self.host,
            Key::Tags => &mut self.tags,
            Key::Fields | Key::F => &mut self.fields,
            Key::Columns => &mut self.columns,
            Key::TagKeys => &mut self.tag_keys,
            Key::Batch => return None,
        })
    }

    /// What a columnar item cannot have besides `columns`: it would be lost.
    fn beside_columns(&self) -> Option<Given> {
        self.fields.or(self.tags).or(self.host).or(self.time)
    }
}

/// What the keys of a map make of it.
enum Shape {
    /// A batch; the reader stands at the value of `batch`, behind which are so many pairs.
    Batch(usize),
    /// A row or a columnar item; the reader stands behind it. It may be one that is rejected.
    Item(Parts, Option<ItemError>),
}

/// A container whose items are being read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Open {
    /// An array, and the items left in it.
    Items(usize),
    /// A batch map, and the pairs left behind its `batch`.
    Rest(usize),
}

/// One body on its way into one database.
pub(super) struct Decoder<'a, 'd> {
    pub(super) body: Body<'a>,
    pub(super) context: &'d Context<'d>,
    pub(super) database: &'d mut Database,
    pub(super) report: &'d mut Report,
    /// Rows met, accepted or not.
    pub(super) row_count: u64,
    /// First byte of the item being read.
    pub(super) item_at: usize,
    open: Vec<Open>,
    pub(super) memo: Memo<'a>,
    pub(super) templates: Templates,
    /// Room for rows that were compared and not yet appended.
    pub(super) rows: Vec<Row>,
    pub(super) scan: Scan<'a>,
    pub(super) runs: Runs,
}

impl<'a, 'd> Decoder<'a, 'd> {
    pub(super) fn new(
        body: Body<'a>,
        context: &'d Context<'d>,
        database: &'d mut Database,
        report: &'d mut Report,
    ) -> Self {
        Self {
            body,
            context,
            database,
            report,
            row_count: 0,
            item_at: 0,
            open: Vec::new(),
            memo: Memo::default(),
            templates: Templates::default(),
            rows: Vec::new(),
            scan: Scan::default(),
            runs: Runs::default(),
        }
    }

    pub(super) fn reader(&self, at: usize) -> Reader<'a> {
        Reader::new(self.body.bytes(), at)
    }

    /// Counts `rows` rows as rejected for one reason, which is described once.
    #[cold]
    pub(super) fn reject(&mut self, start: usize, end: usize, rows: usize, reason: Reason) {
        let rejection = Rejection { line: self.row_count + 1, start, end, reason };
        self.report.reject(self.context.limits, rejection);
        let rows = u64::try_from(rows).unwrap_or(u64::MAX);
        self.report.rejected += rows - 1;
        self.row_count += rows;
    }

    /// Counts what stands from the current item on as one rejection: it cannot be read.
    #[cold]
    pub(super) fn broken(&mut self, broken: Break) {
        let end = self.body.bytes().len();
        self.reject(self.item_at, end, 1, ItemError::Malformed(broken).into());
    }

    /// Decodes the whole body.
    ///
    /// # Errors
    /// Where it stops being `MessagePack`; the rows before are in the columns.
    pub(super) fn items(&mut self) -> Result<(), Break> {
        let mut it = self.reader(0);
        loop {
            let most = match self.open.last_mut() {
                Some(Open::Items(0)) => {
                    self.open.pop();
                    continue;
                }
                Some(Open::Items(left)) => *left,
                Some(Open::Rest(pairs)) => {
                    let pairs = *pairs;
                    self.open.pop();
                    self.rest(&mut it, pairs)?;
                    continue;
                }
                None if it.is_at_end() => return Ok(()),
                None => usize::MAX,
            };
            let taken = if self.levels() < 2 { 0 } else { self.foreseen_rows(&mut it, most) };
            if let Some(Open::Items(left)) = self.open.last_mut() {
                *left -= taken.max(1);
            }
            if taken == 0 {
                self.item(&mut it)?;
            }
        }
    }

    /// Levels that a container which starts here may have, itself included.
    fn levels(&self) -> usize {
        self.context.limits.msgpack_depth_max.saturating_sub(self.open.len())
    }

    /// Decodes the item at `it`, or enters it, and moves behind what was decoded.
    fn item(&mut self, it: &mut Reader<'a>) -> Result<(), Break> {
        let start = it.at;
        self.item_at = start;
        let levels = self.levels();
        let token = it.token()?;
        match token {
            Token::Array(_) | Token::Map(_) if levels == 0 => {
                *it = self.reader(start);
                it.skip(levels)?;
                let max = self.context.limits.msgpack_depth_max;
                self.reject(start, it.at, 1, ItemError::TooDeep { max, at: start }.into());
                Ok(())
            }
            Token::Array(items) => {
                self.open.push(Open::Items(items));
                Ok(())
            }
            Token::Map(pairs) => self.map(it, start, pairs, levels),
            _ => {
                let error = ItemError::NotAnItem { found: token.found(), at: start };
                self.reject(start, it.at, 1, error.into());
                Ok(())
            }
        }
    }

    /// Decodes or enters the map from `start` on, whose first key is at `it`.
    fn map(
        &mut self,
        it: &mut Reader<'a>,
        start: usize,
        pairs: usize,
        levels: usize,
    ) -> Result<(), Break> {
        if let Some(end) = self.stream_row(start, *it, pairs, levels) {
            it.at = end;
            return Ok(());
        }
        match self.shape(it, start, pairs, levels)? {
            Shape::Batch(pairs) => self.batch(it, start, pairs, levels),
            Shape::Item(parts, error) => {
                let end = it.at;
                if parts.columns.is_some() {
                    return self.columnar(start, end, &parts, error);
                }
                let result = match error {
                    Some(error) => Err(error.into()),
                    None => self.row(start, &parts),
                };
                match result {
                    Ok(()) => Ok(()),
                    Err(Stop::Malformed(broken)) => Err(broken),
                    Err(Stop::Rejected(reason)) => {
                        self.reject(start, end, 1, reason);
                        Ok(())
                    }
                }
            }
        }
    }

    /// Finds out what a map is; the authority, whatever [`Self::stream_row`] could make of it.
    fn shape(
        &mut self,
        it: &mut Reader<'a>,
        start: usize,
        pairs: usize,
        levels: usize,
    ) -> Result<Shape, Break> {
        let max = self.context.limits.msgpack_depth_max;
        let mut parts = Parts::default();
        let mut error = None;
        for left in (0..pairs).rev() {
            let key_at = it.at;
            let mut nesting = it.skip(levels - 1)?;
            let key = self.reader(key_at).token().ok().and_then(|token| match token {
                Token::Str(name) | Token::Bin(name) => Key::from_bytes(name),
                _ => None,
            });
            let given = key.map(|key| Given { key, at: it.at });
            let slot = match given {
                Some(Given { key: Key::Batch, .. }) => return Ok(Shape::Batch(left)),
                Some(given) => parts.slot(given.key),
                None => None,
            };
            match (slot, given) {
                (Some(Some(first)), Some(Given { key: second, at })) => {
                    let conflict = ItemError::Conflict { first: first.key, second, at };
                    error = error.or(Some(conflict));
                }
                (Some(slot), given) => *slot = given,
                (None, _) => {}
            }
            let is_columns = matches!(given, Some(Given { key: Key::Columns, .. }));
            let value = if is_columns && parts.columns.map(|it| it.at) == Some(it.at) {
                self.scan.columns(it, self.context.limits, levels - 1)?
            } else {
                it.skip(levels - 1)?
            };
            if value == Nesting::TooDeep {
                nesting = value;
            }
            if nesting == Nesting::TooDeep {
                error = error.or(Some(ItemError::TooDeep { max, at: start }));
            }
        }
        if let (Some(columns), Some(beside)) = (parts.columns, parts.beside_columns()) {
            let conflict =
                ItemError::Conflict { first: columns.key, second: beside.key, at: beside.at };
            error = error.or(Some(conflict));
        }
        Ok(Shape::Item(parts, error))
    }

    /// Enters a batch whose array is at `it`.
    fn batch(
        &mut self,
        it: &mut Reader<'a>,
        start: usize,
        pairs: usize,
        levels: usize,
    ) -> Result<(), Break> {
        let at = it.at;
        let mut inner = *it;
        let token = inner.token()?;
        let error = match token {
            Token::Array(items) if levels > 1 => {
                *it = inner;
                self.open.push(Open::Rest(pairs));
                self.open.push(Open::Items(items));
                return Ok(());
            }
            Token::Array(_) => {
                ItemError::TooDeep { max: self.context.limits.msgpack_depth_max, at: start }
            }
            _ => ItemError::WrongValue { key: Key::Batch, found: token.found(), at },
        };
        it.skip_values(1 + 2 * pairs, levels)?;
        self.reject(start, it.at, 1, error.into());
        Ok(())
    }

    /// Moves behind the pairs that follow `batch` in its map; a second `batch` is entered too.
    fn rest(&mut self, it: &mut Reader<'a>, pairs: usize) -> Result<(), Break> {
        let start = it.at;
        let levels = self.levels();
        match self.shape(it, start, pairs, levels)? {
            Shape::Batch(pairs) => self.batch(it, start, pairs, levels),
            Shape::Item(..) => Ok(()),
        }
    }
}

/// `bytes` as text.
///
/// # Errors
/// [`ItemError::NotUtf8`], which names `name`.
#[inline]
pub(super) fn utf8<'a>(bytes: &'a [u8], name: &[u8], at: usize) -> Result<&'a str, ItemError> {
    std::str::from_utf8(bytes).map_err(|_| ItemError::NotUtf8 { name: Excerpt::new(name), at })
}

/// Reads the name of a column or tag, as it stands on the wire.
///
/// # Errors
/// Neither a string nor binary.
#[inline]
pub(super) fn name<'a>(it: &mut Reader<'a>) -> Result<&'a [u8], Stop> {
    let at = it.at;
    match it.token()? {
        Token::Str(name) | Token::Bin(name) => Ok(name),
        other => Err(ItemError::NameNotAString { found: other.found(), at }.into()),
    }
}
