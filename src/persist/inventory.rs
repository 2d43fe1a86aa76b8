//! What a data directory holds, found by listing it: for a start and for an inspection, never for
//! a reader, who has the Delta log.

use std::io;
use std::path::{Path, PathBuf};

use super::store::{at, is_temporary};
use super::{Operation, PersistError, Store, layout};
use crate::disk::Disk;

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

/// What lies below the directory of tables, by names alone.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Inventory {
    /// Files named as segments are.
    pub segments: Vec<FoundSegment>,
    /// Files whose writing was not finished, relative to the data directory.
    pub temporaries: Vec<PathBuf>,
}

impl Inventory {
    /// Lists `data_dir`, which need not be owned: what comes and goes meanwhile is in it or not.
    ///
    /// # Errors
    /// What the file system says.
    pub fn of(disk: &dyn Disk, data_dir: &Path) -> Result<Self, PersistError> {
        let mut inventory = Self::default();
        let mut pending = vec![PathBuf::from(layout::TABLES)];
        while let Some(parent) = pending.pop() {
            let directory = data_dir.join(&parent);
            let entries = match disk.list(&directory) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries.map_err(at(Operation::List, &directory))?,
            };
            for entry in entries {
                let path = parent.join(&entry.name);
                if entry.is_directory {
                    pending.push(path);
                    continue;
                }
                let name = entry.name.to_string_lossy();
                if is_temporary(&name) {
                    inventory.temporaries.push(path);
                } else if let Some(segment) = found(&path, &name) {
                    inventory.segments.push(segment);
                }
            }
        }
        inventory.segments.sort_by(|left, right| left.path.cmp(&right.path));
        inventory.temporaries.sort();
        Ok(inventory)
    }
}

/// The segment at `path`, relative to the data directory; `None` where none can be.
fn found(path: &Path, name: &str) -> Option<FoundSegment> {
    let (instance, sequence) = layout::parse_segment_name(name)?;
    let table = path.parent()?.parent()?;
    // tables/<database>/<measurement>
    (table.components().count() == 3).then(|| FoundSegment {
        path: path.to_owned(),
        table: table.to_owned(),
        instance: instance.to_owned(),
        sequence,
    })
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

    /// Takes its name from a segment whose rows are nowhere else: neither readers nor starts look
    /// at names that end in `.lost`.
    ///
    /// # Errors
    /// What the file system says.
    pub fn set_aside(&self, path: &Path) -> Result<(), PersistError> {
        let path = self.data_dir().join(path);
        let mut lost = path.clone().into_os_string();
        lost.push(".lost");
        self.disk().rename(&path, Path::new(&lost)).map_err(at(Operation::Remove, &path))
    }

    /// Directories in a directory; all paths are relative to the data directory.
    fn directories(&self, parent: &Path) -> Result<Vec<PathBuf>, PersistError> {
        let directory = self.data_dir().join(parent);
        let entries = self.disk().list(&directory).map_err(at(Operation::List, &directory))?;
        let directories = entries.into_iter().filter(|entry| entry.is_directory);
        Ok(directories.map(|entry| parent.join(entry.name)).collect())
    }
}
