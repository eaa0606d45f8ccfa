//! DenseNet: every layer of a block reads the results of all layers before it.

use super::net::{Feature, Kernel, Net};
use crate::error::Result;
use crate::graph::Model;

/// Channels that each layer adds.
const GROWTH: usize = 32;

/// DenseNet-121.
pub(super) fn densenet121(resolution: usize) -> Result<Model> {
    const BLOCKS: [usize; 4] = [6, 12, 24, 16];
    let mut net = Net::new("densenet121", 140);
    let x = net.image(resolution);
    let x = net.conv("features.conv0", &x, 64, Kernel::new(7).stride(2))?;
    let x = net.batch_norm("features.norm0", &x)?;
    let x = net.relu("features.relu0", &x);
    let mut x = net.max_pool("features.pool0", &x, 1, false);
    for (i, layers) in BLOCKS.into_iter().enumerate() {
        let number = i + 1;
        x = dense_block(&mut net, &format!("features.denseblock{number}"), x, layers)?;
        if number < BLOCKS.len() {
            x = transition(&mut net, &format!("features.transition{number}"), &x)?;
        }
    }
    let x = net.batch_norm("features.norm5", &x)?;
    let x = net.relu("relu", &x);
    let x = net.global_pool("avgpool", &x);
    let x = net.flatten("flatten", &x);
    let x = net.linear("classifier", &x, 1000)?;
    net.finish(&x)
}

fn dense_block(net: &mut Net, name: &str, x: Feature, layers: usize) -> Result<Feature> {
    let mut parts = vec![x];
    for layer in 1..=layers {
        let name = format!("{name}.denselayer{layer}");
        let x = match parts.as_slice() {
            [only] => only.clone(),
            parts => net.concat(&format!("{name}.concat"), parts),
        };
        let mut y = x;
        for (i, (filters, size)) in [(4 * GROWTH, 1), (GROWTH, 3)].into_iter().enumerate() {
            let i = i + 1;
            y = net.batch_norm(&format!("{name}.norm{i}"), &y)?;
            y = net.relu(&format!("{name}.relu{i}"), &y);
            y = net.conv(&format!("{name}.conv{i}"), &y, filters, Kernel::new(size))?;
        }
        parts.push(y);
    }
    Ok(net.concat(&format!("{name}.concat"), &parts))
}

/// Half the channels at half the resolution.
fn transition(net: &mut Net, name: &str, x: &Feature) -> Result<Feature> {
    let y = net.batch_norm(&format!("{name}.norm"), x)?;
    let y = net.relu(&format!("{name}.relu"), &y);
    let y = net.conv(&format!("{name}.conv"), &y, x.channels() / 2, Kernel::new(1))?;
    Ok(net.average_pool(&format!("{name}.pool"), &y))
}
