//! The line-protocol decoder beside its naive twin, and what a body's lines may not do to others.

#![expect(clippy::indexing_slicing, reason = "positions are taken modulo the length")]

use peristyle::decode::Precision;
use peristyle::limits::Limits;
use peristyle::schema::Unsigned;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::agree;
use crate::lines::{fast, naive, outcome, write, write_within};
use crate::support::Shard;

/// The bodies, one after the other into one shard, give what the naive decoder says.
fn check(bodies: &[Vec<u8>], precision: Precision) {
    let bodies: Vec<_> = bodies.iter().map(|body| (body.clone(), false)).collect();
    agree::lines(&bodies, precision);
}

const PRECISIONS: [Precision; 4] =
    [Precision::Auto, Precision::Nanosecond, Precision::Second, Precision::Hour];

/// Pieces of lines, the bytes that mean something among them.
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
        b"b",
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
        b"\t",
        b"\0",
        b"\xff",
        b"\xc3\xa9",
        b"m,a=b f=1",
        b"m f=1i 1\n",
        b"\nm a=",
        b"f=\"",
        b"\"\n",
        b" f=t",
        b"time=",
        b"NaN",
        b"\\\\",
        b"\\ ",
        b"a=,",
        b"=1u,",
    ];
    prop::collection::vec(select(pieces), 0..40).prop_map(|pieces| pieces.concat())
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => any::<i64>().prop_map(|it| format!("{it}i")),
        3 => (-999..999_i64).prop_map(|it| format!("{it}i")),
        2 => any::<u64>().prop_map(|it| format!("{it}u")),
        3 => any::<f64>().prop_map(|it| it.to_string()),
        3 => (-99_999..99_999_i32).prop_map(|it| (f64::from(it) / 100.0).to_string()),
        1 => any::<f64>().prop_map(|it| format!("{it:e}")),
        2 => select(vec!["t", "F", "true", "False", "TRUE"]).prop_map(str::to_owned),
        4 => "[a-z ,=#\\n\u{e9}]{0,9}(\\\\[\"\\\\nx])?[a-z\\n]{0,3}"
            .prop_map(|it| format!("\"{it}\"")),
    ]
}

/// Points that are line protocol, unless a name comes twice. Names tell what they hold, mostly.
fn point() -> impl Strategy<Value = String> {
    let key = "[a-h\u{e9}\"]{1,3}(\\\\[, =\\\\q])?[a-z]{0,2}";
    let tag = ("t[a-d]{1,2}(\\\\[, =])?x?", "[a-d=\"]{0,3}(\\\\[, =\\\\n])?[a-z]{1,2}");
    (
        "(cpu|mem|[a-z]{1,3}(\\\\[, \\\\=])?[a-z])",
        prop::collection::vec(tag, 0..5),
        prop::collection::vec((key, value()), 1..6),
        prop::option::of(-9_000_000_000..9_000_000_000_i64),
        select(vec!["", " ", "\r", " \r"]),
        select(vec![" ", "  "]),
    )
        .prop_map(|(measurement, tags, fields, time, end, gap)| {
            let tags: Vec<String> =
                tags.iter().map(|(key, value)| format!(",{key}={value}")).collect();
            let tags = tags.concat();
            let fields: Vec<String> = fields.iter().map(|(k, v)| format!("{k}={v}")).collect();
            let time = time.map(|it| format!("{gap}{it}")).unwrap_or_default();
            format!("{measurement}{tags}{gap}{}{time}{end}", fields.join(","))
        })
}

/// Bodies of a few points that come again and again, and damage to some of the bytes.
fn bodies() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let damage = (any::<Index>(), select(b",= \\\"\n\r#abm019.-eiut\t\0\xff".as_slice()), 0..3_u8);
    let body = (prop::collection::vec(any::<Index>(), 1..12), prop::collection::vec(damage, 0..4));
    (prop::collection::vec(point(), 1..5), prop::collection::vec(body, 1..4)).prop_map(
        |(points, bodies)| {
            let body = |(picks, damages): &(Vec<Index>, Vec<(Index, u8, u8)>)| {
                let lines: Vec<&str> =
                    picks.iter().map(|it| points[it.index(points.len())].as_str()).collect();
                let mut body = lines.join("\n").into_bytes();
                for (at, byte, how) in damages {
                    let at = at.index(body.len());
                    match how {
                        0 => body[at] = *byte,
                        1 => body.insert(at, *byte),
                        _ if body.len() > 1 => drop(body.remove(at)),
                        _ => {}
                    }
                }
                body
            };
            bodies.iter().map(body).collect()
        },
    )
}

proptest! {
    #[test]
    fn any_soup_gives_what_the_naive_decoder_says(
        bodies in prop::collection::vec(soup(), 1..3),
        precision in select(PRECISIONS.as_slice()),
    ) {
        check(&bodies, precision);
    }

    #[test]
    fn any_points_give_what_the_naive_decoder_says(
        bodies in bodies(),
        precision in select(PRECISIONS.as_slice()),
    ) {
        check(&bodies, precision);
    }

    #[test]
    fn any_split_into_bodies_gives_the_same_rows(
        points in prop::collection::vec(point(), 1..12),
        ends in prop::collection::vec(any::<bool>(), 12),
    ) {
        let mut whole = Shard::new();
        let mut report = write(&mut whole, points.join("\n").as_bytes(), Precision::Nanosecond);
        let whole = outcome(&mut whole, &report);
        let mut split = Shard::new();
        let mut body = String::new();
        report.accepted = 0;
        report.rejected = 0;
        report.rejections.clear();
        for (index, (point, end)) in points.iter().zip(ends).enumerate() {
            body.push_str(point);
            body.push('\n');
            if end || index + 1 == points.len() {
                let part = write(&mut split, body.as_bytes(), Precision::Nanosecond);
                report.accepted += part.accepted;
                body.clear();
            }
        }
        prop_assert_eq!(outcome(&mut split, &report).rows, whole.rows);
    }
}

#[test]
fn a_body_of_unterminated_strings_is_read_in_linear_time() {
    // Every line opens a string that the next one closes, so none of them ever ends: looking for
    // the end of each would read the body once per line.
    let body = format!("m f=\"{}", "\n\" f=\"".repeat(200_000));
    let (found, expected) = (
        fast(body.as_bytes(), Precision::Nanosecond),
        naive(body.as_bytes(), Precision::Nanosecond),
    );
    assert_eq!(found.rejections.len(), expected.rejections.len());
    assert_eq!(found.rejections, expected.rejections);
}

#[test]
fn a_line_of_invalid_utf8_costs_only_itself() {
    let body = b"m f=1 1\nm,a=\xff f=2 2\nm f=3 3\nm f=\"\xc3\" 4\n# \xff\nm f=5 5";
    let outcome = fast(body, Precision::Nanosecond);
    let times: Vec<i128> = outcome.rows.iter().map(|row| row.time_ns).collect();
    assert_eq!(times, [1, 3, 5]);
    let invalid = "invalid UTF-8".to_owned();
    assert_eq!(outcome.rejections, [(2, invalid.clone()), (4, invalid)]);
}

/// Lines of one table whose tags and fields come in any order, some left out, some twice, some of
/// another kind.
fn unordered_lines() -> impl Strategy<Value = Vec<u8>> {
    let tag = (0..4_u8, 0..5_u8).prop_map(|(name, value)| format!(",tag_{name}=v{value}"));
    let value = select(vec!["1i", "2i", "2.5", "t", "\"a,b =\"", "x"]);
    let values = prop_oneof![19 => Just("7i"), 1 => value];
    let names = Just((0..12).collect::<Vec<u8>>()).prop_shuffle();
    let fields = (names, 1..12_usize, proptest::collection::vec(values, 12), 0..40_u8);
    let line = (proptest::collection::vec(tag, 0..4), fields).prop_map(|(tags, fields)| {
        let (names, count, values, twice) = fields;
        let field = |(name, value): (&u8, &&str)| format!("field_{name}={value}");
        let mut fields: Vec<String> = names.iter().zip(&values).take(count).map(field).collect();
        if twice == 0 {
            fields.push(fields[0].clone());
        }
        format!("cpu{} {} 1\n", tags.concat(), fields.join(","))
    });
    proptest::collection::vec(line, 150).prop_map(|lines| lines.concat().into_bytes())
}

/// Lines of one table with new series among them: tags usually in one order, now and then in
/// another or twice, with values that begin as others do, with or without escapes.
fn series() -> impl Strategy<Value = Vec<u8>> {
    let long = "a_value_that_is_longer_than_a_window_of_the_body";
    let values = vec!["a", "ab", "ab=c", "ab\\ c", "ab\\,c", "ab\\\\", "\u{e9}", "", long];
    let tag = (0..40_u8, 0..5_usize, select(values));
    let line = (proptest::collection::vec(tag, 4), 0..5_usize).prop_map(|(tags, count)| {
        let tag = |(place, (chance, other, value)): (usize, &(u8, usize, &str))| {
            format!(",t{}={value}", if *chance == 0 { *other } else { place })
        };
        let tags: Vec<String> = tags.iter().enumerate().take(count).map(tag).collect();
        format!("cpu{} f=1i 1\n", tags.concat())
    });
    proptest::collection::vec(line, 100).prop_map(|lines| lines.concat().into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn lines_without_an_order_of_keys_give_what_the_naive_decoder_says(body in unordered_lines()) {
        check(&[body.clone(), body], Precision::Nanosecond);
    }

    #[test]
    fn tags_that_change_from_line_to_line_give_what_the_naive_decoder_says(body in series()) {
        check(&[body.clone(), body], Precision::Nanosecond);
    }
}

#[test]
fn more_series_than_a_block_holds_are_told_apart() {
    let line = |it: u32| format!("cpu,a={},b={},c={it},d=x f={it}i 1\n", it % 7, it % 1_000);
    let body: String = (0..40_000).map(line).collect();
    check(&[body.clone().into_bytes(), body.into_bytes()], Precision::Nanosecond);
}

#[test]
fn line_numbers_are_physical() {
    let body = b"\n# c\nm f=\"a\nb\" 1\n\nbad\r\n\r\nm,t=a\\\nb f=1\nbad";
    let outcome = fast(body, Precision::Nanosecond);
    let lines: Vec<u64> = outcome.rejections.iter().map(|it| it.0).collect();
    assert_eq!(lines, [6, 8, 10]);
}

#[test]
fn left_out_fields_are_counted() {
    let mut shard = Shard::new();
    let body = b"m f=NaN,g=1\nm time=1,g=2\nm f=-inf\nm time=1,time=2,g=3\nm f=NaN,f=1";
    let report = write(&mut shard, body, Precision::Nanosecond);
    assert_eq!((report.accepted, report.rejected, report.dropped_fields), (2, 3, 2));
    let reasons: Vec<String> = report.rejections.iter().map(|it| it.reason.to_string()).collect();
    assert_eq!(
        reasons,
        ["no usable field left", "duplicate field \"time\"", "duplicate field \"f\""]
    );
}

#[test]
fn a_rejection_tells_where_its_line_is() {
    let mut shard = Shard::new();
    let body = b"m f=1\n  bad line\r\nm f=2";
    let report = write(&mut shard, body, Precision::Nanosecond);
    let rejection = &report.rejections[0];
    assert_eq!(&body[rejection.start..rejection.end], b"bad line");
}

/// Limits small enough to reach.
const SMALL: Limits =
    Limits { name_bytes_max: 8, string_bytes_max: 10, line_bytes_max: 40, ..Limits::DEFAULT };

fn reasons_within_small_limits(line: &str) -> Vec<String> {
    let mut shard = Shard::with(SMALL, Unsigned::Decimal, Vec::new());
    // The second and third time the table, then the series and keys are known.
    let body = format!("{line}\n{line}\n{line}");
    let report = write_within(&mut shard, body.as_bytes(), Precision::Nanosecond, &SMALL);
    report.rejections.iter().map(|it| it.reason.to_string()).collect()
}

#[test]
fn limits_of_a_line_are_exact() {
    type Make = fn(usize) -> String;
    let cases: [(Make, usize, &str); 5] = [
        (|n| format!("{} f=1", "m".repeat(n)), 8, "name or tag value too long: 9 bytes"),
        (|n| format!("m,{}=b f=1", "a".repeat(n)), 8, "name or tag value too long: 9 bytes"),
        (|n| format!("m,a={} f=1", "b".repeat(n)), 8, "name or tag value too long: 9 bytes"),
        (|n| format!("m f=\"{}\"", "s".repeat(n)), 10, "string field too long: 11 bytes"),
        (|n| format!("m f=1 {}", "0".repeat(n - 6)), 40, "line too long: 41 bytes"),
    ];
    for (line, max, reason) in cases {
        for at_most in [max - 1, max] {
            assert_eq!(reasons_within_small_limits(&line(at_most)), [""; 0], "{at_most}");
        }
        assert_eq!(reasons_within_small_limits(&line(max + 1)), [reason; 3]);
    }
}
