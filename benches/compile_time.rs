//! What compiling costs, for every built-in model: `cargo bench --bench compile_time [-- NAME]`.

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use nestjit::{Compiler, zoo};

fn compile_time(c: &mut Criterion) {
    for entry in zoo::list() {
        let model = (entry.build)().expect("the zoo builds");
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
