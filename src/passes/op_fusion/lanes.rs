//! Whether a merge keeps vector code. A block that holds one statement which lanes cannot compute is scalar as a
//! whole, so that a contraction beside it would lose its tile and a reduction its lanes: that costs more than any
//! merge saves. What lanes can compute is what the table in [`crate::lanes`] says.

use nestjit_ir::visit::walk_loops;
use nestjit_ir::{BinOp, BufId, Expr, For, Program, ReduceOp, Stmt, Var};

use crate::lanes;
use crate::passes::cost::operations;
use crate::passes::schedule::chain::{has_loop, perfect};
use crate::passes::schedule::indices::{expr_uses, index_uses};
use crate::remark::Apart;

/// The share of the work that may leave vector code: borders and the like.
const SLACK: f64 = 1.0 / 16.0;

/// Refuses statements `after` of which much less is computed in `width` lanes than of those `before` from which they were
/// made.
pub(super) fn keeps<'a>(
    program: &Program,
    width: usize,
    before: impl IntoIterator<Item = &'a [Stmt]>,
    after: &[Stmt],
) -> Result<(), Apart> {
    let Err(why) = lanes::stmts(program, after) else { return Ok(()) };
    let was: f64 = before.into_iter().map(|body| in_lanes(program, width, body)).sum();
    if in_lanes(program, width, after) >= (1.0 - SLACK) * was {
        return Ok(());
    }
    Err(Apart::LosesLanes(why))
}

/// How many operations statements run in loops that can be vector code, or that register tiles can be made of, as far as
/// these loops fill the lanes.
fn in_lanes(program: &Program, width: usize, body: &[Stmt]) -> f64 {
    let accumulators: Vec<BufId> = body
        .iter()
        .filter_map(|s| match s {
            Stmt::Temp(b) if program.buf(*b).shape.is_empty() => Some(*b),
            _ => None,
        })
        .collect();
    let of = |s: &Stmt| match s {
        Stmt::For(l) => match filled(program, width, l) {
            Some(share) => share * l.extent as f64 * operations(&l.body),
            None => l.extent as f64 * in_lanes(program, width, &l.body),
        },
        Stmt::Store(_) | Stmt::Reduce(_) | Stmt::Temp(_) | Stmt::Call(_) => 0.0,
    };
    // A sum of products has its lanes along loops around the block that declares the accumulator.
    let whole = lanes::stmts(program, body).is_ok();
    body.iter().filter(|s| whole || !contracts(s, &accumulators)).map(of).sum()
}

/// The share of the lanes that the best of a loop and of those in it fills; `None` if none of them can be lanes. An index
/// that simple statements in a chain of loops read from elsewhere is computed before the loop that does not change it.
fn filled(program: &Program, width: usize, l: &For) -> Option<f64> {
    let share = |extent: usize| extent as f64 / extent.max(1).next_multiple_of(width) as f64;
    let mut best: Option<f64> = None;
    let mut consider = |extent| best = Some(best.unwrap_or(0.0).max(share(extent)));
    if lanes::stmts(program, &l.body).is_ok() {
        consider(l.extent);
        walk_loops(&l.body, &mut |inner| consider(inner.extent));
        return best;
    }
    let (chain, body) = perfect(l);
    if !has_loop(body) {
        // Lanes along a loop that reductions run along are partial sums, which takes the innermost one.
        let innermost = chain.last().map(|l| l.var);
        let summed = |v: Var| body.iter().any(|s| matches!(s, Stmt::Reduce(r) if !index_uses(&r.index, v)));
        let by = |l: &&For| {
            (Some(l.var) == innermost || !summed(l.var))
                && lanes::stmts_with(program, body, &|e| !expr_uses(e, l.var)).is_ok()
        };
        chain.into_iter().filter(by).for_each(|l| consider(l.extent));
    }
    best
}

/// Whether a statement is a loop that sums products into one of these. A square is no product of two operands: no tile is
/// made of a sum of squares, whose lanes are partial sums.
fn contracts(stmt: &Stmt, accumulators: &[BufId]) -> bool {
    match stmt {
        Stmt::For(l) => l.body.iter().any(|s| contracts(s, accumulators)),
        Stmt::Reduce(r) => {
            r.op == ReduceOp::Add
                && accumulators.contains(&r.buf)
                && matches!(&r.value, Expr::Binary(BinOp::Mul, a, b) if a != b)
        }
        Stmt::Store(_) | Stmt::Temp(_) | Stmt::Call(_) => false,
    }
}
