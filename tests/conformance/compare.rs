//! How close outputs are to what they must be.

use nestjit::{DType, Item, Tensor, bf16, f16};

/// A bound of `|value - expected|`: `absolute + relative * |expected|`.
#[derive(Clone, Copy)]
struct Tolerance {
    relative: f64,
    absolute: f64,
}

/// That of the suite's own runner.
const OFFICIAL: Tolerance = Tolerance { relative: 1e-3, absolute: 1e-7 };

/// Ours, which fused and unfused code must keep to each other, too.
const STRICT: Tolerance = Tolerance { relative: 1e-5, absolute: 1e-6 };

/// A tolerance for a type: what is rounded to a half is a whole step off where it is near the middle between two.
fn with_step(tolerance: Tolerance, dtype: DType) -> Tolerance {
    let (step, smallest) = match dtype {
        DType::F16 => (1.0 / 1024.0, 6e-8),
        DType::BF16 => (1.0 / 128.0, 0.0),
        DType::F32 | DType::F64 | DType::I64 | DType::I32 | DType::I16 | DType::I8 => return tolerance,
        DType::U64 | DType::U32 | DType::U16 | DType::U8 | DType::Bool => return tolerance,
    };
    Tolerance { relative: tolerance.relative.max(step), absolute: tolerance.absolute.max(smallest) }
}

/// How close a list of tensors is to another.
#[derive(Clone, PartialEq, Debug)]
pub enum Closeness {
    /// Within both tolerances; integers and truth values are equal.
    Strict,
    /// Within the official tolerance; the worst element.
    Official(String),
    /// Neither, or something else than a value differs.
    Apart(String),
}

/// Compares the outputs of a model with what they must be: number, types, shapes, values.
pub fn outputs(actual: &[Item], expected: &[Item]) -> Closeness {
    if actual.len() != expected.len() {
        return Closeness::Apart(format!("{} outputs instead of {}", actual.len(), expected.len()));
    }
    let mut loose = None;
    for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
        match items(a, e) {
            Closeness::Strict => {}
            Closeness::Official(reason) => loose = loose.or(Some(format!("output {i}{reason}"))),
            Closeness::Apart(reason) => return Closeness::Apart(format!("output {i}{reason}")),
        }
    }
    loose.map_or(Closeness::Strict, Closeness::Official)
}

fn items(actual: &Item, expected: &Item) -> Closeness {
    match (actual, expected) {
        (Item::Tensor(a), Item::Tensor(e)) => tensors(a, e),
        (Item::Sequence(a), Item::Sequence(e)) if a.len() == e.len() => {
            let elements = a.iter().zip(e).map(|(a, e)| tensors(a, e));
            let rank = |c: &Closeness| match c {
                Closeness::Strict => 0,
                Closeness::Official(_) => 1,
                Closeness::Apart(_) => 2,
            };
            elements.max_by_key(rank).unwrap_or(Closeness::Strict)
        }
        (Item::Absent, Item::Absent) => Closeness::Strict,
        _ => Closeness::Apart(": another kind of value, or of another length".into()),
    }
}

/// What tells two ways of compiling a model apart beyond rounding, if anything.
pub fn difference(a: &[Item], b: &[Item]) -> Option<String> {
    fn flat(items: &[Item]) -> impl Iterator<Item = &Tensor> {
        items.iter().flat_map(Item::tensors)
    }
    if flat(a).count() != flat(b).count() {
        return Some("another number of tensors".into());
    }
    flat(a).zip(flat(b)).enumerate().find_map(|(i, (a, b))| {
        if a.dtype() != b.dtype() || a.shape() != b.shape() {
            return Some(format!("output {i}: another type or shape"));
        }
        worst(&values(a), &values(b), with_step(STRICT, a.dtype())).map(|w| format!("output {i}{w}"))
    })
}

fn tensors(actual: &Tensor, expected: &Tensor) -> Closeness {
    if actual.dtype() != expected.dtype() {
        return Closeness::Apart(format!(": {} instead of {}", actual.dtype(), expected.dtype()));
    }
    if actual.shape() != expected.shape() {
        return Closeness::Apart(format!(": shape {:?} instead of {:?}", actual.shape(), expected.shape()));
    }
    let (a, e) = (values(actual), values(expected));
    if let Some(reason) = worst(&a, &e, with_step(OFFICIAL, actual.dtype())) {
        return Closeness::Apart(reason);
    }
    if actual.bytes() == expected.bytes() {
        return Closeness::Strict;
    }
    match actual.dtype().is_float() {
        true => {
            worst(&a, &e, with_step(STRICT, actual.dtype())).map_or(Closeness::Strict, Closeness::Official)
        }
        false => Closeness::Official(": not equal".into()),
    }
}

/// The element that exceeds its bound by most. Two NaN are equal, as are two equal infinities.
fn worst(actual: &[f64], expected: &[f64], tolerance: Tolerance) -> Option<String> {
    let excess = |(a, e): (&f64, &f64)| {
        if a == e || (a.is_nan() && e.is_nan()) {
            return 0.0;
        }
        let d = (a - e).abs();
        if d.is_finite() { d - (tolerance.absolute + tolerance.relative * e.abs()) } else { f64::INFINITY }
    };
    let all = actual.iter().zip(expected).map(excess).enumerate();
    let (at, excess) = all.max_by(|a, b| a.1.total_cmp(&b.1))?;
    (excess > 0.0).then(|| format!("[{at}]: {:e} instead of {:e}", actual[at], expected[at]))
}

/// The elements as `f64`, rounded where they are large integers.
fn values(tensor: &Tensor) -> Vec<f64> {
    fn list<T: nestjit::Element>(tensor: &Tensor, value: fn(T) -> f64) -> Vec<f64> {
        tensor.values::<T>().map(|v| v.iter().map(|v| value(*v)).collect()).unwrap_or_default()
    }
    match tensor.dtype() {
        DType::F32 => list(tensor, |v: f32| f64::from(v)),
        DType::F64 => list(tensor, |v: f64| v),
        DType::F16 => list(tensor, f16::to_f64),
        DType::BF16 => list(tensor, bf16::to_f64),
        DType::I64 => list(tensor, |v: i64| v as f64),
        DType::I32 => list(tensor, |v: i32| f64::from(v)),
        DType::I8 => list(tensor, |v: i8| f64::from(v)),
        DType::U8 => list(tensor, |v: u8| f64::from(v)),
        DType::I16 => list(tensor, |v: i16| f64::from(v)),
        DType::U16 => list(tensor, |v: u16| f64::from(v)),
        DType::U32 => list(tensor, |v: u32| f64::from(v)),
        DType::U64 => list(tensor, |v: u64| v as f64),
        DType::Bool => list(tensor, |v: bool| f64::from(u8::from(v))),
    }
}
