//! One request: from its head to its answer.
//!
//! What a request asks for is decided before its body is read: path, method, parameters, encoding,
//! declared length and room in memory. A refused body is read and dropped within bounds, so that
//! the client sees the answer and can use its connection again.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;

use hyper::Request;
use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;

use super::body::{self, Account, Arrival, Pool};
use super::peers;
use super::response::{self, Answer};
use super::route::{self, Dialect, Endpoint, Match, Parameters, Target};
use super::{credentials, databases, query, refusals, status};
use crate::access::{Guard, Permission, Sender};
use crate::durability::Durability;
use crate::engine::{Encoding, Engine, Format, Inflater, ReceivedBody, Shard, WriteRequest};
use crate::error::{ClientError, WriteError};
use crate::limits::Timeouts;
use crate::stats::FormatStats;

/// What the connections of one shard share.
pub(super) struct Context {
    pub(super) engine: Arc<Engine>,
    pub(super) shard: Rc<RefCell<Shard>>,
    pub(super) shard_index: usize,
    pub(super) pool: Rc<Pool>,
    pub(super) inflater: RefCell<Inflater>,
    pub(super) timeouts: Timeouts,
    pub(super) guard: RefCell<Guard>,
    pub(super) request_count: Cell<u64>,
}

impl Context {
    fn new_request_id(&self) -> String {
        format!("{:04x}-{:012x}", self.shard_index, self.request_count.get())
    }

    /// Who sent a request, known before its body is read.
    fn sender(&self, endpoint: Endpoint, head: &Parts) -> Result<Sender, WriteError> {
        if endpoint.is_public() {
            return Ok(Sender::Anybody);
        }
        let secrets = || {
            let parameters = Parameters::from_query(head.uri.query());
            credentials::secrets(&head.headers, parameters.p.as_deref())
        };
        let failed = |error| tracing::error!(%error, "the tokens cannot be read again");
        let recognised = self.guard.borrow_mut().recognise(secrets, self.engine.now_s(), failed);
        recognised.map_err(|denied| ClientError::Unauthenticated(denied).into())
    }

    fn format_stats(&self, format: Format) -> &FormatStats {
        match format {
            Format::Arrow => &self.engine.stats().arrow,
            Format::Json => &self.engine.stats().json,
            Format::LineProtocol | Format::QuestDb => &self.engine.stats().line_protocol,
            Format::MessagePack => &self.engine.stats().msgpack,
        }
    }
}

/// Answers one request; never fails.
pub(super) async fn serve(
    context: Rc<Context>,
    open: peers::Request,
    request: Request<Incoming>,
) -> Result<Answer, Infallible> {
    context.request_count.set(context.request_count.get() + 1);
    let (head, incoming) = request.into_parts();
    let mut arrival = Arrival { incoming, request: open, timeouts: context.timeouts };
    let id = context.new_request_id();
    let mut answer = match route::find(&head.method, head.uri.path()) {
        Match::Endpoint(endpoint) => {
            let endpoint = endpoint.of_client(&head.headers);
            let outcome = dispatch(&context, endpoint, &head, &mut arrival, &id).await;
            outcome.unwrap_or_else(|error| response::failed(endpoint.dialect(), &error, &id))
        }
        Match::MethodNotAllowed { allow } => response::method_not_allowed(allow),
        Match::NotFound => response::not_found(),
        Match::Options => response::options(),
    };
    response::finish(&mut answer, &head.headers, &id);
    response::count(context.engine.stats(), &answer);
    // A client that waits for `100 Continue` sends nothing after another answer.
    let Arrival { incoming, .. } = arrival;
    if !incoming.is_end_stream() && !head.headers.contains_key(header::EXPECT) {
        body::discard(incoming, context.engine.limits().body_bytes_max.saturating_mul(4));
    }
    Ok(answer)
}

async fn dispatch(
    context: &Context,
    endpoint: Endpoint,
    head: &Parts,
    arrival: &mut Arrival,
    id: &str,
) -> Result<Answer, WriteError> {
    let engine = &*context.engine;
    let sender = context.sender(endpoint, head)?;
    let parameters = || Parameters::from_query(head.uri.query());
    match endpoint {
        Endpoint::Write(dialect) => write(context, &sender, dialect, head, arrival, id).await,
        Endpoint::Databases => configure_databases(context, &sender, head, arrival).await,
        Endpoint::Flush => {
            let database = parameters().database(&head.headers)?;
            require(&sender, Permission::Write, database.as_deref())?;
            let report = engine.flush(database.as_deref()).await?;
            let (files, rows) = (report.files, report.rows);
            Ok(response::json(format!("{{\"files\":{files},\"rows\":{rows}}}")))
        }
        Endpoint::Tables => {
            let database = parameters().database(&head.headers)?;
            let mut databases = match &database {
                None => engine.databases(),
                Some(name) => {
                    require(&sender, Permission::Read, Some(name))?;
                    Vec::new()
                }
            };
            let mut tables = engine.tables(database.as_deref());
            let may_read = |name: &str| sender.may(Permission::Read, Some(name));
            databases.retain(|name| may_read(name));
            tables.retain(|table| may_read(&table.database));
            Ok(status::tables(&databases, tables))
        }
        Endpoint::Health => Ok(status::health(engine.durability())),
        Endpoint::Ready => Ok(status::ready(engine)),
        Endpoint::Ping => Ok(status::ping(parameters().verbose.as_deref())),
        Endpoint::Metrics => Ok(response::prometheus(engine.stats().prometheus())),
        Endpoint::Query => run_query(context, &sender, head, arrival).await,
    }
}

/// Refuses a sender that may not do this to `database`, or to all when none is named.
pub(super) fn require(
    sender: &Sender,
    permission: Permission,
    database: Option<&str>,
) -> Result<(), WriteError> {
    if sender.may(permission, database) {
        return Ok(());
    }
    Err(ClientError::Forbidden { permission, database: database.map(Box::from) }.into())
}

/// Statements may be in the URL, or in a form in the body.
async fn run_query(
    context: &Context,
    sender: &Sender,
    head: &Parts,
    arrival: &mut Arrival,
) -> Result<Answer, WriteError> {
    let engine = &*context.engine;
    let mut account = Account::new(engine);
    let mut form = context.pool.take();
    let max = query::QUERY_BYTES_MAX;
    arrival.gather(&mut form.bytes, max, &mut account).await?;
    let mut parameters = Parameters::from_query(head.uri.query());
    parameters.read(&form.bytes);
    let database = parameters.database(&head.headers)?;
    let Some(text) = &parameters.q else {
        return Err(ClientError::MissingParameter { name: "q" }.into());
    };
    Ok(response::json(query::run(engine, sender, text, database.as_deref()).await?))
}

async fn configure_databases(
    context: &Context,
    sender: &Sender,
    head: &Parts,
    arrival: &mut Arrival,
) -> Result<Answer, WriteError> {
    let engine = &*context.engine;
    let mut account = Account::new(engine);
    let mut body = context.pool.take();
    let max = databases::BODY_BYTES_MAX;
    arrival.gather(&mut body.bytes, max, &mut account).await?;
    let parameters = Parameters::from_query(head.uri.query());
    databases::configure(engine, sender, &head.method, &parameters, &mut body.bytes).await
}

async fn write(
    context: &Context,
    sender: &Sender,
    dialect: Dialect,
    head: &Parts,
    arrival: &mut Arrival,
    id: &str,
) -> Result<Answer, WriteError> {
    let stats = context.format_stats(dialect.format());
    stats.requests.add(1);
    let target = Target::new(dialect, head.uri.query(), &head.headers)?;
    require(sender, Permission::Write, Some(&target.database))?;
    let encoding = match head.headers.get(header::CONTENT_ENCODING) {
        Some(value) => Some(Encoding::from_header(&String::from_utf8_lossy(value.as_bytes()))?),
        None => None,
    };
    let mut account = Account::new(&context.engine);
    let mut received = match dialect.format() {
        Format::Arrow => context.pool.take_for(arrival.incoming.size_hint().lower()),
        _ => context.pool.take(),
    };
    let max = context.engine.limits().body_bytes_max;
    arrival.gather(&mut received.bytes, max, &mut account).await?;
    stats.received_bytes.add(received.bytes.len() as u64);

    let encoding = match encoding.unwrap_or_else(|| Encoding::sniff(&received.bytes)) {
        _ if received.bytes.is_empty() => Encoding::Identity,
        encoding => encoding,
    };
    let mut inflated = context.pool.take();
    if encoding != Encoding::Identity {
        let held = received.bytes.len();
        context.inflater.borrow_mut().inflate(
            encoding,
            &received.bytes,
            &mut inflated.bytes,
            context.engine.limits(),
            &mut |bytes| account.hold(held + bytes),
        )?;
    }
    let is_plain = encoding == Encoding::Identity;
    let bytes = if is_plain { received.bytes.len() } else { inflated.bytes.len() };
    stats.body_bytes.add(bytes as u64);
    if bytes == 0 {
        return empty_body(dialect);
    }
    let request = WriteRequest {
        endpoint: head.uri.path(),
        database: &target.database,
        format: dialect.format(),
        precision: target.precision,
        atomic: target.atomic,
        sender: sender.id(),
        parameters: target.stream_parameters(),
        idempotency_key: head.headers.get("idempotency-key").map(HeaderValue::as_bytes),
    };
    let place = context.engine.place(&request, &received.bytes).await?;
    let body = ReceivedBody {
        received: std::mem::take(&mut received.bytes),
        encoding,
        inflated: &mut inflated.bytes,
    };
    let written = context.shard.borrow_mut().write(&request, place, body, |report, body| {
        stats.rows_accepted.add(report.accepted);
        stats.rows_rejected.add(report.rejected);
        stats.fields_dropped.add(report.dropped_fields);
        refusals::written(dialect, target.atomic, report, body, id)
    })?;
    drop(inflated);
    if target.no_sync {
        return Ok(response::with_durability(written.in_memory(), Durability::Memory));
    }
    let (answer, buffer) = written.stored().await?;
    received.bytes = buffer;
    Ok(response::with_durability(answer, context.engine.durability()))
}

/// What a body of no bytes is answered.
fn empty_body(dialect: Dialect) -> Result<Answer, WriteError> {
    match dialect {
        Dialect::Arrow | Dialect::ArcMessagePack | Dialect::Json | Dialect::V3 => {
            Err(ClientError::EmptyBody.into())
        }
        Dialect::ArcLineProtocol | Dialect::QuestDb | Dialect::V1 | Dialect::V2 => {
            Ok(response::no_content())
        }
    }
}
