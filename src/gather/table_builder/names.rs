//! Names to columns: here, in the registry, or new.

use std::hash::BuildHasher;

use super::{ColumnIndex, TableBuilder};
use crate::gather::AppendError;
use crate::gather::column_builder::{ColumnBuilder, Values, empty};
use crate::schema::{Role, TIME};

impl TableBuilder {
    #[inline]
    pub(super) fn column(&self, index: ColumnIndex) -> Option<&ColumnBuilder> {
        self.columns.get(index.as_usize())
    }

    pub(super) fn find(&self, name: &str) -> Option<ColumnIndex> {
        let hash = self.hasher.hash_one(name);
        let is_it = |index: &u32| {
            self.column(ColumnIndex(*index)).is_some_and(|column| &*column.name == name)
        };
        self.names.find(hash, is_it).copied().map(ColumnIndex)
    }

    /// The column of that name: here, in the registry, or a new one without kind.
    pub(super) fn find_or_add(
        &mut self,
        name: &str,
        role: Role,
    ) -> Result<ColumnIndex, AppendError> {
        if let Some(index) = self.find(name) {
            return Ok(index);
        }
        self.check_name(name, role)?;
        if let Some((slot, known)) = self.measurement.find(name) {
            let values = empty(known.kind, known.role);
            return Ok(self.add(ColumnBuilder::new(known.name, known.role, Some(slot), values)));
        }
        if self.measurement.is_closed() {
            return Err(AppendError::NotInSchema {
                measurement: (&*self.measurement.name).into(),
                column: name.into(),
            });
        }
        let max = self.registry.limits().columns_per_table_max;
        if self.columns.len() >= max {
            return Err(AppendError::TooManyColumns { max });
        }
        Ok(self.add(ColumnBuilder::new(name.into(), role, None, Values::Unset)))
    }

    pub(super) fn check_name(&self, name: &str, role: Role) -> Result<(), AppendError> {
        if name == TIME {
            return Err(AppendError::ReservedName { role });
        }
        if name.is_empty() {
            return Err(AppendError::EmptyName);
        }
        if name.len() > self.registry.limits().name_bytes_max {
            return Err(AppendError::NameTooLong { bytes: name.len() });
        }
        Ok(())
    }

    pub(super) fn add(&mut self, column: ColumnBuilder) -> ColumnIndex {
        let hash = self.hasher.hash_one(&*column.name);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "at most `limits.columns_per_table_max` columns"
        )]
        let index = self.columns.len() as u32;
        self.columns.push(column);
        let Self { columns, names, hasher, .. } = self;
        let name_of = |index: &u32| columns.get(*index as usize).map(|it| &*it.name);
        names.insert_unique(hash, index, |index| hasher.hash_one(name_of(index).unwrap_or("")));
        ColumnIndex(index)
    }

    /// Takes back the columns at the end that never got a value.
    pub(super) fn remove_unset(&mut self) {
        while let Some(last) = self.columns.last()
            && last.slot.is_none()
            && matches!(last.values, Values::Unset)
        {
            let hash = self.hasher.hash_one(&*last.name);
            let index = self.columns.len() - 1;
            if let Ok(entry) = self.names.find_entry(hash, |it| *it as usize == index) {
                entry.remove();
            }
            self.columns.pop();
        }
    }

    /// The field column of that name.
    ///
    /// # Errors
    /// `ReservedName` for `time`, `RoleConflict` when it is a tag, `EmptyName`, `NameTooLong`,
    /// `NotInSchema`, `TooManyColumns`.
    pub fn field(&mut self, name: &str) -> Result<ColumnIndex, AppendError> {
        let index = self.find_or_add(name, Role::Field)?;
        self.take_role(index, Role::Field)?;
        Ok(index)
    }

    /// The tag column of that name; its values go through [`Self::intern_tag`].
    ///
    /// # Errors
    /// As [`Self::field`]; `RoleConflict` when it is a field.
    pub fn tag(&mut self, name: &str) -> Result<ColumnIndex, AppendError> {
        let index = self.find_or_add(name, Role::Tag)?;
        self.take_role(index, Role::Tag)?;
        self.open_tag(index);
        Ok(index)
    }

    /// Gives a column without kind its role; checks that of the others.
    pub(super) fn take_role(&mut self, index: ColumnIndex, role: Role) -> Result<(), AppendError> {
        let Some(column) = self.columns.get_mut(index.as_usize()) else { return Ok(()) };
        if column.role == role {
            return Ok(());
        }
        if matches!(column.values, Values::Unset) && column.slot.is_none() {
            column.role = role;
            return Ok(());
        }
        Err(AppendError::RoleConflict {
            measurement: (&*self.measurement.name).into(),
            column: (&*column.name).into(),
            expected: column.role,
            found: role,
        })
    }

    pub(super) fn open_tag(&mut self, index: ColumnIndex) {
        if let Some(column) = self.columns.get_mut(index.as_usize())
            && matches!(column.values, Values::Unset)
        {
            column.values = Values::Tag(Box::default());
            self.pending.push(index);
        }
    }

    /// The role that a column has, here or on another shard; `None` for an unknown name.
    pub fn role_of(&mut self, name: &str) -> Option<Role> {
        match self.find(name).and_then(|index| self.column(index)) {
            Some(column) if column.kind().is_some() => Some(column.role),
            _ => self.measurement.find(name).map(|(_, column)| column.role),
        }
    }
}
