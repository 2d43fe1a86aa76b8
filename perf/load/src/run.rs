//! Connections that send bodies, and what is measured meanwhile.
//!
//! With a rate, request `n` is due at `start + n / rate` whatever became of those before it, and
//! its latency counts from then: a server that stands still for a second makes a second's worth of
//! slow answers, not one. Without a rate each connection sends as soon as it has its answer.

use std::collections::BTreeMap;
use std::io;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::body::Body;
use crate::client::{Answer, Client};
use crate::clock::now;
use crate::process::Process;
use crate::report::{Point, float, seconds_of};

/// Between two points of a report.
pub const TICK: Duration = Duration::from_millis(250);
/// A server that refuses is asked again after this at most.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Between two attempts to connect.
const RECONNECT: Duration = Duration::from_millis(100);
/// The longest latency that is told apart, in microseconds.
const LATENCY_US_MAX: u64 = 3_600_000_000;

/// A request that is ready.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its head, whole.
    pub head: String,
    /// Its body.
    pub body: Body,
}

/// How long, how fast, with how many.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Connections, above 0.
    pub connections: usize,
    /// When to stop; else after `requests`.
    pub duration: Option<Duration>,
    /// Requests of each connection; else until the time is over.
    pub requests: Option<u64>,
    /// Requests a second of all connections together; else as fast as they are answered.
    pub rate: Option<f64>,
    /// The slot of time of the first body.
    pub first_slot: u64,
}

/// When requests are due.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// The first one.
    pub start: Instant,
    /// From one to the next.
    pub period: Duration,
}

impl Schedule {
    /// When request `n` is due.
    pub fn due(&self, n: u64) -> Instant {
        self.start + Duration::from_secs_f64(self.period.as_secs_f64() * float(n))
    }
}

/// What requests came to.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Microseconds from when a request was due to its answer, of the acknowledged ones.
    pub latency: Histogram<u64>,
    /// Acknowledged requests.
    pub requests: u64,
    /// Their rows.
    pub rows: u64,
    /// Their bytes before compression.
    pub raw_bytes: u64,
    /// Their bytes as sent.
    pub sent_bytes: u64,
    /// Requests that were not acknowledged, by the reason.
    pub failures: BTreeMap<String, u64>,
}

impl Default for Tally {
    fn default() -> Self {
        // Three digits of a range that is fixed: it cannot fail.
        let bounds = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3);
        let latency = bounds.unwrap_or_else(|error| unreachable!("{error}"));
        Self {
            latency,
            requests: 0,
            rows: 0,
            raw_bytes: 0,
            sent_bytes: 0,
            failures: BTreeMap::new(),
        }
    }
}

impl Tally {
    /// Adds an acknowledged request.
    pub fn acknowledge(&mut self, body: &Body, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(LATENCY_US_MAX);
        self.latency.saturating_record(us.max(1));
        self.requests += 1;
        self.rows += body.rows();
        self.raw_bytes += body.raw_bytes;
        self.sent_bytes += body.bytes.len() as u64;
    }

    /// Adds a request that was not acknowledged.
    pub fn fail(&mut self, reason: String) {
        *self.failures.entry(reason).or_default() += 1;
    }

    /// Moves all that is in `other` here.
    pub fn take(&mut self, other: &mut Self) {
        // Both have the same bounds.
        let added = self.latency.add(&other.latency);
        added.unwrap_or_else(|error| unreachable!("{error}"));
        other.latency.reset();
        self.requests += std::mem::take(&mut other.requests);
        self.rows += std::mem::take(&mut other.rows);
        self.raw_bytes += std::mem::take(&mut other.raw_bytes);
        self.sent_bytes += std::mem::take(&mut other.sent_bytes);
        for (reason, count) in std::mem::take(&mut other.failures) {
            *self.failures.entry(reason).or_default() += count;
        }
    }

    /// Requests that were not acknowledged.
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// A quantile of the latencies, in milliseconds.
    pub fn latency_ms(&self, quantile: f64) -> f64 {
        float(self.latency.value_at_quantile(quantile)) / 1e3
    }
}

/// What a run came to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// All requests.
    pub tally: Tally,
    /// From the beginning to the last answer.
    pub seconds: f64,
    /// Requests that were due and not sent, because the server was too slow for twice the time.
    pub unsent: u64,
    /// Rows by measurement whose request was acknowledged.
    pub acknowledged: BTreeMap<String, u64>,
    /// Rows by measurement of requests without an answer: stored or not.
    pub unknown: BTreeMap<String, u64>,
    /// Requests over time.
    pub points: Vec<Point>,
    /// Processor time of this process, in microseconds.
    pub sender_cpu_us: u64,
    /// The slot of time behind the last one that was sent.
    pub next_slot: u64,
}

/// What all connections share.
struct Shared<'a> {
    plan: &'a Plan,
    target: std::net::SocketAddr,
    schedule: Schedule,
    next: AtomicU64,
    unsent: AtomicU64,
}

/// A connection's own.
struct Lane<'a> {
    shared: &'a Shared<'a>,
    tally: &'a Mutex<Tally>,
    requests: Vec<(usize, Request)>,
    /// For each request of `requests`: how often it was acknowledged, how often not answered.
    answers: Vec<(u64, u64)>,
}

/// Sends requests, in turn, and calls `observe` with each point and the sums so far.
///
/// # Errors
/// When this process cannot read its own `/proc`.
pub fn run(
    requests: &[Request],
    target: std::net::SocketAddr,
    plan: &Plan,
    server: Option<Process>,
    observe: &mut dyn FnMut(&Point, &Tally),
) -> io::Result<Outcome> {
    let tallies: Vec<Mutex<Tally>> = (0..plan.connections).map(|_| Mutex::default()).collect();
    let lists: Vec<Vec<(usize, Request)>> =
        (0..plan.connections).map(|lane| share(requests, plan.connections, lane)).collect();
    let sender = Process::own();
    let cpu_before = sender.cpu_us()?;
    let start = now();
    let period = Duration::from_secs_f64(plan.rate.map_or(0.0, |rate| 1.0 / rate));
    let shared = Shared {
        plan,
        target,
        schedule: Schedule { start, period },
        next: AtomicU64::new(0),
        unsent: AtomicU64::new(0),
    };
    let (done, ended) = mpsc::channel::<()>();
    let mut outcome = Outcome::default();
    let answers = thread::scope(|scope| {
        let mut threads = Vec::new();
        for (tally, list) in tallies.iter().zip(lists) {
            let (shared, done) = (&shared, done.clone());
            let answers = vec![(0, 0); list.len()];
            threads.push(scope.spawn(move || {
                let lane = Lane { shared, tally, requests: list, answers };
                let answers = lane.send_all();
                drop(done);
                answers
            }));
        }
        drop(done);
        let mut last = start;
        loop {
            let is_over = ended.recv_timeout(TICK) == Err(RecvTimeoutError::Disconnected);
            let point = outcome.point(&tallies, start, &mut last, server);
            observe(&point, &outcome.tally);
            outcome.points.push(point);
            if is_over {
                break;
            }
        }
        let join =
            |it: thread::ScopedJoinHandle<'_, _>| it.join().unwrap_or_else(|it| resume_unwind(it));
        threads.into_iter().map(join).collect::<Vec<_>>()
    });
    outcome.seconds = outcome.points.last().map_or(0.0, |point| point.at_s);
    outcome.sender_cpu_us = sender.cpu_us()?.saturating_sub(cpu_before);
    outcome.unsent = shared.unsent.load(Ordering::Relaxed);
    outcome.next_slot = plan.first_slot + shared.next.load(Ordering::Relaxed);
    for (request, (acknowledged, unknown)) in answers.into_iter().flatten() {
        for (measurement, rows) in requests.get(request).into_iter().flat_map(|it| &it.body.counts)
        {
            let name = measurement.to_string();
            *outcome.acknowledged.entry(name.clone()).or_default() += rows * acknowledged;
            *outcome.unknown.entry(name).or_default() += rows * unknown;
        }
    }
    Ok(outcome)
}

/// The requests of one connection: every so many, and at least one.
fn share(requests: &[Request], connections: usize, lane: usize) -> Vec<(usize, Request)> {
    let own = (0..requests.len().div_ceil(connections).max(1))
        .map(|turn| (lane + turn * connections) % requests.len());
    own.filter_map(|index| Some((index, requests.get(index)?.clone()))).collect()
}

impl Outcome {
    /// What came since the last point.
    fn point(
        &mut self,
        tallies: &[Mutex<Tally>],
        start: Instant,
        last: &mut Instant,
        server: Option<Process>,
    ) -> Point {
        let mut interval = Tally::default();
        for tally in tallies {
            interval.take(&mut tally.lock().unwrap_or_else(PoisonError::into_inner));
        }
        let at = now();
        let mut point = Point {
            at_s: seconds_of(at - start),
            seconds: seconds_of(at - *last),
            requests: interval.requests,
            rows: interval.rows,
            raw_bytes: interval.raw_bytes,
            failed: interval.failed(),
            latency_ms_p50: interval.latency_ms(0.5),
            latency_ms_p99: interval.latency_ms(0.99),
            latency_ms_max: interval.latency_ms(1.0),
            ..Point::default()
        };
        if let Some(server) = server {
            // A server that has ended has used nothing more; its requests tell.
            point.server_cpu_us = server.cpu_us().unwrap_or_default();
            point.server_resident = server.memory().unwrap_or_default().resident;
        }
        *last = at;
        self.tally.take(&mut interval);
        point
    }
}

impl Lane<'_> {
    /// Sends until the plan is done. Returns, by request, acknowledged ones and unknown ones.
    fn send_all(mut self) -> Vec<(usize, (u64, u64))> {
        let mut client = None;
        let mut sent = 0;
        while self.shared.plan.requests.is_none_or(|count| sent < count) {
            let Some((n, due)) = self.next() else { break };
            let turn = usize::try_from(sent).unwrap_or_default() % self.requests.len();
            client = self.send(client, turn, n, due);
            sent += 1;
        }
        self.requests.iter().map(|(index, _)| *index).zip(self.answers).collect()
    }

    /// The number of the next request and when it is due, when that has come.
    fn next(&self) -> Option<(u64, Instant)> {
        let Shared { plan, schedule, next, unsent, .. } = self.shared;
        let end = plan.duration.map(|duration| schedule.start + duration);
        if plan.rate.is_none() {
            let at = now();
            return end
                .is_none_or(|end| at < end)
                .then(|| (next.fetch_add(1, Ordering::Relaxed), at));
        }
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let due = schedule.due(n);
            if end.is_some_and(|end| due >= end) {
                return None;
            }
            let at = now();
            if plan.duration.is_some_and(|duration| at > schedule.start + duration * 2) {
                unsent.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            thread::sleep(due.saturating_duration_since(at));
            return Some((n, due));
        }
    }

    /// Sends one request; returns the connection while it can be used.
    fn send(
        &mut self,
        client: Option<Client>,
        turn: usize,
        n: u64,
        due: Instant,
    ) -> Option<Client> {
        let (_, request) = self.requests.get_mut(turn)?;
        let answers = self.answers.get_mut(turn)?;
        request.body.move_to(self.shared.plan.first_slot + n);
        let tally = || self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        let mut client = match client.map_or_else(|| Client::connect(self.shared.target), Ok) {
            Ok(client) => client,
            Err(error) => {
                tally().fail(format!("no connection: {error}"));
                thread::sleep(RECONNECT);
                return None;
            }
        };
        match client.send(request.head.as_bytes(), &request.body.bytes) {
            Ok(answer) if answer.is_success() => {
                answers.0 += 1;
                tally().acknowledge(&request.body, now() - due);
            }
            Ok(answer) => {
                tally().fail(answer.describe());
                thread::sleep(pause(&answer));
            }
            Err(error) => {
                answers.1 += 1;
                tally().fail(format!("no answer: {error}"));
                return None;
            }
        }
        Some(client)
    }
}

/// How long a refused connection waits.
fn pause(answer: &Answer) -> Duration {
    answer.retry_after.map_or(Duration::ZERO, Duration::from_secs).min(PAUSE_MAX)
}
