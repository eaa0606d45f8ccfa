//! Parallelize: independent loops of each statement of a nest run on several threads, cut into parts: the outermost one
//! that has enough iterations, or several together. How many parts follows from the work and the number of threads.
//!
//! Only which iterations run where is decided here; the arithmetic stays as it is, so that results do not
//! depend on the number of threads.

mod cut;
mod share;

use std::collections::BTreeSet;

use nestjit_ir::access::carried::independent;
use nestjit_ir::visit::{declared_temps, walk_exprs, walk_stmts};
use nestjit_ir::{BufId, Expr, For, LoopKind, Nest, Program, Role, Stmt};

use self::cut::Costs;
pub use self::share::{Share, shares};
use super::{PassContext, cost};
use crate::error::Result;
use crate::machine::MachineModel;
use crate::passes::schedule::chain::{drop_bare_unit_loops, extents_of, rechain, unchain};
use crate::remark::{Cut, Reason, Remark, Serial};
use crate::unit::Unit;

/// Marks parallel loops.
///
/// # Errors
/// None; the signature is the pipeline's.
pub fn run(unit: &mut Unit, ctx: &PassContext<'_>, remarks: &mut Vec<Remark>) -> Result<bool> {
    let mut changed = false;
    for n in 0..unit.program.nests.len() {
        let mut nest = std::mem::take(&mut unit.program.nests[n]);
        drop_bare_unit_loops(&mut nest.body);
        let mut marked = Vec::new();
        let mut reasons = BTreeSet::new();
        for stmt in &mut nest.body {
            match parallelize(stmt, ctx.threads, ctx.target) {
                Ok(of_stmt) => marked.push(of_stmt),
                Err(reason) => {
                    reasons.insert(reason);
                }
            }
        }
        if !marked.is_empty() {
            changed = true;
            share_outer_locals(&mut unit.program, &mut nest);
        }
        remarks.push(remark(&nest, marked, &reasons));
        unit.program.nests[n] = nest;
    }
    Ok(changed)
}

/// Marks the loops of one statement that are to be cut; otherwise says why not.
fn parallelize(stmt: &mut Stmt, threads: usize, machine: &MachineModel) -> Choice {
    let work = cost::work(std::slice::from_ref(stmt), machine).nanoseconds();
    let Stmt::For(l) = stmt else { return Err(Serial::NoLoop) };
    if threads < 2 {
        return Err(Serial::OneThread);
    }
    let costs = Costs::on(machine);
    let worth = costs.worth(work, threads);
    if worth < 2 {
        return Err(Serial::Small);
    }
    let empty = For { var: l.var, extent: 0, kind: LoopKind::Serial, body: Vec::new() };
    let (mut chain, body) = unchain(std::mem::replace(l, empty));
    let extents = independent_extents(&chain, &body, worth);
    let cut = costs.choose(&extents, work, threads);
    let result = match &cut {
        Some(cut) => Ok(Cut {
            extents: cut.loops.iter().map(|l| chain[l.0].extent).collect(),
            parts: cut.parts(),
            worth: cut.worth,
        }),
        None if extents.is_empty() => Err(Serial::Dependence),
        None => Err(Serial::NoLoop),
    };
    for (to, (from, parts)) in cut.iter().flat_map(|cut| &cut.loops).enumerate() {
        let mut chosen = chain.remove(*from);
        chosen.kind = LoopKind::in_parts(*parts);
        chain.insert(to, chosen);
    }
    if let Some(s) = rechain(chain, body).pop() {
        *stmt = s;
    }
    result
}

/// What was marked, or why nothing was.
type Choice = std::result::Result<Cut, Serial>;

/// The extents of the outermost loops whose iterations are independent: all of them can be exchanged and cut. After one
/// that has enough iterations for the threads, no more are looked at.
fn independent_extents(chain: &[For], body: &[Stmt], threads: usize) -> Vec<usize> {
    let mut extents = Vec::new();
    let around = extents_of(chain);
    for at in 0..chain.len() {
        let inner = || rechain(chain[at + 1..].to_vec(), body.to_vec());
        if chain[at].kind != LoopKind::Serial
            || !independent(&For { body: inner(), ..chain[at].clone() }, &around)
        {
            break;
        }
        extents.push(chain[at].extent);
        if cut::is_even(chain[at].extent, threads) {
            break;
        }
    }
    extents
}

/// Locals declared beside the loops of a nest are shared by the threads of a parallel loop, and by the statements
/// before and after one, which are functions of their own. They become temporaries of the program.
fn share_outer_locals(program: &mut Program, nest: &mut Nest) {
    let parallel = |s: &Stmt| matches!(s, Stmt::For(l) if l.kind.is_parallel());
    let mut shared = BTreeSet::new();
    for (at, stmt) in nest.body.iter().enumerate() {
        let Stmt::Temp(local) = stmt else { continue };
        let after = &nest.body[at + 1..];
        let first = after.iter().position(parallel).unwrap_or(after.len());
        if after[first..].iter().any(|s| uses(s, *local)) {
            shared.insert(*local);
        }
    }
    for &b in &shared {
        program.buf_mut(b).role = Role::Temp;
    }
    nest.body.retain(|s| !matches!(s, Stmt::Temp(b) if shared.contains(b)));
}

/// Whether a statement touches this buffer, and does not declare it.
fn uses(stmt: &Stmt, buf: BufId) -> bool {
    let body = std::slice::from_ref(stmt);
    let mut found = false;
    walk_stmts(body, &mut |s| match s {
        Stmt::Store(s) => found |= s.buf == buf,
        Stmt::Reduce(r) => found |= r.buf == buf,
        _ => {}
    });
    walk_exprs(body, &mut |e| found |= matches!(e, Expr::Load(l) if l.buf == buf));
    found && !declared_temps(body).contains(&buf)
}

fn remark(nest: &Nest, cuts: Vec<Cut>, reasons: &BTreeSet<Serial>) -> Remark {
    let reason = match reasons.first() {
        _ if !cuts.is_empty() => Reason::Parallel(cuts),
        Some(why) => Reason::Serial(*why),
        None => Reason::Serial(Serial::NoLoop),
    };
    Remark::nest(&nest.name, reason)
}
