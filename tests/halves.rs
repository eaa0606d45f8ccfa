//! Networks of half types: contractions, what is between them and what is folded into them, in every configuration, against
//! the evaluator, which rounds each node's result.

mod common;

use nestjit::graph::builder::{Conv2d, Padding};
use nestjit::graph::eval::{Precision, evaluate};
use nestjit::graph::{Format, Graph, GraphBuilder, ValueId};
use nestjit::{Compiler, DType, Model, Tensor, bf16, f16};

use common::compare::to_f64;
use common::configurations::{one_for_each_pass, run, two_numbers_of_threads};

const HALVES: [DType; 2] = [DType::F16, DType::BF16];

/// The distance between neighbouring numbers from 1 on.
fn step(half: DType) -> f64 {
    if half == DType::F16 { 1.0 / 1024.0 } else { 1.0 / 128.0 }
}

/// Values of a half type, or of `f32`.
fn tensor(dtype: DType, shape: &[usize], values: &[f32]) -> Tensor {
    if dtype == DType::F16 {
        Tensor::new(shape, &values.iter().map(|v| f16::from_f32(*v)).collect::<Vec<_>>())
    } else if dtype == DType::BF16 {
        Tensor::new(shape, &values.iter().map(|v| bf16::from_f32(*v)).collect::<Vec<_>>())
    } else {
        Tensor::new(shape, values)
    }
    .unwrap()
}

fn random(dtype: DType, shape: &[usize], seed: u64, size: f32) -> Tensor {
    let values = Tensor::random(DType::F32, shape, seed).unwrap();
    let values: Vec<f32> = values.values::<f32>().unwrap().iter().map(|v| v * size).collect();
    tensor(dtype, shape, &values)
}

/// A graph in the making, all of one half type, with weights that keep values near 1.
struct Maker {
    b: GraphBuilder,
    half: DType,
    seed: u64,
}

impl Maker {
    fn new(half: DType) -> Maker {
        Maker { b: GraphBuilder::new("halves"), half, seed: 0 }
    }

    fn weights(&mut self, shape: &[usize], sums: usize) -> ValueId {
        self.seed += 1;
        let w = random(self.half, shape, self.seed, 1.7 / (sums as f32).sqrt());
        self.b.constant(&format!("w{}", self.seed), w)
    }

    fn conv(&mut self, x: ValueId, filters: usize, kernel: usize, groups: usize, stride: usize) -> ValueId {
        let channels = self.b.shape(x)[1] / groups;
        let w = self.weights(&[filters, channels, kernel, kernel], channels * kernel * kernel);
        let padding = Padding::symmetric(&[kernel / 2; 2]);
        self.b.conv2d(x, w, None, Conv2d { stride: [stride; 2], padding, groups, ..Conv2d::default() })
    }

    fn bias(&mut self, x: ValueId, axis: usize) -> ValueId {
        let channels = self.b.shape(x)[axis];
        let bias = self.weights(&[channels], 1);
        self.b.bias_add(x, bias, axis)
    }

    /// A normalisation as importers write it: computed in `f32`, rounded once.
    fn norm(&mut self, x: ValueId) -> ValueId {
        let channels = self.b.shape(x)[1];
        self.seed += 1;
        let vector = |seed, low: f32| -> Tensor {
            let v = random(DType::F32, &[channels], seed, 0.5);
            let v: Vec<f32> = v.values::<f32>().unwrap().iter().map(|v| v.abs() + low).collect();
            tensor(DType::F32, &[channels], &v)
        };
        let lows = [("scale", 0.6), ("shift", 0.0), ("mean", 0.0), ("variance", 0.6)];
        let mut part = 0;
        let parameters = lows.map(|(name, low)| {
            part += 50;
            self.b.constant(&format!("{name}{}", self.seed), vector(self.seed + part, low))
        });
        let wide = self.b.cast(x, DType::F32);
        let y = self.b.batch_norm(wide, parameters, 1e-5, Format::ChannelsFirst);
        self.b.cast(y, self.half)
    }

    fn dense(&mut self, x: ValueId, columns: usize) -> ValueId {
        let inner = *self.b.shape(x).last().unwrap();
        let w = self.weights(&[inner, columns], inner);
        let y = self.b.matmul(x, w);
        let last = self.b.shape(y).len() - 1;
        self.bias(y, last)
    }

    fn number(&mut self, value: f64) -> ValueId {
        self.b.scalar(self.half, value)
    }

    fn gelu(&mut self, x: ValueId) -> ValueId {
        let (root, one, half) = (self.number(2f64.sqrt()), self.number(1.0), self.number(0.5));
        let y = self.b.div(x, root);
        let y = self.b.erf(y);
        let y = self.b.add(y, one);
        let y = self.b.mul(x, y);
        self.b.mul(y, half)
    }
}

/// A name, and what makes a graph of inputs of these shapes.
type Case = (&'static str, &'static [&'static [usize]], fn(&mut Maker, &[ValueId]) -> Vec<ValueId>);

const CASES: &[Case] = &[
    ("3x3 convolutions in a row", &[&[1, 19, 13, 11]], |m, x| {
        let y = m.conv(x[0], 48, 3, 1, 1);
        let y = m.b.relu(y);
        vec![m.conv(y, 35, 3, 1, 1)]
    }),
    ("norms behind convolutions and a residual", &[&[2, 17, 9, 10]], |m, x| {
        let a = m.conv(x[0], 32, 1, 1, 1);
        let a = m.norm(a);
        let y = m.conv(a, 32, 3, 1, 1);
        let y = m.bias(y, 1);
        let y = m.norm(y);
        let y = m.b.add(y, a);
        let y = m.b.relu(y);
        vec![m.conv(y, 9, 3, 1, 2)]
    }),
    ("depthwise, clipped", &[&[1, 16, 21, 19]], |m, x| {
        let y = m.conv(x[0], 48, 1, 1, 1);
        let y = m.norm(y);
        let y = m.b.clip(y, Some(0.0), Some(6.0));
        let y = m.conv(y, 48, 3, 48, 1);
        let y = m.norm(y);
        let y = m.b.clip(y, Some(-0.3), Some(0.7));
        vec![m.conv(y, 23, 1, 1, 1)]
    }),
    ("activations that are spelled out", &[&[13, 37]], |m, x| {
        let y = m.dense(x[0], 70);
        let y = m.gelu(y);
        let y = m.dense(y, 33);
        let s = m.b.sigmoid(y);
        let y = m.b.mul(y, s);
        vec![m.dense(y, 9)]
    }),
    ("a part of an activation that others read", &[&[13, 37]], |m, x| {
        let s = m.b.sigmoid(x[0]);
        let y = m.b.mul(x[0], s);
        let z = m.b.exp(s);
        vec![y, z]
    }),
    ("attention", &[&[2, 18, 24]], |m, x| {
        let heads = |m: &mut Maker| {
            let y = m.dense(x[0], 24);
            let y = m.b.reshape(y, &[2, 18, 3, 8]);
            m.b.transpose(y, &[0, 2, 1, 3])
        };
        let [q, k, v] = std::array::from_fn(|_| heads(m));
        let k = m.b.transpose(k, &[0, 1, 3, 2]);
        let scores = m.b.matmul(q, k);
        let weights = m.b.softmax(scores, 3);
        let y = m.b.matmul(weights, v);
        let y = m.b.transpose(y, &[0, 2, 1, 3]);
        let y = m.b.reshape(y, &[2, 18, 24]);
        vec![m.dense(y, 11)]
    }),
    ("moved between products", &[&[12, 10], &[3, 10]], |m, x| {
        let y = m.dense(x[0], 12);
        let y = m.b.neg(y);
        // No common refinement: a copy of memory.
        let y = m.b.reshape(y, &[9, 16]);
        let parts = m.b.split(y, 1, &[10, 6]);
        let y = m.b.concat(&[parts[0], x[1]], 0);
        let rows = m.b.constant("rows", Tensor::new(&[11], &[0i64, 3, 11, 2, 2, 9, 10, 5, 1, 7, 4]).unwrap());
        let y = m.b.gather(y, rows, 0);
        let y = m.dense(y, 21);
        let z = m.dense(parts[1], 4);
        vec![y, z]
    }),
    ("an input and an output that contractions read", &[&[14, 20]], |m, x| {
        let a = m.dense(x[0], 20);
        let b = m.dense(x[0], 9);
        let c = m.dense(a, 8);
        let a = m.b.relu(a);
        vec![a, b, c]
    }),
    ("one row", &[&[1, 45]], |m, x| {
        let y = m.dense(x[0], 70);
        let y = m.b.tanh(y);
        vec![m.dense(y, 33)]
    }),
];

fn graph(half: DType, (name, shapes, make): &Case) -> (Graph, Vec<Tensor>) {
    let mut m = Maker::new(half);
    m.b.rename(*name);
    let x: Vec<ValueId> =
        shapes.iter().enumerate().map(|(i, s)| m.b.input(&format!("x{i}"), half, s)).collect();
    for (i, y) in make(&mut m, &x).into_iter().enumerate() {
        m.b.output(&format!("y{i}"), y);
    }
    let inputs = shapes.iter().enumerate().map(|(i, s)| random(half, s, 900 + i as u64, 1.0)).collect();
    (m.b.build().unwrap(), inputs)
}

#[test]
fn networks_agree_with_the_evaluator_in_every_configuration() {
    for (case, half) in CASES.iter().flat_map(|c| HALVES.map(|h| (c, h))) {
        let (graph, inputs) = graph(half, case);
        let expected = evaluate(&graph, &inputs, Precision::F32).unwrap();
        let model = Model::from(graph);
        for configuration in one_for_each_pass(case.0) {
            let threads = two_numbers_of_threads(case.0);
            let (found, _) = run(configuration, &threads, &model, &inputs).unwrap();
            for (found, expected) in found.iter().zip(&expected) {
                assert_eq!(found.dtype(), half);
                let (found, expected) = (to_f64(found), to_f64(expected));
                let largest = expected.iter().fold(1f64, |m, v| m.max(v.abs()));
                for (at, (f, e)) in found.iter().zip(&expected).enumerate() {
                    // What differs in the last place is rounded again, and added up, in the layers behind.
                    let close = (f - e).abs() <= 4.0 * step(half) * largest;
                    assert!(close, "{}, {half}, {configuration:?}: {f} instead of {e} at {at}", case.0);
                }
            }
        }
    }
}

#[test]
fn fused_and_unfused_code_have_the_same_bits() {
    for (case, half) in CASES.iter().flat_map(|c| HALVES.map(|h| (c, h))) {
        let (graph, inputs) = graph(half, case);
        let model = Model::from(graph);
        let results = [true, false].map(|fused| {
            // Minimal filtering sums up in another order, and its layouts depend on what is fused.
            let compiler = Compiler::new().threads(1).disable_pass("Winograd");
            let compiler = if fused { compiler } else { compiler.disable_pass("OpFusion") };
            compiler.compile(&model).unwrap().run(&inputs).unwrap()
        });
        let [fused, unfused] = results;
        assert_eq!(fused, unfused, "{}, {half}", case.0);
    }
}

/// What is not finite, or not in the range of halves, comes through a convolution and a product as what it is.
#[test]
fn special_values_pass_contractions() {
    for half in HALVES {
        let inf = f32::INFINITY;
        let special = [inf, -inf, f32::NAN, 6.0e4, -6.0e4, 1e-7, -1e-7, 0.0];
        let x: Vec<f32> = (0..16 * 40).map(|i| if i % 40 == 3 { special[i / 40 % 8] } else { 0.0 }).collect();
        let mut m = Maker::new(half);
        let input = m.b.input("x", half, &[16, 40]);
        let ones = m.b.constant("w", tensor(half, &[40, 24], &[2.0; 40 * 24]));
        let y = m.b.matmul(input, ones);
        let y = m.b.relu(y);
        let ones: Vec<f32> = (0..24 * 10).map(|i| f32::from(u8::from(i / 10 == i % 10))).collect();
        let one = m.b.constant("one", tensor(half, &[24, 10], &ones));
        let z = m.b.matmul(y, one);
        m.b.output("y", y);
        m.b.output("z", z);
        let graph = m.b.build().unwrap();
        let inputs = [tensor(half, &[16, 40], &x)];
        let expected = evaluate(&graph, &inputs, Precision::F32).unwrap();
        let model = Model::from(graph);
        for configuration in one_for_each_pass("special halves") {
            let (found, _) = run(configuration, &[1, 2], &model, &inputs).unwrap();
            for (found, expected) in found.iter().zip(&expected) {
                for (f, e) in to_f64(found).iter().zip(to_f64(expected)) {
                    assert!(*f == e || (f.is_nan() && e.is_nan()), "{half}, {configuration:?}: {f}, {e}");
                }
            }
        }
    }
}

/// Products subtract numbers from what they are rounded to: not zero if anything keeps more digits than a half has.
#[test]
fn what_lies_in_memory_as_f32_is_rounded() {
    for half in HALVES {
        let step = step(half) as f32;
        let tenth = to_f64(&tensor(half, &[], &[0.1]))[0] as f32;
        let mut m = Maker::new(half);
        let (x, f) = (m.b.input("x", half, &[1, 2]), m.b.input("f", half, &[1, 2]));
        let z = m.b.input("z", half, &[1, 2]);
        let difference = |m: &mut Maker, name: &str, x: ValueId, factor: f32| {
            let weights: Vec<f32> = [factor, -1.0].iter().flat_map(|v| [*v; 16]).collect();
            let w = m.b.constant(&format!("{name}.w"), tensor(half, &[2, 16], &weights));
            let y = m.b.matmul(x, w);
            m.b.output(name, y);
        };
        let product = m.b.mul(x, f);
        difference(&mut m, "product", product, 1.0);
        let clipped = m.b.clip(z, Some(0.1), Some(0.7));
        difference(&mut m, "clipped", clipped, 2.0);
        let graph = m.b.build().unwrap();
        let inputs = [[1.0 + 3.0 * step, 1.0 + 8.0 * step], [1.0 + 5.0 * step, 1.0], [-1.0, 2.0 * tenth]]
            .map(|values| tensor(half, &[1, 2], &values));
        let zeros = Tensor::zeros(half, &[1, 16]).unwrap();
        assert_eq!(evaluate(&graph, &inputs, Precision::F32).unwrap(), [zeros.clone(), zeros.clone()]);
        let model = Model::from(graph);
        for configuration in one_for_each_pass("rounded halves") {
            let (found, _) = run(configuration, &[1, 2], &model, &inputs).unwrap();
            assert_eq!(found, [zeros.clone(), zeros.clone()], "{half}, {configuration:?}");
        }
    }
}

/// The text of the nests after lowering, fusion and all.
fn nests(graph: Graph) -> String {
    Compiler::new().threads(1).compile(&Model::from(graph)).unwrap().program().to_string()
}

#[test]
fn what_contractions_read_often_is_not_a_half_in_memory() {
    for case in &CASES[..5] {
        let text = nests(graph(DType::F16, case).0);
        // But for inputs and outputs, and locals that stay in registers or are read once.
        let temps: Vec<&str> =
            text.split(['(', ',']).filter(|p| p.trim_start().starts_with("temp %")).collect();
        let halves: Vec<_> =
            temps.iter().filter(|t| t.contains(": f16[") && t.starts_with(" temp")).collect();
        assert!(halves.is_empty(), "{}: {halves:?}\n{text}", case.0);
    }
}

#[test]
fn a_convolution_of_halves_is_computed_by_minimal_filtering() {
    for half in HALVES {
        let mut m = Maker::new(half);
        let x = m.b.input("x", half, &[1, 64, 28, 28]);
        let y = m.conv(x, 64, 3, 1, 1);
        let y = m.norm(y);
        let y = m.b.relu(y);
        let y = m.conv(y, 64, 3, 1, 1);
        m.b.output("y", y);
        let graph = m.b.build().unwrap();
        let inputs = [random(half, &[1, 64, 28, 28], 77, 1.0)];
        let expected = evaluate(&graph, &inputs, Precision::F32).unwrap();
        let executable = Compiler::new().threads(1).compile(&Model::from(graph)).unwrap();
        let filtered = executable.program().to_string().matches("winograd.products").count();
        assert!(filtered >= 2, "{}", executable.program());
        let found = executable.run(&inputs).unwrap();
        let (found, expected) = (to_f64(&found[0]), to_f64(&expected[0]));
        let largest = expected.iter().fold(0f64, |m, v| m.max(v.abs()));
        for (f, e) in found.iter().zip(&expected) {
            assert!((f - e).abs() <= 3.0 * step(half) * largest, "{half}: {f} instead of {e}");
        }
    }
}
