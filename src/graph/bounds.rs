//! Between which limits the elements of integer values are known to lie, from the operations that make them: what is cut to
//! limits, checked, or a position of an extremum is an index that needs no check where it is used.

use nestjit_ir::{CheckKind, Kind};

use super::{Binary, Graph, Op, Port, Unary, ValueId};
use crate::tensor::Tensor;

/// So many operations are looked through.
const STEPS: usize = 32;

/// Constants of more elements are not read.
const ELEMENTS: usize = 1 << 16;

/// The least and the largest element.
pub(crate) type Limits = (i64, i64);

/// Which node makes each value of a graph.
pub(crate) struct Bounds<'g> {
    graph: &'g Graph,
    producers: Vec<Option<Port>>,
}

impl<'g> Bounds<'g> {
    pub fn new(graph: &'g Graph) -> Bounds<'g> {
        Bounds { graph, producers: graph.producers() }
    }

    /// The limits of a value's elements; all numbers if nothing is known, or if they are no integers.
    pub fn of(&self, id: ValueId) -> Limits {
        self.within(id, &mut STEPS.clone())
    }

    fn within(&self, id: ValueId, steps: &mut usize) -> Limits {
        let value = self.graph.value(id);
        let of_type = value.dtype.limits();
        if let Some(data) = &value.data {
            return constant(data).unwrap_or(of_type);
        }
        let Some(Port { node, .. }) = self.producers[id.0 as usize].filter(|_| *steps > 0) else {
            return of_type;
        };
        *steps -= 1;
        let node = &self.graph.nodes[node];
        let mut operand = |i: usize| self.within(node.inputs[i], steps);
        let known = match &node.op {
            Op::Unary(Unary::Identity) | Op::Reshape { .. } | Op::Transpose { .. } => operand(0),
            Op::Expand { .. } | Op::Slice { .. } | Op::Split { .. } | Op::Gather { .. } => operand(0),
            Op::Concat { .. } => (0..node.inputs.len()).map(&mut operand).reduce(either).unwrap_or(of_type),
            Op::Where => either(operand(1), operand(2)),
            Op::Binary(Binary::Max) => {
                let (a, b) = (operand(0), operand(1));
                (a.0.max(b.0), a.1.max(b.1))
            }
            Op::Binary(Binary::Min) => {
                let (a, b) = (operand(0), operand(1));
                (a.0.min(b.0), a.1.min(b.1))
            }
            // Of integers that wrap nothing is known.
            Op::Cast { to }
                if to.is_int() && self.graph.value(node.inputs[0]).dtype.kind() != Kind::Float =>
            {
                let (from, to) = (operand(0), to.limits());
                if from.0 >= to.0 && from.1 <= to.1 { from } else { to }
            }
            Op::Check { kind: CheckKind::IndexFromEnd, high, .. } => (0, high.saturating_sub(1)),
            Op::Check { low, high, .. } => (*low, high.saturating_sub(1)),
            Op::ArgReduce { axis, .. } => {
                let extent = self.graph.value(node.inputs[0]).shape[*axis];
                (0, (extent as i64).saturating_sub(1).max(0))
            }
            _ => of_type,
        };
        // What is known is never wider than the type.
        (known.0.max(of_type.0), known.1.min(of_type.1))
    }
}

fn either(a: Limits, b: Limits) -> Limits {
    (a.0.min(b.0), a.1.max(b.1))
}

/// The limits of a constant of indices that is not too large.
fn constant(data: &Tensor) -> Option<Limits> {
    let indices = if data.len() <= ELEMENTS { data.indices().ok().flatten()? } else { return None };
    Some((*indices.iter().min()?, *indices.iter().max()?))
}

#[cfg(test)]
mod tests {
    use nestjit_ir::DType;

    use super::*;
    use crate::graph::GraphBuilder;

    const ALL: Limits = (i64::MIN, i64::MAX);

    #[test]
    fn limits_follow_from_operations() {
        let mut b = GraphBuilder::new("g");
        let x = b.input("x", DType::I64, &[4]);
        let (low, high) = (b.constant("low", Tensor::scalar(2i64)), b.constant("high", Tensor::scalar(9i64)));
        let mut op = |op: Op, inputs: &[ValueId]| b.node("n", op, inputs)[0];
        let above = op(Op::Binary(Binary::Max), &[x, low]);
        let within = op(Op::Binary(Binary::Min), &[above, high]);
        let narrow = op(Op::Cast { to: DType::I32 }, &[within]);
        let moved = op(Op::Reshape { shape: vec![2, 2] }, &[narrow]);
        let wrapped = op(Op::Cast { to: DType::I8 }, &[above]);
        let floats = op(Op::Cast { to: DType::F32 }, &[within]);
        let back = op(Op::Cast { to: DType::I32 }, &[floats]);
        let place = op(Op::ArgReduce { max: true, axis: 0, keep_dims: false, last: false }, &[x]);
        let sum = op(Op::Binary(Binary::Add), &[within, within]);
        let outputs = [x, above, within, narrow, moved, wrapped, back, place, sum];
        for (number, id) in outputs.iter().enumerate() {
            b.output(&format!("o{number}"), *id);
        }
        let graph = b.build().unwrap();
        let bounds = Bounds::new(&graph);
        let i32s = (i64::from(i32::MIN), i64::from(i32::MAX));
        let expected = [ALL, (2, i64::MAX), (2, 9), (2, 9), (2, 9), (-128, 127), i32s, (0, 3), ALL];
        assert_eq!(outputs.map(|id| bounds.of(id)), expected);
    }
}
