//! Columnar items: `{m, columns: {name: [values]}, tag_keys: [names]}`.
//!
//! ```text
//! {m: "cpu", columns: {time: [t0, t1, t2], host: ["a", "b", "a"], usage: [0.5, nil, 0.7]}}
//!                      -> 3 rows; a nil is a row without this field
//! ```
//!
//! The item is read twice: a scan finds where each column's values start and of which classes they
//! are, then each column is converted in one run (`run`). When a value does not suit its column the
//! runs are undone and the item is taken row by row (`ragged`), which rejects the bad rows only.

use super::error::{Break, Excerpt, ItemError, Key};
use super::item::{Decoder, Given, Parts, Stop, utf8};
use super::skip::{Classes, Nesting};
use super::token::{Reader, Token};
use crate::gather::{AppendError, ColumnIndex};
use crate::limits::Limits;

/// One column of the item at hand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column<'a> {
    /// As on the wire; UTF-8.
    pub(super) name: &'a str,
    /// First byte of the next value to read.
    pub(super) at: usize,
    /// The classes of all values.
    pub(super) classes: Classes,
    /// The marker of all values, if it is one and of fixed width.
    pub(super) marker: Option<u8>,
    /// Whether `tag_keys` names it.
    pub(super) is_tag: bool,
    /// Where its values go, once known; and the row of the item that found it out.
    pub(super) index: Option<(ColumnIndex, usize)>,
}

/// What a scan of `columns` found.
#[derive(Debug, Default)]
pub(super) struct Scan<'a> {
    pub(super) columns: Vec<Column<'a>>,
    /// Values of the longest column.
    pub(super) rows: usize,
    /// Why the item is rejected as a whole.
    error: Option<ItemError>,
    tag_keys: Vec<&'a [u8]>,
}

impl<'a> Scan<'a> {
    /// Scans the value of `columns` at `it` and moves behind it.
    ///
    /// # Errors
    /// [`Break`]; what is wrong with the columns comes to light in [`Decoder::columnar`].
    pub(super) fn columns(
        &mut self,
        it: &mut Reader<'a>,
        limits: &Limits,
        levels: usize,
    ) -> Result<Nesting, Break> {
        self.columns.clear();
        self.rows = 0;
        self.error = None;
        let at = it.at;
        let mut inner = *it;
        let token = inner.token()?;
        let Token::Map(pairs) = token else {
            self.error =
                Some(ItemError::WrongValue { key: Key::Columns, found: token.found(), at });
            return it.skip(levels);
        };
        *it = inner;
        let mut nesting = if levels < 2 { Nesting::TooDeep } else { Nesting::Fits };
        let mut length = None;
        for _ in 0..pairs {
            if self.column(it, limits, levels, &mut length)? == Nesting::TooDeep {
                nesting = Nesting::TooDeep;
            }
        }
        if pairs == 0 {
            self.error = Some(ItemError::NoColumns { at });
        }
        Ok(nesting)
    }

    /// Scans one pair; `length` is the length of the columns before it.
    fn column(
        &mut self,
        it: &mut Reader<'a>,
        limits: &Limits,
        levels: usize,
        length: &mut Option<usize>,
    ) -> Result<Nesting, Break> {
        let key_at = it.at;
        let mut nesting = it.skip(levels.saturating_sub(1))?;
        let name = match column_name(it.moved(key_at)) {
            Ok(name) => name,
            Err(error) => {
                self.error = self.error.or(error);
                ""
            }
        };
        let at = it.at;
        let token = it.token()?;
        let Token::Array(count) = token else {
            let column = Excerpt::new(name.as_bytes());
            let error = ItemError::ColumnNotAnArray { column, found: token.found(), at };
            self.error = self.error.or(Some(error));
            *it = it.moved(at);
            return it.skip(levels.saturating_sub(1));
        };
        let first = it.at;
        let (classes, marker) = if let Some((classes, marker)) = it.skip_uniform(count) {
            (classes, Some(marker))
        } else {
            let (classes, inner) = it.skip_values(count, levels.saturating_sub(2))?;
            if inner == Nesting::TooDeep {
                nesting = inner;
            }
            (classes, None)
        };
        self.rows = self.rows.max(count);
        let expected = *length.get_or_insert(count);
        if count != expected {
            let column = Excerpt::new(name.as_bytes());
            let error = ItemError::UnequalColumns { column, expected, found: count, at };
            self.error = self.error.or(Some(error));
        }
        // `time` is not counted among the columns of a table; one more than may be is an error
        // later.
        if self.columns.len() <= limits.columns_per_table_max + 1 {
            let is_tag = false;
            self.columns.push(Column { name, at: first, classes, marker, is_tag, index: None });
        }
        Ok(nesting)
    }

    /// Marks the columns that the value of `tag_keys` at `it` names.
    fn tag_keys(&mut self, mut it: Reader<'a>) -> Result<(), Stop> {
        let wrong = |found, at| ItemError::WrongValue { key: Key::TagKeys, found, at };
        let at = it.at;
        let count = match it.token()? {
            Token::Array(count) => count,
            Token::Nil => 0,
            other => return Err(wrong(other.found(), at).into()),
        };
        self.tag_keys.clear();
        for _ in 0..count {
            let at = it.at;
            match it.token()? {
                Token::Str(name) | Token::Bin(name) => self.tag_keys.push(name),
                other => return Err(wrong(other.found(), at).into()),
            }
        }
        self.tag_keys.sort_unstable();
        for column in &mut self.columns {
            column.is_tag = self.tag_keys.binary_search(&column.name.as_bytes()).is_ok();
        }
        Ok(())
    }
}

/// The name at `it`; `None` in place of an error that does not matter.
fn column_name(mut it: Reader<'_>) -> Result<&str, Option<ItemError>> {
    let at = it.at;
    match it.token() {
        Ok(Token::Str(name) | Token::Bin(name)) => utf8(name, name, at).map_err(Some),
        Ok(other) => Err(Some(ItemError::NameNotAString { found: other.found(), at })),
        Err(_) => Err(None),
    }
}

impl Decoder<'_, '_> {
    /// Takes the columnar item from `start` to `end`, whose columns are in `self.scan`.
    ///
    /// # Errors
    /// [`Break`], which the scan would have found.
    pub(super) fn columnar(
        &mut self,
        start: usize,
        end: usize,
        parts: &Parts,
        error: Option<ItemError>,
    ) -> Result<(), Break> {
        let result = match error.or(self.scan.error) {
            Some(error) => Err(error.into()),
            None => self.columnar_rows(start, end, parts),
        };
        match result {
            Ok(()) => Ok(()),
            Err(Stop::Malformed(broken)) => Err(broken),
            Err(Stop::Rejected(reason)) => {
                self.reject(start, end, self.scan.rows.max(1), reason);
                Ok(())
            }
        }
    }

    fn columnar_rows(&mut self, start: usize, end: usize, parts: &Parts) -> Result<(), Stop> {
        let missing = ItemError::Missing { key: Key::M, at: start };
        let measurement: Given = parts.measurement.ok_or(missing)?;
        let max = self.context.limits.columns_per_table_max;
        if self.scan.columns.len() > max + 1 {
            return Err(AppendError::TooManyColumns { max }.into());
        }
        if let Some(given) = parts.tag_keys {
            let it = self.reader(given.at);
            self.scan.tag_keys(it)?;
        }
        if self.scan.rows == 0 {
            return Ok(());
        }
        let table = self.measurement(measurement)?;
        if self.run(table).is_some() {
            self.report.accepted += self.scan.rows as u64;
            self.row_count += self.scan.rows as u64;
            return Ok(());
        }
        self.database.table_mut(table).rollback_row();
        self.ragged(table, start, end)
    }
}
