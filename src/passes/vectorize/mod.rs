//! Vectorize: the loops that Tile has left become vector loops.
//!
//! For each loop nest without vector loops, this module chooses the loop whose iterations become lanes: an
//! output loop, moved inside what it encloses (`schedule::jam`), or loops further in (`choose`). `strip` cuts an
//! innermost loop into registers' worth and gives reductions along it lane accumulators; `interleave` puts short rows
//! side by side; `blocks` makes pairs of loops that transpose; before, `reductions` brings those whose order does not matter into a form that has lanes.

mod blocks;
mod choose;
mod interleave;
mod reductions;
mod strip;

use nestjit_ir::access::carried::independent;
use nestjit_ir::excerpt::{Excerpt, Placement};
use nestjit_ir::hash::FastMap;
use nestjit_ir::visit::{Extents, walk_stmts};
use nestjit_ir::{For, LoopKind, Program, Stmt};

use self::choose::Plan;
use self::interleave::interleave;
use self::strip::{Strip, strip};
use super::PassContext;
use super::each_nest::{Part, each_nest};
use crate::error::Result;
use crate::passes::schedule::chain::{drop_bare_unit_loops, has_kind, perfect, rechain, unchain};
use crate::passes::schedule::jam::{Limits, PointKind, Split, jam};
use crate::remark::{Reason, Remark, Scalar, Vectors};
use crate::unit::Unit;

/// Vectorises what lanes can compute.
///
/// # Errors
/// None; the signature is the pipeline's.
pub fn run(unit: &mut Unit, ctx: &PassContext<'_>, remarks: &mut Vec<Remark>) -> Result<bool> {
    let isa = ctx.target.isa;
    let limits = Limits { lanes: isa.f32_lanes(), unroll: 4 * isa.vector_registers() };
    let vectorize = |part: &mut Part<'_>| {
        let mut body = std::mem::take(&mut part.body);
        let dropped = drop_bare_unit_loops(&mut body);
        let regrouped = reductions::regroup(part.program, &mut body, limits.lanes);
        let before = vector_loops(&body);
        let extents = Extents::of(&body);
        let mut pass = Vectorizer { program: part.program, limits, extents, depth: 0, declined: None };
        part.body = pass.block(body);
        let declined = pass.declined;
        let found = vector_loops(&part.body) - before;
        part.remarks.push(remark(found, declined));
        dropped || regrouped || found > 0
    };
    let mut changed = false;
    let placed = &mut |_, changes: &bool, _: &Placement| changed |= changes;
    each_nest(&mut unit.program, ctx.threads, remarks, &|_, _| Vec::new(), &vectorize, placed);
    Ok(changed)
}

struct Vectorizer<'a> {
    program: &'a mut Program,
    limits: Limits,
    /// Of all loops of the nest, as it was.
    extents: Extents,
    /// How many loops are around the statements at hand.
    depth: usize,
    /// Why some loop stayed scalar.
    declined: Option<Scalar>,
}

impl Vectorizer<'_> {
    fn block(&mut self, stmts: Vec<Stmt>) -> Vec<Stmt> {
        let mut out = Vec::new();
        for stmt in stmts {
            match stmt {
                Stmt::For(l) if l.kind == LoopKind::Vector => out.push(Stmt::For(l)),
                Stmt::For(mut l) if has_kind(&l.body, LoopKind::Vector) => {
                    self.depth += 1;
                    l.body = self.block(l.body);
                    self.depth -= 1;
                    out.push(Stmt::For(l));
                }
                Stmt::For(l) => out.extend(self.nest(l)),
                other => out.push(other),
            }
        }
        out
    }

    /// A loop without vector loops inside.
    fn nest(&mut self, l: For) -> Vec<Stmt> {
        let plan = self.choose(&l);
        let rows = matches!(plan, Plan::Inside)
            && perfect(&l).0.last().is_some_and(|last| independent(last, &self.extents));
        let (mut chain, body) = unchain(l);
        match plan {
            Plan::Jam(at) => self.jam(chain, body, at),
            Plan::Blocks(blocks) => blocks.apply(self.program, chain, body, self.limits.lanes),
            Plan::Strip { at, hoist } => self.strip(chain, body, at, hoist),
            Plan::Inside => {
                self.depth += chain.len();
                let body = self.block(body);
                self.depth -= chain.len();
                match chain.pop() {
                    Some(l) if rows => {
                        let l = For { body, ..l };
                        let vectors = self.limits.unroll / 4;
                        let stmts = interleave(self.program, l, self.limits, vectors);
                        rechain(chain, stmts)
                    }
                    last => rechain(chain.into_iter().chain(last).collect(), body),
                }
            }
            Plan::Keep => rechain(chain, body),
            Plan::Scalar(reason) => {
                self.declined = Some(reason);
                rechain(chain, body)
            }
        }
    }

    /// Moves the iterations of an output loop inside everything in the chain's body.
    fn jam(&mut self, chain: Vec<For>, body: Vec<Stmt>, at: usize) -> Vec<Stmt> {
        let l = &chain[at];
        let lanes = self.limits.lanes;
        let width = match l.extent / lanes {
            0 => l.extent,
            n => lanes * [4, 2, 1].into_iter().find(|u| n >= *u && self.light(&body, *u)).unwrap_or(1),
        };
        let kind = if width > lanes { PointKind::Chunks(lanes) } else { PointKind::Vector };
        let splits = FastMap::from_iter([(l.var, Split { tile: width, kind })]);
        let stmts = rechain(chain, body);
        jam(self.program, &splits, self.limits, stmts, self.depth)
    }

    fn light(&self, body: &[Stmt], unroll: usize) -> bool {
        unroll * strip::weight(body) <= self.limits.unroll / 4
    }

    /// Cuts a loop of a chain with simple statements inside.
    fn strip(&mut self, mut chain: Vec<For>, body: Vec<Stmt>, at: usize, hoist: usize) -> Vec<Stmt> {
        let lane = chain.remove(at);
        let inner = chain.split_off(hoist.min(chain.len()));
        let request = Strip { outer: inner, var: lane.var, extent: lane.extent, body, limits: self.limits };
        let stmts = strip(self.program, request);
        rechain(chain, stmts)
    }
}

fn vector_loops(body: &[Stmt]) -> usize {
    let mut n = 0;
    walk_stmts(body, &mut |s| {
        n += usize::from(matches!(s, Stmt::For(For { kind: LoopKind::Vector, .. })));
    });
    n
}

fn remark(found: usize, declined: Option<Scalar>) -> Remark {
    let vectors = match (found, declined) {
        (0, Some(why)) => Vectors::None(why),
        (0, None) => Vectors::NothingLeft,
        (_, None) => Vectors::All,
        (_, Some(_)) => Vectors::Some,
    };
    Remark::nest(Excerpt::NEST, Reason::Vectors(vectors))
}
