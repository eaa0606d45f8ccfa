//! The machine code of the wide tiers: what is in the loops of register tiles.

use super::harness::{check_with, inputs, wide_targets};
use super::vector::gemm;
use crate::codegen::Code;
use crate::target::{Isa, Target};

/// The instructions of the innermost loops that multiply and accumulate.
fn k_loops(text: &str) -> Vec<Vec<&str>> {
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
        if body.iter().any(|l| l.contains("vfmadd"))
            && !body[..body.len() - 1].iter().any(|l| l.contains(" j"))
        {
            loops.push(body.to_vec());
        }
    }
    loops
}

fn tile_code(target: &Target, rows: usize, columns: usize) -> Code {
    let p = gemm(2 * rows, 2 * columns, 32, rows, columns, true);
    check_with(&p, target, &inputs(&p), 1e-5)
}

#[test]
fn the_loop_of_a_tile_is_loads_and_products_only() {
    for target in wide_targets() {
        let tiles: &[(usize, usize)] = match target.isa {
            Isa::Avx512 => &[(14, 32), (12, 32), (8, 48), (6, 64), (28, 16), (7, 32), (1, 64)],
            _ => &[(6, 16), (4, 24), (12, 8), (3, 16)],
        };
        for &(rows, columns) in tiles {
            let code = tile_code(&target, rows, columns);
            let text = code.disassembly(0);
            let loops = k_loops(text);
            assert_eq!(loops.len(), 1, "{text}");
            let body = &loops[0];
            let count = |what: &str| body.iter().filter(|l| l.contains(what)).count();
            let registers = columns / target.isa.f32_lanes();
            let unrolled = count("vfmadd") / (rows * registers);
            assert!(unrolled >= 1 && count("vfmadd") == unrolled * rows * registers, "{body:#?}");
            assert_eq!((count("vfmadd231ps"), count("rsp")), (count("vfmadd"), 0), "{body:#?}");
            assert_eq!((count("vmovaps"), count("vbroadcastss")), (0, unrolled * rows), "{body:#?}");
            // Two pointers and the counter.
            let others = body.len() - count("vfmadd") - count("vbroadcastss") - count("vmovups");
            assert!(others <= 4, "{body:#?}");
        }
    }
}
