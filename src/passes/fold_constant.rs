//! FoldConstant: a node whose operands are all constant is computed at compile time, by the evaluator that
//! also serves as the oracle of tests. What constant indices pick of a constant is copied as it is, without the rest of it
//! being looked at: it may be all that is ever needed of a large table.

use std::sync::Arc;

use super::PassContext;
use crate::error::Result;
use crate::graph::eval::evaluate_op;
use crate::graph::{Graph, Node, Op};
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
    let results = match picked(&node.op, &operands).transpose() {
        Some(picked) => picked.map(|tensor| vec![tensor]),
        None => evaluate_op(&node.op, &operands),
    };
    let results = results.map_err(|e| NotFolded::Fails { error: e.message().to_owned() })?;
    for (id, tensor) in node.outputs.iter().zip(results) {
        graph.value_mut(*id).data = Some(Arc::new(tensor));
    }
    Ok(())
}

/// What the indices of [`Op::Gather`] pick; `None` if it is another operation, or the evaluator knows better.
fn picked(op: &Op, operands: &[Tensor]) -> Result<Option<Tensor>> {
    let (Op::Gather { axis }, [data, indices]) = (op, operands) else { return Ok(None) };
    let (axis, Some(list)) = (*axis, indices.indices()?) else { return Ok(None) };
    let extent = data.shape()[axis];
    let position = |index: i64| {
        let from_start = if index < 0 { index.checked_add_unsigned(extent as u64)? } else { index };
        usize::try_from(from_start).ok().filter(|at| *at < extent)
    };
    let Some(positions) = list.into_iter().map(position).collect::<Option<Vec<usize>>>() else {
        return Ok(None);
    };
    let shape = [&data.shape()[..axis], indices.shape(), &data.shape()[axis + 1..]].concat();
    data.taken(axis, &positions)?.reshape(&shape).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    #[test]
    fn what_indices_pick_is_what_the_evaluator_says() {
        let data = Tensor::random(DType::F32, &[3, 4, 2], 1).unwrap();
        for axis in 0..3 {
            let op = Op::Gather { axis };
            let last = data.shape()[axis] as i64 - 1;
            for (shape, indices) in [
                (vec![], vec![last]),
                (vec![4], vec![0, -1, last, -last]),
                (vec![2, 1], vec![1, 1]),
                (vec![0], vec![]),
            ] {
                let narrow: Vec<i32> = indices.iter().map(|i| *i as i32).collect();
                let operands = [data.clone(), Tensor::new(&shape, &indices).unwrap()];
                let expected = evaluate_op(&op, &operands).unwrap();
                assert_eq!(picked(&op, &operands).unwrap().as_ref(), expected.first());
                let operands = [data.clone(), Tensor::new(&shape, &narrow).unwrap()];
                assert_eq!(picked(&op, &operands).unwrap().as_ref(), expected.first());
            }
            for outside in [last + 1, -last - 2, i64::MIN, i64::MAX] {
                let operands = [data.clone(), Tensor::scalar(outside)];
                assert_eq!(picked(&op, &operands).unwrap(), None);
                assert!(evaluate_op(&op, &operands).is_err());
            }
        }
    }
}
