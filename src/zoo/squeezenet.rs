//! SqueezeNet 1.1: no normalisation, and two kinds of filters side by side in every module.

use super::net::{Feature, Kernel, Net};
use crate::error::Result;
use crate::graph::Model;

/// SqueezeNet 1.1.
pub(super) fn squeezenet1_1(resolution: usize) -> Result<Model> {
    // The place in the list of layers, the squeezed channels, and the filters of each kind.
    const FIRES: [(usize, usize, usize); 8] = [
        (3, 16, 64),
        (4, 16, 64),
        (6, 32, 128),
        (7, 32, 128),
        (9, 48, 192),
        (10, 48, 192),
        (11, 64, 256),
        (12, 64, 256),
    ];
    let mut net = Net::new("squeezenet1_1", 130);
    let x = net.image(resolution);
    let x = net.conv_bias("features.0", &x, 64, Kernel::new(3).stride(2).valid())?;
    let mut x = net.relu("features.1", &x);
    for (place, squeezed, filters) in FIRES {
        if matches!(place, 3 | 6 | 9) {
            x = net.max_pool(&format!("features.{}", place - 1), &x, 0, true);
        }
        x = fire(&mut net, &format!("features.{place}"), &x, squeezed, filters)?;
    }
    let x = net.conv_bias("classifier.1", &x, 1000, Kernel::new(1))?;
    let x = net.relu("classifier.2", &x);
    let x = net.global_pool("classifier.3", &x);
    let x = net.flatten("flatten", &x);
    net.finish(&x)
}

/// Squeezed by a 1x1 convolution, then expanded by 1x1 and 3x3 filters.
fn fire(net: &mut Net, name: &str, x: &Feature, squeezed: usize, filters: usize) -> Result<Feature> {
    let x = net.conv_bias(&format!("{name}.squeeze"), x, squeezed, Kernel::new(1))?;
    let x = net.relu(&format!("{name}.squeeze_activation"), &x);
    let mut parts = Vec::new();
    for size in [1, 3] {
        let y = net.conv_bias(&format!("{name}.expand{size}x{size}"), &x, filters, Kernel::new(size))?;
        parts.push(net.relu(&format!("{name}.expand{size}x{size}_activation"), &y));
    }
    Ok(net.concat(&format!("{name}.concat"), &parts))
}
