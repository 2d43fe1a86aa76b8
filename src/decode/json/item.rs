//! The walk over the items of a document, and what the keys of an object make of it.
//!
//! Arrays and batches are entered, not collected: their rows are appended one by one, so that those
//! before a break stay. The containers that are open are a stack of counters, at most
//! `limits.json_depth_max` high.

use super::columnar::Scan;
use super::error::{ItemError, Key};
use super::row::Memo;
use super::tape::{Document, Value};
use crate::decode::cursor::Body;
use crate::decode::runs::Runs;
use crate::decode::{Context, Reason, Rejection, Report};
use crate::gather::Database;

impl From<ItemError> for Reason {
    fn from(error: ItemError) -> Self {
        Self::Json(error)
    }
}

impl From<crate::gather::AppendError> for Reason {
    fn from(error: crate::gather::AppendError) -> Self {
        Self::Append(error)
    }
}

/// Where the value of a key stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given {
    pub(super) key: Key,
    /// The node of the value.
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
    #[inline(always)]
    fn slot(&mut self, key: Key) -> Option<&mut Option<Given>> {
        Some(match key {
            Key::M | Key::Measurement | Key::Name => &mut self.measurement,
            Key::T | Key::Time | Key::Timestamp => &mut self.time,
            Key::H => &mut self.host,
            Key::Tags => &mut self.tags,
            Key::Fields | Key::F => &mut self.fields,
            Key::Columns => &mut self.columns,
            Key::TagKeys => &mut self.tag_keys,
            Key::Batch | Key::Metrics => return None,
        })
    }

    /// What a columnar item cannot have besides `columns`: it would be lost.
    fn beside_columns(&self) -> Option<Given> {
        self.fields.or(self.tags).or(self.host).or(self.time)
    }
}

/// What the keys of an object make of it.
enum Shape {
    /// A batch: its rows are this value, behind which are so many pairs.
    Batch(Given, usize),
    /// A row or a columnar item. It may be one that is rejected.
    Item(Parts, Option<ItemError>),
}

/// A container whose items are being read.
#[derive(Clone, Copy, Debug)]
enum Open {
    /// An array, and the items left in it.
    Items(usize),
    /// A batch at node `at`, and the pairs left behind its rows.
    Rest { at: usize, pairs: usize },
}

/// One body on its way into one database.
pub(super) struct Decoder<'a, 'd> {
    pub(super) body: Body<'a>,
    pub(super) context: &'d Context<'d>,
    pub(super) database: &'d mut Database,
    pub(super) report: &'d mut Report,
    /// Rows met, accepted or not.
    pub(super) row_count: u64,
    open: Vec<Open>,
    /// Why the document at hand ends before its last item does, until an item was told so.
    broken: Option<ItemError>,
    pub(super) memo: Memo,
    pub(super) scan: Scan,
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
            open: Vec::new(),
            broken: None,
            memo: Memo::default(),
            scan: Scan::default(),
            runs: Runs::default(),
        }
    }

    /// Counts `rows` rows at `span` as rejected for one reason, which is described once.
    #[cold]
    pub(super) fn reject(&mut self, span: (usize, usize), rows: usize, reason: Reason) {
        let (start, end) = span;
        let rejection = Rejection { line: self.row_count + 1, start, end, reason };
        self.report.reject(self.context.limits, rejection);
        let rows = u64::try_from(rows).unwrap_or(u64::MAX);
        self.report.rejected += rows - 1;
        self.row_count += rows;
    }

    /// Rejects the item at node `at` for `error`, or because the document breaks in it. Returns the
    /// node behind it.
    #[cold]
    fn refuse(&mut self, document: &Document<'_>, at: usize, error: ItemError) -> usize {
        let broken = if document.is_open(at) { self.broken.take() } else { None };
        self.reject(document.span(at), 1, broken.unwrap_or(error).into());
        document.next(at)
    }

    /// Takes the items of a document that breaks for the reason `broken`, if it does.
    pub(super) fn items_before(&mut self, document: &Document<'_>, broken: Option<ItemError>) {
        self.broken = broken;
        self.items(document);
        if let Some(broken) = self.broken.take() {
            let ItemError::Malformed { at, .. } = broken else { return };
            self.reject((at, document.end.max(at)), 1, broken.into());
        }
    }

    /// Takes the items of a document.
    pub(super) fn items(&mut self, document: &Document<'_>) {
        let mut at = 0;
        self.open.clear();
        while at < document.nodes.len() {
            match self.open.last_mut() {
                Some(Open::Items(0)) => {
                    self.open.pop();
                    continue;
                }
                Some(Open::Items(left)) => *left -= 1,
                Some(Open::Rest { at: batch, pairs }) => {
                    let (batch, pairs) = (*batch, *pairs);
                    self.open.pop();
                    at = self.rest(document, batch, at, pairs);
                    continue;
                }
                None => {}
            }
            at = self.item(document, at);
        }
    }

    /// Levels that a container which starts here may have, itself included.
    pub(super) fn levels(&self) -> usize {
        self.context.limits.json_depth_max.saturating_sub(self.open.len())
    }

    pub(super) fn too_deep(&self, document: &Document<'_>, at: usize) -> ItemError {
        ItemError::TooDeep { max: self.context.limits.json_depth_max, at: document.byte(at) }
    }

    /// Decodes the item at node `at`, or enters it, and returns the node behind what was decoded.
    fn item(&mut self, document: &Document<'_>, at: usize) -> usize {
        match document.value(at) {
            Value::Array(_) | Value::Object(_) if self.levels() == 0 => {
                let error = self.too_deep(document, at);
                self.refuse(document, at, error)
            }
            Value::Array(items) => {
                self.enter(document, at, items);
                at + 1
            }
            Value::Object(pairs) => self.object(document, at, pairs),
            other => {
                let error = ItemError::NotAnItem { found: other.found(), at: document.byte(at) };
                self.refuse(document, at, error)
            }
        }
    }

    fn enter(&mut self, document: &Document<'_>, at: usize, items: usize) {
        let items = if document.is_open(at) { usize::MAX } else { items };
        self.open.push(Open::Items(items));
    }

    fn object(&mut self, document: &Document<'_>, at: usize, pairs: usize) -> usize {
        let pairs = if document.is_open(at) { usize::MAX } else { pairs };
        match shape(document, at + 1, pairs) {
            Shape::Batch(given, left) => self.batch(document, at, given, left),
            Shape::Item(_, error) if document.is_open(at) => {
                let missing = ItemError::Missing { key: Key::M, at: 0 };
                self.refuse(document, at, error.unwrap_or(missing))
            }
            Shape::Item(parts, error) if parts.columns.is_some() => {
                self.columnar(document, at, &parts, error);
                document.next(at)
            }
            Shape::Item(parts, error) => {
                let result = match error {
                    Some(error) => Err(error.into()),
                    None => self.row(document, at, &parts),
                };
                if let Err(reason) = result {
                    self.reject(document.span(at), 1, reason);
                }
                document.next(at)
            }
        }
    }

    /// Enters the batch at node `at` whose rows are `given`.
    fn batch(&mut self, document: &Document<'_>, at: usize, given: Given, left: usize) -> usize {
        let error = match document.value(given.at) {
            Value::Array(items) if self.levels() > 1 => {
                self.open.push(Open::Rest { at, pairs: left });
                self.enter(document, given.at, items);
                return given.at + 1;
            }
            Value::Array(_) => self.too_deep(document, given.at),
            other => {
                let at = document.byte(given.at);
                ItemError::WrongValue { key: given.key, found: other.found(), at }
            }
        };
        self.refuse(document, at, error)
    }

    /// Goes behind the pairs that follow the rows of the batch at node `batch`; further rows there
    /// are entered too.
    fn rest(&mut self, document: &Document<'_>, batch: usize, at: usize, pairs: usize) -> usize {
        match shape(document, at, pairs) {
            Shape::Batch(given, left) => self.batch(document, batch, given, left),
            Shape::Item(..) => document.next(batch),
        }
    }
}

/// Finds out what the object is whose first key is node `at`; the authority.
#[inline(always)]
fn shape(document: &Document<'_>, mut at: usize, pairs: usize) -> Shape {
    let mut parts = Parts::default();
    let mut error = None;
    let mut left = pairs;
    while left > 0 && at + 1 < document.nodes.len() {
        left -= 1;
        let key = document.key(at).ok().and_then(Key::from_name);
        at += 1;
        if let Some(key) = key {
            let given = Given { key, at };
            match parts.slot(key) {
                None => return Shape::Batch(given, left),
                Some(Some(first)) => {
                    error = error.or_else(|| Some(conflict(document, *first, given)));
                }
                Some(slot) => *slot = Some(given),
            }
        }
        at = document.next(at);
    }
    if let (Some(columns), Some(beside)) = (parts.columns, parts.beside_columns()) {
        error = error.or_else(|| Some(conflict(document, columns, beside)));
    }
    Shape::Item(parts, error)
}

#[cold]
fn conflict(document: &Document<'_>, first: Given, second: Given) -> ItemError {
    let at = document.byte(second.at);
    ItemError::Conflict { first: first.key, second: second.key, at }
}
