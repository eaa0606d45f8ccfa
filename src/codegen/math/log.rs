//! The natural logarithm.
//!
//! `x = 2^e * m` with `sqrt(1/2) <= m < sqrt(2)`; `log(m)` is a polynomial in `m - 1` (Cephes' minimax
//! coefficients).

use super::MathBuilder;
use super::exp::{LN2_HIGH, LN2_LOW};
use crate::codegen::vcode::Cmp;

/// `(log(1 + f) - f + f^2 / 2) / f^3`.
const P: [f32; 9] = [
    7.037_683_6e-2,
    -1.151_461e-1,
    1.167_699_9e-1,
    -1.242_014_1e-1,
    1.424_932_3e-1,
    -1.666_805_8e-1,
    2.000_071_5e-1,
    -2.499_999_4e-1,
    3.333_333e-1,
];

/// The bits of sqrt(1/2).
const SQRT_HALF: i32 = 0x3f35_04f3;

/// The logarithm of a finite positive number.
fn log_positive<B: MathBuilder>(b: &mut B, x: B::F) -> B::F {
    // A denormal is made normal first.
    let (least_normal, scale) = (b.float(f32::MIN_POSITIVE), b.float(8_388_608.0));
    let denormal = b.compare(Cmp::Lt, x, least_normal);
    let scaled = b.mul(x, scale);
    let x = b.select(denormal, scaled, x);
    let (zero, minus_23) = (b.float(0.0), b.float(-23.0));
    let scaled_by = b.select(denormal, minus_23, zero);

    let (base, mantissa) = (b.int(SQRT_HALF), b.int(0x007f_ffff));
    let bits = b.bits(x);
    let shifted = b.int_sub(bits, base);
    let exponent = b.shr(shifted, 23);
    let exponent = b.to_float(exponent);
    let exponent = b.add(exponent, scaled_by);
    let m = b.and(shifted, mantissa);
    let m = b.int_add(m, base);
    let m = b.float_of_bits(m);

    let (one, minus_half) = (b.float(1.0), b.float(-0.5));
    let f = b.sub(m, one);
    let square = b.mul(f, f);
    let p = b.polynomial(f, &P);
    let p = b.mul(p, f);
    let mut tail = b.mul(p, square);
    let (high, low) = (b.float(LN2_HIGH), b.float(LN2_LOW));
    tail = b.fma(exponent, low, tail);
    tail = b.fma(minus_half, square, tail);
    let result = b.add(f, tail);
    b.fma(exponent, high, result)
}

pub(super) fn log<B: MathBuilder>(b: &mut B, x: B::F) -> B::F {
    let (zero, infinity) = (b.float(0.0), b.float(f32::INFINITY));
    let (minus_infinity, nan) = (b.float(f32::NEG_INFINITY), b.float(f32::NAN));
    let result = log_positive(b, x);
    let infinite = b.compare(Cmp::Eq, x, infinity);
    let result = b.select(infinite, infinity, result);
    let is_zero = b.compare(Cmp::Eq, x, zero);
    let result = b.select(is_zero, minus_infinity, result);
    // False for NaN too.
    let valid = b.compare(Cmp::Ge, x, zero);
    b.select(valid, result, nan)
}

/// `log(u) + (x - (u - 1)) / u` with `u = 1 + x` rounded.
pub(super) fn log1p<B: MathBuilder>(b: &mut B, x: B::F) -> B::F {
    let (zero, one, infinity) = (b.float(0.0), b.float(1.0), b.float(f32::INFINITY));
    let u = b.add(one, x);
    let log_u = log(b, u);
    let rounded = b.sub(u, one);
    let error = b.sub(x, rounded);
    let correction = b.div(error, u);
    // At 0 and infinity the correction is NaN.
    let infinite = b.compare(Cmp::Eq, u, infinity);
    let correction = b.select(infinite, zero, correction);
    let is_zero = b.compare(Cmp::Eq, u, zero);
    let correction = b.select(is_zero, zero, correction);
    let result = b.add(log_u, correction);
    let (magnitude, tiny) = (b.abs(x), b.float(2.0e-8));
    let small = b.compare(Cmp::Lt, magnitude, tiny);
    b.select(small, x, result)
}
