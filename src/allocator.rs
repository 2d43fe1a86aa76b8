//! The allocator of the process, and how it gives memory back.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Gives the system all memory that is free, on this thread: 50 us for each MiB. What nobody gives
/// back goes after a second, by whichever thread frees something then (perf/LOG.md, 37).
#[expect(unsafe_code, reason = "the allocator has no other way to say it")]
pub(crate) fn trim() {
    // SAFETY: takes and returns nothing; any thread may call it at any time.
    unsafe { libmimalloc_sys::mi_collect(true) }
}
