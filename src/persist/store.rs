//! The local directory that holds the tables: files appear whole, durable, together, or not at all.
//!
//! ```text
//! Staged::write    create .name.parquet.tmp -> encode -> fsync        (once per file)
//! Staged::publish  link name.parquet -> unlink .tmp -> fsync of each directory
//! ```
//!
//! A reader that lists `**/*.parquet` meets a file only under its final name, and a file gets that
//! name after its last byte was synced. `link` fails where a file exists, so nothing published is
//! ever overwritten. A failure anywhere takes back what the same [`Staged`] had done; what a crash
//! leaves behind are temporary names, which [`Store::open`] removes.
//!
//! A data directory has one owner at a time: its `lock` file is locked while the [`Store`] lives.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Cause, Operation, PersistError, layout};
use crate::disk::{self, Disk, DiskFile, Lock};

/// File in the data directory whose lock says that a server owns it.
pub const LOCK: &str = "lock";
/// End of a temporary name; such a name also begins with a dot.
const TEMPORARY: &str = ".tmp";
/// Directories remembered as durable; forgetting them only costs syncs.
const DURABLE_DIRECTORIES_MAX: usize = 1 << 16;

/// A data directory, open and owned.
#[derive(Debug)]
pub struct Store {
    disk: Arc<dyn Disk>,
    data_dir: PathBuf,
    /// Directories whose entry in their parent is known to be on disk.
    durable: Mutex<HashSet<PathBuf>>,
    /// Locked until it is dropped.
    _lock: Box<dyn Lock>,
}

impl Store {
    /// Opens `data_dir` on `disk`, creates it when missing, and removes what a crash left
    /// half-written.
    ///
    /// # Errors
    /// [`Operation::Lock`] when another process has it open; otherwise what the file system says.
    pub fn open(disk: Arc<dyn Disk>, data_dir: &Path) -> Result<Self, PersistError> {
        let tables = data_dir.join(layout::TABLES);
        disk::create_directories(disk.as_ref(), &tables)
            .map_err(at(Operation::CreateDirectory, &tables))?;
        let lock_file = data_dir.join(LOCK);
        let lock = disk.lock(&lock_file).map_err(at(Operation::Lock, &lock_file))?;
        let data_dir = data_dir.to_owned();
        let durable = Mutex::new(HashSet::from([tables.clone()]));
        let store = Self { disk, data_dir, durable, _lock: lock };
        store.remove_temporaries(&tables)?;
        store.sync_directory(&store.data_dir)?;
        Ok(store)
    }

    /// Where the files are.
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// The directory that paths of segments are relative to.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Begins a set of files that become visible together.
    pub fn stage(&self) -> Staged<'_> {
        Staged { store: self, files: Vec::new(), published: false }
    }

    /// Removes a database with all its files; one that does not exist is no error.
    ///
    /// # Errors
    /// What the file system says; some files may be gone then, and the call can be repeated.
    pub fn remove_database(&self, database: &str) -> Result<(), PersistError> {
        let directory = self.data_dir.join(layout::database_directory(database));
        self.forget_directories();
        match self.disk.remove_directory(&directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(at(Operation::Remove, &directory)(error))
            }
            _ => self.sync_directory(&self.data_dir.join(layout::TABLES)),
        }
    }

    /// Makes `directory`, which lies below `tables`, and makes its existence durable.
    fn create_directory(&self, directory: &Path) -> Result<(), PersistError> {
        if self.durable().contains(directory) {
            return Ok(());
        }
        let parent = directory.parent().unwrap_or(&self.data_dir);
        self.create_directory(parent)?;
        let created = match self.disk.create_directory(directory) {
            // Somebody removed the parent, or it was a file: what is known to exist does not.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.forget_directories();
                self.create_directory(parent)?;
                self.disk.create_directory(directory)
            }
            created => created,
        };
        match created {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(at(Operation::CreateDirectory, directory)(error));
            }
            // Also when it was there: whoever made it may have stopped before this sync.
            _ => self.sync_directory(parent)?,
        }
        if self.durable().len() >= DURABLE_DIRECTORIES_MAX {
            self.forget_directories();
        }
        self.durable().insert(directory.to_owned());
        Ok(())
    }

    /// Forgets which directories exist, all but `tables` itself.
    fn forget_directories(&self) {
        self.durable().retain(|path| path.parent() == Some(&self.data_dir));
    }

    /// Makes the names in the Delta log of a measurement durable, where there is one. Whoever takes
    /// a commit for made that another run or a failed try has left must see to that.
    ///
    /// # Errors
    /// What the file system says.
    pub fn sync_log(&self, database: &str, measurement: &str) -> Result<(), PersistError> {
        let log = layout::table_directory(database, measurement).join(layout::LOG);
        match self.sync_directory(&self.data_dir.join(log)) {
            Err(PersistError { cause: Cause::Io(error), .. })
                if error.kind() == io::ErrorKind::NotFound =>
            {
                Ok(())
            }
            synced => synced,
        }
    }

    /// Makes the entries of a directory durable.
    fn sync_directory(&self, directory: &Path) -> Result<(), PersistError> {
        self.disk.sync_directory(directory).map_err(at(Operation::Sync, directory))
    }

    /// Removes temporary files below `directory`. Links are not followed.
    fn remove_temporaries(&self, directory: &Path) -> Result<(), PersistError> {
        let mut pending = vec![directory.to_owned()];
        while let Some(directory) = pending.pop() {
            let entries = self.disk.list(&directory).map_err(at(Operation::List, &directory))?;
            for entry in entries {
                let path = directory.join(&entry.name);
                let name = entry.name.to_string_lossy();
                if entry.is_directory {
                    pending.push(path);
                } else if is_temporary(&name) {
                    self.disk.remove_file(&path).map_err(at(Operation::Remove, &path))?;
                }
            }
        }
        Ok(())
    }

    /// The set itself; a panic elsewhere cannot leave it half-changed.
    fn durable(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Files written under temporary names. Dropped before [`Staged::publish`] has succeeded, it takes
/// back everything it did.
#[derive(Debug)]
pub struct Staged<'a> {
    store: &'a Store,
    files: Vec<StagedFile>,
    published: bool,
}

/// What a file system says of a file that was written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Written {
    /// Its size.
    pub bytes: u64,
    /// When it was last written, in milliseconds since 1970-01-01 UTC.
    pub modified_ms: i64,
}

/// One file on its way.
#[derive(Debug)]
struct StagedFile {
    temporary: PathBuf,
    target: PathBuf,
    linked: bool,
}

impl Staged<'_> {
    /// Writes a file that will be at `path`, relative to the data directory: creates it under a
    /// temporary name, has `encode` write it, and syncs it.
    ///
    /// # Errors
    /// What the file system or `encode` says.
    pub fn write(
        &mut self,
        path: &Path,
        encode: impl FnOnce(&mut dyn DiskFile) -> Result<(), Cause>,
    ) -> Result<Written, PersistError> {
        let target = self.store.data_dir.join(path);
        let directory = target.parent().unwrap_or(&self.store.data_dir);
        self.store.create_directory(directory)?;
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let temporary = directory.join(format!(".{name}{TEMPORARY}"));
        let disk = self.store.disk.as_ref();
        let mut file = match disk.create(&temporary) {
            // Somebody removed the directory: a dropped database, or a user who cleans up.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.store.forget_directories();
                self.store.create_directory(directory)?;
                disk.create(&temporary)
            }
            result => result,
        }
        .map_err(at(Operation::Create, &temporary))?;
        self.files.push(StagedFile { temporary, target: target.clone(), linked: false });
        encode(file.as_mut()).map_err(|cause| PersistError {
            operation: Operation::Write,
            path: target.clone(),
            cause,
        })?;
        file.sync_all().map_err(at(Operation::Sync, &target))?;
        let written = file
            .modified_ms()
            .and_then(|modified_ms| Ok(Written { bytes: file.byte_count()?, modified_ms }));
        written.map_err(at(Operation::Sync, &target))
    }

    /// Makes all files visible under their names, durably.
    ///
    /// # Errors
    /// What the file system says, also when a target exists; then none of the files is visible.
    pub fn publish(mut self) -> Result<(), PersistError> {
        let disk = self.store.disk.as_ref();
        for file in &mut self.files {
            link(disk, &file.temporary, &file.target)
                .map_err(at(Operation::Publish, &file.target))?;
            file.linked = true;
        }
        for file in &self.files {
            remove(disk, &file.temporary).map_err(at(Operation::Remove, &file.temporary))?;
        }
        let directories: HashSet<_> =
            self.files.iter().filter_map(|file| file.target.parent()).collect();
        for directory in directories {
            self.store.sync_directory(directory)?;
        }
        self.published = true;
        Ok(())
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        if self.published {
            return;
        }
        // Best effort: the reason why this set failed is already on its way to the caller.
        for file in &self.files {
            if file.linked {
                remove(self.store.disk.as_ref(), &file.target).ok();
            }
            remove(self.store.disk.as_ref(), &file.temporary).ok();
        }
    }
}

/// Gives the file its name; fails where one exists, which a plain `rename` would replace.
fn link(disk: &dyn Disk, temporary: &Path, target: &Path) -> io::Result<()> {
    match disk.link(temporary, target) {
        // A file system without hard links. Names are unique and the directory is owned, so
        // nobody can create `target` between these two calls.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied
            ) =>
        {
            if disk.exists(target)? {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            disk.rename(temporary, target)
        }
        result => result,
    }
}

/// Whether a name is that of a file being written.
pub(super) fn is_temporary(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(TEMPORARY)
}

/// Removes a file that may be gone.
fn remove(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Turns an error of the file system into ours, for `map_err`.
pub(super) fn at(operation: Operation, path: &Path) -> impl FnOnce(io::Error) -> PersistError {
    let path = path.to_owned();
    move |error| PersistError { operation, path, cause: Cause::Io(error) }
}
