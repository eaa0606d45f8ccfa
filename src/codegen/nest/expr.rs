//! Expressions: literals, loads, selections, and the dispatch to arithmetic.

use cranelift_codegen::ir::{InstBuilder, Value, types};
use nestjit_ir::{DType, Expr, Scalar};

use super::{Check, Emitter};
use crate::codegen::contract::fused_sum;
use crate::error::{Error, Result};

impl Emitter<'_, '_> {
    /// The value of an expression that must have a certain type.
    pub(super) fn expr_of(&mut self, expr: &Expr, dtype: DType) -> Result<Value> {
        let (value, found) = self.expr(expr)?;
        if found == dtype {
            Ok(value)
        } else {
            Err(Error::internal(format!("an expression of type {found} where {dtype} is needed")))
        }
    }

    /// The value of an expression, and its type.
    pub(super) fn expr(&mut self, expr: &Expr) -> Result<(Value, DType)> {
        Ok(match expr {
            Expr::Const(s) => (self.literal(*s), s.dtype()),
            Expr::Load(l) => (self.load(l)?, expr.dtype(self.program)),
            Expr::Index(a) => (self.affine(a)?, DType::I64),
            Expr::Unary(op, a) => {
                let (a, dtype) = self.expr(a)?;
                (self.unary(*op, dtype, a)?, op.result(dtype))
            }
            Expr::Binary(op, a, b) => {
                if let Some((x, y, z)) = fused_sum(*op, a, b) {
                    let (x, dtype) = self.expr(x)?;
                    let (y, z) = (self.expr_of(y, dtype)?, self.expr_of(z, dtype)?);
                    return Ok((self.multiply_add(dtype, x, y, z)?, dtype));
                }
                let (a, dtype) = self.expr(a)?;
                let b = self.expr_of(b, dtype)?;
                (self.binary(*op, dtype, a, b)?, op.result(dtype))
            }
            Expr::Select(c, a, b) => {
                let c = self.expr_of(c, DType::Bool)?;
                let (a, dtype) = self.expr(a)?;
                let b = self.expr_of(b, dtype)?;
                (self.b.ins().select(c, a, b), dtype)
            }
            Expr::Check(c) => {
                let value = self.expr_of(&c.value, DType::I64)?;
                let site = self.sites.iter().position(|s| *s == c.site);
                let site = site.ok_or_else(|| Error::internal("a check that the nest does not have"))?;
                let ok = self.is_within(value, (c.low, c.high.saturating_sub(1)));
                self.require(ok, value, Check::Value { site, low: c.low, high: c.high });
                (value, DType::I64)
            }
            Expr::Cast(to, a) => {
                let (a, from) = self.expr(a)?;
                (self.cast(from, *to, a), *to)
            }
        })
    }

    /// A literal.
    pub(super) fn literal(&mut self, value: Scalar) -> Value {
        match value {
            Scalar::F32(v) => self.b.ins().f32const(v),
            Scalar::F64(v) => self.b.ins().f64const(v),
            Scalar::F16(v) => self.b.ins().iconst(types::I16, i64::from(v.to_bits())),
            Scalar::BF16(v) => self.b.ins().iconst(types::I16, i64::from(v.to_bits())),
            Scalar::I64(v) => self.b.ins().iconst(types::I64, v),
            // `iconst` wants the bits of narrow types without the sign's extension.
            Scalar::I32(v) => self.b.ins().iconst(types::I32, i64::from(v as u32)),
            Scalar::I8(v) => self.b.ins().iconst(types::I8, i64::from(v as u8)),
            Scalar::U8(v) => self.b.ins().iconst(types::I8, i64::from(v)),
            Scalar::I16(v) => self.b.ins().iconst(types::I16, i64::from(v as u16)),
            Scalar::U16(v) => self.b.ins().iconst(types::I16, i64::from(v)),
            Scalar::U32(v) => self.b.ins().iconst(types::I32, i64::from(v)),
            Scalar::U64(v) => self.b.ins().iconst(types::I64, v as i64),
            Scalar::Bool(v) => self.b.ins().iconst(types::I8, i64::from(v)),
        }
    }

    /// The value 0 of a type.
    pub(super) fn zero(&mut self, dtype: DType) -> Value {
        self.literal(Scalar::zero(dtype))
    }
}
