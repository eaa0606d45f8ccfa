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
//! Attention of long sequences is one nest this way, and its matrix of scores never exists as a whole. What reduces
//! the columns of a product (global pooling behind a convolution) goes in blocks of columns.

use nestjit_ir::access::AccessKind;
use nestjit_ir::{Affine, BufId, For, Index, Program, Stmt, Var, visit};

use super::align::{Side, align, tiled};
use super::legal::Legality;
use crate::machine::MachineModel;

/// How many rows a block has at least and at most.
const ROWS: (usize, usize) = (8, 64);

/// A block of rows reads the weights again. Each of their elements is used this often then, which hides that it
/// comes from the third-level cache.
const WEIGHTS_USED: usize = 32;

/// How many columns a block has: this, or up to so many times as many. Tiles of all tiers have few columns left then.
const COLUMNS: (usize, usize) = (64, 5);

/// How many blocks there are at least: threads share them.
const BLOCKS: usize = 4;

/// How many loops can be cut in one merge.
const CUTS: usize = 6;

/// Under which conditions loops are cut.
pub(super) struct Blocks {
    /// New variables for the loops over blocks.
    spare: Vec<Var>,
    /// How many rows a block has at least.
    rows: usize,
    /// How many blocks there are at least.
    blocks: usize,
    /// How many bytes a block of columns has at most.
    columns: usize,
    /// How many bytes of a contraction's operand may be read for every block.
    pub resident: usize,
}

impl Blocks {
    /// What every block reads comes from the second-level cache.
    pub fn new(program: &mut Program, target: &MachineModel) -> Blocks {
        let spare = (0..CUTS).map(|_| program.add_var("block")).collect();
        let blocks = BLOCKS.max(2 * target.cores);
        Blocks {
            spare,
            rows: ROWS.0,
            blocks,
            columns: target.l1_bytes() * 3 / 2,
            resident: target.l2_bytes() / 2,
        }
    }

    /// What every block reads comes from the third-level cache, and a block does much with it.
    pub fn of_many_rows(program: &mut Program, target: &MachineModel) -> Blocks {
        let resident = (target.l3_bytes() / 4).max(target.l2_bytes() / 2);
        Blocks { rows: WEIGHTS_USED, resident, ..Blocks::new(program, target) }
    }

    /// The same conditions, but no loop is cut any more.
    pub fn uncut(&self) -> Blocks {
        Blocks { spare: Vec::new(), ..*self }
    }
}

/// Two loops with corresponding loops cut into blocks, if there are any to cut. A loop that is cut already is
/// followed by the other side.
pub(super) fn cut(
    legality: &Legality<'_>,
    first: &Side<'_>,
    second: &Side<'_>,
    shared: &[BufId],
    blocks: &mut Blocks,
) -> Option<(Stmt, Stmt)> {
    let whole = |side: &Side<'_>| Stmt::For(side.whole.clone());
    if let Some((var, rows)) = tiled(first, second, shared) {
        return Some((whole(first), strip(whole(second), var, blocks.spare.pop()?, rows)));
    }
    let (pairs, _) = legality.pairs(first, second, &align(first, second, shared));
    let (v1, v2) = *pairs.last()?;
    // Vectors run along the columns of a contraction.
    let columns = |side: &Side<'_>, v: Var| side.contractions.iter().any(|c| c.column.1.contains(&v));
    let extent = first.heads.iter().find(|h| h.var == v1)?.extent;
    let divides = |n: &usize| extent.is_multiple_of(*n);
    let rows = match (columns(first, v1), columns(second, v2)) {
        (false, false) => (blocks.rows..=ROWS.1.min(extent / BLOCKS)).rev().find(divides)?,
        (true, false) if only_reduces(second) && !windowed(first) => {
            let mut sizes = (1..=COLUMNS.1).rev().map(|times| times * COLUMNS.0);
            let others = first.heads.iter().filter(|h| h.var != v1).map(|h| h.extent).product::<usize>();
            let small = |n: &usize| n * others * size_of::<f32>() <= blocks.columns;
            sizes.find(|n| divides(n) && small(n) && extent >= blocks.blocks * n)?
        }
        _ => return None,
    };
    let (b1, b2) = (blocks.spare.pop()?, blocks.spare.pop()?);
    Some((strip(whole(first), v1, b1, rows), strip(whole(second), v2, b2, rows)))
}

/// Whether something is reduced, and nothing contracted.
fn only_reduces(side: &Side<'_>) -> bool {
    side.contractions.is_empty() && side.accesses.iter().any(|a| matches!(a.kind, AccessKind::Update(_)))
}

/// Whether a contraction's operand is read through a window: such ones have schedules for all columns.
fn windowed(side: &Side<'_>) -> bool {
    let simple = |i: &Index| i.as_affine().is_some_and(|a| a.terms().len() <= 1);
    side.contractions.iter().any(|c| c.row.0.iter().any(|l| !l.index.iter().all(simple)))
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
