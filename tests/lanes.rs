//! Fusion never costs the vector loop: whatever follows a contraction or a reduction, the nest that computes it is vector
//! code, or the rest was not merged with it.

mod common;

use common::configurations::Configuration;
use nestjit::graph::builder::{Conv2d, Padding};
use nestjit::graph::{Binary, Graph, Unary, ValueId};
use nestjit::machine::Isa;
use nestjit::{Compiler, DType, GraphBuilder, Model, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Extents around the widths of vectors and tiles.
const EXTENTS: [usize; 8] = [17, 24, 31, 32, 48, 64, 65, 96];

struct Maker {
    rng: ChaCha8Rng,
    b: GraphBuilder,
    /// The masks that are inputs.
    masks: usize,
}

impl Maker {
    fn below(&mut self, n: usize) -> usize {
        self.rng.next_u32() as usize % n
    }

    fn extent(&mut self) -> usize {
        EXTENTS[self.below(EXTENTS.len())]
    }

    fn weights(&mut self, shape: &[usize]) -> ValueId {
        let seed = self.rng.next_u64();
        self.b.constant("w", Tensor::random(DType::F32, shape, seed).unwrap())
    }

    /// A contraction, or a reduction behind one.
    fn contraction(&mut self) -> ValueId {
        let (n, k, m) = (self.extent(), self.extent(), self.extent());
        match self.below(4) {
            0 => {
                let x = self.b.input("x", DType::F32, &[1, 16, 14, 14]);
                let weight = self.weights(&[m, 16, 3, 3]);
                let options = Conv2d { padding: Padding::Same, ..Conv2d::default() };
                self.b.conv2d(x, weight, None, options)
            }
            1 => {
                let x = self.b.input("x", DType::F32, &[n, k]);
                let weight = self.weights(&[k, m]);
                let product = self.b.matmul(x, weight);
                self.b.softmax(product, 1)
            }
            2 => {
                let a = self.b.input("x", DType::F32, &[2, n, k]);
                let b = self.b.input("b", DType::F32, &[2, k, m]);
                self.b.matmul(a, b)
            }
            _ => {
                let x = self.b.input("x", DType::F32, &[n, k]);
                let weight = self.weights(&[k, m]);
                self.b.matmul(x, weight)
            }
        }
    }

    /// One more elementwise operation on a value of any type.
    fn tail(&mut self, x: ValueId) -> ValueId {
        let dtype = self.b.dtype(x);
        let to = DType::ALL[self.below(DType::ALL.len())];
        match (dtype, self.below(4)) {
            (_, 0) => self.b.cast(x, to),
            (DType::Bool, 1) => self.b.not(x),
            (DType::Bool, _) => {
                let shape = self.b.shape(x).to_vec();
                let one = self.weights(&shape[shape.len() - 1..]);
                let zero = self.b.scalar(DType::F32, 0.0);
                self.b.select(x, one, zero)
            }
            (_, 1) => {
                let limit = self.b.scalar_like(x, 1.0);
                let compare = [Binary::Gt, Binary::Eq, Binary::Le, Binary::Ne][self.below(4)];
                self.b.binary(compare, x, limit)
            }
            (_, 2) => {
                let (name, shape) = (format!("mask{}", self.masks), self.b.shape(x).to_vec());
                self.masks += 1;
                let mask = self.b.input(&name, DType::Bool, &shape);
                let other = self.b.scalar_like(x, 3.0);
                self.b.select(mask, x, other)
            }
            (dtype, _) => {
                let other = self.b.scalar_like(x, 2.0);
                let op = [Binary::Add, Binary::Mul, Binary::Max, Binary::Min][self.below(4)];
                let y = self.b.binary(op, x, other);
                if dtype == DType::F32 { self.b.unary(Unary::Sigmoid, y) } else { y }
            }
        }
    }

    /// A contraction and what follows it.
    fn graph(seed: u64) -> Graph {
        let mut maker =
            Maker { rng: ChaCha8Rng::seed_from_u64(seed), b: GraphBuilder::new("tails"), masks: 0 };
        let mut x = maker.contraction();
        for _ in 0..1 + maker.below(4) {
            x = maker.tail(x);
        }
        maker.b.output("y", x);
        maker.b.build().unwrap()
    }
}

/// Every nest that contracts has no scalar loop worth mentioning.
fn assert_vector_code(graph: &Graph, compiler: &Compiler, what: &str) {
    let executable = compiler.clone().compile(&Model::from(graph.clone())).unwrap();
    let report = executable.fusion_report();
    for (at, group) in report.groups.iter().enumerate().filter(|(_, g)| g.macs > 0.0) {
        for scalar in executable.scalar_loops(at) {
            assert!(
                scalar.steps < 0.05 * group.steps,
                "{what}: loop {} of @{} is scalar: {:?}\n{graph}",
                scalar.var,
                group.nest,
                scalar.why
            );
        }
    }
}

#[test]
fn no_tail_of_any_type_makes_a_contraction_scalar() {
    for seed in 0..120 {
        let graph = Maker::graph(seed);
        let isa = [Isa::Avx512, Isa::Avx2, Isa::Simd128][seed as usize % 3];
        let configuration = Configuration { isa, ..Configuration::usual() };
        let threads = 1 + seed as usize % 2;
        assert_vector_code(&graph, &configuration.compiler(threads), &format!("seed {seed}, {isa:?}"));
    }
}
