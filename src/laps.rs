//! Consecutive time measurements: what the phases of a compilation took.
//!
//! Every lap ends where the next one begins, so laps add up to the elapsed time by construction.

use std::time::{Duration, Instant};

/// The lap of everything that is done between passes: verifying, checking, keeping text.
pub const RECORD: &str = "record";

/// A stopwatch whose laps have names.
#[derive(Clone, Debug)]
pub struct Laps {
    started: Instant,
    last: Instant,
    laps: Vec<(&'static str, Duration)>,
}

impl Laps {
    /// Starts the first lap.
    pub fn start() -> Laps {
        let now = Instant::now();
        Laps { started: now, last: now, laps: Vec::new() }
    }

    /// Ends a lap and starts the next one. A name may occur more than once.
    pub fn lap(&mut self, name: &'static str) {
        let now = Instant::now();
        self.laps.push((name, now - self.last));
        self.last = now;
    }

    /// The laps in order.
    pub fn laps(&self) -> &[(&'static str, Duration)] {
        &self.laps
    }

    /// The time from the start to the end of the last lap.
    pub fn total(&self) -> Duration {
        self.last - self.started
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn laps_add_up_to_the_total() {
        let mut laps = Laps::start();
        for name in ["a", "b", "a"] {
            std::hint::black_box((0..1000).sum::<u64>());
            laps.lap(name);
        }
        assert_eq!(laps.laps().iter().map(|l| l.1).sum::<Duration>(), laps.total());
        assert_eq!(laps.laps().iter().map(|l| l.0).collect::<Vec<_>>(), ["a", "b", "a"]);
    }
}
