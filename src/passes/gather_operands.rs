//! GatherOperands: what a Gather takes of a table that elementwise operations compute of constants is computed of what it
//! takes of their operands, element by element the same. Embeddings that a file keeps in fewer bits are widened and scaled row by
//! row, for the rows that are wanted, instead of as a whole in every run.
//!
//! Only where fewer elements are computed: tables that are worth keeping are folded before. What a run computes is left to
//! OpFusion, which has reasons of its own to keep it together.

use super::PassContext;
use crate::error::Result;
use crate::graph::{Graph, Node, Op, ValueId};
use crate::remark::{Reason, Remark};

/// Runs the pass.
pub fn run(graph: &mut Graph, _: &PassContext<'_>, remarks: &mut Vec<Remark>) -> Result<bool> {
    let tables = tables(graph);
    let mut changed = false;
    let mut at = 0;
    while at < graph.nodes.len() {
        match moved(graph, &tables, at) {
            Some(nodes) => {
                let name = graph.nodes[at].name.clone();
                graph.nodes.splice(at..=at, nodes);
                remarks.push(Remark::node(&name, Reason::GatheredFirst));
                // What is read by nobody any more must not count as a reader; and a Gather that was moved may follow on
                // another operation.
                graph.remove_dead();
                (changed, at) = (true, 0);
            }
            None => at += 1,
        }
    }
    Ok(changed)
}

/// Whether each element of the result depends on one element of each operand, which broadcast against each other.
fn is_elementwise(op: &Op) -> bool {
    matches!(op, Op::Unary(_) | Op::Binary(_) | Op::Where | Op::Clip { .. } | Op::Cast { .. })
}

/// Which values follow from constants alone.
fn tables(graph: &Graph) -> Vec<bool> {
    let mut tables: Vec<bool> = graph.values.iter().map(|value| value.data.is_some()).collect();
    for node in &graph.nodes {
        let table = !node.inputs.is_empty() && node.inputs.iter().all(|id| tables[id.0 as usize]);
        node.outputs.iter().for_each(|id| tables[id.0 as usize] |= table);
    }
    tables
}

/// What the Gather at this place becomes, if it follows on an elementwise operation that need not compute everything for
/// it.
fn moved(graph: &mut Graph, tables: &[bool], at: usize) -> Option<Vec<Node>> {
    let Node { op: Op::Gather { axis }, inputs, outputs, .. } = graph.nodes[at].clone() else { return None };
    let (&[data, index], &[result]) = (inputs.as_slice(), outputs.as_slice()) else { return None };
    if !tables.get(data.0 as usize).copied().unwrap_or(false) {
        return None;
    }
    let producer = graph.nodes[..at].iter().rposition(|node| node.outputs.contains(&data))?;
    let elementwise = graph.nodes[producer].clone();
    if !is_elementwise(&elementwise.op) || elementwise.outputs.len() != 1 || graph.outputs.contains(&data) {
        return None;
    }
    let (whole, picked) = (graph.value(data).shape.clone(), graph.value(result).shape.clone());
    let elements = |shape: &[usize]| shape.iter().product::<usize>();
    let readers = graph.nodes.iter().flat_map(|node| &node.inputs).filter(|id| **id == data).count();
    // With other readers everything is computed all the same, and what is picked once more: little, or not at all.
    let most = if readers == 1 { elements(&whole) } else { elements(&whole) / 8 };
    // An index into one element is checked by the Gather alone.
    if elements(&picked) >= most || whole[axis] == 1 {
        return None;
    }
    let places = graph.value(index).shape.clone();
    let mut nodes = Vec::new();
    let mut operands = Vec::with_capacity(elementwise.inputs.len());
    for operand in elementwise.inputs {
        // Shapes are aligned at their ends.
        let shape = graph.value(operand).shape.clone();
        let Some(own) = (axis + shape.len()).checked_sub(whole.len()) else {
            operands.push(operand);
            continue;
        };
        let (op, inputs, between) = match shape[own] {
            1 => (None, vec![operand], vec![1; places.len()]),
            _ => (Some(Op::Gather { axis: own }), vec![operand, index], places.clone()),
        };
        let shape = [&shape[..own], &between, &shape[own + 1..]].concat();
        let op = op.unwrap_or_else(|| Op::Reshape { shape: shape.clone() });
        operands.push(push(graph, &mut nodes, &elementwise.name, op, inputs, &shape));
    }
    let name = unique(graph, &nodes, &elementwise.name);
    nodes.push(Node { name, op: elementwise.op, inputs: operands, outputs: vec![result] });
    Some(nodes)
}

/// Appends a node with a value of its own.
fn push(
    graph: &mut Graph,
    nodes: &mut Vec<Node>,
    base: &str,
    op: Op,
    inputs: Vec<ValueId>,
    shape: &[usize],
) -> ValueId {
    let of = graph.value(inputs[0]);
    let (dtype, label) = (of.dtype, format!("{}.picked", of.name));
    let value = graph.unique_value_name(&label);
    let value = graph.add_value(value, dtype, shape);
    let name = unique(graph, nodes, base);
    nodes.push(Node { name, op, inputs, outputs: vec![value] });
    value
}

/// A name that neither the graph nor these nodes have.
fn unique(graph: &Graph, nodes: &[Node], base: &str) -> String {
    let taken = |name: &str| graph.nodes.iter().chain(nodes).any(|node| node.name == name);
    let numbered = (1..).map(|i| format!("{base}_{i}"));
    numbered.into_iter().find(|name| !taken(name)).unwrap_or_default()
}
