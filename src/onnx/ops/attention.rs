//! Attention and what belongs to it.

use nestjit_ir::{CheckKind, DType};

use super::super::tensor::dtype;
use super::gather::steps;
use super::{Halt, NodeCx, OpEntry, Result, extent, one, op};
use crate::graph::{Binary, Op, PadMode, Reduction, Unary, ValueId};

pub(super) const OPS: &[OpEntry] = &[
    op("Attention", 23, attention).in_f32(&[0, 0, 2, 0]).changing(),
    op("RotaryEmbedding", 23, rotary_embedding).in_f32(&[0]),
];

/// `[B, T, H * D]` as `[B, H, T, D]`; what has four dimensions is that already.
pub(super) fn heads(cx: &mut NodeCx<'_>, x: ValueId, heads: Option<usize>) -> Result<ValueId> {
    let shape = cx.shape(x);
    match (shape.as_slice(), heads) {
        ([_, _, _, _], _) => Ok(x),
        ([b, t, hidden], Some(h)) if h > 0 && hidden.is_multiple_of(h) => {
            let split = cx.reshape(x, &[*b, *t, h, hidden / h])?;
            cx.transpose(split, &[0, 2, 1, 3])
        }
        (_, Some(heads)) => {
            Err(Halt::shape(format!("a tensor of shape {shape:?} cannot be divided into {heads} heads")))
        }
        (_, None) => Err(Halt::shape(format!(
            "a tensor of shape {shape:?} needs the number of heads that it is divided into"
        ))),
    }
}

/// The inverse of [`heads`], for results of rank 3.
pub(super) fn join_heads(cx: &mut NodeCx<'_>, x: ValueId) -> Result<ValueId> {
    let [b, h, t, d] = cx.shape(x)[..] else { return Err(Halt::internal("heads of another rank")) };
    let moved = cx.transpose(x, &[0, 2, 1, 3])?;
    cx.reshape(moved, &[b, t, h * d])
}

/// Each head `times` times in a row.
pub(super) fn repeat_heads(cx: &mut NodeCx<'_>, x: ValueId, times: usize) -> Result<ValueId> {
    let [b, h, t, d] = cx.shape(x)[..] else { return Err(Halt::internal("heads of another rank")) };
    let column = cx.reshape(x, &[b, h, 1, t, d])?;
    let repeated = cx.expand(column, &[b, h, times, t, d])?;
    cx.reshape(repeated, &[b, h * times, t, d])
}

pub(super) fn count(cx: &NodeCx<'_>, name: &'static str) -> Result<Option<usize>> {
    Ok(cx.attributes.int(name)?.map(|n| extent(n, name)).transpose()?)
}

fn attention(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let [q, k, v] = [cx.input(0)?, cx.input(1)?, cx.input(2)?];
    let flat = cx.rank(q) == 3;
    let (q_heads, kv_heads) = (count(cx, "q_num_heads")?, count(cx, "kv_num_heads")?);
    let q = heads(cx, q, q_heads)?;
    let (mut k, mut v) = (heads(cx, k, kv_heads)?, heads(cx, v, kv_heads)?);
    let mut past = 0;
    for (state, index) in [(&mut k, 4), (&mut v, 5)] {
        if let Some(before) = cx.optional(index) {
            if cx.rank(before) != 4 {
                return Err(Halt::shape(format!(
                    "the past must be of rank 4, but its shape is {:?}",
                    cx.shape(before)
                )));
            }
            past = cx.shape(before)[2];
            *state = cx.concat(&[before, *state], 2)?;
        }
    }
    let (present_k, present_v) = (k, v);
    let (q_shape, kv_shape) = (cx.shape(q), cx.shape(k));
    let groups = q_shape[1].checked_div(kv_shape[1]).unwrap_or(0);
    if groups * kv_shape[1] != q_shape[1] {
        return Err(Halt::shape(format!(
            "{} heads of queries are no multiple of {} heads of keys",
            q_shape[1], kv_shape[1]
        )));
    }
    if groups > 1 {
        (k, v) = (repeat_heads(cx, k, groups)?, repeat_heads(cx, v, groups)?);
    }
    let scale = cx.attributes.float("scale")?.unwrap_or(1.0 / (q_shape[3] as f64).sqrt());
    let products = scaled_products(cx, q, k, scale)?;
    let capped = capped(cx, products)?;
    let mask = Mask::new(cx, past)?;
    let masked = mask.apply(cx, capped)?;
    let precision = cx.attributes.int("softmax_precision")?;
    // A lower precision than that of the operands is no improvement.
    let wide = precision.and_then(|p| dtype(p as i32).ok()).filter(|p| *p == DType::F64);
    let weights = match wide {
        Some(wide) => cx.cast(masked, wide)?,
        None => masked,
    };
    let weights = match mask.may_hide_all(&cx.shape(weights)) {
        true => softmax_of_visible(cx, weights)?,
        false => cx.add(Op::Softmax { axis: 3 }, &[weights])?,
    };
    let weights = cx.cast(weights, cx.dtype(v))?;
    let mut y = cx.add(Op::MatMul, &[weights, v])?;
    if flat {
        y = join_heads(cx, y)?;
    }
    let shown = match cx.int("qk_matmul_output_mode", 0)? {
        0 => products,
        1 => capped,
        2 => masked,
        3 => weights,
        mode => return Err(Halt::invalid(format!("qk_matmul_output_mode is {mode}, but must be 0 to 3"))),
    };
    Ok(vec![y, present_k, present_v, shown])
}

/// `scale` times the products of queries and keys, `[B, H, Q, D]` and `[B, H, K, D]`: `[B, H, Q, K]`.
pub(super) fn scaled_products(cx: &mut NodeCx<'_>, q: ValueId, k: ValueId, scale: f64) -> Result<ValueId> {
    // Both factors get half of the scale, so that neither product overflows sooner.
    let root = scale.abs().sqrt();
    let (q, k) =
        (cx.binary_const(Binary::Mul, q, root.copysign(scale))?, cx.binary_const(Binary::Mul, k, root)?);
    let k = cx.transpose(k, &[0, 1, 3, 2])?;
    cx.add(Op::MatMul, &[q, k])
}

/// Scores bounded as the attribute `softcap` says.
pub(super) fn capped(cx: &mut NodeCx<'_>, scores: ValueId) -> Result<ValueId> {
    let softcap = cx.float("softcap", 0.0)?;
    if softcap <= 0.0 {
        return Ok(scores);
    }
    let scaled = cx.binary_const(Binary::Div, scores, softcap)?;
    let bounded = cx.unary(Unary::Tanh, scaled)?;
    cx.binary_const(Binary::Mul, bounded, softcap)
}

/// Softmax of scores `[B, H, Q, K]` along the keys; a query that sees no key (all its scores are minus infinity) has
/// weights of 0.
fn softmax_of_visible(cx: &mut NodeCx<'_>, scores: ValueId) -> Result<ValueId> {
    // With a finite maximum hidden keys give exp(-inf) = 0, also where all are hidden; any other sum is at least 1.
    let dtype = cx.dtype(scores);
    let (Some(largest), Some(tiny)) = (dtype.largest_finite(), dtype.smallest_normal()) else {
        return Err(Halt::internal("scores are floats"));
    };
    let max = cx.reduce(Reduction::Max, scores, &[3], true)?;
    let max = cx.binary_const(Binary::Max, max, -largest)?;
    let below = cx.binary(Binary::Sub, scores, max)?;
    let exp = cx.unary(Unary::Exp, below)?;
    let sum = cx.reduce(Reduction::Sum, exp, &[3], true)?;
    let sum = cx.binary_const(Binary::Max, sum, tiny)?;
    cx.binary(Binary::Div, exp, sum)
}

/// Farther than any two positions are apart, and small enough to count with.
const FARTHEST: usize = 1 << 40;

/// Which keys a query must not see. A query stands behind the keys of the past, or is one of the last of those keys
/// that are not padding.
struct Mask {
    /// `attn_mask`: whether a key is seen, or what is added to its score.
    given: Option<ValueId>,
    is_causal: bool,
    /// How many keys before and after its own position a query sees; all of them if it is not said.
    window: [Option<usize>; 2],
    /// The keys of the past.
    past: usize,
    /// How many keys are not padding, `[B]`.
    lengths: Option<ValueId>,
}

impl Mask {
    fn new(cx: &mut NodeCx<'_>, past: usize) -> Result<Mask> {
        let lengths = cx.optional(6);
        if lengths.is_some() && (cx.optional(4).is_some() || cx.optional(5).is_some()) {
            return Err(Halt::invalid("nonpad_kv_seqlen and a past exclude each other"));
        }
        let mut window = [None; 2];
        if cx.opset >= 25 {
            for (side, name) in window.iter_mut().zip(["left_window_size", "right_window_size"]) {
                *side = match cx.int(name, -1)? {
                    -1 => None,
                    size => Some(extent(size, name)?.min(FARTHEST)),
                };
            }
        }
        let is_causal = cx.flag("is_causal", false)?;
        Ok(Mask { given: cx.optional(3), is_causal, window, past, lengths })
    }

    /// Whether a query of these scores, `[B, H, Q, K]`, could see no key at all.
    fn may_hide_all(&self, scores: &[usize]) -> bool {
        let beyond = self.window[0].is_some() && self.past + scores[2] > scores[3];
        scores[3] > 0 && (self.given.is_some() || self.lengths.is_some() || beyond)
    }

    /// The scores `[B, H, Q, K]`; those of hidden keys are minus infinity.
    fn apply(&self, cx: &mut NodeCx<'_>, scores: ValueId) -> Result<ValueId> {
        let shape = cx.shape(scores);
        let hidden = cx.scalar_like(scores, f64::NEG_INFINITY);
        let mut masked = scores;
        if let Some(given) = self.given {
            let given = padded(cx, given, shape[3])?;
            masked = if cx.dtype(given) == DType::Bool {
                cx.select(given, scores, hidden)?
            } else {
                cx.binary(Binary::Add, scores, given)?
            };
        }
        for seen in self.seen(cx, &shape)? {
            masked = cx.select(seen, masked, hidden)?;
        }
        if cx.shape(masked) != shape {
            return Err(Halt::shape("the mask does not broadcast to the scores"));
        }
        Ok(masked)
    }

    /// Conditions under which a query sees a key, besides the mask that is given; they broadcast to `[B, H, Q, K]`.
    fn seen(&self, cx: &mut NodeCx<'_>, scores: &[usize]) -> Result<Vec<ValueId>> {
        let (batch, queries, keys) = (scores[0], scores[2], scores[3]);
        let mut seen = Vec::new();
        let lengths = match self.lengths {
            Some(lengths) if cx.shape(lengths) != [batch] => {
                let shape = cx.shape(lengths);
                return Err(Halt::shape(format!(
                    "nonpad_kv_seqlen of shape {shape:?} does not fit {batch} sequences"
                )));
            }
            Some(lengths) => {
                let lengths = cx.checked(lengths, 6, CheckKind::Length, 0, keys as i64 + 1)?;
                Some(cx.reshape(lengths, &[batch, 1, 1, 1])?)
            }
            None => None,
        };
        let key = steps(cx, 4, 3, keys, 1)?;
        if self.is_causal || self.window != [None; 2] {
            let row = steps(cx, 4, 2, queries, 1)?;
            let position = match lengths {
                Some(lengths) => {
                    let first = cx.binary_const(Binary::Sub, lengths, queries as f64)?;
                    cx.binary(Binary::Add, row, first)?
                }
                None => cx.binary_const(Binary::Add, row, self.past as f64)?,
            };
            let [before, mut after] = self.window;
            if self.is_causal {
                after = Some(0);
            }
            if let Some(after) = after {
                let last = cx.binary_const(Binary::Add, position, after as f64)?;
                seen.push(cx.binary(Binary::Le, key, last)?);
            }
            if let Some(before) = before {
                let first = cx.binary_const(Binary::Sub, position, before as f64)?;
                seen.push(cx.binary(Binary::Ge, key, first)?);
            }
        }
        if let Some(lengths) = lengths {
            seen.push(cx.binary(Binary::Lt, key, lengths)?);
        }
        Ok(seen)
    }
}

/// A mask that ends before the last key hides the keys behind its end; one that is a single column too, as in the reference
/// implementation, although the text would let it be broadcast.
fn padded(cx: &mut NodeCx<'_>, mask: ValueId, keys: usize) -> Result<ValueId> {
    let shape = cx.shape(mask);
    let (rank, covered) = (shape.len(), shape.last().copied().unwrap_or(0));
    if rank == 0 || covered >= keys {
        return Ok(mask);
    }
    let mut end = vec![0; rank];
    end[rank - 1] = (keys - covered) as i64;
    let value = if cx.dtype(mask) == DType::Bool { 0.0 } else { f64::NEG_INFINITY };
    cx.add(Op::Pad { begin: vec![0; rank], end, mode: PadMode::Constant(value) }, &[mask])
}

fn rotary_embedding(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    cx.expect_float(x)?;
    let flat = cx.rank(x) == 3;
    let num_heads = count(cx, "num_heads")?.filter(|n| *n != 0);
    let x = heads(cx, x, num_heads)?;
    let [b, _, t, d] = cx.shape(x)[..] else { return Err(Halt::internal("heads of another rank")) };
    let rotated = count(cx, "rotary_embedding_dim")?.filter(|n| *n != 0).unwrap_or(d);
    let interleaved = cx.flag("interleaved", false)?;
    if rotated > d || !rotated.is_multiple_of(2) {
        return Err(Halt::invalid(format!(
            "{rotated} elements are to be rotated, which must be even and at most {d}"
        )));
    }
    let half = rotated / 2;
    // [B, 1, T, half], also from a table by position.
    let mut caches = [cx.input(1)?, cx.input(2)?];
    let positions = match cx.optional(3) {
        Some(positions) => {
            let most = caches.iter().filter_map(|c| cx.shape(*c).first().copied()).min().unwrap_or(0);
            Some(cx.checked(positions, 3, CheckKind::Position, 0, most as i64)?)
        }
        None => None,
    };
    for cache in &mut caches {
        if let Some(positions) = positions {
            *cache = cx.gather(*cache, positions, 0)?;
        }
        if cx.shape(*cache) != [b, t, half] {
            return Err(Halt::shape(format!(
                "a cache of shape {:?} was given where {:?} is needed",
                cx.shape(*cache),
                [b, t, half]
            )));
        }
        *cache = cx.reshape(*cache, &[b, 1, t, half])?;
    }
    let y = turned(cx, x, caches, interleaved)?;
    one(if flat { join_heads(cx, y) } else { Ok(y) })
}

/// Pairs of the first elements of each head, `[B, H, T, D]`, turned by angles whose cosines and sines are `[B, 1, T, R]`:
/// neighbours if they are interleaved, otherwise elements that are `R` apart. What follows on them stays.
pub(super) fn turned(
    cx: &mut NodeCx<'_>,
    x: ValueId,
    [cos, sin]: [ValueId; 2],
    interleaved: bool,
) -> Result<ValueId> {
    let [b, h, t, d] = cx.shape(x)[..] else { return Err(Halt::internal("heads of another rank")) };
    let half = cx.shape(cos)[3];
    let rotated = 2 * half;
    let turned = cx.narrow(x, 3, 0, rotated)?;
    let (first, second) = match interleaved {
        true => {
            let pairs = cx.reshape(turned, &[b, h, t, half, 2])?;
            let (a, b_) = (cx.narrow(pairs, 4, 0, 1)?, cx.narrow(pairs, 4, 1, 1)?);
            (cx.reshape(a, &[b, h, t, half])?, cx.reshape(b_, &[b, h, t, half])?)
        }
        false => (cx.narrow(turned, 3, 0, half)?, cx.narrow(turned, 3, half, half)?),
    };
    let product = |cx: &mut NodeCx<'_>, a, b| cx.binary(Binary::Mul, a, b);
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
    if rotated == d {
        return Ok(turned);
    }
    let rest = cx.narrow(x, 3, rotated, d - rotated)?;
    cx.concat(&[turned, rest], 3)
}
