//! Damage to a journal: it is told, or it does not matter, or the log ends before it.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use peristyle::disk::Disk;
use peristyle::journal::{
    self, Cause, Checksums, Entry, Journal, JournalError, Options, Recovered, Write,
};

use crate::heap::bounded;
use crate::sim_disk::SimDisk;

const WAL: &str = "/data/wal";
const SEGMENT_BYTES: u64 = 8192;
/// What reading the journal may allocate: buffers of 64 KiB for each segment, several times over.
const HEAP_BYTES: usize = 16 << 20;

type Record = (u64, String, Vec<u8>);

/// A journal of several segments, and its records.
struct Whole {
    disk: SimDisk,
    files: Vec<PathBuf>,
    records: Vec<Record>,
}

fn options() -> Options {
    Options {
        segment_bytes: SEGMENT_BYTES,
        spares: 1,
        mark_after: Duration::ZERO,
        ..Options::default()
    }
}

fn open(disk: &SimDisk, options: &Options) -> std::result::Result<Recovered, JournalError> {
    let disk: Arc<dyn Disk> = disk.shared();
    journal::open(disk, Path::new(WAL), options)
}

fn records(recovered: &Recovered) -> std::result::Result<Vec<Record>, JournalError> {
    let mut records = Vec::new();
    recovered.records(|record| {
        let entry = format!("{:?}", record.entry);
        records.push((record.sequence, entry, record.body.to_vec()));
        Ok::<(), JournalError>(())
    })?;
    Ok(records)
}

fn append(journal: &Journal, database: &str, body: Vec<u8>) {
    let entry = Entry::Write(Write {
        database,
        shard: 1,
        format: 1,
        precision: 1,
        encoding: 1,
        flags: 0,
        endpoint: "/api/v2/write",
        measurement: "cpu",
        time: "ts",
        tags: "host",
        received_ns: 1,
        accepted: 1,
        rejected: 0,
        rejected_kept: 0,
        digest: 1,
        request_key: 1,
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let reservation = journal.reserve(body.len()).await.expect("room");
        journal.append(reservation, &entry, body).await.expect("a disk without faults");
    });
}

/// Two lives: segments that were recycled, then records that run over the borders of others.
fn whole() -> Whole {
    let disk = SimDisk::new();
    let start = || {
        let recovered = open(&disk, &options()).expect("a whole journal");
        recovered.start(0, Box::new(|error| panic!("{error}"))).expect("a disk without faults")
    };
    let journal = start();
    (0..30).for_each(|index| append(&journal, "old", vec![index; 700]));
    journal.recycle(journal.last_sequence());
    while journal.stats().segments_in_use > 1 {
        thread::yield_now();
    }
    journal.close();
    drop(journal);
    let journal = start();
    (0..12).for_each(|index| append(&journal, "db", vec![index; 30 + usize::from(index) * 60]));
    let columns = Entry::Columns(journal::Columns {
        database: "db",
        measurement: "cpu",
        columns: vec![journal::Column {
            name: "usage idle",
            physical: "usage%20idle",
            kind: 3,
            role: 1,
            unit: "percent",
        }]
        .into(),
    });
    journal.append_decision(&columns);
    journal.append_decision(&Entry::Dropped { database: "db", sequence: 3 });
    let last = journal.append_decision(&Entry::Keys(vec![1, u128::MAX].into()));
    journal.wait_durable(last).expect("a disk without faults");
    journal.close();
    let disk = disk.kill();
    let records = open(&disk, &options()).and_then(|it| self::records(&it)).expect("it is whole");
    let files = disk.files(Path::new(WAL));
    Whole { disk, files, records }
}

/// The first byte says how the journal is read; damage follows.
pub fn run(input: &[u8]) {
    static WHOLE: OnceLock<Whole> = OnceLock::new();
    let whole = WHOLE.get_or_init(self::whole);
    let mut course = Unstructured::new(input);
    let Ok(control) = course.arbitrary::<u8>() else { return };
    let disk = whole.disk.copy();
    let mut changes = Vec::new();
    while !course.is_empty() && changes.len() < 16 {
        let Ok(change) = damage(&mut course, whole, &disk) else { break };
        changes.push(change);
    }
    let checksums = if control & 1 > 0 { Checksums::Ignored } else { Checksums::Checked };
    let salvage = control & 2 > 0;
    let options = Options { checksums, salvage, ..options() };
    let found = bounded(HEAP_BYTES, 0, input, || open(&disk, &options));
    if checksums == Checksums::Ignored {
        // Anything may come of it, but for a panic, or all of the memory.
        let _ = bounded(HEAP_BYTES, 0, input, || found.map(|it| records(&it)));
        return;
    }
    match found.and_then(|it| records(&it)) {
        Err(error) => {
            assert!(matches!(error.cause, Cause::Damaged(_)), "{error:?}");
            assert!(error.file.starts_with(WAL) && error.offset <= SEGMENT_BYTES, "{error:?}");
            assert!(!changes.iter().all(Range::is_empty), "it was not damaged: {error:?}");
        }
        Ok(found) => judge(&found, &whole.records, &changes, salvage),
    }
}

/// What is found was there, in that order. A change of one byte loses nothing in silence.
fn judge(found: &[Record], records: &[Record], changes: &[Range<usize>], salvage: bool) {
    let mut rest = records.iter();
    let is_known = found.iter().all(|record| rest.any(|it| it == record));
    assert!(is_known, "a record that never was, after {changes:?}");
    let mut pairs = found.windows(2);
    assert!(salvage || pairs.all(|it| it[0].0 + 1 == it[1].0), "a gap, after {changes:?}");
    if let ([change], false) = (changes, salvage)
        && change.len() <= 1
    {
        assert_eq!(found.len(), records.len(), "lost after {change:?}");
    }
}

/// Damages some bytes of some file; says which. A file that is cut or gone counts as many.
fn damage(course: &mut Unstructured<'_>, whole: &Whole, disk: &SimDisk) -> Result<Range<usize>> {
    const ALL: Range<usize> = 0..usize::MAX;
    let file = course.choose(&whole.files)?;
    let at = usize::from(course.arbitrary::<u16>()?) % whole.disk.bytes(file).len();
    let kind = course.int_in_range(0..=15_u8)?;
    let other = if kind == 12 { Some(course.choose(&whole.files)?) } else { None };
    if !disk.files(Path::new(WAL)).contains(file) {
        return Ok(ALL);
    }
    let write = |at: usize, new: &[u8]| {
        disk.change(file, |bytes| {
            for (place, byte) in bytes.iter_mut().skip(at).zip(new) {
                *place = *byte;
            }
        });
        at..at + new.len()
    };
    Ok(match kind {
        0..=7 => {
            let mask = course.arbitrary::<u8>()?;
            let byte = disk.bytes(file).get(at).copied().unwrap_or_default();
            write(at, &[byte ^ mask]);
            at..at + usize::from(mask != 0)
        }
        8 | 9 => write(at, &course.arbitrary::<[u8; 8]>()?),
        10 => write(at / 512 * 512, &[course.arbitrary::<u8>()?; 512]),
        11 | 12 => {
            let source = whole.disk.bytes(other.unwrap_or(file));
            let from = usize::from(course.arbitrary::<u16>()?) % source.len();
            let length = usize::from(course.arbitrary::<u16>()?);
            write(at, &source[from..source.len().min(from + length)])
        }
        13 => {
            disk.change(file, |bytes| bytes.truncate(at));
            ALL
        }
        14 => {
            disk.lose(file);
            ALL
        }
        _ => {
            // A number at a place of numbers: heads are whole multiples of eight.
            let number = course.arbitrary::<u64>()? >> course.int_in_range(0..=63_u32)?;
            write(at / 4 * 4, &number.to_le_bytes())
        }
    })
}
