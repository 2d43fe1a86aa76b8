//! A machine with a whole engine on it: a simulated disk with journal, files and Delta logs,
//! clients that know what they were told, and the check of it. For the tests that cut the power,
//! fail calls and damage files.

#![expect(clippy::indexing_slicing, reason = "a test stops at the first surprise")]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use peristyle::engine::{
    Encoding, Engine, Format, Options, Parameters, Precision, ReceivedBody, Sabotage, Shard,
    WriteRequest,
};
use peristyle::error::{ServerError, WriteError};
use peristyle::publish::Catalog;

use crate::live;
use crate::sim_disk::{Random, SimDisk};
use crate::sim_logs::SimLogs;

pub const SHARDS: usize = 2;
const MEASUREMENTS: [&str; 3] = ["cpu", "mem", "disk io"];

/// Seeds of a test: `PERISTYLE_SEEDS`, or `count`.
pub fn seeds(count: u64) -> u64 {
    std::env::var("PERISTYLE_SEEDS").map_or(count, |it| it.parse().expect("a number"))
}

/// What a client knows of one body: the ids of its rows, by measurement.
pub type Body = Vec<(usize, i64)>;

#[derive(Clone, Debug, Default)]
pub struct Ledger {
    pub acknowledged: Vec<Body>,
    /// No answer came, or one that tells nothing.
    pub unknown: Vec<Body>,
    /// Whether the database `gone` was dropped, by its last answer.
    pub is_dropped: bool,
}

/// How a run of the server ended.
#[derive(Debug)]
pub enum Run {
    /// It did not start.
    Refused(ServerError),
    /// It ended, and all is published.
    Ended,
    /// It ended, and something is not published.
    Failed(WriteError),
}

/// A machine and what is known of it.
pub struct Machine {
    pub disk: SimDisk,
    pub sabotage: Option<Sabotage>,
    pub random: Random,
    next_id: i64,
    pub ledger: Ledger,
    pub close_timeout: Duration,
    /// Whether a database is written to and dropped in each run.
    pub drops: bool,
}

impl Machine {
    pub fn new(seed: u64) -> Self {
        Self {
            disk: SimDisk::new(),
            sabotage: None,
            random: Random(seed),
            next_id: 0,
            ledger: Ledger::default(),
            close_timeout: Duration::ZERO,
            drops: false,
        }
    }

    pub fn options(&self) -> Options {
        Options {
            disk: self.disk.shared(),
            log_store: Some(SimLogs::on(&self.disk)),
            wal_segment_bytes: 16 << 10,
            flush_interval: Duration::from_millis(20),
            close_timeout: self.close_timeout,
            shards: SHARDS,
            sabotage: self.sabotage,
            ..live::options(Path::new("/data"))
        }
    }

    /// A body of some rows, each with an id of its own; now and then with a new column.
    pub fn body(&mut self) -> (String, Body) {
        let mut text = String::new();
        let mut ids = Vec::new();
        for _ in 0..=self.random.index(4) {
            let (id, table) = (self.next_id, self.random.index(MEASUREMENTS.len()));
            self.next_id += 1;
            let name = MEASUREMENTS[table].replace(' ', "\\ ");
            let host = self.random.below(3);
            write!(text, "{name},host=h{host} id={id}i").unwrap();
            if self.random.below(8) == 0 {
                write!(text, ",extra{}=1.5", self.random.below(4)).unwrap();
            }
            writeln!(text, " {}", 1_700_000_000_000_000_000 + id).unwrap();
            ids.push((table, id));
        }
        (text, ids)
    }

    /// Runs the server under load until the power goes, or all is sent. False when it did not
    /// start.
    pub fn run(&mut self, bodies: usize) -> bool {
        !matches!(self.serve(bodies), Run::Refused(_))
    }

    /// As [`Self::run`]; why it did not start.
    pub fn started(&mut self, bodies: usize) -> Result<(), String> {
        match self.serve(bodies) {
            Run::Refused(error) => Err(format!("the server does not start: {error}")),
            _ => Ok(()),
        }
    }

    /// Runs the server under load until it fails, or all is sent.
    pub fn serve(&mut self, bodies: usize) -> Run {
        let engine = match Engine::open(&self.options()) {
            Ok(engine) => engine,
            Err(error) => return Run::Refused(error),
        };
        let drops = self.drops;
        let loads: Vec<Vec<(String, Body)>> =
            (0..SHARDS).map(|_| (0..bodies).map(|_| self.body()).collect()).collect();
        let flush_after: Vec<usize> = (0..SHARDS).map(|_| self.random.index(bodies + 1)).collect();
        let ledgers: Vec<Ledger> = thread::scope(|scope| {
            let threads: Vec<_> = loads
                .into_iter()
                .enumerate()
                .map(|(index, load)| {
                    let (engine, flush_after) = (&engine, flush_after[index]);
                    let drops = drops && index == 0;
                    scope.spawn(move || send(engine, index, load, flush_after, drops))
                })
                .collect();
            threads.into_iter().map(|it| it.join().expect("no panic")).collect()
        });
        // It fails when the power is gone: then nothing more was promised.
        let closed = engine.close();
        for (index, ledger) in ledgers.into_iter().enumerate() {
            self.ledger.acknowledged.extend(ledger.acknowledged);
            self.ledger.unknown.extend(ledger.unknown);
            if drops && index == 0 {
                self.ledger.is_dropped = ledger.is_dropped;
            }
        }
        match closed {
            Ok(()) => Run::Ended,
            Err(error) => Run::Failed(error),
        }
    }

    /// The ids in the tables, with how often they are there.
    fn stored(&self) -> Result<BTreeMap<(usize, i64), usize>, String> {
        let logs = SimLogs::on(&self.disk);
        let catalog =
            Catalog::open_store(logs, peristyle::publish::Options::default()).expect("threads");
        let tables = catalog.load().map_err(|error| format!("{error}"))?.tables;
        let mut stored = BTreeMap::new();
        let mut live = BTreeSet::new();
        for table in tables {
            if table.database == "gone" && self.ledger.is_dropped {
                return Err("a dropped database is there".to_owned());
            }
            let index = MEASUREMENTS.iter().position(|it| *it == table.measurement).unwrap();
            let files = catalog.files(&table.database, &table.measurement).unwrap();
            for file in files.iter().map(|it| Path::new("/data").join(it)) {
                let is_known = table.database != "gone";
                let ids = self.ids(&file).map_err(|it| format!("{}: {it}", file.display()))?;
                for id in ids.into_iter().filter(|_| is_known) {
                    *stored.entry((index, id)).or_insert(0) += 1;
                }
                live.insert(file);
            }
        }
        let mut found: BTreeSet<PathBuf> = self.disk.all_files(Path::new("/data/tables"));
        let is_data = |it: &PathBuf| {
            let directory = it.parent().and_then(Path::file_name).unwrap_or_default();
            !["_delta_log", "_torn"].iter().any(|name| directory == *name)
        };
        found.retain(is_data);
        match found.symmetric_difference(&live).next() {
            Some(file) => Err(format!("{} is in the log or on the disk only", file.display())),
            None => Ok(stored),
        }
    }

    fn ids(&self, file: &Path) -> Result<Vec<i64>, String> {
        let bytes = self.disk.try_bytes(file).ok_or("it is not there")?;
        let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes));
        let reader = reader
            .and_then(ParquetRecordBatchReaderBuilder::build)
            .map_err(|error| error.to_string())?;
        let mut ids = Vec::new();
        for batch in reader {
            let batch = batch.map_err(|error| error.to_string())?;
            let column = batch.column_by_name("id").ok_or("it has no ids")?;
            ids.extend(column.as_primitive::<Int64Type>().values());
        }
        Ok(ids)
    }

    /// Everything that was promised, and nothing else.
    pub fn check(&self) -> Result<(), String> {
        let stored = self.stored()?;
        if let Some((row, count)) = stored.iter().find(|(_, count)| **count != 1) {
            return Err(format!("row {row:?} is there {count} times"));
        }
        let mut known: BTreeSet<(usize, i64)> = BTreeSet::new();
        for body in &self.ledger.acknowledged {
            known.extend(body);
            if let Some(row) = body.iter().find(|row| !stored.contains_key(row)) {
                return Err(format!("row {row:?} was acknowledged and is lost"));
            }
        }
        for body in &self.ledger.unknown {
            known.extend(body);
            let count = body.iter().filter(|row| stored.contains_key(row)).count();
            if count != 0 && count != body.len() {
                return Err(format!("{count} rows of {body:?} are there"));
            }
        }
        match stored.keys().find(|row| !known.contains(*row)) {
            Some(row) => Err(format!("row {row:?} was never sent to that table")),
            None => Ok(()),
        }
    }

    /// The same machine, which goes its own way from here.
    pub fn copy(&self) -> Self {
        Self {
            disk: self.disk.copy(),
            sabotage: self.sabotage,
            random: self.random.clone(),
            next_id: self.next_id,
            ledger: self.ledger.clone(),
            close_timeout: self.close_timeout,
            drops: self.drops,
        }
    }

    /// The process ends, however it was; the disk goes on.
    pub fn kill(&mut self) {
        self.disk = self.disk.kill();
    }

    /// The power goes and comes back, and takes all that was not synced.
    pub fn forget(&mut self) {
        self.disk = self.disk.forget();
    }

    /// The power comes back.
    pub fn reboot(&mut self) {
        let seed = self.random.next();
        self.disk = self.disk.crash(seed);
    }
}

/// One shard on its thread, and the client that writes to it.
pub fn send(
    engine: &Arc<Engine>,
    index: usize,
    load: Vec<(String, Body)>,
    flush_after: usize,
    drops: bool,
) -> Ledger {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let shard = Rc::new(RefCell::new(Shard::new(engine, index)));
        let commands = tokio::task::spawn_local(Shard::commands(Rc::clone(&shard)));
        let mut ledger = Ledger::default();
        for (count, (text, ids)) in load.into_iter().enumerate() {
            if drops && count == 0 {
                write(engine, &shard, "gone", "cpu,host=a id=1i 1\n").await.ok();
            }
            if count == flush_after {
                engine.flush(None).await.ok();
            }
            if drops && count == 2 {
                ledger.is_dropped = engine.drop_database("gone").await.is_ok();
            }
            match write(engine, &shard, "db", &text).await {
                Ok(()) => ledger.acknowledged.push(ids),
                // Nothing was taken; what comes later may be.
                Err(Refused::Before) => {}
                Err(Refused::Behind) => {
                    ledger.unknown.push(ids);
                    break;
                }
            }
        }
        commands.abort();
        ledger
    })
}

/// Where a write was refused.
enum Refused {
    /// Before its rows were taken.
    Before,
    /// Behind that: they are stored or not.
    Behind,
}

/// One request.
async fn write(
    engine: &Engine,
    shard: &RefCell<Shard>,
    database: &str,
    text: &str,
) -> Result<(), Refused> {
    let request = WriteRequest {
        endpoint: "/write",
        database,
        format: Format::LineProtocol,
        precision: Precision::Nanosecond,
        atomic: false,
        sender: 0,
        parameters: Parameters::default(),
        idempotency_key: None,
    };
    let place = engine.place(&request, text.as_bytes()).await.map_err(|_| Refused::Before)?;
    let body = ReceivedBody {
        received: text.as_bytes().to_vec(),
        encoding: Encoding::Identity,
        inflated: &mut Vec::new(),
    };
    let written = shard.borrow_mut().write(&request, place, body, |report, _| {
        assert_eq!(report.rejected, 0);
    });
    written.expect("a good body").stored().await.map(drop).map_err(|_| Refused::Behind)
}
