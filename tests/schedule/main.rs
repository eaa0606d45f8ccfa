//! Scheduling keeps the meaning: programs are interpreted before and after each scheduling pass, on machines
//! with different vectors and thread counts.

mod bytes;

use std::collections::HashMap;

use nestjit::machine::{Isa, MachineModel};
use nestjit::passes::{PIPELINE, PassContext, Run};
use nestjit::remark::Remark;
use nestjit::unit::Unit;
use nestjit_ir::interp::{Mode, Value, interpret, no_calls};
use nestjit_ir::verify::{Stage, verify};
use nestjit_ir::{BufId, Kind, Program, Role, parse::parse};

const PASSES: [&str; 6] = ["ChooseLayout", "PeelBorders", "Tile", "Vectorize", "BlockSums", "Parallelize"];

fn target(isa: Isa) -> MachineModel {
    MachineModel::plain(isa, [32 << 10, 1 << 20, 16 << 20], 2)
}

/// Values that depend on the name (a packed copy has its original's) and are not symmetric.
fn inputs(program: &Program) -> HashMap<BufId, Value> {
    let given = program.buf_ids().filter(|&b| matches!(program.buf(b).role, Role::In | Role::Const));
    given
        .map(|b| {
            let buffer = program.buf(b);
            let name = buffer.name.split(".packed").next().unwrap_or_default();
            let seed = name.bytes().fold(7usize, |s, c| (s * 31 + usize::from(c)) % 1009);
            // Bytes take all values, sums of their products stay exact.
            let (scale, offset) = match buffer.dtype.kind() {
                Kind::Float => (0.7, 0.0),
                Kind::Signed => (127.5, 0.0),
                Kind::Unsigned => (127.5, 127.5),
                Kind::Bool => (1.0, 0.0),
            };
            let value =
                |i: usize| (((i * 7919 + seed * 104_729) % 2003) as f64 / 1001.0 - 1.0) * scale + offset;
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
    let ctx = PassContext::new(&nestjit::options::Options::default(), &target, threads);
    let mut unit = Unit { program, ..Unit::default() };
    let mut remarks = Vec::new();
    for name in PASSES {
        let Some(pass) = PIPELINE.iter().find(|p| p.name == name) else { panic!("no pass {name}") };
        let Run::Nest(run, _) = pass.run else { panic!("{name} is not a nest pass") };
        run(&mut unit, &ctx, &mut remarks).expect("the pass succeeds");
        let errors = verify(&unit.program, Stage::Scheduled);
        assert!(errors.is_empty(), "after {name}: {}\n{text}\n{}", errors[0], unit.program);
        let found = results(&unit.program);
        assert_eq!(found.len(), expected.len());
        for ((buffer, a), (_, b)) in expected.iter().zip(&found) {
            for i in 0..a.len() {
                let (x, y) = (a.data.get(i).unwrap().as_f64(), b.data.get(i).unwrap().as_f64());
                let rounded = a.dtype().kind() == Kind::Float && (x - y).abs() <= 2e-6 * (1.0 + x.abs());
                let same = x == y || rounded || (x.is_nan() && y.is_nan());
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

fn gemm(n: usize, m: usize, k: usize, transposed: bool, weights: &str) -> String {
    let (shape, at) = if transposed { ([m, k], "m,k") } else { ([k, m], "k,m") };
    format!(
        "nest @gemm(in %x: f32[{n},{k}], {weights} %w: f32[{},{}], const %b: f32[{m}], out %y: f32[{n},{m}]) {{
          for n < {n} {{ for m < {m} {{
            temp %t: f32[]
            %t = 0.0
            for k < {k} {{ %t += %x[n,k] * %w[{at}] }}
            %y[n,m] = max(%t + %b[m], 0.0)
          }} }}
        }}",
        shape[0], shape[1]
    )
}

#[test]
fn gemm_of_ragged_shapes() {
    for (n, m, k) in [(1, 1, 1), (1, 17, 64), (3, 64, 17), (17, 3, 5), (64, 17, 3), (5, 33, 8), (7, 1, 9)] {
        for transposed in [false, true] {
            everywhere(&gemm(n, m, k, transposed, "const"));
        }
        everywhere(&gemm(n, m, k, false, "in"));
        everywhere(&gemm(n, m, k, true, "in"));
    }
}

/// The shape of a convolution.
struct Conv {
    /// Input height and width.
    size: (usize, usize),
    channels: (usize, usize),
    kernel: usize,
    stride: usize,
    dilation: usize,
    pad: usize,
    channels_last: bool,
    depthwise: bool,
}

impl Conv {
    fn text(&self) -> String {
        let Conv { size: (h, w), channels: (ci, co), kernel, stride, dilation, pad, .. } = *self;
        let out = |n: usize| (n + 2 * pad - dilation * (kernel - 1) - 1) / stride + 1;
        let (oh, ow) = (out(h), out(w));
        let at = |o: &str, k: &str| format!("{stride}*{o}+{dilation}*{k}-{pad}");
        let (ih, iw) = (at("oh", "kh"), at("ow", "kw"));
        let channel = if self.depthwise { "co" } else { "ci" };
        let (x, y, load, store, loops) = if self.channels_last {
            (
                format!("1,{h},{w},{ci}"),
                format!("1,{oh},{ow},{co}"),
                format!("n,{ih},{iw},{channel}"),
                "n,oh,ow,co",
                [("oh", oh), ("ow", ow), ("co", co)],
            )
        } else {
            (
                format!("1,{ci},{h},{w}"),
                format!("1,{co},{oh},{ow}"),
                format!("n,{channel},{ih},{iw}"),
                "n,co,oh,ow",
                [("co", co), ("oh", oh), ("ow", ow)],
            )
        };
        let load = if pad > 0 { format!("(%x[{load}] else 0.0)") } else { format!("%x[{load}]") };
        let (wc, wi) = if self.depthwise { (1, "0") } else { (ci, "ci") };
        let taps = format!("for kh < {kernel} {{ for kw < {kernel} {{");
        let (open, close) = match (self.depthwise, self.channels_last) {
            (true, _) => (taps, "} }"),
            (false, true) => (format!("{taps} for ci < {ci} {{"), "} } }"),
            (false, false) => (format!("for ci < {ci} {{ {taps}"), "} } }"),
        };
        let [a, b, c] = loops;
        format!(
            "nest @conv(in %x: f32[{x}], const %w: f32[{co},{wc},{kernel},{kernel}], const %b: f32[{co}],
                        out %y: f32[{y}]) {{
              for n < 1 {{ for {} < {} {{ for {} < {} {{ for {} < {} {{
                temp %t: f32[]
                %t = 0.0
                {open} %t += {load} * %w[co,{wi},kh,kw] {close}
                %y[{store}] = max(%t + %b[co], 0.0)
              }} }} }} }}
            }}",
            a.0, a.1, b.0, b.1, c.0, c.1
        )
    }
}

#[test]
fn convolutions() {
    for channels_last in [false, true] {
        for depthwise in [false, true] {
            for (kernel, stride, dilation, pad) in [
                (1, 1, 1, 0),
                (3, 1, 1, 1),
                (3, 2, 1, 1),
                (3, 1, 2, 2),
                (5, 1, 1, 2),
                (3, 1, 1, 0),
                (2, 2, 1, 0),
            ] {
                for (size, channels) in [((9, 13), (6, 5)), ((7, 7), (3, 17)), ((12, 30), (5, 8))] {
                    let channels = if depthwise { (channels.1, channels.1) } else { channels };
                    let conv =
                        Conv { size, channels, kernel, stride, dilation, pad, channels_last, depthwise };
                    everywhere(&conv.text());
                }
            }
        }
    }
}

#[test]
fn elementwise_and_reductions() {
    for n in [1, 3, 8, 17, 67, 130] {
        everywhere(&format!(
            "nest @f(in %x: f32[3,{n}], in %s: f32[3], out %y: f32[3,{n}], out %z: f32[3]) {{
              for i < 3 {{
                temp %sum: f32[]
                %sum = 0.0
                for j < {n} {{
                  %y[i,j] = exp(%x[i,j]) * %s[i]
                  %sum += %x[i,j] * %x[i,j]
                }}
                %z[i] = %sum
              }}
            }}"
        ));
        everywhere(&format!(
            "nest @t(in %x: f32[5,{n}], out %y: f32[{n},5], out %m: f32[{n}]) {{
              for i < {n} {{ for j < 5 {{ %y[i,j] = %x[j,i] + 1.0 }} }}
              for i < {n} {{
                temp %t: f32[]
                %t = -inf
                for j < 5 {{ %t max= %x[j,i] }}
                %m[i] = %t
              }}
            }}"
        ));
        everywhere(&format!(
            "nest @all(in %x: f32[3,{n}], out %y: f32[]) {{
              %y = 0.0
              for i < 3 {{ for j < {n} {{ %y += %x[i,j] }} }}
            }}"
        ));
    }
}

#[test]
fn rows_of_softmax_and_layer_norm_after_a_gemm() {
    for (n, m, k) in [(1, 10, 16), (6, 10, 32), (9, 33, 7), (4, 64, 20)] {
        everywhere(&format!(
            "nest @softmax(in %x: f32[{n},{k}], const %w: f32[{k},{m}], out %y: f32[{n},{m}]) {{
              for n < {n} {{
                temp %l: f32[{m}]
                temp %max: f32[]
                %max = -inf
                for m < {m} {{
                  temp %t: f32[]
                  %t = 0.0
                  for k < {k} {{ %t += %x[n,k] * %w[k,m] }}
                  %l[m] = %t
                  %max max= %t
                }}
                temp %sum: f32[]
                %sum = 0.0
                temp %e: f32[{m}]
                for m2 < {m} {{
                  %e[m2] = exp(%l[m2] - %max)
                  %sum += %e[m2]
                }}
                for m3 < {m} {{ %y[n,m3] = %e[m3] / %sum }}
              }}
            }}"
        ));
        everywhere(&format!(
            "nest @norm(in %x: f32[{n},{k}], const %w: f32[{m},{k}], const %g: f32[{m}], out %y: f32[{n},{m}]) {{
              for n < {n} {{
                temp %l: f32[{m}]
                for m < {m} {{
                  temp %t: f32[]
                  %t = 0.0
                  for k < {k} {{ %t += %x[n,k] * %w[m,k] }}
                  %l[m] = tanh(%t)
                }}
                temp %mean: f32[]
                %mean = 0.0
                for m2 < {m} {{ %mean += %l[m2] }}
                %mean = %mean / {m}.0
                temp %var: f32[]
                %var = 0.0
                for m3 < {m} {{ %var += (%l[m3] - %mean) * (%l[m3] - %mean) }}
                for m4 < {m} {{ %y[n,m4] = (%l[m4] - %mean) / sqrt(%var / {m}.0 + 0.00001) * %g[m4] }}
              }}
            }}"
        ));
    }
}

#[test]
fn pools() {
    for (c, n) in [(3, 9), (17, 12)] {
        let o = (n + 2 - 3) / 2 + 1;
        everywhere(&format!(
            "nest @nchw(in %x: f32[1,{c},{n},{n}], out %y: f32[1,{c},{o},{o}], out %g: f32[1,{c}]) {{
              for n < 1 {{ for c < {c} {{ for oh < {o} {{ for ow < {o} {{
                temp %t: f32[]
                %t = -inf
                for kh < 3 {{ for kw < 3 {{ %t max= (%x[n,c,2*oh+kh-1,2*ow+kw-1] else -inf) }} }}
                %y[n,c,oh,ow] = %t
              }} }} }} }}
              for n2 < 1 {{ for c2 < {c} {{
                temp %s: f32[]
                %s = 0.0
                for h < {n} {{ for w < {n} {{ %s += %x[n2,c2,h,w] }} }}
                %g[n2,c2] = %s / {n}.0
              }} }}
            }}"
        ));
        everywhere(&format!(
            "nest @nhwc(in %x: f32[1,{n},{n},{c}], out %y: f32[1,{o},{o},{c}], out %g: f32[1,{c}]) {{
              for n < 1 {{ for oh < {o} {{ for ow < {o} {{ for c < {c} {{
                temp %t: f32[]
                %t = -inf
                for kh < 3 {{ for kw < 3 {{ %t max= (%x[n,2*oh+kh-1,2*ow+kw-1,c] else -inf) }} }}
                %y[n,oh,ow,c] = %t
              }} }} }} }}
              for n2 < 1 {{ for c2 < {c} {{
                temp %s: f32[]
                %s = 0.0
                for h < {n} {{ for w < {n} {{ %s += %x[n2,h,w,c2] }} }}
                %g[n2,c2] = %s / {n}.0
              }} }}
            }}"
        ));
    }
}

#[test]
fn a_recurrent_cell() {
    for (n, h) in [(1, 16), (3, 13)] {
        everywhere(&format!(
            "nest @cell(in %x: f32[{n},{h}], in %h: f32[{n},{h}], in %c: f32[{n},{h}], const %w: f32[{h},{g}],
                        const %r: f32[{h},{g}], out %y: f32[{n},{h}]) {{
              for n < {n} {{
                temp %gates: f32[{g}]
                for m < {g} {{
                  temp %a: f32[]
                  %a = 0.0
                  for k < {h} {{ %a += %x[n,k] * %w[k,m] }}
                  temp %b: f32[]
                  %b = 0.0
                  for k2 < {h} {{ %b += %h[n,k2] * %r[k2,m] }}
                  %gates[m] = %a + %b
                }}
                for j < {h} {{
                  temp %new: f32[]
                  %new = sigmoid(%gates[j+{h}]) * %c[n,j] + sigmoid(%gates[j]) * tanh(%gates[j+{h2}])
                  %y[n,j] = sigmoid(%gates[j+{h3}]) * tanh(%new)
                }}
              }}
            }}",
            g = 4 * h,
            h2 = 2 * h,
            h3 = 3 * h
        ));
    }
}

#[test]
fn attention_by_rows() {
    for (q, t, d) in [(5, 9, 8), (33, 40, 16), (64, 64, 33)] {
        everywhere(&format!(
            "nest @attention(in %q: f32[2,{q},{d}], in %k: f32[2,{t},{d}], in %v: f32[2,{t},{d}],
                             out %y: f32[2,{q},{d}]) {{
              for b < 2 {{ for i < {q} {{
                temp %s: f32[{t}]
                temp %max: f32[]
                %max = -inf
                for j < {t} {{
                  temp %a: f32[]
                  %a = 0.0
                  for d < {d} {{ %a += %q[b,i,d] * %k[b,j,d] }}
                  %s[j] = %a * 0.25
                  %max max= %s[j]
                }}
                temp %sum: f32[]
                %sum = 0.0
                for j2 < {t} {{
                  %s[j2] = exp(%s[j2] - %max)
                  %sum += %s[j2]
                }}
                for e < {d} {{
                  temp %o: f32[]
                  %o = 0.0
                  for j3 < {t} {{ %o += %s[j3] * %v[b,j3,e] }}
                  %y[b,i,e] = %o / %sum
                }}
              }} }}
            }}"
        ));
    }
}

#[test]
fn what_depends_stays() {
    let (p, remarks) = schedule(
        "nest @scan(in %x: f32[64], out %y: f32[65]) {
          %y[0] = 0.0
          for i < 64 { %y[i+1] = %y[i] * 0.5 + %x[i] }
        }",
        Isa::Simd128,
        2,
    );
    let text = p.to_string();
    assert!(!text.contains("vector") && !text.contains("parallel"), "{text}");
    assert!(remarks.iter().any(|r| r.pass() == "Vectorize" && r.code() == "dependence" && !r.applied()));
}
