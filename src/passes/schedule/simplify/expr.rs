//! Rewrites of single expressions that are exact for every value, NaN, infinities and signed zeros included.

use nestjit_ir::access::bounds::too_far;
use nestjit_ir::interp::{eval_binary, eval_cast, eval_unary};
use nestjit_ir::visit::Extents;
use nestjit_ir::{Affine, BinOp, DType, Expr, Index, Program, Scalar, UnOp};

/// Simplifies an expression whose operands are simple already; whether it changed.
pub fn simplify(program: &Program, extents: &Extents, e: &mut Expr) -> bool {
    let mut changed = false;
    let new = match e {
        Expr::Const(_) => None,
        Expr::Index(a) => a.as_const().map(Expr::i64),
        Expr::Load(l) => {
            let buffer = program.buf(l.buf);
            let shape = &buffer.shape;
            let inside = |a: &Affine, extent: usize| {
                let range = extents.range(a);
                range.is_some_and(|(lo, hi)| lo >= 0 && usize::try_from(hi).is_ok_and(|hi| hi < extent))
            };
            for (dim, (index, extent)) in l.index.iter_mut().zip(shape).enumerate() {
                let affine = match index {
                    Index::Value(v) => match v.as_ref() {
                        Expr::Index(a) => Some(a.clone()),
                        Expr::Const(Scalar::I64(c)) => Some((*c).into()),
                        _ => None,
                    },
                    Index::Affine(_) => None,
                };
                // What may be out of range is reported when it runs: it must stay a value. So must what is too large for
                // arithmetic on addresses, of which a value is compared with the extent first.
                let place = |a: &Affine| {
                    (l.otherwise.is_some() || inside(a, *extent))
                        && too_far(buffer, dim, a, extents).is_none()
                };
                if let Some(affine) = affine.filter(place) {
                    *index = Index::Affine(affine);
                    changed = true;
                }
            }
            let inside = l.index.iter().zip(shape).all(|(i, n)| i.as_affine().is_some_and(|a| inside(a, *n)));
            if inside {
                changed |= l.otherwise.take().is_some();
            }
            None
        }
        Expr::Unary(op, a) => unary(*op, a),
        Expr::Binary(op, a, b) => binary(program, *op, a, b),
        Expr::Select(c, a, b) => match c.as_const() {
            Some(Scalar::Bool(true)) => Some(take(a)),
            Some(Scalar::Bool(false)) => Some(take(b)),
            _ if a == b => Some(take(a)),
            _ => None,
        },
        Expr::Cast(to, a) => match a.as_const() {
            Some(value) => Some(Expr::Const(eval_cast(*to, value))),
            None if a.dtype(program) == *to => Some(take(a)),
            None => None,
        },
        Expr::Check(c) => {
            let inside = match &c.value {
                Expr::Const(Scalar::I64(v)) => (c.low..c.high).contains(v),
                Expr::Index(a) => extents.range(a).is_some_and(|(lo, hi)| c.low <= lo && hi < c.high),
                Expr::Check(inner) => c.low <= inner.low && inner.high <= c.high,
                _ => false,
            };
            inside.then(|| take(&mut c.value))
        }
    };
    if let Some(new) = new {
        *e = new;
        changed = true;
    }
    changed
}

fn take(e: &mut Expr) -> Expr {
    std::mem::replace(e, Expr::Const(Scalar::Bool(false)))
}

fn unary(op: UnOp, a: &mut Expr) -> Option<Expr> {
    if let Some(value) = a.as_const() {
        return eval_unary(op, value).map(Expr::Const);
    }
    match (op, &mut *a) {
        // Each is its own inverse.
        (UnOp::Neg | UnOp::Not | UnOp::BitNot, Expr::Unary(inner, x)) if *inner == op => Some(take(x)),
        // Doing it twice does nothing more.
        (UnOp::Abs | UnOp::Floor | UnOp::Ceil | UnOp::Round | UnOp::Trunc, Expr::Unary(inner, _))
            if *inner == op =>
        {
            Some(take(a))
        }
        _ => None,
    }
}

fn binary(program: &Program, op: BinOp, a: &mut Expr, b: &mut Expr) -> Option<Expr> {
    let (x, y) = (a.as_const(), b.as_const());
    if let (Some(x), Some(y)) = (x, y) {
        return eval_binary(op, x, y).map(Expr::Const);
    }
    let dtype = a.dtype(program);
    let right = y.is_some_and(|y| neutral(op, dtype, y));
    let commutes =
        matches!(op, BinOp::Add | BinOp::Mul | BinOp::Max | BinOp::Min | BinOp::And | BinOp::Or | BinOp::Xor);
    let left = commutes && x.is_some_and(|x| neutral(op, dtype, x));
    // max(max(x, c), c): relu after relu.
    let again = matches!(op, BinOp::Max | BinOp::Min)
        && y.is_some()
        && matches!(&*a, Expr::Binary(inner, _, c) if *inner == op && c.as_const() == y);
    match (right || again, left) {
        (true, _) => Some(take(a)),
        (_, true) => Some(take(b)),
        _ => None,
    }
}

/// Whether `x op value` is `x` for every `x`, bit for bit.
fn neutral(op: BinOp, dtype: DType, value: Scalar) -> bool {
    let int = dtype.is_int();
    let is = |v: f64| value.as_f64() == v && !(v == 0.0 && value.as_f64().is_sign_negative());
    match op {
        BinOp::Mul | BinOp::Div => is(1.0),
        BinOp::Pow => is(1.0),
        BinOp::Sub => is(0.0),
        // -0.0 + 0.0 is 0.0, but x + -0.0 is x.
        BinOp::Add if dtype.is_float() => value.as_f64() == 0.0 && value.as_f64().is_sign_negative(),
        BinOp::Add | BinOp::Xor | BinOp::Or => int && is(0.0) || dtype == DType::Bool && is(0.0),
        BinOp::Shl | BinOp::Shr => int && is(0.0),
        BinOp::Max => dtype.is_float() && value.as_f64() == f64::NEG_INFINITY,
        BinOp::Min => dtype.is_float() && value.as_f64() == f64::INFINITY,
        BinOp::And => dtype == DType::Bool && is(1.0),
        BinOp::Rem
        | BinOp::Mod
        | BinOp::Atan2
        | BinOp::Eq
        | BinOp::Ne
        | BinOp::Lt
        | BinOp::Le
        | BinOp::Gt
        | BinOp::Ge => false,
    }
}
