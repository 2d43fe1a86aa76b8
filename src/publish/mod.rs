//! Segments into the Delta log, which is the catalog: there is no other.
//!
//! ```text
//! Catalog::load    every table: repair the last commit, read log -> columns, txns, counts
//! Catalog::commit  segments + new columns + txns of one table -> one version of its log
//!                  (every 64 or so: a checkpoint, and the log below the last but one removed)
//! ```
//!
//! A version is all or nothing, and is on disk when [`Catalog::commit`] returns. Its txns say up to
//! which record of the journal the rows of each shard are in the table: after a crash, replay
//! leaves out what they cover, and committing again what is there already does nothing.
//!
//! Other writers may commit to the same tables: then the log is read again, everything is checked
//! again, and the next version is tried. Nothing that they wrote is lost or overwritten.
//!
//! Not here: Parquet (`persist`), when to commit (`engine`). Everything blocks, so callers are
//! threads of their own. Commits to one table take turns, those to different tables do not.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow_schema::SchemaRef;
use delta_kernel_default_engine::executor::TaskExecutor;
use delta_kernel_default_engine::executor::tokio::TokioMultiThreadExecutor;
use object_store::DynObjectStore;
use object_store::local::LocalFileSystem;
use object_store::path::Path as StorePath;
use object_store::prefix::PrefixStore;

use crate::segment::SegmentMeta;

mod adds;

mod checksums;

mod columns;

mod error;

mod log;

mod table;

mod view;

pub use columns::Column;
pub use error::{Cause, Operation, PublishError};
pub use view::{LiveFile, TableView};

use checksums::Checksums;
use table::Table;

/// Where Delta logs are, tables at its root.
pub type LogStore = Arc<DynObjectStore>;

/// Directory of the tables, below the data directory.
const TABLES: &str = "tables";
/// Threads that wait for the file system at the same time.
const STORE_THREADS: usize = 16;

/// Settings of a [`Catalog`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Options {
    /// Least number of commits between two checkpoints of a table.
    pub checkpoint_commits: u64,
    /// How many more there are for some tables, so that they do not all write one in one round.
    pub checkpoint_spread: u64,
    /// Threads that [`Catalog::load`] reads tables with.
    pub load_threads: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { checkpoint_commits: 64, checkpoint_spread: 32, load_threads: 8 }
    }
}

/// Everything that one flush publishes of one measurement.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The database, as clients call it.
    pub database: String,
    /// The measurement, as clients call it.
    pub measurement: String,
    /// The columns of the measurement in their order, `time` first, with their metadata; those
    /// that the segments have become columns of the table.
    pub schema: SchemaRef,
    /// The new files; all of one table.
    pub segments: Vec<SegmentMeta>,
    /// Application ids and the versions that they reach by this commit.
    pub txns: Vec<(String, i64)>,
}

/// What became of a [`Commit`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Committed {
    /// The version of the table that has it.
    pub version: u64,
    /// False when all its txns were in the log before, and nothing was written.
    pub is_new: bool,
    /// Commits since the last checkpoint.
    since_checkpoint: u64,
}

/// What the log says of one table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TableState {
    /// The database, as clients call it.
    pub database: String,
    /// The measurement, as clients call it.
    pub measurement: String,
    /// The last version.
    pub version: u64,
    /// The columns in their order, `date` not among them.
    pub columns: Vec<Column>,
    /// Columns of types that we do not write; somebody else has added them.
    pub foreign_columns: Vec<String>,
    /// Rows in the live files.
    pub rows: u64,
    /// Live files.
    pub files: u64,
    /// Bytes of them.
    pub bytes: u64,
}

/// What [`Catalog::load`] found.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Loaded {
    /// The tables, sorted by database and measurement.
    pub tables: Vec<TableState>,
    /// Directories without a log, relative to the data directory, sorted: no tables.
    pub skipped: Vec<PathBuf>,
    /// Torn commits and damaged checkpoints that were moved aside, relative to the data directory,
    /// sorted.
    pub repaired: Vec<PathBuf>,
}

/// Database and measurement.
type Name = (String, String);

/// A table and where it is.
#[derive(Debug)]
struct Entry {
    /// Relative to the directory of tables.
    path: StorePath,
    table: Mutex<Table>,
}

impl Entry {
    fn lock(&self) -> MutexGuard<'_, Table> {
        // A panic in the middle of a commit leaves the table marked as stale: it is read again.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For `map_err`.
    fn failed(&self, operation: Operation) -> impl FnOnce(Cause) -> PublishError {
        let path = format!("{TABLES}/{}", self.path);
        move |cause| PublishError { operation, path, cause }
    }
}

/// All tables of a data directory.
#[derive(Debug)]
pub struct Catalog {
    store: Arc<DynObjectStore>,
    executor: Arc<TokioMultiThreadExecutor>,
    options: Options,
    tables: Mutex<HashMap<Name, Arc<Entry>>>,
}

impl Catalog {
    /// Opens the tables below a data directory, which exists; nothing is read.
    ///
    /// # Errors
    /// [`Operation::Open`].
    pub fn open(data_dir: &Path, options: Options) -> Result<Self, PublishError> {
        let store = LocalFileSystem::new_with_prefix(data_dir.join(TABLES))
            .map_err(|error| PublishError::new(Operation::Open, TABLES, error))?;
        Self::open_store(Arc::new(store.with_fsync(true)), options)
    }

    /// Opens the tables at the root of a store; nothing is read.
    ///
    /// # Errors
    /// [`Operation::Open`], when no thread can be started.
    pub fn open_store(store: Arc<DynObjectStore>, options: Options) -> Result<Self, PublishError> {
        let executor = TokioMultiThreadExecutor::new_owned_runtime(Some(2), Some(STORE_THREADS))
            .map_err(|error| PublishError::new(Operation::Open, TABLES, error))?;
        let store = Arc::new(Checksums::new(store));
        Ok(Self { store, executor: Arc::new(executor), options, tables: Mutex::default() })
    }

    fn tables(&self) -> MutexGuard<'_, HashMap<Name, Arc<Entry>>> {
        // Every change is one insert or removal: nothing is left half done by a panic.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry(&self, database: &str, measurement: &str) -> Option<Arc<Entry>> {
        self.tables().get(&(database.to_owned(), measurement.to_owned())).cloned()
    }

    fn open_table(&self, path: StorePath) -> Entry {
        let store: Arc<DynObjectStore> =
            Arc::new(PrefixStore::new(Arc::clone(&self.store), path.clone()));
        Entry { path, table: Mutex::new(Table::new(&store, &self.executor)) }
    }

    /// Reads all tables, on several threads, and keeps them in memory. A torn last commit is moved
    /// aside first.
    ///
    /// # Errors
    /// When a table cannot be read; the first by name.
    pub fn load(&self) -> Result<Loaded, PublishError> {
        let directories = self.directories()?;
        let next = AtomicUsize::new(0);
        let work = || {
            let mut found = Vec::new();
            while let Some(path) = directories.get(next.fetch_add(1, Ordering::Relaxed)) {
                found.push((path, self.load_table(path)));
            }
            found
        };
        let mut results = std::thread::scope(|scope| {
            let count = self.options.load_threads.clamp(1, directories.len().max(1));
            let threads: Vec<_> = (1..count).map(|_| scope.spawn(work)).collect();
            let mut results = work();
            for thread in threads {
                results.extend(thread.join().unwrap_or_else(|it| std::panic::resume_unwind(it)));
            }
            results
        });
        results.sort_by_key(|(path, _)| *path);
        let mut loaded = Loaded::default();
        for (path, result) in results {
            let directory = Path::new(TABLES).join(path.as_ref());
            let (state, torn) = result?;
            loaded.repaired.extend(torn.iter().map(|it| directory.join("_delta_log").join(it)));
            match state {
                Some(state) => loaded.tables.push(state),
                None => loaded.skipped.push(directory),
            }
        }
        loaded.tables.sort_by(|left, right| {
            (&left.database, &left.measurement).cmp(&(&right.database, &right.measurement))
        });
        Ok(loaded)
    }

    /// Paths of all directories of the second level, sorted.
    fn directories(&self) -> Result<Vec<StorePath>, PublishError> {
        let store = Arc::clone(&self.store);
        let listed = self.executor.block_on(async move {
            let mut found = Vec::new();
            for database in store.list_with_delimiter(None).await?.common_prefixes {
                found.extend(store.list_with_delimiter(Some(&database)).await?.common_prefixes);
            }
            found.sort();
            Ok(found)
        });
        listed
            .map_err(|error: object_store::Error| PublishError::new(Operation::List, TABLES, error))
    }

    /// One table: its state, `None` if it is none, and the files that were moved aside.
    fn load_table(
        &self,
        path: &StorePath,
    ) -> Result<(Option<TableState>, Vec<String>), PublishError> {
        let entry = self.open_table(path.clone());
        let mut table = entry.lock();
        let torn = table.log().repair().map_err(entry.failed(Operation::Repair))?;
        if !table.log().exists().map_err(entry.failed(Operation::List))? {
            return Ok((None, torn));
        }
        let state = table.load().and_then(|()| table.state());
        let state = state.map_err(|cause| match table.log().broken_commit() {
            Ok(Some(file)) => Cause::Broken { file },
            _ => cause,
        });
        let state = state.map_err(entry.failed(Operation::Load))?;
        drop(table);
        let name = (state.database.clone(), state.measurement.clone());
        self.tables().insert(name, Arc::new(entry));
        Ok((Some(state), torn))
    }

    /// Makes one version of the table of everything in `commit`; creates the table with the first.
    /// When this returns, the version is on disk. A commit whose txns are all in the log is done.
    ///
    /// # Errors
    /// [`PublishError`]; then the outcome is unknown, and the call can be repeated.
    pub fn commit(&self, commit: &Commit) -> Result<Committed, PublishError> {
        let (root, paths) = paths(commit)?;
        let entry = match (self.entry(&commit.database, &commit.measurement), root) {
            (Some(entry), _) => entry,
            (None, Some(root)) => {
                let name = (commit.database.clone(), commit.measurement.clone());
                let entry = Arc::new(self.open_table(root));
                Arc::clone(self.tables().entry(name).or_insert(entry))
            }
            (None, None) => {
                let path = format!("{}/{}", commit.database, commit.measurement);
                return Err(PublishError::new(Operation::Commit, &path, Cause::NoFiles));
            }
        };
        let mut table = entry.lock();
        let committed = table.commit(commit, &paths).map_err(entry.failed(Operation::Commit))?;
        if committed.since_checkpoint >= self.checkpoint_after(&entry.path) {
            // The commit is made, whatever becomes of this; the next one tries again.
            if let Err(cause) = table.checkpoint() {
                let error = entry.failed(Operation::Checkpoint)(cause);
                tracing::warn!(cause = %error.cause, "{error}");
            }
        }
        Ok(committed)
    }

    /// Commits after which the table at `path` gets a checkpoint.
    fn checkpoint_after(&self, path: &StorePath) -> u64 {
        let mut hasher = DefaultHasher::new();
        path.as_ref().hash(&mut hasher);
        let Options { checkpoint_commits, checkpoint_spread, .. } = self.options;
        checkpoint_commits + hasher.finish() % checkpoint_spread.max(1)
    }

    /// The version that an application id has reached in a table; `None` where there is none.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn txn(
        &self,
        database: &str,
        measurement: &str,
        app_id: &str,
    ) -> Result<Option<i64>, PublishError> {
        let Some(entry) = self.entry(database, measurement) else { return Ok(None) };
        let txn = entry.lock().txn(app_id);
        txn.map_err(entry.failed(Operation::Load))
    }

    /// The live files of a table, relative to the data directory, sorted.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn files(&self, database: &str, measurement: &str) -> Result<Vec<PathBuf>, PublishError> {
        let Some(entry) = self.entry(database, measurement) else { return Ok(Vec::new()) };
        let files = entry.lock().files().map_err(entry.failed(Operation::Load))?;
        let root = Path::new(TABLES).join(entry.path.as_ref());
        let mut paths: Vec<_> = files.iter().map(|it| root.join(&it.path)).collect();
        paths.sort();
        Ok(paths)
    }

    /// Forgets the tables of a database, whose directory was removed.
    pub fn forget_database(&self, database: &str) {
        self.tables().retain(|(name, _), _| name != database);
    }
}

/// The root of the commit's table, relative to the directory of tables, and the paths of its files
/// from there. `date=YYYY-MM-DD` and names of hex digits are the same with and without URL
/// encoding.
fn paths(commit: &Commit) -> Result<(Option<StorePath>, Vec<String>), PublishError> {
    let mut root: Option<StorePath> = None;
    let mut paths = Vec::with_capacity(commit.segments.len());
    for segment in &commit.segments {
        let path = segment.path.to_string_lossy();
        let failed = || PublishError::new(Operation::Commit, &path, Cause::UnknownPlace);
        let parts: Vec<&str> = path.split('/').collect();
        let [TABLES, database, measurement, partition, file] = parts[..] else {
            return Err(failed());
        };
        let of_segment =
            StorePath::parse(format!("{database}/{measurement}")).map_err(|_| failed())?;
        let is_plain = file.bytes().all(|it| it.is_ascii_alphanumeric() || b"-._".contains(&it));
        let is_ours = partition == format!("date={}", segment.date) && is_plain;
        if !is_ours || root.as_ref().is_some_and(|it| *it != of_segment) {
            return Err(failed());
        }
        root = Some(of_segment);
        paths.push(format!("{partition}/{file}"));
    }
    Ok((root, paths))
}
