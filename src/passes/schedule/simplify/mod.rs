//! Saying the statements of a nest more simply, without changing a single bit of any result.

mod expr;
mod scalars;

use nestjit_ir::visit::{self, Extents};
use nestjit_ir::{Affine, Program, Stmt};

pub use scalars::remove_dead_locals;

/// Simplifies the statements of one nest.
pub fn simplify_body(program: &Program, body: &mut Vec<Stmt>) {
    remove_trivial_loops(body);
    let extents = Extents::of(body);
    visit::walk_exprs_mut(body, &mut |e| expr::simplify(program, &extents, e));
    scalars::forward(program, body);
    remove_empty_loops(body);
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

/// Loops with nothing in them.
pub fn remove_empty_loops(body: &mut Vec<Stmt>) {
    body.retain_mut(|s| match s {
        Stmt::For(l) => {
            remove_empty_loops(&mut l.body);
            !l.body.is_empty()
        }
        _ => true,
    });
}

/// Removes the statements that are not to be kept, at any depth.
pub fn prune(body: &mut Vec<Stmt>, keep: &mut dyn FnMut(&Stmt) -> bool) {
    body.retain_mut(|s| {
        if let Stmt::For(l) = s {
            prune(&mut l.body, keep);
        }
        keep(s)
    });
}
