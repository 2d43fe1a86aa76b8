//! The server as its clients see it: every endpoint, every answer, over real sockets.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, LazyLock};

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use peristyle::accept::route::{Dialect, Endpoint, ROUTES};
use peristyle::accept::{RunningServer, Server};
use peristyle::decode::Format;
use peristyle::engine::{Engine, Options, REJECTED};
use peristyle::limits::Limits;
use simd_json::prelude::*;
use tempfile::TempDir;

use crate::http_client::{Answer, Client, head};
use crate::msgpack_bodies::Random;
use crate::{arrow_bodies, live};

/// A server on a port of its own; its drop stops it.
struct Fixture {
    engine: Arc<Engine>,
    server: Option<RunningServer>,
    _directory: TempDir,
}

impl Fixture {
    fn address(&self) -> SocketAddr {
        self.server.as_ref().expect("it runs").local_addr()
    }

    fn client(&self) -> Client {
        Client::connect(self.address())
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

/// What a test asks of its server, besides the defaults.
struct Wish {
    limits: Limits,
    shards: usize,
    memory_limit: usize,
}

impl Default for Wish {
    fn default() -> Self {
        let limits = Limits::DEFAULT;
        Self { limits, shards: 1, memory_limit: 1 << 30 }
    }
}

fn start() -> Fixture {
    start_with(&Wish::default())
}

fn start_with(wish: &Wish) -> Fixture {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let Wish { limits, shards, memory_limit } = *wish;
    let bound = Server::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), shards).expect("a port");
    assert_eq!(bound.shard_count(), 2 * shards);
    let shards = bound.shard_count();
    let options = Options { limits, shards, memory_limit, ..live::options(directory.path()) };
    let engine = Engine::open(&options).expect("an empty directory");
    let server = bound.run(&engine).expect("the threads start");
    Fixture { engine, server: Some(server), _directory: directory }
}

/// A row that each format takes: `cpu v=1` in line protocol, `{m: "cpu", fields: {v: 1}}`.
pub(crate) fn row(dialect: Dialect) -> &'static [u8] {
    static STREAM: LazyLock<Vec<u8>> = LazyLock::new(|| arrow_bodies::floats("cpu", "v", &[1.0]));
    match dialect {
        Dialect::Arrow => &STREAM,
        Dialect::Json => br#"{"m":"cpu","fields":{"v":1.0}}"#,
        Dialect::ArcMessagePack => b"\x82\xa1m\xa3cpu\xa6fields\x81\xa1v\xcb\x3f\xf0\0\0\0\0\0\0",
        _ => b"cpu v=1\n",
    }
}

pub(crate) fn write_paths() -> impl Iterator<Item = (&'static str, Dialect)> {
    ROUTES.iter().filter_map(|route| match route.endpoint {
        Endpoint::Write(dialect) => Some((route.path, dialect)),
        _ => None,
    })
}

pub(crate) fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    std::io::Write::write_all(&mut encoder, data).expect("a vector takes all");
    encoder.finish().expect("a vector takes all")
}

fn zlib(data: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    std::io::Write::write_all(&mut encoder, data).expect("a vector takes all");
    encoder.finish().expect("a vector takes all")
}

fn zstd(data: &[u8]) -> Vec<u8> {
    zstd::encode_all(data, 1).expect("level 1 exists")
}

#[track_caller]
fn check_stored(answer: &Answer) {
    assert_eq!((answer.status, answer.body.as_str()), (204, ""), "{answer:?}");
    assert_eq!(answer.header("content-type"), None);
    assert_eq!(answer.header("x-peristyle-rejected"), None);
}

/// Every error body is JSON with the key `error`, and the same text is in a header.
#[track_caller]
fn check_error(answer: &Answer, status: u16, contains: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let error = json(answer)["error"].as_str().expect("an error is text").to_owned();
    assert!(error.contains(contains), "{contains:?} is not in {error:?}");
    let header = answer.header("x-influxdb-error").expect("an error is in a header");
    assert!(header.is_ascii() && header.len() <= 1024, "{header}");
}

#[track_caller]
fn json(answer: &Answer) -> simd_json::OwnedValue {
    let mut text = answer.body.clone().into_bytes();
    simd_json::to_owned_value(&mut text).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}

/// Rows of each measurement, by `/api/v1/tables`.
fn rows(client: &mut Client, database: &str) -> Vec<(String, u64)> {
    let answer = client.get(&format!("/api/v1/tables?db={database}"));
    assert_eq!(answer.status, 200);
    let json = json(&answer);
    let databases = json["databases"].as_array().expect("a list");
    let named = |it: &&simd_json::OwnedValue| it["name"].as_str() == Some(database);
    let Some(database) = databases.iter().find(named) else { return Vec::new() };
    let measurements = database["measurements"].as_array().expect("a list");
    measurements
        .iter()
        .filter(|it| it["name"].as_str() != Some(REJECTED))
        .map(|it| {
            let name = it["name"].as_str().expect("a name").to_owned();
            (name, it["rows"].as_u64().expect("a count"))
        })
        .collect()
}

#[test]
fn the_routes_are_those_of_the_schema() {
    let schema = include_str!("../../schemas/http.md");
    let mut described = Vec::new();
    for line in schema.lines().filter(|line| line.starts_with("| `/")) {
        let mut cells = line.trim_matches('|').split('|').map(str::trim);
        let path = cells.next().expect("a path").trim_matches('`').to_owned();
        described.push((path, cells.next().expect("methods").to_owned()));
    }
    let mut routes: Vec<(String, String)> = ROUTES
        .iter()
        .map(|route| (route.path.to_owned(), route.allow.replace(", OPTIONS", "")))
        .collect();
    described.sort();
    routes.sort();
    assert_eq!(described, routes);
}

/// Every `$ref` below a value.
fn references(value: &simd_json::OwnedValue, to: &mut Vec<String>) {
    if let Some(object) = value.as_object() {
        for (key, value) in object {
            match value.as_str() {
                Some(text) if key == "$ref" => to.push(text.to_owned()),
                _ => references(value, to),
            }
        }
    }
    for value in value.as_array().into_iter().flatten() {
        references(value, to);
    }
}

#[test]
fn openapi_json_has_every_endpoint_and_method() {
    let mut text = include_bytes!("../../schemas/openapi.json").to_vec();
    let page = simd_json::to_owned_value(&mut text).expect("JSON");
    assert_eq!(page["openapi"].as_str(), Some("3.1.0"));
    assert_eq!(page["info"]["version"].as_str(), Some(env!("CARGO_PKG_VERSION")));
    let mut found = Vec::new();
    for (path, methods) in page["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            assert!(operation["summary"].as_str().is_some(), "{method} {path}");
            let answers = operation["responses"].as_object().expect("responses");
            assert!(answers.keys().any(|status| status.starts_with('2')), "{method} {path}");
            let route = ROUTES.iter().find(|route| route.path == path).expect(path);
            let is_write = matches!(route.endpoint, Endpoint::Write(_));
            assert_eq!(answers.contains_key("413"), is_write, "{method} {path}");
            found.push((path.clone(), method.to_uppercase()));
        }
    }
    let routes = ROUTES.iter().flat_map(|route| {
        let methods = route.allow.split(", ").filter(|method| *method != "OPTIONS");
        methods.map(|method| (route.path.to_owned(), method.to_owned()))
    });
    let mut routes: Vec<_> = routes.collect();
    routes.sort();
    found.sort();
    assert_eq!(found, routes);
    let mut named = Vec::new();
    references(&page, &mut named);
    assert!(named.len() > 20);
    for name in named {
        let mut target = &page;
        for part in name.strip_prefix("#/").expect("of this file").split('/') {
            target = target.get(part).unwrap_or_else(|| panic!("{name}"));
        }
    }
}

#[test]
fn every_write_endpoint_answers_204_and_nothing_else() {
    let fixture = start();
    let mut client = fixture.client();
    for (path, dialect) in write_paths() {
        let answer = client.post(&format!("{path}?db=a"), row(dialect));
        check_stored(&answer);
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        assert_eq!(answer.header("x-influxdb-version"), Some("1.8.10"));
        assert_eq!(answer.header("x-influxdb-build"), Some("peristyle"));
        assert!(answer.header("request-id").is_some_and(|it| !it.is_empty()));
        assert_eq!(answer.header("request-id"), answer.header("x-request-id"));
        // A trailing slash changes nothing.
        check_stored(&client.post(&format!("{path}/?db=a"), row(dialect)));
    }
    let stats = fixture.engine.stats();
    assert_eq!(stats.line_protocol.rows_accepted.get(), 12);
    assert_eq!(stats.msgpack.rows_accepted.get(), 10);
    assert_eq!(stats.arrow.rows_accepted.get(), 2);
}

#[test]
fn a_format_is_decided_by_the_path() {
    let fixture = start();
    let mut client = fixture.client();
    for (path, dialect) in write_paths() {
        for content_type in ["text/plain; charset=utf-8", "application/msgpack", "image/png"] {
            let header = format!("Content-Type: {content_type}\r\n");
            check_stored(&client.request("POST", path, &header, row(dialect)));
        }
    }
}

#[test]
fn a_chunked_body_is_put_together() {
    let fixture = start();
    let mut client = fixture.client();
    client.send(b"POST /write?db=a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for piece in ["c", "pu v", "=1\nme", "m v=2", "\n"] {
        client.send(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes());
    }
    client.send(b"0\r\n\r\n");
    check_stored(&client.answer());
    assert_eq!(rows(&mut client, "a"), [("cpu".to_owned(), 1), ("mem".to_owned(), 1)]);
}

#[test]
fn requests_in_one_packet_are_answered_in_order() {
    let fixture = start();
    let mut client = fixture.client();
    let mut packet = Vec::new();
    for (id, line) in [("1", "a v=1"), ("2", "broken"), ("3", "b v=1")] {
        let id = format!("X-Request-Id: {id}\r\n");
        packet.extend(head("POST", "/write", &id, line.len()));
        packet.extend(line.as_bytes());
    }
    client.send(&packet);
    for (id, status) in [("1", 204), ("2", 400), ("3", 204)] {
        let answer = client.answer();
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("x-request-id"), Some(id));
        assert_eq!(answer.header("request-id"), Some(id));
    }
}

#[test]
fn a_client_is_told_to_continue_when_its_body_will_be_read() {
    let limits = Limits { body_bytes_max: 1000, ..Limits::DEFAULT };
    let fixture = start_with(&Wish { limits, ..Wish::default() });
    let mut client = fixture.client();
    client.send(&head("POST", "/write", "Expect: 100-continue\r\n", 7));
    assert_eq!(client.answer_to_head().status, 100);
    client.send(b"cpu v=1");
    check_stored(&client.answer());
    // A body that is too large is not asked for.
    client.send(&head("POST", "/write", "Expect: 100-continue\r\n", 1001));
    check_error(&client.answer(), 413, "request entity too large");
}

#[test]
fn http_2_is_spoken_to_clients_that_know() {
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const SETTINGS: u8 = 4;
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let length = u32::try_from(payload.len()).expect("a short frame");
        [&length.to_be_bytes()[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    };
    let literal = |name: &str, value: &str| {
        let length = |text: &str| u8::try_from(text.len()).expect("a short text");
        [&[0, length(name)], name.as_bytes(), &[length(value)], value.as_bytes()].concat()
    };
    let fixture = start();
    let mut client = fixture.client();
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    client.send(&frame(SETTINGS, 0, 0, b""));
    for (stream, body, status) in [(1, "cpu v=1", 0x89), (3, "broken", 0x8c)] {
        let path = literal(":path", "/write?db=a");
        let block = [&[0x83, 0x86][..], &path, &literal(":authority", "a")].concat();
        client.send(&frame(HEADERS, 4, stream, &block));
        client.send(&frame(DATA, 1, stream, body.as_bytes()));
        let first = loop {
            let head = client.bytes(9);
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let payload = client.bytes(length);
            if head[3] == SETTINGS && head[4] & 1 == 0 {
                client.send(&frame(SETTINGS, 1, 0, b""));
            } else if head[3] == HEADERS {
                assert_eq!(head[5..], stream.to_be_bytes());
                // A change of the table's size may come first.
                break payload.into_iter().find(|byte| byte >> 5 != 1);
            }
        };
        // Indices 9 and 12 of the static table are `:status` 204 and 400.
        assert_eq!(first, Some(status));
    }
    assert_eq!(rows(&mut fixture.client(), "a"), [("cpu".to_owned(), 1)]);
}

#[test]
fn head_is_get_without_a_body() {
    let fixture = start();
    let mut client = fixture.client();
    for path in ["/health", "/ready", "/metrics", "/api/v1/tables"] {
        let answer = client.request("HEAD", path, "", b"");
        assert_eq!((answer.status, answer.body.as_str()), (200, ""), "{path}");
    }
    assert_eq!(client.request("HEAD", "/ping", "", b"").status, 204);
}

#[test]
fn an_unknown_path_is_404() {
    let fixture = start();
    let mut client = fixture.client();
    for path in ["/index.html", "/settings", "/writes", "/api/v1", "/WRITE"] {
        check_error(&client.get(path), 404, "not found");
        check_error(&client.post(path, "cpu v=1"), 404, "not found");
    }
}

#[test]
fn a_wrong_method_is_405_with_the_right_ones() {
    let fixture = start();
    let mut client = fixture.client();
    for route in ROUTES {
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH"] {
            if !route.allow.contains(method) {
                let answer = client.request(method, route.path, "", b"");
                check_error(&answer, 405, "method not allowed");
                assert_eq!(answer.header("allow"), Some(route.allow));
            }
        }
        let answer = client.request("OPTIONS", route.path, "Origin: http://a\r\n", b"");
        assert_eq!((answer.status, answer.body.as_str()), (204, ""));
        assert!(answer.header("access-control-allow-methods").is_some());
    }
}

#[test]
fn compressed_bodies_are_read_by_header_and_by_magic() {
    type Codec = fn(&[u8]) -> Vec<u8>;
    let fixture = start();
    let mut client = fixture.client();
    let codecs: [(&str, Codec); 4] =
        [("gzip", gzip), ("x-gzip", gzip), ("zstd", zstd), ("deflate", zlib)];
    for (path, dialect) in write_paths() {
        for (name, encode) in codecs {
            let header = format!("Content-Encoding: {name}\r\n");
            let body = encode(row(dialect));
            check_stored(&client.request("POST", path, &header, &body));
            check_stored(&client.post(path, &body));
            check_stored(&client.request("POST", path, "Content-Encoding: \r\n", row(dialect)));
        }
        let header = "Content-Encoding: identity\r\n";
        check_stored(&client.request("POST", path, header, row(dialect)));
    }
    let two = [gzip(b"a v=1\n"), gzip(b"b v=1\n")].concat();
    check_stored(&client.post("/write?db=members", two));
    assert_eq!(rows(&mut client, "members"), [("a".to_owned(), 1), ("b".to_owned(), 1)]);
}

#[test]
fn a_broken_or_unknown_encoding_is_the_clients_fault() {
    let fixture = start();
    let mut client = fixture.client();
    let whole = gzip(b"cpu v=1\n");
    for (path, _) in write_paths() {
        let answer = client.request("POST", path, "Content-Encoding: br\r\n", b"cpu v=1");
        check_error(&answer, 415, "unsupported content encoding");
        let header = "Content-Encoding: gzip\r\n";
        let answer = client.request("POST", path, header, &whole[..whole.len() - 1]);
        let cut = whole.len() - 1;
        let text = format!("unable to parse the gzip body: unexpected end at byte {cut}");
        check_error(&answer, 400, &text);
        let answer = client.request("POST", path, header, b"cpu v=1");
        check_error(&answer, 400, "unable to parse the gzip body: broken header at byte 0");
    }
}

#[test]
fn a_connection_is_used_again_after_every_error() {
    let limits = Limits { body_bytes_max: 100_000, ..Limits::DEFAULT };
    let fixture = start_with(&Wish { limits, ..Wish::default() });
    let mut client = fixture.client();
    let large = vec![b'a'; 90_000];
    check_error(&client.post("/nowhere", &large), 404, "not found");
    check_error(&client.request("PUT", "/write", "", &large), 405, "method not allowed");
    check_error(&client.post("/write?precision=x", &large), 400, "precision");
    check_error(&client.post("/write?precision=x", &large), 400, "precision");
    check_error(&client.post("/write", "broken"), 400, "unable to parse");
    check_stored(&client.post("/write", "cpu v=1"));
}

#[test]
fn a_client_that_writes_before_it_reads_sees_why_its_body_is_too_large() {
    let fixture = start();
    let limit = fixture.engine.limits().body_bytes_max;
    let answer = fixture.client().post("/write", vec![b'#'; limit + (8 << 20)]);
    check_error(&answer, 413, "request entity too large");
}

#[test]
fn the_body_limit_holds_to_the_byte() {
    let limits = Limits { body_bytes_max: 1000, ..Limits::DEFAULT };
    let fixture = start_with(&Wish { limits, ..Wish::default() });
    for length in [999, 1000, 1001] {
        // A comment of that length, then by length and in chunks.
        let body = [&b"cpu v=1\n#"[..], &vec![b'a'; length - 9]].concat();
        let mut client = fixture.client();
        let by_length = client.post("/write", &body);
        let mut client = fixture.client();
        client.send(b"POST /write HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.send(format!("{length:x}\r\n").as_bytes());
        client.send(&body);
        client.send(b"\r\n0\r\n\r\n");
        let in_chunks = client.answer();
        for answer in [by_length, in_chunks] {
            if length <= 1000 {
                check_stored(&answer);
            } else {
                check_error(&answer, 413, "expected at most 1000 bytes");
            }
        }
    }
    // In the words of version 2.
    let answer = fixture.client().post("/api/v2/write", vec![b'#'; 1001]);
    check_error(&answer, 413, "");
    assert_eq!(json(&answer)["code"].as_str(), Some("request too large"));
}

#[test]
fn the_limit_of_an_inflated_body_holds_to_the_byte() {
    let limits = Limits { inflated_bytes_max: 10_000, ..Limits::DEFAULT };
    let fixture = start_with(&Wish { limits, ..Wish::default() });
    let mut client = fixture.client();
    for length in [9_999, 10_000, 10_001] {
        let body = [&b"cpu v=1\n#"[..], &vec![b'a'; length - 9]].concat();
        for encoded in [gzip(&body), zlib(&body), zstd(&body)] {
            let answer = client.post("/write", encoded);
            if length <= 10_000 {
                check_stored(&answer);
            } else {
                check_error(&answer, 413, "expected at most 10000 bytes when inflated");
            }
        }
    }
}

/// Up to 1 MiB the shard inflates, or 256 KiB where it is far more than what was received; beyond
/// that a thread beside it.
#[test]
fn a_body_is_inflated_beside_the_shard_as_it_is_by_it() {
    let fixture = start();
    let mut client = fixture.client();
    let around = |length: usize| [length - 1, length, length + 1];
    let noise = around(1 << 20).into_iter().chain([5 << 20]).map(|length| (length, 63));
    let same = around(256 << 10).map(|length| (length, 0));
    for (length, mask) in noise.chain(same) {
        let mut body = b"cpu v=1\n".to_vec();
        // Comments, which hardly compress, or very well.
        let mut random = Random::new(7);
        body.extend((8..length).map(|at| match at % 100 {
            8 => b'#',
            7 => b'\n',
            _ => b'0' + (random.byte() & mask),
        }));
        for encoded in [gzip(&body), zlib(&body), zstd(&body)] {
            check_stored(&client.post("/write?db=a", &encoded));
            let cut = &encoded[..encoded.len() - 1];
            check_error(&client.post("/write?db=b", cut), 400, "unexpected end");
        }
    }
    assert_eq!(rows(&mut client, "a"), [("cpu".to_owned(), 21)]);
    assert!(rows(&mut client, "b").is_empty());
}

#[test]
fn a_body_that_does_not_fit_in_memory_is_busy() {
    let fixture = start_with(&Wish { memory_limit: 1 << 20, ..Wish::default() });
    for (path, _) in write_paths() {
        let mut client = fixture.client();
        let answer = client.post(path, vec![b'#'; 2 << 20]);
        check_error(&answer, 503, "memory");
        let seconds = answer.header("retry-after").and_then(|it| it.parse::<u32>().ok());
        assert!(seconds.is_some_and(|it| (1..=60).contains(&it)), "{answer:?}");
    }
}

#[test]
fn version_1_names_the_lines_it_refused() {
    let fixture = start();
    let mut client = fixture.client();
    let answer = client.post("/write?db=a", "cpu v=1\nbroken\nmem v=2\n\nworse");
    check_error(&answer, 400, "partial write: unable to parse 'broken': ");
    check_error(&answer, 400, "\nunable to parse 'worse': ");
    let body = json(&answer);
    assert!(body["error"].as_str().is_some_and(|it| it.ends_with(" dropped=2")), "{body}");
    assert_eq!(body["line"].as_u64(), Some(2));
    assert_eq!(body["data"][1]["line_number"].as_u64(), Some(5));
    assert_eq!(rows(&mut client, "a"), [("cpu".to_owned(), 1), ("mem".to_owned(), 1)]);

    let answer = client.post("/write?db=b", "broken");
    let error = json(&answer)["error"].as_str().expect("a text").to_owned();
    assert!(error.starts_with("unable to parse 'broken': "), "{error}");
    assert!(rows(&mut client, "b").is_empty());
}

#[test]
fn a_quoted_line_is_cut_and_made_text() {
    let fixture = start();
    let mut client = fixture.client();
    let line = [&b"\"\\\x01\xff"[..], "\u{e9}".repeat(500).as_bytes()].concat();
    let answer = client.post("/write", &line);
    check_error(&answer, 400, "unable to parse '\"\\\u{1}\u{fffd}\u{e9}");
    let original = json(&answer)["data"][0]["original_line"].as_str().expect("text").to_owned();
    assert!(original.len() <= 20 && original.ends_with('\u{e9}'), "{original:?}");
    assert!(answer.body.len() < 1000, "{}", answer.body);
}

#[test]
fn a_kind_conflict_is_told_in_each_clients_words() {
    let fixture = start();
    let mut client = fixture.client();
    let conflict = "field type conflict: input field \"v\" on measurement \"m\" is type float, \
                    already exists as type integer";
    for (path, _) in write_paths().filter(|(_, it)| it.format() == Format::LineProtocol) {
        check_stored(&client.post(&format!("{path}?db=a"), "m v=1i"));
    }

    let answer = client.post("/write?db=a", "n v=1\nm v=2.5");
    check_error(&answer, 400, &format!("partial write: {conflict} dropped=1"));
    assert_eq!(json(&answer)["line"].as_u64(), Some(2));
    check_error(&client.post("/write?db=a", "m v=2.5"), 400, "partial write: field type conflict");

    let answer = client.post("/api/v2/write?bucket=a", "n v=1\nm v=2.5");
    let text = format!("failure writing points to database: partial write: {conflict} dropped=1");
    check_error(&answer, 422, &text);
    let body = json(&answer);
    assert_eq!(body["code"].as_str(), Some("unprocessable entity"));
    assert_eq!(body["message"].as_str(), Some(text.as_str()));

    let answer = client.post("/api/v3/write_lp?db=a", "n v=1\nm v=2.5");
    check_error(&answer, 400, "partial write of line protocol occurred");
    let message = json(&answer)["data"][0]["error_message"].as_str().expect("text").to_owned();
    assert!(message.starts_with(
        "invalid column type for column 'v', expected iox::column_type::field::integer, got \
         iox::column_type::field::float"
    ));

    let answer = client.post("/api/v1/write/line-protocol?db=a", "n v=1\nm v=2.5");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("x-peristyle-rejected"), Some("1"));
    let reason = answer.header("x-peristyle-reject-reason").expect("a reason");
    assert!(reason.contains("2: field type conflict: input field \"v\""), "{reason}");
}

#[test]
fn version_2_answers_in_its_shape() {
    let fixture = start();
    let mut client = fixture.client();
    let answer = client.post("/api/v2/write?bucket=a", "cpu v=1\nbroken");
    check_error(&answer, 400, "partial write: unable to parse 'broken'");
    let body = json(&answer);
    assert_eq!(body["code"].as_str(), Some("invalid"));
    assert_eq!(body["message"], body["error"]);
    assert_eq!(rows(&mut client, "a"), [("cpu".to_owned(), 1)]);
    let answer = client.post("/api/v2/write?bucket=a&precision=x", "cpu v=1");
    assert_eq!(json(&answer)["code"].as_str(), Some("invalid"));
}

#[test]
fn version_3_numbers_physical_lines() {
    let fixture = start();
    let mut client = fixture.client();
    let body = "# comment\n\ncpu v=1\nbroken line that is longer than twenty\n";
    for (parameters, stored) in [("", 1), ("&accept_partial=true&no_sync=true", 2)] {
        let path = format!("/api/v3/write_lp?db=a{parameters}");
        let answer = client.post(&path, body.replace(" line", "\\ line"));
        check_error(&answer, 400, "partial write of line protocol occurred");
        let body = json(&answer);
        let data = body["data"].as_array().expect("a list");
        assert_eq!(data.len(), 1);
        assert_eq!(data[0]["line_number"].as_u64(), Some(4));
        assert_eq!(data[0]["original_line"].as_str().map(str::len), Some(20));
        assert!(data[0]["error_message"].as_str().is_some_and(|it| !it.is_empty()));
        assert_eq!(rows(&mut client, "a"), [("cpu".to_owned(), stored)]);
    }
}

#[test]
fn all_or_nothing_is_nothing_when_a_line_is_bad() {
    let fixture = start();
    let mut client = fixture.client();
    let path = "/api/v3/write_lp?db=a&accept_partial=false";
    let answer = client.post(path, "cpu v=1\nbroken\nmem v=1");
    check_error(&answer, 400, "line protocol parsing error");
    assert_eq!(json(&answer)["data"]["line_number"].as_u64(), Some(2));
    let answer = client.post("/write?db=a&accept_partial=false", "cpu v=1\nbroken");
    let error = json(&answer)["error"].as_str().expect("a text").to_owned();
    assert!(error.starts_with("unable to parse 'broken': "), "{error}");
    assert_eq!(rows(&mut client, "a").iter().map(|(_, rows)| rows).sum::<u64>(), 0);
    check_stored(&client.post(path, "cpu v=1"));
    check_error(&client.post("/write?accept_partial=perhaps", "cpu v=1"), 400, "accept_partial");
}

#[test]
fn arcs_endpoints_keep_what_is_good_and_refuse_what_is_unreadable() {
    let fixture = start();
    let mut client = fixture.client();
    let answer = client.post("/api/v1/write?db=a", "cpu v=1\nbroken\nworse");
    assert_eq!((answer.status, json(&answer)["rejected"].as_u64()), (200, Some(2)));
    assert_eq!(answer.header("x-peristyle-rejected"), Some("2"));
    assert!(
        answer.header("x-peristyle-reject-reason").is_some_and(|it| it.starts_with("line 2: "))
    );
    check_error(&client.post("/api/v1/write?db=a", "broken"), 400, "unable to parse 'broken'");
    let answer = client.post("/api/v1/write/msgpack", b"\xc1");
    check_error(&answer, 400, "Invalid MessagePack payload: ");
    let body =
        r#"{"metrics":[{"name":"j","fields":{"v":1}},{"name":"j","fields":{"v":[]}},{"name""#;
    let answer = client.post("/api/v1/write/json?db=a", body);
    assert_eq!((answer.status, json(&answer)["rejected"].as_u64()), (200, Some(2)));
    assert_eq!(answer.header("x-peristyle-rejected"), Some("2"));
    let reason = "row 2: expected a scalar for \"v\", found an array at byte 68";
    assert_eq!(answer.header("x-peristyle-reject-reason"), Some(reason));
    for body in ["{", "null", "{\"v\":1}", "cpu v=1"] {
        let answer = client.post("/api/v1/write/json?db=a", body);
        check_error(&answer, 400, "Invalid JSON payload: row 1: ");
    }
    // What was read and not stored is no reason to send it again.
    let answer = client.post("/api/v1/write/json?db=a", r#"{"name":"j","fields":{"v":NaN}}"#);
    assert_eq!((answer.status, answer.header("x-peristyle-rejected")), (200, Some("1")));
}

#[test]
fn an_empty_body_is_what_each_client_expects() {
    let fixture = start();
    let mut client = fixture.client();
    for (path, dialect) in write_paths() {
        for body in [Vec::new(), gzip(b"")] {
            let answer = client.post(path, body);
            match dialect {
                Dialect::V3 => check_error(&answer, 400, "incoming write was empty"),
                Dialect::Arrow | Dialect::Json | Dialect::ArcMessagePack => {
                    check_error(&answer, 400, "Empty payload");
                }
                _ => check_stored(&answer),
            }
        }
    }
}

#[test]
fn every_name_of_a_precision_is_taken_on_every_endpoint() {
    let fixture = start();
    let mut client = fixture.client();
    let names = "n ns u us %C2%B5 %CE%BC ms s m h auto nanosecond microsecond millisecond second \
                 minute hour";
    for (path, dialect) in write_paths() {
        for name in names.split(' ') {
            check_stored(&client.post(&format!("{path}?precision={name}"), row(dialect)));
        }
        let answer = client.post(&format!("{path}?precision=fortnight"), row(dialect));
        check_error(&answer, 400, "found \"fortnight\"");
    }
}

#[test]
fn a_database_is_named_in_many_ways() {
    let fixture = start();
    let mut client = fixture.client();
    let database = |client: &mut Client, target: &str, headers: &str| {
        let answer = client.request("POST", target, headers, b"cpu v=1");
        check_stored(&answer);
        let answer = client.post("/query?q=SHOW+DATABASES", "");
        let names = json(&answer)["results"][0]["series"][0]["values"].clone();
        let names = names.as_array().expect("a list").clone();
        assert_eq!(names.len(), 1, "{names:?}");
        let name = names[0][0].as_str().expect("a name").to_owned();
        let drop = format!("q=DROP+DATABASE+\"{name}\"");
        let form = "Content-Type: application/x-www-form-urlencoded\r\n";
        assert_eq!(client.request("POST", "/query", form, drop.as_bytes()).status, 200);
        name
    };
    for (target, expect) in [
        ("/write", "default"),
        ("/write?db=", "default"),
        ("/write?db=a", "a"),
        ("/write?bucket=a", "a"),
        ("/write?db=a&rp=autogen", "a"),
        ("/write?db=a&rp=default", "a"),
        ("/write?db=a&rp=", "a"),
        ("/write?db=a&rp=month", "a/month"),
        ("/api/v2/write?org=o&bucket=a", "a"),
        ("/api/v2/write?org=o&bucket=a/autogen", "a"),
        ("/api/v2/write?org=o&bucket=a/", "a"),
        ("/api/v2/write?org=o&bucket=a/month", "a/month"),
        ("/api/v2/write?db=a", "a"),
        ("/write?db=has+a%20space", "has a space"),
        ("/write?db=%C3%A9t%C3%A9", "\u{e9}t\u{e9}"),
        ("/write?db=..", ".."),
    ] {
        assert_eq!(database(&mut client, target, ""), expect, "{target}");
    }
    let header = "X-Arc-Database: from header\r\n";
    assert_eq!(database(&mut client, "/write?db=a&bucket=b", header), "from header");
    let long = "a".repeat(255);
    assert_eq!(database(&mut client, &format!("/write?db={long}"), ""), long);
    for bad in ["a%0A", "%00", &"a".repeat(256)] {
        let answer = client.post(&format!("/write?db={bad}"), "cpu v=1");
        check_error(&answer, 400, "database name");
    }
    let header = "X-Arc-Database: \u{ff}\r\n".replace('\u{ff}', "\u{80}");
    assert_eq!(client.request("POST", "/write", &header, b"cpu v=1").status, 400);
}

#[test]
fn statements_make_show_and_drop_databases() {
    let fixture = start();
    let mut client = fixture.client();
    let query = |client: &mut Client, text: &str| {
        let encoded: String = form_urlencoded::byte_serialize(text.as_bytes()).collect();
        let by_url = client.get(&format!("/query?q={encoded}"));
        let form = "Content-Type: application/x-www-form-urlencoded\r\n";
        let body = format!("q={encoded}");
        let by_form = client.request("POST", "/query", form, body.as_bytes());
        assert_eq!((by_url.status, by_form.status), (200, 200));
        assert_eq!(by_url.header("content-type"), Some("application/json"));
        assert_eq!(by_url.body, by_form.body);
        by_form.body
    };
    let done = "{\"results\":[{\"statement_id\":0}]}";
    let shown = |names: &str| {
        format!(
            "{{\"results\":[{{\"statement_id\":0,\"series\":[{{\"name\":\"databases\",\
             \"columns\":[\"name\"],\"values\":[{names}]}}]}}]}}"
        )
    };
    assert_eq!(query(&mut client, "show databases"), shown(""));
    assert_eq!(query(&mut client, "CREATE DATABASE \"telegraf\""), done);
    assert_eq!(query(&mut client, "CREATE DATABASE telegraf WITH REPLICATION 1"), done);
    let with = "create database b with duration 30d replication 1 shard duration 1h name \"x\"";
    assert_eq!(query(&mut client, with), done);
    assert_eq!(query(&mut client, "CREATE DATABASE \"q\\\"\\\\ \u{e9}\";"), done);
    let names = "[\"b\"],[\"q\\\"\\\\ \u{e9}\"],[\"telegraf\"]";
    assert_eq!(query(&mut client, "SHOW DATABASES"), shown(names));
    assert_eq!(query(&mut client, "DROP DATABASE \"q\\\"\\\\ \u{e9}\""), done);
    assert_eq!(
        query(&mut client, "DROP DATABASE b; drop database telegraf;"),
        "{\"results\":[{\"statement_id\":0},{\"statement_id\":1}]}"
    );
    assert_eq!(query(&mut client, "SHOW DATABASES"), shown(""));

    check_stored(&client.post("/write?db=m", "cpu v=1"));
    let measurements = "{\"results\":[{\"statement_id\":0,\"series\":[{\"name\":\"measurements\",\
                        \"columns\":[\"name\"],\"values\":[[\"cpu\"]]}]}]}";
    assert_eq!(query(&mut client, "SHOW MEASUREMENTS ON m"), measurements);
    assert_eq!(client.get("/query?db=m&q=SHOW+MEASUREMENTS").body, measurements);
    for (text, error) in [
        ("SHOW MEASUREMENTS", "database name required"),
        ("SHOW MEASUREMENTS ON missing", "database not found: missing"),
        ("SELECT * FROM cpu", "error parsing query: expected CREATE DATABASE"),
        ("CREATE DATABASE", "expected a database name, found the end"),
        ("CREATE DATABASE a b", "expected WITH or the end, found b"),
        ("CREATE DATABASE \"\"", "database name"),
        ("CREATE DATABASE \"a", "expected a database name"),
        ("DROP DATABASE a b", "expected one database name"),
        ("", "error parsing query"),
    ] {
        let answer = query(&mut client, text);
        assert!(answer.starts_with("{\"results\":[{\"statement_id\":0,\"error\":\""), "{answer}");
        assert!(answer.contains(error), "{error:?} is not in {answer}");
    }
    let many = query(&mut client, &"SHOW DATABASES;".repeat(65));
    assert!(many.contains("expected at most 64 statements, found 65"), "{many}");
    assert!(
        query(&mut client, &"SHOW DATABASES;".repeat(64)).contains("\"statement_id\":63,\"ser")
    );
    check_error(&client.get("/query"), 400, "missing required parameter");
    let long = format!("q={}", "a".repeat(64 << 10));
    check_error(&client.post("/query", long), 413, "request entity too large");
}

#[test]
fn the_server_says_how_it_is() {
    let fixture = start();
    let mut client = fixture.client();
    let answer = client.get("/health");
    assert_eq!(answer.status, 200);
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        answer.body,
        format!(
            "{{\"name\":\"peristyle\",\"message\":\"ready for queries and writes\",\
             \"status\":\"pass\",\"checks\":[],\"version\":\"{version}\",\"durability\":\"fsync\"}}"
        )
    );
    assert_eq!(client.get("/ready").status, 200);
    for method in ["GET", "HEAD", "POST"] {
        let answer = client.request(method, "/ping", "", b"");
        check_stored(&answer);
        assert_eq!(answer.header("x-influxdb-version"), Some("1.8.10"));
    }
    let answer = client.get("/ping?verbose=true");
    assert_eq!((answer.status, json(&answer)["version"].as_str()), (200, Some(version)));
}

#[test]
fn tables_and_metrics_count_rows() {
    let fixture = start();
    let mut client = fixture.client();
    client.post("/write?db=a", "cpu v=1\ncpu v=2\nbroken");
    client.post("/write?db=b", "mem v=1");
    let answer = client.get("/api/v1/tables");
    let body = json(&answer);
    assert_eq!(body["databases"][0]["name"].as_str(), Some("a"));
    let measurements = &body["databases"][0]["measurements"];
    assert_eq!(measurements[0]["name"].as_str(), Some(REJECTED));
    let table = &measurements[1];
    assert_eq!((table["name"].as_str(), table["rows"].as_u64()), (Some("cpu"), Some(2)));
    assert_eq!(table["files"].as_u64(), Some(0));
    let columns = table["columns"].as_array().expect("a list");
    let column = columns.iter().find(|it| it["name"].as_str() == Some("v")).expect("column v");
    assert_eq!((column["kind"].as_str(), column["role"].as_str()), (Some("float"), Some("field")));
    assert_eq!(body["databases"][1]["name"].as_str(), Some("b"));

    let answer = client.get("/metrics");
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    for line in [
        "# TYPE peristyle_rows_accepted_total counter",
        "peristyle_rows_accepted_total{format=\"line_protocol\"} 3",
        "peristyle_rows_rejected_total{format=\"line_protocol\"} 1",
        "peristyle_rows_accepted_total{format=\"arrow\"} 0",
        "peristyle_rows_accepted_total{format=\"json\"} 0",
        "peristyle_rows_accepted_total{format=\"msgpack\"} 0",
        "peristyle_http_requests_total{endpoint=\"/write\",outcome=\"client_error\"} 1",
    ] {
        assert!(answer.body.lines().any(|it| it == line), "{line} is not in\n{}", answer.body);
    }
}

#[test]
fn a_flush_says_what_it_wrote() {
    let fixture = start();
    let mut client = fixture.client();
    client.post("/write?db=a", "cpu v=1\nmem v=1");
    let answer = client.post("/api/v1/flush", "");
    assert_eq!((answer.status, answer.body.as_str()), (200, "{\"files\":2,\"rows\":2}"));
    let answer = client.post("/api/v1/flush?db=a", "");
    assert_eq!((answer.status, answer.body.as_str()), (200, "{\"files\":0,\"rows\":0}"));
}

#[test]
fn every_shard_answers() {
    let fixture = start_with(&Wish { shards: 2, ..Wish::default() });
    let mut clients: Vec<Client> = (0..32).map(|_| fixture.client()).collect();
    for client in &mut clients {
        check_stored(&client.post("/write?db=a", "cpu v=1"));
    }
    assert_eq!(rows(&mut clients[0], "a"), [("cpu".to_owned(), 32)]);
    assert_eq!(fixture.engine.stats().connections.get(), 32);
}

#[test]
fn a_second_instance_does_not_share_the_port() {
    let fixture = start_with(&Wish { shards: 2, ..Wish::default() });
    for shards in [1, 2] {
        let error = Server::bind(fixture.address(), shards).expect_err("it is taken");
        assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    }
}

#[test]
fn a_request_in_flight_is_answered_before_the_server_ends() {
    let mut fixture = start();
    let mut idle = fixture.client();
    check_stored(&idle.post("/write?db=a", "cpu v=1"));
    let mut client = fixture.client();
    client.send(&head("POST", "/write?db=a", "Expect: 100-continue\r\n", 7));
    // The request is in flight when the server asks for its body.
    assert_eq!(client.answer_to_head().status, 100);
    let server = fixture.server.take().expect("it runs");
    server.shutdown();
    assert!(idle.is_closed());
    client.send(b"cpu v=2");
    check_stored(&client.answer());
    assert!(client.is_closed());
    server.join().expect("the threads end");
    fixture.engine.close().expect("everything is written");
    let stats = fixture.engine.stats();
    assert_eq!((stats.line_protocol.rows_accepted.get(), stats.rows_published.get()), (2, 2));
}
