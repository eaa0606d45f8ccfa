//! Matrix products.

use nestjit_ir::DType;

use super::{Halt, NodeCx, OpEntry, Result, one, op};
use crate::graph::{Op, ValueId};

pub(super) const OPS: &[OpEntry] = &[
    op("Gemm", 1, gemm),
    op("MatMul", 1, |cx| {
        let (a, b) = (cx.input(0)?, cx.input(1)?);
        one(cx.matmul(a, b))
    }),
];

fn gemm(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.expect_inputs(3)?;
    // Up to version 6: whether the addend may be smaller than the product.
    cx.attributes.ignore(&["broadcast"]);
    if cx.opset < 11 && cx.optional(2).is_none() {
        return Err(Halt::invalid("the third input is missing"));
    }
    one(gemm_product(cx))
}

/// What Gemm computes of its operands, the third of which may be left out.
pub(super) fn gemm_product(cx: &mut NodeCx<'_>) -> Result<ValueId> {
    let mut inputs = vec![cx.input(0)?, cx.input(1)?];
    let beta = cx.float("beta", 1.0)?;
    inputs.extend(cx.optional(2));
    let gemm = Op::Gemm {
        alpha: cx.float("alpha", 1.0)?,
        beta,
        trans_a: cx.flag("transA", false)?,
        trans_b: cx.flag("transB", false)?,
    };
    let dtype = cx.dtype(inputs[0]);
    // Sums of products of 8 bits are wider, and so is what is added to them.
    if matches!(dtype, DType::I8 | DType::U8)
        && let Some(addend) = inputs.get_mut(2)
    {
        cx.expect_type(*addend, |addend| addend == dtype, dtype.name())?;
        *addend = cx.cast(*addend, DType::I32)?;
    }
    let y = if beta == 0.0 && inputs.len() > 2 {
        // Its shape must fit, and its elements need not be numbers.
        cx.add(gemm.clone(), &inputs)?;
        cx.add(gemm, &inputs[..2])?
    } else {
        cx.add(gemm, &inputs)?
    };
    cx.cast(y, dtype)
}
