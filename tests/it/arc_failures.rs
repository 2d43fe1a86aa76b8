//! What Arc loses, corrupts or dies of, when a request asks for it; and what we do.
//!
//! | Arc's failure | tried by |
//! |---|---|
//! | an empty column name kills the process | `a_body_that_arc_dies_of_costs_only_its_rows`, `msgpack.rs` `an_empty_column_name_is_refused_and_its_neighbours_kept` |
//! | `_x` with two kinds kills the process; such columns are never written | `a_body_that_arc_dies_of_costs_only_its_rows`, `msgpack.rs` `a_column_with_an_underscore_keeps_its_values_and_its_kind` |
//! | 2,000,000 nested arrays, 4 KiB of gzip, kill the process | `a_body_that_arc_dies_of_costs_only_its_rows`, `msgpack.rs` `two_million_nested_arrays_are_one_rejection` |
//! | sparse columns panic; nulls become zeros | `a_body_that_arc_dies_of_costs_only_its_rows`, `gather.rs` `a_column_seen_late_is_null_before` |
//! | memory is reserved by a declared length | `msgpack.rs` `a_declared_length_beyond_the_body_breaks_it_at_once` |
//! | items of arrays and batches are skipped with 204 and no word | `a_body_is_taken_but_for_what_is_named`, `msgpack.rs` `bad_items_are_named_by_position_and_their_neighbours_kept` |
//! | `batch` in an array is 500 | `a_body_is_taken_but_for_what_is_named`, `msgpack.rs` `shapes_mix_freely_in_arrays_batches_and_streams` |
//! | of concatenated objects the first is stored | `a_body_is_taken_but_for_what_is_named`, `msgpack.rs` `concatenated_objects_are_all_stored` |
//! | a truncated body loses its whole rows | `msgpack.rs` `a_truncated_body_keeps_the_rows_before_the_break` |
//! | an empty measurement passes all checks | `a_body_is_taken_but_for_what_is_named`, `msgpack.rs` `an_empty_measurement_is_refused` |
//! | a time above the largest signed integer wraps | `a_body_is_taken_but_for_what_is_named` |
//! | the first element decides the unit of all times | `a_body_is_taken_but_for_what_is_named`, `msgpack.rs` `each_time_has_the_unit_of_its_own_magnitude` |
//! | a nil, a string, a timestamp among the times refuses the request | `a_body_is_taken_but_for_what_is_named`, `msgpack.rs` `timestamps_are_taken_in_all_three_lengths_as_time_and_as_value` |
//! | rows without `h` get a host `unknown`, rows without time are lost | `msgpack.rs` `a_row_without_host_or_time_gets_no_host_and_the_time_of_receipt` |
//! | a field that is a tag elsewhere is renamed | `a_body_is_taken_but_for_what_is_named` |
//! | a field named `time` becomes a second row | `a_body_is_taken_but_for_what_is_named`, `msgpack.rs` `a_field_named_time_is_dropped_and_counted` |
//! | integers cut the fractions of later floats | `a_body_is_taken_but_for_what_is_named`, `msgpack.rs` `a_fraction_is_never_cut_off_to_fit_a_column_of_integers` |
//! | unsigned values above INT64 wrap, or are 500 | `a_body_is_taken_but_for_what_is_named`, `msgpack.rs` `a_large_unsigned_value_is_stored_or_refused_by_name` |
//! | a column that is no array is dropped without a word | `a_body_is_taken_but_for_what_is_named`, `msgpack.rs` `a_column_that_is_no_array_rejects_the_item_by_name` |
//! | bytes that are not UTF-8 become U+FFFD | `a_body_is_taken_but_for_what_is_named`, `line_protocol.rs` `a_line_of_invalid_utf8_costs_only_itself` |
//! | binary and unknown extensions refuse the request | `a_body_is_taken_but_for_what_is_named`, `msgpack.rs` `binary_is_a_string_when_it_is_utf8_and_refused_by_name_otherwise` |
//! | tags of columns are not known as tags | `msgpack.rs` `tag_keys_and_known_tags_make_tag_columns` |
//! | the sender's faults are 500, and are sent again for ever | `a_body_is_taken_but_for_what_is_named`, `http.rs` `a_kind_conflict_is_told_in_each_clients_words` |
//! | a request fails after half of it was stored | `a_batch_can_be_all_or_nothing`, `http.rs` `all_or_nothing_is_nothing_when_a_line_is_bad` |
//! | a measurement's name with a dot, a slash, a space refuses the request | `any_name_that_influxdb_takes_is_a_measurement`, `layout.rs` `a_component_is_one_safe_component` |
//! | values that cannot be parsed become strings, are dropped, or get the time of the server | `a_line_that_arc_would_alter_is_refused_with_its_number` |
//! | line feeds in strings and escaped `=` break lines; times before 1970 are off by one | `a_line_that_arc_would_break_is_stored_as_sent` |
//! | precisions `n`, `u`, `m`, `h` are refused | `http.rs` `every_name_of_a_precision_is_taken_on_every_endpoint` |
//! | every change of schema flushes: file storms, 503 | `alternating_schemas_make_one_file`, `msgpack.rs` `alternating_schemas_stay_in_one_chunk` |
//! | files of one measurement disagree on kinds | `kinds_hold_from_file_to_file` |
//! | a column of nils is written as strings | `kinds_hold_from_file_to_file`, `msgpack.rs` `a_column_of_nothing_but_nils_is_not_created` |
//! | the order of columns is random | `kinds_hold_from_file_to_file`, `persist.rs` `columns_and_footer_are_as_the_contract_says` |
//! | rows of one request end in another's database | `rows_stay_in_the_database_they_were_sent_to` |
//! | a failed flush loses its rows; memory is not bounded | `a_flush_that_fails_keeps_its_rows_and_memory_is_bounded`, `http.rs` `a_body_that_does_not_fit_in_memory_is_busy` |
//! | a file of the same name is overwritten | `flushes_in_a_row_overwrite_nothing`, `persist.rs` `nothing_is_overwritten_and_a_late_failure_takes_all_back` |
//! | rows of one time and tag set are taken for copies: fields are lost | `rows_of_one_time_and_tag_set_are_all_kept` |
//! | flushes by age do not come | `binary.rs` `a_flush_comes_by_age` |
//! | times before 1970 are in the wrong directory | `persist.rs` `rows_are_cut_at_midnight_before_1970_too` |
//! | an empty body is 500 | `http.rs` `an_empty_body_is_what_each_client_expects` |
//! | compressed bodies inflate without end; too large is 400 | `inflate.rs` `a_bomb_is_refused_early`, `http.rs` `the_limit_of_an_inflated_body_holds_to_the_byte` |

use std::fs;
use std::path::Path;

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rmpv::Value as Tree;

use crate::http::gzip;
use crate::http_client::{Answer, Client, head};
use crate::live::{Live, files};
use crate::msgpack_bodies::{array, encode, map};
use crate::support::{Row, Value};

const MSGPACK: &str = "/api/v1/write/msgpack?db=a";
const LINES: &str = "/api/v1/write/line-protocol?db=a";

/// `{m: "cpu", t: 1700000000, fields}`.
fn cpu<'a>(fields: impl IntoIterator<Item = (&'a str, Tree)>) -> Tree {
    map([("m", "cpu".into()), ("t", 1_700_000_000.into()), ("fields", map(fields))])
}

fn columns<'a>(columns: impl IntoIterator<Item = (&'a str, Tree)>) -> Tree {
    map([("m", "cpu".into()), ("columns", map(columns))])
}

/// Rows refused, with the first reason; `(0, "")` when all were taken. A refusal is never 5xx.
#[track_caller]
fn refused(answer: &Answer) -> (u64, String) {
    assert!([200, 204, 400].contains(&answer.status), "{answer:?}");
    if answer.status == 400 {
        return (0, answer.body.clone());
    }
    let count = answer.header("x-peristyle-rejected").map_or(0, |it| it.parse().unwrap());
    (count, answer.header("x-peristyle-reject-reason").unwrap_or_default().to_owned())
}

#[track_caller]
fn check_refused(answer: &Answer, count: u64, reason: &str) {
    let (found_count, found) = refused(answer);
    let found = found.replace('\\', "");
    assert_eq!(found_count, count, "{answer:?}");
    assert!(found.contains(reason), "{reason:?} is not in {found:?}");
}

#[test]
fn a_body_that_arc_dies_of_costs_only_its_rows() {
    let nested = gzip(&vec![0x91; 2_000_000]);
    let nils = || array([Tree::Nil, Tree::Nil]);
    let cases = [
        (encode(&cpu([("", 1.into())])), 1, "found an empty one"),
        (encode(&columns([("", array([1, 2])), ("v", array([1, 2]))])), 2, "found an empty one"),
        (encode(&cpu([("_x", 1.into())])), 0, ""),
        (encode(&cpu([("_x", "a".into())])), 1, "\"_x\" on measurement \"cpu\" is type string"),
        (encode(&columns([("_x", array(["a", "b"]))])), 2, "is type string"),
        (nested, 0, "Invalid MessagePack payload: "),
        (encode(&columns([("a", nils()), ("v", array([2, 3]))])), 0, ""),
        (encode(&columns([("a", array([Tree::Nil, 5.into()])), ("b", nils())])), 1, "no usable"),
    ];
    let live = Live::start();
    let mut client = live.client();
    for (body, count, reason) in cases {
        check_refused(&client.post(MSGPACK, body), count, reason);
        // Arc answers, and dies when it flushes.
        assert_eq!(client.post("/api/v1/flush", "").status, 200);
    }
    let mut fields: Vec<_> = live.rows("a").into_iter().map(|it| it.fields).collect();
    fields.sort_by_key(|it| format!("{it:?}"));
    let expected = [("_x", 1), ("a", 5), ("v", 2), ("v", 3)];
    let expected = expected.map(|(name, value)| [(name.to_owned(), Value::Int(value))].into());
    assert_eq!(fields, expected);
}

/// A body, the rows it leaves (time and fields as text), how many are refused, and why.
type Case = (Vec<u8>, &'static [&'static str], u64, &'static str);

fn cases_of_items() -> Vec<Case> {
    let good = || cpu([("v", 1.into())]);
    let batch = || map([("batch", array([good(), good()]))]);
    let of_time = |time: Tree| map([("m", "cpu".into()), ("t", time), ("f", array([1]))]);
    let empty = map([("m", "".into()), ("t", 1.into()), ("f", array([1]))]);
    let both = map([
        ("m", "cpu".into()),
        ("t", 1_700_000_000.into()),
        ("tags", map([("v", "x".into())])),
        ("fields", map([("w", 1.into())])),
    ]);
    let invalid = b"\x83\xa1m\xa3cpu\xa1t\xce\x65\x53\xf1\x00\xa6fields\x81\xa1v\xa2\xc3(".to_vec();
    vec![
        (encode(&array([good(), 5.into(), "x".into(), good()])), &["v=1", "v=1"], 2, "row 2: "),
        (encode(&array([batch(), good()])), &["v=1", "v=1", "v=1"], 0, ""),
        ([encode(&good()), encode(&good())].concat(), &["v=1", "v=1"], 0, ""),
        (encode(&array([empty, good()])), &["v=1"], 1, "row 1: expected a name"),
        // Nanoseconds, in the year 2554.
        (encode(&of_time(u64::MAX.into())), &["field_0=1 at 18446744073709551615"], 0, ""),
        (encode(&of_time("soon".into())), &[], 0, "expected a number or a timestamp for \"t\""),
        (encode(&array([good(), both])), &["v=1"], 1, "is given as a tag, already exists as a"),
        (encode(&cpu([("time", 5.into()), ("v", 1.into())])), &["v=1"], 0, ""),
        (encode(&cpu([("v", u64::MAX.into())])), &[], 1, "is larger than INT64 holds"),
        (invalid, &[], 1, "expected UTF-8 for "),
        (encode(&cpu([("v", Tree::Binary(b"x".to_vec()))])), &["v=x"], 0, ""),
        (
            encode(&array([cpu([("v", Tree::Ext(7, vec![1]))]), good()])),
            &["v=1"],
            1,
            "row 1: expected a scalar for \"v\", found ",
        ),
    ]
}

fn cases_of_columns() -> Vec<Case> {
    let times = |times: [Tree; 3]| columns([("time", array(times)), ("v", array([1, 2, 3]))]);
    let stamp = Tree::Ext(-1, 1_700_000_000_u32.to_be_bytes().to_vec());
    vec![
        (
            encode(&times([1_700_000_000.into(), 1_700_000_000_001_i64.into(), stamp])),
            &[
                "v=1 at 1700000000000000000",
                "v=3 at 1700000000000000000",
                "v=2 at 1700000000001000000",
            ],
            0,
            "",
        ),
        (
            encode(&times([1_700_000_000.into(), "soon".into(), 1_700_000_001.into()])),
            &["v=1 at 1700000000000000000", "v=3 at 1700000001000000000"],
            1,
            "row 2: expected a number or a timestamp for ",
        ),
        (
            encode(&columns([("v", array([Tree::from(1), 2.75.into(), 3.0.into()]))])),
            &["v=1", "v=3"],
            1,
            "row 2: field type conflict",
        ),
        (encode(&columns([("v", array([1, 2])), ("w", 5.into())])), &[], 0, "column \"w\""),
        (
            encode(&columns([("v", array([1, 2])), ("w", array([1.into(), array([2])]))])),
            &["v=1 w=1"],
            1,
            "row 2: expected a scalar for \"w\", found an array",
        ),
    ]
}

/// `v=1 w=2 at 5`; the time only when the test states it.
fn text(row: &Row, with_time: bool) -> String {
    let fields = row.fields.iter().map(|(name, value)| match value {
        Value::Int(value) => format!("{name}={value}"),
        Value::Float(value) => format!("{name}={value:?}"),
        Value::Str(value) => format!("{name}={value}"),
        other => format!("{name}={other:?}"),
    });
    let fields = fields.collect::<Vec<_>>().join(" ");
    if with_time { format!("{fields} at {}", row.time_ns) } else { fields }
}

#[test]
fn a_body_is_taken_but_for_what_is_named() {
    for (body, expected, count, reason) in cases_of_items().into_iter().chain(cases_of_columns()) {
        let live = Live::start();
        check_refused(&live.post(MSGPACK, body), count, reason);
        let with_time = expected.iter().any(|it| it.contains(" at "));
        let rows: Vec<_> = live.rows("a").iter().map(|row| text(row, with_time)).collect();
        assert_eq!(rows, expected, "{reason}");
    }
}

#[test]
fn a_batch_can_be_all_or_nothing() {
    let live = Live::start();
    let mut client = live.client();
    let path = format!("{MSGPACK}&accept_partial=false");
    let tree = array([cpu([("v", 1.into())]), cpu([("v", "text".into())])]);
    let answer = client.post(&path, encode(&tree));
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("row 2: field type conflict"), "{answer:?}");
    assert!(live.rows("a").is_empty());
    // Not even the kind of `v` is left.
    assert_eq!(client.post(&path, encode(&cpu([("v", "text".into())]))).status, 204);
    assert_eq!(live.rows("a").len(), 1);
}

#[test]
fn any_name_that_influxdb_takes_is_a_measurement() {
    let names = ["win.cpu", "a/b", "../../c", "5 min", "gr\u{f6}\u{df}e", "-", "con", "m\u{1f3db}"];
    let live = Live::start();
    for name in names {
        let escaped = name.replace(' ', "\\ ");
        assert_eq!(live.post(LINES, format!("{escaped} v=1i 1\n")).status, 204, "{name}");
        let fields = map([("v", 2.into())]);
        let tree = map([("m", name.into()), ("t", 5.into()), ("fields", fields)]);
        assert_eq!(live.post(MSGPACK, encode(&tree)).status, 204, "{name}");
    }
    let rows = live.rows("a");
    let mut found: Vec<&str> = rows.iter().map(|row| &*row.measurement).collect();
    found.dedup();
    let mut expected = names.to_vec();
    expected.sort_unstable();
    assert_eq!((found, rows.len()), (expected, 2 * names.len()));
}

#[test]
fn a_line_that_arc_would_alter_is_refused_with_its_number() {
    for line in [
        // Stored as a string.
        "m v=abc",
        "m v=1.2.3",
        // Left out, and the row stored without it.
        "m v=9223372036854775808i,w=1",
        // Refuses all lines with 500.
        "m v=18446744073709551615u",
        // Stored with the time of the server.
        "m v=1 soon",
        "m v=1 99999999999999999999",
        // Overwrites the time of the row.
        "m,time=x v=1",
        // Left out without a word.
        "m,a v=1",
        "m",
        ",a=b v=1",
    ] {
        let live = Live::start();
        let answer = live.post(LINES, format!("ok v=1i 1\n{line}\nok v=2i 2\n"));
        let (count, reason) = refused(&answer);
        assert_eq!(count, 1, "{line}: {answer:?}");
        assert!(reason.contains(" 2: "), "{line}: {reason}");
        let rows: Vec<_> = live.rows("a").iter().map(|row| text(row, true)).collect();
        assert_eq!(rows, ["v=1 at 1", "v=2 at 2"], "{line}");
    }
}

#[test]
fn a_line_that_arc_would_break_is_stored_as_sent() {
    for (line, expected) in [
        ("m v=\"a\nb\" 1", "v=a\nb at 1"),
        ("m a\\=b=1i 1", "a=b=1 at 1"),
        ("m v=1i -1", "v=1 at -1"),
        ("m v=1i -1000000000000000001", "v=1 at -1000000000000000001"),
        ("m v=9007199254740993i 1", "v=9007199254740993 at 1"),
        ("\"m\" v=1i 1", "v=1 at 1"),
    ] {
        let live = Live::start();
        assert_eq!(refused(&live.post(LINES, line)), (0, String::new()), "{line}");
        let rows: Vec<_> = live.rows("a").iter().map(|row| text(row, true)).collect();
        assert_eq!(rows, [expected], "{line}");
    }
}

#[test]
fn alternating_schemas_make_one_file() {
    let live = Live::start_with(|options| options.shards = 1);
    let mut client = live.client();
    for at in 0..200 {
        let tree = match at % 2 {
            0 => columns([("time", array([1, 2])), ("a", array([1.5, 2.5]))]),
            _ => columns([("b", array(["x", "y"])), ("time", array([3, 4])), ("c", array([1, 2]))]),
        };
        assert_eq!(client.post(MSGPACK, encode(&tree)).status, 204);
        let line = format!("cpu,late{at}=x f{at}={at}i 5000000000\n");
        assert_eq!(client.post(LINES, line).status, 204);
    }
    assert_eq!(live.rows("a").len(), 600);
    assert_eq!(files(live.directory.path()).len(), 1);
}

/// Names and types of the columns of a file; `time_ns`, which is there when needed, left out.
fn schema(path: &Path) -> Vec<(String, String)> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(path).unwrap()).unwrap();
    let fields = reader.schema().fields().iter().filter(|it| it.name() != "time_ns");
    fields.map(|it| (it.name().clone(), it.data_type().to_string())).collect()
}

#[test]
fn kinds_hold_from_file_to_file() {
    let live = Live::start();
    let mut client = live.client();
    let nils = columns([("late", array([Tree::Nil])), ("v", array([1]))]);
    assert_eq!(refused(&client.post(MSGPACK, encode(&nils))).0, 0);
    assert_eq!(client.post("/api/v1/flush", "").status, 200);
    // What comes in another order, and with another kind.
    let drifted = array([
        cpu([("v", 2.5.into())]),
        cpu([("late", 0.5.into()), ("v", 3.0.into()), ("b", 1.into())]),
        cpu([("late", 1.into()), ("a", "x".into())]),
    ]);
    let answer = client.post(MSGPACK, encode(&drifted));
    check_refused(&answer, 1, "is type float, already exists as type integer");
    assert_eq!(client.post("/api/v1/flush", "").status, 200);
    assert_eq!(client.post(MSGPACK, encode(&cpu([("a", "y".into())]))).status, 204);
    assert_eq!(live.rows("a").len(), 4);

    let cpu = live.directory.path().join("tables/a/cpu");
    let files = files(live.directory.path());
    let schemas: Vec<_> =
        files.iter().filter(|it| it.starts_with(&cpu)).map(|it| schema(it)).collect();
    let whole = schemas.iter().max_by_key(|it| it.len()).unwrap();
    let names: Vec<&str> = whole.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["time", "v", "late", "b", "a"]);
    for columns in &schemas {
        // The columns that a file has are those of the others, in the same order.
        let of_whole = whole.iter().filter(|it| columns.iter().any(|(name, _)| *name == it.0));
        assert_eq!(columns.iter().collect::<Vec<_>>(), of_whole.collect::<Vec<_>>());
    }
}

#[test]
fn rows_stay_in_the_database_they_were_sent_to() {
    let live = Live::start();
    let databases: Vec<String> = (1..=8).map(|at| "d".repeat(at)).collect();
    let mut clients: Vec<Client> = (0..4).map(|_| live.client()).collect();
    for round in 0..25 {
        for client in &mut clients {
            // All requests of a connection in one packet.
            let mut packet = Vec::new();
            for database in &databases {
                let line = format!("m,db={database} v={round}i {round}\n");
                let header = format!("X-Arc-Database: {database}\r\n");
                packet.extend(head("POST", "/write?db=none", &header, line.len()));
                packet.extend(line.as_bytes());
            }
            client.send(&packet);
        }
        for client in &mut clients {
            for database in &databases {
                assert_eq!(client.answer().status, 204, "{database}");
            }
        }
    }
    for database in &databases {
        let rows = live.rows(database);
        assert_eq!(rows.len(), 4 * 25, "{database}");
        assert!(rows.iter().all(|row| row.tags.get("db") == Some(database)), "{database}");
    }
    assert_eq!(live.engine.databases(), databases);
}

#[test]
fn a_flush_that_fails_keeps_its_rows_and_memory_is_bounded() {
    let live = Live::start_with(|options| options.memory_limit = 4 << 20);
    let tables = live.directory.path().join("tables");
    // No directory can be made where a file is.
    fs::create_dir_all(&tables).unwrap();
    fs::write(tables.join("a"), "").unwrap();
    let mut client = live.client();
    let filler = "x".repeat(100_000);
    let mut accepted = 0;
    let busy = loop {
        let answer = client.post("/write?db=a", format!("m v=\"{filler}\" {accepted}\n"));
        if answer.status != 204 {
            break answer;
        }
        accepted += 1;
        assert!(accepted < 100, "nothing bounds the memory");
    };
    assert_eq!(busy.status, 503, "{busy:?}");
    assert!(busy.header("retry-after").is_some(), "{busy:?}");
    assert!(client.post("/api/v1/flush", "").status >= 500);
    // What was in the way goes; what was acknowledged is there.
    fs::remove_file(tables.join("a")).unwrap();
    // A try that began before may still fail.
    assert!((0..10).any(|_| client.post("/api/v1/flush", "").status == 200));
    let rows = live.rows("a");
    assert_eq!(
        rows.iter().map(|row| row.time_ns).collect::<Vec<_>>(),
        (0..accepted).collect::<Vec<_>>()
    );
    assert_eq!(client.post("/write?db=a", "m v=\"room\" 1").status, 204);
}

/// A thousand tables, a flush every two seconds and a slow disk: each round queued a file for each
/// table, and the writers were further behind with every round.
#[test]
fn rows_that_wait_for_a_writer_become_one_file() {
    let live = Live::start();
    let table = live.directory.path().join("tables/a/m");
    fs::create_dir_all(table.parent().unwrap()).unwrap();
    fs::write(&table, "").unwrap();
    let mut client = live.client();
    for at in 0..4 {
        assert_eq!(client.post("/write?db=a", format!("m v=1i {at}\n")).status, 204);
        assert!(client.post("/api/v1/flush", "").status >= 500);
    }
    fs::remove_file(&table).unwrap();
    assert!((0..10).any(|_| client.post("/api/v1/flush", "").status == 200));
    // The first was begun; the others waited for it.
    assert_eq!(files(live.directory.path()).len(), 2);
    assert_eq!(live.rows("a").len(), 4);
}

#[test]
fn flushes_in_a_row_overwrite_nothing() {
    let live = Live::start();
    let mut client = live.client();
    for at in 0..20 {
        assert_eq!(client.post("/write?db=a", format!("m v=1i {at}")).status, 204);
        assert_eq!(client.post("/api/v1/flush", "").status, 200);
    }
    assert_eq!(files(live.directory.path()).len(), 20);
    assert_eq!(live.rows("a").len(), 20);
}

#[test]
fn rows_of_one_time_and_tag_set_are_all_kept() {
    let live = Live::start();
    let body = "m,host=a x=1i 1\nm,host=a y=2i 1\nm,host=a x=3i 1\n";
    assert_eq!(live.post("/write?db=a", body).status, 204);
    let rows: Vec<_> = live.rows("a").iter().map(|row| text(row, true)).collect();
    assert_eq!(rows, ["x=1 at 1", "y=2 at 1", "x=3 at 1"]);
}

#[test]
fn every_test_in_the_table_above_exists() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let own = include_str!("arc_failures.rs");
    let rows = own.lines().filter_map(|line| line.strip_prefix("//! | "));
    let mut count = 0;
    for row in rows.filter(|row| !row.starts_with("Arc's")) {
        let tests = row.split(" | ").nth(1).unwrap();
        let mut file = "arc_failures.rs";
        for name in tests.split('`').skip(1).step_by(2) {
            if name.contains('.') {
                file = name;
                continue;
            }
            let source = fs::read_to_string(folder.join(file)).unwrap();
            assert!(source.contains(&format!("fn {name}(")), "{file} has no {name}");
            count += 1;
        }
    }
    assert!(count > 50);
}
