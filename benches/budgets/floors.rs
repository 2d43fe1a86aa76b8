//! What the machine does at best, for the reader: nothing is measured by these alone.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::time::{Duration, Instant};

use crate::rounds::{Work, work};

/// Fits into a core's second cache, twice.
const CACHED_BYTES: usize = 128 << 10;
/// Fits into no cache.
const UNCACHED_BYTES: usize = 128 << 20;
/// A group of the journal.
const GROUP_BYTES: usize = 128 << 10;
/// A file that was written before.
const FILE_BYTES: usize = 8 << 20;

/// Measures and prints them.
#[expect(clippy::cast_precision_loss, reason = "sizes of buffers")]
pub(crate) fn print(rounds: usize) {
    println!("| floor | |\n|---|---|");
    for (name, bytes) in [("memcpy in cache", CACHED_BYTES), ("memcpy in memory", UNCACHED_BYTES)] {
        let (from, mut to) = (vec![1_u8; bytes], vec![0; bytes]);
        let mut copy: Work = work(move || std::hint::black_box(&mut to).copy_from_slice(&from));
        let rounds = if bytes == CACHED_BYTES { rounds * 10 } else { rounds.min(9) };
        let time = median((0..=rounds).map(|_| copy()).collect());
        println!("| {name} | {:.1} GB/s |", bytes as f64 / time.as_secs_f64() / 1e9);
    }
    let time = median(syncs(rounds));
    println!(
        "| `fdatasync` of {} KiB of a file written before | {:.0} us |",
        GROUP_BYTES >> 10,
        time.as_secs_f64() * 1e6
    );
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap()
}

/// Times of writing a group over what was there, and of syncing it: of the clock, because a disk
/// uses no processor.
#[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
fn syncs(rounds: usize) -> Vec<Duration> {
    let mut file: File = tempfile::tempfile().unwrap();
    file.write_all(&vec![0; FILE_BYTES]).unwrap();
    file.sync_all().unwrap();
    let group = vec![1; GROUP_BYTES];
    let at = |round: usize| (round * GROUP_BYTES % FILE_BYTES) as u64;
    let times = (0..rounds).map(|round| {
        let start = Instant::now();
        file.seek(SeekFrom::Start(at(round))).unwrap();
        file.write_all(&group).unwrap();
        file.sync_data().unwrap();
        start.elapsed()
    });
    times.collect()
}
