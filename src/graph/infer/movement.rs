//! Inference for operations that only move elements.

use nestjit_ir::DType;

use super::{
    Class, Outputs, expect_axis, expect_broadcast_to, expect_class, expect_same_dtype, expect_shape,
    operands, plural, show,
};
use crate::error::{Error, Result};
use crate::graph::{PadMode, Reduction, Value};
use crate::tensor::checked_bytes;

pub(super) fn reshape(shape: &[usize], inputs: &[&Value]) -> Result<Outputs> {
    let [x] = operands(inputs)?;
    if checked_bytes(x.dtype, &x.shape)? != checked_bytes(x.dtype, shape)? {
        return Err(Error::shape(format!(
            "cannot reshape {} to {shape:?}: {} and {} elements",
            show(x),
            x.shape.iter().product::<usize>(),
            shape.iter().product::<usize>()
        )));
    }
    Ok(vec![(x.dtype, shape.to_vec())])
}

pub(super) fn transpose(perm: &[usize], inputs: &[&Value]) -> Result<Outputs> {
    let [x] = operands(inputs)?;
    let rank = x.shape.len();
    let mut sorted = perm.to_vec();
    sorted.sort_unstable();
    if !sorted.into_iter().eq(0..rank) {
        return Err(Error::invalid(format!(
            "{perm:?} is not a permutation of the {rank} dimension{} of {}",
            plural(rank),
            show(x)
        )));
    }
    Ok(vec![(x.dtype, perm.iter().map(|d| x.shape[*d]).collect())])
}

/// An attribute with one entry per dimension.
fn expect_per_dimension<T>(x: &Value, list: &[T], name: &str) -> Result<()> {
    if list.len() != x.shape.len() {
        let entries = if list.len() == 1 { "entry" } else { "entries" };
        let rank = x.shape.len();
        return Err(Error::invalid(format!(
            "{name} has {} {entries}, but {} has {rank} dimension{}",
            list.len(),
            show(x),
            plural(rank)
        )));
    }
    Ok(())
}

pub(super) fn slice(
    starts: &[usize],
    extents: &[usize],
    steps: &[i64],
    inputs: &[&Value],
) -> Result<Outputs> {
    let [x] = operands(inputs)?;
    expect_per_dimension(x, starts, "starts")?;
    expect_per_dimension(x, extents, "extents")?;
    expect_per_dimension(x, steps, "steps")?;
    for d in 0..x.shape.len() {
        let (start, extent, step) = (starts[d], extents[d], steps[d]);
        if step == 0 {
            return Err(Error::invalid(format!("the step of dimension {d} is 0")));
        }
        if extent == 0 {
            continue;
        }
        let last = start as i128 + (extent as i128 - 1) * step as i128;
        let inside = 0..x.shape[d] as i128;
        if !inside.contains(&(start as i128)) || !inside.contains(&last) {
            return Err(Error::shape(format!(
                "indices {start} to {last} lie outside dimension {d} of {}",
                show(x)
            )));
        }
    }
    Ok(vec![(x.dtype, extents.to_vec())])
}

/// More could not be added to an index without overflow.
const MAX_PAD: i64 = i64::MAX / 4;

pub(super) fn pad(begin: &[i64], end: &[i64], mode: PadMode, inputs: &[&Value]) -> Result<Outputs> {
    let [x] = operands(inputs)?;
    expect_per_dimension(x, begin, "begin")?;
    expect_per_dimension(x, end, "end")?;
    let mut shape = Vec::with_capacity(x.shape.len());
    for (d, &extent) in x.shape.iter().enumerate() {
        let (begin, end) = (begin[d] as i128, end[d] as i128);
        if begin.abs().max(end.abs()) > i128::from(MAX_PAD) {
            let message = format!("padding of more than {MAX_PAD} in dimension {d}");
            return Err(Error::new(crate::ErrorKind::Limit, message));
        }
        let padded = extent as i128 + begin + end;
        let Ok(padded) = usize::try_from(padded) else {
            return Err(Error::shape(format!(
                "padding {begin} and {end} leaves {padded} elements in dimension {d} of {}",
                show(x)
            )));
        };
        // What remains after cropping is what the border is made of.
        let remaining = extent as i128 + begin.min(0) + end.min(0);
        let widest = begin.max(end);
        let copies = match mode {
            PadMode::Constant(_) => None,
            PadMode::Reflect => Some("reflect"),
            PadMode::Edge => Some("edge"),
            PadMode::Wrap => Some("wrap"),
        };
        if let Some(name) = copies.filter(|_| widest > 0 && remaining <= 0) {
            return Err(Error::shape(format!(
                "{name} padding of {widest} has no element to copy in dimension {d} of {}",
                show(x)
            )));
        }
        shape.push(padded);
    }
    Ok(vec![(x.dtype, shape)])
}

pub(super) fn concat(axis: usize, inputs: &[&Value]) -> Result<Outputs> {
    let Some((first, rest)) = inputs.split_first() else {
        return Err(Error::invalid("takes at least 1 operand, but 0 were given"));
    };
    expect_same_dtype(inputs)?;
    expect_axis(first, axis)?;
    let mut shape = first.shape.clone();
    for value in rest {
        let fits = value.shape.len() == shape.len()
            && (0..shape.len()).all(|d| d == axis || value.shape[d] == shape[d]);
        if !fits {
            return Err(Error::shape(format!(
                "{} and {} differ in more than dimension {axis}",
                show(first),
                show(value)
            )));
        }
        shape[axis] = shape[axis].saturating_add(value.shape[axis]);
    }
    Ok(vec![(first.dtype, shape)])
}

pub(super) fn split(axis: usize, sizes: &[usize], inputs: &[&Value]) -> Result<Outputs> {
    let [x] = operands(inputs)?;
    expect_axis(x, axis)?;
    if sizes.is_empty() {
        return Err(Error::invalid("a split needs at least 1 part"));
    }
    let total = sizes.iter().fold(0usize, |sum, size| sum.saturating_add(*size));
    if total != x.shape[axis] {
        return Err(Error::shape(format!(
            "parts of {sizes:?} make {total}, but dimension {axis} of {} has {}",
            show(x),
            x.shape[axis]
        )));
    }
    let part = |size: &usize| {
        let mut shape = x.shape.clone();
        shape[axis] = *size;
        (x.dtype, shape)
    };
    Ok(sizes.iter().map(part).collect())
}

pub(super) fn gather(axis: usize, inputs: &[&Value]) -> Result<Outputs> {
    let [data, indices] = operands(inputs)?;
    expect_axis(data, axis)?;
    // A byte cannot leave a dimension of 256.
    let bytes = indices.dtype == DType::U8 && data.shape[axis] > usize::from(u8::MAX);
    if !bytes && !matches!(indices.dtype, DType::I64 | DType::I32) {
        return Err(Error::shape(format!("indices must be i64 or i32, but {} was given", show(indices))));
    }
    let shape = [&data.shape[..axis], &indices.shape, &data.shape[axis + 1..]].concat();
    Ok(vec![(data.dtype, shape)])
}

pub(super) fn scatter(reduction: Option<Reduction>, inputs: &[&Value]) -> Result<Outputs> {
    use Reduction::*;
    let [data, indices, updates] = operands(inputs)?;
    expect_same_dtype(&[data, updates])?;
    match reduction {
        None => {}
        Some(Sum | Prod | Max | Min) => expect_class(data, Class::Numeric)?,
        Some(other) => return Err(Error::invalid(format!("rows cannot be combined by {}", other.name()))),
    }
    if !matches!(indices.dtype, DType::I64 | DType::I32) {
        return Err(Error::shape(format!("indices must be i64 or i32, but {} was given", show(indices))));
    }
    let ([_, row], [count]) = (data.shape.as_slice(), indices.shape.as_slice()) else {
        return Err(Error::shape(format!(
            "{} and {} must be a matrix and a vector",
            show(data),
            show(indices)
        )));
    };
    expect_shape(updates, &[*count, *row], "the updates")?;
    Ok(vec![(data.dtype, data.shape.clone())])
}

pub(super) fn expand(shape: &[usize], inputs: &[&Value]) -> Result<Outputs> {
    let [x] = operands(inputs)?;
    expect_broadcast_to(x, shape, "the operand")?;
    Ok(vec![(x.dtype, shape.to_vec())])
}
