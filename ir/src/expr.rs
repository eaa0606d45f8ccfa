//! Short ways to write expressions and indices: constructors, and Rust's operators.
//!
//! Nothing here knows about programs; types are checked by [`crate::verify`].

use std::ops::{Add, Div, Mul, Neg, Sub};
use std::sync::Arc;

use crate::affine::{Affine, Var};
use crate::check::{Check, Site};
use crate::nest::{BufId, Expr, Index, Load, Program};
use crate::ops::{BinOp, UnOp};
use crate::types::{DType, Scalar};

/// The index of a scalar (rank 0) buffer.
pub const SCALAR: [Affine; 0] = [];

/// A list of indices from anything that yields variables, affine expressions or indices.
pub fn indices<I: Into<Index>>(index: impl IntoIterator<Item = I>) -> Vec<Index> {
    index.into_iter().map(Into::into).collect()
}

impl Expr {
    /// `buf[index]`.
    pub fn load<I: Into<Index>>(buf: BufId, index: impl IntoIterator<Item = I>) -> Expr {
        Expr::Load(Load { buf, index: indices(index), otherwise: None })
    }

    /// `buf[index]`, or `otherwise` outside the buffer.
    pub fn load_or<I: Into<Index>>(buf: BufId, index: impl IntoIterator<Item = I>, otherwise: Expr) -> Expr {
        Expr::Load(Load { buf, index: indices(index), otherwise: Some(Box::new(otherwise)) })
    }

    /// An `f32` literal.
    pub const fn f32(value: f32) -> Expr {
        Expr::Const(Scalar::F32(value))
    }

    /// An `f64` literal.
    pub const fn f64(value: f64) -> Expr {
        Expr::Const(Scalar::F64(value))
    }

    /// An `i64` literal.
    pub const fn i64(value: i64) -> Expr {
        Expr::Const(Scalar::I64(value))
    }

    /// A `bool` literal.
    pub const fn bool(value: bool) -> Expr {
        Expr::Const(Scalar::Bool(value))
    }

    /// A literal of the given type; see [`Scalar::from_f64`].
    pub fn literal(dtype: DType, value: f64) -> Expr {
        Expr::Const(Scalar::from_f64(dtype, value))
    }

    /// The value of an affine expression, as `i64`.
    pub fn index(value: impl Into<Affine>) -> Expr {
        Expr::Index(value.into())
    }

    /// A unary operation on this expression.
    pub fn unary(self, op: UnOp) -> Expr {
        Expr::Unary(op, Box::new(self))
    }

    /// A binary operation with this expression on the left.
    pub fn binary(self, op: BinOp, right: Expr) -> Expr {
        Expr::Binary(op, Box::new(self), Box::new(right))
    }

    /// The larger of two; NaN if either is.
    pub fn max(self, other: Expr) -> Expr {
        self.binary(BinOp::Max, other)
    }

    /// The smaller of two; NaN if either is.
    pub fn min(self, other: Expr) -> Expr {
        self.binary(BinOp::Min, other)
    }

    /// `self` to the power `other`.
    pub fn pow(self, other: Expr) -> Expr {
        self.binary(BinOp::Pow, other)
    }

    /// `max(self, 0)`, for an expression of type `dtype`.
    pub fn relu_as(self, dtype: DType) -> Expr {
        self.max(Expr::Const(Scalar::zero(dtype)))
    }

    /// `max(self, 0.0)` on `f32`.
    pub fn relu(self) -> Expr {
        self.relu_as(DType::F32)
    }

    /// `self ? a : b`.
    pub fn select(self, a: Expr, b: Expr) -> Expr {
        Expr::Select(Box::new(self), Box::new(a), Box::new(b))
    }

    /// A conversion.
    pub fn cast(self, dtype: DType) -> Expr {
        Expr::Cast(dtype, Box::new(self))
    }

    /// The value, an `i64`, which must lie in `low..high`.
    pub fn checked(self, low: i64, high: i64, site: &Arc<Site>) -> Expr {
        Expr::Check(Box::new(Check { value: self, low, high, site: Arc::clone(site) }))
    }

    /// `e` to the power `self`.
    pub fn exp(self) -> Expr {
        self.unary(UnOp::Exp)
    }

    /// The square root.
    pub fn sqrt(self) -> Expr {
        self.unary(UnOp::Sqrt)
    }

    /// `self < other`.
    pub fn lt(self, other: Expr) -> Expr {
        self.binary(BinOp::Lt, other)
    }

    /// `self <= other`.
    pub fn le(self, other: Expr) -> Expr {
        self.binary(BinOp::Le, other)
    }

    /// `self > other`.
    pub fn gt(self, other: Expr) -> Expr {
        self.binary(BinOp::Gt, other)
    }

    /// `self >= other`.
    pub fn ge(self, other: Expr) -> Expr {
        self.binary(BinOp::Ge, other)
    }

    /// `self == other`, elementwise: the IR's comparison, not a comparison of expressions.
    pub fn equals(self, other: Expr) -> Expr {
        self.binary(BinOp::Eq, other)
    }

    /// The least and the largest value that this can have, an `i64`, as far as it says so itself: a literal, what is checked,
    /// cut to limits (`min(max(e, 0), 9)`), or made of a narrower integer.
    pub fn limits(&self, program: &Program) -> (i64, i64) {
        const ALL: (i64, i64) = (i64::MIN, i64::MAX);
        match self {
            Expr::Const(Scalar::I64(value)) => (*value, *value),
            Expr::Check(c) => (c.low, c.high.saturating_sub(1)),
            Expr::Cast(DType::I64, a) if a.dtype(program) == DType::I64 => a.limits(program),
            Expr::Cast(DType::I64, a) => a.dtype(program).limits(),
            Expr::Binary(BinOp::Max, a, b) => {
                let (a, b) = (a.limits(program), b.limits(program));
                (a.0.max(b.0), a.1.max(b.1))
            }
            Expr::Binary(BinOp::Min, a, b) => {
                let (a, b) = (a.limits(program), b.limits(program));
                (a.0.min(b.0), a.1.min(b.1))
            }
            Expr::Select(_, a, b) => {
                let (a, b) = (a.limits(program), b.limits(program));
                (a.0.min(b.0), a.1.max(b.1))
            }
            Expr::Const(_) | Expr::Index(_) | Expr::Load(_) | Expr::Unary(..) => ALL,
            Expr::Cast(..) | Expr::Binary(..) => ALL,
        }
    }

    /// The value, if this is a literal.
    pub const fn as_const(&self) -> Option<Scalar> {
        match self {
            Expr::Const(s) => Some(*s),
            _ => None,
        }
    }
}

impl From<Scalar> for Expr {
    fn from(value: Scalar) -> Expr {
        Expr::Const(value)
    }
}

impl From<Load> for Expr {
    fn from(value: Load) -> Expr {
        Expr::Load(value)
    }
}

impl From<Expr> for Index {
    fn from(value: Expr) -> Index {
        match value {
            Expr::Index(affine) => Index::Affine(affine),
            value => Index::Value(Box::new(value)),
        }
    }
}

impl From<&Index> for Index {
    fn from(value: &Index) -> Index {
        value.clone()
    }
}

impl From<&Affine> for Affine {
    fn from(value: &Affine) -> Affine {
        value.clone()
    }
}

impl From<&Var> for Affine {
    fn from(value: &Var) -> Affine {
        Affine::var(*value)
    }
}

macro_rules! expr_operator {
    ($($trait:ident $method:ident $op:ident;)*) => {$(
        impl $trait for Expr {
            type Output = Expr;
            fn $method(self, right: Expr) -> Expr {
                self.binary(BinOp::$op, right)
            }
        }
    )*};
}
expr_operator! { Add add Add; Sub sub Sub; Mul mul Mul; Div div Div; }

impl Neg for Expr {
    type Output = Expr;
    fn neg(self) -> Expr {
        self.unary(UnOp::Neg)
    }
}

macro_rules! affine_operators {
    ($($left:ty),*) => {$(
        impl<R: Into<Affine>> Add<R> for $left {
            type Output = Affine;
            fn add(self, right: R) -> Affine {
                Affine::add(&self.into(), &right.into())
            }
        }
        impl<R: Into<Affine>> Sub<R> for $left {
            type Output = Affine;
            fn sub(self, right: R) -> Affine {
                Affine::add(&self.into(), &right.into().scale(-1))
            }
        }
        impl Mul<i64> for $left {
            type Output = Affine;
            fn mul(self, factor: i64) -> Affine {
                Affine::from(self).scale(factor)
            }
        }
    )*};
}
affine_operators!(Var, Affine);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_build_the_expected_trees() {
        let (i, j) = (Var(0), Var(1));
        let at = i * 2 + j - 1;
        assert_eq!(at.terms(), &[(i, 2), (j, 1)]);
        assert_eq!(at.offset(), -1);
        assert_eq!((Affine::from(3) - j).terms(), &[(j, -1)]);
        let x = Expr::load(BufId(0), [at.clone(), i.into()]);
        let e = (x.clone() + Expr::f32(1.0)).relu();
        let sum = Expr::Binary(BinOp::Add, Box::new(x), Box::new(Expr::f32(1.0)));
        assert_eq!(e, Expr::Binary(BinOp::Max, Box::new(sum), Box::new(Expr::f32(0.0))));
        assert_eq!(Index::from(Expr::Index(at.clone())), Index::Affine(at));
    }
}
