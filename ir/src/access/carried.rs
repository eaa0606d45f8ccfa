//! What the iterations of a loop pass to each other: quick answers from the indices of accesses, for whoever asks often.
//!
//! They look at one dimension at a time and at ranges; distances, and what they say of several loops, are [`super::depend`]'s.
//! What is said to be independent is: tests compare every answer with the elements that small loops touch.

use std::cell::LazyCell;
use std::collections::BTreeSet;

use super::AccessKind;
use crate::affine::{Affine, Var};
use crate::hash::FastSet;
use crate::nest::{BufId, Expr, For, Index, Load, Stmt};
use crate::visit::{Extents, declared_temps, walk_exprs, walk_stmts};

/// What stands between the iterations of a loop.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Carried {
    /// Nothing: the iterations are independent.
    Nothing,
    /// Only reductions into these buffers, which the loop does not otherwise touch: the iterations may be
    /// regrouped, but not run at the same time.
    Reductions(Vec<BufId>),
    /// Anything else, or it is not known.
    Other,
}

/// One access of a buffer at an index.
struct Touch<'a> {
    buf: BufId,
    index: &'a [Index],
    kind: AccessKind,
}

fn touches(body: &[Stmt]) -> Option<Vec<Touch<'_>>> {
    let mut all = Vec::new();
    let mut calls = false;
    walk_stmts(body, &mut |s| match s {
        Stmt::Store(s) => all.push(Touch { buf: s.buf, index: &s.index, kind: AccessKind::Write }),
        Stmt::Reduce(r) => {
            all.push(Touch { buf: r.buf, index: &r.index, kind: AccessKind::Update(r.op) });
        }
        Stmt::Call(_) => calls = true,
        Stmt::For(_) | Stmt::Temp(_) => {}
    });
    walk_exprs(body, &mut |e| {
        if let Expr::Load(l) = e {
            all.push(Touch { buf: l.buf, index: &l.index, kind: AccessKind::Read });
        }
    });
    (!calls).then_some(all)
}

/// What the iterations of `l` pass to each other. Locals declared in the body are private to an iteration. `around` knows
/// loops around `l`: accesses whose ranges never meet are told apart by it.
pub fn carried(l: &For, around: &Extents) -> Carried {
    carried_in((l.var, l.extent), &l.body, around)
}

/// What the iterations of a loop of this variable and extent around `body` pass to each other: see [`carried`].
pub fn carried_in((var, extent): (Var, usize), body: &[Stmt], around: &Extents) -> Carried {
    let Some(all) = touches(body) else { return Carried::Other };
    let private: FastSet<BufId> = declared_temps(body).into_iter().collect();
    let inner = Extents::of(body);
    let written: BTreeSet<BufId> = all
        .iter()
        .filter(|a| a.kind != AccessKind::Read && !private.contains(&a.buf))
        .map(|a| a.buf)
        .collect();
    let mut reductions = Vec::new();
    for buf in written {
        let of_buf: Vec<&Touch<'_>> = all.iter().filter(|a| a.buf == buf).collect();
        if separate(var, &inner, &of_buf) {
            continue;
        }
        // Parts of a buffer that never meet are as good as different buffers.
        for part in parts((var, extent), (&inner, around), of_buf) {
            let reads_only = part.iter().all(|a| a.kind == AccessKind::Read);
            if reads_only || separate(var, &inner, &part) {
                continue;
            }
            let AccessKind::Update(op) = part[0].kind else { return Carried::Other };
            if part.iter().any(|a| a.kind != AccessKind::Update(op)) {
                return Carried::Other;
            }
            reductions.push(buf);
        }
    }
    if reductions.is_empty() { Carried::Nothing } else { Carried::Reductions(reductions) }
}

/// Whether some dimension shows that different iterations touch different elements.
fn separate(var: Var, inner: &Extents, accesses: &[&Touch<'_>]) -> bool {
    let rank = accesses.first().map_or(0, |a| a.index.len());
    (0..rank).any(|d| apart(var, inner, accesses.iter().map(|a| &a.index[d])))
}

/// Groups accesses of one buffer so that those of different groups never touch the same element.
fn parts<'a, 'b>(
    (var, extent): (Var, usize),
    (inner, around): (&Extents, &Extents),
    accesses: Vec<&'a Touch<'b>>,
) -> Vec<Vec<&'a Touch<'b>>> {
    let mut extents = inner.clone();
    extents.set(var, extent);
    let all = LazyCell::new(|| around.with(&extents));
    let mut parts: Vec<Vec<&Touch<'_>>> = Vec::new();
    for access in accesses {
        let meets = |part: &Vec<&Touch<'_>>| {
            part.iter().any(|a| !never_meet(&extents, a, access) && !disjoint(&all, a.index, access.index))
        };
        let (mut with, without): (Vec<_>, Vec<_>) = std::mem::take(&mut parts).into_iter().partition(meets);
        parts = without;
        with.push(vec![access]);
        parts.push(with.concat());
    }
    parts
}

/// Whether some dimension shows that two accesses touch different elements, whatever the iterations of the loops
/// in `extents` that they are made in.
fn never_meet(extents: &Extents, a: &Touch<'_>, b: &Touch<'_>) -> bool {
    a.index.iter().zip(b.index).any(|(a, b)| {
        let (Index::Affine(a), Index::Affine(b)) = (a, b) else { return false };
        let split = |e: &Affine| {
            let mut fixed = Affine::default();
            let mut moving = Affine::constant(e.offset());
            for &(v, c) in e.terms() {
                let side = if extents.get(v).is_some() { &mut moving } else { &mut fixed };
                side.add_term(v, c);
            }
            (fixed, extents.range(&moving))
        };
        match (split(a), split(b)) {
            ((f, Some(a)), (g, Some(b))) => f == g && (a.1 < b.0 || b.1 < a.0),
            _ => false,
        }
    })
}

/// Whether some dimension shows that two accesses touch different elements in whatever iterations of the loops in
/// `extents`.
fn disjoint(extents: &Extents, a: &[Index], b: &[Index]) -> bool {
    let range = |i: &Index| i.as_affine().and_then(|a| extents.range(a));
    a.iter().zip(b).any(|(a, b)| match (range(a), range(b)) {
        (Some(a), Some(b)) => b.1 < a.0 || a.1 < b.0,
        _ => false,
    })
}

/// Whether statements may write an element that a load among them reads. `extents` knows their loops and those around
/// them.
pub fn overwrites(extents: &Extents, body: &[Stmt], load: &Load) -> bool {
    let mut found = false;
    walk_stmts(body, &mut |s| {
        found |= match s {
            Stmt::Store(s) => s.buf == load.buf && !disjoint(extents, &s.index, &load.index),
            Stmt::Reduce(r) => r.buf == load.buf && !disjoint(extents, &r.index, &load.index),
            Stmt::Call(c) => c.outputs.contains(&load.buf),
            Stmt::For(_) | Stmt::Temp(_) => false,
        }
    });
    found
}

/// Whether the iterations of `l` are independent, with the loops in `around` around it.
pub fn independent(l: &For, around: &Extents) -> bool {
    carried(l, around) == Carried::Nothing
}

/// Whether the iterations of every loop of a perfect chain around `body` are independent.
pub fn all_independent(chain: &[For], body: &[Stmt]) -> bool {
    let mut around = Extents::default();
    chain.iter().for_each(|l| around.set(l.var, l.extent));
    let mut inner = body.to_vec();
    chain.iter().rev().all(|l| {
        let l = For { body: std::mem::take(&mut inner), ..l.clone() };
        let fine = independent(&l, &around);
        inner = vec![Stmt::For(l)];
        fine
    })
}

/// Whether these indices into one dimension differ whenever `var` does: all have the form
/// `c * var + outer + r` with the same `c` and `outer`, and all `r` lie within an interval shorter than `c`.
fn apart<'a>(var: Var, inner: &Extents, indices: impl Iterator<Item = &'a Index>) -> bool {
    let mut common: Option<(i64, Affine)> = None;
    let (mut lo, mut hi) = (i64::MAX, i64::MIN);
    for index in indices {
        let Index::Affine(a) = index else { return false };
        let c = a.coeff(var);
        let (mut outer, mut rest) = (Affine::default(), Affine::constant(a.offset()));
        for &(v, k) in a.terms().iter().filter(|t| t.0 != var) {
            let part = if inner.get(v).is_some() { &mut rest } else { &mut outer };
            part.add_term(v, k);
        }
        let Some((l, h)) = inner.range(&rest) else { return false };
        (lo, hi) = (lo.min(l), hi.max(h));
        match &common {
            None => common = Some((c, outer)),
            Some(seen) if *seen == (c, outer) => {}
            Some(_) => return false,
        }
    }
    common.is_some_and(|(c, _)| c != 0 && hi - lo < c.abs())
}

#[cfg(test)]
mod tests;
