//! Tags of the open row, and the order that a table's heads have them in.

use super::{ColumnIndex, TableBuilder};
use crate::gather::AppendError;
use crate::gather::column_builder::Values;
use crate::gather::key_shape::{KEY_WINDOW, Literal};
use crate::gather::series::TagKey;
use crate::schema::Role;

/// Tags of a head whose keys are foreseen.
const FORESEEN_MAX: usize = 64;

/// The tag that stood at some place of a head.
#[derive(Clone, Debug)]
struct Place {
    key: Literal,
    column: ColumnIndex,
    /// Its raw bytes, key and value, and what the value is in the dictionary; none at first.
    last: Option<(Vec<u8>, TagKey)>,
}

/// The tags that the last heads had, by their place.
#[derive(Debug, Default)]
pub(super) struct TagOrder(Vec<Option<Place>>);

impl TagOrder {
    fn get(&self, place: usize) -> Option<&Place> {
        self.0.get(place)?.as_ref()
    }

    /// Forgets what values are in their dictionaries, which start afresh.
    pub(super) fn forget_values(&mut self) {
        self.0.iter_mut().flatten().for_each(|place| place.last = None);
    }
}

impl TableBuilder {
    /// Appends the tag at `place` of a head, when `rest` begins with the bytes, key and value, that
    /// stood there last, and `ends` says of the bytes behind that the value ends there. Returns how
    /// many bytes the tag has.
    #[inline]
    pub fn repeat_tag(
        &mut self,
        place: usize,
        rest: &[u8],
        ends: impl Fn(&[u8]) -> bool,
    ) -> Option<usize> {
        let Place { column, last, .. } = self.tag_order.get(place)?;
        let (raw, key) = last.as_ref()?;
        let (column, key, len) = (*column, *key, raw.len());
        if !ends(rest.strip_prefix(&**raw)?) {
            return None;
        }
        self.push_tag(column, key).ok()?;
        Some(len)
    }

    /// The column and key length of the tag at `place` of a head, when its key is the one that
    /// stood there last.
    #[inline(always)]
    pub fn foresee_tag(
        &self,
        place: usize,
        window: &[u8; KEY_WINDOW],
    ) -> Option<(ColumnIndex, usize)> {
        let Place { key, column, .. } = self.tag_order.get(place)?;
        key.begins(window).then_some((*column, key.len()))
    }

    /// Takes note of the key of the tag at `place`, delimiter included, which led to `column`.
    pub fn learn_tag(&mut self, place: usize, raw_key: &[u8], column: ColumnIndex) {
        // Columns that no committed row has yet may be taken away.
        let is_kept = self.column(column).is_some_and(|it| it.slot.is_some());
        if !is_kept || place >= FORESEEN_MAX {
            return;
        }
        let order = &mut self.tag_order.0;
        order.resize(order.len().max(place + 1), None);
        if let Some(slot) = order.get_mut(place) {
            *slot = Literal::new(raw_key).map(|key| Place { key, column, last: None });
        }
    }

    /// Appends the tag at `place` of a head, whose key was foreseen. `raw` is its bytes, key and
    /// value, where they are what the head has whenever it means this value.
    ///
    /// # Errors
    /// `DuplicateColumn`, `RoleConflict`, `NameTooLong`, and those of [`Self::tag`].
    pub fn append_foreseen_tag(
        &mut self,
        place: usize,
        column: ColumnIndex,
        raw: Option<&[u8]>,
        value: &str,
    ) -> Result<(), AppendError> {
        self.check_tag(value)?;
        let key = self.put_tag(column, value)?;
        let at_place = self.tag_order.0.get_mut(place).and_then(Option::as_mut);
        if let (Some(at_place), Some(raw), Some(key)) = (at_place, raw, key) {
            let (bytes, last) = at_place.last.get_or_insert_with(|| (Vec::new(), key));
            bytes.clear();
            bytes.extend_from_slice(raw);
            *last = key;
        }
        Ok(())
    }

    /// Appends one tag to the open row, and returns its column.
    ///
    /// A name that is a string *field* already takes the value as that field's: nothing is lost,
    /// and a body that stated no roles (Telegraf's `outputs.arc`) may have come first.
    ///
    /// # Errors
    /// `DuplicateColumn`, `RoleConflict`, `NameTooLong`, and those of [`Self::tag`].
    pub fn append_tag(&mut self, name: &str, value: &str) -> Result<ColumnIndex, AppendError> {
        self.check_tag(value)?;
        let index = self.find_or_add(name, Role::Tag)?;
        self.put_tag(index, value)?;
        Ok(index)
    }

    fn check_tag(&self, value: &str) -> Result<(), AppendError> {
        let max = self.registry.limits().name_bytes_max;
        if value.len() > max {
            return Err(AppendError::NameTooLong { bytes: value.len() });
        }
        Ok(())
    }

    /// Returns the value's place in the dictionary, unless it went to a field.
    fn put_tag(&mut self, index: ColumnIndex, value: &str) -> Result<Option<TagKey>, AppendError> {
        let is_open_tag = self.column(index).is_some_and(|column| {
            column.role == Role::Tag && matches!(column.values, Values::Tag(_))
        });
        if !is_open_tag {
            let is_string_field = self.column(index).is_some_and(|column| {
                column.role == Role::Field && matches!(column.values, Values::String(_))
            });
            if is_string_field {
                self.has_tag_in_field = true;
                self.append_str(index, value)?;
                return Ok(None);
            }
            self.take_role(index, Role::Tag)?;
            self.open_tag(index);
        }
        let key = self.intern_tag(index, value);
        self.push_tag(index, key)?;
        Ok(Some(key))
    }

    /// Adds a tag to those of the open row, which are sorted by column; usually it is the last.
    #[inline]
    fn push_tag(&mut self, index: ColumnIndex, key: TagKey) -> Result<(), AppendError> {
        if self.row_tags.last().is_none_or(|(last, _)| *last < index) {
            self.row_tags.push((index, key));
            return Ok(());
        }
        self.insert_tag(index, key)
    }

    #[cold]
    fn insert_tag(&mut self, index: ColumnIndex, key: TagKey) -> Result<(), AppendError> {
        let place = self.row_tags.binary_search_by_key(&index, |(column, _)| *column);
        let Err(at) = place else {
            let column = self.column(index).map(|it| (&*it.name).into()).unwrap_or_default();
            return Err(AppendError::DuplicateColumn { column, role: Role::Tag });
        };
        self.row_tags.insert(at, (index, key));
        Ok(())
    }
}
