//! Questions and edits that passes have in common: who produces a value, who reads it, what is dead, which
//! names are free.

use std::sync::Arc;

use nestjit_ir::DType;

use super::{Graph, Node, Op, Value, ValueId};
use crate::tensor::Tensor;

/// A place at a node: the node's index, and the number of the operand or result.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Port {
    /// The index in [`Graph::nodes`].
    pub node: usize,
    /// The index in [`Node::inputs`] or [`Node::outputs`].
    pub index: usize,
}

fn operation(node: &Node) -> String {
    format!("{} {}", node.op.name(), node.name)
}

impl Graph {
    /// An empty graph.
    pub fn new(name: impl Into<String>) -> Graph {
        Graph { name: name.into(), ..Graph::default() }
    }

    /// The value with this id, to be changed.
    pub fn value_mut(&mut self, id: ValueId) -> &mut Value {
        &mut self.values[id.0 as usize]
    }

    /// Adds a value that nothing produces or reads yet.
    pub fn add_value(&mut self, name: impl Into<String>, dtype: DType, shape: &[usize]) -> ValueId {
        self.values.push(Value { name: name.into(), dtype, shape: shape.to_vec(), data: None });
        ValueId(self.values.len() as u32 - 1)
    }

    /// Adds a constant.
    pub fn add_constant(&mut self, name: impl Into<String>, tensor: Tensor) -> ValueId {
        let id = self.add_value(name, tensor.dtype(), tensor.shape());
        self.value_mut(id).data = Some(Arc::new(tensor));
        id
    }

    /// Whether the value is a constant.
    pub fn is_const(&self, id: ValueId) -> bool {
        self.value(id).data.is_some()
    }

    /// The contents of a constant.
    pub fn constant(&self, id: ValueId) -> Option<&Tensor> {
        self.value(id).data.as_deref()
    }

    /// The model's operations that a node computes, in order, as reports name them: `Conv conv1`, and
    /// `BatchNorm bn1` after it if that has been folded into its weights.
    pub fn operations(&self, node: &Node) -> Vec<String> {
        self.origins.get(&node.name).cloned().unwrap_or_else(|| vec![operation(node)])
    }

    /// Notes that the node at `index` from now on also computes `operations`.
    pub fn absorb(&mut self, index: usize, operations: Vec<String>) {
        let node = &self.nodes[index];
        let own = operation(node);
        self.origins.entry(node.name.clone()).or_insert_with(|| vec![own]).extend(operations);
    }

    /// For each value, the result that it is; `None` for inputs and constants.
    pub fn producers(&self) -> Vec<Option<Port>> {
        let mut producers = vec![None; self.values.len()];
        for (node, n) in self.nodes.iter().enumerate() {
            for (index, id) in n.outputs.iter().enumerate() {
                producers[id.0 as usize] = Some(Port { node, index });
            }
        }
        producers
    }

    /// For each value, the operands that read it, in order. Being a graph output is not listed.
    pub fn consumers(&self) -> Vec<Vec<Port>> {
        let mut consumers = vec![Vec::new(); self.values.len()];
        for (node, n) in self.nodes.iter().enumerate() {
            for (index, id) in n.inputs.iter().enumerate() {
                consumers[id.0 as usize].push(Port { node, index });
            }
        }
        consumers
    }

    /// For each value, whether an output of the graph is it or depends on it.
    pub fn needed(&self) -> Vec<bool> {
        let mut needed = vec![false; self.values.len()];
        for id in &self.outputs {
            needed[id.0 as usize] = true;
        }
        for node in self.nodes.iter().rev() {
            if node.outputs.iter().any(|id| needed[id.0 as usize]) {
                for id in &node.inputs {
                    needed[id.0 as usize] = true;
                }
            }
        }
        needed
    }

    /// Makes every reader of `from`, the graph's outputs too, read `to` instead.
    pub fn replace_uses(&mut self, from: ValueId, to: ValueId) {
        let operands = self.nodes.iter_mut().flat_map(|n| &mut n.inputs);
        for id in operands.chain(&mut self.outputs) {
            if *id == from {
                *id = to;
            }
        }
    }

    /// Removes nodes whose results nobody reads, and then every value that is not an input, an output or at
    /// a node. Ids change; names and order do not. Returns how many nodes were removed.
    pub fn remove_dead(&mut self) -> usize {
        let mut live = self.needed();
        let before = self.nodes.len();
        self.nodes.retain(|node| node.outputs.iter().any(|id| live[id.0 as usize]));
        for id in self.nodes.iter().flat_map(|n| &n.outputs).chain(&self.inputs) {
            live[id.0 as usize] = true;
        }
        self.retain_values(&live);
        before - self.nodes.len()
    }

    /// Drops the values that are not `live` and renumbers the others.
    fn retain_values(&mut self, live: &[bool]) {
        let mut next = 0;
        let renumbered: Vec<ValueId> = live
            .iter()
            .map(|live| {
                let id = ValueId(next);
                next += u32::from(*live);
                id
            })
            .collect();
        let mut live = live.iter();
        self.values.retain(|_| live.next() == Some(&true));
        let at_nodes = self.nodes.iter_mut().flat_map(|n| n.inputs.iter_mut().chain(&mut n.outputs));
        for id in at_nodes.chain(&mut self.inputs).chain(&mut self.outputs) {
            *id = renumbered[id.0 as usize];
        }
    }

    /// `base`, or `base_1`, `base_2`, ...: the first that no value has.
    pub fn unique_value_name(&self, base: &str) -> String {
        unique(base, |name| self.values.iter().any(|v| v.name == name))
    }

    /// `base`, or `base_1`, `base_2`, ...: the first that no node has.
    pub fn unique_node_name(&self, base: &str) -> String {
        unique(base, |name| self.nodes.iter().any(|n| n.name == name))
    }

    /// The operands of a node.
    pub fn operands(&self, node: &Node) -> Vec<&Value> {
        node.inputs.iter().map(|id| self.value(*id)).collect()
    }
}

/// The first of `base`, `base_1`, `base_2`, ... that is not `taken`.
pub(super) fn unique(base: &str, taken: impl Fn(&str) -> bool) -> String {
    if !taken(base) {
        return base.to_owned();
    }
    let mut number = 1;
    loop {
        let name = format!("{base}_{number}");
        if !taken(&name) {
            return name;
        }
        number += 1;
    }
}

impl Op {
    /// Whether each element of the result depends on one element of each operand, which broadcast against each other.
    pub fn is_elementwise(&self) -> bool {
        matches!(
            self,
            Op::Unary(_) | Op::Binary(_) | Op::Where | Op::Clip { .. } | Op::Cast { .. } | Op::Dropout
        )
    }

    /// The number of results.
    pub fn output_count(&self) -> usize {
        match self {
            Op::Split { sizes, .. } => sizes.len(),
            Op::Recurrent { kind: super::RecurrentKind::Lstm, .. } | Op::DynamicQuantizeLstm { .. } => 3,
            Op::Recurrent { .. } => 2,
            _ => 1,
        }
    }
}
