//! Which loop of a nest becomes lanes: what the ways cost, in vector operations.

use nestjit_ir::access::carried::{Carried, carried};
use nestjit_ir::{Expr, For, Index, Load, LoopKind, Stmt, Var};

use super::Vectorizer;
use super::blocks::{Blocks, blocks};
use crate::lanes;
use crate::passes::cost;
use crate::passes::schedule::chain::{has_loop, perfect};
use crate::passes::schedule::indices::{expr_uses, guarded_by, stride};
use crate::remark::Scalar;

/// How many times as long as gathering lanes scattering them takes.
const SCATTER: f64 = 1.25;

/// What adding up the lanes of a sum takes.
const COMBINE: f64 = 8.0;

/// How a chain of loops is vectorised.
pub(super) enum Plan {
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
    Scalar(Scalar),
}

/// The best way to vectorise a chain of loops, blocks aside.
struct Best {
    /// Of one execution of the chain's body.
    cost: f64,
    /// The loop whose iterations become lanes. None: loops further in, or scalar code.
    at: Option<usize>,
    /// What each execution of the chain costs besides.
    ends: f64,
    /// Why no loop of the chain does.
    reason: Scalar,
}

impl Vectorizer<'_> {
    /// What to do with a perfect chain of loops.
    pub(super) fn choose(&self, l: &For) -> Plan {
        let (chain, body) = perfect(l);
        let inner_loops = has_loop(body);
        if !inner_loops && chain.iter().all(|l| l.kind != LoopKind::Serial) {
            return Plan::Keep;
        }
        let best = match self.best(&chain, body) {
            Ok(best) => best,
            Err(_) if inner_loops => return Plan::Inside,
            Err(refusal) => return Plan::Scalar(refusal),
        };
        if !inner_loops
            && let Some(blocks) = blocks(self.program, &self.extents, &chain, body, self.limits.lanes)
            && blocks.cost < best.cost
        {
            return Plan::Blocks(blocks);
        }
        match best.at {
            Some(at) if inner_loops => Plan::Jam(at),
            Some(at) => Plan::Strip { at, hoist: self.hoist(&chain, body, at) },
            None if inner_loops => Plan::Inside,
            None => Plan::Scalar(best.reason),
        }
    }

    /// The best way, or why lanes can compute nothing of it.
    fn best(&self, chain: &[&For], body: &[Stmt]) -> Result<Best, Scalar> {
        let inner_loops = has_loop(body);
        // An index that is computed may differ for other loops than that of the lanes.
        let by_lane = |l: &&For| {
            let constant = |e: &Expr| !inner_loops && !expr_uses(e, l.var);
            lanes::stmts_with(self.program, body, &constant)
        };
        let answers: Vec<_> = chain.iter().map(by_lane).collect();
        answers.iter().copied().reduce(|a, b| a.or(b)).unwrap_or(Ok(())).map_err(Scalar::Lanes)?;
        // The cost of leaving it to the loops inside; without any, of scalar code.
        let cost = if inner_loops { self.inside_cost(body) } else { self.cost(body, None) * 0.95 };
        let mut best = Best { cost, at: None, ends: 0.0, reason: Scalar::NoUnitStride };
        for (at, l) in chain.iter().enumerate().rev() {
            if l.kind != LoopKind::Serial {
                continue;
            }
            if let Err(refusal) = answers[at] {
                best.reason = Scalar::Lanes(refusal);
                continue;
            }
            if guarded_by(self.program, &self.extents, &l.body, l.var) {
                best.reason = Scalar::Padding;
                continue;
            }
            // A loop that carries a reduction can only be vectorised where it stands innermost.
            let ends = match carried(l, &self.extents) {
                Carried::Nothing => 0.0,
                Carried::Reductions(_) if !inner_loops && at + 1 == chain.len() => COMBINE,
                Carried::Reductions(_) | Carried::Other => {
                    best.reason = Scalar::Dependence;
                    continue;
                }
            };
            let cost = self.cost(body, Some((l.var, l.extent)));
            if cost < best.cost * if best.at.is_some() { 0.9 } else { 1.0 } {
                best = Best { cost, at: Some(at), ends, ..best };
            }
        }
        Ok(best)
    }

    /// From which loop of the chain on everything is one reduction, so that its lane accumulators can live
    /// outside of it.
    fn hoist(&self, chain: &[&For], body: &[Stmt], at: usize) -> usize {
        let mut from = at;
        if at + 1 != chain.len() {
            return at;
        }
        let only_reductions = body.iter().all(|s| matches!(s, Stmt::Reduce(_) | Stmt::Temp(_)));
        while from > 0 && only_reductions && chain[from - 1].kind == LoopKind::Serial {
            match carried(chain[from - 1], &self.extents) {
                Carried::Reductions(_) => from -= 1,
                _ => break,
            }
        }
        from
    }

    /// The cost of one execution of `body`, when `lane` runs as vector lanes (or nothing does): accesses and
    /// operations, a strided access of a vector counting as one per lane.
    fn cost(&self, body: &[Stmt], lane: Option<(Var, usize)>) -> f64 {
        // Of a value of 64 bits, a vector is two registers.
        let width = |dtype| if lane.is_some() { lanes::registers(dtype) as f64 } else { 1.0 };
        // Per element: the share of a vector operation, ragged ends included.
        let share = lane.map_or(1.0, |(_, n)| cost::lane_share(n, self.limits.lanes));
        let access = |buf, index: &[Index]| match lane {
            None => 1.0,
            Some(_) if lanes::lookup(self.program, buf, index).is_some() => share * lanes::LOOKUP,
            Some((v, _)) => match stride(self.program, buf, index, v) {
                Some(0 | 1) => share * width(self.program.buf(buf).dtype),
                _ => cost::LANE,
            },
        };
        let value = |e: &Expr, dtype| {
            let load =
                |l: &Load| access(l.buf, &l.index) * if l.otherwise.is_some() { cost::GUARD } else { 1.0 };
            cost::value(e, share * width(dtype), load)
        };
        let dtype = |buf| self.program.buf(buf).dtype;
        body.iter()
            .map(|s| match s {
                Stmt::For(l) => l.extent as f64 * self.cost(&l.body, lane),
                Stmt::Store(s) => SCATTER * access(s.buf, &s.index) + value(&s.value, dtype(s.buf)),
                Stmt::Reduce(r) => access(r.buf, &r.index) + value(&r.value, dtype(r.buf)),
                Stmt::Temp(_) => 0.0,
                Stmt::Call(_) => 1000.0,
            })
            .sum()
    }

    /// The cost of one execution of `body` when each of its loop nests is vectorised for itself.
    fn inside_cost(&self, body: &[Stmt]) -> f64 {
        let nest = |l: &For| {
            let (chain, inner) = perfect(l);
            let times: f64 = chain.iter().map(|l| l.extent as f64).product();
            let inside = has_loop(inner);
            let cost = match self.best(&chain, inner) {
                Ok(best) => {
                    let ends = best.ends / best.at.map_or(1.0, |at| chain[at].extent as f64);
                    // That of loops further in is a part of the best already.
                    let scalar = if inside { f64::INFINITY } else { self.cost(inner, None) };
                    (ends + best.cost).min(scalar)
                }
                Err(_) if inside => self.inside_cost(inner),
                Err(_) => self.cost(inner, None),
            };
            times * cost
        };
        body.iter()
            .map(|s| match s {
                Stmt::For(l) => nest(l),
                other => self.cost(std::slice::from_ref(other), None),
            })
            .sum()
    }
}
