//! What the scheduling passes share: questions about loops (strides, work) and small rewrites.
//!
//! Which loops to tile, vectorise or run in parallel is decided by the passes; nothing here chooses.

use crate::lanes;
use nestjit_ir::layout;
use nestjit_ir::visit::{Extents, subst_var, walk_expr, walk_exprs, walk_loops, walk_stmts};
use nestjit_ir::{Affine, BinOp, BufId, DType, Expr, For, Index, LoopKind, Program, Stmt, UnOp, Var};

/// How far apart in memory the elements are that consecutive values of `var` access; `None` if that is not a
/// constant (indices loaded at run time, panels).
pub fn stride(program: &Program, buf: BufId, index: &[Index], var: Var) -> Option<i64> {
    if !index_uses(index, var) {
        return Some(0);
    }
    let strides = layout::strides(program.buf(buf))?;
    let mut total = 0i64;
    for (i, s) in index.iter().zip(strides) {
        match i {
            Index::Affine(a) => {
                total = total.saturating_add(a.coeff(var).saturating_mul(i64::try_from(s).ok()?))
            }
            Index::Value(e) if !expr_uses(e, var) => {}
            Index::Value(_) => return None,
        }
    }
    Some(total)
}

/// Whether an index depends on `var`.
pub fn index_uses(index: &[Index], var: Var) -> bool {
    index.iter().any(|i| match i {
        Index::Affine(a) => a.uses(var),
        Index::Value(e) => expr_uses(e, var),
    })
}

/// Whether an expression depends on `var` through an index.
pub fn expr_uses(expr: &Expr, var: Var) -> bool {
    let mut found = false;
    walk_expr(expr, &mut |e| match e {
        Expr::Index(a) => found |= a.uses(var),
        Expr::Load(l) => {
            found |= l.index.iter().any(|i| matches!(i, Index::Affine(a) if a.uses(var)));
        }
        _ => {}
    });
    found
}

/// Whether some load in `body` has an `otherwise` that is taken or not depending on `var`. `extents` knows the
/// loops around `body` and in it.
pub fn guarded_by(program: &Program, extents: &Extents, body: &[Stmt], var: Var) -> bool {
    let mut depends = false;
    walk_exprs(body, &mut |e| {
        if let Expr::Load(l) = e
            && l.otherwise.is_some()
        {
            depends |= l.index.iter().zip(&program.buf(l.buf).shape).any(|(i, &size)| match i {
                Index::Affine(a) => {
                    a.uses(var) && extents.range(a).is_none_or(|(lo, hi)| lo < 0 || hi >= size as i64)
                }
                Index::Value(_) => true,
            });
        }
    });
    depends
}

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

/// Whether vector loops may hold everything in `body`.
pub fn vectorizable(program: &Program, body: &[Stmt]) -> bool {
    lanes::stmts(program, body).is_ok()
}

/// Whether everything in `body` is computed in `f32` from affinely indexed buffers, whose elements may be halves.
/// Comparisons and selections between `f32` values, and rounding to halves, are included.
pub fn only_f32(program: &Program, body: &[Stmt]) -> bool {
    let single = |dtype| matches!(dtype, DType::F32 | DType::F16 | DType::BF16);
    let f32_buf = |b: BufId| single(program.buf(b).dtype);
    let affine = |index: &[Index]| index.iter().all(|i| i.as_affine().is_some());
    let mut ok = true;
    walk_stmts(body, &mut |s| match s {
        Stmt::Store(s) => ok &= f32_buf(s.buf) && affine(&s.index),
        Stmt::Reduce(r) => ok &= f32_buf(r.buf) && affine(&r.index),
        Stmt::Temp(b) => ok &= f32_buf(*b),
        Stmt::Call(_) => ok = false,
        Stmt::For(_) => {}
    });
    walk_exprs(body, &mut |e| match e {
        Expr::Load(l) => ok &= f32_buf(l.buf) && affine(&l.index),
        Expr::Const(c) => ok &= single(c.dtype()) || c.dtype() == DType::Bool,
        Expr::Index(_) | Expr::Check(_) => ok = false,
        Expr::Cast(d, _) => ok &= single(*d),
        Expr::Unary(..) | Expr::Binary(..) | Expr::Select(..) => {}
    });
    ok
}

/// How much work an expression is, in units of a simple arithmetic operation.
pub fn expr_work(expr: &Expr) -> f64 {
    let mut work = 0.0;
    walk_expr(expr, &mut |e| {
        work += match e {
            Expr::Const(_) | Expr::Index(_) => 0.0,
            Expr::Load(_) | Expr::Select(..) | Expr::Cast(..) | Expr::Check(_) => 1.0,
            Expr::Unary(op, _) => unary_work(*op),
            Expr::Binary(BinOp::Div, ..) => 4.0,
            Expr::Binary(BinOp::Pow, ..) => 40.0,
            Expr::Binary(..) => 1.0,
        };
    });
    work
}

fn unary_work(op: UnOp) -> f64 {
    match op {
        UnOp::Neg | UnOp::Abs | UnOp::Not | UnOp::BitNot | UnOp::IsNan | UnOp::IsInf | UnOp::Sign => 1.0,
        UnOp::Floor | UnOp::Ceil | UnOp::Round | UnOp::Trunc => 1.0,
        UnOp::Sqrt => 6.0,
        _ => 20.0,
    }
}

/// Whether an expression has an operation that takes many instructions and temporaries.
pub fn has_transcendental(expr: &Expr) -> bool {
    let mut found = false;
    walk_expr(expr, &mut |e| {
        found |= match e {
            Expr::Unary(op, _) => unary_work(*op) > 10.0,
            Expr::Binary(BinOp::Pow, ..) => true,
            _ => false,
        };
    });
    found
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
    use nestjit_ir::{Buffer, NestBuilder, Role};

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
