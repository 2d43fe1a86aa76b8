//! `schemas/errors.md`: every text, reason, finding and exit status of the code, and no other.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use peristyle::accept::observed::{REQUEST_REASONS, ROW_REASONS};

const PAGE: &str = include_str!("../../schemas/errors.md");

/// Types whose texts are values within errors, and no errors.
const VALUES: &[&str] =
    &["ByteSize", "Checksums", "ColumnKind", "Excerpt", "Found", "Key", "Origin", "Role"];

/// Texts outside of what is shown of a type, one of each place that makes its own.
const OTHERS: &[&str] = &[
    "not found: no such endpoint",
    "method not allowed: expected ..",
    "Empty payload",
    "unable to parse authentication credentials",
    "authorization failed",
    "Authentication required",
    "Invalid or expired token",
    "error parsing query: expected .., found ..",
    "database name required",
    "cannot listen on ..: ..",
    "another process has this data directory open",
];

/// Every source of the server by its path, without comments, and with strings on one line.
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut directories = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let text = text.split("#[cfg(test)]\nmod ").next().unwrap();
                let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
                let text = lines.collect::<Vec<_>>().join("\n");
                let parts: Vec<&str> = text.split("\\\n").map(str::trim_start).collect();
                found.push((path.display().to_string(), parts.concat()));
            }
        }
    }
    assert!(found.len() > 50, "the sources were not found");
    found
}

/// The strings of a piece of Rust.
fn literals(code: &str) -> Vec<String> {
    let code = code.replace("'\"'", "");
    let mut literals = Vec::new();
    let mut chars = code.chars();
    while chars.by_ref().any(|char| char == '"') {
        let mut literal = String::new();
        while let Some(char) = chars.next() {
            match char {
                '"' => break,
                '\\' => literal.extend(chars.next()),
                char => literal.push(char),
            }
        }
        literals.push(shown(&literal));
    }
    literals
}

/// A template of `format!` as the page has it.
fn shown(literal: &str) -> String {
    let mut shown = String::new();
    let mut rest = literal;
    while let Some((before, behind)) = rest.split_once('{') {
        shown.push_str(before);
        shown.push_str("..");
        rest = behind.split_once('}').map_or("", |(_, rest)| rest);
    }
    shown + rest
}

/// What the page has in backquotes.
fn spans() -> Vec<&'static str> {
    PAGE.lines().flat_map(|line| line.split('`').skip(1).step_by(2)).collect()
}

/// The cells of the rows of all tables of a part of the page, heads left out.
fn rows(part: &str) -> Vec<Vec<&str>> {
    let lines = part.lines().filter(|line| line.starts_with("| ")).collect::<Vec<_>>();
    let heads = ["| reason |", "| status |", "| text |", "| check |"];
    let rows = lines.iter().filter(|line| !heads.iter().any(|head| line.starts_with(head)));
    rows.map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect()).collect()
}

fn part(title: &str) -> &'static str {
    let (_, part) = PAGE.split_once(&format!("\n## {title}\n")).expect(title);
    part.split("\n## ").next().unwrap()
}

fn first_cells(title: &str) -> Vec<&'static str> {
    rows(part(title)).iter().filter_map(|row| row.first()).map(|it| it.trim_matches('`')).collect()
}

#[test]
fn every_reason_is_on_the_page_and_no_other() {
    assert_eq!(first_cells("Why rows are refused")[..ROW_REASONS.len()], *ROW_REASONS);
    let requests = first_cells("Why requests are refused");
    assert_eq!(requests[..REQUEST_REASONS.len()], *REQUEST_REASONS);
    let sources = sources();
    let (_, observed) =
        sources.iter().find(|(path, _)| path.ends_with("accept/observed.rs")).unwrap();
    let given: BTreeSet<&str> =
        observed.lines().filter_map(|line| line.split_once("=> \"")?.1.split('"').next()).collect();
    assert!(given.len() > 30);
    for reason in given {
        let is_known = ROW_REASONS.contains(&reason) || REQUEST_REASONS.contains(&reason);
        assert!(is_known, "{reason} is in neither list");
    }
}

#[test]
fn every_error_that_the_code_can_say_is_on_the_page() {
    let spans = spans();
    let is_there = |text: &str| spans.iter().any(|span| span.contains(text));
    let mut missing = Vec::new();
    let mut count = 0;
    for (path, text) in sources() {
        for (at, prefix) in text.match_indices("fmt::Display for ") {
            let block = &text[at + prefix.len()..];
            let name = block.split([' ', '<']).next().unwrap();
            if VALUES.contains(&name) {
                continue;
            }
            for literal in literals(block.split("\n}").next().unwrap()) {
                let literal = literal.trim();
                count += 1;
                if literal.chars().any(char::is_alphabetic) && !is_there(literal) {
                    missing.push(format!("{path}: {name}: {literal}"));
                }
            }
        }
    }
    missing.extend(OTHERS.iter().filter(|it| !is_there(it)).map(|it| (*it).to_owned()));
    assert!(count > 150, "{count} texts were found in the sources");
    assert!(missing.is_empty(), "not in schemas/errors.md:\n{}", missing.join("\n"));
}

#[test]
fn every_error_on_the_page_is_one_that_the_code_can_say() {
    let sources = sources();
    let code: Vec<String> = sources.iter().map(|(_, text)| text.replace("\\\"", "\"")).collect();
    let mut unknown = Vec::new();
    let mut count = 0;
    for row in PAGE.lines().filter(|line| line.starts_with("| ")) {
        // The cell of texts is the one before what to do.
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
        let texts = cells[cells.len() - 2].split('`').skip(1).step_by(2);
        for piece in texts.flat_map(|text| text.split("..")) {
            let piece = piece.trim();
            count += 1;
            if piece.len() > 3 && !code.iter().any(|text| text.contains(piece)) {
                unknown.push(piece);
            }
        }
    }
    assert!(count > 150, "{count} pieces of text");
    assert!(unknown.is_empty(), "in no source:\n{}", unknown.join("\n"));
}

#[test]
fn every_error_has_a_cure() {
    for row in rows(PAGE) {
        assert!(row.len() >= 2 && row.iter().all(|cell| !cell.is_empty()), "{row:?}");
    }
}

/// 0 and 1 are those of `ExitCode`; the others stand in the sources as numbers.
#[test]
fn every_exit_status_is_on_the_page_and_no_other() {
    let mut found = BTreeSet::from(["0".to_owned(), "1".to_owned()]);
    for (_, text) in sources() {
        for mark in ["process::exit(", ": u8 = "] {
            for (at, _) in text.match_indices(mark) {
                let digits = text[at + mark.len()..].chars().take_while(char::is_ascii_digit);
                let digits: String = digits.collect();
                let is_status = mark.ends_with('(') || text.contains("ExitCode");
                found.extend((is_status && !digits.is_empty()).then_some(digits));
            }
        }
    }
    let documented = first_cells("Exit statuses").into_iter().map(str::to_owned);
    assert_eq!(documented.collect::<BTreeSet<_>>(), found);
    assert!(found.len() >= 5);
}

#[test]
fn every_finding_of_inspect_is_on_the_page_and_no_other() {
    let sources = sources();
    let (_, text) =
        sources.iter().find(|(path, _)| path.ends_with("engine/inspection/mod.rs")).unwrap();
    let (_, names) = text.split_once("impl Check {").expect("the checks");
    let names = literals(names.split("impl Inspection").next().unwrap());
    assert_eq!(first_cells("Findings of `peristyle inspect`"), names);
}
