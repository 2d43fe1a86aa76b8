//! The numbers of `/metrics`, their page, what is drawn from them, and `/api/v1/rejects`.

use std::collections::{BTreeMap, BTreeSet};

use peristyle::accept::page;
use simd_json::prelude::*;

use crate::live::Live;

const PAGE: &str = include_str!("../../schemas/metrics.md");
const DASHBOARD: &str = include_str!("../../schemas/monitoring/grafana.json");
const ALERTS: &str = include_str!("../../schemas/monitoring/alerts.yml");
const PREFIX: &str = "peristyle_";

/// A family: its type, and its samples by name and labels.
#[derive(Debug, Default)]
struct Family {
    kind: String,
    help: String,
    samples: Vec<(String, String, f64)>,
}

/// Reads Prometheus' text, strictly: a family is one block of HELP, TYPE and samples.
fn families(text: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a help");
            let family = Family { help: help.to_owned(), ..Family::default() };
            assert!(families.insert(name.to_owned(), family).is_none(), "{name} twice");
            name.clone_into(&mut current);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            assert_eq!(name, current);
            kind.clone_into(&mut families.get_mut(name).expect("a help before").kind);
        } else {
            let (sample, value) = line.rsplit_once(' ').expect(line);
            let (name, labels) = match sample.split_once('{') {
                Some((name, labels)) => (name, labels.strip_suffix('}').expect(line)),
                None => (sample, ""),
            };
            let family = families.get_mut(&current).expect("a family");
            let suffix = name.strip_prefix(&current).expect("samples follow their family");
            let suffixes: &[&str] = match family.kind.as_str() {
                "histogram" => &["_bucket", "_count", "_sum"],
                _ => &[""],
            };
            assert!(suffixes.contains(&suffix), "{line}");
            let value = value.parse().expect("a number");
            family.samples.push((name.to_owned(), labels.to_owned(), value));
        }
    }
    families
}

/// A server with rows, refusals of both kinds, and files; and what its numbers are.
fn measured() -> (Live, BTreeMap<String, Family>) {
    let live = Live::start();
    live.post("/write?db=a%22b%5Cc", "cpu v=1\ncpu v=\"x\"\nbroken");
    live.post("/api/v2/write?bucket=b&precision=fortnight", "cpu v=1");
    live.post("/api/v1/flush", "");
    let text = live.client().get("/metrics").body;
    let families = families(&text);
    (live, families)
}

fn value(families: &BTreeMap<String, Family>, name: &str, labels: &str) -> f64 {
    let samples = families.values().flat_map(|family| &family.samples);
    let is_it = |it: &&(String, String, f64)| it.0 == format!("{PREFIX}{name}") && it.1 == labels;
    samples.into_iter().find(is_it).unwrap_or_else(|| panic!("{name}{{{labels}}}")).2
}

#[test]
#[expect(clippy::float_cmp, reason = "counts are exact")]
fn numbers_tell_what_happened() {
    let (_live, families) = measured();
    for (name, labels, expected) in [
        ("rows_accepted_total", "format=\"line_protocol\"", 1.0),
        ("rows_rejected_total", "format=\"line_protocol\"", 2.0),
        ("rows_rejected_by_reason_total", "reason=\"kind_conflict\"", 1.0),
        ("rows_rejected_by_reason_total", "reason=\"syntax\"", 1.0),
        ("rows_rejected_by_reason_total", "reason=\"not_described\"", 0.0),
        ("requests_refused_total", "reason=\"invalid_parameter\"", 1.0),
        ("http_requests_total", "endpoint=\"/write\",outcome=\"client_error\"", 1.0),
        ("http_requests_total", "endpoint=\"/api/v1/flush\",outcome=\"success\"", 1.0),
        ("http_requests_total", "endpoint=\"other\",outcome=\"success\"", 0.0),
        ("write_duration_seconds_count", "format=\"line_protocol\"", 2.0),
        // The rows, and those refused.
        ("files_published_total", "", 2.0),
        ("rows_published_total", "", 3.0),
        ("flush_duration_seconds_count", "", 2.0),
        ("commit_duration_seconds_count", "", 2.0),
        ("database_rows", r#"database="a\"b\\c""#, 3.0),
        ("database_files", r#"database="a\"b\\c""#, 2.0),
        ("memory_limit_bytes", "", 1_073_741_824.0),
        ("databases", "", 1.0),
        ("measurements", "", 2.0),
        ("journal_full", "", 0.0),
        ("ready", "", 1.0),
    ] {
        assert_eq!(value(&families, name, labels), expected, "{name}{{{labels}}}");
    }
    for name in ["journal_written_bytes_total", "journal_syncs_total", "published_bytes_total"] {
        assert!(value(&families, name, "") > 0.0, "{name}");
    }
}

#[test]
fn names_and_histograms_are_as_prometheus_asks() {
    let (_live, families) = measured();
    for (name, Family { kind, help, samples }) in &families {
        let is_name =
            |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '_';
        assert!(name.starts_with(PREFIX) && name.chars().all(is_name), "{name}");
        assert!(help.len() > 5, "{name}: {help}");
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
        let base = name.trim_end_matches("_total");
        let units = ["bytes", "seconds"];
        for part in base.split('_') {
            assert!(
                !["ms", "us", "ns", "kb", "mb", "minutes", "percent"].contains(&part),
                "{name}"
            );
            assert!(!units.contains(&part) || base.ends_with(part), "{name}: a unit stands last");
        }
        assert!(!["_count", "_sum", "_bucket"].iter().any(|it| name.ends_with(it)), "{name}");
        assert!(kind != "histogram" || base.ends_with("_seconds"), "{name} has no unit");
        assert!(!samples.is_empty(), "{name}");
        let distinct: BTreeSet<_> =
            samples.iter().map(|(name, labels, _)| (name, labels)).collect();
        assert_eq!(distinct.len(), samples.len(), "{name}: a sample twice");
        if kind != "gauge" {
            assert!(samples.iter().all(|(.., value)| *value >= 0.0), "{name}");
        }
        let buckets: Vec<_> = samples.iter().filter(|it| it.0.ends_with("_bucket")).collect();
        for series in buckets.chunk_by(|a, b| a.2 <= b.2 && !a.1.contains("+Inf")) {
            let last = series.last().expect("a bucket");
            assert!(last.1.contains("le=\"+Inf\""), "{name}: {series:?} is not cumulative");
        }
    }
}

#[test]
fn the_page_has_every_metric_and_no_other() {
    let (_live, families) = measured();
    let rows = PAGE.lines().filter_map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let name = cells.get(1)?.strip_prefix('`')?.strip_suffix('`')?;
        (cells.len() == 6)
            .then(|| (format!("{PREFIX}{name}"), cells[2].to_owned(), cells[3].to_owned()))
    });
    let mut documented: BTreeSet<(String, String, String)> = rows.collect();
    documented.retain(|(_, kind, _)| ["counter", "gauge", "histogram"].contains(&kind.as_str()));
    let found = families.iter().map(|(name, family)| {
        let (_, labels, _) = &family.samples[0];
        let labels = labels.split("\",").filter_map(|label| label.split_once('='));
        let names: Vec<String> =
            labels.map(|(name, _)| format!("`{name}`")).filter(|name| name != "`le`").collect();
        (name.clone(), family.kind.clone(), names.join(", "))
    });
    assert_eq!(documented, found.collect());
}

#[test]
fn dashboard_and_alerts_use_metrics_that_exist() {
    let (_live, families) = measured();
    let samples: BTreeSet<&str> =
        families.values().flat_map(|it| &it.samples).map(|(name, ..)| name.as_str()).collect();
    let is_name = |char: char| char.is_ascii_alphanumeric() || char == '_';
    for (file, text) in [("grafana.json", DASHBOARD), ("alerts.yml", ALERTS)] {
        let names: BTreeSet<&str> =
            text.split(|char| !is_name(char)).filter(|it| it.starts_with(PREFIX)).collect();
        assert!(names.len() > 8, "{file}");
        for name in names {
            assert!(samples.contains(name), "{file}: {name} is no metric");
        }
    }
    let dashboard = simd_json::to_owned_value(&mut DASHBOARD.as_bytes().to_vec()).expect("JSON");
    assert!(dashboard["panels"].as_array().is_some_and(|panels| panels.len() >= 12));
    for word in ["alert", "expr", "for", "severity", "summary"] {
        let count = ALERTS.matches(&format!("{word}: ")).count();
        assert_eq!(count, ALERTS.matches("- alert: ").count(), "{word}");
    }
}

#[test]
fn open_metrics_is_given_where_it_is_asked_for() {
    let live = Live::start();
    let accept = "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n";
    let answer = live.client().request("GET", "/metrics", accept, b"");
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(answer.header("content-type"), Some(kind));
    assert!(answer.body.ends_with("\n# EOF\n"));
    assert!(answer.body.contains("# TYPE peristyle_rows_accepted counter\n"));
    assert!(answer.body.contains("# UNIT peristyle_memory_limit_bytes bytes\n"));
}

#[test]
fn databases_beyond_a_hundred_are_counted_together() {
    let live = Live::start();
    let mut client = live.client();
    for index in 0..103 {
        let rows = if index < 3 { "m v=1 1" } else { "m v=1 1\nm v=1 2" };
        assert_eq!(client.post(&format!("/write?db=d{index:03}"), rows).status, 204);
    }
    let families = families(&client.get("/metrics").body);
    let samples = &families["peristyle_database_rows"].samples;
    assert_eq!(samples.len(), 101);
    let others = samples.last().expect("the others");
    assert_eq!((others.1.as_str(), others.2.to_string().as_str()), ("database=\"_others\"", "3"));
}

#[test]
fn refusals_are_told_with_the_id_of_their_answer() {
    let live = Live::start();
    let mut client = live.client();
    let id = "X-Request-Id: mine-7\r\n";
    let bad = "cpu v=1\nbroken\ncpu v=\"x\"\n";
    let answer = client.request("POST", "/write?db=a", id, bad.as_bytes());
    assert_eq!(answer.header("x-request-id"), Some("mine-7"));
    let own = client.post("/write?db=a&precision=fortnight", "cpu v=1");
    let own_id = own.header("x-request-id").expect("an id").to_owned();
    let body = client.get("/api/v1/rejects").body;
    let told = simd_json::to_owned_value(&mut body.into_bytes()).expect("JSON");
    let rejects = told["rejects"].as_array().expect("a list");
    assert_eq!(rejects.len(), 2);
    let (newest, oldest) = (&rejects[0], &rejects[1]);
    assert_eq!(newest["request_id"].as_str(), Some(own_id.as_str()));
    assert_eq!(newest["rows"][0]["reason"].as_str(), Some("invalid_parameter"));
    assert_eq!(newest["rows"][0]["line"].as_u64(), Some(0));
    assert_eq!(oldest["request_id"].as_str(), Some("mine-7"));
    assert_eq!(oldest["database"].as_str(), Some("a"));
    assert_eq!(oldest["endpoint"].as_str(), Some("/write"));
    assert_eq!((oldest["status"].as_u64(), oldest["accepted"].as_u64()), (Some(400), Some(1)));
    assert_eq!(oldest["rejected"].as_u64(), Some(2));
    let reasons = oldest["rows"].as_array().expect("a list").iter();
    let reasons: Vec<_> =
        reasons.map(|row| (row["line"].as_u64(), row["reason"].as_str())).collect();
    assert_eq!(reasons, [(Some(2), Some("syntax")), (Some(3), Some("kind_conflict"))]);
    assert_eq!(client.get("/api/v1/rejects?db=b").body, "{\"rejects\":[]}");
}

#[test]
fn the_last_two_hundred_refusals_are_kept() {
    let live = Live::start();
    let mut client = live.client();
    for _ in 0..201 {
        client.request("POST", "/write?db=a", "X-Request-Id: x\r\n", b"broken");
    }
    let body = client.get("/api/v1/rejects").body;
    assert_eq!(body.matches("\"request_id\":\"x\"").count(), 200);
}

#[test]
fn the_page_runs_its_own_script_and_nothing_else() {
    use base64::Engine as _;
    use sha2::Digest as _;
    let live = Live::start();
    let answer = live.client().get("/");
    assert_eq!((answer.status, answer.body.as_str()), (200, page::PAGE));
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(answer.header("content-security-policy"), Some(page::POLICY));
    let (_, script) = page::PAGE.split_once("<script>").expect("a script");
    let (script, rest) = script.split_once("</script>").expect("its end");
    assert!(!rest.contains("<script"));
    let digest = base64::prelude::BASE64_STANDARD.encode(sha2::Sha256::digest(script));
    let source = format!("script-src 'sha256-{digest}'");
    assert!(page::POLICY.contains(&source), "the policy should have {source}");
    for foreign in ["http:", "https:", "src=", "@import", "innerHTML", "onclick"] {
        let page = page::PAGE.replace("http://www.w3.org/2000/svg", "");
        assert!(!page.contains(foreign), "{foreign}");
    }
    // What it reads is there.
    let numbers = live.client().get("/metrics").body;
    let names = script.split('"').filter(|text| text.contains('_') && !text.contains(' '));
    for name in names.map(|name| name.split('{').next().expect("a name")) {
        let is_metric = name.ends_with("_total") || name.ends_with("_bytes");
        assert!(!is_metric || numbers.contains(&format!("\nperistyle_{name}")), "{name}");
    }
}
