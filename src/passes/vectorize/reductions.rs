//! Reductions whose terms may come in any order: maxima, minima, and whatever integers are combined by.
//!
//! ```text
//! for i < 672 { for j < 6 {                     for j < 6 { for k < 6 { for i < 672 {
//!   temp %part = -inf                             %total max= %x[i,j,k]
//!   for k < 6 { %part max= %x[i,j,k] }          } } }
//!   %total max= %part
//! } }
//! ```
//!
//! A reduction of reductions becomes one, and of the loops that only reduce, one along which elements are neighbours in memory
//! goes innermost. What is cut into lanes then is for the rest of Vectorize.

use nestjit_ir::access::accesses;
use nestjit_ir::visit::{walk_expr, walk_exprs};
use nestjit_ir::{BufId, DType, Expr, For, Index, LoopKind, Program, Reduce, ReduceOp, Role, Stmt, Var};

use crate::passes::schedule::chain::{rechain, unchain};
use crate::passes::schedule::indices::{index_uses, stride};

/// Regroups the reductions of a nest; whether something changed. `lanes` is the length of a vector.
pub(super) fn regroup(program: &Program, body: &mut Vec<Stmt>, lanes: usize) -> bool {
    let mut changed = false;
    // Each pass takes one level away.
    while let Some(part) = nested(program, body) {
        changed |= join(body, part);
    }
    changed | interchange(program, body, lanes)
}

/// Whether terms may be combined in any order, with the same result to the bit.
fn any_order(op: ReduceOp, dtype: DType) -> bool {
    match op {
        ReduceOp::Max | ReduceOp::Min => true,
        ReduceOp::Add | ReduceOp::Mul => !dtype.is_float(),
    }
}

/// The only statement within perfectly nested serial loops, if it is a reduction.
fn only_reduction(l: &For) -> Option<&Reduce> {
    match l.body.as_slice() {
        _ if l.kind != LoopKind::Serial => None,
        [Stmt::For(inner)] => only_reduction(inner),
        [Stmt::Reduce(r)] => Some(r),
        _ => None,
    }
}

/// Calls `f` with each block of a nest until it finds something.
fn find<T>(block: &[Stmt], f: &mut dyn FnMut(&[Stmt]) -> Option<T>) -> Option<T> {
    f(block).or_else(|| {
        block.iter().find_map(|s| match s {
            Stmt::For(l) => find(&l.body, f),
            Stmt::Store(_) | Stmt::Reduce(_) | Stmt::Temp(_) | Stmt::Call(_) => None,
        })
    })
}

/// A scalar that is nothing but a part of another reduction: it begins with what changes nothing, loops reduce to it, and right
/// behind them it is combined with the rest.
fn nested(program: &Program, body: &[Stmt]) -> Option<BufId> {
    let uses = |buf: BufId| accesses(body).iter().filter(|a| a.buf == buf).count();
    find(body, &mut |block| {
        block.windows(2).find_map(|pair| {
            let [Stmt::For(l), Stmt::Reduce(total)] = pair else { return None };
            let (inner, Expr::Load(part)) = (only_reduction(l)?, &total.value) else { return None };
            let buffer = program.buf(part.buf);
            let begins = |s: &Stmt| match s {
                Stmt::Store(s) if s.buf == part.buf => s.value.as_const(),
                _ => None,
            };
            let begin = block.iter().find_map(begins)?;
            let mut reads = false;
            walk_expr(&inner.value, &mut |e| reads |= matches!(e, Expr::Load(l) if l.buf == total.buf));
            let fits = inner.buf == part.buf
                && inner.op == total.op
                && any_order(total.op, buffer.dtype)
                && (buffer.role == Role::Local && buffer.shape.is_empty())
                && begin == total.op.identity(buffer.dtype)
                && total.index.iter().all(|i| i.as_affine().is_some())
                && !reads
                && uses(part.buf) == 3;
            fits.then_some(part.buf)
        })
    })
}

/// Lets the loops that reduce to this scalar reduce to what it is a part of.
fn join(block: &mut Vec<Stmt>, part: BufId) -> bool {
    let is_total = |s: &Stmt| match s {
        Stmt::Reduce(r) => matches!(&r.value, Expr::Load(l) if l.buf == part),
        _ => false,
    };
    let Some(at) = block.iter().position(is_total) else {
        return block.iter_mut().any(|s| match s {
            Stmt::For(l) => join(&mut l.body, part),
            Stmt::Store(_) | Stmt::Reduce(_) | Stmt::Temp(_) | Stmt::Call(_) => false,
        });
    };
    let Stmt::Reduce(total) = block.remove(at) else { return false };
    let mut pending: Vec<&mut Stmt> = block.iter_mut().collect();
    while let Some(stmt) = pending.pop() {
        match stmt {
            Stmt::For(l) => pending.extend(&mut l.body),
            Stmt::Reduce(r) if r.buf == part => {
                r.buf = total.buf;
                r.index.clone_from(&total.index);
            }
            Stmt::Reduce(_) | Stmt::Store(_) | Stmt::Temp(_) | Stmt::Call(_) => {}
        }
    }
    block.retain(|s| match s {
        Stmt::Temp(buf) => *buf != part,
        Stmt::Store(s) => s.buf != part,
        Stmt::For(_) | Stmt::Reduce(_) | Stmt::Call(_) => true,
    });
    true
}

/// Moves loops of neighbours innermost.
fn interchange(program: &Program, block: &mut [Stmt], lanes: usize) -> bool {
    let mut changed = false;
    for stmt in block {
        let Stmt::For(l) = stmt else { continue };
        if only_reduction(l).is_none() {
            changed |= interchange(program, &mut l.body, lanes);
            continue;
        }
        let nothing = For { body: Vec::new(), ..l.clone() };
        let (mut chain, body) = unchain(std::mem::replace(l, nothing));
        if let Some(at) = neighbours(program, &chain, &body, lanes) {
            let moved = chain.remove(at);
            chain.push(moved);
            changed = true;
        }
        if let Some(Stmt::For(whole)) = rechain(chain, body).pop() {
            *l = whole;
        }
    }
    changed
}

/// The loop that had better be the innermost of a chain around a reduction, if there is one.
fn neighbours(program: &Program, chain: &[For], body: &[Stmt], lanes: usize) -> Option<usize> {
    let [Stmt::Reduce(r)] = body else { return None };
    let mut reads = false;
    walk_exprs(body, &mut |e| reads |= matches!(e, Expr::Load(l) if l.buf == r.buf));
    let affine = r.index.iter().all(|i| matches!(i, Index::Affine(_)));
    if reads || !affine || !any_order(r.op, program.buf(r.buf).dtype) {
        return None;
    }
    // Elements that lie next to each other, or are the same, along a loop.
    let adjacent = |var: Var| {
        let (mut all, mut any) = (true, false);
        walk_exprs(body, &mut |e| {
            if let Expr::Load(load) = e {
                match stride(program, load.buf, &load.index, var) {
                    Some(0) => {}
                    Some(1) => any = true,
                    _ => all = false,
                }
            }
        });
        all && any
    };
    let reduces = |l: &&For| !index_uses(&r.index, l.var);
    let first = chain.len() - chain.iter().rev().take_while(reduces).count();
    let fits = |at: &usize| adjacent(chain[*at].var);
    let last = chain.len().checked_sub(1)?;
    if first > last || (fits(&last) && chain[last].extent >= lanes) {
        return None;
    }
    let best = (first..=last).filter(fits).max_by_key(|at| (chain[*at].extent, *at))?;
    (best != last).then_some(best)
}

#[cfg(test)]
mod tests {
    use nestjit_ir::verify::{Stage, verify};

    use super::*;

    fn regrouped(text: &str) -> (bool, String) {
        let mut program: Program = text.parse().unwrap();
        let mut body = std::mem::take(&mut program.nests[0].body);
        let changed = regroup(&program, &mut body, 16);
        program.nests[0].body = body;
        let errors = verify(&program, Stage::Scheduled);
        assert!(errors.is_empty(), "{errors:?}");
        (changed, program.to_string().split_whitespace().collect::<Vec<_>>().join(" "))
    }

    fn parts(head: &str, begin: &str, op: &str, more: &str) -> String {
        format!(
            "nest @n(in %x: {head}, out %y: f32) {{ %y = {begin} for i < 40 {{ for j < 6 {{ \
             temp %p: f32 %p = {begin} for k < 5 {{ %p {op} %x[i,j,k] }} %y {op} %p {more} }} }} }}"
        )
    }

    #[test]
    fn maxima_of_maxima_are_one_along_neighbours() {
        let (changed, text) = regrouped(&parts("f32[40,6,5] layout(1,2,0)", "-inf", "max=", ""));
        let one = "%y = -inf for j < 6 { for k < 5 { for i < 40 { %y max= %x[i,j,k] } } }";
        assert!(changed && text.contains(one), "{text}");
        // Neighbours are in the innermost loop already, but few.
        let (_, text) = regrouped(&parts("f32[40,6,5]", "inf", "min=", ""));
        assert!(text.contains("for i < 40 { for j < 6 { for k < 5 { %y min= %x[i,j,k] } } }"), "{text}");
    }

    #[test]
    fn other_reductions_stay_as_they_are() {
        // Sums are rounded, this one does not begin with the identity, and that part is used again.
        let ordinary = "f32[40,6,5] layout(1,2,0)";
        for text in [
            parts(ordinary, "0.0", "+=", ""),
            parts(ordinary, "0.0", "max=", ""),
            parts(ordinary, "-inf", "max=", "%y max= %p * 2.0"),
        ] {
            let (changed, after) = regrouped(&text);
            assert!(!changed && after.contains("temp %p"), "{after}");
        }
        // Each row of its own.
        let (changed, after) = regrouped(
            "nest @n(in %x: f32[40,6] layout(1,0), out %y: f32[40]) { for i < 40 { %y[i] = -inf \
             for j < 6 { %y[i] max= %x[i,j] } } }",
        );
        assert!(!changed, "{after}");
    }
}
