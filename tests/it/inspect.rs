//! What a data directory holds, and whether whatever does not fit together is named, and nothing
//! else.

#![expect(clippy::indexing_slicing, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use peristyle::engine::{Check, Finding, Inspection, inspect};
use simd_json::prelude::*;
use tempfile::TempDir;

use crate::live::{self, Live};
use crate::processes;

/// A server that has written to three measurements, in several flushes.
fn loaded() -> Live {
    let live = Live::start();
    for round in 0..3 {
        for at in 0..20 {
            let time = 1_700_000_000 + round * 86_400 + at;
            let body = format!(
                "cpu,host=h{at} busy=0.5,cores={at}i {time}\nmem free={at}i {time}\n\
                 disk\\ io,host=a read{round}=1u {time}\n"
            );
            assert_eq!(live.post("/write?db=Prod/1&precision=s", body).status, 204);
        }
        assert_eq!(live.post("/api/v1/flush", "").status, 200);
    }
    live
}

/// The directory as a kill would leave it.
fn killed(directory: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for (path, bytes) in contents(directory) {
        let path = copy.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    copy
}

/// Every file of a directory.
fn contents(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                let bytes = fs::read(&path).unwrap();
                files.insert(path.strip_prefix(root).unwrap().to_owned(), bytes);
            }
        }
    }
    files
}

fn binary(directory: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_peristyle"));
    let output = processes::output(command.arg("inspect").args(arguments).arg(directory));
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[track_caller]
fn assert_consistent(directory: &Path) -> Inspection {
    let inspection = inspect(directory).unwrap();
    assert_eq!(inspection.inconsistencies, [], "{:?}", inspection.notes);
    inspection
}

/// The paths of what does not fit together, each once.
fn paths(findings: &[Finding]) -> Vec<&Path> {
    let mut paths: Vec<&Path> = findings.iter().map(|it| it.path.as_path()).collect();
    paths.dedup();
    paths
}

#[test]
fn what_was_written_is_consistent_before_and_after_a_restart() {
    let mut live = loaded();
    for _ in 0..2 {
        let inspection = assert_consistent(live.directory.path());
        assert_eq!(inspection.notes, []);
        assert_eq!(inspection.server, Some(std::process::id()));
        let tables: Vec<_> = inspection.tables.iter().map(|it| it.measurement.as_str()).collect();
        assert_eq!(tables, ["cpu", "disk io", "mem"]);
        let cpu = &inspection.tables[0];
        assert_eq!((cpu.database.as_str(), cpu.rows, cpu.files), ("Prod/1", 60, 3));
        let journal = inspection.journal.unwrap();
        assert_eq!(journal.unpublished, 0);
        assert!(journal.last_sequence > 60);
        live.restart(|_| {});
    }
    live.stop();
    let before = contents(live.directory.path());
    assert_eq!(assert_consistent(live.directory.path()).server, None);
    assert!(before == contents(live.directory.path()), "something was changed");
}

#[test]
fn what_a_kill_leaves_is_a_note() {
    let live = loaded();
    assert_eq!(live.post("/write?db=Prod/1", "cpu,host=a busy=1 5\nnew f=1i 5\n").status, 204);
    assert_eq!(live.post("/write?db=other", "cpu,host=a busy=1i 5\n").status, 204);
    let copy = killed(live.directory.path());
    let inspection = assert_consistent(copy.path());
    assert_eq!(inspection.journal.unwrap().unpublished, 2);

    let file = &live::files(copy.path())[0];
    let name = file.file_name().unwrap().to_str().unwrap();
    let uncommitted = file.with_file_name(format!("{}-00000000000000ff-0000.parquet", &name[..8]));
    fs::copy(file, &uncommitted).unwrap();
    let other = file.with_file_name("0f0f0f0f-00000000000000ff-0000.parquet");
    fs::copy(file, &other).unwrap();
    let temporary = file.with_file_name(".x.parquet.tmp");
    fs::write(&temporary, "").unwrap();
    let inspection = assert_consistent(copy.path());
    let mut noted = [uncommitted, other, temporary];
    noted.sort();
    let mut found: Vec<_> =
        paths(&inspection.notes).iter().map(|it| copy.path().join(it)).collect();
    found.sort();
    assert_eq!(found, noted);
    assert!(binary(copy.path(), &[]).1.contains(", 2 to replay\n"));
}

/// What is done to a file; the second one is another.
type Damage = (&'static str, fn(&Path, &Path));

/// Flips the lowest bit of a byte.
fn flip(path: &Path, offset: impl FnOnce(usize) -> usize) {
    let mut bytes = fs::read(path).unwrap();
    let at = offset(bytes.len());
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn truncate(path: &Path) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
}

#[test]
fn a_live_file_that_is_not_what_the_log_says_is_named() {
    let damages: [Damage; 8] = [
        ("gone", |file, _| fs::remove_file(file).unwrap()),
        ("cut", |file, _| truncate(file)),
        ("empty", |file, _| fs::write(file, "").unwrap()),
        ("its first page", |file, _| flip(file, |_| 40)),
        ("somewhere", |file, _| flip(file, |bytes| bytes / 2)),
        ("its length", |file, _| flip(file, |bytes| bytes - 8)),
        ("its magic", |file, _| flip(file, |bytes| bytes - 1)),
        ("another", |file, other| fs::write(file, fs::read(other).unwrap()).unwrap()),
    ];
    let mut live = loaded();
    live.stop();
    for (what, damage) in damages {
        let copy = killed(live.directory.path());
        let files = live::files(copy.path());
        let (file, other) = (&files[0], &files[files.len() - 1]);
        damage(file, other);
        let inspection = inspect(copy.path()).unwrap();
        let relative = file.strip_prefix(copy.path()).unwrap();
        assert_eq!(paths(&inspection.inconsistencies), [relative], "{what}");
        assert_eq!(inspection.inconsistencies[0].check, Check::File, "{what}");
    }
}

#[test]
fn a_segment_that_no_log_knows_is_named() {
    let mut live = loaded();
    live.stop();
    let file = &live::files(live.directory.path())[0];
    let instance = file.file_name().unwrap().to_str().unwrap()[..8].to_owned();
    for (sequence, check) in
        [("0000000000000000", Check::Orphan), ("00000000000000ff", Check::Sequence)]
    {
        let copy = killed(live.directory.path());
        let relative = file.strip_prefix(live.directory.path()).unwrap();
        let stray = relative.with_file_name(format!("{instance}-{sequence}-0000.parquet"));
        fs::copy(file, copy.path().join(&stray)).unwrap();
        let inspection = inspect(copy.path()).unwrap();
        assert_eq!(paths(&inspection.inconsistencies), [stray.as_path()]);
        assert_eq!(inspection.inconsistencies[0].check, check);
    }
}

#[test]
fn a_damaged_log_is_named_by_its_file() {
    let mut live = loaded();
    live.stop();
    let log = Path::new("tables/@50rod@2F1/cpu/_delta_log");
    for version in 0..3 {
        let commit = log.join(format!("{version:020}.json"));
        let damages: [fn(&Path); 4] = [
            truncate,
            |path| flip(path, |_| 0),
            |path| flip(path, |bytes| bytes - 100),
            |path| fs::write(path, "").unwrap(),
        ];
        for damage in damages {
            let copy = killed(live.directory.path());
            damage(&copy.path().join(&commit));
            let (status, text) = binary(copy.path(), &[]);
            assert_eq!(status, Some(1), "{text}");
            assert!(text.contains(&format!("INCONSISTENT: {}: ", commit.display())), "{text}");
        }
    }
}

#[test]
fn a_damaged_journal_is_named_by_file_and_offset() {
    let mut live = loaded();
    live.stop();
    let copy = killed(live.directory.path());
    let file = contents(copy.path()).into_keys().find(|it| it.starts_with("wal")).unwrap();
    flip(&copy.path().join(&file), |_| 4096 + 40);
    let (status, text) = binary(copy.path(), &[]);
    assert_eq!(status, Some(1), "{text}");
    let named = format!("INCONSISTENT: {}: at byte 4096: ", file.display());
    assert!(text.contains(&named), "{text}");
    assert!(text.contains("journal: not to be read"), "{text}");
}

#[test]
fn machines_get_one_object() {
    let mut live = loaded();
    live.stop();
    let directory = live.directory.path();
    let (status, text) = binary(directory, &["--json"]);
    assert_eq!(status, Some(0), "{text}");
    let value = simd_json::to_owned_value(&mut text.into_bytes()).unwrap();
    assert_eq!(value.get_bool("consistent"), Some(true));
    let tables = value.get_array("tables").unwrap();
    assert_eq!(tables.len(), 3);
    let columns = tables[0].get_array("columns").unwrap();
    let names: Vec<_> = columns.iter().map(|it| it.get_str("name").unwrap()).collect();
    assert_eq!(names, ["time", "host", "busy", "cores"]);
    let kinds: Vec<_> = columns.iter().map(|it| it.get_str("kind").unwrap()).collect();
    assert_eq!(kinds, ["timestamp", "string", "float", "integer"]);
    assert_eq!(value.get("journal").unwrap().get_u64("unpublished"), Some(0));

    fs::remove_file(&live::files(directory)[0]).unwrap();
    let (status, text) = binary(directory, &["--json"]);
    assert_eq!(status, Some(1), "{text}");
    let value = simd_json::to_owned_value(&mut text.into_bytes()).unwrap();
    assert_eq!(value.get_bool("consistent"), Some(false));
    assert_eq!(value.get_array("inconsistencies").unwrap()[0].get_str("check"), Some("file"));
}

#[test]
fn what_is_no_data_directory_cannot_be_read() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(binary(directory.path(), &[]), (Some(2), String::new()));
    assert_eq!(binary(&directory.path().join("missing"), &["--json"]), (Some(2), String::new()));
}

#[test]
fn a_running_server_is_never_inconsistent() {
    let live = Live::start_with(|options| options.flush_interval = Duration::from_millis(20));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for writer in 0..2 {
            let (live, stop) = (&live, &stop);
            scope.spawn(move || {
                let mut client = live.client();
                let mut round = 0;
                while !stop.load(Ordering::Relaxed) {
                    round += 1;
                    let line = |at| {
                        format!("m{at},w={writer} f{}=1i,s=\"{}\"\n", round % 50, "x".repeat(2000))
                    };
                    let body: String = (0..20).map(line).collect();
                    assert_eq!(client.post("/write?db=d", body).status, 204);
                    if round % 40 == 0 {
                        assert_eq!(client.post("/write?db=e", "m f=1i\n").status, 204);
                    }
                    if round % 10 == 0 {
                        // What is not written yet stays bounded.
                        assert_eq!(client.post("/api/v1/flush", "").status, 200);
                    }
                    if writer == 0 && round % 100 == 0 {
                        let drop = "/query?q=DROP%20DATABASE%20e";
                        assert_eq!(client.post(drop, "").status, 200);
                    }
                }
            });
        }
        for _ in 0..30 {
            let inspection = inspect(live.directory.path()).unwrap();
            if !inspection.inconsistencies.is_empty() {
                stop.store(true, Ordering::Relaxed);
            }
            assert_eq!(inspection.inconsistencies, []);
        }
        stop.store(true, Ordering::Relaxed);
    });
    let inspection = assert_consistent(live.directory.path());
    assert!(inspection.tables.len() >= 20);
}
