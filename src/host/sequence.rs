//! Sequences: lists of tensors that grow and shrink; and what loops do with the slices they read and collect.

use nestjit_ir::DType;

use super::movement::{concat as concat_tensors, narrow, parts, position};
use super::{Item, axis, extents, int, ints};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// An element of a sequence.
pub(crate) fn at(list: &[Tensor], index: &Tensor) -> Result<Tensor> {
    Ok(list[position(index, list.len(), "position")?].clone())
}

/// A sequence of tensors.
pub(crate) fn construct(items: &[Item]) -> Result<Vec<Item>> {
    let list: Vec<Tensor> = items.iter().map(|item| item.tensor().cloned()).collect::<Result<_>>()?;
    if let Some(other) = list.iter().find(|t| t.dtype() != list[0].dtype()) {
        return Err(one_type(list[0].dtype(), other.dtype()));
    }
    Ok(vec![Item::Sequence(list)])
}

fn one_type(a: DType, b: DType) -> Error {
    Error::shape(format!("a sequence cannot hold both {a} and {b}"))
}

/// A sequence without an element.
pub(crate) fn erase(list: &[Tensor], index: Option<&Tensor>) -> Result<Vec<Item>> {
    let last = list.len().checked_sub(1).ok_or_else(|| Error::invalid("the sequence is empty"))?;
    let index = index.map_or(Ok(last), |index| position(index, list.len(), "position"))?;
    let mut list = list.to_vec();
    list.remove(index);
    Ok(vec![Item::Sequence(list)])
}

/// A sequence with one more.
pub(crate) fn insert(list: &[Tensor], new: &Tensor, index: Option<&Tensor>) -> Result<Vec<Item>> {
    if let Some(first) = list.first().filter(|first| first.dtype() != new.dtype()) {
        return Err(one_type(first.dtype(), new.dtype()));
    }
    let index = match index {
        None => list.len(),
        // Behind the last element counts, too, but from the end it is counted without it.
        Some(index) if int(index, "the position")? == list.len() as i64 => list.len(),
        Some(index) => position(index, list.len(), "position")?,
    };
    let mut list = list.to_vec();
    list.insert(index, new.clone());
    Ok(vec![Item::Sequence(list)])
}

/// The tensors of a sequence, joined along an axis, or along a new one.
pub(crate) fn concat(list: &[Tensor], along: i64, new_axis: bool) -> Result<Tensor> {
    match list.first() {
        Some(_) if new_axis => stack(list, along, false),
        Some(first) => join(list, axis(along, first.shape().len())?),
        None => Err(Error::invalid("the sequence is empty")),
    }
}

/// A sequence of the parts of a tensor; those of extent 1 keep the axis if `keep_dims`, or if extents are given.
pub(crate) fn split(x: &Tensor, sizes: Option<&Tensor>, along: i64, keep_dims: bool) -> Result<Vec<Item>> {
    let d = axis(along, x.shape().len())?;
    let n = x.shape()[d];
    let list = match sizes {
        None if keep_dims => parts(x, d, &vec![1; n])?,
        None => (0..n).map(|i| slice_at(x, d, i)).collect::<Result<_>>()?,
        Some(size) if size.shape().is_empty() => {
            let size = usize::try_from(int(size, "the extent")?).ok().filter(|size| *size > 0);
            let size = size.ok_or_else(|| Error::invalid("the extent of a part must be positive"))?;
            let sizes: Vec<usize> = (0..n.div_ceil(size)).map(|i| size.min(n - i * size)).collect();
            parts(x, d, &sizes)?
        }
        Some(sizes) => parts(x, d, &extents(&ints(sizes, "the extents")?)?)?,
    };
    Ok(vec![Item::Sequence(list)])
}

/// Tensors joined along a dimension.
///
/// # Errors
/// If there is none, or if they do not fit.
fn join(list: &[Tensor], dimension: usize) -> Result<Tensor> {
    concat_tensors(&list.iter().collect::<Vec<_>>(), dimension)
}

/// Tensors of one shape joined along a new dimension, from the last to the first if that is asked for.
///
/// # Errors
/// If there is none, if they do not fit, or if there cannot be such a dimension.
pub fn stack(list: &[Tensor], along: i64, reverse: bool) -> Result<Tensor> {
    let Some(first) = list.first() else {
        return Err(Error::invalid("there is nothing to join"));
    };
    let d = axis(along, first.shape().len() + 1)?;
    let mut slices = Vec::with_capacity(list.len());
    for tensor in list {
        let mut shape = tensor.shape().to_vec();
        if d > shape.len() {
            return Err(Error::shape(format!("{first:?} and {tensor:?} cannot be joined")));
        }
        shape.insert(d, 1);
        slices.push(tensor.reshape(&shape)?);
    }
    if reverse {
        slices.reverse();
    }
    join(&slices, d)
}

/// Element `index` along a dimension, which both exist; the dimension is gone.
///
/// # Errors
/// [`crate::ErrorKind::Limit`] if there is no memory.
pub fn slice_at(x: &Tensor, dimension: usize, index: usize) -> Result<Tensor> {
    let mut shape = x.shape().to_vec();
    shape.remove(dimension);
    narrow(x, dimension, index, 1)?.reshape(&shape)
}
