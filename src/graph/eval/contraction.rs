//! Matrix products.

use ndarray::{Array2, ArrayD, ArrayView2, ArrayViewD, Axis, Ix2, IxDyn};
use nestjit_ir::DType;

use super::elementwise::spread;
use super::{Array, Data};

/// An element that can be multiplied and added in a matrix product.
pub(super) trait Number: Copy {
    fn dot(a: ArrayView2<Self>, b: ArrayView2<Self>) -> Array2<Self>;
}

impl Number for f64 {
    fn dot(a: ArrayView2<f64>, b: ArrayView2<f64>) -> Array2<f64> {
        a.dot(&b)
    }
}

impl Number for i64 {
    /// Wraps, which ndarray's own product does not.
    fn dot(a: ArrayView2<i64>, b: ArrayView2<i64>) -> Array2<i64> {
        Array2::from_shape_fn((a.nrows(), b.ncols()), |(row, column)| {
            let pairs = a.row(row).into_iter().zip(b.column(column));
            pairs.fold(0i64, |sum, (a, b)| sum.wrapping_add(a.wrapping_mul(*b)))
        })
    }
}

/// The type of sums of products of integers: `i32` for two operands of 8 bits, else the one that both have.
pub(super) fn product_type(a: &Array, b: &Array) -> DType {
    if a.dtype.is_byte() && b.dtype.is_byte() { DType::I32 } else { a.dtype }
}

pub(super) fn matmul(a: &Array, b: &Array, shape: &[usize]) -> Array {
    match (&a.data, &b.data) {
        (Data::Float(x), Data::Float(y)) => Array::float(a.dtype, batched(x, y, shape)),
        _ => Array::int(product_type(a, b), batched(a.ints(), b.ints(), shape)),
    }
}

/// NumPy's rule: a 1-D operand becomes a row (left) or a column (right), batch dimensions broadcast.
fn batched<T: Number>(a: &ArrayD<T>, b: &ArrayD<T>, shape: &[usize]) -> ArrayD<T> {
    let a = if a.ndim() == 1 { a.clone().insert_axis(Axis(0)) } else { a.clone() };
    let b = if b.ndim() == 1 { b.clone().insert_axis(Axis(1)) } else { b.clone() };
    let (m, n) = (a.shape()[a.ndim() - 2], b.shape()[b.ndim() - 1]);
    let k = a.shape()[a.ndim() - 1];
    let batch_rank = a.ndim().max(b.ndim()) - 2;
    let batch = &shape[..batch_rank];
    let a = spread(&a, &[batch, &[m, k]].concat()).as_standard_layout().into_owned();
    let b = spread(&b, &[batch, &[k, n]].concat()).as_standard_layout().into_owned();
    let count: usize = batch.iter().product();
    let a = a.into_shape_with_order((count, m, k)).expect("the batch dimensions are merged");
    let b = b.into_shape_with_order((count, k, n)).expect("the batch dimensions are merged");
    let mut values = Vec::with_capacity(count * m * n);
    for (a, b) in a.outer_iter().zip(b.outer_iter()) {
        values.extend(T::dot(a, b).iter().copied());
    }
    ArrayD::from_shape_vec(IxDyn(shape), values).expect("the result has batch * m * n elements")
}

pub(super) fn packed_matmul(inputs: &[&Array], bits: usize, block: usize, shape: &[usize]) -> Array {
    let [x, q, scale, zero @ ..] = inputs else { unreachable!("inference counts the operands") };
    let inner = x.shape()[x.shape().len() - 1];
    let n = shape[shape.len() - 1];
    let per_byte = 8 / bits;
    let matrix = Array2::from_shape_fn((inner, n), |(k, n)| {
        let (at, within) = (k / block, k % block);
        let byte = q.ints()[[n, at, within / per_byte]];
        let number = (byte >> (within % per_byte * bits)) & ((1 << bits) - 1);
        let zero = match zero.first().map(|zero| &zero.data) {
            None => (1 << (bits - 1)) as f64,
            Some(Data::Int(zero)) => zero[[at, n]] as f64,
            Some(Data::Float(zero)) => zero[[at, n]],
        };
        (number as f64 - zero) * scale.floats()[[at, n]]
    });
    Array::float(x.dtype, batched(x.floats(), &matrix.into_dyn(), shape))
}

pub(super) fn gemm(
    inputs: &[&Array],
    alpha: f64,
    beta: f64,
    transposed: [bool; 2],
    shape: &[usize],
) -> Array {
    fn matrix<T>(values: &ArrayD<T>, transposed: bool) -> ArrayView2<'_, T> {
        let view: ArrayViewD<T> = if transposed { values.t() } else { values.view() };
        view.into_dimensionality::<Ix2>().expect("inference checks that operands are matrices")
    }
    let [a, b, rest @ ..] = inputs else { unreachable!("inference counts the operands") };
    match (&a.data, &b.data) {
        (Data::Float(x), Data::Float(y)) => {
            let mut result = f64::dot(matrix(x, transposed[0]), matrix(y, transposed[1])).into_dyn() * alpha;
            if let [c] = rest {
                result += &(&spread(c.floats(), shape) * beta);
            }
            Array::float(a.dtype, result)
        }
        _ => {
            let mut result =
                i64::dot(matrix(a.ints(), transposed[0]), matrix(b.ints(), transposed[1])).into_dyn();
            if let [c] = rest {
                result.zip_mut_with(&spread(c.ints(), shape), |sum, c| *sum = sum.wrapping_add(*c));
            }
            Array::int(product_type(a, b), result)
        }
    }
}
