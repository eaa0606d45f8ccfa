//! Tables of bytes that bytes count: every entry, in kernels of every tier.

use std::collections::HashMap;

use nestjit_ir::interp::Value;
use nestjit_ir::parse::parse;
use nestjit_ir::{BufId, DType, Program, Role};

use super::harness::{check_with, target, wide_targets};

/// All bytes, in an order of their own in each buffer; numbers beyond both ends of them, and what is none.
fn values(program: &Program) -> HashMap<BufId, Value> {
    let given = program.buf_ids().filter(|&b| matches!(program.buf(b).role, Role::In | Role::Const));
    given
        .map(|b| {
            let buffer = program.buf(b);
            let value = |i: usize| {
                let byte = (i * 89 + b.0 as usize * 31 + 7) % 256;
                let is = |dtype: DType| buffer.dtype == dtype;
                if is(DType::F32) {
                    if i % 37 == 36 { f64::NAN } else { byte as f64 * 1.5 - 60.0 }
                } else {
                    byte as f64 - if is(DType::I8) { 128.0 } else { 0.0 }
                }
            };
            (b, Value::from_fn(buffer.dtype, &buffer.shape, value))
        })
        .collect()
}

fn check(text: &str, lookups: usize) {
    let p = parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    for target in wide_targets().into_iter().chain([target()]) {
        let code = check_with(&p, &target, &values(&p), 0.0);
        let text = code.disassembly(0);
        assert!(text.matches(" = lookup ").count() >= lookups, "{:?}: {text}", target.isa);
    }
}

#[test]
fn bytes_from_memory_and_from_registers() {
    for n in [1, 3, 8, 16, 21, 300] {
        // The byte is loaded, is another type's, is computed and saturated, comes from another table.
        for index in [
            "%x[n]",
            "u8(%s[n])",
            "u8(min(max(round(%f[n] * 1.25) + 3.0, 0.0), 255.0))",
            "u8(i32(%x[n]) * i32(%s[n]))",
            "%u[(i64(%x[n]))]",
        ] {
            let text = format!(
                "nest @table(in %x: u8[{n}], in %s: i8[{n}], in %f: f32[{n}], const %t: u8[256], const %u: u8[300], out %y: u8[{n}],
                             out %z: f32[{n}], out %w: i8[{n}]) {{
                  for n < {n} vector {{
                    %y[n] = %t[(i64({index}))]
                    %z[n] = f32(i32(%t[(i64({index}))]) - 17i32) * 0.5
                    %w[n] = i8(%t[(i64({index}))])
                  }}
                }}"
            );
            check(&text, 1);
        }
    }
}

#[test]
fn behind_the_sums_of_a_register_tile() {
    for (rows, columns) in [(1, 16), (6, 32), (14, 32), (5, 21)] {
        let tile =
            |stmt: &str| format!("for r < {rows} unrolled {{ for c < {columns} vector {{ {stmt} }} }}");
        let text = format!(
            "nest @product(in %x: u8[{rows},8], const %w: i8[8,{columns}] interleave(0,4), const %t: u8[256], out %y: u8[{rows},{columns}]) {{
              for once < 1 {{
                temp %acc: i32[{rows},{columns}]
                {} for k < 2 {{ {} }} {}
              }}
            }}",
            tile("%acc[r,c] = 0i32"),
            tile("for g < 4 unrolled { %acc[r,c] += i32(%x[r,4*k+g]) * i32(%w[4*k+g,c]) }"),
            tile("%y[r,c] = %t[(i64(u8(min(max(round(f32(%acc[r,c]) * 0.01) + 100.0, 0.0), 255.0))))]"),
        );
        check(&text, rows);
    }
}

#[test]
fn what_is_no_table_of_bytes_is_left_to_scalar_code() {
    for (table, index, element) in [
        ("const %t: u8[255]", "i64(min(%x[n], 200u8))", "u8"),
        ("const %t: u8[256]", "i64(%x[n]) + 0i64", "u8"),
        ("in %t: u8[256]", "i64(%x[n])", "u8"),
        ("const %t: i8[256]", "i64(%x[n])", "i8"),
    ] {
        let text = format!(
            "nest @table(in %x: u8[40], {table}, out %y: {element}[40]) {{ for n < 40 vector {{ %y[n] = %t[({index})] }} }}"
        );
        check(&text, 0);
    }
}
