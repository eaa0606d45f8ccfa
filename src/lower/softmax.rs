//! Softmax and log-softmax along one dimension, safe against overflow: the largest element is subtracted first.

use nestjit_ir::{Expr, NestBuilder, ReduceOp, UnOp, Var};

use super::context::{Context, accumulate};
use super::operand::{Array, Operand, without};
use crate::error::Result;

/// What the steps of both functions have in common.
struct Rows {
    x: Operand,
    y: Array,
    axis: usize,
    /// The shape without the dimension.
    outer: Vec<usize>,
}

impl Rows {
    fn new(cx: &mut Context<'_, '_>, axis: usize) -> Result<Rows> {
        let x = cx.operand(0)?;
        let y = cx.result()?;
        let outer = without(&y.shape, &[axis]);
        Ok(Rows { x, y, axis, outer })
    }

    /// A step `NODE.part` that combines each row of `value` and gives `last` of the sum.
    fn reduce(
        &self,
        cx: &mut Context<'_, '_>,
        part: &str,
        op: ReduceOp,
        value: impl FnOnce(&[Var], &[Var]) -> Expr,
        last: impl FnOnce(Expr) -> Expr,
    ) -> Result<Array> {
        let result = cx.temp(part, self.y.dtype, &self.outer)?;
        let acc = cx.name(&format!("{part}_acc"));
        let row = [("k".to_owned(), self.y.shape[self.axis])];
        let mut b = cx.nest(part);
        b.for_each("i", &self.outer, |b, outer| {
            let total = accumulate(b, &acc, op, self.y.dtype, &row, |k| {
                let mut index = outer.to_vec();
                index.insert(self.axis, k[0]);
                value(&index, outer)
            });
            result.store(b, outer, last(total));
        });
        b.finish();
        Ok(result)
    }

    /// A step `NODE.part` over all elements.
    fn map(&self, b: NestBuilder<'_>, to: &Array, value: impl FnOnce(&[Var], &[Var]) -> Expr) {
        let mut b = b;
        b.for_each("i", &self.y.shape, |b, index| {
            let outer = without(index, &[self.axis]);
            to.store(b, index, value(index, &outer));
        });
        b.finish();
    }

    fn max(&self, cx: &mut Context<'_, '_>) -> Result<Array> {
        self.reduce(cx, "max", ReduceOp::Max, |i, _| self.x.at(i), |max| max)
    }
}

pub(super) fn softmax(cx: &mut Context<'_, '_>, axis: usize) -> Result<()> {
    let rows = Rows::new(cx, axis)?;
    let max = rows.max(cx)?;
    let exp = cx.temp("exp", rows.y.dtype, &rows.y.shape)?;
    rows.map(cx.nest("exp"), &exp, |i, outer| (rows.x.at(i) - max.at(outer)).exp());
    let sum = rows.reduce(cx, "sum", ReduceOp::Add, |i, _| exp.at(i), |sum| sum)?;
    rows.map(cx.nest(""), &rows.y, |i, outer| exp.at(i) / sum.at(outer));
    Ok(())
}

pub(super) fn log_softmax(cx: &mut Context<'_, '_>, axis: usize) -> Result<()> {
    let rows = Rows::new(cx, axis)?;
    let max = rows.max(cx)?;
    let log_sum = rows.reduce(
        cx,
        "log_sum",
        ReduceOp::Add,
        |i, outer| (rows.x.at(i) - max.at(outer)).exp(),
        |sum| sum.unary(UnOp::Log),
    )?;
    rows.map(cx.nest(""), &rows.y, |i, outer| (rows.x.at(i) - max.at(outer)) - log_sum.at(outer));
    Ok(())
}
