//! Regions of images.

use nestjit_ir::{CheckKind, DType};

use super::super::limit;
use super::sampling::{Images, Mode, Padding};
use super::{Halt, NodeCx, OpEntry, Result, extent, floats, one, op};
use crate::graph::{Binary, Op, Reduction, ValueId};
use crate::tensor::Tensor;

pub(super) const OPS: &[OpEntry] = &[op("RoiAlign", 10, roi_align).in_f32(&[0])];

/// Regions of images, divided into bins, each the mean or maximum of a few samples.
fn roi_align(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let (x, regions, batch) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let default = if cx.opset < 16 { "output_half_pixel" } else { "half_pixel" };
    let half_pixel = match cx.string("coordinate_transformation_mode", default)? {
        "half_pixel" => true,
        "output_half_pixel" => false,
        other => {
            return Err(Halt::invalid(format!(
                "there is no coordinate transformation '{}'",
                other.escape_debug()
            )));
        }
    };
    let largest = match cx.string("mode", "avg")? {
        "avg" => false,
        "max" => true,
        other => return Err(Halt::invalid(format!("there is no mode '{}'", other.escape_debug()))),
    };
    let bins = [
        extent(cx.int("output_height", 1)?, "output_height")?,
        extent(cx.int("output_width", 1)?, "output_width")?,
    ];
    let ratio = extent(cx.int("sampling_ratio", 0)?, "sampling_ratio")?;
    let scale = cx.float("spatial_scale", 1.0)?;
    let (shape, count) = (cx.shape(x), cx.elements(batch));
    if shape.len() != 4 || cx.shape(regions) != [count, 4] {
        return Err(Halt::shape(format!(
            "{count} regions need a tensor [{count}, 4] and images of rank 4, but the regions are {:?} and the images {shape:?}",
            cx.shape(regions)
        )));
    }
    // How many samples a bin of each region has in each dimension; if that is not given, one per pixel.
    let counts = match ratio {
        0 => samples_of(
            &cx.known(regions, "the regions, which tell the number of samples,")?,
            bins,
            scale,
            half_pixel,
        )?,
        _ => vec![[ratio; 2]; count],
    };
    let most = [0, 1].map(|d| counts.iter().map(|c: &[usize; 2]| c[d]).max().unwrap_or(0).max(1));
    let samples = [limit::product(&[bins[0], most[0]])?, limit::product(&[bins[1], most[1]])?];
    limit::check_table(DType::F64, &[count, samples[0], samples[1]])?;
    let (mut coordinates, mut seen) = (Vec::new(), None);
    for d in 0..2 {
        // Regions list x first.
        let mut bounds = [regions; 2];
        for (i, bound) in bounds.iter_mut().enumerate() {
            let column = cx.narrow(regions, 1, 2 * i + 1 - d, 1)?;
            let scaled = cx.binary_const(Binary::Mul, column, scale)?;
            *bound = cx.binary_const(Binary::Sub, scaled, if half_pixel { 0.5 } else { 0.0 })?;
        }
        let mut size = cx.binary(Binary::Sub, bounds[1], bounds[0])?;
        if !half_pixel {
            size = cx.binary_const(Binary::Max, size, 1.0)?;
        }
        // Where there are fewer than the most, the last one is repeated.
        let fraction = |n: usize, i: usize| {
            let within = (i % most[d]).min(n.max(1) - 1) as f64 + 0.5;
            ((i / most[d]) as f64 + within / n.max(1) as f64) / bins[d] as f64
        };
        let fractions: Vec<f64> =
            counts.iter().flat_map(|n| (0..samples[d]).map(move |i| fraction(n[d], i))).collect();
        let fractions = cx.floats_like(x, &[count, samples[d]], &fractions)?;
        let within = cx.binary(Binary::Mul, size, fractions)?;
        let at = cx.binary(Binary::Add, bounds[0], within)?;
        let n = shape[2 + d] as f64;
        let low = cx.binary_const(Binary::Ge, at, -1.0)?;
        let high = cx.binary_const(Binary::Le, at, n)?;
        let here = cx.binary(Binary::And, low, high)?;
        let at = cx.add(Op::Clip { min: Some(0.0), max: Some(n - 1.0) }, &[at])?;
        // Every row with every column.
        let grid = |cx: &mut NodeCx<'_>, v: ValueId| {
            let line = if d == 0 { [count, samples[0], 1] } else { [count, 1, samples[1]] };
            let v = cx.reshape(v, &line)?;
            let v = cx.expand(v, &[count, samples[0], samples[1]])?;
            cx.reshape(v, &[count, samples[0] * samples[1]])
        };
        coordinates.push(grid(cx, at)?);
        let here = grid(cx, here)?;
        seen = Some(match seen {
            None => here,
            Some(seen) => cx.binary(Binary::And, seen, here)?,
        });
    }
    let which = cx.checked(batch, 2, CheckKind::Index, 0, shape[0] as i64)?;
    let which = cx.reshape(which, &[count, 1])?;
    let images = Images::new(cx, x, Some(which))?;
    let mut value = None;
    for (elements, weight) in images.taps(cx, &coordinates, Mode::Linear, Padding::Border)? {
        let term = match weight {
            Some(weight) => cx.binary(Binary::Mul, elements, weight)?,
            None => elements,
        };
        let op = if largest { Binary::Max } else { Binary::Add };
        value = Some(match value {
            None => term,
            Some(value) => cx.binary(op, value, term)?,
        });
    }
    let (Some(mut value), Some(seen)) = (value, seen) else { return Err(Halt::internal("no samples")) };
    let seen = cx.unsqueeze(seen, 2)?;
    let nothing = cx.scalar_like(value, 0.0);
    value = cx.select(seen, value, nothing)?;
    let mut split = cx.reshape(value, &[count, bins[0], most[0], bins[1], most[1], shape[1]])?;
    if ratio == 0 {
        split = weighted(cx, split, &counts, most, largest)?;
    }
    let op = match (largest, ratio) {
        (true, _) => Reduction::Max,
        (false, 0) => Reduction::Sum,
        (false, _) => Reduction::Mean,
    };
    let pooled = cx.reduce(op, split, &[2, 4], false)?;
    one(cx.transpose(pooled, &[0, 3, 1, 2]))
}

/// How many samples the bins of each region have, vertically and horizontally: one for each pixel or part of one.
fn samples_of(regions: &Tensor, bins: [usize; 2], scale: f64, half_pixel: bool) -> Result<Vec<[usize; 2]>> {
    let bounds = floats(regions, "the regions")?;
    let of = |region: &[f64]| {
        [0, 1].map(|d| {
            // Regions list x first. Rounded as the coordinates are.
            let [low, high] = [region[1 - d], region[3 - d]].map(|v| v as f32 * scale as f32);
            let size = if half_pixel { high - low } else { (high - low).max(1.0) };
            (size / bins[d] as f32).ceil() as usize
        })
    };
    Ok(bounds.chunks_exact(4).map(of).collect())
}

/// Samples `[regions, bins, most, bins, most, channels]` with weights whose sum over a bin is 1, or 0 if it has none. For
/// maxima, only bins without samples count.
fn weighted(
    cx: &mut NodeCx<'_>,
    samples: ValueId,
    counts: &[[usize; 2]],
    most: [usize; 2],
    largest: bool,
) -> Result<ValueId> {
    let mut weighted = samples;
    for d in 0..2 {
        let weight = |n: usize, i: usize| match (largest, n) {
            (_, 0) => 0.0,
            (true, _) => 1.0,
            (false, n) if i < n => 1.0 / n as f64,
            (false, _) => 0.0,
        };
        let weights: Vec<f64> =
            counts.iter().flat_map(|n| (0..most[d]).map(move |i| weight(n[d], i))).collect();
        let mut shape = [counts.len(), 1, 1, 1, 1, 1];
        shape[2 + 2 * d] = most[d];
        let weights = cx.floats_like(samples, &shape, &weights)?;
        weighted = cx.binary(Binary::Mul, weighted, weights)?;
    }
    Ok(weighted)
}
