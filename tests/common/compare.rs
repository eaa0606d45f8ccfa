//! Comparing tensors with a reference.

use nestjit::{DType, Tensor};

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
/// equal. The tensors may hold `f64` where `f32` is declared.
pub fn difference(actual: &Tensor, expected: &Tensor, dtype: DType, tolerance: f64) -> Option<String> {
    if actual.shape() != expected.shape() {
        return Some(format!("the shape is {:?} instead of {:?}", actual.shape(), expected.shape()));
    }
    if actual.dtype().is_float() != dtype.is_float() || (!dtype.is_float() && actual.dtype() != dtype) {
        return Some(format!("the type is {} instead of {dtype}", actual.dtype()));
    }
    // An f32 result overflows where the reference, in f64, does not.
    let narrow = |v: f64| if actual.dtype() == DType::F32 { f64::from(v as f32) } else { v };
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
