//! Keys and values of tokens that were there before.

use nestjit_ir::DType;

use super::super::gather::steps;
use super::{Halt, NodeCx, Result};
use crate::graph::{Binary, ValueId};

/// What was there before, and what is new, `[B, N, T, D]`.
pub(super) fn with_past(cx: &mut NodeCx<'_>, past: ValueId, new: ValueId) -> Result<ValueId> {
    let (before, after) = (cx.shape(past), cx.shape(new));
    if before.len() != 4 || before[..2] != after[..2] || before[3] != after[3] {
        return Err(Halt::shape(format!("a past of shape {before:?} does not fit {after:?}")));
    }
    cx.concat(&[past, new], 2)
}

/// `buffer`, `[B, N, T, D]`, with the rows `new`, `[B, N, S, D]`, at the places from `first`, `[B, 1, 1, 1]`, on.
pub(super) fn inserted(
    cx: &mut NodeCx<'_>,
    buffer: ValueId,
    new: ValueId,
    first: ValueId,
) -> Result<ValueId> {
    let (whole, part) = (cx.shape(buffer), cx.shape(new));
    let (&[b, n, t, d], &[_, _, s, _]) = (&whole[..], &part[..]) else {
        return Err(Halt::shape(format!("a cache of shape {whole:?} is not of rank 4")));
    };
    if part[..2] != [b, n] || part[3] != d {
        return Err(Halt::shape(format!("a cache of shape {whole:?} does not fit {part:?}")));
    }
    let place = steps(cx, 4, 2, t, 1)?;
    let row = cx.binary(Binary::Sub, place, first)?;
    let spread = match s {
        // The one row is the same for every place.
        1 => new,
        _ => {
            let inside = cx.binary_const(Binary::Max, row, 0.0)?;
            let inside = cx.binary_const(Binary::Min, inside, s.saturating_sub(1) as f64)?;
            let (batch, head) = (steps(cx, 4, 0, b, n * s)?, steps(cx, 4, 1, n, s)?);
            let start = cx.binary(Binary::Add, batch, head)?;
            let position = cx.binary(Binary::Add, start, inside)?;
            let position = cx.reshape(position, &[b, n, t])?;
            let rows = cx.reshape(new, &[b * n * s, d])?;
            cx.gather(rows, position, 0)?
        }
    };
    let (from, to) = (cx.binary_const(Binary::Ge, row, 0.0)?, cx.binary_const(Binary::Lt, row, s as f64)?);
    let is_new = cx.binary(Binary::And, from, to)?;
    cx.select(is_new, spread, buffer)
}

/// One number for each sequence, `[B]` or `[B, 1]`, as `i64[B, 1, 1, 1]`.
pub(super) fn per_sequence(cx: &mut NodeCx<'_>, x: ValueId, batch: usize) -> Result<ValueId> {
    if cx.elements(x) != batch {
        let shape = cx.shape(x);
        return Err(Halt::shape(format!("lengths of shape {shape:?} do not fit {batch} sequences")));
    }
    let x = cx.cast(x, DType::I64)?;
    cx.reshape(x, &[batch, 1, 1, 1])
}
