//! What compiling costs, for every built-in model: `cargo bench --bench compile_time [-- NAME]`.

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use nestjit::{Compiler, zoo};

/// Networks that are measured beside the small models.
const NETWORKS: [&str; 3] = ["resnet18", "mobilenet_v2", "efficientnet_b0"];

fn compile_time(c: &mut Criterion) {
    let measured = |entry: &&zoo::ZooEntry| entry.size == zoo::Size::Small || NETWORKS.contains(&entry.name);
    for entry in zoo::list().iter().filter(measured) {
        let model = entry.build().expect("the zoo builds");
        let mut group = c.benchmark_group(entry.name);
        group
            .sample_size(10)
            .warm_up_time(Duration::from_millis(300))
            .measurement_time(Duration::from_secs(1));
        for (label, compiler) in
            [("fused", Compiler::new()), ("unfused", Compiler::new().disable_pass("OpFusion"))]
        {
            group.bench_function(label, |b| b.iter(|| compiler.compile(&model).expect("the zoo compiles")));
        }
        group.finish();
    }
}

criterion_group!(benches, compile_time);
criterion_main!(benches);
