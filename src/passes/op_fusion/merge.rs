//! Merging statement lists: sibling loops are fused, recursively.
//!
//! `for a { F } .. for b { G }` becomes `for a { F; G[b := a] }` if the loops have the same extent, every
//! dependence from `F` to `G` stays within one iteration, and the statements between the loops can make way.
//! Inside, the loops of `F` and `G` are siblings again. Before:
//!
//! ```text
//! for i < 64 { %max[i] = .. }
//! for j < 64 { for k < 10 { %e[j,k] = exp(%x[j,k] - %max[j]) } }
//! ```
//!
//! and after: `for i < 64 { %max[i] = ..; for k < 10 { %e[i,k] = exp(%x[i,k] - %max[i]) } }`.
//!
//! Loops of perfect nests are exchanged if that brings matching loops outside. Legality comes from
//! [`nestjit_ir::access`]; profit from [`super::profit`]. Shrinking what lies between is left to ContractTemps.

use std::collections::BTreeSet;

use nestjit_ir::access::{Access, AccessKind, Reductions, accesses, carried_by, dependences};
use nestjit_ir::visit::Extents;
use nestjit_ir::{BufId, For, LoopKind, Program, Stmt, Var, visit};

use super::Refusal;
use super::align::{Alignment, Chain, align, heads, wrap};
use super::order::touched;
use super::profit::{self, SERIAL_WORK, Side};
use crate::target::Target;

/// How two nests became one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Depth {
    /// All loops around the consumer's statements are the producer's: an epilogue.
    All,
    /// Some outer loops are shared.
    Outer,
    /// No loop is shared: the statements follow each other in one nest.
    None,
}

/// Merges the statements of two nests. `flow` are the buffers that the first writes and the second reads.
pub(super) fn merge(
    program: &Program,
    target: &Target,
    first: &[Stmt],
    second: &[Stmt],
    flow: &[BufId],
) -> Result<(Vec<Stmt>, Depth), Refusal> {
    let called = |body: &[Stmt]| body.iter().any(|s| matches!(s, Stmt::Call(_)));
    if called(first) || called(second) {
        return Err(Refusal::new("call", "one of them is a call of a runtime function"));
    }
    let mut scheduled = false;
    for body in [first, second] {
        visit::walk_loops(body, &mut |l| scheduled |= l.kind != LoopKind::Serial);
    }
    if scheduled {
        return Err(Refusal::new("scheduled", "one of them has a schedule already"));
    }
    let mut merger = Merger {
        program,
        target,
        flow,
        outer: Extents::default(),
        depth: 0,
        fused: false,
        all: true,
        refusal: None,
    };
    let body = merger.blocks(first.to_vec(), second.to_vec());
    if merger.fused {
        fits(program, target, &body, flow)?;
        return Ok((body, if merger.all { Depth::All } else { Depth::Outer }));
    }
    let bytes: usize = flow.iter().map(|b| program.buf(*b).logical_bytes()).sum();
    Err(merger.refusal.unwrap_or_else(|| {
        Refusal::new(
            "outer-extent-1",
            format!("no loop is common to both, and {bytes} bytes pass between them"),
        )
    }))
}

/// Puts nests that share no loop behind each other in one nest. That pays if little passes between them and
/// the second has little to do: starting a kernel costs more than it.
pub(super) fn sequence(
    program: &Program,
    target: &Target,
    first: &[Stmt],
    second: &[Stmt],
    flow: &[BufId],
) -> Option<(Vec<Stmt>, Depth)> {
    profit::restreams(program, second, &[], flow).ok()?;
    let bytes: usize = flow.iter().map(|b| program.buf(*b).logical_bytes()).sum();
    let small = bytes <= target.l1_bytes / 2 && profit::work(second) <= SERIAL_WORK;
    small.then(|| ([first, second].concat(), Depth::None))
}

/// What one iteration of the common loops leaves for a later statement must fit the second-level cache.
fn fits(program: &Program, target: &Target, body: &[Stmt], flow: &[BufId]) -> Result<(), Refusal> {
    let mut bytes = 0;
    for &buf in flow {
        let window = crate::passes::contract_temps::window(program, body, buf);
        bytes += window.map_or(program.buf(buf).logical_bytes(), |w| w.bytes);
    }
    if bytes > target.l2_bytes / 2 {
        return Err(Refusal::new(
            "row-too-large",
            format!("{bytes} bytes would have to stay in the second-level cache"),
        ));
    }
    Ok(())
}

struct Merger<'a> {
    program: &'a Program,
    target: &'a Target,
    flow: &'a [BufId],
    /// The loops around the block that is being merged.
    outer: Extents,
    depth: usize,
    /// Whether outermost loops have been fused, and whether each fusion took all loops of both.
    fused: bool,
    all: bool,
    /// Why outermost loops were not fused.
    refusal: Option<Refusal>,
}

/// A legal choice of loops to fuse.
struct Plan {
    pairs: Vec<(Var, Var)>,
    first: Chain,
    second: Chain,
}

impl Merger<'_> {
    fn blocks(&mut self, first: Vec<Stmt>, second: Vec<Stmt>) -> Vec<Stmt> {
        let mut block = first;
        for stmt in second {
            let Stmt::For(l2) = &stmt else {
                block.push(stmt);
                continue;
            };
            let mut fused = None;
            for at in (0..block.len()).rev() {
                let Stmt::For(l1) = &block[at] else { continue };
                let Some(moved) = hoisted(&block, at, &stmt) else { break };
                match self.fuse(l1, l2) {
                    Ok(merged) => {
                        fused = Some((at, moved, merged));
                        break;
                    }
                    Err(Some(refusal)) if self.depth == 0 => {
                        self.refusal.get_or_insert(refusal);
                    }
                    Err(_) => {}
                }
            }
            match fused {
                Some((at, moved, merged)) => {
                    let tail = block.split_off(at);
                    let mut kept = Vec::new();
                    for (i, s) in tail.into_iter().enumerate().skip(1) {
                        if moved.contains(&(at + i)) { block.push(s) } else { kept.push(s) }
                    }
                    block.extend(merged);
                    block.extend(kept);
                }
                None => block.push(stmt),
            }
        }
        block
    }

    /// Fuses two loops of the same block as deeply as is legal and pays. `None` as a reason: nothing connects
    /// them.
    fn fuse(&mut self, l1: &For, l2: &For) -> Result<Vec<Stmt>, Option<Refusal>> {
        let (s1, s2) = (Stmt::For(l1.clone()), Stmt::For(l2.clone()));
        let (a1, a2) = (accesses(std::slice::from_ref(&s1)), accesses(std::slice::from_ref(&s2)));
        let (shared, flows) = shared_buffers(&a1, &a2);
        if shared.is_empty() || (!flows && self.depth == 0) {
            return Err(None);
        }
        let alignment = align((&heads(l1), &a1), (&heads(l2), &a2), &shared);
        let (pairs, conflict) = self.legal(l1, l2, &alignment);
        let (h1, h2) = (heads(l1), heads(l2));
        if !flows {
            // Loops that only read the same: fused if they are alike all through.
            let alike = pairs.len() == h1.len() && pairs.len() == h2.len();
            let contracts = |s| !profit::contractions(std::slice::from_ref(s)).is_empty();
            if !alike || contracts(&s1) || contracts(&s2) {
                return Err(None);
            }
        }
        if pairs.is_empty() {
            profit::restreams(self.program, std::slice::from_ref(&s2), &[], self.flow)?;
            return Err(conflict);
        }
        let prefix: Vec<(Var, Var)> =
            pairs.iter().zip(&h1).take_while(|(p, h)| p.0 == h.var).map(|(p, _)| *p).collect();
        let matched: Vec<Var> = pairs.iter().map(|p| p.1).collect();
        profit::restreams(self.program, std::slice::from_ref(&s2), &matched, self.flow)?;
        let mut refusal = conflict.filter(|c| c.code == "window");
        let mut choices = vec![pairs];
        if !prefix.is_empty() && prefix.len() < choices[0].len() {
            choices.push(prefix);
        }
        for pairs in choices {
            match self.check(l1, l2, pairs) {
                Ok(plan) => return Ok(self.build(plan)),
                Err(r) => {
                    refusal.get_or_insert(r);
                }
            }
        }
        Err(refusal)
    }

    /// The pairs of loops for which all dependences stay within an iteration, and what is wrong with the first
    /// of the others.
    fn legal(&self, l1: &For, l2: &For, alignment: &Alignment) -> (Vec<(Var, Var)>, Option<Refusal>) {
        let (first, mut second) = (Chain::of(l1), Chain::of(l2));
        let mut outer = self.outer.clone();
        let mut pairs: Vec<(Var, Var)> = Vec::new();
        let mut problem = alignment.window.then(window);
        for &(v1, v2) in &alignment.pairs {
            let Some(at) = first.position(v1) else { continue };
            outer.set(v1, first.heads[at].extent);
            outer.set(v2, first.heads[at].extent);
            let inside = |c: &Chain, own: Var| c.within(|v| v != own && !pairs.iter().any(|p| p.0 == v));
            let (f, s) = (inside(&first, v1), inside(&second, v2));
            let list = dependences(self.program, &f, v1, &s, v2, &outer);
            match list.iter().find(|d| d.min != 0 || d.max != 0) {
                None => {
                    second.rename(v2, v1);
                    pairs.push((v1, v2));
                }
                Some(d) => {
                    let bounded = d.min.max(-d.max) > -(first.heads[at].extent as i64) / 2;
                    let reason = match bounded && d.second.kind == AccessKind::Read {
                        true => window(),
                        false => Refusal::new(
                            "dependence",
                            format!(
                                "{} is needed complete by {}",
                                d.first.show(self.program),
                                d.second.show(self.program)
                            ),
                        ),
                    };
                    problem.get_or_insert(reason);
                }
            }
        }
        if pairs.is_empty() && problem.is_none() && !alignment.pairs.is_empty() {
            problem = Some(window());
        }
        if pairs.is_empty() && problem.is_none() && (l1.extent > 1 || l2.extent > 1) {
            problem = self.mismatch(l1, l2);
        }
        (pairs, problem)
    }

    /// No loops correspond to each other. That is a reason only if the consumer has loops that could.
    fn mismatch(&self, l1: &For, l2: &For) -> Option<Refusal> {
        let independent = |l: &For| carried_by(self.program, l, &self.outer, Reductions::Conflict).is_ok();
        let extents = |l: &For| heads(l).iter().map(|h| h.extent.to_string()).collect::<Vec<_>>().join("x");
        (independent(l1) && independent(l2)).then(|| {
            Refusal::new(
                "shape-mismatch",
                format!("no loop of {} corresponds to one of {}", extents(l1), extents(l2)),
            )
        })
    }

    /// Whether fusing these loops is possible without harm to memory order, and profitable.
    fn check(&self, l1: &For, l2: &For, pairs: Vec<(Var, Var)>) -> Result<Plan, Refusal> {
        let (m1, m2): (Vec<Var>, Vec<Var>) = pairs.iter().copied().unzip();
        let (first, second) = (Chain::of(l1), Chain::of(l2));
        for (chain, matched, whole) in [(&first, &m1, l1), (&second, &m2, l2)] {
            let innermost = chain.heads.last().is_some_and(|h| matched.contains(&h.var));
            if innermost && matched.len() < chain.heads.len() && !self.mostly_shared(l1, l2) {
                return Err(Refusal::new(
                    "stride",
                    "the loop along contiguous elements would become an outer one",
                ));
            }
            if !chain.starts_with(matched) {
                self.independent(whole, matched)?;
            }
        }
        let rest1 = first.within(|v| !m1.contains(&v));
        let rest2 = second.within(|v| !m2.contains(&v));
        let sides =
            (Side { whole: l1, matched: &m1, rest: &rest1 }, Side { whole: l2, matched: &m2, rest: &rest2 });
        profit::check(self.program, self.target, &sides.0, &sides.1, self.flow)?;
        for (contracting, other) in [(&sides.0, &sides.1), (&sides.1, &sides.0)] {
            let body = [Stmt::For(contracting.whole.clone())];
            let outputs: Vec<Var> = profit::contractions(&body).into_iter().flat_map(|c| c.outputs).collect();
            if contracting.matched.iter().any(|v| outputs.contains(v)) {
                self.independent(other.whole, other.matched).map_err(|_| {
                    Refusal::new(
                        "breaks-tile",
                        "a reduction would run along the loops of the contraction's tile",
                    )
                })?;
            }
        }
        if self.depth == 0 {
            self.keeps_threads(&sides.0, &sides.1)?;
        }
        Ok(Plan { pairs, first, second })
    }

    /// Whether most of what the second loop touches is touched by the first too. Then sharing it is worth
    /// walking along another dimension, with vectors along the common loops.
    fn mostly_shared(&self, l1: &For, l2: &For) -> bool {
        let all = |l: &For| -> BTreeSet<BufId> {
            let (reads, writes) = touched(&l.body);
            reads.into_iter().chain(writes).collect()
        };
        let (first, second) = (all(l1), all(l2));
        let bytes = |b: &BufId| self.program.buf(*b).logical_bytes();
        let shared: usize = second.intersection(&first).map(bytes).sum();
        2 * shared >= second.iter().map(bytes).sum()
    }

    /// Loops can be exchanged if their iterations are independent.
    fn independent(&self, l: &For, matched: &[Var]) -> Result<(), Refusal> {
        let mut outer = self.outer.clone();
        let mut left = matched.len();
        let mut next = Some(l);
        while let (Some(l), true) = (next, left > 0) {
            carried_by(self.program, l, &outer, Reductions::Conflict)
                .map_err(|c| Refusal::new("dependence", c.to_string()))?;
            outer.set(l.var, l.extent);
            left -= usize::from(matched.contains(&l.var));
            next = match l.body.as_slice() {
                [Stmt::For(inner)] => Some(inner),
                _ => None,
            };
        }
        Ok(())
    }

    /// Enough iterations of the common loops must remain independent.
    fn keeps_threads(&self, first: &Side<'_>, second: &Side<'_>) -> Result<(), Refusal> {
        let free = |side: &Side<'_>, loops: &[Var]| self.independent(side.whole, loops).is_ok();
        let extent: usize = match free(first, first.matched) && free(second, second.matched) {
            true => heads(first.whole)
                .iter()
                .filter(|h| first.matched.contains(&h.var))
                .map(|h| h.extent)
                .product(),
            false => 1,
        };
        if extent >= 2 * self.target.cores.max(2) {
            return Ok(());
        }
        let lost = |side: &Side<'_>| -> usize {
            let loops = heads(side.whole);
            let was = free(side, &[side.whole.var]);
            let stays = extent > 1 && side.matched.len() == loops.len();
            let work = profit::work(&side.whole.body).saturating_mul(side.whole.extent);
            if was && !stays { work } else { 0 }
        };
        if lost(first).saturating_add(lost(second)) > SERIAL_WORK {
            return Err(Refusal::new(
                "parallelism",
                format!("only {extent} iterations of the common loops would be independent"),
            ));
        }
        Ok(())
    }

    fn build(&mut self, plan: Plan) -> Vec<Stmt> {
        let Plan { pairs, first, mut second } = plan;
        let full = pairs.len() == first.heads.len() && pairs.len() == second.heads.len();
        for &(v1, v2) in &pairs {
            second.rename(v2, v1);
        }
        let matched = |v: Var| pairs.iter().any(|p| p.0 == v);
        // The order of a contraction's loops is kept: it says which run along contiguous elements.
        let contracts = |c: &Chain| !profit::contractions(&wrap(&c.heads, c.body.clone())).is_empty();
        let lead = if contracts(&second) && !contracts(&first) { &second } else { &first };
        let common: Vec<_> = lead.heads.iter().filter(|h| matched(h.var)).copied().collect();
        let rest1 = first.within(|v| !matched(v));
        let rest2 = second.within(|v| !matched(v));

        let outer = self.outer.clone();
        for head in &common {
            self.outer.set(head.var, head.extent);
        }
        self.depth += 1;
        let body = self.blocks(rest1, rest2);
        self.depth -= 1;
        self.outer = outer;
        if self.depth == 0 {
            self.fused = true;
            self.all &= full;
        }
        wrap(&common, body)
    }
}

fn window() -> Refusal {
    Refusal::new("window", "the consumer reads a window of several iterations")
}

/// The statements after `block[at]` that `stmt` needs, directly or not; `None` if one of them needs
/// `block[at]`, so that `stmt` cannot be moved up to it.
fn hoisted(block: &[Stmt], at: usize, stmt: &Stmt) -> Option<BTreeSet<usize>> {
    let mut needed = vec![scope(stmt)];
    let mut moved = BTreeSet::new();
    for i in (at + 1..block.len()).rev() {
        let own = scope(&block[i]);
        if needed.iter().any(|n| conflict(&own, n)) {
            needed.push(own);
            moved.insert(i);
        }
    }
    let start = scope(&block[at]);
    let blocked = moved.iter().any(|i| conflict(&start, &scope(&block[*i])));
    (!blocked).then_some(moved)
}

type Scope = (BTreeSet<BufId>, BTreeSet<BufId>);

/// What a statement reads and writes; a declaration counts as writing.
fn scope(stmt: &Stmt) -> Scope {
    let mut scope = touched(std::slice::from_ref(stmt));
    if let Stmt::Temp(b) = stmt {
        scope.1.insert(*b);
    }
    scope
}

fn conflict(a: &Scope, b: &Scope) -> bool {
    !a.1.is_disjoint(&b.1) || !a.1.is_disjoint(&b.0) || !a.0.is_disjoint(&b.1)
}

/// The buffers through which two loops are connected, and whether one of them is written.
fn shared_buffers(first: &[Access<'_>], second: &[Access<'_>]) -> (Vec<BufId>, bool) {
    let set = |list: &[Access<'_>], written: bool| -> BTreeSet<BufId> {
        list.iter().filter(|a| !written || a.kind != AccessKind::Read).map(|a| a.buf).collect()
    };
    let (w1, w2) = (set(first, true), set(second, true));
    let (t1, t2) = (set(first, false), set(second, false));
    let flow: Vec<BufId> =
        t1.intersection(&t2).copied().filter(|b| w1.contains(b) || w2.contains(b)).collect();
    match flow.is_empty() {
        false => (flow, true),
        true => (t1.intersection(&t2).copied().collect(), false),
    }
}
