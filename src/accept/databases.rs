//! Databases as InfluxDB 3 lists, makes and drops them: `/api/v3/configure/database`.
//!
//! | method                 | answer                                         |
//! |------------------------|------------------------------------------------|
//! | `GET ?format=json`     | 200 `[{"iox::database":"a"},..]`                |
//! | `POST {"db":"a",..}`   | 200 without a body; 409 when it exists          |
//! | `DELETE ?db=a`         | 200 without a body; 404 when there is none      |

use hyper::Method;
use simd_json::prelude::*;

use super::connection::require;
use super::response::{self, Answer, quote};
use super::route::{Parameters, check_database, invalid};
use crate::access::{Permission, Sender};
use crate::engine::Engine;
use crate::error::{ClientError, WriteError};

/// Longest body of a request, in bytes: a name and settings that are not looked at.
pub(super) const BODY_BYTES_MAX: usize = 64 << 10;

/// Does what `method` asks for: making a database takes permission to write to it, dropping one
/// that of an administrator, and only those are listed that the sender may read or write.
///
/// # Errors
/// `DatabaseExists`, `UnknownDatabase`, what is wrong with the request, and what the engine says.
pub(super) async fn configure(
    engine: &Engine,
    sender: &Sender,
    method: &Method,
    parameters: &Parameters<'_>,
    body: &mut [u8],
) -> Result<Answer, WriteError> {
    if *method == Method::POST {
        create(engine, sender, body)
    } else if *method == Method::DELETE {
        drop_database(engine, sender, parameters).await
    } else {
        list(engine, sender, parameters)
    }
}

fn list(
    engine: &Engine,
    sender: &Sender,
    parameters: &Parameters<'_>,
) -> Result<Answer, WriteError> {
    match parameters.format.as_deref().unwrap_or_default() {
        "" | "json" => {}
        found => return Err(invalid("format", "json", found)),
    }
    let mut json = String::from("[");
    let databases = engine.databases();
    for (index, name) in databases.iter().filter(|it| sees(sender, it)).enumerate() {
        json.push_str(if index > 0 { ",{\"iox::database\":" } else { "{\"iox::database\":" });
        quote(&mut json, name);
        json.push('}');
    }
    json.push(']');
    Ok(response::json(json))
}

/// Whether a database is shown to a sender.
pub(super) fn sees(sender: &Sender, database: &str) -> bool {
    let may = |permission| sender.may(permission, Some(database));
    may(Permission::Read) || may(Permission::Write)
}

fn create(engine: &Engine, sender: &Sender, body: &mut [u8]) -> Result<Answer, WriteError> {
    let request = simd_json::to_borrowed_value(body);
    let request = request.map_err(|_| ClientError::InvalidJson { expected: "{\"db\":name}" })?;
    let Some(name) = request.get_str("db") else {
        return Err(ClientError::MissingParameter { name: "db" }.into());
    };
    check_database(name)?;
    require(sender, Permission::Write, Some(name))?;
    if exists(engine, name) {
        return Err(ClientError::DatabaseExists { name: name.into() }.into());
    }
    engine.create_database(name)?;
    Ok(response::ok())
}

async fn drop_database(
    engine: &Engine,
    sender: &Sender,
    parameters: &Parameters<'_>,
) -> Result<Answer, WriteError> {
    require(sender, Permission::Admin, None)?;
    let Some(name) = parameters.db.as_deref() else {
        return Err(ClientError::MissingParameter { name: "db" }.into());
    };
    if !exists(engine, name) {
        return Err(ClientError::UnknownDatabase { name: name.into() }.into());
    }
    engine.drop_database(name).await?;
    Ok(response::ok())
}

fn exists(engine: &Engine, name: &str) -> bool {
    engine.databases().iter().any(|it| it == name)
}
