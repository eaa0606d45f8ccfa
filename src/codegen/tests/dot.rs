//! Sums of products of bytes as dot products, and bytes that are brought into the order that these read.

use std::collections::HashMap;

use nestjit_ir::interp::Value;
use nestjit_ir::parse::parse;
use nestjit_ir::{BufId, Kind, Program, Role};

use super::harness::{check_with, target, wide_targets};
use crate::codegen::Code;
use crate::machine::{Isa, MachineModel};

/// Bytes of all values, the extremes often; small factors.
fn bytes(program: &Program) -> HashMap<BufId, Value> {
    let given = program.buf_ids().filter(|&b| matches!(program.buf(b).role, Role::In | Role::Const));
    given
        .map(|b| {
            let buffer = program.buf(b);
            let mut state = 0x2545_f491_u32.wrapping_mul(b.0 + 1);
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                state >> 16
            };
            let value = Value::from_fn(buffer.dtype, &buffer.shape, |_| {
                let (n, extreme) = (next(), next() % 3 == 0);
                match buffer.dtype.kind() {
                    Kind::Float => f64::from(n % 100) * 1e-4,
                    Kind::Unsigned => f64::from(if extreme { 255 * (n % 2) } else { n % 256 }),
                    Kind::Signed => f64::from(if extreme { 255 * (n % 2) } else { n % 256 }) - 128.0,
                    Kind::Bool => f64::from(n % 2),
                }
            });
            (b, value)
        })
        .collect()
}

/// Checks a program on every tier; the code of each.
fn check(p: &Program) -> Vec<(MachineModel, Code)> {
    let inputs = bytes(p);
    let plain = wide_targets().into_iter().filter(|t| t.vnni).map(|t| MachineModel { vnni: false, ..t });
    let targets = wide_targets().into_iter().chain(plain).chain([target()]);
    targets.map(|t| (t.clone(), check_with(p, &t, &inputs, 0.0))).collect()
}

/// What a kernel for a machine has dot products in.
fn dot(target: &MachineModel) -> &'static str {
    if target.vnni { " = Dot " } else { " = PairDot " }
}

/// What becomes of a sum.
#[derive(Clone, Copy, PartialEq, Debug)]
enum End {
    /// It is stored.
    Sum,
    /// It is scaled, rounded and stored as a byte.
    Byte,
}

/// Two by two tiles of a product over `depth` bytes, `unsigned_left` or on the right.
fn product((rows, columns): (usize, usize), depth: usize, unsigned_left: bool, end: End) -> Program {
    let (x, w) = if unsigned_left { ("u8", "i8") } else { ("i8", "u8") };
    let (y, value) = match end {
        End::Sum => ("i32", "%acc[r,c]".to_owned()),
        End::Byte => {
            let scaled = format!("round(f32(%acc[r,c]) * %s[{columns}*mo+c]) + 128.0");
            ("u8", format!("u8(min(max({scaled}, 0.0), 255.0))"))
        }
    };
    let tile = |stmt: &str| format!("for r < {rows} unrolled {{ for c < {columns} vector {{ {stmt} }} }}");
    let step = |k: &str, n: usize| {
        let sum = format!("%acc[r,c] += i32(%x[{rows}*no+r,{k}+g]) * i32(%w[{k}+g,{columns}*mo+c])");
        tile(&if n == 1 { sum.replace("+g", "") } else { format!("for g < {n} unrolled {{ {sum} }}") })
    };
    let (full, rest) = (depth / 4, depth % 4);
    let main = if full > 0 { format!("for k < {full} {{ {} }}", step("4*k", 4)) } else { String::new() };
    let tail = if rest > 0 { step(&(4 * full).to_string(), rest) } else { String::new() };
    let text = format!(
        "nest @product(in %x: {x}[{n},{depth}], const %w: {w}[{depth},{m}] panel(1,{columns}) interleave(0,4),
                       const %s: f32[{m}], out %y: {y}[{n},{m}]) {{
          for no < 2 {{ for mo < 2 {{
            temp %acc: i32[{rows},{columns}]
            {start} {main} {tail} {finish}
          }} }}
        }}",
        n = 2 * rows,
        m = 2 * columns,
        start = tile("%acc[r,c] = 0i32"),
        finish = tile(&format!("%y[{rows}*no+r,{columns}*mo+c] = {value}")),
    );
    parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

#[test]
fn products_of_bytes_of_every_depth() {
    for (rows, columns) in [(1, 16), (3, 24), (2, 5), (6, 64)] {
        for depth in [1, 2, 3, 4, 5, 7, 8, 30, 33] {
            for unsigned_left in [true, false] {
                let p = product((rows, columns), depth, unsigned_left, End::Sum);
                for (target, code) in check(&p) {
                    let text = code.disassembly(0);
                    let whole = depth.is_multiple_of(4) || columns > 1;
                    assert!(
                        whole && text.contains(dot(&target)),
                        "{:?} {rows}x{columns}x{depth}: {text}",
                        target.isa
                    );
                }
            }
        }
    }
}

#[test]
fn sums_become_bytes() {
    for (rows, columns) in [(1, 16), (5, 33), (6, 64), (14, 32)] {
        for depth in [4, 30, 64] {
            check(&product((rows, columns), depth, true, End::Byte));
        }
    }
}

#[test]
fn windows_with_a_border_yield_the_zero_point() {
    // Rows and columns of the window leave the image; the channels, of which there are 4 or 6, never do.
    for channels in [4, 6] {
        let (full, rest) = (channels / 4, channels % 4);
        let step = |c: &str, n: usize| {
            format!(
                "for f < 20 vector {{ for g < {n} unrolled {{
                   %t[f] += i32((%x[i+u-1,j+v-1,{c}+g] else 37u8)) * i32(%w[f,{c}+g,u,v])
                 }} }}"
            )
        };
        let tail = if rest > 0 { step(&(4 * full).to_string(), rest) } else { String::new() };
        let text = format!(
            "nest @conv(in %x: u8[4,5,{channels}], const %w: i8[20,{channels},3,3] layout(2,3,1,0) interleave(1,4),
                        out %y: i32[4,5,20]) {{
              for i < 4 {{ for j < 5 {{
                temp %t: i32[20]
                for f < 20 vector {{ %t[f] = 0i32 }}
                for u < 3 {{ for v < 3 {{ for c < {full} {{ {} }} {tail} }} }}
                for f < 20 vector {{ %y[i,j,f] = %t[f] }}
              }} }}
            }}",
            step("4*c", 4)
        );
        for (target, code) in check(&parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"))) {
            assert!(code.disassembly(0).contains(dot(&target)), "{}", code.disassembly(0));
        }
    }
}

#[test]
fn bytes_are_stored_in_groups() {
    for (from, depth) in [("n,k", 12), ("k,n", 12), ("n,k", 7), ("k,n", 7), ("k,n", 6)] {
        let (full, rest) = (depth / 4, depth % 4);
        let shape = if from == "n,k" { format!("19,{depth}") } else { format!("{depth},19") };
        let step = |k: &str, n: usize| {
            let at = from.replace('k', &format!("{k}+g"));
            format!("for n < 19 vector {{ for g < {n} unrolled {{ %y[{k}+g,n] = %x[{at}] }} }}")
        };
        let tail = if rest > 0 { step(&(4 * full).to_string(), rest) } else { String::new() };
        let text = format!(
            "nest @copy(in %x: i8[{shape}], out %y: i8[{depth},19] interleave(0,4)) {{
              for k < {full} {{ {} }} {tail}
            }}",
            step("4*k", 4)
        );
        check(&parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}")));
    }
}

#[test]
fn products_that_are_no_dot_products_are_right() {
    for (name, text) in [
        ("both unsigned", "i32(%x[4*k+g]) * i32(%x[4*k+g+1])"),
        ("lanes side by side", "i32(%x[4*k+g]) * i32(%v[4*k+g,c])"),
        ("not neighbours", "i32(%x[k+3*g]) * i32(%w[4*k+g,c])"),
        ("across groups", "i32(%x[4*k+g]) * i32(%w[4*k+g+1,c])"),
        ("backwards", "i32(%x[4*k+g]) * i32(%w[4*k-g+3,c])"),
        ("another sum", "i32(%x[4*k+g]) * i32(%w[4*k+g,c]) + 1i32"),
    ] {
        let text = format!(
            "nest @sums(in %x: u8[13], const %w: i8[13,16] interleave(0,4), const %v: i8[13,16], out %y: i32[16]) {{
              temp %t: i32[16]
              for c < 16 vector {{ %t[c] = 0i32 }}
              for k < 3 {{ for c < 16 vector {{ for g < 4 unrolled {{ %t[c] += {text} }} }} }}
              for c < 16 vector {{ %y[c] = %t[c] }}
            }}"
        );
        for (_, code) in check(&parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"))) {
            // Four bytes for all lanes at once.
            let text = code.disassembly(0);
            let groups = text.lines().any(|l| l.contains(" = load ") && l.ends_with(" I32 x1"));
            assert!(!groups, "{name}: {text}");
        }
    }
}

/// The tiles that Tile chooses, among others.
#[test]
fn the_loop_of_a_tile_is_loads_and_dot_products_only() {
    for target in wide_targets() {
        let tiles: &[(usize, usize)] = match target.isa {
            Isa::Avx512 => &[(14, 32), (6, 64), (8, 48), (9, 48), (1, 64)],
            _ => &[(6, 16), (4, 24), (3, 16)],
        };
        for &(rows, columns) in tiles {
            let p = product((rows, columns), 128, true, End::Byte);
            let code = check_with(&p, &target, &bytes(&p), 0.0);
            let text = code.disassembly(0);
            if !text.contains("vpdpbusd") {
                continue;
            }
            let loops = super::x86::loops_with(text, "vpdpbusd");
            assert_eq!(loops.len(), 1, "{rows}x{columns}: {text}");
            let body = &loops[0];
            let count = |what: &str| body.iter().filter(|l| l.contains(what)).count();
            let registers = columns / target.isa.f32_lanes();
            let steps = count("vpdpbusd") / (rows * registers);
            assert!(steps >= 1 && count("vpdpbusd") == steps * rows * registers, "{body:#?}");
            assert_eq!(
                (count("sp"), count("vmova"), count("vbroadcastss")),
                (0, 0, steps * rows),
                "{body:#?}"
            );
            let others =
                body.len() - count("vpdpbusd") - count("vbroadcastss") - count("vmovdqu") - count("vmovups");
            assert!(others <= 4, "{body:#?}");
        }
    }
}
