//! Names, measurements, columns and kinds by the million: bounded, told, and nobody else's loss.
//!
//! `PERISTYLE_HOSTILE` is the number of names and of measurements; there are a tenth as many
//! columns and a hundredth as many conflicts. The whole of it: 1000000.

#![expect(clippy::print_stdout, reason = "the figures of a whole run")]

use std::collections::HashMap;
use std::fmt::Write;
use std::fs;
use std::ops::Range;
use std::path::Component;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use peristyle::limits::Limits;
use peristyle::persist::layout;
use simd_json::prelude::*;

use crate::binary::Binary;
use crate::http_client::Client;
use crate::live::read_rows;
use crate::msgpack_bodies::Random;

const ENDPOINT: &str = "/api/v1/write/line-protocol";
const MEMORY_LIMIT: usize = 256 << 20;
/// Lines of a hostile body.
const LINES: usize = 5_000;

/// How many.
fn size() -> usize {
    std::env::var("PERISTYLE_HOSTILE").map_or(60_000, |it| it.parse().expect("a number"))
}

/// Names that look like paths, like each other, like devices, like what was encoded.
fn name(random: &mut Random) -> String {
    const PIECES: [&str; 46] = [
        "..",
        "/",
        "\\",
        ".",
        "\0",
        "~",
        "@",
        "%",
        "%2e",
        "%2F",
        "@2E",
        "@@",
        "_",
        "-",
        "con",
        "CON",
        "Nul",
        "com1",
        "lpt9.",
        "aux",
        ":",
        "*",
        "?",
        "<",
        "|",
        "\"",
        "'",
        " ",
        "\n",
        "\r",
        "\u{202e}",
        "\u{fe0f}",
        "\u{e9}",
        "e\u{301}",
        "\u{212a}",
        "k",
        "K",
        "\u{130}",
        "i",
        "I",
        "\u{df}",
        "\u{1f600}",
        "tables",
        "date=2026-11-22",
        "_delta_log",
        "a",
    ];
    if random.once_in(50) {
        // Around the length from which names are told by their hash.
        let letter = random.of(&["a", "A", "b", "\u{e9}", "."]);
        return letter.repeat(20 + random.below(200)) + random.of(&["", "x", "X"]);
    }
    (0..=random.below(7)).map(|_| random.of(&PIECES)).collect()
}

#[test]
fn hostile_names_are_components_of_their_own_inside_of_the_data_directory() {
    let mut random = Random::new(2026);
    let mut names: HashMap<String, String> = HashMap::new();
    let (mut tries, mut hashed) = (0_usize, 0_usize);
    while names.len() < size() {
        tries += 1;
        assert!(tries < 4 * size(), "too few names differ");
        let name = name(&mut random) + random.of(&["", "", "a", "B", "0"]);
        let component = layout::encode_name(&name);
        let path = layout::segment_path(&name, &name, "2026-11-22", "00000000", 1, 0);
        let is_normal = |it: Component<'_>| matches!(it, Component::Normal(_));
        assert!(path.components().all(is_normal), "{name:?} {path:?}");
        assert_eq!(path.components().count(), 5, "{name:?} {path:?}");
        assert!(component.len() <= 255, "{name:?}");
        if let Some(decoded) = layout::decode_name(&component) {
            assert_eq!(decoded, name);
        } else {
            assert!(component.contains("@@"), "{name:?} {component:?}");
            hashed += 1;
        }
        if let Some(twin) = names.insert(component.to_ascii_lowercase(), name.clone()) {
            assert_eq!(twin, name, "{component:?} is the component of both");
        }
    }
    assert!(hashed > size() / 1_000, "{hashed}");
    println!("{} names, {hashed} of them by hash, {tries} tries", names.len());
}

#[test]
fn hostile_names_are_databases_and_measurements_that_are_listed_as_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().join("data");
    let binary = Binary::start(&data_dir, &["--flush-interval", "1h"]);
    let mut client = Client::connect(binary.address());
    let mut random = Random::new(7);
    let mut sent: Vec<(String, String)> = Vec::new();
    while sent.len() < 60 {
        let (database, measurement) = (name(&mut random), name(&mut random));
        let is_named = |it: &str| !it.is_empty() && !it.starts_with('_') && it.len() < 200;
        let is_new = !sent.iter().any(|(it, _)| *it == database);
        if !is_named(&database) || !is_named(&measurement) || !is_new {
            continue;
        }
        let database_form: String = form_urlencoded::byte_serialize(database.as_bytes()).collect();
        let name: String = measurement.chars().fold(String::new(), |mut json, char| {
            let _ = write!(json, "{}", json_char(char));
            json
        });
        let body = format!("{{\"m\":\"{name}\",\"t\":1,\"fields\":{{\"v\":1}}}}");
        let answer = client.post(&format!("/api/v1/write/json?db={database_form}"), body);
        if answer.status == 204 {
            sent.push((database, measurement));
        } else {
            assert_eq!(answer.status, 400, "{database:?} {measurement:?} {answer:?}");
        }
    }
    assert_eq!(client.post("/api/v1/flush", "").status, 200);
    let tables = client.get("/api/v1/tables").body;
    let tables = simd_json::to_owned_value(&mut tables.into_bytes()).unwrap();
    let shown = format!("{tables:?}");
    for (database, measurement) in &sent {
        let rows = read_rows(&data_dir, database);
        assert_eq!(rows.len(), 1, "{database:?}");
        assert_eq!(rows[0].measurement, *measurement);
        assert!(shown.contains(&format!("{measurement:?}")), "{measurement:?}");
    }
    // Nothing came to be beside the data directory.
    let beside: Vec<_> = fs::read_dir(directory.path()).unwrap().collect();
    assert_eq!(beside.len(), 1, "{beside:?}");
    assert_eq!(fs::read_dir(data_dir.join("tables")).unwrap().count(), sent.len());
    binary.signal("-TERM");
    assert_eq!(binary.end().0, Some(0));
}

fn json_char(char: char) -> String {
    match char {
        '"' | '\\' => format!("\\{char}"),
        ..'\u{20}' => format!("\\u{:04x}", u32::from(char)),
        _ => char.to_string(),
    }
}

/// What became of bodies: rows accepted, rows rejected, and the reasons of the first ones of each.
#[derive(Debug, Default)]
struct Outcome {
    accepted: u64,
    rejected: u64,
    reasons: Vec<String>,
}

/// Sends lines to a database, some thousand at a time.
fn send(
    client: &mut Client,
    database: &str,
    all: Range<usize>,
    line: impl Fn(usize, &mut String),
) -> Outcome {
    let mut outcome = Outcome::default();
    let end = all.end;
    for first in all.step_by(LINES) {
        let mut body = String::new();
        let rows = first..end.min(first + LINES);
        rows.clone().for_each(|at| line(at, &mut body));
        let answer = client.post(&format!("{ENDPOINT}?db={database}"), &body);
        if answer.status == 204 {
            outcome.accepted += rows.len() as u64;
            continue;
        }
        // None, or some, were taken; each is told.
        assert!([200, 400].contains(&answer.status), "{answer:?}");
        let mut text = answer.body.into_bytes();
        let told = simd_json::to_owned_value(&mut text).unwrap();
        let rejected = told.get_u64("rejected").unwrap();
        assert_eq!(told.get_u64("accepted").unwrap() + rejected, rows.len() as u64);
        outcome.accepted += rows.len() as u64 - rejected;
        outcome.rejected += rejected;
        let told = told.get_array("data").unwrap();
        assert_eq!(told.len() as u64, rejected.min(Limits::DEFAULT.reported_errors_max as u64));
        outcome.reasons.extend(told.iter().map(|it| {
            let number = it.get_usize("line_number").unwrap();
            let original = it.get_str("original_line").unwrap();
            let sent = body.lines().nth(number - 1).unwrap();
            assert!(sent.starts_with(original), "line {number} is not {original:?}: {sent:?}");
            it.get_str("error_message").unwrap().to_owned()
        }));
    }
    outcome
}

/// The most memory that a process had resident.
fn resident_max(process: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|it| it.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

/// Ends the good rows, whatever happens.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Good rows of another database, one after the other, until it is told to stop.
fn good_rows(client: &mut Client, is_over: &AtomicBool) -> usize {
    let mut count = 0;
    while !is_over.load(Ordering::Relaxed) || count < 100 {
        let line = format!("cpu,host=a usage={count}i {count}\n");
        let answer = client.post("/write?db=good", line);
        assert_eq!(answer.status, 204, "row {count}: {answer:?}");
        count += 1;
    }
    count
}

/// What is done to a server while good rows go to another database of it.
fn beside_good_rows(hostile: impl FnOnce(&mut Client)) -> usize {
    let directory = tempfile::tempdir().unwrap();
    let binary = Binary::start(
        directory.path(),
        &["--memory-limit", "256MiB", "--flush-interval", "1h", "--shards", "2"],
    );
    let is_over = AtomicBool::new(false);
    let count = thread::scope(|scope| {
        let good = scope.spawn(|| good_rows(&mut Client::connect(binary.address()), &is_over));
        let end = End(&is_over);
        hostile(&mut Client::connect(binary.address()));
        drop(end);
        good.join().expect("no panic")
    });
    let resident = resident_max(binary.id());
    println!("{count} good rows beside; at most {} MiB resident", resident >> 20);
    let answer = Client::connect(binary.address()).post("/api/v1/flush?db=good", "");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(read_rows(directory.path(), "good").len(), count, "every good row is there");
    // It is killed: files of ten thousand tables are not what is asked here.
    resident
}

#[test]
fn measurements_and_conflicts_by_the_million_are_refused_by_name_in_bounded_memory() {
    let (measurements, conflicts) = (size(), size() / 100);
    let max = Limits::DEFAULT.tables_per_database_max;
    let resident = beside_good_rows(|client| {
        let outcome = send(client, "tables", 0..measurements, |at, body| {
            writeln!(body, "m{at},host=a v=1 {at}").unwrap();
        });
        let known = measurements.min(max) as u64;
        assert_eq!((outcome.accepted, outcome.rejected), (known, measurements as u64 - known));
        let expected = format!("too many measurements: the database has {max}");
        assert!(outcome.reasons.iter().all(|it| *it == expected), "{:?}", outcome.reasons.last());

        assert_eq!(client.post("/write?db=kinds", "m v=1i 1").status, 204);
        let outcome = send(client, "kinds", 0..conflicts, |at, body| {
            writeln!(body, "m v=\"{at}\" {at}").unwrap();
        });
        assert_eq!((outcome.accepted, outcome.rejected), (0, conflicts as u64));
        let expected = "field type conflict: input field \"v\" on measurement \"m\" is type \
                        string, already exists as type integer";
        assert!(outcome.reasons.iter().all(|it| it == expected), "{:?}", outcome.reasons.last());
        // What is known is taken as before.
        let answer = client.post("/write?db=tables", "m0,host=a v=2 2\nm1,host=b v=2 2\n");
        assert_eq!(answer.status, 204, "{answer:?}");
    });
    assert!(resident <= MEMORY_LIMIT / 100 * 115, "{} MiB resident", resident >> 20);
}

#[test]
fn columns_by_the_hundred_thousand_are_refused_by_name_and_hurt_nobody_else() {
    let columns = size() / 10;
    let max = Limits::DEFAULT.columns_per_table_max;
    beside_good_rows(|client| {
        let outcome = send(client, "columns", 0..columns, |at, body| {
            writeln!(body, "m,host=a c{at}=1 {at}").unwrap();
        });
        // The tag is a column, too.
        let known = columns.min(max - 1) as u64;
        assert_eq!((outcome.accepted, outcome.rejected), (known, columns as u64 - known));
        let expected = format!("too many columns: the measurement has {max}");
        assert!(outcome.reasons.iter().all(|it| *it == expected), "{:?}", outcome.reasons.last());
        let answer = client.post("/write?db=columns", "m,host=b c0=2,c1=2 2\n");
        assert_eq!(answer.status, 204, "{answer:?}");
    });
}
