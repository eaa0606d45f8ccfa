//! Half types: in memory they have 16 bits, in registers they are the `f32` of the same value. Arithmetic is that of `f32`,
//! rounded to the nearest half.
//!
//! Conversions are integer arithmetic that is exact to the bit, denormals, overflow and ties included; a NaN stays one.

use nestjit_ir::{BinOp, DType, Expr, UnOp};

use super::value::{Range, Regs, Val};
use super::{Result, Selector, is_f64};
use crate::codegen::vcode::{BinaryOp, Class, Cmp, Narrowing, Reg, ShiftOp, UnaryOp, Widening};

/// The bits of the `f32` infinity.
const INFINITY: u32 = 0x7f80_0000;

/// Whether a type is one of 16 bits that is held as `f32`.
pub(super) fn is_half(dtype: DType) -> bool {
    match dtype {
        DType::F16 | DType::BF16 => true,
        DType::F32 | DType::F64 | DType::Bool => false,
        DType::I64 | DType::I32 | DType::I16 | DType::I8 => false,
        DType::U64 | DType::U32 | DType::U16 | DType::U8 => false,
    }
}

/// Whether sums of products of a type are rounded once.
pub(super) fn is_contracted(dtype: DType) -> bool {
    dtype == DType::F32 || is_f64(dtype)
}

impl Selector<'_> {
    fn bits_32(&mut self, bits: u32) -> Reg {
        self.b.constant(Class::I32, bits)
    }

    fn and(&mut self, a: Reg, bits: u32) -> Reg {
        let mask = self.bits_32(bits);
        self.b.binary(BinaryOp::And, a, mask)
    }

    fn above(&mut self, a: Reg, bits: u32) -> Reg {
        let limit = self.bits_32(bits);
        self.b.compare(Cmp::Gt, a, limit)
    }

    /// The `f32` of the 16 bits in each lane, which are extended by zeros.
    pub(super) fn half_to_f32(&mut self, half: DType, a: Reg) -> Reg {
        if half == DType::BF16 {
            let bits = self.b.shift(ShiftOp::Left, a, 16);
            let single = self.b.unary(UnaryOp::FromBits, bits);
            self.half_bits.insert((half, single), a);
            return single;
        }
        let magnitude = self.and(a, 0x7fff);
        let shifted = self.b.shift(ShiftOp::Left, magnitude, 13);
        // The exponent is 112 too small, for denormals too: a multiplication is exact.
        let small = self.b.unary(UnaryOp::FromBits, shifted);
        let scale = self.b.constant(Class::F32, 2f32.powi(112).to_bits());
        let finite = self.b.binary(BinaryOp::Mul, small, scale);
        let finite = self.b.unary(UnaryOp::Bits, finite);
        let infinity = self.bits_32(INFINITY);
        let special = self.b.binary(BinaryOp::Or, shifted, infinity);
        let is_special = self.above(magnitude, 0x7bff);
        let bits = self.b.select(is_special, special, finite);
        let sign = self.and(a, 0x8000);
        let sign = self.b.shift(ShiftOp::Left, sign, 16);
        let bits = self.b.binary(BinaryOp::Or, bits, sign);
        let single = self.b.unary(UnaryOp::FromBits, bits);
        self.half_bits.insert((half, single), a);
        single
    }

    /// The 16 bits of the half nearest to an `f32`, ties to even.
    pub(super) fn f32_to_half(&mut self, half: DType, x: Reg) -> Reg {
        if let Some(bits) = self.half_bits.get(&(half, x)) {
            return *bits;
        }
        let bits = self.b.unary(UnaryOp::Bits, x);
        let is_nan = self.b.compare(Cmp::Unordered, x, x);
        if half == DType::BF16 {
            let upper = self.b.shift(ShiftOp::UnsignedRight, bits, 16);
            let odd = self.and(upper, 1);
            let middle = self.bits_32(0x7fff);
            let rounded = self.b.binary(BinaryOp::IntAdd, bits, middle);
            let rounded = self.b.binary(BinaryOp::IntAdd, rounded, odd);
            let rounded = self.b.shift(ShiftOp::UnsignedRight, rounded, 16);
            let quiet = self.bits_32(0x40);
            let quiet = self.b.binary(BinaryOp::Or, upper, quiet);
            return self.b.select(is_nan, quiet, rounded);
        }
        let magnitude = self.and(bits, 0x7fff_ffff);
        let shifted = self.b.shift(ShiftOp::UnsignedRight, magnitude, 13);
        let odd = self.and(shifted, 1);
        // The exponent 112 smaller, and rounded up from the middle on.
        let down = self.bits_32(0xfffu32.wrapping_sub(112 << 23));
        let normal = self.b.binary(BinaryOp::IntAdd, magnitude, down);
        let normal = self.b.binary(BinaryOp::IntAdd, normal, odd);
        let normal = self.b.shift(ShiftOp::UnsignedRight, normal, 13);
        // Added to 0.5, the unit in the last place is that of a denormal half: the addition rounds.
        let float = self.b.unary(UnaryOp::FromBits, magnitude);
        let half_one = self.b.constant(Class::F32, 0.5f32.to_bits());
        let sum = self.b.binary(BinaryOp::Add, float, half_one);
        let sum = self.b.unary(UnaryOp::Bits, sum);
        let base = self.bits_32(0.5f32.to_bits());
        let denormal = self.b.binary(BinaryOp::IntSub, sum, base);
        let is_normal = self.above(magnitude, (113 << 23) - 1);
        let finite = self.b.select(is_normal, normal, denormal);
        let is_large = self.above(magnitude, (143 << 23) - 1);
        let infinity = self.bits_32(0x7c00);
        let number = self.b.select(is_large, infinity, finite);
        let payload = self.and(shifted, 0x3ff);
        let quiet = self.bits_32(0x7e00);
        let nan = self.b.binary(BinaryOp::Or, payload, quiet);
        let magnitude = self.b.select(is_nan, nan, number);
        let sign = self.b.shift(ShiftOp::UnsignedRight, bits, 16);
        let sign = self.and(sign, 0x8000);
        self.b.binary(BinaryOp::Or, magnitude, sign)
    }

    /// An `f32` as a value of a half type.
    pub(super) fn rounded(&mut self, half: DType, a: Val) -> Val {
        let bits = self.f32_to_half(half, a.reg());
        let reg = self.half_to_f32(half, bits);
        Val::new(half, Regs::one(reg), a.varying)
    }

    /// Any value as one of a half type, rounded once.
    pub(super) fn to_half(&mut self, half: DType, a: Val) -> Val {
        match a.dtype {
            DType::F32 | DType::F16 | DType::BF16 => self.rounded(half, a),
            DType::F64 => {
                let single = self.odd_single(a);
                self.rounded(half, single)
            }
            DType::Bool | DType::I16 | DType::I8 | DType::U16 | DType::U8 => {
                let single = self.cast(DType::F32, a);
                self.rounded(half, single)
            }
            DType::I32 | DType::U32 => {
                let exact = self.cast(DType::F64, a);
                self.to_half(half, exact)
            }
            DType::I64 | DType::U64 => {
                let sticky = if a.is_wide() { self.sticky(a) } else { a };
                let exact = self.cast(DType::F64, sticky);
                self.to_half(half, exact)
            }
        }
    }

    /// The `f32` next to an `f64` towards zero, its last bit set if anything was lost: rounded to fewer bits, it is what the
    /// `f64` would be.
    fn odd_single(&mut self, a: Val) -> Val {
        let nearest = self.narrowed(Narrowing::Float, a.regs);
        let back = self.widened(Widening::Float, nearest);
        let differ = back.zip(a.regs, |x, y| self.b.compare(Cmp::Ne, x, y));
        let [size, own] = [back, a.regs].map(|r| r.map(|x| self.b.unary(UnaryOp::Abs, x)));
        let beyond = size.zip(own, |x, y| self.b.compare(Cmp::Gt, x, y));
        let (differ, beyond) = (self.mask_of(differ), self.mask_of(beyond));
        let (one, zero) = (self.bits_32(1), self.bits_32(0));
        let bits = self.b.unary(UnaryOp::Bits, nearest);
        let step = self.b.select(beyond, one, zero);
        let towards_zero = self.b.binary(BinaryOp::IntSub, bits, step);
        let odd = self.b.binary(BinaryOp::Or, towards_zero, one);
        let nan = self.b.compare(Cmp::Unordered, nearest, nearest);
        let exact = self.b.unary(UnaryOp::Not, differ);
        let keep = self.b.binary(BinaryOp::Or, exact, nan);
        let bits = self.b.select(keep, bits, odd);
        let reg = self.b.unary(UnaryOp::FromBits, bits);
        Val::new(DType::F32, Regs::one(reg), a.varying)
    }

    /// A 64-bit integer that `f64` has: instead of the last 12 bits of a large one, there is one that tells whether any is
    /// set.
    fn sticky(&mut self, a: Val) -> Val {
        let mut constant = |bits: u64| self.b.constant(Class::I64, bits);
        let (last, bit, zero) = (constant(0xfff), constant(1 << 12), constant(0));
        let least = if a.dtype.is_unsigned() { -1i64 } else { -(1i64 << 53) - 1 };
        let (least, most) = (constant(least as u64), constant(1 << 53));
        let low = a.regs.map(|x| self.b.binary(BinaryOp::And, x, last));
        let high = a.regs.zip(low, |x, low| self.b.binary(BinaryOp::IntSub, x, low));
        let lost = low.map(|x| self.b.compare(Cmp::Ne, x, zero));
        let lost = self.mask_of(lost);
        let bit = self.select_regs(lost, Regs::pair(bit, bit), Regs::pair(zero, zero));
        let large = high.zip(bit, |x, y| self.b.binary(BinaryOp::Or, x, y));
        let fits = a.regs.map(|x| {
            let above = self.b.compare(Cmp::Gt, x, least);
            let below = self.b.compare(Cmp::Lt, x, most);
            self.b.binary(BinaryOp::And, above, below)
        });
        let fits = self.mask_of(fits);
        let regs = self.select_regs(fits, a.regs, large);
        Val { regs, range: Range::of(a.dtype), ..a }
    }

    /// A value of a half type as the `f32` that it is held as.
    pub(super) fn single(&self, a: Val) -> Val {
        if is_half(a.dtype) { Val { dtype: DType::F32, ..a } } else { a }
    }

    pub(super) fn half_unary(&mut self, op: UnOp, a: Val) -> Result<Val> {
        let result = self.single(a);
        let result = self.float_unary(op, result)?;
        let exact = match op {
            UnOp::Neg | UnOp::Abs | UnOp::Sign | UnOp::Floor | UnOp::Ceil | UnOp::Round | UnOp::Trunc => true,
            UnOp::IsNan | UnOp::IsInf => return Ok(result),
            _ => false,
        };
        Ok(if exact { Val { dtype: a.dtype, ..result } } else { self.rounded(a.dtype, result) })
    }

    pub(super) fn half_binary(&mut self, op: BinOp, a: Val, b: Val, right: &Expr) -> Result<Val> {
        let (x, y) = (self.single(a), self.single(b));
        let result = self.float_binary(op, x, y, right)?;
        Ok(match op {
            _ if result.dtype == DType::Bool => result,
            BinOp::Max | BinOp::Min => Val { dtype: a.dtype, ..result },
            _ => self.rounded(a.dtype, result),
        })
    }

    /// Registers of a value as they are in memory.
    pub(super) fn stored(&mut self, dtype: DType, regs: Regs) -> Regs {
        if is_half(dtype) { Regs::one(self.f32_to_half(dtype, regs.low)) } else { regs }
    }

    /// Registers of a value that are as they were in memory.
    pub(super) fn loaded(&mut self, dtype: DType, regs: Regs) -> Regs {
        if is_half(dtype) { Regs::one(self.half_to_f32(dtype, regs.low)) } else { regs }
    }
}
