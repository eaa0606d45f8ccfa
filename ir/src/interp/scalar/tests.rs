//! Special values of every kind of operation.

use ::half::{bf16, f16};

use super::*;

fn bin(op: BinOp, a: Scalar, b: Scalar) -> Scalar {
    eval_binary(op, a, b).expect("defined")
}

fn i8s(op: BinOp, a: i8, b: i8) -> i8 {
    i8::cast_from(bin(op, Scalar::I8(a), Scalar::I8(b)))
}

fn f32s(op: BinOp, a: f32, b: f32) -> Scalar {
    bin(op, Scalar::F32(a), Scalar::F32(b))
}

#[test]
fn integer_division_never_traps() {
    assert_eq!(i8s(BinOp::Div, 7, 0), 0);
    assert_eq!(i8s(BinOp::Div, -128, -1), -128);
    assert_eq!(i8s(BinOp::Div, -7, 2), -3);
    assert_eq!(i8s(BinOp::Rem, -7, 2), -1);
    assert_eq!(i8s(BinOp::Mod, -7, 2), 1);
    assert_eq!(i8s(BinOp::Mod, 7, -2), -1);
    assert_eq!(i8s(BinOp::Mod, -128, -1), 0);
    assert_eq!((i8s(BinOp::Rem, 5, 0), i8s(BinOp::Mod, 5, 0)), (0, 0));
}

#[test]
fn integer_powers_and_shifts() {
    assert_eq!(i8s(BinOp::Pow, 3, 4), 81);
    assert_eq!(i8s(BinOp::Pow, 2, 8), 0);
    assert_eq!(
        [i8s(BinOp::Pow, 1, -3), i8s(BinOp::Pow, -1, -3), i8s(BinOp::Pow, 2, -1), i8s(BinOp::Pow, 0, -1)],
        [1, -1, 0, 0]
    );
    assert_eq!(bin(BinOp::Pow, Scalar::U8(255), Scalar::U8(2)), Scalar::U8(1));
    assert_eq!([i8s(BinOp::Shl, 1, 7), i8s(BinOp::Shl, 1, 8), i8s(BinOp::Shl, 1, -1)], [-128, 0, 0]);
    assert_eq!([i8s(BinOp::Shr, -128, 7), i8s(BinOp::Shr, -1, 100), i8s(BinOp::Shr, 64, -1)], [-1, -1, 0]);
    assert_eq!(bin(BinOp::Shr, Scalar::U8(255), Scalar::U8(9)), Scalar::U8(0));
}

#[test]
fn maximum_and_minimum_propagate_nan_and_order_zeros() {
    for op in [BinOp::Max, BinOp::Min] {
        for (a, b) in [(f32::NAN, 1.0), (1.0, f32::NAN), (f32::NAN, f32::NAN)] {
            assert!(f32s(op, a, b).as_f64().is_nan());
        }
    }
    for (a, b) in [(0.0, -0.0), (-0.0, 0.0)] {
        assert_eq!(f32s(BinOp::Max, a, b), Scalar::F32(0.0));
        assert_eq!(f32s(BinOp::Min, a, b), Scalar::F32(-0.0));
    }
    assert_eq!(f32s(BinOp::Max, -1.0, 2.0), Scalar::F32(2.0));
    assert_eq!(f32s(BinOp::Min, -1.0, 2.0), Scalar::F32(-1.0));
}

#[test]
fn float_remainders() {
    assert_eq!(f32s(BinOp::Rem, -5.5, 2.0), Scalar::F32(-1.5));
    assert_eq!(f32s(BinOp::Mod, -5.5, 2.0), Scalar::F32(0.5));
    assert_eq!(f32s(BinOp::Mod, 4.0, -2.0), Scalar::F32(-0.0));
    assert!(f32s(BinOp::Mod, 1.0, 0.0).as_f64().is_nan());
}

#[test]
fn casts_saturate_from_float_and_wrap_between_integers() {
    assert_eq!(eval_cast(DType::I8, Scalar::F32(1e9)), Scalar::I8(127));
    assert_eq!(eval_cast(DType::U8, Scalar::F32(-3.0)), Scalar::U8(0));
    assert_eq!(eval_cast(DType::I32, Scalar::F32(f32::NAN)), Scalar::I32(0));
    assert_eq!(eval_cast(DType::I32, Scalar::F64(-1.9)), Scalar::I32(-1));
    assert_eq!(eval_cast(DType::I8, Scalar::I64(300)), Scalar::I8(44));
    assert_eq!(eval_cast(DType::Bool, Scalar::F32(f32::NAN)), Scalar::Bool(true));
    assert_eq!(eval_cast(DType::F32, Scalar::Bool(true)), Scalar::F32(1.0));
    assert_eq!(eval_cast(DType::F32, Scalar::I64(16_777_217)), Scalar::F32(16_777_216.0));
}

#[test]
fn operations_on_halves_are_rounded_one_by_one() {
    let half = |v: f32| Scalar::F16(f16::from_f32(v));
    assert_eq!(bin(BinOp::Add, half(2048.0), half(1.0)), half(2048.0));
    assert_eq!(bin(BinOp::Add, half(2048.0), half(3.0)), half(2052.0));
    assert_eq!(bin(BinOp::Mul, half(256.0), half(256.0)), half(f32::INFINITY));
    assert_eq!(bin(BinOp::Mul, half(1e-4), half(1e-4)), half(0.0));
    assert_eq!(bin(BinOp::Div, half(1.0), half(3.0)), Scalar::F16(f16::from_bits(0x3555)));
    assert_eq!(bin(BinOp::Max, half(-0.0), half(0.0)), half(0.0));
    assert_eq!(eval_unary(UnOp::Neg, half(f32::NAN)).map(|v| v.to_bits()), Some(0xfe00));
    assert_eq!(eval_unary(UnOp::Exp, half(12.0)), Some(half(f32::INFINITY)));
    assert_eq!(eval_unary(UnOp::IsInf, half(-70000.0)), Some(Scalar::Bool(true)));
    let brain = |v: f32| Scalar::BF16(bf16::from_f32(v));
    assert_eq!(bin(BinOp::Add, brain(256.0), brain(1.0)), brain(256.0));
    assert_eq!(bin(BinOp::Lt, brain(-1.0), brain(1.0)), Scalar::Bool(true));
    assert_eq!(eval_binary(BinOp::And, brain(1.0), brain(1.0)), None);
    assert_eq!(eval_binary(BinOp::Add, brain(1.0), half(1.0)), None);
}

#[test]
fn casts_to_halves_round_once() {
    let f16_bits = |v: Scalar| eval_cast(DType::F16, v).to_bits();
    assert_eq!([f16_bits(Scalar::F32(65519.996)), f16_bits(Scalar::F32(65520.0))], [0x7bff, 0x7c00]);
    assert_eq!([f16_bits(Scalar::I32(65519)), f16_bits(Scalar::I32(-65520))], [0x7bff, 0xfc00]);
    // Half a step above 1, and a little more: nearest to f32 first, it would be a tie.
    assert_eq!(f16_bits(Scalar::F64(1.0 + 1.0 / 2048.0 + 1e-12)), 0x3c01);
    assert_eq!(f16_bits(Scalar::F64(1.0 + 1.0 / 2048.0)), 0x3c00);
    let bf16_bits = |v: Scalar| eval_cast(DType::BF16, v).to_bits();
    assert_eq!(bf16_bits(Scalar::I32((1 << 30) + (1 << 22) + 1)), 0x4e81);
    assert_eq!(bf16_bits(Scalar::U64((1 << 63) + (1 << 55) + 1)), 0x5f01);
    assert_eq!(bf16_bits(Scalar::F16(f16::from_f32(1.0 + 1.0 / 1024.0))), 0x3f80);
    // From halves as from what they are.
    let half = |v: f32| Scalar::F16(f16::from_f32(v));
    assert_eq!(eval_cast(DType::I8, half(-300.5)), Scalar::I8(-128));
    assert_eq!(eval_cast(DType::U8, half(f32::NAN)), Scalar::U8(0));
    assert_eq!(eval_cast(DType::Bool, half(6e-8)), Scalar::Bool(true));
    assert_eq!(eval_cast(DType::F64, Scalar::F16(f16::from_bits(1))), Scalar::F64(2.0f64.powi(-24)));
}

#[test]
fn unary_on_special_values() {
    let un = |op, a| eval_unary(op, Scalar::F32(a)).expect("defined");
    assert_eq!(un(UnOp::Sign, -0.0), Scalar::F32(-0.0));
    assert_eq!(un(UnOp::Sign, -3.0), Scalar::F32(-1.0));
    assert!(un(UnOp::Sign, f32::NAN).as_f64().is_nan());
    assert_eq!(un(UnOp::Round, 2.5), Scalar::F32(2.0));
    assert_eq!(un(UnOp::Sigmoid, -1000.0), Scalar::F32(0.0));
    assert_eq!(un(UnOp::Sigmoid, 1000.0), Scalar::F32(1.0));
    assert_eq!(un(UnOp::IsInf, f32::NEG_INFINITY), Scalar::Bool(true));
    assert_eq!(un(UnOp::IsNan, 1.0), Scalar::Bool(false));
    assert_eq!(eval_unary(UnOp::Sign, Scalar::I64(-9)), Some(Scalar::I64(-1)));
    assert_eq!(eval_unary(UnOp::Sign, Scalar::U8(9)), Some(Scalar::U8(1)));
    assert_eq!(eval_unary(UnOp::Abs, Scalar::I8(-128)), Some(Scalar::I8(-128)));
    assert_eq!(eval_unary(UnOp::Exp, Scalar::I64(1)), None);
    assert_eq!(eval_binary(BinOp::Add, Scalar::Bool(true), Scalar::Bool(true)), None);
}

#[test]
fn literals_fold() {
    let e = Expr::f32(2.0) * Expr::f32(3.0) + Expr::f32(1.0);
    assert_eq!(eval_const(&e), Some(Scalar::F32(7.0)));
    assert_eq!(eval_const(&Expr::bool(true).select(Expr::f32(1.0), Expr::i64(1))), None);
}

#[test]
fn every_operation_is_defined_somewhere() {
    for op in UnOp::ALL {
        assert!(DType::ALL.iter().any(|&d| unary_defined(op, d)), "{op:?}");
    }
    for op in BinOp::ALL {
        assert!(DType::ALL.iter().any(|&d| binary_defined(op, d)), "{op:?}");
    }
}
