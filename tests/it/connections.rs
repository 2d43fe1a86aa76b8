//! Slow and hostile connections: what is waited for, how long, and who gives way.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use peristyle::accept::{RunningServer, Server};
use peristyle::engine::{Engine, Options};
use peristyle::limits::{ConnectionLimits, Timeouts};
use tempfile::TempDir;

use crate::http_client::{Answer, Client, head};
use crate::live;
use crate::processes::{Running, spawn};

/// A time that a test waits for.
const SHORT: Duration = Duration::from_millis(30);
/// One that it does not.
const LONG: Duration = Duration::from_secs(3600);
/// All long, so that a test shortens the one it means.
const PATIENT: Timeouts = Timeouts {
    handshake: LONG,
    head: LONG,
    body_idle: LONG,
    body_grace: LONG,
    body_rate_min: 1 << 10,
    body: LONG,
    answer: LONG,
    drain: SHORT,
};

/// A server, of one shard unless it says otherwise; its drop stops it.
struct Fixture {
    engine: Arc<Engine>,
    server: Option<RunningServer>,
    _directory: TempDir,
}

impl Fixture {
    fn start(limits: ConnectionLimits, timeouts: Timeouts) -> Self {
        Self::start_shards(1, limits, timeouts)
    }

    fn start_shards(shards: usize, limits: ConnectionLimits, timeouts: Timeouts) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let bound = Server::bind(address, shards).expect("a port");
        let shards = bound.shard_count();
        let options = Options { shards, ..live::options(directory.path()) };
        let engine = Engine::open(&options).expect("an empty directory");
        let bound = bound.with_limits(limits).with_timeouts(timeouts);
        let server = bound.run(&engine).expect("the threads start");
        Self { engine, server: Some(server), _directory: directory }
    }

    fn waiting(timeouts: Timeouts) -> Self {
        Self::start(ConnectionLimits::DEFAULT, timeouts)
    }

    fn holding(connections_max: usize, connections_per_address_max: usize) -> Self {
        let limits = ConnectionLimits {
            connections_max,
            connections_per_address_max,
            ..ConnectionLimits::DEFAULT
        };
        Self::start(limits, PATIENT)
    }

    fn client(&self) -> Client {
        Client::connect(self.server.as_ref().expect("it runs").local_addr())
    }

    /// A client of which the server knows, because it was answered.
    fn known(&self) -> Client {
        let mut client = self.client();
        assert_eq!(client.get("/ping").status, 204);
        client
    }

    /// Waits until the server has let in `count` connections in all.
    fn let_in(&self, count: u64) {
        // The kernel has accepted them; the server follows.
        while self.engine.stats().connections.get() < count {
            std::thread::yield_now();
        }
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.shutdown();
            let _ = server.join();
            let _ = self.engine.close();
        }
    }
}

/// Reads to the end of the connection.
fn read_to_end(client: &mut Client) {
    while !client.is_closed() {
        client.bytes(1);
    }
}

fn check_late(answer: &Answer) {
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.body.contains("the body did not arrive in time"), "{answer:?}");
    assert!(answer.header("retry-after").is_some());
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";

/// A frame of HTTP/2 for a stream of less than 2^31.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame");
    [&length.to_be_bytes()[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The head of `GET /ping`, with `more` fields behind it.
fn ping_head(stream: u32, more: &[u8]) -> Vec<u8> {
    let block = [b"\x82\x86\x04\x05/ping\x01\x01a", more].concat();
    frame(1, 5, stream, &block)
}

/// Frames up to one of `kind`, or to the end of the connection.
fn frame_of(client: &mut Client, kind: u8) -> Option<([u8; 9], Vec<u8>)> {
    while !client.is_closed() {
        let head: [u8; 9] = client.bytes(9).try_into().expect("nine bytes");
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let payload = client.bytes(length);
        if head[3] == kind {
            return Some((head, payload));
        }
    }
    None
}

#[test]
fn every_head_is_timed_from_the_first_to_the_last() {
    let fixture = Fixture::waiting(Timeouts { head: SHORT, ..PATIENT });
    for beginning in ["", "PRI * HT", "POST /write HTTP/1.1\r\nHost"] {
        let mut client = fixture.client();
        client.send(beginning.as_bytes());
        read_to_end(&mut client);
        let mut client = fixture.known();
        client.send(beginning.as_bytes());
        read_to_end(&mut client);
    }
}

#[test]
fn an_http_2_connection_is_timed_before_and_between_requests() {
    let fixture = Fixture::waiting(Timeouts { head: SHORT, ..PATIENT });
    let half = frame(1, 1, 1, b"\x82\x86");
    for beginning in [&[][..], SETTINGS, &[SETTINGS, &half].concat()] {
        let mut client = fixture.client();
        client.send(PREFACE);
        client.send(beginning);
        read_to_end(&mut client);
    }
    let mut client = fixture.client();
    client.send(&[PREFACE, SETTINGS, &ping_head(1, b"")].concat());
    let (head, _) = frame_of(&mut client, 1).expect("an answer");
    assert_eq!(head[5..], [0, 0, 0, 1]);
    // Asked to go first, so that it knows which requests were not looked at.
    frame_of(&mut client, 7).expect("a farewell");
    read_to_end(&mut client);
}

#[test]
fn a_body_is_timed_by_its_pauses_its_rate_and_its_whole() {
    for timeouts in [
        Timeouts { body_idle: SHORT, ..PATIENT },
        Timeouts { body_grace: SHORT, ..PATIENT },
        Timeouts { body: SHORT, ..PATIENT },
    ] {
        let fixture = Fixture::waiting(timeouts);
        let mut client = fixture.client();
        client.send(&head("POST", "/write", "", 100));
        client.send(b"cpu v=1\n");
        check_late(&client.answer());
        let mut client = fixture.client();
        client.send(b"POST /write HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n");
        client.send(b"cpu v=1\n\r\n");
        check_late(&client.answer());
        assert!(fixture.engine.tables(None).is_empty());
    }
}

#[test]
fn a_body_that_keeps_its_rate_outlives_its_grace() {
    // 1,000 bytes pay for an hour.
    let timeouts = Timeouts { body_grace: Duration::ZERO, body_rate_min: 1, ..PATIENT };
    let fixture = Fixture::waiting(timeouts);
    let line = format!("m s=\"{}\"", "x".repeat(1000));
    let (one, two) = line.split_at(900);
    let mut client = fixture.client();
    client.send(&[&head("POST", "/write", "", line.len()), one.as_bytes()].concat());
    // Another request is answered meanwhile.
    fixture.known();
    client.send(two.as_bytes());
    assert_eq!(client.answer().status, 204);
}

#[test]
fn a_client_that_takes_no_answers_is_let_go() {
    let fixture = Fixture::waiting(Timeouts { answer: SHORT, ..PATIENT });
    let mut client = fixture.client();
    // Until the server cannot write, and so reads no more, and ends.
    let request = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n".repeat(100);
    while client.try_send(&request) {}
}

#[test]
fn the_connection_that_waits_longest_gives_way() {
    let fixture = Fixture::holding(3, 3);
    let mut answered = fixture.known();
    let mut silent = fixture.client();
    let mut begun = fixture.client();
    begun.send(b"POST /wri");
    fixture.let_in(3);
    // Three are let in: the limit is reached and nobody has to go.
    assert_eq!(fixture.engine.stats().connections_shed.get(), 0);
    let mut fourth = fixture.known();
    assert!(silent.is_closed());
    let mut fifth = fixture.known();
    assert!(begun.is_closed());
    // The answered ones are left, of which the first was heard least recently.
    assert_eq!(fourth.get("/ping").status, 204);
    let mut sixth = fixture.known();
    assert!(answered.is_closed());
    for client in [&mut fourth, &mut fifth, &mut sixth] {
        assert_eq!(client.get("/ping").status, 204);
    }
    let stats = fixture.engine.stats();
    assert_eq!((stats.connections_shed.get(), stats.connections_refused.get()), (3, 0));
}

#[test]
fn half_a_body_gives_way_and_a_whole_one_does_not() {
    let fixture = Fixture::holding(2, 2);
    let mut half = fixture.client();
    half.send(&head("POST", "/write", "Expect: 100-continue\r\n", 100));
    assert_eq!(half.answer_to_head().status, 100);
    let mut known = fixture.known();
    let mut third = fixture.known();
    assert!(half.is_closed());
    assert_eq!(third.post("/write", "cpu v=1").status, 204);
    assert_eq!(known.post("/write", "cpu v=1").status, 204);
}

#[test]
fn an_address_makes_room_for_its_own() {
    let fixture = Fixture::holding(100, 2);
    let mut clients: Vec<Client> = (0..10).map(|_| fixture.known()).collect();
    for (at, client) in clients.iter_mut().enumerate() {
        let is_last = at >= 8;
        assert_eq!(!client.has_nothing_yet(), !is_last, "{at}");
    }
    assert_eq!(fixture.engine.stats().connections_shed.get(), 8);
}

#[test]
fn a_place_is_free_when_its_connection_has_gone() {
    let fixture = Fixture::holding(2, 2);
    for _ in 0..10 {
        let mut client = fixture.client();
        let answer = client.request("GET", "/ping", "Connection: close\r\n", b"");
        assert_eq!(answer.status, 204);
        assert!(client.is_closed());
    }
    assert_eq!(fixture.engine.stats().connections_shed.get(), 0);
}

/// The kernel deals connections out by a hash of their addresses: of twelve, one of four shards got
/// six and another none, and stayed so.
#[test]
fn connections_are_dealt_out_evenly() {
    let fixture = Fixture::start_shards(4, ConnectionLimits::DEFAULT, PATIENT);
    let mut clients = (0..12).map(|_| fixture.known()).collect::<Vec<_>>();
    let shards = clients.iter_mut().map(|client| {
        let answer = client.get("/ping");
        let id = answer.header("x-request-id").expect("every answer has one").to_owned();
        id.split_once('-').expect("the shard and a number").0.to_owned()
    });
    let mut found = shards.collect::<Vec<_>>();
    found.sort();
    let expected = ["0000", "0001", "0002", "0003"].map(|shard| [shard; 3]).concat();
    assert_eq!(found, expected);
}

#[test]
fn a_head_is_bounded() {
    let fixture = Fixture::waiting(PATIENT);
    let max = ConnectionLimits::DEFAULT.head_bytes_max;
    for (bytes, status) in [(max - 200, 204), (max + 1, 431)] {
        let mut client = fixture.client();
        client.send(b"GET /ping HTTP/1.1\r\nHost: a\r\nX-A: ");
        let _ = client.try_send(&vec![b'a'; bytes]);
        let _ = client.try_send(b"\r\n\r\n");
        assert_eq!(client.answer_to_head().status, status, "{bytes}");
    }
    // HTTP/2: fields of 132 bytes, as they are counted.
    let mut field = b"\0\x01a".to_vec();
    write_length(&mut field, 99);
    field.extend([b'x'; 99]);
    for (fields, status) in [(120, 0x89), (125, 0)] {
        let mut client = fixture.client();
        client.send(&[PREFACE, SETTINGS, &ping_head(1, &field.repeat(fields))].concat());
        let (_, block) = frame_of(&mut client, 1).expect("an answer");
        let first = block.iter().find(|byte| **byte >> 5 != 1);
        assert_eq!(first == Some(&0x89), status == 0x89, "{fields}: {block:x?}");
    }
}

/// A length in HPACK, of less than 127.
fn write_length(to: &mut Vec<u8>, length: u8) {
    assert!(length < 127);
    to.push(length);
}

#[test]
fn streams_that_are_opened_and_reset_end_the_connection() {
    let max = u32::try_from(ConnectionLimits::DEFAULT.resets_max).expect("a number");
    let fixture = Fixture::waiting(PATIENT);
    let mut client = fixture.client();
    let mut flood = [PREFACE, SETTINGS].concat();
    for stream in (0..max * 10).map(|at| at * 2 + 1) {
        flood.extend(ping_head(stream, b""));
        flood.extend(frame(3, 0, stream, b"\0\0\0\x08"));
    }
    client.try_send(&flood);
    let (_, payload) = frame_of(&mut client, 7).expect("a farewell");
    // ENHANCE_YOUR_CALM.
    assert_eq!(payload[4..8], [0, 0, 0, 11]);
    assert_eq!(fixture.known().get("/ping").status, 204);
}

#[test]
fn streams_at_once_are_bounded() {
    let fixture = Fixture::waiting(PATIENT);
    let mut client = fixture.client();
    client.send(&[PREFACE, SETTINGS].concat());
    let (_, payload) = frame_of(&mut client, 4).expect("settings");
    let settings: Vec<&[u8]> = payload.chunks(6).collect();
    let limits = ConnectionLimits::DEFAULT;
    // Ids 3 and 6 are SETTINGS_MAX_CONCURRENT_STREAMS and SETTINGS_MAX_HEADER_LIST_SIZE.
    for (id, value) in [(3, limits.streams_max), (6, limits.header_list_bytes_max)] {
        let setting = [&[0, id][..], &value.to_be_bytes()].concat();
        assert!(settings.contains(&&*setting), "{settings:?}");
    }
}

/// A flood of connections takes all file descriptors; InfluxDB 3 ends when an accept fails.
#[test]
#[cfg(unix)]
fn a_server_without_file_descriptors_goes_on() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut command = Command::new("sh");
    let script = "ulimit -n 64; exec \"$0\" --listen 127.0.0.1:0 --max-connections 1000 --shards 1 \
                  --flush-interval 100ms --data-dir \"$1\"";
    let binary = env!("CARGO_BIN_EXE_peristyle");
    command.args(["-c", script]).arg(binary).arg(directory.path());
    let mut server = Running(spawn(command.stderr(Stdio::piped())));
    let mut log = BufReader::new(server.0.stderr.take().expect("a pipe")).lines();
    let mut line_with = |text: &str| {
        let found = log.find_map(|line| line.ok().filter(|line| line.contains(text)));
        found.unwrap_or_else(|| panic!("the server ended before {text:?}"))
    };
    let line = line_with("listening on http://");
    let address = line.rsplit("http://").next().and_then(|it| it.split_whitespace().next());
    let address = address.and_then(|it| it.parse().ok()).expect("an address");
    let silent: Vec<Client> = (0..100).map(|_| Client::connect(address)).collect();
    line_with("accept failed");
    // While they all hold on, others are served, and files are written.
    for at in 0..50 {
        let mut client = Client::connect(address);
        assert_eq!(client.post("/write?db=d", format!("m v=1i {at}\n")).status, 204, "{at}");
    }
    let mut client = Client::connect(address);
    let mut polls = 0;
    while !client.get("/api/v1/tables?db=d").body.contains("\"rows\":50,\"files\":") {
        polls += 1;
        assert!(polls < 1000, "rows are missing");
    }
    assert_eq!(client.post("/api/v1/flush", "").status, 200);
    let metrics = client.get("/metrics").body;
    let counted = |name: &str| {
        let mut line = String::new();
        write!(line, "peristyle_{name}_total ").expect("a string");
        let found = metrics.lines().find_map(|it| it.strip_prefix(&line)).expect("a metric");
        found.parse::<u64>().expect("a number")
    };
    assert!(counted("accept_errors") > 0 && counted("connections_shed") > 0, "{metrics}");
    drop(silent);
}

#[test]
fn a_tenant_with_few_connections_is_answered_as_often_as_one_with_many() {
    // That rows are stored is told by another thread. Of the tasks that such threads have woken,
    // tokio's `LocalSet` goes on with one for each 30 others: answers stood in a queue of their
    // own, in the order of connections, whoever's turn it was.
    const POLITE: usize = 4;
    const GREEDY: usize = 48;
    const ANSWERS: usize = 160;
    let fixture = Fixture::waiting(PATIENT);
    let mut body = String::new();
    for at in 0..1_000 {
        let (host, region) = (at % 100, at % 7);
        writeln!(body, "cpu,host=h{host},region=eu-{region} line={at}i,user={at}.25 {at}")
            .expect("a string");
    }
    let answered = [AtomicUsize::new(0), AtomicUsize::new(0)];
    std::thread::scope(|scope| {
        for at in 0..POLITE + GREEDY {
            let (fixture, body, answered) = (&fixture, &body, &answered);
            scope.spawn(move || {
                let tenant = usize::from(at >= POLITE);
                let target = ["/write?db=polite", "/write?db=greedy"][tenant];
                let mut client = fixture.client();
                while answered[0].load(Ordering::Relaxed) < ANSWERS {
                    assert_eq!(client.post(target, body).status, 204);
                    answered[tenant].fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let [polite, greedy] = answered.map(AtomicUsize::into_inner);
    // 2.6 times as often; 9 times before. The many are served first while the few connect.
    assert!(greedy < 5 * polite, "{greedy} answers to {polite}");
}
