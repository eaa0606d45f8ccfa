//! Inference for elementwise operations: the result has the (broadcast) shape of the operands.

use nestjit_ir::{CheckKind, DType};

use super::{
    Class, Outputs, broadcast, expect_axis, expect_class, expect_same_dtype, expect_shape, operands, show,
};
use crate::error::{Error, Result};
use crate::graph::{Binary, Unary, Value};

pub(super) fn unary(unary: Unary, inputs: &[&Value]) -> Result<Outputs> {
    let [x] = operands(inputs)?;
    if let Some(class) = unary_class(unary) {
        expect_class(x, class)?;
    }
    if matches!(unary, Unary::Celu { alpha: 0.0 }) {
        return Err(Error::invalid("alpha must not be 0"));
    }
    let dtype = if matches!(unary, Unary::IsNan | Unary::IsInf) { DType::Bool } else { x.dtype };
    Ok(vec![(dtype, x.shape.clone())])
}

/// The operand types of a unary function; `None` if any will do.
fn unary_class(unary: Unary) -> Option<Class> {
    use Unary::*;
    match unary {
        Identity => None,
        Neg | Abs | Sign | Square | Relu | Relu6 => Some(Class::Numeric),
        Not => Some(Class::Bool),
        BitNot => Some(Class::Int),
        _ => Some(Class::Float),
    }
}

pub(super) fn binary(binary: Binary, inputs: &[&Value]) -> Result<Outputs> {
    use Binary::*;
    let [a, b] = operands(inputs)?;
    expect_same_dtype(inputs)?;
    let class = match binary {
        Eq | Ne => None,
        Atan2 => Some(Class::Float),
        And | Or | Xor => Some(Class::IntOrBool),
        Shl | Shr => Some(Class::Int),
        _ => Some(Class::Numeric),
    };
    if let Some(class) = class {
        expect_class(a, class)?;
    }
    let dtype = if matches!(binary, Eq | Ne | Lt | Le | Gt | Ge) { DType::Bool } else { a.dtype };
    Ok(vec![(dtype, broadcast(&[a, b])?)])
}

pub(super) fn select(inputs: &[&Value]) -> Result<Outputs> {
    let [condition, a, b] = operands(inputs)?;
    expect_class(condition, Class::Bool)?;
    expect_same_dtype(&[a, b])?;
    Ok(vec![(a.dtype, broadcast(&[condition, a, b])?)])
}

pub(super) fn check(kind: CheckKind, low: i64, inputs: &[&Value]) -> Result<Outputs> {
    let [x] = operands(inputs)?;
    if x.dtype != DType::I64 {
        return Err(Error::shape(format!("what is checked must be i64, but {} was given", show(x))));
    }
    if kind == CheckKind::IndexFromEnd && low != 0 {
        return Err(Error::invalid(format!("indices that may count from the end start at 0, not at {low}")));
    }
    Ok(vec![(x.dtype, x.shape.clone())])
}

pub(super) fn clip(min: Option<f64>, max: Option<f64>, inputs: &[&Value]) -> Result<Outputs> {
    let [x] = operands(inputs)?;
    expect_class(x, Class::Numeric)?;
    if [min, max].into_iter().flatten().any(f64::is_nan) {
        return Err(Error::invalid("a bound must not be NaN"));
    }
    Ok(vec![(x.dtype, x.shape.clone())])
}

pub(super) fn cast(to: DType, inputs: &[&Value]) -> Result<Outputs> {
    let [x] = operands(inputs)?;
    Ok(vec![(to, x.shape.clone())])
}

pub(super) fn dropout(inputs: &[&Value]) -> Result<Outputs> {
    let [x] = operands(inputs)?;
    Ok(vec![(x.dtype, x.shape.clone())])
}

pub(super) fn bias_add(axis: usize, inputs: &[&Value]) -> Result<Outputs> {
    let [x, bias] = operands(inputs)?;
    expect_same_dtype(inputs)?;
    expect_class(x, Class::Numeric)?;
    expect_axis(x, axis)?;
    expect_shape(bias, &[x.shape[axis]], "the bias")?;
    Ok(vec![(x.dtype, x.shape.clone())])
}
