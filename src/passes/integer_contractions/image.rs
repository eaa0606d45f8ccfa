//! Affine images of 8-bit integers: values that are `(q - zero) * scale`, whatever operations make them so.
//!
//! What moves elements, or picks them by their order, does to the integers what it does to the value (`moves`). What is joined
//! of images with one zero point and one scale is an image, too.

use std::ops::RangeInclusive;

use nestjit_ir::DType;

use super::moves::{Move, Scales, step_of};
use super::rewriter::Rewriter;
use super::weights;
use crate::error::Result;
use crate::graph::{Binary, Node, Op, Unary, ValueId};
use crate::tensor::Tensor;

/// The most operations between the integers and the value.
const LONGEST: usize = 32;

/// What a value is an affine image of.
#[derive(Clone, Debug)]
pub(super) struct Image {
    /// 8-bit integers.
    pub q: ValueId,
    /// What picks and rearranges elements of `q` as the value has them, in order.
    pub moves: Vec<Move>,
    /// What is taken off, `i32`; it broadcasts to the value. `None` is 0.
    pub zero: Option<ValueId>,
    /// What it is multiplied with, `f32`; it broadcasts to the value. `None` is 1.
    pub scale: Option<ValueId>,
}

/// A step from a value towards the integers.
#[derive(Debug)]
enum Step {
    /// Minus this.
    Zero(ValueId),
    /// Times this.
    Scale(ValueId),
    /// Rearranged, from this shape to that one.
    Move(Box<Move>, Vec<usize>, Vec<usize>),
}

/// What `value`, of `f32` or `i32`, is the image of; `None` if it is not known to be one.
pub(super) fn image(rewriter: &mut Rewriter<'_>, value: ValueId) -> Result<Option<Image>> {
    within(rewriter, value, LONGEST)
}

/// The same, through so many operations at most.
fn within(rewriter: &mut Rewriter<'_>, value: ValueId, most: usize) -> Result<Option<Image>> {
    let Some((end, steps)) = steps(rewriter, value, most) else { return Ok(None) };
    let mut image = match end {
        End::Bytes(q) => Image { q, moves: Vec::new(), zero: None, scale: None },
        End::Joined(node) => match joined(rewriter, node, most - steps.len().min(most))? {
            Some(image) => image,
            None => return Ok(None),
        },
    };
    for step in steps.into_iter().rev() {
        match step {
            // After a factor, it would have to be divided by it.
            Step::Zero(_) if image.scale.is_some() => return Ok(None),
            Step::Zero(zero) => {
                let Some(zero) = integers(rewriter, zero)? else { return Ok(None) };
                // What is known goes with the value as a constant.
                rewriter.known(zero);
                image.zero = rewriter.sum("zero", image.zero, Some(zero))?;
            }
            Step::Scale(scale) => {
                rewriter.known(scale);
                image.scale = rewriter.product("scale", image.scale, Some(scale))?;
            }
            Step::Move(step, from, to) => {
                if !image.moved(rewriter, *step, &from, &to)? {
                    return Ok(None);
                }
            }
        }
    }
    image.zero = rewriter.unless_zero(image.zero);
    Ok(Some(image))
}

/// What the steps from a value lead to.
enum End<'n> {
    /// 8-bit integers.
    Bytes(ValueId),
    /// A concatenation.
    Joined(&'n Node),
}

/// What is behind a value, and the steps there.
fn steps<'n>(rewriter: &Rewriter<'n>, value: ValueId, most: usize) -> Option<(End<'n>, Vec<Step>)> {
    let mut steps = Vec::new();
    let mut at = value;
    for _ in 0..most {
        let dtype = rewriter.dtype(at);
        if dtype.is_byte() {
            return Some((End::Bytes(at), steps));
        }
        if !matches!(dtype, DType::F32 | DType::I32) {
            return None;
        }
        let node = rewriter.producer(at)?;
        if matches!(node.op, Op::Concat { .. }) {
            return Some((End::Joined(node), steps));
        }
        let x = *node.inputs.first()?;
        let shape = &rewriter.value(at).shape;
        let is_parameter = |id: ValueId| {
            let extents = &rewriter.value(id).shape;
            extents.iter().product::<usize>() < shape.iter().product() || rewriter.graph.is_const(id)
        };
        let (next, step) = match &node.op {
            // From floats to integers, it rounds.
            Op::Cast { .. } if dtype == DType::I32 && rewriter.dtype(x).is_float() => return None,
            Op::Cast { .. } | Op::Unary(Unary::Identity) | Op::Dropout => (x, None),
            Op::Binary(Binary::Sub) if rewriter.value(x).shape == *shape => {
                (x, Some(Step::Zero(node.inputs[1])))
            }
            // Products of integers wrap.
            Op::Binary(Binary::Mul) if dtype == DType::F32 => {
                let [a, b] = node.inputs[..] else { return None };
                let fits = |x, scale| rewriter.value(x).shape == *shape && is_parameter(scale);
                let (x, scale) = match (fits(a, b), fits(b, a)) {
                    (true, _) => (a, b),
                    (false, true) => (b, a),
                    (false, false) => return None,
                };
                (x, Some(Step::Scale(scale)))
            }
            _ => {
                let step = step_of(node, at, shape)?;
                (x, Some(Step::Move(Box::new(step), rewriter.shape(x), shape.clone())))
            }
        };
        steps.extend(step);
        at = next;
    }
    None
}

/// A concatenation of images of one type, zero point and scale, each of which is one number.
fn joined(rewriter: &mut Rewriter<'_>, node: &Node, most: usize) -> Result<Option<Image>> {
    let value = node.outputs[0];
    if let Some(known) = rewriter.joined.get(&value) {
        return Ok(known.clone());
    }
    let mut parts = Vec::with_capacity(node.inputs.len());
    for part in &node.inputs {
        // A part without an image makes the others useless.
        let Some(image) = within(rewriter, *part, most)? else { break };
        let same = |rewriter: &mut Rewriter<'_>, first: &Image| {
            rewriter.dtype(first.q) == rewriter.dtype(image.q)
                && number(rewriter, image.zero, number_of_zero)
                    == number(rewriter, first.zero, number_of_zero)
                && number(rewriter, image.scale, number_of_scale)
                    == number(rewriter, first.scale, number_of_scale)
        };
        let alone = number(rewriter, image.zero, number_of_zero).is_some()
            && number(rewriter, image.scale, number_of_scale).is_some();
        if !alone || parts.first().is_some_and(|first| !same(rewriter, first)) {
            break;
        }
        parts.push(image);
    }
    let image = match parts.first() {
        Some(first) if parts.len() == node.inputs.len() => {
            let (zero, scale) = (first.zero, first.scale);
            let integers = parts.iter().map(|part| part.integers(rewriter)).collect::<Result<Vec<_>>>()?;
            let q = rewriter.op("joined", node.op.clone(), &integers)?;
            // One number broadcasts to any shape.
            let flat = |rewriter: &mut Rewriter<'_>, id: Option<ValueId>| {
                id.map(|id| rewriter.reshape("parameter", id, &[])).transpose()
            };
            let (zero, scale) = (flat(rewriter, zero)?, flat(rewriter, scale)?);
            Some(Image { q, moves: Vec::new(), zero, scale })
        }
        _ => None,
    };
    rewriter.joined.insert(value, image.clone());
    Ok(image)
}

/// A parameter that is known and one number.
fn number<T>(
    rewriter: &mut Rewriter<'_>,
    parameter: Option<ValueId>,
    of: impl Fn(Option<&Tensor>) -> Option<T>,
) -> Option<T> {
    match parameter {
        None => of(None),
        Some(id) => of(Some(&rewriter.known(id)?)),
    }
}

fn number_of_zero(zero: Option<&Tensor>) -> Option<i32> {
    zero.map_or(Some(0), only)
}

/// The bits of a scale.
fn number_of_scale(scale: Option<&Tensor>) -> Option<u32> {
    match scale.map(|scale| scale.values::<f32>()) {
        None => Some(1f32.to_bits()),
        Some(Ok([scale])) => Some(scale.to_bits()),
        Some(_) => None,
    }
}

/// A zero point as `i32`, which it may be by way of `f32`; `None` if it is no integer.
fn integers(rewriter: &mut Rewriter<'_>, zero: ValueId) -> Result<Option<ValueId>> {
    if rewriter.dtype(zero) == DType::I32 {
        return Ok(Some(zero));
    }
    if let Some(tensor) = rewriter.known(zero) {
        let whole = |v: &f32| v.fract() == 0.0 && v.abs() <= f32::from(i16::MAX);
        return match tensor.values::<f32>() {
            Ok(values) if values.iter().all(whole) => rewriter.cast("zero", zero, DType::I32).map(Some),
            _ => Ok(None),
        };
    }
    match rewriter.producer(zero) {
        Some(node) if matches!(node.op, Op::Cast { .. }) && (rewriter.dtype(node.inputs[0])).is_byte() => {
            rewriter.cast("zero", node.inputs[0], DType::I32).map(Some)
        }
        _ => Ok(None),
    }
}

impl Image {
    /// Follows a move of the value; false if the integers or the parameters cannot.
    fn moved(
        &mut self,
        rewriter: &mut Rewriter<'_>,
        step: Move,
        from: &[usize],
        to: &[usize],
    ) -> Result<bool> {
        let zero = number(rewriter, self.zero, number_of_zero);
        let scales = match self.scale {
            None => Scales::Ones,
            Some(scale) => rewriter.known(scale).as_ref().map_or(Ok(Scales::Unknown), Scales::of)?,
        };
        let Some(step) = step.of_integers(rewriter.dtype(self.q), zero, scales) else { return Ok(false) };
        for parameter in [&mut self.zero, &mut self.scale] {
            let Some(id) = *parameter else { continue };
            let Some(follows) = step.parameter(rewriter, id, from, to)? else { return Ok(false) };
            *parameter = Some(follows);
        }
        self.moves.push(step);
        Ok(true)
    }

    /// The integers, in the order of the value.
    pub fn integers(&self, rewriter: &mut Rewriter<'_>) -> Result<ValueId> {
        let mut q = self.q;
        for Move { op, others } in &self.moves {
            q = match rewriter.graph.constant(q).filter(|_| others.is_empty()).map(|t| weights::moved(t, op))
            {
                Some(moved) => rewriter.constant("weights", moved?),
                None => rewriter.moved(op, &[&[q], &others[..]].concat())?,
            };
        }
        Ok(q)
    }
}

/// The only element of an `i32` tensor.
pub(super) fn only(tensor: &crate::tensor::Tensor) -> Option<i32> {
    match tensor.values::<i32>() {
        Ok([value]) => Some(*value),
        _ => None,
    }
}

/// The values of an integer type of 8 bits.
pub(super) fn range_of_bytes(dtype: DType) -> Option<RangeInclusive<i32>> {
    match dtype {
        DType::U8 => Some(0..=255),
        DType::I8 => Some(-128..=127),
        DType::F32 | DType::F64 | DType::F16 | DType::BF16 | DType::Bool => None,
        DType::I64 | DType::I32 | DType::I16 | DType::U64 | DType::U32 | DType::U16 => None,
    }
}

/// The shape with extents 1 in front, of this rank.
pub(super) fn aligned(shape: &[usize], rank: usize) -> Vec<usize> {
    [vec![1; rank.saturating_sub(shape.len())], shape.to_vec()].concat()
}
