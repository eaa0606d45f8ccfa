//! Whether this is still the process that it was: a child of `fork` has its parent's memory, but of its threads only the
//! one that forked.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How often this process and its ancestors forked since [`watch`] was called first.
static FORKS: AtomicU64 = AtomicU64::new(0);

/// Begins to count. Whoever starts threads calls this before.
pub(super) fn watch() {
    static WATCHED: AtomicBool = AtomicBool::new(false);
    if WATCHED.swap(true, Ordering::Relaxed) {
        return;
    }
    #[cfg(unix)]
    {
        extern "C" fn count() {
            FORKS.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: the function may be called in a child of `fork`, where little is allowed: it changes a number.
        // If there is no memory for the handler, forks go unnoticed.
        unsafe { libc::pthread_atfork(None, None, Some(count)) };
    }
}

/// A number that is another one in a child of `fork`.
pub(super) fn generation() -> u64 {
    FORKS.load(Ordering::Relaxed)
}
