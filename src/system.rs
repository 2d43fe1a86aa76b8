//! What the process asks of its allocator and of the system where no safe call does.
#![expect(unsafe_code, reason = "three calls of C functions; the library has none")]

use std::io;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Number of mimalloc's `purge_delay`, in milliseconds; its crate names no option that may go.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Has the allocator keep free memory for ten seconds instead of one, unless `MIMALLOC_PURGE_DELAY`
/// says otherwise: whichever thread frees something then gives it back, and others wait behind that
/// one (perf/LOG.md, 37). [`trim`] is for threads that nobody waits for.
pub(crate) fn keep_free_memory() {
    // SAFETY: sets a number that the allocator reads atomically.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, 10_000) }
}

/// Gives the system all memory that is free, on this thread: 50 us for each MiB.
pub(crate) fn trim() {
    // SAFETY: takes and returns nothing; any thread may call it at any time.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

/// Has a thread (0: this one) run only when no other will, or as any other.
///
/// # Errors
/// What the system says. The way back needs `RLIMIT_NICE` of 20 less what its nice value is.
pub(crate) fn put_last(thread: i32, is_last: bool) -> io::Result<()> {
    let policy = if is_last { libc::SCHED_IDLE } else { libc::SCHED_OTHER };
    let parameter = libc::sched_param { sched_priority: 0 };
    // SAFETY: the parameter outlives the call, which writes nothing.
    match unsafe { libc::sched_setscheduler(thread, policy, &raw const parameter) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
