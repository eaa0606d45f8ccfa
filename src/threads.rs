//! The same work on several threads, while nothing else is done: for compiling. Threads that the system does not have are
//! done without. What runs models are the pools of [`crate::runtime`].

use std::sync::OnceLock;
use std::thread::{Builder, scope};

/// Of threads that compile: as much as the main thread of a process has as a rule. It is taken when it is used.
const STACK_BYTES: usize = 8 << 20;

/// How many threads this process can have run at once: what its CPUs and its control group leave it. They are asked once, since
/// the answer is read from files, and is asked for several times by each compilation.
pub(crate) fn available() -> usize {
    static AVAILABLE: OnceLock<usize> = OnceLock::new();
    *AVAILABLE.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// How many threads compile for a machine of so many cores, which need not be this one.
pub(crate) fn compiling_threads(cores: usize) -> usize {
    cores.min(available())
}

/// Calls `work` on so many threads at once, the caller's among them, or on as many as can be started; returns when all calls
/// have returned. The calls are to share the work: each takes what is left.
pub(crate) fn on_threads(threads: usize, work: impl Fn() + Sync) {
    scope(|scope| {
        for i in 1..threads {
            let thread = Builder::new().name(format!("nestjit-compile-{i}")).stack_size(STACK_BYTES);
            if thread.spawn_scoped(scope, &work).is_err() {
                break;
            }
        }
        work();
    });
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn every_thread_calls_once() {
        for threads in [0, 1, 2, 5] {
            let calls = AtomicUsize::new(0);
            on_threads(threads, || {
                calls.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(calls.into_inner(), threads.max(1));
        }
    }
}
