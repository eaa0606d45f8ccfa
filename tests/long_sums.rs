//! Sums of 100,000 numbers of one sign, where adding one after the other loses hundreds of units in the last place:
//! against `f64`, fused and not, in every layout and tier. Blocks of accumulators lose a few dozen at most.

mod common;

use common::cases::{Cases, Maker, cases_of};
use common::compare::difference;
use nestjit::graph::eval::{Precision, evaluate};
use nestjit::graph::{Format, Op, PoolKind, Reduction, ValueId, Window};
use nestjit::machine::Isa;
use nestjit::{Compiler, DType, Options};

const K: usize = 100_000;
/// 64 units of 2^-24.
const TOLERANCE: f64 = 64.0 / (1 << 24) as f64;

fn window(kernel: [usize; 2]) -> Window {
    let zeros = vec![0; 2];
    let ones = vec![1; 2];
    Window {
        kernel: kernel.to_vec(),
        strides: ones.clone(),
        dilations: ones,
        pads_begin: zeros.clone(),
        pads_end: zeros,
    }
}

/// The shape of an image in a format.
fn image(c: usize, [h, w]: [usize; 2], format: Format) -> [usize; 4] {
    match format {
        Format::ChannelsFirst => [1, c, h, w],
        Format::ChannelsLast => [1, h, w, c],
    }
}

const FORMATS: [Format; 2] = [Format::ChannelsFirst, Format::ChannelsLast];

fn reductions(cases: &mut Cases) {
    let shapes: [(&[usize], &[usize]); 7] = [
        (&[3, K], &[1]),
        (&[K, 20], &[0]),
        (&[250, 3, 400], &[0, 2]),
        (&[3, 250, 400], &[1, 2]),
        (&[250, 400, 3], &[0, 1]),
        (&[K, 3], &[0]),
        (&[99_991], &[0]),
    ];
    for (shape, axes) in shapes {
        for op in [Reduction::Sum, Reduction::Mean, Reduction::L2, Reduction::LogSumExp] {
            cases.add(format!("{op:?}_{shape:?}_{axes:?}"), |m| {
                let x = m.positive_input(shape);
                vec![m.one(Op::Reduce { op, axes: axes.to_vec(), keep_dims: false }, &[x])]
            });
        }
    }
    cases.add("of_integers", |m| {
        let x = m.input(DType::U32, &[K, 2]);
        let x = m.g.cast(x, DType::F32);
        let (third, one) = (m.g.scalar(DType::F32, 1.0 / 3.0), m.g.scalar(DType::F32, 1.0));
        let x = m.g.mul(x, third);
        let x = m.g.add(x, one);
        vec![m.g.reduce_sum(x, &[0], false)]
    });
    cases.add("of_gathered", |m| {
        let x = m.positive_input(&[K, 3]);
        let rows: Vec<i64> = (0..K as i64).map(|i| (i * 7919) % K as i64).collect();
        let rows = m.given(nestjit::Tensor::new(&[K], &rows).unwrap());
        let x = m.g.gather(x, rows, 0);
        vec![m.g.reduce_sum(x, &[0], false)]
    });
    for format in FORMATS {
        cases.add(format!("pool_{format:?}"), |m| {
            let average = PoolKind::Average { count_include_pad: false };
            let x = m.positive_input(&image(17, [250, 400], format));
            vec![m.one(Op::GlobalPool { kind: average, format }, &[x])]
        });
        cases.add(format!("window_{format:?}"), |m| {
            let kind = PoolKind::Average { count_include_pad: false };
            let x = m.positive_input(&image(3, [251, 401], format));
            vec![m.one(Op::Pool { kind, window: window([250, 400]), ceil_mode: false, format }, &[x])]
        });
    }
}

fn products(cases: &mut Cases) {
    let shapes: [(&[usize], &[usize]); 6] = [
        (&[4, K], &[K, 16]),
        (&[1, K], &[K, 33]),
        (&[13, K], &[K, 1]),
        (&[K], &[K]),
        (&[2, 3, K], &[2, K, 5]),
        (&[15, K], &[K, 31]),
    ];
    for (a, b) in shapes {
        cases.add(format!("matmul_{a:?}_{b:?}"), |m| {
            let (a, b) = (m.positive_input(a), m.positive_input(b));
            vec![m.g.matmul(a, b)]
        });
        cases.add(format!("constant_{a:?}_{b:?}"), |m| {
            let (a, b) = (m.positive_input(a), m.positive(b));
            let y = m.g.matmul(a, b);
            vec![m.g.relu(y)]
        });
    }
    for (trans_a, trans_b) in [(true, false), (false, true), (true, true)] {
        cases.add(format!("gemm_{trans_a}_{trans_b}"), |m| {
            let a = m.positive_input(if trans_a { &[K, 5] } else { &[5, K] });
            let b = m.positive(if trans_b { &[19, K] } else { &[K, 19] });
            vec![m.one(Op::Gemm { alpha: 1.0, beta: 1.0, trans_a, trans_b }, &[a, b])]
        });
    }
    for format in FORMATS {
        for (channels, kernel) in [(K, [1, 1]), (11_117, [3, 3])] {
            cases.add(format!("conv_{kernel:?}_{format:?}"), |m| {
                let x = m.positive_input(&image(channels, [4, 5], format));
                let w = m.positive(&[3, channels, kernel[0], kernel[1]]);
                vec![m.one(Op::Conv { window: window(kernel), groups: 1, format, pad_value: 0 }, &[x, w])]
            });
        }
    }
}

/// What divides by a deviation of 0.3 makes errors of a mean three times as large.
fn normalisations(cases: &mut Cases) {
    let convolution = |m: &mut Maker, format: Format| -> ValueId {
        let (x, w) = (m.positive_input(&image(3, [250, 400], format)), m.positive(&[17, 3, 1, 1]));
        let y = m.one(Op::Conv { window: window([1, 1]), groups: 1, format, pad_value: 0 }, &[x, w]);
        m.g.relu(y)
    };
    for format in FORMATS {
        for before in [false, true] {
            let x = |m: &mut Maker| match before {
                true => convolution(m, format),
                false => m.positive_input(&image(17, [250, 400], format)),
            };
            cases.add(format!("instance_{format:?}_{before}"), |m| {
                let (x, one) = (x(m), m.constant(&[17], &[1.0f32; 17]));
                m.op(Op::InstanceNorm { epsilon: 1e-5, format }, &[x, one, one])
            });
        }
        cases.add(format!("group_{format:?}"), |m| {
            let x = m.positive_input(&image(6, [250, 400], format));
            let one = m.constant(&[6], &[1.0f32; 6]);
            m.op(Op::GroupNorm { groups: 2, epsilon: 1e-5, format }, &[x, one, one])
        });
    }
    cases.add("layer", |m| {
        let (x, one) = (m.positive_input(&[2, K]), m.constant(&[1], &[1.0f32]));
        let y = m.op(Op::LayerNorm { axis: 1, epsilon: 1e-5 }, &[x, one, one]);
        [y, m.op(Op::RmsNorm { axis: 1, epsilon: 1e-5 }, &[x, one])].concat()
    });
    for axis in [0, 1] {
        cases.add(format!("softmax_{axis}"), |m| {
            let x = m.positive_input(if axis == 1 { &[3, K] } else { &[K, 3] });
            let y = m.g.softmax(x, axis);
            // Close to 1, so that errors are relative.
            let n = m.g.scalar(DType::F32, K as f64);
            vec![m.g.mul(y, n)]
        });
    }
}

fn check(tolerance: f64, add: impl FnOnce(&mut Cases)) {
    let mut failures = Vec::new();
    for case in cases_of(tolerance, add) {
        let expected = evaluate(&case.graph, &case.inputs, Precision::F64).unwrap();
        let model = case.graph.clone().into();
        for isa in [Isa::Simd128, Isa::Avx2, Isa::Avx512] {
            if isa > Isa::host().min(Isa::WIDEST_EMITTED) {
                continue;
            }
            for disabled in [&[][..], &["OpFusion"], &["ChooseLayout"], &["Tile", "Vectorize"]] {
                let compiler = Compiler::with_options(Options::default()).isa(isa).threads(2);
                let executable = compiler.disable_passes(disabled).compile(&model).unwrap();
                let outputs = executable.run(&case.inputs).unwrap();
                for (output, expected) in outputs.iter().zip(&expected) {
                    if let Some(d) = difference(output, expected, DType::F32, case.tolerance) {
                        failures.push(format!("{}, {}, without {disabled:?}: {d}", case.name, isa.name()));
                    }
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} fail:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn reductions_of_100_000_numbers() {
    check(TOLERANCE, reductions);
}

#[test]
fn products_of_100_000_terms() {
    check(TOLERANCE, products);
}

#[test]
fn normalisations_over_100_000_numbers() {
    check(4.0 * TOLERANCE, normalisations);
}
