//! Resampling: one dimension after the other, each element a weighted sum of neighbours at known positions.

use nestjit_ir::DType;

mod taps;

use super::super::limit;
use super::{Halt, NodeCx, OpEntry, Result, axes, axis, extents, floats, missing, one, op};
use crate::graph::{Binary, Op, Unary, ValueId};
use crate::tensor::Tensor;
use taps::{Coordinates, Mode, Nearest, Resampling, Taps, taps};

pub(super) const OPS: &[OpEntry] =
    &[op("Resize", 10, resize).in_f32(&[0]), op("Upsample", 7, upsample).in_f32(&[0]).until(9)];

/// What becomes of a dimension.
struct Target {
    d: usize,
    scale: f64,
    /// The new extent.
    size: usize,
    /// The part of the dimension that is cut out, as fractions of its extent.
    region: Option<(f64, f64)>,
}

impl Target {
    /// Whether a dimension of this extent stays as it is.
    fn keeps(&self, extent: usize) -> bool {
        let whole = self.region.is_none_or(|r| r == (0.0, 1.0));
        (self.scale - 1.0).abs() < 1e-9 && self.size == extent && whole
    }
}

fn upsample(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let scales = match cx.opset < 9 {
        true => cx.attributes.floats("scales")?.ok_or_else(|| missing("scales"))?,
        false => {
            let scales = cx.input(1)?;
            floats(&cx.known(scales, "the scales")?, "the scales")?
        }
    };
    one(by_scales(cx, x, &scales))
}

/// Up to version 10: coordinates are those of the operand, and the nearest element is the one before.
fn by_scales(cx: &mut NodeCx<'_>, x: ValueId, scales: &[f64]) -> Result<ValueId> {
    let shape = cx.shape(x);
    expect_count(scales.len(), shape.len(), "scales")?;
    // What shrinks takes the nearest element that is not before the point: ONNX Runtime decides so for each dimension.
    let modes = match cx.string("mode", "nearest")? {
        "nearest" => [Mode::Nearest(Nearest::Ceil), Mode::Nearest(Nearest::Floor)],
        "linear" | "bilinear" => [Mode::Linear { antialias: false }; 2],
        other => return Err(Halt::invalid(format!("there is no mode '{}'", other.escape_debug()))),
    };
    let target = |(d, scale): (usize, &f64)| {
        Ok(Target { d, scale: *scale, size: scaled(shape[d], *scale)?, region: None })
    };
    let targets: Vec<Target> = scales.iter().enumerate().map(target).collect::<Result<_>>()?;
    let of = |mode| Resampling {
        mode,
        coordinates: Coordinates::Asymmetric,
        exclude_outside: false,
        extrapolation: 0.0,
    };
    if modes[0] == modes[1] {
        return along_all(cx, x, &targets, &of(modes[0]));
    }
    let (shrinking, others): (Vec<Target>, Vec<Target>) = targets.into_iter().partition(|t| t.scale < 1.0);
    let y = along_all(cx, x, &shrinking, &of(modes[0]))?;
    along_all(cx, y, &others, &of(modes[1]))
}

/// Every dimension larger by its scale, as ONNX Runtime's own operator does it: elements are repeated, or interpolated with
/// coordinates that an attribute names.
pub(super) fn enlarged(cx: &mut NodeCx<'_>, x: ValueId, scales: &[f64]) -> Result<ValueId> {
    let shape = cx.shape(x);
    expect_count(scales.len(), shape.len(), "scales")?;
    let mut resampling = resampling(cx)?;
    if matches!(resampling.mode, Mode::Nearest(_)) {
        resampling.mode = Mode::Nearest(Nearest::Floor);
    }
    if !cx.attributes.has("coordinate_transformation_mode") || matches!(resampling.mode, Mode::Nearest(_)) {
        resampling.coordinates = Coordinates::Asymmetric;
    }
    let target = |(d, scale): (usize, &f64)| {
        Ok(Target { d, scale: *scale, size: scaled(shape[d], *scale)?, region: None })
    };
    let targets: Vec<Target> = scales.iter().enumerate().map(target).collect::<Result<_>>()?;
    along_all(cx, x, &targets, &resampling)
}

fn expect_count(given: usize, needed: usize, what: &str) -> Result<()> {
    match given == needed {
        true => Ok(()),
        false => Err(Halt::invalid(format!("there are {given} {what}, but {needed} are needed"))),
    }
}

fn scaled(extent: usize, scale: f64) -> Result<usize> {
    let size = (extent as f64 * scale).floor();
    if !(scale > 0.0 && scale.is_finite() && size < 1e15) {
        return Err(Halt::invalid(format!("the scale {scale} is not possible")));
    }
    Ok(size as usize)
}

fn resampling(cx: &NodeCx<'_>) -> Result<Resampling> {
    let unknown = |what: &str, value: &str| {
        Err(Halt::invalid(format!("there is no {what} '{}'", value.escape_debug())))
    };
    let antialias = cx.flag("antialias", false)?;
    let a = cx.float("cubic_coeff_a", -0.75)?;
    let nearest = match cx.string("nearest_mode", "round_prefer_floor")? {
        "round_prefer_floor" => Nearest::RoundPreferFloor,
        "round_prefer_ceil" => Nearest::RoundPreferCeil,
        "floor" => Nearest::Floor,
        "ceil" => Nearest::Ceil,
        other => return unknown("nearest_mode", other),
    };
    let mode = match cx.string("mode", "nearest")? {
        "nearest" if antialias => {
            return Err(Halt::invalid("antialias is not possible with the mode 'nearest'"));
        }
        "nearest" => Mode::Nearest(nearest),
        "linear" => Mode::Linear { antialias },
        "cubic" => Mode::Cubic { antialias, a },
        other => return unknown("mode", other),
    };
    let coordinates = match cx.string("coordinate_transformation_mode", "half_pixel")? {
        "half_pixel" => Coordinates::HalfPixel,
        "half_pixel_symmetric" => Coordinates::HalfPixelSymmetric,
        "pytorch_half_pixel" => Coordinates::PytorchHalfPixel,
        "align_corners" => Coordinates::AlignCorners,
        "asymmetric" => Coordinates::Asymmetric,
        "tf_half_pixel_for_nn" if cx.opset < 13 => Coordinates::TfHalfPixelForNn,
        "tf_crop_and_resize" => Coordinates::CropAndResize,
        other => return unknown("coordinate_transformation_mode", other),
    };
    Ok(Resampling {
        mode,
        coordinates,
        exclude_outside: cx.flag("exclude_outside", false)?,
        extrapolation: cx.float("extrapolation_value", 0.0)?,
    })
}

pub(super) fn resize(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let shape = cx.shape(x);
    if cx.opset < 11 {
        let scales = cx.input(1)?;
        let scales = floats(&cx.known(scales, "the scales")?, "the scales")?;
        return one(by_scales(cx, x, &scales));
    }
    let resampling = resampling(cx)?;
    let along_axes: Vec<usize> = match cx.attributes.ints("axes")? {
        Some(list) => {
            axes(list, shape.len())?;
            list.iter().map(|a| axis(*a, shape.len())).collect::<Result<_, _>>()?
        }
        None => (0..shape.len()).collect(),
    };
    let roi = match cx.optional(1).filter(|_| resampling.coordinates == Coordinates::CropAndResize) {
        Some(roi) => {
            let roi = floats(&cx.known(roi, "the region")?, "the region")?;
            expect_count(roi.len(), 2 * along_axes.len(), "bounds of the region")?;
            if let Some(bound) = roi.iter().find(|bound| !bound.is_finite()) {
                return Err(Halt::invalid(format!("a bound of the region is {bound}")));
            }
            Some(roi)
        }
        None if resampling.coordinates == Coordinates::CropAndResize => {
            return Err(Halt::invalid("the region is missing"));
        }
        None => None,
    };
    let policy = aspect_ratio(cx)?;
    // An empty list of scales stands for none.
    let scales = cx.optional(2).filter(|s| cx.elements(*s) > 0);
    let targets: Vec<(f64, usize)> = match (scales, cx.optional(3)) {
        (Some(scales), None) => {
            let scales = floats(&cx.known(scales, "the scales")?, "the scales")?;
            expect_count(scales.len(), along_axes.len(), "scales")?;
            let target = |(d, scale): (&usize, &f64)| Ok((*scale, scaled(shape[*d], *scale)?));
            along_axes.iter().zip(&scales).map(target).collect::<Result<_>>()?
        }
        (None, Some(sizes)) => {
            let sizes = cx.known_ints(sizes, "the sizes")?;
            expect_count(sizes.len(), along_axes.len(), "sizes")?;
            sizes_to_targets(policy, &shape, &along_axes, &sizes)?
        }
        _ => return Err(Halt::invalid("either scales or sizes must be given")),
    };
    let region = |i: usize| roi.as_ref().map(|roi| (roi[i], roi[along_axes.len() + i]));
    let targets: Vec<Target> = (along_axes.iter().zip(targets).enumerate())
        .map(|(i, (d, (scale, size)))| Target { d: *d, scale, size, region: region(i) })
        .collect();
    one(along_all(cx, x, &targets, &resampling))
}

/// What becomes of the aspect ratio where sizes are given; where scales are, they decide.
#[derive(Clone, Copy, PartialEq, Debug)]
enum AspectRatio {
    Stretch,
    NotLarger,
    NotSmaller,
}

fn aspect_ratio(cx: &NodeCx<'_>) -> Result<AspectRatio> {
    Ok(match cx.string("keep_aspect_ratio_policy", "stretch")? {
        "stretch" => AspectRatio::Stretch,
        "not_larger" => AspectRatio::NotLarger,
        "not_smaller" => AspectRatio::NotSmaller,
        other => return Err(Halt::invalid(format!("there is no policy '{}'", other.escape_debug()))),
    })
}

/// Scales and sizes, with the aspect ratio kept if that is asked for.
fn sizes_to_targets(
    policy: AspectRatio,
    shape: &[usize],
    axes: &[usize],
    sizes: &[i64],
) -> Result<Vec<(f64, usize)>> {
    let sizes = extents(sizes, "a size")?;
    if let Some((d, n)) = axes.iter().zip(&sizes).find(|(d, n)| shape[**d] == 0 && **n > 0) {
        return Err(Halt::shape(format!("dimension {d} has no element, and cannot become {n}")));
    }
    let scale = |(d, n): (&usize, &usize)| if shape[*d] == 0 { 1.0 } else { *n as f64 / shape[*d] as f64 };
    let scales = || axes.iter().zip(&sizes).map(scale);
    let common = match policy {
        AspectRatio::Stretch => return Ok(scales().zip(sizes.iter().copied()).collect()),
        AspectRatio::NotLarger => scales().fold(f64::INFINITY, f64::min),
        AspectRatio::NotSmaller => scales().fold(0.0, f64::max),
    };
    Ok(axes.iter().map(|d| (common, (common * shape[*d] as f64 + 0.5) as usize)).collect())
}

/// One dimension after the other. Integers are interpolated as floats in all of them, and rounded (to even from the
/// middle between two) and saturated once, at the end.
fn along_all(
    cx: &mut NodeCx<'_>,
    x: ValueId,
    targets: &[Target],
    resampling: &Resampling,
) -> Result<ValueId> {
    let (dtype, shape) = (cx.dtype(x), cx.shape(x));
    let nearest = matches!(resampling.mode, Mode::Nearest(_));
    let narrows = !nearest && !dtype.is_float() && targets.iter().any(|t| !t.keeps(shape[t.d]));
    let mut y = if narrows { cx.cast(x, DType::F64)? } else { x };
    for target in targets {
        y = along(cx, y, target, resampling)?;
    }
    if narrows {
        let rounded = cx.unary(Unary::Round, y)?;
        y = cx.cast(rounded, dtype)?;
    }
    Ok(y)
}

fn along(cx: &mut NodeCx<'_>, x: ValueId, target: &Target, resampling: &Resampling) -> Result<ValueId> {
    let Target { d, scale, size, region } = *target;
    let shape = cx.shape(x);
    let input = shape[d];
    if target.keeps(input) {
        return Ok(x);
    }
    let mut result = shape.clone();
    result[d] = size;
    limit::check(cx.dtype(x), &result)?;
    if size == 0 {
        return Ok(cx.constant(Tensor::zeros(cx.dtype(x), &result)?));
    }
    // Each element has about as many neighbours as shrinking makes one of.
    let neighbours = 4.0 * (1.0 / scale).max(1.0);
    limit::check_table(DType::F64, &[size, neighbours as usize])?;
    if input == 0 && size > 0 {
        return Err(Halt::shape(format!("the tensor of shape {shape:?} has no element along dimension {d}")));
    }
    let taps = taps(resampling, scale, input, size, region);
    let mut y = nearest_or_sum(cx, x, d, &taps, matches!(resampling.mode, Mode::Nearest(_)))?;
    if taps.outside.contains(&true) {
        let mut extents = vec![1; shape.len()];
        extents[d] = size;
        let outside = cx.values(&extents, &taps.outside)?;
        let value = cx.scalar_like(x, resampling.extrapolation);
        y = cx.select(outside, value, y)?;
    }
    Ok(y)
}

/// The elements at these positions along a dimension. Positions that follow a rule need no table, and cost nothing
/// once they are merged with what reads them.
fn pick(cx: &mut NodeCx<'_>, x: ValueId, d: usize, positions: &[i64]) -> Result<ValueId> {
    let shape = cx.shape(x);
    let (size, input) = (positions.len(), shape[d]);
    if let Some(times) = size.checked_div(input)
        && times > 0
        && size == times * input
        && positions.iter().enumerate().all(|(i, p)| *p == (i / times) as i64)
    {
        // Every element several times in a row.
        let mut repeated = shape.clone();
        repeated.insert(d + 1, times);
        let column = cx.unsqueeze(x, d + 1)?;
        let spread = cx.expand(column, &repeated)?;
        let mut result = shape;
        result[d] = size;
        return cx.reshape(spread, &result);
    }
    if let [first, second, ..] = positions
        && second > first
        && positions.windows(2).all(|pair| pair[1] - pair[0] == second - first)
    {
        let (mut starts, mut steps) = (vec![0; shape.len()], vec![1; shape.len()]);
        (starts[d], steps[d]) = (*first as usize, second - first);
        let mut extents = shape;
        extents[d] = size;
        return cx.add(Op::Slice { starts, extents, steps }, &[x]);
    }
    let positions = cx.values(&[size], positions)?;
    cx.gather(x, positions, d)
}

fn nearest_or_sum(cx: &mut NodeCx<'_>, x: ValueId, d: usize, taps: &Taps, nearest: bool) -> Result<ValueId> {
    let size = taps.outside.len();
    if nearest || size == 0 {
        let chosen: Vec<i64> =
            (0..size).map(|i| taps.positions[if taps.weights[0][i] != 0.0 { 0 } else { 1 }][i]).collect();
        return pick(cx, x, d, &chosen);
    }
    let mut extents = vec![1; cx.rank(x)];
    extents[d] = size;
    let mut sum = None;
    for (positions, weights) in taps.positions.iter().zip(&taps.weights) {
        if weights.iter().all(|w| *w == 0.0) {
            continue;
        }
        let positions = cx.values(&[size], positions)?;
        let neighbours = cx.gather(x, positions, d)?;
        let weights = cx.floats_like(x, &extents, weights)?;
        let term = cx.binary(Binary::Mul, neighbours, weights)?;
        sum = Some(match sum {
            None => term,
            Some(sum) => cx.binary(Binary::Add, sum, term)?,
        });
    }
    sum.ok_or_else(|| Halt::internal("a weighted sum without weights"))
}
