//! The allocator of the process, and when it gives memory back.

use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::{env, io};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What the allocator is told, by the name of a variable.
const SETTINGS: [(&str, &str); 2] = [
    // After how many milliseconds what is free is given back. After the allocator's own second,
    // half as much again may be resident as is accounted for (perf/LOG.md, 30).
    ("MIMALLOC_PURGE_DELAY", "10"),
    // Larger blocks, in KiB, are given back at once and by the thread that frees them. Else it is
    // any thread that allocates next, for 5 to 10 ms where it was 128 MiB (perf/LOG.md, 35).
    ("MIMALLOC_ARENA_MAX_OBJECT_SIZE", "4096"),
];

/// Begins the program again, as the same process, with what the allocator reads before `main`,
/// unless that is set: beside the environment there is but a C function, which to call is unsafe.
///
/// # Errors
/// What the system says; the process goes on as it was.
pub(crate) fn set() -> io::Result<()> {
    let missing = SETTINGS.into_iter().filter(|(name, _)| env::var_os(name).is_none());
    let missing = missing.collect::<Vec<_>>();
    if missing.is_empty() {
        return Ok(());
    }
    let mut arguments = env::args_os();
    let mut again = Command::new(env::current_exe()?);
    again.arg0(arguments.next().unwrap_or_default());
    Err(again.args(arguments).envs(missing).exec())
}
