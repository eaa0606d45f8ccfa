//! What compares elements to bring them into an order: [`top_k`], [`unique`]. NaN is greater than every number and
//! equal to itself; -0.0 equals 0.0.

use std::cmp::Ordering;

use bytemuck::AnyBitPattern;
use nestjit_ir::{DType, Kind, bf16, f16};

use super::{around, axis, by_type, zeros};
use crate::error::{Error, Result};
use crate::tensor::{Element, Tensor};

/// Elements with a total order.
trait Ordered: Element + AnyBitPattern {
    fn order(&self, other: &Self) -> Ordering;
}

macro_rules! ordered {
    ($($t:ty),*) => { $(impl Ordered for $t {
        fn order(&self, other: &Self) -> Ordering {
            self.partial_cmp(other).unwrap_or_else(|| (self != self).cmp(&(other != other)))
        }
    })* };
}
ordered!(f32, f64, f16, bf16, i64, i32, i8, u8, i16, u16, u32, u64);

/// As bytes, so that truth values can be compared like numbers.
fn numeric(x: &Tensor) -> Result<Tensor> {
    match x.dtype().kind() {
        Kind::Bool => Tensor::from_bytes(DType::U8, x.shape(), x.bytes()?),
        Kind::Float | Kind::Signed | Kind::Unsigned => Ok(x.clone()),
    }
}

/// The largest or smallest `k` elements along an axis, sorted, and their indices.
pub(crate) fn top_k(x: &Tensor, along: i64, k: i64, largest: bool) -> Result<(Tensor, Tensor)> {
    let d = axis(along, x.shape().len())?;
    let n = x.shape()[d];
    let k = usize::try_from(k)
        .ok()
        .filter(|k| *k <= n)
        .ok_or_else(|| Error::shape(format!("k is {k}, but must be in 0..={n}: there are {n} elements")))?;
    let mut shape = x.shape().to_vec();
    shape[d] = k;
    let (mut values, mut indices) = (zeros(x.dtype(), &shape)?, zeros(DType::I64, &shape)?);
    if !values.is_empty() {
        by_type!(x.dtype(), T => lines::<T>(x, d, largest, &mut values, &mut indices))?;
    }
    Ok((values, indices))
}

/// The first elements of each line along dimension `d`.
fn lines<T: Ordered>(
    x: &Tensor,
    d: usize,
    largest: bool,
    values: &mut Tensor,
    indices: &mut Tensor,
) -> Result<()> {
    let (outer, n, _) = around(x, d);
    let inner: usize = x.shape()[d + 1..].iter().product();
    let k = values.shape()[d];
    let (x, values) = (x.values::<T>()?, values.values_mut::<T>()?);
    let indices = indices.values_mut::<i64>()?;
    let mut places: Vec<usize> = Vec::with_capacity(n);
    for line in 0..outer * inner {
        let (o, i) = (line / inner, line % inner);
        let element = |place: usize| &x[(o * n + place) * inner + i];
        // Of equal elements the first comes first.
        let compare = |a: &usize, b: &usize| {
            let order = element(*a).order(element(*b));
            (if largest { order.reverse() } else { order }).then(a.cmp(b))
        };
        places.clear();
        places.extend(0..n);
        if k < n {
            places.select_nth_unstable_by(k, compare);
            places.truncate(k);
        }
        places.sort_unstable_by(compare);
        for (rank, place) in places.iter().enumerate() {
            let to = (o * k + rank) * inner + i;
            values[to] = *element(*place);
            indices[to] = *place as i64;
        }
    }
    Ok(())
}

/// The different elements, or slices along an axis, sorted or as they are found; where they are first, which of them each
/// element is, and how often there are.
pub(crate) fn unique(x: &Tensor, along: Option<i64>, sorted: bool) -> Result<Vec<Tensor>> {
    let flat = x.reshape(&[x.len()])?;
    let (x, d) = match along {
        Some(along) => (x, axis(along, x.shape().len())?),
        None => (&flat, 0),
    };
    let comparable = numeric(x)?;
    let groups = by_type!(x.dtype(), T => groups(comparable.values::<T>()?, x, d, sorted));
    let (outer, extent, size) = around(x, d);
    let mut shape = x.shape().to_vec();
    shape[d] = groups.len();
    let mut values = zeros(x.dtype(), &shape)?;
    if size > 0 {
        let places = (0..outer).flat_map(|o| groups.iter().map(move |g| (o * extent + g[0]) * size));
        let bytes = x.bytes()?;
        for (place, from) in values.bytes_mut()?.chunks_exact_mut(size).zip(places) {
            place.copy_from_slice(&bytes[from..from + size]);
        }
    }
    let mut inverse = vec![0i64; extent];
    for (g, group) in groups.iter().enumerate() {
        for member in group {
            inverse[*member] = g as i64;
        }
    }
    let list = |values: Vec<i64>| Tensor::new(&[values.len()], &values);
    Ok(vec![
        values,
        list(groups.iter().map(|g| g[0] as i64).collect())?,
        list(inverse)?,
        list(groups.iter().map(|g| g.len() as i64).collect())?,
    ])
}

/// The positions along dimension `d` of equal slices, ascending, a list for each different slice.
fn groups<T: Ordered>(values: &[T], x: &Tensor, d: usize, sorted: bool) -> Vec<Vec<usize>> {
    let (outer, extent, _) = around(x, d);
    let inner: usize = x.shape()[d + 1..].iter().product();
    let compare = |a: usize, b: usize| {
        for o in 0..outer {
            for i in 0..inner {
                let at = |p: usize| &values[(o * extent + p) * inner + i];
                match at(a).order(at(b)) {
                    Ordering::Equal => {}
                    order => return order,
                }
            }
        }
        Ordering::Equal
    };
    let mut places: Vec<usize> = (0..extent).collect();
    places.sort_by(|a, b| compare(*a, *b));
    let mut groups: Vec<Vec<usize>> =
        places.chunk_by(|a, b| compare(*a, *b).is_eq()).map(<[usize]>::to_vec).collect();
    if !sorted {
        groups.sort_by_key(|group| group[0]);
    }
    groups
}
