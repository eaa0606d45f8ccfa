//! A compiled model: machine code with its constants, memory and threads.
//!
//! An [`Executable`] may be run by many threads at once. It is the only place where generated code is called. In how many
//! ways it can be called is left to `run`.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use nestjit_ir::{BufId, DType, Program};

use super::context::{Bindings, ContextPool, RunContext};
use super::input::arrange;
use super::output::{self, OutputBuffer, Outputs};
use super::pack::{Storage, pack_all};
use super::parts::{Grid, Ranges};
use super::pool::{Pool, lock};
use super::timing::CompileTimings;
use super::trace::{Probe, Recorder, Trace};
use super::view::TensorView;
use super::workers::Workers;
use crate::budget;
use crate::codegen::{Code, CodegenStats, ScalarLoop, Segment};
use crate::error::{Error, Result};
use crate::graph::ModelOps;
use crate::machine::{Isa, MachineModel};
use crate::options::Options;
use crate::remark::Remark;
use crate::tensor::{Tensor, checked_bytes};
use crate::unit::{MemoryPlan, Unit};

/// An input or an output of a model.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TensorSpec {
    /// Its name in the model.
    pub name: String,
    /// The element type.
    pub dtype: DType,
    /// The shape.
    pub shape: Vec<usize>,
}

/// What a compilation recorded besides the code.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    pub model: String,
    /// The operations that the model consists of.
    pub ops: ModelOps,
    pub options: Options,
    pub target: MachineModel,
    pub remarks: Vec<Remark>,
    /// The text after each pass, if it was kept.
    pub programs: Vec<(&'static str, String)>,
    pub timings: CompileTimings,
}

/// A compiled model, ready to run. Clones share everything; the code is freed with the last of them.
#[derive(Clone)]
pub struct Executable {
    inner: Arc<Inner>,
}

struct Inner {
    code: Code,
    bindings: Bindings,
    contexts: ContextPool,
    workers: Workers,
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    /// For each output, the first output that is the same buffer: itself, unless a buffer is listed twice.
    first_mention: Vec<usize>,
    /// The final program; the constants' data is gone from it.
    unit: Unit,
    threads: usize,
    /// What the code may execute and this CPU cannot, if it was compiled for another machine.
    lacks: Option<&'static str>,
    /// What the addresses in contexts point to.
    consts: HashMap<BufId, Storage>,
    records: Records,
}

/// The code of a unit with everything it needs to run.
pub(crate) struct Parts {
    pub code: Code,
    pub plan: MemoryPlan,
    pub unit: Unit,
    pub inputs: Vec<TensorSpec>,
    pub outputs: Vec<TensorSpec>,
    pub threads: usize,
}

impl Executable {
    /// Packs constants, allocates the memory of a first run and gets threads.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Limit`] if there is not enough memory, [`crate::ErrorKind::Internal`] if the unit
    /// contradicts itself.
    pub(crate) fn new(parts: Parts, records: Records) -> Result<Executable> {
        let Parts { code, plan, mut unit, inputs, outputs, threads } = parts;
        let lacks = match records.options.machine {
            Some(_) => records.target.lacks(&MachineModel::host(None)?),
            None => None,
        };
        let cut = |segment: &Segment| Grid::new(&segment.loops, threads).parts() > 1;
        let parallel = code.nests().iter().flat_map(|nest| &nest.segments).any(cut);
        let workers = Workers::new(if parallel { threads } else { 1 });
        check_memory(&plan, &code, &outputs, workers.threads())?;
        let used: BTreeSet<BufId> = code.nests().iter().flat_map(|n| n.params.iter().copied()).collect();
        let used: Vec<BufId> = used.into_iter().collect();
        let consts: HashMap<_, _> =
            workers.with(|pool| pack_all(&mut unit, &used, pool))?.into_iter().collect();
        let bindings = Bindings::new(&unit, &plan, &code, &consts, workers.threads())?;
        let contexts = ContextPool::new(RunContext::new(&bindings)?);
        let first = |id: &BufId| unit.outputs.iter().position(|other| other == id).unwrap_or_default();
        let first_mention = unit.outputs.iter().map(first).collect();
        unit.plan = Some(plan);
        let inner = Inner {
            code,
            bindings,
            contexts,
            workers,
            inputs,
            outputs,
            first_mention,
            unit,
            threads,
            lacks,
            consts,
            records,
        };
        Ok(Executable { inner: Arc::new(inner) })
    }

    /// Records the timings, which are complete only when the executable exists.
    pub(crate) fn with_timings(mut self, timings: CompileTimings) -> Executable {
        if let Some(inner) = Arc::get_mut(&mut self.inner) {
            inner.records.timings = timings;
        }
        self
    }

    /// Tensors for [`Executable::run_into`] to write to.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Limit`] if there is not enough memory.
    pub fn allocate_outputs(&self) -> Result<Vec<Tensor>> {
        self.inner.outputs.iter().map(|spec| Tensor::zeros(spec.dtype, &spec.shape)).collect()
    }

    /// Runs several times and records when each nest and each part of it ran. The first run of a context is not
    /// like later ones: run once before.
    ///
    /// # Errors
    /// As [`Executable::run`].
    pub fn trace(&self, inputs: &[TensorView<'_>], runs: usize) -> Result<Trace> {
        let mut outputs = self.allocate_outputs()?;
        let recorder = Recorder::new();
        for _ in 0..runs {
            self.run_and_observe(inputs, &mut outputs, &recorder)?;
        }
        let names = self.inner.code.nests().iter().map(|nest| nest.name.clone());
        Ok(recorder.finish(runs, names.collect()))
    }

    pub(super) fn run_and_observe<B: OutputBuffer>(
        &self,
        inputs: &[TensorView<'_>],
        outputs: &mut [B],
        probe: &impl Probe,
    ) -> Result<()> {
        let inner = &*self.inner;
        if let Some(what) = inner.lacks {
            return Err(inner.cannot_run(what));
        }
        check_inputs(&inner.inputs, inputs)?;
        output::count(inner.outputs.iter().map(|spec| spec.name.as_str()), outputs.len())?;
        for (spec, buffer) in inner.outputs.iter().zip(&*outputs) {
            output::check(&spec.name, spec.dtype, &spec.shape, buffer)?;
        }
        let outputs = Outputs(outputs);
        inner.contexts.with(&inner.bindings, |context| {
            for (entry, input) in &inner.bindings.inputs {
                // Code never writes to inputs.
                context.addresses[*entry] = inputs[*input].bytes()?.as_ptr().cast_mut();
            }
            for (entry, output) in &inner.bindings.outputs {
                let name = &inner.outputs[*output].name;
                context.addresses[*entry] = output::bytes(name, &mut outputs.0[*output])?.as_mut_ptr();
            }
            inner.workers.with(|pool| {
                (0..inner.code.nests().len())
                    .try_for_each(|nest| probe.nest(nest, || inner.execute(nest, context, pool, probe)))
            })
        })?;
        for (output, first) in inner.first_mention.iter().enumerate() {
            if *first < output {
                let (from, to) = outputs.0.split_at_mut(output);
                let [from_name, to_name] = [*first, output].map(|number| inner.outputs[number].name.as_str());
                output::bytes(to_name, &mut to[0])?
                    .copy_from_slice(output::bytes(from_name, &mut from[*first])?);
            }
        }
        Ok(())
    }

    /// The model's name.
    pub fn model(&self) -> &str {
        &self.inner.records.model
    }

    /// The operations of the model as it was given; none if it was given as loop nests.
    pub fn model_ops(&self) -> &ModelOps {
        &self.inner.records.ops
    }

    /// The inputs, in order.
    pub fn inputs(&self) -> &[TensorSpec] {
        &self.inner.inputs
    }

    /// The outputs, in order.
    pub fn outputs(&self) -> &[TensorSpec] {
        &self.inner.outputs
    }

    /// The threads of a run; where the system does not have so many, fewer do their work.
    pub fn threads(&self) -> usize {
        self.inner.threads
    }

    /// The vector tier that code was generated for.
    pub fn isa(&self) -> Isa {
        self.inner.records.target.isa
    }

    /// The machine that code was generated for.
    pub fn target(&self) -> &MachineModel {
        &self.inner.records.target
    }

    /// The options it was compiled with.
    pub fn options(&self) -> &Options {
        &self.inner.records.options
    }

    /// The number of nests, each one native function.
    pub fn kernels(&self) -> usize {
        self.inner.code.nests().len()
    }

    /// The bytes of the arena that temporaries share.
    pub fn temp_bytes(&self) -> usize {
        self.inner.unit.plan.as_ref().map_or(0, |plan| plan.bytes)
    }

    /// The memory that it keeps between runs, in bytes: packed constants, machine code, and the arenas of as many runs
    /// as were lately going on at once. Of constants that it shares with other programs it counts its part, those that are
    /// tensors of the model's not at all.
    pub fn memory_bytes(&self) -> usize {
        let consts: usize = self.inner.consts.values().map(Storage::own_bytes).sum();
        let contexts = self.inner.contexts.idle() * RunContext::bytes(&self.inner.bindings);
        consts + self.codegen_stats().code_bytes + contexts
    }

    /// Gives back the arenas that are kept for later runs; the next run allocates its own again. For programs that will
    /// not be run for a while.
    pub fn trim(&self) {
        self.inner.contexts.trim();
    }

    /// What compiling cost.
    pub fn timings(&self) -> &CompileTimings {
        &self.inner.records.timings
    }

    /// What code generation cost in detail.
    pub fn codegen_stats(&self) -> &CodegenStats {
        self.inner.code.stats()
    }

    /// What a nest multiplies in dot products, other than numbers of `f32` and wider: `bf16` (see
    /// [`crate::options::Precision`]), `int8`; in matrix tiles `bf16 in tiles`, `int8 in tiles`. Empty if there is no such nest.
    pub fn computes(&self, nest: usize) -> &[&'static str] {
        self.inner.code.nests().get(nest).map_or(&[], |n| &n.computes)
    }

    /// The loops of a nest that are not parts of vector kernels. Empty if there is no such nest.
    pub fn scalar_loops(&self, nest: usize) -> &[ScalarLoop] {
        self.inner.code.nests().get(nest).map_or(&[], |n| &n.scalar_loops)
    }

    /// How often innermost statements that are not parts of vector kernels run in one execution of a nest; all of its
    /// statements run [`nestjit_ir::visit::work`] times. 0 if there is no such nest.
    pub fn scalar_steps(&self, nest: usize) -> f64 {
        self.inner.code.nests().get(nest).map_or(0.0, |n| n.scalar_steps)
    }

    /// What passes did and declined to do.
    pub fn remarks(&self) -> &[Remark] {
        &self.inner.records.remarks
    }

    /// The program that code was generated from. It displays as text.
    pub fn program(&self) -> &Program {
        &self.inner.unit.program
    }

    /// The compiled unit, without the data of constants.
    pub fn unit(&self) -> &Unit {
        &self.inner.unit
    }

    /// The text of the program after a pass, if it was kept: see [`Options::keep_programs`].
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] if there is no such pass, it was switched off, or programs were not kept.
    pub fn program_after(&self, pass: &str) -> Result<&str> {
        let records = &self.inner.records;
        crate::passes::program_of(&records.programs, &records.options, pass)
    }

    /// The text of the program after each pass that ran, in order, if it was kept.
    pub fn programs(&self) -> &[(&'static str, String)] {
        &self.inner.records.programs
    }

    /// The code of a nest as text in all its forms, if [`Options::dump`] or [`Options::keep_code`] was set;
    /// otherwise empty.
    pub fn disassembly(&self, nest: usize) -> &str {
        self.inner.code.disassembly(nest)
    }

    /// The machine code of a nest as text, if [`Options::dump`] or [`Options::keep_code`] was set; otherwise
    /// empty. Nests that are equal share their code, and its text.
    pub fn machine_code(&self, nest: usize) -> &str {
        self.inner.code.machine_code(nest)
    }
}

impl std::fmt::Debug for Executable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Executable")
            .field("model", &self.model())
            .field("inputs", &self.inputs())
            .field("outputs", &self.outputs())
            .field("kernels", &self.kernels())
            .field("threads", &self.threads())
            .finish_non_exhaustive()
    }
}

impl Inner {
    /// The error of a run that this CPU cannot execute.
    fn cannot_run(&self, what: &str) -> Error {
        let machine = self.records.target.name.escape_debug();
        Error::usage(format!(
            "the code is for the machine '{machine}' and may use {what}, which this CPU does not have: it can be looked at, \
             but not run"
        ))
    }

    /// Executes a nest.
    fn execute(
        &self,
        index: usize,
        context: &RunContext,
        pool: Option<&Pool>,
        probe: &impl Probe,
    ) -> Result<()> {
        let (nest, table) = (&self.code.nests()[index], self.bindings.tables[index]);
        for segment in &nest.segments {
            let grid = Grid::new(&segment.loops, self.threads);
            let call = |thread: usize, ranges: Ranges| {
                let status = probe.part(index, || self.call(segment, table, context, thread, &ranges));
                match status {
                    0 => Ok(()),
                    _ => Err(nest.failure(status, context.failed_value(thread))),
                }
            };
            match pool {
                Some(pool) if grid.parts() > 1 => {
                    // Of the first part that has an error, so that it does not depend on timing.
                    let first_error: Mutex<Option<(usize, Error)>> = Mutex::new(None);
                    pool.run(grid.parts(), &|thread, part| {
                        if let Err(error) = call(thread, grid.ranges(part)) {
                            let mut first = lock(&first_error);
                            if first.as_ref().is_none_or(|first| part < first.0) {
                                *first = Some((part, error));
                            }
                        }
                    });
                    if let Some((_, error)) = first_error.into_inner().unwrap_or_else(PoisonError::into_inner)
                    {
                        return Err(error);
                    }
                }
                _ => call(0, grid.all())?,
            }
        }
        Ok(())
    }

    /// Calls generated code.
    fn call(
        &self,
        segment: &Segment,
        table: usize,
        context: &RunContext,
        thread: usize,
        ranges: &Ranges,
    ) -> i32 {
        // SAFETY: `addresses` holds, from `table` on, one address per parameter of the nest: inputs and outputs
        // of the checked type and shape (set at the start of this run and borrowed until its end), constants in
        // the form that the buffer declares, and places in the arena whose bounds `Bindings` has checked. The
        // context belongs to this run alone; `thread` is below the number of workers, no other thread of this run has it
        // now, and each has its own scratch memory. Parts of parallel loops do not write to the same places. The code is alive: `self` owns it.
        unsafe {
            (segment.entry)(context.addresses[table..].as_ptr(), context.scratch(thread), ranges.as_ptr())
        }
    }
}

/// Whether there is the memory that a run needs besides constants.
fn check_memory(plan: &MemoryPlan, code: &Code, outputs: &[TensorSpec], threads: usize) -> Result<()> {
    let temps = plan.bytes;
    let scratch = code.nests().iter().map(|n| n.scratch_bytes).max().unwrap_or(0).saturating_mul(threads);
    let mut results = 0usize;
    for spec in outputs {
        results = results.saturating_add(checked_bytes(spec.dtype, &spec.shape)?);
    }
    let largest = outputs.iter().max_by_key(|spec| spec.shape.iter().product::<usize>());
    budget::check(temps.saturating_add(scratch).saturating_add(results)).map_err(|e| {
        let largest = largest.map_or(String::new(), |spec| {
            format!(", of which the largest is '{}' {}{:?}", spec.name.escape_debug(), spec.dtype, spec.shape)
        });
        e.about(&format!(
            "a run takes {temps} bytes for values between kernels, {scratch} for its threads, and {results} for \
             results{largest}"
        ))
    })
}

/// Whether tensors are what a model takes.
fn check_inputs(specs: &[TensorSpec], given: &[TensorView<'_>]) -> Result<()> {
    if given.len() != specs.len() {
        let names: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
        return arrange(&names, given.iter().map(|_| None), |_| false).map(drop);
    }
    for (spec, view) in specs.iter().zip(given) {
        let (dtype, shape) = (view.dtype(), view.shape());
        if dtype != spec.dtype || shape != spec.shape {
            return Err(Error::shape(format!(
                "the input '{}' is {}{:?}, but {dtype}{shape:?} was given",
                spec.name.escape_debug(),
                spec.dtype,
                spec.shape
            )));
        }
    }
    Ok(())
}
