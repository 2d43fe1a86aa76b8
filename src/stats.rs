//! Counters and durations since the start; `accept` gives them their names for Prometheus.
//!
//! Each number is one relaxed atomic: it is added to once per request or file, never per row, and
//! it orders nothing. `accept` counts requests, bodies and rows; the engine counts files.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

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

/// How often something took how long.
#[derive(Debug, Default)]
pub struct Durations {
    /// How many were longer than the bound before and not longer than that of the same index; the
    /// last one: than all bounds.
    counts: [Counter; Self::BOUNDS.len() + 1],
    sum_us: Counter,
}

impl Durations {
    /// Upper bounds: from a group commit on a fast disk to a client that is given up.
    pub const BOUNDS: [Duration; 15] = [
        Duration::from_micros(250),
        Duration::from_micros(500),
        Duration::from_millis(1),
        Duration::from_micros(2_500),
        Duration::from_millis(5),
        Duration::from_millis(10),
        Duration::from_millis(25),
        Duration::from_millis(50),
        Duration::from_millis(100),
        Duration::from_millis(250),
        Duration::from_millis(500),
        Duration::from_secs(1),
        Duration::from_millis(2_500),
        Duration::from_secs(10),
        Duration::from_secs(60),
    ];

    /// Counts one.
    pub fn observe(&self, duration: Duration) {
        let at = Self::BOUNDS.iter().take_while(|bound| **bound < duration).count();
        if let Some(count) = self.counts.get(at) {
            count.add(1);
        }
        self.sum_us.add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }

    /// How many there were between each bound and the one before; the last one: above all bounds.
    pub fn counts(&self) -> impl Iterator<Item = u64> {
        self.counts.iter().map(Counter::get)
    }

    /// All of them together.
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.sum_us.get())
    }
}

/// What was written in one wire format.
#[derive(Debug, Default)]
pub struct FormatStats {
    /// Write requests, whatever became of them.
    pub requests: Counter,
    /// From the head of a write request to its answer.
    pub durations: Durations,
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

/// What the start took from the journal.
#[derive(Debug, Default)]
pub struct ReplayStats {
    /// Records of writes that were looked at.
    pub records: Counter,
    /// Rows of them that no table had.
    pub rows: Counter,
    /// Files made of those.
    pub files: Counter,
    /// Time of the whole recovery, in microseconds.
    pub duration_us: Counter,
}

/// Every counter of the server that more than one stage knows.
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
    /// How long bodies waited for room in memory, in vain or not; those that did not wait are not
    /// counted.
    pub admission_waits: Durations,
    /// Files that became visible.
    pub files_published: Counter,
    /// Rows in them.
    pub rows_published: Counter,
    /// Bytes of them.
    pub bytes_published: Counter,
    /// Files that could not be written; their rows are kept and tried again.
    pub flush_errors: Counter,
    /// From the seal of a table's rows to their being visible, tries that failed included.
    pub flush_durations: Durations,
    /// Encoding and syncing of the files of a table.
    pub file_durations: Durations,
    /// Commits to a table's Delta log.
    pub commit_durations: Durations,
    /// What the start did.
    pub replay: ReplayStats,
}
