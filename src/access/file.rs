//! The file of tokens: JSON, readable by its owner only, replaced as a whole.
//!
//! ```json
//! {"version":1,"tokens":[{"id":"00f1..","name":"telegraf","sha256":"9b1d..",
//!   "permissions":["write"],"databases":["telegraf"],"created_s":1700000000,
//!   "expires_s":1800000000,"revoked":true}]}
//! ```
//!
//! `expires_s` and `revoked` may be missing. Whoever changes the file holds a lock beside it.

use std::error::Error;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use simd_json::prelude::*;
use simd_json::{BorrowedValue, OwnedValue, json};

use super::{Digest, Grant, Permission, Token};
use crate::disk::{self, Disk, LocalDisk, Lock};

/// Name of the file in the data directory.
pub const FILE_NAME: &str = "tokens.json";
/// Name of the file with the secret of the first token, in the data directory.
pub const ADMIN_FILE_NAME: &str = "admin.token";
const LOCK_NAME: &str = "tokens.lock";
const TEMPORARY_NAME: &str = "tokens.json.new";
const VERSION: u64 = 1;
/// Readable and writable by the owner.
const MODE: u32 = 0o600;

/// Why tokens could not be read or changed.
#[derive(Debug)]
pub enum AccessError {
    /// A grant that means nothing.
    InvalidGrant {
        /// What was expected of it.
        expected: &'static str,
    },
    /// The file is not what this program writes.
    InvalidFile {
        /// The file.
        path: PathBuf,
        /// What was expected of it.
        expected: &'static str,
    },
    /// What the file system says.
    Io {
        /// The file.
        path: PathBuf,
        /// How it failed.
        source: io::Error,
    },
    /// The operating system gave no random bytes.
    Random {
        /// How it failed.
        error: io::Error,
    },
    /// No more tokens may be made.
    TooMany {
        /// The limit.
        max: usize,
    },
    /// There is no token with this number.
    Unknown {
        /// The number.
        id: u64,
    },
}

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidGrant { expected } => write!(f, "expected {expected}"),
            Self::InvalidFile { path, expected } => {
                write!(f, "{}: expected {expected}", path.display())
            }
            Self::Io { path, source } => write!(f, "{}: {source}", path.display()),
            Self::Random { error } => write!(f, "the system gave no random bytes: {error}"),
            Self::TooMany { max } => {
                write!(f, "expected at most {max} tokens, the revoked ones included")
            }
            Self::Unknown { id } => write!(f, "there is no token {id:016x}"),
        }
    }
}

impl Error for AccessError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Random { error } => Some(error),
            _ => None,
        }
    }
}

/// The tokens of the data directory `directory`, oldest first; `None` where there is no file.
///
/// # Errors
/// `InvalidFile`, and what the file system says.
pub fn load(directory: &Path) -> Result<Option<Vec<Token>>, AccessError> {
    let path = directory.join(FILE_NAME);
    match fs::read(&path) {
        Ok(mut bytes) => parse(&mut bytes).map(Some).map_err(|expected| {
            // The file is named once, here.
            AccessError::InvalidFile { path, expected }
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(AccessError::Io { path, source }),
    }
}

fn parse(bytes: &mut [u8]) -> Result<Vec<Token>, &'static str> {
    let file = simd_json::to_borrowed_value(bytes).map_err(|_| "JSON")?;
    if file.get_u64("version") != Some(VERSION) {
        return Err("\"version\":1");
    }
    let tokens = file.get_array("tokens").ok_or("an array \"tokens\"")?;
    tokens.iter().map(token).collect()
}

fn token(json: &BorrowedValue<'_>) -> Result<Token, &'static str> {
    let id = json.get_str("id").and_then(|id| u64::from_str_radix(id, 16).ok());
    let id = id.filter(|id| *id != 0).ok_or("an \"id\" in hex in each token")?;
    let digest = json.get_str("sha256").and_then(from_hex);
    let names = |key, expected| -> Result<Vec<&str>, &'static str> {
        let array: &Vec<_> = json.get_array(key).ok_or(expected)?;
        array.iter().map(|name| name.as_str().ok_or(expected)).collect()
    };
    let expected = "\"permissions\" of admin, read and write in each token";
    let permissions = names("permissions", expected)?;
    let permissions = permissions.into_iter().map(Permission::from_name).collect::<Option<_>>();
    let databases = names("databases", "an array \"databases\" of names in each token")?;
    // An expiry that cannot be read must not make a token last for ever.
    let expires_s = match json.get("expires_s") {
        None => None,
        Some(value) => Some(value.as_u64().ok_or("a number \"expires_s\"")?),
    };
    let is_revoked = match json.get("revoked") {
        None => false,
        Some(value) => value.as_bool().ok_or("true or false as \"revoked\"")?,
    };
    Ok(Token {
        id,
        grant: Grant {
            name: json.get_str("name").ok_or("a \"name\" in each token")?.to_owned(),
            permissions: permissions.ok_or(expected)?,
            databases: databases.into_iter().map(str::to_owned).collect(),
            created_s: json.get_u64("created_s").ok_or("a number \"created_s\" in each token")?,
            expires_s,
        },
        is_revoked,
        digest: digest.ok_or("a \"sha256\" of 64 hex digits in each token")?,
    })
}

fn from_hex(text: &str) -> Option<Digest> {
    let mut digest = Digest::default();
    if text.len() != 2 * digest.len() {
        return None;
    }
    for (byte, at) in digest.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(digest)
}

fn to_json(token: &Token) -> OwnedValue {
    let Token { id, grant, is_revoked, digest } = token;
    let permissions: Vec<&str> = grant.permissions.iter().map(|it| it.name()).collect();
    let digest = digest.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = fmt::Write::write_fmt(&mut text, format_args!("{byte:02x}"));
        text
    });
    let mut json = json!({
        "id": format!("{id:016x}"),
        "name": grant.name.as_str(),
        "sha256": digest,
        "permissions": permissions,
        "databases": grant.databases.clone(),
        "created_s": grant.created_s,
        "revoked": *is_revoked,
    });
    if let (Some(expires_s), Some(object)) = (grant.expires_s, json.as_object_mut()) {
        object.insert("expires_s".to_owned(), expires_s.into());
    }
    json
}

/// The file, held by one process that may change it.
pub(super) struct TokenFile {
    directory: PathBuf,
    _lock: Box<dyn Lock>,
}

impl TokenFile {
    /// Takes the file; makes the directory where it is missing.
    pub(super) fn open(directory: &Path) -> Result<Self, AccessError> {
        let io = |source| AccessError::Io { path: directory.to_owned(), source };
        disk::create_directories(&LocalDisk, directory).map_err(io)?;
        let lock =
            LocalDisk.lock(&directory.join(LOCK_NAME)).map_err(|error| match error.kind() {
                io::ErrorKind::ResourceBusy => io(io::Error::new(
                    error.kind(),
                    "another process changes the tokens: try again",
                )),
                _ => io(error),
            })?;
        Ok(Self { directory: directory.to_owned(), _lock: lock })
    }

    pub(super) fn read(&self) -> Result<Vec<Token>, AccessError> {
        load(&self.directory).map(Option::unwrap_or_default)
    }

    /// Puts `tokens` in the place of the file: all of them or, after a crash, the ones before.
    pub(super) fn replace(&self, tokens: &[Token]) -> Result<(), AccessError> {
        let path = self.directory.join(TEMPORARY_NAME);
        let written = self.write(&path, tokens);
        written.map_err(|source| AccessError::Io { path, source })
    }

    /// Keeps the secret of a token that is about to be the only one; returns the path of its file.
    pub(super) fn keep_secret(&self, secret: &str) -> Result<PathBuf, AccessError> {
        let path = self.directory.join(ADMIN_FILE_NAME);
        let written =
            write_new(&path, secret).and_then(|()| LocalDisk.sync_directory(&self.directory));
        match written {
            Ok(()) => Ok(path),
            Err(source) => Err(AccessError::Io { path, source }),
        }
    }

    fn write(&self, temporary: &Path, tokens: &[Token]) -> io::Result<()> {
        let tokens: Vec<OwnedValue> = tokens.iter().map(to_json).collect();
        let text = json!({ "version": VERSION, "tokens": tokens }).encode_pp();
        write_new(temporary, &text)?;
        fs::rename(temporary, self.directory.join(FILE_NAME))?;
        LocalDisk.sync_directory(&self.directory)
    }
}

/// Writes a line of text into a file that nobody else reads, and that was not there: one that a
/// crash left is worth nothing, and may have another mode.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file: File = File::options().write(true).create_new(true).mode(MODE).open(path)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}
