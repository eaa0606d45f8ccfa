//! Attention with the projections, masks and caches of ONNX Runtime's operators. Scores, softmax and products are those of
//! the ONNX operator.

use nestjit_ir::{CheckKind, DType};

use super::super::super::limit;
use super::super::attention::{heads, join_heads, scaled_products};
use super::super::gather::steps;
use super::cache::{inserted, with_past};
use super::{Halt, NodeCx, OpEntry, Result, contrib, extents, switch};
use crate::graph::{Binary, Op, ValueId};

pub(in super::super) const OPS: &[OpEntry] = &[
    contrib("Attention", attention).in_f32(&[0]),
    contrib("DecoderMaskedMultiHeadAttention", decoder_attention).in_f32(&[0]),
    contrib("MultiHeadAttention", multi_head_attention).in_f32(&[0]),
    contrib("PackedAttention", packed_attention).in_f32(&[0]),
];

/// Queries, keys and values, `[B, N, T, D]` each.
pub(in super::super) struct Heads {
    pub q: ValueId,
    pub k: ValueId,
    pub v: ValueId,
}

/// The attribute `num_heads`.
pub(in super::super) fn head_count(cx: &NodeCx<'_>, name: &'static str) -> Result<usize> {
    match cx.required_int(name)? {
        n if n > 0 => Ok(super::extent(n, name)?),
        n => Err(Halt::invalid(format!("{name} must be positive, but is {n}"))),
    }
}

/// The attribute `scale`, or that of heads of this size; 0 stands for it, too.
pub(in super::super) fn scale(cx: &NodeCx<'_>, head: usize) -> Result<f64> {
    Ok(match cx.float("scale", 0.0)? {
        0.0 => 1.0 / (head as f64).sqrt(),
        scale => scale,
    })
}

/// An error if an attribute that asks for something else than what is done is set.
pub(in super::super) fn expect_off(cx: &NodeCx<'_>, names: &[&'static str]) -> Result<()> {
    for name in names {
        let value = cx.int(name, 0)?;
        if value != 0 {
            return Err(Halt::unsupported(format!(
                "the attribute '{name}' is {value}, which is not supported"
            )));
        }
    }
    Ok(())
}

/// An error if an input is given for which nothing is done.
fn expect_absent(cx: &NodeCx<'_>, inputs: &[(usize, &str)]) -> Result<()> {
    match inputs.iter().find(|(input, _)| cx.optional(*input).is_some()) {
        Some((input, name)) => Err(Halt::unsupported(format!("the input {input} ({name}) is not supported"))),
        None => Ok(()),
    }
}

/// The parts `[B, T, H]` of a tensor whose last dimension consists of parts of these sizes.
fn parts(cx: &mut NodeCx<'_>, x: ValueId, sizes: [usize; 3]) -> Result<[ValueId; 3]> {
    let last = cx.rank(x) - 1;
    let mut start = 0;
    let mut results = [x; 3];
    for (result, size) in results.iter_mut().zip(sizes) {
        *result = cx.narrow(x, last, start, size)?;
        start += size;
    }
    Ok(results)
}

/// Of what a projection of `width` columns consists: queries, keys, values.
fn hidden_sizes(cx: &NodeCx<'_>, width: usize) -> Result<[usize; 3]> {
    let sizes = match cx.attributes.ints("qkv_hidden_sizes")? {
        Some(list) => extents(list, "qkv_hidden_sizes")?,
        None if width.is_multiple_of(3) => vec![width / 3; 3],
        None => {
            return Err(Halt::shape(format!("{width} columns of weights are no multiple of 3")));
        }
    };
    match <[usize; 3]>::try_from(sizes.as_slice()) {
        Ok(sizes) if sizes.iter().try_fold(0usize, |sum, n| sum.checked_add(*n)) == Some(width) => Ok(sizes),
        _ => Err(Halt::shape(format!(
            "qkv_hidden_sizes is {sizes:?}, but there are {width} columns of weights"
        ))),
    }
}

/// What masks add to scores `[B, N, Q, K]`.
pub(in super::super) struct Scores {
    /// The keys before that of the first query, if a query sees no key behind its own.
    pub causal: Option<usize>,
    /// What is added for a key that a mask hides.
    filter: f64,
    /// `mask_index`, and the number of its input.
    mask: Option<(ValueId, usize)>,
    /// What is added, too.
    bias: Option<ValueId>,
    /// The last key that is seen, `[B, 1, 1, 1]`, if it comes with the run.
    last: Option<ValueId>,
}

impl Scores {
    pub fn new(
        cx: &NodeCx<'_>,
        mask: Option<usize>,
        bias: Option<usize>,
        causal: Option<usize>,
    ) -> Result<Scores> {
        let filter = cx.float("mask_filter_value", -10000.0)?;
        let mask = mask.and_then(|input| Some((cx.optional(input)?, input)));
        let bias = bias.and_then(|input| cx.optional(input));
        Ok(Scores { causal, filter, mask, bias, last: None })
    }

    /// The attention of heads, `[B, T, N * D]`, and the scores before the softmax.
    pub fn attend(&self, cx: &mut NodeCx<'_>, heads: &Heads) -> Result<[ValueId; 2]> {
        let (q, k) = (cx.shape(heads.q), cx.shape(heads.k));
        let scale = scale(cx, q[3])?;
        let mut scores = scaled_products(cx, heads.q, heads.k, scale)?;
        let shape = cx.shape(scores);
        if shape != [q[0], q[1], q[2], k[2]] {
            return Err(Halt::shape(format!("keys of shape {k:?} do not fit queries of shape {q:?}")));
        }
        let v = cx.shape(heads.v);
        if v.len() != 4 || v[..3] != k[..3] {
            return Err(Halt::shape(format!("values of shape {v:?} do not fit keys of shape {k:?}")));
        }
        let seen = self.seen(cx, &shape)?;
        if let Some(bias) = self.bias {
            scores = cx.binary(Binary::Add, scores, bias)?;
        }
        for seen in seen {
            let (nothing, filter) = (cx.scalar_like(scores, 0.0), cx.scalar_like(scores, self.filter));
            let addend = cx.select(seen, nothing, filter)?;
            scores = cx.binary(Binary::Add, scores, addend)?;
        }
        if let Some(past) = self.causal.filter(|_| shape[2] > 1) {
            let (key, row) = (steps(cx, 4, 3, shape[3], 1)?, steps(cx, 4, 2, shape[2], 1)?);
            let last = cx.binary_const(Binary::Add, row, past as f64)?;
            let seen = cx.binary(Binary::Le, key, last)?;
            let hidden = cx.scalar_like(scores, f64::NEG_INFINITY);
            scores = cx.select(seen, scores, hidden)?;
        }
        if let Some(last) = self.last {
            let key = steps(cx, 4, 3, shape[3], 1)?;
            let seen = cx.binary(Binary::Le, key, last)?;
            let hidden = cx.scalar_like(scores, f64::NEG_INFINITY);
            scores = cx.select(seen, scores, hidden)?;
        }
        if cx.shape(scores) != shape {
            return Err(Halt::shape(format!("mask or bias do not broadcast to scores of shape {shape:?}")));
        }
        let weights = cx.add(Op::Softmax { axis: 3 }, &[scores])?;
        let y = cx.add(Op::MatMul, &[weights, heads.v])?;
        Ok([join_heads(cx, y)?, scores])
    }

    /// Which keys the mask shows; these broadcast to scores of this shape.
    fn seen(&self, cx: &mut NodeCx<'_>, scores: &[usize]) -> Result<Vec<ValueId>> {
        let Some((mask, input)) = self.mask else { return Ok(Vec::new()) };
        cx.expect_type(mask, |dtype| dtype == DType::I32, "i32")?;
        let (batch, queries, keys) = (scores[0], scores[2], scores[3]);
        let shape = cx.shape(mask);
        match shape[..] {
            [b, t] if (b, t) == (batch, keys) => {
                let mask = cx.reshape(mask, &[batch, 1, 1, keys])?;
                Ok(vec![cx.binary_const(Binary::Gt, mask, 0.0)?])
            }
            [b, s, t] if (b, s, t) == (batch, queries, keys) => {
                let mask = cx.reshape(mask, &[batch, 1, queries, keys])?;
                Ok(vec![cx.binary_const(Binary::Gt, mask, 0.0)?])
            }
            // The ends of sequences, and where they start.
            [n] if n == batch || n == 2 * batch => {
                let ends = cx.narrow(mask, 0, 0, batch)?;
                let mut seen = vec![self.compared(cx, Binary::Lt, ends, input, keys)?];
                if n == 2 * batch {
                    let starts = cx.narrow(mask, 0, batch, batch)?;
                    seen.push(self.compared(cx, Binary::Ge, starts, input, keys)?);
                }
                Ok(match seen[..] {
                    [ends, starts] => vec![cx.binary(Binary::And, ends, starts)?],
                    _ => seen,
                })
            }
            _ => Err(Halt::unsupported(format!(
                "a mask of shape {shape:?} is not supported for scores of shape {scores:?}"
            ))),
        }
    }

    /// Whether each key is at such a place compared with one place for each sequence.
    fn compared(
        &self,
        cx: &mut NodeCx<'_>,
        op: Binary,
        places: ValueId,
        input: usize,
        keys: usize,
    ) -> Result<ValueId> {
        let batch = cx.elements(places);
        let places = cx.checked(places, input, CheckKind::Length, 0, keys as i64 + 1)?;
        let places = cx.reshape(places, &[batch, 1, 1, 1])?;
        let key = steps(cx, 4, 3, keys, 1)?;
        cx.binary(op, key, places)
    }
}

/// Queries, keys and values of `x`, by weights and a bias that are side by side.
fn projected(
    cx: &mut NodeCx<'_>,
    x: ValueId,
    weight: ValueId,
    bias: Option<ValueId>,
) -> Result<[ValueId; 3]> {
    let [_, width] = cx.shape(weight)[..] else {
        let shape = cx.shape(weight);
        return Err(Halt::shape(format!("the weights must be a matrix, but their shape is {shape:?}")));
    };
    let sizes = hidden_sizes(cx, width)?;
    let mut y = cx.matmul(x, weight)?;
    if let Some(bias) = bias {
        if cx.shape(bias) != [width] {
            let shape = cx.shape(bias);
            return Err(Halt::shape(format!("the bias has the shape {shape:?}, but [{width}] is needed")));
        }
        y = cx.binary(Binary::Add, y, bias)?;
    }
    parts(cx, y, sizes)
}

/// Keys and values that follow on those of the input `past`, `[2, B, N, P, D]`, and both of them together.
pub(in super::super) fn cached(
    cx: &mut NodeCx<'_>,
    heads: &mut Heads,
    past: Option<ValueId>,
) -> Result<(usize, Option<ValueId>)> {
    let mut length = 0;
    if let Some(past) = past {
        let [2, b, n, p, d] = cx.shape(past)[..] else {
            let shape = cx.shape(past);
            return Err(Halt::shape(format!("the past must be [2, B, N, P, D], but its shape is {shape:?}")));
        };
        length = p;
        for (i, state) in [&mut heads.k, &mut heads.v].into_iter().enumerate() {
            let before = cx.narrow(past, 0, i, 1)?;
            let before = cx.reshape(before, &[b, n, p, d])?;
            *state = with_past(cx, before, *state)?;
        }
    }
    if !cx.wants(1) {
        return Ok((length, None));
    }
    let both = [cx.unsqueeze(heads.k, 0)?, cx.unsqueeze(heads.v, 0)?];
    Ok((length, Some(cx.concat(&both, 0)?)))
}

fn attention(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.expect_inputs(7)?;
    expect_off(cx, &["do_rotary", "past_present_share_buffer"])?;
    // Only a rotation asks for it.
    cx.attributes.ignore(&["rotary_embedding_dim"]);
    expect_absent(cx, &[(6, "past_sequence_length")])?;
    let (x, weight, bias) = (cx.input(0)?, cx.input(1)?, cx.optional(2));
    cx.expect_float(x)?;
    if cx.rank(x) != 3 {
        let shape = cx.shape(x);
        return Err(Halt::shape(format!("the input must be of rank 3, but its shape is {shape:?}")));
    }
    let qkv = projected(cx, x, weight, bias)?;
    self_attention(cx, qkv, Inputs { mask: Some(3), past: Some(4), bias: Some(5) })
}

/// The numbers of inputs that an operator has.
pub(in super::super) struct Inputs {
    /// Which keys are seen.
    pub mask: Option<usize>,
    /// Keys and values that were there before.
    pub past: Option<usize>,
    /// What is added to scores.
    pub bias: Option<usize>,
}

/// Attention of a sequence to itself and its past, from queries, keys and values `[B, T, H]`.
pub(in super::super) fn self_attention(
    cx: &mut NodeCx<'_>,
    [q, k, v]: [ValueId; 3],
    inputs: Inputs,
) -> Result<Vec<ValueId>> {
    let count = Some(head_count(cx, "num_heads")?);
    let mut all = Heads { q: heads(cx, q, count)?, k: heads(cx, k, count)?, v: heads(cx, v, count)? };
    let past = inputs.past.and_then(|input| cx.optional(input));
    let (length, present) = cached(cx, &mut all, past)?;
    let causal = switch(cx, "unidirectional")?.then_some(length);
    let [y, _] = Scores::new(cx, inputs.mask, inputs.bias, causal)?.attend(cx, &all)?;
    Ok([Some(y), present].into_iter().flatten().collect())
}

/// Part `i` of what is packed in the fourth dimension of `[B, T, N, parts, D]`, as `[B, N, T, D]`.
fn packed_part(cx: &mut NodeCx<'_>, x: ValueId, i: usize) -> Result<ValueId> {
    let [b, t, n, _, d] = cx.shape(x)[..] else { return Err(Halt::internal("packed heads of another rank")) };
    let part = cx.narrow(x, 3, i, 1)?;
    let part = cx.reshape(part, &[b, t, n, d])?;
    cx.transpose(part, &[0, 2, 1, 3])
}

/// Heads plus their part of a bias, which starts at `start`; and where the next part starts.
fn with_bias(cx: &mut NodeCx<'_>, x: ValueId, bias: ValueId, start: usize) -> Result<(ValueId, usize)> {
    let [_, n, _, d] = cx.shape(x)[..] else { return Err(Halt::internal("heads of another rank")) };
    let end = start + n * d;
    match cx.shape(bias)[..] {
        [width] if width >= end => {}
        ref shape => {
            return Err(Halt::shape(format!("a bias of shape {shape:?} is too small for {n} heads of {d}")));
        }
    }
    let part = cx.narrow(bias, 0, start, n * d)?;
    let part = cx.reshape(part, &[1, n, 1, d])?;
    Ok((cx.binary(Binary::Add, x, part)?, end))
}

/// The heads of queries, keys and values that are inputs 0 to 2 in any of their forms, with the bias that is added; and
/// whether keys and values come from elsewhere, as heads.
fn given_heads(cx: &mut NodeCx<'_>, bias: Option<ValueId>) -> Result<(Heads, bool)> {
    let n = head_count(cx, "num_heads")?;
    let (query, key, value) = (cx.input(0)?, cx.optional(1), cx.optional(2));
    cx.expect_float(query)?;
    let form = |x: Option<ValueId>| x.map(|x| cx.shape(x));
    let (of_query, of_key) = (cx.shape(query), form(key));
    let misfit = || {
        Halt::shape(format!(
            "query {of_query:?} and key {of_key:?} are in no form of queries and keys of {n} heads"
        ))
    };
    let crossed = of_key.as_ref().is_some_and(|shape| shape.len() == 4);
    let mut all = match (of_query.as_slice(), of_key.as_deref(), key, value) {
        ([_, _, own, 3, _], None, None, None) if *own == n => Heads {
            q: packed_part(cx, query, 0)?,
            k: packed_part(cx, query, 1)?,
            v: packed_part(cx, query, 2)?,
        },
        ([_, _, _], Some([_, _, own, 2, _]), Some(key), None) if *own == n => {
            Heads { q: heads(cx, query, Some(n))?, k: packed_part(cx, key, 0)?, v: packed_part(cx, key, 1)? }
        }
        ([_, _, _], Some([_, own, _, _]), Some(key), Some(value)) if *own == n => {
            Heads { q: heads(cx, query, Some(n))?, k: key, v: value }
        }
        ([_, _, _], Some([_, _, _]), Some(key), Some(value)) => Heads {
            q: heads(cx, query, Some(n))?,
            k: heads(cx, key, Some(n))?,
            v: heads(cx, value, Some(n))?,
        },
        _ => return Err(misfit()),
    };
    if let Some(bias) = bias {
        let (q, start) = with_bias(cx, all.q, bias, 0)?;
        all.q = q;
        if !crossed {
            let (k, start) = with_bias(cx, all.k, bias, start)?;
            all.k = k;
            (all.v, _) = with_bias(cx, all.v, bias, start)?;
        }
    }
    Ok((all, crossed))
}

fn multi_head_attention(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.expect_inputs(10)?;
    expect_absent(cx, &[(8, "past_sequence_length"), (9, "cache_indirection")])?;
    let bias = cx.optional(3);
    let (mut all, _) = given_heads(cx, bias)?;
    let mut length = 0;
    match (cx.optional(6), cx.optional(7)) {
        (Some(key), Some(value)) => {
            length = cx.shape(key).get(2).copied().unwrap_or(0);
            all.k = with_past(cx, key, all.k)?;
            all.v = with_past(cx, value, all.v)?;
        }
        (None, None) => {}
        _ => return Err(Halt::invalid("past_key and past_value must both be given")),
    }
    let causal = switch(cx, "unidirectional")?.then_some(length);
    let [y, scores] = Scores::new(cx, Some(4), Some(5), causal)?.attend(cx, &all)?;
    Ok(vec![y, all.k, all.v, scores])
}

/// One query for each sequence, and the keys up to its place.
fn decoder_attention(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.expect_inputs(11)?;
    // Whether there is a fourth result.
    cx.attributes.ignore(&["output_qk"]);
    expect_absent(cx, &[(9, "cache_indirection")])?;
    if let Some(beams) = cx.optional(8) {
        let beams = cx.known_int(beams, "beam_width")?;
        if beams != 1 {
            return Err(Halt::unsupported(format!("beam_width is {beams}, but only 1 is supported")));
        }
    }
    let bias = cx.optional(10);
    let (mut all, crossed) = given_heads(cx, bias)?;
    let shared = switch(cx, "past_present_share_buffer")?;
    let scores = Scores::new(cx, Some(3), Some(4), None)?;
    if let (false, Some(key), Some(value)) = (crossed, cx.optional(5), cx.optional(6)) {
        if shared {
            return decoder_with_buffer(cx, &all, scores, [key, value]);
        }
        (all.k, all.v) = (with_past(cx, key, all.k)?, with_past(cx, value, all.v)?);
    }
    let [y, products] = scores.attend(cx, &all)?;
    Ok(vec![y, all.k, all.v, products])
}

/// The same with buffers for all keys and values there will be, into which those of the query are put at a place that
/// comes with the run.
fn decoder_with_buffer(
    cx: &mut NodeCx<'_>,
    new: &Heads,
    mut scores: Scores,
    buffers: [ValueId; 2],
) -> Result<Vec<ValueId>> {
    let length = cx.input(7)?;
    if cx.elements(length) != 1 {
        return Err(Halt::shape("past_sequence_length must be one number"));
    }
    let shape = cx.shape(buffers[0]);
    let [batch, _, most, _] = shape[..] else {
        return Err(Halt::shape(format!("the past must be of rank 4, but its shape is {shape:?}")));
    };
    let place = cx.checked(length, 7, CheckKind::Position, 0, most as i64)?;
    let place = cx.reshape(place, &[1, 1, 1, 1])?;
    let place = cx.expand(place, &[batch, 1, 1, 1])?;
    let (k, v) = (inserted(cx, buffers[0], new.k, place)?, inserted(cx, buffers[1], new.v, place)?);
    // A mask or bias says how many keys there are; otherwise those behind the place are hidden.
    let columns = [scores.mask.map(|(x, _)| x), scores.bias].into_iter().flatten();
    let columns = columns.filter(|x| cx.rank(*x) > 1).filter_map(|x| cx.shape(x).last().copied()).max();
    let keys = columns.unwrap_or(most).min(most);
    scores.last = Some(place);
    let all = Heads { q: new.q, k: cx.narrow(k, 2, 0, keys)?, v: cx.narrow(v, 2, 0, keys)? };
    let [y, products] = scores.attend(cx, &all)?;
    Ok(vec![y, k, v, products])
}

/// Attention of sequences that lie one behind the other, without padding.
fn packed_attention(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.expect_inputs(6)?;
    let (x, weight, bias) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let (offsets, ends) = (cx.input(3)?, cx.input(4)?);
    cx.expect_float(x)?;
    let (&[tokens, _], &[batch, length]) = (&cx.shape(x)[..], &cx.shape(offsets)[..]) else {
        return Err(Halt::shape(format!(
            "input and token_offset must be matrices, but their shapes are {:?} and {:?}",
            cx.shape(x),
            cx.shape(offsets)
        )));
    };
    let places = limit::product(&[batch, length])?;
    if tokens > places || cx.shape(ends) != [batch + 1] {
        return Err(Halt::shape(format!("{tokens} tokens do not fit {batch} sequences of {length}")));
    }
    // Where each token is in sequences of one length.
    let offsets = cx.checked(offsets, 3, CheckKind::Position, 0, places as i64)?;
    let offsets = cx.reshape(offsets, &[places])?;
    let offsets = cx.narrow(offsets, 0, 0, tokens)?;
    let qkv = projected(cx, x, weight, Some(bias))?;
    let count = Some(head_count(cx, "num_heads")?);
    let mut spread = Vec::new();
    for part in qkv {
        let width = cx.shape(part)[1];
        let zero = cx.scalar_like(part, 0.0);
        let empty = cx.expand(zero, &[places, width])?;
        let rows = cx.add(Op::Scatter { reduction: None }, &[empty, offsets, part])?;
        let rows = cx.reshape(rows, &[batch, length, width])?;
        spread.push(heads(cx, rows, count)?);
    }
    let all = Heads { q: spread[0], k: spread[1], v: spread[2] };
    // The lengths of sequences, as a mask.
    let ends = cx.checked(ends, 4, CheckKind::Position, 0, tokens as i64 + 1)?;
    let (from, to) = (cx.narrow(ends, 0, 0, batch)?, cx.narrow(ends, 0, 1, batch)?);
    let lengths = cx.binary(Binary::Sub, to, from)?;
    let lengths = cx.cast(lengths, DType::I32)?;
    let scores =
        Scores { causal: None, filter: -10000.0, mask: Some((lengths, 4)), bias: cx.optional(5), last: None };
    let [y, _] = scores.attend(cx, &all)?;
    let width = cx.shape(y)[2];
    let rows = cx.reshape(y, &[places, width])?;
    Ok(vec![cx.gather(rows, offsets, 0)?])
}
