//! Contraction: which multiplications and additions are rounded once, as a fused multiply-add.
//!
//! The one rule for kernels and for scalar code: it looks at an expression or statement only, so that a result does
//! not depend on the function that computes it. It holds for `f32` and `f64`, where the machine has the instruction; rounding
//! once where the program says twice is never less exact.

use nestjit_ir::{BinOp, Expr, Reduce, ReduceOp};

/// The factors and the addend, if `left op right` is the sum of a product and something else.
pub(super) fn fused_sum<'e>(
    op: BinOp,
    left: &'e Expr,
    right: &'e Expr,
) -> Option<(&'e Expr, &'e Expr, &'e Expr)> {
    match (op, left, right) {
        (BinOp::Add, Expr::Binary(BinOp::Mul, a, b), addend)
        | (BinOp::Add, addend, Expr::Binary(BinOp::Mul, a, b)) => Some((a, b, addend)),
        _ => None,
    }
}

/// The factors, if a reduction adds products up.
pub(super) fn fused_update(r: &Reduce) -> Option<(&Expr, &Expr)> {
    match (r.op, &r.value) {
        (ReduceOp::Add, Expr::Binary(BinOp::Mul, a, b)) => Some((a, b)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use nestjit_ir::{BufId, SCALAR};

    use super::*;

    #[test]
    fn the_first_product_of_a_sum_is_fused() {
        let x = |id| Expr::load(BufId(id), SCALAR);
        let (product, other) = (x(0) * x(1), x(2) * x(3));
        let (a, b, c) = (x(0), x(1), x(2));
        assert_eq!(fused_sum(BinOp::Add, &product, &c), Some((&a, &b, &c)));
        assert_eq!(fused_sum(BinOp::Add, &c, &product), Some((&a, &b, &c)));
        assert_eq!(fused_sum(BinOp::Add, &product, &other), Some((&a, &b, &other)));
        assert_eq!(fused_sum(BinOp::Sub, &product, &c), None);
        assert_eq!(fused_sum(BinOp::Add, &a, &c), None);
        let update = |op| Reduce { op, buf: BufId(4), index: Vec::new(), value: product.clone() };
        assert_eq!(fused_update(&update(ReduceOp::Add)), Some((&a, &b)));
        assert_eq!(fused_update(&update(ReduceOp::Max)), None);
    }
}
