//! Whether a legal merge pays: what it saves in bytes against what it costs.
//!
//! A merge saves writing and reading the buffers between the nests. It costs when it
//! - takes away the loops that a contraction needs for its register tile: with rows `n` shared with the row-wise
//!   work of another nest, each row reads the whole weights again (`breaks-tile`),
//! - makes a second contraction do the same (`second-contraction`),
//! - leaves too few independent iterations for the threads (`parallelism`).
//!
//! Whether what stays between the nests fits the caches is judged on the merged nest, in [`super::merge`].

use std::collections::BTreeSet;

use nestjit_ir::access::AccessKind;
use nestjit_ir::hash::FastMap;
use nestjit_ir::{BinOp, BufId, Expr, Index, Load, Program, ReduceOp, Role, Stmt, Var, visit};

use super::align::Side;
use crate::machine::MachineModel;
use crate::remark::Apart;

/// Work below which a nest runs on one thread anyway, in innermost iterations.
pub(super) const SERIAL_WORK: usize = 1 << 15;

/// Sharing rows with other work is free as long as the weights take at most this part of the first cache.
const TILE_SHARE: (usize, usize) = (3, 4);

/// Contractions of at least this many rows and columns are worth a register tile of their own.
const TILE: usize = 8;

/// A sum of products, `%acc += a * b`, in which some output loop indexes one operand only.
#[derive(Debug)]
pub(super) struct Contraction<'a> {
    /// The loops around it that index the result.
    pub outputs: Vec<Var>,
    /// The loads of the operand whose loops run along vectors, and the output loops that only it has: constant
    /// weights, which are packed for that, or else what the innermost output loop indexes.
    pub column: (Vec<&'a Load>, Vec<Var>),
    /// The loads of the other operand, and the output loops that only it has.
    pub row: (Vec<&'a Load>, Vec<Var>),
}

/// The contractions in a statement list.
pub(super) fn contractions<'a>(program: &Program, body: &'a [Stmt]) -> Vec<Contraction<'a>> {
    let mut found = Vec::new();
    collect(program, body, &mut Vec::new(), &mut FastMap::default(), &mut found);
    found
}

fn collect<'a>(
    program: &Program,
    body: &'a [Stmt],
    path: &mut Vec<(Var, usize)>,
    declared: &mut FastMap<BufId, usize>,
    found: &mut Vec<Contraction<'a>>,
) {
    for stmt in body {
        match stmt {
            Stmt::Temp(b) => {
                declared.insert(*b, path.len());
            }
            Stmt::For(l) => {
                path.push((l.var, l.extent));
                collect(program, &l.body, path, declared, found);
                path.pop();
            }
            Stmt::Reduce(r) if r.op == ReduceOp::Add => {
                let Expr::Binary(BinOp::Mul, a, b) = &r.value else { continue };
                let depth = declared.get(&r.buf).copied();
                let index: BTreeSet<Var> =
                    r.index.iter().filter_map(Index::as_affine).flat_map(|i| i.vars()).collect();
                let outputs: Vec<Var> = path
                    .iter()
                    .enumerate()
                    .filter(|(at, (v, n))| *n > 1 && (depth.is_some_and(|d| *at < d) || index.contains(v)))
                    .map(|(_, (v, _))| *v)
                    .collect();
                found.extend(contraction(program, outputs, a, b));
            }
            Stmt::Reduce(_) | Stmt::Store(_) | Stmt::Call(_) => {}
        }
    }
}

fn contraction<'a>(
    program: &Program,
    outputs: Vec<Var>,
    a: &'a Expr,
    b: &'a Expr,
) -> Option<Contraction<'a>> {
    let operand = |e: &'a Expr| {
        let mut loads = Vec::new();
        visit::walk_expr(e, &mut |e| {
            if let Expr::Load(l) = e {
                loads.push(l);
            }
        });
        (loads, visit::expr_vars(e))
    };
    let ((a, a_vars), (b, b_vars)) = (operand(a), operand(b));
    let only = |mine: &[Var], other: &[Var]| -> Vec<Var> {
        outputs.iter().copied().filter(|v| mine.contains(v) && !other.contains(v)).collect()
    };
    let (a_only, b_only) = (only(&a_vars, &b_vars), only(&b_vars, &a_vars));
    if a_only.is_empty() && b_only.is_empty() {
        return None;
    }
    let innermost = outputs.iter().rev().find(|v| a_only.contains(v) || b_only.contains(v))?;
    let weights = |loads: &[&Load], only: &[Var]| {
        !only.is_empty() && loads.iter().all(|l| program.buf(l.buf).role == Role::Const)
    };
    let a_leads = match (weights(&a, &a_only), weights(&b, &b_only)) {
        (true, false) => true,
        (false, true) => false,
        _ => a_only.contains(innermost),
    };
    let (column, row) = match a_leads {
        true => ((a, a_only), (b, b_only)),
        false => ((b, b_only), (a, a_only)),
    };
    Some(Contraction { outputs, column, row })
}

/// How many bytes a load touches while the loops `fixed` stand still.
pub(super) fn footprint(
    program: &Program,
    load: &Load,
    fixed: &[Var],
    extent: &dyn Fn(Var) -> usize,
) -> usize {
    let buffer = program.buf(load.buf);
    let elements: usize = load
        .index
        .iter()
        .zip(&buffer.shape)
        .map(|(index, size)| match index {
            Index::Affine(a) => {
                let moving = |v| if fixed.contains(&v) { 1 } else { extent(v) };
                let (lo, hi) = a.range(moving).unwrap_or((0, 0));
                usize::try_from(hi.saturating_sub(lo)).map_or(*size, |n| (n + 1).min(*size))
            }
            Index::Value(_) => *size,
        })
        .product();
    elements * buffer.dtype.size()
}

/// Whether all loops in `body` are there to reduce: nothing is stored in them, other than what sums of their own start
/// with.
fn only_reduces(body: &[Stmt]) -> bool {
    let mut pure = true;
    visit::walk_loops(body, &mut |l| {
        let own = |buf: BufId| l.body.iter().any(|s| matches!(s, Stmt::Temp(b) if *b == buf));
        pure &= l.body.iter().all(|s| match s {
            Stmt::Reduce(_) | Stmt::For(_) | Stmt::Temp(_) => true,
            Stmt::Store(s) => own(s.buf),
            Stmt::Call(_) => false,
        });
    });
    pure
}

/// Whether what remains of a loop without its matched loops only reduces.
fn flat(side: &Side<'_>, matched: &[Var]) -> bool {
    let statement = |s: &Stmt| matches!(s, Stmt::Reduce(_) | Stmt::For(_));
    let whole = side.heads.iter().all(|h| matched.contains(&h.var));
    (whole || side.body.iter().all(statement)) && only_reduces(side.body)
}

/// How a merge leaves the rows of the contractions in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Rows {
    /// As they were: a register tile can hold several.
    Together,
    /// One at a time, between other work on the row.
    Apart,
}

/// Whether the innermost of the shared loops hold a contraction with enough rows and columns for a register tile.
fn wide(side: &Side<'_>, matched: &[Var]) -> bool {
    let mut extents = visit::Extents::of(&side.whole.body);
    extents.set(side.whole.var, side.whole.extent);
    let extent = |loops: &[Var]| loops.iter().filter_map(|v| extents.get(*v)).product::<usize>();
    let tiled = |c: &Contraction<'_>| {
        let shared = c.column.1.iter().chain(&c.row.1).all(|v| matched.contains(v));
        shared && extent(&c.column.1).min(extent(&c.row.1)) >= TILE
    };
    side.contractions.iter().any(tiled)
}

/// Refuses merges that cost more than they save; see the module's description. With each loop comes the list of
/// its matched loops; `caches` are the machine's, and how many bytes may be read for each of several rows together.
pub(super) fn check(
    program: &Program,
    caches: (&MachineModel, usize),
    first: (&Side<'_>, &[Var]),
    second: (&Side<'_>, &[Var]),
) -> Result<Rows, Apart> {
    if wide(first.0, first.1) && wide(second.0, second.1) {
        return Err(Apart::TwoTiles);
    }
    // Statements that run once per iteration of all output loops are an epilogue, whatever they are.
    if flat(first.0, first.1) && flat(second.0, second.1) {
        return Ok(Rows::Together);
    }
    let mut rows = Rows::Together;
    for (side, matched) in [first, second] {
        if keeps_tile(program, caches, side, matched)? == Rows::Apart {
            rows = Rows::Apart;
        }
    }
    Ok(rows)
}

/// A consumer that is itself a contraction over what it consumes must not read its other operand again and again:
/// the shared loops `matched` must be loops of that operand too.
pub(super) fn restreams(
    program: &Program,
    first: &Side<'_>,
    second: &Side<'_>,
    matched: &[Var],
) -> Result<(), Apart> {
    let written = |buf: BufId| first.accesses.iter().any(|a| a.buf == buf && a.kind != AccessKind::Read);
    for c in &second.contractions {
        for (mine, other) in [(&c.column.0, &c.row.0), (&c.row.0, &c.column.0)] {
            for load in mine.iter().filter(|l| written(l.buf)) {
                let uses = |l: &Load, v: Var| l.index.iter().filter_map(Index::as_affine).any(|a| a.uses(v));
                let (rows, again): (Vec<Var>, Vec<Var>) = c.outputs.iter().partition(|v| uses(load, **v));
                let mut extents = visit::Extents::of(&second.whole.body);
                extents.set(second.whole.var, second.whole.extent);
                let extent = |v| extents.get(v).unwrap_or(1);
                let repeats = |v: &&Var| matched.contains(v) && !other.iter().any(|l| uses(l, **v));
                let times: usize = rows.iter().filter(repeats).map(|v| extent(*v)).product();
                if again.is_empty() || times <= 1 {
                    continue;
                }
                let bytes: usize = other.iter().map(|l| footprint(program, l, matched, &extent)).sum();
                let (operand, weights) = (load.buf, other.first().map(|l| l.buf));
                return Err(Apart::WeightsAgain { operand, weights, bytes, times });
            }
        }
    }
    Ok(())
}

/// What contractions read for every block of rows must stay in a cache between the blocks, which has room for `resident`
/// bytes.
pub(super) fn stays(
    program: &Program,
    resident: usize,
    (side, matched): (&Side<'_>, &[Var]),
) -> Result<(), Apart> {
    let mut extents = visit::Extents::of(&side.whole.body);
    extents.set(side.whole.var, side.whole.extent);
    let extent = |v| extents.get(v).unwrap_or(1);
    for c in &side.contractions {
        for ((_, own), (other, _)) in [(&c.row, &c.column), (&c.column, &c.row)] {
            if !own.iter().any(|v| matched.contains(v)) {
                continue;
            }
            let bytes: usize = other.iter().map(|l| footprint(program, l, matched, &extent)).sum();
            if bytes > resident {
                return Err(Apart::ReadForEachBlock { bytes });
            }
        }
    }
    Ok(())
}

/// Whether some contraction has a constant operand.
pub(super) fn has_weights(program: &Program, body: &[Stmt]) -> bool {
    let constant = |l: &&Load| program.buf(l.buf).role == Role::Const;
    contractions(program, body).iter().any(|c| c.row.0.iter().chain(&c.column.0).any(constant))
}

/// Whether something is reduced, and nothing contracted: normalisations, pools.
pub(super) fn only_normalises(program: &Program, body: &[Stmt]) -> bool {
    let mut reduces = false;
    visit::walk_stmts(body, &mut |s| reduces |= matches!(s, Stmt::Reduce(_)));
    reduces && contractions(program, body).is_empty()
}

/// Whether `body` is contractions, each of which reads one row of `flow`: a vector times a matrix.
pub(super) fn single_row(program: &Program, body: &[Stmt], flow: &[BufId]) -> bool {
    let mut found = false;
    for c in contractions(program, body) {
        for (mine, own) in [&c.column, &c.row] {
            if mine.iter().any(|l| flow.contains(&l.buf)) {
                found = true;
                if !own.is_empty() {
                    return false;
                }
            }
        }
    }
    found
}

fn keeps_tile(
    program: &Program,
    (target, resident): (&MachineModel, usize),
    side: &Side<'_>,
    matched: &[Var],
) -> Result<Rows, Apart> {
    let mut extents = visit::Extents::of(&side.whole.body);
    extents.set(side.whole.var, side.whole.extent);
    let extent = |v| extents.get(v).unwrap_or(1);
    let lost = |loops: &[Var]| !loops.is_empty() && loops.iter().all(|v| matched.contains(v));
    let mut rows = Rows::Together;
    for c in &side.contractions {
        if lost(&c.column.1) {
            return Err(Apart::LosesVectorLoops);
        }
        let shared = c.row.1.iter().filter(|v| matched.contains(v));
        let times: usize = shared.map(|v| extent(*v)).product();
        let bytes: usize = c.column.0.iter().map(|l| footprint(program, l, matched, &extent)).sum();
        // What a tile's rows share comes from the second-level cache, what single rows read from the first.
        let limit = match lost(&c.row.1) {
            true => {
                rows = Rows::Apart;
                target.l1_bytes() * TILE_SHARE.0 / TILE_SHARE.1
            }
            false => resident,
        };
        if times > 1 && bytes > limit {
            return Err(Apart::ReadsAgain { bytes, times });
        }
    }
    Ok(rows)
}
