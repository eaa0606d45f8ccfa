//! The graph while its nodes are replaced one after the other: new nodes, unless what they compute is constant.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use nestjit_ir::DType;

use super::image::Image;
use crate::error::Result;
use crate::graph::eval::evaluate_op;
use crate::graph::{Binary, Graph, Node, Op, Place, Unary, Value, ValueId, infer};
use crate::tensor::Tensor;

/// Constants up to this size are computed at once; larger ones are left to FoldConstant.
const SMALL: usize = 1 << 16;

/// A graph, its nodes being replaced.
pub(super) struct Rewriter<'g> {
    pub graph: &'g mut Graph,
    /// The nodes before.
    old: &'g [Node],
    /// For each value, the index of the node before that computes it.
    producers: Vec<Option<usize>>,
    /// The nodes after, as far as there are any.
    nodes: Vec<Node>,
    value_names: HashSet<String>,
    node_names: HashSet<String>,
    /// The node that is being replaced, and how many nodes there were before it.
    name: String,
    first: usize,
    operations: Vec<String>,
    place: Option<Arc<Place>>,
    /// What concatenations are images of, as far as it was asked.
    pub joined: HashMap<ValueId, Option<Image>>,
    /// The results of moves: all that read them read one.
    moves: HashMap<Vec<ValueId>, Vec<(Op, ValueId)>>,
}

impl<'g> Rewriter<'g> {
    /// A rewriter of `old`, the nodes of `graph`.
    pub fn new(graph: &'g mut Graph, old: &'g [Node]) -> Rewriter<'g> {
        let mut producers = vec![None; graph.values.len()];
        for (index, node) in old.iter().enumerate() {
            for id in &node.outputs {
                producers[id.0 as usize] = Some(index);
            }
        }
        let value_names = graph.values.iter().map(|v| v.name.clone()).collect();
        let node_names = old.iter().map(|n| n.name.clone()).collect();
        let (nodes, operations) = (Vec::with_capacity(old.len()), Vec::new());
        let name = String::new();
        let (first, place) = (0, None);
        let (joined, moves) = (HashMap::new(), HashMap::new());
        Rewriter {
            graph,
            old,
            producers,
            nodes,
            value_names,
            node_names,
            name,
            first,
            operations,
            place,
            joined,
            moves,
        }
    }

    /// All nodes after.
    pub fn finish(self) -> Vec<Node> {
        self.nodes
    }

    /// Leaves a node as it is.
    pub fn keep(&mut self, node: Node) {
        self.nodes.push(node);
    }

    /// Nodes to come belong to this one, which is being replaced.
    pub fn begin(&mut self, node: &Node) {
        self.name.clone_from(&node.name);
        self.first = self.nodes.len();
        self.operations = self.graph.operations(node);
        self.place = self.graph.places.get(&node.name).cloned();
    }

    /// The node before that computes a value.
    pub fn producer(&self, id: ValueId) -> Option<&'g Node> {
        let index = self.producers.get(id.0 as usize).copied().flatten()?;
        Some(&self.old[index])
    }

    pub fn value(&self, id: ValueId) -> &Value {
        self.graph.value(id)
    }

    pub fn dtype(&self, id: ValueId) -> DType {
        self.graph.value(id).dtype
    }

    pub fn shape(&self, id: ValueId) -> Vec<usize> {
        self.graph.value(id).shape.clone()
    }

    pub fn elements(&self, id: ValueId) -> usize {
        self.graph.value(id).shape.iter().product()
    }

    /// The contents of a value, if it is constant or follows from constants by operations on small tensors.
    pub fn known(&mut self, id: ValueId) -> Option<Tensor> {
        // Operands come before what needs them, so that each is computed when its turn comes.
        let mut pending = vec![id];
        while let Some(&last) = pending.last() {
            if self.graph.is_const(last) {
                pending.pop();
                continue;
            }
            let node = self.producer(last)?;
            if node.outputs.len() != 1 || self.elements(last) > SMALL {
                return None;
            }
            let missing = node.inputs.iter().copied().find(|input| !self.graph.is_const(*input));
            if let Some(missing) = missing {
                pending.push(missing);
                continue;
            }
            let operands: Vec<Tensor> =
                node.inputs.iter().filter_map(|input| self.graph.constant(*input).cloned()).collect();
            if operands.iter().any(|t| t.len() > SMALL) {
                return None;
            }
            let tensor = evaluate_op(&node.op, &operands).ok()?.pop()?;
            self.graph.value_mut(last).data = Some(Arc::new(tensor));
        }
        self.graph.constant(id).cloned()
    }

    /// A constant that belongs to the node.
    pub fn constant(&mut self, part: &str, tensor: Tensor) -> ValueId {
        let name = unique(&mut self.value_names, &format!("{}.{part}", self.name));
        self.producers.push(None);
        self.graph.add_constant(name, tensor)
    }

    /// A number as a constant of rank 0.
    pub fn int(&mut self, part: &str, value: i32) -> ValueId {
        self.constant(part, Tensor::scalar(value))
    }

    /// The result of an operation on these values, `NODE.part`.
    pub fn op(&mut self, part: &str, op: Op, inputs: &[ValueId]) -> Result<ValueId> {
        let operands: Vec<&Value> = inputs.iter().map(|id| self.graph.value(*id)).collect();
        let (dtype, shape) = infer(&op, &operands)?.swap_remove(0);
        let small = |shape: &[usize]| shape.iter().product::<usize>() <= SMALL;
        let same = operands[0].dtype == dtype && operands[0].shape == shape;
        if same && matches!(op, Op::Cast { .. } | Op::Reshape { .. } | Op::Expand { .. }) {
            return Ok(inputs[0]);
        }
        if small(&shape) && operands.iter().all(|v| v.data.is_some() && small(&v.shape)) {
            let operands: Vec<Tensor> =
                inputs.iter().filter_map(|id| self.graph.constant(*id).cloned()).collect();
            if let Some(tensor) = evaluate_op(&op, &operands).ok().and_then(|mut results| results.pop()) {
                return Ok(self.constant(part, tensor));
            }
        }
        let name = unique(&mut self.value_names, &format!("{}.{part}", self.name));
        let output = self.graph.add_value(name, dtype, &shape);
        self.producers.push(None);
        let name = unique(&mut self.node_names, &format!("{}.{part}", self.name));
        self.add(Node { name, op, inputs: inputs.to_vec(), outputs: vec![output] });
        Ok(output)
    }

    /// The result of a move of these values.
    pub fn moved(&mut self, op: &Op, inputs: &[ValueId]) -> Result<ValueId> {
        let known = self.moves.get(inputs).and_then(|known| known.iter().find(|known| known.0 == *op));
        if let Some((_, result)) = known {
            return Ok(*result);
        }
        let result = self.op("moved", op.clone(), inputs)?;
        self.moves.entry(inputs.to_vec()).or_default().push((op.clone(), result));
        Ok(result)
    }

    /// The node itself, with another operation or other operands. Its result is a new value.
    pub fn replace(&mut self, op: Op, inputs: &[ValueId]) -> Result<ValueId> {
        let operands: Vec<&Value> = inputs.iter().map(|id| self.graph.value(*id)).collect();
        let (dtype, shape) = infer(&op, &operands)?.swap_remove(0);
        let value = unique(&mut self.value_names, &format!("{}.sums", self.name));
        let output = self.graph.add_value(value, dtype, &shape);
        self.producers.push(None);
        let name = self.name.clone();
        self.add(Node { name, op, inputs: inputs.to_vec(), outputs: vec![output] });
        Ok(output)
    }

    fn add(&mut self, node: Node) {
        self.graph.origins.insert(node.name.clone(), self.operations.clone());
        if let Some(place) = &self.place {
            self.graph.places.insert(node.name.clone(), Arc::clone(place));
        }
        self.nodes.push(node);
    }

    /// Makes `value` the result of the node that is being replaced, which was `result`.
    pub fn yield_as(&mut self, value: ValueId, result: ValueId) {
        match self.nodes[self.first..].last_mut().filter(|node| node.outputs == [value]) {
            Some(last) => {
                last.outputs[0] = result;
                self.moves.values_mut().flatten().filter(|m| m.1 == value).for_each(|m| m.1 = result);
                let images = self.joined.values_mut().flatten();
                images.filter(|image| image.q == value).for_each(|image| image.q = result);
            }
            // It is a constant, or was there before.
            None => {
                let name = unique(&mut self.node_names, &format!("{}.copy", self.name));
                let op = Op::Unary(Unary::Identity);
                self.add(Node { name, op, inputs: vec![value], outputs: vec![result] });
            }
        }
    }

    pub fn cast(&mut self, part: &str, x: ValueId, to: DType) -> Result<ValueId> {
        self.op(part, Op::Cast { to }, &[x])
    }

    pub fn binary(&mut self, part: &str, op: Binary, a: ValueId, b: ValueId) -> Result<ValueId> {
        self.op(part, Op::Binary(op), &[a, b])
    }

    pub fn reshape(&mut self, part: &str, x: ValueId, shape: &[usize]) -> Result<ValueId> {
        self.op(part, Op::Reshape { shape: shape.to_vec() }, &[x])
    }

    /// `a + b`, either of which may be 0.
    pub fn sum(&mut self, part: &str, a: Option<ValueId>, b: Option<ValueId>) -> Result<Option<ValueId>> {
        match (a, b) {
            (Some(a), Some(b)) => self.binary(part, Binary::Add, a, b).map(Some),
            (one, other) => Ok(one.or(other)),
        }
    }

    /// `a * b`, either of which may be 1.
    pub fn product(&mut self, part: &str, a: Option<ValueId>, b: Option<ValueId>) -> Result<Option<ValueId>> {
        match (a, b) {
            (Some(a), Some(b)) => self.binary(part, Binary::Mul, a, b).map(Some),
            (one, other) => Ok(one.or(other)),
        }
    }

    /// A value, unless it is known to be 0 everywhere.
    pub fn unless_zero(&mut self, x: Option<ValueId>) -> Option<ValueId> {
        let id = x?;
        let zero = self.known(id).is_some_and(|t| t.bytes().is_ok_and(|b| b.iter().all(|b| *b == 0)));
        (!zero).then_some(id)
    }
}

/// The first of `base`, `base_1`, `base_2`, ... that is not taken; it is then.
fn unique(taken: &mut HashSet<String>, base: &str) -> String {
    let mut name = base.to_owned();
    let mut number = 0;
    while !taken.insert(name.clone()) {
        number += 1;
        name = format!("{base}_{number}");
    }
    name
}
