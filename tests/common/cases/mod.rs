//! A table of small graphs with inputs: every operation with a spread of attributes, shapes and types, and
//! chains of operations that passes merge. What is tested with them is up to each test.

#![allow(clippy::type_complexity, reason = "tables of names and shapes")]

mod activations;
mod chains;
mod classical;
mod contraction;
mod elementwise;
mod movement;
mod norm;
mod recurrent;
mod reduce;
mod window;

use nestjit::graph::{Graph, GraphBuilder, Op, ValueId};
use nestjit::{DType, Element, Tensor, bf16, f16};

/// A graph, and inputs for it.
#[derive(Clone, Debug)]
pub struct Case {
    /// The name, unique in the table: `family/what`.
    pub name: String,
    pub graph: Graph,
    pub inputs: Vec<Tensor>,
    /// By how much a result computed in `f32` may differ from one in `f64`, relative to `1 + |result|`.
    pub tolerance: f64,
}

/// The whole table.
pub fn op_cases() -> Vec<Case> {
    // What one function computes is close to the reference; sums of many products are less so.
    let mut cases = Cases { list: Vec::new(), tolerance: 4e-6 };
    activations::add(&mut cases);
    elementwise::add(&mut cases);
    movement::add(&mut cases);
    cases.tolerance = 5e-5;
    contraction::add(&mut cases);
    window::add(&mut cases);
    norm::add(&mut cases);
    reduce::add(&mut cases);
    recurrent::add(&mut cases);
    classical::add(&mut cases);
    chains::add(&mut cases);
    cases.list
}

/// A table of a test's own, for results within a tolerance.
pub fn cases_of(tolerance: f64, add: impl FnOnce(&mut Cases)) -> Vec<Case> {
    let mut cases = Cases { list: Vec::new(), tolerance };
    add(&mut cases);
    cases.list
}

/// The types of numbers but `f32`, which has cases of its own.
fn other_numbers() -> impl Iterator<Item = DType> {
    DType::ALL.into_iter().filter(|d| !matches!(d, DType::F32 | DType::Bool))
}

/// The table being made.
pub struct Cases {
    list: Vec<Case>,
    /// The tolerance of cases that do not say another.
    tolerance: f64,
}

impl Cases {
    /// Adds a case; `build` returns the outputs.
    pub fn add(&mut self, name: impl Into<String>, build: impl FnOnce(&mut Maker) -> Vec<ValueId>) {
        self.add_with(name, self.tolerance, build);
    }

    /// Adds a case with a tolerance of its own.
    pub fn add_with(
        &mut self,
        name: impl Into<String>,
        tolerance: f64,
        build: impl FnOnce(&mut Maker) -> Vec<ValueId>,
    ) {
        let name = name.into();
        // The seed depends on the name only, so that new cases do not change old ones.
        let seed = name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3));
        let mut m = Maker { g: GraphBuilder::new(&name), random: Random(seed), inputs: Vec::new() };
        let outputs = build(&mut m);
        for (i, output) in outputs.into_iter().enumerate() {
            m.g.output(&format!("out{i}"), output);
        }
        let graph = m.g.build().unwrap_or_else(|e| panic!("{name}: {e}"));
        self.list.push(Case { name, graph, inputs: m.inputs, tolerance });
    }

    /// Adds a case of one operation on random `f32` inputs of these shapes; all results are outputs.
    pub fn op(&mut self, name: impl Into<String>, op: Op, shapes: &[&[usize]]) {
        self.op_of(name, op, DType::F32, shapes);
    }

    /// Adds a case of one operation on random inputs of a type.
    pub fn op_of(&mut self, name: impl Into<String>, op: Op, dtype: DType, shapes: &[&[usize]]) {
        self.add(name, |m| {
            let inputs: Vec<ValueId> = shapes.iter().map(|s| m.input(dtype, s)).collect();
            m.op(op, &inputs)
        });
    }

    /// Adds a case of one operation on a given input, and further random `f32` constants.
    pub fn op_on(&mut self, name: impl Into<String>, op: Op, x: Tensor) {
        self.add(name, |m| {
            let x = m.given(x);
            m.op(op, &[x])
        });
    }
}

/// A graph in the making, with its inputs' contents.
pub struct Maker {
    pub g: GraphBuilder,
    random: Random,
    inputs: Vec<Tensor>,
}

impl Maker {
    /// An input with random contents.
    pub fn input(&mut self, dtype: DType, shape: &[usize]) -> ValueId {
        let tensor = self.random.tensor(dtype, shape);
        self.given(tensor)
    }

    /// An input of `i8` or `u8` whose elements are any of the type.
    pub fn bytes(&mut self, dtype: DType, shape: &[usize]) -> ValueId {
        let tensor = self.random.bytes(dtype, shape);
        self.given(tensor)
    }

    /// A constant of `i8` or `u8` whose elements are any of the type.
    pub fn byte_weight(&mut self, dtype: DType, shape: &[usize]) -> ValueId {
        let tensor = self.random.bytes(dtype, shape);
        self.g.constant("w", tensor)
    }

    /// An `f32` input with random contents.
    pub fn x(&mut self, shape: &[usize]) -> ValueId {
        self.input(DType::F32, shape)
    }

    /// An input with these contents.
    pub fn given(&mut self, tensor: Tensor) -> ValueId {
        let id = self.g.input(&format!("in{}", self.inputs.len()), tensor.dtype(), tensor.shape());
        self.inputs.push(tensor);
        id
    }

    /// A random `f32` constant.
    pub fn weight(&mut self, shape: &[usize]) -> ValueId {
        let tensor = self.random.tensor(DType::F32, shape);
        self.g.constant("w", tensor)
    }

    /// A random `f32` constant of elements between 0.5 and 1.5, such as a variance.
    pub fn positive(&mut self, shape: &[usize]) -> ValueId {
        let tensor = self.random.positive(shape);
        self.g.constant("v", tensor)
    }

    /// An `f32` input of elements between 0.5 and 1.5.
    pub fn positive_input(&mut self, shape: &[usize]) -> ValueId {
        let tensor = self.random.positive(shape);
        self.given(tensor)
    }

    /// A constant.
    pub fn constant<T: Element>(&mut self, shape: &[usize], values: &[T]) -> ValueId {
        self.g.constant("c", tensor(shape, values))
    }

    /// The results of an operation.
    pub fn op(&mut self, op: Op, inputs: &[ValueId]) -> Vec<ValueId> {
        self.g.node("", op, inputs)
    }

    /// The only result of an operation.
    pub fn one(&mut self, op: Op, inputs: &[ValueId]) -> ValueId {
        self.op(op, inputs)[0]
    }
}

/// A tensor of these values.
pub fn tensor<T: Element>(shape: &[usize], values: &[T]) -> Tensor {
    Tensor::new(shape, values).unwrap()
}

/// A small random generator (SplitMix64): tests must not change with a library.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Between 0 and 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn below(&mut self, n: u64) -> i64 {
        (self.next() % n) as i64
    }

    /// Floats between -2 and 2, integers from -9 to 9 (from 0, if unsigned).
    fn tensor(&mut self, dtype: DType, shape: &[usize]) -> Tensor {
        let n: usize = shape.iter().product();
        let mut fill = |n: usize| -> Vec<f64> { (0..n).map(|_| self.unit() * 4.0 - 2.0).collect() };
        match dtype {
            DType::F32 => tensor(shape, &fill(n).iter().map(|v| *v as f32).collect::<Vec<_>>()),
            DType::F64 => tensor(shape, &fill(n)),
            DType::F16 => tensor(shape, &fill(n).into_iter().map(f16::from_f64).collect::<Vec<_>>()),
            DType::BF16 => tensor(shape, &fill(n).into_iter().map(bf16::from_f64).collect::<Vec<_>>()),
            DType::I64 => tensor(shape, &(0..n).map(|_| self.below(19) - 9).collect::<Vec<_>>()),
            DType::I32 => tensor(shape, &(0..n).map(|_| self.below(19) as i32 - 9).collect::<Vec<_>>()),
            DType::I8 => tensor(shape, &(0..n).map(|_| self.below(19) as i8 - 9).collect::<Vec<_>>()),
            DType::U8 => tensor(shape, &(0..n).map(|_| self.below(10) as u8).collect::<Vec<_>>()),
            DType::I16 => tensor(shape, &(0..n).map(|_| self.below(10) as i16).collect::<Vec<_>>()),
            DType::U16 => tensor(shape, &(0..n).map(|_| self.below(10) as u16).collect::<Vec<_>>()),
            DType::U32 => tensor(shape, &(0..n).map(|_| self.below(10) as u32).collect::<Vec<_>>()),
            DType::U64 => tensor(shape, &(0..n).map(|_| self.below(10) as u64).collect::<Vec<_>>()),
            DType::Bool => tensor(shape, &(0..n).map(|_| self.below(2) == 1).collect::<Vec<_>>()),
        }
    }

    /// Bytes as elements of `i8` or `u8`.
    fn bytes(&mut self, dtype: DType, shape: &[usize]) -> Tensor {
        let bytes: Vec<u8> = (0..shape.iter().product()).map(|_| self.below(256) as u8).collect();
        Tensor::from_bytes(dtype, shape, &bytes).unwrap()
    }

    fn positive(&mut self, shape: &[usize]) -> Tensor {
        let n: usize = shape.iter().product();
        tensor(shape, &(0..n).map(|_| (self.unit() + 0.5) as f32).collect::<Vec<_>>())
    }
}
