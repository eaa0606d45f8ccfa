//! EfficientNet: one network in eight sizes. SiLU is spelled out as Sigmoid and Mul, as PyTorch exports it.

use super::net::{Feature, Kernel, Net};
use crate::error::Result;
use crate::graph::Model;
use crate::graph::builder::Activation;

/// How a variant is scaled.
struct Scaling {
    width: f64,
    depth: f64,
    /// Of the batch normalisations.
    epsilon: f32,
}

/// B0 to B7; the resolutions that go with them are the paper's.
const SCALINGS: [Scaling; 8] = [
    Scaling { width: 1.0, depth: 1.0, epsilon: 1e-5 },
    Scaling { width: 1.0, depth: 1.1, epsilon: 1e-5 },
    Scaling { width: 1.1, depth: 1.2, epsilon: 1e-5 },
    Scaling { width: 1.2, depth: 1.4, epsilon: 1e-5 },
    Scaling { width: 1.4, depth: 1.8, epsilon: 1e-5 },
    Scaling { width: 1.6, depth: 2.2, epsilon: 1e-3 },
    Scaling { width: 1.8, depth: 2.6, epsilon: 1e-3 },
    Scaling { width: 2.0, depth: 3.1, epsilon: 1e-3 },
];

impl Scaling {
    /// A multiple of 8, and not more than a tenth below the scaled width.
    fn channels(&self, channels: usize) -> usize {
        let scaled = channels as f64 * self.width;
        let rounded = ((scaled + 4.0) as usize / 8 * 8).max(8);
        if (rounded as f64) < 0.9 * scaled { rounded + 8 } else { rounded }
    }

    fn blocks(&self, blocks: usize) -> usize {
        (blocks as f64 * self.depth).ceil() as usize
    }
}

/// A block's proportions.
struct Block {
    expansion: usize,
    kernel: usize,
    stride: usize,
    channels: usize,
    /// How many blocks the stage has.
    blocks: usize,
}

/// EfficientNet-B0 to B7.
pub(super) fn efficientnet(variant: usize, resolution: usize) -> Result<Model> {
    // Expansion, kernel, stride of the first block, channels, blocks.
    const STAGES: [(usize, usize, usize, usize, usize); 7] = [
        (1, 3, 1, 16, 1),
        (6, 3, 2, 24, 2),
        (6, 5, 2, 40, 2),
        (6, 3, 2, 80, 3),
        (6, 5, 1, 112, 3),
        (6, 5, 2, 192, 4),
        (6, 3, 1, 320, 1),
    ];
    let scaling = &SCALINGS[variant];
    let mut net = Net::new(&format!("efficientnet_b{variant}"), 120).epsilon(scaling.epsilon);
    let x = net.image(resolution);
    let mut x = layer(&mut net, "features.0", &x, scaling.channels(32), Kernel::new(3).stride(2))?;
    for (stage, (expansion, kernel, first_stride, channels, blocks)) in STAGES.into_iter().enumerate() {
        let blocks = scaling.blocks(blocks);
        for i in 0..blocks {
            let stride = if i == 0 { first_stride } else { 1 };
            let block = Block { expansion, kernel, stride, channels: scaling.channels(channels), blocks };
            x = inverted_residual(&mut net, &format!("features.{}.{i}", stage + 1), &x, &block)?;
        }
    }
    let last = 4 * x.channels();
    let x = layer(&mut net, "features.8", &x, last, Kernel::new(1))?;
    let x = net.global_pool("avgpool", &x);
    let x = net.flatten("flatten", &x);
    let x = net.linear("classifier.1", &x, 1000)?;
    net.finish(&x)
}

/// Convolution, normalisation, SiLU.
fn layer(net: &mut Net, name: &str, x: &Feature, filters: usize, kernel: Kernel) -> Result<Feature> {
    let y = net.conv(&format!("{name}.0"), x, filters, kernel)?;
    let y = net.weak_batch_norm(&format!("{name}.1"), &y)?;
    Ok(net.activation(&format!("{name}.2"), Activation::Swish, &y))
}

/// An inverted residual with squeeze-excite.
fn inverted_residual(net: &mut Net, name: &str, x: &Feature, block: &Block) -> Result<Feature> {
    let hidden = x.channels() * block.expansion;
    let (mut y, mut i) = (x.clone(), 0);
    if block.expansion != 1 {
        y = layer(net, &format!("{name}.block.0"), &y, hidden, Kernel::new(1))?;
        i = 1;
    }
    let depthwise = Kernel::new(block.kernel).stride(block.stride).groups(hidden);
    y = layer(net, &format!("{name}.block.{i}"), &y, hidden, depthwise)?;
    y = squeeze_excite(net, &format!("{name}.block.{}", i + 1), &y, (x.channels() / 4).max(1))?;
    let name_out = format!("{name}.block.{}", i + 2);
    y = net.conv(&format!("{name_out}.0"), &y, block.channels, Kernel::new(1))?;
    if block.stride != 1 || x.channels() != block.channels {
        return net.batch_norm(&format!("{name_out}.1"), &y);
    }
    y = net.branch_batch_norm(&format!("{name_out}.1"), &y, block.blocks)?;
    Ok(net.add(&format!("{name}.add"), &y, x))
}

/// A factor for each channel, computed from the means of all of them.
fn squeeze_excite(net: &mut Net, name: &str, x: &Feature, squeezed: usize) -> Result<Feature> {
    let y = net.global_pool(&format!("{name}.avgpool"), x);
    let y = net.conv_bias(&format!("{name}.fc1"), &y, squeezed, Kernel::new(1))?;
    let y = net.activation(&format!("{name}.activation"), Activation::Swish, &y);
    let y = net.conv_bias(&format!("{name}.fc2"), &y, x.channels(), Kernel::new(1))?;
    let y = net.activation(&format!("{name}.scale_activation"), Activation::Sigmoid, &y);
    Ok(net.mul(&format!("{name}.mul"), &y, x))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The figures that torchvision's models have.
    #[test]
    fn widths_and_depths_are_scaled_as_in_the_paper() {
        let widths =
            |variant: usize| [32, 16, 24, 40, 80, 112, 192, 320].map(|c| SCALINGS[variant].channels(c));
        assert_eq!(widths(0), [32, 16, 24, 40, 80, 112, 192, 320]);
        assert_eq!(widths(2), [32, 16, 24, 48, 88, 120, 208, 352]);
        assert_eq!(widths(5), [48, 24, 40, 64, 128, 176, 304, 512]);
        assert_eq!(widths(7), [64, 32, 48, 80, 160, 224, 384, 640]);
        assert_eq!([1, 2, 3, 4].map(|n| SCALINGS[1].blocks(n)), [2, 3, 4, 5]);
        assert_eq!([1, 2, 3, 4].map(|n| SCALINGS[7].blocks(n)), [4, 7, 10, 13]);
    }
}
