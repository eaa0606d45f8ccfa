//! Windows that move over what surrounds them: a padded local would be filled anew in each step, with almost the same
//! elements. What stays in the second-level cache is copied once, all of it, before the loops.

use nestjit_ir::access::carried::overwrites;
use nestjit_ir::visit::Extents;
use nestjit_ir::{Load, Program, Role, Stmt};

use crate::passes::schedule::chain::{drop_unit_loops, perfect};
use crate::passes::schedule::pad::{self, Padded, PlaneLimits};

/// How often the elements of a window would be copied at least for a copy of everything to be better: that is written to
/// memory and read from there.
const TIMES: f64 = 2.0;

/// Copies what moving windows in a statement read; the statements that do come first.
pub(super) fn copy(program: &mut Program, stmt: Stmt, limits: PlaneLimits, room: usize) -> Vec<Stmt> {
    let mut stmts = vec![stmt];
    let extents = Extents::of(&stmts);
    let mut wanted = Vec::new();
    moving(program, &extents, limits, &stmts, &mut wanted);
    let mut copies: Vec<Padded> = Vec::new();
    for load in wanted {
        let buffer = program.buf(load.buf);
        let bytes = buffer.logical_bytes();
        if buffer.role == Role::Local || bytes > room || overwrites(&extents, &stmts, &load) {
            continue;
        }
        if let Some(padded) = pad::whole(program, (&extents, &extents), &load, &mut copies) {
            pad::redirect(&mut stmts, &load, &padded);
        }
    }
    let mut out: Vec<Stmt> = copies.into_iter().flat_map(|c| c.stmts).collect();
    drop_unit_loops(&mut out);
    out.append(&mut stmts);
    out
}

/// The loads of windows that would be copied again and again, as chains of loops are given padded locals.
fn moving(program: &Program, extents: &Extents, limits: PlaneLimits, stmts: &[Stmt], found: &mut Vec<Load>) {
    for stmt in stmts {
        let Stmt::For(l) = stmt else { continue };
        let (chain, body) = perfect(l);
        let chain: Vec<_> = chain.iter().map(|l| (l.var, l.extent)).collect();
        match pad::planes(program, extents, &chain, body, limits) {
            Some(planes) => {
                let often = planes.moving(extents).into_iter().filter(|(_, times)| *times >= TIMES);
                found.extend(
                    often.map(|(load, _)| load.clone()).filter(|l| !found.contains(l)).collect::<Vec<_>>(),
                );
            }
            None => moving(program, extents, limits, body, found),
        }
    }
}
