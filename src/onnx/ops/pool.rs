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

/// The elements of a dimension that the taps of windows along it read, window by window. A tap that is outside reads what
/// the nearest tap inside reads, so that it is as large, and stands for the same place.
fn taps(window: &Window, d: usize, extent: usize, windows: usize) -> Vec<i64> {
    let (kernel, dilation) = (window.kernel[d] as i64, window.dilations[d] as i64);
    let extent = extent as i64;
    let of_window = |o: usize| {
        let start = (o * window.strides[d]) as i64 - window.pads_begin[d] as i64;
        // The first and the last tap inside.
        let first = (-start).max(0).div_euclid(dilation) + i64::from((-start).max(0) % dilation > 0);
        let last = (extent - 1 - start).div_euclid(dilation);
        let place = move |k: i64| (start + k.max(first).min(last) * dilation).clamp(0, extent - 1);
        (0..kernel).map(place)
    };
    (0..windows).flat_map(of_window).collect()
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
    if shape[2..].contains(&0) && !result.contains(&0) {
        return Err(Halt::shape("a window has no element"));
    }
    let (mut windows, mut patches, mut all_taps) = (shape[..2].to_vec(), x, Vec::new());
    for d in 0..count {
        windows.extend([result[2 + d], window.kernel[d]]);
        limit::check_table(nestjit_ir::DType::I64, &windows[windows.len() - 2..])?;
        let taps = taps(window, d, shape[2 + d], result[2 + d]);
        let indices = cx.values(&[taps.len()], &taps)?;
        patches = cx.gather(patches, indices, 2 + d)?;
        all_taps.push(taps);
    }
    let patches = cx.reshape(patches, &windows)?;
    let perm: Vec<usize> =
        (0..2).chain((0..count).map(|d| 2 + 2 * d)).chain((0..count).map(|d| 3 + 2 * d)).collect();
    let patches = cx.transpose(patches, &perm)?;
    let elements = limit::product(&window.kernel)?;
    let patches = cx.reshape(patches, &[result, &[elements]].concat())?;
    let axis = result.len();
    let largest = cx.add(Op::ArgReduce { max: true, axis, keep_dims: false, last: false }, &[patches])?;

    // Where planes begin, and in them, dimension by dimension, what the tap reads.
    limit::check_table(nestjit_ir::DType::I64, &[elements])?;
    let (strides, plane) = (plane_strides(&shape, column_major), shape[2..].iter().product::<usize>());
    let along = |d: usize, n: usize| {
        let mut extents = vec![1; result.len()];
        extents[d] = n;
        extents
    };
    let starts = |n: usize, step: usize| (0..n).map(|i| (i * step) as i64).collect::<Vec<i64>>();
    let samples = cx.values(&along(0, result[0]), &starts(result[0], shape[1] * plane))?;
    let channels = cx.values(&along(1, result[1]), &starts(result[1], plane))?;
    let mut position = cx.binary(Binary::Add, samples, channels)?;
    let mut inner = elements;
    for (d, taps) in all_taps.iter().enumerate() {
        let kernel = window.kernel[d];
        inner /= kernel;
        let tap: Vec<i64> = (0..elements).map(|k| (k / inner % kernel) as i64).collect();
        let tap = cx.values(&[elements], &tap)?;
        let tap = cx.gather(tap, largest, 0)?;
        let of_window = cx.values(&along(2 + d, result[2 + d]), &starts(result[2 + d], kernel))?;
        let at = cx.binary(Binary::Add, tap, of_window)?;
        let places: Vec<i64> = taps.iter().map(|place| place * strides[d] as i64).collect();
        let places = cx.values(&[places.len()], &places)?;
        let place = cx.gather(places, at, 0)?;
        position = cx.binary(Binary::Add, position, place)?;
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
