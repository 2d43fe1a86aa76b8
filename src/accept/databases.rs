//! Databases as InfluxDB 3 lists, makes and drops them: `/api/v3/configure/database`.
//!
//! | method                 | answer                                         |
//! |------------------------|------------------------------------------------|
//! | `GET ?format=json`     | 200 `[{"iox::database":"a"},..]`                |
//! | `POST {"db":"a",..}`   | 200 without a body; 409 when it exists          |
//! | `DELETE ?db=a`         | 200 without a body; 404 when there is none      |

use hyper::Method;
use simd_json::prelude::*;

use super::response::{self, Answer, quote};
use super::route::{Parameters, check_database, invalid};
use crate::engine::Engine;
use crate::error::{ClientError, WriteError};

/// Longest body of a request, in bytes: a name and settings that are not looked at.
pub(super) const BODY_BYTES_MAX: usize = 64 << 10;

/// Does what `method` asks for.
///
/// # Errors
/// `DatabaseExists`, `UnknownDatabase`, what is wrong with the request, and what the engine says.
pub(super) async fn configure(
    engine: &Engine,
    method: &Method,
    parameters: &Parameters<'_>,
    body: &mut [u8],
) -> Result<Answer, WriteError> {
    if *method == Method::POST {
        create(engine, body)
    } else if *method == Method::DELETE {
        drop_database(engine, parameters).await
    } else {
        list(engine, parameters)
    }
}

fn list(engine: &Engine, parameters: &Parameters<'_>) -> Result<Answer, WriteError> {
    match parameters.format.as_deref().unwrap_or_default() {
        "" | "json" => {}
        found => return Err(invalid("format", "json", found)),
    }
    let mut json = String::from("[");
    for (index, name) in engine.databases().iter().enumerate() {
        json.push_str(if index > 0 { ",{\"iox::database\":" } else { "{\"iox::database\":" });
        quote(&mut json, name);
        json.push('}');
    }
    json.push(']');
    Ok(response::json(json))
}

fn create(engine: &Engine, body: &mut [u8]) -> Result<Answer, WriteError> {
    let request = simd_json::to_borrowed_value(body);
    let request = request.map_err(|_| ClientError::InvalidJson { expected: "{\"db\":name}" })?;
    let Some(name) = request.get_str("db") else {
        return Err(ClientError::MissingParameter { name: "db" }.into());
    };
    check_database(name)?;
    if exists(engine, name) {
        return Err(ClientError::DatabaseExists { name: name.into() }.into());
    }
    engine.create_database(name)?;
    Ok(response::ok())
}

async fn drop_database(engine: &Engine, parameters: &Parameters<'_>) -> Result<Answer, WriteError> {
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
