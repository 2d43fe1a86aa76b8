//! Refused rows are kept in `_rejected` of their database, and their kinds hold across restarts.

use peristyle::engine::REJECTED;

use crate::live::{Live, files, read_all_rows};
use crate::support::{Row, Value};

/// The columns of the refused rows of a database, as `name=value`, without their times.
fn refused(live: &Live, database: &str) -> Vec<String> {
    assert_eq!(live.post("/api/v1/flush", "").status, 200);
    let rows = read_all_rows(live.directory.path(), database);
    let rows = rows.iter().filter(|row| row.measurement == REJECTED);
    rows.map(text).collect()
}

fn text(row: &Row) -> String {
    let plain = |value: &Value| match value {
        Value::Str(text) => text.clone(),
        Value::Int(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    let mut columns = row.tags.clone();
    columns.extend(row.fields.iter().map(|(name, value)| (name.clone(), plain(value))));
    let columns: Vec<_> = columns.iter().map(|(name, value)| format!("{name}={value}")).collect();
    columns.join(" ")
}

#[test]
fn a_refused_line_is_kept_with_its_reason() {
    let live = Live::start();
    let body = "cpu v=1i 1\ncpu v=\"x\" 2\nmem\\ a,host= v=oops 3\n";
    assert_eq!(live.post("/write?db=a", body).status, 400);
    assert_eq!(
        refused(&live, "a"),
        [
            "endpoint=/write line=2 measurement=cpu reason=field type conflict: input field \"v\" \
             on measurement \"cpu\" is type string, already exists as type integer \
             row=cpu v=\"x\" 2",
            "endpoint=/write line=3 measurement=mem a reason=invalid field value \
             row=mem\\ a,host= v=oops 3",
        ]
    );
}

#[test]
fn a_refused_row_of_messagepack_is_kept_in_hex() {
    let live = Live::start();
    assert_eq!(live.post("/api/v1/write/msgpack?db=a", [0x91, 0x05]).status, 400);
    let kept = refused(&live, "a");
    assert_eq!(kept.len(), 1);
    assert!(kept[0].contains("endpoint=/api/v1/write/msgpack line=1"), "{kept:?}");
    assert!(kept[0].ends_with("row_hex=05"), "{kept:?}");
}

#[test]
fn a_refused_row_of_json_is_kept_as_it_was_received() {
    let live = Live::start();
    let body =
        "{\"metrics\":[{\"m\":\"a\",\"fields\":{\"s\":\"\\u00e9\\ud800\"}}]}\n{\"m\": oops}\n";
    live.post("/api/v1/write/json?db=a", body);
    assert_eq!(
        refused(&live, "a"),
        [
            "endpoint=/api/v1/write/json line=1 reason=expected an escape of RFC 8259, found \
             another for \"s\" at byte 35 row={\"m\":\"a\",\"fields\":{\"s\":\"\\u00e9\\ud800\"}}",
            "endpoint=/api/v1/write/json line=2 reason=not JSON: expected a value, found 'o' at \
             byte 60 row={\"m\": oops}",
        ]
    );
}

#[test]
fn what_is_kept_of_a_row_is_cut_at_4_kib() {
    let live = Live::start();
    for (bytes, kept) in [(4095, 4095), (4096, 4096), (4097, 4096)] {
        let line = format!("m{bytes} {}", "x".repeat(bytes - format!("m{bytes} ").len()));
        live.post(&format!("/write?db=b{bytes}"), line);
        let row = refused(&live, &format!("b{bytes}")).remove(0);
        let row = row.split("row=").nth(1).unwrap().to_owned();
        assert_eq!(row.len(), kept);
    }
}

/// A body of one line of a hundred megabytes was copied as if all of it were a name.
#[test]
fn what_is_kept_of_a_measurement_is_cut_at_255_bytes() {
    let live = Live::start();
    let names = [254, 255, 256, 4 << 20].map(|bytes| "m".repeat(bytes));
    let kept = [254, 255, 255, 255].map(|bytes| "m".repeat(bytes));
    let (whole, cut) = ("\u{e9}".repeat(128), "\u{e9}".repeat(127));
    let cases = names.iter().zip(&kept).chain([(&whole, &cut)]);
    for (at, (name, kept)) in cases.enumerate() {
        live.post(&format!("/write?db=b{at}"), name.clone());
        let row = refused(&live, &format!("b{at}")).remove(0);
        let measurement = row.split("measurement=").nth(1).expect("a measurement");
        assert_eq!(measurement.split(' ').next(), Some(&**kept), "{} bytes", name.len());
    }
}

#[test]
fn a_hundred_rows_of_a_body_are_kept() {
    for (count, kept) in [(99, 99), (100, 100), (101, 100)] {
        let live = Live::start();
        live.post("/write?db=a", "cpu v=\n".repeat(count));
        assert_eq!(refused(&live, "a").len(), kept);
    }
}

#[test]
fn a_shard_keeps_so_many_in_a_second() {
    for (max, kept) in [(49, 49), (50, 50), (51, 50)] {
        let live = Live::start_with(|options| {
            options.shards = 1;
            options.limits.rejected_per_second_max = max;
        });
        live.post("/write?db=a", "cpu v=\n".repeat(50));
        assert_eq!(refused(&live, "a").len(), kept);
    }
}

#[test]
fn a_client_that_made_rejected_its_own_way_keeps_it() {
    let live = Live::start();
    assert_eq!(live.post("/write?db=a", "_rejected line=\"mine\" 1").status, 204);
    assert_eq!(live.post("/write?db=a", "cpu v=").status, 400);
    assert_eq!(refused(&live, "a"), ["line=mine"]);
}

#[test]
fn kinds_hold_across_restarts() {
    let mut live = Live::start();
    assert_eq!(live.post("/write?db=a", "cpu,host=h v=1i,w=1 1").status, 204);
    for _ in 0..2 {
        live.restart(|_| {});
        let answer =
            live.post("/write?db=a", "cpu,host=h v=1.5 2\ncpu host=\"h\",w=2 3\ncpu w=3 4");
        assert_eq!(answer.status, 400);
        assert!(answer.body.contains("is type float, already exists as type integer"));
        assert_eq!(live.post("/write?db=a", "cpu,host=h v=7i,w=1 9").status, 204);
    }
    assert!(!files(live.directory.path()).is_empty());
}
