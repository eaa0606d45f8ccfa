//! Expressions: values in registers.

use nestjit_ir::{BinOp, DType, Expr, Load, ReduceOp, Scalar, UnOp};

use super::access::Position;
use super::{LANE, Result, Selector, Stop, Val, unsupported};
use crate::codegen::contract::fused_sum;
use crate::codegen::math;
use crate::codegen::runtime_fns;
use crate::codegen::vcode::{BinaryOp, Class, Cmp, Reg, UnaryOp};

const TRUE: u64 = u64::MAX;

impl Selector<'_> {
    /// The value of an `f32` expression.
    pub(super) fn float(&mut self, expr: &Expr) -> Result<Val> {
        self.of_class(expr, Class::F32)
    }

    fn of_class(&mut self, expr: &Expr, class: Class) -> Result<Val> {
        let value = self.expr(expr)?;
        if self.b.class(value.reg) == class { Ok(value) } else { unsupported("an operand of another type") }
    }

    fn number(&mut self, value: f32) -> Reg {
        self.b.constant(Class::F32, value.to_bits())
    }

    /// The value of an expression: floats, truth values, or integers that are known to fit 32 bits.
    pub(super) fn expr(&mut self, expr: &Expr) -> Result<Val> {
        match expr {
            Expr::Const(s) => {
                let reg = match *s {
                    Scalar::F32(v) => self.number(v),
                    Scalar::Bool(v) => self.b.constant(Class::Mask, if v { TRUE } else { 0 }),
                    Scalar::I32(v) => self.b.constant(Class::I32, v as u32),
                    Scalar::I64(v) => match i32::try_from(v) {
                        Ok(v) => self.b.constant(Class::I32, v as u32),
                        Err(_) => return unsupported("a wide integer"),
                    },
                    Scalar::F64(_)
                    | Scalar::F16(_)
                    | Scalar::BF16(_)
                    | Scalar::I16(_)
                    | Scalar::I8(_)
                    | Scalar::U64(_)
                    | Scalar::U32(_)
                    | Scalar::U16(_)
                    | Scalar::U8(_) => return unsupported("a literal of another type"),
                };
                Ok(Val { reg, varying: false })
            }
            Expr::Load(l) => self.load(l),
            Expr::Index(a) => {
                let a = self.in_counters(a);
                let fits = |v: i64| i32::try_from(v).is_ok();
                match self.extents.range(&a) {
                    Some((lo, hi)) if fits(lo) && fits(hi) => {
                        let (value, step) = self.int(&a)?;
                        Ok(Val { reg: self.b.iota(value, step), varying: a.uses(LANE) })
                    }
                    _ => unsupported("a wide integer"),
                }
            }
            Expr::Unary(op, a) => self.unary(*op, a),
            Expr::Binary(op, a, b) => self.binary(*op, a, b),
            Expr::Select(c, a, b) => {
                let c = self.of_class(c, Class::Mask)?;
                let a = self.expr(a)?;
                let b = self.of_class(b, self.b.class(a.reg))?;
                let reg = self.b.select(c.reg, a.reg, b.reg);
                Ok(Val { reg, varying: c.varying || a.varying || b.varying })
            }
            Expr::Check(_) => unsupported("a value that is checked"),
            Expr::Cast(to, a) => {
                let a = self.expr(a)?;
                let reg = match (self.b.class(a.reg), to) {
                    (Class::F32, DType::F32) | (Class::Mask, DType::Bool) => a.reg,
                    (Class::I32, DType::I64 | DType::I32) => a.reg,
                    (Class::I32, DType::F32) => self.b.unary(UnaryOp::ToFloat, a.reg),
                    (Class::Mask, DType::F32) => {
                        let (one, zero) = (self.number(1.0), self.number(0.0));
                        self.b.select(a.reg, one, zero)
                    }
                    (Class::F32, DType::Bool) => {
                        let zero = self.number(0.0);
                        self.b.compare(Cmp::Ne, a.reg, zero)
                    }
                    (Class::F64 | Class::I64 | Class::Mask64, _)
                    | (Class::F32 | Class::Mask, DType::I64 | DType::I32)
                    | (Class::I32, DType::Bool)
                    | (_, DType::F64 | DType::F16 | DType::BF16 | DType::I16 | DType::I8)
                    | (_, DType::U64 | DType::U32 | DType::U16 | DType::U8) => {
                        return unsupported("a conversion");
                    }
                };
                Ok(Val { reg, varying: a.varying })
            }
        }
    }

    fn load(&mut self, l: &Load) -> Result<Val> {
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
        let (access, guards) = self.access(&element, l.otherwise.as_deref())?;
        let varying = access.stride != 0 || guards.iter().any(|g| g.step != 0);
        match &l.otherwise {
            _ if guards.is_empty() => {
                let reg = self.load_transposed(l, &access, None).unwrap_or_else(|| self.b.load(access));
                Ok(Val { reg, varying })
            }
            Some(otherwise) => {
                let otherwise = self.float(otherwise)?;
                let transposed = self.load_transposed(l, &access, Some((&guards, otherwise.reg)));
                let reg = transposed.unwrap_or_else(|| self.b.load_guarded(access, guards, otherwise.reg));
                Ok(Val { reg, varying: varying || otherwise.varying })
            }
            None => unsupported("an index that needs a check"),
        }
    }

    fn unary(&mut self, op: UnOp, a: &Expr) -> Result<Val> {
        let a = self.expr(a)?;
        let varying = a.varying;
        if self.b.class(a.reg) == Class::Mask && op == UnOp::Not {
            return Ok(Val { reg: self.b.unary(UnaryOp::Not, a.reg), varying });
        }
        if self.b.class(a.reg) != Class::F32 {
            return unsupported("an operand of another type");
        }
        let simple = match op {
            UnOp::Neg => Some(UnaryOp::Neg),
            UnOp::Abs => Some(UnaryOp::Abs),
            UnOp::Sqrt => Some(UnaryOp::Sqrt),
            UnOp::Floor => Some(UnaryOp::Floor),
            UnOp::Ceil => Some(UnaryOp::Ceil),
            UnOp::Round => Some(UnaryOp::Round),
            UnOp::Trunc => Some(UnaryOp::Trunc),
            _ => None,
        };
        let reg = match (simple, op) {
            (Some(simple), _) => self.b.unary(simple, a.reg),
            (_, UnOp::IsNan) => self.b.compare(Cmp::Unordered, a.reg, a.reg),
            (_, UnOp::IsInf) => {
                let magnitude = self.b.unary(UnaryOp::Abs, a.reg);
                let infinity = self.number(f32::INFINITY);
                self.b.compare(Cmp::Eq, magnitude, infinity)
            }
            (_, UnOp::Sign) => {
                let (zero, one, minus) = (self.number(0.0), self.number(1.0), self.number(-1.0));
                let (above, below) =
                    (self.b.compare(Cmp::Gt, a.reg, zero), self.b.compare(Cmp::Lt, a.reg, zero));
                // Zeros and NaN stay what they are.
                let negative = self.b.select(below, minus, a.reg);
                self.b.select(above, one, negative)
            }
            _ => match (math::unary(&mut self.b, op, a.reg), runtime_fns::unary(op, DType::F32)) {
                (Some(reg), _) => reg,
                (None, Some(function)) => self.b.call(function, vec![a.reg]),
                (None, None) => return unsupported("an operation"),
            },
        };
        Ok(Val { reg, varying })
    }

    fn binary(&mut self, op: BinOp, left: &Expr, right: &Expr) -> Result<Val> {
        if self.b.has_fma()
            && let Some((a, b, c)) = fused_sum(op, left, right)
        {
            let (a, b, c) = (self.float(a)?, self.float(b)?, self.float(c)?);
            let reg = self.b.fma(a.reg, b.reg, c.reg);
            return Ok(Val { reg, varying: a.varying || b.varying || c.varying });
        }
        let a = self.expr(left)?;
        let class = self.b.class(a.reg);
        let b = self.of_class(right, class)?;
        let reg = match class {
            Class::F32 => self.float_binary(op, a.reg, b.reg, right)?,
            Class::I32 => match comparison(op) {
                Some(op) => self.b.compare(op, a.reg, b.reg),
                None => return unsupported("integer arithmetic"),
            },
            Class::Mask => match op {
                BinOp::And | BinOp::Min => self.b.binary(BinaryOp::And, a.reg, b.reg),
                BinOp::Or | BinOp::Max => self.b.binary(BinaryOp::Or, a.reg, b.reg),
                BinOp::Xor | BinOp::Ne => self.b.binary(BinaryOp::Xor, a.reg, b.reg),
                BinOp::Eq => {
                    let differ = self.b.binary(BinaryOp::Xor, a.reg, b.reg);
                    self.b.unary(UnaryOp::Not, differ)
                }
                _ => return unsupported("an operation on truth values"),
            },
            Class::F64 | Class::I64 | Class::Mask64 => return unsupported("wide lanes"),
        };
        Ok(Val { reg, varying: a.varying || b.varying })
    }

    fn float_binary(&mut self, op: BinOp, a: Reg, b: Reg, right: &Expr) -> Result<Reg> {
        if let Some(op) = comparison(op) {
            return Ok(self.b.compare(op, a, b));
        }
        Ok(match op {
            BinOp::Add => self.b.binary(BinaryOp::Add, a, b),
            BinOp::Sub => self.b.binary(BinaryOp::Sub, a, b),
            BinOp::Mul => self.b.binary(BinaryOp::Mul, a, b),
            BinOp::Div => self.b.binary(BinaryOp::Div, a, b),
            BinOp::Max | BinOp::Min => {
                let (raw, reduce) = match op {
                    BinOp::Max => (BinaryOp::Max, ReduceOp::Max),
                    _ => (BinaryOp::Min, ReduceOp::Min),
                };
                // With a constant first, a NaN in the other operand is what the instruction yields.
                let constant = |e: &Expr| matches!(e, Expr::Const(Scalar::F32(v)) if !v.is_nan());
                if constant(right) { self.b.binary(raw, b, a) } else { self.combine(reduce, a, b) }
            }
            BinOp::Pow => match right.as_const() {
                Some(Scalar::F32(1.0)) => a,
                Some(Scalar::F32(2.0)) => self.b.binary(BinaryOp::Mul, a, a),
                Some(Scalar::F32(3.0)) => {
                    let square = self.b.binary(BinaryOp::Mul, a, a);
                    self.b.binary(BinaryOp::Mul, square, a)
                }
                Some(Scalar::F32(0.5)) => self.square_root_power(a),
                Some(Scalar::F32(-1.0)) => {
                    let one = self.number(1.0);
                    self.b.binary(BinaryOp::Div, one, a)
                }
                _ => self.call_binary(op, a, b)?,
            },
            _ => self.call_binary(op, a, b)?,
        })
    }

    /// `a` to the power 1/2: the square root, but +0 for -0 and infinity for minus infinity.
    fn square_root_power(&mut self, a: Reg) -> Reg {
        let (zero, infinity) = (self.number(0.0), self.number(f32::INFINITY));
        let minus_infinity = self.number(f32::NEG_INFINITY);
        let positive_zero = self.b.binary(BinaryOp::Add, a, zero);
        let root = self.b.unary(UnaryOp::Sqrt, positive_zero);
        let special = self.b.compare(Cmp::Eq, a, minus_infinity);
        self.b.select(special, infinity, root)
    }

    fn call_binary(&mut self, op: BinOp, a: Reg, b: Reg) -> Result<Reg> {
        match runtime_fns::binary(op, DType::F32) {
            Some(function) => Ok(self.b.call(function, vec![a, b])),
            None => unsupported("an operation"),
        }
    }
}

fn comparison(op: BinOp) -> Option<Cmp> {
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
