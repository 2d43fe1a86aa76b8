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

use crate::agree;
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

fn write(shard: &mut Shard, body: &[u8], limits: &Limits) -> Report {
    let mut report = Report::default();
    let context = Context { precision: Precision::Auto, received: RECEIVED, limits };
    let mut buffer = body.to_vec();
    shard.write(Atomicity::Rows, |database| {
        msgpack::decode(Body::new(&mut buffer), &context, database, &mut report);
    });
    report
}

fn decode(body: &[u8]) -> Decoded {
    decode_within(body, &Limits::DEFAULT)
}

fn decode_within(body: &[u8], limits: &Limits) -> Decoded {
    let mut shard = Shard::new();
    let report = write(&mut shard, body, limits);
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
    (33, "a field without a name has no column: its row is refused, and says why"),
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
            let mut row =
                Row { measurement: table.get_str("measurement").unwrap().into(), ..Row::default() };
            for (name, cells) in table.get_object("columns").unwrap() {
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
        agree::msgpack(&random_body(&mut Random::new(seed)));
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
            let any = random.byte();
            body[at] = random.of(&[0xc1, 0x91, 0xdf, 0xdb, any]);
        }
        if random.once_in(2) {
            body.truncate(random.below(body.len() + 1));
        }
        agree::msgpack(&body);
    }

    #[test]
    fn rows_that_are_alike_give_the_rows_of_the_naive_decoder(seed: u64) {
        let mut random = Random::new(seed);
        let mut body = bodies::alike_rows(&mut random);
        if random.once_in(4) {
            body.truncate(random.below(body.len() + 1));
        }
        agree::msgpack(&body);
    }

    #[test]
    fn noise_gives_the_rows_of_the_naive_decoder(body: Vec<u8>) {
        agree::msgpack(&body);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn rows_without_an_order_of_keys_give_the_rows_of_the_naive_decoder(seed: u64) {
        agree::msgpack(&bodies::unordered_rows(&mut Random::new(seed)));
    }
}

// Shapes.

#[test]
fn an_arc_row_may_have_its_keys_in_any_order_and_as_binary() {
    let expected = [row(
        "cpu",
        T0 + 5_000_000,
        &[("host", "web1"), ("region", "eu")],
        &[("usage", Value::Float(0.5)), ("n", Value::Int(3)), ("ok", Value::Bool(true))],
    )];
    let fields = map([("usage", 0.5.into()), ("n", 3.into()), ("ok", true.into())]);
    let mut pairs: Vec<(Tree, Tree)> = vec![
        ("m".into(), "cpu".into()),
        (Tree::Binary(b"t".to_vec()), 1_700_000_000_005_i64.into()),
        ("h".into(), Tree::Binary(b"web1".to_vec())),
        ("tags".into(), map([("region", "eu".into())])),
        (Tree::Binary(b"fields".to_vec()), fields),
    ];
    for _ in 0..pairs.len() {
        assert_eq!(rows(&Tree::Map(pairs.clone())), expected);
        pairs.rotate_left(1);
    }
    pairs.reverse();
    assert_eq!(rows(&Tree::Map(pairs)), expected);
}

#[test]
fn integers_name_measurement_and_host_and_an_array_numbers_its_fields() {
    let tree = map([
        ("m", 7.into()),
        ("t", 1_700_000_000.into()),
        ("h", 3.into()),
        ("f", array([Tree::F64(1.5), Tree::Nil, 2.into()])),
    ]);
    let fields = [("field_0", Value::Float(1.5)), ("field_2", Value::Int(2))];
    assert_eq!(rows(&tree), [row("measurement_7", T0, &[("host", "host_3")], &fields)]);
}

#[test]
fn a_row_without_host_or_time_gets_no_host_and_the_time_of_receipt() {
    // Arc gives it the host "unknown".
    let tree = map([("measurement", "cpu".into()), ("fields", map([("v", 1.into())]))]);
    let expected = row("cpu", RECEIVED.as_ns(), &[], &[("v", Value::Int(1))]);
    assert_eq!(rows(&tree), std::slice::from_ref(&expected));
    let tree = map([("t", Tree::Nil), ("m", "cpu".into()), ("fields", map([("v", 1.into())]))]);
    assert_eq!(rows(&tree), [expected]);
}

/// The series cache kept a host alone under its bytes, as it kept tags: a row whose `tags` were the
/// string "x" was then taken for one of host "x", although tags that are no map are no tags.
#[test]
fn a_host_is_never_taken_for_tags_that_have_its_bytes() {
    let item = |key: &'static str, value: Tree| {
        map([
            ("m", "cpu".into()),
            ("t", 1_700_000_000.into()),
            (key, value),
            ("fields", map([("v", 1.into())])),
        ])
    };
    let tagged = || item("tags", map([("host", "x".into())]));
    let items = [
        item("h", "x".into()),
        item("h", "x".into()),
        tagged(),
        tagged(),
        item("tags", "x".into()),
        item("h", "x".into()),
        item("tags", "x".into()),
        tagged(),
    ];
    let body: Vec<u8> = items.iter().flat_map(encode).collect();
    let decoded = decode(&body);
    assert_eq!(
        (decoded.report.accepted, decoded.report.rejected),
        (6, 2),
        "{:?}",
        decoded.reasons()
    );
    assert!(decoded.rows.iter().all(|row| row.tags.get("host").is_some_and(|it| it == "x")));
    agree::msgpack(&body);
}

#[test]
fn tags_that_are_no_strings_are_written_as_text() {
    let tags = [("i", 5.into()), ("f", 1.5.into()), ("b", true.into()), ("n", Tree::Nil)];
    let tree = map([
        ("m", "cpu".into()),
        ("t", 1_700_000_000.into()),
        ("tags", map(tags)),
        ("fields", map([("v", 1.into())])),
    ]);
    let tags = [("i", "5"), ("f", "1.5"), ("b", "true")];
    assert_eq!(rows(&tree), [row("cpu", T0, &tags, &[("v", Value::Int(1))])]);
}

#[test]
fn shapes_mix_freely_in_arrays_batches_and_streams() {
    let item = |n: i64| cpu([("v", n.into())]);
    let times = array([1_700_000_000_i64, 1_700_000_000]);
    let columns = columnar([("v", array([4, 5])), ("time", times)]);
    let batch = map([("batch", Tree::Array(vec![item(2), array([item(3)]), columns]))]);
    let mut body = encode(&item(0));
    body.extend(encode(&array([item(1), batch])));
    body.extend(encode(&item(6)));
    let decoded = decode(&body);
    let expected: Vec<Row> = (0..7).map(|n| row("cpu", T0, &[], &[("v", Value::Int(n))])).collect();
    assert_eq!(decoded.rows, expected);
    assert_eq!(decoded.report.rejected, 0);
    assert_eq!(decoded.chunk_count, 1);
}

#[test]
fn timestamps_are_taken_in_all_three_lengths_as_time_and_as_value() {
    let seconds = 1_700_000_000_u32;
    let ext = |data: &[u8]| Tree::Ext(-1, data.to_vec());
    let long = (123_456_789_u64 << 34 | u64::from(seconds)).to_be_bytes();
    let longest = [&1_000_u32.to_be_bytes()[..], &(-1_i64).to_be_bytes()].concat();
    for (time, expected) in [
        (ext(&seconds.to_be_bytes()), T0),
        (ext(&long), T0 + 123_456_789),
        (ext(&longest), -999_999_000),
    ] {
        let fields = map([("at", ext(&longest)), ("v", 1.into())]);
        let tree = map([("name", "cpu".into()), ("time", time), ("fields", fields)]);
        let fields = [("at", Value::Time(-999_999)), ("v", Value::Int(1))];
        assert_eq!(rows(&tree), [row("cpu", expected, &[], &fields)]);
    }
}

#[test]
fn each_time_has_the_unit_of_its_own_magnitude() {
    // Arc takes the unit of the first for all of them.
    let times = array([
        Tree::from(1_700_000_000_i64),
        1_700_000_000_001_i64.into(),
        1_700_000_000_000_002_i64.into(),
        1_700_000_000_000_000_003_i64.into(),
        1_700_000_000.5.into(),
        (-1.5).into(),
        (1_u64 << 63).into(),
    ]);
    let tree = columnar([("time", times), ("v", array(0..7))]);
    let found: Vec<i128> = rows(&tree).iter().map(|row| row.time_ns).collect();
    let expected =
        [T0, T0 + 1_000_000, T0 + 2_000, T0 + 3, T0 + 500_000_000, -1_500_000_000, 1 << 63];
    assert_eq!(found, expected);
}

#[test]
fn columns_with_nils_give_rows_without_those_fields() {
    let tree = columnar([
        ("a", array([Tree::Nil, 1.5.into(), Tree::Nil])),
        ("none", array([Tree::Nil, Tree::Nil, Tree::Nil])),
        ("ok", array([true, false, true])),
        ("time", array([1_700_000_000, 1_700_000_000, 1_700_000_000])),
    ]);
    let ok = |value| ("ok", Value::Bool(value));
    let expected = [
        row("cpu", T0, &[], &[ok(true)]),
        row("cpu", T0, &[], &[("a", Value::Float(1.5)), ok(false)]),
        row("cpu", T0, &[], &[ok(true)]),
    ];
    assert_eq!(rows(&tree), expected);
}

#[test]
fn tag_keys_and_known_tags_make_tag_columns() {
    let times = || array([1_700_000_000, 1_700_000_000]);
    let columns = [
        ("host", array(["a", "b"])),
        ("n", array([1, 2])),
        ("v", array([1.0, 2.0])),
        ("time", times()),
    ];
    let tag_keys = array(["host", "n"]);
    let first = map([("tag_keys", tag_keys), ("columns", map(columns)), ("m", "cpu".into())]);
    let columns = [("v", array([3.0, 4.0])), ("host", array(["b", "b"])), ("time", times())];
    let value = |value| [("v", Value::Float(value))];
    let expected = [
        row("cpu", T0, &[("host", "a"), ("n", "1")], &value(1.0)),
        row("cpu", T0, &[("host", "b"), ("n", "2")], &value(2.0)),
        row("cpu", T0, &[("host", "b")], &value(3.0)),
        row("cpu", T0, &[("host", "b")], &value(4.0)),
    ];
    assert_eq!(rows(&array([first, columnar(columns)])), expected);
}

// What Arc loses, corrupts or dies of.

/// `tree` has `accepted` good rows, and rejections with these texts.
fn check_rejects(tree: &Tree, accepted: u64, reasons: &[&str]) {
    let decoded = decode_tree(tree);
    assert_eq!(decoded.reasons(), reasons);
    assert_eq!(decoded.report.accepted, accepted);
    assert_eq!(decoded.report.rejected, reasons.len() as u64);
}

fn conflict(column: &str, found: &str, expected: &str) -> String {
    format!(
        "field type conflict: input field \"{column}\" on measurement \"cpu\" is type {found}, \
         already exists as type {expected}"
    )
}

#[test]
fn an_empty_column_name_is_refused_and_its_neighbours_kept() {
    // Arc panics in getSchema, and the process dies.
    let reason = "expected a name, found an empty one";
    check_rejects(&array([cpu([("v", 1.into())]), cpu([("", 1.into())])]), 1, &[reason]);
    check_rejects(&columnar([("", array([1, 2])), ("v", array([1, 2]))]), 0, &[reason, reason]);
}

#[test]
fn an_empty_measurement_is_refused() {
    // Arc stores it outside of any measurement, past its own checks.
    let tree = map([("m", "".into()), ("fields", map([("v", 1.into())]))]);
    check_rejects(&tree, 0, &["expected a name, found an empty one"]);
}

#[test]
fn a_column_with_an_underscore_keeps_its_values_and_its_kind() {
    // Arc leaves such columns out of its files, and dies when one changes its kind.
    let tree = array([cpu([("_x", 1.into())]), cpu([("_x", "a".into())])]);
    let decoded = decode_tree(&tree);
    assert_eq!(decoded.rows, [row("cpu", T0, &[], &[("_x", Value::Int(1))])]);
    assert_eq!(decoded.reasons(), [conflict("_x", "string", "integer")]);
}

#[test]
fn two_million_nested_arrays_are_one_rejection() {
    // Go's stack overflows, and the process dies.
    let mut body = vec![0x91; 2_000_000];
    let reason = "expected a length of at most 0, found 1 at byte 1999999: the body is cut short \
                  or corrupt";
    assert_eq!(decode(&body).reasons(), [reason]);
    body.extend(encode(&1.into()));
    body.extend(encode(&cpu([("v", 1.into())])));
    let decoded = decode(&body);
    let reason = "expected at most 8 levels of nesting, found more at byte 8";
    assert_eq!((decoded.reasons(), decoded.rows.len()), (vec![reason.to_owned()], 1));
}

/// Appends a value that nests up to `levels` deep: short and long heads, some of them empty.
fn nest(random: &mut Random, levels: usize, body: &mut Vec<u8>) {
    if levels == 0 {
        let scalar: &[u8] = match random.below(4) {
            0 => b"\x01",
            1 => b"\xc0",
            2 => b"\xa3abc",
            _ => b"\xcb\0\0\0\0\0\0\0\0",
        };
        return body.extend_from_slice(scalar);
    }
    // The innermost levels are most of a chain.
    let values = if random.below(4) > 0 { 1 } else { random.below(4) };
    let count = u8::try_from(values).expect("a few");
    let values = match random.below(4) {
        0 => {
            body.extend([0xdc, 0, count]);
            values
        }
        1 => {
            body.push(0x80 | count);
            2 * values
        }
        _ => {
            body.push(0x90 | count);
            values
        }
    };
    for at in 0..values {
        let inner = if at + 1 == values { levels - 1 } else { random.below(2) };
        nest(random, inner, body);
    }
}

#[test]
fn what_is_too_deep_ends_where_its_last_value_does() {
    for seed in 0..2_000 {
        let random = &mut Random::new(seed);
        let levels = 1 + random.below(40);
        // Two items, the first with a key that nobody knows.
        let mut body = b"\x92\x83\xa1m\xa3cpu\xa6fields\x81\xa1v\x01\xa7unknown".to_vec();
        nest(random, levels, &mut body);
        let nested_end = body.len();
        body.extend(encode(&cpu([("good", 2.into())])));
        let decoded = decode(&body);
        let has_good = |it: &Row| it.fields.iter().any(|(name, _)| &**name == "good");
        assert_eq!(decoded.rows.iter().filter(|it| has_good(it)).count(), 1, "seed {seed}");
        // Cut short, it is a break that is told, and no row is made of what is behind it.
        let cut = decode(&body[..=random.below(nested_end - 1)]);
        assert_eq!((cut.rows.len(), cut.report.rejected > 0), (0, true), "seed {seed}");
    }
}

#[test]
fn nesting_is_taken_up_to_the_limit_and_not_beyond() {
    let nested =
        |levels| (0..levels).fold(cpu([("v", 1.into())]), |inner, _| Tree::Array(vec![inner]));
    // The row and its fields are two levels.
    assert_eq!(rows(&nested(5)).len(), 1);
    assert_eq!(rows(&nested(6)).len(), 1);
    let reason = "expected at most 8 levels of nesting, found more at byte 7";
    check_rejects(&array([nested(6), cpu([("v", 1.into())])]), 1, &[reason]);
}

#[test]
fn a_declared_length_beyond_the_body_breaks_it_at_once() {
    for body in [
        b"\xdf\xff\xff\xff\xff".to_vec(),
        b"\xdd\xff\xff\xff\xff\x80".to_vec(),
        b"\xdb\xff\xff\xff\xffabc".to_vec(),
        b"\x82\xa1m\xa1c\xa7columns\x81\xa1v\xdd\x7f\xff\xff\xff\xcb".to_vec(),
        [b"\xdc\xff\xff".repeat(20_000), vec![0xc0; 65_534]].concat(),
    ] {
        let decoded = decode(&body);
        assert_eq!(decoded.report.accepted, 0);
        let last = &decoded.report.rejections.last().unwrap().reason;
        let is_length =
            matches!(last, Reason::MessagePack(ItemError::Malformed(Break::Length { .. })));
        assert!(is_length, "{last}");
    }
}

#[test]
fn a_fraction_is_never_cut_off_to_fit_a_column_of_integers() {
    // Arc stores [1, 2.75] as [1, 2].
    let decoded = decode_tree(&columnar([
        ("v", array([Tree::from(1), 2.75.into(), 3.0.into()])),
        ("time", array([1_700_000_000, 1_700_000_000, 1_700_000_000])),
    ]));
    let stored = |value| row("cpu", T0, &[], &[("v", Value::Int(value))]);
    assert_eq!(decoded.rows, [stored(1), stored(3)]);
    assert_eq!(decoded.reasons(), [conflict("v", "float", "integer")]);
    assert_eq!(decoded.report.rejections[0].line, 2);
}

#[test]
fn a_field_named_time_is_dropped_and_counted() {
    // Arc interleaves it with the row's own time: one row becomes two, one of them in 1970.
    let decoded = decode_tree(&cpu([("time", 5.into()), ("v", 1.into())]));
    assert_eq!(decoded.rows, [row("cpu", T0, &[], &[("v", Value::Int(1))])]);
    assert_eq!((decoded.report.dropped_fields, decoded.report.rejected), (1, 0));
    check_rejects(&cpu([("time", 5.into())]), 0, &["no usable field left"]);
}

#[test]
fn concatenated_objects_are_all_stored() {
    // Arc stores the first and answers 204.
    let mut body = encode(&cpu([("v", 1.into())]));
    body.extend(encode(&cpu([("v", 2.into())])));
    body.extend(encode(&columnar([("v", array([3, 4]))])));
    assert_eq!(decode(&body).rows.len(), 4);
}

#[test]
fn a_truncated_body_keeps_the_rows_before_the_break() {
    let row = encode(&cpu([("v", 1.into())]));
    let whole = encode(&Tree::Array(vec![cpu([("v", 1.into())]); 100]));
    let header = whole.len() - 100 * row.len();
    for cut in (header + 100..whole.len()).step_by(7) {
        let decoded = decode(&whole[..cut]);
        let expected = (cut - header) / row.len();
        assert_eq!(decoded.rows.len(), expected, "cut at {cut}");
        let rejection = decoded.report.rejections.last().unwrap();
        assert!(matches!(rejection.reason, Reason::MessagePack(ItemError::Malformed(_))));
        assert_eq!((rejection.line, decoded.report.rejected), (expected as u64 + 1, 1));
    }
}

#[test]
fn bad_items_are_named_by_position_and_their_neighbours_kept() {
    // Arc skips them with a line in its log and answers 204.
    let good = || cpu([("v", 1.into())]);
    let fields = || ("fields", map([("v", 1.into())]));
    let tree = array([
        good(),
        5.into(),
        "x".into(),
        map([("m", "cpu".into())]),
        good(),
        map([fields()]),
        map([("batch", array([good(), Tree::Nil]))]),
        map([("batch", 1.into())]),
        map([("m", 1.5.into()), fields()]),
        map([("m", "cpu".into()), ("t", "soon".into()), fields()]),
        cpu([("v", map([("x", 1.into())]))]),
        good(),
    ]);
    let decoded = decode_tree(&tree);
    assert_eq!(decoded.rows.len(), 4);
    let lines: Vec<u64> = decoded.report.rejections.iter().map(|it| it.line).collect();
    assert_eq!(lines, [2, 3, 4, 6, 8, 9, 10, 11, 12]);
    let texts = [
        "expected a map or an array, found an integer",
        "expected a map or an array, found a string",
        "expected key \"fields\", found none",
        "expected key \"m\", found none",
        "expected a map or an array, found nil",
        "expected an array of rows for \"batch\", found an integer",
        "expected a string or an integer for \"m\", found a float",
        "expected a number or a timestamp for \"t\", found a string",
        "expected a scalar for \"v\", found a map",
    ];
    for ((rejection, reason), text) in
        decoded.report.rejections.iter().zip(decoded.reasons()).zip(texts)
    {
        let (found, at) = reason.rsplit_once(" at byte ").unwrap();
        assert_eq!(found, text);
        assert!((rejection.start..rejection.end).contains(&at.parse().unwrap()));
    }
}

#[test]
fn a_bad_batch_rejects_what_follows_it_in_its_map_and_nothing_else() {
    // Found by fuzzing: the naive decoder took a batch before the bad one for a pair behind it,
    // and passed over the item behind the map.
    let good = || ("batch", array([cpu([("v", 1.into())]), cpu([("v", 2.into())])]));
    let bad = || ("batch", 1.into());
    for (pairs, accepted) in [([good(), bad()], 3), ([bad(), good()], 1), ([good(), good()], 5)] {
        let body = encode(&array([map(pairs), cpu([("v", 3.into())])]));
        agree::msgpack(&body);
        let report = decode(&body).report;
        assert_eq!((report.accepted, report.rejected), (accepted, u64::from(accepted < 5)));
    }
}

#[test]
fn columns_of_unequal_length_reject_the_item_once_with_all_its_rows() {
    let bad = columnar([("a", array([1, 2, 3])), ("b", array([1, 2]))]);
    let decoded = decode_tree(&array([bad, cpu([("v", 1.into())])]));
    assert_eq!((decoded.report.accepted, decoded.report.rejected), (1, 3));
    assert_eq!(decoded.reasons(), ["expected 3 values in column \"b\", found 2 at byte 25"]);
}

#[test]
fn a_column_that_is_no_array_rejects_the_item_by_name() {
    // Arc drops the column without a word.
    let decoded = decode_tree(&columnar([("a", array([1, 2])), ("b", 5.into())]));
    assert_eq!((decoded.report.accepted, decoded.report.rejected), (0, 2));
    let reason = "expected an array for column \"b\", found an integer at byte 23";
    assert_eq!(decoded.reasons(), [reason]);
}

#[test]
fn a_large_unsigned_value_is_stored_or_refused_by_name() {
    // Arc wraps it in a row and refuses the request in a column.
    let tree = array([cpu([("v", u64::MAX.into())]), cpu([("v", 1.into())])]);
    let stored = |value| row("cpu", T0, &[], &[("v", Value::Uint(value))]);
    assert_eq!(rows(&tree), [stored(u64::MAX), stored(1)]);
    let tree = array([cpu([("v", 1.into())]), cpu([("v", u64::MAX.into())])]);
    check_rejects(&tree, 1, &[&conflict("v", "unsigned", "integer")]);
}

#[test]
fn binary_is_a_string_when_it_is_utf8_and_refused_by_name_otherwise() {
    let binary = |bytes: &[u8]| Tree::Binary(bytes.to_vec());
    let expected = row("cpu", T0, &[], &[("s", Value::Str("h\u{e9}".into()))]);
    assert_eq!(rows(&cpu([("s", binary("h\u{e9}".as_bytes()))])), [expected]);
    let reason = "expected UTF-8 for \"s\", found other bytes at byte 24";
    check_rejects(&cpu([("s", binary(b"\xff"))]), 0, &[reason]);
}

#[test]
fn a_column_of_nothing_but_nils_is_not_created() {
    // Arc writes it as strings, and the next file's floats cannot be read beside it.
    let nils = columnar([("v", array([1, 2])), ("late", array([Tree::Nil, Tree::Nil]))]);
    let nil = cpu([("late", Tree::Nil), ("v", 3.into())]);
    let tree = array([nils, nil, cpu([("late", 0.5.into())])]);
    assert_eq!(rows(&tree)[3], row("cpu", T0, &[], &[("late", Value::Float(0.5))]));
}

#[test]
fn alternating_schemas_stay_in_one_chunk() {
    // Arc flushes at every change: one file for each.
    let items = (0..1000).map(|at| match at % 2 {
        0 => columnar([("a", array([1.0, 2.0])), ("b", array([1, 2]))]),
        _ => cpu([("c", "x".into()), ("a", 3.0.into())]),
    });
    let decoded = decode_tree(&Tree::Array(items.collect()));
    assert_eq!((decoded.rows.len(), decoded.chunk_count), (1500, 1));
    assert_eq!(decoded.report.rejected, 0);
}

#[test]
fn a_refused_row_leaves_no_trace() {
    let bad = cpu([("w", 1.into()), ("v", "text".into())]);
    let tree = array([cpu([("v", 1.into())]), bad, cpu([("v", 2.into()), ("w", 0.5.into())])]);
    let decoded = decode_tree(&tree);
    let fields = [("v", Value::Int(2)), ("w", Value::Float(0.5))];
    assert_eq!(decoded.rows[1], row("cpu", T0, &[], &fields));
    assert_eq!(decoded.reasons(), [conflict("v", "string", "integer")]);
}

#[test]
fn a_key_given_twice_or_in_two_spellings_is_refused() {
    let fields = || ("fields", map([("v", 1.into())]));
    let tree = map([("m", "a".into()), ("name", "b".into()), fields()]);
    check_rejects(&tree, 0, &["expected either \"m\" or \"name\", found both at byte 10"]);
    let tree = map([("m", "a".into()), ("m", "b".into()), fields()]);
    check_rejects(&tree, 0, &["expected one key \"m\", found a second one at byte 7"]);
}

#[test]
fn rejections_beyond_the_limit_are_counted() {
    let decoded = decode_tree(&Tree::Array(vec![Tree::Nil; 1000]));
    assert_eq!(decoded.report.rejected, 1000);
    assert_eq!(decoded.report.rejections.len(), Limits::DEFAULT.reported_errors_max);
}

#[test]
fn a_time_that_cannot_be_is_refused() {
    for time in [f64::NAN, f64::INFINITY, 1e300, -1e20] {
        let fields = map([("v", 1.into())]);
        let tree = map([("m", "cpu".into()), ("t", time.into()), ("fields", fields)]);
        let reason = "expected a time in the years 1 to 9999, found another at byte 9";
        check_rejects(&tree, 0, &[reason]);
    }
}

#[test]
fn a_duplicate_column_refuses_its_rows() {
    let role = peristyle::schema::Role::Field;
    let error = Reason::Append(AppendError::DuplicateColumn { column: "v".into(), role });
    let decoded = decode_tree(&columnar([("v", array([1, 2])), ("v", array([1, 2]))]));
    let reasons: Vec<_> = decoded.report.rejections.iter().map(|it| &it.reason).collect();
    assert_eq!(reasons, [&error, &error]);
}

// Bodies of real encoders, and those that the documentation draws.

fn json_value(value: &OwnedValue) -> Value {
    match value {
        value if value.is_bool() => Value::Bool(value.as_bool().unwrap()),
        value if value.is_str() => Value::Str(value.as_str().unwrap().to_owned()),
        value => value.as_i64().map_or_else(|| Value::Float(value.as_f64().unwrap()), Value::Int),
    }
}

fn json_row(row: &OwnedValue) -> Row {
    let tags = row.get_object("tags").unwrap().iter();
    let fields = row.get_object("fields").unwrap().iter();
    Row {
        measurement: row.get_str("measurement").unwrap().into(),
        time_ns: row.get_i64("time_ns").unwrap().into(),
        tags: tags.map(|(name, value)| (name.clone(), value.as_str().unwrap().into())).collect(),
        fields: fields.map(|(name, value)| (name.clone(), json_value(value))).collect(),
    }
}

#[test]
fn bodies_of_real_encoders_give_their_rows() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/msgpack/clients");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|it| it == "msgpack") {
            let mut json = std::fs::read(path.with_extension("json")).unwrap();
            let json = simd_json::to_owned_value(&mut json).unwrap();
            let expected: Vec<Row> = json.as_array().unwrap().iter().map(json_row).collect();
            let decoded = decode(&std::fs::read(&path).unwrap());
            assert_eq!(decoded.report.rejected, 0, "{:?}", decoded.reasons());
            assert_eq!(by_measurement(decoded.rows), by_measurement(expected), "{path:?}");
            count += 1;
        }
    }
    assert_eq!(count, 9);
}

/// The bytes at the beginning of each indented line of a block.
fn drawn_bodies(page: &str) -> Vec<Vec<u8>> {
    let mut bodies = vec![Vec::new()];
    for line in page.lines() {
        if line.starts_with("    ") {
            let bytes = line.split_whitespace().map_while(|word| {
                (word.len() == 2).then(|| u8::from_str_radix(word, 16).ok()).flatten()
            });
            bodies.last_mut().unwrap().extend(bytes);
        } else if !line.is_empty() && !bodies.last().unwrap().is_empty() {
            bodies.push(Vec::new());
        }
    }
    bodies.retain(|body| !body.is_empty());
    bodies
}

#[test]
fn the_bodies_drawn_in_the_documentation_decode() {
    let bodies = drawn_bodies(include_str!("../../schemas/wire/msgpack.md"));
    let usage = ("usage", Value::Float(0.5));
    let tags = [("host", "web1"), ("region", "eu")];
    let host = |host: &str| ("host", Value::Str(host.into()));
    let expected = [
        vec![row("cpu", T0, &tags, &[usage.clone(), ("n", Value::Int(3))])],
        vec![row("cpu", T0, &[], &[("v", Value::Int(1))])],
        vec![
            row("cpu", T0, &[], &[host("a"), usage]),
            row("cpu", T0 + 1_000_000, &[], &[host("b")]),
        ],
    ];
    assert_eq!(bodies.len(), expected.len());
    for (body, expected) in bodies.iter().zip(expected) {
        let decoded = decode(body);
        assert_eq!((decoded.rows, decoded.report.rejected), (expected, 0));
    }
}
