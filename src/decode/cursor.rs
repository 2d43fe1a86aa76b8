//! The inflated body as decoders read it: bytes, and slack behind them.
//!
//! Fixed-width loads ([`KEY_WINDOW`] bytes at a time) may run past the last byte of the body, so a
//! body is always followed by [`SLACK`] zero bytes that belong to nobody. That keeps the hot loops
//! in safe code without a branch per load.

use crate::gather::KEY_WINDOW;

/// Zero bytes behind every body.
pub const SLACK: usize = 64;

/// A body of `len` bytes followed by at least [`SLACK`] zero bytes.
#[derive(Clone, Copy, Debug)]
pub struct Body<'a> {
    padded: &'a [u8],
    len: usize,
}

impl<'a> Body<'a> {
    /// Makes `buffer` a body: appends the slack. The buffer is reused from body to body.
    pub fn new(buffer: &'a mut Vec<u8>) -> Self {
        let len = buffer.len();
        buffer.resize(len + SLACK, 0);
        Self { padded: buffer, len }
    }

    /// The body without its slack.
    pub fn bytes(&self) -> &'a [u8] {
        self.padded.get(..self.len).unwrap_or_default()
    }

    /// The body with its slack, for loads of fixed width.
    pub fn padded(&self) -> &'a [u8] {
        self.padded
    }

    /// The [`KEY_WINDOW`] bytes from `at` on, some of which may be slack.
    /// `None` when `at` is more than `SLACK - KEY_WINDOW` bytes behind the end.
    #[inline(always)]
    pub fn window(&self, at: usize) -> Option<&'a [u8; KEY_WINDOW]> {
        self.padded.get(at..at + KEY_WINDOW)?.try_into().ok()
    }
}
