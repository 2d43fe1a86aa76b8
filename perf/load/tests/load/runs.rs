//! Runs: against a whole server, every row counted; against one that answers as a test says.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use clap::Parser;
use peristyle_load::measure::{Server, measure, requests};
use peristyle_load::options::Options;
use peristyle_load::process::Process;
use peristyle_load::report::Report;
use peristyle_load::run::{Outcome, Plan, run};
use peristyle_load::target::{Kind, Target};

use crate::live::Live;

fn options(arguments: &[&str]) -> Options {
    let common = ["peristyle-load", "--quiet", "--bodies", "4", "--warm-up", "0"];
    Options::try_parse_from(common.iter().chain(arguments)).expect("options")
}

fn target(kind: Kind, address: SocketAddr) -> Target {
    let database = "load".to_owned();
    Target { kind, address, database, organisation: String::new(), token: None }
}

/// A whole server under a load.
fn measured(live: &Live, arguments: &[&str]) -> Report {
    let options = options(arguments);
    let server = Server::at(target(Kind::Peristyle, live.address()), None);
    measure(&options, &server).expect("a server that answers")
}

#[test]
fn every_acknowledged_row_is_counted() {
    let live = Live::start();
    let mut rows = 0;
    for format in ["line-protocol", "msgpack-rows", "msgpack-columns", "json", "arrow"] {
        for (shape, encoding) in [("telegraf", "gzip"), ("tsbs", "zstd"), ("iot", "plain")] {
            let report = measured(
                &live,
                &[
                    "--shape",
                    shape,
                    "--format",
                    format,
                    "--encoding",
                    encoding,
                    "--rows",
                    "50",
                    "--requests",
                    "3",
                    "--connections",
                    "3",
                    "--verify",
                ],
            );
            assert!(report.is_clean(), "{report}");
            let found = report.verification.as_ref().expect("it was asked for");
            assert_eq!((found.acknowledged, found.unknown), (report.totals.rows, 0));
            assert_eq!((found.stored, report.totals.requests), (report.totals.rows, 9));
            rows += report.totals.rows;
        }
    }
    assert_eq!(live.rows("load").len() as u64, rows);
}

/// A second run of one seed soon after the first had the same times in the same bodies, and the
/// server, which knows retries by their bytes, stored some of them once.
#[test]
fn a_run_that_is_repeated_is_no_retry_of_the_first() {
    let live = Live::start_with(|options| options.retries.knows_bodies = true);
    let arguments = ["--shape", "tsbs", "--rows", "5", "--requests", "20", "--verify"];
    for _ in 0..3 {
        let report = measured(&live, &arguments);
        assert!(report.is_clean(), "{report}");
    }
}

#[test]
fn every_request_that_is_due_is_sent_or_said_not_to_be() {
    let live = Live::start();
    let report = measured(
        &live,
        &["--shape", "simple", "--rows", "10", "--rate", "1000", "--seconds", "0.3", "--verify"],
    );
    assert_eq!(report.totals.requests + report.totals.unsent, 30, "{report}");
    assert_eq!(report.totals.rows, report.totals.requests * 10);
}

#[test]
fn a_connection_without_a_rate_ends_by_time() {
    let live = Live::start();
    let arguments = ["--shape", "wide", "--rows", "3", "--seconds", "0.2", "--verify"];
    let report = measured(&live, &arguments);
    assert!(report.is_clean() && report.totals.seconds >= 0.2, "{report}");
    let points: u64 = report.points.iter().map(|point| point.rows).sum();
    assert_eq!(points, report.totals.rows);
}

/// Answers each request of one connection after the other by the statuses, 0 being none at all;
/// gives back when each request was there.
fn answering(statuses: &'static [u16]) -> (SocketAddr, JoinHandle<Vec<Instant>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    let thread = thread::spawn(move || {
        let mut arrivals = Vec::new();
        let mut stream = None;
        for status in statuses {
            let mut open = stream.take().unwrap_or_else(|| listener.accept().expect("a client").0);
            read_request(&mut open);
            arrivals.push(arrived());
            if *status > 0 {
                let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 4\r\n\r\nwhy.");
                let bodyless = format!("HTTP/1.1 {status} X\r\n\r\n");
                let text = if *status == 204 { bodyless } else { answer };
                open.write_all(text.as_bytes()).expect("a client that reads");
                stream = Some(open);
            }
        }
        arrivals
    });
    (address, thread)
}

#[expect(clippy::disallowed_methods, reason = "what is tested is a time")]
fn arrived() -> Instant {
    Instant::now()
}

fn read_request(stream: &mut TcpStream) {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.split("Content-Length: ").nth(1).expect("a length");
            let length: usize = length.lines().next().expect("a line").parse().expect("a number");
            if body.len() >= length {
                return;
            }
        }
        let count = stream.read(&mut buffer).expect("a client that sends");
        assert!(count > 0, "the client went away");
        bytes.extend(buffer.iter().take(count));
    }
}

fn answered(statuses: &'static [u16], rate: Option<f64>) -> (Outcome, Vec<Instant>) {
    let (address, server) = answering(statuses);
    let target = target(Kind::Influxdb1, address);
    let options = options(&["--shape", "simple", "--rows", "5", "--connections", "1"]);
    let requests = requests(&options, &target).expect("bodies");
    let plan = Plan {
        connections: 1,
        duration: None,
        requests: Some(statuses.len() as u64),
        rate,
        first_slot: 0,
    };
    let outcome = run(&requests, address, &plan, None, &mut |_, _| {}).expect("a run");
    (outcome, server.join().expect("a server that ends"))
}

#[test]
fn what_was_refused_or_not_answered_is_not_acknowledged() {
    let (outcome, _) = answered(&[204, 400, 0, 503, 200, 204], None);
    let tally = &outcome.tally;
    assert_eq!((tally.requests, tally.rows, tally.failed()), (3, 15, 3));
    assert_eq!(tally.failures.get("400 why."), Some(&1), "{:?}", tally.failures);
    assert_eq!(tally.failures.get("503 why."), Some(&1), "{:?}", tally.failures);
    assert_eq!(outcome.acknowledged.get("simple"), Some(&15));
    // Of the one without an answer it is not known.
    assert_eq!(outcome.unknown.get("simple"), Some(&5));
    assert_eq!(outcome.next_slot, 6);
}

#[test]
fn with_a_rate_a_latency_counts_from_when_the_request_was_due() {
    // All are due at the beginning, so the last one has waited for all before it.
    let (outcome, arrivals) = answered(&[204; 40], Some(1e9));
    let waited = *arrivals.last().unwrap() - *arrivals.first().unwrap();
    let latest = Duration::from_micros(outcome.tally.latency.max());
    assert!(latest + Duration::from_micros(1) >= waited, "{latest:?} after {waited:?}");
}

#[test]
fn who_listens_on_a_port_is_found() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let found = Process::listening_on(port).expect("this process");
    assert_eq!(found.pid, std::process::id());
    let memory = found.memory().expect("it lives");
    assert!(memory.resident > 0 && memory.peak >= memory.resident, "{memory:?}");
}
