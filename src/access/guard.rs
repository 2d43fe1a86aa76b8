//! Who stands before the door: a secret to a token, with the file as it is.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use subtle::ConstantTimeEq;

use super::file::{AccessError, FILE_NAME, load};
use super::{Permission, Token, digest};
use crate::disk::Stamp;

/// Who sent a request.
#[derive(Clone, Debug)]
pub enum Sender {
    /// Anybody: no token is defined.
    Anybody,
    /// The holder of a token.
    Holder(Arc<Token>),
}

impl Sender {
    /// Whether it may do this to `database`, or to all databases when none is named.
    pub fn may(&self, permission: Permission, database: Option<&str>) -> bool {
        match self {
            Self::Anybody => true,
            Self::Holder(token) => token.permits(permission, database),
        }
    }

    /// The number of its token; 0 is anybody.
    pub fn id(&self) -> u64 {
        match self {
            Self::Anybody => 0,
            Self::Holder(token) => token.id,
        }
    }
}

/// Why nobody was recognised.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Denied {
    /// No secret was given.
    Missing,
    /// None of those given is that of a token that is worth something.
    Invalid,
}

/// Knows the tokens of one data directory. Each thread has its own.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    /// `None`: no data directory, and so no tokens.
    directory: Option<PathBuf>,
    /// Of the file that was read last.
    stamp: Option<Stamp>,
    tokens: Vec<Arc<Token>>,
    /// Whether there ever was a token: then the door stays shut for those without.
    is_guarded: bool,
}

impl Guard {
    /// Reads the tokens of the data directory `directory`, which may be missing.
    ///
    /// # Errors
    /// [`AccessError`]: the file is there and cannot be used.
    pub fn open(directory: &Path) -> Result<Self, AccessError> {
        let mut guard = Self { directory: Some(directory.to_owned()), ..Self::default() };
        // Before the file is read: one that is replaced in between is read again.
        guard.stamp = guard.current_stamp();
        guard.read()?;
        Ok(guard)
    }

    /// Whether any token is defined, or was, be it revoked or expired.
    pub fn is_guarded(&self) -> bool {
        self.is_guarded
    }

    /// Recognises who gave `secrets`, of which one is enough and which are asked for when there are
    /// tokens, at `now_s` in seconds since
    /// 1970-01-01 UTC. `failed` hears of a file that has changed and cannot be used: the tokens
    /// stay those of before.
    ///
    /// Cost: one `stat`; for each secret one SHA-256 and a comparison with each token.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn recognise(
        &mut self,
        secrets: impl FnOnce() -> Vec<Vec<u8>>,
        now_s: u64,
        failed: impl FnOnce(AccessError),
    ) -> Result<Sender, Denied> {
        self.refresh(failed);
        if !self.is_guarded {
            return Ok(Sender::Anybody);
        }
        let mut denied = Denied::Missing;
        for secret in secrets() {
            denied = Denied::Invalid;
            let given = digest(&secret);
            let mut holder = None;
            for token in &self.tokens {
                // All are compared, whichever it is.
                if bool::from(token.digest.ct_eq(&given)) {
                    holder = Some(token);
                }
            }
            if let Some(token) = holder.filter(|token| token.is_valid(now_s)) {
                return Ok(Sender::Holder(Arc::clone(token)));
            }
        }
        Err(denied)
    }

    fn refresh(&mut self, failed: impl FnOnce(AccessError)) {
        let stamp = self.current_stamp();
        if stamp == self.stamp {
            return;
        }
        self.stamp = stamp;
        if let Err(error) = self.read() {
            failed(error);
        }
    }

    /// Reads the file; one that is gone leaves the tokens as they are.
    fn read(&mut self) -> Result<(), AccessError> {
        let Some(directory) = &self.directory else { return Ok(()) };
        match load(directory)? {
            Some(tokens) => {
                self.tokens = tokens.into_iter().map(Arc::new).collect();
                self.is_guarded |= !self.tokens.is_empty();
            }
            None if !self.is_guarded => {}
            None => {
                let path = directory.join(FILE_NAME);
                let expected = "a file, found none: the tokens stay until the server ends";
                return Err(AccessError::InvalidFile { path, expected });
            }
        }
        Ok(())
    }

    /// `None` where there is no file.
    fn current_stamp(&self) -> Option<Stamp> {
        Stamp::of(&self.directory.as_ref()?.join(FILE_NAME))
    }
}
