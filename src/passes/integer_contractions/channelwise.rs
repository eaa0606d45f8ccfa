//! Convolutions of each channel by itself whose weights have a zero point: their products are added up in `f32`.
//!
//! Elsewhere such a zero point takes the sums of the left operand, which many filters share. Here they would be a second
//! convolution for each filter. In lanes over channels, one instruction multiplies and adds numbers of `f32`, and what is
//! multiplied are integers whose sums stay below 2^24: they are the same.

use nestjit_ir::DType;

use super::contraction::Contraction;
use super::rewriter::Rewriter;
use super::weights;
use crate::error::Result;
use crate::graph::{Binary, Op, ValueId};

/// Integers up to this magnitude are numbers of `f32`, and so are their sums and differences.
const EXACT: i64 = 1 << f32::MANTISSA_DIGITS;

impl Contraction {
    /// The sums in `f32` and what is still to be added to their multiples, if this is such a convolution with weights that
    /// are known.
    pub fn channelwise(&self, rewriter: &mut Rewriter<'_>) -> Result<Option<(ValueId, Option<ValueId>)>> {
        let Op::Conv { groups, .. } = self.node.op else { return Ok(None) };
        if groups == 1 || rewriter.value(self.right.q).shape[1] != 1 {
            return Ok(None);
        }
        let Some(zeros) = self.right.zero.and_then(|zero| rewriter.known(zero)) else { return Ok(None) };
        let Some(q) = rewriter.graph.constant(self.right.q) else { return Ok(None) };
        let filters = weights::floats(q, zeros.values::<i32>()?)?;
        if self.largest.is_none_or(|largest| largest > EXACT) {
            return Ok(None);
        }
        let filters = rewriter.constant("weights", filters);
        let mut left = rewriter.cast("wide", self.left.q, DType::F32)?;
        if let Some(zero) = self.left.zero {
            let zero = rewriter.cast("zero", zero, DType::F32)?;
            left = rewriter.binary("wide", Binary::Sub, left, zero)?;
        }
        let (steps, addend) = self.bias(rewriter, self.scale, EXACT)?;
        let mut sums = rewriter.replace(self.node.op.clone(), &[left, filters])?;
        if !self.float {
            sums = rewriter.cast("integers", sums, DType::I32)?;
        }
        if let Some(steps) = steps {
            let steps = rewriter.cast("steps", steps, rewriter.dtype(sums))?;
            sums = rewriter.binary("shifted", Binary::Add, sums, steps)?;
        }
        Ok(Some((sums, addend)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Tensor;

    #[test]
    fn weights_lose_the_zero_points_of_their_filters() {
        let filters = Tensor::new(&[2, 1, 2], &[0u8, 255, 7, 130]).unwrap();
        let floats = |zeros: &[i32]| weights::floats(&filters, zeros).unwrap();
        assert_eq!(floats(&[3]).values::<f32>().unwrap(), [-3.0, 252.0, 4.0, 127.0]);
        assert_eq!(floats(&[255, 0]).values::<f32>().unwrap(), [-255.0, 0.0, 7.0, 130.0]);
    }
}
