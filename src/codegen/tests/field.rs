//! Bits of integers as floating-point numbers, less an offset.

use std::collections::HashMap;

use nestjit_ir::BufId;
use nestjit_ir::interp::Value;
use nestjit_ir::parse::parse;

use super::harness::{check, check_with, targets};
use crate::machine::{Isa, MachineModel};

/// The code of a kernel for the widest tier, if this machine has that.
fn has_one_instruction(code: &[(Isa, String)]) -> bool {
    let widest = code.iter().find(|c| c.0 == Isa::Avx512);
    widest.is_none_or(|(_, text)| text.contains(" = AndOr "))
}

/// Checks a program of buffers `q`, `z`, .. whose elements are their flat indices, exactly, on every tier; the code.
fn check_numbered(text: &str) -> Vec<(Isa, String)> {
    let p = parse(text).unwrap_or_else(|e| panic!("{e}: {text}"));
    let inputs: HashMap<BufId, Value> = p
        .buf_ids()
        .zip(&p.buffers)
        .filter(|(_, b)| b.name != "y")
        .map(|(id, b)| {
            let mut at = 0;
            let value = Value::from_fn(b.dtype, &b.shape, |_| {
                at += 1;
                f64::from(at - 1)
            });
            (id, value)
        })
        .collect();
    let of = |t: &MachineModel| check_with(&p, t, &inputs, 0.0).disassembly(0).to_owned();
    targets().iter().map(|t| (t.isa, of(t))).collect()
}

/// Every byte and every offset that is a byte, for the parts of two and four bits.
#[test]
fn every_part_of_every_byte_less_every_offset() {
    let parts = [
        "q & 15u8",
        "q >> 4u8",
        "q & 3u8",
        "(q >> 2u8) & 3u8",
        "(q >> 4u8) & 3u8",
        "q >> 6u8",
        // Not all bits, and not next to each other.
        "q & 0xa5u8",
        "(q >> 3u8) & 5u8",
    ];
    for part in parts {
        let part = part.replace('q', "%q[i]").replace("0xa5", "165");
        let code = check_numbered(&format!(
            "nest @parts(in %q: u8[256], in %z: u8[256], out %y: f32[256,256]) {{
               for i < 256 {{ for j < 256 vector {{ %y[i,j] = f32(i32({part}) - i32(%z[j])) }} }}
             }}"
        ));
        assert!(has_one_instruction(&code), "{part}: {code:?}");
    }
}

#[test]
fn constant_offsets_and_none() {
    for offset in ["", " - 8i32", " - 0i32", " - -7i32", " - 1000000i32"] {
        let code = check_numbered(&format!(
            "nest @parts(in %q: u8[256], out %y: f32[2,256]) {{
               for j < 256 vector {{
                 %y[0,j] = f32(i32(%q[j] & 15u8){offset})
                 %y[1,j] = f32(i32(%q[j] >> 4u8){offset})
               }}
             }}"
        ));
        assert!(has_one_instruction(&code), "{offset}: {code:?}");
    }
}

/// Parts of 16 bits less signed offsets; offsets as large as the element, which are subtracted as integers.
#[test]
fn wider_integers_and_other_offsets() {
    for (z, used) in [("i16", true), ("i8", true), ("u16", true), ("i32", false)] {
        let code = check_numbered(&format!(
            "nest @parts(in %q: u16[300], in %z: {z}[77], out %y: f32[2,300,77]) {{
               for i < 300 {{ for j < 77 vector {{
                 %y[0,i,j] = f32(i32((%q[i] >> 2u16) & 1023u16) - i32(%z[j]))
                 %y[1,i,j] = f32(i32(%q[i] & 65535u16) - i32(%z[j]))
               }} }}
             }}"
        ));
        assert!(!used || has_one_instruction(&code), "{z}: {code:?}");
    }
}

/// What wraps before it is converted.
#[test]
fn differences_of_bytes_wrap() {
    check_numbered(
        "nest @parts(in %q: u8[256], in %z: u8[256], out %y: f32[256,256]) {
           for i < 256 { for j < 256 vector { %y[i,j] = f32((%q[i] & 15u8) - %z[j]) } }
         }",
    );
}

/// Sums over parts in a tile: an offset for each block, used by many steps, with what does not divide into registers.
#[test]
fn tiles_of_parts_with_offsets() {
    for (columns, bytes) in [(64, 16), (40, 3), (17, 64)] {
        let p = parse(&format!(
            "nest @tile(in %x: f32[3,{depth}], const %q: u8[4,{bytes},{columns}], const %z: u8[4,{columns}],
                        const %s: f32[4,{columns}], out %y: f32[3,{columns}]) {{
               for r < 3 {{ for c < {columns} vector {{ %y[r,c] = 0.0 }} }}
               for b < 4 {{
                 temp %t: f32[3,{columns}]
                 for r < 3 unrolled {{ for c < {columns} vector {{ %t[r,c] = 0.0 }} }}
                 for j < {bytes} {{ for r < 3 unrolled {{ for c < {columns} vector {{
                   %t[r,c] += %x[r,{block}*b+2*j] * f32(i32(%q[b,j,c] & 15u8) - i32(%z[b,c]))
                   %t[r,c] += %x[r,{block}*b+2*j+1] * f32(i32(%q[b,j,c] >> 4u8) - i32(%z[b,c]))
                 }} }} }}
                 for r < 3 unrolled {{ for c < {columns} vector {{ %y[r,c] += %t[r,c] * %s[b,c] }} }}
               }}
             }}",
            depth = 8 * bytes,
            block = 2 * bytes,
        ))
        .expect("a program");
        check(&p, 1e-5);
    }
}
