//! Which loops may be fused, exchanged, and run by several threads afterwards.
//!
//! All questions are answered by the dependences of [`nestjit_ir::access`]; a quick look at the indices saves
//! asking where every iteration obviously has elements of its own.

use nestjit_ir::access::{AccessKind, Dependence, Reductions, carried_by, dependences};
use nestjit_ir::visit::{self, Extents};
use nestjit_ir::{BufId, For, Index, Program, Stmt, Var};

use super::align::{Alignment, Chain, Side};
use super::profit::SERIAL_WORK;
use crate::machine::MachineModel;
use crate::remark::Apart;

/// Decides about the loops of one block.
pub(super) struct Legality<'a> {
    pub program: &'a Program,
    /// The loops around the block.
    pub outer: &'a Extents,
}

impl Legality<'_> {
    /// The pairs of loops for which all dependences stay within an iteration, and what is wrong with the first
    /// of the others.
    pub fn pairs(
        &self,
        first: &Side<'_>,
        second: &Side<'_>,
        alignment: &Alignment,
    ) -> (Vec<(Var, Var)>, Option<Apart>) {
        let mut pairs = alignment.pairs.clone();
        let mut problem = alignment.window.then(window);
        while let Some((at, refusal)) = self.violated(first, second, &pairs) {
            pairs.remove(at);
            problem.get_or_insert(refusal);
        }
        if pairs.is_empty() && problem.is_none() {
            problem = self.mismatch(first, second);
        }
        (pairs, problem)
    }

    /// The first of the pairs that cannot be fused when those before it are, and why.
    fn violated(&self, first: &Side<'_>, second: &Side<'_>, pairs: &[(Var, Var)]) -> Option<(usize, Apart)> {
        if obviously_aligned(first, second, pairs) {
            return None;
        }
        let (a, mut b) = (Chain::of(first), Chain::of(second));
        for &(v1, v2) in pairs {
            b.rename(v2, v1);
        }
        let vars: Vec<Var> = pairs.iter().map(|p| p.0).collect();
        let (mut a, mut b) = (a.outermost(&vars), b.outermost(&vars));
        let mut outer = self.outer.clone();
        for (at, var) in vars.into_iter().enumerate() {
            let (Some(l1), Some(l2)) = (only_loop(a), only_loop(b)) else { return None };
            outer.set(var, l1.extent);
            let list = dependences(self.program, &l1.body, var, &l2.body, var, &outer);
            if let Some(d) = list.iter().find(|d| d.min != 0 || d.max != 0) {
                return Some((at, self.explain(d, l1.extent)));
            }
            (a, b) = (l1.body, l2.body);
        }
        None
    }

    fn explain(&self, d: &Dependence<'_>, extent: usize) -> Apart {
        let near = d.min.max(-d.max) > -(extent as i64) / 2;
        if near && d.second.kind == AccessKind::Read {
            return window();
        }
        let (first, second) = (d.first.show(self.program), d.second.show(self.program));
        Apart::NeededComplete { first, second }
    }

    /// No loops correspond to each other. That is a reason only if both have loops that could.
    fn mismatch(&self, first: &Side<'_>, second: &Side<'_>) -> Option<Apart> {
        let free = |side: &Side<'_>| self.independent(side, &[side.whole.var]).is_ok();
        let extents = |side: &Side<'_>| side.heads.iter().map(|h| h.extent).collect();
        (free(first) && free(second))
            .then(|| Apart::LoopsDiffer { first: extents(first), second: extents(second) })
    }

    /// Whether the iterations of the outermost loops up to the last of `loops` are independent: then these
    /// loops can be exchanged and run in parallel.
    pub fn independent(&self, side: &Side<'_>, loops: &[Var]) -> Result<(), Apart> {
        if obviously_independent(side) {
            return Ok(());
        }
        let mut outer = self.outer.clone();
        let mut left = loops.len();
        let mut next = Some(side.whole);
        while let (Some(l), true) = (next, left > 0) {
            carried_by(self.program, l, &outer, Reductions::Conflict)
                .map_err(|c| Apart::Carried { conflict: c.to_string() })?;
            outer.set(l.var, l.extent);
            left -= usize::from(loops.contains(&l.var));
            next = match l.body.as_slice() {
                [Stmt::For(inner)] => Some(inner),
                _ => None,
            };
        }
        Ok(())
    }

    /// Enough iterations of the common loops must remain independent.
    pub fn keeps_threads(
        &self,
        target: &MachineModel,
        first: (&Side<'_>, &[Var]),
        second: (&Side<'_>, &[Var]),
    ) -> Result<(), Apart> {
        let free = |(side, loops): (&Side<'_>, &[Var])| self.independent(side, loops).is_ok();
        let work = |side: &Side<'_>| visit::work(&side.whole.body).saturating_mul(side.whole.extent);
        if work(first.0).saturating_add(work(second.0)) <= SERIAL_WORK {
            return Ok(());
        }
        let common = first.0.heads.iter().filter(|h| first.1.contains(&h.var)).map(|h| h.extent).product();
        let extent: usize = if free(first) && free(second) { common } else { 1 };
        if extent >= 2 * target.cores.max(2) {
            return Ok(());
        }
        let lost = |(side, matched): (&Side<'_>, &[Var])| -> usize {
            let was = free((side, &[side.whole.var]));
            let stays = extent > 1 && matched.len() == side.heads.len();
            if was && !stays { work(side) } else { 0 }
        };
        if lost(first).saturating_add(lost(second)) > SERIAL_WORK {
            return Err(Apart::FewIterations { iterations: extent });
        }
        Ok(())
    }
}

fn only_loop(body: Vec<Stmt>) -> Option<For> {
    match <[Stmt; 1]>::try_from(body) {
        Ok([Stmt::For(l)]) => Some(l),
        _ => None,
    }
}

/// Whether whatever one of the loops writes and the other touches is indexed by each pair of loops, in a dimension of
/// its own: then everything stays within an iteration.
fn obviously_aligned(first: &Side<'_>, second: &Side<'_>, pairs: &[(Var, Var)]) -> bool {
    let shared = |side: &Side<'_>, buf: BufId| side.accesses.iter().any(|a| a.buf == buf);
    let crossing = |side: &'_ Side<'_>, other: &Side<'_>| -> Vec<BufId> {
        let written = side.accesses.iter().filter(|a| a.kind != AccessKind::Read).map(|a| a.buf);
        written.filter(|b| !side.locals.contains(b) && shared(other, *b)).collect()
    };
    let mut bufs = crossing(first, second);
    bufs.extend(crossing(second, first));
    let at = |side: &Side<'_>, buf: BufId, d: usize, v: Var| {
        side.accesses.iter().filter(|a| a.buf == buf).all(|a| {
            let index = a.index.and_then(|i| i.get(d)).and_then(Index::as_affine);
            index.and_then(|a| a.as_var()) == Some(v)
        })
    };
    bufs.iter().all(|&buf| {
        let rank =
            first.accesses.iter().find(|a| a.buf == buf).and_then(|a| a.index).map_or(0, <[Index]>::len);
        pairs.iter().all(|p| (0..rank).any(|d| at(first, buf, d, p.0) && at(second, buf, d, p.1)))
    })
}

/// Whether all that is written is indexed by every loop of the perfect nest, each by itself, and read at the
/// same index only.
fn obviously_independent(side: &Side<'_>) -> bool {
    let shared = |buf: &BufId| !side.locals.contains(buf);
    let written = side.accesses.iter().filter(|a| a.kind != AccessKind::Read && shared(&a.buf));
    let mut seen: Vec<(BufId, &[Index])> = Vec::new();
    for access in written {
        let Some(index) = access.index else { return false };
        let own = |v: Var| index.iter().any(|i| i.as_affine().and_then(|a| a.as_var()) == Some(v));
        if !side.heads.iter().all(|h| own(h.var)) {
            return false;
        }
        seen.push((access.buf, index));
    }
    side.accesses.iter().all(|a| seen.iter().all(|(buf, index)| a.buf != *buf || a.index == Some(*index)))
}

fn window() -> Apart {
    Apart::Window
}
