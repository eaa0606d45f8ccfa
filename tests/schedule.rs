//! Scheduling keeps the meaning: programs are interpreted before and after each scheduling pass, on machines
//! with different vectors and thread counts.

use std::collections::HashMap;

use nestjit::passes::{PIPELINE, PassContext, Run};
use nestjit::target::{Isa, Target};
use nestjit::unit::{Remark, Unit};
use nestjit_ir::interp::{Mode, Value, interpret, no_calls};
use nestjit_ir::{BufId, Program, Role, parse::parse};

const PASSES: [&str; 2] = ["Tile", "Parallelize"];

fn target(isa: Isa) -> Target {
    Target { isa, fma: true, l1_bytes: 32 << 10, l2_bytes: 1 << 20, l3_bytes: 16 << 20, cores: 2 }
}

/// Values that depend on the name (a packed copy has its original's) and are not symmetric.
fn inputs(program: &Program) -> HashMap<BufId, Value> {
    let given = program.buf_ids().filter(|&b| matches!(program.buf(b).role, Role::In | Role::Const));
    given
        .map(|b| {
            let buffer = program.buf(b);
            let name = buffer.name.split(".packed").next().unwrap_or_default();
            let seed = name.bytes().fold(7usize, |s, c| (s * 31 + usize::from(c)) % 1009);
            let value =
                |i: usize| (((i * 7919 + seed * 104_729) % 2003) as f64 / 1001.0 - 1.0) * 0.7;
            (b, Value::from_fn(buffer.dtype, &buffer.shape, value))
        })
        .collect()
}

fn results(program: &Program) -> Vec<(String, Value)> {
    let out = interpret(program, &inputs(program), Mode::Exact, &no_calls).expect("the program runs");
    let mut out: Vec<(String, Value)> =
        out.into_iter().map(|(b, v)| (program.buf(b).name.clone(), v)).collect();
    out.sort_by(|a, b| a.0.cmp(&b.0));
    out
}

/// Runs the scheduling passes on `text`, comparing with the original after each; returns the scheduled program
/// and what the passes said.
fn schedule(text: &str, isa: Isa, threads: usize) -> (Program, Vec<Remark>) {
    let program = parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let expected = results(&program);
    let target = target(isa);
    let ctx = PassContext { target: &target, threads };
    let mut unit = Unit { program, ..Unit::default() };
    let mut remarks = Vec::new();
    for name in PASSES {
        let Some(pass) = PIPELINE.iter().find(|p| p.name == name) else { panic!("no pass {name}") };
        let Run::Nest(run) = pass.run else { panic!("{name} is not a nest pass") };
        run(&mut unit, &ctx, &mut remarks).expect("the pass succeeds");
        let found = results(&unit.program);
        assert_eq!(found.len(), expected.len());
        for ((buffer, a), (_, b)) in expected.iter().zip(&found) {
            for i in 0..a.len() {
                let (x, y) = (a.data.get(i).unwrap().as_f64(), b.data.get(i).unwrap().as_f64());
                let same = x == y || (x - y).abs() <= 2e-6 * (1.0 + x.abs()) || (x.is_nan() && y.is_nan());
                assert!(
                    same,
                    "%{buffer}[{i}]: {x} before, {y} after {name} on {isa:?}\n{text}\n{}",
                    unit.program
                );
            }
        }
    }
    (unit.program, remarks)
}

fn everywhere(text: &str) {
    for isa in [Isa::Simd128, Isa::Avx2, Isa::Avx512] {
        for threads in [1, 2] {
            schedule(text, isa, threads);
        }
    }
}

#[test]
fn gemm_show() {
    let text = "nest @dense0(in %x: f32[64,512], const %w: f32[512,512], const %b: f32[512], out %y: f32[64,512]) {
  for n < 64 { for m < 512 {
    temp %t: f32[]
    %t = 0.0
    for k < 512 { %t += %x[n,k] * %w[k,m] }
    %y[n,m] = max(%t + %b[m], 0.0)
  } }
}";
    let (p, r) = schedule(text, Isa::Simd128, 2);
    eprintln!("{p}\n{r:?}");
}
