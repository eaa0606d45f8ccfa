//! Conditions under which lanes are loaded.

use super::Int;

/// A condition on each lane: `lo <= value + lane * step <= hi`. If lanes differ, it [fits](Guard::fits).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(in crate::codegen) struct Guard {
    pub value: Int,
    pub step: i64,
    pub lo: i64,
    pub hi: i64,
}

impl Guard {
    /// How far apart the limits of lanes that differ are at most: lanes are compared in 32 bits.
    pub const LIMIT: i64 = 1 << 28;

    /// Whether lanes can be compared in 32 bits, if the value is cut to four times [`Guard::LIMIT`] before.
    pub fn fits(&self) -> bool {
        let lanes = 16;
        self.step == 0
            || (self.hi - self.lo < Guard::LIMIT && self.step.unsigned_abs() < Guard::LIMIT as u64 / lanes)
    }
}
