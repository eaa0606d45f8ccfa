//! Simplify: removes nodes that do nothing or do again what another node has done, and joins reshapes and
//! transposes that follow each other.
//!
//! A value that is an output of the model keeps its name and its producer: outputs are the interface.

use nestjit_ir::hash::{FastMap, FastSet};

use super::PassContext;
use crate::error::Result;
use crate::graph::{Graph, Node, Op, PoolKind, Reduction, Unary, ValueId};
use crate::remark::Remark;

/// Runs the pass.
pub fn run(graph: &mut Graph, _: &PassContext<'_>, _: &mut Vec<Remark>) -> Result<bool> {
    let before = graph.nodes.len();
    let mut changed = join_movements(graph);
    changed |= bypass_no_ops(graph);
    changed |= share_duplicates(graph);
    graph.remove_dead();
    Ok(changed || graph.nodes.len() != before)
}

/// Lets a reshape of a reshape, and a transpose of a transpose, read what the first one reads.
fn join_movements(graph: &mut Graph) -> bool {
    let mut changed = false;
    let producers = graph.producers();
    for index in 0..graph.nodes.len() {
        let node = &graph.nodes[index];
        let Some(producer) = node.inputs.first().and_then(|x| producers[x.0 as usize]) else { continue };
        // Nodes come in order, so the producer reads the origin of its chain already.
        let first = &graph.nodes[producer.node];
        let op = match (&first.op, &node.op) {
            (Op::Reshape { .. }, Op::Reshape { shape }) => Op::Reshape { shape: shape.clone() },
            (Op::Transpose { perm: inner }, Op::Transpose { perm: outer }) => {
                Op::Transpose { perm: outer.iter().map(|d| inner[*d]).collect() }
            }
            _ => continue,
        };
        let origin = first.inputs[0];
        let node = &mut graph.nodes[index];
        node.op = op;
        node.inputs[0] = origin;
        changed = true;
    }
    changed
}

/// Lets everybody read the operand of a node that changes nothing.
fn bypass_no_ops(graph: &mut Graph) -> bool {
    let mut changed = false;
    let mut index = 0;
    while let Some(node) = graph.nodes.get(index) {
        index += 1;
        if !is_no_op(graph, node) {
            continue;
        }
        let (x, y) = (node.inputs[0], node.outputs[0]);
        if !graph.outputs.contains(&y) {
            graph.replace_uses(y, x);
            changed = true;
        } else if !graph.outputs.contains(&x)
            && let Some(place) =
                graph.nodes[..index - 1].iter_mut().flat_map(|n| &mut n.outputs).find(|id| **id == x)
        {
            // The producer computes the output itself. What a const or an input holds must be copied.
            *place = y;
            index -= 1;
            graph.nodes.remove(index);
            graph.replace_uses(x, y);
            changed = true;
        }
    }
    changed
}

fn is_no_op(graph: &Graph, node: &Node) -> bool {
    let Some(x) = node.inputs.first().map(|id| graph.value(*id)) else { return false };
    let Some(y) = node.outputs.first().map(|id| graph.value(*id)) else { return false };
    let same = x.shape == y.shape && x.dtype == y.dtype;
    match &node.op {
        Op::Unary(Unary::Identity) | Op::Dropout => true,
        Op::Cast { .. } | Op::Reshape { .. } | Op::Expand { .. } => same,
        Op::Clip { min: None, max: None } => true,
        Op::Transpose { perm } => perm.iter().enumerate().all(|(i, d)| i == *d),
        Op::Slice { starts, steps, extents } => {
            // A step does not matter where there is one element.
            let whole = |((start, step), extent): ((&usize, &i64), &usize)| {
                *start == 0 && (*step == 1 || *extent <= 1)
            };
            same && starts.iter().zip(steps).zip(extents).all(whole)
        }
        Op::Pad { begin, end, .. } => begin.iter().chain(end).all(|p| *p == 0),
        Op::Concat { .. } => node.inputs.len() == 1,
        Op::Split { sizes, .. } => sizes.len() == 1,
        Op::Reduce { op, axes, .. } => {
            use Reduction::{All, Any, Max, Mean, Min, Prod, Sum};
            axes.is_empty() && same && matches!(op, Sum | Mean | Max | Min | Prod | Any | All)
        }
        Op::Pool { kind: PoolKind::Max, window, .. } => {
            same && window.kernel.iter().chain(&window.strides).all(|n| *n == 1)
                && window.pads_begin.iter().chain(&window.pads_end).all(|n| *n == 0)
        }
        _ => false,
    }
}

/// Lets everybody read the results of the first of several nodes that compute the same.
fn share_duplicates(graph: &mut Graph) -> bool {
    let mut changed = false;
    let mut seen: FastMap<Vec<ValueId>, Vec<usize>> = FastMap::default();
    let outputs: FastSet<ValueId> = graph.outputs.iter().copied().collect();
    for index in 0..graph.nodes.len() {
        let node = &graph.nodes[index];
        let same = seen.entry(node.inputs.clone()).or_default();
        let first = same.iter().copied().find(|first| graph.nodes[*first].op == node.op);
        match first {
            Some(first) if !node.outputs.iter().any(|id| outputs.contains(id)) => {
                let pairs: Vec<(ValueId, ValueId)> =
                    node.outputs.iter().copied().zip(graph.nodes[first].outputs.iter().copied()).collect();
                for (duplicate, original) in pairs {
                    graph.replace_uses(duplicate, original);
                }
                changed = true;
            }
            Some(_) => {}
            None => same.push(index),
        }
    }
    changed
}
