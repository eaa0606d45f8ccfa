//! Reductions.

use ndarray::{ArrayD, ArrayView1, IxDyn};
use nestjit_ir::DType;

use super::array::{int_range, order};
use super::scalar::{maximum, minimum};
use super::{Array, Data};
use crate::graph::Reduction;

/// The reduced dimensions as one row for each result, and the shape of the results.
fn rows<T: Copy>(x: &ArrayD<T>, axes: &[usize], keep_dims: bool) -> (ndarray::Array2<T>, Vec<usize>) {
    let kept: Vec<usize> = (0..x.ndim()).filter(|d| !axes.contains(d)).collect();
    let order: Vec<usize> = kept.iter().chain(axes).copied().collect();
    let results: usize = kept.iter().map(|d| x.shape()[*d]).product();
    let reduced: usize = axes.iter().map(|d| x.shape()[*d]).product();
    let moved = x.view().permuted_axes(order);
    let rows =
        moved.to_shape((results, reduced)).expect("kept dimensions first, reduced ones last").to_owned();
    let shape = (0..x.ndim()).filter_map(|d| match axes.contains(&d) {
        false => Some(x.shape()[d]),
        true => keep_dims.then_some(1),
    });
    (rows, shape.collect())
}

fn each_row<T: Copy, R>(
    x: &ArrayD<T>,
    axes: &[usize],
    keep_dims: bool,
    f: impl Fn(ArrayView1<T>) -> R,
) -> ArrayD<R> {
    let (rows, shape) = rows(x, axes, keep_dims);
    let results: Vec<R> = rows.outer_iter().map(f).collect();
    ArrayD::from_shape_vec(IxDyn(&shape), results).expect("a result for each row")
}

pub(super) fn reduce(x: &Array, op: Reduction, axes: &[usize], keep_dims: bool) -> Array {
    match &x.data {
        Data::Float(values) => {
            Array::float(x.dtype, each_row(values, axes, keep_dims, |row| reduce_floats(op, row)))
        }
        Data::Int(values) => {
            Array::int(x.dtype, each_row(values, axes, keep_dims, |row| reduce_ints(op, x.dtype, row)))
        }
    }
}

fn reduce_floats(op: Reduction, row: ArrayView1<f64>) -> f64 {
    use Reduction::*;
    let sum = |f: fn(f64) -> f64| row.iter().copied().map(f).sum::<f64>();
    match op {
        Sum => row.sum(),
        Mean => row.sum() / row.len() as f64,
        Max => row.iter().copied().fold(f64::NEG_INFINITY, maximum),
        Min => row.iter().copied().fold(f64::INFINITY, minimum),
        Prod => row.product(),
        L1 => sum(f64::abs),
        L2 => sum(|v| v * v).sqrt(),
        SumSquare => sum(|v| v * v),
        LogSum => row.sum().ln(),
        LogSumExp => {
            let max = row.iter().copied().fold(f64::NEG_INFINITY, maximum);
            // Infinities are their own logarithm of the sum; their difference would be NaN.
            if max.is_finite() { max + row.iter().map(|v| (v - max).exp()).sum::<f64>().ln() } else { max }
        }
        Any | All => unreachable!("inference admits this reduction on bool only"),
    }
}

fn reduce_ints(op: Reduction, dtype: DType, row: ArrayView1<i64>) -> i64 {
    use Reduction::*;
    let (least, greatest) = int_range(dtype);
    let values = row.iter().copied();
    match op {
        Sum => values.fold(0, i64::wrapping_add),
        Prod => values.fold(1, i64::wrapping_mul),
        Max => values.fold(least, |a, b| order(dtype, order(dtype, a).max(order(dtype, b)))),
        Min => values.fold(greatest, |a, b| order(dtype, order(dtype, a).min(order(dtype, b)))),
        L1 if dtype.is_unsigned() => values.fold(0, i64::wrapping_add),
        L1 => values.fold(0, |sum, v| sum.wrapping_add(v.wrapping_abs())),
        SumSquare => values.fold(0, |sum, v| sum.wrapping_add(v.wrapping_mul(v))),
        Any => i64::from(values.into_iter().any(|v| v != 0)),
        All => i64::from(values.into_iter().all(|v| v != 0)),
        Mean | L2 | LogSum | LogSumExp => unreachable!("inference admits this reduction on floats only"),
    }
}

pub(super) fn arg_reduce(x: &Array, max: bool, axis: usize, keep_dims: bool, last: bool) -> Array {
    fn position<T: PartialOrd>(row: ArrayView1<T>, max: bool, last: bool) -> i64 {
        // NaN, which differs from itself, is beyond every other value.
        #[expect(clippy::eq_op, reason = "the type may be an integer: there is no is_nan")]
        let is_nan = |v: &T| v != v;
        let mut best = 0;
        for (i, value) in row.iter().enumerate() {
            let (new, old) = (is_nan(value), is_nan(&row[best]));
            let better = match (new, old) {
                (false, false) => {
                    if max {
                        *value > row[best]
                    } else {
                        *value < row[best]
                    }
                }
                (new, old) => new && !old,
            };
            let equal = *value == row[best] || (new && old);
            if better || (last && equal) {
                best = i;
            }
        }
        best as i64
    }
    let axis = &[axis];
    let positions = match &x.data {
        Data::Float(values) => each_row(values, axis, keep_dims, |row| position(row, max, last)),
        Data::Int(values) => {
            let values = values.mapv(|v| order(x.dtype, v));
            each_row(&values, axis, keep_dims, |row| position(row, max, last))
        }
    };
    Array::int(DType::I64, positions)
}
