//! Tensors without elements, and tensors without dimensions: every family takes them.

use super::*;
use crate::graph::{Direction, Format, PadMode, PoolKind, RecurrentKind, Reduction, Window};

/// An operation, the shapes of its operands, and that of its result.
type Case<'a> = (Op, &'a [&'a [usize]], &'a [usize]);

/// Evaluates with zeros of these shapes, and returns the shapes of the results.
fn shapes(op: &Op, operands: &[&[usize]]) -> Vec<Vec<usize>> {
    let operands: Vec<Tensor> =
        operands.iter().map(|shape| Tensor::zeros(DType::F32, shape).unwrap()).collect();
    let results = evaluate_op(op, &operands).unwrap_or_else(|e| panic!("{}: {e}", op.name()));
    results.iter().map(|result| result.shape().to_vec()).collect()
}

#[test]
fn tensors_without_elements_work() {
    let window = |rank: usize| Window {
        kernel: vec![2; rank],
        strides: vec![1; rank],
        dilations: vec![1; rank],
        pads_begin: vec![1; rank],
        pads_end: vec![1; rank],
    };
    let (first, last) = (Format::ChannelsFirst, Format::ChannelsLast);
    let conv = |format| Op::Conv { window: window(1), groups: 1, format, pad_value: 0 };
    let pool = |kind, format| Op::Pool { kind, window: window(1), ceil_mode: true, format };
    let average = PoolKind::Average { count_include_pad: false };
    let gemm = Op::Gemm { alpha: 2.0, beta: 3.0, trans_a: true, trans_b: false };
    let cases: &[Case] = &[
        (Op::Unary(Unary::Exp), &[&[2, 0]], &[2, 0]),
        (Op::Binary(Binary::Add), &[&[3, 0], &[1, 1]], &[3, 0]),
        (Op::Clip { min: None, max: None }, &[&[0]], &[0]),
        (Op::Cast { to: DType::Bool }, &[&[0, 1]], &[0, 1]),
        (Op::BiasAdd { axis: 1 }, &[&[0, 4], &[4]], &[0, 4]),
        (Op::MatMul, &[&[2, 0], &[0, 3]], &[2, 3]),
        (Op::MatMul, &[&[0], &[0]], &[]),
        (Op::MatMul, &[&[0, 2, 3], &[3, 4]], &[0, 2, 4]),
        (Op::MatMul, &[&[5, 0, 3], &[3, 4]], &[5, 0, 4]),
        (gemm, &[&[0, 2], &[0, 3], &[3]], &[2, 3]),
        (conv(first), &[&[0, 3, 5], &[4, 3, 2]], &[0, 4, 6]),
        (conv(last), &[&[2, 5, 0], &[4, 0, 2]], &[2, 6, 4]),
        (conv(first), &[&[2, 3, 0], &[4, 3, 2]], &[2, 4, 1]),
        (conv(last), &[&[2, 5, 3], &[0, 3, 2]], &[2, 6, 0]),
        (pool(PoolKind::Max, first), &[&[2, 0, 5]], &[2, 0, 6]),
        (pool(average, last), &[&[0, 5, 3]], &[0, 6, 3]),
        (pool(PoolKind::Max, first), &[&[2, 3, 0]], &[2, 3, 1]),
        (Op::GlobalPool { kind: average, format: first }, &[&[2, 3, 0]], &[2, 3, 1]),
        (Op::GlobalPool { kind: PoolKind::Max, format: last }, &[&[0, 4, 3]], &[0, 1, 3]),
        (Op::BatchNorm { epsilon: 0.1, format: first }, &[&[2, 0], &[0], &[0], &[0], &[0]], &[2, 0]),
        (Op::LayerNorm { axis: 1, epsilon: 0.1 }, &[&[2, 0], &[0]], &[2, 0]),
        (Op::LayerNorm { axis: 1, epsilon: 0.1 }, &[&[0, 2], &[2]], &[0, 2]),
        (Op::RmsNorm { axis: 0, epsilon: 0.1 }, &[&[0], &[1]], &[0]),
        (Op::InstanceNorm { epsilon: 0.1, format: first }, &[&[2, 3, 0], &[3], &[3]], &[2, 3, 0]),
        (Op::GroupNorm { groups: 2, epsilon: 0.1, format: last }, &[&[2, 0], &[0], &[0]], &[2, 0]),
        (Op::Softmax { axis: 1 }, &[&[3, 0]], &[3, 0]),
        (Op::LogSoftmax { axis: 0 }, &[&[3, 0]], &[3, 0]),
        (Op::Reduce { op: Reduction::LogSumExp, axes: vec![1], keep_dims: true }, &[&[2, 0]], &[2, 1]),
        (Op::Reduce { op: Reduction::Prod, axes: vec![0], keep_dims: false }, &[&[2, 0]], &[0]),
        (Op::ArgReduce { max: true, axis: 0, keep_dims: false, last: true }, &[&[2, 0]], &[0]),
        (Op::Reshape { shape: vec![0, 9] }, &[&[4, 0]], &[0, 9]),
        (Op::Transpose { perm: vec![1, 0] }, &[&[4, 0]], &[0, 4]),
        (Op::Slice { starts: vec![9, 0], extents: vec![0, 2], steps: vec![-1, 1] }, &[&[4, 2]], &[0, 2]),
        (Op::Pad { begin: vec![1, 0], end: vec![1, 0], mode: PadMode::Constant(1.0) }, &[&[0, 2]], &[2, 2]),
        (Op::Concat { axis: 0 }, &[&[0, 2], &[0, 2]], &[0, 2]),
        (Op::Expand { shape: vec![0, 2] }, &[&[1, 2]], &[0, 2]),
    ];
    for (op, operands, expected) in cases {
        assert_eq!(shapes(op, operands), [expected.to_vec()], "{}", op.name());
    }
    let split = Op::Split { axis: 0, sizes: vec![0, 0] };
    assert_eq!(shapes(&split, &[&[0, 3]]), [[0, 3], [0, 3]]);
    let y = eval(Op::Gather { axis: 0 }, &[t(&[0, 3], &[]), ints(&[2, 0], &[])]);
    assert_eq!(y.shape(), [2, 0, 3]);
    let rnn = Op::Recurrent {
        kind: RecurrentKind::Rnn,
        hidden: 0,
        direction: Direction::Forward,
        activations: vec![Unary::Tanh],
        clip: None,
    };
    let results = shapes(&rnn, &[&[2, 0, 3], &[1, 0, 3], &[1, 0, 0], &[1, 0]]);
    assert_eq!(results, [vec![2, 1, 0, 0], vec![1, 0, 0]]);
}

#[test]
fn sums_over_nothing_are_zero() {
    assert_close(&eval(Op::MatMul, &[t(&[1, 0], &[]), t(&[0, 2], &[])]), &[1, 2], &[0.0, 0.0]);
    assert_close(&eval(Op::MatMul, &[t(&[0], &[]), t(&[0], &[])]), &[], &[0.0]);
}

#[test]
fn tensors_without_dimensions_work() {
    let cases: &[(Op, usize)] = &[
        (Op::Unary(Unary::Neg), 1),
        (Op::Binary(Binary::Mul), 2),
        (Op::Clip { min: Some(0.0), max: None }, 1),
        (Op::Cast { to: DType::I64 }, 1),
        (Op::Dropout, 1),
        (Op::Reduce { op: Reduction::Max, axes: vec![], keep_dims: true }, 1),
        (Op::Reshape { shape: vec![] }, 1),
        (Op::Transpose { perm: vec![] }, 1),
        (Op::Slice { starts: vec![], extents: vec![], steps: vec![] }, 1),
        (Op::Pad { begin: vec![], end: vec![], mode: PadMode::Reflect }, 1),
        (Op::Expand { shape: vec![] }, 1),
    ];
    for (op, operands) in cases {
        assert_eq!(shapes(op, &vec![&[][..]; *operands]), [[0usize; 0]], "{}", op.name());
    }
}
