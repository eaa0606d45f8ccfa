//! Which operations a model consists of as it was given, and which nodes of the rewritten graph compute each of
//! them. Passes need not say what they replaced: it follows from the names that stay.
//!
//! An operation is computed by the node that has one of its results, by the node that has its name (or says that it
//! computes it: [`Graph::operations`]), or (if it
//! vanished: a no-op, a reshape of a reshape) where the first of its readers is computed. What only depends on
//! constants is computed at compile time and no operation of a run, and neither is what nobody needs. One operator of a file
//! is one operation, however many it becomes ([`super::decomposed`]), and so is what a file spells out as several (GELU, layer
//! normalisation: [`super::spelled_out`]).

use std::collections::HashMap;

use nestjit_ir::DType;

use super::{Graph, Op, Unary, Value};

/// The operations of a model, in order, and the values between them.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct ModelOps {
    /// The operations that a run computes.
    pub ops: Vec<ModelOp>,
    /// All values of the model.
    pub values: Vec<ModelValue>,
    /// How many operations were computed at compile time, because all they depend on is constant.
    pub folded: usize,
}

/// An operation of the model.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ModelOp {
    /// The node's name.
    pub name: String,
    /// The operation's name, or that of the operator that became several; a convolution with a group per channel is a
    /// `DepthwiseConv`.
    pub kind: &'static str,
    /// Indices of the values it reads, without repetition.
    pub inputs: Vec<usize>,
    /// Indices of its results that somebody needs.
    pub outputs: Vec<usize>,
    /// How much of its operands it looks at.
    pub access: OperandAccess,
    /// The bytes that it writes and reads back: a recurrent layer multiplies all steps of its input with the weights
    /// before it walks through them.
    pub kept: usize,
    /// The names of the nodes of the rewritten graph that compute it.
    pub nodes: Vec<String>,
}

/// How much of its operands an operation looks at.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OperandAccess {
    /// All of it.
    #[default]
    Whole,
    /// Of each operand at most as much as it returns: slices, gathers, broadcasts.
    Part,
    /// Nothing: the result is the operand under another shape.
    View,
}

/// A value of the model.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ModelValue {
    /// Its name.
    pub name: String,
    /// The element type.
    pub dtype: DType,
    /// The shape.
    pub shape: Vec<usize>,
    /// Where it comes from.
    pub source: ValueSource,
    /// Whether it is an output of the model.
    pub output: bool,
}

impl ModelValue {
    /// The bytes of its elements.
    pub fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.size()
    }
}

/// Where a value comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ValueSource {
    /// It is given at each run.
    Input,
    /// It is known when the model is compiled, or nobody needs it.
    Constant,
    /// It is a result of the operation with this index.
    Op(usize),
}

impl ModelOps {
    /// The operations of `before`, as far as runs of the rewritten graph `after` compute them.
    pub fn trace(before: &Graph, after: &Graph) -> ModelOps {
        let (nodes, folded) = nodes_of(before, after);
        let mut values: Vec<ModelValue> = before.values.iter().map(value).collect();
        for id in &before.inputs {
            values[id.0 as usize].source = ValueSource::Input;
        }
        for id in &before.outputs {
            values[id.0 as usize].output = true;
        }
        let needed = before.needed();
        let mut ops = Vec::new();
        for (node, nodes) in before.nodes.iter().zip(nodes) {
            let Some(nodes) = nodes else { continue };
            let mut inputs: Vec<usize> = Vec::new();
            for id in &node.inputs {
                if !inputs.contains(&(id.0 as usize)) {
                    inputs.push(id.0 as usize);
                }
            }
            let outputs: Vec<usize> =
                node.outputs.iter().map(|id| id.0 as usize).filter(|v| needed[*v]).collect();
            for v in &outputs {
                values[*v].source = ValueSource::Op(ops.len());
            }
            let kind = kind(&node.op, before.operands(node).first().copied());
            let (name, access) = (node.name.clone(), access(&node.op));
            let kept = kept(&node.op, before.operands(node).first().copied());
            ops.push(ModelOp { name, kind, inputs, outputs, access, kept, nodes });
        }
        let mut traced = ModelOps { ops, values, folded };
        traced.join_operators(before);
        traced.join_spelled_out();
        traced
    }

    /// For each value, the operations that read it.
    pub(super) fn readers(&self) -> Vec<Vec<usize>> {
        let mut readers: Vec<Vec<usize>> = vec![Vec::new(); self.values.len()];
        for (at, op) in self.ops.iter().enumerate() {
            op.inputs.iter().for_each(|v| readers[*v].push(at));
        }
        readers
    }
}

fn value(v: &Value) -> ModelValue {
    let source = ValueSource::Constant;
    ModelValue { name: v.name.clone(), dtype: v.dtype, shape: v.shape.clone(), source, output: false }
}

/// For each node of `before`, the nodes of `after` that compute it; `None` if no run does. Also returns how many
/// nodes were computed at compile time.
fn nodes_of(before: &Graph, after: &Graph) -> (Vec<Option<Vec<String>>>, usize) {
    let mut writers: HashMap<&str, &str> = HashMap::with_capacity(after.values.len());
    let mut names: HashMap<&str, &str> = HashMap::with_capacity(after.nodes.len());
    for node in &after.nodes {
        for operation in after.origins.get(&node.name).into_iter().flatten() {
            let name = operation.split_once(' ').map_or(operation.as_str(), |(_, name)| name);
            names.insert(name, &node.name);
        }
    }
    for node in &after.nodes {
        names.insert(&node.name, &node.name);
        for id in &node.outputs {
            writers.insert(&after.value(*id).name, &node.name);
        }
    }
    let constant = constants(before);
    let (consumers, needed) = (before.consumers(), before.needed());
    let mut found: Vec<Option<Vec<String>>> = vec![None; before.nodes.len()];
    let mut folded = 0;
    for (at, node) in before.nodes.iter().enumerate().rev() {
        if !node.outputs.iter().any(|id| needed[id.0 as usize]) {
            continue;
        }
        let results = node.outputs.iter().filter_map(|id| writers.get(before.value(*id).name.as_str()));
        let mut nodes: Vec<String> = Vec::new();
        for name in results.chain(names.get(node.name.as_str())) {
            if !nodes.iter().any(|n| n == name) {
                nodes.push((*name).to_owned());
            }
        }
        if nodes.is_empty() && !constant[at] {
            // Readers come later, so theirs are known.
            let readers = node.outputs.iter().flat_map(|id| &consumers[id.0 as usize]);
            nodes = readers.filter_map(|port| found[port.node].clone()).next().unwrap_or_default();
        }
        folded += usize::from(nodes.is_empty());
        found[at] = (!nodes.is_empty()).then_some(nodes);
    }
    (found, folded)
}

/// Which nodes depend on nothing but constants.
fn constants(graph: &Graph) -> Vec<bool> {
    let mut known: Vec<bool> = graph.value_ids().map(|id| graph.is_const(id)).collect();
    graph
        .nodes
        .iter()
        .map(|node| {
            let constant = node.inputs.iter().all(|id| known[id.0 as usize]);
            for id in &node.outputs {
                known[id.0 as usize] = constant;
            }
            constant
        })
        .collect()
}

fn kind(op: &Op, x: Option<&Value>) -> &'static str {
    match (op, x) {
        (Op::Conv { groups, format, .. }, Some(x)) if *groups > 1 => {
            let channels = x.shape.get(format.channel_axis(x.shape.len()));
            if channels == Some(groups) { "DepthwiseConv" } else { op.name() }
        }
        _ => op.name(),
    }
}

fn kept(op: &Op, x: Option<&Value>) -> usize {
    match (op, x) {
        (Op::Recurrent { kind, hidden, direction, .. }, Some(x)) => match x.shape.as_slice() {
            [steps, batch, ..] if *steps > 1 => {
                steps * batch * direction.count() * kind.gates() * hidden * x.dtype.size()
            }
            _ => 0,
        },
        (Op::DynamicQuantizeLstm { .. }, Some(x)) if x.shape.first().is_some_and(|steps| *steps > 1) => {
            x.shape.iter().product::<usize>() * x.dtype.size()
        }
        _ => 0,
    }
}

fn access(op: &Op) -> OperandAccess {
    match op {
        Op::Reshape { .. } | Op::Dropout | Op::Unary(Unary::Identity) => OperandAccess::View,
        Op::Slice { .. } | Op::Split { .. } | Op::Gather { .. } | Op::Expand { .. } => OperandAccess::Part,
        _ => OperandAccess::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::GraphBuilder;

    /// `relu(dropout(x)) + (c + c)`, and a node that nobody needs.
    fn graph() -> Graph {
        let mut g = GraphBuilder::new("m");
        let x = g.input("x", DType::F32, &[4]);
        let c = g.constant("c", crate::tensor::Tensor::new(&[4], &[1.0f32; 4]).unwrap());
        let d = g.add(c, c);
        let r = g.relu(x);
        g.sigmoid(r);
        let y = g.add(r, d);
        g.output("y", y);
        g.build().unwrap()
    }

    fn kinds(ops: &ModelOps) -> Vec<&str> {
        ops.ops.iter().map(|op| op.kind).collect()
    }

    #[test]
    fn operations_are_those_of_a_run() {
        let before = graph();
        let same = ModelOps::trace(&before, &before);
        assert_eq!((kinds(&same), same.folded), (vec!["Add", "Relu", "Add"], 0));
        for op in &same.ops {
            assert_eq!(op.nodes, std::slice::from_ref(&op.name));
        }
        let mut after = before.clone();
        after.nodes.remove(0);
        let folded = ModelOps::trace(&before, &after);
        assert_eq!((kinds(&folded), folded.folded), (vec!["Relu", "Add"], 1));
        assert_eq!(folded.ops[1].inputs.len(), 2);
        let of_sum = folded.ops[1].inputs.iter().map(|v| folded.values[*v].source).collect::<Vec<_>>();
        assert_eq!(of_sum, [ValueSource::Op(0), ValueSource::Constant]);
        assert!(folded.values[folded.ops[1].outputs[0]].output);
    }

    #[test]
    fn what_vanished_is_computed_with_its_reader_or_by_the_new_producer_of_its_result() {
        let before = graph();
        // The sum reads `x` itself: the activation is computed with it.
        let mut after = before.clone();
        let (x, r) = (after.inputs[0], after.nodes[1].outputs[0]);
        after.nodes.remove(1);
        after.replace_uses(r, x);
        let ops = ModelOps::trace(&before, &after);
        assert_eq!(ops.ops[1].kind, "Relu");
        assert_eq!(ops.ops[1].nodes, [ops.ops[2].name.clone()]);
        // A node of another name has the result of the sum.
        let mut after = before.clone();
        let last = after.nodes.len() - 1;
        after.nodes[last].name = "new".to_owned();
        let ops = ModelOps::trace(&before, &after);
        assert_eq!(ops.ops.last().unwrap().nodes, ["new"]);
    }
}
