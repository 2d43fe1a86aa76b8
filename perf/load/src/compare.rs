//! Two reports side by side.

use std::fmt::Write as _;

use crate::report::{Report, per};

/// A figure's name, and whether more of it is better.
type Figure = (&'static str, bool, fn(&Report) -> Option<f64>);

const FIGURES: [Figure; 14] = [
    ("rows/s", true, |it| Some(it.totals.rows_per_s)),
    ("MB/s of rows", true, |it| Some(it.totals.raw_mb_per_s)),
    ("MB/s sent", true, |it| Some(it.totals.sent_mb_per_s)),
    ("latency p50, ms", false, |it| Some(it.totals.latency_ms_p50)),
    ("latency p90, ms", false, |it| Some(it.totals.latency_ms_p90)),
    ("latency p99, ms", false, |it| Some(it.totals.latency_ms_p99)),
    ("latency p99.9, ms", false, |it| Some(it.totals.latency_ms_p999)),
    ("latency max, ms", false, |it| Some(it.totals.latency_ms_max)),
    ("server CPU, us/row", false, |it| Some(it.totals.server?.settled_cpu_us_per_row)),
    ("rows/CPU second", true, |it| Some(it.totals.server?.rows_per_cpu_s)),
    ("resident peak, MB", false, |it| Some(it.totals.server?.resident_mb_peak)),
    ("resident after, MB", false, |it| Some(it.totals.server?.resident_mb_after)),
    ("failed requests", false, |it| Some(crate::report::float(it.totals.failed))),
    ("sender CPU, us/row", false, |it| Some(it.totals.sender_cpu_us_per_row)),
];

/// Changes below this share are not called better or worse.
const NOISE: f64 = 0.05;

/// A table of both reports' figures with the ratio of the second to the first.
pub fn compare(a: &Report, b: &Report) -> String {
    let mut text = String::new();
    // Writing to a string does not fail, here and below.
    let _ = writeln!(text, "a: {}\nb: {}", a.title, b.title);
    for (name, value) in &a.options {
        let other = b.options.get(name).map_or("(not given)", String::as_str);
        if value != other && name != "json" && name != "html" {
            let _ = writeln!(text, "   {name}: {value} | {other}");
        }
    }
    if a.machine != b.machine {
        let _ = writeln!(text, "   machines differ: {} | {}", a.machine, b.machine);
    }
    let _ = writeln!(text, "\n{:<20} {:>14} {:>14} {:>8}", "", "a", "b", "b/a");
    for (name, more_is_better, value) in FIGURES {
        let (Some(first), Some(second)) = (value(a), value(b)) else { continue };
        let ratio = per(second, first);
        let word = match (ratio - 1.0, more_is_better) {
            _ if first <= 0.0 => "",
            (change, _) if change.abs() < NOISE => "",
            (change, true) if change > 0.0 => "better",
            (change, false) if change < 0.0 => "better",
            _ => "worse",
        };
        let ratio = if first > 0.0 { format!("{ratio:.3}") } else { "-".to_owned() };
        let line =
            format!("{name:<20} {:>14} {:>14} {ratio:>8} {word}", number(first), number(second));
        let _ = writeln!(text, "{}", line.trim_end());
    }
    for (name, report) in [("a", a), ("b", b)] {
        if !report.is_clean() {
            let _ = writeln!(text, "{name} is not clean: requests failed or rows are not stored");
        }
    }
    text
}

/// Four digits that matter, and no more behind the point.
fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 1_000.0 => crate::report::thousands(value),
        large if large >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}
