//! The files of one `_delta_log`: what a crash left of the last commit, and what nobody needs.
//!
//! ```text
//! _delta_log/00000000000000000127.json                  a commit
//!            00000000000000000128.checkpoint.parquet    all actions up to and with version 128
//!            00000000000000000128.crc                   a checksum: counts, txns, schema
//!            00000000000000000128.json                  the last commit: may be torn
//! ```
//!
//! A commit is written, synced and then named, so that a name means a whole file; but not on every
//! file system, and not by every other writer. A torn last commit was never acknowledged, and what
//! it holds is in the journal: it is moved to `_torn`, and the version is written again. Readers
//! take an empty file for an empty commit and fail on half a line.

use std::sync::Arc;

use delta_kernel_default_engine::executor::TaskExecutor;
use delta_kernel_default_engine::executor::tokio::TokioMultiThreadExecutor;
use object_store::path::Path;
use object_store::{DynObjectStore, ObjectStoreExt};
use simd_json::prelude::*;

use super::error::Cause;

/// Directory of the log below the root of a table.
pub(super) const LOG: &str = "_delta_log";
/// Directory that torn commits are moved to; readers skip names that begin with `_`.
const TORN: &str = "_torn";
/// Digits of a version in a name.
const VERSION_DIGITS: usize = 20;
/// Name of what wrote a commit, in its `commitInfo`.
pub(super) const ENGINE_INFO: &str = concat!("peristyle/", env!("CARGO_PKG_VERSION"));
/// Key of the number of add actions, in the `operationMetrics` of a commit of ours.
pub(super) const METRIC_FILES: &str = "numFiles";
/// Key of the number of txn actions, in the `operationMetrics` of a commit of ours.
pub(super) const METRIC_TXNS: &str = "numTxns";

/// One table's files.
#[derive(Debug)]
pub(super) struct Log {
    store: Arc<DynObjectStore>,
    executor: Arc<TokioMultiThreadExecutor>,
}

/// What a file of a log is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Commit,
    Checkpoint,
    Checksum,
}

/// A file of a log.
#[derive(Clone, Debug)]
struct LogFile {
    path: Path,
    version: u64,
    kind: Kind,
    bytes: u64,
}

impl Log {
    /// The log below the root of `store`.
    pub(super) fn new(store: Arc<DynObjectStore>, executor: Arc<TokioMultiThreadExecutor>) -> Self {
        Self { store, executor }
    }

    /// Moves a torn last commit aside; returns its name. `None` when there is nothing torn.
    ///
    /// # Errors
    /// What the store says; [`Cause::BrokenCommit`] for an empty commit that is not the last.
    pub(super) fn repair(&self) -> Result<Option<String>, Cause> {
        let files = self.files()?;
        let Some(last) = self.torn(&files)? else { return Ok(None) };
        let name = name_of(&last.path);
        let torn = Path::from_iter([TORN, &name]);
        // Its checksum first: it would be taken for that of the commit that comes in its place.
        let checksum = files
            .iter()
            .find(|it| it.kind == Kind::Checksum && it.version == last.version)
            .map(|it| it.path.clone());
        let (store, from) = (Arc::clone(&self.store), last.path.clone());
        self.executor.block_on(async move {
            if let Some(checksum) = checksum {
                store.delete(&checksum).await?;
            }
            store.rename(&from, &torn).await
        })?;
        Ok(Some(name))
    }

    /// The version of the last commit, if it is torn.
    ///
    /// # Errors
    /// As [`Log::repair`].
    pub(super) fn torn_version(&self) -> Result<Option<u64>, Cause> {
        Ok(self.torn(&self.files()?)?.map(|it| it.version))
    }

    fn torn<'a>(&self, files: &'a [LogFile]) -> Result<Option<&'a LogFile>, Cause> {
        let commits = || files.iter().filter(|it| it.kind == Kind::Commit);
        let Some(last) = commits().max_by_key(|it| it.version) else { return Ok(None) };
        let checkpoint = files.iter().filter(|it| it.kind == Kind::Checkpoint);
        let checkpoint = checkpoint.map(|it| it.version).max();
        let is_needed = |file: &&LogFile| Some(file.version) > checkpoint;
        if let Some(empty) =
            commits().filter(is_needed).find(|it| it.bytes == 0 && it.version != last.version)
        {
            return Err(Cause::BrokenCommit { file: name_of(&empty.path) });
        }
        let is_torn = is_needed(&last) && !self.is_whole(last)?;
        Ok(is_torn.then_some(last))
    }

    /// The first commit that is not whole, of those that readers need.
    pub(super) fn broken_commit(&self) -> Result<Option<String>, Cause> {
        let mut files = self.files()?;
        files.sort_by_key(|it| it.version);
        let checkpoint = files.iter().filter(|it| it.kind == Kind::Checkpoint);
        let checkpoint = checkpoint.map(|it| it.version).max();
        for file in files.iter().filter(|it| it.kind == Kind::Commit) {
            if Some(file.version) > checkpoint && !self.is_whole(file)? {
                return Ok(Some(name_of(&file.path)));
            }
        }
        Ok(None)
    }

    /// Removes what is below the last checkpoint but one: a reader that began with that one still
    /// finds everything it needs. Returns how many files were removed.
    pub(super) fn clean_up(&self) -> Result<usize, Cause> {
        let files = self.files()?;
        let checkpoints = files.iter().filter(|it| it.kind == Kind::Checkpoint);
        let mut versions: Vec<u64> = checkpoints.map(|it| it.version).collect();
        versions.sort_unstable();
        versions.dedup();
        versions.pop();
        let Some(first_kept) = versions.pop() else { return Ok(0) };
        let old: Vec<_> = files.into_iter().filter(|it| it.version < first_kept).collect();
        let count = old.len();
        let store = Arc::clone(&self.store);
        self.executor.block_on(async move {
            for file in old {
                match store.delete(&file.path).await {
                    Err(object_store::Error::NotFound { .. }) | Ok(()) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        })?;
        Ok(count)
    }

    /// Whether the commit of `version` is there: it goes only with the whole table.
    pub(super) fn has(&self, version: u64) -> Result<bool, Cause> {
        let name = format!("{version:0VERSION_DIGITS$}.json");
        let (store, path) = (Arc::clone(&self.store), Path::from_iter([LOG, &name]));
        match self.executor.block_on(async move { store.head(&path).await }) {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether there is a commit or a checkpoint at all.
    pub(super) fn exists(&self) -> Result<bool, Cause> {
        Ok(self.files()?.iter().any(|it| it.kind != Kind::Checksum))
    }

    fn files(&self) -> Result<Vec<LogFile>, Cause> {
        let store = Arc::clone(&self.store);
        let listed = self
            .executor
            .block_on(async move { store.list_with_delimiter(Some(&Path::from(LOG))).await })?;
        let files = listed.objects.into_iter().filter_map(|it| {
            let name = it.location.filename()?;
            let (version, rest) = name.split_at_checked(VERSION_DIGITS)?;
            let version = version.parse().ok()?;
            let kind = match rest {
                ".json" => Kind::Commit,
                ".crc" => Kind::Checksum,
                _ if rest.starts_with(".checkpoint.") => Kind::Checkpoint,
                _ => return None,
            };
            Some(LogFile { path: it.location, version, kind, bytes: it.size })
        });
        Ok(files.collect())
    }

    fn is_whole(&self, file: &LogFile) -> Result<bool, Cause> {
        if file.bytes == 0 {
            return Ok(false);
        }
        let (store, path) = (Arc::clone(&self.store), file.path.clone());
        let bytes = self.executor.block_on(async move { store.get(&path).await?.bytes().await })?;
        Ok(is_whole(&mut bytes.to_vec()))
    }
}

/// Whether a commit is all there: whole lines of JSON and, in a commit of ours, as many files and
/// txns as its first line announces. It could have been cut between two lines.
fn is_whole(commit: &mut [u8]) -> bool {
    let (mut lines, mut files, mut txns) = (0, 0, 0);
    let mut announced = (0, 0);
    for line in commit.split_mut(|byte| *byte == b'\n').filter(|it| !it.is_empty()) {
        let Ok(action) = simd_json::to_borrowed_value(line) else { return false };
        let Some(action) = action.as_object() else { return false };
        lines += 1;
        files += u64::from(action.contains_key("add"));
        txns += u64::from(action.contains_key("txn"));
        if let Some(info) = action.get("commitInfo")
            && info.get_str("engineInfo").is_some_and(|it| it.starts_with("peristyle/"))
        {
            let metrics = info.get("operationMetrics");
            let metric = |key: &str| metrics?.get_str(key)?.parse().ok();
            announced = (metric(METRIC_FILES).unwrap_or(0), metric(METRIC_TXNS).unwrap_or(0));
        }
    }
    lines > 0 && announced.0 <= files && announced.1 <= txns
}

fn name_of(path: &Path) -> String {
    path.filename().unwrap_or_default().to_owned()
}
