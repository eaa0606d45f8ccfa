//! Attention of groups of heads that share keys and values, which a cache has.

use nestjit_ir::CheckKind;

use super::super::attention::turned;
use super::super::attention::{capped, heads, join_heads, repeat_heads, scaled_products};
use super::super::gather::steps;
use super::attention::{Heads, expect_off, head_count, scale};
use super::cache::{inserted, per_sequence};
use super::position::angles;
use super::{Halt, NodeCx, OpEntry, Result, contrib, extent, normalized, switch};
use crate::graph::{Binary, Op, PadMode, Reduction, Unary, ValueId};

pub(in super::super) const OPS: &[OpEntry] =
    &[contrib("GroupQueryAttention", group_query_attention).in_f32(&[0])];

/// Where the tokens of a call are.
struct Places {
    /// How many tokens each sequence has at most, with those that are in the cache.
    total: usize,
    /// How many tokens each sequence has with these, less 1: `i64[B, 1, 1, 1]`.
    last: ValueId,
    /// Where the first token of each sequence is, `i64[B, 1, 1, 1]`, unless it is the first of all.
    first: Option<ValueId>,
}

impl Places {
    fn new(cx: &mut NodeCx<'_>, batch: usize, length: usize) -> Result<Places> {
        let (lengths, total) = (cx.input(5)?, cx.input(6)?);
        let total = extent(cx.known_int(total, "total_sequence_length")?, "total_sequence_length")?;
        if total < length {
            return Err(Halt::invalid(format!(
                "total_sequence_length is {total}, but there are {length} tokens"
            )));
        }
        let is_prompt = total == length;
        let least = if is_prompt { 0 } else { length.saturating_sub(1) };
        let last = cx.checked(lengths, 5, CheckKind::Position, least as i64, total as i64)?;
        let last = per_sequence(cx, last, batch)?;
        let first = match is_prompt {
            true => None,
            false => Some(cx.binary_const(Binary::Sub, last, length as f64 - 1.0)?),
        };
        Ok(Places { total, last, first })
    }

    /// The place of each token along dimension `d` of a tensor of this rank: `[B, ..]`, or `[1, ..]`.
    fn of_tokens(&self, cx: &mut NodeCx<'_>, rank: usize, d: usize, length: usize) -> Result<ValueId> {
        let row = steps(cx, rank, d, length, 1)?;
        let Some(first) = self.first else { return Ok(row) };
        let mut shape = vec![1; rank];
        shape[0] = cx.shape(first)[0];
        let first = cx.reshape(first, &shape)?;
        cx.binary(Binary::Add, row, first)
    }

    /// A cache after the call: what was in it, and what is new.
    fn present(&self, cx: &mut NodeCx<'_>, past: Option<ValueId>, new: ValueId) -> Result<ValueId> {
        let shape = cx.shape(new);
        let before = match past {
            Some(past) if cx.rank(past) != 4 => {
                let shape = cx.shape(past);
                return Err(Halt::shape(format!("the past must be of rank 4, but its shape is {shape:?}")));
            }
            Some(past) => cx.shape(past)[2],
            None => 0,
        };
        let rows = before.max(self.total);
        let Some(first) = self.first else { return padded(cx, new, rows - shape[2]) };
        let Some(past) = past else {
            return Err(Halt::invalid(format!(
                "there are {} tokens before these, but no past",
                self.total - shape[2]
            )));
        };
        let buffer = padded(cx, past, rows - before)?;
        inserted(cx, buffer, new, first)
    }
}

/// Rows of zeros behind those of `[B, N, T, D]`.
fn padded(cx: &mut NodeCx<'_>, x: ValueId, rows: usize) -> Result<ValueId> {
    if rows == 0 {
        return Ok(x);
    }
    let (begin, end) = (vec![0; 4], vec![0, 0, rows as i64, 0]);
    cx.add(Op::Pad { begin, end, mode: PadMode::Constant(0.0) }, &[x])
}

/// Queries, keys and values of inputs 0 to 2, or of input 0 alone.
fn given(cx: &mut NodeCx<'_>, n: usize, groups: usize) -> Result<Heads> {
    let query = cx.input(0)?;
    cx.expect_float(query)?;
    match (cx.optional(1), cx.optional(2)) {
        (Some(key), Some(value)) => {
            let (k, v) = (heads(cx, key, Some(groups))?, heads(cx, value, Some(groups))?);
            Ok(Heads { q: heads(cx, query, Some(n))?, k, v })
        }
        (None, None) => {
            let shape = cx.shape(query);
            let all = n + 2 * groups;
            let [_, _, width] = shape[..] else {
                return Err(Halt::shape(format!("the query must be of rank 3, but its shape is {shape:?}")));
            };
            if !width.is_multiple_of(all) {
                return Err(Halt::shape(format!("{width} elements cannot be divided into {all} heads")));
            }
            let all = heads(cx, query, Some(all))?;
            let (q, k) = (cx.narrow(all, 1, 0, n)?, cx.narrow(all, 1, n, groups)?);
            Ok(Heads { q, k, v: cx.narrow(all, 1, n + groups, groups)? })
        }
        _ => Err(Halt::invalid("key and value must both be given")),
    }
}

/// Each head of queries and keys divided by the root of its mean square, if there are weights for that.
fn normalised(cx: &mut NodeCx<'_>, all: &mut Heads) -> Result<()> {
    let both = cx.float("qk_norm_epsilon", 1e-6f32.into())?;
    let sides = [(&mut all.q, 14, "q_norm_epsilon"), (&mut all.k, 15, "k_norm_epsilon")];
    for (side, weight, own) in sides {
        let epsilon = cx.attributes.float(own)?.unwrap_or(both);
        if let Some(weight) = cx.optional(weight) {
            *side = normalized(cx, Op::RmsNorm { axis: 3, epsilon }, 3, *side, weight, None)?;
        }
    }
    Ok(())
}

/// Queries and new keys turned by where they are.
fn rotated(cx: &mut NodeCx<'_>, all: &mut Heads, places: &Places) -> Result<()> {
    let interleaved = switch(cx, "rotary_interleaved")?;
    let given = cx.optional(9);
    if !switch(cx, "do_rotary")? {
        return Ok(());
    }
    let tables = [cx.input(7)?, cx.input(8)?];
    let [b, _, t, d] = cx.shape(all.q)[..] else { return Err(Halt::internal("heads of another rank")) };
    let most = cx.shape(tables[0]).first().copied().unwrap_or(0);
    let positions = match given {
        Some(given) if cx.shape(given) == [b, t] => {
            cx.checked(given, 9, CheckKind::Position, 0, most as i64)?
        }
        Some(given) => {
            let shape = cx.shape(given);
            return Err(Halt::shape(format!("positions of shape {shape:?} do not fit {b} sequences of {t}")));
        }
        None if places.total > most => {
            return Err(Halt::shape(format!(
                "there are {} positions, but {most} rows of angles",
                places.total
            )));
        }
        None => places.of_tokens(cx, 2, 1, t)?,
    };
    let angles = angles(cx, tables, positions, d)?;
    all.q = turned(cx, all.q, angles, interleaved)?;
    all.k = turned(cx, all.k, angles, interleaved)?;
    Ok(())
}

/// Scores `[B, N, Q, K]` in which what a query does not see is minus infinity.
fn hidden(cx: &mut NodeCx<'_>, scores: ValueId, places: &Places) -> Result<ValueId> {
    let shape = cx.shape(scores);
    let key = steps(cx, 4, 3, shape[3], 1)?;
    let causal = cx.flag("causal", true)?;
    let window = match cx.int("local_window_size", -1)? {
        -1 => None,
        window if window > 0 && causal => Some(window),
        window => {
            return Err(Halt::invalid(format!(
                "local_window_size is {window}, but must be -1, or positive in causal attention"
            )));
        }
    };
    let nothing = cx.scalar_like(scores, f64::NEG_INFINITY);
    if !causal {
        let seen = cx.binary(Binary::Le, key, places.last)?;
        return cx.select(seen, scores, nothing);
    }
    let own = places.of_tokens(cx, 4, 2, shape[2])?;
    // Keys behind the last one of a sequence are padding, which in a prompt not only other sequences have.
    let last = if places.first.is_none() { cx.binary(Binary::Min, own, places.last)? } else { own };
    let mut seen = cx.binary(Binary::Le, key, last)?;
    if let Some(window) = window {
        let before = cx.binary_const(Binary::Sub, own, window as f64)?;
        let near = cx.binary(Binary::Gt, key, before)?;
        seen = cx.binary(Binary::And, seen, near)?;
    }
    cx.select(seen, scores, nothing)
}

/// Softmax along the keys, with one more score for each head that takes its share of the weights, if there is one.
fn weights(cx: &mut NodeCx<'_>, scores: ValueId) -> Result<ValueId> {
    let smooth = cx.int("smooth_softmax", -1)? > 0;
    let sink = match cx.optional(11) {
        Some(sink) => {
            let heads = cx.shape(scores)[1];
            if cx.shape(sink) != [heads] {
                let shape = cx.shape(sink);
                return Err(Halt::shape(format!("head_sink has the shape {shape:?}, not [{heads}]")));
            }
            cx.reshape(sink, &[1, heads, 1, 1])?
        }
        None if smooth => cx.scalar_like(scores, 0.0),
        None => return cx.add(Op::Softmax { axis: 3 }, &[scores]),
    };
    let largest = cx.reduce(Reduction::Max, scores, &[3], true)?;
    let largest = cx.binary(Binary::Max, largest, sink)?;
    let below = cx.binary(Binary::Sub, scores, largest)?;
    let powers = cx.unary(Unary::Exp, below)?;
    let sum = cx.reduce(Reduction::Sum, powers, &[3], true)?;
    let own = cx.binary(Binary::Sub, sink, largest)?;
    let own = cx.unary(Unary::Exp, own)?;
    let sum = cx.binary(Binary::Add, sum, own)?;
    cx.binary(Binary::Div, powers, sum)
}

fn group_query_attention(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    cx.expect_inputs(17)?;
    expect_off(cx, &["kv_cache_bit_width", "sliding_window_cache"])?;
    for name in ["k_quant_type", "v_quant_type"] {
        let kind = cx.string(name, "NONE")?;
        if kind != "NONE" {
            let kind = kind.escape_debug();
            return Err(Halt::unsupported(format!("{name} is '{kind}': a quantised cache is not supported")));
        }
    }
    for (input, name) in [(12, "k_scale"), (13, "v_scale"), (16, "query_seqlens")] {
        if cx.optional(input).is_some() {
            return Err(Halt::unsupported(format!("the input {input} ({name}) is not supported")));
        }
    }
    let (n, groups) = (head_count(cx, "num_heads")?, head_count(cx, "kv_num_heads")?);
    if !n.is_multiple_of(groups) {
        return Err(Halt::invalid(format!("{n} heads of queries are no multiple of {groups} heads of keys")));
    }
    let mut all = given(cx, n, groups)?;
    let [batch, _, length, head] = cx.shape(all.q)[..] else {
        return Err(Halt::internal("heads of another rank"));
    };
    let fits = [batch, groups, length, head];
    if cx.shape(all.k) != fits || cx.shape(all.v) != fits {
        return Err(Halt::shape(format!(
            "keys and values of heads of shape {:?} and {:?}, but {fits:?} is needed",
            cx.shape(all.k),
            cx.shape(all.v)
        )));
    }
    let places = Places::new(cx, batch, length)?;
    normalised(cx, &mut all)?;
    rotated(cx, &mut all, &places)?;
    let (past_k, past_v) = (cx.optional(3), cx.optional(4));
    if past_k.is_some() != past_v.is_some() {
        return Err(Halt::invalid("past_key and past_value must both be given"));
    }
    let presents = [places.present(cx, past_k, all.k)?, places.present(cx, past_v, all.v)?];
    let mut used = presents;
    for used in &mut used {
        *used = cx.narrow(*used, 2, 0, places.total)?;
        if n > groups {
            *used = repeat_heads(cx, *used, n / groups)?;
        }
    }
    let scale = scale(cx, head)?;
    let products = scaled_products(cx, all.q, used[0], scale)?;
    let mut scores = capped(cx, products)?;
    if let Some(bias) = cx.optional(10) {
        let shape = cx.shape(scores);
        scores = cx.binary(Binary::Add, scores, bias)?;
        if cx.shape(scores) != shape {
            let own = cx.shape(bias);
            return Err(Halt::shape(format!("a bias of shape {own:?} does not broadcast to {shape:?}")));
        }
    }
    let masked = hidden(cx, scores, &places)?;
    let weights = weights(cx, masked)?;
    let y = cx.add(Op::MatMul, &[weights, used[1]])?;
    let mut results = vec![join_heads(cx, y)?, presents[0], presents[1]];
    match cx.int("qk_output", 0)? {
        0 => {}
        1 => results.push(scores),
        2 => results.push(weights),
        mode => return Err(Halt::invalid(format!("qk_output is {mode}, but must be 0, 1 or 2"))),
    }
    Ok(results)
}
