//! What benchmarks of single operations share: a nest is timed within its model, and its rate is printed beside
//! what the machine was measured to reach in the same run.

use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Throughput};
use nestjit::machine::MachineModel;
use nestjit::runtime::measure::{self, Rates};
use nestjit::{Compiler, Model, Result, Tensor, TensorView};

/// The node that is timed.
pub const NODE: &str = "measured";

/// What a rate is a share of.
#[derive(Clone, Copy)]
pub enum Work {
    /// Floating-point operations, against the multiply-add rate of a core.
    #[allow(dead_code, reason = "each benchmark counts one or the other")]
    Flops(usize),
    /// Bytes that are read and written once, against the rate at which a core reads memory.
    #[allow(dead_code, reason = "each benchmark counts one or the other")]
    Bytes(usize),
}

/// An operation to measure.
pub struct Case {
    /// What it is, with its shape.
    pub name: String,
    /// A model with it; nests whose names begin with [`NODE`] are timed.
    pub model: Model,
    /// What a run of these nests does.
    pub work: Work,
    /// Passes that are switched off.
    pub without: &'static [&'static str],
}

/// Measures this machine with the widest registers it has, and says what came out.
pub fn measure_machine() -> Result<Rates> {
    let target = MachineModel::host(None)?;
    let machine = measure::measure(target.isa, target.l3_bytes(), 1).rates;
    println!(
        "one core: {:.1} GFLOP/s ({} multiply-adds), reads {:.1} GB/s from memory",
        machine.peak_gflops,
        target.isa.name(),
        machine.read_gbytes
    );
    Ok(machine)
}

/// Measures a case on one thread and on two.
pub fn measure(group: &mut BenchmarkGroup<'_, WallTime>, case: &Case, machine: &Rates) -> Result<()> {
    let amount = match case.work {
        Work::Flops(n) => {
            group.throughput(Throughput::Elements(n as u64));
            n as f64
        }
        Work::Bytes(n) => {
            group.throughput(Throughput::Bytes(n as u64));
            n as f64
        }
    };
    let mut best = [f64::INFINITY; 2];
    for (threads, best) in [1, 2].into_iter().zip(&mut best) {
        let compiler = case.without.iter().fold(Compiler::new(), |c, pass| c.disable_pass(pass));
        let executable = compiler.threads(threads).compile(&case.model)?;
        let inputs: Vec<Tensor> = executable
            .inputs()
            .iter()
            .map(|spec| Tensor::random(spec.dtype, &spec.shape, 1))
            .collect::<Result<_>>()?;
        let views: Vec<TensorView<'_>> = inputs.iter().map(TensorView::from).collect();
        group.bench_function(format!("{}/{threads}", case.name), |b| {
            b.iter_custom(|iterations| {
                let trace = executable.trace(&views, iterations as usize).expect("it runs");
                let timed = trace.nests.iter().map(|name| name.starts_with(NODE));
                let timed: Vec<bool> = timed.collect();
                let total: Duration = trace.whole.iter().filter(|s| timed[s.nest]).map(|s| s.time).sum();
                let nests = timed.iter().filter(|&&t| t).count();
                assert!(nests > 0, "the node has a nest of its own");
                for run in trace.whole.iter().filter(|s| timed[s.nest]).collect::<Vec<_>>().chunks(nests) {
                    *best = best.min(run.iter().map(|s| s.time.as_secs_f64()).sum());
                }
                total
            });
        });
    }
    // Nothing was measured if the name was not asked for.
    if best[0].is_finite() {
        let rate = amount / best[0] / 1e9;
        let (unit, of, limit) = match case.work {
            Work::Flops(_) => ("GFLOP/s", "the multiply-add peak", machine.peak_gflops),
            Work::Bytes(_) => ("GB/s", "the rate of memory", machine.read_gbytes),
        };
        println!(
            "best: {:.1} us, {rate:.1} {unit}, {:.1} % of {of}; 2 threads {:.2}x\n",
            best[0] * 1e6,
            100.0 * rate / limit,
            best[0] / best[1]
        );
    }
    Ok(())
}
