//! The domain `com.microsoft.nchwc`: what ONNX Runtime makes of convolutions and poolings when it optimises a model for the
//! CPU at hand, with channels in blocks that fill its vectors. Tensors between these operators have their channels in order
//! here, as many as the blocks have; what stays of the layout are the weights, which lie in blocks in the file. How large
//! these are no file says: it is for machines like the one that wrote it.

use super::super::conv::convolution;
use super::super::pool::{average, global, max};
use super::super::resize::enlarged;
use super::fused::{Parameters, activated};
use super::layout::{to_first, to_last};
use super::product::added;
use super::{Halt, Import, NodeCx, OpEntry, Result, extent, missing, one, op};
use crate::graph::{Op, PadMode, PoolKind, ValueId};
use crate::machine::Isa;

/// An operator of the domain, of which there is one version.
const fn nchwc(name: &'static str, import: Import) -> OpEntry {
    op(name, 1, import).of_domain("com.microsoft.nchwc").until(1)
}

pub(in super::super) const OPS: &[OpEntry] = &[
    nchwc("AveragePool", average),
    nchwc("Conv", conv),
    nchwc("GlobalAveragePool", |cx| global(cx, PoolKind::Average { count_include_pad: false })),
    nchwc("GlobalMaxPool", |cx| global(cx, PoolKind::Max)),
    nchwc("MaxPool", max),
    nchwc("ReorderInput", into_blocks),
    nchwc("ReorderOutput", out_of_blocks),
    nchwc("Upsample", |cx| {
        let x = cx.input(0)?;
        let scales = cx.attributes.ints("scales")?.ok_or_else(|| missing("scales"))?;
        let scales: Vec<f64> = scales.iter().map(|scale| *scale as f64).collect();
        one(enlarged(cx, x, &scales))
    }),
];

/// How many channels a block has on this machine.
fn block() -> usize {
    if cfg!(target_arch = "aarch64") { 16 } else { Isa::host().f32_lanes().max(8) }
}

/// Channels that are whole blocks; those that are added are zeros.
fn into_blocks(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.expect_inputs(1)?;
    let mut x = cx.input(0)?;
    if cx.flag("channels_last", false)? {
        x = to_first(cx, x)?;
    }
    let shape = cx.shape(x);
    let Some(channels) = shape.get(1) else {
        return Err(Halt::shape(format!("the operand must have channels, but its shape is {shape:?}")));
    };
    let missing = channels.next_multiple_of(block()) - channels;
    if missing == 0 {
        return Ok(vec![x]);
    }
    let (begin, mut end) = (vec![0; shape.len()], vec![0; shape.len()]);
    end[1] = missing as i64;
    one(cx.add(Op::Pad { begin, end, mode: PadMode::Constant(0.0) }, &[x]))
}

/// The channels that a tensor had before they became whole blocks.
fn out_of_blocks(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.expect_inputs(1)?;
    let x = cx.input(0)?;
    let (shape, channels) = (cx.shape(x), extent(cx.required_int("channels")?, "channels")?);
    if shape.get(1).is_none_or(|own| channels > *own) {
        return Err(Halt::shape(format!("a tensor of shape {shape:?} has no {channels} channels")));
    }
    let y = cx.narrow(x, 1, 0, channels)?;
    one(if cx.flag("channels_last", false)? { to_last(cx, y) } else { Ok(y) })
}

fn conv(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.expect_inputs(4)?;
    let (x, weight, bias) = (cx.input(0)?, cx.input(1)?, cx.optional(2));
    let weight = in_order(cx, weight)?;
    let mut y = convolution(cx, x, weight, bias)?;
    if let Some(addend) = cx.optional(3) {
        y = added(cx, y, addend)?;
    }
    let parameters = Parameters::listed(cx)?;
    one(activated(cx, y, &parameters))
}

/// A weight `[M, C, H, W]` whose elements lie in blocks of filters, and of channels if there are as many.
fn in_order(cx: &mut NodeCx<'_>, weight: ValueId) -> Result<ValueId> {
    let (shape, block) = (cx.shape(weight), block());
    let [m, c, h, w] = shape[..] else {
        return Err(Halt::shape(format!("a weight of rank 4 is needed, but its shape is {shape:?}")));
    };
    if !m.is_multiple_of(block) || (c > block && !c.is_multiple_of(block)) {
        return Err(Halt::unsupported(format!(
            "a weight of shape {shape:?} is not in blocks of {block} channels: the model was optimised for another CPU"
        )));
    }
    let channels = if c.is_multiple_of(block) { block } else { 1 };
    let split = cx.reshape(weight, &[m / block, c / channels, h, w, channels, block])?;
    let joined = cx.transpose(split, &[0, 5, 1, 4, 2, 3])?;
    cx.reshape(joined, &shape)
}
