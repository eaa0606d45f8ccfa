//! Normalisations and softmax.

use ndarray::{ArrayD, ArrayViewMutD, Axis, IxDyn};

use super::Array;
use super::elementwise::spread;
use super::scalar::maximum;
use crate::graph::Format;

/// A `[C]` vector in a shape that broadcasts along the channels of a tensor.
fn along_channels(vector: &Array, rank: usize, format: Format) -> ArrayD<f64> {
    let mut shape = vec![1; rank];
    shape[format.channel_axis(rank)] = vector.shape()[0];
    vector.floats().clone().into_shape_with_order(IxDyn(&shape)).expect("a vector in more dimensions")
}

pub(super) fn batch_norm(inputs: &[&Array], epsilon: f64, format: Format) -> Array {
    let [x, parameters @ ..] = inputs else { unreachable!("inference counts the operands") };
    let rank = x.shape().len();
    let [scale, bias, mean, variance] = [0, 1, 2, 3].map(|i| along_channels(parameters[i], rank, format));
    let result = (x.floats() - &mean) / (variance + epsilon).mapv(f64::sqrt) * scale + bias;
    Array::float(x.dtype, result)
}

/// Subtracts the mean and divides by the standard deviation of all elements.
fn standardize(mut values: ArrayViewMutD<f64>, epsilon: f64) {
    let count = values.len() as f64;
    let mean = values.sum() / count;
    values -= mean;
    let variance = values.mapv(|v| v * v).sum() / count;
    values /= (variance + epsilon).sqrt();
}

/// Applies `f` to the elements from `axis` on, for each index of the dimensions before.
fn each_trailing(x: &ArrayD<f64>, axis: usize, f: impl Fn(ArrayViewMutD<f64>)) -> ArrayD<f64> {
    let mut result = x.as_standard_layout().into_owned();
    let (outer, inner) = x.shape().split_at(axis);
    let size: usize = inner.iter().product();
    if size == 0 {
        return result;
    }
    let values = result.as_slice_mut().expect("the layout is standard");
    for chunk in values.chunks_exact_mut(size).take(outer.iter().product()) {
        f(ArrayViewMutD::from_shape(IxDyn(inner), chunk).expect("a chunk has the inner shape"));
    }
    result
}

pub(super) fn layer_norm(inputs: &[&Array], axis: usize, epsilon: f64) -> Array {
    let x = inputs[0];
    let mut result = each_trailing(x.floats(), axis, |values| standardize(values, epsilon));
    result *= &spread(inputs[1].floats(), x.shape());
    if let Some(bias) = inputs.get(2) {
        result += &spread(bias.floats(), x.shape());
    }
    Array::float(x.dtype, result)
}

pub(super) fn rms_norm(inputs: &[&Array], axis: usize, epsilon: f64) -> Array {
    let x = inputs[0];
    let mut result = each_trailing(x.floats(), axis, |mut values| {
        let mean_square = values.mapv(|v| v * v).sum() / values.len() as f64;
        values /= (mean_square + epsilon).sqrt();
    });
    result *= &spread(inputs[1].floats(), x.shape());
    Array::float(x.dtype, result)
}

pub(super) fn group_norm(inputs: &[&Array], groups: usize, epsilon: f64, format: Format) -> Array {
    let x = inputs[0];
    let rank = x.shape().len();
    let axis = format.channel_axis(rank);
    let mut result = x.floats().clone();
    // Without channels there are no groups.
    let per_group = x.shape()[axis].checked_div(groups).unwrap_or(0);
    for mut sample in result.axis_iter_mut(Axis(0)) {
        for group in 0..groups {
            let channels = group * per_group..(group + 1) * per_group;
            let values = sample.slice_axis_mut(Axis(axis - 1), channels.into());
            if !values.is_empty() {
                standardize(values, epsilon);
            }
        }
    }
    result *= &along_channels(inputs[1], rank, format);
    result += &along_channels(inputs[2], rank, format);
    Array::float(x.dtype, result)
}

pub(super) fn softmax(x: &Array, axis: usize) -> Array {
    let mut result = x.floats().clone();
    for mut lane in result.lanes_mut(Axis(axis)) {
        let max = lane.iter().copied().fold(f64::NEG_INFINITY, maximum);
        lane.mapv_inplace(|v| (v - max).exp());
        let sum = lane.sum();
        lane.mapv_inplace(|v| v / sum);
    }
    Array::float(x.dtype, result)
}

pub(super) fn log_softmax(x: &Array, axis: usize) -> Array {
    let mut result = x.floats().clone();
    for mut lane in result.lanes_mut(Axis(axis)) {
        let max = lane.iter().copied().fold(f64::NEG_INFINITY, maximum);
        let log_sum = lane.iter().map(|v| (v - max).exp()).sum::<f64>().ln();
        lane.mapv_inplace(|v| v - max - log_sum);
    }
    Array::float(x.dtype, result)
}
