//! The error function: a polynomial near zero, `1 - exp(polynomial)` elsewhere.

use super::MathBuilder;
use super::exp::exp_minus;
use crate::codegen::vcode::Cmp;

/// `erf(x) / x - 1` in powers of `x^2`, for small `x`.
const SMALL: [f32; 6] =
    [-5.967_617e-4, 4.991_194_2e-3, -2.676_813_5e-2, 1.128_199_25e-1, -3.761_253_4e-1, 1.283_791_7e-1];
/// `-log(1 - erf(x)) / x - 1` in powers of `x`, for the rest.
const LARGE: [f32; 7] = [
    1.728_534_7e-5,
    -3.831_971_3e-4,
    3.883_964_4e-3,
    -2.425_462_2e-2,
    1.067_778_8e-1,
    6.348_467e-1,
    1.287_175_1e-1,
];
const LIMIT: f32 = 0.927_734_4;

pub(super) fn erf<B: MathBuilder>(b: &mut B, x: B::F) -> B::F {
    let square = b.mul(x, x);
    let p = b.polynomial(square, &SMALL);
    let small = b.fma(p, x, x);

    // From 4 on the result is 1.
    let four = b.float(4.0);
    let magnitude = b.abs(x);
    let t = b.min(four, magnitude);
    let (one, limit) = (b.float(1.0), b.float(LIMIT));
    let p = b.polynomial(t, &LARGE);
    let exponent = b.fma(p, t, t);
    let e = exp_minus(b, exponent);
    let large = b.sub(one, e);
    let large = b.copysign(large, x);

    let is_large = b.compare(Cmp::Gt, magnitude, limit);
    b.select(is_large, large, small)
}
