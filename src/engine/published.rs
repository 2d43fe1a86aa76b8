//! What tables name of files and records, and the files that none of them names.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::instance::Instance;
use super::publisher::{committed, with_sources};
use crate::error::ServerError;
use crate::persist::{Footer, Store, layout};
use crate::publish::{Catalog, TableState};

/// The last sequences that tables name.
#[derive(Debug, Default)]
pub(super) struct Committed {
    /// Of files, for each directory of a table.
    segments: HashMap<PathBuf, u64>,
    /// Of the journal. It can be beyond the journal's own last one: without syncs, a power cut
    /// takes records that are published.
    pub(super) journal: u64,
}

impl Committed {
    pub(super) fn of(
        catalog: &Catalog,
        instance: &Instance,
        tables: &[TableState],
    ) -> Result<Self, ServerError> {
        let mut last = Self::default();
        for TableState { database, measurement, .. } in tables {
            let of = |application: &str| committed(catalog, database, measurement, application);
            let directory = layout::table_directory(database, measurement);
            last.segments.insert(directory, of(&instance.segments())?);
            last.journal = last.journal.max(of(&instance.journal())?);
        }
        Ok(last)
    }
}

/// Files that no Delta log knows.
#[derive(Debug)]
pub(super) struct Others<'a> {
    pub(super) store: &'a Store,
    pub(super) instance: &'a Instance,
    /// The last record that the journal has let go of.
    pub(super) released: u64,
}

impl Others<'_> {
    /// Removes files that no Delta log ever knew: they were written when a run ended, and their
    /// rows are still in the journal. Returns the first sequence that names no file.
    ///
    /// # Errors
    /// `Recovery`, where they are not: the file was published, and what said so is lost. Nothing
    /// but it has the rows.
    pub(super) fn remove(
        &self,
        committed: &Committed,
        is_salvage: bool,
    ) -> Result<u64, ServerError> {
        let mut last = committed.segments.values().copied().max().unwrap_or_default();
        let ours = self.instance.short();
        for segment in self.store.segments()?.into_iter().filter(|it| it.instance == ours) {
            last = last.max(segment.sequence);
            let upto = committed.segments.get(&segment.table).copied().unwrap_or_default();
            if segment.sequence <= upto {
                continue;
            }
            let file = segment.path.display();
            match self.is_replayed(&segment.path) {
                Ok(()) => {
                    tracing::info!(%file, "removed: it was never published");
                    self.store.remove_segment(&segment.path)?;
                }
                Err(cause) if is_salvage => {
                    tracing::error!(%file, %cause, "rows are lost: the file is set aside");
                    self.store.set_aside(&segment.path)?;
                }
                Err(cause) => {
                    let cause = format!(
                        "{file} is not in the log of its table, and {cause}: the commit that \
                         named it was damaged or removed; see the table's _torn"
                    );
                    return Err(ServerError::Recovery { cause: cause.into() });
                }
            }
        }
        Ok(last + 1)
    }

    /// That the journal has all rows of a file.
    fn is_replayed(&self, path: &Path) -> Result<(), String> {
        let path = self.store.data_dir().join(path);
        let footer = Footer::read(self.store.disk().as_ref(), &path);
        let since = footer.map_err(|error| with_sources(&error))?.journal.unwrap_or_default();
        if since > self.released {
            return Ok(());
        }
        Err(format!("the journal has let go of its rows, with all up to record {}", self.released))
    }
}
