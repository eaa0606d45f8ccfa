//! An operand of a contraction of integers.

use std::ops::RangeInclusive;

use nestjit_ir::DType;

use super::image::{Image, only, range_of_bytes};
use super::rewriter::Rewriter;
use super::weights;
use crate::error::Result;
use crate::graph::{Binary, Op, Reduction, ValueId};
use crate::tensor::Tensor;

/// An operand: 8-bit integers in the order of the operand, less a zero point, times a scale.
pub(super) struct QuantizedOperand {
    pub q: ValueId,
    pub zero: Option<ValueId>,
    pub scale: Option<ValueId>,
    /// The dimensions that are added up.
    pub reduced: Vec<usize>,
    /// Between what the zero point is, if that is known.
    pub zeros: Option<RangeInclusive<i32>>,
}

impl QuantizedOperand {
    pub fn new(rewriter: &mut Rewriter<'_>, image: Image, reduced: Vec<usize>) -> Result<QuantizedOperand> {
        let q = image.integers(rewriter)?;
        let zeros = match image.zero {
            None => Some(0..=0),
            Some(zero) => range(rewriter, zero),
        };
        Ok(QuantizedOperand { q, zero: image.zero, scale: image.scale, reduced, zeros })
    }

    /// The largest magnitude of an element less its zero point.
    pub fn largest(&self, rewriter: &Rewriter<'_>) -> Option<i64> {
        let zeros = self.zeros.as_ref()?;
        let (low, high) = (i64::from(*zeros.start()), i64::from(*zeros.end()));
        let (least, most) = if rewriter.dtype(self.q) == DType::U8 { (0, 255) } else { (-128, 127) };
        Some((most - low).max(high - least).max(0))
    }

    /// Makes the integers those of the other type, if they are not of this one. A zero point that weights have room for
    /// goes away.
    pub fn make(&mut self, rewriter: &mut Rewriter<'_>, dtype: DType) -> Result<()> {
        let own = rewriter.dtype(self.q);
        let zero = match self.zero {
            None => Some(0),
            Some(zero) => rewriter.known(zero).as_ref().and_then(only),
        };
        if let (Some(tensor), Some(zero), DType::I8) = (rewriter.graph.constant(self.q), zero, dtype)
            && zero != 0
            && let Some(shifted) = weights::shifted(tensor, zero)?
        {
            self.q = rewriter.constant("weights", shifted);
            self.zero = None;
            return Ok(());
        }
        if own == dtype {
            return Ok(());
        }
        self.q = match rewriter.graph.constant(self.q) {
            Some(tensor) => {
                let flipped = weights::flipped(tensor)?;
                rewriter.constant("weights", flipped)
            }
            None => {
                let bits = rewriter.cast("bits", self.q, dtype)?;
                let sign = Tensor::from_bytes(dtype, &[], &[0x80])?;
                let sign = rewriter.constant("sign", sign);
                rewriter.binary("flipped", Binary::Xor, bits, sign)?
            }
        };
        let step = rewriter.int("flipped_zero", if dtype == DType::U8 { 128 } else { -128 });
        self.zero = rewriter.sum("zero", self.zero, Some(step))?;
        self.zero = rewriter.unless_zero(self.zero);
        Ok(())
    }

    /// The sums along what is reduced, `i32`; these dimensions stay with extent 1.
    pub fn sums(&self, rewriter: &mut Rewriter<'_>) -> Result<ValueId> {
        if let Some(tensor) = rewriter.graph.constant(self.q) {
            let sums = weights::sums(tensor, &self.reduced)?;
            return Ok(rewriter.constant("weight_sums", sums));
        }
        let wide = rewriter.cast("wide", self.q, DType::I32)?;
        let op = Op::Reduce { op: Reduction::Sum, axes: self.reduced.clone(), keep_dims: true };
        rewriter.op("operand_sums", op, &[wide])
    }
}

/// Between what the elements of a zero point are.
fn range(rewriter: &mut Rewriter<'_>, zero: ValueId) -> Option<RangeInclusive<i32>> {
    if let Some(tensor) = rewriter.known(zero) {
        let values = tensor.values::<i32>().ok()?;
        return Some(*values.iter().min()?..=*values.iter().max()?);
    }
    let mut at = zero;
    for _ in 0..8 {
        if let Some(range) = range_of_bytes(rewriter.dtype(at)) {
            return Some(range);
        }
        let node = rewriter.producer(at)?;
        if !matches!(node.op, Op::Cast { .. } | Op::Reshape { .. })
            || !is_byte_or_wide(rewriter.dtype(node.inputs[0]))
        {
            return None;
        }
        at = node.inputs[0];
    }
    None
}

/// Whether casts of this type to `i32` keep the value, or the type is `i32` itself.
fn is_byte_or_wide(dtype: DType) -> bool {
    dtype.is_byte() || dtype == DType::I32
}
