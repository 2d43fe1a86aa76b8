//! Access tokens: who may do what, to which databases, until when.
//!
//! ```text
//! peristyle token create|revoke --> <data-dir>/tokens.json (0600) --> Guard, one for each shard:
//!                                   SHA-256 of each secret            reads what has changed
//! first start that others can reach --> the same, and <data-dir>/admin.token (0600): its secret
//! ```
//!
//! A secret is 256 random bits and is shown once; only its SHA-256 is kept, which is enough against
//! who reads the file: there is nothing to guess. A given secret is hashed and its hash compared
//! with every kept one, in a time that does not depend on them.
//!
//! **No token defined**, that is no file, or one that lists none: everybody may do everything. A
//! token that is revoked or has expired is still listed, so that revoking the last one locks the
//! server and does not open it. A file that goes away, or cannot be read, changes nothing for a
//! server that runs, but for a line in its log; and a server that had tokens once never opens.
//!
//! A guard looks at the file's identity at each request (one `stat`, a few microseconds): what
//! `peristyle token` did is true for the next request, without a signal or a restart.

mod file;

mod guard;

use std::fmt;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

pub use file::{ADMIN_FILE_NAME, AccessError, FILE_NAME, load};
pub use guard::{Denied, Guard, Sender};

use file::TokenFile;

/// What begins every secret, so that people and secret scanners know what it is.
const SECRET_PREFIX: &str = "peristyle_";
/// Random bytes of a secret.
const SECRET_BYTES: usize = 32;
/// Name of the token that [`create_first`] makes.
const FIRST_NAME: &str = "first admin";
/// Longest name of a token, in bytes.
pub const NAME_BYTES_MAX: usize = 255;
/// Tokens of a server, the revoked and expired ones included: a request is compared with each.
pub const TOKENS_MAX: usize = 10_000;

/// SHA-256 of a secret.
type Digest = [u8; 32];

fn digest(secret: &[u8]) -> Digest {
    Sha256::digest(secret).into()
}

/// What a token may permit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Permission {
    /// Everything, to all databases.
    Admin,
    /// See which measurements and columns there are.
    Read,
    /// Send rows, make databases, flush.
    Write,
}

impl Permission {
    /// The name in the file and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Read => "read",
            Self::Write => "write",
        }
    }

    /// The permission of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Admin, Self::Read, Self::Write].into_iter().find(|it| it.name() == name)
    }
}

/// What a token is made with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Grant {
    /// What people call it.
    pub name: String,
    /// What it permits.
    pub permissions: Vec<Permission>,
    /// To which databases; empty: to all.
    pub databases: Vec<String>,
    /// When it was made, in seconds since 1970-01-01 UTC.
    pub created_s: u64,
    /// From when on it is worth nothing, in seconds since 1970-01-01 UTC.
    pub expires_s: Option<u64>,
}

/// A token as the server knows it: everything but the secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Token {
    /// Its number, random and never 0.
    pub id: u64,
    /// What it was made with.
    pub grant: Grant,
    /// Whether it was revoked.
    pub is_revoked: bool,
    digest: Digest,
}

impl Token {
    /// Whether it permits this to `database`, or to all databases when none is named.
    pub fn permits(&self, permission: Permission, database: Option<&str>) -> bool {
        let Grant { permissions, databases, .. } = &self.grant;
        if permissions.contains(&Permission::Admin) {
            return true;
        }
        let is_there = database.is_some_and(|name| databases.iter().any(|it| it == name));
        permissions.contains(&permission) && (databases.is_empty() || is_there)
    }

    /// Whether it is worth something at `now_s`, in seconds since 1970-01-01 UTC.
    pub fn is_valid(&self, now_s: u64) -> bool {
        !self.is_revoked && self.grant.expires_s.is_none_or(|expires| now_s < expires)
    }
}

/// Makes a token in the data directory `directory`, which is made when it is missing; returns it
/// with its secret, which nobody can tell again.
///
/// # Errors
/// [`AccessError`]: a grant that means nothing, too many tokens, or what the file system says.
pub fn create(directory: &Path, grant: Grant) -> Result<(Token, String), AccessError> {
    check(&grant)?;
    let file = TokenFile::open(directory)?;
    let mut tokens = file.read()?;
    if tokens.len() >= TOKENS_MAX {
        return Err(AccessError::TooMany { max: TOKENS_MAX });
    }
    let (token, secret) = generate(grant)?;
    tokens.push(token.clone());
    file.replace(&tokens)?;
    Ok((token, secret))
}

/// Makes the first token, which permits everything, and puts its secret into a file of its owner's;
/// returns the path of that. `None`: a token is defined, or was; nothing is made then.
///
/// # Errors
/// [`AccessError`]: what the file system says.
pub fn create_first(directory: &Path, created_s: u64) -> Result<Option<PathBuf>, AccessError> {
    let file = TokenFile::open(directory)?;
    if !file.read()?.is_empty() {
        return Ok(None);
    }
    let name = FIRST_NAME.to_owned();
    let permissions = vec![Permission::Admin];
    let grant = Grant { name, permissions, databases: Vec::new(), created_s, expires_s: None };
    let (token, secret) = generate(grant)?;
    // Before the token counts: a crash in between leaves a secret that is worth nothing.
    let path = file.keep_secret(&secret)?;
    file.replace(&[token])?;
    Ok(Some(path))
}

/// A token and its secret.
fn generate(grant: Grant) -> Result<(Token, String), AccessError> {
    let mut random = [0; SECRET_BYTES + 8];
    getrandom::fill(&mut random).map_err(|error| AccessError::Random { error: error.into() })?;
    let (secret, id) = random.split_at(SECRET_BYTES);
    let secret = secret.iter().fold(String::from(SECRET_PREFIX), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = fmt::Write::write_fmt(&mut text, format_args!("{byte:02x}"));
        text
    });
    let id = id.iter().fold(0, |id, byte| id << 8 | u64::from(*byte)).max(1);
    let token = Token { id, grant, is_revoked: false, digest: digest(secret.as_bytes()) };
    Ok((token, secret))
}

fn check(grant: &Grant) -> Result<(), AccessError> {
    let Grant { name, permissions, databases, .. } = grant;
    if !(1..=NAME_BYTES_MAX).contains(&name.len()) || name.contains(char::is_control) {
        return Err(AccessError::InvalidGrant { expected: "a name of 1 to 255 printable bytes" });
    }
    if permissions.is_empty() {
        return Err(AccessError::InvalidGrant { expected: "at least one permission" });
    }
    if permissions.contains(&Permission::Admin) && !databases.is_empty() {
        let expected = "no databases beside admin, which is for all of them";
        return Err(AccessError::InvalidGrant { expected });
    }
    Ok(())
}

/// Makes the token with this number worth nothing, and returns it. One that was revoked before is
/// no error.
///
/// # Errors
/// [`AccessError::Unknown`], or what the file system says.
pub fn revoke(directory: &Path, id: u64) -> Result<Token, AccessError> {
    let file = TokenFile::open(directory)?;
    let mut tokens = file.read()?;
    let token = tokens.iter_mut().find(|token| token.id == id);
    let token = token.ok_or(AccessError::Unknown { id })?;
    token.is_revoked = true;
    let revoked = token.clone();
    file.replace(&tokens)?;
    Ok(revoked)
}
