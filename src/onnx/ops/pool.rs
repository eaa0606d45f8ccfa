//! Poolings.

use super::super::limit;
use super::window::{spatial, window};
use super::{Halt, NodeCx, OpEntry, Result, extents, missing, one, op};
use crate::graph::{Binary, Format, Op, PadMode, PoolKind, Reduction, Unary, ValueId, Window};

pub(super) const OPS: &[OpEntry] = &[
    op("AveragePool", 1, average),
    op("GlobalAveragePool", 1, |cx| global(cx, PoolKind::Average { count_include_pad: false })),
    op("GlobalLpPool", 2, global_lp).in_f32(&[0]),
    op("GlobalMaxPool", 1, |cx| global(cx, PoolKind::Max)),
    op("LpPool", 2, lp).in_f32(&[0]),
    op("MaxPool", 1, max),
];

const FORMAT: Format = Format::ChannelsFirst;

pub(super) fn global(cx: &mut NodeCx<'_>, kind: PoolKind) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    one(cx.add(Op::GlobalPool { kind, format: FORMAT }, &[x]))
}

/// The window of a pooling that slides over `x`.
pub(super) fn pooling_window(cx: &NodeCx<'_>, x: ValueId) -> Result<Window> {
    let shape = cx.shape(x);
    let input = spatial(&shape)?;
    let kernel = cx.attributes.ints("kernel_shape")?.ok_or_else(|| missing("kernel_shape"))?;
    let kernel = extents(kernel, "kernel_shape")?;
    if kernel.len() != input.len() {
        return Err(Halt::invalid(format!(
            "the kernel {kernel:?} does not fit an operand of shape {shape:?}"
        )));
    }
    window(cx, input, kernel)
}

pub(super) fn average(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let window = pooling_window(cx, x)?;
    let ceil_mode = cx.flag("ceil_mode", false)?;
    let kind = PoolKind::Average { count_include_pad: cx.flag("count_include_pad", false)? };
    one(cx.add(Op::Pool { kind, window, ceil_mode, format: FORMAT }, &[x]))
}

pub(super) fn max(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let window = pooling_window(cx, x)?;
    let ceil_mode = cx.flag("ceil_mode", false)?;
    let column_major = cx.flag("storage_order", false)?;
    let pool = Op::Pool { kind: PoolKind::Max, window: window.clone(), ceil_mode, format: FORMAT };
    let y = cx.add(pool, &[x])?;
    let mut results = vec![y];
    if cx.wants(1) {
        let shape = cx.shape(y);
        results.push(positions(cx, x, &window, &shape, column_major)?);
    }
    Ok(results)
}

/// Where each maximum is in the whole tensor. Every window's elements are laid out in one dimension, along which
/// the position of the largest is found.
fn positions(
    cx: &mut NodeCx<'_>,
    x: ValueId,
    window: &Window,
    result: &[usize],
    column_major: bool,
) -> Result<ValueId> {
    let shape = cx.shape(x);
    let count = window.kernel.len();
    let lowest = if cx.dtype(x).is_float() { f64::NEG_INFINITY } else { f64::MIN };
    // Far enough for the last window of `ceil_mode`.
    let (mut begin, mut end) = (vec![0i64; 2 + count], vec![0i64; 2 + count]);
    let mut windows = shape[..2].to_vec();
    let mut patches = x;
    for d in 0..count {
        let reach = (window.kernel[d] - 1) * window.dilations[d] + 1;
        let needed = (result[2 + d].max(1) - 1) * window.strides[d] + reach;
        begin[2 + d] = window.pads_begin[d] as i64;
        end[2 + d] = (needed as i64 - shape[2 + d] as i64 - begin[2 + d]).max(0);
        windows.extend([result[2 + d], window.kernel[d]]);
    }
    patches = cx.add(Op::Pad { begin, end, mode: PadMode::Constant(lowest) }, &[patches])?;
    for d in 0..count {
        limit::check_table(nestjit_ir::DType::I64, &[result[2 + d], window.kernel[d]])?;
        let starts = (0..result[2 + d]).map(|o| o * window.strides[d]);
        let indices: Vec<i64> = starts
            .flat_map(|s| (0..window.kernel[d]).map(move |k| (s + k * window.dilations[d]) as i64))
            .collect();
        let indices = cx.values(&[indices.len()], &indices)?;
        patches = cx.gather(patches, indices, 2 + d)?;
    }
    let patches = cx.reshape(patches, &windows)?;
    let perm: Vec<usize> =
        (0..2).chain((0..count).map(|d| 2 + 2 * d)).chain((0..count).map(|d| 3 + 2 * d)).collect();
    let patches = cx.transpose(patches, &perm)?;
    let elements = limit::product(&window.kernel)?;
    let patches = cx.reshape(patches, &[result, &[elements]].concat())?;
    let axis = result.len();
    let largest = cx.add(Op::ArgReduce { max: true, axis, keep_dims: false, last: false }, &[patches])?;

    // The distance from the window's first element, and where that is.
    limit::check_table(nestjit_ir::DType::I64, &[elements])?;
    let strides = plane_strides(&shape, column_major);
    let offsets: Vec<i64> = (0..elements)
        .map(|mut k| {
            let mut offset = 0;
            for d in (0..count).rev() {
                offset += ((k % window.kernel[d]) * window.dilations[d] * strides[d]) as i64;
                k /= window.kernel[d];
            }
            offset
        })
        .collect();
    let offsets = cx.values(&[elements], &offsets)?;
    let mut position = cx.gather(offsets, largest, 0)?;
    let plane: usize = shape[2..].iter().product();
    for d in 0..result.len() {
        let start = |i: usize| match d {
            0 => (i * shape[1] * plane) as i64,
            1 => (i * plane) as i64,
            _ => {
                ((i * window.strides[d - 2]) as i64 - window.pads_begin[d - 2] as i64) * strides[d - 2] as i64
            }
        };
        let starts: Vec<i64> = (0..result[d]).map(start).collect();
        let mut extents = vec![1; result.len()];
        extents[d] = result[d];
        let starts = cx.values(&extents, &starts)?;
        position = cx.binary(Binary::Add, position, starts)?;
    }
    Ok(position)
}

/// How far apart neighbours along each spatial dimension are in a plane.
fn plane_strides(shape: &[usize], column_major: bool) -> Vec<usize> {
    let spatial = &shape[2..];
    (0..spatial.len())
        .map(|d| if column_major { spatial[..d].iter().product() } else { spatial[d + 1..].iter().product() })
        .collect()
}

/// `(sum |x|^p)^(1/p)`: the mean times the number of elements, padding counted as zeros.
pub(super) fn lp(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let window = pooling_window(cx, x)?;
    let ceil_mode = cx.flag("ceil_mode", false)?;
    let p = norm_order(cx)?;
    let elements = limit::product(&window.kernel)?;
    let powers = powers(cx, x, p)?;
    let mean = mean_of_whole_windows(cx, powers, window, ceil_mode)?;
    let sum = cx.binary_const(Binary::Mul, mean, elements as f64)?;
    one(root(cx, sum, p))
}

/// Means over as many elements as the kernel has, whatever of a window lies outside, where zeros are. A window that
/// `ceil_mode` adds divides by fewer elements otherwise.
pub(super) fn mean_of_whole_windows(
    cx: &mut NodeCx<'_>,
    x: ValueId,
    window: Window,
    ceil_mode: bool,
) -> Result<ValueId> {
    let (shape, count) = (cx.shape(x), window.kernel.len());
    let kind = PoolKind::Average { count_include_pad: true };
    let plain = Op::Pool { kind, window: window.clone(), ceil_mode, format: FORMAT };
    let probe = cx.add(plain, &[x])?;
    let result = cx.shape(probe);
    if !ceil_mode || result.contains(&0) {
        return Ok(probe);
    }
    let (mut begin, mut end) = (vec![0i64; 2 + count], vec![0i64; 2 + count]);
    for d in 0..count {
        let reach = (window.kernel[d] - 1) * window.dilations[d] + 1;
        let needed = (result[2 + d].max(1) - 1) * window.strides[d] + reach;
        begin[2 + d] = window.pads_begin[d] as i64;
        end[2 + d] = needed as i64 - shape[2 + d] as i64 - begin[2 + d];
    }
    let padded = cx.add(Op::Pad { begin, end, mode: PadMode::Constant(0.0) }, &[x])?;
    let window = Window { pads_begin: vec![0; count], pads_end: vec![0; count], ..window };
    cx.add(Op::Pool { kind, window, ceil_mode: false, format: FORMAT }, &[padded])
}

pub(super) fn global_lp(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let p = norm_order(cx)?;
    let axes: Vec<usize> = (2..cx.rank(x)).collect();
    let powers = powers(cx, x, p)?;
    let sum = cx.reduce(Reduction::Sum, powers, &axes, true)?;
    one(root(cx, sum, p))
}

/// The attribute `p`.
fn norm_order(cx: &NodeCx<'_>) -> Result<f64> {
    match cx.int("p", 2)? {
        p if p >= 1 => Ok(p as f64),
        p => Err(Halt::invalid(format!("p must be at least 1, but is {p}"))),
    }
}

/// `|x|^p`.
fn powers(cx: &mut NodeCx<'_>, x: ValueId, p: f64) -> Result<ValueId> {
    if p == 2.0 {
        return cx.unary(Unary::Square, x);
    }
    let magnitude = cx.unary(Unary::Abs, x)?;
    if p == 1.0 { Ok(magnitude) } else { cx.binary_const(Binary::Pow, magnitude, p) }
}

fn root(cx: &mut NodeCx<'_>, x: ValueId, p: f64) -> Result<ValueId> {
    match p {
        1.0 => Ok(x),
        2.0 => cx.unary(Unary::Sqrt, x),
        _ => cx.binary_const(Binary::Pow, x, 1.0 / p),
    }
}
