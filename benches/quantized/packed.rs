//! Products with weights of four bits. With one row they should take the time of reading the weights, their scales and zero
//! points from memory, so several matrices take turns that together do not fit any cache; with many rows, no longer than
//! the same product in `f32`.

use std::time::Instant;

use nestjit::graph::Op;
use nestjit::machine::MachineModel;
use nestjit::runtime::measure::measure as measure_rates;
use nestjit::{Compiler, DType, Executable, GraphBuilder, Model, Result, Tensor, TensorView};

const ROUNDS: usize = 7;

/// A product.
#[derive(Clone, Copy)]
struct Product {
    rows: usize,
    depth: usize,
    columns: usize,
    block: usize,
    /// Whether each block has a zero point.
    zeros: bool,
}

impl Product {
    fn name(&self) -> String {
        let Product { rows, depth, columns, block, zeros } = self;
        let zeros = if *zeros { ", zero points" } else { "" };
        format!("4 bits, {rows}x{depth} by {depth}x{columns}, blocks of {block}{zeros}")
    }

    /// Bytes of the weights and their parameters, zero points packed as files have them.
    fn bytes(&self) -> f64 {
        let weights = (self.depth * self.columns) as f64;
        let blocks = weights / self.block as f64;
        weights / 2.0 + 4.0 * blocks + if self.zeros { blocks / 2.0 } else { 0.0 }
    }

    fn packed(&self, seed: u64) -> Result<Executable> {
        let Product { rows, depth, columns, block, .. } = *self;
        let blocks = depth / block;
        let mut g = GraphBuilder::new("packed");
        let x = g.input("x", DType::F32, &[rows, depth]);
        let q = g.constant("q", Tensor::random(DType::U8, &[columns, blocks, block / 2], seed)?);
        let scale = g.constant("scale", Tensor::random(DType::F32, &[blocks, columns], seed)?);
        let mut inputs = vec![x, q, scale];
        if self.zeros {
            inputs.push(g.constant("zero", Tensor::random(DType::U8, &[blocks, columns], seed)?));
        }
        let y = g.node("product", Op::PackedMatMul { bits: 4, block }, &inputs);
        g.output("y", y[0]);
        Compiler::new().threads(1).compile(&Model::from(g.build()?))
    }

    fn floats(&self) -> Result<Executable> {
        let mut g = GraphBuilder::new("floats");
        let x = g.input("x", DType::F32, &[self.rows, self.depth]);
        let w = g.constant("w", Tensor::random(DType::F32, &[self.depth, self.columns], 1)?);
        let y = g.matmul(x, w);
        g.output("y", y);
        Compiler::new().threads(1).compile(&Model::from(g.build()?))
    }
}

/// Executables that take turns.
struct Side {
    executables: Vec<Executable>,
    input: Tensor,
    outputs: Vec<Tensor>,
    /// Seconds of the shortest run.
    best: f64,
}

impl Side {
    fn new(executables: Vec<Executable>) -> Result<Side> {
        let input = Tensor::random(DType::F32, &executables[0].inputs()[0].shape, 2)?;
        let outputs = executables[0].allocate_outputs()?;
        Ok(Side { executables, input, outputs, best: f64::INFINITY })
    }

    /// Runs each of them twice.
    fn round(&mut self) -> Result<()> {
        for executable in self.executables.iter().chain(&self.executables) {
            let start = Instant::now();
            executable.run_into(&[TensorView::from(&self.input)], &mut self.outputs)?;
            self.best = self.best.min(start.elapsed().as_secs_f64());
        }
        Ok(())
    }
}

/// Measures the products whose names have one of these parts.
pub fn measure(target: &MachineModel, wanted: &[String]) -> Result<()> {
    let product = |(rows, depth, columns, block, zeros)| Product { rows, depth, columns, block, zeros };
    let products = [
        (1, 4096, 4096, 32, false),
        (1, 4096, 4096, 32, true),
        (1, 4096, 4096, 128, false),
        (1, 4096, 4096, 128, true),
        (1, 2048, 8192, 32, false),
        (4, 2048, 2048, 32, false),
        (16, 2048, 2048, 32, false),
        (64, 2048, 2048, 32, true),
        (256, 2048, 2048, 32, false),
    ]
    .map(product);
    for product in products {
        let name = product.name();
        if !wanted.is_empty() && !wanted.iter().any(|w| name.contains(w.as_str())) {
            continue;
        }
        let copies = if product.rows > 1 {
            1
        } else {
            (2.0 * target.l3_bytes() as f64 / product.bytes()).ceil() as u64
        };
        let mut packed = Side::new((0..copies).map(|seed| product.packed(seed)).collect::<Result<_>>()?)?;
        let mut floats = Side::new(vec![product.floats()?])?;
        let mut read = 0f64;
        for _ in 0..ROUNDS {
            packed.round()?;
            floats.round()?;
            read = read.max(measure_rates(target.isa, target.l3_bytes(), 1).rates.read_gbytes);
        }
        let rate = product.bytes() / packed.best / 1e9;
        let rates = match product.rows {
            1 => {
                format!(", {rate:5.1} GB/s, {:5.1} % of the rate of memory, {read:4.1}", 100.0 * rate / read)
            }
            _ => String::new(),
        };
        println!(
            "{name:56} best {:8.1} us{rates}; f32 {:8.1} us, x{:5.2}",
            packed.best * 1e6,
            floats.best * 1e6,
            floats.best / packed.best
        );
    }
    Ok(())
}
