//! The code for AArch64, compiled on any machine: kernels are NEON code of full width.

use cranelift_codegen::isa;
use nestjit_ir::LoopKind::{Parallel, Unrolled, Vector};
use nestjit_ir::{Buffer, DType, Expr, NestBuilder, Program, ReduceOp, Role, UnOp};

use super::harness::target;
use super::vector::{gemm, gemm_with};
use crate::codegen::function::{Env, FunctionCompiler, finish_isa};
use crate::codegen::module::CodegenOptions;
use crate::codegen::nest::compile_nest;
use crate::machine::{Isa, MachineModel};

/// The machine code of the kernels of every nest.
fn kernels(program: &Program) -> Vec<String> {
    let options = CodegenOptions { verify: true, keep_text: true, ..CodegenOptions::default() };
    let isa = |opt_level| {
        let builder = isa::lookup_by_name("aarch64-unknown-linux-gnu").expect("a backend for AArch64");
        finish_isa(builder, &options, opt_level).expect("its settings")
    };
    let (isa, kernel_isa) = (isa("speed"), isa("none"));
    let target = MachineModel { isa: Isa::Simd128, fma: true, ..target() };
    let env = Env { isa: isa.as_ref(), kernel_isa: kernel_isa.as_ref(), target: &target };
    let mut compiler = FunctionCompiler::new(env, &options);
    let mut listings = Vec::new();
    for nest in &program.nests {
        let compiled = compile_nest(&mut compiler, program, nest).expect("compiles");
        assert!(compiled.scalar_loops.is_empty(), "{:?}", compiled.scalar_loops);
        listings.extend(compiled.kernels.into_iter().map(|k| k.listing));
    }
    listings
}

fn count(listing: &str, what: &str) -> usize {
    listing.lines().filter(|l| l.contains(what)).count()
}

#[test]
fn a_tile_multiplies_and_accumulates_whole_registers() {
    let listings = kernels(&gemm(8, 24, 16, 4, 12, true));
    assert_eq!(listings.len(), 1);
    let code = &listings[0];
    // 4 rows of 3 registers.
    assert!(count(code, "fmla v") >= 12, "{code}");
    assert_eq!(
        count(code, "fmla v"),
        code.lines().filter(|l| l.contains("fmla v") && l.contains(".4s")).count()
    );
    assert_eq!(count(code, "fmadd s"), 0, "{code}");
}

#[test]
fn epilogues_and_reductions_are_vector_code() {
    let swish = gemm_with((8, 24, 16), (4, 12), true, &|x, _| x.clone() * x.unary(UnOp::Sigmoid));
    for code in kernels(&swish) {
        assert!(count(&code, "fdiv v") > 0 && count(&code, "fdiv s") == 0, "{code}");
    }
    // A depthwise window with the channels last, and the sum of each channel.
    let (pixels, channels) = (10, 20);
    let mut p = Program::default();
    let mut buffer =
        |name: &str, shape: &[usize], role| p.add_buffer(Buffer::new(name, DType::F32, shape, role));
    let x = buffer("x", &[pixels + 2, channels], Role::In);
    let w = buffer("w", &[3, channels], Role::Const);
    let y = buffer("y", &[pixels, channels], Role::Out);
    let sum = buffer("sum", &[channels], Role::Out);
    let mut b = NestBuilder::new(&mut p, "depthwise");
    b.for_kind("p", pixels, Parallel(None), |b, i| {
        let acc = b.temp("acc", DType::F32, &[channels]);
        b.for_kind("c", channels, Vector, |b, c| b.store(acc, [c], Expr::f32(0.0)));
        b.for_kind("k", 3, Unrolled, |b, k| {
            b.for_kind("c", channels, Vector, |b, c| {
                let product = Expr::load(x, [i + k, c.into()]) * Expr::load(w, [k, c]);
                b.reduce(ReduceOp::Add, acc, [c], product);
            });
        });
        b.for_kind("c", channels, Vector, |b, c| b.store(y, [i, c], Expr::load(acc, [c]).relu()));
    });
    b.for_kind("c", channels, Vector, |b, c| b.store(sum, [c], Expr::f32(0.0)));
    b.for_("p", pixels, |b, i| {
        b.for_kind("c", channels, Vector, |b, c| b.reduce(ReduceOp::Add, sum, [c], Expr::load(y, [i, c])));
    });
    b.finish();
    let code = kernels(&p).join("\n");
    assert!(count(&code, "fmla v") >= 15 && count(&code, "fadd v") >= 5, "{code}");
    assert_eq!(count(&code, "fmadd s") + count(&code, "fadd s"), 0, "{code}");
}
