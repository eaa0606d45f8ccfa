//! Elementwise functions, element by element, in `f64` and in `i64`.

use nestjit_ir::DType;

use super::array::{int_range, order, wrap};
use crate::graph::{Binary, Unary};

/// A function of a float that yields a float.
pub(super) fn unary_float(unary: Unary, x: f64) -> f64 {
    use Unary::*;
    match unary {
        Identity => x,
        Neg => -x,
        Abs => x.abs(),
        Sign if x == 0.0 || x.is_nan() => x,
        Sign => x.signum(),
        Floor => x.floor(),
        Ceil => x.ceil(),
        Round => x.round_ties_even(),
        Trunc => x.trunc(),
        Sqrt => x.sqrt(),
        Rsqrt => 1.0 / x.sqrt(),
        Reciprocal => 1.0 / x,
        Square => x * x,
        Exp => x.exp(),
        Expm1 => x.exp_m1(),
        Log => x.ln(),
        Log1p => x.ln_1p(),
        Erf => libm::erf(x),
        Sin => x.sin(),
        Cos => x.cos(),
        Tan => x.tan(),
        Asin => x.asin(),
        Acos => x.acos(),
        Atan => x.atan(),
        Sinh => x.sinh(),
        Cosh => x.cosh(),
        Asinh => libm::asinh(x),
        Acosh => libm::acosh(x),
        Atanh => libm::atanh(x),
        Relu => maximum(x, 0.0),
        Relu6 => minimum(maximum(x, 0.0), 6.0),
        LeakyRelu { alpha } if x < 0.0 => alpha * x,
        LeakyRelu { .. } => x,
        Elu { alpha } if x < 0.0 => alpha * x.exp_m1(),
        Elu { .. } => x,
        Celu { alpha } => maximum(x, 0.0) + minimum(alpha * (x / alpha).exp_m1(), 0.0),
        Selu { gamma, .. } if x > 0.0 => gamma * x,
        Selu { alpha, gamma } => gamma * alpha * x.exp_m1(),
        Sigmoid => sigmoid(x),
        Tanh => x.tanh(),
        Silu => x * sigmoid(x),
        Affine { alpha, beta } => alpha * x + beta,
        ScaledTanh { alpha, beta } => alpha * (beta * x).tanh(),
        HardSigmoid { alpha, beta } => minimum(maximum(alpha * x + beta, 0.0), 1.0),
        HardSwish => x * minimum(maximum(x / 6.0 + 0.5, 0.0), 1.0),
        GeluErf => x / 2.0 * (1.0 + libm::erf(x / std::f64::consts::SQRT_2)),
        GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
            x / 2.0 * (1.0 + inner.tanh())
        }
        Mish => x * softplus(x).tanh(),
        Softplus => softplus(x),
        Softsign => x / (1.0 + x.abs()),
        ThresholdedRelu { alpha } if x > alpha || x.is_nan() => x,
        ThresholdedRelu { .. } => 0.0,
        Shrink { lambda, bias } if x < -lambda => x + bias,
        Shrink { lambda, bias } if x > lambda => x - bias,
        Shrink { .. } if x.is_nan() => x,
        Shrink { .. } => 0.0,
        Not | BitNot | IsNan | IsInf => unreachable!("not a function from floats to floats"),
    }
}

/// A function of an integer that yields an integer; the caller brings it into the type's range.
pub(super) fn unary_int(unary: Unary, dtype: DType, x: i64) -> i64 {
    use Unary::*;
    match unary {
        Identity => x,
        Abs | Relu if dtype.is_unsigned() => x,
        Sign if dtype.is_unsigned() => i64::from(x != 0),
        Relu6 if dtype.is_unsigned() => (x as u64).min(6) as i64,
        Neg => x.wrapping_neg(),
        Abs => x.wrapping_abs(),
        Sign => x.signum(),
        Square => x.wrapping_mul(x),
        Relu => x.max(0),
        Relu6 => x.clamp(0, 6),
        Not => i64::from(x == 0),
        BitNot => !x,
        _ => unreachable!("inference admits this function on floats only"),
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// `log(1 + exp(x))` without overflow.
fn softplus(x: f64) -> f64 {
    maximum(x, 0.0) + (-x.abs()).exp().ln_1p()
}

/// The larger; NaN if either is, and `-0 < +0`.
pub(super) fn maximum(a: f64, b: f64) -> f64 {
    match (a.is_nan(), b.is_nan()) {
        (true, _) => a,
        (_, true) => b,
        _ if a > b || (a == b && a.is_sign_positive()) => a,
        _ => b,
    }
}

/// The smaller; NaN if either is, and `-0 < +0`.
pub(super) fn minimum(a: f64, b: f64) -> f64 {
    -maximum(-a, -b)
}

/// A function of two floats that yields a float.
pub(super) fn binary_float(binary: Binary, a: f64, b: f64) -> f64 {
    use Binary::*;
    match binary {
        Add => a + b,
        Sub => a - b,
        Mul => a * b,
        Div => a / b,
        Rem => a % b,
        Mod => {
            let rest = a % b;
            if rest != 0.0 && (rest < 0.0) != (b < 0.0) { rest + b } else { rest }
        }
        Pow => a.powf(b),
        Max => maximum(a, b),
        Min => minimum(a, b),
        Atan2 => a.atan2(b),
        PRelu => {
            if a < 0.0 {
                a * b
            } else {
                a
            }
        }
        _ => unreachable!("not a function from floats to floats"),
    }
}

/// A comparison.
pub(super) fn compare<T: PartialOrd>(binary: Binary, a: T, b: T) -> bool {
    match binary {
        Binary::Eq => a == b,
        Binary::Ne => a != b,
        Binary::Lt => a < b,
        Binary::Le => a <= b,
        Binary::Gt => a > b,
        Binary::Ge => a >= b,
        _ => unreachable!("not a comparison"),
    }
}

/// A function of two integers of type `dtype`; the caller brings the result into its range.
pub(super) fn binary_int(binary: Binary, dtype: DType, a: i64, b: i64) -> i64 {
    use Binary::*;
    if dtype == DType::U64 {
        let (a, b) = (a as u64, b as u64);
        match binary {
            Div => return a.checked_div(b).unwrap_or(0) as i64,
            Rem | Mod => return a.checked_rem(b).unwrap_or(0) as i64,
            Shr => return if b < 64 { (a >> b) as i64 } else { 0 },
            Pow => return unsigned_power(a, b) as i64,
            PRelu => return a as i64,
            _ => {}
        }
    }
    let width = 8 * dtype.size() as i64;
    let in_width = (0..width).contains(&b);
    match binary {
        Add => a.wrapping_add(b),
        Sub => a.wrapping_sub(b),
        Mul => a.wrapping_mul(b),
        Div | Rem | Mod if b == 0 => 0,
        Div => a.wrapping_div(b),
        Rem => a.wrapping_rem(b),
        Mod => {
            let rest = a.wrapping_rem(b);
            if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest }
        }
        Pow => int_power(dtype, a, b),
        Max => order(dtype, order(dtype, a).max(order(dtype, b))),
        Min => order(dtype, order(dtype, a).min(order(dtype, b))),
        And => a & b,
        Or => a | b,
        Xor => a ^ b,
        Shl if in_width => a.wrapping_shl(b as u32),
        Shl => 0,
        Shr if in_width => a >> b,
        Shr => -i64::from(a < 0),
        PRelu if a < 0 => a.wrapping_mul(b),
        PRelu => a,
        _ => unreachable!("not a function from integers to integers"),
    }
}

fn int_power(dtype: DType, base: i64, exponent: i64) -> i64 {
    if exponent < 0 {
        return match base {
            1 => 1,
            -1 if exponent % 2 == 0 => 1,
            -1 => -1,
            _ => 0,
        };
    }
    wrap(dtype, unsigned_power(base as u64, exponent as u64) as i64)
}

/// Wrapping.
fn unsigned_power(base: u64, exponent: u64) -> u64 {
    let (mut result, mut square, mut rest) = (1u64, base, exponent);
    while rest > 0 {
        if rest % 2 == 1 {
            result = result.wrapping_mul(square);
        }
        square = square.wrapping_mul(square);
        rest /= 2;
    }
    result
}

/// A float in an integer type: truncated, saturated, NaN as 0.
pub(super) fn float_to_int(dtype: DType, x: f64) -> i64 {
    if dtype == DType::Bool {
        return i64::from(x != 0.0);
    }
    if dtype == DType::U64 {
        return x as u64 as i64;
    }
    let (least, greatest) = int_range(dtype);
    (x as i64).clamp(least, greatest)
}
