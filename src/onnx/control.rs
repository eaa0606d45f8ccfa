//! Nodes that decide what is computed, or how often, as steps that run bodies: If, Loop, Scan, SequenceMap, and
//! functions that contain something that cannot be compiled.

use std::collections::HashSet;
use std::sync::Arc;

use super::attributes::Attributes;
use super::body::{Body, Slot};
use super::import::Importer;
use super::limit;
use super::model::normal_domain;
use super::node::{extent, missing};
use super::proto::{GraphProto, NodeProto};
use super::scope::{Binding, Scope};
use super::stage::{Scan, StepKind};
use crate::error::{Error, Result};

/// A body that a node contains.
#[derive(Clone, Debug)]
pub struct Branch {
    /// The body.
    pub body: Arc<Body>,
    /// Values of the body around that are arguments of this one, after its inputs.
    pub captures: Vec<Slot>,
}

/// The step that a node is if it contains bodies.
pub(super) fn step(
    importer: &Importer<'_>,
    node: &NodeProto,
    name: &str,
    scope: &Scope<'_>,
) -> Result<Option<StepKind>> {
    let domain = normal_domain(node.domain());
    let key = (domain.to_owned(), node.op_type().to_owned(), node.overload().to_owned());
    if let Some(function) = importer.model.functions.get(&key) {
        let opsets = importer.function_opsets(function, scope)?;
        let inner = importer.function_scope(function, key, node, name, scope, &opsets)?;
        let given = |i: usize| {
            let operand = node.input.get(i).filter(|name| !name.is_empty());
            operand.is_some_and(|name| scope.get(name) != Some(Binding::Absent))
        };
        let absent: HashSet<String> =
            function.input.iter().enumerate().filter(|(i, _)| !given(*i)).map(|(_, n)| n.clone()).collect();
        let body = Arc::new(Body::of_function(importer, function, &inner, absent)?);
        return Ok(Some(StepKind::Call(Branch { body, captures: Vec::new() })));
    }
    if !domain.is_empty() {
        return Ok(None);
    }
    let attributes = Attributes::new(node, scope)?;
    let branch = |graph: &GraphProto, label: &str, inputs: usize| {
        branch(importer, graph, scope, format!("{name}/{label}/"), inputs)
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
            let scan = scan(&attributes, node, opset < 9)?;
            let operands = node.input.len() - usize::from(scan.batched);
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
fn branch(
    importer: &Importer<'_>,
    graph: &GraphProto,
    scope: &Scope<'_>,
    prefix: String,
    inputs: usize,
) -> Result<Branch> {
    if scope.depth >= limit::DEPTH {
        let message = format!("functions and subgraphs are nested more than {} deep", limit::DEPTH);
        return Err(limit::limit(message));
    }
    let (body, around) = Body::of_graph(importer, graph, scope, prefix)?;
    if body.inputs() != inputs {
        return Err(Error::invalid(format!(
            "a subgraph has {} inputs, but {inputs} are needed here",
            body.inputs()
        )));
    }
    Ok(Branch { body: Arc::new(body), captures: importer.outer_slots(&around) })
}

/// That a body has the outputs that the node needs: `extra` of its own, `fixed` at least, and what the node lists.
fn expect_outputs(node: &NodeProto, body: &GraphProto, extra: usize, fixed: usize) -> Result<()> {
    let wanted = extra + fixed.max(node.output.len());
    match body.output.len() < wanted {
        true => Err(Error::invalid(format!("the body has {} outputs, not {wanted}", body.output.len()))),
        false => Ok(()),
    }
}

/// The attributes of a scan.
fn scan(attributes: &Attributes<'_>, node: &NodeProto, batched: bool) -> Result<Scan> {
    let scanned = attributes.int("num_scan_inputs")?.ok_or_else(|| missing("num_scan_inputs"))?;
    let scanned = extent(scanned, "num_scan_inputs")?;
    let operands = node.input.len().saturating_sub(usize::from(batched));
    let Some(carried) = operands.checked_sub(scanned).filter(|_| scanned > 0) else {
        return Err(Error::invalid(format!("{scanned} inputs are to be scanned, but there are {operands}")));
    };
    let outputs = node.output.len().saturating_sub(carried);
    let list = |name: &'static str, count: usize| -> Result<Vec<i64>> {
        let list = attributes.ints(name)?.map_or_else(|| vec![0; count], <[i64]>::to_vec);
        match list.len() == count {
            true => Ok(list),
            false => Err(Error::invalid(format!("'{name}' has {} entries, not {count}", list.len()))),
        }
    };
    let directions = if batched { "directions" } else { "scan_input_directions" };
    let along = |axes: Vec<i64>, directions: Vec<i64>| {
        axes.into_iter().zip(directions).map(|(axis, direction)| (axis, direction != 0)).collect()
    };
    Ok(Scan {
        inputs: along(list("scan_input_axes", scanned)?, list(directions, scanned)?),
        outputs: along(list("scan_output_axes", outputs)?, list("scan_output_directions", outputs)?),
        batched,
    })
}
