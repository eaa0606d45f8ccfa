//! The subcommands for models that are not one program: a session runs them.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Instant;

use nestjit::report::Summary;
use nestjit::report::format::{bytes, ms, name, table};
use nestjit::report::fusion::Totals;
use nestjit::session::Trace;
use nestjit::{Error, Executable, Item, Result, Session, Tensor};
use serde_json::json;

use super::args::{BenchArgs, Fusion, ModelArgs, PassArgs};
use super::compare::{difference, tolerance};
use super::onnx::Parts;
use super::{Outcome, complain, npy, session};

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
        match item {
            Item::Tensor(tensor) => tensors.push((output.clone(), tensor.clone())),
            Item::Sequence(list) => {
                let numbered = list.iter().enumerate().map(|(i, t)| (format!("{output}.{i}"), t.clone()));
                tensors.extend(numbered);
            }
            Item::Absent => {}
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

/// A table of comparisons.
#[derive(Default)]
struct Comparisons {
    rows: Vec<[String; 6]>,
    failures: usize,
}

impl Comparisons {
    /// A value must be within `limit` of another one, or the same.
    fn add(
        &mut self,
        [what, against]: [&str; 2],
        (output, value): (&str, &Tensor),
        other: Option<&Tensor>,
        limit: Option<f64>,
    ) -> Result<()> {
        let (mut holds, mut numbers) = (false, [String::new(), String::new()]);
        if let Some(other) = other {
            let d = difference(&session::to_f64(value)?, &session::to_f64(other)?);
            let close = limit.map_or(value == other, |limit| d.relative <= limit);
            holds = value.shape() == other.shape() && close;
            numbers = [format!("{:.2e}", d.max_abs), format!("{:.2e}", d.relative)];
        }
        let rule = limit.map_or("same bits".to_owned(), |limit| format!("<= {limit:.0e}"));
        self.failures += usize::from(!holds);
        let verdict = if holds { rule } else { format!("{rule} FAILED") };
        let [max_abs, relative] = numbers;
        self.rows.push([what.to_owned(), against.to_owned(), name(output), max_abs, relative, verdict]);
        Ok(())
    }
}

/// Compiled code, fused and unfused, against the evaluator of graphs, and against itself with other threads.
pub(crate) fn check(
    parts: &Parts,
    passes: &PassArgs,
    expected: &[(String, PathBuf)],
    limit: Option<f64>,
) -> Result<Outcome> {
    let outputs = |s: &Session| Ok::<_, Error>(tensors(parts, &s.call_items(&parts.inputs)?.outputs));
    let find = |list: &[(String, Tensor)], output: &str| {
        list.iter().find(|(name, _)| name == output).map(|(_, tensor)| tensor.clone())
    };
    let reference = outputs(&parts.reference()?)?;
    let mut table_of = Comparisons::default();
    for (what, fusion) in [("fused code", true), ("unfused code", false)] {
        let on = |threads| parts.session(session::compiler(Some(threads), passes, fusion));
        let s = on(1)?;
        let (values, again, on_two) = (outputs(&s)?, outputs(&s)?, outputs(&on(2)?)?);
        remark(&s);
        if values.len() != reference.len() {
            return Err(Error::internal("the evaluator gives another number of outputs"));
        }
        for (output, value) in &values {
            let near = Some(tolerance(value.dtype()));
            let value = (output.as_str(), value);
            table_of.add([what, "graph evaluator"], value, find(&reference, output).as_ref(), near)?;
            let label = format!("{what}, run again");
            table_of.add([&label, "first run"], value, find(&again, output).as_ref(), None)?;
            let label = format!("{what}, 2 threads");
            table_of.add([&label, "1 thread"], value, find(&on_two, output).as_ref(), None)?;
        }
        for (output, file) in expected {
            let value = find(&values, output)
                .ok_or_else(|| Error::usage(format!("there is no output '{}'", output.escape_debug())))?;
            let given = npy::read(file, value.dtype())?;
            let near = limit.unwrap_or_else(|| tolerance(value.dtype()));
            table_of.add([what, "expected"], (output, &value), Some(&given), Some(near))?;
        }
    }
    let Comparisons { rows, failures } = table_of;
    let checks = rows.len();
    let mut text = format!("model {}\n", name(&parts.path));
    text += &table(["", "against", "output", "max abs", "max rel", "required"], &[3, 4], rows);
    text += "max rel: the largest difference divided by the largest magnitude of the output\n";
    text += &match failures {
        0 => format!("PASSED: {checks} comparisons\n"),
        n => format!("FAILED: {n} of {checks} comparisons\n"),
    };
    Ok(Outcome { text, passed: failures == 0 })
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
    let (mut rows, mut medians) = (Vec::new(), Vec::new());
    let (mut threads, mut isa) = (1, String::new());
    for (fusion, s, load, call, trace, times) in &subjects {
        remark(s);
        let warm = Summary::of(times).ok_or_else(|| Error::internal("no warm run"))?;
        let (mut kernels, mut temps, mut phases) = (0, 0, [0.0; 3]);
        for executable in programs(trace) {
            let (totals, t) = (Totals::of(executable.unit()), executable.timings());
            kernels += totals.kernels;
            temps += totals.temporary_bytes;
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
        medians.push(warm.median);
        runs.push(json!({
            "fusion": fusion, "disabled_passes": given.disable_pass, "programs": call.programs, "kernels": kernels, "temp_bytes": temps,
            "cold_ms": { "load": load, "passes": passes, "codegen": codegen, "pack": pack, "first_run": first_run, "total": total },
            "warm_ms": warm,
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
    if let [fused, unfused] = medians.as_slice() {
        let _ = writeln!(text, "\nfused against unfused: {:.2}x by medians", unfused / fused);
    }
    Ok(text.into())
}
