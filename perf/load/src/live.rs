//! What a person sees while a run goes on.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::report::{Point, float, per, thousands};
use crate::run::{Plan, Tally};

/// A bar, and below it the figures of the last moment. Nothing where no terminal is.
#[derive(Debug)]
pub(crate) struct Bars {
    bar: ProgressBar,
    cpu_us: u64,
}

impl Bars {
    pub(crate) fn new(plan: &Plan, title: &str, is_quiet: bool) -> Self {
        let requests = plan.requests.map(|count| count * plan.connections as u64);
        let length = requests.unwrap_or_else(|| milliseconds(plan.duration.unwrap_or_default()));
        let bar = if is_quiet { ProgressBar::hidden() } else { ProgressBar::new(length) };
        let style = ProgressStyle::with_template("{prefix}\n{bar:60.cyan} {percent} %\n{msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(title.to_owned());
        Self { bar, cpu_us: 0 }
    }

    pub(crate) fn show(&mut self, plan: &Plan, point: &Point, sums: &Tally) {
        let done = sums.requests + sums.failed();
        let at = milliseconds(Duration::from_secs_f64(point.at_s));
        self.bar.set_position(if plan.requests.is_some() { done } else { at });
        let cpu_us = point.server_cpu_us.saturating_sub(self.cpu_us);
        let cores = if self.cpu_us == 0 { 0.0 } else { per(float(cpu_us) / 1e6, point.seconds) };
        self.cpu_us = point.server_cpu_us;
        self.bar.set_message(format!(
            "{:>12} rows/s   {:>8.1} MB/s   {} requests\n\
             p50 {:.2} ms   p99 {:.2} ms   max {:.2} ms   {} errors\n\
             server {cores:.2} cores   {:.1} MB",
            thousands(per(float(point.rows), point.seconds)),
            per(float(point.raw_bytes) / 1e6, point.seconds),
            sums.requests,
            point.latency_ms_p50,
            point.latency_ms_p99,
            point.latency_ms_max,
            sums.failed(),
            float(point.server_resident) / 1e6,
        ));
    }

    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
