//! Saying the statements of a nest more simply, without changing a single bit of any result.

mod expr;
mod scalars;

use nestjit_ir::visit::{self, Extents};
use nestjit_ir::{Affine, Program, Stmt};

pub use scalars::remove_dead_locals;

/// Simplifies the statements of one nest; whether they changed.
pub fn simplify_body(program: &Program, body: &mut Vec<Stmt>) -> bool {
    let mut changed = has_trivial_loop(body);
    if changed {
        remove_trivial_loops(body);
    }
    let extents = Extents::of(body);
    visit::walk_exprs_mut(body, &mut |e| changed |= expr::simplify(program, &extents, e));
    changed |= scalars::forward(program, body);
    changed | remove_empty_loops(body)
}

/// Whether some loop runs once or never.
fn has_trivial_loop(body: &[Stmt]) -> bool {
    body.iter().any(|s| match s {
        Stmt::For(l) => l.extent <= 1 || has_trivial_loop(&l.body),
        Stmt::Store(_) | Stmt::Reduce(_) | Stmt::Temp(_) | Stmt::Call(_) => false,
    })
}

/// Loops that run once or never.
fn remove_trivial_loops(body: &mut Vec<Stmt>) {
    let old = std::mem::take(body);
    for stmt in old {
        match stmt {
            Stmt::For(l) if l.extent == 0 => {}
            Stmt::For(mut l) => {
                remove_trivial_loops(&mut l.body);
                if l.extent == 1 {
                    visit::subst_var(&mut l.body, l.var, &Affine::constant(0));
                    body.append(&mut l.body);
                } else {
                    body.push(Stmt::For(l));
                }
            }
            stmt => body.push(stmt),
        }
    }
}

/// Removes loops with nothing in them; whether there were any.
pub fn remove_empty_loops(body: &mut Vec<Stmt>) -> bool {
    prune(body, &mut |s| !matches!(s, Stmt::For(l) if l.body.is_empty()))
}

/// Removes the statements that are not to be kept, at any depth, inner ones first; whether there were any.
pub fn prune(body: &mut Vec<Stmt>, keep: &mut dyn FnMut(&Stmt) -> bool) -> bool {
    let (before, mut removed) = (body.len(), false);
    body.retain_mut(|s| {
        if let Stmt::For(l) = s {
            removed |= prune(&mut l.body, keep);
        }
        keep(s)
    });
    removed | (body.len() < before)
}
