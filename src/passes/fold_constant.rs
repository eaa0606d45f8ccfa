//! FoldConstant: a node whose operands are all constant is computed at compile time, by the evaluator that
//! also serves as the oracle of tests.

use std::sync::Arc;

use super::PassContext;
use crate::error::Result;
use crate::graph::eval::evaluate_op;
use crate::graph::{Graph, Node};
use crate::remark::{NotFolded, Reason, Remark};
use crate::tensor::Tensor;

/// Results of this size are always worth keeping, however small the operands are.
const SMALL_BYTES: usize = 1 << 20;

/// Runs the pass.
pub fn run(graph: &mut Graph, _: &PassContext<'_>, remarks: &mut Vec<Remark>) -> Result<bool> {
    let mut kept = Vec::new();
    let mut changed = false;
    for node in std::mem::take(&mut graph.nodes) {
        if !node.inputs.iter().all(|id| graph.is_const(*id)) {
            kept.push(node);
            continue;
        }
        match fold(graph, &node) {
            Ok(()) => changed = true,
            Err(why) => {
                remarks.push(Remark::node(&node.name, Reason::NotFolded(why)));
                kept.push(node);
            }
        }
    }
    graph.nodes = kept;
    if changed {
        graph.remove_dead();
    }
    Ok(changed)
}

/// Makes the results of a node constants, or says why not.
fn fold(graph: &mut Graph, node: &Node) -> Result<(), NotFolded> {
    let bytes = |ids: &[_]| -> usize {
        ids.iter()
            .map(|id| graph.value(*id))
            .map(|v| v.shape.iter().product::<usize>() * v.dtype.size())
            .sum()
    };
    let (before, after) = (bytes(&node.inputs), bytes(&node.outputs));
    if after > before.max(SMALL_BYTES) {
        return Err(NotFolded::Larger { result: after, operands: before });
    }
    let operands: Vec<Tensor> = node.inputs.iter().filter_map(|id| graph.constant(*id).cloned()).collect();
    // An error (an index outside its tensor, say) is one of the run, if that node is ever run.
    let results =
        evaluate_op(&node.op, &operands).map_err(|e| NotFolded::Fails { error: e.message().to_owned() })?;
    for (id, tensor) in node.outputs.iter().zip(results) {
        graph.value_mut(*id).data = Some(Arc::new(tensor));
    }
    Ok(())
}
