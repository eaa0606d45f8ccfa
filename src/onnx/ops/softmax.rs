//! Softmax and its relatives.

use super::gather::steps;
use super::{NodeCx, OpEntry, Result, axis, one, op};
use crate::graph::{Binary, Op, ValueId};

pub(super) const OPS: &[OpEntry] = &[
    op("Hardmax", 1, |cx| along_axis(cx, hardmax)),
    op("LogSoftmax", 1, |cx| along_axis(cx, |cx, x, axis| cx.add(Op::LogSoftmax { axis }, &[x]))),
    op("Softmax", 1, |cx| along_axis(cx, |cx, x, axis| cx.add(Op::Softmax { axis }, &[x]))),
];

type Along = fn(&mut NodeCx<'_>, ValueId, usize) -> Result<ValueId>;

/// Up to version 12 the dimensions from `axis` on count as one.
fn along_axis(cx: &mut NodeCx<'_>, along: Along) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let shape = cx.shape(x);
    if cx.opset >= 13 {
        let axis = cx.axis(-1, shape.len())?;
        return one(along(cx, x, axis));
    }
    // 0..=rank, or negative: -rank..=-1.
    let axis = match cx.int("axis", 1)? {
        negative @ ..0 => axis(negative, shape.len())?,
        first => axis(first, shape.len() + 1)?,
    };
    if axis + 1 == shape.len() {
        return one(along(cx, x, axis));
    }
    let flat = [shape[..axis].iter().product(), shape[axis..].iter().product()];
    let flat = cx.reshape(x, &flat)?;
    let y = along(cx, flat, 1)?;
    one(cx.reshape(y, &shape))
}

/// 1 where the first maximum is, 0 elsewhere.
fn hardmax(cx: &mut NodeCx<'_>, x: ValueId, axis: usize) -> Result<ValueId> {
    let shape = cx.shape(x);
    if shape[axis] == 0 {
        return Ok(x);
    }
    let positions = steps(cx, shape.len(), axis, shape[axis], 1)?;
    let first = cx.add(Op::ArgReduce { max: true, axis, keep_dims: true, last: false }, &[x])?;
    let hit = cx.binary(Binary::Eq, positions, first)?;
    cx.cast(hit, cx.dtype(x))
}
