//! Line protocol as Telegraf writes it: nanoseconds, floats in their shortest form.

use std::fmt::Write as _;

use super::{Encoded, counts};
use crate::clock::Clock;
use crate::shape::{Row, Value};

/// A line for each row.
pub(super) fn encode(rows: &[Row], start_us: u64) -> Encoded {
    let mut text = String::new();
    let mut places = Vec::with_capacity(rows.len());
    for row in rows {
        text.push_str(&row.measurement);
        for (name, value) in &row.tags {
            // Writing to a string does not fail, here and below.
            let _ = write!(text, ",{name}={value}");
        }
        for (place, (name, value)) in row.fields.iter().enumerate() {
            let separator = if place == 0 { ' ' } else { ',' };
            let _ = match value {
                Value::Float(value) => write!(text, "{separator}{name}={value}"),
                Value::Integer(value) => write!(text, "{separator}{name}={value}i"),
                Value::Bool(value) => write!(text, "{separator}{name}={value}"),
                Value::Text(value) => write!(text, "{separator}{name}=\"{value}\""),
            };
        }
        places.push(text.len() + 1);
        let _ = writeln!(text, " {}", (start_us + u64::from(row.offset_us)) * 1_000);
    }
    Encoded {
        bytes: text.into_bytes(),
        places,
        clock: Clock::Decimal,
        measurement: None,
        tags: Vec::new(),
        counts: counts(rows),
    }
}
