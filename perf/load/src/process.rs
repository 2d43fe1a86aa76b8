//! What a process of this machine has used: processor time and memory, from `/proc`.

use std::fs;
use std::io;
use std::path::Path;

/// Ticks of `/proc` in a second: `USER_HZ`, which Linux fixes for programs.
const TICKS_PER_S: u64 = 100;

/// A process.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    /// Its number.
    pub pid: u32,
}

/// What it holds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Bytes in memory.
    pub resident: u64,
    /// The most so far, or since [`Process::reset_peak`].
    pub peak: u64,
}

impl Process {
    /// This process.
    pub fn own() -> Self {
        Self { pid: std::process::id() }
    }

    /// The process of this machine that listens on a port, where `/proc` shows it.
    pub fn listening_on(port: u16) -> Option<Self> {
        let sockets: Vec<String> =
            ["/proc/net/tcp", "/proc/net/tcp6"].iter().flat_map(|it| listeners(it, port)).collect();
        let processes = fs::read_dir("/proc").ok()?.flatten();
        let pids = processes.filter_map(|it| it.file_name().to_str()?.parse().ok());
        pids.map(|pid| Self { pid }).find(|process| process.has_one_of(&sockets))
    }

    fn has_one_of(self, sockets: &[String]) -> bool {
        let files = fs::read_dir(format!("/proc/{}/fd", self.pid));
        files.into_iter().flatten().flatten().any(|file| {
            fs::read_link(file.path())
                .is_ok_and(|link| sockets.iter().any(|it| link == Path::new(it)))
        })
    }

    /// Processor time of all its threads, in microseconds.
    ///
    /// # Errors
    /// When it is not there.
    pub fn cpu_us(self) -> io::Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        // The name, in parentheses, may hold anything; fields 14 and 15 are ticks.
        let fields = text.rsplit_once(')').map(|(_, rest)| rest.split_whitespace());
        let ticks = fields.into_iter().flatten().skip(11).take(2);
        let ticks: u64 = ticks.filter_map(|it| it.parse::<u64>().ok()).sum();
        Ok(ticks * (1_000_000 / TICKS_PER_S))
    }

    /// What it holds in memory.
    ///
    /// # Errors
    /// When it is not there.
    pub fn memory(self) -> io::Result<Memory> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let kib = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|it| it.split_whitespace().next());
            number.and_then(|it| it.parse::<u64>().ok()).unwrap_or_default()
        };
        Ok(Memory { resident: kib("VmRSS:") << 10, peak: kib("VmHWM:") << 10 })
    }

    /// Lets [`Memory::peak`] begin again.
    ///
    /// # Errors
    /// When this user may not, or it is not there.
    pub fn reset_peak(self) -> io::Result<()> {
        fs::write(format!("/proc/{}/clear_refs", self.pid), "5")
    }
}

/// The sockets, as links to them are named, that listen on a port.
fn listeners(table: &str, port: u16) -> Vec<String> {
    let text = fs::read_to_string(table).unwrap_or_default();
    let listens = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, local, _, state, _, _, _, _, _, inode, ..] = fields.as_slice() else { return None };
        let (_, local_port) = local.rsplit_once(':')?;
        let is_it = *state == "0A" && u16::from_str_radix(local_port, 16) == Ok(port);
        is_it.then(|| format!("socket:[{inode}]"))
    };
    text.lines().filter_map(listens).collect()
}

/// Processor, cores and kernel of this machine, for a report.
pub fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.and_then(|it| it.split_once(':')).map_or("unknown processor", |(_, it)| it);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{}, {cores} cores, Linux {}", model.trim(), kernel.trim())
}
