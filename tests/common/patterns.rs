//! The patterns of TensorFlow's remapper that make sense on a CPU, as small graphs of separate operations: what
//! fusion tests check and benchmarks measure.

use nestjit::graph::builder::{Conv, Conv2d, Padding};
use nestjit::graph::{Graph, GraphBuilder, PadMode, ValueId};
use nestjit::{DType, Tensor};

/// A graph in which everything is to become one nest.
pub struct Pattern {
    /// What is fused, in the remapper's words.
    pub name: String,
    /// The operations.
    pub graph: Graph,
}

/// A builder, and a source of inputs and constants of a certain size.
struct Parts {
    g: GraphBuilder,
    /// Channels or features.
    c: usize,
    /// Height and width, or rows.
    n: usize,
    count: usize,
}

type Activation = fn(&mut GraphBuilder, ValueId) -> ValueId;

type Product = fn(&mut Parts) -> ValueId;

/// Takes a name, and what builds the pattern.
type Add<'a> = &'a mut dyn FnMut(String, &dyn Fn(&mut Parts) -> ValueId);

/// Activations, those that need several operations written out.
const ACTIVATIONS: [(&str, Activation); 13] = [
    ("Relu", |g, x| g.relu(x)),
    ("Maximum(x, 0)", |g, x| {
        let zero = g.scalar(DType::F32, 0.0);
        g.maximum(x, zero)
    }),
    ("Relu6", |g, x| g.clip(x, Some(0.0), Some(6.0))),
    ("Elu", |g, x| g.elu(x, 1.0)),
    ("LeakyRelu", |g, x| g.leaky_relu(x, 0.1)),
    ("Maximum(x, a*x)", |g, x| {
        let slope = g.scalar(DType::F32, 0.2);
        let y = g.mul(x, slope);
        g.maximum(x, y)
    }),
    ("Tanh", |g, x| g.tanh(x)),
    ("Sigmoid", |g, x| g.sigmoid(x)),
    ("Swish", |g, x| {
        let y = g.sigmoid(x);
        g.mul(x, y)
    }),
    ("HardSwish", |g, x| {
        let (three, six) = (g.scalar(DType::F32, 3.0), g.scalar(DType::F32, 6.0));
        let y = g.add(x, three);
        let y = g.clip(y, Some(0.0), Some(6.0));
        let y = g.mul(x, y);
        g.div(y, six)
    }),
    ("Mish", |g, x| {
        let y = g.softplus(x);
        let y = g.tanh(y);
        g.mul(x, y)
    }),
    ("GeluExact", |g, x| {
        let (root, one, half) =
            (g.scalar(DType::F32, 2f64.sqrt()), g.scalar(DType::F32, 1.0), g.scalar(DType::F32, 0.5));
        let y = g.div(x, root);
        let y = g.erf(y);
        let y = g.add(y, one);
        let y = g.mul(x, y);
        g.mul(y, half)
    }),
    ("GeluApproximate", |g, x| {
        let (cubic, factor) = (g.scalar(DType::F32, 0.044_715), g.scalar(DType::F32, 0.797_884_560_8));
        let (one, half) = (g.scalar(DType::F32, 1.0), g.scalar(DType::F32, 0.5));
        let y = g.mul(x, x);
        let y = g.mul(y, x);
        let y = g.mul(y, cubic);
        let y = g.add(x, y);
        let y = g.mul(y, factor);
        let y = g.tanh(y);
        let y = g.add(y, one);
        let y = g.mul(x, y);
        g.mul(y, half)
    }),
];

/// Products that a bias and an activation may follow, without their bias.
const PRODUCTS: [(&str, Product); 4] = [
    ("Conv2D", |p| p.conv2d(1)),
    ("DepthwiseConv2dNative", |p| p.conv2d(p.c)),
    ("Conv3D", |p| {
        let x = p.input(&[1, 4, 3, p.n, p.n]);
        let w = p.constant(&[p.c, 4, 2, 3, 3]);
        let options = Conv { padding: Padding::symmetric(&[0, 1, 1]), ..Conv::default() };
        p.g.conv(x, w, None, &options)
    }),
    ("MatMul", |p| {
        let x = p.input(&[p.n, p.c]);
        let w = p.constant(&[p.c, 2 * p.c]);
        p.g.matmul(x, w)
    }),
];

/// All patterns, with images of `n` x `n` pixels and `c` channels.
pub fn patterns(n: usize, c: usize) -> Vec<Pattern> {
    let mut all = Vec::new();
    let mut add = |name: String, build: &dyn Fn(&mut Parts) -> ValueId| {
        let mut parts = Parts { g: GraphBuilder::new("pattern"), c, n, count: 0 };
        let y = build(&mut parts);
        parts.g.output("y", y);
        all.push(Pattern { name, graph: parts.g.build().expect("a valid graph") });
    };
    for (product, build) in PRODUCTS {
        for (activation, act) in ACTIVATIONS {
            add(format!("{product} with BiasAdd and {activation}"), &|p| {
                let y = build(p);
                let y = p.bias(y);
                act(&mut p.g, y)
            });
        }
        add(format!("{product} with BiasAdd, Add and Relu"), &|p| {
            let y = build(p);
            let y = p.bias(y);
            let side = p.like(y);
            let y = p.g.add(y, side);
            p.g.relu(y)
        });
        add(format!("{product} with BiasAdd and AddN"), &|p| {
            let y = build(p);
            let y = p.bias(y);
            let (a, b) = (p.like(y), p.like(y));
            let y = p.g.add(y, a);
            p.g.add(b, y)
        });
    }
    for (activation, act) in [ACTIVATIONS[0], ACTIVATIONS[4], ACTIVATIONS[8]] {
        for (product, build) in [PRODUCTS[0], PRODUCTS[1]] {
            add(format!("{product} with FusedBatchNorm and {activation}"), &|p| {
                let y = build(p);
                let y = p.batch_norm(y);
                act(&mut p.g, y)
            });
            add(format!("{product} with FusedBatchNorm, side input and {activation}"), &|p| {
                let y = build(p);
                let y = p.batch_norm(y);
                let side = p.like(y);
                let y = p.g.add(y, side);
                act(&mut p.g, y)
            });
        }
    }
    add("FusedBatchNorm with side input and Relu".into(), &|p| {
        let x = p.input(&[1, p.c, p.n, p.n]);
        let y = p.batch_norm(x);
        let side = p.like(y);
        let y = p.g.add(y, side);
        p.g.relu(y)
    });
    add("Conv2D with Squeeze and BiasAdd".into(), &|p| {
        let x = p.input(&[1, p.c, 1, p.n]);
        let w = p.constant(&[2 * p.c, p.c, 1, 3]);
        let y = p.g.conv2d(x, w, None, Conv2d::default());
        let y = p.g.squeeze(y, &[2]);
        p.bias(y)
    });
    add("Pad with Conv2D".into(), &|p| {
        let x = p.input(&[1, p.c, p.n, p.n]);
        let y = p.g.pad(x, &[0, 0, 1, 1], &[0, 0, 1, 1], PadMode::Constant(0.0));
        let w = p.constant(&[p.c, p.c, 3, 3]);
        let y = p.g.conv2d(y, w, None, Conv2d::default());
        let y = p.bias(y);
        p.g.relu(y)
    });
    add("Pad with Conv3D".into(), &|p| {
        let x = p.input(&[1, 4, 3, p.n, p.n]);
        let y = p.g.pad(x, &[0, 0, 1, 1, 1], &[0, 0, 1, 1, 1], PadMode::Constant(0.0));
        let w = p.constant(&[p.c, 4, 3, 3, 3]);
        let y = p.g.conv(y, w, None, &Conv::default());
        p.bias(y)
    });
    norms(&mut add);
    add("BatchMatMulV2 with Mul and Add".into(), &|p| {
        let (a, b) = (p.input(&[2, 3, p.n, p.c]), p.input(&[2, 3, p.c, p.n]));
        let y = p.g.matmul(a, b);
        let scale = p.g.scalar(DType::F32, 0.125);
        let y = p.g.mul(y, scale);
        let mask = p.input(&[2, 1, p.n, p.n]);
        p.g.add(y, mask)
    });
    all
}

fn norms(add: Add<'_>) {
    add("LayerNorm: Mean, Sub, Square, Mean, Rsqrt, Mul, AddV2".into(), &|p| {
        let x = p.input(&[p.n, p.c]);
        let mean = p.g.reduce_mean(x, &[1], true);
        let d = p.g.sub(x, mean);
        let square = p.g.mul(d, d);
        let y = p.normalize(square, d);
        p.scale_and_shift(y, 1)
    });
    add("LayerNorm: SquaredDifference".into(), &|p| {
        let x = p.input(&[p.n, p.c]);
        let mean = p.g.reduce_mean(x, &[1], true);
        let d = p.g.sub(x, mean);
        let two = p.g.scalar(DType::F32, 2.0);
        let square = p.g.pow(d, two);
        let (scale, shift) = (p.constant(&[p.c]), p.constant(&[p.c]));
        // y = x * a + (shift - mean * a), a = rsqrt(variance + e) * scale
        let r = p.rsqrt_of_mean(square);
        let a = p.g.mul(r, scale);
        let left = p.g.mul(x, a);
        let right = p.g.mul(mean, a);
        let right = p.g.sub(shift, right);
        p.g.add(left, right)
    });
    add("LayerNorm: Reshape, FusedBatchNorm, Mul, AddV2".into(), &|p| {
        let x = p.input(&[p.n, p.c]);
        let y = p.g.reshape(x, &[1, p.n, p.c, 1]);
        let (ones, zeros) = (p.filled(p.n, 1.0), p.filled(p.n, 0.0));
        let y = p.g.instance_norm(y, ones, zeros, 1e-5, Default::default());
        let y = p.g.reshape(y, &[p.n, p.c]);
        p.scale_and_shift(y, 1)
    });
    for (activation, act) in
        [("", None), (" with Relu", Some(ACTIVATIONS[0].1)), (" with LeakyRelu", Some(ACTIVATIONS[4].1))]
    {
        add(format!("InstanceNorm{activation}"), &|p| {
            let x = p.input(&[2, p.c, p.n, p.n]);
            let mean = p.g.reduce_mean(x, &[2, 3], true);
            let d = p.g.sub(x, mean);
            let square = p.g.mul(d, d);
            let variance = p.g.reduce_mean(square, &[2, 3], true);
            let e = p.g.scalar(DType::F32, 1e-5);
            let variance = p.g.add(variance, e);
            let root = p.g.sqrt(variance);
            let y = p.g.div(d, root);
            let scale = p.constant(&[p.c, 1, 1]);
            let y = p.g.mul(y, scale);
            let shift = p.constant(&[p.c, 1, 1]);
            let y = p.g.add(y, shift);
            match act {
                Some(act) => act(&mut p.g, y),
                None => y,
            }
        });
    }
}

impl Parts {
    fn input(&mut self, shape: &[usize]) -> ValueId {
        self.count += 1;
        self.g.input(&format!("x{}", self.count), DType::F32, shape)
    }

    fn like(&mut self, x: ValueId) -> ValueId {
        let shape = self.g.shape(x).to_vec();
        self.input(&shape)
    }

    fn tensor(&mut self, shape: &[usize], value: impl Fn(usize) -> f32) -> ValueId {
        self.count += 1;
        let n: usize = shape.iter().product();
        let values: Vec<f32> = (0..n).map(value).collect();
        self.g.constant(&format!("w{}", self.count), Tensor::new(shape, &values).expect("sizes agree"))
    }

    fn constant(&mut self, shape: &[usize]) -> ValueId {
        let seed = self.count;
        self.tensor(shape, |i| ((i * 7919 + seed * 104_729) % 2003) as f32 / 4006.0 - 0.25)
    }

    fn filled(&mut self, n: usize, value: f32) -> ValueId {
        self.tensor(&[n], |_| value)
    }

    fn conv2d(&mut self, groups: usize) -> ValueId {
        let x = self.input(&[1, self.c, self.n, self.n]);
        let w = self.constant(&[self.c, self.c / groups, 3, 3]);
        let options = Conv2d { padding: Padding::symmetric(&[1, 1]), groups, ..Conv2d::default() };
        self.g.conv2d(x, w, None, options)
    }

    fn bias(&mut self, x: ValueId) -> ValueId {
        let channels = self.g.shape(x)[1];
        let b = self.constant(&[channels]);
        self.g.bias_add(x, b, 1)
    }

    fn batch_norm(&mut self, x: ValueId) -> ValueId {
        let c = self.c;
        let parameters = [
            self.constant(&[c]),
            self.constant(&[c]),
            self.constant(&[c]),
            self.tensor(&[c], |i| 0.5 + (i % 7) as f32 / 7.0),
        ];
        self.g.batch_norm(x, parameters, 1e-5, Default::default())
    }

    /// `1 / sqrt(mean(square) + e)`.
    fn rsqrt_of_mean(&mut self, square: ValueId) -> ValueId {
        let variance = self.g.reduce_mean(square, &[1], true);
        let e = self.g.scalar(DType::F32, 1e-5);
        let variance = self.g.add(variance, e);
        let root = self.g.sqrt(variance);
        self.g.reciprocal(root)
    }

    fn normalize(&mut self, square: ValueId, difference: ValueId) -> ValueId {
        let r = self.rsqrt_of_mean(square);
        self.g.mul(difference, r)
    }

    fn scale_and_shift(&mut self, x: ValueId, axis: usize) -> ValueId {
        let channels = self.g.shape(x)[axis];
        let scale = self.constant(&[channels]);
        let y = self.g.mul(x, scale);
        let shift = self.constant(&[channels]);
        self.g.bias_add(y, shift, axis)
    }
}
