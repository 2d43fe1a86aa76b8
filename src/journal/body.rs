//! The body of a record while it waits to be written.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// Bytes that the journal has been lent, or shares with others.
pub enum Body {
    /// A buffer that its owner gets back.
    Lent(Vec<u8>),
    /// Bytes that others go on to use; nobody changes them.
    Shared(Arc<dyn AsRef<[u8]> + Send + Sync>),
}

impl Body {
    /// The buffer that was lent, or an empty one.
    pub(super) fn into_vec(self) -> Vec<u8> {
        match self {
            Self::Lent(bytes) => bytes,
            Self::Shared(_) => Vec::new(),
        }
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Lent(bytes)
    }
}

impl Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Lent(bytes) => bytes,
            Self::Shared(bytes) => (**bytes).as_ref(),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("len", &self.len()).finish_non_exhaustive()
    }
}
