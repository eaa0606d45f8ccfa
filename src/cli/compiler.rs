//! The compiler that the options of a command ask for.

use nestjit::{Compiler, DType, Executable, GraphBuilder, Model, Precision, Result, RowRings, Tensor};

use super::args::{PassArgs, PrecisionArg, Rings};
use super::complain;

/// The pass that merges nests; some commands compile without it for comparison.
pub(crate) const FUSION: &str = "OpFusion";

/// The compiler for these options; what they leave open, the environment decides.
pub(crate) fn compiler(threads: Option<usize>, passes: &PassArgs) -> Compiler {
    let mut compiler = Compiler::new().row_rings(match passes.row_rings {
        Rings::Auto => RowRings::Auto,
        Rings::On => RowRings::On,
        Rings::Off => RowRings::Off,
    });
    if let Some(precision) = passes.precision {
        compiler = compiler.precision(match precision {
            PrecisionArg::F32 => Precision::F32,
            PrecisionArg::Bf16 => Precision::Bf16,
            PrecisionArg::F16 => Precision::F16,
        });
    }
    if let Some(threads) = threads {
        compiler = compiler.threads(threads);
    }
    compiler.disable_passes(&passes.disable_pass)
}

/// Whether it merges nests, or the pass that does is switched off.
///
/// # Errors
/// If the options make no sense.
pub(crate) fn fuses(compiler: &Compiler) -> Result<bool> {
    Ok(!compiler.options()?.disabled_passes.iter().any(|pass| pass == FUSION))
}

/// Says so if another machine than this one is planned for.
///
/// # Errors
/// If the options make no sense.
pub(crate) fn remark_on_plan(compiler: &Compiler) -> Result<()> {
    if compiler.options()?.machine.is_some() {
        let (machine, threads) = compiler.target()?;
        let plural = if threads == 1 { "thread" } else { "threads" };
        complain(&format!(
            "planned for the machine '{}' of {} cores and for {threads} {plural}; code is {} code all the same, and what \
             is run or measured is this machine",
            machine.name.escape_debug(),
            machine.cores,
            std::env::consts::ARCH
        ));
    }
    Ok(())
}

/// Says so if more threads are planned for than can run here at once.
///
/// # Errors
/// If the options make no sense.
pub(crate) fn remark_on_threads(compiler: &Compiler) -> Result<()> {
    let (_, threads) = compiler.target()?;
    let cpus = std::thread::available_parallelism().map_or(threads, usize::from);
    if threads > cpus {
        complain(&format!(
            "{threads} threads are planned for, of which {cpus} run at once: there are no more CPUs here"
        ));
    }
    Ok(())
}

/// Compiles and runs a trivial model: what the first compilation of a process pays for once happens here.
pub(crate) fn warm_up_compiler(compiler: &Compiler) -> Result<Executable> {
    let mut g = GraphBuilder::new("warm-up");
    let x = g.input("x", DType::F32, &[1]);
    let y = g.relu(x);
    g.output("y", y);
    let executable = compiler.compile(&Model::from(g.build()?))?;
    executable.run(&[Tensor::new(&[1], &[1.0f32])?])?;
    Ok(executable)
}
