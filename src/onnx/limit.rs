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

/// The largest constant that is computed because an operation cannot be imported without it.
pub(super) const FORCED_BYTES: usize = 64 << 20;

/// Refuses a tensor of this type and shape if it is too large.
pub(super) fn check(dtype: DType, shape: &[usize]) -> Result<()> {
    if shape.len() > RANK {
        return Err(limit(format!("a tensor of rank {}; at most {RANK} is possible", shape.len())));
    }
    let bytes = checked_bytes(dtype, shape)?;
    if bytes > TENSOR_BYTES {
        return Err(limit(format!("a tensor of {bytes} bytes; at most {TENSOR_BYTES} are possible")));
    }
    Ok(())
}

/// A tensor of zeros that is not too large.
pub(super) fn zeros(dtype: DType, shape: &[usize]) -> Result<Tensor> {
    check(dtype, shape)?;
    Tensor::zeros(dtype, shape)
}

/// An [`ErrorKind::Limit`].
pub(super) fn limit(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Limit, message)
}
