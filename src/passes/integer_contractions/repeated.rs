//! Quantisation of what was quantised in the same way before: the integers are those that there were.
//!
//! Quantisers put a pair of QuantizeLinear and DequantizeLinear around operators that only move elements (transposes,
//! concatenation, maximum pooling), with one scale and zero point on both sides. `round((q - z) * s / s) + z` is `q`, so
//! the operator moves 8-bit integers, and nothing is computed.

use nestjit_ir::DType;

use super::image::{image, only, range_of_bytes};
use super::rewriter::Rewriter;
use crate::error::Result;
use crate::graph::{Binary, Node, Op, Unary, ValueId};

/// The scales for which a quantised number times the scale, divided by it, is that number but for a rounding error.
const SCALES: std::ops::Range<f32> = 1e-30..1e30;

/// `round(x / scale) + zero`, clipped to a type of 8 bits, where scale and zero point are one number each.
struct Quantisation {
    x: ValueId,
    scale: f32,
    zero: i32,
    dtype: DType,
}

/// Replaces a node that makes 8-bit integers of what they stand for; false if it is none.
pub(super) fn rewrite(rewriter: &mut Rewriter<'_>, node: &Node) -> Result<bool> {
    let Some(quantisation) = quantisation(rewriter, node) else { return Ok(false) };
    let Some(q) = integers(rewriter, quantisation.x, &quantisation)? else { return Ok(false) };
    rewriter.yield_as(q, node.outputs[0]);
    Ok(true)
}

/// What a node that converts to integers of 8 bits quantises.
fn quantisation(rewriter: &mut Rewriter<'_>, node: &Node) -> Option<Quantisation> {
    let Op::Cast { to: dtype } = node.op else { return None };
    let range = range_of_bytes(dtype)?;
    let (least, most) = (f64::from(*range.start()), f64::from(*range.end()));
    let clip = rewriter.producer(node.inputs[0])?;
    let Op::Clip { min, max } = clip.op else { return None };
    if min.is_some_and(|min| min > least) || max.is_some_and(|max| max < most) {
        return None;
    }
    let mut at = rewriter.producer(clip.inputs[0])?;
    let mut zero = 0;
    if at.op == Op::Binary(Binary::Add) {
        let number = rewriter.known(at.inputs[1])?;
        let [number] = number.values::<f32>().ok()?[..] else { return None };
        if number.fract() != 0.0 || !(-128.0..=255.0).contains(&number) {
            return None;
        }
        zero = number as i32;
        at = rewriter.producer(at.inputs[0])?;
    }
    if at.op != Op::Unary(Unary::Round) {
        return None;
    }
    let division = rewriter.producer(at.inputs[0]).filter(|node| node.op == Op::Binary(Binary::Div))?;
    let (x, scale) = (division.inputs[0], rewriter.known(division.inputs[1])?);
    let [scale] = scale.values::<f32>().ok()?[..] else { return None };
    SCALES.contains(&scale).then_some(Quantisation { x, scale, zero, dtype })
}

/// The integers of which `x` is the image, if they are those that quantising it makes.
fn integers(rewriter: &mut Rewriter<'_>, x: ValueId, again: &Quantisation) -> Result<Option<ValueId>> {
    let Some(image) = image(rewriter, x)? else { return Ok(None) };
    if !again.dtype.is_byte() || rewriter.dtype(image.q) != again.dtype || rewriter.dtype(x) != DType::F32 {
        return Ok(None);
    }
    let scale = image.scale.and_then(|scale| rewriter.known(scale));
    let scale = scale.as_ref().and_then(|scale| match scale.values::<f32>() {
        Ok([scale]) => Some(*scale),
        _ => None,
    });
    let zero = match image.zero {
        None => Some(0),
        Some(zero) => rewriter.known(zero).as_ref().and_then(only),
    };
    match scale == Some(again.scale) && zero == Some(again.zero) {
        true => image.integers(rewriter).map(Some),
        false => Ok(None),
    }
}
