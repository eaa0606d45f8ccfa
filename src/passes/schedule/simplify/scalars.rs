//! Forwarding of scalar locals: `%t = e; %y = f(%t)` becomes `%y = f(e)`.
//!
//! A scalar that is stored once goes into its only use if that is not in an inner loop (nothing is computed
//! more often than before) and nothing in between writes what `e` reads. Constants, and copies of scalars that
//! do not change any more, go into every use. What is left without a reader is removed.

use nestjit_ir::access::{AccessKind, accesses};
use nestjit_ir::hash::{FastMap, FastSet};
use nestjit_ir::{BufId, Buffer, Expr, Load, Program, Role, Stmt, visit};

/// Expressions do not grow beyond this many operations: code generation keeps them in registers.
const MAX_EXPRESSION: usize = 192;

#[derive(Clone, Copy, Default)]
struct Uses {
    writes: usize,
    loads: usize,
}

/// Forwards scalars in a nest, and removes locals that nobody reads; whether there was anything to do.
pub fn forward(program: &Program, body: &mut Vec<Stmt>) -> bool {
    if !has_locals(body) {
        return false;
    }
    let mut uses: FastMap<BufId, Uses> = FastMap::default();
    for access in accesses(body) {
        let entry = uses.entry(access.buf).or_default();
        match access.kind {
            AccessKind::Read => entry.loads += 1,
            AccessKind::Write | AccessKind::Update(_) => entry.writes += 1,
        }
    }
    uses.retain(|b, _| program.buf(*b).role == Role::Local && program.buf(*b).shape.is_empty());
    let forwarded = forward_in(body, &mut uses);
    forwarded | remove_dead_locals(body, &program.buffers)
}

fn forward_in(block: &mut [Stmt], uses: &mut FastMap<BufId, Uses>) -> bool {
    let mut forwarded = false;
    for at in 0..block.len() {
        if let Stmt::For(l) = &mut block[at] {
            forwarded |= forward_in(&mut l.body, uses);
            continue;
        }
        let Stmt::Store(store) = &block[at] else { continue };
        let Some(&Uses { writes: 1, loads }) = uses.get(&store.buf) else { continue };
        if loads == 0 {
            continue;
        }
        let (buf, value) = (store.buf, store.value.clone());
        let rest = &mut block[at + 1..];
        let done = match everywhere(&value, rest) && loads_in(rest, buf) == loads {
            true => {
                if let Expr::Load(l) = &value {
                    uses.entry(l.buf).or_default().loads += loads - 1;
                }
                true
            }
            false => loads == 1 && size(&value) <= MAX_EXPRESSION && reaches(&value, buf, rest),
        };
        if done {
            visit::map_loads(rest, &mut |l| (l.buf == buf).then(|| value.clone()));
            uses.insert(buf, Uses { writes: 1, loads: 0 });
            forwarded = true;
        }
    }
    forwarded
}

/// Whether any local is declared. Most nests are plain.
fn has_locals(body: &[Stmt]) -> bool {
    body.iter().any(|s| match s {
        Stmt::Temp(_) => true,
        Stmt::For(l) => has_locals(&l.body),
        Stmt::Store(_) | Stmt::Reduce(_) | Stmt::Call(_) => false,
    })
}

/// Whether a value may be used instead of a scalar anywhere in `rest`: a literal, or another scalar that does
/// not change there.
fn everywhere(value: &Expr, rest: &[Stmt]) -> bool {
    match value {
        Expr::Const(_) => true,
        Expr::Load(Load { buf, index, .. }) if index.is_empty() => !rest.iter().any(|s| writes(s, &[*buf])),
        _ => false,
    }
}

fn loads_in(body: &[Stmt], buf: BufId) -> usize {
    let mut n = 0;
    visit::walk_exprs(body, &mut |e| n += usize::from(matches!(e, Expr::Load(l) if l.buf == buf)));
    n
}

/// Whether the only load of `buf` is in a statement of the block itself, and until there nothing that `value`
/// reads is written.
fn reaches(value: &Expr, buf: BufId, rest: &[Stmt]) -> bool {
    let mut read = Vec::new();
    visit::walk_expr(value, &mut |e| {
        if let Expr::Load(l) = e {
            read.push(l.buf);
        }
    });
    for stmt in rest {
        let mut found = false;
        let mut total = 0;
        visit::walk_exprs(std::slice::from_ref(stmt), &mut |e| {
            total += 1;
            found |= matches!(e, Expr::Load(l) if l.buf == buf);
        });
        if found {
            return !matches!(stmt, Stmt::For(_)) && total <= MAX_EXPRESSION;
        }
        if writes(stmt, &read) {
            return false;
        }
    }
    false
}

fn writes(stmt: &Stmt, bufs: &[BufId]) -> bool {
    let mut found = false;
    visit::walk_stmts(std::slice::from_ref(stmt), &mut |s| match s {
        Stmt::Store(s) => found |= bufs.contains(&s.buf),
        Stmt::Reduce(r) => found |= bufs.contains(&r.buf),
        Stmt::Temp(b) => found |= bufs.contains(b),
        Stmt::Call(c) => found |= c.outputs.iter().any(|b| bufs.contains(b)),
        Stmt::For(_) => {}
    });
    found
}

fn size(e: &Expr) -> usize {
    let mut n = 0;
    visit::walk_expr(e, &mut |_| n += 1);
    n
}

/// Removes locals that are never loaded: what is stored into them, and their declarations; whether there were any.
pub fn remove_dead_locals(body: &mut Vec<Stmt>, buffers: &[Buffer]) -> bool {
    let mut changed = false;
    while has_locals(body) {
        let (mut read, mut used) = (FastSet::default(), FastSet::default());
        for access in accesses(body) {
            used.insert(access.buf);
            if access.kind == AccessKind::Read {
                read.insert(access.buf);
            }
        }
        let dead = |b: &BufId| buffers[b.0 as usize].role == Role::Local && !read.contains(b);
        let removed = super::prune(body, &mut |s| match s {
            Stmt::Store(s) => !dead(&s.buf),
            Stmt::Reduce(r) => !dead(&r.buf),
            Stmt::Temp(b) => used.contains(b) && !dead(b),
            Stmt::Call(_) | Stmt::For(_) => true,
        });
        if !removed {
            break;
        }
        changed = true;
    }
    changed
}
