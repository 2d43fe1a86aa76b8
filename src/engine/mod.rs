//! The wiring: the one place that knows every stage.
//!
//! ```text
//!  shard threads (accept)               flusher thread             writer threads
//!  Shard::write: decode -> gather       a round: seal all shards,  persist: Parquet files
//!      | -> journal (its own thread)    one job for each table     publish: one Delta commit
//!      |  ticket, then the answer
//!      +-- first rows, bytes -- Event --> | -- Command::Seal --> shards
//!  Engine::flush ------------- Event --> | <-- Sealed ----------- shards
//!                                        | -- Job -------------> queue ---> one table at a time,
//!                                        | <- Event::Done ----------------  tried until it is done
//!  Engine::open: recovery replays what the journal holds and the tables do not
//! ```
//!
//! A round covers all shards, so that a flush makes one file for each table and day and not one
//! for each core. Sealed rows are never dropped: a job that fails is tried again, its memory stays
//! accounted, and when the budget is used up, new bodies are refused with "try again later".
//!
//! Only this stage reads a clock.

mod admission;

mod apply;

mod budget;

mod codes;

mod figures;

mod flusher;

mod inspection;

mod instance;

mod published;

mod publisher;

mod queue;

mod recovery;

mod rejected;

mod retries;

mod shard;

mod writer;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc as async_mpsc, oneshot, watch};

pub use self::admission::Admission;
pub use self::apply::WriteRequest;
pub use self::budget::{MemoryUse, PutLast, Resident, Trim};
pub use self::figures::resident_bytes;
pub use self::inspection::{Check, Finding, Inspection, JournalReport, inspect};
pub use self::queue::{FairQueue, QueueTicket, Tenant};
pub use self::rejected::REJECTED;
pub use self::retries::RetryOptions;
pub use self::shard::{Place, ReceivedBody, Shard, Written};
pub use crate::decode::inflate::{Encoding, Inflater};
pub use crate::decode::ipc::{Parameters, StreamError};
pub use crate::decode::line_protocol::LineError;
pub use crate::decode::msgpack::ItemError;
pub use crate::decode::{Format, Precision, Reason, Rejection, Report};
pub use crate::gather::AppendError;
pub use crate::publish::{Column as TableColumn, LogStore, TableState};

use self::budget::Budget;
use self::flusher::{Event, Flusher};
use self::recovery::Recovery;
use self::retries::Retries;
use self::shard::Command;
use crate::disk::Disk;
use crate::durability::Durability;
use crate::error::{BusyReason, ClientError, ServerError, WriteError};
use crate::gather::Registry;
use crate::journal::{self, Entry, Journal, Refusal};
use crate::limits::Limits;
use crate::schema::pinned::PinnedSchema;
use crate::schema::{ColumnKind, Role, Unsigned};
use crate::stats::Stats;

/// What an engine is opened with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where tables and journal are; made when missing.
    pub data_dir: PathBuf,
    /// What the data directory is on.
    pub disk: Arc<dyn Disk>,
    /// Where the Delta logs are, if not on the local disk.
    pub log_store: Option<LogStore>,
    /// What an acknowledged row has survived.
    pub durability: Durability,
    /// Size of a journal file.
    pub wal_segment_bytes: u64,
    /// Which requests are known when they come again.
    pub retries: RetryOptions,
    /// Whether to go on without the records of a corrupt journal.
    pub wal_salvage: bool,
    /// Shards, hence threads that decode, two for each core; at least 1.
    pub shards: usize,
    /// Age of the oldest row that is not in a file at which a flush begins.
    pub flush_interval: Duration,
    /// Bytes in builders, over all shards, at which a flush begins.
    pub flush_bytes: usize,
    /// Bytes of bodies in flight, builders and rows being written; beyond it bodies are refused.
    pub memory_limit: usize,
    /// Tells what the process has in memory: what is not accounted of it leaves less to bodies.
    /// `None`: only what is accounted counts.
    pub resident: Option<Resident>,
    /// Gives memory that is free back to the system; called by threads that nobody waits for.
    /// `None`: the allocator does when it will.
    pub trim: Option<Trim>,
    /// Has the threads of large bodies run when no other will. `None`: they are nice.
    pub put_last: Option<PutLast>,
    /// How long [`Engine::close`] tries to write what is left.
    pub close_timeout: Duration,
    /// The bounds of bodies and tables.
    pub limits: Limits,
    /// How unsigned columns are written.
    pub unsigned: Unsigned,
    /// Measurements whose columns are known in advance.
    pub pins: Vec<PinnedSchema>,
    /// For the tests that show that the tests can fail.
    #[doc(hidden)]
    pub sabotage: Option<Sabotage>,
}

/// A fault built in on purpose.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sabotage {
    /// The journal is recycled when rows are sealed, not when they are published.
    RecycleEarly,
    /// Commits do not name the sequences of their rows.
    OmitSequences,
}

/// The engine, shared by all threads.
#[derive(Debug)]
pub struct Engine {
    registry: Arc<Registry>,
    journal: Arc<Journal>,
    retries: Arc<Retries>,
    durability: Durability,
    /// Why the journal failed, once it has.
    journal_failure: watch::Receiver<Option<Arc<str>>>,
    stats: Arc<Stats>,
    budget: Arc<Budget>,
    events: mpsc::Sender<Event>,
    /// The receiving end of each shard's commands, until the shard is made.
    commands: Mutex<Vec<Option<async_mpsc::UnboundedReceiver<Command>>>>,
    flusher: Mutex<Option<JoinHandle<()>>>,
    is_closing: AtomicBool,
    trim: Option<Trim>,
    put_last: Option<PutLast>,
}

/// What a flush wrote.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct FlushReport {
    /// Files that became visible.
    pub files: u64,
    /// Rows in them.
    pub rows: u64,
}

/// A measurement, as `/api/v1/tables` shows it.
#[derive(Clone, Debug)]
pub struct TableInfo {
    /// Its database.
    pub database: String,
    /// Its name.
    pub measurement: String,
    /// Its columns in the order of first acceptance, `time` first.
    pub columns: Vec<ColumnInfo>,
    /// Rows accepted, in this run or before.
    pub rows: u64,
    /// Files written, in this run or before.
    pub files: u64,
    /// Bytes of these files.
    pub bytes: u64,
}

/// A column, as `/api/v1/tables` shows it.
#[derive(Clone, Debug)]
pub struct ColumnInfo {
    /// Its name on the wire.
    pub name: String,
    /// What it holds.
    pub kind: ColumnKind,
    /// What it is to its rows.
    pub role: Role,
}

impl Engine {
    /// Opens the data directory, brings back what the last run left, and starts the threads that
    /// write. When this returns, everything that was acknowledged is in published files.
    ///
    /// # Errors
    /// When the directory cannot be made or is locked by another process, when the journal or a
    /// Delta log is corrupt, when a thread cannot start.
    pub fn open(options: &Options) -> Result<Arc<Self>, ServerError> {
        let pins = options.pins.clone();
        let registry = Arc::new(Registry::new(options.limits, options.unsigned, pins));
        let stats = Arc::new(Stats::default());
        let (failed, journal_failure) = watch::channel(None);
        let Recovery { publisher, journal, retries } =
            Recovery::run(options, &registry, &stats, failed)?;
        if let Some(trim) = options.trim {
            trim();
        }
        registry.set_witness(witness(&journal));
        let shards = options.shards.max(1);
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..shards)
            .map(|_| async_mpsc::unbounded_channel())
            .map(|(sender, receiver)| (sender, Some(receiver)))
            .unzip();
        let (events, inbox) = mpsc::channel();
        let (limit, flush_bytes) = (options.memory_limit, options.flush_bytes);
        let budget = Arc::new(Budget::new(limit, flush_bytes, shards, options.resident));
        let flusher = Flusher::new(
            flusher::Wiring {
                registry: Arc::clone(&registry),
                publisher,
                sabotage: options.sabotage,
                journal: Arc::clone(&journal),
                retries: Arc::clone(&retries),
                stats: Arc::clone(&stats),
                budget: Arc::clone(&budget),
                shards: senders,
                events: events.clone(),
                trim: options.trim,
            },
            options.flush_interval,
            options.close_timeout,
            shards.div_ceil(4),
        )?;
        let thread = std::thread::Builder::new()
            .name("flusher".to_owned())
            .spawn(move || flusher.run(&inbox))
            .map_err(|source| ServerError::Io { action: "starting the flusher thread", source })?;
        Ok(Arc::new(Self {
            registry,
            journal,
            retries,
            durability: options.durability,
            journal_failure,
            stats,
            budget,
            events,
            commands: Mutex::new(receivers),
            flusher: Mutex::new(Some(thread)),
            is_closing: AtomicBool::new(false),
            trim: options.trim,
            put_last: options.put_last,
        }))
    }

    /// Makes a place for a body as it was received: room in the journal for its record, and the
    /// knowledge whether it was stored before. Waits while the one is made, or the same request is
    /// decoded.
    ///
    /// # Errors
    /// `Busy(DiskFull)`, `Busy(JournalFailed)`, `Busy(ShuttingDown)`, `BodyTooLarge`.
    pub async fn place(
        &self,
        request: &WriteRequest<'_>,
        received: &[u8],
    ) -> Result<Place, WriteError> {
        let names = request.parameters;
        let named = [names.measurement, names.time, Some(names.tags)];
        let name_bytes: usize = named.into_iter().flatten().map(str::len).sum();
        let reserved = self.journal.reserve(received.len().saturating_add(name_bytes)).await;
        let reservation = reserved.map_err(|refusal| match refusal {
            Refusal::Closed => BusyReason::ShuttingDown.into(),
            Refusal::DiskFull => BusyReason::DiskFull.into(),
            Refusal::Failed => WriteError::from(BusyReason::JournalFailed),
            Refusal::TooLarge => ClientError::BodyTooLarge { max: received.len() }.into(),
        })?;
        let claim = self.retries.claim(request, received).await;
        Ok(Place { reservation, claim })
    }

    /// Whether nearly all of the memory limit is resident: then what is free should not be kept.
    pub fn is_nearly_resident(&self) -> bool {
        self.budget.is_nearly_resident()
    }

    /// Whether half of the memory limit is resident.
    pub fn is_half_resident(&self) -> bool {
        self.budget.is_half_resident()
    }

    /// Gives memory that is free back to the system, as [`Options::trim`] does.
    pub fn trim(&self) {
        if let Some(trim) = self.trim {
            trim();
        }
    }

    /// What [`Options::put_last`] is.
    pub fn put_last(&self) -> Option<PutLast> {
        self.put_last
    }

    /// What an acknowledged row has survived.
    pub fn durability(&self) -> Durability {
        self.durability
    }

    /// Waits until the journal has failed, for ever if it does not; gives back why. Nothing is
    /// acknowledged any more, and the process should end: the next start finds out what is stored.
    pub async fn journal_failed(&self) -> Arc<str> {
        let mut failure = self.journal_failure.clone();
        let failed = failure.wait_for(Option::is_some).await.map(|failed| failed.clone());
        match failed {
            Ok(Some(cause)) => cause,
            // The journal was closed.
            _ => std::future::pending().await,
        }
    }

    /// Writes everything accepted before this call to files.
    ///
    /// # Errors
    /// `Busy(DiskFull)` or `Server(Flush)` at the first table that cannot be written; its rows are
    /// kept and tried again. `Busy(ShuttingDown)` after [`Engine::close`].
    pub async fn flush(&self, database: Option<&str>) -> Result<FlushReport, WriteError> {
        let (reply, answer) = oneshot::channel();
        let database = database.map(str::to_owned);
        let sent = self.events.send(Event::Flush { database, reply });
        match sent {
            Ok(()) => answer.await.unwrap_or_else(|_| Err(BusyReason::ShuttingDown.into())),
            Err(_) => Err(BusyReason::ShuttingDown.into()),
        }
    }

    /// Names of all databases, sorted.
    pub fn databases(&self) -> Vec<String> {
        self.registry.databases().iter().map(ToString::to_string).collect()
    }

    /// Makes a database; one that exists is no error.
    ///
    /// # Errors
    /// `TooManyDatabases`.
    pub fn create_database(&self, name: &str) -> Result<(), WriteError> {
        let max = self.limits().databases_max;
        if self.registry.create_database(name) {
            Ok(())
        } else {
            Err(ClientError::TooManyDatabases { max }.into())
        }
    }

    /// Removes a database with its rows and files; one that does not exist is no error.
    ///
    /// # Errors
    /// `Server(Io)` when files could not be removed, `Busy(ShuttingDown)`.
    pub async fn drop_database(&self, name: &str) -> Result<(), WriteError> {
        let (reply, answer) = oneshot::channel();
        match self.events.send(Event::Drop { database: name.to_owned(), reply }) {
            Ok(()) => answer.await.unwrap_or_else(|_| Err(BusyReason::ShuttingDown.into())),
            Err(_) => Err(BusyReason::ShuttingDown.into()),
        }
    }

    /// The measurements of one database or of all, sorted.
    pub fn tables(&self, database: Option<&str>) -> Vec<TableInfo> {
        let time = || ColumnInfo {
            name: crate::schema::TIME.to_owned(),
            kind: ColumnKind::Time,
            role: Role::Time,
        };
        let measurements = self.registry.measurements(database);
        let table = |it: &crate::gather::Measurement| TableInfo {
            database: it.database.to_string(),
            measurement: it.name.to_string(),
            columns: std::iter::once(time())
                .chain(it.columns().into_iter().map(|column| ColumnInfo {
                    name: column.name.to_string(),
                    kind: column.kind,
                    role: column.role,
                }))
                .collect(),
            rows: it.rows(),
            files: it.files(),
            bytes: it.bytes(),
        };
        measurements.iter().map(|it| table(it)).collect()
    }

    /// Whether writes are taken.
    pub fn is_ready(&self) -> bool {
        !self.is_closing.load(Ordering::Acquire)
    }

    /// The counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The bounds in force.
    pub fn limits(&self) -> &Limits {
        self.registry.limits()
    }

    /// Writes what is left and ends the threads. Call it when the shards are gone.
    ///
    /// # Errors
    /// `Server(Flush)` when rows could not be published within `close_timeout`: they are in the
    /// journal, if there is one.
    pub fn close(&self) -> Result<(), WriteError> {
        self.is_closing.store(true, Ordering::Release);
        // A shard that was never made must not be waited for.
        self.commands.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let (reply, answer) = oneshot::channel();
        if self.events.send(Event::Close { reply }).is_err() {
            return Ok(());
        }
        let result = answer.blocking_recv().unwrap_or(Ok(()));
        let thread = self.flusher.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Err(_)) = thread.map(JoinHandle::join) {
            tracing::error!("the flusher thread ended by a panic");
        }
        self.journal.close();
        result
    }
}

/// Has decisions about columns written down before any row that needs them.
fn witness(journal: &Arc<Journal>) -> crate::gather::Witness {
    let journal = Arc::clone(journal);
    Box::new(move |measurement, columns| {
        journal.append_decision(&Entry::Columns(journal::Columns {
            database: &measurement.database,
            measurement: &measurement.name,
            columns: columns.iter().map(codes::of_column).collect(),
        }));
    })
}
