//! Lesson 4: what the first call costs, and the steady state.
//!
//! A JIT compiler makes the first call slow. nestjit says where that time goes: the phases add up to what has
//! passed. `nestjit bench MODEL` does this with statistics, fused and unfused side by side.

use std::time::{Duration, Instant};

use nestjit::graph::Weights;
use nestjit::{Compiler, Model, Result, TensorView};

/// Runs the lesson.
pub fn main() -> Result<()> {
    let model = Model::zoo("lstm_cell")?;
    let executable = Compiler::new().compile(&model)?;
    let t = executable.timings();
    println!("passes  {:>12.1?}", t.all_passes());
    for (pass, time) in &t.passes {
        println!("  {pass:<16}{time:>9.1?}");
    }
    println!("codegen {:>12.1?}", t.codegen);
    println!("pack    {:>12.1?}", t.pack);
    println!("total   {:>12.1?}", t.total);
    assert_eq!(t.all_passes() + t.codegen + t.pack, t.total);

    // Memory is allocated beforehand: a warm run allocates nothing.
    let inputs = executable
        .inputs()
        .iter()
        .map(|spec| Weights::new(1).uniform(&spec.shape, -1.0, 1.0))
        .collect::<Result<Vec<_>>>()?;
    let inputs: Vec<TensorView<'_>> = inputs.iter().map(TensorView::from).collect();
    let mut outputs = executable.allocate_outputs()?;
    let mut timed_run = || -> Result<Duration> {
        let start = Instant::now();
        executable.run_into(&inputs, &mut outputs)?;
        Ok(start.elapsed())
    };
    println!("\nfirst run  {:>9.1?}", timed_run()?);
    let mut times = (0..200).map(|_| timed_run()).collect::<Result<Vec<_>>>()?;
    times.sort();
    println!("steady     {:>9.1?} (median of {})", times[times.len() / 2], times.len());
    Ok(())
}
