//! Tensors whose shape is a value: [`reshape`], [`expand`], [`range`], [`constant_of_shape`].

use nestjit_ir::{DType, bf16, f16, halves};

use super::movement::{row_major, strided};
use super::{extents, int, ints, zeros};
use crate::error::{Error, ErrorKind, Result};
use crate::tensor::Tensor;

/// The same elements in another shape. An extent of 0 is that of the operand, unless `allow_zero`.
pub(crate) fn reshape(x: &Tensor, shape: &Tensor, allow_zero: bool) -> Result<Tensor> {
    let wanted = ints(shape, "the shape")?;
    let mut shape = Vec::with_capacity(wanted.len());
    let mut open = None;
    for (d, n) in wanted.iter().enumerate() {
        shape.push(match n {
            0 if !allow_zero => *x.shape().get(d).ok_or_else(|| {
                Error::shape(format!(
                    "the shape {wanted:?} takes over a dimension that {:?} lacks",
                    x.shape()
                ))
            })?,
            -1 if open.is_none() => {
                open = Some(d);
                1
            }
            n => usize::try_from(*n)
                .map_err(|_| Error::invalid(format!("the shape {wanted:?} has a negative extent")))?,
        });
    }
    if let Some(d) = open {
        let rest = shape.iter().try_fold(1usize, |product, n| product.checked_mul(*n)).unwrap_or(0);
        if rest == 0 || !x.len().is_multiple_of(rest) {
            return Err(Error::shape(format!("{:?} cannot be reshaped to {wanted:?}", x.shape())));
        }
        shape[d] = x.len() / rest;
    }
    x.reshape(&shape)
}

/// A tensor repeated along dimensions of extent 1.
pub(crate) fn expand(x: &Tensor, shape: &Tensor) -> Result<Tensor> {
    let wanted = extents(&ints(shape, "the shape")?)?;
    let rank = wanted.len().max(x.shape().len());
    let at = |shape: &[usize], d: usize| (d + shape.len()).checked_sub(rank).map_or(1, |d| shape[d]);
    let own = row_major(x.shape());
    let (mut shape, mut strides) = (Vec::with_capacity(rank), Vec::with_capacity(rank));
    for d in 0..rank {
        let (n, to) = (at(x.shape(), d), at(&wanted, d));
        if n != to && n != 1 && to != 1 {
            return Err(Error::shape(format!("{:?} cannot be expanded to {wanted:?}", x.shape())));
        }
        shape.push(if n == 1 { to } else { n });
        strides.push(if n == 1 { 0 } else { own[d + own.len() - rank] });
    }
    strided(x, 0, &strides, &shape)
}

/// A tensor of elements that all are `value`.
pub(crate) fn constant_of_shape(shape: &Tensor, value: &Tensor) -> Result<Tensor> {
    let shape = extents(&ints(shape, "the shape")?)?;
    strided(value, 0, &vec![0; shape.len()], &shape)
}

/// Equidistant numbers.
pub(crate) fn range(start: &Tensor, limit: &Tensor, delta: &Tensor) -> Result<Tensor> {
    let dtype = start.dtype();
    if limit.dtype() != dtype || delta.dtype() != dtype {
        return Err(Error::shape("start, limit and delta have different types"));
    }
    let long = || Error::new(ErrorKind::Limit, "the range is too long");
    let no_range = |x: &Tensor| {
        Error::shape(format!("start, limit and delta of a range must each be one number, not {x:?}"))
    };
    if matches!(dtype, DType::I64 | DType::I32) {
        let part = |x, what| int(x, what).map(i128::from);
        let (start, limit, delta) = (part(start, "start")?, part(limit, "limit")?, part(delta, "delta")?);
        if delta == 0 {
            return Err(Error::invalid("delta is 0"));
        }
        let distance = if delta > 0 { limit - start } else { start - limit };
        let count = if distance <= 0 { 0 } else { (distance + delta.abs() - 1) / delta.abs() };
        let mut result = zeros(dtype, &[usize::try_from(count).map_err(|_| long())?])?;
        let values = (0..count).map(|i| start + i * delta);
        if dtype == DType::I64 {
            fill(result.values_mut::<i64>()?, values.map(|v| v as i64));
        } else {
            fill(result.values_mut::<i32>()?, values.map(|v| v as i32));
        }
        return Ok(result);
    }
    let one = |x: &Tensor| match x.dtype() {
        DType::F32 if x.len() == 1 => Ok(f64::from(x.values::<f32>()?[0])),
        DType::F64 if x.len() == 1 => Ok(x.values::<f64>()?[0]),
        DType::F16 if x.len() == 1 => Ok(x.values::<f16>()?[0].to_f64()),
        DType::BF16 if x.len() == 1 => Ok(x.values::<bf16>()?[0].to_f64()),
        DType::F32 | DType::F64 | DType::F16 | DType::BF16 => Err(no_range(x)),
        DType::I64 | DType::I32 | DType::I16 | DType::I8 => Err(no_range(x)),
        DType::U64 | DType::U32 | DType::U16 | DType::U8 | DType::Bool => Err(no_range(x)),
    };
    let (start, limit, delta) = (one(start)?, one(limit)?, one(delta)?);
    let count = ((limit - start) / delta).ceil();
    if delta == 0.0 || !count.is_finite() {
        return Err(Error::invalid(format!("a range from {start} to {limit} by {delta} is impossible")));
    }
    // A cast of a float to an integer saturates.
    let count = count.max(0.0) as usize;
    let mut result = zeros(dtype, &[count])?;
    let values = (0..count).map(|i| start + i as f64 * delta);
    match dtype {
        DType::F32 => fill(result.values_mut::<f32>()?, values.map(|v| v as f32)),
        DType::F64 => fill(result.values_mut::<f64>()?, values),
        DType::F16 => fill(result.values_mut::<f16>()?, values.map(halves::f16_from_f64)),
        DType::BF16 => fill(result.values_mut::<bf16>()?, values.map(halves::bf16_from_f64)),
        DType::I64 | DType::I32 | DType::I16 | DType::I8 | DType::Bool => {
            return Err(Error::internal("a range of integers is counted"));
        }
        DType::U64 | DType::U32 | DType::U16 | DType::U8 => {
            return Err(Error::internal("a range of integers is counted"));
        }
    }
    Ok(result)
}

fn fill<T>(places: &mut [T], values: impl Iterator<Item = T>) {
    for (place, value) in places.iter_mut().zip(values) {
        *place = value;
    }
}
