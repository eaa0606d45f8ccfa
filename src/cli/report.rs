//! `nestjit report`: what was fused, what was not and why, and what that brought.

use std::fs;
use std::path::{Path, PathBuf};

use nestjit::report::compare::{Extent, Variant};
use nestjit::report::programs::{PartReason, ReportedPart};
use nestjit::report::text::compare;
use nestjit::report::{FusionReport, Roofline, Scaling, format, page, trace};
use nestjit::session::{CallTrace, ModelPart};
use nestjit::{Compiler, Error, Executable, Fusion, Result, Tensor, TensorView, runtime};
use serde::Serialize;

use super::args::ReportArgs;
use super::compiler::{FUSION, compiler, fuses, remark_on_plan};
use super::model::{self, LoadedModel};
use super::{Outcome, npy, progress, rates};

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
    if !args.given.inputs.is_empty() && args.models.len() > 1 {
        return Err(Error::usage("--input is for one model, but several are given"));
    }
    if args.compare && !fuses(&compiler(args.threads, &args.passes))? {
        let message = format!("{FUSION} is switched off, so there is nothing to compare: drop `--compare`");
        return Err(Error::usage(message));
    }
    remark_on_plan(&compiler(args.threads, &args.passes))?;
    let mut roofline = None;
    let mut reports = Vec::new();
    for model in &args.models {
        let loaded = LoadedModel::load(model, &args.given)?;
        reports.push(report(args, &loaded, &mut roofline)?);
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

/// What a model consists of.
struct Compiled {
    model: String,
    trace: CallTrace,
}

impl Compiled {
    fn of(loaded: &LoadedModel, compiler: Compiler) -> Result<Compiled> {
        let session = loaded.session(compiler);
        // If it has to be run, the first call compiles; the second one is timed.
        let twice = || session.parts(&loaded.inputs).and_then(|_| session.parts(&loaded.inputs));
        let trace = progress::during("compiling", twice)?;
        model::remark(&session);
        Ok(Compiled { model: session.name().to_owned(), trace })
    }

    /// Each program, and inputs for it.
    fn programs(&self) -> impl Iterator<Item = (&Executable, &[Tensor])> {
        self.trace.parts.iter().filter_map(|part| Some((part.program.as_ref()?, part.inputs.as_slice())))
    }

    /// Whether it is one program and nothing else.
    fn is_one_program(&self) -> bool {
        self.trace.whole().is_some()
    }
}

/// Compiles a model, and measures and writes what is asked for.
fn report(args: &ReportArgs, loaded: &LoadedModel, roofline: &mut Option<Roofline>) -> Result<FusionReport> {
    let compiler = compiler(args.threads, &args.passes);
    let with_text = args.html.is_some();
    let full = Compiled::of(loaded, compiler.clone().keep_code(with_text).keep_programs(with_text))?;
    if let (None, Some((executable, _))) = (&roofline, full.programs().next()) {
        *roofline = Some(rates::roofline(args.rates.as_ref(), executable)?);
    }
    let mut whole = subject(args, &full, *roofline)?;
    if args.compare {
        let variant = |extent, compiler: Compiler| {
            let report = subject(args, &Compiled::of(loaded, compiler)?, *roofline)?;
            Ok(Variant::of(extent, &report))
        };
        let unfused = variant(Extent::Unfused, compiler.clone().disable_pass(FUSION))?;
        let epilogue = variant(Extent::EpilogueOnly, compiler.fusion(Fusion::Epilogue))?;
        whole.compare = Some(vec![unfused, epilogue, Variant::of(Extent::Full, &whole)]);
    }
    let files = args.dot.is_some() || args.html.is_some() || args.trace.is_some();
    for (i, (executable, inputs)) in full.programs().enumerate().filter(|_| files) {
        // A page shows one program.
        let (own, number) = match full.is_one_program() {
            true => (whole.clone(), None),
            false => (program_report(args, executable, inputs, *roofline)?, Some(i + 1)),
        };
        let file = |path: &Path| number.map_or_else(|| path.to_owned(), |number| numbered(path, number));
        if let Some(path) = &args.dot {
            write(&file(path), &page::dot(&own, executable))?;
        }
        if let Some(path) = &args.html {
            write(&file(path), &page::html(&own, executable))?;
        }
        if let Some(path) = &args.trace {
            write(&file(path), &trace::chrome(&own, &record(args, executable, inputs)?))?;
        }
    }
    Ok(whole)
}

/// The report of a model, measured if that is asked for.
fn subject(args: &ReportArgs, compiled: &Compiled, roofline: Option<Roofline>) -> Result<FusionReport> {
    let reports = compiled.programs().map(|(e, inputs)| program_report(args, e, inputs, roofline));
    let mut reports = reports.collect::<Result<Vec<_>>>()?;
    if compiled.is_one_program() {
        return reports.pop().ok_or_else(|| Error::internal("a program that was not compiled"));
    }
    let part = |part: &ModelPart| ReportedPart {
        depth: part.depth,
        kernels: part.program.as_ref().map(Executable::kernels),
        reasons: part.reasons.iter().map(PartReason::from).collect(),
        runs: part.runs,
        ms: part.time.as_secs_f64() * 1e3,
    };
    let parts = compiled.trace.parts.iter().map(part).collect();
    Ok(FusionReport::of_programs(&compiled.model, reports, parts))
}

/// The report of a program, measured if that is asked for.
fn program_report(
    args: &ReportArgs,
    executable: &Executable,
    inputs: &[Tensor],
    roofline: Option<Roofline>,
) -> Result<FusionReport> {
    let mut report = executable.fusion_report();
    if args.threads.is_some() {
        report.scaling = Some(Scaling::new(executable.program(), executable.target()));
    }
    let Some(roofline) = roofline else { return Ok(report) };
    report.classify(roofline);
    if args.measure {
        let recording = progress::during("measuring", || record(args, executable, inputs))?;
        report.measure(&recording, roofline);
    }
    Ok(report)
}

/// Runs with a look at the clock before and after every nest. The first run brings everything into place and
/// does not count.
fn record(args: &ReportArgs, executable: &Executable, inputs: &[Tensor]) -> Result<runtime::trace::Trace> {
    let views: Vec<TensorView<'_>> = inputs.iter().map(TensorView::from).collect();
    executable.trace(&views, 1)?;
    executable.trace(&views, args.runs as usize)
}

/// `dir/page.html` as `dir/page-2.html`.
fn numbered(path: &Path, number: usize) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let extension = path.extension().map_or_else(String::new, |e| format!(".{}", e.to_string_lossy()));
    path.with_file_name(format!("{stem}-{number}{extension}"))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(|e| npy::io_error(path, "write", e))
}
