//! Reductions, and operations that only move elements.

use super::GraphBuilder;
use crate::error::Error;
use crate::graph::{Op, PadMode, Reduction, ValueId};

impl GraphBuilder {
    /// A reduction over dimensions, in any order.
    pub fn reduce(&mut self, op: Reduction, x: ValueId, axes: &[usize], keep_dims: bool) -> ValueId {
        let mut axes = axes.to_vec();
        axes.sort_unstable();
        self.one(Op::Reduce { op, axes, keep_dims }, &[x])
    }

    /// The sum over dimensions.
    pub fn reduce_sum(&mut self, x: ValueId, axes: &[usize], keep_dims: bool) -> ValueId {
        self.reduce(Reduction::Sum, x, axes, keep_dims)
    }

    /// The mean over dimensions.
    pub fn reduce_mean(&mut self, x: ValueId, axes: &[usize], keep_dims: bool) -> ValueId {
        self.reduce(Reduction::Mean, x, axes, keep_dims)
    }

    /// The maximum over dimensions.
    pub fn reduce_max(&mut self, x: ValueId, axes: &[usize], keep_dims: bool) -> ValueId {
        self.reduce(Reduction::Max, x, axes, keep_dims)
    }

    /// The minimum over dimensions.
    pub fn reduce_min(&mut self, x: ValueId, axes: &[usize], keep_dims: bool) -> ValueId {
        self.reduce(Reduction::Min, x, axes, keep_dims)
    }

    /// The index of the first largest element along a dimension.
    pub fn arg_max(&mut self, x: ValueId, axis: usize, keep_dims: bool) -> ValueId {
        self.one(Op::ArgReduce { max: true, axis, keep_dims, last: false }, &[x])
    }

    /// The index of the first smallest element along a dimension.
    pub fn arg_min(&mut self, x: ValueId, axis: usize, keep_dims: bool) -> ValueId {
        self.one(Op::ArgReduce { max: false, axis, keep_dims, last: false }, &[x])
    }

    /// The same elements with another shape.
    pub fn reshape(&mut self, x: ValueId, shape: &[usize]) -> ValueId {
        self.one(Op::Reshape { shape: shape.to_vec() }, &[x])
    }

    /// A matrix: the dimensions before `axis`, and those from it on.
    pub fn flatten(&mut self, x: ValueId, axis: usize) -> ValueId {
        if let Some(skipped) = self.skip("Flatten", &[x]) {
            return skipped;
        }
        let shape = self.shape(x);
        let Some((rows, columns)) = shape.split_at_checked(axis) else {
            let message = format!("axis {axis} does not exist in {shape:?}");
            return self.fail_at("Flatten", Error::invalid(message));
        };
        // One part may overflow if the other is empty: saturated, it is rejected as a size.
        let size = |part: &[usize]| part.iter().fold(1usize, |n, d| n.saturating_mul(*d));
        let matrix = [size(rows), size(columns)];
        self.reshape(x, &matrix)
    }

    /// Without these dimensions, which must be 1.
    pub fn squeeze(&mut self, x: ValueId, axes: &[usize]) -> ValueId {
        if let Some(skipped) = self.skip("Squeeze", &[x]) {
            return skipped;
        }
        let shape = self.shape(x);
        if let Some(axis) = axes.iter().find(|axis| shape.get(**axis) != Some(&1)) {
            let message = format!("dimension {axis} of {shape:?} is not 1");
            return self.fail_at("Squeeze", Error::shape(message));
        }
        let kept = shape.iter().enumerate().filter(|(d, _)| !axes.contains(d)).map(|(_, e)| *e);
        let kept: Vec<usize> = kept.collect();
        self.reshape(x, &kept)
    }

    /// With dimensions of extent 1 added, so that they are at these places of the result.
    pub fn unsqueeze(&mut self, x: ValueId, axes: &[usize]) -> ValueId {
        if let Some(skipped) = self.skip("Unsqueeze", &[x]) {
            return skipped;
        }
        let mut axes = axes.to_vec();
        axes.sort_unstable();
        let rank = self.shape(x).len() + axes.len();
        if !axes.is_sorted_by(|a, b| a < b) || axes.last().is_some_and(|last| *last >= rank) {
            let message = format!("{axes:?} are not distinct dimensions of a result of rank {rank}");
            return self.fail_at("Unsqueeze", Error::invalid(message));
        }
        let mut shape = self.shape(x).to_vec();
        for axis in axes {
            shape.insert(axis, 1);
        }
        self.reshape(x, &shape)
    }

    /// Dimension `i` of the result is dimension `perm[i]` of `x`.
    pub fn transpose(&mut self, x: ValueId, perm: &[usize]) -> ValueId {
        self.one(Op::Transpose { perm: perm.to_vec() }, &[x])
    }

    /// `y[i] = x[start + i * step]` in each dimension.
    pub fn slice(&mut self, x: ValueId, starts: &[usize], extents: &[usize], steps: &[i64]) -> ValueId {
        let (starts, extents, steps) = (starts.to_vec(), extents.to_vec(), steps.to_vec());
        self.one(Op::Slice { starts, extents, steps }, &[x])
    }

    /// `extent` elements from `start` on, in one dimension.
    pub fn slice_axis(&mut self, x: ValueId, axis: usize, start: usize, extent: usize) -> ValueId {
        if let Some(skipped) = self.skip("Slice", &[x]) {
            return skipped;
        }
        let mut extents = self.shape(x).to_vec();
        if axis >= extents.len() {
            let message = format!("axis {axis} does not exist in {extents:?}");
            return self.fail_at("Slice", Error::invalid(message));
        }
        let mut starts = vec![0; extents.len()];
        (starts[axis], extents[axis]) = (start, extent);
        let steps = vec![1; extents.len()];
        self.one(Op::Slice { starts, extents, steps }, &[x])
    }

    /// Elements added before and after each dimension; negative numbers remove.
    pub fn pad(&mut self, x: ValueId, begin: &[i64], end: &[i64], mode: PadMode) -> ValueId {
        self.one(Op::Pad { begin: begin.to_vec(), end: end.to_vec(), mode }, &[x])
    }

    /// Tensors joined along a dimension.
    pub fn concat(&mut self, parts: &[ValueId], axis: usize) -> ValueId {
        self.one(Op::Concat { axis }, parts)
    }

    /// A tensor cut along a dimension.
    pub fn split(&mut self, x: ValueId, axis: usize, sizes: &[usize]) -> Vec<ValueId> {
        self.node("", Op::Split { axis, sizes: sizes.to_vec() }, &[x])
    }

    /// The slices of `data` that `indices` name, along a dimension.
    pub fn gather(&mut self, data: ValueId, indices: ValueId, axis: usize) -> ValueId {
        self.one(Op::Gather { axis }, &[data, indices])
    }

    /// Broadcast to a shape.
    pub fn expand(&mut self, x: ValueId, shape: &[usize]) -> ValueId {
        self.one(Op::Expand { shape: shape.to_vec() }, &[x])
    }
}
