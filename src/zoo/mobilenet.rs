//! MobileNetV2: inverted residuals.

use super::net::{Feature, Kernel, Net};
use crate::error::Result;
use crate::graph::Model;
use crate::graph::builder::Activation;

/// MobileNetV2 of width 1.
pub(super) fn mobilenet_v2(resolution: usize) -> Result<Model> {
    // Expansion, channels, blocks, stride of the first.
    const STAGES: [(usize, usize, usize, usize); 7] = [
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ];
    let mut net = Net::new("mobilenet_v2", 110);
    let x = net.image(resolution);
    let mut x = layer(&mut net, "features.0", &x, 32, Kernel::new(3).stride(2))?;
    let mut index = 1;
    for (expansion, channels, blocks, first_stride) in STAGES {
        for i in 0..blocks {
            let stride = if i == 0 { first_stride } else { 1 };
            x = inverted_residual(&mut net, &format!("features.{index}"), &x, expansion, channels, stride)?;
            index += 1;
        }
    }
    let x = layer(&mut net, &format!("features.{index}"), &x, 1280, Kernel::new(1))?;
    let x = net.global_pool("avgpool", &x);
    let x = net.flatten("flatten", &x);
    let x = net.linear("classifier.1", &x, 1000)?;
    net.finish(&x)
}

/// Convolution, normalisation, ReLU6.
fn layer(net: &mut Net, name: &str, x: &Feature, filters: usize, kernel: Kernel) -> Result<Feature> {
    let y = net.conv(&format!("{name}.0"), x, filters, kernel)?;
    let y = net.batch_norm(&format!("{name}.1"), &y)?;
    Ok(net.activation(&format!("{name}.2"), Activation::Relu6, &y))
}

/// Widened by a 1x1 convolution, filtered channel by channel, narrowed again; no activation at the end.
fn inverted_residual(
    net: &mut Net,
    name: &str,
    x: &Feature,
    expansion: usize,
    channels: usize,
    stride: usize,
) -> Result<Feature> {
    let hidden = x.channels() * expansion;
    let (mut y, mut i) = (x.clone(), 0);
    if expansion != 1 {
        y = layer(net, &format!("{name}.conv.0"), &y, hidden, Kernel::new(1))?;
        i = 1;
    }
    let depthwise = Kernel::new(3).stride(stride).groups(hidden);
    y = layer(net, &format!("{name}.conv.{i}"), &y, hidden, depthwise)?;
    y = net.conv(&format!("{name}.conv.{}", i + 1), &y, channels, Kernel::new(1))?;
    let last = format!("{name}.conv.{}", i + 2);
    if stride != 1 || x.channels() != channels {
        return net.batch_norm(&last, &y);
    }
    y = net.weak_batch_norm(&last, &y)?;
    Ok(net.add(&format!("{name}.add"), x, &y))
}
