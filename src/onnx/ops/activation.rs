//! Elementwise functions of one operand.

use nestjit_ir::DType;

use super::{Halt, NodeCx, OpEntry, Result, floats, one, op};
use crate::graph::{Binary, Op, Unary, ValueId};
use crate::host::HostOp;

pub(super) const OPS: &[OpEntry] = &[
    op("Abs", 1, |cx| unary(cx, Unary::Abs)),
    op("Acos", 7, |cx| unary(cx, Unary::Acos)),
    op("Acosh", 9, |cx| unary(cx, Unary::Acosh)),
    op("Asin", 7, |cx| unary(cx, Unary::Asin)),
    op("Asinh", 9, |cx| unary(cx, Unary::Asinh)),
    op("Atan", 7, |cx| unary(cx, Unary::Atan)),
    op("Atanh", 9, |cx| unary(cx, Unary::Atanh)),
    op("BitwiseNot", 18, |cx| unary(cx, Unary::BitNot)),
    op("Ceil", 1, |cx| unary(cx, Unary::Ceil)),
    op("Celu", 12, |cx| {
        let alpha = cx.float("alpha", 1.0)?;
        unary(cx, Unary::Celu { alpha })
    }),
    op("Clip", 1, clip),
    op("Cos", 7, |cx| unary(cx, Unary::Cos)),
    op("Cosh", 9, |cx| unary(cx, Unary::Cosh)),
    op("Dropout", 1, dropout),
    op("Elu", 1, |cx| {
        let alpha = cx.float("alpha", 1.0)?;
        unary(cx, Unary::Elu { alpha })
    }),
    op("Erf", 9, |cx| unary(cx, Unary::Erf)),
    op("Exp", 1, |cx| unary(cx, Unary::Exp)),
    op("Floor", 1, |cx| unary(cx, Unary::Floor)),
    op("Gelu", 20, |cx| match cx.string("approximate", "none")? {
        "none" => unary(cx, Unary::GeluErf),
        "tanh" => unary(cx, Unary::GeluTanh),
        other => Err(Halt::invalid(format!("there is no approximation '{}'", other.escape_debug()))),
    }),
    op("HardSigmoid", 1, |cx| {
        let (alpha, beta) = (cx.float("alpha", 0.2)?, cx.float("beta", 0.5)?);
        unary(cx, Unary::HardSigmoid { alpha, beta })
    }),
    op("HardSwish", 14, |cx| unary(cx, Unary::HardSwish)),
    op("Identity", 1, |cx| unary(cx, Unary::Identity))
        .on_host(|_| Ok(HostOp::new(1, |x| Ok(vec![x.item(0).clone()])))),
    op("IsInf", 10, is_inf),
    op("IsNaN", 9, |cx| unary(cx, Unary::IsNan)),
    op("LeakyRelu", 1, |cx| {
        let alpha = cx.float("alpha", 0.01)?;
        unary(cx, Unary::LeakyRelu { alpha })
    }),
    op("Log", 1, |cx| unary(cx, Unary::Log)),
    op("Mish", 18, |cx| unary(cx, Unary::Mish)),
    op("Neg", 1, |cx| unary(cx, Unary::Neg)),
    op("Not", 1, |cx| unary(cx, Unary::Not)),
    op("Reciprocal", 1, |cx| unary(cx, Unary::Reciprocal)),
    op("Relu", 1, |cx| unary(cx, Unary::Relu)),
    op("Round", 11, |cx| unary(cx, Unary::Round)),
    op("Selu", 1, selu),
    op("Shrink", 9, |cx| {
        let (lambda, bias) = (cx.float("lambd", 0.5)?, cx.float("bias", 0.0)?);
        unary(cx, Unary::Shrink { lambda, bias })
    }),
    op("Sigmoid", 1, |cx| unary(cx, Unary::Sigmoid)),
    op("Sign", 9, |cx| unary(cx, Unary::Sign)),
    op("Sin", 7, |cx| unary(cx, Unary::Sin)),
    op("Sinh", 9, |cx| unary(cx, Unary::Sinh)),
    op("Softplus", 1, |cx| unary(cx, Unary::Softplus)),
    op("Softsign", 1, |cx| unary(cx, Unary::Softsign)),
    op("Sqrt", 1, |cx| unary(cx, Unary::Sqrt)),
    op("SwiGLU", 28, swiglu).in_f32(&[0]),
    op("Swish", 24, swish).in_f32(&[0]),
    op("Tan", 7, |cx| unary(cx, Unary::Tan)),
    op("Tanh", 1, |cx| unary(cx, Unary::Tanh)),
    op("ThresholdedRelu", 10, |cx| {
        let alpha = cx.float("alpha", 1.0)?;
        unary(cx, Unary::ThresholdedRelu { alpha })
    }),
];

fn unary(cx: &mut NodeCx<'_>, unary: Unary) -> Result<Vec<ValueId>> {
    cx.expect_inputs(1)?;
    // Up to version 5 it hinted at buffers to be overwritten.
    cx.attributes.ignore(&["consumed_inputs"]);
    let x = cx.input(0)?;
    one(cx.unary(unary, x))
}

/// A bound that is left out is the type's smallest or largest finite number: infinities become finite.
fn clip(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.attributes.ignore(&["consumed_inputs"]);
    let x = cx.input(0)?;
    let dtype = cx.dtype(x);
    let largest = dtype.largest_finite();
    let mut bounds = [None, None];
    for (i, name) in ["min", "max"].into_iter().enumerate() {
        let given = match cx.opset < 11 {
            true => cx.attributes.float(name)?.map(|v| cx.scalar_like(x, v)),
            false => cx.optional(i + 1),
        };
        let default = largest.map(|v| if i == 0 { -v } else { v });
        bounds[i] = given.or_else(|| default.map(|v| cx.scalar_like(x, v)));
    }
    // Constants bound floats within one operation; integers may not be numbers that an `f64` holds.
    if dtype.is_float() {
        let constant = |bound: Option<ValueId>, none: f64| match bound {
            None => Some(None),
            Some(id) => {
                let tensor = cx.constant_of(id)?;
                match floats(tensor, "a bound").ok()?.as_slice() {
                    [bound] if !bound.is_nan() => Some(Some(*bound).filter(|b| *b != none)),
                    _ => None,
                }
            }
        };
        let [min, max] = bounds;
        if let (Some(min), Some(max)) = (constant(min, f64::NEG_INFINITY), constant(max, f64::INFINITY)) {
            return match (min, max) {
                (None, None) => Ok(vec![x]),
                _ => one(cx.add(Op::Clip { min, max }, &[x])),
            };
        }
    }
    let mut y = x;
    for (bound, op) in bounds.into_iter().zip([Binary::Max, Binary::Min]) {
        if let Some(bound) = bound {
            y = cx.binary(op, y, bound)?;
        }
    }
    Ok(vec![y])
}

/// At inference time; training is refused.
fn dropout(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.attributes.ignore(&["ratio", "seed", "consumed_inputs"]);
    let x = cx.input(0)?;
    let training = match cx.optional(2) {
        Some(mode) => cx.known_int(mode, "training_mode")? != 0,
        None => cx.opset < 7 && !cx.flag("is_test", false)?,
    };
    // With a ratio of 0, training changes nothing.
    let ratio = match cx.optional(1) {
        Some(ratio) if training => cx.known_scalar(ratio, "the ratio")?,
        None if training && cx.opset >= 12 => 0.5,
        None if training => cx.float("ratio", 0.5)?,
        _ => 0.0,
    };
    if ratio != 0.0 {
        return Err(Halt::unsupported("training is not supported"));
    }
    let shape = cx.shape(x);
    let mut results = vec![x];
    if cx.wants(1) {
        let one = match cx.opset < 10 {
            true => cx.scalar_like(x, 1.0),
            false => cx.scalar(DType::Bool, 1.0),
        };
        results.push(cx.expand(one, &shape)?);
    }
    Ok(results)
}

fn is_inf(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let (negative, positive) = (cx.flag("detect_negative", true)?, cx.flag("detect_positive", true)?);
    let infinite = cx.unary(Unary::IsInf, x)?;
    let side = match (negative, positive) {
        (true, true) => return Ok(vec![infinite]),
        (true, false) => cx.binary_const(Binary::Lt, x, 0.0)?,
        (false, true) => cx.binary_const(Binary::Gt, x, 0.0)?,
        (false, false) => cx.scalar(DType::Bool, 0.0),
    };
    one(cx.binary(Binary::And, infinite, side))
}

fn selu(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let (alpha, gamma) = match cx.opset < 6 {
        true => (1.6732, 1.0507),
        false => (1.673_263_192_176_818_8, 1.050_701_022_148_132_3),
    };
    let (alpha, gamma) = (cx.float("alpha", alpha)?, cx.float("gamma", gamma)?);
    unary(cx, Unary::Selu { alpha, gamma })
}

fn swish(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.expect_inputs(1)?;
    let x = cx.input(0)?;
    one(gated(cx, x))
}

/// The first operand's swish times the second.
fn swiglu(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.expect_inputs(2)?;
    let (gate, linear) = (cx.input(0)?, cx.input(1)?);
    let (a, b) = (cx.shape(gate), cx.shape(linear));
    if a != b {
        return Err(Halt::shape(format!("the gate is {a:?}, but the other operand {b:?}")));
    }
    let gate = gated(cx, gate)?;
    one(cx.binary(Binary::Mul, gate, linear))
}

/// `x * sigmoid(alpha * x)`.
fn gated(cx: &mut NodeCx<'_>, x: ValueId) -> Result<ValueId> {
    let alpha = cx.float("alpha", 1.0)?;
    if alpha == 1.0 {
        return cx.unary(Unary::Silu, x);
    }
    let scaled = cx.binary_const(Binary::Mul, x, alpha)?;
    let gate = cx.unary(Unary::Sigmoid, scaled)?;
    cx.binary(Binary::Mul, x, gate)
}
