//! What accesses and values depend on: strides, loops that an index or a guard follows, types.

use crate::lanes;
use nestjit_ir::layout;
use nestjit_ir::visit::{Extents, walk_expr, walk_exprs, walk_stmts};
use nestjit_ir::{BufId, DType, Expr, Index, Program, Stmt, Var};

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

/// Whether vector loops may hold everything in `body`, and where everything lies is known.
pub fn vectorizable(program: &Program, body: &[Stmt]) -> bool {
    let mut affine = true;
    walk_exprs(body, &mut |e| {
        if let Expr::Load(l) = e {
            let known = l.index.iter().all(|i| i.as_affine().is_some());
            affine &= known || lanes::lookup(program, l.buf, &l.index).is_some();
        }
    });
    affine && lanes::stmts(program, body).is_ok()
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
