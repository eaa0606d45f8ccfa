//! The functional builder: a method per operation, each returning the value it computes.
//!
//! This file holds the mechanics (names, errors, inputs and outputs); the operations are in one file per
//! family. Methods cannot fail: what is wrong is recorded, everything that depends on it is left out, and
//! [`GraphBuilder::build`] reports all of it.

use std::collections::{HashMap, HashSet};

use nestjit_ir::{DType, Scalar};

use super::edit::unique;
use super::infer::Outputs;
use super::{Graph, Node, Op, ValueId, infer};
use crate::error::{Error, Result};

use crate::tensor::{Tensor, checked_bytes};

mod activation;
mod arithmetic;
mod cells;
mod movement;
mod neural;
mod options;

pub use activation::Activation;
pub use cells::{CellWeights, RecurrentOperands, RecurrentOptions};
pub use options::{Conv, Conv2d, Gemm, Padding, Pool};

/// Builds a [`Graph`] node by node.
///
/// ```
/// use nestjit::{DType, GraphBuilder, Tensor};
///
/// let mut g = GraphBuilder::new("dense");
/// let x = g.input("x", DType::F32, &[2, 3]);
/// let w = g.constant("w", Tensor::new(&[3, 4], &[0.5f32; 12])?);
/// let b = g.constant("b", Tensor::new(&[4], &[1.0f32; 4])?);
/// let y = g.matmul(x, w);
/// let y = g.bias_add(y, b, 1);
/// let y = g.relu(y);
/// g.output("y", y);
/// let graph = g.build()?;
/// assert_eq!(graph.value(graph.outputs[0]).shape, [2, 4]);
/// # Ok::<(), nestjit::Error>(())
/// ```
#[derive(Debug)]
pub struct GraphBuilder {
    graph: Graph,
    /// Values that an error made meaningless, by id.
    poisoned: HashSet<ValueId>,
    value_names: HashMap<String, ValueId>,
    node_names: HashSet<String>,
    /// How many nodes of each kind were named automatically.
    counters: HashMap<String, usize>,
    /// What node and constant names start with: empty, or `outer/inner/`.
    prefix: String,
    next_name: Option<String>,
    errors: Vec<Error>,
}

impl GraphBuilder {
    /// A builder for a model of this name.
    pub fn new(name: impl Into<String>) -> GraphBuilder {
        GraphBuilder {
            graph: Graph::new(name),
            poisoned: HashSet::new(),
            value_names: HashMap::new(),
            node_names: HashSet::new(),
            counters: HashMap::new(),
            prefix: String::new(),
            next_name: None,
            errors: Vec::new(),
        }
    }

    /// Changes the model's name.
    pub fn rename(&mut self, name: impl Into<String>) {
        self.graph.name = name.into();
    }

    /// An input. Its name must be unique among inputs and outputs.
    pub fn input(&mut self, name: &str, dtype: DType, shape: &[usize]) -> ValueId {
        if let Err(e) = checked_bytes(dtype, shape) {
            self.fail(Error::new(e.kind(), format!("input '{}': {}", name.escape_debug(), e.message())));
            return self.poison();
        }
        if !self.claim_name("input", name) {
            return self.poison();
        }
        let id = self.add_value(name.to_owned(), dtype, shape);
        self.graph.inputs.push(id);
        id
    }

    /// A constant. Its name is made unique, and within a scope starts with the scope's name.
    pub fn constant(&mut self, name: &str, tensor: impl Into<Tensor>) -> ValueId {
        let tensor = tensor.into();
        let name = self.free_value_name(&format!("{}{name}", self.prefix));
        let id = self.graph.add_constant(name.clone(), tensor);
        self.value_names.insert(name, id);
        id
    }

    /// A rank-0 constant.
    pub fn scalar(&mut self, dtype: DType, value: f64) -> ValueId {
        self.constant("scalar", Scalar::from_f64(dtype, value))
    }

    /// A rank-0 constant of the type of `x`.
    pub fn scalar_like(&mut self, x: ValueId, value: f64) -> ValueId {
        match self.is_valid(x) {
            true => self.scalar(self.dtype(x), value),
            false => self.poison(),
        }
    }

    /// Makes `x` an output. Its name must be unique among inputs and outputs; the value takes the name,
    /// unless it has a name of that kind already, in which case a copy of it does.
    pub fn output(&mut self, name: &str, x: ValueId) {
        if !self.known(x) {
            let message = format!("output '{}': the value is not of this graph", name.escape_debug());
            return self.fail(Error::invalid(message));
        }
        if self.poisoned.contains(&x) || !self.claim_name("output", name) {
            return;
        }
        let external = self.graph.inputs.contains(&x) || self.graph.outputs.contains(&x);
        let id = if external || self.graph.is_const(x) {
            self.node("", Op::Unary(super::Unary::Identity), &[x])[0]
        } else {
            x
        };
        let old = std::mem::replace(&mut self.graph.value_mut(id).name, name.to_owned());
        self.value_names.remove(&old);
        self.value_names.insert(name.to_owned(), id);
        self.graph.outputs.push(id);
    }

    /// The finished graph.
    ///
    /// # Errors
    /// Everything that was wrong, one line each; kind, node and operation are those of the first error. Also
    /// [`crate::ErrorKind::Invalid`] if there is no output.
    pub fn build(mut self) -> Result<Graph> {
        if self.errors.is_empty() && self.graph.outputs.is_empty() {
            self.errors.push(Error::invalid("the graph has no output"));
        }
        match self.errors.as_slice() {
            [] => {}
            [only] => return Err(only.clone()),
            [first, rest @ ..] => {
                let mut message = first.message().to_owned();
                for error in rest {
                    message.push_str(&format!("\n{error}"));
                }
                let all = Error::new(first.kind(), message);
                return Err(match (first.node(), first.op()) {
                    (Some(node), Some(op)) => all.at(node, op),
                    _ => all,
                });
            }
        }
        self.graph.validate()?;
        Ok(self.graph)
    }

    /// Names the node that the next call makes. A name that is taken gets a number. If the call makes
    /// several nodes, the name is their scope.
    pub fn named(&mut self, name: &str) -> &mut GraphBuilder {
        self.next_name = Some(name.to_owned());
        self
    }

    /// Everything that `body` makes is named `scope/...`.
    pub fn scope<R>(&mut self, scope: &str, body: impl FnOnce(&mut GraphBuilder) -> R) -> R {
        let length = self.prefix.len();
        self.prefix.push_str(scope);
        self.prefix.push('/');
        let result = body(self);
        self.prefix.truncate(length);
        result
    }

    /// A helper that makes several nodes: a name given for it becomes their scope.
    fn composite<R>(&mut self, body: impl FnOnce(&mut GraphBuilder) -> R) -> R {
        match self.next_name.take() {
            Some(name) => self.scope(&name, body),
            None => body(self),
        }
    }

    /// The shape of a value; empty if it is erroneous.
    pub fn shape(&self, x: ValueId) -> &[usize] {
        if self.is_valid(x) { &self.graph.value(x).shape } else { &[] }
    }

    /// The element type of a value; meaningless if it is erroneous.
    pub fn dtype(&self, x: ValueId) -> DType {
        if self.is_valid(x) { self.graph.value(x).dtype } else { DType::F32 }
    }

    /// Whether the value exists and no error made it meaningless.
    pub fn is_valid(&self, x: ValueId) -> bool {
        self.known(x) && !self.poisoned.contains(&x)
    }

    /// Any operation. An empty name means that the name is made up. Returns as many values as the operation
    /// has results.
    pub fn node(&mut self, name: &str, op: Op, inputs: &[ValueId]) -> Vec<ValueId> {
        let name = match (name, self.next_name.take()) {
            ("", Some(next)) => self.node_name(&next),
            ("", None) => self.auto_name(op.name()),
            (name, _) => self.node_name(name),
        };
        match self.try_node(&name, &op, inputs) {
            Ok(Some(types)) => self.push_node(name, op, inputs, types),
            Ok(None) => self.poison_many(op.output_count()),
            Err(e) => {
                self.fail(e.at(&name, op.name()));
                self.poison_many(op.output_count())
            }
        }
    }

    /// An operation with one result.
    fn one(&mut self, op: Op, inputs: &[ValueId]) -> ValueId {
        self.node("", op, inputs)[0]
    }

    /// The types of the results; `None` if an operand is erroneous.
    fn try_node(&self, name: &str, op: &Op, inputs: &[ValueId]) -> Result<Option<Outputs>> {
        debug_assert!(!name.is_empty());
        if let Some(position) = inputs.iter().position(|id| !self.known(*id)) {
            return Err(not_of_this_graph(position));
        }
        if inputs.iter().any(|id| self.poisoned.contains(id)) {
            return Ok(None);
        }
        let operands: Vec<_> = inputs.iter().map(|id| self.graph.value(*id)).collect();
        infer(op, &operands).map(Some)
    }

    fn push_node(&mut self, name: String, op: Op, inputs: &[ValueId], types: Outputs) -> Vec<ValueId> {
        let single = types.len() == 1;
        let outputs: Vec<ValueId> = types
            .iter()
            .enumerate()
            .map(|(i, (dtype, shape))| {
                let base = if single { name.clone() } else { format!("{name}.{i}") };
                let name = self.free_value_name(&base);
                self.add_value(name, *dtype, shape)
            })
            .collect();
        self.graph.nodes.push(Node { name, op, inputs: inputs.to_vec(), outputs: outputs.clone() });
        outputs
    }

    /// For helpers that need the shapes of operands before there is a node: what stands for the result if an
    /// operand is erroneous.
    fn skip(&mut self, op: &str, operands: &[ValueId]) -> Option<ValueId> {
        if let Some(position) = operands.iter().position(|id| !self.known(*id)) {
            return Some(self.fail_at(op, not_of_this_graph(position)));
        }
        if operands.iter().all(|id| self.is_valid(*id)) {
            return None;
        }
        self.next_name = None;
        Some(self.poison())
    }

    /// Records an error of a helper that could not choose its operation's attributes.
    fn fail_at(&mut self, op: &str, error: Error) -> ValueId {
        let name = match self.next_name.take() {
            Some(name) => self.node_name(&name),
            None => self.auto_name(op),
        };
        self.reject(error.at(&name, op))
    }

    /// Records an error, and returns what stands for the result that it prevents.
    pub(super) fn reject(&mut self, error: Error) -> ValueId {
        self.fail(error);
        self.poison()
    }

    fn fail(&mut self, error: Error) {
        self.errors.push(error);
    }

    fn poison(&mut self) -> ValueId {
        let name = self.free_value_name("invalid");
        let id = self.add_value(name, DType::F32, &[]);
        self.poisoned.insert(id);
        id
    }

    fn poison_many(&mut self, count: usize) -> Vec<ValueId> {
        (0..count).map(|_| self.poison()).collect()
    }

    fn known(&self, x: ValueId) -> bool {
        (x.0 as usize) < self.graph.values.len()
    }

    fn add_value(&mut self, name: String, dtype: DType, shape: &[usize]) -> ValueId {
        let id = self.graph.add_value(name.clone(), dtype, shape);
        self.value_names.insert(name, id);
        id
    }

    fn free_value_name(&self, base: &str) -> String {
        unique(base, |name| self.value_names.contains_key(name))
    }

    /// Frees the name for an input or output: constants and results that have it are renamed.
    fn claim_name(&mut self, what: &str, name: &str) -> bool {
        if name.is_empty() {
            self.fail(Error::invalid(format!("an {what} has an empty name")));
            return false;
        }
        let Some(holder) = self.value_names.get(name).copied() else { return true };
        if self.graph.inputs.contains(&holder) || self.graph.outputs.contains(&holder) {
            let message = format!("{what} '{}': the name is taken", name.escape_debug());
            self.fail(Error::invalid(message));
            return false;
        }
        let other = self.free_value_name(name);
        self.graph.value_mut(holder).name.clone_from(&other);
        self.value_names.remove(name);
        self.value_names.insert(other, holder);
        true
    }

    fn node_name(&mut self, name: &str) -> String {
        let name = unique(&format!("{}{name}", self.prefix), |name| self.node_names.contains(name));
        self.node_names.insert(name.clone());
        name
    }

    /// `relu_3`, and the like; the first of its kind in a scope has no number.
    fn auto_name(&mut self, op: &str) -> String {
        let base = format!("{}{}", self.prefix, op.to_ascii_lowercase());
        let counter = self.counters.entry(base.clone()).or_default();
        loop {
            let bare = *counter == 0 && !self.prefix.is_empty();
            let name = if bare { base.clone() } else { format!("{base}_{counter}") };
            *counter += 1;
            if self.node_names.insert(name.clone()) {
                return name;
            }
        }
    }
}

fn not_of_this_graph(position: usize) -> Error {
    Error::invalid(format!("operand {position} is not a value of this graph"))
}

#[cfg(test)]
mod tests;
