//! What real clients send and look for, byte for byte: calls at their start, and what they are told
//! of rows that were refused.

use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

use peristyle::disk::{Disk, DiskFile, LocalDisk};
use peristyle::engine::REJECTED;
use rmpv::Value as Tree;
use simd_json::OwnedValue;
use simd_json::prelude::*;

use crate::http_client::{Answer, Client};
use crate::live::{Live, read_all_rows};
use crate::msgpack_bodies::{array, encode, map};
use crate::support::{Row, Value};

const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";

/// `METHOD target`, header lines and a body, and what has to come back: status and body.
struct Call {
    /// Who sends it.
    client: &'static str,
    request: &'static str,
    headers: &'static str,
    body: &'static str,
    status: u16,
    answer: &'static str,
}

fn call(
    client: &'static str,
    request: &'static str,
    headers: &'static str,
    body: &'static str,
    (status, answer): (u16, &'static str),
) -> Call {
    Call { client, request, headers, body, status, answer }
}

/// The calls, one after the other, against one server.
fn check(calls: &[Call]) {
    let live = Live::start();
    let mut client = live.client();
    for Call { client: name, request, headers, body, status, answer } in calls {
        let (method, target) = request.split_once(' ').expect("a method and a target");
        let found = client.request(method, target, headers, body.as_bytes());
        assert_eq!((found.status, found.body.as_str()), (*status, *answer), "{name}: {request}");
        check_headers(&found);
    }
}

/// The headers of every answer.
fn check_headers(answer: &Answer) {
    for (name, value) in [
        ("access-control-allow-origin", "*"),
        ("access-control-expose-headers", "*"),
        ("x-influxdb-version", "1.8.10"),
        ("x-influxdb-build", "peristyle"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{answer:?}");
    }
    assert!(answer.header("request-id").is_some_and(|it| !it.is_empty()));
    if answer.status >= 400 {
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert!(answer.header("x-influxdb-error").is_some());
    }
}

fn json(answer: &Answer) -> OwnedValue {
    let mut text = answer.body.clone().into_bytes();
    simd_json::to_owned_value(&mut text).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}

const DONE: &str = r#"{"results":[{"statement_id":0}]}"#;

/// `SHOW DATABASES` with these rows.
macro_rules! shown {
    ($rows:literal) => {
        concat!(
            r#"{"results":[{"statement_id":0,"series":[{"name":"databases","columns":["name"],"#,
            r#""values":["#,
            $rows,
            "]}]}]}"
        )
    };
}

const HEALTH: &str = concat!(
    r#"{"name":"peristyle","message":"ready for queries and writes","#,
    r#""status":"pass","checks":[],"version":""#,
    env!("CARGO_PKG_VERSION"),
    r#"","durability":"fsync"}"#
);

#[test]
fn clients_of_influxdb_1_start() {
    check(&[
        call("Telegraf", "POST /query", FORM, "q=CREATE+DATABASE+%22telegraf%22", (200, DONE)),
        call("Telegraf", "POST /write?db=telegraf", "", "cpu v=1 1\n", (204, "")),
        call("Telegraf", "POST /write?consistency=any&db=telegraf", "", "cpu v=1 1\n", (204, "")),
        call(
            "influxdb-python",
            "GET /ping",
            "Authorization: Basic cm9vdDpyb290\r\n",
            "",
            (204, ""),
        ),
        call(
            "influxdb-python",
            "POST /query?q=CREATE+DATABASE+%22py%22",
            "Accept: application/x-msgpack\r\n",
            "",
            (200, DONE),
        ),
        call("influxdb-java", "GET /ping", "", "", (204, "")),
        call("influxdb-java", "POST /query?epoch=n", FORM, "q=CREATE+DATABASE+java", (200, DONE)),
        call(
            "influx CLI",
            "GET /query?chunked=true&db=&epoch=ns&pretty=true&q=SHOW+DATABASES",
            "",
            "",
            (200, shown!(r#"["java"],["py"],["telegraf"]"#)),
        ),
        call("node-influx", "HEAD /ping", "", "", (204, "")),
        call("node-influx", "GET /ping?wait_for_leader=5s", "", "", (204, "")),
        call(
            "any",
            "GET /ping?verbose=true",
            "",
            "",
            (
                200,
                concat!(
                    r#"{"product_name":"peristyle","version":""#,
                    env!("CARGO_PKG_VERSION"),
                    "\"}"
                ),
            ),
        ),
    ]);
}

#[test]
fn tsbs_makes_its_database_by_get_and_reads_a_series_unseen() {
    let create =
        "GET /query?consistency=all&q=CREATE%20DATABASE%20benchmark%20WITH%20REPLICATION%201";
    check(&[
        call("TSBS", "GET /query?q=show%20databases", "", "", (200, shown!(""))),
        call("TSBS", "POST /query?q=drop+database+benchmark", "", "", (200, DONE)),
        call("TSBS", create, "", "", (200, DONE)),
        call(
            "TSBS",
            "POST /write?consistency=all&db=benchmark",
            "Content-Type: text/plain\r\n",
            "cpu,hostname=host_0 usage_user=58i 1451606400000000000\n",
            (204, ""),
        ),
    ]);
}

#[test]
fn clients_of_influxdb_2_and_3_start() {
    check(&[
        call("influxdb-client", "GET /ping", "", "", (204, "")),
        call("influxdb-client", "GET /health", "", "", (200, HEALTH)),
        call("influxdb-client", "GET /ready", "", "", (200, r#"{"status":"ready"}"#)),
        // Telegraf sends this header without a token, too.
        call(
            "Telegraf",
            "POST /api/v2/write?bucket=telegraf&org=o",
            "Authorization: Token \r\n",
            "cpu v=1 1\n",
            (204, ""),
        ),
        call(
            "influxdb3-python",
            "POST /api/v3/write_lp?org=o&db=d&precision=nanosecond&no_sync=true",
            "Authorization: Bearer t\r\n",
            "cpu v=1 1\n",
            (204, ""),
        ),
        call(
            "influxdb3-js",
            "POST /api/v2/write?bucket=d&precision=ns",
            "Authorization: Token t\r\n",
            "cpu v=2 2\n",
            (204, ""),
        ),
        call("influxdb3", "GET /api/v1/health", "", "", (200, HEALTH)),
    ]);
}

#[test]
fn databases_are_configured_as_influxdb_3_does() {
    const TARGET: &str = "/api/v3/configure/database";
    let created = r#"[{"iox::database":"a b"},{"iox::database":"default"}]"#;
    let live = Live::start();
    let mut client = live.client();
    let list = format!("{TARGET}?format=json");
    assert_eq!(client.get(&list).body, "[]");
    assert_eq!(client.get(TARGET).body, "[]");
    assert_eq!(client.post("/write", "cpu v=1").status, 204);
    let mut all = vec![(200, String::new(), client.post(TARGET, r#"{"db":"a b"}"#))];
    all.push((200, created.into(), client.get(&list)));
    let exists = r#"{"error":"database already exists: \"a b\""}"#;
    let body = r#"{"db":"a b","retention_period":"7d"}"#;
    all.push((409, exists.into(), client.post(TARGET, body)));
    for (body, error) in [
        ("", "unable to parse the body: expected JSON like {\\\"db\\\":name}"),
        ("{}", "missing required parameter \\\"db\\\""),
        (r#"{"db":5}"#, "missing required parameter \\\"db\\\""),
        (
            r#"{"db":""}"#,
            "unable to parse the database name: expected 1 to 255 bytes of UTF-8 without control \
             characters",
        ),
    ] {
        let error = format!("{{\"error\":\"{error}\"}}");
        all.push((400, error, client.post(TARGET, body)));
    }
    let error =
        r#"{"error":"unable to parse the parameter \"format\": expected json, found \"csv\""}"#;
    all.push((400, error.into(), client.get(&format!("{TARGET}?format=csv"))));
    let mut delete = |query: &str| client.request("DELETE", &format!("{TARGET}{query}"), "", b"");
    all.push((200, String::new(), delete("?db=a+b")));
    let missing = r#"{"error":"database not found: \"a b\""}"#;
    all.push((404, missing.into(), delete("?db=a+b")));
    all.push((400, r#"{"error":"missing required parameter \"db\""}"#.into(), delete("")));
    all.push((200, r#"[{"iox::database":"default"}]"#.into(), client.get(&list)));
    for (status, body, answer) in all {
        assert_eq!((answer.status, &answer.body), (status, &body));
        check_headers(&answer);
    }
}

#[test]
fn questdbs_clients_find_no_settings_and_name_no_database() {
    let live = Live::start();
    let mut client = live.client();
    let answer = client.get("/settings");
    let expected = r#"{"error":"not found: no such endpoint"}"#;
    assert_eq!((answer.status, answer.body.as_str()), (404, expected));
    check_headers(&answer);
    for (headers, database) in [
        ("", "default"),
        ("X-Database: q\r\n", "q"),
        ("X-Database: q\r\nX-Arc-Database: a\r\n", "a"),
        ("X-Database: \r\n", "default"),
    ] {
        let headers = format!("User-Agent: other\r\n{headers}");
        let body = format!("{database} v=1\n");
        let answer = client.request("POST", "/write?precision=n", &headers, body.as_bytes());
        assert_eq!(answer.status, 204);
        assert!(live.rows(database).iter().any(|row| row.measurement == database), "{headers}");
    }
    let answer = client.request("POST", "/write?db=d", "X-Database: q\r\n", b"mem v=1");
    assert_eq!((answer.status, live.rows("d").len()), (204, 1));
}

#[test]
fn a_browser_is_told_what_it_may_send() {
    let live = Live::start();
    let mut client = live.client();
    for target in ["/write", "/api/v3/configure/database", "/nowhere", "/"] {
        let answer = client.request("OPTIONS", target, "Origin: http://a\r\n", b"");
        assert_eq!((answer.status, answer.body.as_str()), (204, ""));
        check_headers(&answer);
        for (name, value) in [
            ("access-control-allow-headers", "*, Authorization"),
            ("access-control-allow-methods", "DELETE, GET, HEAD, POST, OPTIONS"),
            ("access-control-max-age", "3600"),
        ] {
            assert_eq!(answer.header(name), Some(value));
        }
    }
}

/// A line that cannot be read between two that can, and what each endpoint says of it.
#[test]
fn a_refused_line_is_told_in_each_endpoints_shape() {
    let live = Live::start();
    let mut client = live.client();
    let body = "cpu v=1 1\nbroken one\nmem v=2 2\n";
    let data = |message: &str| {
        format!(
            "[{{\"error_message\":\"{message}\",\"line_number\":2,\
             \"original_line\":\"broken one\"}}]"
        )
    };
    let reason = "missing field value";
    let data = data(reason);
    let text = format!("unable to parse 'broken one': {reason}");
    let partial = format!("partial write: {text} dropped=1");
    let all_or_none = format!(
        "{{\"error\":\"line protocol parsing error\",\"data\":{}}}",
        data.trim_matches(['[', ']'])
    );
    for (target, status, expected) in [
        ("/write?db=a", 400, format!("{{\"error\":\"{partial}\",\"line\":2,\"data\":{data}}}")),
        (
            "/api/v2/write?bucket=a",
            400,
            format!(
                "{{\"error\":\"{partial}\",\"code\":\"invalid\",\"message\":\"{partial}\",\
                 \"line\":2,\"data\":{data}}}"
            ),
        ),
        (
            "/api/v3/write_lp?db=a",
            400,
            format!("{{\"error\":\"partial write of line protocol occurred\",\"data\":{data}}}"),
        ),
        ("/api/v3/write_lp?db=a&accept_partial=false", 400, all_or_none),
        (
            "/api/v1/write/line-protocol?db=a",
            200,
            format!(
                "{{\"error\":\"partial write: line 2: {reason} dropped=1\",\"accepted\":2,\
                 \"rejected\":1,\"data\":{data}}}"
            ),
        ),
    ] {
        let answer = client.post(target, body);
        assert_eq!((answer.status, answer.body), (status, expected), "{target}");
    }
    let answer = client.post("/api/v2/write?bucket=a", "broken");
    assert_eq!(answer.header("x-platform-error-code"), Some("invalid"));
    let bad = encode(&array([
        map([("m", "cpu".into()), ("fields", map([("v", 1.5.into())]))]),
        map([("m", "cpu".into()), ("fields", map([("v", "x".into())]))]),
    ]));
    let answer = client.post("/api/v1/write/msgpack?db=a", bad);
    let conflict = "field type conflict: input field \\\"v\\\" on measurement \\\"cpu\\\" is type \
                    string, already exists as type float";
    let expected = format!(
        "{{\"error\":\"partial write: row 2: {conflict} dropped=1\",\"accepted\":1,\"rejected\":1,\
         \"data\":[{{\"error_message\":\"{conflict}\",\"line_number\":2}}]}}"
    );
    assert_eq!((answer.status, answer.body.as_str()), (200, expected.as_str()));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("x-peristyle-rejected"), Some("1"));
    let reason = answer.header("x-peristyle-reject-reason").expect("a reason");
    assert_eq!(reason, format!("row 2: {}", conflict.replace('\\', "")));
}

/// Telegraf sends a body to these endpoints until it sees 2xx. What it can make must never be a
/// 400, even where no row of it is good; a body that no client makes is one.
#[test]
fn a_batch_of_nothing_but_bad_points_does_not_block_an_agent() {
    let live = Live::start();
    let mut client = live.client();
    for line in [
        &b"procstat,user=root user=\"root\" 1\n"[..],
        b"win,name=\xff v=1 1\n",
        b"cpu,time=x v=1 1\n",
        b"cpu v=1 9223372036854775808\n",
    ] {
        let answer = client.post("/api/v1/write", line);
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(json(&answer)["rejected"].as_u64(), Some(1));
        assert_eq!(answer.header("x-peristyle-rejected"), Some("1"));
    }
    assert_eq!(client.post("/api/v1/write", "this is no line\nnor this").status, 400);
}

#[test]
fn version_2_is_told_how_long_a_body_may_be() {
    let live = Live::start_with(|options| options.limits.body_bytes_max = 1_000);
    for (target, expected) in
        [("/api/v2/write", Some(1_000)), ("/write", None), ("/api/v3/write_lp", None)]
    {
        let answer = live.post(target, vec![b'#'; 1_001]);
        assert_eq!(answer.status, 413);
        assert_eq!(json(&answer).get_u64("maxLength"), expected);
    }
}

/// How many rows, and every how many of them one is bad.
const ROWS: usize = 5_000;
const BAD_EVERY: usize = 100;

/// A bad row of each kind, and how the reason begins.
type Kinds<T> = [(T, &'static str); 10];

fn lines() -> (Vec<u8>, [&'static str; 10]) {
    let kinds: Kinds<&str> = [
        ("cpu,host=a", "missing fields"),
        ("cpu v=oops", "invalid field value"),
        ("cpu v=\"a\"b", "unexpected character after field value"),
        ("cpu n=9223372036854775808i", "integer out of range"),
        ("cpu v=1e400", "float out of range"),
        ("cpu v=1 1.5", "invalid timestamp"),
        ("cpu,=x v=1", "missing tag key"),
        ("cpu,a=1,a=2 v=1", "duplicate tag \"a\""),
        ("cpu,v=1 v=1", "tag and field with the same name"),
        ("cpu v=true", "field type conflict"),
    ];
    let lines = (0..ROWS).map(|row| match kinds.get(row / BAD_EVERY % 10) {
        Some((line, _)) if row % BAD_EVERY == BAD_EVERY - 1 => format!("{line}\n"),
        _ => format!("cpu,host=h{} v={row}.5 {row}\n", row % 7),
    });
    let body: String = lines.collect();
    (body.into_bytes(), kinds.map(|(_, reason)| reason))
}

fn rows_of_msgpack() -> (Vec<u8>, [&'static str; 10]) {
    let row = |m: Tree, fields: Tree| map([("m", m), ("fields", fields)]);
    let one = || map([("v", 1.5.into())]);
    let timed = |t: Tree| map([("m", "cpu".into()), ("t", t), ("fields", one())]);
    let twice = [("m", "cpu".into()), ("name", "cpu".into()), ("fields", one())];
    let unnamed = Tree::Map(vec![(5.into(), 1.5.into())]);
    let kinds: Kinds<Tree> = [
        (map([("fields", one())]), "expected key \"m\", found none"),
        (row("cpu".into(), 5.into()), "expected a map or an array for \"fields\""),
        (5.into(), "expected a map or an array, found an integer"),
        (timed("x".into()), "expected a number or a timestamp"),
        (timed(1e300.into()), "expected a time in the years 1 to 9999"),
        (row("cpu".into(), map([("v", array([1, 2]))])), "expected a scalar for \"v\""),
        (row("cpu".into(), map([("v", "text".into())])), "field type conflict"),
        (row("cpu".into(), unnamed), "expected a string for a name"),
        (map(twice), "expected either \"m\" or \"name\""),
        (row("cpu".into(), map([])), "no usable field left"),
    ];
    let rows = (0..ROWS).map(|at| match kinds.get(at / BAD_EVERY % 10) {
        Some((bad, _)) if at % BAD_EVERY == BAD_EVERY - 1 => bad.clone(),
        _ => timed((1_700_000_000_000_000_u64 + at as u64).into()),
    });
    (encode(&array(rows)), kinds.map(|(_, reason)| reason))
}

fn rows_of_json() -> (Vec<u8>, [&'static str; 10]) {
    let kinds: Kinds<&str> = [
        (r#"{"fields":{"v":1.5}}"#, "expected key \"m\", found none"),
        (r#"{"m":"cpu","fields":5}"#, "expected an object or an array for \"fields\""),
        ("5", "expected an object or an array, found an integer"),
        (r#"{"m":"cpu","t":"x","fields":{"v":1.5}}"#, "expected a number or an RFC 3339 time"),
        (r#"{"m":"cpu","t":1e300,"fields":{"v":1.5}}"#, "expected a time in the years 1 to 9999"),
        (r#"{"m":"cpu","fields":{"v":[1,2]}}"#, "expected a scalar for \"v\", found an array"),
        (r#"{"m":"cpu","fields":{"v":"text"}}"#, "field type conflict"),
        (r#"{"m":"cpu","fields":{"v":1e999}}"#, "expected a float of 64 bits, found a larger one"),
        (r#"{"m":"cpu","name":"cpu","fields":{"v":1.5}}"#, "expected either \"m\" or \"name\""),
        (r#"{"m":"cpu","fields":{}}"#, "no usable field left"),
    ];
    let rows = (0..ROWS).map(|at| match kinds.get(at / BAD_EVERY % 10) {
        Some((bad, _)) if at % BAD_EVERY == BAD_EVERY - 1 => format!("{bad}\n"),
        _ => format!("{{\"m\":\"cpu\",\"t\":{at},\"fields\":{{\"v\":{at}.5}}}}\n"),
    });
    let body: String = rows.collect();
    (body.into_bytes(), kinds.map(|(_, reason)| reason))
}

/// The shape in which rows are told.
enum Shape {
    /// `error` in InfluxDB 1's words.
    V1,
    /// With `code` and `message`.
    V2,
    /// With `data` alone.
    V3,
    /// 200 with counts.
    Arc,
}

/// Issue: "a batch of 5,000 lines with 50 bad ones of 10 kinds".
#[test]
fn fifty_bad_rows_of_ten_kinds_are_told_one_by_one_and_cost_nothing_else() {
    type Body = fn() -> (Vec<u8>, [&'static str; 10]);
    let cases: [(&str, Body, Shape); 6] = [
        ("/write?db=d", lines, Shape::V1),
        ("/api/v2/write?bucket=d", lines, Shape::V2),
        ("/api/v3/write_lp?db=d&precision=ns", lines, Shape::V3),
        ("/api/v1/write/line-protocol?db=d", lines, Shape::Arc),
        ("/api/v1/write/msgpack?db=d", rows_of_msgpack, Shape::Arc),
        ("/api/v1/write/json?db=d", rows_of_json, Shape::Arc),
    ];
    for (target, body, shape) in cases {
        let live = Live::start();
        let mut client = live.client();
        let (body, reasons) = body();
        let answer = client.post(target, body);
        let told = json(&answer);
        check_shape(&answer, &told, &shape);
        let data = told["data"].as_array().expect("a list");
        assert_eq!(data.len(), 50, "{target}");
        for (index, (datum, reason)) in data.iter().zip(reasons.iter().cycle()).enumerate() {
            let line = (index + 1) * BAD_EVERY;
            assert_eq!(datum["line_number"].as_usize(), Some(line), "{target}");
            let message = datum["error_message"].as_str().expect("a text");
            let words = match (&shape, *reason) {
                (Shape::V3, "field type conflict") => "invalid column type for column 'v'",
                (_, reason) => reason,
            };
            assert!(message.starts_with(words), "{target}: {message}, not {words}");
        }
        let next = match target {
            _ if target.contains("msgpack") => rows_of_msgpack_once(),
            _ if target.contains("json") => r#"{"m":"cpu","fields":{"v":1.5}}"#.into(),
            _ => "cpu v=1 1".into(),
        };
        assert_eq!(client.post(target, next).status, 204, "the next batch goes through");
        assert_eq!(live.rows("d").len(), 4_951, "{target}");
        let kept = read_all_rows(live.directory.path(), "d");
        let mut kept: Vec<_> = kept.iter().filter(|it| it.measurement == REJECTED).collect();
        kept.sort_by_key(|row| int(row, "line"));
        assert_eq!(kept.len(), 50, "{target}");
        for ((row, reason), line) in kept.iter().zip(reasons.iter().cycle()).zip(1..) {
            assert_eq!(int(row, "line"), line * 100);
            let Some(Value::Str(found)) = row.fields.get("reason") else { panic!("{row:?}") };
            assert!(found.starts_with(reason), "{found}");
        }
    }
}

fn rows_of_msgpack_once() -> Vec<u8> {
    encode(&map([("m", "cpu".into()), ("fields", map([("v", 1.5.into())]))]))
}

fn int(row: &Row, field: &str) -> i64 {
    match row.fields.get(field) {
        Some(Value::Int(value)) => *value,
        other => panic!("{field} is {other:?}"),
    }
}

fn check_shape(answer: &Answer, told: &OwnedValue, shape: &Shape) {
    check_headers(answer);
    let error = told["error"].as_str().expect("an error");
    match shape {
        Shape::V1 | Shape::V2 => {
            assert_eq!(answer.status, 400);
            assert!(
                error.starts_with("partial write: unable to parse 'cpu,host=a': missing fields")
            );
            assert!(error.ends_with(" dropped=50"), "{error}");
            assert_eq!(error.lines().count(), 50);
            assert_eq!(told["line"].as_u64(), Some(100));
            let is_2 = matches!(shape, Shape::V2);
            assert_eq!(told.get_str("code"), is_2.then_some("invalid"));
            assert_eq!(told.get_str("message"), is_2.then_some(error));
        }
        Shape::V3 => {
            assert_eq!(answer.status, 400);
            assert_eq!(error, "partial write of line protocol occurred");
            assert_eq!(told.as_object().map(simd_json::value::owned::Object::len), Some(2));
        }
        Shape::Arc => {
            assert_eq!(answer.status, 200);
            assert!(error.starts_with("partial write: ") && error.ends_with(" dropped=50"));
            assert_eq!(told["accepted"].as_u64(), Some(4_950));
            assert_eq!(told["rejected"].as_u64(), Some(50));
            assert_eq!(answer.header("x-peristyle-rejected"), Some("50"));
        }
    }
}

/// A disk whose syncs of journal files wait while the gate is closed.
#[derive(Clone, Debug, Default)]
struct GatedDisk(Arc<(Mutex<bool>, Condvar)>);

impl GatedDisk {
    fn set_closed(&self, is_closed: bool) {
        *self.0.0.lock().unwrap() = is_closed;
        self.0.1.notify_all();
    }
}

#[derive(Debug)]
struct GatedFile {
    file: Box<dyn DiskFile>,
    disk: GatedDisk,
}

impl GatedFile {
    fn pass(&self) {
        let closed = self.disk.0.0.lock().unwrap();
        drop(self.disk.0.1.wait_while(closed, |is_closed| *is_closed).unwrap());
    }
}

impl io::Read for GatedFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }
}

impl io::Write for GatedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl io::Seek for GatedFile {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

impl DiskFile for GatedFile {
    fn sync_data(&mut self) -> io::Result<()> {
        self.pass();
        self.file.sync_data()
    }

    fn sync_all(&mut self) -> io::Result<()> {
        self.pass();
        self.file.sync_all()
    }

    fn byte_count(&self) -> io::Result<u64> {
        self.file.byte_count()
    }

    fn modified_ms(&self) -> io::Result<i64> {
        self.file.modified_ms()
    }
}

impl Disk for GatedDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(GatedFile { file: LocalDisk.create(path)?, disk: self.clone() }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(GatedFile { file: LocalDisk.open(path)?, disk: self.clone() }))
    }

    fn open_synced(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(GatedFile { file: LocalDisk.open_synced(path)?, disk: self.clone() }))
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        LocalDisk.create_directory(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<peristyle::disk::DirectoryEntry>> {
        LocalDisk.list(directory)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        LocalDisk.exists(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        LocalDisk.rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        LocalDisk.link(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        LocalDisk.remove_file(path)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        LocalDisk.remove_directory(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        LocalDisk.sync_directory(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn peristyle::disk::Lock>> {
        LocalDisk.lock(path)
    }
}

#[test]
fn no_sync_does_not_wait_for_the_disk_and_says_so() {
    let disk = GatedDisk::default();
    let mut live = Live::start_with(|options| options.disk = Arc::new(disk.clone()));
    let write = |client: &mut Client, target: &str, body: &str| client.post(target, body);
    let (mut waits, mut does_not) = (live.client(), live.client());
    assert_eq!(
        write(&mut waits, "/write?db=d", "cpu v=0 1").header("x-peristyle-durability"),
        Some("fsync")
    );
    disk.set_closed(true);
    waits.send(&crate::http_client::head("POST", "/write?db=d", "", 9));
    waits.send(b"cpu v=1 2");
    for (target, status) in [
        ("/api/v3/write_lp?db=d&no_sync=true&precision=ns", 204),
        ("/write?db=d&no_sync=true", 204),
        ("/api/v2/write?bucket=d&no_sync=1", 204),
    ] {
        let answer = write(&mut does_not, target, "cpu v=1 3");
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("x-peristyle-durability"), Some("memory"));
    }
    let answer = write(&mut does_not, "/write?db=d&no_sync=true", "cpu v=1 4\nbroken");
    assert_eq!((answer.status, answer.header("x-peristyle-durability")), (400, Some("memory")));
    assert!(waits.has_nothing_yet(), "its record is not synced");
    disk.set_closed(false);
    let answer = waits.answer();
    assert_eq!((answer.status, answer.header("x-peristyle-durability")), (204, Some("fsync")));
    let answer = write(&mut does_not, "/write?no_sync=perhaps", "cpu v=1");
    assert_eq!(answer.status, 400);
    // What was not waited for is journaled all the same.
    live.restart(|_| {});
    assert_eq!(live.rows("d").len(), 6);
}
