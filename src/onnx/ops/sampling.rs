//! Images read between their elements, at positions that are values.

use nestjit_ir::DType;

use super::super::limit;
use super::gather::steps;
use super::window::{spatial, window};
use super::{Halt, NodeCx, OpEntry, Result, extent, one, op};
use crate::graph::{Binary, Op, Unary, ValueId};

pub(super) const OPS: &[OpEntry] = &[
    op("AffineGrid", 20, affine_grid).in_f32(&[0]),
    op("DeformConv", 19, deform_conv).in_f32(&[0]),
    op("GridSample", 16, grid_sample).in_f32(&[0]),
];

/// What is read between elements.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Mode {
    Nearest,
    Linear,
    Cubic,
}

/// What is read outside the image.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Padding {
    Zeros,
    Border,
    /// Mirrored at the centres of the border elements, or at their outer edges.
    Reflection {
        centres: bool,
    },
}

/// Images as rows of channels, `[N * S, C]`, and where each image starts.
pub(super) struct Images {
    rows: ValueId,
    /// Added to positions in an image: `[N, 1]`.
    starts: ValueId,
    spatial: Vec<usize>,
}

impl Images {
    /// `[N, C, S1, .., Sk]`; `which`, `[M, 1]`, says in which image each list of points is.
    pub fn new(cx: &mut NodeCx<'_>, x: ValueId, which: Option<ValueId>) -> Result<Images> {
        let shape = cx.shape(x);
        let (n, c, extents) = (shape[0], shape[1], spatial(&shape)?.to_vec());
        let size: usize = extents.iter().product();
        if size == 0 {
            return Err(Halt::shape(format!("the images have no elements: their shape is {shape:?}")));
        }
        let flat = cx.reshape(x, &[n, c, size])?;
        let last = cx.transpose(flat, &[0, 2, 1])?;
        let rows = cx.reshape(last, &[n * size, c])?;
        let starts = match which {
            Some(which) => cx.binary_const(Binary::Mul, which, size as f64)?,
            None => steps(cx, 2, 0, n, size)?,
        };
        Ok(Images { rows, starts, spatial: extents })
    }

    /// The elements at whole positions (a list per dimension, `[N, P]`, of floats): `[N, P, C]`.
    fn read(&self, cx: &mut NodeCx<'_>, at: &[ValueId], padding: Padding) -> Result<ValueId> {
        let mut valid = None;
        let mut position = self.starts;
        let mut stride: usize = self.spatial.iter().product();
        for (x, n) in at.iter().zip(&self.spatial) {
            stride /= n;
            let top = (*n - 1) as f64;
            let mut x = *x;
            match padding {
                Padding::Zeros => {
                    let low = cx.binary_const(Binary::Ge, x, 0.0)?;
                    let high = cx.binary_const(Binary::Le, x, top)?;
                    let here = cx.binary(Binary::And, low, high)?;
                    valid = Some(match valid {
                        None => here,
                        Some(valid) => cx.binary(Binary::And, valid, here)?,
                    });
                }
                Padding::Border => {}
                Padding::Reflection { centres } => {
                    x = reflect(cx, x, *n, centres)?;
                    x = cx.unary(Unary::Trunc, x)?;
                }
            }
            let inside = cx.add(Op::Clip { min: Some(0.0), max: Some(top) }, &[x])?;
            let index = cx.cast(inside, DType::I64)?;
            let offset = cx.binary_const(Binary::Mul, index, stride as f64)?;
            position = cx.binary(Binary::Add, position, offset)?;
        }
        let elements = cx.gather(self.rows, position, 0)?;
        let Some(valid) = valid else { return Ok(elements) };
        let valid = cx.unsqueeze(valid, 2)?;
        let nothing = cx.scalar_like(elements, 0.0);
        cx.select(valid, elements, nothing)
    }

    /// The neighbours of points (a list per dimension, `[N, P]`) and their weights: `[N, P, C]` and `[N, P, 1]`.
    pub fn taps(
        &self,
        cx: &mut NodeCx<'_>,
        points: &[ValueId],
        mode: Mode,
        padding: Padding,
    ) -> Result<Vec<(ValueId, Option<ValueId>)>> {
        if mode == Mode::Nearest {
            return Ok(vec![(self.read(cx, points, padding)?, None)]);
        }
        // Per dimension, positions and weights of the neighbours.
        let mut along = Vec::with_capacity(points.len());
        for x in points {
            let whole = cx.unary(Unary::Floor, *x)?;
            let ratio = cx.binary(Binary::Sub, *x, whole)?;
            let neighbours = if mode == Mode::Linear { 0..=1 } else { -1..=2 };
            let mut list = Vec::new();
            for offset in neighbours {
                let at = cx.binary_const(Binary::Add, whole, f64::from(offset))?;
                let distance = cx.binary_const(Binary::Sub, ratio, f64::from(offset))?;
                let distance = cx.unary(Unary::Abs, distance)?;
                list.push((at, weight(cx, distance, mode, (0..=1).contains(&offset))?));
            }
            along.push(list);
        }
        let mut choices: Vec<(Vec<ValueId>, Option<ValueId>)> = vec![(Vec::new(), None)];
        for list in along {
            let mut more = Vec::with_capacity(choices.len() * list.len());
            for (positions, weight) in &choices {
                for (at, factor) in &list {
                    let weight = match weight {
                        None => *factor,
                        Some(weight) => cx.binary(Binary::Mul, *weight, *factor)?,
                    };
                    more.push(([positions.as_slice(), &[*at]].concat(), Some(weight)));
                }
            }
            choices = more;
        }
        let mut taps = Vec::with_capacity(choices.len());
        for (positions, weight) in choices {
            let elements = self.read(cx, &positions, padding)?;
            let weight = weight.map(|w| cx.unsqueeze(w, 2)).transpose()?;
            taps.push((elements, weight));
        }
        Ok(taps)
    }

    /// What is at the points: `[N, P, C]`.
    pub fn sample(
        &self,
        cx: &mut NodeCx<'_>,
        points: &[ValueId],
        mode: Mode,
        padding: Padding,
    ) -> Result<ValueId> {
        let mut sum = None;
        for (elements, weight) in self.taps(cx, points, mode, padding)? {
            let term = match weight {
                Some(weight) => cx.binary(Binary::Mul, elements, weight)?,
                None => elements,
            };
            sum = Some(match sum {
                None => term,
                Some(sum) => cx.binary(Binary::Add, sum, term)?,
            });
        }
        sum.ok_or_else(|| Halt::internal("a sample without neighbours"))
    }
}

/// The weight of a neighbour at this distance; a cubic kernel is one polynomial up to 1 (`near`), another up to 2.
fn weight(cx: &mut NodeCx<'_>, distance: ValueId, mode: Mode, near: bool) -> Result<ValueId> {
    const A: f64 = -0.75;
    // From the highest power down.
    let polynomial: &[f64] = match (mode, near) {
        (Mode::Cubic, true) => &[A + 2.0, -(A + 3.0), 0.0, 1.0],
        (Mode::Cubic, false) => &[A, -5.0 * A, 8.0 * A, -4.0 * A],
        _ => &[-1.0, 1.0],
    };
    let mut y = cx.binary_const(Binary::Mul, distance, polynomial[0])?;
    for (i, coefficient) in polynomial.iter().enumerate().skip(1) {
        if *coefficient != 0.0 {
            y = cx.binary_const(Binary::Add, y, *coefficient)?;
        }
        if i + 1 < polynomial.len() {
            y = cx.binary(Binary::Mul, y, distance)?;
        }
    }
    Ok(y)
}

/// `x` mirrored until it is between the borders of a dimension of extent `n`.
fn reflect(cx: &mut NodeCx<'_>, x: ValueId, n: usize, centres: bool) -> Result<ValueId> {
    let (low, high) = if centres { (0.0, n as f64 - 1.0) } else { (-0.5, n as f64 - 0.5) };
    let range = high - low;
    if range == 0.0 {
        let shape = cx.shape(x);
        let zero = cx.scalar_like(x, low);
        return cx.expand(zero, &shape);
    }
    let distance = cx.binary_const(Binary::Sub, x, low)?;
    let distance = cx.unary(Unary::Abs, distance)?;
    // Up and down again, with a period of twice the range.
    let phase = cx.binary_const(Binary::Mod, distance, 2.0 * range)?;
    let down = cx.scalar_like(x, 2.0 * range);
    let down = cx.binary(Binary::Sub, down, phase)?;
    let folded = cx.binary(Binary::Min, phase, down)?;
    cx.binary_const(Binary::Add, folded, low)
}

pub(super) fn grid_sample(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let (x, grid) = (cx.input(0)?, cx.input(1)?);
    let mode = match cx.string("mode", "linear")? {
        "linear" | "bilinear" => Mode::Linear,
        "cubic" | "bicubic" => Mode::Cubic,
        "nearest" => Mode::Nearest,
        other => return Err(Halt::invalid(format!("there is no mode '{}'", other.escape_debug()))),
    };
    let centres = cx.flag("align_corners", false)?;
    let padding = match cx.string("padding_mode", "zeros")? {
        "zeros" => Padding::Zeros,
        "border" => Padding::Border,
        "reflection" => Padding::Reflection { centres },
        other => return Err(Halt::invalid(format!("there is no padding mode '{}'", other.escape_debug()))),
    };
    let (shape, extents) = (cx.shape(x), cx.shape(grid));
    let k = spatial(&shape)?.len();
    if extents.len() != k + 2 || extents[0] != shape[0] || extents[k + 1] != k {
        return Err(Halt::shape(format!(
            "a grid of shape {extents:?} does not fit images of shape {shape:?}"
        )));
    }
    let count: usize = extents[1..=k].iter().product();
    // Between elements both are of the wider type; the result is narrowed once, integers rounded.
    cx.expect_float(grid)?;
    let dtype = cx.dtype(x);
    let single = |dtype: DType| if dtype == DType::F64 { DType::F64 } else { DType::F32 };
    let wider = match dtype {
        DType::F32 | DType::F16 | DType::BF16 => single(cx.dtype(grid)),
        DType::F64 | DType::I64 | DType::I32 | DType::I16 | DType::I8 => DType::F64,
        DType::U64 | DType::U32 | DType::U16 | DType::U8 | DType::Bool => DType::F64,
    };
    let between = if mode == Mode::Nearest { single(cx.dtype(grid)) } else { wider };
    let grid = cx.cast(grid, between)?;
    let image = if mode == Mode::Nearest { x } else { cx.cast(x, between)? };
    let points = cx.reshape(grid, &[extents[0], count, k])?;
    let mut coordinates = Vec::with_capacity(k);
    for d in 0..k {
        // Grids list the last dimension first.
        let at = cx.narrow(points, 2, k - 1 - d, 1)?;
        let at = cx.reshape(at, &[extents[0], count])?;
        let n = shape[2 + d] as f64;
        let (factor, offset) =
            if centres { ((n - 1.0) / 2.0, (n - 1.0) / 2.0) } else { (n / 2.0, (n - 1.0) / 2.0) };
        let at = cx.binary_const(Binary::Mul, at, factor)?;
        let mut at = cx.binary_const(Binary::Add, at, offset)?;
        if mode == Mode::Nearest {
            at = cx.unary(Unary::Round, at)?;
        }
        let (low, high) = if centres { (0.0, n - 1.0) } else { (-0.5, n - 0.5) };
        // A cubic kernel's neighbours are moved one by one: moving the point to the border would change its weights.
        let moved = match padding {
            Padding::Zeros => None,
            _ if mode == Mode::Cubic => None,
            Padding::Border => Some(cx.add(Op::Clip { min: Some(0.0), max: Some(n - 1.0) }, &[at])?),
            Padding::Reflection { centres } => Some(reflect(cx, at, shape[2 + d], centres)?),
        };
        if let Some(moved) = moved {
            let below = cx.binary_const(Binary::Lt, at, low)?;
            let above = cx.binary_const(Binary::Gt, at, high)?;
            let outside = cx.binary(Binary::Or, below, above)?;
            at = cx.select(outside, moved, at)?;
        }
        coordinates.push(at);
    }
    let images = Images::new(cx, image, None)?;
    let mut y = images.sample(cx, &coordinates, mode, padding)?;
    if mode != Mode::Nearest && !dtype.is_float() {
        y = cx.unary(Unary::Round, y)?;
    }
    let y = cx.cast(y, dtype)?;
    let y = cx.transpose(y, &[0, 2, 1])?;
    one(cx.reshape(y, &[&shape[..2], &extents[1..=k]].concat()))
}

fn affine_grid(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let (theta, size) = (cx.input(0)?, cx.input(1)?);
    cx.expect_float(theta)?;
    let corners = cx.flag("align_corners", false)?;
    let size = cx.known_extents(size, "the size")?;
    let k = spatial(&size)?.len();
    if cx.shape(theta) != [size[0], k, k + 1] {
        return Err(Halt::shape(format!(
            "transformations of shape {:?} do not fit the size {size:?}",
            cx.shape(theta)
        )));
    }
    let count = limit::product(&size[2..])?;
    limit::check_table(DType::F64, &[count, k + 1])?;
    // Homogeneous coordinates, [k + 1, points]; the last dimension comes first.
    let mut points = vec![1.0; (k + 1) * count];
    for p in 0..count {
        let mut rest = p;
        for d in (0..k).rev() {
            let n = size[2 + d];
            let i = (rest % n) as f64;
            rest /= n;
            points[(k - 1 - d) * count + p] = match (corners, n as f64) {
                (true, 1.0) => -1.0,
                (true, n) => 2.0 * i / (n - 1.0) - 1.0,
                (false, n) => (2.0 * i + 1.0) / n - 1.0,
            };
        }
    }
    let points = cx.floats_like(theta, &[k + 1, count], &points)?;
    let grid = cx.add(Op::MatMul, &[theta, points])?;
    let grid = cx.transpose(grid, &[0, 2, 1])?;
    one(cx.reshape(grid, &[&size[..1], &size[2..], &[k]].concat()))
}

fn deform_conv(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let (x, weight, offset) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let (shape, filter) = (cx.shape(x), cx.shape(weight));
    let ([n, c, h, w], [m, _, kh, kw]) = (&shape[..], &filter[..]) else {
        return Err(Halt::unsupported(format!(
            "an operand of shape {shape:?} and a weight of shape {filter:?} are not supported: there must be 2 spatial dimensions"
        )));
    };
    let (n, c, m, kernel) = (*n, *c, *m, [*kh, *kw]);
    cx.attributes.ignore(&["kernel_shape"]);
    let window = window(cx, &[*h, *w], kernel.to_vec())?;
    let groups = extent(cx.int("group", 1)?, "group")?;
    let parts = extent(cx.int("offset_group", 1)?, "offset_group")?;
    let [_, _, oh, ow] = cx.shape(offset)[..] else {
        return Err(Halt::shape("the offsets must be of rank 4"));
    };
    let taps = kernel[0] * kernel[1];
    let fits = groups > 0
        && parts > 0
        && c.is_multiple_of(parts)
        && c.is_multiple_of(groups)
        && m.is_multiple_of(groups)
        && filter[1] == c / groups
        && cx.shape(offset) == [n, limit::product(&[parts, taps, 2])?, oh, ow];
    if !fits {
        return Err(Halt::shape(format!(
            "an operand of shape {shape:?}, a weight of shape {filter:?} and offsets of shape {:?} do not fit",
            cx.shape(offset)
        )));
    }
    let points = limit::product(&[taps, oh, ow])?;
    let offsets = cx.reshape(offset, &[n * parts, taps, 2, oh, ow])?;
    let mut coordinates = Vec::with_capacity(2);
    for d in 0..2 {
        let out = [oh, ow];
        let moved = cx.narrow(offsets, 2, d, 1)?;
        let moved = cx.reshape(moved, &[n * parts, taps, oh, ow])?;
        let tap = |t: usize| if d == 0 { t / kernel[1] } else { t % kernel[1] };
        let kernel_at: Vec<f64> =
            (0..taps).map(|t| (tap(t) * window.dilations[d]) as f64 - window.pads_begin[d] as f64).collect();
        let kernel_at = cx.floats_like(x, &[taps, 1, 1], &kernel_at)?;
        let window_at: Vec<f64> = (0..out[d]).map(|i| (i * window.strides[d]) as f64).collect();
        let window_at = cx.floats_like(x, &if d == 0 { [oh, 1] } else { [1, ow] }, &window_at)?;
        let base = cx.binary(Binary::Add, kernel_at, window_at)?;
        let at = cx.binary(Binary::Add, moved, base)?;
        coordinates.push(cx.reshape(at, &[n * parts, points])?);
    }
    let split = cx.reshape(x, &[n * parts, c / parts, *h, *w])?;
    let images = Images::new(cx, split, None)?;
    let mut columns = images.sample(cx, &coordinates, Mode::Linear, Padding::Zeros)?;
    if let Some(mask) = cx.optional(4) {
        let mask = cx.reshape(mask, &[n * parts, points, 1])?;
        columns = cx.binary(Binary::Mul, columns, mask)?;
    }
    // [N, groups, C / groups * taps, windows] under the weights [groups, M / groups, C / groups * taps].
    let columns = cx.transpose(columns, &[0, 2, 1])?;
    let columns = cx.reshape(columns, &[n, groups, c / groups * taps, oh * ow])?;
    let weight = cx.reshape(weight, &[groups, m / groups, c / groups * taps])?;
    let y = cx.add(Op::MatMul, &[weight, columns])?;
    let mut y = cx.reshape(y, &[n, m, oh, ow])?;
    if let Some(bias) = cx.optional(3) {
        y = cx.add(Op::BiasAdd { axis: 1 }, &[y, bias])?;
    }
    Ok(vec![y])
}
