//! Operators of a model's file that the import makes several operations of: they count as what they are.
//!
//! QuantizeLinear becomes a division, a rounding, a sum, a clamp and a cast. Counted one by one, fusing them would look like
//! more than it is, and whoever had a kernel for the operator would not write what lies between them to memory.

use std::collections::HashMap;
use std::sync::Arc;

use super::provenance::{ModelOps, OperandAccess, ValueSource};
use super::{Graph, Place};

/// Operations of the graph that say what an operator is: bias and activation go with them.
const CONTRACTIONS: [&str; 4] = ["Conv", "ConvTranspose", "DepthwiseConv", "MatMul"];

impl ModelOps {
    /// Makes one operation of those that one operator of the file became.
    pub(super) fn join_operators(&mut self, graph: &Graph) {
        let mut members: HashMap<*const Place, Vec<usize>> = HashMap::new();
        for (at, op) in self.ops.iter().enumerate() {
            if let Some(place) = graph.places.get(&op.name) {
                members.entry(Arc::as_ptr(place)).or_default().push(at);
            }
        }
        let readers = self.readers();
        let mut gone = vec![false; self.ops.len()];
        for of_place in members.values().filter(|members| members.len() > 1) {
            if let Some(place) = graph.places.get(&self.ops[of_place[0]].name) {
                self.join_members(of_place, place, &readers);
                of_place[..of_place.len() - 1].iter().for_each(|at| gone[*at] = true);
            }
        }
        self.remove(&gone);
    }

    /// Makes the last of these operations, which are in order, all of them.
    fn join_members(&mut self, members: &[usize], place: &Place, readers: &[Vec<usize>]) {
        let [.., last] = members else { return };
        let (mut inputs, mut outputs, mut nodes) = (Vec::new(), Vec::new(), Vec::<String>::new());
        let (mut kept, mut part, mut whole) = (0, false, false);
        let mut kinds =
            members.iter().map(|at| self.ops[*at].kind).filter(|kind| CONTRACTIONS.contains(kind));
        let kind = kinds.next().filter(|_| kinds.next().is_none()).unwrap_or(place.operator);
        for at in members {
            let op = std::mem::take(&mut self.ops[*at]);
            for v in op.inputs {
                let inside = matches!(self.values[v].source, ValueSource::Op(of) if members.contains(&of));
                if !inside && !inputs.contains(&v) {
                    inputs.push(v);
                    let constant = self.values[v].source == ValueSource::Constant;
                    part |= op.access == OperandAccess::Part && !constant;
                }
            }
            nodes.extend(op.nodes.into_iter().filter(|n| !nodes.contains(n)).collect::<Vec<_>>());
            outputs.extend(op.outputs);
            kept += op.kept;
            whole |= op.access != OperandAccess::View;
        }
        // What only the operator itself reads is nobody's business.
        outputs.retain(|v| {
            let read = readers[*v].iter().any(|reader| !members.contains(reader));
            let seen = read || self.values[*v].output;
            self.values[*v].source = if seen { ValueSource::Op(*last) } else { ValueSource::Constant };
            seen
        });
        let access = match (part, whole) {
            (true, _) => OperandAccess::Part,
            (false, true) => OperandAccess::Whole,
            (false, false) => OperandAccess::View,
        };
        let op = &mut self.ops[*last];
        (op.name, op.kind, op.access) = (place.node.clone(), kind, access);
        (op.inputs, op.outputs, op.nodes, op.kept) = (inputs, outputs, nodes, kept);
    }
}
