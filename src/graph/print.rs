//! Graphs as text, for people: one line per node.

use std::fmt;

use super::{Graph, ValueId};

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let typed = |id: &ValueId| {
            let value = self.value(*id);
            format!("%{}: {}{:?}", value.name, value.dtype, value.shape)
        };
        let list = |ids: &[ValueId], show: &dyn Fn(&ValueId) -> String| {
            ids.iter().map(show).collect::<Vec<_>>().join(", ")
        };
        let operand = |id: &ValueId| {
            // Constants have no line of their own, so they show their type where they are used.
            if self.is_const(*id) {
                format!("const {}", typed(id))
            } else {
                format!("%{}", self.value(*id).name)
            }
        };
        writeln!(f, "graph @{}({}) {{", self.name, list(&self.inputs, &typed))?;
        for node in &self.nodes {
            let (outputs, inputs) = (list(&node.outputs, &typed), list(&node.inputs, &operand));
            writeln!(f, "  {outputs} = {:?}({inputs})  # {}", node.op, node.name)?;
        }
        writeln!(f, "  return {}", list(&self.outputs, &operand))?;
        writeln!(f, "}}")
    }
}
