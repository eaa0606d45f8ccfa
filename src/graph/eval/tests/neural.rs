//! Convolution, pooling, normalisation and softmax.

use std::slice::from_ref;

use super::*;
use crate::graph::{Format, PoolKind, Window};

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

fn conv(window: Window, groups: usize) -> Op {
    Op::Conv { window, groups, format: Format::ChannelsFirst, pad_value: 0 }
}

/// The operation with the channels last, on the same tensors: operands and result are transposed.
fn eval_channels_last(op: Op, x: &Tensor, rest: &[Tensor]) -> Tensor {
    let rank = x.shape().len();
    let last: Vec<usize> = [0].into_iter().chain(2..rank).chain([1]).collect();
    let first: Vec<usize> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
    let op = match op {
        Op::Conv { window, groups, pad_value, .. } => {
            Op::Conv { window, groups, format: Format::ChannelsLast, pad_value }
        }
        Op::Pool { kind, window, ceil_mode, .. } => {
            Op::Pool { kind, window, ceil_mode, format: Format::ChannelsLast }
        }
        Op::GlobalPool { kind, .. } => Op::GlobalPool { kind, format: Format::ChannelsLast },
        Op::BatchNorm { epsilon, .. } => Op::BatchNorm { epsilon, format: Format::ChannelsLast },
        Op::InstanceNorm { epsilon, .. } => Op::InstanceNorm { epsilon, format: Format::ChannelsLast },
        Op::GroupNorm { groups, epsilon, .. } => {
            Op::GroupNorm { groups, epsilon, format: Format::ChannelsLast }
        }
        other => panic!("{} has no format", other.name()),
    };
    let x = eval(Op::Transpose { perm: last }, from_ref(x));
    let y = eval(op, &[&[x], rest].concat());
    eval(Op::Transpose { perm: first }, &[y])
}

#[test]
fn convolution_by_hand() {
    let x = t(&[1, 1, 5], &[1.0, 2.0, 3.0, 4.0, 5.0]);
    let w = t(&[1, 1, 3], &[1.0, 10.0, 100.0]);
    let y = eval(conv(window(&[3], &[1], &[1], &[0], &[0]), 1), &[x.clone(), w.clone()]);
    assert_close(&y, &[1, 1, 3], &[321.0, 432.0, 543.0]);
    let y = eval(conv(window(&[3], &[2], &[1], &[2], &[1]), 1), &[x.clone(), w.clone(), t(&[1], &[0.5])]);
    assert_close(&y, &[1, 1, 3], &[100.5, 321.5, 543.5]);
    let y = eval(conv(window(&[3], &[1], &[2], &[1], &[1]), 1), &[x, w]);
    assert_close(&y, &[1, 1, 3], &[420.0, 531.0, 42.0]);
}

#[test]
fn convolution_sums_the_channels_of_a_group() {
    let x = t(&[1, 4, 1, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
    let w = t(&[2, 2, 1, 1], &[1.0, 10.0, 100.0, 1000.0]);
    let y = eval(conv(window(&[1, 1], &[1, 1], &[1, 1], &[0, 0], &[0, 0]), 2), &[x, w]);
    assert_close(&y, &[1, 2, 1, 2], &[31.0, 42.0, 7500.0, 8600.0]);
}

#[test]
fn convolution_over_two_dimensions_equals_the_definition() {
    let (x, w, b) = (noise(&[2, 4, 6, 5], 1), noise(&[6, 2, 3, 2], 2), noise(&[6], 3));
    let op = conv(window(&[3, 2], &[2, 1], &[1, 2], &[1, 0], &[2, 1]), 2);
    let y = eval(op.clone(), &[x.clone(), w.clone(), b.clone()]);
    assert_eq!(y.shape(), [2, 6, 4, 4]);
    let (xv, wv, bv) = (x.view::<f32>().unwrap(), w.view::<f32>().unwrap(), b.view::<f32>().unwrap());
    let mut expected = Vec::new();
    for index in ndarray::indices([2usize, 6, 4, 4]) {
        let (n, co, oh, ow) = index;
        let mut sum = bv[[co]];
        for (ci, kh, kw) in ndarray::indices([2usize, 3, 2]) {
            let (h, w) = ((2 * oh + kh) as i64 - 1, (ow + 2 * kw) as i64);
            if (0..6).contains(&h) && (0..5).contains(&w) {
                sum += xv[[n, co / 3 * 2 + ci, h as usize, w as usize]] * wv[[co, ci, kh, kw]];
            }
        }
        expected.push(sum);
    }
    assert_close(&y, &[2, 6, 4, 4], &expected);
    assert_close(&eval_channels_last(op, &x, &[w, b]), &[2, 6, 4, 4], &expected);
}

#[test]
fn empty_and_large_convolutions() {
    let one = || window(&[1], &[1], &[1], &[0], &[0]);
    let y = eval(conv(one(), 1), &[t(&[0, 2, 3], &[]), t(&[4, 2, 1], &[1.0; 8])]);
    assert_eq!(y.shape(), [0, 4, 3]);
    let y = eval(conv(one(), 1), &[t(&[1, 0, 3], &[]), t(&[2, 0, 1], &[]), t(&[2], &[1.0, 2.0])]);
    assert_close(&y, &[1, 2, 3], &[1.0, 1.0, 1.0, 2.0, 2.0, 2.0]);
    // More windows than are gathered at a time.
    let x = noise(&[1, 1, 9000], 5);
    let y = eval(conv(one(), 1), &[x.clone(), t(&[1, 1, 1], &[2.0])]);
    let doubled: Vec<f32> = x.values::<f32>().unwrap().iter().map(|v| v * 2.0).collect();
    assert_close(&y, &[1, 1, 9000], &doubled);
}

#[test]
fn pooling_follows_pytorch_in_ceil_mode() {
    let pool = |kind, window, ceil_mode| Op::Pool { kind, window, ceil_mode, format: Format::ChannelsFirst };
    let average = |count_include_pad| PoolKind::Average { count_include_pad };
    let five = t(&[1, 1, 5], &[1.0, 2.0, 3.0, 4.0, 5.0]);
    let pairs = || window(&[2], &[2], &[1], &[0], &[0]);
    assert_close(&eval(pool(PoolKind::Max, pairs(), false), from_ref(&five)), &[1, 1, 2], &[2.0, 4.0]);
    assert_close(&eval(pool(PoolKind::Max, pairs(), true), from_ref(&five)), &[1, 1, 3], &[2.0, 4.0, 5.0]);
    assert_close(&eval(pool(average(true), pairs(), true), from_ref(&five)), &[1, 1, 3], &[1.5, 3.5, 5.0]);
    let four = t(&[1, 1, 4], &[1.0, 2.0, 3.0, 4.0]);
    let padded = || window(&[3], &[2], &[1], &[1], &[1]);
    assert_close(&eval(pool(average(true), padded(), true), from_ref(&four)), &[1, 1, 3], &[1.0, 3.0, 2.0]);
    assert_close(&eval(pool(average(false), padded(), true), from_ref(&four)), &[1, 1, 3], &[1.5, 3.0, 4.0]);
    assert_close(&eval(pool(average(true), padded(), false), from_ref(&four)), &[1, 1, 2], &[1.0, 3.0]);
    // The last window would start in the padding after the input: it is left out.
    let late = window(&[2], &[2], &[1], &[1], &[1]);
    let three = t(&[1, 1, 3], &[-1.0, -2.0, -3.0]);
    assert_close(&eval(pool(PoolKind::Max, late, true), &[three]), &[1, 1, 2], &[-1.0, -2.0]);
    let dilated = window(&[2], &[1], &[3], &[0], &[0]);
    assert_close(&eval(pool(PoolKind::Max, dilated, false), &[five]), &[1, 1, 2], &[4.0, 5.0]);
    let bytes = Tensor::new(&[1, 1, 2], &[-7i8, -9]).unwrap();
    let wide = window(&[3], &[1], &[1], &[1], &[1]);
    let y = eval(pool(PoolKind::Max, wide, false), &[bytes]);
    assert_eq!(y, Tensor::new(&[1, 1, 2], &[-7i8, -7]).unwrap());
}

#[test]
fn formats_differ_in_order_only() {
    let x = noise(&[2, 4, 5, 6], 7);
    let parameters = [noise(&[4], 8), noise(&[4], 9), noise(&[4], 10), t(&[4], &[0.5, 1.0, 2.0, 3.0])];
    let format = Format::ChannelsFirst;
    let pool_window = window(&[3, 2], &[2, 2], &[1, 1], &[1, 0], &[1, 1]);
    let cases = [
        (Op::Pool { kind: PoolKind::Max, window: pool_window.clone(), ceil_mode: true, format }, 0),
        (
            Op::Pool {
                kind: PoolKind::Average { count_include_pad: true },
                window: pool_window,
                ceil_mode: false,
                format,
            },
            0,
        ),
        (Op::GlobalPool { kind: PoolKind::Max, format }, 0),
        (Op::GlobalPool { kind: PoolKind::Average { count_include_pad: false }, format }, 0),
        (Op::BatchNorm { epsilon: 1e-3, format }, 4),
        (Op::InstanceNorm { epsilon: 1e-3, format }, 2),
        (Op::GroupNorm { groups: 2, epsilon: 1e-3, format }, 2),
    ];
    for (op, count) in cases {
        let first = eval(op.clone(), &[from_ref(&x), &parameters[..count]].concat());
        let last = eval_channels_last(op, &x, &parameters[..count]);
        assert_close(&last, first.shape(), first.values::<f32>().unwrap());
    }
}

#[test]
fn global_pooling() {
    let x = t(&[1, 2, 2, 2], &[1.0, 2.0, 3.0, 6.0, -1.0, -2.0, f32::NAN, -4.0]);
    let pool = |kind| eval(Op::GlobalPool { kind, format: Format::ChannelsFirst }, from_ref(&x));
    assert_close(&pool(PoolKind::Max), &[1, 2, 1, 1], &[6.0, f32::NAN]);
    let average = PoolKind::Average { count_include_pad: false };
    assert_close(&pool(average), &[1, 2, 1, 1], &[3.0, f32::NAN]);
}

#[test]
fn normalisations_by_hand() {
    let format = Format::ChannelsFirst;
    let one = |v: f32| t(&[1], &[v]);
    let y = eval(
        Op::BatchNorm { epsilon: 1.0, format },
        &[t(&[2, 1], &[5.0, 1.0]), one(2.0), one(10.0), one(1.0), one(3.0)],
    );
    assert_close(&y, &[2, 1], &[14.0, 10.0]);
    // Mean 2, variance 1.
    let x = t(&[1, 2], &[1.0, 3.0]);
    let scale = t(&[2], &[2.0, 3.0]);
    let op = Op::LayerNorm { axis: 1, epsilon: 3.0 };
    assert_close(&eval(op.clone(), &[x.clone(), scale.clone()]), &[1, 2], &[-1.0, 1.5]);
    assert_close(&eval(op, &[x, scale.clone(), t(&[], &[10.0])]), &[1, 2], &[9.0, 11.5]);
    // Mean square 4.
    let y = eval(Op::RmsNorm { axis: 0, epsilon: 0.0 }, &[t(&[2], &[2.0, -2.0]), scale]);
    assert_close(&y, &[2], &[2.0, -3.0]);
    let x = t(&[1, 2, 2], &[1.0, 3.0, 10.0, 10.0]);
    let (scale, bias) = (t(&[2], &[2.0, 5.0]), t(&[2], &[0.5, 7.0]));
    let inputs = [x, scale, bias];
    let y = eval(Op::InstanceNorm { epsilon: 3.0, format }, &inputs);
    assert_close(&y, &[1, 2, 2], &[-0.5, 1.5, 7.0, 7.0]);
    // Mean 6, variance 16.5 over both channels.
    let y = eval(Op::GroupNorm { groups: 1, epsilon: 8.5, format }, &inputs);
    assert_close(&y, &[1, 2, 2], &[-1.5, -0.7, 11.0, 11.0]);
    let empty = eval(Op::LayerNorm { axis: 1, epsilon: 0.1 }, &[t(&[3, 0], &[]), t(&[0], &[])]);
    assert_eq!(empty.shape(), [3, 0]);
}

#[test]
fn softmax_is_stable() {
    let x = t(&[2, 2], &[0.0, 3f32.ln(), 1000.0, 1000.0]);
    assert_close(&eval(Op::Softmax { axis: 1 }, from_ref(&x)), &[2, 2], &[0.25, 0.75, 0.5, 0.5]);
    let logs = [0.25f32.ln(), 0.75f32.ln(), 0.5f32.ln(), 0.5f32.ln()];
    assert_close(&eval(Op::LogSoftmax { axis: 1 }, &[x]), &[2, 2], &logs);
    let columns = t(&[2, 1], &[0.0, 3f32.ln()]);
    assert_close(&eval(Op::Softmax { axis: 0 }, &[columns]), &[2, 1], &[0.25, 0.75]);
}
