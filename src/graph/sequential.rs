//! The Keras-like builder: one layer after the other, with seeded weights.
//!
//! Layers are written as separate operations (a dense layer is MatMul, BiasAdd and its activation): bringing
//! them together is OpFusion's job.

use nestjit_ir::DType;

use super::builder::{Activation, Conv2d, Padding, Pool};
use super::weights::Weights;
use super::{Format, GraphBuilder, Model, ValueId};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// Epsilon of the normalisation layers; an `f32`, as it is in files.
const EPSILON: f64 = 1e-3_f32 as f64;

/// A stack of layers.
///
/// ```
/// use nestjit::{Activation, Sequential};
///
/// let model = Sequential::new(&[64, 512])
///     .dense(512, Activation::Relu)
///     .dense(10, Activation::Softmax)
///     .build()?;
/// assert_eq!(model.graph.value(model.graph.outputs[0]).shape, [64, 10]);
/// # Ok::<(), nestjit::Error>(())
/// ```
#[derive(Debug)]
pub struct Sequential {
    builder: GraphBuilder,
    last: ValueId,
    weights: Weights,
    format: Format,
    /// How many layers of each kind there are, for names.
    counters: std::collections::HashMap<&'static str, usize>,
}

/// A convolution layer: `(64, [3, 3])` for 64 filters of 3x3, or spelled out with [`Conv2dLayer::new`].
#[derive(Clone, PartialEq, Debug)]
pub struct Conv2dLayer {
    filters: usize,
    kernel: [usize; 2],
    options: Conv2d,
    bias: bool,
    activation: Activation,
}

impl Conv2dLayer {
    /// `filters` filters (of a depthwise convolution: per channel) with a bias, steps of 1 and no padding.
    pub fn new(filters: usize, kernel: [usize; 2]) -> Conv2dLayer {
        let (options, activation) = (Conv2d::default(), Activation::Linear);
        Conv2dLayer { filters, kernel, options, bias: true, activation }
    }

    /// With steps between windows.
    pub fn stride(mut self, stride: [usize; 2]) -> Conv2dLayer {
        self.options.stride = stride;
        self
    }

    /// With distances between elements of a window.
    pub fn dilation(mut self, dilation: [usize; 2]) -> Conv2dLayer {
        self.options.dilation = dilation;
        self
    }

    /// With padding.
    pub fn padding(mut self, padding: Padding) -> Conv2dLayer {
        self.options.padding = padding;
        self
    }

    /// In groups; a depthwise convolution has as many as there are channels anyway.
    pub fn groups(mut self, groups: usize) -> Conv2dLayer {
        self.options.groups = groups;
        self
    }

    /// Without a bias.
    pub fn no_bias(mut self) -> Conv2dLayer {
        self.bias = false;
        self
    }

    /// With an activation.
    pub fn activation(mut self, activation: Activation) -> Conv2dLayer {
        self.activation = activation;
        self
    }
}

impl From<(usize, [usize; 2])> for Conv2dLayer {
    fn from((filters, kernel): (usize, [usize; 2])) -> Conv2dLayer {
        Conv2dLayer::new(filters, kernel)
    }
}

/// One filter per channel.
impl From<[usize; 2]> for Conv2dLayer {
    fn from(kernel: [usize; 2]) -> Conv2dLayer {
        Conv2dLayer::new(1, kernel)
    }
}

impl From<[usize; 2]> for Pool {
    fn from(kernel: [usize; 2]) -> Pool {
        Pool::new(&kernel)
    }
}

impl Sequential {
    /// No layers yet: an `f32` input named `input`, of this shape (the batch included).
    pub fn new(shape: &[usize]) -> Sequential {
        let mut builder = GraphBuilder::new("sequential");
        let last = builder.input("input", DType::F32, shape);
        Sequential {
            builder,
            last,
            weights: Weights::new(0),
            format: Format::ChannelsFirst,
            counters: Default::default(),
        }
    }

    /// Names the model.
    pub fn name(mut self, name: &str) -> Sequential {
        self.builder.rename(name);
        self
    }

    /// Weights of the layers that follow are drawn from this seed (otherwise from 0).
    pub fn seed(mut self, seed: u64) -> Sequential {
        self.weights = Weights::new(seed);
        self
    }

    /// Where the channels are, for the layers that follow; first by default.
    pub fn format(mut self, format: Format) -> Sequential {
        self.format = format;
        self
    }

    /// A fully connected layer over the last dimension: MatMul, BiasAdd, activation.
    pub fn dense(self, units: usize, activation: Activation) -> Sequential {
        self.layer("dense", |g, weights, x, _| {
            let rank = g.shape(x).len();
            let features = g.shape(x)[rank - 1];
            let kernel = weights.layer(&[features, units], features, units, activation)?;
            let bias = weights.bias(units)?;
            let kernel = g.constant("kernel", kernel);
            let bias = g.constant("bias", bias);
            let y = g.matmul(x, kernel);
            let y = g.bias_add(y, bias, rank - 1);
            Ok(g.activation(activation, y))
        })
    }

    /// A convolution over two spatial dimensions: Conv, BiasAdd, activation.
    pub fn conv2d(self, layer: impl Into<Conv2dLayer>) -> Sequential {
        let layer = layer.into();
        self.layer("conv2d", |g, weights, x, format| {
            let channels = channels(g, x, format)?;
            let fan = (channels / layer.options.groups.max(1), layer.filters);
            convolution(g, weights, x, &layer, fan, layer.options.groups, format)
        })
    }

    /// A convolution of each channel by itself, with as many results as the layer has filters.
    pub fn depthwise_conv2d(self, layer: impl Into<Conv2dLayer>) -> Sequential {
        let layer = layer.into();
        self.layer("depthwise_conv2d", |g, weights, x, format| {
            let channels = channels(g, x, format)?;
            convolution(g, weights, x, &layer, (1, channels.saturating_mul(layer.filters)), channels, format)
        })
    }

    /// Batch normalisation with parameters that are not trivial.
    pub fn batch_norm(self) -> Sequential {
        self.layer("batch_norm", |g, weights, x, format| {
            let parameters = weights.batch_norm(channels(g, x, format)?)?;
            let [scale, bias, mean, variance] = parameters;
            let parameters = [("scale", scale), ("bias", bias), ("mean", mean), ("variance", variance)]
                .map(|(name, tensor)| g.constant(name, tensor));
            Ok(g.batch_norm(x, parameters, EPSILON, format))
        })
    }

    /// Layer normalisation over the last dimension.
    pub fn layer_norm(self) -> Sequential {
        self.layer("layer_norm", |g, weights, x, _| {
            let axis = g.shape(x).len() - 1;
            let features = g.shape(x)[axis];
            let scale = weights.uniform(&[features], 0.5, 1.5)?;
            let bias = weights.bias(features)?;
            let scale = g.constant("scale", scale);
            let bias = g.constant("bias", bias);
            Ok(g.layer_norm(x, scale, Some(bias), axis, EPSILON))
        })
    }

    /// An activation by itself.
    pub fn activation(self, activation: Activation) -> Sequential {
        self.layer("activation", |g, _, x, _| Ok(g.activation(activation, x)))
    }

    /// Softmax along the last dimension.
    pub fn softmax(self) -> Sequential {
        self.layer("softmax", |g, _, x, _| Ok(g.activation(Activation::Softmax, x)))
    }

    /// The largest element of each window: `[2, 2]`, or a [`Pool`] (its format is replaced by the model's).
    pub fn max_pool2d(self, pool: impl Into<Pool>) -> Sequential {
        let pool = pool.into();
        self.layer("max_pool2d", |g, _, x, format| Ok(g.max_pool(x, &Pool { format, ..pool })))
    }

    /// The mean of each window: `[2, 2]`, or a [`Pool`] (its format is replaced by the model's).
    pub fn avg_pool2d(self, pool: impl Into<Pool>) -> Sequential {
        let pool = pool.into();
        self.layer("avg_pool2d", |g, _, x, format| Ok(g.average_pool(x, &Pool { format, ..pool })))
    }

    /// The mean of each channel, `[N, C]`.
    pub fn global_avg_pool(self) -> Sequential {
        self.layer("global_avg_pool", |g, _, x, format| {
            let y = g.global_average_pool(x, format);
            Ok(g.flatten(y, 1))
        })
    }

    /// One vector per sample.
    pub fn flatten(self) -> Sequential {
        self.layer("flatten", |g, _, x, _| Ok(g.flatten(x, 1)))
    }

    /// Another shape (the batch included).
    pub fn reshape(self, shape: &[usize]) -> Sequential {
        self.layer("reshape", |g, _, x, _| Ok(g.reshape(x, shape)))
    }

    /// Dropout: nothing, at inference.
    pub fn dropout(self) -> Sequential {
        self.layer("dropout", |g, _, x, _| Ok(g.dropout(x)))
    }

    /// The finished model; its output is named `output`.
    ///
    /// # Errors
    /// As [`GraphBuilder::build`].
    pub fn build(mut self) -> Result<Model> {
        self.builder.output("output", self.last);
        Ok(self.builder.build()?.into())
    }

    /// Adds a layer in a scope of its own: `dense`, `dense_1`, ... Nothing is added after an error.
    fn layer(
        mut self,
        kind: &'static str,
        add: impl FnOnce(&mut GraphBuilder, &mut Weights, ValueId, Format) -> Result<ValueId>,
    ) -> Sequential {
        let counter = self.counters.entry(kind).or_default();
        let name = if *counter == 0 { kind.to_owned() } else { format!("{kind}_{counter}") };
        *counter += 1;
        let x = self.last;
        if !self.builder.is_valid(x) {
            return self;
        }
        let (weights, format) = (&mut self.weights, self.format);
        self.last = if self.builder.shape(x).is_empty() {
            let error = Error::shape("a layer needs at least 1 dimension");
            self.builder.reject(error.at(&name, kind))
        } else {
            self.builder.scope(&name, |g| match add(g, weights, x, format) {
                Ok(y) => y,
                Err(e) => g.reject(e.at(&name, kind)),
            })
        };
        self
    }
}

/// The number of channels of an image-like tensor.
fn channels(g: &GraphBuilder, x: ValueId, format: Format) -> Result<usize> {
    match g.shape(x) {
        shape if shape.len() >= 2 => Ok(shape[format.channel_axis(shape.len())]),
        shape => Err(Error::shape(format!("{shape:?} has no channel dimension"))),
    }
}

/// Conv, BiasAdd, activation; `fan` is the number of input channels per group and of output channels.
fn convolution(
    g: &mut GraphBuilder,
    weights: &mut Weights,
    x: ValueId,
    layer: &Conv2dLayer,
    fan: (usize, usize),
    groups: usize,
    format: Format,
) -> Result<ValueId> {
    let [height, width] = layer.kernel;
    let (inputs, filters) = fan;
    let window = height.saturating_mul(width);
    let (fan_in, fan_out) = (inputs.saturating_mul(window), filters.saturating_mul(window) / groups.max(1));
    let kernel = weights.layer(&[filters, inputs, height, width], fan_in, fan_out, layer.activation)?;
    let bias: Option<Tensor> = layer.bias.then(|| weights.bias(filters)).transpose()?;
    let kernel = g.constant("kernel", kernel);
    let options = Conv2d { groups, format, ..layer.options.clone() };
    let mut y = g.conv2d(x, kernel, None, options);
    if let Some(bias) = bias {
        let bias = g.constant("bias", bias);
        y = g.bias_add(y, bias, format.channel_axis(4));
    }
    Ok(g.activation(layer.activation, y))
}

#[cfg(test)]
mod tests;
