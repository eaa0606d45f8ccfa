//! Integer arithmetic. What is narrower than 32 bits is computed in 32 bits and cut back where the result may leave its type.

use nestjit_ir::{BinOp, DType, Expr, Scalar, UnOp};

use super::expr::comparison;
use super::value::{Range, Regs, Val};
use super::{Result, Selector, is_f64, unsupported};
use crate::codegen::vcode::{BinaryOp, Class, Cmp, Narrowing, Reg, ShiftOp, UnaryOp};
use crate::lanes::Refusal;

const SIGN_32: u32 = 1 << 31;
const SIGN_64: u64 = 1 << 63;

impl Selector<'_> {
    pub(super) fn int_unary(&mut self, op: UnOp, a: Val) -> Result<Val> {
        let unsigned = a.dtype.is_unsigned();
        Ok(match op {
            UnOp::Neg => {
                let zero = self.zero_of(a.dtype);
                self.int_add(BinaryOp::IntSub, zero, a)
            }
            UnOp::Abs if unsigned || a.range.lo >= 0.0 => a,
            UnOp::Abs => {
                let zero = self.zero_of(a.dtype);
                let minus = self.int_add(BinaryOp::IntSub, zero, a);
                let (a, minus) = self.alike(a, minus);
                let largest = Range::new(0.0, a.range.lo.abs().max(a.range.hi.abs()));
                if a.is_wide() {
                    let zero = self.constant_like(&a, 0);
                    let negative = a.regs.zip(zero, |x, zero| self.b.compare(Cmp::Lt, x, zero));
                    let mask = self.mask_of(negative);
                    let regs = self.select_regs(mask, minus.regs, a.regs);
                    return Ok(Val::new(a.dtype, regs, a.varying));
                }
                // The negative of the smallest value is the smallest value, in the narrower types too.
                let reg = self.b.binary(BinaryOp::IntMax, a.reg(), minus.reg());
                let all = Range::of(a.dtype);
                let range = if largest.within(all) { largest } else { all };
                Val::new(a.dtype, Regs::one(reg), a.varying).ranged(range)
            }
            UnOp::Sign => {
                let [zero, one] = [0, 1].map(|v| self.constant_like(&a, v));
                let above = if unsigned { Cmp::Ne } else { Cmp::Gt };
                let above = a.regs.zip(zero, |x, zero| self.b.compare(above, x, zero));
                let above = self.mask_of(above);
                let mut regs = self.select_regs(above, one, zero);
                let mut range = Range::new(0.0, 1.0);
                if !unsigned {
                    let minus = self.constant_like(&a, -1);
                    let below = a.regs.zip(zero, |x, zero| self.b.compare(Cmp::Lt, x, zero));
                    let below = self.mask_of(below);
                    regs = self.select_regs(below, minus, regs);
                    range.lo = -1.0;
                }
                Val::new(a.dtype, regs, a.varying).ranged(range)
            }
            UnOp::BitNot => {
                let ones = match a.is_wide() {
                    true => self.b.constant(Class::I64, u64::MAX),
                    false => self.b.constant(Class::I32, u32::MAX),
                };
                let regs = a.regs.map(|x| self.b.binary(BinaryOp::Xor, x, ones));
                let range = Range::new(-1.0 - a.range.hi, -1.0 - a.range.lo);
                self.settled(a.dtype, regs, a.varying, range)
            }
            _ => return unsupported(Refusal::NotOnIntegers),
        })
    }

    fn zero_of(&mut self, dtype: DType) -> Val {
        super::value::constant(&mut self.b, Scalar::from_i64(dtype, 0))
    }

    /// A result whose registers hold any integers of this range.
    fn settled(&mut self, dtype: DType, regs: Regs, varying: bool, range: Range) -> Val {
        if regs.high.is_none() && !matches!(dtype, DType::I64) {
            return self.wrapped(dtype, regs.low, varying, range);
        }
        // One register holds what fits 32 bits.
        let all = Range::of(if regs.high.is_some() { dtype } else { DType::I32 });
        let range = match range.within(all) {
            true => range,
            false if regs.high.is_some() => all,
            false => Range::new(range.lo.max(all.lo), range.hi.min(all.hi)),
        };
        Val::new(dtype, regs, varying).ranged(range)
    }

    pub(super) fn int_binary(&mut self, op: BinOp, a: Val, b: Val, right: &Expr) -> Result<Val> {
        if let Some(cmp) = comparison(op) {
            return Ok(self.int_compare(cmp, a, b));
        }
        Ok(match op {
            BinOp::Add => self.int_add(BinaryOp::IntAdd, a, b),
            BinOp::Sub => self.int_add(BinaryOp::IntSub, a, b),
            BinOp::Mul => self.int_add(BinaryOp::IntMul, a, b),
            BinOp::Max | BinOp::Min => self.int_extreme(op == BinOp::Max, a, b),
            BinOp::And | BinOp::Or | BinOp::Xor => {
                let (a, b) = self.alike(a, b);
                let (varying, op) = (
                    a.varying || b.varying,
                    match op {
                        BinOp::And => BinaryOp::And,
                        BinOp::Or => BinaryOp::Or,
                        _ => BinaryOp::Xor,
                    },
                );
                // Extended bits stay extended.
                let regs = a.regs.zip(b.regs, |x, y| self.b.binary(op, x, y));
                let mut range = match a.is_wide() {
                    false if a.dtype == DType::I64 => Range::of(DType::I32),
                    _ => Range::of(a.dtype),
                };
                if op == BinaryOp::And {
                    // What is not negative only loses bits.
                    for r in [a.range, b.range] {
                        if r.lo >= 0.0 {
                            range = Range::new(0.0, range.hi.min(r.hi));
                        }
                    }
                }
                Val::new(a.dtype, regs, varying).ranged(range)
            }
            BinOp::Shl | BinOp::Shr => self.shifted(op == BinOp::Shl, a, b, right.as_const()),
            BinOp::Div | BinOp::Rem | BinOp::Mod => self.divided(op, a, b)?,
            BinOp::Pow => {
                let exponent = right.as_const().map(|e| e.as_f64());
                let square = |s: &mut Self| s.int_add(BinaryOp::IntMul, a, a);
                match exponent {
                    Some(1.0) => a,
                    Some(2.0) => square(self),
                    Some(3.0) => {
                        let square = square(self);
                        self.int_add(BinaryOp::IntMul, square, a)
                    }
                    _ => return unsupported(Refusal::Power),
                }
            }
            BinOp::Atan2 | BinOp::Eq | BinOp::Ne | BinOp::Lt | BinOp::Le | BinOp::Gt | BinOp::Ge => {
                return unsupported(Refusal::NotOnIntegers);
            }
        })
    }

    /// A sum, a difference or a product, wrapped.
    pub(super) fn int_add(&mut self, op: BinaryOp, a: Val, b: Val) -> Val {
        let (x, y) = (a.range, b.range);
        let range = match op {
            BinaryOp::IntAdd => Range::new(x.lo + y.lo, x.hi + y.hi),
            BinaryOp::IntSub => Range::new(x.lo - y.hi, x.hi - y.lo),
            _ => {
                let all = [x.lo * y.lo, x.lo * y.hi, x.hi * y.lo, x.hi * y.hi];
                Range::new(
                    all.into_iter().fold(f64::INFINITY, f64::min),
                    all.into_iter().fold(f64::NEG_INFINITY, f64::max),
                )
            }
        };
        let (a, b) = if a.dtype == DType::I64 && !range.fits_i32() {
            (self.full(a), self.full(b))
        } else {
            self.alike(a, b)
        };
        let regs = a.regs.zip(b.regs, |x, y| self.b.binary(op, x, y));
        self.settled(a.dtype, regs, a.varying || b.varying, range)
    }

    /// Registers of unsigned integers, moved so that comparing them as signed gives their order.
    fn ordered(&mut self, a: &Val, b: &Val) -> (Regs, Regs, bool) {
        let moved = match (a.dtype, a.is_wide()) {
            (DType::U64, true) => true,
            (DType::U32, _) => !(a.range.fits_i32() && b.range.fits_i32()),
            _ => false,
        };
        if !moved {
            return (a.regs, b.regs, false);
        }
        let sign = match a.is_wide() {
            true => self.b.constant(Class::I64, SIGN_64),
            false => self.b.constant(Class::I32, SIGN_32),
        };
        let mut flip = |r: Regs| r.map(|x| self.b.binary(BinaryOp::Xor, x, sign));
        (flip(a.regs), flip(b.regs), true)
    }

    pub(super) fn int_compare(&mut self, cmp: Cmp, a: Val, b: Val) -> Val {
        let (a, b) = self.alike(a, b);
        let varying = a.varying || b.varying;
        let (x, y) = match cmp {
            Cmp::Eq | Cmp::Ne | Cmp::Unordered => (a.regs, b.regs),
            Cmp::Lt | Cmp::Le | Cmp::Gt | Cmp::Ge => {
                let (x, y, _) = self.ordered(&a, &b);
                (x, y)
            }
        };
        let regs = x.zip(y, |x, y| self.b.compare(cmp, x, y));
        let mask = self.mask_of(regs);
        Val::new(DType::Bool, Regs::one(mask), varying)
    }

    /// The larger or the smaller of two.
    pub(super) fn int_extreme(&mut self, larger: bool, a: Val, b: Val) -> Val {
        let (a, b) = self.alike(a, b);
        let (x, y) = (a.range, b.range);
        let range = match larger {
            true => Range::new(x.lo.max(y.lo), x.hi.max(y.hi)),
            false => Range::new(x.lo.min(y.lo), x.hi.min(y.hi)),
        };
        let (x, y, moved) = self.ordered(&a, &b);
        let regs = if a.is_wide() {
            let cmp = if larger { Cmp::Gt } else { Cmp::Lt };
            let first = x.zip(y, |x, y| self.b.compare(cmp, x, y));
            let mask = self.mask_of(first);
            self.select_regs(mask, a.regs, b.regs)
        } else {
            let op = if larger { BinaryOp::IntMax } else { BinaryOp::IntMin };
            let reg = self.b.binary(op, x.low, y.low);
            let reg = match moved {
                true => {
                    let sign = self.b.constant(Class::I32, SIGN_32);
                    self.b.binary(BinaryOp::Xor, reg, sign)
                }
                false => reg,
            };
            Regs::one(reg)
        };
        Val::new(a.dtype, regs, a.varying || b.varying).ranged(range)
    }

    /// A shift; by what is negative or too large it leaves zeros, or the sign of a number moved right.
    fn shifted(&mut self, left: bool, a: Val, b: Val, amount: Option<Scalar>) -> Val {
        let varying = a.varying || b.varying;
        let wide = a.is_wide() || b.is_wide() || (left && a.dtype == DType::I64);
        let (a, b) = if wide { (self.full(a), self.full(b)) } else { (a, b) };
        let bits = if wide { 64.0 } else { 32.0 };
        let fixed = amount.map(Scalar::as_f64).filter(|n| (0.0..bits).contains(n));
        let shift = |s: &mut Self, op: ShiftOp, variable: BinaryOp, regs: Regs| match fixed {
            Some(n) => regs.map(|x| s.b.shift(op, x, n as u8)),
            None => regs.zip(b.regs, |x, y| s.b.binary(variable, x, y)),
        };
        if left {
            let factor = fixed.map_or(f64::INFINITY, f64::exp2);
            let regs = shift(self, ShiftOp::Left, BinaryOp::ShiftLeft, a.regs);
            let range = match a.range.within(Range::new(0.0, 0.0)) {
                true => a.range,
                false => Range::new(a.range.lo.min(-0.5) * factor, a.range.hi.max(0.5) * factor),
            };
            return self.settled(a.dtype, regs, varying, range);
        }
        let range = Range::new(a.range.lo.min(0.0), a.range.hi.max(0.0));
        let regs = if a.dtype.is_unsigned() {
            shift(self, ShiftOp::UnsignedRight, BinaryOp::ShiftRight, a.regs)
        } else if !wide {
            shift(self, ShiftOp::SignedRight, BinaryOp::ShiftRightSigned, a.regs)
        } else {
            // With its bits inverted, a negative number gets ones where zeros come in.
            let zero = self.b.constant(Class::I64, 0u64);
            let ones = self.b.constant(Class::I64, u64::MAX);
            let negative = a.regs.map(|x| self.b.compare(Cmp::Lt, x, zero));
            let mask = self.mask_of(negative);
            let signs = self.select_regs(mask, Regs::pair(ones, ones), Regs::pair(zero, zero));
            let flipped = a.regs.zip(signs, |x, s| self.b.binary(BinaryOp::Xor, x, s));
            let moved = shift(self, ShiftOp::UnsignedRight, BinaryOp::ShiftRight, flipped);
            moved.zip(signs, |x, s| self.b.binary(BinaryOp::Xor, x, s))
        };
        Val::new(a.dtype, regs, varying).ranged(range)
    }

    /// Division of integers of at most 32 bits, exact in floating point: the quotient of two integers below 2^32 is never
    /// so near to a larger integer that it is rounded to it in 53 bits, nor of two below 2^16 in 24.
    fn divided(&mut self, op: BinOp, a: Val, b: Val) -> Result<Val> {
        if a.is_wide() || b.is_wide() {
            return unsupported(Refusal::WideDivision);
        }
        let (dtype, varying) = (a.dtype, a.varying || b.varying);
        let small = dtype.size() < 4;
        let by = if small { DType::F32 } else { DType::F64 };
        let (x, y) = (self.cast(by, a), self.cast(by, b));
        let quotient = x.regs.zip(y.regs, |x, y| self.b.binary(BinaryOp::Div, x, y));
        let zero = self.b.constant(Class::I32, 0u32);
        let by_zero = b.range.contains(0.0).then(|| self.b.compare(Cmp::Eq, b.reg(), zero));
        let most = a.range.lo.abs().max(a.range.hi.abs());
        let range = Range::new(if dtype.is_unsigned() { 0.0 } else { -most }, most);
        if dtype == DType::I64 && op == BinOp::Div && !range.fits_i32() && b.range.contains(-1.0) {
            // One quotient has 33 bits.
            let zero = self.constant_like(&x, 0);
            let regs = match by_zero {
                Some(mask) => self.select_regs(mask, zero, quotient),
                None => quotient,
            };
            return Ok(self.cast(dtype, Val::new(by, regs, varying).ranged(range)));
        }
        let quotient = self.quotient(dtype, by, quotient, (a, b), by_zero, range);
        if op == BinOp::Div {
            return Ok(self.settled(dtype, Regs::one(quotient), varying, range));
        }
        let product = self.b.binary(BinaryOp::IntMul, quotient, b.reg());
        let mut rest = self.b.binary(BinaryOp::IntSub, a.reg(), product);
        if let Some(mask) = by_zero {
            rest = self.b.select(mask, zero, rest);
        }
        let divisor = b.range.lo.abs().max(b.range.hi.abs());
        let below = (divisor - 1.0).max(0.0).min(most);
        let mut range = Range::new(
            if a.range.lo < 0.0 { -below } else { 0.0 },
            if a.range.hi > 0.0 { below } else { 0.0 },
        );
        if op == BinOp::Mod && !dtype.is_unsigned() && !(a.range.lo >= 0.0 && b.range.lo >= 0.0) {
            let signs = self.b.binary(BinaryOp::Xor, rest, b.reg());
            let differ = self.b.compare(Cmp::Lt, signs, zero);
            let some = self.b.compare(Cmp::Ne, rest, zero);
            let correct = self.b.binary(BinaryOp::And, differ, some);
            let moved = self.b.binary(BinaryOp::IntAdd, rest, b.reg());
            rest = self.b.select(correct, moved, rest);
            range = Range::new(-divisor.max(1.0), divisor.max(1.0));
        }
        Ok(self.settled(dtype, Regs::one(rest), varying, range))
    }

    /// The integer part of a quotient; 0 where the divisor is 0.
    fn quotient(
        &mut self,
        dtype: DType,
        by: DType,
        quotient: Regs,
        (a, b): (Val, Val),
        by_zero: Option<Reg>,
        range: Range,
    ) -> Reg {
        let least = Range::of(DType::I32).lo;
        let mut reg = if !is_f64(by) {
            self.b.unary(UnaryOp::ToInt, quotient.low)
        } else if range.fits_i32() || !dtype.is_unsigned() {
            self.narrowed(Narrowing::ToInt, quotient)
        } else {
            // What is NaN or infinite is replaced below.
            let value = Val::new(by, quotient, a.varying || b.varying).ranged(range);
            self.unsigned_32(value)
        };
        if !dtype.is_unsigned() && a.range.lo <= least && b.range.contains(-1.0) {
            // The one quotient that does not fit.
            let (minus, zero) = (self.b.constant(Class::I32, u32::MAX), self.b.constant(Class::I32, 0u32));
            let special = self.b.compare(Cmp::Eq, b.reg(), minus);
            let negative = self.b.binary(BinaryOp::IntSub, zero, a.reg());
            reg = self.b.select(special, negative, reg);
        }
        match by_zero {
            Some(mask) => {
                let zero = self.b.constant(Class::I32, 0u32);
                self.b.select(mask, zero, reg)
            }
            None => reg,
        }
    }
}
