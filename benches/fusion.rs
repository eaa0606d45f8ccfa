//! Warm runs, fused and unfused, of the patterns of TensorFlow's remapper, of small built-in models and of some
//! networks: `cargo bench --bench fusion [-- NAME]`.

#[path = "../tests/common/patterns.rs"]
mod patterns;

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use nestjit::graph::Weights;
use nestjit::{Compiler, Model, TensorView, zoo};

/// Networks that are measured beside the small models.
const NETWORKS: [&str; 6] =
    ["resnet18", "mobilenet_v2", "efficientnet_b0", "squeezenet1_1", "densenet121", "bert_minilm"];

/// Height and width, and channels, of the patterns.
const PATTERN_SIZE: (usize, usize) = (56, 64);

fn fusion(c: &mut Criterion) {
    for pattern in patterns::patterns(PATTERN_SIZE.0, PATTERN_SIZE.1) {
        let model = Model::from(pattern.graph);
        compare(c, &pattern.name, &model);
    }
    let measured = |entry: &&zoo::ZooEntry| entry.size == zoo::Size::Small || NETWORKS.contains(&entry.name);
    for entry in zoo::list().iter().filter(measured) {
        let model = entry.build().expect("the zoo builds");
        compare(c, entry.name, &model);
    }
}

/// Measures one model with and without OpFusion.
fn compare(c: &mut Criterion, name: &str, model: &Model) {
    let mut group = c.benchmark_group(name);
    group.sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    for (label, compiler) in
        [("fused", Compiler::new()), ("unfused", Compiler::new().disable_pass("OpFusion"))]
    {
        let executable = compiler.compile(model).expect("it compiles");
        let inputs: Vec<_> = executable
            .inputs()
            .iter()
            .map(|spec| Weights::new(1).uniform(&spec.shape, -1.0, 1.0).expect("inputs are small"))
            .collect();
        let inputs: Vec<TensorView<'_>> = inputs.iter().map(TensorView::from).collect();
        let mut outputs = executable.allocate_outputs().expect("outputs are small");
        group.bench_function(label, |b| b.iter(|| executable.run_into(&inputs, &mut outputs)));
    }
    group.finish();
}

criterion_group!(benches, fusion);
criterion_main!(benches);
