//! Inverted residuals (MobileNetV2, EfficientNet) of any size: what tests of row rings check and benchmarks measure.

use nestjit::graph::builder::{Conv2d, Padding, Pool};
use nestjit::graph::{Format, Graph, GraphBuilder, ValueId, Weights};
use nestjit::{DType, Tensor};

/// A block that widens an image's channels, looks at windows of each, and makes few of them again.
#[derive(Clone, Copy, Debug)]
pub struct Block {
    pub batch: usize,
    pub size: (usize, usize),
    /// Channels that go in, lie between, and come out.
    pub channels: [usize; 3],
    pub kernel: usize,
    pub stride: usize,
    pub window: Window,
}

/// What becomes of the wide tensor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Window {
    /// A depthwise convolution and a product; the input is added if the shapes agree.
    Project,
    /// The same with squeeze-and-excite between the two.
    Squeeze,
    /// The largest of each window.
    Pool,
}

impl Block {
    /// The block as separate operations.
    pub fn graph(&self) -> Graph {
        let Block { batch, size: (h, w), channels: [from, hidden, to], kernel, stride, window } = *self;
        let mut g = GraphBuilder::new("block");
        let mut seed = 0;
        let mut constant = |g: &mut GraphBuilder, shape: &[usize], scale: f32| -> ValueId {
            seed += 1;
            let tensor = Weights::new(seed).uniform(shape, -scale, scale).expect("it is small");
            g.constant(&format!("w{seed}"), tensor)
        };
        let x = g.input("x", DType::F32, &[batch, from, h, w]);
        let (u, s) = (constant(&mut g, &[hidden, from, 1, 1], 0.3), constant(&mut g, &[hidden], 0.5));
        let t = g.conv2d(x, u, Some(s), Conv2d::default());
        let t = g.clip(t, Some(0.0), Some(6.0));
        let padding = Padding::symmetric(&[kernel / 2; 2]);
        let y = if window == Window::Pool {
            let strides = vec![stride; 2];
            g.max_pool(t, &Pool { padding, strides, ..Pool::new(&[kernel; 2]) })
        } else {
            let (v, b) =
                (constant(&mut g, &[hidden, 1, kernel, kernel], 0.3), constant(&mut g, &[hidden], 0.5));
            let options = Conv2d { stride: [stride; 2], padding, groups: hidden, ..Conv2d::default() };
            let t = g.conv2d(t, v, Some(b), options);
            let mut t = g.clip(t, Some(0.0), Some(6.0));
            if window == Window::Squeeze {
                let few = hidden.div_ceil(8);
                let pooled = g.global_average_pool(t, Format::ChannelsFirst);
                let (p, q) = (
                    constant(&mut g, &[few, hidden, 1, 1], 0.3),
                    constant(&mut g, &[hidden, few, 1, 1], 0.3),
                );
                let factor = g.conv2d(pooled, p, None, Conv2d::default());
                let factor = g.relu(factor);
                let factor = g.conv2d(factor, q, None, Conv2d::default());
                let factor = g.sigmoid(factor);
                t = g.mul(t, factor);
            }
            let (z, c) = (constant(&mut g, &[to, hidden, 1, 1], 0.3), constant(&mut g, &[to], 0.5));
            let y = g.conv2d(t, z, Some(c), Conv2d::default());
            if stride == 1 && from == to { g.add(y, x) } else { y }
        };
        g.output("y", y);
        g.build().expect("the block is valid")
    }

    /// An input.
    pub fn input(&self) -> Tensor {
        let (h, w) = self.size;
        Weights::new(99).uniform(&[self.batch, self.channels[0], h, w], -1.0, 1.0).expect("it is small")
    }
}
