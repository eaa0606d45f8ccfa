//! `nestjit check`: does everything that can compute a model compute the same?
//!
//! The reference is the model's plain nests, interpreted in the types of the model: no pass and no code generation has a
//! part in them. It is itself held against the graph evaluator, which shares no code with lowering. How far others
//! may be from it follows from the computation, element by element: see [`nestjit::ir::interp::rounding`].

use std::path::Path;
use std::thread;

use nestjit::compiler::Scheduled;
use nestjit::graph::eval::{Precision, evaluate};
use nestjit::interpret::{Rounded, interpret_rounded};
use nestjit::session::ModelPart;
use nestjit::{
    Compiler, DType, Error, ErrorKind, Executable, Model, Result, Session, Tensor, lower, options,
};

use super::args::CheckArgs;
use super::compare::{Allowed, Limits, bounds, tolerance};
use super::compiler::{FUSION, compiler, fuses, remark_on_plan};
use super::model::{self, LoadedModel};
use super::verdicts::Verdicts;
use super::{Outcome, npy, progress};

/// How far results may be from the reference, in relation to their largest magnitude, where contractions may compute in a lower
/// precision than `f32`: some roundings to 8 bits.
const LOWER_PRECISION: f64 = 1.0 / 16.0;

pub(crate) fn execute(args: &CheckArgs) -> Result<Outcome> {
    let allowed = Allowed { tolerance: args.tolerance, absolute: args.absolute };
    // With expected outputs, limits that are given are about these.
    let (of_reference, of_expected) = match args.expect.as_slice() {
        [] => (allowed, Allowed::default()),
        _ => (Allowed::default(), allowed),
    };
    let passes = &args.model.passes;
    let loaded = LoadedModel::load(&args.model.model, &args.model.given)?;
    let one = compiler(Some(1), passes);
    remark_on_plan(&compiler(Some(args.threads), passes))?;
    let session = loaded.session(one);
    let trace = progress::during("compiling", || session.parts(&loaded.inputs))?;
    model::remark(&session);
    let mut verdicts = Verdicts::default();
    let codes = match trace.whole() {
        Some(part) => program(&mut verdicts, "", part, &part.inputs, args, of_reference)?,
        None => {
            for (number, part) in trace.parts.iter().filter(|part| part.program.is_some()).enumerate() {
                for (run, inputs) in [("", Some(&part.inputs)), ("last run, ", part.last_inputs.as_ref())] {
                    let Some(inputs) = inputs else { continue };
                    let label = format!("program {}, {run}", number + 1);
                    program(&mut verdicts, &label, part, inputs, args, Allowed::default())?;
                }
            }
            calls(&mut verdicts, &loaded, args, of_reference)?
        }
    };
    for named in &args.expect {
        let (output, file) = named.split(codes[0].outputs.iter().map(|(name, _)| name.as_str()));
        let expected = expectation(output, file, &codes[0].outputs)?;
        for CheckedCode { what, bounds, outputs } in &codes {
            let Some(at) = outputs.iter().position(|(name, _)| name == output) else {
                verdicts.missing([what, "expected", output]);
                continue;
            };
            let value = &outputs[at].1;
            let against = if expected.dtype() == value.dtype() { "expected" } else { "expected, f64" };
            let limits = Limits { bounds: &bounds[at], floor: tolerance(value.dtype()) };
            verdicts.expected([what, against, output], value, &expected, limits, of_expected)?;
        }
    }
    verdicts.outcome(loaded.model.name(), args.json)
}

/// What compiled code computes.
struct CheckedCode {
    /// What it is.
    what: String,
    /// For each output and element, how far it may be from what somebody expects.
    bounds: Vec<Vec<f64>>,
    outputs: Vec<(String, Tensor)>,
}

/// The expected values of an output. Those of an `f32` output may be `f64`: a reference that is more exact.
fn expectation(output: &str, file: &Path, outputs: &[(String, Tensor)]) -> Result<Tensor> {
    let names = || outputs.iter().map(|(name, _)| name.as_str());
    let Some((_, value)) = outputs.iter().find(|(name, _)| name == output) else {
        return Err(Error::unknown_name("output", output, "there is", names()));
    };
    let tensor = match npy::read(file, value.dtype()) {
        Err(e) if value.dtype() == DType::F32 && e.kind() == ErrorKind::Shape => {
            npy::read(file, DType::F64).map_err(|_| e)?
        }
        read => read?,
    };
    npy::expect_shape(file, &tensor, &format!("output '{}'", output.escape_debug()), value.shape())?;
    Ok(tensor)
}

/// Fused and unfused calls of a model that is several programs, against the same with other threads. Between programs rounding
/// may decide how many elements there are: outputs are compared with the evaluator of graphs, but only limits that the
/// user gives are required of them.
fn calls(
    verdicts: &mut Verdicts,
    loaded: &LoadedModel,
    args: &CheckArgs,
    allowed: Allowed,
) -> Result<Vec<CheckedCode>> {
    let outputs = |s: &Session| Ok::<_, Error>(loaded.named(s.call_items(&loaded.inputs)?.outputs));
    let reference = outputs(&loaded.reference())?;
    let several = threads(args);
    let mut codes = Vec::new();
    for (what, [one, two]) in compilers(args)? {
        let s = loaded.session(one);
        let (values, again, parallel) = (outputs(&s)?, outputs(&s)?, outputs(&loaded.session(two))?);
        model::remark(&s);
        if values.len() != reference.len() {
            return Err(Error::internal("the evaluator gives another number of outputs"));
        }
        for (i, (output, value)) in values.iter().enumerate() {
            let names = [what, "graph evaluator", output.as_str()];
            let limits = Limits { bounds: &vec![0.0; value.len()], floor: tolerance(value.dtype()) };
            match allowed.is_given() {
                true => verdicts.near(names, value, &reference[i].1, limits, allowed)?,
                false => verdicts.compare(names, value, &reference[i].1, limits)?,
            }
            for (label, against, others) in
                [("run again", "first run", &again), (&several, "1 thread", &parallel)]
            {
                let label = format!("{what}, {label}");
                let names = [label.as_str(), against, output.as_str()];
                match others.get(i) {
                    Some((_, other)) => verdicts.same(names, value, other),
                    None => verdicts.missing(names),
                }
            }
        }
        let bounds = values.iter().map(|(_, value)| vec![0.0; value.len()]).collect();
        codes.push(CheckedCode { what: what.to_owned(), bounds, outputs: values });
    }
    Ok(codes)
}

/// What is compared: fused code, unless that is switched off, and unfused code; each on one thread and on several, whose
/// results must not differ by a bit.
fn compilers(args: &CheckArgs) -> Result<Vec<(&'static str, [Compiler; 2])>> {
    let compilers = [1, args.threads].map(|threads| compiler(Some(threads), &args.model.passes));
    let unfused = ("unfused code", compilers.clone().map(|compiler| compiler.disable_pass(FUSION)));
    Ok(match fuses(&compilers[0])? {
        true => vec![("fused code", compilers), unfused],
        false => vec![unfused],
    })
}

/// The number of threads that one is compared with.
fn threads(args: &CheckArgs) -> String {
    format!("{} thread{}", args.threads, if args.threads == 1 { "" } else { "s" })
}

/// Adds what everything that can compute a program makes of it; `label` goes before what it is.
fn program(
    verdicts: &mut Verdicts,
    label: &str,
    part: &ModelPart,
    inputs: &[Tensor],
    args: &CheckArgs,
    allowed: Allowed,
) -> Result<Vec<CheckedCode>> {
    let graph = part.graph.as_deref().ok_or_else(|| Error::internal("a program without its graph"))?;
    let model = &Model::from(graph.clone());
    let names: Vec<&str> = graph.outputs.iter().map(|id| graph.value(*id).name.as_str()).collect();
    let mut executables = Vec::new();
    for (what, [one, several]) in compilers(args)? {
        // The first one is what compiled the part.
        let compiled = part.program.as_ref().filter(|_| executables.is_empty()).cloned();
        let on_one = compiled.map_or_else(|| one.compile(model), Ok)?;
        executables.push((what, on_one, several.compile(model)?));
    }
    let interpreted = || References::of(model, &executables, inputs);
    let References { plain, transformed } = progress::during("interpreting", interpreted)?;
    // Constants that are rounded to `bf16` are no part of the error analysis.
    let lower = executables.iter().any(|(_, e, _)| e.options().precision == options::Precision::Bf16);
    let floor = if lower { LOWER_PRECISION } else { 0.0 };
    let bounds = |transformed: &[Rounded]| -> Vec<Vec<f64>> {
        plain.iter().zip(transformed).map(|(p, t)| bounds(p, t)).collect()
    };
    let near = |verdicts: &mut Verdicts, what: &str, values: &[&Tensor], bounds: &[Vec<f64>]| {
        for (i, value) in values.iter().enumerate() {
            let limits = Limits { bounds: &bounds[i], floor };
            verdicts.near([what, "reference", names[i]], value, &plain[i].value, limits, allowed)?;
        }
        Ok::<_, Error>(())
    };
    let evaluated = progress::during("evaluating", || evaluate(graph, inputs, Precision::F32))?;
    near(
        verdicts,
        &format!("{label}graph evaluator"),
        &evaluated.iter().collect::<Vec<_>>(),
        &bounds(&plain),
    )?;
    let several = threads(args);
    let mut codes = Vec::new();
    for ((what, on_one, on_two), transformed) in executables.into_iter().zip(&transformed) {
        let (what, bounds) = (format!("{label}{what}"), bounds(transformed));
        let interpreted: Vec<&Tensor> = transformed.iter().map(|rounded| &rounded.value).collect();
        near(verdicts, &format!("{what}, interpreted"), &interpreted, &bounds)?;
        let outputs = on_one.run(inputs)?;
        near(verdicts, &what, &outputs.iter().collect::<Vec<_>>(), &bounds)?;
        let (parallel, again) = (on_two.run(inputs)?, on_one.run(inputs)?);
        for (i, output) in outputs.iter().enumerate() {
            verdicts.same([&format!("{what}, {several}"), "1 thread", names[i]], &parallel[i], output);
            verdicts.same([&format!("{what}, run again"), "first run", names[i]], &again[i], output);
        }
        let outputs = names.iter().map(|name| (*name).to_owned()).zip(outputs).collect();
        // That passes round differently is no reason why an integer is not the one that is expected: a neighbouring class.
        let expected = |(bounds, plain): (Vec<f64>, &Rounded)| match plain.value.dtype().is_float() {
            true => bounds,
            false => super::compare::bounds(plain, plain),
        };
        let bounds = bounds.into_iter().zip(&plain).map(expected).collect();
        codes.push(CheckedCode { what, bounds, outputs });
    }
    Ok(codes)
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
