//! Whether a merge keeps vector code. A block that holds one statement which lanes cannot compute is scalar as a
//! whole, so that a contraction beside it would lose its tile and a reduction its lanes: that costs more than any
//! merge saves. What lanes can compute is what the table in [`crate::lanes`] says.

use nestjit_ir::visit::work;
use nestjit_ir::{BinOp, BufId, Expr, For, Program, ReduceOp, Stmt};

use super::Refusal;
use crate::lanes;
use crate::passes::loops::{expr_uses, has_loop};

/// The share of the work that may leave vector code: borders and the like.
const SLACK: f64 = 1.0 / 16.0;

/// Refuses statements `after` of which much less is computed in lanes than of those `before` from which they were made.
pub(super) fn keeps<'a>(
    program: &Program,
    before: impl IntoIterator<Item = &'a [Stmt]>,
    after: &[Stmt],
) -> Result<(), Refusal> {
    let Err(why) = lanes::stmts(program, after) else { return Ok(()) };
    let was: f64 = before.into_iter().map(|body| in_lanes(program, body)).sum();
    if in_lanes(program, after) >= (1.0 - SLACK) * was {
        return Ok(());
    }
    let message = format!("one of them has {why}, and the other would lose its vector loops by it");
    Err(Refusal::new("scalar", message))
}

/// How often innermost statements run in loops that can be vector code, or that register tiles can be made of.
fn in_lanes(program: &Program, body: &[Stmt]) -> f64 {
    let accumulators: Vec<BufId> = body
        .iter()
        .filter_map(|s| match s {
            Stmt::Temp(b) if program.buf(*b).shape.is_empty() => Some(*b),
            _ => None,
        })
        .collect();
    let of = |s: &Stmt| match s {
        Stmt::For(l) if has_lanes(program, l) => l.extent as f64 * work(&l.body) as f64,
        Stmt::For(l) => l.extent as f64 * in_lanes(program, &l.body),
        Stmt::Store(_) | Stmt::Reduce(_) | Stmt::Temp(_) | Stmt::Call(_) => 0.0,
    };
    // A sum of products has its lanes along loops around the block that declares the accumulator.
    let whole = lanes::stmts(program, body).is_ok();
    body.iter().filter(|s| whole || !contracts(s, &accumulators)).map(of).sum()
}

/// Whether the iterations of a loop can be lanes, or those of loops in it. An index that an innermost loop reads from
/// elsewhere and does not change is computed before it.
fn has_lanes(program: &Program, l: &For) -> bool {
    lanes::stmts_with(program, &l.body, &|e| !has_loop(&l.body) && !expr_uses(e, l.var)).is_ok()
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
