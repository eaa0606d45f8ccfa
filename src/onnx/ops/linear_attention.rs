//! Attention without a softmax, whose state is a matrix; and the convolution that goes with it.

use super::attention::{heads, join_heads, repeat_heads};
use super::{Halt, NodeCx, OpEntry, Result, extent, op};
use crate::graph::{Binary, Format, Op, Unary, ValueId, Window};

pub(super) const OPS: &[OpEntry] = &[
    op("CausalConvWithState", 27, causal_conv).in_f32(&[0]).changing(),
    op("LinearAttention", 27, linear_attention).in_f32(&[0, 3]).changing(),
];

/// The longest sequence that is unrolled.
const STEPS: usize = 10_000;

/// Step by step: the state decays, takes in `key * value`, and is read by the query.
fn linear_attention(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    // A hint.
    cx.attributes.ignore(&["chunk_size"]);
    let [q, k, v] = [cx.input(0)?, cx.input(1)?, cx.input(2)?];
    cx.expect_float(q)?;
    let q_heads = extent(cx.required_int("q_num_heads")?, "q_num_heads")?;
    let kv_heads = extent(cx.required_int("kv_num_heads")?, "kv_num_heads")?;
    let (gated, delta) = match cx.string("update_rule", "gated_delta")? {
        "linear" => (false, false),
        "gated" => (true, false),
        "delta" => (false, true),
        "gated_delta" => (true, true),
        other => return Err(Halt::invalid(format!("there is no update rule '{}'", other.escape_debug()))),
    };
    if kv_heads == 0 || !q_heads.is_multiple_of(kv_heads) {
        return Err(Halt::invalid(format!(
            "{q_heads} heads of queries are no multiple of {kv_heads} heads of keys"
        )));
    }
    let (q, k, v) =
        (heads(cx, q, Some(q_heads))?, heads(cx, k, Some(kv_heads))?, heads(cx, v, Some(kv_heads))?);
    let [b, _, t, d_k] = cx.shape(q)[..] else { return Err(Halt::internal("heads of another rank")) };
    let d_v = cx.shape(v)[3];
    if t > STEPS {
        return Err(Halt::limit(format!("there are {t} steps, but at most {STEPS} are unrolled")));
    }
    let per_head = |cx: &mut NodeCx<'_>, x: Option<ValueId>, what: &str| {
        let x = x.ok_or_else(|| Halt::invalid(format!("the input '{what}' is missing")))?;
        let count = cx.shape(x).last().copied().unwrap_or(0);
        // One number per head (or for all heads), or one per head and key dimension.
        heads(cx, x, Some(if count == 1 { 1 } else { kv_heads }))
    };
    let decay = match gated {
        true => {
            let decay = per_head(cx, cx.optional(4), "decay")?;
            Some(cx.unary(Unary::Exp, decay)?)
        }
        false => None,
    };
    let beta = match delta {
        true => Some(per_head(cx, cx.optional(5), "beta")?),
        false => None,
    };
    let scale = cx.attributes.float("scale")?.filter(|s| *s != 0.0).unwrap_or(1.0 / (d_k as f64).sqrt());
    let mut state = match cx.optional(3) {
        Some(past) => past,
        None => {
            let zero = cx.scalar_like(q, 0.0);
            cx.expand(zero, &[b, kv_heads, d_k, d_v])?
        }
    };
    let mut outputs = Vec::with_capacity(t);
    for i in 0..t {
        // Rows [B, H, 1, D]; as columns [B, H, D, 1].
        let row = |cx: &mut NodeCx<'_>, x| cx.narrow(x, 2, i, 1);
        let column = |cx: &mut NodeCx<'_>, x| cx.transpose(x, &[0, 1, 3, 2]);
        let (q, k, mut v) = (row(cx, q)?, row(cx, k)?, row(cx, v)?);
        if let Some(decay) = decay {
            let factor = row(cx, decay)?;
            let factor = column(cx, factor)?;
            state = cx.binary(Binary::Mul, state, factor)?;
        }
        if let Some(beta) = beta {
            let known = cx.add(Op::MatMul, &[k, state])?;
            let new = cx.binary(Binary::Sub, v, known)?;
            let beta = row(cx, beta)?;
            v = cx.binary(Binary::Mul, beta, new)?;
        }
        let k = column(cx, k)?;
        let product = cx.binary(Binary::Mul, k, v)?;
        state = cx.binary(Binary::Add, state, product)?;
        let read = match q_heads == kv_heads {
            true => state,
            false => repeat_heads(cx, state, q_heads / kv_heads)?,
        };
        let y = cx.add(Op::MatMul, &[q, read])?;
        outputs.push(cx.binary_const(Binary::Mul, y, scale)?);
    }
    if outputs.is_empty() {
        return Err(Halt::unsupported("a sequence without a step is not supported"));
    }
    let y = cx.concat(&outputs, 2)?;
    Ok(vec![join_heads(cx, y)?, state])
}

fn causal_conv(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let (x, weight) = (cx.input(0)?, cx.input(1)?);
    cx.expect_float(x)?;
    let ([b, c, _], [_, _, k]) = (&cx.shape(x)[..], &cx.shape(weight)[..]) else {
        return Err(Halt::shape(format!("{:?} and {:?} are not of rank 3", cx.shape(x), cx.shape(weight))));
    };
    let (b, c, k) = (*b, *c, *k);
    if k == 0 {
        return Err(Halt::shape("the kernel is empty"));
    }
    let past = match cx.optional(3) {
        Some(past) => past,
        None => {
            let zero = cx.scalar_like(x, 0.0);
            cx.expand(zero, &[b, c, k - 1])?
        }
    };
    let padded = if k > 1 { cx.concat(&[past, x], 2)? } else { x };
    let window = Window {
        kernel: vec![k],
        strides: vec![1],
        dilations: vec![1],
        pads_begin: vec![0],
        pads_end: vec![0],
    };
    let mut inputs = vec![padded, weight];
    inputs.extend(cx.optional(2));
    let mut y =
        cx.add(Op::Conv { window, groups: c, format: Format::ChannelsFirst, pad_value: 0 }, &inputs)?;
    y = match cx.string("activation", "none")? {
        "none" => y,
        "silu" | "swish" => cx.unary(Unary::Silu, y)?,
        other => return Err(Halt::invalid(format!("there is no activation '{}'", other.escape_debug()))),
    };
    let length = cx.shape(padded)[2];
    let present = cx.narrow(padded, 2, length - (k - 1), k - 1)?;
    Ok(vec![y, present])
}
