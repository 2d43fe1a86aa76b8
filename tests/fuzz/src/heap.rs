//! What a piece of work allocates, and panics that are somebody else's.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

thread_local! {
    static IS_TOLERANT: Cell<bool> = const { Cell::new(false) };
}

/// Ends the process at every panic, wherever it is caught, but for those in [`tolerated`].
pub fn tell_of_panics() {
    let told = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if !IS_TOLERANT.get() {
            told(info);
        }
    }));
}

/// What `run` returns, unless it panics: for what is not ours.
pub fn tolerated<T>(run: impl FnOnce() -> T) -> Option<T> {
    IS_TOLERANT.set(true);
    let result = panic::catch_unwind(AssertUnwindSafe(run));
    IS_TOLERANT.set(false);
    result.ok()
}

/// What `run` returns, which may allocate `base` bytes in all, and `factor` for each byte of
/// `input`: nothing is taken because an input declares it.
pub fn bounded<T>(base: usize, factor: usize, input: &[u8], run: impl FnOnce() -> T) -> T {
    let max = base + factor * input.len();
    let region = Region::new(ALLOCATOR);
    let result = run();
    let bytes = region.change().bytes_allocated;
    assert!(bytes <= max, "{bytes} bytes allocated for an input of {}", input.len());
    result
}
