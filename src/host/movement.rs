//! Parts and repetitions of tensors, where which part is a value: [`slice`], [`split`], [`tile`].

use nestjit_ir::{CheckKind, DType};

use super::{around, axis, extents, int, ints, zeros};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// A tensor of elements of `x`: element `i` is the one at `offset + sum(i * strides)`, which must exist.
pub(crate) fn strided(x: &Tensor, offset: usize, strides: &[isize], shape: &[usize]) -> Result<Tensor> {
    let mut result = zeros(x.dtype(), shape)?;
    if result.is_empty() {
        return Ok(result);
    }
    // What lies together is copied together.
    let (mut block, mut outer) = (1usize, shape.len());
    while outer > 0 && (shape[outer - 1] == 1 || strides[outer - 1] == block as isize) {
        block *= shape[outer - 1];
        outer -= 1;
    }
    let size = x.dtype().size();
    let (mut index, mut at) = (vec![0; outer], offset as isize);
    let bytes = x.bytes()?;
    for chunk in result.bytes_mut()?.chunks_exact_mut(block * size) {
        let from = at as usize * size;
        chunk.copy_from_slice(&bytes[from..from + block * size]);
        for d in (0..outer).rev() {
            index[d] += 1;
            at += strides[d];
            if index[d] < shape[d] {
                break;
            }
            at -= strides[d] * shape[d] as isize;
            index[d] = 0;
        }
    }
    Ok(result)
}

/// The elements' bits as those of another type.
pub(crate) fn bit_cast(x: &Tensor, to: DType) -> Result<Tensor> {
    match x.dtype().size() == to.size() {
        true => Tensor::from_bytes(to, x.shape(), x.bytes()?),
        false => Err(Error::shape(format!("{} and {to} have different numbers of bits", x.dtype()))),
    }
}

/// The strides of a row-major tensor.
pub(crate) fn row_major(shape: &[usize]) -> Vec<isize> {
    (0..shape.len()).map(|d| shape[d + 1..].iter().product::<usize>() as isize).collect()
}

/// Part of a tensor.
pub(crate) fn slice(
    x: &Tensor,
    starts: &Tensor,
    ends: &Tensor,
    axes: Option<&Tensor>,
    steps: Option<&Tensor>,
) -> Result<Tensor> {
    let (starts, ends) = (ints(starts, "the starts")?, ints(ends, "the ends")?);
    let axes = match axes {
        Some(axes) => ints(axes, "the axes")?,
        None => (0..starts.len() as i64).collect(),
    };
    let steps = match steps {
        Some(steps) => ints(steps, "the steps")?,
        None => vec![1; starts.len()],
    };
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
        return Err(Error::shape("starts, ends, axes and steps have different lengths"));
    }
    let mut shape = x.shape().to_vec();
    let mut strides = row_major(&shape);
    let mut offset = 0;
    let mut seen = vec![false; shape.len()];
    for i in 0..starts.len() {
        let d = axis(axes[i], shape.len())?;
        if std::mem::replace(&mut seen[d], true) {
            return Err(Error::invalid(format!("axis {d} is sliced twice")));
        }
        let (n, step) = (x.shape()[d] as i128, i128::from(steps[i]));
        let from_start = |v: i64| i128::from(v) + if v < 0 { n } else { 0 };
        let (start, end) = (from_start(starts[i]), from_start(ends[i]));
        // A start before the first element is that element, whichever way the range runs.
        let (start, distance) = match step {
            0 => return Err(Error::invalid(format!("a step along axis {d} is 0"))),
            1.. => (start.clamp(0, n), end.clamp(0, n) - start.clamp(0, n)),
            _ if n == 0 => (0, 0),
            _ => (start.clamp(0, n - 1), start.clamp(0, n - 1) - end.clamp(-1, n - 1)),
        };
        let count = if distance <= 0 { 0 } else { (distance + step.abs() - 1) / step.abs() };
        shape[d] = count as usize;
        if count > 0 {
            offset += start as usize * strides[d] as usize;
        }
        // With one element or none the stride does not matter, and it might overflow.
        strides[d] = if count > 1 { strides[d] * step as isize } else { 0 };
    }
    strided(x, offset, &strides, &shape)
}

/// `count` elements along dimension `d`, from `start` on; they exist.
pub(crate) fn narrow(x: &Tensor, d: usize, start: usize, count: usize) -> Result<Tensor> {
    let mut shape = x.shape().to_vec();
    let strides = row_major(&shape);
    shape[d] = count;
    strided(x, start * strides[d] as usize, &strides, &shape)
}

/// The extents of parts: as given, or as equal as possible.
pub(crate) fn split(x: &Tensor, sizes: Option<&Tensor>, along: i64, outputs: usize) -> Result<Vec<Tensor>> {
    let d = axis(along, x.shape().len())?;
    let n = x.shape()[d];
    let sizes = match sizes {
        Some(sizes) => extents(&ints(sizes, "the extents")?)?,
        None => {
            let each = n.div_ceil(outputs.max(1));
            (0..outputs).map(|i| (n.saturating_sub(i * each)).min(each)).collect()
        }
    };
    parts(x, d, &sizes)
}

/// Parts of these extents along dimension `d`.
pub(crate) fn parts(x: &Tensor, d: usize, sizes: &[usize]) -> Result<Vec<Tensor>> {
    let n = x.shape()[d];
    if sizes.iter().try_fold(0usize, |sum, size| sum.checked_add(*size)) != Some(n) {
        return Err(Error::shape(format!("parts of extents {sizes:?} do not add up to a dimension of {n}")));
    }
    let mut start = 0;
    let mut parts = Vec::with_capacity(sizes.len());
    for size in sizes {
        parts.push(narrow(x, d, start, *size)?);
        start += size;
    }
    Ok(parts)
}

/// A tensor repeated.
pub(crate) fn tile(x: &Tensor, repeats: &Tensor) -> Result<Tensor> {
    let rank = x.shape().len();
    let repeats = extents(&ints(repeats, "the repeats")?)?;
    if repeats.len() != rank {
        return Err(Error::shape(format!(
            "there are {} repeats, but the tensor has rank {rank}",
            repeats.len()
        )));
    }
    // Each dimension becomes two: how often, and what.
    let (mut shape, mut strides, mut tiled) = (Vec::new(), Vec::new(), Vec::new());
    for ((n, repeat), stride) in x.shape().iter().zip(&repeats).zip(row_major(x.shape())) {
        let too_large = || {
            Error::new(crate::ErrorKind::Limit, format!("{n} elements repeated {repeat} times are too many"))
        };
        tiled.push(n.checked_mul(*repeat).ok_or_else(too_large)?);
        shape.extend([*repeat, *n]);
        strides.extend([0, stride]);
    }
    zeros(x.dtype(), &tiled)?;
    strided(x, 0, &strides, &shape)?.reshape(&tiled)
}

/// Tensors of one type joined along dimension `d`; the others are equal.
pub(crate) fn concat(list: &[&Tensor], d: usize) -> Result<Tensor> {
    let Some(first) = list.first() else {
        return Err(Error::invalid("there is nothing to join"));
    };
    let mut shape = first.shape().to_vec();
    for tensor in &list[1..] {
        let mut other = tensor.shape().to_vec();
        let extent = other.get(d).copied().unwrap_or_default();
        if let Some(here) = other.get_mut(d) {
            *here = first.shape()[d];
        }
        if other != first.shape() || tensor.dtype() != first.dtype() {
            return Err(Error::shape(format!(
                "{first:?} and {tensor:?} cannot be joined along dimension {d}"
            )));
        }
        shape[d] += extent;
    }
    let mut result = zeros(first.dtype(), &shape)?;
    let (outer, extent, size) = around(&result, d);
    let mut at = 0;
    let bytes = result.bytes_mut()?;
    for tensor in list {
        let part = tensor.shape()[d] * size;
        for (i, chunk) in tensor.bytes()?.chunks_exact(part.max(1)).take(outer).enumerate() {
            let to = i * extent * size + at;
            bytes[to..to + part].copy_from_slice(chunk);
        }
        at += part;
    }
    Ok(result)
}

/// A position in a list of `n`, counted from the end if negative; `input` is what the operator calls it.
pub(crate) fn position(index: &Tensor, n: usize, input: &str) -> Result<usize> {
    let given = int(index, "the position")?;
    let from_start = if given < 0 { given.saturating_add(n as i64) } else { given };
    usize::try_from(from_start).ok().filter(|i| *i < n).ok_or_else(|| {
        let message = CheckKind::IndexFromEnd.message(input, from_start, 0, n as i64);
        Error::new(crate::ErrorKind::Index, message)
    })
}
