//! Pooling.

use nestjit::DType;
use nestjit::graph::{Format, Op, PoolKind, Window};

use super::{Cases, other_numbers, tensor};

const KINDS: [(&str, PoolKind); 3] = [
    ("max", PoolKind::Max),
    ("average", PoolKind::Average { count_include_pad: false }),
    ("average_padded", PoolKind::Average { count_include_pad: true }),
];

/// A window with these extents, strides, dilations and padding.
fn window(
    kernel: &[usize],
    strides: &[usize],
    dilations: &[usize],
    begin: &[usize],
    end: &[usize],
) -> Window {
    Window {
        kernel: kernel.to_vec(),
        strides: strides.to_vec(),
        dilations: dilations.to_vec(),
        pads_begin: begin.to_vec(),
        pads_end: end.to_vec(),
    }
}

pub fn add(cases: &mut Cases) {
    let windows: Vec<(&str, &[usize], Window, bool)> = vec![
        ("2x2", &[2, 5, 8, 6], window(&[2, 2], &[2, 2], &[1, 1], &[0, 0], &[0, 0]), false),
        ("3x3_same", &[1, 9, 7, 8], window(&[3, 3], &[1, 1], &[1, 1], &[1, 1], &[1, 1]), false),
        ("3x3_stride_2", &[1, 4, 9, 10], window(&[3, 3], &[2, 2], &[1, 1], &[1, 1], &[1, 1]), false),
        ("ceil", &[1, 3, 8, 9], window(&[3, 3], &[2, 2], &[1, 1], &[0, 0], &[0, 0]), true),
        ("ceil_padded", &[1, 3, 8, 7], window(&[3, 3], &[2, 2], &[1, 1], &[1, 1], &[1, 1]), true),
        ("asymmetric", &[1, 2, 6, 7], window(&[3, 2], &[2, 1], &[1, 1], &[0, 1], &[2, 0]), false),
        ("dilated", &[1, 2, 9, 9], window(&[2, 3], &[1, 2], &[3, 2], &[1, 2], &[1, 2]), false),
        ("1d", &[2, 3, 15], window(&[4], &[3], &[1], &[1], &[2]), false),
        ("3d", &[1, 2, 4, 5, 6], window(&[2, 2, 2], &[1, 2, 2], &[1, 1, 1], &[0, 1, 0], &[0, 0, 1]), false),
        ("stride_skips", &[1, 2, 9, 9], window(&[2, 2], &[4, 4], &[1, 1], &[0, 0], &[0, 0]), false),
        ("no_samples", &[0, 2, 4, 4], window(&[2, 2], &[2, 2], &[1, 1], &[0, 0], &[0, 0]), false),
    ];
    for (kind_name, kind) in KINDS {
        for (name, shape, window, ceil_mode) in &windows {
            for format in [Format::ChannelsFirst, Format::ChannelsLast] {
                let mut shape = shape.to_vec();
                let mut suffix = "";
                if format == Format::ChannelsLast {
                    let channels = shape.remove(1);
                    shape.push(channels);
                    suffix = "_nhwc";
                }
                let op = Op::Pool { kind, window: window.clone(), ceil_mode: *ceil_mode, format };
                cases.op(format!("pool/{kind_name}_{name}{suffix}"), op, &[&shape]);
            }
        }
        let (first, last) = (Format::ChannelsFirst, Format::ChannelsLast);
        cases.op(
            format!("global_pool/{kind_name}"),
            Op::GlobalPool { kind, format: first },
            &[&[2, 5, 7, 6]],
        );
        cases.op(
            format!("global_pool/{kind_name}_nhwc"),
            Op::GlobalPool { kind, format: last },
            &[&[2, 7, 6, 5]],
        );
        cases.op(
            format!("global_pool/{kind_name}_1d"),
            Op::GlobalPool { kind, format: first },
            &[&[1, 3, 11]],
        );
        cases.op(
            format!("global_pool/{kind_name}_empty"),
            Op::GlobalPool { kind, format: first },
            &[&[2, 3, 0, 4]],
        );
    }
    let op = |kind| Op::Pool {
        kind,
        window: window(&[3, 3], &[1, 1], &[1, 1], &[1, 1], &[1, 1]),
        ceil_mode: false,
        format: Format::ChannelsFirst,
    };
    for dtype in other_numbers() {
        cases.op_of(format!("pool/max_{dtype}"), op(PoolKind::Max), dtype, &[&[1, 2, 5, 5]]);
    }
    cases.op_of("pool/average_f64", op(KINDS[1].1), DType::F64, &[&[1, 2, 5, 5]]);
    let mut special: Vec<f32> = (0..25u8).map(|i| f32::from(i) - 12.0).collect();
    special[3] = f32::NAN;
    special[17] = f32::NEG_INFINITY;
    special[20] = f32::INFINITY;
    for (name, kind) in KINDS {
        cases.op_on(format!("pool/{name}_special"), op(kind), tensor(&[1, 1, 5, 5], &special));
    }
    cases.op_on(
        "pool/max_all_minus_infinity",
        op(PoolKind::Max),
        tensor(&[1, 1, 3, 3], &[f32::NEG_INFINITY; 9]),
    );
}
