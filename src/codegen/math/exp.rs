//! The exponential function and what follows from it.
//!
//! `x = n * ln 2 + r` with `|r| <= ln 2 / 2`; `exp(r)` is a polynomial (Cephes' minimax coefficients).

use super::MathBuilder;
use crate::codegen::vcode::Cmp;

/// Adding it rounds to an integer, which then is in the low bits.
pub(super) const ROUNDER: f32 = 12_582_912.0;
/// ln 2 in two parts, the first short enough for exact products with small integers.
pub(super) const LN2_HIGH: f32 = 0.693_359_4;
pub(super) const LN2_LOW: f32 = -2.121_944_4e-4;
/// `(exp(r) - 1 - r) / r^2`.
const P: [f32; 6] = [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
/// `(exp(-r) - 1 + r) / r^2`: the same with the signs of the odd powers exchanged.
const P_MINUS: [f32; 6] = [-P[0], P[1], -P[2], P[3], -P[4], P[5]];

/// `exp(sign * x) = 2^n * exp(sign * r)`.
struct Reduced<B: MathBuilder> {
    /// `n + ROUNDER`.
    shifted: B::F,
    n: B::F,
    r: B::F,
}

/// Reduces the operand of `exp(sign * x)`.
fn reduce<B: MathBuilder>(b: &mut B, x: B::F, sign: f32) -> Reduced<B> {
    let (log2_e, rounder) = (b.float(sign * std::f32::consts::LOG2_E), b.float(ROUNDER));
    let shifted = b.fma(x, log2_e, rounder);
    let n = b.sub(shifted, rounder);
    let (high, low) = (b.float(-sign * LN2_HIGH), b.float(-sign * LN2_LOW));
    let r = b.fma(n, high, x);
    let r = b.fma(n, low, r);
    Reduced { shifted, n, r }
}

/// The exponent of [`Reduced`] as an integer.
fn exponent<B: MathBuilder>(b: &mut B, shifted: B::F) -> B::I {
    let (shifted, rounder) = (b.bits(shifted), b.int(ROUNDER.to_bits() as i32));
    b.int_sub(shifted, rounder)
}

/// `2^n` for `-126 <= n <= 127`.
fn power_of_two<B: MathBuilder>(b: &mut B, n: B::I) -> B::F {
    let bias = b.int(127);
    let exponent = b.int_add(n, bias);
    let bits = b.shl(exponent, 23);
    b.float_of_bits(bits)
}

/// `e * 2^n` for the `n` of [`Reduced`].
fn scale<B: MathBuilder>(b: &mut B, e: B::F, shifted: B::F, n: B::F) -> B::F {
    if b.has_scale() {
        return b.scale(e, n);
    }
    let n = exponent(b, shifted);
    // In two steps, so that each power of two exists and a denormal result is rounded once.
    let half = b.shr(n, 1);
    let rest = b.int_sub(n, half);
    let (half, rest) = (power_of_two(b, half), power_of_two(b, rest));
    let e = b.mul(e, half);
    b.mul(e, rest)
}

/// `x`, moved into a range outside of which the function no longer changes. NaN stays.
fn clamp<B: MathBuilder>(b: &mut B, x: B::F, lo: f32, hi: f32) -> B::F {
    let (lo, hi) = (b.float(lo), b.float(hi));
    let x = b.max(lo, x);
    b.min(hi, x)
}

pub(super) fn exp<B: MathBuilder>(b: &mut B, x: B::F) -> B::F {
    // Beyond these, the result is 0 and infinity.
    let x = clamp(b, x, -104.0, 89.0);
    let Reduced { shifted, n, r } = reduce(b, x, 1.0);
    let one = b.float(1.0);
    let square = b.mul(r, r);
    let q = b.polynomial(r, &P);
    let linear = b.add(r, one);
    let e = b.fma(q, square, linear);
    scale(b, e, shifted, n)
}

/// `exp(-x)` for `0 <= x <= 104`, or NaN.
pub(super) fn exp_minus<B: MathBuilder>(b: &mut B, x: B::F) -> B::F {
    let Reduced { shifted, n, r } = reduce(b, x, -1.0);
    let one = b.float(1.0);
    let square = b.mul(r, r);
    let q = b.polynomial(r, &P_MINUS);
    let linear = b.sub(one, r);
    let e = b.fma(q, square, linear);
    scale(b, e, shifted, n)
}

pub(super) fn expm1<B: MathBuilder>(b: &mut B, x: B::F) -> B::F {
    let clamped = clamp(b, x, -20.0, 89.0);
    let Reduced { shifted, r, .. } = reduce(b, clamped, 1.0);
    let n = exponent(b, shifted);
    let square = b.mul(r, r);
    let q = b.polynomial(r, &P);
    let e = b.fma(q, square, r);
    // 2 * (2^(n-1) * e + (2^(n-1) - 1/2)): 2^n itself may not exist.
    let (minus_one, half, two) = (b.int(-1), b.float(0.5), b.float(2.0));
    let n = b.int_add(n, minus_one);
    let scale = power_of_two(b, n);
    let rest = b.sub(scale, half);
    let halved = b.fma(scale, e, rest);
    let result = b.mul(halved, two);
    // Halving a denormal would lose a bit; and the sign of zero stays.
    let (magnitude, tiny) = (b.abs(x), b.float(2.0e-8));
    let small = b.compare(Cmp::Lt, magnitude, tiny);
    b.select(small, x, result)
}

/// `1 / (1 + exp(-x))`, as `exp(x) / (1 + exp(x))` for negative `x`, so that nothing overflows.
pub(super) fn sigmoid<B: MathBuilder>(b: &mut B, x: B::F) -> B::F {
    let (zero, one, limit) = (b.float(0.0), b.float(1.0), b.float(104.0));
    let magnitude = b.abs(x);
    let magnitude = b.min(limit, magnitude);
    let e = exp_minus(b, magnitude);
    let negative = b.compare(Cmp::Lt, x, zero);
    let numerator = b.select(negative, e, one);
    let denominator = b.add(one, e);
    b.div(numerator, denominator)
}

/// `t / (t + 2)` with `t = expm1(2 |x|)`, and the sign of `x`.
pub(super) fn tanh<B: MathBuilder>(b: &mut B, x: B::F) -> B::F {
    let (limit, two) = (b.float(10.0), b.float(2.0));
    let magnitude = b.abs(x);
    let magnitude = b.min(limit, magnitude);
    let doubled = b.add(magnitude, magnitude);
    let t = expm1(b, doubled);
    let denominator = b.add(t, two);
    let ratio = b.div(t, denominator);
    b.copysign(ratio, x)
}
