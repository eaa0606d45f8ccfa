//! Limits of an import, checked before memory is taken: a model of a few bytes may ask for anything.

use nestjit_ir::DType;

use crate::error::{Error, ErrorKind, Result};
use crate::tensor::{Tensor, checked_bytes};

/// The largest tensor of a model.
pub(super) const TENSOR_BYTES: usize = 16 << 30;

/// The most core operations that a model may become, loops unrolled and functions inlined.
pub(super) const NODES: usize = 1_000_000;

/// How deep functions and subgraphs may be nested.
pub(super) const DEPTH: usize = 64;

/// The largest rank.
pub(super) const RANK: usize = 64;

/// Constants up to this size are computed while a model is imported, so that what depends on them (shapes, axes)
/// is known; larger ones are left to FoldConstant.
pub(super) const EAGER_ELEMENTS: usize = 1 << 14;

/// The most elements of a constant from which an operation of the host makes another while a model is imported.
pub(super) const EAGER_RESULTS: usize = 1 << 20;

/// The largest constant that an operator is given that its model does not contain: tables of positions, of weights.
pub(super) const TABLE_BYTES: usize = 256 << 20;

/// The most nodes that are imported, those of loops and functions as often as they are reached. Loops in loops could
/// go on for ever without making an operation.
pub(super) const VISITS: usize = 5_000_000;

/// The largest attribute that is an extent, stride or padding; sums and products of two of them do not overflow.
pub(super) const ATTRIBUTE: usize = 1 << 31;

/// The most elements of a window.
const KERNEL: usize = 1 << 24;

/// The largest constant that is computed because an operation cannot be imported without it.
pub(super) const FORCED_BYTES: usize = 64 << 20;

/// Refuses a tensor of this type and shape if it is too large.
pub(super) fn check(dtype: DType, shape: &[usize]) -> Result<()> {
    if shape.len() > RANK {
        return Err(limit(format!("a tensor has rank {}, but at most {RANK} is possible", shape.len())));
    }
    let bytes = checked_bytes(dtype, shape)?;
    if bytes > TENSOR_BYTES {
        return Err(limit(format!(
            "a tensor would take {bytes} bytes, but at most {TENSOR_BYTES} are possible"
        )));
    }
    Ok(())
}

/// A tensor of zeros that is not too large.
pub(super) fn zeros(dtype: DType, shape: &[usize]) -> Result<Tensor> {
    check_table(dtype, shape)?;
    Tensor::zeros(dtype, shape)
}

/// Refuses a table of this type and shape if it is too large.
pub(super) fn check_table(dtype: DType, shape: &[usize]) -> Result<()> {
    match checked_bytes(dtype, shape)? > TABLE_BYTES {
        true => Err(limit(format!(
            "a table of shape {shape:?} is needed, which takes more than the {TABLE_BYTES} bytes that are possible"
        ))),
        false => Ok(()),
    }
}

/// Refuses a window of more elements than any image has.
pub(super) fn check_kernel(kernel: &[usize]) -> Result<()> {
    match product(kernel)? > KERNEL {
        true => Err(limit(format!(
            "a kernel of {kernel:?} has more than the {KERNEL} elements that are possible"
        ))),
        false => Ok(()),
    }
}

/// The product, if it can be addressed.
pub(super) fn product(factors: &[usize]) -> Result<usize> {
    let product = factors.iter().try_fold(1usize, |product, n| product.checked_mul(*n));
    product
        .filter(|n| *n <= isize::MAX as usize)
        .ok_or_else(|| limit(format!("the product of {factors:?} is too large")))
}

/// An [`ErrorKind::Limit`].
pub(super) fn limit(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Limit, message)
}
