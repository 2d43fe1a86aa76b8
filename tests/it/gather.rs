//! Builder sets: rows all or nothing, widening, kinds, undoing.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt32Type;
use arrow_array::{Array, ArrayRef, StringArray};
use peristyle::gather::{AppendError, Atomicity, Chunk, SeriesIndex};
use peristyle::timestamp::Timestamp;

use crate::support::{Row, Shard, Value};

fn at(ns: i64) -> Timestamp {
    Timestamp::from_ns(ns)
}

/// Appends one row the way a decoder does: tags and fields by name.
fn append(
    shard: &mut Shard,
    measurement: &str,
    tags: &[(&str, &str)],
    fields: &[(&str, Value)],
    time: i64,
) -> Result<SeriesIndex, AppendError> {
    shard.write(Atomicity::Rows, |database| {
        let index = database.table(measurement)?;
        let table = database.table_mut(index);
        let appended = (|| {
            for (name, value) in tags {
                table.append_tag(name, value)?;
            }
            for (name, value) in fields {
                let column = table.field(name)?;
                match value {
                    Value::Bool(value) => table.append_bool(column, *value)?,
                    Value::Int(value) => table.append_i64(column, *value)?,
                    Value::Uint(value) => table.append_u64(column, *value)?,
                    Value::Float(value) => table.append_f64(column, *value)?,
                    Value::Str(value) => table.append_str(column, value)?,
                    Value::Time(us) => table.append_time(column, at(*us * 1000))?,
                }
            }
            Ok(())
        })();
        if let Err(error) = appended {
            table.rollback_row();
            return Err(error);
        }
        table.commit_row(at(time))
    })
}

fn row(measurement: &str, tags: &[(&str, &str)], fields: &[(&str, Value)], time: i64) -> Row {
    Row {
        measurement: measurement.to_owned(),
        time_ns: time.into(),
        tags: tags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        fields: fields.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect(),
    }
}

#[test]
fn a_column_seen_late_is_null_before() {
    let mut shard = Shard::new();
    let early = [("a", Value::Float(1.5))];
    let late = [("b", Value::Str("x".into()))];
    append(&mut shard, "m", &[("host", "h1")], &early, 1_001).unwrap();
    append(&mut shard, "m", &[], &late, 2_000).unwrap();
    append(&mut shard, "m", &[("host", "h2"), ("cpu", "0")], &early, 3_000).unwrap();
    assert_eq!(
        shard.rows(),
        [
            row("m", &[("host", "h1")], &early, 1_001),
            row("m", &[], &late, 2_000),
            row("m", &[("host", "h2"), ("cpu", "0")], &early, 3_000),
        ]
    );
}

#[test]
fn a_rejected_row_leaves_no_trace() {
    let mut shard = Shard::new();
    append(&mut shard, "m", &[], &[("a", Value::Int(1))], 1).unwrap();
    let bad = [("new", Value::Bool(true)), ("a", Value::Str("no".into()))];
    let error = append(&mut shard, "m", &[("t", "v")], &bad, 2).unwrap_err();
    assert_eq!(
        error.to_string(),
        "field type conflict: input field \"a\" on measurement \"m\" is type string, already \
         exists as type integer"
    );
    // `new` was never accepted, so another kind may fix it; `t` may become a field.
    let good = [("new", Value::Float(0.5)), ("t", Value::Int(7))];
    append(&mut shard, "m", &[], &good, 3).unwrap();
    assert_eq!(shard.rows(), [row("m", &[], &[("a", Value::Int(1))], 1), row("m", &[], &good, 3)]);
    let bad = [("a", Value::Str("no".into())), ("a", Value::Int(1))];
    append(&mut shard, "never", &[], &bad, 1).unwrap_err();
    let names: Vec<_> =
        shard.registry.measurements(None).iter().map(|it| it.name.to_string()).collect();
    assert_eq!(names, ["m"]);
}

#[test]
fn lossless_values_are_taken_and_others_refused() {
    let limit = 1_i64 << 53;
    let float = |value: i64| value.to_string().parse().map(Value::Float).ok();
    let cases: &[(Value, Value, Option<Value>)] = &[
        (Value::Float(0.5), Value::Int(limit), float(limit)),
        (Value::Float(0.5), Value::Int(limit + 1), None),
        (Value::Float(0.5), Value::Int(i64::MAX), None),
        (Value::Float(0.5), Value::Int(i64::MIN), float(i64::MIN)),
        (Value::Float(0.5), Value::Uint(7), Some(Value::Float(7.0))),
        (Value::Float(0.5), Value::Uint(u64::MAX), None),
        (Value::Int(1), Value::Float(2.0), Some(Value::Int(2))),
        (Value::Int(1), Value::Float(2.75), None),
        (Value::Int(1), Value::Float(9.3e18), None),
        (Value::Int(1), Value::Float(f64::NAN), None),
        (Value::Int(1), Value::Uint(i64::MAX as u64), Some(Value::Int(i64::MAX))),
        (Value::Int(1), Value::Uint(i64::MAX as u64 + 1), None),
        (Value::Uint(1), Value::Int(5), Some(Value::Uint(5))),
        (Value::Uint(1), Value::Int(-1), None),
        (Value::Uint(1), Value::Float(3.0), Some(Value::Uint(3))),
        (Value::Uint(1), Value::Float(-3.0), None),
        (Value::Uint(1), Value::Uint(u64::MAX), Some(Value::Uint(u64::MAX))),
        (Value::Bool(true), Value::Int(1), None),
        (Value::Str("s".into()), Value::Int(1), None),
        (Value::Int(1), Value::Str("1".into()), None),
        (Value::Time(5), Value::Int(1), None),
    ];
    for (first, second, stored) in cases {
        let mut shard = Shard::new();
        append(&mut shard, "m", &[], &[("f", first.clone())], 1).unwrap();
        let result = append(&mut shard, "m", &[], &[("f", second.clone())], 2);
        assert_eq!(result.is_ok(), stored.is_some(), "{first:?} then {second:?}: {result:?}");
        let rows = shard.rows();
        assert_eq!(rows.get(1).and_then(|row| row.fields.get("f")), stored.as_ref());
    }
}

#[test]
fn a_name_given_twice_in_a_row_is_refused() {
    let mut shard = Shard::new();
    let twice = [("a", Value::Int(1)), ("a", Value::Int(1))];
    let error = append(&mut shard, "m", &[], &twice, 1).unwrap_err();
    assert_eq!(error.to_string(), "duplicate field \"a\"");
    let error = append(&mut shard, "m", &[("t", "x"), ("t", "y")], &twice[..1], 1).unwrap_err();
    assert_eq!(error.to_string(), "duplicate tag \"t\"");
    assert!(shard.rows().is_empty());
}

#[test]
fn shards_agree_on_kinds_and_the_first_accepted_wins() {
    let mut first = Shard::new();
    let mut second = Shard::of(Arc::clone(&first.registry));
    append(&mut first, "m", &[], &[("a", Value::Float(0.5))], 1).unwrap();
    append(&mut second, "m", &[], &[("a", Value::Int(4))], 2).unwrap();
    append(&mut second, "m", &[], &[("a", Value::Bool(true))], 3).unwrap_err();
    assert_eq!(second.rows(), [row("m", &[], &[("a", Value::Float(4.0))], 2)]);
}

#[test]
fn a_pending_column_takes_the_kind_another_shard_fixed_meanwhile() {
    // Both shards have `a` pending: the first to commit fixes the kind, the other converts its
    // value if that is lossless, and is refused otherwise.
    for (ours, outcome) in [(4, true), ((1 << 53) + 1, false)] {
        let mut first = Shard::new();
        let mut second = Shard::of(Arc::clone(&first.registry));
        let result = second.write(Atomicity::Rows, |database| {
            let index = database.table("m").unwrap();
            let table = database.table_mut(index);
            let column = table.field("a").unwrap();
            table.append_i64(column, ours).unwrap();
            append(&mut first, "m", &[], &[("a", Value::Float(0.5))], 1).unwrap();
            table.commit_row(at(2))
        });
        assert_eq!(result.is_ok(), outcome, "{result:?}");
        assert_eq!(second.rows().len(), usize::from(outcome));
    }
}

#[test]
fn a_column_that_is_converted_keeps_its_nulls() {
    let mut first = Shard::new();
    let mut second = Shard::of(Arc::clone(&first.registry));
    let values = [Some(1), None, None, Some(4), Some(5), None];
    second.write(Atomicity::Body, |database| {
        let index = database.table("m").unwrap();
        for (time, value) in (1..).zip(values) {
            let table = database.table_mut(index);
            let (a, b) = (table.field("a").unwrap(), table.field("b").unwrap());
            if let Some(value) = value {
                table.append_i64(a, value).unwrap();
            }
            table.append_bool(b, true).unwrap();
            table.commit_row(at(time)).unwrap();
        }
        append(&mut first, "m", &[], &[("a", Value::Float(0.5))], 1).unwrap();
    });
    let rows = second.rows();
    let found: Vec<_> = rows.iter().map(|row| row.fields.get("a").cloned()).collect();
    let floats = [Some(1.0), None, None, Some(4.0), Some(5.0), None];
    assert_eq!(found, floats.map(|it| it.map(Value::Float)));
}

#[test]
fn an_aborted_write_leaves_no_trace() {
    let mut shard = Shard::new();
    append(&mut shard, "m", &[("t", "x")], &[("a", Value::Int(1))], 1).unwrap();
    let database = shard.tables.database("db").unwrap();
    database.begin_write(Atomicity::Body);
    for time in 2..50 {
        let index = database.table(if time % 2 == 0 { "m" } else { "other" }).unwrap();
        let table = database.table_mut(index);
        table.append_tag("t", "y").unwrap();
        table.append_tag("u", &time.to_string()).unwrap();
        let column = table.field("b").unwrap();
        table.append_bool(column, true).unwrap();
        table.commit_row(at(time)).unwrap();
    }
    database.abort_write();
    let after = [("b", Value::Int(7)), ("u", Value::Float(1.0))];
    append(&mut shard, "m", &[("t", "y")], &after, 60).unwrap();
    assert_eq!(
        shard.rows(),
        [row("m", &[("t", "x")], &[("a", Value::Int(1))], 1), row("m", &[("t", "y")], &after, 60)]
    );
    assert_eq!(shard.registry.measurements(None).len(), 1);
}

#[test]
fn a_write_whose_decoder_panicked_is_undone_by_the_next() {
    let mut shard = Shard::new();
    append(&mut shard, "m", &[], &[("a", Value::Int(1))], 1).unwrap();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        shard.write(Atomicity::Rows, |database| {
            let index = database.table("m").unwrap();
            let table = database.table_mut(index);
            let column = table.field("a").unwrap();
            table.append_i64(column, 2).unwrap();
            table.append_tag("t", "undone").unwrap();
            let series = table.commit_row(at(2)).unwrap();
            let unknown = database.series(b"m,t=undone").unwrap_err();
            database.remember_series(b"m,t=undone", unknown, index, series);
            let table = database.table_mut(index);
            table.append_i64(column, 3).unwrap();
            panic!("a bug of the decoder");
        });
    }));
    assert!(panicked.is_err());
    append(&mut shard, "m", &[], &[("a", Value::Int(4))], 4).unwrap();
    // The series is gone, and its number will be another's.
    let found = shard.write(Atomicity::Rows, |database| database.series(b"m,t=undone"));
    assert!(found.is_err());
    let kept: Vec<_> = shard.rows().iter().map(|row| row.time_ns).collect();
    assert_eq!(kept, [1, 4]);
}

#[test]
fn two_alternating_schemas_and_a_thousand_columns_stay_in_one_chunk() {
    let mut shard = Shard::new();
    for time in 0..2_000 {
        let name = format!("f{}", time % 1_000);
        append(&mut shard, "wide", &[], &[(&name, Value::Int(time))], time).unwrap();
        let (name, value) = match time % 2 {
            0 => ("even", Value::Int(time)),
            _ => ("odd", Value::Str(time.to_string())),
        };
        append(&mut shard, "alternating", &[("t", "x")], &[(name, value)], time).unwrap();
    }
    let chunks = shard.chunks();
    assert_eq!(chunks.len(), 2);
    assert_eq!(chunks.iter().map(|it| it.batch.num_rows()).collect::<Vec<_>>(), [2_000, 2_000]);
    assert_eq!(
        chunks.iter().map(|it| it.batch.num_columns()).max(),
        Some(1_002),
        "time, time_ns, f0 to f999"
    );
}

#[test]
fn a_tag_for_a_string_field_keeps_its_value() {
    let mut shard = Shard::new();
    append(&mut shard, "m", &[], &[("host", Value::Str("a".into()))], 1).unwrap();
    let fields = [("f", Value::Int(1))];
    append(&mut shard, "m", &[("host", "b"), ("x", "y")], &fields, 2).unwrap();
    let rows = shard.rows();
    assert_eq!(rows[1].fields.get("host"), Some(&Value::Str("b".into())));
    assert_eq!(rows[1].tags.get("x").map(String::as_str), Some("y"));
}

#[test]
fn builders_keep_working_after_a_seal() {
    let mut shard = Shard::new();
    for round in 0..3 {
        for time in 0..10 {
            let host = format!("h{}", time % 3);
            append(&mut shard, "m", &[("host", &host)], &[("f", Value::Int(time))], time).unwrap();
        }
        let rows = shard.rows();
        assert_eq!(rows.len(), 10, "round {round}");
        assert_eq!(rows[4].tags.get("host").map(String::as_str), Some("h1"));
    }
}

/// The dictionary of a chunk of rows with these hosts, and whether a chunk before accounts for it.
fn chunk_of(shard: &mut Shard, hosts: &[&str]) -> (ArrayRef, bool) {
    for host in hosts {
        append(shard, "m", &[("host", host)], &[("f", Value::Int(1))], 1).unwrap();
    }
    let chunks = shard.chunks();
    let [Chunk { batch, bytes, .. }] = chunks.as_slice() else { panic!("{chunks:?}") };
    let tags = batch.column_by_name("host").unwrap().as_dictionary::<UInt32Type>();
    let found: Vec<_> = tags.downcast_dict::<StringArray>().unwrap().into_iter().collect();
    assert_eq!(found, hosts.iter().copied().map(Some).collect::<Vec<_>>());
    assert!(*bytes <= batch.get_array_memory_size());
    let is_shared = batch.get_array_memory_size() - bytes == tags.values().get_array_memory_size();
    assert!(is_shared || batch.get_array_memory_size() == *bytes);
    (Arc::clone(tags.values()), is_shared)
}

#[test]
fn chunks_without_a_new_tag_value_share_one_dictionary() {
    let mut shard = Shard::new();
    let strings = |values: &ArrayRef| {
        let values = values.as_string::<i32>().iter().flatten();
        values.map(str::to_owned).collect::<Vec<_>>()
    };
    let (first, is_shared) = chunk_of(&mut shard, &["a", "b", "c"]);
    assert_eq!((strings(&first).concat(), is_shared), ("abc".to_owned(), false));
    let (second, is_shared) = chunk_of(&mut shard, &["b"]);
    assert_eq!((strings(&second).concat(), is_shared), ("abc".to_owned(), false));
    let (third, is_shared) = chunk_of(&mut shard, &["c", "c", "a"]);
    assert!(ArrayRef::ptr_eq(&second, &third) && is_shared);
    let (fourth, is_shared) = chunk_of(&mut shard, &["d", "b"]);
    assert_eq!((strings(&fourth).concat(), is_shared), ("db".to_owned(), false));
    let (fifth, is_shared) = chunk_of(&mut shard, &["a"]);
    assert_eq!((strings(&fifth).concat(), is_shared), ("abcd".to_owned(), false));
}

#[test]
fn a_dictionary_of_more_than_32_values_a_row_is_not_shared() {
    let hosts: Vec<_> = (0..64).map(|host| format!("host{host}")).collect();
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    let mut shard = Shard::new();
    chunk_of(&mut shard, &hosts[..63]);
    assert_eq!(chunk_of(&mut shard, &hosts[..1]).0.len(), 63);
    chunk_of(&mut shard, &hosts);
    assert_eq!(chunk_of(&mut shard, &hosts[..1]).0.len(), 1);
    assert_eq!(chunk_of(&mut shard, &hosts[..2]).0.len(), 64);
}

/// Each of a thousand columns has a value in one row. The slots of all other rows were made by the
/// seal, and accounted only then.
#[test]
fn null_slots_of_a_wide_table_are_accounted_before_the_seal_makes_them() {
    const COLUMNS: usize = 1_000;
    let mut shard = Shard::new();
    for at in 0..COLUMNS {
        let names = [format!("c{at}"), format!("s{at}"), format!("b{at}")];
        let fields = [
            (&*names[0], Value::Float(1.0)),
            (&*names[1], Value::Str("x".into())),
            (&*names[2], Value::Bool(true)),
        ];
        append(&mut shard, "wide", &[("host", "a")], &fields, i64::try_from(at).unwrap()).unwrap();
    }
    let before = shard.tables.row_bytes();
    let slots = COLUMNS * COLUMNS * (8 + 4);
    assert!(before >= slots, "{before}");
    let chunks = shard.chunks();
    let after: usize = chunks.iter().map(|chunk| chunk.bytes).sum();
    assert_eq!(chunks.len(), 1);
    assert!(before.abs_diff(after) < after / 8, "{before} foreseen, {after} sealed");
    assert_eq!(shard.tables.row_bytes(), 0);
}
