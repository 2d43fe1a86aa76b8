//! `peristyle token`: access tokens made, listed and revoked, beside a server that runs or not.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use peristyle::access::{self, AccessError, Grant, Permission, Token};
use peristyle::config::{CreateToken, TokenCommand};

/// Runs a command on tokens; the status tells whether it succeeded.
pub(crate) fn run(command: &TokenCommand) -> ExitCode {
    let now_s = now_s();
    let outcome = match command {
        TokenCommand::Create(arguments) => create(arguments, now_s),
        TokenCommand::List(arguments) => list(&arguments.data_dir, now_s),
        TokenCommand::Revoke(arguments) => access::revoke(&arguments.data_dir, arguments.id)
            .map(|token| format!("revoked {:016x} ({})\n", token.id, token.grant.name)),
    };
    match outcome {
        Ok(text) => {
            // A secret that nobody reads is lost: its token can be revoked.
            let written = io::stdout().lock().write_all(text.as_bytes());
            if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn create(arguments: &CreateToken, now_s: u64) -> Result<String, AccessError> {
    let CreateToken { name, allow, databases, expires_in, data_dir } = arguments;
    let mut permissions = allow.clone();
    permissions.dedup();
    let grant = Grant {
        name: name.clone(),
        permissions,
        databases: databases.clone(),
        created_s: now_s,
        expires_s: expires_in.map(|duration| now_s.saturating_add(duration.as_secs())),
    };
    let (token, secret) = access::create(data_dir, grant)?;
    tracing::info!("made token {:016x}; this is its secret, shown once:", token.id);
    // Alone on standard output, so that it can be taken into a variable.
    Ok(format!("{secret}\n"))
}

fn list(data_dir: &std::path::Path, now_s: u64) -> Result<String, AccessError> {
    let tokens = access::load(data_dir)?.unwrap_or_default();
    let mut text = String::new();
    for token in &tokens {
        let Token { id, grant, is_revoked, .. } = token;
        let names: Vec<&str> = grant.permissions.iter().copied().map(Permission::name).collect();
        let databases = match grant.databases.as_slice() {
            [] => "all databases".to_owned(),
            names => names.join(","),
        };
        let state = match grant.expires_s {
            _ if *is_revoked => "revoked".to_owned(),
            Some(at) if at <= now_s => "expired".to_owned(),
            Some(at) => format!("expires in {}", span(at - now_s)),
            None => "never expires".to_owned(),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{id:016x}  {}  {databases}  {state}  {}",
            names.join(","),
            grant.name.escape_debug()
        );
    }
    Ok(text)
}

/// Seconds in the largest unit that is whole enough to tell.
fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[expect(clippy::disallowed_methods, reason = "a command says when it is run")]
fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
