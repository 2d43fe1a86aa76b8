//! Delta logs on a simulated disk: a store that does to it what the local one does to a file
//! system when it syncs, call by call. A file is staged, synced, named, and its directory synced.

use std::fmt;
use std::io;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use object_store::path::Path;
use object_store::{
    Attributes, CopyOptions, Error, Extensions, GetOptions, GetRange, GetResult, GetResultPayload,
    ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions,
    PutPayload, PutResult, RenameOptions, Result,
};
use peristyle::disk::{self, Disk};
use peristyle::publish::LogStore;

use crate::sim_disk::SimDisk;

/// Where the tables are.
const ROOT: &str = "/data/tables";

/// A store of logs on a disk.
#[derive(Debug)]
pub struct SimLogs {
    disk: SimDisk,
    /// Names of staged files.
    staged: AtomicU64,
}

impl SimLogs {
    /// As the catalog takes it.
    pub fn on(disk: &SimDisk) -> LogStore {
        Arc::new(Self { disk: disk.clone(), staged: AtomicU64::new(0) })
    }

    fn path(location: &Path) -> PathBuf {
        location.parts().fold(PathBuf::from(ROOT), |path, part| path.join(part.as_ref()))
    }

    /// Writes and syncs a file under a name of its own.
    fn stage(&self, path: &FilePath, payload: &PutPayload) -> io::Result<PathBuf> {
        let number = self.staged.fetch_add(1, Ordering::Relaxed);
        let mut staged = path.as_os_str().to_owned();
        staged.push(format!("#{number}"));
        let staged = PathBuf::from(staged);
        let parent = path.parent().unwrap();
        if !self.disk.exists(parent)? {
            disk::create_directories(&self.disk, parent)?;
            for directory in parent.ancestors().skip(1) {
                self.disk.sync_directory(directory)?;
            }
        }
        let mut file = self.disk.create(&staged)?;
        for bytes in payload {
            file.write_all(bytes)?;
        }
        file.sync_all()?;
        Ok(staged)
    }

    fn put(&self, path: &FilePath, payload: &PutPayload, mode: &PutMode) -> io::Result<()> {
        let staged = self.stage(path, payload)?;
        let parent = path.parent().unwrap();
        let named = if *mode == PutMode::Create {
            self.disk.link(&staged, path)
        } else {
            self.disk.rename(&staged, path)
        };
        let named = named.and_then(|()| self.disk.sync_directory(parent));
        if named.is_err() || *mode == PutMode::Create {
            self.disk.remove_file(&staged).ok();
        }
        named
    }

    fn read(&self, path: &FilePath) -> io::Result<Vec<u8>> {
        let mut file = self.disk.open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn describe(location: Path, bytes: u64) -> ObjectMeta {
        let last_modified = std::time::UNIX_EPOCH.into();
        ObjectMeta { location, last_modified, size: bytes, e_tag: None, version: None }
    }

    /// Files and directories in a directory; none where there is no directory.
    fn entries(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let prefix = prefix.cloned().unwrap_or_default();
        let directory = Self::path(&prefix);
        let mut listed = ListResult {
            common_prefixes: vec![],
            objects: vec![],
            extensions: Extensions::default(),
        };
        let entries = match self.disk.list(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(listed),
            entries => entries.map_err(|it| failed(&prefix, it))?,
        };
        for entry in entries {
            let name = entry.name.into_string().unwrap();
            let location = prefix.clone().join(name.as_str());
            // Staged files are not listed.
            if entry.is_directory {
                listed.common_prefixes.push(location);
            } else if !name.contains('#') {
                let file = self.disk.open(&directory.join(&name));
                let bytes = file.and_then(|it| it.byte_count());
                let bytes = bytes.map_err(|it| failed(&location, it))?;
                listed.objects.push(Self::describe(location, bytes));
            }
        }
        Ok(listed)
    }

    fn all(&self, prefix: Option<&Path>) -> Result<Vec<ObjectMeta>> {
        let ListResult { common_prefixes, mut objects, .. } = self.entries(prefix)?;
        for directory in common_prefixes {
            objects.extend(self.all(Some(&directory))?);
        }
        objects.sort_by(|left, right| left.location.cmp(&right.location));
        Ok(objects)
    }
}

fn failed(path: &Path, error: io::Error) -> Error {
    let (path, source) = (path.to_string(), Box::new(error));
    match source.kind() {
        io::ErrorKind::NotFound => Error::NotFound { path, source },
        io::ErrorKind::AlreadyExists => Error::AlreadyExists { path, source },
        _ => Error::Generic { store: "simulated", source },
    }
}

impl fmt::Display for SimLogs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("simulated")
    }
}

#[async_trait]
impl ObjectStore for SimLogs {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let put = self.put(&Self::path(location), &payload, &opts.mode);
        put.map_err(|error| failed(location, error))?;
        Ok(PutResult { e_tag: None, version: None, extensions: Extensions::default() })
    }

    async fn put_multipart_opts(
        &self,
        _location: &Path,
        _opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(Error::NotImplemented { operation: "parts".into(), implementer: self.to_string() })
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let bytes = self.read(&Self::path(location)).map_err(|error| failed(location, error))?;
        let len = bytes.len() as u64;
        let range = match options.range {
            None => 0..len,
            Some(GetRange::Bounded(range)) => range.start..range.end.min(len),
            Some(GetRange::Offset(start)) => start..len,
            Some(GetRange::Suffix(count)) => len.saturating_sub(count)..len,
        };
        let place = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
        let part = Bytes::from(bytes).slice(place);
        Ok(GetResult {
            payload: GetResultPayload::Stream(stream::iter([Ok(part)]).boxed()),
            meta: Self::describe(location.clone(), len),
            range,
            attributes: Attributes::default(),
            extensions: Extensions::default(),
        })
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let disk = self.disk.clone();
        let delete = move |location: Result<Path>| {
            let location = location?;
            let removed = disk.remove_file(&Self::path(&location));
            removed.map_err(|error| failed(&location, error))?;
            Ok(location)
        };
        locations.map(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.all(prefix) {
            Ok(listed) => stream::iter(listed.into_iter().map(Ok)).boxed(),
            Err(error) => stream::iter([Err(error)]).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.entries(prefix)
    }

    async fn copy_opts(&self, _from: &Path, _to: &Path, _options: CopyOptions) -> Result<()> {
        Err(Error::NotImplemented { operation: "copies".into(), implementer: self.to_string() })
    }

    async fn rename_opts(&self, from: &Path, to: &Path, _options: RenameOptions) -> Result<()> {
        let (source, target) = (Self::path(from), Self::path(to));
        let renamed = (|| {
            let parent = target.parent().unwrap();
            if !self.disk.exists(parent)? {
                disk::create_directories(&self.disk, parent)?;
                self.disk.sync_directory(parent.parent().unwrap())?;
            }
            self.disk.rename(&source, &target)?;
            self.disk.sync_directory(parent)?;
            self.disk.sync_directory(source.parent().unwrap())
        })();
        renamed.map_err(|error| failed(from, error))
    }
}

/// The files of all logs on a disk, in order.
pub fn log_files(disk: &SimDisk) -> Vec<PathBuf> {
    let files = disk.all_files(FilePath::new(ROOT)).into_iter();
    files.filter(|it| it.parent().is_some_and(|it| it.ends_with("_delta_log"))).collect()
}
