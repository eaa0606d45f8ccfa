//! Which loops have the lanes, and what is computed around them: nested vector loops, gathered rows.

use nestjit_ir::LoopKind::{Parallel, Vector};
use nestjit_ir::interp::Value;
use nestjit_ir::{Affine, BufId, Buffer, DType, Expr, Index, Layout, NestBuilder, Program, ReduceOp, Role};

use super::harness::{check_with, compile_program, inputs, run, targets};
use super::vector::{buffer, check_both};

#[test]
fn of_nested_vector_loops_one_has_the_lanes() {
    let (channels, width) = (20, 9);
    for channels_last in [false, true] {
        for local_inside in [false, true] {
            let mut p = Program::default();
            let x = buffer(&mut p, "x", &[channels, width + 2], Role::In);
            let y = buffer(&mut p, "y", &[channels, width], Role::Out);
            if channels_last {
                p.buf_mut(x).layout = Layout::ordered(vec![1, 0]);
                p.buf_mut(y).layout = Layout::ordered(vec![1, 0]);
            }
            let mut b = NestBuilder::new(&mut p, "nested");
            let sums = |b: &mut NestBuilder<'_>, acc: BufId, c: Affine, at: Affine| {
                b.for_kind("w", width, Vector, |b, w| b.store(acc, [at.clone(), w.into()], Expr::f32(0.0)));
                b.for_("k", 3, |b, k| {
                    b.for_kind("w", width, Vector, |b, w| {
                        b.reduce(
                            ReduceOp::Add,
                            acc,
                            [at.clone(), w.into()],
                            Expr::load(x, [c.clone(), w + k]),
                        );
                    });
                });
                b.for_kind("w", width, Vector, |b, w| {
                    b.store(y, [c.clone(), w.into()], Expr::load(acc, [at.clone(), w.into()]).relu());
                });
            };
            if local_inside {
                b.for_kind("c", channels, Vector, |b, c| {
                    let acc = b.temp("acc", DType::F32, &[1, width]);
                    sums(b, acc, c.into(), Affine::constant(0));
                });
            } else {
                let acc = b.temp("acc", DType::F32, &[channels, width]);
                b.for_kind("c", channels, Vector, |b, c| sums(b, acc, c.into(), c.into()));
            }
            b.finish();
            check_both(&p, 1);
        }
    }
}

#[test]
fn rows_are_gathered_by_indices_from_outside_the_lanes() {
    let (rows, width, n) = (7, 37, 5);
    let mut p = Program::default();
    let ids = p.add_buffer(Buffer::new("ids", DType::I64, &[n], Role::In));
    let table = buffer(&mut p, "table", &[2, rows, width], Role::Const);
    let bias = buffer(&mut p, "bias", &[n, width], Role::In);
    let y = buffer(&mut p, "y", &[n, width], Role::Out);
    let mut b = NestBuilder::new(&mut p, "embedding");
    b.for_kind("i", n, Parallel(None), |b, i| {
        b.for_kind("c", width, Vector, |b, c| {
            let row = Index::Value(Box::new(Expr::load(ids, [i])));
            let element = Expr::load(table, [Index::from(Affine::constant(1)), row, Index::from(c)]);
            b.store(y, [i, c], element + Expr::load(bias, [i, c]));
        });
    });
    b.finish();
    let mut given = inputs(&p);
    for (found, expected) in
        [(vec![6i64, 0, 3, 3, 1], true), (vec![0, 1, 7, 2, 3], false), (vec![-1, 0, 0, 0, 0], false)]
    {
        given.insert(ids, Value::new(&[n], found).expect("n indices"));
        for target in targets() {
            if expected {
                let code = check_with(&p, &target, &given, 1e-6);
                assert!(code.disassembly(0).contains("element of dimension 1"), "{}", code.disassembly(0));
            } else {
                let code = compile_program(&p, &target).expect("compiles");
                let error = run(&p, &code, &given).expect_err("an index outside");
                assert!(error.to_string().contains("dimension 1 of %table is outside 0..7"), "{error}");
            }
        }
    }
}
