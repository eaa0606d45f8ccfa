//! Elementwise operators, and softmax, with a bias or a residual before them.

use super::{Halt, NodeCx, OpEntry, Result, contrib, one};
use crate::graph::{Binary, Op, Unary, ValueId};

pub(in super::super) const OPS: &[OpEntry] = &[
    contrib("BiasAdd", bias_add).in_f32(&[0]),
    contrib("BiasGelu", |cx| {
        cx.expect_inputs(2)?;
        let bias = Some(cx.input(1)?);
        biased(cx, bias, Unary::GeluErf)
    })
    .in_f32(&[0]),
    contrib("BiasSoftmax", bias_softmax).in_f32(&[0]),
    contrib("BiasSplitGelu", bias_split_gelu).in_f32(&[0]),
    contrib("FastGelu", |cx| {
        cx.expect_inputs(2)?;
        let bias = cx.optional(1);
        biased(cx, bias, Unary::GeluTanh)
    })
    .in_f32(&[0]),
    contrib("Gelu", |cx| {
        cx.expect_inputs(1)?;
        biased(cx, None, Unary::GeluErf)
    }),
    contrib("QuickGelu", |cx| {
        cx.expect_inputs(1)?;
        let alpha = cx.float("alpha", 1.702)?;
        let x = cx.input(0)?;
        cx.expect_float(x)?;
        let scaled = cx.binary_const(Binary::Mul, x, alpha)?;
        let gate = cx.unary(Unary::Sigmoid, scaled)?;
        one(cx.binary(Binary::Mul, x, gate))
    })
    .in_f32(&[0]),
];

/// `x` plus what broadcasts to it.
fn plus(cx: &mut NodeCx<'_>, x: ValueId, addend: ValueId, what: &str) -> Result<ValueId> {
    let y = cx.binary(Binary::Add, x, addend)?;
    match cx.shape(y) == cx.shape(x) {
        true => Ok(y),
        false => Err(Halt::shape(format!(
            "the {what} of shape {:?} does not broadcast to {:?}",
            cx.shape(addend),
            cx.shape(x)
        ))),
    }
}

/// A function of input 0 plus a bias, if there is one.
fn biased(cx: &mut NodeCx<'_>, bias: Option<ValueId>, function: Unary) -> Result<Vec<ValueId>> {
    let mut x = cx.input(0)?;
    cx.expect_float(x)?;
    if let Some(bias) = bias {
        x = plus(cx, x, bias, "bias")?;
    }
    one(cx.unary(function, x))
}

fn bias_add(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.expect_inputs(3)?;
    let (x, bias, skip) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    cx.expect_float(x)?;
    let y = plus(cx, x, bias, "bias")?;
    one(plus(cx, y, skip, "residual"))
}

/// The first half of the last dimension times Gelu of the second one.
fn bias_split_gelu(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.expect_inputs(2)?;
    let (x, bias) = (cx.input(0)?, cx.input(1)?);
    cx.expect_float(x)?;
    let x = plus(cx, x, bias, "bias")?;
    let shape = cx.shape(x);
    let Some((width, last)) = shape.last().filter(|n| n.is_multiple_of(2)).zip(shape.len().checked_sub(1))
    else {
        return Err(Halt::shape(format!("the last dimension of {shape:?} cannot be cut in half")));
    };
    let half = width / 2;
    let (left, right) = (cx.narrow(x, last, 0, half)?, cx.narrow(x, last, half, half)?);
    let gate = cx.unary(Unary::GeluErf, right)?;
    one(cx.binary(Binary::Mul, left, gate))
}

/// Softmax of a sum over the dimensions from `axis` on.
fn bias_softmax(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.expect_inputs(2)?;
    // How the bias is broadcast; its shape says it, too.
    cx.required_int("is_inner_broadcast")?;
    let (x, bias) = (cx.input(0)?, cx.input(1)?);
    cx.expect_float(x)?;
    let shape = cx.shape(x);
    let axis = cx.axis(1, shape.len())?;
    let x = plus(cx, x, bias, "bias")?;
    if axis + 1 == shape.len() {
        return one(cx.add(Op::Softmax { axis }, &[x]));
    }
    let flat = [shape[..axis].iter().product(), shape[axis..].iter().product()];
    let flat = cx.reshape(x, &flat)?;
    let y = cx.add(Op::Softmax { axis: 1 }, &[flat])?;
    one(cx.reshape(y, &shape))
}
