//! What is kept of a run: as JSON, and as text for a person.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::run::{Outcome, Tally};

/// Quantiles of the curve of latencies.
const CURVE: [f64; 14] =
    [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 0.9995, 0.9999, 1.0];

/// A run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// What was run, in a few words.
    pub title: String,
    /// Seconds since 1970 when it began.
    pub began_s: u64,
    /// Processor, cores, kernel.
    pub machine: String,
    /// What was asked for, by option.
    pub options: BTreeMap<String, String>,
    /// The figures.
    pub totals: Totals,
    /// Requests that were not acknowledged, by the reason.
    pub failures: BTreeMap<String, u64>,
    /// Pairs of a quantile and its latency in milliseconds.
    pub latency_curve: Vec<(f64, f64)>,
    /// Rows that were acknowledged and are stored, if that was asked for.
    pub verification: Option<Verification>,
    /// What a scenario asks for.
    #[serde(default)]
    pub findings: Vec<Finding>,
    /// Requests over time.
    pub points: Vec<Point>,
}

/// A figure with its bound.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Finding {
    /// What it is.
    pub name: String,
    /// The figure.
    pub value: f64,
    /// Its bound.
    pub bound: f64,
    /// Whether it holds.
    pub holds: bool,
}

/// The figures of a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Totals {
    /// From the first request to the last answer.
    pub seconds: f64,
    /// Acknowledged requests.
    pub requests: u64,
    /// Requests that were not acknowledged.
    pub failed: u64,
    /// Requests that were due and never sent.
    pub unsent: u64,
    /// Acknowledged rows.
    pub rows: u64,
    /// Acknowledged rows a second.
    pub rows_per_s: f64,
    /// Their bytes before compression, in millions a second.
    pub raw_mb_per_s: f64,
    /// Their bytes as sent, in millions a second.
    pub sent_mb_per_s: f64,
    /// Median latency.
    pub latency_ms_p50: f64,
    /// Latency of 90 in 100.
    pub latency_ms_p90: f64,
    /// Latency of 99 in 100.
    pub latency_ms_p99: f64,
    /// Latency of 999 in 1000.
    pub latency_ms_p999: f64,
    /// The longest.
    pub latency_ms_max: f64,
    /// Processor time of the sender for each row, in microseconds.
    pub sender_cpu_us_per_row: f64,
    /// The server's use, where it runs on this machine.
    pub server: Option<Usage>,
}

/// What a server used.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time for each row while rows were sent, in microseconds.
    pub cpu_us_per_row: f64,
    /// The same, until it had done all work that the rows make.
    pub settled_cpu_us_per_row: f64,
    /// Rows for each second of processor time, all work done.
    pub rows_per_cpu_s: f64,
    /// Cores in use while rows were sent.
    pub cores: f64,
    /// Millions of bytes in memory before.
    pub resident_mb_before: f64,
    /// The most.
    pub resident_mb_peak: f64,
    /// In the end.
    pub resident_mb_after: f64,
}

/// What is stored, against what was acknowledged.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Verification {
    /// Acknowledged rows.
    pub acknowledged: u64,
    /// Rows of requests that were not answered: stored or not.
    pub unknown: u64,
    /// Rows that are stored and were not before.
    pub stored: u64,
    /// What is wrong, by measurement.
    pub faults: Vec<String>,
}

/// A piece of a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Point {
    /// Seconds from the beginning to its end.
    pub at_s: f64,
    /// Its length.
    pub seconds: f64,
    /// Acknowledged requests.
    pub requests: u64,
    /// Their rows.
    pub rows: u64,
    /// Their bytes before compression.
    pub raw_bytes: u64,
    /// Requests that were not acknowledged.
    pub failed: u64,
    /// Median latency.
    pub latency_ms_p50: f64,
    /// Latency of 99 in 100.
    pub latency_ms_p99: f64,
    /// The longest.
    pub latency_ms_max: f64,
    /// The server's processor time since it began, in microseconds; 0 if unknown.
    pub server_cpu_us: u64,
    /// The server's bytes in memory; 0 if unknown.
    pub server_resident: u64,
}

/// A count as a number to divide by.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
pub fn float(count: u64) -> f64 {
    count as f64
}

/// Seconds of a duration.
pub fn seconds_of(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

/// `value / by`, or 0 where there is nothing to divide by.
pub fn per(value: f64, by: f64) -> f64 {
    if by > 0.0 { value / by } else { 0.0 }
}

impl Totals {
    /// The figures of an outcome; the server's are added by who knows them.
    pub fn of(outcome: &Outcome) -> Self {
        let Outcome { tally, seconds, .. } = outcome;
        Self {
            seconds: *seconds,
            requests: tally.requests,
            failed: tally.failed(),
            unsent: outcome.unsent,
            rows: tally.rows,
            rows_per_s: per(float(tally.rows), *seconds),
            raw_mb_per_s: per(float(tally.raw_bytes) / 1e6, *seconds),
            sent_mb_per_s: per(float(tally.sent_bytes) / 1e6, *seconds),
            latency_ms_p50: tally.latency_ms(0.5),
            latency_ms_p90: tally.latency_ms(0.9),
            latency_ms_p99: tally.latency_ms(0.99),
            latency_ms_p999: tally.latency_ms(0.999),
            latency_ms_max: tally.latency_ms(1.0),
            sender_cpu_us_per_row: per(float(outcome.sender_cpu_us), float(tally.rows)),
            server: None,
        }
    }
}

/// Pairs of a quantile and its latency in milliseconds.
pub fn curve(tally: &Tally) -> Vec<(f64, f64)> {
    CURVE.map(|quantile| (quantile, tally.latency_ms(quantile))).to_vec()
}

impl Verification {
    /// Compares the rows of each measurement before and after with what a run was told.
    pub fn of(
        before: &BTreeMap<String, u64>,
        after: &BTreeMap<String, u64>,
        acknowledged: &BTreeMap<String, u64>,
        unknown: &BTreeMap<String, u64>,
    ) -> Self {
        let mut found = Self::default();
        let count = |rows: &BTreeMap<String, u64>, name| rows.get(name).copied().unwrap_or(0);
        for (name, acknowledged) in acknowledged {
            let unknown = count(unknown, name);
            let stored = count(after, name).saturating_sub(count(before, name));
            if !(*acknowledged..=acknowledged + unknown).contains(&stored) {
                found.faults.push(format!(
                    "{name}: {acknowledged} rows acknowledged, {unknown} unknown, {stored} stored"
                ));
            }
            found.acknowledged += acknowledged;
            found.unknown += unknown;
            found.stored += stored;
        }
        found
    }
}

impl Finding {
    /// A figure that is to be at most `bound`.
    pub fn at_most(name: &str, value: f64, bound: f64) -> Self {
        Self { name: name.to_owned(), value, bound, holds: value <= bound }
    }

    /// A figure that is to be at least `bound`.
    pub fn at_least(name: &str, value: f64, bound: f64) -> Self {
        Self { name: name.to_owned(), value, bound, holds: value >= bound }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, value, bound, holds } = self;
        let word = if *holds { "holds" } else { "DOES NOT HOLD" };
        write!(f, "{name}: {value:.2}, bound {bound:.2}: {word}")
    }
}

impl Report {
    /// Whether every request was acknowledged, every row is stored and every bound holds.
    pub fn is_clean(&self) -> bool {
        let is_stored = self.verification.as_ref().is_none_or(|it| it.faults.is_empty());
        let holds = self.findings.iter().all(|it| it.holds);
        is_stored && holds && self.totals.failed == 0 && self.totals.unsent == 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.title)?;
        self.findings.iter().try_for_each(|finding| writeln!(f, "  {finding}"))?;
        if self.totals.requests + self.totals.failed == 0 {
            return Ok(());
        }
        self.totals.fmt(f)?;
        for (reason, count) in &self.failures {
            writeln!(f, "  {count} requests failed: {reason}")?;
        }
        if let Some(found) = &self.verification {
            let word = if found.faults.is_empty() { "all there" } else { "NOT all there" };
            writeln!(
                f,
                "  {} rows acknowledged, {} unknown, {} stored: {word}",
                found.acknowledged, found.unknown, found.stored
            )?;
            found.faults.iter().try_for_each(|fault| writeln!(f, "    {fault}"))?;
        }
        Ok(())
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let it = self;
        writeln!(
            f,
            "  {} rows/s, {:.1} MB/s of rows, {:.1} MB/s sent; {} requests in {:.1} s",
            thousands(it.rows_per_s),
            it.raw_mb_per_s,
            it.sent_mb_per_s,
            it.requests,
            it.seconds
        )?;
        writeln!(
            f,
            "  latency p50 {:.2}, p90 {:.2}, p99 {:.2}, p99.9 {:.2}, max {:.2} ms",
            it.latency_ms_p50,
            it.latency_ms_p90,
            it.latency_ms_p99,
            it.latency_ms_p999,
            it.latency_ms_max
        )?;
        if let Some(server) = &it.server {
            writeln!(
                f,
                "  server {:.3} us of CPU a row ({:.3} with all work done), {} rows a CPU second, \
                 {:.2} cores",
                server.cpu_us_per_row,
                server.settled_cpu_us_per_row,
                thousands(server.rows_per_cpu_s),
                server.cores
            )?;
            writeln!(
                f,
                "  resident {:.1} MB before, {:.1} at most, {:.1} after",
                server.resident_mb_before, server.resident_mb_peak, server.resident_mb_after
            )?;
        }
        writeln!(f, "  sender {:.3} us of CPU a row", it.sender_cpu_us_per_row)?;
        if it.unsent > 0 {
            writeln!(f, "  {} requests were due and not sent", it.unsent)?;
        }
        Ok(())
    }
}

/// A whole number with commas.
pub fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
