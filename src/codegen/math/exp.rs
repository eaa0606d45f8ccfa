//! The exponential function and what follows from it.
//!
//! `x = n * ln 2 + r` with `|r| <= ln 2 / 2`; `exp(r)` is a polynomial.

use super::MathBuilder;
use crate::codegen::vcode::Cmp;

/// Adding it rounds to an integer, which then is in the low bits.
pub(super) const ROUNDER: f32 = 12_582_912.0;
/// ln 2 in two parts, the first short enough for exact products with small integers.
pub(super) const LN2_HIGH: f32 = 0.693_359_4;
pub(super) const LN2_LOW: f32 = -2.121_944_4e-4;
/// `(exp(r) - 1 - r) / r^2`, a minimax polynomial for the relative error of `exp(r)`.
const P: [f32; 5] = [1.381_454e-3, 8.368_745e-3, 4.166_839e-2, 1.666_652_1e-1, 4.999_999_4e-1];
/// `(exp(-r) - 1 + r) / r^2`: the same with the signs of the odd powers exchanged.
const P_MINUS: [f32; 5] = [P[0], -P[1], P[2], -P[3], P[4]];
/// What is added to the exponent of a float in its bits.
const BIAS: f32 = 127.0;

/// `exp(sign * x) = 2^n * exp(sign * r)`.
struct Reduced<B: MathBuilder> {
    /// `n + ROUNDER + offset`.
    shifted: B::F,
    n: B::F,
    r: B::F,
}

/// Reduces the operand of `exp(sign * x)`.
fn reduce<B: MathBuilder>(b: &mut B, x: B::F, sign: f32, offset: f32) -> Reduced<B> {
    let (log2_e, rounder) = (b.float(sign * std::f32::consts::LOG2_E), b.float(ROUNDER + offset));
    let shifted = b.fma(x, log2_e, rounder);
    let n = b.sub(shifted, rounder);
    let (high, low) = (b.float(-sign * LN2_HIGH), b.float(-sign * LN2_LOW));
    let r = b.fma(n, high, x);
    let r = b.fma(n, low, r);
    Reduced { shifted, n, r }
}

/// `exp(r)` for small `r`, given the coefficients for the sign of `r`.
fn small_exp<B: MathBuilder>(b: &mut B, r: B::F, p: &[f32; 5], sign: f32) -> B::F {
    let [a, c, d, e, f] = *p;
    b.polynomial(r, &[a, c, d, e, f, sign, 1.0])
}

/// `exp(r) - 1` for small `r`.
fn small_expm1<B: MathBuilder>(b: &mut B, r: B::F) -> B::F {
    let square = b.mul(r, r);
    let q = b.polynomial(r, &P);
    b.fma(q, square, r)
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
    let Reduced { shifted, n, r } = reduce(b, x, 1.0, 0.0);
    let e = small_exp(b, r, &P, 1.0);
    scale(b, e, shifted, n)
}

/// `exp(-x)` for `0 <= x <= 104`, or NaN.
pub(super) fn exp_minus<B: MathBuilder>(b: &mut B, x: B::F) -> B::F {
    let Reduced { shifted, n, r } = reduce(b, x, -1.0, 0.0);
    let e = small_exp(b, r, &P_MINUS, -1.0);
    scale(b, e, shifted, n)
}

pub(super) fn expm1<B: MathBuilder>(b: &mut B, x: B::F) -> B::F {
    let clamped = clamp(b, x, -20.0, 89.0);
    let Reduced { shifted, r, .. } = reduce(b, clamped, 1.0, 0.0);
    let n = exponent(b, shifted);
    let e = small_expm1(b, r);
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

/// `1 / (1 + exp(-x))`, both sides of the fraction times 2^-64, so that nothing overflows and a denormal result is
/// rounded once.
pub(super) fn sigmoid<B: MathBuilder>(b: &mut B, x: B::F) -> B::F {
    const EXPONENT: f32 = -64.0;
    // Beyond these, the result is 0 and 1.
    let x = clamp(b, x, -104.0, 30.0);
    let Reduced { shifted, r, .. } = reduce(b, x, -1.0, EXPONENT + BIAS);
    // The sum holds the exponent, with the bias that it has in a float, in its low bits.
    let bits = b.bits(shifted);
    let bits = b.shl(bits, 23);
    let power = b.float_of_bits(bits);
    let (e, one) = (small_exp(b, r, &P_MINUS, -1.0), b.float(EXPONENT.exp2()));
    let denominator = b.fma(e, power, one);
    b.div(one, denominator)
}

/// `t / (t + 2)` with `t = expm1(2 |x|)`, and the sign of `x`.
pub(super) fn tanh<B: MathBuilder>(b: &mut B, x: B::F) -> B::F {
    let (limit, one, two) = (b.float(10.0), b.float(1.0), b.float(2.0));
    let magnitude = b.abs(x);
    let magnitude = b.min(limit, magnitude);
    let doubled = b.add(magnitude, magnitude);
    let Reduced { shifted, r, .. } = reduce(b, doubled, 1.0, BIAS);
    let bits = b.bits(shifted);
    let bits = b.shl(bits, 23);
    let power = b.float_of_bits(bits);
    let e = small_expm1(b, r);
    let rest = b.sub(power, one);
    let t = b.fma(power, e, rest);
    let denominator = b.add(t, two);
    let ratio = b.div(t, denominator);
    b.copysign(ratio, x)
}
