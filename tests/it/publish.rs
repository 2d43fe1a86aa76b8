//! Segments into the Delta log and back: what is committed is there, once, whatever happens.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use delta_kernel::error::KernelError;
use object_store::local::LocalFileSystem;
use peristyle::decode::Precision;
use peristyle::disk::LocalDisk;
use peristyle::limits::Limits;
use peristyle::persist::{SegmentRequest, Store, layout, write_segments};
use peristyle::publish::{Catalog, Cause, Commit, Operation, Options, PublishError, TableState};
use peristyle::schema::{ColumnKind, Role, StoredType, Unsigned, physical_name};
use simd_json::prelude::{ValueAsArray, ValueAsObject, ValueAsScalar, ValueObjectAccess};
use simd_json::{OwnedValue, json};
use tempfile::TempDir;

use crate::lines;
use crate::support::Shard;

/// A data directory, and what a shard and a writer do with it.
struct Lake {
    directory: TempDir,
    store: Arc<Store>,
}

impl Lake {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(Arc::new(LocalDisk), directory.path()).unwrap());
        Self { directory, store }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn catalog(&self) -> Catalog {
        Catalog::open(self.path(), Options::default()).unwrap()
    }

    fn catalog_with(&self, checkpoint_commits: u64) -> Catalog {
        let options = Options { checkpoint_commits, checkpoint_spread: 0, ..Options::default() };
        Catalog::open(self.path(), options).unwrap()
    }

    /// Writes the rows of `body`, which are of one measurement, and says what to commit.
    fn flush(&self, database: &str, body: &str, sequence: u64) -> Commit {
        flush(&self.store, database, body, sequence)
    }

    fn log(&self, database: &str, measurement: &str) -> PathBuf {
        self.path().join(layout::table_directory(database, measurement)).join("_delta_log")
    }

    /// The actions of one version.
    fn version(&self, measurement: &str, version: u64) -> Vec<OwnedValue> {
        let path = self.log("db", measurement).join(format!("{version:020}.json"));
        let text = fs::read_to_string(path).unwrap();
        text.lines()
            .map(|it| simd_json::to_owned_value(&mut it.as_bytes().to_vec()).unwrap())
            .collect()
    }
}

/// Writes the rows of `body`, which are of one measurement, and says what to commit.
pub fn flush(store: &Store, database: &str, body: &str, sequence: u64) -> Commit {
    flush_as(store, database, body, sequence, Unsigned::Decimal)
}

fn flush_as(
    store: &Store,
    database: &str,
    body: &str,
    sequence: u64,
    unsigned: Unsigned,
) -> Commit {
    let mut shard = Shard::with(Limits::DEFAULT, unsigned, Vec::new());
    let report = lines::write(&mut shard, body.as_bytes(), Precision::Nanosecond);
    assert_eq!(report.rejected, 0, "{:?}", report.rejections);
    let chunks = shard.chunks();
    let measurement = Arc::clone(&chunks.first().expect("rows").measurement);
    let request = SegmentRequest {
        instance: "00000000".to_owned(),
        database: database.to_owned(),
        measurement: measurement.name.to_string(),
        schema: measurement.schema(),
        batches: chunks.into_iter().map(|it| it.batch).collect(),
        sort_key: measurement.sort_key().to_vec(),
        sequence,
        journal: 1,
    };
    Commit {
        database: request.database.clone(),
        measurement: request.measurement.clone(),
        schema: Arc::clone(&request.schema),
        segments: write_segments(store, &request).unwrap(),
        txns: vec![("i/0".to_owned(), sequence.try_into().unwrap())],
    }
}

/// The only table that a fresh catalog finds.
fn reload(lake: &Lake) -> TableState {
    let mut tables = lake.catalog().load().unwrap().tables;
    assert_eq!(tables.len(), 1);
    tables.remove(0)
}

fn names(state: &TableState) -> Vec<&str> {
    state.columns.iter().map(|it| it.physical.as_str()).collect()
}

fn action<'a>(actions: &'a [OwnedValue], name: &str) -> &'a OwnedValue {
    actions.iter().find_map(|it| it.get(name)).unwrap()
}

#[test]
fn a_table_is_created_appended_to_widened_and_loaded_again() {
    let lake = Lake::new();
    let catalog = lake.catalog();
    assert_eq!(catalog.load().unwrap().tables, []);
    let first =
        lake.flush("My db/rp", "Cpu\\ 0,host=a usage=1.5 1000\nCpu\\ 0 usage=2 86400000000000", 1);
    assert_eq!(catalog.commit(&first).unwrap().version, 0);
    let second = lake.flush("My db/rp", "Cpu\\ 0 usage=2.5 2000", 2);
    assert_eq!(catalog.commit(&second).unwrap().version, 1);
    let third = lake.flush(
        "My db/rp",
        "Cpu\\ 0,host=b,Host=c usage=1,n=1i,u=18446744073709551615u,b=true,s=\"x\",a\\ b=1i 3001",
        3,
    );
    assert_eq!(catalog.commit(&third).unwrap().version, 2);

    let state = reload(&lake);
    assert_eq!((&*state.database, &*state.measurement), ("My db/rp", "Cpu 0"));
    assert_eq!((state.version, state.rows, state.files), (2, 4, 4));
    let columns: Vec<_> = state
        .columns
        .iter()
        .map(|it| (&*it.physical, &*it.name, it.kind, it.role, it.stored))
        .collect();
    assert_eq!(
        columns,
        [
            ("time", "time", ColumnKind::Time, Role::Time, StoredType::Timestamp),
            ("host", "host", ColumnKind::String, Role::Tag, StoredType::String),
            ("usage", "usage", ColumnKind::F64, Role::Field, StoredType::Float64),
            ("time_ns", "time_ns", ColumnKind::I64, Role::Time, StoredType::Int16),
            ("Host~1", "Host", ColumnKind::String, Role::Tag, StoredType::String),
            ("n", "n", ColumnKind::I64, Role::Field, StoredType::Int64),
            ("u", "u", ColumnKind::U64, Role::Field, StoredType::Decimal),
            ("b", "b", ColumnKind::Bool, Role::Field, StoredType::Boolean),
            ("s", "s", ColumnKind::String, Role::Field, StoredType::String),
            ("a%20b", "a b", ColumnKind::I64, Role::Field, StoredType::Int64),
        ]
    );
    let fresh = lake.catalog();
    fresh.load().unwrap();
    assert_eq!(fresh.txn("My db/rp", "Cpu 0", "i/0").unwrap(), Some(3));
    assert_eq!(fresh.txn("My db/rp", "Cpu 0", "i/1").unwrap(), None);
    assert_eq!(fresh.txn("My db/rp", "mem", "i/0").unwrap(), None);
    let mut files: Vec<_> = [&first, &second, &third]
        .iter()
        .flat_map(|it| it.segments.iter().map(|it| it.path.clone()))
        .collect();
    files.sort();
    assert_eq!(fresh.files("My db/rp", "Cpu 0").unwrap(), files);
    let fourth = lake.flush("My db/rp", "Cpu\\ 0 usage=2.5 2000", 4);
    assert_eq!(fresh.commit(&fourth).unwrap().version, 3);
}

#[test]
fn a_commit_that_is_in_the_log_is_done() {
    let lake = Lake::new();
    let catalog = lake.catalog();
    let mut commit = lake.flush("db", "cpu v=1 1000", 7);
    commit.txns.push(("i/1".to_owned(), 5));
    assert!(catalog.commit(&commit).unwrap().is_new);
    for catalog in [catalog, lake.catalog()] {
        let again = catalog.commit(&commit).unwrap();
        assert_eq!((again.version, again.is_new), (0, false));
    }
    let mut later = lake.flush("db", "cpu v=1 1000", 8);
    // What one shard has published stays published, also when another goes on.
    later.txns.push(("i/1".to_owned(), 4));
    let catalog = lake.catalog();
    assert_eq!(catalog.commit(&later).unwrap().version, 1);
    assert_eq!(catalog.txn("db", "cpu", "i/0").unwrap(), Some(8));
    assert_eq!(catalog.txn("db", "cpu", "i/1").unwrap(), Some(5));
    assert_eq!(reload(&lake).rows, 2);
}

#[test]
fn writers_that_widen_one_table_at_the_same_time_lose_nothing() {
    const WRITERS: u64 = 4;
    const COMMITS: u64 = 25;
    let lake = Lake::new();
    let ours = Arc::new(lake.catalog());
    let foreign = Arc::new(lake.catalog());
    let threads: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let catalog = Arc::clone(if writer % 2 == 0 { &ours } else { &foreign });
            let store = Arc::clone(&lake.store);
            thread::spawn(move || {
                for number in 0..COMMITS {
                    let body = format!("cpu v=1,w{writer}_{number}=2i 1000");
                    let mut commit = flush(&store, "db", &body, 1 + writer * 1000 + number);
                    commit.txns = vec![(format!("i/{writer}"), number.try_into().unwrap())];
                    assert!(catalog.commit(&commit).unwrap().is_new);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let state = reload(&lake);
    assert_eq!((state.rows, state.files), (WRITERS * COMMITS, WRITERS * COMMITS));
    assert_eq!(state.version, WRITERS * COMMITS - 1);
    let found: BTreeSet<_> = names(&state).into_iter().map(str::to_owned).collect();
    let pairs = (0..WRITERS).flat_map(|writer| (0..COMMITS).map(move |it| (writer, it)));
    let mut expected: BTreeSet<_> = pairs.map(|(a, b)| format!("w{a}_{b}")).collect();
    expected.extend(["time", "v"].map(str::to_owned));
    assert_eq!(found, expected);
    let catalog = lake.catalog();
    catalog.load().unwrap();
    for writer in 0..WRITERS {
        let txn = catalog.txn("db", "cpu", &format!("i/{writer}")).unwrap();
        assert_eq!(txn, Some((COMMITS - 1).try_into().unwrap()));
    }
}

#[test]
fn a_torn_last_commit_is_moved_aside_wherever_it_was_cut() {
    let lake = Lake::new();
    let catalog = lake.catalog();
    catalog.commit(&lake.flush("db", "cpu v=1 1000", 1)).unwrap();
    let before = reload(&lake);
    let mut commit = lake.flush("db", "cpu v=1,w=2 1000\ncpu v=2 86400000000000", 2);
    commit.txns.push(("i/segments".to_owned(), 2));
    catalog.commit(&commit).unwrap();
    drop(catalog);
    let log = lake.log("db", "cpu");
    fs::remove_file(log.join(format!("{:020}.crc", 0))).unwrap();
    let after = reload(&lake);
    let last = log.join(format!("{:020}.json", 1));
    let checksum = log.join(format!("{:020}.crc", 1));
    assert!(checksum.exists(), "a reload leaves one");
    let whole = fs::read(&last).unwrap();
    let whole_checksum = fs::read(&checksum).unwrap();
    assert!(whole.split(|it| *it == b'\n').count() > 6, "commitInfo to txns, a line each");
    // Thousands of starts, none of which needs to survive a power cut.
    let unsynced = LocalFileSystem::new_with_prefix(lake.path().join(layout::TABLES)).unwrap();
    let catalog = Catalog::open_store(Arc::new(unsynced), Options::default()).unwrap();
    // All cuts next to the end of a line, and every seventh inside of lines, which are all alike.
    let is_border =
        |it: usize| whole[it.saturating_sub(2)..whole.len().min(it + 2)].contains(&b'\n');
    for length in (0..whole.len()).filter(|it| it % 7 == 0 || is_border(*it)) {
        fs::write(&last, &whole[..length]).unwrap();
        fs::write(&checksum, &whole_checksum).unwrap();
        let loaded = catalog.load().unwrap();
        let place = "tables/db/cpu/_delta_log/00000000000000000001.json";
        assert_eq!(loaded.repaired, [Path::new(place)], "cut at byte {length}");
        assert_eq!(loaded.tables, std::slice::from_ref(&before), "cut at byte {length}");
        assert_eq!(catalog.txn("db", "cpu", "i/segments").unwrap(), None);
        let torn = lake.path().join("tables/db/cpu/_torn/00000000000000000001.json");
        assert_eq!(fs::read(&torn).unwrap(), whole[..length]);
        assert!(!last.exists());
        if length % 97 == 0 {
            assert_eq!(catalog.commit(&commit).unwrap().version, 1);
            assert_eq!(reload(&lake), after);
        }
    }
    let mut zeroed = whole;
    let half = zeroed.len() / 2;
    zeroed[half..].fill(0);
    fs::write(&last, &zeroed).unwrap();
    assert_eq!(reload(&lake), before, "what was not written may be zeros");
}

#[test]
fn a_torn_first_commit_leaves_no_table() {
    let lake = Lake::new();
    let commit = lake.flush("db", "cpu v=1 1000", 1);
    lake.catalog().commit(&commit).unwrap();
    let first = lake.log("db", "cpu").join(format!("{:020}.json", 0));
    fs::write(&first, b"").unwrap();
    let catalog = lake.catalog();
    let loaded = catalog.load().unwrap();
    assert_eq!((loaded.tables.len(), loaded.repaired.len()), (0, 1));
    assert_eq!(loaded.skipped, [Path::new("tables/db/cpu")]);
    assert_eq!(catalog.commit(&commit).unwrap().version, 0);
    assert_eq!(reload(&lake).rows, 1);
}

#[test]
fn a_broken_commit_that_is_not_the_last_is_named_and_left_alone() {
    let lake = Lake::new();
    let catalog = lake.catalog();
    for sequence in 1..=4 {
        catalog.commit(&lake.flush("db", "cpu v=1 1000", sequence)).unwrap();
    }
    drop(catalog);
    let path = lake.log("db", "cpu").join(format!("{:020}.json", 2));
    let whole = fs::read(&path).unwrap();
    for length in [0, whole.len() / 2] {
        fs::write(&path, &whole[..length]).unwrap();
        let error = lake.catalog().load().unwrap_err();
        let Cause::Broken { file } = &error.cause else { panic!("{error:?}") };
        assert_eq!(file, "00000000000000000002.json", "cut at {length}");
        assert!(error.to_string().ends_with("tables/db/cpu"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), whole[..length]);
    }
    fs::write(&path, &whole).unwrap();
    assert_eq!(reload(&lake).rows, 4);
}

#[test]
fn a_file_with_another_kind_is_refused_before_anything_is_written() {
    let lake = Lake::new();
    let catalog = lake.catalog();
    catalog.commit(&lake.flush("db", "cpu f=1,i=1i,u=1u 1000", 1)).unwrap();
    let mut sequence = 10;
    let mut refused = |body: &str, expected: &str| {
        sequence += 1;
        let commit = lake.flush("db", body, sequence);
        for catalog in [&catalog, &lake.catalog()] {
            let error = catalog.commit(&commit).unwrap_err();
            assert_eq!(error.operation, Operation::Commit);
            assert_eq!(error.to_string(), "cannot commit to tables/db/cpu");
            assert_eq!(error.cause.to_string(), expected);
        }
    };
    refused("cpu f=1i 1000", "column f: expected double (float), found long (integer)");
    refused("cpu i=1 1000", "column i: expected long (integer), found double (float)");
    refused("cpu f=\"a\" 1000", "column f: expected double (float), found string (string)");
    refused("cpu u=1i 1000", "column u: expected decimal(20,0) (unsigned), found long (integer)");
    let mut commit = lake.flush("db", "cpu f=1 1000", 3);
    commit.segments[0].columns[1].stored = StoredType::Int64;
    let error = catalog.commit(&commit).unwrap_err();
    assert!(matches!(error.cause, Cause::UnknownColumn { .. }), "{error:?}");
    assert_eq!(reload(&lake).version, 0);
    assert!(catalog.commit(&lake.flush("db", "cpu f=2 1000", 4)).unwrap().is_new);
}

#[test]
fn misplaced_files_are_refused() {
    let lake = Lake::new();
    let catalog = lake.catalog();
    let good = lake.flush("db", "cpu v=1 1000", 1);
    let refused = |commit: &Commit| -> PublishError { catalog.commit(commit).unwrap_err() };
    for path in ["a.parquet", "tables/db/cpu/a.parquet", "tables/db/cpu/date=2020-01-01/a.parquet"]
    {
        let mut commit = good.clone();
        commit.segments[0].path = path.into();
        assert!(matches!(refused(&commit).cause, Cause::UnknownPlace), "{path}");
    }
    let mut commit = good.clone();
    commit.segments.clear();
    assert!(matches!(refused(&commit).cause, Cause::NoFiles));
    catalog.commit(&good).unwrap();
    let mut commit = good.clone();
    commit.measurement = "mem".to_owned();
    assert!(matches!(refused(&commit).cause, Cause::OtherName { .. }));
    let mut commit = good;
    commit.segments.clear();
    commit.txns = vec![("i/0".to_owned(), 9)];
    assert!(catalog.commit(&commit).unwrap().is_new, "txns alone are fine once there is a table");
    assert_eq!(catalog.txn("db", "cpu", "i/0").unwrap(), Some(9));
}

#[test]
fn the_log_stays_short_and_says_the_same() {
    let lake = Lake::new();
    let catalog = lake.catalog_with(10);
    for sequence in 0..45 {
        let commit = lake.flush("db", &format!("cpu,host=a v=1,f{sequence}=1i 1000"), sequence + 1);
        assert_eq!(catalog.commit(&commit).unwrap().version, sequence);
    }
    let log = lake.log("db", "cpu");
    let mut names: Vec<_> = fs::read_dir(&log)
        .unwrap()
        .map(|it| it.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let version = |name: &String| name.get(..20).and_then(|it| it.parse::<u64>().ok());
    let of = |end: &str| -> Vec<u64> {
        names.iter().filter(|it| it.ends_with(end)).filter_map(version).collect()
    };
    assert_eq!(of(".checkpoint.parquet"), [30, 40]);
    assert_eq!(of(".crc"), [30, 40]);
    assert_eq!(of(".json"), (30..45).collect::<Vec<_>>());

    let state = reload(&lake);
    assert_eq!((state.version, state.rows, state.files), (44, 45, 45));
    assert_eq!(state.columns.len(), 3 + 45);
    assert_eq!(state.columns[1].role, Role::Tag);
    let fresh = lake.catalog();
    fresh.load().unwrap();
    assert_eq!(fresh.txn("db", "cpu", "i/0").unwrap(), Some(45));
    assert_eq!(fresh.files("db", "cpu").unwrap(), catalog.files("db", "cpu").unwrap());
    for catalog in [&fresh, &catalog] {
        let sequence = if std::ptr::eq(catalog, &raw const fresh) { 46 } else { 47 };
        catalog.commit(&lake.flush("db", "cpu v=1 1000", sequence)).unwrap();
    }
    assert_eq!(reload(&lake).rows, 47);
}

#[test]
fn statistics_are_those_of_the_rows() {
    let lake = Lake::new();
    let long = "x".repeat(100);
    let body = format!(
        "t,tag=b f=1.5,i=-3i,u=18446744073709551615u,b=true,s=\"{long}\" 1000\n\
         t,tag=a f=-0.25,u=1u 2001\n\
         t f=1e300 1600000000123456789\n"
    );
    let commit = lake.flush("db", &body, 1);
    lake.catalog().commit(&commit).unwrap();
    let actions = lake.version("t", 0);
    let adds: Vec<_> = actions.iter().filter_map(|it| it.get("add")).collect();
    assert_eq!(adds.len(), 2);
    let statistics = |at: usize| {
        let text = adds[at].get("stats").unwrap().as_str().unwrap();
        simd_json::to_owned_value(&mut text.as_bytes().to_vec()).unwrap()
    };
    let path = "date=1970-01-01/00000000-0000000000000001-0000.parquet";
    assert_eq!(adds[0].get("path").unwrap().as_str(), Some(path));
    assert_eq!(adds[0].get("partitionValues").unwrap(), &json!({"date": "1970-01-01"}));
    assert_eq!(adds[0].get("size").unwrap().as_u64(), Some(commit.segments[0].bytes));
    assert_eq!(adds[0].get("dataChange").unwrap().as_bool(), Some(true));
    assert!(adds[0].get("modificationTime").unwrap().as_i64().unwrap() > 1_700_000_000_000);
    let expected = json!({
        "numRecords": 2,
        "nullCount": {
            "time": 0, "time_ns": 0, "tag": 0, "f": 0, "i": 1, "u": 0, "b": 1, "s": 1
        },
        "minValues": {
            "time": "1970-01-01T00:00:00.000Z", "time_ns": 0, "tag": "a", "f": -0.25, "i": -3,
            "u": 1, "s": "x".repeat(32)
        },
        "maxValues": {
            "time": "1970-01-01T00:00:00.000Z", "time_ns": 1, "tag": "b", "f": 1.5, "i": -3,
            "u": 18_446_744_073_709_551_615_u64, "s": format!("{}\u{10FFFF}", "x".repeat(32))
        },
        "tightBounds": true
    });
    assert_eq!(statistics(0), expected);
    let second = statistics(1);
    assert_eq!(second.get("numRecords").unwrap().as_u64(), Some(1));
    let nulls = second.get("nullCount").unwrap();
    for name in ["tag", "i", "u", "b", "s"] {
        assert_eq!(nulls.get(name).unwrap().as_u64(), Some(1), "{name} is not in the file");
    }
    let minima = second.get("minValues").unwrap();
    assert_eq!(minima.get("time").unwrap().as_str(), Some("2020-09-13T12:26:40.123Z"));
    assert_eq!(minima.get("time_ns").unwrap().as_u64(), Some(789));
    let keys: BTreeSet<_> = minima.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, BTreeSet::from(["time", "time_ns", "f"]));
}

#[test]
fn the_first_commit_describes_the_table() {
    let lake = Lake::new();
    lake.catalog().commit(&lake.flush("db", "cpu,host=a v=1 1000", 1)).unwrap();
    let actions = lake.version("cpu", 0);
    let metadata = action(&actions, "metaData");
    assert_eq!(metadata.get("partitionColumns").unwrap(), &json!(["date"]));
    let expected = json!({"peristyle.database": "db", "peristyle.measurement": "cpu"});
    assert_eq!(metadata.get("configuration").unwrap(), &expected);
    let text = metadata.get("schemaString").unwrap().as_str().unwrap();
    let schema = simd_json::to_owned_value(&mut text.as_bytes().to_vec()).unwrap();
    let fields = schema.get("fields").unwrap().as_array().unwrap();
    let described: Vec<_> = fields
        .iter()
        .map(|it| {
            let text = |key: &str| it.get(key).unwrap().as_str().unwrap().to_owned();
            (text("name"), text("type"), it.get("nullable").unwrap().as_bool())
        })
        .collect();
    let field = |name: &str, kind: &str| (name.to_owned(), kind.to_owned(), Some(true));
    let expected = [("time", "timestamp"), ("date", "date"), ("host", "string"), ("v", "double")];
    assert_eq!(described, expected.map(|(name, kind)| field(name, kind)));
    let expected =
        json!({"peristyle.kind": "string", "peristyle.name": "host", "peristyle.role": "tag"});
    assert_eq!(fields[2].get("metadata").unwrap(), &expected);
    let protocol = action(&actions, "protocol");
    assert_eq!(protocol.get("readerFeatures").unwrap(), &json!([]));
    assert_eq!(protocol.get("writerFeatures").unwrap(), &json!([]));
    let txn = action(&actions, "txn");
    assert_eq!(txn.get("appId").unwrap().as_str(), Some("i/0"));
    assert_eq!(txn.get("version").unwrap().as_u64(), Some(1));
}

#[test]
fn columns_are_of_the_types_that_the_contract_says() {
    let lake = Lake::new();
    let catalog = lake.catalog();
    let body = "t,tag=a float=1,integer=1i,unsigned=1u,boolean=t,string=\"a\" 1";
    for (name, unsigned) in [("int64", Unsigned::Int64), ("decimal", Unsigned::Decimal)] {
        let body = body.replacen('t', name, 1);
        let sequence = catalog.load().unwrap().tables.len() as u64;
        let commit = flush_as(&lake.store, "db", &body, sequence, unsigned);
        catalog.commit(&commit).unwrap();
    }
    let types = |measurement: &str| -> BTreeMap<String, String> {
        let actions = lake.version(measurement, 0);
        let text = action(&actions, "metaData").get("schemaString").unwrap().as_str().unwrap();
        let schema = simd_json::to_owned_value(&mut text.as_bytes().to_vec()).unwrap();
        let fields = schema.get("fields").unwrap().as_array().unwrap().iter();
        let text = |it: &OwnedValue, key| it.get(key).unwrap().as_str().unwrap().to_owned();
        fields.map(|it| (text(it, "name"), text(it, "type"))).collect()
    };
    let (int64, decimal) = (types("int64"), types("decimal"));
    let contract = include_str!("../../schemas/table.md");
    let rows = contract.lines().skip_while(|it| *it != "| column | Delta type |").skip(2);
    let mut count = 0;
    for row in rows.take_while(|it| it.starts_with('|')) {
        let cells: Vec<_> = row.split('|').map(|it| it.trim().trim_matches('`')).collect();
        let (types, column) = match cells[1] {
            "unsigned as decimal" => (&decimal, "unsigned"),
            // No line of line protocol has a field of this kind; it is written as `time` is.
            "timestamp" => (&int64, "time"),
            column => (&int64, column),
        };
        assert_eq!(types.get(column).map(String::as_str), Some(cells[2]), "{row}");
        count += 1;
    }
    assert_eq!(count, 11);
}

#[test]
fn every_name_of_a_column_is_one_that_delta_takes() {
    let lake = Lake::new();
    let catalog = lake.catalog();
    // Everything that the kernel refuses, what our own encoding uses, and what others stumble over.
    let odd = " ,;{}()\n\t=%~.`'\"\\/#?&*[]<>|!@$^+:-\u{e9}\u{1f3db}\u{1}";
    for (sequence, char) in (1..).zip(odd.chars()) {
        let escaped = match char {
            ' ' | ',' | '=' => format!("\\{char}"),
            '\n' => continue,
            '\\' => "\\x".to_owned(),
            other => other.to_string(),
        };
        let commit = lake.flush("db", &format!("cpu v=1,a{escaped}b=2 1000"), sequence);
        catalog.commit(&commit).unwrap_or_else(|error| panic!("{char:?}: {error:?}"));
    }
    let state = reload(&lake);
    for char in odd.chars().filter(|it| !['\n', '\\'].contains(it)) {
        let name = format!("a{char}b");
        let column = state.columns.iter().find(|it| it.name == name);
        let column = column.unwrap_or_else(|| panic!("{name:?} in {:?}", names(&state)));
        assert_eq!(column.physical, physical_name(&name, 0));
    }
}

#[test]
fn directories_without_a_log_are_no_tables() {
    let lake = Lake::new();
    lake.catalog().commit(&lake.flush("db", "cpu v=1 1000", 1)).unwrap();
    lake.flush("db", "mem v=1 1000", 2);
    fs::create_dir_all(lake.log("other", "empty")).unwrap();
    fs::create_dir_all(lake.path().join("tables/alone")).unwrap();
    fs::write(lake.path().join("tables/file"), b"x").unwrap();
    let catalog = lake.catalog();
    let loaded = catalog.load().unwrap();
    assert_eq!(loaded.tables.len(), 1);
    assert_eq!(loaded.skipped, ["tables/db/mem", "tables/other/empty"].map(PathBuf::from));
    assert!(catalog.commit(&lake.flush("db", "mem v=2 1000", 3)).unwrap().is_new);
    catalog.forget_database("db");
    assert_eq!(catalog.files("db", "cpu").unwrap(), Vec::<PathBuf>::new());
}

#[test]
fn a_hundred_tables_are_loaded() {
    let lake = Lake::new();
    let catalog = lake.catalog();
    for number in 0..100 {
        let database = format!("db{}", number % 3);
        catalog.commit(&lake.flush(&database, &format!("M{number:03} v=1 1000"), number)).unwrap();
    }
    let loaded = lake.catalog().load().unwrap();
    assert_eq!((loaded.tables.len(), loaded.skipped.len()), (100, 0));
    let names: Vec<_> = loaded.tables.iter().map(|it| (&*it.database, &*it.measurement)).collect();
    assert!(names.is_sorted());
    assert!(loaded.tables.iter().all(|it| it.rows == 1 && it.columns.len() == 2));
}

#[test]
fn a_dropped_database_begins_again() {
    let lake = Lake::new();
    let catalog = lake.catalog();
    catalog.commit(&lake.flush("db", "cpu v=1 1000", 1)).unwrap();
    lake.store.remove_database("db").unwrap();
    catalog.forget_database("db");
    assert_eq!(catalog.commit(&lake.flush("db", "cpu v=\"other\" 1000", 2)).unwrap().version, 0);
    assert_eq!(reload(&lake).columns[1].kind, ColumnKind::String);
}

#[test]
fn a_table_that_somebody_removed_begins_again() {
    let lake = Lake::new();
    let catalog = lake.catalog();
    for sequence in 1..=3 {
        catalog.commit(&lake.flush("db", "cpu v=1 1000", sequence)).unwrap();
    }
    fs::remove_dir_all(lake.path().join("tables/db")).unwrap();
    let commit = lake.flush("db", "cpu v=\"other\" 1000", 4);
    assert_eq!(catalog.commit(&commit).unwrap().version, 0);
    let state = reload(&lake);
    assert_eq!((state.rows, state.columns[1].kind), (1, ColumnKind::String));
}

#[test]
fn a_full_disk_is_told_from_a_broken_one_wherever_it_is_wrapped() {
    let io = |kind: ErrorKind| std::io::Error::from(kind);
    let stored = |kind| object_store::Error::Generic { store: "local", source: Box::new(io(kind)) };
    let is_full = |cause: Cause| {
        let path = "tables/db/cpu".to_owned();
        PublishError { operation: Operation::Commit, path, cause }.is_storage_full()
    };
    for (kind, expected) in [
        (ErrorKind::StorageFull, true),
        (ErrorKind::QuotaExceeded, true),
        (ErrorKind::Other, false),
    ] {
        assert_eq!(is_full(Cause::Store(stored(kind))), expected);
        assert_eq!(is_full(Cause::Kernel(KernelError::ObjectStore(stored(kind)))), expected);
        assert_eq!(is_full(Cause::Kernel(KernelError::IOError(io(kind)))), expected);
        let wrapped = KernelError::ObjectStore(stored(kind)).with_backtrace();
        assert_eq!(is_full(Cause::Kernel(wrapped)), expected);
    }
    assert!(!is_full(Cause::NoFiles));
}
