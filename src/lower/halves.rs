//! In which type values of half types lie in memory.
//!
//! A half takes less memory and an instruction more wherever it is read. What is read several times is therefore
//! widened once: constants when the model is compiled, and a value between two operations by the operation that makes it,
//! which rounds it to a half and stores that as `f32`. The value is the same either way.

use nestjit_ir::{DType, Scalar};

use crate::graph::{Binary, Graph, Node, Op, PoolKind, Reduction, Unary, ValueId};
use crate::tensor::WIDENED_READS;

/// Whether the elements of an operand are factors of so many products that they are widened first, or are read for one sum
/// and again for what is made of it.
pub(super) fn read_often(graph: &Graph, node: &Node, input: usize) -> bool {
    let shape = |id: ValueId| &graph.value(id).shape;
    let count = |shape: &[usize]| shape.iter().copied().fold(1, usize::saturating_mul);
    let y = || count(shape(node.outputs[0]));
    let products = match &node.op {
        Op::MatMul | Op::PackedMatMul { .. } if input < 2 => {
            let inner = shape(node.inputs[0]).last().copied().unwrap_or(1);
            y().saturating_mul(inner)
        }
        Op::Gemm { trans_a, .. } if input < 2 => {
            y().saturating_mul(shape(node.inputs[0])[usize::from(!trans_a)])
        }
        // What windows overlap on is read by each of them, one element after the other.
        Op::Conv { .. } if input == 0 => {
            return y().saturating_mul(count(&shape(node.inputs[1])[1..])) > count(shape(node.inputs[0]));
        }
        Op::Conv { .. } if input == 1 => y().saturating_mul(count(&shape(node.inputs[1])[1..])),
        Op::Recurrent { kind, hidden, direction, .. } if input < 2 => {
            let rows = kind.gates() * hidden * direction.count();
            count(shape(node.inputs[0])).saturating_mul(rows)
        }
        Op::Softmax { .. } | Op::LogSoftmax { .. } | Op::LayerNorm { .. } | Op::RmsNorm { .. } => {
            return input == 0;
        }
        Op::InstanceNorm { .. } | Op::GroupNorm { .. } => return input == 0,
        _ => return false,
    };
    let elements = count(shape(node.inputs[input]));
    products >= elements.saturating_mul(WIDENED_READS)
}

/// Whether a constant operand of a computation is broadcast to so many results that it is widened first.
pub(super) fn broadcast_often(graph: &Graph, node: &Node, constant: ValueId) -> bool {
    let count = |id: ValueId| graph.value(id).shape.iter().copied().fold(1, usize::saturating_mul);
    let results = node.outputs.iter().map(|y| count(*y)).max().unwrap_or(0);
    match node.op {
        Op::Unary(_) | Op::Binary(_) | Op::BiasAdd { .. } | Op::BatchNorm { .. } => {}
        Op::LayerNorm { .. } | Op::RmsNorm { .. } | Op::InstanceNorm { .. } | Op::GroupNorm { .. } => {}
        _ => return false,
    }
    results >= count(constant).saturating_mul(WIDENED_READS)
}

/// Which values, by their number, are halves that lie in memory as `f32`: those between two operations whose
/// elements are read often, perhaps after they were moved.
pub(super) fn kept_as_f32(graph: &Graph) -> Vec<bool> {
    let half = |id: ValueId| graph.value(id).dtype.is_half();
    let (mut often, mut made) = (vec![false; graph.values.len()], vec![false; graph.values.len()]);
    for node in graph.nodes.iter().rev() {
        let moved = moves(&node.op) && node.outputs.iter().any(|y| often[y.0 as usize]);
        for (input, x) in node.inputs.iter().enumerate() {
            let hands_on = match node.op {
                Op::Cast { to } => to == DType::F32 && half(*x),
                _ => true,
            };
            often[x.0 as usize] |= (moved && hands_on) || read_often(graph, node, input);
        }
        node.outputs.iter().for_each(|y| made[y.0 as usize] = true);
    }
    let ids = (0..graph.values.len()).map(|i| ValueId(i as u32));
    ids.zip(often.iter().zip(made))
        .map(|(id, (often, made))| *often && made && half(id) && !graph.outputs.contains(&id))
        .collect()
}

/// Whether the results of an operation on a half type are halves, so that nothing is to be rounded.
pub(super) fn is_exact(op: &Op, half: DType) -> bool {
    let is_half = |bound: &f64| Scalar::from_f64(half, *bound).as_f64() == *bound;
    match op {
        Op::Clip { min, max } => min.iter().chain(max).all(is_half),
        Op::Unary(Unary::Relu | Unary::Relu6 | Unary::Neg | Unary::Abs | Unary::Sign) => true,
        Op::Unary(Unary::Floor | Unary::Ceil | Unary::Round | Unary::Trunc) => true,
        Op::Binary(Binary::Max | Binary::Min) => true,
        Op::Pool { kind: PoolKind::Max, .. } | Op::GlobalPool { kind: PoolKind::Max, .. } => true,
        Op::Reduce { op: Reduction::Max | Reduction::Min, .. } => true,
        _ => false,
    }
}

/// Whether an operation only moves elements, or converts them: it does not compute with halves in another type.
pub(super) fn moves(op: &Op) -> bool {
    match op {
        Op::Cast { .. } | Op::Where | Op::Dropout | Op::Unary(Unary::Identity) => true,
        Op::Expand { .. } | Op::Reshape { .. } | Op::Transpose { .. } | Op::Slice { .. } => true,
        Op::Pad { .. } | Op::Concat { .. } | Op::Split { .. } | Op::Gather { .. } | Op::Check { .. } => true,
        Op::Scatter { reduction } => reduction.is_none(),
        Op::Unary(_) | Op::Binary(_) | Op::Clip { .. } | Op::BiasAdd { .. } => false,
        Op::MatMul | Op::Gemm { .. } | Op::PackedMatMul { .. } => false,
        Op::Conv { .. } | Op::Recurrent { .. } | Op::DynamicQuantizeLstm { .. } => false,
        Op::PairwiseCoupling => false,
        Op::BatchNorm { .. } | Op::LayerNorm { .. } | Op::RmsNorm { .. } => false,
        Op::InstanceNorm { .. } | Op::GroupNorm { .. } => false,
        Op::Softmax { .. } | Op::LogSoftmax { .. } | Op::Reduce { .. } | Op::ArgReduce { .. } => false,
        Op::Pool { .. } | Op::GlobalPool { .. } => false,
    }
}
