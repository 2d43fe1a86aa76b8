//! Limits that a body can reach: one below, at, and one above.
//!
//! | limit                     | where it is tried                                                 |
//! |---------------------------|-------------------------------------------------------------------|
//! | `body_bytes_max`          | `http.rs`, `the_body_limit_holds_to_the_byte`                     |
//! | `inflated_bytes_max`      | `http.rs`, `the_limit_of_an_inflated_body_holds_to_the_byte`      |
//! | `inflate_free_bytes`      | `inflate.rs`, `a_small_body_may_have_any_ratio`                   |
//! | `inflate_ratio_max`       | `inflate.rs`, `the_ratio_holds_to_the_byte`                       |
//! | `zstd_ratio_max`          | `inflate.rs`, `the_ratio_holds_to_the_byte`                       |
//! | `zstd_window_log_max`     | `inflate.rs`, `a_window_above_the_limit_is_refused`               |
//! | `name_bytes_max`          | `CASES`; line protocol: `line_protocol.rs`, `limits_of_a_line_...` |
//! | `string_bytes_max`        | `CASES`; line protocol: `line_protocol.rs`, `limits_of_a_line_...` |
//! | `line_bytes_max`          | `line_protocol.rs`, `limits_of_a_line_are_exact`                  |
//! | `columns_per_table_max`   | `CASES`                                                           |
//! | `tables_per_database_max` | `CASES`                                                           |
//! | `days_per_body_max`       | `CASES`; whole rows of Arrow: `days_of_whole_rows_are_counted`    |
//! | `databases_max`           | `a_database_too_many_is_refused_however_it_is_named`              |
//! | `msgpack_depth_max`       | `CASES`; by its default: `msgpack.rs`                             |
//! | `json_depth_max`          | `CASES`                                                           |
//! | `json_marks_max`          | `CASES`                                                           |
//! | `reported_errors_max`     | `rows_beyond_the_reported_ones_are_counted`                       |
//! | `rejected_per_second_max` | `rejected.rs` `a_shard_keeps_so_many_in_a_second`                   |
//! | `series_per_table_max`    | `a_cache_that_starts_afresh_changes_no_row`                       |
//! | `series_cache_bytes_max`  | `a_cache_that_starts_afresh_changes_no_row`                       |
//! | `rows_per_chunk`          | `a_chunk_is_sealed_at_the_end_of_the_body_that_fills_it`          |
//! | `connections_max`         | `connections.rs` `the_connection_that_waits_longest_gives_way`    |
//! | `connections_per_address_max` | `connections.rs` `an_address_makes_room_for_its_own`              |
//! | `head_bytes_max`          | `connections.rs` `a_head_is_bounded`                              |
//! | `header_list_bytes_max`   | `connections.rs` `a_head_is_bounded`                              |
//! | `streams_max`             | `connections.rs` `streams_at_once_are_bounded`                    |
//! | `resets_max`              | `connections.rs` `streams_that_are_opened_and_reset_end_the_connection` |
//! | `body_rate_min`           | `connections.rs` `a_body_is_timed_by_its_pauses_its_rate_and_its_whole` |

use std::fmt::Write;
use std::sync::Arc;

use peristyle::decode::cursor::Body;
use peristyle::decode::{Context, Format, Precision, Report, json, line_protocol, msgpack};
use peristyle::gather::Atomicity;
use peristyle::limits::Limits;
use peristyle::schema::Unsigned;
use rmpv::Value as Tree;

use crate::json_bodies;
use crate::lines::received;
use crate::live::{Live, read_rows};
use crate::msgpack_bodies::{array, encode, map};
use crate::restart;
use crate::support::Shard;

/// Limits small enough to reach, of short names and of names beyond a window of prediction.
const SMALL: [Limits; 2] = [
    Limits {
        name_bytes_max: 8,
        string_bytes_max: 10,
        columns_per_table_max: 4,
        tables_per_database_max: 3,
        days_per_body_max: 3,
        msgpack_depth_max: 5,
        json_depth_max: 6,
        json_marks_max: 200,
        ..Limits::DEFAULT
    },
    Limits {
        name_bytes_max: 40,
        string_bytes_max: 300,
        columns_per_table_max: 70,
        tables_per_database_max: 20,
        days_per_body_max: 40,
        msgpack_depth_max: 9,
        json_depth_max: 12,
        json_marks_max: 1_000,
        ..Limits::DEFAULT
    },
];

fn shard(limits: Limits) -> Shard {
    Shard::with(limits, Unsigned::Decimal, Vec::new())
}

fn write(shard: &mut Shard, format: Format, body: &[u8]) -> Report {
    let limits = *shard.registry.limits();
    let context =
        Context { precision: Precision::Nanosecond, received: received(), limits: &limits };
    let mut report = Report::default();
    let mut buffer = body.to_vec();
    shard.write(Atomicity::Rows, |database| {
        let body = Body::new(&mut buffer);
        match format {
            Format::Arrow => unreachable!("its limits are in arrow.rs"),
            Format::Json => {
                let scratch = &mut json::Scratch::default();
                json::decode(body, &context, scratch, database, &mut report);
            }
            Format::LineProtocol => line_protocol::decode(body, &context, database, &mut report),
            Format::MessagePack => msgpack::decode(body, &context, database, &mut report),
            Format::QuestDb => {
                line_protocol::decode_questdb(body, &context, database, &mut report);
            }
        }
    });
    report
}

/// A way to reach a limit.
struct Case {
    name: &'static str,
    format: Format,
    max: fn(&Limits) -> usize,
    /// Something that is `n` large, and its rows.
    piece: fn(n: usize) -> (Vec<u8>, u64),
    /// Rows refused of one that is one above the limit.
    refused: u64,
    /// What the reason begins with, by the limit.
    reason: fn(max: usize) -> String,
}

const LINES: Case = Case {
    name: "",
    format: Format::LineProtocol,
    max: |limits| limits.columns_per_table_max,
    piece: |_| (Vec::new(), 0),
    refused: 1,
    reason: |max| format!("too many columns: the measurement has {max}"),
};

const NAME: Case = Case {
    format: Format::MessagePack,
    max: |limits| limits.name_bytes_max,
    reason: |max| format!("name or tag value too long: {} bytes", max + 1),
    ..LINES
};

const STRING: Case = Case {
    max: |limits| limits.string_bytes_max,
    reason: |max| format!("string field too long: {} bytes", max + 1),
    ..NAME
};

const COLUMNS: Case = Case { format: Format::MessagePack, ..LINES };

const TABLES: Case = Case {
    max: |limits| limits.tables_per_database_max,
    reason: |max| format!("too many measurements: the database has {max}"),
    ..COLUMNS
};

const DAYS: Case = Case {
    max: |limits| limits.days_per_body_max,
    reason: |max| format!("too many days: expected rows of at most {max} in one body, beside"),
    ..LINES
};

const DEPTH: Case = Case {
    max: |limits| limits.msgpack_depth_max,
    reason: |max| format!("expected at most {max} levels of nesting, found more at byte "),
    ..COLUMNS
};

const JSON_NAME: Case = Case { format: Format::Json, ..NAME };

const JSON_STRING: Case = Case { format: Format::Json, ..STRING };

const JSON_COLUMNS: Case = Case { format: Format::Json, ..COLUMNS };

const JSON_DEPTH: Case =
    Case { format: Format::Json, max: |limits| limits.json_depth_max, ..DEPTH };

const JSON_MARKS: Case = Case {
    format: Format::Json,
    max: |limits| limits.json_marks_max,
    reason: |max| format!("expected at most {max} punctuation marks in one document, found more"),
    ..LINES
};

const CASES: &[Case] = &[
    Case { name: "measurement", piece: |n| row(&text(n), [], [("v", 1.into())]), ..NAME },
    Case { name: "field name", piece: |n| row("m", [], [(&*text(n), 1.into())]), ..NAME },
    Case { name: "tag name", piece: |n| row("m", [(&*text(n), "a")], [("v", 1.into())]), ..NAME },
    Case { name: "tag value", piece: |n| row("m", [("a", &*text(n))], [("v", 1.into())]), ..NAME },
    Case {
        name: "measurement of columns",
        piece: |n| columns(&text(n), [("v", 1.into())]),
        refused: 2,
        ..NAME
    },
    Case {
        name: "column name",
        piece: |n| columns("m", [(&*text(n), 1.into())]),
        refused: 2,
        ..NAME
    },
    Case {
        name: "tag value of columns",
        piece: |n| columns("m", [("tag", text(n).into()), ("v", 1.into())]),
        refused: 2,
        ..NAME
    },
    Case { name: "string", piece: |n| row("m", [], [("s", text(n).into())]), ..STRING },
    Case {
        name: "strings",
        piece: |n| columns("m", [("s", text(n).into())]),
        refused: 2,
        ..STRING
    },
    Case {
        name: "strings among others",
        piece: |n| columns("m", [("s", text(n).into()), ("v", 1.into())]),
        refused: 2,
        ..STRING
    },
    Case { name: "fields of a line", piece: |n| (format!("m {}\n", fields(n)).into(), 1), ..LINES },
    Case {
        name: "tags and fields of a line",
        piece: |n| (format!("m,a=b,c=d {}\n", fields(n - 2)).into(), 1),
        ..LINES
    },
    Case {
        name: "columns one by one",
        piece: |n| (lines(n, |at| format!("m f{at}=1\n")), n as u64),
        ..LINES
    },
    Case {
        name: "fields of a row",
        piece: |n| {
            let names: Vec<String> = (0..n).map(|at| format!("f{at}")).collect();
            row("m", [], names.iter().map(|name| (&**name, 1.into())))
        },
        ..COLUMNS
    },
    Case {
        name: "columns of an item",
        piece: |n| {
            let names: Vec<String> = (0..n).map(|at| format!("f{at}")).collect();
            columns("m", names.iter().map(|name| (&**name, 1.into())))
        },
        refused: 2,
        ..COLUMNS
    },
    Case {
        name: "columns of an item, time beside them",
        piece: |n| {
            let names: Vec<String> = (0..n).map(|at| format!("f{at}")).collect();
            let time = [("time", Tree::from(1_700_000_000))];
            columns("m", time.into_iter().chain(names.iter().map(|name| (&**name, 1.into()))))
        },
        refused: 2,
        ..COLUMNS
    },
    Case {
        name: "measurements of lines",
        piece: |n| (lines(n, |at| format!("m{at} f=1\n")), n as u64),
        format: Format::LineProtocol,
        ..TABLES
    },
    Case {
        name: "measurements of rows",
        piece: |n| {
            let rows = (0..n).map(|at| row(&format!("m{at}"), [], [("v", 1.into())]).0);
            (rows.collect::<Vec<_>>().concat(), n as u64)
        },
        ..TABLES
    },
    Case {
        name: "days of a measurement",
        piece: |n| (lines(n + 1, |at| format!("m f=1 {}\n", day_ns(at))), n as u64 + 1),
        ..DAYS
    },
    Case {
        name: "days before 1970 and after, by their ends",
        piece: |n| {
            let line = |at| {
                let begin = day_ns(at) - 19_678 * DAY_NS;
                format!("m f=1 {begin}\nm f=2 {}\n", begin + DAY_NS - 1)
            };
            (lines(n + 1, line), 2 * (n as u64 + 1))
        },
        refused: 2,
        ..DAYS
    },
    Case {
        name: "days of three measurements",
        piece: |n| {
            let line = |at| format!("m{} f=1 {}\n", at % 3, day_ns(at));
            (lines(n + 3, line), n as u64 + 3)
        },
        ..DAYS
    },
    Case {
        name: "days of rows",
        piece: |n| {
            let rows = (0..=n).map(|at| {
                let time = ("t", Tree::from(day_ns(at)));
                encode(&map([("m", "m".into()), ("fields", map([("v", 1.into())])), time]))
            });
            (rows.collect::<Vec<_>>().concat(), n as u64 + 1)
        },
        format: Format::MessagePack,
        ..DAYS
    },
    Case {
        name: "days of columns",
        piece: |n| (encode(&days_of_columns(n + 1)), n as u64 + 1),
        format: Format::MessagePack,
        ..DAYS
    },
    Case {
        name: "days of json columns",
        piece: |n| json(&days_of_columns(n + 1), n as u64 + 1),
        format: Format::Json,
        ..DAYS
    },
    Case {
        name: "a row in arrays",
        // The row and its fields are two levels.
        piece: |n| ([vec![0x91; n - 2], row("m", [], [("v", 1.into())]).0].concat(), 1),
        ..DEPTH
    },
    Case {
        name: "json measurement",
        piece: |n| json(&row_tree(&text(n), [], [("v", 1.into())]), 1),
        ..JSON_NAME
    },
    Case {
        name: "json field name",
        piece: |n| json(&row_tree("m", [], [(&*text(n), 1.into())]), 1),
        ..JSON_NAME
    },
    Case {
        name: "json field name of objects",
        piece: |n| json(&row_tree("m", [], [("a", map([(&*text(n - 2), 1.into())]))]), 1),
        ..JSON_NAME
    },
    Case {
        name: "json tag name",
        piece: |n| json(&row_tree("m", [(&*text(n), "a")], [("v", 1.into())]), 1),
        ..JSON_NAME
    },
    Case {
        name: "json tag value",
        piece: |n| json(&row_tree("m", [("a", &*text(n))], [("v", 1.into())]), 1),
        ..JSON_NAME
    },
    Case {
        name: "json column name",
        piece: |n| json(&columns_tree("m", [(&*text(n), 1.into())]), 2),
        refused: 2,
        ..JSON_NAME
    },
    Case {
        name: "json tag value of columns",
        piece: |n| json(&columns_tree("m", [("tag", text(n).into()), ("v", 1.into())]), 2),
        refused: 2,
        ..JSON_NAME
    },
    Case {
        name: "json string",
        piece: |n| json(&row_tree("m", [], [("s", text(n).into())]), 1),
        ..JSON_STRING
    },
    Case {
        name: "json strings",
        piece: |n| json(&columns_tree("m", [("s", text(n).into())]), 2),
        refused: 2,
        ..JSON_STRING
    },
    Case {
        name: "json fields",
        piece: |n| {
            let names: Vec<String> = (0..n).map(|at| format!("f{at}")).collect();
            json(&row_tree("m", [], names.iter().map(|name| (&**name, 1.into()))), 1)
        },
        ..JSON_COLUMNS
    },
    Case {
        name: "json columns",
        piece: |n| {
            let names: Vec<String> = (0..n).map(|at| format!("f{at}")).collect();
            json(&columns_tree("m", names.iter().map(|name| (&**name, 1.into()))), 2)
        },
        refused: 2,
        ..JSON_COLUMNS
    },
    Case {
        name: "a json row in arrays",
        // The row and its fields are two levels.
        piece: |n| {
            let row = row_tree("m", [], [("v", 1.into())]);
            json(&(2..n).fold(row, |inner, _| array([inner])), 1)
        },
        ..JSON_DEPTH
    },
    Case {
        name: "json columns in arrays",
        piece: |n| {
            let columns = columns_tree("m", [("v", 1.into())]);
            json(&(3..n).fold(columns, |inner, _| array([inner])), 2)
        },
        // The arrays are too deep, or the item is, whose rows count.
        refused: 2,
        ..JSON_DEPTH
    },
    Case {
        name: "json fields in objects",
        piece: |n| {
            let nested = (2..n).fold(Tree::from(1), |inner, _| map([("", inner)]));
            json(&row_tree("m", [], [("v", nested)]), 1)
        },
        ..JSON_DEPTH
    },
    Case {
        name: "json punctuation",
        // Without commas in the string there are 22; they count wherever they stand.
        piece: |n| {
            let commas = ",".repeat(n - 22);
            let row = format!(r#"{{"m":"m","x":"{commas}","fields":{{"v":1}}}}"#);
            ((row + "\n").into(), 1)
        },
        ..JSON_MARKS
    },
    Case {
        name: "an ignored value",
        piece: |n| {
            let nested = (2..n).fold(array([1]), |inner, _| array([inner]));
            let fields = map([("v", 1.into())]);
            (encode(&map([("m", "m".into()), ("extra", nested), ("fields", fields)])), 1)
        },
        ..DEPTH
    },
];

const DAY_NS: i64 = 24 * 60 * 60 * 1_000_000_000;

/// The beginning of a day for each `at`.
fn day_ns(at: usize) -> i64 {
    (19_676 + i64::try_from(at).expect("a small number")) * DAY_NS
}

/// One item of a row for each of so many days.
fn days_of_columns(days: usize) -> Tree {
    let (times, values) = ((0..days).map(day_ns), vec![1.5; days]);
    let columns = map([("time", array(times)), ("v", array(values))]);
    map([("m", "m".into()), ("columns", columns)])
}

fn text(length: usize) -> String {
    "x".repeat(length)
}

fn lines(count: usize, line: fn(usize) -> String) -> Vec<u8> {
    (0..count).map(line).collect::<String>().into()
}

fn fields(count: usize) -> String {
    (0..count).fold(String::new(), |mut fields, at| {
        let comma = if at > 0 { "," } else { "" };
        let _ = write!(fields, "{comma}f{at}=1");
        fields
    })
}

fn row<'a>(
    measurement: &str,
    tags: impl IntoIterator<Item = (&'a str, &'a str)>,
    fields: impl IntoIterator<Item = (&'a str, Tree)>,
) -> (Vec<u8>, u64) {
    (encode(&row_tree(measurement, tags, fields)), 1)
}

fn row_tree<'a>(
    measurement: &str,
    tags: impl IntoIterator<Item = (&'a str, &'a str)>,
    fields: impl IntoIterator<Item = (&'a str, Tree)>,
) -> Tree {
    let tags = map(tags.into_iter().map(|(name, value)| (name, value.into())));
    map([("m", measurement.into()), ("tags", tags), ("fields", map(fields))])
}

/// A document of so many rows.
fn json(tree: &Tree, rows: u64) -> (Vec<u8>, u64) {
    (json_bodies::compact(tree), rows)
}

/// One item of two rows, `tag` being a tag.
fn columns<'a>(
    measurement: &str,
    values: impl IntoIterator<Item = (&'a str, Tree)>,
) -> (Vec<u8>, u64) {
    (encode(&columns_tree(measurement, values)), 2)
}

fn columns_tree<'a>(measurement: &str, values: impl IntoIterator<Item = (&'a str, Tree)>) -> Tree {
    let columns =
        map(values.into_iter().map(|(name, value)| (name, array([value.clone(), value]))));
    let tag_keys = array(["tag"]);
    map([("m", measurement.into()), ("tag_keys", tag_keys), ("columns", columns)])
}

#[test]
fn limits_hold_to_the_last_byte_and_name_themselves() {
    for limits in SMALL {
        for case in CASES {
            let max = (case.max)(&limits);
            for size in [max - 1, max] {
                // The second and third time the names are known, and then predicted.
                let (piece, rows) = (case.piece)(size);
                let mut shard = shard(limits);
                let report = write(&mut shard, case.format, &piece.repeat(3));
                let reasons = reasons(&report);
                assert_eq!(reasons, [""; 0], "{}: {size} of {max}", case.name);
                assert_eq!((report.accepted, report.rejected), (3 * rows, 0), "{}", case.name);
                assert_eq!(shard.rows().len() as u64, 3 * rows, "{}", case.name);
            }
            let (piece, rows) = (case.piece)(max + 1);
            let mut shard = shard(limits);
            for round in 0..3 {
                let report = write(&mut shard, case.format, &piece.repeat(3));
                let expected = (3 * (rows - case.refused), 3 * case.refused);
                let found = (report.accepted, report.rejected);
                assert_eq!(found, expected, "{}: above {max}, round {round}", case.name);
                for reason in reasons(&report) {
                    assert!(reason.starts_with(&(case.reason)(max)), "{}: {reason}", case.name);
                }
                // A seal makes no room.
                assert_eq!(shard.rows().len() as u64, expected.0, "{}", case.name);
            }
        }
    }
}

fn reasons(report: &Report) -> Vec<String> {
    report.rejections.iter().map(|it| it.reason.to_string()).collect()
}

#[test]
fn a_body_has_its_days_whatever_others_had() {
    let limits = Limits { days_per_body_max: 2, ..Limits::DEFAULT };
    let mut shard = shard(limits);
    for first in [0, 3, 100] {
        let body = |days: usize| lines_of_days(first, days).into_bytes();
        assert_eq!(write(&mut shard, Format::LineProtocol, &body(3)).rejected, 0);
        assert_eq!(write(&mut shard, Format::LineProtocol, &body(5)).rejected, 2);
    }
    assert_eq!(shard.rows().len(), 18);
}

/// A line of each of so many days.
fn lines_of_days(first: usize, days: usize) -> String {
    let line = |at| format!("m f={at} {}\n", day_ns(at));
    (first..first + days).map(line).collect()
}

#[test]
fn a_row_that_is_refused_takes_no_day() {
    let limits = Limits { days_per_body_max: 1, ..Limits::DEFAULT };
    let mut one = shard(limits);
    let mut two = Shard::of(Arc::clone(&one.registry));
    // Another shard knows `b` as something else, which this one sees at the commit.
    assert_eq!(write(&mut two, Format::LineProtocol, b"m a=1\n").accepted, 1);
    assert_eq!(write(&mut one, Format::LineProtocol, b"m a=1\n").accepted, 1);
    assert_eq!(write(&mut two, Format::LineProtocol, b"m b=\"x\"\n").accepted, 1);
    let [first, second, third] = [0, 1, 2].map(day_ns);
    let body = format!("m a=1 {first}\nm b=1 {second}\nm a=2 {third}\nm a=3 {second}\n");
    let report = write(&mut one, Format::LineProtocol, body.as_bytes());
    let lines: Vec<u64> = report.rejections.iter().map(|it| it.line).collect();
    assert_eq!((report.accepted, lines), (2, vec![2, 4]));
}

#[test]
fn a_replay_refuses_the_days_that_were_refused() {
    let limits = Limits { days_per_body_max: 2, ..Limits::DEFAULT };
    let live = Live::start_with(|options| options.limits = limits);
    let columns = encode(&days_of_columns(5));
    for round in 0..3 {
        let lines = lines_of_days(3 * round, 5) + "n f=1 7\n";
        let answer = live.post("/write?db=a", lines);
        assert_eq!(answer.status, 400);
        assert_eq!(answer.body.matches("\"line_number\"").count(), 2, "{answer:?}");
        let answer = live.post("/api/v1/write/msgpack?db=b", &columns);
        assert_eq!(answer.header("x-peristyle-rejected"), Some("2"), "{answer:?}");
        if round == 1 {
            // Days and columns that the next replay has from the log.
            assert_eq!(live.post("/api/v1/flush", "").status, 200);
        }
    }
    let killed = restart::killed(&live);
    restart::recover(&killed, |options| options.limits = limits);
    for database in ["a", "b"] {
        assert_eq!(read_rows(killed.path(), database), live.rows(database));
    }
    assert_eq!((live.rows("a").len(), live.rows("b").len()), (12, 9));
}

#[test]
fn another_shard_makes_no_room_for_a_measurement() {
    let limits = Limits { tables_per_database_max: 3, ..Limits::DEFAULT };
    let mut one = shard(limits);
    let mut two = Shard::of(Arc::clone(&one.registry));
    let known = write(&mut one, Format::LineProtocol, b"a f=1\nb f=1\n");
    assert_eq!((known.accepted, known.rejected), (2, 0));
    let report = write(&mut two, Format::LineProtocol, b"b f=1\na f=1\nc f=1\nd f=1\n");
    assert_eq!((report.accepted, report.rejected), (3, 1));
    assert_eq!(reasons(&report), ["too many measurements: the database has 3"]);
    assert_eq!(two.rows().len(), 3);
}

#[test]
fn columns_of_all_shards_together_are_bounded() {
    let limits = Limits { columns_per_table_max: 4, ..Limits::DEFAULT };
    let mut one = shard(limits);
    let mut two = Shard::of(Arc::clone(&one.registry));
    assert_eq!(write(&mut one, Format::LineProtocol, b"m a=1,b=1,c=1\n").accepted, 1);
    let report = write(&mut two, Format::LineProtocol, b"m d=1\nm e=1\nm a=2,b=2,c=2,d=2\n");
    assert_eq!(reasons(&report), ["too many columns: the measurement has 4"]);
    assert_eq!(report.accepted, 2);
    let report = write(&mut one, Format::LineProtocol, b"m e=1\nm d=1\n");
    assert_eq!((report.accepted, report.rejected), (1, 1));
    assert_eq!((one.rows().len(), two.rows().len()), (2, 2));
}

#[test]
fn a_refused_measurement_takes_no_room_from_a_known_one() {
    let limits = Limits { tables_per_database_max: 3, ..Limits::DEFAULT };
    let mut one = shard(limits);
    let mut two = Shard::of(Arc::clone(&one.registry));
    assert_eq!(write(&mut one, Format::LineProtocol, b"a f=1\nb f=1\n").accepted, 2);
    let report = write(&mut two, Format::LineProtocol, b"c f=1\nd f=1\nb f=1\na f=1\n");
    assert_eq!((report.accepted, report.rejected), (3, 1));
    assert_eq!(reasons(&report), ["too many measurements: the database has 3"]);
}

#[test]
fn a_database_too_many_is_refused_however_it_is_named() {
    let live = Live::start_with(|options| options.limits.databases_max = 3);
    let mut client = live.client();
    for name in ["a", "b", "c", "a"] {
        assert_eq!(client.post(&format!("/write?db={name}"), "m v=1").status, 204, "{name}");
    }
    let text = "too many databases: expected at most 3";
    for (path, status) in [
        ("/write?db=d", 400),
        ("/api/v2/write?bucket=d", 400),
        ("/api/v3/write_lp?db=d", 422),
        ("/api/v1/write?db=d", 400),
    ] {
        let answer = client.post(path, "m v=1");
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        assert!(answer.body.contains(text), "{answer:?}");
    }
    let answer = client.post("/query?q=CREATE%20DATABASE%20d", "");
    assert!(answer.body.contains(text), "{answer:?}");
    // One that goes makes room for another.
    assert_eq!(client.post("/query?q=DROP%20DATABASE%20b", "").status, 200);
    assert_eq!(client.post("/write?db=d", "m v=1").status, 204);
    assert_eq!(client.post("/write?db=b", "m v=1").status, 400);
    assert_eq!(live.engine.databases(), ["a", "c", "d"]);
}

#[test]
fn rows_beyond_the_reported_ones_are_counted() {
    let limits = Limits { reported_errors_max: 3, ..Limits::DEFAULT };
    for refused in [2, 3, 4] {
        for (format, bad) in [(Format::LineProtocol, &b"bad\n"[..]), (Format::MessagePack, b"\xc0")]
        {
            let report = write(&mut shard(limits), format, &bad.repeat(refused));
            assert_eq!((report.accepted, report.rejected), (0, refused as u64));
            assert_eq!(report.rejections.len(), refused.min(3));
        }
    }
    let live = Live::start_with(|options| options.limits = limits);
    for (refused, more) in [(2, None), (3, None), (4, Some("\\nand 1 more"))] {
        let answer = live.post("/write", "bad\n".repeat(refused));
        assert_eq!(answer.status, 400);
        assert_eq!(answer.body.matches("unable to parse").count(), refused.min(3));
        assert_eq!(answer.body.contains("more"), more.is_some(), "{answer:?}");
        assert!(more.is_none_or(|it| answer.body.contains(it)), "{answer:?}");
    }
}

/// Two rows of each of `count` hosts, and those rows in another order.
fn hosts(count: usize) -> String {
    let line = |at| format!("m,host=h{at} v={at} {at}\n");
    (0..count).chain((0..count).rev()).map(line).collect()
}

#[test]
fn a_cache_that_starts_afresh_changes_no_row() {
    for hosts_max in [1, 4] {
        let few = Limits { series_per_table_max: hosts_max, ..Limits::DEFAULT };
        let narrow = Limits { series_cache_bytes_max: hosts_max * 64, ..Limits::DEFAULT };
        for limits in [few, narrow] {
            let mut shard = shard(limits);
            for count in [hosts_max - 1, hosts_max, hosts_max + 1, hosts_max * 100] {
                let body = hosts(count);
                let report = write(&mut shard, Format::LineProtocol, body.as_bytes());
                assert_eq!((report.accepted, report.rejected), (2 * count as u64, 0));
                let rows = shard.rows();
                assert_eq!(rows.len(), 2 * count);
                for (row, at) in rows.iter().zip((0..count).chain((0..count).rev())) {
                    assert_eq!(row.time_ns, at as i128);
                    assert_eq!(row.tags.get("host"), Some(&format!("h{at}")));
                }
            }
        }
    }
}

#[test]
fn a_chunk_is_sealed_at_the_end_of_the_body_that_fills_it() {
    let limits = Limits { rows_per_chunk: 4, ..Limits::DEFAULT };
    for (first, expected) in [(3, vec![4]), (4, vec![4, 1]), (5, vec![5, 1])] {
        let mut shard = shard(limits);
        for rows in [first, 1] {
            let report = write(&mut shard, Format::LineProtocol, "m v=1\n".repeat(rows).as_bytes());
            assert_eq!(report.accepted, rows as u64);
        }
        let chunks = shard.chunks();
        let rows: Vec<_> = chunks.iter().map(|it| it.batch.num_rows()).collect();
        assert_eq!(rows, expected);
    }
}

#[test]
fn every_limit_is_in_the_table_above() {
    let names = |text: &'static str, before: &str, behind: &str| -> Vec<&'static str> {
        let before = before.to_owned();
        let lines =
            text.lines().filter_map(|line| line.trim().strip_prefix(&*before).map(str::trim));
        lines.filter_map(|rest| rest.split_once(behind)).map(|(name, _)| name).collect()
    };
    let limits = names(include_str!("../../src/limits.rs"), "pub ", ": u");
    assert_eq!(names(include_str!("limits.rs"), "//! | `", "`"), limits);
}
