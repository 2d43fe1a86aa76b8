//! What a start does before the first request: the tables as the Delta logs have them, then what
//! the journal holds beyond them.
//!
//! ```text
//! journal: checked from end to end, made durable, dropped databases noted
//!   -> databases whose removal was cut short are removed
//!   -> Delta logs: columns into the registry, and how far each shard is published in each table
//!   -> files that no log ever knew are removed
//!   -> records again, in order: decided columns, then rows; those a table has are dropped
//!   -> all tables published, the journal recycled
//! ```
//!
//! A crash anywhere in here leaves a state that the next start reads the same way: rows are dropped
//! or kept by what the logs say, and a commit says it in one piece with its files.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::watch;

use super::Options;
use super::apply::{Circumstances, WriteRequest, apply};
use super::codes;
use super::instance::Instance;
use super::published::{Committed, Others};
use super::publisher::{Publisher, TableRows, by_table, with_sources};
use super::retries::{Retries, recycle};
use super::shard::{Sealed, monotonic_clock, saturated};
use crate::decode::inflate::{Encoding, Inflater};
use crate::decode::ipc::Parameters;
use crate::decode::json;
use crate::error::{BusyReason, ServerError, WriteError};
use crate::gather::{Column, Measurement, Registry, Tables};
use crate::journal::{self, Columns, Entry, Journal, JournalError, Record, Recovered, Write};
use crate::limits::Limits;
use crate::persist::Store;
use crate::publish::{self, Catalog, TableState};
use crate::schema::{ColumnKind, Role, StoredType, Unsigned};
use crate::stats::Stats;

/// Directory of the journal, below the data directory.
pub(super) const WAL: &str = "wal";
/// Bytes of replayed rows at which they are published.
const PUBLISH_BYTES: usize = 256 << 20;
/// Wait before the second try when the disk is full; doubled for each further one.
const RETRY_AFTER_MIN: Duration = Duration::from_millis(100);
/// Longest wait between two tries.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(5);

/// What a start brings back.
#[derive(Debug)]
pub(super) struct Recovery {
    pub(super) publisher: Arc<Publisher>,
    pub(super) journal: Arc<Journal>,
    pub(super) retries: Arc<Retries>,
}

impl Recovery {
    /// Does all of it. `failed` is told why the journal fails, should it.
    ///
    /// # Errors
    /// See [`super::Engine::open`].
    pub(super) fn run(
        options: &Options,
        registry: &Arc<Registry>,
        stats: &Arc<Stats>,
        failed: watch::Sender<Option<Arc<str>>>,
    ) -> Result<Self, ServerError> {
        let begun = monotonic_clock();
        let Options { data_dir, disk, .. } = options;
        let store = Arc::new(Store::open(Arc::clone(disk), data_dir)?);
        let journal_options = journal::Options {
            durability: options.durability,
            segment_bytes: options.wal_segment_bytes,
            salvage: options.wal_salvage,
            ..journal::Options::default()
        };
        let wal = data_dir.join(WAL);
        let mut recovered = journal::open(Arc::clone(disk), &wal, &journal_options)?;
        tell_of(&recovered);
        recovered.make_durable()?;
        let instance = Instance::new(recovered.instance);
        let survey = Survey::of(&recovered)?;
        for database in survey.unfinished_drops() {
            store.remove_database(database)?;
        }
        let publish_options = publish::Options::default();
        let catalog = match &options.log_store {
            Some(logs) => Catalog::open_store(Arc::clone(logs), publish_options)?,
            None => Catalog::open(data_dir, publish_options)?,
        };
        let catalog = Arc::new(catalog);
        let loaded = catalog.load()?;
        for file in &loaded.repaired {
            let file = file.display();
            tracing::warn!(%file, "set aside: it was torn or damaged");
        }
        for TableState { database, measurement, .. } in &loaded.tables {
            // A run that was killed may have named a commit, and not synced the name.
            store.sync_log(database, measurement)?;
        }
        restore(registry, &loaded.tables)?;
        for database in store.databases()? {
            registry.create_database(&database);
        }
        let committed = Committed::of(&catalog, &instance, &loaded.tables)?;
        let others = Others { store: &store, instance: &instance, released: recovered.released() };
        let next_sequence = others.remove(&committed, options.wal_salvage)?;
        let next_sequence = AtomicU64::new(next_sequence);
        let (sabotage, stats) = (options.sabotage, Arc::clone(stats));
        let mut publisher = Publisher { store, catalog, instance, sabotage, next_sequence, stats };
        let mut replay = Replay::new(registry, &publisher, &survey);
        replay.is_salvage = options.wal_salvage;
        replay.released = recovered.released();
        let report = replay.run(&recovered)?;
        let last_sequence = recovered.last_sequence().max(committed.journal);
        let on_failure = move |error: JournalError| {
            failed.send_replace(Some(with_sources(&error).into()));
        };
        let journal = recovered.start(last_sequence + 1, Box::new(on_failure))?;
        publisher.instance = Instance::new(journal.instance());
        let retries = Arc::new(Retries::new(options.retries, &survey.keys));
        recycle(&journal, &retries, last_sequence)?;
        let ReplayReport { records, rows, files } = report;
        let replay = &publisher.stats.replay;
        replay.records.add(records);
        replay.rows.add(rows);
        replay.files.add(files);
        let taken_us = monotonic_clock().duration_since(begun).as_micros();
        replay.duration_us.add(u64::try_from(taken_us).unwrap_or(u64::MAX));
        if records > 0 {
            tracing::info!(records, rows, files, "replayed the journal");
        }
        Ok(Self { publisher: Arc::new(publisher), journal: Arc::new(journal), retries })
    }
}

/// Logs what was found at the end of a journal, or in its middle.
fn tell_of(journal: &Recovered) {
    if let Some(torn) = journal.torn() {
        let (file, byte) = (torn.file.display(), torn.offset);
        tracing::info!(%file, byte, "the journal ends in a record that nobody was told of");
    }
    if let Some(salvage) = journal.salvaged() {
        let (gaps, records) = (salvage.gaps, salvage.records);
        tracing::error!(gaps, records, "the journal is corrupt: acknowledged records are lost");
    }
}

/// What must be known of the whole journal before the first record is replayed.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// Databases that were dropped last.
    drops: HashMap<String, Drop>,
    /// Keys of requests that were stored, oldest first.
    keys: Vec<u128>,
}

#[derive(Clone, Copy, Debug)]
struct Drop {
    /// Where.
    sequence: u64,
    /// Whether its files were gone.
    is_done: bool,
}

impl Survey {
    fn of(journal: &Recovered) -> Result<Self, ServerError> {
        let mut survey = Self::default();
        journal.records(|record| {
            survey.note(&record);
            Ok::<(), JournalError>(())
        })?;
        Ok(survey)
    }

    pub(super) fn note(&mut self, record: &Record<'_>) {
        match &record.entry {
            Entry::Drop { database } => {
                let drop = Drop { sequence: record.sequence, is_done: false };
                self.drops.insert((*database).to_owned(), drop);
            }
            Entry::Dropped { database, sequence } => {
                if let Some(drop) = self.drops.get_mut(*database) {
                    drop.is_done |= drop.sequence == *sequence;
                }
            }
            Entry::Keys(keys) => self.keys.extend(keys.iter()),
            Entry::Write(Write { request_key: 0, .. }) | Entry::Columns(_) => {}
            Entry::Write(write) => self.keys.push(write.request_key),
        }
    }

    /// Databases whose files may still be there: all of them are of before.
    pub(super) fn unfinished_drops(&self) -> impl Iterator<Item = &str> {
        self.drops.iter().filter(|(_, drop)| !drop.is_done).map(|(database, _)| database.as_str())
    }

    /// Whether a record of a database is of before it was dropped.
    pub(super) fn is_dropped(&self, database: &str, sequence: u64) -> bool {
        self.drops.get(database).is_some_and(|drop| sequence < drop.sequence)
    }
}

/// Makes known what the logs say about columns.
pub(super) fn restore(registry: &Registry, tables: &[TableState]) -> Result<(), ServerError> {
    for table in tables {
        let unsigned = table.columns.iter().find_map(unsigned_of);
        // `time` and `time_ns` are known without asking.
        let columns = table.columns.iter().filter(|column| column.role != Role::Time);
        let columns: Vec<Column> = columns.map(column_of).collect();
        let measurement = registry
            .restore(&table.database, &table.measurement, &columns, unsigned)
            .map_err(|error| ServerError::Recovery { cause: error.to_string().into() })?;
        measurement.add_stored(table.rows, table.files, table.bytes);
    }
    Ok(())
}

/// The replay of a journal.
#[derive(Debug)]
struct Replay<'a> {
    registry: &'a Arc<Registry>,
    publisher: &'a Publisher,
    survey: &'a Survey,
    /// The last sequence of a shard that a table has, once it was asked for.
    published: HashMap<(Arc<str>, Arc<str>, u16), u64>,
    /// Tables by the shard that once wrote them.
    shards: BTreeMap<u16, Tables>,
    /// Whether what cannot be as it was is taken as it is.
    is_salvage: bool,
    inflater: Inflater,
    scratch: json::Scratch,
    body: Vec<u8>,
    /// The last record that the journal has let go of.
    released: u64,
    last_sequence: u64,
    report: ReplayReport,
}

/// What a replay did.
#[derive(Clone, Copy, Debug, Default)]
struct ReplayReport {
    pub(super) records: u64,
    pub(super) rows: u64,
    pub(super) files: u64,
}

impl<'a> Replay<'a> {
    pub(super) fn new(
        registry: &'a Arc<Registry>,
        publisher: &'a Publisher,
        survey: &'a Survey,
    ) -> Self {
        Self {
            registry,
            publisher,
            survey,
            published: HashMap::new(),
            shards: BTreeMap::new(),
            is_salvage: false,
            inflater: Inflater::default(),
            scratch: json::Scratch::default(),
            body: Vec::new(),
            released: 0,
            last_sequence: 0,
            report: ReplayReport::default(),
        }
    }

    /// Replays and publishes all of `journal`.
    ///
    /// # Errors
    /// `Recovery`: a record does not give what it gave when it was acknowledged.
    pub(super) fn run(mut self, journal: &Recovered) -> Result<ReplayReport, ServerError> {
        journal.records(|record| self.record(&record))?;
        self.publish()?;
        Ok(self.report)
    }

    fn record(&mut self, record: &Record<'_>) -> Result<(), ServerError> {
        self.last_sequence = record.sequence;
        match &record.entry {
            Entry::Columns(decided) => self.columns(record, decided),
            Entry::Write(write) => self.write(record, write),
            _ => Ok(()),
        }
    }

    fn columns(&self, record: &Record<'_>, decided: &Columns<'_>) -> Result<(), ServerError> {
        let Columns { database, measurement, columns } = decided;
        if self.survey.is_dropped(database, record.sequence) {
            return Ok(());
        }
        let unknown = || failed(record, "expected known kinds and roles");
        let columns: Option<Vec<Column>> = columns.iter().map(codes::to_column).collect();
        let columns = columns.ok_or_else(unknown)?;
        match self.registry.restore(database, measurement, &columns, None) {
            Ok(_) => Ok(()),
            Err(error) => differs(self.is_salvage, record, &error.to_string()),
        }
    }

    fn write(&mut self, record: &Record<'_>, write: &Write<'_>) -> Result<(), ServerError> {
        if self.survey.is_dropped(write.database, record.sequence) {
            return Ok(());
        }
        let unknown = || failed(record, "expected a known format, precision and encoding");
        let request = WriteRequest {
            endpoint: write.endpoint,
            database: write.database,
            format: codes::to_format(write.format).ok_or_else(unknown)?,
            precision: codes::to_precision(write.precision).ok_or_else(unknown)?,
            atomic: write.flags & codes::ATOMIC != 0,
            // Of no use any more: the key of the request is in the record.
            sender: 0,
            parameters: Parameters {
                measurement: (!write.measurement.is_empty()).then_some(write.measurement),
                time: (!write.time.is_empty()).then_some(write.time),
                tags: write.tags,
            },
            idempotency_key: None,
        };
        let encoding = codes::to_encoding(write.encoding).ok_or_else(unknown)?;
        self.inflate(encoding, record)?;
        let circumstances = Circumstances {
            received_ns: write.received_ns,
            rejected_kept_max: usize::from(write.rejected_kept),
            is_stored: false,
        };
        let registry = self.registry;
        let tables =
            self.shards.entry(write.shard).or_insert_with(|| Tables::new(Arc::clone(registry)));
        let Self { scratch, body, .. } = self;
        let applied = apply(tables, scratch, registry, &request, circumstances, body)
            .map_err(|error| failed(record, &error.to_string()))?;
        let report = &applied.report;
        let found = (saturated(report.accepted), saturated(report.rejected), report.digest());
        let expected = (write.accepted, write.rejected, write.digest);
        if found != expected {
            let cause = format!(
                "expected {} rows accepted, {} rejected, digest {:016x}; found {}, {}, {:016x}",
                expected.0, expected.1, expected.2, found.0, found.1, found.2
            );
            differs(self.is_salvage, record, &cause)?;
        }
        let (published, publisher) = (&mut self.published, self.publisher);
        let mut failure = None;
        tables.discard(write.database, &mut |measurement: &Measurement| {
            let (database, name) = (&measurement.database, &measurement.name);
            let key = (Arc::clone(database), Arc::clone(name), write.shard);
            let upto = *published.entry(key).or_insert_with(|| {
                let upto = publisher.published(database, name, write.shard);
                upto.unwrap_or_else(|error| {
                    failure = Some(error);
                    0
                })
            });
            record.sequence <= upto
        });
        if let Some(error) = failure {
            return Err(error);
        }
        self.report.records += 1;
        if self.shards.values().map(Tables::row_bytes).sum::<usize>() > PUBLISH_BYTES {
            self.publish()?;
        }
        Ok(())
    }

    /// The body of a record, inflated, into `self.body`.
    fn inflate(&mut self, encoding: Encoding, record: &Record<'_>) -> Result<(), ServerError> {
        // What was taken once is taken again, whatever may be taken by the settings of this run.
        let limits = Limits {
            inflated_bytes_max: usize::MAX,
            inflate_free_bytes: usize::MAX,
            ..*self.registry.limits()
        };
        self.inflater
            .inflate(encoding, record.body, &mut self.body, &limits, &mut |_| Ok(()))
            .map_err(|error| failed(record, &error.to_string()))
    }

    /// Publishes everything replayed so far.
    fn publish(&mut self) -> Result<(), ServerError> {
        let (since, upto) = (self.released + 1, self.last_sequence);
        let sealed = self.shards.iter_mut().map(|(shard, tables)| Sealed {
            shard: *shard,
            since,
            upto,
            chunks: tables.take_chunks(None, true),
        });
        for mut rows in by_table(sealed.collect()) {
            let files = publish_until_done(self.publisher, &mut rows)?;
            self.report.rows += rows.count() as u64;
            self.report.files += files as u64;
        }
        Ok(())
    }
}

/// Publishes, and waits for room as long as the disk is full: there is nothing else to do.
fn publish_until_done(publisher: &Publisher, rows: &mut TableRows) -> Result<usize, ServerError> {
    let mut retry_after = RETRY_AFTER_MIN;
    loop {
        match publisher.publish(rows) {
            Ok(segments) => return Ok(segments.len()),
            Err(WriteError::Busy(BusyReason::DiskFull)) => {
                tracing::error!("the disk is full: rows of the journal wait for room");
                std::thread::sleep(retry_after);
                retry_after = RETRY_AFTER_MAX.min(retry_after * 2);
            }
            Err(WriteError::Server(error)) => return Err(error),
            Err(error) => return Err(ServerError::Recovery { cause: error.to_string().into() }),
        }
    }
}

/// A record does not give what it gave: an error, unless records before it are known to be lost.
fn differs(is_salvage: bool, record: &Record<'_>, cause: &str) -> Result<(), ServerError> {
    let error = failed(record, cause);
    if is_salvage {
        tracing::warn!("{error}");
        return Ok(());
    }
    Err(error)
}

fn failed(record: &Record<'_>, cause: &str) -> ServerError {
    let sequence = record.sequence;
    let cause = format!("record {sequence} of the journal: {cause}; its rows are still there");
    ServerError::Recovery { cause: cause.into() }
}

fn column_of(column: &publish::Column) -> Column {
    Column {
        name: column.name.as_str().into(),
        physical: column.physical.as_str().into(),
        kind: column.kind,
        role: column.role,
        unit: column.unit.as_deref().map(Arc::from),
    }
}

/// How a table writes unsigned integers, if this column is of them.
fn unsigned_of(column: &publish::Column) -> Option<Unsigned> {
    (column.kind == ColumnKind::U64).then_some(match column.stored {
        StoredType::Decimal => Unsigned::Decimal,
        _ => Unsigned::Int64,
    })
}
