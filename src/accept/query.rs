//! The statements of `InfluxQL` that clients send before they write.
//!
//! ```text
//! query     = statement { ";" statement } [ ";" ]
//! statement = "CREATE" "DATABASE" name [ "WITH" anything ]
//!           | "DROP" "DATABASE" name
//!           | "SHOW" "DATABASES"
//!           | "SHOW" "MEASUREMENTS" [ "ON" name ]
//! name      = word | '"' { any | '\"' | '\\' | '\n' } '"'
//! ```
//!
//! Keywords are read in any case. The answer is always 200 with one result for each statement,
//! which holds an `error` when the statement failed or is not one of these; that is what Telegraf,
//! TSBS and the client libraries look for. No query of rows: readers are other processes.

use std::fmt::Write;

use super::connection::require;
use super::databases::sees;
use super::response::quote;
use super::route::check_database;
use crate::access::{Permission, Sender};
use crate::engine::Engine;
use crate::error::WriteError;

/// Longest form or text of statements, in bytes. A client that starts sends a few hundred.
pub(super) const QUERY_BYTES_MAX: usize = 64 << 10;
/// Statements of one request: each may be answered with all names there are.
const STATEMENTS_MAX: usize = 64;

/// A statement of the subset.
#[derive(Debug, Eq, PartialEq)]
enum Statement {
    CreateDatabase(String),
    DropDatabase(String),
    ShowDatabases,
    /// Of the named database, else of the request's.
    ShowMeasurements(Option<String>),
}

impl Statement {
    /// Refuses a sender that may not run it. `database` is the request's.
    fn authorize(&self, sender: &Sender, database: Option<&str>) -> Result<(), WriteError> {
        match self {
            Self::CreateDatabase(name) => require(sender, Permission::Write, Some(name)),
            Self::DropDatabase(_) => require(sender, Permission::Admin, None),
            // Only those are shown that the sender may see.
            Self::ShowDatabases => Ok(()),
            Self::ShowMeasurements(on) => match on.as_deref().or(database) {
                Some(name) => require(sender, Permission::Read, Some(name)),
                None => Ok(()),
            },
        }
    }
}

/// Runs every statement of `text`; returns the JSON of the answer. `database` is the request's.
///
/// # Errors
/// `Forbidden`, before any statement is run.
pub(super) async fn run(
    engine: &Engine,
    sender: &Sender,
    text: &str,
    database: Option<&str>,
) -> Result<String, WriteError> {
    let mut answer = String::from("{\"results\":[");
    let statements = statements(text);
    for statement in statements.iter().filter_map(|tokens| parse(tokens).ok()) {
        statement.authorize(sender, database)?;
    }
    for (id, tokens) in statements.iter().take(STATEMENTS_MAX).enumerate() {
        if id > 0 {
            answer.push(',');
        }
        // Writing to a string cannot fail.
        let _ = write!(answer, "{{\"statement_id\":{id}");
        let outcome = match parse(tokens) {
            _ if statements.len() > STATEMENTS_MAX => Err(too_many(statements.len())),
            Ok(statement) => execute(engine, sender, &statement, database).await,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(series) => answer.push_str(&series),
            Err(error) => {
                answer.push_str(",\"error\":");
                quote(&mut answer, &error);
            }
        }
        answer.push('}');
    }
    answer.push_str("]}");
    Ok(answer)
}

/// Returns what the result holds besides its id.
async fn execute(
    engine: &Engine,
    sender: &Sender,
    statement: &Statement,
    database: Option<&str>,
) -> Result<String, String> {
    match statement {
        Statement::CreateDatabase(name) => {
            check_database(name)
                .and_then(|()| engine.create_database(name))
                .map_err(|error| error.to_string())?;
            Ok(String::new())
        }
        Statement::DropDatabase(name) => {
            engine.drop_database(name).await.map_err(|error| error.to_string())?;
            Ok(String::new())
        }
        // The series is there even when there is no database: TSBS reads it unseen.
        Statement::ShowDatabases => {
            let mut names = engine.databases();
            names.retain(|name| sees(sender, name));
            Ok(series("databases", &names))
        }
        Statement::ShowMeasurements(on) => show_measurements(engine, on.as_deref().or(database)),
    }
}

fn show_measurements(engine: &Engine, database: Option<&str>) -> Result<String, String> {
    let database = database.ok_or("database name required")?;
    if !engine.databases().iter().any(|name| name == database) {
        return Err(format!("database not found: {database}"));
    }
    let tables = engine.tables(Some(database));
    let names: Vec<String> = tables.into_iter().map(|table| table.measurement).collect();
    Ok(if names.is_empty() { String::new() } else { series("measurements", &names) })
}

/// One series of one column `name`.
fn series(series: &str, names: &[String]) -> String {
    let mut json = String::from(",\"series\":[{\"name\":");
    quote(&mut json, series);
    json.push_str(",\"columns\":[\"name\"],\"values\":[");
    for (index, name) in names.iter().enumerate() {
        json.push_str(if index > 0 { ",[" } else { "[" });
        quote(&mut json, name);
        json.push(']');
    }
    json.push_str("]}]");
    json
}

/// A word, a quoted name, or the semicolon that ends a statement.
#[derive(Debug, Eq, PartialEq)]
enum Token {
    Quoted(String),
    Semicolon,
    /// A quotation mark that is not closed.
    Unclosed,
    Word(String),
}

impl Token {
    fn is(&self, keyword: &str) -> bool {
        matches!(self, Self::Word(word) if word.eq_ignore_ascii_case(keyword))
    }

    fn name(&self) -> Option<&str> {
        match self {
            Self::Quoted(name) | Self::Word(name) => Some(name),
            Self::Semicolon | Self::Unclosed => None,
        }
    }
}

/// The tokens of each statement; at least one statement.
fn statements(text: &str) -> Vec<Vec<Token>> {
    let mut statements = vec![Vec::new()];
    for token in tokens(text) {
        match (token, statements.last_mut()) {
            (Token::Semicolon, Some(last)) if last.is_empty() => {}
            (Token::Semicolon, _) => statements.push(Vec::new()),
            (token, Some(last)) => last.push(token),
            (_, None) => {}
        }
    }
    if statements.len() > 1 && statements.last().is_some_and(Vec::is_empty) {
        statements.pop();
    }
    statements
}

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            ';' => tokens.push(Token::Semicolon),
            '"' => tokens.push(quoted(&mut chars)),
            char if char.is_whitespace() => {}
            char => {
                let mut word = String::from(char);
                while let Some(next) =
                    chars.next_if(|next| !next.is_whitespace() && !matches!(next, ';' | '"'))
                {
                    word.push(next);
                }
                tokens.push(Token::Word(word));
            }
        }
    }
    tokens
}

/// Reads a name up to its closing quotation mark. Telegraf escapes `\n`, `\\` and `\"`.
fn quoted(chars: &mut impl Iterator<Item = char>) -> Token {
    let mut name = String::new();
    while let Some(char) = chars.next() {
        match char {
            '"' => return Token::Quoted(name),
            '\\' => match chars.next() {
                Some('n') => name.push('\n'),
                Some(escaped) => name.push(escaped),
                None => return Token::Unclosed,
            },
            char => name.push(char),
        }
    }
    Token::Unclosed
}

fn parse(tokens: &[Token]) -> Result<Statement, String> {
    let unsupported = || {
        String::from(
            "error parsing query: expected CREATE DATABASE, DROP DATABASE, SHOW DATABASES or SHOW \
             MEASUREMENTS, found another statement",
        )
    };
    let [verb, object, rest @ ..] = tokens else { return Err(unsupported()) };
    if verb.is("CREATE") && object.is("DATABASE") {
        let [name, rest @ ..] = rest else { return Err(expected("a database name", rest)) };
        let name = name.name().ok_or_else(|| expected("a database name", rest))?;
        if rest.first().is_some_and(|token| !token.is("WITH")) {
            return Err(expected("WITH or the end", rest));
        }
        Ok(Statement::CreateDatabase(name.to_owned()))
    } else if verb.is("DROP") && object.is("DATABASE") {
        match rest {
            [name] if name.name().is_some() => {
                Ok(Statement::DropDatabase(name.name().unwrap_or_default().to_owned()))
            }
            _ => Err(expected("one database name", rest)),
        }
    } else if verb.is("SHOW") && object.is("DATABASES") {
        if rest.is_empty() { Ok(Statement::ShowDatabases) } else { Err(expected("the end", rest)) }
    } else if verb.is("SHOW") && object.is("MEASUREMENTS") {
        match rest {
            [] => Ok(Statement::ShowMeasurements(None)),
            [on, name] if on.is("ON") => {
                let name = name.name().ok_or_else(|| expected("a database name", rest))?;
                Ok(Statement::ShowMeasurements(Some(name.to_owned())))
            }
            _ => Err(expected("ON and a database name, or the end", rest)),
        }
    } else {
        Err(unsupported())
    }
}

fn too_many(found: usize) -> String {
    format!("error parsing query: expected at most {STATEMENTS_MAX} statements, found {found}")
}

fn expected(what: &str, found: &[Token]) -> String {
    let found = match found.first() {
        None => "the end",
        Some(Token::Quoted(text) | Token::Word(text)) => text,
        Some(Token::Semicolon) => ";",
        Some(Token::Unclosed) => "a quotation mark that is not closed",
    };
    format!("error parsing query: expected {what}, found {found}")
}
