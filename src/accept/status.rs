//! What the server says of itself: alive, ready, version, counters, tables. No secret in any of it.

use std::fmt::Write;

use super::response::{self, Answer, quote};
use crate::durability::Durability;
use crate::engine::{Engine, TableInfo};

const NAME: &str = env!("CARGO_PKG_NAME");
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Alive; the JSON of `InfluxDB` 2, and what an acknowledged row has survived.
pub(super) fn health(durability: Durability) -> Answer {
    let durability = durability.name();
    response::json(format!(
        "{{\"name\":\"{NAME}\",\"message\":\"ready for queries and writes\",\"status\":\"pass\",\
         \"checks\":[],\"version\":\"{VERSION}\",\"durability\":\"{durability}\"}}"
    ))
}

/// Ready for writes or not; the JSON of `InfluxDB` 2.
pub(super) fn ready(engine: &Engine) -> Answer {
    if engine.is_ready() {
        response::json(String::from("{\"status\":\"ready\"}"))
    } else {
        response::not_ready(String::from("{\"status\":\"not ready\"}"))
    }
}

/// 204, or the version in JSON when that is asked for.
pub(super) fn ping(verbose: Option<&str>) -> Answer {
    match verbose.unwrap_or_default() {
        "" | "0" | "false" => response::no_content(),
        _ => response::json(format!("{{\"product_name\":\"{NAME}\",\"version\":\"{VERSION}\"}}")),
    }
}

/// Databases, measurements and columns. `tables` in any order; `databases` may be without tables.
pub(super) fn tables(databases: &[String], mut tables: Vec<TableInfo>) -> Answer {
    tables.sort_by(|a, b| (&a.database, &a.measurement).cmp(&(&b.database, &b.measurement)));
    let mut names: Vec<&str> = databases.iter().map(String::as_str).collect();
    names.extend(tables.iter().map(|table| table.database.as_str()));
    names.sort_unstable();
    names.dedup();
    let mut json = String::from("{\"databases\":[");
    for (index, name) in names.into_iter().enumerate() {
        json.push_str(if index > 0 { ",{\"name\":" } else { "{\"name\":" });
        quote(&mut json, name);
        json.push_str(",\"measurements\":[");
        let of_database = tables.iter().filter(|table| table.database == name);
        for (index, table) in of_database.enumerate() {
            if index > 0 {
                json.push(',');
            }
            push_table(&mut json, table);
        }
        json.push_str("]}");
    }
    json.push_str("]}");
    response::json(json)
}

fn push_table(json: &mut String, table: &TableInfo) {
    json.push_str("{\"name\":");
    quote(json, &table.measurement);
    // Writing to a string cannot fail, here and below.
    let TableInfo { rows, files, bytes, .. } = table;
    let _ = write!(json, ",\"rows\":{rows},\"files\":{files},\"bytes\":{bytes},\"columns\":[");
    for (index, column) in table.columns.iter().enumerate() {
        json.push_str(if index > 0 { ",{\"name\":" } else { "{\"name\":" });
        quote(json, &column.name);
        let (kind, role) = (column.kind.name(), column.role.name());
        let _ = write!(json, ",\"kind\":\"{kind}\",\"role\":\"{role}\"}}");
    }
    json.push_str("]}");
}
