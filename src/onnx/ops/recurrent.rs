//! Recurrent layers.

use nestjit_ir::CheckKind;

use super::dynamic_lstm::{DynamicWeights, rounded_sequence};
use super::unrolled::{Layer, Weights};
use super::{Halt, NodeCx, OpEntry, Result, contrib, extent, ints, op};
use crate::graph::{Direction, Op, RecurrentKind, Unary, ValueId};
use crate::tensor::Tensor;

pub(super) const OPS: &[OpEntry] = &[
    contrib("DynamicQuantizeLSTM", |cx| {
        let (x, weights) = (cx.input(0)?, Weights::Bytes(DynamicWeights::read(cx)?));
        layer_of(cx, RecurrentKind::Lstm, x, weights)
    }),
    op("GRU", 7, |cx| {
        let linear_before_reset = cx.flag("linear_before_reset", false)?;
        layer(cx, RecurrentKind::Gru { linear_before_reset })
    })
    .in_f32(&[0]),
    op("LSTM", 7, |cx| layer(cx, RecurrentKind::Lstm)).in_f32(&[0]),
    op("RNN", 7, |cx| layer(cx, RecurrentKind::Rnn)).in_f32(&[0]),
];

fn layer(cx: &mut NodeCx<'_>, kind: RecurrentKind) -> Result<Vec<ValueId>> {
    let (x, weights) = (cx.input(0)?, Weights::Floats { w: cx.input(1)?, r: cx.input(2)? });
    layer_of(cx, kind, x, weights)
}

/// A layer of the sequence and the weights; its other operands are the node's.
fn layer_of(
    cx: &mut NodeCx<'_>,
    kind: RecurrentKind,
    mut x: ValueId,
    weights: Weights,
) -> Result<Vec<ValueId>> {
    let lstm = kind == RecurrentKind::Lstm;
    let batch_first = cx.flag("layout", false)?;
    let direction = match cx.string("direction", "forward")? {
        "forward" => Direction::Forward,
        "reverse" => Direction::Reverse,
        "bidirectional" => Direction::Bidirectional,
        other => return Err(Halt::invalid(format!("there is no direction '{}'", other.escape_debug()))),
    };
    let activations = activations(cx, kind, direction.count())?;
    let clip = cx.attributes.float("clip")?.filter(|c| *c != 0.0);
    let input_forget = lstm && cx.flag("input_forget", false)?;
    if batch_first {
        x = cx.transpose(x, &[1, 0, 2])?;
    }
    let [steps, batch, _] = cx.shape(x)[..] else {
        return Err(Halt::shape(format!("the sequence must be of rank 3, not {:?}", cx.shape(x))));
    };
    let [directions, _, hidden] = weights.recurrent_shape(cx)[..] else {
        let shape = weights.recurrent_shape(cx);
        return Err(Halt::shape(format!("the recurrent weight must be of rank 3, not {shape:?}")));
    };
    let declared = cx.attributes.int("hidden_size")?;
    if let Some(declared) = declared
        && extent(declared, "hidden_size")? != hidden
    {
        return Err(Halt::invalid(format!("hidden_size is {declared}, but the weights are for {hidden}")));
    }
    let mut lengths = cx.optional(4);
    if let Some(given) = lengths {
        if cx.shape(given) != [batch] {
            return Err(Halt::shape(format!(
                "lengths of shape {:?} do not fit {batch} sequences",
                cx.shape(given)
            )));
        }
        let full = |t: &Tensor| ints(t, "the lengths").is_ok_and(|l| l.iter().all(|n| *n == steps as i64));
        lengths = match cx.constant_of(given).is_some_and(full) {
            true => None,
            false => {
                let given = cx.checked(given, 4, CheckKind::Length, 0, steps as i64 + 1)?;
                Some(cx.reshape(given, &[batch, 1])?)
            }
        };
    }
    if matches!(weights, Weights::Bytes(_)) {
        x = rounded_sequence(cx, x, lengths)?;
    }
    let peepholes = cx.optional(7).filter(|_| lstm);
    let state = |cx: &mut NodeCx<'_>, index: usize| match cx.optional(index) {
        Some(state) if batch_first => cx.transpose(state, &[1, 0, 2]).map(Some),
        state => Ok(state),
    };
    let initial_h = state(cx, 5)?;
    let initial_c = if lstm { state(cx, 6)? } else { None };
    let bias = cx.optional(3);
    let layer = Layer {
        kind,
        hidden,
        direction,
        activations,
        clip,
        input_forget,
        x,
        weights,
        bias,
        lengths,
        initial_h,
        initial_c,
        peepholes,
    };
    let unrolled = lengths.is_some() || peepholes.is_some() || input_forget;
    // Operands come in order: those before one that is given must be there.
    let state_shape = [directions, batch, hidden];
    let states = if lstm { vec![initial_h, initial_c] } else { vec![initial_h] };
    let any_state = states.iter().any(Option::is_some);
    let states = |cx: &mut NodeCx<'_>, inputs: &mut Vec<ValueId>| {
        for state in states.iter().filter(|_| any_state) {
            inputs.push(match state {
                Some(state) => *state,
                None => zeros(cx, x, &state_shape)?,
            });
        }
        Ok::<_, Halt>(())
    };
    let mut results = match &layer.weights {
        _ if unrolled => {
            layer.check(cx)?;
            layer.import(cx)?
        }
        Weights::Floats { w, r } => {
            let mut inputs = vec![x, *w, *r];
            let bias_shape = [directions, 2 * kind.gates() * hidden];
            match bias {
                Some(bias) => inputs.push(bias),
                None if any_state => inputs.push(zeros(cx, x, &bias_shape)?),
                None => {}
            }
            states(cx, &mut inputs)?;
            let activations = layer.activations.clone();
            cx.add_all(Op::Recurrent { kind, hidden, direction, activations, clip }, &inputs)?
        }
        Weights::Bytes(weights) => {
            layer.check(cx)?;
            let mut inputs = vec![layer.projected(cx)?];
            inputs.extend(weights.recurrent(cx)?);
            states(cx, &mut inputs)?;
            let activations = layer.activations.clone();
            cx.add_all(Op::DynamicQuantizeLstm { hidden, direction, activations, clip }, &inputs)?
        }
    };
    // `[T, D, B, H]` as ONNX has it; batch-first it is `[B, T, D, H]`, and states `[B, D, H]`.
    if batch_first {
        for (i, result) in results.iter_mut().enumerate() {
            *result = cx.transpose(*result, if i == 0 { &[2, 0, 1, 3] } else { &[1, 0, 2] })?;
        }
    }
    Ok(results)
}

fn zeros(cx: &mut NodeCx<'_>, like: ValueId, shape: &[usize]) -> Result<ValueId> {
    let zero = cx.scalar_like(like, 0.0);
    cx.expand(zero, shape)
}

/// The activations of each direction, in order.
fn activations(cx: &NodeCx<'_>, kind: RecurrentKind, directions: usize) -> Result<Vec<Unary>> {
    let defaults: &[Unary] = match kind {
        RecurrentKind::Rnn => &[Unary::Tanh],
        RecurrentKind::Lstm => &[Unary::Sigmoid, Unary::Tanh, Unary::Tanh],
        RecurrentKind::Gru { .. } => &[Unary::Sigmoid, Unary::Tanh],
    };
    let alphas = cx.attributes.floats("activation_alpha")?.unwrap_or_default();
    let betas = cx.attributes.floats("activation_beta")?.unwrap_or_default();
    let Some(names) = cx.attributes.strings("activations")? else {
        return Ok(defaults.repeat(directions));
    };
    // The default of RNN, written out, is for both directions, whether there are two or not.
    let needed = defaults.len() * directions;
    let names = match kind {
        RecurrentKind::Rnn => &names[..names.len().min(needed)],
        RecurrentKind::Lstm | RecurrentKind::Gru { .. } => &names[..],
    };
    // Parameters are listed for those functions that have any.
    let (mut alphas, mut betas) = (alphas.into_iter(), betas.into_iter());
    names
        .iter()
        .map(|name| {
            let mut alpha = |default: f64| alphas.next().unwrap_or(f64::from(default as f32));
            Ok(match name.to_ascii_lowercase().as_str() {
                "relu" => Unary::Relu,
                "tanh" => Unary::Tanh,
                "sigmoid" => Unary::Sigmoid,
                "softsign" => Unary::Softsign,
                "softplus" => Unary::Softplus,
                "leakyrelu" => Unary::LeakyRelu { alpha: alpha(0.01) },
                "thresholdedrelu" => Unary::ThresholdedRelu { alpha: alpha(1.0) },
                "elu" => Unary::Elu { alpha: alpha(1.0) },
                "hardsigmoid" => Unary::HardSigmoid { alpha: alpha(0.2), beta: betas.next().unwrap_or(0.5) },
                "affine" => Unary::Affine { alpha: alpha(1.0), beta: betas.next().unwrap_or(0.0) },
                "scaledtanh" => Unary::ScaledTanh { alpha: alpha(1.0), beta: betas.next().unwrap_or(1.0) },
                _ => {
                    let name = name.escape_debug();
                    return Err(Halt::unsupported(format!("the activation '{name}' is not supported")));
                }
            })
        })
        .collect()
}
