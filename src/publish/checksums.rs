//! A store that gives the JSON files of a log a checksum, and checks it whenever one is read.
//!
//! ```text
//! <version>.json   {"commitInfo":{"peristyle.crc32c":"9a8b7c6d","timestamp":...
//! <version>.crc    {"peristyle.crc32c":"9a8b7c6d","tableSizeBytes":...
//! ```
//!
//! It is the CRC32C of the file without this pair. In both places the protocol allows for keys of
//! anybody, and readers pass over those that they do not know.
//!
//! A flipped digit in a commit is another size, date or sequence to everyone who reads it. A
//! commit of somebody else has no checksum, and is taken as it is. A `.crc` is an aid, and not
//! needed: only those of ours are used.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use object_store::path::Path;
use object_store::{
    CopyOptions, DynObjectStore, GetOptions, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, RenameOptions, Result,
};

use super::log::{self, ENGINE, Kind};

/// Before the digits.
const BEFORE: &str = "\"peristyle.crc32c\":\"";
/// Hex digits of a checksum.
const DIGITS: usize = 8;
/// Behind the digits.
const BEHIND: &str = "\",";

/// A file is not what was written.
#[derive(Debug)]
pub(super) struct Damaged {
    path: Path,
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {} as it was written, found a damaged file", self.path)
    }
}

impl Error for Damaged {}

/// Whether a store says that a file is damaged.
pub(super) fn is_damage(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::Generic { source, .. } if source.is::<Damaged>())
}

/// Another store, with checksums.
#[derive(Debug)]
pub(super) struct Checksums {
    store: Arc<DynObjectStore>,
}

impl Checksums {
    pub(super) fn new(store: Arc<DynObjectStore>) -> Self {
        Self { store }
    }
}

impl fmt::Display for Checksums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with checksums", self.store)
    }
}

/// What a file begins with whose checksum follows; `None` for those that get none.
fn opening(path: &Path) -> Option<(Kind, &'static str)> {
    let mut parts: Vec<_> = path.parts().collect();
    let name = parts.pop()?;
    if parts.last()?.as_ref() != log::LOG {
        return None;
    }
    match log::version_and_kind(name.as_ref())?.1 {
        Kind::Commit => Some((Kind::Commit, "{\"commitInfo\":{")),
        Kind::Checksum => Some((Kind::Checksum, "{")),
        Kind::Checkpoint => None,
    }
}

/// The file with its checksum; `None` when it does not begin as it should.
fn with_checksum(opening: &str, bytes: &[u8]) -> Option<Vec<u8>> {
    let rest = bytes.strip_prefix(opening.as_bytes())?;
    let digits = format!("{:08x}", crc32c::crc32c(bytes));
    Some(
        [opening.as_bytes(), BEFORE.as_bytes(), digits.as_bytes(), BEHIND.as_bytes(), rest]
            .concat(),
    )
}

/// Whether a file is as it was written, as far as can be told.
fn is_intact(kind: Kind, opening: &str, bytes: &[u8]) -> bool {
    let stated = (|| {
        let rest = bytes.strip_prefix(opening.as_bytes())?.strip_prefix(BEFORE.as_bytes())?;
        let (digits, rest) = rest.split_at_checked(DIGITS)?;
        Some((digits, rest.strip_prefix(BEHIND.as_bytes())?))
    })();
    if let Some((digits, rest)) = stated {
        let sum = crc32c::crc32c_append(crc32c::crc32c(opening.as_bytes()), rest);
        return digits == format!("{sum:08x}").as_bytes();
    }
    let has = |text: &str| bytes.windows(text.len()).any(|it| it == text.as_bytes());
    kind == Kind::Commit && !has(BEFORE) && !has(&format!("\"engineInfo\":\"{ENGINE}"))
}

#[async_trait]
impl ObjectStore for Checksums {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let Some((_, opening)) = opening(location) else {
            return self.store.put_opts(location, payload, opts).await;
        };
        let bytes = payload.iter().flatten().copied().collect::<Vec<u8>>();
        let bytes = with_checksum(opening, &bytes).ok_or_else(|| {
            let what = format!("expected {location} to begin with {opening}");
            object_store::Error::Generic { store: "log", source: what.into() }
        })?;
        self.store.put_opts(location, bytes.into(), opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.store.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let is_part = options.range.is_some() || options.head;
        let mut result = self.store.get_opts(location, options).await?;
        let Some((kind, opening)) = opening(location).filter(|_| !is_part) else {
            return Ok(result);
        };
        let (meta, range) = (result.meta.clone(), result.range.clone());
        let attributes = std::mem::take(&mut result.attributes);
        let extensions = std::mem::take(&mut result.extensions);
        let bytes = result.bytes().await?;
        if !is_intact(kind, opening, &bytes) {
            let source = Box::new(Damaged { path: location.clone() });
            return Err(object_store::Error::Generic { store: "log", source });
        }
        let payload = GetResultPayload::Stream(stream::iter([Ok(bytes)]).boxed());
        Ok(GetResult { payload, meta, range, attributes, extensions })
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.store.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.store.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.store.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.store.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.store.rename_opts(from, to, options).await
    }
}
