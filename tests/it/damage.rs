//! Bits flipped and files cut in Delta logs: told, or of no matter, and never neither.

#![expect(clippy::indexing_slicing, reason = "a test stops at the first surprise")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use peristyle::engine::Engine;
use peristyle::journal;
use peristyle::persist::Store;
use peristyle::publish::{Catalog, Options, TableState};

use crate::machine::{Machine, seeds};
use crate::publish::flush;
use crate::sim_disk::{Random, SimDisk};
use crate::sim_logs::{SimLogs, log_files};

/// Damages one file; returns it and what was done.
fn damage(disk: &SimDisk, random: &mut Random) -> (PathBuf, String) {
    let mut files = log_files(disk);
    let file = files.swap_remove(random.index(files.len()));
    let at = random.index(disk.bytes(&file).len());
    let name = file.display();
    let what = if random.below(4) == 0 {
        disk.change(&file, |bytes| bytes.truncate(at));
        format!("{name}: cut at {at}")
    } else {
        let bit = random.below(8);
        disk.change(&file, |bytes| bytes[at] ^= 1 << bit);
        format!("{name}: bit {bit} of byte {at}")
    };
    (file, what)
}

/// An error with what caused it.
fn text(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |it| it.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn journal_records(disk: &SimDisk) -> u64 {
    let (directory, options) = (Path::new("/data/wal"), journal::Options::default());
    journal::open(disk.shared(), directory, &options).expect("a journal").record_count()
}

/// A server that wrote and ended, in one of the states that its journal can be in.
fn served(seed: u64, is_let_go: bool) -> Machine {
    let mut machine = Machine::new(seed);
    machine.close_timeout = Duration::from_secs(60);
    assert!(machine.run(6) && machine.run(6));
    // A start lets go of the whole journal, on a thread that a quick end does not wait for.
    while is_let_go && journal_records(&machine.disk) > 0 {
        assert!(machine.run(0));
    }
    machine.check().expect("a sound machine");
    machine
}

#[test]
#[expect(clippy::print_stdout, reason = "the counts are the result")]
fn no_row_is_lost_or_doubled_in_silence_by_a_damaged_log() {
    let count = seeds(200);
    let sound = [served(1, false), served(2, true)];
    let (mut told, mut harmless) = (0, 0);
    for seed in 0..count {
        let mut random = Random(seed);
        let mut machine = sound[random.index(2)].copy();
        let (file, what) = damage(&machine.disk, &mut random);
        let table = file.ancestors().nth(2).expect("a table").strip_prefix("/data").unwrap();
        let table = table.to_str().unwrap();
        match Engine::open(&machine.options()) {
            Err(error) => {
                let text = text(&error);
                assert!(text.contains(table), "seed {seed}: {what}: {text}");
                told += 1;
            }
            Ok(engine) => {
                engine.close().expect("an end");
                let checked = machine.check();
                assert_eq!(checked, Ok(()), "seed {seed}: {what}");
                // It goes on from there, and once more.
                assert!(machine.run(2), "seed {seed}: {what}");
                assert_eq!(machine.check(), Ok(()), "seed {seed}: {what}");
                harmless += 1;
            }
        }
    }
    println!("{count} seeds: {told} told, {harmless} harmless");
    assert!(told > 0 && harmless > 0);
}

/// Commits were moved aside like torn ones wherever they were damaged, their files taken for ones
/// that were never published, and removed: one flipped bit in the last commit of an idle table took
/// its last rows. A file says which records its rows are from: what the journal has let go of is
/// not removed.
#[test]
fn a_file_whose_commit_was_lost_stays_and_stops_the_start() {
    let machine = served(3, true);
    let segments = |machine: &Machine| {
        let files = machine.disk.all_files(Path::new("/data/tables")).into_iter();
        files.filter(|it| !log_files(&machine.disk).contains(it)).collect::<Vec<_>>()
    };
    for damage in ["lost", "cut", "empty"] {
        let mut machine = machine.copy();
        let is_commit = |it: &PathBuf| it.extension().is_some_and(|it| it == "json");
        let last = log_files(&machine.disk).into_iter().rfind(is_commit).expect("a commit");
        match damage {
            "lost" => machine.disk.lose(&last),
            "cut" => machine.disk.change(&last, |bytes| bytes.truncate(bytes.len() / 2)),
            _ => machine.disk.change(&last, Vec::clear),
        }
        let parquet = |machine: &Machine| -> Vec<PathBuf> {
            let is_it = |it: &PathBuf| it.extension().is_some_and(|it| it == "parquet");
            segments(machine).into_iter().filter(is_it).collect()
        };
        let files = parquet(&machine);
        for _ in 0..2 {
            let error = Engine::open(&machine.options()).expect_err(damage);
            let text = text(&error);
            assert!(text.contains("is not in the log of its table"), "{text}");
            assert_eq!(parquet(&machine), files);
        }
        // Who says so goes on without these rows; the file keeps them, under another name.
        let options = peristyle::engine::Options { wal_salvage: true, ..machine.options() };
        Engine::open(&options).expect("a start").close().expect("an end");
        let lost = |it: &&PathBuf| it.extension().is_some_and(|it| it == "lost");
        assert_eq!(segments(&machine).iter().filter(lost).count(), 1);
        assert_eq!(parquet(&machine).len(), files.len() - 1);
        assert!(machine.run(1));
    }
}

/// What a catalog says of the only table, and what it moved aside.
type Seen = (TableState, Vec<Option<i64>>, Vec<PathBuf>);

fn look(disk: &SimDisk) -> Result<(Seen, Vec<PathBuf>), String> {
    let catalog = Catalog::open_store(SimLogs::on(disk), Options::default()).expect("threads");
    let mut loaded = catalog.load().map_err(|error| text(&error))?;
    let table = loaded.tables.pop().ok_or("no table")?;
    let txns = ["i/0", "i/1"].map(|it| catalog.txn("db", "cpu", it).map_err(|it| text(&it)));
    let txns: Vec<_> = txns.into_iter().collect::<Result<_, _>>()?;
    let files = catalog.files("db", "cpu").map_err(|error| text(&error))?;
    Ok(((table, txns, files), loaded.repaired))
}

#[test]
#[expect(clippy::print_stdout, reason = "the counts are the result")]
fn damage_to_any_file_of_a_log_is_told_or_does_not_matter() {
    let disk = SimDisk::new();
    let store = Store::open(disk.shared(), Path::new("/data")).unwrap();
    let options = Options { checkpoint_commits: 4, checkpoint_spread: 0, ..Options::default() };
    let catalog = Catalog::open_store(SimLogs::on(&disk), options).unwrap();
    for sequence in 1..=11 {
        let body = format!("cpu,host=a v=1,f{}=1i 1000", sequence % 3);
        let mut commit = flush(&store, "db", &body, sequence);
        commit.txns.push(("i/1".to_owned(), 7));
        assert!(catalog.commit(&commit).unwrap().is_new);
    }
    let (expected, repaired) = look(&disk.copy()).unwrap();
    assert_eq!((expected.0.version, repaired), (10, Vec::new()));
    let is_last = |file: &Path| file.to_str().unwrap().ends_with("10.json");
    let count = seeds(400);
    let (mut told, mut repairs, mut harmless) = (0, 0, 0);
    for seed in 0..count {
        let (disk, mut random) = (disk.copy(), Random(seed));
        let (file, what) = damage(&disk, &mut random);
        let name = file.file_name().unwrap().to_str().unwrap();
        match look(&disk) {
            Err(text) => {
                assert!(text.contains(name), "seed {seed}: {what}: {text}");
                told += 1;
            }
            Ok((seen, repaired)) if is_last(&file) => {
                let place = file.strip_prefix("/data").unwrap().to_owned();
                assert_eq!((seen.0.version, repaired), (9, vec![place]), "seed {seed}: {what}");
                repairs += 1;
            }
            Ok((seen, repaired)) => {
                assert_eq!(seen, expected, "seed {seed}: {what}");
                harmless += u64::from(repaired.is_empty());
                repairs += u64::from(!repaired.is_empty());
                // What was moved aside is not missed.
                let (seen, repaired) = look(&disk).unwrap();
                assert_eq!((seen, repaired), (expected.clone(), vec![]), "seed {seed}: {what}");
            }
        }
    }
    println!("{count} seeds: {told} told, {repairs} repaired, {harmless} harmless");
    assert!(told > 0 && repairs > 0 && harmless > 0);
}
