//! Tags of the open row, and the order that a table's heads have them in.

use super::{ColumnIndex, TableBuilder};
use crate::gather::AppendError;
use crate::gather::column_builder::Values;
use crate::gather::key_shape::{KEY_WINDOW, Literal};
use crate::schema::Role;

/// Tags of a head whose keys are foreseen.
const FORESEEN_MAX: usize = 64;

/// The keys that the last heads had, by their place.
#[derive(Debug, Default)]
pub(super) struct TagOrder(Vec<Option<(Literal, ColumnIndex)>>);

impl TableBuilder {
    /// The column and key length of the tag at `place` of a head, when its key is the one that
    /// stood there last.
    #[inline(always)]
    pub fn foresee_tag(
        &self,
        place: usize,
        window: &[u8; KEY_WINDOW],
    ) -> Option<(ColumnIndex, usize)> {
        let (key, column) = self.tag_order.0.get(place)?.as_ref()?;
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
            *slot = Literal::new(raw_key).map(|key| (key, column));
        }
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

    /// As [`Self::append_tag`], to a column that a tag led to before.
    ///
    /// # Errors
    /// As [`Self::append_tag`].
    pub fn append_tag_to(&mut self, index: ColumnIndex, value: &str) -> Result<(), AppendError> {
        self.check_tag(value)?;
        self.put_tag(index, value)
    }

    fn check_tag(&self, value: &str) -> Result<(), AppendError> {
        let max = self.registry.limits().name_bytes_max;
        if value.len() > max {
            return Err(AppendError::NameTooLong { bytes: value.len() });
        }
        Ok(())
    }

    fn put_tag(&mut self, index: ColumnIndex, value: &str) -> Result<(), AppendError> {
        let is_string_field = self.column(index).is_some_and(|column| {
            column.role == Role::Field && matches!(column.values, Values::String(_))
        });
        if is_string_field {
            self.has_tag_in_field = true;
            return self.append_str(index, value);
        }
        self.take_role(index, Role::Tag)?;
        if self.row_tags.iter().any(|(column, _)| *column == index) {
            let column = self.column(index).map(|it| (&*it.name).into()).unwrap_or_default();
            return Err(AppendError::DuplicateColumn { column, role: Role::Tag });
        }
        self.open_tag(index);
        let key = self.intern_tag(index, value);
        self.row_tags.push((index, key));
        Ok(())
    }
}
