//! A `peristyle` started for a run, on a directory of its own that is removed again.

use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use crate::process::Process;

/// Servers started so far, for the names of directories.
static STARTED: AtomicU32 = AtomicU32::new(0);

/// A running server. Its drop kills it, if it was not stopped.
#[derive(Debug)]
pub(crate) struct OwnServer {
    child: Child,
    directory: PathBuf,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl OwnServer {
    /// Starts `binary` on a new directory below `scratch`.
    ///
    /// # Errors
    /// When it cannot be started, or ends before it listens.
    pub(crate) fn start(binary: &Path, scratch: &Path, durability: &str) -> io::Result<Self> {
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let name = format!("peristyle-load-{}-{number}", std::process::id());
        let directory = scratch.join(name);
        let mut child = Command::new(binary)
            .args(["serve", "--listen", "127.0.0.1:0", "--durability", durability, "--data-dir"])
            .arg(&directory)
            .stderr(Stdio::piped())
            .spawn()?;
        let log = child.stderr.take().map(BufReader::new);
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        // From here on a return ends the child.
        let mut server = Self { child, directory, address };
        let mut log = log.ok_or_else(|| io::Error::other("expected a log"))?;
        let mut line = String::new();
        loop {
            line.clear();
            if log.read_line(&mut line)? == 0 {
                return Err(io::Error::other("the server ended before it listened"));
            }
            if let Some((_, rest)) = line.split_once("listening on http://") {
                let text = rest.split_whitespace().next().unwrap_or_default();
                server.address = text.trim_end_matches('"').parse().map_err(io::Error::other)?;
                // Nobody reads the rest, but a full pipe would stop the server.
                thread::spawn(move || io::copy(&mut log.by_ref(), &mut io::sink()));
                return Ok(server);
            }
        }
    }

    /// Its process.
    pub(crate) fn process(&self) -> Process {
        Process { pid: self.child.id() }
    }

    /// Ends it as an operator does, and waits.
    ///
    /// # Errors
    /// When it does not end with 0.
    pub(crate) fn stop(mut self) -> io::Result<()> {
        let command = format!("kill -TERM {}", self.child.id());
        Command::new("sh").args(["-c", &command]).status()?;
        let status = self.child.wait()?;
        if status.success() {
            Ok(())
        } else {
            Err(io::Error::other(format!("the server ended with {status}")))
        }
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        // It has ended already where it was stopped; what cannot be removed stays in the scratch.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}
