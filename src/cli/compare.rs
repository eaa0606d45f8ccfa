//! How far tensors are apart, and how far they may be.

use nestjit::interpret::Rounded;
use nestjit::ir::DType;
use nestjit::ir::interp::rounding::allowed;
use nestjit::{Result, Tensor};

use super::tensors;

/// The differences between a tensor and a reference.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Difference {
    /// The largest absolute difference.
    pub(crate) max_abs: f64,
    /// The same divided by the largest magnitude in the reference.
    pub(crate) relative: f64,
    /// The largest share of what is allowed that an element takes; more than 1 is a failure.
    pub(crate) share: f64,
    /// The number of elements of which nothing is known, since rounding decides whether they are numbers. They are not in
    /// `share`.
    pub(crate) undecided: usize,
}

impl Difference {
    /// Whether there are elements, and none of them could be held against a limit.
    pub(crate) fn decides_nothing(&self, elements: usize) -> bool {
        elements > 0 && self.undecided == elements
    }
}

/// Differences that the user allows; what is not given, rounding decides.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Allowed {
    /// Relative to the largest magnitude of the output.
    pub(crate) tolerance: Option<f64>,
    /// Absolute; for integers in steps.
    pub(crate) absolute: Option<f64>,
}

impl Allowed {
    pub(crate) fn is_given(self) -> bool {
        self.tolerance.is_some() || self.absolute.is_some()
    }

    /// Whether what rounding explains is allowed too: if no relative limit is given; a share is no number of steps.
    fn keeps_bounds(self, dtype: DType) -> bool {
        self.tolerance.is_none() || (!dtype.is_float() && self.absolute.is_none())
    }

    /// For the table: what is required of an element; `floor` as in [`Limits`].
    pub(crate) fn rule(self, dtype: DType, floor: f64) -> String {
        let relative = match self.tolerance {
            Some(tolerance) if dtype.is_float() || self.absolute.is_some() => format!("<= {tolerance:.1e}"),
            Some(tolerance) => format!("<= {tolerance:.1e} or rounding"),
            None if floor > 0.0 => format!("<= {floor:.1e} or rounding"),
            None => "rounding".to_owned(),
        };
        match self.absolute {
            Some(absolute) => format!("{relative} or {absolute:.1e} abs"),
            None => relative,
        }
    }
}

/// The largest difference, relative to the largest magnitude, that two ways of computing an output may show if nothing
/// else is known: room for sums of some thousand terms in any order. Integers and truth values must be equal.
pub(crate) fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F32 => 1e-4,
        DType::F64 => 1e-11,
        // About ten steps of the type.
        DType::F16 => 5e-3,
        DType::BF16 => 4e-2,
        DType::I64
        | DType::I32
        | DType::I8
        | DType::U8
        | DType::I16
        | DType::U16
        | DType::U32
        | DType::U64
        | DType::Bool => 0.0,
    }
}

/// For each element of an output, how far code may be from the reference: what rounding explains. Two programs, the
/// model as it is lowered and what passes made of it, round differently; but the second is not trusted
/// with more than [`tolerance`], or one step of an integer, since it is what is being checked.
pub(crate) fn bounds(reference: &Rounded, transformed: &Rounded) -> Vec<f64> {
    let dtype = reference.value.dtype();
    let scale = largest(&tensors::to_f64(&reference.value).unwrap_or_default());
    let cap = if dtype.is_float() { tolerance(dtype) * scale } else { 1.0 };
    let radius = |of: &Rounded, i: usize| f64::from(of.radius.get(i).copied().unwrap_or(0.0));
    (0..reference.value.len())
        .map(|i| allowed(radius(reference, i), dtype).max(allowed(radius(transformed, i), dtype).min(cap)))
        .collect()
}

/// How far the elements of an output may be from others if the user does not say it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits<'a> {
    /// What rounding explains, for each element.
    pub(crate) bounds: &'a [f64],
    /// What is allowed in any case, relative to the largest magnitude.
    pub(crate) floor: f64,
}

/// The limits of an output's elements: the larger of the relative and the absolute one. A relative limit that the user gives
/// takes the place of what rounding explains; integers keep that as long as no absolute limit is given.
pub(crate) fn limits(
    given: Allowed,
    Limits { bounds, floor }: Limits<'_>,
    reference: &Tensor,
) -> Result<Vec<f64>> {
    let dtype = reference.dtype();
    let scale = largest(&tensors::to_f64(reference)?);
    let floor = given.tolerance.unwrap_or(floor);
    let absolute = given.absolute.unwrap_or(0.0);
    let keeps = given.keeps_bounds(dtype);
    let given = if scale == 0.0 { absolute } else { (floor * scale).max(absolute) };
    // An absolute limit decides where rounding does not.
    let keeps = |bound: f64| keeps && (bound.is_finite() || absolute == 0.0);
    Ok(bounds.iter().map(|bound| if keeps(*bound) { bound.max(given) } else { given }).collect())
}

/// Compares a tensor with a reference. Two NaN are equal, as are two equal infinities; apart from that a value that is
/// not finite differs infinitely from anything else. The element types may be `f32` and `f64`.
pub(crate) fn difference(value: &Tensor, reference: &Tensor, limits: &[f64]) -> Result<Difference> {
    if value.shape() != reference.shape() {
        let inf = f64::INFINITY;
        return Ok(Difference { max_abs: inf, relative: inf, share: inf, undecided: 0 });
    }
    let (values, references) = (tensors::to_f64(value)?, tensors::to_f64(reference)?);
    let mut found = Difference { max_abs: 0.0, relative: 0.0, share: 0.0, undecided: 0 };
    let wide = wide_integers(value).zip(wide_integers(reference));
    for (i, (v, r)) in values.iter().zip(&references).enumerate() {
        let limit = limits.get(i).copied().unwrap_or(0.0);
        let distance = match &wide {
            Some((values, references)) => values[i].abs_diff(references[i]) as f64,
            None => distance(*v, *r),
        };
        found.max_abs = found.max_abs.max(distance);
        if limit.is_infinite() {
            found.undecided += 1;
        } else if distance > 0.0 {
            found.share = found.share.max(distance / limit);
        }
    }
    if found.max_abs > 0.0 {
        found.relative = found.max_abs / largest(&references);
    }
    Ok(found)
}

/// The elements of an integer type that `f64` does not hold.
fn wide_integers(tensor: &Tensor) -> Option<Vec<i128>> {
    match tensor.dtype() {
        DType::I64 => Some(tensor.values::<i64>().ok()?.iter().map(|v| i128::from(*v)).collect()),
        DType::U64 => Some(tensor.values::<u64>().ok()?.iter().map(|v| i128::from(*v)).collect()),
        DType::F32
        | DType::F64
        | DType::F16
        | DType::BF16
        | DType::I32
        | DType::I8
        | DType::U8
        | DType::I16
        | DType::U16
        | DType::U32
        | DType::Bool => None,
    }
}

/// The largest finite magnitude.
fn largest(values: &[f64]) -> f64 {
    values.iter().filter(|v| v.is_finite()).fold(0.0, |acc: f64, v| acc.max(v.abs()))
}

fn distance(a: f64, b: f64) -> f64 {
    match (a - b).abs() {
        _ if a == b || (a.is_nan() && b.is_nan()) => 0.0,
        d if d.is_finite() => d,
        _ => f64::INFINITY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn f64s(values: &[f64]) -> Tensor {
        Tensor::new(&[values.len()], values).unwrap()
    }

    fn compare(values: &[f64], reference: &[f64], limit: f64) -> Difference {
        difference(&f64s(values), &f64s(reference), &vec![limit; reference.len()]).unwrap()
    }

    #[test]
    fn differences_are_relative_to_the_largest_value() {
        let d = compare(&[1.0, 10.5, 0.0], &[1.0, 10.0, 0.0], 0.25);
        assert_eq!((d.max_abs, d.relative, d.share), (0.5, 0.05, 2.0));
        assert_eq!(compare(&[], &[], 0.0).relative, 0.0);
        assert_eq!(compare(&[0.0], &[0.0], 0.0).relative, 0.0);
        assert_eq!(compare(&[1.0], &[0.0], 0.0).relative, f64::INFINITY);
        assert_eq!(compare(&[1.0], &[0.0], 0.0).share, f64::INFINITY);
    }

    #[test]
    fn what_is_not_finite_must_be_the_same() {
        let inf = f64::INFINITY;
        assert_eq!(compare(&[f64::NAN, inf, -inf], &[f64::NAN, inf, -inf], 1.0).max_abs, 0.0);
        for (a, b) in [(f64::NAN, 1.0), (1.0, f64::NAN), (inf, -inf), (inf, 1.0), (1.0, inf)] {
            let d = compare(&[a, 0.0], &[b, 0.0], 1e30);
            assert_eq!((d.max_abs, d.relative, d.share), (inf, inf, inf), "{a} {b}");
        }
        assert_eq!(compare(&[1.0], &[1.0, 2.0], 1.0).max_abs, inf);
    }

    #[test]
    fn integers_that_f64_does_not_hold_are_told_apart() {
        let tensor = |v: i64| Tensor::new(&[1], &[v]).unwrap();
        let d = difference(&tensor((1 << 53) + 1), &tensor(1 << 53), &[0.0]).unwrap();
        assert_eq!((d.max_abs, d.share), (1.0, f64::INFINITY));
    }

    #[test]
    fn undecided_elements_are_counted() {
        let d = difference(&f64s(&[1.0, 2.0]), &f64s(&[1.0, f64::NAN]), &[0.0, f64::INFINITY]).unwrap();
        assert_eq!((d.share, d.undecided, d.max_abs), (0.0, 1, f64::INFINITY));
        assert!(!d.decides_nothing(2));
        let d = difference(&f64s(&[1.0]), &f64s(&[3.0]), &[f64::INFINITY]).unwrap();
        assert!(d.decides_nothing(1) && (d.share, d.max_abs) == (0.0, 2.0));
        assert!(!difference(&f64s(&[]), &f64s(&[]), &[]).unwrap().decides_nothing(0));
    }

    #[test]
    fn given_limits_replace_bounds_but_for_steps() {
        let given = |tolerance, absolute| Allowed { tolerance, absolute };
        let floats = f64s(&[10.0, 1.0]);
        assert_eq!(
            limits(given(None, None), Limits { bounds: &[0.5, 0.0], floor: 0.01 }, &floats).unwrap(),
            [0.5, 0.1]
        );
        assert_eq!(
            limits(given(Some(1e-3), None), Limits { bounds: &[0.5, 0.0], floor: 0.01 }, &floats).unwrap(),
            [0.01, 0.01]
        );
        assert_eq!(
            limits(given(Some(0.0), Some(0.2)), Limits { bounds: &[0.5, 0.0], floor: 0.01 }, &floats)
                .unwrap(),
            [0.2, 0.2]
        );
        assert_eq!(
            limits(given(None, Some(0.2)), Limits { bounds: &[0.5, 0.0], floor: 0.0 }, &floats).unwrap(),
            [0.5, 0.2]
        );
        let bounds = [f64::INFINITY, 0.0];
        assert_eq!(
            limits(given(None, Some(0.2)), Limits { bounds: &bounds, floor: 0.0 }, &floats).unwrap(),
            [0.2, 0.2]
        );
        let steps = Tensor::new(&[2], &[100u8, 3]).unwrap();
        assert_eq!(
            limits(given(Some(1e-3), None), Limits { bounds: &[1.0, 0.0], floor: 0.0 }, &steps).unwrap(),
            [1.0, 0.1]
        );
        assert_eq!(
            limits(given(None, Some(2.0)), Limits { bounds: &[1.0, 0.0], floor: 0.0 }, &steps).unwrap(),
            [2.0, 2.0]
        );
    }
}
