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

use nestjit_ir::access::AccessKind;
use nestjit_ir::access::reach::{Reach, Region, touched};
use nestjit_ir::visit::{self, Extents, work};
use nestjit_ir::{BufId, LoopKind, Program, Stmt, Var};

use super::align::{Chain, Side, align, wrap};
use super::blocks::{self, Blocks};
use super::legal::Legality;
use super::profit::{self, Rows, SERIAL_WORK};
use crate::machine::MachineModel;
use crate::passes::schedule::window::window;
use crate::remark::Apart;

/// Nests do not grow beyond this many statements: merging would take quadratic time, and code generation has
/// a limited number of registers.
const MAX_STATEMENTS: usize = 96;

/// Nests of at most this much work may follow others in one nest: on one core, some ten microseconds.
const SMALL_STEP: usize = 4 * SERIAL_WORK;

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

/// Merges the statements of two nests. `flow` are the buffers that the first writes and the second reads. With
/// `blocks`, rows are merged in blocks where they cannot be merged otherwise.
pub(super) fn merge(
    program: &Program,
    target: &MachineModel,
    first: &[Stmt],
    second: &[Stmt],
    flow: &[BufId],
    blocks: Option<Blocks>,
) -> Result<(Vec<Stmt>, Depth), Apart> {
    let called = |body: &[Stmt]| body.iter().any(|s| matches!(s, Stmt::Call(_)));
    if called(first) || called(second) {
        return Err(Apart::Call);
    }
    if visit::count_stmts(first) + visit::count_stmts(second) > MAX_STATEMENTS {
        return Err(Apart::Statements { most: MAX_STATEMENTS });
    }
    let mut scheduled = false;
    for body in [first, second] {
        visit::walk_loops(body, &mut |l| scheduled |= l.kind != LoopKind::Serial);
    }
    if scheduled {
        return Err(Apart::Scheduled);
    }
    let mut merger = Merger {
        program,
        target,
        outer: Extents::default(),
        depth: 0,
        fused: false,
        all: true,
        refusal: None,
        blocks,
    };
    let body = merger.blocks(first.to_vec(), second.to_vec());
    if merger.fused {
        fits(program, target, &body, flow)?;
        return Ok((body, if merger.all { Depth::All } else { Depth::Outer }));
    }
    let bytes: usize = flow.iter().map(|b| program.buf(*b).logical_bytes()).sum();
    Err(merger.refusal.unwrap_or(Apart::NoCommonLoop { bytes }))
}

/// Puts nests that share no loop behind each other in one nest. That pays if little passes between them and
/// one of them has little to do: starting a kernel costs more than it.
pub(super) fn sequence(
    program: &Program,
    target: &MachineModel,
    first: &[Stmt],
    second: &[Stmt],
    flow: &[BufId],
) -> Option<(Vec<Stmt>, Depth)> {
    let bytes: usize = flow.iter().map(|b| program.buf(*b).logical_bytes()).sum();
    let small = bytes <= target.l1_bytes() / 2
        && work(first).min(work(second)) <= SMALL_STEP
        && visit::count_stmts(first) + visit::count_stmts(second) <= MAX_STATEMENTS;
    small.then(|| ([first, second].concat(), Depth::None))
}

/// What one iteration of the common loops leaves for a later statement must fit the second-level cache.
fn fits(program: &Program, target: &MachineModel, body: &[Stmt], flow: &[BufId]) -> Result<(), Apart> {
    let mut bytes = 0;
    for &buf in flow {
        let window = window(program, body, buf);
        bytes += window.map_or(program.buf(buf).logical_bytes(), |w| w.bytes);
    }
    if bytes > target.l2_bytes() / 2 {
        return Err(Apart::RowTooLarge { bytes });
    }
    Ok(())
}

struct Merger<'a> {
    program: &'a Program,
    target: &'a MachineModel,
    /// The loops around the block that is being merged.
    outer: Extents,
    depth: usize,
    /// Whether outermost loops have been fused, and whether each fusion took all loops of both.
    fused: bool,
    all: bool,
    /// Why outermost loops were not fused.
    refusal: Option<Apart>,
    /// How rows may be merged in blocks, if they may.
    blocks: Option<Blocks>,
}

impl Merger<'_> {
    fn blocks(&mut self, first: Vec<Stmt>, second: Vec<Stmt>) -> Vec<Stmt> {
        let mut block = first;
        for stmt in second {
            let Some(l2) = Side::of(self.program, &stmt) else {
                block.push(stmt);
                continue;
            };
            let mut fused = None;
            for at in (0..block.len()).rev() {
                let Some(l1) = Side::of(self.program, &block[at]) else { continue };
                let Some(moved) = hoisted(&block, at, &stmt) else { continue };
                match self.fuse(&l1, &l2) {
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

    /// Fuses two loops of the same block as deeply as is legal and pays, in blocks of rows if need be. `None` as a
    /// reason: nothing connects them.
    fn fuse(&mut self, l1: &Side<'_>, l2: &Side<'_>) -> Result<Vec<Stmt>, Option<Apart>> {
        let refusal = match self.fuse_loops(l1, l2) {
            Err(Some(refusal)) if self.blocks.is_some() => refusal,
            result => return result,
        };
        let (shared, flows) = shared_buffers(l1, l2);
        let legality = Legality { program: self.program, outer: &self.outer };
        let cut = match &mut self.blocks {
            Some(blocks) if flows => blocks::cut(&legality, l1, l2, &shared, blocks),
            _ => None,
        };
        match cut
            .as_ref()
            .map(|(first, second)| (Side::of(self.program, first), Side::of(self.program, second)))
        {
            Some((Some(first), Some(second))) => {
                // Blocks are not cut again.
                let uncut = self.blocks.as_ref().map(Blocks::uncut);
                let blocks = std::mem::replace(&mut self.blocks, uncut);
                let merged = self.fuse_loops(&first, &second).map_err(|_| Some(refusal));
                self.blocks = blocks;
                merged
            }
            _ => Err(Some(refusal)),
        }
    }

    /// Fuses two loops of the same block as they are.
    fn fuse_loops(&mut self, l1: &Side<'_>, l2: &Side<'_>) -> Result<Vec<Stmt>, Option<Apart>> {
        let (shared, flows) = shared_buffers(l1, l2);
        if shared.is_empty() || (!flows && self.depth == 0) {
            return Err(None);
        }
        let alignment = align(l1, l2, &shared);
        let legality = Legality { program: self.program, outer: &self.outer };
        let (pairs, conflict) = legality.pairs(l1, l2, &alignment);
        if !flows {
            // Loops that only read the same: fused if they are alike all through.
            let alike = pairs.len() == l1.heads.len() && pairs.len() == l2.heads.len();
            if !alike || !l1.contractions.is_empty() || !l2.contractions.is_empty() {
                return Err(None);
            }
        }
        if pairs.is_empty() {
            return Err(conflict);
        }
        let mut refusal = conflict.filter(|c| *c == Apart::Window);
        // All of the loops, or only the outer ones. What keeps the rows of a contraction together is better than
        // what computes one row at a time.
        let mut allowed: Option<&[(Var, Var)]> = None;
        for n in (1..=pairs.len()).rev() {
            let pairs = &pairs[..n];
            match self.check(&legality, l1, l2, pairs) {
                Ok(rows) => {
                    if allowed.is_none() || rows == Rows::Together {
                        allowed = Some(pairs);
                    }
                    if rows == Rows::Together {
                        break;
                    }
                }
                Err(r) => {
                    refusal.get_or_insert(r);
                }
            }
        }
        match allowed {
            Some(pairs) => Ok(self.build(l1, l2, pairs)),
            None => Err(refusal),
        }
    }

    /// Whether fusing these loops is possible without harm to memory order, and profitable.
    fn check(
        &self,
        legality: &Legality<'_>,
        l1: &Side<'_>,
        l2: &Side<'_>,
        pairs: &[(Var, Var)],
    ) -> Result<Rows, Apart> {
        let (m1, m2): (Vec<Var>, Vec<Var>) = pairs.iter().copied().unzip();
        for (side, matched) in [(l1, &m1), (l2, &m2)] {
            let innermost = side.heads.last().is_some_and(|h| matched.contains(&h.var));
            // Vectors of contractions run along loops of their own.
            let contracts = !l1.contractions.is_empty() || !l2.contractions.is_empty();
            let worth_it = !contracts && self.mostly_shared(l1, l2);
            if innermost && matched.len() < side.heads.len() && !worth_it {
                return Err(Apart::ContiguousOutside);
            }
            if !side.starts_with(matched) {
                legality.independent(side, matched)?;
            }
        }
        let resident = match &self.blocks {
            Some(blocks) => {
                profit::stays(self.program, blocks.resident, (l1, &m1))?;
                profit::stays(self.program, blocks.resident, (l2, &m2))?;
                blocks.resident
            }
            None => {
                profit::restreams(self.program, l1, l2, &m2)?;
                self.target.l2_bytes() / 2
            }
        };
        let rows = profit::check(self.program, (self.target, resident), (l1, &m1), (l2, &m2))?;
        if (self.depth > 0 || self.blocks.is_some()) && rows == Rows::Apart {
            return Err(Apart::RowsApart);
        }
        for (contracting, own, other, matched) in [(l1, &m1, l2, &m2), (l2, &m2, l1, &m1)] {
            let tiled = contracting.contractions.iter().any(|c| own.iter().any(|v| c.outputs.contains(v)));
            if (tiled || reduces_within(contracting, own)) && legality.independent(other, matched).is_err() {
                return Err(Apart::ReductionAlongVectors);
            }
        }
        if self.depth == 0 {
            legality.keeps_threads(self.target, (l1, &m1), (l2, &m2))?;
        }
        Ok(rows)
    }

    /// Whether most of what the second loop touches is touched by the first too. Then sharing it is worth
    /// walking along another dimension, with vectors along the common loops.
    fn mostly_shared(&self, l1: &Side<'_>, l2: &Side<'_>) -> bool {
        let all = |l: &Side<'_>| -> BTreeSet<BufId> { l.accesses.iter().map(|a| a.buf).collect() };
        let (first, second) = (all(l1), all(l2));
        let bytes = |b: &BufId| self.program.buf(*b).logical_bytes();
        let shared: usize = second.intersection(&first).map(bytes).sum();
        2 * shared >= second.iter().map(bytes).sum()
    }

    fn build(&mut self, l1: &Side<'_>, l2: &Side<'_>, pairs: &[(Var, Var)]) -> Vec<Stmt> {
        let full = pairs.len() == l1.heads.len() && pairs.len() == l2.heads.len();
        let (first, mut second) = (Chain::of(l1), Chain::of(l2));
        for &(v1, v2) in pairs {
            second.rename(v2, v1);
        }
        let matched = |v: Var| pairs.iter().any(|p| p.0 == v);
        // The order of a contraction's loops is kept: it says which run along contiguous elements.
        let second_leads = !l2.contractions.is_empty() && l1.contractions.is_empty();
        let lead = if second_leads { &second } else { &first };
        let common: Vec<_> = lead.heads.iter().filter(|h| matched(h.var)).copied().collect();
        let (rest1, rest2) = (first.within(|v| !matched(v)), second.within(|v| !matched(v)));

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

/// The statements after `block[at]` that `stmt` needs, directly or not; `None` if one of them needs
/// `block[at]`, so that `stmt` cannot be moved up to it.
fn hoisted(block: &[Stmt], at: usize, stmt: &Stmt) -> Option<BTreeSet<usize>> {
    if at + 1 == block.len() {
        return Some(BTreeSet::new());
    }
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

/// Whether each iteration of all the loops of a side, which are `matched`, reduces in loops of its own: windows, whose
/// vectors run along these loops.
fn reduces_within(side: &Side<'_>, matched: &[Var]) -> bool {
    let mut found = false;
    visit::walk_loops(side.body, &mut |l| found |= l.body.iter().any(|s| matches!(s, Stmt::Reduce(_))));
    found && side.heads.last().is_some_and(|h| matched.contains(&h.var))
}

type Scope = (Reach, Reach);

/// What a statement reads and writes; a declaration counts as writing.
fn scope(stmt: &Stmt) -> Scope {
    let mut scope = touched(std::slice::from_ref(stmt));
    if let Stmt::Temp(b) = stmt {
        scope.1.add(*b, Region::new());
    }
    scope
}

fn conflict(a: &Scope, b: &Scope) -> bool {
    a.1.meets(&b.1) || a.1.meets(&b.0) || a.0.meets(&b.1)
}

/// The buffers through which two loops are connected, and whether one of them is written.
fn shared_buffers(first: &Side<'_>, second: &Side<'_>) -> (Vec<BufId>, bool) {
    let set = |side: &Side<'_>, written: bool| -> BTreeSet<BufId> {
        let list = side.accesses.iter();
        list.filter(|a| !written || a.kind != AccessKind::Read).map(|a| a.buf).collect()
    };
    let (w1, w2) = (set(first, true), set(second, true));
    let (t1, t2) = (set(first, false), set(second, false));
    let both: Vec<BufId> = t1.intersection(&t2).copied().collect();
    let flow: Vec<BufId> = both.iter().copied().filter(|b| w1.contains(b) || w2.contains(b)).collect();
    let flows = !flow.is_empty();
    (if flows { flow } else { both }, flows)
}
