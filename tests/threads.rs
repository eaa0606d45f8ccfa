//! Results are the same bit by bit for every number of threads, in every tier of vector instructions, fused or not.
//! Sizes are odd, so that there are borders and remainders, and large enough for several threads.

mod common;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use common::cases::{Case, Cases, Maker, cases_of};
use nestjit::graph::{Direction, Format, Op, PoolKind, RecurrentKind, Reduction, Unary, ValueId, Window};
use nestjit::machine::Isa;
use nestjit::{Compiler, DType, Options, Tensor, zoo};

const FIRST: Format = Format::ChannelsFirst;
const LAST: Format = Format::ChannelsLast;

fn window(kernel: &[usize], stride: usize, pad: usize) -> Window {
    let n = kernel.len();
    Window {
        kernel: kernel.to_vec(),
        strides: vec![stride; n],
        dilations: vec![1; n],
        pads_begin: vec![pad; n],
        pads_end: vec![pad; n],
    }
}

/// A convolution with a bias of an image in a format, and what follows.
fn conv(
    cases: &mut Cases,
    name: &str,
    (x, weight): (&[usize], &[usize]),
    (window, groups, format): (Window, usize, Format),
    then: impl Fn(&mut Maker, ValueId) -> ValueId,
) {
    cases.add(format!("conv/{name}"), |m| {
        let operands = [m.x(x), m.weight(weight), m.weight(&weight[..1])];
        let y = m.one(Op::Conv { window, groups, format, pad_value: 0 }, &operands);
        vec![then(m, y)]
    });
}

fn convolutions(cases: &mut Cases) {
    let same = |_: &mut Maker, y| y;
    let relu = |m: &mut Maker, y| m.g.relu(y);
    let swish = |m: &mut Maker, y| {
        let s = m.g.sigmoid(y);
        m.g.mul(y, s)
    };
    conv(cases, "1d", (&[3, 5, 1201], &[17, 5, 7]), (window(&[7], 1, 3), 1, FIRST), relu);
    conv(cases, "1d_stride", (&[2, 33, 901], &[29, 33, 3]), (window(&[3], 2, 1), 1, FIRST), swish);
    conv(cases, "winograd", (&[1, 17, 46, 98], &[5, 17, 3, 3]), (window(&[3, 3], 1, 0), 1, FIRST), same);
    let padded = window(&[3, 3], 1, 1);
    conv(cases, "winograd_padded", (&[1, 35, 29, 31], &[37, 35, 3, 3]), (padded.clone(), 1, FIRST), relu);
    conv(cases, "winograd_last", (&[1, 31, 33, 19], &[21, 19, 3, 3]), (padded.clone(), 1, LAST), swish);
    conv(cases, "stem", (&[1, 3, 61, 67], &[19, 3, 7, 7]), (window(&[7, 7], 2, 3), 1, FIRST), relu);
    conv(cases, "pointwise", (&[1, 43, 27, 29], &[37, 43, 1, 1]), (window(&[1, 1], 1, 0), 1, FIRST), swish);
    conv(cases, "5x5", (&[1, 9, 41, 37], &[7, 9, 5, 5]), (window(&[5, 5], 1, 2), 1, FIRST), same);
    conv(cases, "stride_2", (&[1, 13, 51, 49], &[23, 13, 3, 3]), (window(&[3, 3], 2, 1), 1, FIRST), relu);
    conv(cases, "depthwise", (&[1, 37, 51, 53], &[37, 1, 3, 3]), (padded.clone(), 37, FIRST), swish);
    conv(cases, "depthwise_last", (&[1, 51, 53, 37], &[37, 1, 3, 3]), (padded.clone(), 37, LAST), relu);
    conv(cases, "groups", (&[1, 15, 37, 35], &[21, 5, 3, 3]), (padded.clone(), 3, FIRST), relu);
    let cube = window(&[3, 3, 3], 1, 1);
    conv(cases, "3d", (&[1, 5, 13, 15, 17], &[7, 5, 3, 3, 3]), (cube.clone(), 1, FIRST), relu);
    conv(cases, "3d_wide", (&[1, 3, 9, 21, 23], &[19, 3, 3, 3, 3]), (cube.clone(), 1, FIRST), swish);
    conv(cases, "3d_last", (&[1, 11, 13, 15, 7], &[9, 7, 3, 3, 3]), (cube, 1, LAST), same);
    conv(
        cases,
        "3d_stride",
        (&[1, 4, 19, 18, 17], &[11, 4, 2, 2, 2]),
        (window(&[2, 2, 2], 2, 0), 1, FIRST),
        relu,
    );
    cases.add("conv/block", |m| {
        let x = m.x(&[1, 13, 39, 41]);
        let (w, b, scale) = (m.weight(&[27, 13, 3, 3]), m.weight(&[27]), m.weight(&[27]));
        let y = m.one(
            Op::Conv { window: window(&[3, 3], 1, 1), groups: 1, format: FIRST, pad_value: 0 },
            &[x, w, b],
        );
        let y = m.one(Op::InstanceNorm { epsilon: 1e-5, format: FIRST }, &[y, scale, b]);
        let y = m.g.relu(y);
        let w = m.weight(&[27, 1, 3, 3]);
        let y = m.one(
            Op::Conv { window: window(&[3, 3], 2, 1), groups: 27, format: FIRST, pad_value: 0 },
            &[y, w, b],
        );
        let pooled = m.one(
            Op::GlobalPool { kind: PoolKind::Average { count_include_pad: false }, format: FIRST },
            &[y],
        );
        vec![y, pooled]
    });
}

fn products(cases: &mut Cases) {
    for (n, k, l) in
        [(1, 1003, 517), (3, 259, 1031), (67, 131, 93), (129, 65, 201), (517, 33, 7), (33, 517, 1)]
    {
        cases.add(format!("product/{n}x{k}x{l}"), |m| {
            let (x, w, b) = (m.x(&[n, k]), m.weight(&[k, l]), m.weight(&[l]));
            let y = m.g.dense(x, w, b);
            vec![m.g.gelu(y)]
        });
    }
    cases.add("product/batch", |m| {
        let (a, b) = (m.x(&[5, 37, 43]), m.x(&[5, 43, 61]));
        vec![m.g.matmul(a, b)]
    });
    cases.add("product/attention", |m| {
        let (q, k, v) = (m.x(&[3, 67, 33]), m.x(&[3, 33, 71]), m.x(&[3, 71, 35]));
        let scores = m.g.matmul(q, k);
        let scale = m.g.scalar(DType::F32, 0.17);
        let scores = m.g.mul(scores, scale);
        let weights = m.g.softmax(scores, 2);
        vec![m.g.matmul(weights, v)]
    });
    cases.add("product/mlp", |m| {
        let (x, w, b) = (m.x(&[41, 67]), m.weight(&[67, 259]), m.weight(&[259]));
        let y = m.g.dense(x, w, b);
        let y = m.g.gelu(y);
        let (w, b) = (m.weight(&[259, 67]), m.weight(&[67]));
        let y = m.g.dense(y, w, b);
        let y = m.g.add(x, y);
        let (scale, bias) = (m.weight(&[67]), m.weight(&[67]));
        m.op(Op::LayerNorm { axis: 1, epsilon: 1e-5 }, &[y, scale, bias])
    });
    for kind in [RecurrentKind::Lstm, RecurrentKind::Gru { linear_before_reset: true }] {
        cases.add(format!("recurrent/{kind:?}"), |m| {
            let (steps, batch, inputs, hidden) = (7, 13, 33, 67);
            let (rows, activations) = match kind {
                RecurrentKind::Lstm => (4 * hidden, vec![Unary::Sigmoid, Unary::Tanh, Unary::Tanh]),
                _ => (3 * hidden, vec![Unary::Sigmoid, Unary::Tanh]),
            };
            let x = m.x(&[steps, batch, inputs]);
            let operands = [x, m.weight(&[1, rows, inputs]), m.weight(&[1, rows, hidden])];
            let direction = Direction::Forward;
            m.op(Op::Recurrent { kind, hidden, direction, activations, clip: None }, &operands)
        });
    }
    // The range of a state is that of all its sequences, whoever computes them.
    cases.add("recurrent/quantized", |m| {
        let (batch, hidden) = (13, 67);
        let rows = 4 * hidden;
        let (x, w, r) =
            (m.x(&[7, batch, 33]), m.weight(&[33, rows]), m.byte_weight(DType::I8, &[1, rows, hidden]));
        let x = m.g.matmul(x, w);
        let scale = m.constant(&[1, rows], &vec![0.003f32; rows]);
        let zero = m.constant(&[1, rows], &vec![0i32; rows]);
        let activations = vec![Unary::Sigmoid, Unary::Tanh, Unary::Tanh];
        let (direction, clip) = (Direction::Forward, None);
        m.op(Op::DynamicQuantizeLstm { hidden, direction, activations, clip }, &[x, r, scale, zero])
    });
}

fn reductions(cases: &mut Cases) {
    for (shape, axis) in [([203, 301], 1), ([301, 203], 0), ([7, 9001], 1), ([1501, 37], 1)] {
        cases.add(format!("softmax/{shape:?}_{axis}"), |m| {
            let x = m.x(&shape);
            vec![m.g.softmax(x, axis), m.g.log_softmax(x, axis)]
        });
    }
    let axes: [(&[usize], &[usize]); 5] = [
        (&[67, 1031], &[1]),
        (&[1031, 67], &[0]),
        (&[13, 57, 91], &[0, 2]),
        (&[3, 50021], &[1]),
        (&[50021], &[0]),
    ];
    for (shape, axes) in axes {
        for op in [Reduction::Sum, Reduction::Mean, Reduction::Max, Reduction::L2, Reduction::LogSumExp] {
            cases.op(
                format!("reduce/{op:?}_{shape:?}_{axes:?}"),
                Op::Reduce { op, axes: axes.to_vec(), keep_dims: false },
                &[shape],
            );
        }
    }
    for (shape, axis) in [(&[301, 203][..], 1), (&[5, 61, 131], 1), (&[5, 61, 131], 2)] {
        cases.add(format!("layer_norm/{shape:?}_{axis}"), |m| {
            let (x, scale) = (m.x(shape), m.weight(&shape[axis..]));
            let y = m.op(Op::LayerNorm { axis, epsilon: 1e-5 }, &[x, scale, scale]);
            [y, m.op(Op::RmsNorm { axis, epsilon: 1e-5 }, &[x, scale])].concat()
        });
    }
    for (format, shape) in [(FIRST, [2, 15, 51, 47]), (LAST, [2, 51, 47, 15])] {
        cases.add(format!("channel_norm/{format:?}"), |m| {
            let (x, scale) = (m.x(&shape), m.weight(&[15]));
            let y = m.op(Op::InstanceNorm { epsilon: 1e-5, format }, &[x, scale, scale]);
            [y, m.op(Op::GroupNorm { groups: 3, epsilon: 1e-5, format }, &[x, scale, scale])].concat()
        });
        let average = PoolKind::Average { count_include_pad: false };
        for (name, kind) in [("max", PoolKind::Max), ("average", average)] {
            cases.add(format!("pool/{name}_{format:?}"), |m| {
                let x = m.x(&shape);
                let op = Op::Pool { kind, window: window(&[3, 3], 2, 1), ceil_mode: false, format };
                [m.op(op, &[x]), m.op(Op::GlobalPool { kind, format }, &[x])].concat()
            });
        }
    }
    cases.add("map/functions", |m| {
        let x = m.x(&[301, 203]);
        let (e, t, g) = (m.g.erf(x), m.g.tanh(x), m.g.gelu(x));
        let y = m.g.mul(e, t);
        let sum = m.g.reduce_sum(y, &[0], true);
        vec![m.g.add(y, g), m.g.sub(g, sum)]
    });
    cases.add("map/transposed", |m| {
        let x = m.x(&[57, 131, 67]);
        let y = m.g.transpose(x, &[2, 0, 1]);
        let y = m.g.exp(y);
        vec![m.g.softmax(y, 2)]
    });
    cases.add("map/padded", |m| {
        let x = m.x(&[3, 131, 203]);
        let y = m.g.pad(x, &[0, 3, 1], &[0, 2, 5], nestjit::graph::PadMode::Constant(0.5));
        let y = m.g.sigmoid(y);
        vec![m.g.reduce_mean(y, &[1], false)]
    });
}

/// The bits of the results, or what went wrong; and whether anything runs on several threads.
fn run(case: &Case, isa: Isa, threads: usize, fused: bool) -> Result<(Vec<Vec<u8>>, bool), String> {
    let mut compiler = Compiler::with_options(Options::default()).isa(isa).threads(threads);
    if !fused {
        compiler = compiler.disable_pass("OpFusion");
    }
    let executable = compiler.compile(&case.graph.clone().into()).map_err(|e| e.to_string())?;
    let outputs = executable.run(&case.inputs).map_err(|e| e.to_string())?;
    let parallel = executable.program().to_string().contains(" parallel {");
    Ok((outputs.iter().map(|t| t.bytes().unwrap().to_vec()).collect(), parallel))
}

fn check(case: &Case, parallel: &AtomicUsize) -> Result<(), String> {
    for isa in [Isa::Simd128, Isa::Avx2, Isa::Avx512] {
        if isa > Isa::host().min(Isa::WIDEST_EMITTED) {
            continue;
        }
        for (fused, more) in [(true, &[2, 3, 5, 16, 64][..]), (false, &[2, 64])] {
            let (expected, _) = run(case, isa, 1, fused)?;
            for &threads in more {
                let (found, several) = run(case, isa, threads, fused)?;
                parallel.fetch_add(usize::from(several), Ordering::Relaxed);
                let differ = |(a, b): (&Vec<u8>, &Vec<u8>)| {
                    a.chunks(4).zip(b.chunks(4)).filter(|(a, b)| a != b).count()
                };
                let wrong: usize = expected.iter().zip(&found).map(differ).sum();
                if wrong > 0 {
                    let name = isa.name();
                    return Err(format!(
                        "{name}, fused {fused}: {wrong} elements differ on {threads} threads"
                    ));
                }
            }
        }
    }
    Ok(())
}

fn check_all(add: impl FnOnce(&mut Cases), least: usize) {
    let cases = cases_of(1e-3, add);
    let (next, failures, parallel) = (AtomicUsize::new(0), Mutex::new(Vec::new()), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(e) = check(case, &parallel) {
                        let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
                        failures.push(format!("{}: {e}", case.name));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{} cases fail:\n{}", failures.len(), failures.join("\n"));
    assert!(cases.len() >= least);
    // Of a tier that every machine has: at least four of the seven ways run on several threads, on average.
    assert!(parallel.into_inner() >= 4 * cases.len(), "too few cases are large enough");
}

#[test]
fn convolutions_have_the_same_bits() {
    check_all(convolutions, 17);
}

#[test]
fn products_and_recurrent_layers_have_the_same_bits() {
    check_all(products, 12);
}

#[test]
fn reductions_and_maps_have_the_same_bits() {
    check_all(reductions, 40);
}

#[test]
fn more_threads_make_no_nest_serial() {
    let model = zoo::build("mobilenet_v2@96").unwrap();
    let input = Tensor::random(DType::F32, &[1, 3, 96, 96], 1).unwrap();
    let (mut before, mut expected) = (BTreeSet::new(), None);
    for threads in [1, 2, 4, 12, 24, 64, 128] {
        let compiler = Compiler::with_options(Options::default()).threads(threads);
        let executable = compiler.compile(&model).unwrap();
        let remarks = executable.remarks().iter().filter(|r| r.pass() == "Parallelize" && r.applied());
        let parallel: BTreeSet<String> =
            remarks.map(|r| r.producer(executable.program()).to_owned()).collect();
        assert!(before.is_subset(&parallel), "{threads} threads: {:?}", &before - &parallel);
        let outputs = executable.run(std::slice::from_ref(&input)).unwrap();
        let bits = outputs[0].bytes().unwrap().to_vec();
        assert_eq!(*expected.get_or_insert_with(|| bits.clone()), bits, "{threads} threads");
        before = parallel;
    }
    assert!(before.len() > 30, "{before:?}");
}

/// Products and convolutions of bytes, and what becomes of their sums.
fn bytes(cases: &mut Cases) {
    let requantise = |m: &mut Maker, sums: ValueId| {
        let x = m.g.cast(sums, DType::F32);
        let scale = m.g.scalar(DType::F32, 0.003);
        let x = m.g.mul(x, scale);
        let x = m.g.relu(x);
        m.g.cast(x, DType::I32)
    };
    for (n, k, l) in
        [(1, 1003, 517), (3, 259, 131), (67, 131, 93), (129, 66, 201), (217, 33, 7), (33, 512, 64)]
    {
        cases.add(format!("bytes/{n}x{k}x{l}"), |m| {
            let (x, w) = (m.bytes(DType::U8, &[n, k]), m.byte_weight(DType::I8, &[k, l]));
            let y = m.g.matmul(x, w);
            vec![y, requantise(m, y)]
        });
    }
    cases.add("bytes/of_activations", |m| {
        let (a, b) = (m.bytes(DType::U8, &[3, 67, 43]), m.bytes(DType::I8, &[3, 43, 61]));
        vec![m.g.matmul(a, b)]
    });
    for (name, x, weight, window, groups, format) in [
        ("3x3", [1, 17, 28, 31], [37, 17, 3, 3], window(&[3, 3], 1, 1), 1, FIRST),
        ("3x3_last", [1, 29, 31, 18], [37, 18, 3, 3], window(&[3, 3], 1, 1), 1, LAST),
        ("stem", [1, 3, 61, 67], [19, 3, 7, 7], window(&[7, 7], 2, 3), 1, FIRST),
        ("pointwise", [1, 43, 27, 29], [37, 43, 1, 1], window(&[1, 1], 1, 0), 1, FIRST),
        ("depthwise", [1, 37, 31, 33], [37, 1, 3, 3], window(&[3, 3], 1, 1), 37, FIRST),
        ("groups", [1, 24, 21, 23], [30, 8, 3, 3], window(&[3, 3], 2, 1), 3, FIRST),
    ] {
        cases.add(format!("bytes/conv/{name}"), |m| {
            let (x, w) = (m.bytes(DType::U8, &x), m.byte_weight(DType::I8, &weight));
            let y = m.one(Op::Conv { window, groups, format, pad_value: 37 }, &[x, w]);
            vec![requantise(m, y)]
        });
    }
}

#[test]
fn products_of_bytes_have_the_same_bits_in_every_tier() {
    let failures: Vec<String> = cases_of(0.0, bytes)
        .iter()
        .flat_map(|case| {
            let expected = run(case, Isa::Simd128, 1, false).expect("it runs").0;
            let tiers = [Isa::Simd128, Isa::Avx2, Isa::Avx512].into_iter();
            let differs = |&(isa, fused, threads): &(Isa, bool, usize)| {
                run(case, isa, threads, fused).map_or(true, |found| found.0 != expected)
            };
            tiers
                .filter(|isa| *isa <= Isa::host().min(Isa::WIDEST_EMITTED))
                .flat_map(|isa| [(isa, true, 1), (isa, true, 3), (isa, false, 2)])
                .filter(differs)
                .map(|way| format!("{}: {way:?}", case.name))
                .collect::<Vec<_>>()
        })
        .collect();
    assert!(failures.is_empty(), "{failures:#?}");
}
