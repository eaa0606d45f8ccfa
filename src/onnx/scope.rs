//! Names of values while nodes are walked: of a graph, a subgraph (which sees the names around it), or a
//! function's body (which does not).

use std::collections::HashMap;

use super::model::{FunctionKey, Opsets};
use super::proto::AttributeProto;
use crate::graph::ValueId;

/// What a name stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Binding {
    /// A value.
    Value(ValueId),
    /// Nothing, because of a problem that is reported already.
    Broken,
    /// Nothing: an optional input that the caller of a function leaves out.
    Absent,
}

/// The names that nodes see.
pub(super) struct Scope<'p> {
    pub names: HashMap<String, Binding>,
    /// The scope around a subgraph.
    pub parent: Option<&'p Scope<'p>>,
    /// The operator sets in force.
    pub opsets: &'p Opsets,
    /// The attributes that a function was called with.
    pub attributes: HashMap<String, AttributeProto>,
    /// What the names of core nodes start with: where functions and unrolled loops come from.
    pub prefix: String,
    /// The functions that this is in, outermost first.
    pub calls: Vec<FunctionKey>,
    /// How many scopes are around.
    pub depth: usize,
}

impl<'p> Scope<'p> {
    /// The outermost scope.
    pub fn new(opsets: &'p Opsets) -> Scope<'p> {
        Scope {
            names: HashMap::new(),
            parent: None,
            opsets,
            attributes: HashMap::new(),
            prefix: String::new(),
            calls: Vec::new(),
            depth: 0,
        }
    }

    /// The scope of a subgraph.
    pub fn inner(&'p self, prefix: String) -> Scope<'p> {
        Scope {
            names: HashMap::new(),
            parent: Some(self),
            opsets: self.opsets,
            attributes: self.attributes.clone(),
            prefix,
            calls: self.calls.clone(),
            depth: self.depth + 1,
        }
    }

    /// What the name stands for, here or around here.
    pub fn get(&self, name: &str) -> Option<Binding> {
        let mut scope = Some(self);
        while let Some(s) = scope {
            if let Some(binding) = s.names.get(name) {
                return Some(*binding);
            }
            scope = s.parent;
        }
        None
    }
}
