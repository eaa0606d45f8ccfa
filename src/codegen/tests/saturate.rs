//! Rounded numbers that become bytes: what is between two bytes, beyond both ends, infinite or no number.

use std::collections::HashMap;

use nestjit_ir::interp::Value;
use nestjit_ir::parse::parse;
use nestjit_ir::{BufId, DType};

use super::harness::{check_with, target, wide_targets};
use crate::machine::Isa;

const NUMBERS: [f64; 24] = [
    f64::NAN,
    f64::INFINITY,
    f64::NEG_INFINITY,
    0.0,
    -0.0,
    0.5,
    1.5,
    -0.5,
    -1.5,
    254.5,
    255.5,
    254.4999,
    139.5,
    140.5,
    -116.5,
    -115.5,
    8_388_609.0,
    16_777_217.0,
    2_147_483_648.0,
    -2_147_483_648.0,
    -2_147_483_904.0,
    -2_147_483_520.0,
    3e38,
    -3e38,
];

#[test]
fn numbers_become_bytes() {
    for n in [1, 5, 16, 24] {
        for value in [
            "u8(min(max(round(%x[n]) + 115.0, 0.0), 255.0))",
            "u8(min(max(round(%x[n]), 0.0), 255.0))",
            "u8(min(max(round(%x[n]) + 255.0, 0.0), 255.0))",
            "u8(min(max(round(%x[n]) + 3.0, 0.0), 140.0))",
            "u8(i8(min(max(round(%x[n]) + -128.0, -128.0), 127.0))) ^ 128u8",
            "u8(i8(min(max(round(%x[n]), -128.0), 127.0))) ^ 128u8",
            "u8(i8(min(max(round(%x[n]) + 100.0, -20.0), 127.0))) ^ 128u8",
            "u8(i8(min(max(round(f32(i32(%x[n])) * 0.001) + 3.0, -128.0), 127.0))) ^ 128u8",
            "u8(min(max(round(%x[n]) + 7.0, 1.0), 255.0))",
            "u8(min(max(round(%x[n]) + -3.0, 0.0), 255.0))",
            // Other forms: limits of other types, sums that are no integers, limits the wrong way round, no rounding.
            "u8(min(max(round(%x[n]) + -300.0, 0.0), 255.0))",
            "u8(min(max(round(%x[n]), 255.0), 3.0))",
            "u8(min(max(round(%x[n]) + 0.5, 0.0), 255.0))",
            "u8(min(max(round(%x[n]) + 7.0, 0.0), 300.0))",
            "u8(min(max(%x[n] + 7.0, 0.0), 255.0))",
        ] {
            let text = format!(
                "nest @bytes(in %x: f32[{n}], out %y: u8[{n}], out %z: i8[{n}], out %w: i8[{n}]) {{
                  for n < {n} vector {{
                    %y[n] = {value}
                    %z[n] = i8(min(max(round(%x[n]) + -5.0, -128.0), 127.0))
                    %w[n] = i8(min(max(round(%x[n]) + 5.0, -128.0), 100.0))
                  }}
                }}"
            );
            let p = parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
            // Every number comes first once: short loops see all of them too.
            for start in (0..NUMBERS.len()).step_by(n) {
                let of = |i: usize| NUMBERS[(start + i) % NUMBERS.len()];
                let inputs = HashMap::from([(BufId(0), Value::from_fn(DType::F32, &[n], of))]);
                for target in wide_targets().into_iter().chain([target()]) {
                    let code = check_with(&p, &target, &inputs, 0.0);
                    // The store is the upper limit.
                    let saturates =
                        n > 1 && target.isa == Isa::Avx512 && value.ends_with(") + 115.0, 0.0), 255.0))");
                    let text = code.disassembly(0);
                    assert!(!saturates || text.contains("vpmovusdb"), "{text}");
                }
            }
        }
    }
}
