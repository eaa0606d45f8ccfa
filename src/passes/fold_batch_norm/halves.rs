//! A BatchNorm behind a product of a half type, `product [-> BiasAdd] -> Cast to f32 -> norm`: the product is made one in
//! `f32`, so that the norm can be folded into its weights. The sum is then rounded once, behind the norm, and not before it
//! too; what it is a sum of are the same halves.

use nestjit_ir::DType;

use super::{Norm, sole_producer};
use crate::error::{Error, Result};
use crate::graph::eval::evaluate_op;
use crate::graph::{Graph, Node, Op, ValueId};
use crate::remark::KeptNorm;
use crate::tensor::WIDENED_READS;

/// A product of a half type that a norm can be folded into.
pub(super) struct Halves {
    product: usize,
    bias_add: Option<usize>,
    cast: usize,
}

impl Halves {
    /// The product before a norm, if there is a conversion between them.
    pub fn find(graph: &Graph, norm: &Norm) -> Result<Option<Halves>, KeptNorm> {
        let Ok(cast) = sole_producer(graph, norm.x) else { return Ok(None) };
        let half = match (&graph.nodes[cast].op, graph.nodes[cast].inputs.as_slice()) {
            (Op::Cast { to: DType::F32 }, [x]) if graph.value(*x).dtype.is_half() => *x,
            _ => return Ok(None),
        };
        let mut product = sole_producer(graph, half)?;
        let mut bias_add = None;
        if matches!(graph.nodes[product].op, Op::BiasAdd { axis } if axis == norm.axis) {
            bias_add = Some(product);
            product = sole_producer(graph, graph.nodes[product].inputs[0])?;
        }
        let node = &graph.nodes[product];
        let is_product = matches!(node.op, Op::Conv { .. } | Op::Gemm { .. } | Op::MatMul);
        let others = node.inputs.iter().skip(1).chain(bias_add.map(|at| &graph.nodes[at].inputs[1]));
        if !is_product || others.into_iter().any(|id| graph.constant(*id).is_none()) {
            return Ok(None);
        }
        let results: usize = graph.value(node.outputs[0]).shape.iter().product();
        if results < norm.s.len().saturating_mul(WIDENED_READS) {
            return Err(KeptNorm::HalfWeights);
        }
        Ok(Some(Halves { product, bias_add, cast }))
    }

    /// Makes the product one in `f32` whose result the norm reads. As many nodes come as go.
    pub fn widen(self, graph: &mut Graph) -> Result<()> {
        let Halves { product, bias_add, cast } = self;
        let last = bias_add.unwrap_or(product);
        for at in [Some(product), bias_add].into_iter().flatten() {
            for input in 1..graph.nodes[at].inputs.len() {
                graph.nodes[at].inputs[input] = as_f32(graph, graph.nodes[at].inputs[input])?;
            }
        }
        if let Some(at) = bias_add {
            let sum = graph.value(graph.nodes[product].outputs[0]).clone();
            let name = graph.unique_value_name(&format!("{}.f32", sum.name));
            let wide = graph.add_value(name, DType::F32, &sum.shape);
            graph.nodes[product].outputs[0] = wide;
            graph.nodes[at].inputs[0] = wide;
        }
        let removed = graph.nodes[cast].clone();
        graph.nodes[last].outputs[0] = removed.outputs[0];
        let operations = graph.operations(&removed);
        graph.absorb(last, operations);
        graph.nodes.remove(cast);
        let x = graph.value(graph.nodes[product].inputs[0]).clone();
        let node = Node {
            name: graph.unique_node_name(&format!("{}.operand0", graph.nodes[product].name)),
            op: Op::Cast { to: DType::F32 },
            inputs: vec![graph.nodes[product].inputs[0]],
            outputs: vec![graph.add_value(
                graph.unique_value_name(&format!("{}.f32", x.name)),
                DType::F32,
                &x.shape,
            )],
        };
        // The conversion is none of the model's operations.
        graph.origins.insert(node.name.clone(), Vec::new());
        graph.nodes[product].inputs[0] = node.outputs[0];
        graph.nodes.insert(product, node);
        Ok(())
    }
}

/// A constant as `f32`.
fn as_f32(graph: &mut Graph, id: ValueId) -> Result<ValueId> {
    let value = graph.value(id);
    let Some(data) = value.data.as_deref() else {
        return Err(Error::internal("a constant to be widened is gone"));
    };
    let wide = evaluate_op(&Op::Cast { to: DType::F32 }, std::slice::from_ref(data))?;
    let wide = wide.into_iter().next().ok_or_else(|| Error::internal("a cast has a result"))?;
    let name = graph.unique_value_name(&format!("{}.f32", value.name));
    Ok(graph.add_constant(name, wide))
}
