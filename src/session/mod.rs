//! A session: an ONNX model whose shapes are not known before it is called. It is compiled for the shapes of a
//! call (and for the values of inputs that shapes depend on) when they come for the first time; what was compiled
//! is kept and found again.
//!
//! Most models become one program. Where the shape of a result depends on data, or a condition decides what is
//! computed, a model becomes several programs, with operations of the host and control flow between them:
//! [`Body`] tells the parts, `plan` compiles and keeps them, `run` runs them, `control` the loops.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::compiler::Compiler;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::Model;
use crate::host::Item;
use crate::onnx::{Body, Fact, InputKind, InputSpec, OnnxModel, Planned};
use crate::runtime::Executable;
use crate::tensor::Tensor;

mod control;
mod plan;
mod run;
mod timing;
mod trace;

use plan::{Code, Plan};
use run::Run;
pub use timing::{CallTiming, SessionTimings};
pub use trace::{Part, Trace};

/// How many compiled forms are kept, unless [`Session::cache_limit`] says otherwise.
const CACHE_LIMIT: usize = 16;

/// How often the body of a loop is run, unless [`Session::loop_limit`] says otherwise.
const LOOP_LIMIT: u64 = 10_000_000;

/// What computes the programs of a model.
#[derive(Debug)]
enum Engine {
    Compiler(Compiler),
    /// The evaluator of graphs: slow, and the reference.
    Evaluator,
}

/// An ONNX model, compiled when it is called.
///
/// Many threads may call it at once.
#[derive(Debug)]
pub struct Session {
    model: Arc<OnnxModel>,
    engine: Engine,
    limit: usize,
    loop_limit: u64,
    /// A model whose nodes contradict each other is reported when it is called.
    plan: Result<Plan>,
    /// How many programs were compiled for the values of inputs.
    specialized: AtomicUsize,
    timings: Mutex<SessionTimings>,
}

/// What a call returned, and what it cost.
#[derive(Clone, Debug)]
pub struct Call<T = Tensor> {
    /// The outputs, in order.
    pub outputs: Vec<T>,
    /// What compiling took, the import included, if this call compiled; `None` for a warm call.
    pub compiled: Option<Duration>,
    /// How many programs this call compiled.
    pub programs: usize,
    /// The whole call.
    pub total: Duration,
}

impl Session {
    /// A session for a model that is read already.
    pub fn new(model: OnnxModel, compiler: Compiler) -> Session {
        Session::with_engine(model, Engine::Compiler(compiler))
    }

    /// A session that compiles nothing: programs are evaluated as [`crate::graph::evaluate`] does it. It is slow, and
    /// what compiled sessions are compared with.
    pub fn reference(model: OnnxModel) -> Session {
        Session::with_engine(model, Engine::Evaluator)
    }

    fn with_engine(model: OnnxModel, engine: Engine) -> Session {
        let model = Arc::new(model);
        let plan = Body::of_model(Arc::clone(&model)).map(|body| Plan::new(Arc::new(body)));
        Session {
            model,
            engine,
            limit: CACHE_LIMIT,
            loop_limit: LOOP_LIMIT,
            plan,
            specialized: AtomicUsize::new(0),
            timings: Mutex::default(),
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
    #[must_use]
    pub fn cache_limit(mut self, limit: usize) -> Session {
        self.limit = limit.max(1);
        self
    }

    /// Ends a call with an error if the body of a loop has been run this many times and the loop goes on; 10 million
    /// unless this says otherwise.
    #[must_use]
    pub fn loop_limit(mut self, iterations: u64) -> Session {
        self.loop_limit = iterations;
        self
    }

    /// The model.
    pub fn model(&self) -> &OnnxModel {
        &self.model
    }

    /// The inputs of a call, in order.
    pub fn inputs(&self) -> &[InputSpec] {
        self.model.inputs()
    }

    /// How many compiled programs are kept at the moment.
    pub fn cached(&self) -> usize {
        self.plan.as_ref().map_or(0, Plan::programs)
    }

    /// The calls so far: how many there were, which of them compiled, what that took.
    pub fn timings(&self) -> SessionTimings {
        self.timings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The outputs for inputs given in order.
    ///
    /// # Errors
    /// What is wrong with the model or not supported, all of it; and as [`Executable::run`].
    pub fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        Ok(self.call(inputs)?.outputs)
    }

    /// As [`Session::run`], and what it cost.
    ///
    /// # Errors
    /// As [`Session::run`]; and if an output is not a tensor.
    pub fn call(&self, inputs: &[Tensor]) -> Result<Call> {
        let call = self.call_items(&inputs.iter().cloned().map(Item::Tensor).collect::<Vec<_>>())?;
        let mut outputs = Vec::with_capacity(call.outputs.len());
        for (item, name) in call.outputs.into_iter().zip(self.model.outputs()) {
            match item {
                Item::Tensor(tensor) => outputs.push(tensor),
                _ => {
                    let name = name.escape_debug();
                    return Err(Error::shape(format!("the output '{name}' is no tensor: use call_items")));
                }
            }
        }
        let Call { compiled, programs, total, .. } = call;
        Ok(Call { outputs, compiled, programs, total })
    }

    /// As [`Session::call`], for models whose inputs or outputs may be sequences or optional values.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn call_items(&self, inputs: &[Item]) -> Result<Call<Item>> {
        let run = Run::new(self);
        self.execute(&run, inputs)
    }

    /// Calls, and tells what was run: programs, operations of the host, bodies of loops.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn trace(&self, inputs: &[Item]) -> Result<(Call<Item>, Trace)> {
        let run = Run::traced(self);
        let call = self.execute(&run, inputs)?;
        Ok((call, run.into_trace()))
    }

    fn execute(&self, run: &Run<'_>, inputs: &[Item]) -> Result<Call<Item>> {
        let start = Instant::now();
        self.expect_inputs(inputs)?;
        let plan = self.plan.as_ref().map_err(Error::clone)?;
        let result = run.body(plan, inputs.to_vec());
        let (programs, compiling) = run.compiled();
        let total = start.elapsed();
        let compiled = (programs > 0).then_some(compiling);
        let mut timings = self.timings.lock().unwrap_or_else(PoisonError::into_inner);
        timings.add(CallTiming { compiled, programs, total });
        drop(timings);
        Ok(Call { outputs: result?, compiled, programs, total })
    }

    /// The model as one graph, for inputs like these; `None` if it is not one. Of the inputs in `unknown` only the
    /// shapes are given, and not the values.
    ///
    /// # Errors
    /// What is wrong with the model or not supported, all of it; [`ErrorKind::Usage`] if shapes depend on the values of
    /// an input that is unknown.
    pub fn graph(&self, inputs: &[Item], unknown: &[String]) -> Result<Option<Model>> {
        self.expect_inputs(inputs)?;
        let body = &self.plan.as_ref().map_err(Error::clone)?.body;
        let slots = run::arranged(body, inputs.to_vec())?;
        let mut facts = plan::facts(&slots, &BTreeSet::new());
        loop {
            let needed = match body.stage(None, &facts, Some(plan::MAX_VALUE_BYTES))? {
                Planned::Stage(stage) => {
                    let graph = stage.graph.filter(|_| stage.whole);
                    return Ok(graph.map(Model::from));
                }
                Planned::NeedsValues(needed) => needed,
            };
            for slot in needed {
                if let Some(name) = unknown.iter().find(|name| *name == body.name(slot)) {
                    let name = name.escape_debug();
                    return Err(Error::usage(format!(
                        "shapes in this model depend on the values of the input '{name}', which must be given"
                    )));
                }
                facts.insert(slot, Fact::Value(plan::tensor(&slots, slot)?.clone()));
            }
        }
    }

    /// The compiled form for these inputs, and what compiling took if it was not there yet. It is right for other
    /// inputs of the same shapes, as long as those that shapes depend on have the same values.
    ///
    /// # Errors
    /// As [`Session::run`]; and if the model is more than one program.
    pub fn executable(&self, inputs: &[Tensor]) -> Result<(Executable, Option<Duration>)> {
        let items: Vec<Item> = inputs.iter().cloned().map(Item::Tensor).collect();
        self.expect_inputs(&items)?;
        let run = Run::new(self);
        let entry = run.first(self.plan.as_ref().map_err(Error::clone)?, items)?;
        let (programs, compiling) = run.compiled();
        match &entry.code {
            Some(Code::Compiled(executable)) if entry.stage.whole => {
                Ok((executable.clone(), (programs > 0).then_some(compiling)))
            }
            _ => Err(Error::unsupported("the model is not one program: only a session can run it")),
        }
    }

    fn expect_inputs(&self, inputs: &[Item]) -> Result<()> {
        if inputs.len() != self.inputs().len() {
            let message = format!("{} inputs are needed, but {} given", self.inputs().len(), inputs.len());
            return Err(Error::new(ErrorKind::Shape, message));
        }
        for (spec, item) in self.inputs().iter().zip(inputs) {
            let name = spec.name.escape_debug();
            let kind = match item {
                Item::Tensor(_) => InputKind::Tensor,
                Item::Sequence(_) => InputKind::Sequence,
                Item::Absent => InputKind::Optional,
            };
            if kind != spec.kind && spec.kind != InputKind::Optional {
                let wanted = if spec.kind == InputKind::Tensor { "a tensor" } else { "a sequence" };
                return Err(Error::shape(format!("input '{name}' must be {wanted}")));
            }
            let tensors = match item {
                Item::Tensor(tensor) => std::slice::from_ref(tensor),
                Item::Sequence(list) => list,
                Item::Absent => &[],
            };
            if let Some(other) = tensors.iter().find(|tensor| tensor.dtype() != spec.dtype) {
                let (wanted, found) = (spec.dtype, other.dtype());
                return Err(Error::shape(format!("input '{name}' is {wanted}, but {found} was given")));
            }
        }
        Ok(())
    }

    /// The largest argument, in bytes, for whose value the model is compiled at the moment: shapes and axes are small.
    /// If more different values come than forms are kept, compiling for them does not pay.
    fn specialize(&self) -> Option<usize> {
        (self.specialized.load(Ordering::Relaxed) < self.limit.max(CACHE_LIMIT))
            .then_some(plan::MAX_VALUE_BYTES)
    }
}
