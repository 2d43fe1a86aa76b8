//! One shard: the tables of one thread, and what the flusher may ask of them.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, PoisonError, mpsc};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc as async_mpsc, oneshot};

use super::Engine;
use super::budget::Budget;
use super::flusher::Event;
use crate::decode::cursor::Body;
use crate::decode::{Context, Format, Precision, Reason, Rejection, Report};
use crate::decode::{line_protocol, msgpack};
use crate::error::{ClientError, WriteError};
use crate::gather::{Atomicity, Chunk, Registry, Tables};
use crate::timestamp::Timestamp;

/// What the flusher asks of a shard.
#[derive(Debug)]
pub(super) enum Command {
    /// Seal all tables, or those of one database.
    Seal {
        /// The database, or all.
        database: Option<String>,
        /// Whether series are to be forgotten.
        is_tight: bool,
        /// Where the chunks go.
        reply: oneshot::Sender<Vec<Chunk>>,
    },
    /// Forget a database and its rows.
    Drop {
        /// The database.
        database: String,
        /// Told when it is done.
        reply: oneshot::Sender<()>,
    },
}

/// What a body is, besides its bytes.
#[derive(Clone, Copy, Debug)]
pub struct WriteRequest<'a> {
    /// Where its rows go; made when it is new.
    pub database: &'a str,
    /// Its format.
    pub format: Format,
    /// Unit of its timestamps, for line protocol.
    pub precision: Precision,
    /// Whether one refused row refuses all of them.
    pub atomic: bool,
}

/// The tables of one thread. Lives on that thread, in an `Rc<RefCell<_>>`.
///
/// When it is dropped, the rows it holds go to the flusher.
#[derive(Debug)]
pub struct Shard {
    index: usize,
    registry: Arc<Registry>,
    tables: Tables,
    budget: Arc<Budget>,
    events: mpsc::Sender<Event>,
    commands: Option<async_mpsc::UnboundedReceiver<Command>>,
    /// Whether rows came since the last seal.
    is_dirty: bool,
}

impl Shard {
    /// The shard `index` of `engine`.
    pub fn new(engine: &Engine, index: usize) -> Self {
        let mut commands = engine.commands.lock().unwrap_or_else(PoisonError::into_inner);
        Self {
            index,
            registry: Arc::clone(&engine.registry),
            tables: Tables::new(Arc::clone(&engine.registry)),
            budget: Arc::clone(&engine.budget),
            events: engine.events.clone(),
            commands: commands.get_mut(index).and_then(Option::take),
            is_dirty: false,
        }
    }

    /// Does what the flusher asks, until the engine is gone. A task of the shard's thread.
    pub async fn commands(shard: Rc<RefCell<Self>>) {
        let commands = shard.borrow_mut().commands.take();
        let Some(mut commands) = commands else { return };
        while let Some(command) = commands.recv().await {
            shard.borrow_mut().obey(command);
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Seal { database, is_tight, reply } => {
                let chunks = self.tables.take_chunks(database.as_deref(), is_tight);
                self.is_dirty = database.is_some() && self.is_dirty;
                self.account();
                if let Err(chunks) = reply.send(chunks) {
                    // The round was given up; the rows are not.
                    self.hand_over(chunks);
                }
            }
            Command::Drop { database, reply } => {
                self.tables.drop_database(&database);
                self.account();
                // Nobody waiting is nobody to tell.
                let _ = reply.send(());
            }
        }
    }

    /// Decodes a body into the tables. `body` is inflated; slack is appended to it.
    ///
    /// Rows are taken one by one unless the request is atomic; what was refused is in the report.
    /// Cost: one pass over the body; see the copy ledger in ARCHITECTURE.md.
    ///
    /// # Errors
    /// `TooManyDatabases`. A refused row is no error.
    pub fn write(
        &mut self,
        request: &WriteRequest<'_>,
        body: &mut Vec<u8>,
    ) -> Result<Report, WriteError> {
        let limits = *self.registry.limits();
        let max = limits.databases_max;
        let database =
            self.tables.database(request.database).ok_or(ClientError::TooManyDatabases { max })?;
        database.begin_write(if request.atomic { Atomicity::Body } else { Atomicity::Rows });
        let context =
            Context { precision: request.precision, received: wall_clock(), limits: &limits };
        let mut report = Report::default();
        let body = Body::new(body);
        match request.format {
            Format::LineProtocol => {
                line_protocol::decode(body, &context, database, &mut report);
            }
            Format::MessagePack => msgpack::decode(body, &context, database, &mut report),
        }
        if request.atomic && report.rejected > 0 {
            database.abort_write();
            report.accepted = 0;
        } else if let Err(error) = database.end_write() {
            let end = body.bytes().len();
            report.accepted = 0;
            report.reject(
                &limits,
                Rejection { line: 1, start: 0, end, reason: Reason::Append(error) },
            );
        }
        if report.accepted > 0 && !self.is_dirty {
            self.is_dirty = true;
            self.tell(Event::Dirty(monotonic_clock()));
        }
        self.account();
        Ok(report)
    }

    /// Publishes what this shard holds, and asks for a flush when that is too much.
    fn account(&self) {
        if self.budget.hold(self.index, self.tables.row_bytes(), self.tables.series_bytes()) {
            self.tell(Event::Full);
        }
    }

    /// Sends an event. The flusher outlives the shards: `Engine::close` comes after them.
    fn tell(&self, event: Event) {
        if self.events.send(event).is_err() {
            tracing::error!("the flusher is gone before its shards");
        }
    }

    /// Gives rows to the flusher outside a round.
    fn hand_over(&self, chunks: Vec<Chunk>) {
        if !chunks.is_empty() {
            self.tell(Event::Left(chunks));
        }
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        let chunks = self.tables.take_chunks(None, true);
        self.hand_over(chunks);
        self.account();
    }
}

/// The time of a row that carries none.
#[expect(clippy::disallowed_methods, reason = "the engine is where time comes from")]
fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_ns(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

/// For ages and deadlines.
#[expect(clippy::disallowed_methods, reason = "the engine is where time comes from")]
pub(super) fn monotonic_clock() -> Instant {
    Instant::now()
}
