//! Processes that tests start. Between its fork and its exec a child holds a copy of every open
//! file, and with it the lock of a data directory that another test has just let go. So nobody
//! starts a process while somebody takes again what was locked.

use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

static STARTS: Mutex<()> = Mutex::new(());

/// While it is held, no child of this process is between fork and exec.
pub fn none_starts() -> MutexGuard<'static, ()> {
    // A test that failed while it held it has left nothing behind.
    STARTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a process; it has its own program when this returns.
pub fn spawn(command: &mut Command) -> Child {
    let _alone = none_starts();
    command.spawn().expect("the process starts")
}

/// A process that ends with its test, however that ends.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a process to its end.
pub fn output(command: &mut Command) -> Output {
    let child = spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()));
    child.wait_with_output().expect("it ends")
}
