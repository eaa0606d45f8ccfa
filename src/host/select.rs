//! What a condition chooses: [`non_zero`], [`compress`].

use nestjit_ir::{DType, bf16, f16};

use super::{around, axis, zeros};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// The positions of the elements that are not 0, in the flat tensor.
fn positions(x: &Tensor) -> Result<Vec<usize>> {
    fn found<T: Copy>(values: &[T], is_zero: impl Fn(T) -> bool) -> Vec<usize> {
        values.iter().enumerate().filter(|(_, v)| !is_zero(**v)).map(|(i, _)| i).collect()
    }
    Ok(match x.dtype() {
        DType::F32 => found(x.values::<f32>()?, |v| v == 0.0),
        DType::F64 => found(x.values::<f64>()?, |v| v == 0.0),
        DType::F16 => found(x.values::<f16>()?, |v| v == f16::ZERO),
        DType::BF16 => found(x.values::<bf16>()?, |v| v == bf16::ZERO),
        DType::I64 => found(x.values::<i64>()?, |v| v == 0),
        DType::I32 => found(x.values::<i32>()?, |v| v == 0),
        DType::I8 | DType::U8 | DType::Bool => found(x.bytes()?, |v| v == 0),
        DType::I16 => found(x.values::<i16>()?, |v| v == 0),
        DType::U16 => found(x.values::<u16>()?, |v| v == 0),
        DType::U32 => found(x.values::<u32>()?, |v| v == 0),
        DType::U64 => found(x.values::<u64>()?, |v| v == 0),
    })
}

/// The indices of the elements that are not 0.
pub(crate) fn non_zero(x: &Tensor) -> Result<Tensor> {
    let found = positions(x)?;
    let shape = x.shape();
    let mut result = zeros(DType::I64, &[shape.len(), found.len()])?;
    let indices = result.values_mut::<i64>()?;
    for d in 0..shape.len() {
        let stride: usize = shape[d + 1..].iter().product();
        for (place, i) in indices[d * found.len()..].iter_mut().zip(&found) {
            *place = (i / stride % shape[d]) as i64;
        }
    }
    Ok(result)
}

/// The elements or slices that a condition chooses; of the flat tensor, if there is no axis.
pub(crate) fn compress(x: &Tensor, condition: &Tensor, along: Option<i64>) -> Result<Tensor> {
    if condition.dtype() != DType::Bool || condition.shape().len() != 1 {
        return Err(Error::shape(format!("the condition must be a list of bool, not {condition:?}")));
    }
    let flat = x.reshape(&[x.len()])?;
    let (x, d) = match along {
        Some(along) => (x, axis(along, x.shape().len())?),
        None => (&flat, 0),
    };
    let (outer, extent, size) = around(x, d);
    if condition.len() > extent {
        return Err(Error::shape(format!(
            "there are {} conditions, but only {extent} elements",
            condition.len()
        )));
    }
    let kept = positions(condition)?;
    let mut shape = x.shape().to_vec();
    shape[d] = kept.len();
    let mut result = zeros(x.dtype(), &shape)?;
    if size > 0 {
        let places = (0..outer).flat_map(|o| kept.iter().map(move |k| (o * extent + k) * size));
        let bytes = x.bytes()?;
        for (place, from) in result.bytes_mut()?.chunks_exact_mut(size).zip(places) {
            place.copy_from_slice(&bytes[from..from + size]);
        }
    }
    Ok(result)
}
