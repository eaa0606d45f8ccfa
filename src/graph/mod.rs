//! The graph: a model as operations on tensors, before it becomes loop nests.
//!
//! Every front end (builder, zoo, ONNX) makes a [`Graph`]; graph passes rewrite it; lowering reads it. Shapes
//! and types are known for every value: [`infer()`] computes them when a node is added.

use std::collections::HashMap;
use std::sync::Arc;

use nestjit_ir::DType;

use crate::tensor::Tensor;

mod bounds;
pub mod builder;
mod decomposed;
mod edit;
pub mod eval;
pub mod infer;
mod model;
pub mod op;
mod op_name;
mod print;
mod provenance;
pub mod sequential;
mod spelled_out;
mod validate;
mod weights;

pub(crate) use bounds::{Bounds, Limits};
pub use builder::GraphBuilder;
pub use edit::Port;
pub(crate) use eval::evaluate_named;
pub use eval::{Precision, evaluate, evaluate_op};
pub use infer::infer;
pub use model::Model;
pub use op::*;
pub use provenance::{ModelOp, ModelOps, ModelValue, OperandAccess, ValueSource};
pub use sequential::Sequential;
pub use weights::Weights;

/// A value: an input, a constant, or the result of a node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ValueId(pub u32);

/// What is known of a value.
#[derive(Clone, Debug)]
pub struct Value {
    /// The name; unique within the graph.
    pub name: String,
    /// The element type.
    pub dtype: DType,
    /// The shape.
    pub shape: Vec<usize>,
    /// The contents, if the value is a constant.
    pub data: Option<Arc<Tensor>>,
}

/// An operation applied to values.
#[derive(Clone, Debug)]
pub struct Node {
    /// The name; unique within the graph. Kernels, reports and errors are named after it.
    pub name: String,
    /// The operation.
    pub op: Op,
    /// The operands. Optional operands that are left out are not listed: see each [`Op`].
    pub inputs: Vec<ValueId>,
    /// The results.
    pub outputs: Vec<ValueId>,
}

/// A model: nodes in topological order, and the values between them.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// The model's name.
    pub name: String,
    /// All values; indexed by [`ValueId`].
    pub values: Vec<Value>,
    /// The operations, each after the producers of its operands.
    pub nodes: Vec<Node>,
    /// The inputs, in order.
    pub inputs: Vec<ValueId>,
    /// The outputs, in order. An output may also be an input or a constant, and may be listed twice.
    pub outputs: Vec<ValueId>,
    /// By node name: the model's operations that a node computes, if they are not just the node itself. See
    /// [`Graph::operations`].
    pub origins: HashMap<String, Vec<String>>,
    /// By node name: the operator of the model's file that the node is a part of, which errors name.
    pub places: HashMap<String, Arc<Place>>,
}

/// An operator of a model's file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// The node's name.
    pub node: String,
    /// The operator, and the version of its operator set.
    pub op: String,
    /// The operator's name.
    pub operator: &'static str,
}

impl Graph {
    /// What errors call a node: the name and the operator that the model's file has for it, or its own.
    pub fn place<'a>(&'a self, node: &'a Node) -> (&'a str, &'a str) {
        match self.places.get(&node.name) {
            Some(place) => (&place.node, &place.op),
            None => (&node.name, node.op.name()),
        }
    }

    /// The value with this id.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.0 as usize]
    }

    /// All value ids, in order.
    pub fn value_ids(&self) -> impl Iterator<Item = ValueId> + use<> {
        (0..self.values.len() as u32).map(ValueId)
    }

    /// The most nodes that lie one after the other on a way through the graph.
    pub fn depth(&self) -> usize {
        let mut depths = vec![0usize; self.values.len()];
        for node in &self.nodes {
            let before = node.inputs.iter().map(|id| depths[id.0 as usize]).max().unwrap_or(0);
            for id in &node.outputs {
                depths[id.0 as usize] = before + 1;
            }
        }
        depths.into_iter().max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests;
