//! What the variables of loops are at the statement at hand, in terms of counters and lanes. In a register tile they change
//! all the time, but for most accesses by constants only: what else there is to an address is found out once.

use nestjit_ir::{Affine, Var};
use smallvec::SmallVec;

/// The values of variables of loops: few, so that they are found fastest one by one.
#[derive(Default)]
pub(super) struct Bindings(Vec<Binding>);

struct Binding {
    var: Var,
    /// The value, or the last one.
    value: Affine,
    /// Whether the variable has a value.
    bound: bool,
    /// How often the terms of the value have changed.
    version: u32,
}

/// A variable of an expression.
struct Use {
    /// The position of its binding.
    at: usize,
    /// What the binding was, if there was one.
    version: Option<u32>,
    coefficient: i64,
}

/// An expression, of whose value all but the constant has been found out.
pub(super) struct Pending {
    uses: SmallVec<[Use; 6]>,
    constant: i64,
}

impl Bindings {
    pub fn get(&self, var: Var) -> Option<&Affine> {
        self.0.iter().find(|b| b.var == var).filter(|b| b.bound).map(|b| &b.value)
    }

    pub fn set(&mut self, var: Var, value: Affine) {
        let at = self.position(var);
        let binding = &mut self.0[at];
        binding.version += u32::from(binding.value.terms() != value.terms());
        (binding.value, binding.bound) = (value, true);
    }

    pub fn remove(&mut self, var: Var) {
        self.0.iter_mut().filter(|b| b.var == var).for_each(|b| b.bound = false);
    }

    fn position(&mut self, var: Var) -> usize {
        self.0.iter().position(|b| b.var == var).unwrap_or_else(|| {
            self.0.push(Binding { var, value: Affine::default(), bound: false, version: 0 });
            self.0.len() - 1
        })
    }

    /// `a * factor` as something whose constant will be asked for; `None` if it leaves 64 bits.
    pub fn pending(&mut self, a: &Affine, factor: i64) -> Option<Pending> {
        let mut uses = SmallVec::new();
        for &(var, c) in a.terms() {
            let at = self.position(var);
            let Binding { bound, version, .. } = self.0[at];
            uses.push(Use { at, version: bound.then_some(version), coefficient: c.checked_mul(factor)? });
        }
        Some(Pending { uses, constant: a.offset().checked_mul(factor)? })
    }

    /// The constant of a value whose variables are what they were apart from constants; `None` if they are not, or if it
    /// leaves 64 bits.
    pub fn constant(&self, pending: &Pending) -> Option<i64> {
        let mut sum = pending.constant;
        for used in &pending.uses {
            let binding = &self.0[used.at];
            if binding.bound.then_some(binding.version) != used.version {
                return None;
            }
            if binding.bound {
                sum = sum.checked_add(binding.value.offset().checked_mul(used.coefficient)?)?;
            }
        }
        Some(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_follow_and_other_changes_are_seen() {
        let [i, j, counter] = [0, 1, 9].map(Var);
        let mut bound = Bindings::default();
        bound.set(i, Affine::constant(3));
        let a = Affine::term(i, 10).add(&Affine::term(j, 2)).plus(1);
        let pending = bound.pending(&a, 4).unwrap();
        assert_eq!(bound.constant(&pending), Some(124));
        bound.set(i, Affine::constant(5));
        assert_eq!(bound.constant(&pending), Some(204));
        // Once more in another iteration of loops around.
        bound.remove(i);
        assert_eq!((bound.get(i), bound.constant(&pending)), (None, None));
        bound.set(i, Affine::constant(1));
        assert_eq!(bound.constant(&pending), Some(44));
        bound.set(j, Affine::constant(1));
        assert_eq!(bound.constant(&pending), None, "it had no value");
        bound.remove(j);
        bound.set(i, Affine::var(counter));
        assert_eq!(bound.constant(&pending), None, "it has other terms");
        let pending = bound.pending(&a, 1).unwrap();
        bound.set(i, Affine::var(counter).plus(3));
        assert_eq!(bound.constant(&pending), Some(31));
        bound.set(i, Affine::var(Var(8)).plus(3));
        assert_eq!(bound.constant(&pending), None, "it has another counter");
        bound.set(i, Affine::constant(i64::MAX));
        let far = bound.pending(&a, 1).unwrap();
        assert_eq!(bound.constant(&far), None);
        assert!(bound.pending(&Affine::term(i, i64::MAX), 2).is_none());
    }
}
