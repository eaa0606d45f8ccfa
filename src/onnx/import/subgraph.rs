//! Functions of a model, inlined where they are called, and subgraphs of control flow.

use std::collections::HashMap;

use super::super::external::External;
use super::super::halt::{Halt, Result};
use super::super::limit;
use super::super::model::{FunctionKey, Opsets, opsets};
use super::super::node::Subgraphs;
use super::super::proto::{FunctionProto, GraphProto, NodeProto};
use super::super::scope::{Binding, Scope};
use super::super::sink::GraphSink;
use super::super::tensor::constants;
use super::Importer;
use crate::error::{self, Error};
use crate::graph::ValueId;

impl Importer<'_> {
    /// The results of a call of a function.
    pub fn call(
        &self,
        sink: &mut GraphSink,
        function: (&FunctionKey, &FunctionProto),
        node: &NodeProto,
        name: &str,
        scope: &Scope<'_>,
    ) -> Result<Vec<ValueId>> {
        let imports = self.function_opsets(function.1, scope)?;
        let mut inner = self.function_scope(function, node, name, scope, &imports)?;
        let (_, function) = function;
        let operands = self.operands(node, scope)?;
        for (i, input) in function.input.iter().enumerate() {
            let binding = operands.get(i).copied().flatten().map_or(Binding::Absent, Binding::Value);
            inner.names.insert(input.clone(), binding);
        }
        self.nodes(sink, &function.node, &mut inner)?;
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
        (key, function): (&FunctionKey, &FunctionProto),
        node: &NodeProto,
        name: &str,
        scope: &Scope<'_>,
        imports: &'p Opsets,
    ) -> error::Result<Scope<'p>> {
        if scope.calls.contains(key) {
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
        inner.calls.push(key.clone());
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
}

impl Subgraphs for Importer<'_> {
    fn external(&self) -> &External {
        &self.model.external
    }

    fn subgraph(
        &self,
        sink: &mut GraphSink,
        graph: &GraphProto,
        arguments: &[ValueId],
        scope: &Scope<'_>,
        prefix: String,
    ) -> Result<Vec<ValueId>> {
        expect_depth(scope)?;
        let mut inner = scope.inner(prefix);
        let mut names = HashMap::new();
        for (name, constant) in constants(graph, &self.model.external)? {
            let id = sink.typed_constant(&format!("{}{name}", inner.prefix), constant);
            names.insert(name, Binding::Value(id));
        }
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
        self.nodes(sink, &graph.node, &mut inner)?;
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

/// Refuses to go deeper than functions and subgraphs may be nested.
pub(in crate::onnx) fn expect_depth(scope: &Scope<'_>) -> error::Result<()> {
    match scope.depth >= limit::DEPTH {
        true => {
            Err(limit::limit(format!("functions and subgraphs are nested more than {} deep", limit::DEPTH)))
        }
        false => Ok(()),
    }
}
