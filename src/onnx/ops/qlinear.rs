//! ONNX Runtime's own operators on quantised tensors: what the operator without the `Q` computes of the numbers that the
//! integers stand for, quantised again. Products are sums of integers.

use nestjit_ir::DType;

use super::microsoft::attention::{Inputs, expect_off, self_attention};
use super::microsoft::layout::channels_last;
use super::pool::{max, mean_of_whole_windows, pooling_window};
use super::quantize::{
    dequantize_linear, dequantized, dynamic_quantize, expect_small, less_zero, matrix_zero, number,
    qlinear_conv, quantize, quantize_linear, requantize,
};
use super::{Halt, NodeCx, OpEntry, Result, axes, axis, contrib, one};
use crate::graph::{Binary, Format, Op, PoolKind, Reduction, Unary, ValueId};

pub(super) const OPS: &[OpEntry] = &[
    contrib("DequantizeLinear", dequantize_linear),
    contrib("DynamicQuantizeMatMul", dynamic_quantize_matmul),
    contrib("MatMulInteger16", matmul_integer16),
    contrib("MatMulIntegerToFloat", matmul_integer_to_float),
    contrib("NhwcMaxPool", |cx| {
        cx.expect_inputs(1)?;
        let x = cx.input(0)?;
        expect_small(cx, x)?;
        channels_last(cx, max)
    }),
    contrib("QAttention", attention).in_f32(&[2]),
    contrib("QGemm", gemm),
    contrib("QLinearAdd", |cx| binary(cx, Binary::Add)),
    contrib("QLinearAveragePool", |cx| match format(cx)? {
        Format::ChannelsFirst => average_pool(cx),
        Format::ChannelsLast => channels_last(cx, average_pool),
    }),
    contrib("QLinearConcat", concat),
    contrib("QLinearConv", |cx| match format(cx)? {
        Format::ChannelsFirst => qlinear_conv(cx),
        Format::ChannelsLast => channels_last(cx, qlinear_conv),
    }),
    contrib("QLinearGlobalAveragePool", global_average_pool),
    contrib("QLinearLeakyRelu", |cx| {
        let alpha = cx.float("alpha", 0.01)?;
        unary(cx, |cx, x| cx.unary(Unary::LeakyRelu { alpha }, x))
    }),
    contrib("QLinearMul", |cx| binary(cx, Binary::Mul)),
    contrib("QLinearReduceMean", reduce_mean),
    contrib("QLinearSigmoid", |cx| unary(cx, |cx, x| cx.unary(Unary::Sigmoid, x))),
    contrib("QLinearSoftmax", softmax),
    contrib("QLinearWhere", select),
    contrib("QuantizeLinear", quantize_linear),
];

/// What the integers of an input stand for, whose scale and zero point are the next two; and their type.
fn operand(cx: &mut NodeCx<'_>, at: usize) -> Result<(ValueId, DType)> {
    let x = cx.input(at)?;
    expect_small(cx, x)?;
    let dtype = cx.dtype(x);
    let scale = number(cx, at + 1, None)?;
    let zero = optional_number(cx, at + 2, dtype)?;
    Ok((dequantized(cx, x, scale, zero)?, dtype))
}

/// A zero point that may be left out.
fn optional_number(cx: &mut NodeCx<'_>, at: usize, dtype: DType) -> Result<Option<ValueId>> {
    cx.optional(at).map(|_| number(cx, at, Some(dtype))).transpose()
}

/// `y` quantised to a type, with the scale at an input and the zero point at the next one.
fn result(cx: &mut NodeCx<'_>, y: ValueId, at: usize, dtype: DType) -> Result<Vec<ValueId>> {
    let scale = number(cx, at, None)?;
    let zero = optional_number(cx, at + 1, dtype)?;
    one(quantize(cx, y, scale, zero, dtype))
}

fn unary(
    cx: &mut NodeCx<'_>,
    map: impl FnOnce(&mut NodeCx<'_>, ValueId) -> Result<ValueId>,
) -> Result<Vec<ValueId>> {
    let (x, dtype) = operand(cx, 0)?;
    let y = map(cx, x)?;
    result(cx, y, 3, dtype)
}

fn binary(cx: &mut NodeCx<'_>, op: Binary) -> Result<Vec<ValueId>> {
    let ((a, dtype), (b, other)) = (operand(cx, 0)?, operand(cx, 3)?);
    if dtype != other {
        return Err(Halt::shape(format!("the operands must have one type, not {dtype} and {other}")));
    }
    let y = cx.binary(op, a, b)?;
    result(cx, y, 6, dtype)
}

fn select(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let condition = cx.input(0)?;
    let ((a, dtype), (b, _)) = (operand(cx, 1)?, operand(cx, 4)?);
    let y = cx.select(condition, a, b)?;
    result(cx, y, 7, dtype)
}

fn concat(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let zero = cx.input(1)?;
    let dtype = cx.dtype(zero);
    if cx.input_count() < 5 || !(cx.input_count() - 2).is_multiple_of(3) {
        return Err(Halt::invalid("each tensor must come with a scale and a zero point"));
    }
    let parts: Vec<ValueId> =
        (2..cx.input_count()).step_by(3).map(|at| Ok(operand(cx, at)?.0)).collect::<Result<_>>()?;
    let axis = axis(cx.required_int("axis")?, cx.rank(parts[0]))?;
    let y = cx.concat(&parts, axis)?;
    result(cx, y, 0, dtype)
}

/// Where the channels are.
fn format(cx: &NodeCx<'_>) -> Result<Format> {
    Ok(if cx.flag("channels_last", false)? { Format::ChannelsLast } else { Format::ChannelsFirst })
}

pub(super) fn average_pool(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let (x, dtype) = operand(cx, 0)?;
    let window = pooling_window(cx, x)?;
    let ceil_mode = cx.flag("ceil_mode", false)?;
    let y = match cx.flag("count_include_pad", false)? {
        true => mean_of_whole_windows(cx, x, window, ceil_mode)?,
        false => {
            let kind = PoolKind::Average { count_include_pad: false };
            cx.add(Op::Pool { kind, window, ceil_mode, format: Format::ChannelsFirst }, &[x])?
        }
    };
    result(cx, y, 3, dtype)
}

fn global_average_pool(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let (x, dtype) = operand(cx, 0)?;
    let kind = PoolKind::Average { count_include_pad: false };
    let y = cx.add(Op::GlobalPool { kind, format: format(cx)? }, &[x])?;
    result(cx, y, 3, dtype)
}

fn reduce_mean(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let (x, dtype) = operand(cx, 0)?;
    let rank = cx.rank(x);
    let axes = match cx.attributes.ints("axes")? {
        Some(list) => axes(list, rank)?,
        None => (0..rank).collect(),
    };
    let keep_dims = cx.flag("keepdims", true)?;
    let y = cx.reduce(Reduction::Mean, x, &axes, keep_dims)?;
    result(cx, y, 3, dtype)
}

fn softmax(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let (x, dtype) = operand(cx, 0)?;
    let shape = cx.shape(x);
    let axis = cx.axis(-1, shape.len())?;
    // The version of the operator that it stands for: up to 12, the dimensions from `axis` on count as one.
    let y = if cx.required_int("opset")? >= 13 || axis + 1 == shape.len() {
        cx.add(Op::Softmax { axis }, &[x])?
    } else {
        let flat = [shape[..axis].iter().product(), shape[axis..].iter().product()];
        let flat = cx.reshape(x, &flat)?;
        let y = cx.add(Op::Softmax { axis: 1 }, &[flat])?;
        cx.reshape(y, &shape)?
    };
    result(cx, y, 3, dtype)
}

fn gemm(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let (a, b) = (cx.input(0)?, cx.input(3)?);
    expect_small(cx, a)?;
    expect_small(cx, b)?;
    let (trans_a, trans_b) = (cx.flag("transA", false)?, cx.flag("transB", false)?);
    let alpha = cx.float("alpha", 1.0)?;
    let a_scale = number(cx, 1, None)?;
    let a_zero = optional_number(cx, 2, cx.dtype(a))?;
    // One per column, or one.
    let b_scale = cx.input(4)?;
    cx.expect_float(b_scale)?;
    let b_zero = match cx.optional(5) {
        Some(zero) if trans_b && cx.elements(zero) > 1 => {
            let columns = cx.elements(zero);
            Some(cx.reshape(zero, &[columns, 1])?)
        }
        zero => zero,
    };
    let (a, b) = (less_zero(cx, a, a_zero)?, less_zero(cx, b, b_zero)?);
    let op = Op::Gemm { alpha: 1.0, beta: 1.0, trans_a, trans_b };
    let mut operands = vec![a, b];
    operands.extend(cx.optional(6));
    let sums = cx.add(op, &operands)?;
    let mut scale = a_scale;
    if alpha != 1.0 {
        scale = cx.binary_const(Binary::Mul, scale, alpha)?;
    }
    if cx.optional(7).is_none() {
        let scale = cx.binary(Binary::Mul, scale, b_scale)?;
        let y = cx.cast(sums, cx.dtype(scale))?;
        return one(cx.binary(Binary::Mul, y, scale));
    }
    let y_scale = number(cx, 7, None)?;
    let zero = cx.input(8)?;
    expect_small(cx, zero)?;
    let zero = number(cx, 8, Some(cx.dtype(zero)))?;
    one(requantize(cx, sums, [scale, b_scale, y_scale], zero))
}

/// Attention whose projection is a product of integers.
fn attention(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.expect_inputs(9)?;
    expect_off(cx, &["do_rotary", "past_present_share_buffer"])?;
    let (x, weight, bias) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    expect_small(cx, x)?;
    expect_small(cx, weight)?;
    let scales = [number(cx, 3, None)?, cx.input(4)?];
    cx.expect_float(scales[1])?;
    let x_zero = optional_number(cx, 6, cx.dtype(x))?;
    let w_zero = matrix_zero(cx, cx.optional(7), false)?;
    let (&[_, _, _], &[_, width]) = (&cx.shape(x)[..], &cx.shape(weight)[..]) else {
        return Err(Halt::shape(format!(
            "input and weights must be of rank 3 and 2, but their shapes are {:?} and {:?}",
            cx.shape(x),
            cx.shape(weight)
        )));
    };
    if !width.is_multiple_of(3) || cx.shape(bias) != [width] {
        let shape = cx.shape(bias);
        return Err(Halt::shape(format!(
            "{width} columns of weights and a bias of shape {shape:?} do not fit"
        )));
    }
    let (x, weight) = (less_zero(cx, x, x_zero)?, less_zero(cx, weight, w_zero)?);
    let sums = cx.add(Op::MatMul, &[x, weight])?;
    let y = scaled_sums(cx, sums, scales, Some(bias))?[0];
    let mut parts = [y; 3];
    for (i, part) in parts.iter_mut().enumerate() {
        *part = cx.narrow(y, 2, i * (width / 3), width / 3)?;
    }
    self_attention(cx, parts, Inputs { mask: Some(5), past: Some(8), bias: None })
}

/// Products of 16 bits, whose sums may wrap.
fn matmul_integer16(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.expect_inputs(2)?;
    let mut operands = [cx.input(0)?, cx.input(1)?];
    let unsigned = operands.iter().all(|x| cx.dtype(*x) == DType::U16);
    let to = if unsigned { DType::U32 } else { DType::I32 };
    for operand in &mut operands {
        cx.expect_type(*operand, |dtype| matches!(dtype, DType::I16 | DType::U16), "i16 or u16")?;
        *operand = cx.cast(*operand, to)?;
    }
    one(cx.add(Op::MatMul, &operands))
}

/// `sums * (a_scale * b_scale) + bias`.
fn scaled_sums(
    cx: &mut NodeCx<'_>,
    sums: ValueId,
    scales: [ValueId; 2],
    bias: Option<ValueId>,
) -> Result<Vec<ValueId>> {
    let scale = cx.binary(Binary::Mul, scales[0], scales[1])?;
    let y = cx.cast(sums, cx.dtype(scale))?;
    let y = cx.binary(Binary::Mul, y, scale)?;
    match bias {
        Some(bias) => one(cx.binary(Binary::Add, y, bias)),
        None => Ok(vec![y]),
    }
}

fn matmul_integer_to_float(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    expect_small(cx, a)?;
    expect_small(cx, b)?;
    let scales = [number(cx, 2, None)?, cx.input(3)?];
    cx.expect_float(scales[1])?;
    let a_zero = optional_number(cx, 4, cx.dtype(a))?;
    let b_zero = matrix_zero(cx, cx.optional(5), false)?;
    let (a, b) = (less_zero(cx, a, a_zero)?, less_zero(cx, b, b_zero)?);
    let sums = cx.add(Op::MatMul, &[a, b])?;
    let bias = cx.optional(6);
    scaled_sums(cx, sums, scales, bias)
}

fn dynamic_quantize_matmul(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let (a, b, b_scale) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    cx.expect_float(a)?;
    expect_small(cx, b)?;
    cx.expect_float(b_scale)?;
    let [a, a_scale, a_zero] = dynamic_quantize(cx, a)?;
    let b_zero = matrix_zero(cx, cx.optional(3), false)?;
    let (a, b) = (less_zero(cx, a, Some(a_zero))?, less_zero(cx, b, b_zero)?);
    let sums = cx.add(Op::MatMul, &[a, b])?;
    let bias = cx.optional(4);
    scaled_sums(cx, sums, [a_scale, b_scale], bias)
}
