//! Reductions: into an accumulator of each lane, or of all lanes into one element.

use nestjit_ir::{BinOp, DType, Kind, Reduce, ReduceOp, Scalar};

use super::facts::Element;
use super::half::single;
use super::value::{Regs, Val, constant};
use super::{Result, Selector};
use crate::codegen::contract::fused_update;
use crate::codegen::vcode::{BinaryOp, Class, Cmp, Combine, DotKind, Int, Reg, UnaryOp, Widening};

impl Selector<'_> {
    pub(super) fn reduce(&mut self, r: &Reduce) -> Result<()> {
        let target = self.region.facts.element(r.buf, &r.index);
        let dtype = self.region.program.buf(r.buf).dtype;
        if self.group.is_some() && !self.target_varies(&target)? {
            return self.reduce_lanes(r, dtype, &target);
        }
        if self.dot(r, None)? {
            return Ok(());
        }
        for chunk in 0..self.chunks() {
            self.set_chunk(chunk);
            match self.first_of_cell(&target)? {
                Some((cell, false)) => self.accumulate(r, cell)?,
                Some((cell, true)) => {
                    let new = self.updated(r, dtype, &mut |_| cell.regs)?;
                    let mask = self.first_lanes(self.lanes());
                    let kept = new.zip(cell.regs, |new, old| self.b.select(mask, new, old));
                    self.assign(cell.regs, Val { regs: kept, ..cell });
                }
                None => {
                    let access = self.inside(&target)?;
                    let new = self.updated(r, dtype, &mut |s| s.load_regs(&access, None))?;
                    self.store_regs(new, &access);
                }
            }
        }
        Ok(())
    }

    /// What becomes of an element of this type that `old` loads.
    fn updated(&mut self, r: &Reduce, dtype: DType, old: &mut dyn FnMut(&mut Self) -> Regs) -> Result<Regs> {
        if let Some((a, b)) = fused_update(r)
            && dtype.is_float()
            && !dtype.is_half()
        {
            let (a, b) = (self.expr_of(a, dtype)?, self.expr_of(b, dtype)?);
            let old = old(self);
            return Ok(self.multiply_add(a.regs, b.regs, old));
        }
        let value = self.full_of(&r.value, dtype)?;
        let old = Val::new(dtype, old(self), true);
        Ok(self.combine(r.op, value, old)?.regs)
    }

    /// A mask of the first lanes.
    fn first_lanes(&mut self, lanes: usize) -> Reg {
        let zero = Int { arg: None, terms: self.b.terms(&[]), offset: 0 };
        let numbers = self.b.iota(zero, 1);
        let count = self.b.constant(Class::I32, lanes as u32);
        self.b.compare(Cmp::Lt, numbers, count)
    }

    /// Whether different lanes have different targets.
    pub(super) fn target_varies(&mut self, target: &Element<'_>) -> Result<bool> {
        self.set_chunk(0);
        match self.first_of_cell(target)? {
            Some((cell, _)) => Ok(cell.varying),
            None => Ok(self.inside(target)?.stride != 0),
        }
    }

    /// `variable = variable op value`.
    fn accumulate(&mut self, r: &Reduce, variable: Val) -> Result<()> {
        let dtype = variable.dtype;
        if let Some((a, b)) = self.byte_product(r) {
            let (a, b) = (self.expr_of(a, DType::U8)?, self.expr_of(b, DType::I8)?);
            self.b.dot_accumulate(DotKind::Bytes, variable.reg(), a.reg(), b.reg());
            return Ok(());
        }
        if let Some((a, b)) = fused_update(r)
            && dtype.is_float()
            && !dtype.is_half()
        {
            let (a, b) = (self.expr_of(a, dtype)?.regs, self.expr_of(b, dtype)?.regs);
            self.b.multiply_accumulate(variable.regs.low, a.low, b.low);
            if let (Some(high), Some(a), Some(b)) = (variable.regs.high, a.high, b.high)
                && high != variable.regs.low
            {
                self.b.multiply_accumulate(high, a, b);
            }
            return Ok(());
        }
        let value = self.full_of(&r.value, dtype)?;
        self.accumulate_value(r.op, variable, value)
    }

    fn accumulate_value(&mut self, op: ReduceOp, variable: Val, value: Val) -> Result<()> {
        // What is narrower is rounded, or wrapped.
        let whole = variable.dtype.size() >= 4;
        let update = match (op, variable.dtype.is_float()) {
            (ReduceOp::Add, true) => Some(BinaryOp::Add),
            (ReduceOp::Mul, true) => Some(BinaryOp::Mul),
            (ReduceOp::Add, false) => Some(BinaryOp::IntAdd),
            (ReduceOp::Mul, false) => Some(BinaryOp::IntMul),
            (ReduceOp::Max | ReduceOp::Min, _) => None,
        };
        let Some(update) = update.filter(|_| whole) else {
            let new = self.combine(op, value, variable)?;
            self.assign(variable.regs, new);
            return Ok(());
        };
        self.b.update(update, variable.regs.low, value.regs.low);
        if let (Some(to), Some(value)) = (variable.regs.high, value.regs.high)
            && to != variable.regs.low
        {
            self.b.update(update, to, value);
        }
        Ok(())
    }

    /// `a op b`; for max and min NaN if either is.
    fn combine(&mut self, op: ReduceOp, a: Val, b: Val) -> Result<Val> {
        let varying = a.varying || b.varying;
        match a.dtype.kind() {
            Kind::Float if a.dtype.is_half() => {
                let wide = self.combine(op, single(a), single(b))?;
                Ok(self.cast(a.dtype, wide))
            }
            Kind::Float => {
                let regs = match op {
                    ReduceOp::Add => a.regs.zip(b.regs, |x, y| self.b.binary(BinaryOp::Add, x, y)),
                    ReduceOp::Mul => a.regs.zip(b.regs, |x, y| self.b.binary(BinaryOp::Mul, x, y)),
                    ReduceOp::Max | ReduceOp::Min => self.float_extreme(op, a.regs, b.regs),
                };
                Ok(Val::new(a.dtype, regs, varying))
            }
            Kind::Signed | Kind::Unsigned => {
                // What is in memory or a variable is a pair.
                let (a, b) = (self.full(a), self.full(b));
                Ok(match op {
                    ReduceOp::Add => self.int_add(BinaryOp::IntAdd, a, b),
                    ReduceOp::Mul => self.int_add(BinaryOp::IntMul, a, b),
                    ReduceOp::Max => self.int_extreme(true, a, b),
                    ReduceOp::Min => self.int_extreme(false, a, b),
                })
            }
            Kind::Bool => match op {
                ReduceOp::Add | ReduceOp::Max => self.bool_binary(BinOp::Or, a, b),
                ReduceOp::Mul | ReduceOp::Min => self.bool_binary(BinOp::And, a, b),
            },
        }
    }

    /// All lanes of the group are combined into one element.
    fn reduce_lanes(&mut self, r: &Reduce, dtype: DType, target: &Element<'_>) -> Result<()> {
        if dtype == DType::F32 {
            return self.reduce_floats(r, target);
        }
        let mut sum: Option<Val> = None;
        for chunk in 0..self.chunks() {
            self.set_chunk(chunk);
            let value = self.full_of(&r.value, dtype)?;
            let value = self.filled(r.op, value);
            sum = Some(match sum {
                None => value,
                Some(sum) => self.combine(r.op, value, sum)?,
            });
        }
        let Some(sum) = sum else { return Ok(()) };
        let all = self.across_lanes(r.op, sum)?;
        self.set_chunk(0);
        self.reduce_into_target(r.op, target, all)
    }

    fn reduce_floats(&mut self, r: &Reduce, target: &Element<'_>) -> Result<()> {
        let vl = self.b.lanes();
        let op = match r.op {
            ReduceOp::Add => Combine::Add,
            ReduceOp::Mul => Combine::Mul,
            ReduceOp::Max => Combine::Max,
            ReduceOp::Min => Combine::Min,
        };
        let (mut full, mut rest) = (None, None);
        for chunk in 0..self.chunks() {
            self.set_chunk(chunk);
            let value = self.expr_of(&r.value, DType::F32)?;
            if self.lanes() < vl {
                rest = Some(self.b.reduce(op, value.reg(), self.lanes()));
            } else {
                full = Some(match full {
                    None => value,
                    Some(sum) => self.combine(r.op, value, sum)?,
                });
            }
        }
        let full = full.map(|v| self.b.reduce(op, v.reg(), vl));
        self.set_chunk(0);
        for value in [full, rest].into_iter().flatten() {
            self.reduce_into_target(r.op, target, Val::new(DType::F32, Regs::one(value), false))?;
        }
        Ok(())
    }

    /// Combines a value whose lanes are equal with an element.
    fn reduce_into_target(&mut self, op: ReduceOp, target: &Element<'_>, value: Val) -> Result<()> {
        if let Some(cell) = self.cell(target)? {
            return self.accumulate_value(op, cell, value);
        }
        let access = self.inside(target)?;
        let old = Val::new(value.dtype, self.load_regs(&access, None), false);
        let new = self.combine(op, value, old)?;
        self.store_regs(new.regs, &access);
        Ok(())
    }

    /// The value with what changes nothing in the lanes that are not in use. Both halves of a pair are apart then.
    fn filled(&mut self, op: ReduceOp, value: Val) -> Val {
        let (vl, lanes) = (self.b.lanes(), self.lanes());
        if lanes == vl {
            return value;
        }
        let neutral = constant(&mut self.b, op.identity(value.dtype));
        let neutral = self.full(neutral);
        let regs = match (value.regs.high, neutral.regs.high) {
            (Some(high), Some(nothing)) => {
                let half = vl / 2;
                let part = |s: &mut Self, reg: Reg, lanes: usize| match lanes {
                    0 => nothing,
                    n if n >= half => reg,
                    n => {
                        let mask = s.first_lanes(n);
                        let mask = s.b.widen(Widening::Mask, mask, false);
                        s.b.select(mask, reg, nothing)
                    }
                };
                let low = part(self, value.regs.low, lanes);
                Regs::pair(low, part(self, high, lanes.saturating_sub(half)))
            }
            _ => {
                let mask = self.first_lanes(lanes);
                Regs::one(if value.dtype != DType::Bool {
                    self.b.select(mask, value.reg(), neutral.reg())
                } else if op.identity(DType::Bool) == Scalar::Bool(false) {
                    self.b.binary(BinaryOp::And, value.reg(), mask)
                } else {
                    let rest = self.b.unary(UnaryOp::Not, mask);
                    self.b.binary(BinaryOp::Or, value.reg(), rest)
                })
            }
        };
        Val { regs, range: value.range.union(neutral.range), ..value }
    }

    /// The combination of all lanes, in all lanes.
    fn across_lanes(&mut self, op: ReduceOp, value: Val) -> Result<Val> {
        let vl = self.b.lanes();
        if value.dtype == DType::Bool {
            let [ones, zero] = [u32::MAX, 0].map(|v| self.b.constant(Class::I32, v));
            let bits = self.b.select(value.reg(), ones, zero);
            let by = match op {
                ReduceOp::Add | ReduceOp::Max => BinaryOp::Or,
                ReduceOp::Mul | ReduceOp::Min => BinaryOp::And,
            };
            let all = exchange_steps(vl).fold(bits, |reg, distance| {
                let other = self.b.unary(UnaryOp::Exchange { distance }, reg);
                self.b.binary(by, reg, other)
            });
            let mask = self.b.compare(Cmp::Ne, all, zero);
            return Ok(Val::new(DType::Bool, Regs::one(mask), false));
        }
        let (mut sum, lanes) = match value.regs.high {
            Some(high) => {
                let half = |reg| Val { regs: Regs::pair(reg, reg), ..value };
                (self.combine(op, half(value.regs.low), half(high))?, vl / 2)
            }
            None => (value, vl),
        };
        for distance in exchange_steps(lanes) {
            let regs = sum.regs.map(|x| self.b.unary(UnaryOp::Exchange { distance }, x));
            sum = self.combine(op, sum, Val { regs, ..sum })?;
        }
        Ok(Val { varying: false, ..sum })
    }
}

/// The distances of lanes in the steps that combine all of them.
fn exchange_steps(lanes: usize) -> impl Iterator<Item = u8> {
    (0..lanes.ilog2()).rev().map(|step| 1 << step)
}
