//! Elementwise operations.

use ndarray::{ArrayD, ArrayViewD, Axis, IxDyn, Zip};
use nestjit_ir::{CheckKind, DType, halves};

use super::array::{order, wrap};
use super::scalar::{
    binary_float, binary_int, compare, float_to_int, maximum, minimum, unary_float, unary_int,
};
use super::{Array, Data, Precision};
use crate::error::{Error, ErrorKind, Result};
use crate::graph::{Binary, Unary};

pub(super) fn unary(unary: Unary, x: &Array) -> Array {
    match (&x.data, unary) {
        (Data::Float(v), Unary::IsNan) => Array::bool(v.mapv(f64::is_nan)),
        (Data::Float(v), Unary::IsInf) => Array::bool(v.mapv(f64::is_infinite)),
        (Data::Float(v), _) => Array::float(x.dtype, v.mapv(|v| unary_float(unary, v))),
        (Data::Int(v), _) => Array::int(x.dtype, v.mapv(|v| unary_int(unary, x.dtype, v))),
    }
}

/// `values` broadcast to a shape that inference has found fitting.
pub(super) fn spread<'a, T>(values: &'a ArrayD<T>, shape: &[usize]) -> ArrayViewD<'a, T> {
    values.broadcast(IxDyn(shape)).expect("inference checks that shapes broadcast")
}

fn zip<T: Copy, R>(a: &ArrayD<T>, b: &ArrayD<T>, shape: &[usize], f: impl Fn(T, T) -> R) -> ArrayD<R> {
    Zip::from(spread(a, shape)).and(spread(b, shape)).map_collect(|a, b| f(*a, *b))
}

pub(super) fn binary(binary: Binary, a: &Array, b: &Array, shape: &[usize]) -> Array {
    use Binary::*;
    let comparison = matches!(binary, Eq | Ne | Lt | Le | Gt | Ge);
    let dtype = a.dtype;
    match (&a.data, &b.data) {
        (Data::Float(a), Data::Float(b)) if comparison => {
            Array::bool(zip(a, b, shape, |a, b| compare(binary, a, b)))
        }
        (Data::Float(a), Data::Float(b)) => {
            Array::float(dtype, zip(a, b, shape, |a, b| binary_float(binary, a, b)))
        }
        _ if comparison => {
            let f = |a, b| compare(binary, order(dtype, a), order(dtype, b));
            Array::bool(zip(a.ints(), b.ints(), shape, f))
        }
        _ => {
            let f = |a, b| binary_int(binary, dtype, a, b);
            Array::int(dtype, zip(a.ints(), b.ints(), shape, f))
        }
    }
}

pub(super) fn select(inputs: &[&Array], shape: &[usize]) -> Array {
    fn choose<T: Copy>(c: &ArrayD<i64>, a: &ArrayD<T>, b: &ArrayD<T>, shape: &[usize]) -> ArrayD<T> {
        Zip::from(spread(c, shape))
            .and(spread(a, shape))
            .and(spread(b, shape))
            .map_collect(|c, a, b| if *c != 0 { *a } else { *b })
    }
    let [condition, a, b] = inputs else { unreachable!("inference counts the operands") };
    match (&a.data, &b.data) {
        (Data::Float(x), Data::Float(y)) => Array::float(a.dtype, choose(condition.ints(), x, y, shape)),
        _ => Array::int(a.dtype, choose(condition.ints(), a.ints(), b.ints(), shape)),
    }
}

pub(super) fn check(x: &Array, kind: CheckKind, low: i64, high: i64, input: &str) -> Result<Array> {
    let check = |value: &i64| {
        let from_start = match kind {
            CheckKind::IndexFromEnd if *value < 0 => value.saturating_add(high),
            _ => *value,
        };
        match (low..high).contains(&from_start) {
            true => Ok(from_start),
            false => Err(Error::new(ErrorKind::Index, kind.message(input, from_start, low, high))),
        }
    };
    let values = x.ints();
    let checked = values.iter().map(check).collect::<Result<Vec<i64>>>()?;
    let checked = ArrayD::from_shape_vec(values.raw_dim(), checked).expect("as many elements as before");
    Ok(Array::int(x.dtype, checked))
}

pub(super) fn clip(x: &Array, min: Option<f64>, max: Option<f64>) -> Array {
    match &x.data {
        Data::Float(values) => Array::float(
            x.dtype,
            values.mapv(|v| {
                let v = min.map_or(v, |min| maximum(v, min));
                max.map_or(v, |max| minimum(v, max))
            }),
        ),
        Data::Int(values) => {
            let min = min.map(|min| float_to_int(x.dtype, min));
            let max = max.map(|max| float_to_int(x.dtype, max));
            let clip = |v: i64| {
                let v = min.map_or(v, |min| binary_int(Binary::Max, x.dtype, v, min));
                max.map_or(v, |max| binary_int(Binary::Min, x.dtype, v, max))
            };
            Array::int(x.dtype, values.mapv(clip))
        }
    }
}

pub(super) fn cast(x: &Array, to: DType, precision: Precision) -> Array {
    match &x.data {
        Data::Float(values) if to.is_float() => Array::float(to, values.clone()),
        Data::Float(values) => Array::int(to, values.mapv(|v| float_to_int(to, v))),
        Data::Int(values) if to.is_float() => {
            let unsigned = x.dtype == DType::U64;
            // What is rounded is rounded once: not to f64 first.
            let target = if precision == Precision::F32 { to } else { DType::F64 };
            let float = |v: i64| match (target, unsigned) {
                (DType::F32, false) => f64::from(v as f32),
                (DType::F32, true) => f64::from(v as u64 as f32),
                (DType::F16 | DType::BF16, false) => halves::f64_from_i64(v),
                (DType::F16 | DType::BF16, true) => halves::f64_from_u64(v as u64),
                (_, false) => v as f64,
                (_, true) => v as u64 as f64,
            };
            Array::float(to, values.mapv(float))
        }
        Data::Int(values) => Array::int(to, values.mapv(|v| wrap(to, v))),
    }
}

pub(super) fn bias_add(x: &Array, bias: &Array, axis: usize) -> Array {
    let mut result = x.clone();
    match (&mut result.data, &bias.data) {
        (Data::Float(values), Data::Float(bias)) => {
            for (mut slice, b) in values.axis_iter_mut(Axis(axis)).zip(bias) {
                slice.mapv_inplace(|v| v + b);
            }
        }
        (Data::Int(values), Data::Int(bias)) => {
            for (mut slice, b) in values.axis_iter_mut(Axis(axis)).zip(bias) {
                slice.mapv_inplace(|v| wrap(x.dtype, v.wrapping_add(*b)));
            }
        }
        _ => unreachable!("inference checks that the operands have one type"),
    }
    result
}
