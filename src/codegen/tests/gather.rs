//! Loads from where lanes say: elements of every type, vectors of every length, indices that lie outside and are cut to limits.

use std::collections::HashMap;

use nestjit_ir::interp::Value;
use nestjit_ir::parse::parse;
use nestjit_ir::{BufId, DType, Program};

use super::harness::{check_with, inputs, targets};

/// Indices on both sides of what they are cut to, in `%t` and `%u`; anything elsewhere.
fn given(p: &Program) -> HashMap<BufId, Value> {
    let mut given = inputs(p);
    for (id, buffer) in p.buf_ids().zip(&p.buffers) {
        let at = |i: usize| ((i * 37 + id.0 as usize * 11) % 31) as f64 - 6.0;
        if ["t", "u"].contains(&buffer.name.as_str()) {
            given.insert(id, Value::from_fn(buffer.dtype, &buffer.shape, at));
        }
    }
    given
}

/// Checks a nest on every tier; `gathers` is what must occur in its code.
#[track_caller]
fn check(text: &str, gathers: &str) {
    let p = parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    for target in targets() {
        let code = check_with(&p, &target, &given(&p), 0.0);
        let assembly = code.disassembly(0);
        assert!(assembly.contains(gathers), "{:?}: {text}\n{assembly}", target.isa);
    }
}

/// `index` cut to `0..extent`.
fn cut(index: &str, extent: usize) -> String {
    format!("(min(max({index}, 0i64), {}i64))", extent - 1)
}

#[test]
fn elements_of_every_type_and_vectors_of_every_length() {
    for n in 1..=70 {
        for k in [0, 4, 9] {
            let dtype = DType::ALL[(n + k) % DType::ALL.len()];
            let (narrow, wide) = (cut("i64(%t[n])", 19), cut("%u[n]", 19));
            check(
                &format!(
                    "nest @rows(in %x: {dtype}[3,19], const %t: i32[{n}], const %u: i64[{n}], out %y: {dtype}[3,{n}],
                                out %z: {dtype}[3,{n}]) {{
                      for i < 3 {{
                        for n < {n} vector {{
                          %y[i,n] = %x[i,{narrow}]
                          %z[i,n] = %x[i,{wide}]
                        }}
                      }}
                    }}"
                ),
                " = gather ",
            );
        }
    }
}

#[test]
fn rows_that_a_table_counts() {
    for n in [1, 2, 5, 16, 37, 90] {
        for dtype in [DType::F32, DType::F64, DType::U8, DType::BF16, DType::Bool] {
            let row = cut("i64(%t[i])", 7);
            check(
                &format!(
                    "nest @rows(in %x: {dtype}[7,{n}], const %t: i32[5], out %y: {dtype}[5,{n}]) {{
                      for i < 5 {{ for n < {n} vector {{ %y[i,n] = %x[{row},n] }} }}
                    }}"
                ),
                "",
            );
        }
    }
}

#[test]
fn several_indices_beside_one_of_the_lanes() {
    let (a, b) = (cut("i64(%t[n])", 5), cut("i64(%u[n])", 6));
    for n in [3, 16, 21, 65] {
        for x in ["f32[5,6,@,2]", "f64[5,6,@,2] layout(3,1,2,0)", "i16[5,6,@,2] layout(1,0,2,3)"] {
            let (x, dtype) = (x.replace('@', &n.to_string()), x.split('[').next().unwrap());
            check(
                &format!(
                    "nest @both(in %x: {x}, const %t: i32[{n}], const %u: i16[{n}], out %y: {dtype}[2,{n}]) {{
                      for i < 2 {{ for n < {n} vector {{ %y[i,n] = %x[{a},{b},n,i] }} }}
                    }}"
                ),
                " = gather ",
            );
        }
    }
}

#[test]
fn from_locals_of_the_nest_and_of_each_lane() {
    for n in [4, 19, 40] {
        let (row, own) = (cut("i64(%t[n])", 23), cut("i64(%t[n])", 5));
        check(
            &format!(
                "nest @local(in %x: f32[3,23], const %t: i32[{n}], out %y: f32[3,{n}]) {{
                  for i < 3 {{
                    temp %row: f32[23]
                    for k < 23 vector {{ %row[k] = %x[i,k] * 3.0 }}
                    for n < {n} vector {{ %y[i,n] = %row[{row}] + 1.0 }}
                  }}
                }}"
            ),
            " = gather ",
        );
        check(
            &format!(
                "nest @own(in %x: f32[5,{n}], const %t: i32[{n}], out %y: f32[{n}]) {{
                  for n < {n} vector {{
                    temp %own: f32[5]
                    for k < 5 unrolled {{ %own[k] = %x[k,n] + 0.5 }}
                    %y[n] = %own[{own}]
                  }}
                }}"
            ),
            " = gather ",
        );
    }
}

#[test]
fn a_local_is_read_after_it_was_written_again() {
    let at = cut("i64(%t[n])", 23);
    check(
        &format!(
            "nest @again(in %x: f32[3,23], const %t: i32[23], out %y: f32[3,23]) {{
              for i < 3 {{
                temp %row: f32[23]
                for k < 23 vector {{ %row[k] = %x[i,k] }}
                temp %first: f32[23]
                for n < 23 vector {{ %first[n] = %row[{at}] }}
                for k < 23 vector {{ %row[k] = %first[k] - %x[i,k] }}
                for n < 23 vector {{ %y[i,n] = %row[{at}] + %first[n] }}
              }}
            }}"
        ),
        " = gather ",
    );
}

#[test]
fn bytes_count_elements_of_tables_of_any_type() {
    for dtype in [DType::F32, DType::F16, DType::I64, DType::I8] {
        check(
            &format!(
                "nest @table(in %b: u8[40], in %x: {dtype}[256], out %y: {dtype}[40]) {{
                  for n < 40 vector {{ %y[n] = %x[(i64(%b[n]))] }}
                }}"
            ),
            " = gather ",
        );
    }
}
