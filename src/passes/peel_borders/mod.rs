//! PeelBorders: padding leaves the inner loops.
//!
//! A load with `otherwise` is guarded wherever its index may leave the buffer. Ways out, by what is read: a
//! temporary gets a border that its producer fills (`in_place`); an input that is read many times is copied into
//! a padded temporary (`pad`), and so is what windows read that move (`windows`); a small plane that a vector loop would cross
//! the border of is copied into a padded local (`pad`); otherwise the loops are cut into border, interior, border (`split`). What remains guarded stays
//! correct.

mod in_place;
mod split;
mod windows;

use nestjit_ir::access::carried::overwrites;
use nestjit_ir::visit::{Extents, map_loads, walk_exprs, walk_stmts};
use nestjit_ir::{Buffer, Expr, For, Load, Program, Role, Stmt};

use super::PassContext;
use crate::error::Result;
use crate::passes::schedule::border::guarded_loads;
use crate::passes::schedule::chain::{drop_unit_loops, rechain, unchain};
use crate::passes::schedule::pad;
use crate::passes::schedule::tiles::leaf::leaves;
use crate::remark::{PaddingWay, Reason, Remark};
use crate::unit::Unit;

/// How often each element of an operand must be used at least for a padded copy to cost next to nothing.
const REUSE: f64 = 64.0;

/// Takes guards out of inner loops.
///
/// # Errors
/// None; the signature is the pipeline's.
pub fn run(unit: &mut Unit, ctx: &PassContext<'_>, remarks: &mut Vec<Remark>) -> Result<bool> {
    let nests = &mut unit.program.nests;
    let guarded: Vec<usize> = (0..nests.len()).filter(|&n| has_guards(&nests[n].body)).collect();
    for &n in &guarded {
        resolve(&unit.program.buffers, &Extents::of(&nests[n].body), &mut nests[n].body);
    }
    let resolved = in_place::run(&mut unit.program);
    let mut changed = !resolved.is_empty();
    for n in guarded {
        if !has_guards(&unit.program.nests[n].body) {
            let way = resolved.contains(&n).then_some(PaddingWay::InPlace);
            let reason = Reason::Padding { way, guards_remain: false };
            remarks.push(Remark::nest(&unit.program.nests[n].name, reason));
            continue;
        }
        let mut nest = std::mem::take(&mut unit.program.nests[n]);
        drop_unit_loops(&mut nest.body);
        let mut done: Vec<PaddingWay> = Vec::new();
        let limits =
            pad::PlaneLimits { bytes: ctx.target.l1_bytes() / 2, width: 8 * ctx.target.isa.f32_lanes() };
        let mut body = Vec::new();
        for stmt in nest.body {
            for stmt in copy_operands(&mut unit.program, stmt, &mut done) {
                let stmts = windows::copy(&mut unit.program, stmt, limits, ctx.target.l2_bytes() / 2);
                if stmts.len() > 1 {
                    done.push(PaddingWay::Copy);
                }
                body.extend(stmts);
            }
        }
        let extents = Extents::of(&body);
        let mut peeler = Peeler { program: &mut unit.program, limits, done: &mut done };
        nest.body = peeler.within(body, &extents);
        let reason = Reason::Padding { way: done.first().copied(), guards_remain: has_guards(&nest.body) };
        remarks.push(Remark::nest(&nest.name, reason));
        changed |= !done.is_empty();
        unit.program.nests[n] = nest;
    }
    Ok(changed)
}

/// Whether there is a load with `otherwise`.
fn has_guards(body: &[Stmt]) -> bool {
    let mut found = false;
    walk_exprs(body, &mut |e| found |= matches!(e, Expr::Load(Load { otherwise: Some(_), .. })));
    found
}

/// Drops `otherwise` where the index is always inside, and the load where it is always outside.
fn resolve(buffers: &[Buffer], extents: &Extents, body: &mut [Stmt]) {
    map_loads(body, &mut |l| {
        let otherwise = l.otherwise.as_ref()?;
        let mut inside = true;
        for (i, &size) in l.index.iter().zip(&buffers[l.buf.0 as usize].shape) {
            match i.as_affine().and_then(|a| extents.range(a)) {
                Some((_, hi)) if hi < 0 => return Some((**otherwise).clone()),
                Some((lo, _)) if lo >= size as i64 => return Some((**otherwise).clone()),
                Some((lo, hi)) => inside &= lo >= 0 && hi < size as i64,
                None => inside = false,
            }
        }
        inside.then(|| Expr::Load(Load { otherwise: None, ..l.clone() }))
    });
}

/// Padded copies for operands of contractions that are used often; the statements that make them come first.
fn copy_operands(program: &mut Program, stmt: Stmt, done: &mut Vec<PaddingWay>) -> Vec<Stmt> {
    let mut stmts = vec![stmt];
    let extents = Extents::of(&stmts);
    let mut wanted: Vec<Load> = Vec::new();
    for leaf in leaves(program, &stmts) {
        for load in leaf.contractions.iter().flat_map(|c| &c.loads) {
            let buffer = program.buf(load.buf);
            let reads = pad::elements(program, &extents, load);
            let reuse = leaf.macs() / reads.max(1) as f64;
            let outside = buffer.role != Role::Local && !overwrites(&extents, &stmts, load);
            if load.otherwise.is_some() && reuse >= REUSE && outside && !wanted.contains(load) {
                wanted.push(load.clone());
            }
        }
    }
    let mut copies = Vec::new();
    for load in wanted {
        if let Some(padded) = pad::whole(program, (&extents, &extents), &load, &mut copies) {
            pad::redirect(&mut stmts, &load, &padded);
            done.push(PaddingWay::Copy);
        }
    }
    // What else reads the same (sums of windows beside a product of bytes) need not look for the border either.
    for load in guarded_loads(&stmts) {
        if let Some(padded) = pad::known(program, &extents, &load, &copies) {
            pad::redirect(&mut stmts, &load, padded);
        }
    }
    let mut out: Vec<Stmt> = copies.into_iter().flat_map(|c| c.stmts).collect();
    drop_unit_loops(&mut out);
    out.append(&mut stmts);
    out
}

struct Peeler<'a> {
    program: &'a mut Program,
    limits: pad::PlaneLimits,
    done: &'a mut Vec<PaddingWay>,
}

impl Peeler<'_> {
    /// `extents` knows all loops of the nest.
    fn within(&mut self, stmts: Vec<Stmt>, extents: &Extents) -> Vec<Stmt> {
        let mut out = Vec::new();
        for stmt in stmts {
            match stmt {
                Stmt::For(l) if has_guards(&l.body) => out.extend(self.nest(l, extents)),
                other => out.push(other),
            }
        }
        out
    }

    /// Whether guarded loads are only copied into locals: little work beside what reads these, so that cutting the
    /// loops around everything would cost more than it brings.
    fn only_copied(&self, body: &[Stmt]) -> bool {
        let (mut guarded, mut copied) = (0, 0);
        walk_exprs(body, &mut |e| {
            guarded += usize::from(matches!(e, Expr::Load(Load { otherwise: Some(_), .. })));
        });
        walk_stmts(body, &mut |s| {
            if let Stmt::Store(s) = s
                && self.program.buf(s.buf).role == Role::Local
                && matches!(s.value, Expr::Load(Load { otherwise: Some(_), .. }))
            {
                copied += 1;
            }
        });
        guarded == copied
    }

    /// A chain of loops that reads padded locals; what it was if that is not possible.
    fn planes(
        &mut self,
        chain: Vec<For>,
        body: Vec<Stmt>,
        extents: &Extents,
    ) -> std::result::Result<Vec<Stmt>, (Vec<For>, Vec<Stmt>)> {
        let loops: Vec<_> = chain.iter().map(|l| (l.var, l.extent)).collect();
        let Some(planes) = pad::planes(self.program, extents, &loops, &body, self.limits) else {
            return Err((chain, body));
        };
        let (at, padded) = pad::make(self.program, planes);
        self.done.push(PaddingWay::Plane);
        let (outer, inner) = (chain[..at].to_vec(), chain[at..].to_vec());
        let mut inner = rechain(inner, body);
        let mut stmts = Vec::new();
        for (load, padded) in padded {
            pad::redirect(&mut inner, &load, &padded);
            stmts.extend(padded.stmts);
        }
        stmts.extend(inner);
        Ok(rechain(outer, stmts))
    }

    /// Padded locals for loops further in, where merged nests have loops of their own.
    fn planes_within(&mut self, stmts: Vec<Stmt>, extents: &Extents) -> Vec<Stmt> {
        let mut out = Vec::new();
        for stmt in stmts {
            match stmt {
                Stmt::For(l) if has_guards(&l.body) => {
                    let (chain, body) = unchain(l);
                    match self.planes(chain, body, extents) {
                        Ok(stmts) => out.extend(stmts),
                        Err((chain, body)) => {
                            let body = self.planes_within(body, extents);
                            out.extend(rechain(chain, body));
                        }
                    }
                }
                other => out.push(other),
            }
        }
        out
    }

    fn nest(&mut self, l: For, extents: &Extents) -> Vec<Stmt> {
        let (chain, body) = unchain(l);
        let (chain, body) = match self.planes(chain, body, extents) {
            Ok(stmts) => return stmts,
            Err(unchanged) => unchanged,
        };
        let body = self.planes_within(body, extents);
        let loads = guarded_loads(&body);
        let cuts = split::cuts(self.program, extents, &chain, &loads);
        if cuts.is_empty() || (body.len() > 1 && self.only_copied(&body)) {
            let body = self.within(body, extents);
            return rechain(chain, body);
        }
        self.done.push(PaddingWay::Peeled);
        let mut stmts = split::split(self.program, chain, body, &cuts);
        split::shorten(self.program, &mut stmts, extents);
        stmts
    }
}
