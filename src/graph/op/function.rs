//! The functions of elementwise operations.

/// Elementwise functions of one operand. All are lowered to expressions over the IR's primitives; a named
/// activation is nothing but a short way to write its chain.
#[derive(Clone, Copy, PartialEq, Debug)]
#[expect(
    missing_docs,
    reason = "each is the function it is named after; formulas are given where names are not enough"
)]
#[non_exhaustive]
pub enum Unary {
    Identity,
    Neg,
    Abs,
    Sign,
    Floor,
    Ceil,
    Round,
    Trunc,
    Sqrt,
    Rsqrt,
    Reciprocal,
    Square,
    Exp,
    Expm1,
    Log,
    Log1p,
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
    Not,
    BitNot,
    IsNan,
    IsInf,
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, 0), 6)`.
    Relu6,
    /// `x < 0 ? alpha * x : x`.
    LeakyRelu {
        alpha: f64,
    },
    /// `x < 0 ? alpha * (exp(x) - 1) : x`.
    Elu {
        alpha: f64,
    },
    /// `max(x, 0) + min(alpha * (exp(x / alpha) - 1), 0)`.
    Celu {
        alpha: f64,
    },
    /// `gamma * (x > 0 ? x : alpha * (exp(x) - 1))`.
    Selu {
        alpha: f64,
        gamma: f64,
    },
    Sigmoid,
    Tanh,
    /// `x * sigmoid(x)`, also called Swish.
    Silu,
    /// `min(max(alpha * x + beta, 0), 1)`.
    HardSigmoid {
        alpha: f64,
        beta: f64,
    },
    /// `alpha * x + beta`.
    Affine {
        alpha: f64,
        beta: f64,
    },
    /// `alpha * tanh(beta * x)`.
    ScaledTanh {
        alpha: f64,
        beta: f64,
    },
    /// `x * min(max(x / 6 + 1 / 2, 0), 1)`.
    HardSwish,
    /// `x / 2 * (1 + erf(x / sqrt(2)))`.
    GeluErf,
    /// `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)))`.
    GeluTanh,
    /// `x * tanh(softplus(x))`.
    Mish,
    /// `log(1 + exp(x))`.
    Softplus,
    /// `x / (1 + |x|)`.
    Softsign,
    /// `x > alpha ? x : 0`.
    ThresholdedRelu {
        alpha: f64,
    },
    /// `x < -lambda ? x + bias : (x > lambda ? x - bias : 0)`.
    Shrink {
        lambda: f64,
        bias: f64,
    },
}

/// Elementwise functions of two operands, with broadcasting as in NumPy. Comparisons yield `bool`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(missing_docs, reason = "each is the operation it is named after; semantics as nestjit_ir::BinOp")]
#[non_exhaustive]
pub enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    /// The sign of the dividend.
    Rem,
    /// The sign of the divisor.
    Mod,
    Pow,
    Max,
    Min,
    Atan2,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    And,
    Or,
    Xor,
    Shl,
    Shr,
    /// `x < 0 ? slope * x : x`.
    PRelu,
}
