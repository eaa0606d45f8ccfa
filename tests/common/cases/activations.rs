//! Functions of one operand, at ordinary and at special values.

use nestjit::graph::{Op, Unary};
use nestjit::{DType, Tensor};

use super::{Cases, other_numbers, tensor};

/// Every function that takes floats and gives floats.
pub fn float_functions() -> Vec<Unary> {
    use Unary::*;
    vec![
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
        Relu,
        Relu6,
        LeakyRelu { alpha: 0.01 },
        LeakyRelu { alpha: 1.5 },
        Elu { alpha: 1.0 },
        Elu { alpha: 0.3 },
        Celu { alpha: 1.0 },
        Celu { alpha: 2.5 },
        Selu { alpha: 1.673_263_242_354_377_2, gamma: 1.050_700_987_355_480_5 },
        Sigmoid,
        Tanh,
        Silu,
        HardSigmoid { alpha: 0.2, beta: 0.5 },
        HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 },
        Affine { alpha: -0.75, beta: 0.5 },
        ScaledTanh { alpha: 1.5, beta: 0.3 },
        HardSwish,
        GeluErf,
        GeluTanh,
        Mish,
        Softplus,
        Softsign,
        ThresholdedRelu { alpha: 1.0 },
        Shrink { lambda: 0.5, bias: 0.0 },
        Shrink { lambda: 0.5, bias: 0.25 },
    ]
}

/// Values at which functions do something particular.
const SPECIAL: [f32; 29] = [
    f32::NAN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -0.5,
    1.5,
    2.5,
    -2.5,
    1e-8,
    -1e-8,
    1e-4,
    -1e-4,
    6.0,
    6.5,
    -3.0,
    3.0,
    -4.25,
    19.5,
    20.5,
    -20.0,
    -87.0,
    88.0,
    100.0,
    -110.0,
    1e30,
];

fn special() -> Tensor {
    tensor(&[SPECIAL.len()], &SPECIAL)
}

/// `Unary` as part of a case's name, with a number where a function occurs more than once.
fn label(functions: &[Unary], at: usize) -> String {
    let name = functions[at].name();
    match functions[..at].iter().filter(|f| f.name() == name).count() {
        0 => name.to_lowercase(),
        before => format!("{}_{before}", name.to_lowercase()),
    }
}

/// Sines of 1e30 are beyond what a polynomial is asked for.
fn bounded(function: Unary) -> bool {
    matches!(function, Unary::Sin | Unary::Cos | Unary::Tan)
}

pub fn add(cases: &mut Cases) {
    let functions = float_functions();
    for (at, function) in functions.iter().enumerate() {
        let label = label(&functions, at);
        let values = match bounded(*function) {
            true => tensor(&[SPECIAL.len() - 1], &SPECIAL[..SPECIAL.len() - 1]),
            false => special(),
        };
        cases.op_on(format!("unary/{label}_special"), Op::Unary(*function), values);
        cases.op(format!("unary/{label}"), Op::Unary(*function), &[&[3, 37]]);
        cases.op_of(format!("unary/{label}_f64"), Op::Unary(*function), DType::F64, &[&[5]]);
    }
    for function in [Unary::Neg, Unary::Abs, Unary::Sign, Unary::Square, Unary::Relu, Unary::Relu6] {
        let name = function.name().to_lowercase();
        for dtype in
            [DType::I64, DType::I32, DType::I8, DType::U8, DType::I16, DType::U16, DType::U32, DType::U64]
        {
            cases.op_of(format!("unary/{name}_{dtype}"), Op::Unary(function), dtype, &[&[4, 9]]);
        }
    }
    for function in [Unary::IsNan, Unary::IsInf] {
        let name = function.name().to_lowercase();
        cases.op_on(format!("unary/{name}"), Op::Unary(function), special());
    }
    cases.op_of("unary/not", Op::Unary(Unary::Not), DType::Bool, &[&[11]]);
    for dtype in
        [DType::I64, DType::I32, DType::I8, DType::U8, DType::I16, DType::U16, DType::U32, DType::U64]
    {
        cases.op_of(format!("unary/bitnot_{dtype}"), Op::Unary(Unary::BitNot), dtype, &[&[11]]);
    }
    for dtype in DType::ALL {
        cases.op_of(format!("unary/copy_{dtype}"), Op::Unary(Unary::Identity), dtype, &[&[2, 3]]);
    }
    cases.op("unary/rank_0", Op::Unary(Unary::Silu), &[&[]]);
    cases.op("unary/empty", Op::Unary(Unary::Relu), &[&[3, 0, 2]]);
    cases.op("unary/one_element", Op::Unary(Unary::Exp), &[&[1, 1, 1]]);
    cases.op("unary/long", Op::Unary(Unary::Relu), &[&[1000]]);
    cases.op("dropout", Op::Dropout, &[&[2, 5]]);
    for (label, min, max) in [
        ("both", Some(-0.5), Some(1.0)),
        ("min", Some(0.25), None),
        ("max", None, Some(0.25)),
        ("neither", None, None),
        ("crossed", Some(1.0), Some(-1.0)),
    ] {
        cases.op_on(format!("clip/{label}_special"), Op::Clip { min, max }, special());
        cases.op(format!("clip/{label}"), Op::Clip { min, max }, &[&[3, 17]]);
    }
    for dtype in other_numbers() {
        let op = Op::Clip { min: Some(-3.0), max: Some(5.0) };
        cases.op_of(format!("clip/{dtype}"), op, dtype, &[&[21]]);
    }
    cases.op_of("clip/wide_i8", Op::Clip { min: Some(-1e9), max: Some(1e9) }, DType::I8, &[&[21]]);
}
