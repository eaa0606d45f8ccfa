//! `nestjit check`: does everything that can compute a model compute the same?
//!
//! The reference is the model's plain nests, interpreted in `f64`: no pass and no code generation has a part
//! in them. It is itself held against the graph evaluator, which shares no code with lowering.

use std::thread;

use nestjit::graph::eval::{Precision, evaluate};
use nestjit::interpret::interpret;
use nestjit::ir::interp::Mode;
use nestjit::ir::verify::Stage;
use nestjit::laps::Laps;
use nestjit::passes::{PassContext, PassManager};
use nestjit::report::format::{name, table};
use nestjit::unit::Unit;
use nestjit::{DType, Error, Executable, Model, Result, Tensor, TensorSpec, lower};

use super::args::CheckArgs;
use super::compare::{difference, tolerance, tolerance_of_reference};
use super::onnx::{self, Loaded};
use super::session::FUSION;
use super::{Outcome, parts, session};

/// The number of threads whose results must not differ by a bit.
const THREADS: [usize; 2] = [1, 2];

/// The lines of the table, and how many of them are failures.
#[derive(Default)]
struct Verdicts {
    outputs: Vec<TensorSpec>,
    rows: Vec<[String; 6]>,
    failures: usize,
}

pub(crate) fn execute(args: &CheckArgs) -> Result<Outcome> {
    let model = match onnx::load(&args.model.model, &args.model.dim, &args.input)? {
        Loaded::Graph(model) => model,
        Loaded::Parts(parts) => {
            return parts::check(&parts, &args.model.passes, &args.expect, args.tolerance);
        }
    };
    let (inputs, _) = session::inputs(&model, &args.input)?;
    let outputs = session::outputs_of(&model);
    let expected = session::expectations(&args.expect, &outputs)?;
    let on = |threads, fusion| session::compile(&model, Some(threads), &args.model.passes, fusion);
    let [one, two] = THREADS;
    let with_fusion = on(one, true)?;
    let fuses = !with_fusion.options().disabled_passes.iter().any(|pass| pass == FUSION);

    let (reference, exact) = interpretations(&model, &with_fusion, &inputs)?;
    let mut verdicts = Verdicts { outputs, ..Verdicts::default() };
    let evaluated = evaluate(&model.graph, &inputs, Precision::F64)?;
    let depth = model.graph.depth();
    verdicts
        .near("graph evaluator, f64", &evaluated, &reference, |dtype| tolerance_of_reference(dtype, depth))?;
    verdicts.near("interpreter, f32, after all passes", &exact, &reference, tolerance)?;
    let mut codes = vec![(if fuses { "fused code" } else { "unfused code" }, with_fusion, on(two, true)?)];
    if fuses {
        codes.push(("unfused code", on(one, false)?, on(two, false)?));
    }
    for (what, on_one, on_two) in &codes {
        let outputs = on_one.run(&inputs)?;
        verdicts.near(what, &outputs, &reference, tolerance)?;
        verdicts.same(&format!("{what}, 2 threads"), "1 thread", &on_two.run(&inputs)?, &outputs);
        verdicts.same(&format!("{what}, run again"), "first run", &on_one.run(&inputs)?, &outputs);
        for (output, given) in &expected {
            let limit = args.tolerance.unwrap_or_else(|| tolerance(outputs[*output].dtype()));
            let against =
                if given.dtype() == outputs[*output].dtype() { "expected" } else { "expected, f64" };
            verdicts.near_one(what, against, *output, &outputs[*output], given, limit)?;
        }
    }
    Ok(verdicts.outcome(&model.graph.name))
}

/// The plain nests in `f64`, and the nests after all passes as they are written: at once, since both are slow.
fn interpretations(
    model: &Model,
    fused: &Executable,
    inputs: &[Tensor],
) -> Result<(Vec<Tensor>, Vec<Tensor>)> {
    let plain = lower::lower(&model.graph)?;
    let transformed = transformed(model, fused)?;
    thread::scope(|scope| {
        let exact = scope.spawn(|| interpret(&transformed, inputs, Mode::Exact));
        let reference = interpret(&plain, inputs, Mode::F64)?;
        let exact = exact.join().map_err(|_| Error::internal("the interpreter panicked"))??;
        Ok((reference, exact))
    })
}

/// The unit that an executable was generated from, with its constants, which the executable no longer has.
fn transformed(model: &Model, executable: &Executable) -> Result<Unit> {
    let context = PassContext {
        target: executable.target(),
        threads: executable.threads(),
        fusion: executable.options().fusion,
        row_rings: executable.options().row_rings,
        winograd: true,
    };
    let mut passes = PassManager::new(executable.options(), context)?;
    let mut graph = model.graph.clone();
    let mut laps = Laps::start();
    passes.run_graph_passes(&mut graph, &mut laps)?;
    let mut unit = lower::lower(&graph)?;
    passes.run_nest_passes(&mut unit, Stage::Lowered, &mut laps)?;
    Ok(unit)
}

impl Verdicts {
    /// All outputs must be close to the reference.
    fn near(
        &mut self,
        what: &str,
        values: &[Tensor],
        reference: &[Tensor],
        tolerance: impl Fn(DType) -> f64,
    ) -> Result<()> {
        for (output, (value, reference)) in values.iter().zip(reference).enumerate() {
            let limit = tolerance(self.outputs[output].dtype);
            self.near_one(what, "f64 reference", output, value, reference, limit)?;
        }
        Ok(())
    }

    /// An output must be within this limit, relative to the largest magnitude.
    fn near_one(
        &mut self,
        what: &str,
        against: &str,
        output: usize,
        value: &Tensor,
        reference: &Tensor,
        limit: f64,
    ) -> Result<()> {
        let d = difference(&session::to_f64(value)?, &session::to_f64(reference)?);
        let holds = value.shape() == reference.shape() && d.relative <= limit;
        let numbers = [format!("{:.2e}", d.max_abs), format!("{:.2e}", d.relative)];
        self.add(what, against, output, numbers, &format!("<= {limit:.1e}"), holds);
        Ok(())
    }

    /// All outputs must be the same, bit for bit.
    fn same(&mut self, what: &str, against: &str, values: &[Tensor], reference: &[Tensor]) {
        for (output, (value, reference)) in values.iter().zip(reference).enumerate() {
            let numbers = [String::new(), String::new()];
            self.add(what, against, output, numbers, "same bits", value == reference);
        }
    }

    fn add(
        &mut self,
        what: &str,
        against: &str,
        output: usize,
        [max_abs, relative]: [String; 2],
        rule: &str,
        holds: bool,
    ) {
        let verdict = if holds { rule.to_owned() } else { format!("{rule} FAILED") };
        self.failures += usize::from(!holds);
        let output = name(&self.outputs[output].name);
        self.rows.push([what.to_owned(), against.to_owned(), output, max_abs, relative, verdict]);
    }

    fn outcome(self, model: &str) -> Outcome {
        let checks = self.rows.len();
        let header = ["", "against", "output", "max abs", "max rel", "required"];
        let mut text = format!("model {}\n", name(model));
        text += &table(header, &[3, 4], self.rows);
        text += "max rel: the largest difference divided by the largest magnitude of the output\n";
        text += &match self.failures {
            0 => format!("PASSED: {checks} comparisons\n"),
            n => format!("FAILED: {n} of {checks} comparisons\n"),
        };
        Outcome { text, passed: self.failures == 0 }
    }
}
