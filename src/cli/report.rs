//! `nestjit report`: what was fused, what was not and why, and what that brought.

use std::fs;
use std::path::Path;

use nestjit::report::compare::{self, Extent, Variant};
use nestjit::report::{FusionReport, Roofline, format, page, trace};
use nestjit::runtime::machine;
use nestjit::{Compiler, Error, Executable, Fusion, Model, Result, TensorView};
use serde::Serialize;

use super::args::ReportArgs;
use super::onnx::{self, Loaded};
use super::session::{self, FUSION};
use super::{Outcome, npy, parts};

/// What `--json` prints.
#[derive(Serialize)]
struct Reports<'r> {
    models: &'r [FusionReport],
}

pub(crate) fn execute(args: &ReportArgs) -> Result<Outcome> {
    let files = [("--html", &args.html), ("--dot", &args.dot), ("--trace", &args.trace)];
    if let (Some((option, _)), 2..) = (files.iter().find(|f| f.1.is_some()), args.models.len()) {
        return Err(Error::usage(format!("{option} writes the report of one model, but several are given")));
    }
    if args.compare && args.disable_pass.iter().any(|pass| pass == FUSION) {
        let message = format!("{FUSION} is switched off, so there is nothing to compare: drop `--compare`");
        return Err(Error::usage(message));
    }
    let mut roofline = None;
    let mut reports = Vec::new();
    for model in &args.models {
        let model = match onnx::load(model, &args.dim, &[])? {
            Loaded::Graph(model) => model,
            Loaded::Parts(parts) => {
                let extras =
                    [args.compare, args.measure, files.iter().any(|f| f.1.is_some()), args.models.len() > 1];
                if extras.contains(&true) {
                    return Err(Error::unsupported(format!(
                        "'{}' is not one program: it has a report of its own, without other models, --compare, --measure, \
                         --html, --dot and --trace",
                        model.escape_debug()
                    )));
                }
                let threads = args.threads.map(|n| n as usize);
                return parts::report(&parts, &args.disable_pass, threads, args.json);
            }
        };
        reports.push(report(args, &model, &mut roofline)?);
    }
    let limit = args.max_nodes.unwrap_or(usize::MAX);
    if args.json {
        for report in &mut reports {
            report.groups.truncate(limit);
            report.refusals.truncate(limit);
        }
        let json = serde_json::to_string_pretty(&Reports { models: &reports });
        return Ok((json.map_err(|e| Error::internal(e.to_string()))? + "\n").into());
    }
    Ok(match reports.as_slice() {
        [report] => report.to_text(limit),
        reports => several(reports),
    }
    .into())
}

/// One row per model, and below them what `--compare` and `--measure` add.
fn several(reports: &[FusionReport]) -> String {
    let mut text = compare::models(reports);
    for report in reports {
        if let Some(variants) = &report.compare {
            text += &format!("\n{}\n{}", format::name(&report.model), compare::variants(variants));
        } else if let Some(measured) = &report.measured {
            text += &format!(
                "\n{}: {} ms in nests\n",
                format::name(&report.model),
                format::ms(measured.nests_ms)
            );
        }
    }
    text
}

/// Compiles a model, and measures and writes what is asked for.
fn report(args: &ReportArgs, model: &Model, roofline: &mut Option<Roofline>) -> Result<FusionReport> {
    let threads = args.threads.map(|n| n as usize);
    let compiler = session::compiler(threads, &args.disable_pass, true);
    let with_text = args.html.is_some();
    let executable = compiler.clone().keep_code(with_text).keep_programs(with_text).compile(model)?;
    let roofline = *roofline.get_or_insert_with(|| {
        let (target, threads) = (executable.target(), executable.threads());
        Roofline::new(machine::measure_together(target.isa, target.l3_bytes, threads), threads)
    });
    let mut report = subject(args, model, &executable, roofline)?;
    if args.compare {
        let variant = |extent, compiler: Compiler| {
            let report = subject(args, model, &compiler.compile(model)?, roofline)?;
            Ok(Variant::of(extent, &report))
        };
        let unfused = variant(Extent::Unfused, compiler.clone().disable_pass(FUSION))?;
        let epilogue = variant(Extent::EpilogueOnly, compiler.fusion(Fusion::Epilogue))?;
        report.compare = Some(vec![unfused, epilogue, Variant::of(Extent::Full, &report)]);
    }
    if let Some(file) = &args.dot {
        write(file, &page::dot(&report, &executable))?;
    }
    if let Some(file) = &args.html {
        write(file, &page::html(&report, &executable))?;
    }
    if let Some(file) = &args.trace {
        write(file, &trace::chrome(&report, &record(args, model, &executable)?))?;
    }
    Ok(report)
}

/// The report of an executable, measured if that is asked for.
fn subject(
    args: &ReportArgs,
    model: &Model,
    executable: &Executable,
    roofline: Roofline,
) -> Result<FusionReport> {
    let mut report = executable.fusion_report();
    report.classify(roofline);
    if args.measure {
        report.measure(&record(args, model, executable)?, roofline);
    }
    Ok(report)
}

/// Runs with a look at the clock before and after every nest. The first run brings everything into place and
/// does not count.
fn record(
    args: &ReportArgs,
    model: &Model,
    executable: &Executable,
) -> Result<nestjit::runtime::trace::Trace> {
    let (inputs, _) = session::inputs(model, &[])?;
    let views: Vec<TensorView<'_>> = inputs.iter().map(TensorView::from).collect();
    executable.trace(&views, 1)?;
    executable.trace(&views, args.runs as usize)
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(|e| npy::io_error(path, "write", &e))
}
