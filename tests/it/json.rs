//! JSON bodies into rows: shapes, the naive twin, and whatever is no JSON.

use peristyle::decode::cursor::Body;
use peristyle::decode::json::{self, Scratch};
use peristyle::decode::{Context, Precision, Report, line_protocol};
use peristyle::gather::Atomicity;
use peristyle::limits::Limits;
use peristyle::timestamp::Timestamp;
use proptest::prelude::*;

use crate::agree;
use crate::json_bodies as bodies;
use crate::msgpack_bodies::Random;
use crate::support::{Row, Shard};

/// 2023-11-14T22:13:20.123456789Z, the time of receipt in all tests.
const RECEIVED: Timestamp = Timestamp { us: 1_700_000_000_123_456, ns: 789 };
/// `1_700_000_000` seconds, in nanoseconds.
const T0: i128 = 1_700_000_000_000_000_000;

struct Decoded {
    rows: Vec<Row>,
    report: Report,
    chunk_count: usize,
}

impl Decoded {
    fn reasons(&self) -> Vec<String> {
        self.report.rejections.iter().map(|it| it.reason.to_string()).collect()
    }

    /// The rejected pieces of `body`.
    fn quotes<'b>(&self, body: &'b [u8]) -> Vec<&'b str> {
        let quote = |it: &peristyle::decode::Rejection| {
            std::str::from_utf8(body.get(it.start..it.end).unwrap()).unwrap()
        };
        self.report.rejections.iter().map(quote).collect()
    }
}

fn decode_with(body: &[u8], limits: &Limits, precision: Precision) -> Decoded {
    let mut shard = Shard::new();
    let mut report = Report::default();
    let context = Context { precision, received: RECEIVED, limits };
    let mut buffer = body.to_vec();
    shard.write(Atomicity::Rows, |database| {
        let scratch = &mut Scratch::default();
        json::decode(Body::new(&mut buffer), &context, scratch, database, &mut report);
    });
    buffer.truncate(body.len());
    assert_eq!(buffer, body, "the journal keeps the body as received");
    let chunks = shard.chunks();
    let rows = chunks
        .iter()
        .flat_map(|it| crate::support::rows_of(&it.measurement.name, &it.batch))
        .collect();
    let decoded = Decoded { rows, report, chunk_count: chunks.len() };
    assert_eq!(decoded.rows.len() as u64, decoded.report.accepted);
    decoded
}

fn decode(body: impl AsRef<[u8]>) -> Decoded {
    decode_with(body.as_ref(), &Limits::DEFAULT, Precision::Auto)
}

// The naive twin.

/// Measurement by measurement, in row order.
fn by_measurement(rows: Vec<Row>) -> Vec<String> {
    let mut rows = rows;
    rows.sort_by_key(|row| row.measurement.clone());
    rows.iter().map(|row| format!("{row:?}")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn any_body_gives_the_rows_of_the_naive_decoder(seed: u64) {
        agree::json(&bodies::body(&mut Random::new(seed)));
    }

    #[test]
    fn a_damaged_body_gives_the_rows_of_the_naive_decoder(seed: u64) {
        let mut random = Random::new(seed);
        let mut body = bodies::body(&mut random);
        bodies::damage(&mut body, &mut random);
        agree::json(&body);
    }

    #[test]
    fn noise_gives_the_rows_of_the_naive_decoder(body: Vec<u8>) {
        agree::json(&body);
    }

    #[test]
    fn noise_of_brackets_gives_the_rows_of_the_naive_decoder(
        body in "[\\[\\]{}:,\"\\\\nul1e.m \n-]{0,60}"
    ) {
        agree::json(body.as_bytes());
    }
}

// Vectors.

/// The rows of lines of line protocol.
fn lines(text: &str) -> Vec<Row> {
    let mut shard = Shard::new();
    let mut report = Report::default();
    let limits = &Limits::DEFAULT;
    let context = Context { precision: Precision::Nanosecond, received: RECEIVED, limits };
    let mut buffer = text.as_bytes().to_vec();
    shard.write(Atomicity::Rows, |database| {
        line_protocol::decode(Body::new(&mut buffer), &context, database, &mut report);
    });
    assert_eq!(report.rejected, 0, "{text}");
    shard.rows()
}

/// One piece of `vectors.txt`: what it shows, the body, the rows, and what is refused and why.
struct Vector<'a> {
    title: &'a str,
    body: String,
    rows: String,
    refused: Vec<&'a str>,
}

fn vectors(text: &str) -> Vec<Vector<'_>> {
    let mut vectors = Vec::new();
    for piece in text.split("## ").skip(1) {
        let (title, rest) = piece.split_once('\n').unwrap();
        let (mut body, mut rows, mut refused) = (String::new(), String::new(), Vec::new());
        for line in rest.trim_end().lines() {
            if let Some(row) = line.strip_prefix("=> ") {
                rows.extend([row, "\n"]);
            } else if let Some(refusal) = line.strip_prefix("!! ") {
                refused.push(refusal);
            } else {
                body.extend([line, "\n"]);
            }
        }
        vectors.push(Vector { title, body, rows, refused });
    }
    vectors
}

#[test]
fn every_vector_gives_its_rows_and_its_refusals() {
    let vectors = vectors(include_str!("../corpus/json/vectors.txt"));
    assert_eq!(vectors.len(), 31);
    for Vector { title, body, rows, refused } in &vectors {
        let decoded = decode(body);
        assert_eq!(by_measurement(decoded.rows.clone()), by_measurement(lines(rows)), "{title}");
        let found: Vec<String> = decoded
            .quotes(body.as_bytes())
            .iter()
            .zip(decoded.reasons())
            .map(|(quote, reason)| {
                let quote = quote.get(..40).unwrap_or(quote).trim_end().replace('\n', "\\n");
                format!("{quote} => {reason}")
            })
            .collect();
        assert_eq!(&found, refused, "{title}");
        agree::json(body.as_bytes());
        // The last line may end with the body.
        let cut = decode(body.trim_end());
        assert_eq!(by_measurement(cut.rows), by_measurement(decoded.rows), "{title}");
    }
}

/// simd-json's own words of a break are of no use to a client; ours name what had to stand there.
#[test]
fn a_break_says_what_had_to_stand_there() {
    for (body, expected) in [
        ("[1 2]", "expected ',' or ']', found '2' at byte 3"),
        ("{\"a\" 1}", "expected ':', found '1' at byte 5"),
        ("{\"a\":1,}", "expected a key, found '}' at byte 7"),
        ("{1:2}", "expected a key, ',' or '}', found '1' at byte 1"),
        ("[fals]", "expected false, found 'f' at byte 1"),
        ("[truE]", "expected true, found 't' at byte 1"),
        ("[nul]", "expected null, found 'n' at byte 1"),
        ("[01]", "expected a number, found '1' at byte 2"),
        ("[1.]", "expected a number, found ']' at byte 3"),
        ("[+1]", "expected a value, found '+' at byte 1"),
        ("[.5]", "expected a value, found '.' at byte 1"),
        ("[1", "expected the rest of the document, found the end at byte 2"),
        ("[\"a", "expected an end of the string, found '\\\"' at byte 1"),
        ("[\\\"a]", "expected a value, found '\\\\' at byte 1"),
        ("]", "expected a value, found ']' at byte 0"),
        ("[\u{e9}]", "expected a value, found '\\xc3' at byte 1"),
    ] {
        let decoded = decode(body);
        let last = decoded.reasons().pop().unwrap();
        assert_eq!(last, format!("not JSON: {expected}"), "{body}");
        agree::json(body.as_bytes());
    }
    let deep = "[".repeat(2_000_000);
    let reason = "not JSON: expected at most 1024 brackets in each other, found '[' at byte 1024";
    assert_eq!(decode(&deep).reasons(), [reason]);
}

/// Found by fuzzing: a word that only a value may be, as `NaN`, was taken for the key that stood in
/// its place, and the refusal named a column that nobody had sent, `aN:1}`.
#[test]
fn a_word_where_a_key_should_be_breaks_the_document() {
    for (body, expected) in [
        ("{\"m\":\"a\",\"fields\":{NaN:1}}", "a key, ',' or '}', found 'N' at byte 19"),
        ("{\"m\":\"a\",\"fields\":{\"v\":NaN,1e999 \n: 1}}", "a key, found '1' at byte 27"),
        ("{18446744073709551616:1}", "a key, ',' or '}', found '1' at byte 1"),
    ] {
        let reason = decode(body).reasons().pop().unwrap();
        assert_eq!(reason, format!("not JSON: expected {expected}"), "{body}");
        agree::json(body.as_bytes());
    }
    // Behind a colon it is a value, and in an array an item.
    for body in ["{\"m\":NaN:1}", "[NaN:\"a\"]", "[1e999,NaN :1]", "[{\"m\":[1e999]},NaN:1]"] {
        agree::json(body.as_bytes());
    }
}

#[test]
fn bytes_that_are_no_utf8_refuse_their_row_or_break_the_document() {
    let body = b"[{\"m\":\"a\",\"fields\":{\"s\":\"\xff\"}},{\"m\":\"a\",\"fields\":{\"\xe9\":1}},\
                 {\"m\":\"a\",\"fields\":{\"s\":\"\t\"}},\
                 {\"m\":\"a\",\"t\":1,\"fields\":{\"v\":1}},\xff]";
    let decoded = decode(body);
    assert_eq!(decoded.rows, lines("a v=1i 1000000000"));
    let reasons = [
        "expected UTF-8, found other bytes for \"s\" at byte 24",
        "expected UTF-8, found other bytes for \"\\xe9\" at byte 49",
        "expected an escaped control character, found a bare one for \"s\" at byte 80",
        "not JSON: expected a value, found '\\xff' at byte 119",
    ];
    assert_eq!(decoded.reasons(), reasons);
    agree::json(body);
}

#[test]
fn a_byte_order_mark_is_passed_over() {
    let body = b"\xef\xbb\xbf {\"m\":\"a\",\"t\":1,\"fields\":{\"v\":1}}";
    assert_eq!(decode(body).rows, lines("a v=1i 1000000000"));
    assert_eq!(decode(b"\xef\xbb\xbf\n").report.rejected, 0);
}

#[test]
fn a_precision_is_the_unit_of_numbers_and_of_nothing_else() {
    for (precision, unit_ns) in [
        (Precision::Nanosecond, 1_i128),
        (Precision::Microsecond, 1_000),
        (Precision::Millisecond, 1_000_000),
        (Precision::Second, 1_000_000_000),
        (Precision::Minute, 60_000_000_000),
        (Precision::Hour, 3_600_000_000_000),
    ] {
        for (time, count) in [("3", 3), ("-3", -3), ("100000", 100_000), ("7.0", 7), ("null", -1)] {
            let row = format!("{{\"m\":\"a\",\"t\":{time},\"fields\":{{\"v\":1}}}}");
            let columns = format!("{{\"m\":\"a\",\"columns\":{{\"time\":[{time}],\"v\":[1]}}}}");
            for body in [row, columns] {
                let decoded = decode_with(body.as_bytes(), &Limits::DEFAULT, precision);
                let expected =
                    if count < 0 && time == "null" { RECEIVED.as_ns() } else { count * unit_ns };
                assert_eq!(decoded.rows[0].time_ns, expected, "{time} {precision:?}");
            }
        }
        let text = br#"{"m":"a","t":"2023-11-14T22:13:20Z","fields":{"v":1}}"#;
        let decoded = decode_with(text, &Limits::DEFAULT, precision);
        assert_eq!(decoded.rows[0].time_ns, T0);
    }
    // The years are those of the column, and not those of 64 bits of nanoseconds.
    let year_3000 = br#"{"m":"a","t":32503680000,"fields":{"v":1}}"#;
    let decoded = decode_with(year_3000, &Limits::DEFAULT, Precision::Second);
    assert_eq!(decoded.rows[0].time_ns, 32_503_680_000_000_000_000);
    let beyond = br#"{"m":"a","t":9223372036854775807,"fields":{"v":1}}"#;
    let decoded = decode_with(beyond, &Limits::DEFAULT, Precision::Second);
    let reason = "expected a time in the years 1 to 9999, found another at byte 13";
    assert_eq!(decoded.reasons(), [reason]);
}

#[test]
fn a_tag_set_that_was_met_before_is_the_same_however_it_is_escaped() {
    let body = r#"
        {"m":"a","t":1,"tags":{"h":"x\\","g":"y"},"fields":{"v":1}}
        {"m":"a","t":2,"tags":{"h":"x\\","g":"y"},"fields":{"v":1}}
        {"m":"a","t":3,"tags":{"h":"x\"","g":"y\\"},"fields":{"v":1}}
        {"m":"a","t":4,"tags":{"h":"x\"","g":"y\""},"fields":{"v":1}}
        {"m":"a","t":5,"tags":{"h":"x\"","g":"y\\"},"fields":{"v":1}}
        {"m":"a","t":6,"tags":{"h":"x\\","g":"y"} ,"fields":{"v":1}}
        {"m":"a","t":7,"tags":{"h":"x\\","g":"y","f":"z"},"fields":{"v":1}}
        {"m":"a","t":8,"h":"w","tags":{"g":"y"},"fields":{"v":1}}
        {"m":"a","t":9,"h":"w","tags":{"g":"y"},"fields":{"v":1}}
        {"m":"a","t":10,"h":"w","fields":{"v":1}}
        {"m":"a","t":11,"h":"w","fields":{"v":1}}
        {"m":"a","t":12,"tags":{"g":"y"},"fields":{"v":1}}"#;
    let tags: Vec<String> = decode(body).rows.iter().map(|it| format!("{:?}", it.tags)).collect();
    let first = r#"{"g": "y", "h": "x\\"}"#;
    let expected = [
        first,
        first,
        r#"{"g": "y\\", "h": "x\""}"#,
        r#"{"g": "y\"", "h": "x\""}"#,
        r#"{"g": "y\\", "h": "x\""}"#,
        first,
        r#"{"f": "z", "g": "y", "h": "x\\"}"#,
        r#"{"g": "y", "host": "w"}"#,
        r#"{"g": "y", "host": "w"}"#,
        r#"{"host": "w"}"#,
        r#"{"host": "w"}"#,
        r#"{"g": "y"}"#,
    ];
    assert_eq!(tags, expected);
    agree::json(body.as_bytes());
}

#[test]
fn alternating_schemas_stay_in_one_chunk() {
    let mut body = String::new();
    for at in 0..1000 {
        body.push_str(match at % 2 {
            0 => "{\"m\":\"a\",\"columns\":{\"a\":[1.0,2.0],\"b\":[1,2]}}\n",
            _ => "{\"m\":\"a\",\"fields\":{\"c\":\"x\",\"a\":3.0}}\n",
        });
    }
    let decoded = decode(&body);
    assert_eq!((decoded.rows.len(), decoded.chunk_count), (1500, 1));
    assert_eq!(decoded.report.rejected, 0);
}

/// Rows that are refused are looked for from the last one on; from the beginning each, these
/// bodies would take minutes.
#[test]
fn a_body_of_nothing_but_refused_rows_is_read_once() {
    let row = "{\"m\":\"a\",\"fields\":{\"v\":[1]}}";
    let rows = vec![row; 50_000].join(",");
    let batch = format!("{{\"metrics\":[{rows}]}}");
    assert_eq!(decode(&batch).report.rejected, 50_000);
    let values = vec!["[1],1e999"; 50_000].join(",");
    let columns = format!("{{\"m\":\"a\",\"columns\":{{\"v\":[{values}]}}}}");
    assert_eq!(decode(&columns).report.rejected, 100_000);
    for body in
        ["{\n", "[1,\n", "[\"a\",\n", "\"\n", "{\"a\":\n", "[[[[1,\n", "{}{}", "{\"m\":1e999}"]
    {
        let decoded = decode(body.repeat(50_000));
        assert_eq!(decoded.report.accepted, 0);
        assert!(decoded.report.rejected > 0, "{body}");
    }
}

/// The indented blocks of a page.
fn blocks(page: &str) -> Vec<String> {
    let mut blocks = vec![String::new()];
    for line in page.lines() {
        if let Some(text) = line.strip_prefix("    ") {
            blocks.last_mut().unwrap().extend([text, "\n"]);
        } else if !blocks.last().unwrap().is_empty() {
            blocks.push(String::new());
        }
    }
    blocks.retain(|block| !block.is_empty());
    blocks
}

#[test]
fn the_bodies_of_the_documentation_give_the_rows_behind_them() {
    let blocks = blocks(include_str!("../../schemas/wire/json.md"));
    assert_eq!(blocks.len(), 14);
    for [body, rows] in blocks.as_chunks::<2>().0 {
        let decoded = decode(body);
        assert_eq!(by_measurement(decoded.rows), by_measurement(lines(rows)), "{body}");
        let broken = usize::from(
            body.ends_with("{\"v\"\n{\"m\": \"a\", \"t\": 2, \"fields\": {\"v\": 2}}\n"),
        );
        assert_eq!(decoded.report.rejections.len(), broken, "{body}");
    }
}

/// A document that is no JSON may have as many words as others have marks: they are counted too.
#[test]
fn words_are_counted_as_marks_are() {
    let limits = Limits { json_marks_max: 100, ..Limits::DEFAULT };
    for (words, is_refused) in [(99, false), (100, false), (101, true)] {
        let body = format!("[{}", " 1".repeat(words));
        let decoded = decode_with(body.as_bytes(), &limits, Precision::Auto);
        let last = decoded.reasons().pop().unwrap();
        assert_eq!(last.contains("at most 100 punctuation marks"), is_refused, "{words} {last}");
    }
    // Documents are counted one by one.
    let rows = "{\"m\":\"a\",\"fields\":{\"v\":1}}";
    for separator in ["\n", "", " "] {
        let body = vec![rows; 100].join(separator);
        let decoded = decode_with(body.as_bytes(), &limits, Precision::Auto);
        assert_eq!(decoded.report.accepted, 100, "{:?}", decoded.reasons());
    }
}
