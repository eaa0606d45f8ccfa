//! What the calls of a session cost.

use std::collections::VecDeque;
use std::time::Duration;

/// The most calls that are listed one by one.
const LISTED: usize = 256;

/// What one call cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CallTiming {
    /// What compiling took, the import included, if this call compiled; `None` for a warm call.
    pub compiled: Option<Duration>,
    /// How many programs this call compiled.
    pub programs: usize,
    /// The whole call.
    pub total: Duration,
}

/// The calls of a session.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SessionTimings {
    /// How many there were, those that failed included.
    pub calls: u64,
    /// How many of them compiled something.
    pub compiling_calls: u64,
    /// How many programs they compiled.
    pub programs: u64,
    /// The time that took.
    pub compiling: Duration,
    /// The last calls, at most 256, the oldest first.
    pub last: VecDeque<CallTiming>,
}

impl SessionTimings {
    pub(super) fn add(&mut self, call: CallTiming) {
        self.calls += 1;
        self.compiling_calls += u64::from(call.compiled.is_some());
        self.programs += call.programs as u64;
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
            timings.add(CallTiming { compiled, programs, total: Duration::from_millis(i) });
        }
        assert_eq!((timings.calls, timings.compiling_calls, timings.programs), (300, 2, 2));
        assert_eq!(timings.compiling, Duration::from_millis(4));
        assert_eq!((timings.last.len(), timings.last[0].total), (LISTED, Duration::from_millis(44)));
    }
}
