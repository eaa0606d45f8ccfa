//! Elementwise operations and matrix products.

use nestjit_ir::DType;

use super::{Gemm, GraphBuilder};
use crate::graph::{Binary, Op, Unary, ValueId};

macro_rules! unary {
    ($($(#[$doc:meta])* $method:ident => $op:ident),* $(,)?) => {
        impl GraphBuilder {
            $($(#[$doc])* pub fn $method(&mut self, x: ValueId) -> ValueId {
                self.unary(Unary::$op, x)
            })*
        }
    };
}

unary! {
    /// `x`.
    identity => Identity,
    /// `-x`.
    neg => Neg,
    /// `|x|`.
    abs => Abs,
    /// -1, 0 or 1.
    sign => Sign,
    /// Rounded down.
    floor => Floor,
    /// Rounded up.
    ceil => Ceil,
    /// Rounded to nearest, ties to even.
    round => Round,
    /// Rounded towards zero.
    trunc => Trunc,
    /// The square root.
    sqrt => Sqrt,
    /// `1 / sqrt(x)`.
    rsqrt => Rsqrt,
    /// `1 / x`.
    reciprocal => Reciprocal,
    /// `x * x`.
    square => Square,
    /// `e` to the power `x`.
    exp => Exp,
    /// `exp(x) - 1`.
    expm1 => Expm1,
    /// The natural logarithm.
    log => Log,
    /// `log(1 + x)`.
    log1p => Log1p,
    /// The error function.
    erf => Erf,
    /// The sine.
    sin => Sin,
    /// The cosine.
    cos => Cos,
    /// The tangent.
    tan => Tan,
    /// The inverse sine.
    asin => Asin,
    /// The inverse cosine.
    acos => Acos,
    /// The inverse tangent.
    atan => Atan,
    /// The hyperbolic sine.
    sinh => Sinh,
    /// The hyperbolic cosine.
    cosh => Cosh,
    /// The inverse hyperbolic sine.
    asinh => Asinh,
    /// The inverse hyperbolic cosine.
    acosh => Acosh,
    /// The inverse hyperbolic tangent.
    atanh => Atanh,
    /// Logical not.
    not => Not,
    /// Bitwise not.
    bit_not => BitNot,
    /// Whether elements are NaN.
    is_nan => IsNan,
    /// Whether elements are infinite.
    is_inf => IsInf,
    /// `max(x, 0)`.
    relu => Relu,
    /// `min(max(x, 0), 6)`.
    relu6 => Relu6,
    /// `1 / (1 + exp(-x))`.
    sigmoid => Sigmoid,
    /// The hyperbolic tangent.
    tanh => Tanh,
    /// `x * sigmoid(x)`, also called Swish.
    silu => Silu,
    /// `x * min(max(x / 6 + 1 / 2, 0), 1)`.
    hard_swish => HardSwish,
    /// `x / 2 * (1 + erf(x / sqrt(2)))`.
    gelu => GeluErf,
    /// The approximation of [`GraphBuilder::gelu`] by `tanh`.
    gelu_tanh => GeluTanh,
    /// `x * tanh(softplus(x))`.
    mish => Mish,
    /// `log(1 + exp(x))`.
    softplus => Softplus,
    /// `x / (1 + |x|)`.
    softsign => Softsign,
}

macro_rules! binary {
    ($($(#[$doc:meta])* $method:ident => $op:ident),* $(,)?) => {
        impl GraphBuilder {
            $($(#[$doc])* pub fn $method(&mut self, a: ValueId, b: ValueId) -> ValueId {
                self.binary(Binary::$op, a, b)
            })*
        }
    };
}

binary! {
    /// `a + b`.
    add => Add,
    /// `a - b`.
    sub => Sub,
    /// `a * b`.
    mul => Mul,
    /// `a / b`.
    div => Div,
    /// The remainder of `a / b` with the sign of `a`.
    rem => Rem,
    /// The remainder of `a / b` with the sign of `b`.
    modulo => Mod,
    /// `a` to the power `b`.
    pow => Pow,
    /// The larger.
    maximum => Max,
    /// The smaller.
    minimum => Min,
    /// The angle of the point `(b, a)`.
    atan2 => Atan2,
    /// `a == b`.
    equal => Eq,
    /// `a != b`.
    not_equal => Ne,
    /// `a < b`.
    less => Lt,
    /// `a <= b`.
    less_or_equal => Le,
    /// `a > b`.
    greater => Gt,
    /// `a >= b`.
    greater_or_equal => Ge,
    /// Logical on `bool`, bitwise on integers.
    and => And,
    /// Logical on `bool`, bitwise on integers.
    or => Or,
    /// Logical on `bool`, bitwise on integers.
    xor => Xor,
    /// `a` shifted left by `b`.
    shl => Shl,
    /// `a` shifted right by `b`.
    shr => Shr,
    /// `a < 0 ? b * a : a`.
    prelu => PRelu,
}

impl GraphBuilder {
    /// Any elementwise function of one operand.
    pub fn unary(&mut self, function: Unary, x: ValueId) -> ValueId {
        self.one(Op::Unary(function), &[x])
    }

    /// Any elementwise function of two operands, which are broadcast to one shape.
    pub fn binary(&mut self, function: Binary, a: ValueId, b: ValueId) -> ValueId {
        self.one(Op::Binary(function), &[a, b])
    }

    /// `x < 0 ? alpha * x : x`.
    pub fn leaky_relu(&mut self, x: ValueId, alpha: f64) -> ValueId {
        self.unary(Unary::LeakyRelu { alpha }, x)
    }

    /// `x < 0 ? alpha * (exp(x) - 1) : x`.
    pub fn elu(&mut self, x: ValueId, alpha: f64) -> ValueId {
        self.unary(Unary::Elu { alpha }, x)
    }

    /// `max(x, 0) + min(alpha * (exp(x / alpha) - 1), 0)`.
    pub fn celu(&mut self, x: ValueId, alpha: f64) -> ValueId {
        self.unary(Unary::Celu { alpha }, x)
    }

    /// SELU with the constants of its paper, which keep mean 0 and variance 1.
    pub fn selu(&mut self, x: ValueId) -> ValueId {
        let (alpha, gamma) = (1.673_263_242_354_377_2, 1.050_700_987_355_480_5);
        self.unary(Unary::Selu { alpha, gamma }, x)
    }

    /// `min(max(alpha * x + beta, 0), 1)`.
    pub fn hard_sigmoid(&mut self, x: ValueId, alpha: f64, beta: f64) -> ValueId {
        self.unary(Unary::HardSigmoid { alpha, beta }, x)
    }

    /// `x > alpha ? x : 0`.
    pub fn thresholded_relu(&mut self, x: ValueId, alpha: f64) -> ValueId {
        self.unary(Unary::ThresholdedRelu { alpha }, x)
    }

    /// `x < -lambda ? x + bias : (x > lambda ? x - bias : 0)`.
    pub fn shrink(&mut self, x: ValueId, lambda: f64, bias: f64) -> ValueId {
        self.unary(Unary::Shrink { lambda, bias }, x)
    }

    /// `condition ? a : b`, elementwise with broadcasting (ONNX and NumPy: `where`).
    #[doc(alias = "where")]
    pub fn select(&mut self, condition: ValueId, a: ValueId, b: ValueId) -> ValueId {
        self.one(Op::Where, &[condition, a, b])
    }

    /// `min(max(x, min), max)`.
    pub fn clip(&mut self, x: ValueId, min: Option<f64>, max: Option<f64>) -> ValueId {
        self.one(Op::Clip { min, max }, &[x])
    }

    /// Elements converted to another type.
    pub fn cast(&mut self, x: ValueId, to: DType) -> ValueId {
        self.one(Op::Cast { to }, &[x])
    }

    /// Dropout at inference: nothing.
    pub fn dropout(&mut self, x: ValueId) -> ValueId {
        self.one(Op::Dropout, &[x])
    }

    /// Adds a vector along a dimension.
    pub fn bias_add(&mut self, x: ValueId, bias: ValueId, axis: usize) -> ValueId {
        self.one(Op::BiasAdd { axis }, &[x, bias])
    }

    /// NumPy's matrix product.
    pub fn matmul(&mut self, a: ValueId, b: ValueId) -> ValueId {
        self.one(Op::MatMul, &[a, b])
    }

    /// `alpha * op(a) op(b) + beta * c`.
    pub fn gemm(&mut self, a: ValueId, b: ValueId, c: Option<ValueId>, options: Gemm) -> ValueId {
        let Gemm { alpha, beta, trans_a, trans_b } = options;
        let inputs: Vec<ValueId> = [a, b].into_iter().chain(c).collect();
        self.one(Op::Gemm { alpha, beta, trans_a, trans_b }, &inputs)
    }

    /// A fully connected layer: a matrix product with a weight `[inputs, units]`, then a bias added along the
    /// last dimension.
    pub fn dense(&mut self, x: ValueId, weight: ValueId, bias: ValueId) -> ValueId {
        self.composite(|g| {
            let y = g.matmul(x, weight);
            let axis = g.shape(y).len().saturating_sub(1);
            g.bias_add(y, bias, axis)
        })
    }
}
