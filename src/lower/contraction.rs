//! Matrix products. The form is always `%acc += a * b` (for operands of 8 bits
//! `%acc += cast(i32, a) * cast(i32, b)`), so that the roles of the loops can be read off: `n` rows,
//! `m` columns, `k` the reduction, `b0`, `b1`, ... batches.

use nestjit_ir::{Affine, Expr, ReduceOp, Var};

use super::context::{Context, Loop, accumulate, loops};
use super::operand::{Array, affine, broadcast_index};
use crate::error::Result;

/// An element of an operand as a factor of what is added up in `y`: operands of 8 bits are widened.
pub(super) fn factor(of: &Array, element: Expr, y: &Array) -> Expr {
    if of.dtype == y.dtype { element } else { element.cast(y.dtype) }
}

pub(super) fn matmul(cx: &mut Context<'_, '_>) -> Result<()> {
    let y = cx.result()?;
    let (a, b) = (cx.factor(0)?, cx.factor(1)?);
    // A 1-D operand has neither batches nor a row (or column) of its own.
    let (rows, columns) = (a.shape.len() > 1, b.shape.len() > 1);
    let batches = y.shape.len() - usize::from(rows) - usize::from(columns);
    let (a_batch, b_batch) = (a.shape.len().saturating_sub(2), b.shape.len().saturating_sub(2));
    let inner = a.shape[a.shape.len() - 1];

    let mut outer: Vec<Loop> = (0..batches).map(|d| (format!("b{d}"), y.shape[d])).collect();
    if rows {
        outer.push(("n".into(), y.shape[batches]));
    }
    if columns {
        outer.push(("m".into(), y.shape[y.shape.len() - 1]));
    }
    let acc = cx.name("acc");
    let mut nest = cx.nest("");
    loops(&mut nest, &outer, |nest, vars| {
        let batch = affine(&vars[..batches]);
        let row = rows.then(|| vars[batches]);
        let column = columns.then(|| vars[vars.len() - 1]);
        let product = accumulate(nest, &acc, ReduceOp::Add, y.dtype, &[("k".into(), inner)], |k| {
            let mut at_a = broadcast_index(&a.shape[..a_batch], &batch, &y.shape[..batches]);
            at_a.extend(row.map(Affine::var));
            at_a.push(k[0].into());
            let mut at_b = broadcast_index(&b.shape[..b_batch], &batch, &y.shape[..batches]);
            at_b.push(k[0].into());
            at_b.extend(column.map(Affine::var));
            factor(&a, a.at(at_a), &y) * factor(&b, b.at(at_b), &y)
        });
        y.store(nest, vars, product);
    });
    nest.finish();
    Ok(())
}

pub(super) fn gemm(
    cx: &mut Context<'_, '_>,
    alpha: f64,
    beta: f64,
    trans_a: bool,
    trans_b: bool,
) -> Result<()> {
    let y = cx.result()?;
    let (a, b, c) = (cx.factor(0)?, cx.factor(1)?, cx.optional(2)?);
    let inner = a.shape[usize::from(!trans_a)];
    let acc = cx.name("acc");
    let swap =
        |transposed: bool, row: Var, column: Var| if transposed { [column, row] } else { [row, column] };
    let scaled = |factor: f64, value: Expr| match factor {
        1.0 => value,
        factor => value * Expr::literal(y.dtype, factor),
    };
    let mut nest = cx.nest("");
    loops(&mut nest, &[("n".into(), y.shape[0]), ("m".into(), y.shape[1])], |nest, vars| {
        let product = accumulate(nest, &acc, ReduceOp::Add, y.dtype, &[("k".into(), inner)], |k| {
            let (at_a, at_b) = (swap(trans_a, vars[0], k[0]), swap(trans_b, k[0], vars[1]));
            factor(&a, a.at(at_a), &y) * factor(&b, b.at(at_b), &y)
        });
        let product = scaled(alpha, product);
        let value = match &c {
            Some(c) => product + scaled(beta, c.broadcast(&affine(vars), &y.shape)),
            None => product,
        };
        y.store(nest, vars, value);
    });
    nest.finish();
    Ok(())
}
