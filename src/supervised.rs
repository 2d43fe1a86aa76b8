//! What systemd is told, where it asks (`NOTIFY_SOCKET`): `Type=notify` and `WatchdogSec=`.
//!
//! ```text
//! EXTEND_TIMEOUT_USEC, again and again   while the journal is replayed, however long that takes
//! READY=1                                when everything acknowledged is published
//! WATCHDOG=1, twice in its time          while the threads that accept and flush answer
//! STOPPING=1, EXTEND_TIMEOUT_USEC        while requests end and rows are written
//! ```

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use sd_notify::NotifyState;

/// What a notification extends the time by.
const EXTENSION_US: u32 = 30_000_000;
/// How often it is extended.
const EXTEND_EVERY: Duration = Duration::from_secs(10);

/// Says the same again until it is dropped.
#[derive(Debug)]
pub(crate) struct Repeated(
    #[expect(dead_code, reason = "its drop ends the thread")] mpsc::Sender<()>,
);

/// Says one thing.
fn tell(state: &NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(std::slice::from_ref(state)) {
        tracing::warn!(%error, "systemd cannot be told");
    }
}

/// Begins with `action`, and does it again after each `every`, on a thread of its own.
fn repeat(every: Duration, mut action: impl FnMut() + Send + 'static) -> Repeated {
    let (end, ended) = mpsc::channel::<()>();
    thread::spawn(move || {
        loop {
            action();
            if ended.recv_timeout(every) != Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    });
    Repeated(end)
}

/// While this is held, the start may take longer.
pub(crate) fn starting() -> Repeated {
    repeat(EXTEND_EVERY, || tell(&NotifyState::ExtendTimeoutUsec(EXTENSION_US)))
}

/// Everything acknowledged before is published, and requests are taken.
pub(crate) fn ready() {
    tell(&NotifyState::Ready);
}

/// While this is held, the watchdog hears that `is_alive`, if systemd asks for it.
pub(crate) fn watchdog(is_alive: impl Fn() -> bool + Send + 'static) -> Option<Repeated> {
    let time = sd_notify::watchdog_enabled()?;
    Some(repeat(time / 2, move || {
        if is_alive() {
            tell(&NotifyState::Watchdog);
        }
    }))
}

/// While this is held, the end may take longer.
pub(crate) fn stopping() -> Repeated {
    tell(&NotifyState::Stopping);
    repeat(EXTEND_EVERY, || tell(&NotifyState::ExtendTimeoutUsec(EXTENSION_US)))
}
