//! Power cuts below the whole engine: what was acknowledged is in the tables, once, whatever the
//! disk forgets. The disk is simulated (`sim_disk`), the Delta logs are in a store in memory, whose
//! writes are whole and durable, as those of a synced local store are (`publish.rs` tears them).

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
use object_store::memory::InMemory;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use peristyle::engine::{
    Encoding, Engine, Format, Options, Parameters, Precision, ReceivedBody, Sabotage, Shard,
    WriteRequest,
};
use peristyle::publish::Catalog;

use crate::live;
use crate::sim_disk::{self, Random, SimDisk};

const SHARDS: usize = 2;
const MEASUREMENTS: [&str; 3] = ["cpu", "mem", "disk io"];

/// Seeds of a test: `PERISTYLE_SEEDS`, or `count`.
fn seeds(count: u64) -> u64 {
    std::env::var("PERISTYLE_SEEDS").map_or(count, |it| it.parse().expect("a number"))
}

/// What a client knows of one body: the ids of its rows, by measurement.
type Body = Vec<(usize, i64)>;

#[derive(Debug, Default)]
struct Ledger {
    acknowledged: Vec<Body>,
    /// No answer came, or one that tells nothing.
    unknown: Vec<Body>,
}

/// A machine: its disk and its logs.
struct Machine {
    disk: SimDisk,
    logs: Arc<InMemory>,
    sabotage: Option<Sabotage>,
    random: Random,
    next_id: i64,
    ledger: Ledger,
}

impl Machine {
    fn new(seed: u64) -> Self {
        Self {
            disk: SimDisk::new(),
            logs: Arc::default(),
            sabotage: None,
            random: Random(seed),
            next_id: 0,
            ledger: Ledger::default(),
        }
    }

    fn options(&self) -> Options {
        Options {
            disk: self.disk.shared(),
            log_store: Some(Arc::clone(&self.logs) as _),
            wal_segment_bytes: 16 << 10,
            flush_interval: Duration::from_millis(20),
            close_timeout: Duration::ZERO,
            shards: SHARDS,
            sabotage: self.sabotage,
            ..live::options(Path::new("/data"))
        }
    }

    /// A body of some rows, each with an id of its own; now and then with a new column.
    fn body(&mut self) -> (String, Body) {
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
    fn run(&mut self, bodies: usize) -> bool {
        let Ok(engine) = Engine::open(&self.options()) else { return false };
        let loads: Vec<Vec<(String, Body)>> =
            (0..SHARDS).map(|_| (0..bodies).map(|_| self.body()).collect()).collect();
        let flush_after: Vec<usize> = (0..SHARDS).map(|_| self.random.index(bodies + 1)).collect();
        let ledgers: Vec<Ledger> = thread::scope(|scope| {
            let threads: Vec<_> = loads
                .into_iter()
                .enumerate()
                .map(|(index, load)| {
                    let (engine, flush_after) = (&engine, flush_after[index]);
                    scope.spawn(move || send(engine, index, load, flush_after))
                })
                .collect();
            threads.into_iter().map(|it| it.join().expect("no panic")).collect()
        });
        // It fails when the power is gone: then nothing more was promised.
        engine.close().ok();
        for ledger in ledgers {
            self.ledger.acknowledged.extend(ledger.acknowledged);
            self.ledger.unknown.extend(ledger.unknown);
        }
        true
    }

    /// The ids in the tables, with how often they are there.
    fn stored(&self) -> Result<BTreeMap<(usize, i64), usize>, String> {
        let logs = Arc::clone(&self.logs) as _;
        let catalog =
            Catalog::open_store(logs, peristyle::publish::Options::default()).expect("threads");
        let tables = catalog.load().map_err(|error| format!("{error}"))?.tables;
        let mut stored = BTreeMap::new();
        let mut live = BTreeSet::new();
        for table in tables {
            let index = MEASUREMENTS.iter().position(|it| *it == table.measurement).unwrap();
            let files = catalog.files(&table.database, &table.measurement).unwrap();
            for file in files.iter().map(|it| Path::new("/data").join(it)) {
                let ids = self.ids(&file).map_err(|it| format!("{}: {it}", file.display()))?;
                for id in ids {
                    *stored.entry((index, id)).or_insert(0) += 1;
                }
                live.insert(file);
            }
        }
        let found: BTreeSet<PathBuf> = self.disk.all_files(Path::new("/data/tables"));
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
    fn check(&self) -> Result<(), String> {
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

    /// The power comes back.
    fn reboot(&mut self) {
        let seed = self.random.next();
        self.disk = self.disk.crash(seed);
    }
}

/// One shard on its thread, and the client that writes to it.
fn send(
    engine: &Arc<Engine>,
    index: usize,
    load: Vec<(String, Body)>,
    flush_after: usize,
) -> Ledger {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let shard = Rc::new(RefCell::new(Shard::new(engine, index)));
        let commands = tokio::task::spawn_local(Shard::commands(Rc::clone(&shard)));
        let mut ledger = Ledger::default();
        for (count, (text, ids)) in load.into_iter().enumerate() {
            if count == flush_after {
                engine.flush(None).await.ok();
            }
            let request = WriteRequest {
                endpoint: "/write",
                database: "db",
                format: Format::LineProtocol,
                precision: Precision::Nanosecond,
                atomic: false,
                sender: 0,
                parameters: Parameters::default(),
                idempotency_key: None,
            };
            let Ok(place) = engine.place(&request, text.as_bytes()).await else { break };
            let body = ReceivedBody {
                received: text.into_bytes(),
                encoding: Encoding::Identity,
                inflated: &mut Vec::new(),
            };
            let written = shard.borrow_mut().write(&request, place, body, |report, _| {
                assert_eq!(report.rejected, 0);
            });
            let stored = written.expect("a good body").stored().await;
            let list = if stored.is_ok() { &mut ledger.acknowledged } else { &mut ledger.unknown };
            list.push(ids);
            if stored.is_err() {
                break;
            }
        }
        commands.abort();
        ledger
    })
}

/// One machine's life: some runs, each ended by a cut at a random call, some of them in recovery.
fn live_through(machine: &mut Machine) -> Result<(), String> {
    for _ in 0..=machine.random.index(3) {
        let bodies = 1 + machine.random.index(30);
        let calls = 1 + machine.random.below(400);
        machine.disk.cut_after(calls);
        machine.run(bodies);
        machine.reboot();
    }
    if !machine.run(2) {
        return Err("the server does not start".to_owned());
    }
    machine.check()
}

#[test]
#[expect(clippy::print_stdout, reason = "the counts are the result")]
fn what_was_acknowledged_survives_any_power_cut() {
    let (mut acknowledged, mut unknown) = (0, 0);
    for seed in 0..seeds(150) {
        let mut machine = Machine::new(seed);
        if let Err(violation) = live_through(&mut machine) {
            panic!("seed {seed}: {violation}");
        }
        acknowledged += machine.ledger.acknowledged.len();
        unknown += machine.ledger.unknown.len();
    }
    println!("{} seeds, {acknowledged} acknowledged, {unknown} unknown", seeds(150));
    assert!(acknowledged > unknown);
}

/// The first seed whose violation is seen.
fn caught(sabotage: impl Fn(&mut Machine)) -> Option<u64> {
    (0..400).find(|seed| {
        let mut machine = Machine::new(*seed);
        sabotage(&mut machine);
        live_through(&mut machine).is_err()
    })
}

#[test]
fn a_disk_that_does_not_sync_is_caught() {
    for lie in [sim_disk::Sabotage::Data, sim_disk::Sabotage::Directory] {
        let seed = caught(|machine| machine.disk.sabotage(lie));
        assert!(seed.is_some(), "{lie:?}");
    }
}

#[test]
fn a_server_that_recycles_early_or_forgets_its_sequences_is_caught() {
    for lie in [Sabotage::RecycleEarly, Sabotage::OmitSequences] {
        let seed = caught(|machine| machine.sabotage = Some(lie));
        assert!(seed.is_some(), "{lie:?}");
    }
}
