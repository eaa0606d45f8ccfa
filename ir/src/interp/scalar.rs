//! What every operation computes, value by value.
//!
//! `f32` arithmetic is done in `f32`; transcendental functions on `f32` are computed in `f64` and rounded, so
//! they are correctly rounded in all but a few cases. Half types are in `half`.

mod half;
#[cfg(test)]
mod tests;

use crate::nest::Expr;
use crate::ops::{BinOp, ReduceOp, UnOp};
use crate::types::{DType, Scalar};

/// A Rust type that holds values of one [`DType`], and the operations on it. `None` means that the operation
/// is not defined for the type.
pub trait Element: Copy + PartialEq + std::fmt::Debug + Send + Sync + 'static {
    /// The element type held.
    const DTYPE: DType;
    /// What undefined storage is filled with, so that reading it shows: NaN, or an unlikely integer.
    const POISON: Self;
    /// The operation, if its result has the operand's type.
    fn unary(op: UnOp) -> Option<fn(Self) -> Self>;
    /// The operation, if its result is `bool` whatever the operand is.
    fn predicate(op: UnOp) -> Option<fn(Self) -> bool>;
    /// The operation, if its result has the operands' type.
    fn binary(op: BinOp) -> Option<fn(Self, Self) -> Self>;
    /// The combining operation.
    fn reduce(op: ReduceOp) -> fn(Self, Self) -> Self;
    /// The conversion as [`Expr::Cast`] defines it.
    fn cast_from(value: Scalar) -> Self;
    /// The value with its type.
    fn scalar(self) -> Scalar;

    /// The comparison, on any type; `false < true`.
    fn compare(op: BinOp) -> Option<fn(Self, Self) -> bool>
    where
        Self: PartialOrd,
    {
        Some(match op {
            BinOp::Eq => |a, b| a == b,
            BinOp::Ne => |a, b| a != b,
            BinOp::Lt => |a, b| a < b,
            BinOp::Le => |a, b| a <= b,
            BinOp::Gt => |a, b| a > b,
            BinOp::Ge => |a, b| a >= b,
            _ => return None,
        })
    }
}

macro_rules! cast_from {
    ($t:ty) => {
        fn cast_from(value: Scalar) -> $t {
            match value {
                Scalar::F32(v) => v as $t,
                Scalar::F64(v) => v as $t,
                Scalar::F16(v) => v.to_f32() as $t,
                Scalar::BF16(v) => v.to_f32() as $t,
                Scalar::I64(v) => v as $t,
                Scalar::I32(v) => v as $t,
                Scalar::I8(v) => v as $t,
                Scalar::U8(v) => v as $t,
                Scalar::I16(v) => v as $t,
                Scalar::U16(v) => v as $t,
                Scalar::U32(v) => v as $t,
                Scalar::U64(v) => v as $t,
                Scalar::Bool(v) => u8::from(v) as $t,
            }
        }
    };
}

macro_rules! float_element {
    ($t:ident, $variant:ident) => {
        impl Element for $t {
            const DTYPE: DType = DType::$variant;
            const POISON: $t = $t::NAN;

            fn unary(op: UnOp) -> Option<fn($t) -> $t> {
                // Computes in f64 and rounds once.
                macro_rules! wide {
                    ($f:expr) => {
                        |x| {
                            let f: fn(f64) -> f64 = $f;
                            f(f64::from(x)) as $t
                        }
                    };
                }
                Some(match op {
                    UnOp::Neg => |x| -x,
                    UnOp::Abs => |x| x.abs(),
                    UnOp::Sign => |x| if x.is_nan() || x == 0.0 { x } else { x.signum() },
                    UnOp::Floor => |x| x.floor(),
                    UnOp::Ceil => |x| x.ceil(),
                    UnOp::Round => |x| x.round_ties_even(),
                    UnOp::Trunc => |x| x.trunc(),
                    UnOp::Sqrt => |x| x.sqrt(),
                    UnOp::Exp => wide!(libm::exp),
                    UnOp::Expm1 => wide!(libm::expm1),
                    UnOp::Log => wide!(libm::log),
                    UnOp::Log1p => wide!(libm::log1p),
                    UnOp::Sigmoid => wide!(|x| 1.0 / (1.0 + libm::exp(-x))),
                    UnOp::Tanh => wide!(libm::tanh),
                    UnOp::Erf => wide!(libm::erf),
                    UnOp::Sin => wide!(libm::sin),
                    UnOp::Cos => wide!(libm::cos),
                    UnOp::Tan => wide!(libm::tan),
                    UnOp::Asin => wide!(libm::asin),
                    UnOp::Acos => wide!(libm::acos),
                    UnOp::Atan => wide!(libm::atan),
                    UnOp::Sinh => wide!(libm::sinh),
                    UnOp::Cosh => wide!(libm::cosh),
                    UnOp::Asinh => wide!(libm::asinh),
                    UnOp::Acosh => wide!(libm::acosh),
                    UnOp::Atanh => wide!(libm::atanh),
                    UnOp::Not | UnOp::BitNot | UnOp::IsNan | UnOp::IsInf => return None,
                })
            }

            fn predicate(op: UnOp) -> Option<fn($t) -> bool> {
                match op {
                    UnOp::IsNan => Some(|x| x.is_nan()),
                    UnOp::IsInf => Some(|x| x.is_infinite()),
                    _ => None,
                }
            }

            fn binary(op: BinOp) -> Option<fn($t, $t) -> $t> {
                Some(match op {
                    BinOp::Add => |a, b| a + b,
                    BinOp::Sub => |a, b| a - b,
                    BinOp::Mul => |a, b| a * b,
                    BinOp::Div => |a, b| a / b,
                    BinOp::Rem => |a, b| a % b,
                    BinOp::Mod => |a, b| match a % b {
                        r if r == 0.0 => r.copysign(b),
                        r if (r < 0.0) != (b < 0.0) => r + b,
                        r => r,
                    },
                    BinOp::Pow => |a, b| libm::pow(f64::from(a), f64::from(b)) as $t,
                    BinOp::Max => <$t as Element>::reduce(ReduceOp::Max),
                    BinOp::Min => <$t as Element>::reduce(ReduceOp::Min),
                    BinOp::Atan2 => |a, b| libm::atan2(f64::from(a), f64::from(b)) as $t,
                    _ => return None,
                })
            }

            fn reduce(op: ReduceOp) -> fn($t, $t) -> $t {
                match op {
                    ReduceOp::Add => |a, b| a + b,
                    ReduceOp::Mul => |a, b| a * b,
                    // IEEE 754-2019 maximum and minimum: NaN wins, -0 < +0.
                    ReduceOp::Max => |a, b| match a.partial_cmp(&b) {
                        None => a + b,
                        Some(std::cmp::Ordering::Greater) => a,
                        Some(std::cmp::Ordering::Equal) if b.is_sign_negative() => a,
                        Some(_) => b,
                    },
                    ReduceOp::Min => |a, b| match a.partial_cmp(&b) {
                        None => a + b,
                        Some(std::cmp::Ordering::Less) => a,
                        Some(std::cmp::Ordering::Equal) if a.is_sign_negative() => a,
                        Some(_) => b,
                    },
                }
            }

            cast_from!($t);

            fn scalar(self) -> Scalar {
                Scalar::$variant(self)
            }
        }
    };
}
float_element!(f32, F32);
float_element!(f64, F64);

macro_rules! int_element {
    ($t:ident, $unsigned:ident, $variant:ident) => {
        impl Element for $t {
            const DTYPE: DType = DType::$variant;
            const POISON: $t = 0x55u8 as $t;

            fn unary(op: UnOp) -> Option<fn($t) -> $t> {
                Some(match op {
                    UnOp::Neg => |x| x.wrapping_neg(),
                    #[allow(unused_comparisons)]
                    UnOp::Abs => |x| if x < 0 { x.wrapping_neg() } else { x },
                    #[allow(unused_comparisons)]
                    UnOp::Sign => |x| if x < 0 { (0 as $t).wrapping_sub(1) } else { (x > 0) as $t },
                    UnOp::BitNot => |x| !x,
                    _ => return None,
                })
            }

            fn predicate(_: UnOp) -> Option<fn($t) -> bool> {
                None
            }

            fn binary(op: BinOp) -> Option<fn($t, $t) -> $t> {
                Some(match op {
                    BinOp::Add => |a, b| a.wrapping_add(b),
                    BinOp::Sub => |a, b| a.wrapping_sub(b),
                    BinOp::Mul => |a, b| a.wrapping_mul(b),
                    BinOp::Div => |a, b| if b == 0 { 0 } else { a.wrapping_div(b) },
                    BinOp::Rem => |a, b| if b == 0 { 0 } else { a.wrapping_rem(b) },
                    #[allow(unused_comparisons)]
                    BinOp::Mod => |a, b| match b {
                        0 => 0,
                        b => match a.wrapping_rem(b) {
                            r if r != 0 && (r < 0) != (b < 0) => r.wrapping_add(b),
                            r => r,
                        },
                    },
                    #[allow(unused_comparisons)]
                    BinOp::Pow => |a, mut exponent| {
                        if exponent < 0 {
                            let minus_one = (0 as $t).wrapping_sub(1);
                            return match a {
                                1 => 1,
                                a if a == minus_one => {
                                    if exponent & 1 == 0 {
                                        1
                                    } else {
                                        a
                                    }
                                }
                                _ => 0,
                            };
                        }
                        let (mut base, mut result) = (a, 1 as $t);
                        while exponent > 0 {
                            if exponent & 1 == 1 {
                                result = result.wrapping_mul(base);
                            }
                            base = base.wrapping_mul(base);
                            exponent >>= 1;
                        }
                        result
                    },
                    BinOp::Max => |a, b| a.max(b),
                    BinOp::Min => |a, b| a.min(b),
                    BinOp::And => |a, b| a & b,
                    BinOp::Or => |a, b| a | b,
                    BinOp::Xor => |a, b| a ^ b,
                    // A negative amount counts as one that is too large.
                    BinOp::Shl => |a, b| match b as $unsigned {
                        n if u64::from(n) < u64::from($t::BITS) => a << b,
                        _ => 0,
                    },
                    BinOp::Shr => |a, b| match b as $unsigned {
                        n if u64::from(n) < u64::from($t::BITS) => a >> b,
                        _ => a >> ($t::BITS - 1) >> 1,
                    },
                    _ => return None,
                })
            }

            fn reduce(op: ReduceOp) -> fn($t, $t) -> $t {
                match op {
                    ReduceOp::Add => |a, b| a.wrapping_add(b),
                    ReduceOp::Mul => |a, b| a.wrapping_mul(b),
                    ReduceOp::Max => |a, b| a.max(b),
                    ReduceOp::Min => |a, b| a.min(b),
                }
            }

            cast_from!($t);

            fn scalar(self) -> Scalar {
                Scalar::$variant(self)
            }
        }
    };
}
int_element!(i64, u64, I64);
int_element!(i32, u32, I32);
int_element!(i8, u8, I8);
int_element!(u8, u8, U8);
int_element!(i16, u16, I16);
int_element!(u16, u16, U16);
int_element!(u32, u32, U32);
int_element!(u64, u64, U64);

impl Element for bool {
    const DTYPE: DType = DType::Bool;
    const POISON: bool = true;

    fn unary(op: UnOp) -> Option<fn(bool) -> bool> {
        match op {
            UnOp::Not => Some(|x| !x),
            _ => None,
        }
    }

    fn predicate(_: UnOp) -> Option<fn(bool) -> bool> {
        None
    }

    fn binary(op: BinOp) -> Option<fn(bool, bool) -> bool> {
        Some(match op {
            BinOp::And | BinOp::Min => |a, b| a & b,
            BinOp::Or | BinOp::Max => |a, b| a | b,
            BinOp::Xor => |a, b| a ^ b,
            _ => return None,
        })
    }

    fn reduce(op: ReduceOp) -> fn(bool, bool) -> bool {
        match op {
            ReduceOp::Add | ReduceOp::Max => |a, b| a | b,
            ReduceOp::Mul | ReduceOp::Min => |a, b| a & b,
        }
    }

    fn cast_from(value: Scalar) -> bool {
        match value {
            Scalar::F32(v) => v != 0.0,
            Scalar::F64(v) => v != 0.0,
            Scalar::F16(v) => v.to_f32() != 0.0,
            Scalar::BF16(v) => v.to_f32() != 0.0,
            Scalar::I64(v) => v != 0,
            Scalar::I32(v) => v != 0,
            Scalar::I8(v) => v != 0,
            Scalar::U8(v) => v != 0,
            Scalar::I16(v) => v != 0,
            Scalar::U16(v) => v != 0,
            Scalar::U32(v) => v != 0,
            Scalar::U64(v) => v != 0,
            Scalar::Bool(v) => v,
        }
    }

    fn scalar(self) -> Scalar {
        Scalar::Bool(self)
    }
}

/// Evaluates `$body` with the type alias `$t` set to the Rust type that holds `$dtype`.
macro_rules! with_element {
    ($dtype:expr, $t:ident => $body:expr) => {
        match $dtype {
            $crate::DType::F32 => {
                type $t = f32;
                $body
            }
            $crate::DType::F64 => {
                type $t = f64;
                $body
            }
            $crate::DType::F16 => {
                type $t = ::half::f16;
                $body
            }
            $crate::DType::BF16 => {
                type $t = ::half::bf16;
                $body
            }
            $crate::DType::I64 => {
                type $t = i64;
                $body
            }
            $crate::DType::I32 => {
                type $t = i32;
                $body
            }
            $crate::DType::I8 => {
                type $t = i8;
                $body
            }
            $crate::DType::U8 => {
                type $t = u8;
                $body
            }
            $crate::DType::I16 => {
                type $t = i16;
                $body
            }
            $crate::DType::U16 => {
                type $t = u16;
                $body
            }
            $crate::DType::U32 => {
                type $t = u32;
                $body
            }
            $crate::DType::U64 => {
                type $t = u64;
                $body
            }
            $crate::DType::Bool => {
                type $t = bool;
                $body
            }
        }
    };
}
pub(crate) use with_element;

/// Whether a unary operation is defined on operands of this type.
pub fn unary_defined(op: UnOp, dtype: DType) -> bool {
    with_element!(dtype, T => T::unary(op).is_some() || T::predicate(op).is_some())
}

/// Whether a binary operation is defined on operands of this type.
pub fn binary_defined(op: BinOp, dtype: DType) -> bool {
    with_element!(dtype, T => T::binary(op).is_some() || T::compare(op).is_some())
}

/// The result of a unary operation; `None` if it is not defined on the operand's type.
pub fn eval_unary(op: UnOp, a: Scalar) -> Option<Scalar> {
    with_element!(a.dtype(), T => {
        let a = T::cast_from(a);
        match (T::unary(op), T::predicate(op)) {
            (Some(f), _) => Some(f(a).scalar()),
            (None, Some(f)) => Some(Scalar::Bool(f(a))),
            (None, None) => None,
        }
    })
}

/// The result of a binary operation; `None` if it is not defined on the operands' type, or their types
/// differ.
pub fn eval_binary(op: BinOp, a: Scalar, b: Scalar) -> Option<Scalar> {
    if a.dtype() != b.dtype() {
        return None;
    }
    with_element!(a.dtype(), T => {
        let (a, b) = (T::cast_from(a), T::cast_from(b));
        match (T::binary(op), T::compare(op)) {
            (Some(f), _) => Some(f(a, b).scalar()),
            (None, Some(f)) => Some(Scalar::Bool(f(a, b))),
            (None, None) => None,
        }
    })
}

/// The conversion that [`Expr::Cast`] does.
pub fn eval_cast(dtype: DType, a: Scalar) -> Scalar {
    with_element!(dtype, T => T::cast_from(a).scalar())
}

/// The value of an expression of literals only; `None` if it is not one or is ill-typed.
pub fn eval_const(expr: &Expr) -> Option<Scalar> {
    match expr {
        Expr::Const(s) => Some(*s),
        Expr::Load(_) => None,
        Expr::Index(a) => a.as_const().map(Scalar::I64),
        Expr::Unary(op, a) => eval_unary(*op, eval_const(a)?),
        Expr::Binary(op, a, b) => eval_binary(*op, eval_const(a)?, eval_const(b)?),
        Expr::Select(c, a, b) => match (eval_const(c)?, eval_const(a)?, eval_const(b)?) {
            (Scalar::Bool(c), a, b) if a.dtype() == b.dtype() => Some(if c { a } else { b }),
            _ => None,
        },
        Expr::Cast(dtype, a) => Some(eval_cast(*dtype, eval_const(a)?)),
        Expr::Check(c) => {
            eval_const(&c.value).filter(|v| matches!(v, Scalar::I64(v) if (c.low..c.high).contains(v)))
        }
    }
}
