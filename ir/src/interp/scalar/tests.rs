//! Special values of every kind of operation.

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
