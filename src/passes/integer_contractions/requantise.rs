//! Quantisation behind contractions of integers: the division by a constant scale becomes a multiplication.
//!
//! `round(float(sums) * s / y)` with constants `s` and `y` is `round(float(sums) * (s / y))` but for the rounding of
//! `f32`: a division takes as long as all products of a short sum. What lies between may be any elementwise operations, softmax
//! and normalisations; divisions of anything else, and those whose quotient is not rounded to an integer next, stay as they
//! are. Means, for one, often lie in the middle between two integers, where every rounding error counts.

use nestjit_ir::DType;

use crate::error::Result;
use crate::graph::{Binary, Graph, Op, Port, Unary, ValueId};
use crate::tensor::Tensor;

/// Rewrites the divisions behind `products`, results of contractions of integers.
pub(super) fn run(graph: &mut Graph, products: &[ValueId]) -> Result<()> {
    let mut behind = vec![false; graph.values.len()];
    for id in products {
        behind[id.0 as usize] = true;
    }
    let (consumers, producers) = (graph.consumers(), graph.producers());
    for index in 0..graph.nodes.len() {
        let node = &graph.nodes[index];
        if !carries_on(&node.op) || !node.inputs.iter().any(|id| behind[id.0 as usize]) {
            continue;
        }
        let quotient = node.outputs[0];
        behind[quotient.0 as usize] = true;
        if graph.value(quotient).dtype != DType::F32 {
            continue;
        }
        let (Op::Binary(Binary::Div), [x, divisor]) = (&node.op, &node.inputs[..]) else { continue };
        let (x, divisor) = (*x, *divisor);
        let rounds = |port: &Port| graph.nodes[port.node].op == Op::Unary(Unary::Round);
        if graph.outputs.contains(&quotient) || !consumers[quotient.0 as usize].iter().all(rounds) {
            continue;
        }
        let Some(divisors) = graph.constant(divisor).filter(|_| behind[x.0 as usize]) else { continue };
        let Some(factors) = reciprocals(divisors) else { continue };
        // The factor before it, if nobody else reads that product.
        let product = producers[x.0 as usize].map(|port| &graph.nodes[port.node]);
        let alone = consumers[x.0 as usize].len() == 1 && !graph.outputs.contains(&x);
        let before = product.filter(|node| alone && node.op == Op::Binary(Binary::Mul));
        let merged = before.and_then(|node| {
            let scale = graph.constant(node.inputs[1])?;
            Some((node.inputs[0], quotients(scale, divisors)?))
        });
        let (x, factors) = merged.unwrap_or((x, factors));
        let name = graph.unique_value_name(&format!("{}.factor", graph.nodes[index].name));
        let factor = graph.add_constant(name, factors);
        // Constants are not behind anything.
        behind.push(false);
        let node = &mut graph.nodes[index];
        node.op = Op::Binary(Binary::Mul);
        node.inputs = vec![x, factor];
    }
    Ok(())
}

/// Whether results round as if they were computed in the nest of a contraction that an operand comes from.
fn carries_on(op: &Op) -> bool {
    matches!(
        op,
        Op::Unary(_)
            | Op::Binary(_)
            | Op::Where
            | Op::Clip { .. }
            | Op::Cast { .. }
            | Op::BiasAdd { .. }
            | Op::Softmax { .. }
            | Op::LayerNorm { .. }
            | Op::RmsNorm { .. }
            | Op::Dropout
    )
}

/// `1 / x`, if that is a number that is as precise as others.
fn reciprocals(tensor: &Tensor) -> Option<Tensor> {
    let values = tensor.values::<f32>().ok()?;
    let reciprocals: Vec<f32> = values.iter().map(|v| 1.0 / v).collect();
    let precise = values.iter().chain(&reciprocals).all(|v| v.is_normal());
    precise.then(|| Tensor::new(tensor.shape(), &reciprocals).ok()).flatten()
}

/// `a / b`, rounded once, where one of them has one element.
fn quotients(a: &Tensor, b: &Tensor) -> Option<Tensor> {
    let (x, y) = (a.values::<f32>().ok()?, b.values::<f32>().ok()?);
    let divide = |x: &f32, y: &f32| (f64::from(*x) / f64::from(*y)) as f32;
    let (shape, values): (_, Vec<f32>) = match (x, y) {
        (x, [y]) if b.shape().len() <= a.shape().len() => {
            (a.shape(), x.iter().map(|x| divide(x, y)).collect())
        }
        ([x], y) if a.shape().len() <= b.shape().len() => {
            (b.shape(), y.iter().map(|y| divide(x, y)).collect())
        }
        _ => return None,
    };
    let precise = values.iter().all(|v| v.is_normal());
    precise.then(|| Tensor::new(shape, &values).ok()).flatten()
}
