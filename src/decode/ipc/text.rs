//! A row in words, for `_rejected`: a JSON object of the values it has.

use std::fmt::Write;

use super::Batch;
use super::fields::Schema;
use super::values::Values;
use crate::error::cut;

/// Bytes of a row that are written; the reader of `_rejected` gets no more of any row.
const ROW_BYTES_MAX: usize = 4 << 10;

/// The row as JSON, ended where it would be too long. Times are numbers in their own unit.
pub(super) fn of_row(schema: &Schema, batch: &Batch, row: usize) -> Box<str> {
    let mut text = String::from("{");
    for (column, values) in schema.columns.iter().zip(&batch.columns) {
        if values.is_null(row) || text.len() > ROW_BYTES_MAX {
            continue;
        }
        if text.len() > 1 {
            text.push(',');
        }
        quote(&mut text, &column.name);
        text.push(':');
        // Writing to a string does not fail.
        let _ = match values {
            Values::Null => Ok(()),
            Values::Bool(values) => write!(text, "{}", values.value(row)),
            Values::Int(values) | Values::Time(_, values) => write!(text, "{}", values.value(row)),
            Values::Uint(values) => write!(text, "{}", values.value(row)),
            Values::Float(values) => write!(text, "{}", values.value(row)),
            Values::Text(_) | Values::Dictionary(..) => {
                quote(&mut text, cut(values.text(row), ROW_BYTES_MAX));
                Ok(())
            }
        };
    }
    text.push('}');
    cut(&text, ROW_BYTES_MAX).into()
}

/// Appends `text` as a JSON string. Source: RFC 8259, section 7.
fn quote(to: &mut String, text: &str) {
    to.push('"');
    for char in text.chars() {
        match char {
            '"' | '\\' => {
                to.push('\\');
                to.push(char);
            }
            control if u32::from(control) < 0x20 => {
                let _ = write!(to, "\\u{:04x}", u32::from(control));
            }
            char => to.push(char),
        }
    }
    to.push('"');
}
