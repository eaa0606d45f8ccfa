//! RowRings: nests of which one reads windows of rows of the other become one nest that goes over the rows in
//! blocks and keeps only the rows that are still needed.
//!
//! ```text
//! for oh < 56 { .. %h[oh,..] = .. }                 for p < 2 { temp %rows ..
//! for oh < 56 { .. %h[oh+kh-1,..] .. }                for t < 7 { 4 new rows; 4 rows of the next; 2 rows move }
//!                                                   }
//! ```
//!
//! Where OpFusion stops because a consumer reads a window (`window`), the tensor between the two need not exist as a
//! whole: a strip of rows in the second-level cache is enough, and no row is computed twice but at the edges of the
//! strips that threads share. What reads the consumer's rows one by one and makes less of them (the projection of an
//! inverted residual) joins in. Stages are found by loops and indices (`stage`), the way over the rows and the
//! profit are estimated (`plan`), and the nest is written by `build`.
//!
//! The pass stands behind ChooseLayout and Winograd, so that strips lie as the tensors would and what they rewrite
//! better is left alone, and before PeelBorders and Tile, for which the stages in a ring are nests like any other.

mod build;
mod plan;
mod stage;
mod tail;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use nestjit_ir::hash::FastMap;
use nestjit_ir::visit::{rename_vars, walk_exprs, walk_stmts};
use nestjit_ir::{BufId, Expr, Index, Nest, Program, Role, Stmt, Var};

use self::build::Build;
use self::plan::{RingPlan, plan, stays};
use self::stage::{
    RingStage, Window, chain_of, contracts, independent_chain, is_batch, loads_of, only_store, window,
};
use self::tail::{Sum, split, sums};
use super::PassContext;
use crate::error::Result;
use crate::options::{Fusion, RowRings};
use crate::remark::{self, Reason, Remark, RingShape, Strips};
use crate::unit::Unit;

/// A stage has a few loops and what follows them. Nests of more statements than this (such as unrolled transforms) are
/// not looked at any closer.
const MOST_STATEMENTS: usize = 150;

/// A tensor between two stages.
#[derive(Clone, PartialEq, Debug)]
struct Link {
    buf: BufId,
    /// The dimension of the rows.
    dim: usize,
    /// What the reader reads of it.
    window: Window,
    /// The bytes of the tensor, for one item of the batch.
    bytes: usize,
}

/// Stages, each of which reads the rows of the one before.
#[derive(Clone, PartialEq, Debug)]
struct Ring {
    stages: Vec<RingStage>,
    links: Vec<Link>,
    /// The loop around all stages, and how often it runs.
    batch: Option<(Var, usize)>,
    /// Bytes of constants that the stages read.
    weights: usize,
    /// What follows when all rows are there, and the sums over all rows in it.
    tail: (Vec<Stmt>, Vec<Sum>),
}

impl Ring {
    /// The rows of the result.
    fn rows(&self) -> usize {
        self.stages.last().map_or(0, RingStage::rows)
    }

    fn batch_extent(&self) -> usize {
        self.batch.map_or(1, |b| b.1)
    }
}

/// Makes the rings that pay.
///
/// # Errors
/// [`crate::ErrorKind::Limit`] if there is no memory for a constant.
pub fn run(unit: &mut Unit, ctx: &PassContext<'_>, remarks: &mut Vec<Remark>) -> Result<bool> {
    if ctx.row_rings == RowRings::Off || ctx.fusion != Fusion::Full {
        return Ok(false);
    }
    let mut changed = false;
    let mut uses = Uses::of(&unit.program);
    let mut consumer = 0;
    while consumer < unit.program.nests.len() {
        let found = uses
            .windows(&unit.program, consumer)
            .into_iter()
            .find_map(|(producer, buf)| find(&unit.program, &uses, producer, consumer, buf));
        if let Some(ring) = found {
            let forced = ctx.row_rings == RowRings::On;
            let small = !forced && stays(&ring, ctx.target);
            let plan = if small { None } else { plan(&ring, ctx.target) };
            let made = plan.as_ref().filter(|plan| forced || plan.pays());
            remarks.push(remark(&unit.program, &ring, plan.as_ref(), made.is_some()));
            if let Some(plan) = made {
                // The nests before the last one of the ring go.
                consumer = ring.stages.last().map_or(consumer, |s| s.nest) + 1 - ring.stages.len();
                make(unit, ring, plan)?;
                uses = Uses::of(&unit.program);
                changed = true;
            }
        }
        consumer += 1;
    }
    Ok(changed)
}

/// For each buffer, nests in ascending order.
type Users = FastMap<BufId, Vec<usize>>;

fn note(users: &mut Users, buf: BufId, nest: usize) {
    let nests = users.entry(buf).or_default();
    if nests.last() != Some(&nest) {
        nests.push(nest);
    }
}

/// Which nests read and write each buffer.
struct Uses {
    readers: Users,
    writers: Users,
    /// For each nest, the buffers of which it reads windows.
    windows: Vec<BTreeSet<BufId>>,
}

impl Uses {
    fn of(program: &Program) -> Uses {
        let (mut readers, mut writers) = (Users::default(), Users::default());
        let mut windows = Vec::with_capacity(program.nests.len());
        for (n, nest) in program.nests.iter().enumerate() {
            walk_stmts(&nest.body, &mut |s| match s {
                Stmt::Store(s) => note(&mut writers, s.buf, n),
                Stmt::Reduce(r) => note(&mut writers, r.buf, n),
                Stmt::Call(c) => {
                    c.inputs.iter().for_each(|b| note(&mut readers, *b, n));
                    c.outputs.iter().for_each(|b| note(&mut writers, *b, n));
                }
                Stmt::For(_) | Stmt::Temp(_) => {}
            });
            let mut of_windows = BTreeSet::new();
            walk_exprs(&nest.body, &mut |e| {
                let Expr::Load(l) = e else { return };
                note(&mut readers, l.buf, n);
                if l.index.iter().any(|i| i.as_affine().is_some_and(|a| a.terms().len() > 1)) {
                    of_windows.insert(l.buf);
                }
            });
            windows.push(of_windows);
        }
        Uses { readers, writers, windows }
    }

    /// The nest that alone writes a temporary and the one that alone reads it.
    fn private(&self, program: &Program, buf: BufId) -> Option<(usize, usize)> {
        let only = |map: &Users| {
            let nests = map.get(&buf)?;
            nests.first().copied().filter(|_| nests.len() == 1)
        };
        let (writer, reader) = (only(&self.writers)?, only(&self.readers)?);
        (program.buf(buf).role == Role::Temp && writer < reader).then_some((writer, reader))
    }

    /// The temporaries of which this nest alone reads windows and one other writes, and these nests; large ones first.
    fn windows(&self, program: &Program, reader: usize) -> Vec<(usize, BufId)> {
        let read = self.windows[reader].iter();
        let mut found: Vec<(usize, BufId)> =
            read.filter_map(|b| self.private(program, *b).map(|(writer, _)| (writer, *b))).collect();
        found.sort_by_key(|(_, b)| std::cmp::Reverse(program.buf(*b).logical_bytes()));
        found
    }

    /// Whether these nests, in order, can all run where the last one stands.
    fn can_move(&self, nests: &[usize]) -> bool {
        let Some((last, moved)) = nests.split_last() else { return false };
        let touches =
            |map: &Users, buf: &BufId, n: usize| map.get(buf).is_some_and(|s| s.binary_search(&n).is_ok());
        let conflict = |a: usize, b: usize| {
            let meets = |buf: &BufId, a: usize, b: usize| {
                touches(&self.writers, buf, a)
                    && (touches(&self.writers, buf, b) || touches(&self.readers, buf, b))
            };
            self.writers.keys().any(|buf| meets(buf, a, b) || meets(buf, b, a))
        };
        moved.iter().all(|n| (*n + 1..*last).filter(|x| !nests.contains(x)).all(|x| !conflict(*n, x)))
    }

    /// Whether the last stage writes something that an earlier one touches: not what passes between them.
    fn overlaps(&self, nests: &[usize]) -> bool {
        let Some((last, before)) = nests.split_last() else { return false };
        let written = self.writers.iter().filter(|(_, nests)| nests.contains(last)).map(|(b, _)| b);
        let touched =
            |b: &BufId, map: &Users| map.get(b).is_some_and(|nests| before.iter().any(|n| nests.contains(n)));
        written.into_iter().any(|b| touched(b, &self.readers) || touched(b, &self.writers))
    }
}

/// How many statements there are, those of loops included.
fn statements(body: &[Stmt]) -> usize {
    let mut count = 0;
    walk_stmts(body, &mut |_| count += 1);
    count
}

/// The ring that begins with the rows of `buf`.
fn find(program: &Program, uses: &Uses, producer: usize, consumer: usize, buf: BufId) -> Option<Ring> {
    let is_short = |n: usize| statements(&program.nests[n].body) <= MOST_STATEMENTS;
    if !is_short(producer) || !is_short(consumer) {
        return None;
    }
    let (chain1, body1) = chain_of(program, &program.nests[producer])?;
    let second = independent_chain(program, split(&program.nests[consumer].body)?)?;
    let (chain2, body2, tail) = (second.chain, second.body, second.rest);
    let store = only_store(program, &body1).filter(|s| s.buf == buf)?;
    let loads = loads_of(&body2, buf);
    let shape = &program.buf(buf).shape;
    let mut second = RingStage { nest: consumer, chain: chain2, body: body2, row: Var(0) };
    let extents = second.extents();
    // The outermost dimension in memory of which windows are read.
    let (dim, row, window) = program.buf(buf).layout.order.iter().find_map(|&dim| {
        let rows = store.index[dim].as_affine()?.as_var()?;
        let head = chain1.iter().find(|l| l.var == rows && l.extent == shape[dim])?;
        let (row, window) = window(&extents, &second.chain, &loads, dim, shape[dim])?;
        second.row = row;
        (window.span > 1).then_some((dim, head.var, window))
    })?;
    let first = RingStage { nest: producer, chain: chain1, body: body1, row };
    if !writes_all(program, &first, buf) || program.buf(buf).layout.is_cut() {
        return None;
    }
    let link = Link { buf, dim, window, bytes: program.buf(buf).logical_bytes() };
    let mut ring = Ring {
        stages: vec![first, second],
        links: vec![link],
        batch: None,
        weights: 0,
        tail: (tail, Vec::new()),
    };
    if ring.tail.0.is_empty()
        && let Some((stage, link)) = following(program, uses, &ring)
    {
        ring.stages.push(stage);
        ring.links.push(link);
    }
    while !fits(uses, &ring) {
        if ring.links.len() == 1 {
            return None;
        }
        ring.stages.pop();
        ring.links.pop();
    }
    ring.tail.1 = pooled(program, &ring);
    share_batch(program, &mut ring);
    ring.weights = ring.stages.iter().map(|s| s.weights(program)).sum();
    Some(ring)
}

/// The sums over the rows of the last stage in the tail.
fn pooled(program: &Program, ring: &Ring) -> Vec<Sum> {
    let Some(last) = ring.stages.last() else { return Vec::new() };
    let Some((buf, dim)) = result(program, last) else { return Vec::new() };
    sums(program, &ring.tail.0, buf, dim)
}

/// The one buffer that a stage writes, each row of the result a row of a dimension.
fn result(program: &Program, stage: &RingStage) -> Option<(BufId, usize)> {
    let store = only_store(program, &stage.body)?;
    let own = |i: &Index| i.as_affine().and_then(|a| a.as_var()) == Some(stage.row);
    Some((store.buf, store.index.iter().position(own)?))
}

/// Whether the nests of a ring can become one where the last one stands.
fn fits(uses: &Uses, ring: &Ring) -> bool {
    let nests: Vec<usize> = ring.stages.iter().map(|s| s.nest).collect();
    uses.can_move(&nests) && !uses.overlaps(&nests)
}

/// Whether a stage stores every element of a tensor, each by a loop of its own.
fn writes_all(program: &Program, stage: &RingStage, buf: BufId) -> bool {
    let Some(store) = only_store(program, &stage.body).filter(|s| s.buf == buf) else { return false };
    let mut seen: Vec<Var> = Vec::new();
    store.index.iter().zip(&program.buf(buf).shape).all(|(index, &size)| {
        let Some(index) = index.as_affine() else { return false };
        match index.as_var().and_then(|v| stage.loop_of(v)) {
            Some(l) if l.extent == size && !seen.contains(&l.var) => {
                seen.push(l.var);
                true
            }
            _ => size == 1 && index.as_const() == Some(0),
        }
    })
}

/// The stage that reads the rows of the last one without keeping any, and makes less of them.
fn following(program: &Program, uses: &Uses, ring: &Ring) -> Option<(RingStage, Link)> {
    let last = ring.stages.last()?;
    let (buf, dim) = result(program, last)?;
    let (_, reader) = uses.private(program, buf)?;
    let buffer = program.buf(buf);
    if !writes_all(program, last, buf) || buffer.layout.is_cut() {
        return None;
    }
    let (chain, body) = chain_of(program, &program.nests[reader])?;
    let mut stage = RingStage { nest: reader, chain, body, row: Var(0) };
    let loads = loads_of(&stage.body, buf);
    let (row, window) = window(&stage.extents(), &stage.chain, &loads, dim, buffer.shape[dim])?;
    stage.row = row;
    let results: usize = stage.chain.iter().map(|l| l.extent).product();
    let alone = window.span <= window.stride && window.fill.is_none();
    let less = results <= buffer.len() && contracts(&stage.body);
    (alone && less).then(|| (stage, Link { buf, dim, window, bytes: buffer.logical_bytes() }))
}

/// Takes the loop over a batch, if all stages have it, out of them.
fn share_batch(program: &Program, ring: &mut Ring) {
    let Some(batch) = ring.stages[0].chain.first().map(|l| (l.var, l.extent)) else { return };
    let plain = |i: &Index| i.as_affine().and_then(|a| a.as_var());
    for (at, stage) in ring.stages.iter().enumerate() {
        let Some(var) = stage.chain.first().map(|l| l.var) else { return };
        let passed = ring.links.get(at).and_then(|_| only_store(program, &stage.body));
        let stored = passed.is_none_or(|s| plain(&s.index[0]) == Some(var));
        let read = at == 0 || {
            let loads = loads_of(&stage.body, ring.links[at - 1].buf);
            loads.iter().all(|l| plain(&l.index[0]) == Some(var))
        };
        let inner = ring.links.iter().all(|l| l.dim > 0);
        let summed = at + 1 < ring.stages.len() || ring.tail.1.iter().all(|s| s.is_within(var));
        let apart = var != stage.row && is_batch(program, &stage.chain, &stage.body, var);
        if !(stored && read && summed && inner && apart && stage.chain[0].extent == batch.1) {
            return;
        }
    }
    for stage in &mut ring.stages {
        let var = stage.chain.remove(0).var;
        rename_vars(&mut stage.body, &mut |v| if v == var { batch.0 } else { v });
    }
    ring.links.iter_mut().for_each(|l| l.bytes /= batch.1.max(1));
    ring.batch = Some(batch);
}

/// Puts a ring in the place of its last nest.
fn make(unit: &mut Unit, ring: Ring, plan: &RingPlan) -> Result<()> {
    let nests: Vec<usize> = ring.stages.iter().map(|s| s.nest).collect();
    let name = unit.program.nests[nests[0]].name.clone();
    let mut ops: Vec<String> = Vec::new();
    for op in nests.iter().flat_map(|n| &unit.program.nests[*n].ops) {
        if !ops.contains(op) {
            ops.push(op.clone());
        }
    }
    let body = Build::new(unit, ring).run(&plan.parts)?;
    if let Some(last) = nests.last() {
        unit.program.nests[*last] = Nest { name, body, ops };
    }
    let mut at = 0;
    unit.program.nests.retain(|_| {
        at += 1;
        !nests[..nests.len() - 1].contains(&(at - 1))
    });
    Ok(())
}

fn remark(program: &Program, ring: &Ring, plan: Option<&RingPlan>, applied: bool) -> Remark {
    let made = |plan: &RingPlan| RingShape {
        first: plan.parts.first().map(|p| Strips {
            strips: p.strips,
            blocks: p.blocks,
            steps: p.steps,
            rows: p.rows,
        }),
        bytes: plan.bytes,
    };
    let reason = Reason::Ring(remark::Ring {
        bufs: ring.links.iter().map(|l| l.buf).collect(),
        share: plan.map(|plan| plan.cycles / plan.apart),
        made: plan.filter(|_| applied).map(made),
    });
    Remark {
        consumer: ring.stages.get(1).map(|s| program.nests[s.nest].name.clone()),
        bytes: ring.links.iter().map(|l| 2 * program.buf(l.buf).logical_bytes()).sum(),
        ..Remark::nest(&program.nests[ring.stages[0].nest].name, reason)
    }
}
