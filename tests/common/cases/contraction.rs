//! Matrix products and convolutions.

use nestjit::DType;
use nestjit::graph::{Format, Op, Window};

use super::{Cases, other_numbers};

pub fn add(cases: &mut Cases) {
    matmul(cases);
    gemm(cases);
    conv(cases);
    conv_formats(cases);
    bytes(cases);
    packed(cases);
}

/// Products with matrices of few bits: blocks that divide the sum or do not, one column or many, every form of zero points.
fn packed(cases: &mut Cases) {
    let shapes: &[(&str, &[usize], usize, usize)] = &[
        ("row", &[1, 64], 70, 16),
        ("rows", &[9, 100], 37, 32),
        ("batches", &[2, 3, 48], 33, 16),
        ("vector", &[33], 17, 16),
        ("one_block", &[20, 7], 19, 8),
        ("one", &[1, 1], 1, 4),
        ("no_products", &[2, 0], 3, 16),
        ("no_rows", &[0, 16], 3, 16),
    ];
    for &(name, x, n, block) in shapes {
        for bits in [2, 4, 8] {
            for zero in [None, Some(DType::U8), Some(DType::F32)] {
                let blocks = x[x.len() - 1].div_ceil(block);
                let suffix = zero.map_or(String::new(), |dtype| format!("_{dtype}"));
                // Elements of 8 bits are up to 255 times as large as what they are multiplied with.
                cases.add_with(format!("packed_matmul/{bits}_{name}{suffix}"), 1e-3, |m| {
                    let (x, q) = (m.x(x), m.byte_weight(DType::U8, &[n, blocks, block * bits / 8]));
                    let mut operands = vec![x, q, m.weight(&[blocks, n])];
                    operands.extend(zero.map(|dtype| {
                        if dtype == DType::U8 {
                            m.byte_weight(dtype, &[blocks, n])
                        } else {
                            m.weight(&[blocks, n])
                        }
                    }));
                    m.op(Op::PackedMatMul { bits, block }, &operands)
                });
            }
        }
    }
    cases.add_with("packed_matmul/f64_inputs", 1e-3, |m| {
        let (x, q) = (m.input(DType::F64, &[3, 40]), m.bytes(DType::U8, &[6, 3, 8]));
        let (scale, zero) = (m.input(DType::F64, &[3, 6]), m.bytes(DType::U8, &[3, 6]));
        m.op(Op::PackedMatMul { bits: 4, block: 16 }, &[x, q, scale, zero])
    });
}

/// Products of 8-bit integers, whose sums are `i32`.
fn bytes(cases: &mut Cases) {
    let (u8, i8) = (DType::U8, DType::I8);
    for (a, b) in [(u8, i8), (u8, u8), (i8, i8), (i8, u8)] {
        cases.add(format!("matmul/{a}_{b}"), |m| {
            let (a, b) = (m.bytes(a, &[2, 5, 33]), m.byte_weight(b, &[33, 21]));
            m.op(Op::MatMul, &[a, b])
        });
        cases.add(format!("conv/{a}_{b}"), |m| {
            let (x, w) = (m.bytes(a, &[1, 5, 7, 9]), m.byte_weight(b, &[6, 5, 3, 3]));
            let (window, format) = (window(&[3, 3], 2, 1, 1, 1), Format::ChannelsFirst);
            m.op(Op::Conv { window, groups: 1, format, pad_value: 77 }, &[x, w])
        });
    }
    for (trans_a, trans_b) in [(false, true), (true, false)] {
        cases.add(format!("gemm/u8_i8_{trans_a}_{trans_b}"), |m| {
            let a = m.bytes(u8, if trans_a { &[19, 7] } else { &[7, 19] });
            let b = m.bytes(i8, if trans_b { &[11, 19] } else { &[19, 11] });
            let c = m.input(DType::I32, &[11]);
            m.op(Op::Gemm { alpha: 1.0, beta: 1.0, trans_a, trans_b }, &[a, b, c])
        });
    }
    for (name, groups, format) in [
        ("depthwise", 6, Format::ChannelsFirst),
        ("depthwise_nhwc", 6, Format::ChannelsLast),
        ("groups_2", 2, Format::ChannelsFirst),
    ] {
        cases.add(format!("conv/u8_i8_{name}"), |m| {
            let x = m.bytes(u8, &image(format, 2, 6, &[8, 7]));
            let (w, b) = (m.byte_weight(i8, &[6, 6 / groups, 3, 3]), m.input(DType::I32, &[6]));
            let window = window(&[3, 3], 1, 1, 1, 1);
            m.op(Op::Conv { window, groups, format, pad_value: 128 }, &[x, w, b])
        });
    }
    let format = Format::ChannelsFirst;
    let op = Op::Conv { window: window(&[3, 3], 1, 1, 1, 1), groups: 1, format, pad_value: 0 };
    cases.op_of("conv/i32", op, DType::I32, &[&[1, 3, 6, 6], &[4, 3, 3, 3], &[4]]);
}

fn matmul(cases: &mut Cases) {
    let shapes: &[(&str, &[usize], &[usize])] = &[
        ("small", &[2, 3], &[3, 4]),
        ("ones", &[1, 1], &[1, 1]),
        ("ragged", &[17, 33], &[33, 65]),
        ("tile", &[12, 16], &[16, 32]),
        ("row", &[1, 37], &[37, 53]),
        ("column", &[37, 11], &[11, 1]),
        ("outer", &[7, 1], &[1, 9]),
        ("dot", &[19], &[19]),
        ("vector_matrix", &[5], &[5, 7]),
        ("matrix_vector", &[7, 5], &[5]),
        ("batch", &[2, 3, 4], &[2, 4, 5]),
        ("batch_ragged", &[3, 9, 17], &[3, 17, 21]),
        ("batch_broadcast", &[2, 1, 3, 4], &[5, 4, 2]),
        ("batch_left", &[2, 3, 4], &[4, 5]),
        ("batch_right", &[3, 4], &[2, 4, 5]),
        ("batch_vector_left", &[4], &[2, 4, 3]),
        ("batch_vector_right", &[2, 3, 4], &[4]),
        ("batch_of_one", &[1, 3, 4], &[6, 4, 2]),
        ("k_0", &[3, 0], &[0, 4]),
        ("rows_0", &[0, 3], &[3, 4]),
        ("batch_0", &[0, 2, 3], &[3, 4]),
        ("dot_0", &[0], &[0]),
    ];
    for (name, a, b) in shapes {
        cases.op(format!("matmul/{name}"), Op::MatMul, &[a, b]);
    }
    for dtype in other_numbers() {
        cases.op_of(format!("matmul/{dtype}"), Op::MatMul, dtype, &[&[5, 7], &[7, 6]]);
    }
    for (name, n, k, m) in [("1", 1, 24, 40), ("6", 6, 64, 48), ("65", 65, 19, 10)] {
        cases.add(format!("matmul/constant_weight_{name}"), |c| {
            let (x, w) = (c.x(&[n, k]), c.weight(&[k, m]));
            c.op(Op::MatMul, &[x, w])
        });
    }
    cases.add("matmul/constant_left", |m| {
        let (w, x) = (m.weight(&[9, 12]), m.x(&[12, 20]));
        m.op(Op::MatMul, &[w, x])
    });
    cases.add("matmul/square_of_itself", |m| {
        let x = m.x(&[9, 9]);
        m.op(Op::MatMul, &[x, x])
    });
}

fn gemm(cases: &mut Cases) {
    let plain = |trans_a, trans_b| Op::Gemm { alpha: 1.0, beta: 1.0, trans_a, trans_b };
    for trans_a in [false, true] {
        for trans_b in [false, true] {
            let a: &[usize] = if trans_a { &[7, 5] } else { &[5, 7] };
            let b: &[usize] = if trans_b { &[11, 7] } else { &[7, 11] };
            let t = |t| if t { 't' } else { 'n' };
            let name = format!("gemm/{}{}", t(trans_a), t(trans_b));
            cases.op(&name, plain(trans_a, trans_b), &[a, b]);
            cases.op(format!("{name}_bias"), plain(trans_a, trans_b), &[a, b, &[11]]);
            cases.add(format!("{name}_constant"), |m| {
                let (x, w, c) = (m.x(a), m.weight(b), m.weight(&[11]));
                m.op(plain(trans_a, trans_b), &[x, w, c])
            });
            let scaled = Op::Gemm { alpha: 0.5, beta: -2.0, trans_a, trans_b };
            cases.op(format!("{name}_scaled"), scaled, &[a, b, &[5, 11]]);
        }
    }
    let addends: [(&str, &[usize]); 5] =
        [("scalar", &[]), ("one", &[1]), ("row", &[1, 9]), ("column", &[4, 1]), ("full", &[4, 9])];
    for (name, c) in addends {
        cases.op(format!("gemm/addend_{name}"), plain(false, false), &[&[4, 6], &[6, 9], c]);
    }
    let alpha = Op::Gemm { alpha: -1.5, beta: 1.0, trans_a: false, trans_b: false };
    cases.op("gemm/alpha", alpha, &[&[3, 5], &[5, 2]]);
    let no_addend = Op::Gemm { alpha: 1.0, beta: 0.0, trans_a: false, trans_b: false };
    cases.op("gemm/beta_0", no_addend, &[&[3, 5], &[5, 2], &[2]]);
    cases.op("gemm/k_0", plain(false, false), &[&[3, 0], &[0, 2], &[2]]);
    cases.op_of("gemm/f64", plain(false, true), DType::F64, &[&[3, 5], &[4, 5], &[4]]);
    cases.op_of("gemm/i32", plain(true, false), DType::I32, &[&[5, 3], &[5, 4], &[4]]);
}

/// A window with one number for every dimension.
fn window(kernel: &[usize], stride: usize, dilation: usize, begin: usize, end: usize) -> Window {
    let k = kernel.len();
    Window {
        kernel: kernel.to_vec(),
        strides: vec![stride; k],
        dilations: vec![dilation; k],
        pads_begin: vec![begin; k],
        pads_end: vec![end; k],
    }
}

/// What a convolution is: input channels, output channels, groups, spatial extents, window.
struct Shape<'a>(&'a str, usize, usize, usize, &'a [usize], Window);

fn shapes() -> Vec<Shape<'static>> {
    vec![
        Shape("3x3", 5, 7, 1, &[9, 11], window(&[3, 3], 1, 1, 0, 0)),
        Shape("3x3_same", 4, 6, 1, &[8, 8], window(&[3, 3], 1, 1, 1, 1)),
        Shape("3x3_stride_2", 3, 5, 1, &[9, 12], window(&[3, 3], 2, 1, 1, 1)),
        Shape("3x3_dilated", 2, 3, 1, &[11, 11], window(&[3, 3], 1, 2, 2, 2)),
        Shape("3x3_asymmetric", 2, 3, 1, &[7, 8], window(&[3, 3], 2, 1, 0, 1)),
        Shape("1x1", 16, 24, 1, &[5, 7], window(&[1, 1], 1, 1, 0, 0)),
        Shape("1x1_stride_2", 6, 10, 1, &[8, 7], window(&[1, 1], 2, 1, 0, 0)),
        Shape("7x7_stem", 3, 8, 1, &[15, 17], window(&[7, 7], 2, 1, 3, 3)),
        Shape("one_channel", 1, 4, 1, &[6, 6], window(&[3, 3], 1, 1, 1, 1)),
        Shape("one_pixel", 8, 9, 1, &[1, 1], window(&[3, 3], 1, 1, 1, 1)),
        Shape("kernel_wider_than_input", 2, 3, 1, &[2, 3], window(&[5, 5], 1, 1, 2, 2)),
        Shape("depthwise", 9, 9, 9, &[7, 10], window(&[3, 3], 1, 1, 1, 1)),
        Shape("depthwise_stride_2", 8, 8, 8, &[9, 9], window(&[3, 3], 2, 1, 1, 1)),
        Shape("depthwise_5x5", 4, 4, 4, &[8, 8], window(&[5, 5], 1, 1, 2, 2)),
        Shape("depthwise_multiplier", 4, 12, 4, &[6, 5], window(&[3, 3], 1, 1, 1, 1)),
        Shape("groups_2", 6, 8, 2, &[6, 7], window(&[3, 3], 1, 1, 1, 1)),
        Shape("groups_3", 6, 9, 3, &[5, 5], window(&[1, 1], 1, 1, 0, 0)),
        Shape("1d", 3, 5, 1, &[17], window(&[3], 1, 1, 1, 1)),
        Shape("1d_dilated_stride", 3, 4, 1, &[23], window(&[4], 3, 2, 1, 2)),
        Shape("1d_depthwise", 6, 6, 6, &[13], window(&[5], 1, 1, 2, 2)),
        Shape("3d", 2, 3, 1, &[5, 6, 7], window(&[3, 2, 3], 1, 1, 1, 0)),
        Shape("3d_stride_2", 2, 2, 1, &[5, 5, 5], window(&[2, 2, 2], 2, 1, 0, 0)),
        Shape("4d", 1, 2, 1, &[3, 3, 3, 3], window(&[2, 2, 2, 2], 1, 1, 0, 0)),
        Shape("no_channels", 0, 3, 1, &[4, 4], window(&[3, 3], 1, 1, 1, 1)),
    ]
}

fn image(format: Format, batch: usize, channels: usize, spatial: &[usize]) -> Vec<usize> {
    match format {
        Format::ChannelsFirst => [&[batch, channels], spatial].concat(),
        Format::ChannelsLast => [&[batch], spatial, &[channels]].concat(),
    }
}

fn conv(cases: &mut Cases) {
    for Shape(name, ci, co, groups, spatial, window) in shapes() {
        for format in [Format::ChannelsFirst, Format::ChannelsLast] {
            let suffix = if format == Format::ChannelsLast { "_nhwc" } else { "" };
            let x = image(format, 2, ci, spatial);
            let weight = [&[co, ci / groups], window.kernel.as_slice()].concat();
            let op = Op::Conv { window: window.clone(), groups, format, pad_value: 0 };
            cases.add(format!("conv/{name}{suffix}"), |m| {
                let (x, w, b) = (m.x(&x), m.weight(&weight), m.weight(&[co]));
                m.op(op, &[x, w, b])
            });
        }
    }
}

fn conv_formats(cases: &mut Cases) {
    let first = Format::ChannelsFirst;
    let same = window(&[3, 3], 1, 1, 1, 1);
    let op = |groups| Op::Conv { window: same.clone(), groups, format: first, pad_value: 0 };
    cases.op("conv/no_bias", op(1), &[&[1, 3, 6, 6], &[4, 3, 3, 3]]);
    cases.op("conv/weight_is_an_input", op(1), &[&[1, 3, 6, 6], &[4, 3, 3, 3], &[4]]);
    cases.op("conv/no_samples", op(1), &[&[0, 3, 6, 6], &[4, 3, 3, 3]]);
    cases.op_of("conv/f64", op(1), DType::F64, &[&[1, 3, 6, 6], &[4, 3, 3, 3], &[4]]);
    cases.op_of("conv/f64_depthwise", op(3), DType::F64, &[&[1, 3, 6, 6], &[3, 1, 3, 3]]);
    let uneven = Window {
        kernel: vec![3, 2],
        strides: vec![2, 1],
        dilations: vec![1, 3],
        pads_begin: vec![2, 0],
        pads_end: vec![0, 3],
    };
    cases.op(
        "conv/uneven",
        Op::Conv { window: uneven, groups: 1, format: first, pad_value: 0 },
        &[&[2, 3, 9, 7], &[4, 3, 3, 2]],
    );
    // Wide enough for several vector tiles in every direction.
    cases.add_with("conv/wide", 2e-4, |m| {
        let (x, w, b) = (m.x(&[1, 20, 14, 14]), m.weight(&[36, 20, 3, 3]), m.weight(&[36]));
        m.op(op(1), &[x, w, b])
    });
    // Computed by minimal filtering, which is exact to about 1e-5 of the largest sum.
    cases.add_with("conv/wide_nhwc", 2e-4, |m| {
        let (x, w, b) = (m.x(&[1, 14, 14, 20]), m.weight(&[36, 20, 3, 3]), m.weight(&[36]));
        let format = Format::ChannelsLast;
        m.op(Op::Conv { window: same.clone(), groups: 1, format, pad_value: 0 }, &[x, w, b])
    });
}
