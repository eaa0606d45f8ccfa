//! Nodes that decide what is computed, or how often, as steps that run bodies: If, Loop, Scan, SequenceMap, and
//! functions that contain something that cannot be compiled.

use std::collections::HashSet;
use std::sync::Arc;

use super::super::attributes::Attributes;
use super::super::body::Body;
use super::super::import::{Importer, expect_depth};
use super::super::model::normal_domain;
use super::super::proto::{GraphProto, NodeProto};
use super::super::scan::Scan;
use super::super::scope::{Binding, Scope};
use super::super::sink::GraphSink;
use super::step::{Branch, StepKind};
use crate::error::{Error, Result};

/// Where a node is that becomes a step.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    pub importer: Importer<'a>,
    pub body: &'a Body,
    /// What the names in `scope` stand for.
    pub sink: &'a GraphSink,
    pub scope: &'a Scope<'a>,
}

/// The step that a node is if it contains bodies.
pub(super) fn step(around: Around<'_>, node: &NodeProto, name: &str) -> Result<Option<StepKind>> {
    let Around { importer, body, scope, .. } = around;
    if let Some(function) = importer.model.function(node) {
        let opsets = importer.function_opsets(function.1, scope)?;
        let inner = importer.function_scope(function, node, name, scope, &opsets)?;
        let (_, function) = function;
        let given = |i: usize| {
            let operand = node.input.get(i).filter(|name| !name.is_empty());
            operand.is_some_and(|name| scope.get(name) != Some(Binding::Absent))
        };
        let absent: HashSet<String> =
            function.input.iter().enumerate().filter(|(i, _)| !given(*i)).map(|(_, n)| n.clone()).collect();
        let body = Arc::new(Body::of_function(&body.model, function, &inner, absent)?);
        return Ok(Some(StepKind::Call(Branch { body, captures: Vec::new() })));
    }
    if !normal_domain(node.domain()).is_empty() {
        return Ok(None);
    }
    let attributes = Attributes::new(node, scope)?;
    let branch = |graph: &GraphProto, label: &str, inputs: usize| {
        branch(around, graph, format!("{name}/{label}/"), inputs)
    };
    Ok(match node.op_type() {
        "If" => {
            let (then, other) = (attributes.graph("then_branch")?, attributes.graph("else_branch")?);
            if then.output.len() != other.output.len() {
                return Err(Error::invalid("the branches have different numbers of outputs"));
            }
            expect_outputs(node, then, 0, node.output.len())?;
            let (then, other) = (branch(then, "then", 0)?, branch(other, "else", 0)?);
            Some(StepKind::If { then, other })
        }
        "Loop" => {
            let body = attributes.graph("body")?;
            let carried = node.input.len().saturating_sub(2);
            expect_outputs(node, body, 1, carried)?;
            Some(StepKind::Loop(branch(body, "body", 2 + carried)?))
        }
        "Scan" => {
            let body = attributes.graph("body")?;
            let opset = scope.opsets.get("").copied().unwrap_or_default();
            let batched = opset < 9;
            let operands = node.input.len().saturating_sub(usize::from(batched));
            let scan = Scan::of(&attributes, operands, node.output.len(), batched)?;
            expect_outputs(node, body, 0, operands - scan.inputs.len())?;
            Some(StepKind::Scan(branch(body, "body", operands)?, scan))
        }
        "SequenceMap" => {
            let body = attributes.graph("body")?;
            expect_outputs(node, body, 0, node.output.len())?;
            Some(StepKind::Map(branch(body, "body", node.input.len())?))
        }
        _ => None,
    })
}

/// A subgraph as a body with so many inputs.
fn branch(around: Around<'_>, graph: &GraphProto, prefix: String, inputs: usize) -> Result<Branch> {
    let Around { body: outer, sink, scope, .. } = around;
    expect_depth(scope)?;
    let (body, captured) = Body::of_graph(&outer.model, |id| sink.typed_contents(id), graph, scope, prefix)?;
    if body.inputs() != inputs {
        return Err(Error::invalid(format!(
            "a subgraph has {} inputs, but {inputs} are needed here",
            body.inputs()
        )));
    }
    Ok(Branch {
        body: Arc::new(body),
        captures: captured.iter().filter_map(|name| outer.slot(name)).collect(),
    })
}

/// That a body has the outputs that the node needs: `extra` of its own, `fixed` at least, and what the node lists.
fn expect_outputs(node: &NodeProto, body: &GraphProto, extra: usize, fixed: usize) -> Result<()> {
    let wanted = extra + fixed.max(node.output.len());
    match body.output.len() < wanted {
        true => Err(Error::invalid(format!("the body has {} outputs, not {wanted}", body.output.len()))),
        false => Ok(()),
    }
}
