//! The stages of a ring: nests that are one perfect loop nest each, and how a stage reads the rows of another.
//!
//! Everything is found by the roles of loops and indices. What to do with the stages is for `plan` and `build`.

use nestjit_ir::access::carried::all_independent;
use nestjit_ir::visit::{Extents, walk_exprs, walk_stmts};
use nestjit_ir::{
    BinOp, BufId, DType, Expr, For, Index, Load, LoopKind, Nest, Program, Role, Scalar, Stmt, Store, Var,
};

use super::tail::{Split, split};
use crate::passes::schedule::indices::only_f32;

/// A nest that computes rows of a tensor.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct RingStage {
    /// The position of the nest.
    pub nest: usize,
    /// The loops around the statements, outermost first, without their bodies.
    pub chain: Vec<For>,
    /// What the innermost of them does.
    pub body: Vec<Stmt>,
    /// The loop over rows.
    pub row: Var,
}

impl RingStage {
    /// The loop of the chain over this variable.
    pub fn loop_of(&self, var: Var) -> Option<&For> {
        self.chain.iter().find(|l| l.var == var)
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.loop_of(self.row).map_or(0, |l| l.extent)
    }

    /// The extents of all loops.
    pub fn extents(&self) -> Extents {
        let mut extents = Extents::of(&self.body);
        self.chain.iter().for_each(|l| extents.set(l.var, l.extent));
        extents
    }

    /// Multiply-adds, or other operations, of one row.
    pub fn row_work(&self) -> f64 {
        let others = self.chain.iter().filter(|l| l.var != self.row);
        others.map(|l| l.extent as f64).product::<f64>() * innermost(&self.body)
    }

    /// The bytes of constants that it reads.
    pub fn weights(&self, program: &Program) -> usize {
        let mut seen: Vec<BufId> = Vec::new();
        walk_exprs(&self.body, &mut |e| {
            if let Expr::Load(l) = e
                && program.buf(l.buf).role == Role::Const
                && !seen.contains(&l.buf)
            {
                seen.push(l.buf);
            }
        });
        seen.into_iter().map(|b| program.buf(b).logical_bytes()).sum()
    }
}

/// How often innermost statements run.
fn innermost(body: &[Stmt]) -> f64 {
    body.iter()
        .map(|s| match s {
            Stmt::For(l) => l.extent as f64 * innermost(&l.body),
            Stmt::Temp(_) => 0.0,
            Stmt::Store(_) | Stmt::Reduce(_) | Stmt::Call(_) => 1.0,
        })
        .sum()
}

/// The rows of a tensor that another stage reads for its own row `o`: `stride * o + low .. + span`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Window {
    pub stride: usize,
    pub low: i64,
    pub span: usize,
    /// What is read beyond the first and the last row, if anything is.
    pub fill: Option<Scalar>,
}

/// The loops of a nest, if it is a perfect chain of independent serial loops around `f32` statements.
pub(super) fn chain_of(program: &Program, nest: &Nest) -> Option<(Vec<For>, Vec<Stmt>)> {
    let split = split(&nest.body)?;
    let alone = split.rest.is_empty();
    alone.then(|| independent_chain(program, split)).flatten().map(|s| (s.chain, s.body))
}

/// The same if statements follow the chain.
pub(super) fn independent_chain(program: &Program, split: Split) -> Option<Split> {
    let Split { chain, body, .. } = &split;
    if chain.iter().any(|l| l.kind != LoopKind::Serial || l.extent == 0)
        || !only_f32(program, body)
        || !reads_f32(program, body)
    {
        return None;
    }
    // A reduction at the end of the chain belongs to the statements.
    if matches!(body.as_slice(), [Stmt::Reduce(_)]) {
        return None;
    }
    all_independent(chain, body).then_some(split)
}

/// Whether what is read from elsewhere is `f32` in memory too: so are strips, and borders around what is read.
fn reads_f32(program: &Program, body: &[Stmt]) -> bool {
    let mut ok = true;
    walk_exprs(body, &mut |e| {
        if let Expr::Load(l) = e {
            let buffer = program.buf(l.buf);
            ok &= buffer.role == Role::Local || buffer.dtype == DType::F32;
        }
    });
    ok
}

/// The one store of a body into what others see.
pub(super) fn only_store(program: &Program, body: &[Stmt]) -> Option<Store> {
    let mut stores = Vec::new();
    walk_stmts(body, &mut |s| match s {
        Stmt::Store(s) if program.buf(s.buf).role != Role::Local => stores.push(s.clone()),
        Stmt::Reduce(r) if program.buf(r.buf).role != Role::Local => {
            stores.push(Store { buf: r.buf, index: Vec::new(), value: r.value.clone() });
        }
        _ => {}
    });
    match <[Store; 1]>::try_from(stores) {
        Ok([store]) if !store.index.is_empty() => Some(store),
        _ => None,
    }
}

/// Every load of `buf`.
pub(super) fn loads_of(body: &[Stmt], buf: BufId) -> Vec<Load> {
    let mut loads: Vec<Load> = Vec::new();
    walk_exprs(body, &mut |e| {
        if let Expr::Load(l) = e
            && l.buf == buf
            && !loads.contains(l)
        {
            loads.push(l.clone());
        }
    });
    loads
}

/// The loop of `chain` whose rows of dimension `dim` of a buffer of `rows` rows `loads` read, and which.
pub(super) fn window(
    extents: &Extents,
    chain: &[For],
    loads: &[Load],
    dim: usize,
    rows: usize,
) -> Option<(Var, Window)> {
    let mut found: Option<(Var, Window)> = None;
    for load in loads {
        let index = load.index.get(dim)?.as_affine()?;
        let mut around = chain.iter().filter(|l| index.uses(l.var));
        let (row, None) = (around.next()?, around.next()) else { return None };
        let elsewhere = |(d, i): (usize, &Index)| d != dim && i.as_affine().is_none_or(|a| a.uses(row.var));
        if load.index.iter().enumerate().any(elsewhere) {
            return None;
        }
        let stride = usize::try_from(index.coeff(row.var)).ok().filter(|s| *s > 0)?;
        let rest = index.subst(row.var, &nestjit_ir::Affine::constant(0));
        let (low, high) = extents.range(&rest)?;
        let (first, last) = extents.range(index)?;
        let outside = first < 0 || last >= i64::try_from(rows).ok()?;
        let fill = match (&load.otherwise, outside) {
            (Some(value), true) => Some(value.as_const().filter(|c| c.dtype() == DType::F32)?),
            (None, true) => return None,
            (_, false) => None,
        };
        let new = Window { stride, low, span: usize::try_from(high - low).ok()? + 1, fill };
        found = Some(match found {
            None => (row.var, new),
            Some((var, w)) => {
                let agree = var == row.var && w.stride == stride;
                let same_fill = w.fill.is_none() || fill.is_none() || w.fill == fill;
                if !agree || !same_fill {
                    return None;
                }
                let end = (w.low + w.span as i64).max(low + new.span as i64);
                let low = w.low.min(low);
                (var, Window { stride, low, span: (end - low) as usize, fill: w.fill.or(fill) })
            }
        });
    }
    found
}

/// Whether `var` is a loop over independent items that share all constants: a batch.
pub(super) fn is_batch(program: &Program, chain: &[For], body: &[Stmt], var: Var) -> bool {
    let mut shared = chain.first().is_some_and(|l| l.var == var);
    walk_exprs(body, &mut |e| {
        if let Expr::Load(l) = e
            && program.buf(l.buf).role == Role::Const
        {
            shared &= l.index.iter().all(|i| i.as_affine().is_some_and(|a| !a.uses(var)));
        }
    });
    shared
}

/// Whether a body sums up products: what reads its constants again for every row.
pub(super) fn contracts(body: &[Stmt]) -> bool {
    let mut found = false;
    walk_stmts(body, &mut |s| {
        found |= matches!(s, Stmt::Reduce(r) if matches!(r.value, Expr::Binary(BinOp::Mul, ..)));
    });
    found
}
