//! Products of three factors (an operand that is scaled on its way in, as squeeze-and-excite does): which two are
//! multiplied first.
//!
//! In a tile of `rows x vectors`, a factor that varies with neither costs `rows` multiplications per step if it
//! joins the operand of the rows, and `vectors` if it joins that of the columns.

use nestjit_ir::visit::{expr_vars, walk_stmts_mut};
use nestjit_ir::{BinOp, Expr, Stmt, Var};

use crate::passes::schedule::tiles::choose::Tile;
use crate::passes::schedule::tiles::leaf::Leaf;

/// Reassociates the products of a leaf for its tile.
pub(super) fn associate(body: &mut [Stmt], leaf: &Leaf, tile: &Tile, lanes: usize) {
    let (Some((row, height)), Some(innermost)) = (tile.rows, leaf.path.last()) else { return };
    let (column, vectors) = (tile.columns.0, tile.columns.1.div_ceil(lanes));
    walk_stmts_mut(body, &mut |s| {
        let Stmt::For(l) = s else { return };
        if l.var != innermost.var {
            return;
        }
        walk_stmts_mut(&mut l.body, &mut |s| {
            if let Stmt::Reduce(r) = s
                && let Some(value) = reassociated(&r.value, (row, height), (column, vectors))
            {
                r.value = value;
            }
        });
    });
}

/// The product with its common factor where it costs least, if that is not where it is.
fn reassociated(value: &Expr, row: (Var, usize), column: (Var, usize)) -> Option<Expr> {
    let Expr::Binary(BinOp::Mul, a, b) = value else { return None };
    let (x, y, z) = match (a.as_ref(), b.as_ref()) {
        (Expr::Binary(BinOp::Mul, x, y), z) | (z, Expr::Binary(BinOp::Mul, x, y)) => {
            (x.as_ref(), y.as_ref(), z)
        }
        _ => return None,
    };
    let uses = |e: &Expr, v: Var| expr_vars(e).contains(&v);
    let common = |e: &Expr| !uses(e, row.0) && !uses(e, column.0);
    let (factor, operand) = match (common(x), common(y)) {
        (true, false) => (x, y),
        (false, true) => (y, x),
        _ => return None,
    };
    let times = |e: &Expr| {
        let (rows, columns) = (uses(e, row.0), uses(e, column.0));
        (if rows { row.1 } else { 1 }) * (if columns { column.1 } else { 1 })
    };
    let product = |a: &Expr, b: &Expr| a.clone().binary(BinOp::Mul, b.clone());
    (times(z) < times(operand)).then(|| product(operand, &product(z, factor)))
}

#[cfg(test)]
mod tests {
    use nestjit_ir::{Affine, BufId};

    use super::*;

    #[test]
    fn the_factor_joins_the_operand_that_is_computed_less_often() {
        let (r, c, k) = (Var(0), Var(1), Var(2));
        let load = |id, v: Var| Expr::load(BufId(id), [Affine::var(v), Affine::var(k)]);
        let (x, w, s) = (load(0, r), load(1, c), load(2, k));
        let product = |a: &Expr, b: &Expr| a.clone().binary(BinOp::Mul, b.clone());
        let value = product(&product(&x, &s), &w);
        let expected = product(&x, &product(&w, &s));
        assert_eq!(reassociated(&value, (r, 14), (c, 2)), Some(expected));
        assert_eq!(reassociated(&value, (r, 2), (c, 14)), None);
        assert_eq!(reassociated(&product(&x, &w), (r, 14), (c, 2)), None);
        assert_eq!(reassociated(&product(&product(&x, &x), &w), (r, 14), (c, 2)), None);
    }
}
