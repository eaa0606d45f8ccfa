//! Accuracy over the whole range of `f32`: the functions evaluated on plain numbers.

use nestjit_ir::interp::{Value, eval_unary};
use nestjit_ir::{Buffer, DType, Expr, LoopKind, NestBuilder, Program, Role, Scalar, UnOp};

use super::{MathBuilder, unary};
use crate::codegen::tests::harness;
use crate::codegen::vcode::Cmp;
use crate::machine::{Isa, MachineModel};

/// Evaluates instead of building.
#[derive(Clone, Copy, Debug)]
struct Evaluate {
    fma: bool,
    scale: bool,
}

/// The machines that there are.
const MACHINES: [Evaluate; 3] = [
    Evaluate { fma: true, scale: true },
    Evaluate { fma: true, scale: false },
    Evaluate { fma: false, scale: false },
];

impl MathBuilder for Evaluate {
    type F = f32;
    type I = i32;
    type M = bool;

    fn has_fma(&self) -> bool {
        self.fma
    }
    fn has_scale(&self) -> bool {
        self.scale
    }
    fn scale(&mut self, a: f32, n: f32) -> f32 {
        (f64::from(a) * f64::from(n).exp2()) as f32
    }
    fn float(&mut self, value: f32) -> f32 {
        value
    }
    fn int(&mut self, value: i32) -> i32 {
        value
    }
    fn add(&mut self, a: f32, b: f32) -> f32 {
        a + b
    }
    fn sub(&mut self, a: f32, b: f32) -> f32 {
        a - b
    }
    fn mul(&mut self, a: f32, b: f32) -> f32 {
        a * b
    }
    fn div(&mut self, a: f32, b: f32) -> f32 {
        a / b
    }
    fn fma(&mut self, a: f32, b: f32, c: f32) -> f32 {
        if self.fma { a.mul_add(b, c) } else { a * b + c }
    }
    fn max(&mut self, a: f32, b: f32) -> f32 {
        if a > b { a } else { b }
    }
    fn min(&mut self, a: f32, b: f32) -> f32 {
        if a < b { a } else { b }
    }
    fn abs(&mut self, a: f32) -> f32 {
        a.abs()
    }
    fn bits(&mut self, a: f32) -> i32 {
        a.to_bits() as i32
    }
    fn float_of_bits(&mut self, a: i32) -> f32 {
        f32::from_bits(a as u32)
    }
    fn to_float(&mut self, a: i32) -> f32 {
        a as f32
    }
    fn int_add(&mut self, a: i32, b: i32) -> i32 {
        a.wrapping_add(b)
    }
    fn int_sub(&mut self, a: i32, b: i32) -> i32 {
        a.wrapping_sub(b)
    }
    fn and(&mut self, a: i32, b: i32) -> i32 {
        a & b
    }
    fn or(&mut self, a: i32, b: i32) -> i32 {
        a | b
    }
    fn xor(&mut self, a: i32, b: i32) -> i32 {
        a ^ b
    }
    fn shl(&mut self, a: i32, amount: u8) -> i32 {
        a << amount
    }
    fn shr(&mut self, a: i32, amount: u8) -> i32 {
        a >> amount
    }
    fn compare(&mut self, op: Cmp, a: f32, b: f32) -> bool {
        match op {
            Cmp::Eq => a == b,
            Cmp::Ne => a != b,
            Cmp::Lt => a < b,
            Cmp::Le => a <= b,
            Cmp::Gt => a > b,
            Cmp::Ge => a >= b,
            Cmp::Unordered => a.is_nan() || b.is_nan(),
        }
    }
    fn compare_int(&mut self, op: Cmp, a: i32, b: i32) -> bool {
        match op {
            Cmp::Eq => a == b,
            Cmp::Ne | Cmp::Unordered => a != b,
            Cmp::Lt => a < b,
            Cmp::Le => a <= b,
            Cmp::Gt => a > b,
            Cmp::Ge => a >= b,
        }
    }
    fn select(&mut self, mask: bool, a: f32, b: f32) -> f32 {
        if mask { a } else { b }
    }
    fn call_where(&mut self, mask: bool, op: UnOp, x: f32, fast: f32) -> f32 {
        if mask { reference(op, x) as f32 } else { fast }
    }
}

/// The true value, to double precision.
fn reference(op: UnOp, x: f32) -> f64 {
    match eval_unary(op, Scalar::F64(f64::from(x))) {
        Some(Scalar::F64(y)) => y,
        other => panic!("{op:?} on {} gave {other:?}", DType::F64),
    }
}

/// The distance of `found` from `expected` in units of the last place of `f32` at `expected`.
fn ulps(found: f32, expected: f64) -> f64 {
    let rounded = expected as f32;
    if found.is_nan() || expected.is_nan() {
        return if found.is_nan() == expected.is_nan() { 0.0 } else { f64::INFINITY };
    }
    if found == rounded {
        return 0.0;
    }
    if found.is_infinite() || rounded.is_infinite() {
        // The largest finite number is next to infinity.
        let next = |x: f32| x.abs() == f32::MAX || x.is_infinite();
        return if next(found) && next(rounded) && found.signum() == rounded.signum() {
            1.0
        } else {
            f64::INFINITY
        };
    }
    let magnitude = rounded.abs().max(f32::MIN_POSITIVE);
    let unit = f64::from(f32::from_bits(magnitude.to_bits() & 0x7f80_0000)) * f64::from(f32::EPSILON);
    (f64::from(found) - expected).abs() / unit
}

const FUNCTIONS: [UnOp; 9] = [
    UnOp::Exp,
    UnOp::Expm1,
    UnOp::Sigmoid,
    UnOp::Tanh,
    UnOp::Log,
    UnOp::Log1p,
    UnOp::Erf,
    UnOp::Sin,
    UnOp::Cos,
];

fn check(op: UnOp, mut machine: Evaluate, x: f32) -> f64 {
    let found = unary(&mut machine, op, x).expect("it has vector code");
    let error = ulps(found, reference(op, x));
    assert!(
        error <= 4.0,
        "{op:?}({x:e}), {machine:?}: {found:e} instead of {:e}, {error} ulp",
        reference(op, x)
    );
    error
}

#[test]
fn at_most_four_units_over_the_whole_range() {
    // A stride that visits every exponent with all kinds of mantissas.
    for op in FUNCTIONS {
        for machine in MACHINES {
            let mut worst = (0.0, 0.0);
            for bits in (0..=u32::MAX).step_by(9_973) {
                let x = f32::from_bits(bits);
                let error = check(op, machine, x);
                if error > worst.0 {
                    worst = (error, x);
                }
            }
            println!("{op:?}, {machine:?}: at most {:.2} ulp, at {:e}", worst.0, worst.1);
        }
    }
}

#[test]
fn at_most_four_units_where_functions_change() {
    let middles = [
        0.0,
        0.346_573_6,
        0.5,
        std::f32::consts::LN_2,
        0.927_734_4,
        1.0,
        std::f32::consts::SQRT_2,
        std::f32::consts::FRAC_PI_2,
        2.0,
        std::f32::consts::PI,
        4.0,
        9.0,
        10.0,
        17.5,
        20.0,
        87.3,
        88.722_84,
        89.0,
        103.278,
        104.0,
        8_000.0,
        71_476.0,
        1.0e-8,
        2.0e-8,
        5.9e-8,
        1.17e-38,
        f32::MAX,
        std::f32::consts::FRAC_1_SQRT_2,
    ];
    for op in FUNCTIONS {
        for middle in middles {
            for step in -300i32..=300 {
                let x = f32::from_bits((middle.to_bits() as i32).saturating_add(step).max(0) as u32);
                for machine in MACHINES {
                    check(op, machine, x);
                    check(op, machine, -x);
                }
            }
        }
        // Near multiples of pi/2 the reduction cancels.
        for n in 1..6_000 {
            let x = (f64::from(n) * std::f64::consts::FRAC_PI_2) as f32;
            for machine in MACHINES {
                check(op, machine, x);
            }
        }
    }
}

#[test]
fn special_values_and_signs_of_zero() {
    for machine in MACHINES {
        let value = |op, x| {
            let mut machine = machine;
            unary(&mut machine, op, x).expect("it has vector code")
        };
        for op in FUNCTIONS {
            assert!(value(op, f32::NAN).is_nan(), "{op:?}");
            for x in [f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, 1e-45, -1e-45, 0.0] {
                check(op, machine, x);
            }
        }
        for op in [UnOp::Expm1, UnOp::Tanh, UnOp::Log1p, UnOp::Erf, UnOp::Sin] {
            for x in [0.0f32, -0.0, 1e-45, -1e-45] {
                let y = value(op, x);
                assert_eq!(y.is_sign_negative(), x.is_sign_negative(), "{op:?}({x:e}) = {y:e}");
            }
        }
        assert_eq!(value(UnOp::Log, -0.0), f32::NEG_INFINITY);
        assert!(value(UnOp::Log, -1e-45).is_nan() && value(UnOp::Log1p, -1.5).is_nan());
        assert_eq!((value(UnOp::Exp, 100.0), value(UnOp::Exp, -200.0)), (f32::INFINITY, 0.0));
        assert_eq!((value(UnOp::Erf, 5.0), value(UnOp::Tanh, -30.0)), (1.0, -1.0));
    }
}

#[test]
fn kernels_compute_the_same_bits() {
    // The sign of NaN is not defined.
    let bits = |x: f32| if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() };
    let operands: Vec<f32> =
        (0..=u32::MAX).step_by(1_048_573).map(f32::from_bits).chain([0.0, -0.0, 1e6, -3e9]).collect();
    let n = operands.len();
    let plain = MachineModel { fma: false, ..harness::target() };
    for target in harness::targets().into_iter().chain([plain]) {
        let mut machine = Evaluate { fma: target.fma, scale: target.isa == Isa::Avx512 };
        let mut p = Program::default();
        let x = p.add_buffer(Buffer::new("x", DType::F32, &[n], Role::In));
        let outs = FUNCTIONS.map(|op| p.add_buffer(Buffer::new(op.name(), DType::F32, &[n], Role::Out)));
        let mut b = NestBuilder::new(&mut p, "functions");
        for (op, y) in FUNCTIONS.into_iter().zip(outs) {
            b.for_kind("i", n, LoopKind::Vector, |b, i| b.store(y, [i], Expr::load(x, [i]).unary(op)));
        }
        b.finish();
        let code = harness::compile_program(&p, &target).expect("compiles");
        let given = [(x, Value::new(&[n], operands.clone()).expect("n operands"))];
        let found = harness::run(&p, &code, &given.into()).expect("runs");
        for (op, y) in FUNCTIONS.into_iter().zip(outs) {
            let found = found[&y].as_slice::<f32>().expect("f32");
            for (&x, &y) in operands.iter().zip(found) {
                let expected = unary(&mut machine, op, x).expect("it has vector code");
                assert_eq!(bits(y), bits(expected), "{op:?}({x:e}) on {target:?}: {y:e}, not {expected:e}");
            }
        }
    }
}
