//! Vectorize: the loops that Tile has left become vector loops.
//!
//! For each loop nest without vector loops, this module chooses the loop whose iterations become lanes: an
//! output loop, moved inside what it encloses (`tile::jam`), or each innermost loop for itself. `strip` cuts an
//! innermost loop into registers' worth and gives reductions along it lane accumulators; `blocks` makes pairs of
//! loops that transpose.

mod blocks;
mod strip;

use std::collections::HashMap;

use nestjit_ir::excerpt::{Excerpt, Placement};
use nestjit_ir::visit::{Extents, walk_stmts};
use nestjit_ir::{Expr, For, Index, LoopKind, Program, Stmt, Var};

use self::blocks::{Blocks, blocks};
use self::strip::{Strip, strip};
use super::PassContext;
use super::each_nest::{Part, each_nest};
use super::loops::{
    Carried, carried, drop_bare_unit_loops, expr_uses, expr_work, guarded_by, has_kind, has_loop, rechain,
};
use super::loops::{stride, unchain};
use super::tile::jam::{Limits, PointKind, Split, jam};
use crate::error::Result;
use crate::lanes;
use crate::unit::{Remark, Unit};

const NAME: &str = "Vectorize";

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
        let before = vector_loops(&body);
        let extents = Extents::of(&body);
        let mut pass = Vectorizer { program: part.program, limits, extents, depth: 0, declined: None };
        part.body = pass.block(body);
        let declined = pass.declined;
        let found = vector_loops(&part.body) - before;
        part.remarks.push(remark(found, declined));
        dropped || found > 0
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
    declined: Option<&'static str>,
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
        let (chain, mut body) = unchain(l);
        match self.choose(&chain, &mut body) {
            Plan::Jam(at) => self.jam(chain, body, at),
            Plan::Blocks(blocks) => blocks.apply(self.program, chain, body, self.limits.lanes),
            Plan::Strip { at, hoist } => self.strip(chain, body, at, hoist),
            Plan::Inside => {
                self.depth += chain.len();
                let body = self.block(body);
                self.depth -= chain.len();
                rechain(chain, body)
            }
            Plan::Keep => rechain(chain, body),
            Plan::Scalar(reason) => {
                self.declined = Some(reason);
                rechain(chain, body)
            }
        }
    }

    /// What to do with a perfect chain of loops around `body`.
    fn choose(&self, chain: &[For], statements: &mut Vec<Stmt>) -> Plan {
        let body = statements.as_slice();
        let inner_loops = has_loop(body);
        // An index that is computed may differ for other loops than that of the lanes.
        let by_lane = |l: &For| {
            let constant = |e: &Expr| !inner_loops && !expr_uses(e, l.var);
            lanes::stmts_with(self.program, body, &constant)
        };
        let answers: Vec<_> = chain.iter().map(by_lane).collect();
        let refused = match answers.iter().copied().reduce(|a, b| a.or(b)) {
            Some(answer) => answer.err(),
            None => lanes::stmts(self.program, body).err(),
        };
        if !inner_loops && chain.iter().all(|l| l.kind != LoopKind::Serial) {
            return Plan::Keep;
        }
        if let Some(refusal) = refused {
            return if inner_loops { Plan::Inside } else { Plan::Scalar(refusal) };
        }
        // The cost of leaving it to the loops inside; without any, of scalar code.
        let mut best =
            (if inner_loops { self.inside_cost(body) } else { self.cost(body, None) * 0.95 }, None);
        let mut reason = "no-unit-stride";
        let mut inner = std::mem::take(statements);
        for at in (0..chain.len()).rev() {
            // A loop of the chain with all that is in it; the next one outwards goes around it.
            inner = vec![Stmt::For(For { body: inner, ..chain[at].clone() })];
            let [Stmt::For(l)] = inner.as_slice() else { continue };
            if l.kind != LoopKind::Serial {
                continue;
            }
            if let Err(refusal) = answers[at] {
                reason = refusal;
                continue;
            }
            if guarded_by(self.program, &self.extents, &l.body, l.var) {
                reason = "padding";
                continue;
            }
            // A loop that carries a reduction can only be vectorised where it stands innermost.
            let state = carried(l);
            let innermost = !inner_loops && at + 1 == chain.len();
            let fine = match &state {
                Carried::Nothing => true,
                Carried::Reductions(_) => innermost,
                Carried::Other => false,
            };
            if !fine {
                reason = "dependence";
                continue;
            }
            let cost = self.cost(within(&inner, chain.len() - at), Some((l.var, l.extent)));
            if cost < best.0 * if best.1.is_some() { 0.9 } else { 1.0 } {
                best = (cost, Some(at));
            }
        }
        // Out of the loops again.
        for _ in chain {
            if let Some(Stmt::For(l)) = inner.pop() {
                inner = l.body;
            }
        }
        *statements = inner;
        let body = statements.as_slice();
        if !inner_loops
            && let Some(blocks) = blocks(self.program, &self.extents, chain, body, self.limits.lanes)
            && blocks.cost < best.0
        {
            return Plan::Blocks(blocks);
        }
        match best.1 {
            Some(at) if inner_loops => Plan::Jam(at),
            Some(at) => Plan::Strip { at, hoist: self.hoist(chain, body, at) },
            None if inner_loops => Plan::Inside,
            None => Plan::Scalar(reason),
        }
    }

    /// From which loop of the chain on everything is one reduction, so that its lane accumulators can live
    /// outside of it.
    fn hoist(&self, chain: &[For], body: &[Stmt], at: usize) -> usize {
        let mut from = at;
        if at + 1 != chain.len() {
            return at;
        }
        let only_reductions = body.iter().all(|s| matches!(s, Stmt::Reduce(_) | Stmt::Temp(_)));
        while from > 0 && only_reductions && chain[from - 1].kind == LoopKind::Serial {
            let l = For { body: rechain(chain[from..].to_vec(), body.to_vec()), ..chain[from - 1].clone() };
            match carried(&l) {
                Carried::Reductions(_) => from -= 1,
                _ => break,
            }
        }
        from
    }

    /// The cost of one execution of `body`, when `lane` runs as vector lanes (or nothing does): accesses and
    /// operations, a strided access of a vector counting as one per lane.
    fn cost(&self, body: &[Stmt], lane: Option<(Var, usize)>) -> f64 {
        let count = self.limits.lanes as f64;
        // Of a value of 64 bits, a vector is two registers.
        let width = |dtype| if lane.is_some() { lanes::registers(dtype) as f64 } else { 1.0 };
        // Per element: the share of a vector operation, ragged ends included.
        let share = lane.map_or(1.0, |(_, n)| (n as f64 / count).ceil() / n as f64);
        let access = |buf, index: &[Index]| match lane {
            None => 1.0,
            Some(_) if lanes::lookup(self.program, buf, index).is_some() => share * lanes::LOOKUP,
            Some((v, _)) => match stride(self.program, buf, index, v) {
                Some(0 | 1) => share * width(self.program.buf(buf).dtype),
                _ => 1.25,
            },
        };
        let value = |e: &Expr, dtype| {
            let mut loads = 0.0;
            let mut count = 0.0;
            nestjit_ir::visit::walk_expr(e, &mut |e| {
                if let Expr::Load(l) = e {
                    count += 1.0;
                    loads += access(l.buf, &l.index) * if l.otherwise.is_some() { 2.0 } else { 1.0 };
                }
            });
            loads + (expr_work(e) - count) * share * width(dtype)
        };
        let dtype = |buf| self.program.buf(buf).dtype;
        body.iter()
            .map(|s| match s {
                Stmt::For(l) => l.extent as f64 * self.cost(&l.body, lane),
                // Scattering lanes takes longer than gathering them.
                Stmt::Store(s) => 1.25 * access(s.buf, &s.index) + value(&s.value, dtype(s.buf)),
                Stmt::Reduce(r) => access(r.buf, &r.index) + value(&r.value, dtype(r.buf)),
                Stmt::Temp(_) => 0.0,
                Stmt::Call(_) => 1000.0,
            })
            .sum()
    }

    /// The cost of one execution of `body` when each of its loop nests is vectorised for itself.
    fn inside_cost(&self, body: &[Stmt]) -> f64 {
        let innermost = |l: &For| -> f64 {
            let n = l.extent as f64;
            let scalar = n * self.cost(&l.body, None);
            let fine = carried(l) != Carried::Other
                && !guarded_by(self.program, &self.extents, &l.body, l.var)
                && l.kind == LoopKind::Serial
                && l.extent > 1;
            if fine {
                // Adding up the lanes of a vector takes as long as some steps.
                let end = if carried(l) == Carried::Nothing { 0.0 } else { 8.0 };
                scalar.min(end + n * self.cost(&l.body, Some((l.var, l.extent))))
            } else {
                scalar
            }
        };
        body.iter()
            .map(|s| match s {
                Stmt::For(l) if has_loop(&l.body) => l.extent as f64 * self.inside_cost(&l.body),
                Stmt::For(l) => innermost(l),
                other => self.cost(std::slice::from_ref(other), None),
            })
            .sum()
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
        let splits = HashMap::from([(l.var, Split { tile: width, kind })]);
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

/// The statements within so many perfectly nested loops.
fn within(nest: &[Stmt], loops: usize) -> &[Stmt] {
    match nest {
        [Stmt::For(l)] if loops > 0 => within(&l.body, loops - 1),
        _ => nest,
    }
}

/// How a chain of loops is vectorised.
enum Plan {
    /// The loop at this position moves inside the loops of the body.
    Jam(usize),
    /// Two loops become blocks that are transposed.
    Blocks(Blocks),
    /// The loop at this position becomes innermost and is cut; loops from `hoist` on lie between its
    /// accumulators and it.
    Strip {
        /// The vectorised loop.
        at: usize,
        /// The first loop inside the lane accumulators.
        hoist: usize,
    },
    /// The statements of the body are vectorised one by one.
    Inside,
    /// It is unrolled already.
    Keep,
    /// It stays scalar, for this reason.
    Scalar(&'static str),
}

fn vector_loops(body: &[Stmt]) -> usize {
    let mut n = 0;
    walk_stmts(body, &mut |s| {
        n += usize::from(matches!(s, Stmt::For(For { kind: LoopKind::Vector, .. })));
    });
    n
}

fn remark(found: usize, declined: Option<&'static str>) -> Remark {
    let refused;
    let (code, message) = match (found, declined) {
        (0, Some("padding")) => ("padding", "scalar: padding depends on the position"),
        (0, Some("dependence")) => ("dependence", "scalar: iterations depend on each other"),
        (0, Some("no-unit-stride")) => ("no-unit-stride", "scalar: no loop is contiguous"),
        (0, Some(refusal)) => {
            refused = format!("scalar: {refusal}");
            ("scalar", refused.as_str())
        }
        (0, None) => ("nothing-left", "no loop left to vectorise"),
        (_, None) => ("vectorized", "vector loops"),
        (_, Some(_)) => ("vectorized", "vector loops; some loops stay scalar"),
    };
    Remark {
        pass: NAME,
        code,
        producer: Excerpt::NEST.to_owned(),
        consumer: None,
        bytes: 0,
        applied: found > 0,
        message: message.to_owned(),
    }
}
