//! An error at any one call to the disk, below a whole engine with its Delta logs: what was
//! acknowledged is there, once; the server goes on, or ends and starts again; nothing hangs.

use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use peristyle::engine::{Engine, Options};
use peristyle::persist::Store;
use peristyle::publish::{self, Catalog, TableState};
use peristyle::schema::ColumnKind;

use crate::live::{self, Live};
use crate::machine::{Machine, Run, seeds, send};
use crate::publish::flush;
use crate::sim_disk::{Fault, Random, SimDisk};
use crate::sim_logs::SimLogs;

/// How long one life may take at most; it takes less than a second.
const DEADLINE: Duration = Duration::from_secs(120);
/// How often something is asked for that comes in a while.
const TRIES: u32 = 20_000;
/// Bodies of each client in a run.
const BODIES: usize = 6;

const FAULTS: [Fault; 3] = [Fault::Io, Fault::Full, Fault::Short];

/// In which part of a life it goes wrong.
#[derive(Clone, Copy, Debug)]
enum Part {
    /// A server on an empty disk: journal, first files, tables, a database dropped.
    First,
    /// A server on what another one left that was killed: recovery, and more of the same.
    Second,
}

fn machine(seed: u64) -> Machine {
    let mut machine = Machine::new(seed);
    machine.drops = true;
    machine
}

/// A machine that is about to do what `part` says.
fn before(part: Part, seed: u64) -> Machine {
    let mut machine = machine(seed);
    if matches!(part, Part::Second) {
        assert!(machine.run(BODIES));
        machine.kill();
    }
    // What can be published is, before the end.
    machine.close_timeout = Duration::from_secs(60);
    machine
}

/// How many calls there are.
fn calls(part: Part) -> u64 {
    let mut machine = before(part, 0);
    let before = machine.disk.calls();
    assert!(machine.run(BODIES));
    machine.disk.calls() - before
}

/// A life with one fault at call `at`.
fn live_through(seed: u64, part: Part, fault: Fault, at: u64) -> Result<&'static str, String> {
    let mut machine = before(part, seed);
    machine.disk.fail_after(at, fault);
    let outcome = match machine.serve(BODIES) {
        Run::Refused(error) if error.to_string().is_empty() => return Err("no reason".to_owned()),
        Run::Refused(_) => "refused",
        Run::Failed(error) if error.to_string().is_empty() => return Err("no reason".to_owned()),
        Run::Failed(_) => "failed",
        // It says that all is published: then it is, without another start.
        Run::Ended => {
            machine.copy().check().map_err(|it| format!("before the next start: {it}"))?;
            "ended"
        }
    };
    if seed.is_multiple_of(2) {
        machine.kill();
    } else {
        machine.forget();
    }
    match machine.serve(2) {
        Run::Ended => {}
        other => return Err(format!("on a sound disk: {other:?}")),
    }
    machine.check()?;
    Ok(outcome)
}

#[test]
#[expect(clippy::print_stdout, reason = "the counts are the result")]
fn an_error_at_any_call_loses_and_doubles_nothing() {
    let counts = [(Part::First, calls(Part::First)), (Part::Second, calls(Part::Second))];
    let count = seeds(120);
    let (mut ended, mut failed, mut refused) = (0, 0, 0);
    for seed in 0..count {
        let mut random = Random(seed ^ 0x00fa_0175);
        let (part, calls) = counts[random.index(2)];
        let fault = FAULTS[random.index(FAULTS.len())];
        let at = 1 + random.below(calls);
        let (tell, told) = mpsc::channel();
        let life = thread::spawn(move || tell.send(live_through(seed, part, fault, at)));
        let what = format!("seed {seed}: {part:?}, {fault:?} at call {at}");
        match told.recv_timeout(DEADLINE) {
            Ok(Ok("ended")) => ended += 1,
            Ok(Ok("failed")) => failed += 1,
            Ok(Ok(_)) => refused += 1,
            Ok(Err(violation)) => panic!("{what}: {violation}"),
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("{what}: it hangs"),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let panicked = life.join().err();
                panic!("{what}: {panicked:?}");
            }
        }
    }
    println!("{count} seeds over {counts:?} calls");
    println!("{ended} went on, {failed} failed, {refused} did not start");
    assert!(ended > 0 && failed > 0 && refused > 0);
}

/// A catalog of the logs on a disk.
fn catalog(disk: &SimDisk) -> Catalog {
    Catalog::open_store(SimLogs::on(disk), publish::Options::default()).expect("threads")
}

/// What the logs on a disk say of the tables: measurement and rows.
fn tables(disk: &SimDisk) -> Vec<(String, u64, ColumnKind)> {
    let tables = catalog(&disk.copy()).load().expect("sound logs").tables;
    let kind = |it: &TableState| it.columns.last().expect("columns").kind;
    tables.iter().map(|it| (it.measurement.clone(), it.rows, kind(it))).collect()
}

/// The files of a dropped database could not be removed at once. Its new rows were then refused by
/// the old table, again and again, until a restart. The removal is tried again until it passes.
#[test]
fn a_dropped_database_whose_files_cannot_be_removed_is_removed_later() {
    let disk = SimDisk::new();
    let live = Live::start_with(|options| {
        options.data_dir = "/data".into();
        options.disk = disk.shared();
        options.log_store = Some(SimLogs::on(&disk));
    });
    assert_eq!(live.post("/write?db=a", "cpu v=1i 1").status, 204);
    assert_eq!(live.post("/api/v1/flush", "").status, 200);
    disk.refuse_removals(2);
    let answer = live.post("/query?q=DROP%20DATABASE%20a", "");
    assert!(answer.body.contains("cannot remove"), "{}: {}", answer.status, answer.body);
    assert_eq!(live.post("/write?db=a", "cpu v=\"text\" 2").status, 204);
    let later = [("cpu".to_owned(), 1, ColumnKind::String)];
    let is_later = |_| {
        assert_eq!(live.post("/api/v1/flush", "").status, 200);
        tables(&disk) == later
    };
    assert!((0..TRIES).any(is_later), "{:?}", tables(&disk));
    // Nothing of before comes back.
    drop(live);
    let options = Options {
        disk: disk.shared(),
        log_store: Some(SimLogs::on(&disk)),
        ..live::options(Path::new("/data"))
    };
    Engine::open(&options).expect("a start").close().expect("an end");
    assert_eq!(tables(&disk), later);
}

/// Somebody else gave a column another type than rows have that wait to be written: these cannot
/// be. Each such table kept a thread, waiting to try again, and two of them stopped all flushes.
#[test]
fn tables_that_somebody_else_changed_do_not_stop_the_others() {
    let machine = Machine::new(0);
    let options = Options { shards: 1, ..machine.options() };
    let engine = Engine::open(&options).expect("a start");
    let elsewhere = SimDisk::new();
    let store = Store::open(elsewhere.shared(), Path::new("/data")).unwrap();
    let others = catalog(&machine.disk);
    let names: Vec<String> = (0..20).map(|at| format!("m{at}")).collect();
    for (sequence, name) in (1..).zip(&names) {
        let theirs = flush(&store, "db", &format!("{name} id=\"text\" 1"), sequence);
        assert!(others.commit(&theirs).unwrap().is_new);
    }
    let lines = |name: &String| format!("{name} id=1i 1\n");
    let text: String = names.iter().map(lines).collect();
    let loads = vec![(text, Vec::new()), ("free id=1i 1\n".to_owned(), Vec::new())];
    send(&engine, 0, loads, 1, false);
    let is_free = |it: &(String, u64, ColumnKind)| it.0 == "free";
    let is_written = |_| {
        let flushed = flushed(&engine);
        assert!(flushed.contains("expected string (string), found long (integer)"), "{flushed}");
        tables(&machine.disk).iter().any(is_free)
    };
    assert!((0..TRIES).any(is_written));
    assert!(engine.close().is_err(), "their rows are in the journal only");
}

/// Why a flush fails.
fn flushed(engine: &Engine) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(engine.flush(None)).expect_err("tables that cannot be written").to_string()
}
