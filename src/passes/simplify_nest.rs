//! SimplifyNests: what can be said more simply without changing a single bit of any result.
//!
//! Loops that run once become their body and loops that never run vanish; constants are folded; operations
//! that change no value go (`x * 1`, `x / 1`, `x - 0`, but not `x + 0`, which turns -0 into 0); loads that
//! provably stay inside lose their `otherwise`; scalars that are stored once are forwarded into their only use;
//! locals, buffers and nests whose values nobody reads go.
//!
//! Before: `for i < 1 { temp %t: f32; %t = %x[i] * 1.0; %y[i] = exp(%t) }`, after: `%y[0] = exp(%x[0])`.
//! Graph-level simplification is another pass.

use nestjit_ir::hash::FastSet;
use nestjit_ir::{BufId, Expr, Program, Role, Stmt, visit};

use super::PassContext;
use crate::error::Result;
use crate::passes::schedule::simplify::{prune, remove_dead_locals, remove_empty_loops, simplify_body};
use crate::remark::Remark;
use crate::unit::Unit;

/// The pass.
pub(super) fn run(unit: &mut Unit, _: &PassContext<'_>, _: &mut Vec<Remark>) -> Result<bool> {
    let program = &mut unit.program;
    let mut changed = false;
    for at in 0..program.nests.len() {
        let mut body = std::mem::take(&mut program.nests[at].body);
        changed |= simplify_body(program, &mut body);
        program.nests[at].body = body;
    }
    Ok(changed | remove_dead(program))
}

/// Removes statements that only write `temp` buffers that no nest reads, and nests that are empty then; whether there were
/// any.
fn remove_dead(program: &mut Program) -> bool {
    let mut changed = false;
    // A reader comes after the writers, so one backward walk finds chains of dead nests.
    let mut read: FastSet<BufId> = FastSet::default();
    let buffers = &program.buffers;
    for nest in program.nests.iter_mut().rev() {
        let dead =
            |b: BufId, read: &FastSet<BufId>| buffers[b.0 as usize].role == Role::Temp && !read.contains(&b);
        let mut writes_dead = false;
        visit::walk_stmts(&nest.body, &mut |s| match s {
            Stmt::Store(s) => writes_dead |= dead(s.buf, &read),
            Stmt::Reduce(r) => writes_dead |= dead(r.buf, &read),
            Stmt::Call(c) => writes_dead |= c.outputs.iter().any(|b| dead(*b, &read)),
            Stmt::For(_) | Stmt::Temp(_) => {}
        });
        if writes_dead {
            let mut own = FastSet::default();
            note_reads(&nest.body, &mut own);
            changed |= prune(&mut nest.body, &mut |s| match s {
                Stmt::Store(s) => !dead(s.buf, &read) || own.contains(&s.buf),
                Stmt::Reduce(r) => !dead(r.buf, &read) || own.contains(&r.buf),
                Stmt::Call(c) => c.outputs.is_empty() || !c.outputs.iter().all(|b| dead(*b, &read)),
                Stmt::For(_) | Stmt::Temp(_) => true,
            });
        }
        changed |= remove_dead_locals(&mut nest.body, buffers);
        changed |= remove_empty_loops(&mut nest.body);
        note_reads(&nest.body, &mut read);
    }
    let nests = program.nests.len();
    program.nests.retain(|n| !n.body.is_empty());
    changed | (program.nests.len() < nests)
}

/// Adds the buffers that are read, other than those that reductions update.
fn note_reads(body: &[Stmt], read: &mut FastSet<BufId>) {
    visit::walk_exprs(body, &mut |e| {
        if let Expr::Load(l) = e {
            read.insert(l.buf);
        }
    });
    visit::walk_stmts(body, &mut |s| {
        if let Stmt::Call(c) = s {
            read.extend(&c.inputs);
        }
    });
}
