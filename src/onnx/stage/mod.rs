//! A [`Body`] as far as it can be compiled. Its nodes are imported for shapes (and constants) that are known; a node
//! whose result's shape depends on values, or that decides what is computed, ends that: it becomes a [`Step`] that is
//! run when the program of the stage has been, and what depends on it is left to the next stage, whose shapes are
//! known then. A model without such nodes is one stage and one program.

mod control;
mod step;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use nestjit_ir::DType;

use super::attributes::Attributes;
use super::body::{Body, Slot};
use super::halt::Halt;
use super::import::{Importer, Specialization, bind};
use super::model::{InputKind, OnnxModel};
use super::names::{node_name, op_name};
use super::node::operator::HostNode;
use super::ops;
use super::proto::NodeProto;
use super::scope::{Binding, Scope};
use super::sink::{GraphSink, Imported, Mode};
use crate::error::{Error, Result};
use crate::graph::{Graph, ValueId};
use crate::tensor::Tensor;
use control::Around;

pub use step::{Branch, Reason, Step, StepKind};

/// What is known of a value when a stage is planned.
#[derive(Clone, Debug)]
pub enum Fact {
    /// A tensor of this type and shape.
    Tensor(DType, Vec<usize>),
    /// This tensor: the stage is right for it only.
    Value(Tensor),
    /// A sequence, or an optional value that is empty.
    Item,
}

/// The compiled part of a body, and what is run after it.
#[derive(Debug, Default)]
pub struct Stage {
    /// What is to be compiled; `None` if there is nothing to compute.
    pub graph: Option<Graph>,
    /// The graph's inputs.
    pub inputs: Vec<Slot>,
    /// Outputs of the graph by number, and where they go.
    pub outputs: Vec<(usize, Slot)>,
    /// Values that are others under another name: from, to.
    pub aliases: Vec<(Slot, Slot)>,
    /// Values that are known.
    pub constants: Vec<(Slot, Tensor)>,
    /// What is run after the graph, in order.
    pub steps: Vec<Step>,
    /// The nodes that are left to the next stage, by position.
    pub rest: Vec<usize>,
    /// The results of the steps on whose shapes the next stage depends.
    pub shapes: Vec<Slot>,
    /// The next stage is right only for the values that are here.
    pub values: Vec<Slot>,
    /// The nodes that need them.
    pub waits: Vec<Reason>,
    /// Whether the graph is the whole model, with the model's inputs and outputs in their order.
    pub whole: bool,
}

/// What comes of planning a stage.
#[derive(Debug)]
pub enum Planned {
    /// The stage.
    Stage(Box<Stage>),
    /// Shapes depend on these arguments of a model, which must be a [`Fact::Value`].
    NeedsValues(Vec<Slot>),
}

/// What has become of a name that no value of the graph has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not a tensor; it is there when the stage begins.
    Item,
    /// It is there when the steps so far have been run.
    Step,
    /// It is made by a later stage.
    Later,
}

/// A stage in the making.
struct Walk<'a, 'm> {
    body: &'a Body,
    importer: Importer<'m>,
    sink: GraphSink,
    states: HashMap<Slot, State>,
    steps: Vec<Step>,
    rest: Vec<usize>,
    values: BTreeSet<Slot>,
    waits: Vec<Reason>,
}

impl Body {
    /// The stage that executes what can be executed of the nodes in `rest` (at first: all), given what is known of
    /// values that exist. With `specialize`, nodes that need the value of a small argument of a model are compiled
    /// for it.
    ///
    /// # Errors
    /// All that is wrong with these nodes or that is not supported, in one message.
    pub fn stage(
        &self,
        rest: Option<&[usize]>,
        facts: &BTreeMap<Slot, Fact>,
        specialize: Option<usize>,
    ) -> Result<Planned> {
        self.planned(rest, facts, specialize).map_err(|e| self.model.located(e))
    }

    fn planned(
        &self,
        rest: Option<&[usize]>,
        facts: &BTreeMap<Slot, Fact>,
        specialize: Option<usize>,
    ) -> Result<Planned> {
        let model: &OnnxModel = &self.model;
        let mode = Mode::Staged { specialize: specialize.filter(|_| rest.is_none()) };
        let importer = Importer { model, operators: ops::table() };
        let mut sink = importer.sink(mode);
        let mut scope = Scope::new(&self.opsets);
        scope.attributes.clone_from(&self.attributes);
        scope.prefix.clone_from(&self.prefix);
        scope.calls.clone_from(&self.calls);
        scope.depth = self.depth;
        let mut arguments = Vec::new();
        let first_of_model = rest.is_none() && self.is_model();
        if first_of_model {
            importer.interface(&mut sink, &mut scope, &self.specialization(facts));
            let kept = model.inputs.iter().zip(self.arguments());
            arguments = kept.filter(|(i, _)| scope.names.contains_key(&i.name)).map(|(_, s)| *s).collect();
        }
        let mut states = HashMap::new();
        for (slot, fact) in facts {
            let name = self.name(*slot);
            let binding = match fact {
                Fact::Item if self.absent.contains(name) => Binding::Absent,
                Fact::Item => {
                    states.insert(*slot, State::Item);
                    continue;
                }
                _ if first_of_model => continue,
                Fact::Value(tensor) => Binding::Value(sink.constant(name, tensor.clone())),
                Fact::Tensor(dtype, shape) => {
                    arguments.push(*slot);
                    Binding::Value(sink.input_like(name, *dtype, shape))
                }
            };
            scope.names.insert(name.to_owned(), binding);
        }
        let own = self.consts.iter().map(|(name, constant)| (name, constant.clone()));
        for (name, constant) in model.constants().filter(|_| self.is_model()).chain(own) {
            scope.names.insert(name.clone(), Binding::Value(sink.typed_constant(name, constant)));
        }
        for name in &self.absent {
            scope.names.insert(name.clone(), Binding::Absent);
        }
        let all: Vec<usize>;
        let nodes = match rest {
            Some(rest) => rest,
            None => {
                all =
                    (0..self.nodes().len()).filter(|index| !self.is_choice() || self.live[*index]).collect();
                &all
            }
        };
        let (rest, values, waits) = (Vec::new(), BTreeSet::new(), Vec::new());
        let mut walk = Walk { body: self, importer, sink, states, steps: Vec::new(), rest, values, waits };
        for index in nodes {
            walk.node(*index, &mut scope);
        }
        walk.finish(&scope, arguments, first_of_model)
    }

    /// The arguments of a model, as far as they are tensors.
    fn specialization(&self, facts: &BTreeMap<Slot, Fact>) -> Specialization {
        let mut specialization = Specialization::default();
        for (input, slot) in self.model.inputs.iter().zip(self.arguments()) {
            match facts.get(slot) {
                Some(Fact::Tensor(_, shape)) => {
                    specialization.shapes.insert(input.name.clone(), shape.clone());
                }
                Some(Fact::Value(tensor)) => {
                    specialization.values.insert(input.name.clone(), tensor.clone());
                }
                // The declaration has to do; if it is that of a tensor, that is an error of its own.
                Some(Fact::Item) | None => debug_assert!(input.kind != InputKind::Tensor),
            }
        }
        specialization
    }
}

impl Walk<'_, '_> {
    /// Imports a node, or makes a step of it, or leaves it to the next stage.
    fn node(&mut self, index: usize, scope: &mut Scope<'_>) {
        let body = self.body;
        let node = &body.nodes()[index];
        let name = format!("{}{}", body.prefix, node_name(node, index));
        let op = op_name(node, scope);
        let has = |walk: &Self, state| body.reads[index].iter().any(|r| walk.states.get(r) == Some(&state));
        if has(self, State::Later) || has(self, State::Step) {
            // What nobody implements is known without shapes.
            let entry = self.importer.entry(node, scope).map_err(|e| e.at(&name, &op));
            let entry = self.sink.problems.keep(entry).flatten();
            if has(self, State::Later) || !entry.is_some_and(|(entry, _)| entry.is_always_on_host()) {
                return self.leave(index);
            }
        }
        let items = has(self, State::Item) || has(self, State::Step);
        let mark = self.sink.mark();
        let result = match items {
            true => Err(Halt::items()),
            false => self.importer.node(&mut self.sink, node, &name, scope),
        };
        let (why, value) = match result {
            Err(Halt::Host { why, value }) => (why, value),
            Err(halt) => return self.broken(node, &name, halt, scope),
            Ok(results) => return bind(&mut self.sink, node, &name, &results, mark.nodes, scope),
        };
        let operands = value.map(|id| self.operands_of(id, node, scope)).unwrap_or_default();
        self.sink.rollback(mark);
        let reason = Reason { node: name.clone(), op: op.clone(), why };
        match self.step(node, &reason, scope) {
            Ok(Some(kind)) => {
                let slots = |names: &[String]| names.iter().map(|n| body.slot(n)).collect::<Vec<_>>();
                let (inputs, outputs) = (slots(&node.input), slots(&node.output));
                for slot in outputs.iter().flatten() {
                    self.states.insert(*slot, State::Step);
                }
                if body.live[index] {
                    self.steps.push(Step { reason, inputs, outputs, kind });
                }
            }
            Ok(None) if operands.is_empty() => {
                let why = format!("{}, which the operator does not support", reason.why);
                self.broken(node, &name, Halt::unsupported(why), scope);
            }
            Ok(None) => {
                if body.live[index] {
                    self.values.extend(operands);
                    self.waits.push(reason);
                }
                self.leave(index);
            }
            Err(e) => self.broken(node, &name, e.into(), scope),
        }
    }

    /// Notes why a node has no results.
    fn broken(&mut self, node: &NodeProto, name: &str, halt: Halt, scope: &mut Scope<'_>) {
        let none = self.sink.note(halt, name, &op_name(node, scope));
        bind(&mut self.sink, node, name, &none, usize::MAX, scope);
    }

    /// The step that a node is: an operation of the host, or control flow.
    fn step(&self, node: &NodeProto, reason: &Reason, scope: &Scope<'_>) -> Result<Option<StepKind>> {
        let around = Around { importer: self.importer, body: self.body, sink: &self.sink, scope };
        if let Some(kind) = control::step(around, node, &reason.node)? {
            return Ok(Some(kind));
        }
        let Some((entry, opset)) = self.importer.entry(node, scope)? else { return Ok(None) };
        let (attributes, external) = (&Attributes::new(node, scope)?, &self.body.model.external);
        let op = entry.host_op(&HostNode { attributes, external, opset, outputs: node.output.len() })?;
        if op.is_some() {
            attributes.expect_all_read()?;
        }
        Ok(op.map(StepKind::Host))
    }

    /// Leaves a node to the next stage.
    fn leave(&mut self, index: usize) {
        for output in self.body.nodes()[index].output.iter().filter(|o| !o.is_empty()) {
            if let Some(slot) = self.body.slot(output) {
                self.states.insert(slot, State::Later);
            }
        }
        if self.body.live[index] {
            self.rest.push(index);
        }
    }

    /// The operands of a node that a value made by its import depends on.
    fn operands_of(&self, id: ValueId, node: &NodeProto, scope: &Scope<'_>) -> Vec<Slot> {
        let mut operands: HashMap<ValueId, Slot> = HashMap::new();
        for name in node.input.iter().filter(|name| !name.is_empty()) {
            if let (Some(Binding::Value(id)), Some(slot)) = (scope.get(name), self.body.slot(name)) {
                operands.insert(id, slot);
            }
        }
        self.sink.depends_on(id, &operands)
    }

    fn finish(mut self, scope: &Scope<'_>, arguments: Vec<Slot>, first_of_model: bool) -> Result<Planned> {
        let body = self.body;
        let done = self.steps.is_empty() && self.rest.is_empty();
        let tensors = || arguments.len() == body.arguments().len();
        let whole = done && first_of_model && tensors();
        if whole {
            let outputs: Vec<&str> = body.outputs().iter().map(|slot| body.name(*slot)).collect();
            self.importer.outputs(&mut self.sink, scope, &outputs);
        }
        let mut stage = Stage {
            graph: None,
            inputs: Vec::new(),
            outputs: Vec::new(),
            aliases: Vec::new(),
            constants: Vec::new(),
            shapes: Vec::new(),
            steps: self.steps,
            rest: self.rest,
            values: self.values.into_iter().collect(),
            waits: self.waits,
            whole,
        };
        let later: BTreeSet<Slot> =
            stage.rest.iter().flat_map(|index| body.reads[*index].iter().copied()).collect();
        let made = stage.steps.iter().flat_map(|step| step.outputs.iter().flatten());
        stage.shapes = made.copied().filter(|slot| later.contains(slot)).collect();
        if !whole {
            let mut needed: BTreeSet<Slot> = body.outputs().iter().copied().collect();
            let captured = stage.steps.iter().flat_map(Step::captures);
            needed.extend(stage.steps.iter().flat_map(|s| s.inputs.iter().flatten()).chain(captured));
            needed.extend(&later);
            let inputs: HashMap<ValueId, Slot> =
                self.sink.graph.inputs.iter().copied().zip(arguments.iter().copied()).collect();
            for slot in needed {
                let name = body.name(slot);
                match scope.names.get(name) {
                    Some(Binding::Value(id)) => {
                        let graph = &mut self.sink.graph;
                        if let Some(from) = inputs.get(id) {
                            if *from != slot {
                                stage.aliases.push((*from, slot));
                            }
                        } else if let Some(tensor) = graph.constant(*id) {
                            stage.constants.push((slot, tensor.clone()));
                        } else {
                            let known = graph.outputs.iter().position(|o| o == id);
                            let number = known.unwrap_or(graph.outputs.len());
                            if known.is_none() {
                                graph.outputs.push(*id);
                            }
                            stage.outputs.push((number, slot));
                        }
                    }
                    Some(_) => {}
                    None if self.states.contains_key(&slot) => {}
                    None => {
                        let undefined = self.importer.undefined_output(name);
                        self.sink.problems.push(undefined);
                    }
                }
            }
        }
        let graph = match self.sink.finish()? {
            Imported::Graph(graph) => graph,
            Imported::NeedsValues(names) => {
                return Ok(Planned::NeedsValues(names.iter().filter_map(|n| body.slot(n)).collect()));
            }
        };
        if stage.steps.is_empty() && stage.values.is_empty() && !stage.rest.is_empty() {
            return Err(Error::internal("a stage that does nothing"));
        }
        (stage.graph, stage.inputs) = match whole {
            true => (Some(graph), arguments),
            false => without_unread_inputs(graph, &arguments),
        };
        Ok(Planned::Stage(Box::new(stage)))
    }
}

/// The graph and its inputs, those left out that it does not read; nothing if it has no outputs.
fn without_unread_inputs(mut graph: Graph, arguments: &[Slot]) -> (Option<Graph>, Vec<Slot>) {
    if graph.outputs.is_empty() {
        return (None, Vec::new());
    }
    let read: HashSet<ValueId> = graph.nodes.iter().flat_map(|n| n.inputs.iter().copied()).collect();
    let kept = graph.inputs.iter().zip(arguments).filter(|(id, _)| read.contains(id));
    let slots = kept.map(|(_, slot)| *slot).collect();
    graph.inputs.retain(|id| read.contains(id));
    graph.remove_dead();
    (Some(graph), slots)
}
