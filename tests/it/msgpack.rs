//! MessagePack bodies into rows: vectors, shapes, the naive twin, and what Arc makes of the same.

use base64::Engine as _;
use peristyle::decode::cursor::Body;
use peristyle::decode::msgpack::{self, Break, ItemError};
use peristyle::decode::{Context, Precision, Reason, Report};
use peristyle::gather::{AppendError, Atomicity};
use peristyle::limits::Limits;
use peristyle::timestamp::Timestamp;
use proptest::prelude::*;
use rmpv::Value as Tree;
use simd_json::OwnedValue;
use simd_json::prelude::*;

use crate::msgpack_bodies::{self as bodies, Random, array, encode, map};
use crate::naive::msgpack as naive;
use crate::support::{Row, Shard, Value};

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
}

fn write(shard: &mut Shard, body: &[u8]) -> Report {
    let mut report = Report::default();
    let context =
        Context { precision: Precision::Auto, received: RECEIVED, limits: &Limits::DEFAULT };
    let mut buffer = body.to_vec();
    shard.write(Atomicity::Rows, |database| {
        msgpack::decode(Body::new(&mut buffer), &context, database, &mut report);
    });
    report
}

fn decode(body: &[u8]) -> Decoded {
    let mut shard = Shard::new();
    let report = write(&mut shard, body);
    let chunks = shard.chunks();
    let rows = chunks
        .iter()
        .flat_map(|it| crate::support::rows_of(&it.measurement.name, &it.batch))
        .collect();
    let decoded = Decoded { rows, report, chunk_count: chunks.len() };
    assert_eq!(decoded.rows.len() as u64, decoded.report.accepted);
    decoded
}

fn decode_tree(tree: &Tree) -> Decoded {
    decode(&encode(tree))
}

/// All rows of `tree` are taken.
fn rows(tree: &Tree) -> Vec<Row> {
    let decoded = decode_tree(tree);
    assert_eq!(decoded.report.rejected, 0, "{:?}", decoded.reasons());
    decoded.rows
}

fn row(measurement: &str, time_ns: i128, tags: &[(&str, &str)], fields: &[(&str, Value)]) -> Row {
    Row {
        measurement: measurement.into(),
        time_ns,
        tags: tags.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        fields: fields.iter().map(|(name, value)| ((*name).into(), value.clone())).collect(),
    }
}

/// `{m: "cpu", t: 1700000000, fields}`.
fn cpu<'a>(fields: impl IntoIterator<Item = (&'a str, Tree)>) -> Tree {
    map([("m", "cpu".into()), ("t", 1_700_000_000.into()), ("fields", map(fields))])
}

fn columnar<'a>(columns: impl IntoIterator<Item = (&'a str, Tree)>) -> Tree {
    map([("m", "cpu".into()), ("columns", map(columns))])
}

// Vectors.

/// Lines of the corpus file whose record we do not follow, and why.
const DEPARTURES: &[(usize, &str)] = &[
    (38, "a row without any value is no row: the columns of this one are all nil"),
    (39, "2.5 in a column of integers is refused with its row; the record lists it as sent"),
    (40, "a string in a column of integers is refused with its row; the record lists it as sent"),
];

fn expected_value(cell: &OwnedValue) -> Option<Value> {
    let text = || cell.get_str("value").unwrap();
    Some(match cell.get_str("type")? {
        "bool" => Value::Bool(cell.get_bool("value").unwrap()),
        "float" => Value::Float(text().parse().unwrap()),
        "int" => Value::Int(text().parse().unwrap()),
        // An unsigned marker does not make an unsigned column: clients use both for one column.
        "uint" => text().parse().map_or_else(|_| Value::Uint(text().parse().unwrap()), Value::Int),
        "string" => Value::Str(text().to_owned()),
        other => panic!("unknown type {other}"),
    })
}

fn expected_rows(record: &OwnedValue) -> Vec<Row> {
    let mut rows = Vec::new();
    for line in record.get_array("lines").into_iter().flatten() {
        let tags = line.get_object("tags").unwrap().iter();
        let fields = line.get_object("fields").unwrap().iter();
        rows.push(Row {
            measurement: line.get_str("measurement").unwrap().into(),
            time_ns: line.get_str("timestamp").unwrap().parse().unwrap(),
            tags: tags.map(|(key, value)| (key.clone(), value.as_str().unwrap().into())).collect(),
            fields: fields
                .map(|(key, value)| (key.clone(), expected_value(value).unwrap()))
                .collect(),
        });
    }
    for table in record.get_array("tables").into_iter().flatten() {
        for at in 0..table.get_usize("rows").unwrap() {
            let mut row = Row {
                measurement: table.get_str("measurement").unwrap().into(),
                ..Row::default()
            };
            for (name, cells) in table.get_object("columns").unwrap().iter() {
                match expected_value(cells.get_idx(at).unwrap()) {
                    Some(Value::Int(ms)) if name == "time" => {
                        row.time_ns = i128::from(ms) * 1_000_000;
                    }
                    Some(value) => _ = row.fields.insert(name.clone(), value),
                    None => {}
                }
            }
            rows.push(row);
        }
    }
    rows
}

fn sorted(mut rows: Vec<Row>) -> Vec<String> {
    rows.sort_by_key(|row| (row.measurement.clone(), row.time_ns));
    rows.iter().map(|row| format!("{row:?}")).collect()
}

#[test]
fn every_vector_gives_its_rows() {
    let file = include_str!("../corpus/msgpack/telegraf-arc.jsonl");
    assert_eq!(file.lines().count(), 40);
    for (index, line) in file.lines().enumerate() {
        let record = simd_json::to_owned_value(&mut line.as_bytes().to_vec()).unwrap();
        let input = record.get_str("input").unwrap();
        let body = base64::engine::general_purpose::STANDARD.decode(input).unwrap();
        let decoded = decode(&body);
        let expected = expected_rows(&record);
        assert_eq!(decoded.report.accepted + decoded.report.rejected, expected.len() as u64);
        let agrees = sorted(decoded.rows) == sorted(expected.clone());
        let departs = DEPARTURES.iter().any(|(line, _)| *line == index + 1);
        assert_eq!(agrees, !departs, "line {}: {expected:?}", index + 1);
        let twin = naive::decode(&body, RECEIVED);
        assert_eq!(sorted(twin.rows) == sorted(expected), !departs, "line {}", index + 1);
    }
}

// The naive twin.

/// Measurement by measurement, in row order.
fn by_measurement(rows: Vec<Row>) -> Vec<String> {
    let mut rows = rows;
    rows.sort_by_key(|row| row.measurement.clone());
    rows.iter().map(|row| format!("{row:?}")).collect()
}

fn agrees_with_naive(body: &[u8]) -> Result<(), TestCaseError> {
    let twin = naive::decode(body, RECEIVED);
    let decoded = decode(body);
    let shown = || format!("{:?}\n{body:02x?}", decoded.report);
    prop_assert_eq!(by_measurement(decoded.rows.clone()), by_measurement(twin.rows), "{}", shown());
    prop_assert_eq!(decoded.report.rejected, twin.rejected as u64, "{}", shown());
    prop_assert_eq!(decoded.report.dropped_fields, twin.dropped_fields as u64, "{}", shown());
    let is_malformed = decoded
        .report
        .rejections
        .last()
        .is_some_and(|it| matches!(it.reason, Reason::MessagePack(ItemError::Malformed(_))));
    prop_assert_eq!(is_malformed, twin.is_malformed, "{}", shown());
    for pair in decoded.report.rejections.windows(2) {
        prop_assert!(pair[0].line < pair[1].line && pair[0].start <= pair[1].start);
    }
    for rejection in &decoded.report.rejections {
        prop_assert!(rejection.start <= rejection.end && rejection.end <= body.len());
    }
    Ok(())
}

fn random_body(random: &mut Random) -> Vec<u8> {
    let mut body = Vec::new();
    if random.once_in(4) {
        let rows = bodies::steady_rows(random);
        match random.below(3) {
            0 => rows.iter().for_each(|row| body.extend(encode(row))),
            1 => body.extend(encode(&Tree::Array(rows))),
            _ => body.extend(encode(&map([("batch", Tree::Array(rows))]))),
        }
    }
    for _ in 0..random.below(8) {
        bodies::encode_any(&bodies::item(random, 0), random, &mut body);
    }
    body
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn any_body_gives_the_rows_of_the_naive_decoder(seed: u64) {
        agrees_with_naive(&random_body(&mut Random::new(seed)))?;
    }

    #[test]
    fn a_damaged_body_gives_the_rows_of_the_naive_decoder(seed: u64) {
        let mut random = Random::new(seed);
        let mut body = random_body(&mut random);
        for _ in 0..random.below(3) {
            if body.is_empty() {
                break;
            }
            let at = random.below(body.len());
            let any = random.next() as u8;
            body[at] = random.of(&[0xc1, 0x91, 0xdf, 0xdb, any]);
        }
        if random.once_in(2) {
            body.truncate(random.below(body.len() + 1));
        }
        agrees_with_naive(&body)?;
    }

    #[test]
    fn noise_gives_the_rows_of_the_naive_decoder(body: Vec<u8>) {
        agrees_with_naive(&body)?;
    }
}
