//! How far two tensors are apart.

use nestjit::ir::DType;

/// The largest differences between two lists of values.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Difference {
    /// The largest absolute difference.
    pub(crate) max_abs: f64,
    /// The same divided by the largest magnitude in the reference.
    pub(crate) relative: f64,
}

/// Compares values with a reference of the same length. Two NaN are equal, as are two equal infinities; apart
/// from that a value that is not finite differs infinitely from anything else.
pub(crate) fn difference(values: &[f64], reference: &[f64]) -> Difference {
    if values.len() != reference.len() {
        return Difference { max_abs: f64::INFINITY, relative: f64::INFINITY };
    }
    let scale = reference.iter().filter(|r| r.is_finite()).fold(0.0, |acc: f64, r| acc.max(r.abs()));
    let max_abs = values.iter().zip(reference).fold(0.0, |acc: f64, (v, r)| acc.max(distance(*v, *r)));
    let relative = if max_abs == 0.0 { 0.0 } else { max_abs / scale };
    Difference { max_abs, relative }
}

fn distance(a: f64, b: f64) -> f64 {
    match (a - b).abs() {
        _ if a == b || (a.is_nan() && b.is_nan()) => 0.0,
        d if d.is_finite() => d,
        _ => f64::INFINITY,
    }
}

/// The largest difference, relative to the largest magnitude, that code may show against exact arithmetic: room
/// for sums of some thousand terms in any order. Integers and truth values must be equal.
pub(crate) fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F32 => 1e-4,
        DType::F64 => 1e-11,
        DType::I64
        | DType::I32
        | DType::I16
        | DType::I8
        | DType::U64
        | DType::U32
        | DType::U16
        | DType::U8
        | DType::Bool => 0.0,
    }
}

/// The same for two ways of computing in `f64`. Literals of an `f32` model, such as the epsilon of a BatchNorm, are
/// `f32` in its nests: each node on the way to an `f32` result may add a relative error of one rounding of a literal,
/// and there are `depth` nodes one after the other. A node may be made of several nests with literals of their own: no
/// graph counts as shallower than a few nodes.
pub(crate) fn tolerance_of_reference(dtype: DType, depth: usize) -> f64 {
    match dtype == DType::F32 {
        true => depth.max(16) as f64 * f64::from(f32::EPSILON) / 2.0,
        false => tolerance(dtype),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_relative_to_the_largest_value() {
        let d = difference(&[1.0, 10.5, 0.0], &[1.0, 10.0, 0.0]);
        assert_eq!((d.max_abs, d.relative), (0.5, 0.05));
        assert_eq!(difference(&[], &[]).relative, 0.0);
        assert_eq!(difference(&[0.0], &[0.0]).relative, 0.0);
        assert_eq!(difference(&[1.0], &[0.0]).relative, f64::INFINITY);
    }

    #[test]
    fn what_is_not_finite_must_be_the_same() {
        let inf = f64::INFINITY;
        assert_eq!(difference(&[f64::NAN, inf, -inf], &[f64::NAN, inf, -inf]).max_abs, 0.0);
        for (a, b) in [(f64::NAN, 1.0), (1.0, f64::NAN), (inf, -inf), (inf, 1.0), (1.0, inf)] {
            let d = difference(&[a, 0.0], &[b, 0.0]);
            assert_eq!((d.max_abs, d.relative), (inf, inf), "{a} {b}");
        }
        assert_eq!(difference(&[1.0], &[1.0, 2.0]).max_abs, inf);
    }
}
