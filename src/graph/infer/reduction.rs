//! Inference for reductions.

use nestjit_ir::DType;

use super::{Class, Outputs, expect_axis, expect_class, operands, show};
use crate::error::{Error, Result};
use crate::graph::{Reduction, Value};

pub(super) fn reduce(op: Reduction, axes: &[usize], keep_dims: bool, inputs: &[&Value]) -> Result<Outputs> {
    use Reduction::*;
    let [x] = operands(inputs)?;
    let class = match op {
        Any | All => Class::Bool,
        Sum | Max | Min | Prod | L1 | SumSquare => Class::Numeric,
        Mean | L2 | LogSum | LogSumExp => Class::Float,
    };
    expect_class(x, class)?;
    if !axes.is_sorted_by(|a, b| a < b) {
        return Err(Error::invalid(format!("the axes {axes:?} are not ascending")));
    }
    if let Some(axis) = axes.last() {
        expect_axis(x, *axis)?;
    }
    Ok(vec![(x.dtype, without(&x.shape, axes, keep_dims))])
}

pub(super) fn arg_reduce(axis: usize, keep_dims: bool, inputs: &[&Value]) -> Result<Outputs> {
    let [x] = operands(inputs)?;
    expect_class(x, Class::Numeric)?;
    expect_axis(x, axis)?;
    let shape = without(&x.shape, &[axis], keep_dims);
    if x.shape[axis] == 0 && !shape.contains(&0) {
        return Err(Error::shape(format!("{} has no element along axis {axis}", show(x))));
    }
    Ok(vec![(DType::I64, shape)])
}

fn without(shape: &[usize], axes: &[usize], keep_dims: bool) -> Vec<usize> {
    let kept = shape.iter().enumerate().filter_map(|(d, extent)| match axes.contains(&d) {
        false => Some(*extent),
        true => keep_dims.then_some(1),
    });
    kept.collect()
}
