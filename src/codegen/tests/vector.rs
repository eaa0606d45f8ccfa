//! Kernels: what is selected, that it computes the same as the interpreter, and that tiles stay in registers.

use nestjit_ir::LoopKind::{Parallel, Serial, Unrolled, Vector};
use nestjit_ir::interp::Value;
use nestjit_ir::{
    Affine, BinOp, BufId, Buffer, DType, Expr, Layout, LoopKind, NestBuilder, Program, ReduceOp, Role,
    SCALAR, UnOp, Var,
};

use super::harness::{check, check_with, inputs, target};
use crate::codegen::Code;

pub(super) fn buffer(p: &mut Program, name: &str, shape: &[usize], role: Role) -> BufId {
    p.add_buffer(Buffer::new(name, DType::F32, shape, role))
}

/// Checks a program and that it became this many kernels.
fn check_kernels(p: &Program, kernels: usize) -> Code {
    let code = check(p, 1e-5);
    let text: String = (0..code.nests().len()).map(|n| code.disassembly(n)).collect();
    assert_eq!(text.matches("kernel x4").count(), kernels, "{text}");
    code
}

/// Checks a program with fused multiply-add and without.
pub(super) fn check_both(p: &Program, kernels: usize) {
    check_kernels(p, kernels);
    let mut plain = target();
    plain.fma = false;
    let code = check_with(p, &plain, &inputs(p), 1e-5);
    assert!(!code.disassembly(0).contains("fmadd"), "{}", code.disassembly(0));
}

/// `y = f(x)` over `n` elements in vector loops of `width`, with an exact remainder loop.
fn elementwise(n: usize, width: usize, f: impl Fn(Expr) -> Expr) -> Program {
    let mut p = Program::default();
    let x = buffer(&mut p, "x", &[n], Role::In);
    let y = buffer(&mut p, "y", &[n], Role::Out);
    let mut b = NestBuilder::new(&mut p, "map");
    b.for_kind("io", n / width, Parallel(None), |b, io| {
        b.for_kind("ii", width, Vector, |b, ii| {
            let at = io * width as i64 + ii;
            b.store(y, [at.clone()], f(Expr::load(x, [at])));
        });
    });
    let rest = n % width;
    b.for_kind("it", rest, Vector, |b, it| {
        let at = it + (n - rest) as i64;
        b.store(y, [at.clone()], f(Expr::load(x, [at])));
    });
    b.finish();
    p
}

#[test]
fn elementwise_in_every_raggedness() {
    for width in [1, 2, 3, 4, 5, 7, 8, 16, 64, 65, 200] {
        for n in [width, width * 5, width * 7 + width / 2] {
            let p = elementwise(n, width, |x| x.clone().max(Expr::f32(0.0)) * x + Expr::f32(0.5));
            check_both(&p, 1 + usize::from(n % width > 0));
        }
    }
}

#[test]
fn every_operation_that_has_a_vector_form() {
    for op in UnOp::ALL {
        match op {
            UnOp::Not | UnOp::BitNot => {}
            UnOp::IsNan | UnOp::IsInf => {
                let p = elementwise(37, 8, |x| x.clone().unary(op).select(Expr::f32(3.0), x));
                check_kernels(&p, 2);
            }
            _ => {
                check_kernels(&elementwise(37, 8, |x| x.unary(op)), 2);
            }
        }
    }
    for op in BinOp::ALL {
        match op {
            BinOp::And | BinOp::Or | BinOp::Xor | BinOp::Shl | BinOp::Shr => {}
            op if op.is_comparison() => {
                let p = elementwise(37, 8, |x| {
                    x.clone().binary(op, Expr::f32(0.5)).cast(DType::F32)
                        + x.binary(op, Expr::f32(-0.5)).cast(DType::F32)
                });
                check_kernels(&p, 2);
            }
            _ => {
                for other in [0.7f32, 2.0, -1.0, 1.0, 3.0, 0.5] {
                    check_kernels(&elementwise(37, 8, |x| x.binary(op, Expr::f32(other))), 2);
                }
                check_kernels(&elementwise(37, 8, |x| x.clone().binary(op, x.abs_of())), 2);
            }
        }
    }
    for op in [BinOp::And, BinOp::Or, BinOp::Xor, BinOp::Eq, BinOp::Ne] {
        let p = elementwise(37, 8, |x| {
            let (a, b) = (x.clone().gt(Expr::f32(-0.5)), x.clone().lt(Expr::f32(0.5)));
            a.binary(op, b.unary(UnOp::Not)).select(x.clone(), Expr::f32(9.0))
                + Expr::bool(true).select(x.clone(), x)
        });
        check_kernels(&p, 2);
    }
}

trait AbsOf {
    fn abs_of(self) -> Expr;
}

impl AbsOf for Expr {
    fn abs_of(self) -> Expr {
        self.unary(UnOp::Abs)
    }
}

#[test]
fn special_values_pass_through_max_min_and_select() {
    let special = [0.0, -0.0, 1.0, -1.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e-40];
    let n = special.len() * special.len();
    let mut p = Program::default();
    let x = buffer(&mut p, "x", &[n], Role::In);
    let y = buffer(&mut p, "y", &[n], Role::In);
    let outs: Vec<BufId> = (0..8).map(|i| buffer(&mut p, &format!("z{i}"), &[n], Role::Out)).collect();
    let mut b = NestBuilder::new(&mut p, "special");
    b.for_kind("i", n, Vector, |b, i| {
        let (x, y) = (Expr::load(x, [i]), Expr::load(y, [i]));
        let relu6 = x.clone().max(Expr::f32(0.0)).min(Expr::f32(6.0));
        let values = [
            x.clone().max(y.clone()),
            x.clone().min(y.clone()),
            relu6,
            Expr::f32(1.0).min(x.clone()),
            x.clone().lt(y.clone()).select(x.clone(), y.clone()),
            x.clone().binary(BinOp::Ne, y.clone()).select(x.clone(), -y.clone()),
            x.clone().unary(UnOp::Sign),
            x.clone().pow(Expr::f32(0.5)) + y.unary(UnOp::Trunc),
        ];
        for (z, value) in outs.iter().zip(values) {
            b.store(*z, [i], value);
        }
    });
    b.finish();
    let value = |f: &dyn Fn(usize) -> f32| Value::from_fn(DType::F32, &[n], |i| f64::from(f(i)));
    let given = [(x, value(&|i| special[i / special.len()])), (y, value(&|i| special[i % special.len()]))];
    check_with(&p, &target(), &given.into(), 0.0);
}

/// A register-tiled matrix product with bias and ReLU, as the scheduler makes it.
pub(super) fn gemm(n: usize, m: usize, k: usize, nr: usize, mr: usize, panel: bool) -> Program {
    gemm_with((n, m, k), (nr, mr), panel, &|sum, _| sum.relu())
}

/// What a product's elements go through, given the sum with bias and an element of another operand.
pub(super) type Epilogue<'a> = &'a dyn Fn(Expr, Expr) -> Expr;

/// A register-tiled matrix product with bias and an epilogue.
pub(super) fn gemm_with(
    (n, m, k): (usize, usize, usize),
    (nr, mr): (usize, usize),
    panel: bool,
    epilogue: Epilogue<'_>,
) -> Program {
    let mut p = Program::default();
    let x = buffer(&mut p, "x", &[n, k], Role::In);
    let w = buffer(&mut p, "w", &[k, m], Role::Const);
    let bias = buffer(&mut p, "bias", &[m], Role::Const);
    let residual = buffer(&mut p, "residual", &[n, m], Role::In);
    let y = buffer(&mut p, "y", &[n, m], Role::Out);
    if panel {
        p.buf_mut(w).layout = Layout { panel: Some((1, mr)), ..Layout::row_major(2) };
    }
    let mut b = NestBuilder::new(&mut p, "gemm");
    let tile = |b: &mut NestBuilder<'_>, rows: Affine, nr: usize, columns: Affine, mr: usize| {
        let acc = b.temp("acc", DType::F32, &[nr, mr]);
        let each = |b: &mut NestBuilder<'_>, f: &dyn Fn(&mut NestBuilder<'_>, Var, Var)| {
            b.for_kind("ni", nr, Unrolled, |b, ni| b.for_kind("mi", mr, Vector, |b, mi| f(b, ni, mi)));
        };
        each(b, &|b, ni, mi| b.store(acc, [ni, mi], Expr::f32(0.0)));
        b.for_("k", k, |b, k| {
            each(b, &|b, ni, mi| {
                let product = Expr::load(x, [rows.clone() + ni, k.into()])
                    * Expr::load(w, [k.into(), columns.clone() + mi]);
                b.reduce(ReduceOp::Add, acc, [ni, mi], product);
            });
        });
        each(b, &|b, ni, mi| {
            let sum = Expr::load(acc, [ni, mi]) + Expr::load(bias, [columns.clone() + mi]);
            let other = Expr::load(residual, [rows.clone() + ni, columns.clone() + mi]);
            b.store(y, [rows.clone() + ni, columns.clone() + mi], epilogue(sum, other));
        });
    };
    let columns = |b: &mut NestBuilder<'_>, rows: Affine, nr: usize| {
        b.for_("mo", m / mr, |b, mo| tile(b, rows.clone(), nr, mo * mr as i64, mr));
        if !m.is_multiple_of(mr) {
            tile(b, rows, nr, Affine::constant((m - m % mr) as i64), m % mr);
        }
    };
    b.for_kind("no", n / nr, Parallel(None), |b, no| columns(b, no * nr as i64, nr));
    if !n.is_multiple_of(nr) {
        columns(&mut b, Affine::constant((n - n % nr) as i64), n % nr);
    }
    b.finish();
    p
}

#[test]
fn tiled_matrix_products() {
    for (n, m, k) in [(4, 12, 5), (9, 30, 7), (8, 13, 1), (5, 3, 17), (1, 24, 3)] {
        for (nr, mr) in [(4, 12), (2, 8), (1, 16), (6, 8), (3, 5)] {
            for panel in [false, true] {
                check_both(&gemm(n, m, k, nr, mr, panel), usize::from(n / nr > 0) + usize::from(n % nr > 0));
            }
        }
    }
}

/// The machine code of the innermost loops. A loop's body may be several blocks, which follow each other; the
/// last one jumps back to the first.
fn innermost_loops(text: &str) -> Vec<Vec<&str>> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let mut loops: Vec<(usize, usize)> = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let Some(number) = line.strip_prefix("block").and_then(|l| l.strip_suffix(':')) else { continue };
        let label = format!("label{number}");
        let back =
            |l: &str| l.starts_with('j') && l.split(|c: char| !c.is_alphanumeric()).any(|word| word == label);
        let end = lines[i..].iter().take_while(|l| !l.contains("function ")).position(|l| back(l));
        if let Some(end) = end {
            loops.push((i, i + end));
        }
    }
    let inner = |l: &(usize, usize)| !loops.iter().any(|m| m != l && l.0 <= m.0 && m.1 <= l.1);
    loops.iter().filter(|l| inner(l)).map(|&(from, to)| lines[from..=to].to_vec()).collect()
}

#[cfg(target_arch = "x86_64")]
#[test]
fn the_k_loop_of_a_tile_does_not_spill() {
    for (nr, mr) in [(4, 12), (6, 8), (2, 16)] {
        let p = gemm(12, 48, 64, nr, mr, true);
        let code = check(&p, 1e-4);
        let text = code.disassembly(0);
        let loops = innermost_loops(text);
        let product = if target().fma { "vfmadd" } else { "mulps" };
        let k_loops: Vec<_> = loops.iter().filter(|l| l.iter().any(|i| i.starts_with(product))).collect();
        assert_eq!(k_loops.len(), 1, "{text}");
        let k_loop = k_loops[0];
        let count = |what: &str| k_loop.iter().filter(|l| l.contains(what)).count();
        assert_eq!(count(product) % (nr * mr / 4), 0, "{k_loop:#?}");
        assert_eq!((count("%rsp"), count("%rbp")), (0, 0), "{k_loop:#?}");
    }
}

#[test]
fn rows_of_softmax_and_normalisation() {
    for n in [1, 3, 8, 19, 64] {
        let mut p = Program::default();
        let x = buffer(&mut p, "x", &[5, n], Role::In);
        let y = buffer(&mut p, "y", &[5, n], Role::Out);
        let mut b = NestBuilder::new(&mut p, "softmax");
        b.for_kind("r", 5, Parallel(None), |b, r| {
            let (max, sum) = (b.temp("max", DType::F32, &[]), b.temp("sum", DType::F32, &[]));
            let e = b.temp("e", DType::F32, &[n]);
            b.store(max, SCALAR, Expr::f32(f32::NEG_INFINITY));
            b.for_kind("i", n, Vector, |b, i| b.reduce(ReduceOp::Max, max, SCALAR, Expr::load(x, [r, i])));
            b.store(sum, SCALAR, Expr::f32(0.0));
            b.for_kind("i", n, Vector, |b, i| {
                b.store(e, [i], (Expr::load(x, [r, i]) - Expr::load(max, SCALAR)).exp());
                b.reduce(ReduceOp::Add, sum, SCALAR, Expr::load(e, [i]));
            });
            b.for_kind("i", n, Vector, |b, i| {
                b.store(y, [r, i], Expr::load(e, [i]) / Expr::load(sum, SCALAR))
            });
        });
        b.finish();
        check_kernels(&p, 1);
    }
}

#[test]
fn lane_accumulators_and_every_horizontal_reduction() {
    for op in [ReduceOp::Add, ReduceOp::Mul, ReduceOp::Max, ReduceOp::Min] {
        for lanes in [4, 8, 6, 13] {
            let mut p = Program::default();
            let x = buffer(&mut p, "x", &[3, 5 * lanes], Role::In);
            let y = buffer(&mut p, "y", &[3], Role::Out);
            let mut b = NestBuilder::new(&mut p, "rows");
            let identity = Expr::Const(op.identity(DType::F32));
            b.for_("r", 3, |b, r| {
                let sv = b.temp("sv", DType::F32, &[lanes]);
                b.for_kind("l", lanes, Vector, |b, l| b.store(sv, [l], identity.clone()));
                b.for_("c", 5, |b, c| {
                    b.for_kind("l", lanes, Vector, |b, l| {
                        b.reduce(op, sv, [l], Expr::load(x, [Affine::from(r), c * lanes as i64 + l]));
                    });
                });
                b.store(y, [r], identity.clone());
                b.for_kind("l", lanes, Vector, |b, l| b.reduce(op, y, [r], Expr::load(sv, [l])));
            });
            b.finish();
            check_kernels(&p, 1);
        }
    }
}

/// A depthwise 3x3 window with padding, vectorised along `along` (0: rows, 1: columns, 2: channels).
fn depthwise(along: usize, kind: LoopKind) -> Program {
    let (h, w, c) = (6, 7, 9);
    let mut p = Program::default();
    let x = buffer(&mut p, "x", &[h, w, c], Role::In);
    let k = buffer(&mut p, "k", &[3, 3, c], Role::Const);
    let y = buffer(&mut p, "y", &[h, w, c], Role::Out);
    let mut b = NestBuilder::new(&mut p, "depthwise");
    let kinds: Vec<LoopKind> = (0..3).map(|d| if d == along { Vector } else { Serial }).collect();
    b.for_kind("h", h, kinds[0], |b, i| {
        b.for_kind("w", w, kinds[1], |b, j| {
            b.for_kind("c", c, kinds[2], |b, ch| {
                let acc = b.temp("acc", DType::F32, &[]);
                b.store(acc, SCALAR, Expr::f32(0.0));
                b.for_kind("kh", 3, kind, |b, kh| {
                    b.for_kind("kw", 3, kind, |b, kw| {
                        let at = [i + kh - 1, j + kw - 1, ch.into()];
                        let value = Expr::load_or(x, at, Expr::f32(0.25));
                        b.reduce(ReduceOp::Add, acc, SCALAR, value * Expr::load(k, [kh, kw, ch]));
                    });
                });
                b.store(y, [i, j, ch], Expr::load(acc, SCALAR).relu());
            });
        });
    });
    b.finish();
    p
}

#[test]
fn padded_windows_in_every_direction() {
    for along in 0..3 {
        for kind in [Serial, Unrolled] {
            let mut p = depthwise(along, kind);
            check_both(&p, 1);
            let x = p.buf_ids().next().expect("x");
            p.buf_mut(x).halo = vec![(1, 1), (1, 1), (0, 0)];
            p.buf_mut(x).halo_fill = nestjit_ir::Scalar::F32(0.25);
            let code = check_kernels(&p, 1);
            assert!(
                !code.disassembly(0).contains(" else v"),
                "a halo needs no guard: {}",
                code.disassembly(0)
            );
        }
    }
}

#[test]
fn strided_reversed_and_broadcast_lanes() {
    let mut p = Program::default();
    let x = buffer(&mut p, "x", &[11, 6], Role::In);
    let y = buffer(&mut p, "y", &[6, 11], Role::Out);
    let z = buffer(&mut p, "z", &[11], Role::Out);
    let mut b = NestBuilder::new(&mut p, "transpose");
    b.for_("j", 6, |b, j| {
        b.for_kind("i", 11, Vector, |b, i| b.store(y, [j, i], Expr::load(x, [i, j])));
    });
    b.for_kind("i", 11, Vector, |b, i| {
        b.store(
            z,
            [Affine::constant(10) - i],
            Expr::load(x, [i.into(), Affine::constant(0)]) + Expr::load(x, [3, 3]),
        );
    });
    b.finish();
    check_kernels(&p, 1);
}

#[test]
fn index_values_and_masks_from_them() {
    let mut p = Program::default();
    let x = buffer(&mut p, "x", &[9, 9], Role::In);
    let y = buffer(&mut p, "y", &[9, 9], Role::Out);
    let mut b = NestBuilder::new(&mut p, "causal");
    b.for_("i", 9, |b, i| {
        b.for_kind("j", 9, Vector, |b, j| {
            let seen = Expr::index(j).le(Expr::index(i));
            let position = Expr::index(i * 3 - j).cast(DType::F32);
            b.store(y, [i, j], seen.select(Expr::load(x, [i, j]) * position, Expr::f32(f32::NEG_INFINITY)));
        });
    });
    b.finish();
    check_kernels(&p, 1);
}

#[test]
fn what_does_not_fit_stays_scalar_and_shares_its_locals() {
    let mut p = Program::default();
    let x = buffer(&mut p, "x", &[4, 20], Role::In);
    let at = p.add_buffer(Buffer::new("at", DType::I64, &[4], Role::In));
    let y = buffer(&mut p, "y", &[4, 20], Role::Out);
    let mut b = NestBuilder::new(&mut p, "mixed");
    b.for_("i", 4, |b, i| {
        let row = b.temp("row", DType::F32, &[20]);
        let sum = b.temp("sum", DType::F32, &[]);
        b.store(sum, SCALAR, Expr::f32(1.0));
        // A gather: scalar.
        b.for_("j", 20, |b, j| {
            let index = Expr::load(at, [i]).unary(UnOp::Abs).binary(BinOp::Min, Expr::i64(3));
            b.store(row, [j], Expr::load(x, [nestjit_ir::Index::from(index), j.into()]));
        });
        b.for_kind("j", 20, Vector, |b, j| b.reduce(ReduceOp::Add, sum, SCALAR, Expr::load(row, [j])));
        b.for_("j", 20, |b, j| {
            let index = Expr::load(at, [i]).unary(UnOp::Abs).binary(BinOp::Min, Expr::i64(2));
            let gathered = Expr::load(x, [nestjit_ir::Index::from(index), j.into()]);
            b.store(y, [i, j], gathered * Expr::load(sum, SCALAR));
        });
    });
    b.finish();
    check_kernels(&p, 1);
}

#[test]
fn locals_that_are_accessed_in_different_shapes_live_in_memory() {
    let mut p = Program::default();
    let x = buffer(&mut p, "x", &[24], Role::In);
    let y = buffer(&mut p, "y", &[24], Role::Out);
    let mut b = NestBuilder::new(&mut p, "shifted");
    let t = b.temp("t", DType::F32, &[26]);
    b.for_kind("i", 26, Vector, |b, i| b.store(t, [i], Expr::f32(0.5)));
    b.for_kind("i", 24, Vector, |b, i| b.store(t, [i + 1], Expr::load(x, [i])));
    b.for_("i", 3, |b, i| {
        b.for_kind("j", 8, Vector, |b, j| {
            let at = i * 8 + j;
            b.store(y, [at.clone()], Expr::load(t, [at.clone()]) - Expr::load(t, [at + 2]));
        });
    });
    b.finish();
    let code = check_kernels(&p, 1);
    assert_eq!(code.nests()[0].scratch_bytes, 128);
}

#[test]
fn reductions_into_memory_and_uniform_code() {
    let mut p = Program::default();
    let x = buffer(&mut p, "x", &[6, 10], Role::In);
    let y = buffer(&mut p, "y", &[10], Role::Out);
    let z = buffer(&mut p, "z", &[6], Role::Out);
    let mut b = NestBuilder::new(&mut p, "sums");
    b.for_kind("j", 10, Vector, |b, j| b.store(y, [j], Expr::f32(0.0)));
    b.for_("i", 6, |b, i| {
        b.store(z, [i], Expr::f32(1.0));
        b.for_kind("j", 10, Vector, |b, j| {
            b.reduce(ReduceOp::Add, y, [j], Expr::load(x, [i, j]) * Expr::load(x, [i, j]));
            b.reduce(ReduceOp::Max, z, [i], Expr::load(x, [i, j]));
        });
        b.reduce(ReduceOp::Mul, z, [i], Expr::f32(0.5).sqrt());
    });
    b.finish();
    check_kernels(&p, 1);
}

#[test]
fn lanes_on_one_element_that_guards_tell_apart() {
    let mut p = Program::default();
    let x = buffer(&mut p, "x", &[4, 4], Role::In);
    let y = buffer(&mut p, "y", &[8], Role::Out);
    // Of the anti-diagonal, which lies on one address with the strides (1, 1), only a part exists.
    p.buf_mut(x).shape = vec![4, 1];
    let mut b = NestBuilder::new(&mut p, "diagonal");
    b.for_kind("i", 8, Vector, |b, i| {
        let at = [Affine::constant(3) - i, i - 2];
        b.store(y, [i], Expr::load_or(x, at, Expr::f32(0.0)));
    });
    b.finish();
    check_kernels(&p, 1);
}
