//! Whether this is still the process that it was: a child of `fork` has its parent's memory, but of its threads only the
//! one that forked. And locks that no other thread holds while a process forks, since the child would wait for ever.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

/// How often this process and its ancestors forked since [`watch`] was called first.
static FORKS: AtomicU64 = AtomicU64::new(0);

/// Whether a fork waits or goes on: nobody may take a [`Guarded`] lock.
static CLOSED: AtomicBool = AtomicBool::new(false);

/// The threads that hold guarded locks, counted in several places so that they need not wait for a cache line.
static INSIDE: [Count; 16] = [const { Count(AtomicUsize::new(0)) }; 16];

#[repr(align(64))]
struct Count(AtomicUsize);

thread_local! {
    /// How many guarded locks this thread holds.
    static HELD: Cell<usize> = const { Cell::new(0) };
    /// Where it counts.
    static PLACE: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed) % INSIDE.len()
    };
}

/// Begins to count. Whoever starts threads, or has locks that a child may want, calls this before.
pub(super) fn watch() {
    static WATCHED: AtomicBool = AtomicBool::new(false);
    if WATCHED.load(Ordering::Relaxed) || WATCHED.swap(true, Ordering::Relaxed) {
        return;
    }
    #[cfg(unix)]
    // SAFETY: the last function may be called in a child of `fork`, where little is allowed: it changes numbers. If there is
    // no memory for the handlers, forks go unnoticed.
    unsafe {
        libc::pthread_atfork(Some(close), Some(open), Some(open_in_child));
    }
}

/// A number that is another one in a child of `fork`.
pub(crate) fn generation() -> u64 {
    FORKS.load(Ordering::Relaxed)
}

/// Whether this thread holds guarded locks: it is the one that lives on in the child.
#[cfg(unix)]
fn holds() -> bool {
    HELD.try_with(|held| held.get() > 0).unwrap_or(false)
}

/// Before a fork: waits until all other threads have let go of their guarded locks, and keeps them from taking any.
#[cfg(unix)]
extern "C" fn close() {
    while CLOSED.swap(true, Ordering::SeqCst) {
        thread::yield_now();
    }
    let own = usize::from(holds());
    while INSIDE.iter().map(|count| count.0.load(Ordering::SeqCst)).sum::<usize>() > own {
        thread::yield_now();
    }
}

#[cfg(unix)]
extern "C" fn open() {
    CLOSED.store(false, Ordering::SeqCst);
}

#[cfg(unix)]
extern "C" fn open_in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    open();
}

fn enter() {
    HELD.with(|held| {
        if held.get() == 0 {
            let count = PLACE.with(|place| &INSIDE[*place].0);
            loop {
                count.fetch_add(1, Ordering::SeqCst);
                if !CLOSED.load(Ordering::SeqCst) {
                    break;
                }
                count.fetch_sub(1, Ordering::SeqCst);
                while CLOSED.load(Ordering::SeqCst) {
                    thread::yield_now();
                }
            }
        }
        held.set(held.get() + 1);
    });
}

fn leave() {
    HELD.with(|held| {
        held.set(held.get() - 1);
        if held.get() == 0 {
            PLACE.with(|place| INSIDE[*place].0.fetch_sub(1, Ordering::SeqCst));
        }
    });
}

/// A value behind a lock that is free in a child of `fork`, unless the thread that forks holds it. For short work only: a
/// fork waits for it. A thread that panics leaves the value as it is, which must be a whole one at any time.
#[derive(Debug, Default)]
pub(crate) struct Guarded<T>(Mutex<T>);

impl<T> Guarded<T> {
    /// A value that nobody else sees yet.
    pub const fn new(value: T) -> Guarded<T> {
        Guarded(Mutex::new(value))
    }

    /// The value, as soon as nobody else has it.
    pub fn lock(&self) -> Held<'_, T> {
        watch();
        enter();
        let inside = Inside;
        Held { value: self.0.lock().unwrap_or_else(PoisonError::into_inner), _inside: inside }
    }
}

/// A guarded value that this thread has. The lock goes first, then the count.
pub(crate) struct Held<'l, T> {
    value: MutexGuard<'l, T>,
    _inside: Inside,
}

struct Inside;

impl Drop for Inside {
    fn drop(&mut self) {
        leave();
    }
}

impl<T> Deref for Held<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Held<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_exclude_each_other_and_nest() {
        let (outer, inner) = (Guarded::new(0), Guarded::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        let mut a = outer.lock();
                        *inner.lock() += 1;
                        *a += 1;
                    }
                });
            }
        });
        assert_eq!((*outer.lock(), *inner.lock()), (4000, 4000));
        assert_eq!(HELD.with(Cell::get), 0);
    }
}
