//! Operators on images whose channels are the last dimension: the domain `com.ms.internal.nhwc`, which ONNX Runtime makes of
//! ONNX operators. They are those operators between two transpositions, which passes on layouts see through.

use super::super::conv::{conv, conv_transpose};
use super::super::movement::{depth_to_space, space_to_depth};
use super::super::norm::{batch, instance, local_response};
use super::super::pool::{average, global, global_lp, lp, max};
use super::super::qlinear::average_pool;
use super::super::quantize::qlinear_conv;
use super::super::resize::resize;
use super::super::sampling::grid_sample;
use super::{AS_COMPUTED, Halt, Import, NodeCx, OpEntry, Result, op};
use crate::graph::{PoolKind, ValueId};

/// An operator of the domain, with the versions of the ONNX operator.
const fn nhwc(name: &'static str, since: i64, import: Import) -> OpEntry {
    op(name, since, import).of_domain("com.ms.internal.nhwc")
}

pub(in super::super) const OPS: &[OpEntry] = &[
    nhwc("AveragePool", 7, |cx| channels_last(cx, average)),
    nhwc("BatchNormalization", 7, |cx| channels_last(cx, batch)).in_f32(&[0, 3, 4]),
    nhwc("Conv", 1, |cx| channels_last(cx, conv)),
    nhwc("ConvTranspose", 1, |cx| channels_last(cx, conv_transpose)).in_f32(&[0]),
    nhwc("DepthToSpace", 1, |cx| channels_last(cx, depth_to_space)),
    nhwc("GlobalAveragePool", 1, |cx| {
        channels_last(cx, |cx| global(cx, PoolKind::Average { count_include_pad: false }))
    }),
    nhwc("GlobalLpPool", 2, |cx| channels_last(cx, global_lp)).in_f32(&[0]),
    nhwc("GlobalMaxPool", 1, |cx| channels_last(cx, |cx| global(cx, PoolKind::Max))),
    nhwc("GridSample", 16, |cx| channels_last(cx, grid_sample)).in_f32(&[0]),
    nhwc("InstanceNormalization", 6, |cx| channels_last(cx, instance)),
    nhwc("LRN", 1, |cx| channels_last(cx, local_response)).in_f32(&[0]),
    nhwc("LpPool", 11, |cx| channels_last(cx, lp)).in_f32(&[0]),
    nhwc("MaxPool", 1, |cx| {
        let mut results = channels_last(cx, max)?;
        // Where a maximum was is told by places in a tensor with its channels first.
        results.truncate(1);
        Ok(results)
    }),
    nhwc("QLinearAveragePool", 1, |cx| {
        // The domain says where the channels are.
        cx.attributes.ignore(&["channels_last"]);
        channels_last(cx, average_pool)
    }),
    nhwc("QLinearConv", 10, |cx| {
        cx.attributes.ignore(&["channels_last"]);
        channels_last(cx, qlinear_conv)
    })
    .in_f32(&[AS_COMPUTED]),
    // Scales and sizes are those of the dimensions as they are.
    nhwc("Resize", 11, resize),
    nhwc("SpaceToDepth", 1, |cx| channels_last(cx, space_to_depth)),
];

/// `[N, S1, .., Sk, C]` as `[N, C, S1, .., Sk]`.
pub(super) fn to_first(cx: &mut NodeCx<'_>, x: ValueId) -> Result<ValueId> {
    let rank = cx.rank(x);
    if rank < 3 {
        let shape = cx.shape(x);
        return Err(Halt::shape(format!("the operand must be [N, ..spatial, C], not {shape:?}")));
    }
    let mut perm: Vec<usize> = (0..rank).collect();
    perm[1..].rotate_right(1);
    cx.transpose(x, &perm)
}

/// The inverse of [`to_first`].
pub(super) fn to_last(cx: &mut NodeCx<'_>, x: ValueId) -> Result<ValueId> {
    let mut perm: Vec<usize> = (0..cx.rank(x)).collect();
    if let Some(behind) = perm.get_mut(1..) {
        behind.rotate_left(1);
    }
    cx.transpose(x, &perm)
}

/// What an import of an operator with its channels first makes of input 0 with its channels last. Its first result is an
/// image, too.
pub(in super::super) fn channels_last(cx: &mut NodeCx<'_>, import: Import) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let first = to_first(cx, x)?;
    cx.set_input(0, first);
    let mut results = import(cx)?;
    if let Some(y) = results.first_mut() {
        *y = to_last(cx, *y)?;
    }
    Ok(results)
}
