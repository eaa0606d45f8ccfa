//! ContractTemps: a buffer used in one nest only lives where it is used, as small as its uses allow.
//!
//! Before (what OpFusion leaves) and after:
//!
//! ```text
//! for n < 64 { for m < 512 {              for n < 64 { for m < 512 {
//!   temp %acc: f32 ..                       temp %acc: f32 ..
//!   %t[n,m] = %acc                          %y[n,m] = max(%acc + %b[m], 0.0)
//!   %y[n,m] = max(%t[n,m] + %b[m], 0.0)   } }
//! } }
//! ```
//!
//! The buffer is declared at the deepest block that contains all its uses and each iteration of which uses
//! elements of its own ([`window`]). There, the loops around the block are constant: what they add to an index
//! is dropped, and each dimension shrinks to the range that remains, down to scalars. Values of elements that
//! must be stored (outputs, buffers that other nests read) are kept in a scalar for those who read them in the
//! same iteration. Scalars are then forwarded into their use by [`simplify_body`].
//!
//! Buffers used by several top-level statements of a nest stay in memory: those may run on different threads.

use std::collections::{BTreeMap, BTreeSet};

use nestjit_ir::access::{accesses, touches};
use nestjit_ir::excerpt::{Placement, Uses};
use nestjit_ir::visit;
use nestjit_ir::{BufId, Buffer, Expr, Index, Layout, Load, Program, Role, SCALAR, Stmt, Store, Var};

use super::PassContext;
use super::each_nest::{Part, each_nest};
use crate::error::Result;
use crate::passes::schedule::simplify::simplify_body;
use crate::passes::schedule::window::{Dim, window};
use crate::remark::{Reason, Remark};
use crate::unit::Unit;

/// The pass.
pub(super) fn run(unit: &mut Unit, ctx: &PassContext<'_>, remarks: &mut Vec<Remark>) -> Result<bool> {
    let mut changed = false;
    let mut users: BTreeMap<BufId, BTreeSet<usize>> = BTreeMap::new();
    let program = &mut unit.program;
    for (at, nest) in program.nests.iter().enumerate() {
        for access in accesses(&nest.body) {
            users.entry(access.buf).or_default().insert(at);
        }
    }
    let mut own: Vec<Vec<BufId>> = vec![Vec::new(); program.nests.len()];
    for (buf, nests) in users {
        if let (Role::Temp, Some(at), 1) = (program.buf(buf).role, nests.first(), nests.len()) {
            own[*at].push(buf);
        }
    }
    let numbers =
        |at: usize, uses: &Uses| -> Vec<BufId> { own[at].iter().filter_map(|b| uses.buf(*b)).collect() };
    let hint = |at: usize, uses: &Uses| numbers(at, uses).into_iter().map(|b| b.0.into()).collect();
    let contract = |part: &mut Part<'_>| contract_all(part, &numbers(part.at, part.uses));
    let placed = &mut |_, changes: &bool, _: &Placement| changed |= changes;
    each_nest(program, ctx.threads, remarks, &hint, &contract, placed);
    Ok(changed)
}

/// Contracts buffers that only this nest uses; whether something changed.
fn contract_all(part: &mut Part<'_>, own: &[BufId]) -> bool {
    let program = &mut *part.program;
    let mut touched = false;
    for &buf in own {
        let before = program.buf(buf).logical_bytes();
        if contract(program, &mut part.body, buf) {
            touched = true;
            let contracted = Reason::Contracted { before, after: program.buf(buf).logical_bytes() };
            part.remarks.push(Remark { bytes: before, ..Remark::buffer(buf, contracted) });
        }
    }
    touched |= keep_in_scalars(program, &mut part.body);
    if touched {
        simplify_body(program, &mut part.body);
    }
    touched
}

/// Makes a buffer local, if it can be.
fn contract(program: &mut Program, body: &mut Vec<Stmt>, buf: BufId) -> bool {
    let Some(window) = window(program, body, buf) else {
        // Outside all loops, a scalar may still be a register.
        let uses = |s: &Stmt| touches(s, buf);
        let scalar = program.buf(buf).shape.is_empty();
        let simple = body.iter().all(|s| !uses(s) || matches!(s, Stmt::Store(_) | Stmt::Reduce(_)));
        if scalar && simple {
            declare(program, body, buf);
        }
        return scalar && simple;
    };
    let rewrite = |index: &mut Vec<Index>| {
        let old = std::mem::take(index);
        for (i, dim) in old.into_iter().zip(&window.dims) {
            match (i, dim) {
                (Index::Affine(a), Dim::Part { base, extent }) => {
                    if *extent > 1 {
                        index.push(Index::Affine(a - base.clone()));
                    }
                }
                (i, _) => index.push(i),
            }
        }
    };
    visit::walk_stmts_mut(body, &mut |s| match s {
        Stmt::Store(s) if s.buf == buf => rewrite(&mut s.index),
        Stmt::Reduce(r) if r.buf == buf => rewrite(&mut r.index),
        _ => {}
    });
    visit::walk_exprs_mut(body, &mut |e| {
        if let Expr::Load(l) = e
            && l.buf == buf
        {
            rewrite(&mut l.index);
            if l.index.is_empty() {
                l.otherwise = None;
            }
        }
    });
    let kept = window.dims.iter().filter(|d| matches!(d, Dim::Whole(_)) || d.extent() > 1);
    program.buf_mut(buf).shape = kept.map(Dim::extent).collect();
    declare_within(program, body, &window.loops, buf);
    true
}

/// Declares a buffer within nested loops.
fn declare_within(program: &mut Program, block: &mut Vec<Stmt>, loops: &[Var], buf: BufId) {
    let Some((var, inner)) = loops.split_first() else { return declare(program, block, buf) };
    for stmt in block {
        if let Stmt::For(l) = stmt
            && l.var == *var
        {
            declare_within(program, &mut l.body, inner, buf);
        }
    }
}

/// Declares a buffer in a block, before its first use.
fn declare(program: &mut Program, block: &mut Vec<Stmt>, buf: BufId) {
    let buffer = program.buf_mut(buf);
    buffer.role = Role::Local;
    buffer.layout = Layout::row_major(buffer.shape.len());
    let uses = |s: &Stmt| touches(s, buf);
    let at = block.iter().position(uses).unwrap_or(0);
    block.insert(at, Stmt::Temp(buf));
}

/// Where an element of a buffer is stored and then loaded in the same block, the load takes the value from a scalar: the
/// buffer is in memory, or becomes rows of lanes that are, and what a few lanes store is not handed to loads before it has
/// reached the cache.
fn keep_in_scalars(program: &mut Program, block: &mut Vec<Stmt>) -> bool {
    let mut changed = false;
    let mut at = 0;
    while at < block.len() {
        if let Stmt::For(l) = &mut block[at] {
            changed |= keep_in_scalars(program, &mut l.body);
        }
        let Stmt::Store(store) = &block[at] else {
            at += 1;
            continue;
        };
        let (buf, index) = (store.buf, store.index.clone());
        let same = |l: &Load| l.buf == buf && l.index == index;
        let writes = |s: &Stmt| {
            let mut found = false;
            visit::walk_stmts(std::slice::from_ref(s), &mut |s| {
                found |= matches!(s, Stmt::Store(Store { buf: b, .. }) if *b == buf);
                found |= matches!(s, Stmt::Reduce(r) if r.buf == buf);
            });
            found
        };
        let end = (at + 1..block.len()).find(|i| writes(&block[*i])).unwrap_or(block.len());
        let mut loaded = false;
        visit::walk_exprs(&block[at + 1..end], &mut |e| loaded |= matches!(e, Expr::Load(l) if same(l)));
        let affine = index.iter().all(|i| matches!(i, Index::Affine(_)));
        let buffer = program.buf(buf);
        let scalar = buffer.role == Role::Local && buffer.shape.is_empty();
        if scalar || !loaded || !affine {
            at += 1;
            continue;
        }
        let (name, dtype) = (format!("{}_value", program.buf(buf).name), program.buf(buf).dtype);
        let name = program.unique_buffer_name(&name);
        let scalar = program.add_buffer(Buffer::new(name, dtype, &[], Role::Local));
        visit::map_loads(&mut block[at + 1..end], &mut |l| same(l).then(|| Expr::load(scalar, SCALAR)));
        if let Stmt::Store(store) = &mut block[at] {
            let value = std::mem::replace(&mut store.value, Expr::load(scalar, SCALAR));
            let keep = Stmt::Store(Store { buf: scalar, index: Vec::new(), value });
            block.splice(at..at, [Stmt::Temp(scalar), keep]);
        }
        changed = true;
        at += 3;
    }
    changed
}
