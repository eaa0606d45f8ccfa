//! Elements that are made when somebody looks at them: those that lie somewhere in a file, and others times factors.
//!
//! Weights are copied into the order that code wants in any case. Whoever does that takes them as they are ([`Raw`]),
//! so that no copy in between is made, for which fresh memory costs more than the arithmetic.

use std::sync::{Arc, OnceLock};

use nestjit_ir::DType;
use nestjit_ir::layout::scaled;

use super::Tensor;
use crate::memory::Block;

/// Bytes that belong to somebody else, a mapped file for one.
pub(crate) type Foreign = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// A factor for each run of so many elements, in row-major order; after the last one it begins again.
#[derive(Clone, Debug)]
pub(crate) struct Factors {
    /// Elements that share a factor, at least one.
    pub run: usize,
    /// The factors; at least one.
    pub values: Arc<[f64]>,
}

/// Elements as they are: not aligned, and not multiplied yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Raw<'a> {
    /// The bytes of the elements, row-major.
    pub bytes: &'a [u8],
    /// What the elements, floating-point numbers, are to be multiplied with.
    pub factors: Option<&'a Factors>,
}

/// Elements that are not made yet.
pub(super) struct Late {
    source: Source,
    factors: Option<Factors>,
    made: OnceLock<Block>,
}

enum Source {
    Foreign(Foreign),
    Tensor(Tensor),
}

impl Late {
    pub fn foreign(bytes: Foreign) -> Late {
        Late { source: Source::Foreign(bytes), factors: None, made: OnceLock::new() }
    }

    /// The elements of a floating-point tensor times these factors.
    pub fn scaled(tensor: Tensor, factors: Factors) -> Late {
        Late { source: Source::Tensor(tensor), factors: Some(factors), made: OnceLock::new() }
    }

    /// The elements, made if need be.
    pub fn bytes(&self, dtype: DType) -> &[u8] {
        self.made.get_or_init(|| self.make(dtype)).bytes()
    }

    /// The elements as they are.
    pub fn raw(&self) -> Raw<'_> {
        if let Some(made) = self.made.get() {
            return Raw { bytes: made.bytes(), factors: None };
        }
        let factors = self.factors.as_ref();
        match &self.source {
            Source::Foreign(bytes) => Raw { bytes: (**bytes).as_ref(), factors },
            // What is scaled twice is rounded twice.
            Source::Tensor(tensor) => Raw { factors, ..tensor.raw_if(|_| false) },
        }
    }

    /// The memory, if the elements were made.
    pub fn into_block(self) -> Option<Block> {
        self.made.into_inner()
    }

    fn make(&self, dtype: DType) -> Block {
        let Raw { bytes, factors } = self.raw();
        let mut block = Block::zeroed(bytes.len()).expect("memory for elements that are known already");
        let to = block.bytes_mut();
        let Some(f) = factors else {
            to.copy_from_slice(bytes);
            return block;
        };
        match dtype {
            DType::F64 => multiply(f, bytes, to, |v, factor| (f64::from_ne_bytes(v) * factor).to_ne_bytes()),
            DType::F32 => {
                multiply(f, bytes, to, |v, factor| scaled(f32::from_ne_bytes(v), factor).to_ne_bytes())
            }
            DType::I64
            | DType::I32
            | DType::I16
            | DType::I8
            | DType::U64
            | DType::U32
            | DType::U16
            | DType::U8
            | DType::Bool => {
                unreachable!("only floating-point numbers are scaled")
            }
        }
        block
    }
}

/// `to = by(from, factor)` for each element of `N` bytes.
fn multiply<const N: usize>(
    factors: &Factors,
    from: &[u8],
    to: &mut [u8],
    by: impl Fn([u8; N], f64) -> [u8; N],
) {
    let (from, to) = (from.as_chunks::<N>().0, to.as_chunks_mut::<N>().0);
    let runs = from.chunks(factors.run).zip(to.chunks_mut(factors.run));
    for ((from, to), factor) in runs.zip(factors.values.iter().cycle()) {
        from.iter().zip(to).for_each(|(from, to)| *to = by(*from, *factor));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(tensor: &Tensor) -> Vec<f32> {
        tensor.values().unwrap().to_vec()
    }

    #[test]
    fn factors_are_those_of_their_runs_and_shapes_do_not_matter() {
        let base = Tensor::new(&[2, 2, 2], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]).unwrap();
        let scaled = base.scaled(Factors { run: 2, values: Arc::new([10.0, 100.0]) });
        let again = scaled.scaled(Factors { run: 4, values: Arc::new([1.0, -1.0]) });
        let reshaped = scaled.reshape(&[8]).unwrap();
        assert_eq!(scaled.raw_if(|_| true).factors.map(|f| f.run), Some(2));
        assert_eq!(floats(&again), [10.0, 20.0, 300.0, 400.0, -50.0, -60.0, -700.0, -800.0]);
        assert_eq!(floats(&reshaped), [10.0, 20.0, 300.0, 400.0, 50.0, 60.0, 700.0, 800.0]);
        assert!(scaled.raw_if(|_| true).factors.is_none(), "they share what was made");
        let double = Tensor::new(&[2], &[1.5f64, 2.0]).unwrap();
        let double = double.scaled(Factors { run: 1, values: Arc::new([2.0]) });
        assert_eq!(double.values::<f64>().unwrap(), [3.0, 4.0]);
    }

    #[test]
    fn products_are_rounded_once() {
        let (a, s) = (1.000_000_1f32, 1.0 / 3.0f64);
        let scaled = Tensor::scalar(a).scaled(Factors { run: 1, values: Arc::new([s]) });
        assert_eq!(floats(&scaled), [(f64::from(a) * s) as f32]);
    }

    #[test]
    fn foreign_bytes_need_no_alignment_and_can_be_changed_in_a_copy() {
        let file: Vec<u8> = [0u8].into_iter().chain([1.0f32, 2.0].map(f32::to_ne_bytes).concat()).collect();
        struct Part(Vec<u8>);
        impl AsRef<[u8]> for Part {
            fn as_ref(&self) -> &[u8] {
                &self.0[1..]
            }
        }
        let mut tensor = Tensor::foreign(DType::F32, &[2], Arc::new(Part(file.clone()))).unwrap();
        assert_eq!(tensor.raw_if(|_| true).bytes, &file[1..]);
        assert_eq!(floats(&tensor), [1.0, 2.0]);
        let other = tensor.clone();
        tensor.values_mut::<f32>().unwrap()[0] = 7.0;
        assert_eq!((floats(&tensor), floats(&other)), (vec![7.0, 2.0], vec![1.0, 2.0]));
        assert!(Tensor::foreign(DType::F32, &[3], Arc::new(Part(file))).is_err());
    }
}
