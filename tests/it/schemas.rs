//! Every file of `schemas/` says what the code does: pins, limits, kinds.

use std::fs;
use std::path::Path;

use peristyle::limits::{ConnectionLimits, Limits, Timeouts};
use peristyle::schema::pinned::{self, PinnedColumn, PinnedSchema, SHIPPED, Source};
use peristyle::schema::{ColumnKind, Role};
use tempfile::TempDir;

fn schemas() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/schemas"))
}

#[test]
fn every_file_of_measurements_is_shipped_in_order() {
    let mut files: Vec<String> = fs::read_dir(schemas().join("measurements"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    let shipped: Vec<&str> = SHIPPED.iter().map(|(file, _)| *file).collect();
    assert_eq!(files, shipped);
}

#[test]
fn shipped_pins_are_open_named_as_their_files_and_sorted_by_time() {
    let loaded = pinned::load(&Source::Shipped).unwrap();
    assert_eq!(loaded.len(), SHIPPED.len());
    for ((file, _), schema) in SHIPPED.iter().zip(&loaded) {
        assert_eq!(*file, format!("{}.json", schema.measurement));
        assert!(!schema.closed, "{file} refuses what another version sends");
        assert_eq!(schema.sort_key, ["time"], "{file}");
        assert_eq!(schema.columns.first().unwrap().name, "host", "{file}");
    }
}

/// What Telegraf's own documentation shows each input to emit, in one line each.
#[test]
fn shipped_pins_have_the_kinds_that_telegraf_sends() {
    let lines = [
        ("cpu", "usage_active=1.5,usage_guest=0,usage_idle=8.75,time_user=154324.34"),
        ("disk", "free=6i,inodes_free=9i,inodes_total=5i,inodes_used=0i,total=1i,used=1i"),
        ("disk", "used_percent=20.131039916242397,inodes_used_percent=1.5"),
        ("diskio", "io_time=97i,iops_in_progress=0i,merged_reads=1i,merged_writes=2i,reads=1i"),
        ("diskio", "read_bytes=1i,read_time=1i,weighted_io_time=7i,write_bytes=1i,writes=1i"),
        ("diskio", "io_await=1.5,io_svctm=0.25,io_util=99.5"),
        ("kernel", "boot_time=1i,context_switches=1i,entropy_avail=256i,interrupts=1i"),
        ("mem", "active=1i,available=1i,available_percent=80.4,huge_pages_total=0i,wired=0i"),
        ("mem", "commit_limit=1i,committed_as=1i,used_percent=15.9,write_back_tmp=0i"),
        ("net", "bytes_recv=1i,bytes_sent=1i,drop_in=0i,err_out=0i,packets_recv=1i,speed=1i"),
        ("netstat", "tcp_close=0i,tcp_established=14i,tcp_none=46i,udp_socket=10i"),
        ("processes", "blocked=8i,idle=1i,running=1i,total=274i,total_threads=687i,zombies=0i"),
        ("swap", "free=1i,total=1i,used=0i,used_percent=2.5,in=0i,out=0i"),
        ("system", "load1=3.72,load15=2.1,load5=2.4,n_cpus=2i,n_users=3i,uptime=1249632i"),
        ("system", "uptime_format=\"14 days, 11:07\""),
    ];
    let schemas = pinned::load(&Source::Shipped).unwrap();
    for (measurement, fields) in lines {
        let schema = schemas.iter().find(|it| it.measurement == measurement).unwrap();
        for field in fields.split(',').filter(|field| field.contains('=')) {
            let (name, value) = field.split_once('=').unwrap();
            let kind = match value.as_bytes() {
                [b'"', ..] => ColumnKind::String,
                [.., b'i'] => ColumnKind::I64,
                _ => ColumnKind::F64,
            };
            let column = schema.columns.iter().find(|column| column.name == name).expect(name);
            assert_eq!((column.role, column.kind), (Role::Field, kind), "{measurement} {name}");
        }
    }
}

#[test]
fn a_pin_is_read_whole() {
    let text = r#"{
        "measurement": "door", "closed": true, "sort_key": ["room", "time"],
        "columns": [
            {"name": "room", "role": "tag"},
            {"name": "open", "role": "field", "kind": "boolean"},
            {"name": "since", "role": "field", "kind": "timestamp", "unit": "utc"}
        ]}"#;
    let column = |name: &str, role, kind, unit: Option<&str>| PinnedColumn {
        name: name.to_owned(),
        role,
        kind,
        unit: unit.map(str::to_owned),
    };
    let expected = PinnedSchema {
        measurement: "door".to_owned(),
        closed: true,
        columns: vec![
            column("room", Role::Tag, ColumnKind::String, None),
            column("open", Role::Field, ColumnKind::Bool, None),
            column("since", Role::Field, ColumnKind::Time, Some("utc")),
        ],
        sort_key: vec!["room".to_owned(), "time".to_owned()],
    };
    assert_eq!(pinned::parse("door.json", text).unwrap(), expected);
}

#[test]
fn a_pin_that_cannot_be_used_names_file_and_key() {
    let field = r#"{"name":"a","role":"field","kind":"float"}"#;
    let with = |columns: &str| format!(r#"{{"measurement":"m","columns":[{columns}]}}"#);
    let cases = [
        (r#"{"columns":[]}"#.to_owned(), "measurement: missing"),
        (r#"{"measurement":"m"}"#.to_owned(), "columns: missing"),
        (r#"{"measurement":"","columns":[]}"#.to_owned(), "measurement: expected a name, found an"),
        ("[]".to_owned(), "expected an object, found []"),
        ("{".to_owned(), "not JSON: "),
        (r#"{"measurement":"m","columns":[],"sort":[]}"#.to_owned(), "sort: no such key"),
        (r#"{"measurement":"m","columns":[],"closed":1}"#.to_owned(), "closed: expected true or f"),
        (r#"{"measurement":"m","measurement":"m"}"#.to_owned(), "\"measurement\" is there twice"),
        (with("1"), "columns[0]: expected an object, found 1"),
        (with(r#"{"role":"tag"}"#), "columns[0].name: missing"),
        (with(r#"{"name":"time","role":"tag"}"#), "columns[0].name: expected a name that is not"),
        (with(r#"{"name":"a","role":"time"}"#), "columns[0].role: expected tag or field, found t"),
        (with(r#"{"name":"a","role":"field"}"#), "columns[0].kind: missing"),
        (
            with(r#"{"name":"a","role":"field","kind":"double"}"#),
            "columns[0].kind: expected boolean, integer, unsigned, float, string or timestamp, \
             found double",
        ),
        (
            with(r#"{"name":"a","role":"tag","kind":"float"}"#),
            "columns[0].kind: expected string, as every tag is, found float",
        ),
        (with(&format!("{field},{field}")), "columns[1].name: \"a\" is there twice"),
        (
            r#"{"measurement":"m","columns":[],"sort_key":["b"]}"#.to_owned(),
            "sort_key[0]: expected time or the name of a column, found b",
        ),
        (
            r#"{"measurement":"m","columns":[],"sort_key":["time","time"]}"#.to_owned(),
            "sort_key[1]: \"time\" is there twice",
        ),
        (
            r#"{"measurement":"m","columns":[],"sort_key":[]}"#.to_owned(),
            "sort_key: expected at least one name, found none",
        ),
    ];
    for (text, message) in cases {
        let error = pinned::parse("m.json", &text).expect_err(&text).to_string();
        assert!(error.starts_with("pinned schema m.json: "), "{error}");
        assert!(error.contains(message), "{text}: {error}");
    }
}

#[test]
fn nothing_is_pinned_unless_asked_for_and_a_directory_stands_alone() {
    let dir = TempDir::new().unwrap();
    let put = |file: &str, text: &str| fs::write(dir.path().join(file), text).unwrap();
    put("a.json", r#"{"measurement":"cpu","closed":true,"columns":[]}"#);
    put("b.json", r#"{"measurement":"door","columns":[]}"#);
    put("notes.txt", "not a pin");
    assert_eq!(pinned::load(&Source::default()).unwrap(), []);
    let load = || pinned::load(&Source::Directory(dir.path().to_owned()));
    let schemas = load().unwrap();
    assert_eq!(schemas.len(), 2);
    assert!(schemas.iter().any(|schema| schema.measurement == "cpu" && schema.closed));
    assert!(schemas.is_sorted_by_key(|schema| &schema.measurement));

    put("c.json", r#"{"measurement":"door","columns":[]}"#);
    let error = load().unwrap_err().to_string();
    assert!(error.contains("c.json: measurement: \"door\" is there twice"), "{error}");

    let error = pinned::load(&Source::Directory(dir.path().join("none"))).unwrap_err().to_string();
    assert!(error.contains("none: cannot be read"), "{error}");
}

/// The rows of `limits.md` begin with the field's name and its default.
#[test]
fn limits_md_holds_every_limit_with_its_default() {
    let text = fs::read_to_string(schemas().join("limits.md")).unwrap();
    let documented: Vec<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|row| {
            let (name, rest) = row.split_once("` | ")?;
            Some(format!("{name}: {}", rest.split_once(' ')?.0))
        })
        .collect();
    let debug = [
        format!("{:?}", Limits::DEFAULT),
        format!("{:?}", ConnectionLimits::DEFAULT),
        format!("{:?}", Timeouts::DEFAULT),
    ];
    let fields = debug.iter().filter_map(|text| text.split_once(" { "));
    let fields = fields.flat_map(|(_, fields)| fields.trim_end_matches(" }").split(", "));
    let code: Vec<&str> = fields.collect();
    assert_eq!(documented, code);
}

#[test]
fn kinds_toml_holds_every_kind() {
    let text = fs::read_to_string(schemas().join("kinds.toml")).unwrap();
    let table: toml::Table = text.parse().unwrap();
    let kinds = ["boolean", "integer", "unsigned", "float", "string", "timestamp"];
    assert_eq!(table.keys().count(), kinds.len());
    for name in kinds {
        let kind = ColumnKind::from_name(name).unwrap();
        let row = table.get(kind.name()).and_then(|row| row.as_table()).expect(name);
        let mut keys: Vec<&str> = row.keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(
            keys,
            ["arrow", "json", "line_protocol", "message_pack", "parquet", "takes"],
            "{name}"
        );
        for other in row.get("takes").and_then(|it| it.as_table()).unwrap().keys() {
            assert!(ColumnKind::from_name(other).is_some(), "{name} takes {other}");
        }
    }
}
