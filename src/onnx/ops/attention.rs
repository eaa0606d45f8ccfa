//! Attention and what belongs to it.

use nestjit_ir::DType;

use super::super::node::{NodeCx, extent};
use super::super::tensor::dtype;
use super::gather::steps;
use super::{OpEntry, one, op};
use crate::error::{Error, Result};
use crate::graph::{Binary, Op, PadMode, Unary, ValueId};

pub(super) const OPS: &[OpEntry] =
    &[op("Attention", 23, attention), op("RotaryEmbedding", 23, rotary_embedding)];

/// `[B, T, H * D]` as `[B, H, T, D]`; what has four dimensions is that already.
pub(super) fn heads(cx: &mut NodeCx<'_, '_>, x: ValueId, heads: Option<usize>) -> Result<ValueId> {
    let shape = cx.shape(x);
    match (shape.as_slice(), heads) {
        ([_, _, _, _], _) => Ok(x),
        ([b, t, hidden], Some(h)) if h > 0 && hidden.is_multiple_of(h) => {
            let split = cx.reshape(x, &[*b, *t, h, hidden / h])?;
            cx.transpose(split, &[0, 2, 1, 3])
        }
        _ => Err(Error::shape(format!("{shape:?} cannot be divided into {heads:?} heads"))),
    }
}

/// The inverse of [`heads`], for results of rank 3.
pub(super) fn join_heads(cx: &mut NodeCx<'_, '_>, x: ValueId) -> Result<ValueId> {
    let [b, h, t, d] = cx.shape(x)[..] else { return Err(Error::internal("heads of another rank")) };
    let moved = cx.transpose(x, &[0, 2, 1, 3])?;
    cx.reshape(moved, &[b, t, h * d])
}

/// Each head `times` times in a row.
pub(super) fn repeat_heads(cx: &mut NodeCx<'_, '_>, x: ValueId, times: usize) -> Result<ValueId> {
    let [b, h, t, d] = cx.shape(x)[..] else { return Err(Error::internal("heads of another rank")) };
    let column = cx.reshape(x, &[b, h, 1, t, d])?;
    let repeated = cx.expand(column, &[b, h, times, t, d])?;
    cx.reshape(repeated, &[b, h * times, t, d])
}

fn count(cx: &NodeCx<'_, '_>, name: &'static str) -> Result<Option<usize>> {
    cx.attributes.int(name)?.map(|n| extent(n, name)).transpose()
}

fn attention(cx: &mut NodeCx<'_, '_>) -> Result<Vec<ValueId>> {
    let [q, k, v] = [cx.input(0)?, cx.input(1)?, cx.input(2)?];
    let flat = cx.rank(q) == 3;
    let (q_heads, kv_heads) = (count(cx, "q_num_heads")?, count(cx, "kv_num_heads")?);
    let q = heads(cx, q, q_heads)?;
    let (mut k, mut v) = (heads(cx, k, kv_heads)?, heads(cx, v, kv_heads)?);
    let mut past = 0;
    for (state, index) in [(&mut k, 4), (&mut v, 5)] {
        if let Some(before) = cx.optional(index) {
            if cx.rank(before) != 4 {
                return Err(Error::shape(format!("the past is of shape {:?}", cx.shape(before))));
            }
            past = cx.shape(before)[2];
            *state = cx.concat(&[before, *state], 2)?;
        }
    }
    let (present_k, present_v) = (k, v);
    let (q_shape, kv_shape) = (cx.shape(q), cx.shape(k));
    let groups = q_shape[1].checked_div(kv_shape[1]).unwrap_or(0);
    if groups * kv_shape[1] != q_shape[1] {
        return Err(Error::shape(format!("{} heads of queries, {} of keys", q_shape[1], kv_shape[1])));
    }
    if groups > 1 {
        (k, v) = (repeat_heads(cx, k, groups)?, repeat_heads(cx, v, groups)?);
    }
    // Both factors get half of the scale, so that neither product overflows sooner.
    let scale = cx.attributes.float("scale")?.unwrap_or(1.0 / (q_shape[3] as f64).sqrt());
    let (q, k) =
        (cx.binary_const(Binary::Mul, q, scale.sqrt())?, cx.binary_const(Binary::Mul, k, scale.sqrt())?);
    let k = cx.transpose(k, &[0, 1, 3, 2])?;
    let mut scores = cx.add(Op::MatMul, &[q, k])?;
    let softcap = cx.float("softcap", 0.0)?;
    if softcap > 0.0 {
        let scaled = cx.binary_const(Binary::Div, scores, softcap)?;
        let bounded = cx.unary(Unary::Tanh, scaled)?;
        scores = cx.binary_const(Binary::Mul, bounded, softcap)?;
    }
    let capped = scores;
    let masked = mask(cx, scores, past)?;
    let precision = cx.attributes.int("softmax_precision")?;
    // A lower precision than that of the operands is no improvement.
    let wide = precision.and_then(|p| dtype(p as i32).ok()).filter(|p| *p == DType::F64);
    let weights = match wide {
        Some(wide) => cx.cast(masked, wide)?,
        None => masked,
    };
    let weights = cx.add(Op::Softmax { axis: 3 }, &[weights])?;
    let weights = cx.cast(weights, cx.dtype(v))?;
    let mut y = cx.add(Op::MatMul, &[weights, v])?;
    if flat {
        y = join_heads(cx, y)?;
    }
    let shown = match cx.int("qk_matmul_output_mode", 0)? {
        0 | 1 => capped,
        2 => masked,
        3 => weights,
        mode => return Err(Error::invalid(format!("qk_matmul_output_mode is {mode}"))),
    };
    Ok(vec![y, present_k, present_v, shown])
}

/// Scores `[B, H, Q, K]` with the mask, the causal order and the lengths of the keys applied: what must not be
/// seen becomes minus infinity.
fn mask(cx: &mut NodeCx<'_, '_>, scores: ValueId, past: usize) -> Result<ValueId> {
    let shape = cx.shape(scores);
    let (queries, keys) = (shape[2], shape[3]);
    let mut scores = scores;
    let hidden = cx.scalar_like(scores, f64::NEG_INFINITY);
    if let Some(mut mask) = cx.optional(3) {
        let rank = cx.rank(mask);
        let covered = cx.shape(mask).last().copied().unwrap_or(0);
        let is_bool = cx.dtype(mask) == DType::Bool;
        if rank > 0 && covered > 1 && covered < keys {
            let mut end = vec![0; rank];
            end[rank - 1] = (keys - covered) as i64;
            let value = if is_bool { 0.0 } else { f64::NEG_INFINITY };
            mask = cx.add(Op::Pad { begin: vec![0; rank], end, mode: PadMode::Constant(value) }, &[mask])?;
        }
        scores = match is_bool {
            true => cx.select(mask, scores, hidden)?,
            false => cx.binary(Binary::Add, scores, mask)?,
        };
    }
    if cx.flag("is_causal", false)? {
        let (row, column) = (steps(cx, 2, 0, queries, 1)?, steps(cx, 2, 1, keys, 1)?);
        let last = cx.binary_const(Binary::Add, row, past as f64)?;
        let seen = cx.binary(Binary::Le, column, last)?;
        scores = cx.select(seen, scores, hidden)?;
    }
    if let Some(lengths) = cx.optional(6) {
        let lengths = cx.cast(lengths, DType::I64)?;
        let lengths = cx.reshape(lengths, &[shape[0], 1, 1, 1])?;
        let column = steps(cx, 4, 3, keys, 1)?;
        let seen = cx.binary(Binary::Lt, column, lengths)?;
        scores = cx.select(seen, scores, hidden)?;
    }
    if cx.shape(scores) != shape {
        return Err(Error::shape("the mask does not broadcast to the scores"));
    }
    Ok(scores)
}

fn rotary_embedding(cx: &mut NodeCx<'_, '_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    cx.expect_float(x)?;
    let flat = cx.rank(x) == 3;
    let num_heads = count(cx, "num_heads")?.filter(|n| *n != 0);
    let x = heads(cx, x, num_heads)?;
    let [b, h, t, d] = cx.shape(x)[..] else { return Err(Error::internal("heads of another rank")) };
    let rotated = count(cx, "rotary_embedding_dim")?.filter(|n| *n != 0).unwrap_or(d);
    let interleaved = cx.flag("interleaved", false)?;
    if rotated > d || !rotated.is_multiple_of(2) {
        return Err(Error::invalid(format!("{rotated} of {d} elements are rotated")));
    }
    let half = rotated / 2;
    // [B, 1, T, half], also from a table by position.
    let mut caches = [cx.input(1)?, cx.input(2)?];
    for cache in &mut caches {
        if let Some(positions) = cx.optional(3) {
            *cache = cx.gather(*cache, positions, 0)?;
        }
        if cx.shape(*cache) != [b, t, half] {
            return Err(Error::shape(format!("a cache of {:?} for {:?}", cx.shape(*cache), [b, t, half])));
        }
        *cache = cx.reshape(*cache, &[b, 1, t, half])?;
    }
    let [cos, sin] = caches;
    let turned = cx.narrow(x, 3, 0, rotated)?;
    let (first, second) = match interleaved {
        true => {
            let pairs = cx.reshape(turned, &[b, h, t, half, 2])?;
            let (a, b_) = (cx.narrow(pairs, 4, 0, 1)?, cx.narrow(pairs, 4, 1, 1)?);
            (cx.reshape(a, &[b, h, t, half])?, cx.reshape(b_, &[b, h, t, half])?)
        }
        false => (cx.narrow(turned, 3, 0, half)?, cx.narrow(turned, 3, half, half)?),
    };
    let product = |cx: &mut NodeCx<'_, '_>, a, b| cx.binary(Binary::Mul, a, b);
    let (c1, s2) = (product(cx, cos, first)?, product(cx, sin, second)?);
    let (s1, c2) = (product(cx, sin, first)?, product(cx, cos, second)?);
    let real = cx.binary(Binary::Sub, c1, s2)?;
    let imaginary = cx.binary(Binary::Add, s1, c2)?;
    let turned = match interleaved {
        true => {
            let parts = [cx.unsqueeze(real, 4)?, cx.unsqueeze(imaginary, 4)?];
            let pairs = cx.concat(&parts, 4)?;
            cx.reshape(pairs, &[b, h, t, rotated])?
        }
        false => cx.concat(&[real, imaginary], 3)?,
    };
    let y = match rotated < d {
        true => {
            let rest = cx.narrow(x, 3, rotated, d - rotated)?;
            cx.concat(&[turned, rest], 3)?
        }
        false => turned,
    };
    one(if flat { join_heads(cx, y) } else { Ok(y) })
}
