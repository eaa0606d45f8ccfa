//! Operations that move more than they compute, against the rate of memory: `cargo bench --bench bandwidth
//! [-- PART_OF_A_NAME]`, on one thread and on two (`NAME/1`, `NAME/2`).
//!
//! Bytes are those of the operands and the result, each counted once. Small shapes stay in the second-level cache
//! and pass the rate of memory; large ones do not fit into any cache.

mod common;

use std::time::Duration;

use common::{Case, NODE, Work};
use criterion::{Criterion, criterion_group, criterion_main};
use nestjit::graph::builder::{Conv2d, Padding, Pool};
use nestjit::graph::{Format, ValueId, Weights};
use nestjit::{DType, GraphBuilder, Model, Result};

/// Bytes of an element.
const ELEMENT: usize = 4;

/// One operation on a matrix of `shape`, which it is as large as; `operands` matrices are read.
fn on_matrix(
    name: &str,
    shape: [usize; 2],
    operands: usize,
    op: impl FnOnce(&mut GraphBuilder, &[ValueId]) -> ValueId,
) -> Result<Case> {
    let mut g = GraphBuilder::new("matrix");
    let inputs: Vec<ValueId> = (0..operands).map(|i| g.input(&format!("x{i}"), DType::F32, &shape)).collect();
    let y = g.scope(NODE, |g| op(g, &inputs));
    g.output("y", y);
    Ok(Case {
        name: format!("{name}, {}x{}", shape[0], shape[1]),
        model: Model::from(g.build()?),
        work: Work::Bytes((operands + 1) * shape[0] * shape[1] * ELEMENT),
        without: &[],
    })
}

/// A pooling of `channels` of `size x size` pixels between two small convolutions, so that it reads and writes as
/// it does within a network.
fn pooling(
    name: &str,
    channels: usize,
    size: usize,
    op: impl FnOnce(&mut GraphBuilder, ValueId) -> ValueId,
) -> Result<Case> {
    const OUTER: usize = 4;
    let mut weights = Weights::new(1);
    let mut g = GraphBuilder::new("pooling");
    let x = g.input("x", DType::F32, &[1, OUTER, size, size]);
    let w = g.constant("before.w", weights.uniform(&[channels, OUTER, 1, 1], -1.0, 1.0)?);
    let x = g.named("before").conv2d(x, w, None, Conv2d::default());
    let pooled = op(g.named(NODE), x);
    let pixels: usize = g.shape(pooled)[2..].iter().product();
    let w = g.constant("after.w", weights.uniform(&[OUTER, channels, 1, 1], -1.0, 1.0)?);
    let y = g.named("after").conv2d(pooled, w, None, Conv2d::default());
    g.output("y", y);
    Ok(Case {
        name: format!("{name}, {size}x{size}, {channels}"),
        model: Model::from(g.build()?),
        work: Work::Bytes(channels * (size * size + pixels) * ELEMENT),
        without: &["OpFusion"],
    })
}

fn cases() -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for shape in [[128, 512], [4096, 4096]] {
        cases.push(on_matrix("relu", shape, 1, |g, x| g.relu(x[0]))?);
        cases.push(on_matrix("add", shape, 2, |g, x| g.add(x[0], x[1]))?);
        cases.push(on_matrix("silu(a) * b + a", shape, 2, |g, x| {
            let s = g.silu(x[0]);
            let p = g.mul(s, x[1]);
            g.add(p, x[0])
        })?);
        cases.push(on_matrix("gelu", shape, 1, |g, x| g.gelu(x[0]))?);
        cases.push(on_matrix("softmax", shape, 1, |g, x| g.softmax(x[0], 1))?);
        cases.push(on_matrix("layer normalisation", shape, 1, |g, x| {
            let scale =
                g.constant("scale", Weights::new(1).uniform(&[shape[1]], 0.5, 1.5).expect("a vector"));
            let bias = g.constant("bias", Weights::new(2).uniform(&[shape[1]], -1.0, 1.0).expect("a vector"));
            g.layer_norm(x[0], scale, Some(bias), 1, 1e-5)
        })?);
        cases.push(on_matrix("transpose", shape, 1, |g, x| g.transpose(x[0], &[1, 0]))?);
    }
    for (size, channels) in [(112, 64), (13, 512)] {
        cases.push(pooling("max 3x3, stride 2", channels, size, |g, x| {
            let padding = Padding::symmetric(&[1, 1]);
            g.max_pool(x, &Pool { strides: vec![2, 2], padding, ..Pool::new(&[3, 3]) })
        })?);
        cases.push(pooling("global average", channels, size, |g, x| {
            g.global_average_pool(x, Format::ChannelsFirst)
        })?);
    }
    Ok(cases)
}

fn bandwidth(c: &mut Criterion) {
    let machine = common::measure_machine().expect("every machine has a tier");
    let mut group = c.benchmark_group("bandwidth");
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(700));
    for case in cases().expect("they build") {
        common::measure(&mut group, &case, &machine).expect("it compiles");
    }
    group.finish();
}

criterion_group!(benches, bandwidth);
criterion_main!(benches);
