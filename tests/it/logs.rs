//! The log of the real binary: a slow or refused request is found by its id, and nothing of it.

use std::process::{Command, Stdio};

use simd_json::prelude::*;

use crate::binary::Binary;
use crate::http_client::Client;
use crate::processes::output;

/// Parts of a request that may stand nowhere in a log.
const SECRETS: [&str; 4] =
    ["s3cr3t-of-row", "s3cr3t-of-broken-line", "s3cr3t-of-query", "fortnight"];

/// Makes refused requests of every kind with parts that are nobody's business; returns the ids
/// that their answers carried.
fn provoke(binary: &Binary) -> Vec<String> {
    let mut client = Client::connect(binary.address());
    let bodies = [
        ("/write?db=d", "m f=\"s3cr3t-of-row\"\ns3cr3t-of-broken-line"),
        ("/write?db=d", "m f=\"s3cr3t-of-row\"\nm f=1"),
        ("/write?db=d&precision=fortnight&p=s3cr3t-of-query", "m f=1"),
        ("/api/v2/write?bucket=d", "s3cr3t-of-broken-line"),
        ("/api/v1/write/json?db=d", "{\"m\": \"s3cr3t-of-row\"}"),
        ("/query?q=s3cr3t-of-query", ""),
        ("/api/v3/configure/database?db=d", "s3cr3t-of-row"),
        ("/s3cr3t-of-query", ""),
    ];
    let answers = bodies.map(|(target, body)| client.post(target, body));
    assert_eq!(answers[0].status, 400);
    // The last two statements, and what is no endpoint, refuse nothing that was written.
    let refused = answers.iter().take(5).chain(&answers[6..7]);
    refused.map(|it| it.header("x-request-id").expect("an id").to_owned()).collect()
}

fn run(arguments: &[&str]) -> (Vec<String>, String) {
    let directory = tempfile::tempdir().unwrap();
    let binary = Binary::start(directory.path(), arguments);
    let ids = provoke(&binary);
    binary.signal("-TERM");
    let (status, log) = binary.end();
    assert_eq!(status, Some(0), "{log}");
    (ids, log)
}

#[test]
fn a_refused_request_is_found_by_its_id_and_nothing_of_it() {
    let (ids, log) = run(&[]);
    for id in ids {
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(&id)).collect();
        assert_eq!(lines.len(), 1, "{id} in\n{log}");
        assert!(lines[0].contains("refused") && lines[0].contains("reason="), "{}", lines[0]);
    }
    for secret in SECRETS {
        assert!(!log.contains(secret), "{secret} in\n{log}");
    }
}

#[test]
fn json_lines_are_json_and_a_slow_request_is_told() {
    let (_, log) = run(&["--log-format", "json", "--slow-request", "1ms", "--durability", "fsync"]);
    let mut names = Vec::new();
    for line in log.lines() {
        let mut line = line.as_bytes().to_vec();
        let told = simd_json::to_owned_value(&mut line).expect("a line is an object");
        names.push(told["fields"]["message"].as_str().expect("a message").to_owned());
        for key in ["timestamp", "level"] {
            assert!(told[key].as_str().is_some(), "{key}");
        }
    }
    for name in ["rows refused", "request refused", "stopped"] {
        assert!(names.iter().any(|it| it == name), "{name} in {names:?}");
    }
    for secret in SECRETS {
        assert!(!log.contains(secret), "{secret} in\n{log}");
    }
}

#[test]
fn a_body_that_comes_slowly_makes_a_slow_request() {
    let directory = tempfile::tempdir().unwrap();
    let binary = Binary::start(directory.path(), &["--slow-request", "1ms"]);
    let mut client = Client::connect(binary.address());
    // As many bytes as take longer than a millisecond to send, receive, decode and sync.
    let body: String = "m,t=x f=1i 1\n".repeat(400_000);
    let answer = client.post("/write?db=d", body);
    assert_eq!(answer.status, 204);
    let id = answer.header("x-request-id").expect("an id").to_owned();
    binary.signal("-TERM");
    let (_, log) = binary.end();
    let line = log.lines().find(|line| line.contains(&id)).expect("a line");
    assert!(line.contains("slow request") && line.contains("duration_ms="), "{line}");
}

#[test]
fn a_token_stands_in_no_log() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_peristyle"));
    command.args(["token", "create", "me", "--allow", "write", "--data-dir"]);
    let made = output(command.arg(directory.path()).stdin(Stdio::null()));
    let secret = String::from_utf8(made.stdout).unwrap();
    let secret = secret.split_whitespace().last().expect("a secret");
    assert!(!String::from_utf8_lossy(&made.stderr).contains(secret));
    let binary = Binary::start(directory.path(), &[]);
    let mut client = Client::connect(binary.address());
    assert_eq!(client.post("/write?db=d&p=wr0ng-secret", "m f=1").status, 401);
    for header in ["Bearer ", "Token ", "Token me:", ""] {
        let header = format!("Authorization: {header}{secret}\r\n");
        assert_eq!(client.request("POST", "/write?db=d", &header, b"m f=1").status, 204);
        assert_eq!(client.request("POST", "/write?db=d", &header, b"broken").status, 400);
        assert_eq!(client.request("GET", "/api/v1/tables?db=d", &header, b"").status, 403);
    }
    let answer = client.post(&format!("/write?db=d&p={secret}"), "broken");
    assert_eq!(answer.status, 400);
    let rejects =
        client.request("GET", "/api/v1/rejects", &format!("Authorization: {secret}\r\n"), b"");
    assert!(!rejects.body.contains(secret));
    binary.signal("-TERM");
    let (_, log) = binary.end();
    assert!(log.contains("unauthenticated"), "{log}");
    assert!(!log.contains(secret) && !log.contains("wr0ng-secret"), "{log}");
}
