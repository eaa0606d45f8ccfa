//! Affine images of 8-bit integers: values that are `(q - zero) * scale`, whatever operations make them so.

use std::ops::RangeInclusive;

use nestjit_ir::DType;

use super::rewriter::Rewriter;
use super::weights;
use crate::error::Result;
use crate::graph::{Binary, Op, PadMode, PoolKind, Unary, ValueId};

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

/// An operation that computes nothing: its results are elements of its first operand.
#[derive(Clone, Debug)]
pub(super) struct Move {
    pub op: Op,
    /// Its other operands: the indices of a gather.
    others: Vec<ValueId>,
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

/// Which operations on the way from the integers move them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Moves {
    /// Those that are for nothing if somebody else needs them too.
    Free,
    /// Also maxima, which are of integers what they are of increasing functions of them.
    Maxima,
}

/// What `value`, of `f32` or `i32`, is the image of; `None` if it is not known to be one.
pub(super) fn image(rewriter: &mut Rewriter<'_>, value: ValueId, allowed: Moves) -> Result<Option<Image>> {
    let Some((q, steps)) = steps(rewriter, value, allowed) else { return Ok(None) };
    let mut image = Image { q, moves: Vec::new(), zero: None, scale: None };
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
                if !image.rearrange(rewriter, *step, &from, &to)? {
                    return Ok(None);
                }
            }
        }
    }
    image.zero = rewriter.unless_zero(image.zero);
    Ok(Some(image))
}

/// The integers behind a value, and the steps to them.
fn steps(rewriter: &Rewriter<'_>, value: ValueId, allowed: Moves) -> Option<(ValueId, Vec<Step>)> {
    let mut steps = Vec::new();
    let mut at = value;
    for _ in 0..LONGEST {
        let dtype = rewriter.dtype(at);
        if dtype.is_byte() {
            return Some((at, steps));
        }
        if !matches!(dtype, DType::F32 | DType::I32) {
            return None;
        }
        let node = rewriter.producer(at)?;
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
            op if is_move(op, allowed) => {
                let step = Move { op: op.clone(), others: node.inputs[1..].to_vec() };
                (x, Some(Step::Move(Box::new(step), rewriter.shape(x), shape.clone())))
            }
            _ => return None,
        };
        steps.extend(step);
        at = next;
    }
    None
}

fn is_move(op: &Op, allowed: Moves) -> bool {
    match op {
        Op::Reshape { .. }
        | Op::Transpose { .. }
        | Op::Expand { .. }
        | Op::Pad { .. }
        | Op::Slice { .. }
        | Op::Gather { .. } => true,
        Op::Pool { kind, .. } | Op::GlobalPool { kind, .. } => {
            *kind == PoolKind::Max && allowed == Moves::Maxima
        }
        _ => false,
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
    /// Follows a rearrangement of the value; false if the parameters cannot.
    fn rearrange(
        &mut self,
        rewriter: &mut Rewriter<'_>,
        Move { op, others }: Move,
        from: &[usize],
        to: &[usize],
    ) -> Result<bool> {
        let op = match op {
            // What stands for 0 is the zero point.
            Op::Pad { begin, end, mode: PadMode::Constant(0.0) } => {
                let zero = match self.zero {
                    None => Some(0),
                    Some(zero) => rewriter.known(zero).as_ref().and_then(only),
                };
                let possible = range_of_bytes(rewriter.dtype(self.q));
                let holds = |zero: &i32| possible.as_ref().is_some_and(|range| range.contains(zero));
                let Some(zero) = zero.filter(holds) else { return Ok(false) };
                let mode = PadMode::Constant(f64::from(zero));
                Op::Pad { begin, end, mode }
            }
            Op::Pad { .. } => return Ok(false),
            op => op,
        };
        for parameter in [&mut self.zero, &mut self.scale] {
            let Some(id) = *parameter else { continue };
            let Some(follows) = follow(rewriter, id, &op, from, to)? else { return Ok(false) };
            *parameter = Some(follows);
        }
        self.moves.push(Move { op, others });
        Ok(true)
    }
}

impl Image {
    /// The integers, in the order of the value.
    pub fn integers(&self, rewriter: &mut Rewriter<'_>) -> Result<ValueId> {
        let mut q = self.q;
        for Move { op, others } in &self.moves {
            q = match rewriter.graph.constant(q).filter(|_| others.is_empty()).map(|t| weights::moved(t, op))
            {
                Some(moved) => rewriter.constant("weights", moved?),
                None => rewriter.op("moved", op.clone(), &[&[q], &others[..]].concat())?,
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

/// A parameter of a value of shape `from` as one of the rearranged value.
fn follow(
    rewriter: &mut Rewriter<'_>,
    parameter: ValueId,
    op: &Op,
    from: &[usize],
    to: &[usize],
) -> Result<Option<ValueId>> {
    if rewriter.elements(parameter) == 1 {
        return rewriter.reshape("parameter", parameter, &[]).map(Some);
    }
    let shape = aligned(&rewriter.shape(parameter), from.len());
    match op {
        Op::Transpose { .. } => {
            let parameter = rewriter.reshape("parameter", parameter, &shape)?;
            rewriter.op("parameter", op.clone(), &[parameter]).map(Some)
        }
        // What it varies along is left whole.
        Op::Slice { starts, steps, .. } => {
            let whole = |d: usize| starts[d] == 0 && steps[d] == 1 && from[d] == to[d];
            Ok((0..shape.len()).all(|d| shape[d] == 1 || whole(d)).then_some(parameter))
        }
        Op::Pad { begin, end, .. } => {
            let whole = |d: usize| begin[d] == 0 && end[d] == 0;
            Ok((0..shape.len()).all(|d| shape[d] == 1 || whole(d)).then_some(parameter))
        }
        // Dimensions are aligned at the end, and one that is repeated has one parameter.
        Op::Expand { .. } => Ok(Some(parameter)),
        Op::Reshape { .. } => {
            // The dimension that it varies along must still be there.
            let varying: Vec<usize> = (0..shape.len()).filter(|d| shape[*d] != 1).collect();
            let [axis] = varying[..] else { return Ok(None) };
            let before: usize = from[..axis].iter().product();
            let same = |d: &usize| to[*d] == shape[axis] && to[..*d].iter().product::<usize>() == before;
            let Some(axis_after) = (0..to.len()).find(same) else { return Ok(None) };
            let mut extents = vec![1; to.len()];
            extents[axis_after] = shape[axis];
            rewriter.reshape("parameter", parameter, &extents).map(Some)
        }
        _ => Ok(None),
    }
}
