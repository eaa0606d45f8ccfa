//! Where the time of a run goes: when each nest ran, and on which thread each part of it.
//!
//! An [`Executable`](super::executable::Executable) runs with a `Probe`. That of ordinary runs does nothing and
//! is compiled away; a `Recorder` looks at the clock before and after every nest and every part.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use super::run_options::RunOptions;
use crate::error::Result;

/// Looks on while nests run.
pub(crate) trait Probe: Sync {
    /// Runs a nest.
    fn nest(&self, nest: usize, run: impl FnOnce() -> Result<()>) -> Result<()>;
    /// Runs a part of a nest, on the thread that executes it.
    fn part(&self, nest: usize, run: impl FnOnce() -> i32) -> i32;
}

/// The probe that does nothing.
pub(crate) struct Unobserved;

impl Probe for Unobserved {
    #[inline(always)]
    fn nest(&self, _: usize, run: impl FnOnce() -> Result<()>) -> Result<()> {
        run()
    }

    #[inline(always)]
    fn part(&self, _: usize, run: impl FnOnce() -> i32) -> i32 {
        run()
    }
}

/// Ends a run between two nests.
pub(crate) struct Interruptible<'o>(pub &'o RunOptions);

impl Probe for Interruptible<'_> {
    fn nest(&self, _: usize, run: impl FnOnce() -> Result<()>) -> Result<()> {
        self.0.check()?;
        run()
    }

    #[inline(always)]
    fn part(&self, _: usize, run: impl FnOnce() -> i32) -> i32 {
        run()
    }
}

/// When something ran, counted from the start of the first run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// The number of the nest.
    pub nest: usize,
    /// The thread: 0 for the caller, the others in the order in which they were seen.
    pub thread: usize,
    /// The start.
    pub start: Duration,
    /// How long it took.
    pub time: Duration,
}

/// The record of several runs.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Trace {
    /// How many runs there were.
    pub runs: usize,
    /// The names of the nests.
    pub nests: Vec<String>,
    /// Every execution of a nest, as the caller sees it.
    pub whole: Vec<Span>,
    /// Every part of a nest, on the thread that executed it.
    pub parts: Vec<Span>,
}

impl Trace {
    /// The median time of each nest.
    pub fn medians(&self) -> Vec<Duration> {
        let mut times: Vec<Vec<Duration>> = vec![Vec::with_capacity(self.runs); self.nests.len()];
        for span in &self.whole {
            times[span.nest].push(span.time);
        }
        let median = |times: &mut Vec<Duration>| {
            times.sort_unstable();
            times.get(times.len() / 2).copied().unwrap_or_default()
        };
        times.iter_mut().map(median).collect()
    }
}

/// Records when nests and parts ran.
pub(crate) struct Recorder {
    origin: Instant,
    whole: Mutex<Vec<Span>>,
    parts: Mutex<Vec<Span>>,
    threads: Mutex<Vec<ThreadId>>,
}

impl Recorder {
    pub(crate) fn new() -> Recorder {
        let threads = Mutex::new(vec![thread::current().id()]);
        Recorder { origin: Instant::now(), whole: Mutex::default(), parts: Mutex::default(), threads }
    }

    /// What was recorded in this many runs of nests with these names.
    pub(crate) fn finish(self, runs: usize, nests: Vec<String>) -> Trace {
        let spans = |spans: Mutex<Vec<Span>>| spans.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut parts = spans(self.parts);
        parts.sort_by_key(|span| span.start);
        Trace { runs, nests, whole: spans(self.whole), parts }
    }

    fn span<R>(&self, nest: usize, run: impl FnOnce() -> R) -> (Span, R) {
        let begin = Instant::now();
        let result = run();
        let time = begin.elapsed();
        let mut threads = lock(&self.threads);
        let own = thread::current().id();
        let thread = threads.iter().position(|id| *id == own).unwrap_or_else(|| {
            threads.push(own);
            threads.len() - 1
        });
        (Span { nest, thread, start: begin - self.origin, time }, result)
    }
}

impl Probe for Recorder {
    fn nest(&self, nest: usize, run: impl FnOnce() -> Result<()>) -> Result<()> {
        let (span, result) = self.span(nest, run);
        lock(&self.whole).push(span);
        result
    }

    fn part(&self, nest: usize, run: impl FnOnce() -> i32) -> i32 {
        let (span, status) = self.span(nest, run);
        lock(&self.parts).push(span);
        status
    }
}

/// Locks; a panic elsewhere leaves whole records behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
