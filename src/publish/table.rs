//! One table: its snapshot, and how the next version comes to be.
//!
//! ```text
//!          first commit          every other               others were first
//! create ----------------> Snapshot(v) ----> commit v+1 ----> Conflicted
//!                              ^  ^-------------'                 |
//!                              '--- read the new commits, look again
//! ```
//!
//! The snapshot stays in memory with its checksum, which the kernel carries from commit to commit:
//! a commit is then one write and no read. After a failure of unknown outcome the log is read
//! again before anything else, and the txns tell whether the commit is in it.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use delta_kernel::committer::FileSystemCommitter;
use delta_kernel::engine::arrow_data::ArrowEngineData;
use delta_kernel::error::KernelError;
use delta_kernel::scan::state::ScanFile;
use delta_kernel::schema::{DataType, StructField, StructType};
use delta_kernel::snapshot::IncrementalReplay;
use delta_kernel::transaction::create_table::create_table;
use delta_kernel::transaction::data_layout::DataLayout;
use delta_kernel::transaction::{
    CommitResult, CommittedTransaction, Transaction, UpdateTableOperation,
};
use delta_kernel::{Snapshot, SnapshotRef};
use delta_kernel_default_engine::executor::tokio::TokioMultiThreadExecutor;
use delta_kernel_default_engine::{DefaultEngine, DefaultEngineBuilder};
use object_store::DynObjectStore;

use super::error::Cause;
use super::log::{ENGINE_INFO, Log};
use super::{Commit, Committed, LiveFile, TableState, adds, columns};
use crate::schema::{DATE, METADATA_DATABASE, METADATA_MEASUREMENT, StoredType, TIME};

/// The table is the root of its store.
const ROOT: &str = "file:///";
/// Tries of a commit before it fails because of others.
const TRIES_MAX: u32 = 64;
/// Files of a log that are read at once. The kernel's own 1,000 of [`READ_ACTIONS`] take 3 MB for
/// each commit since the last checkpoint, all at once.
const READ_AHEAD: NonZero<usize> = NonZero::new(2).unwrap();
/// Actions in a batch that is read of a log.
const READ_ACTIONS: NonZero<usize> = NonZero::new(128).unwrap();
/// Longest wait before the second try; doubled for each further one, up to 64 times.
const WAIT_MS_MAX: u64 = 2;

/// One table.
#[derive(Debug)]
pub(super) struct Table {
    log: Log,
    engine: DefaultEngine<TokioMultiThreadExecutor>,
    /// The latest version known; `None` before the first.
    snapshot: Option<SnapshotRef>,
    /// Something failed: the log may be ahead of the snapshot.
    is_stale: bool,
}

impl Table {
    /// The table at the root of `store`; nothing is read.
    pub(super) fn new(
        store: &Arc<DynObjectStore>,
        executor: &Arc<TokioMultiThreadExecutor>,
    ) -> Self {
        let engine = DefaultEngineBuilder::new(Arc::clone(store))
            .with_task_executor(Arc::clone(executor))
            .with_buffer_size(READ_AHEAD)
            .with_batch_size(READ_ACTIONS)
            .build();
        let log = Log::new(Arc::clone(store), Arc::clone(executor));
        Self { log, engine, snapshot: None, is_stale: false }
    }

    /// The files of its log.
    pub(super) fn log(&self) -> &Log {
        &self.log
    }

    /// Reads the log, and leaves a checksum in it if it has none.
    pub(super) fn load(&mut self) -> Result<(), Cause> {
        let snapshot = Snapshot::builder_for(ROOT)
            .with_incremental_crc_replay(IncrementalReplay::Unlimited)
            .build(&self.engine)?;
        self.snapshot = Some(self.rooted(snapshot));
        self.is_stale = false;
        Ok(())
    }

    /// Reads what others have committed.
    fn refresh(&mut self) -> Result<(), Cause> {
        let Some(snapshot) = &self.snapshot else { return self.load() };
        let snapshot = Snapshot::builder_from(Arc::clone(snapshot))
            .with_incremental_crc_replay(IncrementalReplay::Unlimited)
            .build(&self.engine)?;
        self.snapshot = Some(self.rooted(snapshot));
        self.is_stale = false;
        Ok(())
    }

    /// The snapshot with a checksum of its version. Where the kernel can make none, because of
    /// what others have written, each question costs a read of the log instead.
    fn rooted(&self, snapshot: SnapshotRef) -> SnapshotRef {
        if snapshot.get_file_stats_if_present().is_some() {
            return snapshot;
        }
        let cleared = self.log.remove_useless_checksum(snapshot.version());
        if let Err(error) = cleared {
            tracing::debug!(%error, "a checksum cannot be read");
        }
        match snapshot.write_checksum(&self.engine) {
            Ok((_, snapshot)) => snapshot,
            Err(error) => {
                tracing::debug!(%error, "a table has no checksum");
                snapshot
            }
        }
    }

    /// The database and measurement that the log names.
    pub(super) fn name(&self) -> Option<(String, String)> {
        let properties = self.snapshot.as_ref()?.metadata_configuration();
        let property = |key| properties.get(key).cloned();
        Some((property(METADATA_DATABASE)?, property(METADATA_MEASUREMENT)?))
    }

    /// The version of an application's last transaction.
    pub(super) fn txn(&self, app_id: &str) -> Result<Option<i64>, Cause> {
        let Some(snapshot) = &self.snapshot else { return Ok(None) };
        Ok(snapshot.get_app_id_version(app_id, &self.engine)?)
    }

    /// Reads the log up to `version`, or all of it, and leaves nothing in it.
    pub(super) fn look_at(&mut self, version: Option<u64>) -> Result<(), Cause> {
        let builder = Snapshot::builder_for(ROOT);
        let builder = match version {
            Some(version) => builder.at_version(version),
            None => builder,
        };
        self.snapshot = Some(builder.build(&self.engine)?);
        Ok(())
    }

    /// The live files.
    pub(super) fn files(&self) -> Result<Vec<LiveFile>, Cause> {
        let Some(snapshot) = &self.snapshot else { return Ok(Vec::new()) };
        let scan = Arc::clone(snapshot).scan_builder().build()?;
        let mut files = Vec::new();
        for batch in scan.scan_metadata(&self.engine)? {
            files = batch?.visit_scan_files(files, |files: &mut Vec<_>, file: ScanFile| {
                files.push(LiveFile {
                    path: file.path.into(),
                    rows: file.stats.map(|it| it.num_records),
                    bytes: u64::try_from(file.size).unwrap_or_default(),
                });
            })?;
        }
        Ok(files)
    }

    /// What is known of the table after [`Table::load`].
    pub(super) fn state(&self) -> Result<TableState, Cause> {
        let Some(snapshot) = &self.snapshot else { return Err(Cause::NoName) };
        let Some((database, measurement)) = self.name() else { return Err(Cause::NoName) };
        let mut state = TableState {
            database,
            measurement,
            version: snapshot.version(),
            columns: Vec::new(),
            foreign_columns: Vec::new(),
            rows: 0,
            files: 0,
            bytes: 0,
        };
        for field in snapshot.schema().fields().filter(|it| it.name() != DATE) {
            match columns::of_delta(field) {
                Some(column) => state.columns.push(column),
                None => state.foreign_columns.push(field.name().clone()),
            }
        }
        for file in self.files()? {
            state.files += 1;
            state.bytes += file.bytes;
            state.rows += file.rows.unwrap_or_default();
        }
        Ok(state)
    }

    /// Makes one version of everything in `commit`; the files are at `paths` from the root.
    pub(super) fn commit(&mut self, commit: &Commit, paths: &[String]) -> Result<Committed, Cause> {
        for tries in 0..TRIES_MAX {
            if tries > 0 {
                wait(tries);
            }
            self.look()?;
            let result = match &self.snapshot {
                None => self.create(commit, paths),
                Some(snapshot) => self.append(snapshot, commit, paths),
            };
            // Whatever comes back but a new snapshot, the log is read before the next commit.
            self.is_stale = true;
            match result? {
                Outcome::Committed(committed) => return Ok(self.committed(&committed)),
                Outcome::Known(version) => {
                    self.is_stale = false;
                    return Ok(Committed { version, is_new: false, since_checkpoint: 0 });
                }
                Outcome::Lost => {}
            }
        }
        Err(Cause::Contended { tries: TRIES_MAX })
    }

    /// Sees to it that the snapshot is one of the log, or that there is neither.
    fn look(&mut self) -> Result<(), Cause> {
        let is_there = match &self.snapshot {
            // Somebody may have removed the table: the next version must not stand alone.
            Some(snapshot) => self.log.has(snapshot.version())? || self.log.exists()?,
            None => self.log.exists()?,
        };
        match (is_there, &self.snapshot) {
            (false, _) => {
                self.snapshot = None;
                self.is_stale = false;
                Ok(())
            }
            (true, Some(_)) if !self.is_stale => Ok(()),
            (true, _) => self.refresh(),
        }
    }

    /// Keeps the snapshot of the new version.
    fn committed(&mut self, committed: &CommittedTransaction) -> Committed {
        if let Some(snapshot) = committed.post_commit_snapshot() {
            self.snapshot = Some(Arc::clone(snapshot));
            self.is_stale = false;
        }
        Committed {
            version: committed.commit_version(),
            is_new: true,
            since_checkpoint: committed.post_commit_stats().commits_since_checkpoint,
        }
    }

    /// Version 0.
    fn create(&self, commit: &Commit, paths: &[String]) -> Result<Outcome, Cause> {
        if commit.segments.is_empty() {
            return Err(Cause::NoFiles);
        }
        let mut fields = missing_columns(commit, None)?;
        let behind_time = fields.iter().position(|it| it.name() == TIME).map_or(0, |it| it + 1);
        fields.insert(behind_time, StructField::nullable(DATE, DataType::DATE));
        let schema = Arc::new(StructType::try_new(fields)?);
        let built = create_table(ROOT, schema, ENGINE_INFO, true)
            .with_table_properties([
                (METADATA_DATABASE, commit.database.as_str()),
                (METADATA_MEASUREMENT, commit.measurement.as_str()),
            ])
            .with_data_layout(DataLayout::partitioned([DATE]))
            .build(&self.engine, Box::new(FileSystemCommitter::new()));
        match built {
            Ok(transaction) => self.finish(transaction, commit, &commit.txns, paths),
            Err(error) if is_existing(&error) => Ok(Outcome::Lost),
            Err(error) => Err(error.into()),
        }
    }

    /// The version after `snapshot`.
    fn append(
        &self,
        snapshot: &SnapshotRef,
        commit: &Commit,
        paths: &[String],
    ) -> Result<Outcome, Cause> {
        match self.name() {
            None => return Err(Cause::NoName),
            Some((database, measurement)) => {
                if (&database, &measurement) != (&commit.database, &commit.measurement) {
                    return Err(Cause::OtherName { found: format!("{database}/{measurement}") });
                }
            }
        }
        // A txn never goes back: what another commit has published stays published.
        let mut ahead = Vec::new();
        for (app_id, version) in &commit.txns {
            if self.txn(app_id)?.is_none_or(|known| known < *version) {
                ahead.push((app_id.clone(), *version));
            }
        }
        if ahead.is_empty() && !commit.txns.is_empty() {
            return Ok(Outcome::Known(snapshot.version()));
        }
        let schema = snapshot.schema();
        let mut builder =
            Arc::clone(snapshot).update_table(UpdateTableOperation::Write, ENGINE_INFO, true);
        for field in missing_columns(commit, Some(&schema))? {
            builder = builder.add_column(field);
        }
        let transaction = builder.build(&self.engine, Box::new(FileSystemCommitter::new()))?;
        self.finish(transaction, commit, &ahead, paths)
    }

    /// Files and txns into the transaction, and the transaction into the log.
    fn finish<S: std::fmt::Debug>(
        &self,
        transaction: Transaction<S>,
        commit: &Commit,
        txns: &[(String, i64)],
        paths: &[String],
    ) -> Result<Outcome, Cause> {
        let mut transaction = transaction;
        for (app_id, version) in txns {
            transaction = transaction.with_transaction_id(app_id.clone(), *version);
        }
        if !commit.segments.is_empty() {
            let columns = transaction.stats_columns().into_iter().filter_map(|it| {
                let [name] = it.into_inner().try_into().ok()?;
                Some(name)
            });
            let columns: Vec<String> = columns.collect();
            let batch = adds::batch(&commit.segments, paths, &columns)
                .map_err(|error| KernelError::generic(error.to_string()))?;
            transaction.add_files(Box::new(ArrowEngineData::new(batch)));
        }
        Ok(match transaction.commit(&self.engine)? {
            CommitResult::Committed(committed) => Outcome::Committed(Box::new(committed)),
            CommitResult::Conflicted(_) => Outcome::Lost,
            CommitResult::Retryable(failed) => return Err(failed.error.into()),
        })
    }

    /// Writes a checkpoint of the version in memory, and a checksum, so that the next start reads
    /// little; then removes what both make superfluous.
    pub(super) fn checkpoint(&mut self) -> Result<usize, Cause> {
        let Some(snapshot) = &self.snapshot else { return Ok(0) };
        let (_, snapshot) = snapshot.checkpoint(&self.engine, None)?;
        self.log.seal_checkpoint(snapshot.version())?;
        let (_, snapshot) = snapshot.write_checksum(&self.engine)?;
        self.snapshot = Some(snapshot);
        self.log.clean_up()
    }
}

/// What became of one try.
#[derive(Debug)]
enum Outcome {
    Committed(Box<CommittedTransaction>),
    /// The txns are in the log, at this version or before it.
    Known(u64),
    /// Another commit was first.
    Lost,
}

/// The columns of the commit's files that the table has not, in the order of the commit's schema.
/// Those that it has must be of the same type, and of the same kind where the table states one.
fn missing_columns(commit: &Commit, table: Option<&StructType>) -> Result<Vec<StructField>, Cause> {
    for column in commit.segments.iter().flat_map(|it| &it.columns) {
        let field = commit.schema.field_with_name(&column.name).ok();
        if field.and_then(|it| StoredType::of(it.data_type())) != Some(column.stored) {
            let (column, stored) = (column.name.clone(), column.stored);
            return Err(Cause::UnknownColumn { column, stored });
        }
    }
    let is_used = |name: &str| {
        commit.segments.iter().any(|it| it.columns.iter().any(|column| column.name == name))
    };
    let mut missing = Vec::new();
    for field in commit.schema.fields().iter().filter(|it| is_used(it.name())) {
        let Some(ours) = columns::to_delta(field) else { continue };
        let Some(theirs) = table.and_then(|it| it.field(field.name())) else {
            missing.push(ours);
            continue;
        };
        let is_same_kind = match (columns::stated_kind(theirs), columns::stated_kind(&ours)) {
            (Some(theirs), Some(ours)) => theirs == ours,
            _ => true,
        };
        if ours.data_type() != theirs.data_type() || !is_same_kind {
            return Err(Cause::Mismatch {
                column: field.name().clone(),
                expected: columns::describe(theirs),
                found: columns::describe(&ours),
            });
        }
    }
    Ok(missing)
}

/// Whether the kernel found a log where it was to make one.
fn is_existing(error: &KernelError) -> bool {
    match error {
        KernelError::Backtraced { source, .. } => is_existing(source),
        KernelError::TableAlreadyExistsAtPath(_) => true,
        _ => false,
    }
}

/// A pause of a length that nobody else has, so that writers that met do not meet again.
fn wait(tries: u32) {
    let longest = WAIT_MS_MAX << tries.min(6);
    let random = RandomState::new().build_hasher().finish();
    std::thread::sleep(Duration::from_micros(random % (longest * 1_000)));
}
