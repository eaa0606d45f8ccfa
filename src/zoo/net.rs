//! What the convolutional networks are written with: layers whose seeded weights follow the signal.
//!
//! In a trained network a batch normalisation holds the statistics of what reaches it. Here they are predicted:
//! every [`Feature`] carries the mean and variance expected of each of its channels, which follow from the
//! weights as if elements were independent. That is rough, but enough for a signal to stay alive through a
//! hundred layers. Nodes and constants are named as in PyTorch's state dictionaries.

use nestjit_ir::DType;

use crate::error::Result;
use crate::graph::builder::{Activation, Conv2d, Gemm, Padding, Pool};
use crate::graph::{Format, GraphBuilder, Model, ValueId, Weights};
use crate::tensor::Tensor;

/// What is expected of the elements of a channel.
#[derive(Clone, Copy, Debug)]
struct Moments {
    mean: f64,
    variance: f64,
}

impl Moments {
    /// The mean of the squares.
    fn power(self) -> f64 {
        self.mean * self.mean + self.variance
    }

    /// Of `f` of the elements, taken to be distributed normally.
    fn map(self, f: impl Fn(f64) -> f64) -> Moments {
        const STEPS: i32 = 16;
        let (mut weights, mut sum, mut squares) = (0.0, 0.0, 0.0);
        for step in -STEPS..=STEPS {
            let z = 4.0 * f64::from(step) / f64::from(STEPS);
            let weight = libm::exp(-z * z / 2.0);
            let y = f(self.mean + z * self.variance.sqrt());
            weights += weight;
            sum += weight * y;
            squares += weight * y * y;
        }
        let mean = sum / weights;
        Moments { mean, variance: (squares / weights - mean * mean).max(0.0) }
    }

    /// Of the product with another, independent factor.
    fn times(self, other: Moments) -> Moments {
        let mean = self.mean * other.mean;
        Moments { mean, variance: self.power() * other.power() - mean * mean }
    }
}

/// A value `[1, C, H, W]` (or `[1, C]`) and what is expected of its channels.
#[derive(Clone, Debug)]
pub(super) struct Feature {
    id: ValueId,
    moments: Vec<Moments>,
}

impl Feature {
    /// The number of channels.
    pub(super) fn channels(&self) -> usize {
        self.moments.len()
    }
}

/// The window of a square convolution.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kernel {
    size: usize,
    stride: usize,
    padding: usize,
    groups: usize,
}

impl Kernel {
    /// With steps of 1, and padding that keeps the resolution if the size is odd.
    pub(super) fn new(size: usize) -> Kernel {
        Kernel { size, stride: 1, padding: size / 2, groups: 1 }
    }

    /// With steps between windows.
    pub(super) fn stride(self, stride: usize) -> Kernel {
        Kernel { stride, ..self }
    }

    /// Without padding.
    pub(super) fn valid(self) -> Kernel {
        Kernel { padding: 0, ..self }
    }

    /// In groups.
    pub(super) fn groups(self, groups: usize) -> Kernel {
        Kernel { groups, ..self }
    }
}

/// A network under construction.
pub(super) struct Net {
    g: GraphBuilder,
    weights: Weights,
    /// Of all batch normalisations; an `f32`, as it is in files.
    epsilon: f32,
}

impl Net {
    /// No layers yet.
    pub(super) fn new(name: &str, seed: u64) -> Net {
        Net { g: GraphBuilder::new(name), weights: Weights::new(seed), epsilon: 1e-5 }
    }

    /// With another epsilon for all batch normalisations.
    pub(super) fn epsilon(self, epsilon: f32) -> Net {
        Net { epsilon, ..self }
    }

    /// The input: a square image, normalised to mean 0.
    pub(super) fn image(&mut self, resolution: usize) -> Feature {
        let id = self.g.input("input", DType::F32, &[1, 3, resolution, resolution]);
        Feature { id, moments: vec![Moments { mean: 0.0, variance: 1.0 / 3.0 }; 3] }
    }

    /// The finished network.
    pub(super) fn finish(mut self, output: &Feature) -> Result<Model> {
        self.g.output("output", output.id);
        Ok(self.g.build()?.into())
    }

    /// A convolution without a bias: one that a batch normalisation follows.
    pub(super) fn conv(
        &mut self,
        name: &str,
        x: &Feature,
        filters: usize,
        kernel: Kernel,
    ) -> Result<Feature> {
        let fan_in = x.channels() / kernel.groups * kernel.size * kernel.size;
        let limit = (6.0 / fan_in as f32).sqrt();
        let mut weight = self.weights.uniform(&conv_shape(x, filters, kernel), -limit, limit)?;
        ignore_means(x, &mut weight, kernel.groups)?;
        let coverage = coverage(self.g.shape(x.id), kernel);
        let moments = weighted(x, &weight, kernel.groups, &coverage)?;
        Ok(Feature { id: self.add_conv(name, x, weight, None, kernel), moments })
    }

    /// A convolution with a bias, that keeps the signal at its strength.
    pub(super) fn conv_bias(
        &mut self,
        name: &str,
        x: &Feature,
        filters: usize,
        kernel: Kernel,
    ) -> Result<Feature> {
        let shape = conv_shape(x, filters, kernel);
        let coverage = coverage(self.g.shape(x.id), kernel);
        let (weight, bias, moments) = self.balanced(x, &shape, kernel.groups, &coverage)?;
        Ok(Feature { id: self.add_conv(name, x, weight, Some(bias), kernel), moments })
    }

    /// A fully connected layer over `[1, C]`, as one operation.
    pub(super) fn linear(&mut self, name: &str, x: &Feature, units: usize) -> Result<Feature> {
        let (weight, bias, moments) = self.balanced(x, &[units, x.channels()], 1, &[1.0])?;
        let weight = self.g.constant(&format!("{name}.weight"), weight);
        let bias = self.g.constant(&format!("{name}.bias"), bias);
        let options = Gemm { trans_b: true, ..Gemm::default() };
        let id = self.g.named(name).gemm(x.id, weight, Some(bias), options);
        Ok(Feature { id, moments })
    }

    /// Batch normalisation by about the statistics of what reaches it.
    pub(super) fn batch_norm(&mut self, name: &str, x: &Feature) -> Result<Feature> {
        self.scaled_batch_norm(name, x, 1.0)
    }

    /// A batch normalisation with a smaller scale, as trained networks have it at the end of a branch that is added to
    /// its input. It is also for SiLU, which is steeper for stronger signals: what was predicted wrongly must not grow
    /// from layer to layer.
    pub(super) fn weak_batch_norm(&mut self, name: &str, x: &Feature) -> Result<Feature> {
        self.scaled_batch_norm(name, x, 0.4)
    }

    /// The batch normalisation at the end of one of so many branches in a row. The more branches, the smaller their scale: a
    /// rounding error or a wrong prediction grows with the product of what they add, which stays the same.
    pub(super) fn branch_batch_norm(&mut self, name: &str, x: &Feature, branches: usize) -> Result<Feature> {
        self.scaled_batch_norm(name, x, 0.8 / branches.max(2) as f32)
    }

    fn scaled_batch_norm(&mut self, name: &str, x: &Feature, strength: f32) -> Result<Feature> {
        let channels = x.channels();
        let scale = self.weights.uniform(&[channels], 0.5 * strength, 1.5 * strength)?;
        let bias = self.weights.uniform(&[channels], -0.3 * strength, 0.3 * strength)?;
        let mut mean = self.weights.uniform(&[channels], -0.1, 0.1)?;
        let mut variance = self.weights.uniform(&[channels], 0.8, 1.25)?;
        let (means, variances) = (mean.values_mut::<f32>()?, variance.values_mut::<f32>()?);
        let (scales, biases) = (scale.values::<f32>()?, bias.values::<f32>()?);
        let mut moments = Vec::with_capacity(channels);
        for (c, given) in x.moments.iter().enumerate() {
            let measured = given.mean + given.variance.sqrt() * f64::from(means[c]);
            means[c] = measured as f32;
            variances[c] = (given.variance * f64::from(variances[c])) as f32;
            let factor = f64::from(scales[c]) / (f64::from(variances[c]) + f64::from(self.epsilon)).sqrt();
            moments.push(Moments {
                mean: (given.mean - measured) * factor + f64::from(biases[c]),
                variance: given.variance * factor * factor,
            });
        }
        let parameters =
            [("weight", scale), ("bias", bias), ("running_mean", mean), ("running_var", variance)]
                .map(|(parameter, tensor)| self.g.constant(&format!("{name}.{parameter}"), tensor));
        let format = Format::ChannelsFirst;
        let id = self.g.named(name).batch_norm(x.id, parameters, self.epsilon.into(), format);
        Ok(Feature { id, moments })
    }

    /// An activation.
    pub(super) fn activation(&mut self, name: &str, activation: Activation, x: &Feature) -> Feature {
        let id = self.g.named(name).activation(activation, x.id);
        let sigmoid = |v: f64| 1.0 / (1.0 + libm::exp(-v));
        let moments = x.moments.iter().map(|m| match activation {
            Activation::Relu => m.map(|v| v.max(0.0)),
            Activation::Relu6 => m.map(|v| v.clamp(0.0, 6.0)),
            Activation::Sigmoid => m.map(sigmoid),
            Activation::Silu | Activation::Swish => m.map(|v| v * sigmoid(v)),
            _ => *m,
        });
        Feature { id, moments: moments.collect() }
    }

    /// ReLU.
    pub(super) fn relu(&mut self, name: &str, x: &Feature) -> Feature {
        self.activation(name, Activation::Relu, x)
    }

    /// The sum of two values.
    pub(super) fn add(&mut self, name: &str, a: &Feature, b: &Feature) -> Feature {
        let id = self.g.named(name).add(a.id, b.id);
        let moments = a.moments.iter().zip(&b.moments);
        let sum = |(a, b): (&Moments, &Moments)| Moments {
            mean: a.mean + b.mean,
            variance: a.variance + b.variance,
        };
        Feature { id, moments: moments.map(sum).collect() }
    }

    /// The product of two values, one of which may be a factor per channel.
    pub(super) fn mul(&mut self, name: &str, a: &Feature, b: &Feature) -> Feature {
        let id = self.g.named(name).mul(a.id, b.id);
        let moments = a.moments.iter().zip(&b.moments);
        Feature { id, moments: moments.map(|(a, b)| a.times(*b)).collect() }
    }

    /// Values joined along the channels.
    pub(super) fn concat(&mut self, name: &str, parts: &[Feature]) -> Feature {
        let ids: Vec<ValueId> = parts.iter().map(|part| part.id).collect();
        let moments = parts.iter().flat_map(|part| part.moments.iter().copied()).collect();
        Feature { id: self.g.named(name).concat(&ids, 1), moments }
    }

    /// The largest element of windows of 3x3 at every second place.
    pub(super) fn max_pool(&mut self, name: &str, x: &Feature, padding: usize, ceil_mode: bool) -> Feature {
        let padding = Padding::symmetric(&[padding, padding]);
        let pool = Pool { strides: vec![2, 2], padding, ceil_mode, ..Pool::new(&[3, 3]) };
        let id = self.g.named(name).max_pool(x.id, &pool);
        // Of the largest of nine elements that are distributed normally.
        let largest =
            |m: &Moments| Moments { mean: m.mean + 1.485 * m.variance.sqrt(), variance: 0.357 * m.variance };
        Feature { id, moments: x.moments.iter().map(largest).collect() }
    }

    /// The mean of windows of 2x2 side by side.
    pub(super) fn average_pool(&mut self, name: &str, x: &Feature) -> Feature {
        let id = self.g.named(name).average_pool(x.id, &Pool::new(&[2, 2]));
        Feature { id, moments: x.moments.iter().map(|m| mean_of(*m, 4)).collect() }
    }

    /// The mean of each channel, `[1, C, 1, 1]`.
    pub(super) fn global_pool(&mut self, name: &str, x: &Feature) -> Feature {
        let pixels = self.g.shape(x.id).iter().skip(2).product();
        let id = self.g.named(name).global_average_pool(x.id, Format::ChannelsFirst);
        Feature { id, moments: x.moments.iter().map(|m| mean_of(*m, pixels)).collect() }
    }

    /// `[1, C, 1, 1]` as `[1, C]`.
    pub(super) fn flatten(&mut self, name: &str, x: &Feature) -> Feature {
        Feature { id: self.g.named(name).flatten(x.id, 1), moments: x.moments.clone() }
    }

    /// Weights and biases for which squares have mean 1 behind the layer.
    fn balanced(
        &mut self,
        x: &Feature,
        shape: &[usize],
        groups: usize,
        coverage: &[f64],
    ) -> Result<(Tensor, Tensor, Vec<Moments>)> {
        let taps: f64 = coverage.iter().sum();
        let power: f64 = x.moments.iter().map(|m| m.power()).sum();
        let limit = (3.0 * groups as f64 / (power * taps)).sqrt() as f32;
        let mut weight = self.weights.uniform(shape, -limit, limit)?;
        ignore_means(x, &mut weight, groups)?;
        let bias = self.weights.bias(shape[0])?;
        let mut moments = weighted(x, &weight, groups, coverage)?;
        for (m, bias) in moments.iter_mut().zip(bias.values::<f32>()?) {
            m.mean += f64::from(*bias);
        }
        Ok((weight, bias, moments))
    }

    fn add_conv(
        &mut self,
        name: &str,
        x: &Feature,
        weight: Tensor,
        bias: Option<Tensor>,
        kernel: Kernel,
    ) -> ValueId {
        let weight = self.g.constant(&format!("{name}.weight"), weight);
        let bias = bias.map(|bias| self.g.constant(&format!("{name}.bias"), bias));
        let options = Conv2d {
            stride: [kernel.stride; 2],
            padding: Padding::symmetric(&[kernel.padding; 2]),
            groups: kernel.groups,
            ..Conv2d::default()
        };
        self.g.named(name).conv2d(x.id, weight, bias, options)
    }
}

fn conv_shape(x: &Feature, filters: usize, kernel: Kernel) -> [usize; 4] {
    [filters, x.channels() / kernel.groups, kernel.size, kernel.size]
}

/// Of the mean of so many elements. They are not independent in an image: neighbours are alike.
fn mean_of(m: Moments, elements: usize) -> Moments {
    Moments { variance: m.variance / (elements.max(1) as f64).sqrt(), ..m }
}

/// Makes every filter blind to the means of its inputs, at each place of its window by itself. A signal that is
/// stronger than predicted has larger means, too, and normalisation by predicted means would let it grow from
/// layer to layer. Filters over one channel stay as they are.
fn ignore_means(x: &Feature, weight: &mut Tensor, groups: usize) -> Result<()> {
    let shape = weight.shape();
    let (filters, channels) = (shape[0], shape[1]);
    let taps: usize = shape[2..].iter().product();
    if channels == 1 {
        return Ok(());
    }
    let mut dots = vec![0.0; taps];
    for (filter, weights) in weight.values_mut::<f32>()?.chunks_exact_mut(channels * taps).enumerate() {
        let first = filter / (filters / groups) * channels;
        let means = || x.moments[first..first + channels].iter().map(|m| m.mean as f32);
        let square: f32 = means().map(|mean| mean * mean).sum();
        if square == 0.0 {
            continue;
        }
        dots.fill(0.0);
        for (mean, weights) in means().zip(weights.chunks_exact(taps)) {
            for (dot, w) in dots.iter_mut().zip(weights) {
                *dot += mean * w;
            }
        }
        for (mean, weights) in means().zip(weights.chunks_exact_mut(taps)) {
            for (dot, w) in dots.iter().zip(weights) {
                *w -= dot / square * mean;
            }
        }
    }
    Ok(())
}

/// For each place of a window, row-major, the share of windows in which it lies on the image and not on padding.
fn coverage(shape: &[usize], kernel: Kernel) -> Vec<f64> {
    let share = |extent: usize, place: usize| {
        let padded = extent.saturating_add(2 * kernel.padding);
        let windows = padded.saturating_sub(kernel.size) / kernel.stride + 1;
        // The first window that reaches the image, and the first that is beyond it.
        let first = kernel.padding.saturating_sub(place).div_ceil(kernel.stride);
        let end = (extent + kernel.padding).saturating_sub(place).div_ceil(kernel.stride).min(windows);
        end.saturating_sub(first) as f64 / windows as f64
    };
    let [.., height, width] = shape else { return vec![1.0; kernel.size * kernel.size] };
    let places = (0..kernel.size).flat_map(|row| (0..kernel.size).map(move |column| (row, column)));
    places.map(|(row, column)| share(*height, row) * share(*width, column)).collect()
}

/// What is expected behind a convolution or a matrix product with this weight.
fn weighted(x: &Feature, weight: &Tensor, groups: usize, coverage: &[f64]) -> Result<Vec<Moments>> {
    let shape = weight.shape();
    let filters = shape[0];
    // At the border a mean is cut off, which adds to the variance.
    let taps: Vec<[f32; 3]> = coverage.iter().map(|c| [*c, *c, c * (1.0 - c)].map(|c| c as f32)).collect();
    let mut moments = Vec::with_capacity(filters);
    for (filter, weights) in weight.values::<f32>()?.chunks_exact(shape[1] * taps.len()).enumerate() {
        let first = filter / (filters / groups) * shape[1];
        let inputs = &x.moments[first..first + shape[1]];
        let (mut mean, mut variance) = (0.0, 0.0);
        for (m, weights) in inputs.iter().zip(weights.chunks_exact(taps.len())) {
            let (mut sum, mut squares, mut cut) = (0.0, 0.0, 0.0);
            for (w, [c1, c2, c3]) in weights.iter().zip(&taps) {
                sum += w * c1;
                squares += w * w * c2;
                cut += w * w * c3;
            }
            mean += m.mean * f64::from(sum);
            variance += m.variance * f64::from(squares) + m.mean * m.mean * f64::from(cut);
        }
        moments.push(Moments { mean, variance });
    }
    Ok(moments)
}
