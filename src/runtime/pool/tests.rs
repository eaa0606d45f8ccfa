//! The pool under every number of threads and parts.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use super::claims::MOST_PARTS;
use super::{Pool, SPIN};

fn run_and_count(pool: &Pool, parts: usize) {
    let counts: Vec<AtomicUsize> = (0..parts).map(|_| AtomicUsize::new(0)).collect();
    pool.run(parts, &|_, part| {
        counts[part].fetch_add(1, Ordering::Relaxed);
    });
    assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1), "{parts} parts");
}

#[test]
fn every_part_runs_once() {
    for threads in [1, 2, 3, 8, 64] {
        let pool = Pool::new(threads);
        assert_eq!(pool.threads(), threads);
        for parts in [0, 1, 2, 3, 7, 64, 300] {
            run_and_count(&pool, parts);
        }
        run_and_count(&pool, MOST_PARTS + 1);
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
fn threads_of_a_job_have_different_numbers() {
    let pool = Pool::new(5);
    let working: Vec<AtomicBool> = (0..pool.threads()).map(|_| AtomicBool::new(false)).collect();
    for parts in (0..2000).map(|i| i % 23) {
        pool.run(parts, &|thread, _| {
            assert!(!working[thread].swap(true, Ordering::Acquire), "two threads are {thread}");
            std::hint::black_box(parts);
            working[thread].store(false, Ordering::Release);
        });
    }
}

#[test]
fn sleeping_workers_wake_up() {
    let pool = Pool::new(2);
    for _ in 0..5 {
        // Longer than workers spin. The worker must take part: the caller's part waits for it.
        thread::sleep(SPIN * 5);
        let worker_came = AtomicBool::new(false);
        let caller = thread::current().id();
        pool.run(2, &|_, _| {
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
    pool.run(2, &|_, _| {
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
    pool.run(4, &|_, _| {
        pool.run(5, &|_, _| {
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
            pool.run(4, &|_, part| {
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
            pool.run(8, &|_, _| {
                begun.fetch_add(1, Ordering::Relaxed);
                std::panic::panic_any(Bomb);
            })
        }));
        std::mem::forget(result.unwrap_err().downcast::<Bomb>().ok().unwrap());
        assert_eq!(begun.into_inner(), 8);
        run_and_count(&pool, 8);
    }
}
