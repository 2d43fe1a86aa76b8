//! What a Peristyle server has stored.

use std::collections::BTreeMap;
use std::io;

use serde_json::Value;

use crate::client::{Answer, Client};
use crate::target::Target;

/// Asks for all rows to be written into tables, and waits for it.
///
/// # Errors
/// When the server does not answer, or refuses.
pub fn flush(target: &Target) -> io::Result<()> {
    let path = format!("/api/v1/flush?db={}", target.database);
    succeeded(Client::connect(target.address)?.request("POST", &path, &target.access(), b"")?)?;
    Ok(())
}

/// Rows of each measurement of the target's database.
///
/// # Errors
/// When the server does not answer, refuses, or says what is no list of tables.
pub fn rows(target: &Target) -> io::Result<BTreeMap<String, u64>> {
    let path = format!("/api/v1/tables?db={}", target.database);
    let answer = Client::connect(target.address)?.request("GET", &path, &target.access(), b"")?;
    let tables: Value = serde_json::from_slice(&succeeded(answer)?.body)?;
    let databases = tables.get("databases").and_then(Value::as_array);
    let databases = databases.ok_or_else(|| io::Error::other("expected a list of databases"))?;
    let measurements = databases
        .iter()
        .filter(|it| it.get("name").and_then(Value::as_str) == Some(&target.database))
        .filter_map(|it| it.get("measurements").and_then(Value::as_array))
        .flatten();
    measurements
        .map(|it| {
            let name = it.get("name").and_then(Value::as_str).map(str::to_owned);
            name.zip(it.get("rows").and_then(Value::as_u64))
                .ok_or_else(|| io::Error::other("expected a measurement with its rows"))
        })
        .collect()
}

fn succeeded(answer: Answer) -> io::Result<Answer> {
    if answer.is_success() { Ok(answer) } else { Err(io::Error::other(answer.describe())) }
}
