//! The functions of one operand, as expressions over the IR's primitives.
//!
//! A named activation is nothing but its formula: passes and code generation see no difference from the same
//! chain written by hand. Formulas are chosen so that no intermediate result overflows or cancels.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

use nestjit_ir::{DType, Expr, NestBuilder, SCALAR, UnOp};

use super::context::Context;
use crate::graph::Unary;

/// What temporaries are called.
pub(super) struct Names {
    temp: String,
}

impl Names {
    pub fn of(cx: &Context<'_, '_>) -> Names {
        Names { temp: cx.name("t") }
    }

    /// `value`, to be used more than once: what is neither a load nor a literal goes into a temporary.
    pub fn share(&self, b: &mut NestBuilder<'_>, dtype: DType, value: Expr) -> Expr {
        if matches!(value, Expr::Load(_) | Expr::Const(_)) {
            return value;
        }
        let temp = b.temp(&self.temp, dtype, &[]);
        b.store(temp, SCALAR, value);
        Expr::load(temp, SCALAR)
    }
}

/// `op` of `x`, which is of type `dtype`.
pub(super) fn unary(b: &mut NestBuilder<'_>, names: &Names, op: Unary, dtype: DType, x: Expr) -> Expr {
    use Unary::*;
    if let Some(op) = ir_op(op) {
        return x.unary(op);
    }
    let num = |value: f64| Expr::literal(dtype, value);
    let expm1 = |x: Expr| x.unary(UnOp::Expm1);
    // Functions that mention their operand once.
    match op {
        Identity => return x,
        Rsqrt => return num(1.0) / x.sqrt(),
        Reciprocal => return num(1.0) / x,
        Relu => return x.relu_as(dtype),
        Relu6 => return x.relu_as(dtype).min(num(6.0)),
        Affine { alpha, beta } => return num(alpha) * x + num(beta),
        ScaledTanh { alpha, beta } => return num(alpha) * (num(beta) * x).unary(UnOp::Tanh),
        HardSigmoid { alpha, beta } => {
            return (num(alpha) * x + num(beta)).max(num(0.0)).min(num(1.0));
        }
        _ => {}
    }
    let x = names.share(b, dtype, x);
    match op {
        Square => x.clone() * x,
        LeakyRelu { alpha } => x.clone().lt(num(0.0)).select(num(alpha) * x.clone(), x),
        Elu { alpha } => x.clone().lt(num(0.0)).select(num(alpha) * expm1(x.clone()), x),
        Celu { alpha } => x.clone().relu_as(dtype) + (num(alpha) * expm1(x / num(alpha))).min(num(0.0)),
        Selu { alpha, gamma } => num(gamma) * x.clone().gt(num(0.0)).select(x.clone(), num(alpha) * expm1(x)),
        Silu => x.clone() * x.unary(UnOp::Sigmoid),
        HardSwish => x.clone() * (x * num(1.0 / 6.0) + num(0.5)).max(num(0.0)).min(num(1.0)),
        GeluErf => {
            let erf = (x.clone() * num(FRAC_1_SQRT_2)).unary(UnOp::Erf);
            x * num(0.5) * (num(1.0) + erf)
        }
        GeluTanh => {
            // (1 + tanh(u)) / 2 is sigmoid(2 u), which does not cancel where u is negative.
            let linear = FRAC_2_SQRT_PI * FRAC_1_SQRT_2 * 2.0;
            let u = x.clone() * (num(linear) + num(linear * 0.044715) * (x.clone() * x.clone()));
            x * u.unary(UnOp::Sigmoid)
        }
        Mish => {
            // tanh(log(1 + n)) is n (n + 2) / (n (n + 2) + 2); above 20 it is 1 in f32 and f64 alike.
            let n = names.share(b, dtype, x.clone().min(num(20.0)).exp());
            let t = n.clone() * (n + num(2.0));
            x / (num(1.0) + num(2.0) / t)
        }
        Softplus => {
            let tail = (-x.clone().unary(UnOp::Abs)).exp().unary(UnOp::Log1p);
            x.relu_as(dtype) + tail
        }
        Softsign => x.clone() / (num(1.0) + x.unary(UnOp::Abs)),
        // Written so that NaN falls through to a side that depends on it.
        ThresholdedRelu { alpha } => x.clone().le(num(alpha)).select(num(0.0), x),
        Shrink { lambda, bias } => {
            let above = x.clone().le(num(lambda)).select(num(0.0), x.clone() - num(bias));
            x.clone().lt(num(-lambda)).select(x + num(bias), above)
        }
        _ => unreachable!("{} has one operation in the IR or mentions its operand once", op.name()),
    }
}

/// The operation of the IR, for functions that are one.
fn ir_op(op: Unary) -> Option<UnOp> {
    Some(match op {
        Unary::Neg => UnOp::Neg,
        Unary::Abs => UnOp::Abs,
        Unary::Sign => UnOp::Sign,
        Unary::Floor => UnOp::Floor,
        Unary::Ceil => UnOp::Ceil,
        Unary::Round => UnOp::Round,
        Unary::Trunc => UnOp::Trunc,
        Unary::Sqrt => UnOp::Sqrt,
        Unary::Exp => UnOp::Exp,
        Unary::Expm1 => UnOp::Expm1,
        Unary::Log => UnOp::Log,
        Unary::Log1p => UnOp::Log1p,
        Unary::Erf => UnOp::Erf,
        Unary::Sin => UnOp::Sin,
        Unary::Cos => UnOp::Cos,
        Unary::Tan => UnOp::Tan,
        Unary::Asin => UnOp::Asin,
        Unary::Acos => UnOp::Acos,
        Unary::Atan => UnOp::Atan,
        Unary::Sinh => UnOp::Sinh,
        Unary::Cosh => UnOp::Cosh,
        Unary::Asinh => UnOp::Asinh,
        Unary::Acosh => UnOp::Acosh,
        Unary::Atanh => UnOp::Atanh,
        Unary::Not => UnOp::Not,
        Unary::BitNot => UnOp::BitNot,
        Unary::IsNan => UnOp::IsNan,
        Unary::IsInf => UnOp::IsInf,
        Unary::Sigmoid => UnOp::Sigmoid,
        Unary::Tanh => UnOp::Tanh,
        _ => return None,
    })
}
