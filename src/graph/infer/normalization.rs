//! Inference for normalisations and softmax: the result has the operand's shape.

use super::{
    Class, Outputs, expect_axis, expect_broadcast_to, expect_class, expect_epsilon, expect_min_rank,
    expect_same_dtype, expect_shape, operands, operands_or,
};
use crate::error::{Error, Result};
use crate::graph::{Format, Value};

pub(super) fn batch_norm(epsilon: f64, format: Format, inputs: &[&Value]) -> Result<Outputs> {
    let [x, scale, bias, mean, variance] = operands(inputs)?;
    let parameters =
        [(scale, "the scale"), (bias, "the bias"), (mean, "the mean"), (variance, "the variance")];
    per_channel(x, &parameters, 2, epsilon, format)
}

pub(super) fn instance_norm(epsilon: f64, format: Format, inputs: &[&Value]) -> Result<Outputs> {
    let [x, scale, bias] = operands(inputs)?;
    per_channel(x, &[(scale, "the scale"), (bias, "the bias")], 3, epsilon, format)
}

pub(super) fn group_norm(groups: usize, epsilon: f64, format: Format, inputs: &[&Value]) -> Result<Outputs> {
    let [x, scale, bias] = operands(inputs)?;
    let outputs = per_channel(x, &[(scale, "the scale"), (bias, "the bias")], 2, epsilon, format)?;
    let channels = x.shape[format.channel_axis(x.shape.len())];
    if groups == 0 {
        return Err(Error::invalid("the number of groups must be at least 1"));
    }
    if !channels.is_multiple_of(groups) {
        return Err(Error::shape(format!("{groups} groups do not divide {channels} channels")));
    }
    Ok(outputs)
}

fn per_channel(
    x: &Value,
    parameters: &[(&Value, &str)],
    min_rank: usize,
    epsilon: f64,
    format: Format,
) -> Result<Outputs> {
    expect_class(x, Class::Float)?;
    expect_min_rank(x, min_rank)?;
    expect_epsilon(epsilon)?;
    let channels = x.shape[format.channel_axis(x.shape.len())];
    for (value, what) in parameters {
        expect_same_dtype(&[x, value])?;
        expect_shape(value, &[channels], what)?;
    }
    Ok(vec![(x.dtype, x.shape.clone())])
}

pub(super) fn layer_norm(axis: usize, epsilon: f64, inputs: &[&Value]) -> Result<Outputs> {
    let [_, scale, bias] = operands_or(inputs, 2)?;
    over_trailing(axis, epsilon, inputs, &[(scale, "the scale"), (bias, "the bias")])
}

pub(super) fn rms_norm(axis: usize, epsilon: f64, inputs: &[&Value]) -> Result<Outputs> {
    let [_, scale] = operands(inputs)?;
    over_trailing(axis, epsilon, inputs, &[(Some(scale), "the scale")])
}

fn over_trailing(
    axis: usize,
    epsilon: f64,
    inputs: &[&Value],
    parameters: &[(Option<&Value>, &str)],
) -> Result<Outputs> {
    let x = inputs[0];
    expect_same_dtype(inputs)?;
    expect_class(x, Class::Float)?;
    expect_axis(x, axis)?;
    expect_epsilon(epsilon)?;
    for (value, what) in parameters {
        if let Some(value) = value {
            expect_broadcast_to(value, &x.shape[axis..], what)?;
        }
    }
    Ok(vec![(x.dtype, x.shape.clone())])
}

pub(super) fn softmax(axis: usize, inputs: &[&Value]) -> Result<Outputs> {
    let [x] = operands(inputs)?;
    expect_class(x, Class::Float)?;
    expect_axis(x, axis)?;
    Ok(vec![(x.dtype, x.shape.clone())])
}
