//! Graphs from random numbers. Floats never decide anything, so that rounding cannot flip a result: truth values and
//! integers come from integers, and where floats are compared, both sides meet at the boundary.

use nestjit::graph::builder::{Conv2d, Padding, Pool};
use nestjit::graph::{Binary, Format, Graph, PadMode, Reduction, Unary, ValueId};
use nestjit::{DType, GraphBuilder, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Extents around the widths of vectors and tiles.
const EXTENTS: [usize; 12] = [1, 2, 3, 4, 5, 7, 8, 9, 13, 16, 17, 33];
/// Values larger than this are not used any further.
const MAX_ELEMENTS: usize = 20_000;
/// The same for graphs of images, large enough that minimal filtering, rings of rows and several threads pay.
const MAX_IMAGE_ELEMENTS: usize = 60_000;
const IMAGE_CHANNELS: [usize; 5] = [16, 17, 24, 32, 33];
const INTEGERS: [DType; 5] = [DType::I64, DType::I32, DType::U8, DType::I8, DType::I16];

/// Makes a graph from random choices; the same seed makes the same one, and fewer steps a part of it.
struct Maker {
    rng: ChaCha8Rng,
    b: GraphBuilder,
    /// `f32` values, and whether anything reads them.
    values: Vec<(ValueId, bool)>,
    /// Integers and truth values, likewise.
    exact: Vec<(ValueId, bool)>,
    /// Whether most operations are those of networks on images.
    images: bool,
}

impl Maker {
    fn below(&mut self, n: usize) -> usize {
        self.rng.next_u32() as usize % n
    }

    fn extent(&mut self) -> usize {
        EXTENTS[self.below(EXTENTS.len())]
    }

    fn constant(&mut self, shape: &[usize]) -> ValueId {
        let seed = self.rng.next_u64();
        self.b.constant("c", Tensor::random(DType::F32, shape, seed).unwrap())
    }

    fn pick(&mut self) -> ValueId {
        // Later values more often, so that chains get long.
        let n = self.values.len();
        let (a, b) = (self.below(n), self.below(n));
        let at = a.max(b);
        self.values[at].1 = true;
        self.values[at].0
    }

    /// A shape that broadcasts to `shape`.
    fn broadcastable(&mut self, shape: &[usize]) -> Vec<usize> {
        let skip = self.below(shape.len() + 1);
        let mut small = shape[skip..].to_vec();
        for extent in &mut small {
            if self.below(3) == 0 {
                *extent = 1;
            }
        }
        small
    }

    /// Adds an operation and returns its result, if one could be made.
    fn step(&mut self) -> Option<ValueId> {
        use Unary::*;
        let x = self.pick();
        let shape = self.b.shape(x).to_vec();
        let rank = shape.len();
        let axis = if rank > 0 { self.below(rank) } else { 0 };
        let images = [4, 7, 11, 11, 11, 13, 17, 25];
        let choice =
            if self.images && self.below(4) > 0 { images[self.below(images.len())] } else { self.below(28) };
        Some(match choice {
            0..=3 => {
                let functions =
                    [Relu, Tanh, Sigmoid, Silu, GeluErf, GeluTanh, Neg, Abs, HardSwish, Softsign, Mish, Erf];
                let function = functions[self.below(functions.len())];
                self.b.unary(function, x)
            }
            4..=6 => {
                let small = self.broadcastable(&shape);
                let other = self.constant(&small);
                let functions = [Binary::Add, Binary::Sub, Binary::Mul, Binary::Max, Binary::Min];
                let function = functions[self.below(functions.len())];
                if self.below(2) == 0 {
                    self.b.binary(function, x, other)
                } else {
                    self.b.binary(function, other, x)
                }
            }
            7..=8 => {
                let other = self.pick();
                if self.b.shape(other) != shape {
                    return None;
                }
                let functions = [Binary::Add, Binary::Mul, Binary::Max];
                let function = functions[self.below(functions.len())];
                self.b.binary(function, x, other)
            }
            9..=10 if rank >= 1 => {
                let n = self.extent();
                let scale = self.b.scalar(DType::F32, 1.0 / (shape[rank - 1] as f64).sqrt());
                let w = self.constant(&[shape[rank - 1], n]);
                let w = self.b.mul(w, scale);
                self.b.matmul(x, w)
            }
            11..=12 if rank == 4 => self.conv(x, &shape)?,
            13 if rank >= 2 => {
                let format = if self.below(2) == 0 { Format::ChannelsFirst } else { Format::ChannelsLast };
                let c = shape[format.channel_axis(rank)];
                let [scale, bias, mean] = [0; 3].map(|_| self.constant(&[c]));
                let variance = self.b.constant("variance", Tensor::new(&[c], &vec![0.5f32; c]).unwrap());
                self.b.batch_norm(x, [scale, bias, mean, variance], 1e-3, format)
            }
            14 if rank >= 1 => self.b.softmax(x, axis),
            15 if rank >= 1 => {
                let scale = self.constant(&shape[axis..]);
                let bias = (self.below(2) == 0).then(|| self.constant(&shape[axis..]));
                self.b.layer_norm(x, scale, bias, axis, 1e-2)
            }
            16 if rank >= 1 => {
                let axes: Vec<usize> = (0..rank).filter(|_| self.rng.next_u32().is_multiple_of(2)).collect();
                let ops =
                    [Reduction::Mean, Reduction::Max, Reduction::Min, Reduction::L2, Reduction::LogSumExp];
                let (op, keep) = (ops[self.below(ops.len())], self.below(2) == 0);
                self.b.reduce(op, x, &axes, keep)
            }
            17 if rank == 4 => {
                let mut pool = Pool::new(&[1 + self.below(3), 1 + self.below(3)]);
                pool.strides = vec![1 + self.below(2); 2];
                pool.padding = if self.below(2) == 0 { Padding::Same } else { Padding::Valid };
                if pool.padding == Padding::Valid && (shape[2] < pool.kernel[0] || shape[3] < pool.kernel[1])
                {
                    return None;
                }
                if self.below(2) == 0 { self.b.max_pool(x, &pool) } else { self.b.average_pool(x, &pool) }
            }
            18 => {
                let mut perm: Vec<usize> = (0..rank).collect();
                for i in (1..rank).rev() {
                    perm.swap(i, self.below(i + 1));
                }
                self.b.transpose(x, &perm)
            }
            19 if rank >= 1 => self.reshape(x, &shape, axis),
            20 if rank >= 1 => {
                let other = self.pick();
                let fits = self.b.shape(other).len() == rank
                    && (0..rank).all(|d| d == axis || self.b.shape(other)[d] == shape[d]);
                self.b.concat(&[x, if fits { other } else { x }], axis)
            }
            21 if rank >= 1 => {
                let mut starts = vec![0; rank];
                let mut extents = shape.clone();
                let mut steps = vec![1; rank];
                starts[axis] = self.below(shape[axis]);
                extents[axis] = 1 + self.below(shape[axis] - starts[axis]);
                if self.below(3) == 0 {
                    (starts[axis], extents[axis], steps[axis]) = (shape[axis] - 1, shape[axis], -1);
                }
                let y = self.b.slice(x, &starts, &extents, &steps);
                let mut begin = vec![0; rank];
                begin[axis] = self.below(3) as i64;
                self.b.pad(y, &begin, &vec![1; rank], PadMode::Constant(0.5))
            }
            22 => return self.exact_step(),
            23 => {
                // Equal at the boundary, so that it does not matter on which side of it a value comes to lie.
                let bound = self.b.scalar(DType::F32, 0.25);
                let (above, over) = (self.b.greater(x, bound), self.b.sub(x, bound));
                if self.below(2) == 0 {
                    self.b.select(above, x, bound)
                } else {
                    let factor = self.b.cast(above, DType::F32);
                    self.b.mul(factor, over)
                }
            }
            24 => {
                let mask = self.exact_of(&shape)?;
                let zero = self.b.scalar_like(mask, 0.0);
                let mask = self.b.not_equal(mask, zero);
                let other = self.constant(&[]);
                self.b.select(mask, x, other)
            }
            25..=26 if rank >= 1 => self.gather(x, &shape, axis),
            27 => {
                let y = self.exact_of(&shape)?;
                let mut y = self.small(y);
                if self.below(2) == 0 {
                    // Certain numbers are rounded to the same halves in any code.
                    let half = [DType::F16, DType::BF16][self.below(2)];
                    y = self.b.cast(y, half);
                    let factor = self.b.scalar(half, 0.37);
                    let product = self.b.mul(y, factor);
                    y = self.b.add(product, y);
                }
                let y = self.b.cast(y, DType::F32);
                self.b.add(x, y)
            }
            _ => return None,
        })
    }

    /// An integer or truth value of this shape that exists, if there is one.
    fn exact_of(&mut self, shape: &[usize]) -> Option<ValueId> {
        let fitting: Vec<usize> =
            (0..self.exact.len()).filter(|i| self.b.shape(self.exact[*i].0) == shape).collect();
        let at = *fitting.get(self.below(fitting.len().max(1)))?;
        self.exact[at].1 = true;
        Some(self.exact[at].0)
    }

    /// An integer as one of few, for indices and floats; numbers for truth values.
    fn small(&mut self, x: ValueId) -> ValueId {
        let x = self.b.cast(x, DType::I64);
        let (low, high) = (self.b.scalar(DType::I64, -2.0), self.b.scalar(DType::I64, 5.0));
        let x = self.b.maximum(x, low);
        self.b.minimum(x, high)
    }

    /// Elements of `x` at indices that are an input, computed, or the place of the largest element.
    fn gather(&mut self, x: ValueId, shape: &[usize], axis: usize) -> ValueId {
        let last = self.b.scalar(DType::I64, shape[axis] as f64 - 1.0);
        let zero = self.b.scalar(DType::I64, 0.0);
        let index = match (self.below(3), self.exact.len()) {
            (0, _) => {
                let largest = self.b.reduce_max(x, &[axis], false);
                let count = self.b.shape(largest).iter().product::<usize>();
                let flat = self.b.reshape(largest, &[count]);
                let first = self.b.slice_axis(flat, 0, 0, 1);
                let bound = self.b.scalar(DType::F32, 1e6);
                let low = self.b.less(first, bound);
                self.b.cast(low, DType::I64)
            }
            (_, 0) => self.b.constant("index", Tensor::new(&[2], &[0i64, shape[axis] as i64 - 1]).unwrap()),
            (_, n) => {
                let at = self.below(n);
                self.exact[at].1 = true;
                let value = self.exact[at].0;
                let flat = self.b.shape(value).iter().product();
                let value = self.b.reshape(value, &[flat]);
                let few = 1 + self.below(flat.min(4));
                let value = self.b.slice_axis(value, 0, 0, few);
                let index = self.small(value);
                if self.below(3) == 0 {
                    let flat = self.b.slice_axis(index, 0, 0, 1);
                    self.b.reshape(flat, &[])
                } else {
                    index
                }
            }
        };
        let index = self.b.maximum(index, zero);
        let index = self.b.minimum(index, last);
        self.b.gather(x, index, axis)
    }

    /// Adds an operation on integers or truth values; its result is kept, but is no float.
    fn exact_step(&mut self) -> Option<ValueId> {
        let n = self.exact.len();
        let at = self.below(n.max(1));
        let x = self.exact.get_mut(at)?;
        x.1 = true;
        let x = x.0;
        let shape = self.b.shape(x).to_vec();
        let dtype = self.b.dtype(x);
        let other = self.exact_of(&shape).filter(|y| self.b.dtype(*y) == dtype).unwrap_or(x);
        let is_bool = dtype == DType::Bool;
        let y = match self.below(6) {
            0 if !is_bool => {
                let functions = [Binary::Add, Binary::Mul, Binary::Sub, Binary::Max, Binary::Min];
                let function = functions[self.below(functions.len())];
                self.b.binary(function, x, other)
            }
            1 if !is_bool => {
                let functions = [Binary::Lt, Binary::Le, Binary::Eq, Binary::Ne, Binary::Gt, Binary::Ge];
                let function = functions[self.below(functions.len())];
                self.b.binary(function, x, other)
            }
            2 => {
                let functions = [Binary::And, Binary::Or, Binary::Xor];
                let function = functions[self.below(functions.len())];
                self.b.binary(function, x, other)
            }
            3 if is_bool => self.b.not(x),
            4 if !shape.is_empty() && !is_bool => {
                let axis = self.below(shape.len());
                if self.below(2) == 0 {
                    self.b.reduce_max(x, &[axis], true)
                } else {
                    self.b.arg_max(x, axis, self.rng.next_u32().is_multiple_of(2))
                }
            }
            _ => {
                let to = INTEGERS[self.below(INTEGERS.len())];
                self.b.cast(x, to)
            }
        };
        self.exact.push((y, false));
        None
    }

    fn conv(&mut self, x: ValueId, shape: &[usize]) -> Option<ValueId> {
        let format = if self.below(2) == 0 { Format::ChannelsFirst } else { Format::ChannelsLast };
        let c = shape[format.channel_axis(4)];
        let [mut kernel, mut stride] = [[1 + self.below(3), 1 + self.below(3)], [1 + self.below(2); 2]];
        let depthwise = self.below(3) == 0;
        let (groups, mut out) = if depthwise { (c, c) } else { (1, self.extent()) };
        if self.images && self.below(2) == 0 {
            (kernel, stride) = ([3, 3], [1, 1]);
            out = if depthwise { c } else { IMAGE_CHANNELS[self.below(IMAGE_CHANNELS.len())] };
        }
        let padding = if self.below(3) > 0 { Padding::Same } else { Padding::Valid };
        let spatial = &shape[format.first_spatial()..format.first_spatial() + 2];
        if padding == Padding::Valid && (spatial[0] < kernel[0] || spatial[1] < kernel[1]) {
            return None;
        }
        let scale = 1.0 / ((c / groups * kernel[0] * kernel[1]) as f64).sqrt();
        let scale = self.b.scalar(DType::F32, scale);
        let w = self.constant(&[out, c / groups, kernel[0], kernel[1]]);
        let w = self.b.mul(w, scale);
        let bias = (self.below(2) == 0).then(|| self.constant(&[out]));
        Some(self.b.conv2d(x, w, bias, Conv2d { stride, padding, groups, format, ..Conv2d::default() }))
    }

    /// Merges a dimension with the next, or splits it.
    fn reshape(&mut self, x: ValueId, shape: &[usize], axis: usize) -> ValueId {
        let mut new = shape.to_vec();
        if axis + 1 < new.len() && self.below(2) == 0 {
            let merged = new.remove(axis) * new[axis];
            new[axis] = merged;
        } else if let Some(factor) = (2..=4).find(|f| new[axis].is_multiple_of(*f)) {
            new[axis] /= factor;
            new.insert(axis + 1, factor);
        } else {
            new = vec![new.iter().product()];
        }
        self.b.reshape(x, &new)
    }
}

/// The graph of a seed; every third is one of images.
pub fn random_graph(seed: u64, steps: usize) -> Graph {
    let images = seed % 3 == 2;
    let (values, exact) = (Vec::new(), Vec::new());
    let (rng, b) = (ChaCha8Rng::seed_from_u64(seed), GraphBuilder::new("random"));
    let mut m = Maker { rng, b, values, exact, images };
    let rank = [4, 4, 2, 3, 1, 0][m.below(6)];
    let shape: Vec<usize> = if images {
        let side = 12 + m.below(20);
        vec![1, IMAGE_CHANNELS[m.below(IMAGE_CHANNELS.len())], side, side + m.below(4)]
    } else {
        (0..rank).map(|d| if d == 0 { 1 + m.below(3) } else { m.extent() }).collect()
    };
    for name in ["x1", "x2"] {
        let x = m.b.input(name, DType::F32, &shape);
        m.values.push((x, true));
    }
    for name in ["n1", "n2"] {
        let dtype = INTEGERS[m.below(INTEGERS.len())];
        let x = m.b.input(name, dtype, &shape);
        m.exact.push((x, true));
    }
    let limit = if images { MAX_IMAGE_ELEMENTS } else { MAX_ELEMENTS };
    for _ in 0..steps {
        if let Some(y) = m.step() {
            let elements: usize = m.b.shape(y).iter().product();
            if elements <= limit {
                m.values.push((y, false));
            }
        }
    }
    // A value that others read may be requested too.
    let extra = m.below(m.values.len());
    let floats = m.values.iter().enumerate().filter(|(i, v)| !v.1 || *i == extra).map(|(_, v)| v.0);
    let outputs: Vec<ValueId> = floats.chain(m.exact.iter().filter(|v| !v.1).map(|v| v.0)).collect();
    for (i, y) in outputs.into_iter().enumerate() {
        m.b.output(&format!("y{i}"), y);
    }
    m.b.build().unwrap()
}
