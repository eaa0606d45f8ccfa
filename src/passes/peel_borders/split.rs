//! Index-set splitting: loops are cut so that accesses in the interior are inside.
//!
//! In the border a reduction runs only over the part of the window that may lie inside the buffer, if what lies
//! outside contributes nothing.

use nestjit_ir::visit::{Extents, fresh_copy, subst_var};
use nestjit_ir::{Affine, BinOp, Expr, For, Index, Load, Program, Reduce, ReduceOp, Stmt, Var};

use super::resolve;
use crate::passes::schedule::border::{excess, fill_of};
use crate::passes::schedule::chain::{drop_unit_loops, looped, rechain};

/// How many loops of a nest may be cut: each makes up to three pieces of every piece.
const MAX_CUTS: usize = 2;

/// A loop and its interior: the iterations `begin..end`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Cut {
    var: Var,
    begin: usize,
    end: usize,
}

/// Where to cut the loops of a chain so that `loads` are inside in the interior.
pub(super) fn cuts(program: &Program, extents: &Extents, chain: &[For], loads: &[Load]) -> Vec<Cut> {
    let mut cuts = Vec::new();
    for l in chain {
        let (mut begin, mut end) = (0i64, l.extent as i64);
        for load in loads {
            for (i, &size) in load.index.iter().zip(&program.buf(load.buf).shape) {
                let Index::Affine(a) = i else { continue };
                if !a.uses(l.var) || excess(extents, i, size).is_none_or(|e| e == (0, 0)) {
                    continue;
                }
                let Some((b, e)) = interior(extents, a, l.var, size) else { continue };
                (begin, end) = (begin.max(b), end.min(e));
            }
        }
        let whole = begin == 0 && end == l.extent as i64;
        if !whole && begin < end && cuts.len() < MAX_CUTS {
            cuts.push(Cut { var: l.var, begin: begin as usize, end: end as usize });
        }
    }
    cuts
}

/// The values of `var` for which `a` is within `0..size` whatever the other variables are.
fn interior(extents: &Extents, a: &Affine, var: Var, size: usize) -> Option<(i64, i64)> {
    let c = a.coeff(var);
    let (lo, hi) = extents.range(&a.subst(var, &Affine::constant(0)))?;
    let last = size as i64 - 1;
    // c * v + lo >= 0 and c * v + hi <= last
    (c > 0).then(|| (-(lo.div_euclid(c)), (last - hi).div_euclid(c) + 1))
}

/// The chain with its loops cut.
pub(super) fn split(program: &mut Program, chain: Vec<For>, body: Vec<Stmt>, cuts: &[Cut]) -> Vec<Stmt> {
    let mut stmts = rechain(chain, body);
    // Inner loops first: cutting an outer loop copies the pieces of the inner one.
    for cut in cuts.iter().rev() {
        stmts = stmts.into_iter().flat_map(|s| apply(program, s, *cut)).collect();
    }
    drop_unit_loops(&mut stmts);
    stmts
}

fn apply(program: &mut Program, stmt: Stmt, cut: Cut) -> Vec<Stmt> {
    let Stmt::For(mut l) = stmt else { return vec![stmt] };
    if l.var != cut.var {
        l.body = std::mem::take(&mut l.body).into_iter().flat_map(|s| apply(program, s, cut)).collect();
        return vec![Stmt::For(l)];
    }
    let pieces = [(0, cut.begin), (cut.begin, cut.end), (cut.end, l.extent)];
    let pieces: Vec<(usize, usize)> = pieces.into_iter().filter(|p| p.0 < p.1).collect();
    let mut out = Vec::new();
    for (i, &(begin, end)) in pieces.iter().enumerate() {
        let mut body =
            if i + 1 < pieces.len() { fresh_copy(program, &l.body) } else { std::mem::take(&mut l.body) };
        let name = program.var_name(l.var).to_owned();
        let var = program.add_var(name);
        subst_var(&mut body, l.var, &Affine::from(var).plus(begin as i64));
        out.push(looped(var, end - begin, l.kind, body));
    }
    out
}

/// Shortens reductions over padding that contributes nothing, and drops guards that are then idle. `extents`
/// knows the loops around `body`.
pub(super) fn shorten(program: &Program, body: &mut Vec<Stmt>, outer: &Extents) {
    let mut extents = outer.clone();
    extents.collect(body);
    shorten_loops(program, body, &mut extents);
    drop_unit_loops(body);
    resolve(&program.buffers, &extents, body);
}

fn shorten_loops(program: &Program, body: &mut Vec<Stmt>, extents: &mut Extents) {
    for stmt in body.iter_mut() {
        let Stmt::For(l) = stmt else { continue };
        if let Some((begin, end)) = contributing(program, l, extents)
            && (begin > 0 || end < l.extent)
        {
            subst_var(&mut l.body, l.var, &Affine::from(l.var).plus(begin as i64));
            l.extent = end - begin;
            extents.set(l.var, l.extent);
        }
        if l.extent > 0 {
            shorten_loops(program, &mut l.body, extents);
        }
    }
    body.retain(|s| !matches!(s, Stmt::For(l) if l.extent == 0));
}

/// The iterations of a loop over reductions outside of which every reduction combines with its identity.
fn contributing(program: &Program, l: &For, extents: &Extents) -> Option<(usize, usize)> {
    let mut reductions = Vec::new();
    collect(&l.body, &mut reductions)?;
    let (mut begin, mut end) = (l.extent, 0);
    for r in reductions {
        let mut loads = Vec::new();
        absorbing(program, r, &r.value, &mut loads);
        let idle = |k: usize| {
            loads.iter().any(|load| {
                load.index.iter().zip(&program.buf(load.buf).shape).any(|(i, &size)| {
                    let Index::Affine(a) = i else { return false };
                    let a = a.subst(l.var, &Affine::constant(k as i64));
                    extents.range(&a).is_some_and(|(lo, hi)| hi < 0 || lo >= size as i64)
                })
            })
        };
        let mut busy = (0..l.extent).filter(|&k| !idle(k));
        if let Some(first) = busy.next() {
            begin = begin.min(first);
            end = end.max(busy.next_back().unwrap_or(first) + 1);
        }
    }
    Some((begin.min(end), end))
}

/// The reductions in `body`, if there is nothing else.
fn collect<'a>(body: &'a [Stmt], found: &mut Vec<&'a Reduce>) -> Option<()> {
    for stmt in body {
        match stmt {
            Stmt::For(l) => collect(&l.body, found)?,
            Stmt::Reduce(r) => found.push(r),
            _ => return None,
        }
    }
    Some(())
}

/// Loads in `value` that make the reduction combine with its identity where they are outside.
fn absorbing<'a>(program: &Program, r: &Reduce, value: &'a Expr, found: &mut Vec<&'a Load>) {
    match value {
        Expr::Load(load) if fill_of(load) == Some(r.op.identity(program.buf(r.buf).dtype)) => {
            found.push(load);
        }
        Expr::Binary(BinOp::Mul, a, b) if r.op == ReduceOp::Add => {
            absorbing(program, r, a, found);
            absorbing(program, r, b, found);
        }
        _ => {}
    }
}
