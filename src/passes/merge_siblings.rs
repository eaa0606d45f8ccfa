//! MergeSiblings: matrix products of one operand with different constant weights become one product with the
//! weights side by side, and a split of its result.
//!
//! `q = x * Wq + bq; k = x * Wk + bk; v = x * Wv + bv` reads `x` once then, as one wide contraction. Only products
//! whose results are rearranged next (attention cuts them into heads) take part: the split disappears into these
//! loads, while what follows element by element is better computed on each product's own tile.

use nestjit_ir::DType;
use nestjit_ir::hash::FastMap;

use super::PassContext;
use crate::error::{Error, Result};
use crate::graph::{Binary, Graph, Node, Op, Port, ValueId};
use crate::remark::{Reason, Remark};
use crate::tensor::Tensor;

/// Runs the pass.
pub fn run(graph: &mut Graph, _: &PassContext<'_>, remarks: &mut Vec<Remark>) -> Result<bool> {
    let groups = groups(graph);
    if groups.is_empty() {
        return Ok(false);
    }
    let mut removed = vec![false; graph.nodes.len()];
    let mut inserted: FastMap<usize, Vec<Node>> = FastMap::default();
    for group in &groups {
        let first = &graph.nodes[group[0].product];
        let (name, at) = (first.name.clone(), first.op.name());
        let names: Vec<String> = group.iter().map(|b| graph.nodes[b.product].name.clone()).collect();
        let merged = merge(graph, group).map_err(|e| e.at(&name, at))?;
        inserted.insert(group[0].product, merged);
        for branch in group {
            removed[branch.product] = true;
            if let Some((sum, _)) = branch.bias {
                removed[sum] = true;
            }
        }
        remarks.push(Remark::node(name, Reason::Siblings { nodes: names }));
    }
    for (index, node) in std::mem::take(&mut graph.nodes).into_iter().enumerate() {
        graph.nodes.extend(inserted.remove(&index).into_iter().flatten());
        if !removed[index] {
            graph.nodes.push(node);
        }
    }
    graph.remove_dead();
    Ok(true)
}

/// A product, with the addition of a constant bias behind it if there is one.
#[derive(Clone, Debug)]
struct Branch {
    product: usize,
    /// The node that adds the bias, and the bias.
    bias: Option<(usize, ValueId)>,
    /// The last result.
    result: ValueId,
}

/// Products that can become one, in the order of the nodes.
fn groups(graph: &Graph) -> Vec<Vec<Branch>> {
    let consumers = graph.consumers();
    let mut by_operand: FastMap<ValueId, Vec<usize>> = FastMap::default();
    let mut order = Vec::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        if column_axes(graph, node).is_some() {
            let products = by_operand.entry(node.inputs[0]).or_default();
            if products.is_empty() {
                order.push(node.inputs[0]);
            }
            products.push(index);
        }
    }
    let mut groups = Vec::new();
    for x in order {
        let products = &by_operand[&x];
        if products.len() < 2 {
            continue;
        }
        let mut group: Vec<Branch> = Vec::new();
        for &product in products {
            let Some(branch) = branch(graph, &consumers, product) else { continue };
            let alike = group.first().is_none_or(|first| {
                let (a, b) = (&graph.nodes[first.product], &graph.nodes[product]);
                let dtypes = |node: &Node| -> Vec<DType> {
                    node.inputs.iter().map(|id| graph.value(*id).dtype).collect()
                };
                a.op == b.op && dtypes(a) == dtypes(b) && first.bias.is_some() == branch.bias.is_some()
            });
            if alike {
                group.push(branch);
            }
        }
        if group.len() >= 2 {
            groups.push(group);
        }
    }
    groups
}

/// The dimensions along which the columns of the result lie in the operands behind the first, if the node is a product whose
/// other operands are constants.
fn column_axes(graph: &Graph, node: &Node) -> Option<Vec<usize>> {
    let axes: &[usize] = match node.op {
        Op::MatMul => &[1],
        Op::Gemm { trans_a: false, trans_b: false, .. } => &[1, 0],
        Op::Gemm { trans_a: false, trans_b: true, .. } => &[0, 0],
        // The packed integers, scales and zero points.
        Op::PackedMatMul { .. } => &[0, 1, 1],
        _ => return None,
    };
    let (x, others) = node.inputs.split_first()?;
    let x = graph.value(*x);
    let axes = axes.get(..others.len())?;
    let extents = others.iter().zip(axes).map(|(id, axis)| graph.constant(*id)?.shape().get(*axis).copied());
    let extents: Vec<usize> = extents.collect::<Option<_>>()?;
    let columns = *extents.first()?;
    let weight = graph.value(others[0]);
    let fits = match node.op {
        Op::PackedMatMul { .. } => extents.iter().all(|e| *e == columns),
        _ => {
            let bias = others.get(1).is_none_or(|id| is_bias(graph, *id, columns));
            weight.shape.len() == 2 && weight.dtype == x.dtype && bias
        }
    };
    (fits && takes_part(x.dtype) && x.shape.len() >= 2).then(|| axes.to_vec())
}

/// Whether products of this type are merged.
const fn takes_part(dtype: DType) -> bool {
    match dtype {
        DType::F32 | DType::F16 | DType::BF16 => true,
        DType::F64 | DType::Bool => false,
        DType::I64 | DType::I32 | DType::I16 | DType::I8 => false,
        DType::U64 | DType::U32 | DType::U16 | DType::U8 => false,
    }
}

/// Whether a value is a constant vector of one element per column.
fn is_bias(graph: &Graph, id: ValueId, columns: usize) -> bool {
    graph.constant(id).is_some_and(|b| takes_part(b.dtype()) && b.shape() == [columns])
}

/// Follows a product to its last result; `None` if that is not only rearranged.
fn branch(graph: &Graph, consumers: &[Vec<Port>], product: usize) -> Option<Branch> {
    let y = graph.nodes[product].outputs[0];
    let shape = &graph.value(y).shape;
    let (axis, columns) = (shape.len() - 1, *shape.last()?);
    let mut result = Branch { product, bias: None, result: y };
    if let [port] = consumers[y.0 as usize].as_slice()
        && !graph.outputs.contains(&y)
    {
        let node = &graph.nodes[port.node];
        let added = match node.op {
            Op::BiasAdd { axis: a } if a == axis && port.index == 0 => Some(node.inputs[1]),
            Op::Binary(Binary::Add) => Some(node.inputs[1 - port.index]),
            _ => None,
        };
        if let Some(bias) = added.filter(|b| is_bias(graph, *b, columns)) {
            result.bias = Some((port.node, bias));
            result.result = node.outputs[0];
        }
    }
    let readers = &consumers[result.result.0 as usize];
    let rearranged = |p: &Port| matches!(graph.nodes[p.node].op, Op::Reshape { .. } | Op::Transpose { .. });
    let ok = !readers.is_empty() && readers.iter().all(rearranged) && !graph.outputs.contains(&result.result);
    ok.then_some(result)
}

/// The nodes that take the place of a group.
fn merge(graph: &mut Graph, group: &[Branch]) -> Result<Vec<Node>> {
    let first = graph.nodes[group[0].product].clone();
    let Some(axes) = column_axes(graph, &first) else {
        return Err(Error::internal("the weights to be merged are gone"));
    };
    let nodes: Vec<Node> = group.iter().map(|b| graph.nodes[b.product].clone()).collect();
    let mut product = first.clone();
    for (at, axis) in axes.into_iter().enumerate() {
        let ids: Vec<ValueId> = nodes.iter().map(|n| n.inputs[1 + at]).collect();
        product.inputs[1 + at] = side_by_side(graph, &ids, axis)?;
    }
    let sizes: Vec<usize> =
        group.iter().map(|b| graph.value(b.result).shape.last().copied().unwrap_or(0)).collect();
    let mut shape = graph.value(group[0].result).shape.clone();
    let axis = shape.len() - 1;
    shape[axis] = sizes.iter().sum();
    let dtype = graph.value(group[0].result).dtype;
    let wide = |graph: &mut Graph, of: ValueId| {
        let name = graph.unique_value_name(&format!("{}.siblings", graph.value(of).name));
        graph.add_value(name, dtype, &shape)
    };
    product.outputs = vec![wide(graph, first.outputs[0])];
    let operations: Vec<String> = nodes.iter().flat_map(|n| graph.operations(n)).collect();
    graph.origins.insert(product.name.clone(), operations);
    let mut last = product.outputs[0];
    let mut merged = vec![product];
    if let Some((sum, _)) = group[0].bias {
        let sums: Vec<usize> = group.iter().filter_map(|b| b.bias.map(|b| b.0)).collect();
        let biases: Vec<ValueId> = group.iter().filter_map(|b| b.bias.map(|b| b.1)).collect();
        let operations: Vec<String> = sums.iter().flat_map(|s| graph.operations(&graph.nodes[*s])).collect();
        let name = graph.nodes[sum].name.clone();
        graph.origins.insert(name.clone(), operations);
        let bias = side_by_side(graph, &biases, 0)?;
        let output = wide(graph, group[0].result);
        merged.push(Node { name, op: Op::BiasAdd { axis }, inputs: vec![last, bias], outputs: vec![output] });
        last = output;
    }
    let name = graph.unique_node_name(&format!("{}.split", first.name));
    // The split is none of the model's operations.
    graph.origins.insert(name.clone(), Vec::new());
    let outputs = group.iter().map(|b| b.result).collect();
    merged.push(Node { name, op: Op::Split { axis, sizes }, inputs: vec![last], outputs });
    Ok(merged)
}

/// A constant that holds others one after the other along `axis`.
fn side_by_side(graph: &mut Graph, ids: &[ValueId], axis: usize) -> Result<ValueId> {
    let missing = || Error::internal("a constant to be merged is gone");
    let tensors: Vec<Tensor> =
        ids.iter().map(|id| graph.constant(*id).cloned().ok_or_else(missing)).collect::<Result<_>>()?;
    let merged = Tensor::joined(tensors, axis)?;
    let name = graph.unique_value_name(&format!("{}.siblings", graph.value(ids[0]).name));
    Ok(graph.add_constant(name, merged))
}
