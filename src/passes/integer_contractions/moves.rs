//! Operations on `(q - zero) * scale` that are operations on `q`: those that move elements, and those that pick them by their order,
//! which is that of the integers wherever scales are positive.

use nestjit_ir::DType;

use super::image::{aligned, range_of_bytes};
use super::rewriter::Rewriter;
use crate::error::Result;
use crate::graph::{Node, Op, PadMode, PoolKind, Reduction, Unary, ValueId};
use crate::tensor::Tensor;

/// An operation whose results are elements of its first operand, or bounds that stand for integers.
#[derive(Clone, Debug)]
pub(super) struct Move {
    pub op: Op,
    /// Its other operands: the indices of a gather.
    pub others: Vec<ValueId>,
}

/// What is known of the scales of a value.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Scales {
    /// There are none.
    Ones,
    /// All elements have this one, a positive number.
    One(f32),
    /// All are positive numbers.
    Positive,
    Unknown,
}

impl Scales {
    /// What is known of scales that are known.
    pub fn of(scales: &Tensor) -> Result<Scales> {
        let values = scales.values::<f32>()?;
        Ok(match values {
            values if !values.iter().all(|v| *v > 0.0 && v.is_finite()) => Scales::Unknown,
            [scale] => Scales::One(*scale),
            _ => Scales::Positive,
        })
    }
}

/// What computes `value`, of this shape, of the first operand of its node, if that is a move.
pub(super) fn step_of(node: &Node, value: ValueId, shape: &[usize]) -> Option<Move> {
    let bounds = |min, max| Op::Clip { min: Some(min), max };
    let op = match &node.op {
        Op::Reshape { .. }
        | Op::Transpose { .. }
        | Op::Expand { .. }
        | Op::Pad {
            mode: PadMode::Constant(0.0) | PadMode::Edge | PadMode::Reflect | PadMode::Wrap, ..
        }
        | Op::Slice { .. }
        | Op::Gather { .. }
        | Op::Clip { .. }
        | Op::Pool { kind: PoolKind::Max, .. }
        | Op::GlobalPool { kind: PoolKind::Max, .. }
        | Op::Reduce { op: Reduction::Max | Reduction::Min, .. } => node.op.clone(),
        Op::Unary(Unary::Relu) => bounds(0.0, None),
        Op::Unary(Unary::Relu6) => bounds(0.0, Some(6.0)),
        Op::Split { axis, sizes } => {
            let part = node.outputs.iter().position(|id| *id == value)?;
            let mut starts = vec![0; shape.len()];
            starts[*axis] = sizes[..part].iter().sum();
            Op::Slice { starts, extents: shape.to_vec(), steps: vec![1; shape.len()] }
        }
        _ => return None,
    };
    Some(Move { op, others: node.inputs[1..].to_vec() })
}

impl Move {
    /// The operation on integers of a type, whose zero point is this one if it is known and one number; `None` if there is none
    /// that does the same.
    pub fn of_integers(self, dtype: DType, zero: Option<i32>, scales: Scales) -> Option<Move> {
        let range = range_of_bytes(dtype)?;
        let op = match self.op {
            // What stands for 0 is the zero point.
            Op::Pad { begin, end, mode: PadMode::Constant(_) } => {
                let zero = zero.filter(|zero| range.contains(zero))?;
                Op::Pad { begin, end, mode: PadMode::Constant(f64::from(zero)) }
            }
            Op::Pool { .. } | Op::GlobalPool { .. } | Op::Reduce { .. } if scales == Scales::Unknown => {
                return None;
            }
            // A window could lie in the padding as a whole, and there is no integer below all.
            Op::Pool { ref window, .. }
                if window.dilations.iter().any(|d| *d > 1)
                    && window.pads_begin.iter().chain(&window.pads_end).any(|pad| *pad > 0) =>
            {
                return None;
            }
            Op::Clip { min, max } => {
                let (zero, scale) = match (zero, scales) {
                    (Some(zero), Scales::Ones) => (zero, 1.0),
                    (Some(zero), Scales::One(scale)) => (zero, scale),
                    _ => return None,
                };
                // Bounds are `f32` as the value is. One that integers reach must be what one of them stands for.
                let value = |integer: i32| (integer - zero) as f32 * scale;
                let integer = |bound: f64| {
                    let integer = (bound / f64::from(scale)).round_ties_even() + f64::from(zero);
                    let exact = range.contains(&(integer as i32)) && value(integer as i32) == bound as f32;
                    exact.then_some(integer)
                };
                let min =
                    min.filter(|min| *min as f32 > value(*range.start())).map(|min| integer(min).ok_or(()));
                let max =
                    max.filter(|max| (*max as f32) < value(*range.end())).map(|max| integer(max).ok_or(()));
                Op::Clip { min: min.transpose().ok()?, max: max.transpose().ok()? }
            }
            op => op,
        };
        Some(Move { op, others: self.others })
    }

    /// A parameter of a value of shape `from` as one of the result, of shape `to`; `None` if it cannot follow.
    pub fn parameter(
        &self,
        rewriter: &mut Rewriter<'_>,
        parameter: ValueId,
        from: &[usize],
        to: &[usize],
    ) -> Result<Option<ValueId>> {
        if rewriter.elements(parameter) == 1 {
            return rewriter.reshape("parameter", parameter, &[]).map(Some);
        }
        let shape = aligned(&rewriter.shape(parameter), from.len());
        match &self.op {
            Op::Transpose { .. } => {
                let parameter = rewriter.reshape("parameter", parameter, &shape)?;
                rewriter.op("parameter", self.op.clone(), &[parameter]).map(Some)
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
            // Elements of other places are picked, or several become one: it must be the same for all of them.
            Op::Gather { axis } => Ok((from.len() == to.len() && shape[*axis] == 1).then_some(parameter)),
            Op::Pool { format, .. } | Op::GlobalPool { format, .. } => {
                let first = format.first_spatial();
                let mut spatial = first..first + from.len() - 2;
                Ok(spatial.all(|d| shape[d] == 1).then_some(parameter))
            }
            Op::Reduce { axes, keep_dims, .. } => {
                Ok((*keep_dims && axes.iter().all(|d| shape[*d] == 1)).then_some(parameter))
            }
            Op::Clip { .. } => Ok(Some(parameter)),
            _ => Ok(None),
        }
    }
}
