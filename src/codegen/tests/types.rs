//! Lanes of every type: conversions, operations, reductions, locals and accesses of all element types, at every ragged length,
//! on special values, in every tier. What the table of `lanes` allows becomes kernels.

use std::collections::HashMap;

use nestjit_ir::LoopKind::{Serial, Unrolled, Vector};
use nestjit_ir::interp::{Mode, Value, binary_defined, eval_cast, interpret, no_calls, unary_defined};
use nestjit_ir::{
    Affine, BinOp, BufId, Buffer, DType, Expr, Kind, LoopKind, NestBuilder, Program, ReduceOp, Role, SCALAR,
    Scalar, UnOp,
};

use super::harness::{Choices, compile_program, inputs, run, targets, value_of};
use crate::lanes;

fn buffer(p: &mut Program, name: &str, dtype: DType, shape: &[usize], role: Role) -> BufId {
    p.add_buffer(Buffer::new(name, dtype, shape, role))
}

/// Values at which conversions and operations do something special.
fn specials(dtype: DType) -> Vec<Scalar> {
    let bits = [7, 8, 15, 16, 23, 24, 31, 32, 52, 53, 62, 63, 64];
    let mut integers: Vec<i128> = vec![0, 1, -1, 2, 3, -3, 5, 7, 100, -100, 12345];
    for n in bits {
        integers.extend([-1, 0, 1].map(|d| (1i128 << n) + d));
        integers.extend([-1, 0, 1].map(|d| -(1i128 << n) + d));
    }
    // Ties and what is just beside them, for one rounding to f32.
    integers.extend([(1i128 << 62) + (1 << 38), (1 << 62) + (1 << 38) + 1, (1 << 63) + (1 << 39) + 1]);
    let mut floats: Vec<f64> = integers.iter().map(|v| *v as f64).collect();
    floats.extend([0.5, -0.5, 1.5, 2.5, -2.5, 0.1, -0.0, 254.5, 255.5, 127.5, -128.5, -129.0, 65535.5]);
    floats.extend([1e-40, -1e-40, 1e30, -1e30, 1e300, f64::INFINITY, f64::NEG_INFINITY, f64::NAN]);
    floats.extend([2147483647.5, 4294967295.5, -2147483648.5]);
    // Halves: ties, the largest, what rounds to it and what does not, denormals.
    floats.extend([2049.0, 2051.0, 2049.0 + 1e-9, 257.0, 259.0 - 1e-12, 65504.0, 65519.99, 65520.0, 3.39e38]);
    floats.extend([6.2e-5, 3.1e-8, 2.98e-8, -8.9e-8]);
    match dtype.kind() {
        Kind::Float => floats.into_iter().map(|v| eval_cast(dtype, Scalar::F64(v))).collect(),
        Kind::Bool => [true, false, false, true, true].map(Scalar::Bool).to_vec(),
        Kind::Signed | Kind::Unsigned => {
            let of = |v: i128| {
                if dtype == DType::U64 { Scalar::U64(v as u64) } else { Scalar::from_i64(dtype, v as i64) }
            };
            integers.into_iter().map(of).collect()
        }
    }
}

/// As many of the special values as a buffer has elements, from one on.
fn special_value(buffer: &Buffer, from: usize) -> Value {
    let values = specials(buffer.dtype);
    let elements: Vec<Scalar> = (0..buffer.len()).map(|i| values[(i + from) % values.len()]).collect();
    value_of(buffer, &elements)
}

fn element(value: &Value, i: usize) -> Scalar {
    value.data.get(i).expect("an element")
}

/// Whether two results are the same: integers exactly, floats to a tolerance, and NaN wherever one is.
fn same(a: Scalar, b: Scalar, tolerance: f64) -> bool {
    if !a.dtype().is_float() {
        return a == b;
    }
    let (x, y) = (a.as_f64(), b.as_f64());
    if tolerance == 0.0 && a.dtype().size() == 2 {
        return a.to_bits() == b.to_bits() || (x.is_nan() && y.is_nan());
    }
    x == y || (x.is_nan() && y.is_nan()) || (x - y).abs() <= tolerance * x.abs()
}

/// Checks a program on every tier, and that all of its loops are parts of kernels.
pub(super) fn check_lanes(p: &Program, given: &HashMap<BufId, Value>, tolerance: f64) {
    let expected = interpret(p, given, Mode::Exact, &no_calls).expect("a valid program");
    for target in targets() {
        let code = compile_program(p, &target).unwrap_or_else(|e| panic!("{e} on {:?}\n{p}", target.isa));
        for nest in code.nests() {
            assert!(nest.scalar_loops.is_empty(), "{:?} on {:?}\n{p}", nest.scalar_loops, target.isa);
        }
        let found = run(p, &code, given).expect("runs");
        for (id, expected) in &expected {
            let buffer = p.buf(*id);
            for i in 0..buffer.len() {
                let (e, f) = (element(expected, i), element(&found[id], i));
                assert!(
                    same(e, f, tolerance),
                    "{:?} %{}[{i}]: interpreter {e:?}, native {f:?}\n{p}\n{}",
                    target.isa,
                    buffer.name,
                    code.disassembly(0)
                );
            }
        }
    }
}

const LONGEST: usize = 70;

/// Where the elements of the loop of so many iterations lie: one loop follows another.
fn start(n: usize) -> usize {
    n * (n - 1) / 2
}

/// `y = f(x..)` in loops of every length from 1 to [`LONGEST`].
fn ragged(sources: &[DType], to: DType, f: &dyn Fn(&[Expr]) -> Expr) -> (Program, Vec<BufId>) {
    let mut p = Program::default();
    let all = start(LONGEST + 1);
    let x: Vec<BufId> = sources
        .iter()
        .enumerate()
        .map(|(i, d)| buffer(&mut p, &format!("x{i}"), *d, &[all], Role::In))
        .collect();
    let y = buffer(&mut p, "y", to, &[all], Role::Out);
    let mut b = NestBuilder::new(&mut p, "ragged");
    for n in 1..=LONGEST {
        b.for_kind("i", n, Vector, |b, i| {
            let at = i + start(n) as i64;
            let loads: Vec<Expr> = x.iter().map(|x| Expr::load(*x, [at.clone()])).collect();
            b.store(y, [at], f(&loads));
        });
    }
    b.finish();
    (p, x)
}

fn special_inputs(p: &Program, x: &[BufId]) -> HashMap<BufId, Value> {
    // Strides that are prime to the number of values pair each with each.
    x.iter().enumerate().map(|(i, b)| (*b, special_value(p.buf(*b), 13 * i))).collect()
}

#[test]
fn every_type_becomes_every_other_at_every_length() {
    for from in DType::ALL {
        for to in DType::ALL {
            let (p, x) = ragged(&[from], to, &|x| x[0].clone().cast(to));
            check_lanes(&p, &special_inputs(&p, &x), 0.0);
        }
    }
}

#[test]
fn what_was_cut_before_needs_no_saturation() {
    for (to, lo, hi) in [(DType::U8, 0.0, 255.0), (DType::I8, -128.0, 127.0), (DType::I32, -5.0, 9.0)] {
        for from in [DType::F32, DType::F64] {
            let (p, x) = ragged(&[from], to, &|x| {
                let x = x[0].clone().unary(UnOp::Round).max(Expr::literal(from, lo));
                x.min(Expr::literal(from, hi)).cast(to)
            });
            check_lanes(&p, &special_inputs(&p, &x), 0.0);
        }
    }
}

/// Pairs of special values: each with each, as far as they fit.
fn pairs(p: &Program, x: &[BufId]) -> HashMap<BufId, Value> {
    let values = |b: BufId| specials(p.buf(b).dtype);
    let len = p.buf(x[0]).len();
    let first = values(x[0]);
    let a = (0..len).map(|i| first[i % first.len()]).collect::<Vec<_>>();
    let second = values(x[1]);
    let b = (0..len).map(|i| second[(i + i / first.len() * 7) % second.len()]).collect::<Vec<_>>();
    HashMap::from([(x[0], value_of(p.buf(x[0]), &a)), (x[1], value_of(p.buf(x[1]), &b))])
}

#[test]
fn every_operation_on_every_type_that_the_table_allows() {
    let empty = Program::default();
    for dtype in DType::ALL {
        let tolerance = if dtype == DType::F32 { 1e-6 } else { 1e-14 };
        for op in UnOp::ALL.into_iter().filter(|op| unary_defined(*op, dtype)) {
            let (p, x) = ragged(&[dtype], op.result(dtype), &|x| x[0].clone().unary(op));
            check_lanes(&p, &special_inputs(&p, &x), tolerance);
        }
        for op in BinOp::ALL.into_iter().filter(|op| binary_defined(*op, dtype)) {
            let zero = Expr::literal(dtype, 9.0);
            let variable = Expr::Select(Box::new(Expr::bool(true)), Box::new(zero.clone()), Box::new(zero));
            let wide = dtype.size() == 8 && dtype.is_int();
            let excepted = match op {
                BinOp::Div | BinOp::Rem | BinOp::Mod => wide,
                BinOp::Pow => dtype.is_int(),
                _ => false,
            };
            if excepted {
                let mut p = Program::default();
                let x = buffer(&mut p, "x", dtype, &[4], Role::In);
                let load = || Expr::load(x, [Affine::constant(0)]);
                assert!(lanes::binary(&p, op, &load(), &load()).is_err(), "{op:?} {dtype}");
                continue;
            }
            assert_eq!(lanes::binary(&empty, op, &variable, &variable), Ok(()));
            // Of elements, and with a constant.
            let (p, x) =
                ragged(&[dtype, dtype], op.result(dtype), &|x| x[0].clone().binary(op, x[1].clone()));
            check_lanes(&p, &pairs(&p, &x), tolerance);
            for constant in [1.0, 3.0, -1.0, 0.0] {
                let (p, x) = ragged(&[dtype], op.result(dtype), &|x| {
                    x[0].clone().binary(op, Expr::literal(dtype, constant))
                });
                check_lanes(&p, &special_inputs(&p, &x), tolerance);
            }
        }
        let (p, x) =
            ragged(&[DType::Bool, dtype, dtype], dtype, &|x| x[0].clone().select(x[1].clone(), x[2].clone()));
        check_lanes(&p, &special_inputs(&p, &x), 0.0);
    }
    for (dtype, exponent) in [(DType::I64, 1), (DType::I32, 2), (DType::U8, 3), (DType::I64, 3)] {
        let (p, x) =
            ragged(&[dtype], dtype, &|x| x[0].clone().pow(Expr::literal(dtype, f64::from(exponent))));
        check_lanes(&p, &special_inputs(&p, &x), 0.0);
    }
}

#[test]
fn indices_stay_narrow_and_are_divided() {
    for divisor in [1i64, 2, 7, -1, -3] {
        for op in [BinOp::Div, BinOp::Rem, BinOp::Mod] {
            let mut p = Program::default();
            let (rows, width) = (3usize, 45);
            let y = buffer(&mut p, "y", DType::I64, &[rows, width], Role::Out);
            let z = buffer(&mut p, "z", DType::Bool, &[rows, width], Role::Out);
            let mut b = NestBuilder::new(&mut p, "index");
            b.for_("r", rows, |b, r| {
                b.for_kind("i", width, Vector, |b, i| {
                    let at = Affine::term(i, 5) + Affine::term(r, -40) - 17;
                    let value = Expr::index(at).binary(op, Expr::i64(divisor));
                    b.store(z, [r, i], value.clone().gt(Expr::index(Affine::var(r))));
                    b.store(y, [r, i], value * Expr::i64(1 << 31));
                });
            });
            b.finish();
            check_lanes(&p, &HashMap::new(), 0.0);
        }
    }
    // Numbers of 32 bits as i64: one quotient has 33 bits.
    for op in [BinOp::Div, BinOp::Rem, BinOp::Mod] {
        let wide = |e: &Expr| e.clone().cast(DType::I64);
        let (p, x) = ragged(&[DType::I32], DType::I64, &|x| wide(&x[0]).binary(op, Expr::i64(-1)));
        check_lanes(&p, &special_inputs(&p, &x), 0.0);
    }
}

/// Small numbers, so that sums and products of floats are comparable; of half types, such that they are exact.
fn small_inputs(p: &Program, op: ReduceOp) -> HashMap<BufId, Value> {
    let mut given = inputs(p);
    let mut choices = Choices(0x51ed);
    for (id, value) in &mut given {
        let buffer = p.buf(*id);
        if matches!(buffer.dtype, DType::F16 | DType::BF16) {
            let of: &[f64] = if op == ReduceOp::Mul { &[1.0, -1.0, 2.0, 0.5] } else { &[1.0, -1.0, 0.0] };
            *value = Value::from_fn(buffer.dtype, &buffer.shape, |_| choices.of(of));
        }
    }
    given
}

#[test]
fn reductions_of_every_type_in_lanes_and_across_them() {
    for dtype in DType::ALL {
        for op in [ReduceOp::Add, ReduceOp::Mul, ReduceOp::Max, ReduceOp::Min] {
            for width in [1usize, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 31, 33, 40, 300] {
                // A product of many numbers leaves what floats can be compared in.
                if op == ReduceOp::Mul && dtype.is_float() && width > 40 {
                    continue;
                }
                let mut p = Program::default();
                let rows = 5;
                let x = buffer(&mut p, "x", dtype, &[rows, width], Role::In);
                let each = buffer(&mut p, "each", dtype, &[width], Role::Out);
                let all = buffer(&mut p, "all", dtype, &[rows], Role::Out);
                let mut b = NestBuilder::new(&mut p, "reduce");
                let identity = Expr::Const(op.identity(dtype));
                b.for_kind("i", width, Vector, |b, i| b.store(each, [i], identity.clone()));
                b.for_("r", rows, |b, r| {
                    let t = b.temp("t", dtype, &[]);
                    b.store(t, SCALAR, identity.clone());
                    b.for_kind("i", width, Vector, |b, i| {
                        b.reduce(op, each, [i], Expr::load(x, [r, i]));
                        b.reduce(op, t, SCALAR, Expr::load(x, [r, i]));
                    });
                    b.store(all, [r], Expr::load(t, SCALAR));
                });
                b.finish();
                check_lanes(&p, &small_inputs(&p, op), 1e-5);
            }
        }
    }
}

#[test]
fn products_are_summed_in_every_type() {
    for dtype in DType::ALL.into_iter().filter(|d| *d != DType::Bool) {
        for width in [3usize, 16, 21, 40] {
            let (rows, steps) = (3, 9);
            let mut p = Program::default();
            let a = buffer(&mut p, "a", dtype, &[rows, steps], Role::In);
            let w = buffer(&mut p, "w", dtype, &[steps, width], Role::In);
            let y = buffer(&mut p, "y", dtype, &[rows, width], Role::Out);
            let mut b = NestBuilder::new(&mut p, "gemm");
            b.for_("r", rows, |b, r| {
                let acc = b.temp("acc", dtype, &[width]);
                b.for_kind("i", width, Vector, |b, i| b.store(acc, [i], Expr::literal(dtype, 0.0)));
                b.for_("k", steps, |b, k| {
                    b.for_kind("i", width, Vector, |b, i| {
                        b.reduce(ReduceOp::Add, acc, [i], Expr::load(a, [r, k]) * Expr::load(w, [k, i]));
                    });
                });
                b.for_kind("i", width, Vector, |b, i| {
                    let sum = Expr::load(acc, [i]);
                    b.store(y, [r, i], sum.clone() * Expr::literal(dtype, 3.0) + sum);
                });
            });
            b.finish();
            let tolerance = if dtype == DType::F64 { 1e-13 } else { 1e-4 };
            check_lanes(&p, &inputs(&p), tolerance);
        }
    }
}

#[test]
fn locals_and_accesses_of_every_type() {
    for dtype in DType::ALL {
        for (kind, width) in [(Unrolled, 5usize), (Serial, 5), (Serial, 37), (Unrolled, 70)] {
            let mut p = Program::default();
            let rows = 4usize;
            let x = buffer(&mut p, "x", dtype, &[rows, width], Role::In);
            let y = buffer(&mut p, "y", dtype, &[rows, width], Role::Out);
            let turned = buffer(&mut p, "turned", dtype, &[width, rows], Role::Out);
            let padded = buffer(&mut p, "padded", dtype, &[rows, width], Role::Out);
            let lane_local = buffer(&mut p, "lanelocal", dtype, &[width], Role::Out);
            let mut b = NestBuilder::new(&mut p, "locals");
            // A local of rows, filled and read in loops that are unrolled or not: in registers or in memory.
            let t = b.temp("t", dtype, &[rows, width]);
            b.for_kind("r", rows, kind, |b, r| {
                b.for_kind("i", width, Vector, |b, i| b.store(t, [r, i], Expr::load(x, [r, i])));
            });
            b.for_kind("r", rows, kind, |b, r| {
                b.for_kind("i", width, Vector, |b, i| b.store(y, [r, i], Expr::load(t, [r, i])));
                // Strided stores and loads.
                b.for_kind("i", width, Vector, |b, i| b.store(turned, [i, r], Expr::load(x, [r, i])));
                b.for_kind("i", width, Vector, |b, i| {
                    let other = Expr::literal(dtype, 1.0);
                    let outside = Expr::load_or(x, [r - 1, Affine::from(i) + 2], other.clone());
                    let flag =
                        outside.clone().binary(BinOp::Eq, Expr::load_or(x, [Affine::from(r), i - 3], other));
                    b.store(padded, [r, i], flag.select(outside, Expr::load(x, [r, i])));
                });
            });
            // Each lane has its own.
            b.for_kind("i", width, Vector, |b, i| {
                let own = b.temp("own", dtype, &[rows]);
                b.for_kind("r", rows, kind, |b, r| b.store(own, [r], Expr::load(x, [r, i])));
                b.for_kind("r", rows, kind, |b, r| {
                    b.store(lane_local, [i], Expr::load(own, [r]));
                });
            });
            b.finish();
            check_lanes(&p, &HashMap::from([(x, special_value(p.buf(x), 3))]), 0.0);
        }
    }
}

#[test]
fn elements_of_a_column_and_of_one_place() {
    for dtype in DType::ALL {
        for width in [1usize, 3, 8, 13, 40] {
            let mut p = Program::default();
            let x = buffer(&mut p, "x", dtype, &[width, 3], Role::In);
            let y = buffer(&mut p, "y", dtype, &[width], Role::Out);
            let z = buffer(&mut p, "z", dtype, &[width], Role::Out);
            let mut b = NestBuilder::new(&mut p, "column");
            b.for_kind("i", width, Vector, |b, i| {
                b.store(y, [i], Expr::load(x, [Affine::from(i), Affine::constant(1)]));
                b.store(z, [i], Expr::load(x, [Affine::constant(0), Affine::constant(2)]));
            });
            b.finish();
            check_lanes(&p, &HashMap::from([(x, special_value(p.buf(x), 30))]), 0.0);
        }
    }
}

#[test]
fn types_meet_in_one_loop() {
    let width = 77;
    for kind in [LoopKind::Serial, LoopKind::Parallel(None)] {
        let mut p = Program::default();
        let mask = buffer(&mut p, "mask", DType::Bool, &[width], Role::In);
        let q = buffer(&mut p, "q", DType::U8, &[4, width], Role::In);
        let ids = buffer(&mut p, "ids", DType::I64, &[width], Role::In);
        let s = buffer(&mut p, "s", DType::F64, &[1], Role::In);
        let y = buffer(&mut p, "y", DType::U8, &[4, width], Role::Out);
        let f = buffer(&mut p, "f", DType::F32, &[4, width], Role::Out);
        let m = buffer(&mut p, "m", DType::Bool, &[4, width], Role::Out);
        let mut b = NestBuilder::new(&mut p, "mixed");
        b.for_kind("r", 4, kind, |b, r| {
            b.for_kind("i", width, Vector, |b, i| {
                let number = Expr::load(q, [r, i]).cast(DType::I32) - Expr::literal(DType::I32, 3.0);
                let real = number.cast(DType::F32) * Expr::f32(0.37);
                let hot = Expr::load(ids, [i]).binary(BinOp::Eq, Expr::index(Affine::from(r)));
                let scaled =
                    (real.clone().cast(DType::F64) * Expr::load(s, [Affine::constant(0)])).cast(DType::F32);
                b.store(f, [r, i], hot.clone().select(scaled, real.clone()));
                let flag = Expr::load(mask, [i]).binary(BinOp::And, hot.unary(UnOp::Not));
                b.store(m, [r, i], flag.clone());
                let code = real.unary(UnOp::Round).max(Expr::f32(0.0)).min(Expr::f32(255.0)).cast(DType::U8);
                b.store(y, [r, i], flag.select(code, Expr::literal(DType::U8, 7.0)));
            });
        });
        b.finish();
        check_lanes(&p, &inputs(&p), 1e-6);
    }
}
