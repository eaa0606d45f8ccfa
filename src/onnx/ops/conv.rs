//! Convolutions.

use super::super::limit;
use super::window::{AutoPad, auto_pad, pads, per_dimension, reach, spatial, window};
use super::{Halt, NodeCx, OpEntry, Result, extent, one, op};
use crate::graph::{Format, Op, PadMode, ValueId, Window};

pub(super) const OPS: &[OpEntry] =
    &[op("Conv", 1, conv), op("ConvTranspose", 1, conv_transpose).in_f32(&[0])];

pub(super) fn conv(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.expect_inputs(3)?;
    let (x, weight, bias) = (cx.input(0)?, cx.input(1)?, cx.optional(2));
    one(convolution(cx, x, weight, bias))
}

/// The convolution that the attributes describe, of a tensor with its channels first.
pub(super) fn convolution(
    cx: &mut NodeCx<'_>,
    x: ValueId,
    weight: ValueId,
    bias: Option<ValueId>,
) -> Result<ValueId> {
    cx.expect_float(x)?;
    let (shape, filter) = (cx.shape(x), cx.shape(weight));
    let input = spatial(&shape)?;
    let kernel = kernel(cx, &shape, &filter)?;
    let window = window(cx, input, kernel)?;
    let groups = extent(cx.int("group", 1)?, "group")?;
    let mut inputs = vec![x, weight];
    inputs.extend(bias);
    cx.add(Op::Conv { window, groups, format: Format::ChannelsFirst, pad_value: 0 }, &inputs)
}

/// The weight's extents, which `kernel_shape` repeats.
fn kernel(cx: &NodeCx<'_>, shape: &[usize], filter: &[usize]) -> Result<Vec<usize>> {
    if filter.len() != shape.len() {
        return Err(Halt::shape(format!(
            "an operand of shape {shape:?} does not fit a weight of shape {filter:?}"
        )));
    }
    let kernel = filter[2..].to_vec();
    let declared = cx.attributes.ints("kernel_shape")?;
    let differs = |d: &[i64]| !d.iter().map(|v| usize::try_from(*v).ok()).eq(kernel.iter().map(|k| Some(*k)));
    if let Some(declared) = declared.filter(|d| differs(d)) {
        return Err(Halt::invalid(format!(
            "kernel_shape is {declared:?}, but the weight has the shape {filter:?}"
        )));
    }
    Ok(kernel)
}

pub(super) fn conv_transpose(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.expect_inputs(3)?;
    let (x, bias) = (cx.input(0)?, cx.optional(2));
    let count = cx.rank(x).saturating_sub(2);
    let pads = pads(cx, count)?;
    one(transposed_convolution(cx, pads, bias))
}

/// A convolution with stride 1 of the operand with zeros between its elements, the kernel mirrored. `pads` are what is cut
/// from the result before and after each spatial dimension, if nothing else says that.
pub(super) fn transposed_convolution(
    cx: &mut NodeCx<'_>,
    pads: (Vec<usize>, Vec<usize>),
    bias: Option<ValueId>,
) -> Result<ValueId> {
    let (x, weight) = (cx.input(0)?, cx.input(1)?);
    cx.expect_float(x)?;
    let (shape, filter) = (cx.shape(x), cx.shape(weight));
    let input = spatial(&shape)?.to_vec();
    let kernel = kernel(cx, &shape, &filter)?;
    let count = kernel.len();
    let groups = extent(cx.int("group", 1)?, "group")?;
    let strides = per_dimension(cx, "strides", count, 1)?;
    let dilations = per_dimension(cx, "dilations", count, 1)?;
    if strides.contains(&0) || dilations.contains(&0) || kernel.contains(&0) {
        return Err(Halt::invalid("strides, dilations and kernel must be at least 1"));
    }
    if groups == 0 || filter[0] != shape[1] || !shape[1].is_multiple_of(groups) {
        return Err(Halt::shape(format!(
            "{groups} groups do not fit an operand of shape {shape:?} and a weight of shape {filter:?}"
        )));
    }
    let padding = transposed_padding(cx, &input, &kernel, &strides, &dilations, pads)?;

    let spread = spread(cx, x, &strides)?;
    // Zeros around it; less than none where the padding cuts the result. The last stride leaves zeros at the end
    // that count already.
    let (mut begin, mut end) = (vec![0i64; 2 + count], vec![0i64; 2 + count]);
    for d in 0..count {
        let around = reach(kernel[d], dilations[d])? as i64 - 1;
        begin[2 + d] = around - padding[d].0;
        end[2 + d] = around - padding[d].1 - (strides[d] as i64 - 1);
    }
    let window = |pads_begin, pads_end| Window {
        kernel: kernel.clone(),
        strides: vec![1; count],
        dilations: dilations.clone(),
        pads_begin,
        pads_end,
    };
    let (x, window) = match begin.iter().chain(&end).all(|p| *p >= 0) {
        true => {
            let pads = |list: &[i64]| list[2..].iter().map(|p| *p as usize).collect();
            (spread, window(pads(&begin), pads(&end)))
        }
        false => {
            let padded = cx.add(Op::Pad { begin, end, mode: PadMode::Constant(0.0) }, &[spread])?;
            (padded, window(vec![0; count], vec![0; count]))
        }
    };
    let weight = mirrored(cx, weight, groups)?;
    let mut inputs = vec![x, weight];
    inputs.extend(bias);
    cx.add(Op::Conv { window, groups, format: Format::ChannelsFirst, pad_value: 0 }, &inputs)
}

/// What is cut from the full result before and after each spatial dimension; negative numbers add to it.
fn transposed_padding(
    cx: &NodeCx<'_>,
    input: &[usize],
    kernel: &[usize],
    strides: &[usize],
    dilations: &[usize],
    (begin, end): (Vec<usize>, Vec<usize>),
) -> Result<Vec<(i64, i64)>> {
    let count = input.len();
    let auto = auto_pad(cx)?;
    let extra = per_dimension(cx, "output_padding", count, 0)?;
    let wanted = cx.attributes.ints("output_shape")?;
    // Some exporters state the batch and the channels, too.
    let wanted = wanted.map(|w| if w.len() == count + 2 { &w[2..] } else { w });
    if wanted.is_some_and(|w| w.len() != count) {
        return Err(Halt::invalid(format!("output_shape must have {count} entries")));
    }
    if let Some(wrong) = wanted.into_iter().flatten().find(|n| !(1..=limit::ATTRIBUTE as i64).contains(*n)) {
        return Err(Halt::invalid(format!("output_shape contains {wrong}, which is not possible")));
    }
    (0..count)
        .map(|d| {
            let full = input[d].max(1).checked_sub(1).and_then(|n| n.checked_mul(strides[d]));
            let full = full.and_then(|n| n.checked_add(reach(kernel[d], dilations[d]).ok()?));
            let full = full.and_then(|n| n.checked_add(extra[d])).and_then(|n| i64::try_from(n).ok());
            let full = full.ok_or_else(|| Halt::limit("the result is larger than the address space"))?;
            let target = match (wanted, auto) {
                (Some(wanted), _) => Some(wanted[d]),
                (None, AutoPad::SameUpper | AutoPad::SameLower) => {
                    input[d].checked_mul(strides[d]).and_then(|n| i64::try_from(n).ok())
                }
                _ => None,
            };
            let extra = extra[d] as i64;
            let Some(target) = target else {
                return Ok(match auto {
                    AutoPad::Valid => (0, -extra),
                    _ => (begin[d] as i64, end[d] as i64 - extra),
                });
            };
            let total = full - target;
            let half = total.div_euclid(2);
            let before = if auto == AutoPad::SameUpper { half } else { total - half };
            Ok((before, total - before - extra))
        })
        .collect()
}

/// `strides - 1` zeros after each element.
fn spread(cx: &mut NodeCx<'_>, x: ValueId, strides: &[usize]) -> Result<ValueId> {
    if strides.iter().all(|s| *s == 1) {
        return Ok(x);
    }
    let shape = cx.shape(x);
    let mut split = shape[..2].to_vec();
    let (mut begin, mut end) = (vec![0i64; 2], vec![0i64; 2]);
    let mut joined = shape[..2].to_vec();
    for (extent, stride) in shape[2..].iter().zip(strides) {
        split.extend([*extent, 1]);
        begin.extend([0, 0]);
        end.extend([0, *stride as i64 - 1]);
        joined.push(extent.checked_mul(*stride).ok_or_else(|| Halt::limit("the strides are too large"))?);
    }
    let split = cx.reshape(x, &split)?;
    let padded = cx.add(Op::Pad { begin, end, mode: PadMode::Constant(0.0) }, &[split])?;
    cx.reshape(padded, &joined)
}

/// `[C, M / groups, ..]` as the weight of a convolution, `[M, C / groups, ..]`, mirrored in space.
fn mirrored(cx: &mut NodeCx<'_>, weight: ValueId, groups: usize) -> Result<ValueId> {
    let shape = cx.shape(weight);
    let (channels, filters) = (shape[0] / groups, shape[1]);
    let grouped = [&[groups, channels, filters], &shape[2..]].concat();
    let mut perm: Vec<usize> = (0..grouped.len()).collect();
    perm.swap(1, 2);
    let grouped = cx.reshape(weight, &grouped)?;
    let swapped = cx.transpose(grouped, &perm)?;
    let extents = [&[groups * filters, channels], &shape[2..]].concat();
    let joined = cx.reshape(swapped, &extents)?;
    let starts = extents.iter().enumerate().map(|(d, n)| if d < 2 { 0 } else { n - 1 }).collect();
    let steps = (0..extents.len()).map(|d| if d < 2 { 1 } else { -1 }).collect();
    cx.add(Op::Slice { starts, extents, steps }, &[joined])
}
