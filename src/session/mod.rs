//! A session: a model of any kind, called. An ONNX model, whose shapes need not be known before, is compiled for the
//! shapes of a call (and for the values of inputs that shapes depend on) when they come for the first time; what was
//! compiled is kept and found again. A graph, whose shapes are constant, is compiled by the first call.
//!
//! Most models become one program. Where the shape of a result depends on data, or a condition decides what is
//! computed, a model becomes several programs, with operations of the host and control flow between them:
//! `model` tells the parts, `plan` has what was compiled of them, `cache` finds it, `run` runs it, `control` the loops.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::compiler::Compiler;
use crate::error::{Error, Result};
use crate::graph::Model;
use crate::host::Item;
use crate::onnx::{InputSpec, OnnxModel};
use crate::runtime::fork::Guarded;
use crate::runtime::{AsInput, Executable, OutputBuffer, RunOptions};
use crate::tensor::Tensor;

mod arguments;
mod cache;
mod control;
mod model;
mod plan;
mod plans;
mod run;
mod timing;
mod trace;

pub use arguments::{AsInputShape, InputShape};
use cache::Limit;
pub use model::SessionModel;
use plan::{BodyPlan, StageCode};
use plans::Plans;
use run::Run;
pub use timing::{CallTiming, SessionTimings};
pub use trace::{CallTrace, ModelPart};

/// How many compiled forms are kept whatever memory they take, unless [`Session::cache_limit`] says otherwise.
const CACHE_LIMIT: usize = 16;

/// How many are kept at most, unless [`Session::cache_limit`] says otherwise: looking through more takes its time.
const CACHE_MOST: usize = 256;

/// The memory that more than [`CACHE_LIMIT`] compiled forms may take, unless [`Session::cache_bytes`] says otherwise.
const CACHE_BYTES: usize = 1 << 30;

/// How often the body of a loop is run, unless [`Session::loop_limit`] says otherwise.
const LOOP_LIMIT: u64 = 10_000_000;

/// What computes the programs of a model.
#[derive(Debug)]
enum Engine {
    Compiler(Compiler),
    /// The evaluator of graphs: slow, and the reference.
    Evaluator,
}

/// A model, compiled when it is called: an ONNX model, of whatever shapes come, or one of the builders or the zoo.
///
/// Many threads may call it at once. Of calls that need the same program at the same time one compiles it, and the
/// others wait for that; while programs run, no call waits for another.
///
/// Inputs are slices of whatever is an [`Input`](crate::Input): tensors, `ndarray` arrays and views, with or without
/// names.
///
/// ```no_run
/// use std::time::Duration;
/// use nestjit::ndarray::{Array2, Array4};
/// use nestjit::{Compiler, RunOptions, Session};
/// # fn main() -> nestjit::Result<()> {
/// let session = Session::from_onnx("model.onnx", Compiler::new())?;
/// session.warm_up(&[("image", [1, 3, 224, 224])])?; // compiles, so that the first call need not
/// let image = Array4::<f32>::zeros((1, 3, 224, 224));
/// let outputs = session.run(&[("image", image.view())])?;
/// let scores = outputs[0].view::<f32>()?;
///
/// let options = RunOptions::new().outputs(["scores"]).timeout(Duration::from_millis(50));
/// let mut scores = Array2::<f32>::zeros((1, 1000));
/// session.run_into_with(&[image.view()], &mut [scores.view_mut()], &options)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Session {
    model: SessionModel,
    engine: Engine,
    cache_limit: Option<usize>,
    cache_bytes: Option<usize>,
    loop_limit: u64,
    /// Inputs whose values nothing may be compiled for.
    arbitrary: BTreeSet<String>,
    plans: Plans,
    /// How many programs were compiled for the values of inputs.
    specialized: AtomicUsize,
    timings: Guarded<SessionTimings>,
}

/// What a call returned, and what it cost.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Call<T = Tensor> {
    /// The outputs, in order.
    pub outputs: Vec<T>,
    /// What compiling took, the import included, if this call compiled; `None` for a warm call, and for one that waited
    /// for another to compile.
    pub compiled: Option<Duration>,
    /// How many programs this call compiled.
    pub programs: usize,
    /// How many of them had been compiled before and were forgotten since: see [`SessionTimings::remark`].
    pub recompiled: usize,
    /// The whole call.
    pub total: Duration,
}

impl<T> Call<T> {
    fn new(outputs: Vec<T>, timing: CallTiming) -> Call<T> {
        let CallTiming { compiled, programs, recompiled, total } = timing;
        Call { outputs, compiled, programs, recompiled, total }
    }
}

impl Session {
    /// A session for a model: an [`OnnxModel`], a [`Model`], or a [`SessionModel`] that several sessions share.
    pub fn new(model: impl Into<SessionModel>, compiler: Compiler) -> Session {
        Session::with_engine(model.into(), Engine::Compiler(compiler))
    }

    /// A session that compiles nothing: programs are evaluated as [`crate::graph::evaluate`] does it. It is slow, and
    /// what compiled sessions are compared with.
    pub fn reference(model: impl Into<SessionModel>) -> Session {
        Session::with_engine(model.into(), Engine::Evaluator)
    }

    fn with_engine(model: SessionModel, engine: Engine) -> Session {
        Session {
            plans: Plans::new(model.clone()),
            model,
            engine,
            cache_limit: None,
            cache_bytes: None,
            loop_limit: LOOP_LIMIT,
            arbitrary: BTreeSet::new(),
            specialized: AtomicUsize::new(0),
            timings: Guarded::default(),
        }
    }

    /// A session for the model in a file.
    ///
    /// # Errors
    /// As [`OnnxModel::from_path`].
    pub fn from_onnx(path: impl AsRef<Path>, compiler: Compiler) -> Result<Session> {
        Ok(Session::new(OnnxModel::from_path(path)?, compiler))
    }

    /// Keeps at most this many compiled forms of the model, at least one; and of each part of it, if it has several.
    /// The one that was not used for the longest time goes first.
    ///
    /// Without this, 16 are kept whatever memory they take, and up to 256 as long as those of the session take no more
    /// than 1 GiB. A session that compiles again what it forgot says so: see [`SessionTimings::remark`].
    #[must_use]
    pub fn cache_limit(mut self, limit: usize) -> Session {
        self.cache_limit = Some(limit.max(1));
        self
    }

    /// Keeps no more compiled forms than take so many bytes (see [`Executable::memory_bytes`]), but at least one. What
    /// was not used for the longest time goes first.
    #[must_use]
    pub fn cache_bytes(mut self, bytes: usize) -> Session {
        self.cache_bytes = Some(bytes);
        self
    }

    /// Ends a call with an error if the body of a loop has been run this many times and the loop goes on; 10 million
    /// unless this says otherwise.
    #[must_use]
    pub fn loop_limit(mut self, iterations: u64) -> Session {
        self.loop_limit = iterations;
        self
    }

    /// That the values of these inputs are arbitrary, random ones for instance: where shapes depend on one of them, a call is
    /// an error, and nothing is compiled for a value that nobody meant.
    #[must_use]
    pub fn arbitrary_inputs<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Session {
        self.arbitrary.extend(names.into_iter().map(S::into));
        self
    }

    /// The name that the model has; it may be empty.
    pub fn name(&self) -> &str {
        self.model.name()
    }

    /// The inputs of a call, in order.
    pub fn inputs(&self) -> &[InputSpec] {
        self.model.inputs()
    }

    /// The names of the outputs of a call, in order.
    pub fn outputs(&self) -> impl Iterator<Item = &str> {
        self.model.outputs()
    }

    /// How many compiled programs are kept at the moment.
    pub fn cached(&self) -> usize {
        self.plans.all().iter().map(|plan| plan.programs()).sum()
    }

    /// The memory that compiled programs take at the moment, in bytes: see [`Executable::memory_bytes`].
    pub fn memory_bytes(&self) -> usize {
        self.plans.all().iter().map(|plan| plan.bytes()).sum()
    }

    /// Gives back the memory that compiled programs keep for later runs: see [`Executable::trim`]. The programs stay.
    pub fn trim(&self) {
        self.plans.all().iter().for_each(|plan| plan.first.trim());
    }

    /// The calls so far: how many there were, which of them compiled, what that took.
    pub fn timings(&self) -> SessionTimings {
        let timings = self.timings.lock().clone();
        SessionTimings { cache_limit: self.limit().most, cached: self.cached(), ..timings }
    }

    /// The outputs for inputs given in order or with their names: see [`Input`](crate::Input).
    ///
    /// # Errors
    /// What is wrong with the model or not supported, all of it; [`crate::ErrorKind::Usage`] if there are no inputs of
    /// these names; and as [`Executable::run`].
    pub fn run<T: AsInput>(&self, inputs: &[T]) -> Result<Vec<Tensor>> {
        Ok(self.call(inputs)?.outputs)
    }

    /// As [`Session::run`], for chosen outputs, with a deadline, or so that it can be cancelled.
    ///
    /// # Errors
    /// As [`Session::run`]; [`crate::ErrorKind::Usage`] if outputs are chosen that do not exist,
    /// [`crate::ErrorKind::Cancelled`] and [`crate::ErrorKind::DeadlineExceeded`] if the options end the call.
    pub fn run_with<T: AsInput>(&self, inputs: &[T], options: &RunOptions) -> Result<Vec<Tensor>> {
        Ok(self.call_with(inputs, options)?.outputs)
    }

    /// As [`Session::run`], into buffers of the caller's: tensors, arrays or slices (see
    /// [`OutputBuffer`]), one for each output. A model that is one program writes to them directly; of others, the
    /// results are copied.
    ///
    /// # Errors
    /// As [`Session::run`]; [`crate::ErrorKind::Shape`] if a buffer does not fit its output. After an error the buffers
    /// hold unspecified values.
    pub fn run_into<T: AsInput, B: OutputBuffer>(&self, inputs: &[T], outputs: &mut [B]) -> Result<()> {
        self.run_into_with(inputs, outputs, &RunOptions::new())
    }

    /// As [`Session::run_into`], with options as in [`Session::run_with`]. If outputs are chosen, there is a buffer for
    /// each of them, in their order.
    ///
    /// # Errors
    /// As [`Session::run_into`] and [`Session::run_with`].
    pub fn run_into_with<T: AsInput, B: OutputBuffer>(
        &self,
        inputs: &[T],
        outputs: &mut [B],
        options: &RunOptions,
    ) -> Result<()> {
        let run = Run::new(self, options);
        self.timed(&run, |plan| run.body_into(plan, self.arguments(inputs)?, outputs)).map(|((), _)| ())
    }

    /// As [`Session::run`], and what it cost.
    ///
    /// # Errors
    /// As [`Session::run`]; and if an output is not a tensor.
    pub fn call<T: AsInput>(&self, inputs: &[T]) -> Result<Call> {
        self.call_with(inputs, &RunOptions::new())
    }

    /// As [`Session::run_with`], and what it cost.
    ///
    /// # Errors
    /// As [`Session::run_with`]; and if an output is not a tensor.
    pub fn call_with<T: AsInput>(&self, inputs: &[T], options: &RunOptions) -> Result<Call> {
        let call = self.call_items_with(inputs, options)?;
        let mut outputs = Vec::with_capacity(call.outputs.len());
        for (number, item) in call.outputs.into_iter().enumerate() {
            let Item::Tensor(tensor) = item else {
                let name = match options.chosen_outputs() {
                    Some(names) => names.get(number).map(String::as_str),
                    None => self.model.outputs().nth(number),
                };
                return Err(run::output_error(name.unwrap_or_default(), &item));
            };
            outputs.push(tensor);
        }
        let Call { compiled, programs, recompiled, total, .. } = call;
        Ok(Call { outputs, compiled, programs, recompiled, total })
    }

    /// As [`Session::call`], for models whose inputs or outputs may be sequences or optional values.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn call_items<T: AsInput>(&self, inputs: &[T]) -> Result<Call<Item>> {
        self.call_items_with(inputs, &RunOptions::new())
    }

    /// As [`Session::call_items`], with options as in [`Session::run_with`].
    ///
    /// # Errors
    /// As [`Session::run_with`].
    pub fn call_items_with<T: AsInput>(&self, inputs: &[T], options: &RunOptions) -> Result<Call<Item>> {
        let run = Run::new(self, options);
        let (outputs, timing) = self.timed(&run, |plan| run.body(plan, self.arguments(inputs)?))?;
        Ok(Call::new(outputs, timing))
    }

    /// Calls, and tells what was run: programs, operations of the host, bodies of loops.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn trace(&self, inputs: &[Item]) -> Result<(Call<Item>, CallTrace)> {
        let options = RunOptions::new();
        let run = Run::traced(self, &options);
        let (outputs, timing) = self.timed(&run, |plan| run.body(plan, self.arguments(inputs)?))?;
        Ok((Call::new(outputs, timing), run.into_trace()))
    }

    /// Compiles what calls with inputs of these shapes need, in order or with the names of the inputs, and returns how
    /// many programs that were: 0 if nothing was left to do. Nothing is run, so that what depends on data (the programs
    /// behind a result of unknown length, bodies of loops) is compiled by the first call all the same.
    ///
    /// # Errors
    /// What is wrong with the model or not supported, all of it; [`crate::ErrorKind::Usage`] if shapes depend on the
    /// values of an input: these must be known, so call the session instead.
    pub fn warm_up<S: AsInputShape>(&self, shapes: &[S]) -> Result<usize> {
        self.warm_up_with(shapes, &RunOptions::new())
    }

    /// As [`Session::warm_up`], for calls that choose these outputs; a deadline ends waiting for others that compile the
    /// same.
    ///
    /// # Errors
    /// As [`Session::warm_up`] and [`Session::run_with`].
    pub fn warm_up_with<S: AsInputShape>(&self, shapes: &[S], options: &RunOptions) -> Result<usize> {
        let run = Run::new(self, options);
        let (_, timing) = self.timed(&run, |plan| run.first(plan, self.shapes(shapes)?))?;
        Ok(timing.programs)
    }

    /// A call, with what it cost, which is noted whether it succeeds or not.
    fn timed<R>(&self, run: &Run<'_>, call: impl FnOnce(&BodyPlan) -> Result<R>) -> Result<(R, CallTiming)> {
        let start = Instant::now();
        let plan = self.plans.of(run.options)?;
        let result = run.options.check().and_then(|()| call(&plan));
        let (programs, compiling) = run.compiled();
        let compiled = (programs > 0).then_some(compiling);
        let timing =
            CallTiming { compiled, programs, recompiled: run.compiled_again(), total: start.elapsed() };
        self.timings.lock().add(timing);
        Ok((result?, timing))
    }

    /// What a call with these inputs consists of. A model that is one program is compiled for that, and not run; of others
    /// everything is run, since what is compiled next depends on what the parts before return.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn parts(&self, inputs: &[Item]) -> Result<CallTrace> {
        let options = RunOptions::new();
        let run = Run::for_parts(self, &options);
        self.timed(&run, |plan| run.body(plan, self.arguments(inputs)?))?;
        Ok(run.into_trace())
    }

    /// The model as one graph, for inputs like these; `None` if it is not one.
    ///
    /// # Errors
    /// What is wrong with the model or not supported, all of it; [`crate::ErrorKind::Usage`] if shapes depend on the values
    /// of an input whose values are arbitrary.
    pub fn graph(&self, inputs: &[Item]) -> Result<Option<Model>> {
        let options = RunOptions::new();
        let body = &self.plans.of(&options)?.body;
        let slots = run::arranged(body, self.arguments(inputs)?)?;
        let mut facts = plan::facts(&slots, &BTreeSet::new())?;
        let stage = Run::new(self, &options).stage(body, None, &mut facts, &slots, |_, _| {})?;
        Ok(stage.graph.filter(|_| stage.whole).map(Model::from))
    }

    /// The compiled form for these inputs, and what compiling took if it was not there yet. It is right for other
    /// inputs of the same shapes, as long as those that shapes depend on have the same values.
    ///
    /// # Errors
    /// As [`Session::run`]; and if the model is more than one program.
    pub fn executable(&self, inputs: &[Tensor]) -> Result<(Executable, Option<Duration>)> {
        let options = RunOptions::new();
        let run = Run::new(self, &options);
        let (entry, timing) = self.timed(&run, |plan| run.first(plan, self.arguments(inputs)?))?;
        match &entry.code {
            Some(StageCode::Compiled(executable)) if entry.stage.whole => {
                Ok((executable.clone(), timing.compiled))
            }
            _ => Err(Error::unsupported("the model is not one program: only a session can run it")),
        }
    }

    /// How many compiled forms are kept.
    fn limit(&self) -> Limit {
        match (self.cache_limit, self.cache_bytes) {
            (None, None) => Limit { most: CACHE_MOST, least: CACHE_LIMIT, bytes: CACHE_BYTES },
            (Some(most), None) => Limit { most, least: most, bytes: usize::MAX },
            (most, Some(bytes)) => Limit { most: most.unwrap_or(CACHE_MOST), least: 1, bytes },
        }
    }

    /// The largest argument, in bytes, for whose value the model is compiled at the moment: shapes and axes are small.
    /// If more different values come than forms are kept, compiling for them does not pay.
    fn specialize(&self) -> Option<usize> {
        let limit = self.cache_limit.unwrap_or_default().max(CACHE_LIMIT);
        (self.specialized.load(Ordering::Relaxed) < limit).then_some(plan::MAX_VALUE_BYTES)
    }
}
