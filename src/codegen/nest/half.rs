//! Half types in scalar code: a value is its 16 bits, and arithmetic is that of `f32` (a function of the runtime: `f64`),
//! rounded to the nearest half.
//!
//! Conversions are integer instructions, the same on every machine, and exact to the bit: denormals, overflow and ties
//! too; a NaN stays one and keeps the upper bits of its payload.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Value, types};
use nestjit_ir::DType;

use super::Emitter;

/// A floating-point type of 16 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Half {
    F16,
    BF16,
}

impl Half {
    /// The half type that an element type is.
    pub fn of(dtype: DType) -> Option<Half> {
        match dtype {
            DType::F16 => Some(Half::F16),
            DType::BF16 => Some(Half::BF16),
            DType::F32 | DType::F64 | DType::Bool => None,
            DType::I64 | DType::I32 | DType::I16 | DType::I8 => None,
            DType::U64 | DType::U32 | DType::U16 | DType::U8 => None,
        }
    }
}

/// The bits of the `f32` infinity.
const INFINITY: i64 = 0x7f80_0000;

impl Emitter<'_, '_> {
    fn i32(&mut self, bits: i64) -> Value {
        self.b.ins().iconst(types::I32, bits)
    }

    fn bits(&mut self, x: Value) -> Value {
        self.b.ins().bitcast(types::I32, MemFlagsData::new(), x)
    }

    fn float(&mut self, bits: Value) -> Value {
        self.b.ins().bitcast(types::F32, MemFlagsData::new(), bits)
    }

    /// The `f32` with the value of a half.
    pub(super) fn half_to_f32(&mut self, half: Half, a: Value) -> Value {
        let wide = self.b.ins().uextend(types::I32, a);
        if half == Half::BF16 {
            let bits = self.b.ins().ishl_imm_u(wide, 16);
            return self.float(bits);
        }
        let sign = self.b.ins().band_imm_u(wide, 0x8000);
        let sign = self.b.ins().ishl_imm_u(sign, 16);
        let magnitude = self.b.ins().band_imm_u(wide, 0x7fff);
        let shifted = self.b.ins().ishl_imm_u(magnitude, 13);
        // The exponent is now 112 too small, for denormals too: a multiplication is exact.
        let small = self.float(shifted);
        let scale = self.b.ins().f32const(2f32.powi(112));
        let finite = self.b.ins().fmul(small, scale);
        let finite = self.bits(finite);
        let special = self.b.ins().bor_imm_u(shifted, INFINITY);
        let quiet = self.b.ins().bor_imm_u(special, 1 << 22);
        let is_nan = self.b.ins().icmp_imm_u(IntCC::UnsignedGreaterThan, magnitude, 0x7c00);
        let special = self.b.ins().select(is_nan, quiet, special);
        let is_finite = self.b.ins().icmp_imm_u(IntCC::UnsignedLessThan, magnitude, 0x7c00);
        let bits = self.b.ins().select(is_finite, finite, special);
        let bits = self.b.ins().bor(bits, sign);
        self.float(bits)
    }

    /// The half nearest to an `f32`, ties to even.
    pub(super) fn f32_to_half(&mut self, half: Half, x: Value) -> Value {
        let bits = self.bits(x);
        let magnitude = self.b.ins().band_imm_u(bits, 0x7fff_ffff);
        let is_nan = self.b.ins().icmp_imm_u(IntCC::UnsignedGreaterThan, magnitude, INFINITY);
        let wide = match half {
            Half::BF16 => {
                let upper = self.b.ins().ushr_imm_u(bits, 16);
                let odd = self.b.ins().band_imm_u(upper, 1);
                let rounded = self.b.ins().iadd_imm_s(bits, 0x7fff);
                let rounded = self.b.ins().iadd(rounded, odd);
                let rounded = self.b.ins().ushr_imm_u(rounded, 16);
                let quiet = self.b.ins().bor_imm_u(upper, 0x40);
                self.b.ins().select(is_nan, quiet, rounded)
            }
            Half::F16 => {
                let shifted = self.b.ins().ushr_imm_u(magnitude, 13);
                let odd = self.b.ins().band_imm_u(shifted, 1);
                // The exponent 112 smaller, and rounded up from the middle on.
                let normal = self.b.ins().iadd_imm_s(magnitude, 0xfff - (112 << 23));
                let normal = self.b.ins().iadd(normal, odd);
                let normal = self.b.ins().ushr_imm_u(normal, 13);
                // Added to 0.5, the unit in the last place is that of a denormal half: the addition rounds.
                let float = self.float(magnitude);
                let half_one = self.b.ins().f32const(0.5);
                let sum = self.b.ins().fadd(float, half_one);
                let sum = self.bits(sum);
                let denormal = self.b.ins().iadd_imm_s(sum, -(0x3f00_0000));
                let is_denormal = self.b.ins().icmp_imm_u(IntCC::UnsignedLessThan, magnitude, 113 << 23);
                let finite = self.b.ins().select(is_denormal, denormal, normal);
                let infinity = self.i32(0x7c00);
                let is_large =
                    self.b.ins().icmp_imm_u(IntCC::UnsignedGreaterThanOrEqual, magnitude, 143 << 23);
                let number = self.b.ins().select(is_large, infinity, finite);
                let payload = self.b.ins().band_imm_u(shifted, 0x3ff);
                let nan = self.b.ins().bor_imm_u(payload, 0x7e00);
                let magnitude = self.b.ins().select(is_nan, nan, number);
                let sign = self.b.ins().ushr_imm_u(bits, 16);
                let sign = self.b.ins().band_imm_u(sign, 0x8000);
                self.b.ins().bor(magnitude, sign)
            }
        };
        self.b.ins().ireduce(types::I16, wide)
    }

    /// The half nearest to an `f64`: by way of the `f32` next to it towards zero, whose last bit tells whether anything
    /// was lost ([`nestjit_ir::halves`]).
    pub(super) fn f64_to_half(&mut self, half: Half, x: Value) -> Value {
        let nearest = self.b.ins().fdemote(types::F32, x);
        let back = self.b.ins().fpromote(types::F64, nearest);
        let same = self.b.ins().fcmp(FloatCC::UnorderedOrEqual, back, x);
        let (size, own) = (self.b.ins().fabs(back), self.b.ins().fabs(x));
        let is_beyond = self.b.ins().fcmp(FloatCC::GreaterThan, size, own);
        let is_beyond = self.b.ins().uextend(types::I32, is_beyond);
        let bits = self.bits(nearest);
        let towards_zero = self.b.ins().isub(bits, is_beyond);
        let odd = self.b.ins().bor_imm_u(towards_zero, 1);
        let odd = self.float(odd);
        let single = self.b.ins().select(same, nearest, odd);
        self.f32_to_half(half, single)
    }

    /// The half nearest to an integer.
    pub(super) fn int_to_half(&mut self, half: Half, from: DType, a: Value) -> Value {
        match from.size() {
            0..4 => {
                let single = self.cast(from, DType::F32, a);
                self.f32_to_half(half, single)
            }
            4 => {
                let double = self.cast(from, DType::F64, a);
                self.f64_to_half(half, double)
            }
            _ => {
                // Beyond 2^53 an f64 would round: instead of the last 12 bits there is one that tells whether any is set.
                let low = self.b.ins().band_imm_u(a, 0xfff);
                let high = self.b.ins().isub(a, low);
                let lost = self.b.ins().icmp_imm_u(IntCC::NotEqual, low, 0);
                let lost = self.b.ins().uextend(types::I64, lost);
                let sticky = self.b.ins().ishl_imm_u(lost, 12);
                let large = self.b.ins().bor(high, sticky);
                let (limit, from_limit) = if from.is_unsigned() {
                    (1i64 << 53, a)
                } else {
                    (1i64 << 54, self.b.ins().iadd_imm_s(a, 1 << 53))
                };
                let fits = self.b.ins().icmp_imm_u(IntCC::UnsignedLessThan, from_limit, limit);
                let integer = self.b.ins().select(fits, a, large);
                let double = self.cast(from, DType::F64, integer);
                self.f64_to_half(half, double)
            }
        }
    }
}
