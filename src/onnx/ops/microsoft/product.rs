//! Products of matrices and convolutions with something before or after them.

use super::super::super::limit;
use super::super::conv::{conv, convolution, transposed_convolution};
use super::super::matmul::gemm_product;
use super::fused::{Parameters, activated};
use super::layout::{channels_last, to_first};
use super::{Halt, NodeCx, OpEntry, Result, contrib, extent, extents, one};
use crate::graph::{Binary, ValueId};

pub(in super::super) const OPS: &[OpEntry] = &[
    contrib("ConvTransposeWithDynamicPads", conv_transpose_with_pads).in_f32(&[0]),
    contrib("FusedConv", fused_conv).in_f32(&[0]),
    contrib("FusedGemm", |cx| {
        cx.expect_inputs(3)?;
        let y = gemm_product(cx)?;
        let parameters = Parameters::named(cx)?;
        one(activated(cx, y, &parameters))
    })
    .in_f32(&[0]),
    contrib("FusedMatMul", |cx| fused_matmul(cx, true)).in_f32(&[0]),
    contrib("NhwcConv", |cx| {
        weight_with_channels_first(cx)?;
        channels_last(cx, conv)
    }),
    contrib("NhwcFusedConv", |cx| {
        weight_with_channels_first(cx)?;
        if let Some(addend) = cx.optional(3) {
            let addend = to_first(cx, addend)?;
            cx.set_input(3, addend);
        }
        channels_last(cx, fused_conv)
    })
    .in_f32(&[0]),
    contrib("TransposeMatMul", |cx| fused_matmul(cx, false)).in_f32(&[0]),
];

/// `alpha` times a product of matrices, each of which may be transposed. With `batches`, attributes say whether the first
/// dimension of an operand stands for the rows of its matrices and those behind it for batches.
fn fused_matmul(cx: &mut NodeCx<'_>, batches: bool) -> Result<Vec<ValueId>> {
    cx.expect_inputs(2)?;
    let alpha = cx.float("alpha", 1.0)?;
    let sides = [("transA", "transBatchA"), ("transB", "transBatchB")];
    let mut operands = [cx.input(0)?, cx.input(1)?];
    for (operand, (transposed, batch_first)) in operands.iter_mut().zip(sides) {
        cx.expect_float(*operand)?;
        let (transposed, rows_first) = (cx.flag(transposed, false)?, batches && cx.flag(batch_first, false)?);
        *operand = oriented(cx, *operand, transposed, rows_first)?;
    }
    let mut y = cx.matmul(operands[0], operands[1])?;
    if alpha != 1.0 {
        y = cx.binary_const(Binary::Mul, y, alpha)?;
    }
    Ok(vec![y])
}

/// An operand with its batch dimensions first, then rows and columns. Vectors are what they are.
fn oriented(cx: &mut NodeCx<'_>, x: ValueId, transposed: bool, rows_first: bool) -> Result<ValueId> {
    let rank = cx.rank(x);
    if rank < 2 {
        return Ok(x);
    }
    let mut perm: Vec<usize> = (0..rank).collect();
    if rows_first {
        perm[..rank - 1].rotate_left(1);
    }
    if transposed {
        perm.swap(rank - 2, rank - 1);
    }
    match perm.is_sorted() {
        true => Ok(x),
        false => cx.transpose(x, &perm),
    }
}

/// A convolution, to which a tensor of its shape may be added, with an activation behind it.
fn fused_conv(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.expect_inputs(4)?;
    let (x, weight, bias) = (cx.input(0)?, cx.input(1)?, cx.optional(2));
    let mut y = convolution(cx, x, weight, bias)?;
    if let Some(addend) = cx.optional(3) {
        y = added(cx, y, addend)?;
    }
    let parameters = Parameters::listed(cx)?;
    one(activated(cx, y, &parameters))
}

/// The sum of two tensors of one shape.
pub(super) fn added(cx: &mut NodeCx<'_>, y: ValueId, addend: ValueId) -> Result<ValueId> {
    let (shape, other) = (cx.shape(y), cx.shape(addend));
    if shape != other {
        return Err(Halt::shape(format!("the tensor to be added has the shape {other:?}, not {shape:?}")));
    }
    cx.binary(Binary::Add, y, addend)
}

/// A transposed convolution whose padding is input 2.
fn conv_transpose_with_pads(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.expect_inputs(4)?;
    let (x, bias) = (cx.input(0)?, cx.optional(3));
    let count = cx.rank(x).saturating_sub(2);
    let list = match cx.optional(2) {
        Some(pads) => {
            let list = cx.known_ints(pads, "the input 'Pads'")?;
            extents(&list, "a padding")?
        }
        None => vec![0; 2 * count],
    };
    if list.len() != 2 * count || list.iter().any(|n| *n > limit::ATTRIBUTE) {
        return Err(Halt::invalid(format!("the padding {list:?} does not fit {count} spatial dimensions")));
    }
    let pads = (list[..count].to_vec(), list[count..].to_vec());
    one(transposed_convolution(cx, pads, bias))
}

/// Weights are `[M, C / groups, ..]` as the operator is documented, but some writers have them `[M, .., C / groups]`, too:
/// they are put in order if the number of channels tells which.
fn weight_with_channels_first(cx: &mut NodeCx<'_>) -> Result<()> {
    let (x, weight) = (cx.input(0)?, cx.input(1)?);
    let (shape, filter) = (cx.shape(x), cx.shape(weight));
    let groups = extent(cx.int("group", 1)?, "group")?.max(1);
    let channels = shape.last().map(|c| c / groups);
    if filter.len() > 2 && filter.get(1).copied() != channels && filter.last().copied() == channels {
        let weight = to_first(cx, weight)?;
        cx.set_input(1, weight);
    }
    Ok(())
}
