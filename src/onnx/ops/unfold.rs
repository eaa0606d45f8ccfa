//! Tensors assembled from pieces that go to known, or computed, places.

use nestjit_ir::{CheckKind, DType};

use super::super::limit;
use super::gather::{gather_elements, steps};
use super::window::{pads, per_dimension};
use super::{Halt, NodeCx, OpEntry, Result, axis, extent, missing, one, op};
use crate::graph::{Binary, Op, PadMode, Reduction, ValueId};

pub(super) const OPS: &[OpEntry] = &[
    op("Col2Im", 18, col2im).in_f32(&[0]),
    op("MaxUnpool", 9, max_unpool),
    op("TensorScatter", 24, tensor_scatter),
];

/// Overlapping blocks added up.
fn col2im(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let (x, image, block) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let image = cx.known_extents(image, "the image's shape")?;
    let block = cx.known_extents(block, "the block's shape")?;
    let k = image.len();
    let (dilations, strides) = (per_dimension(cx, "dilations", k, 1)?, per_dimension(cx, "strides", k, 1)?);
    let (begin, end) = pads(cx, k)?;
    let shape = cx.shape(x);
    let misfit = || {
        Halt::shape(format!("a tensor of shape {shape:?} cannot be blocks {block:?} of an image {image:?}"))
    };
    let [n, rows, columns] = shape[..] else { return Err(misfit()) };
    if block.len() != k || strides.contains(&0) || block.contains(&0) {
        return Err(misfit());
    }
    let mut counts = Vec::with_capacity(k);
    for d in 0..k {
        let reach = super::window::reach(block[d], dilations[d])?;
        let room =
            image[d].checked_add(begin[d] + end[d]).and_then(|n| n.checked_sub(reach)).ok_or_else(misfit)?;
        counts.push(room / strides[d] + 1);
    }
    let (elements, blocks) = (limit::product(&block)?, limit::product(&counts)?);
    let size = limit::product(&image)?;
    limit::check(cx.dtype(x), &image)?;
    limit::check_table(DType::I64, &[elements, blocks])?;
    if blocks != columns || !rows.is_multiple_of(elements) {
        return Err(misfit());
    }
    let channels = rows / elements;
    // What lies in the padding goes to a place of its own, after the image.
    let mut places = Vec::with_capacity(elements * blocks);
    for element in 0..elements {
        for position in 0..blocks {
            let (mut e, mut p, mut place, mut stride) = (element, position, Some(0), 1);
            for d in (0..k).rev() {
                let at = (p % counts[d]) * strides[d] + (e % block[d]) * dilations[d];
                let inside = at.checked_sub(begin[d]).filter(|at| *at < image[d]);
                place = place.and_then(|place| Some(place + inside? * stride));
                stride *= image[d];
                p /= counts[d];
                e /= block[d];
            }
            places.push(place.unwrap_or(size) as i64);
        }
    }
    let places = cx.values(&[places.len()], &places)?;
    let split = cx.reshape(x, &[n * channels, elements * blocks])?;
    let updates = cx.transpose(split, &[1, 0])?;
    let zero = cx.scalar_like(x, 0.0);
    let zeros = cx.expand(zero, &[size + 1, n * channels])?;
    let sums = cx.add(Op::Scatter { reduction: Some(Reduction::Sum) }, &[zeros, places, updates])?;
    let sums = cx.narrow(sums, 0, 0, size)?;
    let y = cx.transpose(sums, &[1, 0])?;
    one(cx.reshape(y, &[&[n, channels], image.as_slice()].concat()))
}

/// The inverse of max pooling with positions: everything else is 0.
fn max_unpool(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let (x, indices) = (cx.input(0)?, cx.input(1)?);
    let shape = cx.shape(x);
    let k = super::window::spatial(&shape)?.len();
    let kernel = cx.attributes.ints("kernel_shape")?.ok_or_else(|| missing("kernel_shape"))?;
    if kernel.len() != k || cx.shape(indices) != shape {
        return Err(Halt::shape(format!(
            "a kernel {kernel:?} and indices of shape {:?} do not fit an operand of shape {shape:?}",
            cx.shape(indices)
        )));
    }
    let strides = per_dimension(cx, "strides", k, 1)?;
    let (begin, end) = pads(cx, k)?;
    let mut natural = shape[..2].to_vec();
    for d in 0..k {
        let full = shape[2 + d].max(1) - 1;
        let full =
            full.checked_mul(strides[d]).and_then(|n| n.checked_add(extent(kernel[d], "kernel_shape").ok()?));
        natural.push(full.and_then(|n| n.checked_sub(begin[d] + end[d])).ok_or_else(|| {
            Halt::shape(format!(
                "pads {begin:?} and {end:?} are impossible for an operand of shape {shape:?}"
            ))
        })?);
    }
    limit::check(cx.dtype(x), &natural)?;
    let wanted = match cx.optional(2) {
        Some(wanted) => cx.known_extents(wanted, "the output shape")?,
        None => natural.clone(),
    };
    if wanted.len() != natural.len() {
        return Err(Halt::shape(format!("the output shape {wanted:?} has another rank than the result")));
    }
    let count = cx.elements(x);
    let zero = cx.scalar_like(x, 0.0);
    let size = limit::product(&natural)?;
    let zeros = cx.expand(zero, &[size, 1])?;
    let indices = cx.checked(indices, 1, CheckKind::Index, 0, size as i64)?;
    let places = cx.reshape(indices, &[count])?;
    let updates = cx.reshape(x, &[count, 1])?;
    let y = cx.add(Op::Scatter { reduction: None }, &[zeros, places, updates])?;
    let y = cx.reshape(y, &natural)?;
    let end = wanted.iter().zip(&natural).map(|(w, n)| *w as i64 - *n as i64).collect();
    one(cx.add(Op::Pad { begin: vec![0; wanted.len()], end, mode: PadMode::Constant(0.0) }, &[y]))
}

/// A cache with new entries written from a position on that each batch has for itself.
fn tensor_scatter(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let (past, update) = (cx.input(0)?, cx.input(1)?);
    let (shape, part) = (cx.shape(past), cx.shape(update));
    let rank = shape.len();
    let axis = axis(cx.int("axis", -2)?, rank)?;
    let circular = match cx.string("mode", "linear")? {
        "linear" => false,
        "circular" => true,
        other => return Err(Halt::invalid(format!("there is no mode '{}'", other.escape_debug()))),
    };
    let fits = part.len() == rank
        && (0..rank)
            .all(|d| if d == axis { part[d] <= shape[d] && part[d] > 0 } else { part[d] == shape[d] });
    if axis == 0 || !fits {
        return Err(Halt::shape(format!(
            "a tensor of shape {part:?} cannot be written to one of shape {shape:?} along axis {axis}"
        )));
    }
    let mut at = steps(cx, rank, axis, shape[axis], 1)?;
    if let Some(start) = cx.optional(2) {
        let most = if circular { i64::MAX } else { (shape[axis] - part[axis]) as i64 + 1 };
        let start = cx.checked(start, 2, CheckKind::Position, 0, most)?;
        let mut column = vec![1; rank];
        column[0] = shape[0];
        let start = cx.reshape(start, &column)?;
        at = cx.binary(Binary::Sub, at, start)?;
    }
    if circular {
        at = cx.binary_const(Binary::Mod, at, shape[axis] as f64)?;
    }
    let low = cx.binary_const(Binary::Ge, at, 0.0)?;
    let high = cx.binary_const(Binary::Lt, at, part[axis] as f64)?;
    let written = cx.binary(Binary::And, low, high)?;
    let somewhere = cx.scalar(DType::I64, 0.0);
    let source = cx.select(written, at, somewhere)?;
    let source = cx.expand(source, &shape)?;
    let new = gather_elements(cx, update, source, axis)?;
    one(cx.select(written, new, past))
}
