//! Convolution, pooling, normalisation and softmax.

use super::options::window;
use super::{Conv, Conv2d, GraphBuilder, Pool};
use crate::graph::{Format, Op, PoolKind, ValueId};

impl GraphBuilder {
    /// A convolution over any number of spatial dimensions; the weight is `[Co, Ci / groups, k1, .., kk]`.
    pub fn conv(&mut self, x: ValueId, weight: ValueId, bias: Option<ValueId>, options: &Conv) -> ValueId {
        if let Some(skipped) = self.skip("Conv", &[x, weight]) {
            return skipped;
        }
        let kernel = self.shape(weight).get(2..).unwrap_or_default().to_vec();
        let Conv { strides, dilations, padding, groups, format } = options;
        match window(self.shape(x), *format, &kernel, strides, dilations, padding) {
            Ok(window) => {
                let inputs: Vec<ValueId> = [x, weight].into_iter().chain(bias).collect();
                let op = Op::Conv { window, groups: *groups, format: *format, pad_value: 0 };
                self.one(op, &inputs)
            }
            Err(e) => self.fail_at("Conv", e),
        }
    }

    /// A convolution over two spatial dimensions.
    pub fn conv2d(&mut self, x: ValueId, weight: ValueId, bias: Option<ValueId>, options: Conv2d) -> ValueId {
        self.conv(x, weight, bias, &options.into())
    }

    /// The largest element of each window.
    pub fn max_pool(&mut self, x: ValueId, options: &Pool) -> ValueId {
        self.pool(PoolKind::Max, x, options)
    }

    /// The mean of each window.
    pub fn average_pool(&mut self, x: ValueId, options: &Pool) -> ValueId {
        self.pool(PoolKind::Average { count_include_pad: options.count_include_pad }, x, options)
    }

    fn pool(&mut self, kind: PoolKind, x: ValueId, options: &Pool) -> ValueId {
        let Pool { kernel, strides, dilations, padding, ceil_mode, format, .. } = options;
        let strides = if strides.is_empty() { kernel } else { strides };
        let op = |window| Op::Pool { kind, window, ceil_mode: *ceil_mode, format: *format };
        let name = op(Default::default()).name();
        if let Some(skipped) = self.skip(name, &[x]) {
            return skipped;
        }
        match window(self.shape(x), *format, kernel, strides, dilations, padding) {
            Ok(window) => self.one(op(window), &[x]),
            Err(e) => self.fail_at(name, e),
        }
    }

    /// The largest element of each channel.
    pub fn global_max_pool(&mut self, x: ValueId, format: Format) -> ValueId {
        self.one(Op::GlobalPool { kind: PoolKind::Max, format }, &[x])
    }

    /// The mean of each channel.
    pub fn global_average_pool(&mut self, x: ValueId, format: Format) -> ValueId {
        let kind = PoolKind::Average { count_include_pad: false };
        self.one(Op::GlobalPool { kind, format }, &[x])
    }

    /// `(x - mean) / sqrt(variance + epsilon) * scale + bias`; `parameters` are scale, bias, mean, variance.
    pub fn batch_norm(
        &mut self,
        x: ValueId,
        parameters: [ValueId; 4],
        epsilon: f64,
        format: Format,
    ) -> ValueId {
        let [scale, bias, mean, variance] = parameters;
        self.one(Op::BatchNorm { epsilon, format }, &[x, scale, bias, mean, variance])
    }

    /// Normalised over the dimensions from `axis` on.
    pub fn layer_norm(
        &mut self,
        x: ValueId,
        scale: ValueId,
        bias: Option<ValueId>,
        axis: usize,
        epsilon: f64,
    ) -> ValueId {
        let inputs: Vec<ValueId> = [x, scale].into_iter().chain(bias).collect();
        self.one(Op::LayerNorm { axis, epsilon }, &inputs)
    }

    /// Divided by the root mean square over the dimensions from `axis` on.
    pub fn rms_norm(&mut self, x: ValueId, scale: ValueId, axis: usize, epsilon: f64) -> ValueId {
        self.one(Op::RmsNorm { axis, epsilon }, &[x, scale])
    }

    /// Normalised over the spatial dimensions of each sample and channel.
    pub fn instance_norm(
        &mut self,
        x: ValueId,
        scale: ValueId,
        bias: ValueId,
        epsilon: f64,
        format: Format,
    ) -> ValueId {
        self.one(Op::InstanceNorm { epsilon, format }, &[x, scale, bias])
    }

    /// Normalised over the spatial dimensions and the channels of each group.
    pub fn group_norm(
        &mut self,
        x: ValueId,
        scale: ValueId,
        bias: ValueId,
        groups: usize,
        epsilon: f64,
        format: Format,
    ) -> ValueId {
        self.one(Op::GroupNorm { groups, epsilon, format }, &[x, scale, bias])
    }

    /// `exp(x) / sum(exp(x))` along a dimension.
    pub fn softmax(&mut self, x: ValueId, axis: usize) -> ValueId {
        self.one(Op::Softmax { axis }, &[x])
    }

    /// The logarithm of the softmax.
    pub fn log_softmax(&mut self, x: ValueId, axis: usize) -> ValueId {
        self.one(Op::LogSoftmax { axis }, &[x])
    }
}
