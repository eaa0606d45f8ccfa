//! The thread pool: runs the parts of a parallel loop on several threads, with little cost per dispatch.
//!
//! A dispatch publishes one word that says which job it is, how many parts it has and how many threads are to take
//! them; the caller and the workers take parts as `claims` says. Because the caller takes too, in the end those of
//! others, a dispatch never waits for a worker that has not started: workers that sleep, or that the system does not
//! schedule, cost nothing but their help. Which thread executes a part does not influence what the part computes.
//!
//! As many workers take part as there are parts for them. They spin for a moment after each job, since the next nest
//! follows soon, and sleep after that; who is woken wakes others, so that many wake in a few steps. While one caller
//! dispatches, others (and jobs that dispatch themselves) execute their parts alone. What is executed is up to the
//! caller; who shares a pool is known to `workers`.

mod claims;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

pub(super) use self::claims::MOST_PARTS;
use self::claims::{Claims, Job, Side};
use super::fork;
use crate::threads::available;

/// How long an idle worker watches for the next job before it sleeps.
const SPIN: Duration = Duration::from_micros(100);
/// Checks between two looks at the clock.
const CHECKS_PER_CLOCK: u32 = 64;
/// Of a worker. Generated code keeps its buffers elsewhere; on the stack are registers that it is short of.
const STACK_BYTES: usize = 2 << 20;
/// How many others a thread wakes: waking takes about as long as it takes to wake up, so two steps of several are
/// faster than many of two, and than one thread that wakes all.
const WAKES: usize = 4;

/// What is done with a part of a job: given the number of the thread that does it, below [`Pool::threads`] and another
/// one for each of those that are at work, and the number of the part.
type Work<'a> = dyn Fn(usize, usize) + Sync + 'a;

/// Threads that execute jobs together with their caller.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Of the process that the workers belong to: see [`fork`].
    generation: u64,
}

/// What the caller and the workers share. What is written often is on a cache line of its own.
struct Shared {
    /// The [`Job`].
    job: Line<AtomicU64>,
    claims: Claims,
    /// Parts of the current job that are not finished.
    unfinished: Line<AtomicU32>,
    /// Whether a caller is using the workers.
    busy: Line<AtomicBool>,
    /// The sleep of each thread; that of the caller, who is number 0, is not used.
    sleeps: Box<[Line<Sleep>]>,
    /// Whether the caller sleeps until the last part is finished, and who it is then.
    caller_sleeps: AtomicBool,
    caller: Mutex<Option<Thread>>,
    stop: AtomicBool,
    /// How long workers spin; zero where they would only steal time from the thread they wait for.
    spin: Duration,
    /// Valid while a part of the job is unfinished.
    current: UnsafeCell<Option<*const Work<'static>>>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// The sleep of a worker.
#[derive(Default)]
struct Sleep {
    /// Whether it sleeps or is about to.
    asleep: AtomicBool,
    /// Set before it sleeps for the first time.
    thread: OnceLock<Thread>,
}

#[repr(align(64))]
#[derive(Default)]
struct Line<T>(T);

// SAFETY: `current` is written only by the caller that holds `busy`, while no part is taken or can be taken
// (all parts of the previous job are finished), and read only by threads that have taken a part. The work it
// points to is `Sync`, so that workers may call it.
unsafe impl Sync for Shared {}
// SAFETY: the pointer in `current` is only used as described above; the rest is `Send`.
unsafe impl Send for Shared {}

impl Pool {
    /// A pool of `threads - 1` workers, which execute jobs together with the caller; of fewer if the system has no more.
    pub fn new(threads: usize) -> Pool {
        let threads = threads.clamp(1, MOST_PARTS);
        let cores = available();
        let shared = Arc::new(Shared {
            job: Line(AtomicU64::new(Job::NONE.word())),
            claims: Claims::new(threads),
            unfinished: Line(AtomicU32::new(0)),
            busy: Line(AtomicBool::new(false)),
            sleeps: (0..threads).map(|_| Line::default()).collect(),
            caller_sleeps: AtomicBool::new(false),
            caller: Mutex::new(None),
            stop: AtomicBool::new(false),
            spin: if threads <= cores { SPIN } else { Duration::ZERO },
            current: UnsafeCell::new(None),
            panic: Mutex::new(None),
        });
        fork::watch();
        let generation = fork::generation();
        let mut workers = Vec::new();
        for i in 1..threads {
            let shared = Arc::clone(&shared);
            let worker = thread::Builder::new().name(format!("nestjit-{i}")).stack_size(STACK_BYTES);
            match worker.spawn(move || shared.be_worker(i)) {
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

    /// Calls `work` with each of the parts `0..parts`, on several threads at once, and returns when all calls have
    /// returned. A panic of a part is passed on to the caller, after all other parts.
    pub fn run(&self, parts: usize, work: &Work<'_>) {
        let alone = parts <= 1 || parts > MOST_PARTS || self.workers.is_empty() || !self.is_usable();
        if alone || self.shared.busy.0.swap(true, Ordering::Acquire) {
            (0..parts).for_each(|part| work(0, part));
            return;
        }
        self.shared.dispatch(parts, parts.min(self.workers.len() + 1), work);
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
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker cannot panic: parts are caught.
            let _ = worker.join();
        }
    }
}

impl Shared {
    /// Executes a job together with as many of the workers as there are takers besides the caller, who holds `busy`.
    fn dispatch(&self, parts: usize, takers: usize, work: &Work<'_>) {
        // SAFETY: only the lifetime changes. The pointer is used by threads that have taken a part of this
        // job, and this function does not return before every part is finished.
        let work: *const Work<'static> =
            unsafe { std::mem::transmute::<*const Work<'_>, *const Work<'static>>(work) };
        // SAFETY: `busy` is held and all parts of the previous job are finished: nobody reads.
        unsafe { *self.current.get() = Some(work) };
        self.unfinished.0.store(parts as u32, Ordering::Relaxed);
        let last = Job::of(self.job.0.load(Ordering::Relaxed));
        self.claims.renew(last);
        let job = last.after(parts, takers);
        // Sequentially consistent with `asleep`: either this sees the sleeper, or the sleeper sees the job.
        self.job.0.store(job.word(), Ordering::SeqCst);
        self.wake_others(0, job);
        self.take_parts(0, job);
        self.wait();
    }

    /// Waits until every part is finished: the workers are executing their last ones.
    fn wait(&self) {
        let finished = || self.unfinished.0.load(Ordering::Acquire) == 0;
        if spin_until(self.spin, finished) {
            return;
        }
        *lock(&self.caller) = Some(thread::current());
        self.caller_sleeps.store(true, Ordering::SeqCst);
        while self.unfinished.0.load(Ordering::SeqCst) != 0 {
            thread::park();
        }
        self.caller_sleeps.store(false, Ordering::Relaxed);
    }

    /// Wakes those of the takers that this thread has to wake, if they sleep.
    fn wake_others(&self, me: usize, job: Job) {
        for other in (WAKES * me + 1..=WAKES * me + WAKES).take_while(|other| *other < job.takers()) {
            let Line(sleep) = &self.sleeps[other];
            if sleep.asleep.load(Ordering::SeqCst)
                && let Some(thread) = sleep.thread.get()
            {
                thread.unpark();
            }
        }
    }

    /// Takes and executes parts, the own ones first, until there is none left that nobody has taken.
    fn take_parts(&self, me: usize, job: Job) {
        for at in 0..job.takers() {
            let mut finished = 0;
            let side = if at == 0 { Side::Front } else { Side::Back };
            while let Some(part) = self.claims.take(job, (me + at) % job.takers(), side) {
                self.execute(me, part);
                finished += 1;
            }
            if finished > 0 {
                self.finish(finished);
            }
            if self.job.0.load(Ordering::Relaxed) != job.word() {
                return;
            }
        }
    }

    /// Executes a part that this thread has taken.
    fn execute(&self, me: usize, part: usize) {
        // SAFETY: this thread has taken a part, so `current` is not written before it is finished; that the job was
        // seen synchronises with the store of its word after `current` was written.
        let Some(work) = (unsafe { *self.current.get() }) else { return };
        // SAFETY: the work lives until all parts are finished, and this one is not.
        let work = unsafe { &*work };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(me, part))) {
            self.keep(panic);
        }
    }

    /// Counts parts as finished, which this thread has executed.
    fn finish(&self, parts: u32) {
        let last = self.unfinished.0.fetch_sub(parts, Ordering::SeqCst) == parts;
        if last
            && self.caller_sleeps.load(Ordering::SeqCst)
            && let Some(caller) = &*lock(&self.caller)
        {
            caller.unpark();
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
    fn be_worker(&self, me: usize) {
        let Line(sleep) = &self.sleeps[me];
        let _ = sleep.thread.set(thread::current());
        let mut seen = Job::NONE;
        let new = |seen: Job, order| {
            let job = Job::of(self.job.0.load(order));
            (job != seen && me < job.takers()).then_some(job)
        };
        let stop = || self.stop.load(Ordering::SeqCst);
        while !stop() {
            if let Some(job) = new(seen, Ordering::Acquire) {
                seen = job;
                self.wake_others(me, job);
                self.take_parts(me, job);
                continue;
            }
            if spin_until(self.spin, || new(seen, Ordering::Relaxed).is_some() || stop()) {
                continue;
            }
            sleep.asleep.store(true, Ordering::SeqCst);
            while new(seen, Ordering::SeqCst).is_none() && !stop() {
                thread::park();
            }
            sleep.asleep.store(false, Ordering::Relaxed);
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
pub(in crate::runtime) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
