//! Blocks of known networks in which tensors are split, joined, shuffled and enlarged: none of that is a copy.
//!
//! `networks.nest` holds the nests; `NESTJIT_BLESS=1` rewrites it.

use std::fmt::Write as _;

use nestjit::graph::ValueId;
use nestjit::graph::builder::{Conv2d, Padding, Pool};

use crate::harness::{Fused, Net, golden};

/// A convolution, batch normalisation and SiLU.
fn layer(net: &mut Net, x: ValueId, filters: usize, size: usize) -> ValueId {
    let channels = net.g.shape(x)[1];
    let w = net.constant(&[filters, channels, size, size]);
    let options = Conv2d { padding: Padding::symmetric(&[size / 2; 2]), ..Conv2d::default() };
    let t = net.g.conv2d(x, w, None, options);
    let t = net.batch_norm(t, filters);
    let s = net.g.sigmoid(t);
    net.g.mul(t, s)
}

fn grouped(net: &mut Net, x: ValueId, groups: usize, size: usize) -> ValueId {
    let channels = net.g.shape(x)[1];
    let w = net.constant(&[channels, channels / groups, size, size]);
    let options = Conv2d { padding: Padding::symmetric(&[size / 2; 2]), groups, ..Conv2d::default() };
    let t = net.g.conv2d(x, w, None, options);
    net.batch_norm(t, channels)
}

fn shuffle(net: &mut Net, x: ValueId, groups: usize) -> ValueId {
    let [n, c, h, w] = net.g.shape(x)[..] else { panic!("an image") };
    let t = net.g.reshape(x, &[n, groups, c / groups, h, w]);
    let t = net.g.transpose(t, &[0, 2, 1, 3, 4]);
    net.g.reshape(t, &[n, c, h, w])
}

/// Every pixel four times: `Resize` with the nearest neighbours, a dimension after the other.
fn upsample(net: &mut Net, x: ValueId) -> ValueId {
    let [n, c, h, w] = net.g.shape(x)[..] else { panic!("an image") };
    let t = net.g.unsqueeze(x, &[3]);
    let t = net.g.expand(t, &[n, c, h, 2, w]);
    let t = net.g.reshape(t, &[n, c, 2 * h, w]);
    let t = net.g.unsqueeze(t, &[4]);
    let t = net.g.expand(t, &[n, c, 2 * h, w, 2]);
    net.g.reshape(t, &[n, c, 2 * h, 2 * w])
}

/// ShuffleNet: two grouped convolutions with a shuffle of channels and a depthwise convolution between them.
fn shufflenet() -> Fused {
    let mut net = Net::new();
    let x = net.input(&[1, 12, 6, 6]);
    let t = grouped(&mut net, x, 3, 1);
    let t = net.g.relu(t);
    let t = shuffle(&mut net, t, 3);
    let t = grouped(&mut net, t, 12, 3);
    let t = grouped(&mut net, t, 3, 1);
    let t = net.g.add(t, x);
    let y = net.g.relu(t);
    net.fuse(&[y])
}

/// ShuffleNet V2: half of the channels go through a branch, then all are shuffled.
fn shufflenet_v2() -> Fused {
    let mut net = Net::new();
    let x = net.input(&[1, 16, 6, 6]);
    let halves = net.g.split(x, 1, &[8, 8]);
    let t = layer(&mut net, halves[1], 8, 1);
    let t = grouped(&mut net, t, 8, 3);
    let t = layer(&mut net, t, 8, 1);
    let t = net.g.concat(&[halves[0], t], 1);
    let y = shuffle(&mut net, t, 2);
    net.fuse(&[y])
}

/// YOLO: a small feature map, enlarged and joined with a large one, goes into a convolution.
fn neck() -> Fused {
    let mut net = Net::new();
    let (small, large) = (net.input(&[1, 16, 4, 4]), net.input(&[1, 8, 8, 8]));
    let small = layer(&mut net, small, 8, 1);
    let large = layer(&mut net, large, 8, 3);
    let t = upsample(&mut net, small);
    let t = net.g.concat(&[t, large], 1);
    let y = layer(&mut net, t, 12, 1);
    net.fuse(&[y])
}

/// YOLO's SPPF: three poolings in a row, joined with what they began with.
fn sppf() -> Fused {
    let mut net = Net::new();
    let x = net.input(&[1, 16, 20, 20]);
    let mut t = layer(&mut net, x, 8, 1);
    let mut parts = vec![t];
    for _ in 0..3 {
        let pool = Pool { padding: Padding::symmetric(&[2, 2]), ..Pool::new(&[5, 5]) };
        t = net.g.max_pool(t, &Pool { strides: vec![1, 1], ..pool });
        parts.push(t);
    }
    let t = net.g.concat(&parts, 1);
    let y = layer(&mut net, t, 16, 1);
    net.fuse(&[y])
}

/// YOLO's C2f: the halves of a convolution's channels, and what blocks make of the second, joined again.
fn c2f() -> Fused {
    let mut net = Net::new();
    let x = net.input(&[1, 16, 6, 6]);
    let t = layer(&mut net, x, 16, 1);
    let mut parts = net.g.split(t, 1, &[8, 8]);
    for i in 0..2 {
        let t = layer(&mut net, parts[1 + i], 8, 3);
        let t = layer(&mut net, t, 8, 3);
        parts.push(net.g.add(t, parts[1 + i]));
    }
    let t = net.g.concat(&parts, 1);
    let y = layer(&mut net, t, 16, 1);
    net.fuse(&[y])
}

/// SqueezeNet's fire module.
fn fire() -> Fused {
    let mut net = Net::new();
    let x = net.input(&[1, 16, 6, 6]);
    let t = layer(&mut net, x, 8, 1);
    let (a, b) = (layer(&mut net, t, 12, 1), layer(&mut net, t, 12, 3));
    let t = net.g.concat(&[a, b], 1);
    let y = layer(&mut net, t, 8, 1);
    net.fuse(&[y])
}

/// DenseNet: all that came before, normalised for each convolution anew.
fn densenet() -> Fused {
    let mut net = Net::new();
    let x = net.input(&[1, 3, 6, 6]);
    let mut features = vec![layer(&mut net, x, 8, 3)];
    for i in 0..3 {
        let channels = 8 + 4 * i;
        let t = net.g.concat(&features, 1);
        let t = net.batch_norm(t, channels);
        let t = net.g.relu(t);
        let w = net.constant(&[16, channels, 1, 1]);
        let t = net.g.conv2d(t, w, None, Conv2d::default());
        let t = net.batch_norm(t, 16);
        let t = net.g.relu(t);
        let w = net.constant(&[4, 16, 3, 3]);
        let options = Conv2d { padding: Padding::symmetric(&[1, 1]), ..Conv2d::default() };
        features.push(net.g.conv2d(t, w, None, options));
    }
    let t = net.g.concat(&features, 1);
    let t = net.batch_norm(t, 20);
    let y = net.g.relu(t);
    net.fuse(&[y])
}

/// The head of MobileNetV2: the means of 128 channels follow their convolution in blocks of columns.
fn head() -> Fused {
    let mut net = Net::new();
    let x = net.input(&[1, 16, 7, 7]);
    let w = net.constant(&[512, 16, 1, 1]);
    let t = net.g.conv2d(x, w, None, Conv2d::default());
    let t = net.batch_norm(t, 512);
    let t = net.g.clip(t, Some(0.0), Some(6.0));
    let y = net.g.global_average_pool(t, Default::default());
    net.fuse(&[y])
}

#[test]
fn blocks_have_a_nest_per_convolution_or_pooling() {
    type Build = fn() -> Fused;
    let blocks: [(&str, Build, usize); 8] = [
        ("ShuffleNet", shufflenet, 3),
        ("ShuffleNet V2", shufflenet_v2, 3),
        ("YOLO neck", neck, 3),
        ("SPPF", sppf, 3),
        ("C2f", c2f, 6),
        ("fire", fire, 4),
        ("DenseNet", densenet, 7),
        ("head", head, 1),
    ];
    let mut golden_text = String::new();
    let mut others = Vec::new();
    for (name, build, nests) in blocks {
        let fused = build();
        fused.same_bits();
        fused.compiled_agrees();
        if fused.nests() != nests {
            others.push(format!("{name}: {} nests\n{}{:?}", fused.nests(), fused.text(), fused.refusals()));
        }
        let program = &fused.after.program;
        for nest in &program.nests {
            let mut computes = false;
            nestjit::ir::visit::walk_stmts(&nest.body, &mut |s| {
                computes |= matches!(s, nestjit::ir::Stmt::Reduce(_));
            });
            let copies = format!("{name}: @{} only moves elements\n{}", nest.name, fused.text());
            if !computes {
                others.push(copies);
            }
        }
        writeln!(golden_text, "// {name}\n{}", fused.text()).expect("strings can be written to");
    }
    assert!(others.is_empty(), "{}", others.join("\n\n"));
    golden("networks.nest", &golden_text);
}
