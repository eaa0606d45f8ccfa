//! Random graphs: whatever the shapes and the order of operations, compiled code agrees with the evaluator,
//! fused and unfused, on one thread and on several, and no pass changes what is computed.

mod common;

use common::compare::to_f64;
use nestjit::graph::builder::{Conv2d, Padding, Pool};
use nestjit::graph::eval::{Precision, evaluate};
use nestjit::graph::{Binary, Format, Graph, PadMode, Reduction, Unary, ValueId};
use nestjit::{Compiler, DType, GraphBuilder, Options, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Extents around the widths of vectors and tiles.
const EXTENTS: [usize; 12] = [1, 2, 3, 4, 5, 7, 8, 9, 13, 16, 17, 33];
/// Values larger than this are not used any further.
const MAX_ELEMENTS: usize = 20_000;

/// Makes a graph from random choices; the same seed makes the same one, and fewer steps a part of it.
struct Maker {
    rng: ChaCha8Rng,
    b: GraphBuilder,
    /// `f32` values, and whether anything reads them.
    values: Vec<(ValueId, bool)>,
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
        Some(match self.below(22) {
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
            _ => return None,
        })
    }

    fn conv(&mut self, x: ValueId, shape: &[usize]) -> Option<ValueId> {
        let format = if self.below(2) == 0 { Format::ChannelsFirst } else { Format::ChannelsLast };
        let c = shape[format.channel_axis(4)];
        let kernel = [1 + self.below(3), 1 + self.below(3)];
        let stride = [1 + self.below(2); 2];
        let depthwise = self.below(3) == 0;
        let (groups, out) = if depthwise { (c, c) } else { (1, self.extent()) };
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

fn random_graph(seed: u64, steps: usize) -> Graph {
    let mut m =
        Maker { rng: ChaCha8Rng::seed_from_u64(seed), b: GraphBuilder::new("random"), values: Vec::new() };
    let rank = [4, 4, 2, 3, 1, 0][m.below(6)];
    let shape: Vec<usize> = (0..rank).map(|d| if d == 0 { 1 + m.below(3) } else { m.extent() }).collect();
    for name in ["x1", "x2"] {
        let x = m.b.input(name, DType::F32, &shape);
        m.values.push((x, true));
    }
    for _ in 0..steps {
        if let Some(y) = m.step() {
            let elements: usize = m.b.shape(y).iter().product();
            if elements <= MAX_ELEMENTS {
                m.values.push((y, false));
            }
        }
    }
    // A value that others read may be requested too.
    let extra = m.below(m.values.len());
    let outputs: Vec<ValueId> =
        m.values.iter().enumerate().filter(|(i, v)| !v.1 || *i == extra).map(|(_, v)| v.0).collect();
    for (i, y) in outputs.into_iter().enumerate() {
        m.b.output(&format!("y{i}"), y);
    }
    m.b.build().unwrap()
}

fn check(graph: &Graph) -> Result<(), String> {
    let random = |id: &ValueId| Tensor::random(DType::F32, &graph.value(*id).shape, u64::from(id.0)).unwrap();
    let inputs: Vec<Tensor> = graph.inputs.iter().map(random).collect();
    let expected = evaluate(graph, &inputs, Precision::F64).map_err(|e| format!("evaluator: {e}"))?;
    let mut fused: Option<Vec<Tensor>> = None;
    for (threads, disabled) in [(1, ""), (2, ""), (3, ""), (1, "OpFusion"), (1, "Tile"), (2, "Vectorize")] {
        let what = format!("{threads} threads, without '{disabled}'");
        let check_passes = threads == 1 && disabled.is_empty();
        let options = Options { verify_passes: true, check_passes, ..Options::default() };
        let compiler = Compiler::with_options(options)
            .threads(threads)
            .disable_passes(Some(disabled).filter(|name| !name.is_empty()));
        let executable = compiler.compile(&graph.clone().into()).map_err(|e| format!("{what}: {e}"))?;
        let outputs = executable.run(&inputs).map_err(|e| format!("{what}: {e}"))?;
        for (i, (actual, expected)) in outputs.iter().zip(&expected).enumerate() {
            let (actual, expected) = (to_f64(actual), to_f64(expected));
            let largest = expected.iter().fold(1.0f64, |m, e| m.max(e.abs()));
            for (a, e) in actual.iter().zip(&expected) {
                if (a - e).abs() > 1e-4 * largest || a.is_nan() != e.is_nan() {
                    return Err(format!("{what}: output {i} has {a} instead of {e}"));
                }
            }
        }
        if disabled.is_empty() {
            let first = fused.get_or_insert_with(|| outputs.clone());
            if *first != outputs {
                return Err(format!("{what}: other bits than with one thread"));
            }
        }
    }
    Ok(())
}

fn check_seeds(seeds: std::ops::Range<u64>) {
    const STEPS: usize = 12;
    for seed in seeds {
        if check(&random_graph(seed, STEPS)).is_ok() {
            continue;
        }
        // The smallest part that fails is easier to understand.
        let small =
            (1..=STEPS).map(|steps| random_graph(seed, steps)).find_map(|g| check(&g).err().map(|e| (g, e)));
        let (graph, error) = small.expect("the whole graph fails");
        panic!("seed {seed}: {error}\n{graph}");
    }
}

#[test]
fn compiled_code_agrees_with_the_evaluator() {
    check_seeds(0..60);
}
