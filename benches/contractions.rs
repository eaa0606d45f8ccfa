//! Matrix products and convolutions as they occur in models, against the machine's multiply-add rate:
//! `cargo bench --bench contractions [-- PART_OF_A_NAME]`, on one thread and on two.
//!
//! A convolution stands between two small ones, so that its input and output lie in memory as they do within a
//! network, and only its own nest is timed. Winograd is switched off: the figures are those of direct sums.

use std::time::{Duration, Instant};

use nestjit::graph::Weights;
use nestjit::graph::builder::{Conv2d, Padding};
use nestjit::runtime::machine;
use nestjit::target::Target;
use nestjit::{Compiler, DType, GraphBuilder, Model, Result, Tensor, TensorView};

const BUDGET: Duration = Duration::from_millis(500);
/// The channels of the small convolutions.
const OUTER: usize = 4;
/// The node that is timed.
const NODE: &str = "measured";

/// A product of `rows x depth` and a constant `depth x columns`.
fn product(rows: usize, columns: usize, depth: usize) -> Result<(Model, f64)> {
    let mut g = GraphBuilder::new("product");
    let x = g.input("x", DType::F32, &[rows, depth]);
    let w = g.constant("w", Weights::new(1).uniform(&[depth, columns], -1.0, 1.0)?);
    let y = g.named(NODE).matmul(x, w);
    let y = g.relu(y);
    g.output("y", y);
    Ok((Model::from(g.build()?), (2 * rows * columns * depth) as f64))
}

/// A convolution of `inputs` channels of `size x size` pixels, with a border that keeps the size.
#[derive(Clone, Copy)]
struct Convolution {
    size: usize,
    inputs: usize,
    outputs: usize,
    kernel: usize,
    groups: usize,
}

impl Convolution {
    fn model(self) -> Result<(Model, f64)> {
        let Convolution { size, inputs, outputs, kernel, groups } = self;
        let mut weights = Weights::new(1);
        let mut g = GraphBuilder::new("convolution");
        let mut x = g.input("x", DType::F32, &[1, OUTER, size, size]);
        for (name, ci, co, k, groups) in [
            ("before", OUTER, inputs, 1, 1),
            (NODE, inputs, outputs, kernel, groups),
            ("after", outputs, OUTER, 1, 1),
        ] {
            let w = g.constant(&format!("{name}.w"), weights.uniform(&[co, ci / groups, k, k], -1.0, 1.0)?);
            let options =
                Conv2d { padding: Padding::symmetric(&[k / 2, k / 2]), groups, ..Conv2d::default() };
            x = g.named(name).conv2d(x, w, None, options);
            x = g.relu(x);
        }
        g.output("y", x);
        let macs = size * size * outputs * inputs / groups * kernel * kernel;
        Ok((Model::from(g.build()?), 2.0 * macs as f64))
    }
}

/// The shortest time of the measured nest, in seconds.
fn best_seconds(model: &Model, threads: usize) -> Result<f64> {
    let compiler = Compiler::new().threads(threads).disable_pass("OpFusion").disable_pass("Winograd");
    let executable = compiler.compile(model)?;
    let inputs: Vec<Tensor> = executable
        .inputs()
        .iter()
        .map(|spec| Tensor::random(spec.dtype, &spec.shape, 1))
        .collect::<Result<_>>()?;
    let views: Vec<TensorView<'_>> = inputs.iter().map(TensorView::from).collect();
    let (begin, mut best) = (Instant::now(), f64::INFINITY);
    while begin.elapsed() < BUDGET {
        let trace = executable.trace(&views, 5)?;
        let measured = trace.whole.iter().filter(|span| trace.nests[span.nest].starts_with(NODE));
        best = measured.map(|span| span.time.as_secs_f64()).fold(best, f64::min);
    }
    Ok(best)
}

fn main() -> Result<()> {
    let mut cases: Vec<(String, (Model, f64))> = Vec::new();
    for (n, m, k) in [(512, 512, 512), (1024, 1024, 1024), (64, 512, 512)] {
        cases.push((format!("{n}x{k} by {k}x{m}"), product(n, m, k)?));
    }
    for (size, channels) in [(56, 64), (28, 128), (14, 256), (7, 512)] {
        let c = Convolution { size, inputs: channels, outputs: channels, kernel: 3, groups: 1 };
        cases.push((format!("3x3, {size}x{size}, {channels}"), c.model()?));
    }
    for (size, inputs, outputs) in
        [(56, 64, 256), (56, 256, 64), (14, 1024, 256), (7, 2048, 512), (14, 96, 576), (56, 24, 144)]
    {
        let c = Convolution { size, inputs, outputs, kernel: 1, groups: 1 };
        cases.push((format!("1x1, {size}x{size}, {inputs} -> {outputs}"), c.model()?));
    }
    for (size, channels, kernel) in [(112, 32, 3), (56, 144, 3), (14, 576, 3), (14, 672, 5)] {
        let c = Convolution { size, inputs: channels, outputs: channels, kernel, groups: channels };
        cases.push((format!("depthwise {kernel}x{kernel}, {size}x{size}, {channels}"), c.model()?));
    }
    let wanted = std::env::args().skip(1).find(|a| !a.starts_with('-'));
    let target = Target::host(None)?;
    let peak = machine::measure(target.isa, target.l3_bytes).peak_gflops;
    println!("{} multiply-add peak {peak:.1} GFLOP/s per core", target.isa.name());
    for (name, (model, flops)) in cases.iter().filter(|c| wanted.as_ref().is_none_or(|w| c.0.contains(w))) {
        let [one, two] = [best_seconds(model, 1)?, best_seconds(model, 2)?];
        println!(
            "{name:32} {:9.1} us  {:6.1} GFLOP/s  {:5.1} % of the peak;  2 threads {:4.2}x",
            one * 1e6,
            flops / one / 1e9,
            100.0 * flops / one / 1e9 / peak,
            one / two,
        );
    }
    Ok(())
}
