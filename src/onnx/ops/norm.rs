//! Normalisations.

use super::super::limit;
use super::{AS_COMPUTED, Halt, NodeCx, OpEntry, Result, axes, extent, one, op};
use crate::graph::{Binary, Format, Op, PoolKind, Reduction, Unary, ValueId, Window};

pub(super) const OPS: &[OpEntry] = &[
    op("BatchNormalization", 1, batch).in_f32(&[0, 3, 4]),
    op("GroupNormalization", 18, group).in_f32(&[0]),
    op("InstanceNormalization", 1, instance),
    op("LRN", 1, local_response).in_f32(&[0]),
    // ONNX Runtime has it in operator sets that are older than ONNX's.
    op("LayerNormalization", 1, layer).in_f32(&[0, AS_COMPUTED]),
    op("LpNormalization", 1, lp).in_f32(&[0]),
    op("MeanVarianceNormalization", 9, mean_variance).in_f32(&[0]),
    op("RMSNormalization", 23, rms).in_f32(&[1]),
];

const FORMAT: Format = Format::ChannelsFirst;

pub(super) fn batch(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.attributes.ignore(&["momentum", "consumed_inputs"]);
    let training = match cx.opset {
        ..7 => !cx.flag("is_test", false)?,
        7..14 => (1..5).any(|i| cx.wants(i)),
        _ => cx.flag("training_mode", false)?,
    };
    if training && cx.opset < 14 {
        return Err(Halt::unsupported("training is not supported"));
    }
    if cx.opset < 9 && !cx.flag("spatial", true)? {
        return Err(Halt::unsupported("the attribute 'spatial' is 0, which is not supported"));
    }
    let epsilon = cx.float("epsilon", 1e-5f32.into())?;
    let x = cx.input(0)?;
    // A vector has one channel per element.
    if cx.rank(x) == 1 {
        return Err(Halt::unsupported("an operand of rank 1 is not supported"));
    }
    let inputs = [x, cx.input(1)?, cx.input(2)?, cx.input(3)?, cx.input(4)?];
    // The statistics may be of another type than the operand.
    let mut same = inputs;
    for (i, input) in inputs.into_iter().enumerate().skip(1) {
        same[i] = cx.cast(input, cx.dtype(x))?;
    }
    if !training {
        return one(cx.add(Op::BatchNorm { epsilon, format: FORMAT }, &same));
    }
    let momentum = cx.float("momentum", 0.9f32.into())?;
    let others: Vec<usize> = (0..cx.rank(x)).filter(|d| *d != 1).collect();
    let mean = cx.reduce(Reduction::Mean, x, &others, true)?;
    let centred = cx.binary(Binary::Sub, x, mean)?;
    let squares = cx.unary(Unary::Square, centred)?;
    let variance = cx.reduce(Reduction::Mean, squares, &others, false)?;
    let channels = cx.shape(variance);
    let mean = cx.reshape(mean, &channels)?;
    let [_, scale, bias, ..] = same;
    let mut results =
        vec![cx.add(Op::BatchNorm { epsilon, format: FORMAT }, &[x, scale, bias, mean, variance])?];
    for (i, current) in [(3, mean), (4, variance)] {
        let before = cx.binary_const(Binary::Mul, same[i], momentum)?;
        let now = cx.binary_const(Binary::Mul, current, 1.0 - momentum)?;
        let running = cx.binary(Binary::Add, before, now)?;
        results.push(cx.cast(running, cx.dtype(inputs[i]))?);
    }
    Ok(results)
}

pub(super) fn instance(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.attributes.ignore(&["consumed_inputs"]);
    let epsilon = cx.float("epsilon", 1e-5f32.into())?;
    let inputs = [cx.input(0)?, cx.input(1)?, cx.input(2)?];
    one(cx.add(Op::InstanceNorm { epsilon, format: FORMAT }, &inputs))
}

fn group(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    // The precision of the statistics: never less here than what is asked for.
    cx.attributes.ignore(&["stash_type"]);
    let epsilon = cx.float("epsilon", 1e-5f32.into())?;
    let groups = extent(cx.required_int("num_groups")?, "num_groups")?;
    let (x, mut scale, mut bias) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    // Up to version 20 scale and bias are per group.
    if cx.opset < 21 {
        let channels = cx.shape(x).get(1).copied().unwrap_or(0);
        if groups == 0 || !channels.is_multiple_of(groups) {
            return Err(Halt::shape(format!("{groups} groups do not divide {channels} channels")));
        }
        for value in [&mut scale, &mut bias] {
            let column = cx.reshape(*value, &[groups, 1])?;
            let spread = cx.expand(column, &[groups, channels / groups])?;
            *value = cx.reshape(spread, &[channels])?;
        }
    }
    one(cx.add(Op::GroupNorm { groups, epsilon, format: FORMAT }, &[x, scale, bias]))
}

fn layer(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.attributes.ignore(&["stash_type"]);
    let epsilon = cx.float("epsilon", 1e-5f32.into())?;
    let x = cx.input(0)?;
    let axis = cx.axis(-1, cx.rank(x))?;
    let (scale, bias) = (cx.input(1)?, cx.optional(2));
    let mut results = vec![normalized(cx, Op::LayerNorm { axis, epsilon }, axis, x, scale, bias)?];
    if cx.wants(1) || cx.wants(2) {
        results.extend(statistics(cx, x, axis, epsilon)?);
    }
    Ok(results)
}

/// The mean of the dimensions from `axis` on, and the reciprocal of the standard deviation.
pub(super) fn statistics(cx: &mut NodeCx<'_>, x: ValueId, axis: usize, epsilon: f64) -> Result<[ValueId; 2]> {
    let axes: Vec<usize> = (axis..cx.rank(x)).collect();
    let mean = cx.reduce(Reduction::Mean, x, &axes, true)?;
    let centred = cx.binary(Binary::Sub, x, mean)?;
    let squares = cx.unary(Unary::Square, centred)?;
    let variance = cx.reduce(Reduction::Mean, squares, &axes, true)?;
    let shifted = cx.binary_const(Binary::Add, variance, epsilon)?;
    Ok([mean, cx.unary(Unary::Rsqrt, shifted)?])
}

fn rms(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.attributes.ignore(&["stash_type"]);
    let epsilon = cx.float("epsilon", 1e-5f32.into())?;
    let (x, scale) = (cx.input(0)?, cx.input(1)?);
    let axis = cx.axis(-1, cx.rank(x))?;
    one(normalized(cx, Op::RmsNorm { axis, epsilon }, axis, x, scale, None))
}

/// `x` normalised over the dimensions from `axis` on, scaled and shifted by what broadcasts to it. The core operation
/// takes a scale and a bias that broadcast to these dimensions; others are applied to what it yields.
pub(super) fn normalized(
    cx: &mut NodeCx<'_>,
    op: Op,
    axis: usize,
    x: ValueId,
    scale: ValueId,
    bias: Option<ValueId>,
) -> Result<ValueId> {
    let shape = cx.shape(x);
    for (value, what) in [(Some(scale), "scale"), (bias, "bias")] {
        let Some(given) = value.map(|value| cx.shape(value)) else { continue };
        if crate::graph::infer::broadcast_shapes(&[&shape, &given]).as_ref() != Some(&shape) {
            return Err(Halt::shape(format!("the {what} {given:?} does not broadcast to {shape:?}")));
        }
    }
    // Leading dimensions of 1 say nothing.
    let within = |cx: &mut NodeCx<'_>, value: ValueId| {
        let given = cx.shape(value);
        let leading = given.len().saturating_sub(shape.len() - axis);
        match given[..leading].iter().all(|n| *n == 1) {
            true => cx.reshape(value, &given[leading..]).map(Some),
            false => Ok(None),
        }
    };
    let inner_scale = within(cx, scale)?;
    let inner_bias = match bias {
        Some(bias) if inner_scale.is_some() => within(cx, bias)?,
        _ => None,
    };
    let ones = match inner_scale {
        Some(scale) => scale,
        None => cx.scalar_like(x, 1.0),
    };
    let mut inputs = vec![x, ones];
    inputs.extend(inner_bias);
    let mut y = cx.add(op, &inputs)?;
    if inner_scale.is_none() {
        y = cx.binary(Binary::Mul, y, scale)?;
    }
    match bias {
        Some(bias) if inner_bias.is_none() => cx.binary(Binary::Add, y, bias),
        _ => Ok(y),
    }
}

fn lp(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let axis = cx.axis(-1, cx.rank(x))?;
    let op = match cx.int("p", 2)? {
        1 => Reduction::L1,
        2 => Reduction::L2,
        p => return Err(Halt::invalid(format!("p must be 1 or 2, not {p}"))),
    };
    let norm = cx.reduce(op, x, &[axis], true)?;
    let y = cx.binary(Binary::Div, x, norm)?;
    // 0 has no direction: it stays 0.
    let zero = cx.binary_const(Binary::Eq, norm, 0.0)?;
    let nothing = cx.scalar_like(x, 0.0);
    one(cx.select(zero, nothing, y))
}

fn mean_variance(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let list = cx.attributes.ints("axes")?.unwrap_or(&[0, 2, 3]);
    let axes = axes(list, cx.rank(x))?;
    let mean = cx.reduce(Reduction::Mean, x, &axes, true)?;
    let centred = cx.binary(Binary::Sub, x, mean)?;
    let squares = cx.unary(Unary::Square, centred)?;
    let variance = cx.reduce(Reduction::Mean, squares, &axes, true)?;
    let deviation = cx.unary(Unary::Sqrt, variance)?;
    let deviation = cx.binary_const(Binary::Add, deviation, 1e-9)?;
    one(cx.binary(Binary::Div, centred, deviation))
}

/// `x / (bias + alpha * mean of the squares of neighbouring channels)^beta`; the mean is a pooling along channels.
pub(super) fn local_response(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let (alpha, beta) = (cx.float("alpha", 1e-4f32.into())?, cx.float("beta", 0.75)?);
    let bias = cx.float("bias", 1.0)?;
    let size = extent(cx.required_int("size")?, "size")?;
    let shape = cx.shape(x);
    if shape.len() < 2 || size == 0 {
        return Err(Halt::shape(format!(
            "a window of {size} channels is impossible in a tensor of shape {shape:?}"
        )));
    }
    limit::check_kernel(&[size])?;
    if shape.contains(&0) {
        return one(Ok(x));
    }
    let squares = cx.unary(Unary::Square, x)?;
    let image = [shape[0], 1, shape[1], shape[2..].iter().product()];
    let squares = cx.reshape(squares, &image)?;
    let window = Window {
        kernel: vec![size, 1],
        strides: vec![1, 1],
        dilations: vec![1, 1],
        pads_begin: vec![(size - 1) / 2, 0],
        pads_end: vec![size / 2, 0],
    };
    let kind = PoolKind::Average { count_include_pad: true };
    let mean = cx.add(Op::Pool { kind, window, ceil_mode: false, format: FORMAT }, &[squares])?;
    let mean = cx.reshape(mean, &shape)?;
    let scaled = cx.binary_const(Binary::Mul, mean, alpha)?;
    let shifted = cx.binary_const(Binary::Add, scaled, bias)?;
    let divisor = cx.binary_const(Binary::Pow, shifted, beta)?;
    one(cx.binary(Binary::Div, x, divisor))
}
