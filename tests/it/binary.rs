//! The real binary: what a user starts, and what signals do to it.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

use rustix::process::{Resource, getrlimit};

use crate::http_client::Client;
use crate::live::read_rows;
use crate::processes::{output, spawn};

/// A running binary; killed if a test does not end it.
pub struct Binary {
    child: Child,
    log: BufReader<ChildStderr>,
    address: SocketAddr,
}

impl Binary {
    pub fn start(data_dir: &Path, arguments: &[&str]) -> Self {
        Self::start_with(data_dir, arguments, &[])
    }

    /// As [`Self::start`], with variables of its environment.
    pub fn start_with(data_dir: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_peristyle"));
        command.args(["--listen", "127.0.0.1:0", "--data-dir"]).arg(data_dir).args(arguments);
        command.envs(variables.iter().copied());
        let mut child = spawn(command.stderr(Stdio::piped()));
        let mut log = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut line = String::new();
        let address = loop {
            line.clear();
            assert!(log.read_line(&mut line).expect("text") > 0, "it ended before it listened");
            if let Some((_, rest)) = line.split_once("listening on http://") {
                let address = rest.split([' ', '"', '\n']).next().expect("an address");
                break address.parse().expect("an address");
            }
        };
        Self { child, log, address }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, name: &str) {
        // The shell's own `kill`: a small system has no other.
        let command = format!("kill {name} {}", self.child.id());
        let output = output(Command::new("sh").args(["-c", &command]));
        assert!(output.status.success());
    }

    /// Waits for the end; returns the exit status and the rest of the log.
    pub fn end(mut self) -> (Option<i32>, String) {
        let log: Vec<String> = self.log.by_ref().lines().map(|it| it.expect("text")).collect();
        (self.child.wait().expect("it ends").code(), log.join("\n"))
    }
}

impl Drop for Binary {
    fn drop(&mut self) {
        // Already ended in a test that passed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_signal_flushes_what_was_accepted_and_exits_zero() {
    for signal in ["-TERM", "-INT"] {
        let directory = tempfile::tempdir().unwrap();
        let binary = Binary::start(directory.path(), &[]);
        let answer = Client::connect(binary.address).post("/write?db=d", "m,t=x f=1i 1000\n");
        assert_eq!((answer.status, answer.body.as_str()), (204, ""));
        binary.signal(signal);
        let (status, log) = binary.end();
        assert_eq!(status, Some(0), "{log}");
        assert_eq!(read_rows(directory.path(), "d").len(), 1);
    }
}

#[test]
fn a_flush_comes_by_age() {
    let directory = tempfile::tempdir().unwrap();
    let binary = Binary::start(directory.path(), &["--flush-interval", "100ms"]);
    let mut client = Client::connect(binary.address);
    assert_eq!(client.post("/write?db=d", "m f=1i 1000\n").status, 204);
    // Polls the server's own answer: each poll is a request of some 50 us.
    let mut polls = 0;
    while !client.get("/api/v1/tables?db=d").body.contains("\"files\":1") {
        polls += 1;
        assert!(polls < 200_000, "no file came");
    }
    assert_eq!(read_rows(directory.path(), "d").len(), 1);
    binary.signal("-TERM");
    assert_eq!(binary.end().0, Some(0));
}

#[test]
fn a_second_server_on_one_data_directory_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let first = Binary::start(directory.path(), &[]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_peristyle"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(directory.path());
    let second = output(&mut command);
    assert_eq!(second.status.code(), Some(1));
    let log = String::from_utf8_lossy(&second.stderr);
    assert!(log.contains("lock"), "{log}");
    first.signal("-TERM");
    assert_eq!(first.end().0, Some(0));
}

/// The field of a thread's `stat`, counted from 1 as in proc(5), of the thread with a name.
fn thread_field(process: u32, name: &str, field: usize) -> String {
    let tasks = Path::new("/proc").join(process.to_string()).join("task");
    let stat = std::fs::read_dir(tasks)
        .expect("threads")
        .filter_map(|task| {
            std::fs::read_to_string(task.expect("a thread").path().join("stat")).ok()
        })
        .find(|stat| stat.contains(&format!("({name})")))
        .expect("a thread of this name");
    let (_, rest) = stat.rsplit_once(") ").expect("a name");
    rest.split(' ').nth(field - 3).expect("a field").to_owned()
}

/// Whether a thread may come back from `SCHED_IDLE` to a nice value of 10: by `CAP_SYS_NICE`, which
/// is number 23, or by the limit.
fn may_be_less_nice() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").expect("a status");
    let line = status.lines().find_map(|it| it.strip_prefix("CapEff:")).expect("capabilities");
    let capabilities = u64::from_str_radix(line.trim(), 16).expect("a number");
    capabilities & 1 << 23 != 0 || getrlimit(Resource::Nice).current.is_none_or(|it| it >= 10)
}

/// `SCHED_IDLE` while it has a body, where the system allows the way back; nice in any case, so
/// that the flusher, which asks it for its rows, does not wait.
#[test]
fn the_thread_of_large_bodies_is_nice_and_as_any_other_while_it_has_none() {
    let directory = tempfile::tempdir().unwrap();
    let binary = Binary::start(directory.path(), &["--shards", "1"]);
    let mut client = Client::connect(binary.address);
    let body = "m,t=x f=1i 1000\n".repeat(200_000);
    assert_eq!(client.post("/write?db=d", &body).status, 204);
    let (nice, policy) =
        (thread_field(binary.id(), "bulk-0", 19), thread_field(binary.id(), "bulk-0", 41));
    assert_eq!(nice, "10");
    let mut policies = vec![policy];
    client.send(&crate::http_client::head("POST", "/write?db=d", "", body.len()));
    client.send(body.as_bytes());
    while client.has_nothing_yet() {
        policies.push(thread_field(binary.id(), "bulk-0", 41));
    }
    assert_eq!(client.answer().status, 204);
    if may_be_less_nice() {
        assert!(policies.contains(&"5".to_owned()), "never last: {policies:?}");
    }
    while thread_field(binary.id(), "bulk-0", 41) != "0" {
        std::thread::yield_now();
    }
    binary.signal("-TERM");
    assert_eq!(binary.end().0, Some(0));
}
