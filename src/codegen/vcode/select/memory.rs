//! Loads and stores of values: what has 64 bits takes an access for each half of the lanes.

use super::Selector;
use super::value::{Regs, Val};
use crate::codegen::vcode::{Access, Guard, Reg};

impl Selector<'_> {
    /// The accesses of the two halves of a pair, and how many lanes the second one is away; `None` if there are no lanes there
    /// that differ from those of the first.
    fn halves(&self, all: &Access, differ: bool) -> (Access, Option<Access>) {
        let half = self.b.lanes() / 2;
        let low = Access { lanes: all.lanes.min(half), ..all.clone() };
        if !differ || all.lanes <= half {
            return (low, None);
        }
        let mut high = Access { lanes: all.lanes - half, ..all.clone() };
        high.address.offset += all.stride * half as i64;
        (low, Some(high))
    }

    /// Loads a value; lanes for which a guard fails are those of another one.
    pub(super) fn load_regs(&mut self, from: &Access, guarded: Option<(&[Guard], Regs)>) -> Regs {
        let wide = from.ty.class().is_wide();
        let Some((guards, otherwise)) = guarded else {
            if !wide {
                return Regs::one(self.b.load(from.clone()));
            }
            let (low, high) = self.halves(from, from.stride != 0);
            let low = self.b.load(low);
            let high = high.map_or(low, |high| self.b.load(high));
            return Regs::pair(low, high);
        };
        if !wide {
            return Regs::one(self.b.load_guarded(from.clone(), guards.to_vec(), otherwise.low));
        }
        let differ = from.stride != 0 || guards.iter().any(|g| g.step != 0);
        let (low, high) = self.halves(from, differ);
        let low = self.b.load_guarded(low, guards.to_vec(), otherwise.low);
        let other = otherwise.high.unwrap_or(otherwise.low);
        let high = match high {
            Some(high) => {
                let half = self.b.lanes() as i64 / 2;
                let mut guards = guards.to_vec();
                guards.iter_mut().for_each(|g| g.value.offset += g.step * half);
                self.b.load_guarded(high, guards, other)
            }
            // All lanes are loaded or none is; what is there instead may differ.
            None if other != otherwise.low && !differ => {
                let same = Access { lanes: from.lanes.min(self.b.lanes() / 2), ..from.clone() };
                self.b.load_guarded(same, guards.to_vec(), other)
            }
            None => low,
        };
        Regs::pair(low, high)
    }

    /// Loads a value from as many bytes behind an access as the lanes of `offsets` say, each from where its own says or all from
    /// where the first says.
    pub(super) fn gather_regs(&mut self, from: &Access, offsets: Reg, each: bool) -> Regs {
        if !from.ty.class().is_wide() {
            return Regs::one(self.b.gather(from.clone(), offsets, each.then_some(0)));
        }
        let (low, high) = self.halves(from, each || from.stride != 0);
        let low = self.b.gather(low, offsets, each.then_some(0));
        let half = self.b.lanes() / 2;
        let high = high.map_or(low, |high| self.b.gather(high, offsets, each.then_some(half)));
        Regs::pair(low, high)
    }

    /// Stores a value that is in registers of the class of its type.
    pub(super) fn store_regs(&mut self, value: Regs, to: &Access) {
        let Some(upper) = value.high else {
            return self.b.store(value.low, to.clone());
        };
        let (low, high) = self.halves(to, to.stride != 0);
        self.b.store(value.low, low);
        if let Some(high) = high {
            self.b.store(upper, high);
        }
    }

    /// Assigns variables.
    pub(super) fn assign(&mut self, to: Regs, value: Val) {
        let value = self.full(value).regs;
        self.b.assign(to.low, value.low);
        if let (Some(to_high), Some(high)) = (to.high, value.high)
            && to_high != to.low
        {
            self.b.assign(to_high, high);
        }
    }
}
