//! Half types: a value is in registers as the `f32` that it is. What is computed of halves is computed in a wider type, the one
//! that the interpreter takes, and rounded to a half once.

use nestjit_ir::{BinOp, BufId, DType, Expr, UnOp, halves};

use super::value::{Range, Regs, Val};
use super::{Result, Selector};
use crate::codegen::runtime_fns;
use crate::codegen::vcode::{BinaryOp, Class, Cmp, Narrowing, Reg, ShiftOp, UnaryOp, Widening};

/// Up to here integers are `f32`, and up to here they are `f64`.
const F32_INTEGERS: f64 = 16_777_216.0;
const F64_INTEGERS: u32 = 53;
/// Low bits of large integers of which a half only needs to know whether any is set.
const LOW_BITS: u64 = 0xfff;

/// The same number as `f32`.
pub(super) fn single(a: Val) -> Val {
    Val { dtype: DType::F32, ..a }
}

/// What a range becomes when it is rounded.
fn rounded(to: DType, range: Range) -> Range {
    let is_f16 = to == DType::F16;
    range.map(|v| if is_f16 { halves::f16_from_f64(v).to_f64() } else { halves::bf16_from_f64(v).to_f64() })
}

impl Selector<'_> {
    /// Any value but a half, rounded to one.
    pub(super) fn round_to_half(&mut self, to: DType, a: Val) -> Val {
        let exact = a.range.within(Range::new(-F32_INTEGERS, F32_INTEGERS));
        match a.dtype {
            DType::F32 => {
                let reg = self.nearest_half(to, a.reg());
                Val::new(to, Regs::one(reg), a.varying).ranged(rounded(to, a.range))
            }
            DType::F64 => {
                let reg = self.rounded_to_odd(a.regs);
                let value = Val::new(DType::F32, Regs::one(reg), a.varying).ranged(a.range);
                self.round_to_half(to, value)
            }
            DType::Bool => Val { dtype: to, ..self.cast(DType::F32, a) },
            DType::I8 | DType::U8 | DType::I16 | DType::U16 => {
                let value = self.cast(DType::F32, a);
                self.round_to_half(to, value)
            }
            DType::I32 | DType::U32 | DType::I64 | DType::U64 => {
                let a = if exact || !a.is_wide() { a } else { self.without_low_bits(a) };
                let value = self.cast(if exact { DType::F32 } else { DType::F64 }, a);
                self.round_to_half(to, value)
            }
            DType::F16 | DType::BF16 => self.round_to_half(to, single(a)),
        }
    }

    /// The `f32` with the value of the half that is nearest.
    fn nearest_half(&mut self, to: DType, a: Reg) -> Reg {
        if to == DType::F16 {
            return self.b.unary(UnaryOp::RoundF16, a);
        }
        let bits = self.b.unary(UnaryOp::Bits, a);
        let upper = self.b.shift(ShiftOp::UnsignedRight, bits, 16);
        let [one, middle, quiet, kept] =
            [1, 0x7fff, 1 << 22, 0xffff_0000].map(|v: u32| self.b.constant(Class::I32, v));
        let odd = self.b.binary(BinaryOp::And, upper, one);
        let up = self.b.binary(BinaryOp::IntAdd, odd, middle);
        let number = self.b.binary(BinaryOp::IntAdd, bits, up);
        // A NaN could become infinite.
        let nan = self.b.binary(BinaryOp::Or, bits, quiet);
        let is_nan = self.b.compare(Cmp::Unordered, a, a);
        let chosen = self.b.select(is_nan, nan, number);
        let chosen = self.b.binary(BinaryOp::And, chosen, kept);
        self.b.unary(UnaryOp::FromBits, chosen)
    }

    /// `f64` as the `f32` next to it towards zero, whose last bit is set if anything was lost.
    fn rounded_to_odd(&mut self, a: Regs) -> Reg {
        let nearest = self.narrowed(Narrowing::Float, a);
        let back = self.widened(Widening::Float, nearest);
        let [size, own] = [back, a].map(|regs| regs.map(|x| self.b.unary(UnaryOp::Abs, x)));
        // Neither holds for NaN.
        let beyond = size.zip(own, |x, y| self.b.compare(Cmp::Gt, x, y));
        let short = size.zip(own, |x, y| self.b.compare(Cmp::Lt, x, y));
        let (beyond, short) = (self.mask_of(beyond), self.mask_of(short));
        let bits = self.b.unary(UnaryOp::Bits, nearest);
        let one = self.b.constant(Class::I32, 1u32);
        let before = self.b.binary(BinaryOp::IntSub, bits, one);
        let towards_zero = self.b.select(beyond, before, bits);
        let odd = self.b.binary(BinaryOp::Or, towards_zero, one);
        let lost = self.b.binary(BinaryOp::Or, beyond, short);
        let chosen = self.b.select(lost, odd, bits);
        self.b.unary(UnaryOp::FromBits, chosen)
    }

    /// Integers that `f64` holds exactly and that round to the same halves: beyond 2^53, one bit stands for the lowest ones.
    fn without_low_bits(&mut self, a: Val) -> Val {
        let constant = |s: &mut Self, v: u64| s.b.constant(Class::I64, v);
        let (zero, mask, sticky) =
            (constant(self, 0), constant(self, LOW_BITS), constant(self, LOW_BITS + 1));
        let offset = constant(self, 1 << F64_INTEGERS);
        let is_signed = !a.dtype.is_unsigned();
        let mut fits = a.regs.map(|x| {
            let from = if is_signed { self.b.binary(BinaryOp::IntAdd, x, offset) } else { x };
            let bits = F64_INTEGERS as u8 + u8::from(is_signed);
            let above = self.b.shift(ShiftOp::UnsignedRight, from, bits);
            self.b.compare(Cmp::Eq, above, zero)
        });
        let large = a.regs.map(|x| {
            let low = self.b.binary(BinaryOp::And, x, mask);
            let high = self.b.binary(BinaryOp::IntSub, x, low);
            // A carry reaches the bit if any of the low ones is set.
            let carried = self.b.binary(BinaryOp::IntAdd, low, mask);
            let bit = self.b.binary(BinaryOp::And, carried, sticky);
            self.b.binary(BinaryOp::Or, high, bit)
        });
        fits = Regs::one(self.mask_of(fits));
        let regs = self.select_regs(fits.low, a.regs, large);
        Val { regs, ..a }
    }

    pub(super) fn half_unary(&mut self, op: UnOp, a: Val) -> Result<Val> {
        let exact = matches!(
            op,
            UnOp::Neg | UnOp::Abs | UnOp::Sign | UnOp::Floor | UnOp::Ceil | UnOp::Round | UnOp::Trunc
        );
        let wide = match runtime_fns::unary(op, DType::F32) {
            Some(_) if !exact => DType::F64,
            _ => DType::F32,
        };
        let x = self.cast(wide, a);
        let y = self.float_unary(op, x)?;
        Ok(match (y.dtype, exact) {
            (DType::Bool, _) => y,
            (_, true) => Val { dtype: a.dtype, ..y },
            (_, false) => self.cast(a.dtype, y),
        })
    }

    pub(super) fn half_binary(&mut self, op: BinOp, a: Val, b: Val, right: &Expr) -> Result<Val> {
        let wide = match op {
            BinOp::Pow | BinOp::Atan2 => DType::F64,
            _ => DType::F32,
        };
        let (x, y) = (self.cast(wide, a), self.cast(wide, b));
        let z = self.float_binary(op, x, y, right)?;
        Ok(match (z.dtype, op) {
            (DType::Bool, _) => z,
            (_, BinOp::Max | BinOp::Min) => Val { dtype: a.dtype, ..z },
            _ => self.cast(a.dtype, z),
        })
    }

    /// What is stored to memory as `f16` right after it is rounded, not rounded: the store does it.
    pub(super) fn half_to_store(&mut self, value: &Expr, to: BufId) -> Result<Option<Val>> {
        if self.is_in_registers(to) || self.region.program.buf(to).dtype != DType::F16 {
            return Ok(None);
        }
        match value {
            Expr::Cast(DType::F16, x) if x.dtype(self.region.program) == DType::F32 => {
                Ok(Some(Val { dtype: DType::F16, ..self.expr(x)? }))
            }
            _ => Ok(None),
        }
    }
}
