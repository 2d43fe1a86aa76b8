//! JSON as Telegraf's serializer writes a batch, with nanoseconds.

use std::fmt::Write as _;

use super::{Encoded, counts};
use crate::clock::Clock;
use crate::shape::{Name, Row, Value};

/// One document `{"metrics": [..]}`.
pub(super) fn encode(rows: &[Row], start_us: u64) -> Encoded {
    let mut text = r#"{"metrics":["#.to_owned();
    let mut places = Vec::with_capacity(rows.len());
    for (index, row) in rows.iter().enumerate() {
        text.push_str(if index > 0 { "," } else { "" });
        object(&mut text, "{\"fields\":{", &row.fields, |text, value| {
            // Writing to a string does not fail, here and below.
            let _ = match value {
                // A float keeps its point, so that it stays one.
                Value::Float(value) => write!(text, "{value:?}"),
                Value::Integer(value) => write!(text, "{value}"),
                Value::Bool(value) => write!(text, "{value}"),
                Value::Text(value) => write!(text, "\"{value}\""),
            };
        });
        let _ = write!(text, r#","name":"{}","#, row.measurement);
        object(&mut text, "\"tags\":{", &row.tags, |text, value| {
            let _ = write!(text, "\"{value}\"");
        });
        text.push_str(r#","timestamp":"#);
        places.push(text.len());
        let _ = write!(text, "{}}}", (start_us + u64::from(row.offset_us)) * 1_000);
    }
    text.push_str("]}\n");
    Encoded {
        bytes: text.into_bytes(),
        places,
        clock: Clock::Decimal,
        measurement: None,
        tags: Vec::new(),
        counts: counts(rows),
    }
}

fn object<T>(text: &mut String, head: &str, members: &[(Name, T)], put: fn(&mut String, &T)) {
    text.push_str(head);
    for (place, (name, value)) in members.iter().enumerate() {
        let _ = write!(text, "{}\"{name}\":", if place > 0 { "," } else { "" });
        put(text, value);
    }
    text.push('}');
}
