//! Bodies of every shape in every format and compression, moved to some slot of time, decoded by
//! the server's own decoders into the rows that they were made of.

use std::collections::BTreeMap;
use std::io::Read;

use arrow_buffer::Buffer;
use peristyle::decode::cursor::Body as DecodeBody;
use peristyle::decode::{Context, Precision, Report, ipc, json, line_protocol, msgpack};
use peristyle::gather::{Atomicity, Database};
use peristyle::limits::Limits;
use peristyle::timestamp::Timestamp;
use peristyle_load::body::{Body, Recipe};
use peristyle_load::clock::ALIGNMENT_US;
use peristyle_load::compress::Encoding;
use peristyle_load::encode::Format;
use peristyle_load::shape::{self, Shape};

use crate::support::{Row, Shard, Value};

const SHAPES: [Shape; 6] =
    [Shape::Simple, Shape::Tsbs, Shape::Telegraf, Shape::Iot, Shape::Wide, Shape::Churn];
const START_US: u64 = 1_700_000_000_000_000 / ALIGNMENT_US * ALIGNMENT_US;
const BODIES: usize = 2;
const SEED: u64 = 7;

fn recipe(shape: Shape, format: Format, encoding: Encoding) -> Recipe {
    let rows = match (shape, encoding) {
        // So long that zstd does not copy every time from the row before.
        (Shape::Wide, Encoding::Zstd) => 300,
        (Shape::Wide, _) => 40,
        _ => 300,
    };
    Recipe {
        shape,
        format,
        encoding,
        rows,
        bodies: BODIES,
        seed: SEED,
        start_us: START_US,
        nonce_us: 0,
    }
}

/// The text of a body, by another inflater than the one that made it sure of itself.
fn inflated(encoding: Encoding, body: &Body) -> Vec<u8> {
    let mut text = Vec::new();
    match encoding {
        Encoding::Plain => text.extend_from_slice(&body.bytes),
        Encoding::Gzip => {
            let mut reader = flate2::read::GzDecoder::new(&body.bytes[..]);
            reader.read_to_end(&mut text).expect("gzip with the right checksum");
        }
        Encoding::Zstd => text = zstd::stream::decode_all(&body.bytes[..]).expect("zstd"),
    }
    assert_eq!(text.len() as u64, body.raw_bytes);
    text
}

/// What the server makes of a body.
fn decoded(format: Format, encoding: Encoding, body: &Body) -> Vec<Row> {
    let mut text = inflated(encoding, body);
    let limits = Limits::DEFAULT;
    let received = Timestamp::from_ns(0);
    let context = |precision| Context { precision, received, limits: &limits };
    let (mut shard, mut report) = (Shard::new(), Report::default());
    shard.write(Atomicity::Rows, |database| match format {
        Format::LineProtocol => {
            let context = context(Precision::Nanosecond);
            line_protocol::decode(DecodeBody::new(&mut text), &context, database, &mut report);
        }
        Format::MsgpackRows | Format::MsgpackColumns => {
            let context = context(Precision::Auto);
            msgpack::decode(DecodeBody::new(&mut text), &context, database, &mut report);
        }
        Format::Json => {
            let context = context(Precision::Auto);
            let mut scratch = json::Scratch::default();
            json::decode(DecodeBody::new(&mut text), &context, &mut scratch, database, &mut report);
        }
        Format::Arrow => {
            let (measurement, tags) = body.about.as_ref().expect("said beside the stream");
            arrow(&text, measurement, tags, &context(Precision::Auto), database, &mut report);
        }
    });
    assert_eq!((report.accepted, report.rejected), (body.rows(), 0), "{report:?}");
    shard.rows()
}

fn arrow(
    text: &[u8],
    measurement: &str,
    tags: &[shape::Name],
    context: &Context<'_>,
    database: &mut Database,
    report: &mut Report,
) {
    let tags = tags.join(",");
    let parameters = ipc::Parameters { measurement: Some(measurement), time: None, tags: &tags };
    ipc::decode(&Buffer::from_vec(text.to_vec()), &parameters, context, database, report);
}

/// The rows that a body was made of, as the server shows them.
fn expected(rows: &[shape::Row], names_tags: bool, slot_us: u64) -> Vec<Row> {
    let text = |(name, value): &(shape::Name, String)| (name.to_string(), value.clone());
    let value = |value: &shape::Value| match value {
        shape::Value::Float(it) => Value::Float(*it),
        shape::Value::Integer(it) => Value::Int(*it),
        shape::Value::Bool(it) => Value::Bool(*it),
        shape::Value::Text(it) => Value::Str(it.clone()),
    };
    let row = |row: &shape::Row| {
        let tags: BTreeMap<String, String> = row.tags.iter().map(text).collect();
        let fields = row.fields.iter().map(|(name, it)| (name.to_string(), value(it)));
        let strings = tags.clone().into_iter().map(|(name, it)| (name, Value::Str(it)));
        Row {
            measurement: row.measurement.to_string(),
            time_ns: i128::from(START_US + slot_us + u64::from(row.offset_us)) * 1_000,
            fields: fields.chain(strings.filter(|_| !names_tags)).collect(),
            tags: if names_tags { tags } else { BTreeMap::new() },
        }
    };
    sorted(rows.iter().map(row).collect())
}

/// Rows in an order that does not depend on the format.
fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_by_cached_key(|row| {
        let names: Vec<String> = row.fields.keys().cloned().collect();
        let host = row.fields.get("host").map(|it| format!("{it:?}"));
        (row.measurement.clone(), row.time_ns, row.tags.clone(), host, names)
    });
    rows
}

fn check(shape: Shape, format: Format, encoding: Encoding) {
    let recipe = recipe(shape, format, encoding);
    let bodies = recipe.bodies().expect("they can be made");
    // A columnar body that names no tags makes string fields of them.
    let names_tags = shape.names_tags() || format != Format::MsgpackColumns;
    for slot in [0, 12_345_678] {
        let mut found = Vec::new();
        let mut slot_us = 0;
        for body in &bodies {
            let mut body = body.clone();
            body.move_to(slot + 5);
            body.move_to(slot);
            slot_us = body.slot_us(slot);
            found.extend(decoded(format, encoding, &body));
        }
        let rows: Vec<shape::Row> =
            (0..BODIES).flat_map(|index| shape.rows(SEED, index, recipe.rows)).collect();
        let (found, expected) = (sorted(found), expected(&rows, names_tags, slot_us));
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found, expected, "{shape:?} {format:?} {encoding:?} slot {slot}");
        }
    }
}

#[test]
fn the_server_decodes_the_rows_that_a_body_was_made_of() {
    for shape in SHAPES {
        for format in Format::ALL {
            check(shape, format, Encoding::Plain);
        }
    }
}

#[test]
fn the_time_of_a_compressed_body_moves_in_all_its_rows() {
    for shape in SHAPES {
        for encoding in [Encoding::Gzip, Encoding::Zstd] {
            check(shape, Format::LineProtocol, encoding);
            check(shape, Format::MsgpackColumns, encoding);
        }
    }
    for format in [Format::MsgpackRows, Format::Json, Format::Arrow] {
        check(Shape::Telegraf, format, Encoding::Gzip);
        check(Shape::Tsbs, format, Encoding::Zstd);
    }
}

#[test]
fn a_nonce_makes_all_times_later_within_their_slot() {
    let recipe = recipe(Shape::Iot, Format::MsgpackColumns, Encoding::Plain);
    let times = |nonce_us| -> Vec<i128> {
        let bodies = Recipe { nonce_us, ..recipe }.bodies().expect("they can be made");
        let rows = decoded(recipe.format, recipe.encoding, &bodies[0]);
        rows.iter().map(|row| row.time_ns).collect()
    };
    // The last of 300 rows is 299 us into the slot, and the slot has 10,000.
    let later = |us: i128| times(0).iter().map(|ns| ns + us * 1_000).collect::<Vec<_>>();
    for (nonce_us, us) in [(1, 1), (9_700, 9_700), (9_701, 0), (9_702, 1)] {
        assert_eq!(times(nonce_us), later(us), "{nonce_us}");
    }
}

#[test]
fn bodies_are_the_same_for_the_same_seed() {
    for shape in SHAPES {
        let bytes = |seed| {
            let recipe = Recipe { seed, ..recipe(shape, Format::LineProtocol, Encoding::Plain) };
            let bodies = recipe.bodies().unwrap().into_iter();
            bodies.map(|body| body.bytes).collect::<Vec<_>>()
        };
        assert_eq!(bytes(1), bytes(1), "{shape:?}");
        assert_ne!(bytes(1), bytes(2), "{shape:?}");
    }
}

#[test]
fn no_two_rows_of_a_body_have_one_series_and_one_time() {
    for shape in SHAPES {
        let rows = shape.rows(SEED, 1, shape.rows_per_body());
        let mut keys: Vec<_> =
            rows.iter().map(|row| (&row.measurement, &row.tags, row.offset_us)).collect();
        keys.sort();
        let count = keys.len();
        keys.dedup();
        // Telegraf itself writes `system` in three rows of one series and one time.
        let twins = if shape == Shape::Telegraf { 2 * count.div_ceil(24) } else { 0 };
        assert!(count - keys.len() <= twins, "{shape:?}: {} twins", count - keys.len());
    }
}

#[test]
fn arc_s_published_body_has_its_published_length() {
    let recipe = Recipe {
        rows: 1_000,
        bodies: 8,
        ..recipe(Shape::Iot, Format::MsgpackColumns, Encoding::Plain)
    };
    let lengths: Vec<usize> = recipe.bodies().unwrap().iter().map(|it| it.bytes.len()).collect();
    // 46,065 bytes where the measurement has three letters, as `cpu`; one more for `disk`.
    assert!(lengths.iter().all(|it| [46_065, 46_066].contains(it)), "{lengths:?}");
}
