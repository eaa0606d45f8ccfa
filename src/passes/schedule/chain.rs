//! Chains of loops: taking them apart and putting them together, extents, loops that run once.
//!
//! What depends on a loop's variable is `indices`'s, what iterations pass to each other `carried`'s.

use nestjit_ir::visit::{Extents, subst_var, walk_loops};
use nestjit_ir::{Affine, For, LoopKind, Stmt, Var};

/// Whether there is a loop of this kind in `body`.
pub fn has_kind(body: &[Stmt], kind: LoopKind) -> bool {
    let mut found = false;
    walk_loops(body, &mut |l| found |= l.kind == kind);
    found
}

/// Whether there is any loop in `body`.
pub fn has_loop(body: &[Stmt]) -> bool {
    body.iter().any(|s| matches!(s, Stmt::For(_)))
}

/// Replaces loops that run once by their bodies.
pub fn drop_unit_loops(body: &mut Vec<Stmt>) -> bool {
    drop_loops(body, &|l| l.extent == 1)
}

/// Replaces loops that run once by their bodies, unless locals are declared there: such a loop may be there to
/// keep their scope small.
pub fn drop_bare_unit_loops(body: &mut Vec<Stmt>) -> bool {
    drop_loops(body, &|l| l.extent == 1 && !l.body.iter().any(|s| matches!(s, Stmt::Temp(_))))
}

fn drop_loops(body: &mut Vec<Stmt>, goes: &dyn Fn(&For) -> bool) -> bool {
    let mut changed = false;
    let mut i = 0;
    while i < body.len() {
        if let Stmt::For(l) = &mut body[i] {
            changed |= drop_loops(&mut l.body, goes);
            if goes(l) {
                let mut inner = std::mem::take(&mut l.body);
                subst_var(&mut inner, l.var, &Affine::constant(0));
                let n = inner.len();
                body.splice(i..=i, inner);
                changed = true;
                i += n;
                continue;
            }
        }
        i += 1;
    }
    changed
}

/// The extents of a chain of loops.
pub fn extents_of(chain: &[For]) -> Extents {
    let mut extents = Extents::default();
    chain.iter().for_each(|l| extents.set(l.var, l.extent));
    extents
}

/// A loop of a certain kind.
pub fn looped(var: Var, extent: usize, kind: LoopKind, body: Vec<Stmt>) -> Stmt {
    Stmt::For(For { var, extent, kind, body })
}

/// The loops of a perfect chain, outermost first, each with all that is in it, and the body of the innermost.
pub fn perfect(l: &For) -> (Vec<&For>, &[Stmt]) {
    let mut chain = vec![l];
    let mut body = l.body.as_slice();
    while let [Stmt::For(inner)] = body {
        chain.push(inner);
        body = &inner.body;
    }
    (chain, body)
}

/// The loops of a perfect chain, headers only, and the body of the innermost.
pub fn unchain(l: For) -> (Vec<For>, Vec<Stmt>) {
    let mut chain = Vec::new();
    let mut current = l;
    loop {
        let mut body = std::mem::take(&mut current.body);
        chain.push(current);
        match body.as_slice() {
            [Stmt::For(_)] => {
                let Some(Stmt::For(next)) = body.pop() else { return (chain, body) };
                current = next;
            }
            _ => return (chain, body),
        }
    }
}

/// The inverse of [`unchain`]: loops around a body, outermost first.
pub fn rechain(chain: Vec<For>, body: Vec<Stmt>) -> Vec<Stmt> {
    chain.into_iter().rev().fold(body, |body, l| vec![Stmt::For(For { body, ..l })])
}

#[cfg(test)]
mod tests {
    use super::*;
    use nestjit_ir::{BufId, Buffer, DType, Expr, NestBuilder, Program, Role};

    fn f32_buf(p: &mut Program, name: &str, shape: &[usize], role: Role) -> BufId {
        p.add_buffer(Buffer::new(name, DType::F32, shape, role))
    }

    #[test]
    fn unit_loops_vanish() {
        let mut p = Program::default();
        let y = f32_buf(&mut p, "y", &[1, 3], Role::Out);
        let mut b = NestBuilder::new(&mut p, "f");
        b.for_each("i", &[1, 3, 1], |b, v| b.store(y, [v[0], v[1]], Expr::f32(1.0)));
        b.finish();
        assert!(drop_unit_loops(&mut p.nests[0].body));
        let Stmt::For(l) = &p.nests[0].body[0] else { panic!("a loop") };
        assert_eq!((l.extent, l.body.len()), (3, 1));
        assert!(!drop_unit_loops(&mut p.nests[0].body));
    }
}
