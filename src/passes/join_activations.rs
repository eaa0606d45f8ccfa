//! JoinActivations: an activation of a half type that is spelled out as several operations (`x * sigmoid(x)`, GELU by its
//! error function) is computed as the one operation that it is: in `f32`, and rounded once.
//!
//! Exporters write activations in the functions that there are, and conversion of a file to halves then rounds between
//! them. That costs more than the functions, and accuracy too.

use std::collections::HashMap;

use nestjit_ir::DType;

use super::PassContext;
use crate::error::{Error, Result};
use crate::graph::eval::evaluate_op;
use crate::graph::{Graph, Node, Op, ValueId};
use crate::remark::{Reason, Remark};

/// Runs the pass.
pub fn run(graph: &mut Graph, _: &PassContext<'_>, remarks: &mut Vec<Remark>) -> Result<bool> {
    if !graph.values.iter().any(|v| v.dtype.is_half()) {
        return Ok(false);
    }
    let mut groups = graph.spelled_out_activations();
    groups.retain(|group| group.iter().all(|at| computes_in_halves(graph, &graph.nodes[*at])));
    // From behind, for nodes are inserted.
    groups.sort_by_key(|group| std::cmp::Reverse(group.last().copied()));
    for group in &groups {
        let name = group.last().map_or_else(String::new, |at| graph.nodes[*at].name.clone());
        remarks.push(Remark::node(name, Reason::Activation { operations: group.len() }));
    }
    let changed = !groups.is_empty();
    let mut ends: HashMap<String, Node> = HashMap::new();
    let mut begins: HashMap<String, Vec<Node>> = HashMap::new();
    for group in groups {
        widen(graph, &group, &mut begins, &mut ends)?;
    }
    if changed {
        for node in std::mem::take(&mut graph.nodes) {
            graph.nodes.extend(begins.remove(&node.name).into_iter().flatten());
            let end = ends.remove(&node.name);
            graph.nodes.push(node);
            graph.nodes.extend(end);
        }
        graph.remove_dead();
    }
    Ok(changed)
}

/// Whether everything that a node reads and makes is of a half type.
fn computes_in_halves(graph: &Graph, node: &Node) -> bool {
    let half = |id: &ValueId| graph.value(*id).dtype.is_half();
    node.inputs.iter().chain(&node.outputs).all(half)
        && matches!(node.op, Op::Unary(_) | Op::Binary(_) | Op::Clip { .. })
}

/// Makes the values of a group `f32`, but for the result, and notes the conversions to be inserted before its first node and
/// behind its last one, by their names.
fn widen(
    graph: &mut Graph,
    group: &[usize],
    begins: &mut HashMap<String, Vec<Node>>,
    ends: &mut HashMap<String, Node>,
) -> Result<()> {
    let (Some(&first), Some(&last)) = (group.first(), group.last()) else { return Ok(()) };
    let mut wide: HashMap<ValueId, ValueId> = HashMap::new();
    for at in group {
        let result = graph.nodes[*at].outputs[0];
        let value = graph.value(result).clone();
        let name = graph.unique_value_name(&format!("{}.f32", value.name));
        let own = graph.add_value(name, DType::F32, &value.shape);
        wide.insert(result, own);
    }
    for &at in group {
        for input in 0..graph.nodes[at].inputs.len() {
            let id = graph.nodes[at].inputs[input];
            let own = match wide.get(&id) {
                Some(own) => *own,
                None => {
                    let own = widened(graph, id, &graph.nodes[first].name.clone(), begins)?;
                    wide.insert(id, own);
                    own
                }
            };
            graph.nodes[at].inputs[input] = own;
        }
    }
    for &at in group {
        let result = graph.nodes[at].outputs[0];
        let own = wide.get(&result).copied().unwrap_or(result);
        graph.nodes[at].outputs[0] = own;
        if at == last {
            let to = graph.value(result).dtype;
            let node = conversion(graph, &format!("{}.rounded", graph.nodes[at].name), to, own, result);
            ends.insert(graph.nodes[at].name.clone(), node);
        }
    }
    Ok(())
}

/// A value or a constant as `f32`.
fn widened(
    graph: &mut Graph,
    id: ValueId,
    first: &str,
    begins: &mut HashMap<String, Vec<Node>>,
) -> Result<ValueId> {
    let value = graph.value(id).clone();
    let name = graph.unique_value_name(&format!("{}.f32", value.name));
    if let Some(data) = value.data.as_deref() {
        let wide = evaluate_op(&Op::Cast { to: DType::F32 }, std::slice::from_ref(data))?;
        let wide = wide.into_iter().next().ok_or_else(|| Error::internal("a cast has a result"))?;
        return Ok(graph.add_constant(name, wide));
    }
    let own = graph.add_value(name, DType::F32, &value.shape);
    let node = conversion(graph, &format!("{first}.operand"), DType::F32, id, own);
    begins.entry(first.to_owned()).or_default().push(node);
    Ok(own)
}

/// A conversion, which is none of the model's operations.
fn conversion(graph: &mut Graph, name: &str, to: DType, from: ValueId, result: ValueId) -> Node {
    let name = graph.unique_node_name(name);
    graph.origins.insert(name.clone(), Vec::new());
    Node { name, op: Op::Cast { to }, inputs: vec![from], outputs: vec![result] }
}
