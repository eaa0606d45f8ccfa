//! Every reason for refusal, with its exact message, and the corner cases that must be accepted.

use nestjit_ir::DType::{self, Bool, F32, F64, I8, I32, I64, U8};

use super::*;
use crate::error::ErrorKind::{self, Invalid, Limit, Shape, Unsupported};
use crate::graph::{Binary, Direction, Format, PadMode, PoolKind, RecurrentKind, Reduction, Unary, Window};

/// Type and shape.
type Operand<'a> = (DType, &'a [usize]);

const HUGE: usize = 1 << 62;

/// Operands named `a`, `b`, `c`, ...
fn values(operands: &[Operand]) -> Vec<Value> {
    let names = "abcdefgh".chars();
    let value = |(name, (dtype, shape)): (char, &Operand)| Value {
        name: name.to_string(),
        dtype: *dtype,
        shape: shape.to_vec(),
        data: None,
    };
    names.zip(operands).map(value).collect()
}

fn try_infer(op: &Op, operands: &[Operand]) -> Result<Outputs> {
    let values = values(operands);
    infer(op, &values.iter().collect::<Vec<_>>())
}

#[track_caller]
fn refuses(op: Op, operands: &[Operand], kind: ErrorKind, message: &str) {
    let error = try_infer(&op, operands).expect_err(message);
    assert_eq!(error.to_string(), message);
    assert_eq!(error.kind(), kind, "{message}");
}

#[track_caller]
fn accepts(op: Op, operands: &[Operand], results: &[Operand]) {
    let results: Vec<_> = results.iter().map(|(dtype, shape)| (*dtype, shape.to_vec())).collect();
    assert_eq!(results.len(), op.output_count());
    assert_eq!(try_infer(&op, operands), Ok(results));
}

#[test]
fn elementwise() {
    let relu = || Op::Unary(Unary::Relu);
    refuses(relu(), &[], Invalid, "takes 1 operand, but 0 were given");
    refuses(relu(), &[(Bool, &[2])], Shape, "'a' is bool, but a numeric type is needed");
    let exp = Op::Unary(Unary::Exp);
    refuses(exp, &[(I64, &[2])], Shape, "'a' is i64, but a floating-point type is needed");
    refuses(Op::Unary(Unary::Not), &[(U8, &[])], Shape, "'a' is u8, but bool is needed");
    refuses(Op::Unary(Unary::BitNot), &[(Bool, &[])], Shape, "'a' is bool, but an integer type is needed");
    refuses(Op::Unary(Unary::Celu { alpha: 0.0 }), &[(F32, &[])], Invalid, "alpha must not be 0");
    accepts(Op::Unary(Unary::IsNan), &[(F64, &[0, 3])], &[(Bool, &[0, 3])]);

    let add = || Op::Binary(Binary::Add);
    refuses(add(), &[(F32, &[2])], Invalid, "takes 2 operands, but 1 was given");
    let message = "operands must have one type, but 'a' is f32 and 'b' is f64";
    refuses(add(), &[(F32, &[2]), (F64, &[2])], Shape, message);
    let message = "cannot broadcast 'a' f32[2, 3] and 'b' f32[2] to one shape";
    refuses(add(), &[(F32, &[2, 3]), (F32, &[2])], Shape, message);
    refuses(add(), &[(Bool, &[]), (Bool, &[])], Shape, "'a' is bool, but a numeric type is needed");
    let and = Op::Binary(Binary::And);
    refuses(and, &[(F32, &[]), (F32, &[])], Shape, "'a' is f32, but an integer type or bool is needed");
    let message = format!("a tensor of shape [{HUGE}, {HUGE}] is larger than the address space");
    refuses(add(), &[(F32, &[HUGE, 1]), (F32, &[1, HUGE])], Limit, &message);
    accepts(Op::Binary(Binary::Lt), &[(I32, &[4, 1]), (I32, &[0])], &[(Bool, &[4, 0])]);
    accepts(add(), &[(F32, &[]), (F32, &[])], &[(F32, &[])]);

    let select = [(F32, &[2][..]), (F32, &[2]), (F32, &[2])];
    refuses(Op::Where, &select, Shape, "'a' is f32, but bool is needed");
    accepts(Op::Where, &[(Bool, &[3, 1]), (I64, &[]), (I64, &[2])], &[(I64, &[3, 2])]);
    let clip = Op::Clip { min: Some(f64::NAN), max: None };
    refuses(clip, &[(F32, &[2])], Invalid, "a bound must not be NaN");
    accepts(Op::Cast { to: Bool }, &[(F32, &[2])], &[(Bool, &[2])]);
    refuses(Op::Dropout, &[], Invalid, "takes 1 operand, but 0 were given");

    let bias = |axis| Op::BiasAdd { axis };
    let message = "axis 2 does not exist in 'a' f32[2, 3]";
    refuses(bias(2), &[(F32, &[2, 3]), (F32, &[3])], Invalid, message);
    let message = "the bias must be [3], but 'b' f32[1, 3] was given";
    refuses(bias(1), &[(F32, &[2, 3]), (F32, &[1, 3])], Shape, message);
}

#[test]
fn contractions() {
    let message = "needs at least 1 dimension, but 'b' f32[] was given";
    refuses(Op::MatMul, &[(F32, &[2]), (F32, &[])], Shape, message);
    let message = "'a' f32[2, 3] and 'b' f32[2, 3] cannot be multiplied: the inner dimensions are 3 and 2";
    refuses(Op::MatMul, &[(F32, &[2, 3]), (F32, &[2, 3])], Shape, message);
    let message =
        "'a' f32[2, 1, 3] and 'b' f32[4, 3, 5] cannot be multiplied: their batch dimensions do not broadcast";
    refuses(Op::MatMul, &[(F32, &[2, 1, 3]), (F32, &[4, 3, 5])], Shape, message);
    refuses(Op::MatMul, &[(Bool, &[2]), (Bool, &[2])], Shape, "'a' is bool, but a numeric type is needed");
    accepts(Op::MatMul, &[(F32, &[7, 1, 2, 0]), (F32, &[4, 0, 3])], &[(F32, &[7, 4, 2, 3])]);
    accepts(Op::MatMul, &[(F32, &[3]), (F32, &[5, 3, 2])], &[(F32, &[5, 2])]);
    accepts(Op::MatMul, &[(I64, &[3]), (I64, &[3])], &[(I64, &[])]);

    let packed = |bits, block| Op::PackedMatMul { bits, block };
    let (x, q, scale) = ((F32, [2, 40].as_slice()), (U8, [3, 3, 8].as_slice()), (F32, [3, 3].as_slice()));
    accepts(packed(4, 16), &[x, q, scale], &[(F32, &[2, 3])]);
    accepts(packed(4, 16), &[x, q, scale, (U8, &[3, 3])], &[(F32, &[2, 3])]);
    accepts(packed(8, 16), &[(F64, &[16]), (U8, &[5, 1, 16]), (F64, &[1, 5])], &[(F64, &[5])]);
    refuses(packed(3, 16), &[x, q, scale], Invalid, "integers of 3 bits are not possible, but of 2, 4 and 8");
    refuses(packed(2, 6), &[x, q, scale], Invalid, "6 integers of 2 bits do not fill whole bytes");
    refuses(packed(4, 0), &[x, q, scale], Invalid, "0 integers of 4 bits do not fill whole bytes");
    let message = "packed integers must be u8, but 'b' i8[3, 3, 8] was given";
    refuses(packed(4, 16), &[x, (I8, &[3, 3, 8]), scale], Shape, message);
    let message =
        "'a' f32[2, 40] and 'b' u8[3, 3, 8] cannot be multiplied: packed integers [N, 2, 16] are needed";
    refuses(packed(4, 32), &[x, q, scale], Shape, message);
    let message = "'c' f32[3, 4] does not fit 'b' u8[3, 3, 8]: [3, 3] is needed";
    refuses(packed(4, 16), &[x, q, (F32, &[3, 4])], Shape, message);
    let message = "'d' u8[1, 3] does not fit 'b' u8[3, 3, 8]: [3, 3] is needed";
    refuses(packed(4, 16), &[x, q, scale, (U8, &[1, 3])], Shape, message);

    let gemm = |alpha, trans_a, trans_b| Op::Gemm { alpha, beta: 1.0, trans_a, trans_b };
    refuses(gemm(1.0, false, false), &[(F32, &[2, 3])], Invalid, "takes 2 to 3 operands, but 1 was given");
    let message = "'b' f32[3] must be a matrix";
    refuses(gemm(1.0, false, false), &[(F32, &[2, 3]), (F32, &[3])], Shape, message);
    let message = "'a' f32[2, 3] transposed and 'b' f32[3, 4] transposed cannot be multiplied: \
                   the inner dimensions are 2 and 4";
    refuses(gemm(1.0, true, true), &[(F32, &[2, 3]), (F32, &[3, 4])], Shape, message);
    let message = "the addend 'c' f32[3] does not broadcast to [2, 4]";
    refuses(gemm(1.0, false, false), &[(F32, &[2, 3]), (F32, &[3, 4]), (F32, &[3])], Shape, message);
    let message = "the addend 'c' f32[1, 2, 4] does not broadcast to [2, 4]";
    refuses(gemm(1.0, false, false), &[(F32, &[2, 3]), (F32, &[3, 4]), (F32, &[1, 2, 4])], Shape, message);
    let message = "alpha and beta other than 1 on integers";
    refuses(gemm(0.5, false, false), &[(I32, &[2, 3]), (I32, &[3, 4])], Unsupported, message);
    accepts(gemm(0.5, true, true), &[(F32, &[3, 2]), (F32, &[4, 3]), (F32, &[])], &[(F32, &[2, 4])]);
}

fn window(kernel: &[usize], strides: &[usize], dilations: &[usize], pads: &[usize]) -> Window {
    Window {
        kernel: kernel.to_vec(),
        strides: strides.to_vec(),
        dilations: dilations.to_vec(),
        pads_begin: pads.to_vec(),
        pads_end: pads.to_vec(),
    }
}

fn conv(window: Window, groups: usize) -> Op {
    Op::Conv { window, groups, format: Format::ChannelsFirst, pad_value: 0 }
}

#[test]
fn convolutions() {
    let plain = || window(&[3], &[1], &[1], &[0]);
    let x: Operand = (F32, &[1, 4, 8]);
    let message = "needs at least 3 dimensions, but 'a' f32[1, 4] was given";
    refuses(conv(plain(), 1), &[(F32, &[1, 4]), (F32, &[2, 4])], Shape, message);
    let message = "'a' f32[1, 4, 8] takes a weight of rank 3, not 'b' f32[2, 4, 3, 3]";
    refuses(conv(plain(), 1), &[x, (F32, &[2, 4, 3, 3])], Shape, message);
    let message = "the kernel is [3], but the weight is 'b' f32[2, 4, 5]";
    refuses(conv(plain(), 1), &[x, (F32, &[2, 4, 5])], Invalid, message);
    let groups = "the number of groups must be at least 1";
    refuses(conv(plain(), 0), &[x, (F32, &[2, 4, 3])], Invalid, groups);
    refuses(conv(plain(), 3), &[x, (F32, &[3, 1, 3])], Shape, "3 groups do not divide 4 input channels");
    refuses(conv(plain(), 4), &[x, (F32, &[6, 1, 3])], Shape, "4 groups do not divide 6 output channels");
    let message =
        "'a' f32[1, 4, 8] has 4 channels in 2 groups, but the weight 'b' f32[2, 4, 3] takes 4 per group";
    refuses(conv(plain(), 2), &[x, (F32, &[2, 4, 3])], Shape, message);
    let message = "the bias must be [2], but 'c' f32[4] was given";
    refuses(conv(plain(), 1), &[x, (F32, &[2, 4, 3]), (F32, &[4])], Shape, message);
    let message = "'a' is bool, but a numeric type is needed";
    refuses(conv(plain(), 1), &[(Bool, &[1, 4, 8]), (Bool, &[2, 4, 3])], Shape, message);

    let with =
        |w: Window| move |kind, message: &str| refuses(conv(w, 1), &[x, (F32, &[2, 4, 3])], kind, message);
    with(window(&[3], &[1, 1], &[1], &[0]))(
        Invalid,
        "strides has 2 entries, but 'a' f32[1, 4, 8] has 1 spatial dimension",
    );
    with(window(&[3], &[0], &[1], &[0]))(Invalid, "strides must be at least 1, not [0]");
    with(window(&[3], &[1], &[0], &[0]))(Invalid, "dilations must be at least 1, not [0]");
    with(window(&[3], &[1], &[4], &[0]))(
        Shape,
        "the window's extent 9 is larger than the padded input's 8 in spatial dimension 0",
    );
    let limit = "the window is larger than the address space in spatial dimension 0";
    with(window(&[3], &[1], &[usize::MAX], &[0]))(Limit, limit);
    with(window(&[3], &[1], &[1], &[usize::MAX]))(Limit, limit);
    let zero = window(&[0], &[1], &[1], &[0]);
    let message = "kernel must be at least 1, not [0]";
    refuses(conv(zero, 1), &[x, (F32, &[2, 4, 0])], Invalid, message);

    accepts(conv(window(&[3], &[2], &[2], &[1]), 2), &[x, (F32, &[6, 2, 3])], &[(F32, &[1, 6, 3])]);
    accepts(conv(plain(), 1), &[(F64, &[0, 0, 3]), (F64, &[0, 0, 3]), (F64, &[0])], &[(F64, &[0, 0, 1])]);
    let cube = window(&[1, 2, 3], &[1, 1, 1], &[1, 1, 1], &[0, 0, 1]);
    let last = Op::Conv { window: cube, groups: 1, format: Format::ChannelsLast, pad_value: 0 };
    accepts(last, &[(F32, &[2, 4, 5, 6, 3]), (F32, &[7, 3, 1, 2, 3])], &[(F32, &[2, 4, 4, 6, 7])]);
}

#[test]
fn products_of_bytes_are_of_32_bits() {
    accepts(Op::MatMul, &[(U8, &[2, 3]), (I8, &[3, 4])], &[(I32, &[2, 4])]);
    accepts(Op::MatMul, &[(I8, &[2, 3]), (I8, &[3, 4])], &[(I32, &[2, 4])]);
    let message = "operands must have one type, but 'a' is u8 and 'b' is i32";
    refuses(Op::MatMul, &[(U8, &[2, 3]), (I32, &[3, 4])], Shape, message);
    let gemm = Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: false };
    accepts(gemm.clone(), &[(U8, &[2, 3]), (I8, &[3, 4]), (I32, &[4])], &[(I32, &[2, 4])]);
    let message = "the addend must be i32, but 'c' u8[4] was given";
    refuses(gemm, &[(U8, &[2, 3]), (I8, &[3, 4]), (U8, &[4])], Shape, message);

    let padded = |pad_value| Op::Conv {
        window: window(&[3], &[1], &[1], &[1]),
        groups: 1,
        format: Format::ChannelsFirst,
        pad_value,
    };
    let (x, w): (Operand, Operand) = ((U8, &[1, 4, 8]), (I8, &[2, 4, 3]));
    accepts(padded(255), &[x, w, (I32, &[2])], &[(I32, &[1, 2, 8])]);
    accepts(padded(-128), &[(I8, &[1, 4, 8]), w], &[(I32, &[1, 2, 8])]);
    refuses(padded(256), &[x, w], Invalid, "'a' u8[1, 4, 8] cannot be padded with 256");
    refuses(padded(-129), &[(I8, &[1, 4, 8]), w], Invalid, "'a' i8[1, 4, 8] cannot be padded with -129");
    let message = "'a' f32[1, 4, 8] cannot be padded with 1";
    refuses(padded(1), &[(F32, &[1, 4, 8]), (F32, &[2, 4, 3])], Invalid, message);
    let message = "the bias must be i32, but 'c' i8[2] was given";
    refuses(padded(0), &[x, w, (I8, &[2])], Shape, message);
}

#[test]
fn pooling() {
    let pool = |kind, window, ceil_mode| Op::Pool { kind, window, ceil_mode, format: Format::ChannelsFirst };
    let average = PoolKind::Average { count_include_pad: true };
    let message = "padding 2 is not smaller than the window's extent 2 in spatial dimension 0";
    refuses(
        pool(PoolKind::Max, window(&[2], &[1], &[1], &[2]), false),
        &[(F32, &[1, 1, 5])],
        Invalid,
        message,
    );
    let message = "'a' is u8, but a floating-point type is needed";
    refuses(pool(average, window(&[2], &[1], &[1], &[0]), false), &[(U8, &[1, 1, 5])], Shape, message);
    let message = "the window's extent 2 is larger than the padded input's 0 in spatial dimension 0";
    refuses(pool(PoolKind::Max, window(&[2], &[1], &[1], &[0]), true), &[(F32, &[1, 1, 0])], Shape, message);
    let message = "kernel has 1 entry, but 'a' f32[1, 1, 5, 5] has 2 spatial dimensions";
    refuses(pool(average, window(&[2], &[1], &[1], &[0]), false), &[(F32, &[1, 1, 5, 5])], Invalid, message);
    for (ceil_mode, extent) in [(false, 3), (true, 4)] {
        let op = pool(PoolKind::Max, window(&[3], &[2], &[1], &[0]), ceil_mode);
        accepts(op, &[(I64, &[0, 2, 8])], &[(I64, &[0, 2, extent])]);
    }
    // In ceil mode no window starts in the padding after the input.
    let op = pool(average, window(&[2], &[2], &[1], &[1]), true);
    accepts(op, &[(F32, &[1, 1, 3])], &[(F32, &[1, 1, 2])]);
    let global = |format| Op::GlobalPool { kind: PoolKind::Max, format };
    accepts(global(Format::ChannelsFirst), &[(F32, &[2, 3, 4, 5])], &[(F32, &[2, 3, 1, 1])]);
    accepts(global(Format::ChannelsLast), &[(F32, &[2, 3, 4, 5])], &[(F32, &[2, 1, 1, 5])]);
    let message = "needs at least 3 dimensions, but 'a' f32[2, 3] was given";
    refuses(global(Format::ChannelsLast), &[(F32, &[2, 3])], Shape, message);
}

#[test]
fn normalizations() {
    let format = Format::ChannelsFirst;
    let c: Operand = (F32, &[3]);
    let batch = |epsilon| Op::BatchNorm { epsilon, format };
    let x: Operand = (F32, &[2, 3]);
    let message = "epsilon must be a number that is not negative, not -1";
    refuses(batch(-1.0), &[x, c, c, c, c], Invalid, message);
    let message = "the mean must be [3], but 'd' f32[2] was given";
    refuses(batch(0.1), &[x, c, c, (F32, &[2]), c], Shape, message);
    refuses(batch(0.1), &[x, c, c, c], Invalid, "takes 5 operands, but 4 were given");
    let message = "operands must have one type, but 'a' is f32 and 'e' is f64";
    refuses(batch(0.1), &[x, c, c, c, (F64, &[3])], Shape, message);
    accepts(batch(0.0), &[x, c, c, c, c], &[x]);

    let layer = |axis| Op::LayerNorm { axis, epsilon: 0.1 };
    refuses(layer(2), &[x, c], Invalid, "axis 2 does not exist in 'a' f32[2, 3]");
    let message = "the bias 'c' f32[2, 1] does not broadcast to [3]";
    refuses(layer(1), &[x, c, (F32, &[2, 1])], Shape, message);
    accepts(layer(0), &[x, c, (F32, &[])], &[x]);
    let rms = Op::RmsNorm { axis: 1, epsilon: f64::NAN };
    refuses(rms, &[x, c], Invalid, "epsilon must be a number that is not negative, not NaN");

    let image: Operand = (F32, &[1, 3, 4]);
    let message = "needs at least 3 dimensions, but 'a' f32[2, 3] was given";
    refuses(Op::InstanceNorm { epsilon: 0.1, format }, &[x, c, c], Shape, message);
    let group = |groups| Op::GroupNorm { groups, epsilon: 0.1, format };
    refuses(group(2), &[image, c, c], Shape, "2 groups do not divide 3 channels");
    refuses(group(0), &[image, c, c], Invalid, "the number of groups must be at least 1");
    accepts(group(3), &[image, c, c], &[image]);

    refuses(Op::Softmax { axis: 0 }, &[(F32, &[])], Invalid, "axis 0 does not exist in 'a' f32[]");
    let message = "'a' is i64, but a floating-point type is needed";
    refuses(Op::LogSoftmax { axis: 0 }, &[(I64, &[2])], Shape, message);
    accepts(Op::Softmax { axis: 1 }, &[(F32, &[2, 0])], &[(F32, &[2, 0])]);
}

#[test]
fn reductions() {
    let reduce = |op, axes: &[usize], keep_dims| Op::Reduce { op, axes: axes.to_vec(), keep_dims };
    let x: Operand = (F32, &[2, 3, 4]);
    refuses(reduce(Reduction::Sum, &[1, 0], false), &[x], Invalid, "the axes [1, 0] are not ascending");
    refuses(reduce(Reduction::Sum, &[1, 1], false), &[x], Invalid, "the axes [1, 1] are not ascending");
    refuses(reduce(Reduction::Sum, &[3], false), &[x], Invalid, "axis 3 does not exist in 'a' f32[2, 3, 4]");
    refuses(reduce(Reduction::Any, &[0], false), &[x], Shape, "'a' is f32, but bool is needed");
    let message = "'a' is i32, but a floating-point type is needed";
    refuses(reduce(Reduction::Mean, &[0], false), &[(I32, &[2])], Shape, message);
    accepts(reduce(Reduction::Max, &[0, 2], false), &[x], &[(F32, &[3])]);
    accepts(reduce(Reduction::Max, &[0, 2], true), &[x], &[(F32, &[1, 3, 1])]);
    accepts(reduce(Reduction::Sum, &[], false), &[(I64, &[])], &[(I64, &[])]);

    let arg = |axis, keep_dims| Op::ArgReduce { max: true, axis, keep_dims, last: false };
    refuses(arg(3, false), &[x], Invalid, "axis 3 does not exist in 'a' f32[2, 3, 4]");
    refuses(arg(1, false), &[(F32, &[2, 0])], Shape, "'a' f32[2, 0] has no element along axis 1");
    accepts(arg(1, true), &[(F32, &[0, 0])], &[(I64, &[0, 1])]);
}

#[test]
fn reshaping_and_slicing() {
    let x: Operand = (F32, &[2, 3]);
    let reshape = |shape: &[usize]| Op::Reshape { shape: shape.to_vec() };
    refuses(reshape(&[4, 2]), &[x], Shape, "cannot reshape 'a' f32[2, 3] to [4, 2]: 6 and 8 elements");
    refuses(reshape(&[0]), &[x], Shape, "cannot reshape 'a' f32[2, 3] to [0]: 6 and 0 elements");
    let message = format!("a tensor of shape [{HUGE}, {HUGE}] is larger than the address space");
    refuses(reshape(&[HUGE, HUGE]), &[x], Limit, &message);
    accepts(reshape(&[]), &[(F32, &[1, 1])], &[(F32, &[])]);
    accepts(reshape(&[5, 0]), &[(F32, &[0])], &[(F32, &[5, 0])]);

    let transpose = |perm: &[usize]| Op::Transpose { perm: perm.to_vec() };
    for perm in [&[0][..], &[0, 0], &[0, 2], &[0, 1, 2]] {
        let message = format!("{perm:?} is not a permutation of the 2 dimensions of 'a' f32[2, 3]");
        refuses(transpose(perm), &[x], Invalid, &message);
    }
    accepts(transpose(&[]), &[(Bool, &[])], &[(Bool, &[])]);

    let slice = |starts: &[usize], extents: &[usize], steps: &[i64]| Op::Slice {
        starts: starts.to_vec(),
        extents: extents.to_vec(),
        steps: steps.to_vec(),
    };
    let message = "extents has 1 entry, but 'a' f32[2, 3] has 2 dimensions";
    refuses(slice(&[0, 0], &[1], &[1, 1]), &[x], Invalid, message);
    refuses(slice(&[0, 0], &[1, 1], &[1, 0]), &[x], Invalid, "the step of dimension 1 is 0");
    let message = "indices 0 to 4 lie outside dimension 1 of 'a' f32[2, 3]";
    refuses(slice(&[0, 0], &[1, 3], &[1, 2]), &[x], Shape, message);
    let message = "indices 1 to -1 lie outside dimension 1 of 'a' f32[2, 3]";
    refuses(slice(&[0, 1], &[1, 3], &[1, -1]), &[x], Shape, message);
    let message = "indices 3 to 3 lie outside dimension 1 of 'a' f32[2, 3]";
    refuses(slice(&[0, 3], &[1, 1], &[1, 1]), &[x], Shape, message);
    accepts(slice(&[0, 2], &[0, 3], &[1, -1]), &[x], &[(F32, &[0, 3])]);
}

#[test]
fn padding() {
    let pad = |begin: i64, end: i64, mode| Op::Pad { begin: vec![begin], end: vec![end], mode };
    let x: Operand = (F32, &[3]);
    let constant = PadMode::Constant(0.0);
    let message = "padding -2 and -2 leaves -1 elements in dimension 0 of 'a' f32[3]";
    refuses(pad(-2, -2, constant), &[x], Shape, message);
    let message = "edge padding of 1 has no element to copy in dimension 0 of 'a' f32[0]";
    refuses(pad(1, 0, PadMode::Edge), &[(F32, &[0])], Shape, message);
    let message = "wrap padding of 4 has no element to copy in dimension 0 of 'a' f32[3]";
    refuses(pad(-3, 4, PadMode::Wrap), &[x], Shape, message);
    let message = "reflect padding of 1 has no element to copy in dimension 0 of 'a' f32[0]";
    refuses(pad(0, 1, PadMode::Reflect), &[(F32, &[0])], Shape, message);
    accepts(pad(7, 3, PadMode::Reflect), &[x], &[(F32, &[13])]);
    accepts(pad(-1, 9, PadMode::Wrap), &[x], &[(F32, &[11])]);
    let message = "begin has 1 entry, but 'a' f32[] has 0 dimensions";
    refuses(pad(1, 1, constant), &[(F32, &[])], Invalid, message);
    let message = "padding of more than 2305843009213693951 in dimension 0";
    refuses(pad(i64::MIN, i64::MAX, constant), &[x], Limit, message);
    accepts(pad(2, 2, PadMode::Reflect), &[x], &[(F32, &[7])]);
    accepts(pad(-1, -2, PadMode::Reflect), &[x], &[(F32, &[0])]);
    accepts(pad(0, 0, PadMode::Edge), &[(F32, &[0])], &[(F32, &[0])]);
}

#[test]
fn joining_cutting_and_picking() {
    let x: Operand = (F32, &[2, 3]);
    let concat = |axis| Op::Concat { axis };
    refuses(concat(0), &[], Invalid, "takes at least 1 operand, but 0 were given");
    refuses(concat(2), &[x], Invalid, "axis 2 does not exist in 'a' f32[2, 3]");
    let message = "'a' f32[2, 3] and 'b' f32[3, 3] differ in more than dimension 1";
    refuses(concat(1), &[x, (F32, &[3, 3])], Shape, message);
    let message = "'a' f32[2, 3] and 'b' f32[2] differ in more than dimension 1";
    refuses(concat(1), &[x, (F32, &[2])], Shape, message);
    accepts(concat(1), &[x, (F32, &[2, 0]), x], &[(F32, &[2, 6])]);

    let split = |sizes: &[usize]| Op::Split { axis: 1, sizes: sizes.to_vec() };
    refuses(split(&[]), &[x], Invalid, "a split needs at least 1 part");
    let message = "parts of [2, 2] make 4, but dimension 1 of 'a' f32[2, 3] has 3";
    refuses(split(&[2, 2]), &[x], Shape, message);
    accepts(split(&[0, 3]), &[x], &[(F32, &[2, 0]), (F32, &[2, 3])]);

    let gather = |axis| Op::Gather { axis };
    refuses(gather(2), &[x, (I64, &[])], Invalid, "axis 2 does not exist in 'a' f32[2, 3]");
    let message = "indices must be i64 or i32, but 'b' u8[4] was given";
    refuses(gather(0), &[x, (U8, &[4])], Shape, message);
    accepts(gather(1), &[x, (I32, &[4, 5])], &[(F32, &[2, 4, 5])]);
    accepts(gather(0), &[x, (I64, &[])], &[(F32, &[3])]);

    let expand = |shape: &[usize]| Op::Expand { shape: shape.to_vec() };
    let message = "the operand 'a' f32[2, 3] does not broadcast to [3]";
    refuses(expand(&[3]), &[x], Shape, message);
    let message = "the operand 'a' f32[2, 3] does not broadcast to [2, 6]";
    refuses(expand(&[2, 6]), &[x], Shape, message);
    accepts(expand(&[0, 2, 3]), &[x], &[(F32, &[0, 2, 3])]);
}

#[test]
fn recurrent_layers() {
    let op = |kind, activations: &[Unary], clip| Op::Recurrent {
        kind,
        hidden: 4,
        direction: Direction::Forward,
        activations: activations.to_vec(),
        clip,
    };
    let rnn = |clip| op(RecurrentKind::Rnn, &[Unary::Tanh], clip);
    let (x, w, r): (Operand, Operand, Operand) = ((F32, &[5, 2, 3]), (F32, &[1, 4, 3]), (F32, &[1, 4, 4]));
    refuses(rnn(None), &[x, w], Invalid, "takes 3 to 5 operands, but 2 were given");
    let message = "the sequence must be [steps, batch, features], not 'a' f32[2, 3]";
    refuses(rnn(None), &[(F32, &[2, 3]), w, r], Shape, message);
    let message = "the input weight must be [1, 4, 3], but 'b' f32[1, 4, 4] was given";
    refuses(rnn(None), &[x, r, r], Shape, message);
    let message = "the recurrent weight must be [1, 4, 4], but 'c' f32[1, 4, 3] was given";
    refuses(rnn(None), &[x, w, w], Shape, message);
    let message = "the bias must be [1, 8], but 'd' f32[1, 4] was given";
    refuses(rnn(None), &[x, w, r, (F32, &[1, 4])], Shape, message);
    let message = "the initial state must be [1, 2, 4], but 'e' f32[2, 4] was given";
    refuses(rnn(None), &[x, w, r, (F32, &[1, 8]), (F32, &[2, 4])], Shape, message);
    let message = "the clip bound must be a number that is not negative";
    refuses(rnn(Some(-1.0)), &[x, w, r], Invalid, message);
    let message = "needs 1 activation, but 2 were given";
    refuses(op(RecurrentKind::Rnn, &[Unary::Tanh; 2], None), &[x, w, r], Invalid, message);
    let message = "IsNaN is not an activation of a recurrent layer";
    refuses(op(RecurrentKind::Rnn, &[Unary::IsNan], None), &[x, w, r], Invalid, message);
    let message = "'a' is i32, but a floating-point type is needed";
    refuses(rnn(None), &[(I32, &[5, 2, 3]), (I32, &[1, 4, 3]), (I32, &[1, 4, 4])], Shape, message);
    let huge = Op::Recurrent {
        kind: RecurrentKind::Lstm,
        hidden: usize::MAX / 2,
        direction: Direction::Forward,
        activations: vec![],
        clip: None,
    };
    let message = format!("a hidden size of {} is larger than the address space", usize::MAX / 2);
    refuses(huge, &[x, w, r], Limit, &message);

    accepts(rnn(None), &[x, w, r], &[(F32, &[5, 1, 2, 4]), (F32, &[1, 2, 4])]);
    let lstm = op(RecurrentKind::Lstm, &[Unary::Sigmoid, Unary::Tanh, Unary::Tanh], Some(0.0));
    let state: Operand = (F32, &[1, 2, 4]);
    let weights: [Operand; 3] = [(F32, &[1, 16, 3]), (F32, &[1, 16, 4]), (F32, &[1, 32])];
    let operands = [x, weights[0], weights[1], weights[2], state, state];
    accepts(lstm, &operands, &[(F32, &[5, 1, 2, 4]), state, state]);
}

#[test]
fn recurrent_layers_with_a_state_in_8_bits() {
    let op = |hidden| Op::DynamicQuantizeLstm {
        hidden,
        direction: Direction::Bidirectional,
        activations: [Unary::Sigmoid, Unary::Tanh, Unary::Tanh].repeat(2),
        clip: None,
    };
    let (x, r): (Operand, Operand) = ((F32, &[5, 2, 32]), (I8, &[2, 16, 4]));
    let (scale, zero, state): (Operand, Operand, Operand) =
        ((F32, &[2, 16]), (I32, &[2, 16]), (F32, &[2, 2, 4]));
    refuses(op(4), &[x, r, scale], Invalid, "takes 4 to 6 operands, but 3 were given");
    let message = "i8 is needed, but 'b' u8[2, 16, 4] was given";
    refuses(op(4), &[x, (U8, &[2, 16, 4]), scale, zero], Shape, message);
    let message = "'a' f32[5, 2, 16] does not fit 2 times 16 columns of products";
    refuses(op(4), &[(F32, &[5, 2, 16]), r, scale, zero], Shape, message);
    let message = "the recurrent weight must be [2, 16, 4], but 'b' i8[2, 4, 16] was given";
    refuses(op(4), &[x, (I8, &[2, 4, 16]), scale, zero], Shape, message);
    let message = "the zero point of the recurrent weight must be [2, 16], but 'd' i32[2] was given";
    refuses(op(4), &[x, r, scale, (I32, &[2])], Shape, message);
    let message = "the initial cell must be [2, 2, 4], but 'f' f32[2, 4] was given";
    refuses(op(4), &[x, r, scale, zero, state, (F32, &[2, 4])], Shape, message);
    let message = "sums of 40000 products can leave 32 bits, which hold those of 33025 at most";
    refuses(op(40000), &[x, r, scale, zero], Limit, message);
    accepts(op(4), &[x, r, scale, zero, state], &[(F32, &[5, 2, 2, 4]), state, state]);
}
