//! Copies of a data directory, made and restored as `schemas/guide/backup.md` says.

use std::fs;
use std::path::Path;

use peristyle::engine;

use crate::binary::Binary;
use crate::http_client::Client;
use crate::live::{Live, read_rows};

/// Copies a directory, but for what is in directories named `without`.
fn copy(from: &Path, to: &Path, without: &str) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if !entry.file_type().unwrap().is_dir() {
            fs::copy(entry.path(), target).unwrap();
        } else if entry.file_name() != without {
            copy(&entry.path(), &target, without);
        }
    }
}

fn inconsistencies(data_dir: &Path) -> Vec<String> {
    let found = engine::inspect(data_dir).unwrap().inconsistencies;
    found.into_iter().map(|it| format!("{}: {}", it.path.display(), it.what)).collect()
}

/// Starts on a copy, writes one row more, and counts the rows of database `d` afterwards, in files.
fn rows_after_restore(data_dir: &Path) -> usize {
    let restored = Binary::start(data_dir, &[]);
    let answer = Client::connect(restored.address()).post("/write?db=d", "m,t=x f=1i 9000\n");
    assert_eq!(answer.status, 204, "{}", answer.body);
    restored.signal("-TERM");
    let (status, log) = restored.end();
    assert_eq!(status, Some(0), "{log}");
    assert_eq!(inconsistencies(data_dir), [""; 0]);
    read_rows(data_dir, "d").len()
}

#[test]
fn a_copy_after_a_stop_has_every_acknowledged_row() {
    let mut live = Live::start();
    live.post("/write?db=d", "m,t=x f=1i 1000\nm,t=y f=2i 2000\n");
    live.stop();
    let backup = tempfile::tempdir().unwrap();
    copy(live.directory.path(), backup.path(), "");
    assert_eq!(inconsistencies(backup.path()), [""; 0]);
    assert_eq!(rows_after_restore(backup.path()), 3);
}

/// As a snapshot of the file system takes it: everything at one moment, here one at which nobody
/// writes, with rows that are in no table.
#[test]
fn a_copy_of_one_moment_has_every_acknowledged_row() {
    let live = Live::start();
    live.post("/write?db=d", "m,t=x f=1i 1000\n");
    assert_eq!(live.post("/api/v1/flush", "").status, 200);
    live.post("/write?db=d", "m,t=y f=2i 2000\nn f=1i 3000\n");
    let backup = tempfile::tempdir().unwrap();
    copy(live.directory.path(), backup.path(), "");
    assert_eq!(inconsistencies(backup.path()), [""; 0]);
    assert_eq!(rows_after_restore(backup.path()), 4);
}

#[test]
fn tables_copied_logs_first_have_every_row_that_was_published_then() {
    let live = Live::start();
    let backup = tempfile::tempdir().unwrap();
    live.post("/write?db=d", "m,t=x f=1i 1000\n");
    assert_eq!(live.post("/api/v1/flush", "").status, 200);
    let log = "tables/d/m/_delta_log";
    copy(&live.directory.path().join(log), &backup.path().join(log), "");
    // Between the two copies the server goes on: the copied log does not name its next file.
    live.post("/write?db=d", "m,t=y f=2i 2000\n");
    assert_eq!(live.post("/api/v1/flush", "").status, 200);
    let tables = "tables";
    copy(&live.directory.path().join(tables), &backup.path().join(tables), "_delta_log");
    assert_eq!(inconsistencies(backup.path()), [""; 0]);
    // That file is there, and nobody's: the table has a row of the copy, and one of after it.
    let notes = engine::inspect(backup.path()).unwrap().notes;
    assert_eq!(notes.iter().filter(|it| it.check.name() == "orphan").count(), 1, "{notes:?}");
    assert_eq!(rows_after_restore(backup.path()), 3);
    let tables = engine::inspect(backup.path()).unwrap().tables;
    assert_eq!(tables.iter().map(|it| it.rows).collect::<Vec<_>>(), [2]);
}
