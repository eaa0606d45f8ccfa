//! Elementary functions on `f32` vectors: at most 4 units in the last place from the true value, for every
//! operand, denormals, infinities and NaN included.
//!
//! The functions are written once, against [`MathBuilder`]: kernels emit them as SIMD code, tests evaluate
//! them on plain numbers. They assume nothing about fused multiply-add but that [`MathBuilder::fma`] rounds
//! once where [`MathBuilder::has_fma`] says so. Functions that are rarely needed are not here; kernels call
//! the runtime for them.

mod erf;
mod exp;
mod log;
#[cfg(test)]
mod tests;
mod trig;

use nestjit_ir::{DType, UnOp};

use super::runtime_fns;
use super::vcode::build::Builder;
use super::vcode::{BinaryOp, Class, Cmp, Reg, ShiftOp, UnaryOp};

/// What elementary functions are made of.
pub(super) trait MathBuilder {
    /// A vector of `f32`.
    type F: Copy;
    /// A vector of `i32`.
    type I: Copy;
    /// A vector of truth values.
    type M: Copy;

    fn has_fma(&self) -> bool;
    /// Whether there is [`MathBuilder::scale`].
    fn has_scale(&self) -> bool;
    /// `a * 2^n` for a whole number `n` of at most 250 either way, rounded once.
    fn scale(&mut self, a: Self::F, n: Self::F) -> Self::F;
    fn float(&mut self, value: f32) -> Self::F;
    fn int(&mut self, value: i32) -> Self::I;
    fn add(&mut self, a: Self::F, b: Self::F) -> Self::F;
    fn sub(&mut self, a: Self::F, b: Self::F) -> Self::F;
    fn mul(&mut self, a: Self::F, b: Self::F) -> Self::F;
    fn div(&mut self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`; rounded twice without [`MathBuilder::has_fma`].
    fn fma(&mut self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `a > b ? a : b`.
    fn max(&mut self, a: Self::F, b: Self::F) -> Self::F;
    /// `a < b ? a : b`.
    fn min(&mut self, a: Self::F, b: Self::F) -> Self::F;
    fn abs(&mut self, a: Self::F) -> Self::F;
    fn bits(&mut self, a: Self::F) -> Self::I;
    fn float_of_bits(&mut self, a: Self::I) -> Self::F;
    fn to_float(&mut self, a: Self::I) -> Self::F;
    fn int_add(&mut self, a: Self::I, b: Self::I) -> Self::I;
    fn int_sub(&mut self, a: Self::I, b: Self::I) -> Self::I;
    fn and(&mut self, a: Self::I, b: Self::I) -> Self::I;
    fn or(&mut self, a: Self::I, b: Self::I) -> Self::I;
    fn xor(&mut self, a: Self::I, b: Self::I) -> Self::I;
    fn shl(&mut self, a: Self::I, amount: u8) -> Self::I;
    /// The sign comes in.
    fn shr(&mut self, a: Self::I, amount: u8) -> Self::I;
    fn compare(&mut self, op: Cmp, a: Self::F, b: Self::F) -> Self::M;
    fn compare_int(&mut self, op: Cmp, a: Self::I, b: Self::I) -> Self::M;
    fn select(&mut self, mask: Self::M, a: Self::F, b: Self::F) -> Self::F;
    /// `mask ? op(x) : fast`, the function computed lane by lane, in the runtime, if any lane needs it.
    fn call_where(&mut self, mask: Self::M, op: UnOp, x: Self::F, fast: Self::F) -> Self::F;

    /// `((c[0] * x + c[1]) * x + ...) * x + c[n]`.
    fn polynomial(&mut self, x: Self::F, coefficients: &[f32]) -> Self::F {
        let mut sum = self.float(coefficients[0]);
        for &c in &coefficients[1..] {
            let c = self.float(c);
            sum = self.fma(sum, x, c);
        }
        sum
    }

    /// The magnitude of `a` with the sign of `sign`.
    fn copysign(&mut self, a: Self::F, sign: Self::F) -> Self::F {
        let sign_bit = self.int(i32::MIN);
        let (a, sign) = (self.abs(a), self.bits(sign));
        let (a, sign) = (self.bits(a), self.and(sign, sign_bit));
        let both = self.or(a, sign);
        self.float_of_bits(both)
    }
}

/// The vector code of a function; `None` if it has none.
pub(super) fn unary<B: MathBuilder>(b: &mut B, op: UnOp, x: B::F) -> Option<B::F> {
    Some(match op {
        UnOp::Exp => exp::exp(b, x),
        UnOp::Expm1 => exp::expm1(b, x),
        UnOp::Sigmoid => exp::sigmoid(b, x),
        UnOp::Tanh => exp::tanh(b, x),
        UnOp::Log => log::log(b, x),
        UnOp::Log1p => log::log1p(b, x),
        UnOp::Erf => erf::erf(b, x),
        UnOp::Sin => trig::sin(b, x),
        UnOp::Cos => trig::cos(b, x),
        _ => return None,
    })
}

impl MathBuilder for Builder {
    type F = Reg;
    type I = Reg;
    type M = Reg;

    fn has_fma(&self) -> bool {
        Builder::has_fma(self)
    }
    fn has_scale(&self) -> bool {
        Builder::has_scale(self)
    }
    fn scale(&mut self, a: Reg, n: Reg) -> Reg {
        self.binary(BinaryOp::Scale, a, n)
    }
    fn float(&mut self, value: f32) -> Reg {
        self.constant(Class::F32, value.to_bits())
    }
    fn int(&mut self, value: i32) -> Reg {
        self.constant(Class::I32, value as u32)
    }
    fn add(&mut self, a: Reg, b: Reg) -> Reg {
        self.binary(BinaryOp::Add, a, b)
    }
    fn sub(&mut self, a: Reg, b: Reg) -> Reg {
        self.binary(BinaryOp::Sub, a, b)
    }
    fn mul(&mut self, a: Reg, b: Reg) -> Reg {
        self.binary(BinaryOp::Mul, a, b)
    }
    fn div(&mut self, a: Reg, b: Reg) -> Reg {
        self.binary(BinaryOp::Div, a, b)
    }
    fn fma(&mut self, a: Reg, b: Reg, c: Reg) -> Reg {
        Builder::fma(self, a, b, c)
    }
    fn max(&mut self, a: Reg, b: Reg) -> Reg {
        self.binary(BinaryOp::Max, a, b)
    }
    fn min(&mut self, a: Reg, b: Reg) -> Reg {
        self.binary(BinaryOp::Min, a, b)
    }
    fn abs(&mut self, a: Reg) -> Reg {
        self.unary(UnaryOp::Abs, a)
    }
    fn bits(&mut self, a: Reg) -> Reg {
        self.unary(UnaryOp::Bits, a)
    }
    fn float_of_bits(&mut self, a: Reg) -> Reg {
        self.unary(UnaryOp::FromBits, a)
    }
    fn to_float(&mut self, a: Reg) -> Reg {
        self.unary(UnaryOp::ToFloat, a)
    }
    fn int_add(&mut self, a: Reg, b: Reg) -> Reg {
        self.binary(BinaryOp::IntAdd, a, b)
    }
    fn int_sub(&mut self, a: Reg, b: Reg) -> Reg {
        self.binary(BinaryOp::IntSub, a, b)
    }
    fn and(&mut self, a: Reg, b: Reg) -> Reg {
        self.binary(BinaryOp::And, a, b)
    }
    fn or(&mut self, a: Reg, b: Reg) -> Reg {
        self.binary(BinaryOp::Or, a, b)
    }
    fn xor(&mut self, a: Reg, b: Reg) -> Reg {
        self.binary(BinaryOp::Xor, a, b)
    }
    fn shl(&mut self, a: Reg, amount: u8) -> Reg {
        self.shift(ShiftOp::Left, a, amount)
    }
    fn shr(&mut self, a: Reg, amount: u8) -> Reg {
        self.shift(ShiftOp::SignedRight, a, amount)
    }
    fn compare(&mut self, op: Cmp, a: Reg, b: Reg) -> Reg {
        Builder::compare(self, op, a, b)
    }
    fn compare_int(&mut self, op: Cmp, a: Reg, b: Reg) -> Reg {
        Builder::compare(self, op, a, b)
    }
    fn select(&mut self, mask: Reg, a: Reg, b: Reg) -> Reg {
        Builder::select(self, mask, a, b)
    }
    fn call_where(&mut self, mask: Reg, op: UnOp, x: Reg, fast: Reg) -> Reg {
        let Some(function) = runtime_fns::unary(op, DType::F32) else { return fast };
        let result = self.variable(Class::F32);
        self.assign(result, fast);
        self.if_any(mask, |b| {
            let slow = b.call(function, vec![x]);
            let chosen = b.select(mask, slow, fast);
            b.assign(result, chosen);
        });
        result
    }
}
