//! The arguments of `peristyle token`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::value::{ValueError, at_least, duration};
use crate::access::Permission;

/// What may be done with access tokens.
#[derive(Clone, Debug, Eq, PartialEq, Subcommand)]
pub enum TokenCommand {
    /// Make a token, and print its secret, which nobody can print again
    Create(CreateToken),
    /// List the tokens, the revoked and expired ones too, without their secrets
    List(ListTokens),
    /// Make a token worth nothing from the next request on
    Revoke(RevokeToken),
}

/// The arguments of `peristyle token create`.
#[derive(Args, Clone, Debug, Eq, PartialEq)]
pub struct CreateToken {
    /// What people call it: who will hold it
    pub name: String,

    /// What it permits: `read`, `write`, `admin`, or several with commas
    ///
    /// `read` shows databases, measurements and columns; `write` sends rows, makes databases and
    /// flushes; `admin` is everything, for all databases.
    #[arg(long, value_name = "PERMISSIONS", required = true, value_delimiter = ',')]
    #[arg(value_parser = permission)]
    pub allow: Vec<Permission>,

    /// A database that it is for, or several with commas; without it, all of them
    #[arg(long = "database", value_name = "NAMES", value_delimiter = ',')]
    pub databases: Vec<String>,

    /// How long it is worth something: a duration such as `12h` or `90d`; without it, for ever
    #[arg(long, value_name = "DURATION", value_parser = expiry)]
    pub expires_in: Option<Duration>,

    /// The data directory of the server
    #[arg(long, env = "PERISTYLE_DATA_DIR", value_name = "DIR")]
    #[arg(default_value = "./peristyle-data")]
    pub data_dir: PathBuf,
}

/// The arguments of `peristyle token list`.
#[derive(Args, Clone, Debug, Eq, PartialEq)]
pub struct ListTokens {
    /// The data directory of the server
    #[arg(long, env = "PERISTYLE_DATA_DIR", value_name = "DIR")]
    #[arg(default_value = "./peristyle-data")]
    pub data_dir: PathBuf,
}

/// The arguments of `peristyle token revoke`.
#[derive(Args, Clone, Debug, Eq, PartialEq)]
pub struct RevokeToken {
    /// The number of the token, as `token list` shows it
    #[arg(value_parser = id)]
    pub id: u64,

    /// The data directory of the server
    #[arg(long, env = "PERISTYLE_DATA_DIR", value_name = "DIR")]
    #[arg(default_value = "./peristyle-data")]
    pub data_dir: PathBuf,
}

fn permission(text: &str) -> Result<Permission, ValueError> {
    let expected = || ValueError::expected("read, write or admin", text);
    Permission::from_name(text).ok_or_else(expected)
}

fn expiry(text: &str) -> Result<Duration, ValueError> {
    at_least(duration(text)?, &Duration::from_secs(1), "1s")
}

fn id(text: &str) -> Result<u64, ValueError> {
    let wrong = |_| ValueError::expected("the 16 hex digits of a token's number", text);
    u64::from_str_radix(text, 16).map_err(wrong)
}
