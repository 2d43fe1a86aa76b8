//! What is in a data directory, and whether all of it fits together.
//!
//! ```text
//! journal  from end to end: checksums, sequences, decided kinds  (`wal`)
//! names    segments and temporaries on disk
//! tables   log -> live files -> footers; then what no log knows  (`tables`)
//! ```
//!
//! Nothing is changed and no lock is taken: the directory may be served meanwhile, or have been
//! left by a crash. What a crash leaves is a note, for the next start deals with it. What a running
//! server changes between two looks could be taken for an inconsistency, so that whatever looks
//! like one is looked for again, from the beginning: only what stays the same is reported.

mod tables;

mod wal;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use self::tables::Tables;
use self::wal::Wal;
use super::recovery::WAL;
use crate::disk::{self, Disk, ReadOnlyDisk};
use crate::error::ServerError;
use crate::persist::{Inventory, layout, store};
use crate::publish::{self, Catalog, TableState};

/// How often an inconsistency must be met to be one.
const LOOKS: u32 = 3;
/// Between two looks: what a server does to one file takes less.
const PAUSE: Duration = Duration::from_millis(200);

/// What is in a data directory.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// The process that has the directory locked, where the system tells.
    pub server: Option<u32>,
    /// The tables, sorted by database and measurement.
    pub tables: Vec<TableState>,
    /// The journal; `None` when it cannot be read.
    pub journal: Option<JournalReport>,
    /// What does not fit together.
    pub inconsistencies: Vec<Finding>,
    /// What is worth knowing, and is as it may be.
    pub notes: Vec<Finding>,
}

/// What is in a journal.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct JournalReport {
    /// Its identity in hex; `None` where there is no journal.
    pub instance: Option<String>,
    /// Files that hold records.
    pub files: usize,
    /// Records, all of them whole.
    pub records: u64,
    /// Sequence of the first one, 0 where there is none.
    pub first_sequence: u64,
    /// Sequence of the last one ever, 0 where there was none.
    pub last_sequence: u64,
    /// Requests whose rows the tables do not have: the next start replays at least these.
    pub unpublished: u64,
}

/// One thing that was found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// What was being looked at.
    pub check: Check,
    /// The file or directory, relative to the data directory.
    pub path: PathBuf,
    /// What is to be said of it.
    pub what: String,
}

/// What was being looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Check {
    /// The columns of a table: kinds, types, against the journal's.
    Columns,
    /// A live file, against the log.
    File,
    /// The journal itself.
    Journal,
    /// The log of a table.
    Log,
    /// Files that no log knows.
    Orphan,
    /// Sequences of tables against the journal.
    Sequence,
}

impl Check {
    /// As a machine reads it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Columns => "columns",
            Self::File => "file",
            Self::Journal => "journal",
            Self::Log => "log",
            Self::Orphan => "orphan",
            Self::Sequence => "sequence",
        }
    }
}

impl Inspection {
    fn is_inconsistent(&mut self, check: Check, path: &Path, what: impl Into<String>) {
        self.inconsistencies.push(Finding { check, path: path.to_owned(), what: what.into() });
    }

    fn note(&mut self, check: Check, path: &Path, what: impl Into<String>) {
        self.notes.push(Finding { check, path: path.to_owned(), what: what.into() });
    }

    /// Whether the other look met the same.
    fn has_met(&self, finding: &Finding) -> bool {
        let is_same = |it: &&Finding| (it.check, &it.path) == (finding.check, &finding.path);
        self.inconsistencies.iter().any(|it| is_same(&it))
    }
}

/// Looks at all of `data_dir`, and changes nothing.
///
/// # Errors
/// When it cannot be read at all, or is no data directory.
pub fn inspect(data_dir: &Path) -> Result<Inspection, ServerError> {
    let mut inspection = look(data_dir)?;
    for _ in 1..LOOKS {
        if inspection.inconsistencies.is_empty() {
            break;
        }
        std::thread::sleep(PAUSE);
        let mut again = look(data_dir)?;
        again.inconsistencies.retain(|it| inspection.has_met(it));
        inspection = again;
    }
    Ok(inspection)
}

/// One look at everything.
fn look(data_dir: &Path) -> Result<Inspection, ServerError> {
    let disk: Arc<dyn Disk> = Arc::new(ReadOnlyDisk);
    let unreadable = |source| ServerError::Io { action: "read the data directory", source };
    let names = disk.list(data_dir).map_err(unreadable)?;
    let has = |name: &str| names.iter().any(|it| it.is_directory && it.name == name);
    if !has(layout::TABLES) && !has(WAL) {
        let error = "expected the directories tables and wal, found neither";
        return Err(unreadable(std::io::Error::other(error)));
    }
    let mut inspection = Inspection {
        server: disk::lock_holder(&data_dir.join(store::LOCK)),
        tables: Vec::new(),
        journal: None,
        inconsistencies: Vec::new(),
        notes: Vec::new(),
    };
    // The journal before the tables: what it says of drops, it says before they begin.
    let mut wal = match Wal::read(&disk, data_dir) {
        Ok(wal) => Some(wal),
        Err(error) => {
            let path = error.file.strip_prefix(data_dir).unwrap_or(&error.file);
            let what = format!("at byte {}: {}", error.offset, error.cause);
            inspection.is_inconsistent(Check::Journal, path, what);
            None
        }
    };
    let inventory = Inventory::of(disk.as_ref(), data_dir)?;
    let mut published = HashMap::new();
    if has(layout::TABLES) {
        let catalog = Catalog::open(data_dir, publish::Options::default())?;
        let mut tables = Tables::new(&disk, data_dir, wal.as_ref(), &inventory, &mut inspection);
        tables.run(&catalog)?;
        published = tables.published;
    }
    if let Some(wal) = &mut wal {
        wal.report.unpublished = wal.unpublished(&published);
    }
    for path in &inventory.temporaries {
        inspection.note(Check::Orphan, path, "is being written, or was when a run ended");
    }
    if let Some(wal) = wal {
        inspection.note_journal(wal);
    }
    Ok(inspection)
}

impl Inspection {
    /// What the journal says of itself.
    fn note_journal(&mut self, wal: Wal) {
        for (sequence, what) in &wal.conflicts {
            let what = format!("record {sequence}: {what}");
            self.is_inconsistent(Check::Columns, Path::new(WAL), what);
        }
        if let Some((file, offset)) = wal.torn.filter(|_| self.server.is_none()) {
            let what = format!("at byte {offset}: the log ends in a record that was not finished");
            self.note(Check::Journal, &file, what);
        }
        for database in wal.survey.unfinished_drops() {
            let path = layout::database_directory(database);
            self.note(Check::Log, &path, "is being dropped, or was when a run ended");
        }
        self.journal.get_or_insert(wal.report);
    }
}
