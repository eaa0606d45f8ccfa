//! The scalar compiler: every construct, type and operation.

use std::collections::HashMap;

use nestjit_ir::interp::{Value, binary_defined, unary_defined};
use nestjit_ir::{
    Affine, BinOp, BufId, Buffer, DType, Expr, Index, Layout, Load, LoopKind, NestBuilder, Program, ReduceOp,
    Role, SCALAR, UnOp,
};

use super::harness::{check, check_with, compile_program, inputs, run, target};
use crate::error::ErrorKind;

fn buffer(p: &mut Program, name: &str, dtype: DType, shape: &[usize], role: Role) -> BufId {
    p.add_buffer(Buffer::new(name, dtype, shape, role))
}

/// Numbers at which operations behave specially, in every type.
fn special(dtype: DType) -> Vec<f64> {
    match dtype {
        DType::F32 | DType::F64 | DType::F16 | DType::BF16 => vec![
            0.0,
            -0.0,
            1.0,
            -1.0,
            0.5,
            -2.5,
            2.5,
            3.5,
            -7.25,
            1e10,
            -1e20,
            1e-40,
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            0.99,
            127.5,
            255.7,
            -129.0,
            2147483648.0,
            9.3e18,
            // Around the ends of halves: the largest, what rounds to it and what does not, denormals and ties among them.
            65504.0,
            65519.99,
            65520.0,
            3.39e38,
            6.2e-5,
            3.1e-8,
            2.98e-8,
            -8.9e-8,
            1.0 + 1.0 / 2048.0,
            1.0 + 3.0 / 2048.0,
            1.0 + 1.0 / 2048.0 + 1e-12,
            1.0 + 1.0 / 256.0,
            1.0 + 3.0 / 256.0 - 1e-12,
        ],
        DType::Bool => vec![0.0, 1.0],
        DType::U8 => vec![0.0, 1.0, 2.0, 7.0, 8.0, 127.0, 128.0, 255.0],
        DType::U16 => vec![0.0, 1.0, 2.0, 15.0, 16.0, 7.0, 32767.0, 32768.0, 65535.0],
        DType::U32 => vec![0.0, 1.0, 2.0, 31.0, 32.0, 7.0, 2147483648.0, 4294967295.0],
        DType::U64 => {
            vec![0.0, 1.0, 2.0, 63.0, 64.0, 7.0, 9.223_372_036_854_776e18, 1.9e19, 65519.0, 65520.0]
        }
        DType::I16 => vec![0.0, 1.0, -1.0, 2.0, 15.0, 16.0, -3.0, 32767.0, -32768.0],
        DType::I8 => vec![0.0, 1.0, -1.0, 2.0, 7.0, 8.0, -3.0, 127.0, -128.0],
        DType::I32 => vec![0.0, 1.0, -1.0, 2.0, 31.0, 32.0, -3.0, 7.0, 2147483647.0, -2147483648.0],
        DType::I64 => vec![0.0, 1.0, -1.0, 2.0, 63.0, 64.0, -3.0, 7.0, 9.223_372_036_854_775e18, -9.3e18],
    }
}

/// A program `z[i] = f(x[i], y[i])` on all pairs of special values, checked exactly.
fn check_binary(dtype: DType, result: DType, f: impl Fn(Expr, Expr) -> Expr) {
    let values = special(dtype);
    let n = values.len() * values.len();
    let mut p = Program::default();
    let x = buffer(&mut p, "x", dtype, &[n], Role::In);
    let y = buffer(&mut p, "y", dtype, &[n], Role::In);
    let z = buffer(&mut p, "z", result, &[n], Role::Out);
    let mut b = NestBuilder::new(&mut p, "op");
    b.for_("i", n, |b, i| b.store(z, [i], f(Expr::load(x, [i]), Expr::load(y, [i]))));
    b.finish();
    let given = HashMap::from([
        (x, Value::from_fn(dtype, &[n], |i| values[i / values.len()])),
        (y, Value::from_fn(dtype, &[n], |i| values[i % values.len()])),
    ]);
    check_with(&p, &target(), &given, 0.0);
}

#[test]
fn every_unary_operation_on_every_type() {
    for dtype in DType::ALL {
        for op in UnOp::ALL.into_iter().filter(|op| unary_defined(*op, dtype)) {
            check_binary(dtype, op.result(dtype), |x, _| x.unary(op));
        }
    }
}

#[test]
fn every_binary_operation_on_every_type() {
    for dtype in DType::ALL {
        for op in BinOp::ALL.into_iter().filter(|op| binary_defined(*op, dtype)) {
            check_binary(dtype, op.result(dtype), |x, y| x.binary(op, y));
        }
    }
}

#[test]
fn every_cast_and_select() {
    for from in DType::ALL {
        for to in DType::ALL {
            check_binary(from, to, |x, _| x.cast(to));
        }
        check_binary(from, from, |x, y| x.clone().le(y.clone()).select(x, y));
    }
}

#[test]
fn every_reduction_on_every_type() {
    for dtype in DType::ALL {
        for op in [ReduceOp::Add, ReduceOp::Mul, ReduceOp::Max, ReduceOp::Min] {
            let mut p = Program::default();
            let x = buffer(&mut p, "x", dtype, &[3, 5], Role::In);
            let y = buffer(&mut p, "y", dtype, &[3], Role::Out);
            let z = buffer(&mut p, "z", dtype, &[], Role::Out);
            let mut b = NestBuilder::new(&mut p, "reduce");
            b.store(z, SCALAR, Expr::Const(op.identity(dtype)));
            b.for_("i", 3, |b, i| {
                b.store(y, [i], Expr::Const(op.identity(dtype)));
                b.for_("k", 5, |b, k| {
                    b.reduce(op, y, [i], Expr::load(x, [i, k]));
                    b.reduce(op, z, SCALAR, Expr::load(x, [i, k]));
                });
            });
            b.finish();
            check(&p, 0.0);
        }
    }
}

#[test]
fn matmul_with_every_loop_kind_and_locals() {
    let kinds = [LoopKind::Serial, LoopKind::Parallel(None), LoopKind::Vector, LoopKind::Unrolled];
    for outer in kinds {
        for inner in kinds {
            let mut p = Program::default();
            let x = buffer(&mut p, "x", DType::F64, &[7, 6], Role::In);
            let w = buffer(&mut p, "w", DType::F64, &[6, 5], Role::Const);
            let y = buffer(&mut p, "y", DType::F64, &[7, 5], Role::Out);
            let mut b = NestBuilder::new(&mut p, "matmul");
            b.for_kind("n", 7, outer, |b, n| {
                let row = b.temp("row", DType::F64, &[5]);
                b.for_kind("m", 5, inner, |b, m| {
                    let t = b.temp("t", DType::F64, &[]);
                    b.store(t, SCALAR, Expr::f64(0.0));
                    b.for_("k", 6, |b, k| {
                        b.reduce(ReduceOp::Add, t, SCALAR, Expr::load(x, [n, k]) * Expr::load(w, [k, m]));
                    });
                    b.store(row, [m], Expr::load(t, SCALAR));
                });
                b.for_("m", 5, |b, m| b.store(y, [n, m], Expr::load(row, [Affine::constant(4) - m])));
            });
            b.finish();
            let code = check(&p, 0.0);
            assert_eq!(code.nests()[0].segments.len(), 1);
            assert_eq!(code.nests()[0].segments[0].loops.is_empty(), !outer.is_parallel());
            // In vector loops, each lane may have its own row.
            let lanes = [outer, inner].contains(&LoopKind::Vector);
            assert!(lanes || code.nests()[0].scratch_bytes == 64);
        }
    }
}

#[test]
fn parallel_loops_are_segments_unless_they_share_a_local() {
    for share in [false, true] {
        let mut p = Program::default();
        let x = buffer(&mut p, "x", DType::I64, &[10], Role::In);
        let y = buffer(&mut p, "y", DType::I64, &[10], Role::Out);
        let s = buffer(&mut p, "s", DType::I64, &[], Role::Out);
        let mut b = NestBuilder::new(&mut p, "segments");
        let t = if share { b.temp("t", DType::I64, &[10]) } else { y };
        b.store(s, SCALAR, Expr::i64(1));
        b.for_kind("i", 10, LoopKind::Parallel(None), |b, i| {
            b.store(t, [i], Expr::load(x, [i]) * Expr::i64(2))
        });
        b.for_("i", 10, |b, i| b.reduce(ReduceOp::Add, s, SCALAR, Expr::load(t, [i])));
        if share {
            b.for_kind("i", 10, LoopKind::Parallel(None), |b, i| b.store(y, [i], Expr::load(t, [i])));
        }
        b.finish();
        let code = check(&p, 0.0);
        let segments: Vec<Vec<usize>> =
            code.nests()[0].segments.iter().map(|s| s.loops.iter().map(|l| l.extent).collect()).collect();
        assert_eq!(segments, if share { vec![vec![]] } else { vec![vec![], vec![10], vec![]] });
    }
}

#[test]
fn parallel_loops_right_within_one_another_are_cut_together() {
    for (inner, between) in [
        (LoopKind::Serial, false),
        (LoopKind::Vector, false),
        (LoopKind::Serial, true),
        (LoopKind::Vector, true),
    ] {
        let mut p = Program::default();
        let x = buffer(&mut p, "x", DType::F32, &[5, 4, 7, 16], Role::In);
        let y = buffer(&mut p, "y", DType::F32, &[5, 4, 7, 16], Role::Out);
        let z = buffer(&mut p, "z", DType::F32, &[5, 4], Role::Out);
        let mut b = NestBuilder::new(&mut p, "grid");
        b.for_kind("i", 5, LoopKind::Parallel(None), |b, i| {
            b.for_kind("j", 4, LoopKind::in_parts(2), |b, j| {
                if between {
                    b.store(
                        z,
                        [i, j],
                        Expr::load(x, [i.into(), j.into(), Affine::constant(0), Affine::constant(1)]),
                    );
                }
                b.for_kind("k", 7, LoopKind::in_parts(3), |b, k| {
                    b.for_kind("v", 16, inner, |b, v| {
                        b.store(y, [i, j, k, v], Expr::load(x, [i, j, k, v]) * Expr::f32(2.0));
                    });
                });
            });
        });
        if !between {
            b.for_each("n", &[5, 4], |b, n| b.store(z, n, Expr::f32(0.0)));
        }
        b.finish();
        let code = check(&p, 0.0);
        let extents: Vec<usize> = code.nests()[0].segments[0].loops.iter().map(|l| l.extent).collect();
        assert_eq!(extents, if between { vec![5, 4] } else { vec![5, 4, 7] });
    }
}

#[test]
fn padding_guards_layouts_and_halos() {
    let layouts = [
        Layout::row_major(2),
        Layout::ordered(vec![1, 0]),
        Layout { panel: Some((1, 4)), ..Layout::row_major(2) },
        Layout { panel: Some((0, 3)), ..Layout::row_major(2) },
        Layout { interleave: Some((0, 4)), ..Layout::row_major(2) },
        Layout { panel: Some((1, 4)), interleave: Some((0, 2)), ..Layout::row_major(2) },
    ];
    for layout in layouts {
        for halo in [vec![], vec![(1, 1), (2, 0)]] {
            let mut p = Program::default();
            let x = buffer(&mut p, "x", DType::F32, &[5, 6], Role::In);
            let y = buffer(&mut p, "y", DType::F32, &[5, 6], Role::Out);
            p.buf_mut(x).layout = layout.clone();
            p.buf_mut(x).halo = halo.clone();
            p.buf_mut(y).layout = layout.clone();
            let mut b = NestBuilder::new(&mut p, "window");
            b.for_all(&["i", "j"], &[5, 6], |b, v| {
                let at = |di: i64, dj: i64| {
                    Expr::load_or(
                        x,
                        [v[0] + di, v[1] * 2 + dj - 3],
                        Expr::f32(if di == 0 { 0.0 } else { 7.0 }),
                    )
                };
                b.store(y, [v[0], v[1]], at(-1, 0) + at(0, 1) * at(1, -1));
            });
            b.finish();
            check(&p, 1e-6);
        }
    }
}

#[test]
fn gathers_check_their_indices() {
    let gather = |otherwise: Option<Expr>| {
        let mut p = Program::default();
        let x = buffer(&mut p, "x", DType::F32, &[4, 3], Role::In);
        let at = buffer(&mut p, "at", DType::I64, &[5], Role::In);
        let y = buffer(&mut p, "y", DType::F32, &[5, 3], Role::Out);
        let mut b = NestBuilder::new(&mut p, "gather");
        b.op("Gather pick").for_all(&["i", "j"], &[5, 3], |b, v| {
            let index = vec![Index::from(Expr::load(at, [v[0]])), Index::from(v[1])];
            let load = Load { buf: x, index, otherwise: otherwise.clone().map(Box::new) };
            b.store(y, [v[0], v[1]], load.into());
        });
        b.finish();
        (p, x, at)
    };
    let with_index = |p: &Program, at: BufId, last: i64| {
        let mut given = inputs(p);
        given.insert(at, Value::new(&[5], vec![0i64, 3, 1, 2, last]).expect("five indices"));
        given
    };
    let (p, _, at) = gather(None);
    check_with(&p, &target(), &with_index(&p, at, 3), 0.0);
    let code = compile_program(&p, &target()).expect("compiles");
    for bad in [4, -1, i64::MAX, i64::MIN] {
        let error = run(&p, &code, &with_index(&p, at, bad)).expect_err("an index outside");
        assert_eq!(error.kind(), ErrorKind::Index);
        let message =
            format!("nest @gather (Gather pick): the index {bad} of dimension 0 of %x is outside 0..4");
        assert_eq!(error.message(), message);
    }
    let (p, _, at) = gather(Some(Expr::f32(9.0)));
    for index in [2, 4, -1, i64::MAX, i64::MIN] {
        check_with(&p, &target(), &with_index(&p, at, index), 0.0);
    }
}

#[test]
fn scatter_checks_its_index() {
    let mut p = Program::default();
    let at = buffer(&mut p, "at", DType::I64, &[], Role::In);
    let y = buffer(&mut p, "y", DType::U8, &[4], Role::Out);
    let mut b = NestBuilder::new(&mut p, "scatter");
    b.for_("i", 4, |b, i| b.store(y, [i], Expr::literal(DType::U8, 1.0)));
    b.reduce(ReduceOp::Add, y, [Expr::load(at, SCALAR)], Expr::literal(DType::U8, 255.0));
    b.finish();
    let given = |i: i64| HashMap::from([(at, Value::new(&[], vec![i]).expect("a scalar"))]);
    check_with(&p, &target(), &given(2), 0.0);
    let code = compile_program(&p, &target()).expect("compiles");
    assert_eq!(run(&p, &code, &given(4)).expect_err("outside").kind(), ErrorKind::Index);
}

#[test]
fn index_values_zero_extents_and_rank_zero() {
    let mut p = Program::default();
    let y = buffer(&mut p, "y", DType::I64, &[3, 4], Role::Out);
    let e = buffer(&mut p, "e", DType::F32, &[0, 4], Role::Out);
    let s = buffer(&mut p, "s", DType::Bool, &[], Role::Out);
    let mut b = NestBuilder::new(&mut p, "index");
    b.for_all(&["i", "j"], &[3, 4], |b, v| b.store(y, [v[0], v[1]], Expr::index(v[0] * 10 - v[1] + 5)));
    b.for_kind("i", 0, LoopKind::Parallel(None), |b, i| {
        b.for_("j", 4, |b, j| b.store(e, [i, j], Expr::f32(1.0)));
    });
    b.store(s, SCALAR, Expr::bool(true));
    b.finish();
    check(&p, 0.0);
}

#[test]
fn copies_are_calls() {
    let mut p = Program::default();
    let x = buffer(&mut p, "x", DType::I32, &[3, 5], Role::In);
    let y = buffer(&mut p, "y", DType::I32, &[15], Role::Out);
    let mut b = NestBuilder::new(&mut p, "reshape");
    b.call("copy", &[x], &[y], &[]);
    b.finish();
    let code = compile_program(&p, &target()).expect("compiles");
    let given = inputs(&p);
    let found = run(&p, &code, &given).expect("runs");
    assert_eq!(found[&y].data, given[&x].data);
    let mut b = NestBuilder::new(&mut p, "unknown");
    b.call("frobnicate", &[x], &[y], &[]);
    b.finish();
    let error = compile_program(&p, &target()).expect_err("no such function");
    assert!(error.message().contains("frobnicate"), "{error}");
}
