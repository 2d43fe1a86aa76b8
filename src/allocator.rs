//! The allocator of the process, and when it gives memory back.

use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::{env, io};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// After how many milliseconds what is free is given back. After the allocator's own second, half
/// as much again may be resident as is accounted for (perf/LOG.md, 30).
const PURGE_DELAY: (&str, &str) = ("MIMALLOC_PURGE_DELAY", "10");

/// Begins the program again, as the same process, with what the allocator reads before `main`,
/// unless that is set: beside the environment there is but a C function, which to call is unsafe.
///
/// # Errors
/// What the system says; the process goes on as it was.
pub(crate) fn set_purge_delay() -> io::Result<()> {
    let (name, value) = PURGE_DELAY;
    if env::var_os(name).is_some() {
        return Ok(());
    }
    let mut arguments = env::args_os();
    let mut again = Command::new(env::current_exe()?);
    again.arg0(arguments.next().unwrap_or_default());
    Err(again.args(arguments).env(name, value).exec())
}
