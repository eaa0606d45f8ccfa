//! Where the elements of a tensor come from. Tensors of equal origin have equal elements, which is known without a look at
//! them: so constants of several programs are found to be the same. What is shared is decided by others.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, Weak};

use super::Elements;

/// What elements are made of.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Origin {
    /// Bytes of a file that has not changed: what the system knows it by, where they begin and how many they are.
    File { identity: Vec<u64>, at: u64, bytes: usize },
    /// What tensors share in memory.
    Memory(Shared),
    /// Elements times a factor for each run of so many: see [`super::Factors`].
    Scaled { of: Box<Origin>, run: usize, factors: FactorBits },
    /// What a computation, with these parameters, makes of others.
    Computed { by: &'static str, parameters: Vec<usize>, of: Vec<Origin> },
}

/// Elements in memory. They may be gone: their place is not used again as long as this is there.
#[derive(Clone)]
pub(crate) struct Shared(Weak<Elements>);

impl Shared {
    pub(super) fn new(elements: &Arc<Elements>) -> Shared {
        Shared(Arc::downgrade(elements))
    }
}

impl PartialEq for Shared {
    fn eq(&self, other: &Shared) -> bool {
        Weak::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Shared {}

impl Hash for Shared {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.as_ptr().addr().hash(state);
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:p}", self.0.as_ptr())
    }
}

/// Factors that are the same if their bits are.
#[derive(Clone, Debug)]
pub(crate) struct FactorBits(pub Arc<[f64]>);

impl FactorBits {
    fn bits(&self) -> impl Iterator<Item = u64> {
        self.0.iter().map(|f| f.to_bits())
    }
}

impl PartialEq for FactorBits {
    fn eq(&self, other: &FactorBits) -> bool {
        self.bits().eq(other.bits())
    }
}

impl Eq for FactorBits {}

impl Hash for FactorBits {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bits().for_each(|bits| bits.hash(state));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::{Factors, Tensor};
    use super::*;

    #[test]
    fn equal_origins_mean_equal_elements() {
        let base = Tensor::new(&[2, 2], &[1.0f32, 2.0, 3.0, 4.0]).unwrap();
        let factors = |values: &[f64]| Factors { run: 2, values: values.into() };
        let mut changed = base.clone();
        assert_eq!(
            changed.reshape(&[4]).unwrap().origin(),
            base.origin(),
            "a shape is no matter of elements"
        );
        changed.values_mut::<f32>().unwrap()[0] = 7.0;
        let others = [
            base.clone(),
            changed,
            Tensor::new(&[2, 2], &[1.0f32, 2.0, 3.0, 4.0]).unwrap(),
            base.scaled(factors(&[1.0, 2.0])),
            base.scaled(factors(&[1.0, -2.0])),
            Tensor::joined(vec![base.clone(), base.clone()], 0).unwrap(),
            Tensor::joined(vec![base.clone(), base.clone()], 1).unwrap(),
        ];
        let all: HashSet<Origin> = others.iter().map(Tensor::origin).collect();
        assert_eq!(all.len(), others.len());
        assert!(all.contains(&base.scaled(factors(&[1.0, 2.0])).origin()));
        assert!(all.contains(&Tensor::joined(vec![base.clone(), base.clone()], 1).unwrap().origin()));
    }

    #[test]
    fn elements_that_somebody_knows_are_changed_in_a_copy_only() {
        let mut tensor = Tensor::new(&[2], &[1i32, 2]).unwrap();
        let origin = tensor.origin();
        tensor.values_mut::<i32>().unwrap()[1] = 3;
        assert_ne!(tensor.origin(), origin);
        let place = tensor.bytes().unwrap().as_ptr();
        drop(origin);
        tensor.values_mut::<i32>().unwrap()[1] = 4;
        assert_eq!(tensor.bytes().unwrap().as_ptr(), place, "nobody knows these");
    }
}
