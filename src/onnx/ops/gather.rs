//! Operators that read or write elements whose positions are values.

use nestjit_ir::{CheckKind, DType};

use super::super::limit;
use super::{Halt, NodeCx, OpEntry, Result, axis, extent, one, op};
use crate::graph::{Binary, Op, Reduction, ValueId};

pub(super) const OPS: &[OpEntry] = &[
    op("Gather", 1, |cx| {
        let x = cx.input(0)?;
        let axis = cx.axis(0, cx.rank(x))?;
        one(gather_by_input(cx, x, 1, axis))
    }),
    op("GatherElements", 11, |cx| {
        let (x, indices) = (cx.input(0)?, cx.input(1)?);
        let axis = cx.axis(0, cx.rank(x))?;
        if cx.rank(x) == 1 && cx.rank(indices) == 1 {
            return one(gather_by_input(cx, x, 1, 0));
        }
        let extent = cx.shape(x)[axis] as i64;
        let indices = cx.checked(indices, 1, CheckKind::IndexFromEnd, 0, extent)?;
        one(gather_elements(cx, x, indices, axis))
    }),
    op("GatherND", 11, gather_nd),
    op("OneHot", 9, one_hot),
    op("Scatter", 9, scatter_elements).until(10),
    op("ScatterElements", 11, scatter_elements),
    op("ScatterND", 11, scatter_nd),
];

/// `x` indexed along `axis` by the input at `input`, which a gather checks by itself; constants are checked here.
pub(super) fn gather_by_input(cx: &mut NodeCx<'_>, x: ValueId, input: usize, axis: usize) -> Result<ValueId> {
    let mut indices = cx.input(input)?;
    if !matches!(cx.dtype(indices), DType::I64 | DType::I32) {
        return Err(Halt::shape(format!("indices must be i64 or i32, not {}", cx.dtype(indices))));
    }
    if cx.constant_of(indices).is_some() {
        let extent = cx.shape(x)[axis] as i64;
        indices = cx.checked(indices, input, CheckKind::IndexFromEnd, 0, extent)?;
    }
    cx.gather(x, indices, axis)
}

/// `0, stride, 2 * stride, ..` along dimension `d` of a tensor of this rank.
pub(super) fn steps(
    cx: &mut NodeCx<'_>,
    rank: usize,
    d: usize,
    extent: usize,
    stride: usize,
) -> Result<ValueId> {
    limit::check_table(DType::I64, &[extent])?;
    let values: Vec<i64> = (0..extent).map(|i| (i * stride) as i64).collect();
    let mut shape = vec![1; rank];
    shape[d] = extent;
    cx.values(&shape, &values)
}

fn strides(shape: &[usize]) -> Vec<usize> {
    (0..shape.len()).map(|d| shape[d + 1..].iter().product()).collect()
}

/// Positions in the flat tensor of shape `shape` of elements whose index along `axis` is given (it is inside), and is
/// the element's own along the others.
fn flat_positions(cx: &mut NodeCx<'_>, shape: &[usize], indices: ValueId, axis: usize) -> Result<ValueId> {
    let extents = cx.shape(indices);
    let fits = (0..shape.len()).all(|d| d == axis || extents.get(d).is_some_and(|n| *n <= shape[d]));
    if extents.len() != shape.len() || !fits {
        return Err(Halt::shape(format!(
            "indices of shape {extents:?} do not fit a tensor of shape {shape:?} along axis {axis}"
        )));
    }
    let strides = strides(shape);
    let mut position = cx.binary_const(Binary::Mul, indices, strides[axis] as f64)?;
    for d in (0..shape.len()).filter(|d| *d != axis) {
        let steps = steps(cx, shape.len(), d, extents[d], strides[d])?;
        position = cx.binary(Binary::Add, position, steps)?;
    }
    Ok(position)
}

/// `y[i, j, ..] = x[indices[i, j, ..], j, ..]`, and the like along other axes. The indices are `i64`, and inside.
pub(super) fn gather_elements(
    cx: &mut NodeCx<'_>,
    x: ValueId,
    indices: ValueId,
    axis: usize,
) -> Result<ValueId> {
    let shape = cx.shape(x);
    // Along the only dimension that matters it is a plain gather.
    if shape.len() == 1 {
        return cx.gather(x, indices, 0);
    }
    let position = flat_positions(cx, &shape, indices, axis)?;
    let flat = cx.reshape(x, &[shape.iter().product()])?;
    cx.gather(flat, position, 0)
}

/// Rows of a matrix that tuples of indices (input 1) select: the number of rows of a tensor of shape `shape`, how long
/// they are, and which are meant; `batch` dimensions are the element's own.
fn rows(
    cx: &mut NodeCx<'_>,
    shape: &[usize],
    indices: ValueId,
    batch: usize,
) -> Result<(usize, usize, ValueId)> {
    let extents = cx.shape(indices);
    let Some((tuple, outer)) = extents.split_last() else {
        return Err(Halt::shape("the indices must have a dimension"));
    };
    let depth = batch.saturating_add(*tuple);
    if depth > shape.len() || batch > outer.len() || shape[..batch] != outer[..batch] {
        return Err(Halt::shape(format!(
            "indices of shape {extents:?} do not fit a tensor of shape {shape:?} with {batch} batch dimensions"
        )));
    }
    let strides = strides(&shape[..depth]);
    let mut row = cx.values(&vec![1; outer.len()], &[0i64])?;
    for d in 0..batch {
        let steps = steps(cx, outer.len(), d, shape[d], strides[d])?;
        row = cx.binary(Binary::Add, row, steps)?;
    }
    for j in 0..*tuple {
        let index = cx.narrow(indices, outer.len(), j, 1)?;
        let index = cx.reshape(index, outer)?;
        let index = cx.checked(index, 1, CheckKind::IndexFromEnd, 0, shape[batch + j] as i64)?;
        let steps = cx.binary_const(Binary::Mul, index, strides[batch + j] as f64)?;
        row = cx.binary(Binary::Add, row, steps)?;
    }
    let row = cx.expand(row, outer)?;
    Ok((shape[..depth].iter().product(), shape[depth..].iter().product(), row))
}

pub(super) fn gather_nd(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let (x, indices) = (cx.input(0)?, cx.input(1)?);
    let (shape, extents) = (cx.shape(x), cx.shape(indices));
    let batch = extent(cx.int("batch_dims", 0)?, "batch_dims")?;
    let (count, length, row) = rows(cx, &shape, indices, batch)?;
    let flat = cx.reshape(x, &[count, length])?;
    let y = cx.gather(flat, row, 0)?;
    let outer = &extents[..extents.len() - 1];
    let depth = batch + extents[outer.len()];
    one(cx.reshape(y, &[outer, &shape[depth..]].concat()))
}

fn reduction(cx: &NodeCx<'_>) -> Result<Option<Reduction>> {
    Ok(match cx.string("reduction", "none")? {
        "none" => None,
        "add" => Some(Reduction::Sum),
        "mul" => Some(Reduction::Prod),
        "max" => Some(Reduction::Max),
        "min" => Some(Reduction::Min),
        other => return Err(Halt::invalid(format!("there is no reduction '{}'", other.escape_debug()))),
    })
}

fn scatter_elements(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let (x, indices, updates) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let shape = cx.shape(x);
    let axis = axis(cx.int("axis", 0)?, shape.len())?;
    let reduction = reduction(cx)?;
    if cx.shape(updates) != cx.shape(indices) {
        return Err(Halt::shape("indices and updates must have one shape"));
    }
    let indices = cx.checked(indices, 1, CheckKind::IndexFromEnd, 0, shape[axis] as i64)?;
    let position = flat_positions(cx, &shape, indices, axis)?;
    let count = cx.elements(updates);
    let flat = [
        cx.reshape(x, &[shape.iter().product(), 1])?,
        cx.reshape(position, &[count])?,
        cx.reshape(updates, &[count, 1])?,
    ];
    let y = cx.add(Op::Scatter { reduction }, &flat)?;
    one(cx.reshape(y, &shape))
}

fn scatter_nd(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let (x, indices, updates) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let shape = cx.shape(x);
    let reduction = reduction(cx)?;
    let (count, length, row) = rows(cx, &shape, indices, 0)?;
    let places = cx.elements(row);
    if cx.elements(updates) != places * length {
        return Err(Halt::shape(format!(
            "updates of shape {:?} do not fit {places} places",
            cx.shape(updates)
        )));
    }
    let flat = [
        cx.reshape(x, &[count, length])?,
        cx.reshape(row, &[places])?,
        cx.reshape(updates, &[places, length])?,
    ];
    let y = cx.add(Op::Scatter { reduction }, &flat)?;
    one(cx.reshape(y, &shape))
}

fn one_hot(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let (indices, depth, values) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let depth = cx.known_scalar(depth, "the depth")?;
    // Fractions are cut off; NaN is less than nothing.
    if depth.is_nan() || depth < 1.0 {
        return Err(Halt::invalid(format!("the depth is {depth}, but there must be a class at least")));
    }
    let depth = extent(depth as i64, "the depth")?;
    let shape = cx.shape(indices);
    let axis = cx.axis(-1, shape.len() + 1)?;
    // Negative indices count from the end; what is outside is no class at all.
    let index = cx.cast(indices, DType::I64)?;
    let shifted = cx.binary_const(Binary::Add, index, depth as f64)?;
    let negative = cx.binary_const(Binary::Lt, index, 0.0)?;
    let index = cx.select(negative, shifted, index)?;
    let index = cx.unsqueeze(index, axis)?;
    let classes = steps(cx, shape.len() + 1, axis, depth, 1)?;
    let hit = cx.binary(Binary::Eq, index, classes)?;
    if cx.shape(values) != [2] {
        return Err(Halt::shape("the values must be two, the off and the on value"));
    }
    let mut sides = [values; 2];
    for (i, side) in sides.iter_mut().enumerate() {
        let value = cx.narrow(values, 0, i, 1)?;
        *side = cx.reshape(value, &[])?;
    }
    one(cx.select(hit, sides[1], sides[0]))
}
