//! The pages that mdbook makes a book of: their examples run, their links and commands exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{Float64Array, RecordBatch, TimestampMicrosecondArray};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use clap::Parser;
use peristyle::accept::route::ROUTES;
use peristyle::config::Cli;

use crate::live::Live;

const EXAMPLES: &str = include_str!("../../schemas/guide/endpoints.md");
const SUMMARY: &str = include_str!("../../schemas/SUMMARY.md");
const BOOK: &str = include_str!("../../schemas/book.toml");

/// The pages of the guide; the others are contracts.
const GUIDE: &[&str] = &[
    "architecture.md",
    "backup.md",
    "endpoints.md",
    "migration.md",
    "reading.md",
    "running.md",
    "settings.md",
    "sizing.md",
    "start.md",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The text of every fenced block of a page, by its language, in order.
fn blocks(page: &str) -> Vec<(&str, String)> {
    let mut found: Vec<(&str, String)> = Vec::new();
    let mut is_open = false;
    for line in page.lines() {
        match line.strip_prefix("```") {
            Some(_) if is_open => is_open = false,
            Some(language) => {
                is_open = true;
                found.push((language, String::new()));
            }
            None if is_open => {
                let (_, text) = found.last_mut().unwrap();
                *text += line;
                *text += "\n";
            }
            None => {}
        }
    }
    assert!(!is_open, "a block is not closed");
    found
}

/// The words of a command, as a shell splits them; `'` is the only quotation mark.
fn words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut is_quoted = false;
    let mut chars = command.chars();
    while let Some(char) = chars.next() {
        match char {
            '\'' => {
                is_quoted = !is_quoted;
                word.get_or_insert_default();
            }
            '\\' if !is_quoted => assert_eq!(chars.next(), Some('\n'), "{command}"),
            char if char.is_whitespace() && !is_quoted => words.extend(word.take()),
            char => word.get_or_insert_default().push(char),
        }
    }
    assert!(!is_quoted, "{command}");
    words.extend(word);
    words
}

/// What `printf` makes of octal escapes.
fn printed(format: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = format.as_bytes();
    while let [first, tail @ ..] = rest {
        if let (b'\\', [a, b, c, tail @ ..]) = (first, tail) {
            bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
            rest = tail;
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    bytes
}

/// What `room.arrows` holds: two rows as a client of Arrow would send them.
fn room_arrows() -> Vec<u8> {
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let schema = Arc::new(Schema::new(vec![
        Field::new("time", utc, false),
        Field::new("level", DataType::Float64, true),
    ]));
    let times = TimestampMicrosecondArray::from(vec![1_700_000_000_000_000, 1_700_000_001_000_000]);
    let levels = Float64Array::from(vec![1.25, -2.5]);
    let columns = vec![Arc::new(times.with_timezone("UTC")) as _, Arc::new(levels) as _];
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
    let mut writer = StreamWriter::try_new(Vec::new(), &schema).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

/// A request, read from the `curl` of an example.
#[derive(Debug, Default)]
struct Request {
    method: String,
    target: String,
    headers: String,
    body: Vec<u8>,
}

fn request(example: &str) -> Request {
    let (input, command) = match example.split_once("|\n") {
        Some((print, command)) => (printed(words(print).last().expect("what to print")), command),
        None => (Vec::new(), example),
    };
    let mut request = Request { method: "GET".to_owned(), ..Request::default() };
    let mut words = words(command).into_iter();
    assert_eq!(words.next().as_deref(), Some("curl"), "{example}");
    let mut method = None;
    while let Some(word) = words.next() {
        let mut value = || words.next().expect("a value");
        match word.as_str() {
            "-i" => {}
            "-X" => method = Some(value()),
            "-H" => request.headers += &(value() + "\r\n"),
            "--data-binary" => {
                "POST".clone_into(&mut request.method);
                request.body = match value().as_str() {
                    "@-" => input.clone(),
                    "@room.arrows" => room_arrows(),
                    text => text.as_bytes().to_vec(),
                };
            }
            "--data-urlencode" => {
                "POST".clone_into(&mut request.method);
                request.headers += "Content-Type: application/x-www-form-urlencoded\r\n";
                let pair = value();
                let (name, value) = pair.split_once('=').expect("a name and a value");
                let value: String = form_urlencoded::byte_serialize(value.as_bytes()).collect();
                request.body = format!("{name}={value}").into_bytes();
            }
            url => {
                let target = url.strip_prefix("localhost:8086").expect(url);
                target.clone_into(&mut request.target);
            }
        }
    }
    request.method = method.unwrap_or(request.method);
    request
}

/// Whether `text` is `expected`, where `...` stands for anything.
fn is_like(text: &str, expected: &str) -> bool {
    let mut parts = expected.split("...");
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        let at = if parts.peek().is_some() { rest.find(part) } else { rest.rfind(part) };
        let Some(at) = at else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.is_empty()
}

#[test]
fn every_example_is_answered_as_the_page_says() {
    let live = Live::start();
    let blocks = blocks(EXAMPLES);
    assert!(blocks.len() > 50 && blocks.len().is_multiple_of(2));
    for pair in blocks.chunks(2) {
        let [("sh", example), ("text", expected)] = pair else { panic!("{pair:?}") };
        let Request { method, target, headers, body } = request(example);
        let answer = live.client().request(&method, &target, &headers, &body);
        let (head, body) = expected.split_once("\n\n").unwrap_or_else(|| (expected.trim_end(), ""));
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a status");
        assert_eq!(answer.status.to_string(), status, "{example}\n{}", answer.body);
        for line in lines {
            let (name, value) = line.split_once(": ").expect("a header");
            let found = answer.header(name).unwrap_or_default();
            assert!(is_like(found, value), "{example}\n{name}: {found}");
        }
        // JSON is one line, and broken on the page; other bodies have lines of their own.
        let is_json = answer.header("content-type") == Some("application/json");
        let body = if is_json { body.replace('\n', "") } else { body.trim_end().to_owned() };
        assert!(is_like(answer.body.trim_end(), &body), "{example}\n{}", answer.body);
    }
}

#[test]
fn every_endpoint_has_an_example() {
    let targets: Vec<String> = blocks(EXAMPLES)
        .iter()
        .filter(|(language, _)| *language == "sh")
        .map(|(_, example)| request(example).target)
        .collect();
    for route in ROUTES {
        let is_it = |target: &&String| target.split('?').next() == Some(route.path);
        assert!(targets.iter().any(|target| is_it(&target)), "{} has none", route.path);
    }
}

/// Every page in Markdown below a folder, with its text.
fn pages(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut directories = vec![root().join(folder)];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|it| it == "md") {
                found.push((path.clone(), fs::read_to_string(path).unwrap()));
            }
        }
    }
    found
}

/// Where the links of a page lead, those within blocks of code left out.
fn links(page: &str) -> Vec<&str> {
    let text = page.split("```").step_by(2);
    let behind = text.flat_map(|text| text.split("](").skip(1));
    behind.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target).collect()
}

/// The anchors of a page, as mdbook and GitHub make them of headings.
fn anchors(page: &str) -> Vec<String> {
    let headings = page.lines().filter_map(|line| Some(line.strip_prefix('#')?.trim_matches('#')));
    let anchor = |heading: &str| {
        let kept = heading.trim().chars().filter(|it| it.is_alphanumeric() || " -_".contains(*it));
        kept.collect::<String>().to_lowercase().replace(' ', "-")
    };
    headings.map(anchor).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut all = pages("schemas");
    for name in ["README.md", "ARCHITECTURE.md", "tests/README.md", "perf/README.md"] {
        all.push((root().join(name), fs::read_to_string(root().join(name)).unwrap()));
    }
    let mut count = 0;
    for (path, text) in &all {
        let includes = text.split("{{#include ").skip(1).filter_map(|rest| rest.split('}').next());
        for target in links(text).into_iter().chain(includes) {
            if target.contains("://") {
                continue;
            }
            count += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() { path } else { &path.parent().unwrap().join(file) };
            assert!(file.exists(), "{}: {target}", path.display());
            if !anchor.is_empty() {
                let anchors = anchors(&fs::read_to_string(file).unwrap());
                assert!(anchors.iter().any(|it| it == anchor), "{}: {target}", path.display());
            }
        }
    }
    assert!(count > 40, "{count} links");
}

#[test]
fn the_summary_has_every_page_once() {
    assert!(BOOK.contains("src = \".\"\n"));
    let mut listed: Vec<&str> = links(SUMMARY);
    listed.sort_unstable();
    let mut found: Vec<String> = pages("schemas")
        .iter()
        .map(|(path, _)| path.strip_prefix(root().join("schemas")).unwrap().display().to_string())
        .filter(|path| path != "SUMMARY.md")
        .collect();
    found.sort();
    assert_eq!(listed, found);
    let guide: BTreeSet<&str> =
        listed.iter().filter_map(|path| path.strip_prefix("guide/")).collect();
    assert_eq!(guide, GUIDE.iter().copied().collect());
}

#[test]
fn every_command_on_the_pages_is_one_of_the_binary() {
    let mut count = 0;
    for (path, text) in pages("schemas") {
        for (_, block) in blocks(&text).iter().filter(|(language, _)| *language == "sh") {
            let joined = block.replace("\\\n", " ");
            for line in joined.lines() {
                let line = line.split(" #").next().unwrap().split([';', '|', '>']).next().unwrap();
                let Some((_, arguments)) = line.split_once("peristyle ") else { continue };
                let is_command = line.starts_with("peristyle ") || line.starts_with("sudo -u ");
                if !is_command {
                    continue;
                }
                let arguments = arguments.strip_prefix("peristyle ").unwrap_or(arguments);
                let arguments = ["peristyle"].into_iter().chain(arguments.split_whitespace());
                let parsed = Cli::try_parse_from(arguments);
                assert!(parsed.is_ok(), "{}: {line}\n{}", path.display(), parsed.unwrap_err());
                count += 1;
            }
        }
    }
    assert!(count >= 5, "{count} commands");
}
