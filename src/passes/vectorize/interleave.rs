//! Rows side by side: where what a row becomes waits for sums of the row, a machine that looks a few hundred instructions ahead
//! finds little else to do in the meantime, unless the statements of several rows stand next to each other.
//!
//! For rows that are short enough to be straight code, and loops whose iterations are independent, which is the caller's to know.
//! Each row is added up in the order that it has alone.

use nestjit_ir::visit::{declared_temps, fresh_copy, subst_var, walk_stmts};
use nestjit_ir::{Affine, BufId, For, Layout, LoopKind, Program, Stmt};

use crate::passes::schedule::chain::looped;
use crate::passes::schedule::jam::{Limits, emitted, prefix_indices};

/// How many rows may stand side by side, the best first: combining lanes and dividing takes several times as long as all else that
/// is done for a short row.
const ROWS: [usize; 4] = [8, 6, 4, FEWEST];

/// Rows that are better than one even if their locals are in memory.
const FEWEST: usize = 2;

/// Registers of vectors that the locals of rows may take, of those there are.
const SHARE: usize = 2;

/// Puts the iterations of a loop side by side, which are independent of each other. `vectors` is how many registers there are.
pub(super) fn interleave(program: &mut Program, l: For, limits: Limits, vectors: usize) -> Vec<Stmt> {
    let Some(rows) = rows(program, &l, limits, vectors) else { return vec![Stmt::For(l)] };
    let (full, rest) = (l.extent / rows, l.extent % rows);
    let mut pieces = Vec::new();
    if rest > 0 {
        pieces.push((full * rows, rest, 1, fresh_copy(program, &l.body)));
    }
    pieces.insert(0, (0, rows, full, l.body));
    let name = program.var_name(l.var).to_owned();
    let mut out = Vec::new();
    for (first, extent, times, body) in pieces {
        let block = program.add_var(format!("{name}o"));
        let first = Affine::term(block, extent as i64).plus(first as i64);
        let rows = For { var: l.var, extent, kind: l.kind, body };
        let body = side_by_side(program, rows, &first);
        out.push(looped(block, times, LoopKind::Serial, body));
    }
    out
}

/// How many rows to put side by side; `None` to leave them alone.
fn rows(program: &Program, l: &For, limits: Limits, vectors: usize) -> Option<usize> {
    if l.kind != LoopKind::Serial || !straight(&l.body) || !waits(&l.body) {
        return None;
    }
    let weight = emitted(&l.body, limits.lanes);
    let registers = |buf: &BufId| program.buf(*buf).len().div_ceil(limits.lanes);
    let largest = declared_temps(&l.body).iter().map(registers).max().unwrap_or(0);
    let fits = |rows: &usize| {
        let side_by_side = rows * largest * SHARE <= vectors || *rows == FEWEST && largest <= vectors;
        *rows <= l.extent && rows * weight <= 4 * limits.unroll && side_by_side
    };
    let most = ROWS.into_iter().find(fits)?;
    // Each step waits as long, however many rows it has; what is left over is code of its own.
    let steps = |rows: &usize| 2 * (l.extent / rows) + 3 * usize::from(!l.extent.is_multiple_of(*rows));
    (most.div_ceil(2)..=most).min_by_key(steps)
}

/// Whether no loop is left but those of vectors, and unrolled ones.
fn straight(body: &[Stmt]) -> bool {
    let mut straight = true;
    walk_stmts(body, &mut |s| match s {
        Stmt::For(l) => straight &= matches!(l.kind, LoopKind::Vector | LoopKind::Unrolled),
        Stmt::Call(_) => straight = false,
        Stmt::Store(_) | Stmt::Reduce(_) | Stmt::Temp(_) => {}
    });
    straight
}

/// Whether something waits until the lanes of a vector are combined.
fn waits(body: &[Stmt]) -> bool {
    let combined = body.iter().position(combines);
    combined.is_some_and(|at| body[at + 1..].iter().any(|s| matches!(s, Stmt::For(_))))
}

/// Whether a statement combines the lanes of a vector.
fn combines(stmt: &Stmt) -> bool {
    let Stmt::For(l) = stmt else { return false };
    let into_one = |s: &Stmt| match s {
        Stmt::Reduce(r) => !r.index.iter().any(|i| i.as_affine().is_some_and(|a| a.uses(l.var))),
        Stmt::Store(_) | Stmt::For(_) | Stmt::Temp(_) | Stmt::Call(_) => false,
    };
    match l.kind {
        LoopKind::Vector => l.body.iter().any(into_one),
        LoopKind::Serial | LoopKind::Parallel(_) | LoopKind::Unrolled => l.body.iter().any(combines),
    }
}

/// Each statement for all rows, which are `first` and those behind it, before the next one.
fn side_by_side(program: &mut Program, l: For, first: &Affine) -> Vec<Stmt> {
    let name = program.var_name(l.var).to_owned();
    let own: Vec<BufId> =
        l.body.iter().filter_map(|s| if let Stmt::Temp(b) = s { Some(*b) } else { None }).collect();
    for buf in &own {
        let b = program.buf_mut(*buf);
        b.shape.insert(0, l.extent);
        let order = std::iter::once(0).chain(b.layout.order.iter().map(|d| d + 1)).collect();
        b.layout = Layout::ordered(order);
    }
    let of_row = |stmt: Stmt, program: &mut Program| {
        if matches!(stmt, Stmt::Temp(_)) {
            return stmt;
        }
        let row = program.add_var(format!("{name}i"));
        let mut body = vec![stmt];
        for buf in &own {
            prefix_indices(&mut body, *buf, &[row.into()]);
        }
        subst_var(&mut body, l.var, &first.add(&row.into()));
        looped(row, l.extent, LoopKind::Unrolled, body)
    };
    l.body.into_iter().map(|s| of_row(s, program)).collect()
}
