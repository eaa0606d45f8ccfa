//! Regions and samples of images, and Fourier transforms of real signals.

use nestjit_ir::{CheckKind, DType};

use super::super::super::limit;
use super::super::sampling::{Images, Mode, Padding, grid_sample};
use super::super::signal::{Transform, transform};
use super::attention::expect_off;
use super::{Halt, NodeCx, OpEntry, Result, contrib, extent, one};
use crate::graph::{Binary, Unary, ValueId};

pub(in super::super) const OPS: &[OpEntry] = &[
    contrib("CropAndResize", crop_and_resize).in_f32(&[0]),
    contrib("GridSample", |cx| {
        cx.expect_inputs(2)?;
        grid_sample(cx)
    })
    .in_f32(&[0]),
    contrib("Irfft", inverse_transform).in_f32(&[0]),
    contrib("Rfft", forward_transform).in_f32(&[0]),
];

/// Regions of images, `[y1, x1, y2, x2]` in parts of their extents, as images of one size. Corners are at centres of
/// elements; what lies outside has a value of its own.
fn crop_and_resize(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.expect_inputs(4)?;
    let (x, regions, batch, size) = (cx.input(0)?, cx.input(1)?, cx.input(2)?, cx.input(3)?);
    cx.expect_float(x)?;
    let mode = match cx.string("mode", "bilinear")? {
        "bilinear" => Mode::Linear,
        "nearest" => Mode::Nearest,
        other => return Err(Halt::invalid(format!("there is no mode '{}'", other.escape_debug()))),
    };
    let outside = cx.float("extrapolation_value", 0.0)?;
    let (shape, count) = (cx.shape(x), cx.elements(batch));
    let size = cx.known_extents(size, "the input 'crop_size'")?;
    let ([images, channels, _, _], [height, width]) = (&shape[..], &size[..]) else {
        return Err(Halt::shape(format!("images of shape {shape:?} cannot be cropped to {size:?}")));
    };
    let (images, channels, size) = (*images, *channels, [*height, *width]);
    if cx.shape(regions) != [count, 4] || size.contains(&0) {
        return Err(Halt::shape(format!(
            "{count} regions of {size:?} elements need a tensor [{count}, 4], not {:?}",
            cx.shape(regions)
        )));
    }
    let points = limit::product(&size)?;
    limit::check_table(DType::F64, &size)?;
    let (mut coordinates, mut seen) = (Vec::new(), None);
    for d in 0..2 {
        let last = shape[2 + d].saturating_sub(1) as f64;
        let [low, high] = [d, 2 + d].map(|column| cx.narrow(regions, 1, column, 1));
        let [low, high] =
            [cx.binary_const(Binary::Mul, low?, last)?, cx.binary_const(Binary::Mul, high?, last)?];
        // The middle, if there is one element only.
        let fractions: Vec<f64> = match size[d] {
            1 => vec![0.5],
            n => (0..n).map(|i| i as f64 / (n - 1) as f64).collect(),
        };
        let near: Vec<f64> = fractions.iter().map(|f| 1.0 - f).collect();
        let (near, far) = (cx.floats_like(x, &[size[d]], &near)?, cx.floats_like(x, &[size[d]], &fractions)?);
        let (low, high) = (cx.binary(Binary::Mul, low, near)?, cx.binary(Binary::Mul, high, far)?);
        let at = cx.binary(Binary::Add, low, high)?;
        let (from, to) = (cx.binary_const(Binary::Ge, at, 0.0)?, cx.binary_const(Binary::Le, at, last)?);
        let here = cx.binary(Binary::And, from, to)?;
        let at = match mode {
            Mode::Nearest => {
                // Halves are rounded away from 0.
                let up = cx.binary_const(Binary::Add, at, 0.5)?;
                cx.unary(Unary::Floor, up)?
            }
            _ => at,
        };
        // Every row with every column.
        let grid = |cx: &mut NodeCx<'_>, v: ValueId| {
            let line = if d == 0 { [count, size[0], 1] } else { [count, 1, size[1]] };
            let v = cx.reshape(v, &line)?;
            let v = cx.expand(v, &[count, size[0], size[1]])?;
            cx.reshape(v, &[count, points])
        };
        coordinates.push(grid(cx, at)?);
        let here = grid(cx, here)?;
        seen = Some(match seen {
            None => here,
            Some(seen) => cx.binary(Binary::And, seen, here)?,
        });
    }
    let Some(seen) = seen else { return Err(Halt::internal("no dimensions")) };
    let which = cx.checked(batch, 2, CheckKind::Index, 0, images as i64)?;
    let which = cx.reshape(which, &[count, 1])?;
    let images = Images::new(cx, x, Some(which))?;
    let value = images.sample(cx, &coordinates, mode, Padding::Border)?;
    let seen = cx.unsqueeze(seen, 2)?;
    let outside = cx.scalar_like(value, outside);
    let value = cx.select(seen, value, outside)?;
    let value = cx.transpose(value, &[0, 2, 1])?;
    one(cx.reshape(value, &[count, channels, size[0], size[1]]))
}

/// How many of the last dimensions are the signal.
fn signal_dimensions(cx: &NodeCx<'_>, count: i64, rank: usize) -> Result<usize> {
    expect_off(cx, &["normalized"])?;
    if cx.int("onesided", 1)? == 0 {
        return Err(Halt::unsupported("the attribute 'onesided' is 0, which is not supported"));
    }
    match extent(count, "signal_ndim")? {
        n @ 1..=3 if n <= rank => Ok(n),
        n => Err(Halt::invalid(format!("signal_ndim is {n}, but must be 1 to 3 and at most {rank}"))),
    }
}

fn forward_transform(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.expect_inputs(1)?;
    let x = cx.input(0)?;
    cx.expect_float(x)?;
    let rank = cx.rank(x);
    let count = signal_dimensions(cx, cx.int("signal_ndim", 1)?, rank)?;
    let shape = cx.shape(x);
    let mut y = cx.unsqueeze(x, rank)?;
    for axis in (rank - count..rank).rev() {
        // The first one is real, the others are transforms of complex numbers.
        let onesided = axis + 1 == rank;
        y = transform(cx, y, axis, &Transform { length: shape[axis], inverse: false, onesided })?;
    }
    Ok(vec![y])
}

fn inverse_transform(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.expect_inputs(1)?;
    let x = cx.input(0)?;
    cx.expect_float(x)?;
    let shape = cx.shape(x);
    let Some((2, signal)) = shape.split_last() else {
        return Err(Halt::shape(format!(
            "the last dimension must hold real and imaginary parts, but the shape is {shape:?}"
        )));
    };
    let rank = signal.len();
    let count = signal_dimensions(cx, cx.required_int("signal_ndim")?, rank)?;
    let mut y = x;
    for (axis, n) in signal.iter().copied().enumerate().skip(rank - count) {
        let onesided = axis + 1 == rank;
        let length = if onesided { 2 * n.saturating_sub(1) } else { n };
        y = transform(cx, y, axis, &Transform { length, inverse: true, onesided })?;
    }
    // The imaginary parts are gone.
    let shape = cx.shape(y);
    one(cx.reshape(y, &shape[..rank]))
}
