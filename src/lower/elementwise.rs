//! Elementwise operations: one store per element, operands broadcast.

use nestjit_ir::{BinOp, CheckKind, DType, Expr, NestBuilder, Scalar};

use super::activation;
use super::context::Context;
use super::operand::affine;
use crate::error::Result;
use crate::graph::{Binary, Unary};

/// A nest over the result with `value` of the broadcast operands.
fn elementwise(
    cx: &mut Context<'_, '_>,
    value: impl FnOnce(&mut NestBuilder<'_>, Vec<Expr>) -> Expr,
) -> Result<()> {
    let operands = cx.operands()?;
    let y = cx.result()?;
    let mut b = cx.nest("");
    b.for_each("i", &y.shape, |b, i| {
        let at = affine(i);
        let values = operands.iter().map(|x| x.broadcast(&at, &y.shape)).collect();
        let value = value(b, values);
        y.store(b, i, value);
    });
    b.finish();
    Ok(())
}

/// The only operand.
fn one(values: Vec<Expr>) -> Expr {
    let [x] = <[Expr; 1]>::try_from(values).expect("inference has counted the operands");
    x
}

pub(super) fn copy(cx: &mut Context<'_, '_>) -> Result<()> {
    elementwise(cx, |_, values| one(values))
}

pub(super) fn unary(cx: &mut Context<'_, '_>, op: Unary) -> Result<()> {
    let dtype = cx.operand(0)?.dtype();
    let names = activation::Names::of(cx);
    elementwise(cx, |b, values| activation::unary(b, &names, op, dtype, one(values)))
}

pub(super) fn binary(cx: &mut Context<'_, '_>, op: Binary) -> Result<()> {
    let dtype = cx.operand(0)?.dtype();
    elementwise(cx, |_, values| {
        let [x, y] = <[Expr; 2]>::try_from(values).expect("inference has counted the operands");
        match ir_op(op) {
            Some(op) => x.binary(op, y),
            None => x.clone().lt(Scalar::zero(dtype).into()).select(y * x.clone(), x),
        }
    })
}

/// The operation of the IR; `PRelu` is the only one that needs more than one.
fn ir_op(op: Binary) -> Option<BinOp> {
    Some(match op {
        Binary::Add => BinOp::Add,
        Binary::Sub => BinOp::Sub,
        Binary::Mul => BinOp::Mul,
        Binary::Div => BinOp::Div,
        Binary::Rem => BinOp::Rem,
        Binary::Mod => BinOp::Mod,
        Binary::Pow => BinOp::Pow,
        Binary::Max => BinOp::Max,
        Binary::Min => BinOp::Min,
        Binary::Atan2 => BinOp::Atan2,
        Binary::Eq => BinOp::Eq,
        Binary::Ne => BinOp::Ne,
        Binary::Lt => BinOp::Lt,
        Binary::Le => BinOp::Le,
        Binary::Gt => BinOp::Gt,
        Binary::Ge => BinOp::Ge,
        Binary::And => BinOp::And,
        Binary::Or => BinOp::Or,
        Binary::Xor => BinOp::Xor,
        Binary::Shl => BinOp::Shl,
        Binary::Shr => BinOp::Shr,
        Binary::PRelu => return None,
    })
}

pub(super) fn select(cx: &mut Context<'_, '_>) -> Result<()> {
    elementwise(cx, |_, values| {
        let [condition, x, y] = <[Expr; 3]>::try_from(values).expect("inference has counted the operands");
        condition.select(x, y)
    })
}

pub(super) fn check(
    cx: &mut Context<'_, '_>,
    kind: CheckKind,
    low: i64,
    high: i64,
    input: &str,
) -> Result<()> {
    let site = cx.site(kind, input);
    elementwise(cx, |_, values| {
        let value = match kind {
            CheckKind::IndexFromEnd => from_start(one(values), high),
            CheckKind::Index | CheckKind::Length | CheckKind::Position | CheckKind::Category => one(values),
        };
        value.checked(low, high, &site)
    })
}

/// An index into a dimension of this extent, counted from its start.
pub(super) fn from_start(index: Expr, extent: i64) -> Expr {
    let wrapped = index.clone() + Expr::i64(extent);
    index.clone().lt(Expr::i64(0)).select(wrapped, index)
}

pub(super) fn clip(cx: &mut Context<'_, '_>, min: Option<f64>, max: Option<f64>) -> Result<()> {
    let dtype = cx.operand(0)?.dtype();
    elementwise(cx, |_, values| clipped(one(values), dtype, min, max))
}

/// `min(max(x, min), max)`, with the bounds that there are.
pub(super) fn clipped(x: Expr, dtype: DType, min: Option<f64>, max: Option<f64>) -> Expr {
    let x = match min {
        Some(min) => x.max(Expr::literal(dtype, min)),
        None => x,
    };
    match max {
        Some(max) => x.min(Expr::literal(dtype, max)),
        None => x,
    }
}

pub(super) fn cast(cx: &mut Context<'_, '_>, to: DType) -> Result<()> {
    let from = cx.operand(0)?.dtype();
    elementwise(cx, |_, values| if from == to { one(values) } else { one(values).cast(to) })
}

pub(super) fn bias_add(cx: &mut Context<'_, '_>, axis: usize) -> Result<()> {
    let (x, bias) = (cx.operand(0)?, cx.operand(1)?);
    let y = cx.result()?;
    let mut b = cx.nest("");
    b.for_each("i", &y.shape, |b, i| y.store(b, i, x.at(i) + bias.at([i[axis]])));
    b.finish();
    Ok(())
}
