//! Arithmetic: sums of histograms, times that are due, ratios, checks, pages.

use std::collections::BTreeMap;
use std::time::Duration;

use peristyle_load::body::{Body, Recipe};
use peristyle_load::clock::{ALIGNMENT_US, Clock};
use peristyle_load::compare::compare;
use peristyle_load::compress::Encoding;
use peristyle_load::encode::Format;
use peristyle_load::html::page;
use peristyle_load::report::{Finding, Report, Totals, Usage, Verification, curve, thousands};
use peristyle_load::run::{Schedule, Tally};
use peristyle_load::shape::Shape;

fn body() -> Body {
    let recipe = Recipe {
        shape: Shape::Simple,
        format: Format::LineProtocol,
        encoding: Encoding::Plain,
        rows: 7,
        bodies: 1,
        seed: 1,
        start_us: 1_700_000_000_000_000 / ALIGNMENT_US * ALIGNMENT_US,
        nonce_us: 0,
    };
    recipe.bodies().expect("it can be made").remove(0)
}

#[test]
fn histograms_of_connections_add_up() {
    let body = body();
    let mut connections = [Tally::default(), Tally::default(), Tally::default()];
    for ms in 1..=3_000_u64 {
        let connection = &mut connections[usize::try_from(ms % 3).unwrap()];
        connection.acknowledge(&body, Duration::from_millis(ms));
    }
    connections[1].fail("503 full".to_owned());
    connections[2].fail("503 full".to_owned());
    let mut sum = Tally::default();
    for connection in &mut connections {
        sum.take(connection);
        assert_eq!((connection.requests, connection.latency.len()), (0, 0), "all was taken");
    }
    assert_eq!((sum.requests, sum.rows, sum.failed()), (3_000, 21_000, 2));
    assert_eq!(sum.raw_bytes, 3_000 * body.raw_bytes);
    assert_eq!(sum.failures, BTreeMap::from([("503 full".to_owned(), 2)]));
    for (quantile, ms) in [(0.5, 1_500.0), (0.9, 2_700.0), (0.99, 2_970.0), (1.0, 3_000.0)] {
        // Three digits are exact.
        let found = sum.latency_ms(quantile);
        assert!((found / ms - 1.0_f64).abs() < 0.001, "{quantile}: {found} against {ms}");
    }
    let curve = curve(&sum);
    assert!(curve.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1));
}

#[test]
fn requests_are_due_at_equal_distances() {
    let start = peristyle_load::clock::now();
    let schedule = Schedule { start, period: Duration::from_micros(250) };
    assert_eq!(schedule.due(0), start);
    assert_eq!(schedule.due(1), start + Duration::from_micros(250));
    assert_eq!(schedule.due(4_000_000), start + Duration::from_secs(1_000));
}

#[test]
fn a_slot_moves_the_time_of_every_clock() {
    let start = 1_700_000_000_000_000 / ALIGNMENT_US * ALIGNMENT_US;
    for slot in [0, 1, 255, 256, 1_000_003] {
        let text = Clock::Decimal.prefix(start, slot);
        let expected = format!("{}", (start + slot * 10_000) * 1_000);
        assert_eq!(std::str::from_utf8(&text).unwrap(), &expected[..12]);
        let us = start + slot * 65_536;
        assert_eq!(Clock::BigEndian.prefix(start, slot)[..6], us.to_be_bytes()[..6]);
        assert_eq!(Clock::LittleEndian.prefix(start, slot)[..6], us.to_le_bytes()[2..]);
        assert_eq!(us.to_be_bytes()[6..], [0, 0]);
    }
}

#[test]
fn rows_that_are_missing_or_too_many_are_named() {
    let rows = |rows: &[(&str, u64)]| -> BTreeMap<String, u64> {
        rows.iter().map(|(name, rows)| ((*name).to_owned(), *rows)).collect()
    };
    let check = |stored: u64, unknown: u64| {
        let after = rows(&[("a", 100 + stored), ("b", 5)]);
        let (sent, unknown) = (rows(&[("a", 50), ("b", 5)]), rows(&[("a", unknown)]));
        Verification::of(&rows(&[("a", 100)]), &after, &sent, &unknown)
    };
    let found = check(50, 0);
    assert_eq!((found.acknowledged, found.stored, found.faults.len()), (55, 55, 0));
    assert_eq!(check(49, 0).faults, ["a: 50 rows acknowledged, 0 unknown, 49 stored"]);
    assert_eq!(check(51, 0).faults, ["a: 50 rows acknowledged, 0 unknown, 51 stored"]);
    assert!(check(50, 10).faults.is_empty() && check(60, 10).faults.is_empty());
    assert_eq!(check(61, 10).faults.len(), 1);
    assert_eq!(check(49, 10).faults.len(), 1);
}

fn report(rows_per_s: f64, p99: f64, cpu: f64) -> Report {
    let server = Usage { settled_cpu_us_per_row: cpu, resident_mb_peak: 80.0, ..Usage::default() };
    let totals = Totals {
        requests: 10,
        rows: 1_000,
        rows_per_s,
        latency_ms_p99: p99,
        server: Some(server),
        ..Totals::default()
    };
    Report { title: format!("load of {rows_per_s}"), totals, ..Report::default() }
}

#[test]
fn two_reports_are_compared_by_their_ratios() {
    let (mut a, mut b) = (report(1_000_000.0, 8.0, 0.5), report(1_500_000.0, 8.1, 0.75));
    a.options = BTreeMap::from([("shape".to_owned(), "tsbs".to_owned())]);
    b.options = BTreeMap::from([("shape".to_owned(), "iot".to_owned())]);
    b.totals.failed = 3;
    let text = compare(&a, &b);
    let lines: Vec<String> =
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for expected in [
        "a: load of 1000000",
        "b: load of 1500000",
        "shape: tsbs | iot",
        "rows/s 1,000,000 1,500,000 1.500 better",
        // Within the noise: neither.
        "latency p99, ms 8.000 8.100 1.012",
        "server CPU, us/row 0.500 0.750 1.500 worse",
        "resident peak, MB 80.0 80.0 1.000",
        "failed requests 0.000 3.000 -",
        "b is not clean: requests failed or rows are not stored",
    ] {
        assert!(lines.iter().any(|line| line == expected), "{expected} in\n{text}");
    }
    assert!(!text.contains("a is not clean"));
}

#[test]
fn a_report_comes_back_from_its_file() {
    let mut before = report(123_456.789, 1.5, 0.25);
    before.findings = vec![Finding::at_most("m", 2.0, 1.0), Finding::at_least("n", 2.0, 1.0)];
    before.latency_curve = vec![(0.5, 1.0), (0.99, 1.5)];
    let text = serde_json::to_string(&before).expect("JSON");
    let after: Report = serde_json::from_str(&text).expect("the same");
    assert_eq!(format!("{before:?}"), format!("{after:?}"));
    assert!(!after.is_clean(), "a bound does not hold");
    assert!(after.to_string().contains("m: 2.00, bound 1.00: DOES NOT HOLD"), "{after}");
    assert!(after.to_string().contains("n: 2.00, bound 1.00: holds"), "{after}");
}

#[test]
fn a_page_holds_all_that_it_shows() {
    let mut report = report(2_000.0, 1.5, 0.25);
    report.title = "a <load> & more".to_owned();
    report.failures = BTreeMap::from([("503 <b>".to_owned(), 4)]);
    report.latency_curve = vec![(0.5, 1.0), (0.9, 1.2), (0.99, 1.5), (1.0, 9.0)];
    for second in 1..=4_u32 {
        report.points.push(peristyle_load::report::Point {
            at_s: f64::from(second),
            seconds: 1.0,
            rows: 2_000,
            ..Default::default()
        });
    }
    let page = page(&report);
    assert!(page.contains("<h1>a &lt;load&gt; &amp; more</h1>") && page.contains("503 &lt;b&gt;"));
    for foreign in ["src=", "href=", "<script", "http"] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    // Rate, three latencies, quantiles, cores, memory.
    assert_eq!(page.matches("<polyline").count(), 7);
    // The rate does not change: all its points are at one height.
    let line = page.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
    let heights: Vec<&str> = line.split(' ').map(|it| it.split_once(',').unwrap().1).collect();
    assert!(heights.len() == 4 && heights.iter().all(|it| it == &heights[0]), "{line}");
}

#[test]
fn thousands_have_commas() {
    for (value, text) in
        [(0.4, "0"), (999.0, "999"), (1_000.0, "1,000"), (1_234_567.0, "1,234,567")]
    {
        assert_eq!(thousands(value), text);
    }
}
