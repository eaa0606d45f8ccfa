//! `nestjit ir`: the text of a program after any pass.

use std::fmt::Write as _;
use std::path::Path;

use nestjit::ir::{self, Role};
use nestjit::passes::{self, LOWER, PIPELINE, Run};
use nestjit::report::text::table::table;
use nestjit::unit::Unit;
use nestjit::{Compiler, Error, Executable, Result, Tensor, files};

use super::args::IrArgs;
use super::compiler::{compiler, remark_on_plan};
use super::model::{self, LoadedModel, is_nests};
use super::{Outcome, npy, progress};

pub(crate) fn execute(args: &IrArgs) -> Result<Outcome> {
    let Some(model) = args.model.as_deref() else {
        return Ok(list_passes().into());
    };
    // Before anything that takes time.
    if let Some(pass) = args.after.as_deref().filter(|pass| *pass != LOWER) {
        passes::find(pass)?;
    }
    let compiler = compiler(args.threads, &args.options).keep_programs(true);
    remark_on_plan(&compiler)?;
    if is_nests(model) {
        if !args.given.dims.is_empty() || !args.given.inputs.is_empty() {
            let message =
                "--dim and --input are for models: a file of loop nests has its shapes, and is not run";
            return Err(Error::usage(message));
        }
        return Ok(print(args, &compile_nests(&compiler, Path::new(model))?)?.into());
    }
    let loaded = LoadedModel::load(model, &args.given)?;
    let session = loaded.session(compiler);
    let trace = progress::during("compiling", || session.parts(&loaded.inputs))?;
    model::remark(&session);
    if let Some(executable) = trace.whole().and_then(|part| part.program.as_ref()) {
        return Ok(print(args, executable)?.into());
    }
    let (mut text, mut missing) = (String::new(), None);
    for (i, executable) in trace.programs().enumerate() {
        match print(args, executable) {
            // Writing to a `String` cannot fail.
            Ok(program) => drop(writeln!(text, "// ==== program {}\n{}", i + 1, program.trim_end())),
            // Another program may have the nest that is wanted.
            Err(e) if args.nest.is_some() => missing = Some(e),
            Err(e) => return Err(e),
        }
    }
    match missing {
        Some(e) if text.is_empty() => Err(e),
        _ => Ok(text.into()),
    }
}

/// What is asked for of a program.
fn print(args: &IrArgs, executable: &Executable) -> Result<String> {
    let nest = args.nest.as_deref();
    match &args.after {
        Some(pass) => select(executable.program_after(pass)?, nest),
        None if args.all => Ok(every_program(executable, nest)),
        None => select(&executable.program().to_string(), nest),
    }
}

/// Compiles a file of nests. Its constants are zeros: only the text is of interest.
fn compile_nests(compiler: &Compiler, path: &Path) -> Result<Executable> {
    let text = files::read_text(path)?;
    let program = ir::parse::parse(&text)
        .map_err(|e| Error::invalid(format!("{}: {e}", npy::show(path))).caused_by(e))?;
    let consts = program.buffers.iter().filter(|b| b.role == Role::Const);
    let zeros = consts
        .map(|b| Ok((b.name.clone(), Tensor::zeros(b.dtype, &b.shape)?)))
        .collect::<Result<Vec<_>>>()?;
    let unit = Unit::from_program(program, zeros.iter().map(|(name, t)| (name.as_str(), t.clone())))?;
    let stem = path.file_stem().map_or_else(String::new, |s| s.to_string_lossy().into_owned());
    compiler.compile_unit(&stem, unit).map_err(|e| e.in_file(path))
}

/// What each pass left, if it changed anything, and what each took.
fn every_program(executable: &Executable, nest: Option<&str>) -> String {
    let mut text = String::new();
    let mut before: Option<String> = None;
    for (pass, program) in executable.programs() {
        // Graphs have no nests, and a nest may appear or vanish on the way.
        let after = select(program, nest).unwrap_or_default();
        let changed = before.as_ref().is_none_or(|before| *before != after);
        // Writing to a `String` cannot fail.
        let _ = match changed && !after.is_empty() {
            true => writeln!(text, "// ---- after {pass}\n{}", after.trim_end()),
            false => writeln!(text, "// ---- after {pass}: unchanged"),
        };
        before = Some(after);
    }
    let times = executable.timings().each_pass();
    let times: Vec<String> =
        times.iter().map(|(name, time)| format!("{name} {:.3} ms", time.as_secs_f64() * 1e3)).collect();
    let _ = writeln!(text, "// ---- times: {}", times.join(", "));
    text
}

/// The text, or only one nest of it.
fn select(text: &str, nest: Option<&str>) -> Result<String> {
    let Some(wanted) = nest else {
        return Ok(format!("{}\n", text.trim_end()));
    };
    let Ok(program) = ir::parse::parse(text) else {
        return Err(Error::usage("a graph has no nests; `--nest` works from lowering on"));
    };
    let found = program.nests.iter().find(|n| n.name == wanted);
    found.map(|n| format!("{}\n", program.show_nest(n).to_string().trim_end())).ok_or_else(|| {
        let names = program.nests.iter().map(|n| n.name.as_str());
        Error::unknown_name("nest", wanted, "the nests are", names)
    })
}

/// The pipeline as a table.
fn list_passes() -> String {
    let mut rows = Vec::new();
    let mut lowered = false;
    for pass in PIPELINE {
        if matches!(pass.run, Run::Nest(..)) && !lowered {
            let summary = "operations become loop nests (cannot be switched off)";
            rows.push([LOWER.to_owned(), "graph -> nests".to_owned(), summary.to_owned()]);
            lowered = true;
        }
        let kind = if matches!(pass.run, Run::Graph(_)) { "graph" } else { "nests" };
        rows.push([pass.name.to_owned(), kind.to_owned(), pass.summary.to_owned()]);
    }
    table(["pass", "works on", ""], &[], rows)
}
