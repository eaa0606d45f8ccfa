//! `nestjit check`: does everything that can compute a model compute the same?
//!
//! The reference is the model's plain nests, interpreted in the types of the model: no pass and no code generation has a
//! part in them. It is itself held against the graph evaluator, which shares no code with lowering. How far others
//! may be from it follows from the computation, element by element: see [`nestjit::ir::interp::rounding`].

use std::thread;

use nestjit::compiler::Scheduled;
use nestjit::graph::eval::{Precision, evaluate};
use nestjit::interpret::{Rounded, interpret_rounded};
use nestjit::{Compiler, Error, Executable, Model, Result, Tensor, lower, options};

use super::args::{CheckArgs, PassArgs};
use super::compare::{Allowed, Limits, bounds, tolerance};
use super::onnx::{self, Loaded};
use super::session::FUSION;
use super::verdicts::Verdicts;
use super::{Outcome, parts, session};

/// How far results may be from the reference, in relation to their largest magnitude, where contractions may compute in a lower
/// precision than `f32`: some roundings to 8 bits.
const LOWER_PRECISION: f64 = 1.0 / 16.0;

/// The number of threads whose results must not differ by a bit.
const THREADS: [usize; 2] = [1, 2];

pub(crate) fn execute(args: &CheckArgs) -> Result<Outcome> {
    let allowed = Allowed { tolerance: args.tolerance, absolute: args.absolute };
    let model = match onnx::load(&args.model.model, &args.model.given)? {
        Loaded::Graph(model) => model,
        Loaded::Parts(parts) => return parts::check(&parts, &args.model.passes, &args.expect, allowed),
    };
    let (inputs, _) = session::inputs(&model, &args.model.given.inputs)?;
    let outputs = session::outputs_of(&model);
    let expected = session::expectations(&args.expect, &outputs)?;
    // With expected outputs, limits that are given are about these.
    let (of_reference, of_expected) =
        if expected.is_empty() { (allowed, Allowed::default()) } else { (Allowed::default(), allowed) };
    let mut verdicts = Verdicts::default();
    let checked = program(&mut verdicts, "", &model, &inputs, &args.model.passes, of_reference)?;
    for Code { what, bounds, outputs } in &checked.codes {
        for (i, given) in &expected {
            let output = &outputs[*i];
            let against = if given.dtype() == output.dtype() { "expected" } else { "expected, f64" };
            let limits = Limits { bounds: &bounds[*i], floor: tolerance(output.dtype()) };
            verdicts.near([what, against, &checked.names[*i]], output, given, limits, of_expected)?;
        }
    }
    Ok(verdicts.outcome(&model.graph.name))
}

/// What was found out about a program.
pub(super) struct Checked {
    /// The names of the outputs.
    names: Vec<String>,
    /// Fused and unfused code.
    codes: Vec<Code>,
}

/// What compiled code computes.
struct Code {
    /// What it is.
    what: String,
    /// For each output and element, how far it may be from the reference.
    bounds: Vec<Vec<f64>>,
    outputs: Vec<Tensor>,
}

/// Adds what everything that can compute a model that is one program makes of it; `label` goes before what it is.
pub(super) fn program(
    verdicts: &mut Verdicts,
    label: &str,
    model: &Model,
    inputs: &[Tensor],
    passes: &PassArgs,
    allowed: Allowed,
) -> Result<Checked> {
    let names: Vec<String> = session::outputs_of(model).into_iter().map(|output| output.name).collect();
    let on = |threads, fusion| session::compile(model, Some(threads), passes, fusion);
    let [one, two] = THREADS;
    let with_fusion = on(one, true)?;
    let fuses = !with_fusion.options().disabled_passes.iter().any(|pass| pass == FUSION);

    let mut executables =
        vec![(if fuses { "fused code" } else { "unfused code" }, with_fusion, on(two, true)?)];
    if fuses {
        executables.push(("unfused code", on(one, false)?, on(two, false)?));
    }
    let References { plain, transformed } = References::of(model, &executables, inputs)?;
    // Constants that are rounded to `bf16` are no part of the error analysis.
    let lower = executables.iter().any(|(_, e, _)| e.options().precision == options::Precision::Bf16);
    let floor = if lower { LOWER_PRECISION } else { 0.0 };
    let bounds = |transformed: &[Rounded]| -> Vec<Vec<f64>> {
        plain.iter().zip(transformed).map(|(p, t)| bounds(p, t)).collect()
    };
    let near = |verdicts: &mut Verdicts, what: &str, values: &[&Tensor], bounds: &[Vec<f64>]| {
        for (i, value) in values.iter().enumerate() {
            let limits = Limits { bounds: &bounds[i], floor };
            verdicts.near([what, "reference", &names[i]], value, &plain[i].value, limits, allowed)?;
        }
        Ok::<_, Error>(())
    };
    let evaluated = evaluate(&model.graph, inputs, Precision::F32)?;
    near(
        verdicts,
        &format!("{label}graph evaluator"),
        &evaluated.iter().collect::<Vec<_>>(),
        &bounds(&plain),
    )?;
    let mut codes = Vec::new();
    for ((what, on_one, on_two), transformed) in executables.into_iter().zip(&transformed) {
        let (what, bounds) = (format!("{label}{what}"), bounds(transformed));
        let interpreted: Vec<&Tensor> = transformed.iter().map(|rounded| &rounded.value).collect();
        near(verdicts, &format!("{what}, interpreted"), &interpreted, &bounds)?;
        let outputs = on_one.run(inputs)?;
        near(verdicts, &what, &outputs.iter().collect::<Vec<_>>(), &bounds)?;
        let (parallel, again) = (on_two.run(inputs)?, on_one.run(inputs)?);
        for (i, output) in outputs.iter().enumerate() {
            verdicts.same([&format!("{what}, 2 threads"), "1 thread", &names[i]], &parallel[i], output);
            verdicts.same([&format!("{what}, run again"), "first run", &names[i]], &again[i], output);
        }
        codes.push(Code { what, bounds, outputs });
    }
    Ok(Checked { names, codes })
}

/// What interpreters make of a model.
struct References {
    /// The plain nests.
    plain: Vec<Rounded>,
    /// For each executable, the nests after all passes.
    transformed: Vec<Vec<Rounded>>,
}

impl References {
    /// Interprets all at once, since all are slow.
    fn of(
        model: &Model,
        executables: &[(&str, Executable, Executable)],
        inputs: &[Tensor],
    ) -> Result<References> {
        let plain = lower::lower(&model.graph)?;
        let scheduled = executables.iter().map(|(_, executable, _)| transformed(model, executable));
        let scheduled = scheduled.collect::<Result<Vec<_>>>()?;
        thread::scope(|scope| {
            let start = |unit| {
                (unit, thread::Builder::new().spawn_scoped(scope, move || interpret_rounded(unit, inputs)))
            };
            let running: Vec<_> = scheduled.iter().map(Scheduled::unit).map(start).collect();
            let plain = interpret_rounded(&plain, inputs)?;
            let joined = running.into_iter().map(|(unit, thread)| match thread {
                Ok(thread) => thread.join().map_err(|_| Error::internal("the interpreter panicked"))?,
                // There was no thread left.
                Err(_) => interpret_rounded(unit, inputs),
            });
            Ok(References { plain, transformed: joined.collect::<Result<_>>()? })
        })
    }
}

/// The program that an executable was generated from, with its constants, which the executable no longer has.
fn transformed(model: &Model, executable: &Executable) -> Result<Scheduled> {
    Compiler::with_options(executable.options().clone()).threads(executable.threads()).schedule(model)
}
