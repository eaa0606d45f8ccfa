//! Normalisations and softmax.

use nestjit::DType;
use nestjit::graph::{Format, Op};

use super::{Cases, tensor};

const FIRST: Format = Format::ChannelsFirst;
const LAST: Format = Format::ChannelsLast;

pub fn add(cases: &mut Cases) {
    batch_norm(cases);
    over_trailing(cases);
    per_channel(cases);
    softmax(cases);
}

fn batch_norm(cases: &mut Cases) {
    let shapes: &[(&str, &[usize], Format)] = &[
        ("2d", &[2, 5, 6, 7], FIRST),
        ("2d_nhwc", &[2, 6, 7, 5], LAST),
        ("dense", &[4, 9], FIRST),
        ("1d", &[2, 3, 8], FIRST),
        ("3d_nhwc", &[1, 2, 3, 4, 5], LAST),
        ("empty", &[0, 3, 4, 4], FIRST),
    ];
    for (name, shape, format) in shapes {
        let c = [shape[format.channel_axis(shape.len())]];
        let op = Op::BatchNorm { epsilon: 1e-5, format: *format };
        cases.add(format!("batch_norm/{name}"), |m| {
            let x = m.x(shape);
            let parameters = [m.weight(&c), m.weight(&c), m.weight(&c), m.positive(&c)];
            m.op(op.clone(), &[&[x], &parameters[..]].concat())
        });
        cases.add(format!("batch_norm/{name}_inputs"), |m| {
            let x = m.x(shape);
            let parameters = [m.x(&c), m.x(&c), m.x(&c), m.positive_input(&c)];
            m.op(op, &[&[x], &parameters[..]].concat())
        });
    }
    cases.add("batch_norm/f64", |m| {
        let x = m.input(DType::F64, &[2, 2, 3]);
        let variance = m.constant(&[2], &[0.5f64, 2.0]);
        let scale = m.constant(&[2], &[1.5f64, -1.0]);
        let rest = [m.input(DType::F64, &[2]), m.input(DType::F64, &[2])];
        m.op(Op::BatchNorm { epsilon: 1e-3, format: FIRST }, &[x, scale, rest[0], rest[1], variance])
    });
}

fn over_trailing(cases: &mut Cases) {
    let shapes: &[(&str, &[usize], usize, &[usize])] = &[
        ("rows", &[6, 33], 1, &[33]),
        ("sequence", &[2, 5, 16], 2, &[16]),
        ("two_dims", &[3, 4, 5], 1, &[4, 5]),
        ("all", &[4, 5], 0, &[4, 5]),
        ("scale_of_one", &[3, 7], 1, &[1]),
        ("scale_per_row", &[3, 4, 5], 1, &[4, 1]),
        ("vector", &[9], 0, &[9]),
        ("one", &[5, 1], 1, &[1]),
        ("no_rows", &[0, 5], 1, &[5]),
    ];
    for (name, shape, axis, scale) in shapes {
        let axis = *axis;
        let op = Op::LayerNorm { axis, epsilon: 1e-5 };
        cases.add(format!("layer_norm/{name}"), |m| {
            let operands = [m.x(shape), m.weight(scale), m.weight(scale)];
            m.op(op.clone(), &operands)
        });
        cases.op(format!("layer_norm/{name}_no_bias"), op, &[shape, scale]);
        let op = Op::RmsNorm { axis, epsilon: 1e-6 };
        cases.add(format!("rms_norm/{name}"), |m| {
            let operands = [m.x(shape), m.weight(scale)];
            m.op(op, &operands)
        });
    }
    cases.op_of(
        "layer_norm/f64",
        Op::LayerNorm { axis: 1, epsilon: 1e-5 },
        DType::F64,
        &[&[3, 5], &[5], &[5]],
    );
    // The one-pass formula for the variance fails here.
    cases.add_with("layer_norm/large_mean", 1e-3, |m| {
        let values: Vec<f32> = (0..32u8).map(|i| 4000.0 + f32::from(i) * 0.25).collect();
        let x = m.given(tensor(&[2, 16], &values));
        let scale = m.weight(&[16]);
        m.op(Op::LayerNorm { axis: 1, epsilon: 1e-5 }, &[x, scale])
    });
}

fn per_channel(cases: &mut Cases) {
    let shapes: &[(&str, &[usize], Format)] = &[
        ("2d", &[2, 6, 5, 7], FIRST),
        ("2d_nhwc", &[2, 5, 7, 6], LAST),
        ("1d", &[3, 4, 9], FIRST),
        ("3d", &[1, 4, 3, 2, 5], FIRST),
    ];
    for (name, shape, format) in shapes {
        let (format, channels) = (*format, shape[format.channel_axis(shape.len())]);
        let c = [channels];
        cases.add(format!("instance_norm/{name}"), |m| {
            let operands = [m.x(shape), m.weight(&c), m.weight(&c)];
            m.op(Op::InstanceNorm { epsilon: 1e-5, format }, &operands)
        });
        for groups in [1, 2, channels] {
            let operands: [&[usize]; 3] = [shape, &c, &c];
            let op = Op::GroupNorm { groups, epsilon: 1e-5, format };
            cases.op(format!("group_norm/{name}_{groups}"), op, &operands);
        }
    }
    let op = Op::GroupNorm { groups: 3, epsilon: 1e-5, format: FIRST };
    cases.op("group_norm/dense", op, &[&[4, 9], &[9], &[9]]);
    let op = Op::InstanceNorm { epsilon: 1e-5, format: FIRST };
    cases.op("instance_norm/no_samples", op, &[&[0, 2, 3], &[2], &[2]]);
}

fn softmax(cases: &mut Cases) {
    let shapes: &[(&str, &[usize], usize)] = &[
        ("rows", &[5, 10], 1),
        ("long", &[2, 257], 1),
        ("columns", &[5, 7], 0),
        ("middle", &[2, 5, 3], 1),
        ("attention", &[2, 3, 6, 6], 3),
        ("vector", &[9], 0),
        ("one", &[4, 1], 1),
        ("no_rows", &[0, 5], 1),
        ("no_columns", &[5, 0], 1),
    ];
    for (name, shape, axis) in shapes {
        cases.op(format!("softmax/{name}"), Op::Softmax { axis: *axis }, &[shape]);
        cases.op(format!("log_softmax/{name}"), Op::LogSoftmax { axis: *axis }, &[shape]);
    }
    let infinity = f32::INFINITY;
    let large = tensor(
        &[3, 4],
        &[
            1000.0, 1001.0, 999.0, -1000.0, //
            -infinity, 0.5, -infinity, 1.5, //
            -1e30, -1e30, -1e30, -1e30f32,
        ],
    );
    cases.op_on("softmax/large", Op::Softmax { axis: 1 }, large.clone());
    cases.op_on("log_softmax/large", Op::LogSoftmax { axis: 1 }, large);
    let special = tensor(
        &[3, 3],
        &[
            f32::NAN,
            1.0,
            2.0, //
            infinity,
            0.0,
            1.0, //
            -infinity,
            -infinity,
            -infinity,
        ],
    );
    cases.op_on("softmax/special", Op::Softmax { axis: 1 }, special.clone());
    cases.op_on("log_softmax/special", Op::LogSoftmax { axis: 1 }, special);
    cases.op_of("softmax/f64", Op::Softmax { axis: 1 }, DType::F64, &[&[3, 5]]);
    cases.op_of("log_softmax/f64", Op::LogSoftmax { axis: 0 }, DType::F64, &[&[3, 5]]);
}
