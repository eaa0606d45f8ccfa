//! OpFusion: producers and consumers are merged at the deepest loop level that is legal and pays.
//!
//! One idea covers epilogues, row-wise work and siblings: *put the consumer's statements behind the producer's
//! and fuse sibling loops, recursively* ([`merge`]). A bias and an activation behind a contraction:
//!
//! ```text
//! for n < 64 { for m < 512 { temp %acc ..; for k < 512 { .. }; %t[n,m] = %acc } }
//! for i < 64 { for j < 512 { %u[i,j] = %t[i,j] + %b[j] } }
//! for i < 64 { for j < 512 { %y[i,j] = max(%u[i,j], 0.0) } }
//! ```
//!
//! becomes
//!
//! ```text
//! for n < 64 { for m < 512 {
//!   temp %acc ..; for k < 512 { .. }; %t[n,m] = %acc; %u[n,m] = %t[n,m] + %b[m]; %y[n,m] = max(%u[n,m], 0.0)
//! } }
//! ```
//!
//! Where only the outer loops agree, only they are shared, and a row of the buffer lies between: softmax and
//! layer normalisation become one nest each. Producers that compute every element by itself are substituted
//! into their consumers instead ([`inline`]). What is only copied into a part of a buffer is stored there in the
//! first place ([`views`]).
//!
//! Nests are visited in execution order, each with its producers, the one that hands over most bytes first. A
//! merge needs matching loops ([`align`]), no dependence that it would turn round ([`legal`]), no other nest on a path
//! between the two ([`order`]), a profit ([`profit`]), and the vector loops that there were ([`lanes`]). Every merge leaves a remark, and so does every
//! buffer that stays in memory between two nests. Requested outputs are always stored. What is decided about nests that
//! are equal up to names is decided once ([`kinds`], [`attempt`]).
//!
//! The buffers in between become registers and rows in ContractTemps.

mod align;
mod attempt;
mod blocks;
mod inline;
mod kinds;
mod lanes;
mod legal;
mod merge;
mod order;
mod profit;
mod repeat;
mod views;

use nestjit_ir::access::reach::touched;
use nestjit_ir::hash::{FastMap, FastSet};
use nestjit_ir::{BufId, Nest, Program, Role, Stmt};

use self::attempt::{Attempts, Way};
use self::inline::Pointwise;
use self::kinds::{Form, Kinds};
use self::merge::Depth;
use self::order::{NestGraph, Node};
use super::PassContext;
use crate::error::Result;
use crate::options::Fusion as Fusing;
use crate::passes::schedule::simplify::simplify_body;
use crate::remark::{Apart, Joined, Merge, Reason, Remark};
use crate::unit::Unit;

/// The pass.
pub(super) fn run(unit: &mut Unit, ctx: &PassContext<'_>, remarks: &mut Vec<Remark>) -> Result<bool> {
    let nests = std::mem::take(&mut unit.program.nests);
    let (mut nests, mut parts) = distribute(nests);
    let views = match ctx.fusion {
        Fusing::Full => views::apply(&unit.program, &mut nests, &mut parts),
        Fusing::Epilogue => Vec::new(),
    };
    let mut kinds = Kinds::default();
    let graph = NestGraph::new(&unit.program, nests, &mut kinds);
    let mut fusion = Fusion {
        program: &mut unit.program,
        ctx,
        graph,
        kinds,
        attempts: Attempts::default(),
        refusals: FastMap::default(),
        applied: Vec::new(),
    };
    match ctx.fusion {
        Fusing::Full => {
            fusion.note_views(&views);
            fusion.inline_movement();
            fusion.merge_all();
            fusion.merge_rows();
            fusion.sequence_all();
        }
        Fusing::Epilogue => fusion.merge_all(),
    }
    fusion.rejoin(&parts);
    fusion.explain();
    let changed = !fusion.applied.iter().all(|r| !r.applied());
    let Fusion { graph, applied, .. } = fusion;
    remarks.extend(applied);
    unit.program.nests = simplified(graph.into_nodes());
    Ok(changed)
}

/// The nests, each kind simplified once.
fn simplified(nodes: Vec<Node>) -> Vec<Nest> {
    let mut bodies: FastMap<usize, Vec<Stmt>> = FastMap::default();
    let nest = |Node { name, ops, form, .. }| {
        let Form { kind, .. } = &form;
        let simplified = bodies.entry(kind.number).or_insert_with(|| {
            let mut body = kind.body.clone();
            simplify_body(&kind.program, &mut body);
            body
        });
        let mut body = simplified.clone();
        form.placement().statements(&mut body);
        Nest { name, body, ops }
    };
    nodes.into_iter().map(nest).collect()
}

/// Cuts nests with several independent loops (concatenation: a loop per operand) into a nest per loop, so that
/// each can merge with its own producer. Also returns, for each nest, which one it came from.
fn distribute(nests: Vec<Nest>) -> (Vec<Nest>, Vec<usize>) {
    let (mut result, mut parts) = (Vec::new(), Vec::new());
    for (origin, nest) in nests.into_iter().enumerate() {
        let loops = nest.body.len() > 1 && nest.body.iter().all(|s| matches!(s, Stmt::For(_)));
        if !loops || !independent(&nest.body) {
            result.push(nest);
            parts.push(origin);
            continue;
        }
        for (i, stmt) in nest.body.into_iter().enumerate() {
            let name = if i == 0 { nest.name.clone() } else { format!("{}.{i}", nest.name) };
            result.push(Nest { name, body: vec![stmt], ops: nest.ops.clone() });
            parts.push(origin);
        }
    }
    (result, parts)
}

/// Whether no statement reads what another writes.
fn independent(body: &[Stmt]) -> bool {
    let scopes: Vec<_> = body.iter().map(|s| touched(std::slice::from_ref(s))).collect();
    let written: FastSet<BufId> = scopes.iter().flat_map(|s| s.1.bufs()).collect();
    scopes.iter().all(|s| s.0.bufs().all(|b| !written.contains(&b)))
}

struct Fusion<'a> {
    program: &'a mut Program,
    ctx: &'a PassContext<'a>,
    graph: NestGraph,
    kinds: Kinds,
    attempts: Attempts,
    /// Why the reader of a buffer (an original nest) was not merged with its writer.
    refusals: FastMap<(BufId, usize), Apart>,
    applied: Vec<Remark>,
}

impl Fusion<'_> {
    fn note_views(&mut self, views: &[views::Made]) {
        for view in views {
            let bytes = 2 * self.program.buf(view.buf).logical_bytes();
            let merge = Merge::View { part: view.buf, of: view.of };
            self.apply_named(merge, &view.producer, view.copy.clone(), bytes);
        }
    }

    /// Substitutes nests that only move elements, or unpack them, into all their consumers.
    fn inline_movement(&mut self) {
        for id in self.graph.ids() {
            let Some(node) = self.graph.get(id) else { continue };
            let kind = &node.form.kind;
            let Some(pointwise) = kind.pointwise() else { continue };
            let buf = node.form.buf(pointwise.buf);
            // What flattens the result of another nest is better written by that nest, unless it is moved again.
            let source = node.reads.bufs().any(|b| self.graph.writers(b).next().is_some());
            let reader = |r| self.graph.get(r).is_some_and(|n| n.form.kind.only_moves());
            let moved_again = self.graph.readers(buf).all(reader);
            let movement = pointwise.moves() || pointwise.unpacks(&kind.program);
            // Smaller elements are for whatever computes them to store.
            if source && pointwise.narrows(&kind.program) {
                continue;
            }
            if movement && (!(pointwise.flattens() && source) || moved_again) {
                self.inline(id);
            }
        }
    }

    /// Substitutes a nest that computes each element by itself into all its consumers and removes it; does nothing if one of
    /// them declines.
    fn inline(&mut self, id: usize) -> bool {
        let Some(form) = self.graph.get(id).map(|node| &node.form) else { return false };
        let Some(pointwise) = form.kind.pointwise() else { return false };
        let buf = form.buf(pointwise.buf);
        if self.program.buf(buf).role != Role::Temp || self.graph.writers(buf).count() != 1 {
            return false;
        }
        let readers: Vec<usize> = self.graph.readers(buf).collect();
        if pointwise.flattens() && readers.len() > 1 {
            return false;
        }
        let Some(pointwise) = Pointwise::of(self.program, &form.body()) else { return false };
        let mut bodies = Vec::new();
        for &reader in &readers {
            let Some(node) = self.graph.get(reader) else { continue };
            let before = node.form.body();
            let called = before.iter().any(|s| matches!(s, Stmt::Call(_)));
            let result = match called {
                true => Err(Apart::ConsumerIsCall),
                false => pointwise.inline(self.program, &before).and_then(|body| {
                    let width = self.ctx.target.isa.f32_lanes();
                    lanes::keeps(self.program, width, [before.as_slice()], &body).map(|()| body)
                }),
            };
            match result {
                Ok(body) => bodies.push((reader, body)),
                Err(refusal) => {
                    self.refuse(&[buf], reader, refusal);
                    return false;
                }
            }
        }
        if bodies.is_empty() {
            return false;
        }
        let Some(node) = self.graph.remove(id) else { return false };
        for (i, (reader, body)) in bodies.into_iter().enumerate() {
            self.graph.set_form(reader, self.kinds.form(self.program, body));
            let ops = if i == 0 { node.ops.as_slice() } else { &[] };
            self.graph.prepend(reader, ops, if i == 0 { &node.members } else { &[] });
            let bytes = 2 * self.program.buf(buf).logical_bytes();
            self.apply(Merge::WhereRead { buf }, &node.name, reader, bytes);
        }
        true
    }

    fn merge_all(&mut self) {
        for id in self.graph.ids() {
            let mut tried: FastSet<usize> = FastSet::default();
            // Each merge gives the nest new producers.
            while let Some((producer, flow)) = self.next_producer(id, &tried) {
                tried.insert(producer);
                if self.ctx.fusion == Fusing::Epilogue || !self.try_inline(producer, id) {
                    self.try_merge(producer, id, &flow);
                }
            }
        }
    }

    /// The producer that hands over most bytes and has not been tried; of equal ones, the latest.
    fn next_producer(&self, id: usize, tried: &FastSet<usize>) -> Option<(usize, Vec<BufId>)> {
        let bytes =
            |flow: &[BufId]| -> usize { flow.iter().map(|b| self.program.buf(*b).logical_bytes()).sum() };
        let all = self.graph.producers(id);
        all.into_iter().filter(|p| !tried.contains(&p.0)).max_by_key(|p| bytes(&p.1))
    }

    fn try_inline(&mut self, producer: usize, consumer: usize) -> bool {
        let Some(form) = self.graph.get(producer).map(|node| &node.form) else { return false };
        let Some(pointwise) = form.kind.pointwise() else { return false };
        let only = self.graph.readers(form.buf(pointwise.buf)).all(|r| r == consumer);
        only && self.inline(producer)
    }

    fn try_merge(&mut self, producer: usize, consumer: usize, flow: &[BufId]) {
        let (Some(first), Some(second)) = (self.graph.get(producer), self.graph.get(consumer)) else {
            return;
        };
        if let Some(between) = self.graph.between(producer, consumer) {
            let nest = self.graph.get(between).map(|n| n.name.clone()).unwrap_or_default();
            self.refuse(flow, consumer, Apart::Between { nest });
            return;
        }
        let forms = (&first.form, &second.form);
        let merged = self.attempts.merge(self.program, self.ctx, &mut self.kinds, forms, flow, Way::Any);
        match merged {
            Err(refusal) => self.refuse(flow, consumer, refusal),
            Ok(merged) => self.join(producer, consumer, flow, merged),
        }
    }

    /// What normalises the rows of a product is computed behind some rows of it. By now it is one nest.
    fn merge_rows(&mut self) {
        for id in self.graph.ids() {
            for (producer, flow) in self.graph.producers(id) {
                let (Some(first), Some(second)) = (self.graph.get(producer), self.graph.get(id)) else {
                    continue;
                };
                let rows = first.form.kind.has_weights()
                    && second.form.kind.only_normalises()
                    && self.graph.between(producer, id).is_none();
                if !rows {
                    continue;
                }
                let forms = (&first.form, &second.form);
                let (kinds, way) = (&mut self.kinds, Way::ManyRows);
                if let Ok(merged) = self.attempts.merge(self.program, self.ctx, kinds, forms, &flow, way) {
                    self.join(producer, id, &flow, merged);
                }
            }
        }
    }

    /// Small nests that have no loops in common that could be merged follow each other in one nest.
    fn sequence_all(&mut self) {
        for id in self.graph.ids() {
            for (producer, flow) in self.graph.producers(id) {
                let (Some(first), Some(second)) = (self.graph.get(producer), self.graph.get(id)) else {
                    continue;
                };
                let vector = || second.form.single_row(&flow);
                // A vector times a matrix has no tile that sharing loops with it could break.
                let misfit = |why: &Apart| match why {
                    Apart::LoopsDiffer { .. } | Apart::NoCommonLoop { .. } => true,
                    why => why.is_second_contraction() && vector(),
                };
                let fits = second
                    .members
                    .iter()
                    .any(|m| flow.iter().all(|b| self.refusals.get(&(*b, *m)).is_some_and(misfit)));
                if !fits || self.graph.between(producer, id).is_some() {
                    continue;
                }
                let (first, second) = (first.form.body(), second.form.body());
                if let Some((body, depth)) =
                    merge::sequence(self.program, self.ctx.target, &first, &second, &flow)
                {
                    let form = self.kinds.form(self.program, body);
                    self.join(producer, id, &flow, (form, depth));
                }
            }
        }
    }

    fn join(&mut self, producer: usize, consumer: usize, flow: &[BufId], (form, depth): (Form, Depth)) {
        let (Some(first), Some(second)) = (self.graph.get(producer), self.graph.get(consumer)) else {
            return;
        };
        let part = |b: &BufId| first.writes.shared_bytes(&second.reads, self.program, *b);
        let parts: Vec<(BufId, usize)> = flow.iter().map(|b| (*b, part(b))).collect();
        let contracts = |n: &Node| n.form.kind.contracts();
        let siblings = contracts(first) && contracts(second);
        let name = if contracts(first) { &first.name } else { &second.name }.clone();
        let (source, target) = (first.name.clone(), second.name.clone());
        let mut ops = first.ops.clone();
        ops.extend(second.ops.iter().filter(|op| !first.ops.contains(op)).cloned());
        self.graph.join(producer, consumer, name, ops, form);
        let how = match depth {
            _ if siblings => Joined::SideBySide,
            Depth::All => Joined::Elementwise,
            Depth::Outer => Joined::RowByRow,
            Depth::None => Joined::InSequence,
        };
        let alive = |b: &BufId| self.graph.readers(*b).any(|r| r != consumer);
        let bytes = parts
            .into_iter()
            .map(|(b, part)| {
                let kept = self.program.buf(b).role != Role::Temp || alive(&b);
                let times = match depth {
                    Depth::None => 0,
                    _ if kept => 1,
                    _ => 2,
                };
                part * times
            })
            .sum();
        self.apply_named(Merge::Joined { how, bufs: flow.to_vec() }, &source, target, bytes);
    }

    /// Puts parts of one nest that merged with nothing together again.
    fn rejoin(&mut self, parts: &[usize]) {
        let mut last: Option<(usize, usize)> = None;
        for id in self.graph.ids() {
            let Some(node) = self.graph.get(id) else { continue };
            let &[member] = node.members.as_slice() else { continue };
            let origin = parts[member];
            match last {
                Some((before, o)) if o == origin && self.graph.between(before, id).is_none() => {
                    let (Some(first), Some(second)) = (self.graph.get(before), self.graph.get(id)) else {
                        continue;
                    };
                    let form =
                        self.kinds.form(self.program, [first.form.body(), second.form.body()].concat());
                    let (name, ops) = (first.name.clone(), first.ops.clone());
                    self.graph.join(before, id, name, ops, form);
                }
                _ => {}
            }
            last = Some((id, origin));
        }
    }

    fn refuse(&mut self, flow: &[BufId], consumer: usize, refusal: Apart) {
        let members = self.graph.get(consumer).map(|n| n.members.clone()).unwrap_or_default();
        for &buf in flow {
            for &member in &members {
                self.refusals.entry((buf, member)).or_insert_with(|| refusal.clone());
            }
        }
    }

    fn apply(&mut self, merge: Merge, producer: &str, consumer: usize, bytes: usize) {
        let name = self.graph.get(consumer).map(|n| n.name.clone()).unwrap_or_default();
        self.apply_named(merge, producer, name, bytes);
    }

    fn apply_named(&mut self, merge: Merge, producer: &str, consumer: String, bytes: usize) {
        let remark = Remark::nest(producer, Reason::Merged(merge));
        self.applied.push(Remark { consumer: Some(consumer), bytes, ..remark });
    }

    /// A remark for every buffer that stays in memory between two nests.
    fn explain(&mut self) {
        let mut declined = Vec::new();
        for id in self.graph.ids() {
            let Some(node) = self.graph.get(id) else { continue };
            for (producer, flow) in self.graph.producers(id) {
                let Some(source) = self.graph.get(producer) else { continue };
                for buf in flow {
                    let refusal = node.members.iter().find_map(|m| self.refusals.get(&(buf, *m)));
                    let why = refusal.cloned().unwrap_or(Apart::OtherReaders);
                    declined.push(Remark {
                        consumer: Some(node.name.clone()),
                        bytes: 2 * source.writes.shared_bytes(&node.reads, self.program, buf),
                        ..Remark::nest(&source.name, Reason::Apart { buf, why })
                    });
                }
            }
        }
        self.applied.extend(declined);
    }
}
