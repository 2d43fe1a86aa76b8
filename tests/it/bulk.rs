//! Large bodies, which another thread decodes: the same rows, and nobody waits behind them.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use peristyle::limits::Limits;

use crate::http::gzip;
use crate::http_client::{Client, head};
use crate::live::{Live, files, read_rows};
use crate::restart::{killed, recover};

/// Above these, inflated, a body is for the other thread (`schemas/limits.md`).
const LINES_MAX: usize = 1 << 20;
const TREES_MAX: usize = 256 << 10;

/// Nanoseconds since 1970 at the beginning of a day.
const DAY: usize = 1_750_032_000_000_000_000;

/// Lines of one measurement, whose times are `first` of a day and those behind it.
fn lines(first: usize, count: usize) -> Vec<u8> {
    let mut text = String::new();
    for at in first..first + count {
        writeln!(text, "cpu,host=h{},region=eu v={at}i,load=0.{at} {}", at % 50, DAY + at).unwrap();
    }
    text.into_bytes()
}

/// The value of a line of `/metrics`.
fn metric(client: &mut Client, name: &str) -> u64 {
    let text = client.get("/metrics").body;
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect(name);
    line.trim().parse().expect("a number")
}

/// Clients of which one has sent a body that is being decoded, as the other was told.
fn under_way(live: &Live, format: &str, target: &str, body: &[u8]) -> (Client, Client) {
    let (mut large, mut other) = (live.client(), live.client());
    large.send(&head("POST", target, "", body.len()));
    large.send(body);
    let name = format!("peristyle_write_body_bytes_total{{format=\"{format}\"}}");
    while metric(&mut other, &name) < body.len() as u64 {}
    (large, other)
}

/// One shard, and one for large bodies; none of these waits for a file of the journal.
fn start() -> Live {
    Live::start_with(|options| (options.shards, options.wal_segment_bytes) = (2, 64 << 20))
}

/// Items that are refused one by one: slow, for what they are.
fn slow_body() -> Vec<u8> {
    let mut body = b"[0".to_vec();
    body.resize(4 << 20, b' ');
    body.extend(b",0".repeat(900_000));
    body.push(b']');
    body
}

#[test]
fn a_small_body_does_not_wait_for_a_large_one() {
    let live = start();
    let target = "/api/v1/write/json?db=d";
    let (mut large, mut small) = under_way(&live, "json", target, &slow_body());
    for at in 0..10 {
        assert_eq!(small.post("/write?db=d", format!("m v=1i {at}")).status, 204);
    }
    assert!(large.has_nothing_yet(), "the large body was faster than ten small ones");
    let answer = large.answer();
    assert_eq!(answer.status, 400, "{}", answer.body);
    assert_eq!(live.rows("d").len(), 10);
}

/// What a client that goes away leaves to the other thread would else add up, accounted nowhere.
#[test]
fn a_body_whose_client_went_away_is_accounted_until_it_is_decoded() {
    let live = start();
    let body = slow_body();
    let (large, mut other) = under_way(&live, "json", "/api/v1/write/json?db=d", &body);
    drop(large);
    let rejected = "peristyle_rows_rejected_total{format=\"json\"}";
    loop {
        let used = metric(&mut other, "peristyle_memory_used_bytes{part=\"bodies\"}");
        if metric(&mut other, rejected) > 0 {
            break;
        }
        assert!(used >= body.len() as u64, "{used} bytes accounted, and it is not decoded yet");
    }
    while metric(&mut other, "peristyle_memory_used_bytes{part=\"bodies\"}") > 0 {}
}

/// A body of 100 MiB of lines found room for itself, and its rows came to as much again, half of
/// the memory limit beyond it.
#[test]
fn an_inflated_body_is_accounted_twice_for_the_rows_made_of_it() {
    let live = start();
    let (mut large, mut other) = (live.client(), live.client());
    let items: Vec<String> = (0..900_000).map(|at| at.to_string()).collect();
    let body = format!("[{}]", items.join(","));
    let packed = gzip(body.as_bytes());
    large.send(&head(
        "POST",
        "/api/v1/write/json?db=d",
        "Content-Encoding: gzip\r\n",
        packed.len(),
    ));
    large.send(&packed);
    let bodies = "peristyle_memory_used_bytes{part=\"bodies\"}";
    while metric(&mut other, bodies) < (packed.len() + 2 * body.len()) as u64 {
        assert!(large.has_nothing_yet(), "answered, and never accounted twice");
    }
    assert_eq!(large.answer().status, 400);
}

#[test]
fn bodies_of_both_threads_are_one_table_and_one_file() {
    let live = start();
    let mut expected = 0;
    for (target, max) in [("/write?db=d", LINES_MAX), ("/api/v1/write/json?db=d", TREES_MAX)] {
        for len in [max - 1, max, max + 1] {
            let mut body = if max == LINES_MAX {
                lines(expected + 1, 3)
            } else {
                let time = DAY + expected + 1;
                format!(r#"{{"m":"cpu","t":{time},"fields":{{"v":1}}}}"#).into_bytes()
            };
            expected += if max == LINES_MAX { 3 } else { 1 };
            body.resize(len, b'\n');
            assert_eq!(live.post(target, body).status, 204, "{target} {len}");
        }
    }
    assert_eq!(live.rows("d").len(), expected);
    assert_eq!(files(live.directory.path()).len(), 1);
}

#[test]
fn large_bodies_are_inflated_where_they_are_decoded() {
    let live = start();
    let mut client = live.client();
    let body = lines(1, 60_000);
    assert!(body.len() > 2 * LINES_MAX);
    // The first says that it will be large; the second, of two members, does not, nor the third:
    // they compress well, so that the shard begins with them.
    let text = b"# nothing of this is a row, and it compresses well\n".repeat(60_000);
    let small_last = [gzip(&text), gzip(b"# the end\n")].concat();
    let says_nothing = zstd::encode_all(&*text, 1).unwrap();
    let zstd = zstd::encode_all(&*body, 1).unwrap();
    for (name, packed) in
        [("gzip", gzip(&body)), ("gzip", small_last), ("zstd", says_nothing), ("zstd", zstd)]
    {
        let name = format!("Content-Encoding: {name}\r\n");
        let answer = client.request("POST", "/write?db=d", &name, &packed);
        assert_eq!(answer.status, 204, "{}", answer.body);
    }
    let rows = live.rows("d");
    assert_eq!(rows.len(), 120_000, "both copies, which no window of retries knows here");
    let max = Limits::DEFAULT.inflated_bytes_max;
    let answer = client.request(
        "POST",
        "/write?db=d",
        "Content-Encoding: gzip\r\n",
        &gzip(&b"m v=1\n#".repeat(max / 7 + 1)),
    );
    assert_eq!(answer.status, 413, "{}", answer.body);
    assert_eq!(live.post("/write?db=d", "m v=1").status, 204);
}

#[test]
fn large_bodies_survive_a_kill() {
    let live = start();
    for at in 0..3 {
        assert_eq!(live.post("/write?db=d", lines(1 + at * 50_000, 49_999)).status, 204);
        assert_eq!(live.post("/write?db=d", lines((at + 1) * 50_000, 1)).status, 204);
    }
    let copy = killed(&live);
    for _ in 0..2 {
        recover(&copy, |_| {});
        assert_eq!(read_rows(copy.path(), "d").len(), 150_000);
    }
}

#[test]
fn what_is_refused_of_a_large_body_is_told_as_of_a_small_one() {
    let live = start();
    let mut body = lines(1, 60_000);
    body.extend_from_slice(b"cpu v=\n");
    let answer = live.post("/api/v2/write?bucket=d", &body);
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains(r#""line":60001,"#), "{}", answer.body);
    assert_eq!(live.rows("d").len(), 60_000);
}

#[test]
fn a_large_body_under_way_is_answered_before_the_end() {
    let mut live = start();
    let body = lines(1, 150_000);
    let (mut large, other) = under_way(&live, "line_protocol", "/write?db=d", &body);
    drop(other);
    let answer = thread::scope(|scope| {
        let answered = scope.spawn(|| large.answer());
        live.stop();
        answered.join().expect("an answer")
    });
    assert_eq!(answer.status, 204, "{}", answer.body);
    assert_eq!(read_rows(live.directory.path(), "d").len(), 150_000);
}

/// How often memory was given back, by the server of the one test that counts it.
static TRIMMED: AtomicUsize = AtomicUsize::new(0);

/// Who frees much gives it back: the allocator would have it done by a shard, and clients wait.
#[test]
fn memory_is_given_back_by_threads_that_nobody_waits_for() {
    let trimmed = || TRIMMED.load(Ordering::SeqCst);
    let live = Live::start_with(|options| {
        (options.shards, options.wal_segment_bytes) = (2, 64 << 20);
        options.trim = Some(|| {
            let thread = thread::current();
            let name = thread.name().unwrap_or_default();
            assert!(!name.starts_with("shard"), "given back by {name}");
            TRIMMED.fetch_add(1, Ordering::SeqCst);
        });
    });
    assert_eq!(trimmed(), 1, "what was replayed");
    assert_eq!(live.post("/write?db=d", lines(1, 100)).status, 204);
    assert_eq!(live.post("/api/v1/flush", "").status, 200);
    assert_eq!(trimmed(), 1, "a hundred rows are not worth it");
    let mut sent = 101;
    while sent < 200_000 {
        let body = lines(sent, 10_000);
        assert!(body.len() < LINES_MAX);
        assert_eq!(live.post("/write?db=d", body).status, 204);
        sent += 10_000;
    }
    // The rows of a flush, when their writer has had nothing to write for a second: those that come
    // before take the memory.
    let before = live.engine.now();
    assert_eq!(live.post("/api/v1/flush", "").status, 200);
    while trimmed() == 1 {
        thread::yield_now();
    }
    let waited = live.engine.now().duration_since(before);
    assert!(waited >= Duration::from_secs(1), "{waited:?}");
    assert_eq!(live.post("/write?db=d", lines(sent, 60_000)).status, 204);
    // And so the bulk thread.
    while trimmed() == 2 {
        thread::yield_now();
    }
    assert_eq!(live.rows("d").len(), sent + 60_000 - 1);
}

/// As above, of the test below.
static TRIMMED_AT_ONCE: AtomicUsize = AtomicUsize::new(0);

#[test]
fn memory_is_given_back_at_once_where_half_of_the_limit_is_resident() {
    const LIMIT: usize = 256 << 20;
    let live = Live::start_with(|options| {
        options.memory_limit = LIMIT;
        options.resident = Some(|| Some(LIMIT as u64 / 2));
        options.trim = Some(|| {
            TRIMMED_AT_ONCE.fetch_add(1, Ordering::SeqCst);
        });
    });
    for flush in 0..3 {
        for body in 0..16 {
            let first = 1 + (flush * 16 + body) * 10_000;
            assert_eq!(live.post("/write?db=d", lines(first, 10_000)).status, 204);
        }
        assert_eq!(live.post("/api/v1/flush", "").status, 200);
        // The first one was of what was replayed.
        assert_eq!(TRIMMED_AT_ONCE.load(Ordering::SeqCst), flush + 2, "when a flush is answered");
    }
}
