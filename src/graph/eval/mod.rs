//! The evaluator: what a graph means, written as plainly as `ndarray` allows. It is the oracle that compiled
//! code is tested against, so it shares nothing with lowering, the interpreter or code generation, and it is
//! slow on purpose. One file per family of operations.
//!
//! Every float is held in `f64`; with [`Precision::F32`], values are rounded to their type (`f32`, `f16`, `bf16`) after
//! each operation of the graph (inside an operation, such as a matrix product, they are not).
//!
//! NaN: every operation propagates NaN, maxima, minima, ReLU, clipping and max pooling included. Where
//! elements are compared to find one ([`Op::ArgReduce`]), NaN is beyond every other value, as in NumPy.

use std::rc::Rc;

use nestjit_ir::DType;

use super::infer::Outputs;
use super::{Graph, Op, ValueId};
use crate::budget;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

mod array;
mod classical;
mod contraction;
mod dynamic_lstm;
mod elementwise;
mod movement;
mod normalization;
mod recurrent;
mod reduction;
mod scalar;
mod window;

#[cfg(test)]
mod tests;

use array::{Array, Data};

/// How floats are rounded.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Precision {
    /// Values are rounded to their type after each operation, and outputs are of their type.
    F32,
    /// Nothing is rounded, all float inputs may be `f64`, and all float outputs are: the reference.
    F64,
}

/// The outputs of the graph for these inputs.
///
/// # Errors
/// [`crate::ErrorKind::Shape`] if inputs are not what the graph declares, [`crate::ErrorKind::Index`] if a gather
/// reaches outside; and whatever [`Graph::validate`] finds.
pub fn evaluate(graph: &Graph, inputs: &[Tensor], precision: Precision) -> Result<Vec<Tensor>> {
    graph.validate()?;
    check_inputs(graph, inputs, precision)?;
    let mut values: Vec<Option<Rc<Array>>> = vec![None; graph.values.len()];
    for (id, tensor) in graph.inputs.iter().zip(inputs) {
        let array = Array::from_tensor(tensor)?.with_dtype(graph.value(*id).dtype);
        values[id.0 as usize] = Some(Rc::new(array));
    }
    let last_uses = last_uses(graph);
    for (index, node) in graph.nodes.iter().enumerate() {
        let (place, op) = graph.place(node);
        let at = |e: Error| e.at(place, op);
        let operands: Vec<Rc<Array>> =
            node.inputs.iter().map(|id| load(graph, &values, *id)).collect::<Result<_>>()?;
        let operands: Vec<&Array> = operands.iter().map(Rc::as_ref).collect();
        let types = node.outputs.iter().map(|id| graph.value(*id));
        let types: Outputs = types.map(|v| (v.dtype, v.shape.clone())).collect();
        let names: Vec<&str> = node.inputs.iter().map(|id| graph.value(*id).name.as_str()).collect();
        check_memory(&types).map_err(at)?;
        let results = apply(&node.op, &operands, &names, &types, precision).map_err(at)?;
        for (id, result) in node.outputs.iter().zip(results) {
            values[id.0 as usize] = Some(Rc::new(result));
        }
        for id in node.inputs.iter().filter(|id| last_uses[id.0 as usize] == index) {
            values[id.0 as usize] = None;
        }
    }
    graph.outputs.iter().map(|id| load(graph, &values, *id)?.to_tensor(precision)).collect()
}

/// One operation applied to tensors, rounded as [`Precision::F32`] says.
///
/// # Errors
/// As [`super::infer()`]; and [`crate::ErrorKind::Index`] if a gather reaches outside.
pub fn evaluate_op(op: &Op, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
    let names: Vec<String> = (0..inputs.len()).map(|i| format!("operand{i}")).collect();
    let named: Vec<(&str, &Tensor)> = names.iter().map(String::as_str).zip(inputs).collect();
    evaluate_named(op, &named)
}

/// [`evaluate_op`] on operands that have names, which errors show.
///
/// # Errors
/// As [`evaluate_op`].
pub(crate) fn evaluate_named(op: &Op, inputs: &[(&str, &Tensor)]) -> Result<Vec<Tensor>> {
    let mut graph = Graph::new(op.name());
    for (name, tensor) in inputs {
        let id = graph.add_value((*name).to_owned(), tensor.dtype(), tensor.shape());
        graph.inputs.push(id);
    }
    let operands: Vec<_> = graph.values.iter().collect();
    let types = super::infer(op, &operands)?;
    let arrays: Vec<Array> = inputs.iter().map(|(_, t)| Array::from_tensor(t)).collect::<Result<_>>()?;
    let arrays: Vec<&Array> = arrays.iter().collect();
    let names: Vec<&str> = inputs.iter().map(|(name, _)| *name).collect();
    check_memory(&types)?;
    let results = apply(op, &arrays, &names, &types, Precision::F32)?;
    results.iter().map(|array| array.to_tensor(Precision::F32)).collect()
}

/// Whether there is memory for results, which are computed in 64 bits.
fn check_memory(types: &Outputs) -> Result<()> {
    let bytes =
        types.iter().map(|(_, shape)| shape.iter().fold(8usize, |n, extent| n.saturating_mul(*extent)));
    budget::check(bytes.fold(0, usize::saturating_add))
}

fn check_inputs(graph: &Graph, inputs: &[Tensor], precision: Precision) -> Result<()> {
    if inputs.len() != graph.inputs.len() {
        let message = format!("{} inputs are needed, but {} given", graph.inputs.len(), inputs.len());
        return Err(Error::shape(message));
    }
    for (id, tensor) in graph.inputs.iter().zip(inputs) {
        let value = graph.value(*id);
        let both_float = value.dtype.is_float() && tensor.dtype().is_float();
        let fits = tensor.dtype() == value.dtype || (both_float && precision == Precision::F64);
        if !fits || tensor.shape() != value.shape {
            return Err(Error::shape(format!(
                "input '{}' is {}{:?}, but {}{:?} was given",
                value.name.escape_debug(),
                value.dtype,
                value.shape,
                tensor.dtype(),
                tensor.shape()
            )));
        }
    }
    Ok(())
}

/// For each value, the last node that reads it; outputs are needed to the end.
fn last_uses(graph: &Graph) -> Vec<usize> {
    let mut last = vec![usize::MAX; graph.values.len()];
    for (index, node) in graph.nodes.iter().enumerate() {
        for id in &node.inputs {
            last[id.0 as usize] = index;
        }
    }
    for id in &graph.outputs {
        last[id.0 as usize] = usize::MAX;
    }
    last
}

fn load(graph: &Graph, values: &[Option<Rc<Array>>], id: ValueId) -> Result<Rc<Array>> {
    if let Some(tensor) = graph.constant(id) {
        return Ok(Rc::new(Array::from_tensor(tensor)?));
    }
    values[id.0 as usize].clone().ok_or_else(|| Error::internal("a value is read after its last use"))
}

/// Applies an operation to operands of these names that inference has accepted; `types` is what it says of the
/// results.
fn apply(
    op: &Op,
    inputs: &[&Array],
    names: &[&str],
    types: &[(DType, Vec<usize>)],
    precision: Precision,
) -> Result<Vec<Array>> {
    let shapes: Vec<&[usize]> = types.iter().map(|(_, shape)| shape.as_slice()).collect();
    let results = compute(op, inputs, names, &shapes, precision)?;
    let computed = results.iter().map(|array| (array.dtype, array.shape()));
    if !computed.clone().eq(types.iter().map(|(dtype, shape)| (*dtype, shape.as_slice()))) {
        let computed: Vec<_> = computed.collect();
        return Err(Error::internal(format!("evaluation yields {computed:?}, but inference {types:?}")));
    }
    Ok(results.into_iter().map(|array| array.rounded(precision)).collect())
}

fn compute(
    op: &Op,
    inputs: &[&Array],
    names: &[&str],
    shapes: &[&[usize]],
    precision: Precision,
) -> Result<Vec<Array>> {
    let one = |array: Array| vec![array];
    Ok(match op {
        Op::Unary(unary) => one(elementwise::unary(*unary, inputs[0])),
        Op::Binary(binary) => one(elementwise::binary(*binary, inputs[0], inputs[1], shapes[0])),
        Op::Where => one(elementwise::select(inputs, shapes[0])),
        Op::Clip { min, max } => one(elementwise::clip(inputs[0], *min, *max)),
        Op::Cast { to } => one(elementwise::cast(inputs[0], *to, precision)),
        Op::Check { kind, low, high, input } => {
            one(elementwise::check(inputs[0], *kind, *low, *high, input)?)
        }
        Op::Dropout => one(inputs[0].clone()),
        Op::MatMul => one(contraction::matmul(inputs[0], inputs[1], shapes[0])),
        Op::Gemm { alpha, beta, trans_a, trans_b } => {
            one(contraction::gemm(inputs, *alpha, *beta, [*trans_a, *trans_b], shapes[0]))
        }
        Op::PackedMatMul { bits, block } => one(contraction::packed_matmul(inputs, *bits, *block, shapes[0])),
        Op::Conv { window, groups, format, pad_value } => {
            let conv = window::Conv { window, groups: *groups, format: *format, pad_value: *pad_value };
            one(conv.apply(inputs, shapes[0]))
        }
        Op::BiasAdd { axis } => one(elementwise::bias_add(inputs[0], inputs[1], *axis)),
        Op::BatchNorm { epsilon, format } => one(normalization::batch_norm(inputs, *epsilon, *format)),
        Op::LayerNorm { axis, epsilon } => one(normalization::layer_norm(inputs, *axis, *epsilon)),
        Op::RmsNorm { axis, epsilon } => one(normalization::rms_norm(inputs, *axis, *epsilon)),
        Op::InstanceNorm { epsilon, format } => {
            let channels = inputs[1].shape()[0];
            one(normalization::group_norm(inputs, channels, *epsilon, *format))
        }
        Op::GroupNorm { groups, epsilon, format } => {
            one(normalization::group_norm(inputs, *groups, *epsilon, *format))
        }
        Op::Softmax { axis } => one(normalization::softmax(inputs[0], *axis)),
        Op::LogSoftmax { axis } => one(normalization::log_softmax(inputs[0], *axis)),
        Op::Pool { kind, window, format, .. } => {
            one(window::pool(inputs[0], *kind, window, *format, shapes[0]))
        }
        Op::GlobalPool { kind, format } => one(window::global_pool(inputs[0], *kind, *format)),
        Op::Reduce { op, axes, keep_dims } => one(reduction::reduce(inputs[0], *op, axes, *keep_dims)),
        Op::ArgReduce { max, axis, keep_dims, last } => {
            one(reduction::arg_reduce(inputs[0], *max, *axis, *keep_dims, *last))
        }
        Op::Reshape { shape } => one(movement::reshape(inputs[0], shape)),
        Op::Transpose { perm } => one(movement::transpose(inputs[0], perm)),
        Op::Slice { starts, steps, .. } => one(movement::slice(inputs[0], starts, steps, shapes[0])),
        Op::Pad { begin, end, mode } => one(movement::pad(inputs[0], begin, end, *mode, shapes[0])),
        Op::Concat { axis } => one(movement::concat(inputs, *axis, shapes[0])),
        Op::Split { axis, sizes } => movement::split(inputs[0], *axis, sizes),
        Op::Gather { axis } => one(movement::gather(inputs[0], inputs[1], *axis, names[1])?),
        Op::Scatter { reduction } => one(movement::scatter(inputs, *reduction, names[1])?),
        Op::Expand { shape } => one(movement::expand(inputs[0], shape)),
        Op::Recurrent { kind, hidden, direction, activations, clip } => {
            recurrent::recurrent(inputs, *kind, *hidden, *direction, activations, *clip)
        }
        Op::PairwiseCoupling => one(classical::pairwise_coupling(inputs[0])),
        Op::DynamicQuantizeLstm { hidden, direction, activations, clip } => {
            dynamic_lstm::dynamic_quantize_lstm(inputs, *hidden, *direction, activations, *clip)
        }
    })
}

/// Both kinds of data treated by one generic expression.
macro_rules! map_data {
    ($array:expr, $data:ident => $body:expr) => {{
        let array = $array;
        let data = match &array.data {
            Data::Float($data) => Data::Float($body),
            Data::Int($data) => Data::Int($body),
        };
        Array { dtype: array.dtype, data }
    }};
}
use map_data;
