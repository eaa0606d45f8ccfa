//! Operators that rearrange elements.

use nestjit_ir::DType;

use super::super::limit;
use super::{Halt, NodeCx, OpEntry, Result, axes, axis, extent, extents, one, op};
use crate::graph::{Binary, Op, PadMode, ValueId};
use crate::host::{HostOp, Item, extent as host_extent, movement as host};
use crate::tensor::Tensor;

pub(super) const OPS: &[OpEntry] = &[
    op("Concat", 1, concat),
    op("DepthToSpace", 1, depth_to_space),
    op("Expand", 8, expand)
        .on_host(|_| Ok(HostOp::tensor(|x| host_extent::expand(x.tensor(0)?, x.tensor(1)?)))),
    op("Flatten", 1, flatten),
    op("Pad", 1, pad),
    op("Reshape", 1, reshape).on_host_since(5, |n| {
        let allow_zero = n.attributes.int("allowzero")?.unwrap_or(0) != 0;
        Ok(HostOp::tensor(move |x| host_extent::reshape(x.tensor(0)?, x.tensor(1)?, allow_zero)))
    }),
    op("Slice", 1, slice).on_host_since(10, |_| {
        Ok(HostOp::tensor(|x| {
            host::slice(x.tensor(0)?, x.tensor(1)?, x.tensor(2)?, x.optional(3)?, x.optional(4)?)
        }))
    }),
    op("SpaceToDepth", 1, space_to_depth),
    op("Split", 1, split).on_host_since(13, |n| {
        n.attributes.ignore(&["num_outputs"]);
        let (axis, outputs) = (n.attributes.int("axis")?.unwrap_or(0), n.outputs);
        Ok(HostOp::new(outputs, move |x| {
            let parts = host::split(x.tensor(0)?, x.optional(1)?, axis, outputs)?;
            Ok(parts.into_iter().map(Item::Tensor).collect())
        }))
    }),
    op("Squeeze", 1, squeeze),
    op("Tile", 6, tile).on_host(|_| Ok(HostOp::tensor(|x| host::tile(x.tensor(0)?, x.tensor(1)?)))),
    op("Transpose", 1, transpose),
    op("Unsqueeze", 1, unsqueeze),
];

fn concat(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let inputs = cx.inputs()?;
    let Some(first) = inputs.first() else { return Err(Halt::invalid("at least one input is needed")) };
    let axis = match cx.opset < 4 {
        true => cx.axis(1, cx.rank(*first))?,
        false => axis(cx.required_int("axis")?, cx.rank(*first))?,
    };
    one(cx.concat(&inputs, axis))
}

fn transpose(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let rank = cx.rank(x);
    let perm = match cx.attributes.ints("perm")? {
        Some(perm) => perm.iter().map(|d| axis(*d, rank)).collect::<Result<_, _>>()?,
        None => (0..rank).rev().collect(),
    };
    one(cx.add(Op::Transpose { perm }, &[x]))
}

fn reshape(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.attributes.ignore(&["consumed_inputs"]);
    let x = cx.input(0)?;
    let allow_zero = cx.flag("allowzero", false)?;
    let Some(list) = cx.ints_or_input("shape", 1)? else {
        return Err(Halt::invalid("the shape is missing"));
    };
    let old = cx.shape(x);
    let mut shape = Vec::with_capacity(list.len());
    for (d, wanted) in list.iter().enumerate() {
        shape.push(match *wanted {
            // Replaced below.
            -1 => 1,
            0 if !allow_zero => *old.get(d).ok_or_else(|| {
                Halt::invalid(format!("the shape {list:?} repeats dimension {d} of {old:?}"))
            })?,
            wanted => extent(wanted, "a dimension of the shape")?,
        });
    }
    let mut open = list.iter().enumerate().filter(|(_, wanted)| **wanted == -1).map(|(d, _)| d);
    if let Some(d) = open.next() {
        let others = shape.iter().try_fold(1usize, |product, n| product.checked_mul(*n));
        let elements = cx.elements(x);
        let fits = others.filter(|n| *n != 0 && elements.is_multiple_of(*n));
        let Some(others) = fits.filter(|_| open.next().is_none()) else {
            return Err(Halt::shape(format!("cannot reshape {old:?} to {list:?}")));
        };
        shape[d] = elements / others;
    }
    one(cx.reshape(x, &shape))
}

fn flatten(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let shape = cx.shape(x);
    let given = cx.int("axis", 1)?;
    let first = if given < 0 { given + shape.len() as i64 } else { given };
    let first = usize::try_from(first).ok().filter(|a| *a <= shape.len());
    let Some(first) = first else {
        return Err(Halt::invalid(format!("axis {given} does not exist in {shape:?}")));
    };
    let flat = [shape[..first].iter().product(), shape[first..].iter().product()];
    one(cx.reshape(x, &flat))
}

fn squeeze(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let shape = cx.shape(x);
    let dropped = match cx.ints_or_input("axes", 1)? {
        Some(list) => axes(&list, shape.len())?,
        None => (0..shape.len()).filter(|d| shape[*d] == 1).collect(),
    };
    if let Some(d) = dropped.iter().find(|d| shape[**d] != 1) {
        return Err(Halt::shape(format!("dimension {d} of {shape:?} is not 1")));
    }
    let kept: Vec<usize> =
        shape.iter().enumerate().filter(|(d, _)| !dropped.contains(d)).map(|(_, n)| *n).collect();
    one(cx.reshape(x, &kept))
}

fn unsqueeze(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let Some(list) = cx.ints_or_input("axes", 1)? else { return Err(Halt::invalid("the axes are missing")) };
    let mut shape = cx.shape(x);
    if list.len() > limit::RANK {
        return Err(Halt::limit(format!("{} axes are too many", list.len())));
    }
    for d in axes(&list, shape.len() + list.len())? {
        shape.insert(d, 1);
    }
    one(cx.reshape(x, &shape))
}

/// Dimensions are broadcast both ways.
fn expand(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let (x, shape) = (cx.input(0)?, cx.input(1)?);
    let list = cx.known_ints(shape, "the shape")?;
    let target = extents(&list, "a dimension of the shape")?;
    let old = cx.shape(x);
    let Some(shape) = crate::graph::infer::broadcast_shapes(&[&old, &target]) else {
        return Err(Halt::shape(format!("a tensor of shape {old:?} does not broadcast to {target:?}")));
    };
    one(cx.expand(x, &shape))
}

fn tile(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let (x, repeats) = (cx.input(0)?, cx.input(1)?);
    let shape = cx.shape(x);
    let repeats = cx.known_ints(repeats, "the repeats")?;
    if repeats.len() != shape.len() {
        return Err(Halt::shape(format!(
            "there are {} repeats, but the tensor has the shape {shape:?}",
            repeats.len()
        )));
    }
    let (mut split, mut spread, mut joined) = (Vec::new(), Vec::new(), Vec::new());
    for (n, repeat) in shape.iter().zip(&repeats) {
        let repeat = extent(*repeat, "a repeat")?;
        split.extend([1, *n]);
        spread.extend([repeat, *n]);
        joined.push(n.checked_mul(repeat).ok_or_else(|| Halt::limit("the result is too large"))?);
    }
    limit::check(cx.dtype(x), &joined)?;
    let split = cx.reshape(x, &split)?;
    let spread = cx.expand(split, &spread)?;
    one(cx.reshape(spread, &joined))
}

fn slice(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let shape = cx.shape(x);
    let required = |list: Option<Vec<i64>>, what: &str| {
        list.ok_or_else(|| Halt::invalid(format!("the {what} are missing")))
    };
    let from = required(cx.ints_or_input("starts", 1)?, "starts")?;
    let to = required(cx.ints_or_input("ends", 2)?, "ends")?;
    let along = cx.ints_or_input("axes", 3)?.unwrap_or_else(|| (0..from.len() as i64).collect());
    let by = match cx.optional(4) {
        Some(steps) => cx.known_ints(steps, "the steps")?,
        None => vec![1; from.len()],
    };
    if to.len() != from.len() || along.len() != from.len() || by.len() != from.len() {
        return Err(Halt::invalid(format!(
            "there must be as many starts, ends, axes and steps, but there are {}, {}, {} and {}",
            from.len(),
            to.len(),
            along.len(),
            by.len()
        )));
    }
    axes(&along, shape.len())?;
    let (mut starts, mut extents, mut steps) = (vec![0; shape.len()], shape.clone(), vec![1; shape.len()]);
    for (i, along) in along.iter().enumerate() {
        let d = axis(*along, shape.len())?;
        (starts[d], extents[d]) = range(shape[d], from[i], to[i], by[i])?;
        steps[d] = by[i];
    }
    one(cx.add(Op::Slice { starts, extents, steps }, &[x]))
}

/// The first index and the number of indices of `from..to` by `step` in a dimension of extent `n`.
fn range(n: usize, from: i64, to: i64, step: i64) -> Result<(usize, usize)> {
    let n = n as i64;
    if step == 0 {
        return Err(Halt::invalid("a step is 0"));
    }
    if n == 0 {
        return Ok((0, 0));
    }
    let from_start = |i: i64| if i < 0 { i.saturating_add(n) } else { i };
    let (low, high) = if step > 0 { (0, n) } else { (-1, n - 1) };
    let (from, to) = (from_start(from).clamp(0, high), from_start(to).clamp(low, high));
    let distance = if step > 0 { to - from } else { from - to };
    let count = if distance <= 0 { 0 } else { (distance as u64).div_ceil(step.unsigned_abs()) as usize };
    Ok((if count == 0 { 0 } else { from as usize }, count))
}

fn split(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let shape = cx.shape(x);
    let axis = cx.axis(0, shape.len())?;
    let extent_along = shape[axis];
    let sizes: Vec<usize> = match cx.ints_or_input("split", 1)? {
        Some(sizes) if sizes.len() != cx.output_count() => {
            return Err(Halt::invalid(format!(
                "there are {} parts, but {} outputs are listed",
                sizes.len(),
                cx.output_count()
            )));
        }
        Some(sizes) => extents(&sizes, "a part")?,
        None => {
            let count = cx.attributes.int("num_outputs")?.unwrap_or(cx.output_count() as i64);
            let count = extent(count, "num_outputs")?;
            if count == 0 || count > cx.output_count().max(1) {
                return Err(Halt::invalid(format!(
                    "there are to be {count} parts, but there are {} outputs",
                    cx.output_count()
                )));
            }
            // Equal parts; the last may be smaller, and parts after it empty.
            let size = extent_along.div_ceil(count);
            (0..count).map(|i| size.min(extent_along.saturating_sub(i * size))).collect()
        }
    };
    cx.add_all(Op::Split { axis, sizes }, &[x])
}

fn pad(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let list = match cx.opset < 2 {
        true => cx.attributes.ints("paddings")?.map(<[i64]>::to_vec),
        false => cx.ints_or_input("pads", 1)?,
    };
    match list {
        Some(list) => pad_by(cx, &list),
        None => Err(Halt::invalid("the pads are missing")),
    }
}

/// Input 0 padded by what a list says; inputs 2 and 3 are the value and the axes.
pub(super) fn pad_by(cx: &mut NodeCx<'_>, list: &[i64]) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let rank = cx.rank(x);
    let padded: Vec<usize> = match cx.optional(3) {
        Some(list) => {
            let list = cx.known_ints(list, "the axes")?;
            axes(&list, rank)?;
            list.iter().map(|a| axis(*a, rank)).collect::<Result<_, _>>()?
        }
        None => (0..rank).collect(),
    };
    if list.len() != 2 * padded.len() {
        return Err(Halt::invalid(format!(
            "there are {} pads, but {} dimensions need two each",
            list.len(),
            padded.len()
        )));
    }
    let (mut begin, mut end) = (vec![0; rank], vec![0; rank]);
    for (i, d) in padded.iter().enumerate() {
        begin[*d] = list[i];
        end[*d] = list[padded.len() + i];
    }
    let value_attribute = cx.float("value", 0.0)?;
    let mode = match cx.string("mode", "constant")? {
        "constant" => PadMode::Constant(match cx.optional(2) {
            Some(value) if cx.elements(value) == 1 => {
                let known = cx.known(value, "the constant value")?;
                if !f64_holds(&known)? {
                    // Zeros beside the distance from the value: adding it wraps round to what was there.
                    let value = cx.constant(known.reshape(&[])?);
                    let distance = cx.binary(Binary::Sub, x, value)?;
                    let mode = PadMode::Constant(0.0);
                    let padded = cx.add(Op::Pad { begin, end, mode }, &[distance])?;
                    return one(cx.binary(Binary::Add, padded, value));
                }
                cx.known_scalar(value, "the constant value")?
            }
            Some(_) => 0.0,
            None => value_attribute,
        }),
        "reflect" => PadMode::Reflect,
        "edge" => PadMode::Edge,
        "wrap" => PadMode::Wrap,
        other => return Err(Halt::invalid(format!("there is no mode '{}'", other.escape_debug()))),
    };
    one(cx.add(Op::Pad { begin, end, mode }, &[x]))
}

/// Whether all elements are numbers that an `f64` can be.
fn f64_holds(tensor: &Tensor) -> Result<bool> {
    Ok(match tensor.dtype() {
        DType::I64 => tensor.values::<i64>()?.iter().all(|v| *v as f64 as i64 == *v),
        DType::U64 => tensor.values::<u64>()?.iter().all(|v| *v as f64 as u64 == *v),
        DType::F32
        | DType::F64
        | DType::F16
        | DType::BF16
        | DType::I8
        | DType::U8
        | DType::I16
        | DType::U16
        | DType::I32
        | DType::U32
        | DType::Bool => true,
    })
}

/// `[N, C, H, W]`, and the block size.
fn blocks(cx: &NodeCx<'_>, x: ValueId) -> Result<([usize; 4], usize)> {
    let shape = cx.shape(x);
    let size = extent(cx.required_int("blocksize")?, "blocksize")?;
    match <[usize; 4]>::try_from(shape.as_slice()) {
        Ok(shape) if size > 0 => Ok((shape, size)),
        _ => Err(Halt::shape(format!("blocks of {size} are impossible in a tensor of shape {shape:?}"))),
    }
}

pub(super) fn depth_to_space(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let ([n, c, h, w], b) = blocks(cx, x)?;
    if !c.is_multiple_of(b.saturating_mul(b)) {
        return Err(Halt::shape(format!("{c} channels are no multiple of {b} * {b}")));
    }
    let depth = c / (b * b);
    let (split, perm) = match cx.string("mode", "DCR")? {
        "DCR" => ([n, b, b, depth, h, w], [0, 3, 4, 1, 5, 2]),
        "CRD" => ([n, depth, b, b, h, w], [0, 1, 4, 2, 5, 3]),
        other => return Err(Halt::invalid(format!("there is no mode '{}'", other.escape_debug()))),
    };
    let split = cx.reshape(x, &split)?;
    let moved = cx.transpose(split, &perm)?;
    one(cx.reshape(moved, &[n, depth, limit::product(&[h, b])?, limit::product(&[w, b])?]))
}

pub(super) fn space_to_depth(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let ([n, c, h, w], b) = blocks(cx, x)?;
    if !h.is_multiple_of(b) || !w.is_multiple_of(b) {
        return Err(Halt::shape(format!("an image of {h} x {w} cannot be divided into blocks of {b} x {b}")));
    }
    let split = match cx.string("mode", "DCR")? {
        "DCR" => [0, 3, 5, 1, 2, 4],
        "CRD" => [0, 1, 3, 5, 2, 4],
        other => return Err(Halt::invalid(format!("there is no mode '{}'", other.escape_debug()))),
    };
    let blocks = cx.reshape(x, &[n, c, h / b, b, w / b, b])?;
    let moved = cx.transpose(blocks, &split)?;
    one(cx.reshape(moved, &[n, limit::product(&[c, b, b])?, h / b, w / b]))
}
