//! The subcommands for models that are not one program: a session runs them.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Instant;

use nestjit::graph::Graph;
use nestjit::report::Summary;
use nestjit::report::format::{bytes, ms, name};
use nestjit::report::fusion::Totals;
use nestjit::report::text::table::table;
use nestjit::session::Trace;
use nestjit::{Error, Executable, Item, Model, Result, Session, Tensor};
use serde_json::json;

use super::args::{BenchArgs, Fusion, ModelArgs, PassArgs};
use super::bench::PassTime;
use super::compare::{Allowed, Limits, tolerance};
use super::onnx::Parts;
use super::verdicts::Verdicts;
use super::{Outcome, bench, check, complain, npy, session};

/// Says what should be done about the calls of a session, if anything.
pub(crate) fn remark(s: &Session) {
    if let Some(remark) = s.timings().remark() {
        complain(&remark);
    }
}

/// The programs that a call ran.
fn programs(trace: &Trace) -> impl Iterator<Item = &Executable> {
    trace.parts.iter().filter_map(|part| part.program.as_ref())
}

/// The tensors of outputs with their names: those of sequences are numbered.
pub(crate) fn tensors(parts: &Parts, outputs: &[Item]) -> Vec<(String, Tensor)> {
    let mut tensors = Vec::new();
    for (output, item) in parts.outputs.iter().zip(outputs) {
        if let Item::Tensor(tensor) = item {
            tensors.push((output.clone(), tensor.clone()));
        } else {
            let list = item.tensors().iter().enumerate();
            tensors.extend(list.map(|(i, tensor)| (format!("{output}.{i}"), tensor.clone())));
        }
    }
    tensors
}

/// The programs' text.
pub(crate) fn ir(
    parts: &Parts,
    s: &Session,
    print: impl Fn(&Executable) -> Result<String>,
) -> Result<Outcome> {
    let (_, trace) = s.trace(&parts.inputs)?;
    remark(s);
    let mut text = String::new();
    for (i, executable) in programs(&trace).enumerate() {
        let _ = writeln!(text, "// ==== program {}\n{}", i + 1, print(executable)?.trim_end());
    }
    Ok(text.into())
}

/// Each program on what it was given when it ran first and last, as a model of its own; and the whole model, fused and
/// unfused, against itself with other threads. Between programs rounding may decide how many elements there are: whole
/// outputs are compared with the evaluator of graphs, but only limits that the user gives are required of them.
pub(crate) fn check(
    parts: &Parts,
    passes: &PassArgs,
    expected: &[(String, PathBuf)],
    allowed: Allowed,
) -> Result<Outcome> {
    let outputs = |s: &Session| Ok::<_, Error>(tensors(parts, &s.call_items(&parts.inputs)?.outputs));
    let find = |list: &[(String, Tensor)], output: &str| {
        list.iter().find(|(name, _)| name == output).map(|(_, tensor)| tensor.clone())
    };
    let (of_reference, of_expected) =
        if expected.is_empty() { (allowed, Allowed::default()) } else { (Allowed::default(), allowed) };
    let mut verdicts = Verdicts::default();
    let (_, trace) = parts.session(session::compiler(Some(1), passes, true))?.trace(&parts.inputs)?;
    let programs = trace.parts.iter().filter_map(|part| Some((part, part.graph.as_ref()?)));
    for (number, (part, graph)) in programs.enumerate() {
        let model = Model::from(Graph::clone(graph));
        let runs = [Some(&part.inputs), part.last_inputs.as_ref()];
        for (run, inputs) in ["", "last run, "].iter().zip(runs) {
            let Some(inputs) = inputs else { continue };
            let label = format!("program {}, {run}", number + 1);
            check::program(&mut verdicts, &label, &model, inputs, passes, Allowed::default())?;
        }
    }
    let reference = outputs(&parts.reference()?)?;
    for (what, fusion) in [("fused code", true), ("unfused code", false)] {
        let on = |threads| parts.session(session::compiler(Some(threads), passes, fusion));
        let s = on(1)?;
        let (values, again, on_two) = (outputs(&s)?, outputs(&s)?, outputs(&on(2)?)?);
        remark(&s);
        if values.len() != reference.len() {
            return Err(Error::internal("the evaluator gives another number of outputs"));
        }
        for (output, value) in &values {
            let names = [what, "graph evaluator", output.as_str()];
            let limits = Limits { bounds: &vec![0.0; value.len()], floor: tolerance(value.dtype()) };
            match find(&reference, output) {
                Some(reference) if of_reference.is_given() => {
                    verdicts.near(names, value, &reference, limits, of_reference)?;
                }
                Some(reference) => verdicts.compare(names, value, &reference, limits)?,
                None => verdicts.missing(names),
            }
            for (label, against, other) in
                [("run again", "first run", &again), ("2 threads", "1 thread", &on_two)]
            {
                let label = format!("{what}, {label}");
                let names = [label.as_str(), against, output.as_str()];
                match find(other, output) {
                    Some(other) => verdicts.same(names, value, &other),
                    None => verdicts.missing(names),
                }
            }
        }
        for (output, file) in expected {
            let names = || values.iter().map(|(name, _)| name.as_str());
            let unknown = || Error::unknown_name("output", output, "there is", names());
            let value = find(&values, output).ok_or_else(unknown)?;
            let given = npy::read(file, value.dtype())?;
            let limits = Limits { bounds: &vec![0.0; given.len()], floor: tolerance(value.dtype()) };
            verdicts.near([what, "expected", output], &value, &given, limits, of_expected)?;
        }
    }
    Ok(verdicts.outcome(&parts.path))
}

/// Whole calls, fused and unfused in turns.
pub(crate) fn bench(args: &BenchArgs, parts: &Parts, startup_ms: f64) -> Result<Outcome> {
    let ModelArgs { model, passes: given, .. } = &args.model;
    let wanted: &[bool] = match args.fusion {
        Fusion::Both => &[true, false],
        Fusion::On => &[true],
        Fusion::Off => &[false],
    };
    let threads = args.threads.map(|n| n as usize);
    let mut subjects = Vec::new();
    for fusion in wanted {
        let start = Instant::now();
        let s = parts.session(session::compiler(threads, given, *fusion))?;
        let s = args.cache_limit.into_iter().fold(s, |s, limit| s.cache_limit(limit as usize));
        let load = start.elapsed().as_secs_f64() * 1e3;
        let (call, trace) = s.trace(&parts.inputs)?;
        subjects.push((*fusion, s, load, call, trace, Vec::new()));
    }
    for round in 0..args.warmup + args.iterations {
        for (_, s, .., times) in &mut subjects {
            let time = s.call_items(&parts.inputs)?.total.as_secs_f64() * 1e3;
            if round >= args.warmup {
                times.push(time);
            }
        }
    }
    let mut runs = Vec::new();
    let (mut rows, mut summaries) = (Vec::new(), Vec::new());
    let (mut threads, mut isa) = (1, String::new());
    for (fusion, s, load, call, trace, times) in &subjects {
        remark(s);
        let warm = Summary::of(times).ok_or_else(|| Error::internal("no warm run"))?;
        let (mut kernels, mut temps, mut phases) = (0, 0, [0.0; 3]);
        let mut passes_ms = Vec::new();
        for executable in programs(trace) {
            let (totals, t) = (Totals::of(executable.unit()), executable.timings());
            kernels += totals.kernels;
            temps += totals.temporary_bytes;
            PassTime::add(&mut passes_ms, PassTime::of(t));
            for (sum, phase) in phases.iter_mut().zip([t.all_passes(), t.codegen, t.pack]) {
                *sum += phase.as_secs_f64() * 1e3;
            }
            (threads, isa) = (executable.threads(), executable.target().isa.name().to_owned());
        }
        let [passes, codegen, pack] = phases;
        let total = load + call.total.as_secs_f64() * 1e3;
        // The import is part of the call that needs it.
        let compiling = call.compiled.unwrap_or_default().as_secs_f64() * 1e3;
        let first_run = call.total.as_secs_f64() * 1e3 - compiling;
        let load = total - passes - codegen - pack - first_run;
        let label = if *fusion { "fused" } else { "unfused" };
        rows.push([
            label.to_owned(),
            call.programs.to_string(),
            kernels.to_string(),
            bytes(temps),
            ms(total),
            ms(warm.median),
            ms(warm.min),
        ]);
        summaries.push(warm);
        runs.push(json!({
            "fusion": fusion, "disabled_passes": given.disable_pass, "programs": call.programs, "kernels": kernels, "temp_bytes": temps,
            "cold_ms": { "load": load, "passes": passes, "codegen": codegen, "pack": pack, "first_run": first_run, "total": total },
            "passes_ms": passes_ms, "warm_ms": warm,
        }));
    }
    if args.json {
        let object =
            json!({ "model": model, "threads": threads, "isa": isa, "startup_ms": startup_ms, "runs": runs });
        return Ok((object.to_string() + "\n").into());
    }
    let mut text = format!(
        "model {}   threads {threads}   isa {isa}   several programs: see `nestjit report`\n\n",
        name(model)
    );
    let header = ["", "programs", "kernels", "temporaries", "cold ms", "warm median ms", "min ms"];
    text += &table(header, &[1, 2, 3, 4, 5, 6], rows);
    if let [fused, unfused] = summaries.as_slice() {
        let _ = writeln!(text, "\nfused against unfused: {:.2}x by medians", unfused.median / fused.median);
        text += &bench::slower(fused, unfused).unwrap_or_default();
    }
    Ok(text.into())
}
