//! One call: stage by stage, the program and then the steps.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::plan::{Cache, Code, Entry, Plan, Slots, facts, item, tensor};
use super::trace::{Part, Trace};
use super::{Engine, Session};
use crate::error::{Error, Result};
use crate::graph::{Graph, Model, Precision, evaluate};
use crate::host::Item;
use crate::onnx::{Body, Fact, Planned, Stage, Step};
use crate::runtime::TensorView;
use crate::tensor::Tensor;

/// One call of a session.
pub(super) struct Run<'s> {
    pub session: &'s Session,
    /// How many programs were compiled.
    programs: Cell<usize>,
    compiling: Cell<Duration>,
    /// How many bodies this is in.
    depth: Cell<usize>,
    trace: Option<RefCell<Trace>>,
}

impl<'s> Run<'s> {
    pub fn new(session: &'s Session) -> Run<'s> {
        Run {
            session,
            programs: Cell::default(),
            compiling: Cell::default(),
            depth: Cell::default(),
            trace: None,
        }
    }

    /// A call that notes what it runs.
    pub fn traced(session: &'s Session) -> Run<'s> {
        Run { trace: Some(RefCell::default()), ..Run::new(session) }
    }

    pub fn into_trace(self) -> Trace {
        self.trace.map(RefCell::into_inner).unwrap_or_default()
    }

    /// How many programs were compiled, and what that took, the import included.
    pub fn compiled(&self) -> (usize, Duration) {
        (self.programs.get(), self.compiling.get())
    }

    /// Executes a body inside the one that is being executed.
    pub fn inner(&self, plan: &Plan, arguments: Vec<Item>) -> Result<Vec<Item>> {
        self.depth.set(self.depth.get() + 1);
        let result = self.body(plan, arguments);
        self.depth.set(self.depth.get() - 1);
        result
    }

    /// Executes a body.
    pub fn body(&self, plan: &Plan, arguments: Vec<Item>) -> Result<Vec<Item>> {
        let mut slots = arranged(&plan.body, arguments)?;
        let mut entry = self.entry(&plan.body, &plan.first, None, &slots)?;
        loop {
            self.program(&entry, &mut slots)?;
            for (slot, tensor) in &entry.stage.constants {
                slots[*slot] = Some(Item::Tensor(tensor.clone()));
            }
            for (from, to) in &entry.stage.aliases {
                slots[*to] = Some(item(&slots, *from)?.clone());
            }
            for (step, plans) in entry.stage.steps.iter().zip(&entry.plans) {
                let start = Instant::now();
                let before = self.compiling.get();
                // Before its bodies, so that these follow it in a trace.
                self.note(step, &entry, Duration::ZERO, 0);
                let results = self.step(step, plans, &slots);
                let results = results.map_err(|e| e.at(&step.reason.node, &step.reason.op))?;
                self.note(step, &entry, start.elapsed().saturating_sub(self.compiling.get() - before), 1);
                for (slot, result) in step.outputs.iter().zip(results) {
                    if let Some(slot) = slot {
                        slots[*slot] = Some(result);
                    }
                }
            }
            if entry.stage.rest.is_empty() {
                break;
            }
            entry = self.entry(&plan.body, &entry.next, Some(&entry), &slots)?;
        }
        plan.body.outputs().iter().map(|slot| item(&slots, *slot).cloned()).collect()
    }

    /// The first stage of a body.
    pub fn first(&self, plan: &Plan, arguments: Vec<Item>) -> Result<Arc<Entry>> {
        self.entry(&plan.body, &plan.first, None, &arranged(&plan.body, arguments)?)
    }

    /// Runs the program of a stage.
    fn program(&self, entry: &Entry, slots: &mut Slots) -> Result<()> {
        let Some(code) = &entry.code else { return Ok(()) };
        let start = Instant::now();
        let outputs = match code {
            Code::Compiled(executable) => {
                let inputs =
                    entry.stage.inputs.iter().map(|slot| Ok(TensorView::from(tensor(slots, *slot)?)));
                executable.run(&inputs.collect::<Result<Vec<_>>>()?)?
            }
            Code::Evaluated(graph) => {
                let inputs = entry.stage.inputs.iter().map(|slot| tensor(slots, *slot).cloned());
                evaluate(graph, &inputs.collect::<Result<Vec<_>>>()?, Precision::F32)?
            }
        };
        if let Some(trace) = &self.trace {
            let key = std::ptr::from_ref(entry) as usize;
            trace.borrow_mut().add(key, start.elapsed(), || Part {
                depth: self.depth.get(),
                program: if let Code::Compiled(executable) = code { Some(executable.clone()) } else { None },
                inputs: entry.stage.inputs.iter().filter_map(|s| tensor(slots, *s).ok().cloned()).collect(),
                reasons: entry.stage.waits.clone(),
                runs: 0,
                time: Duration::ZERO,
                key,
            });
        }
        for (number, slot) in &entry.stage.outputs {
            slots[*slot] = outputs.get(*number).cloned().map(Item::Tensor);
        }
        Ok(())
    }

    /// Notes a step.
    fn note(&self, step: &Step, entry: &Entry, time: Duration, runs: u64) {
        let Some(trace) = &self.trace else { return };
        let (key, depth) = (std::ptr::from_ref(step) as usize, self.depth.get());
        debug_assert!(!entry.stage.steps.is_empty());
        let mut trace = trace.borrow_mut();
        trace.add(key, time, || Part {
            depth,
            program: None,
            inputs: Vec::new(),
            reasons: vec![step.reason.clone()],
            runs: 0,
            time: Duration::ZERO,
            key,
        });
        if runs == 0
            && let Some(part) = trace.parts.iter_mut().find(|part| part.key == key)
        {
            part.runs -= 1;
        }
    }

    /// The compiled stage for these values.
    fn entry(
        &self,
        body: &Body,
        cache: &Cache,
        previous: Option<&Entry>,
        slots: &Slots,
    ) -> Result<Arc<Entry>> {
        if let Some(entry) = cache.find(slots) {
            return Ok(entry);
        }
        // Calls that need something else must not wait for this. Two that need the same compile it twice.
        let start = Instant::now();
        let entry = Arc::new(self.compile(body, cache, previous, slots)?);
        cache.add(Arc::clone(&entry), slots, self.session.limit);
        self.compiling.set(self.compiling.get() + start.elapsed());
        Ok(entry)
    }

    fn compile(&self, body: &Body, cache: &Cache, previous: Option<&Entry>, slots: &Slots) -> Result<Entry> {
        let none = BTreeSet::new();
        let known = previous.map_or(&none, Entry::known);
        let mut values = previous.map_or(Ok(Vec::new()), |previous| previous.next_values(slots))?;
        let mut facts = facts(slots, known);
        let rest = previous.map(|previous| previous.stage.rest.as_slice());
        let specialize = self.session.specialize();
        let mut stage: Stage = loop {
            let needed = match body.stage(rest, &facts, specialize)? {
                Planned::Stage(stage) => break *stage,
                Planned::NeedsValues(slots) => slots,
            };
            for slot in needed {
                let value = tensor(slots, slot)?.clone();
                if let Some(Fact::Value(_)) = facts.insert(slot, Fact::Value(value.clone())) {
                    return Err(Error::internal("the value of an input is needed twice"));
                }
                values.push((slot, value));
                self.session.specialized.fetch_add(1, Ordering::Relaxed);
            }
        };
        if stage.whole {
            stage.outputs = body.outputs().iter().copied().enumerate().collect();
        }
        let code = stage.graph.take().map(|graph| self.code(graph)).transpose()?;
        Ok(Entry::new(cache, slots, values, known.clone(), stage, code))
    }

    fn code(&self, graph: Graph) -> Result<Code> {
        self.programs.set(self.programs.get() + 1);
        match &self.session.engine {
            Engine::Compiler(compiler) => Ok(Code::Compiled(compiler.compile(&Model::from(graph))?)),
            Engine::Evaluator => Ok(Code::Evaluated(graph)),
        }
    }
}

/// Arguments where the body expects them.
pub(super) fn arranged(body: &Body, arguments: Vec<Item>) -> Result<Slots> {
    if body.arguments().len() != arguments.len() {
        return Err(Error::internal("a body is given the wrong number of arguments"));
    }
    let mut slots: Slots = vec![None; body.slots()];
    for (slot, item) in body.arguments().iter().zip(arguments) {
        slots[*slot] = Some(item);
    }
    Ok(slots)
}

/// A tensor as an operand of a step.
pub(super) fn scalar(item: &Item, what: &str) -> Result<Option<i64>> {
    let one = |tensor: &Tensor| match (tensor.dtype(), tensor.len()) {
        (nestjit_ir::DType::Bool, 1) => Ok(i64::from(tensor.bytes()[0])),
        (nestjit_ir::DType::I64, 1) => Ok(tensor.values::<i64>()?[0]),
        (nestjit_ir::DType::I32, 1) => Ok(i64::from(tensor.values::<i32>()?[0])),
        _ => Err(Error::shape(format!("{what} must be one value, not {tensor:?}"))),
    };
    match item {
        Item::Absent => Ok(None),
        item => one(item.tensor()?).map(Some),
    }
}
