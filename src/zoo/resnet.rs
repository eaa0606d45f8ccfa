//! ResNet, version 1.5: the stride of a bottleneck is in its 3x3 convolution.

use super::net::{Feature, Kernel, Net};
use crate::error::Result;
use crate::graph::Model;

/// What a residual block is made of.
#[derive(Clone, Copy)]
enum Block {
    /// Two 3x3 convolutions.
    Basic,
    /// 1x1, 3x3 and 1x1 convolutions; the last has four times as many filters.
    Bottleneck,
}

/// ResNet-18.
pub(super) fn resnet18(resolution: usize) -> Result<Model> {
    resnet("resnet18", Block::Basic, [2, 2, 2, 2], resolution)
}

/// ResNet-34.
pub(super) fn resnet34(resolution: usize) -> Result<Model> {
    resnet("resnet34", Block::Basic, [3, 4, 6, 3], resolution)
}

/// ResNet-50.
pub(super) fn resnet50(resolution: usize) -> Result<Model> {
    resnet("resnet50", Block::Bottleneck, [3, 4, 6, 3], resolution)
}

fn resnet(name: &str, block: Block, depths: [usize; 4], resolution: usize) -> Result<Model> {
    let mut net = Net::new(name, 100);
    let x = net.image(resolution);
    let x = net.conv("conv1", &x, 64, Kernel::new(7).stride(2))?;
    let x = net.batch_norm("bn1", &x)?;
    let x = net.relu("relu", &x);
    let mut x = net.max_pool("maxpool", &x, 1, false);
    for (stage, depth) in depths.into_iter().enumerate() {
        for i in 0..depth {
            let stride = if stage > 0 && i == 0 { 2 } else { 1 };
            let name = format!("layer{}.{i}", stage + 1);
            x = residual(&mut net, &name, &x, block, 64 << stage, stride)?;
        }
    }
    let x = net.global_pool("avgpool", &x);
    let x = net.flatten("flatten", &x);
    let x = net.linear("fc", &x, 1000)?;
    net.finish(&x)
}

fn residual(
    net: &mut Net,
    name: &str,
    x: &Feature,
    block: Block,
    planes: usize,
    stride: usize,
) -> Result<Feature> {
    let layers: &[(usize, usize, usize)] = match block {
        Block::Basic => &[(planes, 3, stride), (planes, 3, 1)],
        Block::Bottleneck => &[(planes, 1, 1), (planes, 3, stride), (4 * planes, 1, 1)],
    };
    let mut y = x.clone();
    for (i, (filters, size, stride)) in layers.iter().enumerate() {
        if i > 0 {
            y = net.relu(&format!("{name}.relu{i}"), &y);
        }
        let i = i + 1;
        y = net.conv(&format!("{name}.conv{i}"), &y, *filters, Kernel::new(*size).stride(*stride))?;
        let name = format!("{name}.bn{i}");
        y = if i < layers.len() { net.batch_norm(&name, &y)? } else { net.weak_batch_norm(&name, &y)? };
    }
    let shortcut = if stride != 1 || x.channels() != y.channels() {
        let kernel = Kernel::new(1).stride(stride);
        let shortcut = net.conv(&format!("{name}.downsample.0"), x, y.channels(), kernel)?;
        net.batch_norm(&format!("{name}.downsample.1"), &shortcut)?
    } else {
        x.clone()
    };
    let sum = net.add(&format!("{name}.add"), &y, &shortcut);
    Ok(net.relu(&format!("{name}.relu"), &sum))
}
