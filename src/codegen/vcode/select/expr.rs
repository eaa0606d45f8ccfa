//! Expressions: values in registers.

use nestjit_ir::{Affine, BinOp, DType, Expr, Kind, Load, UnOp};

use super::access::Position;
use super::value::{Range, Regs, Val, constant};
use super::{LANE, Result, Selector, Stop, unsupported};
use crate::codegen::contract::fused_sum;
use crate::codegen::vcode::{BinaryOp, Cmp, UnaryOp};
use crate::lanes::{self, Refusal};

impl Selector<'_> {
    /// The value of an expression that must have a certain type.
    pub(super) fn expr_of(&mut self, expr: &Expr, dtype: DType) -> Result<Val> {
        let value = self.expr(expr)?;
        if value.dtype == dtype { Ok(value) } else { unsupported(Refusal::OperandType) }
    }

    /// The same in registers of the class of the type.
    pub(super) fn full_of(&mut self, expr: &Expr, dtype: DType) -> Result<Val> {
        let value = self.expr_of(expr, dtype)?;
        Ok(self.full(value))
    }

    /// The value of an expression.
    pub(super) fn expr(&mut self, expr: &Expr) -> Result<Val> {
        match expr {
            Expr::Const(s) => Ok(constant(&mut self.b, *s)),
            Expr::Load(l) => self.load(l),
            Expr::Index(a) => {
                let a = self.in_counters(a);
                match self.extents.range(&a).map(|(lo, hi)| Range::new(lo as f64, hi as f64)) {
                    Some(range) if range.fits_i32() => {
                        let (value, step) = self.int(&a)?;
                        let reg = self.b.iota(value, step);
                        Ok(Val::new(DType::I64, Regs::one(reg), a.uses(LANE)).ranged(range))
                    }
                    _ => unsupported(Refusal::WideIndex),
                }
            }
            Expr::Unary(op, a) => {
                let a = self.expr(a)?;
                self.unary(*op, a)
            }
            Expr::Binary(op, a, b) => match self.rounded_byte(expr)? {
                Some(byte) => Ok(byte),
                None => self.binary(*op, a, b),
            },
            Expr::Select(c, a, b) => {
                let c = self.expr_of(c, DType::Bool)?;
                let a = self.expr(a)?;
                let b = self.expr_of(b, a.dtype)?;
                let (a, b) = self.alike(a, b);
                let regs = if a.dtype == DType::Bool {
                    Regs::one(self.select_mask(c, a, b))
                } else {
                    self.select_regs(c.reg(), a.regs, b.regs)
                };
                let varying = c.varying || a.varying || b.varying;
                Ok(Val::new(a.dtype, regs, varying).ranged(a.range.union(b.range)))
            }
            Expr::Check(_) => unsupported(Refusal::CheckedValue),
            Expr::Cast(to, a) => {
                if let Some(byte) = self.rounded_byte(expr)? {
                    return Ok(byte);
                }
                if let Some(number) = self.field(*to, a)? {
                    return Ok(number);
                }
                let a = self.expr(a)?;
                Ok(self.cast(*to, a))
            }
        }
    }

    /// A selection between truth values.
    fn select_mask(&mut self, c: Val, a: Val, b: Val) -> crate::codegen::vcode::Reg {
        let yes = self.b.binary(BinaryOp::And, c.reg(), a.reg());
        let not = self.b.unary(UnaryOp::Not, c.reg());
        let no = self.b.binary(BinaryOp::And, not, b.reg());
        self.b.binary(BinaryOp::Or, yes, no)
    }

    fn load(&mut self, l: &Load) -> Result<Val> {
        if let Some(byte) = lanes::lookup(self.region.program, l.buf, &l.index) {
            return self.lookup(l, byte);
        }
        if let Some(gathered) = self.gather(l)? {
            return Ok(gathered);
        }
        let element = self.region.facts.element(l.buf, &l.index);
        if let Some(otherwise) = &l.otherwise {
            match self.position(&element, otherwise)? {
                Position::Inside => {}
                Position::Outside => return self.expr(otherwise),
                // Registers cannot be indexed.
                Position::Unknown if self.is_in_registers(l.buf) => return Err(Stop::Spill(l.buf)),
                Position::Unknown => {}
            }
        }
        if let Some(cell) = self.cell(&element)? {
            return Ok(cell);
        }
        let dtype = self.region.program.buf(l.buf).dtype;
        let (access, guards) = self.access(&element, l.otherwise.as_deref())?;
        let varying = access.stride != 0 || guards.iter().any(|g| g.step != 0);
        match &l.otherwise {
            _ if guards.is_empty() => {
                let regs = match self.load_transposed(l, &access, None) {
                    Some(reg) => Regs::one(reg),
                    None => self.load_regs(&access, None),
                };
                Ok(Val::new(dtype, regs, varying))
            }
            Some(otherwise) => {
                let otherwise = self.full_of(otherwise, dtype)?;
                let guarded = (guards.as_slice(), otherwise.regs);
                let regs = match self.load_transposed(l, &access, Some((&guards, otherwise.reg()))) {
                    Some(reg) => Regs::one(reg),
                    None => self.load_regs(&access, Some(guarded)),
                };
                Ok(Val::new(dtype, regs, varying || otherwise.varying))
            }
            None => unsupported(Refusal::CheckedIndex),
        }
    }

    /// The byte of a table that another one counts.
    fn lookup(&mut self, l: &Load, byte: &Expr) -> Result<Val> {
        let byte = self.full_of(byte, DType::U8)?;
        let first = [Affine::constant(0).into()];
        let table = self.inside(&self.region.facts.foreign(l.buf, &first))?;
        let reg = self.b.lookup(table, byte.reg());
        Ok(Val::new(DType::U8, Regs::one(reg), byte.varying))
    }

    fn unary(&mut self, op: UnOp, a: Val) -> Result<Val> {
        match a.dtype.kind() {
            Kind::Float if a.dtype.is_half() => self.half_unary(op, a),
            Kind::Float => self.float_unary(op, a),
            Kind::Signed | Kind::Unsigned => self.int_unary(op, a),
            Kind::Bool if op == UnOp::Not => {
                let reg = self.b.unary(UnaryOp::Not, a.reg());
                Ok(Val { regs: Regs::one(reg), ..a })
            }
            Kind::Bool => unsupported(Refusal::NotOnBools),
        }
    }

    fn binary(&mut self, op: BinOp, left: &Expr, right: &Expr) -> Result<Val> {
        if self.b.has_fma()
            && let Some((a, b, c)) = fused_sum(op, left, right)
            && !a.dtype(self.region.program).is_half()
        {
            let a = self.expr(a)?;
            let (b, c) = (self.expr_of(b, a.dtype)?, self.expr_of(c, a.dtype)?);
            let varying = a.varying || b.varying || c.varying;
            if !a.dtype.is_float() {
                let product = self.int_add(BinaryOp::IntMul, a, b);
                return Ok(self.int_add(BinaryOp::IntAdd, product, c));
            }
            let regs = self.multiply_add(a.regs, b.regs, c.regs);
            return Ok(Val::new(a.dtype, regs, varying));
        }
        let a = self.expr(left)?;
        let b = self.expr_of(right, a.dtype)?;
        match a.dtype.kind() {
            Kind::Float if a.dtype.is_half() => self.half_binary(op, a, b, right),
            Kind::Float => self.float_binary(op, a, b, right),
            Kind::Signed | Kind::Unsigned => self.int_binary(op, a, b, right),
            Kind::Bool => self.bool_binary(op, a, b),
        }
    }

    /// `a * b + c`, rounded once if the machine can.
    pub(super) fn multiply_add(&mut self, a: Regs, b: Regs, c: Regs) -> Regs {
        let low = self.b.fma(a.low, b.low, c.low);
        let high = match (a.high, b.high, c.high) {
            (Some(x), Some(y), Some(z)) if (x, y, z) == (a.low, b.low, c.low) => Some(low),
            (Some(x), Some(y), Some(z)) => Some(self.b.fma(x, y, z)),
            _ => None,
        };
        Regs { low, high }
    }
}

pub(super) fn comparison(op: BinOp) -> Option<Cmp> {
    Some(match op {
        BinOp::Eq => Cmp::Eq,
        BinOp::Ne => Cmp::Ne,
        BinOp::Lt => Cmp::Lt,
        BinOp::Le => Cmp::Le,
        BinOp::Gt => Cmp::Gt,
        BinOp::Ge => Cmp::Ge,
        _ => return None,
    })
}
