//! Normalisations of sums, and with an activation behind them.

use super::{AS_COMPUTED, Halt, NodeCx, OpEntry, Result, contrib, extent, normalized, one, op, statistics};
use crate::graph::{Binary, Format, Op, Reduction, Unary, ValueId};

pub(in super::super) const OPS: &[OpEntry] = &[
    contrib("GroupNorm", |cx| {
        cx.expect_inputs(3)?;
        let x = cx.input(0)?;
        one(group_norm(cx, x))
    })
    .in_f32(&[0]),
    // ONNX Runtime has it in the default domain.
    op("SimplifiedLayerNormalization", 1, simplified_layer_norm).in_f32(&[1, AS_COMPUTED]),
    contrib("SkipGroupNorm", skip_group_norm).in_f32(&[0]),
    contrib("SkipLayerNormalization", |cx| {
        cx.expect_inputs(5)?;
        skip_layer_norm(cx, Some(3), 4)
    })
    .in_f32(SKIP),
    contrib("SkipSimplifiedLayerNormalization", |cx| {
        cx.expect_inputs(4)?;
        skip_layer_norm(cx, None, 3)
    })
    .in_f32(SKIP),
];

/// What is normalised is the last result, statistics are before it.
const SKIP: &[usize] = &[0, AS_COMPUTED, AS_COMPUTED, 0];

/// `1 / sqrt(mean of squares + epsilon)` over the dimensions from `axis` on.
fn inverse_root_mean_square(cx: &mut NodeCx<'_>, x: ValueId, axis: usize, epsilon: f64) -> Result<ValueId> {
    let axes: Vec<usize> = (axis..cx.rank(x)).collect();
    let squares = cx.unary(Unary::Square, x)?;
    let mean = cx.reduce(Reduction::Mean, squares, &axes, true)?;
    let shifted = cx.binary_const(Binary::Add, mean, epsilon)?;
    cx.unary(Unary::Rsqrt, shifted)
}

fn simplified_layer_norm(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.expect_inputs(2)?;
    // The precision of the statistics: never less here than what is asked for.
    cx.attributes.ignore(&["stash_type"]);
    let epsilon = cx.float("epsilon", 1e-5f32.into())?;
    let (x, scale) = (cx.input(0)?, cx.input(1)?);
    cx.expect_float(x)?;
    let axis = cx.axis(-1, cx.rank(x))?;
    let mut results = vec![normalized(cx, Op::RmsNorm { axis, epsilon }, axis, x, scale, None)?];
    if cx.wants(1) {
        results.push(inverse_root_mean_square(cx, x, axis, epsilon)?);
    }
    Ok(results)
}

/// The layer normalisation of a sum, its statistics, and the sum. With the number of an input for the shift, it is the
/// usual one; without, that by the root of the mean of squares. `bias` is the number of the input that is added, too.
fn skip_layer_norm(cx: &mut NodeCx<'_>, beta: Option<usize>, bias: usize) -> Result<Vec<ValueId>> {
    let epsilon = cx.float("epsilon", 1e-12f32.into())?;
    let (x, skip, gamma) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    cx.expect_float(x)?;
    let shape = cx.shape(x);
    let Some(axis) = shape.len().checked_sub(1) else {
        return Err(Halt::shape("the operand must have a dimension"));
    };
    let mut sum = x;
    for (addend, what) in [(Some(skip), "residual"), (cx.optional(bias), "bias")] {
        let Some(addend) = addend else { continue };
        sum = cx.binary(Binary::Add, sum, addend)?;
        if cx.shape(sum) != shape {
            let other = cx.shape(addend);
            return Err(Halt::shape(format!(
                "the {what} of shape {other:?} does not broadcast to {shape:?}"
            )));
        }
    }
    let (op, shift) = match beta {
        Some(beta) => (Op::LayerNorm { axis, epsilon }, cx.optional(beta)),
        None => (Op::RmsNorm { axis, epsilon }, None),
    };
    let y = normalized(cx, op, axis, sum, gamma, shift)?;
    if !cx.wants(1) && !cx.wants(2) {
        // Nobody reads what stands for them.
        return Ok(vec![y, y, y, sum]);
    }
    let [mean, inverse] = match beta {
        Some(_) => statistics(cx, sum, axis, epsilon)?,
        None if cx.wants(1) => {
            return Err(Halt::unsupported(
                "the mean of a normalisation that subtracts none is not supported",
            ));
        }
        None => [inverse_root_mean_square(cx, sum, axis, epsilon)?; 2],
    };
    Ok(vec![y, mean, inverse, sum])
}

fn format(cx: &NodeCx<'_>) -> Result<Format> {
    Ok(if cx.flag("channels_last", true)? { Format::ChannelsLast } else { Format::ChannelsFirst })
}

/// `x` normalised in groups of channels, scaled and shifted by inputs 1 and 2, with an activation behind it.
fn group_norm(cx: &mut NodeCx<'_>, x: ValueId) -> Result<ValueId> {
    let epsilon = cx.float("epsilon", 1e-5f32.into())?;
    let groups = extent(cx.required_int("groups")?, "groups")?;
    let format = format(cx)?;
    cx.expect_float(x)?;
    let inputs = [x, cx.input(1)?, cx.input(2)?];
    let y = cx.add(Op::GroupNorm { groups, epsilon, format }, &inputs)?;
    match cx.required_int("activation")? {
        0 => Ok(y),
        1 => cx.unary(Unary::Silu, y),
        other => Err(Halt::invalid(format!("activation is {other}, but must be 0 or 1"))),
    }
}

fn skip_group_norm(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.expect_inputs(5)?;
    let (x, mut skip) = (cx.input(0)?, cx.input(3)?);
    let shape = cx.shape(x);
    let channel = format(cx)?.channel_axis(shape.len().max(2));
    // One for each image and channel.
    if let [n, c] = cx.shape(skip)[..] {
        let mut extents = vec![1; shape.len()];
        if extents.len() > channel {
            (extents[0], extents[channel]) = (n, c);
        }
        skip = cx.reshape(skip, &extents)?;
    }
    let mut sum = cx.binary(Binary::Add, x, skip)?;
    if let Some(bias) = cx.optional(4) {
        let mut extents = vec![1; shape.len()];
        if extents.len() > channel {
            extents[channel] = cx.elements(bias);
        }
        let bias = cx.reshape(bias, &extents)?;
        sum = cx.binary(Binary::Add, sum, bias)?;
    }
    if cx.shape(sum) != shape {
        return Err(Halt::shape(format!(
            "what is added does not broadcast to the operand of shape {shape:?}"
        )));
    }
    Ok(vec![group_norm(cx, sum)?, sum])
}
