//! `peristyle inspect`: what a data directory holds, for people or for machines.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use peristyle::config::Inspect;
use peristyle::engine::{self, Finding, Inspection, JournalReport, TableState};
use simd_json::prelude::*;
use simd_json::{OwnedValue, json};

/// Exit status when something does not fit together.
const INCONSISTENT: u8 = 1;
/// Exit status when nothing can be said.
const UNREADABLE: u8 = 2;

/// Prints the inspection of a directory; the status tells whether it is consistent.
pub(crate) fn inspect(arguments: &Inspect) -> ExitCode {
    let Inspect { data_dir, json } = arguments;
    let inspection = match engine::inspect(data_dir) {
        Ok(inspection) => inspection,
        Err(error) => {
            tracing::error!(data_dir = %data_dir.display(), "{error}");
            return UNREADABLE.into();
        }
    };
    let text = if *json {
        format!("{}\n", to_json(data_dir, &inspection).encode())
    } else {
        to_text(data_dir, &inspection)
    };
    // Who closes the pipe has seen enough; the status is the same.
    let _ = io::stdout().lock().write_all(text.as_bytes());
    if inspection.inconsistencies.is_empty() { ExitCode::SUCCESS } else { INCONSISTENT.into() }
}

fn to_json(data_dir: &Path, inspection: &Inspection) -> OwnedValue {
    let Inspection { server, tables, journal, inconsistencies, notes } = inspection;
    let findings = |it: &[Finding]| it.iter().map(finding_to_json).collect::<Vec<_>>();
    json!({
        "data_dir": data_dir.display().to_string(),
        "consistent": inconsistencies.is_empty(),
        "server": *server,
        "tables": tables.iter().map(table_to_json).collect::<Vec<_>>(),
        "journal": journal.as_ref().map(journal_to_json),
        "inconsistencies": findings(inconsistencies),
        "notes": findings(notes),
    })
}

fn table_to_json(table: &TableState) -> OwnedValue {
    let columns = table.columns.iter().map(|it| {
        json!({
            "name": it.name.clone(),
            "physical": it.physical.clone(),
            "kind": it.kind.name(),
            "role": it.role.name(),
            "unit": it.unit.clone(),
        })
    });
    json!({
        "database": table.database.clone(),
        "measurement": table.measurement.clone(),
        "version": table.version,
        "rows": table.rows,
        "files": table.files,
        "columns": columns.collect::<Vec<_>>(),
    })
}

fn journal_to_json(journal: &JournalReport) -> OwnedValue {
    json!({
        "instance": journal.instance.clone(),
        "files": journal.files as u64,
        "records": journal.records,
        "first_sequence": journal.first_sequence,
        "last_sequence": journal.last_sequence,
        "unpublished": journal.unpublished,
    })
}

fn finding_to_json(finding: &Finding) -> OwnedValue {
    json!({
        "check": finding.check.name(),
        "path": finding.path.display().to_string(),
        "what": finding.what.clone(),
    })
}

fn to_text(data_dir: &Path, inspection: &Inspection) -> String {
    let Inspection { server, tables, journal, inconsistencies, notes } = inspection;
    let mut lines = vec![format!("{}", data_dir.display())];
    lines.extend(server.map(|it| format!("served by process {it}: this is of a moment ago")));
    lines.push(String::new());
    let mut cells = vec![["database", "measurement", "rows", "files", "columns"].map(String::from)];
    cells.extend(tables.iter().map(|it| {
        let columns: Vec<_> = it.columns.iter().map(column).collect();
        let (rows, files) = (it.rows.to_string(), it.files.to_string());
        [printable(&it.database), printable(&it.measurement), rows, files, columns.join(" ")]
    }));
    lines.extend(table(&cells));
    lines.push(String::new());
    lines.push(journal.as_ref().map_or_else(
        || "journal: not to be read".to_owned(),
        |it| {
            format!(
                "journal: {} records ({} to {}) in {} files, {} to replay",
                it.records, it.first_sequence, it.last_sequence, it.files, it.unpublished
            )
        },
    ));
    lines.extend(notes.iter().map(|it| finding("note", it)));
    lines.extend(inconsistencies.iter().map(|it| finding("INCONSISTENT", it)));
    lines.push(match inconsistencies.len() {
        0 => "consistent".to_owned(),
        count => format!("inconsistent: {count} findings"),
    });
    lines.push(String::new());
    lines.join("\n")
}

/// A column as `name:kind`, with the role where it is none of a field.
fn column(column: &engine::TableColumn) -> String {
    let name = printable(&column.name);
    match column.role.name() {
        "field" => format!("{name}:{}", column.kind),
        role => format!("{name}:{role}"),
    }
}

fn finding(what: &str, finding: &Finding) -> String {
    let path = printable(&finding.path.to_string_lossy());
    format!("{what}: {path}: {}", printable(&finding.what))
}

/// Foreign text without what would move a terminal's cursor.
fn printable(text: &str) -> String {
    text.chars().map(|it| if it.is_control() { '?' } else { it }).collect()
}

/// Rows of cells, each column but the last as wide as its widest cell.
fn table<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
    let width = |at: usize| {
        let cells = rows.iter().filter_map(|row| row.get(at));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}
