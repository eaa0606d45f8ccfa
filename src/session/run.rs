//! One call: stage by stage, the program and then the steps.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nestjit_ir::DType;

use super::cache::{Cache, Found, Maker};
use super::model::Body;
use super::plan::{BodyPlan, Entry, Slots, StageCode, facts, item, own, tensor, value};
use super::trace::{CallTrace, ModelPart, PartPlace};
use super::{Engine, Session};
use crate::error::{Error, Result};
use crate::graph::{Graph, Model, Precision, evaluate};
use crate::host::Item;
use crate::onnx::{Fact, Planned, Slot, Stage};
use crate::runtime::input::Value;
use crate::runtime::{OutputBuffer, RunOptions, output};
use crate::tensor::Tensor;

/// One call of a session.
pub(super) struct Run<'s> {
    pub session: &'s Session,
    pub options: &'s RunOptions,
    /// How many programs were compiled.
    programs: Cell<usize>,
    /// How many of them had been compiled before, and forgotten.
    again: Cell<usize>,
    compiling: Cell<Duration>,
    /// How many bodies this is in.
    depth: Cell<usize>,
    trace: Option<RefCell<CallTrace>>,
    /// Whether a model that is one program is only compiled.
    only_parts: bool,
}

impl<'s> Run<'s> {
    pub fn new(session: &'s Session, options: &'s RunOptions) -> Run<'s> {
        Run {
            session,
            options,
            programs: Cell::default(),
            again: Cell::default(),
            compiling: Cell::default(),
            depth: Cell::default(),
            trace: None,
            only_parts: false,
        }
    }

    /// A call that notes what it runs.
    pub fn traced(session: &'s Session, options: &'s RunOptions) -> Run<'s> {
        Run { trace: Some(RefCell::default()), ..Run::new(session, options) }
    }

    /// A call that notes what it would run, and runs no more of it than it has to.
    pub fn for_parts(session: &'s Session, options: &'s RunOptions) -> Run<'s> {
        Run { only_parts: true, ..Run::traced(session, options) }
    }

    pub fn into_trace(self) -> CallTrace {
        self.trace.map(RefCell::into_inner).unwrap_or_default()
    }

    /// How many programs were compiled, and what that took, the import included.
    pub fn compiled(&self) -> (usize, Duration) {
        (self.programs.get(), self.compiling.get())
    }

    /// How many programs were compiled that the cache had forgotten.
    pub fn compiled_again(&self) -> usize {
        self.again.get()
    }

    /// Executes a body inside the one that is being executed.
    pub fn inner(&self, plan: &BodyPlan, arguments: Vec<Item>) -> Result<Vec<Item>> {
        self.options.check()?;
        self.depth.set(self.depth.get() + 1);
        let result = self.body(plan, arguments.into_iter().map(Value::Item).collect());
        self.depth.set(self.depth.get() - 1);
        result
    }

    /// Executes a body.
    pub fn body(&self, plan: &BodyPlan, arguments: Vec<Value<'_>>) -> Result<Vec<Item>> {
        let slots = arranged(&plan.body, arguments)?;
        let entry = self.entry(&plan.body, &plan.first, None, &slots)?;
        if self.only_parts && entry.stage.whole {
            self.note_program(&entry, &slots, None);
            return Ok(Vec::new());
        }
        self.stages(plan, entry, slots)
    }

    /// Executes a model, and writes what comes out to buffers: at once if it is one program.
    pub fn body_into<B: OutputBuffer>(
        &self,
        plan: &BodyPlan,
        arguments: Vec<Value<'_>>,
        outputs: &mut [B],
    ) -> Result<()> {
        let names = || plan.body.outputs().iter().map(|slot| plan.body.name(*slot));
        output::count(names(), outputs.len())?;
        let slots = arranged(&plan.body, arguments)?;
        let entry = self.entry(&plan.body, &plan.first, None, &slots)?;
        if let (Some(StageCode::Compiled(executable)), true) = (&entry.code, entry.stage.whole) {
            let inputs = entry.stage.inputs.iter().map(|slot| value(&slots, *slot)?.view());
            return executable.run_all_into(&inputs.collect::<Result<Vec<_>>>()?, outputs, self.options);
        }
        let results = self.stages(plan, entry, slots)?;
        for ((name, item), buffer) in names().zip(&results).zip(outputs) {
            let Item::Tensor(tensor) = item else { return Err(output_error(name, item)) };
            output::write(name, tensor, buffer)?;
        }
        Ok(())
    }

    /// Executes a body whose first stage is found.
    fn stages(&self, plan: &BodyPlan, mut entry: Arc<Entry>, mut slots: Slots<'_>) -> Result<Vec<Item>> {
        loop {
            self.program(&entry, &mut slots)?;
            for (slot, tensor) in &entry.stage.constants {
                slots[*slot] = Some(Value::Item(Item::Tensor(tensor.clone())));
            }
            for (from, to) in &entry.stage.aliases {
                slots[*to] = Some(value(&slots, *from)?.clone());
            }
            for (number, (step, plans)) in entry.stage.steps.iter().zip(&entry.plans).enumerate() {
                self.options.check()?;
                let start = Instant::now();
                let before = self.compiling.get();
                // Before its bodies, so that these follow it in a trace.
                self.note_step(&entry, number, None);
                own(&mut slots, step.inputs.iter().flatten().chain(step.captures()).copied())?;
                let results = self.step(step, plans, &slots);
                let results = results.map_err(|e| e.at(&step.reason.node, &step.reason.op))?;
                let compiling = self.compiling.get() - before;
                self.note_step(&entry, number, Some(start.elapsed().saturating_sub(compiling)));
                for (slot, result) in step.outputs.iter().zip(results) {
                    if let Some(slot) = slot {
                        slots[*slot] = Some(Value::Item(result));
                    }
                }
            }
            if entry.stage.rest.is_empty() {
                break;
            }
            entry = self.entry(&plan.body, &entry.next, Some(&entry), &slots)?;
        }
        plan.body.outputs().iter().map(|slot| item(&slots, *slot)).collect()
    }

    /// The first stage of a body.
    pub fn first(&self, plan: &BodyPlan, arguments: Vec<Value<'_>>) -> Result<Arc<Entry>> {
        self.entry(&plan.body, &plan.first, None, &arranged(&plan.body, arguments)?)
    }

    /// Runs the program of a stage.
    fn program(&self, entry: &Arc<Entry>, slots: &mut Slots<'_>) -> Result<()> {
        let Some(code) = &entry.code else { return Ok(()) };
        let start = Instant::now();
        let outputs = match code {
            StageCode::Compiled(executable) => {
                let inputs = entry.stage.inputs.iter().map(|slot| value(slots, *slot)?.view());
                let inputs = inputs.collect::<Result<Vec<_>>>()?;
                let mut outputs = executable.allocate_outputs()?;
                executable.run_all_into(&inputs, &mut outputs, self.options)?;
                outputs
            }
            StageCode::Evaluated(graph) => {
                self.options.check()?;
                let inputs = entry.stage.inputs.iter().map(|slot| tensor(slots, *slot));
                evaluate(graph, &inputs.collect::<Result<Vec<_>>>()?, Precision::F32)?
            }
        };
        self.note_program(entry, slots, Some(start.elapsed()));
        for (number, slot) in &entry.stage.outputs {
            slots[*slot] = outputs.get(*number).cloned().map(|tensor| Value::Item(Item::Tensor(tensor)));
        }
        Ok(())
    }

    /// Notes the program of a stage, and the time of a run if it was run.
    fn note_program(&self, entry: &Arc<Entry>, slots: &Slots<'_>, time: Option<Duration>) {
        let Some(trace) = &self.trace else { return };
        let inputs: Vec<Tensor> = entry.stage.inputs.iter().filter_map(|s| tensor(slots, *s).ok()).collect();
        let compiled = entry.code.as_ref().and_then(|code| match code {
            StageCode::Compiled(executable) => Some(executable.clone()),
            StageCode::Evaluated(_) => None,
        });
        let mut trace = trace.borrow_mut();
        let part = trace.part(PartPlace { entry: Arc::clone(entry), step: None }, || ModelPart {
            whole: entry.stage.whole,
            depth: self.depth.get(),
            program: compiled,
            graph: entry.graph.clone(),
            inputs: inputs.clone(),
            reasons: entry.stage.waits.clone(),
            ..ModelPart::default()
        });
        if part.ran(time) > 1 {
            part.last_inputs = Some(inputs);
        }
    }

    /// Notes a step, and the time of a run when it was run.
    fn note_step(&self, entry: &Arc<Entry>, step: usize, time: Option<Duration>) {
        let Some(trace) = &self.trace else { return };
        let reason = entry.stage.steps[step].reason.clone();
        let part = || ModelPart { depth: self.depth.get(), reasons: vec![reason], ..ModelPart::default() };
        trace.borrow_mut().part(PartPlace { entry: Arc::clone(entry), step: Some(step) }, part).ran(time);
    }

    /// The compiled stage for these values.
    fn entry(
        &self,
        body: &Body,
        cache: &Cache,
        previous: Option<&Entry>,
        slots: &Slots<'_>,
    ) -> Result<Arc<Entry>> {
        let mut maker = match cache.find(slots, self.options)? {
            Found::Entry(entry) => return Ok(entry),
            Found::Nothing(maker) => maker,
        };
        let start = Instant::now();
        let programs = self.programs.get();
        let made = self.compile(body, cache, previous, slots, &mut maker);
        self.compiling.set(self.compiling.get() + start.elapsed());
        match made {
            Ok(entry) => {
                let added = maker.finish(entry, self.session.limit(), self.session.memory_bytes());
                if added.again {
                    self.again.set(self.again.get() + self.programs.get() - programs);
                }
                Ok(added.entry)
            }
            Err(error) => {
                maker.fail(&error);
                Err(error)
            }
        }
    }

    fn compile(
        &self,
        body: &Body,
        cache: &Cache,
        previous: Option<&Entry>,
        slots: &Slots<'_>,
        maker: &mut Maker<'_>,
    ) -> Result<Entry> {
        let none = BTreeSet::new();
        let known = previous.map_or(&none, Entry::known);
        if let Some(previous) = previous {
            maker.needs(previous.next_values(slots)?);
        }
        let mut facts = facts(slots, known)?;
        let rest = previous.map(|previous| previous.stage.rest.as_slice());
        let mut stage = self.stage(body, rest, &mut facts, slots, |slot, value| {
            maker.needs([(slot, value)]);
            self.session.specialized.fetch_add(1, Ordering::Relaxed);
        })?;
        let values = maker.planned();
        if stage.whole {
            stage.outputs = body.outputs().iter().copied().enumerate().collect();
        }
        let graph = stage.graph.take();
        let kept = graph.as_ref().filter(|_| self.trace.is_some()).cloned().map(Arc::new);
        let code = graph.map(|graph| self.code(graph)).transpose()?;
        let mut entry = Entry::new(cache.shapes(slots), values, known.clone(), stage, code);
        entry.graph = kept;
        Ok(entry)
    }

    /// The next stage of a body. Where shapes depend on values of arguments, it is for these, and `needs` is told.
    pub fn stage(
        &self,
        body: &Body,
        rest: Option<&[usize]>,
        facts: &mut BTreeMap<Slot, Fact>,
        slots: &Slots<'_>,
        mut needs: impl FnMut(Slot, Tensor),
    ) -> Result<Stage> {
        let specialize = self.session.specialize();
        loop {
            let needed = match body.stage(rest, facts, specialize)? {
                Planned::Stage(stage) => return Ok(*stage),
                Planned::NeedsValues(slots) => slots,
            };
            for slot in needed {
                let name = body.name(slot);
                let refused = match value(slots, slot)? {
                    Value::Unknown(..) => ", not only on its shape: call the session to compile for them",
                    _ if self.depth.get() == 0 && self.session.arbitrary.contains(name) => {
                        ", which must be given"
                    }
                    Value::View(_) | Value::Item(_) => "",
                };
                if !refused.is_empty() {
                    let name = name.escape_debug();
                    return Err(Error::usage(format!(
                        "shapes in this model depend on the values of the input '{name}'{refused}"
                    )));
                }
                let value = tensor(slots, slot)?;
                if let Some(Fact::Value(_)) = facts.insert(slot, Fact::Value(value.clone())) {
                    return Err(Error::internal("the value of an input is needed twice"));
                }
                needs(slot, value);
            }
        }
    }

    fn code(&self, graph: Graph) -> Result<StageCode> {
        self.programs.set(self.programs.get() + 1);
        match &self.session.engine {
            Engine::Compiler(compiler) => Ok(StageCode::Compiled(compiler.compile(&Model::from(graph))?)),
            Engine::Evaluator => Ok(StageCode::Evaluated(Box::new(graph))),
        }
    }
}

/// Arguments where the body expects them.
pub(super) fn arranged<'v>(body: &Body, arguments: Vec<Value<'v>>) -> Result<Slots<'v>> {
    if body.arguments().len() != arguments.len() {
        return Err(Error::internal("a body is given the wrong number of arguments"));
    }
    let mut slots: Slots<'v> = Vec::with_capacity(body.slots());
    slots.resize_with(body.slots(), || None);
    for (slot, value) in body.arguments().iter().zip(arguments) {
        slots[*slot] = Some(value);
    }
    Ok(slots)
}

/// That an output is no tensor.
pub(super) fn output_error(name: &str, item: &Item) -> Error {
    let (name, what) = (name.escape_debug(), item.what());
    Error::shape(format!("the output '{name}' is no tensor, but {what}: use call_items"))
}

/// A tensor as an operand of a step.
pub(super) fn scalar(item: &Item, what: &str) -> Result<Option<i64>> {
    let one = |tensor: &Tensor| {
        let refused = || Err(Error::shape(format!("{what} must be one value, not {tensor:?}")));
        if tensor.len() != 1 {
            return refused();
        }
        match tensor.dtype() {
            DType::Bool => Ok(i64::from(tensor.values::<bool>()?[0])),
            DType::I64 => Ok(tensor.values::<i64>()?[0]),
            DType::I32 => Ok(i64::from(tensor.values::<i32>()?[0])),
            DType::F32 | DType::F64 | DType::F16 | DType::BF16 => refused(),
            DType::I16 | DType::I8 => refused(),
            DType::U64 | DType::U32 | DType::U16 | DType::U8 => refused(),
        }
    };
    match item {
        Item::Absent => Ok(None),
        item => one(item.tensor()?).map(Some),
    }
}
