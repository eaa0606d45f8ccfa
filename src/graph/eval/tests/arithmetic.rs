//! Elementwise operations, matrix products and reductions.

use std::slice::from_ref;

use super::*;
use crate::graph::Reduction;

const NAN: f32 = f32::NAN;
const INF: f32 = f32::INFINITY;

#[test]
fn unary_functions_have_their_values() {
    use Unary::*;
    use std::f32::consts::{E as e, PI};
    let cases: &[(Unary, f32, f32)] = &[
        (Identity, -1.5, -1.5),
        (Neg, 2.0, -2.0),
        (Abs, -2.5, 2.5),
        (Sign, -0.5, -1.0),
        (Sign, -0.0, -0.0),
        (Floor, -1.5, -2.0),
        (Ceil, -1.5, -1.0),
        (Round, 2.5, 2.0),
        (Round, -3.5, -4.0),
        (Trunc, -1.7, -1.0),
        (Sqrt, 2.25, 1.5),
        (Rsqrt, 4.0, 0.5),
        (Reciprocal, -4.0, -0.25),
        (Square, -3.0, 9.0),
        (Exp, 1.0, e),
        (Exp, 200.0, INF),
        (Expm1, 1e-6, 1.0000005e-6),
        (Log, e, 1.0),
        (Log1p, 1e-6, 9.999995e-7),
        (Erf, 0.5, 0.520_499_9),
        (Sin, 1.0, 0.841_471),
        (Cos, 1.0, 0.540_302_3),
        (Tan, 1.0, 1.557_407_7),
        (Asin, 0.5, PI / 6.0),
        (Acos, 0.5, PI / 3.0),
        (Atan, 1.0, PI / 4.0),
        (Sinh, 1.0, 1.175_201_2),
        (Cosh, 1.0, 1.543_080_6),
        (Asinh, 1.0, 0.881_373_6),
        (Acosh, 2.0, 1.316_957_8),
        (Atanh, 0.5, 0.549_306_1),
        (Relu, -1.0, 0.0),
        (Relu6, 7.5, 6.0),
        (LeakyRelu { alpha: 0.125 }, -2.0, -0.25),
        (LeakyRelu { alpha: 0.125 }, 2.0, 2.0),
        (Elu { alpha: 2.0 }, -1.0, 2.0 * (1.0 / e - 1.0)),
        (Celu { alpha: 2.0 }, -2.0, 2.0 * (1.0 / e - 1.0)),
        (Celu { alpha: 2.0 }, 3.0, 3.0),
        (Selu { alpha: 2.0, gamma: 3.0 }, -1.0, 6.0 * (1.0 / e - 1.0)),
        (Selu { alpha: 2.0, gamma: 3.0 }, 2.0, 6.0),
        (Sigmoid, 0.0, 0.5),
        (Sigmoid, -200.0, 0.0),
        (Tanh, 0.5, 0.462_117_16),
        (Silu, 1.0, 0.731_058_6),
        (HardSigmoid { alpha: 0.25, beta: 0.5 }, 1.0, 0.75),
        (HardSigmoid { alpha: 0.25, beta: 0.5 }, -3.0, 0.0),
        (HardSwish, 1.0, 2.0 / 3.0),
        (HardSwish, 4.0, 4.0),
        (GeluErf, 1.0, 0.841_344_7),
        (GeluTanh, 1.0, 0.841_192),
        (Mish, 1.0, 0.865_098_4),
        (Softplus, 1.0, 1.313_261_7),
        (Softplus, 1000.0, 1000.0),
        (Softsign, -3.0, -0.75),
        (ThresholdedRelu { alpha: 1.5 }, 1.5, 0.0),
        (ThresholdedRelu { alpha: 1.5 }, 2.0, 2.0),
        (Shrink { lambda: 1.0, bias: 0.25 }, -2.0, -1.75),
        (Shrink { lambda: 1.0, bias: 0.25 }, 2.0, 1.75),
        (Shrink { lambda: 1.0, bias: 0.25 }, 0.5, 0.0),
    ];
    for (unary, x, y) in cases {
        assert_close(&eval(Op::Unary(*unary), &[t(&[1], &[*x])]), &[1], &[*y]);
        let nan = eval(Op::Unary(*unary), &[t(&[], &[NAN])]);
        assert!(nan.values::<f32>().unwrap()[0].is_nan(), "{}", unary.name());
    }
}

#[test]
fn predicates_and_integers() {
    let x = t(&[3], &[NAN, -INF, 1.0]);
    assert_eq!(
        eval(Op::Unary(Unary::IsNan), from_ref(&x)),
        Tensor::new(&[3], &[true, false, false]).unwrap()
    );
    assert_eq!(eval(Op::Unary(Unary::IsInf), &[x]), Tensor::new(&[3], &[false, true, false]).unwrap());
    let bytes = |values: &[i8]| Tensor::new(&[values.len()], values).unwrap();
    for (unary, expected) in [
        (Unary::Neg, [-128i8, 3, -7]),
        (Unary::Abs, [-128, 3, 7]),
        (Unary::Sign, [-1, -1, 1]),
        (Unary::Square, [0, 9, 49]),
        (Unary::Relu, [0, 0, 7]),
        (Unary::Relu6, [0, 0, 6]),
        (Unary::BitNot, [127, 2, -8]),
    ] {
        assert_eq!(eval(Op::Unary(unary), &[bytes(&[-128, -3, 7])]), bytes(&expected), "{}", unary.name());
    }
    let not = eval(Op::Unary(Unary::Not), &[Tensor::scalar(true)]);
    assert_eq!(not, Tensor::scalar(false));
}

#[test]
fn binary_functions_broadcast_and_have_their_values() {
    let sum = eval(Op::Binary(Binary::Add), &[t(&[2, 1], &[1.0, 2.0]), t(&[3], &[10.0, 20.0, 30.0])]);
    assert_close(&sum, &[2, 3], &[11.0, 21.0, 31.0, 12.0, 22.0, 32.0]);
    for (binary, a, b, y) in [
        (Binary::Sub, 3.0, 5.0, -2.0),
        (Binary::Mul, 3.0, 5.0, 15.0),
        (Binary::Div, 3.0, -0.0, -INF),
        (Binary::Rem, -7.0, 3.0, -1.0),
        (Binary::Mod, -7.0, 3.0, 2.0),
        (Binary::Mod, 7.0, -3.0, -2.0),
        (Binary::Pow, 2.0, -2.0, 0.25),
        (Binary::Max, NAN, 1.0, NAN),
        (Binary::Min, 1.0, NAN, NAN),
        (Binary::Max, -0.0, 0.0, 0.0),
        (Binary::Min, 0.0, -0.0, -0.0),
        (Binary::Atan2, 1.0, -1.0, 2.356_194_6),
        (Binary::PRelu, -2.0, 0.25, -0.5),
        (Binary::PRelu, 2.0, 0.25, 2.0),
    ] {
        assert_close(&eval(Op::Binary(binary), &[Tensor::scalar(a), Tensor::scalar(b)]), &[], &[y]);
    }
    for (binary, expected) in [
        (Binary::Eq, [false, true, false]),
        (Binary::Ne, [true, false, true]),
        (Binary::Lt, [true, false, false]),
        (Binary::Le, [true, true, false]),
        (Binary::Gt, [false, false, false]),
        (Binary::Ge, [false, true, false]),
    ] {
        let y = eval(Op::Binary(binary), &[t(&[3], &[1.0, 2.0, NAN]), t(&[], &[2.0])]);
        assert_eq!(y, Tensor::new(&[3], &expected).unwrap(), "{}", binary.name());
    }
}

#[test]
fn integers_wrap_and_never_trap() {
    let cases: &[(Binary, i32, i32, i32)] = &[
        (Binary::Add, i32::MAX, 1, i32::MIN),
        (Binary::Mul, 1 << 20, 1 << 12, 0),
        (Binary::Div, -7, 2, -3),
        (Binary::Div, 5, 0, 0),
        (Binary::Div, i32::MIN, -1, i32::MIN),
        (Binary::Rem, -7, 3, -1),
        (Binary::Mod, -7, 3, 2),
        (Binary::Mod, 7, 0, 0),
        (Binary::Pow, 3, 4, 81),
        (Binary::Pow, -1, -3, -1),
        (Binary::Pow, 2, -1, 0),
        (Binary::Max, -1, 2, 2),
        (Binary::Min, -1, 2, -1),
        (Binary::And, 12, 10, 8),
        (Binary::Or, 12, 10, 14),
        (Binary::Xor, 12, 10, 6),
        (Binary::Shl, 1, 31, i32::MIN),
        (Binary::Shl, 1, 32, 0),
        (Binary::Shr, -8, 1, -4),
        (Binary::Shr, -8, 99, -1),
        (Binary::PRelu, -3, 2, -6),
    ];
    for (binary, a, b, y) in cases {
        let result = eval(Op::Binary(*binary), &[Tensor::scalar(*a), Tensor::scalar(*b)]);
        assert_eq!(result, Tensor::scalar(*y), "{} {a} {b}", binary.name());
    }
    let min = Tensor::scalar(i64::MIN);
    assert_eq!(eval(Op::Binary(Binary::Div), &[min.clone(), Tensor::scalar(-1i64)]), min);
    assert_eq!(
        eval(Op::Binary(Binary::Sub), &[Tensor::scalar(3u8), Tensor::scalar(5u8)]),
        Tensor::scalar(254u8)
    );
    assert_eq!(
        eval(Op::Binary(Binary::Xor), &[Tensor::scalar(true), Tensor::scalar(true)]),
        Tensor::scalar(false)
    );
}

#[test]
fn select_clip_and_cast() {
    let condition = Tensor::new(&[2, 1], &[true, false]).unwrap();
    let y = eval(Op::Where, &[condition.clone(), t(&[], &[1.0]), t(&[2], &[5.0, 6.0])]);
    assert_close(&y, &[2, 2], &[1.0, 1.0, 5.0, 6.0]);
    let y = eval(Op::Where, &[condition, ints(&[2, 1], &[1, 2]), ints(&[], &[9])]);
    assert_eq!(y, ints(&[2, 1], &[1, 9]));
    let clip = |min, max| Op::Clip { min, max };
    let x = t(&[4], &[-3.0, NAN, 0.5, 3.0]);
    assert_close(&eval(clip(Some(-1.0), Some(1.0)), from_ref(&x)), &[4], &[-1.0, NAN, 0.5, 1.0]);
    assert_close(&eval(clip(Some(2.0), Some(1.0)), from_ref(&x)), &[4], &[1.0, NAN, 1.0, 1.0]);
    assert_eq!(eval(clip(None, Some(1e9)), &[Tensor::scalar(200u8)]), Tensor::scalar(200u8));
    let cast = |to| eval(Op::Cast { to }, &[t(&[4], &[-300.7, NAN, 0.5, 300.0])]);
    assert_eq!(cast(DType::I8), Tensor::new(&[4], &[-128i8, 0, 0, 127]).unwrap());
    assert_eq!(cast(DType::U8), Tensor::new(&[4], &[0u8, 0, 0, 255]).unwrap());
    assert_eq!(cast(DType::Bool), Tensor::new(&[4], &[true; 4]).unwrap());
    assert_eq!(eval(Op::Cast { to: DType::U8 }, &[Tensor::scalar(-1i32)]), Tensor::scalar(255u8));
    assert_eq!(eval(Op::Cast { to: DType::F32 }, &[Tensor::scalar(true)]), Tensor::scalar(1.0f32));
    // Halfway between two f32 once rounded to f64: rounding twice would go the other way.
    let odd = (1i64 << 60) + (1 << 36) + 1;
    assert_eq!(eval(Op::Cast { to: DType::F32 }, &[Tensor::scalar(odd)]), Tensor::scalar(odd as f32));
    assert_eq!(eval(Op::Dropout, &[Tensor::scalar(0.1f32)]), Tensor::scalar(0.1f32));
    let y = eval(Op::BiasAdd { axis: 0 }, &[t(&[2, 2], &[1.0, 2.0, 3.0, 4.0]), t(&[2], &[10.0, 20.0])]);
    assert_close(&y, &[2, 2], &[11.0, 12.0, 23.0, 24.0]);
}

#[test]
fn matrix_products() {
    let a = t(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let b = t(&[3, 2], &[1.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
    assert_close(&eval(Op::MatMul, &[a.clone(), b.clone()]), &[2, 2], &[4.0, 5.0, 10.0, 11.0]);
    let v = t(&[3], &[1.0, 1.0, 2.0]);
    assert_close(&eval(Op::MatMul, &[a.clone(), v.clone()]), &[2], &[9.0, 21.0]);
    assert_close(&eval(Op::MatMul, &[v.clone(), b.clone()]), &[2], &[3.0, 3.0]);
    assert_close(&eval(Op::MatMul, &[v.clone(), v.clone()]), &[], &[6.0]);
    let batched = t(&[2, 1, 1, 2], &[1.0, 2.0, 3.0, 4.0]);
    let other = t(&[2, 2, 1], &[1.0, 1.0, 1.0, -1.0]);
    let y = eval(Op::MatMul, &[batched, other]);
    assert_close(&y, &[2, 2, 1, 1], &[3.0, -1.0, 7.0, -1.0]);
    let y = eval(Op::MatMul, &[ints(&[1, 2], &[i64::MAX, 1]), ints(&[2, 1], &[2, 5])]);
    assert_eq!(y, ints(&[1, 1], &[3]));
    let gemm = |trans_a, trans_b| Op::Gemm { alpha: 2.0, beta: 0.5, trans_a, trans_b };
    let c = t(&[2], &[10.0, 20.0]);
    let y = eval(gemm(false, false), &[a.clone(), b.clone(), c.clone()]);
    assert_close(&y, &[2, 2], &[13.0, 20.0, 25.0, 32.0]);
    let y = eval(gemm(true, true), &[b, a, t(&[2, 1], &[2.0, 4.0])]);
    assert_close(&y, &[2, 2], &[9.0, 21.0, 12.0, 24.0]);
    let one = Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true };
    let y = eval(one, &[ints(&[1, 2], &[1, 2]), ints(&[2, 2], &[3, 4, 5, 6]), ints(&[], &[100])]);
    assert_eq!(y, ints(&[1, 2], &[111, 117]));
}

#[test]
fn reductions() {
    use Reduction::*;
    let x = t(&[2, 3], &[1.0, -2.0, 3.0, 4.0, 0.5, -1.0]);
    let reduce = |op, axes: &[usize], keep_dims| Op::Reduce { op, axes: axes.to_vec(), keep_dims };
    for (op, rows) in [
        (Sum, [2.0, 3.5]),
        (Mean, [2.0 / 3.0, 3.5 / 3.0]),
        (Max, [3.0, 4.0]),
        (Min, [-2.0, -1.0]),
        (Prod, [-6.0, -2.0]),
        (L1, [6.0, 5.5]),
        (L2, [14f32.sqrt(), 17.25f32.sqrt()]),
        (SumSquare, [14.0, 17.25]),
        (LogSum, [2f32.ln(), 3.5f32.ln()]),
        (LogSumExp, [3.132_845, 4.036_269]),
    ] {
        assert_close(&eval(reduce(op, &[1], false), from_ref(&x)), &[2], &rows);
    }
    assert_close(&eval(reduce(Sum, &[0], true), from_ref(&x)), &[1, 3], &[5.0, -1.5, 2.0]);
    assert_close(&eval(reduce(Sum, &[0, 1], false), from_ref(&x)), &[], &[5.5]);
    assert_close(&eval(reduce(Sum, &[], false), from_ref(&x)), &[2, 3], x.values::<f32>().unwrap());
    assert_close(&eval(reduce(Max, &[0], false), &[t(&[2], &[NAN, 1.0])]), &[], &[NAN]);
    assert_close(&eval(reduce(LogSumExp, &[0], false), &[t(&[2], &[1000.0; 2])]), &[], &[1000.6931]);
    let empty = t(&[0, 2], &[]);
    assert_close(&eval(reduce(Sum, &[0], false), from_ref(&empty)), &[2], &[0.0, 0.0]);
    assert_close(&eval(reduce(Max, &[0], false), from_ref(&empty)), &[2], &[-INF, -INF]);
    assert_close(&eval(reduce(Mean, &[0], false), &[empty]), &[2], &[NAN, NAN]);
    let flags = Tensor::new(&[2, 2], &[true, false, false, false]).unwrap();
    assert_eq!(eval(reduce(Any, &[1], false), from_ref(&flags)), Tensor::new(&[2], &[true, false]).unwrap());
    assert_eq!(eval(reduce(All, &[0], false), &[flags]), Tensor::new(&[2], &[false, false]).unwrap());
    let bytes = Tensor::new(&[3], &[100i8, 100, -3]).unwrap();
    for (op, expected) in [(Sum, -59i8), (Prod, -48), (Max, 100), (Min, -3), (L1, -53), (SumSquare, 41)] {
        assert_eq!(
            eval(reduce(op, &[0], false), from_ref(&bytes)),
            Tensor::scalar(expected),
            "{}",
            op.name()
        );
    }
}

#[test]
fn positions_of_extrema() {
    let x = t(&[2, 3], &[3.0, 1.0, 3.0, 2.0, 2.0, 2.0]);
    let arg = |max, axis, last| Op::ArgReduce { max, axis, keep_dims: false, last };
    assert_eq!(eval(arg(true, 1, false), from_ref(&x)), ints(&[2], &[0, 0]));
    assert_eq!(eval(arg(true, 1, true), from_ref(&x)), ints(&[2], &[2, 2]));
    assert_eq!(eval(arg(false, 0, false), from_ref(&x)), ints(&[3], &[1, 0, 1]));
    let kept = Op::ArgReduce { max: false, axis: 1, keep_dims: true, last: false };
    assert_eq!(eval(kept, &[x]), ints(&[2, 1], &[1, 0]));
}
