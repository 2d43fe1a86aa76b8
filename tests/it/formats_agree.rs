//! The same rows give the same tables, whatever format they come in and however they are split.

use std::collections::BTreeMap;

use arrow_buffer::Buffer;
use peristyle::decode::cursor::Body;
use peristyle::decode::ipc::{self, Parameters};
use peristyle::decode::json::{self, Scratch};
use peristyle::decode::{Context, Precision, Report, line_protocol, msgpack};
use peristyle::gather::Atomicity;
use peristyle::limits::Limits;
use peristyle::timestamp::Timestamp;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use crate::arrow_bodies::streams;
use crate::live::Live;
use crate::support::{Row, Shard, Value};

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(vec!["host", "cpu", "used", "a", "b", "c", "idle"])
            .prop_map(str::to_owned),
        1 => "[a-zA-Z0-9_ ,=.%\u{e9}]{1,12}",
    ]
    .prop_filter("reserved, or a tag's", |name| name != "time" && !name.starts_with("t_"))
}

/// A field value of a kind that its name decides, so that every row can be stored.
fn value(name: &str, seed: u64) -> Value {
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_wrap, reason = "any value will do")]
    match name.bytes().map(u64::from).sum::<u64>() % 4 {
        0 => Value::Int(seed as i64),
        1 => Value::Float(seed as f64 / 8.0 + 0.5),
        2 => Value::Bool(seed.is_multiple_of(2)),
        _ => Value::Str(format!("s\"\\ {seed},=\n")),
    }
}

fn row() -> impl Strategy<Value = Row> {
    let tags = btree_map(name(), "[a-z0-9 ,=\u{e9}]{1,8}", 0..4);
    let fields = btree_map(name(), any::<u64>(), 1..5);
    let measurement = prop_oneof![Just("m".to_owned()), Just("cpu load".to_owned())];
    (measurement, tags, fields, 0..4_000_000_000_000_000_000_i64).prop_map(
        |(measurement, tags, fields, time)| Row {
            measurement,
            time_ns: time.into(),
            // A tag and a field of one name clash by design, and no field's name begins so.
            tags: tags.into_iter().map(|(k, v)| (format!("t_{k}"), v)).collect(),
            fields: fields.into_iter().map(|(k, seed)| (k.clone(), value(&k, seed))).collect(),
        },
    )
}

fn escape(text: &str, escaped: &[char]) -> String {
    let mut out = String::new();
    for char in text.chars() {
        if escaped.contains(&char) {
            out.push('\\');
        }
        out.push(char);
    }
    out
}

fn to_line(row: &Row) -> String {
    let mut head = vec![escape(&row.measurement, &[',', ' '])];
    for (key, value) in &row.tags {
        let escaped = &[',', ' ', '='];
        head.push(format!("{}={}", escape(key, escaped), escape(value, escaped)));
    }
    let fields: Vec<String> = row
        .fields
        .iter()
        .map(|(key, value)| {
            let value = match value {
                Value::Int(value) => format!("{value}i"),
                Value::Float(value) => format!("{value:?}"),
                Value::Bool(value) => value.to_string(),
                Value::Str(value) => format!("\"{}\"", escape(value, &['"', '\\'])),
                other => unreachable!("{other:?} is not generated"),
            };
            format!("{}={value}", escape(key, &[',', ' ', '=']))
        })
        .collect();
    format!("{} {} {}\n", head.join(","), fields.join(","), row.time_ns)
}

fn to_msgpack(row: &Row) -> rmpv::Value {
    let tags = row.tags.iter().map(|(k, v)| (k.as_str().into(), v.as_str().into())).collect();
    let fields = row
        .fields
        .iter()
        .map(|(key, value)| {
            let value = match value {
                Value::Int(value) => (*value).into(),
                Value::Float(value) => (*value).into(),
                Value::Bool(value) => (*value).into(),
                Value::Str(value) => value.as_str().into(),
                other => unreachable!("{other:?} is not generated"),
            };
            (key.as_str().into(), value)
        })
        .collect();
    let seconds = i64::try_from(row.time_ns.div_euclid(1_000_000_000)).unwrap();
    let nanoseconds = u32::try_from(row.time_ns.rem_euclid(1_000_000_000)).unwrap();
    let time = [nanoseconds.to_be_bytes().to_vec(), seconds.to_be_bytes().to_vec()].concat();
    rmpv::Value::Map(vec![
        ("name".into(), row.measurement.as_str().into()),
        ("time".into(), rmpv::Value::Ext(-1, time)),
        ("tags".into(), rmpv::Value::Map(tags)),
        ("fields".into(), rmpv::Value::Map(fields)),
    ])
}

fn lines(rows: &[Row]) -> Vec<u8> {
    rows.iter().map(to_line).collect::<String>().into_bytes()
}

fn messages(rows: &[Row]) -> Vec<u8> {
    let mut body = Vec::new();
    for row in rows {
        rmpv::encode::write_value(&mut body, &to_msgpack(row)).unwrap();
    }
    body
}

fn to_json(row: &Row) -> String {
    let string = |text: &str| format!("\"{}\"", escape(text, &['"', '\\']).replace('\n', "\\n"));
    let tags = row.tags.iter().map(|(key, value)| format!("{}:{}", string(key), string(value)));
    let fields = row.fields.iter().map(|(key, value)| {
        let value = match value {
            Value::Int(value) => value.to_string(),
            Value::Float(value) => format!("{value:?}"),
            Value::Bool(value) => value.to_string(),
            Value::Str(value) => string(value),
            other => unreachable!("{other:?} is not generated"),
        };
        format!("{}:{value}", string(key))
    });
    format!(
        "{{\"fields\":{{{}}},\"name\":{},\"tags\":{{{}}},\"timestamp\":{}}}",
        fields.collect::<Vec<_>>().join(","),
        string(&row.measurement),
        tags.collect::<Vec<_>>().join(","),
        row.time_ns
    )
}

/// A batch of Telegraf's.
fn batch(rows: &[Row]) -> Vec<u8> {
    let rows: Vec<String> = rows.iter().map(to_json).collect();
    format!("{{\"metrics\":[{}]}}", rows.join(",")).into_bytes()
}

/// A document on each line.
fn documents(rows: &[Row]) -> Vec<u8> {
    rows.iter().map(|row| to_json(row) + "\n").collect::<String>().into_bytes()
}

fn decode_json(
    body: Body<'_>,
    context: &Context<'_>,
    database: &mut peristyle::gather::Database,
    report: &mut Report,
) {
    json::decode(body, context, &mut Scratch::default(), database, report);
}

fn decode_arrow(
    body: Body<'_>,
    context: &Context<'_>,
    database: &mut peristyle::gather::Database,
    report: &mut Report,
) {
    let body = Buffer::from_vec(body.bytes().to_vec());
    ipc::decode(&body, &Parameters::default(), context, database, report);
}

type Decode = fn(Body<'_>, &Context<'_>, &mut peristyle::gather::Database, &mut Report);

/// The tables after these bodies, rows in the order they came in, by measurement.
fn decoded(decode: Decode, bodies: Vec<Vec<u8>>) -> BTreeMap<String, Vec<Row>> {
    let mut shard = Shard::new();
    let context = Context {
        precision: Precision::Nanosecond,
        received: Timestamp::default(),
        limits: &Limits::DEFAULT,
    };
    for mut body in bodies {
        let mut report = Report::default();
        shard.write(Atomicity::Rows, |database| {
            decode(Body::new(&mut body), &context, database, &mut report);
        });
        assert_eq!(report.rejected, 0, "{:?}", report.rejections);
    }
    by_measurement(shard.rows())
}

fn by_measurement(rows: Vec<Row>) -> BTreeMap<String, Vec<Row>> {
    let mut tables: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    for row in rows {
        tables.entry(row.measurement.clone()).or_default().push(row);
    }
    tables
}

proptest! {
    #[test]
    fn all_formats_agree(rows in vec(row(), 1..40)) {
        let expected = by_measurement(rows.clone());
        prop_assert_eq!(&decoded(line_protocol::decode, vec![lines(&rows)]), &expected);
        prop_assert_eq!(&decoded(msgpack::decode, vec![messages(&rows)]), &expected);
        prop_assert_eq!(&decoded(decode_json, vec![batch(&rows)]), &expected);
        prop_assert_eq!(&decoded(decode_json, vec![documents(&rows)]), &expected);
        prop_assert_eq!(&decoded(decode_arrow, vec![streams(&rows)]), &expected);
    }

    #[test]
    fn any_split_into_bodies_gives_the_same_rows(rows in vec(row(), 2..40), at in 1_usize..40) {
        let (first, second) = rows.split_at(at.min(rows.len()));
        let whole = decoded(line_protocol::decode, vec![lines(&rows)]);
        let split = decoded(line_protocol::decode, vec![lines(first), lines(second)]);
        prop_assert_eq!(whole, split);
        let whole = decoded(msgpack::decode, vec![messages(&rows)]);
        let split = decoded(msgpack::decode, vec![messages(first), messages(second)]);
        prop_assert_eq!(&whole, &split);
        let split = decoded(decode_json, vec![batch(first), documents(second)]);
        prop_assert_eq!(&whole, &split);
        let split = decoded(decode_arrow, vec![streams(first), streams(second)]);
        prop_assert_eq!(&whole, &split);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Body over HTTP, through every format, to Parquet, and read back.
    #[test]
    fn what_was_sent_is_what_is_read(rows in vec(row(), 1..60)) {
        let live = Live::start();
        for (database, target, body) in [
            ("l", "/write?db=l", lines(&rows)),
            ("m", "/api/v1/write/msgpack?db=m", messages(&rows)),
            ("j", "/api/v1/write/json?db=j&precision=ns", batch(&rows)),
            ("a", "/api/v1/write/arrow?db=a", streams(&rows)),
        ] {
            let answer = live.post(target, body);
            prop_assert_eq!((answer.status, answer.header("x-peristyle-rejected")), (204, None));
            let mut expected = rows.clone();
            expected.sort_by(|a, b| {
                (&a.measurement, a.time_ns).cmp(&(&b.measurement, b.time_ns))
            });
            prop_assert_eq!(live.rows(database), expected);
        }
    }
}
