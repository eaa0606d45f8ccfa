//! Warm runs of small built-in models and of some networks, fused and unfused: `cargo bench --bench fusion [-- NAME]`.

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use nestjit::graph::Weights;
use nestjit::{Compiler, TensorView, zoo};

/// Networks that are measured beside the small models.
const NETWORKS: [&str; 3] = ["resnet18", "mobilenet_v2", "efficientnet_b0"];

fn fusion(c: &mut Criterion) {
    let measured = |entry: &&zoo::ZooEntry| entry.size == zoo::Size::Small || NETWORKS.contains(&entry.name);
    for entry in zoo::list().iter().filter(measured) {
        let model = entry.build().expect("the zoo builds");
        let mut group = c.benchmark_group(entry.name);
        group
            .sample_size(20)
            .warm_up_time(Duration::from_millis(300))
            .measurement_time(Duration::from_secs(1));
        for (label, compiler) in
            [("fused", Compiler::new()), ("unfused", Compiler::new().disable_pass("OpFusion"))]
        {
            let executable = compiler.compile(&model).expect("the zoo compiles");
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
}

criterion_group!(benches, fusion);
criterion_main!(benches);
