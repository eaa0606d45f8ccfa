//! A list of nodes that are executed together: a model's graph, a branch, the body of a loop or of a function. Which
//! names there are, who reads what, and what comes from around it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use nestjit_ir::DType;

use super::model::{Dim, FunctionKey, OnnxModel, Opsets, input_spec};
use super::names::node_name;
use super::order::free_names;
use super::problems::Problems;
use super::proto::{AttributeProto, FunctionProto, GraphProto, NodeProto, ValueInfoProto};
use super::scope::{Binding, Scope};
use super::tensor::{Constant, constants};
use crate::error::{Error, Result};
use crate::graph::ValueId;

/// The place of a value while a [`Body`] is executed.
pub type Slot = usize;

/// Where the nodes are.
#[derive(Debug)]
enum Source {
    Model,
    Graph(Box<GraphProto>),
    Function(Box<FunctionProto>),
}

/// Nodes and names: see the module's description. What they compute is found out in
/// [stages](super::stage::Stage), for shapes that are known.
#[derive(Debug)]
pub struct Body {
    pub(super) model: Arc<OnnxModel>,
    source: Source,
    pub(super) opsets: Opsets,
    pub(super) attributes: HashMap<String, AttributeProto>,
    pub(super) calls: Vec<FunctionKey>,
    pub(super) depth: usize,
    /// What the names of core nodes start with.
    pub(super) prefix: String,
    /// Constants of its own and from around.
    pub(super) consts: BTreeMap<String, Constant>,
    /// Inputs that a caller leaves out.
    pub(super) absent: HashSet<String>,
    /// Inputs, then values from around.
    arguments: Vec<Slot>,
    /// How many of them are inputs.
    inputs: usize,
    outputs: Vec<Slot>,
    names: Vec<String>,
    slots: HashMap<String, Slot>,
    /// For each node, what it and the graphs in it read.
    pub(super) reads: Vec<Vec<Slot>>,
    /// For each node, whether an output depends on it.
    pub(super) live: Vec<bool>,
    /// Whether it is a model's without some of its outputs.
    is_choice: bool,
}

impl Body {
    /// The body of a model of which only these outputs, given by their numbers, are wanted: nodes that none of them
    /// depends on are left out, whatever they are.
    ///
    /// # Errors
    /// If a name is defined twice.
    pub fn for_outputs(model: Arc<OnnxModel>, wanted: &[usize]) -> Result<Body> {
        let inputs: Vec<String> = model.inputs.iter().map(|i| i.name.clone()).collect();
        let all: Vec<&str> = model.outputs().collect();
        let outputs =
            wanted.iter().filter_map(|number| all.get(*number).map(|name| (*name).to_owned())).collect();
        let is_choice = wanted.len() < all.len();
        let opsets = model.opsets.clone();
        let scope = Scope::new(&opsets);
        let body = Body { is_choice, ..Body::new(model, Source::Model, &scope) };
        body.complete(inputs, Vec::new(), outputs)
    }

    /// The body that a subgraph of a node is, and the names that it has from around, in the order of its arguments.
    /// Values from around that are `known` are constants of it.
    pub(super) fn of_graph(
        model: &Arc<OnnxModel>,
        known: impl Fn(ValueId) -> Option<Constant>,
        graph: &GraphProto,
        scope: &Scope<'_>,
        prefix: String,
    ) -> Result<(Body, Vec<String>)> {
        let mut graph = graph.clone();
        let mut body = Body::new(Arc::clone(model), Source::Model, scope);
        body.consts = constants(&graph, &model.external)?;
        graph.initializer.clear();
        graph.sparse_initializer.clear();
        let names = |list: &[ValueInfoProto]| list.iter().map(|v| v.name().to_owned()).collect::<Vec<_>>();
        let mut inputs = names(&graph.input);
        inputs.retain(|name| !body.consts.contains_key(name));
        let outputs = names(&graph.output);
        let mut around = Vec::new();
        let mut free = free_names(&graph);
        free.retain(|name| !body.consts.contains_key(name));
        for name in free {
            match scope.get(&name) {
                Some(Binding::Value(id)) => match known(id) {
                    Some(constant) => drop(body.consts.insert(name, constant)),
                    None => around.push(name),
                },
                Some(Binding::Absent) => drop(body.absent.insert(name)),
                _ => around.push(name),
            }
        }
        body.prefix = prefix;
        body.depth = scope.depth + 1;
        body.source = Source::Graph(Box::new(graph));
        Ok((body.complete(inputs, around.clone(), outputs)?, around))
    }

    /// The body of a function that is called; `scope` is the function's own.
    pub(super) fn of_function(
        model: &Arc<OnnxModel>,
        function: &FunctionProto,
        scope: &Scope<'_>,
        absent: HashSet<String>,
    ) -> Result<Body> {
        let source = Source::Function(Box::new(function.clone()));
        let mut body = Body::new(Arc::clone(model), source, scope);
        body.absent = absent;
        body.complete(function.input.clone(), Vec::new(), function.output.clone())
    }

    fn new(model: Arc<OnnxModel>, source: Source, scope: &Scope<'_>) -> Body {
        Body {
            model,
            source,
            opsets: scope.opsets.clone(),
            attributes: scope.attributes.clone(),
            calls: scope.calls.clone(),
            depth: scope.depth,
            prefix: scope.prefix.clone(),
            consts: BTreeMap::new(),
            absent: HashSet::new(),
            arguments: Vec::new(),
            inputs: 0,
            outputs: Vec::new(),
            names: Vec::new(),
            slots: HashMap::new(),
            reads: Vec::new(),
            live: Vec::new(),
            is_choice: false,
        }
    }

    /// Numbers the names, and finds out who needs what.
    fn complete(mut self, inputs: Vec<String>, around: Vec<String>, outputs: Vec<String>) -> Result<Body> {
        self.inputs = inputs.len();
        let arguments: Vec<&String> = inputs.iter().chain(&around).collect();
        self.arguments = arguments.into_iter().map(|name| self.intern(name)).collect();
        let mut reads = Vec::with_capacity(self.nodes().len());
        for node in self.nodes() {
            reads.push(node_reads(node, &self.attributes));
        }
        self.reads = reads.iter().map(|names| names.iter().map(|name| self.intern(name)).collect()).collect();
        let mut producers: HashMap<Slot, usize> = HashMap::new();
        let made: Vec<Vec<String>> = self.nodes().iter().map(|n| n.output.clone()).collect();
        let mut problems = Problems::default();
        for (index, names) in made.iter().enumerate() {
            for name in names.iter().filter(|name| !name.is_empty()) {
                let slot = self.intern(name);
                let given = self.arguments.contains(&slot) || self.consts.contains_key(name);
                if producers.insert(slot, index).is_some() || given {
                    let node = &self.nodes()[index];
                    let message = format!("'{}' is defined already", name.escape_debug());
                    problems.push(Error::invalid(message).at(&node_name(node, index), node.op_type()));
                }
            }
        }
        // Of what nodes read themselves, the import says so.
        for (index, (node, reads)) in self.nodes().iter().zip(&self.reads).enumerate() {
            let early = |slot: &&Slot| producers.get(*slot).is_some_and(|producer| *producer >= index);
            for name in reads.iter().filter(early).map(|slot| self.name(*slot)) {
                if !node.input.iter().any(|input| input == name) {
                    let name = name.escape_debug();
                    let message =
                        format!("a graph in it reads '{name}', which depends on this node: a cycle");
                    problems.push(Error::invalid(message).at(&node_name(node, index), node.op_type()));
                }
            }
        }
        problems.finish()?;
        self.outputs = outputs.iter().map(|name| self.intern(name)).collect();
        self.live = vec![false; self.nodes().len()];
        let mut pending: Vec<Slot> = self.outputs.clone();
        while let Some(slot) = pending.pop() {
            if let Some(node) = producers.get(&slot)
                && !std::mem::replace(&mut self.live[*node], true)
            {
                pending.extend(&self.reads[*node]);
            }
        }
        Ok(self)
    }

    fn intern(&mut self, name: &str) -> Slot {
        if let Some(slot) = self.slots.get(name) {
            return *slot;
        }
        self.names.push(name.to_owned());
        self.slots.insert(name.to_owned(), self.names.len() - 1);
        self.names.len() - 1
    }

    pub(super) fn nodes(&self) -> &[NodeProto] {
        match &self.source {
            Source::Model => &self.model.graph.node,
            Source::Graph(graph) => &graph.node,
            Source::Function(function) => &function.node,
        }
    }

    /// The type and shape of an output as far as it is declared: what is not known is `f32`, and 0.
    pub fn declared(&self, output: usize) -> (DType, Vec<usize>) {
        let declared = match &self.source {
            Source::Model => self.model.graph.output.get(output),
            Source::Graph(graph) => graph.output.get(output),
            Source::Function(_) => None,
        };
        let spec = declared.and_then(|value| input_spec(value).ok());
        let dtype = spec.as_ref().map_or(DType::F32, |spec| spec.dtype);
        let extent = |dim: &Dim| if let Dim::Fixed(extent) = dim { *extent } else { 0 };
        (dtype, spec.and_then(|spec| spec.dims).unwrap_or_default().iter().map(extent).collect())
    }

    /// Whether it is a model's, and not a part of it.
    pub(super) fn is_model(&self) -> bool {
        matches!(self.source, Source::Model)
    }

    /// Whether only some of a model's outputs are wanted, so that nodes that they do not need are of no interest.
    pub(super) fn is_choice(&self) -> bool {
        self.is_choice
    }

    /// How many values there are at most while it is executed.
    pub fn slots(&self) -> usize {
        self.names.len()
    }

    /// Where arguments go: inputs, then values from around.
    pub fn arguments(&self) -> &[Slot] {
        &self.arguments
    }

    /// How many arguments are inputs.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Where outputs are found, in order.
    pub fn outputs(&self) -> &[Slot] {
        &self.outputs
    }

    /// The name of a value.
    pub fn name(&self, slot: Slot) -> &str {
        self.names.get(slot).map_or("", String::as_str)
    }

    pub(super) fn slot(&self, name: &str) -> Option<Slot> {
        self.slots.get(name).copied()
    }
}

/// The names that a node reads, those in its subgraphs included, none twice.
fn node_reads(node: &NodeProto, attributes: &HashMap<String, AttributeProto>) -> Vec<String> {
    let mut reads: Vec<String> = node.input.iter().filter(|name| !name.is_empty()).cloned().collect();
    for attribute in &node.attribute {
        let attribute = match attribute.ref_attr_name() {
            "" => Some(attribute),
            outer => attributes.get(outer),
        };
        if let Some(graph) = attribute.and_then(|a| a.g.as_ref()) {
            reads.extend(free_names(graph));
        }
    }
    let mut seen = HashSet::new();
    reads.retain(|name| seen.insert(name.clone()));
    reads
}
