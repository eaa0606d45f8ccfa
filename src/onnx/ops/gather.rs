//! Operators that read or write elements whose positions are values.

use nestjit_ir::DType;

use super::super::limit;
use super::super::node::{NodeCx, axis, extent};
use super::{OpEntry, one, op};
use crate::error::{Error, Result};
use crate::graph::{Binary, Op, Reduction, ValueId};

pub(super) const OPS: &[OpEntry] = &[
    op("Gather", 1, |cx| {
        let (x, indices) = (cx.input(0)?, cx.input(1)?);
        let axis = cx.axis(0, cx.rank(x))?;
        one(cx.gather(x, indices, axis))
    }),
    op("GatherElements", 11, |cx| {
        let (x, indices) = (cx.input(0)?, cx.input(1)?);
        let axis = cx.axis(0, cx.rank(x))?;
        one(gather_elements(cx, x, indices, axis))
    }),
    op("GatherND", 11, gather_nd),
    op("OneHot", 9, one_hot),
    op("Scatter", 9, scatter_elements).until(10),
    op("ScatterElements", 11, scatter_elements),
    op("ScatterND", 11, scatter_nd),
];

/// What no dimension has: a run that reads there ends with an error.
const OUTSIDE: f64 = i64::MAX as f64;

/// Indices counted from the start of a dimension of extent `n`, as `i64`.
pub(super) fn from_start(cx: &mut NodeCx<'_, '_>, indices: ValueId, n: usize) -> Result<ValueId> {
    let indices = cx.cast(indices, DType::I64)?;
    if let Some(tensor) = cx.constant_of(indices)
        && tensor.values::<i64>()?.iter().all(|i| (0..n as i64).contains(i))
    {
        return Ok(indices);
    }
    let shifted = cx.binary_const(Binary::Add, indices, n as f64)?;
    let negative = cx.binary_const(Binary::Lt, indices, 0.0)?;
    cx.select(negative, shifted, indices)
}

/// Which of the indices are inside a dimension of extent `n`.
fn inside(cx: &mut NodeCx<'_, '_>, indices: ValueId, n: usize) -> Result<ValueId> {
    let low = cx.binary_const(Binary::Ge, indices, 0.0)?;
    let high = cx.binary_const(Binary::Lt, indices, n as f64)?;
    cx.binary(Binary::And, low, high)
}

/// `0, stride, 2 * stride, ..` along dimension `d` of a tensor of this rank.
pub(super) fn steps(
    cx: &mut NodeCx<'_, '_>,
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

/// Positions in the flat tensor of shape `shape` of elements whose index along `axis` is given, and is the
/// element's own along the others.
fn flat_positions(
    cx: &mut NodeCx<'_, '_>,
    shape: &[usize],
    indices: ValueId,
    axis: usize,
) -> Result<ValueId> {
    let extents = cx.shape(indices);
    let fits = (0..shape.len()).all(|d| d == axis || extents.get(d).is_some_and(|n| *n <= shape[d]));
    if extents.len() != shape.len() || !fits {
        return Err(Error::shape(format!("indices of shape {extents:?} into {shape:?} along axis {axis}")));
    }
    let index = from_start(cx, indices, shape[axis])?;
    let valid = inside(cx, index, shape[axis])?;
    let strides = strides(shape);
    let mut position = cx.binary_const(Binary::Mul, index, strides[axis] as f64)?;
    for d in (0..shape.len()).filter(|d| *d != axis) {
        let steps = steps(cx, shape.len(), d, extents[d], strides[d])?;
        position = cx.binary(Binary::Add, position, steps)?;
    }
    let outside = cx.scalar(DType::I64, OUTSIDE);
    cx.select(valid, position, outside)
}

/// `y[i, j, ..] = x[indices[i, j, ..], j, ..]`, and the like along other axes.
pub(super) fn gather_elements(
    cx: &mut NodeCx<'_, '_>,
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

/// Rows of a matrix that tuples of indices select: the number of rows of a tensor of shape `shape`, how long they
/// are, and which are meant; `batch` dimensions are the element's own.
fn rows(
    cx: &mut NodeCx<'_, '_>,
    shape: &[usize],
    indices: ValueId,
    batch: usize,
) -> Result<(usize, usize, ValueId)> {
    let extents = cx.shape(indices);
    let Some((tuple, outer)) = extents.split_last() else {
        return Err(Error::shape("the indices must have a dimension"));
    };
    let depth = batch.saturating_add(*tuple);
    if depth > shape.len() || batch > outer.len() || shape[..batch] != outer[..batch] {
        return Err(Error::shape(format!(
            "indices of shape {extents:?} into {shape:?}, {batch} of it batch"
        )));
    }
    let strides = strides(&shape[..depth]);
    let mut row = cx.values(&vec![1; outer.len()], &[0i64])?;
    for d in 0..batch {
        let steps = steps(cx, outer.len(), d, shape[d], strides[d])?;
        row = cx.binary(Binary::Add, row, steps)?;
    }
    let mut valid = None;
    for j in 0..*tuple {
        let index = cx.narrow(indices, outer.len(), j, 1)?;
        let index = cx.reshape(index, outer)?;
        let n = shape[batch + j];
        let index = from_start(cx, index, n)?;
        let here = inside(cx, index, n)?;
        valid = Some(match valid {
            None => here,
            Some(valid) => cx.binary(Binary::And, valid, here)?,
        });
        let steps = cx.binary_const(Binary::Mul, index, strides[batch + j] as f64)?;
        row = cx.binary(Binary::Add, row, steps)?;
    }
    let mut row = cx.expand(row, outer)?;
    if let Some(valid) = valid {
        let outside = cx.scalar(DType::I64, OUTSIDE);
        row = cx.select(valid, row, outside)?;
    }
    Ok((shape[..depth].iter().product(), shape[depth..].iter().product(), row))
}

fn gather_nd(cx: &mut NodeCx<'_, '_>) -> Result<Vec<ValueId>> {
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

fn reduction(cx: &NodeCx<'_, '_>) -> Result<Option<Reduction>> {
    Ok(match cx.string("reduction", "none")? {
        "none" => None,
        "add" => Some(Reduction::Sum),
        "mul" => Some(Reduction::Prod),
        "max" => Some(Reduction::Max),
        "min" => Some(Reduction::Min),
        other => return Err(Error::invalid(format!("the reduction '{}'", other.escape_debug()))),
    })
}

fn scatter_elements(cx: &mut NodeCx<'_, '_>) -> Result<Vec<ValueId>> {
    let (x, indices, updates) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let shape = cx.shape(x);
    let axis = axis(cx.int("axis", 0)?, shape.len())?;
    let reduction = reduction(cx)?;
    if cx.shape(updates) != cx.shape(indices) {
        return Err(Error::shape("indices and updates must have one shape"));
    }
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

fn scatter_nd(cx: &mut NodeCx<'_, '_>) -> Result<Vec<ValueId>> {
    let (x, indices, updates) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let shape = cx.shape(x);
    let reduction = reduction(cx)?;
    let (count, length, row) = rows(cx, &shape, indices, 0)?;
    let places = cx.elements(row);
    if cx.elements(updates) != places * length {
        return Err(Error::shape(format!("updates of shape {:?} at {places} places", cx.shape(updates))));
    }
    let flat = [
        cx.reshape(x, &[count, length])?,
        cx.reshape(row, &[places])?,
        cx.reshape(updates, &[places, length])?,
    ];
    let y = cx.add(Op::Scatter { reduction }, &flat)?;
    one(cx.reshape(y, &shape))
}

fn one_hot(cx: &mut NodeCx<'_, '_>) -> Result<Vec<ValueId>> {
    let (indices, depth, values) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let depth = cx.known_scalar(depth, "the depth")?;
    let depth = extent(depth as i64, "the depth")?;
    let shape = cx.shape(indices);
    let axis = cx.axis(-1, shape.len() + 1)?;
    let index = cx.cast(indices, DType::I64)?;
    let index = from_start(cx, index, depth)?;
    let index = cx.unsqueeze(index, axis)?;
    let classes = steps(cx, shape.len() + 1, axis, depth, 1)?;
    let hit = cx.binary(Binary::Eq, index, classes)?;
    if cx.shape(values) != [2] {
        return Err(Error::shape("the values must be the off and the on value"));
    }
    let mut sides = [values; 2];
    for (i, side) in sides.iter_mut().enumerate() {
        let value = cx.narrow(values, 0, i, 1)?;
        *side = cx.reshape(value, &[])?;
    }
    one(cx.select(hit, sides[1], sides[0]))
}
