//! The numbers of the server in Prometheus' text format; `schemas/metrics.md` explains each.
//!
//! Everything is read when it is asked for: what counts are plain atomics (`stats`, `observed`),
//! and `prometheus-client` writes them down. Names follow Prometheus' conventions: base units,
//! `_total` for what only grows. Labels are bounded: formats, endpoints, outcomes and reasons are
//! known beforehand, and databases beyond [`DATABASES_MAX`] are counted together.

use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{self, HeaderMap, HeaderValue};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::observed::Observed;
use crate::engine::Engine;
use crate::stats::{Counter, Durations, FormatStats};

/// Databases that have labels of their own.
const DATABASES_MAX: usize = 100;
/// The label of all others.
const OTHERS: &str = "_others";

/// What a scraper takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Exposition {
    /// `OpenMetrics` 1.0.
    OpenMetrics,
    /// Prometheus' own text, version 0.0.4.
    Prometheus,
}

impl Exposition {
    /// What a request says it takes.
    pub(super) fn asked_for(headers: &HeaderMap) -> Self {
        let accepted = headers.get_all(header::ACCEPT).iter();
        let is_open = |value: &HeaderValue| {
            memchr::memmem::find(value.as_bytes(), b"application/openmetrics-text").is_some()
        };
        if accepted.into_iter().any(is_open) { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// The `Content-Type`.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Rows and files of a database.
#[derive(Debug)]
pub(super) struct DatabaseRows {
    pub(super) name: String,
    pub(super) rows: u64,
    pub(super) files: u64,
}

/// All numbers as text. `databases`: those that whoever asks may know of.
pub(super) fn text(
    engine: &Arc<Engine>,
    observed: &Arc<Observed>,
    databases: Vec<DatabaseRows>,
    exposition: Exposition,
) -> String {
    let numbers = Numbers {
        engine: Arc::clone(engine),
        observed: Arc::clone(observed),
        databases: bounded(databases),
    };
    let mut registry = Registry::with_prefix(env!("CARGO_PKG_NAME"));
    registry.register_collector(Box::new(numbers));
    let mut text = String::with_capacity(32 << 10);
    // Writing to a string cannot fail.
    let _ = encode(&mut text, &registry);
    match exposition {
        Exposition::OpenMetrics => text,
        Exposition::Prometheus => to_prometheus(&text),
    }
}

/// The largest databases, and all others as one.
fn bounded(mut databases: Vec<DatabaseRows>) -> Vec<DatabaseRows> {
    if databases.len() > DATABASES_MAX {
        databases.sort_by(|a, b| b.rows.cmp(&a.rows).then_with(|| a.name.cmp(&b.name)));
        let others = databases.split_off(DATABASES_MAX);
        let sum = |of: fn(&DatabaseRows) -> u64| others.iter().map(of).sum();
        let (rows, files) = (sum(|it| it.rows), sum(|it| it.files));
        databases.push(DatabaseRows { name: OTHERS.to_owned(), rows, files });
    }
    databases
}

/// `OpenMetrics` as Prometheus' own text: there the family of a counter is named like its sample,
/// and there are no units and no end.
fn to_prometheus(text: &str) -> String {
    let mut to = String::with_capacity(text.len());
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line.starts_with("# UNIT ") || line == "# EOF" {
            continue;
        }
        let is_counter = |line: &str| line.starts_with("# TYPE ") && line.ends_with(" counter");
        let family = line.strip_prefix("# HELP ").or_else(|| line.strip_prefix("# TYPE "));
        let is_of_counter = is_counter(line) || lines.peek().is_some_and(|next| is_counter(next));
        match family.and_then(|rest| rest.split_once(' ')) {
            Some((name, rest)) if is_of_counter => {
                let head = line.get(..7).unwrap_or_default();
                // Writing to a string cannot fail.
                let _ = writeln!(to, "{head}{name}_total {rest}");
            }
            _ => {
                to.push_str(line);
                to.push('\n');
            }
        }
    }
    to
}

/// Where the numbers come from.
#[derive(Debug)]
struct Numbers {
    engine: Arc<Engine>,
    observed: Arc<Observed>,
    databases: Vec<DatabaseRows>,
}

impl Collector for Numbers {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut to = Families(encoder);
        self.writes(&mut to)?;
        self.requests(&mut to)?;
        self.files(&mut to)?;
        self.memory(&mut to)?;
        self.journal(&mut to)?;
        self.replay(&mut to)?;
        self.tables(&mut to)
    }
}

impl Numbers {
    fn writes(&self, to: &mut Families<'_>) -> fmt::Result {
        type Pick = fn(&FormatStats) -> &Counter;
        let stats = self.engine.stats();
        let formats = [
            ("arrow", &stats.arrow),
            ("json", &stats.json),
            ("line_protocol", &stats.line_protocol),
            ("msgpack", &stats.msgpack),
        ];
        let families: [(&str, &str, Option<&Unit>, Pick); 6] = [
            ("write_requests", "Write requests", None, |it| &it.requests),
            ("write_received", "Bodies as received", BYTES, |it| &it.received_bytes),
            ("write_body", "Bodies after inflation", BYTES, |it| &it.body_bytes),
            ("rows_accepted", "Rows taken", None, |it| &it.rows_accepted),
            ("rows_rejected", "Rows refused", None, |it| &it.rows_rejected),
            ("fields_dropped", "Fields left out of rows taken", None, |it| &it.fields_dropped),
        ];
        for (name, help, unit, pick) in families {
            let samples = formats.iter().map(|(format, it)| (*format, pick(it).get()));
            to.counters(name, help, unit, "format", samples)?;
        }
        let help = "From the head of a write request to its answer";
        let samples = formats.iter().map(|(format, it)| (*format, &it.durations));
        to.durations("write_duration", help, Some("format"), samples)
    }

    fn requests(&self, to: &mut Families<'_>) -> fmt::Result {
        let help = "Requests by endpoint and outcome";
        let mut encoder = to.family("http_requests", help, None, MetricType::Counter)?;
        for (endpoint, outcome, count) in self.observed.requests() {
            let labels = [("endpoint", endpoint), ("outcome", outcome)];
            encoder.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        let [rows, requests] = self.observed.reasons();
        let help = "Rows refused, by reason; not_described beyond the first hundred of a body";
        to.counters("rows_rejected_by_reason", help, None, "reason", rows)?;
        let help = "Requests refused as a whole, by reason";
        to.counters("requests_refused", help, None, "reason", requests)?;
        let stats = self.engine.stats();
        to.counter("connections", "Connections accepted", None, stats.connections.get())?;
        let help = "Connections that could not be accepted";
        to.counter("accept_errors", help, None, stats.accept_errors.get())?;
        let help = "Connections that gave way to others";
        to.counter("connections_shed", help, None, stats.connections_shed.get())?;
        let help = "Connections turned away for want of room";
        to.counter("connections_refused", help, None, stats.connections_refused.get())?;
        to.counter(
            "handshake_errors",
            "TLS handshakes that failed",
            None,
            stats.handshake_errors.get(),
        )
    }

    fn files(&self, to: &mut Families<'_>) -> fmt::Result {
        let stats = self.engine.stats();
        to.counter(
            "files_published",
            "Files that became visible",
            None,
            stats.files_published.get(),
        )?;
        to.counter("rows_published", "Rows in published files", None, stats.rows_published.get())?;
        to.counter("published", "Size of published files", BYTES, stats.bytes_published.get())?;
        let help = "Tries to publish rows that failed; the rows are kept";
        to.counter("flush_errors", help, None, stats.flush_errors.get())?;
        let help = "From the seal of the rows of a table to their being visible";
        to.durations("flush_duration", help, None, [("", &stats.flush_durations)])?;
        let help = "Encoding and syncing the files of a table";
        to.durations("file_write_duration", help, None, [("", &stats.file_durations)])?;
        let help = "Commits to the Delta log of a table";
        to.durations("commit_duration", help, None, [("", &stats.commit_durations)])
    }

    fn memory(&self, to: &mut Families<'_>) -> fmt::Result {
        let memory = self.engine.memory();
        let help = "The budget of accounted memory";
        to.gauge("memory_limit", help, BYTES, memory.limit as u64)?;
        let parts = [
            ("bodies", memory.bodies),
            ("builders", memory.builders),
            ("sealed", memory.sealed),
            ("series", memory.series),
        ];
        let help = "Accounted memory by what it is for";
        to.gauges("memory_used", help, BYTES, "part", parts.map(|(part, it)| (part, it as u64)))?;
        let help = "Bodies that wait for room in memory";
        to.gauge("admissions_waiting", help, None, memory.waiting as u64)?;
        let help = "How long bodies waited for room in memory, if they did";
        let waits = &self.engine.stats().admission_waits;
        to.durations("admission_wait", help, None, [("", waits)])?;
        if let Some(bytes) = memory.resident {
            let help = "Memory of the process, as the system counts it";
            to.gauge("process_resident_memory", help, BYTES, bytes)?;
        }
        Ok(())
    }

    fn journal(&self, to: &mut Families<'_>) -> fmt::Result {
        let journal = self.engine.journal_stats();
        to.counter("journal_written", "Records written", BYTES, journal.written_bytes)?;
        to.counter("journal_syncs", "Syncs of records", None, journal.syncs)?;
        let help = "Time of all syncs";
        let sum = Duration::from_nanos(journal.sync_ns_sum).as_secs_f64();
        to.counter("journal_sync", help, SECONDS, sum)?;
        let max = Duration::from_nanos(journal.sync_ns_max).as_secs_f64();
        to.gauge("journal_sync_max", "Time of the longest sync", SECONDS, max)?;
        let help = "Records that wait to be written";
        to.gauge("journal_queued", help, BYTES, journal.queued_bytes)?;
        let help = "What could be reserved at once";
        to.gauge("journal_room", help, BYTES, journal.room_bytes)?;
        let help = "Segments of the journal: with records, or made ahead";
        let segments = [("in_use", journal.segments_in_use), ("ready", journal.segments_ready)];
        to.gauges("journal_segments", help, None, "state", segments)?;
        let help = "Segments begun";
        to.counter("journal_segments_begun", help, None, journal.segments_begun)?;
        let help = "Segments whose records are all published";
        to.counter("journal_segments_recycled", help, None, journal.segments_recycled)?;
        let help = "Tries to make or recycle a segment that failed";
        to.counter("journal_segment_errors", help, None, journal.spare_failures)?;
        to.gauge("journal_full", "1 while the disk has no room", None, u64::from(journal.is_full))
    }

    fn replay(&self, to: &mut Families<'_>) -> fmt::Result {
        let replay = &self.engine.stats().replay;
        let help = "Records of the journal that the start looked at";
        to.gauge("replay_records", help, None, replay.records.get())?;
        to.gauge("replay_rows", "Rows that the start replayed", None, replay.rows.get())?;
        to.gauge("replay_files", "Files that the start made of them", None, replay.files.get())?;
        let duration = Duration::from_micros(replay.duration_us.get()).as_secs_f64();
        to.gauge("replay_duration", "Time of recovery at the start", SECONDS, duration)
    }

    fn tables(&self, to: &mut Families<'_>) -> fmt::Result {
        to.gauge("ready", "1 while writes are taken", None, u64::from(self.engine.is_ready()))?;
        let (databases, measurements) = self.engine.counts();
        to.gauge("databases", "Databases", None, databases as u64)?;
        to.gauge("measurements", "Measurements of all databases", None, measurements as u64)?;
        if !self.databases.is_empty() {
            let of = |pick: fn(&DatabaseRows) -> u64| {
                self.databases.iter().map(move |it| (&it.name, pick(it)))
            };
            let help = "Rows of a database, those not yet in files too";
            to.gauges("database_rows", help, None, "database", of(|it| it.rows))?;
            let help = "Files of a database";
            to.gauges("database_files", help, None, "database", of(|it| it.files))?;
        }
        let mut encoder = to.family("build_info", "The version", None, MetricType::Gauge)?;
        let labels = [("version", env!("CARGO_PKG_VERSION"))];
        encoder.encode_family(&labels)?.encode_gauge(&1_u64)
    }
}

const BYTES: Option<&Unit> = Some(&Unit::Bytes);
const SECONDS: Option<&Unit> = Some(&Unit::Seconds);

/// Writes families of metrics.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn family<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
        unit: Option<&'s Unit>,
        kind: MetricType,
    ) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.0.encode_descriptor(name, help, unit, kind)
    }

    fn counter(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        value: impl EncodeCounterValue + Copy,
    ) -> fmt::Result {
        let mut encoder = self.family(name, help, unit, MetricType::Counter)?;
        encoder.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    fn counters<'l>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        label: &str,
        samples: impl IntoIterator<Item = (&'l str, u64)>,
    ) -> fmt::Result {
        let mut encoder = self.family(name, help, unit, MetricType::Counter)?;
        for (value, count) in samples {
            let labels = [(label, value)];
            encoder.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        Ok(())
    }

    fn gauge(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        value: impl EncodeGaugeValue + Copy,
    ) -> fmt::Result {
        self.family(name, help, unit, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn gauges(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        label: &str,
        samples: impl IntoIterator<Item = (impl AsRef<str>, u64)>,
    ) -> fmt::Result {
        let mut encoder = self.family(name, help, unit, MetricType::Gauge)?;
        for (value, number) in samples {
            encoder.encode_family(&[(label, value.as_ref())])?.encode_gauge(&number)?;
        }
        Ok(())
    }

    /// Histograms in seconds, by `label` if there is one.
    fn durations<'l>(
        &mut self,
        name: &str,
        help: &str,
        label: Option<&str>,
        samples: impl IntoIterator<Item = (&'l str, &'l Durations)>,
    ) -> fmt::Result {
        let mut encoder = self.family(name, help, SECONDS, MetricType::Histogram)?;
        for (value, durations) in samples {
            let bounds = Durations::BOUNDS.iter().map(Duration::as_secs_f64).chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = bounds.zip(durations.counts()).collect();
            let count = buckets.iter().map(|(_, count)| count).sum();
            let sum = durations.sum().as_secs_f64();
            match label {
                Some(label) => encoder
                    .encode_family(&[(label, value)])?
                    .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?,
                None => encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?,
            }
        }
        Ok(())
    }
}
