//! The operations of the IR: their names and result types.
//!
//! What they compute, value by value, is stated here in words and defined by [`crate::interp`].

use crate::types::{DType, Scalar};

/// How values are combined. Identity elements: 0, 1, -inf (or the smallest integer), +inf (or the largest).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ReduceOp {
    /// Sum; on `bool`, or.
    Add,
    /// Product; on `bool`, and.
    Mul,
    /// The larger; NaN if either is.
    Max,
    /// The smaller; NaN if either is.
    Min,
}

impl ReduceOp {
    /// The operator of the textual IR: `%t += x`, `*=`, `max=`, `min=`.
    pub const fn name(self) -> &'static str {
        match self {
            ReduceOp::Add => "+=",
            ReduceOp::Mul => "*=",
            ReduceOp::Max => "max=",
            ReduceOp::Min => "min=",
        }
    }

    /// The value that changes nothing when combined.
    pub fn identity(self, dtype: DType) -> Scalar {
        match self {
            ReduceOp::Add => Scalar::zero(dtype),
            ReduceOp::Mul => Scalar::from_i64(dtype, 1),
            ReduceOp::Max if dtype == DType::I64 => Scalar::I64(i64::MIN),
            ReduceOp::Min if dtype == DType::I64 => Scalar::I64(i64::MAX),
            ReduceOp::Max => {
                Scalar::from_f64(dtype, if dtype == DType::Bool { 0.0 } else { f64::NEG_INFINITY })
            }
            ReduceOp::Min => Scalar::from_f64(dtype, f64::INFINITY),
        }
    }
}

/// Unary operations. On floats as IEEE 754 and C's `math.h`; NaN in, NaN out.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(missing_docs, reason = "each is the mathematical function it is named after")]
pub enum UnOp {
    Neg,
    Abs,
    /// -1, 0 or 1 with the sign of the operand; NaN stays NaN.
    Sign,
    Floor,
    Ceil,
    /// To the nearest integer, ties to even.
    Round,
    /// Towards zero.
    Trunc,
    Sqrt,
    Exp,
    /// `exp(x) - 1` without cancellation.
    Expm1,
    Log,
    /// `log(1 + x)` without cancellation.
    Log1p,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    Tanh,
    Erf,
    Sin,
    Cos,
    Tan,
    Asin,
    Acos,
    Atan,
    Sinh,
    Cosh,
    Asinh,
    Acosh,
    Atanh,
    /// Logical not, on `bool`.
    Not,
    /// Bitwise not, on integers.
    BitNot,
    /// Whether the operand is NaN: `bool`.
    IsNan,
    /// Whether the operand is infinite: `bool`.
    IsInf,
}

impl UnOp {
    /// Every operation.
    pub const ALL: [UnOp; 30] = {
        use UnOp::*;
        [
            Neg, Abs, Sign, Floor, Ceil, Round, Trunc, Sqrt, Exp, Expm1, Log, Log1p, Sigmoid, Tanh, Erf, Sin,
            Cos, Tan, Asin, Acos, Atan, Sinh, Cosh, Asinh, Acosh, Atanh, Not, BitNot, IsNan, IsInf,
        ]
    };

    /// The name in the textual IR, used as a function: `exp(x)`.
    pub const fn name(self) -> &'static str {
        use UnOp::*;
        match self {
            Neg => "neg",
            Abs => "abs",
            Sign => "sign",
            Floor => "floor",
            Ceil => "ceil",
            Round => "round",
            Trunc => "trunc",
            Sqrt => "sqrt",
            Exp => "exp",
            Expm1 => "expm1",
            Log => "log",
            Log1p => "log1p",
            Sigmoid => "sigmoid",
            Tanh => "tanh",
            Erf => "erf",
            Sin => "sin",
            Cos => "cos",
            Tan => "tan",
            Asin => "asin",
            Acos => "acos",
            Atan => "atan",
            Sinh => "sinh",
            Cosh => "cosh",
            Asinh => "asinh",
            Acosh => "acosh",
            Atanh => "atanh",
            Not => "not",
            BitNot => "bitnot",
            IsNan => "isnan",
            IsInf => "isinf",
        }
    }

    /// The type of the result for an operand of type `operand`.
    pub const fn result(self, operand: DType) -> DType {
        match self {
            UnOp::IsNan | UnOp::IsInf => DType::Bool,
            _ => operand,
        }
    }
}

/// Binary operations. Integers wrap; dividing by the integer 0 gives 0, so no input can trap.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(missing_docs, reason = "each is the mathematical operation it is named after")]
pub enum BinOp {
    Add,
    Sub,
    Mul,
    /// On integers, towards zero; `x / 0` is 0 and `MIN / -1` is `MIN`.
    Div,
    /// The remainder of a division towards zero, with the sign of the dividend (C's `fmod` on floats);
    /// `x rem 0` is 0 on integers.
    Rem,
    /// The remainder with the sign of the divisor (Python's `%`); `x mod 0` is 0 on integers.
    Mod,
    /// `x` to the power `y`; on integers by wrapping multiplication, negative powers give 0, 1 or -1.
    Pow,
    /// The larger; NaN if either is.
    Max,
    /// The smaller; NaN if either is.
    Min,
    /// The angle of the point (second, first).
    Atan2,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    /// Logical on `bool`, bitwise on integers.
    And,
    /// Logical on `bool`, bitwise on integers.
    Or,
    /// Logical on `bool`, bitwise on integers.
    Xor,
    /// Left shift; 0 if the amount is negative or not below the width.
    Shl,
    /// Logical right shift on `u8`, arithmetic on signed types; an amount that is negative or
    /// not below the width gives 0, or -1 for a negative value.
    Shr,
}

impl BinOp {
    /// Every operation.
    pub const ALL: [BinOp; 21] = {
        use BinOp::*;
        [Add, Sub, Mul, Div, Rem, Mod, Pow, Max, Min, Atan2, Eq, Ne, Lt, Le, Gt, Ge, And, Or, Xor, Shl, Shr]
    };

    /// The infix operator of the textual IR, or the name of a two-argument function.
    pub const fn name(self) -> &'static str {
        use BinOp::*;
        match self {
            Add => "+",
            Sub => "-",
            Mul => "*",
            Div => "/",
            Rem => "rem",
            Mod => "mod",
            Pow => "pow",
            Max => "max",
            Min => "min",
            Atan2 => "atan2",
            Eq => "==",
            Ne => "!=",
            Lt => "<",
            Le => "<=",
            Gt => ">",
            Ge => ">=",
            And => "&",
            Or => "|",
            Xor => "^",
            Shl => "<<",
            Shr => ">>",
        }
    }

    /// Whether the result is `bool` whatever the operands are.
    pub const fn is_comparison(self) -> bool {
        matches!(self, BinOp::Eq | BinOp::Ne | BinOp::Lt | BinOp::Le | BinOp::Gt | BinOp::Ge)
    }

    /// The type of the result for operands of type `operand`.
    pub const fn result(self, operand: DType) -> DType {
        if self.is_comparison() { DType::Bool } else { operand }
    }
}
