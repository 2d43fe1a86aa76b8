//! A report as one page of HTML: figures and plots, nothing to fetch and nothing to run.

use std::fmt::Write as _;

use crate::report::{Point, Report, float, per, thousands};

/// Size of a plot and the room for its labels, in pixels.
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 70.0;
const BOTTOM: f64 = 28.0;
const TOP: f64 = 12.0;
/// Lines of the grid in each direction.
const GRID: u32 = 4;

const COLOURS: [&str; 3] = ["#2563a8", "#c2571a", "#6b7280"];

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:800px;margin:2rem auto;\
padding:0 1rem;color:#1c2430;background:#fff}h1{font-size:1.4rem}h2{font-size:1.05rem;\
margin:1.8rem 0 .3rem}table{border-collapse:collapse;margin:.5rem 0}td,th{padding:.15rem .9rem \
.15rem 0;text-align:left;vertical-align:top}td.n{text-align:right;font-variant-numeric:\
tabular-nums}svg{width:100%;height:auto}svg text{font:12px system-ui,sans-serif;fill:#4b5563}\
.bad{color:#b42318;font-weight:600}";

/// One line of a plot: its name and its points, in units of the plot.
struct Line {
    name: &'static str,
    points: Vec<(f64, f64)>,
}

/// The page.
pub fn page(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a string does not fail, here and below.
    let _ = write!(
        text,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title>\
         <style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n<p>{machine}</p>\n",
        title = escape(&report.title),
        machine = escape(&report.machine),
    );
    for finding in &report.findings {
        let class = if finding.holds { "" } else { " class=\"bad\"" };
        let _ = writeln!(text, "<p{class}>{}</p>", escape(&finding.to_string()));
    }
    figures(&mut text, report);
    plots(&mut text, report);
    text.push_str("<h2>Options</h2>\n<table>\n");
    for (name, value) in &report.options {
        let _ = writeln!(text, "<tr><td>{}</td><td>{}</td></tr>", escape(name), escape(value));
    }
    text.push_str("</table>\n</body></html>\n");
    text
}

fn figures(text: &mut String, report: &Report) {
    let it = &report.totals;
    let mut rows = vec![
        ("rows a second", thousands(it.rows_per_s)),
        ("rows", thousands(float(it.rows))),
        ("seconds", format!("{:.1}", it.seconds)),
        ("MB/s of rows, as sent", format!("{:.1}, {:.1}", it.raw_mb_per_s, it.sent_mb_per_s)),
        (
            "latency p50, p99, p99.9, max",
            format!(
                "{:.2}, {:.2}, {:.2}, {:.2} ms",
                it.latency_ms_p50, it.latency_ms_p99, it.latency_ms_p999, it.latency_ms_max
            ),
        ),
    ];
    if let Some(server) = it.server {
        rows.push(("server CPU a row", format!("{:.3} us", server.settled_cpu_us_per_row)));
        rows.push(("rows a CPU second", thousands(server.rows_per_cpu_s)));
        rows.push((
            "resident before, peak, after",
            format!(
                "{:.1}, {:.1}, {:.1} MB",
                server.resident_mb_before, server.resident_mb_peak, server.resident_mb_after
            ),
        ));
    }
    rows.push(("sender CPU a row", format!("{:.3} us", it.sender_cpu_us_per_row)));
    text.push_str("<table>\n");
    for (name, value) in rows {
        let _ = writeln!(text, "<tr><td>{name}</td><td class=\"n\">{value}</td></tr>");
    }
    text.push_str("</table>\n");
    if let Some(found) = &report.verification {
        let class = if found.faults.is_empty() { "" } else { " class=\"bad\"" };
        let _ = writeln!(
            text,
            "<p{class}>{} rows acknowledged, {} stored.</p>",
            thousands(float(found.acknowledged)),
            thousands(float(found.stored))
        );
        for fault in &found.faults {
            let _ = writeln!(text, "<p class=\"bad\">{}</p>", escape(fault));
        }
    }
    for (reason, count) in &report.failures {
        let _ = writeln!(text, "<p class=\"bad\">{count} failed: {}</p>", escape(reason));
    }
    if it.unsent > 0 {
        let _ = writeln!(text, "<p class=\"bad\">{} requests due and not sent</p>", it.unsent);
    }
}

fn plots(text: &mut String, report: &Report) {
    let over_time = |value: fn(&Point) -> f64| -> Vec<(f64, f64)> {
        // A tail of a few milliseconds is no rate.
        let points = report.points.iter().filter(|point| point.seconds > 0.1);
        points.map(|point| (point.at_s, value(point))).collect()
    };
    let line = |name, value| Line { name, points: over_time(value) };
    let rate = line("rows/s", |it| per(float(it.rows), it.seconds));
    plot(text, "Rows a second", "s", &[rate]);
    let latency = [
        line("p50", |it| it.latency_ms_p50),
        line("p99", |it| it.latency_ms_p99),
        line("max", |it| it.latency_ms_max),
    ];
    plot(text, "Latency over time, ms", "s", &latency);
    let curve = report.latency_curve.iter().filter(|(quantile, _)| *quantile < 1.0);
    // As many nines as a quantile has: 0.9 at 1, 0.99 at 2.
    let nines = curve.map(|(quantile, ms)| (-(1.0 - quantile).log10(), *ms)).collect();
    let nines = Line { name: "latency", points: nines };
    plot(text, "Latency by quantile, ms", "nines (2 is p99)", &[nines]);
    if report.totals.server.is_some() {
        let pairs = report.points.windows(2).filter_map(|pair| {
            let [before, point] = pair else { return None };
            let us = point.server_cpu_us.saturating_sub(before.server_cpu_us);
            (point.seconds > 0.1).then(|| (point.at_s, per(float(us) / 1e6, point.seconds)))
        });
        let cores = Line { name: "cores", points: pairs.collect() };
        plot(text, "Server: cores in use", "s", &[cores]);
        let resident = line("resident", |it| float(it.server_resident) / 1e6);
        plot(text, "Server: memory, MB", "s", &[resident]);
    }
}

fn plot(text: &mut String, title: &str, unit: &str, lines: &[Line]) {
    let points = || lines.iter().flat_map(|line| &line.points);
    let x_max = points().fold(0.0, |max: f64, (x, _)| max.max(*x));
    let y_max = ceiling(points().fold(0.0, |max: f64, (_, y)| max.max(*y)));
    if x_max <= 0.0 {
        return;
    }
    let at = |x: f64, y: f64| {
        let (wide, high) = (WIDTH - LEFT - 10.0, HEIGHT - TOP - BOTTOM);
        (LEFT + wide * x / x_max, TOP + high * (1.0 - y / y_max))
    };
    let _ = write!(text, "<h2>{title}</h2>\n<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\">");
    for step in 0..=GRID {
        let share = f64::from(step) / f64::from(GRID);
        let ((x, low), (right, y)) = (at(share * x_max, 0.0), at(x_max, share * y_max));
        let _ = write!(
            text,
            "<path d=\"M{LEFT} {y:.1}H{right:.1}\" stroke=\"#e5e7eb\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            LEFT - 6.0,
            y + 4.0,
            label(share * y_max),
            low + 18.0,
            label(share * x_max),
        );
    }
    for ((line, colour), place) in lines.iter().zip(COLOURS).zip(0_u8..) {
        let path: Vec<String> = line
            .points
            .iter()
            .map(|(x, y)| at(*x, *y))
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        let _ = write!(
            text,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" style=\"fill:{colour}\">{}</text>",
            path.join(" "),
            LEFT + 8.0 + 60.0 * f64::from(place),
            TOP + 10.0,
            line.name,
        );
    }
    let _ = writeln!(
        text,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{unit}</text></svg>",
        WIDTH - 10.0,
        HEIGHT - BOTTOM - 6.0
    );
}

/// A round number at or above `value`.
fn ceiling(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 4.0, 5.0, 8.0, 10.0];
    steps.into_iter().map(|step| step * power).find(|it| *it >= value).unwrap_or(value)
}

fn label(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{:.1} M", value / 1e6),
        value if value >= 1e4 => format!("{:.0} k", value / 1e3),
        value if value >= 10.0 || value <= 0.0 => format!("{value:.0}"),
        value => format!("{value:.2}"),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
