//! Every vector of `tests/corpus/line_protocol` gives its target rows and rejections.
//!
//! The target is `ours` where a record has it, else the record itself. [`DEPARTURES`] names the
//! records whose source expects something else than `schemas/wire/line_protocol.ebnf` says.

use std::path::Path;

use base64::Engine as _;
use peristyle::decode::Precision;
use simd_json::OwnedValue;
use simd_json::prelude::*;

use crate::lines::{self, Outcome};
use crate::naive::line_protocol::{Row, Value};

/// Corpus file and line of a record we do not follow, and why.
type Departure = (&'static str, usize, &'static str);

/// What we read otherwise than the source.
const DEPARTURES: &[Departure] = &[
    ("corpus-encode", 50, "D25: `\\n` in a string stays two characters"),
    ("corpus-encode", 60, "D7: `\\\\ ` ends the tag value by the v3 rule, which comes first"),
    ("corpus-encode", 113, "D7: `\\\\=` ends the tag key by the v3 rule, which comes first"),
    ("influxdb3", 11, "D13: a tag with an empty value is absent"),
    ("influxdb3", 13, "D13: a tag with an empty value is absent"),
    ("influxdb3", 14, "D13: a tag with an empty value is absent"),
    ("influxdb3", 15, "D13: a tag with an empty value is absent"),
    ("influxdb3", 16, "D13: a tag with an empty value is absent"),
    ("influxdb3", 58, "D21: a float that overflows is no value"),
    ("influxdb3", 96, "D13: a tag with an empty value is absent"),
    ("line-protocol-decoder", 23, "D10: control characters in names are taken"),
    ("line-protocol-decoder", 24, "D10: control characters in names are taken"),
    ("line-protocol-decoder", 26, "D25: `\\t` in a string stays two characters"),
];

/// Records whose rows the columns refuse: the source knows no columns.
const COLUMN_CONFLICTS: &[Departure] = &[
    ("influxdb3", 102, "decision 5: `value` is a float, then a string"),
    ("recommended", 213, "decision 5: `f` is a string, then a float"),
];

struct Vector {
    file: String,
    line: usize,
    body: Vec<u8>,
    precision: Precision,
    expected: Outcome,
    /// Whether the source tells the lines and reasons of rejections.
    names_rejections: bool,
}

fn vectors() -> Vec<Vector> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/line_protocol");
    let mut vectors = Vec::new();
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|it| it != "jsonl") {
            continue;
        }
        let file = path.file_stem().unwrap().to_str().unwrap();
        for (index, record) in std::fs::read_to_string(&path).unwrap().lines().enumerate() {
            vectors.push(vector(file, index + 1, record));
        }
    }
    vectors
}

fn vector(file: &str, line: usize, record: &str) -> Vector {
    let record = simd_json::to_owned_value(&mut record.as_bytes().to_vec()).unwrap();
    let body =
        base64::engine::general_purpose::STANDARD.decode(record.get_str("input").unwrap()).unwrap();
    let precision = Precision::from_name(record.get_str("precision").unwrap()).unwrap();
    let target = record.get("ours").unwrap_or(&record);
    let mut expected = Outcome::default();
    for row in target.get_array("lines").unwrap() {
        expected.rows.push(lines::stored(expected_row(row), precision));
    }
    for error in target.get_array("errors").into_iter().flatten() {
        let line = error.get("line_number").or_else(|| error.get("line"));
        let reason = error.get_str("reason").unwrap();
        expected.rejections.push((line.and_then(ValueAsScalar::as_u64).unwrap(), reason.into()));
    }
    let names_rejections = target.get("errors").is_some();
    let file = file.to_owned();
    Vector { file, line, body, precision, expected: expected.sorted(), names_rejections }
}

fn expected_row(row: &OwnedValue) -> Row {
    assert!(row.get("tags_list").is_none() && row.get("fields_list").is_none());
    let tags = row.get_object("tags").unwrap().iter();
    let fields = row.get_object("fields").unwrap().iter();
    Row {
        line: 0,
        measurement: row.get_str("measurement").unwrap().to_owned(),
        tags: tags.map(|(key, value)| (key.clone(), value.as_str().unwrap().into())).collect(),
        fields: fields.map(|(key, value)| (key.clone(), expected_value(value))).collect(),
        time: row.get_str("timestamp").map(|it| it.parse().unwrap()),
    }
}

fn expected_value(field: &OwnedValue) -> Value {
    let text = || field.get_str("value").unwrap();
    match field.get_str("type").unwrap() {
        "bool" => Value::Bool(field.get_bool("value").unwrap()),
        "float" => Value::F64(text().parse().unwrap()),
        "int" => Value::I64(text().parse().unwrap()),
        "string" => Value::String(text().to_owned()),
        "uint" => Value::U64(text().parse().unwrap()),
        other => panic!("unknown type {other}"),
    }
}

/// Runs every vector through `decode`; a listed departure must depart, no other may.
fn check(decode: fn(&[u8], Precision) -> Outcome, departures: &[&[Departure]]) {
    let vectors = vectors();
    assert_eq!(vectors.len(), 7221);
    let mut failures = Vec::new();
    for vector in &vectors {
        let mut found = decode(&vector.body, vector.precision);
        if !vector.names_rejections {
            found.rejections.clear();
        }
        let agrees =
            found.rows == vector.expected.rows
                && found.rejections.len() == vector.expected.rejections.len()
                && found.rejections.iter().zip(&vector.expected.rejections).all(
                    |(found, expected)| found.0 == expected.0 && found.1.starts_with(&expected.1),
                );
        let mut listed = departures.iter().copied().flatten();
        let listed = listed.any(|it| it.0 == vector.file && it.1 == vector.line);
        if agrees == listed {
            failures.push(format!(
                "{}:{}: {}\n    {:?}\n    expected {:?}\n    found    {found:?}\n",
                vector.file,
                vector.line,
                if listed { "is listed as a departure but agrees" } else { "departs" },
                String::from_utf8_lossy(&vector.body),
                vector.expected,
            ));
        }
    }
    assert!(failures.is_empty(), "{}", failures.concat());
}

#[test]
fn the_naive_decoder_gives_the_rows_of_every_vector() {
    check(lines::naive, &[DEPARTURES]);
}

#[test]
fn every_vector_gives_its_rows_and_rejections() {
    check(lines::fast, &[DEPARTURES, COLUMN_CONFLICTS]);
}

#[test]
fn the_grammar_names_every_departure() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/wire/line_protocol.ebnf");
    let grammar = std::fs::read_to_string(path).unwrap();
    for (file, line, reason) in DEPARTURES {
        let number = reason.split(':').next().unwrap();
        assert!(grammar.contains(&format!("{number}:")), "{file}:{line}: {number}");
    }
}

#[test]
fn departures_stay_few() {
    assert!(DEPARTURES.len() + COLUMN_CONFLICTS.len() < 20);
}
