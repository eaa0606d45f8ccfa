//! FoldBatchNorm: an inference-time BatchNorm with constant parameters is `x * s + t` per channel. After a
//! convolution or a matrix product with constant weights, `s` goes into the weights and `t` into the bias;
//! anywhere else the BatchNorm becomes a multiplication and a bias, so that no root is left to compute.
//!
//! Factors are computed in `f64` and rounded once, with the weights: when these are packed. Weights of a half type become
//! `f32` ([`halves`]), for factors and weights that are rounded to a half would be coarser.

mod halves;

use nestjit_ir::DType;

use self::halves::Halves;

use super::PassContext;
use crate::error::{Error, Result};
use crate::graph::{Binary, Graph, Node, Op, ValueId};
use crate::remark::{BatchNorm, KeptNorm, Reason, Remark};
use crate::tensor::{Factors, Tensor};

/// Runs the pass.
pub fn run(graph: &mut Graph, _: &PassContext<'_>, remarks: &mut Vec<Remark>) -> Result<bool> {
    let mut changed = false;
    let mut index = 0;
    while index < graph.nodes.len() {
        let following = graph.nodes.len() - index;
        if let Some(norm) = Norm::of(graph, index) {
            let node = graph.nodes[index].clone();
            let at = |e: Error| e.at(&node.name, node.op.name());
            let found = match Halves::find(graph, &norm) {
                Ok(None) => Fold::find(graph, &norm),
                Ok(Some(product)) => {
                    product.widen(graph).map_err(at)?;
                    Fold::find(graph, &norm)
                }
                Err(reason) => Err(reason),
            };
            match found {
                Ok(fold) => {
                    let producer = graph.nodes[fold.product].name.clone();
                    fold.apply(graph, &norm).map_err(at)?;
                    let folded = Reason::BatchNorm(BatchNorm::Folded { into: producer.clone() });
                    remarks
                        .push(Remark { consumer: Some(node.name.clone()), ..Remark::node(producer, folded) });
                }
                Err(reason) => {
                    scale_and_shift(graph, &norm).map_err(at)?;
                    remarks.push(Remark::node(&node.name, Reason::BatchNorm(BatchNorm::Kept(reason))));
                }
            }
            changed = true;
        }
        // Nodes may have come or gone before the next one, but not behind it.
        index = graph.nodes.len() - (following - 1);
    }
    if changed {
        graph.remove_dead();
    }
    Ok(changed)
}

/// A BatchNorm with constant parameters: `y = x * s + t` along `axis`.
struct Norm {
    index: usize,
    x: ValueId,
    y: ValueId,
    axis: usize,
    s: Vec<f64>,
    t: Vec<f64>,
}

impl Norm {
    fn of(graph: &Graph, index: usize) -> Option<Norm> {
        let node = &graph.nodes[index];
        let Op::BatchNorm { epsilon, format } = node.op else { return None };
        let [x, scale, bias, mean, variance] = node.inputs[..] else { return None };
        let values = |id| graph.constant(id).and_then(to_f64);
        let (scale, bias, mean, variance) = (values(scale)?, values(bias)?, values(mean)?, values(variance)?);
        let s: Vec<f64> = scale.iter().zip(&variance).map(|(g, v)| g / (v + epsilon).sqrt()).collect();
        let t = bias.iter().zip(&mean).zip(&s).map(|((b, m), s)| b - m * s).collect();
        let axis = format.channel_axis(graph.value(x).shape.len());
        Some(Norm { index, x, y: node.outputs[0], axis, s, t })
    }

    /// `bias * s`.
    fn scaled(&self, bias: &[f64]) -> Vec<f64> {
        bias.iter().zip(&self.s).map(|(b, s)| b * s).collect()
    }
}

/// Where a norm can be folded: `product [-> BiasAdd] -> norm`.
struct Fold {
    /// The convolution or matrix product.
    product: usize,
    /// The dimension of its weights that is the channel of the norm.
    weight_axis: usize,
    /// Its own bias, all factors applied.
    own_bias: Option<Vec<f64>>,
    /// The BiasAdd between product and norm, and its bias.
    bias_add: Option<(usize, Vec<f64>)>,
}

impl Fold {
    fn find(graph: &Graph, norm: &Norm) -> Result<Fold, KeptNorm> {
        let mut product = sole_producer(graph, norm.x)?;
        let mut bias_add = None;
        let node = &graph.nodes[product];
        if matches!(node.op, Op::BiasAdd { axis } if axis == norm.axis) {
            let bias = graph.constant(node.inputs[1]).and_then(to_f64).ok_or(KeptNorm::DynamicWeights)?;
            bias_add = Some((product, bias));
            product = sole_producer(graph, node.inputs[0])?;
        }
        let node = &graph.nodes[product];
        let rank = graph.value(norm.x).shape.len();
        let channel_is_last = norm.axis + 1 == rank;
        let weight_axis = match &node.op {
            Op::Conv { format, .. } if format.channel_axis(rank) == norm.axis => 0,
            Op::Gemm { trans_b, .. } if channel_is_last => usize::from(!trans_b),
            Op::MatMul if channel_is_last => match graph.value(node.inputs[1]).shape.len() {
                0 | 1 => return Err(KeptNorm::NoWeights),
                rank => rank - 1,
            },
            _ => return Err(KeptNorm::NoWeights),
        };
        let weight = graph.constant(node.inputs[1]).ok_or(KeptNorm::DynamicWeights)?;
        if !weight.dtype().is_float() {
            return Err(KeptNorm::NoWeights);
        }
        let own_bias = match node.inputs.get(2) {
            None => None,
            Some(c) => {
                let bias = graph
                    .constant(*c)
                    .and_then(|c| per_channel(c, norm.s.len()))
                    .ok_or(KeptNorm::DynamicWeights)?;
                let factor = if let Op::Gemm { beta, .. } = node.op { beta } else { 1.0 };
                Some(bias.iter().map(|b| factor * b).collect())
            }
        };
        Ok(Fold { product, weight_axis, own_bias, bias_add })
    }

    fn apply(self, graph: &mut Graph, norm: &Norm) -> Result<()> {
        let Fold { product, weight_axis, own_bias, bias_add } = self;
        let weight = graph.nodes[product].inputs[1];
        let Some(tensor) = graph.constant(weight) else {
            return Err(Error::internal("the weights to fold into are gone"));
        };
        let dtype = tensor.dtype();
        let scaled = scale_along(tensor, weight_axis, &norm.s);
        let name = format!("{}.folded", graph.value(weight).name);
        graph.nodes[product].inputs[1] = add_constant(graph, &name, scaled);

        // The product's own bias is scaled; `t` joins the last bias of the chain, a new one if need be.
        let mut own_bias = own_bias.map(|b| norm.scaled(&b));
        let mut last_bias = bias_add.as_ref().map(|(_, bias)| norm.scaled(bias));
        let takes_bias = !matches!(graph.nodes[product].op, Op::MatMul);
        if last_bias.is_none() && takes_bias {
            own_bias.get_or_insert_with(|| vec![0.0; norm.t.len()]);
        }
        if let Some(bias) = last_bias.as_mut().or(own_bias.as_mut()) {
            bias.iter_mut().zip(&norm.t).for_each(|(b, t)| *b += t);
        }
        if let Some(bias) = own_bias {
            let name = format!("{}.bias", graph.nodes[product].name);
            let id = add_constant(graph, &name, vector(dtype, &bias)?);
            let node = &mut graph.nodes[product];
            node.inputs.truncate(2);
            node.inputs.push(id);
            if let Op::Gemm { beta, .. } = &mut node.op {
                *beta = 1.0;
            }
        }
        let norms = graph.operations(&graph.nodes[norm.index]);
        let last = bias_add.as_ref().map_or(product, |(index, _)| *index);
        if let Some(bias) = &last_bias {
            let name = format!("{}.bias", graph.nodes[last].name);
            graph.nodes[last].inputs[1] = add_constant(graph, &name, vector(dtype, bias)?);
        }
        if last_bias.is_some() || takes_bias {
            graph.nodes[last].outputs[0] = norm.y;
            graph.absorb(last, norms);
            graph.nodes.remove(norm.index);
        } else {
            let node = bias_node(graph, norm, dtype, norm.x)?;
            graph.origins.insert(node.name.clone(), norms);
            graph.nodes[norm.index] = node;
        }
        Ok(())
    }
}

/// Replaces a norm by a multiplication and a bias.
fn scale_and_shift(graph: &mut Graph, norm: &Norm) -> Result<()> {
    let value = graph.value(norm.x).clone();
    let name = graph.nodes[norm.index].name.clone();
    let mut shape = vec![1; value.shape.len()];
    shape[norm.axis] = norm.s.len();
    let s = vector(value.dtype, &norm.s)?.reshape(&shape)?;
    let s = add_constant(graph, &format!("{name}.scale"), s);
    let product = graph.unique_value_name(&format!("{name}.scaled"));
    let product = graph.add_value(product, value.dtype, &value.shape);
    let scale = Node {
        name: graph.unique_node_name(&format!("{name}.scale")),
        op: Op::Binary(Binary::Mul),
        inputs: vec![norm.x, s],
        outputs: vec![product],
    };
    let shift = bias_node(graph, norm, value.dtype, product)?;
    let norms = graph.operations(&graph.nodes[norm.index]);
    for half in [&scale, &shift] {
        graph.origins.insert(half.name.clone(), norms.clone());
    }
    graph.nodes[norm.index] = shift;
    graph.nodes.insert(norm.index, scale);
    Ok(())
}

/// `y = x + t`, named after the norm.
fn bias_node(graph: &mut Graph, norm: &Norm, dtype: DType, x: ValueId) -> Result<Node> {
    let name = graph.nodes[norm.index].name.clone();
    let t = add_constant(graph, &format!("{name}.shift"), vector(dtype, &norm.t)?);
    Ok(Node { name, op: Op::BiasAdd { axis: norm.axis }, inputs: vec![x, t], outputs: vec![norm.y] })
}

/// The node that computes a value which one operand reads and which is no output.
fn sole_producer(graph: &Graph, value: ValueId) -> Result<usize, KeptNorm> {
    let readers = graph.nodes.iter().flat_map(|n| &n.inputs).filter(|id| **id == value).count();
    if readers != 1 || graph.outputs.contains(&value) {
        return Err(KeptNorm::Shared);
    }
    graph.nodes.iter().position(|n| n.outputs.contains(&value)).ok_or(KeptNorm::NoWeights)
}

fn add_constant(graph: &mut Graph, name: &str, tensor: Tensor) -> ValueId {
    let name = graph.unique_value_name(name);
    graph.add_constant(name, tensor)
}

/// The values of a tensor of `f32` or `f64`.
fn to_f64(tensor: &Tensor) -> Option<Vec<f64>> {
    matches!(tensor.dtype(), DType::F32 | DType::F64).then(|| tensor.to_f64().ok())?
}

fn vector(dtype: DType, values: &[f64]) -> Result<Tensor> {
    Tensor::from_f64(dtype, &[values.len()], values)
}

/// The values of a bias that broadcasts along rows to `[.., channels]`.
fn per_channel(bias: &Tensor, channels: usize) -> Option<Vec<f64>> {
    let values = to_f64(bias)?;
    match bias.shape().last() {
        _ if values.len() == 1 => Some(vec![values[0]; channels]),
        Some(last) if *last == channels && values.len() == channels => Some(values),
        _ => None,
    }
}

/// The tensor with each slice along `axis` multiplied by its factor.
fn scale_along(tensor: &Tensor, axis: usize, factors: &[f64]) -> Tensor {
    let run = tensor.shape()[axis + 1..].iter().product::<usize>().max(1);
    tensor.scaled(Factors { run, values: factors.into() })
}
