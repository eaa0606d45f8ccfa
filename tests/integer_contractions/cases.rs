//! Every form of a contraction with every form of its operands.

use nestjit::graph::{Binary, Format, Op, PadMode, Reduction, Unary, ValueId, Window};
use nestjit::{DType, Tensor};

use crate::maker::{Form, Maker, Zero};
use crate::{Allowed, check};

fn run(name: &str, allowed: Allowed, build: impl FnOnce(&mut Maker) -> Vec<ValueId>) {
    let mut m = Maker::new(name);
    let outputs = build(&mut m);
    let (graph, inputs) = m.finish(&outputs);
    let count =
        graph.nodes.iter().filter(|n| matches!(n.op, Op::MatMul | Op::Gemm { .. } | Op::Conv { .. })).count();
    check(name, &graph, &inputs, count, allowed);
}

const TYPES: [DType; 2] = [DType::U8, DType::I8];

/// Every form that does not depend on the shape.
fn forms() -> Vec<Form> {
    let mut forms = Vec::new();
    for dtype in TYPES {
        for constant in [true, false] {
            for zero in [Zero::None, Zero::Constant, Zero::Input] {
                forms.push(Form::of(dtype, constant, zero));
            }
        }
    }
    forms
}

#[test]
fn every_form_of_both_operands() {
    for a in forms() {
        for b in forms() {
            if a.constant && b.constant {
                continue;
            }
            run(&format!("{a:?} {b:?}"), Allowed::Rounding, |m| {
                let (x, w) = (m.quantised(a, &[3, 33]), m.quantised(b, &[33, 5]));
                vec![m.g.matmul(x, w)]
            });
        }
    }
}

#[test]
fn sums_of_integers_are_exact() {
    for a in forms().into_iter().filter(|a| !a.constant) {
        for b in forms() {
            run(&format!("{a:?} {b:?} i32"), Allowed::Rounding, |m| {
                let (x, w) = (m.shifted(a, &[4, 19]), m.shifted(b, &[19, 7]));
                vec![m.g.matmul(x, w)]
            });
        }
    }
}

/// A name, and for each operand its shape and the dimension that its parameters vary along.
type Product = (&'static str, &'static [usize], Option<usize>, &'static [usize], Option<usize>);

#[test]
fn products_of_all_ranks_and_parameters_per_row_and_column() {
    let u8 = |axis| Form { axis, ..Form::of(DType::U8, false, Zero::Constant) };
    let i8 = |axis| Form { axis, ..Form::of(DType::I8, true, Zero::Constant) };
    let shapes: &[Product] = &[
        ("per column", &[6, 21], None, &[21, 5], Some(1)),
        ("per row and column", &[6, 21], Some(0), &[21, 5], Some(1)),
        ("batch", &[2, 3, 9], None, &[2, 9, 4], None),
        ("batch, per sample", &[2, 3, 9], Some(0), &[2, 9, 4], Some(0)),
        ("batch of columns", &[2, 3, 9], Some(1), &[2, 9, 4], Some(2)),
        ("batch broadcast", &[2, 1, 3, 9], None, &[5, 9, 4], Some(2)),
        ("one matrix for all", &[2, 3, 9], None, &[9, 4], Some(1)),
        ("vector on the left", &[13], None, &[13, 5], Some(1)),
        ("vector on the right", &[7, 13], Some(0), &[13], None),
        ("vectors", &[13], None, &[13], None),
        ("vector on the left of many", &[9], None, &[3, 9, 4], Some(2)),
        ("vector on the right of many", &[3, 9, 4], Some(1), &[4], None),
        ("one product", &[1, 1], None, &[1, 1], None),
    ];
    for (name, a, a_axis, b, b_axis) in shapes {
        for constant in [true, false] {
            run(&format!("{name} {constant}"), Allowed::Rounding, |m| {
                let x = m.quantised(u8(*a_axis), a);
                let w = m.quantised(Form { constant, ..i8(*b_axis) }, b);
                vec![m.g.matmul(x, w)]
            });
        }
    }
}

#[test]
fn gemm_transposed_with_factors_and_addends() {
    for trans_a in [false, true] {
        for trans_b in [false, true] {
            for (alpha, beta) in [(1.0, 1.0), (0.5, -2.0)] {
                let a =
                    Form { axis: Some(usize::from(trans_a)), ..Form::of(DType::I8, false, Zero::Constant) };
                let b =
                    Form { axis: Some(usize::from(!trans_b)), ..Form::of(DType::U8, true, Zero::Constant) };
                run(&format!("gemm {trans_a} {trans_b} {alpha}"), Allowed::Rounding, |m| {
                    let x = m.quantised(a, if trans_a { &[17, 6] } else { &[6, 17] });
                    let w = m.quantised(b, if trans_b { &[9, 17] } else { &[17, 9] });
                    let c = m.g.constant("c", Tensor::random(DType::F32, &[9], 1).unwrap());
                    vec![m.one(Op::Gemm { alpha, beta, trans_a, trans_b }, &[x, w, c])]
                });
            }
        }
    }
}

#[test]
fn operands_that_are_rearranged_on_their_way() {
    let a = Form { axis: Some(2), ..Form::of(DType::U8, false, Zero::Constant) };
    run("transposed and reshaped", Allowed::Rounding, |m| {
        let x = m.quantised(a, &[2, 9, 4]);
        let x = m.one(Op::Transpose { perm: vec![2, 0, 1] }, &[x]);
        let x = m.one(Op::Reshape { shape: vec![4, 18] }, &[x]);
        let w = m.quantised(Form { axis: Some(0), ..Form::of(DType::I8, true, Zero::None) }, &[5, 18]);
        let w = m.one(Op::Transpose { perm: vec![1, 0] }, &[w]);
        vec![m.g.matmul(x, w)]
    });
    run("padded and repeated", Allowed::Rounding, |m| {
        let x = m.quantised(Form::of(DType::U8, false, Zero::Constant), &[3, 5]);
        let mode = PadMode::Constant(0.0);
        let x = m.one(Op::Pad { begin: vec![0, 1], end: vec![0, 2], mode }, &[x]);
        let x = m.one(Op::Expand { shape: vec![2, 3, 8] }, &[x]);
        let w = m.quantised(Form::of(DType::I8, true, Zero::None), &[8, 5]);
        vec![m.g.matmul(x, w)]
    });
    run("cut and mirrored", Allowed::Rounding, |m| {
        let x = m.quantised(Form::of(DType::I8, false, Zero::Constant), &[4, 9]);
        let x = m.one(Op::Slice { starts: vec![0, 1], extents: vec![4, 7], steps: vec![1, 1] }, &[x]);
        let w = m.quantised(Form { axis: Some(1), ..Form::of(DType::I8, true, Zero::None) }, &[7, 5]);
        let w = m.one(Op::Slice { starts: vec![6, 0], extents: vec![7, 5], steps: vec![-1, 1] }, &[w]);
        vec![m.g.matmul(x, w)]
    });
    let by_f32 = Form { by_f32: true, ..Form::of(DType::U8, false, Zero::Constant) };
    run("without i32", Allowed::Rounding, |m| {
        let x = m.quantised(by_f32, &[3, 8]);
        let w = m.quantised(Form { by_f32: true, ..Form::of(DType::I8, true, Zero::Constant) }, &[8, 5]);
        vec![m.g.matmul(x, w)]
    });
}

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

/// What a convolution is: a name, channels, filters, groups, spatial extents, window.
type Convolution = (&'static str, usize, usize, usize, Vec<usize>, Window);

fn convolutions() -> Vec<Convolution> {
    vec![
        ("1x1", 7, 5, 1, vec![4, 5], window(&[1, 1], 1, 1, 0, 0)),
        ("3x3", 3, 6, 1, vec![6, 7], window(&[3, 3], 1, 1, 1, 1)),
        ("strided", 3, 6, 1, vec![9, 8], window(&[3, 3], 2, 1, 0, 1)),
        ("dilated", 2, 3, 1, vec![9, 9], window(&[3, 3], 1, 2, 2, 2)),
        ("groups", 6, 8, 2, vec![5, 5], window(&[3, 3], 1, 1, 1, 1)),
        ("depthwise", 5, 5, 5, vec![6, 6], window(&[3, 3], 1, 1, 1, 1)),
        ("depthwise, multiplied", 3, 6, 3, vec![5, 6], window(&[3, 3], 2, 1, 1, 1)),
        ("1-d", 3, 4, 1, vec![17], window(&[5], 2, 1, 2, 2)),
        ("3-d", 2, 3, 1, vec![4, 4, 4], window(&[2, 2, 2], 1, 1, 1, 0)),
    ]
}

#[test]
fn convolutions_of_every_shape() {
    for (name, channels, filters, groups, spatial, window) in convolutions() {
        for format in [Format::ChannelsFirst, Format::ChannelsLast] {
            for (i, x_zero) in [Zero::None, Zero::Constant, Zero::Input].into_iter().enumerate() {
                for (w_zero, axis) in
                    [(Zero::None, Some(0)), (Zero::Constant, None), (Zero::Constant, Some(0))]
                {
                    let dtype = TYPES[i % 2];
                    let name = format!("{name} {format:?} {x_zero:?} {w_zero:?} {axis:?}");
                    run(&name, Allowed::Rounding, |m| {
                        let shape = match format {
                            Format::ChannelsFirst => [&[2, channels], &spatial[..]].concat(),
                            Format::ChannelsLast => [&[2], &spatial[..], &[channels]].concat(),
                        };
                        let x = m.quantised(Form::of(dtype, false, x_zero), &shape);
                        let w = Form { axis, ..Form::of(TYPES[(i + 1) % 2], true, w_zero) };
                        let w = m.quantised(w, &[&[filters, channels / groups], &window.kernel[..]].concat());
                        let bias = m.g.constant("bias", Tensor::random(DType::F32, &[filters], 3).unwrap());
                        let window = window.clone();
                        vec![m.one(Op::Conv { window, groups, format, pad_value: 0 }, &[x, w, bias])]
                    });
                }
            }
        }
    }
}

#[test]
fn weights_that_come_with_the_run() {
    for (name, channels, filters, groups, spatial, window) in convolutions() {
        run(&format!("{name}, weights given"), Allowed::Rounding, |m| {
            let x = m
                .quantised(Form::of(DType::I8, false, Zero::Input), &[&[1, channels], &spatial[..]].concat());
            let w = Form { axis: Some(0), ..Form::of(DType::U8, false, Zero::Input) };
            let w = m.quantised(w, &[&[filters, channels / groups], &window.kernel[..]].concat());
            let format = Format::ChannelsFirst;
            vec![m.one(Op::Conv { window, groups, format, pad_value: 0 }, &[x, w])]
        });
    }
}

#[test]
fn sums_of_integer_convolutions_are_exact() {
    for (name, channels, filters, groups, spatial, window) in convolutions() {
        for x_zero in [Zero::None, Zero::Constant, Zero::Input] {
            run(&format!("{name}, i32, {x_zero:?}"), Allowed::Rounding, |m| {
                let x =
                    m.shifted(Form::of(DType::U8, false, x_zero), &[&[2, channels], &spatial[..]].concat());
                let w = Form::of(DType::U8, true, Zero::Constant);
                let w = m.shifted(w, &[&[filters, channels / groups], &window.kernel[..]].concat());
                let bias: Vec<i32> = (0..filters as i32).map(|i| i * 1000 - 3).collect();
                let bias = m.g.constant("bias", Tensor::new(&[filters], &bias).unwrap());
                let (window, format) = (window.clone(), Format::ChannelsFirst);
                vec![m.one(Op::Conv { window, groups, format, pad_value: 0 }, &[x, w, bias])]
            });
        }
    }
}

#[test]
fn a_bias_in_steps_of_the_sums_goes_into_them() {
    let mut m = Maker::new("bias in steps");
    let (x, w) = (Form::of(DType::U8, false, Zero::Constant), Form::of(DType::I8, true, Zero::None));
    let (x, w) = (m.bytes(x.dtype, &[2, 3, 5, 5]), m.bytes(w.dtype, &[4, 3, 1, 1]));
    let scaled = |m: &mut Maker, q: Tensor, constant: bool, scale: f32| {
        let q = m.value(q, constant);
        let float = m.g.cast(q, DType::F32);
        let scale = m.g.constant("scale", Tensor::scalar(scale));
        m.g.mul(float, scale)
    };
    let (x, w) = (scaled(&mut m, x, false, 0.37), scaled(&mut m, w, true, 0.011));
    let steps = Tensor::new(&[4], &[1i32, -70_000, 123_456, 0]).unwrap();
    let bias = scaled(&mut m, steps, true, 0.37f32 * 0.011f32);
    let (window, format) = (window(&[1, 1], 1, 1, 0, 0), Format::ChannelsFirst);
    let y = m.one(Op::Conv { window, groups: 1, format, pad_value: 0 }, &[x, w, bias]);
    let (graph, inputs) = m.finish(&[y]);
    let (after, _) = crate::rewritten(&graph);
    let additions = after.nodes.iter().filter(|n| n.op == Op::Binary(Binary::Add));
    let types: Vec<DType> = additions.map(|n| after.value(n.outputs[0]).dtype).collect();
    assert_eq!(types, [DType::I32], "one addition, to the sums\n{after}");
    check("bias in steps", &graph, &inputs, 1, Allowed::Rounding);
}

#[test]
fn results_are_quantised_again_by_one_factor() {
    for dtype in TYPES {
        let mut m = Maker::new("requantised");
        let x = m.quantised(Form::of(dtype, false, Zero::Constant), &[5, 40]);
        let w = Form { axis: Some(1), ..Form::of(DType::I8, true, Zero::None) };
        let w = m.quantised(w, &[40, 12]);
        let y = m.g.matmul(x, w);
        let q = m.requantised(y, 0.7, 3.0, dtype);
        // Behind an activation.
        let v = m.quantised(Form::of(DType::I8, true, Zero::None), &[40, 12]);
        let z = m.g.matmul(x, v);
        let z = m.g.relu(z);
        let r = m.requantised(z, 1.3, 0.0, dtype);
        // A division that is none of a quantisation stays.
        let three = m.g.constant("three", Tensor::scalar(3.0f32));
        let third = m.g.div(z, three);
        let (graph, inputs) = m.finish(&[q, r, third]);
        let (after, _) = crate::rewritten(&graph);
        let divisions = after.nodes.iter().filter(|n| n.op == Op::Binary(Binary::Div)).count();
        assert_eq!(divisions, 1, "{after}");
        check("requantised", &graph, &inputs, 2, Allowed::OneStep);
    }
}

#[test]
fn what_is_quantised_when_it_runs() {
    run("dynamic", Allowed::Rounding, |m| {
        // As DynamicQuantizeLinear: scale and zero point follow from the values.
        let x = m.given(Tensor::random(DType::F32, &[6, 24], 9).unwrap());
        let of = |m: &mut Maker, op| {
            let y = m.one(Op::Reduce { op, axes: vec![0, 1], keep_dims: false }, &[x]);
            let zero = m.g.constant("none", Tensor::scalar(0.0f32));
            let op = if op == Reduction::Max { Binary::Max } else { Binary::Min };
            m.one(Op::Binary(op), &[y, zero])
        };
        let (max, min) = (of(m, Reduction::Max), of(m, Reduction::Min));
        let span = m.g.sub(max, min);
        let steps = m.g.constant("steps", Tensor::scalar(255.0f32));
        let scale = m.g.div(span, steps);
        let negative = m.g.neg(min);
        let zero = m.g.div(negative, scale);
        let zero = m.one(Op::Unary(Unary::Round), &[zero]);
        let zero = m.g.cast(zero, DType::U8);
        let q = m.g.div(x, scale);
        let q = m.one(Op::Unary(Unary::Round), &[q]);
        let zero_f32 = m.g.cast(zero, DType::F32);
        let q = m.g.add(q, zero_f32);
        let q = m.g.clip(q, Some(0.0), Some(255.0));
        let q = m.g.cast(q, DType::U8);
        let (wide, zero) = (m.g.cast(q, DType::I32), m.g.cast(zero, DType::I32));
        let shifted = m.g.sub(wide, zero);
        let w = m.shifted(Form::of(DType::I8, true, Zero::None), &[24, 10]);
        let sums = m.g.matmul(shifted, w);
        let sums = m.g.cast(sums, DType::F32);
        vec![m.g.mul(sums, scale)]
    });
}
