//! Nodes as operations of the host: which operator is which [`HostOp`].

use nestjit_ir::DType;

use super::attributes::Attributes;
use super::halt::{self, Halt};
use super::import::Importer;
use super::limit;
use super::model::normal_domain;
use super::node::NodeCx;
use super::proto::NodeProto;
use super::scope::Scope;
use super::tensor::{decode, dtype};
use crate::error::{Error, Result};
use crate::graph::ValueId;
use crate::host::{HostOp, Item};
use crate::tensor::Tensor;

/// The operation of the host that a node is, if there is one.
pub(super) fn of_node(
    importer: &Importer<'_>,
    node: &NodeProto,
    scope: &Scope<'_>,
) -> Result<Option<HostOp>> {
    let domain = normal_domain(node.domain());
    let attributes = Attributes::new(node, scope)?;
    let Some(opset) = scope.opsets.get(domain).copied().filter(|_| domain.is_empty()) else {
        return Ok(None);
    };
    let op = host_op(importer, node, &attributes, opset)?;
    if op.is_some() {
        attributes.expect_all_read()?;
    }
    Ok(op)
}

fn host_op(
    importer: &Importer<'_>,
    node: &NodeProto,
    a: &Attributes<'_>,
    opset: i64,
) -> Result<Option<HostOp>> {
    let int = |name, default| Ok::<_, Error>(a.int(name)?.unwrap_or(default));
    let flag = |name, default| Ok::<_, Error>(a.int(name)?.unwrap_or(default) != 0);
    let axis = || int("axis", 0);
    Ok(Some(match node.op_type() {
        "BitCast" => HostOp::BitCast { to: target(a)? },
        "Compress" => HostOp::Compress { axis: a.int("axis")? },
        "ConcatFromSequence" => {
            let axis = a.int("axis")?.ok_or_else(|| super::node::missing("axis"))?;
            HostOp::ConcatFromSequence { axis, new_axis: flag("new_axis", 0)? }
        }
        "ConstantOfShape" => {
            let value = match a.tensor("value")? {
                Some(tensor) => decode(tensor, &importer.model.external)?,
                None => Tensor::scalar(0f32),
            };
            HostOp::ConstantOfShape { value: value.reshape(&[])? }
        }
        "Expand" => HostOp::Expand,
        "Identity" => HostOp::Identity,
        "NonMaxSuppression" => HostOp::NonMaxSuppression { center_point_box: flag("center_point_box", 0)? },
        "NonZero" => HostOp::NonZero,
        "Optional" => {
            a.ignore(&["type"]);
            HostOp::Identity
        }
        "OptionalGetElement" => HostOp::OptionalGetElement,
        "OptionalHasElement" => HostOp::OptionalHasElement,
        "Range" => {
            // The precision of the steps of 16-bit floats: never less here than what is asked for.
            a.ignore(&["stash_type"]);
            HostOp::Range
        }
        "Reshape" if opset >= 5 => HostOp::Reshape { allow_zero: flag("allowzero", 0)? },
        "SequenceAt" => HostOp::SequenceAt,
        "SequenceConstruct" => HostOp::SequenceConstruct,
        "SequenceEmpty" => {
            a.ignore(&["dtype"]);
            HostOp::SequenceConstruct
        }
        "SequenceErase" => HostOp::SequenceErase,
        "SequenceInsert" => HostOp::SequenceInsert,
        "SequenceLength" => HostOp::SequenceLength,
        "Slice" if opset >= 10 => HostOp::Slice,
        "Split" if opset >= 13 => {
            a.ignore(&["num_outputs"]);
            HostOp::Split { axis: axis()?, outputs: node.output.len() }
        }
        "SplitToSequence" => HostOp::SplitToSequence { axis: axis()?, keep_dims: flag("keepdims", 1)? },
        "Tile" if opset >= 6 => HostOp::Tile,
        "TopK" => {
            // Unsorted results may be in any order: sorted is one.
            a.ignore(&["sorted"]);
            let k = if opset < 10 { a.int("k")? } else { None };
            HostOp::TopK { axis: int("axis", -1)?, largest: flag("largest", 1)?, k }
        }
        "Unique" => HostOp::Unique { axis: a.int("axis")?, sorted: flag("sorted", 1)? },
        _ => return Ok(None),
    }))
}

/// The type that the attribute `to` names.
pub(super) fn target(a: &Attributes<'_>) -> Result<DType> {
    let number = a.int("to")?.ok_or_else(|| super::node::missing("to"))?;
    dtype(i32::try_from(number).map_err(|_| Error::invalid("there is no such element type"))?)
}

/// Whether a node is run by the host whatever its operands are, so that it can follow on one that is.
pub(super) fn follows(node: &NodeProto) -> bool {
    normal_domain(node.domain()).is_empty()
        && matches!(
            node.op_type(),
            "Compress"
                | "ConcatFromSequence"
                | "NonMaxSuppression"
                | "NonZero"
                | "Optional"
                | "OptionalGetElement"
                | "OptionalHasElement"
                | "SequenceAt"
                | "SequenceConstruct"
                | "SequenceErase"
                | "SequenceInsert"
                | "SequenceLength"
                | "SplitToSequence"
                | "Unique"
        )
}

/// Imports a node whose result's shape depends on values: it is computed at once if they are known, and left to the
/// host otherwise.
pub(super) fn import(cx: &mut NodeCx<'_, '_>) -> halt::Result<Vec<ValueId>> {
    let Some(op) = host_op(cx.importer, cx.node, &cx.attributes, cx.opset)? else {
        return Err(Halt::internal("no operation of the host"));
    };
    // The result may be many times as large as the operand.
    if (0..cx.input_count()).filter_map(|i| cx.optional(i)).any(|x| cx.elements(x) > limit::EAGER_RESULTS) {
        return Err(Halt::host("its operand is too large for the import"));
    }
    let mut operands = Vec::with_capacity(cx.input_count());
    for i in 0..cx.input_count() {
        operands.push(match cx.optional(i) {
            Some(x) => Item::Tensor(cx.known_constant(x, "the shape of the result")?),
            None => Item::Absent,
        });
    }
    let mut results = Vec::new();
    for item in op.run(&operands)? {
        match item {
            Item::Tensor(tensor) => results.push(cx.constant(tensor)),
            _ => return sequences(cx),
        }
    }
    results.truncate(cx.output_count());
    Ok(results)
}

/// Why a node that works with something else than tensors is not compiled.
pub(super) const ITEMS: &str = "it works with a sequence or an optional value";

/// Imports a node that works with sequences or optional values, which only the host knows.
pub(super) fn sequences(_: &mut NodeCx<'_, '_>) -> halt::Result<Vec<ValueId>> {
    Err(Halt::host(ITEMS))
}
