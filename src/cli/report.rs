//! `nestjit report`: what was fused, what was not and why, and what that brought.

use std::fs;
use std::path::{Path, PathBuf};

use nestjit::report::compare::{Extent, Variant};
use nestjit::report::programs::{Part, PartReason};
use nestjit::report::text::compare;
use nestjit::report::{FusionReport, Roofline, Scaling, format, page, trace};
use nestjit::{Compiler, Error, Executable, Fusion, Model, Result, Tensor, TensorView};
use serde::Serialize;

use super::args::ReportArgs;
use super::onnx::{self, Loaded, Parts};
use super::session::{self, FUSION};
use super::{Outcome, npy, parts, rates};

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
    if args.compare && args.passes.disable_pass.iter().any(|pass| pass == FUSION) {
        let message = format!("{FUSION} is switched off, so there is nothing to compare: drop `--compare`");
        return Err(Error::usage(message));
    }
    let mut roofline = None;
    let mut reports = Vec::new();
    for model in &args.models {
        let source = match onnx::load(model, &args.given)? {
            Loaded::Graph(model) => {
                let (inputs, _) = session::inputs(&model, &args.given.inputs)?;
                Source::Model(model, inputs)
            }
            Loaded::Parts(parts) => Source::Parts(parts),
        };
        reports.push(report(args, &source, &mut roofline)?);
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

/// What is compiled.
enum Source {
    /// A model that is one program, and inputs for it.
    Model(Model, Vec<Tensor>),
    /// A model that a session runs.
    Parts(Parts),
}

/// A program, and inputs for it.
struct Program {
    executable: Executable,
    inputs: Vec<Tensor>,
}

/// The programs of a model; if a session runs it, also its name and its parts.
struct Compiled {
    programs: Vec<Program>,
    session: Option<(String, Vec<Part>)>,
}

impl Source {
    fn compile(&self, compiler: Compiler) -> Result<Compiled> {
        let parts = match self {
            Source::Model(model, inputs) => {
                let executable = compiler.compile(model)?;
                let programs = vec![Program { executable, inputs: inputs.clone() }];
                return Ok(Compiled { programs, session: None });
            }
            Source::Parts(parts) => parts,
        };
        let s = parts.session(compiler)?;
        // The first call compiles; the second one is timed.
        s.call_items(&parts.inputs)?;
        let (_, trace) = s.trace(&parts.inputs)?;
        parts::remark(&s);
        let mut programs = Vec::new();
        let mut rows = Vec::new();
        for part in trace.parts {
            let reasons = part.reasons.into_iter();
            rows.push(Part {
                depth: part.depth,
                kernels: part.program.as_ref().map(Executable::kernels),
                reasons: reasons.map(|r| PartReason { node: r.node, op: r.op, why: r.why }).collect(),
                runs: part.runs,
                ms: part.time.as_secs_f64() * 1e3,
            });
            programs.extend(part.program.map(|executable| Program { executable, inputs: part.inputs }));
        }
        Ok(Compiled { programs, session: Some((s.model().name().to_owned(), rows)) })
    }
}

/// Compiles a model, and measures and writes what is asked for.
fn report(args: &ReportArgs, source: &Source, roofline: &mut Option<Roofline>) -> Result<FusionReport> {
    let threads = args.threads.map(|n| n as usize);
    let compiler = session::compiler(threads, &args.passes, true);
    let with_text = args.html.is_some();
    let full = source.compile(compiler.clone().keep_code(with_text).keep_programs(with_text))?;
    if let (None, Some(program)) = (&roofline, full.programs.first()) {
        *roofline = Some(rates::roofline(args.machine.as_ref(), &program.executable)?);
    }
    let mut whole = subject(args, &full, *roofline)?;
    if args.compare {
        let variant = |extent, compiler: Compiler| {
            let report = subject(args, &source.compile(compiler)?, *roofline)?;
            Ok(Variant::of(extent, &report))
        };
        let unfused = variant(Extent::Unfused, compiler.clone().disable_pass(FUSION))?;
        let epilogue = variant(Extent::EpilogueOnly, compiler.fusion(Fusion::Epilogue))?;
        whole.compare = Some(vec![unfused, epilogue, Variant::of(Extent::Full, &whole)]);
    }
    let files = args.dot.is_some() || args.html.is_some() || args.trace.is_some();
    let session = full.session.is_some();
    for (i, program) in full.programs.iter().enumerate().filter(|_| files) {
        // A page shows one program.
        let file = |path: &Path| if session { numbered(path, i + 1) } else { path.to_owned() };
        let own = if session { program_report(args, program, *roofline)? } else { whole.clone() };
        if let Some(path) = &args.dot {
            write(&file(path), &page::dot(&own, &program.executable))?;
        }
        if let Some(path) = &args.html {
            write(&file(path), &page::html(&own, &program.executable))?;
        }
        if let Some(path) = &args.trace {
            write(&file(path), &trace::chrome(&own, &record(args, program)?))?;
        }
    }
    Ok(whole)
}

/// The report of a model, measured if that is asked for.
fn subject(args: &ReportArgs, compiled: &Compiled, roofline: Option<Roofline>) -> Result<FusionReport> {
    let mut reports =
        compiled.programs.iter().map(|p| program_report(args, p, roofline)).collect::<Result<Vec<_>>>()?;
    Ok(match &compiled.session {
        Some((name, parts)) => FusionReport::of_programs(name, reports, parts.clone()),
        None => reports.pop().unwrap_or_default(),
    })
}

/// The report of a program, measured if that is asked for.
fn program_report(args: &ReportArgs, program: &Program, roofline: Option<Roofline>) -> Result<FusionReport> {
    let mut report = program.executable.fusion_report();
    if args.threads.is_some() {
        report.scaling = Some(Scaling::new(program.executable.program(), program.executable.target()));
    }
    let Some(roofline) = roofline else { return Ok(report) };
    report.classify(roofline);
    if args.measure {
        report.measure(&record(args, program)?, roofline);
    }
    Ok(report)
}

/// Runs with a look at the clock before and after every nest. The first run brings everything into place and
/// does not count.
fn record(args: &ReportArgs, program: &Program) -> Result<nestjit::runtime::trace::Trace> {
    let views: Vec<TensorView<'_>> = program.inputs.iter().map(TensorView::from).collect();
    program.executable.trace(&views, 1)?;
    program.executable.trace(&views, args.runs as usize)
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
