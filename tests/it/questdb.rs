//! QuestDB's clients: their line protocol beside its naive twin, their requests, and the replay of
//! these.

#![expect(clippy::indexing_slicing, reason = "positions are taken modulo the length")]

use peristyle::decode::Precision;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use simd_json::prelude::*;

use crate::agree;
use crate::http_client::Answer;
use crate::lines::write_questdb;
use crate::live::{Live, read_rows};
use crate::restart::{killed, recover};
use crate::support::{Row, Shard, Value};

const AGENT: &str = "User-Agent: questdb/python/3.0.0\r\n";

fn soup() -> impl Strategy<Value = Vec<u8>> {
    let pieces: &[&[u8]] = &[
        b",",
        b" ",
        b"=",
        b"\\",
        b"\"",
        b"\n",
        b"\r",
        b"#",
        b"a",
        b"m",
        b"0",
        b"1",
        b"9",
        b".",
        b"-",
        b"e",
        b"i",
        b"u",
        b"t",
        b"n",
        b"\t",
        b"\xff",
        b"\xc3\xa9",
        b"m,a=b 1",
        b"m,a=b\n",
        b"m,a=b f=1t 1t\n",
        b"\nm a=",
        b"f=\"",
        b"\"\n",
        b" f=T",
        b"time=",
        b"NaN",
        b"-Infinity",
        b"\\\\",
        b"\\ ",
        b"\\\n",
        b"\\\xc3\xa9",
        b"a=,",
        b"=1000n,",
        b"=1m",
        b"==\x10abcdefgh",
    ];
    prop::collection::vec(select(pieces), 0..40).prop_map(|pieces| pieces.concat())
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => any::<i64>().prop_map(|it| format!("{it}i")),
        3 => any::<f64>().prop_map(|it| it.to_string()),
        2 => select(vec!["t", "F", "tRuE", "NaN", "Infinity", "-Infinity", "", "inf", "nil"])
            .prop_map(str::to_owned),
        3 => (-9_999_999_i64..9_999_999, select(vec!["t", "m", "n", "000n", "i"]))
            .prop_map(|(it, unit)| format!("{it}{unit}")),
        1 => (any::<i64>(), select(vec!["t", "m", "n"]))
            .prop_map(|(it, unit)| format!("{it}{unit}")),
        4 => "[a-z ,=#\\n\u{e9}]{0,9}(\\\\[\"\\\\nx\\n\\r\u{e9}])?[a-z\\n]{0,3}"
            .prop_map(|it| format!("\"{it}\"")),
    ]
}

fn point() -> impl Strategy<Value = String> {
    let key = "[a-h\u{e9}]{1,3}(\\\\[, =\\\\q\\n\u{e9}])?[a-z]{0,2}";
    let tag = ("t[a-d]{1,2}(\\\\[, =\\n])?x?", "[a-d=\"]{0,3}(\\\\[, =\\\\n\\n\u{e9}])?[a-z]{0,2}");
    let time = (any::<i32>(), select(vec!["", "", "t", "n", "m", "x"]));
    (
        "(cpu|mem|[a-z]{1,3}(\\\\[, \\\\=q])?[a-z])",
        prop::collection::vec(tag, 0..4),
        prop::collection::vec((key, value()), 0..5),
        prop::option::of(time),
        select(vec!["", " ", "\r"]),
    )
        .prop_map(|(measurement, tags, fields, time, end)| {
            let tags: Vec<String> = tags.iter().map(|(k, v)| format!(",{k}={v}")).collect();
            let tags = tags.concat();
            let fields: Vec<String> = fields.iter().map(|(k, v)| format!("{k}={v}")).collect();
            let gap = if fields.is_empty() { "" } else { " " };
            let time = time.map(|(it, unit)| format!(" {it}{unit}")).unwrap_or_default();
            format!("{measurement}{tags}{gap}{}{time}{end}", fields.join(","))
        })
}

/// Bodies of a few points that come again and again, some in the other dialect.
fn bodies() -> impl Strategy<Value = Vec<(Vec<u8>, bool)>> {
    let body = (prop::collection::vec(any::<Index>(), 1..12), any::<bool>());
    (prop::collection::vec(point(), 1..5), prop::collection::vec(body, 1..5)).prop_map(
        |(points, bodies)| {
            let body = |(picks, is_questdb): &(Vec<Index>, bool)| {
                let lines: Vec<&str> =
                    picks.iter().map(|it| points[it.index(points.len())].as_str()).collect();
                (lines.join("\n").into_bytes(), *is_questdb)
            };
            bodies.iter().map(body).collect()
        },
    )
}

const PRECISIONS: [Precision; 3] =
    [Precision::Nanosecond, Precision::Microsecond, Precision::Second];

proptest! {
    #[test]
    fn any_soup_gives_what_the_naive_decoder_says(
        bodies in prop::collection::vec((soup(), any::<bool>()), 1..3),
        precision in select(PRECISIONS.as_slice()),
    ) {
        agree::lines(&bodies, precision);
    }

    #[test]
    fn any_points_give_what_the_naive_decoder_says(
        bodies in bodies(),
        precision in select(PRECISIONS.as_slice()),
    ) {
        agree::lines(&bodies, precision);
    }
}

fn post(live: &Live, target: &str, body: &[u8]) -> Answer {
    live.client().request("POST", target, AGENT, body)
}

/// What the client libraries write, in each of their forms.
const BODY: &[u8] = b"trades,symbol=ETH-USD,side=sell price=2615.54,amount=0.00044 \
    1646762637609765000\n\
    trades,symbol=BTC-USD at=1646762637609765t,ok=t,n=-5i,note=\"a\\\nb \\\"q\\\" \\\\\" \
    1646762637710419000\n\
    symbols\\ only,a\\\n1=x\\,y 1646762637710419000\n\
    nothing,s=a v=,w=1 1646762637710419t\n\
    doubles a=NaN,b=Infinity,c=-Infinity 1646762637710n\n";

fn expected() -> Vec<Row> {
    let text = |text: &str| Value::Str(text.to_owned());
    let row = |measurement: &str, time_ns, tags: &[(&str, &str)], fields: &[(&str, Value)]| Row {
        measurement: measurement.to_owned(),
        time_ns,
        tags: tags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        fields: fields.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect(),
    };
    let at = 1_646_762_637_710_419_000;
    let doubles = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY].map(Value::Float);
    let [nan, plus, minus] = doubles;
    vec![
        row("doubles", 1_646_762_637_710, &[], &[("a", nan), ("b", plus), ("c", minus)]),
        row("nothing", at, &[("s", "a")], &[("w", Value::Float(1.0))]),
        row("symbols only", at, &[("a\n1", "x,y")], &[]),
        row(
            "trades",
            1_646_762_637_609_765_000,
            &[("symbol", "ETH-USD"), ("side", "sell")],
            &[("price", Value::Float(2615.54)), ("amount", Value::Float(0.00044))],
        ),
        row(
            "trades",
            at,
            &[("symbol", "BTC-USD")],
            &[
                ("at", Value::Time(1_646_762_637_609_765)),
                ("ok", Value::Bool(true)),
                ("n", Value::Int(-5)),
                ("note", text("a\nb \"q\" \\")),
            ],
        ),
    ]
}

#[test]
fn what_its_clients_write_is_stored_as_they_mean_it() {
    let live = Live::start();
    let answer = post(&live, "/write?precision=n", BODY);
    assert_eq!((answer.status, answer.body.as_str()), (204, ""));
    assert_eq!(live.rows("default"), expected());
    // Other clients say the same with another meaning, or do not say it.
    assert_eq!(live.client().request("POST", "/write?db=other", "", BODY).status, 400);
}

/// Built from a record that said plain line protocol, half of these rows would be others, and half
/// refused: the start would stop with an error.
#[test]
fn a_replay_reads_the_dialect_in_which_a_body_was_sent() {
    let live = Live::start();
    assert_eq!(post(&live, "/write?precision=n", BODY).status, 204);
    assert_eq!(live.post("/write?db=default", "plain,a=b\\q v=1 1").status, 204);
    let copy = killed(&live);
    recover(&copy, |_| {});
    let rows = read_rows(copy.path(), "default");
    let plain = rows.iter().position(|row| row.measurement == "plain").expect("it is there");
    assert_eq!(rows[plain].tags["a"], "b\\q");
    let rows: Vec<Row> = rows.into_iter().filter(|row| row.measurement != "plain").collect();
    assert_eq!(rows, expected());
}

fn json(answer: &Answer) -> simd_json::OwnedValue {
    let mut text = answer.body.clone().into_bytes();
    simd_json::to_owned_value(&mut text).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}

#[test]
fn one_bad_line_rolls_the_whole_request_back() {
    let live = Live::start();
    let bad = b"trades,a=b v=1 1\ntrades,a=b v=oops 2\n\ntrades v=\"x\" 3\ntrades v=1 1.5\n";
    for target in ["/write?precision=n", "/write?precision=n&accept_partial=true"] {
        let answer = post(&live, target, bad);
        assert_eq!(answer.status, 400);
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let body = json(&answer);
        let text = "failed to parse line protocol:errors encountered on line(s):\n\
                    error in line 2: invalid field value\n\
                    error in line 4: field type conflict: input field \"v\" on measurement \
                    \"trades\" is type string, already exists as type float\n\
                    error in line 5: invalid timestamp";
        assert_eq!(body["message"].as_str(), Some(text));
        assert_eq!(body["code"].as_str(), Some("invalid"));
        assert_eq!(body["line"].as_u64(), Some(2));
        let id = body["errorId"].as_str().expect("an id");
        assert!(id.contains('-'), "{id}");
        assert_eq!(body["error"], body["message"]);
    }
    assert!(live.rows("default").is_empty());
    assert_eq!(post(&live, "/write", b"trades,a=b v=1 1\n").status, 204);
    assert_eq!(live.rows("default").len(), 1);
}

#[test]
fn its_clients_are_told_in_its_shape_whatever_goes_wrong() {
    let live = Live::start_with(|options| options.limits.body_bytes_max = 1_000);
    let many = b"t v=\n t\n".repeat(100);
    for (target, body, status, code) in [
        ("/write?precision=x", &b"t v=1"[..], 400, "invalid"),
        ("/write", &many, 400, "invalid"),
        ("/write", &[b'#'; 1_001], 413, "request too large"),
    ] {
        let answer = post(&live, target, body);
        assert_eq!(answer.status, status);
        let told = json(&answer);
        assert_eq!(told["code"].as_str(), Some(code));
        assert!(told["message"].as_str().is_some_and(|it| it.lines().count() <= 12), "{told}");
        assert!(told["errorId"].as_str().is_some());
    }
    assert_eq!(post(&live, "/write", b"").status, 204);
    // Elsewhere, and for others, the dialect is that of the endpoint.
    assert_eq!(post(&live, "/api/v3/write_lp", b"t v=1\n").status, 204);
    assert_eq!(post(&live, "/api/v1/write", b"t,s=a 5\n").status, 400);
}

#[test]
fn a_binary_value_is_named_as_such() {
    let live = Live::start();
    let mut double = b"t v=1 1\nt,s=a a=1,v==\x10".to_vec();
    double.extend(2.5_f64.to_le_bytes());
    double.extend(b" 5\nt v=1 1\n");
    // Bytes that look like the end of a line, the beginning of a string, and no UTF-8.
    let strange = b"t v==\x10\n\n\"\xff\\\n\"\" 5\nt v=1 1\n";
    let array = b"t v==\x0e\x0a\x01\x01\0\0\0abcdefgh 5\n";
    for (body, line) in [(&double[..], 2), (strange, 1), (array, 1)] {
        let answer = post(&live, "/write", body);
        assert_eq!(answer.status, 400);
        let text = format!(
            "failed to parse line protocol:errors encountered on line(s):\nerror in line {line}: \
             expected text, found a binary value (set the client's protocol_version to 1)"
        );
        assert_eq!(json(&answer)["message"].as_str(), Some(text.as_str()));
    }
}

/// A row that only the columns refuse, before it, once kept a binary value from being named.
#[test]
fn a_binary_value_is_named_behind_a_kind_conflict_too() {
    let plain = b"\nm a=t".to_vec();
    agree::lines(
        &[(plain, false), (b"m,a=b\n==\x10abcdefgh".to_vec(), true)],
        Precision::Nanosecond,
    );
}

#[test]
fn a_column_named_time_and_digits_below_a_microsecond_are_refused_by_name() {
    let live = Live::start();
    for (body, text) in [
        ("t time=1,v=2 1\n", "reserved field key \"time\""),
        ("t,time=a v=2 1\n", "reserved tag key \"time\""),
        ("t v=1001n 1\n", "is type time"),
        ("t v= 1\n", "no usable field left"),
    ] {
        let answer = post(&live, "/write", body.as_bytes());
        assert_eq!(answer.status, 400);
        let told = json(&answer);
        assert!(told["message"].as_str().is_some_and(|it| it.contains(text)), "{told}");
    }
}

/// A chain of escaped line feeds behind each of many refused lines: looking for binary values in
/// each of them would read the body once per line.
#[test]
fn a_body_of_bad_lines_is_read_in_linear_time() {
    let body = format!("m f=\"{}", "\\\n\" f=\"".repeat(200_000));
    let report = write_questdb(&mut Shard::new(), body.as_bytes(), Precision::Nanosecond);
    assert_eq!((report.accepted, report.rejected), (0, 200_001));
}
