//! Power cuts and kills below the whole engine: what was acknowledged is in the tables, once,
//! whatever the disk forgets. The disk is simulated (`sim_disk`), with the Delta logs on it.

use peristyle::engine::Sabotage;

use crate::machine::{Machine, seeds};
use crate::sim_disk;

/// One machine's life: some runs, each ended at a random call, some of them in recovery: by a cut,
/// or by a kill, which leaves what was not synced to the next cut.
fn live_through(machine: &mut Machine) -> Result<(), String> {
    for _ in 0..=machine.random.index(3) {
        let bodies = 1 + machine.random.index(30);
        let calls = 1 + machine.random.below(600);
        machine.disk.cut_after(calls);
        machine.run(bodies);
        if machine.random.below(3) == 0 {
            machine.kill();
        } else {
            machine.reboot();
        }
    }
    machine.started(2)?;
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

/// A commit was taken for published once its name was seen, by a start after a kill or by a try
/// after an error, and its records let go: the name itself was not synced, and a power cut took it.
/// The directory of each log is synced before that.
#[test]
fn what_a_kill_left_unsynced_is_synced_before_the_journal_lets_go() {
    let life = |at: u64| {
        let mut machine = Machine::new(7);
        // Tables that have a commit and its checksum, and get another.
        assert!(machine.run(2) && machine.run(0));
        machine.disk.cut_after(at);
        machine.run(2);
        machine.kill();
        machine.started(0)?;
        machine.forget();
        machine.started(0)?;
        machine.check()
    };
    let step = if seeds(0) == 0 { 7 } else { 1 };
    for at in (1..400).step_by(step) {
        assert_eq!(life(at), Ok(()), "call {at}");
    }
}

/// A start after a kill published records that were in memory only, table by table, before it made
/// them durable: a power cut in between left a request in one of its tables and not in the other.
/// This is the seed that showed it, one time in forty: its threads meet in another order each time.
#[test]
fn what_is_replayed_is_durable_before_it_is_published() {
    for _ in 0..seeds(20).min(50) {
        assert_eq!(live_through(&mut Machine::new(1292)), Ok(()));
    }
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
