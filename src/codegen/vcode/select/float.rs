//! Arithmetic on floating-point numbers of both widths, and on truth values.

use nestjit_ir::{BinOp, DType, Expr, ReduceOp, Scalar, UnOp};

use super::expr::comparison;
use super::value::{Range, Regs, Val};
use super::{Result, Selector, is_f64, unsupported};
use crate::codegen::math;
use crate::codegen::runtime_fns;
use crate::codegen::vcode::{BinaryOp, Cmp, UnaryOp};
use crate::lanes::Refusal;

impl Selector<'_> {
    pub(super) fn float_unary(&mut self, op: UnOp, a: Val) -> Result<Val> {
        let simple = match op {
            UnOp::Neg => Some((UnaryOp::Neg, Range { lo: -a.range.hi, hi: -a.range.lo, nan: a.range.nan })),
            UnOp::Abs => {
                let least = if a.range.contains(0.0) { 0.0 } else { a.range.lo.abs().min(a.range.hi.abs()) };
                let most = a.range.lo.abs().max(a.range.hi.abs());
                Some((UnaryOp::Abs, Range { lo: least, hi: most, nan: a.range.nan }))
            }
            UnOp::Sqrt => Some((UnaryOp::Sqrt, Range::of(a.dtype))),
            UnOp::Floor => Some((UnaryOp::Floor, a.range.map(f64::floor))),
            UnOp::Ceil => Some((UnaryOp::Ceil, a.range.map(f64::ceil))),
            UnOp::Round => Some((UnaryOp::Round, a.range.map(f64::round_ties_even))),
            UnOp::Trunc => Some((UnaryOp::Trunc, a.range.map(f64::trunc))),
            _ => None,
        };
        if let Some((op, range)) = simple {
            let regs = a.regs.map(|x| self.b.unary(op, x));
            return Ok(Val { regs, range, ..a });
        }
        let truth = |s: &mut Self, regs| {
            let mask = s.mask_of(regs);
            Val::new(DType::Bool, Regs::one(mask), a.varying)
        };
        Ok(match op {
            UnOp::IsNan => {
                let regs = a.regs.map(|x| self.b.compare(Cmp::Unordered, x, x));
                truth(self, regs)
            }
            UnOp::IsInf => {
                let infinity = self.float_like(&a, f64::INFINITY);
                let magnitude = a.regs.map(|x| self.b.unary(UnaryOp::Abs, x));
                let regs = magnitude.zip(infinity, |x, y| self.b.compare(Cmp::Eq, x, y));
                truth(self, regs)
            }
            UnOp::Sign => {
                let [zero, one, minus] = [0, 1, -1].map(|v| self.constant_like(&a, v));
                let above = a.regs.zip(zero, |x, zero| self.b.compare(Cmp::Gt, x, zero));
                let below = a.regs.zip(zero, |x, zero| self.b.compare(Cmp::Lt, x, zero));
                let (above, below) = (self.mask_of(above), self.mask_of(below));
                // Zeros and NaN stay what they are.
                let negative = self.select_regs(below, minus, a.regs);
                let regs = self.select_regs(above, one, negative);
                Val { regs, range: Range { lo: -1.0, hi: 1.0, nan: a.range.nan }, ..a }
            }
            _ => {
                let inline = match is_f64(a.dtype) {
                    true => None,
                    false => math::unary(&mut self.b, op, a.reg()).map(Regs::one),
                };
                let regs = match (inline, runtime_fns::unary(op, a.dtype)) {
                    (Some(regs), _) => regs,
                    (None, Some(function)) => a.regs.map(|x| self.b.call(function, vec![x])),
                    (None, None) => return unsupported(Refusal::NotOnFloats),
                };
                Val::new(a.dtype, regs, a.varying)
            }
        })
    }

    pub(super) fn float_binary(&mut self, op: BinOp, a: Val, b: Val, right: &Expr) -> Result<Val> {
        let varying = a.varying || b.varying;
        if let Some(cmp) = comparison(op) {
            let regs = a.regs.zip(b.regs, |x, y| self.b.compare(cmp, x, y));
            let mask = self.mask_of(regs);
            return Ok(Val::new(DType::Bool, Regs::one(mask), varying));
        }
        let simple = match op {
            BinOp::Add => Some(BinaryOp::Add),
            BinOp::Sub => Some(BinaryOp::Sub),
            BinOp::Mul => Some(BinaryOp::Mul),
            BinOp::Div => Some(BinaryOp::Div),
            _ => None,
        };
        if let Some(op) = simple {
            let regs = a.regs.zip(b.regs, |x, y| self.b.binary(op, x, y));
            return Ok(Val::new(a.dtype, regs, varying));
        }
        let done = |regs| Val::new(a.dtype, regs, varying);
        Ok(match op {
            BinOp::Max | BinOp::Min => {
                let (raw, reduce) = match op {
                    BinOp::Max => (BinaryOp::Max, ReduceOp::Max),
                    _ => (BinaryOp::Min, ReduceOp::Min),
                };
                // With a constant first, a NaN in the other operand is what the instruction yields.
                let number = |e: &Expr| match e {
                    Expr::Const(Scalar::F32(v)) => !v.is_nan(),
                    Expr::Const(Scalar::F64(v)) => !v.is_nan(),
                    Expr::Const(Scalar::F16(v)) => !v.is_nan(),
                    Expr::Const(Scalar::BF16(v)) => !v.is_nan(),
                    _ => false,
                };
                let regs = match number(right) {
                    true => b.regs.zip(a.regs, |x, y| self.b.binary(raw, x, y)),
                    false => self.float_extreme(reduce, a.regs, b.regs),
                };
                let (x, y) = (a.range, b.range);
                let range = match op {
                    BinOp::Max => Range::new(x.lo.max(y.lo), x.hi.max(y.hi)),
                    _ => Range::new(x.lo.min(y.lo), x.hi.min(y.hi)),
                };
                done(regs).ranged(Range { nan: x.nan || y.nan, ..range })
            }
            BinOp::Pow => {
                let square = |s: &mut Self| a.regs.map(|x| s.b.binary(BinaryOp::Mul, x, x));
                match right.as_const().map(Scalar::as_f64) {
                    Some(1.0) => a,
                    Some(2.0) => done(square(self)),
                    Some(3.0) => {
                        let square = square(self);
                        done(square.zip(a.regs, |x, y| self.b.binary(BinaryOp::Mul, x, y)))
                    }
                    Some(0.5) => done(self.square_root_power(a)),
                    Some(-1.0) => {
                        let one = self.constant_like(&a, 1);
                        done(one.zip(a.regs, |x, y| self.b.binary(BinaryOp::Div, x, y)))
                    }
                    _ => done(self.call_binary(op, a, b)?),
                }
            }
            _ => done(self.call_binary(op, a, b)?),
        })
    }

    /// The larger or the smaller of two; NaN if either is.
    pub(super) fn float_extreme(&mut self, op: ReduceOp, a: Regs, b: Regs) -> Regs {
        let op = if op == ReduceOp::Max { BinaryOp::Max } else { BinaryOp::Min };
        a.zip(b, |x, y| {
            // The instruction yields `y` if one is NaN, so only a NaN in `x` needs care.
            let chosen = self.b.binary(op, x, y);
            let nan = self.b.compare(Cmp::Unordered, x, x);
            self.b.select(nan, x, chosen)
        })
    }

    /// `a` to the power 1/2: the square root, but +0 for -0 and infinity for minus infinity.
    fn square_root_power(&mut self, a: Val) -> Regs {
        let zero = self.float_like(&a, 0.0);
        let [infinity, minus_infinity] = [f64::INFINITY, f64::NEG_INFINITY].map(|v| self.float_like(&a, v));
        let positive_zero = a.regs.zip(zero, |x, zero| self.b.binary(BinaryOp::Add, x, zero));
        let root = positive_zero.map(|x| self.b.unary(UnaryOp::Sqrt, x));
        let special = a.regs.zip(minus_infinity, |x, y| self.b.compare(Cmp::Eq, x, y));
        let mask = self.mask_of(special);
        self.select_regs(mask, infinity, root)
    }

    fn call_binary(&mut self, op: BinOp, a: Val, b: Val) -> Result<Regs> {
        match runtime_fns::binary(op, a.dtype) {
            Some(function) => Ok(a.regs.zip(b.regs, |x, y| self.b.call(function, vec![x, y]))),
            None => unsupported(Refusal::NotOnFloats),
        }
    }

    pub(super) fn bool_binary(&mut self, op: BinOp, a: Val, b: Val) -> Result<Val> {
        let (x, y) = (a.reg(), b.reg());
        let mask = match op {
            BinOp::And | BinOp::Min => self.b.binary(BinaryOp::And, x, y),
            BinOp::Or | BinOp::Max => self.b.binary(BinaryOp::Or, x, y),
            BinOp::Xor | BinOp::Ne => self.b.binary(BinaryOp::Xor, x, y),
            BinOp::Eq => {
                let differ = self.b.binary(BinaryOp::Xor, x, y);
                self.b.unary(UnaryOp::Not, differ)
            }
            // False is less than true.
            BinOp::Lt | BinOp::Gt => {
                let (less, more) = if op == BinOp::Lt { (x, y) } else { (y, x) };
                let not = self.b.unary(UnaryOp::Not, less);
                self.b.binary(BinaryOp::And, not, more)
            }
            BinOp::Le | BinOp::Ge => {
                let (less, more) = if op == BinOp::Le { (x, y) } else { (y, x) };
                let not = self.b.unary(UnaryOp::Not, less);
                self.b.binary(BinaryOp::Or, not, more)
            }
            _ => return unsupported(Refusal::NotOnBools),
        };
        Ok(Val::new(DType::Bool, Regs::one(mask), a.varying || b.varying))
    }
}
