//! What the engine tells of itself when it is asked: times, memory, counts.

use std::fs::File;
use std::io::Read as _;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::Engine;
use super::budget::MemoryUse;
use super::flusher::Event;
use super::shard::{monotonic_clock, wall_clock};
use crate::decode::Format;
use crate::journal::JournalStats;
use crate::stats::FormatStats;

/// Of `/proc/self/statm`: seven numbers.
const STATM_BYTES_MAX: usize = 160;

impl Engine {
    /// For durations.
    pub fn now(&self) -> Instant {
        monotonic_clock()
    }

    /// Milliseconds since 1970-01-01 UTC.
    pub fn now_ms(&self) -> u64 {
        wall_clock().unsigned_abs() / 1_000_000
    }

    /// Seconds since 1970-01-01 UTC: whether a token has expired.
    pub fn now_s(&self) -> u64 {
        wall_clock().unsigned_abs() / 1_000_000_000
    }

    /// Whether the thread that decides about flushes answers in time. It waits for each shard in
    /// each round: when one of them hangs, it does not answer from the next flush on.
    pub fn answers(&self, within: Duration) -> bool {
        let (reply, answer) = mpsc::channel();
        self.events.send(Event::Ask { reply }).is_ok() && answer.recv_timeout(within).is_ok()
    }

    /// Memory in use.
    pub fn memory(&self) -> MemoryUse {
        MemoryUse { resident: resident_bytes(), ..self.budget.parts() }
    }

    /// The counters of a format; line protocol's own and QuestDB's are one.
    pub fn format_stats(&self, format: Format) -> &FormatStats {
        match format {
            Format::Arrow => &self.stats.arrow,
            Format::Json => &self.stats.json,
            Format::LineProtocol | Format::QuestDb => &self.stats.line_protocol,
            Format::MessagePack => &self.stats.msgpack,
        }
    }

    /// How the journal stands.
    pub fn journal_stats(&self) -> JournalStats {
        self.journal.stats()
    }

    /// Name, rows and files of each database, sorted by name.
    pub fn database_totals(&self) -> Vec<(String, u64, u64)> {
        let databases = self.registry.databases();
        let total = |name: &str| {
            let measurements = self.registry.measurements(Some(name));
            let rows = measurements.iter().map(|it| it.rows()).sum();
            let files = measurements.iter().map(|it| it.files()).sum();
            (name.to_owned(), rows, files)
        };
        databases.iter().map(|name| total(name)).collect()
    }

    /// How many databases there are, and measurements in all of them.
    pub fn counts(&self) -> (usize, usize) {
        (self.registry.databases().len(), self.registry.measurements(None).len())
    }
}

/// Bytes that the process has in memory; `None` where the system does not tell.
pub fn resident_bytes() -> Option<u64> {
    // Three short system calls: it is asked on the way of bodies.
    let mut text = [0; STATM_BYTES_MAX];
    let len = File::open("/proc/self/statm").ok()?.read(&mut text).ok()?;
    let text = str::from_utf8(text.get(..len)?).ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    pages.checked_mul(u64::try_from(rustix::param::page_size()).ok()?)
}
