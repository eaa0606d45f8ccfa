//! Whether a graph is what everything else takes for granted: ids exist, names are unique, nodes come after
//! the producers of their operands, and types and shapes are what inference says.

use std::collections::HashSet;

use super::{Graph, ValueId, infer};
use crate::error::{Error, Result};
use crate::tensor::checked_bytes;

impl Graph {
    /// Checks the whole graph.
    ///
    /// # Errors
    /// The first violation, as an error that names the node if one is at fault.
    pub fn validate(&self) -> Result<()> {
        let mut defined = vec![false; self.values.len()];
        self.validate_names()?;
        for (index, value) in self.values.iter().enumerate() {
            checked_bytes(value.dtype, &value.shape)?;
            let Some(data) = &value.data else { continue };
            if data.dtype() != value.dtype || data.shape() != value.shape {
                return Err(Error::invalid(format!(
                    "the constant '{}' is declared {}{:?} but holds {}{:?}",
                    value.name.escape_debug(),
                    value.dtype,
                    value.shape,
                    data.dtype(),
                    data.shape()
                )));
            }
            defined[index] = true;
        }
        for id in &self.inputs {
            self.define(*id, &mut defined, "is an input")?;
        }
        for node in &self.nodes {
            let at = |e: Error| e.at(&node.name, node.op.name());
            for id in &node.inputs {
                self.expect_defined(*id, &defined).map_err(at)?;
            }
            for id in &node.outputs {
                self.define(*id, &mut defined, "is a result").map_err(at)?;
            }
            let inferred = infer(&node.op, &self.operands(node)).map_err(at)?;
            let recorded = node.outputs.iter().map(|id| self.value(*id)).map(|v| (v.dtype, &v.shape));
            if !inferred.iter().map(|(dtype, shape)| (*dtype, shape)).eq(recorded) {
                return Err(at(Error::invalid(format!(
                    "the results are {inferred:?}, but other types or shapes are recorded"
                ))));
            }
        }
        self.outputs.iter().try_for_each(|id| self.expect_defined(*id, &defined))
    }

    fn validate_names(&self) -> Result<()> {
        let mut names = HashSet::with_capacity(self.values.len());
        for value in &self.values {
            if !names.insert(value.name.as_str()) {
                return Err(Error::invalid(format!("two values are named '{}'", value.name.escape_debug())));
            }
        }
        let mut names = HashSet::with_capacity(self.nodes.len());
        for node in &self.nodes {
            if !names.insert(node.name.as_str()) {
                return Err(Error::invalid(format!("two nodes are named '{}'", node.name.escape_debug())));
            }
        }
        Ok(())
    }

    fn define(&self, id: ValueId, defined: &mut [bool], what: &str) -> Result<()> {
        match defined.get_mut(id.0 as usize) {
            None => Err(Error::invalid(format!("value {} does not exist", id.0))),
            Some(true) => Err(Error::invalid(format!(
                "'{}' {what}, but is defined elsewhere already",
                self.value(id).name.escape_debug()
            ))),
            Some(defined) => {
                *defined = true;
                Ok(())
            }
        }
    }

    fn expect_defined(&self, id: ValueId, defined: &[bool]) -> Result<()> {
        match defined.get(id.0 as usize) {
            None => Err(Error::invalid(format!("value {} does not exist", id.0))),
            Some(false) => Err(Error::invalid(format!(
                "'{}' is read before anything defines it",
                self.value(id).name.escape_debug()
            ))),
            Some(true) => Ok(()),
        }
    }
}
