//! Half types in lanes: all 65,536 values of each, and numbers of every other type at, between and beside them.

use std::collections::HashMap;

use nestjit_ir::LoopKind::Vector;
use nestjit_ir::interp::Value;
use nestjit_ir::{Affine, BufId, Buffer, DType, Expr, NestBuilder, Program, Role, Scalar, bf16, f16};

use super::harness::{Choices, value_of};
use super::types::check_lanes;

const HALVES: [DType; 2] = [DType::F16, DType::BF16];

fn buffer(p: &mut Program, name: &str, dtype: DType, n: usize, role: Role) -> BufId {
    p.add_buffer(Buffer::new(name, dtype, &[n], role))
}

fn half(dtype: DType, bits: u16) -> Scalar {
    if dtype == DType::F16 { Scalar::F16(f16::from_bits(bits)) } else { Scalar::BF16(bf16::from_bits(bits)) }
}

fn all(dtype: DType) -> Vec<Scalar> {
    (0..=u16::MAX).map(|bits| half(dtype, bits)).collect()
}

/// Checks `y = f(x)` for all of these, in loops of full registers and of what is left.
fn check_all(values: &[Scalar], to: DType, f: impl Fn(Expr) -> Expr) {
    let from = values[0].dtype();
    for n in [values.len(), values.len().min(37)] {
        let mut p = Program::default();
        let x = buffer(&mut p, "x", from, n, Role::In);
        let y = buffer(&mut p, "y", to, n, Role::Out);
        let mut b = NestBuilder::new(&mut p, "all");
        b.for_kind("i", n, Vector, |b, i| b.store(y, [i], f(Expr::load(x, [Affine::from(i)]))));
        b.finish();
        let given: HashMap<BufId, Value> = HashMap::from([(x, value_of(p.buf(x), &values[..n]))]);
        check_lanes(&p, &given, 0.0);
    }
}

#[test]
fn every_half_becomes_every_type() {
    for from in HALVES {
        for to in DType::ALL {
            check_all(&all(from), to, |x| x.cast(to));
        }
        // Through registers only.
        check_all(&all(from), DType::F32, |x| (-(-x).cast(DType::F32)).cast(from).cast(DType::F32));
    }
}

/// Numbers that are halves, in the middle between two, and beside that.
fn between(dtype: DType) -> Vec<f64> {
    let mut numbers = Vec::new();
    for bits in 0..0x7fff {
        let (a, b) = (half(dtype, bits).as_f64(), half(dtype, bits + 1).as_f64());
        if a.is_nan() || b.is_nan() || a.is_infinite() {
            continue;
        }
        // What follows the largest would be as far away as what is before.
        let b = if b.is_infinite() { 2.0 * a - half(dtype, bits - 1).as_f64() } else { b };
        let middle = (a + b) / 2.0;
        let sign = if bits % 3 == 0 { -1.0 } else { 1.0 };
        numbers.extend([a, middle, middle.next_down(), middle.next_up()].map(|v| sign * v));
    }
    numbers.extend([f64::INFINITY, f64::NEG_INFINITY, f64::NAN, f64::MAX, 5e-324, -5e-324]);
    numbers
}

#[test]
fn floats_are_rounded_to_halves_once() {
    for to in HALVES {
        let numbers = between(to);
        let doubles: Vec<Scalar> = numbers.iter().map(|v| Scalar::F64(*v)).collect();
        check_all(&doubles, to, |x| x.cast(to));
        let beside = |v: f32| [v, v.next_up(), v.next_down()].map(Scalar::F32);
        let singles: Vec<Scalar> = numbers.iter().step_by(2).flat_map(|v| beside(*v as f32)).collect();
        check_all(&singles, to, |x| x.cast(to));
        // In a register.
        check_all(&singles, DType::F32, |x| x.cast(to).cast(DType::F32));
        let mut choices = Choices(0xbeef);
        let mut bits = || (choices.below(1 << 16) << 16 | choices.below(1 << 16)) as u32;
        let random: Vec<Scalar> = (0..60_000).map(|_| Scalar::F32(f32::from_bits(bits()))).collect();
        check_all(&random, to, |x| x.cast(to));
        let other = if to == DType::F16 { DType::BF16 } else { DType::F16 };
        check_all(&all(other), to, |x| x.cast(to));
    }
}

#[test]
fn integers_are_rounded_to_halves_once() {
    let mut values: Vec<i64> = (-3000..3000).chain(-66_000..-65_000).chain(65_000..66_000).collect();
    for shift in 8..55 {
        for leading in [0x101i64, 0x103, 0x1ff, 0x181] {
            let middle = leading << shift;
            values.extend([middle - 1, middle, middle + 1, -middle - 1, -middle, 1 - middle]);
        }
    }
    values.extend([i64::MAX, i64::MIN, i64::MIN + 1, (1 << 53) + 1, 1 << 53, -(1 << 53) - 1]);
    for to in HALVES {
        for from in [DType::I64, DType::U64, DType::I32, DType::U32, DType::I16, DType::U8] {
            let integers: Vec<Scalar> = values.iter().map(|v| Scalar::from_i64(from, *v)).collect();
            check_all(&integers, to, |x| x.cast(to));
        }
    }
}
