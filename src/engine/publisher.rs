//! The rows of one table into files, and the files into the table: the one way to both, for
//! flushes and for recovery.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Sabotage;
use super::instance::Instance;
use super::shard::{Sealed, monotonic_clock};
use crate::error::{BusyReason, ServerError, WriteError};
use crate::gather::{Chunk, Measurement};
use crate::journal::JournalError;
use crate::persist::{PersistError, SegmentRequest, Store, write_segments};
use crate::publish::{Catalog, Commit, PublishError};
use crate::segment::SegmentMeta;
use crate::stats::Stats;

/// Bytes of rows that wait for a writer up to which later ones join them.
const JOINED_BYTES_MAX: usize = 64 << 20;

/// The rows of one table that are published together.
#[derive(Debug)]
pub(super) struct TableRows {
    pub(super) measurement: Arc<Measurement>,
    /// Bytes accounted for them.
    pub(super) bytes: usize,
    chunks: Vec<Chunk>,
    /// No row is in a record of the journal before this one.
    since: u64,
    /// For each shard whose rows are among them, the last sequence they include.
    upto: BTreeMap<u16, u64>,
    /// The files, once they are written, and the sequence they are named by.
    written: Option<(u64, Vec<SegmentMeta>)>,
}

impl TableRows {
    /// Whether `more`, which came later, can be published with these: rows of the same table, and
    /// together few enough for one file.
    pub(super) fn takes(&self, more: &Self) -> bool {
        let bytes = self.bytes.saturating_add(more.bytes);
        Arc::ptr_eq(&self.measurement, &more.measurement) && bytes <= JOINED_BYTES_MAX
    }

    /// Takes `more`, before any of these is written.
    pub(super) fn join(&mut self, more: Self) {
        self.bytes += more.bytes;
        self.chunks.extend(more.chunks);
        self.since = self.since.min(more.since);
        for (shard, upto) in more.upto {
            let last = self.upto.entry(shard).or_default();
            *last = upto.max(*last);
        }
    }

    /// How many.
    pub(super) fn count(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.batch.num_rows()).sum()
    }

    /// The last sequence of the journal that must be durable before they are published.
    pub(super) fn upto(&self) -> u64 {
        self.upto.values().copied().max().unwrap_or_default()
    }
}

/// Sorts what shards gave away by table, in the order of names.
pub(super) fn by_table(sealed: Vec<Sealed>) -> Vec<TableRows> {
    let mut tables: BTreeMap<(Arc<str>, Arc<str>), TableRows> = BTreeMap::new();
    for Sealed { shard, since, upto, chunks } in sealed {
        for chunk in chunks {
            let measurement = &chunk.measurement;
            let key = (Arc::clone(&measurement.database), Arc::clone(&measurement.name));
            let rows = tables.entry(key).or_insert_with(|| TableRows {
                measurement: Arc::clone(measurement),
                bytes: 0,
                chunks: Vec::new(),
                since,
                upto: BTreeMap::new(),
                written: None,
            });
            rows.bytes += chunk.bytes;
            rows.since = rows.since.min(since);
            rows.upto.insert(shard, upto);
            rows.chunks.push(chunk);
        }
    }
    tables.into_values().collect()
}

/// Writes files and commits them.
#[derive(Debug)]
pub(super) struct Publisher {
    pub(super) store: Arc<Store>,
    pub(super) catalog: Arc<Catalog>,
    /// What the commits of this data directory's journal go by.
    pub(super) instance: Instance,
    pub(super) sabotage: Option<Sabotage>,
    /// The sequence that the next set of files is named by.
    pub(super) next_sequence: AtomicU64,
    pub(super) stats: Arc<Stats>,
}

impl Publisher {
    /// Publishes `rows`, which are durable in the journal. It can be tried again: files that are
    /// written stay, and a commit that is there is not made twice.
    ///
    /// # Errors
    /// `Busy(DiskFull)` or `Server(Flush)`.
    pub(super) fn publish(&self, rows: &mut TableRows) -> Result<Vec<SegmentMeta>, WriteError> {
        let (sequence, segments) = if let Some(written) = &rows.written {
            written.clone()
        } else {
            let request = self.request(rows);
            let begun = monotonic_clock();
            let segments = write_segments(&self.store, &request)?;
            self.stats.file_durations.observe(begun.elapsed());
            // Whatever becomes of the commit: these are the files that it may have named.
            rows.written.insert((request.sequence, segments)).clone()
        };
        let of_shard = |(shard, upto): (&u16, &u64)| (self.instance.shard(*shard), version(*upto));
        let mut txns: Vec<_> = rows.upto.iter().map(of_shard).collect();
        if self.sabotage == Some(Sabotage::OmitSequences) {
            txns.clear();
        }
        txns.push((self.instance.journal(), version(rows.upto())));
        txns.push((self.instance.segments(), version(sequence)));
        let commit = Commit {
            database: rows.measurement.database.to_string(),
            measurement: rows.measurement.name.to_string(),
            schema: rows.measurement.schema(),
            segments,
            txns,
        };
        let begun = monotonic_clock();
        let committed = self.catalog.commit(&commit)?;
        self.stats.commit_durations.observe(begun.elapsed());
        if !committed.is_new {
            // A try before this one made it, and failed behind its name.
            self.store.sync_log(&commit.database, &commit.measurement)?;
        }
        let bytes = commit.segments.iter().map(|segment| segment.bytes).sum();
        rows.measurement.add_files(commit.segments.len() as u64, bytes);
        Ok(commit.segments)
    }

    /// The last sequence of a shard that a table has.
    pub(super) fn published(
        &self,
        database: &str,
        measurement: &str,
        shard: u16,
    ) -> Result<u64, ServerError> {
        Ok(committed(&self.catalog, database, measurement, &self.instance.shard(shard))?)
    }

    /// Removes the tables of a database with their files.
    pub(super) fn remove_database(&self, database: &str) -> Result<(), ServerError> {
        self.catalog.forget_database(database);
        Ok(self.store.remove_database(database)?)
    }

    fn request(&self, rows: &TableRows) -> SegmentRequest {
        let measurement = &rows.measurement;
        SegmentRequest {
            database: measurement.database.to_string(),
            measurement: measurement.name.to_string(),
            schema: measurement.schema(),
            batches: rows.chunks.iter().map(|chunk| chunk.batch.clone()).collect(),
            sort_key: measurement.sort_key().to_vec(),
            instance: self.instance.short(),
            // A new one for each try: should the failure have been that a name exists, it passes.
            sequence: self.next_sequence.fetch_add(1, Ordering::Relaxed),
            journal: rows.since,
        }
    }
}

/// The sequence that a table has for an application id; 0 where it has none.
pub(super) fn committed(
    catalog: &Catalog,
    database: &str,
    measurement: &str,
    application: &str,
) -> Result<u64, PublishError> {
    let txn = catalog.txn(database, measurement, application)?;
    Ok(txn.and_then(|txn| u64::try_from(txn).ok()).unwrap_or_default())
}

/// A sequence as Delta keeps it.
fn version(sequence: u64) -> i64 {
    i64::try_from(sequence).unwrap_or(i64::MAX)
}

impl From<PublishError> for ServerError {
    fn from(error: PublishError) -> Self {
        Self::Flush { cause: with_sources(&error).into() }
    }
}

impl From<PersistError> for ServerError {
    fn from(error: PersistError) -> Self {
        Self::Flush { cause: with_sources(&error).into() }
    }
}

impl From<PublishError> for WriteError {
    fn from(error: PublishError) -> Self {
        if error.is_storage_full() {
            BusyReason::DiskFull.into()
        } else {
            Self::Server(error.into())
        }
    }
}

impl From<PersistError> for WriteError {
    fn from(error: PersistError) -> Self {
        if error.is_storage_full() {
            BusyReason::DiskFull.into()
        } else {
            Self::Server(error.into())
        }
    }
}

impl From<JournalError> for ServerError {
    fn from(error: JournalError) -> Self {
        Self::Journal { cause: with_sources(&error).into() }
    }
}

impl From<JournalError> for WriteError {
    fn from(error: JournalError) -> Self {
        Self::Server(error.into())
    }
}

/// An error and what caused it, in one line.
pub(super) fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
