//! Numbers in attributes and tensors as what they stand for: axes, extents, lists.

use nestjit_ir::{DType, bf16, f16};

use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// That an attribute is missing.
pub(in crate::onnx) fn missing(name: &str) -> Error {
    Error::invalid(format!("the attribute '{name}' is missing"))
}

/// An axis, counted from the end if negative, of a tensor of this rank.
pub(in crate::onnx) fn axis(axis: i64, rank: usize) -> Result<usize> {
    let from_start = if axis < 0 { axis.checked_add(rank as i64) } else { Some(axis) };
    from_start
        .and_then(|a| usize::try_from(a).ok())
        .filter(|a| *a < rank)
        .ok_or_else(|| Error::invalid(format!("axis {axis} does not exist in a tensor of rank {rank}")))
}

/// Axes, counted from the end if negative; in order, none twice.
pub(in crate::onnx) fn axes(list: &[i64], rank: usize) -> Result<Vec<usize>> {
    let mut axes: Vec<usize> = list.iter().map(|a| axis(*a, rank)).collect::<Result<_>>()?;
    axes.sort_unstable();
    match axes.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Error::invalid(format!("axis {} is listed twice", pair[0]))),
        None => Ok(axes),
    }
}

/// The elements of an integer tensor.
pub(in crate::onnx) fn ints(tensor: &Tensor, what: &str) -> Result<Vec<i64>> {
    match tensor.dtype() {
        DType::I64 => Ok(tensor.values::<i64>()?.to_vec()),
        DType::I32 => Ok(tensor.values::<i32>()?.iter().map(|v| i64::from(*v)).collect()),
        DType::I8 => Ok(tensor.values::<i8>()?.iter().map(|v| i64::from(*v)).collect()),
        DType::U8 => Ok(tensor.values::<u8>()?.iter().map(|v| i64::from(*v)).collect()),
        DType::I16 => Ok(tensor.values::<i16>()?.iter().map(|v| i64::from(*v)).collect()),
        DType::U16 => Ok(tensor.values::<u16>()?.iter().map(|v| i64::from(*v)).collect()),
        DType::U32 => Ok(tensor.values::<u32>()?.iter().map(|v| i64::from(*v)).collect()),
        DType::U64 => {
            let large = |_| Error::invalid(format!("{what} must be integers below 2^63"));
            tensor.values::<u64>()?.iter().map(|v| i64::try_from(*v).map_err(large)).collect()
        }
        DType::Bool => Ok(tensor.values::<bool>()?.iter().map(|v| i64::from(*v)).collect()),
        other @ (DType::F32 | DType::F64 | DType::F16 | DType::BF16) => {
            Err(Error::shape(format!("{what} must be integers, not {other}")))
        }
    }
}

/// The elements of a numeric tensor.
pub(in crate::onnx) fn floats(tensor: &Tensor, what: &str) -> Result<Vec<f64>> {
    match tensor.dtype() {
        DType::F32 => Ok(tensor.values::<f32>()?.iter().map(|v| f64::from(*v)).collect()),
        DType::F64 => Ok(tensor.values::<f64>()?.to_vec()),
        DType::F16 => Ok(tensor.values::<f16>()?.iter().map(|v| v.to_f64()).collect()),
        DType::BF16 => Ok(tensor.values::<bf16>()?.iter().map(|v| v.to_f64()).collect()),
        DType::U64 => Ok(tensor.values::<u64>()?.iter().map(|v| *v as f64).collect()),
        DType::I64
        | DType::I32
        | DType::I16
        | DType::I8
        | DType::U32
        | DType::U16
        | DType::U8
        | DType::Bool => Ok(ints(tensor, what)?.into_iter().map(|v| v as f64).collect()),
    }
}

/// Integers as extents, counts or offsets.
pub(in crate::onnx) fn extents(list: &[i64], what: &str) -> Result<Vec<usize>> {
    list.iter().map(|n| extent(*n, what)).collect()
}

/// An integer as an extent, count or offset.
pub(in crate::onnx) fn extent(value: i64, what: &str) -> Result<usize> {
    usize::try_from(value).map_err(|_| Error::invalid(format!("{what} must not be negative, but is {value}")))
}
