//! Tables as they are, for whoever only looks: nothing is repaired, and nothing is left in a log.

use std::path::{Path, PathBuf};

use object_store::path::Path as StorePath;

use super::error::{Cause, Operation, PublishError};
use super::log::{self, LOG};
use super::table::Table;
use super::{Catalog, Entry, TABLES, TableState};

/// A live file of a table, as the log describes it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LiveFile {
    /// Where.
    pub path: PathBuf,
    /// Its rows, where that is stated.
    pub rows: Option<u64>,
    /// Its size.
    pub bytes: u64,
}

/// A table as it was at one moment.
#[derive(Debug)]
pub struct TableView {
    /// What the log says of it. Where the last commit is torn, this is of the one before.
    pub state: TableState,
    /// Its live files, relative to the data directory, sorted.
    pub files: Vec<LiveFile>,
    /// A commit that is not whole, relative to the data directory.
    pub broken: Option<PathBuf>,
    /// Other files of the log that are not as they were written, and that readers can do without,
    /// relative to the data directory.
    pub damaged: Vec<PathBuf>,
    entry: Entry,
}

impl TableView {
    /// The version that an application id has reached; `None` where there is none.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn txn(&self, app_id: &str) -> Result<Option<i64>, PublishError> {
        self.entry.lock().txn(app_id).map_err(self.entry.failed(Operation::Load))
    }
}

impl Catalog {
    /// Where tables may be, relative to the data directory, sorted.
    ///
    /// # Errors
    /// When the directories cannot be listed.
    pub fn table_directories(&self) -> Result<Vec<PathBuf>, PublishError> {
        let directories = self.directories()?;
        Ok(directories.iter().map(|it| Path::new(TABLES).join(it.as_ref())).collect())
    }

    /// Looks at the table in one of these directories; `None` where there is no log. The catalog
    /// does not keep it.
    ///
    /// # Errors
    /// When the log cannot be read; a broken commit is named.
    pub fn view(&self, directory: &Path) -> Result<Option<TableView>, PublishError> {
        let below = directory.strip_prefix(TABLES).unwrap_or(directory).to_string_lossy();
        let path = StorePath::parse(&below).map_err(|error| {
            PublishError::new(Operation::Load, &below, object_store::Error::from(error))
        })?;
        let entry = self.open_table(path);
        let mut table = entry.lock();
        if !table.log().exists().map_err(entry.failed(Operation::List))? {
            return Ok(None);
        }
        let looked = look(&mut table);
        let looked = looked.map_err(|cause| match table.log().broken_commit() {
            Ok(Some(file)) => Cause::Broken { file },
            _ => cause,
        });
        let (state, mut files, broken, damaged) = looked.map_err(entry.failed(Operation::Load))?;
        drop(table);
        for file in &mut files {
            file.path = directory.join(&file.path);
        }
        files.sort_by(|left, right| left.path.cmp(&right.path));
        let in_log = |file: &String| directory.join(LOG).join(file);
        let damaged =
            damaged.iter().filter(|it| Some(*it) != broken.as_ref()).map(in_log).collect();
        let broken = broken.as_ref().map(in_log);
        Ok(Some(TableView { state, files, broken, damaged, entry }))
    }
}

type Looked = (TableState, Vec<LiveFile>, Option<String>, Vec<String>);

/// The last version that can be read, the first commit that cannot, and everything damaged.
fn look(table: &mut Table) -> Result<Looked, Cause> {
    let damaged = table.log().damaged()?;
    if let Some(file) = damaged.iter().find(|it| log::is_checkpoint(it)) {
        return Err(Cause::Broken { file: file.clone() });
    }
    let before = match table.log().torn_version()? {
        None => None,
        Some(torn) => {
            let broken = table.log().broken_commit()?.unwrap_or_default();
            Some(torn.checked_sub(1).ok_or(Cause::Broken { file: broken })?)
        }
    };
    table.look_at(before)?;
    Ok((table.state()?, table.files()?, table.log().broken_commit()?, damaged))
}
