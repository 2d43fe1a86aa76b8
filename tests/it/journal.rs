//! The journal: what was acknowledged is there after whatever happens to the disk, once, in order.

use std::borrow::Cow;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use peristyle::disk::{Disk, LocalDisk};
use peristyle::durability::Durability;
use peristyle::journal::{
    self, Column, Columns, Entry, Journal, JournalError, Options, Recovered, Write,
};

use crate::sim_disk::SimDisk;

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
        disk.create_directory(Path::new("/tmp")).ok();
        disk.create_directory(directory.path()).ok();
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
