//! Requests recorded from real clients get the answers, and give the rows, that they got then.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use simd_json::OwnedValue;
use simd_json::prelude::*;

use crate::live::Live;
use crate::support::{Row, Value};

/// What one client sent.
struct Recording {
    file: String,
    database: String,
    requests: Vec<Request>,
    rows: Vec<Row>,
}

struct Request {
    bytes: Vec<u8>,
    status: u16,
}

fn recordings() -> Vec<Recording> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/clients");
    let mut recordings = Vec::new();
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|it| it == "jsonl") {
            let file = path.file_stem().unwrap().to_str().unwrap().to_owned();
            recordings.push(recording(file, &std::fs::read_to_string(&path).unwrap()));
        }
    }
    recordings.sort_by(|a, b| a.file.cmp(&b.file));
    recordings
}

fn recording(file: String, text: &str) -> Recording {
    let mut lines: Vec<OwnedValue> = text
        .lines()
        .map(|line| simd_json::to_owned_value(&mut line.as_bytes().to_vec()).unwrap())
        .collect();
    let database = lines.remove(0).get_str("database").unwrap().to_owned();
    let rows = lines.pop().unwrap().get_array("rows").unwrap().iter().map(row).collect();
    Recording { file, database, requests: lines.iter().map(request).collect(), rows }
}

fn request(line: &OwnedValue) -> Request {
    let body = base64::engine::general_purpose::STANDARD.decode(line.get_str("body").unwrap());
    let bytes = [line.get_str("head").unwrap().as_bytes(), &body.unwrap()].concat();
    Request { bytes, status: line.get_u16("status").unwrap() }
}

fn row(row: &OwnedValue) -> Row {
    let tags = row.get_object("tags").unwrap().iter();
    let fields = row.get_object("fields").unwrap().iter();
    Row {
        measurement: row.get_str("measurement").unwrap().into(),
        time_ns: row.get_i64("time_ns").unwrap().into(),
        tags: tags.map(|(name, value)| (name.clone(), value.as_str().unwrap().into())).collect(),
        fields: fields.map(|(name, value)| (name.clone(), field(value))).collect(),
    }
}

fn field(value: &OwnedValue) -> Value {
    match value {
        value if value.is_bool() => Value::Bool(value.as_bool().unwrap()),
        value if value.is_str() => Value::Str(value.as_str().unwrap().to_owned()),
        value if value.is_f64() => Value::Float(value.as_f64().unwrap()),
        value => Value::Int(value.as_i64().unwrap()),
    }
}

/// JSON has one kind of number: where a client sends it, 42.0 of a float column is 42.
fn as_numbers(mut rows: Vec<Row>) -> Vec<Row> {
    for value in rows.iter_mut().flat_map(|row| row.fields.values_mut()) {
        if let Value::Int(integer) = value {
            *value = Value::Str(integer.to_string());
        } else if let Value::Float(float) = value {
            *value = Value::Str(float.to_string());
        }
    }
    rows
}

/// By measurement, in the order of time.
fn by_measurement(mut rows: Vec<Row>) -> BTreeMap<String, Vec<Row>> {
    rows.sort_by_key(|row| (row.time_ns, format!("{row:?}")));
    let mut sorted = BTreeMap::<_, Vec<Row>>::new();
    for row in rows {
        sorted.entry(row.measurement.clone()).or_default().push(row);
    }
    sorted
}

/// Nothing runs Vector: this holds what can be held without it.
#[test]
fn the_example_of_vector_writes_to_the_address_we_listen_on() {
    let text = include_str!("../../schemas/examples/vector/vector.toml");
    let file: toml::Table = text.parse().expect("TOML");
    let sinks = file["sinks"].as_table().unwrap();
    assert_eq!(sinks.len(), 2);
    for (name, sink) in sinks {
        assert_eq!(sink["endpoint"].as_str(), Some("http://127.0.0.1:8086"), "{name}");
        assert!(sink["type"].as_str().unwrap().starts_with("influxdb_"), "{name}");
        for input in sink["inputs"].as_array().unwrap() {
            assert!(file["sources"].get(input.as_str().unwrap()).is_some(), "{name}: {input:?}");
        }
    }
}

#[test]
fn what_real_clients_sent_is_answered_and_stored() {
    let recordings = recordings();
    for Recording { file, database, requests, rows } in recordings {
        let live = Live::start();
        for Request { bytes, status } in requests {
            let mut client = live.client();
            client.send(&bytes);
            let answer = client.answer();
            let head = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
            assert_eq!(answer.status, status, "{file}: {head}: {answer:?}");
        }
        let found = live.rows(&database);
        let (found, rows) = match file.as_str() {
            "telegraf_http_json" => (as_numbers(found), as_numbers(rows)),
            _ => (found, rows),
        };
        assert_eq!(by_measurement(found), by_measurement(rows), "{file}");
    }
}
