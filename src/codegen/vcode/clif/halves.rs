//! Conversions between `f16` and `f32`, by operations on their bits: what scalar code does, on four lanes.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};

use super::Emitter;

/// The bits of the `f32` infinity.
const INFINITY: u32 = 0x7f80_0000;

impl Emitter<'_, '_> {
    fn all_lanes(&mut self, bits: u32) -> Value {
        let bits = self.b.ins().iconst(types::I32, i64::from(bits));
        self.b.ins().splat(types::I32X4, bits)
    }

    fn all_floats(&mut self, value: f32) -> Value {
        let value = self.b.ins().f32const(value);
        self.b.ins().splat(types::F32X4, value)
    }

    fn masked(&mut self, a: Value, bits: u32) -> Value {
        let bits = self.all_lanes(bits);
        self.b.ins().band(a, bits)
    }

    fn with_bits(&mut self, a: Value, bits: u32) -> Value {
        let bits = self.all_lanes(bits);
        self.b.ins().bor(a, bits)
    }

    /// Whether integers are larger than a bound, as signed ones.
    fn larger(&mut self, a: Value, bound: u32) -> Value {
        let bound = self.all_lanes(bound);
        self.b.ins().icmp(IntCC::SignedGreaterThan, a, bound)
    }

    /// `f32` from the bits of `f16`, in the low halves of integers.
    pub(super) fn f32_of_f16_bits(&mut self, bits: Value) -> Value {
        let sign = self.masked(bits, 0x8000);
        let sign = self.b.ins().ishl_imm_u(sign, 16);
        let magnitude = self.masked(bits, 0x7fff);
        let shifted = self.b.ins().ishl_imm_u(magnitude, 13);
        // The exponent is now 112 too small, for denormals too: a multiplication is exact.
        let (small, scale) = (self.as_float(shifted), self.all_floats(2f32.powi(112)));
        let finite = self.b.ins().fmul(small, scale);
        let finite = self.as_int(finite);
        let special = self.with_bits(shifted, INFINITY);
        let quiet = self.with_bits(special, 1 << 22);
        let is_nan = self.larger(magnitude, 0x7c00);
        let special = self.b.ins().bitselect(is_nan, quiet, special);
        let is_special = self.larger(magnitude, 0x7bff);
        let number = self.b.ins().bitselect(is_special, special, finite);
        let number = self.b.ins().bor(number, sign);
        self.as_float(number)
    }

    /// The bits of the `f16` nearest to `f32`, ties to even, in the low halves of integers.
    pub(super) fn f16_bits(&mut self, value: Value) -> Value {
        let bits = self.as_int(value);
        let magnitude = self.masked(bits, 0x7fff_ffff);
        let shifted = self.b.ins().ushr_imm_u(magnitude, 13);
        let odd = self.masked(shifted, 1);
        // The exponent 112 smaller, and rounded up from the middle on.
        let down = self.all_lanes(0xfff_u32.wrapping_sub(112 << 23));
        let normal = self.b.ins().iadd(magnitude, down);
        let normal = self.b.ins().iadd(normal, odd);
        let normal = self.b.ins().ushr_imm_u(normal, 13);
        // Added to 0.5, the unit in the last place is that of a denormal half: the addition rounds.
        let (float, one_half) = (self.as_float(magnitude), self.all_floats(0.5));
        let sum = self.b.ins().fadd(float, one_half);
        let (sum, one_half) = (self.as_int(sum), self.all_lanes(0.5f32.to_bits()));
        let denormal = self.b.ins().isub(sum, one_half);
        let is_normal = self.larger(magnitude, (113 << 23) - 1);
        let finite = self.b.ins().bitselect(is_normal, normal, denormal);
        let infinity = self.all_lanes(0x7c00);
        let is_large = self.larger(magnitude, (143 << 23) - 1);
        let number = self.b.ins().bitselect(is_large, infinity, finite);
        let payload = self.masked(shifted, 0x3ff);
        let nan = self.with_bits(payload, 0x7e00);
        let is_nan = self.larger(magnitude, INFINITY);
        let magnitude = self.b.ins().bitselect(is_nan, nan, number);
        let sign = self.b.ins().ushr_imm_u(bits, 16);
        let sign = self.masked(sign, 0x8000);
        self.b.ins().bor(magnitude, sign)
    }
}
