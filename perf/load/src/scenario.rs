//! Loads with a name, and the bound that each has to hold.

use std::io;

use clap::ValueEnum;

use crate::client::Client;
use crate::compress::Encoding;
use crate::encode::Format;
use crate::measure::{Server, measure, requests};
use crate::options::Options;
use crate::process::machine;
use crate::report::{Finding, Report, float, per};
use crate::shape::{Grid, Shape};

/// A load with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// Peak memory above idle for one body of 50,000 rows: the reference document's memory test.
    #[value(name = "memory-50k")]
    Memory,
    /// 42 connections with 100 gzip bodies each: the reference document's concurrency test.
    #[value(name = "gzip-42")]
    Concurrency,
    /// 60 s of tsbs line protocol, gzip, 8 connections, every answer synced.
    Sustained,
    /// Rows a second of a core, from one measurement to a thousand, 10 series to a million, 10
    /// columns to a thousand: alike, for the same values.
    Flat,
}

/// Rows of the memory test's body.
const MEMORY_ROWS: u32 = 50_000;
/// Rows of the body that warms a server for it.
const WARM_ROWS: u32 = 500;
/// What it may take: so many times the body..
const BODY_SHARE_MAX: f64 = 4.0;
/// ..and, for `simple`, so many MB.
const SIMPLE_MB_MAX: f64 = 20.0;
/// Connections of the concurrency test, and of what it is compared with.
const MANY: u32 = 42;
const FEW: u32 = 8;
/// Bodies of each of the many; the few send as many in all, so that both meet as many flushes.
const BODIES_OF_MANY: u32 = 100;
/// p99 for each connection may grow by this from few to many.
const P99_RATIO_MAX: f64 = 2.0;
/// The second run of many may take so much more memory than the first.
const MEMORY_RATIO_MAX: f64 = 1.1;
/// Rows that a core of the server takes in a second.
const SUSTAINED_ROWS_PER_CPU_S: f64 = 1e6;
/// What is in the middle of all that grows.
const GRID: Grid = Grid { measurements: 1, series: 1_000, columns: 10 };
/// So often each is measured, in turn with what it is compared with; the median counts.
const FLAT_ROUNDS: usize = 3;
/// Rows a second of a core may differ by this part.
const FLAT_MIN: f64 = 0.85;

/// Runs a scenario. With `--serve` each of its steps has a fresh server, where that matters.
///
/// # Errors
/// Those of [`measure`]; or when the server's process is not known.
pub fn run(scenario: Scenario, options: &Options) -> io::Result<Report> {
    match scenario {
        Scenario::Memory => memory(options),
        Scenario::Concurrency => concurrency(options),
        Scenario::Sustained => sustained(options),
        Scenario::Flat => flat(options),
    }
}

fn unknown_process() -> io::Error {
    io::Error::other("the server's process is not known: give --pid or --serve")
}

fn memory(options: &Options) -> io::Result<Report> {
    let mut findings = Vec::new();
    for shape in [Shape::Simple, Shape::Tsbs] {
        for format in [Format::MsgpackRows, Format::MsgpackColumns, Format::LineProtocol] {
            findings.extend(memory_of(options, shape, format)?);
        }
    }
    Ok(Report {
        title: "memory-50k: one body of 50,000 rows, MB above idle".to_owned(),
        machine: machine(),
        findings,
        ..Report::default()
    })
}

/// The peak of one body, to its answer and to its table.
fn memory_of(options: &Options, shape: Shape, format: Format) -> io::Result<Vec<Finding>> {
    let own = |rows: u32| Options {
        shape,
        grid: None,
        format,
        encoding: Encoding::Plain,
        rows: Some(rows),
        bodies: 1,
        connections: 1,
        ..options.clone()
    };
    let server = Server::of(options)?;
    let process = server.process.ok_or_else(unknown_process)?;
    let mut client = Client::connect(server.target.address)?;
    let mut send = |rows: u32, slot: u64| -> io::Result<f64> {
        let mut requests = requests(&own(rows), &server.target)?;
        let [request, ..] = &mut requests[..] else { return Err(unknown_process()) };
        request.body.move_to(slot);
        let answer = client.send(request.head.as_bytes(), &request.body.bytes)?;
        if !answer.is_success() {
            return Err(io::Error::other(answer.describe()));
        }
        Ok(float(request.body.raw_bytes) / 1e6)
    };
    // Code and tables that any row needs are no cost of the body.
    send(WARM_ROWS, 0)?;
    server.settle()?;
    process.reset_peak()?;
    let idle = process.memory()?.resident;
    let body_mb = send(MEMORY_ROWS, 1)?;
    let answered = process.memory()?.peak;
    server.settle()?;
    let written = process.memory()?.peak;
    server.stop()?;
    let name = format!("{shape:?} {format:?}").to_lowercase();
    let name = format!("{name}, body of {body_mb:.2} MB");
    let above = |peak: u64| float(peak.saturating_sub(idle)) / 1e6;
    let bound = BODY_SHARE_MAX * body_mb;
    let bound = if shape == Shape::Simple { bound.min(SIMPLE_MB_MAX) } else { bound };
    Ok(vec![
        Finding::at_most(&format!("{name}: MB above idle until answered"), above(answered), bound),
        Finding::at_most(
            &format!("{name}: MB above idle until in its table"),
            above(written),
            bound,
        ),
    ])
}

fn concurrency(options: &Options) -> io::Result<Report> {
    let server = Server::of(options)?;
    let load = |connections: u32| Options {
        shape: Shape::Tsbs,
        grid: None,
        format: Format::LineProtocol,
        encoding: Encoding::Gzip,
        rows: None,
        connections,
        requests: Some(u64::from(MANY * BODIES_OF_MANY / connections)),
        rate: None,
        warm_up: 1.0,
        verify: true,
        ..options.clone()
    };
    let few = measure(&load(FEW), &server)?;
    let first = measure(&load(MANY), &server)?;
    let mut many = measure(&load(MANY), &server)?;
    server.stop()?;
    let share = |report: &Report, connections: u32| {
        per(report.totals.latency_ms_p99, f64::from(connections))
    };
    let peak = |report: &Report| {
        report.totals.server.map(|it| it.resident_mb_peak).ok_or_else(unknown_process)
    };
    let failed = float(few.totals.failed + first.totals.failed + many.totals.failed);
    let p99 = many.totals.latency_ms_p99;
    many.findings = vec![
        Finding::at_most("requests that failed, of all three runs", failed, 0.0),
        Finding::at_most(
            &format!("p99 a connection, 42 against 8 ({p99:.1} ms)"),
            per(share(&many, MANY), share(&few, FEW)),
            P99_RATIO_MAX,
        ),
        Finding::at_most(
            &format!("peak memory, second run of 42 against the first ({:.0} MB)", peak(&first)?),
            per(peak(&many)?, peak(&first)?),
            MEMORY_RATIO_MAX,
        ),
    ];
    many.title = format!("gzip-42: {}", many.title);
    Ok(many)
}

fn sustained(options: &Options) -> io::Result<Report> {
    let server = Server::of(options)?;
    let load = Options {
        shape: Shape::Tsbs,
        grid: None,
        format: Format::LineProtocol,
        encoding: Encoding::Gzip,
        rows: None,
        connections: FEW,
        requests: None,
        rate: None,
        seconds: 60.0,
        verify: true,
        ..options.clone()
    };
    let mut report = measure(&load, &server)?;
    server.stop()?;
    let server = report.totals.server.ok_or_else(unknown_process)?;
    report.findings = vec![Finding::at_least(
        "rows a second for each core that the server used",
        server.rows_per_cpu_s,
        SUSTAINED_ROWS_PER_CPU_S,
    )];
    report.title = format!("sustained: {}", report.title);
    Ok(report)
}

fn flat(options: &Options) -> io::Result<Report> {
    let mut findings = Vec::new();
    let measurements = [1, 10, 100, 1_000].map(|measurements| Grid { measurements, ..GRID });
    let series = [10, 1_000, 100_000, 1_000_000].map(|series| Grid { series, ..GRID });
    let columns = [10, 100, 1_000].map(|columns| Grid { columns, ..GRID });
    for (name, grids) in
        [("measurements", &measurements[..]), ("series", &series[..]), ("columns", &columns[..])]
    {
        let mut rounds = vec![Vec::with_capacity(FLAT_ROUNDS); grids.len()];
        for _ in 0..FLAT_ROUNDS {
            for (grid, values) in grids.iter().zip(&mut rounds) {
                values.push(values_per_cpu_s(options, *grid)?);
            }
        }
        let values: Vec<f64> = rounds.into_iter().map(median).collect();
        let most = values.iter().copied().fold(f64::MIN, f64::max);
        findings.extend(grids.iter().zip(values).map(|(grid, value)| {
            let count = match name {
                "measurements" => grid.measurements,
                "series" => grid.series,
                _ => grid.columns,
            };
            let name = format!("{count} {name}: values a CPU second, of {:.1} M", most / 1e6);
            Finding::at_least(&name, per(value, most), FLAT_MIN)
        }));
    }
    Ok(Report {
        title: "flat: cost against work, plain line protocol".to_owned(),
        machine: machine(),
        findings,
        ..Report::default()
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Fields that a server of its own takes in a second of processor time, all series known and all
/// tables made.
fn values_per_cpu_s(options: &Options, grid: Grid) -> io::Result<f64> {
    let bodies = grid.series.div_ceil(Shape::Grid(grid).rows_per_body()).max(32);
    let load = Options {
        grid: Some(grid),
        format: Format::LineProtocol,
        encoding: Encoding::Plain,
        rows: None,
        bodies: u32::try_from(bodies).map_err(io::Error::other)?,
        requests: None,
        rate: None,
        ..options.clone()
    };
    let server = Server::of(&load)?;
    // Each body once, and a flush.
    let once = load.bodies.div_ceil(load.connections);
    measure(&Options { requests: Some(once.into()), warm_up: 0.0, ..load.clone() }, &server)?;
    let report = measure(&load, &server)?;
    server.stop()?;
    let server = report.totals.server.ok_or_else(unknown_process)?;
    Ok(server.rows_per_cpu_s * float(grid.columns as u64))
}
