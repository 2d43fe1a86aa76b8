//! The journal: what was acknowledged is there after whatever happens to the disk, once, in order.

#![expect(clippy::indexing_slicing, reason = "a test stops at the first surprise")]

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::iter;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use peristyle::disk::{Disk, LocalDisk, create_directories};
use peristyle::durability::Durability;
use peristyle::journal::{
    self, Checksums, Column, Columns, Entry, Journal, JournalError, Operation, Options, Recovered,
    Refusal, Write,
};

use crate::sim_disk::{Fault, Random, Sabotage, SimDisk, Space};

/// Where the journal is on a disk in memory.
const WAL: &str = "/data/wal";

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future on this thread.
fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

fn options(segment_bytes: u64) -> Options {
    Options {
        segment_bytes,
        spares: 2,
        retry_after: Duration::from_millis(1),
        mark_after: Duration::ZERO,
        ..Options::default()
    }
}

fn open(disk: &Arc<dyn Disk>, options: &Options) -> Result<Recovered, JournalError> {
    journal::open(Arc::clone(disk), Path::new(WAL), options)
}

fn start(recovered: Recovered) -> Journal {
    recovered.start(0, Box::new(|error| panic!("{error}: {}", error.cause))).unwrap()
}

/// Sequence, entry and body of each record as text.
fn records(recovered: &Recovered) -> Vec<(u64, String, Vec<u8>)> {
    let mut records = Vec::new();
    let all = recovered.records(|record| {
        let entry = format!("{:?}", record.entry);
        records.push((record.sequence, entry, record.body.to_vec()));
        Ok::<(), JournalError>(())
    });
    all.unwrap();
    records
}

fn write(database: &str) -> Entry<'_> {
    Entry::Write(Write {
        database,
        shard: 7,
        format: 1,
        precision: 2,
        encoding: 3,
        flags: 4,
        endpoint: "/api/v2/write",
        measurement: "cpu",
        time: "ts",
        tags: "host,rack",
        received_ns: -6,
        accepted: 8,
        rejected: 9,
        rejected_kept: 10,
        digest: u64::MAX - 11,
        request_key: u128::MAX - 12,
    })
}

fn append(journal: &Journal, entry: &Entry<'_>, body: &[u8]) -> Result<Vec<u8>, JournalError> {
    let reservation = block_on(journal.reserve(body.len())).unwrap();
    block_on(journal.append(reservation, entry, body.to_vec()))
}

#[test]
fn every_kind_of_entry_comes_back_as_it_was() {
    let columns = [
        Column {
            name: "usage \u{e9}",
            physical: "usage%20\u{e9}",
            kind: 3,
            role: 1,
            unit: "percent",
        },
        Column { name: "", physical: "", kind: 255, role: 0, unit: "" },
    ];
    let columns = Cow::Borrowed(columns.as_slice());
    let entries = [
        write("db/rp"),
        Entry::Columns(Columns { database: "db", measurement: "cpu", columns }),
        Entry::Drop { database: "db" },
        Entry::Dropped { database: "db", sequence: 3 },
        Entry::Keys(Cow::Borrowed(&[1, u128::MAX])),
        Entry::Keys(Cow::Borrowed(&[])),
    ];
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("wal");
    for disk in [Arc::new(LocalDisk) as Arc<dyn Disk>, SimDisk::new().shared()] {
        let open = || journal::open(Arc::clone(&disk), &path, &options(8192)).unwrap();
        let mut expected = Vec::new();
        create_directories(disk.as_ref(), directory.path()).unwrap();
        for round in 0..3 {
            let recovered = open();
            assert_eq!(records(&recovered), expected);
            assert_eq!(records(&recovered), expected, "a second time");
            let journal = start(recovered);
            for (index, entry) in entries.iter().enumerate() {
                let body = vec![round; index * 977];
                if index == 0 {
                    assert_eq!(append(&journal, entry, &body).unwrap(), body);
                } else {
                    append(&journal, entry, &body).unwrap();
                }
                expected.push((expected.len() as u64 + 1, format!("{entry:?}"), body));
            }
            assert_eq!(journal.durable(), journal.last_sequence());
            journal.close();
        }
        assert_eq!(records(&open()), expected);
    }
}

#[test]
fn nothing_is_kept_in_memory_and_sequences_go_on() {
    let disk = SimDisk::new().shared();
    let first = start(open(&disk, &options(8192)).unwrap());
    append(&first, &write("db"), b"one").unwrap();
    drop(first);
    let memory = Options { durability: Durability::Memory, ..options(8192) };
    let recovered = open(&disk, &memory).unwrap();
    let instance = recovered.instance;
    assert_eq!(records(&recovered).len(), 1);
    let second = start(recovered);
    assert_ne!(second.instance(), instance);
    assert_eq!(append(&second, &write("db"), b"two").unwrap(), b"two");
    assert_eq!((second.last_sequence(), second.durable()), (2, 2));
    assert!(disk.list(Path::new(WAL)).unwrap().is_empty());
}

/// What a test knows of the records of a journal.
#[derive(Clone, Debug, Default)]
struct Ledger {
    /// By sequence: the text of the entry, the body, and whether it was acknowledged.
    records: BTreeMap<u64, (String, Vec<u8>, bool)>,
    /// Records up to here may be gone.
    published: u64,
}

impl Ledger {
    fn acknowledged(&self) -> u64 {
        let is_acknowledged = |it: &(&u64, &(String, Vec<u8>, bool))| it.1.2;
        self.records.iter().rev().find(is_acknowledged).map_or(0, |(sequence, _)| *sequence)
    }

    /// Whether what was found is what may be found; then it is what will be found from here on.
    fn compare(&mut self, found: &[(u64, String, Vec<u8>)]) -> Result<(), String> {
        let first = found.first().map_or(u64::MAX, |(sequence, ..)| *sequence);
        let lost = self.records.iter().find(|(sequence, _)| **sequence > self.published);
        let lost = lost.filter(|(sequence, _)| !found.is_empty() && **sequence < first);
        if let Some((lost, _)) = lost {
            return Err(format!("record {lost} is lost, {} were published", self.published));
        }
        let mut known = self.records.range(first..);
        for (sequence, entry, body) in found {
            let Some((expected, (known_entry, known_body, _))) = known.next() else {
                return Err(format!("record {sequence} was never appended"));
            };
            if sequence != expected || entry != known_entry || body != known_body {
                return Err(format!("record {sequence} is another, expected {expected}"));
            }
        }
        let expected = found.last().map_or(self.published, |(sequence, ..)| *sequence);
        let acknowledged = self.acknowledged();
        if acknowledged > expected.max(self.published) {
            return Err(format!("{acknowledged} was acknowledged, the last is {expected}"));
        }
        self.records.retain(|sequence, _| *sequence <= expected);
        self.records.values_mut().for_each(|record| record.2 = true);
        Ok(())
    }
}

/// A client waited for ever for room that another one's append had given back: more is reserved
/// than most records need, and only makers of segments and dropped reservations told of room.
#[test]
fn room_that_an_append_gives_back_is_told_to_who_waits() {
    let (done, finished) = mpsc::channel();
    thread::spawn(move || {
        let mut waits = 0;
        for _ in 0..200 {
            let disk = SimDisk::new().shared();
            let journal = start(open(&disk, &options(16 << 10)).unwrap());
            let room = usize::try_from(journal.stats().room_bytes).unwrap();
            let all_but_little = block_on(journal.reserve(room - 1_500)).unwrap();
            let mut waiting = pin!(journal.reserve(1_000));
            let waker = Waker::from(Arc::new(Unpark(thread::current())));
            if waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                // A segment became ready in between.
                continue;
            }
            waits += 1;
            // Before the other thread looks whether it has to make room.
            drop(journal.append(all_but_little, &write("db"), Vec::new()));
            block_on(waiting).unwrap();
        }
        done.send(waits).unwrap();
    });
    let waits = finished.recv_timeout(Duration::from_secs(60)).expect("it waits still");
    assert!(waits > 0, "there was room each time");
}

/// A few records from one thread, several of them on their way at a time, until one fails.
fn append_some(journal: &Journal, thread: u64, seed: u64) -> Vec<(u64, String, Vec<u8>, bool)> {
    let mut random = Random(seed ^ (thread << 32));
    let mut appended: Vec<(u64, String, Vec<u8>, bool)> = Vec::new();
    let mut tickets = Vec::new();
    let mut is_over = false;
    for number in 0..random.below(25) {
        if random.below(8) == 0 {
            let database = format!("{seed}-{thread}-{number}");
            let entry = Entry::Drop { database: &database };
            let sequence = journal.append_decision(&entry);
            appended.push((sequence, format!("{entry:?}"), Vec::new(), false));
        }
        let bytes = [0, 100, 700, 700, 9000][random.index(5)];
        let body: Vec<u8> =
            (0..random.index(bytes + 1)).map(|_| random.next().to_le_bytes()[0]).collect();
        let database = format!("{seed}/{thread}/{number}");
        let Ok(reservation) = block_on(journal.reserve(body.len())) else { break };
        let ticket = journal.append(reservation, &write(&database), body.clone());
        let entry = format!("{:?}", write(&database));
        appended.push((ticket.sequence(), entry, body, false));
        tickets.push((appended.len() - 1, ticket));
        while tickets.len() > random.index(4) {
            let (index, ticket) = tickets.remove(0);
            let result = block_on(ticket);
            is_over |= result.is_err();
            appended[index].3 = result.is_ok_and(|body| body == appended[index].2);
        }
        if random.below(6) == 0 && journal.wait_durable(journal.last_sequence()).is_ok() {
            for record in &mut appended {
                record.3 = true;
            }
            journal.recycle(random.below(journal.durable() + 1));
        }
        if is_over {
            break;
        }
    }
    for (index, ticket) in tickets {
        appended[index].3 |= block_on(ticket).is_ok();
    }
    appended
}

/// Opens the journal, perhaps cut off several times; checks what it holds.
fn recover(
    mut disk: SimDisk,
    options: &Options,
    ledger: &mut Ledger,
    random: &mut Random,
    mut tries: u64,
) -> Result<(SimDisk, Journal), String> {
    loop {
        tries = random.below(tries + 1);
        if tries > 0 {
            disk.cut_after(1 + random.below(40));
        }
        let tried = open(&disk.shared(), options).and_then(|recovered| {
            let mut found = Vec::new();
            recovered.records(|record| {
                found.push((record.sequence, format!("{:?}", record.entry), record.body.to_vec()));
                Ok::<(), JournalError>(())
            })?;
            let last = recovered.last_sequence();
            Ok((found, recovered.start(last + random.below(3), Box::new(drop))?))
        });
        match tried {
            Ok((found, journal)) => {
                ledger.compare(&found)?;
                disk.cut_after(u64::MAX / 2);
                return Ok((disk, journal));
            }
            Err(error) if tries == 0 => {
                return Err(format!("{error}: {}", error.cause));
            }
            Err(_) => disk = disk.crash(random.next()),
        }
        tries -= 1;
    }
}

/// Some lives of a journal, each of them cut off, killed or closed.
fn live(seed: u64, options: &Options, sabotage: Option<Sabotage>) -> Result<(), String> {
    let mut random = Random(seed);
    let segment_bytes = [8192, 8192, 16384, 65536][random.index(4)];
    let options = Options { segment_bytes, spares: random.index(4), ..options.clone() };
    let mut disk = SimDisk::new();
    if let Some(sabotage) = sabotage {
        disk.sabotage(sabotage);
    }
    let mut ledger = Ledger::default();
    for life in 0..2 + random.below(4) {
        let (opened, journal) = recover(disk, &options, &mut ledger, &mut random, 3)?;
        disk = opened;
        let end = random.below(4);
        if end < 2 {
            disk.cut_after(1 + random.below(150));
        }
        let seed = seed << 8 | life;
        let appended = thread::scope(|scope| {
            let threads = [0, 1].map(|thread| {
                let journal = &journal;
                scope.spawn(move || append_some(journal, thread, seed))
            });
            threads.map(|it| it.join().unwrap())
        });
        for (sequence, entry, body, is_acknowledged) in appended.into_iter().flatten() {
            ledger.records.insert(sequence, (entry, body, is_acknowledged));
        }
        ledger.published = ledger.published.max(journal.stats().published);
        if end == 2 {
            journal.close();
        }
        disk = if random.below(3) == 0 { disk.kill() } else { disk.crash(random.next()) };
        drop(journal);
    }
    recover(disk, &options, &mut ledger, &mut random, 3).map(drop)
}

/// How many seeds to try.
fn seeds() -> u64 {
    std::env::var("PERISTYLE_SEEDS").ok().and_then(|it| it.parse().ok()).unwrap_or(300)
}

/// A disk that does not do what it says is found out, so that a journal that did not ask would be.
fn is_caught(options: &Options, sabotage: Sabotage) -> bool {
    (0..100).any(|seed| live(seed, options, Some(sabotage)).is_err())
}

#[test]
fn a_disk_that_ignores_syncs_of_files_is_caught() {
    assert!(is_caught(&options(0), Sabotage::Data));
}

#[test]
fn a_disk_that_ignores_syncs_of_directories_is_caught() {
    assert!(is_caught(&options(0), Sabotage::Directory));
}

#[test]
fn without_syncs_a_kill_loses_nothing_and_a_power_cut_the_end() {
    let os = Options { durability: Durability::Os, ..options(0) };
    for seed in 0..seeds() / 10 {
        live_without_syncs(seed, &os).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

fn live_without_syncs(seed: u64, options: &Options) -> Result<(), String> {
    let mut random = Random(seed);
    let options = Options { segment_bytes: 8192, ..options.clone() };
    let mut disk = SimDisk::new();
    let mut ledger = Ledger::default();
    for life in 0..4 {
        let (opened, journal) = recover(disk, &options, &mut ledger, &mut random, 0)?;
        disk = opened;
        let appended = append_some(&journal, 0, seed << 8 | life);
        assert_eq!(journal.stats().syncs, 0);
        let is_power_cut = random.below(2) == 0;
        for (sequence, entry, body, is_acknowledged) in appended {
            ledger.records.insert(sequence, (entry, body, is_acknowledged && !is_power_cut));
        }
        ledger.published = ledger.published.max(journal.stats().published);
        disk = if is_power_cut { disk.crash(random.next()) } else { disk.kill() };
    }
    recover(disk, &options, &mut ledger, &mut random, 0).map(drop)
}

#[test]
fn what_was_acknowledged_survives_power_cuts_at_any_moment() {
    for seed in 0..seeds() {
        if let Err(error) = live(seed, &options(0), None) {
            panic!("seed {seed}: {error}");
        }
    }
}

/// A journal with `count` records in several segments behind others that were recycled; closed, or
/// killed when it was idle. In either case a mark says that its last record was on disk.
///
/// Marks between the records, as many as there were pauses, can move the end of the last one to the
/// end of its segment, where no mark has room: one closed journal in a hundred. It is made again.
fn several_segments(count: u8, is_closed: bool) -> SimDisk {
    let last = 40 + u64::from(count);
    let mut made = iter::repeat_with(|| one_journal(count, is_closed)).take(10);
    made.find(|disk| !is_closed || has_mark(disk, last)).unwrap()
}

fn one_journal(count: u8, is_closed: bool) -> SimDisk {
    let disk = SimDisk::new();
    let journal = start(open(&disk.shared(), &options(8192)).unwrap());
    for index in 0..40 {
        append(&journal, &write("old"), &vec![index; 700]).unwrap();
    }
    journal.recycle(journal.last_sequence());
    while journal.stats().segments_in_use > 1 {
        thread::yield_now();
    }
    journal.close();
    drop(journal);
    let recovered = open(&disk.shared(), &options(8192)).unwrap();
    let journal = recovered.start(0, Box::new(drop)).unwrap();
    for index in 0..count {
        append(&journal, &write("db"), &vec![index; 30 + usize::from(index) * 50]).unwrap();
    }
    if is_closed {
        journal.close();
    }
    // The mark of the idle writer is written behind its back, and so is the next segment: nobody
    // is told of it. Where room is short, or the segment is full, there is no mark: another record
    // then asks for a segment.
    let is_at_rest = || {
        let is_ready = journal.stats().segments_ready > 0 && all_are_filled(&disk, 8192);
        is_ready && has_mark(&disk, journal.last_sequence())
    };
    for round in 1_u32.. {
        if is_closed || is_at_rest() {
            break;
        }
        if round.is_multiple_of(200) {
            append(&journal, &write("db"), &[0; 30]).unwrap();
        }
        thread::yield_now();
    }
    disk.kill()
}

fn all_are_filled(disk: &SimDisk, segment_bytes: usize) -> bool {
    disk.files(Path::new(WAL)).iter().all(|file| disk.bytes(file).len() == segment_bytes)
}

/// Whether the bytes of a mark of record `sequence` are in some file.
fn has_mark(disk: &SimDisk, sequence: u64) -> bool {
    let mark = [&[0; 4], &sequence.to_le_bytes()[..], &sequence.to_le_bytes()[..]].concat();
    let files = disk.files(Path::new(WAL));
    files.iter().any(|file| disk.bytes(file).windows(mark.len()).any(|it| it == mark))
}

/// What becomes of a journal with changed bytes.
#[derive(Debug, Eq, PartialEq)]
enum Outcome {
    Refused,
    Same,
    Different,
}

fn outcome_of(
    disk: &Arc<dyn Disk>,
    options: &Options,
    expected: &[(u64, String, Vec<u8>)],
) -> Outcome {
    match open(disk, options) {
        Err(error) => {
            assert!(matches!(error.cause, journal::Cause::Damaged(_)), "{error:?}");
            assert!(error.file.starts_with(WAL), "{error}");
            assert!(error.offset <= options.segment_bytes, "{error}");
            Outcome::Refused
        }
        Ok(recovered) if records(&recovered) == expected => Outcome::Same,
        Ok(_) => Outcome::Different,
    }
}

/// Flips bits all over a journal; how often each outcome came up.
fn flip_bits(disk: &SimDisk, options: &Options, step: usize, all: bool) -> [usize; 3] {
    let mut random = Random(7);
    let shared = disk.shared();
    let expected = records(&open(&shared, options).unwrap());
    let mut counts = [0; 3];
    for file in disk.files(Path::new(WAL)) {
        let bytes = disk.bytes(&file);
        let is_begun = bytes[512..544].iter().any(|it| *it != 0);
        for at in (0..bytes.len()).step_by(step) {
            let is_head = at < 64 || (512..560).contains(&at);
            let is_stream = at >= 4096 && is_begun;
            if !is_head && !is_stream && at % 61 != 0 {
                continue;
            }
            // All bits of what is a head of a record, by its small numbers.
            let number = |at: usize| {
                let bytes = bytes.get(at..at + 8).unwrap_or(&[255; 8]);
                u64::from_le_bytes(bytes.try_into().unwrap())
            };
            let is_head_at = |at: usize| {
                (1..1000).contains(&number(at + 8)) && number(at + 16) <= number(at + 8)
            };
            let is_number = is_stream && (0..4).any(|it| is_head_at((at / 8 - it) * 8));
            let one = random.below(8);
            for bit in (0..8).filter(|bit| *bit == one || (all && (is_head || is_number))) {
                disk.change(&file, |bytes| bytes[at] ^= 1 << bit);
                let outcome = outcome_of(&shared, options, &expected);
                disk.change(&file, |bytes| bytes[at] ^= 1 << bit);
                let is_checked = options.checksums == Checksums::Checked;
                assert!(
                    !is_checked || outcome != Outcome::Different,
                    "{} byte {at} bit {bit}",
                    file.display()
                );
                counts[outcome as usize] += 1;
            }
        }
    }
    counts
}

#[test]
fn a_flipped_bit_is_found_or_harmless() {
    // After a kill what follows the last record is a mark that was not synced.
    for (is_closed, step) in [(true, 1), (false, 7)] {
        let disk = several_segments(10, is_closed);
        let [refused, same, _] = flip_bits(&disk, &options(8192), step, is_closed);
        assert!(refused > 500 && same > 100, "{refused} refused, {same} same");
    }
}

#[test]
fn a_reader_without_checksums_is_caught() {
    let disk = several_segments(14, true);
    let options = Options { checksums: Checksums::Ignored, ..options(8192) };
    let [.., different] = flip_bits(&disk, &options, 11, false);
    assert!(different > 200, "{different}");
}

#[test]
fn a_file_that_is_cut_or_gone_is_refused() {
    let disk = several_segments(14, true);
    let options = options(8192);
    let expected = records(&open(&disk.shared(), &options).unwrap());
    let files = disk.files(Path::new(WAL));
    for (index, file) in files.iter().enumerate() {
        let bytes = disk.bytes(file);
        for sectors in 0..bytes.len() / 512 {
            disk.change(file, |bytes| bytes.truncate(sectors * 512));
            let outcome = outcome_of(&disk.shared(), &options, &expected);
            assert_eq!(outcome, Outcome::Refused, "{} at sector {sectors}", file.display());
            disk.change(file, |it| it.clone_from(&bytes));
        }
        // The oldest may have been recycled, the last was never begun: no telling from here.
        if index > 0 && index + 1 < files.len() {
            let copy = disk.copy();
            copy.lose(file);
            assert_eq!(outcome_of(&copy.shared(), &options, &expected), Outcome::Refused);
        }
    }
}

/// A fixed course of calls; what was acknowledged, whatever fails.
fn course(disk: &SimDisk) -> (Ledger, Result<(), JournalError>) {
    let mut ledger = Ledger::default();
    let mut number = 0;
    for round in 0..2 {
        let recovered = match open(&disk.shared(), &options(8192)) {
            Ok(recovered) => recovered,
            Err(error) => return (ledger, Err(error)),
        };
        let journal = match recovered.start(0, Box::new(drop)) {
            Ok(journal) => journal,
            Err(error) => return (ledger, Err(error)),
        };
        for body_bytes in [10, 3000, 500, 9000, 0, 2000] {
            number += 1;
            let body = vec![number; body_bytes];
            let reservation = loop {
                match block_on(journal.reserve(body_bytes)) {
                    Ok(reservation) => break Some(reservation),
                    Err(Refusal::DiskFull) => thread::yield_now(),
                    Err(_) => break None,
                }
            };
            let Some(reservation) = reservation else { break };
            let ticket = journal.append(reservation, &write("db"), body.clone());
            let (sequence, result) = (ticket.sequence(), block_on(ticket));
            let entry = format!("{:?}", write("db"));
            ledger.records.insert(sequence, (entry, body, result.is_ok()));
        }
        if round == 1 {
            ledger.published = journal.durable();
            journal.recycle(ledger.published);
        }
        journal.close();
    }
    (ledger, Ok(()))
}

#[test]
fn one_call_that_fails_loses_nothing_that_was_acknowledged() {
    let whole = SimDisk::new();
    course(&whole).1.unwrap();
    for fault in [Fault::Io, Fault::Full, Fault::Short] {
        for call in 1..=whole.calls() {
            let disk = SimDisk::new();
            disk.fail_after(call, fault);
            let (ledger, result) = course(&disk);
            let is_refused = result.is_err();
            assert!(!is_refused || fault != Fault::Short, "a short write at call {call}");
            // A sync that finds no space is a sync that failed.
            if fault == Fault::Short {
                assert_eq!(ledger.acknowledged(), 12, "{fault:?} at call {call}");
            }
            for after in [disk.copy(), disk.crash(call)] {
                let recovered = open(&after.shared(), &options(8192)).unwrap_or_else(|error| {
                    panic!("{fault:?} at call {call}: {error}: {}", error.cause)
                });
                ledger.clone().compare(&records(&recovered)).unwrap_or_else(|error| {
                    panic!("{fault:?} at call {call}: {error}");
                });
                // And it goes on.
                append(&start(recovered), &write("db"), b"more").unwrap();
            }
        }
    }
}

/// Appends "two" behind a record that the journal is at rest after, and has the sync of it fail.
fn append_and_fail_its_sync(journal: &Journal, disk: &SimDisk) -> JournalError {
    while journal.stats().segments_ready == 0 || !has_mark(disk, 1) {
        thread::yield_now();
    }
    // Write, sync.
    let reservation = block_on(journal.reserve(3)).unwrap();
    disk.fail_after(2, Fault::Io);
    block_on(journal.append(reservation, &write("db"), b"two".to_vec())).unwrap_err()
}

#[test]
fn a_failed_sync_is_the_end() {
    let disk = SimDisk::new();
    let (sender, failures) = mpsc::channel();
    let recovered = open(&disk.shared(), &options(65536)).unwrap();
    let on_failure = Box::new(move |error| sender.send(error).unwrap());
    let journal = recovered.start(0, on_failure).unwrap();
    append(&journal, &write("db"), b"one").unwrap();
    let error = append_and_fail_its_sync(&journal, &disk);
    assert_eq!(error.operation, Operation::Sync);
    assert_eq!(error.to_string(), "cannot sync /data/wal/0000000000000001.wal at byte 0");
    assert_eq!(failures.recv().unwrap().to_string(), error.to_string());
    assert_eq!(block_on(journal.reserve(3)).unwrap_err(), Refusal::Failed);
    assert!(journal.wait_durable(2).is_err());
    assert_eq!(journal.durable(), 1);
    let calls = disk.calls();
    journal.close();
    assert_eq!(disk.calls(), calls, "nothing is done to the disk after that");
}

/// The sync that failed was to write a mark too, in a sector of its own. A start made sure of the
/// record behind it only, and after a power cut there was a hole before that one.
#[test]
fn a_mark_whose_sync_failed_is_written_again() {
    let disk = SimDisk::new();
    let journal = open(&disk.shared(), &options(8192)).unwrap().start(0, Box::new(drop)).unwrap();
    append(&journal, &write("db"), &[1; 350]).unwrap();
    append_and_fail_its_sync(&journal, &disk);
    journal.close();
    let [segment, ..] = &disk.files(Path::new(WAL))[..] else { panic!("no segment") };
    let second = disk.bytes(segment)[4608..].to_vec();
    assert_eq!(second[8..16], 2_u64.to_le_bytes(), "record 2 begins a sector");

    let journal = start(open(&disk.shared(), &options(8192)).unwrap());
    append(&journal, &write("db"), b"three").unwrap();
    let after = disk.forget();
    let found = records(&open(&after.shared(), &options(8192)).unwrap());
    let bodies: Vec<_> = found.iter().map(|(_, _, body)| body.len()).collect();
    assert_eq!(bodies, [350, 3, 5]);
}

/// The sync of a record failed, or a kill came before it: it is read, and a power cut takes it. A
/// start that does what it asks for makes it durable before.
#[test]
fn what_was_read_survives_a_power_cut_once_it_was_made_durable() {
    for is_made_durable in [false, true] {
        let disk = SimDisk::new();
        let journal = start(open(&disk.shared(), &options(8192)).unwrap());
        append(&journal, &write("db"), b"one").unwrap();
        append_and_fail_its_sync(&journal, &disk);
        journal.close();

        let mut recovered = open(&disk.shared(), &options(8192)).unwrap();
        assert_eq!(records(&recovered).len(), 2);
        if is_made_durable {
            recovered.make_durable().unwrap();
        }
        let after = disk.forget();
        let found = records(&open(&after.shared(), &options(8192)).unwrap());
        assert_eq!(found.len(), if is_made_durable { 2 } else { 1 });
    }
}

#[test]
fn a_full_disk_refuses_and_recovers_by_itself() {
    let disk = SimDisk::new();
    let journal = start(open(&disk.shared(), &options(8192)).unwrap());
    disk.set_space(Space::NoGrowth);
    let mut count = 0;
    let refusal = loop {
        match block_on(journal.reserve(700)) {
            Ok(reservation) => {
                block_on(journal.append(reservation, &write("db"), vec![1; 700])).unwrap();
                count += 1;
            }
            Err(refusal) => break refusal,
        }
    };
    assert_eq!(refusal, Refusal::DiskFull);
    assert!(journal.stats().is_full);
    // Decisions still have room.
    let decision = journal.append_decision(&Entry::Drop { database: "db" });
    journal.wait_durable(decision).unwrap();
    // Old segments are used again, without a byte of new space.
    journal.recycle(decision);
    let until_there_is_room = || loop {
        match block_on(journal.reserve(700)) {
            Ok(reservation) => break reservation,
            Err(refusal) => assert_eq!(refusal, Refusal::DiskFull),
        }
    };
    if count > 4 {
        drop(until_there_is_room());
    }
    disk.set_space(Space::Free);
    let reservation = until_there_is_room();
    block_on(journal.append(reservation, &write("db"), vec![2; 700])).unwrap();
    drop(journal);
    let found = records(&open(&disk.shared(), &options(8192)).unwrap());
    assert_eq!(found.last().unwrap().2, vec![2; 700]);
}

#[test]
fn what_was_let_in_waits_for_a_disk_that_is_full_in_its_own_room() {
    let disk = SimDisk::new();
    let journal = start(open(&disk.shared(), &options(8192)).unwrap());
    let reservation = block_on(journal.reserve(700)).unwrap();
    disk.set_space(Space::NoWrite);
    let ticket = journal.append(reservation, &write("db"), vec![1; 700]);
    while block_on(journal.reserve(1)).is_ok() {
        thread::yield_now();
    }
    assert_eq!(journal.durable(), 0);
    disk.set_space(Space::Free);
    assert_eq!(block_on(ticket).unwrap(), vec![1; 700]);
    while block_on(journal.reserve(1)).is_err() {
        thread::yield_now();
    }
    journal.close();
    assert_eq!(block_on(journal.reserve(1)).unwrap_err(), Refusal::Closed);
    assert_eq!(records(&open(&disk.shared(), &options(8192)).unwrap()).len(), 1);
}

#[test]
fn salvaging_counts_what_it_passes_over() {
    let disk = several_segments(18, true);
    let (options, salvage) = (options(8192), Options { salvage: true, ..options(8192) });
    let all = records(&open(&disk.shared(), &options).unwrap());
    assert!(open(&disk.shared(), &salvage).unwrap().salvaged().is_none());
    let files = disk.files(Path::new(WAL));
    let check = |change: &dyn Fn(&SimDisk), lost: &[u64]| {
        let disk = disk.copy();
        change(&disk);
        let error = open(&disk.shared(), &options).unwrap_err();
        let recovered = open(&disk.shared(), &salvage).unwrap();
        let counted = recovered.salvaged().unwrap();
        let found = records(&recovered);
        let kept = all.iter().filter(|(sequence, ..)| !lost.contains(sequence)).cloned();
        assert_eq!(found, kept.collect::<Vec<_>>(), "{error}");
        assert_eq!(counted.records, lost.len() as u64, "{error} {counted:?} {lost:?}");
        let last = recovered.last_sequence();
        let journal = start(recovered);
        append(&journal, &write("db"), b"more").unwrap();
        journal.recycle(last);
        while journal.stats().segments_in_use > 1 {
            thread::yield_now();
        }
        journal.close();
        let healthy = records(&open(&disk.shared(), &options).unwrap());
        assert_eq!(healthy.last().unwrap().2, b"more");
    };
    let place = |body: &[u8]| {
        let find = |file: &PathBuf| {
            let bytes = disk.bytes(file);
            let at = bytes.windows(body.len()).position(|it| it == body)?;
            Some((file.clone(), at))
        };
        files.iter().find_map(find).unwrap()
    };
    for (sequence, _, body) in all.iter().filter(|it| it.2.len() > 200) {
        let (file, at) = place(&body[..100]);
        check(&|disk| disk.change(&file, |bytes| bytes[at] ^= 1), &[*sequence]);
    }
    // A whole segment: what begins in it, and what runs into it.
    let begun: Vec<_> = files.iter().filter(|file| disk.bytes(file)[512] != 0).collect();
    assert!(begun.len() > 3, "{begun:?}");
    let number = |file: &Path, at: usize| {
        u64::from_le_bytes(disk.bytes(file)[at..at + 8].try_into().unwrap())
    };
    let middle = begun[begun.len() - 2];
    let ends_before = u64::from(number(middle, 516) == 0);
    let first = number(middle, 524) + ends_before;
    let lost: Vec<u64> = (first..=number(begun[begun.len() - 1], 524)).collect();
    check(&|disk| disk.lose(middle), &lost);
    check(&|disk| disk.change(middle, |bytes| bytes[3] ^= 1), &lost);
}

#[test]
fn what_a_power_cut_left_behind_the_end_never_comes_back() {
    // Without syncs there are no marks, so that records of one size stand in the same places.
    let os = Options { durability: Durability::Os, ..options(8192) };
    let disk = SimDisk::new();
    let append_all = |bodies: &[&[u8]]| {
        let journal = start(open(&disk.shared(), &os).unwrap());
        for body in bodies {
            append(&journal, &write("db"), body).unwrap();
        }
        journal.close();
    };
    append_all(&[b"one"]);
    append_all(&[b"old 2", b"old 3", b"old 4"]);
    // The sectors of the records survived, that of the opening did not.
    disk.change(&Path::new(WAL).join("0000000000000002.wal"), |bytes| bytes[512..1024].fill(0));
    let recovered = open(&disk.shared(), &os).unwrap();
    assert_eq!(recovered.last_sequence(), 1);
    assert_eq!(recovered.torn().unwrap().later, 3);
    append_all(&[b"new 2"]);
    let bodies: Vec<_> =
        records(&open(&disk.shared(), &os).unwrap()).into_iter().map(|it| it.2).collect();
    assert_eq!(bodies, [b"one".to_vec(), b"new 2".to_vec()]);
}

#[test]
fn long_lists_become_several_records_and_long_bodies_span_segments() {
    let disk = SimDisk::new();
    let journal = start(open(&disk.shared(), &options(65536)).unwrap());
    let names: Vec<String> = (0..20).map(|it| format!("{it:065535}")).collect();
    let column = |name| Column { name, physical: name, kind: 1, role: 2, unit: "" };
    let columns: Vec<_> = names.iter().map(|name| column(name.as_str())).collect();
    let all = Columns { database: "db", measurement: "m", columns: Cow::Borrowed(&columns) };
    let last = journal.append_decision(&Entry::Columns(all));
    assert!(last > 1);
    journal.wait_durable(last).unwrap();
    let body: Vec<u8> = (0..3_000_000_u32).map(|it| it.to_le_bytes()[1]).collect();
    append(&journal, &write("db"), &body).unwrap();
    journal.close();
    let mut found = Vec::new();
    let recovered = open(&disk.shared(), &options(65536)).unwrap();
    let read = recovered.records(|record| {
        match record.entry {
            Entry::Columns(part) => found.extend(part.columns.iter().map(|it| it.name.to_owned())),
            _ => assert_eq!(record.body, body),
        }
        Ok::<(), JournalError>(())
    });
    read.unwrap();
    assert_eq!(found, names);
}

/// A server was started with another `--wal-segment-bytes`; its journal gave the files of before
/// new heads and used them again, and the start after a stop refused them for their size.
#[test]
fn segments_of_another_size_are_not_used_again() {
    let disk = SimDisk::new();
    let mut last = 0;
    for segment_bytes in [8192, 65536, 8192, 16384] {
        let recovered = open(&disk.shared(), &options(segment_bytes)).unwrap();
        let journal = start(recovered);
        for _ in 0..60 {
            append(&journal, &write("db"), &[7; 3000]).unwrap();
            journal.recycle(journal.durable());
        }
        assert!(journal.last_sequence() >= last + 60);
        last = journal.last_sequence();
        journal.close();
    }
    let recovered = open(&disk.shared(), &options(8192)).unwrap();
    assert_eq!(records(&recovered).last().map(|(sequence, ..)| *sequence), Some(last));
}
