//! The pool of an executable, found again in a child of `fork`, where the threads of the parent's do not exist.

use std::collections::HashMap;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Mutex, TryLockError, Weak};

use super::fork;
use super::pool::{Pool, lock};

/// The pools of a process, by their number of threads.
struct Registry {
    generation: u64,
    pools: Mutex<HashMap<usize, Weak<Pool>>>,
}

/// The pool of the process with this many threads, the caller included; `None` for one thread, which needs no pool. Its
/// workers end when the last user drops it.
pub(super) fn shared(threads: usize) -> Option<Arc<Pool>> {
    if threads <= 1 {
        return None;
    }
    fork::watch();
    let mut pools = lock(&registry().pools);
    if let Some(pool) = pools.get(&threads).and_then(Weak::upgrade) {
        return Some(pool);
    }
    let pool = Arc::new(Pool::new(threads));
    pools.insert(threads, Arc::downgrade(&pool));
    Some(pool)
}

/// The registry of this process. That of a parent may be locked by a thread that does not exist here.
fn registry() -> &'static Registry {
    static REGISTRY: AtomicPtr<Registry> = AtomicPtr::new(ptr::null_mut());
    loop {
        let found = REGISTRY.load(Ordering::Acquire);
        // SAFETY: null, or a registry that was leaked below and is never freed.
        if let Some(registry) = unsafe { found.as_ref() }
            && registry.generation == fork::generation()
        {
            return registry;
        }
        let new = Registry { generation: fork::generation(), pools: Mutex::default() };
        let new = Box::into_raw(Box::new(new));
        if REGISTRY.compare_exchange(found, new, Ordering::AcqRel, Ordering::Acquire).is_err() {
            // SAFETY: made by `Box::into_raw` just now, and nobody else has seen it.
            drop(unsafe { Box::from_raw(new) });
        }
    }
}

/// How many CPUs this thread may run on, whatever share of their time it may use.
fn cpus() -> usize {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: zero is a set without CPUs.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: `set` has the size that is given; 0 is the calling thread.
        let status = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &mut set) };
        // SAFETY: reads the set only.
        if let (0, count @ 1..) = (status, unsafe { libc::CPU_COUNT(&set) }) {
            return count as usize;
        }
    }
    // Also where there are more than the set has room for.
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The workers that an executable shares with others.
pub(super) struct Workers {
    threads: usize,
    /// The pool of the process that made the executable.
    first: Option<Arc<Pool>>,
    /// That of the child that used it last.
    later: Mutex<Option<Arc<Pool>>>,
}

impl Workers {
    /// The workers for this many threads, the caller included; no more than there are CPUs to run on, since more would
    /// only take turns.
    pub fn new(threads: usize) -> Workers {
        let threads = threads.min(cpus());
        Workers { threads, first: shared(threads), later: Mutex::new(None) }
    }

    /// How many threads there are at most, the caller included.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Calls `f` with the pool of this process; with none if the caller is to do everything.
    pub fn with<R>(&self, f: impl FnOnce(Option<&Pool>) -> R) -> R {
        match &self.first {
            Some(pool) if !pool.is_usable() => f(self.of_child().as_deref()),
            first => f(first.as_deref()),
        }
    }

    fn of_child(&self) -> Option<Arc<Pool>> {
        // Whoever has locked this is here for a moment only, or belongs to a parent and stays away.
        let mut later = match self.later.try_lock() {
            Ok(later) => later,
            Err(TryLockError::Poisoned(later)) => later.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        if !later.as_ref().is_some_and(|pool| pool.is_usable()) {
            *later = shared(self.threads);
        }
        later.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A size that no other test asks for: pools belong to the process.
    const SIZE: usize = 11;

    #[test]
    fn pools_are_shared_by_size_and_end_with_their_last_user() {
        assert!(shared(1).is_none());
        let a = shared(SIZE).unwrap();
        let b = shared(SIZE).unwrap();
        assert!(Arc::ptr_eq(&a, &b));
        let weak = Arc::downgrade(&a);
        drop((a, b));
        assert!(weak.upgrade().is_none());
        assert!(shared(SIZE).is_some());
    }
}
