//! What types round to: the unit of their rounding, their range, and when a result is exact.

use crate::types::DType;

/// How many roundings a rounding counts for: room for other orders of the same operations, for products and sums
/// that are rounded once or twice, and for elementary functions that are off by some units in the last place.
pub(super) const ROOM: f64 = 4.0;

/// What a rounding may change at most, relative to the result, times [`ROOM`]; `None` for types that are exact.
pub(super) fn unit(dtype: DType) -> Option<f64> {
    dtype.epsilon().map(|epsilon| ROOM * epsilon / 2.0)
}

/// The largest finite value, the smallest normal one and the smallest of all; for a type that is not a float there are
/// none.
pub(super) fn range(dtype: DType) -> (f64, f64, f64) {
    match (dtype.largest_finite(), dtype.smallest_normal(), dtype.epsilon()) {
        (Some(largest), Some(normal), Some(epsilon)) => (largest, normal, normal * epsilon),
        _ => (f64::INFINITY, 0.0, 0.0),
    }
}

/// A radius as it is held: not rounded down to 0, and infinite if nothing is known.
pub(super) fn held_radius(radius: f64) -> f32 {
    if radius.is_nan() {
        f32::INFINITY
    } else if radius > 0.0 {
        (radius as f32).max(f32::from_bits(1))
    } else {
        0.0
    }
}

/// Whether a result is `wide` itself, which was computed in `f64`. What is held in `f64` too equals it in any case: it is taken to be
/// exact if it has no more digits than an `f32`, which a rounded result has once in 2^29 times.
pub(super) fn is_exact(dtype: DType, held: f64, wide: f64) -> bool {
    held == wide && (dtype != DType::F64 || f64::from(held as f32) == held)
}
