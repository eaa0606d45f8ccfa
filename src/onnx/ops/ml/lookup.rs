//! Where values are among keys: a table of positions if the keys are integers that lie close together, and a binary search
//! otherwise.

use nestjit_ir::DType;

use super::{Halt, NodeCx, Result};
use crate::graph::{Binary, Unary, ValueId};

/// Keys, as they are listed.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Keys {
    Ints(Vec<i64>),
    Floats(Vec<f64>),
}

/// Where values are among keys.
pub(super) struct Found {
    /// For each value, a position in `order`: that of the key that it is, or any.
    pub at: ValueId,
    /// Whether it is a key.
    pub known: ValueId,
    /// The keys in another order, each given by its place in the list. Of equal ones it has the first.
    pub order: Vec<i64>,
}

/// So many places of a table for each key are worth it, and so many in any case.
const SPARSE: usize = 4;
const FEW: usize = 256;

impl Keys {
    /// Where the elements of a tensor are among the keys. NaN is equal to NaN.
    pub fn find(&self, cx: &mut NodeCx<'_>, x: ValueId) -> Result<Found> {
        match self {
            Keys::Ints(keys) if !keys.is_empty() => {
                let x = cx.cast(x, DType::I64)?;
                let (keys, order) = sorted(keys, i64::cmp);
                let span = keys[keys.len() - 1].checked_sub(keys[0]).and_then(|n| usize::try_from(n).ok());
                let (at, known) = match span {
                    Some(span) if span < FEW.max(SPARSE * keys.len()) => in_table(cx, x, &keys, span)?,
                    _ => {
                        let keys = cx.values(&[keys.len()], &keys)?;
                        in_order(cx, x, keys)?
                    }
                };
                Ok(Found { at, known, order })
            }
            Keys::Floats(keys) if !keys.is_empty() => {
                let numbers: Vec<f64> = keys.iter().copied().filter(|key| !key.is_nan()).collect();
                let nan = keys.iter().position(|key| key.is_nan());
                if numbers.is_empty() {
                    let known = cx.unary(Unary::IsNan, x)?;
                    let at = first_place(cx, x)?;
                    return Ok(Found { at, known, order: vec![0] });
                }
                // Places in the list, of which NaN may have some.
                let places: Vec<i64> = (0..).zip(keys).filter(|(_, k)| !k.is_nan()).map(|(i, _)| i).collect();
                // Both zeros are one key.
                let compare = |a: &f64, b: &f64| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal);
                let (numbers, order) = sorted(&numbers, compare);
                let mut order: Vec<i64> = order.into_iter().map(|i| places[i as usize]).collect();
                let numbers = cx.floats_like(x, &[numbers.len()], &numbers)?;
                let (mut at, mut known) = in_order(cx, x, numbers)?;
                if let Some(nan) = nan {
                    let is_nan = cx.unary(Unary::IsNan, x)?;
                    let last = cx.values(&[], &[order.len() as i64])?;
                    order.push(nan as i64);
                    (at, known) = (cx.select(is_nan, last, at)?, cx.binary(Binary::Or, known, is_nan)?);
                }
                Ok(Found { at, known, order })
            }
            Keys::Ints(_) | Keys::Floats(_) => Err(Halt::invalid("there are no keys")),
        }
    }
}

/// Keys in order, and the places that they have in the list; of equal ones the first.
fn sorted<T: Copy>(keys: &[T], compare: impl Fn(&T, &T) -> std::cmp::Ordering) -> (Vec<T>, Vec<i64>) {
    let mut places: Vec<usize> = (0..keys.len()).collect();
    places.sort_by(|a, b| compare(&keys[*a], &keys[*b]).then(a.cmp(b)));
    places.dedup_by(|next, kept| compare(&keys[*kept], &keys[*next]).is_eq());
    (places.iter().map(|i| keys[*i]).collect(), places.iter().map(|i| *i as i64).collect())
}

/// Zeros of the shape of `x`.
fn first_place(cx: &mut NodeCx<'_>, x: ValueId) -> Result<ValueId> {
    let shape = cx.shape(x);
    let zero = cx.values(&[], &[0i64])?;
    cx.expand(zero, &shape)
}

/// Where integers are among keys in order that are at most `span` apart.
fn in_table(cx: &mut NodeCx<'_>, x: ValueId, keys: &[i64], span: usize) -> Result<(ValueId, ValueId)> {
    let mut table = vec![-1i64; span + 1];
    for (place, key) in keys.iter().enumerate() {
        table[(key - keys[0]) as usize] = place as i64;
    }
    let (least, most) = (cx.values(&[], &[keys[0]])?, cx.values(&[], &[keys[0] + span as i64])?);
    let inside = cx.binary(Binary::Max, x, least)?;
    let inside = cx.binary(Binary::Min, inside, most)?;
    let mut known = cx.binary(Binary::Eq, inside, x)?;
    let place = cx.binary(Binary::Sub, inside, least)?;
    let place = clamped(cx, place, span + 1)?;
    let full = keys.len() == table.len();
    let table = cx.values(&[table.len()], &table)?;
    let at = cx.gather(table, place, 0)?;
    if !full {
        let is_key = cx.binary_const(Binary::Ge, at, 0.0)?;
        known = cx.binary(Binary::And, known, is_key)?;
    }
    Ok((clamped(cx, at, keys.len())?, known))
}

/// An index within an extent as what is known to be within it.
fn clamped(cx: &mut NodeCx<'_>, index: ValueId, extent: usize) -> Result<ValueId> {
    let index = cx.binary_const(Binary::Max, index, 0.0)?;
    let last = cx.values(&[], &[extent as i64 - 1])?;
    cx.binary(Binary::Min, index, last)
}

/// Where values are among keys in ascending order: halves of what is left are left out, until one key is.
fn in_order(cx: &mut NodeCx<'_>, x: ValueId, keys: ValueId) -> Result<(ValueId, ValueId)> {
    let count = cx.elements(keys);
    let (mut at, mut left) = (None, count);
    while left > 1 {
        let half = left / 2;
        let middle = match at {
            None => cx.values(&[], &[half as i64])?,
            Some(at) => {
                let middle = cx.binary_const(Binary::Add, at, half as f64)?;
                clamped(cx, middle, count)?
            }
        };
        let key = cx.gather(keys, middle, 0)?;
        let beyond = cx.binary(Binary::Ge, x, key)?;
        let beyond = cx.cast(beyond, DType::I64)?;
        let step = cx.binary_const(Binary::Mul, beyond, half as f64)?;
        at = Some(match at {
            None => step,
            Some(at) => cx.binary(Binary::Add, at, step)?,
        });
        left -= half;
    }
    let at = match at {
        Some(at) => clamped(cx, at, count)?,
        None => first_place(cx, x)?,
    };
    let key = cx.gather(keys, at, 0)?;
    Ok((at, cx.binary(Binary::Eq, x, key)?))
}
