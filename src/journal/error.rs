//! What a journal says when it fails: which file, where, doing what, and why.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, io};

/// Why the journal cannot go on, or cannot be opened. Cheap to clone: all tickets get the same.
#[derive(Clone, Debug)]
pub struct JournalError {
    /// What was being done.
    pub operation: Operation,
    /// To which file or directory.
    pub file: PathBuf,
    /// Where in it, in bytes from its beginning.
    pub offset: u64,
    /// What stood in the way.
    pub cause: Cause,
}

impl JournalError {
    /// For `map_err`: an operation on a whole file.
    pub(super) fn io(
        operation: Operation,
        file: &Path,
        offset: u64,
    ) -> impl FnOnce(io::Error) -> Self {
        move |error| {
            let cause = Cause::Io(Arc::new(error));
            Self { operation, file: file.to_owned(), offset, cause }
        }
    }

    pub(super) fn damaged(file: &Path, offset: u64, damage: Damage) -> Self {
        let cause = Cause::Damaged(damage);
        Self { operation: Operation::Check, file: file.to_owned(), offset, cause }
    }

    /// What whoever comes after [`super::Journal::close`] is told.
    pub(super) fn closed(directory: &Path) -> Self {
        let file = directory.to_owned();
        Self { operation: Operation::Write, file, offset: 0, cause: Cause::Closed }
    }

    /// Whether the disk, or the quota, is full: the one cause that passes by itself.
    pub fn is_storage_full(&self) -> bool {
        matches!(&self.cause, Cause::Io(error) if crate::disk::is_full(error))
    }
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operation, file, offset, .. } = self;
        write!(f, "cannot {} {} at byte {offset}", operation.name(), file.display())
    }
}

impl Error for JournalError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.cause)
    }
}

/// What was being done when it failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Operation {
    /// Make sense of what was read.
    Check,
    /// Make a file or a directory.
    Create,
    /// List the directory.
    List,
    /// Open a file.
    Open,
    /// Read a file.
    Read,
    /// Remove a file.
    Remove,
    /// Give a file its name.
    Rename,
    /// Start a thread.
    Start,
    /// Sync a file or the directory.
    Sync,
    /// Write a file.
    Write,
}

impl Operation {
    /// As messages say it, after "cannot".
    fn name(self) -> &'static str {
        match self {
            Self::Check => "make sense of",
            Self::Create => "create",
            Self::List => "list",
            Self::Open => "open",
            Self::Read => "read",
            Self::Remove => "remove",
            Self::Rename => "rename",
            Self::Start => "start a thread for",
            Self::Sync => "sync",
            Self::Write => "write",
        }
    }
}

/// What stood in the way.
#[derive(Clone, Debug)]
pub enum Cause {
    /// The journal was closed.
    Closed,
    /// Bytes that were durable are not what was written.
    Damaged(Damage),
    /// The operating system refused.
    Io(Arc<io::Error>),
}

/// What is wrong with bytes that were durable once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Damage {
    /// A whole record whose entry says nothing that this version knows.
    Entry {
        /// Its sequence.
        sequence: u64,
    },
    /// The block at the beginning of a segment.
    Identity,
    /// A segment of another journal.
    Instance,
    /// A segment whose neighbours are there.
    Missing,
    /// A record that was on disk, by what later records say.
    Record {
        /// Its sequence.
        sequence: u64,
    },
    /// A segment that is shorter or longer than it says.
    Size {
        /// What its first block says.
        expected: u64,
        /// What it is.
        found: u64,
    },
    /// A format that this version does not know.
    Version {
        /// What the first block says.
        found: u32,
    },
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entry { sequence } => {
                write!(f, "expected an entry in record {sequence}, found other bytes")
            }
            Self::Identity => f.write_str("expected the head of a segment, found other bytes"),
            Self::Instance => {
                f.write_str("expected a segment of this journal, found one of another")
            }
            Self::Missing => f.write_str("expected a segment, found no file"),
            Self::Record { sequence } => {
                write!(f, "expected record {sequence}, which was on disk, found other bytes")
            }
            Self::Size { expected, found } => {
                write!(f, "expected a segment of {expected} bytes, found {found}")
            }
            Self::Version { found } => {
                write!(f, "expected version {}, found {found}", super::segment::VERSION)
            }
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the journal is closed"),
            Self::Damaged(damage) => damage.fmt(f),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl Error for Cause {}
