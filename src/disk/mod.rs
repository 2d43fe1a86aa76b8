//! The operations of a file system that keep data, behind a trait.
//!
//! `journal` and `persist` do nothing to a disk but by these, so that tests can cut the power
//! between any two of them. What each promises is what POSIX promises and no more:
//!
//! - bytes written survive a power cut after [`DiskFile::sync_data`], before it in any part;
//! - a name survives after [`Disk::sync_directory`] of the directory that holds it, before it
//!   perhaps: syncing a file does not sync its name;
//! - a rename is atomic: after a power cut it happened or it did not.
//!
//! A sync that failed is final. The kernel may have thrown the bytes away and report success the
//! next time, so that nobody may sync the same open file again.

mod block_file;

mod stamp;

use std::ffi::OsString;
use std::fmt::Debug;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
#[cfg(target_os = "linux")]
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::UNIX_EPOCH;

pub use self::block_file::BlockFile;
pub use self::stamp::Stamp;

/// A place for files. All paths are as the caller has them; nothing is cached.
pub trait Disk: Debug + Send + Sync {
    /// Opens a file to read and write; makes it, or empties the one that is there.
    ///
    /// # Errors
    /// What the file system says, as for all operations of this trait.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a file that exists, to read and write.
    ///
    /// # Errors
    /// What the file system says.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a file that exists, to write it front to back with a sync after every few writes:
    /// past the page cache where that is possible. What is written is in the file after a flush or
    /// a sync; see [`BlockFile`] for what it does to the bytes behind.
    ///
    /// # Errors
    /// What the file system says.
    fn open_synced(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Makes one directory.
    ///
    /// # Errors
    /// `AlreadyExists` where there is one; otherwise what the file system says.
    fn create_directory(&self, path: &Path) -> io::Result<()>;

    /// The entries of a directory, in no order. Links are not followed.
    ///
    /// # Errors
    /// What the file system says.
    fn list(&self, directory: &Path) -> io::Result<Vec<DirectoryEntry>>;

    /// Whether something has this name.
    ///
    /// # Errors
    /// What the file system says.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// Gives a file another name, and replaces what had it.
    ///
    /// # Errors
    /// What the file system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives a file a second name.
    ///
    /// # Errors
    /// `AlreadyExists` where something has it; otherwise what the file system says.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// What the file system says.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory with all that is in it.
    ///
    /// # Errors
    /// What the file system says; a part may be gone then.
    fn remove_directory(&self, path: &Path) -> io::Result<()>;

    /// Makes the entries of a directory durable.
    ///
    /// # Errors
    /// What the file system says.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;

    /// Owns `path`, which is made when missing, until what is returned is dropped or the process
    /// ends.
    ///
    /// # Errors
    /// `ResourceBusy` where another process owns it; otherwise what the file system says.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>>;
}

/// An open file with a position. It is closed when it is dropped.
pub trait DiskFile: Read + Write + Seek + Debug + Send {
    /// Makes the bytes durable, and the size where it grew.
    ///
    /// # Errors
    /// What the file system says; then what was written since the last success is lost or not.
    fn sync_data(&mut self) -> io::Result<()>;

    /// [`DiskFile::sync_data`], with all metadata.
    ///
    /// # Errors
    /// As [`DiskFile::sync_data`].
    fn sync_all(&mut self) -> io::Result<()>;

    /// Size of the file.
    ///
    /// # Errors
    /// What the file system says.
    fn byte_count(&self) -> io::Result<u64>;

    /// When the file was last written, in milliseconds since 1970-01-01 UTC.
    ///
    /// # Errors
    /// What the file system says.
    fn modified_ms(&self) -> io::Result<i64>;
}

/// What is held while a path is locked.
pub trait Lock: Debug + Send + Sync {}

/// An entry of a directory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DirectoryEntry {
    /// Its name, without the directory.
    pub name: OsString,
    /// Whether it is a directory itself.
    pub is_directory: bool,
}

/// Makes a directory and its parents where they are missing; their names are not durable yet.
///
/// # Errors
/// What the file system says.
pub fn create_directories(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.create_directory(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let Some(parent) = path.parent() else { return Err(error) };
            create_directories(disk, parent)?;
            disk.create_directory(path)
        }
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Whether an error says that the disk, or the quota, is full: the one cause that passes by itself.
pub fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), FileTooLarge | QuotaExceeded | StorageFull)
}

/// The file system of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalDisk;

impl Disk for LocalDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
        Ok(Box::new(file))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(File::options().read(true).write(true).open(path)?))
    }

    /// The page cache costs a copy, and more in the kernel: 128 KiB written and synced cost half
    /// the time without it. Some file systems know no other way, and say so here.
    #[cfg(target_os = "linux")]
    fn open_synced(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut options = File::options();
        options.read(true).write(true).custom_flags(libc::O_DIRECT);
        match options.open(path) {
            Ok(file) => {
                let mut file = BlockFile::new(file);
                if file.is_possible() { Ok(Box::new(file)) } else { self.open(path) }
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => self.open(path),
            Err(error) => Err(error),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn open_synced(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.open(path)
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<DirectoryEntry>> {
        let entry = |entry: io::Result<fs::DirEntry>| {
            let entry = entry?;
            Ok(DirectoryEntry {
                name: entry.file_name(),
                is_directory: entry.file_type()?.is_dir(),
            })
        };
        fs::read_dir(directory)?.map(entry).collect()
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        // The parent of a relative path of one component.
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        File::open(path)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let file = File::options().create(true).truncate(false).write(true).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(file)),
            Err(TryLockError::Error(error)) => Err(error),
            Err(TryLockError::WouldBlock) => Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "another process has this data directory open",
            )),
        }
    }
}

/// The file system of the operating system, of which nothing is changed: whatever would do so is
/// refused.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadOnlyDisk;

fn refused<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

impl Disk for ReadOnlyDisk {
    fn create(&self, _path: &Path) -> io::Result<Box<dyn DiskFile>> {
        refused()
    }

    /// To read only.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(File::open(path)?))
    }

    fn open_synced(&self, _path: &Path) -> io::Result<Box<dyn DiskFile>> {
        refused()
    }

    fn create_directory(&self, _path: &Path) -> io::Result<()> {
        refused()
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<DirectoryEntry>> {
        LocalDisk.list(directory)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        LocalDisk.exists(path)
    }

    fn rename(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        refused()
    }

    fn link(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        refused()
    }

    fn remove_file(&self, _path: &Path) -> io::Result<()> {
        refused()
    }

    fn remove_directory(&self, _path: &Path) -> io::Result<()> {
        refused()
    }

    fn sync_directory(&self, _path: &Path) -> io::Result<()> {
        refused()
    }

    fn lock(&self, _path: &Path) -> io::Result<Box<dyn Lock>> {
        refused()
    }
}

/// The process that has `path` locked, as far as the system tells: Linux does, and of processes
/// that this one can see. The lock itself is not touched.
pub fn lock_holder(path: &Path) -> Option<u32> {
    let inode = fs::metadata(path).ok()?.ino();
    // 1: FLOCK  ADVISORY  WRITE 4711 08:01:1234 0 EOF
    let locks = fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (kind, _, mode) = (words.next()?, words.next()?, words.next()?);
        let (process, file) = (words.next()?, words.next()?);
        let is_it = file.rsplit(':').next()?.parse() == Ok(inode);
        (kind == "FLOCK" && mode == "WRITE" && is_it).then(|| process.parse().ok())?
    })
}

impl DiskFile for File {
    fn sync_data(&mut self) -> io::Result<()> {
        Self::sync_data(self)
    }

    fn sync_all(&mut self) -> io::Result<()> {
        Self::sync_all(self)
    }

    fn byte_count(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn modified_ms(&self) -> io::Result<i64> {
        let since_1970 =
            self.metadata()?.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX))
    }
}

impl Lock for File {}
