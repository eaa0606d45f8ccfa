//! The pass manager: runs the passes of the pipeline that are not switched off, in order, and times, verifies,
//! checks, keeps and dumps what they leave.
//!
//! Which passes exist is [`PIPELINE`]'s knowledge; when lowering happens between graph passes and nest passes
//! is the compiler's.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use nestjit_ir::access::check_reach;
use nestjit_ir::verify::Stage;
use nestjit_ir::visit::Extents;

use super::{PIPELINE, Pass, PassContext, Run, check, verify};
use crate::error::{Error, ErrorKind, Result};
use crate::graph::Graph;
use crate::laps::{Laps, RECORD};
use crate::machine::MachineModel;
use crate::options::Options;
use crate::remark::Remark;
use crate::unit::Unit;

/// The name under which the program is kept and dumped as lowering leaves it, before any nest pass.
pub const LOWER: &str = "Lower";

/// Runs passes and collects what they say.
pub struct PassManager<'a> {
    options: &'a Options,
    context: PassContext<'a>,
    disabled: HashSet<&'static str>,
    passed: Passed,
}

/// What passes leave besides the program.
#[derive(Default, Debug)]
pub struct Passed {
    /// What they said.
    pub remarks: Vec<Remark>,
    /// The text after each pass that ran and after [`LOWER`], if [`Options::keep_programs`].
    pub programs: Vec<(&'static str, String)>,
    /// The names of passes that changed something.
    pub changed: Vec<&'static str>,
    /// The number of programs dumped.
    dumped: usize,
}

impl Passed {
    /// Dumps the text of the generated code of each nest, given with its name, behind the programs.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if it cannot be written.
    pub fn dump_code(&self, options: &Options, nests: &mut dyn Iterator<Item = (&str, &str)>) -> Result<()> {
        let Some(dir) = &options.dump else { return Ok(()) };
        let text: String = nests.map(|(name, code)| format!("; nest @{name}\n{code}\n")).collect();
        write(&dir.join(format!("{:02}_code.txt", self.dumped)), &text)
    }
}

impl<'a> PassManager<'a> {
    /// A manager for one compilation: of code for this machine that runs on so many threads.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] if a pass to be switched off does not exist.
    pub fn new(options: &'a Options, target: &'a MachineModel, threads: usize) -> Result<PassManager<'a>> {
        let disabled: HashSet<_> =
            options.disabled_passes.iter().map(|name| find(name)).collect::<Result<_>>()?;
        let context = PassContext::new(options, target, threads);
        Ok(PassManager { options, context, disabled, passed: Passed::default() })
    }

    /// What the passes that ran leave.
    pub fn finish(self) -> Passed {
        self.passed
    }

    /// Runs the graph passes. Every pass is a lap.
    ///
    /// # Errors
    /// Those of the passes, and [`ErrorKind::Internal`] if a pass leaves an invalid graph.
    pub fn run_graph_passes(&mut self, graph: &mut Graph, laps: &mut Laps) -> Result<()> {
        for pass in PIPELINE {
            let Run::Graph(run) = pass.run else { continue };
            if self.disabled.contains(pass.name) {
                continue;
            }
            let changed = run(graph, &self.context, &mut self.passed.remarks)?;
            laps.lap(pass.name);
            if changed && self.options.verify_passes {
                graph.validate().map_err(|e| broken(pass, &e))?;
            }
            self.record(pass.name, changed, "graph", &|| graph.to_string())?;
            self.lap_of_records(laps);
        }
        Ok(())
    }

    /// Runs the nest passes on a program of stage `from`. Every pass is a lap.
    ///
    /// # Errors
    /// Those of the passes, [`ErrorKind::Limit`] for an index that is larger than indices can be, and
    /// [`ErrorKind::Internal`] if a pass leaves an invalid program or, where that is checked, one that computes something
    /// else.
    pub fn run_nest_passes(&mut self, unit: &mut Unit, from: Stage, laps: &mut Laps) -> Result<()> {
        if self.options.verify_passes {
            // What a user wrote has been looked at before: this is what lowering made.
            let invalid = |e| Error::internal(format!("the program before the first pass is invalid: {e}"));
            verify(unit, from).map_err(|e| too_far(unit).unwrap_or_else(|| invalid(e)))?;
        }
        self.record(LOWER, true, "nest", &|| unit.program.to_string())?;
        self.lap_of_records(laps);
        for pass in PIPELINE {
            let Run::Nest(run, stage) = pass.run else { continue };
            if self.disabled.contains(pass.name) {
                continue;
            }
            let before = self.options.check_passes.then(|| unit.clone());
            let changed = run(unit, &self.context, &mut self.passed.remarks)?;
            laps.lap(pass.name);
            if changed && self.options.verify_passes {
                verify(unit, stage.max(from))
                    .map_err(|e| too_far(unit).unwrap_or_else(|| broken(pass, &e)))?;
            }
            if let Some(before) = before.filter(|_| changed) {
                check::same_results(&before, unit, check::tolerance(pass)).map_err(|e| broken(pass, &e))?;
            }
            self.record(pass.name, changed, "nest", &|| unit.program.to_string())?;
            self.lap_of_records(laps);
        }
        Ok(())
    }

    /// Keeps and dumps the text after a pass, as far as the options ask for it.
    fn record(
        &mut self,
        name: &'static str,
        changed: bool,
        extension: &str,
        text: &dyn Fn() -> String,
    ) -> Result<()> {
        if changed {
            self.passed.changed.push(name);
        }
        if self.options.keep_programs {
            self.passed.programs.push((name, text()));
        }
        if let Some(dir) = self.options.dump.as_ref().filter(|_| changed) {
            let path = dir.join(format!("{:02}_{name}.{extension}", self.passed.dumped));
            self.passed.dumped += 1;
            fs::create_dir_all(dir)
                .and_then(|()| fs::write(&path, text()))
                .map_err(|e| Error::new(ErrorKind::Io, format!("cannot write {}: {e}", path.display())))?;
        }
        Ok(())
    }

    /// Ends the lap of what was done besides the passes, if anything was.
    fn lap_of_records(&self, laps: &mut Laps) {
        let o = self.options;
        if o.verify_passes || o.check_passes || o.keep_programs || o.dump.is_some() {
            laps.lap(RECORD);
        }
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(path, text));
    written.map_err(|e| Error::new(ErrorKind::Io, format!("cannot write {}: {e}", path.display())))
}

/// The error of an index that could leave 64 bits, if there is one: attributes of a model can be so large, and what reaches
/// almost as far as it may before a pass can reach further behind it (a tile counts beyond the last iteration).
fn too_far(unit: &Unit) -> Option<Error> {
    unit.program.nests.iter().find_map(|nest| {
        let why = check_reach(&unit.program, &nest.body, &Extents::default())?;
        Some(Error::new(ErrorKind::Limit, format!("nest @{}: {why}", nest.name)))
    })
}

fn broken(pass: &Pass, cause: &dyn std::fmt::Display) -> Error {
    Error::internal(format!("pass {} leaves an invalid program: {cause}", pass.name))
}

/// The name of a pass, as the pipeline spells it.
///
/// # Errors
/// [`ErrorKind::Usage`] with a list of the names if there is no such pass.
pub fn find(name: &str) -> Result<&'static str> {
    PIPELINE.iter().map(|pass| pass.name).find(|n| *n == name).ok_or_else(|| {
        let mut names: Vec<&str> = Vec::new();
        for pass in PIPELINE {
            if !names.contains(&pass.name) {
                names.push(pass.name);
            }
        }
        Error::unknown_name("pass", name, "the passes are", names)
    })
}

/// The text after a pass (or [`LOWER`]), among those that were kept.
///
/// # Errors
/// [`ErrorKind::Usage`] if there is no such pass, it was switched off, or programs were not kept.
pub fn program_of<'p>(
    programs: &'p [(&'static str, String)],
    options: &Options,
    pass: &str,
) -> Result<&'p str> {
    let name = if pass == LOWER { LOWER } else { find(pass)? };
    // A name that stands for a graph pass and a nest pass means the later one.
    let kept = programs.iter().rev().find(|(n, _)| *n == name);
    kept.map(|(_, text)| text.as_str()).ok_or_else(|| {
        Error::usage(if options.disabled_passes.iter().any(|n| n == name) {
            format!("there is no program after {name}: the pass is switched off")
        } else if options.keep_programs {
            format!(
                "there is no program after {name}: loop nests, not a model, were given to the passes after it"
            )
        } else {
            format!("there is no program after {name}: programs are kept only if the compiler is told to")
        })
    })
}
