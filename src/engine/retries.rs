//! Requests that come twice: a client that saw no answer sends its body again.
//!
//! A body whose rows all carry their own time is known by a hash of its bytes, but for the time of
//! its compression, and of what decides over them; any request, by its `Idempotency-Key`. While the
//! key of a stored request is in the window, the same request is decoded once more for its answer,
//! and stored no second time.
//!
//! The window is bounded in time and in keys. Keys are in the records of the journal, and are
//! written there anew before records are recycled: the window survives a crash.
//!
//! Cost: one hash over the body as received, and a lock held for two look-ups of a map.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use twox_hash::XxHash3_128;

use super::apply::WriteRequest;
use super::codes;
use super::shard::monotonic_clock;
use crate::journal::{Entry, Journal, JournalError};

/// Keys in the window, 64 bytes of memory each.
const KEYS_MAX: usize = 1 << 18;

/// What is known of a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// Its request is being decoded.
    Open,
    /// Its record is the one of this sequence.
    Stored(u64),
}

#[derive(Debug, Default)]
struct Window {
    states: HashMap<u128, State>,
    /// Keys of stored requests, oldest first.
    stored: VecDeque<(Instant, u128)>,
}

impl Window {
    fn store(&mut self, key: u128, sequence: u64, now: Instant) {
        self.states.insert(key, State::Stored(sequence));
        self.stored.push_back((now, key));
    }

    /// Forgets what is too old, or too much.
    fn trim(&mut self, now: Instant, span: Duration) {
        while let Some((stored_at, key)) = self.stored.front().copied() {
            let is_old = now.saturating_duration_since(stored_at) > span;
            if !is_old && self.stored.len() <= KEYS_MAX {
                return;
            }
            self.stored.pop_front();
            self.states.remove(&key);
        }
    }
}

/// Which requests are known when they come again.
#[derive(Clone, Copy, Debug)]
pub struct RetryOptions {
    /// Bodies of rows with their own times.
    pub knows_bodies: bool,
    /// Requests with an `Idempotency-Key`.
    pub knows_keys: bool,
    /// For how long.
    pub window: Duration,
}

/// The requests of the last while.
#[derive(Debug)]
pub(super) struct Retries {
    options: RetryOptions,
    window: Mutex<Window>,
    /// A key that was open is not any more.
    settled: Notify,
}

/// What a request turns out to be.
#[derive(Debug)]
pub(super) enum Claim {
    /// New, as far as can be told. Its key is taken, if it has one.
    New(Option<Open>),
    /// It was stored by the record of this sequence.
    Stored(u64),
}

/// A claimed key. Dropped before it is stored, it gives the key back.
#[derive(Debug)]
pub(super) struct Open {
    retries: Arc<Retries>,
    key: u128,
    is_stored: bool,
}

impl Open {
    /// The key.
    pub(super) fn key(&self) -> u128 {
        self.key
    }

    /// The rows of the request are in the record of this sequence.
    pub(super) fn store(mut self, sequence: u64) {
        self.is_stored = true;
        self.retries.lock().store(self.key, sequence, monotonic_clock());
        self.retries.settled.notify_waiters();
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if !self.is_stored {
            self.retries.lock().states.remove(&self.key);
            self.retries.settled.notify_waiters();
        }
    }
}

impl Retries {
    /// A window that holds the `keys` of an earlier run, oldest first.
    pub(super) fn new(options: RetryOptions, keys: &[u128]) -> Self {
        let mut window = Window::default();
        let now = monotonic_clock();
        for key in keys {
            window.store(*key, 0, now);
        }
        window.trim(now, options.window);
        Self { options, window: Mutex::new(window), settled: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Window> {
        // No code panics while it holds the lock.
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks whether a request is known, and takes its key when it is not. Waits while the same
    /// request is being decoded.
    pub(super) async fn claim(
        self: &Arc<Self>,
        request: &WriteRequest<'_>,
        received: &[u8],
    ) -> Claim {
        let is_known = match request.idempotency_key {
            Some(_) => self.options.knows_keys,
            None => self.options.knows_bodies,
        };
        if !is_known {
            return Claim::New(None);
        }
        let key = key(request, received);
        loop {
            let mut settled = pin!(self.settled.notified());
            // Before the look at the window, so that no change in between is missed.
            settled.as_mut().enable();
            if let Some(claim) = self.try_claim(key) {
                return claim;
            }
            settled.await;
        }
    }

    /// `None` while the request is being decoded.
    fn try_claim(self: &Arc<Self>, key: u128) -> Option<Claim> {
        let mut window = self.lock();
        window.trim(monotonic_clock(), self.options.window);
        match window.states.get(&key) {
            Some(State::Open) => None,
            Some(State::Stored(sequence)) => Some(Claim::Stored(*sequence)),
            None => {
                window.states.insert(key, State::Open);
                let open = Open { retries: Arc::clone(self), key, is_stored: false };
                Some(Claim::New(Some(open)))
            }
        }
    }

    /// All keys of stored requests, oldest first.
    pub(super) fn keys(&self) -> Vec<u128> {
        let mut window = self.lock();
        window.trim(monotonic_clock(), self.options.window);
        window.stored.iter().map(|(_, key)| *key).collect()
    }
}

/// Lets the journal go of what is published, after writing the keys down anew.
///
/// # Errors
/// When the journal has failed.
pub(super) fn recycle(
    journal: &Journal,
    retries: &Retries,
    published: u64,
) -> Result<(), JournalError> {
    // On a full disk there may be no room for keys before something is let go.
    if journal.is_recyclable(published) && !journal.stats().is_full {
        let keys = retries.keys();
        if !keys.is_empty() {
            let sequence = journal.append_decision(&Entry::Keys(Cow::Owned(keys)));
            journal.wait_durable(sequence)?;
        }
    }
    journal.recycle(published);
    Ok(())
}

/// The key of a request, never 0.
fn key(request: &WriteRequest<'_>, received: &[u8]) -> u128 {
    let WriteRequest { format, precision, atomic, parameters, .. } = request;
    let settings = [codes::of_format(*format), codes::of_precision(*precision), u8::from(*atomic)];
    let names = [parameters.measurement, parameters.time, Some(parameters.tags)];
    let is_named = names.iter().flatten().any(|name| !name.is_empty());
    let mut settings = settings.to_vec();
    if is_named {
        // No name has this byte, so that no two lists of names are one.
        settings
            .extend(names.iter().flat_map(|name| name.unwrap_or_default().bytes().chain([0xff])));
    }
    // What the bytes are for decides over the seed of their hash.
    let (settings, head, bytes) = if let Some(given) = request.idempotency_key {
        (&[][..], &[][..], given)
    } else {
        let (head, bytes) = without_mtime(received);
        (&settings[..], head, bytes)
    };
    let sender = request.sender.to_le_bytes();
    let about = [settings, &sender, head, request.database.as_bytes()].concat();
    #[expect(clippy::cast_possible_truncation, reason = "half of a hash is a hash")]
    let seed = XxHash3_128::oneshot(&about) as u64;
    XxHash3_128::oneshot_with_seed(seed, bytes).max(1)
}

/// A body in two parts that leave out when it was compressed: clients that send again compress
/// again, and the header of gzip has the time (RFC 1952, 2.3: `MTIME`, bytes 4 to 7).
fn without_mtime(received: &[u8]) -> (&[u8], &[u8]) {
    match received.split_at_checked(8) {
        Some((head @ [0x1f, 0x8b, ..], bytes)) => (head.get(..4).unwrap_or_default(), bytes),
        _ => (&[], received),
    }
}
