//! Products with matrices of integers of few bits, which are taken out of their bytes in registers.
//!
//! `%acc[n,m] += %part * scale[b,m]` for each block `b`, and within a block
//! `%part += x[n,k] * f32(i32((q[m,b,j] >> shift) & mask) - zero[b,m])` for each of the integers of a byte. So `q` is read once
//! for each tile of rows, and both sums have the form of a contraction: the roles of their loops say that lanes run along the
//! columns, for which the bytes are laid out when the model is compiled.

use nestjit_ir::{Affine, BinOp, DType, Expr, NestBuilder, ReduceOp, SCALAR, Scalar, Var};

use super::context::{Context, Loop, loops};
use super::operand::{Array, Operand};
use crate::error::Result;

/// The operands of a product.
struct Product {
    x: Array,
    q: Array,
    scale: Operand,
    zero: Option<Operand>,
    bits: usize,
    block: usize,
    /// The type of the sums.
    dtype: DType,
    /// The names of the sum and of that of a block.
    names: [String; 2],
}

pub(super) fn matmul(cx: &mut Context<'_, '_>, bits: usize, block: usize) -> Result<()> {
    let y = cx.result()?;
    let inner = cx.operand_shape(0).last().copied().unwrap_or(0);
    let product = Product {
        x: cx.factor(0)?,
        q: cx.array(1)?,
        scale: cx.operand(2)?,
        zero: cx.optional(3)?,
        bits,
        block,
        dtype: y.dtype,
        names: [cx.name("acc"), cx.name("block")],
    };
    let rows = y.shape.len() - 1;
    let mut outer: Vec<Loop> = (0..rows).map(|d| (format!("n{d}"), y.shape[d])).collect();
    outer.push(("m".into(), y.shape[rows]));
    let mut nest = cx.nest("");
    loops(&mut nest, &outer, |nest, vars| {
        let acc = nest.temp(&product.names[0], y.dtype, &[]);
        nest.store(acc, SCALAR, Scalar::zero(y.dtype).into());
        let (row, column) = (&vars[..rows], vars[rows]);
        let add = |nest: &mut NestBuilder<'_>, at: Affine, count: usize| {
            let (part, scale) = product.block(nest, row, column, &at, count);
            nest.reduce(ReduceOp::Add, acc, SCALAR, part * scale);
        };
        if inner >= block {
            nest.for_("b", inner / block, |nest, b| add(nest, Affine::var(b), block));
        }
        if !inner.is_multiple_of(block) {
            add(nest, Affine::constant((inner / block) as i64), inner % block);
        }
        y.store(nest, vars, Expr::load(acc, SCALAR));
    });
    nest.finish();
    Ok(())
}

impl Product {
    /// The sum of the first products of a block, and its scale.
    fn block(
        &self,
        nest: &mut NestBuilder<'_>,
        row: &[Var],
        column: Var,
        at: &Affine,
        count: usize,
    ) -> (Expr, Expr) {
        let part = nest.temp(&self.names[1], self.dtype, &[]);
        nest.store(part, SCALAR, Scalar::zero(self.dtype).into());
        let per_byte = 8 / self.bits;
        let parameter = [at.clone(), Affine::var(column)];
        let products = |nest: &mut NestBuilder<'_>, byte: Affine, count: usize| {
            for place in 0..count {
                let k = byte.clone().scale(per_byte as i64).plus(place as i64);
                let mut index: Vec<Affine> = row.iter().copied().map(Affine::var).collect();
                index.push(at.clone().scale(self.block as i64).add(&k));
                let q = self.q.at([Affine::var(column), at.clone(), byte.clone()]);
                let value = self.value(self.number(q, place), &parameter);
                nest.reduce(ReduceOp::Add, part, SCALAR, self.x.at(index) * value);
            }
        };
        let bytes = count / per_byte;
        if bytes > 0 {
            nest.for_("j", bytes, |nest, j| products(nest, Affine::var(j), per_byte));
        }
        products(nest, Affine::constant(bytes as i64), count % per_byte);
        (Expr::load(part, SCALAR), self.scale.at(parameter))
    }

    /// One of the integers of a byte, as `u8`.
    fn number(&self, byte: Expr, place: usize) -> Expr {
        let (shift, last) = (place * self.bits, (place + 1) * self.bits == 8);
        let constant = |value: usize| Expr::Const(Scalar::U8(value as u8));
        let moved = if shift == 0 { byte } else { byte.binary(BinOp::Shr, constant(shift)) };
        if last { moved } else { moved.binary(BinOp::And, constant((1 << self.bits) - 1)) }
    }

    /// What an integer stands for but for its scale: less its zero point.
    fn value(&self, number: Expr, parameter: &[Affine; 2]) -> Expr {
        let zero = match &self.zero {
            None => Expr::Const(Scalar::I32(1 << (self.bits - 1))),
            Some(zero) if zero.dtype() == DType::U8 => zero.at(parameter.clone()).cast(DType::I32),
            Some(zero) => return number.cast(self.dtype) - zero.at(parameter.clone()),
        };
        (number.cast(DType::I32) - zero).cast(self.dtype)
    }
}
