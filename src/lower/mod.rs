//! Lowering: every operation of a [`Graph`] becomes one or more plain loop nests.
//!
//! A plain nest is a perfect nest of serial loops over the result, row-major, with one store (and, for what
//! sums up, a rank-0 accumulator) inside; operations that need several steps become several nests with
//! intermediate buffers. Nothing here is clever: merging, tiling and simplifying is what passes do.

mod activation;
mod context;
mod contraction;
mod conv;
mod coupling;
mod dynamic_lstm;
mod elementwise;
mod halves;
mod image;
mod movement;
mod norm;
mod operand;
mod packed;
mod pad;
mod recurrent;
mod reduce;
mod reshape;
mod softmax;
mod window;

use crate::error::{Error, Result};
use crate::graph::{Graph, Op, RecurrentKind};
use crate::unit::Unit;

use context::{Context, Lowering};

/// Turns a graph into nests, together with its constants and its interface.
///
/// Nodes whose results nobody needs give no nest, and constants that nobody reads no buffer.
///
/// # Errors
/// What [`Graph::validate`] objects to, and [`crate::ErrorKind::Limit`] if an intermediate result cannot be
/// addressed; with the node at fault.
pub fn lower(graph: &Graph) -> Result<Unit> {
    graph.validate()?;
    let mut lowering = Lowering::new(graph)?;
    for node in &graph.nodes {
        let (place, op) = graph.place(node);
        let here = |e: Error| e.at(place, op);
        if node.outputs.iter().any(|v| lowering.is_used(*v)) {
            self::node(&mut Context::new(&mut lowering, node)).map_err(here)?;
        }
    }
    lowering.finish()
}

fn node(cx: &mut Context<'_, '_>) -> Result<()> {
    if cx.fill_empty_results()? {
        return Ok(());
    }
    let node = cx.node();
    match &node.op {
        Op::Unary(op) => elementwise::unary(cx, *op),
        Op::Binary(op) => elementwise::binary(cx, *op),
        Op::Where => elementwise::select(cx),
        Op::Clip { min, max } => elementwise::clip(cx, *min, *max),
        Op::Cast { to } => elementwise::cast(cx, *to),
        Op::Check { kind, low, high, input } => elementwise::check(cx, *kind, *low, *high, input),
        Op::Dropout => elementwise::copy(cx),
        Op::Expand { .. } => elementwise::copy(cx),
        Op::BiasAdd { axis } => elementwise::bias_add(cx, *axis),
        Op::BatchNorm { epsilon, format } => norm::batch_norm(cx, *epsilon, *format),
        Op::MatMul => contraction::matmul(cx),
        Op::Gemm { alpha, beta, trans_a, trans_b } => {
            contraction::gemm(cx, *alpha, *beta, *trans_a, *trans_b)
        }
        Op::PackedMatMul { bits, block } => packed::matmul(cx, *bits, *block),
        Op::Conv { window, groups, format, pad_value } => {
            conv::conv(cx, window, *groups, *format, *pad_value)
        }
        Op::LayerNorm { axis, epsilon } => norm::layer_norm(cx, *axis, *epsilon),
        Op::RmsNorm { axis, epsilon } => norm::rms_norm(cx, *axis, *epsilon),
        Op::InstanceNorm { epsilon, format } => norm::instance_norm(cx, *epsilon, *format),
        Op::GroupNorm { groups, epsilon, format } => norm::group_norm(cx, *groups, *epsilon, *format),
        Op::Softmax { axis } => softmax::softmax(cx, *axis),
        Op::LogSoftmax { axis } => softmax::log_softmax(cx, *axis),
        Op::Pool { kind, window, format, .. } => window::pool(cx, *kind, window, *format),
        Op::GlobalPool { kind, format } => window::global_pool(cx, *kind, *format),
        Op::Reduce { op, axes, keep_dims } => reduce::reduce(cx, *op, axes, *keep_dims),
        Op::ArgReduce { max, axis, keep_dims, last } => {
            reduce::arg_reduce(cx, *max, *axis, *keep_dims, *last)
        }
        Op::Reshape { .. } => reshape::reshape(cx),
        Op::Transpose { perm } => movement::transpose(cx, perm),
        Op::Slice { starts, steps, .. } => movement::slice(cx, starts, steps),
        Op::Pad { begin, end, mode } => pad::pad(cx, begin, end, *mode),
        Op::Concat { axis } => movement::concat(cx, *axis),
        Op::Split { axis, sizes } => movement::split(cx, *axis, sizes),
        Op::Gather { axis } => movement::gather(cx, *axis),
        Op::Scatter { reduction } => movement::scatter(cx, *reduction),
        Op::Recurrent { kind, hidden, direction, activations, clip } => {
            let layer = recurrent::Layer {
                kind: *kind,
                hidden: *hidden,
                direction: *direction,
                activations,
                clip: *clip,
            };
            recurrent::recurrent(cx, &layer)
        }
        Op::PairwiseCoupling => coupling::pairwise_coupling(cx),
        Op::DynamicQuantizeLstm { hidden, direction, activations, clip } => {
            let layer = recurrent::Layer {
                kind: RecurrentKind::Lstm,
                hidden: *hidden,
                direction: *direction,
                activations,
                clip: *clip,
            };
            recurrent::dynamic_quantize_lstm(cx, &layer)
        }
    }
}

#[cfg(test)]
mod tests;
