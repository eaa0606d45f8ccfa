//! Comparing tensors with a reference.

use nestjit::{DType, Tensor, bf16, f16};

/// The elements as `f64`, whatever their type.
pub fn to_f64(tensor: &Tensor) -> Vec<f64> {
    macro_rules! convert {
        ($t:ty) => {
            tensor.values::<$t>().unwrap().iter().map(|v| *v as f64).collect()
        };
    }
    match tensor.dtype() {
        DType::F32 => convert!(f32),
        DType::F64 => convert!(f64),
        DType::F16 => tensor.values::<f16>().unwrap().iter().map(|v| v.to_f64()).collect(),
        DType::BF16 => tensor.values::<bf16>().unwrap().iter().map(|v| v.to_f64()).collect(),
        DType::I64 => convert!(i64),
        DType::I32 => convert!(i32),
        DType::I8 => convert!(i8),
        DType::U8 => convert!(u8),
        DType::I16 => convert!(i16),
        DType::U16 => convert!(u16),
        DType::U32 => convert!(u32),
        DType::U64 => convert!(u64),
        DType::Bool => tensor.values::<bool>().unwrap().iter().map(|v| f64::from(u8::from(*v))).collect(),
    }
}

/// Where `actual` differs from `expected`, if it does. `dtype` is the type that the graph declares: floats may
/// differ by `tolerance * (1 + |expected|)`, must be infinite or NaN together, and everything else must be
/// equal. Halves may differ by a step in any case. The tensors may hold `f64` where `f32` or a half is declared.
pub fn difference(actual: &Tensor, expected: &Tensor, dtype: DType, tolerance: f64) -> Option<String> {
    if actual.shape() != expected.shape() {
        return Some(format!("the shape is {:?} instead of {:?}", actual.shape(), expected.shape()));
    }
    if actual.dtype().is_float() != dtype.is_float() || (!dtype.is_float() && actual.dtype() != dtype) {
        return Some(format!("the type is {} instead of {dtype}", actual.dtype()));
    }
    // A narrow result overflows where the reference, in f64, does not.
    let (narrow, step): (fn(f64) -> f64, f64) = match actual.dtype() {
        DType::F32 => (|v| f64::from(v as f32), 0.0),
        DType::F16 => (|v| f16::from_f64(v).to_f64(), 1.0 / 1024.0),
        DType::BF16 => (|v| bf16::from_f64(v).to_f64(), 1.0 / 128.0),
        DType::F64 | DType::I64 | DType::I32 | DType::I16 | DType::I8 => (|v| v, 0.0),
        DType::U64 | DType::U32 | DType::U16 | DType::U8 | DType::Bool => (|v| v, 0.0),
    };
    let tolerance = tolerance.max(step);
    let close =
        |a: f64, e: f64| a == e || (a.is_nan() && e.is_nan()) || (a - e).abs() <= tolerance * (1.0 + e.abs());
    let exact = !dtype.is_float();
    let pairs = to_f64(actual).into_iter().zip(to_f64(expected)).enumerate();
    let mut wrong =
        pairs.filter(|(_, (a, e))| if exact { a != e } else { !close(*a, narrow(*e)) }).peekable();
    let (first, (a, e)) = *wrong.peek()?;
    let at = position(first, expected.shape());
    Some(format!(
        "{} of {} elements differ, first {a} instead of {e} at {at:?}",
        wrong.count(),
        expected.len()
    ))
}

/// The index of the element at this row-major position.
fn position(mut at: usize, shape: &[usize]) -> Vec<usize> {
    let mut index: Vec<usize> = shape
        .iter()
        .rev()
        .map(|extent| {
            let i = at % extent;
            at /= extent;
            i
        })
        .collect();
    index.reverse();
    index
}
