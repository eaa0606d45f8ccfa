//! The walk over a model's nodes: names become values, and each node's operator adds core operations to a sink. Functions
//! and subgraphs are left to `subgraph`, inputs and outputs to `interface`.

mod interface;
mod subgraph;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::halt::{Halt, Result};
use super::model::{OnnxModel, normal_domain};
use super::names::{node_name, op_name};
use super::node::NodeCx;
use super::node::operator::{OpEntry, Operators};
use super::ops;
use super::proto::NodeProto;
use super::scope::{Binding, Scope};
use super::sink::{GraphSink, Imported, Mode, Origin};
use crate::error::{self, Error};
use crate::graph::{Place, ValueId};
use crate::tensor::Tensor;

pub(super) use subgraph::expect_depth;

/// What a model is imported for.
#[derive(Clone, Debug, Default)]
pub struct Specialization {
    /// The extents of symbolic dimensions.
    pub dims: BTreeMap<String, usize>,
    /// The shapes of inputs, by name. Those that the model declares completely may be left out.
    pub shapes: BTreeMap<String, Vec<usize>>,
    /// The values of inputs that shapes depend on. They stay inputs of the graph, but the graph is right for these
    /// values only.
    pub values: BTreeMap<String, Tensor>,
}

impl OnnxModel {
    /// The graph for these shapes and values.
    ///
    /// # Errors
    /// All that is wrong with the model or that is not supported, in one message.
    pub fn import(&self, specialization: &Specialization) -> error::Result<Imported> {
        self.import_all(specialization).map_err(|e| self.located(e))
    }

    fn import_all(&self, specialization: &Specialization) -> error::Result<Imported> {
        let importer = Importer { model: self, operators: ops::table() };
        let mut sink = importer.sink(Mode::Whole);
        let mut scope = Scope::new(&self.opsets);
        importer.interface(&mut sink, &mut scope, specialization);
        for (name, constant) in self.constants() {
            scope.names.insert(name.clone(), Binding::Value(sink.typed_constant(name, constant)));
        }
        if importer.nodes(&mut sink, &self.graph.node, &mut scope).is_err() {
            return Err(Error::internal("a node is left to the host"));
        }
        importer.outputs(&mut sink, &scope, &self.outputs().collect::<Vec<_>>());
        sink.finish()
    }
}

/// What nodes of a model are imported with.
#[derive(Clone, Copy)]
pub(super) struct Importer<'m> {
    pub model: &'m OnnxModel,
    pub operators: &'m Operators,
}

impl<'m> Importer<'m> {
    /// An empty graph for the model.
    pub fn sink(&self, mode: Mode) -> GraphSink {
        GraphSink::new(self.model.name(), self.model.outputs(), mode)
    }

    /// Imports nodes, in order.
    ///
    /// # Errors
    /// [`Halt::Host`] in a stage: what the nodes are a part of is then not imported either.
    pub fn nodes(&self, sink: &mut GraphSink, nodes: &[NodeProto], scope: &mut Scope<'_>) -> Result<()> {
        for (index, node) in nodes.iter().enumerate() {
            let name = format!("{}{}", scope.prefix, node_name(node, index));
            let first = sink.graph.nodes.len();
            let results = match self.node(sink, node, &name, scope) {
                Ok(results) => results,
                Err(halt @ Halt::Host { .. }) if sink.is_staged() => return Err(halt),
                Err(halt) => sink.note(halt, &name, &op_name(node, scope)),
            };
            bind(sink, node, &name, &results, first, scope);
        }
        Ok(())
    }

    /// The results of a node.
    pub fn node(
        &self,
        sink: &mut GraphSink,
        node: &NodeProto,
        name: &str,
        scope: &Scope<'_>,
    ) -> Result<Vec<ValueId>> {
        sink.visit()?;
        if let Some(function) = self.model.function(node) {
            return self.call(sink, function, node, name, scope);
        }
        let Some((entry, opset)) = self.entry(node, scope)? else {
            return Err(Halt::internal("a function is not called"));
        };
        let inputs = self.operands(node, scope)?;
        let given: Vec<ValueId> = inputs.iter().flatten().copied().collect();
        let place = Arc::new(Place { node: name.to_owned(), op: op_name(node, scope), operator: entry.name });
        let origin = Origin { name, place: Some(&place) };
        let mut cx = NodeCx::new(self, sink, origin, node, scope, inputs, (entry, opset))?;
        cx.widen(entry.rounded_like)?;
        let results = (entry.import)(&mut cx)?;
        cx.attributes.expect_all_read()?;
        if opset > entry.newest() {
            cx.expect_all_inputs_read()?;
        }
        let results = cx.rounded(results, entry.rounded_like)?;
        sink.follow_nibbles(entry.name, &given, &results)?;
        if let Some(output) = node.output.iter().skip(results.len()).find(|o| !o.is_empty()) {
            let message = format!("the output '{}' is not supported", output.escape_debug());
            return Err(Halt::unsupported(message));
        }
        Ok(results)
    }

    /// How the node's operator is imported, and the version of its set; `None` if it is a function.
    pub fn entry(
        &self,
        node: &NodeProto,
        scope: &Scope<'_>,
    ) -> error::Result<Option<(&'static OpEntry, i64)>> {
        if self.model.function(node).is_some() {
            return Ok(None);
        }
        let domain = normal_domain(node.domain());
        let known = self.operators.get(&(domain, node.op_type())).copied();
        // Where there is one version, nobody has to say which: ONNX Runtime asks for no import, and its tools write none.
        let only = || known.and_then(OpEntry::only_version);
        let Some(opset) = scope.opsets.get(domain).copied().or_else(only) else {
            let message = format!("no operator set is imported for the domain '{}'", domain.escape_debug());
            return Err(Error::invalid(message));
        };
        let Some(entry) = known else {
            return Err(Error::unsupported("the operator is not supported"));
        };
        if opset < entry.since {
            let since = entry.since;
            return Err(Error::unsupported(format!("the operator is supported from version {since} on")));
        }
        let newest = entry.newest();
        if entry.changing && opset > newest {
            return Err(Error::unsupported(format!(
                "version {newest} is the newest known operator set, and the operator may mean something else in \
                 newer ones"
            )));
        }
        if let Some(until) = entry.until.filter(|until| opset > *until) {
            return Err(Error::invalid(format!("the operator was removed after version {until}")));
        }
        Ok(Some((entry, opset)))
    }

    /// The operands of a node; those left out are `None`.
    pub fn operands(&self, node: &NodeProto, scope: &Scope<'_>) -> Result<Vec<Option<ValueId>>> {
        let mut operands = Vec::with_capacity(node.input.len());
        for input in &node.input {
            if input.is_empty() {
                operands.push(None);
                continue;
            }
            match scope.get(input) {
                Some(Binding::Value(id)) => operands.push(Some(id)),
                Some(Binding::Absent) => operands.push(None),
                Some(Binding::Broken) => return Err(Halt::Broken),
                None => return Err(self.undefined(input).into()),
            }
        }
        Ok(operands)
    }

    /// Why nothing has this name.
    pub fn undefined(&self, name: &str) -> Error {
        if let Some(Err(e)) = self.model.initializers.get(name) {
            return e.clone();
        }
        let name = name.escape_debug();
        Error::invalid(format!(
            "'{name}' is not defined before this node: nothing makes it, or the nodes form a cycle"
        ))
    }
}

/// Gives the results of a node, as far as there are any, their names; `first` is the first core node that it became.
pub(super) fn bind(
    sink: &mut GraphSink,
    node: &NodeProto,
    name: &str,
    results: &[ValueId],
    first: usize,
    scope: &mut Scope<'_>,
) {
    for (i, output) in node.output.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
        let binding = match results.get(i).copied() {
            Some(id) => {
                sink.rename(id, first, &format!("{}{output}", scope.prefix));
                Binding::Value(id)
            }
            None => Binding::Broken,
        };
        if scope.names.contains_key(output) {
            let message = format!("'{}' is defined already", output.escape_debug());
            sink.problems.push(Error::invalid(message).at(name, &op_name(node, scope)));
        }
        scope.names.insert(output.clone(), binding);
    }
}
