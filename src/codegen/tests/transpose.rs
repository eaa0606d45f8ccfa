//! Blocks that are transposed in registers: unrolled loops around vector loops, in every raggedness.

use nestjit_ir::LoopKind::{Serial, Unrolled, Vector};
use nestjit_ir::{Affine, BufId, Buffer, DType, Expr, Index, Load, NestBuilder, Program, Role, SCALAR};

use super::harness::check;
use super::vector::buffer;

/// `for u unrolled { for v vector { body } }`, in one iteration of a loop around them.
fn blocks(
    p: &mut Program,
    along: usize,
    across: usize,
    body: impl Fn(&mut NestBuilder<'_>, [nestjit_ir::Var; 2]),
) {
    let mut b = NestBuilder::new(p, "blocks");
    b.for_kind("o", 1, Serial, |b, _| {
        b.for_kind("u", along, Unrolled, |b, u| {
            b.for_kind("v", across, Vector, |b, v| body(b, [u, v]));
        });
    });
    b.finish();
}

/// The matrices, and a vector for each dimension.
fn operands(along: usize, across: usize) -> (Program, [BufId; 5]) {
    let mut p = Program::default();
    let x = buffer(&mut p, "x", &[across, along], Role::In);
    let r = buffer(&mut p, "r", &[along, across], Role::In);
    let rows = buffer(&mut p, "rows", &[along], Role::In);
    let columns = buffer(&mut p, "columns", &[across], Role::In);
    let y = buffer(&mut p, "y", &[0, 0], Role::Out);
    (p, [x, r, rows, columns, y])
}

const SIZES: [usize; 13] = [2, 3, 4, 5, 7, 8, 9, 14, 15, 16, 17, 37, 70];

/// Whether the code of some tier of this machine exchanges lanes.
fn shuffles(text: &str) -> bool {
    ["Interleave", "unpck", "punpck"].iter().any(|s| text.contains(s))
}

#[test]
fn what_is_read_across_rows_is_loaded_in_rows() {
    for along in SIZES {
        for across in SIZES {
            let (mut p, [x, r, rows, columns, y]) = operands(along, across);
            p.buf_mut(y).shape = vec![along, across];
            blocks(&mut p, along, across, |b, [u, v]| {
                let (x, r) = (Expr::load(x, [v, u]), Expr::load(r, [u, v]));
                b.store(y, [u, v], x * Expr::load(rows, [u]) + r.max(Expr::load(columns, [v])));
            });
            let code = check(&p, 1e-6);
            assert!(shuffles(code.disassembly(0)), "{}", code.disassembly(0));
        }
    }
}

#[test]
fn what_is_written_across_rows_is_stored_in_rows() {
    for along in SIZES {
        for across in SIZES {
            let (mut p, [x, r, rows, columns, y]) = operands(along, across);
            p.buf_mut(y).shape = vec![across, along];
            blocks(&mut p, along, across, |b, [u, v]| {
                // A value of each lane, that the expression uses twice.
                let t = b.temp("t", DType::F32, &[]);
                b.store(t, SCALAR, Expr::load(r, [u, v]) + Expr::load(columns, [v]));
                let t = Expr::load(t, SCALAR);
                b.store(y, [v, u], t.clone() * t.max(Expr::load(rows, [u])) - Expr::load(x, [v, u]));
            });
            let code = check(&p, 1e-6);
            assert!(shuffles(code.disassembly(0)), "{}", code.disassembly(0));
        }
    }
}

#[test]
fn every_type_of_32_bits_and_less_is_exchanged() {
    use DType::{BF16, F16, I8, I16, I32, U8, U16, U32};
    for dtype in [F16, BF16, I32, I16, I8, U32, U16, U8] {
        for along in [2, 5, 14, 16, 19] {
            for across in [4, 7, 16, 31, 64] {
                let mut p = Program::default();
                let of = |p: &mut Program, name, shape: &[usize], dtype, role| {
                    p.add_buffer(Buffer::new(name, dtype, shape, role))
                };
                let x = of(&mut p, "x", &[across, along], dtype, Role::In);
                let y = of(&mut p, "y", &[along, across], DType::F32, Role::Out);
                let z = of(&mut p, "z", &[across, along], dtype, Role::Out);
                let w = of(&mut p, "w", &[along, across], DType::I64, Role::In);
                blocks(&mut p, along, across, |b, [u, v]| {
                    let x = Expr::load(x, [v, u]);
                    b.store(y, [u, v], x.clone().cast(DType::F32) * Expr::f32(0.5));
                    // What is not exchanged may be of any type.
                    b.store(z, [v, u], x.max(Expr::load(w, [u, v]).cast(dtype)));
                });
                let code = check(&p, 0.0);
                let text = code.disassembly(0);
                assert!(shuffles(text), "{dtype}: {text}");
            }
        }
    }
}

#[test]
fn accumulators_in_registers_are_stored_in_rows() {
    for (along, across) in [(14, 32), (6, 16), (7, 13), (4, 24)] {
        let (mut p, [x, _, _, columns, y]) = operands(along, across);
        p.buf_mut(y).shape = vec![across, along];
        let mut b = NestBuilder::new(&mut p, "tile");
        b.for_kind("o", 1, Serial, |b, _| {
            let acc = b.temp("acc", DType::F32, &[along, across]);
            b.for_kind("u", along, Unrolled, |b, u| {
                b.for_kind("v", across, Vector, |b, v| b.store(acc, [u, v], Expr::f32(0.5)));
            });
            b.for_("k", 3, |b, k| {
                b.for_kind("u", along, Unrolled, |b, u| {
                    b.for_kind("v", across, Vector, |b, v| {
                        let product = Expr::load(x, [k, u]) * Expr::load(columns, [v]);
                        b.reduce(nestjit_ir::ReduceOp::Add, acc, [u, v], product);
                    });
                });
            });
            b.for_kind("u", along, Unrolled, |b, u| {
                b.for_kind("v", across, Vector, |b, v| b.store(y, [v, u], Expr::load(acc, [u, v]).relu()));
            });
        });
        b.finish();
        let code = check(&p, 1e-5);
        assert!(shuffles(code.disassembly(0)), "{}", code.disassembly(0));
    }
}

#[test]
fn padded_rows_pass_through_a_local_in_memory() {
    let (rows, columns, channels) = (5, 22, 19);
    let mut p = Program::default();
    let x = buffer(&mut p, "x", &[channels, rows, columns], Role::In);
    let y = buffer(&mut p, "y", &[channels, rows + 2, columns], Role::Out);
    let mut b = NestBuilder::new(&mut p, "pad");
    b.for_("r", rows + 2, |b, r| {
        let t = b.temp("t", DType::F32, &[columns, channels]);
        // Each row that is outside is a constant.
        let padded = |c: Affine, q: Affine| {
            let index = [c, r - 1, q].map(Index::Affine).to_vec();
            Expr::Load(Load { buf: x, index, otherwise: Some(Box::new(Expr::f32(7.0))) })
        };
        for (first, count) in [(0, 16), (16, 6)] {
            b.for_kind("u", count, Unrolled, |b, u| {
                b.for_kind("v", channels, Vector, |b, v| {
                    b.store(t, [u + first, v.into()], padded(v.into(), u + first));
                });
            });
        }
        for (first, count) in [(0, 16), (16, 6)] {
            b.for_kind("u", count, Unrolled, |b, u| {
                b.for_kind("v", channels, Vector, |b, v| {
                    let own = b.temp("own", DType::F32, &[]);
                    b.store(own, SCALAR, Expr::load(t, [u + first, v.into()]));
                    let own = Expr::load(own, SCALAR);
                    b.store(y, [v.into(), r.into(), u + first], own.clone() * own);
                });
            });
        }
    });
    b.finish();
    let code = check(&p, 1e-6);
    let text = code.disassembly(0);
    // Nothing is loaded or stored lane by lane.
    assert!(shuffles(text) && !text.contains(" by "), "{text}");
}

#[test]
fn iterations_that_depend_on_each_other_stay_in_order() {
    // What one iteration of the unrolled loop writes, the next one reads.
    let mut p = Program::default();
    let x = buffer(&mut p, "x", &[9], Role::In);
    let y = buffer(&mut p, "y", &[9, 6], Role::Out);
    let mut b = NestBuilder::new(&mut p, "scan");
    b.for_kind("i", 9, Vector, |b, i| b.store(y, [i.into(), Affine::constant(0)], Expr::load(x, [i])));
    b.for_kind("u", 5, Unrolled, |b, u| {
        b.for_kind("v", 9, Vector, |b, v| {
            b.store(y, [v.into(), u + 1], Expr::load(y, [v, u]) * Expr::f32(2.0));
        });
    });
    b.finish();
    check(&p, 1e-6);
    // Iterations that write to the same elements.
    let mut p = Program::default();
    let x = buffer(&mut p, "x", &[9, 6], Role::In);
    let y = buffer(&mut p, "y", &[40], Role::Out);
    let mut b = NestBuilder::new(&mut p, "overlap");
    b.for_kind("i", 40, Vector, |b, i| b.store(y, [i], Expr::f32(0.0)));
    b.for_kind("u", 6, Unrolled, |b, u| {
        b.for_kind("v", 9, Vector, |b, v| b.store(y, [v * 4 + u], Expr::load(x, [v, u])));
    });
    b.finish();
    check(&p, 1e-6);
}
