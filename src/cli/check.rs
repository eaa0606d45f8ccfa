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
use nestjit::{Error, Executable, Model, Result, Tensor, lower};

use super::args::CheckArgs;
use super::compare::{difference, tolerance};
use super::{Outcome, session};

/// The number of threads whose results must not differ by a bit.
const THREADS: [usize; 2] = [1, 2];

/// The lines of the table, and whether all is well so far.
#[derive(Default)]
struct Verdicts {
    rows: Vec<[String; 6]>,
    failures: usize,
}

pub(crate) fn execute(args: &CheckArgs) -> Result<Outcome> {
    let model = session::load(&args.model.model)?;
    let (inputs, _) = session::inputs(&model, &args.input)?;
    let expected = session::named_tensors(&args.expect, "output", &session::outputs_of(&model))?;
    let compile = |fusion, threads| session::compile(&model, Some(threads), &args.model.disable_pass, fusion);
    let (fused, fused_on_two) = (compile(true, THREADS[0])?, compile(true, THREADS[1])?);
    let (unfused, unfused_on_two) = (compile(false, THREADS[0])?, compile(false, THREADS[1])?);

    let (reference, exact) = interpretations(&model, &fused, &inputs)?;
    let mut verdicts = Verdicts::default();
    let names: Vec<String> = session::outputs_of(&model).into_iter().map(|port| port.name).collect();
    let mut near =
        |what: &str, values: &[Tensor]| verdicts.near(what, "f64 reference", &names, values, &reference);
    near("graph evaluator, f64", &evaluate(&model.graph, &inputs, Precision::F64)?)?;
    near("interpreter, f32, after all passes", &exact)?;
    let outputs = fused.run(&inputs)?;
    near("fused code", &outputs)?;
    let unfused_outputs = unfused.run(&inputs)?;
    near("unfused code", &unfused_outputs)?;
    verdicts.same("fused, 2 threads", "1 thread", &names, &fused_on_two.run(&inputs)?, &outputs);
    verdicts.same("fused, second run", "first run", &names, &fused.run(&inputs)?, &outputs);
    let two = unfused_on_two.run(&inputs)?;
    verdicts.same("unfused, 2 threads", "1 thread", &names, &two, &unfused_outputs);
    for ((name, given), output) in names.iter().zip(&expected).zip(&outputs) {
        if let Some(given) = given {
            let (name, given, output) = (name.clone(), given.clone(), output.clone());
            verdicts.near("fused code", "expected", &[name], &[output], &[given])?;
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
    let context = PassContext { target: executable.target(), threads: executable.threads() };
    let mut passes = PassManager::new(executable.options(), context)?;
    let mut graph = model.graph.clone();
    let mut laps = Laps::start();
    passes.run_graph_passes(&mut graph, &mut laps)?;
    let mut unit = lower::lower(&graph)?;
    passes.run_nest_passes(&mut unit, Stage::Lowered, &mut laps)?;
    Ok(unit)
}

impl Verdicts {
    /// Values must be within the tolerance of their type.
    fn near(
        &mut self,
        what: &str,
        against: &str,
        names: &[String],
        values: &[Tensor],
        reference: &[Tensor],
    ) -> Result<()> {
        for ((output, value), reference) in names.iter().zip(values).zip(reference) {
            let d = difference(&session::to_f64(value)?, &session::to_f64(reference)?);
            let limit = tolerance(value.dtype());
            let holds = value.shape() == reference.shape() && d.relative <= limit;
            let numbers = [format!("{:.2e}", d.max_abs), format!("{:.2e}", d.relative)];
            self.add(what, against, output, numbers, &format!("<= {limit:.0e}"), holds);
        }
        Ok(())
    }

    /// Values must be the same, bit for bit.
    fn same(&mut self, what: &str, against: &str, names: &[String], values: &[Tensor], reference: &[Tensor]) {
        for ((output, value), reference) in names.iter().zip(values).zip(reference) {
            let numbers = [String::new(), String::new()];
            self.add(what, against, output, numbers, "same bits", value == reference);
        }
    }

    fn add(
        &mut self,
        what: &str,
        against: &str,
        output: &str,
        numbers: [String; 2],
        rule: &str,
        holds: bool,
    ) {
        let [max_abs, relative] = numbers;
        let verdict = if holds { rule.to_owned() } else { format!("{rule} FAILED") };
        self.failures += usize::from(!holds);
        self.rows.push([what.to_owned(), against.to_owned(), name(output), max_abs, relative, verdict]);
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
