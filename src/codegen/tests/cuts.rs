//! Results do not depend on where a nest is cut into functions: the bits are the same whether its loops are parallel,
//! which makes each a function of its own, or serial.

use std::collections::HashMap;

use nestjit_ir::LoopKind::{Parallel, Serial, Vector};
use nestjit_ir::interp::Value;
use nestjit_ir::{
    BinOp, BufId, Buffer, DType, Expr, LoopKind, NestBuilder, Program, ReduceOp, Role, SCALAR, UnOp,
};

use super::harness::{check_with, compile_program, inputs, run, target, targets};
use super::vector::buffer;
use crate::machine::MachineModel;

fn targets_and_without_fma() -> Vec<MachineModel> {
    let mut plain = target();
    plain.fma = false;
    targets().into_iter().chain([plain]).collect()
}

/// The bits of the results.
fn bits(p: &Program, target: &MachineModel, given: &HashMap<BufId, Value>) -> Vec<(BufId, Vec<u64>)> {
    let code = compile_program(p, target).expect("compiles");
    let mut found: Vec<_> = run(p, &code, given)
        .expect("runs")
        .into_iter()
        .map(|(id, value)| (id, value.to_f64().iter().map(|v| v.to_bits()).collect()))
        .collect();
    found.sort_by_key(|f: &(BufId, _)| f.0);
    found
}

/// Checks a program, and that its results are the same with parallel loops and with serial ones.
fn check_cuts(build: impl Fn(LoopKind) -> Program) {
    let (whole, cut) = (build(Serial), build(Parallel(None)));
    let given = inputs(&whole);
    for target in targets_and_without_fma() {
        check_with(&whole, &target, &given, 1e-4);
        assert_eq!(bits(&whole, &target, &given), bits(&cut, &target, &given), "{target:?}");
    }
}

const N: usize = 6;
const WIDTH: usize = 21;

/// A vector loop, and then loops without one: sums of products, elementary functions, special values.
#[test]
fn segments_without_a_vector_loop_compute_what_the_whole_nest_does() {
    for kinds in 0..3 {
        check_cuts(|kind| {
            let mut p = Program::default();
            let x = buffer(&mut p, "x", &[N, WIDTH], Role::In);
            let w = buffer(&mut p, "w", &[N, WIDTH], Role::In);
            let y = buffer(&mut p, "y", &[N, WIDTH], Role::Out);
            let sums = buffer(&mut p, "sums", &[N], Role::Out);
            let maps = buffer(&mut p, "maps", &[N, 3], Role::Out);
            let mut b = NestBuilder::new(&mut p, "cut");
            b.for_kind("o", N, kind, |b, o| {
                b.for_kind("i", WIDTH, Vector, |b, i| {
                    b.store(y, [o, i], Expr::load(x, [o, i]) * Expr::load(w, [o, i]) + Expr::f32(0.1));
                });
            });
            b.for_kind("o", N, kind, |b, o| {
                let t = b.temp("t", DType::F32, &[]);
                b.store(t, SCALAR, Expr::f32(0.0));
                b.for_("i", WIDTH, |b, i| {
                    b.reduce(ReduceOp::Add, t, SCALAR, Expr::load(x, [o, i]) * Expr::load(w, [o, i]));
                });
                b.store(sums, [o], Expr::load(t, SCALAR));
            });
            if kinds > 0 {
                let between = Expr::load(sums, [1]) * Expr::f32(0.3) + Expr::load(sums, [2]);
                b.store(sums, [0], between);
            }
            b.for_kind("o", N, kind, |b, o| {
                b.for_("i", 3, |b, i| {
                    let (x, w) = (Expr::load(x, [o, i]), Expr::load(w, [o, i]));
                    let value = match kinds {
                        0 => x.clone() * x.clone() + w.clone() * w.clone(),
                        1 => x.clone().exp() + w.clone().unary(UnOp::Erf),
                        _ => x.clone().unary(UnOp::Sigmoid).pow(Expr::f32(3.0)).max(-w.clone()),
                    };
                    b.store(maps, [o, i], value);
                });
            });
            b.finish();
            p
        });
    }
}

#[test]
fn loops_that_cannot_be_selected_are_scalar_wherever_the_nest_is_cut() {
    check_cuts(|kind| {
        let mut p = Program::default();
        let ids = p.add_buffer(Buffer::new("ids", DType::I64, &[N], Role::In));
        let x = buffer(&mut p, "x", &[N, WIDTH], Role::In);
        let y = buffer(&mut p, "y", &[N, WIDTH], Role::Out);
        let z = buffer(&mut p, "z", &[N], Role::Out);
        let mut b = NestBuilder::new(&mut p, "mixed");
        b.for_kind("o", N, kind, |b, o| {
            b.for_kind("i", WIDTH, Vector, |b, i| b.store(y, [o, i], Expr::load(x, [o, i]).exp()));
        });
        b.for_kind("o", N, kind, |b, o| {
            let number = Expr::load(ids, [o]).binary(BinOp::Mul, Expr::load(ids, [o])).cast(DType::F32);
            b.store(z, [o], number * Expr::load(x, [o, o]).exp() + Expr::load(y, [o, o]));
        });
        b.finish();
        p
    });
}

#[test]
fn masks_that_statements_share_are_in_memory_wherever_the_nest_is_cut() {
    // Code for one thread, and for several: there the local is a buffer of the program.
    let build = |role, kind| {
        let mut p = Program::default();
        let x = buffer(&mut p, "x", &[N, WIDTH], Role::In);
        let y = buffer(&mut p, "y", &[N, WIDTH], Role::Out);
        let mask = p.add_buffer(Buffer::new("mask", DType::Bool, &[], role));
        let mut b = NestBuilder::new(&mut p, "masked");
        if role == Role::Local {
            b.push(nestjit_ir::Stmt::Temp(mask));
        }
        b.store(mask, SCALAR, Expr::load(x, [0, 0]).gt(Expr::f32(-1e9)));
        b.for_kind("o", N, kind, |b, o| {
            b.for_kind("i", WIDTH, Vector, |b, i| {
                let value = Expr::load(x, [o, i]);
                b.store(y, [o, i], Expr::load(mask, SCALAR).select(value.clone().exp(), value));
            });
        });
        b.finish();
        p
    };
    let (whole, cut) = (build(Role::Local, Serial), build(Role::Temp, Parallel(None)));
    let given = inputs(&whole);
    for target in targets_and_without_fma() {
        assert_eq!(bits(&whole, &target, &given), bits(&cut, &target, &given), "{target:?}");
    }
}
