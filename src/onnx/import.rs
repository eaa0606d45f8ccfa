//! The walk over a model's nodes: names become values, each node's import adds core operations, constants are
//! computed on the way, and problems are collected.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use nestjit_ir::DType;

use super::body::{Body, Slot};
use super::eager::{is_identity, unpacks_weights};
use super::halt::{Halt, Result};
use super::limit;
use super::model::{MAX_OPSET, OnnxModel, normal_domain};
use super::names::{free_name, node_name, op_name};
use super::nibble::Nibble;
use super::node::NodeCx;
use super::ops::{self, OpEntry};
use super::problems::Problems;
use super::proto::NodeProto;
use super::scope::{Binding, Scope};
use crate::error::{self, Error, ErrorKind};
use crate::graph::{Graph, Node, Op, Place, Value, ValueId, evaluate_named, infer};
use crate::tensor::Tensor;

/// What a model is imported for.
#[derive(Clone, Debug, Default)]
pub struct Specialization {
    /// The extents of symbolic dimensions.
    pub dims: BTreeMap<String, usize>,
    /// The shapes of inputs, by name. Those that the model declares completely may be left out.
    pub shapes: BTreeMap<String, Vec<usize>>,
    /// The values of inputs that shapes depend on. They stay inputs of the graph, but the graph is right for these
    /// values only.
    pub values: BTreeMap<String, Tensor>,
}

/// What comes of an import.
#[derive(Debug)]
pub enum Imported {
    /// The graph. Its inputs and outputs are the model's, in order.
    Graph(Graph),
    /// Shapes depend on the values of these inputs: they must be in [`Specialization::values`].
    NeedsValues(Vec<String>),
}

impl OnnxModel {
    /// The graph for these shapes and values.
    ///
    /// # Errors
    /// All that is wrong with the model or that is not supported, in one message.
    pub fn import(&self, specialization: &Specialization) -> error::Result<Imported> {
        self.import_all(specialization).map_err(|e| self.located(e))
    }

    fn import_all(&self, specialization: &Specialization) -> error::Result<Imported> {
        let mut importer = Importer::new(self, Mode::Whole);
        let mut scope = Scope::new(&self.opsets);
        importer.interface(&mut scope, specialization);
        for (name, tensor) in &self.initializers {
            let binding = match tensor {
                Ok(tensor) => Binding::Value(importer.initializer(name, tensor.clone())),
                // A problem if a node reads it; see `operand`.
                Err(_) => continue,
            };
            scope.names.insert(name.clone(), binding);
        }
        if importer.nodes(&self.graph.node, &mut scope).is_err() {
            return Err(Error::internal("a node is left to the host"));
        }
        importer.outputs(&scope, &self.outputs().collect::<Vec<_>>());
        importer.finish()
    }
}

/// What becomes of nodes that no program of constant extents can contain.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mode {
    /// They are problems: the model becomes one graph.
    Whole,
    /// They end the import of a stage.
    Staged {
        /// The most bytes of an argument for whose value a stage is compiled, if one is.
        specialize: Option<usize>,
    },
}

/// The state of an importer, for [`Importer::rollback`].
pub(super) struct Mark {
    pub nodes: usize,
    values: usize,
    problems: usize,
    needs: BTreeSet<usize>,
}

/// A graph in the making.
pub(super) struct Importer<'m> {
    pub model: &'m OnnxModel,
    pub graph: Graph,
    pub problems: Problems,
    /// For each value, the node that makes it.
    pub(super) producers: Vec<Option<u32>>,
    pub(super) value_names: HashSet<String>,
    /// Names of outputs that no value has yet; they are in `value_names`, so that nothing else takes them.
    pub(super) output_names: HashSet<String>,
    mode: Mode,
    /// The slots of the body that is imported, by name.
    pub(super) body: Option<&'m Body>,
    pub(super) node_names: HashSet<String>,
    /// The values that are of a type of four bits.
    pub(super) nibbles: HashMap<ValueId, Nibble>,
    /// For each name that was taken when it was wanted, the last number that was appended.
    pub(super) numbers: HashMap<String, usize>,
    /// The inputs whose values must be known.
    pub(super) needs: BTreeSet<usize>,
    pub(super) visits: usize,
    /// The operator that is being imported.
    pub(super) place: Option<Arc<Place>>,
}

impl<'m> Importer<'m> {
    pub(super) fn new(model: &'m OnnxModel, mode: Mode) -> Importer<'m> {
        Importer {
            model,
            graph: Graph::new(model.name()),
            problems: Problems::default(),
            producers: Vec::new(),
            value_names: model.outputs().map(str::to_owned).collect(),
            output_names: model.outputs().map(str::to_owned).collect(),
            mode,
            body: None,
            node_names: HashSet::new(),
            nibbles: HashMap::new(),
            numbers: HashMap::new(),
            needs: BTreeSet::new(),
            visits: 0,
            place: None,
        }
    }

    /// Whether what cannot be compiled can be left to the host.
    pub fn is_staged(&self) -> bool {
        matches!(self.mode, Mode::Staged { .. })
    }

    /// Imports nodes, in order.
    ///
    /// # Errors
    /// [`Halt::Host`] in a stage: what the nodes are a part of is then not imported either.
    pub fn nodes(&mut self, nodes: &[NodeProto], scope: &mut Scope<'_>) -> Result<()> {
        for (index, node) in nodes.iter().enumerate() {
            let name = format!("{}{}", scope.prefix, node_name(node, index));
            let first = self.graph.nodes.len();
            let results = match self.node(node, &name, scope) {
                Ok(results) => results,
                Err(halt @ Halt::Host { .. }) if self.is_staged() => return Err(halt),
                Err(halt) => self.note(halt, &name, &op_name(node, scope)),
            };
            self.bind(node, &name, &results, first, scope);
        }
        Ok(())
    }

    /// Notes why a node has no results, so that nodes which do not depend on it can follow. Returns no results.
    pub fn note(&mut self, halt: Halt, name: &str, op: &str) -> Vec<ValueId> {
        match halt {
            Halt::Wrong(e) => self.problems.push(e.at(name, op)),
            Halt::Broken => {}
            Halt::NeedsInputs(inputs) => self.needs.extend(inputs),
            Halt::Host { why, .. } => {
                let e = Error::unsupported(format!("{why}: only a session can run this model"));
                self.problems.push(e.at(name, op));
            }
        }
        Vec::new()
    }

    /// Gives the results of a node, as far as there are any, their names; `first` is the first core node that it became.
    pub fn bind(
        &mut self,
        node: &NodeProto,
        name: &str,
        results: &[ValueId],
        first: usize,
        scope: &mut Scope<'_>,
    ) {
        for (i, output) in node.output.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
            let binding = match results.get(i).copied() {
                Some(id) => {
                    self.rename(id, first, &format!("{}{output}", scope.prefix));
                    Binding::Value(id)
                }
                None => Binding::Broken,
            };
            if scope.names.contains_key(output) {
                let message = format!("'{}' is defined already", output.escape_debug());
                self.problems.push(Error::invalid(message).at(name, &op_name(node, scope)));
            }
            scope.names.insert(output.clone(), binding);
        }
    }

    /// The results of a node.
    pub fn node(&mut self, node: &NodeProto, name: &str, scope: &Scope<'_>) -> Result<Vec<ValueId>> {
        self.visits += 1;
        if self.visits > limit::VISITS {
            return Err(Halt::limit(format!(
                "there are more than {} nodes when loops are unrolled",
                limit::VISITS
            )));
        }
        let domain = normal_domain(node.domain());
        let key = (domain.to_owned(), node.op_type().to_owned(), node.overload().to_owned());
        if let Some(function) = self.model.functions.get(&key) {
            return self.call(function, key, node, name, scope);
        }
        let Some((entry, opset)) = self.entry(node, scope)? else {
            return Err(Halt::internal("a function is not called"));
        };
        let inputs = self.operands(node, scope)?;
        let place = Place { node: name.to_owned(), op: op_name(node, scope) };
        let around = self.place.replace(Arc::new(place));
        let results = self.operator(entry, node, name, scope, inputs, opset);
        self.place = around;
        let results = results?;
        if let Some(output) = node.output.iter().skip(results.len()).find(|o| !o.is_empty()) {
            let message = format!("the output '{}' is not supported", output.escape_debug());
            return Err(Halt::unsupported(message));
        }
        Ok(results)
    }

    /// The results of a node that is an operator.
    fn operator(
        &mut self,
        entry: &OpEntry,
        node: &NodeProto,
        name: &str,
        scope: &Scope<'_>,
        inputs: Vec<Option<ValueId>>,
        opset: i64,
    ) -> Result<Vec<ValueId>> {
        let given: Vec<ValueId> = inputs.iter().flatten().copied().collect();
        let mut cx = NodeCx::new(self, node, scope, name, inputs, opset)?;
        cx.widen(entry.rounded_like)?;
        let results = (entry.import)(&mut cx)?;
        cx.attributes.expect_all_read()?;
        if opset > MAX_OPSET {
            cx.expect_all_inputs_read()?;
        }
        let results = cx.rounded(results, entry.rounded_like)?;
        self.follow_nibbles(entry.name, &given, &results)?;
        Ok(results)
    }

    /// How the node's operator is imported, and the version of its set; `None` if it is a function.
    pub fn entry(
        &self,
        node: &NodeProto,
        scope: &Scope<'_>,
    ) -> error::Result<Option<(&'static OpEntry, i64)>> {
        let domain = normal_domain(node.domain());
        let key = (domain.to_owned(), node.op_type().to_owned(), node.overload().to_owned());
        if self.model.functions.contains_key(&key) {
            return Ok(None);
        }
        let Some(opset) = scope.opsets.get(domain).copied() else {
            let message = format!("no operator set is imported for the domain '{}'", domain.escape_debug());
            return Err(Error::invalid(message));
        };
        let Some(entry) = ops::find(domain, node.op_type()) else {
            return Err(Error::unsupported("the operator is not supported"));
        };
        if opset < entry.since {
            let since = entry.since;
            return Err(Error::unsupported(format!("the operator is supported from version {since} on")));
        }
        if entry.changing && opset > MAX_OPSET {
            return Err(Error::unsupported(format!(
                "version {MAX_OPSET} is the newest known operator set, and the operator may mean something else in \
                 newer ones"
            )));
        }
        if let Some(until) = entry.until.filter(|until| opset > *until) {
            return Err(Error::invalid(format!("the operator was removed after version {until}")));
        }
        Ok(Some((entry, opset)))
    }

    /// The operands of a node; those left out are `None`.
    pub fn operands(&self, node: &NodeProto, scope: &Scope<'_>) -> Result<Vec<Option<ValueId>>> {
        let mut operands = Vec::with_capacity(node.input.len());
        for input in &node.input {
            if input.is_empty() {
                operands.push(None);
                continue;
            }
            match scope.get(input) {
                Some(Binding::Value(id)) => operands.push(Some(id)),
                Some(Binding::Absent) => operands.push(None),
                Some(Binding::Broken) => return Err(Halt::Broken),
                None => return Err(self.undefined(input).into()),
            }
        }
        Ok(operands)
    }

    /// Why nothing has this name.
    pub fn undefined(&self, name: &str) -> Error {
        if let Some(Err(e)) = self.model.initializers.get(name) {
            return e.clone();
        }
        let name = name.escape_debug();
        Error::invalid(format!(
            "'{name}' is not defined before this node: nothing makes it, or the nodes form a cycle"
        ))
    }

    pub(super) fn finish(self) -> error::Result<Imported> {
        self.problems.finish()?;
        if !self.needs.is_empty() {
            let name = |i: &usize| self.graph.value(self.graph.inputs[*i]).name.clone();
            return Ok(Imported::NeedsValues(self.needs.iter().map(name).collect()));
        }
        // What was computed on the way needs no node any more.
        let mut graph = self.graph;
        let nodes = std::mem::take(&mut graph.nodes);
        graph.nodes = nodes.into_iter().filter(|n| n.outputs.iter().any(|id| !graph.is_const(*id))).collect();
        graph.remove_dead();
        Ok(Imported::Graph(graph))
    }

    /// Adds a core operation. What is constant and small is computed at once; what does nothing is left out.
    pub fn add(&mut self, base: &str, op: Op, inputs: &[ValueId]) -> error::Result<Vec<ValueId>> {
        let operands: Vec<&Value> = inputs.iter().map(|id| self.graph.value(*id)).collect();
        let types = infer(&op, &operands)?;
        if is_identity(&op, &operands, &types) {
            return Ok(vec![inputs[0]]);
        }
        for (dtype, shape) in &types {
            limit::check(*dtype, shape)?;
        }
        let elements = |shape: &[usize]| shape.iter().product::<usize>();
        let small = types.iter().all(|(_, shape)| elements(shape) <= limit::EAGER_ELEMENTS)
            && operands.iter().all(|v| elements(&v.shape) <= limit::EAGER_ELEMENTS);
        if small && !unpacks_weights(&op, &operands) && operands.iter().all(|v| v.data.is_some()) {
            match evaluate_named(&op, &self.named_constants(inputs)) {
                Ok(results) => return Ok(results.into_iter().map(|t| self.constant(base, t)).collect()),
                Err(e) if e.kind() == ErrorKind::Index => return Err(e),
                // Whatever else it is, it is an error of the run, if that node is ever run.
                Err(_) => {}
            }
        }
        if self.graph.nodes.len() >= limit::NODES {
            return Err(limit::limit(format!("the model becomes more than {} operations", limit::NODES)));
        }
        let name = self.node_name(base);
        let outputs: Vec<ValueId> = types
            .iter()
            .map(|(dtype, shape)| {
                let id = self.new_value_like(&name, *dtype, shape);
                self.producers[id.0 as usize] = Some(self.graph.nodes.len() as u32);
                id
            })
            .collect();
        if let Some(place) = &self.place {
            self.graph.places.insert(name.clone(), Arc::clone(place));
        }
        self.graph.nodes.push(Node { name, op, inputs: inputs.to_vec(), outputs: outputs.clone() });
        Ok(outputs)
    }

    /// Those of these values that are constants, with their names.
    fn named_constants(&self, ids: &[ValueId]) -> Vec<(&str, &Tensor)> {
        ids.iter()
            .filter_map(|id| Some((self.graph.value(*id).name.as_str(), self.graph.constant(*id)?)))
            .collect()
    }

    /// Adds a constant; its name starts with `base`.
    pub fn constant(&mut self, base: &str, tensor: Tensor) -> ValueId {
        let name = free_name(&mut self.value_names, &mut self.numbers, base);
        self.producers.push(None);
        self.graph.add_constant(name, tensor)
    }

    /// A constant that is an initializer of the model.
    pub fn initializer(&mut self, name: &str, tensor: Tensor) -> ValueId {
        let id = self.constant(name, tensor);
        if let Some(nibble) = self.model.nibbles.get(name) {
            self.note_nibble(id, *nibble);
        }
        id
    }

    pub(super) fn new_value(&mut self, name: String, dtype: DType, shape: &[usize]) -> ValueId {
        self.producers.push(None);
        self.graph.add_value(name, dtype, shape)
    }

    pub(super) fn new_value_like(&mut self, base: &str, dtype: DType, shape: &[usize]) -> ValueId {
        let name = free_name(&mut self.value_names, &mut self.numbers, base);
        self.new_value(name, dtype, shape)
    }

    pub(super) fn node_name(&mut self, base: &str) -> String {
        free_name(&mut self.node_names, &mut self.numbers, base)
    }

    /// Gives a value the name that the model has for it, if a node from `first` on makes it.
    fn rename(&mut self, id: ValueId, first: usize, name: &str) {
        let fresh = self.producers[id.0 as usize].is_some_and(|node| node as usize >= first);
        if fresh && (self.output_names.remove(name) || self.value_names.insert(name.to_owned())) {
            let old = std::mem::replace(&mut self.graph.value_mut(id).name, name.to_owned());
            self.value_names.remove(&old);
        }
    }

    /// The contents of a value, computed if necessary. `specialize` says whether a stage may be compiled for the value of
    /// an argument because of it.
    ///
    /// # Errors
    /// That they depend on inputs of the model: [`Halt::NeedsInputs`], or [`Halt::Host`] in a stage that is not compiled
    /// for them.
    pub fn known(&mut self, id: ValueId, what: &str, specialize: bool) -> Result<Tensor> {
        if let Some(tensor) = self.graph.constant(id) {
            return Ok(tensor.clone());
        }
        // The nodes that the value depends on, in order, and the inputs.
        let (mut nodes, mut inputs) = (BTreeSet::new(), BTreeSet::new());
        let mut pending = vec![id];
        let mut seen = HashSet::from([id]);
        while let Some(id) = pending.pop() {
            match self.producers[id.0 as usize] {
                Some(node) => {
                    if nodes.insert(node) {
                        let operands = &self.graph.nodes[node as usize].inputs;
                        pending.extend(operands.iter().filter(|id| seen.insert(**id)));
                    }
                }
                None => inputs.extend(self.graph.inputs.iter().position(|input| *input == id)),
            }
        }
        if !inputs.is_empty() {
            let bytes = |i: &usize| {
                let v = self.graph.value(self.graph.inputs[*i]);
                v.shape.iter().product::<usize>() * v.dtype.size()
            };
            let specialized = match self.mode {
                Mode::Whole => true,
                Mode::Staged { specialize: most } => {
                    most.is_some_and(|most| specialize && inputs.iter().all(|i| bytes(i) <= most))
                }
            };
            return Err(match specialized {
                true => Halt::NeedsInputs(inputs),
                false => Halt::Host { why: format!("{what} depends on data"), value: Some(id) },
            });
        }
        for node in nodes {
            self.force(node as usize, what)?;
        }
        self.graph.constant(id).cloned().ok_or_else(|| Halt::internal("a computed constant is missing"))
    }

    /// The state, for [`Importer::rollback`].
    pub fn mark(&self) -> Mark {
        Mark {
            nodes: self.graph.nodes.len(),
            values: self.graph.values.len(),
            problems: self.problems.count(),
            needs: self.needs.clone(),
        }
    }

    /// Forgets what was imported since then. Names stay taken.
    pub fn rollback(&mut self, mark: Mark) {
        self.graph.nodes.truncate(mark.nodes);
        self.graph.values.truncate(mark.values);
        self.producers.truncate(mark.values);
        self.problems.truncate(mark.problems);
        self.needs = mark.needs;
    }

    /// The model, to be kept.
    pub fn shared(&self) -> error::Result<Arc<OnnxModel>> {
        let body = self.body.ok_or_else(|| Error::internal("a body outside a stage"))?;
        Ok(Arc::clone(&body.model))
    }

    /// The slots of names of the body that is imported.
    pub fn outer_slots(&self, names: &[String]) -> Vec<Slot> {
        names.iter().filter_map(|name| self.body?.slot(name)).collect()
    }

    /// Computes a node whose operands are constants.
    fn force(&mut self, node: usize, what: &str) -> error::Result<()> {
        let node = &self.graph.nodes[node];
        let size = |id: &ValueId| {
            let v = self.graph.value(*id);
            v.shape.iter().product::<usize>() * v.dtype.size()
        };
        if node.outputs.iter().map(size).sum::<usize>() > limit::FORCED_BYTES {
            let message =
                format!("{what} must be computed while the model is imported, but takes too much memory");
            return Err(limit::limit(message));
        }
        let outputs = node.outputs.clone();
        let place = |e: Error| {
            let (node, op) = self.graph.place(node);
            e.at(node, op)
        };
        let results = evaluate_named(&node.op, &self.named_constants(&node.inputs)).map_err(place)?;
        for (id, tensor) in outputs.iter().zip(results) {
            self.graph.value_mut(*id).data = Some(Arc::new(tensor));
        }
        Ok(())
    }
}
