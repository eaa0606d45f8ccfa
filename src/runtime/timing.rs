//! What compiling cost, by phase. Measured as consecutive laps, so the phases add up to the whole.

use std::time::Duration;

use crate::laps::{Laps, RECORD};

/// The time that compiling took. All fields but `passes` are disjoint; `passes` is part of none of them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CompileTimings {
    /// Reading options and detecting the machine.
    pub setup: Duration,
    /// Each pass, in order.
    pub passes: Vec<(&'static str, Duration)>,
    /// From graph to nests.
    pub lower: Duration,
    /// Verifying, checking, keeping and dumping programs between passes, as far as that is switched on.
    pub record: Duration,
    /// From nests to machine code.
    pub codegen: Duration,
    /// Bringing constants into the order that code wants, allocating memory, starting threads.
    pub pack: Duration,
    /// From start to end.
    pub total: Duration,
}

/// Names of the laps that are not passes.
pub(crate) mod phase {
    pub(crate) const SETUP: &str = "setup";
    pub(crate) const LOWER: &str = "lower";
    pub(crate) const CODEGEN: &str = "codegen";
    pub(crate) const PACK: &str = "pack";
}

impl CompileTimings {
    /// The laps of a compilation; a lap that is no phase is a pass, except for `record`.
    pub(crate) fn of(laps: &Laps) -> CompileTimings {
        let mut timings = CompileTimings { total: laps.total(), ..CompileTimings::default() };
        for &(name, time) in laps.laps() {
            match name {
                phase::SETUP => timings.setup += time,
                phase::LOWER => timings.lower += time,
                phase::CODEGEN => timings.codegen += time,
                phase::PACK => timings.pack += time,
                RECORD => timings.record += time,
                _ => timings.passes.push((name, time)),
            }
        }
        timings
    }

    /// What [`CompileTimings::all_passes`] consists of, in order, each by its name. What occurs several times is added up.
    pub fn each_pass(&self) -> Vec<(&'static str, Duration)> {
        let others = [(phase::SETUP, self.setup), (phase::LOWER, self.lower), (RECORD, self.record)];
        let mut each: Vec<(&'static str, Duration)> = Vec::new();
        for (name, time) in others.into_iter().chain(self.passes.iter().copied()) {
            match each.iter_mut().find(|e| e.0 == name) {
                Some((_, sum)) => *sum += time,
                None => each.push((name, time)),
            }
        }
        each
    }

    /// Everything between the model and code generation: setup, passes, lowering, verification.
    pub fn all_passes(&self) -> Duration {
        self.setup + self.lower + self.record + self.passes.iter().map(|p| p.1).sum::<Duration>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_add_up() {
        let mut laps = Laps::start();
        for name in [
            phase::SETUP,
            "FoldConstant",
            "record",
            phase::LOWER,
            "Tile",
            "record",
            phase::CODEGEN,
            phase::PACK,
        ] {
            laps.lap(name);
        }
        let t = CompileTimings::of(&laps);
        assert_eq!(t.all_passes() + t.codegen + t.pack, t.total);
        assert_eq!(t.each_pass().iter().map(|p| p.1).sum::<Duration>(), t.all_passes());
        assert_eq!(
            t.each_pass().iter().map(|p| p.0).collect::<Vec<_>>(),
            ["setup", "lower", "record", "FoldConstant", "Tile"]
        );
        assert_eq!(t.passes.iter().map(|p| p.0).collect::<Vec<_>>(), ["FoldConstant", "Tile"]);
    }
}
