//! The machine code of the wide tiers: what is in the loops of register tiles.

use nestjit_ir::parse::parse;
use nestjit_ir::{BinOp, Expr, UnOp};

use super::harness::{check_with, inputs, wide_targets};
use super::vector::{Epilogue, gemm_with};
use crate::machine::Isa;

/// The instructions of the innermost loops that multiply and accumulate.
fn k_loops(text: &str) -> Vec<Vec<&str>> {
    loops_with(text, "vfmadd")
}

/// The instructions of the innermost loops that have such an instruction.
pub(super) fn loops_with<'t>(text: &'t str, instruction: &str) -> Vec<Vec<&'t str>> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let mut loops = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let target = line.split_whitespace().skip(1).collect::<Vec<_>>();
        let [jump, to] = *target else { continue };
        let address = |l: &str| l.split_whitespace().next().and_then(|a| u64::from_str_radix(a, 16).ok());
        let to = u64::from_str_radix(to.trim_end_matches('h'), 16).ok();
        if !jump.starts_with('j') || to.is_none() {
            continue;
        }
        let Some(head) = lines[..i].iter().rposition(|l| !l.starts_with('L') && address(l) == to) else {
            continue;
        };
        let body = &lines[head..=i];
        if body.iter().any(|l| l.contains(instruction))
            && !body[..body.len() - 1].iter().any(|l| l.contains(" j"))
        {
            loops.push(body.to_vec());
        }
    }
    loops
}

/// The tiles that Tile chooses, and some smaller ones.
fn tiles(isa: Isa) -> &'static [(usize, usize)] {
    match isa {
        Isa::Avx512 => &[(14, 32), (12, 32), (8, 48), (6, 64), (28, 16), (7, 32), (1, 64)],
        _ => &[(6, 16), (4, 24), (12, 8), (3, 16)],
    }
}

/// What users compose from operations; the first is `max(x, 0)`.
const EPILOGUES: [(&str, Epilogue<'static>); 6] = [
    ("relu", &|x, _| x.relu()),
    ("residual", &|x, r| (x + r).relu()),
    ("swish", &|x, _| x.clone() * x.unary(UnOp::Sigmoid)),
    ("gelu", &|x, _| {
        let erf = (x.clone() * Expr::f32(std::f32::consts::FRAC_1_SQRT_2)).unary(UnOp::Erf);
        x * Expr::f32(0.5) * (erf + Expr::f32(1.0))
    }),
    ("tanh and residual", &|x, r| x.unary(UnOp::Tanh) + r),
    ("hard swish", &|x, _| {
        let gate = (x.clone() + Expr::f32(3.0)).relu().binary(BinOp::Min, Expr::f32(6.0));
        x * gate * Expr::f32(1.0 / 6.0)
    }),
];

#[test]
fn the_loop_of_a_tile_is_loads_and_products_only_whatever_the_epilogue() {
    for target in wide_targets() {
        for &(rows, columns) in tiles(target.isa) {
            for (name, epilogue) in EPILOGUES {
                let p = gemm_with((2 * rows, 2 * columns, 32), (rows, columns), true, epilogue);
                let code = check_with(&p, &target, &inputs(&p), 1e-5);
                let text = code.disassembly(0);
                let loops = k_loops(text);
                assert_eq!(loops.len(), 1, "{name}, {rows}x{columns}: {text}");
                let body = &loops[0];
                let count = |what: &str| body.iter().filter(|l| l.contains(what)).count();
                let registers = columns / target.isa.f32_lanes();
                let unrolled = count("vfmadd") / (rows * registers);
                assert!(unrolled >= 1 && count("vfmadd") == unrolled * rows * registers, "{body:#?}");
                assert_eq!((count("vfmadd231ps"), count("sp")), (count("vfmadd"), 0), "{name}: {body:#?}");
                assert_eq!((count("vmovaps"), count("vbroadcastss")), (0, unrolled * rows), "{body:#?}");
                // Two pointers and the counter.
                let others = body.len() - count("vfmadd") - count("vbroadcastss") - count("vmovups");
                assert!(others <= 4, "{name}: {body:#?}");
                assert!(text.contains("vzeroupper"), "{text}");
                // What only calls a kernel is not compiled by Cranelift.
                assert!(cfg!(not(unix)) || !text.contains("function u0"), "{text}");
            }
        }
    }
}

#[test]
fn overlapping_windows_leave_accumulators_in_registers() {
    let text = "nest @conv(in %x: f32[3,61], in %w: f32[3,7,32], out %y: f32[2,14,32]) {
      for o < 2 {
        temp %acc: f32[14,32]
        for r < 14 unrolled { for c < 32 vector { %acc[r,c] = 0.0 } }
        for ci < 3 { for k < 7 unrolled { for r < 14 unrolled { for c < 32 vector {
          %acc[r,c] += %x[ci,28*o+k+2*r] * %w[ci,k,c]
        } } } }
        for r < 14 unrolled { for c < 32 vector { %y[o,r,c] = max(%acc[r,c], 0.0) } }
      }
    }";
    let p = parse(text).unwrap();
    for target in wide_targets().into_iter().filter(|t| t.isa == Isa::Avx512) {
        let code = check_with(&p, &target, &inputs(&p), 1e-5);
        let text = code.disassembly(0);
        let loops = k_loops(text);
        assert_eq!(loops.len(), 1, "{text}");
        let count = |what: &str| loops[0].iter().filter(|l| l.contains(what)).count();
        assert_eq!((count("vfmadd231ps"), count("sp")), (7 * 14 * 2, 0), "{:#?}", loops[0]);
    }
}

#[test]
fn windows_of_what_the_nest_itself_wrote_leave_accumulators_in_registers() {
    for target in wide_targets() {
        let rows = if target.isa == Isa::Avx512 { 14 } else { 3 };
        let text = format!(
            "nest @conv(in %x: f32[3,57], in %w: f32[3,7,32], temp %p: f32[3,61], out %y: f32[2,{rows},32]) {{
              for ci < 3 {{ for i < 61 vector {{ %p[ci,i] = 0.0 }} }}
              for ci < 3 {{ for i < 57 vector {{ %p[ci,i+2] = %x[ci,i] }} }}
              for o < 2 {{
                temp %acc: f32[{rows},32]
                for r < {rows} unrolled {{ for c < 32 vector {{ %acc[r,c] = 0.0 }} }}
                for ci < 3 {{ for k < 7 unrolled {{ for r < {rows} unrolled {{ for c < 32 vector {{
                  %acc[r,c] += %p[ci,{step}*o+k+2*r] * %w[ci,k,c]
                }} }} }} }}
                for r < {rows} unrolled {{ for c < 32 vector {{ %y[o,r,c] = max(%acc[r,c], 0.0) }} }}
              }}
            }}",
            step = 2 * rows,
        );
        let p = parse(&text).unwrap();
        let code = check_with(&p, &target, &inputs(&p), 1e-5);
        let text = code.disassembly(0);
        let loops = k_loops(text);
        assert_eq!(loops.len(), 1, "{text}");
        let count = |what: &str| loops[0].iter().filter(|l| l.contains(what)).count();
        let products = 7 * rows * 32 / target.isa.f32_lanes();
        assert_eq!((count("vfmadd231ps"), count("sp")), (products, 0), "{:#?}", loops[0]);
    }
}

#[test]
fn epilogues_leave_accumulators_in_registers() {
    for target in wide_targets().into_iter().filter(|t| t.isa == Isa::Avx512) {
        for (name, epilogue) in EPILOGUES {
            let p = gemm_with((12, 128, 32), (6, 64), true, epilogue);
            let code = check_with(&p, &target, &inputs(&p), 1e-5);
            let text = code.disassembly(0);
            let spills = text.lines().filter(|l| l.contains("zmm") && l.contains("[rsp")).count();
            // Of 24 accumulators, the longest epilogue may push out 2, each once.
            assert!(spills <= if name == "gelu" { 4 } else { 0 }, "{name}: {text}");
        }
    }
}
