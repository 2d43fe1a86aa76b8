//! One load on one server, from the making of bodies to the report.

use std::collections::BTreeMap;
use std::io;
use std::thread;
use std::time::Duration;

use crate::body::Recipe;
use crate::clock::{now, since_1970, start_us};
use crate::live::Bars;
use crate::options::Options;
use crate::own_server::OwnServer;
use crate::process::{Process, machine};
use crate::report::{Report, Totals, Usage, Verification, curve, float, per};
use crate::run::{Outcome, Plan, Request, run};
use crate::tables;
use crate::target::{Kind, Target, address};

/// A server has done its work when it uses less than this of a core..
const IDLE_CORES: f64 = 0.05;
/// ..for so long. Nobody waits longer than the second.
const IDLE: Duration = Duration::from_millis(500);
const SETTLE_MAX: Duration = Duration::from_secs(30);

/// A server, and its process where it runs on this machine.
#[derive(Debug)]
pub struct Server {
    /// Where and what it is.
    pub target: Target,
    /// Its process.
    pub process: Option<Process>,
    own: Option<OwnServer>,
}

impl Server {
    /// The server that the options name, started if they say so.
    ///
    /// # Errors
    /// When it cannot be started, or its address is none.
    pub fn of(options: &Options) -> io::Result<Self> {
        let own = match &options.serve {
            Some(binary) => Some(OwnServer::start(binary, &options.scratch, &options.durability)?),
            None => None,
        };
        let address = own.as_ref().map_or_else(|| address(&options.url), |it| Ok(it.address))?;
        let target = Target {
            kind: options.target,
            address,
            database: options.database.clone(),
            organisation: options.organisation.clone(),
            token: options.token.clone(),
        };
        let given = options.pid.map(|pid| Process { pid });
        let process = own.as_ref().map(OwnServer::process).or(given);
        let is_here = address.ip().is_loopback();
        let process =
            process.or_else(|| is_here.then(|| Process::listening_on(address.port())).flatten());
        Ok(Self { target, process, own })
    }

    /// A server that others started.
    pub fn at(target: Target, process: Option<Process>) -> Self {
        Self { target, process, own: None }
    }

    /// Ends the server, if it was started for this.
    ///
    /// # Errors
    /// When it does not end well.
    pub fn stop(self) -> io::Result<()> {
        self.own.map_or(Ok(()), OwnServer::stop)
    }

    /// Has all rows written where the server can be asked to, and waits until it does nothing.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn settle(&self) -> io::Result<()> {
        if self.target.kind == Kind::Peristyle {
            tables::flush(&self.target)?;
        }
        let Some(process) = self.process else { return Ok(()) };
        let end = now() + SETTLE_MAX;
        let mut before = process.cpu_us()?;
        while now() < end {
            thread::sleep(IDLE);
            let after = process.cpu_us()?;
            if float(after.saturating_sub(before)) / 1e6 <= IDLE_CORES * IDLE.as_secs_f64() {
                break;
            }
            before = after;
        }
        Ok(())
    }
}

/// Makes the bodies of a load, with the heads that the server asks for.
///
/// # Errors
/// When they cannot be made, or the server does not take the format.
pub fn requests(options: &Options, target: &Target) -> io::Result<Vec<Request>> {
    let count = |count: u32| usize::try_from(count).map_err(io::Error::other);
    let recipe = Recipe {
        shape: options.shape(),
        format: options.format,
        encoding: options.encoding,
        rows: options.rows_per_body(),
        bodies: count(options.bodies.max(options.connections))?,
        seed: options.seed,
        start_us: start_us(),
        nonce_us: since_1970().subsec_micros(),
    };
    let heads = recipe.bodies()?.into_iter().map(|body| {
        let head = target.head(options.format, options.encoding, &body)?;
        Ok(Request { head, body })
    });
    heads.collect()
}

/// Loads a server as the options say.
///
/// # Errors
/// When the server cannot be reached or asked, or bodies cannot be made. A request that fails is
/// no error; the report has it.
pub fn measure(options: &Options, server: &Server) -> io::Result<Report> {
    let Server { target, process, .. } = server;
    if options.verify && target.kind != Kind::Peristyle {
        return Err(io::Error::other("only peristyle can be asked for its rows"));
    }
    let requests = requests(options, target)?;
    target.prepare()?;
    let before = if options.verify { tables::rows(target)? } else { BTreeMap::new() };
    let mut plan = plan(options, &requests)?;
    let warm =
        Plan { duration: Some(Duration::from_secs_f64(options.warm_up)), requests: None, ..plan };
    let mut warmed = Outcome::default();
    if options.warm_up > 0.0 {
        warmed = watched(options, "warming up", &requests, server, &warm)?;
        plan.first_slot = warmed.next_slot;
    }
    server.settle()?;
    let began_s = since_1970().as_secs();
    let start = process.map(usage_before).transpose()?;
    let outcome = watched(options, &options.title(), &requests, server, &plan)?;
    let end = process.map(Process::cpu_us).transpose()?;
    server.settle()?;
    let mut totals = Totals::of(&outcome);
    if let (Some(process), Some(start), Some(end)) = (process, start, end) {
        totals.server = Some(usage(*process, start, end, &outcome)?);
    }
    let verification = if options.verify {
        let mut all = outcome.acknowledged.clone();
        let mut unknown = outcome.unknown.clone();
        for (sums, more) in [(&mut all, &warmed.acknowledged), (&mut unknown, &warmed.unknown)] {
            for (name, rows) in more {
                *sums.entry(name.clone()).or_default() += rows;
            }
        }
        Some(Verification::of(&before, &tables::rows(target)?, &all, &unknown))
    } else {
        None
    };
    Ok(Report {
        title: options.title(),
        began_s,
        machine: machine(),
        options: options.describe(),
        totals,
        failures: outcome.tally.failures.clone(),
        latency_curve: curve(&outcome.tally),
        verification,
        findings: Vec::new(),
        points: outcome.points,
    })
}

fn plan(options: &Options, requests: &[Request]) -> io::Result<Plan> {
    let rows: u64 = requests.iter().map(|it| it.body.rows()).sum();
    let rows_per_request = per(float(rows), float(requests.len() as u64));
    Ok(Plan {
        connections: usize::try_from(options.connections).map_err(io::Error::other)?,
        duration: options.requests.is_none().then(|| Duration::from_secs_f64(options.seconds)),
        requests: options.requests,
        rate: options.rate.map(|rows| rows / rows_per_request),
        first_slot: 0,
    })
}

fn watched(
    options: &Options,
    title: &str,
    requests: &[Request],
    server: &Server,
    plan: &Plan,
) -> io::Result<Outcome> {
    let mut bars = Bars::new(plan, title, options.quiet);
    let mut observe = |point: &_, sums: &_| bars.show(plan, point, sums);
    let outcome = run(requests, server.target.address, plan, server.process, &mut observe);
    bars.clear();
    outcome
}

/// Processor time and resident bytes before a run; from here on its peak counts.
fn usage_before(process: Process) -> io::Result<(u64, u64)> {
    process.reset_peak()?;
    Ok((process.cpu_us()?, process.memory()?.resident))
}

fn usage(
    process: Process,
    (start, resident_before): (u64, u64),
    end: u64,
    outcome: &Outcome,
) -> io::Result<Usage> {
    let rows = float(outcome.tally.rows);
    let memory = process.memory()?;
    let all = float(process.cpu_us()?.saturating_sub(start));
    let while_sending = float(end.saturating_sub(start));
    Ok(Usage {
        cpu_us_per_row: per(while_sending, rows),
        settled_cpu_us_per_row: per(all, rows),
        rows_per_cpu_s: per(rows, all / 1e6),
        cores: per(while_sending / 1e6, outcome.seconds),
        resident_mb_before: float(resident_before) / 1e6,
        resident_mb_peak: float(memory.peak) / 1e6,
        resident_mb_after: float(memory.resident) / 1e6,
    })
}
