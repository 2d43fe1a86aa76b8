//! The thread beside that of a shard, for bodies that take long.
//!
//! ```text
//! thread "shard-0"                                  thread "bulk-0"
//! connections, small bodies --> its own tables      a shard of its own
//! large bodies -- turn, by tenant ---- job -------> inflate, decode --> its own tables
//!                 answer <------------------------- what became of them
//! ```
//!
//! A decoder holds the tables of its shard from the first row of a body to the last, and a thread
//! that decodes reads no socket. So whoever waits behind a body waits for all of it: a megabyte of
//! good lines is half a millisecond of that, one made to hurt a hundred. The scheduler of the
//! system does not wait, where it knows who comes first (`precedence`).

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{future, io};

use tokio::runtime::Builder as RuntimeBuilder;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::precedence::{Precedence, Standing};
use super::turns::Turns;
use crate::engine::{Engine, Format, Shard};
use crate::error::{BusyReason, WriteError};

/// Bodies of more bytes, inflated, are decoded by the bulk thread: what a shard decodes in about a
/// millisecond. What nests costs more a byte, above all where it is not what it says.
const LINES_BYTES_MAX: usize = 1 << 20;
const TREES_BYTES_MAX: usize = 256 << 10;

/// Memory that jobs leave behind is kept for the next one while there is enough: it is given back
/// after so long without any; each interval where half of the memory limit is resident; and after
/// each job where most of it is.
const IDLE: Duration = Duration::from_secs(1);
const TRIM_INTERVAL: Duration = Duration::from_millis(500);

/// What the thread is given to do.
type Job = Box<dyn FnOnce(&mut Shard) + Send>;

/// The way to the thread; its drop waits for its last job and its end.
#[derive(Debug)]
pub(super) struct Bulk {
    /// Before the thread: it ends when this is gone.
    jobs: mpsc::UnboundedSender<Job>,
    /// Where the thread may be put last; before it, too.
    precedence: Option<Precedence>,
    _thread: Joined,
    /// Of large bodies; admission bounds how many there can be.
    pub(super) turns: Rc<Turns>,
}

/// A thread whose end is waited for.
#[derive(Debug)]
struct Joined(Option<JoinHandle<()>>);

impl Drop for Joined {
    fn drop(&mut self) {
        if let Some(Err(_)) = self.0.take().map(JoinHandle::join) {
            tracing::error!("a bulk thread ended by a panic");
        }
    }
}

impl Bulk {
    /// Starts the thread, with the shard `index` of `engine`.
    ///
    /// # Errors
    /// The thread could not be made.
    pub(super) fn start(engine: &Arc<Engine>, index: usize, name: String) -> io::Result<Self> {
        let (jobs, given) = mpsc::unbounded_channel();
        let (begun, standing) = std::sync::mpsc::sync_channel(1);
        let (watched, engine) = (Arc::clone(engine), Arc::clone(engine));
        let runtime = RuntimeBuilder::new_current_thread().enable_time().build()?;
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            let standing = Standing::of_this_thread(&engine);
            // Whoever started the thread waits for this.
            begun.send(standing.clone()).ok();
            runtime.block_on(work(&engine, Shard::new(&engine, index), given, standing));
        })?;
        let standing = standing.recv().ok().flatten();
        let precedence = standing.map(|standing| Precedence::new(watched, standing));
        Ok(Self { jobs, precedence, _thread: Joined(Some(thread)), turns: Rc::default() })
    }

    /// Has the thread do `job`, and waits for what comes of it. It is done, too, when nobody waits
    /// any more.
    ///
    /// # Errors
    /// `Busy(ShuttingDown)`: the thread has ended.
    ///
    /// # Panics
    /// As `job` does; the thread goes on.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Shard) -> T + Send + 'static,
    ) -> Result<T, WriteError> {
        let (reply, done) = oneshot::channel();
        let sent = self.jobs.send(Box::new(move |shard| {
            // Nobody waiting is nobody to tell.
            let _ = reply.send(catch_unwind(AssertUnwindSafe(|| job(shard))));
        }));
        sent.map_err(|_| BusyReason::ShuttingDown)?;
        let done = match &self.precedence {
            Some(precedence) => precedence.wait(done).await,
            None => done.await,
        };
        match done.map_err(|_| BusyReason::ShuttingDown)? {
            Ok(done) => Ok(done),
            Err(panic) => resume_unwind(panic),
        }
    }
}

/// Inflated bytes above which a body of this format is one for the bulk thread.
pub(super) fn bytes_max(format: Format) -> usize {
    match format {
        Format::Arrow | Format::LineProtocol | Format::QuestDb => LINES_BYTES_MAX,
        Format::Json | Format::MessagePack => TREES_BYTES_MAX,
    }
}

/// Does jobs, and what the flusher asks between them, until there is nobody who gives any.
async fn work(
    engine: &Engine,
    shard: Shard,
    mut given: mpsc::UnboundedReceiver<Job>,
    standing: Option<Arc<Standing>>,
) {
    let shard = Rc::new(RefCell::new(shard));
    let commands = async {
        Shard::commands(Rc::clone(&shard)).await;
        future::pending::<()>().await;
    };
    let jobs = async {
        // When the first job began since memory was given back.
        let mut since: Option<Instant> = None;
        loop {
            let next = match since {
                Some(_) if engine.is_nearly_resident() => None,
                Some(since)
                    if engine.now() - since >= TRIM_INTERVAL && engine.is_half_resident() =>
                {
                    None
                }
                Some(_) => timeout(IDLE, given.recv()).await.ok(),
                None => Some(given.recv().await),
            };
            match next {
                Some(Some(job)) => {
                    since.get_or_insert_with(|| engine.now());
                    let job = || job(&mut shard.borrow_mut());
                    match &standing {
                        Some(standing) => standing.last(job),
                        None => job(),
                    }
                }
                Some(None) => return,
                None => {
                    engine.trim();
                    since = None;
                }
            }
        }
    };
    tokio::select! {
        biased;
        () = commands => {}
        () = jobs => {}
    }
}
