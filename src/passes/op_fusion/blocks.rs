//! Blocks of rows: where sharing whole loops would keep too much in the caches and sharing a row would take a
//! contraction's tile apart, some rows at a time are computed.
//!
//! ```text
//! for n < 512 { .. scores of row n .. }            for b < 8 {
//! for i < 512 { .. softmax of row i .. }             for n < 64 { .. scores of row 64*b+n .. }
//!                                                    for i < 64 { .. softmax of row 64*b+i .. }
//!                                                  }
//! ```
//!
//! Attention of long sequences is one nest this way, and its matrix of scores never exists as a whole.

use nestjit_ir::{Affine, For, Program, Stmt, Var, visit};

use super::align::{Side, align, tiled};
use super::legal::Legality;
use nestjit_ir::BufId;

/// How many rows a block has at least and at most.
const ROWS: (usize, usize) = (8, 64);

/// How many blocks there are at least: threads share them.
const BLOCKS: usize = 4;

/// How many loops can be cut in one merge.
const CUTS: usize = 6;

/// New variables for the loops over blocks.
pub(super) fn variables(program: &mut Program) -> Vec<Var> {
    (0..CUTS).map(|_| program.add_var("block")).collect()
}

/// Two loops with corresponding loops cut into blocks, if there are any to cut. A loop that is cut already is
/// followed by the other side.
pub(super) fn cut(
    legality: &Legality<'_>,
    first: &Side<'_>,
    second: &Side<'_>,
    shared: &[BufId],
    spare: &mut Vec<Var>,
) -> Option<(Stmt, Stmt)> {
    let whole = |side: &Side<'_>| Stmt::For(side.whole.clone());
    if let Some((var, rows)) = tiled(first, second, shared) {
        return Some((whole(first), strip(whole(second), var, spare.pop()?, rows)));
    }
    let (pairs, _) = legality.pairs(first, second, &align(first, second, shared));
    let (v1, v2) = *pairs.last()?;
    // Vectors run along the columns of a contraction.
    let columns = |side: &Side<'_>, v: Var| side.contractions.iter().any(|c| c.column.1.contains(&v));
    if columns(first, v1) || columns(second, v2) {
        return None;
    }
    let extent = first.heads.iter().find(|h| h.var == v1)?.extent;
    let rows = (ROWS.0..=ROWS.1.min(extent / BLOCKS)).rev().find(|r| extent.is_multiple_of(*r))?;
    let (b1, b2) = (spare.pop()?, spare.pop()?);
    Some((strip(whole(first), v1, b1, rows), strip(whole(second), v2, b2, rows)))
}

/// Cuts the loop over `var` into a loop over blocks around a loop over the rows of one.
fn strip(stmt: Stmt, var: Var, block: Var, rows: usize) -> Stmt {
    let mut body = [stmt];
    visit::walk_stmts_mut(&mut body, &mut |s| {
        let Stmt::For(l) = s else { return };
        if l.var != var {
            return;
        }
        let mut inner = std::mem::take(&mut l.body);
        visit::subst_var(&mut inner, var, &(Affine::term(block, rows as i64) + Affine::var(var)));
        let row = Stmt::For(For { var, extent: rows, kind: l.kind, body: inner });
        *s = Stmt::For(For { var: block, extent: l.extent / rows, kind: l.kind, body: vec![row] });
    });
    let [stmt] = body;
    stmt
}
