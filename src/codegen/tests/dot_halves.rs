//! Sums of products of `bf16` as dot products of pairs, and numbers that are rounded into the order that these read.

use nestjit_ir::Program;
use nestjit_ir::parse::parse;

use super::harness::{check_with, inputs, targets};
use crate::codegen::Code;
use crate::machine::{Isa, MachineModel};

/// Sums of up to 70 products of numbers of at most 2: rounded after each.
const TOLERANCE: f64 = 1e-4;

/// Checks a program on every tier, with and without dot products of pairs where there are some; the code of each.
fn check(text: &str) -> Vec<(MachineModel, Code)> {
    let p: Program = parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let inputs = inputs(&p);
    let with_pairs = targets().into_iter().filter(|t| t.isa.host_has_fast_bf16());
    let with_pairs: Vec<MachineModel> = with_pairs.map(|t| MachineModel { bf16: true, ..t }).collect();
    let targets = targets().into_iter().chain(with_pairs);
    targets.map(|t| (t.clone(), check_with(&p, &t, &inputs, TOLERANCE))).collect()
}

/// Two by two tiles of a product over `depth`.
fn product((rows, columns): (usize, usize), depth: usize) -> String {
    let tile = |stmt: &str| format!("for r < {rows} unrolled {{ for c < {columns} vector {{ {stmt} }} }}");
    let step = |k: &str, n: usize| {
        let sum = format!("%acc[r,c] += f32(%x[{rows}*no+r,{k}+g]) * f32(%w[{k}+g,{columns}*mo+c])");
        tile(&if n == 1 { sum.replace("+g", "") } else { format!("for g < {n} unrolled {{ {sum} }}") })
    };
    let (full, rest) = (depth / 2, depth % 2);
    let main = if full > 0 { format!("for k < {full} {{ {} }}", step("2*k", 2)) } else { String::new() };
    let tail = if rest > 0 { step(&(2 * full).to_string(), rest) } else { String::new() };
    format!(
        "nest @product(in %x: bf16[{n},{depth}], const %w: bf16[{depth},{m}] panel(1,{columns}) interleave(0,2),
                       const %s: f32[{m}], out %y: f32[{n},{m}]) {{
          for no < 2 {{ for mo < 2 {{
            temp %acc: f32[{rows},{columns}]
            {start} {main} {tail} {finish}
          }} }}
        }}",
        n = 2 * rows,
        m = 2 * columns,
        start = tile("%acc[r,c] = 0.0"),
        finish = tile(&format!("%y[{rows}*no+r,{columns}*mo+c] = %acc[r,c] + %s[{columns}*mo+c]")),
    )
}

#[test]
fn products_of_halves_of_every_depth() {
    for (rows, columns) in [(1, 16), (3, 24), (2, 5), (6, 64)] {
        for depth in [1, 2, 3, 4, 7, 30, 33] {
            for (target, code) in check(&product((rows, columns), depth)) {
                let text = code.disassembly(0);
                assert_eq!(text.contains(" = DotBf16 "), target.bf16, "{rows}x{columns}x{depth}: {text}");
            }
        }
    }
}

#[test]
fn windows_with_a_border_are_dot_products_too() {
    for channels in [2, 3, 6] {
        let (full, rest) = (channels / 2, channels % 2);
        let step = |c: &str, n: usize| {
            format!(
                "for f < 20 vector {{ for g < {n} unrolled {{
                   %t[f] += f32((%x[i+u-1,j+v-1,{c}+g] else bf16(0.5))) * f32(%w[f,{c}+g,u,v])
                 }} }}"
            )
        };
        let tail = if rest > 0 { step(&(2 * full).to_string(), rest) } else { String::new() };
        check(&format!(
            "nest @conv(in %x: bf16[4,5,{channels}], const %w: bf16[20,{channels},3,3] layout(2,3,1,0) interleave(1,2),
                        out %y: f32[4,5,20]) {{
              for i < 4 {{ for j < 5 {{
                temp %t: f32[20]
                for f < 20 vector {{ %t[f] = 0.0 }}
                for u < 3 {{ for v < 3 {{ for c < {full} {{ {} }} {tail} }} }}
                for f < 20 vector {{ %y[i,j,f] = %t[f] }}
              }} }}
            }}",
            step("2*c", 2)
        ));
    }
}

#[test]
fn numbers_are_rounded_into_groups() {
    for (from, depth) in [("n,k", 12), ("k,n", 12), ("n,k", 7), ("k,n", 7)] {
        for ty in ["f32", "bf16"] {
            let (full, rest) = (depth / 2, depth % 2);
            let shape = if from == "n,k" { format!("19,{depth}") } else { format!("{depth},19") };
            let step = |k: &str, n: usize| {
                let at = from.replace('k', &format!("{k}+g"));
                let value = if ty == "f32" { format!("bf16(%x[{at}])") } else { format!("%x[{at}]") };
                format!("for n < 19 vector {{ for g < {n} unrolled {{ %y[{k}+g,n] = {value} }} }}")
            };
            let tail = if rest > 0 { step(&(2 * full).to_string(), rest) } else { String::new() };
            check(&format!(
                "nest @copy(in %x: {ty}[{shape}], out %y: bf16[{depth},19] interleave(0,2)) {{
                  for k < {full} {{ {} }} {tail}
                }}",
                step("2*k", 2)
            ));
        }
    }
}

/// The tiles that Tile chooses, among others.
#[test]
fn the_loop_of_a_tile_is_loads_and_dot_products_only() {
    for (rows, columns) in [(14, 32), (6, 64), (8, 48), (1, 64)] {
        for (target, code) in check(&product((rows, columns), 64)) {
            if !target.bf16 {
                continue;
            }
            let loops = super::x86::loops_with(code.disassembly(0), "vdpbf16ps");
            assert_eq!((target.isa, loops.len()), (Isa::Avx512, 1), "{rows}x{columns}");
            let body = &loops[0];
            let count = |what: &str| body.iter().filter(|l| l.contains(what)).count();
            let steps = count("vdpbf16ps") / (rows * columns / 16);
            assert!(steps >= 1 && count("vdpbf16ps") == steps * rows * columns / 16, "{body:#?}");
            assert_eq!((count("sp"), count("vmova")), (0, 0), "{body:#?}");
            assert_eq!(count("vbroadcastss"), steps * rows, "{body:#?}");
        }
    }
}
