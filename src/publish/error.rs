//! Why a table could not be read or a commit not be made.

use std::error::Error;
use std::{fmt, io};

use delta_kernel::error::KernelError;

use crate::schema::StoredType;

/// Why a table could not be read or a commit not be made.
#[derive(Debug)]
pub struct PublishError {
    /// What was being done.
    pub operation: Operation,
    /// To which table or file, relative to the data directory.
    pub path: String,
    /// What stood in the way.
    pub cause: Cause,
}

impl PublishError {
    /// An error of the kernel or of the store, at `path`.
    pub(super) fn new(operation: Operation, path: &str, cause: impl Into<Cause>) -> Self {
        Self { operation, path: path.to_owned(), cause: cause.into() }
    }

    /// Whether the disk, or the quota, is full: the one cause that passes by itself.
    pub fn is_storage_full(&self) -> bool {
        let mut next: Option<&(dyn Error + 'static)> = self.source();
        while let Some(error) = next {
            let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
            if matches!(kind, Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)) {
                return true;
            }
            // The kernel shows these by themselves and not as its source.
            next = match error.downcast_ref::<KernelError>() {
                Some(KernelError::Backtraced { source, .. }) => Some(source.as_ref()),
                Some(KernelError::ObjectStore(error)) => Some(error),
                Some(KernelError::IOError(error)) => Some(error),
                _ => error.source(),
            };
        }
        false
    }
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}", self.operation.name(), self.path)
    }
}

impl Error for PublishError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.cause {
            Cause::Kernel(error) => Some(error),
            Cause::Store(error) => Some(error),
            cause => Some(cause),
        }
    }
}

/// What was being done when it failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Operation {
    /// Write a checkpoint of a table.
    Checkpoint,
    /// Remove old files of a log.
    CleanUp,
    /// Commit files to a table.
    Commit,
    /// List the tables, or the log of one.
    List,
    /// Read the log of a table.
    Load,
    /// Open the directory of tables.
    Open,
    /// Move a torn commit aside.
    Repair,
}

impl Operation {
    /// As messages say it, after "cannot".
    fn name(self) -> &'static str {
        match self {
            Self::Checkpoint => "write a checkpoint of",
            Self::CleanUp => "remove old log files of",
            Self::Commit => "commit to",
            Self::List => "list",
            Self::Load => "read the log of",
            Self::Open => "open",
            Self::Repair => "move aside",
        }
    }
}

/// What stood in the way.
#[derive(Debug)]
pub enum Cause {
    /// A file that readers need is not as it was written, and is not the last commit.
    Broken {
        /// Name of the file in `_delta_log`.
        file: String,
    },
    /// Too many others committed to the table at the same time.
    Contended {
        /// How often it was tried.
        tries: u32,
    },
    /// The kernel or what it reads from refused.
    Kernel(KernelError),
    /// A column of a file has another type than the column of the table.
    Mismatch {
        /// Name of the column in files.
        column: String,
        /// How the table has it: a type of Delta's, with the kind where it is stated.
        expected: String,
        /// How the file has it.
        found: String,
    },
    /// A commit without files to a table that does not exist: a mistake of ours.
    NoFiles,
    /// The table does not say which database and measurement it holds.
    NoName,
    /// The directory holds another measurement's table.
    OtherName {
        /// The database and measurement that its log names.
        found: String,
    },
    /// The store refused.
    Store(object_store::Error),
    /// A file has a column that the commit's schema has not: a mistake of ours.
    UnknownColumn {
        /// Its name in the file.
        column: String,
        /// Its type in the file.
        stored: StoredType,
    },
    /// A file that is not in a directory `date=...` of the table: a mistake of ours.
    UnknownPlace,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken { file } => {
                write!(f, "expected {file} as it was written, found a damaged or torn file")
            }
            Self::Contended { tries } => {
                write!(f, "others committed first, {tries} times in a row")
            }
            Self::Kernel(error) => error.fmt(f),
            Self::Mismatch { column, expected, found } => {
                write!(f, "column {column}: expected {expected}, found {found}")
            }
            Self::NoFiles => f.write_str("expected files to create the table with, found none"),
            Self::NoName => f.write_str(
                "expected the properties peristyle.database and peristyle.measurement, found none",
            ),
            Self::OtherName { found } => {
                write!(f, "expected the table of this measurement, found that of {found}")
            }
            Self::Store(error) => error.fmt(f),
            Self::UnknownColumn { column, stored } => {
                write!(f, "expected only columns of the schema, found {column} ({stored:?})")
            }
            Self::UnknownPlace => {
                f.write_str("expected tables/<database>/<measurement>/date=<date>/<file>")
            }
        }
    }
}

impl Error for Cause {}

impl From<KernelError> for Cause {
    fn from(error: KernelError) -> Self {
        Self::Kernel(error)
    }
}

impl From<object_store::Error> for Cause {
    fn from(error: object_store::Error) -> Self {
        Self::Store(error)
    }
}
