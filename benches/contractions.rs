//! Matrix products and convolutions as they occur in models, against the machine's multiply-add rate:
//! `cargo bench --bench contractions [-- PART_OF_A_NAME]`, on one thread and on two (`NAME/1`, `NAME/2`). Criterion's
//! `Gelem/s` are GFLOP/s.
//!
//! A convolution stands between two small ones, so that its input and output lie in memory as they do within a
//! network, and only its own nest is timed. Winograd is switched off: the figures are those of direct sums.

mod common;

use std::time::Duration;

use common::{Case, NODE, Work};
use criterion::{Criterion, criterion_group, criterion_main};
use nestjit::graph::Weights;
use nestjit::graph::builder::{Conv2d, Padding};
use nestjit::{DType, GraphBuilder, Model, Result};

/// The channels of the small convolutions.
const OUTER: usize = 4;

/// A product of `rows x depth` and a constant `depth x columns`.
fn product(rows: usize, columns: usize, depth: usize) -> Result<(Model, usize)> {
    let mut g = GraphBuilder::new("product");
    let x = g.input("x", DType::F32, &[rows, depth]);
    let w = g.constant("w", Weights::new(1).uniform(&[depth, columns], -1.0, 1.0)?);
    let y = g.named(NODE).matmul(x, w);
    let y = g.relu(y);
    g.output("y", y);
    Ok((Model::from(g.build()?), 2 * rows * columns * depth))
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
    fn model(self) -> Result<(Model, usize)> {
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
        Ok((Model::from(g.build()?), 2 * macs))
    }
}

fn cases() -> Result<Vec<(String, (Model, usize))>> {
    let mut cases = Vec::new();
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
        cases.push((format!("1x1, {size}x{size}, {inputs} to {outputs}"), c.model()?));
    }
    for (size, channels, kernel) in [(112, 32, 3), (56, 144, 3), (14, 576, 3), (14, 672, 5)] {
        let c = Convolution { size, inputs: channels, outputs: channels, kernel, groups: channels };
        cases.push((format!("depthwise {kernel}x{kernel}, {size}x{size}, {channels}"), c.model()?));
    }
    Ok(cases)
}

fn contractions(c: &mut Criterion) {
    let machine = common::measure_machine().expect("every machine has a tier");
    let mut group = c.benchmark_group("contractions");
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(700));
    for (name, (model, flops)) in cases().expect("they build") {
        let case = Case { name, model, work: Work::Flops(flops), without: &["OpFusion", "Winograd"] };
        common::measure(&mut group, &case, &machine).expect("it compiles");
    }
    group.finish();
}

criterion_group!(benches, contractions);
criterion_main!(benches);
