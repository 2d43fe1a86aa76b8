//! What a start finds after a kill: a copy of the data directory of a server that runs.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use peristyle::disk::LocalDisk;
use peristyle::durability::Durability;
use peristyle::engine::{Engine, Options};
use peristyle::journal::{self, Entry};
use tempfile::TempDir;

use crate::live::{self, Live, files, read_rows};
use crate::processes::none_starts;

/// The directory as a kill would leave it.
pub(crate) fn killed(live: &Live) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    copy_directory(live.directory.path(), copy.path());
    copy
}

fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_directory(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Starts and ends a server on a directory.
pub(crate) fn recover(directory: &TempDir, change: impl FnOnce(&mut Options)) {
    let mut options = live::options(directory.path());
    change(&mut options);
    let alone = none_starts();
    let engine = Engine::open(&options).expect("a start");
    drop(alone);
    engine.close().expect("an end");
}

fn count(directory: &TempDir, database: &str) -> usize {
    read_rows(directory.path(), database).len()
}

#[test]
fn what_was_acknowledged_is_there_without_a_flush() {
    let live = Live::start();
    for index in 0..50 {
        let body = format!("cpu,host=h{} v={index}i {index}\nmem v=1\nbad\n", index % 3);
        assert_eq!(live.post("/write?db=a", body).status, 400);
        assert_eq!(live.post("/write?db=b", format!("disk v={index} {index}")).status, 204);
    }
    let copy = killed(&live);
    assert_eq!((count(&copy, "a"), count(&copy, "b")), (0, 0));
    for _ in 0..2 {
        recover(&copy, |_| {});
        assert_eq!((count(&copy, "a"), count(&copy, "b")), (100, 50));
    }
    assert_eq!(live.rows("a"), read_rows(copy.path(), "a"));
}

/// JSON is decoded in a copy; what the journal has is the body as it was received, escapes and all.
#[test]
fn bodies_of_json_are_replayed_as_they_were_received() {
    let live = Live::start();
    for index in 0..20 {
        let body = r#"{"metrics":[{"fields":{"s":"\u00e9 9","v":1e999},"name":"a"},{"fields":
            {"s":"\"9\n"},"name":"a","tags":{"h":"x\\"},"timestamp":9}]}
            {"name":"a","timestamp":9,"fields":{"n":9}}"#;
        let body = body.replace('9', &index.to_string()).replace("1e", "1e99");
        let path = if index % 2 == 0 {
            "/api/v1/write/json?db=a"
        } else {
            "/api/v1/write/json?db=a&precision=ms"
        };
        let answer = live.post(path, body);
        assert_eq!((answer.status, answer.header("x-peristyle-rejected")), (200, Some("1")));
    }
    let copy = killed(&live);
    recover(&copy, |_| {});
    assert_eq!(count(&copy, "a"), 40);
    assert_eq!(live.rows("a"), read_rows(copy.path(), "a"));
}

#[test]
fn what_is_published_is_not_replayed() {
    let live = Live::start();
    for round in 0..3 {
        assert_eq!(live.post("/write?db=a", format!("cpu v=1i {round}")).status, 204);
        assert_eq!(live.post("/api/v1/flush", "").status, 200);
        assert_eq!(live.post("/write?db=a", format!("cpu v=2i 1{round}\nnew v=1 1")).status, 204);
    }
    let copy = killed(&live);
    recover(&copy, |_| {});
    assert_eq!(read_rows(copy.path(), "a"), live.rows("a"));
    assert_eq!(count(&copy, "a"), 9);
}

#[test]
fn compressed_bodies_and_received_times_are_replayed_as_they_were() {
    let live = Live::start();
    let body = libdeflate_gzip(b"cpu,host=a v=1\ncpu,host=b v=2\n");
    let headers = "Content-Encoding: gzip\r\n";
    let answer =
        live.client().request("POST", "/api/v2/write?bucket=a&precision=s", headers, &body);
    assert_eq!(answer.status, 204);
    let copy = killed(&live);
    recover(&copy, |_| {});
    assert_eq!(read_rows(copy.path(), "a"), live.rows("a"));
}

fn libdeflate_gzip(bytes: &[u8]) -> Vec<u8> {
    let mut compressor = libdeflater::Compressor::new(libdeflater::CompressionLvl::default());
    let mut out = vec![0; compressor.gzip_compress_bound(bytes.len())];
    let len = compressor.gzip_compress(bytes, &mut out).unwrap();
    out.truncate(len);
    out
}

#[test]
fn a_dropped_database_stays_dropped() {
    let live = Live::start();
    let drop = |name: &str| live.post(&format!("/query?q=DROP%20DATABASE%20{name}"), "").status;
    assert_eq!(live.post("/write?db=a", "cpu v=1i 1").status, 204);
    assert_eq!(live.post("/api/v1/flush", "").status, 200);
    assert_eq!(live.post("/write?db=a", "cpu v=2i 2").status, 204);
    assert_eq!(live.post("/write?db=b", "cpu v=2i 2").status, 204);
    assert_eq!(drop("a"), 200);
    let copy = killed(&live);
    recover(&copy, |_| {});
    assert_eq!((count(&copy, "a"), count(&copy, "b")), (0, 1));
    // What comes later is another database, with kinds of its own.
    assert_eq!(live.post("/write?db=a", "cpu v=\"text\" 3").status, 204);
    let copy = killed(&live);
    recover(&copy, |_| {});
    assert_eq!(read_rows(copy.path(), "a"), live.rows("a"));
    assert_eq!(count(&copy, "a"), 1);
}

/// Ten thousand tables were written to files, one commit each, only to be removed: a drop took as
/// long as their flush, and for ever where one of them could not be written.
#[test]
fn rows_of_a_dropped_database_are_not_written_first() {
    let live = Live::start();
    let tables = live.directory.path().join("tables");
    fs::create_dir_all(tables.join("a")).unwrap();
    let mut body = String::new();
    for at in 0..300 {
        // No directory can be made where a file is.
        fs::write(tables.join("a").join(format!("m{at}")), "").unwrap();
        writeln!(body, "m{at} v=1 1").unwrap();
    }
    assert_eq!(live.post("/write?db=a", &body).status, 204);
    assert!(live.post("/api/v1/flush", "").status >= 500);
    assert_eq!(live.post("/write?db=b", "cpu v=1 1").status, 204);
    assert_eq!(live.post("/query?q=DROP%20DATABASE%20a", "").status, 200);
    assert!(!tables.join("a").exists());
    assert_eq!(live.engine.stats().files_published.get(), 0);
    assert_eq!(live.post("/api/v1/flush", "").status, 200);
    assert_eq!(live.engine.stats().files_published.get(), 1);
    let memory = live.engine.memory();
    assert_eq!((memory.builders, memory.sealed), (0, 0));
    // What comes later is another database.
    assert_eq!(live.post("/write?db=a", &body).status, 204);
    assert_eq!(live.post("/api/v1/flush", "").status, 200);
    let copy = killed(&live);
    recover(&copy, |_| {});
    assert_eq!((count(&copy, "a"), count(&copy, "b")), (300, 1));
}

#[test]
fn a_drop_that_was_cut_short_is_finished() {
    let live = Live::start();
    assert_eq!(live.post("/write?db=a", "cpu v=1i 1").status, 204);
    assert_eq!(live.post("/api/v1/flush", "").status, 200);
    assert_eq!(live.post("/write?db=a", "cpu v=2i 2").status, 204);
    let copy = killed(&live);
    let wal = copy.path().join("wal");
    let options = journal::Options { segment_bytes: 1 << 20, ..journal::Options::default() };
    let recovered = journal::open(Arc::new(LocalDisk), &wal, &options).unwrap();
    let next = recovered.last_sequence() + 1;
    let journal = recovered.start(next, Box::new(|error| panic!("{error}"))).unwrap();
    let sequence = journal.append_decision(&Entry::Drop { database: "a" });
    journal.wait_durable(sequence).unwrap();
    journal.close();
    recover(&copy, |_| {});
    assert_eq!(files(copy.path()).len(), 0);
}

#[test]
fn without_durability_a_restart_keeps_what_was_flushed() {
    let mut live = Live::start_with(|options| options.durability = Durability::Memory);
    let answer = live.post("/write?db=a", "cpu v=1i 1");
    assert_eq!(answer.header("x-peristyle-durability"), Some("memory"));
    assert_eq!(live.rows("a").len(), 1);
    live.post("/write?db=a", "cpu v=2i 2");
    let copy = killed(&live);
    recover(&copy, |_| {});
    assert_eq!(count(&copy, "a"), 1);
    // The end of a server writes what it has, and the next one goes on behind it.
    for (round, level) in [Durability::Fsync, Durability::Memory, Durability::Os].iter().enumerate()
    {
        live.restart(|options| options.durability = *level);
        assert_eq!(read_rows(live.directory.path(), "a").len(), 2 + round);
        assert_eq!(live.post("/write?db=a", format!("cpu v=3i {}", 10 + round)).status, 204);
    }
    assert_eq!(live.rows("a").len(), 5);
}

#[test]
fn a_file_that_no_log_knows_is_removed() {
    let live = Live::start();
    assert_eq!(live.post("/write?db=a", "cpu v=1i 1").status, 204);
    assert_eq!(live.post("/api/v1/flush", "").status, 200);
    let copy = killed(&live);
    let known = files(copy.path()).remove(0);
    let name = known.file_name().unwrap().to_str().unwrap();
    let (instance, rest) = name.split_once('-').unwrap();
    let other = known.with_file_name(format!("00000000-{rest}"));
    let later = known.with_file_name(format!("{instance}-{:016x}-0000.parquet", 1 << 20));
    let nowhere = copy.path().join("tables/a/never/date=1970-01-01").join(name);
    fs::create_dir_all(nowhere.parent().unwrap()).unwrap();
    for path in [&other, &later, &nowhere] {
        fs::copy(&known, path).unwrap();
    }
    recover(&copy, |_| {});
    assert_eq!(files(copy.path()), [other, known]);
}

#[test]
fn a_corrupt_journal_stops_the_start_and_says_where() {
    let live = Live::start();
    for index in 0..20 {
        assert_eq!(live.post("/write?db=a", format!("cpu v={index}i {index}")).status, 204);
    }
    let copy = killed(&live);
    let wal = copy.path().join("wal");
    let mut segments: Vec<_> = fs::read_dir(&wal).unwrap().map(|it| it.unwrap().path()).collect();
    segments.sort();
    let mut bytes = fs::read(&segments[0]).unwrap();
    bytes[4096 + 300] ^= 1;
    fs::write(&segments[0], bytes).unwrap();
    let error = Engine::open(&live::options(copy.path())).expect_err("damage").to_string();
    let name = segments[0].file_name().unwrap().to_str().unwrap();
    assert!(error.contains(name) && error.contains("byte"), "{error}");
    recover(&copy, |options| options.wal_salvage = true);
    assert!((1..20).contains(&count(&copy, "a")), "{}", count(&copy, "a"));
}
