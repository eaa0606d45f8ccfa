//! A graph in the making, which is what operators see of an import. Core operations, constants and names go in; what is
//! constant is computed on the way, and what is in the way of the import is noted. What nodes mean is left to others.

mod eager;
mod nibbles;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use nestjit_ir::DType;

use super::halt::{Halt, Result};
use super::limit;
use super::names::free_name;
use super::nibble::Nibble;
use super::problems::Problems;
use crate::error::{self, Error, ErrorKind};
use crate::graph::{Graph, Node, Op, Place, Unary, Value, ValueId, evaluate_named, infer};
use crate::tensor::Tensor;
use eager::{is_identity, unpacks_weights};

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

/// What core operations and constants are made for.
#[derive(Clone, Copy)]
pub(super) struct Origin<'a> {
    /// What their names start with.
    pub name: &'a str,
    /// The node of the model, if it is one.
    pub place: Option<&'a Arc<Place>>,
}

/// The state of a sink, for [`GraphSink::rollback`].
pub(super) struct Mark {
    /// How many nodes there are.
    pub nodes: usize,
    values: usize,
    problems: usize,
    needs: BTreeSet<usize>,
}

/// What comes of an import.
#[derive(Debug)]
pub enum Imported {
    /// The graph. Its inputs and outputs are the model's, in order.
    Graph(Graph),
    /// Shapes depend on the values of these inputs: they must be in
    /// [`Specialization::values`](super::Specialization::values).
    NeedsValues(Vec<String>),
}

/// A graph in the making: see the module's description.
pub(super) struct GraphSink {
    pub graph: Graph,
    pub problems: Problems,
    mode: Mode,
    /// For each value, the node that makes it.
    producers: Vec<Option<u32>>,
    value_names: HashSet<String>,
    /// Names of outputs that no value has yet; they are in `value_names`, so that nothing else takes them.
    output_names: HashSet<String>,
    node_names: HashSet<String>,
    /// For each name that was taken when it was wanted, the last number that was appended.
    numbers: HashMap<String, usize>,
    /// The values that are of a type of four bits.
    pub(super) nibbles: HashMap<ValueId, Nibble>,
    /// The inputs whose values must be known.
    needs: BTreeSet<usize>,
    visits: usize,
}

impl GraphSink {
    /// A sink for a graph of this name, in which values may have the names of outputs if they are these.
    pub fn new<'a>(name: &str, outputs: impl Iterator<Item = &'a str>, mode: Mode) -> GraphSink {
        let output_names: HashSet<String> = outputs.map(str::to_owned).collect();
        GraphSink {
            graph: Graph::new(name),
            problems: Problems::default(),
            mode,
            producers: Vec::new(),
            value_names: output_names.clone(),
            output_names,
            node_names: HashSet::new(),
            numbers: HashMap::new(),
            nibbles: HashMap::new(),
            needs: BTreeSet::new(),
            visits: 0,
        }
    }

    /// Whether what cannot be compiled can be left to the host.
    pub fn is_staged(&self) -> bool {
        matches!(self.mode, Mode::Staged { .. })
    }

    /// Counts a node that is imported.
    ///
    /// # Errors
    /// There are too many.
    pub fn visit(&mut self) -> Result<()> {
        self.visits += 1;
        match self.visits > limit::VISITS {
            true => {
                let most = limit::VISITS;
                Err(Halt::limit(format!("there are more than {most} nodes when loops are unrolled")))
            }
            false => Ok(()),
        }
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

    /// The graph, or what is missing for it.
    ///
    /// # Errors
    /// All problems, in one message.
    pub fn finish(self) -> error::Result<Imported> {
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
    pub fn add(&mut self, origin: Origin<'_>, op: Op, inputs: &[ValueId]) -> error::Result<Vec<ValueId>> {
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
                Ok(results) => {
                    return Ok(results.into_iter().map(|t| self.constant(origin.name, t)).collect());
                }
                Err(e) if e.kind() == ErrorKind::Index => return Err(e),
                // Whatever else it is, it is an error of the run, if that node is ever run.
                Err(_) => {}
            }
        }
        if self.graph.nodes.len() >= limit::NODES {
            return Err(limit::limit(format!("the model becomes more than {} operations", limit::NODES)));
        }
        let name = self.node_name(origin.name);
        let outputs: Vec<ValueId> = types
            .iter()
            .map(|(dtype, shape)| {
                let id = self.new_value_like(&name, *dtype, shape);
                self.producers[id.0 as usize] = Some(self.graph.nodes.len() as u32);
                id
            })
            .collect();
        if let Some(place) = origin.place {
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

    /// Adds an input of this name.
    pub fn input(&mut self, name: &str, dtype: DType, shape: &[usize]) -> ValueId {
        self.value_names.insert(name.to_owned());
        self.output_names.remove(name);
        self.new_input(name.to_owned(), dtype, shape)
    }

    /// Adds an input whose name starts with `base`.
    pub fn input_like(&mut self, base: &str, dtype: DType, shape: &[usize]) -> ValueId {
        let name = free_name(&mut self.value_names, &mut self.numbers, base);
        self.new_input(name, dtype, shape)
    }

    fn new_input(&mut self, name: String, dtype: DType, shape: &[usize]) -> ValueId {
        let id = self.new_value(name, dtype, shape);
        self.graph.inputs.push(id);
        id
    }

    /// Makes a value an output of this name. It is copied if it has another one, or is an output already.
    pub fn output(&mut self, id: ValueId, name: &str) {
        if self.graph.value(id).name == name && !self.graph.outputs.contains(&id) {
            self.graph.outputs.push(id);
            return;
        }
        let (dtype, shape) = (self.graph.value(id).dtype, self.graph.value(id).shape.clone());
        let copy = match self.output_names.remove(name) {
            true => self.new_value(name.to_owned(), dtype, &shape),
            false => self.new_value_like(name, dtype, &shape),
        };
        let name = self.node_name(name);
        self.producers[copy.0 as usize] = Some(self.graph.nodes.len() as u32);
        let op = Op::Unary(Unary::Identity);
        self.graph.nodes.push(Node { name, op, inputs: vec![id], outputs: vec![copy] });
        self.graph.outputs.push(copy);
    }

    fn new_value(&mut self, name: String, dtype: DType, shape: &[usize]) -> ValueId {
        self.producers.push(None);
        self.graph.add_value(name, dtype, shape)
    }

    fn new_value_like(&mut self, base: &str, dtype: DType, shape: &[usize]) -> ValueId {
        let name = free_name(&mut self.value_names, &mut self.numbers, base);
        self.new_value(name, dtype, shape)
    }

    fn node_name(&mut self, base: &str) -> String {
        free_name(&mut self.node_names, &mut self.numbers, base)
    }

    /// Gives a value the name that the model has for it, if a node from `first` on makes it.
    pub fn rename(&mut self, id: ValueId, first: usize, name: &str) {
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

    /// Those of `operands` that a value depends on.
    pub fn depends_on(&self, id: ValueId, operands: &HashMap<ValueId, usize>) -> Vec<usize> {
        let (mut found, mut pending, mut seen) = (Vec::new(), vec![id], HashSet::from([id]));
        while let Some(id) = pending.pop() {
            if let Some(number) = operands.get(&id) {
                found.push(*number);
            } else if let Some(Some(node)) = self.producers.get(id.0 as usize) {
                let inputs = &self.graph.nodes[*node as usize].inputs;
                pending.extend(inputs.iter().filter(|id| seen.insert(**id)));
            }
        }
        found
    }

    /// The state, for [`GraphSink::rollback`].
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
        // Others will have these numbers.
        self.nibbles.retain(|id, _| (id.0 as usize) < mark.values);
        self.needs = mark.needs;
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
