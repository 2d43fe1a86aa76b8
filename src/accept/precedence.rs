//! Who comes first where there is not enough processor time: whoever reads sockets and writes the
//! journal, before the thread of large bodies.
//!
//! Between equals a thread that wakes up waits for up to 4 ms until it has the processor, and even
//! beside a nice one, if that has just got it. Beside one that runs only when no other will
//! (`SCHED_IDLE`) it does not wait. But where others take all there is, such a thread gets three
//! thousandths of a core. So it is last only while it has a body, and looked at meanwhile: if it
//! does not get on, it is as any other, but nice, for a while. Where the system does not allow the
//! way back, it always is.

use std::cell::Cell;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::setpriority_process;
use rustix::thread::gettid;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::engine::{Engine, PutLast};

/// A tenth of what others get.
const NICE: i32 = 10;
/// How often it is looked at whether the thread gets on.
const LOOKED_AT: Duration = Duration::from_millis(50);
/// Processor time in between below which it does not.
const STARVED_BELOW: Duration = Duration::from_millis(10);
/// For how long it is then as any other.
const RAISED_FOR: Duration = Duration::from_secs(1);
/// Of a line of `schedstat`: three numbers.
const SCHEDSTAT_BYTES_MAX: usize = 64;

/// A thread that may be put last, and raised again.
#[derive(Debug)]
pub(super) struct Standing {
    thread: i32,
    /// Nanoseconds on a processor, and what else the system tells of it.
    schedstat: File,
    put_last: PutLast,
    is_raised: AtomicBool,
}

impl Standing {
    /// Makes this thread nice, and says whether more can be done.
    pub(super) fn of_this_thread(engine: &Engine) -> Option<Arc<Self>> {
        if let Err(error) = setpriority_process(None, NICE) {
            tracing::warn!(%error, "large bodies are decoded at the priority of all others");
        }
        let put_last = engine.put_last()?;
        let schedstat = File::open("/proc/thread-self/schedstat").ok()?;
        // A thread without a way back would stay last.
        let way = move || put_last(0, true).and_then(|()| put_last(0, false));
        thread::Builder::new().spawn(way).ok()?.join().ok()?.ok()?;
        let thread = gettid().as_raw_nonzero().get();
        Some(Arc::new(Self { thread, schedstat, put_last, is_raised: AtomicBool::new(false) }))
    }

    /// Does on this thread, which is last meanwhile, what takes long.
    pub(super) fn last(&self, job: impl FnOnce()) {
        if self.is_raised.load(Ordering::Relaxed) {
            return job();
        }
        self.set(true);
        job();
        self.set(false);
    }

    fn set(&self, is_last: bool) {
        if let Err(error) = (self.put_last)(self.thread, is_last) {
            tracing::warn!(%error, is_last, "the thread of large bodies stays where it is");
        }
    }

    /// Time that the thread had a processor, exact to a tick of the system.
    fn spent(&self) -> Duration {
        let mut text = [0; SCHEDSTAT_BYTES_MAX];
        let len = self.schedstat.read_at(&mut text, 0).unwrap_or(0);
        let text = str::from_utf8(text.get(..len).unwrap_or_default()).unwrap_or_default();
        Duration::from_nanos(text.split(' ').next().and_then(|it| it.parse().ok()).unwrap_or(0))
    }
}

/// What the shard knows of the thread, and does about it.
#[derive(Debug)]
pub(super) struct Precedence {
    engine: Arc<Engine>,
    standing: Arc<Standing>,
    /// Until when the thread is as any other.
    raised_until: Cell<Option<Instant>>,
}

impl Precedence {
    pub(super) fn new(engine: Arc<Engine>, standing: Arc<Standing>) -> Self {
        Self { engine, standing, raised_until: Cell::default() }
    }

    /// Waits for what the thread sends, and sees to it that it gets on.
    pub(super) async fn wait<T>(
        &self,
        mut done: oneshot::Receiver<T>,
    ) -> Result<T, oneshot::error::RecvError> {
        if self.raised_until.get().is_some_and(|it| it <= self.engine.now()) {
            self.raised_until.set(None);
            self.standing.is_raised.store(false, Ordering::Relaxed);
        }
        loop {
            let before = self.standing.spent();
            if let Ok(done) = timeout(LOOKED_AT, &mut done).await {
                return done;
            }
            let got = self.standing.spent().saturating_sub(before);
            if self.raised_until.get().is_none() && got < STARVED_BELOW {
                self.raise();
            }
        }
    }

    fn raise(&self) {
        self.raised_until.set(Some(self.engine.now() + RAISED_FOR));
        self.standing.is_raised.store(true, Ordering::Relaxed);
        self.standing.set(false);
    }
}

impl Drop for Precedence {
    /// Whoever drops it waits for the end of the thread.
    fn drop(&mut self) {
        self.raise();
    }
}
