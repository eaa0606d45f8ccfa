//! How well `nestjit report --threads` predicts: what models take on one core of this machine and on all of them, measured
//! and predicted, and the speed-up. `cargo bench --bench scaling [MODEL]...`
//!
//! Runs with different numbers of threads take turns. Nothing else should run meanwhile; figures of a machine file
//! (`NESTJIT_MACHINE`, made by `nestjit machine --calibrate`) come closer than those of the table.

use std::time::{Duration, Instant};

use nestjit::report::Scaling;
use nestjit::report::text::table::table;
use nestjit::{Compiler, Executable, Result, Tensor, TensorView, zoo};

/// How long each model is run.
const BUDGET: Duration = Duration::from_secs(3);

const MODELS: [&str; 8] = [
    "mlp10",
    "squeezenet1_1",
    "mobilenet_v2",
    "efficientnet_b0",
    "resnet18",
    "resnet50",
    "bert_minilm",
    "vit_b_16",
];

fn main() -> Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let names = if wanted.is_empty() { MODELS.map(str::to_owned).to_vec() } else { wanted };
    let mut rows = Vec::new();
    for name in names {
        rows.push(row(&name)?);
    }
    let header =
        ["model", "cores", "1 core: ms", "predicted", "all: ms", "predicted", "speed-up", "predicted"];
    print!("{}", table(header, &[1, 2, 3, 4, 5, 6, 7], rows));
    Ok(())
}

fn row(name: &str) -> Result<[String; 8]> {
    let model = zoo::build(name)?;
    let compile = |threads: usize| Compiler::new().threads(threads).compile(&model);
    let one = compile(1)?;
    let cores = one.target().cores;
    let all = compile(cores)?;
    let inputs: Vec<Tensor> = one
        .inputs()
        .iter()
        .zip(1..)
        .map(|(spec, seed)| Tensor::random(spec.dtype, &spec.shape, seed))
        .collect::<Result<_>>()?;
    let measured = measure(&[&one, &all], &inputs)?;
    let scaling = Scaling::new(all.program(), all.target());
    let predicted = |cores: usize| {
        let near = scaling.points.iter().min_by_key(|p| p.cores.abs_diff(cores));
        near.map_or((0.0, 1.0), |p| (p.ms, p.speedup))
    };
    let ms = |ms: f64| format!("{ms:.3}");
    let times = |times: f64| format!("{times:.2}");
    Ok([
        name.to_owned(),
        cores.to_string(),
        ms(measured[0]),
        ms(predicted(1).0),
        ms(measured[1]),
        ms(predicted(cores).0),
        times(measured[0] / measured[1]),
        times(predicted(cores).1),
    ])
}

/// The median times of runs, in milliseconds, which take turns.
fn measure(executables: &[&Executable; 2], inputs: &[Tensor]) -> Result<[f64; 2]> {
    let views: Vec<TensorView<'_>> = inputs.iter().map(TensorView::from).collect();
    let mut times = [Vec::new(), Vec::new()];
    let begin = Instant::now();
    while begin.elapsed() < BUDGET || times[0].len() < 3 {
        for (executable, times) in executables.iter().zip(&mut times) {
            let mut outputs = executable.allocate_outputs()?;
            let start = Instant::now();
            executable.run_into(&views, &mut outputs)?;
            times.push(start.elapsed());
        }
    }
    Ok(times.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64() * 1e3
    }))
}
