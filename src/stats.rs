//! Counters since the start, and their names for Prometheus.
//!
//! Each counter is one relaxed atomic: it is added to once per request or flush, never per row,
//! and it orders nothing. `accept` counts requests, bodies and rows; the engine counts flushes.

use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// The sum of everything added.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What was written in one wire format.
#[derive(Debug, Default)]
pub struct FormatStats {
    /// Write requests, whatever became of them.
    pub requests: Counter,
    /// Bytes of bodies as received.
    pub received_bytes: Counter,
    /// Bytes of bodies after inflation.
    pub body_bytes: Counter,
    /// Rows that are in the columns.
    pub rows_accepted: Counter,
    /// Rows that were refused.
    pub rows_rejected: Counter,
    /// Fields left out of accepted rows.
    pub fields_dropped: Counter,
}

/// Every counter of the server.
#[derive(Debug, Default)]
pub struct Stats {
    /// Writes in Arrow IPC.
    pub arrow: FormatStats,
    /// Writes in line protocol.
    pub line_protocol: FormatStats,
    /// Writes in JSON.
    pub json: FormatStats,
    /// Writes in MessagePack.
    pub msgpack: FormatStats,
    /// Answers with a 2xx status.
    pub answers_success: Counter,
    /// Answers with a 4xx status.
    pub answers_client_error: Counter,
    /// Answers 503: try again later.
    pub answers_busy: Counter,
    /// Answers with any other 5xx status.
    pub answers_server_error: Counter,
    /// Connections accepted.
    pub connections: Counter,
    /// Connections that could not be accepted, for want of file descriptors for example.
    pub accept_errors: Counter,
    /// Connections that gave way to others at a limit, or for their file descriptors.
    pub connections_shed: Counter,
    /// Connections turned away at a limit, because no other could give way.
    pub connections_refused: Counter,
    /// Connections that ended before their TLS handshake did.
    pub handshake_errors: Counter,
    /// Files that became visible.
    pub files_published: Counter,
    /// Rows in them.
    pub rows_published: Counter,
    /// Bytes of them.
    pub bytes_published: Counter,
    /// Files that could not be written; their rows are kept and tried again.
    pub flush_errors: Counter,
}

impl Stats {
    /// The counters in Prometheus' text format; see `schemas/http.md` for their meaning.
    pub fn prometheus(&self) -> String {
        let mut text = String::with_capacity(4096);
        // Writing to a string cannot fail.
        let _ = self.write_prometheus(&mut text);
        text
    }

    fn write_prometheus(&self, to: &mut String) -> fmt::Result {
        self.write_formats(to)?;
        let answers = [
            ("class=\"success\"", &self.answers_success),
            ("class=\"client_error\"", &self.answers_client_error),
            ("class=\"busy\"", &self.answers_busy),
            ("class=\"server_error\"", &self.answers_server_error),
        ];
        family(to, "answers", "answers by class of status", &answers)?;
        for (name, help, counter) in [
            ("connections", "connections accepted", &self.connections),
            ("accept_errors", "connections that could not be accepted", &self.accept_errors),
            ("connections_shed", "connections that gave way", &self.connections_shed),
            ("connections_refused", "connections turned away", &self.connections_refused),
            ("handshake_errors", "TLS handshakes that failed", &self.handshake_errors),
            ("files_published", "files that became visible", &self.files_published),
            ("rows_published", "rows in published files", &self.rows_published),
            ("bytes_published", "bytes of published files", &self.bytes_published),
            ("flush_errors", "files that could not be written", &self.flush_errors),
        ] {
            family(to, name, help, &[("", counter)])?;
        }
        Ok(())
    }

    fn write_formats(&self, to: &mut String) -> fmt::Result {
        type Pick = fn(&FormatStats) -> &Counter;
        let families: [(&str, &str, Pick); 6] = [
            ("write_requests", "write requests", |it| &it.requests),
            ("write_received_bytes", "bytes of bodies as received", |it| &it.received_bytes),
            ("write_body_bytes", "bytes of bodies after inflation", |it| &it.body_bytes),
            ("rows_accepted", "rows taken", |it| &it.rows_accepted),
            ("rows_rejected", "rows refused", |it| &it.rows_rejected),
            ("fields_dropped", "fields left out of accepted rows", |it| &it.fields_dropped),
        ];
        for (name, help, pick) in families {
            let counters = [
                ("format=\"arrow\"", pick(&self.arrow)),
                ("format=\"json\"", pick(&self.json)),
                ("format=\"line_protocol\"", pick(&self.line_protocol)),
                ("format=\"msgpack\"", pick(&self.msgpack)),
            ];
            family(to, name, help, &counters)?;
        }
        Ok(())
    }
}

/// One metric with its counters, each given as (labels, counter).
fn family(to: &mut String, name: &str, help: &str, counters: &[(&str, &Counter)]) -> fmt::Result {
    writeln!(to, "# HELP peristyle_{name}_total {help}")?;
    writeln!(to, "# TYPE peristyle_{name}_total counter")?;
    for (labels, counter) in counters {
        if labels.is_empty() {
            writeln!(to, "peristyle_{name}_total {}", counter.get())?;
        } else {
            writeln!(to, "peristyle_{name}_total{{{labels}}} {}", counter.get())?;
        }
    }
    Ok(())
}
