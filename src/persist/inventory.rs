//! What a data directory holds, found by listing it: for a start and for an inspection, never for
//! a reader, who has the Delta log.

use std::path::{Path, PathBuf};

use super::store::at;
use super::{Operation, PersistError, Store, layout};

/// A Parquet file that was written by an instance of ours.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FoundSegment {
    /// Relative to the data directory.
    pub path: PathBuf,
    /// The table's directory, relative to the data directory.
    pub table: PathBuf,
    /// The first 8 hex digits of the instance.
    pub instance: String,
    /// The sequence in its name.
    pub sequence: u64,
}

impl Store {
    /// Names of the databases that have a directory, sorted. One whose name is too long for that
    /// is left out: only its files tell it.
    ///
    /// # Errors
    /// What the file system says.
    pub fn databases(&self) -> Result<Vec<String>, PersistError> {
        let directories = self.directories(Path::new(layout::TABLES))?;
        let name_of = |path: &PathBuf| layout::decode_name(path.file_name()?.to_str()?);
        let mut names: Vec<String> = directories.iter().filter_map(name_of).collect();
        names.sort();
        Ok(names)
    }

    /// All segments, in no order; files of other names are not among them.
    ///
    /// # Errors
    /// What the file system says.
    pub fn segments(&self) -> Result<Vec<FoundSegment>, PersistError> {
        let mut segments = Vec::new();
        for database in self.directories(Path::new(layout::TABLES))? {
            for table in self.directories(&database)? {
                for date in self.directories(&table)? {
                    self.segments_in(&date, &table, &mut segments)?;
                }
            }
        }
        Ok(segments)
    }

    fn segments_in(
        &self,
        date: &Path,
        table: &Path,
        segments: &mut Vec<FoundSegment>,
    ) -> Result<(), PersistError> {
        let directory = self.data_dir().join(date);
        for entry in self.disk().list(&directory).map_err(at(Operation::List, &directory))? {
            let parsed = entry.name.to_str().and_then(layout::parse_segment_name);
            let Some((instance, sequence)) = parsed else { continue };
            segments.push(FoundSegment {
                path: date.join(&entry.name),
                table: table.to_owned(),
                instance: instance.to_owned(),
                sequence,
            });
        }
        Ok(())
    }

    /// Removes a segment that no reader may know.
    ///
    /// # Errors
    /// What the file system says.
    pub fn remove_segment(&self, path: &Path) -> Result<(), PersistError> {
        let path = self.data_dir().join(path);
        self.disk().remove_file(&path).map_err(at(Operation::Remove, &path))
    }

    /// Directories in a directory; all paths are relative to the data directory.
    fn directories(&self, parent: &Path) -> Result<Vec<PathBuf>, PersistError> {
        let directory = self.data_dir().join(parent);
        let entries = self.disk().list(&directory).map_err(at(Operation::List, &directory))?;
        let directories = entries.into_iter().filter(|entry| entry.is_directory);
        Ok(directories.map(|entry| parent.join(entry.name)).collect())
    }
}
