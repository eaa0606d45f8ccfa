//! What the calls of a session cost.

use std::collections::VecDeque;
use std::time::Duration;

/// The most calls that are listed one by one.
const LISTED: usize = 256;

/// What one call cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct CallTiming {
    /// What compiling took, the import included, if this call compiled; `None` for a warm call.
    pub compiled: Option<Duration>,
    /// How many programs this call compiled.
    pub programs: usize,
    /// How many of them had been compiled before and were forgotten since.
    pub recompiled: usize,
    /// The whole call.
    pub total: Duration,
}

/// The calls of a session.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct SessionTimings {
    /// How many there were, those that failed and those that only compile included.
    pub calls: u64,
    /// How many of them compiled something.
    pub compiling_calls: u64,
    /// How many programs they compiled.
    pub programs: u64,
    /// How many of these had been compiled before and were forgotten since.
    pub recompiled: u64,
    /// How many compiled forms are kept at most, of the model and of each part of it.
    pub cache_limit: usize,
    /// How many programs are kept.
    pub cached: usize,
    /// The time that compiling took.
    pub compiling: Duration,
    /// The last calls, at most 256, the oldest first.
    pub last: VecDeque<CallTiming>,
}

impl SessionTimings {
    /// What should be done about the calls so far, if anything: that more is kept, if programs were compiled again
    /// because they had been forgotten.
    pub fn remark(&self) -> Option<String> {
        (self.recompiled > 0).then(|| {
            format!(
                "{} of {} programs were compiled again, since {} are kept (at most {} of each part): more different \
                 shapes come in turns than that, so allow more with Session::cache_limit or Session::cache_bytes",
                self.recompiled, self.programs, self.cached, self.cache_limit
            )
        })
    }

    pub(super) fn add(&mut self, call: CallTiming) {
        self.calls += 1;
        self.compiling_calls += u64::from(call.compiled.is_some());
        self.programs += call.programs as u64;
        self.recompiled += call.recompiled as u64;
        self.compiling += call.compiled.unwrap_or_default();
        if self.last.len() == LISTED {
            self.last.pop_front();
        }
        self.last.push_back(call);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_calls_are_forgotten_but_counted() {
        let mut timings = SessionTimings::default();
        for i in 0..300 {
            let compiled = (i == 0 || i == 299).then_some(Duration::from_millis(2));
            let programs = usize::from(compiled.is_some());
            timings.add(CallTiming { compiled, programs, recompiled: 0, total: Duration::from_millis(i) });
        }
        assert_eq!((timings.calls, timings.compiling_calls, timings.programs), (300, 2, 2));
        assert_eq!(timings.compiling, Duration::from_millis(4));
        assert_eq!((timings.last.len(), timings.last[0].total), (LISTED, Duration::from_millis(44)));
    }
}
