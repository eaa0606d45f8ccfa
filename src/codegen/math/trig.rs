//! Sine and cosine.
//!
//! `x = n * pi/2 + r` with `|r| <= pi/4`; both functions of `r` are polynomials. Operands so large that the
//! reduction would lose its accuracy go to the runtime.

use nestjit_ir::UnOp;

use super::MathBuilder;
use super::exp::ROUNDER;
use crate::codegen::vcode::Cmp;

/// pi/2 in three parts, for fused multiply-add.
const FUSED_PARTS: [f32; 3] = [f32::from_bits(0x3fc9_0fd8), 3.139_164_7e-7, 5.390_302_5e-15];
/// The largest operand for which they suffice.
const FUSED_LIMIT: f32 = 71_476.0;
/// pi/2 in parts of 11 bits, so that products with integers of 13 bits are exact.
const SHORT_PARTS: [f32; 5] = [1.5703125, 4.837513e-4, 7.5495336e-8, 2.563283e-12, 6.125742e-17];
const SHORT_LIMIT: f32 = 8_000.0;

const SINE: [f32; 4] = [2.865_679_6e-6, -1.985_599_2e-4, 8.333_386e-3, -1.666_666_7e-1];
const COSINE: [f32; 5] = [2.446_770_7e-5, -1.388_773e-3, 4.166_665_7e-2, -0.5, 1.0];

/// The number of quarter turns, and the angle that remains.
fn reduce<B: MathBuilder>(b: &mut B, x: B::F) -> (B::I, B::F) {
    let (quarters, rounder) = (b.float(std::f32::consts::FRAC_2_PI), b.float(ROUNDER));
    let shifted = b.fma(x, quarters, rounder);
    let n = b.sub(shifted, rounder);
    let parts: &[f32] = if b.has_fma() { &FUSED_PARTS } else { &SHORT_PARTS };
    let mut r = x;
    for &part in parts {
        let part = b.float(-part);
        r = b.fma(n, part, r);
    }
    let (shifted, rounder) = (b.bits(shifted), b.int(ROUNDER.to_bits() as i32));
    (b.int_sub(shifted, rounder), r)
}

/// The sine of `r + quarter turns`.
fn rotated<B: MathBuilder>(b: &mut B, quarters: B::I, r: B::F) -> B::F {
    let square = b.mul(r, r);
    let cosine = b.polynomial(square, &COSINE);
    let p = b.polynomial(square, &SINE);
    // Adding +0 keeps the sign of a zero in the next step.
    let zero = b.float(0.0);
    let cube = b.fma(r, square, zero);
    let sine = b.fma(p, cube, r);
    let (one, two, none) = (b.int(1), b.int(2), b.int(0));
    let odd = b.and(quarters, one);
    let odd = b.compare_int(Cmp::Ne, odd, none);
    let value = b.select(odd, cosine, sine);
    let half_turn = b.and(quarters, two);
    let sign = b.shl(half_turn, 30);
    let value = b.bits(value);
    let value = b.xor(value, sign);
    b.float_of_bits(value)
}

fn exact_for_large<B: MathBuilder>(b: &mut B, op: UnOp, x: B::F, fast: B::F) -> B::F {
    let limit = if b.has_fma() { FUSED_LIMIT } else { SHORT_LIMIT };
    let limit = b.float(limit);
    let magnitude = b.abs(x);
    let large = b.compare(Cmp::Gt, magnitude, limit);
    b.call_where(large, op, x, fast)
}

pub(super) fn sin<B: MathBuilder>(b: &mut B, x: B::F) -> B::F {
    let (n, r) = reduce(b, x);
    let fast = rotated(b, n, r);
    exact_for_large(b, UnOp::Sin, x, fast)
}

pub(super) fn cos<B: MathBuilder>(b: &mut B, x: B::F) -> B::F {
    let (n, r) = reduce(b, x);
    let one = b.int(1);
    let n = b.int_add(n, one);
    let fast = rotated(b, n, r);
    exact_for_large(b, UnOp::Cos, x, fast)
}
