//! The files of one `_delta_log`: what a crash left of the last commit, what is damaged, and what
//! nobody needs.
//!
//! ```text
//! _delta_log/00000000000000000127.json                  a commit
//!            00000000000000000128.checkpoint.parquet    all actions up to and with version 128
//!            00000000000000000128.crc                   a checksum: counts, txns, schema
//!            00000000000000000128.json                  the last commit: may be torn
//!            _last_checkpoint                           where the newest checkpoint is: a hint
//!            _checkpoint.crc32c                         CRC32C of both
//! ```
//!
//! A commit is written, synced and then named, so that a name means a whole file; but not on every
//! file system, and not by every other writer. A torn last commit was never acknowledged, and what
//! it holds is in the journal: it is moved to `_torn`, and the version is written again. Readers
//! take an empty file for an empty commit and fail on half a line.
//!
//! A damaged checkpoint is moved there too where the log goes around it, which it does: all is kept
//! from the last checkpoint but one. Commits and `.crc` have their checksum in them (`checksums`).

use std::sync::Arc;

use delta_kernel_default_engine::executor::TaskExecutor;
use delta_kernel_default_engine::executor::tokio::TokioMultiThreadExecutor;
use object_store::path::Path;
use object_store::{DynObjectStore, Error, ObjectStoreExt};

use super::checksums;
use super::error::Cause;

/// Directory of the log below the root of a table.
pub(super) const LOG: &str = "_delta_log";
/// Directory that torn and damaged files are moved to; readers skip names that begin with `_`.
const TORN: &str = "_torn";
/// Digits of a version in a name.
const VERSION_DIGITS: usize = 20;
/// Says which checkpoint is the newest.
const HINT: &str = "_last_checkpoint";
/// Checksums of the newest checkpoint and of the hint, a line each: digits, two spaces, name.
const SUMS: &str = "_checkpoint.crc32c";
/// How the name of what wrote a commit begins, in its `commitInfo`.
pub(super) const ENGINE: &str = "peristyle/";
/// Name of what wrote a commit.
pub(super) const ENGINE_INFO: &str = concat!("peristyle/", env!("CARGO_PKG_VERSION"));

/// One table's files.
#[derive(Debug)]
pub(super) struct Log {
    store: Arc<DynObjectStore>,
    executor: Arc<TokioMultiThreadExecutor>,
}

/// What a file of a log is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
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

/// The files of a log, by version.
#[derive(Debug)]
struct Files(Vec<LogFile>);

impl Files {
    fn of(&self, kind: Kind) -> impl DoubleEndedIterator<Item = &LogFile> {
        self.0.iter().filter(move |it| it.kind == kind)
    }

    fn newest(&self, kind: Kind) -> Option<&LogFile> {
        self.of(kind).next_back()
    }

    /// Whether all versions can be had without the checkpoints of `version`.
    fn go_around(&self, version: u64) -> bool {
        let before = self.of(Kind::Checkpoint).rfind(|it| it.version < version);
        let first = before.map_or(0, |it| it.version + 1);
        let last = self.newest(Kind::Commit).map_or(0, |it| it.version).max(version);
        let commits = self.of(Kind::Commit).map(|it| it.version).filter(|it| *it >= first);
        commits.eq(first..=last)
    }
}

impl Log {
    /// The log below the root of `store`.
    pub(super) fn new(store: Arc<DynObjectStore>, executor: Arc<TokioMultiThreadExecutor>) -> Self {
        Self { store, executor }
    }

    /// Moves a damaged checkpoint and a torn last commit aside; returns their names.
    ///
    /// # Errors
    /// What the store says; [`Cause::Broken`] for a checkpoint that the log does not go around,
    /// and for an empty commit that is not the last.
    pub(super) fn repair(&self) -> Result<Vec<String>, Cause> {
        let mut repaired = Vec::new();
        let mut files = self.files()?;
        for name in self.damaged_checkpoint(&files)? {
            if name != HINT {
                let version = version_and_kind(&name).map_or(0, |it| it.0);
                if !files.go_around(version) {
                    return Err(Cause::Broken { file: name });
                }
                self.set_aside(&name)?;
            }
            // Readers do without a hint, and not with one that misleads.
            self.remove(HINT)?;
            repaired.push(name);
        }
        if !repaired.is_empty() {
            files = self.files()?;
        }
        if let Some(torn) = self.torn(&files)? {
            // Its checksum first: it would be taken for that of the commit that comes in its place.
            self.remove(&format!("{:0VERSION_DIGITS$}.crc", torn.version))?;
            let name = name_of(&torn.path);
            self.set_aside(&name)?;
            repaired.push(name);
        }
        Ok(repaired)
    }

    fn set_aside(&self, name: &str) -> Result<(), Cause> {
        let (from, to) = (Path::from_iter([LOG, name]), Path::from_iter([TORN, name]));
        let store = Arc::clone(&self.store);
        Ok(self.executor.block_on(async move { store.rename(&from, &to).await })?)
    }

    /// Removes a file, if it is there.
    fn remove(&self, name: &str) -> Result<(), Cause> {
        let (store, path) = (Arc::clone(&self.store), Path::from_iter([LOG, name]));
        match self.executor.block_on(async move { store.delete(&path).await }) {
            Err(Error::NotFound { .. }) | Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes the `.crc` of a version where it is of no use: damaged, or of somebody else.
    pub(super) fn remove_useless_checksum(&self, version: u64) -> Result<(), Cause> {
        let name = format!("{version:0VERSION_DIGITS$}.crc");
        match self.read(&name) {
            Err(Cause::Store(error)) if checksums::is_damage(&error) => self.remove(&name),
            Err(error) => Err(error),
            Ok(_) => Ok(()),
        }
    }

    /// Writes down what the newest checkpoint and the hint are, which are of this version.
    pub(super) fn seal_checkpoint(&self, version: u64) -> Result<(), Cause> {
        let mut sums = String::new();
        for name in [&format!("{version:0VERSION_DIGITS$}.checkpoint.parquet"), HINT] {
            let Some(bytes) = self.read(name)? else { return Ok(()) };
            sums.push_str(&sum(&bytes, name));
        }
        let (store, path) = (Arc::clone(&self.store), Path::from_iter([LOG, SUMS]));
        self.executor.block_on(async move { store.put(&path, sums.into()).await })?;
        Ok(())
    }

    /// The newest checkpoint and the hint, where they are not what was written down. Nothing is
    /// said of a checkpoint of somebody else.
    fn damaged_checkpoint(&self, files: &Files) -> Result<Vec<String>, Cause> {
        let Some(newest) = files.newest(Kind::Checkpoint) else { return Ok(Vec::new()) };
        let Some(sums) = self.read(SUMS)? else { return Ok(Vec::new()) };
        let checkpoint = name_of(&newest.path);
        let is_stated = |line: &[u8]| line.ends_with(checkpoint.as_bytes());
        let mut damaged = Vec::new();
        if !sums.split(|it| *it == b'\n').any(is_stated) {
            return Ok(damaged);
        }
        for name in [&checkpoint, HINT] {
            let Some(bytes) = self.read(name)? else { continue };
            let line = sum(&bytes, name);
            if !sums.windows(line.len()).any(|it| it == line.as_bytes()) {
                damaged.push(name.to_owned());
            }
        }
        Ok(damaged)
    }

    /// Everything in the log that is not as it was written, as far as can be told: names.
    ///
    /// # Errors
    /// What the store says.
    pub(super) fn damaged(&self) -> Result<Vec<String>, Cause> {
        let files = self.files()?;
        let mut damaged = self.damaged_checkpoint(&files)?;
        for file in files.of(Kind::Commit).chain(files.of(Kind::Checksum)) {
            let name = name_of(&file.path);
            match self.read(&name) {
                Err(Cause::Store(error)) if checksums::is_damage(&error) => damaged.push(name),
                Err(error) => return Err(error),
                Ok(_) => {}
            }
        }
        Ok(damaged)
    }

    /// The version of the last commit, if it is torn.
    ///
    /// # Errors
    /// As [`Log::repair`].
    pub(super) fn torn_version(&self) -> Result<Option<u64>, Cause> {
        Ok(self.torn(&self.files()?)?.map(|it| it.version))
    }

    fn torn<'a>(&self, files: &'a Files) -> Result<Option<&'a LogFile>, Cause> {
        let Some(last) = files.newest(Kind::Commit) else { return Ok(None) };
        let checkpoint = files.newest(Kind::Checkpoint).map(|it| it.version);
        let is_needed = |file: &&LogFile| Some(file.version) > checkpoint;
        let is_empty = |file: &&LogFile| file.bytes == 0 && file.version != last.version;
        if let Some(empty) = files.of(Kind::Commit).filter(is_needed).find(is_empty) {
            return Err(Cause::Broken { file: name_of(&empty.path) });
        }
        let is_torn = is_needed(&last) && !self.is_whole(last)?;
        Ok(is_torn.then_some(last))
    }

    /// The first commit that is not whole, of those that readers need.
    pub(super) fn broken_commit(&self) -> Result<Option<String>, Cause> {
        let files = self.files()?;
        let checkpoint = files.newest(Kind::Checkpoint).map(|it| it.version);
        for file in files.of(Kind::Commit) {
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
        let mut versions: Vec<u64> = files.of(Kind::Checkpoint).map(|it| it.version).collect();
        versions.dedup();
        versions.pop();
        let Some(first_kept) = versions.pop() else { return Ok(0) };
        let old: Vec<_> = files.0.into_iter().filter(|it| it.version < first_kept).collect();
        for file in &old {
            self.remove(&name_of(&file.path))?;
        }
        Ok(old.len())
    }

    /// Whether the commit of `version` is there: it goes only with the whole table.
    pub(super) fn has(&self, version: u64) -> Result<bool, Cause> {
        let name = format!("{version:0VERSION_DIGITS$}.json");
        let (store, path) = (Arc::clone(&self.store), Path::from_iter([LOG, &name]));
        match self.executor.block_on(async move { store.head(&path).await }) {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether there is a commit or a checkpoint at all.
    pub(super) fn exists(&self) -> Result<bool, Cause> {
        Ok(self.files()?.0.iter().any(|it| it.kind != Kind::Checksum))
    }

    fn files(&self) -> Result<Files, Cause> {
        let store = Arc::clone(&self.store);
        let listed = self
            .executor
            .block_on(async move { store.list_with_delimiter(Some(&Path::from(LOG))).await })?;
        let files = listed.objects.into_iter().filter_map(|it| {
            let (version, kind) = version_and_kind(it.location.filename()?)?;
            Some(LogFile { path: it.location, version, kind, bytes: it.size })
        });
        let mut files: Vec<_> = files.collect();
        files.sort_by_key(|it| it.version);
        Ok(Files(files))
    }

    /// The bytes of a file; `None` where there is none.
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Cause> {
        let (store, path) = (Arc::clone(&self.store), Path::from_iter([LOG, name]));
        match self.executor.block_on(async move { store.get(&path).await?.bytes().await }) {
            Ok(bytes) => Ok(Some(bytes.to_vec())),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a commit is all there: of ours by its checksum, others must be whole lines of JSON.
    fn is_whole(&self, file: &LogFile) -> Result<bool, Cause> {
        match self.read(&name_of(&file.path)) {
            Ok(bytes) => Ok(is_whole(&mut bytes.unwrap_or_default())),
            Err(Cause::Store(error)) if checksums::is_damage(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn is_whole(commit: &mut [u8]) -> bool {
    let mut lines = commit.split_mut(|byte| *byte == b'\n').filter(|it| !it.is_empty()).peekable();
    lines.peek().is_some() && lines.all(|line| simd_json::to_borrowed_value(line).is_ok())
}

/// A line of the file of checksums.
fn sum(bytes: &[u8], name: &str) -> String {
    format!("{:08x}  {name}\n", crc32c::crc32c(bytes))
}

/// What the name of a file says of it; `None` for files without a version.
pub(super) fn version_and_kind(name: &str) -> Option<(u64, Kind)> {
    let (version, rest) = name.split_at_checked(VERSION_DIGITS)?;
    let version = version.parse().ok()?;
    let kind = match rest {
        ".json" => Kind::Commit,
        ".crc" => Kind::Checksum,
        _ if rest.starts_with(".checkpoint.") => Kind::Checkpoint,
        _ => return None,
    };
    Some((version, kind))
}

/// Whether a name is that of a checkpoint.
pub(super) fn is_checkpoint(name: &str) -> bool {
    version_and_kind(name).is_some_and(|(_, kind)| kind == Kind::Checkpoint)
}

fn name_of(path: &Path) -> String {
    path.filename().unwrap_or_default().to_owned()
}
