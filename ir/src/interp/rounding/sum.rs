//! Sums with radii: what another term adds, and what other orders of adding may change.

use super::ball::{Ball, integer};
use super::precision::{is_exact, range, unit};
use crate::interp::scalar::eval_binary;
use crate::ops::BinOp;
use crate::types::{DType, Scalar};

/// An accumulator after another term of a sum. Its radius leaves out what [`settle`] adds.
pub(super) fn add(sum: Ball, term: Ball) -> Option<Ball> {
    let (sum, term) = (sum.operand(), term.operand());
    let value = eval_binary(BinOp::Add, sum.value, term.value)?;
    let dtype = value.dtype();
    let Some(unit) = unit(dtype) else {
        return Some(Ball {
            magnitude: 0.0,
            ..integer(BinOp::Add, value, sum, term, !sum.is_uncertain() && !term.is_uncertain())
        });
    };
    let (x, y, v) = (sum.mid(), term.mid(), value.as_f64());
    let rounding = if is_exact(dtype, v, x + y) || !v.is_finite() { 0.0 } else { unit * v.abs() };
    let radius = sum.radius.hypot(term.radius).hypot(rounding);
    let magnitude = sum.magnitude + term.magnitude;
    let finite = |ball: Ball| ball.mid().is_finite() || ball.is_out_of_range();
    // A sum that only grows leaves the range in any order (its magnitude says so by being infinite); one that shrinks again
    // may not have left it.
    let grows = x * y >= 0.0 && (x.abs() - sum.magnitude).abs() <= 1e-6 * sum.magnitude;
    let magnitude = if v.is_finite() {
        magnitude
    } else if x.is_finite() && finite(term) {
        if grows { f64::INFINITY } else { magnitude }
    } else if x.is_infinite() && x * y < 0.0 {
        f64::MAX
    } else {
        magnitude.min(if sum.is_out_of_range() { f64::MAX } else { f64::INFINITY })
    };
    Some(Ball { value, radius, pending: 0.0, magnitude, origin: None })
}

/// The finished sum: its terms may be added in any order, so that roundings are relative to the sum of magnitudes.
pub(super) fn settle(sum: Ball) -> Ball {
    let dtype = sum.value.dtype();
    let Some(unit) = unit(dtype) else { return Ball::new(sum.value, sum.radius) };
    let (max, ..) = range(dtype);
    // Terms of one unit that add up to few of them are exact in any order.
    let held = Scalar::from_f64(dtype, sum.magnitude).as_f64();
    let exact = sum.radius == 0.0 && is_exact(dtype, held, sum.magnitude);
    let leaves = match dtype {
        DType::F32 | DType::F16 | DType::BF16 => sum.magnitude > max && sum.magnitude.is_finite(),
        // Magnitudes are held in it.
        DType::F64 => false,
        DType::I64 | DType::I32 | DType::I16 | DType::I8 | DType::Bool => false,
        DType::U64 | DType::U32 | DType::U16 | DType::U8 => false,
    };
    let radius = if leaves {
        f64::INFINITY
    } else if !exact && sum.value.as_f64().is_finite() {
        sum.radius.hypot(unit * sum.magnitude)
    } else {
        sum.radius
    };
    Ball::new(sum.value, radius)
}
