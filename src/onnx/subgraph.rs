//! Functions of a model, inlined where they are called, and subgraphs of control flow.

use std::collections::HashMap;

use super::halt::{Halt, Result};
use super::import::Importer;
use super::limit;
use super::model::{Opsets, opsets};
use super::nibble::Nibble;
use super::node::NodeCx;
use super::problems::Problems;
use super::proto::{FunctionProto, GraphProto, NodeProto};
use super::scope::{Binding, Scope};
use super::tensor::{decode, decode_sparse};
use crate::error::{self, Error};
use crate::graph::ValueId;

impl<'m> Importer<'m> {
    /// The results of a call of a function.
    pub fn call(
        &mut self,
        function: &FunctionProto,
        key: (String, String, String),
        node: &NodeProto,
        name: &str,
        scope: &Scope<'_>,
    ) -> Result<Vec<ValueId>> {
        let imports = self.function_opsets(function, scope)?;
        let mut inner = self.function_scope(function, key, node, name, scope, &imports)?;
        let operands = self.operands(node, scope)?;
        for (i, input) in function.input.iter().enumerate() {
            let binding = operands.get(i).copied().flatten().map_or(Binding::Absent, Binding::Value);
            inner.names.insert(input.clone(), binding);
        }
        self.nodes(&function.node, &mut inner)?;
        let mut results = Vec::with_capacity(node.output.len());
        for (output, wanted) in function.output.iter().zip(&node.output) {
            match inner.get(output) {
                Some(Binding::Value(id)) => results.push(id),
                // A hole in the list of results that nobody looks at.
                _ if wanted.is_empty() => results.push(ValueId(u32::MAX)),
                Some(_) => return Err(Halt::Broken),
                None => {
                    let output = output.escape_debug();
                    return Err(Halt::invalid(format!("the function does not make its output '{output}'")));
                }
            }
        }
        Ok(results)
    }

    /// The operator sets in force in a function.
    pub fn function_opsets(&self, function: &FunctionProto, scope: &Scope<'_>) -> error::Result<Opsets> {
        match function.opset_import.is_empty() {
            true => Ok(scope.opsets.clone()),
            false => opsets(&function.opset_import),
        }
    }

    /// The scope of a function that a node calls, without its inputs.
    pub fn function_scope<'p>(
        &self,
        function: &FunctionProto,
        key: (String, String, String),
        node: &NodeProto,
        name: &str,
        scope: &Scope<'_>,
        imports: &'p Opsets,
    ) -> error::Result<Scope<'p>> {
        if scope.calls.contains(&key) {
            return Err(Error::invalid("the function calls itself"));
        }
        expect_depth(scope)?;
        if node.input.len() > function.input.len() || node.output.len() > function.output.len() {
            return Err(Error::invalid(format!(
                "the function has {} inputs and {} outputs, but is called with {} and {}",
                function.input.len(),
                function.output.len(),
                node.input.len(),
                node.output.len()
            )));
        }
        let mut inner = Scope::new(imports);
        inner.prefix = format!("{name}/");
        inner.calls = scope.calls.clone();
        inner.calls.push(key);
        inner.depth = scope.depth + 1;
        for default in &function.attribute_proto {
            inner.attributes.insert(default.name().to_owned(), default.clone());
        }
        for attribute in &node.attribute {
            let declared = function.attribute.iter().any(|a| a == attribute.name())
                || function.attribute_proto.iter().any(|a| a.name() == attribute.name());
            if !declared {
                let name = attribute.name().escape_debug();
                return Err(Error::invalid(format!("the function has no attribute '{name}'")));
            }
            let given = match attribute.ref_attr_name() {
                "" => Some(attribute),
                outer => scope.attributes.get(outer),
            };
            if let Some(given) = given {
                inner.attributes.insert(attribute.name().to_owned(), given.clone());
            }
        }
        Ok(inner)
    }

    /// The outputs of a subgraph, whose inputs are `arguments`.
    pub fn subgraph(
        &mut self,
        graph: &GraphProto,
        arguments: &[ValueId],
        scope: &Scope<'_>,
        prefix: String,
    ) -> Result<Vec<ValueId>> {
        expect_depth(scope)?;
        let mut inner = scope.inner(prefix);
        let mut names = HashMap::new();
        let mut problems = Problems::default();
        for tensor in &graph.initializer {
            if let Some(decoded) = problems.keep(decode(tensor, &self.model.external)) {
                let id = self.constant(&format!("{}{}", inner.prefix, tensor.name()), decoded);
                Nibble::of(tensor.data_type()).map(|nibble| self.note_nibble(id, nibble));
                names.insert(tensor.name().to_owned(), Binding::Value(id));
            }
        }
        for tensor in &graph.sparse_initializer {
            let name = tensor.values.as_ref().map(|v| v.name().to_owned()).unwrap_or_default();
            if let Some(decoded) = problems.keep(decode_sparse(tensor, &self.model.external)) {
                let id = self.constant(&format!("{}{name}", inner.prefix), decoded);
                names.insert(name, Binding::Value(id));
            }
        }
        problems.finish()?;
        let inputs: Vec<&str> =
            graph.input.iter().map(|i| i.name()).filter(|name| !names.contains_key(*name)).collect();
        if inputs.len() != arguments.len() {
            return Err(Halt::invalid(format!(
                "a subgraph has {} inputs, but {} are needed here",
                inputs.len(),
                arguments.len()
            )));
        }
        for (name, id) in inputs.iter().zip(arguments) {
            names.insert((*name).to_owned(), Binding::Value(*id));
        }
        inner.names = names;
        self.nodes(&graph.node, &mut inner)?;
        let mut results = Vec::with_capacity(graph.output.len());
        for output in &graph.output {
            match inner.get(output.name()) {
                Some(Binding::Value(id)) => results.push(id),
                Some(_) => return Err(Halt::Broken),
                None => {
                    let output = output.name().escape_debug();
                    return Err(Halt::invalid(format!("a subgraph does not make its output '{output}'")));
                }
            }
        }
        Ok(results)
    }
}

impl NodeCx<'_, '_> {
    /// The outputs of a subgraph of this node. `label` tells it, and iterations of it, apart in names.
    pub fn subgraph(
        &mut self,
        graph: &GraphProto,
        arguments: &[ValueId],
        label: &str,
    ) -> Result<Vec<ValueId>> {
        let prefix = format!("{}/{label}/", self.name());
        self.importer.subgraph(graph, arguments, self.scope, prefix)
    }
}

fn expect_depth(scope: &Scope<'_>) -> error::Result<()> {
    match scope.depth >= limit::DEPTH {
        true => {
            Err(limit::limit(format!("functions and subgraphs are nested more than {} deep", limit::DEPTH)))
        }
        false => Ok(()),
    }
}
