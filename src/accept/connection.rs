//! One request: from its head to its answer.
//!
//! What a request asks for is decided before its body is read: path, method, parameters, encoding,
//! declared length and room in memory. A refused body is read and dropped within bounds, so that
//! the client sees the answer and can use its connection again.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Request, StatusCode};

use super::asked::Asked;
use super::body::{self, Account, Arrival, Pool};
use super::bulk::Bulk;
use super::inflation::{Ready, inflate};
use super::metrics::{self, DatabaseRows, Exposition};
use super::observed::{self, Lines, Observed, Refused};
use super::peers;
use super::response::{self, Answer};
use super::route::{self, Dialect, Endpoint, Match, Parameters, Target};
use super::turns::Turns;
use super::{credentials, databases, page, query, status};
use crate::access::{Guard, Permission, Sender};
use crate::durability::Durability;
use crate::engine::{Encoding, Engine, Format, Inflater, ReceivedBody, Report, Shard, Tenant};
use crate::error::{ClientError, WriteError};
use crate::limits::Timeouts;

/// What the connections of one shard share.
pub(super) struct Context {
    pub(super) engine: Arc<Engine>,
    pub(super) shard: Rc<RefCell<Shard>>,
    pub(super) shard_index: usize,
    pub(super) pool: Rc<Pool>,
    pub(super) inflater: RefCell<Inflater>,
    pub(super) turns: Rc<Turns>,
    pub(super) bulk: Bulk,
    pub(super) timeouts: Timeouts,
    pub(super) guard: RefCell<Guard>,
    pub(super) request_count: Cell<u64>,
    pub(super) observed: Arc<Observed>,
    pub(super) slow_request: Duration,
    /// What may be logged.
    pub(super) lines: RefCell<Lines>,
}

/// A request, as it is spoken of.
struct Seen {
    /// Ours.
    id: String,
    /// The one that its answer carries.
    shown_id: String,
    endpoint: &'static str,
    begun: Instant,
}

impl Context {
    /// The shard `index` of `engine`, and nobody connected to it yet.
    pub(super) fn new(
        engine: &Arc<Engine>,
        index: usize,
        bulk: Bulk,
        timeouts: Timeouts,
        guard: Guard,
        observed: Arc<Observed>,
        slow_request: Duration,
    ) -> Self {
        Self {
            engine: Arc::clone(engine),
            shard: Rc::new(RefCell::new(Shard::new(engine, index))),
            shard_index: index,
            pool: Rc::default(),
            inflater: RefCell::default(),
            turns: Rc::default(),
            bulk,
            timeouts,
            guard: RefCell::new(guard),
            request_count: Cell::new(0),
            observed,
            slow_request,
            lines: RefCell::new(Lines::default()),
        }
    }

    fn new_request_id(&self) -> String {
        format!("{:04x}-{:012x}", self.shard_index, self.request_count.get())
    }

    /// Who sent a request, known before its body is read.
    fn sender(&self, endpoint: Endpoint, head: &Parts) -> Result<Sender, WriteError> {
        if endpoint.is_public() { Ok(Sender::Anybody) } else { self.recognise(head) }
    }

    fn recognise(&self, head: &Parts) -> Result<Sender, WriteError> {
        let secrets = || {
            let parameters = Parameters::from_query(head.uri.query());
            credentials::secrets(&head.headers, parameters.p.as_deref())
        };
        let failed = |error| tracing::error!(%error, "the tokens cannot be read again");
        let recognised = self.guard.borrow_mut().recognise(secrets, self.engine.now_s(), failed);
        recognised.map_err(|denied| ClientError::Unauthenticated(denied).into())
    }

    fn refusal(&self, seen: &Seen, database: Option<&str>, status: StatusCode) -> Refused {
        Refused {
            time_ms: self.engine.now_ms(),
            id: seen.shown_id.as_str().into(),
            endpoint: seen.endpoint,
            database: database.map(Box::from),
            status: status.as_u16(),
            accepted: 0,
            rejected: 0,
            rows: Vec::new(),
        }
    }

    /// Notes a request that was refused as a whole.
    fn note_refused(
        &self,
        seen: &Seen,
        endpoint: Endpoint,
        head: &Parts,
        error: &WriteError,
        status: StatusCode,
    ) {
        let query = head.uri.query();
        let database = match endpoint {
            Endpoint::Write(dialect) => {
                Target::new(dialect, query, &head.headers).ok().map(|it| it.database)
            }
            _ => Parameters::from_query(query).database(&head.headers).ok().flatten(),
        };
        let reason = observed::request_reason(error);
        let refused = self.refusal(seen, database.as_deref(), status);
        self.observed.refused(refused, reason, error);
        let Some(left_out) = self.lines.borrow_mut().take(self.engine.now()) else { return };
        let left_out = (left_out > 0).then_some(left_out);
        let (request, endpoint, status) = (&*seen.shown_id, seen.endpoint, status.as_u16());
        if let WriteError::Server(error) = error {
            tracing::error!(request, endpoint, status, reason, left_out, %error, "request failed");
        } else {
            // What the error says of the request may be of the request.
            tracing::info!(request, endpoint, status, reason, left_out, "request refused");
        }
    }

    /// Notes a request of which rows were refused, if any were.
    fn note_rows(&self, seen: &Seen, database: &str, report: &Report, status: StatusCode) {
        if report.rejected == 0 {
            return;
        }
        let refused = self.refusal(seen, Some(database), status);
        let reason = self.observed.rejected(refused, report);
        let Some(left_out) = self.lines.borrow_mut().take(self.engine.now()) else { return };
        let left_out = (left_out > 0).then_some(left_out);
        let Seen { shown_id: request, endpoint, .. } = seen;
        let Report { accepted, rejected, .. } = report;
        let status = status.as_u16();
        tracing::info!(
            request,
            endpoint,
            status,
            accepted,
            rejected,
            reason,
            left_out,
            "rows refused"
        );
    }

    /// Counts an answer; a slow one makes a line of the log.
    fn note_answer(&self, seen: &Seen, found: Match, status: StatusCode) {
        self.observed.answered(found.place(), status);
        let duration = self.engine.now().saturating_duration_since(seen.begun);
        if let Match::Endpoint { endpoint: Endpoint::Write(dialect), .. } = found {
            self.engine.format_stats(dialect.format()).durations.observe(duration);
        }
        if duration >= self.slow_request
            && let Some(left_out) = self.lines.borrow_mut().take(self.engine.now())
        {
            let left_out = (left_out > 0).then_some(left_out);
            let (request, endpoint, status) = (&*seen.shown_id, seen.endpoint, status.as_u16());
            let duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
            tracing::warn!(request, endpoint, status, duration_ms, left_out, "slow request");
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
    let begun = context.engine.now();
    let (head, incoming) = request.into_parts();
    let mut arrival = Arrival { incoming, request: open, timeouts: context.timeouts };
    let found = route::find(&head.method, head.uri.path());
    let id = context.new_request_id();
    let shown_id = response::shown_id(&head.headers, &id);
    let seen = Seen { id, shown_id, endpoint: observed::endpoint(found.place()), begun };
    let mut answer = match found {
        Match::Endpoint { endpoint, .. } => {
            let endpoint = endpoint.of_client(&head.headers);
            match dispatch(&context, endpoint, &head, &mut arrival, &seen).await {
                Ok(answer) => answer,
                Err(error) => {
                    let answer = response::failed(endpoint.dialect(), &error, &seen.id);
                    context.note_refused(&seen, endpoint, &head, &error, answer.status());
                    answer
                }
            }
        }
        Match::MethodNotAllowed { allow, .. } => response::method_not_allowed(allow),
        Match::NotFound => response::not_found(),
        Match::Options => response::options(),
    };
    response::finish(&mut answer, &head.headers, &seen.id);
    context.note_answer(&seen, found, answer.status());
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
    seen: &Seen,
) -> Result<Answer, WriteError> {
    let engine = &*context.engine;
    let sender = context.sender(endpoint, head)?;
    let parameters = || Parameters::from_query(head.uri.query());
    match endpoint {
        Endpoint::Write(dialect) => write(context, &sender, dialect, head, arrival, seen).await,
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
        Endpoint::Page => Ok(page::answer()),
        Endpoint::Ping => Ok(status::ping(parameters().verbose.as_deref())),
        Endpoint::Metrics => Ok(measured(context, head)),
        Endpoint::Rejects => {
            let database = parameters().database(&head.headers)?;
            if let Some(name) = &database {
                require(&sender, Permission::Read, Some(name))?;
            }
            let is_shown = |name: Option<&str>| {
                database.is_none() && sender.may(Permission::Read, name)
                    || database.is_some() && name == database.as_deref()
            };
            Ok(response::json(context.observed.recent(is_shown)))
        }
        Endpoint::Query => run_query(context, &sender, head, arrival).await,
    }
}

/// The numbers; those of a database for who may read it.
fn measured(context: &Context, head: &Parts) -> Answer {
    let sender = context.recognise(head).ok();
    let is_shown =
        |name: &str| sender.as_ref().is_some_and(|sender| sender.may(Permission::Read, Some(name)));
    let databases = context.engine.database_totals().into_iter();
    let databases = databases
        .filter(|(name, ..)| is_shown(name))
        .map(|(name, rows, files)| DatabaseRows { name, rows, files });
    let exposition = Exposition::asked_for(&head.headers);
    let (engine, observed) = (&context.engine, &context.observed);
    let text = metrics::text(engine, observed, databases.collect(), exposition);
    response::measured(exposition.content_type(), text)
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
    let mut account = Account::of_form(engine);
    let mut form = context.pool.take(arrival.incoming.size_hint().lower());
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
    let mut account = Account::of_form(engine);
    let mut body = context.pool.take(arrival.incoming.size_hint().lower());
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
    seen: &Seen,
) -> Result<Answer, WriteError> {
    let stats = context.engine.format_stats(dialect.format());
    stats.requests.add(1);
    let target = Target::new(dialect, head.uri.query(), &head.headers)?;
    require(sender, Permission::Write, Some(&target.database))?;
    let encoding = match head.headers.get(header::CONTENT_ENCODING) {
        Some(value) => Some(Encoding::from_header(&String::from_utf8_lossy(value.as_bytes()))?),
        None => None,
    };
    let is_compressed = encoding.is_some_and(|it| it != Encoding::Identity);
    let tenant = || tenant(sender, &target.database);
    let mut account = Account::of_rows(&context.engine, tenant(), is_compressed);
    let declared = arrival.incoming.size_hint().lower();
    let mut received = match dialect.format() {
        Format::Arrow => context.pool.take_kept(declared),
        _ => context.pool.take(declared),
    };
    let max = context.engine.limits().body_bytes_max;
    arrival.gather(&mut received.bytes, max, &mut account).await?;
    stats.received_bytes.add(received.bytes.len() as u64);
    let format = dialect.format();
    let ready = inflate(context, tenant(), format, encoding, &mut received, &mut account).await?;
    let Ready { encoding, mut inflated, turn, is_bulk } = ready;
    let is_plain = encoding == Encoding::Identity;
    let bytes = if is_plain { received.bytes.len() } else { inflated.bytes.len() };
    stats.body_bytes.add(bytes as u64);
    if bytes == 0 {
        return empty_body(dialect);
    }
    let asked = Asked {
        dialect,
        target: &target,
        path: head.uri.path(),
        sender: sender.id(),
        key: head.headers.get("idempotency-key").map(HeaderValue::as_bytes),
        id: &seen.id,
    };
    let place = context.engine.place(&asked.request(), &received.bytes).await?;
    let body = std::mem::take(&mut received.bytes);
    let kept = body.len();
    let text = &mut inflated.bytes;
    let written = if is_bulk {
        asked.write_in_bulk(context, &mut account, place, body, encoding, text).await?
    } else {
        let body = ReceivedBody { received: body, encoding, inflated: text };
        context.shard.borrow_mut().write(&asked.request(), place, body, |report, text| {
            asked.conclude(&context.engine, report, text)
        })?
    };
    let written = written.map(|(answer, report)| {
        context.note_rows(seen, &target.database, &report, answer.status());
        answer
    });
    drop((inflated, turn));
    account.keep(kept);
    if target.no_sync {
        return Ok(response::with_durability(written.in_memory(), Durability::Memory));
    }
    let (answer, buffer) = written.stored().await?;
    received.bytes = buffer;
    Ok(response::with_durability(answer, context.engine.durability()))
}

/// Who shares room with others.
fn tenant<'a>(sender: &Sender, database: &'a str) -> Tenant<'a> {
    match sender.id() {
        0 => Tenant::Database(Cow::Borrowed(database)),
        id => Tenant::Token(id),
    }
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
