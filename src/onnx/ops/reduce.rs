//! Reductions, extrema's positions, and running sums.

use nestjit_ir::DType;

use super::{Halt, NodeCx, OpEntry, Result, axes, axis, one, op};
use crate::graph::{Binary, Op, PadMode, Reduction, ValueId};

pub(super) const OPS: &[OpEntry] = &[
    op("ArgMax", 1, |cx| arg_reduce(cx, true)),
    op("ArgMin", 1, |cx| arg_reduce(cx, false)),
    op("CumProd", 26, |cx| running(cx, Binary::Mul, 1.0)).in_f32(&[0]),
    op("CumSum", 11, |cx| running(cx, Binary::Add, 0.0)).in_f32(&[0]),
    op("ReduceL1", 1, |cx| reduce(cx, Reduction::L1, 18)),
    op("ReduceL2", 1, |cx| reduce(cx, Reduction::L2, 18)),
    op("ReduceLogSum", 1, |cx| reduce(cx, Reduction::LogSum, 18)),
    op("ReduceLogSumExp", 1, |cx| reduce(cx, Reduction::LogSumExp, 18)),
    op("ReduceMax", 1, |cx| reduce(cx, Reduction::Max, 18)),
    op("ReduceMean", 1, |cx| reduce(cx, Reduction::Mean, 18)),
    op("ReduceMin", 1, |cx| reduce(cx, Reduction::Min, 18)),
    op("ReduceProd", 1, |cx| reduce(cx, Reduction::Prod, 18)),
    op("ReduceSum", 1, |cx| reduce(cx, Reduction::Sum, 13)),
    op("ReduceSumSquare", 1, |cx| reduce(cx, Reduction::SumSquare, 18)),
];

/// `input_since` is the version from which on the axes are an input.
fn reduce(cx: &mut NodeCx<'_>, op: Reduction, input_since: i64) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let keep_dims = cx.flag("keepdims", true)?;
    let noop = cx.opset >= input_since && cx.flag("noop_with_empty_axes", false)?;
    let given = match cx.opset < input_since {
        true => cx.attributes.ints("axes")?.map(<[i64]>::to_vec),
        false => cx.ints_or_input("axes", 1)?,
    };
    let rank = cx.rank(x);
    let axes = match given.as_deref() {
        None | Some([]) if noop => Vec::new(),
        None | Some([]) => (0..rank).collect(),
        Some(list) => axes(list, rank)?,
    };
    one(reduce_axes(cx, op, x, &axes, keep_dims))
}

fn reduce_axes(
    cx: &mut NodeCx<'_>,
    op: Reduction,
    x: ValueId,
    axes: &[usize],
    keep_dims: bool,
) -> Result<ValueId> {
    use Reduction::*;
    let dtype = cx.dtype(x);
    match op {
        Max if dtype == DType::Bool => cx.reduce(Any, x, axes, keep_dims),
        Min if dtype == DType::Bool => cx.reduce(All, x, axes, keep_dims),
        Mean | L2 | LogSum | LogSumExp if dtype.is_int() => {
            let wide = cx.cast(x, DType::F64)?;
            let y = cx.reduce(op, wide, axes, keep_dims)?;
            cx.cast(y, dtype)
        }
        _ => cx.reduce(op, x, axes, keep_dims),
    }
}

fn arg_reduce(cx: &mut NodeCx<'_>, max: bool) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let axis = cx.axis(0, cx.rank(x))?;
    let keep_dims = cx.flag("keepdims", true)?;
    let last = cx.flag("select_last_index", false)?;
    one(cx.add(Op::ArgReduce { max, axis, keep_dims, last }, &[x]))
}

/// A running sum or product, in as many steps as the extent has binary digits: each adds the values half as far
/// away again.
fn running(cx: &mut NodeCx<'_>, op: Binary, neutral: f64) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let (exclusive, reverse) = (cx.flag("exclusive", false)?, cx.flag("reverse", false)?);
    let along = cx.input(1)?;
    let rank = cx.rank(x);
    if rank == 0 {
        return Err(Halt::invalid("the operand must have a dimension"));
    }
    let axis = axis(cx.known_int(along, "the axis")?, rank)?;
    let shift = |cx: &mut NodeCx<'_>, x, by: usize| {
        let (mut begin, mut end) = (vec![0i64; rank], vec![0i64; rank]);
        (begin[axis], end[axis]) = (by as i64, -(by as i64));
        if reverse {
            std::mem::swap(&mut begin[axis], &mut end[axis]);
        }
        cx.add(Op::Pad { begin, end, mode: PadMode::Constant(neutral) }, &[x])
    };
    let extent = cx.shape(x)[axis];
    let mut y = if exclusive && extent > 0 { shift(cx, x, 1)? } else { x };
    let mut distance = 1;
    while distance < extent {
        let shifted = shift(cx, y, distance)?;
        y = cx.binary(op, y, shifted)?;
        distance *= 2;
    }
    Ok(vec![y])
}
