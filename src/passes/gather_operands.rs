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
    let mut changed = false;
    // A Gather that was moved may follow on another operation.
    while let Some(name) = move_one(graph) {
        remarks.push(Remark::node(&name, Reason::GatheredFirst));
        // What is read by nobody any more must not count as a reader.
        graph.remove_dead();
        changed = true;
    }
    Ok(changed)
}

/// Moves the first Gather that follows on an elementwise operation which need not compute everything for it; its name.
fn move_one(graph: &mut Graph) -> Option<String> {
    let (tables, producers) = (tables(graph), graph.producers());
    let (at, producer) = graph.nodes.iter().enumerate().find_map(|(at, node)| {
        let data = matches!(node.op, Op::Gather { .. }).then(|| node.inputs[0])?;
        let producer = producers[data.0 as usize].filter(|_| tables[data.0 as usize])?.node;
        pays(graph, node, &graph.nodes[producer]).then_some((at, producer))
    })?;
    let name = graph.nodes[at].name.clone();
    swap(graph, at, producer);
    Some(name)
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

/// Whether fewer elements are computed if a Gather comes before the operation that it follows on.
fn pays(graph: &Graph, gather: &Node, producer: &Node) -> bool {
    let (Op::Gather { axis }, [data]) = (&gather.op, producer.outputs.as_slice()) else { return false };
    let whole = graph.value(*data);
    let elements = |id: ValueId| graph.value(id).shape.iter().product::<usize>();
    let readers = graph.nodes.iter().flat_map(|node| &node.inputs).filter(|id| *id == data).count();
    // With other readers everything is computed all the same, and what is picked once more: little, or not at all.
    let most = if readers == 1 { elements(*data) } else { elements(*data) / 8 };
    // An index into one element is checked by the Gather alone.
    producer.op.is_elementwise()
        && !graph.outputs.contains(data)
        && elements(gather.outputs[0]) < most
        && whole.shape[*axis] != 1
}

/// Puts a Gather, for each operand that it picks of, before the elementwise operation that it follows on.
fn swap(graph: &mut Graph, mut at: usize, producer: usize) {
    let Op::Gather { axis } = graph.nodes[at].op else { return };
    let elementwise = graph.nodes[producer].clone();
    let [data, index] = [0, 1].map(|i| graph.nodes[at].inputs[i]);
    let (rank, places) = (graph.value(data).shape.len(), graph.value(index).shape.clone());
    let mut operands = Vec::with_capacity(elementwise.inputs.len());
    for operand in elementwise.inputs {
        // Shapes are aligned at their ends.
        let shape = graph.value(operand).shape.clone();
        let Some(own) = (axis + shape.len()).checked_sub(rank) else {
            operands.push(operand);
            continue;
        };
        let around = |between: &[usize]| [&shape[..own], between, &shape[own + 1..]].concat();
        let (op, inputs, shape) = if shape[own] == 1 {
            let shape = around(&vec![1; places.len()]);
            (Op::Reshape { shape: shape.clone() }, vec![operand], shape)
        } else {
            (Op::Gather { axis: own }, vec![operand, index], around(&places))
        };
        let (dtype, label) = (graph.value(operand).dtype, format!("{}.picked", graph.value(operand).name));
        let picked = graph.add_value(graph.unique_value_name(&label), dtype, &shape);
        let name = graph.unique_node_name(&elementwise.name);
        graph.nodes.insert(at, Node { name, op, inputs, outputs: vec![picked] });
        operands.push(picked);
        at += 1;
    }
    let name = graph.unique_node_name(&elementwise.name);
    let gather = &mut graph.nodes[at];
    (gather.name, gather.op, gather.inputs) = (name, elementwise.op, operands);
}
