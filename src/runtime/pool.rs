//! The thread pool: runs the parts of a parallel loop on several threads, with little cost per dispatch.
//!
//! A dispatch publishes one word that says which job it is, how many parts it has and which part comes next;
//! the caller and the workers claim parts by incrementing it. Because the caller claims too, a dispatch never
//! waits for a worker that has not started: workers that sleep, or that the system does not schedule, cost
//! nothing but their help. Which thread executes a part does not influence what the part computes.
//!
//! Workers spin for a moment after each job, since the next nest follows soon, and sleep after that. While one
//! caller dispatches, others (and jobs that dispatch themselves) execute their parts alone. What is executed
//! is up to the caller; who shares a pool is known to `workers`.

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use super::fork;

/// How long an idle worker watches for the next job before it sleeps.
const SPIN: Duration = Duration::from_micros(100);
/// Checks between two looks at the clock.
const CHECKS_PER_CLOCK: u32 = 64;
/// Of a worker. Generated code keeps its buffers elsewhere; on the stack are registers that it is short of.
const STACK_BYTES: usize = 2 << 20;
/// The most parts of a job: what fits the claim word.
const MAX_PARTS: usize = u16::MAX as usize;

/// A part of a job: given the number of the part.
type Job<'a> = dyn Fn(usize) + Sync + 'a;

/// Threads that execute jobs together with their caller.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Of the process that the workers belong to: see [`fork`].
    generation: u64,
}

/// What the caller and the workers share. Each on a cache line of its own: the claim word is hot in all.
struct Shared {
    claims: Line<AtomicU64>,
    /// Parts of the current job that are not finished.
    unfinished: Line<AtomicU32>,
    /// Whether a caller is using the workers.
    busy: Line<AtomicBool>,
    /// Workers that sleep or are about to; changed only with `sleep` locked.
    sleepers: AtomicU32,
    /// Whether the caller sleeps until the last part is finished.
    caller_sleeps: AtomicBool,
    stop: AtomicBool,
    /// How long workers spin; zero where they would only steal time from the thread they wait for.
    spin: Duration,
    current: UnsafeCell<Option<Current>>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    sleep: Mutex<()>,
    wake: Condvar,
}

/// The job being executed.
#[derive(Clone)]
struct Current {
    /// Valid while a part of the job is unfinished.
    job: *const Job<'static>,
    caller: Thread,
}

#[repr(align(64))]
struct Line<T>(T);

// SAFETY: `current` is written only by the caller that holds `busy`, while no part is claimed or claimable
// (all parts of the previous job are finished), and read only by threads that have claimed a part. The job it
// points to is `Sync`, so that workers may call it.
unsafe impl Sync for Shared {}
// SAFETY: the pointer in `current` is only used as described above; the rest is `Send`.
unsafe impl Send for Shared {}

/// The claim word: the job's number, its number of parts, the next part to claim.
#[derive(Clone, Copy)]
struct Claims(u64);

impl Claims {
    fn new(job: u32, parts: usize) -> Claims {
        Claims(u64::from(job) << 32 | (parts as u64) << 16)
    }

    fn job(self) -> u32 {
        (self.0 >> 32) as u32
    }

    fn parts(self) -> usize {
        (self.0 >> 16 & 0xffff) as usize
    }

    fn next(self) -> usize {
        (self.0 & 0xffff) as usize
    }
}

impl Pool {
    /// A pool of `threads - 1` workers, which execute jobs together with the caller; of fewer if the system has no more.
    pub fn new(threads: usize) -> Pool {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let shared = Arc::new(Shared {
            claims: Line(AtomicU64::new(0)),
            unfinished: Line(AtomicU32::new(0)),
            busy: Line(AtomicBool::new(false)),
            sleepers: AtomicU32::new(0),
            caller_sleeps: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            spin: if threads <= cores { SPIN } else { Duration::ZERO },
            current: UnsafeCell::new(None),
            panic: Mutex::new(None),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
        });
        fork::watch();
        let generation = fork::generation();
        let mut workers = Vec::new();
        for i in 1..threads {
            let shared = Arc::clone(&shared);
            let worker = thread::Builder::new().name(format!("nestjit-{i}")).stack_size(STACK_BYTES);
            match worker.spawn(move || shared.work()) {
                Ok(worker) => workers.push(worker),
                Err(_) => break,
            }
        }
        Pool { shared, workers, generation }
    }

    /// Whether its workers exist: they do not in a child of `fork`.
    pub fn is_usable(&self) -> bool {
        self.generation == fork::generation()
    }

    /// The threads that execute jobs, the caller included.
    #[cfg(test)]
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `job` with each of `0..parts`, on several threads at once, and returns when all calls have
    /// returned. A panic of a part is passed on to the caller, after all other parts.
    pub fn run(&self, parts: usize, job: &Job<'_>) {
        let alone = parts <= 1 || parts > MAX_PARTS || self.workers.is_empty() || !self.is_usable();
        if alone || self.shared.busy.0.swap(true, Ordering::Acquire) {
            (0..parts).for_each(job);
            return;
        }
        self.shared.dispatch(parts, job);
        let panic = lock(&self.shared.panic).take();
        self.shared.busy.0.store(false, Ordering::Release);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if !self.is_usable() {
            // There is nobody to be told or waited for, and what the threads were made of is the system's again.
            self.workers.drain(..).for_each(std::mem::forget);
            return;
        }
        self.shared.stop.store(true, Ordering::SeqCst);
        drop(lock(&self.shared.sleep));
        self.shared.wake.notify_all();
        for worker in self.workers.drain(..) {
            // A worker cannot panic: parts are caught.
            let _ = worker.join();
        }
    }
}

impl Shared {
    /// Executes a job together with the workers. The caller holds `busy`.
    fn dispatch(&self, parts: usize, job: &Job<'_>) {
        // SAFETY: only the lifetime changes. The pointer is used by threads that have claimed a part of this
        // job, and this function does not return before every part is finished.
        let job: *const Job<'static> =
            unsafe { std::mem::transmute::<*const Job<'_>, *const Job<'static>>(job) };
        // SAFETY: `busy` is held and all parts of the previous job are finished: nobody reads.
        unsafe { *self.current.get() = Some(Current { job, caller: thread::current() }) };
        self.unfinished.0.store(parts as u32, Ordering::Relaxed);
        let number = Claims(self.claims.0.load(Ordering::Relaxed)).job().wrapping_add(1);
        // Sequentially consistent with `sleepers`: either this sees the sleeper, or the sleeper sees the job.
        self.claims.0.store(Claims::new(number, parts).0, Ordering::SeqCst);
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            drop(lock(&self.sleep));
            self.wake.notify_all();
        }
        while self.claim_and_execute() {}
        self.wait();
    }

    /// Waits until every part is finished: the workers are executing their last ones.
    fn wait(&self) {
        let finished = || self.unfinished.0.load(Ordering::Acquire) == 0;
        if spin_until(self.spin, finished) {
            return;
        }
        self.caller_sleeps.store(true, Ordering::SeqCst);
        while self.unfinished.0.load(Ordering::SeqCst) != 0 {
            thread::park();
        }
        self.caller_sleeps.store(false, Ordering::Relaxed);
    }

    /// Claims a part, if there is one left, and executes it.
    fn claim_and_execute(&self) -> bool {
        let mut word = self.claims.0.load(Ordering::Acquire);
        loop {
            let claims = Claims(word);
            if claims.next() >= claims.parts() {
                return false;
            }
            match self.claims.0.compare_exchange_weak(word, word + 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    self.execute(claims.next());
                    return true;
                }
                Err(now) => word = now,
            }
        }
    }

    /// Executes a part that this thread has claimed.
    fn execute(&self, part: usize) {
        // SAFETY: this thread has claimed a part, so `current` is not written before it is finished; the claim
        // synchronises with the store of the claim word after `current` was written.
        let Some(current) = (unsafe { (*self.current.get()).clone() }) else { return };
        // SAFETY: the job lives until all its parts are finished, and this one is not.
        let job = unsafe { &*current.job };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| job(part))) {
            self.keep(panic);
        }
        let last = self.unfinished.0.fetch_sub(1, Ordering::SeqCst) == 1;
        if last && self.caller_sleeps.load(Ordering::SeqCst) {
            current.caller.unpark();
        }
    }

    /// Keeps what a part panicked with, if it is the first of its job.
    fn keep(&self, panic: Box<dyn Any + Send>) {
        let mut kept = lock(&self.panic);
        if kept.is_none() {
            *kept = Some(panic);
            return;
        }
        drop(kept);
        // What it was given may panic again when it is dropped, which must not end this thread before the part is
        // counted as finished.
        if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
            std::mem::forget(again);
        }
    }

    /// The life of a worker.
    fn work(&self) {
        let idle = || {
            let claims = Claims(self.claims.0.load(Ordering::SeqCst));
            claims.next() >= claims.parts() && !self.stop.load(Ordering::SeqCst)
        };
        while !self.stop.load(Ordering::Relaxed) {
            if self.claim_and_execute() || spin_until(self.spin, || !idle()) {
                continue;
            }
            let mut guard = lock(&self.sleep);
            self.sleepers.fetch_add(1, Ordering::SeqCst);
            while idle() {
                guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
            }
            self.sleepers.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// Waits actively, for at most `limit`; returns whether the condition came true.
fn spin_until(limit: Duration, condition: impl Fn() -> bool) -> bool {
    let mut deadline = None;
    loop {
        for _ in 0..CHECKS_PER_CLOCK {
            if condition() {
                return true;
            }
            std::hint::spin_loop();
        }
        if limit.is_zero() || Instant::now() >= *deadline.get_or_insert_with(|| Instant::now() + limit) {
            return false;
        }
    }
}

/// Locks; a panic elsewhere leaves nothing half-done here.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    fn run_and_count(pool: &Pool, parts: usize) {
        let counts: Vec<AtomicUsize> = (0..parts).map(|_| AtomicUsize::new(0)).collect();
        pool.run(parts, &|part| {
            counts[part].fetch_add(1, Ordering::Relaxed);
        });
        assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1), "{parts} parts");
    }

    #[test]
    fn every_part_runs_once() {
        for threads in [1, 2, 3, 8] {
            let pool = Pool::new(threads);
            assert_eq!(pool.threads(), threads);
            for parts in [0, 1, 2, 3, 7, 64] {
                run_and_count(&pool, parts);
            }
            run_and_count(&pool, MAX_PARTS + 1);
        }
    }

    #[test]
    fn many_dispatches_from_many_callers() {
        let pool = Pool::new(3);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..2000).for_each(|i| run_and_count(&pool, i % 5)));
            }
        });
    }

    #[test]
    fn sleeping_workers_wake_up() {
        let pool = Pool::new(2);
        for _ in 0..5 {
            // Longer than workers spin. The worker must take part: the caller's part waits for it.
            thread::sleep(SPIN * 5);
            let worker_came = AtomicBool::new(false);
            let caller = thread::current().id();
            pool.run(2, &|_| {
                if thread::current().id() == caller {
                    while !worker_came.load(Ordering::Acquire) {
                        thread::yield_now();
                    }
                } else {
                    worker_came.store(true, Ordering::Release);
                }
            });
        }
    }

    #[test]
    fn the_caller_sleeps_while_a_worker_is_slow() {
        let pool = Pool::new(2);
        let slow = AtomicUsize::new(0);
        pool.run(2, &|_| {
            // Whoever comes first waits for the second to start, so that both threads have a part.
            slow.fetch_add(1, Ordering::SeqCst);
            while slow.load(Ordering::SeqCst) < 2 {
                thread::yield_now();
            }
            if thread::current().name().is_some_and(|n| n.starts_with("nestjit-")) {
                thread::sleep(SPIN * 50);
                slow.fetch_add(1, Ordering::SeqCst);
            }
        });
        assert_eq!(slow.load(Ordering::SeqCst), 3);
    }

    #[test]
    fn nested_jobs_run_alone() {
        let pool = Pool::new(3);
        let count = AtomicUsize::new(0);
        pool.run(4, &|_| {
            pool.run(5, &|_| {
                count.fetch_add(1, Ordering::Relaxed);
            });
        });
        assert_eq!(count.into_inner(), 20);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_survives() {
        let pool = Pool::new(2);
        for victim in 0..4 {
            let finished = AtomicUsize::new(0);
            let result = catch_unwind(AssertUnwindSafe(|| {
                pool.run(4, &|part| {
                    assert!(part != victim, "part {part} fails");
                    finished.fetch_add(1, Ordering::Relaxed);
                })
            }));
            let message = *result.unwrap_err().downcast::<String>().unwrap();
            assert_eq!(message, format!("part {victim} fails"));
            assert_eq!(finished.into_inner(), 3);
            run_and_count(&pool, 4);
        }
    }

    /// Panics again when it is dropped.
    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::panic_any(Bomb2);
        }
    }

    struct Bomb2;

    impl Drop for Bomb2 {
        fn drop(&mut self) {
            if !thread::panicking() {
                panic!("for the third time");
            }
        }
    }

    #[test]
    fn what_panics_when_it_is_dropped_ends_no_worker() {
        let pool = Pool::new(3);
        for _ in 0..20 {
            let begun = AtomicUsize::new(0);
            let result = catch_unwind(AssertUnwindSafe(|| {
                pool.run(8, &|_| {
                    begun.fetch_add(1, Ordering::Relaxed);
                    std::panic::panic_any(Bomb);
                })
            }));
            std::mem::forget(result.unwrap_err().downcast::<Bomb>().ok().unwrap());
            assert_eq!(begun.into_inner(), 8);
            run_and_count(&pool, 8);
        }
    }
}
